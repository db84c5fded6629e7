/*
 * mdm_api_events.c - the call that reads the feed of events.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_store_event.h"
#include "mdm_str.h"

#define PAGE_MAX 1000
#define PAGE_PRESET 100

typedef struct job {
    int64_t after;
    size_t limit;
    mdm_arena_t *arena;
    mdm_event_row_t *rows;
    size_t n;
} job_t;

static mdm_rc read_events(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_event_list(tx, job->after, job->arena, job->rows,
                                job->limit, &job->n, err);
}

/* What is the same for all events, and what this one says. */
static json_t *row_json(const mdm_event_row_t *r)
{
    const mdm_event_t *e = &r->event;
    json_t *json = json_pack("{s:I, s:o, s:o, s:o, s:o}", "id",
                             (json_int_t)r->seq, "event_id",
                             mdm_api_string(r->uuid), "topic",
                             mdm_api_string(e->topic), "created_at",
                             mdm_api_time(r->created_at), "enrollment_id",
                             mdm_api_string(e->enrollment_id));
    json_t *body = e->body.s != NULL
                       ? json_loadb(e->body.s, e->body.n, 0, NULL)
                       : NULL;

    if (body != NULL) {
        (void)json_object_update_missing(json, body);
        json_decref(body);
    } else {
        (void)json_object_set_new(json, "damaged", json_true());
    }
    return json;
}

static mdm_rc read_number(mdm_api_call_t *call, const char *name,
                          uint64_t least, uint64_t most, uint64_t *n_r,
                          mdm_err_t *err)
{
    mdm_str_t value;
    mdm_rc rc = mdm_api_query(call, name, &value, err);

    if (rc == MDM_OK && value.s != NULL &&
        (!mdm_parse_u64(value, most, n_r) || *n_r < least)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s is a number from %llu to %llu", name,
                           (unsigned long long)least,
                           (unsigned long long)most);
    }
    return rc;
}

mdm_rc mdm_api_event_list(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.arena = call->arena};
    uint64_t after = 0;
    uint64_t limit = PAGE_PRESET;
    json_t *list;
    json_t *json;
    size_t i;
    mdm_rc rc;

    rc = read_number(call, "after", 0, INT64_MAX, &after, err);
    if (rc == MDM_OK) {
        rc = read_number(call, "limit", 1, PAGE_MAX, &limit, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    job.after = (int64_t)after;
    job.limit = (size_t)limit;
    job.rows = mdm_arena_alloc(call->arena, job.limit * sizeof(*job.rows));
    rc = job.rows != NULL
             ? mdm_store_read(call->server->store, read_events, &job, err)
             : mdm_err_nomem(err);
    if (rc != MDM_OK) {
        return rc;
    }
    list = json_array();
    for (i = 0; i < job.n; i++) {
        (void)json_array_append_new(list, row_json(&job.rows[i]));
    }
    json = json_pack("{s:o, s:I}", "events", list, "last",
                     (json_int_t)(job.n > 0 ? job.rows[job.n - 1].seq
                                            : job.after));
    return mdm_api_reply(call, 200, json, err);
}
