/*
 * mdm_dispatch.c - the background thread: lease, wake-ups, housekeeping.
 *
 * One poll() over the wake descriptor and the connections of every topic.
 * While it leads, the thread looks for work when it is woken in its own
 * process, when the store's version changed (another process committed), and
 * when a due time has come.  It starts to compete for the lease after a
 * random pause, so that short-lived processes never do.
 */
#include "mdm_dispatch_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdm_lease.h"
#include "mdm_pushcert.h"
#include "mdm_str.h"
#include "mdm_thread.h"

#define LOOK_US (MDM_SEC / 4)        /* how often a leader asks the version */
#define SAFETY_US (5 * MDM_SEC)      /* and looks even if it did not change */
#define SEEN_US (10 * MDM_SEC)       /* how often "last seen" is written */
#define STORE_RETRY_US MDM_SEC
#define RETIRE_GRACE_US (5 * MDM_SEC)

uint32_t mdm_dispatch_dice(mdm_dispatch_t *d)
{
    d->dice = d->dice * 1664525U + 1013904223U;
    return d->dice >> 8;
}

void mdm_dispatch_store_fault(mdm_dispatch_t *d, const mdm_err_t *err)
{
    uint64_t held;

    /* The store tells of its own being away, once. */
    if (err->rc != MDM_EUNAVAIL && !mdm_store_has_told(err) &&
        mdm_log_limit_pass(&d->store_limit, mdm_mono_us(NULL), 60 * MDM_SEC,
                           &held)) {
        mdm_log_err(d->config.log, MDM_LOG_WARNING, MDM_MSG_STORE_FAULT, err);
    }
}

/* ---- last seen ---------------------------------------------------------- */

void mdm_dispatch_seen(mdm_dispatch_t *d, int64_t eid, int64_t at_us)
{
    const size_t size = MDM_ARRAY_LEN(d->seen);
    size_t i = (size_t)((uint64_t)eid * UINT64_C(0x9e3779b97f4a7c15) >> 54);
    size_t tries;

    (void)pthread_mutex_lock(&d->mutex);
    /* A few places are tried; should all be taken the oldest fact is only
     * late, the next contact brings it again. */
    for (tries = 0; tries < 8; tries++, i = (i + 1) % size) {
        if (d->seen[i].eid == eid || d->seen[i].eid == 0) {
            d->nseen += d->seen[i].eid == 0 ? 1U : 0U;
            d->seen[i].eid = eid;
            d->seen[i].at_us = at_us;
            break;
        }
    }
    (void)pthread_mutex_unlock(&d->mutex);
}

typedef struct seen_job {
    struct {
        int64_t eid;
        int64_t at_us;
    } rows[1024];
    size_t n;
} seen_job_t;

static mdm_rc write_seen(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    seen_job_t *job = arg;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < job->n; i++) {
        rc = mdm_store_seen(tx, job->rows[i].eid, job->rows[i].at_us, err);
    }
    return rc;
}

static void flush_seen(mdm_dispatch_t *d)
{
    seen_job_t *job;
    mdm_err_t err;
    size_t i;

    (void)pthread_mutex_lock(&d->mutex);
    job = d->nseen > 0 ? malloc(sizeof(*job)) : NULL;
    if (job != NULL) {
        job->n = 0;
        for (i = 0; i < MDM_ARRAY_LEN(d->seen); i++) {
            if (d->seen[i].eid != 0) {
                job->rows[job->n].eid = d->seen[i].eid;
                job->rows[job->n++].at_us = d->seen[i].at_us;
            }
        }
        memset(d->seen, 0, sizeof(d->seen));
        d->nseen = 0;
    }
    (void)pthread_mutex_unlock(&d->mutex);
    if (job != NULL &&
        mdm_store_write(d->config.store, write_seen, job, &err) != MDM_OK) {
        mdm_dispatch_store_fault(d, &err);
    }
    free(job);
}

/* ---- push certificates -------------------------------------------------- */

typedef struct notice {
    const mdm_keypair_t *pair;
    mdm_arena_t *arena;
    int64_t loaded_us;
    bool news;
} notice_t;

/* Which configuration said it last stands in the lease table, as the holder
 * of a lease that is over at once. */
static mdm_rc note(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    notice_t *n = arg;
    int64_t now = mdm_wall_us(NULL);
    mdm_str_t holder;
    int64_t expires;
    char name[80];
    char stamp[32];
    mdm_rc rc;

    (void)snprintf(name, sizeof(name), "refused %s", n->pair->fingerprint);
    (void)snprintf(stamp, sizeof(stamp), "%lld", (long long)n->loaded_us);
    rc = mdm_store_lease_get(tx, mdm_str_from(name), n->arena, &holder,
                             &expires, err);
    n->news = rc == MDM_OK && !mdm_str_is(holder, stamp);
    return n->news ? mdm_store_lease_take(tx, mdm_str_from(name),
                                          mdm_str_from(stamp), now, now,
                                          &n->news, err)
                   : rc;
}

/* Every process of a server finds the same fault in the same file: the first
 * one says it, once for each time the configuration was read. */
static void log_refused(mdm_dispatch_t *d, const mdm_keypair_t *pair,
                        const mdm_err_t *why)
{
    notice_t n = {.pair = pair, .loaded_us = d->config.loaded_us};
    bool known = false;
    mdm_err_t err;

    n.arena = mdm_arena_new(false);
    if (n.arena != NULL) {
        known = mdm_store_write(d->config.store, note, &n, &err) == MDM_OK &&
                !n.news;
        mdm_arena_free(&n.arena);
    }
    if (!known) {
        mdm_log_err(d->config.log, MDM_LOG_ERROR,
                    MDM_MSG_PUSH_CERTIFICATE_REFUSED, why);
    }
}

/* Certificates named in the configuration go into the store, judged by the
 * same rules as those from the API. */
static void adopt_certs(mdm_dispatch_t *d)
{
    mdm_pushcert_import_t how = {.source = MDM_PUSHCERT_FILE,
                                 .topic_change = d->config.topic_change};
    const mdm_keypair_t *pair;
    mdm_err_t err;
    bool stored;
    mdm_rc rc;
    size_t i;

    d->certs_adopted = true;
    for (i = 0; i < d->config.nfile_certs; i++) {
        pair = d->config.file_certs[i];
        rc = mdm_pushcert_import(d->config.store, pair, &how, &stored, &err);
        if (rc == MDM_ECONFLICT) {
            log_refused(d, pair, &err);
        } else if (rc != MDM_OK) {
            mdm_dispatch_store_fault(d, &err);
            d->certs_adopted = false;
        } else if (stored) {
            mdm_log_msg(d->config.log, MDM_LOG_NOTICE,
                        MDM_MSG_PUSH_CERTIFICATE_STORED,
                        "took the push certificate of %.*s from its file",
                        MDM_STR_ARG(pair->topic));
        }
    }
}

typedef struct list_job {
    mdm_arena_t *arena;
    mdm_pushcert_row_t rows[MDM_PUSH_TOPICS_MAX];
    size_t n;
} list_job_t;

static mdm_rc list_certs(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    list_job_t *job = arg;

    return mdm_store_pushcert_list(tx, job->arena, job->rows,
                                   MDM_PUSH_TOPICS_MAX, &job->n, err);
}

static mdm_topic_t *find_topic(mdm_dispatch_t *d, mdm_str_t name)
{
    mdm_topic_t *t;
    size_t i;

    for (i = 0; i < d->ntopics; i++) {
        if (mdm_str_is(name, d->topics[i]->name)) {
            return d->topics[i];
        }
    }
    if (d->ntopics == MDM_PUSH_TOPICS_MAX || name.n > MDM_TOPIC_MAX ||
        (t = calloc(1, sizeof(*t))) == NULL) {
        return NULL;
    }
    t->dispatch = d;
    t->bucket.rate = d->config.push_rate;
    memcpy(t->name, name.s, name.n);
    d->topics[d->ntopics++] = t;
    return t;
}

/* Topics, versions and suspensions as the store has them now. */
static bool look_at_certs(mdm_dispatch_t *d)
{
    list_job_t *job = calloc(1, sizeof(*job));
    mdm_topic_t *t;
    mdm_err_t err;
    bool ok = false;
    size_t i;

    if (job != NULL) {
        job->arena = mdm_arena_new(false);
    }
    if (job != NULL && job->arena != NULL) {
        ok = mdm_store_read(d->config.store, list_certs, job, &err) == MDM_OK;
        if (!ok) {
            mdm_dispatch_store_fault(d, &err);
        }
    }
    for (i = 0; ok && i < job->n; i++) {
        t = find_topic(d, job->rows[i].topic);
        if (t != NULL) {
            mdm_topic_set(t, &job->rows[i]);
        }
    }
    if (job != NULL) {
        mdm_arena_free(&job->arena);
    }
    free(job);
    return ok;
}

/* ---- leading ------------------------------------------------------------ */

static mdm_rc recover(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_dispatch_t *d = arg;

    return mdm_store_push_recover(tx, mdm_str_from(d->holder),
                                  mdm_wall_us(NULL), err);
}

static mdm_rc release(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_dispatch_t *d = arg;

    return mdm_store_push_release(tx, mdm_str_from(d->holder),
                                  mdm_wall_us(NULL), err);
}

static void start_leading(mdm_dispatch_t *d)
{
    mdm_err_t err;

    /* What a leader that died had claimed is due again. */
    if (d->config.push &&
        mdm_store_write(d->config.store, recover, d, &err) != MDM_OK) {
        mdm_dispatch_store_fault(d, &err);
        return; /* tried again in the next round */
    }
    mdm_log_info(d->config.log, "this process now %s (%s)",
                 d->config.push ? "sends the pushes" : "does the chores",
                 d->holder);
    d->leading = true;
    d->version = -1;
    d->certs_version = -1;
    d->look_at_us = 0;
}

static void stop_leading(mdm_dispatch_t *d, const char *why)
{
    mdm_err_t err;
    size_t i;

    for (i = 0; i < d->ntopics; i++) {
        mdm_topic_close(d->topics[i], why);
        mdm_topic_flush(d->topics[i]);
        /* What the store did not take is forgotten with the claims: later it
         * would be taken for the answers of others. */
        mdm_topic_drop_ended(d->topics[i], d->topics[i]->nended);
    }
    if (d->config.push &&
        mdm_store_write(d->config.store, release, d, &err) != MDM_OK) {
        mdm_dispatch_store_fault(d, &err);
    }
    d->leading = false;
}

/* Is there a reason to look for due pushes? */
static bool should_look(mdm_dispatch_t *d, bool woken, int64_t mono)
{
    int64_t wall = mdm_wall_us(NULL);
    int64_t version = d->version;
    mdm_err_t err;
    bool look;
    size_t i;

    if (mdm_store_version(d->config.store, &version, &err) != MDM_OK) {
        return false;
    }
    look = woken || version != d->version || mono >= d->look_at_us;
    for (i = 0; i < d->ntopics; i++) {
        look = look || mdm_topic_wants(d->topics[i], wall, mono);
    }
    d->version = version;
    return look;
}

static void lead_pushes(mdm_dispatch_t *d, bool woken, bool winding_down,
                        int64_t mono)
{
    size_t i;

    for (i = 0; i < d->ntopics; i++) {
        mdm_topic_step(d->topics[i], mono);
        mdm_topic_flush(d->topics[i]);
    }
    if (winding_down || !should_look(d, woken, mono)) {
        return;
    }
    if ((d->version != d->certs_version || mono >= d->look_at_us) &&
        !look_at_certs(d)) {
        return;
    }
    d->certs_version = d->version;
    d->look_at_us = mono + SAFETY_US;
    for (i = 0; i < d->ntopics; i++) {
        /* Not read once more behind it: what answers make room for is
         * claimed in the round that reads them. */
        mdm_topic_pump(d->topics[i], mono);
        mdm_topic_flush(d->topics[i]);
    }
}

/* Pushes first, then one slice of the chores: a push that becomes due
 * meanwhile waits for that slice and no longer. */
static void lead(mdm_dispatch_t *d, bool woken, bool winding_down,
                 int64_t mono)
{
    mdm_err_t err;

    if (d->config.push) {
        lead_pushes(d, woken, winding_down, mono);
    }
    if (!winding_down &&
        mdm_chores_step(&d->chores, mono, mdm_wall_us(NULL), &err) !=
            MDM_OK) {
        mdm_dispatch_store_fault(d, &err);
    }
}

/* ---- the loop ----------------------------------------------------------- */

typedef struct state {
    bool stop;
    bool retire;
    int64_t stop_by_us;
    bool hurry;
} state_t;

static state_t read_state(mdm_dispatch_t *d)
{
    state_t s;

    (void)pthread_mutex_lock(&d->mutex);
    if (!d->retire && d->config.stopping != NULL &&
        d->config.stopping(d->config.stopping_ctx)) {
        d->retire = true;
        (void)pthread_cond_broadcast(&d->answered);
    }
    if (d->retire && d->stop_by_us == 0) {
        d->stop_by_us = mdm_mono_us(NULL) + RETIRE_GRACE_US;
    }
    s.stop = d->stop;
    s.retire = d->retire || d->stop;
    s.stop_by_us = d->stop_by_us;
    s.hurry = d->hurry;
    (void)pthread_mutex_unlock(&d->mutex);
    return s;
}

/* Waits for bytes, a wake-up or the next deadline. */
static bool wait(mdm_dispatch_t *d, int64_t until_us)
{
    struct pollfd fds[1 + MDM_PUSH_TOPICS_MAX * MDM_SESSIONS_MAX];
    int64_t begin;
    int64_t left;
    nfds_t n = 1;
    size_t i;

    fds[0].fd = d->wake_fd;
    fds[0].events = POLLIN;
    fds[0].revents = 0;
    for (i = 0; i < d->ntopics; i++) {
        n += mdm_topic_poll(d->topics[i], fds + n, &until_us);
    }
    begin = mdm_mono_us(NULL);
    left = until_us > begin ? until_us - begin : 0;
    (void)poll(fds, n, (int)(left / 1000) + (left > 0 ? 1 : 0));
    d->waited_us += mdm_mono_us(NULL) - begin;
    if ((fds[0].revents & POLLIN) != 0) {
        mdm_wake_drain(d->wake_fd);
        return true;
    }
    return false;
}

static size_t in_flight(const mdm_dispatch_t *d)
{
    size_t n = 0;
    size_t i;

    for (i = 0; i < d->ntopics; i++) {
        n += mdm_topic_in_flight(d->topics[i]);
    }
    return n;
}

/* The store must be open before anything else; made by the first process. */
static bool store_ready(mdm_dispatch_t *d, int64_t mono)
{
    mdm_err_t err;

    if (!d->store_opened && mono >= d->store_retry_us) {
        d->store_opened = mdm_store_open(d->config.store, &err) == MDM_OK;
        d->store_retry_us = d->store_opened ? 0 : mono + STORE_RETRY_US;
    }
    if (d->store_opened && !d->certs_adopted && mono >= d->store_retry_us) {
        adopt_certs(d);
        d->store_retry_us = mono + STORE_RETRY_US;
    }
    return d->store_opened;
}

static void compete(mdm_dispatch_t *d, mdm_lease_t *lease, bool winding_down)
{
    mdm_err_t err;

    if (!winding_down) {
        if (mdm_lease_step(lease, &err) != MDM_OK) {
            mdm_dispatch_store_fault(d, &err);
        }
        if (lease->held && !d->leading) {
            start_leading(d);
        }
    }
    if (d->leading && !lease->held) {
        stop_leading(d, "another process took over");
    }
}

/* How long may be waited at most? */
static int64_t wait_until(const mdm_dispatch_t *d, bool winding_down,
                          int64_t mono)
{
    int64_t until = mono + (d->leading || winding_down ? LOOK_US
                                                       : MDM_SEC / 2);

    if (d->leading && !winding_down && mdm_chores_next(&d->chores) < until) {
        until = mdm_chores_next(&d->chores);
    }
    return until;
}

/* A server that may not send pushes has a lease of its own for the chores: it
 * must keep nobody from sending them, and beside one that does both chores
 * are done twice, which is harmless. */
static void *run(void *arg)
{
    mdm_dispatch_t *d = arg;
    mdm_lease_t lease = {.store = d->config.store,
                         .name = d->config.push ? "push" : "chores",
                         .holder = d->holder,
                         .life_us = d->config.lease_life_us};
    int64_t mono = mdm_mono_us(NULL);
    bool woken = false;
    state_t s;

    lease.next_us = mono + MDM_SEC / 5 +
                    (int64_t)(mdm_dispatch_dice(d) % 1000) * 500;
    /* Adopting files needs no pause: it is done before competing. */
    for (;;) {
        mono = mdm_mono_us(NULL);
        s = read_state(d);
        if (store_ready(d, mono)) {
            compete(d, &lease, s.retire);
            if (d->leading) {
                lead(d, woken, s.retire, mono);
            }
            if (mono >= d->seen_at_us) {
                flush_seen(d);
                d->seen_at_us = mono + SEEN_US;
            }
        }
        if (s.retire && d->leading &&
            (in_flight(d) == 0 || mono >= s.stop_by_us)) {
            stop_leading(d, "this process stops");
            mdm_lease_drop(&lease);
        }
        if (s.stop && !d->leading) {
            break;
        }
        woken = wait(d, wait_until(d, s.retire, mono));
    }
    /* A store that is held by somebody would have to be waited for. */
    if (d->store_opened && !s.hurry) {
        flush_seen(d);
    }
    return NULL;
}

/* ---- life --------------------------------------------------------------- */

static void free_dispatch(mdm_dispatch_t *d)
{
    size_t i;

    for (i = 0; i < d->ntopics; i++) {
        mdm_topic_close(d->topics[i], "this process stops");
        mdm_topic_drop_ended(d->topics[i], d->topics[i]->nended);
        free(d->topics[i]);
    }
    if (d->wake_fd >= 0) {
        close(d->wake_fd);
    }
    (void)pthread_cond_destroy(&d->answered);
    (void)pthread_mutex_destroy(&d->mutex);
    free(d);
}

mdm_rc mdm_dispatch_start(const mdm_dispatch_config_t *config,
                          mdm_dispatch_t **dispatch_r, mdm_err_t *err)
{
    mdm_dispatch_t *d = calloc(1, sizeof(*d));
    char uuid[MDM_UUID_SIZE];
    char node[64] = "";
    mdm_rc rc;

    *dispatch_r = NULL;
    if (d == NULL) {
        return mdm_err_nomem(err);
    }
    d->config = *config;
    d->config.chores.store = config->store;
    d->config.chores.log = config->log;
    mdm_chores_init(&d->chores, &d->config.chores);
    d->wake_fd = -1;
    rc = mdm_cond_init(&d->answered, err);
    if (rc != MDM_OK) {
        free(d);
        return rc;
    }
    (void)pthread_mutex_init(&d->mutex, NULL);
    rc = mdm_wake_open(&d->wake_fd, err);
    if (rc == MDM_OK) {
        rc = mdm_uuid_new(uuid, err);
    }
    if (rc == MDM_OK) {
        (void)gethostname(node, sizeof(node) - 1);
        (void)snprintf(d->holder, sizeof(d->holder), "%s %s %ld %.8s", node,
                       config->host_name, (long)getpid(), uuid);
        d->dice = (uint32_t)getpid() * 2654435761U ^
                  (uint32_t)mdm_mono_us(NULL);
        rc = mdm_thread_start(&d->thread, run, d, err);
    }
    if (rc != MDM_OK) {
        free_dispatch(d);
        return rc;
    }
    *dispatch_r = d;
    return MDM_OK;
}

void mdm_dispatch_wake(mdm_dispatch_t *d)
{
    mdm_wake_set(d->wake_fd);
}

void mdm_dispatch_retire(mdm_dispatch_t *d)
{
    (void)pthread_mutex_lock(&d->mutex);
    d->retire = true;
    (void)pthread_cond_broadcast(&d->answered);
    (void)pthread_mutex_unlock(&d->mutex);
    mdm_wake_set(d->wake_fd);
}

void mdm_dispatch_answered(mdm_dispatch_t *d)
{
    (void)pthread_mutex_lock(&d->mutex);
    d->answers++;
    (void)pthread_cond_broadcast(&d->answered);
    (void)pthread_mutex_unlock(&d->mutex);
}

bool mdm_dispatch_await(mdm_dispatch_t *d, uint64_t *seen, int64_t until_us)
{
    bool going;

    (void)pthread_mutex_lock(&d->mutex);
    while (!d->retire && !d->stop && d->answers == *seen &&
           mdm_cond_wait_until(&d->answered, &d->mutex, until_us)) {
    }
    *seen = d->answers;
    going = !d->retire && !d->stop;
    (void)pthread_mutex_unlock(&d->mutex);
    return going;
}

void mdm_dispatch_join(mdm_dispatch_t *d, int64_t grace_us)
{
    int64_t by = mdm_mono_us(NULL) + (grace_us > 0 ? grace_us : 0);

    if (d->joined) {
        return;
    }
    (void)pthread_mutex_lock(&d->mutex);
    d->stop = true;
    d->hurry = grace_us <= 0;
    (void)pthread_cond_broadcast(&d->answered);
    if (d->stop_by_us == 0 || by < d->stop_by_us) {
        d->stop_by_us = by;
    }
    (void)pthread_mutex_unlock(&d->mutex);
    mdm_wake_set(d->wake_fd);
    (void)pthread_join(d->thread, NULL);
    d->joined = true;
}

void mdm_dispatch_stop(mdm_dispatch_t **dispatch, int64_t grace_us)
{
    mdm_dispatch_join(*dispatch, grace_us);
    free_dispatch(*dispatch);
    *dispatch = NULL;
}
