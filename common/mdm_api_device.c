/*
 * mdm_api_device.c - calls about one device: shutting it out, what it has
 * escrowed, and its move from another server.
 */
#include "mdm_api.h"

#include "mdm_checkin.h"
#include "mdm_enroll.h"
#include "mdm_plist.h"
#include "mdm_str.h"

/* ---- block, unblock ----------------------------------------------------- */

static mdm_rc block(mdm_api_call_t *call, bool on, mdm_err_t *err)
{
    bool changed = false;
    mdm_str_t id;
    mdm_rc rc = mdm_api_segment(call, 2, &id, err);

    if (rc == MDM_OK) {
        rc = mdm_enroll_block(call->server->store, id, on, &changed, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (changed) {
        mdm_api_note(call, on ? "blocked" : "unblocked", id);
        mdm_dispatch_wake(call->server->dispatch);
    }
    return mdm_api_reply(call, 200,
                         json_pack("{s:o, s:b}", "id", mdm_api_string(id),
                                   "blocked", on ? 1 : 0),
                         err);
}

mdm_rc mdm_api_block(mdm_api_call_t *call, mdm_err_t *err)
{
    return block(call, true, err);
}

mdm_rc mdm_api_unblock(mdm_api_call_t *call, mdm_err_t *err)
{
    return block(call, false, err);
}

/* ---- escrowed secrets --------------------------------------------------- */

typedef struct job {
    mdm_str_t id;
    mdm_secret_t which;
    mdm_arena_t *arena; /* wipes */
    mdm_str_t value;
} job_t;

static mdm_rc read_secret(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_target_t target;
    mdm_rc rc = mdm_store_target(tx, job->id, job->arena, &target, err);

    if (rc == MDM_OK && target.eid == 0) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    }
    if (rc == MDM_OK) {
        rc = mdm_store_secret_get(tx, target.eid, job->which, job->arena,
                                  &job->value, err);
    }
    if (rc == MDM_OK && job->value.s == NULL) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "the device has escrowed none");
    }
    return rc;
}

/* Written by hand, as jansson keeps copies that nobody wipes. */
static mdm_rc reply_secret(mdm_api_call_t *call, const char *key,
                           mdm_str_t value, mdm_err_t *err)
{
    size_t n = MDM_BASE64_SIZE(value.n);
    char *text = mdm_arena_alloc(call->arena, n);
    mdm_str_t body;

    if (text == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_base64_encode(value.s, value.n, text);
    body.s = mdm_arena_printf(call->arena, "{\n \"%s\": \"%s\"\n}\n", key,
                              text);
    if (body.s == NULL) {
        return mdm_err_nomem(err);
    }
    body = mdm_str_from(body.s);
    mdm_http_header(call->response, "Cache-Control", "no-store");
    mdm_http_reply(call->response, 200, "application/json", body);
    return MDM_OK;
}

mdm_rc mdm_api_secret_get(mdm_api_call_t *call, mdm_err_t *err)
{
    static const struct {
        const char *path;
        const char *key;
        mdm_secret_t which;
    } secrets[] = {
        {"unlock-token", "unlock_token", MDM_SECRET_UNLOCK_TOKEN},
        {"bootstrap-token", "bootstrap_token", MDM_SECRET_BOOTSTRAP_TOKEN},
    };
    job_t job = {.arena = call->arena};
    char name[64];
    char id[160];
    size_t i = 0;
    mdm_rc rc;

    while (i < MDM_ARRAY_LEN(secrets) &&
           !mdm_str_is(call->segments[4], secrets[i].path)) {
        i++;
    }
    if (i == MDM_ARRAY_LEN(secrets)) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "there are unlock-token and bootstrap-token");
    }
    job.which = secrets[i].which;
    rc = mdm_api_segment(call, 2, &job.id, err);
    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, read_secret, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_log_msg(call->request->log, MDM_LOG_NOTICE, MDM_MSG_API_SECRET_READ,
                "%s of %s read by token \"%s\"", secrets[i].path,
                mdm_str_printable(job.id, id, sizeof(id)),
                mdm_str_printable(call->token->name, name, sizeof(name)));
    return reply_secret(call, secrets[i].key, job.value, err);
}

/* ---- migration ---------------------------------------------------------- */

mdm_rc mdm_api_migration(mdm_api_call_t *call, mdm_err_t *err)
{
    const mdm_config_t *location = call->request->location;
    mdm_enroll_result_t result;
    mdm_checkin_t msg;
    mdm_str_t body;
    mdm_rc rc;

    if (!location->migration) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "migration is off; set MDMMigration "
                           "(mdm_migration) on at this location while "
                           "enrolments are moved");
    }
    rc = mdm_http_body(call->request, location->plist_limits.size, call->arena,
                       &body, err);
    if (rc == MDM_OK) {
        rc = mdm_checkin_parse(body, &location->plist_limits, call->arena,
                               &msg, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_enroll_import(call->server->store, &msg, body, &result, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (result.push_due) {
        mdm_dispatch_wake(call->server->dispatch);
    }
    mdm_api_note(call, "migrated", msg.channel.id);
    return mdm_api_reply(call, 200,
                         json_pack("{s:o}", "id",
                                   mdm_api_string(msg.channel.id)),
                         err);
}
