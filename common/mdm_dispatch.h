/*
 * mdm_dispatch.h - the background thread of a worker process.
 *
 * Every process has one; the one that holds the lease sends the pushes and
 * does the chores (mdm_chores.h).  It opens the store before the first
 * request, adopts push certificates from files, and writes "last seen" in
 * batches.  Everything it needs to know is in the store, so that any other
 * process can go on where it stopped.
 */
#ifndef MDM_DISPATCH_H
#define MDM_DISPATCH_H

#include "mdm_chores.h"
#include "mdm_conn.h"
#include "mdm_log.h"
#include "mdm_push.h"
#include "mdm_store.h"
#include "mdm_x509.h"

typedef struct mdm_dispatch mdm_dispatch_t;

/* All borrowed for the dispatcher's life. */
typedef struct mdm_dispatch_config {
    mdm_store_t *store;
    const mdm_log_t *log;
    bool (*stopping)(void *ctx); /* may be NULL */
    void *stopping_ctx;
    const char *host_name; /* "nginx", for the lease holder's name */
    bool push;             /* may this process send pushes at all */
    const char *push_host;
    uint16_t push_port;
    const mdm_conn_proxy_t *push_proxy; /* NULL: straight */
    const char *push_ca_file; /* NULL: system */
    int64_t push_expiration_us;
    int64_t push_timeout_us;
    uint32_t push_concurrency;
    uint32_t push_rate; /* pushes a second of a topic; 0: no limit */
    int64_t spare_idle_us; /* a connection beside the first is closed when it
                            * was idle for so long; 0: five minutes */
    int64_t push_ping_us;  /* a silent connection is pinged after so long; 0:
                            * never, nor one that missed an answer */
    mdm_push_policy_t policy;
    int64_t lease_life_us;
    const mdm_keypair_t *const *file_certs;
    size_t nfile_certs;
    bool topic_change;
    int64_t loaded_us; /* when the configuration was read: the same in all of
                        * its processes */
    mdm_chores_config_t chores; /* store and log are those above */
} mdm_dispatch_config_t;

/* Starts the thread.  MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_dispatch_start(const mdm_dispatch_config_t *config,
                          mdm_dispatch_t **dispatch_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Something became due in this process.  Any thread, never blocks. */
void mdm_dispatch_wake(mdm_dispatch_t *dispatch);
/* Waits until this process has stored answers of APNs since *seen (0 at
 * first), or until the monotonic time until_us.  False, at once: the
 * dispatcher takes on nothing new.  Any thread. */
bool mdm_dispatch_await(mdm_dispatch_t *dispatch, uint64_t *seen,
                        int64_t until_us) MDM_USE_RESULT;
/* An enrolment was heard of.  Any thread; a bounded table, one lock. */
void mdm_dispatch_seen(mdm_dispatch_t *dispatch, int64_t eid, int64_t at_us);
/* Take on nothing new, finish what is in flight, give the lease up.  Returns
 * at once.  Any thread. */
void mdm_dispatch_retire(mdm_dispatch_t *dispatch);
/* Ends the thread as mdm_dispatch_stop() does, but leaves the object to those
 * who may still call wake and seen.  Once more does nothing.  Without any
 * grace those who were seen last are not written. */
void mdm_dispatch_join(mdm_dispatch_t *dispatch, int64_t grace_us);
/* Ends the thread: waits at most grace_us for answers in flight, gives claims
 * back, writes what it knows; then frees.  Sets *dispatch to NULL. */
void mdm_dispatch_stop(mdm_dispatch_t **dispatch, int64_t grace_us);

#endif
