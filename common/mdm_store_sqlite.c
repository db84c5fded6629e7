/*
 * mdm_store_sqlite.c - the SQLite driver.
 *
 * Write-ahead log, synchronous=FULL: a commit that was reported is on the
 * disk.  Several processes write: SQLite's own waiting is unfair and starves,
 * so a writer first takes an exclusive flock on a file beside the database (a
 * queue ticket), then BEGIN IMMEDIATE; a busy handler with short random
 * sleeps and a deadline covers other programs that know no ticket.  A
 * connection is opened in the process and used by one thread at a time.
 */
#include "mdm_sql.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "mdm_log.h"
#include "mdm_str.h"
#include "mdm_time.h"

/* Waits for another program's lock outside a transaction of ours. */
#define READ_WAIT_US (2 * MDM_SEC)
/* Waits for other starting processes. */
#define OPEN_WAIT_US (5 * MDM_SEC)

typedef struct conn {
    sqlite3 *db;
    sqlite3_stmt *stmts[MDM_SQL_COUNT];
    int lock_fd;      /* the ticket; -1 on a reader */
    int64_t until_us; /* deadline of the busy handler */
    uint32_t dice;
    bool broken;
} conn_t;

static void short_sleep(uint32_t *dice, int64_t at_most_us)
{
    struct timespec ts = {0, 0};

    *dice = *dice * 1664525U + 1013904223U;
    ts.tv_nsec = (long)(100 + (*dice >> 16) % (uint32_t)at_most_us) * 1000;
    (void)nanosleep(&ts, NULL);
}

static int on_busy(void *arg, int times)
{
    conn_t *c = arg;

    (void)times;
    if (mdm_mono_us(NULL) >= c->until_us) {
        return 0;
    }
    short_sleep(&c->dice, 500);
    return 1;
}

/* What an SQLite code means for the request. */
static mdm_rc fault(conn_t *c, int code, const char *doing, mdm_err_t *err)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return mdm_err_set(err, MDM_EBUSY, MDM_MSG_STORE_SLOW,
                           "%s: another writer holds the database", doing);
    case SQLITE_CONSTRAINT:
        return mdm_err_set(err, MDM_ECONFLICT, 0, "%s: exists already",
                           doing);
    case SQLITE_NOMEM:
        return mdm_err_nomem(err);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        c->broken = true;
        break;
    default:
        break;
    }
    return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_FAULT, "%s: %s",
                       doing,
                       c->db != NULL ? sqlite3_errmsg(c->db)
                                     : sqlite3_errstr(code));
}

static mdm_rc run(conn_t *c, const char *sql, mdm_err_t *err)
{
    int code;

    c->until_us = mdm_mono_us(NULL) + READ_WAIT_US;
    code = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? MDM_OK : fault(c, code, "database", err);
}

static void close_conn(void *arg)
{
    conn_t *c = arg;
    size_t i;

    for (i = 0; i < MDM_SQL_COUNT; i++) {
        sqlite3_finalize(c->stmts[i]);
    }
    sqlite3_close(c->db);
    if (c->lock_fd >= 0) {
        close(c->lock_fd);
    }
    free(c);
}

static mdm_rc open_lock(conn_t *c, const char *path, mdm_err_t *err)
{
    char lock[PATH_MAX + 8];

    (void)snprintf(lock, sizeof(lock), "%s.lock", path);
    c->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (c->lock_fd < 0) {
        return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_UNAVAILABLE,
                           "cannot open %s: %s", lock, strerror(errno));
    }
    return MDM_OK;
}

static void drop_ticket(conn_t *c)
{
    (void)flock(c->lock_fd, LOCK_UN);
}

static mdm_rc take_ticket(conn_t *c, mdm_err_t *err)
{
    while (flock(c->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_FAULT,
                               "cannot lock the database: %s",
                               strerror(errno));
        }
        if (mdm_mono_us(NULL) >= c->until_us) {
            return mdm_err_set(err, MDM_EBUSY, MDM_MSG_STORE_SLOW,
                               "another process held the database too long");
        }
        short_sleep(&c->dice, 300);
    }
    return MDM_OK;
}

/* SQLite does not wait while it changes a new database to a write-ahead log:
 * processes that start together do so one after the other.  A writer is
 * always opened before the readers of its process. */
static mdm_rc prepare_conn(conn_t *c, bool writer, mdm_err_t *err)
{
    int64_t until = mdm_mono_us(NULL) + OPEN_WAIT_US;
    mdm_rc rc = MDM_OK;

    (void)sqlite3_extended_result_codes(c->db, 1);
    (void)sqlite3_busy_handler(c->db, on_busy, c);
    c->until_us = until;
    if (writer) {
        rc = take_ticket(c, err);
    }
    while (rc == MDM_OK) {
        rc = run(c,
                 "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                 "PRAGMA temp_store = MEMORY;",
                 err);
        if (rc != MDM_EBUSY || mdm_mono_us(NULL) >= until) {
            break;
        }
        short_sleep(&c->dice, 5000);
        rc = MDM_OK;
    }
    if (writer) {
        drop_ticket(c);
    }
    return rc;
}

static mdm_rc open_conn(const char *url, const char *dir, bool writer,
                        void **conn_r, mdm_err_t *err)
{
    char path[PATH_MAX];
    conn_t *c = calloc(1, sizeof(*c));
    mdm_rc rc = MDM_OK;
    int code;
    int fd;

    *conn_r = NULL;
    if (c == NULL) {
        return mdm_err_nomem(err);
    }
    (void)snprintf(path, sizeof(path), "%s%s%s", url[0] == '/' ? "" : dir,
                   url[0] == '/' ? "" : "/", url);
    c->lock_fd = -1;
    /* SQLite would make it readable by the group; its other files get the
     * mode of this one.  Only a file that nobody has yet: closing a
     * descriptor of the database would drop the locks that this process's
     * other connections hold on it. */
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
    c->dice = (uint32_t)mdm_mono_us(NULL) ^ (uint32_t)getpid() << 16;
    code = sqlite3_open_v2(path, &c->db,
                           SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                               SQLITE_OPEN_NOMUTEX,
                           NULL);
    if (code != SQLITE_OK) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_UNAVAILABLE,
                         "cannot open %s: %s", path, sqlite3_errstr(code));
    }
    if (rc == MDM_OK && writer) {
        rc = open_lock(c, path, err);
    }
    if (rc == MDM_OK) {
        rc = prepare_conn(c, writer, err);
    }
    if (rc != MDM_OK) {
        close_conn(c);
        return rc;
    }
    *conn_r = c;
    return MDM_OK;
}

static mdm_rc begin(void *arg, int64_t until_us, mdm_err_t *err)
{
    conn_t *c = arg;
    mdm_rc rc;
    int code;

    c->until_us = until_us;
    rc = take_ticket(c, err);
    if (rc != MDM_OK) {
        return rc;
    }
    code = sqlite3_exec(c->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        drop_ticket(c);
        return fault(c, code, "begin", err);
    }
    return MDM_OK;
}

static mdm_rc commit(void *arg, mdm_err_t *err)
{
    conn_t *c = arg;
    mdm_rc rc = run(c, "COMMIT", err);

    if (rc == MDM_OK) {
        drop_ticket(c);
    }
    return rc;
}

static void rollback(void *arg)
{
    conn_t *c = arg;

    if (!sqlite3_get_autocommit(c->db)) {
        (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    }
    drop_ticket(c);
}

static mdm_rc savepoint(void *conn, mdm_err_t *err)
{
    return run(conn, "SAVEPOINT one", err);
}

static mdm_rc release(void *conn, mdm_err_t *err)
{
    return run(conn, "RELEASE one", err);
}

static mdm_rc rollback_to(void *conn, mdm_err_t *err)
{
    return run(conn, "ROLLBACK TO one; RELEASE one", err);
}

static bool in_transaction(void *conn)
{
    return !sqlite3_get_autocommit(((conn_t *)conn)->db);
}

static bool is_broken(void *conn)
{
    return ((conn_t *)conn)->broken;
}

static mdm_rc exec(void *conn, const char *sql, mdm_err_t *err)
{
    return run(conn, sql, err);
}

static mdm_rc prepare(void *arg, mdm_stmt_t stmt, void **st_r, mdm_err_t *err)
{
    conn_t *c = arg;
    int code;

    if (c->stmts[stmt] == NULL) {
        code = sqlite3_prepare_v3(c->db, mdm_sql_text(stmt), -1,
                                  SQLITE_PREPARE_PERSISTENT, &c->stmts[stmt],
                                  NULL);
        if (code != SQLITE_OK) {
            return fault(c, code, "prepare", err);
        }
    }
    *st_r = c->stmts[stmt];
    return MDM_OK;
}

static void bind_int(void *st, int index, int64_t value)
{
    (void)sqlite3_bind_int64(st, index, value);
}

/* STATIC: parameters live until mdm_query_end() resets the statement. */
static void bind_text(void *st, int index, mdm_str_t value)
{
    if (value.s == NULL) {
        (void)sqlite3_bind_null(st, index);
    } else {
        (void)sqlite3_bind_text64(st, index, value.s, value.n, SQLITE_STATIC,
                                  SQLITE_UTF8);
    }
}

static void bind_blob(void *st, int index, mdm_str_t value)
{
    if (value.s == NULL) {
        (void)sqlite3_bind_null(st, index);
    } else {
        (void)sqlite3_bind_blob64(st, index, value.s, value.n, SQLITE_STATIC);
    }
}

static mdm_rc step(void *arg, void *st, bool *row_r, mdm_err_t *err)
{
    conn_t *c = arg;
    int code;

    if (sqlite3_get_autocommit(c->db)) {
        c->until_us = mdm_mono_us(NULL) + READ_WAIT_US;
    }
    code = sqlite3_step(st);
    *row_r = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE) {
        return MDM_OK;
    }
    return fault(c, code, "statement", err);
}

static int64_t column_int(void *st, int column)
{
    return sqlite3_column_int64(st, column);
}

static bool column_null(void *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL;
}

static mdm_str_t column_bytes(void *st, int column)
{
    const void *data = sqlite3_column_blob(st, column);
    size_t n = (size_t)sqlite3_column_bytes(st, column);

    if (column_null(st, column)) {
        return MDM_STR_NONE;
    }
    return (mdm_str_t){data != NULL ? data : "", n};
}

static void reset(void *st)
{
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
}

static int64_t changes(void *conn)
{
    return sqlite3_changes64(((conn_t *)conn)->db);
}

static mdm_rc version(void *arg, int64_t *version_r, mdm_err_t *err)
{
    conn_t *c = arg;
    sqlite3_stmt *st = NULL;
    int code;

    code = sqlite3_prepare_v2(c->db, "PRAGMA data_version", -1, &st, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(st);
        *version_r = code == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    }
    sqlite3_finalize(st);
    return code == SQLITE_ROW ? MDM_OK : fault(c, code, "data_version", err);
}

const mdm_driver_t mdm_driver_sqlite = {
    .name = "sqlite",
    .open = open_conn,
    .close = close_conn,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .savepoint = savepoint,
    .release = release,
    .rollback_to = rollback_to,
    .in_transaction = in_transaction,
    .broken = is_broken,
    .exec = exec,
    .prepare = prepare,
    .bind_int = bind_int,
    .bind_text = bind_text,
    .bind_blob = bind_blob,
    .step = step,
    .column_int = column_int,
    .column_null = column_null,
    .column_bytes = column_bytes,
    .reset = reset,
    .changes = changes,
    .version = version,
};
