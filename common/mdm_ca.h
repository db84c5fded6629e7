/*
 * mdm_ca.h - the built-in certificate authority of device identities as one
 * process sees it: which authority issues, which are trusted.
 *
 * It is the one that the configuration names by files, or one that is made
 * once and kept sealed in the store, so that every process and host has the
 * same.  Beside the current one there may be a next one, which was prepared
 * by an operator, and former ones, which are trusted until the last identity
 * that they issued is over.  All of them are trusted for devices.
 *
 * What the store says is looked at again when somebody shows a certificate
 * that is not trusted, when a certificate is issued, and once a minute.
 *
 * Made before requests run, freed after them; in between any thread.
 */
#ifndef MDM_CA_H
#define MDM_CA_H

#include "mdm_store_issue.h"
#include "mdm_x509_ca.h"

typedef struct mdm_ca mdm_ca_t;

/* Most authorities at a time. */
#define MDM_CA_MAX 8

/* Borrows all until mdm_ca_free(); opens nothing.  `file`: the authority from
 * files, NULL: the store's.  MDM_ENOMEM. */
mdm_rc mdm_ca_new(mdm_store_t *store, const mdm_authority_t *file,
                  const mdm_log_t *log, mdm_ca_t **ca_r, mdm_err_t *err)
    MDM_USE_RESULT;
void mdm_ca_free(mdm_ca_t **ca);

/* Certificates (DER, in the arena) of the current authority, which is made
 * when there is none yet, and then of the next one if there is one: what a
 * profile gives to devices.  At most MDM_CA_MAX.
 * MDM_EBUSY: it is being made right now.  MDM_EINTERNAL, store errors. */
mdm_rc mdm_ca_certificates(mdm_ca_t *ca, mdm_arena_t *arena, mdm_str_t *certs,
                           size_t *n_r, mdm_err_t *err) MDM_USE_RESULT;

/* All authorities, the current one first, which is made when there is none
 * yet.  Errors as above.  Give them back with mdm_ca_let_go(). */
typedef struct mdm_ca_hold {
    mdm_authority_t *all[MDM_CA_MAX];
    size_t n;
} mdm_ca_hold_t;

mdm_rc mdm_ca_hold(mdm_ca_t *ca, mdm_ca_hold_t *hold_r, mdm_err_t *err)
    MDM_USE_RESULT;
void mdm_ca_let_go(mdm_ca_hold_t *hold);

/* Verifies a device's certificate as mdm_trust_verify() does, against
 * `trust` (NULL: none are configured) and against all authorities here.  No
 * store is read for a certificate that was found good before, unless a minute
 * has passed; a store that cannot be read leaves things as they were. */
mdm_rc mdm_ca_verify(mdm_ca_t *ca, const mdm_trust_t *trust,
                     const mdm_shown_t *shown, int64_t now_us,
                     mdm_identity_t *identity_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Against the authorities here alone. */
mdm_rc mdm_ca_verify_own(mdm_ca_t *ca, const mdm_shown_t *shown,
                         int64_t now_us, mdm_identity_t *identity_r,
                         mdm_err_t *err) MDM_USE_RESULT;

/* Prepares a next authority in the store; its certificate in the arena.
 * MDM_ECONFLICT: there is one, or the authority comes from files. */
mdm_rc mdm_ca_prepare(mdm_ca_t *ca, mdm_arena_t *arena, mdm_str_t *cert_r,
                      mdm_err_t *err) MDM_USE_RESULT;
/* The next authority issues from now on, the current one becomes a former
 * one.  MDM_ECONFLICT: there is no next one, or the authority comes from
 * files. */
mdm_rc mdm_ca_promote(mdm_ca_t *ca, mdm_err_t *err) MDM_USE_RESULT;
/* All authorities, as mdm_store_authority_list() gives them, without keys, the
 * one from files first; rows for MDM_CA_MAX.  Store errors. */
mdm_rc mdm_ca_list(mdm_ca_t *ca, mdm_arena_t *arena,
                   mdm_authority_row_t *rows, size_t *n_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Looks at the store again. */
mdm_rc mdm_ca_refresh(mdm_ca_t *ca, mdm_err_t *err) MDM_USE_RESULT;

#endif
