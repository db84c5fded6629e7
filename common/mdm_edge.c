/*
 * mdm_edge.c - what requests share: lines that a fault may bring with every
 * one of them, one a minute, and places for those that wait.  Any request
 * thread.
 */
#include "mdm_edge.h"

#include <stdio.h>
#include <string.h>

#include "mdm_thread.h"

void mdm_edge_log(mdm_server_t *server, const mdm_request_t *request,
                  mdm_repeat_t kind, mdm_level_t level, mdm_msg_t id,
                  const mdm_err_t *err)
{
    mdm_err_t line = *err;
    uint64_t held = 0;
    size_t n;
    bool pass;

    (void)pthread_mutex_lock(&server->mutex);
    pass = mdm_log_limit_pass(&server->limits[kind], mdm_mono_us(NULL),
                              60 * MDM_SEC, &held);
    (void)pthread_mutex_unlock(&server->mutex);
    if (!pass) {
        return;
    }
    if (held > 0) {
        n = strlen(line.text);
        (void)snprintf(line.text + n, sizeof(line.text) - n,
                       " (%llu more such lines held back)",
                       (unsigned long long)held);
    }
    mdm_log_err(request->log, level, id, &line);
}

bool mdm_edge_may_wait(mdm_server_t *server)
{
    bool may;

    (void)pthread_mutex_lock(&server->mutex);
    may = !server->ending && server->waiting < MDM_WAITING_MAX;
    server->waiting += may ? 1U : 0U;
    (void)pthread_mutex_unlock(&server->mutex);
    return may;
}

void mdm_edge_waited(mdm_server_t *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->waiting--;
    (void)pthread_mutex_unlock(&server->mutex);
}

#define ISSUE_WAIT_US (2 * MDM_SEC)

bool mdm_edge_may_issue(mdm_server_t *server)
{
    int64_t until = mdm_mono_us(NULL) + ISSUE_WAIT_US;
    bool may;

    (void)pthread_mutex_lock(&server->mutex);
    if (server->issuing >= MDM_ISSUING_MAX &&
        server->queued < MDM_QUEUED_MAX) {
        server->queued++;
        while (server->issuing >= MDM_ISSUING_MAX && !server->ending &&
               mdm_mono_us(NULL) < until) {
            (void)mdm_cond_wait_until(&server->issued, &server->mutex, until);
        }
        server->queued--;
    }
    may = !server->ending && server->issuing < MDM_ISSUING_MAX;
    server->issuing += may ? 1U : 0U;
    (void)pthread_mutex_unlock(&server->mutex);
    return may;
}

void mdm_edge_issued(mdm_server_t *server)
{
    (void)pthread_mutex_lock(&server->mutex);
    server->issuing--;
    (void)pthread_cond_signal(&server->issued);
    (void)pthread_mutex_unlock(&server->mutex);
}
