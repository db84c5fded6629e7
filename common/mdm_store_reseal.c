/*
 * mdm_store_reseal.c - after the secret key was replaced: every value that
 * stands under the former one is sealed anew, while the store is in use.
 *
 * The walk goes through the sealed columns (mdm_sealed.def), each by its
 * table's primary key.  A slice reads on without holding up anybody, opens
 * and closes what is stale, and writes it in one short transaction together
 * with where the walk stands; a value that changed in between is left alone.
 * Passes are repeated until one has met no stale value: since nobody seals
 * under the former key any more (mdm_store_key.c) that one proves that none
 * is left.
 *
 * A value that opens under neither key is told of and left as it is: the
 * former key is of no use to it.
 */
#include "mdm_store_int.h"

#include <stdio.h>
#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define SLICE_VALUES 200
#define SLICE_BYTES (1024 * 1024)
#define SLICE_US (20 * MDM_SEC / 1000) /* reading, before the thread goes on */
#define SCAN_ROWS 2000

typedef struct item {
    mdm_str_t key;
    char head[MDM_SEAL_HEAD_LEN]; /* of the value that was there */
    mdm_str_t sealed;             /* the new one; absent: nothing to write */
} item_t;

/* One slice. */
typedef struct slice {
    const mdm_sealed_t *column;
    const mdm_seal_t *seal;
    mdm_arena_t *arena; /* keys and new values */
    item_t items[SLICE_VALUES];
    size_t limit; /* of them */
    size_t n;
    int64_t bytes;
    mdm_reseal_t at; /* where the walk stands behind it */
    bool column_end;
    bool idle;  /* no rotation is under way */
    bool later; /* not by this process, or not now */
    bool finished;
    const mdm_log_t *log;
} slice_t;

/* ---- where the walk stands ---------------------------------------------- */

static bool parse_number(mdm_str_t *rest, int64_t *value_r)
{
    uint64_t n;

    if (!mdm_parse_u64(mdm_str_split(rest, ' '), INT64_MAX, &n)) {
        return false;
    }
    *value_r = (int64_t)n;
    return true;
}

/* "table.column done found damaged key"; a column that is not known, after
 * an update, begins the walk anew. */
static void parse_position(mdm_str_t text, mdm_reseal_t *at)
{
    const mdm_sealed_t *columns;
    mdm_reseal_t fresh = *at;
    mdm_str_t name = mdm_str_split(&text, ' ');
    char known[128];
    size_t n;
    size_t i;

    columns = mdm_sealed_columns(&n);
    for (i = 0; i < n; i++) {
        (void)snprintf(known, sizeof(known), "%s.%s", columns[i].table,
                       columns[i].column);
        if (mdm_str_is(name, known)) {
            fresh.column = i;
            break;
        }
    }
    if (i < n && parse_number(&text, &fresh.done) &&
        parse_number(&text, &fresh.found) &&
        parse_number(&text, &fresh.damaged) && text.s != NULL &&
        text.n < sizeof(fresh.key)) {
        memcpy(fresh.key, text.s, text.n);
        fresh.key[text.n] = '\0';
        *at = fresh;
    }
}

mdm_rc mdm_reseal_load(mdm_tx_t *tx, const mdm_keys_t *keys,
                       mdm_reseal_t *at_r, mdm_err_t *err)
{
    mdm_reseal_t at;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(&at, 0, sizeof(at));
    at.keys = *keys;
    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t", MDM_STR("reseal"));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        parse_position(mdm_query_str(&q, 0), &at);
    }
    mdm_query_end(&q);
    *at_r = at;
    return rc;
}

static mdm_rc save_position(mdm_tx_t *tx, const mdm_reseal_t *at,
                            mdm_err_t *err)
{
    const mdm_sealed_t *columns;
    char text[MDM_RESEAL_KEY_SIZE + 256];
    size_t n;

    columns = mdm_sealed_columns(&n);
    (void)snprintf(text, sizeof(text), "%s.%s %lld %lld %lld %s",
                   columns[at->column].table, columns[at->column].column,
                   (long long)at->done, (long long)at->found,
                   (long long)at->damaged, at->key);
    return mdm_sql_run(tx, MDM_SQL_META_SET, NULL, err, "tt",
                       MDM_STR("reseal"), mdm_str_from(text));
}

mdm_rc mdm_reseal_left(mdm_tx_t *tx, const mdm_reseal_t *at, int64_t *left_r,
                       mdm_err_t *err)
{
    const mdm_sealed_t *columns;
    mdm_query_t q;
    uint64_t past;
    int64_t rows;
    bool row;
    size_t n;
    size_t i;
    mdm_rc rc = MDM_OK;

    *left_r = 0;
    columns = mdm_sealed_columns(&n);
    for (i = at->column; rc == MDM_OK && i < n; i++) {
        mdm_query_begin(&q, tx, columns[i].rows, err, "");
        rc = mdm_query_row(&q, &row);
        rows = rc == MDM_OK && row && !mdm_query_null(&q, 0)
                   ? mdm_query_int(&q, 0)
                   : 0;
        mdm_query_end(&q);
        if (i == at->column && !columns[i].text_key &&
            mdm_parse_u64(mdm_str_from(at->key), INT64_MAX, &past)) {
            rows = rows > (int64_t)past ? rows - (int64_t)past : 0;
        }
        *left_r += rows;
    }
    return rc;
}

/* ---- reading ------------------------------------------------------------ */

/* The number that a key stands for; the least one before the first. */
static int64_t key_number(const char *key)
{
    uint64_t n;

    return mdm_parse_u64(mdm_str_from(key), INT64_MAX, &n) ? (int64_t)n
                                                           : INT64_MIN;
}

static void begin_keyed(mdm_query_t *q, mdm_tx_t *tx, mdm_stmt_t stmt,
                        const slice_t *s, const char *key, mdm_err_t *err)
{
    if (stmt == s->column->get) {
        if (s->column->text_key) {
            mdm_query_begin(q, tx, stmt, err, "t", mdm_str_from(key));
        } else {
            mdm_query_begin(q, tx, stmt, err, "i", key_number(key));
        }
    } else if (s->column->text_key) {
        mdm_query_begin(q, tx, stmt, err, "tbi", mdm_str_from(key),
                        mdm_seal_mark(s->seal), (int64_t)SCAN_ROWS);
    } else {
        mdm_query_begin(q, tx, stmt, err, "ibi", key_number(key),
                        mdm_seal_mark(s->seal), (int64_t)SCAN_ROWS);
    }
}

/* Notes the row if its value is stale.  False: it belongs to the next
 * slice. */
static bool note_row(slice_t *s, const mdm_query_t *q, mdm_rc *rc,
                     mdm_err_t *err)
{
    mdm_str_t key = mdm_query_str(q, 0);
    int64_t bytes = mdm_query_int(q, 2);

    if (key.n >= sizeof(s->at.key)) {
        *rc = mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                          "a key of %s is too long", s->column->table);
        return false;
    }
    if (mdm_query_int(q, 1) != 0) {
        if (s->n == s->limit ||
            (s->n > 0 && s->bytes + bytes > SLICE_BYTES)) {
            return false;
        }
        if (!mdm_arena_str(s->arena, key, &s->items[s->n].key)) {
            *rc = mdm_err_nomem(err);
            return false;
        }
        s->n++;
        s->bytes += bytes;
    }
    memcpy(s->at.key, key.s, key.n);
    s->at.key[key.n] = '\0';
    return true;
}

/* Goes on from where the walk stands until the slice is full. */
static mdm_rc scan(mdm_tx_t *tx, slice_t *s, mdm_err_t *err)
{
    int64_t until = mdm_mono_us(NULL) + SLICE_US;
    mdm_rc rc = MDM_OK;
    bool more = true;
    bool row = true;
    int rows = 0;
    mdm_query_t q;

    begin_keyed(&q, tx, s->column->stale, s, s->at.key, err);
    while (more && (rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        rows++;
        more = note_row(s, &q, &rc, err) && s->bytes < SLICE_BYTES &&
               mdm_mono_us(NULL) < until;
    }
    mdm_query_end(&q);
    s->column_end = rc == MDM_OK && !row && rows < SCAN_ROWS;
    return rc;
}

/* Opens the value of one item and closes it under the new key. */
static mdm_rc renew(mdm_tx_t *tx, slice_t *s, item_t *item, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_str_t sealed;
    mdm_str_t plain;
    mdm_query_t q;
    char *where;
    mdm_rc rc;
    bool row;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    begin_keyed(&q, tx, s->column->get, s, item->key.s, err);
    rc = mdm_query_row(&q, &row);
    sealed = rc == MDM_OK && row ? mdm_query_str(&q, 1) : MDM_STR_NONE;
    if (rc == MDM_OK && sealed.n >= MDM_SEAL_HEAD_LEN) {
        memcpy(item->head, sealed.s, MDM_SEAL_HEAD_LEN);
        where = mdm_arena_printf(arena, "%s:%.*s", s->column->where,
                                 MDM_STR_ARG(mdm_query_str(&q, 0)));
        rc = where != NULL ? mdm_seal_open(s->seal, where, sealed, arena,
                                           &plain, err)
                           : mdm_err_nomem(err);
        if (rc == MDM_OK) {
            rc = mdm_seal_close(s->seal, where, plain, s->arena,
                                &item->sealed, err);
        }
    } else if (rc == MDM_OK && sealed.s != NULL) {
        rc = mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                         "a stored secret is cut short");
    }
    mdm_query_end(&q);
    mdm_arena_free(&arena);
    return rc;
}

/* One line a minute; MDM0112 tells how many there are. */
static void tell_damaged(slice_t *s, const item_t *item, const mdm_err_t *err)
{
    uint64_t held;

    if (mdm_log_limit_pass(&s->at.limit, mdm_mono_us(NULL), 60 * MDM_SEC,
                           &held)) {
        mdm_log_msg(s->log, MDM_LOG_ERROR, MDM_MSG_STORE_FAULT,
                    "%s, %s of row %s; it is left as it is", err->text,
                    s->column->column, item->key.s);
    }
}

static mdm_rc renew_all(mdm_tx_t *tx, slice_t *s, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < s->n; i++) {
        rc = renew(tx, s, &s->items[i], err);
        if (rc == MDM_EINTERNAL && err->id == MDM_MSG_STORE_FAULT) {
            s->at.damaged++;
            tell_damaged(s, &s->items[i], err);
            rc = MDM_OK;
        } else if (rc == MDM_OK) {
            s->at.found++;
        }
    }
    return rc;
}

static mdm_rc read_slice(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const mdm_sealed_t *columns;
    slice_t *s = arg;
    mdm_keys_t keys;
    size_t n;
    mdm_rc rc;

    columns = mdm_sealed_columns(&n);
    s->seal = mdm_store_seal(tx->store);
    rc = mdm_store_keys(tx, &keys, err);
    if (rc != MDM_OK) {
        return rc;
    }
    s->idle = keys.former[0] == '\0';
    s->later = strcmp(mdm_seal_id(s->seal), keys.current) != 0;
    if (s->idle || s->later) {
        return MDM_OK;
    }
    if (strcmp(keys.current, s->at.keys.current) != 0 ||
        strcmp(keys.former, s->at.keys.former) != 0) {
        rc = mdm_reseal_load(tx, &keys, &s->at, err);
    }
    if (rc == MDM_OK) {
        s->column = &columns[s->at.column];
        rc = scan(tx, s, err);
    }
    if (rc == MDM_OK) {
        rc = renew_all(tx, s, err);
    }
    return rc;
}

/* ---- writing ------------------------------------------------------------ */

static mdm_rc put(mdm_tx_t *tx, slice_t *s, const item_t *item,
                  mdm_err_t *err)
{
    mdm_str_t head = {item->head, sizeof(item->head)};
    int64_t changes = 0;
    mdm_rc rc;

    if (s->column->text_key) {
        rc = mdm_sql_run(tx, s->column->renew, &changes, err, "tbb", item->key,
                         head, item->sealed);
    } else {
        rc = mdm_sql_run(tx, s->column->renew, &changes, err, "ibb",
                         key_number(item->key.s), head, item->sealed);
    }
    s->at.done += changes;
    return rc;
}

/* Behind the last column: once more, or all done. */
static void next_column(slice_t *s)
{
    size_t n;

    (void)mdm_sealed_columns(&n);
    s->at.key[0] = '\0';
    if (++s->at.column == n) {
        s->at.column = 0;
        s->finished = s->at.found == 0;
        if (!s->finished) {
            s->at.found = 0;
            s->at.damaged = 0;
        }
    }
}

static mdm_rc write_slice(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    slice_t *s = arg;
    mdm_keys_t keys;
    size_t i;
    mdm_rc rc;

    rc = mdm_store_keys(tx, &keys, err);
    if (rc != MDM_OK) {
        return rc;
    }
    /* It was replaced once more since the slice was read. */
    if (strcmp(keys.current, s->at.keys.current) != 0 ||
        strcmp(keys.former, s->at.keys.former) != 0) {
        s->later = true;
        return MDM_OK;
    }
    for (i = 0; rc == MDM_OK && i < s->n; i++) {
        if (s->items[i].sealed.s != NULL) {
            rc = put(tx, s, &s->items[i], err);
        }
    }
    if (rc == MDM_OK && !s->finished) {
        return save_position(tx, &s->at, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_META_DELETE, NULL, err, "t",
                         MDM_STR("secret_key_former"));
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_META_DELETE, NULL, err, "t",
                         MDM_STR("reseal"));
    }
    return rc;
}

/* ---- a slice ------------------------------------------------------------ */

/* Nothing is to be done: a second key that nobody needs is told of once. */
static void tell_spare(mdm_store_t *store, mdm_reseal_t *at)
{
    const mdm_seal_t *seal = mdm_store_seal(store);
    const char *second = mdm_seal_nth_id(seal, 1);

    if (second == NULL || at->told_spare) {
        return;
    }
    at->told_spare = true;
    if (strcmp(mdm_seal_id(seal), second) == 0) {
        mdm_log_msg(mdm_store_log(store), MDM_LOG_NOTICE,
                    MDM_MSG_SECRET_KEY_SPARE,
                    "the first secret key, %.8s, was replaced by the second, "
                    "%.8s, under which every secret is sealed",
                    mdm_seal_nth_id(seal, 0), second);
    } else {
        mdm_log_msg(mdm_store_log(store), MDM_LOG_NOTICE,
                    MDM_MSG_SECRET_KEY_SPARE,
                    "no secret is sealed under the second secret key, %.8s",
                    second);
    }
}

static void tell_finished(mdm_store_t *store, const slice_t *s)
{
    if (s->at.damaged > 0) {
        mdm_log_msg(mdm_store_log(store), MDM_LOG_WARNING, MDM_MSG_RESEALED,
                    "every secret but %lld that open under no key is sealed "
                    "under the new key %.8s",
                    (long long)s->at.damaged, s->at.keys.current);
    } else {
        mdm_log_msg(mdm_store_log(store), MDM_LOG_NOTICE, MDM_MSG_RESEALED,
                    "every secret is sealed under the new key %.8s",
                    s->at.keys.current);
    }
}

static mdm_rc run_slice(mdm_store_t *store, slice_t *s, bool *more_r,
                        mdm_err_t *err)
{
    mdm_reseal_t *at = mdm_store_reseal_at(store);
    mdm_rc rc;

    s->at = *at;
    s->log = mdm_store_log(store);
    rc = mdm_store_read(store, read_slice, s, err);
    at->limit = s->at.limit;
    if (rc != MDM_OK) {
        return rc;
    }
    if (s->idle) {
        memset(&at->keys, 0, sizeof(at->keys));
        tell_spare(store, at);
    }
    if (s->idle || s->later) {
        return MDM_OK;
    }
    if (s->column_end) {
        next_column(s);
    }
    /* A slice in which all was in order is not worth a commit. */
    if (s->n > 0 || s->column_end) {
        rc = mdm_store_write(store, write_slice, s, err);
    }
    if (rc == MDM_OK && !s->later) {
        *more_r = !s->finished;
        s->at.told_spare = s->at.told_spare || s->finished;
        *at = s->at;
        if (s->finished) {
            tell_finished(store, s);
        }
    }
    return rc;
}

mdm_rc mdm_store_reseal(mdm_store_t *store, size_t limit, bool *more_r,
                        mdm_err_t *err)
{
    slice_t slice;
    mdm_rc rc;

    *more_r = false;
    memset(&slice, 0, sizeof(slice));
    slice.limit = limit == 0            ? 1
                  : limit < SLICE_VALUES ? limit
                                         : SLICE_VALUES;
    slice.arena = mdm_arena_new(false);
    if (slice.arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = run_slice(store, &slice, more_r, err);
    mdm_arena_free(&slice.arena);
    return rc;
}
