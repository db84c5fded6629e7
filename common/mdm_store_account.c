/*
 * mdm_store_account.c - see mdm_store_account.h.
 */
#include "mdm_store_account.h"

#include <string.h>

#include "mdm_sql.h"

static mdm_str_t hash_str(const unsigned char hash[MDM_SHA256_LEN])
{
    return (mdm_str_t){(const char *)hash, MDM_SHA256_LEN};
}

/* ---- tokens ------------------------------------------------------------- */

mdm_rc mdm_store_token_add(mdm_tx_t *tx,
                           const unsigned char hash[MDM_SHA256_LEN],
                           const mdm_account_token_t *row, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_ADD, NULL, err, "bitii",
                       hash_str(hash), (int64_t)row->kind, row->account,
                       row->created_at, row->expires_at);
}

static mdm_rc read_token(const mdm_query_t *q, mdm_arena_t *arena,
                         mdm_account_token_t *row, mdm_err_t *err)
{
    row->tid = mdm_query_int(q, 0);
    row->kind = (mdm_token_kind_t)mdm_query_int(q, 1);
    row->device_eid = mdm_query_int(q, 3);
    row->created_at = mdm_query_int(q, 4);
    row->expires_at = mdm_query_int(q, 5);
    row->used_at = mdm_query_int(q, 6);
    row->revoked_at = mdm_query_int(q, 7);
    return mdm_arena_str(arena, mdm_query_str(q, 2), &row->account) &&
                   mdm_arena_str(arena, mdm_query_str(q, 8), &row->device_id)
               ? MDM_OK
               : mdm_err_nomem(err);
}

/* The one row of a running statement, or none. */
static mdm_rc one_token(mdm_query_t *q, mdm_arena_t *arena,
                        mdm_account_token_t *row_r, mdm_err_t *err)
{
    bool row;
    mdm_rc rc;

    memset(row_r, 0, sizeof(*row_r));
    rc = mdm_query_row(q, &row);
    if (rc == MDM_OK && row) {
        rc = read_token(q, arena, row_r, err);
    }
    mdm_query_end(q);
    return rc;
}

mdm_rc mdm_store_token_get(mdm_tx_t *tx,
                           const unsigned char hash[MDM_SHA256_LEN],
                           mdm_arena_t *arena, mdm_account_token_t *row_r,
                           mdm_err_t *err)
{
    mdm_query_t q;

    mdm_query_begin(&q, tx, MDM_SQL_ACCOUNT_TOKEN_GET, err, "b",
                    hash_str(hash));
    return one_token(&q, arena, row_r, err);
}

mdm_rc mdm_store_token_of_device(mdm_tx_t *tx, int64_t device_eid,
                                 mdm_arena_t *arena,
                                 mdm_account_token_t *row_r, mdm_err_t *err)
{
    mdm_query_t q;

    mdm_query_begin(&q, tx, MDM_SQL_ACCOUNT_TOKEN_OF_DEVICE, err, "i",
                    device_eid);
    return one_token(&q, arena, row_r, err);
}

mdm_rc mdm_store_token_bind(mdm_tx_t *tx, int64_t tid, int64_t eid,
                            int64_t expires_us, int64_t now_us,
                            mdm_err_t *err)
{
    mdm_rc rc = mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_SUCCEED, NULL, err,
                            "ii", eid, tid);

    return rc == MDM_OK
               ? mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_BIND, NULL, err,
                             "iiii", tid, eid, expires_us, now_us)
               : rc;
}

mdm_rc mdm_store_token_drop(mdm_tx_t *tx, int64_t tid, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_DROP, NULL, err, "i", tid);
}

mdm_rc mdm_store_token_revoke(mdm_tx_t *tx, int64_t tid, int64_t now_us,
                              int64_t *n_r, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_REVOKE, n_r, err, "ii", tid,
                       now_us);
}

mdm_rc mdm_store_token_revoke_account(mdm_tx_t *tx, mdm_str_t account,
                                      int64_t now_us, int64_t *n_r,
                                      mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_REVOKE_ACCOUNT, n_r, err,
                       "ti", account, now_us);
}

mdm_rc mdm_store_token_list(mdm_tx_t *tx, mdm_str_t account, int64_t after,
                            size_t limit, mdm_arena_t *arena,
                            mdm_account_token_t *rows, size_t *n_r,
                            mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    if (account.s != NULL) {
        mdm_query_begin(&q, tx, MDM_SQL_ACCOUNT_TOKEN_LIST_ONE, err, "tii",
                        account, after, (int64_t)limit);
    } else {
        mdm_query_begin(&q, tx, MDM_SQL_ACCOUNT_TOKEN_LIST, err, "ii", after,
                        (int64_t)limit);
    }
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        rc = read_token(&q, arena, &rows[(*n_r)++], err);
        if (rc != MDM_OK) {
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_token_prune(mdm_tx_t *tx, int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ACCOUNT_TOKEN_PRUNE, NULL, err, "i",
                       now_us);
}

/* ---- introductions ------------------------------------------------------ */

mdm_rc mdm_store_introduction_put(mdm_tx_t *tx, const mdm_introduction_t *row,
                                  int64_t before_us, mdm_err_t *err)
{
    mdm_rc rc = mdm_sql_run(tx, MDM_SQL_INTRODUCTION_PRUNE, NULL, err, "i",
                            before_us);

    if (rc == MDM_OK && !row->verified) {
        rc = mdm_sql_run(tx, MDM_SQL_INTRODUCTION_CROWD, NULL, err, "i",
                         (int64_t)MDM_CLAIMS_MAX);
    }
    return rc == MDM_OK
               ? mdm_sql_run(tx, MDM_SQL_INTRODUCTION_PUT, NULL, err,
                             "tittttttttttii", row->key,
                             (int64_t)row->verified, row->flow, row->answer,
                             row->account, row->serial, row->udid,
                             row->product, row->os_version, row->build,
                             row->language, row->peer, row->last_at,
                             row->last_at)
               : rc;
}

static mdm_rc read_introduction(const mdm_query_t *q, mdm_arena_t *arena,
                                mdm_introduction_t *row, mdm_err_t *err)
{
    mdm_str_t *const texts[] = {
        &row->key,    &row->flow,    &row->answer,     &row->account,
        &row->serial, &row->udid,    &row->product,    &row->os_version,
        &row->build,  &row->language, &row->peer};
    size_t i;

    row->number = mdm_query_int(q, 0);
    row->verified = mdm_query_int(q, 1) != 0;
    row->first_at = mdm_query_int(q, 2);
    row->last_at = mdm_query_int(q, 3);
    row->count = mdm_query_int(q, 4);
    for (i = 0; i < MDM_ARRAY_LEN(texts); i++) {
        if (!mdm_arena_str(arena, mdm_query_str(q, (int)i + 5), texts[i])) {
            return mdm_err_nomem(err);
        }
    }
    return MDM_OK;
}

mdm_rc mdm_store_introduction_list(mdm_tx_t *tx, int64_t after, size_t limit,
                                   mdm_arena_t *arena,
                                   mdm_introduction_t *rows, size_t *n_r,
                                   mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_INTRODUCTION_LIST, err, "ii", after,
                    (int64_t)limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        rc = read_introduction(&q, arena, &rows[(*n_r)++], err);
        if (rc != MDM_OK) {
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}
