/*
 * mdm_api_queue.c - calls on the queue of one enrolment: looking into it and
 * taking commands out of it.  Blocks on the store; any thread.
 */
#include "mdm_api.h"

#include "mdm_queue.h"
#include "mdm_str.h"

typedef struct job {
    mdm_api_call_t *call;
    mdm_str_t id;
    mdm_str_t uuid; /* absent: all */
    mdm_queue_filter_t filter;
    mdm_queue_row_t *rows;
    size_t n;
    int64_t cancelled;
    int64_t now_us;
} job_t;

/* The channel's number.  MDM_ENOTFOUND. */
static mdm_rc find_channel(mdm_tx_t *tx, const job_t *job, int64_t *eid_r,
                           mdm_err_t *err)
{
    mdm_target_t target;
    mdm_rc rc;

    rc = mdm_store_target(tx, job->id, job->call->arena, &target, err);
    if (rc == MDM_OK && target.eid == 0) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    }
    *eid_r = target.eid;
    return rc;
}

/* ---- looking ------------------------------------------------------------ */

static mdm_rc read_list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc;

    rc = find_channel(tx, job, &job->filter.eid, err);
    return rc == MDM_OK ? mdm_store_queue_list(tx, &job->filter,
                                               job->call->arena, job->rows,
                                               &job->n, err)
                        : rc;
}

/* "?state=": one of them, or "active"; without it all. */
static mdm_rc read_state(mdm_api_call_t *call, mdm_queue_filter_t *filter,
                         mdm_err_t *err)
{
    mdm_queue_state_t state;
    mdm_str_t value;
    mdm_rc rc = mdm_api_query(call, "state", &value, err);

    filter->first_state = MDM_QUEUE_QUEUED;
    filter->last_state = MDM_QUEUE_CANCELLED;
    if (rc != MDM_OK || value.s == NULL) {
        return rc;
    }
    if (mdm_str_is(value, "active")) {
        filter->last_state = MDM_QUEUE_NOT_NOW;
        return MDM_OK;
    }
    for (state = MDM_QUEUE_QUEUED; state <= MDM_QUEUE_CANCELLED; state++) {
        if (mdm_str_is(value, mdm_queue_state_name(state))) {
            filter->first_state = state;
            filter->last_state = state;
            return MDM_OK;
        }
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "state is active, or one that a list shows, such as "
                       "not_now");
}

static json_t *row_json(const mdm_queue_row_t *r)
{
    json_t *json = json_object();

    json_object_set_new(json, "command_uuid",
                        mdm_api_string(r->command_uuid));
    json_object_set_new(json, "request_type",
                        mdm_api_string(r->request_type));
    json_object_set_new(json, "state",
                        json_string(mdm_queue_state_name(r->state)));
    json_object_set_new(json, "priority", json_integer(r->priority));
    json_object_set_new(json, "queued_at", mdm_api_time(r->queued_at));
    json_object_set_new(json, "not_before", mdm_api_time(r->not_before));
    json_object_set_new(json, "expires", mdm_api_time(r->expires));
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

mdm_rc mdm_api_queue_list(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    size_t limit = 0;
    json_t *list;
    json_t *json;
    size_t i;
    mdm_rc rc;

    rc = mdm_api_segment(call, 2, &job.id, err);
    if (rc == MDM_OK) {
        rc = mdm_api_page(call, &job.filter.after, &limit, err);
    }
    job.filter.limit = limit + 1; /* one more tells whether this is the end */
    if (rc == MDM_OK) {
        rc = read_state(call, &job.filter, err);
    }
    if (rc == MDM_OK) {
        job.rows = mdm_arena_alloc(call->arena,
                                   job.filter.limit * sizeof(*job.rows));
        rc = job.rows != NULL
                 ? mdm_store_read(call->server->store, read_list, &job, err)
                 : mdm_err_nomem(err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    list = json_array();
    for (i = 0; i < job.n && i < limit; i++) {
        json_array_append_new(list, row_json(&job.rows[i]));
    }
    json = json_object();
    json_object_set_new(json, "commands", list);
    if (job.n > limit) {
        mdm_api_next(json, job.rows[limit - 1].qid);
    }
    return mdm_api_reply(call, 200, json, err);
}

/* ---- taking out --------------------------------------------------------- */

static mdm_rc cancel_one(mdm_tx_t *tx, job_t *job, int64_t eid,
                         mdm_err_t *err)
{
    mdm_queue_state_t state;
    int64_t qid;
    mdm_rc rc;

    rc = mdm_store_queue_find(tx, eid, job->uuid, &qid, &state, err);
    if (rc == MDM_OK && qid == 0) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "this enrolment was not given such a command");
    }
    if (rc == MDM_OK && state >= MDM_QUEUE_ACKNOWLEDGED) {
        rc = mdm_err_set(err, MDM_ECONFLICT, 0,
                         "the command is over already (state %s)",
                         mdm_queue_state_name(state));
    }
    if (rc == MDM_OK) {
        rc = mdm_store_queue_cancel(tx, qid, job->now_us, err);
    }
    job->cancelled = rc == MDM_OK ? 1 : 0;
    return rc;
}

static mdm_rc cancel(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    int64_t eid = 0;
    mdm_rc rc;

    rc = find_channel(tx, job, &eid, err);
    if (rc == MDM_OK) {
        rc = job->uuid.s != NULL
                 ? cancel_one(tx, job, eid, err)
                 : mdm_store_queue_cancel_all(tx, eid, job->now_us,
                                              &job->cancelled, err);
    }
    return rc == MDM_OK ? mdm_store_push_settle(tx, eid, err) : rc;
}

static mdm_rc run_cancel(job_t *job, mdm_err_t *err)
{
    mdm_rc rc;

    job->now_us = mdm_wall_us(NULL);
    rc = mdm_store_write(job->call->server->store, cancel, job, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (job->cancelled > 0) {
        mdm_api_note(job->call,
                     job->uuid.s != NULL ? "cancelled a command of"
                                         : "cleared the queue of",
                     job->id);
    }
    return mdm_api_reply(job->call, 200,
                         json_pack("{s:I}", "cancelled",
                                   (json_int_t)job->cancelled),
                         err);
}

mdm_rc mdm_api_queue_clear(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    mdm_rc rc = mdm_api_segment(call, 2, &job.id, err);

    return rc == MDM_OK ? run_cancel(&job, err) : rc;
}

mdm_rc mdm_api_queue_cancel(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    mdm_rc rc = mdm_api_segment(call, 2, &job.id, err);

    if (rc == MDM_OK) {
        rc = mdm_api_segment(call, 4, &job.uuid, err);
    }
    return rc == MDM_OK ? run_cancel(&job, err) : rc;
}
