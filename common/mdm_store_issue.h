/*
 * mdm_store_issue.h - verbs on what the built-in certificate authority keeps:
 * its own certificates and keys, challenges, and what it has issued.  A part
 * of mdm_store.h, whose rules hold here.
 */
#ifndef MDM_STORE_ISSUE_H
#define MDM_STORE_ISSUE_H

#include "mdm_store.h"

/* ---- challenges ---------------------------------------------------------- */

/* A challenge as it is kept: by the SHA-256 of its text alone. */
typedef struct mdm_challenge_row {
    int64_t purpose;         /* mdm_challenge_purpose_t */
    mdm_str_t device_id;     /* whom it is for; absent: anybody */
    mdm_str_t serial_number; /* the same */
    mdm_str_t common_name;   /* absent: not said */
    int64_t expires_at;
} mdm_challenge_row_t;

mdm_rc mdm_store_challenge_add(mdm_tx_t *tx,
                               const unsigned char hash[MDM_SHA256_LEN],
                               const mdm_challenge_row_t *row, int64_t now_us,
                               mdm_err_t *err);
/* Strings in the arena.  MDM_ENOTFOUND: there is none.  Whether its time is
 * over is the caller's to see. */
mdm_rc mdm_store_challenge_get(mdm_tx_t *tx,
                               const unsigned char hash[MDM_SHA256_LEN],
                               mdm_arena_t *arena, mdm_challenge_row_t *row_r,
                               mdm_err_t *err);
mdm_rc mdm_store_challenge_drop(mdm_tx_t *tx,
                                const unsigned char hash[MDM_SHA256_LEN],
                                mdm_err_t *err);
/* Takes away up to `limit` whose time is over. */
mdm_rc mdm_store_challenge_prune(mdm_tx_t *tx, int64_t now_us, size_t limit,
                                 mdm_err_t *err);

/* ---- the authority ------------------------------------------------------- */

typedef enum mdm_authority_state {
    MDM_AUTHORITY_NEXT = 0,    /* prepared: trusted, issues nothing yet */
    MDM_AUTHORITY_CURRENT = 1, /* issues */
    MDM_AUTHORITY_FORMER = 2   /* issues no more, trusted for what it issued */
} mdm_authority_state_t;

typedef struct mdm_authority_row {
    mdm_authority_state_t state;
    mdm_str_t fingerprint; /* of the certificate: SHA-256, hex */
    mdm_str_t certificate; /* DER */
    mdm_str_t key;         /* DER (PKCS #8), opened; absent where not asked */
    int64_t not_after_us;
    int64_t created_at;
    bool in_use; /* certificates of it are in date */
} mdm_authority_row_t;

/* There is one current and one next authority at most; *added_r false: there
 * is one in that state already, and nothing was changed. */
mdm_rc mdm_store_authority_add(mdm_tx_t *tx, const mdm_authority_row_t *row,
                               int64_t now_us, bool *added_r, mdm_err_t *err);
/* All of them, the current one first, then the next one, the youngest of the
 * former ones before older ones; up to `max`.  `keys`: with their keys, then
 * the arena should wipe. */
mdm_rc mdm_store_authority_list(mdm_tx_t *tx, bool keys, int64_t now_us,
                                mdm_arena_t *arena, mdm_authority_row_t *rows,
                                size_t max, size_t *n_r, mdm_err_t *err);
/* The next one becomes the current one, that becomes a former one; *done_r:
 * there was a next one. */
mdm_rc mdm_store_authority_promote(mdm_tx_t *tx, bool *done_r, mdm_err_t *err);
/* Fingerprint of the current one; absent: there is none. */
mdm_rc mdm_store_authority_current(mdm_tx_t *tx, mdm_arena_t *arena,
                                   mdm_str_t *fingerprint_r, mdm_err_t *err);

/* ---- issued certificates ------------------------------------------------- */

#define MDM_SERIAL_MAX 20

typedef struct mdm_issued {
    int64_t number; /* order of issue */
    mdm_str_t serial; /* bytes */
    unsigned char fingerprint[MDM_SHA256_LEN];
    unsigned char request[MDM_SHA256_LEN]; /* names the transaction */
    unsigned char proof[MDM_SHA256_LEN];   /* of that and the challenge */
    unsigned char asked[MDM_SHA256_LEN];   /* of the subject in the request */
    mdm_str_t authority;     /* fingerprint, hex */
    mdm_str_t subject;       /* for people */
    mdm_str_t device_id;     /* whom it was issued for; absent: anybody */
    mdm_str_t serial_number; /* the same */
    mdm_str_t certificate;   /* DER */
    int64_t issued_at;
    int64_t not_after_us;
    int64_t revoked_at; /* 0: it is not */
    /* Of the enrolment that it is bound to; absent: none. */
    mdm_str_t enrollment_id;
    bool current;
    bool blocked;
} mdm_issued_t;

/* MDM_ECONFLICT: the serial number is there already. */
mdm_rc mdm_store_issued_add(mdm_tx_t *tx, const mdm_issued_t *issued,
                            mdm_err_t *err);
/* By fingerprint, by transaction (the youngest), by serial number; strings in
 * the arena.  number is 0 when there is none. */
mdm_rc mdm_store_issued_get(mdm_tx_t *tx,
                            const unsigned char fingerprint[MDM_SHA256_LEN],
                            mdm_arena_t *arena, mdm_issued_t *issued_r,
                            mdm_err_t *err);
mdm_rc mdm_store_issued_of(mdm_tx_t *tx,
                           const unsigned char request[MDM_SHA256_LEN],
                           mdm_arena_t *arena, mdm_issued_t *issued_r,
                           mdm_err_t *err);
mdm_rc mdm_store_issued_serial(mdm_tx_t *tx, mdm_str_t serial,
                               mdm_arena_t *arena, mdm_issued_t *issued_r,
                               mdm_err_t *err);
/* Up to `limit` behind `after`, in the order of issue. */
mdm_rc mdm_store_issued_list(mdm_tx_t *tx, int64_t after, size_t limit,
                             mdm_arena_t *arena, mdm_issued_t *rows,
                             size_t *n_r, mdm_err_t *err);
/* From then on it proves nothing; one that is revoked stays so since then. */
mdm_rc mdm_store_issued_revoke(mdm_tx_t *tx, int64_t number, int64_t at_us,
                               mdm_err_t *err);
/* Forgets up to `limit` that ended before `before_us`. */
mdm_rc mdm_store_issued_prune(mdm_tx_t *tx, int64_t before_us, size_t limit,
                              mdm_err_t *err);

#endif
