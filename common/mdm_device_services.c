/*
 * mdm_device_services.c - check-ins that ask for something which is made
 * elsewhere: declarations, tokens for other services, the way back into
 * service.  They change nothing in the store.  Any request thread; may wait
 * for the outside server.
 */
#include "mdm_device_int.h"

#include "mdm_buf.h"
#include "mdm_jwt.h"
#include "mdm_str.h"

#define JSON_TYPE "application/json"
#define MAID_SERVICE "com.apple.maid"

/* ---- DeclarativeManagement ---------------------------------------------- */

mdm_rc mdm_device_declarative_management(mdm_device_call_t *call,
                                         const mdm_checkin_t *msg,
                                         const mdm_admitted_t *who,
                                         mdm_err_t *err)
{
    mdm_upstream_message_t message = {
        .endpoint = msg->endpoint,
        .data = msg->data,
        .id = who->id,
        .type = mdm_channel_type_name(who->type),
    };
    mdm_str_t body = MDM_STR_NONE;
    mdm_rc rc;

    if (call->server->upstream == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "declarative management is off on this server");
    }
    if (mdm_str_is(msg->endpoint, "status") && msg->data.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "a status report needs Data");
    }
    if (mdm_channel_is_user(who->type)) {
        message.parent_id = who->device_id;
    }
    rc = mdm_upstream_call(call->server->upstream, &message, call->arena,
                           &body, err);
    if (rc == MDM_OK) {
        mdm_http_reply(call->response, 200, JSON_TYPE, body);
        return MDM_OK;
    }
    if (!mdm_http_is_ours(rc)) {
        return rc;
    }
    /* Not the store's fault, so it is told apart and answered here. */
    mdm_edge_log(call->server, call->request, MDM_REPEAT_UPSTREAM,
                 MDM_LOG_ERROR, MDM_MSG_UPSTREAM_FAULT, err);
    mdm_http_error(call->response, MDM_AUDIENCE_DEVICE, err);
    return MDM_OK;
}

/* ---- GetToken ----------------------------------------------------------- */

mdm_rc mdm_device_get_token(mdm_device_call_t *call, const mdm_checkin_t *msg,
                            const mdm_admitted_t *who, mdm_err_t *err)
{
    const mdm_config_t *config = call->request->server;
    mdm_jwt_claims_t claims = {
        .iss = config->token_issuer,
        .service_type = MAID_SERVICE,
        .iat_us = mdm_wall_us(NULL),
    };
    mdm_plist_put_t item = {.key = "TokenData", .type = MDM_PLIST_DATA};
    mdm_rc rc;

    (void)who;
    if (!mdm_str_is(msg->token_service_type, MAID_SERVICE) ||
        config->token_key == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "tokens of this service are not given here");
    }
    rc = mdm_jwt_sign(config->token_key, &claims, call->arena, &item.value,
                      err);
    return rc == MDM_OK ? mdm_device_reply_plist(call, &item, 1, err) : rc;
}

/* ---- ReturnToService ---------------------------------------------------- */

static mdm_plist_put_t data_of(const char *key, mdm_str_t value)
{
    return (mdm_plist_put_t){
        .key = key,
        .type = value.n > 0 ? MDM_PLIST_DATA : MDM_PLIST_ABSENT,
        .value = value};
}

static mdm_plist_put_t true_of(const char *key, bool value)
{
    return (mdm_plist_put_t){
        .key = key,
        .type = value ? MDM_PLIST_BOOL : MDM_PLIST_ABSENT,
        .flag = true};
}

static mdm_rc reply_return(mdm_device_call_t *call,
                           const mdm_return_to_service_t *how,
                           mdm_str_t token, mdm_err_t *err)
{
    const mdm_plist_put_t inner[] = {
        data_of("BootstrapToken", token),
        true_of("Enabled", true),
        data_of("MDMProfileData", how->mdm_profile),
        true_of("ShouldRetryEnrollment", how->retry_enrollment),
        data_of("WiFiProfileData", how->wifi_profile),
    };
    const mdm_plist_put_t outer[] = {
        true_of("PreserveDataPlan", how->preserve_data_plan),
        {.key = "ReturnToService",
         .type = MDM_PLIST_DICT,
         .items = inner,
         .n = MDM_ARRAY_LEN(inner)},
    };

    return mdm_device_reply_plist(call, outer, MDM_ARRAY_LEN(outer), err);
}

mdm_rc mdm_device_return_to_service(mdm_device_call_t *call,
                                    const mdm_checkin_t *msg,
                                    const mdm_admitted_t *who, mdm_err_t *err)
{
    const mdm_return_to_service_t *how =
        call->request->location->return_to_service;
    mdm_str_t token = MDM_STR_NONE;
    mdm_rc rc;

    (void)msg;
    if (how == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "return to service is off on this server");
    }
    rc = mdm_device_bootstrap_token(call, who->device_eid, &token, err);
    return rc == MDM_OK ? reply_return(call, how, token, err) : rc;
}
