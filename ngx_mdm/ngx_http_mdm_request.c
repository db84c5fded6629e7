/*
 * ngx_http_mdm_request.c - one request: read the body, make a job, have a
 * pool thread give it to the core, send what comes back.
 *
 * The job is one heap object, freed by a clean-up of the request's pool, so
 * it lives as long as anything it borrows from there and longer than the
 * response's last byte.  Between posting and completion it belongs to the
 * pool thread, which touches nothing else: no request, pool or log.  What
 * keeps the request there meanwhile is r->main->blocked, also when the
 * client goes away; what keeps an exiting worker there is the timer.
 */
#include "ngx_http_mdm.h"

/* nginx's own thread operations have the same patience */
#define NGX_HTTP_MDM_TIMER 60000

typedef struct {
    ngx_thread_task_t     task;
    mdm_server_t         *server;
    mdm_request_t         in;
    mdm_response_t        out;
    mdm_log_t             log;
    mdm_log_lines_t       lines;
    u_char               *body;    /* a copy; NULL: in.body is borrowed */
    u_char               *cert;    /* from i2d_X509() */
    unsigned              done:1;  /* `out` may be sent */
} ngx_http_mdm_job_t;

static void ngx_http_mdm_body_ready(ngx_http_request_t *r);

static void ngx_http_mdm_job_free(void *data)
{
    ngx_http_mdm_job_t *job = data;

    mdm_response_clear(&job->out);
    mdm_log_lines_flush(&job->lines, NULL);
    free(job->body);
#if (NGX_HTTP_SSL)
    OPENSSL_free(job->cert);
#endif
    free(job);
}

static ngx_http_mdm_job_t *ngx_http_mdm_job_new(ngx_http_request_t *r)
{
    /* not ngx_http_cleanup_add(): those run while the thread still works */
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(r->pool, 0);
    ngx_http_mdm_job_t *job = cln != NULL ? calloc(1, sizeof(*job)) : NULL;

    if (job != NULL) {
        job->in.body_fd = -1;
        cln->handler = ngx_http_mdm_job_free;
        cln->data = job;
        ngx_http_set_ctx(r, job, ngx_http_mdm_module);
    }
    return job;
}

static ngx_int_t ngx_http_mdm_push_headers(ngx_http_request_t *r,
                                           const mdm_response_t *out)
{
    ngx_table_elt_t *h;
    size_t i;

    for (i = 0; i < out->nheaders; i++) {
        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }
        ngx_memzero(h, sizeof(*h));
        h->hash = 1;
        h->key.data = (u_char *)out->headers[i].name;
        h->key.len = ngx_strlen(out->headers[i].name);
        h->value.data = (u_char *)out->headers[i].value;
        h->value.len = ngx_strlen(out->headers[i].value);
        if (ngx_strcasecmp(h->key.data, (u_char *)"WWW-Authenticate") == 0) {
            r->headers_out.www_authenticate = h;
        }
    }
    return NGX_OK;
}

static ngx_int_t ngx_http_mdm_send_headers(ngx_http_request_t *r,
                                           const mdm_response_t *out)
{
    r->headers_out.status = (ngx_uint_t)out->status;
    r->headers_out.content_length_n = (off_t)out->body.n;
    if (out->content_type != NULL) {
        r->headers_out.content_type.data = (u_char *)out->content_type;
        r->headers_out.content_type.len = ngx_strlen(out->content_type);
        r->headers_out.content_type_len = r->headers_out.content_type.len;
        r->headers_out.content_type_lowcase = NULL;
    }
    if (ngx_http_mdm_push_headers(r, out) != NGX_OK) {
        return NGX_ERROR;
    }
    /* what was done is done: no 412 for an If-Match */
    r->disable_not_modified = 1;
    return ngx_http_send_header(r);
}

/* Sends job->out; the bytes stay in the core's arena, which is the job's. */
static ngx_int_t ngx_http_mdm_send(ngx_http_request_t *r,
                                   const ngx_http_mdm_job_t *job)
{
    ngx_chain_t cl = {NULL, NULL};
    ngx_int_t rc;

    r->connection->log->action = "sending mdm response to client";
    rc = ngx_http_mdm_send_headers(r, &job->out);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    cl.buf = ngx_calloc_buf(r->pool);
    if (cl.buf == NULL) {
        return NGX_ERROR;
    }
    if (job->out.body.n != 0) {
        cl.buf->pos = (u_char *)job->out.body.s;
        cl.buf->last = cl.buf->pos + job->out.body.n;
        cl.buf->memory = 1;
    }
    cl.buf->last_buf = 1;
    cl.buf->last_in_chain = 1;
    return ngx_http_output_filter(r, &cl);
}

/* For want of a job: nginx's own page, but devices are told when to come
 * back.  The list of headers begins with room for some. */
static ngx_int_t ngx_http_mdm_unavailable(ngx_http_request_t *r)
{
    mdm_response_t out;

    mdm_response_refuse(&out, NGX_HTTP_SERVICE_UNAVAILABLE);
    if (ngx_http_mdm_push_headers(r, &out) != NGX_OK) {
        return NGX_ERROR;
    }
    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

ngx_int_t ngx_http_mdm_handler(ngx_http_request_t *r)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_get_module_main_conf(r, ngx_http_mdm_module);
    ngx_http_mdm_loc_conf_t *mlcf =
        ngx_http_get_module_loc_conf(r, ngx_http_mdm_module);
    off_t size = r->headers_in.content_length_n;
    ngx_http_mdm_job_t *job;
    ngx_int_t rc;
    int refused = 0;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "mdm endpoint in a subrequest");
        return NGX_HTTP_FORBIDDEN;
    }
    job = ngx_http_mdm_job_new(r);
    if (job == NULL) {
        return ngx_http_mdm_unavailable(r);
    }
    if (!mmcf->started) {
        refused = NGX_HTTP_SERVICE_UNAVAILABLE;
    } else if (size > 0
               && (uint64_t)size > mdm_config_body_max(mlcf->node.config)) {
        refused = NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }
    if (refused) {
        rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK) {
            return rc;
        }
        mdm_response_refuse(&job->out, refused);
        return ngx_http_mdm_send(r, job);
    }
    job->server = mmcf->server;
    rc = ngx_http_read_client_request_body(r, ngx_http_mdm_body_ready);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

/* Copies what is in memory and in a file by turns.  Rare: a body of several
 * buffers is smaller than client_body_buffer_size, and nginx itself does not
 * mix the two. */
static ngx_int_t ngx_http_mdm_copy_body(ngx_http_request_t *r,
                                        ngx_http_mdm_job_t *job, size_t size)
{
    u_char *p = job->body = malloc(size);
    ngx_chain_t *cl;
    ngx_buf_t *b;
    size_t n;

    if (p == NULL) {
        return NGX_ERROR;
    }
    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        n = (size_t)ngx_buf_size(b);
        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p, b->pos, n);
        } else if (n != 0
                   && ngx_read_file(b->file, p, n, b->file_pos)
                          != (ssize_t)n) {
            return NGX_ERROR;
        }
        p += n;
    }
    job->in.body.s = (char *)job->body;
    job->in.body.n = size;
    return NGX_OK;
}

static ngx_int_t ngx_http_mdm_take_body(ngx_http_request_t *r,
                                        ngx_http_mdm_job_t *job)
{
    ngx_chain_t *bufs = r->request_body ? r->request_body->bufs : NULL;
    ngx_chain_t *cl;
    off_t size = 0;

    /* there may be hundreds of them */
    for (cl = bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }
    if (size == 0) {
        job->in.body = MDM_STR("");
        return NGX_OK;
    }
    if (bufs->next == NULL && ngx_buf_in_memory(bufs->buf)) {
        job->in.body.s = (char *)bufs->buf->pos;
        job->in.body.n = (size_t)size;
        return NGX_OK;
    }
    if (bufs->next == NULL && bufs->buf->file_pos == 0) {
        job->in.body_fd = bufs->buf->file->fd;
        job->in.body_size = (uint64_t)size;
        return NGX_OK;
    }
    return ngx_http_mdm_copy_body(r, job, (size_t)size);
}

static mdm_str_t ngx_http_mdm_str(const ngx_str_t *s)
{
    return (mdm_str_t){(const char *)s->data, s->len};
}

/* All values of a header, joined by ", " as httpd joins them.  Memory is that
 * of the request, which outlives the job. */
static ngx_int_t ngx_http_mdm_take_header(ngx_http_request_t *r,
                                          const char *name, mdm_str_t *value)
{
    ngx_list_part_t *part;
    ngx_table_elt_t *h;
    size_t need;
    size_t size = 0;
    u_char *p;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;
        for (; h < (ngx_table_elt_t *)part->elts + part->nelts; h++) {
            if (h->hash == 0
                || ngx_strcasecmp(h->key.data, (u_char *)name) != 0) {
                continue;
            }
            if (value->s == NULL) {
                *value = ngx_http_mdm_str(&h->value);
                continue;
            }
            need = value->n + 2 + h->value.len;
            if (need > size) {
                size = 2 * need;
                p = ngx_pnalloc(r->pool, size);
                if (p == NULL) {
                    return NGX_ERROR;
                }
                ngx_memcpy(p, value->s, value->n);
                value->s = (char *)p;
            }
            p = ngx_cpymem((u_char *)value->s + value->n, ", ", 2);
            ngx_memcpy(p, h->value.data, h->value.len);
            value->n = need;
        }
    }
    return NGX_OK;
}

static ngx_int_t ngx_http_mdm_take_headers(ngx_http_request_t *r,
                                           mdm_request_t *in)
{
    const char *name;
    mdm_str_t *value;
    size_t i;

    for (i = 0; (value = mdm_request_header(in, i, &name)) != NULL; i++) {
        if (ngx_http_mdm_take_header(r, name, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

/* Absent when there is no such variable, or it has no value. */
static ngx_int_t ngx_http_mdm_take_variable(ngx_http_request_t *r,
                                            const char *name,
                                            mdm_str_t *value)
{
    ngx_str_t key = {ngx_strlen(name), (u_char *)name};
    ngx_http_variable_value_t *v = ngx_http_get_variable(
        r, &key, ngx_hash_key(key.data, key.len));

    if (v != NULL && !v->not_found) {
        *value = (mdm_str_t){(char *)v->data, v->len};
    }
    return v != NULL ? NGX_OK : NGX_ERROR;
}

/* The other end of the connection, whatever ngx_http_realip has made of the
 * client's address (without that module the two are the same), and who has
 * logged in. */
static ngx_int_t ngx_http_mdm_take_variables(ngx_http_request_t *r,
                                             mdm_request_t *in)
{
    const char *user = mdm_config_user_variable(in->location);

    in->neighbor = in->peer;
    if (user == NULL) {
        in->remote_user = ngx_http_mdm_str(&r->headers_in.user);
    } else if (ngx_http_mdm_take_variable(r, user, &in->remote_user)
               != NGX_OK) {
        return NGX_ERROR;
    }
    return ngx_http_mdm_take_variable(r, "realip_remote_addr", &in->neighbor);
}

/* Whatever nginx made of the certificate: the core judges it. */
static void ngx_http_mdm_take_certificate(ngx_http_request_t *r,
                                          ngx_http_mdm_job_t *job)
{
#if (NGX_HTTP_SSL)
    X509 *x = NULL;
    int n;

    if (r->connection->ssl != NULL) {
        x = SSL_get_peer_certificate(r->connection->ssl->connection);
    }
    if (x == NULL) {
        return;
    }
    n = i2d_X509(x, &job->cert);
    X509_free(x);
    if (n > 0) {
        job->in.client_cert.s = (char *)job->cert;
        job->in.client_cert.n = (size_t)n;
    } else {
        /* the queue is nginx's, too */
        ERR_clear_error();
    }
#endif
}

static ngx_int_t ngx_http_mdm_take_request(ngx_http_request_t *r,
                                           ngx_http_mdm_job_t *job)
{
    ngx_http_mdm_srv_conf_t *mscf =
        ngx_http_get_module_srv_conf(r, ngx_http_mdm_module);
    ngx_http_mdm_loc_conf_t *mlcf =
        ngx_http_get_module_loc_conf(r, ngx_http_mdm_module);
    ngx_http_mdm_log_ctx_t ctx = {r->connection->log, NULL};
    mdm_log_t log = ngx_http_mdm_log(&ctx);

    job->log = mdm_log_lines_init(&job->lines, &log);
    job->in.log = &job->log;
    job->in.server = mscf->node.config;
    job->in.location = mlcf->node.config;
    job->in.method = ngx_http_mdm_str(&r->method_name);
    job->in.target = ngx_http_mdm_str(&r->unparsed_uri);
    job->in.host = ngx_http_mdm_str(&r->headers_in.server);
    job->in.peer = ngx_http_mdm_str(&r->connection->addr_text);
    ngx_http_mdm_take_certificate(r, job);
    if (ngx_http_mdm_take_headers(r, &job->in) != NGX_OK
        || ngx_http_mdm_take_variables(r, &job->in) != NGX_OK) {
        return NGX_ERROR;
    }
    return ngx_http_mdm_take_body(r, job);
}

/* Pool thread. */
static void ngx_http_mdm_thread(void *data, ngx_log_t *log)
{
    ngx_http_mdm_job_t *job = data;

    (void)log;
    mdm_server_handle(job->server, &job->in, &job->out);
}

static void ngx_http_mdm_complete(ngx_event_t *ev)
{
    ngx_http_request_t *r = ev->data;
    ngx_connection_t *c = r->connection;
    ngx_http_mdm_job_t *job = ngx_http_get_module_ctx(r, ngx_http_mdm_module);
    ngx_http_mdm_log_ctx_t ctx = {c->log, NULL};
    mdm_log_t log = ngx_http_mdm_log(&ctx);

    ngx_http_set_log_request(c->log, r);
    if (ev->timedout) {
        ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                      "mdm thread operation took too long");
        ev->timedout = 0;
        /* still the only thing that keeps an exiting worker */
        ngx_add_timer(ev, NGX_HTTP_MDM_TIMER);
        return;
    }
    if (ev->timer_set) {
        ngx_del_timer(ev);
    }
    job->done = 1;
    mdm_log_lines_flush(&job->lines, &log);

    r->main->blocked--;
    r->aio = 0;
#if (nginx_version >= 1025004)
    if (r->main->terminated) {
        c->write->handler(c->write);
        return;
    }
#endif
    /* ours, or nginx's finalizer when the client has gone */
    r->write_event_handler(r);
    ngx_http_run_posted_requests(c);
}

static void ngx_http_mdm_resume(ngx_http_request_t *r)
{
    ngx_http_mdm_job_t *job = ngx_http_get_module_ctx(r, ngx_http_mdm_module);

    /* write events come for many reasons */
    if (job->done) {
        r->write_event_handler = ngx_http_request_empty_handler;
        ngx_http_finalize_request(r, ngx_http_mdm_send(r, job));
    }
}

static void ngx_http_mdm_body_ready(ngx_http_request_t *r)
{
    ngx_http_mdm_job_t *job = ngx_http_get_module_ctx(r, ngx_http_mdm_module);
    ngx_http_mdm_loc_conf_t *mlcf =
        ngx_http_get_module_loc_conf(r, ngx_http_mdm_module);

    job->task.ctx = job;
    job->task.handler = ngx_http_mdm_thread;
    job->task.event.data = r;
    job->task.event.handler = ngx_http_mdm_complete;
    job->task.event.log = r->connection->log;

    r->write_event_handler = ngx_http_mdm_resume;
    r->connection->log->action = "processing mdm request";
    if (ngx_http_mdm_take_request(r, job) != NGX_OK
        || ngx_thread_task_post(mlcf->thread_pool, &job->task) != NGX_OK) {
        /* no memory, or the queue is full: nginx has logged that */
        mdm_response_refuse(&job->out, NGX_HTTP_SERVICE_UNAVAILABLE);
        job->done = 1;
        ngx_http_mdm_resume(r);
        return;
    }
    ngx_add_timer(&job->task.event, NGX_HTTP_MDM_TIMER);
    r->main->blocked++;
    r->aio = 1;
    r->read_event_handler = ngx_http_test_reading;
}
