/*
 * mdm_store_issue.c - see mdm_store_issue.h.
 */
#include "mdm_store_issue.h"

#include <stdio.h>
#include <string.h>

#include "mdm_sql.h"

static mdm_str_t hash_str(const unsigned char hash[MDM_SHA256_LEN])
{
    return (mdm_str_t){(const char *)hash, MDM_SHA256_LEN};
}

/* ---- challenges ---------------------------------------------------------- */

mdm_rc mdm_store_challenge_add(mdm_tx_t *tx,
                               const unsigned char hash[MDM_SHA256_LEN],
                               const mdm_challenge_row_t *row, int64_t now_us,
                               mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_CHALLENGE_ADD, NULL, err, "bitttii",
                       hash_str(hash), row->purpose, row->device_id,
                       row->serial_number, row->common_name, now_us,
                       row->expires_at);
}

mdm_rc mdm_store_challenge_get(mdm_tx_t *tx,
                               const unsigned char hash[MDM_SHA256_LEN],
                               mdm_arena_t *arena, mdm_challenge_row_t *row_r,
                               mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(row_r, 0, sizeof(*row_r));
    mdm_query_begin(&q, tx, MDM_SQL_CHALLENGE_GET, err, "b", hash_str(hash));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such challenge");
    } else if (rc == MDM_OK) {
        row_r->purpose = mdm_query_int(&q, 0);
        row_r->expires_at = mdm_query_int(&q, 4);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1), &row_r->device_id) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 2),
                           &row_r->serial_number) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 3),
                           &row_r->common_name)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_challenge_drop(mdm_tx_t *tx,
                                const unsigned char hash[MDM_SHA256_LEN],
                                mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_CHALLENGE_DROP, NULL, err, "b",
                       hash_str(hash));
}

mdm_rc mdm_store_challenge_prune(mdm_tx_t *tx, int64_t now_us, size_t limit,
                                 mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_CHALLENGE_PRUNE, NULL, err, "ii", now_us,
                       (int64_t)limit);
}

/* ---- the authority ------------------------------------------------------- */

#define WHERE_SIZE (2 * MDM_SHA256_LEN + 32)

static const char *key_where(mdm_str_t fingerprint, char where[WHERE_SIZE])
{
    (void)snprintf(where, WHERE_SIZE, "authority.key:%.*s",
                   MDM_STR_ARG(fingerprint));
    return where;
}

mdm_rc mdm_store_authority_add(mdm_tx_t *tx, const mdm_authority_row_t *row,
                               int64_t now_us, bool *added_r, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed = MDM_STR_NONE;
    char where[WHERE_SIZE];
    int64_t changes = 0;
    mdm_rc rc;

    *added_r = false;
    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_seal_close(mdm_store_seal(tx->store),
                        key_where(row->fingerprint, where), row->key, arena,
                        &sealed, err);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_AUTHORITY_ADD, &changes, err, "tibbii",
                         row->fingerprint, (int64_t)row->state,
                         row->certificate, sealed, row->not_after_us, now_us);
    }
    *added_r = changes > 0;
    mdm_arena_free(&arena);
    return rc;
}

static mdm_rc read_authority(mdm_tx_t *tx, const mdm_query_t *q, bool keys,
                             mdm_arena_t *arena, mdm_authority_row_t *r,
                             mdm_err_t *err)
{
    char where[WHERE_SIZE];

    memset(r, 0, sizeof(*r));
    r->state = (mdm_authority_state_t)mdm_query_int(q, 1);
    r->not_after_us = mdm_query_int(q, 4);
    r->created_at = mdm_query_int(q, 5);
    r->in_use = mdm_query_int(q, 6) != 0;
    if (!mdm_arena_str(arena, mdm_query_str(q, 0), &r->fingerprint) ||
        !mdm_arena_str(arena, mdm_query_str(q, 2), &r->certificate)) {
        return mdm_err_nomem(err);
    }
    return keys ? mdm_seal_open(mdm_store_seal(tx->store),
                                key_where(r->fingerprint, where),
                                mdm_query_str(q, 3), arena, &r->key, err)
                : MDM_OK;
}

mdm_rc mdm_store_authority_list(mdm_tx_t *tx, bool keys, int64_t now_us,
                                mdm_arena_t *arena, mdm_authority_row_t *rows,
                                size_t max, size_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_AUTHORITY_LIST, err, "ii", now_us,
                    (int64_t)max);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < max) {
        rc = read_authority(tx, &q, keys, arena, &rows[(*n_r)++], err);
        if (rc != MDM_OK) {
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_authority_promote(mdm_tx_t *tx, bool *done_r, mdm_err_t *err)
{
    mdm_query_t q;
    int64_t changes = 0;
    bool row;
    mdm_rc rc;

    *done_r = false;
    mdm_query_begin(&q, tx, MDM_SQL_AUTHORITY_IN_STATE, err, "i",
                    (int64_t)MDM_AUTHORITY_NEXT);
    rc = mdm_query_row(&q, &row);
    mdm_query_end(&q);
    if (rc != MDM_OK || !row) {
        return rc;
    }
    rc = mdm_sql_run(tx, MDM_SQL_AUTHORITY_MOVE, NULL, err, "ii",
                     (int64_t)MDM_AUTHORITY_CURRENT,
                     (int64_t)MDM_AUTHORITY_FORMER);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_AUTHORITY_MOVE, &changes, err, "ii",
                         (int64_t)MDM_AUTHORITY_NEXT,
                         (int64_t)MDM_AUTHORITY_CURRENT);
    }
    *done_r = changes > 0;
    return rc;
}

mdm_rc mdm_store_authority_current(mdm_tx_t *tx, mdm_arena_t *arena,
                                   mdm_str_t *fingerprint_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *fingerprint_r = MDM_STR_NONE;
    mdm_query_begin(&q, tx, MDM_SQL_AUTHORITY_IN_STATE, err, "i",
                    (int64_t)MDM_AUTHORITY_CURRENT);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row &&
        !mdm_arena_str(arena, mdm_query_str(&q, 0), fingerprint_r)) {
        rc = mdm_err_nomem(err);
    }
    mdm_query_end(&q);
    return rc;
}

/* ---- issued certificates ------------------------------------------------- */

mdm_rc mdm_store_issued_add(mdm_tx_t *tx, const mdm_issued_t *issued,
                            mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ISSUED_ADD, NULL, err, "bbbbbttttbii",
                       issued->serial, hash_str(issued->fingerprint),
                       hash_str(issued->request), hash_str(issued->proof),
                       hash_str(issued->asked),
                       issued->authority, issued->subject, issued->device_id,
                       issued->serial_number, issued->certificate,
                       issued->issued_at, issued->not_after_us);
}

static void copy_hash(mdm_str_t from, unsigned char to[MDM_SHA256_LEN])
{
    if (from.n == MDM_SHA256_LEN) {
        memcpy(to, from.s, MDM_SHA256_LEN);
    }
}

static bool read_issued(const mdm_query_t *q, mdm_arena_t *arena,
                        mdm_issued_t *r)
{
    memset(r, 0, sizeof(*r));
    r->number = mdm_query_int(q, 0);
    copy_hash(mdm_query_str(q, 2), r->fingerprint);
    copy_hash(mdm_query_str(q, 3), r->request);
    copy_hash(mdm_query_str(q, 4), r->asked);
    r->issued_at = mdm_query_int(q, 10);
    r->not_after_us = mdm_query_int(q, 11);
    r->revoked_at = mdm_query_int(q, 12);
    r->current = mdm_query_int(q, 14) != 0;
    r->blocked = mdm_query_int(q, 15) != 0;
    copy_hash(mdm_query_str(q, 16), r->proof);
    return mdm_arena_str(arena, mdm_query_str(q, 1), &r->serial) &&
           mdm_arena_str(arena, mdm_query_str(q, 5), &r->authority) &&
           mdm_arena_str(arena, mdm_query_str(q, 6), &r->subject) &&
           mdm_arena_str(arena, mdm_query_str(q, 7), &r->device_id) &&
           mdm_arena_str(arena, mdm_query_str(q, 8), &r->serial_number) &&
           mdm_arena_str(arena, mdm_query_str(q, 9), &r->certificate) &&
           mdm_arena_str(arena, mdm_query_str(q, 13), &r->enrollment_id);
}

static mdm_rc get_issued(mdm_tx_t *tx, mdm_stmt_t stmt, mdm_str_t key,
                         mdm_arena_t *arena, mdm_issued_t *issued_r,
                         mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(issued_r, 0, sizeof(*issued_r));
    mdm_query_begin(&q, tx, stmt, err, "b", key);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row && !read_issued(&q, arena, issued_r)) {
        rc = mdm_err_nomem(err);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_issued_get(mdm_tx_t *tx,
                            const unsigned char fingerprint[MDM_SHA256_LEN],
                            mdm_arena_t *arena, mdm_issued_t *issued_r,
                            mdm_err_t *err)
{
    return get_issued(tx, MDM_SQL_ISSUED_GET, hash_str(fingerprint), arena,
                      issued_r, err);
}

mdm_rc mdm_store_issued_of(mdm_tx_t *tx,
                           const unsigned char request[MDM_SHA256_LEN],
                           mdm_arena_t *arena, mdm_issued_t *issued_r,
                           mdm_err_t *err)
{
    return get_issued(tx, MDM_SQL_ISSUED_OF, hash_str(request), arena,
                      issued_r, err);
}

mdm_rc mdm_store_issued_serial(mdm_tx_t *tx, mdm_str_t serial,
                               mdm_arena_t *arena, mdm_issued_t *issued_r,
                               mdm_err_t *err)
{
    return get_issued(tx, MDM_SQL_ISSUED_SERIAL, serial, arena, issued_r,
                      err);
}

mdm_rc mdm_store_issued_list(mdm_tx_t *tx, int64_t after, size_t limit,
                             mdm_arena_t *arena, mdm_issued_t *rows,
                             size_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_ISSUED_LIST, err, "ii", after,
                    (int64_t)limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < limit) {
        if (!read_issued(&q, arena, &rows[(*n_r)++])) {
            rc = mdm_err_nomem(err);
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_issued_revoke(mdm_tx_t *tx, int64_t number, int64_t at_us,
                               mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ISSUED_REVOKE, NULL, err, "ii", number,
                       at_us);
}

mdm_rc mdm_store_issued_prune(mdm_tx_t *tx, int64_t before_us, size_t limit,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_ISSUED_PRUNE, NULL, err, "ii", before_us,
                       (int64_t)limit);
}
