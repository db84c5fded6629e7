/*
 * mdm_api.c - the administration API: credentials, routes, JSON answers.
 * Blocks on the store; any thread.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_auth.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define PAGE_PRESET 100
#define PAGE_MAX 1000

enum { GET = 1, PUT = 2, POST = 4, DELETE = 8 };

/* "*" stands for one segment. */
static const struct {
    const char *path;
    unsigned methods;
    const char *allow;
    unsigned scope;
    mdm_api_fn *fn;
} routes[] = {
    {"v1/status", GET, "GET", MDM_MAY_READ, mdm_api_status_get},
    {"v1/events", GET, "GET", MDM_MAY_SECRETS, mdm_api_event_list},
    {"v1/enqueue/*", PUT | POST, "PUT, POST", MDM_MAY_COMMAND,
     mdm_api_enqueue},
    {"v1/push/*", GET | PUT | POST, "GET, PUT, POST", MDM_MAY_COMMAND,
     mdm_api_push},
    {"v1/pushcert", GET, "GET, PUT", MDM_MAY_READ,
     mdm_api_pushcert_get},
    {"v1/pushcert", PUT, "GET, PUT", MDM_MAY_ADMIN,
     mdm_api_pushcert_put},
    {"v1/pushcert/resume", POST, "POST", MDM_MAY_ADMIN,
     mdm_api_pushcert_resume},
    {"v1/enrollments", GET, "GET", MDM_MAY_READ,
     mdm_api_enrollment_list},
    {"v1/enrollments/*", GET, "GET", MDM_MAY_READ,
     mdm_api_enrollment_get},
    {"v1/enrollments/*/block", POST, "POST", MDM_MAY_ADMIN, mdm_api_block},
    {"v1/enrollments/*/unblock", POST, "POST", MDM_MAY_ADMIN,
     mdm_api_unblock},
    {"v1/enrollments/*/secrets/*", GET, "GET", MDM_MAY_SECRETS,
     mdm_api_secret_get},
    {"v1/account-tokens", GET, "GET, DELETE", MDM_MAY_READ,
     mdm_api_token_list},
    {"v1/account-tokens", DELETE, "GET, DELETE", MDM_MAY_ADMIN,
     mdm_api_token_revoke_account},
    {"v1/account-tokens/*", DELETE, "DELETE", MDM_MAY_ADMIN,
     mdm_api_token_revoke},
    {"v1/introductions", GET, "GET", MDM_MAY_READ,
     mdm_api_introduction_list},
    {"v1/escrowkeyunlock", POST, "POST", MDM_MAY_COMMAND,
     mdm_api_escrow_key_unlock},
    {"migration", PUT, "PUT", MDM_MAY_ADMIN, mdm_api_migration},
    {"v1/enrollments/*/commands", GET, "GET, DELETE", MDM_MAY_READ,
     mdm_api_queue_list},
    {"v1/enrollments/*/commands", DELETE, "GET, DELETE", MDM_MAY_COMMAND,
     mdm_api_queue_clear},
    {"v1/enrollments/*/commands/*", DELETE, "DELETE", MDM_MAY_COMMAND,
     mdm_api_queue_cancel},
    {"v1/scep/challenges", POST, "POST", MDM_MAY_ADMIN,
     mdm_api_challenge_make},
    {"v1/scep/authorities", GET, "GET, POST", MDM_MAY_READ,
     mdm_api_authority_list},
    {"v1/scep/authorities", POST, "GET, POST", MDM_MAY_ADMIN,
     mdm_api_authority_prepare},
    {"v1/scep/authorities/activate", POST, "POST", MDM_MAY_ADMIN,
     mdm_api_authority_promote},
    {"v1/scep/certificates", GET, "GET", MDM_MAY_READ, mdm_api_issued_list},
    {"v1/scep/certificates/*", GET, "GET", MDM_MAY_READ, mdm_api_issued_get},
    {"v1/scep/certificates/*/revoke", POST, "POST", MDM_MAY_ADMIN,
     mdm_api_issued_revoke},
    {"v1/commands", POST, "POST", MDM_MAY_COMMAND, mdm_api_command_post},
    {"v1/commands/*", GET, "GET", MDM_MAY_READ,
     mdm_api_command_get},
    {"v1/commands/*/results/*", GET, "GET", MDM_MAY_READ,
     mdm_api_result_get},
};

mdm_rc mdm_api_reply(mdm_api_call_t *call, int status, json_t *json,
                     mdm_err_t *err)
{
    json_free_t free_json;
    mdm_str_t body;
    char *dump;

    dump = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (dump == NULL) {
        return mdm_err_nomem(err);
    }
    body.s = mdm_arena_printf(call->arena, "%s\n", dump);
    body.n = strlen(dump) + 1;
    json_get_alloc_funcs(NULL, &free_json);
    free_json(dump);
    if (body.s == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_http_reply(call->response, status, "application/json", body);
    return MDM_OK;
}

json_t *mdm_api_string(mdm_str_t text)
{
    json_t *json = text.s != NULL ? json_stringn(text.s, text.n) : NULL;

    return json != NULL ? json : json_null();
}

json_t *mdm_api_time(int64_t wall_us)
{
    char text[MDM_RFC3339_SIZE];

    if (wall_us == 0) {
        return json_null();
    }
    mdm_time_format(wall_us, text);
    return json_string(text);
}

mdm_rc mdm_api_segment(mdm_api_call_t *call, size_t index, mdm_str_t *text_r,
                       mdm_err_t *err)
{
    return mdm_http_decode(call->segments[index], call->arena, text_r, err);
}

mdm_rc mdm_api_query(mdm_api_call_t *call, const char *name,
                     mdm_str_t *value_r, mdm_err_t *err)
{
    return mdm_http_query(call->request->target, name, call->arena, value_r,
                          err);
}

mdm_rc mdm_api_moment(mdm_str_t value, const char *name, int64_t *us_r,
                      mdm_err_t *err)
{
    if (mdm_time_parse(value, us_r)) {
        return MDM_OK;
    }
    if (mdm_parse_duration(value, us_r)) {
        *us_r += mdm_wall_us(NULL);
        return MDM_OK;
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "%s is a time (2026-01-31T12:00:00Z) or a duration "
                       "(4h)",
                       name);
}

mdm_rc mdm_api_flag(mdm_api_call_t *call, const char *name, bool *value_r,
                    mdm_err_t *err)
{
    mdm_str_t value;
    mdm_rc rc = mdm_api_query(call, name, &value, err);

    *value_r = value.s != NULL &&
               (value.n == 0 || mdm_str_is(value, "1") ||
                mdm_str_ieq(value, "true") || mdm_str_ieq(value, "on"));
    if (rc == MDM_OK && value.s != NULL && !*value_r &&
        !mdm_str_is(value, "0") && !mdm_str_ieq(value, "false") &&
        !mdm_str_ieq(value, "off")) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is 1 or 0", name);
    }
    return rc;
}

mdm_rc mdm_api_page(mdm_api_call_t *call, int64_t *after_r, size_t *limit_r,
                    mdm_err_t *err)
{
    mdm_str_t value;
    uint64_t n;
    mdm_rc rc;

    *after_r = 0;
    *limit_r = PAGE_PRESET;
    rc = mdm_api_query(call, "cursor", &value, err);
    if (rc == MDM_OK && value.n > 0) {
        if (!mdm_parse_u64(value, INT64_MAX, &n)) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "cursor is what next_cursor of the page before "
                               "said");
        }
        *after_r = (int64_t)n;
    }
    if (rc == MDM_OK) {
        rc = mdm_api_query(call, "limit", &value, err);
    }
    if (rc == MDM_OK && value.s != NULL) {
        if (!mdm_parse_u64(value, PAGE_MAX, &n) || n == 0) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "limit is a number from 1 to %d", PAGE_MAX);
        }
        *limit_r = (size_t)n;
    }
    return rc;
}

void mdm_api_next(json_t *json, int64_t cursor)
{
    json_object_set_new(json, "next_cursor",
                        json_sprintf("%lld", (long long)cursor));
}

void mdm_api_note(mdm_api_call_t *call, const char *what, mdm_str_t of)
{
    char name[64];
    char detail[160];

    mdm_log_msg(call->request->log, MDM_LOG_NOTICE, MDM_MSG_API_CHANGE,
                "%s %s by token \"%s\"", what,
                mdm_str_printable(of, detail, sizeof(detail)),
                mdm_str_printable(call->token->name, name, sizeof(name)));
}

/* The raw path below the location, without its query. */
static mdm_rc split_path(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_str_t rest = call->request->target;
    mdm_str_t path = mdm_str_split(&rest, '?');
    const char *prefix = call->request->location->path;
    size_t n = prefix != NULL ? strlen(prefix) : 0;

    while (n > 0 && prefix[n - 1] == '/') {
        n--;
    }
    if (path.n < n || (n > 0 && memcmp(path.s, prefix, n) != 0) ||
        (path.n > n && path.s[n] != '/')) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0, "no such call");
    }
    path.s += n;
    path.n -= n;
    if (path.n > 0) {
        path.s++;
        path.n--;
    }
    while (path.s != NULL) {
        if (call->nsegments == MDM_API_SEGMENTS_MAX) {
            return mdm_err_set(err, MDM_ENOTFOUND, 0, "no such call");
        }
        call->segments[call->nsegments++] = mdm_str_split(&path, '/');
    }
    return MDM_OK;
}

static bool matches(const mdm_api_call_t *call, const char *pattern)
{
    mdm_str_t rest = mdm_str_from(pattern);
    mdm_str_t part;
    size_t i;

    for (i = 0; i < call->nsegments && rest.s != NULL; i++) {
        part = mdm_str_split(&rest, '/');
        if (mdm_str_is(part, "*") ? call->segments[i].n == 0
                                  : !mdm_str_eq(part, call->segments[i])) {
            return false;
        }
    }
    return i == call->nsegments && rest.s == NULL && i > 0;
}

static unsigned method_bit(mdm_str_t method)
{
    return mdm_str_is(method, "GET")      ? GET
           : mdm_str_is(method, "PUT")    ? PUT
           : mdm_str_is(method, "POST")   ? POST
           : mdm_str_is(method, "DELETE") ? DELETE
                                          : 0U;
}

static mdm_rc dispatch_call(mdm_api_call_t *call, mdm_err_t *err)
{
    unsigned method = method_bit(call->request->method);
    const char *allow = NULL;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(routes); i++) {
        if (!matches(call, routes[i].path)) {
            continue;
        }
        if ((routes[i].methods & method) != 0) {
            if ((call->token->scopes & routes[i].scope) == 0) {
                return mdm_err_set(err, MDM_EDENIED, 0,
                                   "this token's scopes do not allow the "
                                   "call");
            }
            return routes[i].fn(call, err);
        }
        allow = routes[i].allow;
    }
    if (allow == NULL) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0, "no such call");
    }
    mdm_http_header(call->response, "Allow", allow);
    return mdm_err_set(err, MDM_EMETHOD, 0, "this call takes %s", allow);
}

static mdm_rc version(mdm_api_call_t *call, mdm_err_t *err)
{
    if (method_bit(call->request->method) != GET) {
        mdm_http_header(call->response, "Allow", "GET");
        return mdm_err_set(err, MDM_EMETHOD, 0, "this call takes GET");
    }
    return mdm_api_reply(call, 200,
                         json_pack("{s:s}", "version", mdm_version()), err);
}

static mdm_rc serve(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_rc rc = split_path(call, err);

    if (rc == MDM_OK && matches(call, "version")) {
        return version(call, err); /* without credentials */
    }
    if (rc == MDM_OK || rc == MDM_ENOTFOUND) {
        /* A stranger does not even learn which calls there are. */
        mdm_rc auth = mdm_auth_api(call->request, call->arena,
                                   &call->token, err);

        if (auth != MDM_OK) {
            return auth;
        }
    }
    return rc == MDM_OK ? dispatch_call(call, err)
                        : mdm_err_set(err, rc, 0, "no such call");
}

void mdm_api_handle(mdm_server_t *server, const mdm_request_t *request,
                    mdm_response_t *response)
{
    mdm_api_call_t call = {
        .server = server, .request = request, .response = response};
    mdm_err_t err;
    mdm_rc rc;

    call.arena = response->arena;
    mdm_err_clear(&err);
    rc = mdm_http_expect(request, &err);
    if (rc == MDM_OK) {
        rc = serve(&call, &err);
    }
    if (rc == MDM_OK) {
        return;
    }
    err.rc = rc;
    if (rc == MDM_EUNAUTHORIZED) {
        mdm_http_header(response, "WWW-Authenticate", "Basic realm=\"mdm\"");
    }
    if (rc == MDM_EUNAUTHORIZED || err.id == MDM_MSG_API_NO_TOKENS) {
        mdm_edge_log(server, request, MDM_REPEAT_API, MDM_LOG_WARNING,
                     MDM_MSG_API_DENIED, &err);
    } else if (err.id == MDM_MSG_API_UNLOCK_FAULT) {
        mdm_edge_log(server, request, MDM_REPEAT_UPSTREAM, MDM_LOG_ERROR,
                     MDM_MSG_API_UNLOCK_FAULT, &err);
    } else if (mdm_http_is_ours(rc) && !mdm_store_has_told(&err)) {
        mdm_edge_log(server, request, MDM_REPEAT_STORE, MDM_LOG_ERROR,
                     MDM_MSG_STORE_FAULT, &err);
    }
    mdm_http_error(response, MDM_AUDIENCE_API, &err);
}
