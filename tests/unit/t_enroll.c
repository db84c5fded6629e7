/*
 * t_enroll.c - the life of an enrolment and the certificates that may speak
 * for it, on a store in a file.
 */
#include "t_store_world.h"

#define AUTHENTICATE MDM_CHECKIN_AUTHENTICATE
#define TOKEN_UPDATE MDM_CHECKIN_TOKEN_UPDATE
#define CHECK_OUT MDM_CHECKIN_CHECK_OUT

static int64_t state_of(const world_t *w, const char *id)
{
    char sql[200];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT state FROM enrollment WHERE id = '%s'", id);
    return db_int(w, sql);
}

static void test_life(void **state)
{
    world_t *w = *state;

    /* Nobody speaks before Authenticate. */
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_EDENIED);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_EDENIED);
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment"), 0);

    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_false(w->enrolled.topic_known);
    assert_int_equal(state_of(w, "D"), MDM_ENROLLMENT_AUTHENTICATING);
    assert_int_equal(db_int(w, "SELECT token_s FROM enrollment"), -1);
    assert_int_equal(enqueue(w, "early", "D", 5).push, MDM_TARGET_NO_TOKEN);

    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_int_equal(w->enrolled.tally, 1);
    assert_true(w->enrolled.push_due); /* a command waits since before */
    assert_int_equal(state_of(w, "D"), MDM_ENROLLMENT_ENROLLED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_int_equal(w->enrolled.tally, 2);
    assert_string_equal(idle(w), "early");

    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(state_of(w, "D"), MDM_ENROLLMENT_DISABLED);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_OK); /* again */
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_EDENIED);
    assert_int_equal(enqueue(w, "late", "D", 5).command, MDM_TARGET_DISABLED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 0);

    enroll(w, "D", 'A');
    assert_int_equal(w->enrolled.tally, 1);
    assert_false(w->enrolled.push_due);
    assert_string_equal(idle(w), ""); /* the old queue is gone */
}

static void test_user_channels(void **state)
{
    world_t *w = *state;

    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'A'), MDM_EDENIED);
    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'B'), MDM_EDENIED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'A'), MDM_OK);
    assert_int_equal(w->enrolled.tally, 1);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U2", 'A'), MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(DISTINCT device_eid)"
                               " FROM enrollment"), 1);
    /* Queues of their own. */
    (void)enqueue(w, "for-u1", "D:U1", 5);
    assert_string_equal(idle(w), "");
    assert_int_equal(report_as(w, "D:U2", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_OK);
    assert_false(w->taken.has_command);
    assert_int_equal(report_as(w, "D:U1", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_OK);
    assert_true(w->taken.has_command);

    /* The device's new life ends the users' until their TokenUpdate. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_int_equal(state_of(w, "D:U1"), MDM_ENROLLMENT_DISABLED);
    assert_int_equal(state_of(w, "D:U2"), MDM_ENROLLMENT_DISABLED);
    assert_int_equal(report_as(w, "D:U1", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state < 3"),
                     0);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'A'), MDM_OK);
    assert_int_equal(w->enrolled.tally, 1);
    assert_int_equal(report_as(w, "D:U1", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_OK);
    assert_false(w->taken.has_command);

    /* CheckOut of the device takes the users along. */
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(state_of(w, "D:U1"), MDM_ENROLLMENT_DISABLED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'A'), MDM_EDENIED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U3", 'A'), MDM_EDENIED);
}

static void test_new_life_forgets(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'A'), MDM_OK);
    (void)enqueue(w, "c1", "D", 5);
    (void)enqueue(w, "c2", "D:U1", 5);
    db_run(w, "UPDATE enrollment SET bootstrap_token_s = x'01'");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 2);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue WHERE state = 7"),
                     2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 0);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment WHERE"
                               " id = 'D' AND token_s IS NULL AND magic_s IS"
                               " NULL AND unlock_token_s IS NULL AND"
                               " bootstrap_token_s IS NULL AND tally = 0"),
                     1);
    /* The unlock token of the former life can still be looked up. */
    assert_int_equal(db_int(w, "SELECT former_unlock_token_s IS NOT NULL"
                               " FROM enrollment WHERE id = 'D'"), 1);
    /* The user's own tokens, too. */
    assert_int_equal(db_int(w, "SELECT token_s IS NULL AND magic_s IS NULL"
                               " FROM enrollment WHERE id = 'D:U1'"), 1);
}

static void test_foreign_certificates(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    enroll(w, "E", 'B');
    /* Another device's certificate is good for nothing, not even a new
     * life. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_EDENIED);
    assert_int_equal(checkin(w, AUTHENTICATE, "F", 'B'), MDM_EDENIED);
    assert_int_equal(state_of(w, "F"), -2); /* rolled back as a whole */
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'B'), MDM_EDENIED);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'B'), MDM_EDENIED);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'B'), MDM_EDENIED);
    assert_int_equal(state_of(w, "D:U1"), -2);
    /* An unknown one may only begin a life. */
    assert_int_equal(report_as(w, "D", 'C', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'C'), MDM_EDENIED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'C'), MDM_EDENIED);
    assert_int_equal(state_of(w, "D"), MDM_ENROLLMENT_ENROLLED);
    assert_string_equal(idle(w), "");
}

static void test_former_certificates(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    /* Until TokenUpdate the old one speaks too: a replaced profile may be
     * rolled back. */
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL), MDM_OK);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'B'), MDM_OK);
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_non_null(strstr(w->err.text, "former"));
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_EDENIED);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL), MDM_OK);

    /* Rolled back: the old one settles it. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'C'), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'B'), MDM_OK);
    assert_int_equal(report_as(w, "D", 'C', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL), MDM_OK);

    /* A user's TokenUpdate settles nothing. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'X'), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U1", 'X'), MDM_OK);
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_IDLE, NULL), MDM_OK);

    /* A former certificate never moves to another device. */
    assert_int_equal(checkin(w, AUTHENTICATE, "E", 'A'), MDM_EDENIED);
    /* Nor may it begin a new life of its own device: a key that leaked before
     * a renewal would take the enrolment over. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_EDENIED);
    enroll(w, "D", 'Y');
    assert_int_equal(report_as(w, "D", 'Y', MDM_REPORT_IDLE, NULL), MDM_OK);
    assert_int_equal(report_as(w, "D", 'X', MDM_REPORT_IDLE, NULL),
                     MDM_EDENIED);
}

static void test_other_messages(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, MDM_CHECKIN_GET_BOOTSTRAP_TOKEN, "D", 'A'),
                     MDM_EINVAL);
    assert_int_equal(state_of(w, "D"), MDM_ENROLLMENT_ENROLLED);
}

/* Whether there is a push certificate is asked without opening its key. */
static void test_topic_known(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_false(w->enrolled.topic_known);
    db_run(w, "INSERT INTO pushcert (topic, cert, key_s, fingerprint,"
              " not_before, not_after, version, stored_at) VALUES ('" TOPIC
              "', 'cert', x'02010203', 'f', 0, 0, 1, 0)");
    enroll(w, "D", 'A');
    assert_true(w->enrolled.topic_known);
}

typedef struct look {
    mdm_arena_t *arena;
    const char *id;
    mdm_enrollment_t row;
    mdm_enrollment_t rows[10];
    mdm_enrollment_filter_t filter;
    size_t n;
    int64_t next;
} look_t;

static mdm_rc get_one(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;

    return mdm_store_enrollment_get(tx, mdm_str_from(l->id), l->arena,
                                    &l->row, err);
}

static mdm_rc list_some(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;

    return mdm_store_enrollment_list(tx, &l->filter, l->arena, l->rows, &l->n,
                                     &l->next, err);
}

static void test_look(void **state)
{
    world_t *w = *state;
    look_t l = {.arena = w->arena, .id = "D"};
    size_t total = 0;

    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(mdm_store_read(w->store, get_one, &l, &w->err), MDM_OK);
    assert_true(mdm_str_is(l.row.serial_number, "SERIAL1"));
    assert_true(mdm_str_is(l.row.topic, TOPIC));
    assert_int_equal(l.row.commands[MDM_QUEUE_QUEUED], 1);
    assert_int_equal(l.row.tally, 1);
    assert_int_equal(strspn(l.row.identity_sha256, "41"), 64);
    assert_true(l.row.push_due_at > 0);
    l.id = "E";
    assert_int_equal(mdm_store_read(w->store, get_one, &l, &w->err),
                     MDM_ENOTFOUND);
    enroll(w, "E", 'B');
    enroll(w, "F", 'C');
    assert_int_equal(checkin(w, CHECK_OUT, "F", 'C'), MDM_OK);
    l.filter = (mdm_enrollment_filter_t){.limit = 2, .enabled = -1,
                                         .type = -1, .push = -1};
    do { /* pages without gaps and repetitions */
        assert_int_equal(mdm_store_read(w->store, list_some, &l, &w->err),
                         MDM_OK);
        total += l.n;
        assert_true(l.n <= 2);
        l.filter.after = l.next;
    } while (l.next != 0);
    assert_int_equal(total, 3);
    l.filter = (mdm_enrollment_filter_t){.limit = 10, .enabled = 0,
                                         .type = -1, .push = -1};
    assert_int_equal(mdm_store_read(w->store, list_some, &l, &w->err), MDM_OK);
    assert_int_equal(l.n, 1);
    assert_true(mdm_str_is(l.rows[0].id, "F"));
    l.filter = (mdm_enrollment_filter_t){.limit = 10, .enabled = -1,
                                         .type = -1, .push = -1,
                                         .text = MDM_STR("ANN'S")};
    assert_int_equal(mdm_store_read(w->store, list_some, &l, &w->err), MDM_OK);
    assert_int_equal(l.n, 3);
    l.filter.text = MDM_STR_NONE;
    l.filter.serial = MDM_STR("SERIAL2");
    assert_int_equal(mdm_store_read(w->store, list_some, &l, &w->err), MDM_OK);
    assert_int_equal(l.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_life),
        world_test(test_user_channels),
        world_test(test_new_life_forgets),
        world_test(test_foreign_certificates),
        world_test(test_former_certificates),
        world_test(test_other_messages),
        world_test(test_topic_known),
        world_test(test_look),
    };

    return cmocka_run_group_tests_name("enroll", tests, NULL, NULL);
}
