/*
 * mdm_push.h - what an APNs answer means for a push: done, again later, token
 * dead, topic stopped; the table of docs/protocol.md (APNs).  And how fast
 * pushes may go out.  Any thread; no state but what the caller keeps.
 */
#ifndef MDM_PUSH_H
#define MDM_PUSH_H

#include "mdm_apns.h"
#include "mdm_store.h"

/* APNs says so of tokens; kept as the reason of a suspension, too. */
#define MDM_PUSH_FOREIGN_REASON "DeviceTokenNotForTopic"

typedef struct mdm_push_policy {
    int64_t retry_min_us;
    int64_t retry_max_us;
    int64_t repeat_us; /* 0: a push that was delivered is not repeated */
} mdm_push_policy_t;

typedef struct mdm_push_judgement {
    mdm_push_verdict_t verdict;
    int64_t delay_us;    /* with MDM_PUSH_RETRY: from now */
    int64_t repeat_us;   /* with MDM_PUSH_DONE: from now, if commands wait
                          * then; 0: not */
    bool suspend_topic;  /* the certificate or topic is refused */
    bool accepted;       /* APNs took it */
    bool given_up;       /* it did not, and there will be no more attempts */
    bool alarm;          /* worth a line: rejected for good */
    bool working;        /* the peer accepts pushes: back-off may be reset */
} mdm_push_judgement_t;

/* `attempts`: failures before this one.  `token_at_us`: when the device gave
 * us the token.  `dice`: any random number, for jitter. */
mdm_push_judgement_t mdm_push_judge(const mdm_apns_outcome_t *outcome,
                                    int64_t attempts, int64_t token_at_us,
                                    const mdm_push_policy_t *policy,
                                    uint32_t dice);

/* To whom a push went. */
typedef struct mdm_push_from {
    int64_t eid;
    int64_t device_eid;
    int64_t token_at_us; /* when we got the token that was used */
} mdm_push_from_t;

/* "Not a token of this topic" is the fault of one device, which chose its
 * token itself, and makes as many user channels as it likes; or of the whole
 * topic.  Those of which it was said since a push was last accepted, a few of
 * each device; all zero at first. */
#define MDM_PUSH_RUN_DEVICES 10
#define MDM_PUSH_RUN_EACH 4
typedef struct mdm_push_run {
    mdm_push_from_t of[MDM_PUSH_RUN_DEVICES * MDM_PUSH_RUN_EACH];
    size_t n;
    size_t devices;
} mdm_push_run_t;

/* Weighs a judgement with those before it, in the order of the answers: one
 * that says MDM_PUSH_TOKEN_FOREIGN becomes a suspension of the topic if no
 * push was ever accepted (`trusted` false), or if it was said of
 * MDM_PUSH_RUN_DEVICES devices in a row; then the run names those whose
 * tokens are not to blame. */
void mdm_push_weigh(mdm_push_judgement_t *judgement, mdm_push_run_t *run,
                    const mdm_push_from_t *from, bool trusted);

/* How many pushes may go out: a bucket of a second's worth.  Monotonic times.
 * rate: pushes a second, 0: no limit.  The rest all zero at first. */
typedef struct mdm_push_bucket {
    uint32_t rate;
    int64_t level; /* in millionths of a push */
    int64_t at_us;
} mdm_push_bucket_t;

/* How many may go out now; UINT32_MAX without a limit. */
uint32_t mdm_push_bucket_room(mdm_push_bucket_t *bucket, int64_t mono_us);
void mdm_push_bucket_take(mdm_push_bucket_t *bucket, uint32_t n);
/* When an empty one is worth asking again: after some pushes' time, so that
 * not every single one costs a transaction. */
int64_t mdm_push_bucket_next(const mdm_push_bucket_t *bucket);

/* min * 2^attempts and up to a quarter of jitter, never outside the bounds by
 * more than that. */
int64_t mdm_push_backoff(int64_t min_us, int64_t max_us, int64_t attempts,
                         uint32_t dice);

#endif
