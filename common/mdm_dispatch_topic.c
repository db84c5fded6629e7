/*
 * mdm_dispatch_topic.c - the pushes of one push topic: claiming and sending
 * them, writing their answers down, and how many connections they need.
 *
 * Pushes are claimed from the store only as far as the connections have room
 * for them.  Answers are judged once, in the order in which they came, and
 * then written in one transaction, which is repeated should it fail.
 * Dispatcher thread only.
 */
#include "mdm_dispatch_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_str.h"

#define CLAIM_MAX 200
#define CLAIM_SPARE_US (60 * MDM_SEC)
#define FLUSH_MAX 500
/* Claims of one topic in a round; then it is the others' turn. */
#define ROUND_MAX 5
/* A further connection is opened when all were full for so long, with pushes
 * waiting behind them that would take longer than that at the speed so far,
 * and when this thread slept for a part of that time at least: one that has
 * work all the time is the bottleneck itself. */
#define FULL_US MDM_SEC
#define SLEPT_PART 4
#define AHEAD_US (5 * MDM_SEC)
#define BACKLOG_MAX 100000

static mdm_str_t topic_str(const mdm_topic_t *t)
{
    return mdm_str_from(t->name);
}

/* ---- what the store says ------------------------------------------------ */

void mdm_topic_set(mdm_topic_t *t, const mdm_pushcert_row_t *row)
{
    bool suspended = row->suspended.s != NULL;

    if (row->version != t->version) {
        t->accepted_unsaved = false;
        memset(&t->run, 0, sizeof(t->run));
        memset(&t->accused, 0, sizeof(t->accused));
    }
    if (t->suspended && !suspended) {
        mdm_log_msg(t->dispatch->config.log, MDM_LOG_NOTICE,
                    MDM_MSG_PUSH_TOPIC_RESUMED,
                    "pushes of the topic %s go out again", t->name);
        memset(&t->run, 0, sizeof(t->run));
    }
    if (suspended && !t->suspended) {
        mdm_topic_drain(t);
    }
    t->suspended = suspended;
    t->trusted = row->trusted || t->accepted_unsaved;
    t->accepted_known = row->accepted_at > 0;
    mdm_topic_renew(t, row->version);
}

bool mdm_topic_wants(const mdm_topic_t *t, int64_t wall, int64_t mono)
{
    size_t opening;

    return !t->suspended && t->next_due_us <= wall &&
           mono >= t->ready_at_us &&
           (mono >= t->connect_at_us || mdm_topic_working(t, &opening) > 0);
}

/* ---- outcomes ----------------------------------------------------------- */

void mdm_topic_ended(mdm_topic_t *t, mdm_flight_t *flight)
{
    flight->next = NULL;
    if (t->last_ended != NULL) {
        t->last_ended->next = flight;
    } else {
        t->ended = flight;
    }
    t->last_ended = flight;
    t->nended++;
}

void mdm_topic_drop_ended(mdm_topic_t *t, size_t n)
{
    mdm_flight_t *f;

    for (; n > 0 && t->ended != NULL; n--) {
        f = t->ended;
        t->ended = f->next;
        t->nended--;
        free(f);
    }
    if (t->ended == NULL) {
        t->last_ended = NULL;
    }
}

static void judge(mdm_topic_t *t, mdm_flight_t *f)
{
    mdm_dispatch_t *d = t->dispatch;
    mdm_push_judgement_t j =
        mdm_push_judge(&f->outcome, f->attempts, f->from.token_at_us,
                       &d->config.policy, mdm_dispatch_dice(d));

    if (f->version != t->version && j.verdict == MDM_PUSH_TOKEN_FOREIGN) {
        /* A former certificate proves nothing: once more with the new one. */
        j.verdict = MDM_PUSH_RETRY;
        j.alarm = false;
    } else if (f->version == t->version) {
        mdm_push_weigh(&j, &t->run, &f->from, t->trusted);
    }
    if (j.suspend_topic && t->run.devices >= MDM_PUSH_RUN_DEVICES) {
        t->accused = t->run;
        memset(&t->run, 0, sizeof(t->run));
    }
    if (j.working) {
        t->connect_failures = 0;
    }
    if (f->outcome.kind == MDM_APNS_ANSWERED && f->outcome.status != 0) {
        t->full.accepted += j.accepted ? 1 : 0;
        t->full.refused += j.accepted ? 0 : 1;
    }
    f->judgement = j;
    f->judged = true;
}

/* Those that were accepted come first, whatever the order: they show that the
 * certificate works. */
static void judge_all(mdm_topic_t *t)
{
    mdm_flight_t *f;

    for (f = t->ended; f != NULL; f = f->next) {
        if (!f->judged && f->version == t->version &&
            f->outcome.kind == MDM_APNS_ANSWERED && f->outcome.status == 200) {
            t->accepted_unsaved = t->accepted_unsaved || t->suspended ||
                                  !t->accepted_known;
            t->trusted = true;
        }
    }
    for (f = t->ended; f != NULL; f = f->next) {
        if (!f->judged) {
            judge(t, f);
        }
    }
}

static void log_rejected(mdm_topic_t *t, const mdm_flight_t *f)
{
    const mdm_push_judgement_t *j = &f->judgement;
    mdm_dispatch_t *d = t->dispatch;
    mdm_msg_t id = MDM_MSG_PUSH_REJECTED;
    char text[64];
    uint64_t held;

    if (!j->alarm ||
        !mdm_log_limit_pass(&d->reject_limit, mdm_mono_us(NULL), 60 * MDM_SEC,
                            &held)) {
        return;
    }
    if (j->verdict == MDM_PUSH_TOKEN_DEAD) {
        id = MDM_MSG_PUSH_TOKEN_DEAD;
    } else if (j->verdict == MDM_PUSH_TOKEN_FOREIGN) {
        id = MDM_MSG_PUSH_TOKEN_FOREIGN;
    }
    mdm_log_msg(d->config.log, MDM_LOG_WARNING, id,
                "a push (apns-id %s) was refused for good: status %d %s%s",
                f->outcome.id, f->outcome.status, f->outcome.reason,
                mdm_dispatch_held(held, text));
}

typedef struct flush_job {
    mdm_topic_t *topic;
    mdm_flight_t *first;
    size_t n;
    int64_t now_us;
    const mdm_flight_t *suspended_by;
} flush_job_t;

/* The tokens that were marked on the way to a suspension are not to blame. */
static mdm_rc acquit(mdm_tx_t *tx, const flush_job_t *job, mdm_err_t *err)
{
    const mdm_push_run_t *run = &job->topic->accused;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < run->n; i++) {
        rc = mdm_store_push_revive(tx, run->of[i].eid, run->of[i].token_at_us,
                                   topic_str(job->topic), job->now_us, err);
    }
    return rc;
}

static mdm_rc suspend(mdm_tx_t *tx, flush_job_t *job, const mdm_flight_t *f,
                      mdm_err_t *err)
{
    mdm_pushcert_row_t row = {.topic = topic_str(job->topic),
                              .version = f->version,
                              .suspended = mdm_str_from(f->outcome.reason),
                              .suspended_at = job->now_us};
    bool changed = false;
    mdm_rc rc;

    rc = mdm_store_pushcert_suspend(tx, &row, &changed, err);
    if (rc == MDM_OK && changed) {
        job->suspended_by = f;
        rc = acquit(tx, job, err);
    }
    return rc;
}

static mdm_rc finish_one(mdm_tx_t *tx, flush_job_t *job, const mdm_flight_t *f,
                         mdm_err_t *err)
{
    const mdm_push_judgement_t *j = &f->judgement;
    mdm_push_finish_t finish = {.eid = f->from.eid,
                                .verdict = j->verdict,
                                .status = f->outcome.status,
                                .reason = mdm_str_from(f->outcome.reason),
                                .apns_id = mdm_str_from(f->apns_id),
                                .timestamp_ms = f->outcome.timestamp_ms,
                                .retry_at_us = job->now_us + j->delay_us,
                                .repeat_at_us =
                                    j->repeat_us > 0
                                        ? job->now_us + j->repeat_us
                                        : 0,
                                .token_at = f->from.token_at_us,
                                .given_up = j->given_up};
    mdm_rc rc;

    rc = mdm_store_push_finish(tx, &finish,
                               mdm_str_from(job->topic->dispatch->holder),
                               job->now_us, err);
    return rc == MDM_OK && j->suspend_topic ? suspend(tx, job, f, err) : rc;
}

static mdm_rc finish_all(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flush_job_t *job = arg;
    mdm_topic_t *t = job->topic;
    const mdm_flight_t *f = job->first;
    mdm_rc rc = MDM_OK;
    size_t i;

    if (t->accepted_unsaved) {
        rc = mdm_store_pushcert_accepted(tx, topic_str(t), t->version,
                                         MDM_STR(MDM_PUSH_FOREIGN_REASON),
                                         job->now_us, err);
    }
    for (i = 0; rc == MDM_OK && f != NULL && i < job->n; i++, f = f->next) {
        rc = finish_one(tx, job, f, err);
    }
    return rc;
}

static void log_suspended(mdm_topic_t *t, const mdm_flight_t *f)
{
    t->suspended = true;
    t->ready_at_us = 0;
    /* APNs is told no more of a certificate that it does not want; what is in
     * flight may still be accepted. */
    mdm_topic_drain(t);
    mdm_log_msg(t->dispatch->config.log, MDM_LOG_ERROR,
                MDM_MSG_PUSH_TOPIC_SUSPENDED,
                "APNs refuses the topic %s: status %d %s; its pushes wait",
                t->name, f->outcome.status, f->outcome.reason);
}

void mdm_topic_flush(mdm_topic_t *t)
{
    mdm_dispatch_t *d = t->dispatch;
    flush_job_t job = {.topic = t};
    const mdm_flight_t *f;
    mdm_err_t err;
    size_t i;

    judge_all(t);
    while (t->ended != NULL) {
        job.first = t->ended;
        job.n = t->nended < FLUSH_MAX ? t->nended : FLUSH_MAX;
        job.now_us = mdm_wall_us(NULL);
        job.suspended_by = NULL;
        if (mdm_store_write(d->config.store, finish_all, &job, &err) !=
            MDM_OK) {
            /* Kept for the next round; should this process die, the claims
             * run out and the pushes are repeated, which is harmless. */
            mdm_dispatch_store_fault(d, &err);
            return;
        }
        t->accepted_known = t->accepted_known || t->accepted_unsaved;
        t->accepted_unsaved = false;
        if (job.suspended_by != NULL) {
            t->accused.n = 0;
            log_suspended(t, job.suspended_by);
        }
        mdm_dispatch_answered(d);
        for (f = t->ended, i = 0; i < job.n; f = f->next, i++) {
            log_rejected(t, f);
        }
        mdm_topic_drop_ended(t, job.n);
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
    mdm_topic_ended(f->topic, f);
}

static void send_one(mdm_topic_t *t, const mdm_claim_t *c, int64_t now_us,
                     int64_t mono)
{
    uint64_t room;
    mdm_session_t *s = mdm_topic_room(t, &room);
    mdm_flight_t *f = calloc(1, sizeof(*f));
    mdm_apns_push_t push = {.token = c->token, .topic = topic_str(t)};
    mdm_err_t err;
    mdm_rc rc = MDM_EBUSY;

    if (f == NULL) {
        return; /* the claim runs out and the push is repeated */
    }
    f->topic = t;
    f->from = (mdm_push_from_t){c->eid, c->device_eid, c->token_at};
    f->attempts = c->attempts;
    f->version = s != NULL ? s->version : t->version;
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
    if (s != NULL) {
        rc = mdm_apns_submit(s->apns, &push, mono, &err);
    }
    if (rc == MDM_EINVAL) {
        end_unsent(f, MDM_APNS_ANSWERED, 0, err.text);
    } else if (rc != MDM_OK) {
        end_unsent(f, MDM_APNS_UNSENT, 0, "no room");
    } else {
        s->used_us = mono;
        mdm_push_bucket_take(&t->bucket, 1);
    }
}

static mdm_rc next_due(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_topic_t *t = arg;

    return mdm_store_push_next_due(tx, topic_str(t), &t->next_due_us, err);
}

/* Claims up to `limit`, of which there is room, and sends them. */
static bool claim_and_send(mdm_topic_t *t, uint64_t limit, int64_t mono)
{
    claim_job_t *job = calloc(1, sizeof(*job));
    bool more = false;
    mdm_err_t err;
    size_t i;

    if (job != NULL) {
        job->topic = t;
        job->version = t->version;
        job->now_us = mdm_wall_us(NULL);
        job->limit = limit < CLAIM_MAX ? (size_t)limit : CLAIM_MAX;
        job->arena = mdm_arena_new(true);
    }
    if (job == NULL || job->arena == NULL) {
        free(job);
        return false;
    }
    if (mdm_store_write(t->dispatch->config.store, claim, job, &err) ==
        MDM_OK) {
        for (i = 0; i < job->n; i++) {
            send_one(t, &job->claims[i], job->now_us, mono);
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

/* As many as there is room and time for, and a round allows; *slow_r: it was
 * the rate that ended it. */
static void send_due(mdm_topic_t *t, int64_t mono, bool *slow_r)
{
    uint64_t room;
    uint32_t rate;
    bool more = true;
    int claims = 0;

    *slow_r = false;
    t->ready_at_us = 0;
    t->more = false;
    while (more && mdm_topic_room(t, &room) != NULL) {
        if (claims++ == ROUND_MAX) {
            t->more = true;
            return;
        }
        rate = mdm_push_bucket_room(&t->bucket, mono);
        if (rate == 0) {
            t->ready_at_us = mdm_push_bucket_next(&t->bucket);
            *slow_r = true;
            return;
        }
        more = claim_and_send(t, room < rate ? room : rate, mono);
        /* Before more is claimed: requests that go out together come back
         * together, and then nothing is under way while their outcomes are
         * written to the store. */
        mdm_topic_write(t);
    }
}

/* ---- how many connections ----------------------------------------------- */

typedef struct backlog_job {
    mdm_topic_t *topic;
    int64_t n;
    bool more;
} backlog_job_t;

static mdm_rc is_backlog(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    backlog_job_t *job = arg;

    return mdm_store_push_backlog(tx, topic_str(job->topic),
                                  mdm_wall_us(NULL), job->n, &job->more, err);
}

/* All connections are full.  Is another one worth it?  Not where APNs answers
 * nothing, or refuses most: it may have lowered the number of streams to slow
 * us down.  Nor where APNs waits for us. */
static bool is_burst(mdm_topic_t *t, int64_t mono)
{
    backlog_job_t job = {.topic = t};
    int64_t passed = mono - t->full.since_us;
    int64_t slept = t->dispatch->waited_us - t->full.waited_us;
    mdm_err_t err;

    if (t->full.since_us == 0) {
        t->full.since_us = mono;
        t->full.waited_us = t->dispatch->waited_us;
        t->full.accepted = 0;
        t->full.refused = 0;
        return false;
    }
    if (passed < FULL_US || t->full.accepted == 0) {
        return false;
    }
    t->full.since_us = 0; /* whatever comes of it, measure anew */
    if (t->full.accepted < t->full.refused || slept < passed / SLEPT_PART) {
        return false;
    }
    job.n = t->full.accepted * AHEAD_US / passed;
    job.n = job.n < BACKLOG_MAX ? job.n : BACKLOG_MAX;
    if (mdm_store_read(t->dispatch->config.store, is_backlog, &job, &err) !=
        MDM_OK) {
        mdm_dispatch_store_fault(t->dispatch, &err);
        return false;
    }
    return job.more;
}

static void add_connection(mdm_topic_t *t, int64_t mono)
{
    size_t opening;
    size_t n = mdm_topic_working(t, &opening);

    if (n > 0 && n < MDM_SESSIONS_WORK && opening == 0 &&
        mono >= t->spare_at_us && mono >= t->connect_at_us &&
        is_burst(t, mono)) {
        mdm_log_info(t->dispatch->config.log,
                     "more pushes of %s are due than %zu connection%s can "
                     "take: opening another one",
                     t->name, n, n == 1 ? "" : "s");
        mdm_topic_connect(t, mono);
    }
}

/* ---- both --------------------------------------------------------------- */

static bool is_due(mdm_topic_t *t)
{
    mdm_err_t err;

    if (mdm_store_read(t->dispatch->config.store, next_due, t, &err) !=
        MDM_OK) {
        mdm_dispatch_store_fault(t->dispatch, &err);
        return false;
    }
    return t->next_due_us <= mdm_wall_us(NULL);
}

void mdm_topic_pump(mdm_topic_t *t, int64_t mono)
{
    size_t opening;
    bool slow = false;

    /* Outcomes that the store did not take come first: a row must not be
     * claimed anew while the answer to its last push is not written. */
    if (t->suspended || t->ended != NULL || !is_due(t)) {
        t->full.since_us = 0;
        return;
    }
    if (mdm_topic_working(t, &opening) == 0) {
        mdm_topic_connect(t, mono);
    }
    send_due(t, mono, &slow);
    if (is_due(t) && !slow && mdm_topic_is_full(t)) {
        add_connection(t, mono);
    } else {
        t->full.since_us = 0;
    }
}
