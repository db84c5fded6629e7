/*
 * mdm_ca_issue.h - who may have a certificate of the built-in authority, and
 * what it says.
 *
 * A first identity is for whoever shows a challenge; another one for whoever
 * has a challenge to renew, or signs with the identity that is in use.  The
 * same transaction of the same key, repeated within a quarter of an hour,
 * gets the same certificate again, as its answer may have been lost.
 *
 * Any thread; blocks on the store.
 */
#ifndef MDM_CA_ISSUE_H
#define MDM_CA_ISSUE_H

#include "mdm_ca.h"
#include "mdm_challenge.h"
#include "mdm_pkimsg.h"

typedef struct mdm_ca_ask {
    const mdm_pki_request_t *request;
    const mdm_authority_t *authority; /* that signs */
    mdm_str_t static_challenge;       /* absent: none */
    int64_t life_us;
} mdm_ca_ask_t;

typedef struct mdm_ca_given {
    mdm_str_t cert; /* DER, in the arena */
    char serial[2 * MDM_SERIAL_MAX + 1]; /* hex */
    mdm_str_t subject;                   /* for people, in the arena */
    bool again; /* it was issued before, to the same transaction */
} mdm_ca_given_t;

/* Answers one request that mdm_pkimsg_read() has found good; a renewal's
 * signer has to be verified against the authorities before.  What is issued
 * is stored, and (a renewal) bound, in one transaction with the use of the
 * challenge.
 * MDM_EDENIED: *fail_r is what to answer.  MDM_EINTERNAL, store errors. */
mdm_rc mdm_ca_give(mdm_store_t *store, const mdm_ca_ask_t *ask,
                   mdm_arena_t *arena, mdm_ca_given_t *given_r,
                   mdm_pki_fail_t *fail_r, mdm_err_t *err) MDM_USE_RESULT;

#endif
