/*
 * mdm_store_queue.c - verbs on commands and their queue.
 */
#include "mdm_store.h"

#include <stdio.h>
#include <string.h>

#include "mdm_store_int.h"
#include "mdm_str.h"

#define WHERE_SIZE 64

const char *mdm_queue_state_name(mdm_queue_state_t state)
{
    static const char *const names[] = {
        "queued", "sent",    "not_now", "acknowledged", "error",
        "command_format_error", "expired", "cancelled"};

    return (size_t)state < MDM_ARRAY_LEN(names) ? names[state] : "unknown";
}

/* A command's body is sealed under its UUID: the row's number is not known
 * before it is inserted. */
static mdm_rc command_where(mdm_str_t uuid, mdm_arena_t *arena, char **where_r,
                            mdm_err_t *err)
{
    *where_r = mdm_arena_printf(arena, "command.body:%.*s", MDM_STR_ARG(uuid));
    return *where_r != NULL ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc add_command(mdm_tx_t *tx, mdm_str_t uuid, mdm_str_t request_type,
                          mdm_str_t sealed, int64_t now_us, int64_t *cid_r,
                          mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_COMMAND_ADD, err, "ttbi", uuid,
                    request_type, sealed, now_us);
    rc = mdm_query_row(&q, &row);
    *cid_r = rc == MDM_OK && row ? mdm_query_int(&q, 0) : 0;
    if (rc == MDM_OK) {
        rc = mdm_query_row(&q, &row);
    }
    mdm_query_end(&q);
    if (rc == MDM_ECONFLICT) {
        return mdm_err_set(err, MDM_ECONFLICT, 0,
                           "a command with this CommandUUID exists already");
    }
    return rc;
}

mdm_rc mdm_store_command_add(mdm_tx_t *tx, mdm_str_t uuid,
                             mdm_str_t request_type, mdm_str_t body,
                             int64_t now_us, int64_t *cid_r, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed = MDM_STR_NONE;
    char *where = NULL;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = command_where(uuid, arena, &where, err);
    if (rc == MDM_OK) {
        rc = mdm_seal_close(mdm_store_seal(tx->store), where, body, arena,
                            &sealed, err);
    }
    if (rc == MDM_OK) {
        rc = add_command(tx, uuid, request_type, sealed, now_us, cid_r, err);
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_store_command_unlocks(mdm_tx_t *tx, int64_t cid, size_t at,
                                 mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_COMMAND_UNLOCKS, NULL, err, "ii", cid,
                       (int64_t)at);
}

mdm_rc mdm_store_command_get(mdm_tx_t *tx, mdm_str_t uuid, mdm_arena_t *arena,
                             mdm_command_row_t *row_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(row_r, 0, sizeof(*row_r));
    mdm_query_begin(&q, tx, MDM_SQL_COMMAND_GET, err, "t", uuid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such command");
    }
    if (rc == MDM_OK) {
        row_r->cid = mdm_query_int(&q, 0);
        row_r->created_at = mdm_query_int(&q, 2);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1),
                           &row_r->request_type)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_target(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                        mdm_target_t *target_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(target_r, 0, sizeof(*target_r));
    mdm_query_begin(&q, tx, MDM_SQL_TARGET, err, "t", id);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        target_r->eid = mdm_query_int(&q, 0);
        target_r->state = (mdm_enrollment_state_t)mdm_query_int(&q, 1);
        target_r->token_state = (mdm_token_state_t)mdm_query_int(&q, 2);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 3), &target_r->topic)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_target_device(mdm_tx_t *tx, int64_t eid, mdm_arena_t *arena,
                               mdm_target_device_t *d, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(d, 0, sizeof(*d));
    mdm_query_begin(&q, tx, MDM_SQL_TARGET_DEVICE, err, "i", eid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        d->channel = (mdm_channel_type_t)mdm_query_int(&q, 0);
        d->has_unlock_token = mdm_query_int(&q, 4) != 0;
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1), &d->product_name) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 2), &d->model_name) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 3), &d->os_version)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_queue_add(mdm_tx_t *tx, const mdm_queue_add_t *add,
                           int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_QUEUE_ADD, NULL, err, "iiiiii", add->eid,
                       add->cid, (int64_t)add->priority, add->not_before_us,
                       add->expires_us, now_us);
}

mdm_rc mdm_store_queue_find(mdm_tx_t *tx, int64_t eid, mdm_str_t uuid,
                            int64_t *qid_r, mdm_queue_state_t *state_r,
                            mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *qid_r = 0;
    *state_r = MDM_QUEUE_QUEUED;
    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_FIND, err, "it", eid, uuid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        *qid_r = mdm_query_int(&q, 0);
        *state_r = (mdm_queue_state_t)mdm_query_int(&q, 1);
    }
    mdm_query_end(&q);
    return rc;
}

/* A command as it stands in the store. */
typedef struct waiting {
    int64_t qid;
    char *where;
    mdm_str_t sealed;
    size_t unlock_token_at; /* 0: needs none */
} waiting_t;

static mdm_rc find_next(mdm_tx_t *tx, int64_t eid, bool skip_not_now,
                        int64_t now_us, mdm_arena_t *arena, waiting_t *next,
                        bool *found_r, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx,
                    skip_not_now ? MDM_SQL_QUEUE_NEXT_SKIP
                                 : MDM_SQL_QUEUE_NEXT,
                    err, "ii", eid, now_us);
    rc = mdm_query_row(&q, found_r);
    if (rc == MDM_OK && *found_r) {
        next->qid = mdm_query_int(&q, 0);
        next->unlock_token_at = (size_t)mdm_query_int(&q, 3);
        rc = command_where(mdm_query_str(&q, 1), arena, &next->where, err);
        if (rc == MDM_OK &&
            !mdm_arena_str(arena, mdm_query_str(&q, 2), &next->sealed)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

/* Puts the device's unlock token into its place.  It stands in no other
 * memory than the arena.  MDM_EINTERNAL: there is none any more. */
static mdm_rc expand(mdm_tx_t *tx, int64_t eid, size_t at, mdm_arena_t *arena,
                     mdm_str_t *body, mdm_err_t *err)
{
    mdm_str_t token;
    char *whole;
    size_t n;
    mdm_rc rc;

    rc = mdm_store_secret_get(tx, eid, MDM_SECRET_UNLOCK_TOKEN, arena, &token,
                              err);
    if (rc == MDM_OK && (token.s == NULL || at > body->n)) {
        rc = mdm_err_set(err, MDM_EINTERNAL, 0,
                         "a command needs the unlock token of its device, "
                         "which is no longer stored");
    }
    if (rc != MDM_OK) {
        return rc;
    }
    n = MDM_BASE64_SIZE(token.n) - 1;
    whole = mdm_arena_alloc(arena, body->n + n + 1);
    if (whole == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(whole, body->s, at);
    mdm_base64_encode(token.s, token.n, whole + at);
    memcpy(whole + at + n, body->s + at, body->n - at);
    *body = (mdm_str_t){whole, body->n + n};
    return MDM_OK;
}

mdm_rc mdm_store_queue_take(mdm_tx_t *tx, int64_t eid, bool skip_not_now,
                            int64_t now_us, mdm_arena_t *arena,
                            mdm_str_t *body_r, bool *found_r, mdm_err_t *err)
{
    waiting_t next;
    mdm_rc rc;

    do {
        rc = find_next(tx, eid, skip_not_now, now_us, arena, &next, found_r,
                       err);
        if (rc != MDM_OK || !*found_r) {
            return rc;
        }
        rc = mdm_seal_open(mdm_store_seal(tx->store), next.where, next.sealed,
                           arena, body_r, err);
        if (rc == MDM_OK && next.unlock_token_at > 0) {
            rc = expand(tx, eid, next.unlock_token_at, arena, body_r, err);
        }
        if (rc == MDM_OK) {
            return mdm_sql_run(tx, MDM_SQL_QUEUE_SENT, NULL, err, "ii",
                               next.qid, now_us);
        }
        if (rc == MDM_EINTERNAL) { /* damaged: those behind it must go out */
            mdm_log_err(mdm_store_log(tx->store), MDM_LOG_ERROR,
                        MDM_MSG_STORE_FAULT, err);
            rc = mdm_store_queue_cancel(tx, next.qid, now_us, err);
        }
    } while (rc == MDM_OK);
    return rc;
}

mdm_rc mdm_store_queue_not_now(mdm_tx_t *tx, int64_t qid, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_QUEUE_NOT_NOW, NULL, err, "i", qid);
}

mdm_rc mdm_store_queue_finish(mdm_tx_t *tx, int64_t qid,
                              mdm_queue_state_t state, mdm_str_t raw,
                              bool damaged, int64_t now_us, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    char where[WHERE_SIZE];
    mdm_str_t sealed;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    (void)snprintf(where, sizeof(where), "queue.result:%lld", (long long)qid);
    rc = mdm_seal_close(mdm_store_seal(tx->store), where, raw, arena, &sealed,
                        err);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_QUEUE_FINISH, NULL, err, "iiibi", qid,
                         (int64_t)state, now_us, sealed,
                         (int64_t)(damaged ? 1 : 0));
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_store_queue_retire(mdm_tx_t *tx, int64_t device_eid, int64_t now_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_QUEUE_RETIRE, NULL, err, "iii", device_eid,
                       (int64_t)MDM_QUEUE_CANCELLED, now_us);
}

mdm_rc mdm_store_queue_is_expired(mdm_tx_t *tx, int64_t now_us, bool *some_r,
                                  mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_EXPIRED, err, "i", now_us);
    rc = mdm_query_row(&q, some_r);
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_queue_expire(mdm_tx_t *tx, int64_t now_us, size_t limit,
                              int64_t *eids, size_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_EXPIRE, err, "iii", now_us,
                    (int64_t)MDM_QUEUE_EXPIRED, (int64_t)limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < limit) {
        eids[(*n_r)++] = mdm_query_int(&q, 0);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_queue_cancel(mdm_tx_t *tx, int64_t qid, int64_t now_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_QUEUE_CANCEL, NULL, err, "iii", qid,
                       (int64_t)MDM_QUEUE_CANCELLED, now_us);
}

mdm_rc mdm_store_queue_cancel_all(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                                  int64_t *n_r, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_QUEUE_CANCEL_ALL, n_r, err, "iii", eid,
                       (int64_t)MDM_QUEUE_CANCELLED, now_us);
}

mdm_rc mdm_store_queue_put_off(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                               int64_t *count_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_PUT_OFF, err, "ii", eid, now_us);
    rc = mdm_query_row(&q, &row);
    *count_r = rc == MDM_OK && row && !mdm_query_null(&q, 0)
                   ? mdm_query_int(&q, 0)
                   : 0;
    mdm_query_end(&q);
    return rc;
}

/* ---- what is too old to keep -------------------------------------------- */

/* Takes a row into a slice, unless that is full; deleting large values takes
 * time in proportion to their size. */
static bool take_row(mdm_old_rows_t *old, size_t *seen, int64_t bytes)
{
    if (old->bytes > 0 && old->bytes + bytes > old->bytes_max) {
        old->more = true;
        return false;
    }
    old->bytes += bytes;
    old->more = ++*seen == old->limit;
    return true;
}

mdm_rc mdm_store_results_old(mdm_tx_t *tx, mdm_old_rows_t *old,
                             mdm_err_t *err)
{
    size_t seen = 0;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    old->n = 0;
    old->more = false;
    old->bytes = 0;
    mdm_query_begin(&q, tx, MDM_SQL_RESULTS_OLD, err, "ii", old->before_us,
                    (int64_t)old->limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row &&
           take_row(old, &seen, mdm_query_int(&q, 1))) {
        old->rows[old->n++] = mdm_query_int(&q, 0);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_result_prune(mdm_tx_t *tx, int64_t qid, int64_t before_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_RESULT_PRUNE, NULL, err, "ii", qid,
                       before_us);
}

mdm_rc mdm_store_commands_unused(mdm_tx_t *tx, mdm_old_rows_t *old,
                                 int64_t mark[2], mdm_err_t *err)
{
    size_t seen = 0;
    mdm_query_t q;
    bool unused;
    bool row;
    mdm_rc rc;

    old->n = 0;
    old->more = false;
    old->bytes = 0;
    mdm_query_begin(&q, tx, MDM_SQL_COMMANDS_OLD, err, "iiii", old->before_us,
                    mark[0], mark[1], (int64_t)old->limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        unused = mdm_query_int(&q, 3) == 0;
        if (!take_row(old, &seen, unused ? mdm_query_int(&q, 1) : 0)) {
            break;
        }
        mark[0] = mdm_query_int(&q, 2);
        mark[1] = mdm_query_int(&q, 0);
        if (unused) {
            old->rows[old->n++] = mark[1];
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_command_prune(mdm_tx_t *tx, int64_t cid, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_COMMAND_PRUNE, NULL, err, "i", cid);
}

/* ---- for people --------------------------------------------------------- */

static bool read_queue_row(const mdm_query_t *q, mdm_arena_t *arena,
                           mdm_queue_row_t *r)
{
    memset(r, 0, sizeof(*r));
    r->qid = mdm_query_int(q, 0);
    r->state = (mdm_queue_state_t)mdm_query_int(q, 3);
    r->priority = (int)mdm_query_int(q, 4);
    r->queued_at = mdm_query_int(q, 5);
    r->not_before = mdm_query_int(q, 6);
    r->expires = mdm_query_int(q, 7);
    r->sent_at = mdm_query_int(q, 8);
    r->sent_count = mdm_query_int(q, 9);
    r->not_now_count = mdm_query_int(q, 10);
    r->finished_at = mdm_query_int(q, 11);
    r->damaged = mdm_query_int(q, 12) != 0;
    return mdm_arena_str(arena, mdm_query_str(q, 1), &r->command_uuid) &&
           mdm_arena_str(arena, mdm_query_str(q, 2), &r->request_type);
}

static mdm_rc list_part(mdm_tx_t *tx, mdm_stmt_t stmt,
                        const mdm_queue_filter_t *f, mdm_arena_t *arena,
                        mdm_queue_row_t *rows, size_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, stmt, err, "iiiii", f->eid, f->after,
                    (int64_t)f->first_state, (int64_t)f->last_state,
                    (int64_t)f->limit);
    for (*n_r = 0; (rc = mdm_query_row(&q, &row)) == MDM_OK && row &&
                   *n_r < f->limit;
         ++*n_r) {
        if (!read_queue_row(&q, arena, &rows[*n_r])) {
            rc = mdm_err_nomem(err);
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_queue_list(mdm_tx_t *tx, const mdm_queue_filter_t *f,
                            mdm_arena_t *arena, mdm_queue_row_t *rows,
                            size_t *n_r, mdm_err_t *err)
{
    mdm_queue_row_t *part =
        mdm_arena_alloc(arena, 2 * f->limit * sizeof(*part));
    size_t n[2] = {0, 0};
    size_t at[2] = {0, 0};
    size_t from;
    mdm_rc rc;

    if (part == NULL) {
        return mdm_err_nomem(err);
    }
    /* What is active and what is over have an index each. */
    rc = list_part(tx, MDM_SQL_QUEUE_LIST_ACTIVE, f, arena, part, &n[0], err);
    if (rc == MDM_OK) {
        rc = list_part(tx, MDM_SQL_QUEUE_LIST_OVER, f, arena, part + f->limit,
                       &n[1], err);
    }
    for (*n_r = 0; rc == MDM_OK && *n_r < f->limit &&
                   (at[0] < n[0] || at[1] < n[1]);
         ++*n_r) {
        from = at[1] == n[1] || (at[0] < n[0] &&
                                 part[at[0]].qid < part[f->limit + at[1]].qid)
                   ? 0
                   : 1;
        rows[*n_r] = part[from * f->limit + at[from]++];
    }
    return rc;
}

mdm_rc mdm_store_queue_waiting(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                               bool *waiting_r, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_WAITING, err, "ii", eid, now_us);
    rc = mdm_query_row(&q, waiting_r);
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_command_states(mdm_tx_t *tx, int64_t cid, int64_t after,
                                size_t limit, mdm_arena_t *arena,
                                mdm_queue_row_t *rows, size_t *n_r,
                                mdm_err_t *err)
{
    mdm_queue_row_t *r;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_COMMAND_STATES, err, "iii", cid, after,
                    (int64_t)limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < limit) {
        r = &rows[(*n_r)++];
        memset(r, 0, sizeof(*r));
        r->state = (mdm_queue_state_t)mdm_query_int(&q, 1);
        r->queued_at = mdm_query_int(&q, 2);
        r->sent_at = mdm_query_int(&q, 3);
        r->sent_count = mdm_query_int(&q, 4);
        r->not_now_count = mdm_query_int(&q, 5);
        r->finished_at = mdm_query_int(&q, 6);
        r->damaged = mdm_query_int(&q, 7) != 0;
        r->eid = mdm_query_int(&q, 8);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 0), &r->enrollment_id)) {
            rc = mdm_err_nomem(err);
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_result_get(mdm_tx_t *tx, mdm_str_t uuid, mdm_str_t id,
                            mdm_arena_t *arena, mdm_str_t *raw_r,
                            mdm_err_t *err)
{
    char where[WHERE_SIZE];
    mdm_str_t sealed = MDM_STR_NONE;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_RESULT_GET, err, "tt", uuid, id);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "this enrolment was not given such a command");
    }
    if (rc == MDM_OK && mdm_query_null(&q, 1)) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "the device has not answered yet (state %s)",
                         mdm_queue_state_name(
                             (mdm_queue_state_t)mdm_query_int(&q, 2)));
    }
    if (rc == MDM_OK) {
        (void)snprintf(where, sizeof(where), "queue.result:%lld",
                       (long long)mdm_query_int(&q, 0));
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1), &sealed)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    if (rc != MDM_OK) {
        return rc;
    }
    return mdm_seal_open(mdm_store_seal(tx->store), where, sealed, arena,
                         raw_r, err);
}
