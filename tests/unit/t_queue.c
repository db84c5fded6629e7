/*
 * t_queue.c - the command queue: order, NotNow, reports that come again, late
 * or from nowhere, and what enqueueing tells of each target.
 */
#include "t_store_world.h"

#define ACK MDM_REPORT_ACKNOWLEDGED
#define NOT_NOW MDM_REPORT_NOT_NOW

static void test_order(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    (void)enqueue(w, "low", "D", 0);
    (void)enqueue(w, "mid1", "D", 5);
    (void)enqueue(w, "mid2", "D", 5);
    (void)enqueue(w, "high", "D", 9);
    assert_string_equal(idle(w), "high");
    assert_string_equal(idle(w), "high"); /* until its report comes */
    assert_string_equal(report(w, ACK, "high"), "mid1");
    (void)enqueue(w, "late", "D", 9);
    assert_string_equal(report(w, MDM_REPORT_ERROR, "mid1"), "late");
    assert_string_equal(report(w, MDM_REPORT_COMMAND_FORMAT_ERROR, "late"),
                        "mid2");
    assert_string_equal(report(w, ACK, "mid2"), "low");
    assert_string_equal(report(w, ACK, "low"), "");
    assert_string_equal(idle(w), "");
    assert_int_equal(db_int(w, "SELECT sent_count FROM queue q JOIN command c"
                               " USING (cid) WHERE uuid = 'high'"), 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 4"),
                     1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 5"),
                     1);
}

static void test_not_now(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    (void)enqueue(w, "A", "D", 5);
    (void)enqueue(w, "B", "D", 5);
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, NOT_NOW, "A"), "B");
    /* B finished: A is offered again, put off again, and that ends it. */
    assert_string_equal(report(w, ACK, "B"), "A");
    assert_string_equal(report(w, NOT_NOW, "A"), "");
    /* The device comes by itself when it can: A first. */
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, ACK, "A"), "");
    assert_int_equal(db_int(w, "SELECT not_now_count FROM queue q"
                               " JOIN command c USING (cid)"
                               " WHERE uuid = 'A'"), 2);
}

static void test_not_now_both(void **state)
{
    world_t *w = *state;
    int i;

    enroll(w, "D", 'A');
    (void)enqueue(w, "A", "D", 5);
    (void)enqueue(w, "B", "D", 5);
    for (i = 0; i < 3; i++) { /* no ping-pong of A and B on any connection */
        assert_string_equal(idle(w), "A");
        if (i == 0) {
            assert_string_equal(report(w, NOT_NOW, "A"), "B");
            assert_string_equal(report(w, NOT_NOW, "B"), "");
        } else {
            assert_string_equal(report(w, NOT_NOW, "A"), "");
        }
    }
    /* A new command gets through all the same. */
    (void)enqueue(w, "C", "D", 0);
    assert_string_equal(report(w, NOT_NOW, "B"), "C");
    assert_string_equal(report(w, ACK, "C"), "A");
}

static void test_unknown_status(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    (void)enqueue(w, "A", "D", 5);
    (void)enqueue(w, "B", "D", 5);
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_UNKNOWN, "A"), "B");
    assert_string_equal(report(w, ACK, "B"), "A"); /* kept */
    assert_string_equal(report(w, ACK, "A"), "");
}

static void test_strange_reports(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    enroll(w, "E", 'B');
    (void)enqueue(w, "c1", "D", 5);
    (void)enqueue(w, "c2", "D", 5);
    (void)enqueue(w, "e1", "E", 5);
    assert_string_equal(idle(w), "c1");
    /* Never heard of, and another device's: ignored, the queue goes on. */
    assert_string_equal(report(w, ACK, "nobody"), "c1");
    assert_true(w->taken.unknown);
    assert_string_equal(report(w, ACK, "e1"), "c1");
    assert_true(w->taken.unknown);
    assert_int_equal(db_int(w, "SELECT state FROM queue q JOIN command c"
                               " USING (cid) WHERE uuid = 'e1'"), 0);
    assert_string_equal(report(w, ACK, "c1"), "c2");
    assert_false(w->taken.unknown || w->taken.repeated);
    /* The first report stands. */
    assert_string_equal(report(w, MDM_REPORT_ERROR, "c1"), "c2");
    assert_true(w->taken.repeated);
    assert_string_equal(report(w, NOT_NOW, "c1"), "c2");
    assert_true(w->taken.repeated);
    assert_int_equal(db_int(w, "SELECT state FROM queue q JOIN command c"
                               " USING (cid) WHERE uuid = 'c1'"),
                     MDM_QUEUE_ACKNOWLEDGED);
    /* Another device's certificate records nothing. */
    assert_int_equal(report_as(w, "D", 'B', ACK, "c2"), MDM_EDENIED);
    assert_string_equal(idle(w), "c2");
}

typedef struct find {
    mdm_arena_t *arena;
    const char *uuid;
    mdm_str_t raw;
} find_t;

static mdm_rc read_raw(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    find_t *f = arg;

    return mdm_store_result_get(tx, mdm_str_from(f->uuid), MDM_STR("D"),
                                f->arena, &f->raw, err);
}

static void test_late_result(void **state)
{
    world_t *w = *state;
    find_t f = {.arena = w->arena, .uuid = "c1"};

    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    (void)enqueue(w, "c2", "D", 5);
    assert_string_equal(idle(w), "c1");
    enroll(w, "D", 'A'); /* cancels both */
    assert_int_equal(mdm_store_read(w->store, read_raw, &f, &w->err),
                     MDM_ENOTFOUND);
    /* A cancelled command that is put off stays cancelled. */
    assert_string_equal(report(w, NOT_NOW, "c2"), "");
    assert_int_equal(db_int(w, "SELECT state FROM queue q JOIN command c"
                               " USING (cid) WHERE uuid = 'c2'"),
                     MDM_QUEUE_CANCELLED);
    assert_string_equal(report(w, ACK, "c1"), "");
    assert_false(w->taken.unknown || w->taken.repeated);
    assert_int_equal(mdm_store_read(w->store, read_raw, &f, &w->err), MDM_OK);
    assert_true(mdm_str_is(f.raw, "raw report of the device"));
    assert_int_equal(db_int(w, "SELECT state FROM queue q JOIN command c"
                               " USING (cid) WHERE uuid = 'c1'"),
                     MDM_QUEUE_ACKNOWLEDGED);
}

static mdm_rc enqueue_timed(world_t *w, const char *uuid, int64_t not_before,
                            int64_t expires)
{
    mdm_enqueue_t e = {.uuid = mdm_str_from(uuid),
                       .request_type = MDM_STR("X"),
                       .body = mdm_str_from(uuid),
                       .not_before_us = not_before,
                       .expires_us = expires};
    mdm_target_result_t t = {.id = MDM_STR("D")};
    size_t queued;

    return mdm_queue_enqueue(w->store, &e, &t, 1, &queued, &w->err);
}

static void test_times(void **state)
{
    world_t *w = *state;
    int64_t now = mdm_wall_us(NULL);

    enroll(w, "D", 'A');
    assert_int_equal(enqueue_timed(w, "later", now + 3600 * MDM_SEC, 0),
                     MDM_OK);
    assert_int_equal(enqueue_timed(w, "over", 0, now - 1), MDM_OK);
    assert_string_equal(idle(w), "");
    assert_int_equal(enqueue_timed(w, "now", now - 1, now + 3600 * MDM_SEC),
                     MDM_OK);
    assert_string_equal(idle(w), "now");
    /* No push was asked for. */
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"), 0);
    assert_string_equal(report(w, ACK, "now"), "");
    db_run(w, "UPDATE queue SET not_before = 0 WHERE not_before > 0");
    assert_string_equal(idle(w), "later");
}

/* A body that does not open is one command that cannot be given, not the end
 * of the queue. */
static void test_damaged_body(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    (void)enqueue(w, "c2", "D", 5);
    (void)enqueue(w, "c3", "D", 5);
    db_run(w, "UPDATE command SET body_s = x'02010203' WHERE uuid = 'c1'");
    db_run(w, "UPDATE command SET body_s = zeroblob(60) WHERE uuid = 'c2'");
    assert_string_equal(idle(w), "c3");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 7"
                               " AND finished_at > 0 AND sent_count = 0"), 2);
    db_run(w, "UPDATE command SET body_s = zeroblob(60) WHERE uuid = 'c3'");
    assert_string_equal(idle(w), "");
    assert_int_equal(db_int(w, "SELECT due_at FROM push"), -1);
}

/* The push of a command that may not be delivered yet goes out when it may,
 * whatever the device does meanwhile. */
static void test_push_at_not_before(void **state)
{
    world_t *w = *state;
    int64_t at = mdm_wall_us(NULL) + 3600 * MDM_SEC;
    mdm_enqueue_t e = {.uuid = MDM_STR("later"),
                       .request_type = MDM_STR("ProfileList"),
                       .body = MDM_STR("later"),
                       .push = true,
                       .not_before_us = at};
    mdm_target_result_t t = {.id = MDM_STR("D")};
    size_t n = 0;

    enroll(w, "D", 'A');
    assert_int_equal(mdm_queue_enqueue(w->store, &e, &t, 1, &n, &w->err),
                     MDM_OK);
    assert_true(db_int(w, "SELECT due_at FROM push") == at);
    assert_string_equal(idle(w), "");
    assert_true(db_int(w, "SELECT due_at FROM push") == at);
    /* One that may be delivered now is pushed now, and the other not lost. */
    (void)enqueue(w, "now", "D", 5);
    assert_true(db_int(w, "SELECT due_at FROM push") < at);
    assert_string_equal(idle(w), "now");
    assert_true(db_int(w, "SELECT due_at FROM push") == at);
}

static mdm_rc do_expire(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    int64_t eids[10];
    size_t n;

    return mdm_store_queue_expire(tx, *(int64_t *)arg, 10, eids, &n, err);
}

static mdm_rc do_is_expired(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_queue_is_expired(tx, mdm_wall_us(NULL), arg, err);
}

static void test_expired(void **state)
{
    world_t *w = *state;
    int64_t now = mdm_wall_us(NULL);
    bool some = true;

    enroll(w, "D", 'A');
    assert_int_equal(enqueue_timed(w, "stays", 0, now + 3600 * MDM_SEC),
                     MDM_OK);
    assert_int_equal(mdm_store_read(w->store, do_is_expired, &some, &w->err),
                     MDM_OK);
    assert_false(some);
    assert_int_equal(enqueue_timed(w, "over", 0, now - 1), MDM_OK);
    assert_int_equal(mdm_store_read(w->store, do_is_expired, &some, &w->err),
                     MDM_OK);
    assert_true(some);
    assert_int_equal(mdm_store_write(w->store, do_expire, &now, &w->err),
                     MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 6"),
                     1);
    assert_string_equal(idle(w), "stays");
    /* A late result is kept. */
    assert_string_equal(report(w, ACK, "over"), "stays");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 6"),
                     0);
}

static void test_many_targets(void **state)
{
    world_t *w = *state;
    mdm_enqueue_t e = {.uuid = MDM_STR("C"), .request_type = MDM_STR("X"),
                       .body = MDM_STR("body"), .push = true, .priority = 5};
    mdm_target_result_t t[4] = {{.id = MDM_STR("D")},
                                {.id = MDM_STR("none")},
                                {.id = MDM_STR("E")},
                                {.id = MDM_STR("G")}};
    size_t n = 0;

    enroll(w, "D", 'A');
    enroll(w, "E", 'B');
    assert_int_equal(checkin(w, MDM_CHECKIN_CHECK_OUT, "E", 'B'), MDM_OK);
    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, "G", 'G'), MDM_OK);
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t, 4, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 2);
    assert_true(t[0].pushed);
    assert_int_equal(strlen(t[0].ticket.apns_id), MDM_UUID_LEN);
    assert_int_equal(t[1].command, MDM_TARGET_UNKNOWN);
    assert_int_equal(t[2].command, MDM_TARGET_DISABLED);
    assert_int_equal(t[3].command, MDM_TARGET_OK);
    assert_int_equal(t[3].push, MDM_TARGET_NO_TOKEN);
    assert_false(t[3].pushed);
    /* The same UUID again: nothing is queued. */
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t, 4, &n, &w->err),
                     MDM_ECONFLICT);
    assert_int_equal(n, 0);
    assert_int_equal(t[0].command, MDM_TARGET_FAILED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 2);
    /* A call in which all targets are wrong leaves its UUID free. */
    e.uuid = MDM_STR("C2");
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t + 1, 2, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 1);
    assert_int_equal(mdm_queue_push(w->store, t, 4, &n, &w->err), MDM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(t[1].push, MDM_TARGET_UNKNOWN);
    assert_string_equal(mdm_target_fault_text(MDM_TARGET_OK), "");
}

/* More targets than fit into one transaction, one of them twice. */
static void test_chunks(void **state)
{
    world_t *w = *state;
    mdm_enqueue_t e = {.uuid = MDM_STR("C"), .request_type = MDM_STR("X"),
                       .body = MDM_STR("body"), .priority = 5};
    mdm_target_result_t *t = calloc(2100, sizeof(*t));
    size_t n = 0;
    size_t i;

    assert_non_null(t);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    db_run(w, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c"
              " WHERE x < 2100) INSERT INTO enrollment (id, device_eid, type,"
              " state, life, token_state, token_at, awaiting_configuration,"
              " tally, created_at, authenticate_at, disabled_at, last_seen)"
              " SELECT 'N' || x, x, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM c");
    for (i = 0; i < 2100; i++) {
        t[i].id = mdm_str_from(mdm_arena_printf(w->arena, "N%zu", i + 1));
    }
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t, 2100, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 2100);
    assert_int_equal(db_int(w, "SELECT COUNT(DISTINCT eid) FROM queue"), 2100);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 1);
    /* The second chunk fails: the first one stays and says so. */
    e.uuid = MDM_STR("C2");
    t[1500].id = t[1400].id;
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t, 2100, &n, &w->err),
                     MDM_ECONFLICT);
    assert_int_equal(n, 1000);
    assert_int_equal(t[999].command, MDM_TARGET_OK);
    assert_int_equal(t[1000].command, MDM_TARGET_FAILED);
    assert_int_equal(t[2099].command, MDM_TARGET_FAILED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 3100);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_order),          world_test(test_not_now),
        world_test(test_not_now_both),   world_test(test_unknown_status),
        world_test(test_strange_reports), world_test(test_late_result),
        world_test(test_damaged_body),
        world_test(test_times),
        world_test(test_push_at_not_before),
        world_test(test_expired),
        world_test(test_many_targets),
        world_test(test_chunks),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
