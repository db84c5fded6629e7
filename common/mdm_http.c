/*
 * mdm_http.c - see mdm_http.h.
 */
#include "mdm_http.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <jansson.h>

#include "mdm_config.h"
#include "mdm_str.h"

#define RETRY_AFTER "30"

/* The policy of the whole program. */
static const struct {
    mdm_rc rc;
    int device;
    int api;
} statuses[] = {
    {MDM_OK, 200, 200},
    {MDM_EINVAL, 400, 400},
    {MDM_EIDENTITY, 400, 400},
    {MDM_EDENIED, 403, 403},
    {MDM_EBLOCKED, 401, 403},
    {MDM_ENOTFOUND, 404, 404},
    {MDM_EMETHOD, 405, 405},
    {MDM_ECONFLICT, 503, 409},
    {MDM_EGONE, 410, 410},
    {MDM_ETOOBIG, 413, 413},
    {MDM_EMEDIATYPE, 415, 415},
    {MDM_EUNAUTHORIZED, 403, 401},
    {MDM_EEXPECT, 417, 417},
};

int mdm_http_status(mdm_rc rc, mdm_audience_t audience)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(statuses); i++) {
        if (statuses[i].rc == rc) {
            return audience == MDM_AUDIENCE_DEVICE ? statuses[i].device
                                                   : statuses[i].api;
        }
    }
    return 503;
}

bool mdm_http_is_ours(mdm_rc rc)
{
    return mdm_http_status(rc, MDM_AUDIENCE_API) == 503;
}

void mdm_http_header(mdm_response_t *response, const char *name,
                     const char *value)
{
    if (response->nheaders < MDM_RESPONSE_HEADERS) {
        response->headers[response->nheaders].name = name;
        response->headers[response->nheaders].value = value;
        response->nheaders++;
    }
}

void mdm_http_reply(mdm_response_t *response, int status,
                    const char *content_type, mdm_str_t body)
{
    response->status = status;
    response->body = body;
    response->content_type = body.n > 0 ? content_type : NULL;
    if (status == 503) {
        mdm_http_header(response, "Retry-After", RETRY_AFTER);
    }
}

/* {"error": text}, in the arena. */
static mdm_str_t error_json(mdm_arena_t *arena, const char *text)
{
    json_t *json = json_object();
    json_t *value = json_string(text);
    char *dump;
    mdm_str_t out = MDM_STR("{\"error\": \"out of memory\"}\n");
    char *copy;

    if (value == NULL) { /* not UTF-8 */
        value = json_string("malformed request");
    }
    if (json_object_set_new(json, "error", value) == 0 &&
        (dump = json_dumps(json, 0)) != NULL) {
        copy = mdm_arena_printf(arena, "%s\n", dump);
        if (copy != NULL) {
            out = mdm_str_from(copy);
        }
        json_free_t free_json;

        json_get_alloc_funcs(NULL, &free_json);
        free_json(dump);
    }
    json_decref(json);
    return out;
}

/* The document as JSON in the arena; absent: memory is out. */
static mdm_str_t document_json(mdm_arena_t *arena,
                               const mdm_http_document_t *document)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:s*}", "code", document->code, "description",
        document->description, "message", document->message);
    json_t *details = json_object();
    mdm_str_t out = MDM_STR_NONE;
    json_free_t free_json;
    char *dump;
    size_t i;

    json_get_alloc_funcs(NULL, &free_json);
    for (i = 0; i < MDM_HTTP_DETAILS_MAX && document->details[i].name != NULL;
         i++) {
        (void)json_object_set_new(
            details, document->details[i].name,
            json_stringn(document->details[i].value.s,
                         document->details[i].value.n));
    }
    if (i > 0) {
        (void)json_object_set(json, "details", details);
    }
    dump = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (dump != NULL && !mdm_arena_str(arena, mdm_str_from(dump), &out)) {
        out = MDM_STR_NONE;
    }
    free_json(dump);
    json_decref(details);
    json_decref(json);
    return out;
}

mdm_rc mdm_http_document(mdm_response_t *response,
                         const mdm_http_document_t *document, mdm_err_t *err)
{
    mdm_str_t body = document_json(response->arena, document);

    if (body.s == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_http_reply(response, 403, "application/json", body);
    return MDM_OK;
}

void mdm_http_error(mdm_response_t *response, mdm_audience_t audience,
                    const mdm_err_t *err)
{
    int status = mdm_http_status(err->rc, audience);
    /* The cause of our own trouble is for the log, not for the client. */
    const char *text = status == 503 ? "try again later" : err->text;
    mdm_str_t body;
    char *line;

    if (audience == MDM_AUDIENCE_API) {
        body = error_json(response->arena, text);
        mdm_http_reply(response, status, "application/json", body);
        return;
    }
    line = mdm_arena_printf(response->arena, "%s\n", text);
    mdm_http_reply(response, status, "text/plain; charset=UTF-8",
                   line != NULL ? mdm_str_from(line) : MDM_STR("error\n"));
}

/* The host with the port that the client named; the host judged the first
 * half of it already. */
static mdm_str_t authority_of(const mdm_request_t *request)
{
    mdm_str_t rest = mdm_str_trim(request->authority);
    mdm_str_t host = request->host;
    uint64_t port;

    if (rest.n > host.n + 1 &&
        strncasecmp(rest.s, host.s, host.n) == 0 && rest.s[host.n] == ':' &&
        mdm_parse_u64((mdm_str_t){rest.s + host.n + 1, rest.n - host.n - 1},
                      UINT16_MAX, &port)) {
        return rest;
    }
    return host;
}

const char *mdm_http_url(const mdm_request_t *request, const char *url,
                         mdm_arena_t *arena)
{
    mdm_str_t authority = authority_of(request);

    return url[0] != '/' ? url
                         : mdm_arena_printf(arena, "https://%.*s%s",
                                            MDM_STR_ARG(authority), url);
}

mdm_rc mdm_http_expect(const mdm_request_t *request, mdm_err_t *err)
{
    mdm_str_t expect = mdm_str_trim(request->expect);

    if (expect.n > 0 && !mdm_str_ieq(expect, "100-continue")) {
        return mdm_err_set(err, MDM_EEXPECT, 0,
                           "of Expect only 100-continue is known");
    }
    return MDM_OK;
}

mdm_rc mdm_http_body(const mdm_request_t *request, uint64_t max,
                     mdm_arena_t *arena, mdm_str_t *body_r, mdm_err_t *err)
{
    uint64_t size = request->body_fd >= 0 ? request->body_size
                                          : request->body.n;
    char *data;
    size_t done = 0;
    ssize_t n;

    if (size > max) {
        return mdm_err_set(err, MDM_ETOOBIG, 0,
                           "the body is larger than %llu bytes",
                           (unsigned long long)max);
    }
    if (request->body_fd < 0) {
        *body_r = request->body;
        return MDM_OK;
    }
    data = mdm_arena_alloc(arena, (size_t)size + 1);
    if (data == NULL) {
        return mdm_err_nomem(err);
    }
    while (done < size) {
        n = pread(request->body_fd, data + done, (size_t)size - done,
                  (off_t)done);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_INTERNAL,
                               "cannot read the buffered request body: %s",
                               n < 0 ? strerror(errno) : "cut short");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    *body_r = (mdm_str_t){data, (size_t)size};
    return MDM_OK;
}

mdm_str_t *mdm_request_header(mdm_request_t *request, size_t number,
                              const char **name_r)
{
    const struct {
        const char *name;
        mdm_str_t *value;
    } wanted[] = {
        {"Host", &request->authority},
        {"Expect", &request->expect},
        {"Content-Type", &request->content_type},
        {"Content-Encoding", &request->content_encoding},
        {"Accept", &request->accept},
        {"Authorization", &request->authorization},
        {"X-Key-Passphrase", &request->key_passphrase},
        {"Mdm-Signature", &request->signature},
        {"x-apple-aspen-deviceinfo", &request->device_info},
        {mdm_config_identity_header(request->location),
         &request->identity_header},
    };

    if (number >= MDM_ARRAY_LEN(wanted) || wanted[number].name == NULL) {
        return NULL;
    }
    *name_r = wanted[number].name;
    return wanted[number].value;
}

mdm_str_t mdm_request_target(const char *uri)
{
    if (uri != NULL && uri[0] != '/') {
        uri = strstr(uri, "://");
        uri = uri != NULL ? uri + 3 + strcspn(uri + 3, "/?#") : NULL;
    }
    return uri != NULL && uri[0] == '/' ? mdm_str_from(uri) : MDM_STR("/");
}

mdm_str_t mdm_request_pem(char *text)
{
    static const char BEGIN[] = "-----BEGIN CERTIFICATE-----";
    char *begin = strstr(text, BEGIN);
    char *end = NULL;
    size_t n = 0;

    if (begin != NULL) {
        begin += sizeof(BEGIN) - 1;
        end = strstr(begin, "-----END");
    }
    if (end == NULL ||
        mdm_base64_decode((mdm_str_t){begin, (size_t)(end - begin)},
                          (unsigned char *)begin, &n) != MDM_OK ||
        n == 0) {
        return MDM_STR_NONE;
    }
    return (mdm_str_t){begin, n};
}

mdm_str_t mdm_http_media_type(mdm_str_t content_type)
{
    return mdm_str_trim(mdm_str_split(&content_type, ';'));
}

mdm_rc mdm_http_decode(mdm_str_t raw, mdm_arena_t *arena, mdm_str_t *text_r,
                       mdm_err_t *err)
{
    char *out = mdm_arena_alloc(arena, raw.n + 1);
    unsigned char byte;
    size_t n = 0;
    size_t i;

    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    for (i = 0; i < raw.n; i++) {
        byte = (unsigned char)raw.s[i];
        if (byte == '%') {
            if (raw.n - i < 3 ||
                !mdm_hex_decode((mdm_str_t){raw.s + i + 1, 2}, &byte, 1)) {
                return mdm_err_set(err, MDM_EINVAL, 0,
                                   "a damaged percent escape in the URL");
            }
            i += 2;
        }
        if (byte == 0) {
            return mdm_err_set(err, MDM_EINVAL, 0, "a NUL in the URL");
        }
        out[n++] = (char)byte;
    }
    *text_r = (mdm_str_t){out, n};
    return MDM_OK;
}

mdm_rc mdm_http_query(mdm_str_t target, const char *name, mdm_arena_t *arena,
                      mdm_str_t *value_r, mdm_err_t *err)
{
    mdm_str_t rest = target;
    mdm_str_t value;
    mdm_str_t key;

    *value_r = MDM_STR_NONE;
    (void)mdm_str_split(&rest, '?');
    while (rest.s != NULL) {
        value = mdm_str_split(&rest, '&');
        key = mdm_str_split(&value, '=');
        if (mdm_str_is(key, name)) {
            return mdm_http_decode(value.s != NULL ? value : MDM_STR(""),
                                   arena, value_r, err);
        }
    }
    return MDM_OK;
}
