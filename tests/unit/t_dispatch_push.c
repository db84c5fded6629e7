/*
 * t_dispatch_push.c - the background thread against a push service on
 * 127.0.0.1: a push is delivered and repeated, one of two processes sends,
 * the other takes over, certificates from files are adopted.  Waits for
 * conditions.
 */
#include "t_dispatch_scene.h"

static void test_delivered(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_dispatch_t *d;

    enroll(w, "D", 'A');
    d = start(s, w->store);
    /* The certificate of the file is adopted, once. */
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    assert_true(enqueue(w, "c1", "D", 5).pushed);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 1));
    assert_true(wait_sql(w, DUE, 0));
    assert_string_equal(s->peer.path, "/3/device/"
                                      "746f6b656e2d6f662d7468652d646576696365");
    assert_int_equal(db_int(w, "SELECT last_status FROM push"), 200);
    /* Another one on the same connection. */
    assert_true(enqueue(w, "c2", "D", 5).pushed);
    mdm_dispatch_wake(d);
    assert_true(wait_count(&s->peer.requests, 2));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.connections), 1);
    mdm_dispatch_seen(d, 1, INT64_C(4000000000) * MDM_SEC);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    assert_null(d);
    assert_int_equal(db_int(w, "SELECT last_seen = 4000000000000000"
                               " FROM enrollment"), 1);
    assert_int_equal(db_int(w, "SELECT version FROM pushcert"), 1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM lease"
                               " WHERE expires > 0"), 0);
    scene_end(s);
}

static void test_repeated(void **state)
{
    static const int script[] = {503, 500, 429, 0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_dispatch_t *d;

    enroll(w, "D", 'A');
    assert_true(enqueue(w, "c1", "D", 5).pushed); /* before anybody sends */
    d = start(s, w->store);
    assert_true(wait_count(&s->peer.requests, 4));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(db_int(w, "SELECT last_status FROM push"), 200);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    assert_int_equal(atomic_load(&s->peer.requests), 4);
    scene_end(s);
}

static void test_suspended(void **state)
{
    static const int script[] = {403, 0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_pushcert_import_t how = {MDM_PUSHCERT_API, true, false};
    mdm_dispatch_t *d;
    bool stored;

    enroll(w, "D", 'A');
    assert_true(enqueue(w, "c1", "D", 5).pushed);
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert"
                            " WHERE suspended IS NOT NULL", 1));
    assert_true(wait_sql(w, DUE, 1)); /* it waits for another certificate */
    /* APNs is not kept on the line with one that it does not want. */
    assert_true(wait_zero(&s->peer.open));
    assert_int_equal(mdm_pushcert_import(w->store, &s->pair, &how, &stored,
                                         &w->err), MDM_OK);
    assert_true(stored);
    mdm_dispatch_wake(d);
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.requests), 2);
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* The thread is woken by those of its own process: that is much sooner than
 * it would find out from the store, a quarter of a second after the last
 * answer. */
static void test_woken(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_target_result_t target = {.id = MDM_STR("D")};
    mdm_dispatch_t *d;
    int64_t took = 0;
    int64_t begin;
    size_t pushed;
    int i;

    enroll(w, "D", 'A');
    d = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM pushcert", 1));
    for (i = 1; i <= 21; i++) {
        assert_int_equal(mdm_queue_push(w->store, &target, 1, &pushed,
                                        &w->err), MDM_OK);
        begin = mdm_mono_us(NULL);
        mdm_dispatch_wake(d);
        assert_true(wait_count(&s->peer.requests, i));
        took += i > 1 ? mdm_mono_us(NULL) - begin : 0;
        assert_true(wait_sql(w, DUE, 0));
    }
    if (took > 20 * MDM_SEC / 8) {
        fail_msg("twenty pushes took %lld us", (long long)took);
    }
    mdm_dispatch_stop(&d, 5 * MDM_SEC);
    scene_end(s);
}

/* Two processes on one file: one connects, the other takes over. */
static void test_leader(void **state)
{
    static const int script[] = {0};
    world_t *w = *state;
    scene_t *s = scene(w, script);
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    mdm_dispatch_t *d[2];

    enroll(w, "D", 'A');
    d[0] = start(s, w->store);
    assert_true(wait_sql(w, "SELECT COUNT(*) FROM lease WHERE expires > 0",
                         1));
    d[1] = start(s, other);
    assert_true(enqueue(w, "c1", "D", 5).pushed);
    mdm_dispatch_wake(d[1]); /* whoever is woken, the leader sends */
    assert_true(wait_count(&s->peer.requests, 1));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.connections), 1);
    mdm_dispatch_stop(&d[0], 5 * MDM_SEC);
    assert_true(enqueue(w, "c2", "D", 5).pushed);
    assert_true(wait_count(&s->peer.requests, 2));
    assert_true(wait_sql(w, DUE, 0));
    assert_int_equal(atomic_load(&s->peer.connections), 2);
    mdm_dispatch_stop(&d[1], 5 * MDM_SEC);
    mdm_store_free(&other);
    scene_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_delivered),
        world_test(test_repeated),
        world_test(test_suspended),
        world_test(test_woken),
        world_test(test_leader),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* the peer writes to closed sockets */
    return cmocka_run_group_tests_name("dispatch_push", tests, NULL, NULL);
}
