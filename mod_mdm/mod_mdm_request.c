/*
 * mod_mdm_request.c - from request_rec to the core and back.
 *
 * Everything runs in the thread httpd gave the request; the core may block
 * there.  The core decides every status but those of this front end's own
 * limits: body too large, body not readable, service not started.
 *
 * The body is kept by the core, in memory or in a file (mdm_body_t).
 */
#include "mod_mdm.h"

#include "http_core.h"
#include "http_protocol.h"
#include "http_request.h"
#include "http_ssl.h"

#include "apr_strings.h"

#include <pthread.h>
#include <signal.h>

APLOG_USE_MODULE(mdm);

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

/* Takes what one brigade holds.  OK or an HTTP status. */
static int body_take(apr_bucket_brigade *bb, uint64_t max, mdm_body_t *body,
                     const mdm_log_t *log, bool *end_r)
{
    apr_bucket *bucket = NULL;
    const char *data = NULL;
    apr_size_t n = 0;
    apr_status_t rv = APR_SUCCESS;
    mdm_err_t err = {MDM_OK, 0, ""};

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
        if (mdm_body_add(body, data, n, &err) != MDM_OK) {
            mdm_log_err(log, MDM_LOG_ERROR, MDM_MSG_STORE_FAULT, &err);
            return HTTP_SERVICE_UNAVAILABLE;
        }
    }
    return OK;
}

/* httpd's own input filter answers broken framing and LimitRequestBody by
 * itself.  Keeps that answer from the client, for us to give: without a page
 * of httpd's or an ErrorDocument.  ctx: int, the status. */
static apr_status_t catch_error(ap_filter_t *f, apr_bucket_brigade *bb)
{
    apr_bucket *first = APR_BRIGADE_FIRST(bb);

    if (first == APR_BRIGADE_SENTINEL(bb) || !AP_BUCKET_IS_ERROR(first))
        return ap_pass_brigade(f->next, bb);
    *(int *)f->ctx = ((ap_bucket_error *)first->data)->status;
    apr_brigade_cleanup(bb);
    f->r->eos_sent = 0; /* the answer is to come */
    return AP_FILTER_ERROR;
}

/* The status for a body that the input filter does not give. */
static int body_fault(apr_status_t rv, int caught, bool full)
{
    int status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST);

    if (status == AP_FILTER_ERROR && caught != 0)
        status = caught;
    /* Within the limits it is a chunk size that wraps: malformed. */
    return status == HTTP_REQUEST_ENTITY_TOO_LARGE && !full ? HTTP_BAD_REQUEST
                                                            : status;
}

/* The smaller of the endpoint's and the host's limit. */
static uint64_t body_max(request_rec *r, const mdm_config_t *location)
{
    apr_off_t host = ap_get_limit_req_body(r);
    uint64_t max = mdm_config_body_max(location);

    return host > 0 && (uint64_t)host < max ? (uint64_t)host : max;
}

/* Reads the whole body.  OK, an HTTP status, or AP_FILTER_ERROR when a filter
 * has answered already, which none of httpd's does. */
static int body_read(request_rec *r, uint64_t max, mdm_body_t *body,
                     const mdm_log_t *log)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    apr_bucket_brigade *bb = NULL;
    apr_off_t announced = 0;
    ap_filter_t *catcher = NULL;
    apr_status_t rv = APR_SUCCESS;
    int caught = 0;
    int status = OK;
    bool end = false;

    /* Refuse before "100 Continue" invites the bytes. */
    if (length != NULL &&
        apr_strtoff(&announced, length, NULL, 10) == APR_SUCCESS &&
        announced > 0 && (uint64_t)announced > max)
        return HTTP_REQUEST_ENTITY_TOO_LARGE;
    catcher = ap_add_output_filter("MDM_BODY_ERROR", &caught, r,
                                   r->connection);
    bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    while (!end && status == OK) {
        rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                            APR_BLOCK_READ, BODY_READ);
        if (rv != APR_SUCCESS)
            status = body_fault(rv, caught, body->size + BODY_READ > max);
        else
            status = body_take(bb, max, body, log, &end);
        apr_brigade_cleanup(bb);
    }
    apr_brigade_destroy(bb);
    ap_remove_output_filter(catcher);
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

static void request_fill(request_rec *r, const mdm_body_t *body,
                         mdm_request_t *request)
{
    const mod_mdm_site_t *site =
        ap_get_module_config(r->server->module_config, &mdm_module);
    mdm_str_t *value = NULL;
    const char *name = NULL;
    size_t i = 0;

    request->server = site->node;
    request->method = text(r->method);
    request->target = mdm_request_target(r->unparsed_uri);
    request->host = text(r->hostname);
    for (i = 0; (value = mdm_request_header(request, i, &name)) != NULL; i++)
        *value = header(r, name);
    name = mdm_config_user_variable(request->location);
    request->remote_user =
        text(name ? apr_table_get(r->subprocess_env, name) : r->user);
    request->client_cert = client_cert(r);
    request->peer = text(r->useragent_ip);
    request->neighbor = text(r->connection->client_ip); /* no mod_remoteip */
    mdm_body_lend(body, request);
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
    mdm_body_t body;
    int status = OK;

    mdm_body_init(&body, mod_mdm_service->temp_dir);
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
    mdm_body_clear(&body);
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
    ap_register_output_filter("MDM_BODY_ERROR", catch_error, NULL,
                              AP_FTYPE_RESOURCE);
    ap_hook_pre_translate_name(pre_translate, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_translate_name(translate_note, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_translate_name(translate, NULL, NULL, APR_HOOK_LAST);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_type_checker(type_checker, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_FIRST);
}
