/*
 * mdm_store.c - connections, transactions, group commit.
 *
 * Writing: a request puts its operation into a list; whoever finds no writer
 * at work becomes the writer and runs everything that waits in one
 * transaction, each operation in a savepoint, then wakes the others.  A lone
 * request pays no hand-over, a crowd shares one fsync.  Reading: a small pool
 * of connections with a bounded wait.
 *
 * Opening: the first call opens, migrates and checks the secret key; when
 * that fails, calls fail at once until REOPEN_US have passed, then one tries
 * again.  The key is checked in every writing transaction as well: another
 * process may have replaced it.  One mutex guards all state; it is never held
 * while the database works.  Another guards the connection that tells whether
 * anybody committed, and is held for that question.
 */
#include "mdm_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_store_int.h"
#include "mdm_str.h"
#include "mdm_thread.h"

#define REOPEN_US (MDM_SEC / 2)
#define BATCH_MAX 128
#define SCHEME "sqlite:"

typedef struct op {
    struct op *next;
    mdm_tx_fn *fn;
    void *arg;
    mdm_err_t *err;
    mdm_rc rc;
    bool started;
    bool done;
} op_t;

struct mdm_store {
    mdm_store_config_t config;
    const mdm_driver_t *driver;
    char *url;
    char *state_dir;
    unsigned char key[MDM_SEAL_KEY_LEN];
    unsigned char former_key[MDM_SEAL_KEY_LEN];
    bool has_key;
    bool has_former_key;
    mdm_seal_t *seal; /* made when first opened, then it stays */
    mdm_reseal_t reseal;

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* an operation ended, a reader came back */
    op_t *first;            /* waiting operations */
    op_t *last;
    bool writing; /* somebody is the writer */
    bool opening;
    bool opened; /* schema and key are as they should be */
    int64_t reopen_us;
    mdm_err_t open_err;
    void *writer;
    void **readers; /* idle ones */
    unsigned idle;
    unsigned readers_open;
    pthread_mutex_t watch_mutex; /* guards the watcher alone */
    void *watcher;
    bool told_down;
};

mdm_rc mdm_store_check_url(const char *url, mdm_err_t *err)
{
    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0 ||
        url[strlen(SCHEME)] == '\0') {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "unknown store \"%s\"; give \"sqlite:\" and a file "
                           "name, such as sqlite:mdm.db",
                           url);
    }
    return MDM_OK;
}

mdm_rc mdm_store_new(const mdm_store_config_t *config, mdm_store_t **store_r,
                     mdm_err_t *err)
{
    mdm_store_t *store = calloc(1, sizeof(*store));

    *store_r = NULL;
    if (store == NULL) {
        return mdm_err_nomem(err);
    }
    store->config = *config;
    store->driver = &mdm_driver_sqlite;
    (void)pthread_mutex_init(&store->mutex, NULL);
    (void)pthread_mutex_init(&store->watch_mutex, NULL);
    if (mdm_cond_init(&store->changed, err) != MDM_OK) {
        (void)pthread_mutex_destroy(&store->watch_mutex);
        (void)pthread_mutex_destroy(&store->mutex);
        free(store);
        return MDM_EINTERNAL;
    }
    store->url = strdup(config->url + strlen(SCHEME));
    store->state_dir = strdup(config->state_dir);
    store->readers = calloc(config->connections, sizeof(void *));
    if (config->secret_key != NULL) {
        memcpy(store->key, config->secret_key, sizeof(store->key));
        store->has_key = true;
    }
    if (config->former_key != NULL) {
        memcpy(store->former_key, config->former_key,
               sizeof(store->former_key));
        store->has_former_key = true;
    }
    if (store->url == NULL || store->state_dir == NULL ||
        store->readers == NULL) {
        mdm_store_free(&store);
        return mdm_err_nomem(err);
    }
    *store_r = store;
    return MDM_OK;
}

void mdm_store_free(mdm_store_t **store)
{
    mdm_store_t *s = *store;
    unsigned i;

    if (s == NULL) {
        return;
    }
    for (i = 0; i < s->idle; i++) {
        s->driver->close(s->readers[i]);
    }
    if (s->watcher != NULL) {
        s->driver->close(s->watcher);
    }
    if (s->writer != NULL) {
        s->driver->close(s->writer);
    }
    mdm_seal_free(&s->seal);
    mdm_wipe(s->key, sizeof(s->key));
    mdm_wipe(s->former_key, sizeof(s->former_key));
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->watch_mutex);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s->readers);
    free(s->url);
    free(s->state_dir);
    free(s);
    *store = NULL;
}

const mdm_seal_t *mdm_store_seal(const mdm_store_t *store)
{
    return store->seal;
}

mdm_reseal_t *mdm_store_reseal_at(mdm_store_t *store)
{
    return &store->reseal;
}

const mdm_log_t *mdm_store_log(const mdm_store_t *store)
{
    return store->config.log;
}

int64_t mdm_store_push_repeat(const mdm_tx_t *tx)
{
    return tx->store->config.push_repeat_us;
}

/* ---- opening ------------------------------------------------------------ */

/* Was the store made with a key?  Then a lost key file must not be replaced
 * by a new one, of which the log would ask to make a backup. */
static mdm_rc knows_key(mdm_tx_t *tx, bool *known_r, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t", MDM_STR("secret_key"));
    rc = mdm_query_row(&q, known_r);
    mdm_query_end(&q);
    return rc;
}

static mdm_rc obtain_seal(mdm_store_t *s, mdm_tx_t *tx, mdm_err_t *err)
{
    bool made = false;
    bool known = false;
    mdm_rc rc;

    if (s->seal != NULL) {
        return MDM_OK;
    }
    if (!s->has_key) {
        rc = knows_key(tx, &known, err);
        if (rc == MDM_OK && known && !mdm_seal_has_key(s->state_dir)) {
            rc = mdm_err_set(err, MDM_ECONFIG, MDM_MSG_SECRET_KEY_WRONG,
                             "%s/secret.key is gone, and the store was made "
                             "with it",
                             s->state_dir);
        }
        if (rc != MDM_OK) {
            return rc;
        }
        rc = mdm_seal_obtain_key(s->state_dir, s->key, &made, err);
        if (rc != MDM_OK) {
            return rc;
        }
        s->has_key = true;
    }
    if (made) {
        mdm_log_msg(s->config.log, MDM_LOG_NOTICE, MDM_MSG_SECRET_KEY_MADE,
                    "made a new secret key in %s", s->state_dir);
    }
    rc = mdm_seal_new(s->key, &s->seal, err);
    if (rc == MDM_OK && s->has_former_key) {
        rc = mdm_seal_add(s->seal, s->former_key, err);
    }
    if (rc != MDM_OK) {
        mdm_seal_free(&s->seal);
    }
    return rc;
}

static mdm_rc adopt_keys(mdm_store_t *s, mdm_tx_t *tx, int64_t until,
                         mdm_err_t *err)
{
    mdm_rc rc = s->driver->begin(tx->conn, until, err);
    bool began = false;

    if (rc == MDM_OK) {
        rc = mdm_store_adopt_keys(tx, s->seal, &began, err);
        if (rc == MDM_OK) {
            rc = s->driver->commit(tx->conn, err);
        }
        if (rc != MDM_OK) {
            s->driver->rollback(tx->conn);
        }
    }
    if (rc == MDM_OK && began) {
        mdm_log_msg(s->config.log, MDM_LOG_NOTICE, MDM_MSG_SECRET_KEY_REPLACED,
                    "the secret key %.8s was replaced by %.8s; what it sealed "
                    "is sealed anew in the background",
                    mdm_seal_nth_id(s->seal, 1), mdm_seal_nth_id(s->seal, 0));
    }
    return rc;
}

/* Everything that must be right before the store may be used. */
static mdm_rc do_open(mdm_store_t *s, mdm_err_t *err)
{
    mdm_tx_t tx = {s->driver, NULL, s};
    int64_t until = mdm_mono_us(NULL) + s->config.timeout_us;
    int from = MDM_SCHEMA_VERSION;
    mdm_rc rc;

    rc = s->driver->open(s->url, s->state_dir, true, &tx.conn, err);
    if (rc == MDM_OK) {
        rc = mdm_sql_migrate(&tx, until, &from, err);
    }
    if (rc == MDM_OK) {
        rc = obtain_seal(s, &tx, err);
    }
    if (rc == MDM_OK) {
        rc = adopt_keys(s, &tx, until, err);
    }
    if (rc != MDM_OK) {
        if (tx.conn != NULL) {
            s->driver->close(tx.conn);
        }
        /* Whatever failed, it means that the store is away. */
        if (!mdm_store_has_told(err)) {
            err->id = MDM_MSG_STORE_UNAVAILABLE;
        }
        return rc;
    }
    if (from < MDM_SCHEMA_VERSION) {
        mdm_log_msg(s->config.log, MDM_LOG_NOTICE, MDM_MSG_STORE_MIGRATED,
                    "the database schema was brought from version %d to %d",
                    from, MDM_SCHEMA_VERSION);
    }
    s->writer = tx.conn;
    return MDM_OK;
}

bool mdm_store_has_told(const mdm_err_t *err)
{
    return err->id == MDM_MSG_STORE_UNAVAILABLE ||
           err->id == MDM_MSG_STORE_NEWER ||
           err->id == MDM_MSG_SECRET_KEY_WRONG;
}

/* Says once that the store is gone and once that it is back. */
static void tell(mdm_store_t *s, mdm_rc rc)
{
    if (rc != MDM_OK && !s->told_down) {
        s->told_down = true;
        mdm_log_err(s->config.log, MDM_LOG_ERROR, MDM_MSG_STORE_UNAVAILABLE,
                    &s->open_err);
    } else if (rc == MDM_OK && s->told_down) {
        s->told_down = false;
        mdm_log_msg(s->config.log, MDM_LOG_NOTICE, MDM_MSG_STORE_BACK,
                    "the store can be used again");
    }
}

/* Called and returns with the mutex held. */
static mdm_rc ensure_open(mdm_store_t *s, mdm_err_t *err)
{
    mdm_err_t fault;
    mdm_rc rc;

    if (s->opened) {
        return MDM_OK;
    }
    if (s->opening || mdm_mono_us(NULL) < s->reopen_us) {
        if (s->open_err.rc == MDM_OK) {
            return mdm_err_set(err, MDM_EBUSY, 0, "the store is being opened");
        }
        if (err != NULL) {
            *err = s->open_err;
        }
        return s->open_err.rc;
    }
    s->opening = true;
    (void)pthread_mutex_unlock(&s->mutex);
    mdm_err_clear(&fault);
    rc = do_open(s, &fault);
    (void)pthread_mutex_lock(&s->mutex);
    s->opening = false;
    s->opened = rc == MDM_OK;
    s->open_err = fault;
    s->reopen_us = mdm_mono_us(NULL) + REOPEN_US;
    tell(s, rc);
    (void)pthread_cond_broadcast(&s->changed);
    if (rc != MDM_OK && err != NULL) {
        *err = fault;
    }
    return rc;
}

/* The same, but waits while another thread opens. */
static mdm_rc wait_open(mdm_store_t *s, int64_t until, mdm_err_t *err)
{
    while (s->opening && mdm_mono_us(NULL) < until) {
        (void)mdm_cond_wait_until(&s->changed, &s->mutex, until);
    }
    return ensure_open(s, err);
}

mdm_rc mdm_store_open(mdm_store_t *store, mdm_err_t *err)
{
    mdm_rc rc;

    (void)pthread_mutex_lock(&store->mutex);
    rc = wait_open(store, mdm_mono_us(NULL) + store->config.timeout_us, err);
    (void)pthread_mutex_unlock(&store->mutex);
    return rc;
}

/* ---- reading ------------------------------------------------------------ */

/* An idle reader, or a new one while fewer than allowed are open.  Mutex
 * held; released while the database opens. */
static mdm_rc get_reader(mdm_store_t *s, int64_t until, void **conn_r,
                         mdm_err_t *err)
{
    mdm_rc rc;

    for (;;) {
        if (s->idle > 0) {
            *conn_r = s->readers[--s->idle];
            return MDM_OK;
        }
        if (s->readers_open < s->config.connections) {
            s->readers_open++;
            (void)pthread_mutex_unlock(&s->mutex);
            rc = s->driver->open(s->url, s->state_dir, false, conn_r, err);
            (void)pthread_mutex_lock(&s->mutex);
            if (rc != MDM_OK) {
                s->readers_open--;
                (void)pthread_cond_broadcast(&s->changed);
            }
            return rc;
        }
        if (mdm_mono_us(NULL) >= until) {
            return mdm_err_set(err, MDM_EBUSY, MDM_MSG_STORE_SLOW,
                               "no connection to the store became free");
        }
        (void)mdm_cond_wait_until(&s->changed, &s->mutex, until);
    }
}

static void put_reader(mdm_store_t *s, void *conn)
{
    if (s->driver->broken(conn)) {
        s->readers_open--;
        s->driver->close(conn);
    } else {
        s->readers[s->idle++] = conn;
    }
    /* Not signal: writers and openers wait on the same condition. */
    (void)pthread_cond_broadcast(&s->changed);
}

mdm_rc mdm_store_read(mdm_store_t *store, mdm_tx_fn *fn, void *arg,
                      mdm_err_t *err)
{
    int64_t until = mdm_mono_us(NULL) + store->config.timeout_us;
    mdm_tx_t tx = {store->driver, NULL, store};
    mdm_rc rc;

    (void)pthread_mutex_lock(&store->mutex);
    rc = wait_open(store, until, err);
    if (rc == MDM_OK) {
        rc = get_reader(store, until, &tx.conn, err);
    }
    (void)pthread_mutex_unlock(&store->mutex);
    if (rc != MDM_OK) {
        return rc;
    }
    rc = fn(&tx, arg, err);
    (void)pthread_mutex_lock(&store->mutex);
    put_reader(store, tx.conn);
    (void)pthread_mutex_unlock(&store->mutex);
    return rc;
}

mdm_rc mdm_store_version(mdm_store_t *store, int64_t *version_r,
                         mdm_err_t *err)
{
    mdm_rc rc = mdm_store_open(store, err);

    (void)pthread_mutex_lock(&store->watch_mutex);
    if (rc == MDM_OK && store->watcher == NULL) {
        rc = store->driver->open(store->url, store->state_dir, false,
                                 &store->watcher, err);
    }
    if (rc == MDM_OK) {
        rc = store->driver->version(store->watcher, version_r, err);
    }
    if (store->watcher != NULL && store->driver->broken(store->watcher)) {
        store->driver->close(store->watcher);
        store->watcher = NULL;
    }
    (void)pthread_mutex_unlock(&store->watch_mutex);
    return rc;
}

/* ---- writing ------------------------------------------------------------ */

static void fail_from(op_t *op, mdm_rc rc, const mdm_err_t *err)
{
    for (; op != NULL; op = op->next) {
        if (op->rc == MDM_OK) {
            op->rc = rc;
            if (op->err != NULL) {
                *op->err = *err;
            }
        }
    }
}

/* One operation in a savepoint.  False: the transaction itself is lost. */
static bool run_op(mdm_tx_t *tx, op_t *op, bool alone, mdm_err_t *err)
{
    const mdm_driver_t *driver = tx->driver;

    if (!alone && driver->savepoint(tx->conn, err) != MDM_OK) {
        return false;
    }
    op->rc = op->fn(tx, op->arg, op->err);
    if (!driver->in_transaction(tx->conn)) {
        (void)mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_FAULT,
                          "the database gave up the transaction");
        return false;
    }
    if (alone) {
        return true;
    }
    if (op->rc == MDM_OK) {
        return driver->release(tx->conn, err) == MDM_OK;
    }
    return driver->rollback_to(tx->conn, err) == MDM_OK;
}

/* Runs the batch in one transaction.  Sets every operation's result.  Not
 * MDM_OK: the secret key was replaced, the store must be opened anew. */
static mdm_rc run_batch(mdm_store_t *s, op_t *batch, mdm_err_t *fault)
{
    mdm_tx_t tx = {s->driver, s->writer, s};
    int64_t until = mdm_mono_us(NULL) + s->config.timeout_us;
    bool alone = batch->next == NULL;
    mdm_err_t err;
    op_t *op;
    mdm_rc rc;

    mdm_err_clear(&err);
    rc = s->driver->begin(tx.conn, until, &err);
    if (rc != MDM_OK) {
        fail_from(batch, rc, &err);
        return MDM_OK;
    }
    rc = mdm_store_check_key(&tx, s->seal, &err);
    *fault = err;
    for (op = batch; rc == MDM_OK && op != NULL; op = op->next) {
        if (!run_op(&tx, op, alone, &err)) {
            rc = err.rc != MDM_OK ? err.rc : MDM_EUNAVAIL;
        }
    }
    if (rc == MDM_OK && !(alone && batch->rc != MDM_OK)) {
        rc = s->driver->commit(tx.conn, &err);
    }
    if (rc != MDM_OK || (alone && batch->rc != MDM_OK)) {
        s->driver->rollback(tx.conn);
    }
    if (rc != MDM_OK) {
        fail_from(batch, rc, &err);
    }
    return fault->id == MDM_MSG_SECRET_KEY_WRONG ? fault->rc : MDM_OK;
}

/* Takes up to BATCH_MAX waiting operations.  Mutex held. */
static op_t *take_batch(mdm_store_t *s)
{
    op_t *batch = s->first;
    op_t *op;
    int n = 1;

    for (op = batch; op->next != NULL && n < BATCH_MAX; op = op->next) {
        op->started = true;
        n++;
    }
    op->started = true;
    s->first = op->next;
    if (s->first == NULL) {
        s->last = NULL;
    }
    op->next = NULL;
    return batch;
}

/* The caller becomes the writer for one batch.  Mutex held on both ends. */
static void write_batch(mdm_store_t *s)
{
    op_t *batch = take_batch(s);
    mdm_err_t fault;
    op_t *next;
    mdm_rc rc;

    s->writing = true;
    (void)pthread_mutex_unlock(&s->mutex);
    mdm_err_clear(&fault);
    rc = run_batch(s, batch, &fault);
    (void)pthread_mutex_lock(&s->mutex);
    s->writing = false;
    for (; batch != NULL; batch = next) {
        next = batch->next; /* the owner may return as soon as it is done */
        batch->done = true;
    }
    if (rc != MDM_OK || s->driver->broken(s->writer)) {
        s->driver->close(s->writer);
        s->writer = NULL;
        s->opened = false;
    }
    if (rc != MDM_OK) {
        s->open_err = fault;
        s->reopen_us = mdm_mono_us(NULL) + REOPEN_US;
        tell(s, rc);
    }
    (void)pthread_cond_broadcast(&s->changed);
}

static void add_op(mdm_store_t *s, op_t *op)
{
    if (s->last != NULL) {
        s->last->next = op;
    } else {
        s->first = op;
    }
    s->last = op;
}

static void remove_op(mdm_store_t *s, op_t *op)
{
    op_t **at = &s->first;
    op_t *prev = NULL;

    while (*at != op) {
        prev = *at;
        at = &(*at)->next;
    }
    *at = op->next;
    if (s->last == op) {
        s->last = prev;
    }
}

mdm_rc mdm_store_write(mdm_store_t *store, mdm_tx_fn *fn, void *arg,
                       mdm_err_t *err)
{
    int64_t until = mdm_mono_us(NULL) + store->config.timeout_us;
    op_t op = {.fn = fn, .arg = arg, .err = err};
    mdm_rc rc;

    (void)pthread_mutex_lock(&store->mutex);
    add_op(store, &op);
    while (!op.done) {
        if (op.started || store->writing) {
            if (!op.started && mdm_mono_us(NULL) >= until) {
                op.rc = mdm_err_set(err, MDM_EBUSY, MDM_MSG_STORE_SLOW,
                                    "the store's writer did not come free");
                remove_op(store, &op);
                break;
            }
            (void)mdm_cond_wait_until(&store->changed, &store->mutex,
                                      op.started ? until + 3600 * MDM_SEC
                                                 : until);
            continue;
        }
        rc = wait_open(store, until, err);
        if (rc != MDM_OK && !op.started) {
            op.rc = rc;
            remove_op(store, &op);
            break;
        }
        if (rc == MDM_OK && !op.started && !store->writing) {
            write_batch(store);
        }
    }
    (void)pthread_mutex_unlock(&store->mutex);
    return op.rc;
}
