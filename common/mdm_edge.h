/*
 * mdm_edge.h - what the handlers of the roles share: the server object and
 * its rate-limited log.  Made and ended by mdm_server.c.
 */
#ifndef MDM_EDGE_H
#define MDM_EDGE_H

#include <pthread.h>
#include <sys/types.h>

#include "mdm_ca.h"
#include "mdm_config.h"
#include "mdm_dispatch.h"
#include "mdm_http.h"
#include "mdm_pkimsg.h"
#include "mdm_store.h"
#include "mdm_upstream.h"

/* Kinds of lines that a fault may bring with every request. */
typedef enum mdm_repeat {
    MDM_REPEAT_STORE,
    MDM_REPEAT_IDENTITY,
    MDM_REPEAT_HEADER,
    MDM_REPEAT_TOPIC,
    MDM_REPEAT_API,
    MDM_REPEAT_REPORT,
    MDM_REPEAT_UPSTREAM,
    MDM_REPEAT_ENROLLMENT,
    MDM_REPEAT_LOGIN,
    MDM_REPEAT_SCEP,
    MDM_REPEAT_COUNT
} mdm_repeat_t;

struct mdm_server {
    const mdm_config_t *config;
    const mdm_host_t *host;
    pid_t started_by; /* 0: not started */
    mdm_store_t *store;
    mdm_dispatch_t *dispatch;
    mdm_upstream_t *upstream; /* NULL: declarative management is off */
    mdm_ca_t *ca;             /* identities of devices that we issue */
    mdm_pkimsg_legacy_t *legacy; /* NULL: no request with old ciphers */
    mdm_upstream_t *unlock;   /* Apple's escrow key unlock */
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t idle;   /* no request is running */
    unsigned running;
    bool ending; /* takes no more requests */
    unsigned waiting; /* requests that wait for an answer of APNs */
    unsigned issuing; /* requests with RSA keys at work ... */
    unsigned queued;  /* ... and that wait for those */
    pthread_cond_t issued;
    mdm_log_limit_t limits[MDM_REPEAT_COUNT];
};

/* Logs a fault that may repeat: one line a minute with a count. */
void mdm_edge_log(mdm_server_t *server, const mdm_request_t *request,
                  mdm_repeat_t kind, mdm_level_t level, mdm_msg_t id,
                  const mdm_err_t *err);

/* Requests that wait hold a thread of the host for seconds: only so many of a
 * process may.  False: the caller must not wait; else mdm_edge_waited()
 * afterwards. */
#define MDM_WAITING_MAX 8
bool mdm_edge_may_wait(mdm_server_t *server) MDM_USE_RESULT;
void mdm_edge_waited(mdm_server_t *server);

/* Whoever sends something to a SCEP server makes it compute for a millisecond
 * or two, before it knows who that is: only so many may at a time, a few more
 * wait for at most two seconds.  False: come back later; else
 * mdm_edge_issued() afterwards. */
#define MDM_ISSUING_MAX 4
#define MDM_QUEUED_MAX 12
bool mdm_edge_may_issue(mdm_server_t *server) MDM_USE_RESULT;
void mdm_edge_issued(mdm_server_t *server);

#endif
