/*
 * t_wake.c - pushes that nobody asks for: a device that put commands off, or
 * that stays silent while commands wait, is pushed again, slowly; and an idle
 * poll never writes because of it.
 */
#include "t_store_world.h"

#define MINUTE_US (60 * MDM_SEC)
#define REPEAT_US (240 * MINUTE_US)
#define DUE "SELECT due_at FROM push WHERE eid = 1"
#define NONE (-1)  /* a row of the outbox without a due time */
#define NO_ROW (-2)

static world_t *begin(void **state, int64_t repeat_us)
{
    world_t *w = *state;

    mdm_store_free(&w->store);
    w->push_repeat_us = repeat_us;
    w->store = world_store(w, 20 * MDM_SEC, NULL);
    enroll(w, "D", 'A');
    return w;
}

/* Queued without a push, as far as nobody says otherwise. */
static void queue(world_t *w, const char *uuid, const char *id)
{
    mdm_enqueue_t e = {.uuid = mdm_str_from(uuid),
                       .request_type = MDM_STR("ProfileList"),
                       .body = mdm_str_from(uuid),
                       .priority = 5};
    mdm_target_result_t t = {.id = mdm_str_from(id)};
    size_t n = 0;

    assert_int_equal(mdm_queue_enqueue(w->store, &e, &t, 1, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 1);
}

/* The push is due the pause from now on, or up to a quarter later. */
static void assert_pause(const world_t *w, int64_t pause_us)
{
    int64_t left = db_int(w, DUE) - mdm_wall_us(NULL);

    if (left < pause_us - 10 * MDM_SEC || left > pause_us + pause_us / 4) {
        fail_msg("due in %lld s instead of %lld s and up to a quarter more",
                 (long long)(left / MDM_SEC), (long long)(pause_us / MDM_SEC));
    }
}

static bool committed(world_t *w, int64_t *version)
{
    int64_t before = *version;

    assert_int_equal(mdm_store_version(w->store, version, &w->err), MDM_OK);
    return *version != before;
}

/* ---- the dispatcher's side ---------------------------------------------- */

typedef struct flight {
    mdm_str_t holder;
    int64_t now;
    mdm_claim_t claim;
    size_t n;
    mdm_arena_t *arena;
    mdm_push_finish_t finish;
    mdm_push_ticket_t ticket;
} flight_t;

static mdm_rc do_claim(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flight_t *f = arg;

    return mdm_store_push_claim(tx, MDM_STR(TOPIC), f->holder, f->now,
                                f->now + MINUTE_US, 1, f->arena, &f->claim,
                                &f->n, err);
}

static mdm_rc do_finish(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flight_t *f = arg;

    return mdm_store_push_finish(tx, &f->finish, f->holder, f->now, err);
}

static mdm_rc do_release(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flight_t *f = arg;

    return mdm_store_push_release(tx, f->holder, f->now, err);
}

static mdm_rc do_recover(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flight_t *f = arg;

    return mdm_store_push_recover(tx, MDM_STR("another"), f->now, err);
}

static mdm_rc do_mark(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    flight_t *f = arg;

    return mdm_store_push_mark(tx, 1, MDM_STR(TOPIC), f->now, &f->ticket,
                               err);
}

static mdm_rc do_settle(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    (void)arg;
    return mdm_store_push_settle(tx, 1, err);
}

static void run(world_t *w, flight_t *f, mdm_tx_fn *fn)
{
    if (mdm_store_write(w->store, fn, f, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
}

/* Makes a push due and sends it. */
static flight_t send_push(world_t *w)
{
    flight_t f = {.holder = MDM_STR("h"), .arena = w->arena};

    f.now = mdm_wall_us(NULL) + MDM_SEC;
    run(w, &f, do_mark);
    run(w, &f, do_claim);
    assert_int_equal(f.n, 1);
    f.finish.eid = 1;
    f.finish.status = 200;
    f.finish.repeat_at_us = f.now + REPEAT_US;
    return f;
}

static int64_t delivered(world_t *w, flight_t *f)
{
    f->finish.verdict = MDM_PUSH_DONE;
    run(w, f, do_finish);
    return db_int(w, DUE);
}

/* ---- NotNow -------------------------------------------------------------- */

static void test_put_off(void **state)
{
    static const int64_t minutes[] = {15, 30, 60, 120, 240, 240, 240};
    world_t *w = begin(state, REPEAT_US);
    size_t i;

    queue(w, "A", "D");
    assert_int_equal(db_int(w, DUE), NO_ROW);
    for (i = 0; i < MDM_ARRAY_LEN(minutes); i++) {
        /* It comes by itself, which changes the due time only: it has time
         * to answer. */
        assert_string_equal(idle(w), "A");
        assert_true(db_int(w, DUE) - mdm_wall_us(NULL) >=
                    REPEAT_US / 2 - 10 * MDM_SEC);
        assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
        assert_pause(w, minutes[i] * MINUTE_US);
    }
    assert_int_equal(db_int(w, "SELECT attempts FROM push"), 0);
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "A"), "");
    assert_int_equal(db_int(w, DUE), NONE);
}

/* The command that was put off least says when. */
static void test_put_off_several(void **state)
{
    world_t *w = begin(state, REPEAT_US);

    queue(w, "A", "D");
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
    assert_pause(w, 30 * MINUTE_US);
    queue(w, "B", "D");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "B");
    assert_pause(w, REPEAT_US);
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "B"), "");
    assert_pause(w, 15 * MINUTE_US);
    /* An unknown status counts as one. */
    assert_string_equal(report(w, MDM_REPORT_UNKNOWN, "B"), "");
    assert_pause(w, 30 * MINUTE_US);
}

static void test_off(void **state)
{
    world_t *w = begin(state, 0);
    flight_t f;

    queue(w, "A", "D");
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
    assert_int_equal(db_int(w, DUE), NO_ROW);
    f = send_push(w);
    f.finish.repeat_at_us = 0;
    assert_int_equal(delivered(w, &f), NONE);
}

/* ---- silence ------------------------------------------------------------- */

static void test_silent_after_push(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    flight_t f;

    f = send_push(w); /* of an operator, without a command */
    assert_int_equal(delivered(w, &f), NONE);
    queue(w, "A", "D");
    f = send_push(w);
    assert_true(delivered(w, &f) == f.finish.repeat_at_us);
    /* It goes out then, and so on. */
    f.now = f.finish.repeat_at_us;
    run(w, &f, do_claim);
    assert_int_equal(f.n, 1);
    f.finish.repeat_at_us = f.now + REPEAT_US;
    assert_true(delivered(w, &f) == f.finish.repeat_at_us);
    /* For one that was put off before it is the same. */
    db_run(w, "UPDATE queue SET state = 2, not_now_count = 1");
    f = send_push(w);
    assert_true(delivered(w, &f) == f.finish.repeat_at_us);
    /* The push was refused for good: it is not repeated. */
    f = send_push(w);
    f.finish.repeat_at_us = 0;
    assert_int_equal(delivered(w, &f), NONE);
}

/* What of the queue and of the enrolment decides, after a push. */
static void test_what_is_repeated(void **state)
{
    static const struct {
        const char *sql;
        const char *undo;
        bool repeated;
    } cases[] = {
        {"UPDATE queue SET sent_count = 5, state = 1",
         "UPDATE queue SET sent_count = 0, state = 0", true},
        {"UPDATE queue SET state = 7", "UPDATE queue SET state = 0", false},
        {"UPDATE queue SET expires = 1", "UPDATE queue SET expires = 0",
         false},
        {"UPDATE queue SET expires = 9000000000000000",
         "UPDATE queue SET expires = 0", true},
        {"UPDATE enrollment SET state = 2", "UPDATE enrollment SET state = 1",
         false},
        {"UPDATE enrollment SET token_state = 2",
         "UPDATE enrollment SET token_state = 1", false},
        {"UPDATE enrollment SET blocked_at = 5",
         "UPDATE enrollment SET blocked_at = 0", true},
        {"UPDATE enrollment SET blocked_at = 5, told_at = 6",
         "UPDATE enrollment SET blocked_at = 0, told_at = 0", false},
    };
    world_t *w = begin(state, REPEAT_US);
    flight_t f;
    size_t i;

    queue(w, "A", "D");
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        f = send_push(w);
        db_run(w, cases[i].sql);
        if (delivered(w, &f) !=
            (cases[i].repeated ? f.finish.repeat_at_us : NONE)) {
            fail_msg("%s", cases[i].sql);
        }
        db_run(w, cases[i].undo);
    }
    f = send_push(w);
    f.finish.verdict = MDM_PUSH_TOKEN_DEAD;
    f.finish.token_at = db_int(w, "SELECT token_at FROM enrollment");
    run(w, &f, do_finish);
    assert_int_equal(db_int(w, DUE), NONE);
}

static void test_times_in_the_queue(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    char sql[100];
    flight_t f;

    queue(w, "A", "D");
    f = send_push(w);
    /* It is over before the push would be repeated. */
    (void)snprintf(sql, sizeof(sql), "UPDATE queue SET expires = %lld",
                   (long long)(f.now + REPEAT_US / 2));
    db_run(w, sql);
    assert_int_equal(delivered(w, &f), NONE);
    /* Another one may be delivered before that. */
    queue(w, "B", "D");
    f = send_push(w);
    (void)snprintf(sql, sizeof(sql), "UPDATE queue SET not_before = %lld"
                                     " WHERE qid = 2",
                   (long long)(f.now + MINUTE_US));
    db_run(w, sql);
    assert_true(delivered(w, &f) == f.now + MINUTE_US);
}

static void not_before(world_t *w, const char *uuid, int64_t when)
{
    char sql[200];

    (void)snprintf(sql, sizeof(sql),
                   "UPDATE queue SET not_before = %lld WHERE cid ="
                   " (SELECT cid FROM command WHERE uuid = '%s')",
                   (long long)when, uuid);
    db_run(w, sql);
}

/* A command for later that came while the device could not be woken is known
 * with its new token; nothing goes out before that. */
static void test_later_without_token(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    int64_t when = mdm_wall_us(NULL) + 30 * MINUTE_US;

    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, "D", 'A'), MDM_OK);
    queue(w, "A", "D");
    not_before(w, "A", when);
    assert_int_equal(db_int(w, DUE), NO_ROW);
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_true(db_int(w, DUE) == when);
    assert_string_equal(idle(w), "");
    assert_true(db_int(w, DUE) == when);
    /* An Authenticate that goes on with the same life stops it, too. */
    db_run(w, "UPDATE identity SET renewal = 2");
    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_true(w->enrolled.renewed);
    assert_int_equal(db_int(w, DUE), NONE);
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_true(db_int(w, DUE) == when);
}

/* A push that is due in a month is no reason not to wake a device that took
 * another command and said nothing. */
static void test_due_far_ahead(void **state)
{
    world_t *w = begin(state, REPEAT_US);

    queue(w, "A", "D");
    queue(w, "B", "D");
    not_before(w, "A", mdm_wall_us(NULL) + 10 * REPEAT_US);
    assert_string_equal(idle(w), "B");
    assert_pause(w, REPEAT_US);
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "B"), "");
    assert_true(db_int(w, DUE) > mdm_wall_us(NULL) + 9 * REPEAT_US);
    queue(w, "C", "D");
    assert_string_equal(idle(w), "C");
    assert_pause(w, REPEAT_US);
}

/* A device that was given a profile of another topic is pushed under that. */
static void test_new_topic(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    mdm_checkin_t msg = {.type = MDM_CHECKIN_TOKEN_UPDATE,
                         .topic = MDM_STR(OTHER_TOPIC),
                         .token = MDM_STR("t"),
                         .push_magic = MDM_STR("m")};
    mdm_speaker_t s = speaker('A');

    queue(w, "A", "D");
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "A"), "");
    msg.channel = channel("D");
    assert_int_equal(mdm_enroll_apply(w->store, &msg, MDM_STR("raw"), &s,
                                      &w->enrolled, &w->err), MDM_OK);
    queue(w, "B", "D");
    assert_string_equal(idle(w), "B");
    assert_pause(w, REPEAT_US);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE topic = '" OTHER_TOPIC "'"), 1);
}

/* With a command in its hands a device has time to answer; a second one in
 * the same contact writes no new time. */
static void test_silent_with_a_command(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    int64_t due;

    queue(w, "A", "D");
    queue(w, "B", "D");
    assert_string_equal(idle(w), "A");
    assert_pause(w, REPEAT_US);
    due = db_int(w, DUE);
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_ERROR, "A"), "B");
    assert_true(db_int(w, DUE) == due);
    /* It comes back after most of the time has gone. */
    db_run(w, "UPDATE push SET due_at = due_at - 12000000000");
    assert_string_equal(idle(w), "B");
    assert_pause(w, REPEAT_US);
    assert_string_equal(report(w, MDM_REPORT_COMMAND_FORMAT_ERROR, "B"), "");
    assert_int_equal(db_int(w, DUE), NONE);
}

static void test_nobody_to_wake(void **state)
{
    world_t *w = begin(state, REPEAT_US);

    db_run(w, "UPDATE enrollment SET token_state = 2");
    queue(w, "A", "D");
    assert_string_equal(idle(w), "A");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
    assert_int_equal(db_int(w, DUE), NO_ROW);
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_string_equal(idle(w), "A");
    assert_pause(w, REPEAT_US);
    /* A life that ends takes its pushes along. */
    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_int_equal(db_int(w, DUE), NONE);
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'), MDM_OK);
    queue(w, "B", "D");
    assert_string_equal(idle(w), "B");
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "B"), "");
    assert_pause(w, 15 * MINUTE_US);
    assert_int_equal(checkin(w, MDM_CHECKIN_CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(db_int(w, DUE), NONE);
}

/* ---- an idle poll ------------------------------------------------------- */

static void test_idle_does_not_write(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    int64_t version = -1;
    int64_t due;
    flight_t f;

    queue(w, "A", "D");
    f = send_push(w);
    assert_string_equal(idle(w), "A"); /* while it is under way */
    assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
    db_run(w, "UPDATE queue SET expires = 1");
    assert_true(committed(w, &version));
    due = db_int(w, DUE);
    assert_string_equal(idle(w), "");
    assert_false(committed(w, &version));
    /* Its answer changes nothing of it, be it good or bad. */
    f.finish.verdict = MDM_PUSH_RETRY;
    f.finish.retry_at_us = f.now + MDM_SEC;
    run(w, &f, do_finish);
    assert_true(committed(w, &version));
    assert_true(db_int(w, DUE) == due);
    assert_string_equal(idle(w), "");
    assert_false(committed(w, &version));
    /* One that is due is cleared once. */
    db_run(w, "UPDATE push SET due_at = 5");
    assert_true(committed(w, &version));
    assert_string_equal(idle(w), "");
    assert_true(committed(w, &version));
    assert_int_equal(db_int(w, DUE), NONE);
    assert_string_equal(idle(w), "");
    assert_false(committed(w, &version));
}

/* ---- in flight ----------------------------------------------------------- */

static void test_comes_in_flight(void **state)
{
    static mdm_tx_fn *const ends[] = {do_finish, do_release, do_recover};
    world_t *w = begin(state, REPEAT_US);
    char id[MDM_UUID_SIZE];
    int64_t due;
    flight_t f;
    size_t i;

    queue(w, "A", "D");
    for (i = 0; i < MDM_ARRAY_LEN(ends); i++) {
        f = send_push(w);
        assert_string_equal(idle(w), "A");
        assert_string_equal(report(w, MDM_REPORT_NOT_NOW, "A"), "");
        due = db_int(w, DUE);
        run(w, &f, ends[i]);
        assert_true(db_int(w, DUE) == due);
        assert_int_equal(db_int(w, "SELECT claimed_by FROM push"), -1);
    }
    /* A new command meanwhile is pushed all the same, under a new id, and not
     * before the answer. */
    f = send_push(w);
    memcpy(id, f.ticket.apns_id, sizeof(id));
    assert_string_equal(idle(w), "A");
    run(w, &f, do_mark);
    assert_string_not_equal(f.ticket.apns_id, id);
    run(w, &f, do_claim);
    assert_int_equal(f.n, 0);
    assert_true(delivered(w, &f) == f.now);
    /* Should the answer be lost, it does not wait for hours. */
    f = send_push(w);
    assert_string_equal(idle(w), "A");
    run(w, &f, do_mark);
    assert_true(db_int(w, DUE) <= f.now + 900 * MDM_SEC);
}

static void test_ids(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    char id[MDM_UUID_SIZE];
    flight_t f;

    queue(w, "A", "D");
    f = send_push(w);
    memcpy(id, f.ticket.apns_id, sizeof(id));
    (void)delivered(w, &f);
    /* Asked for again: another push, not the one that was delivered. */
    run(w, &f, do_mark);
    assert_string_not_equal(f.ticket.apns_id, id);
    assert_true(db_int(w, DUE) == f.now);
    memcpy(id, f.ticket.apns_id, sizeof(id));
    run(w, &f, do_mark); /* not yet sent: the same */
    assert_string_equal(f.ticket.apns_id, id);
    run(w, &f, do_claim);
    run(w, &f, do_release); /* came back unsent */
    run(w, &f, do_mark);
    assert_string_equal(f.ticket.apns_id, id);
    assert_string_equal(idle(w), "A");
    run(w, &f, do_mark);
    assert_string_not_equal(f.ticket.apns_id, id);
}

static void test_settle(void **state)
{
    world_t *w = begin(state, REPEAT_US);
    flight_t f;

    queue(w, "A", "D");
    f = send_push(w);
    (void)delivered(w, &f);
    run(w, &f, do_settle); /* something is left */
    assert_true(db_int(w, DUE) == f.finish.repeat_at_us);
    db_run(w, "UPDATE queue SET state = 7");
    f = send_push(w);
    run(w, &f, do_settle);
    assert_int_equal(db_int(w, DUE), NONE);
    assert_int_equal(delivered(w, &f), NONE);
}

/* A user channel is pushed for itself. */
static void test_channels(void **state)
{
    world_t *w = begin(state, REPEAT_US);

    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, "D:U", 'A'),
                     MDM_OK);
    queue(w, "U1", "D:U");
    assert_int_equal(report_as(w, "D:U", 'A', MDM_REPORT_IDLE, NULL), MDM_OK);
    assert_true(w->taken.has_command);
    assert_int_equal(report_as(w, "D:U", 'A', MDM_REPORT_NOT_NOW, "U1"),
                     MDM_OK);
    assert_int_equal(db_int(w, DUE), NO_ROW);
    assert_true(db_int(w, "SELECT due_at FROM push WHERE eid = 2") >
                mdm_wall_us(NULL) + 14 * MINUTE_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_put_off),
        world_test(test_put_off_several),
        world_test(test_off),
        world_test(test_silent_after_push),
        world_test(test_what_is_repeated),
        world_test(test_times_in_the_queue),
        world_test(test_later_without_token),
        world_test(test_due_far_ahead),
        world_test(test_new_topic),
        world_test(test_silent_with_a_command),
        world_test(test_nobody_to_wake),
        world_test(test_idle_does_not_write),
        world_test(test_comes_in_flight),
        world_test(test_ids),
        world_test(test_settle),
        world_test(test_channels),
    };

    return cmocka_run_group_tests_name("wake", tests, NULL, NULL);
}
