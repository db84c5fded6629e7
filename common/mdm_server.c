/*
 * mdm_server.c - the server object: made in the parent, started in a worker,
 * asked by its request threads, stopped at its end.
 */
#include "mdm_edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdm_api.h"
#include "mdm_device.h"
#include "mdm_enrollment.h"
#include "mdm_scep.h"
#include "mdm_status.h"
#include "mdm_thread.h"
#include "mdm_wellknown.h"

/* Both are less than the 60 seconds that nginx's timer gives a request. */
#define UPSTREAM_CONNECT_US (5 * MDM_SEC)
#define UPSTREAM_TOTAL_US (20 * MDM_SEC)

const char *mdm_version(void)
{
    return MDM_VERSION;
}

mdm_rc mdm_server_new(const mdm_config_t *main, const mdm_host_t *host,
                      mdm_server_t **server_r, mdm_err_t *err)
{
    mdm_server_t *server = calloc(1, sizeof(*server));

    *server_r = server;
    if (server == NULL) {
        return mdm_err_nomem(err);
    }
    server->config = main;
    server->host = host;
    (void)pthread_mutex_init(&server->mutex, NULL);
    return mdm_cond_init(&server->idle, err) == MDM_OK
               ? mdm_cond_init(&server->issued, err)
               : MDM_EINTERNAL;
}

static mdm_rc start_dispatch(mdm_server_t *s, mdm_err_t *err)
{
    const mdm_config_t *c = s->config;
    mdm_dispatch_config_t config = {
        .store = s->store,
        .log = &s->host->log,
        .stopping = s->host->stopping,
        .stopping_ctx = s->host->ctx,
        .host_name = s->host->name,
        .push = c->push,
        .push_host = c->push_host,
        .push_port = c->push_port,
        .push_proxy = c->push_proxy,
        .push_ca_file = c->push_ca_file,
        .push_expiration_us = c->push_expiration_us,
        .push_timeout_us = c->push_timeout_us,
        .push_concurrency = c->push_concurrency,
        .push_ping_us = c->push_ping_us,
        .push_rate = c->push_rate,
        .policy = c->push_policy,
        .lease_life_us = c->lease_life_us,
        .file_certs = c->push_certs,
        .nfile_certs = c->npush_certs,
        .topic_change = c->push_topic_change,
        .loaded_us = c->loaded_us,
        .chores = {.result_retention_us = c->result_retention_us,
                   .push_silent_us = c->push_silent_us,
                   .expiry = mdm_config_expiry(c)},
    };

    return mdm_dispatch_start(&config, &s->dispatch, err);
}

static mdm_rc start_unlock(mdm_server_t *s, mdm_err_t *err)
{
    mdm_upstream_config_t config = {
        .url = s->config->unlock_url,
        .ca_file = s->config->unlock_ca_file,
        .connect_us = UPSTREAM_CONNECT_US,
        .total_us = UPSTREAM_TOTAL_US,
        .stopping = s->host->stopping,
        .stopping_ctx = s->host->ctx,
    };

    return mdm_upstream_new(&config, &s->unlock, err);
}

static mdm_rc start_upstream(mdm_server_t *s, mdm_err_t *err)
{
    mdm_upstream_config_t config = {
        .url = s->config->dm_url,
        .hmac_key = s->config->dm_hmac_key,
        .connect_us = UPSTREAM_CONNECT_US,
        .total_us = UPSTREAM_TOTAL_US,
        .stopping = s->host->stopping,
        .stopping_ctx = s->host->ctx,
    };

    return config.url != NULL ? mdm_upstream_new(&config, &s->upstream, err)
                              : MDM_OK;
}

static mdm_rc start_ca(mdm_server_t *s, mdm_err_t *err)
{
    const mdm_config_t *c = s->config;
    mdm_rc rc = mdm_ca_new(s->store, c->scep_authority, &s->host->log, &s->ca,
                           err);

    return rc == MDM_OK && c->scep_legacy
               ? mdm_pkimsg_legacy_new(&s->legacy, err)
               : rc;
}

static void free_parts(mdm_server_t *s)
{
    mdm_upstream_free(&s->upstream);
    mdm_upstream_free(&s->unlock);
    mdm_ca_free(&s->ca);
    mdm_pkimsg_legacy_free(&s->legacy);
    mdm_store_free(&s->store);
}

mdm_rc mdm_server_start(mdm_server_t *server, mdm_err_t *err)
{
    const mdm_config_t *c = server->config;
    mdm_store_config_t config = {
        .url = c->store,
        .state_dir = c->state_dir,
        .secret_key = c->secret_key,
        .former_key = c->former_key,
        .connections = c->store_connections,
        .timeout_us = c->store_timeout_us,
        .push_repeat_us = c->push_policy.repeat_us,
        .log = &server->host->log,
    };
    mdm_rc rc;

    rc = mdm_store_new(&config, &server->store, err);
    if (rc == MDM_OK) {
        rc = start_upstream(server, err); /* before there is a thread */
    }
    if (rc == MDM_OK) {
        rc = start_ca(server, err);
    }
    if (rc == MDM_OK) {
        rc = start_unlock(server, err);
    }
    if (rc == MDM_OK) {
        rc = start_dispatch(server, err);
    }
    if (rc != MDM_OK) {
        free_parts(server);
        return rc;
    }
    server->started_by = getpid();
    mdm_log_info(&server->host->log, "mod_mdm %s serves, state in %s",
                 MDM_VERSION, c->state_dir);
    return MDM_OK;
}

static bool is_started(const mdm_server_t *server)
{
    return server->started_by != 0 && server->started_by == getpid();
}

void mdm_server_stopping(mdm_server_t *server)
{
    if (is_started(server)) {
        mdm_dispatch_retire(server->dispatch);
    }
}

/* A host that is told to stop at once does not wait for its request threads:
 * they must not find the store gone.  False: some are running still. */
static bool wait_for_requests(mdm_server_t *server, int64_t until_us)
{
    bool idle;

    (void)pthread_mutex_lock(&server->mutex);
    server->ending = true;
    (void)pthread_cond_broadcast(&server->issued);
    while (server->running > 0 && mdm_mono_us(NULL) < until_us) {
        (void)mdm_cond_wait_until(&server->idle, &server->mutex, until_us);
    }
    idle = server->running == 0;
    (void)pthread_mutex_unlock(&server->mutex);
    return idle;
}

void mdm_server_stop(mdm_server_t *server, int64_t grace_us)
{
    int64_t until = mdm_mono_us(NULL) + grace_us;

    if (!is_started(server)) {
        return;
    }
    mdm_dispatch_retire(server->dispatch);
    mdm_upstream_stop(server->upstream);
    mdm_upstream_stop(server->unlock);
    if (!wait_for_requests(server, until)) {
        /* The process ends under them: they keep store and dispatcher, but
         * no thread of ours outlives the host's memory.  What they do not
         * commit is repeated by the devices. */
        mdm_dispatch_join(server->dispatch, 0);
        return;
    }
    mdm_dispatch_stop(&server->dispatch, until - mdm_mono_us(NULL));
    free_parts(server);
    server->started_by = 0;
}

static bool enter(mdm_server_t *server)
{
    bool ok;

    (void)pthread_mutex_lock(&server->mutex);
    ok = !server->ending;
    server->running += ok ? 1U : 0U;
    (void)pthread_mutex_unlock(&server->mutex);
    return ok;
}

static void leave(mdm_server_t *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    if (--server->running == 0 && server->ending) {
        (void)pthread_cond_broadcast(&server->idle);
    }
    (void)pthread_mutex_unlock(&server->mutex);
}

void mdm_server_free(mdm_server_t **server)
{
    if (*server != NULL) {
        mdm_server_stop(*server, MDM_SEC);
        if (is_started(*server)) {
            *server = NULL; /* requests are running: left to the process */
            return;
        }
        (void)pthread_cond_destroy(&(*server)->issued);
        (void)pthread_cond_destroy(&(*server)->idle);
        (void)pthread_mutex_destroy(&(*server)->mutex);
        free(*server);
        *server = NULL;
    }
}

/* A device's fault is logged by its kind; the device reads little. */
static void device_fault(mdm_server_t *server, const mdm_request_t *request,
                         mdm_response_t *response, const mdm_err_t *err)
{
    if (mdm_http_is_ours(err->rc) || err->rc == MDM_ECONFLICT) {
        /* The store has told already that it is away. */
        if (!mdm_store_has_told(err)) {
            mdm_edge_log(server, request, MDM_REPEAT_STORE, MDM_LOG_ERROR,
                         MDM_MSG_STORE_FAULT, err);
        }
    } else if (err->rc == MDM_EIDENTITY || err->rc == MDM_EDENIED) {
        mdm_edge_log(server, request, MDM_REPEAT_IDENTITY, MDM_LOG_WARNING,
                     MDM_MSG_IDENTITY_REFUSED, err);
    } else {
        mdm_log_info(request->log, "a device request was refused (%s): %s",
                     mdm_rc_name(err->rc), err->text);
    }
    mdm_http_error(response, MDM_AUDIENCE_DEVICE, err);
}

static void handle(mdm_server_t *server, const mdm_request_t *request,
                   mdm_response_t *response)
{
    mdm_err_t err;
    mdm_rc rc;

    if (request->location->role == MDM_ROLE_API) {
        mdm_api_handle(server, request, response);
        return;
    }
    if (request->location->role == MDM_ROLE_STATUS) {
        mdm_status_handle(server, request, response);
        return;
    }
    mdm_err_clear(&err);
    switch (request->location->role) {
    case MDM_ROLE_ENROLL:
        rc = mdm_enrollment_handle(server, request, response, &err);
        break;
    case MDM_ROLE_WELLKNOWN:
        rc = mdm_wellknown_handle(request, response, &err);
        break;
    case MDM_ROLE_SCEP:
        rc = mdm_scep_handle(server, request, response, &err);
        break;
    default:
        rc = mdm_device_handle(server, request, response, &err);
        break;
    }
    if (rc != MDM_OK) {
        err.rc = rc;
        device_fault(server, request, response, &err);
    }
}

void mdm_server_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response)
{
    memset(response, 0, sizeof(*response));
    response->arena = mdm_arena_new(true);
    if (response->arena == NULL || !is_started(server) || !enter(server)) {
        mdm_response_clear(response);
        mdm_response_refuse(response, 503);
        return;
    }
    handle(server, request, response);
    leave(server);
}

void mdm_response_refuse(mdm_response_t *response, int status)
{
    memset(response, 0, sizeof(*response));
    mdm_http_reply(response, status, NULL, MDM_STR_NONE);
}

void mdm_response_clear(mdm_response_t *response)
{
    mdm_arena_t *arena = response->arena;

    mdm_arena_free(&arena);
    memset(response, 0, sizeof(*response));
}
