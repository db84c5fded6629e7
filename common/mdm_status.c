/*
 * mdm_status.c - see mdm_status.h.
 */
#include "mdm_status.h"

#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define DAY_US (INT64_C(86400) * MDM_SEC)

typedef struct job {
    mdm_status_t *status;
    mdm_arena_t *arena;
    mdm_pushcert_row_t *rows;
    size_t n;
} job_t;

static mdm_rc read_store(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = mdm_store_status(tx, &job->status->store, err);

    if (rc == MDM_OK) {
        rc = mdm_store_push_given_up(tx, &job->status->given_up, err);
    }
    return rc == MDM_OK
               ? mdm_store_pushcert_list(tx, job->arena, job->rows,
                                         MDM_STATUS_CERTS_MAX, &job->n, err)
               : rc;
}

static void add_file_certs(const mdm_config_t *config, mdm_status_t *status)
{
    mdm_status_cert_t *cert;
    size_t i;

    for (i = 0; i < config->npush_certs; i++) {
        cert = &status->push[status->npush++];
        cert->name = config->push_certs[i]->topic;
        cert->fingerprint = mdm_str_from(config->push_certs[i]->fingerprint);
        cert->not_after_us = config->push_certs[i]->not_after_us;
        cert->from_file = true;
    }
}

static void add_authorities(const mdm_config_t *config, mdm_status_t *status)
{
    const mdm_found_t *found = config->found;
    const mdm_trust_ca_t *list;
    mdm_status_cert_t *cert;
    size_t n;
    size_t t;
    size_t i;

    for (t = 0; t < found->ntrusts; t++) {
        list = mdm_trust_cas(found->trusts[t], &n);
        for (i = 0; i < n && status->nca < MDM_STATUS_CERTS_MAX; i++) {
            cert = &status->ca[status->nca++];
            cert->name = mdm_str_from(list[i].subject);
            cert->fingerprint = mdm_str_from(list[i].fingerprint);
            cert->not_after_us = list[i].not_after_us;
            cert->from_file = true;
        }
    }
}

/* What is in use is what the store holds: a file may have been refused. */
static void take_rows(const mdm_config_t *config, const job_t *job)
{
    mdm_status_t *status = job->status;
    const mdm_pushcert_row_t *row;
    mdm_status_cert_t *cert;
    size_t i;
    size_t f;

    memset(status->push, 0, sizeof(status->push));
    status->npush = 0;
    for (i = 0; i < job->n; i++) {
        row = &job->rows[i];
        cert = &status->push[status->npush++];
        cert->name = row->topic;
        cert->fingerprint = row->fingerprint;
        cert->not_after_us = row->not_after_us;
        cert->suspended = row->suspended;
        cert->suspended_at = row->suspended_at;
        cert->accepted_at = row->accepted_at;
        for (f = 0; f < config->npush_certs; f++) {
            cert->from_file =
                cert->from_file ||
                mdm_str_is(row->fingerprint,
                           config->push_certs[f]->fingerprint);
        }
    }
}

mdm_rc mdm_status_read(mdm_server_t *server, mdm_arena_t *arena,
                       mdm_status_t **status_r, mdm_err_t *err)
{
    job_t job = {.arena = arena};
    mdm_rc rc;

    job.status = mdm_arena_alloc(arena, sizeof(*job.status));
    job.rows = mdm_arena_alloc(arena,
                               MDM_STATUS_CERTS_MAX * sizeof(*job.rows));
    *status_r = job.status;
    if (job.status == NULL || job.rows == NULL) {
        *status_r = NULL;
        return mdm_err_nomem(err);
    }
    job.status->now_us = mdm_wall_us(NULL);
    job.status->warn_us = server->config->push_cert_warn_us;
    add_file_certs(server->config, job.status);
    add_authorities(server->config, job.status);
    rc = mdm_store_read(server->store, read_store, &job, err);
    if (rc == MDM_OK) {
        job.status->store_up = true;
        take_rows(server->config, &job);
    }
    return rc;
}

const char *mdm_status_cert_state(const mdm_status_t *status,
                                  const mdm_status_cert_t *cert)
{
    int64_t left = cert->not_after_us - status->now_us;

    return left <= 0                  ? "expired"
           : cert->suspended.s != NULL ? "suspended"
           : left <= status->warn_us  ? "soon"
                                      : "good";
}

int64_t mdm_status_days_left(const mdm_status_t *status,
                             const mdm_status_cert_t *cert)
{
    int64_t left = cert->not_after_us - status->now_us;

    return left >= 0 ? left / DAY_US : -(-left / DAY_US) - 1;
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
