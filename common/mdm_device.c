/*
 * mdm_device.c - the device roles: which half of the protocol a request
 * belongs to, who sends it, and the answer.  Blocks on the store; any thread.
 */
#include "mdm_device_int.h"

#include "mdm_account.h"
#include "mdm_auth.h"
#include "mdm_command.h"
#include "mdm_enrollment.h"
#include "mdm_queue.h"
#include "mdm_str.h"

#define CHECKIN_TYPE "application/x-apple-aspen-mdm-checkin"
#define COMMAND_TYPE "application/x-apple-aspen-mdm"

/* Ids come from devices: printable, bounded. */
#define ID_TEXT 128
/* Two profiles of 1 MB and a token, in base64. */
#define PLIST_MAX (3 * 1024 * 1024)
#define UNRECOGNIZED                                                          \
    "{\"code\": \"com.apple.unrecognized.device\", "                          \
    "\"description\": \"the device is blocked on this server\", "             \
    "\"message\": \"This device is not managed here any more.\"}\n"

/* A certificate named in the configuration may not be in the store yet. */
static bool topic_is_configured(const mdm_config_t *config, mdm_str_t topic)
{
    size_t i;

    for (i = 0; i < config->npush_certs; i++) {
        if (mdm_str_eq(config->push_certs[i]->topic, topic)) {
            return true;
        }
    }
    return false;
}

static void note_checkin(mdm_device_call_t *call, const mdm_checkin_t *msg,
                         const mdm_enroll_result_t *result)
{
    const mdm_log_t *log = call->request->log;
    char id[ID_TEXT];
    char topic[ID_TEXT];
    mdm_err_t err;

    (void)mdm_str_printable(msg->channel.id, id, sizeof(id));
    if (msg->type == MDM_CHECKIN_TOKEN_UPDATE && result->tally == 1) {
        mdm_log_msg(log, MDM_LOG_NOTICE, MDM_MSG_ENROLLED, "%s %s enrolled",
                    mdm_channel_type_name(msg->channel.type), id);
    } else if (msg->type == MDM_CHECKIN_CHECK_OUT) {
        mdm_log_msg(log, MDM_LOG_NOTICE, MDM_MSG_CHECKED_OUT,
                    "%s checked out", id);
    } else if (result->renewed) {
        mdm_log_info(log, "%s goes on under a renewed certificate", id);
    } else {
        mdm_log_info(log, "check-in of %s stored", id);
    }
    if (!result->topic_known &&
        !topic_is_configured(call->server->config, msg->topic)) {
        (void)mdm_err_set(
            &err, MDM_EINVAL, MDM_MSG_TOPIC_UNKNOWN,
            "%s uses the topic %s, for which there is no push certificate: "
            "it cannot be woken",
            id, mdm_str_printable(msg->topic, topic, sizeof(topic)));
        mdm_edge_log(call->server, call->request, MDM_REPEAT_TOPIC,
                     MDM_LOG_WARNING, MDM_MSG_TOPIC_UNKNOWN, &err);
    }
}

/* A blocked device is to leave: by an error document where its system knows
 * one, else by 401.  Source: docs/protocol.md, refusals. */
static mdm_rc turn_away(mdm_device_call_t *call, const mdm_channel_t *channel,
                        mdm_err_t *err)
{
    mdm_turn_away_t how;
    char id[ID_TEXT];
    mdm_rc rc;

    rc = mdm_enroll_turn_away(call->server->store, channel, &how, err);
    if (rc != MDM_OK) {
        return rc;
    }
    (void)mdm_str_printable(channel->id, id, sizeof(id));
    if (how.first) {
        mdm_log_msg(call->request->log, MDM_LOG_NOTICE, MDM_MSG_TURNED_AWAY,
                    "%s is blocked: it was told to leave", id);
    } else {
        mdm_log_info(call->request->log, "%s is blocked: told again", id);
    }
    if (!how.by_document) {
        return mdm_err_set(err, MDM_EBLOCKED, 0, "this device is blocked");
    }
    mdm_http_reply(call->response, 403, "application/json",
                   MDM_STR(UNRECOGNIZED));
    return MDM_OK;
}

/* Whatever it says, it is alive. */
static void note_seen(mdm_device_call_t *call, int64_t eid)
{
    call->eid = eid;
    mdm_dispatch_seen(call->server->dispatch, eid, mdm_wall_us(NULL));
}

static mdm_rc enrol(mdm_device_call_t *call, const mdm_checkin_t *msg,
                    mdm_err_t *err)
{
    mdm_enroll_result_t result;
    mdm_rc rc;

    rc = mdm_enroll_apply(call->server->store, msg, call->body,
                          &call->speaker, &result, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (result.push_due) {
        mdm_dispatch_wake(call->server->dispatch);
    }
    note_seen(call, result.eid);
    note_checkin(call, msg, &result);
    mdm_http_reply(call->response, 200, NULL, MDM_STR_NONE);
    return MDM_OK;
}

mdm_rc mdm_device_reply_plist(mdm_device_call_t *call,
                              const mdm_plist_put_t *items, size_t n,
                              mdm_err_t *err)
{
    mdm_str_t body = MDM_STR_NONE;
    mdm_buf_t xml;
    mdm_rc rc;

    mdm_buf_init_secret(&xml, PLIST_MAX);
    rc = mdm_plist_write(items, n, &xml, err);
    if (rc == MDM_OK && !mdm_arena_str(call->arena, mdm_buf_str(&xml), &body)) {
        rc = mdm_err_nomem(err);
    }
    mdm_buf_clear(&xml);
    if (rc == MDM_OK) {
        mdm_http_reply(call->response, 200, MDM_XML_TYPE, body);
    }
    return rc;
}

/* The first request of a log-in gets a challenge that needs no answer, where
 * the operator wants such users; should the second come all the same, it has
 * nothing to prove.  Source: docs/protocol.md, UserAuthenticate. */
static mdm_rc user_authenticate(mdm_device_call_t *call,
                                const mdm_checkin_t *msg, mdm_err_t *err)
{
    static const mdm_plist_put_t challenge = {
        .key = "DigestChallenge",
        .type = MDM_PLIST_STRING,
        .value = {"", 0},
    };

    if (!call->request->location->user_challenge) {
        return mdm_err_set(err, MDM_EGONE, 0,
                           "users of network accounts are not managed");
    }
    if (msg->digest_response.s == NULL) {
        return mdm_device_reply_plist(call, &challenge, 1, err);
    }
    mdm_http_reply(call->response, 200, NULL, MDM_STR_NONE);
    return MDM_OK;
}

typedef struct escrow {
    int64_t eid;
    mdm_arena_t *arena;
    mdm_str_t token;
} escrow_t;

static mdm_rc read_bootstrap_token(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    escrow_t *escrow = arg;

    return mdm_store_secret_get(tx, escrow->eid, MDM_SECRET_BOOTSTRAP_TOKEN,
                                escrow->arena, &escrow->token, err);
}

mdm_rc mdm_device_bootstrap_token(mdm_device_call_t *call, int64_t device_eid,
                                  mdm_str_t *token_r, mdm_err_t *err)
{
    escrow_t escrow = {.eid = device_eid, .arena = call->arena};
    mdm_rc rc;

    rc = mdm_store_read(call->server->store, read_bootstrap_token, &escrow,
                        err);
    *token_r = escrow.token;
    return rc;
}

/* None stored: 200 without a body, never an error. */
static mdm_rc get_bootstrap_token(mdm_device_call_t *call,
                                  const mdm_admitted_t *who, mdm_err_t *err)
{
    mdm_plist_put_t item = {.key = "BootstrapToken", .type = MDM_PLIST_DATA};
    mdm_rc rc;

    rc = mdm_device_bootstrap_token(call, who->device_eid, &item.value, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (item.value.s != NULL) {
        return mdm_device_reply_plist(call, &item, 1, err);
    }
    mdm_http_reply(call->response, 200, NULL, MDM_STR_NONE);
    return MDM_OK;
}

/* Messages that a device of ours may send, and that leave its enrolment as
 * it is. */
static mdm_rc serve(mdm_device_call_t *call, const mdm_checkin_t *msg,
                    mdm_err_t *err)
{
    mdm_admitted_t who;
    mdm_rc rc;

    rc = mdm_enroll_admit(call->server->store, &msg->channel, &call->speaker,
                          &who, err);
    if (rc != MDM_OK) {
        return rc;
    }
    note_seen(call, who.eid != 0 ? who.eid : who.device_eid);
    switch (msg->type) {
    case MDM_CHECKIN_DECLARATIVE_MANAGEMENT:
        return mdm_device_declarative_management(call, msg, &who, err);
    case MDM_CHECKIN_GET_TOKEN:
        return mdm_device_get_token(call, msg, &who, err);
    case MDM_CHECKIN_RETURN_TO_SERVICE:
        return mdm_device_return_to_service(call, msg, &who, err);
    case MDM_CHECKIN_GET_BOOTSTRAP_TOKEN:
        return get_bootstrap_token(call, &who, err);
    case MDM_CHECKIN_USER_AUTHENTICATE:
        return user_authenticate(call, msg, err);
    default:
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "this message type is not served here");
    }
}

static mdm_rc checkin(mdm_device_call_t *call, mdm_err_t *err)
{
    mdm_checkin_t msg;
    mdm_rc rc;

    rc = mdm_checkin_parse(call->body, &call->request->location->plist_limits,
                           call->arena, &msg, err);
    if (rc != MDM_OK) {
        return rc;
    }
    switch (msg.type) {
    case MDM_CHECKIN_AUTHENTICATE:
    case MDM_CHECKIN_TOKEN_UPDATE:
    case MDM_CHECKIN_CHECK_OUT:
    case MDM_CHECKIN_SET_BOOTSTRAP_TOKEN:
        rc = enrol(call, &msg, err);
        break;
    default:
        rc = serve(call, &msg, err);
        break;
    }
    return rc == MDM_EBLOCKED ? turn_away(call, &msg.channel, err) : rc;
}

static void note_report(mdm_device_call_t *call, const mdm_report_t *report,
                        const mdm_queue_result_t *result)
{
    char id[ID_TEXT];
    char uuid[ID_TEXT];
    mdm_err_t err;

    (void)mdm_str_printable(report->channel.id, id, sizeof(id));
    (void)mdm_str_printable(report->command_uuid, uuid, sizeof(uuid));
    if (result->unknown) {
        mdm_log_info(call->request->log,
                     "%s reports on command %s, which it was never given: "
                     "ignored",
                     id, uuid);
    } else if (result->repeated) {
        mdm_log_info(call->request->log,
                     "%s reports again on command %s: the first report "
                     "stands",
                     id, uuid);
    }
    if (report->damaged > 0) {
        (void)mdm_err_set(&err, MDM_EINVAL, MDM_MSG_REPORT_DAMAGED,
                          "%s sent a damaged report on command %s (line %u: "
                          "%s): kept as it came",
                          id, uuid, report->damaged_line,
                          report->damaged_fault);
    } else if (report->status == MDM_REPORT_UNKNOWN) {
        (void)mdm_err_set(&err, MDM_EINVAL, MDM_MSG_REPORT_STATUS,
                          "%s sent an unknown status for command %s: the "
                          "command stays queued",
                          id, uuid);
    } else {
        return;
    }
    mdm_edge_log(call->server, call->request, MDM_REPEAT_REPORT,
                 MDM_LOG_WARNING, MDM_MSG_REPORT_DAMAGED, &err);
}

static mdm_rc report(mdm_device_call_t *call, mdm_err_t *err)
{
    mdm_queue_result_t result;
    mdm_report_t msg;
    mdm_rc rc;

    rc = mdm_report_parse(call->body, &call->request->location->plist_limits,
                          call->arena, &msg, err);
    if (rc == MDM_OK) {
        rc = mdm_queue_report(call->server->store, &msg, call->body,
                              &call->speaker, call->arena, &result, err);
    }
    if (rc == MDM_EBLOCKED) {
        return turn_away(call, &msg.channel, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    note_seen(call, result.eid);
    note_report(call, &msg, &result);
    mdm_http_reply(call->response, 200, MDM_XML_TYPE,
                   result.has_command ? result.body : MDM_STR_NONE);
    return MDM_OK;
}

/* Which half of the protocol, by role and media type. */
static mdm_rc choose(const mdm_request_t *request, bool *checkin_r,
                     mdm_err_t *err)
{
    mdm_str_t type = mdm_http_media_type(request->content_type);
    mdm_role_t role = request->location->role;
    mdm_str_t coding = mdm_str_trim(request->content_encoding);

    if (type.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "no Content-Type was sent");
    }
    if (coding.n > 0 && !mdm_str_ieq(coding, "identity")) {
        return mdm_err_set(err, MDM_EMEDIATYPE, 0,
                           "encoded bodies are not accepted");
    }
    *checkin_r = mdm_str_ieq(type, CHECKIN_TYPE);
    if ((*checkin_r && role != MDM_ROLE_SERVER) ||
        (mdm_str_ieq(type, COMMAND_TYPE) && role != MDM_ROLE_CHECKIN)) {
        return MDM_OK;
    }
    return mdm_err_set(err, MDM_EMEDIATYPE, 0,
                       "this media type is not served at this URL");
}

static void note_header(mdm_server_t *server, const mdm_request_t *request)
{
    char from[ID_TEXT];
    mdm_err_t err;

    if (mdm_auth_header_ignored(request)) {
        (void)mdm_err_set(
            &err, MDM_EIDENTITY, MDM_MSG_PROXY_UNTRUSTED,
            "%s sent the header %s but is no trusted proxy: ignored",
            mdm_str_printable(request->neighbor, from, sizeof(from)),
            request->location->identity_header);
        mdm_edge_log(server, request, MDM_REPEAT_HEADER, MDM_LOG_WARNING,
                     MDM_MSG_PROXY_UNTRUSTED, &err);
    }
}

mdm_rc mdm_device_handle(mdm_server_t *server, const mdm_request_t *request,
                         mdm_response_t *response, mdm_err_t *err)
{
    mdm_device_call_t call = {
        .server = server, .request = request, .response = response};
    bool is_checkin = false;
    bool challenged = false;
    int64_t token = 0;
    mdm_rc rc;

    call.arena = response->arena;
    if (!mdm_str_is(request->method, "PUT")) {
        mdm_http_header(response, "Allow", "PUT");
        return mdm_err_set(err, MDM_EMETHOD, 0, "devices send PUT");
    }
    if (request->host.n == 0) {
        /* Some httpd refuses this under SNI; so does every server here. */
        return mdm_err_set(err, MDM_EINVAL, 0, "no Host was sent");
    }
    rc = mdm_http_expect(request, err);
    if (rc == MDM_OK) {
        rc = choose(request, &is_checkin, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_http_body(request, request->location->plist_limits.size,
                           call.arena, &call.body, err);
    }
    call.speaker.retroactive = request->location->retroactive_binding;
    if (rc == MDM_OK) {
        note_header(server, request);
        rc = mdm_auth_device(&(mdm_proof_t){request, call.body, server->ca},
                             &call.speaker, call.arena, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_enrollment_admit(server, request, response,
                                  call.speaker.identity.fingerprint, &token,
                                  &challenged, err);
    }
    if (rc != MDM_OK || challenged) {
        return rc;
    }
    rc = is_checkin ? checkin(&call, err) : report(&call, err);
    if (rc == MDM_OK && token != 0 && call.eid != 0) {
        rc = mdm_account_bind(server->store, token, call.eid,
                              request->location->token_life_us, err);
    }
    return rc;
}
