/*
 * mdm_enrollment.c - the enroll role: which way into management a request
 * takes, by method, query and what the location serves.
 */
#include "mdm_enrollment_int.h"

#include "mdm_str.h"

/* ---- ways --------------------------------------------------------------- */

/* A device introduces itself and gets its profile. */
static mdm_rc by_device(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    bool answered = false;
    mdm_rc rc = mdm_enrollment_read(call, err);

    if (rc == MDM_OK) {
        rc = mdm_enrollment_judge(call, "profile", &answered, err);
    }
    return rc == MDM_OK && !answered ? mdm_enrollment_profile(call, err) : rc;
}

/* The same behind a log-in, to which the device is sent first. */
static mdm_rc by_account(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    bool answered = false;
    mdm_rc rc = mdm_enrollment_read(call, err);

    if (rc == MDM_OK) {
        rc = mdm_enrollment_authorize(call, &answered, err);
    }
    if (rc == MDM_OK && !answered) {
        rc = mdm_enrollment_judge(call, "profile", &answered, err);
    }
    return rc == MDM_OK && !answered ? mdm_enrollment_profile(call, err) : rc;
}

/* ---- choice ------------------------------------------------------------- */

typedef mdm_rc flow_fn(mdm_enrollment_call_t *call, mdm_err_t *err);

/* The way, or NULL: this location does not serve it. */
static flow_fn *choose_get(mdm_enrollment_call_t *call, bool over_the_air)
{
    unsigned flows = call->request->location->flows;

    if ((flows & MDM_FLOW_LOGIN) != 0) {
        call->flow = MDM_FLOW_LOGIN;
        return mdm_enrollment_login;
    }
    if ((flows & MDM_FLOW_DEVICE) != 0 && call->request->device_info.n > 0) {
        call->flow = MDM_FLOW_DEVICE;
        return by_device;
    }
    if ((flows & MDM_FLOW_OTA) != 0 &&
        (over_the_air || (flows & MDM_FLOW_DOWNLOAD) == 0)) {
        call->flow = MDM_FLOW_OTA;
        return mdm_enrollment_ota_begin;
    }
    call->flow = MDM_FLOW_DOWNLOAD;
    return (flows & MDM_FLOW_DOWNLOAD) != 0 ? mdm_enrollment_profile : NULL;
}

static flow_fn *choose_post(mdm_enrollment_call_t *call, bool over_the_air)
{
    unsigned flows = call->request->location->flows;

    if ((flows & (MDM_FLOW_BYOD | MDM_FLOW_ADDE)) != 0) {
        call->flow = (mdm_flow_t)flows; /* it stands alone */
        return by_account;
    }
    call->flow = over_the_air ? MDM_FLOW_OTA : MDM_FLOW_DEVICE;
    return (flows & call->flow) == 0 ? NULL
           : over_the_air            ? mdm_enrollment_ota
                                     : by_device;
}

static const char *allowed(unsigned flows)
{
    bool get = (flows & (MDM_FLOW_DOWNLOAD | MDM_FLOW_OTA | MDM_FLOW_DEVICE |
                         MDM_FLOW_LOGIN)) != 0;
    bool post = (flows & (MDM_FLOW_DEVICE | MDM_FLOW_OTA | MDM_FLOW_BYOD |
                          MDM_FLOW_ADDE)) != 0;

    return get && post ? "GET, POST" : get ? "GET" : "POST";
}

static mdm_rc serve(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    const mdm_request_t *request = call->request;
    const char *allow = allowed(request->location->flows);
    mdm_str_t ota = MDM_STR_NONE;
    flow_fn *flow;
    mdm_rc rc;

    if (!mdm_str_is(request->method, "GET") &&
        !mdm_str_is(request->method, "POST")) {
        mdm_http_header(call->response, "Allow", allow);
        return mdm_err_set(err, MDM_EMETHOD, 0, "this URL takes %s", allow);
    }
    if (request->host.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "no Host was sent");
    }
    rc = mdm_http_expect(request, err);
    if (rc == MDM_OK) {
        rc = mdm_http_query(request->target, "ota", call->arena, &ota, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    flow = mdm_str_is(request->method, "GET")
               ? choose_get(call, ota.s != NULL)
               : choose_post(call, ota.s != NULL);
    if (flow == NULL) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "this way of enrolment is not served at this URL");
    }
    return flow(call, err);
}

mdm_rc mdm_enrollment_handle(mdm_server_t *server,
                             const mdm_request_t *request,
                             mdm_response_t *response, mdm_err_t *err)
{
    mdm_enrollment_call_t call = {
        .server = server, .request = request, .response = response};
    mdm_rc rc;

    call.arena = response->arena;
    rc = serve(&call, err);
    if (rc == MDM_OK || mdm_http_is_ours(rc)) {
        return rc;
    }
    err->rc = rc;
    if (err->id != 0) {
        mdm_edge_log(server, request,
                     call.flow == MDM_FLOW_LOGIN ? MDM_REPEAT_LOGIN
                                                 : MDM_REPEAT_ENROLLMENT,
                     MDM_LOG_WARNING, MDM_MSG_INTRODUCTION_REFUSED, err);
    } else {
        mdm_log_info(request->log, "an enrolment request was refused (%s): "
                                   "%s",
                     mdm_rc_name(rc), err->text);
    }
    mdm_http_error(response, MDM_AUDIENCE_DEVICE, err);
    return MDM_OK;
}
