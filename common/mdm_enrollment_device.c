/*
 * mdm_enrollment_device.c - a device introduces itself: does its maker vouch
 * for it, is it one of ours, is its system new enough?  The error documents
 * and when they may be sent: docs/protocol.md, enrolment.
 */
#include "mdm_enrollment_int.h"

#include "mdm_str.h"

#define SIGNED_TYPE "application/pkcs7-signature"
#define ID_TEXT 128

/* ---- reading ------------------------------------------------------------- */

static mdm_rc read_body(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    const mdm_request_t *request = call->request;
    mdm_str_t body = MDM_STR_NONE;
    mdm_rc rc;

    if (!mdm_str_ieq(mdm_http_media_type(request->content_type),
                     SIGNED_TYPE)) {
        return mdm_err_set(err, MDM_EMEDIATYPE, 0,
                           "a device introduces itself by " SIGNED_TYPE);
    }
    rc = mdm_http_body(request, MDM_MACHINEINFO_MAX, call->arena, &body, err);
    return rc == MDM_OK
               ? mdm_machineinfo_read(body, call->arena, &call->info, err)
               : rc;
}

/* Such faults have a line of their own. */
static mdm_rc noted(mdm_rc rc, mdm_err_t *err)
{
    if (rc != MDM_OK && !mdm_http_is_ours(rc)) {
        err->id = MDM_MSG_INTRODUCTION_REFUSED;
    }
    return rc;
}

mdm_rc mdm_enrollment_read_message(mdm_enrollment_call_t *call,
                                   mdm_err_t *err)
{
    return noted(mdm_str_is(call->request->method, "POST")
                     ? read_body(call, err)
                     : mdm_machineinfo_read_header(
                           call->request->device_info, call->arena,
                           &call->info, err),
                 err);
}

mdm_rc mdm_enrollment_vouch(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    const mdm_trust_t *origin = call->request->server->origin_trust;
    mdm_rc rc;

    rc = origin != NULL
             ? mdm_trust_verify_origin(origin, &call->info.signer, err)
             : mdm_err_set(err, MDM_EDENIED, 0,
                           "no authorities are configured that vouch for "
                           "devices");
    call->verified = rc == MDM_OK;
    return rc == MDM_EDENIED && call->request->location->accept_unverified
               ? MDM_OK
               : noted(rc, err);
}

mdm_rc mdm_enrollment_read(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    mdm_rc rc = mdm_enrollment_read_message(call, err);

    return rc == MDM_OK ? mdm_enrollment_vouch(call, err) : rc;
}

/* ---- judging ------------------------------------------------------------- */

static const mdm_minimum_os_t *too_old(const mdm_enrollment_call_t *call)
{
    const mdm_config_t *location = call->request->location;
    const char *family = mdm_machine_family(call->info.product);
    const mdm_minimum_os_t *minimum;
    size_t i;

    /* A device that does not say so does not know the answer. */
    for (i = 0; call->info.can_update && family != NULL &&
                i < location->nminimum_os;
         i++) {
        minimum = &location->minimum_os[i];
        if (minimum->family == family) {
            return mdm_os_version_below(call->info.os_version,
                                        minimum->version)
                       ? minimum
                       : NULL;
        }
    }
    return NULL;
}

/* A user's own device keeps its serial number to itself. */
static bool is_listed(const mdm_enrollment_call_t *call)
{
    const mdm_serials_t *serials = call->request->location->serials;

    return serials == NULL ||
           (call->flow == MDM_FLOW_BYOD && call->info.serial.n == 0) ||
           mdm_config_has_serial(serials, call->info.serial);
}

static mdm_rc refuse(mdm_enrollment_call_t *call, const char **answer_r,
                     mdm_err_t *err)
{
    const mdm_minimum_os_t *minimum;
    mdm_http_document_t unknown = {
        .code = "com.apple.unrecognized.device",
        .description = "the serial number is not in the list of this server",
        .message = "This device may not be enrolled here."};
    mdm_http_document_t update = {
        .code = "com.apple.softwareupdate.required",
        .description = "the system is older than this server asks for",
        .message = "This device has to be updated before it is enrolled."};

    if (!is_listed(call)) {
        *answer_r = "unrecognized device";
        return mdm_http_document(call->response, &unknown, err);
    }
    minimum = too_old(call);
    if (minimum == NULL) {
        return MDM_OK;
    }
    *answer_r = "software update required";
    update.details[0].name = "OSVersion";
    update.details[0].value = minimum->version;
    if (minimum->build.n > 0) {
        update.details[1].name = "BuildVersion";
        update.details[1].value = minimum->build;
    }
    return mdm_http_document(call->response, &update, err);
}

static mdm_rc keep(const mdm_enrollment_call_t *call, const char *answer,
                   mdm_err_t *err)
{
    const mdm_machineinfo_t *info = &call->info;
    mdm_introduction_t row = {
        .verified = call->verified,
        .flow = mdm_str_from(mdm_config_flow_name(call->flow)),
        .answer = mdm_str_from(answer),
        .account = call->account,
        .serial = info->serial,
        .udid = info->udid,
        .product = info->product,
        .os_version = info->os_version,
        .build = info->build,
        .language = info->language,
        .peer = call->request->peer,
    };

    return mdm_account_introduce(call->server->store, &row, call->arena, err);
}

static void note(const mdm_enrollment_call_t *call, const char *answer)
{
    const mdm_machineinfo_t *info = &call->info;
    char product[ID_TEXT];
    char serial[ID_TEXT];
    char udid[ID_TEXT];
    char os[ID_TEXT];

    mdm_log_msg(call->request->log, MDM_LOG_NOTICE, MDM_MSG_INTRODUCED,
                "a device introduced itself (%s, %s): product %s, serial %s, "
                "UDID %s, system %s; answer: %s",
                mdm_config_flow_name(call->flow),
                call->verified ? "verified" : "not verified",
                mdm_str_printable(info->product, product, sizeof(product)),
                mdm_str_printable(info->serial, serial, sizeof(serial)),
                mdm_str_printable(info->udid, udid, sizeof(udid)),
                mdm_str_printable(info->os_version.n > 0 ? info->os_version
                                                         : info->build,
                                  os, sizeof(os)),
                answer);
}

mdm_rc mdm_enrollment_judge(mdm_enrollment_call_t *call, const char *gets,
                            bool *answered_r, mdm_err_t *err)
{
    const char *answer = gets;
    mdm_rc rc = refuse(call, &answer, err);

    *answered_r = rc == MDM_OK && call->response->status != 0;
    if (rc == MDM_OK) {
        rc = keep(call, answer, err);
    }
    if (rc == MDM_OK) {
        note(call, answer);
    }
    return rc;
}
