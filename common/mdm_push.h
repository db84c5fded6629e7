/*
 * mdm_push.h - what an APNs answer means for a push: done, again later, token
 * dead, topic stopped.  The table of docs/protocol.md (APNs), and nothing
 * else.  Any thread; no state.
 */
#ifndef MDM_PUSH_H
#define MDM_PUSH_H

#include "mdm_apns.h"
#include "mdm_store.h"

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
    bool alarm;          /* worth a line: rejected for good */
    bool working;        /* the peer accepts pushes: back-off may be reset */
} mdm_push_judgement_t;

/* `attempts`: failures before this one.  `token_at_us`: when the device gave
 * us the token.  `dice`: any random number, for jitter. */
mdm_push_judgement_t mdm_push_judge(const mdm_apns_outcome_t *outcome,
                                    int64_t attempts, int64_t token_at_us,
                                    const mdm_push_policy_t *policy,
                                    uint32_t dice);

/* min * 2^attempts and up to a quarter of jitter, never outside the bounds by
 * more than that. */
int64_t mdm_push_backoff(int64_t min_us, int64_t max_us, int64_t attempts,
                         uint32_t dice);

#endif
