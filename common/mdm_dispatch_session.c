/*
 * mdm_dispatch_session.c - the connections of one push topic: opening and
 * closing them, moving their bytes.
 *
 * Those of a former certificate, or told to go away, drain beside the ones at
 * work.  A spare one, that a burst needed, is closed when it was idle for
 * long.  Dispatcher thread only.
 */
#include "mdm_dispatch_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_str.h"

#define CONNECT_TIMEOUT_US (10 * MDM_SEC)
#define CONNECT_MIN_US MDM_SEC
#define CONNECT_MAX_US (300 * MDM_SEC)
/* Somebody's certificate was refused: that does not mend itself, so pauses
 * begin with 32 seconds. */
#define DENIED_FAILURES 5
#define PING_TIMEOUT_US (15 * MDM_SEC)
#define READ_ROUNDS 32
/* A name that takes longer to resolve, which blocks the thread. */
#define SLOW_US MDM_SEC
/* Two names with their ports and the words between them. */
#define WAY_SIZE 560
/* A spare connection is closed when it was idle for so long, and none is
 * opened for so long after any connection ended by itself: APNs takes one who
 * opens and closes all the time for an attacker. */
#define SPARE_IDLE_US (300 * MDM_SEC)
#define SPARE_PAUSE_US (300 * MDM_SEC)

const char *mdm_dispatch_held(uint64_t held, char dst[64])
{
    dst[0] = '\0';
    if (held > 0) {
        (void)snprintf(dst, 64, " (%llu more such lines held back)",
                       (unsigned long long)held);
    }
    return dst;
}

static void on_outcome(void *ctx, const mdm_apns_outcome_t *outcome)
{
    mdm_flight_t *flight = (mdm_flight_t *)(uintptr_t)outcome->tag;

    flight->outcome = *outcome;
    mdm_topic_ended(((mdm_session_t *)ctx)->topic, flight);
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
        if (err->rc == MDM_EDENIED && t->connect_failures < DENIED_FAILURES) {
            t->connect_failures = DENIED_FAILURES;
        }
        t->connect_at_us =
            mono + mdm_push_backoff(CONNECT_MIN_US, CONNECT_MAX_US,
                                    t->connect_failures, mdm_dispatch_dice(d));
        t->connect_failures++;
        t->spare_at_us = mono + SPARE_PAUSE_US;
    }
    if (was_open) {
        mdm_log_info(d->config.log, "connection to APNs for %s ended: %s",
                     t->name, err->text);
    } else if (mdm_log_limit_pass(&t->connect_limit, mono, 60 * MDM_SEC,
                                  &held)) {
        mdm_log_msg(d->config.log, MDM_LOG_ERROR, MDM_MSG_PUSH_CONNECT_FAILED,
                    "cannot connect to %s for %s: %s%s",
                    way_text(&d->config, way, sizeof(way)), t->name,
                    err->text, mdm_dispatch_held(held, text));
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

    return mdm_store_pushcert_get(tx, mdm_str_from(job->topic->name),
                                  job->arena, &job->row, err);
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
                                .ping_idle_us = c->push_ping_us,
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

/* ---- the set of them ---------------------------------------------------- */

void mdm_topic_connect(mdm_topic_t *t, int64_t mono)
{
    mdm_dispatch_t *d = t->dispatch;
    mdm_session_t *s;
    mdm_err_t err;
    int64_t took;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX && t->sessions[i] != NULL; i++) {
    }
    if (i == MDM_SESSIONS_MAX || mono < t->connect_at_us ||
        mono < d->resolve_at_us) {
        return;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        t->connect_at_us = mono + MDM_SEC;
        return;
    }
    s->topic = t;
    s->used_us = mono;
    t->sessions[i] = s;
    took = -mdm_mono_us(NULL);
    if (open_session(t, s, mono, &err) != MDM_OK) {
        fail_session(t, i, &err);
    }
    /* All topics have the same name to resolve: one after the other would
     * keep the thread from everything else. */
    took += mdm_mono_us(NULL);
    if (took > SLOW_US) {
        d->resolve_at_us = mdm_mono_us(NULL) + took;
    }
}

size_t mdm_topic_working(const mdm_topic_t *t, size_t *opening_r)
{
    const mdm_session_t *s;
    size_t n = 0;
    size_t i;

    *opening_r = 0;
    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s != NULL && !s->draining) {
            n++;
            *opening_r += s->announced ? 0U : 1U;
        }
    }
    return n;
}

mdm_session_t *mdm_topic_room(const mdm_topic_t *t, uint64_t *room_r)
{
    mdm_session_t *first = NULL;
    mdm_session_t *s;
    uint32_t room;
    size_t i;

    *room_r = 0;
    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        /* Before its SETTINGS have come its room is a guess. */
        if (s == NULL || s->draining || !s->announced) {
            continue;
        }
        room = mdm_apns_room(s->apns);
        *room_r += room;
        if (first == NULL && room > 0) {
            first = s;
        }
    }
    return first;
}

bool mdm_topic_is_full(const mdm_topic_t *t)
{
    const mdm_session_t *s;
    size_t n = 0;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s != NULL && !s->draining) {
            n++;
            if (!s->announced || !mdm_apns_is_full(s->apns)) {
                return false;
            }
        }
    }
    return n > 0;
}

void mdm_topic_drain(mdm_topic_t *t)
{
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        if (t->sessions[i] != NULL) {
            t->sessions[i]->draining = true;
        }
    }
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

/* ---- moving bytes ------------------------------------------------------- */

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

void mdm_topic_write(mdm_topic_t *t)
{
    mdm_session_t *s;
    mdm_err_t err;
    size_t i;

    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        s = t->sessions[i];
        if (s != NULL && mdm_conn_state(s->conn) == MDM_CONN_OPEN &&
            write_out(s, &err) != MDM_OK) {
            mdm_log_debug(t->dispatch->config.log, "%s", err.text);
        }
    }
}

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
        t->spare_at_us = mdm_mono_us(NULL) + SPARE_PAUSE_US;
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

/* All but the first one at work are spare.  The first with room is given the
 * pushes, so that spare ones fall idle once a burst is over. */
static bool is_idle_spare(const mdm_topic_t *t, size_t i, int64_t mono)
{
    int64_t idle = t->dispatch->config.spare_idle_us;
    const mdm_session_t *s = t->sessions[i];
    size_t before;

    if (s->draining || mdm_apns_in_flight(s->apns) > 0 ||
        mono - s->used_us < (idle > 0 ? idle : SPARE_IDLE_US)) {
        return false;
    }
    for (before = 0; before < i; before++) {
        if (t->sessions[before] != NULL && !t->sessions[before]->draining) {
            return true;
        }
    }
    return false;
}

/* Ends one politely; what is in flight becomes an outcome. */
static void close_session(mdm_topic_t *t, size_t i, const char *why)
{
    mdm_session_t *s = t->sessions[i];
    mdm_err_t err;

    if (mdm_conn_state(s->conn) == MDM_CONN_OPEN) {
        mdm_apns_shutdown(s->apns);
        if (write_out(s, &err) != MDM_OK) {
            mdm_log_debug(t->dispatch->config.log, "%s", err.text);
        }
    }
    end_session(t, i, why);
}

void mdm_topic_step(mdm_topic_t *t, int64_t mono)
{
    mdm_session_t *s;
    mdm_err_t err;
    size_t i;

    t->more = false; /* a new round */
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
        } else if (is_idle_spare(t, i, mono)) {
            mdm_log_info(t->dispatch->config.log,
                         "a further connection to APNs for %s is not needed "
                         "any more",
                         t->name);
            close_session(t, i, "not needed");
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
    if (t->more) {
        *until_us = 0;
    } else if (t->ready_at_us != 0) {
        /* Not at once, should there be a reason not to look although it has
         * come. */
        deadline = mdm_mono_us(NULL) + MDM_SEC / 100;
        deadline = t->ready_at_us > deadline ? t->ready_at_us : deadline;
        *until_us = deadline < *until_us ? deadline : *until_us;
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
    size_t i;

    t->more = false;
    for (i = 0; i < MDM_SESSIONS_MAX; i++) {
        if (t->sessions[i] != NULL) {
            close_session(t, i, why);
        }
    }
}
