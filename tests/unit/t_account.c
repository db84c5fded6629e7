/*
 * t_account.c - tokens of log-ins and introductions in a store of the test's
 * own.  Devices are enrolled by the short forms of t_store_world.h.
 */
#include "t_store_world.h"

#include "mdm_account.h"

#define HOUR (3600 * MDM_SEC)
#define ANNA MDM_STR("anna@example.com")

static mdm_str_t issue(world_t *w, mdm_str_t account, int64_t life_us,
                       char token[MDM_ACCOUNT_TOKEN_SIZE])
{
    assert_int_equal(mdm_account_issue(w->store, MDM_TOKEN_KIND_ACCOUNT,
                                       account, life_us, token, &w->err),
                     MDM_OK);
    return mdm_str_from(token);
}

static mdm_rc check(world_t *w, mdm_str_t token, mdm_account_token_t *row)
{
    return mdm_account_check(w->store, MDM_TOKEN_KIND_ACCOUNT, token,
                             w->arena, row, &w->err);
}

static void test_issue(void **state)
{
    world_t *w = *state;
    char a[MDM_ACCOUNT_TOKEN_SIZE];
    char b[MDM_ACCOUNT_TOKEN_SIZE];
    mdm_account_token_t row;

    (void)issue(w, ANNA, HOUR, a);
    (void)issue(w, ANNA, HOUR, b);
    assert_int_equal(strlen(a), 64);
    assert_string_not_equal(a, b);
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_OK);
    assert_true(mdm_str_eq(row.account, ANNA));
    assert_int_equal(row.device_eid, 0);
    assert_true(row.expires_at > row.created_at);
    /* only its hash is in the file */
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM account_token"), 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM account_token"
                               " WHERE length(hash) = 32"), 2);
    a[5] = a[5] == '0' ? '1' : '0';
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_EUNAUTHORIZED);
    assert_int_equal(check(w, MDM_STR(""), &row), MDM_EUNAUTHORIZED);
    assert_int_equal(mdm_account_check(w->store, MDM_TOKEN_KIND_OTA,
                                       mdm_str_from(b), w->arena, &row,
                                       &w->err),
                     MDM_EUNAUTHORIZED);
}

static void test_end(void **state)
{
    world_t *w = *state;
    char a[MDM_ACCOUNT_TOKEN_SIZE];
    char b[MDM_ACCOUNT_TOKEN_SIZE];
    mdm_account_token_t row;

    (void)issue(w, ANNA, -1, a);
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_EUNAUTHORIZED);
    assert_non_null(strstr(w->err.text, "ended"));
    /* making another one tidies up */
    (void)issue(w, ANNA, HOUR, b);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM account_token"), 1);
    assert_int_equal(check(w, mdm_str_from(b), &row), MDM_OK);
    assert_int_equal(mdm_account_use_up(w->store, row.tid, &w->err), MDM_OK);
    assert_int_equal(check(w, mdm_str_from(b), &row), MDM_EUNAUTHORIZED);
}

static void test_revoke(void **state)
{
    world_t *w = *state;
    char tokens[3][MDM_ACCOUNT_TOKEN_SIZE];
    mdm_account_token_t row;
    int64_t n = 0;

    (void)issue(w, ANNA, HOUR, tokens[0]);
    (void)issue(w, ANNA, HOUR, tokens[1]);
    (void)issue(w, MDM_STR("bert@example.com"), HOUR, tokens[2]);
    assert_int_equal(check(w, mdm_str_from(tokens[0]), &row), MDM_OK);
    assert_int_equal(mdm_account_revoke(w->store, row.tid, MDM_STR_NONE, &n,
                                        &w->err),
                     MDM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(check(w, mdm_str_from(tokens[0]), &row),
                     MDM_EUNAUTHORIZED);
    assert_non_null(strstr(w->err.text, "revoked"));
    assert_int_equal(mdm_account_revoke(w->store, 0, ANNA, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(check(w, mdm_str_from(tokens[1]), &row),
                     MDM_EUNAUTHORIZED);
    assert_int_equal(check(w, mdm_str_from(tokens[2]), &row), MDM_OK);
    assert_int_equal(mdm_account_revoke(w->store, 999, MDM_STR_NONE, &n,
                                        &w->err),
                     MDM_OK);
    assert_int_equal(n, 0);
}

/* ---- with devices -------------------------------------------------------- */

static mdm_rc admit(world_t *w, mdm_str_t token, char cert,
                    int64_t *tid)
{
    mdm_speaker_t who = speaker(cert);

    return mdm_account_admit(w->store, token, who.identity.fingerprint,
                             w->arena, tid, &w->err);
}

/* A message with the token was accepted. */
static void use(world_t *w, mdm_str_t token, char cert, const char *id)
{
    int64_t tid = 0;
    char sql[160];

    assert_int_equal(admit(w, token, cert, &tid), MDM_OK);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT eid FROM enrollment WHERE id = '%s'", id);
    if (tid != 0) {
        assert_int_equal(mdm_account_bind(w->store, tid, db_int(w, sql), 0,
                                          &w->err),
                         MDM_OK);
    }
}

static void test_device(void **state)
{
    world_t *w = *state;
    char a[MDM_ACCOUNT_TOKEN_SIZE];
    char b[MDM_ACCOUNT_TOKEN_SIZE];
    char c[MDM_ACCOUNT_TOKEN_SIZE];
    mdm_account_token_t row;
    int64_t tid = 0;
    int64_t n;

    (void)issue(w, ANNA, HOUR, a);
    /* Authenticate: nobody's certificate yet */
    assert_int_equal(admit(w, mdm_str_from(a), '1', &tid), MDM_OK);
    assert_true(tid > 0);
    enroll(w, "DEVICE1", '1');
    enroll(w, "DEVICE2", '2');
    use(w, mdm_str_from(a), '1', "DEVICE1");
    /* it is this device's from now on, for good, and no other's */
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_OK);
    assert_true(mdm_str_is(row.device_id, "DEVICE1"));
    assert_true(row.used_at > 0);
    assert_true(row.expires_at == 0);
    assert_int_equal(admit(w, mdm_str_from(a), '1', &tid), MDM_OK);
    assert_int_equal(tid, 0);
    assert_int_equal(admit(w, mdm_str_from(a), '2', &tid),
                     MDM_EUNAUTHORIZED);
    assert_non_null(strstr(w->err.text, "another device"));
    /* who logs in again must be the same user */
    (void)issue(w, MDM_STR("bert@example.com"), HOUR, b);
    assert_int_equal(admit(w, mdm_str_from(b), '1', &tid),
                     MDM_EUNAUTHORIZED);
    assert_non_null(strstr(w->err.text, "another user"));
    (void)issue(w, ANNA, HOUR, c);
    use(w, mdm_str_from(c), '1', "DEVICE1");
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_EUNAUTHORIZED);
    assert_int_equal(admit(w, mdm_str_from(c), '1', &tid), MDM_OK);
    /* also after the last one was revoked */
    assert_int_equal(mdm_account_revoke(w->store, 0, ANNA, &n, &w->err),
                     MDM_OK);
    assert_int_equal(admit(w, mdm_str_from(c), '1', &tid),
                     MDM_EUNAUTHORIZED);
    assert_int_equal(admit(w, mdm_str_from(b), '1', &tid),
                     MDM_EUNAUTHORIZED);
}

/* Two devices with one token: the quicker one keeps it. */
static void test_twice(void **state)
{
    world_t *w = *state;
    char a[MDM_ACCOUNT_TOKEN_SIZE];
    mdm_account_token_t row;
    int64_t first = 0;
    int64_t second = 0;

    (void)issue(w, ANNA, HOUR, a);
    enroll(w, "DEVICE1", '1');
    enroll(w, "DEVICE2", '2');
    assert_int_equal(admit(w, mdm_str_from(a), '1', &first), MDM_OK);
    assert_int_equal(admit(w, mdm_str_from(a), '2', &second), MDM_OK);
    assert_int_equal(first, second);
    use(w, mdm_str_from(a), '2', "DEVICE2");
    assert_int_equal(mdm_account_bind(
                         w->store, first,
                         db_int(w, "SELECT eid FROM enrollment"
                                   " WHERE id = 'DEVICE1'"),
                         0, &w->err),
                     MDM_OK);
    assert_int_equal(check(w, mdm_str_from(a), &row), MDM_OK);
    assert_true(mdm_str_is(row.device_id, "DEVICE2"));
}

/* A blocked device is not asked to log in: it is to leave. */
static void test_blocked(void **state)
{
    world_t *w = *state;
    bool changed = false;
    int64_t tid = 0;

    enroll(w, "DEVICE1", '1');
    assert_int_equal(admit(w, MDM_STR("wrong"), '1', &tid),
                     MDM_EUNAUTHORIZED);
    assert_int_equal(mdm_enroll_block(w->store, MDM_STR("DEVICE1"), true,
                                      &changed, &w->err),
                     MDM_OK);
    assert_int_equal(admit(w, MDM_STR("wrong"), '1', &tid), MDM_OK);
    assert_int_equal(tid, 0);
}

/* ---- introductions ------------------------------------------------------- */

static void introduce(world_t *w, const char *serial, bool verified,
                      const char *answer)
{
    mdm_introduction_t row = {.verified = verified,
                              .flow = MDM_STR("device"),
                              .answer = mdm_str_from(answer),
                              .serial = mdm_str_from(serial)};

    assert_int_equal(mdm_account_introduce(w->store, &row, w->arena, &w->err),
                     MDM_OK);
}

static void test_introductions(void **state)
{
    world_t *w = *state;

    introduce(w, "A", true, "profile");
    introduce(w, "A", true, "software update required");
    introduce(w, "A", false, "profile");
    introduce(w, "B", true, "profile");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"), 3);
    assert_int_equal(db_int(w, "SELECT count FROM introduction"
                               " WHERE serial = 'A' AND verified = 1"),
                     2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"
                               " WHERE answer = 'software update required'"),
                     1);
    /* what is old goes with the next one */
    db_run(w, "UPDATE introduction SET last_at = 1 WHERE serial = 'A'");
    introduce(w, "B", true, "profile");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"), 1);
}

/* Anybody may claim: what is kept of that has an end. */
static void test_crowd(void **state)
{
    world_t *w = *state;

    introduce(w, "A", true, "profile");
    db_run(w, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
              " WHERE i < 10050) INSERT INTO introduction (name, verified,"
              " flow, answer, first_at, last_at) SELECT 'claim' || i, 0, '',"
              " '', i, 1000000000000000 * 2 + i FROM n");
    introduce(w, "B", false, "profile");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"
                               " WHERE verified = 0 AND name <> 'x'"),
                     MDM_CLAIMS_MAX + 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"
                               " WHERE verified = 1"),
                     1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM introduction"
                               " WHERE name = 'claim1'"),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_issue),   world_test(test_end),
        world_test(test_revoke),  world_test(test_device),
        world_test(test_twice),   world_test(test_blocked),
        world_test(test_introductions), world_test(test_crowd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
