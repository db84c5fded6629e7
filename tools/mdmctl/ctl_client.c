/*
 * ctl_client.c - mdmctl: calls of the API over libcurl.
 *
 * One handle keeps the connection.  The token travels in a header that
 * libcurl sends to this host alone; redirects are not followed.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define CONNECT_SECONDS 15L
/* A call may wait 30 seconds by itself; less than a byte a second in a
 * minute is a dead connection. */
#define SILENT_SECONDS 60L

struct ctl_client {
    CURL *curl;
    const ctl_settings_t *settings;
    char error[CURL_ERROR_SIZE];
};

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    mdm_buf_t *body = arg;

    return mdm_buf_append(body, data, size * n) == MDM_OK ? size * n : 0;
}

static CURLcode set_up(ctl_client_t *client)
{
    CURL *curl = client->curl;
    const ctl_settings_t *s = client->settings;
    CURLcode c = CURLE_OK;

#define SET(option, value) \
    c = c == CURLE_OK ? curl_easy_setopt(curl, option, value) : c
    SET(CURLOPT_PROTOCOLS_STR, "https,http");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, SILENT_SECONDS);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_USERAGENT, "mdmctl/" MDM_VERSION);
    SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
    SET(CURLOPT_XOAUTH2_BEARER, s->token);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_ERRORBUFFER, client->error);
    if (s->ca != NULL) {
        SET(CURLOPT_CAINFO, s->ca);
    }
#undef SET
    return c;
}

mdm_rc ctl_client_new(const ctl_settings_t *settings, ctl_client_t **client_r,
                      mdm_err_t *err)
{
    ctl_client_t *client = calloc(1, sizeof(*client));

    *client_r = client;
    if (client == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        return mdm_err_nomem(err);
    }
    client->settings = settings;
    client->curl = curl_easy_init();
    if (client->curl == NULL || set_up(client) != CURLE_OK) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "cannot set up libcurl");
    }
    return MDM_OK;
}

void ctl_client_free(ctl_client_t **client)
{
    if (*client != NULL) {
        curl_easy_cleanup((*client)->curl);
        curl_global_cleanup();
        free(*client);
        *client = NULL;
    }
}

static bool add_header(struct curl_slist **list, const char *name,
                       const char *value)
{
    mdm_buf_t line;

    if (value == NULL) {
        return true;
    }
    mdm_buf_init_secret(&line, 8192);
    (void)mdm_buf_printf(&line, "%s: %s", name, value);
    struct curl_slist *more =
        line.rc == MDM_OK ? curl_slist_append(*list, line.data) : NULL;
    mdm_buf_clear(&line);
    if (more != NULL) {
        *list = more;
    }
    return more != NULL;
}

static mdm_rc prepare(ctl_client_t *client, const ctl_request_t *request,
                      struct curl_slist **headers, mdm_buf_t *url,
                      mdm_err_t *err)
{
    CURL *curl = client->curl;
    bool ok = add_header(headers, "Accept",
                         request->accept ? request->accept
                                         : "application/json");

    (void)mdm_buf_puts(url, client->settings->url);
    (void)mdm_buf_puts(url, request->path);
    /* Without a type libcurl would say that the body is a form. */
    if (request->body.s != NULL) {
        ok = ok && add_header(headers, "Content-Type",
                              request->type ? request->type
                                            : "application/octet-stream");
    }
    ok = ok && add_header(headers, "X-Key-Passphrase", request->passphrase);
    /* A body is sent at once, whatever its size. */
    ok = ok && add_header(headers, "Expect", "");
    if (!ok || mdm_buf_rc(url) != MDM_OK) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the call is too long, or memory is out");
    }
    (void)curl_easy_setopt(curl, CURLOPT_URL, url->data);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    if (request->body.s != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                               (curl_off_t)request->body.n);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.s);
    }
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    return MDM_OK;
}

mdm_rc ctl_send(ctl_client_t *client, const ctl_request_t *request,
                ctl_reply_t *reply_r, mdm_err_t *err)
{
    struct curl_slist *headers = NULL;
    mdm_buf_t url;

    memset(reply_r, 0, sizeof(*reply_r));
    mdm_buf_init_secret(&reply_r->body, CTL_ANSWER_MAX);
    mdm_buf_init(&url, 1024 * 1024);
    mdm_rc rc = prepare(client, request, &headers, &url, err);
    if (rc == MDM_OK) {
        client->error[0] = '\0';
        (void)curl_easy_setopt(client->curl, CURLOPT_WRITEDATA,
                               &reply_r->body);
        CURLcode c = curl_easy_perform(client->curl);
        if (c != CURLE_OK) {
            rc = mdm_err_set(err, MDM_EUNAVAIL, 0, "%s: %s",
                             client->settings->url,
                             client->error[0] ? client->error
                                              : curl_easy_strerror(c));
        }
    }
    if (rc == MDM_OK) {
        (void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE,
                                &reply_r->status);
        reply_r->json = json_loadb(reply_r->body.data ? reply_r->body.data
                                                      : "",
                                   reply_r->body.len, 0, NULL);
    }
    curl_slist_free_all(headers);
    mdm_buf_clear(&url);
    return rc;
}

mdm_rc ctl_ask(ctl_client_t *client, const ctl_request_t *request,
               ctl_reply_t *reply_r, mdm_err_t *err)
{
    mdm_rc rc = ctl_send(client, request, reply_r, err);

    if (rc != MDM_OK || reply_r->status < 400 ||
        json_is_object(json_object_get(reply_r->json, "status"))) {
        return rc;
    }
    const char *said =
        json_string_value(json_object_get(reply_r->json, "error"));
    if (said != NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s", said);
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "the server answered %ld without a reason; is %s the "
                       "URL of its API location?", reply_r->status,
                       client->settings->url);
}

void ctl_reply_clear(ctl_reply_t *reply)
{
    mdm_buf_clear(&reply->body);
    json_decref(reply->json);
    reply->json = NULL;
}

mdm_rc ctl_path_add(mdm_buf_t *path, const char *part)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:";

    for (const char *p = part; *p != '\0'; p++) {
        if (strchr(plain, *p) != NULL) {
            (void)mdm_buf_append(path, p, 1);
        } else {
            (void)mdm_buf_printf(path, "%%%02X", (unsigned char)*p);
        }
    }
    return mdm_buf_rc(path);
}

mdm_rc ctl_path_query(mdm_buf_t *path, const char *name, const char *value)
{
    if (value == NULL) {
        return mdm_buf_rc(path);
    }
    bool first = path->data == NULL || strchr(path->data, '?') == NULL;
    (void)mdm_buf_printf(path, "%s%s=", first ? "?" : "&", name);
    return ctl_path_add(path, value);
}
