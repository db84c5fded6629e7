/*
 * mdm_pushcert.h - which push certificate may take effect.
 *
 * Certificates are kept per topic.  One whose topic no enrolment uses, while
 * enrolments use another, would silence the fleet without an error anywhere:
 * it is refused unless forced.  So is one older than the stored one.  Any
 * thread; blocks on the store.
 */
#ifndef MDM_PUSHCERT_H
#define MDM_PUSHCERT_H

#include "mdm_store.h"
#include "mdm_x509.h"

/* So many topics have a certificate in a store at most; one more is refused,
 * as it would not be pushed to. */
#define MDM_PUSH_TOPICS_MAX 64

typedef enum mdm_pushcert_source {
    MDM_PUSHCERT_API,  /* refused when not valid now */
    MDM_PUSHCERT_FILE  /* an expired one only warns: a site must come up */
} mdm_pushcert_source_t;

typedef struct mdm_pushcert_import {
    mdm_pushcert_source_t source;
    bool force;        /* overrides topic and age, nothing else */
    bool topic_change; /* MDMPushTopicChange */
} mdm_pushcert_import_t;

/* Judges and stores; *stored_r false: the very same one is in use already.
 * MDM_EINVAL: expired or not yet valid (API).  MDM_ECONFLICT: another topic
 * (text names the enrolments it would silence), too many topics, or an older
 * certificate. */
mdm_rc mdm_pushcert_import(mdm_store_t *store, const mdm_keypair_t *pair,
                           const mdm_pushcert_import_t *how, bool *stored_r,
                           mdm_err_t *err) MDM_USE_RESULT;

/* mdm_keypair_read() of one body; a certificate alone whose topic has a stored
 * key that belongs to it is taken with that one, if it is younger than the
 * stored certificate: it was renewed, and the key was kept.  The codes of
 * both, and of the store. */
mdm_rc mdm_pushcert_read(mdm_store_t *store, mdm_str_t body,
                         mdm_str_t passphrase, mdm_arena_t *arena,
                         mdm_keypair_t *pair_r, mdm_err_t *err) MDM_USE_RESULT;

/* "expires in 12 days", "expired 3 days ago" ... into dst. */
const char *mdm_pushcert_describe_end(int64_t not_after_us, int64_t now_us,
                                      char *dst, size_t cap);

#endif
