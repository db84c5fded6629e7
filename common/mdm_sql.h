/*
 * mdm_sql.h - between the store's verbs and its drivers: named statements,
 * the schema, and one way to run them on any database.
 *
 * For mdm_store*.c and mdm_sql.c only.  A connection belongs to one thread
 * at a time.
 */
#ifndef MDM_SQL_H
#define MDM_SQL_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_store.h"

#define MDM_SCHEMA_VERSION 4

/* Every statement of the program; text in mdm_sql.c. */
typedef enum mdm_stmt {
    MDM_SQL_META_GET,
    MDM_SQL_META_ADD,
    MDM_SQL_META_SET,
    MDM_SQL_META_DELETE,
    MDM_SQL_POLL,
    MDM_SQL_ENROLLMENT_GET,
    MDM_SQL_ENROLLMENT_LIST,
    MDM_SQL_ENROLLMENT_BY_SERIAL,
    MDM_SQL_ENROLLMENT_GIVEN_UP,
    MDM_SQL_ENROLLMENT_ADD,
    MDM_SQL_ENROLLMENT_SET_DEVICE,
    MDM_SQL_AUTHENTICATE,
    MDM_SQL_TOKEN_UPDATE,
    MDM_SQL_DISABLE_USERS,
    MDM_SQL_DISABLE_ALL,
    MDM_SQL_SEEN,
    MDM_SQL_SILENT_GET,
    MDM_SQL_SILENT_SET,
    MDM_SQL_AUTHENTICATE_RENEWED,
    MDM_SQL_BLOCK,
    MDM_SQL_BLOCKED_GET,
    MDM_SQL_BLOCKED_TOLD,
    MDM_SQL_BOOTSTRAP_TOKEN_SET,
    MDM_SQL_SECRET_GET,
    MDM_SQL_TOPIC_COUNT_OTHER,
    MDM_SQL_TOPIC_USERS,
    MDM_SQL_IDENTITY_GET,
    MDM_SQL_OWNER_GET,
    MDM_SQL_IDENTITY_ANY,
    MDM_SQL_IDENTITY_RENEWAL,
    MDM_SQL_IDENTITY_RETIRE,
    MDM_SQL_IDENTITY_BIND,
    MDM_SQL_IDENTITY_CURRENT,
    MDM_SQL_COMMAND_ADD,
    MDM_SQL_COMMAND_UNLOCKS,
    MDM_SQL_COMMAND_GET,
    MDM_SQL_TARGET,
    MDM_SQL_TARGET_DEVICE,
    MDM_SQL_QUEUE_ADD,
    MDM_SQL_QUEUE_FIND,
    MDM_SQL_QUEUE_NEXT,
    MDM_SQL_QUEUE_NEXT_SKIP,
    MDM_SQL_QUEUE_SENT,
    MDM_SQL_QUEUE_NOT_NOW,
    MDM_SQL_QUEUE_FINISH,
    MDM_SQL_QUEUE_RETIRE,
    MDM_SQL_QUEUE_EXPIRED,
    MDM_SQL_QUEUE_EXPIRE,
    MDM_SQL_RESULTS_OLD,
    MDM_SQL_RESULT_PRUNE,
    MDM_SQL_COMMANDS_OLD,
    MDM_SQL_COMMAND_PRUNE,
    MDM_SQL_QUEUE_PUT_OFF,
    MDM_SQL_QUEUE_LIST_ACTIVE,
    MDM_SQL_QUEUE_LIST_OVER,
    MDM_SQL_QUEUE_CANCEL,
    MDM_SQL_QUEUE_CANCEL_ALL,
    MDM_SQL_QUEUE_COUNTS,
    MDM_SQL_COMMAND_STATES,
    MDM_SQL_RESULT_GET,
    MDM_SQL_PUSH_MARK,
    MDM_SQL_QUEUE_WAITING,
    MDM_SQL_PUSH_CLEAR_DEVICE,
    MDM_SQL_PUSH_GET,
    MDM_SQL_PUSH_PLAN,
    MDM_SQL_PUSH_PLAN_ADD,
    MDM_SQL_PUSH_SETTLE,
    MDM_SQL_PUSH_NEXT_DUE,
    MDM_SQL_PUSH_CLAIM,
    MDM_SQL_PUSH_PAYLOAD,
    MDM_SQL_PUSH_DONE,
    MDM_SQL_PUSH_RETRY,
    MDM_SQL_PUSH_BACKLOG,
    MDM_SQL_PUSH_GIVEN_UP,
    MDM_SQL_PUSH_TOKEN_REFUSED,
    MDM_SQL_PUSH_TOKEN_REVIVE,
    MDM_SQL_PUSH_STATE,
    MDM_SQL_PUSH_RELEASE,
    MDM_SQL_PUSH_RECOVER,
    MDM_SQL_PUSHCERT_GET,
    MDM_SQL_PUSHCERT_KNOWN,
    MDM_SQL_PUSHCERT_VERSION,
    MDM_SQL_PUSHCERT_LIST,
    MDM_SQL_PUSHCERT_SET,
    MDM_SQL_PUSHCERT_SUSPEND,
    MDM_SQL_PUSHCERT_RESUME,
    MDM_SQL_PUSHCERT_ACCEPTED,
    MDM_SQL_LEASE_GET,
    MDM_SQL_LEASE_TAKE,
    MDM_SQL_LEASE_DROP,
    MDM_SQL_EVENT_ADD,
    MDM_SQL_EVENT_LIST,
    MDM_SQL_EVENT_OLD,
    MDM_SQL_EVENT_PRUNE,
    MDM_SQL_NOTICE_GET,
    MDM_SQL_NOTICE_SET,
    MDM_SQL_CHALLENGE_ADD,
    MDM_SQL_CHALLENGE_GET,
    MDM_SQL_CHALLENGE_DROP,
    MDM_SQL_CHALLENGE_PRUNE,
    MDM_SQL_AUTHORITY_ADD,
    MDM_SQL_AUTHORITY_LIST,
    MDM_SQL_AUTHORITY_IN_STATE,
    MDM_SQL_AUTHORITY_MOVE,
    MDM_SQL_ISSUED_ADD,
    MDM_SQL_ISSUED_GET,
    MDM_SQL_ISSUED_OF,
    MDM_SQL_ISSUED_SERIAL,
    MDM_SQL_ISSUED_LIST,
    MDM_SQL_ISSUED_REVOKE,
    MDM_SQL_ISSUED_PRUNE,
    MDM_SQL_ACCOUNT_TOKEN_ADD,
    MDM_SQL_ACCOUNT_TOKEN_GET,
    MDM_SQL_ACCOUNT_TOKEN_OF_DEVICE,
    MDM_SQL_ACCOUNT_TOKEN_SUCCEED,
    MDM_SQL_ACCOUNT_TOKEN_BIND,
    MDM_SQL_ACCOUNT_TOKEN_DROP,
    MDM_SQL_ACCOUNT_TOKEN_REVOKE,
    MDM_SQL_ACCOUNT_TOKEN_REVOKE_ACCOUNT,
    MDM_SQL_ACCOUNT_TOKEN_LIST,
    MDM_SQL_ACCOUNT_TOKEN_LIST_ONE,
    MDM_SQL_ACCOUNT_TOKEN_PRUNE,
    MDM_SQL_INTRODUCTION_PUT,
    MDM_SQL_INTRODUCTION_PRUNE,
    MDM_SQL_INTRODUCTION_CROWD,
    MDM_SQL_INTRODUCTION_LIST,
/* Four for each sealed column, always in this order: look for values under
 * another key, get one, put the new one in its place, how many rows. */
#define MDM_SEALED(id, table, key, kind, column, where, row)                  \
    MDM_SQL_##id##_STALE, MDM_SQL_##id##_GET, MDM_SQL_##id##_RENEW,           \
        MDM_SQL_##id##_ROWS,
#include "mdm_sealed.def"
#undef MDM_SEALED
    MDM_SQL_COUNT
} mdm_stmt_t;

/* One sealed column (mdm_sealed.def). */
typedef struct mdm_sealed {
    const char *table;
    const char *column;
    const char *where;
    bool text_key;
    mdm_stmt_t stale; /* parameters: key behind which, mark, limit; gives
                       * key, whether it is stale, length */
    mdm_stmt_t get;   /* key; gives row (mdm_sealed.def) and value */
    mdm_stmt_t renew; /* key, head of the value that is there, new value */
    mdm_stmt_t rows;  /* none; gives how many rows there are at most */
} mdm_sealed_t;

const mdm_sealed_t *mdm_sealed_columns(size_t *n_r);

/* Text with ?1, ?2 ... for parameters. */
const char *mdm_sql_text(mdm_stmt_t stmt);

/* One database driver.  `conn` is its connection, `st` its running statement.
 * Parameters and columns are numbered from 1 and 0. */
typedef struct mdm_driver {
    const char *name;
    /* The url behind its scheme.  MDM_EUNAVAIL. */
    mdm_rc (*open)(const char *url, const char *dir, bool writer,
                   void **conn_r, mdm_err_t *err);
    void (*close)(void *conn);
    /* Begins a writing transaction, waiting for others until the monotonic
     * time until_us.  MDM_EBUSY, MDM_EUNAVAIL. */
    mdm_rc (*begin)(void *conn, int64_t until_us, mdm_err_t *err);
    mdm_rc (*commit)(void *conn, mdm_err_t *err);
    void (*rollback)(void *conn);
    /* One level, inside a transaction. */
    mdm_rc (*savepoint)(void *conn, mdm_err_t *err);
    mdm_rc (*release)(void *conn, mdm_err_t *err);
    mdm_rc (*rollback_to)(void *conn, mdm_err_t *err);
    /* Is the transaction still there, and the connection usable? */
    bool (*in_transaction)(void *conn);
    bool (*broken)(void *conn);
    /* Several statements without parameters (schema). */
    mdm_rc (*exec)(void *conn, const char *sql, mdm_err_t *err);
    mdm_rc (*prepare)(void *conn, mdm_stmt_t stmt, void **st_r,
                      mdm_err_t *err);
    void (*bind_int)(void *st, int index, int64_t value);
    void (*bind_text)(void *st, int index, mdm_str_t value);
    void (*bind_blob)(void *st, int index, mdm_str_t value);
    /* *row_r: there is a row.  MDM_ECONFLICT: a unique key exists already. */
    mdm_rc (*step)(void *conn, void *st, bool *row_r, mdm_err_t *err);
    int64_t (*column_int)(void *st, int column);
    bool (*column_null)(void *st, int column);
    mdm_str_t (*column_bytes)(void *st, int column);
    void (*reset)(void *st);
    int64_t (*changes)(void *conn);
    /* Changes whenever another connection has committed. */
    mdm_rc (*version)(void *conn, int64_t *version_r, mdm_err_t *err);
} mdm_driver_t;

extern const mdm_driver_t mdm_driver_sqlite;

/* One transaction (or plain read) as the verbs see it. */
struct mdm_tx {
    const mdm_driver_t *driver;
    void *conn;
    mdm_store_t *store;
};

/* A running statement.  Always end with mdm_query_end(). */
typedef struct mdm_query {
    mdm_tx_t *tx;
    void *st;
    mdm_rc rc;
    mdm_err_t *err;
} mdm_query_t;

/* Prepares and binds.  `types`: one letter a parameter: i int64_t, o
 * const int64_t * (NULL becomes NULL), t mdm_str_t text, b mdm_str_t bytes;
 * absent strings become NULL.  Faults
 * stick and show up in mdm_query_row(). */
void mdm_query_begin(mdm_query_t *query, mdm_tx_t *tx, mdm_stmt_t stmt,
                     mdm_err_t *err, const char *types, ...);
/* Next row?  MDM_OK with *row_r, or the fault. */
mdm_rc mdm_query_row(mdm_query_t *query, bool *row_r) MDM_USE_RESULT;
int64_t mdm_query_int(const mdm_query_t *query, int column);
bool mdm_query_null(const mdm_query_t *query, int column);
/* Valid until the next mdm_query_row() or mdm_query_end(). */
mdm_str_t mdm_query_str(const mdm_query_t *query, int column);
void mdm_query_end(mdm_query_t *query);

/* A statement without rows; *changes_r (may be NULL) counts rows changed. */
mdm_rc mdm_sql_run(mdm_tx_t *tx, mdm_stmt_t stmt, int64_t *changes_r,
                   mdm_err_t *err, const char *types, ...);

/* Brings the schema to MDM_SCHEMA_VERSION inside a transaction of its own;
 * *from_r: the version found (0: empty database).  Refuses a newer schema
 * with MDM_ECONFIG. */
mdm_rc mdm_sql_migrate(mdm_tx_t *tx, int64_t until_us, int *from_r,
                       mdm_err_t *err) MDM_USE_RESULT;

#endif
