/*
 * mdm_wait.c - see mdm_wait.h.
 *
 * Looking at the rows costs what it costs; between two looks four times as
 * much goes by, so that a call with thousands of targets leaves the processor
 * to the pushes that it waits for.
 */
#include "mdm_wait.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_FIRST_US (MDM_SEC / 50) /* between questions for the version */
#define PAUSE_LAST_US (MDM_SEC / 10)
#define SAFETY_US MDM_SEC /* a look at least so often */
#define REST_US 1000      /* and not more often */
#define REST_FACTOR 4
#define CHUNK 256 /* rows read on one connection before it is given back */

static void copy_answer(mdm_wait_answer_t *a, const mdm_push_answer_t *s)
{
    a->status = s->last_status;
    a->timestamp_ms = s->last_timestamp;
    memcpy(a->reason, s->last_reason, sizeof(a->reason));
    memcpy(a->apns_id, s->last_id, sizeof(a->apns_id));
}

/* Not answered, not called off, not on its way: why not? */
static bool judge_idle(const mdm_push_answer_t *s, int64_t until_us,
                       mdm_wait_answer_t *a)
{
    if (s->due_at == 0) {
        a->verdict = MDM_WAIT_DROPPED;
    } else if (!s->has_cert) {
        a->verdict = MDM_WAIT_NO_CERT;
    } else if (s->suspended[0] != '\0') {
        a->verdict = MDM_WAIT_STOPPED;
        memcpy(a->reason, s->suspended, sizeof(a->reason));
    } else {
        return s->due_at > until_us;
    }
    return true;
}

bool mdm_wait_judge(const mdm_push_answer_t *s, int64_t generation,
                    int64_t until_us, mdm_wait_answer_t *a)
{
    bool answered = s->last_generation >= generation;

    memset(a, 0, sizeof(*a));
    if (!s->found) {
        a->verdict = MDM_WAIT_DROPPED;
        return true;
    }
    if (answered && s->last_status == 200) {
        a->verdict = MDM_WAIT_ACCEPTED;
        copy_answer(a, s);
        return true;
    }
    if (s->sent_generation < 0) {
        a->verdict = MDM_WAIT_NOT_NEEDED;
        return true;
    }
    /* Called off and asked for again since: that answer is of the past. */
    if (answered && s->sent_generation >= generation) {
        a->verdict = s->attempts > 0 ? MDM_WAIT_FAILED : MDM_WAIT_REFUSED;
        copy_answer(a, s);
        if (a->verdict == MDM_WAIT_REFUSED) {
            return true;
        }
    }
    return !s->claimed && judge_idle(s, until_us, a);
}

/* ---- looking ------------------------------------------------------------ */

typedef struct look {
    const mdm_wait_t *wait;
    size_t *open; /* numbers of the targets whose answer is missing */
    size_t nopen;
    int64_t until_us;      /* monotonic */
    int64_t until_wall_us;
    size_t from; /* the chunk that is read now, of `open` */
    size_t done; /* how many of it */
    int64_t version;
    uint64_t seen; /* of the dispatcher's answers */
} look_t;

static mdm_rc read_chunk(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;
    mdm_push_answer_t state;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (l->done = 0; l->done < CHUNK && l->from < l->nopen; l->done++) {
        i = l->open[l->from];
        rc = mdm_store_push_state(tx, l->wait->targets[i].eid, &state, err);
        if (rc != MDM_OK) {
            return rc;
        }
        if (mdm_wait_judge(&state, l->wait->targets[i].ticket.generation,
                           l->until_wall_us, &l->wait->answers[i])) {
            l->open[l->from] = l->open[--l->nopen];
        } else {
            l->from++;
        }
    }
    return MDM_OK;
}

/* Asks for every answer that is missing. */
static void look(look_t *l)
{
    mdm_err_t err;

    l->from = 0;
    while (l->from < l->nopen && mdm_mono_us(NULL) < l->until_us) {
        if (mdm_store_read(l->wait->store, read_chunk, l, &err) != MDM_OK) {
            return; /* the next look may succeed */
        }
    }
}

static bool is_stopping(const look_t *l)
{
    return l->wait->stopping != NULL &&
           l->wait->stopping(l->wait->stopping_ctx);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Did anybody commit?  When the store does not tell: look. */
static bool has_changed(look_t *l)
{
    int64_t version = l->version;
    mdm_err_t err;

    if (mdm_store_version(l->wait->store, &version, &err) != MDM_OK ||
        version != l->version) {
        l->version = version;
        return true;
    }
    return false;
}

/* Rests, then waits for a reason to look again.  False: this process ends. */
static bool pause_look(look_t *l, int64_t rest_us)
{
    int64_t pause = PAUSE_FIRST_US;
    int64_t now = mdm_mono_us(NULL);
    int64_t rest_until = sooner(now + rest_us, l->until_us);
    int64_t safe_at = sooner(rest_until + SAFETY_US, l->until_us);
    uint64_t seen = l->seen;

    for (; now < rest_until; now = mdm_mono_us(NULL)) {
        if (!mdm_dispatch_await(l->wait->dispatch, &seen,
                                sooner(now + PAUSE_LAST_US, rest_until)) ||
            is_stopping(l)) {
            return false;
        }
    }
    for (; now < safe_at; now = mdm_mono_us(NULL)) {
        seen = l->seen;
        if (!mdm_dispatch_await(l->wait->dispatch, &l->seen,
                                sooner(now + pause, safe_at)) ||
            is_stopping(l)) {
            return false;
        }
        if (l->seen != seen || has_changed(l)) {
            return true;
        }
        pause = sooner(pause * 2, PAUSE_LAST_US);
    }
    return true;
}

static void wait_for_answers(look_t *l)
{
    int64_t begin;
    int64_t cost;

    for (;;) {
        begin = mdm_mono_us(NULL);
        look(l);
        cost = mdm_mono_us(NULL) - begin;
        if (l->nopen == 0 || begin + cost >= l->until_us ||
            !pause_look(l, REST_US + REST_FACTOR * cost)) {
            return;
        }
    }
}

mdm_rc mdm_wait_run(const mdm_wait_t *wait, mdm_arena_t *arena,
                    mdm_err_t *err)
{
    look_t l = {.wait = wait, .version = -1};
    size_t i;

    l.open = mdm_arena_alloc(arena, (wait->n + 1) * sizeof(*l.open));
    if (l.open == NULL) {
        return mdm_err_nomem(err);
    }
    for (i = 0; i < wait->n; i++) {
        if (wait->targets[i].pushed) {
            memset(&wait->answers[i], 0, sizeof(wait->answers[i]));
            l.open[l.nopen++] = i;
        }
    }
    l.until_us = mdm_mono_us(NULL) + wait->time_us;
    l.until_wall_us = mdm_wall_us(NULL) + wait->time_us;
    wait_for_answers(&l);
    return MDM_OK;
}
