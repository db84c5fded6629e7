/*
 * mdm_wait.h - waiting for what APNs says to pushes that were just asked for.
 *
 * The process that sends them may be another one, so the answer is read from
 * the outbox: when this process's dispatcher has stored answers, or when
 * somebody committed.  Nothing is held meanwhile, neither a connection of the
 * store nor a lock.  Any thread; blocks.
 */
#ifndef MDM_WAIT_H
#define MDM_WAIT_H

#include "mdm_dispatch.h"
#include "mdm_queue.h"
#include "mdm_store.h"

typedef enum mdm_wait_verdict {
    MDM_WAIT_PENDING,    /* nothing was said yet */
    MDM_WAIT_ACCEPTED,   /* APNs took it */
    MDM_WAIT_REFUSED,    /* for good */
    MDM_WAIT_FAILED,     /* and will be repeated */
    MDM_WAIT_STOPPED,    /* so is its topic: APNs refuses the certificate */
    MDM_WAIT_NO_CERT,    /* no push certificate of its topic is stored */
    MDM_WAIT_NOT_NEEDED, /* the device came before, or nothing waits for it */
    MDM_WAIT_DROPPED     /* the device enrols anew, or has left */
} mdm_wait_verdict_t;

typedef struct mdm_wait_answer {
    mdm_wait_verdict_t verdict;
    int status;             /* of APNs; 0: it did not answer, or not yet */
    int64_t timestamp_ms;   /* of a 410; 0: none */
    char reason[MDM_PUSH_REASON_MAX]; /* its word, or what happened */
    char apns_id[MDM_UUID_SIZE]; /* ACCEPTED: under which it went out, which
                                  * may be that of a later push */
} mdm_wait_answer_t;

/* What the row of the outbox says of the push `generation`.  False: more may
 * be said before the wall time `until_us`. */
bool mdm_wait_judge(const mdm_push_answer_t *state, int64_t generation,
                    int64_t until_us, mdm_wait_answer_t *answer_r);

/* All borrowed. */
typedef struct mdm_wait {
    mdm_store_t *store;
    mdm_dispatch_t *dispatch;
    bool (*stopping)(void *ctx); /* may be NULL */
    void *stopping_ctx;
    int64_t time_us; /* how long at most */
    const mdm_target_result_t *targets;
    size_t n;
    mdm_wait_answer_t *answers; /* n; those of targets not pushed: untouched */
} mdm_wait_t;

/* Until every target that was marked has its answer, the time is over, or
 * this process stops.  What the store refuses to tell counts as not said.
 * MDM_ENOMEM. */
mdm_rc mdm_wait_run(const mdm_wait_t *wait, mdm_arena_t *arena,
                    mdm_err_t *err) MDM_USE_RESULT;

#endif
