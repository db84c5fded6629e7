/*
 * t_chores.c - periodic work on the store: which chore runs when, that a
 * slice is bounded, and what each one does.  Times are made up.
 */
#include "t_store_world.h"

#include "mdm_chores.h"

#define DAY_US (86400 * MDM_SEC)

typedef struct work {
    world_t *w;
    mdm_chores_t chores;
    int64_t mono;
    int64_t wall;
} work_t;

static work_t begin(world_t *w, int64_t retention_us)
{
    work_t work = {.w = w, .mono = 1000 * DAY_US};
    mdm_chores_config_t config = {.store = w->store,
                                  .result_retention_us = retention_us};

    work.wall = mdm_wall_us(NULL);
    mdm_chores_init(&work.chores, &config);
    return work;
}

/* Every slice that is due now; how many there were. */
static int run(work_t *work)
{
    int n = 0;

    while (mdm_chores_next(&work->chores) <= work->mono) {
        if (mdm_chores_step(&work->chores, work->mono, work->wall,
                            &work->w->err) != MDM_OK) {
            fail_msg("%s", work->w->err.text);
        }
        n++;
        assert_true(n < 1000);
    }
    return n;
}

/* Goes on until `sql` gives 0, a second at a time. */
static int run_until_none(work_t *work, const char *sql)
{
    int n = run(work);

    while (db_int(work->w, sql) != 0) {
        work->mono += MDM_SEC;
        n += run(work);
    }
    return n;
}

static void test_when(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, DAY_US);
    int first;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    first = run(&work); /* all at once, at first */
    assert_true(first > 0);
    assert_int_equal(run(&work), 0);
    assert_true(mdm_chores_next(&work.chores) > work.mono);
    work.mono = mdm_chores_next(&work.chores);
    assert_true(run(&work) > 0);
    work.mono += DAY_US;
    assert_int_equal(run(&work), first);
}

static void test_store_fault(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, DAY_US);
    int64_t next;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    db_run(w, "ALTER TABLE queue RENAME TO elsewhere");
    assert_int_not_equal(mdm_chores_step(&work.chores, work.mono, work.wall,
                                         &w->err), MDM_OK);
    assert_non_null(strstr(w->err.text, "expired commands: "));
    db_run(w, "ALTER TABLE elsewhere RENAME TO queue");
    (void)run(&work);
    next = mdm_chores_next(&work.chores);
    assert_true(next > work.mono && next <= work.mono + 5 * MDM_SEC);
}

static void queue_many(world_t *w, int n)
{
    char sql[400];

    (void)snprintf(sql, sizeof(sql),
                   "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1"
                   " FROM c WHERE x < %d) INSERT INTO queue (eid, cid, state,"
                   " priority, not_before, expires, queued_at, sent_at,"
                   " sent_count, not_now_count, finished_at, damaged)"
                   " SELECT 1, 1000 + x, 0, 5, 0, 5 + x, 0, 0, 0, 0, 0, 0"
                   " FROM c", n);
    db_run(w, sql);
}

static void test_expiry_in_slices(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, 0);
    const int64_t most = 1000;
    int64_t left;

    enroll(w, "D", 'A');
    queue_many(w, 5000);
    assert_int_equal(mdm_chores_step(&work.chores, work.mono, work.wall,
                                     &w->err), MDM_OK);
    left = db_int(w, "SELECT COUNT(*) FROM queue WHERE state < 3");
    assert_true(left < 5000 && left >= 5000 - most);
    /* Those that are longest over go first. */
    assert_true(db_int(w, "SELECT MIN(expires) FROM queue WHERE state < 3") >
                db_int(w, "SELECT MAX(expires) FROM queue WHERE state = 6"));
    assert_true(run_until_none(&work, "SELECT COUNT(*) FROM queue"
                                      " WHERE state < 3") >= 4);
}

/* A channel whose queue is over needs no push; one with something left keeps
 * its own. */
static void test_expiry_settles_pushes(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, 0);

    enroll(w, "D", 'A');
    enroll(w, "E", 'B');
    (void)enqueue(w, "d1", "D", 5);
    (void)enqueue(w, "e1", "E", 5);
    (void)enqueue(w, "e2", "E", 5);
    db_run(w, "UPDATE queue SET expires = 5 WHERE qid <> 3");
    (void)run(&work);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 6"),
                     2);
    assert_int_equal(db_int(w, "SELECT due_at FROM push WHERE eid = 1"), -1);
    assert_true(db_int(w, "SELECT due_at FROM push WHERE eid = 2") > 0);
}

/* ---- retention ----------------------------------------------------------- */

/* UPDATE table SET column = when, in all rows or `where`. */
static void at(world_t *w, const char *set, int64_t when, const char *where)
{
    char sql[200];

    (void)snprintf(sql, sizeof(sql), "UPDATE %s = %lld %s", set,
                   (long long)when, where);
    db_run(w, sql);
}

static void test_retention(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, 90 * DAY_US);
    int64_t old = work.wall - 90 * DAY_US;

    enroll(w, "D", 'A');
    enroll(w, "D", 'B'); /* 'A' is history */
    (void)enqueue(w, "old", "D", 9);
    (void)enqueue(w, "young", "D", 8);
    (void)enqueue(w, "waits", "D", 5);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL), MDM_OK);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_ACKNOWLEDGED, "old"),
                     MDM_OK);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_ERROR, "young"),
                     MDM_OK);
    at(w, "command SET created_at", old, "");
    at(w, "queue SET queued_at", old - 1, "");
    at(w, "queue SET finished_at", old, "WHERE qid = 1");
    at(w, "queue SET finished_at", old + 1, "WHERE qid = 2");
    (void)run(&work);
    /* "waits" was never answered, "young" a moment too late to go. */
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 2);
    assert_int_equal(
        db_int(w, "SELECT COUNT(*) FROM command WHERE uuid = 'old'"), 0);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM identity"), 2);
    /* Forgotten: a late report is one on an unknown command, and the UUID is
     * a new one, whose result is its own. */
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_ACKNOWLEDGED, "old"),
                     MDM_OK);
    assert_true(w->taken.unknown);
    (void)enqueue(w, "old", "D", 9);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 3"),
                     0);
    /* Without a retention nothing goes. */
    work = begin(w, 0);
    at(w, "queue SET finished_at", 5, "WHERE state >= 3");
    (void)run(&work);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 3);
}

static void test_command_of_many(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, DAY_US);
    mdm_enqueue_t e = {.uuid = MDM_STR("C"), .request_type = MDM_STR("X"),
                       .body = MDM_STR("C"), .priority = 5};
    mdm_target_result_t t[2] = {{.id = MDM_STR("D")}, {.id = MDM_STR("E")}};
    size_t n;

    enroll(w, "D", 'A');
    enroll(w, "E", 'B');
    assert_int_equal(mdm_queue_enqueue(w->store, &e, t, 2, &n, &w->err),
                     MDM_OK);
    db_run(w, "UPDATE command SET created_at = 5");
    db_run(w, "UPDATE queue SET state = 3, finished_at = 6 WHERE eid = 1");
    (void)run(&work);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 1);
    /* The other one goes once it is answered, the command after it. */
    db_run(w, "UPDATE queue SET state = 4, finished_at = 6");
    work.mono += DAY_US;
    (void)run(&work);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 0);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 0);
}

static void test_retention_in_slices(void **state)
{
    world_t *w = *state;
    work_t work = begin(w, DAY_US);

    enroll(w, "D", 'A');
    queue_many(w, 3000);
    db_run(w, "UPDATE queue SET state = 3, finished_at = expires,"
              " result_s = zeroblob(20000)");
    db_run(w, "INSERT INTO command (cid, uuid, request_type, body_s,"
              " created_at) SELECT cid, 'u' || cid, 'X', zeroblob(10),"
              " queued_at + 1 FROM queue");
    /* Not all of them have gone, and those that stay are kept for good. */
    db_run(w, "UPDATE queue SET state = 0, expires = 0 WHERE cid % 10 = 0");
    assert_true(run_until_none(&work, "SELECT COUNT(*) FROM queue"
                                      " WHERE state = 3") > 3);
    (void)run_until_none(&work, "SELECT COUNT(*) FROM command"
                                " WHERE cid % 10 <> 0");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"), 300);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 300);
    /* The next rounds look at those and write nothing. */
    work.mono += DAY_US;
    (void)run(&work);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 300);
}

typedef struct pruning {
    mdm_old_rows_t old;
    int64_t row;
} pruning_t;

static mdm_rc find_old(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    pruning_t *p = arg;

    return mdm_store_results_old(tx, &p->old, err);
}

static mdm_rc prune_old(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    pruning_t *p = arg;

    return mdm_store_result_prune(tx, p->row, p->old.before_us, err);
}

/* A late report on a cancelled command, between the look and the deletion. */
static void test_late_report_while_pruning(void **state)
{
    world_t *w = *state;
    pruning_t p = {.old = {.limit = 1, .bytes_max = 1000}};

    p.old.rows = &p.row;
    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    assert_string_equal(idle(w), "c1");
    p.old.before_us = mdm_wall_us(NULL) - DAY_US;
    at(w, "queue SET state = 7, finished_at", p.old.before_us - 5, "");
    assert_int_equal(mdm_store_read(w->store, find_old, &p, &w->err), MDM_OK);
    assert_int_equal(p.old.n, 1);
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "c1"), "");
    assert_int_equal(mdm_store_write(w->store, prune_old, &p, &w->err),
                     MDM_OK);
    assert_int_equal(db_int(w, "SELECT state FROM queue WHERE result_s IS NOT"
                               " NULL"), MDM_QUEUE_ACKNOWLEDGED);
}

/* Large values bound a slice before the number of rows does, but one that is
 * larger than any slice goes as well. */
static void test_large_results(void **state)
{
    static const struct {
        const char *size;
        int64_t most;
    } cases[] = {{"3000000", 1}, {"1000000", 2}, {"100000", 20}};
    world_t *w = *state;
    work_t work;
    char sql[200];
    int64_t left;
    size_t i;

    enroll(w, "D", 'A');
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        queue_many(w, 30);
        (void)snprintf(sql, sizeof(sql),
                       "UPDATE queue SET state = 3, finished_at = expires,"
                       " result_s = zeroblob(%s)", cases[i].size);
        db_run(w, sql);
        work = begin(w, DAY_US);
        do { /* until it is the turn of the results */
            assert_int_equal(mdm_chores_step(&work.chores, work.mono,
                                             work.wall, &w->err), MDM_OK);
            left = db_int(w, "SELECT COUNT(*) FROM queue");
        } while (left == 30);
        assert_int_equal(30 - left, cases[i].most);
        (void)run_until_none(&work, "SELECT COUNT(*) FROM queue");
    }
}

/* ---- silent devices ------------------------------------------------------ */

#define SILENT_US (3600 * MDM_SEC)

static work_t begin_silent(world_t *w)
{
    work_t work = begin(w, 0);

    work.chores.config.push_silent_us = SILENT_US;
    return work;
}

/* So much later. */
static void go_on(work_t *work, int64_t us)
{
    work->mono += us;
    work->wall += us;
    (void)run(work);
}

#define DUE "SELECT COUNT(*) FROM push WHERE due_at IS NOT NULL"

/* It was pushed and did not come. */
static void answer(world_t *w)
{
    db_run(w, "UPDATE push SET due_at = NULL, sent_generation = generation");
}

static void test_silent(void **state)
{
    world_t *w = *state;
    work_t work = begin_silent(w);
    int64_t pause;

    enroll(w, "D", 'A');
    (void)checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D:U", 'A');
    (void)run(&work);
    /* It is to be looked at when it would be silent. */
    pause = db_int(w, "SELECT silent_at - last_seen FROM enrollment"
                      " WHERE id = 'D'");
    assert_true(pause >= SILENT_US && pause <= SILENT_US / 4 * 5);
    go_on(&work, SILENT_US - MDM_SEC);
    assert_int_equal(db_int(w, DUE), 0);
    go_on(&work, SILENT_US / 4 + 12 * MDM_SEC);
    assert_int_equal(db_int(w, DUE), 1);
    assert_int_equal(db_int(w, "SELECT eid FROM push"), 1); /* no user */
    answer(w);
    /* Once in that time. */
    go_on(&work, SILENT_US - 10 * MDM_SEC);
    assert_int_equal(db_int(w, DUE), 0);
    go_on(&work, SILENT_US / 4 + 20 * MDM_SEC);
    assert_int_equal(db_int(w, DUE), 1);
    answer(w);
    /* It came. */
    at(w, "enrollment SET last_seen", work.wall, "");
    go_on(&work, SILENT_US - 10 * MDM_SEC);
    assert_int_equal(db_int(w, DUE), 0);
    go_on(&work, SILENT_US / 4 + 20 * MDM_SEC);
    assert_int_equal(db_int(w, DUE), 1);
    answer(w);
    /* Nobody can be woken by a dead token, or when disabled. */
    db_run(w, "UPDATE enrollment SET token_state = 2");
    go_on(&work, 5 * SILENT_US);
    db_run(w, "UPDATE enrollment SET token_state = 1, state = 2");
    go_on(&work, 5 * SILENT_US);
    assert_int_equal(db_int(w, DUE), 0);
    db_run(w, "UPDATE enrollment SET state = 1");
    work.chores.config.push_silent_us = 0;
    go_on(&work, 5 * SILENT_US);
    assert_int_equal(db_int(w, DUE), 0);
}

/* A push that is planned anyway, because commands wait, is left as it is. */
static void test_silent_and_repeat(void **state)
{
    world_t *w = *state;
    work_t work = begin_silent(w);

    enroll(w, "D", 'A');
    (void)run(&work);
    db_run(w, "INSERT INTO push (eid, topic, due_at, generation,"
              " sent_generation, attempts, apns_id, last_at, last_status)"
              " VALUES (1, '" TOPIC "', 9000000000000000, 1, 1, 0, 'x', 0,"
              " 200)");
    go_on(&work, 2 * SILENT_US);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push WHERE"
                               " due_at = 9000000000000000 AND"
                               " generation = 1 AND apns_id = 'x'"), 1);
    assert_true(db_int(w, "SELECT silent_at FROM enrollment") >
                work.wall + SILENT_US - MDM_SEC);
}

static void fleet(world_t *w, int n)
{
    char sql[400];

    (void)snprintf(sql, sizeof(sql),
                   "WITH RECURSIVE c(x) AS (SELECT 2 UNION ALL SELECT x + 1"
                   " FROM c WHERE x < %d) INSERT INTO enrollment (eid, id,"
                   " device_eid, type, state, life, topic, token_state,"
                   " token_at, awaiting_configuration, tally, created_at,"
                   " authenticate_at, disabled_at, last_seen) SELECT x,"
                   " 'F' || x, x, 1, 1, 0, '" TOPIC "', 1, 0, 0, 1, 0, 0, 0,"
                   " 5 FROM c", n);
    db_run(w, sql);
}

/* Switched on in a fleet that has been silent for long: looked at in slices,
 * pushed spread over a quarter of the time. */
static void test_silent_fleet(void **state)
{
    world_t *w = *state;
    work_t work = begin_silent(w);
    int64_t most = 0;
    int64_t pushed = 0;
    int64_t n;
    int i;

    enroll(w, "D", 'A');
    fleet(w, 4000);
    assert_true(run_until_none(&work, "SELECT COUNT(*) FROM enrollment"
                                      " WHERE silent_at = 0") >= 4);
    assert_int_equal(db_int(w, DUE), 0);
    for (i = 0; i < 10; i++) {
        go_on(&work, SILENT_US / 40);
        while (run(&work) > 0) {
            work.mono += MDM_SEC;
        }
        n = db_int(w, DUE);
        most = n > most ? n : most;
        pushed += n;
        answer(w);
    }
    go_on(&work, 60 * MDM_SEC);
    pushed += db_int(w, DUE);
    assert_int_equal(pushed, 3999);
    assert_true(most < 4000 / 4);
}

/* A shorter setting, or a clock that is set back, does not leave devices with
 * a time far ahead; one that was last seen in the future does no harm. */
static void test_silent_clock(void **state)
{
    world_t *w = *state;
    work_t work = begin_silent(w);
    int64_t left;

    enroll(w, "D", 'A');
    db_run(w, "UPDATE enrollment SET silent_at = 9000000000000000");
    (void)run(&work);
    left = db_int(w, "SELECT silent_at FROM enrollment") - work.wall;
    assert_true(left > 0 && left <= SILENT_US / 4 * 5);
    db_run(w, "UPDATE enrollment SET silent_at = 9000000000000000,"
              " last_seen = 5");
    go_on(&work, 10 * MDM_SEC);
    left = db_int(w, "SELECT silent_at FROM enrollment") - work.wall;
    assert_true(left > 0 && left <= SILENT_US / 4 + 1);
    db_run(w, "UPDATE enrollment SET silent_at = 1,"
              " last_seen = 9000000000000000");
    go_on(&work, 10 * MDM_SEC);
    left = db_int(w, "SELECT silent_at FROM enrollment") - work.wall;
    assert_true(left >= SILENT_US && left <= SILENT_US / 4 * 5);
    assert_int_equal(db_int(w, DUE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_when),
        world_test(test_store_fault),
        world_test(test_expiry_in_slices),
        world_test(test_expiry_settles_pushes),
        world_test(test_retention),
        world_test(test_command_of_many),
        world_test(test_retention_in_slices),
        world_test(test_late_report_while_pruning),
        world_test(test_large_results),
        world_test(test_silent),
        world_test(test_silent_and_repeat),
        world_test(test_silent_fleet),
        world_test(test_silent_clock),
    };

    return cmocka_run_group_tests_name("chores", tests, NULL, NULL);
}
