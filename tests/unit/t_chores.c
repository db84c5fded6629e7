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

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_when),
        world_test(test_store_fault),
        world_test(test_expiry_in_slices),
    };

    return cmocka_run_group_tests_name("chores", tests, NULL, NULL);
}
