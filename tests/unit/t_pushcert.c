/*
 * t_pushcert.c - push certificates in the store: which is taken, how one is
 * suspended, resumed and found good.  Times are made up where they matter.
 */
#include "t_store_world.h"

#include "mdm_log.h"
#include "mdm_push.h"
#include "mdm_pushcert.h"
#include "mdm_store_event.h"
#include "mdm_time.h"

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
    const char *reason;
    int64_t now;
} cert_look_t;

static mdm_rc get_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    return mdm_store_pushcert_get(tx, MDM_STR(TOPIC), l->arena, &l->row, err);
}

static mdm_rc suspend_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    mdm_pushcert_row_t row = {.topic = MDM_STR(TOPIC),
                              .version = l->version,
                              .suspended = mdm_str_from(l->reason),
                              .suspended_at = 77};

    return mdm_store_pushcert_suspend(tx, &row, &l->changed, err);
}

static mdm_rc resume_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    return mdm_store_pushcert_resume(tx, MDM_STR(TOPIC), &l->changed, err);
}

static mdm_rc accept_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    cert_look_t *l = arg;

    return mdm_store_pushcert_accepted(tx, MDM_STR(TOPIC), l->version,
                                       MDM_STR(MDM_PUSH_FOREIGN_REASON),
                                       l->now, err);
}

static mdm_rc import(world_t *w, mdm_keypair_t pair,
                     mdm_pushcert_import_t how, bool *stored)
{
    return mdm_pushcert_import(w->store, &pair, &how, stored, &w->err);
}

typedef struct feed_look {
    mdm_arena_t *arena;
    mdm_event_row_t rows[10];
    size_t n;
} feed_look_t;

static mdm_rc list_events(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    feed_look_t *f = arg;

    return mdm_store_event_list(tx, 0, f->arena, f->rows,
                                MDM_ARRAY_LEN(f->rows), &f->n, err);
}

/* A certificate whose key is damaged is not there for good. */
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
    cert_look_t l = {.arena = w->arena, .reason = "BadCertificate"};
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

static void write_cert(world_t *w, cert_look_t *l, mdm_tx_fn *fn)
{
    assert_int_equal(mdm_store_write(w->store, fn, l, &w->err), MDM_OK);
    assert_int_equal(mdm_store_read(w->store, get_cert, l, &w->err), MDM_OK);
}

/* What is known of a certificate, and how a suspension ends. */
static void test_trust(void **state)
{
    const mdm_pushcert_import_t api = {MDM_PUSHCERT_API, false, false};
    world_t *w = *state;
    cert_look_t l = {.arena = w->arena, .version = 1, .now = 5,
                     .reason = MDM_PUSH_FOREIGN_REASON};
    bool stored;

    assert_int_equal(import(w, keypair(TOPIC, 'a', -20), api, &stored),
                     MDM_OK);
    write_cert(w, &l, suspend_cert);
    assert_true(l.changed && l.row.suspended_at == 77 && !l.row.trusted);
    /* An operator says that it is good. */
    write_cert(w, &l, resume_cert);
    assert_true(l.changed && l.row.suspended.s == NULL && l.row.trusted);
    assert_int_equal(l.row.suspended_at, 0);
    assert_int_equal(l.row.accepted_at, 0);
    write_cert(w, &l, resume_cert);
    assert_false(l.changed);
    /* APNs says so; the first time stays. */
    write_cert(w, &l, accept_cert);
    assert_int_equal(l.row.accepted_at, 5);
    l.now = 6;
    write_cert(w, &l, accept_cert);
    assert_int_equal(l.row.accepted_at, 5);
    /* That is stronger than tokens, not than a refused certificate. */
    write_cert(w, &l, suspend_cert);
    write_cert(w, &l, accept_cert);
    assert_true(l.row.suspended.s == NULL && l.row.accepted_at == 5);
    l.reason = "BadCertificate";
    write_cert(w, &l, suspend_cert);
    write_cert(w, &l, accept_cert);
    assert_true(mdm_str_is(l.row.suspended, "BadCertificate"));
    assert_int_equal(l.row.suspended_at, 77);
    /* The same one again is as good as before, another one is not. */
    assert_int_equal(import(w, keypair(TOPIC, 'a', -20), api, &stored),
                     MDM_OK);
    write_cert(w, &l, resume_cert);
    assert_false(l.changed);
    assert_true(l.row.trusted && l.row.accepted_at == 5);
    assert_int_equal(import(w, keypair(TOPIC, 'b', -10), api, &stored),
                     MDM_OK);
    l.version = 1; /* an answer under the former one */
    write_cert(w, &l, accept_cert);
    assert_true(!l.row.trusted && l.row.accepted_at == 0);
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

/* More topics than are pushed to are refused, whoever insists: the dispatcher
 * would not know of the last ones. */
static void test_too_many_topics(void **state)
{
    const mdm_pushcert_import_t force = {MDM_PUSHCERT_API, true, false};
    world_t *w = *state;
    char topic[80];
    bool stored;
    int i;

    for (i = 0; i < MDM_PUSH_TOPICS_MAX; i++) {
        (void)snprintf(topic, sizeof(topic), "com.apple.mgmt.External.%d", i);
        assert_int_equal(import(w, keypair(topic, 'a', -2), force, &stored),
                         MDM_OK);
    }
    assert_int_equal(import(w, keypair("com.apple.mgmt.External.more", 'b',
                                       -1), force, &stored), MDM_ECONFLICT);
    assert_non_null(strstr(w->err.text, "64 topics"));
    /* Renewing goes on. */
    assert_int_equal(import(w, keypair(topic, 'b', -1), force, &stored),
                     MDM_OK);
    assert_true(stored);
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

/* What is stored is an event, in the same transaction; what is refused or
 * changes nothing is none. */
static void test_event(void **state)
{
    const mdm_pushcert_import_t api = {MDM_PUSHCERT_API, false, false};
    const mdm_pushcert_import_t file = {MDM_PUSHCERT_FILE, false, false};
    world_t *w = *state;
    feed_look_t f = {.arena = w->arena};
    bool stored;

    assert_int_equal(import(w, keypair(TOPIC, 'a', -20), file, &stored),
                     MDM_OK);
    assert_int_equal(import(w, keypair(TOPIC, 'a', -20), api, &stored),
                     MDM_OK);
    assert_int_equal(import(w, keypair(TOPIC, 'b', -10), api, &stored),
                     MDM_OK);
    assert_int_equal(import(w, keypair(TOPIC, 'c', -30), api, &stored),
                     MDM_ECONFLICT);
    assert_int_equal(mdm_store_read(w->store, list_events, &f, &w->err),
                     MDM_OK);
    assert_int_equal(f.n, 2);
    assert_true(mdm_str_is(f.rows[0].event.topic,
                           "server.PushCertificateStored"));
    assert_non_null(strstr(f.rows[0].event.body.s, "\"source\":\"file\""));
    assert_non_null(strstr(f.rows[0].event.body.s, "\"replaces\":null"));
    assert_non_null(strstr(f.rows[1].event.body.s, "\"source\":\"import\""));
    assert_non_null(strstr(f.rows[1].event.body.s, "\"replaces\":\"aaaa"));
    assert_non_null(strstr(f.rows[1].event.body.s, "\"sha256\":\"bbbb"));
    assert_non_null(strstr(f.rows[1].event.body.s, TOPIC));
    assert_null(strstr(f.rows[1].event.body.s, "private key"));
}

typedef struct users_look {
    int64_t max;
    int64_t n;
} users_look_t;

static mdm_rc count_users(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    users_look_t *l = arg;

    return mdm_store_topic_users(tx, MDM_STR(TOPIC), l->max, &l->n, err);
}

static void test_users(void **state)
{
    world_t *w = *state;
    users_look_t l = {.max = 2};

    assert_int_equal(mdm_store_read(w->store, count_users, &l, &w->err),
                     MDM_OK);
    assert_int_equal(l.n, 0);
    enroll(w, "A", 'A');
    assert_int_equal(mdm_store_read(w->store, count_users, &l, &w->err),
                     MDM_OK);
    assert_int_equal(l.n, 1);
    enroll(w, "B", 'B');
    enroll(w, "C", 'C');
    assert_int_equal(mdm_store_read(w->store, count_users, &l, &w->err),
                     MDM_OK);
    assert_int_equal(l.n, 2); /* no further than asked */
    l.max = 10;
    db_run(w, "UPDATE enrollment SET state = 2 WHERE id = 'C'");
    assert_int_equal(mdm_store_read(w->store, count_users, &l, &w->err),
                     MDM_OK);
    assert_int_equal(l.n, 2); /* who has left does not count */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_damaged_key),
        world_test(test_pushcert),
        world_test(test_trust),
        world_test(test_topic_conflict),
        world_test(test_too_many_topics),
        world_test(test_event),
        world_test(test_users),
        cmocka_unit_test(test_describe_end),
    };

    return cmocka_run_group_tests_name("pushcert", tests, NULL, NULL);
}
