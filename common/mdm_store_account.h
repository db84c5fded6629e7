/*
 * mdm_store_account.h - verbs on what comes before an enrolment: tokens that
 * prove somebody's log-in, and how devices introduced themselves.  As
 * mdm_store.h: inside a transaction, from any thread.
 *
 * Of a token only its SHA-256 is kept, which is enough to find it: it is
 * random and long.
 */
#ifndef MDM_STORE_ACCOUNT_H
#define MDM_STORE_ACCOUNT_H

#include "mdm_store.h"

/* ---- tokens ------------------------------------------------------------- */

typedef enum mdm_token_kind {
    MDM_TOKEN_KIND_ACCOUNT = 1, /* a user logged in to enrol a device */
    MDM_TOKEN_KIND_OTA = 2      /* a device may go on with phase 2 */
} mdm_token_kind_t;

/* One token; strings in the arena of who asked. */
typedef struct mdm_account_token {
    int64_t tid; /* 0: there is none */
    mdm_token_kind_t kind;
    mdm_str_t account;   /* whose log-in; may be empty for over-the-air */
    int64_t device_eid;  /* enrolled with it; 0: none yet */
    mdm_str_t device_id; /* of it; absent: none, or forgotten */
    int64_t created_at;
    int64_t expires_at; /* 0: never */
    int64_t used_at;    /* when it was bound; 0: not yet */
    int64_t revoked_at; /* 0: it was not */
} mdm_account_token_t;

/* Adds one; uses kind, account, created_at and expires_at of the row. */
mdm_rc mdm_store_token_add(mdm_tx_t *tx,
                           const unsigned char hash[MDM_SHA256_LEN],
                           const mdm_account_token_t *row, mdm_err_t *err);
mdm_rc mdm_store_token_get(mdm_tx_t *tx,
                           const unsigned char hash[MDM_SHA256_LEN],
                           mdm_arena_t *arena, mdm_account_token_t *row_r,
                           mdm_err_t *err);
/* The newest one bound to a device, revoked or not. */
mdm_rc mdm_store_token_of_device(mdm_tx_t *tx, int64_t device_eid,
                                 mdm_arena_t *arena,
                                 mdm_account_token_t *row_r, mdm_err_t *err);
/* Binds it to the device of an enrolment, unless it is bound already; it is
 * good up to expires_us then (0: for ever).  Tokens that the device had before
 * are gone. */
mdm_rc mdm_store_token_bind(mdm_tx_t *tx, int64_t tid, int64_t eid,
                            int64_t expires_us, int64_t now_us,
                            mdm_err_t *err);
/* It was used up by something else than a device's enrolment. */
mdm_rc mdm_store_token_drop(mdm_tx_t *tx, int64_t tid, mdm_err_t *err);
/* *n_r: how many were good until now. */
mdm_rc mdm_store_token_revoke(mdm_tx_t *tx, int64_t tid, int64_t now_us,
                              int64_t *n_r, mdm_err_t *err);
mdm_rc mdm_store_token_revoke_account(mdm_tx_t *tx, mdm_str_t account,
                                      int64_t now_us, int64_t *n_r,
                                      mdm_err_t *err);
/* Tokens of accounts, of one of them (absent: all), behind the tid `after`. */
mdm_rc mdm_store_token_list(mdm_tx_t *tx, mdm_str_t account, int64_t after,
                            size_t limit, mdm_arena_t *arena,
                            mdm_account_token_t *rows, size_t *n_r,
                            mdm_err_t *err);
/* Forgets tokens that no device came with in time. */
mdm_rc mdm_store_token_prune(mdm_tx_t *tx, int64_t now_us, mdm_err_t *err);

/* ---- introductions ------------------------------------------------------ */

/* How a device introduced itself, the last time.  Strings in the arena. */
typedef struct mdm_introduction {
    int64_t number;    /* what a list goes by */
    mdm_str_t key;     /* what tells devices apart */
    bool verified;     /* signed by a device that Apple made, or by an
                        * identity of ours; else all of it are claims */
    mdm_str_t flow;    /* by which way: "device", "byod" ... */
    mdm_str_t answer;  /* "profile", or the error that it was told */
    mdm_str_t account; /* who logged in; absent: nobody */
    mdm_str_t serial;
    mdm_str_t udid;
    mdm_str_t product;
    mdm_str_t os_version;
    mdm_str_t build;
    mdm_str_t language;
    mdm_str_t peer; /* its address */
    int64_t first_at;
    int64_t last_at;
    int64_t count;
} mdm_introduction_t;

/* Adds it, or replaces the one of the same key, and forgets those that have
 * not come since before_us, and of those that are not verified all but about
 * the latest MDM_CLAIMS_MAX. */
#define MDM_CLAIMS_MAX 10000
mdm_rc mdm_store_introduction_put(mdm_tx_t *tx, const mdm_introduction_t *row,
                                  int64_t before_us, mdm_err_t *err);
/* Behind the number `after`. */
mdm_rc mdm_store_introduction_list(mdm_tx_t *tx, int64_t after, size_t limit,
                                   mdm_arena_t *arena,
                                   mdm_introduction_t *rows, size_t *n_r,
                                   mdm_err_t *err);

#endif
