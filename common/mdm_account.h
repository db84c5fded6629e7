/*
 * mdm_account.h - log-ins of account-driven enrolment: a token for a user
 * whom the host knows, with which his device enrols and which it shows from
 * then on; and the same for what begins over the air.
 *
 * A token is good for a short time until a device enrols with it, and then
 * for that device, as long as the configuration says or until it is revoked.
 * A device that logs in again gets a new one, which takes the old one's
 * place with the first message, if the user is the same.
 *
 * Any thread; blocks on the store.
 */
#ifndef MDM_ACCOUNT_H
#define MDM_ACCOUNT_H

#include "mdm_store_account.h"

/* Longest name of an account. */
#define MDM_ACCOUNT_MAX 255
/* A token as text, with NUL. */
#define MDM_ACCOUNT_TOKEN_SIZE 65

/* Makes a token, good for life_us; `account` may be empty over the air.
 * MDM_EINTERNAL (no random numbers), store errors. */
mdm_rc mdm_account_issue(mdm_store_t *store, mdm_token_kind_t kind,
                         mdm_str_t account, int64_t life_us,
                         char token_r[MDM_ACCOUNT_TOKEN_SIZE], mdm_err_t *err)
    MDM_USE_RESULT;

/* Whose token it is, for an enrolment that is to begin: of this kind, in
 * date, not revoked.  One that is bound to a device already is good, too:
 * the device fetches its profile again.  The row's strings in the arena.
 * MDM_EUNAUTHORIZED: no such token any more.  Store errors. */
mdm_rc mdm_account_check(mdm_store_t *store, mdm_token_kind_t kind,
                         mdm_str_t token, mdm_arena_t *arena,
                         mdm_account_token_t *row_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* A device came with a token in a message: may it go on?  `fingerprint`: of
 * its certificate.  *tid_r: to be bound with mdm_account_bind() once the
 * message has been accepted; 0: nothing to do.
 * MDM_EUNAUTHORIZED: the token is not known, has ended, was revoked, is
 * another device's, or of another user than the device's last one; the user
 * has to log in again.  Never so for a blocked device, which is to be told
 * that.  Store errors. */
mdm_rc mdm_account_admit(mdm_store_t *store, mdm_str_t token,
                         const unsigned char fingerprint[MDM_SHA256_LEN],
                         mdm_arena_t *arena, int64_t *tid_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Binds it to the device of an enrolment, for life_us (0: for ever).  One that
 * another device was quicker to use stays that one's.  Store errors. */
mdm_rc mdm_account_bind(mdm_store_t *store, int64_t tid, int64_t eid,
                        int64_t life_us, mdm_err_t *err) MDM_USE_RESULT;

/* Uses a token up.  Store errors. */
mdm_rc mdm_account_use_up(mdm_store_t *store, int64_t tid, mdm_err_t *err)
    MDM_USE_RESULT;

/* Revokes one token, or (tid 0) all of an account; *n_r: how many were good.
 * Store errors. */
mdm_rc mdm_account_revoke(mdm_store_t *store, int64_t tid, mdm_str_t account,
                          int64_t *n_r, mdm_err_t *err) MDM_USE_RESULT;

/* Keeps how a device introduced itself; sets key, first_at and last_at.
 * Store errors. */
mdm_rc mdm_account_introduce(mdm_store_t *store, mdm_introduction_t *row,
                             mdm_arena_t *arena, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
