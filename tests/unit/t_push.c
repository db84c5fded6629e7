/*
 * t_push.c - what an APNs answer means for a push, and how long it waits
 * before it is repeated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "mdm_push.h"

typedef struct verdict_case {
    int status;
    const char *reason;
    mdm_push_verdict_t verdict;
    bool suspend;
    bool alarm;
    bool working;
} verdict_case_t;

static const mdm_push_policy_t policy = {15 * MDM_SEC, 3600 * MDM_SEC,
                                         4 * 3600 * MDM_SEC};

static mdm_push_judgement_t judge(mdm_apns_kind_t kind, int status,
                                  const char *reason, int64_t attempts)
{
    mdm_apns_outcome_t o = {.kind = kind, .status = status};

    (void)snprintf(o.reason, sizeof(o.reason), "%s", reason);
    return mdm_push_judge(&o, attempts, 5000000, &policy, 0);
}

static void test_judge_table(void **state)
{
    static const verdict_case_t cases[] = {
        {200, "", MDM_PUSH_DONE, false, false, true},
        {400, "BadDeviceToken", MDM_PUSH_TOKEN_DEAD, false, true, true},
        {400, "DeviceTokenNotForTopic", MDM_PUSH_DONE, false, true, true},
        {400, "TopicDisallowed", MDM_PUSH_RETRY, true, false, false},
        {400, "BadTopic", MDM_PUSH_RETRY, true, false, false},
        {400, "MissingTopic", MDM_PUSH_RETRY, true, false, false},
        {400, "BadExpirationDate", MDM_PUSH_DONE, false, true, true},
        {400, "PayloadEmpty", MDM_PUSH_DONE, false, true, true},
        {400, "SomethingNew", MDM_PUSH_DONE, false, true, true},
        {400, "IdleTimeout", MDM_PUSH_RETRY, false, false, true},
        {403, "BadCertificate", MDM_PUSH_RETRY, true, false, false},
        {403, "BadCertificateEnvironment", MDM_PUSH_RETRY, true, false,
         false},
        {403, "MissingProviderToken", MDM_PUSH_RETRY, true, false, false},
        {404, "BadPath", MDM_PUSH_DONE, false, true, true},
        {405, "MethodNotAllowed", MDM_PUSH_DONE, false, true, true},
        {410, "Unregistered", MDM_PUSH_TOKEN_DEAD, false, true, true},
        {410, "ExpiredToken", MDM_PUSH_TOKEN_DEAD, false, true, true},
        {413, "PayloadTooLarge", MDM_PUSH_DONE, false, true, true},
        {429, "TooManyRequests", MDM_PUSH_RETRY, false, false, true},
        {500, "InternalServerError", MDM_PUSH_RETRY, false, false, false},
        {503, "ServiceUnavailable", MDM_PUSH_RETRY, false, false, false},
        {503, "Shutdown", MDM_PUSH_RETRY, false, false, false},
        {599, "", MDM_PUSH_RETRY, false, false, false},
    };
    mdm_push_judgement_t j;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        j = judge(MDM_APNS_ANSWERED, cases[i].status, cases[i].reason, 0);
        if (j.verdict != cases[i].verdict ||
            j.suspend_topic != cases[i].suspend ||
            j.alarm != cases[i].alarm || j.working != cases[i].working) {
            fail_msg("%d %s: %d %d %d %d", cases[i].status, cases[i].reason,
                     (int)j.verdict, j.suspend_topic, j.alarm, j.working);
        }
        if (j.verdict == MDM_PUSH_RETRY && !j.suspend_topic) {
            assert_true(j.delay_us >= policy.retry_min_us);
        }
        /* Only what was delivered is repeated for a silent device. */
        assert_true(j.repeat_us ==
                    (cases[i].status == 200 ? policy.repeat_us : 0));
    }
}

static void test_judge_gone(void **state)
{
    mdm_apns_outcome_t o = {.kind = MDM_APNS_ANSWERED, .status = 410};

    (void)state;
    o.timestamp_ms = 4999; /* before the device confirmed the token */
    assert_int_equal(mdm_push_judge(&o, 0, 5000000, &policy, 0).verdict,
                     MDM_PUSH_RETRY);
    o.timestamp_ms = 5000;
    assert_int_equal(mdm_push_judge(&o, 0, 5000000, &policy, 0).verdict,
                     MDM_PUSH_RETRY);
    o.timestamp_ms = 5001;
    assert_int_equal(mdm_push_judge(&o, 0, 5000000, &policy, 0).verdict,
                     MDM_PUSH_TOKEN_DEAD);
}

static void test_judge_retry(void **state)
{
    mdm_apns_outcome_t o = {.kind = MDM_APNS_ANSWERED, .status = 503};
    mdm_push_judgement_t j;

    (void)state;
    /* Not processed: at once, but not for ever. */
    assert_int_equal(judge(MDM_APNS_UNSENT, 0, "goaway", 0).delay_us, 0);
    assert_int_equal(judge(MDM_APNS_UNSENT, 0, "goaway", 2).delay_us, 0);
    assert_true(judge(MDM_APNS_UNSENT, 0, "goaway", 3).delay_us > 0);
    j = judge(MDM_APNS_UNKNOWN, 200, "", 0); /* its status means nothing */
    assert_int_equal(j.verdict, MDM_PUSH_RETRY);
    assert_false(j.working);
    o.retry_after_s = 60;
    assert_true(mdm_push_judge(&o, 0, 0, &policy, 0).delay_us ==
                60 * MDM_SEC);
    o.retry_after_s = 1; /* no shorter than our own pause */
    assert_true(mdm_push_judge(&o, 0, 0, &policy, 0).delay_us ==
                policy.retry_min_us);
    o.retry_after_s = 100000;
    assert_true(mdm_push_judge(&o, 0, 0, &policy, 0).delay_us ==
                policy.retry_max_us);
    j = judge(MDM_APNS_ANSWERED, 503, "Shutdown", 199);
    assert_int_equal(j.verdict, MDM_PUSH_RETRY);
    j = judge(MDM_APNS_ANSWERED, 503, "Shutdown", 200);
    assert_int_equal(j.verdict, MDM_PUSH_DONE);
    assert_true(j.alarm);
    assert_true(j.repeat_us == policy.repeat_us);
    /* A topic that is stopped says nothing about the push. */
    j = judge(MDM_APNS_ANSWERED, 403, "BadCertificate", 200);
    assert_int_equal(j.verdict, MDM_PUSH_RETRY);
}

static void test_repeat(void **state)
{
    mdm_apns_outcome_t o = {.kind = MDM_APNS_ANSWERED, .status = 200};
    mdm_push_policy_t off = policy;
    int64_t us;
    uint32_t dice;

    (void)state;
    for (dice = 0; dice < 5000; dice += 7) {
        us = mdm_push_judge(&o, 0, 0, &policy, dice).repeat_us;
        assert_true(us >= policy.repeat_us &&
                    us <= policy.repeat_us / 4 * 5);
    }
    assert_true(mdm_push_judge(&o, 0, 0, &policy, 1023).repeat_us >
                policy.repeat_us / 5 * 6);
    off.repeat_us = 0;
    assert_int_equal(mdm_push_judge(&o, 0, 0, &off, 1023).repeat_us, 0);
}

static void test_backoff(void **state)
{
    int64_t last = 0;
    int64_t us;
    int64_t i;
    uint32_t dice;

    (void)state;
    for (i = 0; i < 1000; i++) {
        for (dice = 0; dice < 1024; dice += 1023) {
            us = mdm_push_backoff(15 * MDM_SEC, 3600 * MDM_SEC, i, dice);
            assert_true(us >= 15 * MDM_SEC);
            assert_true(us <= 3600 * MDM_SEC + 3600 * MDM_SEC / 4);
        }
        us = mdm_push_backoff(15 * MDM_SEC, 3600 * MDM_SEC, i, 0);
        assert_true(us >= last);
        last = us;
    }
    assert_true(last == 3600 * MDM_SEC);
    assert_true(mdm_push_backoff(MDM_SEC, 8 * MDM_SEC, 1, 0) == 2 * MDM_SEC);
    assert_true(mdm_push_backoff(MDM_SEC, 8 * MDM_SEC, 1, 1023) >
                2 * MDM_SEC);
    assert_true(mdm_push_backoff(MDM_SEC, MDM_SEC, 50, 1023) == MDM_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge_table),
        cmocka_unit_test(test_judge_gone),
        cmocka_unit_test(test_judge_retry),
        cmocka_unit_test(test_repeat),
        cmocka_unit_test(test_backoff),
    };

    return cmocka_run_group_tests_name("push", tests, NULL, NULL);
}
