/*
 * mdm_status.c - see mdm_status.h.
 */
#include "mdm_status.h"

#include <stdio.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define DAY_US (INT64_C(86400) * MDM_SEC)

typedef struct job {
    mdm_status_t *status;
    const mdm_expiry_config_t *config;
    mdm_arena_t *arena;
} job_t;

/* How many are meant is seen long before all of a large fleet are counted. */
static mdm_rc count_users(mdm_tx_t *tx, mdm_status_t *status, mdm_err_t *err)
{
    const mdm_ends_t *ends = &status->ends;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < ends->n; i++) {
        if (ends->list[i].kind == MDM_END_PUSH) {
            rc = mdm_store_topic_users(tx, ends->list[i].name,
                                       MDM_STATUS_USERS_MAX,
                                       &status->users[i], err);
        }
    }
    return rc;
}

static mdm_rc read_store(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = mdm_store_status(tx, &job->status->store, err);

    if (rc == MDM_OK) {
        rc = mdm_store_push_given_up(tx, &job->status->given_up, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_ends_read(tx, job->config, job->arena, &job->status->ends,
                           err);
    }
    return rc == MDM_OK ? count_users(tx, job->status, err) : rc;
}

mdm_rc mdm_status_read(mdm_server_t *server, mdm_arena_t *arena,
                       mdm_status_t **status_r, mdm_err_t *err)
{
    mdm_expiry_config_t config = mdm_config_expiry(server->config);
    job_t job = {.config = &config, .arena = arena};
    mdm_rc rc;

    job.status = mdm_arena_alloc(arena, sizeof(*job.status));
    *status_r = job.status;
    if (job.status == NULL) {
        return mdm_err_nomem(err);
    }
    job.status->now_us = mdm_wall_us(NULL);
    job.status->warn_us = config.warn_us;
    rc = mdm_store_read(server->store, read_store, &job, err);
    job.status->store_up = rc == MDM_OK;
    if (rc != MDM_OK &&
        mdm_ends_read(NULL, &config, arena, &job.status->ends, err) !=
            MDM_OK) {
        *status_r = NULL;
        return MDM_ENOMEM;
    }
    return rc;
}

const char *mdm_status_cert_state(const mdm_status_t *status,
                                  const mdm_end_t *cert)
{
    int64_t left = cert->not_after_us - status->now_us;

    return left <= 0                  ? "expired"
           : cert->suspended.s != NULL ? "suspended"
           : left <= status->warn_us  ? "soon"
                                      : "good";
}

int64_t mdm_status_days_left(const mdm_status_t *status,
                             const mdm_end_t *cert)
{
    int64_t left = cert->not_after_us - status->now_us;

    return left >= 0 ? left / DAY_US : -(-left / DAY_US) - 1;
}

const char *mdm_status_users(const mdm_status_t *status, size_t i, char *dst,
                             size_t cap)
{
    int64_t n = status->users[i];

    dst[0] = '\0';
    if (status->store_up) {
        (void)snprintf(dst, cap, "%lld%s", (long long)n,
                       n == MDM_STATUS_USERS_MAX ? " or more" : "");
    }
    return dst;
}

/* ---- the role ------------------------------------------------------------ */

typedef void write_fn(const mdm_status_t *status, mdm_buf_t *out);

static const struct {
    const char *name;
    const char *type;
    write_fn *write;
    /* Says so itself when the store is down, and is of use then. */
    bool always_ok;
} formats[] = {
    {"html", "text/html; charset=utf-8", mdm_status_html, false},
    {"json", "application/json", mdm_status_json, false},
    {"prometheus", "text/plain; version=0.0.4; charset=utf-8",
     mdm_status_prometheus, true},
};

static mdm_rc choose(const mdm_request_t *request, mdm_arena_t *arena,
                     size_t *format_r, mdm_err_t *err)
{
    mdm_str_t value;
    size_t i;
    mdm_rc rc = mdm_http_query(request->target, "format", arena, &value, err);

    *format_r = 0;
    if (rc != MDM_OK || value.s == NULL) {
        return rc;
    }
    for (i = 0; i < MDM_ARRAY_LEN(formats); i++) {
        if (mdm_str_is(value, formats[i].name)) {
            *format_r = i;
            return MDM_OK;
        }
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "format is html, json or prometheus");
}

static mdm_rc reply(mdm_response_t *response, size_t format,
                    const mdm_status_t *status, mdm_err_t *err)
{
    mdm_arena_t *arena = response->arena;
    mdm_str_t body;
    mdm_buf_t out;
    mdm_rc rc;

    mdm_buf_init(&out, MDM_STATUS_PAGE_MAX);
    formats[format].write(status, &out);
    rc = mdm_buf_rc(&out) == MDM_OK &&
                 mdm_arena_str(arena, mdm_buf_str(&out), &body)
             ? MDM_OK
             : mdm_err_nomem(err);
    mdm_buf_clear(&out);
    if (rc == MDM_OK) {
        mdm_http_header(response, "Cache-Control", "no-store");
        mdm_http_reply(response,
                       status->store_up || formats[format].always_ok ? 200
                                                                     : 503,
                       formats[format].type, body);
    }
    return rc;
}

static mdm_rc answer(mdm_server_t *server, const mdm_request_t *request,
                     mdm_response_t *response, mdm_err_t *err)
{
    mdm_status_t *status = NULL;
    size_t format = 0;
    mdm_rc rc;

    if (!mdm_str_is(request->method, "GET") &&
        !mdm_str_is(request->method, "HEAD")) {
        mdm_http_header(response, "Allow", "GET, HEAD");
        return mdm_err_set(err, MDM_EMETHOD, 0, "this page takes GET");
    }
    rc = choose(request, response->arena, &format, err);
    if (rc != MDM_OK) {
        return rc;
    }
    rc = mdm_status_read(server, response->arena, &status, err);
    if (status == NULL) {
        return rc;
    }
    if (rc != MDM_OK && !mdm_store_has_told(err)) {
        mdm_edge_log(server, request, MDM_REPEAT_STORE, MDM_LOG_ERROR,
                     MDM_MSG_STORE_FAULT, err);
    }
    return reply(response, format, status, err);
}

void mdm_status_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response)
{
    mdm_err_t err;
    mdm_rc rc;

    mdm_err_clear(&err);
    rc = answer(server, request, response, &err);
    if (rc != MDM_OK) {
        err.rc = rc;
        mdm_http_error(response, MDM_AUDIENCE_API, &err);
    }
}
