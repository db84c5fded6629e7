/*
 * mdm_queue.c - see mdm_queue.h.
 */
#include "mdm_queue.h"

#include <string.h>

#include "mdm_str.h"

#define CHUNK 1000

/* ---- reports ------------------------------------------------------------ */

typedef struct job {
    const mdm_report_t *report;
    mdm_str_t raw;
    const mdm_speaker_t *speaker;
    mdm_arena_t *arena;
    int64_t now_us;
    mdm_poll_t poll;
    bool again; /* a writing transaction is needed */
    mdm_queue_result_t *result;
} job_t;

static mdm_rc look_up(mdm_tx_t *tx, job_t *job, bool writing, mdm_err_t *err)
{
    mdm_look_up_t what = {.channel = &job->report->channel,
                          .speaker = job->speaker,
                          .writing = writing,
                          .now_us = job->now_us};
    mdm_rc rc;

    rc = mdm_enroll_look_up(tx, &what, &job->poll, &job->again, err);
    job->result->eid = job->poll.eid;
    return rc;
}

static mdm_rc poll_only(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return look_up(tx, arg, false, err);
}

/* What a report does to its command, by the command's state.  A late result
 * of a cancelled or expired command is kept; a final one stands. */
static mdm_rc record(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    static const mdm_queue_state_t final[] = {
        [MDM_REPORT_ACKNOWLEDGED] = MDM_QUEUE_ACKNOWLEDGED,
        [MDM_REPORT_ERROR] = MDM_QUEUE_ERROR,
        [MDM_REPORT_COMMAND_FORMAT_ERROR] = MDM_QUEUE_COMMAND_FORMAT_ERROR,
    };
    mdm_queue_state_t state;
    int64_t qid;
    mdm_rc rc;

    rc = mdm_store_queue_find(tx, job->poll.eid, job->report->command_uuid,
                              &qid, &state, err);
    if (rc != MDM_OK) {
        return rc;
    }
    job->result->unknown = qid == 0;
    job->result->repeated = state >= MDM_QUEUE_ACKNOWLEDGED &&
                            state <= MDM_QUEUE_COMMAND_FORMAT_ERROR;
    if (qid == 0 || job->result->repeated) {
        return MDM_OK;
    }
    switch (job->report->status) {
    case MDM_REPORT_ACKNOWLEDGED:
    case MDM_REPORT_ERROR:
    case MDM_REPORT_COMMAND_FORMAT_ERROR:
        return mdm_store_queue_finish(tx, qid, final[job->report->status],
                                      job->raw, job->report->damaged > 0,
                                      job->now_us, err);
    case MDM_REPORT_NOT_NOW:
    case MDM_REPORT_UNKNOWN: /* kept, and not offered again at once */
        return state < MDM_QUEUE_ACKNOWLEDGED
                   ? mdm_store_queue_not_now(tx, qid, err)
                   : MDM_OK;
    default:
        return MDM_OK;
    }
}

/* ---- when to push again ------------------------------------------------- */

#define PUT_OFF_FIRST_US (900 * MDM_SEC)
#define PUT_OFF_LAST_US (4 * 3600 * MDM_SEC)

/* Up to a quarter more.  The microsecond of its coming is as good as dice. */
static int64_t with_jitter(int64_t pause_us, int64_t now_us)
{
    return pause_us + pause_us / 4 * (now_us % 1024) / 1024;
}

static int64_t put_off_pause(int64_t count)
{
    int64_t pause = PUT_OFF_FIRST_US;

    for (; count > 1 && pause < PUT_OFF_LAST_US; count--) {
        pause *= 2;
    }
    return pause < PUT_OFF_LAST_US ? pause : PUT_OFF_LAST_US;
}

/* When a device that is here should be woken again should it stay away: 0,
 * never.  With a command in its hands it has time to answer; one that put
 * everything off comes by itself when it can, but only if it was not given
 * another command since, and it may have lost its connection. */
static mdm_rc next_wake(mdm_tx_t *tx, const job_t *job, bool put_off,
                        int64_t *at_r, mdm_err_t *err)
{
    int64_t pause = mdm_store_push_repeat(tx);
    int64_t count = 0;
    mdm_rc rc = MDM_OK;

    *at_r = 0;
    if (pause == 0) {
        return MDM_OK;
    }
    if (!job->result->has_command) {
        if (put_off) {
            rc = mdm_store_queue_put_off(tx, job->poll.eid, job->now_us,
                                         &count, err);
        }
        if (count == 0) {
            return rc;
        }
        pause = put_off_pause(count);
    }
    *at_r = job->now_us + with_jitter(pause, job->now_us);
    return rc;
}

/* The device is here: no push need wake it now.  What stays in the queue is
 * pushed again later.  Writes nothing where the time that stands is good. */
static mdm_rc plan_push(mdm_tx_t *tx, const job_t *job, mdm_err_t *err)
{
    int64_t pause = mdm_store_push_repeat(tx);
    bool put_off = job->report->status == MDM_REPORT_NOT_NOW ||
                   job->report->status == MDM_REPORT_UNKNOWN;
    int64_t due = 0;
    int64_t at = 0;
    bool found = false;
    mdm_rc rc;

    rc = mdm_store_push_get(tx, job->poll.eid, &found, &due, err);
    if (rc == MDM_OK && job->result->has_command && !job->poll.push_due &&
        due >= job->now_us + pause / 2 &&
        due <= job->now_us + pause + pause / 4) {
        return MDM_OK;
    }
    if (rc == MDM_OK) {
        rc = next_wake(tx, job, put_off, &at, err);
    }
    if (rc != MDM_OK || (at == 0 && !job->poll.push_due &&
                         (due == 0 || job->result->has_command))) {
        return rc;
    }
    return mdm_store_push_plan(tx, job->poll.eid, found, job->now_us, at,
                               err);
}

/* ---- both --------------------------------------------------------------- */

static mdm_rc report_and_take(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = look_up(tx, job, true, err);

    if (rc == MDM_OK && job->report->status != MDM_REPORT_IDLE) {
        rc = record(tx, job, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_queue_take(
            tx, job->poll.eid,
            job->report->status == MDM_REPORT_NOT_NOW ||
                job->report->status == MDM_REPORT_UNKNOWN,
            job->now_us, job->arena, &job->result->body,
            &job->result->has_command, err);
    }
    return rc == MDM_OK ? plan_push(tx, job, err) : rc;
}

mdm_rc mdm_queue_report(mdm_store_t *store, const mdm_report_t *report,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_arena_t *arena, mdm_queue_result_t *result_r,
                        mdm_err_t *err)
{
    job_t job = {.report = report, .raw = raw, .speaker = speaker};
    mdm_rc rc;

    memset(result_r, 0, sizeof(*result_r));
    job.result = result_r;
    job.arena = arena;
    job.now_us = mdm_wall_us(NULL);
    if (report->status == MDM_REPORT_IDLE) {
        rc = mdm_store_read(store, poll_only, &job, err);
        if (rc != MDM_OK || (!job.again && !job.poll.has_command &&
                             !job.poll.push_due)) {
            return rc;
        }
    }
    return mdm_store_write(store, report_and_take, &job, err);
}

/* ---- enqueueing and pushing --------------------------------------------- */

const char *mdm_target_fault_text(mdm_target_fault_t fault)
{
    switch (fault) {
    case MDM_TARGET_OK:
        return "";
    case MDM_TARGET_UNKNOWN:
        return "no such enrolment";
    case MDM_TARGET_DISABLED:
        return "the enrolment has checked out";
    case MDM_TARGET_NO_TOKEN:
        return "push data missing for id: no valid device token, the device "
               "gets it with its next TokenUpdate";
    case MDM_TARGET_REFUSED:
        return "the command is not for this enrolment";
    case MDM_TARGET_NO_UNLOCK_TOKEN:
        return "the device has escrowed no unlock token";
    case MDM_TARGET_FAILED:
        return "the store failed, try again";
    }
    return "unknown";
}

typedef struct batch {
    const mdm_enqueue_t *enqueue; /* NULL: push only */
    mdm_target_result_t *targets;
    size_t n;
    int64_t cid; /* of the command, once it is stored */
    int64_t now_us;
    mdm_arena_t *arena;
    size_t queued;
    size_t pushed;
} batch_t;

/* The command row is made with the first target that can take it, so that a
 * call in which every target is wrong leaves nothing behind. */
static mdm_rc queue_one(mdm_tx_t *tx, batch_t *b, const mdm_target_t *target,
                        mdm_err_t *err)
{
    mdm_queue_add_t add = {.eid = target->eid};
    mdm_rc rc = MDM_OK;

    if (b->cid == 0) {
        rc = mdm_store_command_add(tx, b->enqueue->uuid,
                                   b->enqueue->request_type, b->enqueue->body,
                                   b->now_us, &b->cid, err);
        if (rc == MDM_OK && b->enqueue->built != NULL &&
            b->enqueue->built->unlock_token_at > 0) {
            rc = mdm_store_command_unlocks(
                tx, b->cid, b->enqueue->built->unlock_token_at, err);
        }
    }
    add.cid = b->cid;
    add.priority = b->enqueue->priority;
    add.not_before_us = b->enqueue->not_before_us;
    add.expires_us = b->enqueue->expires_us;
    if (rc == MDM_OK) {
        rc = mdm_store_queue_add(tx, &add, b->now_us, err);
    }
    if (rc == MDM_OK) {
        b->queued++;
    }
    return rc;
}

/* A command that may not be delivered yet wakes the device when it may. */
static int64_t due_time(const batch_t *b)
{
    return b->enqueue != NULL && b->enqueue->not_before_us > b->now_us
               ? b->enqueue->not_before_us
               : b->now_us;
}

/* Is it a command for this target?  The verdict tells. */
static mdm_rc judge(mdm_tx_t *tx, const batch_t *b, mdm_target_result_t *t,
                    mdm_err_t *err)
{
    const mdm_enqueue_t *e = b->enqueue;
    mdm_catalog_target_t target = {0};
    mdm_target_device_t device;
    mdm_rc rc;

    rc = mdm_store_target_device(tx, t->eid, b->arena, &device, err);
    if (rc != MDM_OK) {
        return rc;
    }
    t->verdict = mdm_arena_alloc(e->arena, sizeof(*t->verdict));
    if (t->verdict == NULL) {
        return mdm_err_nomem(err);
    }
    target.channel = device.channel;
    target.product_name = device.product_name;
    target.model_name = device.model_name;
    target.os_version = device.os_version;
    rc = mdm_catalog_judge(e->built, &target, e->arena, t->verdict, err);
    if (rc == MDM_OK && t->verdict->refused != NULL) {
        t->command = MDM_TARGET_REFUSED;
    } else if (rc == MDM_OK && e->built->unlock_token_at > 0 &&
               !device.has_unlock_token) {
        t->command = MDM_TARGET_NO_UNLOCK_TOKEN;
    }
    return rc;
}

static mdm_rc one_target(mdm_tx_t *tx, batch_t *b, mdm_target_result_t *t,
                         mdm_err_t *err)
{
    mdm_target_t target;
    mdm_rc rc;

    rc = mdm_store_target(tx, t->id, b->arena, &target, err);
    if (rc != MDM_OK) {
        return rc;
    }
    t->eid = target.eid;
    t->command = MDM_TARGET_OK;
    if (target.eid == 0) {
        t->command = MDM_TARGET_UNKNOWN;
    } else if (target.state == MDM_ENROLLMENT_DISABLED) {
        t->command = MDM_TARGET_DISABLED;
    } else if (b->enqueue != NULL && b->enqueue->built != NULL) {
        rc = judge(tx, b, t, err);
    }
    t->push = t->command;
    if (rc != MDM_OK || t->command != MDM_TARGET_OK) {
        return rc;
    }
    if (b->enqueue != NULL) {
        rc = queue_one(tx, b, &target, err);
        if (rc != MDM_OK || !b->enqueue->push) {
            return rc;
        }
    }
    if (target.state != MDM_ENROLLMENT_ENROLLED ||
        target.token_state != MDM_TOKEN_GOOD) {
        t->push = MDM_TARGET_NO_TOKEN;
        return MDM_OK;
    }
    rc = mdm_store_push_mark(tx, target.eid, target.topic, due_time(b),
                             &t->ticket, err);
    if (rc == MDM_OK) {
        t->pushed = true;
        b->pushed++;
    }
    return rc;
}

static mdm_rc run_batch(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    batch_t *b = arg;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < b->n; i++) {
        rc = one_target(tx, b, &b->targets[i], err);
    }
    return rc;
}

static void mark_failed(mdm_target_result_t *targets, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        targets[i].command = MDM_TARGET_FAILED;
        targets[i].push = MDM_TARGET_FAILED;
        targets[i].pushed = false;
    }
}

static mdm_rc run_all(mdm_store_t *store, batch_t *all, mdm_err_t *err)
{
    batch_t b;
    mdm_rc rc = MDM_OK;
    size_t at;

    for (at = 0; rc == MDM_OK && at < all->n; at += b.n) {
        b = *all;
        b.targets = all->targets + at;
        b.n = all->n - at < CHUNK ? all->n - at : CHUNK;
        b.arena = mdm_arena_new(false);
        rc = b.arena != NULL ? mdm_store_write(store, run_batch, &b, err)
                             : mdm_err_nomem(err);
        mdm_arena_free(&b.arena);
        if (rc == MDM_OK) {
            all->cid = b.cid;
            all->queued = b.queued;
            all->pushed = b.pushed;
        } else {
            mark_failed(b.targets, all->n - at);
        }
    }
    return rc;
}

mdm_rc mdm_queue_enqueue(mdm_store_t *store, const mdm_enqueue_t *enqueue,
                         mdm_target_result_t *targets, size_t n,
                         size_t *queued_r, mdm_err_t *err)
{
    batch_t all = {.enqueue = enqueue, .targets = targets, .n = n};
    mdm_rc rc;

    all.now_us = mdm_wall_us(NULL);
    rc = run_all(store, &all, err);
    *queued_r = all.queued;
    return rc;
}

mdm_rc mdm_queue_push(mdm_store_t *store, mdm_target_result_t *targets,
                      size_t n, size_t *pushed_r, mdm_err_t *err)
{
    batch_t all = {.targets = targets, .n = n};
    mdm_rc rc;

    all.now_us = mdm_wall_us(NULL);
    rc = run_all(store, &all, err);
    *pushed_r = all.pushed;
    return rc;
}
