/*
 * mdm_api_enrollments.c - calls on enrolments and push certificates.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_pushcert.h"
#include "mdm_str.h"

#define CERT_BODY_MAX (256 * 1024)

/* ---- enrolments --------------------------------------------------------- */

static const char *state_name(mdm_enrollment_state_t state)
{
    switch (state) {
    case MDM_ENROLLMENT_AUTHENTICATING:
        return "authenticating";
    case MDM_ENROLLMENT_ENROLLED:
        return "enrolled";
    case MDM_ENROLLMENT_DISABLED:
        return "disabled";
    }
    return "unknown";
}

static const char *token_name(mdm_token_state_t state)
{
    switch (state) {
    case MDM_TOKEN_NONE:
        return "none";
    case MDM_TOKEN_GOOD:
        return "good";
    case MDM_TOKEN_DEAD:
        return "dead";
    case MDM_TOKEN_FOREIGN:
        return "foreign";
    }
    return "unknown";
}

static json_t *push_json(const mdm_enrollment_t *e)
{
    json_t *json = json_object();

    json_object_set_new(json, "token",
                        json_string(token_name(e->token_state)));
    json_object_set_new(json, "state",
                        json_string(mdm_push_state_name(e->push_state)));
    json_object_set_new(json, "given_up_at",
                        mdm_api_time(e->push_given_up_at));
    json_object_set_new(json, "next_attempt", mdm_api_time(e->push_due_at));
    json_object_set_new(json, "attempts", json_integer(e->push_attempts));
    json_object_set_new(json, "last_sent", mdm_api_time(e->push_last_at));
    json_object_set_new(json, "last_status",
                        e->push_last_at != 0
                            ? json_integer(e->push_last_status)
                            : json_null());
    json_object_set_new(json, "last_reason",
                        mdm_api_string(e->push_last_reason));
    json_object_set_new(json, "apns_id", mdm_api_string(e->push_apns_id));
    return json;
}

static void set(json_t *json, const char *key, mdm_str_t value)
{
    if (value.s != NULL) {
        json_object_set_new(json, key, mdm_api_string(value));
    }
}

static json_t *enrollment_json(const mdm_enrollment_t *e)
{
    json_t *json = json_object();

    set(json, "id", e->id);
    json_object_set_new(json, "type",
                        json_string(mdm_channel_type_name(e->type)));
    if (mdm_channel_is_user(e->type)) {
        set(json, "parent_id", e->device_id);
        set(json, "user_short_name", e->user_short_name);
    }
    json_object_set_new(json, "state", json_string(state_name(e->state)));
    json_object_set_new(json, "enabled",
                        json_boolean(e->state == MDM_ENROLLMENT_ENROLLED));
    set(json, "topic", e->topic);
    set(json, "serial_number", e->serial_number);
    set(json, "device_name", e->device_name);
    set(json, "model", e->model);
    set(json, "model_name", e->model_name);
    set(json, "product_name", e->product_name);
    set(json, "os_version", e->os_version);
    set(json, "build_version", e->build_version);
    json_object_set_new(json, "awaiting_configuration",
                        json_boolean(e->awaiting_configuration));
    json_object_set_new(json, "token_update_tally", json_integer(e->tally));
    json_object_set_new(json, "created_at", mdm_api_time(e->created_at));
    json_object_set_new(json, "authenticated_at",
                        mdm_api_time(e->authenticate_at));
    json_object_set_new(json, "token_updated_at", mdm_api_time(e->token_at));
    json_object_set_new(json, "disabled_at", mdm_api_time(e->disabled_at));
    json_object_set_new(json, "blocked", json_boolean(e->blocked_at != 0));
    json_object_set_new(json, "blocked_at", mdm_api_time(e->blocked_at));
    json_object_set_new(json, "turned_away_at", mdm_api_time(e->told_at));
    json_object_set_new(json, "unlock_token_escrowed",
                        json_boolean(e->has_unlock_token));
    json_object_set_new(json, "bootstrap_token_escrowed",
                        json_boolean(e->has_bootstrap_token));
    json_object_set_new(json, "last_seen", mdm_api_time(e->last_seen));
    json_object_set_new(json, "push", push_json(e));
    return json;
}

typedef struct list_job {
    mdm_arena_t *arena;
    mdm_enrollment_filter_t filter;
    mdm_enrollment_t *rows;
    size_t n;
    int64_t next;
} list_job_t;

static mdm_rc read_list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    list_job_t *job = arg;

    return mdm_store_enrollment_list(tx, &job->filter, job->arena, job->rows,
                                     &job->n, &job->next, err);
}

static mdm_rc read_type(mdm_api_call_t *call, int *type_r, mdm_err_t *err)
{
    mdm_str_t value;
    int type;
    mdm_rc rc = mdm_api_query(call, "type", &value, err);

    *type_r = -1;
    if (rc != MDM_OK || value.s == NULL) {
        return rc;
    }
    for (type = MDM_CHANNEL_DEVICE; type <= MDM_CHANNEL_SHARED_IPAD; type++) {
        if (mdm_str_is(value,
                       mdm_channel_type_name((mdm_channel_type_t)type))) {
            *type_r = type;
            return MDM_OK;
        }
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "type is one that a list shows, such as %s",
                       mdm_channel_type_name(MDM_CHANNEL_DEVICE));
}

static mdm_rc read_push_state(mdm_api_call_t *call, int *state_r,
                              mdm_err_t *err)
{
    mdm_str_t value;
    int i;
    mdm_rc rc = mdm_api_query(call, "push", &value, err);

    *state_r = -1;
    if (rc != MDM_OK || value.s == NULL) {
        return rc;
    }
    for (i = 0; i < (int)MDM_PUSH_STATES; i++) {
        if (mdm_str_is(value, mdm_push_state_name((mdm_push_state_t)i))) {
            *state_r = i;
            return MDM_OK;
        }
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "push is a state that a list shows, such as %s",
                       mdm_push_state_name(MDM_PUSH_STATE_GIVEN_UP));
}

static mdm_rc read_filter(mdm_api_call_t *call, mdm_enrollment_filter_t *f,
                          mdm_err_t *err)
{
    mdm_str_t value;
    bool enabled = false;
    mdm_rc rc;

    rc = mdm_api_page(call, &f->after, &f->limit, err);
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "serial", &f->serial, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "q", &f->text, err);
    }
    if (rc == MDM_OK) {
        rc = read_type(call, &f->type, err);
    }
    if (rc == MDM_OK) {
        rc = read_push_state(call, &f->push, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "enabled", &value, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_flag(call, "enabled", &enabled, err);
        f->enabled = value.s == NULL ? -1 : enabled ? 1 : 0;
    }
    return rc;
}

mdm_rc mdm_api_enrollment_list(mdm_api_call_t *call, mdm_err_t *err)
{
    list_job_t job = {.arena = call->arena};
    json_t *list;
    json_t *json;
    size_t i;
    mdm_rc rc;

    rc = read_filter(call, &job.filter, err);
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
    for (i = 0; i < job.n; i++) {
        json_array_append_new(list, enrollment_json(&job.rows[i]));
    }
    json = json_object();
    json_object_set_new(json, "enrollments", list);
    if (job.next != 0) {
        mdm_api_next(json, job.next);
    }
    return mdm_api_reply(call, 200, json, err);
}

typedef struct get_job {
    mdm_arena_t *arena;
    mdm_str_t id;
    mdm_enrollment_t row;
} get_job_t;

static mdm_rc read_one(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    get_job_t *job = arg;

    return mdm_store_enrollment_get(tx, job->id, job->arena, &job->row, err);
}

mdm_rc mdm_api_enrollment_get(mdm_api_call_t *call, mdm_err_t *err)
{
    get_job_t job = {.arena = call->arena};
    json_t *commands;
    json_t *identity;
    json_t *json;
    mdm_rc rc;

    rc = mdm_api_segment(call, 2, &job.id, err);
    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, read_one, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    json = enrollment_json(&job.row);
    commands = json_object();
    json_object_set_new(commands, "queued", json_integer(job.row.commands[0]));
    json_object_set_new(commands, "sent", json_integer(job.row.commands[1]));
    json_object_set_new(commands, "not_now",
                        json_integer(job.row.commands[2]));
    json_object_set_new(json, "commands", commands);
    if (job.row.identity_sha256[0] != '\0') {
        identity = json_object();
        json_object_set_new(identity, "sha256",
                            json_string(job.row.identity_sha256));
        json_object_set_new(identity, "not_after",
                            mdm_api_time(job.row.identity_not_after));
        json_object_set_new(json, "identity_certificate", identity);
    }
    return mdm_api_reply(call, 200, json, err);
}

/* ---- push certificates -------------------------------------------------- */

static json_t *cert_json(mdm_str_t topic, int64_t not_after_us)
{
    json_t *json = json_object();

    json_object_set_new(json, "topic", mdm_api_string(topic));
    json_object_set_new(json, "not_after", mdm_api_time(not_after_us));
    return json;
}

mdm_rc mdm_api_pushcert_put(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_pushcert_import_t how = {.source = MDM_PUSHCERT_API};
    mdm_keypair_t pair;
    mdm_str_t body;
    bool stored = false;
    mdm_rc rc;

    how.topic_change = call->server->config->push_topic_change;
    rc = mdm_api_flag(call, "force", &how.force, err);
    if (rc == MDM_OK) {
        rc = mdm_http_body(call->request, CERT_BODY_MAX, call->arena, &body,
                           err);
    }
    if (rc == MDM_OK) {
        rc = mdm_pushcert_read(call->server->store, body,
                               call->request->key_passphrase.n > 0
                                   ? call->request->key_passphrase
                                   : MDM_STR_NONE,
                               call->arena, &pair, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_pushcert_import(call->server->store, &pair, &how, &stored,
                                 err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (stored) {
        mdm_dispatch_wake(call->server->dispatch);
        mdm_log_msg(call->request->log, MDM_LOG_NOTICE,
                    MDM_MSG_PUSH_CERTIFICATE_STORED,
                    "a push certificate of %.*s was stored",
                    MDM_STR_ARG(pair.topic));
        mdm_api_note(call, "stored push certificate", pair.topic);
    }
    return mdm_api_reply(call, 200, cert_json(pair.topic, pair.not_after_us),
                         err);
}

typedef struct cert_job {
    mdm_arena_t *arena;
    mdm_str_t topic;
    mdm_pushcert_row_t row;
    bool resumed;
} cert_job_t;

static mdm_rc read_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_job_t *job = arg;

    return mdm_store_pushcert_get(tx, job->topic, job->arena, &job->row, err);
}

static mdm_rc read_topic(mdm_api_call_t *call, mdm_str_t *topic_r,
                         mdm_err_t *err)
{
    mdm_rc rc = mdm_api_query(call, "topic", topic_r, err);

    return rc == MDM_OK && topic_r->n == 0
               ? mdm_err_set(err, MDM_EINVAL, 0,
                             "say which: ?topic=com.apple.mgmt....")
               : rc;
}

mdm_rc mdm_api_pushcert_get(mdm_api_call_t *call, mdm_err_t *err)
{
    cert_job_t job = {.arena = call->arena};
    json_t *json;
    mdm_rc rc;

    rc = read_topic(call, &job.topic, err);
    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, read_cert, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    json = cert_json(job.row.topic, job.row.not_after_us);
    json_object_set_new(json, "accepted_at",
                        mdm_api_time(job.row.accepted_at));
    if (job.row.suspended.s != NULL) {
        json_object_set_new(json, "suspended",
                            mdm_api_string(job.row.suspended));
        json_object_set_new(json, "suspended_at",
                            mdm_api_time(job.row.suspended_at));
    }
    return mdm_api_reply(call, 200, json, err);
}

static mdm_rc resume_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_job_t *job = arg;
    mdm_rc rc = read_cert(tx, job, err);

    return rc == MDM_OK ? mdm_store_pushcert_resume(tx, job->topic,
                                                    &job->resumed, err)
                        : rc;
}

mdm_rc mdm_api_pushcert_resume(mdm_api_call_t *call, mdm_err_t *err)
{
    cert_job_t job = {.arena = call->arena};
    mdm_rc rc;

    rc = read_topic(call, &job.topic, err);
    if (rc == MDM_OK) {
        rc = mdm_store_write(call->server->store, resume_cert, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (job.resumed) {
        mdm_dispatch_wake(call->server->dispatch);
        mdm_api_note(call, "resumed the pushes of", job.topic);
    }
    return mdm_api_reply(call, 200,
                         json_pack("{s:o, s:b}", "topic",
                                   mdm_api_string(job.topic), "resumed",
                                   job.resumed ? 1 : 0),
                         err);
}
