/*
 * mdm_api_commands.c - calls on commands and pushes.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_command.h"
#include "mdm_plist.h"
#include "mdm_str.h"

#define JSON_MAX (64 * 1024 * 1024)

/* ---- many targets in one call ------------------------------------------- */

/* `seen` holds those met before (jansson's objects are hash tables with a
 * random seed). */
mdm_rc mdm_api_target_add(mdm_api_targets_t *all, json_t *seen, mdm_str_t id,
                          mdm_err_t *err)
{
    json_t *json = json_stringn(id.s, id.n);

    if (id.n == 0 || id.n > MDM_ID_MAX || json == NULL) {
        json_decref(json);
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "an enrolment id is empty, too long or not UTF-8");
    }
    if (json_object_get(seen, id.s) == NULL) {
        all->t[all->n++].id = id;
    }
    return json_object_set_new(seen, id.s, json) == 0 ? MDM_OK
                                                      : mdm_err_nomem(err);
}

/* "ID,ID,...": split at commas, then decoded once, each counted once. */
static mdm_rc read_targets(mdm_api_call_t *call, size_t segment,
                           mdm_api_targets_t *all, mdm_err_t *err)
{
    mdm_str_t rest = call->segments[segment];
    mdm_rc rc = MDM_OK;
    size_t max = 1;
    mdm_str_t id;
    json_t *seen;
    size_t i;

    for (i = 0; i < rest.n; i++) {
        max += rest.s[i] == ',' ? 1U : 0U;
    }
    if (max > MDM_API_TARGETS_MAX) {
        return mdm_err_set(err, MDM_ETOOBIG, 0, "more than %d ids in a call",
                           MDM_API_TARGETS_MAX);
    }
    all->n = 0;
    all->t = mdm_arena_alloc(call->arena, max * sizeof(*all->t));
    if (all->t == NULL) {
        return mdm_err_nomem(err);
    }
    seen = json_object();
    while (rc == MDM_OK && rest.s != NULL) {
        rc = mdm_http_decode(mdm_str_split(&rest, ','), call->arena, &id, err);
        if (rc == MDM_OK) {
            rc = mdm_api_target_add(all, seen, id, err);
        }
    }
    json_decref(seen);
    return rc;
}

static const char *push_fault(mdm_target_fault_t fault)
{
    /* NanoMDM's tools look for its words. */
    return fault == MDM_TARGET_UNKNOWN
               ? "push data missing for id: no such enrolment"
               : mdm_target_fault_text(fault);
}

/* Why the command was not queued; the catalogue's own words where it has
 * some. */
static const char *command_fault(const mdm_target_result_t *t)
{
    return t->command == MDM_TARGET_REFUSED
               ? t->verdict->refused
               : mdm_target_fault_text(t->command);
}

static void add_warnings(json_t *json, const mdm_target_result_t *t)
{
    json_t *list;
    size_t i;

    if (t->verdict == NULL || t->verdict->nwarnings == 0) {
        return;
    }
    list = json_array();
    for (i = 0; i < t->verdict->nwarnings; i++) {
        json_array_append_new(list, json_string(t->verdict->warnings[i]));
    }
    json_object_set_new(json, "warnings", list);
}

/* One id's part of the answer, and its failure.  `answer`: NULL, or what
 * APNs said. */
static json_t *target_json(const mdm_target_result_t *t, bool enqueue,
                           bool push, const mdm_wait_answer_t *answer,
                           bool *failed_r)
{
    json_t *json = json_object();

    *failed_r = false;
    if (enqueue && t->command != MDM_TARGET_OK) {
        *failed_r = true;
        json_object_set_new(json, "command_error",
                            json_string(command_fault(t)));
    } else if (push && t->pushed && answer != NULL) {
        *failed_r = mdm_api_wait_json(json, t, answer);
    } else if (push && t->pushed) {
        json_object_set_new(json, "push_result",
                            json_string(t->ticket.apns_id));
    } else if (push) {
        *failed_r = true;
        json_object_set_new(json, "push_error",
                            json_string(push_fault(t->push)));
    }
    add_warnings(json, t);
    return json;
}

/* The "status" object, and the HTTP status of the whole. */
static json_t *status_json(const mdm_api_targets_t *all, bool enqueue,
                           bool push, int *http_r)
{
    json_t *status = json_object();
    size_t unknown = 0;
    size_t failures = 0;
    size_t refused = 0;
    bool failed;
    json_t *one;
    size_t i;

    for (i = 0; i < all->n; i++) {
        one = target_json(&all->t[i], enqueue, push,
                          all->answers != NULL ? &all->answers[i] : NULL,
                          &failed);
        failures += failed ? 1U : 0U;
        unknown += failed && all->t[i].push == MDM_TARGET_UNKNOWN ? 1U : 0U;
        refused += all->t[i].command == MDM_TARGET_REFUSED ||
                           all->t[i].command == MDM_TARGET_NO_UNLOCK_TOKEN
                       ? 1U
                       : 0U;
        /* Ids end in a NUL (mdm_http_decode) and hold none. */
        json_object_set_new(status, all->t[i].id.s, one);
    }
    *http_r = failures == 0                 ? 200
              : unknown == all->n           ? 404
              : failures < all->n           ? 207
              : unknown + refused == all->n ? 400
                                            : 500;
    return status;
}

/* ---- enqueue ------------------------------------------------------------ */

mdm_rc mdm_api_when(const char *name, mdm_str_t value, int64_t *us_r,
                    mdm_err_t *err)
{
    *us_r = 0;
    return value.s != NULL ? mdm_api_moment(value, name, us_r, err) : MDM_OK;
}

/* A command lives as long as the call says, or "off": for ever; else as long
 * as the configuration says, from the time on at which it may be delivered. */
mdm_rc mdm_api_expiry(mdm_api_call_t *call, mdm_str_t value,
                      mdm_enqueue_t *enqueue, mdm_err_t *err)
{
    int64_t life_us = call->server->config->command_life_us;
    int64_t from;
    mdm_rc rc;

    if (mdm_str_is(value, "off")) {
        return MDM_OK;
    }
    rc = mdm_api_when("expires", value, &enqueue->expires_us, err);
    from = mdm_wall_us(NULL);
    from = enqueue->not_before_us > from ? enqueue->not_before_us : from;
    if (value.s == NULL) {
        enqueue->expires_us = life_us > 0 ? from + life_us : 0;
    } else if (rc == MDM_OK && enqueue->expires_us <= from) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "expires is over before the command may be "
                         "delivered");
    }
    return rc;
}

static mdm_rc read_options(mdm_api_call_t *call, mdm_enqueue_t *enqueue,
                           mdm_err_t *err)
{
    mdm_str_t value;
    uint64_t priority = 5;
    bool nopush = false;
    mdm_rc rc;

    rc = mdm_api_flag(call, "nopush", &nopush, err);
    enqueue->push = !nopush;
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "not_before", &value, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_when("not_before", value, &enqueue->not_before_us, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "expires", &value, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_expiry(call, value, enqueue, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "priority", &value, err);
    }
    if (rc == MDM_OK && value.s != NULL &&
        !mdm_parse_u64(value, 9, &priority)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "priority is 0 to 9");
    }
    enqueue->priority = (int)priority;
    return rc;
}

static mdm_rc read_command(mdm_api_call_t *call, mdm_enqueue_t *enqueue,
                           mdm_err_t *err)
{
    const mdm_plist_limits_t *limits = &call->request->location->plist_limits;
    mdm_command_t command;
    mdm_rc rc;

    rc = mdm_http_body(call->request, limits->size, call->arena,
                       &enqueue->body, err);
    if (rc == MDM_OK) {
        rc = mdm_command_parse(enqueue->body, limits, call->arena, &command,
                               err);
    }
    if (rc == MDM_OK) {
        enqueue->uuid = command.uuid;
        enqueue->request_type = command.request_type;
        rc = read_options(call, enqueue, err);
    }
    return rc;
}

static json_t *enqueue_json(const mdm_enqueue_t *enqueue, json_t *status)
{
    json_t *json = json_object();

    json_object_set_new(json, "status", status);
    json_object_set_new(json, "command_uuid", mdm_api_string(enqueue->uuid));
    json_object_set_new(json, "request_type",
                        mdm_api_string(enqueue->request_type));
    if (!enqueue->push) {
        json_object_set_new(json, "no_push", json_true());
    }
    return json;
}

mdm_rc mdm_api_enqueue_run(mdm_api_call_t *call, mdm_enqueue_t *enqueue,
                           mdm_api_targets_t *all, mdm_err_t *err)
{
    int64_t wait_us = 0;
    size_t queued = 0;
    json_t *json;
    int http;
    mdm_rc rc;

    rc = mdm_api_wait_time(call, &wait_us, err);
    if (rc != MDM_OK) {
        return rc;
    }
    rc = mdm_queue_enqueue(call->server->store, enqueue, all->t, all->n,
                           &queued, err);
    if (rc != MDM_OK && rc != MDM_ECONFLICT && queued == 0) {
        return rc;
    }
    if (queued > 0) {
        mdm_dispatch_wake(call->server->dispatch);
        mdm_api_note(call, "queued command", enqueue->uuid);
    }
    if (rc == MDM_ECONFLICT) {
        json = enqueue_json(enqueue, json_object());
        json_object_set_new(json, "command_error", json_string(err->text));
        json_object_set_new(json, "error", json_string(err->text));
        return mdm_api_reply(call, 409, json, err);
    }
    all->answers = mdm_api_wait(call, all->t, all->n, wait_us);
    json = status_json(all, true, enqueue->push, &http);
    return mdm_api_reply(call, http, enqueue_json(enqueue, json), err);
}

mdm_rc mdm_api_enqueue(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_enqueue_t enqueue;
    mdm_api_targets_t all = {NULL, 0, NULL};
    mdm_rc rc;

    memset(&enqueue, 0, sizeof(enqueue));
    rc = read_targets(call, 2, &all, err);
    if (rc == MDM_OK) {
        rc = read_command(call, &enqueue, err);
    }
    return rc == MDM_OK ? mdm_api_enqueue_run(call, &enqueue, &all, err) : rc;
}

mdm_rc mdm_api_push(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_api_targets_t all = {NULL, 0, NULL};
    int64_t wait_us = 0;
    size_t pushed = 0;
    json_t *json = NULL;
    json_t *status;
    int http;
    mdm_rc rc;

    rc = read_targets(call, 2, &all, err);
    if (rc == MDM_OK) {
        rc = mdm_api_wait_time(call, &wait_us, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_queue_push(call->server->store, all.t, all.n, &pushed, err);
    }
    if (rc != MDM_OK && pushed == 0) {
        return rc;
    }
    if (pushed > 0) {
        mdm_dispatch_wake(call->server->dispatch);
    }
    all.answers = mdm_api_wait(call, all.t, all.n, wait_us);
    status = status_json(&all, false, true, &http);
    json = json_object();
    json_object_set_new(json, "status", status);
    return mdm_api_reply(call, http, json, err);
}

/* ---- looking at a command ----------------------------------------------- */

typedef struct command_job {
    mdm_api_call_t *call;
    mdm_str_t uuid;
    int64_t after;
    size_t limit;
    mdm_command_row_t command;
    mdm_queue_row_t *rows;
    size_t n;
} command_job_t;

static mdm_rc read_states(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    command_job_t *job = arg;
    mdm_rc rc;

    rc = mdm_store_command_get(tx, job->uuid, job->call->arena, &job->command,
                               err);
    if (rc == MDM_OK) {
        rc = mdm_store_command_states(tx, job->command.cid, job->after,
                                      job->limit, job->call->arena, job->rows,
                                      &job->n, err);
    }
    return rc;
}

static json_t *state_json(const mdm_queue_row_t *r)
{
    json_t *json = json_object();

    json_object_set_new(json, "state",
                        json_string(mdm_queue_state_name(r->state)));
    json_object_set_new(json, "queued_at", mdm_api_time(r->queued_at));
    json_object_set_new(json, "sent_at", mdm_api_time(r->sent_at));
    json_object_set_new(json, "sent_count", json_integer(r->sent_count));
    json_object_set_new(json, "not_now_count",
                        json_integer(r->not_now_count));
    json_object_set_new(json, "finished_at", mdm_api_time(r->finished_at));
    if (r->damaged) {
        json_object_set_new(json, "damaged", json_true());
    }
    return json;
}

mdm_rc mdm_api_command_get(mdm_api_call_t *call, mdm_err_t *err)
{
    command_job_t job = {.call = call};
    size_t limit = 0;
    json_t *status;
    json_t *json;
    size_t i;
    mdm_rc rc;

    rc = mdm_api_segment(call, 2, &job.uuid, err);
    if (rc == MDM_OK) {
        rc = mdm_api_page(call, &job.after, &limit, err);
    }
    job.limit = limit + 1; /* one more tells whether this is the end */
    if (rc == MDM_OK) {
        job.rows = mdm_arena_alloc(call->arena, job.limit * sizeof(*job.rows));
        rc = job.rows != NULL ? mdm_store_read(call->server->store,
                                               read_states, &job, err)
                              : mdm_err_nomem(err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    status = json_object();
    for (i = 0; i < job.n && i < limit; i++) {
        json_object_set_new(status, job.rows[i].enrollment_id.s,
                            state_json(&job.rows[i]));
    }
    json = json_object();
    json_object_set_new(json, "command_uuid", mdm_api_string(job.uuid));
    json_object_set_new(json, "request_type",
                        mdm_api_string(job.command.request_type));
    json_object_set_new(json, "created_at",
                        mdm_api_time(job.command.created_at));
    json_object_set_new(json, "status", status);
    if (job.n > limit) {
        mdm_api_next(json, job.rows[limit - 1].eid);
    }
    return mdm_api_reply(call, 200, json, err);
}

typedef struct result_job {
    mdm_arena_t *arena;
    mdm_str_t uuid;
    mdm_str_t id;
    mdm_str_t raw;
} result_job_t;

static mdm_rc read_result(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    result_job_t *job = arg;

    return mdm_store_result_get(tx, job->uuid, job->id, job->arena, &job->raw,
                                err);
}

static mdm_rc reply_as_json(mdm_api_call_t *call, mdm_str_t raw,
                            mdm_err_t *err)
{
    mdm_buf_t json;
    mdm_str_t body = MDM_STR_NONE;
    mdm_rc rc;

    mdm_buf_init_secret(&json, JSON_MAX);
    rc = mdm_plist_to_json(raw, &call->request->location->plist_limits, &json,
                           err);
    if (rc == MDM_OK &&
        !mdm_arena_str(call->arena, mdm_buf_str(&json), &body)) {
        rc = mdm_err_nomem(err);
    }
    mdm_buf_clear(&json);
    if (rc == MDM_OK) {
        mdm_http_reply(call->response, 200, "application/json", body);
    } else if (rc == MDM_EINVAL) {
        /* A damaged report: readable as it came only. */
        rc = mdm_err_set(err, MDM_ECONFLICT, 0,
                         "the device's report cannot be shown as JSON; ask "
                         "for application/xml");
    }
    return rc;
}

mdm_rc mdm_api_result_get(mdm_api_call_t *call, mdm_err_t *err)
{
    result_job_t job = {.arena = call->arena};
    mdm_str_t accept = call->request->accept;
    mdm_rc rc;

    rc = mdm_api_segment(call, 2, &job.uuid, err);
    if (rc == MDM_OK) {
        rc = mdm_api_segment(call, 4, &job.id, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, read_result, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (mdm_str_ieq(mdm_http_media_type(accept), "application/json")) {
        return reply_as_json(call, job.raw, err);
    }
    mdm_http_reply(call->response, 200, "application/xml; charset=UTF-8",
                   job.raw);
    return MDM_OK;
}
