/*
 * t_dispatch_rules.c - the background thread against a push service on
 * 127.0.0.1: how many connections a burst gets, how fast pushes go out, when
 * a topic is suspended, and two processes that both believe to lead.  Waits
 * for conditions.
 */
#include "t_dispatch_scene.h"

#define FOREIGN "SELECT COUNT(*) FROM enrollment WHERE token_state = 3"
#define SUSPENDED                                                             \
    "SELECT COUNT(*) FROM pushcert WHERE suspended = 'DeviceTokenNotForTopic'"\
    " AND suspended_at > 0"

/* ---- connections --------------------------------------------------------- */

static void test_burst(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene_like(w, script, (peer_t){.max_streams = 1,
                                                .delay_us = 60000});
    mdm_dispatch_t *d;
    int i;

    large_fleet(w, 700);
    s->config.spare_idle_us = MDM_SEC;
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 700);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.open, 2));
    assert_true(atomic_load(&s->peer.requests) > 10); /* not at once */
    assert_true(wait_count(&s->peer.open, 4));
    assert_true(wait_sql(w, DUE, 0));
    /* No more than four, and each did its share. */
    assert_int_equal(atomic_load(&s->peer.connections), 4);
    assert_int_equal(atomic_load(&s->peer.requests), 700);
    /* The spare ones go when they were idle for long, the first one stays;
     * a few pushes open none. */
    for (i = 0; i < 1000 && atomic_load(&s->peer.open) > 1; i++) {
        (void)usleep(10000);
    }
    assert_int_equal(atomic_load(&s->peer.open), 1);
    push_some(w, 0, 30);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 730));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.connections), 4);
    assert_int_equal(atomic_load(&s->peer.open), 1);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* A service that slows us down because it refuses most is not got round. */
static void test_no_burst_when_refused(void **state)
{
    static int script[101];
    world_t *w = *state;
    scene_t *s;
    mdm_dispatch_t *d;
    int i;

    for (i = 0; i < 100; i++) {
        script[i] = i % 4 == 0 ? 200 : 413;
    }
    s = scene_like(w, script, (peer_t){.max_streams = 1, .delay_us = 20000,
                                       .reason = "PayloadTooLarge"});
    large_fleet(w, 100);
    d = start(s, w->store);
    push_some(w, 0, 100);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 90)); /* some seconds */
    assert_int_equal(atomic_load(&s->peer.connections), 1);
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE given_up_at > 0"), 75);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* ---- speed --------------------------------------------------------------- */

static void test_rate(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_dispatch_t *d;
    int64_t begin;
    int64_t took;

    large_fleet(w, 80);
    s->config.push_rate = 20;
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 80);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 1));
    begin = mdm_mono_us(NULL);
    /* A second's worth at once, then 20 a second. */
    assert_true(wait_count(&s->peer.requests, 20));
    assert_true(wait_count(&s->peer.requests, 80));
    took = mdm_mono_us(NULL) - begin;
    if (took < 5 * MDM_SEC / 2 || took > 10 * MDM_SEC) {
        fail_msg("took %lld us", (long long)took);
    }
    assert_true(wait_sql(w, DUE, 0));
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* ---- suspension ---------------------------------------------------------- */

static mdm_rc resume(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_pushcert_resume(tx, MDM_STR(TOPIC), arg, err);
}

static void resume_topic(world_t *w, mdm_dispatch_t *d)
{
    bool changed = false;

    assert_int_equal(mdm_store_write(w->store, resume, &changed, &w->err),
                     MDM_OK);
    assert_true(changed);
    mdm_dispatch_wake(d);
}

/* No push was ever accepted: the certificate is to blame. */
static void test_first_answer(void **state)
{
    static const int script[] = {400, 0};
    world_t *w = *state;
    scene_t *s = scene_like(w, script,
                            (peer_t){.reason = MDM_PUSH_FOREIGN_REASON});
    mdm_dispatch_t *d;

    fleet(w, 2);
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 1);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, SUSPENDED, 1));
    assert_int_equal(db_int(w, FOREIGN), 0);
    push_some(w, 1, 1);
    mdm_dispatch_wake(d);
    (void)usleep(700000); /* nothing may come */
    assert_int_equal(atomic_load(&s->peer.requests), 1);
    assert_int_equal(db_int(w, DUE), 2);
    resume_topic(w, d);
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.requests), 3);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert"
                            " WHERE accepted_at > 0", 1));
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* The operator says that it is good: a bad device is first in line again, and
 * is what is marked. */
static void test_resumed_against_one_device(void **state)
{
    static const int script[] = {400, 400, 0};
    world_t *w = *state;
    scene_t *s = scene_like(w, script,
                            (peer_t){.reason = MDM_PUSH_FOREIGN_REASON});
    mdm_dispatch_t *d;

    fleet(w, 1);
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 1);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, SUSPENDED, 1));
    resume_topic(w, d);
    assert_true(wait_sql(w, FOREIGN, 1));
    assert_int_equal(db_int(w, SUSPENDED), 0);
    assert_int_equal(db_int(w, DUE), 0);
    /* Until it brings another token. */
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "0", '0'), MDM_OK);
    push_some(w, 0, 1);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 3));
    assert_true(wait_sql(w, DUE, 0));
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* Nine devices do not stop a topic that has worked, ten in a row do; then
 * none of them is marked. */
static void test_ten_in_a_row(void **state)
{
    static const int script[] = {200, 400, 400, 400, 400, 400, 400, 400,
                                 400, 400, 200, 400, 400, 400, 400, 400,
                                 400, 400, 400, 400, 400, 0};
    world_t *w = *state;
    scene_t *s = scene_like(w, script,
                            (peer_t){.reason = MDM_PUSH_FOREIGN_REASON});
    mdm_dispatch_t *d;

    fleet(w, 20);
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 1);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert"
                            " WHERE accepted_at > 0", 1));
    push_some(w, 1, 9);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, FOREIGN, 9));
    assert_int_equal(db_int(w, SUSPENDED), 0);
    push_some(w, 0, 1);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.requests), 11);
    push_some(w, 10, 10);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, SUSPENDED, 1));
    assert_int_equal(db_int(w, FOREIGN), 9); /* those from before */
    assert_int_equal(db_int(w, DUE), 10);
    resume_topic(w, d);
    assert_true(wait_count(&s->peer.requests, 31));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(db_int(w, FOREIGN), 9);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* ---- two leaders --------------------------------------------------------- */

/* The lease is taken away again and again while pushes are in flight: both
 * may send, each takes the other's claims back, and nothing is lost. */
static void test_two_leaders(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene_like(w, script, (peer_t){.delay_us = 20000});
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    mdm_dispatch_t *d[2];
    int flips = 0;

    large_fleet(w, 200);
    s->config.lease_life_us = MDM_SEC;
    d[0] = start(s, w->store);
    d[1] = start(s, other);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    push_some(w, 0, 200);
    mdm_dispatch_wake(d[0]);
    assert_true(wait_count(&s->peer.requests, 5));
    while (db_int(w, DUE) > 0 && flips < 1000) {
        db_run(w, "UPDATE lease SET expires = 1 WHERE name = 'push'");
        flips++;
        (void)usleep(100000);
    }
    assert_true(wait_sql(w, DUE, 0));
    assert_true(flips > 5);
    assert_true(atomic_load(&s->peer.connections) >= 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push WHERE"
                               " last_status = 200 AND claimed_by IS NULL"),
                     200);
    /* Each time no more than what was in flight is sent twice. */
    assert_true(atomic_load(&s->peer.requests) >= 200);
    assert_true(atomic_load(&s->peer.requests) <= 200 + 10 * flips);
    mdm_dispatch_stop(&d[0], 5 * MDM_SEC);
    mdm_dispatch_stop(&d[1], 5 * MDM_SEC);
    mdm_store_free(&other);
    scene_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_burst),
        world_test(test_no_burst_when_refused),
        world_test(test_rate),
        world_test(test_first_answer),
        world_test(test_resumed_against_one_device),
        world_test(test_ten_in_a_row),
        world_test(test_two_leaders),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* the peer writes to closed sockets */
    return cmocka_run_group_tests_name("dispatch_rules", tests, NULL, NULL);
}
