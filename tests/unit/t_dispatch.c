/*
 * t_dispatch.c - the background thread: lease, adoption of certificates,
 * "last seen", and what happens to pushes while APNs cannot be reached.
 * Deliveries are tested with real servers in tests/it; here threads meet, so
 * run it under ThreadSanitizer, too.
 */
#include "t_store_world.h"

#include <pthread.h>

#include "mdm_dispatch.h"
#include "mdm_pushcert.h"
#include "mdm_thread.h"
#include "testcert.h"

#define PATIENCE_US (20 * MDM_SEC)

static mdm_dispatch_config_t base_config(mdm_store_t *store, const char *name)
{
    /* Port 1 of this machine refuses every connection. */
    mdm_dispatch_config_t c = {.store = store,
                               .host_name = name,
                               .push = true,
                               .push_host = "127.0.0.1",
                               .push_port = 1,
                               .push_expiration_us = 3600 * MDM_SEC,
                               .push_timeout_us = 2 * MDM_SEC,
                               .push_concurrency = 10,
                               .policy = {.retry_min_us = MDM_SEC,
                                          .retry_max_us = 60 * MDM_SEC},
                               .lease_life_us = 2 * MDM_SEC};

    return c;
}

/* Waits until a query gives the value. */
static void wait_for(const world_t *w, const char *sql, int64_t value)
{
    int64_t until = mdm_mono_us(NULL) + PATIENCE_US;

    while (db_int(w, sql) != value) {
        assert_true(mdm_mono_us(NULL) < until);
        (void)usleep(10000);
    }
}

static void test_one_leads_and_the_other_takes_over(void **state)
{
    world_t *w = *state;
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    mdm_dispatch_config_t a = base_config(w->store, "first");
    mdm_dispatch_config_t b = base_config(other, "second");
    mdm_dispatch_t *first;
    mdm_dispatch_t *second;

    assert_int_equal(mdm_dispatch_start(&a, &first, &w->err), MDM_OK);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    wait_for(w, "SELECT COUNT(*) FROM lease WHERE holder LIKE '% first %'", 1);
    assert_int_equal(mdm_dispatch_start(&b, &second, &w->err), MDM_OK);
    /* Longer than a lease lives: it is renewed, not passed on. */
    (void)usleep(2500000);
    assert_int_equal(
        db_int(w, "SELECT COUNT(*) FROM lease WHERE holder LIKE '% first %'"),
        1);
    /* A claim of a holder that died, and one of the leader that stops. */
    enroll(w, "D", 'A');
    db_run(w, "INSERT INTO push (eid, topic, due_at, generation,"
              " sent_generation, claimed_by, attempts, apns_id, last_at,"
              " last_status) VALUES (1, '" TOPIC "', 9000000000000000, 1, 1,"
              " 'dead', 0, 'x', 0, 0)");
    mdm_dispatch_retire(first);
    mdm_dispatch_stop(&first, MDM_SEC);
    assert_null(first);
    wait_for(w, "SELECT COUNT(*) FROM lease WHERE holder LIKE '% second %'"
                " AND expires > 0",
             1);
    wait_for(w, "SELECT COUNT(*) FROM push WHERE claimed_by IS NULL AND"
                " due_at < 9000000000000000",
             1);
    mdm_dispatch_stop(&second, MDM_SEC);
    assert_int_equal(db_int(w, "SELECT MAX(expires) FROM lease"), 0);
    mdm_store_free(&other);
}

/* Without pushes the chores are done all the same, under a lease that is in
 * nobody's way; the claims of one that does push are left alone. */
static void test_push_off_does_chores_only(void **state)
{
    world_t *w = *state;
    mdm_dispatch_config_t c = base_config(w->store, "off");
    mdm_dispatch_t *d;

    c.push = false;
    enroll(w, "D", 'A');
    (void)enqueue(w, "over", "D", 5);
    db_run(w, "UPDATE queue SET expires = 1");
    db_run(w, "UPDATE push SET due_at = 9000000000000000,"
              " claimed_by = 'another'");
    assert_int_equal(mdm_dispatch_start(&c, &d, &w->err), MDM_OK);
    mdm_dispatch_seen(d, 1, 5);
    wait_for(w, "SELECT state FROM queue", MDM_QUEUE_EXPIRED);
    mdm_dispatch_stop(&d, MDM_SEC);
    assert_int_equal(
        db_int(w, "SELECT COUNT(*) FROM lease WHERE name = 'push'"), 0);
    assert_int_equal(
        db_int(w, "SELECT expires FROM lease WHERE name = 'chores'"), 0);
    assert_int_equal(
        db_int(w, "SELECT COUNT(*) FROM push WHERE claimed_by = 'another'"),
        1);
}

static void test_adopts_a_file_certificate_and_keeps_the_push(void **state)
{
    world_t *w = *state;
    mdm_dispatch_config_t c = base_config(w->store, "files");
    mdm_keypair_t pair;
    const mdm_keypair_t *files[1] = {&pair};
    mdm_dispatch_t *d;
    testcert_t cert = testcert_push(TOPIC);
    char *pem = testcert_both(&cert);
    mdm_str_t both = mdm_str_from(pem);
    mdm_target_result_t target = {.id = MDM_STR("D")};
    size_t pushed = 0;

    assert_int_equal(mdm_keypair_read(&both, 1, MDM_STR_NONE,
                                      w->arena, &pair, &w->err),
                     MDM_OK);
    free(pem);
    testcert_free(&cert);
    enroll(w, "D", 'A');
    c.file_certs = files;
    c.nfile_certs = 1;
    assert_int_equal(mdm_dispatch_start(&c, &d, &w->err), MDM_OK);
    wait_for(w, "SELECT COUNT(*) FROM pushcert WHERE topic = '" TOPIC "'", 1);
    assert_int_equal(mdm_queue_push(w->store, &target, 1, &pushed, &w->err),
                     MDM_OK);
    assert_int_equal(pushed, 1);
    mdm_dispatch_wake(d);
    /* APNs refuses: the push stays due, unclaimed. */
    wait_for(w, "SELECT COUNT(*) FROM lease", 1);
    (void)usleep(700000);
    mdm_dispatch_stop(&d, MDM_SEC);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push WHERE"
                               " due_at IS NOT NULL AND claimed_by IS NULL"),
                     1);
}

typedef struct knocker {
    mdm_dispatch_t *dispatch;
    int64_t first;
} knocker_t;

static void *knock(void *arg)
{
    knocker_t *k = arg;
    int64_t i;

    for (i = 0; i < 200; i++) {
        mdm_dispatch_seen(k->dispatch, k->first + i % 3, 1000 + i);
        mdm_dispatch_wake(k->dispatch);
    }
    return NULL;
}

static void test_seen_is_written_at_the_end(void **state)
{
    world_t *w = *state;
    mdm_dispatch_config_t c = base_config(w->store, "seen");
    mdm_dispatch_t *d;
    pthread_t threads[4];
    knocker_t k[4];
    size_t i;

    enroll(w, "D", 'A');
    db_run(w, "UPDATE enrollment SET last_seen = 1");
    assert_int_equal(mdm_dispatch_start(&c, &d, &w->err), MDM_OK);
    for (i = 0; i < MDM_ARRAY_LEN(threads); i++) {
        k[i].dispatch = d;
        k[i].first = 1;
        assert_int_equal(mdm_thread_start(&threads[i], knock, &k[i], &w->err),
                         MDM_OK);
    }
    for (i = 0; i < MDM_ARRAY_LEN(threads); i++) {
        (void)pthread_join(threads[i], NULL);
    }
    /* The thread must have opened the store to have anywhere to write. */
    wait_for(w, "SELECT COUNT(*) FROM lease", 1);
    mdm_dispatch_stop(&d, MDM_SEC);
    assert_true(db_int(w, "SELECT last_seen FROM enrollment") >= 1195);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_one_leads_and_the_other_takes_over, world_setup,
            world_teardown),
        cmocka_unit_test_setup_teardown(test_push_off_does_chores_only,
                                        world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(
            test_adopts_a_file_certificate_and_keeps_the_push, world_setup,
            world_teardown),
        cmocka_unit_test_setup_teardown(test_seen_is_written_at_the_end,
                                        world_setup, world_teardown),
    };

    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
