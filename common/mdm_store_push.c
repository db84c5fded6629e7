/*
 * mdm_store_push.c - verbs on the push outbox and the push certificates.
 */
#include "mdm_store.h"

#include <stdio.h>
#include <string.h>

#include "mdm_store_int.h"
#include "mdm_str.h"

static void copy_uuid(char dst[MDM_UUID_SIZE], mdm_str_t from)
{
    size_t n = from.n < MDM_UUID_LEN ? from.n : MDM_UUID_LEN;

    if (n > 0) {
        memcpy(dst, from.s, n);
    }
    dst[n] = '\0';
}

mdm_rc mdm_store_push_mark(mdm_tx_t *tx, int64_t eid, mdm_str_t topic,
                           int64_t due_us, mdm_push_ticket_t *ticket_r,
                           mdm_err_t *err)
{
    char fresh[MDM_UUID_SIZE];
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    rc = mdm_uuid_new(fresh, err);
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_query_begin(&q, tx, MDM_SQL_PUSH_MARK, err, "itit", eid, topic, due_us,
                    mdm_str_from(fresh));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        copy_uuid(ticket_r->apns_id, mdm_query_str(&q, 0));
        ticket_r->generation = mdm_query_int(&q, 1);
        rc = mdm_query_row(&q, &row);
    }
    mdm_query_end(&q);
    return rc;
}

static void copy_reason(char dst[MDM_PUSH_REASON_MAX], mdm_str_t from)
{
    (void)snprintf(dst, MDM_PUSH_REASON_MAX, "%.*s", MDM_STR_ARG(from));
}

mdm_rc mdm_store_push_state(mdm_tx_t *tx, int64_t eid,
                            mdm_push_answer_t *state_r, mdm_err_t *err)
{
    mdm_push_answer_t *s = state_r;
    mdm_query_t q;
    mdm_rc rc;

    memset(s, 0, sizeof(*s));
    mdm_query_begin(&q, tx, MDM_SQL_PUSH_STATE, err, "i", eid);
    rc = mdm_query_row(&q, &s->found);
    if (rc == MDM_OK && s->found) {
        s->due_at = mdm_query_null(&q, 0) ? 0 : mdm_query_int(&q, 0);
        s->claimed = mdm_query_int(&q, 1) != 0;
        s->sent_generation = mdm_query_int(&q, 2);
        s->attempts = mdm_query_int(&q, 3);
        s->last_generation = mdm_query_int(&q, 4);
        s->last_status = (int)mdm_query_int(&q, 5);
        s->last_timestamp = mdm_query_int(&q, 6);
        copy_reason(s->last_reason, mdm_query_str(&q, 7));
        copy_uuid(s->last_id, mdm_query_str(&q, 8));
        s->has_cert = mdm_query_int(&q, 9) != 0;
        if (!mdm_query_null(&q, 10)) {
            copy_reason(s->suspended, mdm_query_str(&q, 10));
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_push_clear_device(mdm_tx_t *tx, int64_t device_eid,
                                   mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_PUSH_CLEAR_DEVICE, NULL, err, "i",
                       device_eid);
}

mdm_rc mdm_store_push_get(mdm_tx_t *tx, int64_t eid, bool *found_r,
                          int64_t *due_r, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    *due_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_PUSH_GET, err, "i", eid);
    rc = mdm_query_row(&q, found_r);
    if (rc == MDM_OK && *found_r && !mdm_query_null(&q, 0)) {
        *due_r = mdm_query_int(&q, 0);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_push_plan(mdm_tx_t *tx, int64_t eid, bool found,
                           int64_t now_us, int64_t at_us, mdm_err_t *err)
{
    char fresh[MDM_UUID_SIZE];
    mdm_rc rc = mdm_uuid_new(fresh, err);

    return rc == MDM_OK
               ? mdm_sql_run(tx,
                             found ? MDM_SQL_PUSH_PLAN : MDM_SQL_PUSH_PLAN_ADD,
                             NULL, err, "iiot", eid, now_us,
                             at_us != 0 ? &at_us : NULL, mdm_str_from(fresh))
               : rc;
}

mdm_rc mdm_store_push_clear(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                            mdm_err_t *err)
{
    int64_t due;
    bool found;
    mdm_rc rc = mdm_store_push_get(tx, eid, &found, &due, err);

    return rc == MDM_OK ? mdm_store_push_plan(tx, eid, found, now_us, 0, err)
                        : rc;
}

mdm_rc mdm_store_push_settle(mdm_tx_t *tx, int64_t eid, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_PUSH_SETTLE, NULL, err, "i", eid);
}

mdm_rc mdm_store_push_next_due(mdm_tx_t *tx, mdm_str_t topic, int64_t *due_r,
                               mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *due_r = INT64_MAX;
    mdm_query_begin(&q, tx, MDM_SQL_PUSH_NEXT_DUE, err, "t", topic);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row && !mdm_query_null(&q, 0)) {
        *due_r = mdm_query_int(&q, 0);
    }
    mdm_query_end(&q);
    return rc;
}

/* Token and magic of a claimed row. */
static mdm_rc read_payload(mdm_tx_t *tx, mdm_str_t topic, mdm_arena_t *arena,
                           mdm_claim_t *claim, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_PUSH_PAYLOAD, err, "i", claim->eid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        claim->device_eid = mdm_query_int(&q, 6);
        claim->token_at = mdm_query_int(&q, 3);
        claim->pushable = mdm_query_int(&q, 4) == MDM_TOKEN_GOOD &&
                          mdm_str_eq(mdm_query_str(&q, 5), topic);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 0), &claim->id)) {
            rc = mdm_err_nomem(err);
        }
        if (rc == MDM_OK) {
            rc = mdm_enrollment_open(tx, "token", claim->eid,
                                     mdm_query_str(&q, 1), arena,
                                     &claim->token, err);
        }
        if (rc == MDM_OK) {
            rc = mdm_enrollment_open(tx, "magic", claim->eid,
                                     mdm_query_str(&q, 2), arena,
                                     &claim->magic, err);
        }
        if (rc == MDM_EINTERNAL) { /* damaged: others must be pushed still */
            mdm_log_err(mdm_store_log(tx->store), MDM_LOG_ERROR,
                        MDM_MSG_STORE_FAULT, err);
            claim->token = MDM_STR_NONE;
            rc = MDM_OK;
        }
        claim->pushable = claim->pushable && claim->token.n > 0;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_push_claim(mdm_tx_t *tx, mdm_str_t topic, mdm_str_t holder,
                            int64_t now_us, int64_t until_us, size_t limit,
                            mdm_arena_t *arena, mdm_claim_t *claims,
                            size_t *n_r, mdm_err_t *err)
{
    mdm_claim_t *claim;
    mdm_query_t q;
    bool row;
    mdm_rc rc;
    size_t i;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_PUSH_CLAIM, err, "ttiii", topic, holder,
                    now_us, until_us, (int64_t)limit);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < limit) {
        claim = &claims[(*n_r)++];
        memset(claim, 0, sizeof(*claim));
        claim->eid = mdm_query_int(&q, 0);
        copy_uuid(claim->apns_id, mdm_query_str(&q, 1));
        claim->attempts = mdm_query_int(&q, 2);
    }
    mdm_query_end(&q);
    for (i = 0; rc == MDM_OK && i < *n_r; i++) {
        rc = read_payload(tx, topic, arena, &claims[i], err);
    }
    return rc;
}

mdm_rc mdm_store_push_finish(mdm_tx_t *tx, const mdm_push_finish_t *f,
                             mdm_str_t holder, int64_t now_us, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    if (f->verdict == MDM_PUSH_RETRY) {
        return mdm_sql_run(tx, MDM_SQL_PUSH_RETRY, NULL, err, "itiititi",
                           f->eid, holder, now_us, (int64_t)f->status,
                           f->reason, f->retry_at_us, f->apns_id,
                           f->timestamp_ms);
    }
    if (f->verdict != MDM_PUSH_DONE) {
        rc = mdm_sql_run(tx, MDM_SQL_PUSH_TOKEN_REFUSED, NULL, err, "iii",
                         f->eid, f->token_at,
                         (int64_t)(f->verdict == MDM_PUSH_TOKEN_DEAD
                                       ? MDM_TOKEN_DEAD
                                       : MDM_TOKEN_FOREIGN));
    }
    return rc == MDM_OK
               ? mdm_sql_run(tx, MDM_SQL_PUSH_DONE, NULL, err, "itiitotii",
                             f->eid, holder, now_us, (int64_t)f->status,
                             f->reason,
                             f->repeat_at_us != 0 ? &f->repeat_at_us : NULL,
                             f->apns_id, f->timestamp_ms,
                             f->given_up ? now_us : (int64_t)0)
               : rc;
}

mdm_rc mdm_store_push_revive(mdm_tx_t *tx, int64_t eid, int64_t token_at,
                             mdm_str_t topic, int64_t now_us, mdm_err_t *err)
{
    mdm_push_ticket_t ticket;
    int64_t changes = 0;
    mdm_rc rc;

    rc = mdm_sql_run(tx, MDM_SQL_PUSH_TOKEN_REVIVE, &changes, err, "ii", eid,
                     token_at);
    return rc == MDM_OK && changes > 0
               ? mdm_store_push_mark(tx, eid, topic, now_us, &ticket, err)
               : rc;
}

mdm_rc mdm_store_push_backlog(mdm_tx_t *tx, mdm_str_t topic, int64_t now_us,
                              int64_t n, bool *more_r, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_PUSH_BACKLOG, err, "tii", topic, now_us,
                    n);
    rc = mdm_query_row(&q, more_r);
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_push_given_up(mdm_tx_t *tx, int64_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_PUSH_GIVEN_UP, err, "");
    rc = mdm_query_row(&q, &row);
    *n_r = rc == MDM_OK && row ? mdm_query_int(&q, 0) : 0;
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_push_release(mdm_tx_t *tx, mdm_str_t holder, int64_t now_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_PUSH_RELEASE, NULL, err, "ti", holder,
                       now_us);
}

mdm_rc mdm_store_push_recover(mdm_tx_t *tx, mdm_str_t holder, int64_t now_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_PUSH_RECOVER, NULL, err, "ti", holder,
                       now_us);
}

/* ---- push certificates -------------------------------------------------- */

static mdm_rc key_where(mdm_str_t topic, mdm_arena_t *arena, char **where_r,
                        mdm_err_t *err)
{
    *where_r = mdm_arena_printf(arena, "pushcert.key:%.*s",
                                MDM_STR_ARG(topic));
    return *where_r != NULL ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_store_pushcert_get(mdm_tx_t *tx, mdm_str_t topic,
                              mdm_arena_t *arena, mdm_pushcert_row_t *row_r,
                              mdm_err_t *err)
{
    char *where = NULL;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(row_r, 0, sizeof(*row_r));
    mdm_query_begin(&q, tx, MDM_SQL_PUSHCERT_GET, err, "t", topic);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "no push certificate of this topic is stored");
    }
    if (rc == MDM_OK) {
        row_r->not_before_us = mdm_query_int(&q, 4);
        row_r->not_after_us = mdm_query_int(&q, 5);
        row_r->version = mdm_query_int(&q, 6);
        row_r->suspended_at = mdm_query_int(&q, 8);
        row_r->trusted = !mdm_query_null(&q, 9);
        row_r->accepted_at = mdm_query_int(&q, 9);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 0), &row_r->topic) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 1), &row_r->cert_pem) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 3), &row_r->fingerprint) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 7), &row_r->suspended)) {
            rc = mdm_err_nomem(err);
        }
    }
    if (rc == MDM_OK) {
        rc = key_where(topic, arena, &where, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_seal_open(mdm_store_seal(tx->store), where,
                           mdm_query_str(&q, 2), arena, &row_r->key_pem, err);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_pushcert_known(mdm_tx_t *tx, mdm_str_t topic, bool *known_r,
                                mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_PUSHCERT_KNOWN, err, "t", topic);
    rc = mdm_query_row(&q, known_r);
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_pushcert_list(mdm_tx_t *tx, mdm_arena_t *arena,
                               mdm_pushcert_row_t *rows, size_t max,
                               size_t *n_r, mdm_err_t *err)
{
    mdm_pushcert_row_t *r;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_PUSHCERT_LIST, err, "");
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row && *n_r < max) {
        r = &rows[(*n_r)++];
        memset(r, 0, sizeof(*r));
        r->not_after_us = mdm_query_int(&q, 1);
        r->version = mdm_query_int(&q, 2);
        r->trusted = !mdm_query_null(&q, 4);
        r->accepted_at = mdm_query_int(&q, 4);
        r->suspended_at = mdm_query_int(&q, 6);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 0), &r->topic) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 5), &r->fingerprint) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 3), &r->suspended)) {
            rc = mdm_err_nomem(err);
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_pushcert_version(mdm_tx_t *tx, mdm_str_t topic,
                                  int64_t *version_r, bool *suspended_r,
                                  mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *version_r = 0;
    *suspended_r = false;
    mdm_query_begin(&q, tx, MDM_SQL_PUSHCERT_VERSION, err, "t", topic);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        *version_r = mdm_query_int(&q, 0);
        *suspended_r = mdm_query_int(&q, 1) != 0;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_pushcert_set(mdm_tx_t *tx, const mdm_pushcert_row_t *row,
                              int64_t now_us, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed = MDM_STR_NONE;
    char *where = NULL;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = key_where(row->topic, arena, &where, err);
    if (rc == MDM_OK) {
        rc = mdm_seal_close(mdm_store_seal(tx->store), where, row->key_pem,
                            arena, &sealed, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_PUSHCERT_SET, NULL, err, "ttbtiii",
                         row->topic, row->cert_pem, sealed, row->fingerprint,
                         row->not_before_us, row->not_after_us, now_us);
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_store_pushcert_suspend(mdm_tx_t *tx,
                                  const mdm_pushcert_row_t *row,
                                  bool *changed_r, mdm_err_t *err)
{
    int64_t changes = 0;
    mdm_rc rc;

    rc = mdm_sql_run(tx, MDM_SQL_PUSHCERT_SUSPEND, &changes, err, "ttii",
                     row->topic, row->suspended, row->version,
                     row->suspended_at);
    *changed_r = rc == MDM_OK && changes > 0;
    return rc;
}

mdm_rc mdm_store_pushcert_resume(mdm_tx_t *tx, mdm_str_t topic,
                                 bool *changed_r, mdm_err_t *err)
{
    int64_t changes = 0;
    mdm_rc rc;

    rc = mdm_sql_run(tx, MDM_SQL_PUSHCERT_RESUME, &changes, err, "t", topic);
    *changed_r = rc == MDM_OK && changes > 0;
    return rc;
}

mdm_rc mdm_store_pushcert_accepted(mdm_tx_t *tx, mdm_str_t topic,
                                   int64_t version, mdm_str_t tokens,
                                   int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_PUSHCERT_ACCEPTED, NULL, err, "tiit", topic,
                       version, now_us, tokens);
}

mdm_rc mdm_store_topic_users(mdm_tx_t *tx, mdm_str_t topic, int64_t max,
                             int64_t *n_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_TOPIC_USERS, err, "tii", topic,
                    (int64_t)MDM_ENROLLMENT_ENROLLED, max);
    while ((rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        (*n_r)++;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_topic_usage(mdm_tx_t *tx, mdm_str_t topic,
                             mdm_arena_t *arena, int64_t *all_r,
                             int64_t *same_r, mdm_str_t *example_r,
                             mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *all_r = 0;
    *same_r = 0;
    *example_r = MDM_STR_NONE;
    mdm_query_begin(&q, tx, MDM_SQL_TOPIC_COUNT_OTHER, err, "ti", topic,
                    (int64_t)MDM_ENROLLMENT_ENROLLED);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        *all_r = mdm_query_int(&q, 0);
        *same_r = mdm_query_int(&q, 2);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1), example_r)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}
