/*
 * mdm_dispatch_topic.c - connections and pushes of one push topic.
 *
 * One connection is at work; those of a former certificate, or told to go
 * away, drain beside it.  Pushes are claimed from the store only as far as
 * the connection has room for them.  Dispatcher thread only.
 */
#include "mdm_dispatch_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_str.h"

#define CONNECT_TIMEOUT_US (10 * MDM_SEC)
#define CONNECT_MIN_US MDM_SEC
#define CONNECT_MAX_US (300 * MDM_SEC)
#define PING_IDLE_US (600 * MDM_SEC)
#define PING_TIMEOUT_US (15 * MDM_SEC)
#define CLAIM_MAX 200
#define CLAIM_SPARE_US (60 * MDM_SEC)
#define FLUSH_MAX 500
#define READ_ROUNDS 32
/* Two names with their ports and the words between them. */
#define WAY_SIZE 560

static mdm_str_t topic_str(const mdm_topic_t *t)
{
    return mdm_str_from(t->name);
}

/* ---- outcomes ----------------------------------------------------------- */

static void on_outcome(void *ctx, const mdm_apns_outcome_t *outcome)
{
    mdm_flight_t *flight = (mdm_flight_t *)(uintptr_t)outcome->tag;
    mdm_topic_t *t = ((mdm_session_t *)ctx)->topic;

    flight->outcome = *outcome;
    flight->next = t->ended;
    t->ended = flight;
    t->nended++;
}

/* " (3 more such lines held back)", or nothing. */
static const char *held_text(uint64_t held, char dst[64])
{
    dst[0] = '\0';
    if (held > 0) {
        (void)snprintf(dst, 64, " (%llu more such lines held back)",
                       (unsigned long long)held);
    }
    return dst;
}

static void log_rejected(mdm_topic_t *t, const mdm_flight_t *f,
                         const mdm_push_judgement_t *j)
{
    mdm_dispatch_t *d = t->dispatch;
    char text[64];
    uint64_t held;

    if (!j->alarm ||
        !mdm_log_limit_pass(&d->reject_limit, mdm_mono_us(NULL), 60 * MDM_SEC,
                            &held)) {
        return;
    }
    mdm_log_msg(d->config.log, MDM_LOG_WARNING,
                j->verdict == MDM_PUSH_TOKEN_DEAD ? MDM_MSG_PUSH_TOKEN_DEAD
                                                  : MDM_MSG_PUSH_REJECTED,
                "a push (apns-id %s) was refused for good: status %d %s%s",
                f->outcome.id, f->outcome.status, f->outcome.reason,
                held_text(held, text));
}

typedef struct flush_job {
    mdm_topic_t *topic;
    mdm_flight_t *first;
    size_t n;
    int64_t now_us;
    bool suspended_now;
    const mdm_flight_t *suspended_by;
} flush_job_t;

static mdm_rc finish_one(mdm_tx_t *tx, flush_job_t *job, mdm_flight_t *f,
                         mdm_err_t *err)
{
    mdm_dispatch_t *d = job->topic->dispatch;
    mdm_push_judgement_t j =
        mdm_push_judge(&f->outcome, f->attempts, f->token_at,
                       &d->config.policy, mdm_dispatch_dice(d));
    mdm_push_finish_t finish = {.eid = f->eid,
                                .verdict = j.verdict,
                                .status = f->outcome.status,
                                .reason = mdm_str_from(f->outcome.reason),
                                .apns_id = mdm_str_from(f->apns_id),
                                .timestamp_ms = f->outcome.timestamp_ms,
                                .retry_at_us = job->now_us + j.delay_us,
                                .repeat_at_us = j.repeat_us > 0
                                                    ? job->now_us + j.repeat_us
                                                    : 0,
                                .token_at = f->token_at};
    bool changed = false;
    mdm_rc rc;

    rc = mdm_store_push_finish(tx, &finish, mdm_str_from(d->holder),
                               job->now_us, err);
    if (rc == MDM_OK && j.suspend_topic) {
        rc = mdm_store_pushcert_suspend(tx, topic_str(job->topic), f->version,
                                        mdm_str_from(f->outcome.reason),
                                        &changed, err);
        if (changed) {
            job->suspended_now = true;
            job->suspended_by = f;
        }
    }
    if (j.working) {
        job->topic->connect_failures = 0;
    }
    log_rejected(job->topic, f, &j);
    return rc;
}

static mdm_rc finish_all(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flush_job_t *job = arg;
    mdm_flight_t *f = job->first;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && f != NULL && i < job->n; i++, f = f->next) {
        rc = finish_one(tx, job, f, err);
    }
    return rc;
}

static void drop_ended(mdm_topic_t *t, size_t n)
{
    mdm_flight_t *f;

    for (; n > 0 && t->ended != NULL; n--) {
        f = t->ended;
        t->ended = f->next;
        t->nended--;
        free(f);
    }
}

void mdm_topic_flush(mdm_topic_t *t)
{
    mdm_dispatch_t *d = t->dispatch;
    flush_job_t job = {.topic = t};
    mdm_err_t err;

    while (t->ended != NULL) {
        job.first = t->ended;
        job.n = t->nended < FLUSH_MAX ? t->nended : FLUSH_MAX;
        job.now_us = mdm_wall_us(NULL);
        if (mdm_store_write(d->config.store, finish_all, &job, &err) !=
            MDM_OK) {
            /* Kept for the next round; should this process die, the claims
             * run out and the pushes are repeated, which is harmless. */
            mdm_dispatch_store_fault(d, &err);
            return;
        }
        if (job.suspended_now) {
            t->suspended = true;
            mdm_log_msg(d->config.log, MDM_LOG_ERROR,
                        MDM_MSG_PUSH_TOPIC_SUSPENDED,
                        "APNs refuses the topic %s: status %d %s; its pushes "
                        "wait",
                        t->name, job.suspended_by->outcome.status,
                        job.suspended_by->outcome.reason);
            job.suspended_now = false;
        }
        mdm_dispatch_answered(d);
        drop_ended(t, job.n);
    }
}

/* ---- sessions ----------------------------------------------------------- */

static void end_session(mdm_topic_t *t, size_t i, const char *why)
{
    mdm_session_t *s = t->sessions[i];

    t->sessions[i] = NULL;
    mdm_apns_free(&s->apns, why);
    mdm_conn_free(&s->conn);
    mdm_conn_tls_free(&s->tls);
    free(s);
}

/* "host:port", with the proxy in between. */
static const char *way_text(const mdm_dispatch_config_t *c, char *dst,
                            size_t cap)
{
    int n = snprintf(dst, cap, "%s:%u", c->push_host,
                     (unsigned)c->push_port);

    if (c->push_proxy != NULL && n > 0 && (size_t)n < cap) {
        (void)snprintf(dst + n, cap - (size_t)n, " through the proxy %s:%u",
                       c->push_proxy->host, (unsigned)c->push_proxy->port);
    }
    return dst;
}

static void fail_session(mdm_topic_t *t, size_t i, const mdm_err_t *err)
{
    mdm_dispatch_t *d = t->dispatch;
    int64_t mono = mdm_mono_us(NULL);
    bool was_open = t->sessions[i]->announced;
    char text[64];
    char way[WAY_SIZE];
    uint64_t held;

    if (!t->sessions[i]->draining) {
        t->connect_at_us =
            mono + mdm_push_backoff(CONNECT_MIN_US, CONNECT_MAX_US,
                                    t->connect_failures, mdm_dispatch_dice(d));
        t->connect_failures++;
    }
    if (was_open) {
        mdm_log_info(d->config.log, "connection to APNs for %s ended: %s",
                     t->name, err->text);
    } else if (mdm_log_limit_pass(&t->connect_limit, mono, 60 * MDM_SEC,
                                  &held)) {
        mdm_log_msg(d->config.log, MDM_LOG_ERROR, MDM_MSG_PUSH_CONNECT_FAILED,
                    "cannot connect to %s for %s: %s%s",
                    way_text(&d->config, way, sizeof(way)), t->name,
                    err->text, held_text(held, text));
    }
    end_session(t, i, err->text);
}

typedef struct cert_job {
    mdm_topic_t *topic;
    mdm_arena_t *arena;
    mdm_pushcert_row_t row;
} cert_job_t;

static mdm_rc read_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_job_t *job = arg;

    return mdm_store_pushcert_get(tx, topic_str(job->topic), job->arena,
                                  &job->row, err);
}

static mdm_rc load_tls(mdm_topic_t *t, mdm_session_t *s, mdm_err_t *err)
{
    cert_job_t job = {.topic = t};
    mdm_rc rc;

    job.arena = mdm_arena_new(true);
    if (job.arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_read(t->dispatch->config.store, read_cert, &job, err);
    if (rc == MDM_OK) {
        s->version = job.row.version;
        rc = mdm_conn_tls_new(job.row.cert_pem, job.row.key_pem,
                              t->dispatch->config.push_ca_file, &s->tls, err);
    }
    mdm_arena_free(&job.arena);
    return rc;
}

static mdm_rc open_session(mdm_topic_t *t, mdm_session_t *s, int64_t mono,
                           mdm_err_t *err)
{
    const mdm_dispatch_config_t *c = &t->dispatch->config;
    mdm_apns_config_t config = {.authority = c->push_host,
                                .max_streams = c->push_concurrency,
                                .answer_timeout_us = c->push_timeout_us,
                                .ping_idle_us = PING_IDLE_US,
                                .ping_timeout_us = PING_TIMEOUT_US,
                                .outcome = on_outcome,
                                .ctx = s};
    mdm_conn_config_t way = {.host = c->push_host,
                             .port = c->push_port,
                             .proxy = c->push_proxy,
                             .timeout_us = CONNECT_TIMEOUT_US};
    char authority[320];
    mdm_rc rc;

    if (c->push_port != 443) {
        (void)snprintf(authority, sizeof(authority), "%s:%u", c->push_host,
                       (unsigned)c->push_port);
        config.authority = authority;
    }
    rc = load_tls(t, s, err);
    if (rc == MDM_OK) {
        way.tls = s->tls;
        rc = mdm_conn_new(&way, mono, &s->conn, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_apns_new(&config, mono, &s->apns, err);
    }
    return rc;
}

/* Starts a new connection in a free place. */
static void connect_topic(mdm_topic_t *t, int64_t mono)
{
    mdm_session_t *s;
    mdm_err_t err;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX && t->sessions[i] != NULL; i++) {
    }
    if (i == MDM_SESSIONS_MAX || mono < t->connect_at_us) {
        return;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        t->connect_at_us = mono + MDM_SEC;
        return;
    }
    s->topic = t;
    t->sessions[i] = s;
    if (open_session(t, s, mono, &err) != MDM_OK) {
        fail_session(t, i, &err);
    }
}

static mdm_session_t *working_session(const mdm_topic_t *t)
{
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        if (t->sessions[i] != NULL && !t->sessions[i]->draining) {
            return t->sessions[i];
        }
    }
    return NULL;
}

void mdm_topic_renew(mdm_topic_t *t, int64_t version)
{
    size_t i;

    if (t->version != version) {
        /* Whatever failed, failed with the former one. */
        t->version = version;
        t->connect_at_us = 0;
        t->connect_failures = 0;
    }
    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        if (t->sessions[i] != NULL && t->sessions[i]->version != version &&
            !t->sessions[i]->draining) {
            t->sessions[i]->draining = true;
        }
    }
}

/* ---- bytes to the peer --------------------------------------------------- */

static mdm_rc write_out(mdm_session_t *s, mdm_err_t *err)
{
    size_t n;
    mdm_rc rc;

    for (;;) {
        if (s->out_pos == s->out_len) {
            s->out_pos = 0;
            rc = mdm_apns_take(s->apns, s->out, sizeof(s->out), &s->out_len,
                               err);
            if (rc != MDM_OK || s->out_len == 0) {
                return rc;
            }
        }
        rc = mdm_conn_write(s->conn, s->out + s->out_pos,
                            s->out_len - s->out_pos, &n, err);
        if (rc == MDM_EAGAIN) {
            return MDM_OK;
        }
        if (rc != MDM_OK) {
            return rc;
        }
        s->out_pos += n;
    }
}

/* ---- claiming and sending ----------------------------------------------- */

typedef struct claim_job {
    mdm_topic_t *topic;
    int64_t version; /* of the connection's certificate */
    bool stale;      /* there is another one now, or none that may be used */
    mdm_arena_t *arena;
    int64_t now_us;
    size_t limit;
    size_t n;
    mdm_claim_t claims[CLAIM_MAX];
} claim_job_t;

static mdm_rc claim(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    claim_job_t *job = arg;
    mdm_dispatch_t *d = job->topic->dispatch;
    int64_t version;
    bool suspended;
    mdm_rc rc;

    /* Once a renewed certificate is stored no push goes out under the former
     * one: asked in the same transaction. */
    rc = mdm_store_pushcert_version(tx, topic_str(job->topic), &version,
                                    &suspended, err);
    job->n = 0;
    job->stale = rc == MDM_OK && (suspended || version != job->version);
    if (rc != MDM_OK || job->stale) {
        return rc;
    }
    return mdm_store_push_claim(
        tx, topic_str(job->topic), mdm_str_from(d->holder), job->now_us,
        job->now_us + d->config.push_timeout_us + CLAIM_SPARE_US, job->limit,
        job->arena, job->claims, &job->n, err);
}

/* A claim that is not sent ends at once. */
static void end_unsent(mdm_flight_t *f, mdm_apns_kind_t kind, int status,
                       const char *reason)
{
    f->outcome.kind = kind;
    f->outcome.status = status;
    (void)snprintf(f->outcome.reason, sizeof(f->outcome.reason), "%.63s",
                   reason);
    f->next = f->topic->ended;
    f->topic->ended = f;
    f->topic->nended++;
}

static void send_one(mdm_session_t *s, const mdm_claim_t *c, int64_t now_us,
                     int64_t mono)
{
    mdm_topic_t *t = s->topic;
    mdm_flight_t *f = calloc(1, sizeof(*f));
    mdm_apns_push_t push = {.token = c->token, .topic = topic_str(t)};
    mdm_err_t err;
    mdm_rc rc;

    if (f == NULL) {
        return; /* the claim runs out and the push is repeated */
    }
    f->topic = t;
    f->eid = c->eid;
    f->attempts = c->attempts;
    f->token_at = c->token_at;
    f->version = s->version;
    memcpy(f->apns_id, c->apns_id, sizeof(f->apns_id));
    if (!c->pushable) {
        /* 0: APNs was not asked; the next TokenUpdate makes it due again. */
        end_unsent(f, MDM_APNS_ANSWERED, 0, "NoToken");
        return;
    }
    push.tag = (uint64_t)(uintptr_t)f;
    push.magic = c->magic;
    push.priority = 10;
    push.expiration_s =
        (now_us + t->dispatch->config.push_expiration_us) / MDM_SEC;
    memcpy(push.id, c->apns_id, sizeof(push.id));
    rc = mdm_apns_submit(s->apns, &push, mono, &err);
    if (rc == MDM_EINVAL) {
        end_unsent(f, MDM_APNS_ANSWERED, 0, err.text);
    } else if (rc != MDM_OK) {
        end_unsent(f, MDM_APNS_UNSENT, 0, "no room");
    }
}

static mdm_rc next_due(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_topic_t *t = arg;

    return mdm_store_push_next_due(tx, topic_str(t), &t->next_due_us, err);
}

static bool claim_and_send(mdm_session_t *s, int64_t mono)
{
    mdm_topic_t *t = s->topic;
    claim_job_t *job = calloc(1, sizeof(*job));
    uint32_t room = mdm_apns_room(s->apns);
    bool more = false;
    mdm_err_t err;
    size_t i;

    if (job != NULL) {
        job->topic = t;
        job->version = s->version;
        job->now_us = mdm_wall_us(NULL);
        job->limit = room < CLAIM_MAX ? room : CLAIM_MAX;
        job->arena = mdm_arena_new(true);
    }
    if (job == NULL || job->arena == NULL) {
        free(job);
        return false;
    }
    if (mdm_store_write(t->dispatch->config.store, claim, job, &err) ==
        MDM_OK) {
        for (i = 0; i < job->n; i++) {
            send_one(s, &job->claims[i], job->now_us, mono);
        }
        more = !job->stale && job->n == job->limit;
        if (job->stale) {
            t->dispatch->certs_version = -1; /* read at the next look */
        }
    } else {
        mdm_dispatch_store_fault(t->dispatch, &err);
    }
    mdm_arena_free(&job->arena);
    free(job);
    return more;
}

void mdm_topic_pump(mdm_topic_t *t, int64_t mono)
{
    mdm_store_t *store = t->dispatch->config.store;
    mdm_session_t *s;
    mdm_err_t err;
    bool more = true;

    if (t->suspended) {
        return;
    }
    if (mdm_store_read(store, next_due, t, &err) != MDM_OK) {
        mdm_dispatch_store_fault(t->dispatch, &err);
        return;
    }
    if (t->next_due_us > mdm_wall_us(NULL)) {
        return;
    }
    s = working_session(t);
    if (s == NULL) {
        connect_topic(t, mono);
        s = working_session(t);
    }
    if (s == NULL || mdm_conn_state(s->conn) != MDM_CONN_OPEN) {
        return;
    }
    /* What was claimed leaves before more is claimed: requests that go out
     * together come back together, and then nothing is under way while they
     * are written to the store.  A fault shows again in mdm_topic_step(). */
    while (more && mdm_apns_room(s->apns) > 0) {
        more = claim_and_send(s, mono) && write_out(s, &err) == MDM_OK;
    }
    if (mdm_store_read(store, next_due, t, &err) != MDM_OK) {
        mdm_dispatch_store_fault(t->dispatch, &err);
    }
}

/* ---- moving bytes ------------------------------------------------------- */

/* A peer that never stops sending must not keep the thread from its other
 * duties; what is left is read in the next round, without a wait. */
static mdm_rc read_in(mdm_session_t *s, int64_t mono, mdm_err_t *err)
{
    char buf[16384];
    size_t n;
    mdm_rc rc;
    int i;

    s->more_to_read = false;
    for (i = 0; i < READ_ROUNDS; i++) {
        rc = mdm_conn_read(s->conn, buf, sizeof(buf), &n, err);
        if (rc == MDM_EAGAIN) {
            return MDM_OK;
        }
        if (rc == MDM_OK) {
            rc = mdm_apns_feed(s->apns, buf, n, mono, err);
        }
        if (rc != MDM_OK) {
            return rc;
        }
    }
    s->more_to_read = true;
    return MDM_OK;
}

static void announce(mdm_session_t *s)
{
    mdm_topic_t *t = s->topic;
    char text[WAY_SIZE];

    if (!s->announced && mdm_apns_ready(s->apns)) {
        s->announced = true;
        mdm_log_msg(t->dispatch->config.log, MDM_LOG_NOTICE,
                    MDM_MSG_PUSH_CONNECTED, "connected to %s for %s",
                    way_text(&t->dispatch->config, text, sizeof(text)),
                    t->name);
    }
    if (!s->draining && mdm_apns_going_away(s->apns)) {
        s->draining = true;
        mdm_log_msg(t->dispatch->config.log, MDM_LOG_NOTICE,
                    MDM_MSG_PUSH_GOAWAY,
                    "APNs ends the connection for %s: \"%s\"; open pushes "
                    "finish or are repeated",
                    t->name, mdm_apns_goaway_reason(s->apns));
        t->connect_at_us =
            mdm_mono_us(NULL) +
            mdm_push_backoff(CONNECT_MIN_US / 4, CONNECT_MAX_US,
                             t->connect_failures,
                             mdm_dispatch_dice(t->dispatch));
        t->connect_failures++;
    }
}

static mdm_rc step_session(mdm_session_t *s, int64_t mono, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    if (mdm_conn_state(s->conn) != MDM_CONN_OPEN) {
        rc = mdm_conn_step(s->conn, mono, err);
        if (rc != MDM_OK || mdm_conn_state(s->conn) != MDM_CONN_OPEN) {
            return rc;
        }
    }
    rc = read_in(s, mono, err);
    if (rc == MDM_OK) {
        rc = mdm_apns_tick(s->apns, mono, err);
    }
    announce(s);
    if (rc == MDM_OK) {
        rc = write_out(s, err);
    }
    return rc;
}

void mdm_topic_step(mdm_topic_t *t, int64_t mono)
{
    mdm_session_t *s;
    mdm_err_t err;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s == NULL) {
            continue;
        }
        mdm_err_clear(&err);
        if (step_session(s, mono, &err) != MDM_OK) {
            fail_session(t, i, &err);
        } else if (s->draining && mdm_apns_in_flight(s->apns) == 0) {
            end_session(t, i, "drained");
        }
    }
}

nfds_t mdm_topic_poll(const mdm_topic_t *t, struct pollfd *fds,
                      int64_t *until_us)
{
    const mdm_session_t *s;
    int64_t deadline;
    nfds_t n = 0;
    bool want;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s == NULL) {
            continue;
        }
        want = s->out_pos < s->out_len || mdm_apns_wants_write(s->apns);
        fds[n].fd = mdm_conn_fd(s->conn);
        fds[n].events = mdm_conn_events(s->conn, want);
        fds[n].revents = 0;
        n++;
        deadline = mdm_conn_state(s->conn) == MDM_CONN_OPEN
                       ? mdm_apns_deadline(s->apns)
                       : mdm_conn_deadline(s->conn);
        if (s->more_to_read) {
            deadline = 0;
        }
        if (deadline < *until_us) {
            *until_us = deadline;
        }
    }
    return n;
}

size_t mdm_topic_in_flight(const mdm_topic_t *t)
{
    size_t n = 0;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        if (t->sessions[i] != NULL) {
            n += mdm_apns_in_flight(t->sessions[i]->apns);
        }
    }
    return n;
}

void mdm_topic_close(mdm_topic_t *t, const char *why)
{
    mdm_session_t *s;
    mdm_err_t err;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s == NULL) {
            continue;
        }
        if (mdm_conn_state(s->conn) == MDM_CONN_OPEN) {
            mdm_apns_shutdown(s->apns);
            if (write_out(s, &err) != MDM_OK) {
                mdm_log_debug(t->dispatch->config.log, "%s", err.text);
            }
        }
        end_session(t, i, why);
    }
}
