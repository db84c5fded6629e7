/*
 * t_store.c - the store's engine on an SQLite file: opening and its refusals,
 * group commit, time limits, what stands in the file in plain text, and the
 * plan of every statement.
 */
#include "t_store_world.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include "mdm_log.h"
#include "mdm_pushcert.h"
#include "mdm_sql.h"
#include "mdm_time.h"

/* ---- group commit -------------------------------------------------------- */

#define THREADS 16
#define WRITES 200

typedef struct add {
    char uuid[32];
    int outcome; /* 0: fine, 1: fn fails after its write, 2: uuid is taken */
    int64_t cid;
} add_t;

static mdm_rc add_command(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    add_t *a = arg;
    mdm_str_t taken = MDM_STR("taken");
    mdm_rc rc;

    rc = mdm_store_command_add(tx, mdm_str_from(a->uuid), MDM_STR("X"),
                               MDM_STR("body"), 1, &a->cid, err);
    if (rc == MDM_OK && a->outcome == 1) {
        return mdm_err_set(err, MDM_EDENIED, 0, "refused %s", a->uuid);
    }
    if (rc == MDM_OK && a->outcome == 2) {
        rc = mdm_store_command_add(tx, taken, MDM_STR("X"), MDM_STR("b"), 1,
                                   &a->cid, err);
    }
    return rc;
}

typedef struct worker {
    mdm_store_t *store;
    int number;
    int wrong; /* results other than expected */
} worker_t;

static mdm_rc count_nothing(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_command_row_t row;

    return mdm_store_command_get(tx, MDM_STR("taken"), arg, &row, err);
}

static void *work(void *arg)
{
    static const mdm_rc expected[] = {MDM_OK, MDM_EDENIED, MDM_ECONFLICT};
    worker_t *w = arg;
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_err_t err;
    add_t a;
    int i;

    for (i = 0; i < WRITES; i++) {
        a.outcome = i % 7 == 3 ? 1 : i % 11 == 5 ? 2 : 0;
        (void)snprintf(a.uuid, sizeof(a.uuid), "%c%d-%d",
                       a.outcome == 0 ? 'g' : 'b', w->number, i);
        mdm_err_clear(&err);
        if (mdm_store_write(w->store, add_command, &a, &err) !=
            expected[a.outcome]) {
            w->wrong++;
        }
        /* Everybody gets his own error. */
        if (a.outcome == 1 && strstr(err.text, a.uuid) == NULL) {
            w->wrong++;
        }
        if (i % 10 == 0 && mdm_store_read(w->store, count_nothing, arena,
                                          &err) != MDM_OK) {
            w->wrong++;
        }
    }
    mdm_arena_free(&arena);
    return NULL;
}

static void test_group_commit(void **state)
{
    world_t *w = *state;
    worker_t workers[THREADS];
    pthread_t threads[THREADS];
    add_t taken = {.uuid = "taken"};
    int good = 0;
    int i;

    assert_int_equal(mdm_store_write(w->store, add_command, &taken, &w->err),
                     MDM_OK);
    for (i = 0; i < WRITES; i++) {
        good += i % 7 != 3 && i % 11 != 5 ? 1 : 0;
    }
    for (i = 0; i < THREADS; i++) {
        workers[i] = (worker_t){w->store, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]),
                         0);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"
                               " WHERE uuid LIKE 'g%'"), THREADS * good);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"
                               " WHERE uuid LIKE 'b%'"), 0);
}

static void test_failed_alone(void **state)
{
    world_t *w = *state;
    add_t a = {.uuid = "b1", .outcome = 1};

    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_EDENIED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 0);
    a.outcome = 0;
    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM command"), 1);
}

/* ---- opening ------------------------------------------------------------- */

/* Waits out the pause between two attempts to open. */
static mdm_rc open_until(world_t *w, mdm_rc wanted)
{
    int64_t until = mdm_mono_us(NULL) + 20 * MDM_SEC;
    mdm_rc rc;

    do {
        rc = mdm_store_open(w->store, &w->err);
        (void)usleep(20000);
    } while (rc != wanted && mdm_mono_us(NULL) < until);
    return rc;
}

static void test_open_later(void **state)
{
    world_t *w = *state;
    char aside[48];
    add_t a = {.uuid = "c1"};

    /* The state directory is missing, then it is there. */
    (void)snprintf(aside, sizeof(aside), "%s.aside", w->dir);
    assert_int_equal(rename(w->dir, aside), 0);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_EUNAVAIL);
    assert_int_equal(w->err.id, MDM_MSG_STORE_UNAVAILABLE);
    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_EUNAVAIL);
    assert_int_equal(mdm_store_read(w->store, count_nothing, w->arena,
                                    &w->err),
                     MDM_EUNAVAIL);
    assert_int_equal(rename(aside, w->dir), 0);
    assert_int_equal(open_until(w, MDM_OK), MDM_OK);
    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_OK);
}

static void test_not_a_database(void **state)
{
    world_t *w = *state;
    FILE *f = fopen(w->file, "w");
    int i;

    assert_non_null(f);
    for (i = 0; i < 2000; i++) {
        (void)fputs("this is no database\n", f);
    }
    (void)fclose(f);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_EUNAVAIL);
    assert_int_equal(w->err.id, MDM_MSG_STORE_UNAVAILABLE);
    assert_int_equal(unlink(w->file), 0);
    assert_int_equal(open_until(w, MDM_OK), MDM_OK);
}

static void test_wrong_key(void **state)
{
    static const unsigned char key[MDM_SEAL_KEY_LEN] = {9, 9, 9};
    world_t *w = *state;

    enroll(w, "D", 'A');
    mdm_store_free(&w->store);
    w->store = world_store(w, 5 * MDM_SEC, key);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
    assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL),
                     MDM_ECONFIG);
    mdm_store_free(&w->store);
    w->store = world_store(w, 5 * MDM_SEC, NULL); /* secret.key fits */
    assert_int_equal(report_as(w, "D", 'A', MDM_REPORT_IDLE, NULL), MDM_OK);
}

/* A lost key is not replaced by a new one. */
static void test_lost_key(void **state)
{
    world_t *w = *state;
    char key[64];
    char kept[64];

    enroll(w, "D", 'A');
    mdm_store_free(&w->store);
    (void)snprintf(key, sizeof(key), "%s/secret.key", w->dir);
    (void)snprintf(kept, sizeof(kept), "%s/kept", w->dir);
    assert_int_equal(rename(key, kept), 0);
    w->store = world_store(w, 5 * MDM_SEC, NULL);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
    assert_int_equal(w->err.id, MDM_MSG_SECRET_KEY_WRONG);
    assert_int_not_equal(access(key, F_OK), 0);
    assert_int_equal(rename(kept, key), 0);
    assert_int_equal(open_until(w, MDM_OK), MDM_OK);
}

static void test_newer_schema(void **state)
{
    world_t *w = *state;
    int64_t version;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    mdm_store_free(&w->store);
    version = db_int(w, "SELECT CAST(value AS INTEGER) FROM meta"
                        " WHERE name = 'schema_version'");
    db_run(w, "UPDATE meta SET value = CAST(value AS INTEGER) + 1"
              " WHERE name LIKE 'schema%'");
    w->store = world_store(w, 5 * MDM_SEC, NULL);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_ECONFIG);
    assert_int_equal(w->err.id, MDM_MSG_STORE_NEWER);
    /* Nothing was done to it. */
    assert_int_equal(db_int(w, "SELECT CAST(value AS INTEGER) FROM meta"
                               " WHERE name LIKE 'schema%'"),
                     version + 1);
}

static void *open_one(void *arg)
{
    mdm_err_t err;

    return mdm_store_open(arg, &err) == MDM_OK ? arg : NULL;
}

/* Eight stores make one new file at once, as eight processes would. */
static void test_open_together(void **state)
{
    world_t *w = *state;
    mdm_store_t *stores[8];
    pthread_t threads[8];
    void *ok;
    int i;

    for (i = 0; i < 8; i++) {
        stores[i] = world_store(w, 20 * MDM_SEC, NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, open_one,
                                        stores[i]), 0);
    }
    for (i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], &ok), 0);
        assert_non_null(ok);
    }
    for (i = 0; i < 8; i++) {
        mdm_store_free(&stores[i]);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM meta"
                               " WHERE name = 'secret_key'"), 1);
}

static void test_urls(void **state)
{
    static const char *const bad[] = {"", "mdm.db", "sqlite:", "SQLITE:x",
                                      "postgresql://h/d", "sqlite"};
    mdm_err_t err;
    size_t i;

    (void)state;
    assert_int_equal(mdm_store_check_url("sqlite:mdm.db", &err), MDM_OK);
    assert_int_equal(mdm_store_check_url("sqlite:/var/mdm.db", &err), MDM_OK);
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        assert_int_equal(mdm_store_check_url(bad[i], &err), MDM_ECONFIG);
    }
}

/* ---- locks and time limits ----------------------------------------------- */

static void test_locked(void **state)
{
    world_t *w = *state;
    add_t a = {.uuid = "c1"};
    sqlite3 *db;
    int64_t start;
    int64_t us;

    enroll(w, "D", 'A');
    mdm_store_free(&w->store);
    w->store = world_store(w, MDM_SEC / 2, NULL);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    db = db_open(w);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    start = mdm_mono_us(NULL);
    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_EBUSY);
    us = mdm_mono_us(NULL) - start;
    assert_true(us >= MDM_SEC / 2 - MDM_SEC / 20);
    assert_true(us < 3 * MDM_SEC);
    assert_int_equal(w->err.id, MDM_MSG_STORE_SLOW);
    /* Reading goes on. */
    assert_string_equal(idle(w), "");
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    assert_int_equal(mdm_store_write(w->store, add_command, &a, &w->err),
                     MDM_OK);
}

static void test_version(void **state)
{
    world_t *w = *state;
    mdm_store_t *other = world_store(w, 5 * MDM_SEC, NULL);
    add_t a = {.uuid = "c1"};
    int64_t v1;
    int64_t v2;
    int64_t v3;

    assert_int_equal(mdm_store_version(w->store, &v1, &w->err), MDM_OK);
    assert_int_equal(mdm_store_version(w->store, &v2, &w->err), MDM_OK);
    assert_true(v1 == v2);
    assert_int_equal(mdm_store_write(other, add_command, &a, &w->err),
                     MDM_OK);
    assert_int_equal(mdm_store_version(w->store, &v3, &w->err), MDM_OK);
    assert_true(v3 != v2);
    mdm_store_free(&other);
}

/* ---- what stands in the files -------------------------------------------- */

static bool file_holds(const char *path, const char *word)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    char *data;
    bool found;

    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    data = malloc((size_t)st.st_size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)st.st_size, f), st.st_size);
    (void)fclose(f);
    found = memmem(data, (size_t)st.st_size, word, strlen(word)) != NULL;
    free(data);
    return found;
}

/* How many of the state directory's files hold the word. */
static int files_holding(const world_t *w, const char *word)
{
    DIR *dir = opendir(w->dir);
    struct dirent *entry;
    struct stat st;
    char path[400];
    int n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", w->dir, entry->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            assert_int_equal(st.st_mode & 077, 0); /* nobody else's */
            n += file_holds(path, word) ? 1 : 0;
        }
    }
    (void)closedir(dir);
    return n;
}

static void test_sealed(void **state)
{
    static const char *const secrets[] = {
        "token-of-the-device", "magic-of-the-device",
        "unlock-token-of-the-device", "raw check-in message",
        "raw report of the device", "body-of-a-command", "PRIVATE KEY TEXT"};
    world_t *w = *state;
    mdm_keypair_t pair = {.topic = MDM_STR(TOPIC),
                          .cert_pem = MDM_STR("certificate text"),
                          .key_pem = MDM_STR("PRIVATE KEY TEXT")};
    mdm_pushcert_import_t how = {MDM_PUSHCERT_FILE, true, false};
    mdm_enqueue_t command = {.uuid = MDM_STR("c1"),
                             .request_type = MDM_STR("X"),
                             .body = MDM_STR("body-of-a-command")};
    mdm_target_result_t target = {.id = MDM_STR("D")};
    bool stored;
    size_t i;

    enroll(w, "D", 'A');
    assert_int_equal(mdm_queue_enqueue(w->store, &command, &target, 1, &i,
                                       &w->err), MDM_OK);
    assert_string_equal(idle(w), "body-of-a-command");
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "c1"), "");
    pair.fingerprint[0] = 'f';
    assert_int_equal(mdm_pushcert_import(w->store, &pair, &how, &stored,
                                         &w->err), MDM_OK);
    /* The look is a look: this word is there, in the clear. */
    assert_true(files_holding(w, "SERIAL1") > 0);
    assert_true(files_holding(w, "certificate text") > 0);
    for (i = 0; i < MDM_ARRAY_LEN(secrets); i++) {
        if (files_holding(w, secrets[i]) != 0) {
            fail_msg("\"%s\" stands in a file", secrets[i]);
        }
    }
    mdm_store_free(&w->store); /* writes the log into the database file */
    assert_true(files_holding(w, "SERIAL1") > 0);
    for (i = 0; i < MDM_ARRAY_LEN(secrets); i++) {
        assert_int_equal(files_holding(w, secrets[i]), 0);
    }
}

/* ---- plans --------------------------------------------------------------- */

/* The active rows of a queue are found without looking at those that are
 * over, of which there may be thousands. */
static bool looks_at_history(const char *sql, const char *detail)
{
    return strstr(sql, "state < 3") != NULL &&
           (strncmp(detail, "SEARCH q ", 9) == 0 ||
            strncmp(detail, "SEARCH queue ", 13) == 0) &&
           strstr(detail, "INDEX queue_active ") == NULL &&
           strstr(detail, "INDEX queue_expires ") == NULL &&
           strstr(detail, "INTEGER PRIMARY KEY") == NULL;
}

static void check_plan(sqlite3 *db, mdm_stmt_t stmt)
{
    const char *detail;
    sqlite3_stmt *st;
    char *sql;
    int rows = 0;

    sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", mdm_sql_text(stmt));
    assert_non_null(sql);
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", mdm_sql_text(stmt), sqlite3_errmsg(db));
    }
    while (sqlite3_step(st) == SQLITE_ROW) {
        detail = (const char *)sqlite3_column_text(st, 3);
        rows++;
        /* A few rows. */
        if (stmt == MDM_SQL_PUSHCERT_LIST ||
            stmt == MDM_SQL_PUSHCERT_KEY_ROWS ||
            stmt == MDM_SQL_AUTHORITY_LIST ||
            stmt == MDM_SQL_AUTHORITY_KEY_ROWS) {
            continue;
        }
        if (strncmp(detail, "SCAN", 4) == 0 ||
            looks_at_history(mdm_sql_text(stmt), detail) ||
            (strstr(detail, "TEMP B-TREE") != NULL &&
             stmt != MDM_SQL_IDENTITY_CURRENT &&
             stmt != MDM_SQL_QUEUE_COUNTS &&
             stmt != MDM_SQL_QUEUE_LIST_ACTIVE &&
             stmt != MDM_SQL_ENROLLMENT_BY_SERIAL)) {
            fail_msg("%s\n%s", mdm_sql_text(stmt), detail);
        }
    }
    assert_true(rows > 0 || strncmp(mdm_sql_text(stmt), "INSERT", 6) == 0);
    (void)sqlite3_finalize(st);
    sqlite3_free(sql);
}

static void test_plans(void **state)
{
    world_t *w = *state;
    sqlite3 *db;
    int i;

    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    db = db_open(w);
    for (i = 0; i < MDM_SQL_COUNT; i++) {
        assert_non_null(mdm_sql_text((mdm_stmt_t)i));
        check_plan(db, (mdm_stmt_t)i);
    }
    (void)sqlite3_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_group_commit), world_test(test_failed_alone),
        world_test(test_open_later),   world_test(test_not_a_database),
        world_test(test_wrong_key),    world_test(test_lost_key),
        world_test(test_newer_schema),
        world_test(test_open_together), cmocka_unit_test(test_urls),
        world_test(test_locked),       world_test(test_version),
        world_test(test_sealed),       world_test(test_plans),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
