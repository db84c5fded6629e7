/*
 * mdm_store_event.c - see mdm_store_event.h.
 */
#include "mdm_store_event.h"

#include <string.h>

#include "mdm_store_int.h"
#include "mdm_str.h"

/* Sealed under its id: the number is not known before it is inserted. */
static mdm_rc event_where(mdm_str_t uuid, mdm_arena_t *arena, char **where_r,
                          mdm_err_t *err)
{
    *where_r = mdm_arena_printf(arena, "event.body:%.*s", MDM_STR_ARG(uuid));
    return *where_r != NULL ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_store_event_add(mdm_tx_t *tx, const mdm_event_t *event,
                           int64_t now_us, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed = MDM_STR_NONE;
    char uuid[MDM_UUID_SIZE];
    char *where = NULL;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_uuid_new(uuid, err);
    if (rc == MDM_OK) {
        rc = event_where(mdm_str_from(uuid), arena, &where, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_seal_close(mdm_store_seal(tx->store), where, event->body,
                            arena, &sealed, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_EVENT_ADD, NULL, err, "ttitb",
                         mdm_str_from(uuid), event->topic, now_us,
                         event->enrollment_id, sealed);
    }
    mdm_arena_free(&arena);
    return rc;
}

static mdm_rc open_event(mdm_tx_t *tx, const mdm_query_t *q,
                         mdm_arena_t *arena, mdm_event_row_t *row,
                         mdm_err_t *err)
{
    char *where = NULL;
    mdm_rc rc;

    row->seq = mdm_query_int(q, 0);
    row->created_at = mdm_query_int(q, 3);
    row->event.body = MDM_STR_NONE;
    if (!mdm_arena_str(arena, mdm_query_str(q, 1), &row->uuid) ||
        !mdm_arena_str(arena, mdm_query_str(q, 2), &row->event.topic) ||
        !mdm_arena_str(arena, mdm_query_str(q, 4),
                       &row->event.enrollment_id)) {
        return mdm_err_nomem(err);
    }
    rc = event_where(row->uuid, arena, &where, err);
    if (rc == MDM_OK) {
        rc = mdm_seal_open(mdm_store_seal(tx->store), where,
                           mdm_query_str(q, 5), arena, &row->event.body, err);
    }
    if (rc == MDM_EINTERNAL) { /* damaged: the others are to be seen still */
        mdm_log_err(mdm_store_log(tx->store), MDM_LOG_ERROR,
                    MDM_MSG_STORE_FAULT, err);
        row->event.body = MDM_STR_NONE;
        rc = MDM_OK;
    }
    return rc;
}

mdm_rc mdm_store_event_list(mdm_tx_t *tx, int64_t after, mdm_arena_t *arena,
                            mdm_event_row_t *rows, size_t max, size_t *n_r,
                            mdm_err_t *err)
{
    mdm_query_t q;
    bool row = false;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_EVENT_LIST, err, "ii", after,
                    (int64_t)max);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < max) {
        rc = open_event(tx, &q, arena, &rows[*n_r], err);
        if (rc != MDM_OK) {
            break;
        }
        (*n_r)++;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_event_is_old(mdm_tx_t *tx, int64_t before_us, bool *is_r,
                              mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_EVENT_OLD, err, "i", before_us);
    rc = mdm_query_row(&q, is_r);
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_event_prune(mdm_tx_t *tx, int64_t before_us, size_t limit,
                             int64_t *n_r, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_EVENT_PRUNE, n_r, err, "ii", before_us,
                       (int64_t)limit);
}

mdm_rc mdm_store_notice_get(mdm_tx_t *tx, mdm_str_t subject, int64_t *step_r,
                            int64_t *told_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row = false;
    mdm_rc rc;

    *step_r = 0;
    *told_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_NOTICE_GET, err, "t", subject);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        *step_r = mdm_query_int(&q, 0);
        *told_r = mdm_query_int(&q, 1);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_notice_set(mdm_tx_t *tx, mdm_str_t subject, int64_t step,
                            int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_NOTICE_SET, NULL, err, "tii", subject,
                       step, now_us);
}
