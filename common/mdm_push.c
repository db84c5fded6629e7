/*
 * mdm_push.c - see mdm_push.h.
 */
#include "mdm_push.h"

#include <string.h>

/* A push that failed so often has waited for days; the next command or
 * TokenUpdate starts a new one. */
#define ATTEMPTS_MAX 200

typedef enum action {
    DONE,     /* accepted */
    GIVE_UP,  /* our fault or a final refusal: log, do not repeat */
    RETRY,    /* with back-off */
    AT_ONCE,  /* it was not processed: soon again */
    DEAD,     /* the device token is worthless */
    GONE,     /* the same, if it is not newer than the time stamp */
    FOREIGN,  /* the token is another topic's, or the certificate is */
    SUSPEND   /* certificate or topic refused: stop the topic */
} action_t;

/* Reasons first, then whole statuses (reason NULL), first match wins. */
static const struct {
    int status;
    const char *reason;
    action_t action;
} table[] = {
    {200, NULL, DONE},
    {400, "BadDeviceToken", DEAD},
    {400, MDM_PUSH_FOREIGN_REASON, FOREIGN},
    {400, "TopicDisallowed", SUSPEND},
    {400, "BadTopic", SUSPEND},
    {400, "MissingTopic", SUSPEND},
    {400, "IdleTimeout", RETRY},
    {403, NULL, SUSPEND},
    {410, NULL, GONE},
    {429, NULL, RETRY},
};

static action_t look_up(const mdm_apns_outcome_t *o)
{
    size_t i;

    if (o->kind == MDM_APNS_UNSENT) {
        return AT_ONCE;
    }
    if (o->kind == MDM_APNS_UNKNOWN) {
        return RETRY;
    }
    for (i = 0; i < MDM_ARRAY_LEN(table); i++) {
        if (table[i].status == o->status &&
            (table[i].reason == NULL ||
             strcmp(table[i].reason, o->reason) == 0)) {
            return table[i].action;
        }
    }
    return o->status >= 500 ? RETRY : GIVE_UP;
}

int64_t mdm_push_backoff(int64_t min_us, int64_t max_us, int64_t attempts,
                         uint32_t dice)
{
    int64_t us = min_us;

    for (; attempts > 0 && us < max_us; attempts--) {
        us *= 2;
    }
    if (us < max_us) {
        return us + us / 4 * (int64_t)(dice % 1024) / 1024;
    }
    us = max_us - max_us / 4 * (int64_t)(dice % 1024) / 1024;
    return us > min_us ? us : min_us;
}

static int64_t repeat_pause(const mdm_push_policy_t *policy, uint32_t dice)
{
    return policy->repeat_us +
           policy->repeat_us / 4 * (int64_t)(dice % 1024) / 1024;
}

mdm_push_judgement_t mdm_push_judge(const mdm_apns_outcome_t *outcome,
                                    int64_t attempts, int64_t token_at_us,
                                    const mdm_push_policy_t *policy,
                                    uint32_t dice)
{
    mdm_push_judgement_t j = {.verdict = MDM_PUSH_DONE};
    action_t action = look_up(outcome);

    if (action == GONE) {
        /* A token the device confirmed after that time is alive. */
        action = outcome->timestamp_ms > 0 &&
                         outcome->timestamp_ms * 1000 <= token_at_us
                     ? RETRY
                     : DEAD;
    }
    j.working = outcome->kind == MDM_APNS_ANSWERED && outcome->status < 500 &&
                action != SUSPEND;
    switch (action) {
    case DONE:
        j.accepted = true;
        j.repeat_us = repeat_pause(policy, dice);
        break;
    case GIVE_UP:
        j.given_up = true;
        j.alarm = true;
        break;
    case FOREIGN:
        j.verdict = MDM_PUSH_TOKEN_FOREIGN;
        j.alarm = true;
        break;
    case DEAD:
    case GONE: /* is settled above */
        j.verdict = MDM_PUSH_TOKEN_DEAD;
        j.alarm = true;
        break;
    case SUSPEND:
        j.verdict = MDM_PUSH_RETRY; /* goes out once the topic works again */
        j.suspend_topic = true;
        break;
    case AT_ONCE:
    case RETRY:
        j.verdict = MDM_PUSH_RETRY;
        j.delay_us = action == AT_ONCE && attempts < 3
                         ? 0
                         : mdm_push_backoff(policy->retry_min_us,
                                            policy->retry_max_us, attempts,
                                            dice);
        break;
    }
    if (j.delay_us < outcome->retry_after_s * MDM_SEC) {
        j.delay_us = outcome->retry_after_s * MDM_SEC < policy->retry_max_us
                         ? outcome->retry_after_s * MDM_SEC
                         : policy->retry_max_us;
    }
    if (j.verdict == MDM_PUSH_RETRY && !j.suspend_topic &&
        attempts >= ATTEMPTS_MAX) {
        j.verdict = MDM_PUSH_DONE;
        j.repeat_us = repeat_pause(policy, dice);
        j.given_up = true;
        j.alarm = true;
    }
    return j;
}

/* ---- one device or all of the topic ------------------------------------- */

static void add_to_run(mdm_push_run_t *run, const mdm_push_from_t *from)
{
    size_t same = 0;
    size_t i;

    for (i = 0; i < run->n; i++) {
        if (run->of[i].eid == from->eid) {
            run->of[i] = *from;
            return;
        }
        same += run->of[i].device_eid == from->device_eid ? 1U : 0U;
    }
    if (same < MDM_PUSH_RUN_EACH && run->n < MDM_ARRAY_LEN(run->of)) {
        run->of[run->n++] = *from;
        run->devices += same == 0 ? 1U : 0U;
    }
}

void mdm_push_weigh(mdm_push_judgement_t *j, mdm_push_run_t *run,
                    const mdm_push_from_t *from, bool trusted)
{
    if (j->accepted) {
        run->n = 0;
        run->devices = 0;
    }
    if (j->verdict != MDM_PUSH_TOKEN_FOREIGN) {
        return;
    }
    if (trusted) {
        add_to_run(run, from);
    }
    if (!trusted || run->devices >= MDM_PUSH_RUN_DEVICES) {
        j->verdict = MDM_PUSH_RETRY; /* goes out once the topic works again */
        j->suspend_topic = true;
        j->alarm = false;
        j->working = false;
    }
}

/* ---- how fast ----------------------------------------------------------- */

uint32_t mdm_push_bucket_room(mdm_push_bucket_t *b, int64_t mono_us)
{
    int64_t full = (int64_t)b->rate * MDM_SEC;
    int64_t passed = mono_us - b->at_us;

    if (b->rate == 0) {
        return UINT32_MAX;
    }
    if (b->at_us == 0 || passed >= MDM_SEC) {
        b->level = full;
    } else if (passed > 0) {
        b->level += passed * (int64_t)b->rate;
        b->level = b->level < full ? b->level : full;
    }
    b->at_us = mono_us;
    return (uint32_t)(b->level / MDM_SEC);
}

void mdm_push_bucket_take(mdm_push_bucket_t *b, uint32_t n)
{
    if (b->rate != 0) {
        b->level -= (int64_t)n * MDM_SEC;
    }
}

int64_t mdm_push_bucket_next(const mdm_push_bucket_t *b)
{
    int64_t some = (int64_t)(b->rate / 20 + 1) * MDM_SEC;

    if (b->rate == 0 || b->level >= some) {
        return b->at_us;
    }
    return b->at_us + (some - b->level) / (int64_t)b->rate + 1;
}
