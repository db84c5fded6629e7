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
        {400, "DeviceTokenNotForTopic", MDM_PUSH_TOKEN_FOREIGN, false, true,
         true},
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
        assert_true(j.accepted == (cases[i].status == 200));
        /* What is over in any way but by success or a bad token. */
        assert_true(j.given_up == (j.verdict == MDM_PUSH_DONE &&
                                   cases[i].status != 200));
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
    assert_true(j.given_up);
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

/* ---- one device or all --------------------------------------------------- */

static mdm_push_judgement_t weigh(mdm_push_run_t *run, int64_t eid,
                                  int status, bool trusted)
{
    mdm_push_judgement_t j =
        judge(MDM_APNS_ANSWERED, status,
              status == 400 ? MDM_PUSH_FOREIGN_REASON : "", 0);
    const mdm_push_from_t from = {eid, eid % 1000, eid * 10};

    mdm_push_weigh(&j, run, &from, trusted);
    return j;
}

static void test_weigh(void **state)
{
    mdm_push_run_t run = {.n = 0};
    mdm_push_judgement_t j;
    int64_t eid;

    (void)state;
    /* Nothing was ever accepted: it is the topic. */
    j = weigh(&run, 1, 400, false);
    assert_true(j.suspend_topic && !j.alarm && !j.working);
    assert_int_equal(j.verdict, MDM_PUSH_RETRY);
    assert_int_equal(run.n, 0);
    /* One device as often as it likes. */
    for (eid = 0; eid < 50; eid++) {
        j = weigh(&run, 7, 400, true);
        assert_int_equal(j.verdict, MDM_PUSH_TOKEN_FOREIGN);
        assert_true(!j.suspend_topic && j.alarm && j.working);
    }
    assert_int_equal(run.n, 1);
    /* Nine of them, and one push that works. */
    for (eid = 1; eid <= 9; eid++) {
        assert_false(weigh(&run, eid, 400, true).suspend_topic);
    }
    j = weigh(&run, 100, 200, true);
    assert_int_equal(j.verdict, MDM_PUSH_DONE);
    assert_int_equal(run.n, 0);
    for (eid = 1; eid <= 9; eid++) {
        assert_false(weigh(&run, eid, 400, true).suspend_topic);
        /* Other answers say neither. */
        assert_false(weigh(&run, 200 + eid, 503, true).suspend_topic);
        assert_int_equal(weigh(&run, 300 + eid, 410, true).verdict,
                         MDM_PUSH_TOKEN_DEAD);
    }
    j = weigh(&run, 10, 400, true);
    assert_true(j.suspend_topic && !j.alarm);
    assert_int_equal(j.verdict, MDM_PUSH_RETRY);
    assert_int_equal(run.n, 10);
    assert_int_equal(run.of[9].eid, 10);
    assert_int_equal(run.of[9].token_at_us, 100);
    assert_int_equal(run.of[0].eid, 1);
    /* The users of one device are that device, however many it makes up; they
     * leave room for others. */
    run = (mdm_push_run_t){.n = 0};
    for (eid = 1; eid < 500000; eid += 1000) {
        assert_false(weigh(&run, eid, 400, true).suspend_topic);
    }
    assert_int_equal(run.devices, 1);
    assert_true(run.n <= MDM_PUSH_RUN_EACH);
    for (eid = 2; eid <= 9; eid++) {
        assert_false(weigh(&run, eid, 400, true).suspend_topic);
        assert_false(weigh(&run, 1000 + eid, 400, true).suspend_topic);
        assert_false(weigh(&run, 2000 + eid, 400, true).suspend_topic);
        assert_false(weigh(&run, 3000 + eid, 400, true).suspend_topic);
    }
    assert_true(weigh(&run, 10, 400, true).suspend_topic);
}

/* ---- how fast ------------------------------------------------------------ */

static void test_bucket(void **state)
{
    mdm_push_bucket_t off = {.rate = 0};
    mdm_push_bucket_t b = {.rate = 10};
    mdm_push_bucket_t fast = {.rate = 100000};
    int64_t now = 1000 * MDM_SEC;
    int64_t start = now;
    int64_t sent = 0;

    (void)state;
    assert_int_equal(mdm_push_bucket_room(&off, now), UINT32_MAX);
    mdm_push_bucket_take(&off, 1000000);
    assert_int_equal(mdm_push_bucket_room(&off, now), UINT32_MAX);
    /* A second's worth, then one every tenth of a second. */
    assert_int_equal(mdm_push_bucket_room(&b, now), 10);
    mdm_push_bucket_take(&b, 10);
    assert_int_equal(mdm_push_bucket_room(&b, now), 0);
    assert_true(mdm_push_bucket_next(&b) > now + 99999 &&
                mdm_push_bucket_next(&b) <= now + 100001);
    assert_int_equal(mdm_push_bucket_room(&b, now + 99999), 0);
    assert_int_equal(mdm_push_bucket_room(&b, now + 100000), 1);
    assert_int_equal(mdm_push_bucket_room(&b, now + 3600 * MDM_SEC), 10);
    /* Over a minute, looking as often as it says. */
    b.at_us = 0;
    for (; now < start + 60 * MDM_SEC;) {
        uint32_t n = mdm_push_bucket_room(&b, now);

        mdm_push_bucket_take(&b, n);
        sent += n;
        now = mdm_push_bucket_next(&b);
        assert_true(now > b.at_us);
    }
    assert_true(sent >= 600 && sent <= 610);
    /* A fast one is looked at some twenty times a second. */
    assert_int_equal(mdm_push_bucket_room(&fast, now), 100000);
    mdm_push_bucket_take(&fast, 100000);
    assert_true(mdm_push_bucket_next(&fast) >= now + 50000 &&
                mdm_push_bucket_next(&fast) <= now + 51000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge_table),
        cmocka_unit_test(test_judge_gone),
        cmocka_unit_test(test_judge_retry),
        cmocka_unit_test(test_repeat),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_weigh),
        cmocka_unit_test(test_bucket),
    };

    return cmocka_run_group_tests_name("push", tests, NULL, NULL);
}
