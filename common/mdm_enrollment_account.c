/*
 * mdm_enrollment_account.c - account-driven enrolment: the host logs users in
 * by whatever it has, we give them tokens and know them again.
 *
 * The device opens the log-in page in a web view, with the host's access
 * rules in front of it.  Who gets through is sent on to an address of a
 * scheme of its own, which ends the web view and hands the token to the
 * device.  Source: docs/protocol.md, enrolment.
 */
#include "mdm_enrollment_int.h"

#include <string.h>

#include "mdm_auth.h"
#include "mdm_str.h"

#define RESULT_URL                                                            \
    "apple-remotemanagement-user-login://authentication-results?access-token="
#define ID_TEXT 128

/* ---- log-in -------------------------------------------------------------- */

/* Text that can stand in a profile, a header and a log line. */
static mdm_rc account_of(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    const char *domain = call->request->location->user_domain;
    mdm_str_t user = mdm_str_trim(call->request->remote_user);

    call->account = user;
    if (user.n == 0) {
        return mdm_err_set(err, MDM_EDENIED, MDM_MSG_LOGIN_WITHOUT_USER,
                           "nobody is logged in: the log-in page is not "
                           "behind an authentication of the web server");
    }
    if (memchr(user.s, '@', user.n) == NULL && domain != NULL) {
        call->account = mdm_str_from(mdm_arena_printf(
            call->arena, "%.*s@%s", MDM_STR_ARG(user), domain));
        if (call->account.s == NULL) {
            return mdm_err_nomem(err);
        }
    }
    if (call->account.n > MDM_ACCOUNT_MAX ||
        !mdm_str_is_solid(call->account) ||
        memchr(call->account.s, '@', call->account.n) == NULL) {
        return mdm_err_set(err, MDM_EDENIED, MDM_MSG_LOGIN_WITHOUT_USER,
                           "the name of the user who logged in is no account "
                           "of the form name@domain");
    }
    return MDM_OK;
}

mdm_rc mdm_enrollment_login(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    char token[MDM_ACCOUNT_TOKEN_SIZE];
    char name[ID_TEXT];
    const char *url;
    mdm_rc rc = account_of(call, err);

    if (rc == MDM_OK) {
        rc = mdm_account_issue(call->server->store, MDM_TOKEN_KIND_ACCOUNT,
                               call->account,
                               call->request->location->token_first_us, token,
                               err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    url = mdm_arena_printf(call->arena, RESULT_URL "%s", token);
    mdm_wipe(token, sizeof(token));
    if (url == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_log_msg(call->request->log, MDM_LOG_NOTICE, MDM_MSG_LOGGED_IN,
                "%s logged in to enrol a device",
                mdm_str_printable(call->account, name, sizeof(name)));
    mdm_http_header(call->response, "Location", url);
    mdm_http_header(call->response, "Cache-Control", "no-store");
    mdm_http_reply(call->response, 308, NULL, MDM_STR_NONE);
    return MDM_OK;
}

/* ---- tokens -------------------------------------------------------------- */

/* 401 tells an enrolled device to leave; with this header it asks its user
 * instead. */
static mdm_rc challenge(const mdm_request_t *request,
                        mdm_response_t *response, mdm_err_t *err)
{
    const char *url = mdm_http_url(request, request->location->login_url,
                                   response->arena);
    const char *value =
        url != NULL ? mdm_arena_printf(
                          response->arena,
                          "Bearer method=\"apple-as-web\", url=\"%s\"", url)
                    : NULL;

    if (value == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_http_header(response, "WWW-Authenticate", value);
    mdm_http_reply(response, 401, NULL, MDM_STR_NONE);
    return MDM_OK;
}

mdm_rc mdm_enrollment_authorize(mdm_enrollment_call_t *call,
                                bool *answered_r, mdm_err_t *err)
{
    mdm_str_t token = mdm_auth_bearer(call->request->authorization);
    mdm_account_token_t row;
    mdm_rc rc;

    *answered_r = false;
    rc = token.n > 0 ? mdm_account_check(call->server->store,
                                         MDM_TOKEN_KIND_ACCOUNT, token,
                                         call->arena, &row, err)
                     : mdm_err_set(err, MDM_EUNAUTHORIZED, 0,
                                   "it brings no token");
    if (rc == MDM_OK) {
        call->account = row.account;
        return MDM_OK;
    }
    if (rc != MDM_EUNAUTHORIZED) {
        return rc;
    }
    mdm_log_info(call->request->log,
                 "a device was sent to the log-in page: %s", err->text);
    *answered_r = true;
    return challenge(call->request, call->response, err);
}

mdm_rc mdm_enrollment_admit(mdm_server_t *server,
                            const mdm_request_t *request,
                            mdm_response_t *response,
                            const unsigned char fingerprint[MDM_SHA256_LEN],
                            int64_t *tid_r, bool *challenged_r,
                            mdm_err_t *err)
{
    mdm_str_t token = mdm_auth_bearer(request->authorization);
    mdm_rc rc;

    *tid_r = 0;
    *challenged_r = false;
    if (token.n == 0 || request->location->login_url == NULL) {
        return MDM_OK;
    }
    rc = mdm_account_admit(server->store, token, fingerprint, response->arena,
                           tid_r, err);
    if (rc != MDM_EUNAUTHORIZED) {
        return rc;
    }
    mdm_log_info(request->log, "a device's user has to log in again: %s",
                 err->text);
    *challenged_r = true;
    return challenge(request, response, err);
}
