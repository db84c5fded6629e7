/*
 * t_reseal_world.h - for t_reseal.c: stores with one key or two, a log that
 * is read, and something in every sealed column.
 */
#ifndef T_RESEAL_WORLD_H
#define T_RESEAL_WORLD_H

#include "t_store_world.h"

#include <pthread.h>

#include "mdm_store_event.h"
#include "mdm_log.h"
#include "mdm_pushcert.h"
#include "mdm_sql.h"
#include "mdm_store_issue.h"
#include "mdm_time.h"

static const unsigned char key_old[MDM_SEAL_KEY_LEN] = {1};
static const unsigned char key_new[MDM_SEAL_KEY_LEN] = {2};
static const unsigned char key_third[MDM_SEAL_KEY_LEN] = {3};

/* What begins a value that one of the keys closed, in SQL. */
#define OLD_MARK "x'02ef781ae7'"
#define NEW_MARK "x'02b0f45feb'"

/* ---- a log that is read -------------------------------------------------- */

typedef struct lines {
    pthread_mutex_t mutex;
    char text[65536];
} lines_t;

static bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    return level <= MDM_LOG_NOTICE;
}

static void log_write(void *ctx, mdm_level_t level, const char *file, int line,
                      const char *msg)
{
    lines_t *lines = ctx;
    size_t n;

    (void)level;
    (void)file;
    (void)line;
    (void)pthread_mutex_lock(&lines->mutex);
    n = strlen(lines->text);
    (void)snprintf(lines->text + n, sizeof(lines->text) - n, "%s\n", msg);
    (void)pthread_mutex_unlock(&lines->mutex);
}

static lines_t lines = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static const mdm_log_t the_log = {&lines, log_on, log_write};

/* How often a message stands in the log. */
static int logged(const char *id)
{
    const char *at = lines.text;
    int n = 0;

    while ((at = strstr(at, id)) != NULL) {
        at++;
        n++;
    }
    return n;
}

/* ---- stores -------------------------------------------------------------- */

static mdm_store_t *store_of(world_t *w, const unsigned char *first,
                             const unsigned char *second)
{
    mdm_store_config_t config = {.url = "sqlite:mdm.db",
                                 .state_dir = w->dir,
                                 .secret_key = first,
                                 .former_key = second,
                                 .connections = 4,
                                 .timeout_us = 20 * MDM_SEC,
                                 .log = &the_log};
    mdm_store_t *store;

    assert_int_equal(mdm_store_new(&config, &store, &w->err), MDM_OK);
    return store;
}

/* The world's store goes, another process comes. */
static void start(world_t *w, const unsigned char *first,
                  const unsigned char *second)
{
    mdm_store_free(&w->store);
    w->store = store_of(w, first, second);
}

static void start_good(world_t *w, const unsigned char *first,
                       const unsigned char *second)
{
    start(w, first, second);
    if (mdm_store_open(w->store, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
}

static int setup(void **state)
{
    int rc = world_setup(state);
    world_t *w = *state;

    lines.text[0] = '\0';
    start(w, key_old, NULL);
    return rc;
}

/* Slices until there is no more; returns how many. */
static int reseal(world_t *w, int at_most)
{
    bool more = true;
    int n;

    for (n = 0; more && n < at_most; n++) {
        if (mdm_store_reseal(w->store, 1000, &more, &w->err) != MDM_OK) {
            fail_msg("%s", w->err.text);
        }
    }
    return n;
}

static mdm_rc status_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_status(tx, arg, err);
}

static mdm_store_status_t status(world_t *w)
{
    mdm_store_status_t s;

    assert_int_equal(mdm_store_read(w->store, status_tx, &s, &w->err),
                     MDM_OK);
    return s;
}

/* Values of a column of the walk; with a mark only those that begin so. */
static int64_t count(const world_t *w, const mdm_sealed_t *c, const char *mark)
{
    char sql[300];

    if (mark == NULL) {
        (void)snprintf(sql, sizeof(sql), "SELECT COUNT(%s) FROM %s", c->column,
                       c->table);
    } else {
        (void)snprintf(sql, sizeof(sql),
                       "SELECT COUNT(*) FROM %s WHERE substr(%s, 1, 5) = %s",
                       c->table, c->column, mark);
    }
    return db_int(w, sql);
}

static int64_t count_all(const world_t *w, const char *mark)
{
    const mdm_sealed_t *columns;
    int64_t sum = 0;
    size_t n;
    size_t i;

    columns = mdm_sealed_columns(&n);
    for (i = 0; i < n; i++) {
        sum += count(w, &columns[i], mark);
    }
    return sum;
}

static int64_t meta_rows(const world_t *w, const char *name)
{
    char sql[200];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT COUNT(*) FROM meta WHERE name = '%s'", name);
    return db_int(w, sql);
}

/* ---- what is in it ------------------------------------------------------- */

static mdm_rc set_bootstrap(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_bootstrap_token_set(tx, *(int64_t *)arg,
                                         MDM_STR("bootstrap token"), err);
}

static mdm_rc add_event(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    (void)arg;
    return mdm_store_event_add(
        tx,
        &(mdm_event_t){.topic = MDM_STR("test.Event"),
                       .body = MDM_STR("{\"a\":1}")},
        1, err);
}

static mdm_rc add_authority(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_authority_row_t row = {.state = MDM_AUTHORITY_CURRENT,
                               .fingerprint = MDM_STR(TOPIC),
                               .certificate = MDM_STR("certificate"),
                               .key = MDM_STR("key of the authority")};

    return mdm_store_authority_add(tx, &row, 1, arg, err);
}

/* Something in every sealed column. */
static void fill(world_t *w)
{
    mdm_keypair_t pair = {.topic = MDM_STR(TOPIC),
                          .cert_pem = MDM_STR("certificate text"),
                          .key_pem = MDM_STR("PRIVATE KEY TEXT")};
    mdm_pushcert_import_t how = {MDM_PUSHCERT_FILE, true, false};
    const mdm_sealed_t *columns;
    int64_t eid;
    bool stored;
    size_t n;
    size_t i;

    enroll(w, "D", 'A');
    enroll(w, "D", 'A'); /* a former unlock token */
    eid = db_int(w, "SELECT eid FROM enrollment WHERE id = 'D'");
    assert_int_equal(mdm_store_write(w->store, set_bootstrap, &eid, &w->err),
                     MDM_OK);
    (void)enqueue(w, "c1", "D", 5);
    assert_string_equal(idle(w), "c1");
    assert_string_equal(report(w, MDM_REPORT_ACKNOWLEDGED, "c1"), "");
    (void)enqueue(w, "c2", "D", 5);
    assert_int_equal(mdm_store_write(w->store, add_event, NULL, &w->err),
                     MDM_OK);
    pair.fingerprint[0] = 'f';
    assert_int_equal(mdm_pushcert_import(w->store, &pair, &how, &stored,
                                         &w->err), MDM_OK);
    assert_int_equal(mdm_store_write(w->store, add_authority, &stored,
                                     &w->err), MDM_OK);
    columns = mdm_sealed_columns(&n);
    for (i = 0; i < n; i++) {
        if (count(w, &columns[i], NULL) == 0) {
            fail_msg("nothing in %s.%s", columns[i].table, columns[i].column);
        }
    }
}

typedef struct look {
    mdm_arena_t *arena;
    int64_t eid;
} look_t;

static mdm_rc look_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;
    mdm_pushcert_row_t cert;
    mdm_str_t text;
    mdm_rc rc;

    rc = mdm_store_pushcert_get(tx, MDM_STR(TOPIC), l->arena, &cert, err);
    if (rc == MDM_OK && !mdm_str_is(cert.key_pem, "PRIVATE KEY TEXT")) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "push key");
    }
    if (rc == MDM_OK) {
        rc = mdm_store_result_get(tx, MDM_STR("c1"), MDM_STR("D"), l->arena,
                                  &text, err);
    }
    if (rc == MDM_OK && !mdm_str_is(text, "raw report of the device")) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "result");
    }
    return rc;
}

static mdm_rc claim_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;
    mdm_claim_t claim;
    size_t n;
    mdm_rc rc;

    rc = mdm_store_push_claim(tx, MDM_STR(TOPIC), MDM_STR("me"),
                              mdm_wall_us(NULL), mdm_wall_us(NULL), 1,
                              l->arena, &claim, &n, err);
    if (rc == MDM_OK && (n != 1 || !claim.pushable ||
                         !mdm_str_is(claim.token, "token-of-the-device") ||
                         !mdm_str_is(claim.magic, "magic-of-the-device"))) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "push data");
    }
    return rc;
}

/* Columns that no verb reads: opened for the place the column's verb sealed
 * it for.  The name of the column stands in `arg`. */
typedef struct raw {
    world_t *w;
    const char *sql;
    const char *where;
    const char *expected;
} raw_t;

static mdm_rc raw_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const raw_t *r = arg;
    sqlite3 *db = db_open(r->w);
    sqlite3_stmt *st;
    mdm_str_t plain;
    mdm_str_t sealed;
    mdm_rc rc;

    assert_int_equal(sqlite3_prepare_v2(db, r->sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    sealed.s = sqlite3_column_blob(st, 0);
    sealed.n = (size_t)sqlite3_column_bytes(st, 0);
    rc = mdm_seal_open(mdm_store_seal(tx->store), r->where, sealed,
                       r->w->arena, &plain, err);
    if (rc == MDM_OK && !mdm_str_is(plain, r->expected)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "%s", r->where);
    }
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    return rc;
}

/* Everything that fill() wrote is there, and can be read and delivered. */
static void all_there(world_t *w)
{
    raw_t raw[] = {
        {w, "SELECT unlock_token_s FROM enrollment WHERE eid = 1",
         "enrollment.unlock_token:1", "unlock-token-of-the-device"},
        {w, "SELECT former_unlock_token_s FROM enrollment WHERE eid = 1",
         "enrollment.unlock_token:1", "unlock-token-of-the-device"},
        {w, "SELECT bootstrap_token_s FROM enrollment WHERE eid = 1",
         "enrollment.bootstrap_token:1", "bootstrap token"},
        {w, "SELECT authenticate_s FROM enrollment WHERE eid = 1",
         "enrollment.authenticate:1", "raw check-in message"},
        {w, "SELECT token_update_s FROM enrollment WHERE eid = 1",
         "enrollment.token_update:1", "raw check-in message"},
        {w, "SELECT key_s FROM authority", "authority.key:" TOPIC,
         "key of the authority"}};
    look_t l = {.arena = w->arena};
    size_t i;

    if (mdm_store_read(w->store, look_tx, &l, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    db_run(w, "UPDATE push SET due_at = 1, topic = '" TOPIC "'");
    if (mdm_store_write(w->store, claim_tx, &l, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    for (i = 0; i < MDM_ARRAY_LEN(raw); i++) {
        if (mdm_store_read(w->store, raw_tx, &raw[i], &w->err) != MDM_OK) {
            fail_msg("%s", w->err.text);
        }
    }
    assert_string_equal(idle(w), "c2");
}

/* Commands by the hundred, for the walk to be long. */
typedef struct many {
    int from;
    int n;
} many_t;

static mdm_rc many_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const many_t *m = arg;
    char uuid[32];
    int64_t cid;
    mdm_rc rc = MDM_OK;
    int i;

    for (i = m->from; rc == MDM_OK && i < m->from + m->n; i++) {
        (void)snprintf(uuid, sizeof(uuid), "m%d", i);
        rc = mdm_store_command_add(tx, mdm_str_from(uuid), MDM_STR("X"),
                                   mdm_str_from(uuid), 1, &cid, err);
    }
    return rc;
}

static void add_many(world_t *w, int from, int n)
{
    many_t m = {from, n};

    assert_int_equal(mdm_store_write(w->store, many_tx, &m, &w->err), MDM_OK);
}

#endif
