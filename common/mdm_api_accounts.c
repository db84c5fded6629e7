/*
 * mdm_api_accounts.c - calls on what comes before an enrolment: log-ins of
 * users with their tokens, and devices that introduced themselves.  Blocks on
 * the store; any thread.
 */
#include "mdm_api.h"

#include "mdm_account.h"
#include "mdm_str.h"

typedef struct job {
    mdm_api_call_t *call;
    mdm_str_t account; /* absent: all */
    int64_t after;
    size_t limit;
    mdm_account_token_t *tokens;
    mdm_introduction_t *introductions;
    size_t n;
} job_t;

static void put(json_t *json, const char *name, mdm_str_t text)
{
    json_object_set_new(json, name, mdm_api_string(text));
}

/* ---- tokens ------------------------------------------------------------- */

static mdm_rc read_tokens(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_token_list(tx, job->account, job->after, job->limit,
                                job->call->arena, job->tokens, &job->n, err);
}

static const char *state_of(const mdm_account_token_t *row)
{
    return row->revoked_at != 0 ? "revoked"
           : row->expires_at != 0 && row->expires_at <= mdm_wall_us(NULL)
               ? "expired"
           : row->used_at != 0 ? "in use"
                               : "unused";
}

static json_t *token_json(const mdm_account_token_t *row)
{
    json_t *json = json_object();

    json_object_set_new(json, "id", json_integer(row->tid));
    put(json, "account", row->account);
    json_object_set_new(json, "state", json_string(state_of(row)));
    put(json, "enrollment_id", row->device_id);
    json_object_set_new(json, "created_at", mdm_api_time(row->created_at));
    json_object_set_new(json, "used_at", mdm_api_time(row->used_at));
    json_object_set_new(json, "expires_at", mdm_api_time(row->expires_at));
    json_object_set_new(json, "revoked_at", mdm_api_time(row->revoked_at));
    return json;
}

/* The page of a list, and where the next one begins. */
static mdm_rc reply_list(const job_t *job, const char *name, json_t *list,
                         int64_t last, mdm_err_t *err)
{
    json_t *json = json_object();

    json_object_set_new(json, name, list);
    if (job->n == job->limit) {
        mdm_api_next(json, last);
    }
    return mdm_api_reply(job->call, 200, json, err);
}

mdm_rc mdm_api_token_list(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    json_t *list;
    mdm_rc rc;
    size_t i;

    rc = mdm_api_page(call, &job.after, &job.limit, err);
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "account", &job.account, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    job.tokens = mdm_arena_alloc(call->arena,
                                 job.limit * sizeof(*job.tokens));
    if (job.tokens == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_read(call->server->store, read_tokens, &job, err);
    if (rc != MDM_OK) {
        return rc;
    }
    list = json_array();
    for (i = 0; i < job.n; i++) {
        json_array_append_new(list, token_json(&job.tokens[i]));
    }
    return reply_list(&job, "tokens", list,
                      job.n > 0 ? job.tokens[job.n - 1].tid : 0, err);
}

static mdm_rc revoke(mdm_api_call_t *call, int64_t tid, mdm_str_t account,
                     mdm_err_t *err)
{
    int64_t n = 0;
    mdm_rc rc;

    rc = mdm_account_revoke(call->server->store, tid, account, &n, err);
    if (rc == MDM_OK && n > 0) {
        mdm_api_note(call, "revoked tokens of",
                     tid != 0 ? call->segments[2] : account);
    }
    return rc == MDM_OK
               ? mdm_api_reply(call, 200,
                               json_pack("{s:I}", "revoked", (json_int_t)n),
                               err)
               : rc;
}

mdm_rc mdm_api_token_revoke(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_str_t text;
    uint64_t tid;
    mdm_rc rc = mdm_api_segment(call, 2, &text, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (!mdm_parse_u64(text, INT64_MAX, &tid) || tid == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the id of a token is a number, as the list shows "
                           "it");
    }
    return revoke(call, (int64_t)tid, MDM_STR_NONE, err);
}

mdm_rc mdm_api_token_revoke_account(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_str_t account;
    mdm_rc rc = mdm_api_query(call, "account", &account, err);

    if (rc == MDM_OK && account.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "name the account: ?account=anna%%40example.com");
    }
    return rc == MDM_OK ? revoke(call, 0, account, err) : rc;
}

/* ---- introductions ------------------------------------------------------ */

static mdm_rc read_introductions(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_introduction_list(tx, job->after, job->limit,
                                       job->call->arena, job->introductions,
                                       &job->n, err);
}

static json_t *introduction_json(const mdm_introduction_t *row)
{
    json_t *json = json_object();

    json_object_set_new(json, "verified", json_boolean(row->verified));
    put(json, "flow", row->flow);
    put(json, "answer", row->answer);
    put(json, "account", row->account);
    put(json, "serial_number", row->serial);
    put(json, "udid", row->udid);
    put(json, "product_name", row->product);
    put(json, "os_version", row->os_version);
    put(json, "build_version", row->build);
    put(json, "language", row->language);
    put(json, "address", row->peer);
    json_object_set_new(json, "first_at", mdm_api_time(row->first_at));
    json_object_set_new(json, "last_at", mdm_api_time(row->last_at));
    json_object_set_new(json, "count", json_integer(row->count));
    return json;
}

mdm_rc mdm_api_introduction_list(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    json_t *list;
    mdm_rc rc;
    size_t i;

    rc = mdm_api_page(call, &job.after, &job.limit, err);
    if (rc != MDM_OK) {
        return rc;
    }
    job.introductions = mdm_arena_alloc(
        call->arena, job.limit * sizeof(*job.introductions));
    if (job.introductions == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_read(call->server->store, read_introductions, &job, err);
    if (rc != MDM_OK) {
        return rc;
    }
    list = json_array();
    for (i = 0; i < job.n; i++) {
        json_array_append_new(list,
                              introduction_json(&job.introductions[i]));
    }
    return reply_list(&job, "introductions", list,
                      job.n > 0 ? job.introductions[job.n - 1].number : 0,
                      err);
}
