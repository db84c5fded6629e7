/*
 * t_outbox.c - pushes that are due, claimed and answered, the push
 * certificates they go out with, and the lease of the process that sends
 * them.  Times are made up: the store takes the time as an argument.
 */
#include "t_store_world.h"

#include "mdm_lease.h"
#include "mdm_log.h"
#include "mdm_pushcert.h"
#include "mdm_time.h"

#define CLAIMS 32
#define IN_FLIGHT_US (60 * MDM_SEC)

/* One call of the outbox with everything it may need. */
typedef struct box {
    world_t *w;
    const char *holder;
    int64_t now;
    mdm_claim_t claims[CLAIMS];
    size_t limit;
    size_t n;
    mdm_push_finish_t finish;
    int64_t due;
    mdm_str_t topic;
    mdm_push_ticket_t ticket;
} box_t;

static mdm_rc do_claim(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_claim(tx, b->topic, mdm_str_from(b->holder), b->now,
                                b->now + IN_FLIGHT_US, b->limit, b->w->arena,
                                b->claims, &b->n, err);
}

static mdm_rc do_finish(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_finish(tx, &b->finish, mdm_str_from(b->holder),
                                 b->now, err);
}

static mdm_rc do_release(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_release(tx, mdm_str_from(b->holder), b->now, err);
}

static mdm_rc do_recover(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_recover(tx, mdm_str_from(b->holder), b->now, err);
}

static mdm_rc do_mark(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_mark(tx, 1, b->topic, b->now, &b->ticket, err);
}

static mdm_rc do_clear(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_clear(tx, 1, b->now, err);
}

static mdm_rc do_due(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_next_due(tx, b->topic, &b->due, err);
}

static void run(box_t *b, mdm_tx_fn *fn)
{
    mdm_err_clear(&b->w->err);
    if (mdm_store_write(b->w->store, fn, b, &b->w->err) != MDM_OK) {
        fail_msg("%s", b->w->err.text);
    }
}

static size_t claim(box_t *b)
{
    run(b, do_claim);
    return b->n;
}

static int64_t due(box_t *b)
{
    run(b, do_due);
    return b->due;
}

static void finish(box_t *b, mdm_push_verdict_t verdict, int64_t retry_at)
{
    b->finish = (mdm_push_finish_t){.eid = 1,
                                    .verdict = verdict,
                                    .status = 200,
                                    .reason = MDM_STR("Why"),
                                    .retry_at_us = retry_at,
                                    .token_at = b->claims[0].token_at};
    run(b, do_finish);
}

/* A device "D" (eid 1) with a push that is due. */
static box_t begin(world_t *w)
{
    box_t b = {.w = w, .holder = "h1", .limit = CLAIMS,
               .topic = MDM_STR(TOPIC)};

    enroll(w, "D", 'A');
    b.now = mdm_wall_us(NULL) + MDM_SEC;
    run(&b, do_mark);
    return b;
}

static void test_coalesced(void **state)
{
    world_t *w = *state;
    char uuid[8];
    char first[MDM_UUID_SIZE] = "";
    mdm_target_result_t t;
    int i;

    enroll(w, "D", 'A');
    for (i = 0; i < 10; i++) {
        (void)snprintf(uuid, sizeof(uuid), "c%d", i);
        t = enqueue(w, uuid, "D", 5);
        assert_true(t.pushed);
        if (i == 0) {
            memcpy(first, t.ticket.apns_id, sizeof(first));
        }
        assert_string_equal(t.ticket.apns_id, first);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"), 1);
    /* The device comes by itself: nothing need be sent. */
    assert_string_equal(idle(w), "c0");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 0);
    t = enqueue(w, "c10", "D", 5);
    assert_string_not_equal(t.ticket.apns_id, first);
}

static void test_claim_finish(void **state)
{
    box_t b = begin(*state);
    int64_t start = b.now;

    b.topic = MDM_STR(OTHER_TOPIC);
    assert_int_equal(claim(&b), 0);
    assert_true(due(&b) == INT64_MAX);
    b.topic = MDM_STR(TOPIC);
    assert_true(due(&b) == start);
    b.now = start - 1;
    assert_int_equal(claim(&b), 0); /* not yet */
    b.now = start;
    b.limit = 0;
    assert_int_equal(claim(&b), 0);
    b.limit = CLAIMS;
    assert_int_equal(claim(&b), 1);
    assert_true(b.claims[0].pushable);
    assert_true(mdm_str_is(b.claims[0].token, "token-of-the-device"));
    assert_true(mdm_str_is(b.claims[0].magic, "magic-of-the-device"));
    assert_true(mdm_str_is(b.claims[0].id, "D"));
    assert_string_equal(b.claims[0].apns_id, b.ticket.apns_id);
    assert_int_equal(claim(&b), 0); /* in flight */
    assert_true(due(&b) == start + IN_FLIGHT_US);

    /* Another holder's word counts for nothing. */
    b.holder = "h2";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == start + IN_FLIGHT_US);
    b.holder = "h1";
    finish(&b, MDM_PUSH_RETRY, start + 5);
    assert_true(due(&b) == start + 5);
    assert_int_equal(claim(&b), 0);
    b.now = start + 5;
    assert_int_equal(claim(&b), 1);
    assert_int_equal(b.claims[0].attempts, 1);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == INT64_MAX);
    assert_int_equal(db_int(b.w, "SELECT attempts FROM push"), 0);
    assert_int_equal(db_int(b.w, "SELECT last_status FROM push"), 200);
}

static void test_marked_in_flight(void **state)
{
    box_t b = begin(*state);
    char first[MDM_UUID_SIZE];

    memcpy(first, b.ticket.apns_id, sizeof(first));
    assert_int_equal(claim(&b), 1);
    b.now += MDM_SEC;
    run(&b, do_mark); /* a new command while the push is under way */
    assert_string_not_equal(b.ticket.apns_id, first);
    assert_int_equal(claim(&b), 0);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == b.now); /* at once again */
    assert_int_equal(claim(&b), 1);
    assert_string_equal(b.claims[0].apns_id, b.ticket.apns_id);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == INT64_MAX);

    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    run(&b, do_mark);
    finish(&b, MDM_PUSH_RETRY, b.now + 3600 * MDM_SEC);
    /* A new reason does not shorten the pause that APNs asked for ... */
    assert_true(due(&b) == b.now + 3600 * MDM_SEC);
    run(&b, do_mark);
    assert_true(due(&b) == b.now + 3600 * MDM_SEC);
    /* ... but the device's coming ends it. */
    run(&b, do_clear);
    run(&b, do_mark);
    assert_true(due(&b) == b.now);
}

/* The device comes while its push is under way; then there is a new command
 * before the push is answered.  It must get a push of its own. */
static void test_cleared_in_flight(void **state)
{
    static const mdm_push_verdict_t verdicts[] = {MDM_PUSH_DONE,
                                                  MDM_PUSH_RETRY};
    box_t b = begin(*state);
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(verdicts); i++) {
        assert_int_equal(claim(&b), 1);
        run(&b, do_clear);
        finish(&b, verdicts[i], b.now + MDM_SEC);
        assert_true(due(&b) == INT64_MAX);
        run(&b, do_mark);
        assert_int_equal(claim(&b), 1);
        run(&b, do_clear);
        run(&b, do_mark);
        assert_int_equal(claim(&b), 0); /* not twice at a time */
        finish(&b, verdicts[i], b.now + MDM_SEC);
        /* A pause that APNs asked for is kept. */
        assert_true(due(&b) == (verdicts[i] == MDM_PUSH_RETRY
                                    ? b.now + MDM_SEC
                                    : b.now));
        b.now += 2 * MDM_SEC;
    }
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_mark);
    run(&b, do_release);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_mark);
    b.holder = "h2";
    run(&b, do_recover);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_release);
    assert_true(due(&b) == INT64_MAX);
}

static void test_release_recover(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    b.now += 7;
    b.holder = "h2";
    run(&b, do_release); /* not ours */
    assert_int_equal(claim(&b), 0);
    b.holder = "h1";
    run(&b, do_recover); /* takes back the others' only */
    assert_int_equal(claim(&b), 0);
    run(&b, do_release);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    b.holder = "h2";
    b.now += 7;
    run(&b, do_recover); /* a new leader */
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    /* The old one's late answer changes nothing. */
    b.holder = "h1";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == b.now + IN_FLIGHT_US);
    /* A claim that nobody finishes runs out. */
    b.now += IN_FLIGHT_US;
    assert_int_equal(claim(&b), 1);
}

static void test_token_dead(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    /* The device brings a token in between: that one is not dead. */
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    finish(&b, MDM_PUSH_TOKEN_DEAD, 0);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_GOOD);
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_DEAD, 0);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_DEAD);
    assert_true(due(&b) == INT64_MAX);
    assert_int_equal(enqueue(b.w, "c", "D", 5).push, MDM_TARGET_NO_TOKEN);
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    assert_false(b.claims[0].pushable);
    finish(&b, MDM_PUSH_DONE, 0);
    /* A new token, and the command that waits is pushed. */
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    assert_true(b.w->enrolled.push_due);
    assert_int_equal(claim(&b), 1);
    assert_true(b.claims[0].pushable);
}

/* A token that does not open is one push that cannot be sent, not all of
 * them. */
static void test_damaged_token(void **state)
{
    box_t b = begin(*state);

    enroll(b.w, "E", 'B');
    (void)enqueue(b.w, "c", "E", 5);
    db_run(b.w, "UPDATE enrollment SET token_s = x'02010203' WHERE eid = 1");
    assert_int_equal(claim(&b), 2);
    assert_int_equal(b.claims[0].pushable + b.claims[1].pushable, 1);
    assert_true(b.claims[b.claims[1].pushable ? 1 : 0].eid == 2);
}

/* ---- push certificates --------------------------------------------------- */

static mdm_keypair_t keypair(const char *topic, char mark, int64_t from_day)
{
    mdm_keypair_t pair = {.cert_pem = MDM_STR("cert"),
                          .key_pem = MDM_STR("private key")};

    pair.topic = mdm_str_from(topic);
    memset(pair.fingerprint, mark, sizeof(pair.fingerprint) - 1);
    pair.not_before_us = mdm_wall_us(NULL) + from_day * 86400 * MDM_SEC;
    pair.not_after_us = pair.not_before_us + 365 * 86400 * MDM_SEC;
    return pair;
}

typedef struct cert_look {
    mdm_arena_t *arena;
    mdm_pushcert_row_t row;
    int64_t version;
    bool changed;
} cert_look_t;

static mdm_rc get_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    return mdm_store_pushcert_get(tx, MDM_STR(TOPIC), l->arena, &l->row, err);
}

static mdm_rc suspend_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    return mdm_store_pushcert_suspend(tx, MDM_STR(TOPIC), l->version,
                                      MDM_STR("BadCertificate"), &l->changed,
                                      err);
}

static mdm_rc import(world_t *w, mdm_keypair_t pair,
                     mdm_pushcert_import_t how, bool *stored)
{
    return mdm_pushcert_import(w->store, &pair, &how, stored, &w->err);
}

/* Nor is a certificate whose key is damaged there for good. */
static void test_damaged_key(void **state)
{
    const mdm_pushcert_import_t api = {MDM_PUSHCERT_API, false, false};
    world_t *w = *state;
    bool stored;

    assert_int_equal(import(w, keypair(TOPIC, 'a', -10), api, &stored),
                     MDM_OK);
    db_run(w, "UPDATE pushcert SET key_s = x'02010203'");
    assert_int_equal(import(w, keypair(TOPIC, 'a', -10), api, &stored),
                     MDM_OK);
    assert_true(stored);
    assert_int_equal(import(w, keypair(TOPIC, 'a', -10), api, &stored),
                     MDM_OK);
    assert_false(stored);
}

/* The same from a file, while another process writes. */
static mdm_rc import_locked(world_t *w, mdm_keypair_t pair, bool *stored)
{
    const mdm_pushcert_import_t file = {MDM_PUSHCERT_FILE, false, false};
    sqlite3 *db = db_open(w);
    mdm_rc rc;

    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    rc = import(w, pair, file, stored);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    return rc;
}

static void test_pushcert(void **state)
{
    const mdm_pushcert_import_t api = {MDM_PUSHCERT_API, false, false};
    const mdm_pushcert_import_t file = {MDM_PUSHCERT_FILE, false, false};
    const mdm_pushcert_import_t force = {MDM_PUSHCERT_API, true, false};
    world_t *w = *state;
    cert_look_t l = {.arena = w->arena};
    bool stored;

    assert_int_equal(import(w, keypair(TOPIC, 'a', 10), api, &stored),
                     MDM_EINVAL); /* not yet valid */
    assert_int_equal(import(w, keypair(TOPIC, 'a', -400), force, &stored),
                     MDM_EINVAL); /* over */
    assert_false(stored);
    assert_int_equal(import(w, keypair(TOPIC, 'a', -400), file, &stored),
                     MDM_OK); /* a site must come up */
    assert_true(stored);
    assert_int_equal(import(w, keypair(TOPIC, 'b', -10), api, &stored),
                     MDM_OK);
    assert_int_equal(import(w, keypair(TOPIC, 'b', -10), api, &stored),
                     MDM_OK);
    assert_false(stored); /* the very same */
    assert_int_equal(import_locked(w, keypair(TOPIC, 'b', -10), &stored),
                     MDM_OK);
    assert_false(stored); /* nobody's way is stood in for that */
    assert_int_equal(import_locked(w, keypair(TOPIC, 'c', -20), &stored),
                     MDM_ECONFLICT);
    assert_int_equal(import(w, keypair(TOPIC, 'c', -20), api, &stored),
                     MDM_ECONFLICT); /* older */
    assert_int_equal(w->err.id, MDM_MSG_PUSH_CERTIFICATE_REFUSED);
    assert_int_equal(import(w, keypair(TOPIC, 'c', -20), force, &stored),
                     MDM_OK);
    assert_true(stored);
    assert_int_equal(mdm_store_read(w->store, get_cert, &l, &w->err), MDM_OK);
    assert_int_equal(l.row.version, 3);
    assert_true(mdm_str_is(l.row.key_pem, "private key"));
    assert_int_equal(l.row.fingerprint.s[0], 'c');

    l.version = 2; /* the refused one is no longer in use */
    assert_int_equal(mdm_store_write(w->store, suspend_cert, &l, &w->err),
                     MDM_OK);
    assert_false(l.changed);
    l.version = 3;
    assert_int_equal(mdm_store_write(w->store, suspend_cert, &l, &w->err),
                     MDM_OK);
    assert_true(l.changed);
    assert_int_equal(mdm_store_read(w->store, get_cert, &l, &w->err), MDM_OK);
    assert_true(mdm_str_is(l.row.suspended, "BadCertificate"));
    /* Imported again, the same one is given another try. */
    assert_int_equal(import(w, keypair(TOPIC, 'c', -20), force, &stored),
                     MDM_OK);
    assert_true(stored);
    assert_int_equal(mdm_store_read(w->store, get_cert, &l, &w->err), MDM_OK);
    assert_null(l.row.suspended.s);
}

static void test_topic_conflict(void **state)
{
    const mdm_pushcert_import_t api = {MDM_PUSHCERT_API, false, false};
    const mdm_pushcert_import_t force = {MDM_PUSHCERT_API, true, false};
    const mdm_pushcert_import_t change = {MDM_PUSHCERT_FILE, false, true};
    world_t *w = *state;
    bool stored;

    enroll(w, "D", 'A'); /* uses TOPIC */
    assert_int_equal(import(w, keypair(OTHER_TOPIC, 'x', -1), api, &stored),
                     MDM_ECONFLICT);
    assert_non_null(strstr(w->err.text, TOPIC));
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM pushcert"), 0);
    assert_int_equal(import(w, keypair(TOPIC, 'a', -1), api, &stored),
                     MDM_OK);
    assert_int_equal(import(w, keypair(OTHER_TOPIC, 'x', -1), api, &stored),
                     MDM_ECONFLICT);
    assert_int_equal(import(w, keypair(OTHER_TOPIC, 'x', -1), force, &stored),
                     MDM_OK);
    db_run(w, "DELETE FROM pushcert");
    assert_int_equal(import(w, keypair(OTHER_TOPIC, 'x', -1), change,
                            &stored),
                     MDM_OK);
    db_run(w, "DELETE FROM pushcert");
    assert_int_equal(checkin(w, MDM_CHECKIN_CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(import(w, keypair(OTHER_TOPIC, 'x', -1), api, &stored),
                     MDM_OK); /* nobody is left who would be silenced */
}

static void test_describe_end(void **state)
{
    const int64_t day = 86400 * MDM_SEC;
    char text[64];

    (void)state;
    assert_string_equal(mdm_pushcert_describe_end(12 * day + 5, 0, text,
                                                  sizeof(text)),
                        "expires in 12 days");
    assert_string_equal(mdm_pushcert_describe_end(0, 3 * day, text,
                                                  sizeof(text)),
                        "expired 3 days ago");
}

/* ---- lease --------------------------------------------------------------- */

static void step(world_t *w, mdm_lease_t *lease)
{
    lease->next_us = 0; /* whatever it planned */
    assert_int_equal(mdm_lease_step(lease, &w->err), MDM_OK);
}

static void test_lease(void **state)
{
    world_t *w = *state;
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    mdm_lease_t a = {.store = w->store, .name = "push", .holder = "a",
                     .life_us = 30 * MDM_SEC};
    mdm_lease_t b = {.store = other, .name = "push", .holder = "b",
                     .life_us = 30 * MDM_SEC};
    mdm_lease_t c = {.store = other, .name = "else", .holder = "c",
                     .life_us = 30 * MDM_SEC};
    int64_t now;
    char sql[100];

    step(w, &a);
    assert_true(a.held);
    now = mdm_mono_us(NULL);
    assert_true(a.next_us <= now + a.life_us / 3);
    step(w, &b);
    assert_false(b.held);
    assert_true(b.next_us > now && b.next_us <= now + b.life_us);
    step(w, &c); /* another name is another lease */
    assert_true(c.held);
    step(w, &a);
    assert_true(a.held);
    /* Given up: the other takes it at once. */
    mdm_lease_drop(&a);
    assert_false(a.held);
    step(w, &b);
    assert_true(b.held);
    step(w, &a);
    assert_false(a.held);
    mdm_lease_drop(&a); /* not ours: nothing happens */
    step(w, &a);
    assert_false(a.held);
    /* Run out: the other takes it, and the former holder learns so. */
    db_run(w, "UPDATE lease SET expires = 1 WHERE name = 'push'");
    step(w, &a);
    assert_true(a.held);
    step(w, &b);
    assert_false(b.held);
    /* An end far ahead was written under another clock. */
    (void)snprintf(sql, sizeof(sql), "UPDATE lease SET expires = %lld",
                   (long long)(mdm_wall_us(NULL) + 3600 * MDM_SEC));
    db_run(w, sql);
    step(w, &b);
    assert_true(b.held);
    mdm_store_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_coalesced),
        world_test(test_claim_finish),
        world_test(test_marked_in_flight),
        world_test(test_cleared_in_flight),
        world_test(test_release_recover),
        world_test(test_token_dead),
        world_test(test_damaged_token),
        world_test(test_damaged_key),
        world_test(test_pushcert),
        world_test(test_topic_conflict),
        cmocka_unit_test(test_describe_end),
        world_test(test_lease),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
