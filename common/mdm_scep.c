/*
 * mdm_scep.c - the role scep: which operation it is, the message in a body or
 * a query, and the answer.  What a message says is read in mdm_pkimsg.h, who
 * gets a certificate is judged in mdm_ca_issue.h.  Any thread.
 *
 * A message that can be read is always answered 200, with a refusal inside;
 * 400 is for what is none, 503 for our own trouble.  Source: docs/protocol.md,
 * SCEP.
 */
#include "mdm_scep.h"

#include <string.h>

#include "mdm_ca_issue.h"
#include "mdm_str.h"

#define CAPABILITIES                                                          \
    "Renewal\nSHA-1\nSHA-256\nSHA-512\nAES\nDES3\nSCEPStandard\n"             \
    "POSTPKIOperation\n"
#define ID_TEXT 128

typedef struct call {
    mdm_server_t *server;
    const mdm_request_t *request;
    mdm_response_t *response;
    mdm_arena_t *arena; /* of the response, wipes */
} call_t;

/* ---- the message --------------------------------------------------------- */

/* Value of a query parameter as it came; absent when it is not there. */
static mdm_str_t raw_query(mdm_str_t target, const char *name)
{
    mdm_str_t rest = target;
    mdm_str_t value;

    (void)mdm_str_split(&rest, '?');
    while (rest.s != NULL) {
        value = mdm_str_split(&rest, '&');
        if (mdm_str_is(mdm_str_split(&value, '='), name)) {
            return value.s != NULL ? value : MDM_STR("");
        }
    }
    return MDM_STR_NONE;
}

static bool is_blank(char c)
{
    return c == '\r' || c == '\n' || c == '\t';
}

/* Base64 as clients put it into a URL: escaped or not ("+" is itself, and so
 * is a blank, which somebody made of it), in the alphabet for URLs, with line
 * ends, without padding. */
static mdm_rc decode_message(mdm_str_t raw, mdm_arena_t *arena,
                             mdm_str_t *out_r, mdm_err_t *err)
{
    mdm_str_t text = MDM_STR_NONE;
    size_t n = 0;
    size_t i;
    char *copy;
    mdm_rc rc = mdm_http_decode(raw, arena, &text, err);

    copy = rc == MDM_OK ? mdm_arena_alloc(arena, text.n + 4) : NULL;
    if (copy == NULL) {
        return rc == MDM_OK ? mdm_err_nomem(err) : rc;
    }
    for (i = 0; i < text.n; i++) {
        if (!is_blank(text.s[i])) {
            copy[n++] = text.s[i] == '-'                          ? '+'
                        : text.s[i] == ' '                        ? '+'
                        : text.s[i] == '_'                        ? '/'
                                                                  : text.s[i];
        }
    }
    while (n % 4 != 0) {
        copy[n++] = '=';
    }
    text = (mdm_str_t){copy, n};
    if (mdm_base64_decode(text, (unsigned char *)copy, &n) != MDM_OK) {
        return mdm_err_set(err, MDM_EINVAL, 0, "the message is not base64");
    }
    *out_r = (mdm_str_t){copy, n};
    return MDM_OK;
}

static mdm_rc read_message(call_t *call, mdm_str_t *data_r, mdm_err_t *err)
{
    mdm_str_t raw;
    mdm_rc rc;

    if (mdm_str_is(call->request->method, "POST")) {
        rc = mdm_http_body(call->request, MDM_SCEP_BODY_MAX, call->arena,
                           data_r, err);
    } else {
        raw = raw_query(call->request->target, "message");
        rc = decode_message(raw, call->arena, data_r, err);
    }
    if (rc == MDM_OK && data_r->n == 0) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "no message was sent");
    }
    return rc;
}

/* ---- PKIOperation -------------------------------------------------------- */

static void note_refusal(call_t *call, const mdm_pki_request_t *r,
                         mdm_pki_fail_t fail, const mdm_err_t *why)
{
    char transaction[ID_TEXT];
    char peer[ID_TEXT];
    mdm_err_t line;

    (void)mdm_err_set(
        &line, MDM_EDENIED, MDM_MSG_CERTIFICATE_REFUSED,
        "no certificate for %s, transaction %s (%s): %s",
        mdm_str_printable(call->request->peer, peer, sizeof(peer)),
        mdm_str_printable(r->transaction_id, transaction,
                          sizeof(transaction)),
        mdm_pki_fail_name(fail), why->text);
    mdm_edge_log(call->server, call->request, MDM_REPEAT_SCEP,
                 MDM_LOG_WARNING, MDM_MSG_CERTIFICATE_REFUSED, &line);
}

static void note_grant(call_t *call, const mdm_pki_request_t *r,
                       const mdm_ca_given_t *given)
{
    char transaction[ID_TEXT];
    char subject[2 * ID_TEXT];
    char peer[ID_TEXT];

    mdm_log_msg(call->request->log, MDM_LOG_NOTICE,
                MDM_MSG_CERTIFICATE_ISSUED,
                "certificate %s for %s %s %s, transaction %s", given->serial,
                mdm_str_printable(given->subject, subject, sizeof(subject)),
                given->again ? "given again to" : "issued to",
                mdm_str_printable(call->request->peer, peer, sizeof(peer)),
                mdm_str_printable(r->transaction_id, transaction,
                                  sizeof(transaction)));
}

static mdm_rc deny(mdm_pki_fail_t *fail_r, mdm_pki_fail_t fail,
                   mdm_err_t *err, const char *why)
{
    *fail_r = fail;
    return mdm_err_set(err, MDM_EDENIED, 0, "%s", why);
}

/* Of a renewal: is the identity that signed it one of ours, and in date? */
static mdm_rc check_signer(call_t *call, const mdm_pki_request_t *r,
                           mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    mdm_shown_t shown = {.cert = r->signer};
    mdm_identity_t identity;
    mdm_rc rc = mdm_ca_verify_own(call->server->ca, &shown,
                                  mdm_wall_us(NULL), &identity, err);

    *fail_r = MDM_PKI_BAD_CERT_ID;
    return rc == MDM_EIDENTITY ? MDM_EDENIED : rc;
}

static mdm_rc check_type(call_t *call, const mdm_pki_request_t *r,
                         mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    switch (r->type) {
    case MDM_PKI_PKCS_REQ:
        return r->is_signer_key
                   ? MDM_OK
                   : deny(fail_r, MDM_PKI_BAD_REQUEST, err,
                          "the message is signed with another key than the "
                          "one in the request");
    case MDM_PKI_RENEWAL_REQ:
        return check_signer(call, r, fail_r, err);
    case MDM_PKI_CERT_POLL:
        return MDM_OK;
    default:
        return deny(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "this messageType is not served");
    }
}

/* Judges and issues; the answer's body in *answer_r. */
static mdm_rc answer(call_t *call, mdm_pkimsg_t *msg,
                     const mdm_ca_hold_t *hold, mdm_str_t *answer_r,
                     mdm_err_t *err)
{
    const mdm_config_t *c = call->server->config;
    const mdm_pki_request_t *r = mdm_pkimsg_request(msg);
    mdm_pki_keys_t keys = {.all = hold->all,
                           .n = hold->n,
                           .legacy = call->server->legacy};
    mdm_ca_ask_t ask = {.request = r,
                        .authority = hold->all[0],
                        .static_challenge = c->scep_challenge,
                        .life_us = c->scep_validity_us};
    mdm_pki_fail_t fail = MDM_PKI_BAD_REQUEST;
    mdm_ca_given_t given;
    mdm_rc rc;

    rc = mdm_pkimsg_read(msg, &keys, &fail, err);
    if (rc == MDM_OK) {
        rc = check_type(call, r, &fail, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_ca_give(call->server->store, &ask, call->arena, &given,
                         &fail, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_pkimsg_grant(msg, mdm_pkimsg_authority(msg), given.cert,
                              answer_r, err);
        if (rc == MDM_OK) {
            note_grant(call, r, &given);
        }
        fail = MDM_PKI_BAD_ALG;
    }
    if (rc == MDM_EDENIED || rc == MDM_EINVAL) {
        note_refusal(call, r, fail, err);
        rc = mdm_pkimsg_refuse(msg, mdm_pkimsg_authority(msg), fail, answer_r,
                               err);
    }
    return rc;
}

static mdm_rc serve(call_t *call, mdm_str_t data, mdm_str_t *answer_r,
                    mdm_err_t *err)
{
    mdm_ca_hold_t hold = {.n = 0};
    mdm_pkimsg_t *msg = NULL;
    mdm_rc rc;

    rc = mdm_pkimsg_open(data, call->arena, &msg, err);
    if (rc == MDM_OK) {
        rc = mdm_ca_hold(call->server->ca, &hold, err);
    }
    if (rc == MDM_OK) {
        rc = answer(call, msg, &hold, answer_r, err);
    }
    mdm_pkimsg_close(&msg);
    mdm_ca_let_go(&hold);
    return rc;
}

static mdm_rc pki_operation(call_t *call, mdm_err_t *err)
{
    mdm_str_t data = MDM_STR_NONE;
    mdm_str_t body = MDM_STR_NONE;
    mdm_rc rc = read_message(call, &data, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (!mdm_edge_may_issue(call->server)) {
        return mdm_err_set(err, MDM_EBUSY, MDM_MSG_SCEP_BUSY,
                           "a request for a certificate was answered 503: %d "
                           "are at work in this process and more wait",
                           MDM_ISSUING_MAX);
    }
    rc = serve(call, data, &body, err);
    mdm_edge_issued(call->server);
    if (rc == MDM_OK) {
        mdm_http_header(call->response, "Cache-Control", "no-store");
        mdm_http_reply(call->response, 200, "application/x-pki-message",
                       body);
    }
    return rc;
}

/* ---- the others ---------------------------------------------------------- */

static mdm_rc get_ca_caps(call_t *call, mdm_err_t *err)
{
    (void)err;
    mdm_http_reply(call->response, 200, "text/plain", MDM_STR(CAPABILITIES));
    return MDM_OK;
}

/* One certificate, not a chain: a client that gets several looks for others
 * among them than the one that decrypts. */
static mdm_rc get_ca_cert(call_t *call, mdm_err_t *err)
{
    mdm_ca_hold_t hold;
    mdm_str_t body = MDM_STR_NONE;
    mdm_rc rc = mdm_ca_hold(call->server->ca, &hold, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (!mdm_arena_str(call->arena, mdm_authority_cert(hold.all[0]), &body)) {
        rc = mdm_err_nomem(err);
    }
    mdm_ca_let_go(&hold);
    if (rc == MDM_OK) {
        mdm_http_reply(call->response, 200, "application/x-x509-ca-cert",
                       body);
    }
    return rc;
}

static mdm_rc get_next_ca_cert(call_t *call, mdm_err_t *err)
{
    (void)call;
    return mdm_err_set(err, MDM_ENOTFOUND, 0, "GetNextCACert is not served");
}

mdm_rc mdm_scep_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response, mdm_err_t *err)
{
    static const struct {
        const char *name;
        mdm_rc (*fn)(call_t *call, mdm_err_t *err);
    } operations[] = {{"GetCACaps", get_ca_caps},
                      {"GetCACert", get_ca_cert},
                      {"PKIOperation", pki_operation},
                      {"GetNextCACert", get_next_ca_cert}};
    call_t call = {.server = server,
                   .request = request,
                   .response = response,
                   .arena = response->arena};
    mdm_str_t name = raw_query(request->target, "operation");
    mdm_rc rc = mdm_http_expect(request, err);
    size_t i;

    if (!mdm_str_is(request->method, "GET") &&
        !mdm_str_is(request->method, "POST")) {
        mdm_http_header(response, "Allow", "GET, POST");
        return mdm_err_set(err, MDM_EMETHOD, 0, "SCEP takes GET and POST");
    }
    for (i = 0; rc == MDM_OK && i < MDM_ARRAY_LEN(operations); i++) {
        if (mdm_str_is(name, operations[i].name)) {
            return operations[i].fn(&call, err);
        }
    }
    return rc == MDM_OK
               ? mdm_err_set(err, MDM_EINVAL, 0,
                             "operation is GetCACaps, GetCACert or "
                             "PKIOperation")
               : rc;
}
