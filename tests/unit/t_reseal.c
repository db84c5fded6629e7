/*
 * t_reseal.c - the secret key of a store is replaced: everything is sealed
 * anew, in slices, whoever writes or dies meanwhile, and processes that do
 * not know the new key keep their hands off.
 */
#include "t_reseal_world.h"

/* ---- the list of columns ------------------------------------------------- */

static void test_every_column(void **state)
{
    world_t *w = *state;
    const mdm_sealed_t *columns;
    sqlite3_stmt *st;
    sqlite3 *db;
    size_t found = 0;
    size_t n;
    size_t i;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    columns = mdm_sealed_columns(&n);
    db = db_open(w);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "SELECT m.name, c.name, c.type FROM sqlite_master m"
                           " JOIN pragma_table_info(m.name) c"
                           " WHERE m.type = 'table'"
                           " AND c.name LIKE '%\\_s' ESCAPE '\\'",
                           -1, &st, NULL),
        SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *table = (const char *)sqlite3_column_text(st, 0);
        const char *column = (const char *)sqlite3_column_text(st, 1);

        assert_string_equal(sqlite3_column_text(st, 2), "BLOB");
        for (i = 0; i < n && (strcmp(columns[i].table, table) != 0 ||
                              strcmp(columns[i].column, column) != 0);
             i++) {
        }
        if (i == n) {
            fail_msg("%s.%s is not in mdm_sealed.def", table, column);
        }
        found++;
    }
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    assert_int_equal(found, n);
    assert_true(n >= 10);
}

/* ---- a rotation ---------------------------------------------------------- */

static void test_rotation(void **state)
{
    world_t *w = *state;
    mdm_store_status_t s;
    int64_t all;

    fill(w);
    all = count_all(w, NULL);
    assert_int_equal(count_all(w, OLD_MARK), all);
    s = status(w);
    assert_string_equal(s.key, "ef781ae7");
    assert_string_equal(s.former_key, "");
    assert_int_equal(s.schema, MDM_SCHEMA_VERSION);
    assert_int_equal(reseal(w, 9), 1); /* nothing to do */
    start_good(w, key_new, key_old);
    assert_int_equal(logged("MDM0111:"), 1);
    s = status(w);
    assert_string_equal(s.key, "b0f45feb");
    assert_string_equal(s.former_key, "ef781ae7");
    assert_int_equal(s.resealed, 0);
    assert_true(s.left > 0);
    assert_non_null(s.table);
    all_there(w); /* under the old key, still */
    assert_int_equal(count_all(w, OLD_MARK), all);
    (void)reseal(w, 1000);
    assert_int_equal(count_all(w, NEW_MARK), all);
    assert_int_equal(logged("MDM0112:"), 1);
    assert_int_equal(meta_rows(w, "secret_key_former"), 0);
    assert_int_equal(meta_rows(w, "reseal"), 0);
    s = status(w);
    assert_string_equal(s.key, "b0f45feb");
    assert_string_equal(s.former_key, "");
    all_there(w);
    assert_int_equal(reseal(w, 9), 1);
    assert_int_equal(logged("MDM0113:"), 0); /* MDM0112 has said it */
    start_good(w, key_new, NULL);
    all_there(w);
    assert_int_equal(logged("MDM0111:"), 1);
    start(w, key_old, NULL);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_EUNAVAIL);
    assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
    start(w, key_third, NULL);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
    assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
    start(w, key_third, key_old);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
    assert_int_equal(logged("MDM0106:"), 3);
    start_good(w, key_new, key_old);
    assert_int_equal(reseal(w, 9), 1);
    assert_int_equal(logged("MDM0113:"), 1); /* one notice each */
    assert_int_equal(reseal(w, 9), 1);
    assert_int_equal(logged("MDM0113:"), 1);
}

/* And once more, to a third key: two in a row. */
static void test_next_rotation(void **state)
{
    world_t *w = *state;
    int64_t all;

    fill(w);
    all = count_all(w, NULL);
    start_good(w, key_new, key_old);
    (void)reseal(w, 1000);
    start_good(w, key_third, key_new);
    (void)reseal(w, 1000);
    assert_int_equal(count_all(w, NEW_MARK), 0);
    assert_int_equal(count_all(w, OLD_MARK), 0);
    assert_int_equal(count_all(w, NULL), all);
    start_good(w, key_third, NULL);
    all_there(w);
    assert_int_equal(logged("MDM0112:"), 2);
}

/* An empty store, too. */
static void test_empty(void **state)
{
    world_t *w = *state;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    start_good(w, key_new, key_old);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    (void)reseal(w, 1000);
    start_good(w, key_new, NULL);
    /* A new store with two keys begins with the first. */
    mdm_store_free(&w->store);
    (void)unlink(w->file);
    start_good(w, key_third, key_new);
    assert_int_equal(meta_rows(w, "secret_key_former"), 0);
    start_good(w, key_third, NULL);
}

/* ---- a walk that is cut short -------------------------------------------- */

static void test_cut_short(void **state)
{
    world_t *w = *state;
    mdm_store_status_t s;
    int64_t all;
    int64_t done;
    int64_t left;
    int n = 0;

    fill(w);
    add_many(w, 0, 1000);
    all = count_all(w, NULL);
    start_good(w, key_new, key_old);
    left = status(w).left;
    /* A slice at a time, each by a new process. */
    do {
        done = status(w).resealed;
        assert_int_equal(reseal(w, 1), 1);
        if (meta_rows(w, "secret_key_former") == 0) {
            break;
        }
        s = status(w);
        assert_true(s.resealed >= done && s.resealed <= done + 200);
        assert_int_equal(count_all(w, NEW_MARK), s.resealed);
        if (s.resealed < all) { /* the first pass */
            assert_true(s.left <= left);
            left = s.left;
        }
        start(w, key_new, NULL); /* too early */
        assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
        assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
        assert_non_null(strstr(w->err.text, "ef781ae7"));
        start_good(w, key_new, key_old);
    } while (++n < 100);
    assert_true(n >= 20 && n < 100); /* two passes over ten columns */
    assert_int_equal(count_all(w, NEW_MARK), all);
    assert_int_equal(logged("MDM0112:"), 1);
    start_good(w, key_new, NULL);
    all_there(w);
}

/* What turns up again behind the walk is met by the next pass. */
static void test_proof(void **state)
{
    world_t *w = *state;
    int64_t all;

    fill(w);
    add_many(w, 0, 500);
    all = count_all(w, NULL);
    db_run(w, "CREATE TABLE kept AS SELECT key_s AS k FROM pushcert");
    start_good(w, key_new, key_old);
    while (strcmp(status(w).table, "command") != 0) {
        assert_int_equal(reseal(w, 1), 1);
    }
    assert_int_equal(db_int(w, "SELECT substr(key_s, 1, 5) = " NEW_MARK
                               " FROM pushcert"), 1);
    db_run(w, "UPDATE pushcert SET key_s = (SELECT k FROM kept)");
    (void)reseal(w, 1000);
    assert_int_equal(meta_rows(w, "secret_key_former"), 0);
    assert_int_equal(count_all(w, NEW_MARK), all);
    start_good(w, key_new, NULL);
    all_there(w);
}

typedef struct swap {
    const mdm_sealed_t *column;
    mdm_str_t head;
    int64_t changes;
} swap_t;

/* Of the first row, which all tables of fill() have. */
static mdm_rc swap_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    swap_t *s = arg;

    if (s->column->text_key) {
        return mdm_sql_run(tx, s->column->renew, &s->changes, err, "tbb",
                           MDM_STR(TOPIC), s->head, MDM_STR("new value"));
    }
    return mdm_sql_run(tx, s->column->renew, &s->changes, err, "ibb",
                       INT64_C(1), s->head, MDM_STR("new value"));
}

/* What was changed after the walk had read it is not overwritten. */
static void test_changed_meanwhile(void **state)
{
    world_t *w = *state;
    const mdm_sealed_t *columns;
    sqlite3_stmt *st;
    sqlite3 *db;
    char head[MDM_SEAL_HEAD_LEN];
    char sql[200];
    swap_t s = {.head = {head, sizeof(head)}};
    size_t n;
    size_t i;

    fill(w);
    columns = mdm_sealed_columns(&n);
    for (i = 0; i < n; i++) {
        s.column = &columns[i];
        (void)snprintf(sql, sizeof(sql), "SELECT %s FROM %s WHERE rowid = 1",
                       columns[i].column, columns[i].table);
        db = db_open(w);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        memcpy(head, sqlite3_column_blob(st, 0), sizeof(head));
        (void)sqlite3_finalize(st);
        (void)sqlite3_close(db);
        head[sizeof(head) - 1] ^= 1; /* another nonce */
        assert_int_equal(mdm_store_write(w->store, swap_tx, &s, &w->err),
                         MDM_OK);
        assert_int_equal(s.changes, 0);
        head[sizeof(head) - 1] ^= 1;
        assert_int_equal(mdm_store_write(w->store, swap_tx, &s, &w->err),
                         MDM_OK);
        assert_int_equal(s.changes, 1);
    }
}

/* ---- other processes ----------------------------------------------------- */

static mdm_rc nothing(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    (void)tx;
    (void)arg;
    (void)err;
    return MDM_OK;
}

/* A process of before the reload knows the old key only. */
static void test_old_process(void **state)
{
    world_t *w = *state;
    mdm_store_t *old;
    many_t m = {0, 1};
    int64_t until = mdm_mono_us(NULL) + 10 * MDM_SEC;
    int64_t rows;

    fill(w);
    old = w->store;
    w->store = store_of(w, key_new, key_old);
    assert_int_equal(mdm_store_write(old, many_tx, &m, &w->err), MDM_OK);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    rows = db_int(w, "SELECT COUNT(*) FROM command");
    m.from = 1;
    assert_int_equal(mdm_store_write(old, many_tx, &m, &w->err),
                     MDM_EUNAVAIL);
    assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), rows);
    assert_int_equal(logged("MDM0106:"), 1);
    /* Nor does it read any more; it looks again and again. */
    assert_int_equal(mdm_store_read(old, nothing, NULL, &w->err),
                     MDM_EUNAVAIL);
    do {
        assert_int_equal(mdm_store_write(old, many_tx, &m, &w->err),
                         MDM_EUNAVAIL);
        (void)usleep(50000);
    } while (mdm_mono_us(NULL) < until - 8 * MDM_SEC);
    assert_int_equal(logged("MDM0106:"), 1);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), rows);
    (void)reseal(w, 1000);
    assert_int_equal(mdm_store_write(old, many_tx, &m, &w->err),
                     MDM_EUNAVAIL);
    assert_int_equal(count_all(w, OLD_MARK), 0);
    /* Should somebody restore the old database, it is back. */
    db_run(w, "UPDATE meta SET value = (SELECT substr(name, 20) FROM meta"
              " WHERE name LIKE 'secret_key_retired %')"
              " WHERE name = 'secret_key'");
    while (mdm_store_write(old, nothing, NULL, &w->err) != MDM_OK) {
        assert_true(mdm_mono_us(NULL) < until);
        (void)usleep(50000);
    }
    assert_int_equal(logged("MDM0102:"), 1);
    mdm_store_free(&old);
}

/* Prepared on another host: both keys, the other way round. */
static void test_prepared_process(void **state)
{
    world_t *w = *state;
    mdm_store_t *prepared = store_of(w, key_old, key_new);
    many_t m = {0, 1};
    int i;

    fill(w);
    assert_int_equal(mdm_store_write(prepared, many_tx, &m, &w->err), MDM_OK);
    assert_int_equal(count_all(w, NEW_MARK), 0);
    start_good(w, key_new, key_old);
    /* The one that was there before, and one that starts now. */
    for (i = 1; i < 3; i++) {
        m.from = i;
        assert_int_equal(mdm_store_write(prepared, many_tx, &m, &w->err),
                         MDM_OK);
        assert_int_equal(count_all(w, NEW_MARK), i);
        mdm_store_free(&prepared);
        prepared = store_of(w, key_old, key_new);
    }
    /* It can do the work, too; and does not turn it round. */
    mdm_store_free(&w->store);
    w->store = prepared;
    (void)reseal(w, 1000);
    assert_int_equal(count_all(w, OLD_MARK), 0);
    all_there(w);
    start_good(w, key_old, key_new);
    m.from = 3;
    assert_int_equal(mdm_store_write(w->store, many_tx, &m, &w->err), MDM_OK);
    assert_int_equal(count_all(w, OLD_MARK), 0);
    assert_int_equal(meta_rows(w, "secret_key_former"), 0);
    assert_int_equal(reseal(w, 9), 1);
    assert_int_equal(logged("MDM0113:"), 1);
    assert_int_equal(logged("MDM0111:"), 1);
}

typedef struct writer {
    world_t *w;
    mdm_store_t *store;
    int from;
    int bad;
    int64_t slowest_us;
    int n;
    bool stop;
    pthread_mutex_t mutex;
} writer_t;

static bool stopped(writer_t *t)
{
    bool stop;

    (void)pthread_mutex_lock(&t->mutex);
    stop = t->stop;
    (void)pthread_mutex_unlock(&t->mutex);
    return stop;
}

static void *write_on(void *arg)
{
    writer_t *t = arg;
    mdm_err_t err;
    many_t m;
    int64_t us;

    while (!stopped(t) || t->n < 50) {
        m = (many_t){t->from + t->n++, 1};
        us = mdm_mono_us(NULL);
        if (mdm_store_write(t->store, many_tx, &m, &err) != MDM_OK) {
            t->bad++;
        }
        us = mdm_mono_us(NULL) - us;
        t->slowest_us = us > t->slowest_us ? us : t->slowest_us;
        (void)usleep(1000);
    }
    return NULL;
}

/* Another process and another thread write all the time. */
static void test_others_write(void **state)
{
    world_t *w = *state;
    writer_t t[2];
    pthread_t threads[2];
    int64_t all;
    int i;

    fill(w);
    add_many(w, 0, 4000);
    all = count_all(w, NULL);
    start_good(w, key_new, key_old);
    for (i = 0; i < 2; i++) {
        t[i] = (writer_t){.w = w,
                          .store = i == 0 ? w->store
                                          : store_of(w, key_old, key_new),
                          .from = (i + 1) * 1000000};
        (void)pthread_mutex_init(&t[i].mutex, NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &t[i]),
                         0);
    }
    (void)reseal(w, 10000);
    for (i = 0; i < 2; i++) {
        (void)pthread_mutex_lock(&t[i].mutex);
        t[i].stop = true;
        (void)pthread_mutex_unlock(&t[i].mutex);
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(t[i].bad, 0);
        assert_true(t[i].slowest_us < 2 * MDM_SEC);
        all += t[i].n;
        print_message("# slowest of %d writes beside it: %lld us\n", t[i].n,
                      (long long)t[i].slowest_us);
    }
    mdm_store_free(&t[1].store);
    assert_int_equal(count_all(w, NEW_MARK), all);
    start_good(w, key_new, NULL);
    all_there(w);
}

/* ---- values of all kinds ------------------------------------------------- */

typedef struct big {
    int64_t qid;
    mdm_str_t text;
} big_t;

static mdm_rc big_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const big_t *b = arg;

    return mdm_store_queue_finish(tx, b->qid, MDM_QUEUE_ACKNOWLEDGED, b->text,
                                  false, 1, err);
}

static mdm_rc same_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const big_t *b = arg;
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t raw;
    char uuid[32];
    mdm_rc rc;

    (void)snprintf(uuid, sizeof(uuid), "b%lld", (long long)b->qid);
    rc = mdm_store_result_get(tx, mdm_str_from(uuid), MDM_STR("D"), arena,
                              &raw, err);
    assert_true(rc != MDM_OK || mdm_str_eq(raw, b->text));
    mdm_arena_free(&arena);
    return rc;
}

/* Each is a slice of its own; small ones beside them share. */
static void test_big_values(void **state)
{
    static const size_t sizes[] = {30 << 20, 10, 1 << 20, 3 << 20, 20, 0};
    world_t *w = *state;
    char uuid[32];
    char *text = malloc(30 << 20);
    big_t b;
    size_t i;

    assert_non_null(text);
    memset(text, 'x', 30 << 20);
    enroll(w, "D", 'A');
    for (i = 0; i < MDM_ARRAY_LEN(sizes); i++) {
        (void)snprintf(uuid, sizeof(uuid), "b%zu", i + 1);
        (void)enqueue(w, uuid, "D", 5);
        b = (big_t){(int64_t)i + 1, {text, sizes[i]}};
        assert_int_equal(mdm_store_write(w->store, big_tx, &b, &w->err),
                         MDM_OK);
    }
    start_good(w, key_new, key_old);
    while (strcmp(status(w).table, "queue") != 0) {
        assert_int_equal(reseal(w, 1), 1);
    }
    /* 30 MB; 10 bytes; 1 MB; 3 MB; the rest. */
    for (i = 0; i < 5; i++) {
        static const int64_t done[] = {1, 2, 3, 4, 6};

        assert_int_equal(reseal(w, 1), 1);
        assert_int_equal(
            db_int(w, "SELECT COUNT(*) FROM queue"
                      " WHERE substr(result_s, 1, 5) = " NEW_MARK), done[i]);
    }
    (void)reseal(w, 1000);
    start_good(w, key_new, NULL);
    for (i = 0; i < MDM_ARRAY_LEN(sizes); i++) {
        b = (big_t){(int64_t)i + 1, {text, sizes[i]}};
        assert_int_equal(mdm_store_read(w->store, same_tx, &b, &w->err),
                         MDM_OK);
    }
    free(text);
}

/* As the first version of this module sealed it, under the old key. */
static void test_version_1(void **state)
{
    world_t *w = *state;

    fill(w);
    db_run(w, "INSERT INTO command (cid, uuid, request_type, body_s,"
              " created_at) VALUES (99, 'v1', 'X', x'019c19ea1b4e5b8945650614"
              "5cd92a80f76fc249217e195360453d911294a3df8479308616e47ffdb28787"
              "9beb9f', 1)");
    db_run(w, "INSERT INTO queue SELECT NULL, eid, 99, 0, 9, 0, 0, queued_at,"
              " 0, 0, 0, 0, 0, NULL FROM queue LIMIT 1");
    assert_string_equal(idle(w), "body of version 1");
    start_good(w, key_new, key_old);
    assert_string_equal(idle(w), "body of version 1");
    (void)reseal(w, 1000);
    assert_int_equal(count_all(w, NEW_MARK), count_all(w, NULL));
    start_good(w, key_new, NULL);
    assert_string_equal(idle(w), "body of version 1");
}

/* What opens under no key stops nothing, and is not touched. */
static void test_damaged(void **state)
{
    world_t *w = *state;
    int64_t all;

    fill(w);
    add_many(w, 0, 2);
    db_run(w, "UPDATE command SET body_s = CAST(substr(body_s, 1, 20) || x'00'"
              " || substr(body_s, 22) AS BLOB) WHERE uuid = 'm0'");
    db_run(w, "UPDATE command SET body_s = x'02ef' WHERE uuid = 'm1'");
    db_run(w, "CREATE TABLE kept AS SELECT cid, body_s FROM command"
              " WHERE uuid LIKE 'm%'");
    all = count_all(w, NULL);
    start_good(w, key_new, key_old);
    (void)reseal(w, 1000);
    assert_int_equal(logged("MDM0112:"), 1);
    assert_non_null(strstr(lines.text, "every secret but 2 "));
    assert_int_equal(logged("MDM0108:"), 1); /* at most once a minute */
    assert_int_equal(count_all(w, NEW_MARK), all - 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM kept JOIN command"
                               " USING (cid, body_s)"), 2);
    start_good(w, key_new, NULL);
    all_there(w);
}

#define reseal_test(f) cmocka_unit_test_setup_teardown(f, setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        reseal_test(test_every_column),   reseal_test(test_rotation),
        reseal_test(test_next_rotation),  reseal_test(test_empty),
        reseal_test(test_cut_short),      reseal_test(test_proof),
        reseal_test(test_changed_meanwhile),
        reseal_test(test_old_process),    reseal_test(test_prepared_process),
        reseal_test(test_others_write),   reseal_test(test_big_values),
        reseal_test(test_version_1),      reseal_test(test_damaged),
    };

    return cmocka_run_group_tests_name("reseal", tests, NULL, NULL);
}
