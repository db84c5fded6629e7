/*
 * mdm_api_wait.c - ?wait= of calls that push: what APNs said, in words.
 * Any request thread, which it keeps for as long as the caller asked for.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_str.h"

/* With what the call does before: less than the 60 seconds of nginx's timer. */
#define WAIT_MAX_US (30 * MDM_SEC)

mdm_rc mdm_api_wait_time(mdm_api_call_t *call, int64_t *time_r,
                         mdm_err_t *err)
{
    mdm_str_t value;
    mdm_rc rc = mdm_api_query(call, "wait", &value, err);

    *time_r = 0;
    if (rc == MDM_OK && value.s != NULL &&
        (!mdm_parse_duration(value, time_r) || *time_r > WAIT_MAX_US)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "wait is a duration of at most 30s, such as 5s");
    }
    return rc;
}

mdm_wait_answer_t *mdm_api_wait(mdm_api_call_t *call,
                                const mdm_target_result_t *targets, size_t n,
                                int64_t time_us)
{
    const mdm_host_t *host = call->server->host;
    mdm_wait_t wait = {.store = call->server->store,
                       .dispatch = call->server->dispatch,
                       .stopping = host->stopping,
                       .stopping_ctx = host->ctx,
                       .time_us = time_us,
                       .targets = targets,
                       .n = n};
    mdm_err_t err;

    wait.answers = time_us > 0 ? mdm_arena_alloc(call->arena,
                                                 n * sizeof(*wait.answers))
                               : NULL;
    if (wait.answers == NULL) {
        return NULL;
    }
    memset(wait.answers, 0, n * sizeof(*wait.answers));
    if (mdm_edge_may_wait(call->server)) {
        if (mdm_wait_run(&wait, call->arena, &err) != MDM_OK) {
            mdm_log_info(call->request->log, "did not wait: %s", err.text);
        }
        mdm_edge_waited(call->server);
    }
    return wait.answers;
}

/* NanoMDM's words, where it has some. */
static json_t *error_json(const mdm_wait_answer_t *a)
{
    if (a->status == 0) {
        return json_sprintf("push failed, no answer of APNs: %s", a->reason);
    }
    if (a->reason[0] == '\0') {
        return json_sprintf("push HTTP status: %d", a->status);
    }
    if (a->timestamp_ms > 0) {
        return json_sprintf("push HTTP status: %d: APNs push error: %s: "
                            "timestamp %lld",
                            a->status, a->reason, (long long)a->timestamp_ms);
    }
    return json_sprintf("push HTTP status: %d: APNs push error: %s", a->status,
                        a->reason);
}

static void set_error(json_t *json, json_t *text, bool pending)
{
    json_object_set_new(json, "push_error", text);
    if (pending) {
        json_object_set_new(json, "push_pending", json_true());
    }
}

bool mdm_api_wait_json(json_t *json, const mdm_target_result_t *target,
                       const mdm_wait_answer_t *a)
{
    const char *id = target->ticket.apns_id;

    switch (a->verdict) {
    case MDM_WAIT_PENDING:
        json_object_set_new(json, "push_pending", json_true());
        break;
    case MDM_WAIT_ACCEPTED:
        id = a->apns_id;
        break;
    case MDM_WAIT_NOT_NEEDED:
        json_object_set_new(json, "push_note",
                            json_string("not needed: the device came, or "
                                        "nothing waits for it any more"));
        break;
    case MDM_WAIT_REFUSED:
    case MDM_WAIT_FAILED:
        set_error(json, error_json(a), a->verdict == MDM_WAIT_FAILED);
        return true;
    case MDM_WAIT_STOPPED:
        set_error(json,
                  json_sprintf("APNs refuses the push certificate: %s",
                               a->reason),
                  true);
        return true;
    case MDM_WAIT_NO_CERT:
        set_error(json,
                  json_string("no push certificate of the topic is stored"),
                  true);
        return true;
    case MDM_WAIT_DROPPED:
        set_error(json,
                  json_string("dropped: the device enrols anew or has left"),
                  false);
        return true;
    }
    json_object_set_new(json, "push_result", json_string(id));
    return false;
}
