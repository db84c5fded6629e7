/*
 * mod_mdm_request.c - from request_rec to the core and back.
 *
 * Everything runs in the thread httpd gave the request; the core may block
 * there.  The core decides every status but those of this front end's own
 * limits: body too large, body not readable, service not started.
 *
 * A body up to BODY_HEAP bytes stays in memory, a larger one goes to an
 * unlinked temporary file, so that many uploads at once do not add up.
 */
#include "mod_mdm.h"

#include "http_core.h"
#include "http_protocol.h"
#include "http_request.h"
#include "http_ssl.h"

#include "apr_portable.h"
#include "apr_strings.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

APLOG_USE_MODULE(mdm);

#define BODY_HEAP ((size_t)1 << 20)
#define BODY_START ((size_t)8 << 10)
#define BODY_READ ((apr_off_t)64 << 10)
#define WRITE_MAX ((size_t)1 << 20)

/* ---- making the URL ours ----------------------------------------------- */

static bool is_endpoint(const request_rec *r)
{
    const mod_mdm_dir_t *dir =
        ap_get_module_config(r->per_dir_config, &mdm_module);

    return dir != NULL && dir->endpoint != NULL &&
           mdm_config_is_endpoint(dir->endpoint);
}

/* Enrolment ids in API paths may hold an encoded slash, which httpd refuses
 * or decodes depending on AllowEncodedSlashes.  Decodes all but slashes; the
 * core reads ids from the raw target anyway. */
static int pre_translate(request_rec *r)
{
    int status = OK;

    if (!is_endpoint(r) || r->parsed_uri.path == NULL)
        return DECLINED;
    status = ap_unescape_url_ex(r->parsed_uri.path,
                                AP_UNESCAPE_URL_KEEP_UNRESERVED |
                                    AP_UNESCAPE_URL_KEEP_SLASHES);
    return status == OK ? DONE : status;
}

/* Notes what the URL was before rewriting, which comes next. */
static int translate_note(request_rec *r)
{
    if (is_endpoint(r))
        ap_set_module_config(r->request_config, &mdm_module, r->pool);
    return DECLINED;
}

/* Has the URL stayed an endpoint through rewriting? */
static bool is_endpoint_still(request_rec *r)
{
    ap_conf_vector_t *before = r->per_dir_config;
    bool ours = false;

    if (ap_get_module_config(r->request_config, &mdm_module) == NULL)
        return false;
    r->per_dir_config = r->server->lookup_defaults;
    ours = ap_location_walk(r) == OK && is_endpoint(r);
    r->per_dir_config = before;
    return ours;
}

/* After rewriting and aliases, before the core makes a file name of the URL,
 * which fails for long ones. */
static int translate(request_rec *r)
{
    if (!is_endpoint_still(r))
        return DECLINED;
    r->filename = apr_pstrdup(r->pool, "mdm:endpoint");
    return OK;
}

/* No file stands behind an endpoint, nor a proxied server that a wider
 * ProxyPass names.  Also keeps TRACE from being answered by httpd. */
static int map_to_storage(request_rec *r)
{
    if (!is_endpoint_still(r))
        return DECLINED;
    if (r->proxyreq == PROXYREQ_REVERSE)
        r->proxyreq = PROXYREQ_NONE;
    r->filename = apr_pstrdup(r->pool, "mdm:endpoint");
    return OK;
}

/* Keeps mod_mime and mod_negotiation away, and mod_dir's fallback, which
 * leaves requests with a handler alone. */
static int type_checker(request_rec *r)
{
    if (!is_endpoint(r))
        return DECLINED;
    r->handler = "mdm";
    return OK;
}

/* ---- body -------------------------------------------------------------- */

typedef struct body {
    char *data; /* malloc, NULL once the bytes are in the file */
    size_t cap;
    apr_file_t *file; /* closed with the request */
    uint64_t size;
} body_t;

static void body_clear(body_t *body)
{
    free(body->data);
    body->data = NULL;
}

static apr_status_t body_to_file(request_rec *r, body_t *body)
{
    char *name = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (mod_mdm_service->temp_dir == NULL)
        return APR_ENOENT;
    name = apr_psprintf(r->pool, "%s/mdm-XXXXXX", mod_mdm_service->temp_dir);
    rv = apr_file_mktemp(&body->file, name, APR_FOPEN_CREATE | APR_FOPEN_EXCL |
                         APR_FOPEN_READ | APR_FOPEN_WRITE, r->pool);
    if (rv != APR_SUCCESS)
        return rv;
    apr_file_remove(name, r->pool); /* reachable by descriptor alone */
    rv = apr_file_write_full(body->file, body->data, (apr_size_t)body->size,
                             NULL);
    body_clear(body);
    return rv;
}

static apr_status_t body_add(request_rec *r, body_t *body, const char *data,
                             apr_size_t n)
{
    size_t cap = body->cap ? body->cap : BODY_START;
    char *grown = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (n == 0)
        return APR_SUCCESS;
    if (body->file == NULL && body->size + n > BODY_HEAP) {
        rv = body_to_file(r, body);
        if (rv != APR_SUCCESS)
            return rv;
    }
    if (body->file != NULL) {
        rv = apr_file_write_full(body->file, data, n, NULL);
        body->size += n;
        return rv;
    }
    while (cap < body->size + n)
        cap *= 2;
    if (cap > body->cap) {
        grown = realloc(body->data, cap);
        if (grown == NULL)
            return APR_ENOMEM;
        body->data = grown;
        body->cap = cap;
    }
    memcpy(body->data + body->size, data, n);
    body->size += n;
    return APR_SUCCESS;
}

/* Our own trouble with a body: 503, the client comes back. */
static int body_lost(const mdm_log_t *log, apr_status_t rv)
{
    char reason[128] = "";

    mdm_log_msg(log, MDM_LOG_ERROR, MDM_MSG_STORE_FAULT,
                "a request's body cannot be kept in %s: %s",
                mod_mdm_service->temp_dir ? mod_mdm_service->temp_dir : "/tmp",
                apr_strerror(rv, reason, sizeof(reason)));
    return HTTP_SERVICE_UNAVAILABLE;
}

/* Takes what one brigade holds.  OK or an HTTP status. */
static int body_take(request_rec *r, apr_bucket_brigade *bb, uint64_t max,
                     body_t *body, const mdm_log_t *log, bool *end_r)
{
    apr_bucket *bucket = NULL;
    const char *data = NULL;
    apr_size_t n = 0;
    apr_status_t rv = APR_SUCCESS;

    for (bucket = APR_BRIGADE_FIRST(bb); bucket != APR_BRIGADE_SENTINEL(bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket)) {
            *end_r = true;
            return OK;
        }
        if (APR_BUCKET_IS_METADATA(bucket))
            continue;
        rv = apr_bucket_read(bucket, &data, &n, APR_BLOCK_READ);
        if (rv != APR_SUCCESS)
            return ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        if (n > max - body->size)
            return HTTP_REQUEST_ENTITY_TOO_LARGE;
        rv = body_add(r, body, data, n);
        if (rv != APR_SUCCESS)
            return body_lost(log, rv);
    }
    return OK;
}

/* httpd's own input filter answers broken framing and LimitRequestBody by
 * itself: without a page of its own and without an ErrorDocument. */
static void quiet_filter_errors(request_rec *r)
{
    ap_custom_response(r, HTTP_BAD_REQUEST, "");
    ap_custom_response(r, HTTP_REQUEST_ENTITY_TOO_LARGE, "");
    ap_custom_response(r, HTTP_NOT_IMPLEMENTED, "");
}

/* The smaller of the endpoint's and the host's limit. */
static uint64_t body_max(request_rec *r, const mdm_config_t *location)
{
    apr_off_t host = ap_get_limit_req_body(r);
    uint64_t max = mdm_config_body_max(location);

    return host > 0 && (uint64_t)host < max ? (uint64_t)host : max;
}

/* Reads the whole body.  OK, an HTTP status, or AP_FILTER_ERROR when a filter
 * has answered already. */
static int body_read(request_rec *r, uint64_t max, body_t *body,
                     const mdm_log_t *log)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_bucket_brigade *bb = NULL;
    apr_off_t announced = 0;
    apr_status_t rv = APR_SUCCESS;
    int status = OK;
    bool end = false;

    /* Refuse before "100 Continue" invites the bytes. */
    if (length != NULL &&
        apr_strtoff(&announced, length, NULL, 10) == APR_SUCCESS &&
        announced > 0 && (uint64_t)announced > max)
        return HTTP_REQUEST_ENTITY_TOO_LARGE;
    quiet_filter_errors(r);
    bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    while (!end && status == OK) {
        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                            APR_BLOCK_READ, BODY_READ);
        if (rv != APR_SUCCESS)
            status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        else
            status = body_take(r, bb, max, body, log, &end);
        apr_brigade_cleanup(bb);
    }
    apr_brigade_destroy(bb);
    return status;
}

/* ---- request ----------------------------------------------------------- */

static mdm_str_t text(const char *value)
{
    return value ? (mdm_str_t){value, strlen(value)} : MDM_STR_NONE;
}

static mdm_str_t header(const request_rec *r, const char *name)
{
    return text(apr_table_get(r->headers_in, name));
}

/* httpd offers the client's certificate as PEM; the core judges it. */
static mdm_str_t client_cert(request_rec *r)
{
    const char *pem = ap_ssl_var_lookup(r->pool, r->server, r->connection, r,
                                        "SSL_CLIENT_CERT");

    return pem ? mdm_request_pem(apr_pstrdup(r->pool, pem)) : MDM_STR_NONE;
}

static void request_fill(request_rec *r, const body_t *body,
                         mdm_request_t *request)
{
    const mod_mdm_site_t *site =
        ap_get_module_config(r->server->module_config, &mdm_module);
    apr_os_file_t fd = -1;

    request->server = site->node;
    request->method = text(r->method);
    request->target = mdm_request_target(r->unparsed_uri);
    request->host = text(r->hostname);
    request->expect = header(r, "Expect");
    request->content_type = header(r, "Content-Type");
    request->content_encoding = header(r, "Content-Encoding");
    request->accept = header(r, "Accept");
    request->authorization = header(r, "Authorization");
    request->key_passphrase = header(r, "X-Key-Passphrase");
    request->signature = header(r, "Mdm-Signature");
    if (mdm_config_identity_header(request->location) != NULL)
        request->identity_header =
            header(r, mdm_config_identity_header(request->location));
    request->client_cert = client_cert(r);
    request->peer = text(r->useragent_ip);
    request->neighbor = text(r->connection->client_ip); /* no mod_remoteip */
    request->body_size = body->size;
    request->body_fd = -1;
    if (body->file != NULL && apr_os_file_get(&fd, body->file) == APR_SUCCESS)
        request->body_fd = fd;
    else if (body->size > 0)
        request->body = (mdm_str_t){body->data, (size_t)body->size};
    else
        request->body = MDM_STR("");
}

/* Under prefork a signal handler ends the child in the middle of whatever
 * its only thread does, and stopping the core from inside the core would
 * wait for ever.  Holds such signals back until the core has returned. */
static void core_handle(const mdm_request_t *request, mdm_response_t *response)
{
    sigset_t held;
    sigset_t before;

    if (mod_mdm_service->threaded) {
        mdm_server_handle(mod_mdm_service->server, request, response);
        return;
    }
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    mdm_server_handle(mod_mdm_service->server, request, response);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- response ---------------------------------------------------------- */

/* Sends the core's answer as it is.  The handler returns OK afterwards even
 * for errors: httpd would put its own page or an ErrorDocument in front. */
static void send_response(request_rec *r, const mdm_response_t *response)
{
    mdm_str_t rest = response->body;
    size_t n = 0;
    size_t i = 0;

    r->status = response->status;
    if (response->content_type != NULL)
        ap_set_content_type(r, apr_pstrdup(r->pool, response->content_type));
    for (i = 0; i < response->nheaders; i++)
        apr_table_add(r->headers_out, response->headers[i].name,
                      response->headers[i].value);
    ap_set_content_length(r, (apr_off_t)response->body.n);
    for (; rest.n > 0; rest.s += n, rest.n -= n) {
        n = rest.n < WRITE_MAX ? rest.n : WRITE_MAX;
        if (ap_rwrite(rest.s, (int)n, r) < 0)
            return; /* the client is gone */
    }
}

static int answer(request_rec *r, const mdm_config_t *location)
{
    mdm_log_t log = mod_mdm_log_request(r);
    mdm_request_t request = {.log = &log, .location = location};
    mdm_response_t response = {.status = 0};
    body_t body = {NULL, 0, NULL, 0};
    int status = OK;

    status = mod_mdm_service->started
                 ? body_read(r, body_max(r, location), &body, &log)
                 : HTTP_SERVICE_UNAVAILABLE;
    if (status == AP_FILTER_ERROR)
        goto leave;
    if (status == OK) {
        request_fill(r, &body, &request);
        core_handle(&request, &response);
    } else {
        /* Unread bytes must not be taken for the next request. */
        r->connection->keepalive = AP_CONN_CLOSE;
        mdm_response_refuse(&response, status);
    }
    send_response(r, &response);
    mdm_response_clear(&response);
    status = OK;
leave:
    body_clear(&body);
    return status;
}

static int handler(request_rec *r)
{
    if (!is_endpoint(r))
        return DECLINED;
    if (r->main != NULL)
        return HTTP_NOT_FOUND; /* a page that includes our URL */
    return answer(r, mod_mdm_location(r->pool, ap_get_module_config(
                                                   r->per_dir_config,
                                                   &mdm_module)));
}

void mod_mdm_request_hooks(void)
{
    ap_hook_pre_translate_name(pre_translate, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_translate_name(translate_note, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_translate_name(translate, NULL, NULL, APR_HOOK_LAST);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_type_checker(type_checker, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_FIRST);
}
