/*
 * mdm_chores.c - the table of chores, and how a slice's size is found.  See
 * mdm_chores.h.
 */
#include "mdm_chores.h"

#include <string.h>

#include "mdm_store_event.h"

/* What a slice should take at most; its number of rows follows from how long
 * the one before took.  Rows with large values take many times as long as
 * others, so that their size is bounded as well. */
#define SLICE_US (50 * MDM_SEC / 1000)
#define BYTES_MAX (2 * 1024 * 1024)
#define LIMIT_MIN 10
#define LIMIT_FIRST 100
#define LIMIT_MAX 1000
#define RETRY_US (5 * MDM_SEC)

/* ---- commands whose time is over ---------------------------------------- */

static mdm_rc is_expired(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;

    return mdm_store_queue_is_expired(tx, slice->now_us, &slice->more, err);
}

static mdm_rc expire(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;
    int64_t eids[LIMIT_MAX];
    size_t n = 0;
    size_t i;
    mdm_rc rc;

    rc = mdm_store_queue_expire(tx, slice->now_us, slice->limit, eids, &n,
                                err);
    for (i = 0; rc == MDM_OK && i < n; i++) {
        if (i == 0 || eids[i] != eids[i - 1]) {
            rc = mdm_store_push_settle(tx, eids[i], err);
        }
    }
    slice->more = n == slice->limit;
    return rc;
}

static mdm_rc expire_commands(mdm_slice_t *slice, mdm_err_t *err)
{
    mdm_rc rc;

    rc = mdm_store_read(slice->config->store, is_expired, slice, err);
    return rc == MDM_OK && slice->more
               ? mdm_store_write(slice->config->store, expire, slice, err)
               : rc;
}

/* ---- a new secret key ---------------------------------------------------- */

static mdm_rc reseal(mdm_slice_t *slice, mdm_err_t *err)
{
    return mdm_store_reseal(slice->config->store, slice->limit, &slice->more,
                            err);
}

/* ---- results and commands that are too old ------------------------------ */

static mdm_old_rows_t old_rows(const mdm_slice_t *slice, int64_t *rows)
{
    mdm_old_rows_t old = {
        .before_us = slice->now_us - slice->config->result_retention_us,
        .limit = slice->limit,
        .bytes_max = BYTES_MAX,
        .rows = rows};

    return old;
}

static mdm_rc find_results(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_results_old(tx, arg, err);
}

static mdm_rc prune_results(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const mdm_old_rows_t *old = arg;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < old->n; i++) {
        rc = mdm_store_result_prune(tx, old->rows[i], old->before_us, err);
    }
    return rc;
}

static mdm_rc old_results(mdm_slice_t *slice, mdm_err_t *err)
{
    int64_t rows[LIMIT_MAX];
    mdm_old_rows_t old = old_rows(slice, rows);
    mdm_rc rc;

    if (slice->config->result_retention_us == 0) {
        return MDM_OK;
    }
    rc = mdm_store_read(slice->config->store, find_results, &old, err);
    if (rc == MDM_OK && old.n > 0) {
        rc = mdm_store_write(slice->config->store, prune_results, &old, err);
    }
    slice->more = old.more;
    return rc;
}

typedef struct unused_job {
    mdm_old_rows_t old;
    int64_t *mark;
} unused_job_t;

static mdm_rc find_unused(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    unused_job_t *job = arg;

    return mdm_store_commands_unused(tx, &job->old, job->mark, err);
}

static mdm_rc prune_unused(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const unused_job_t *job = arg;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < job->old.n; i++) {
        rc = mdm_store_command_prune(tx, job->old.rows[i], err);
    }
    return rc;
}

/* Walks over all old commands: some wait for a device still. */
static mdm_rc old_commands(mdm_slice_t *slice, mdm_err_t *err)
{
    int64_t rows[LIMIT_MAX];
    unused_job_t job = {.old = old_rows(slice, rows), .mark = slice->mark};
    mdm_rc rc;

    if (slice->config->result_retention_us == 0) {
        return MDM_OK;
    }
    rc = mdm_store_read(slice->config->store, find_unused, &job, err);
    if (rc == MDM_OK && job.old.n > 0) {
        rc = mdm_store_write(slice->config->store, prune_unused, &job, err);
    }
    slice->more = job.old.more;
    if (!slice->more) {
        slice->mark[0] = 0;
        slice->mark[1] = 0;
    }
    return rc;
}

/* ---- devices that have not come for long -------------------------------- */

/* Every device has a time at which it is looked at: when it would have been
 * silent for as long as the setting says, which its coming does not move, so
 * that it costs nothing.  Looking then finds out, and sets the next time. */

static mdm_rc find_silent(mdm_tx_t *tx, mdm_slice_t *slice,
                          mdm_arena_t *arena, mdm_silent_t *rows, size_t *n_r,
                          mdm_err_t *err)
{
    size_t more = 0;
    mdm_rc rc;

    rc = mdm_store_silent_get(tx, 0, slice->now_us, slice->limit, arena, rows,
                              n_r, err);
    if (rc == MDM_OK && *n_r < slice->limit) {
        /* Written under a longer setting, or another clock. */
        rc = mdm_store_silent_get(
            tx, slice->now_us + 2 * slice->config->push_silent_us, INT64_MAX,
            slice->limit - *n_r, arena, rows + *n_r, &more, err);
        *n_r += more;
    }
    return rc;
}

static mdm_rc wake_silent(mdm_tx_t *tx, const mdm_slice_t *slice,
                          const mdm_silent_t *s, mdm_err_t *err)
{
    mdm_push_ticket_t ticket;
    int64_t due = 0;
    bool found;
    mdm_rc rc;

    /* One that waits, is under way, or is planned while commands wait, does
     * the same. */
    rc = mdm_store_push_get(tx, s->eid, &found, &due, err);
    return rc == MDM_OK && due == 0
               ? mdm_store_push_mark(tx, s->eid, s->topic, slice->now_us,
                                     &ticket, err)
               : rc;
}

/* Up to a quarter of the time, unlike other devices' and other times'. */
static int64_t silent_jitter(const mdm_slice_t *slice, int64_t eid)
{
    uint64_t h = ((uint64_t)eid ^ ((uint64_t)slice->now_us << 20)) *
                 UINT64_C(0x9e3779b97f4a7c15);

    return slice->config->push_silent_us / 4 * (int64_t)(h >> 54) / 1024;
}

static mdm_rc visit_silent(mdm_tx_t *tx, const mdm_slice_t *slice,
                           const mdm_silent_t *s, mdm_err_t *err)
{
    int64_t time = slice->config->push_silent_us;
    int64_t jitter = silent_jitter(slice, s->eid);
    int64_t next = slice->now_us + time + jitter;
    mdm_rc rc = MDM_OK;

    if (s->last_seen > slice->now_us - time) {
        if (s->last_seen < slice->now_us) {
            next = s->last_seen + time + jitter;
        }
    } else if (s->silent_at == 0 || s->silent_at > slice->now_us) {
        /* All of a fleet may come to this at once: spread them. */
        next = slice->now_us + jitter + 1;
    } else {
        rc = wake_silent(tx, slice, s, err);
    }
    return rc == MDM_OK ? mdm_store_silent_set(tx, s->eid, next, err) : rc;
}

static mdm_rc is_silent(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_slice_t one = *slice;
    mdm_silent_t row;
    size_t n = 0;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    one.limit = 1;
    rc = find_silent(tx, &one, arena, &row, &n, err);
    slice->more = n > 0;
    mdm_arena_free(&arena);
    return rc;
}

static mdm_rc visit(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_silent_t *rows = NULL;
    size_t n = 0;
    size_t i;
    mdm_rc rc;

    if (arena != NULL) {
        rows = mdm_arena_alloc(arena, slice->limit * sizeof(*rows));
    }
    rc = rows != NULL ? find_silent(tx, slice, arena, rows, &n, err)
                      : mdm_err_nomem(err);
    for (i = 0; rc == MDM_OK && i < n; i++) {
        rc = visit_silent(tx, slice, &rows[i], err);
    }
    slice->more = n == slice->limit;
    mdm_arena_free(&arena);
    return rc;
}

static mdm_rc silent_devices(mdm_slice_t *slice, mdm_err_t *err)
{
    mdm_rc rc;

    if (slice->config->push_silent_us == 0) {
        return MDM_OK;
    }
    rc = mdm_store_read(slice->config->store, is_silent, slice, err);
    return rc == MDM_OK && slice->more
               ? mdm_store_write(slice->config->store, visit, slice, err)
               : rc;
}

/* ---- certificates that end, events --------------------------------------- */

static mdm_rc ending_certificates(mdm_slice_t *slice, mdm_err_t *err)
{
    return mdm_expiry_look(&slice->config->expiry, slice->now_us, err);
}

static mdm_rc is_old_event(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;

    return mdm_store_event_is_old(
        tx, slice->now_us - slice->config->result_retention_us, &slice->more,
        err);
}

static mdm_rc prune_events(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_slice_t *slice = arg;
    int64_t n = 0;
    mdm_rc rc = mdm_store_event_prune(
        tx, slice->now_us - slice->config->result_retention_us, slice->limit,
        &n, err);

    slice->more = n == (int64_t)slice->limit;
    return rc;
}

static mdm_rc old_events(mdm_slice_t *slice, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    if (slice->config->result_retention_us == 0) {
        return MDM_OK;
    }
    rc = mdm_store_read(slice->config->store, is_old_event, slice, err);
    return rc == MDM_OK && slice->more
               ? mdm_store_write(slice->config->store, prune_events, slice,
                                 err)
               : rc;
}

/* ---- all ---------------------------------------------------------------- */

static const struct {
    const char *name; /* for the log */
    int64_t interval_us;
    mdm_chore_fn *slice;
} table[] = {
    {"expired commands", 5 * MDM_SEC, expire_commands},
    {"a new secret key", 5 * MDM_SEC, reseal},
    {"silent devices", 5 * MDM_SEC, silent_devices},
    {"ending certificates", 3600 * MDM_SEC, ending_certificates},
    {"old events", 60 * MDM_SEC, old_events},
    {"old results", 30 * MDM_SEC, old_results},
    {"old commands", 300 * MDM_SEC, old_commands},
};

_Static_assert(MDM_ARRAY_LEN(table) <= MDM_CHORES_MAX, "too many chores");

void mdm_chores_init(mdm_chores_t *c, const mdm_chores_config_t *config)
{
    size_t i;

    memset(c, 0, sizeof(*c));
    c->config = *config;
    c->config.expiry.store = config->store;
    c->config.expiry.log = config->log;
    for (i = 0; i < MDM_ARRAY_LEN(table); i++) {
        c->chores[i].limit = LIMIT_FIRST;
    }
}

static size_t next_limit(size_t limit, int64_t took_us)
{
    if (took_us > SLICE_US) {
        return limit / 2 > LIMIT_MIN ? limit / 2 : LIMIT_MIN;
    }
    if (took_us < SLICE_US / 4) {
        return limit * 2 < LIMIT_MAX ? limit * 2 : LIMIT_MAX;
    }
    return limit;
}

static mdm_rc run_slice(mdm_chores_t *c, size_t i, int64_t mono_us,
                        int64_t wall_us, mdm_err_t *err)
{
    mdm_slice_t slice = {.config = &c->config,
                         .now_us = wall_us,
                         .limit = c->chores[i].limit,
                         .mark = c->chores[i].mark};
    int64_t start = mdm_mono_us(NULL);
    int64_t took;
    mdm_rc rc;

    rc = table[i].slice(&slice, err);
    took = mdm_mono_us(NULL) - start;
    if (rc != MDM_OK) {
        c->chores[i].next_us = mono_us + RETRY_US;
        return mdm_err_prefix(err, "%s", table[i].name);
    }
    if (slice.more) {
        mdm_log_debug(c->config.log, "%s: a slice of %zu took %lld us",
                      table[i].name, slice.limit, (long long)took);
        /* The store belongs to the requests for at least half of the time. */
        c->chores[i].limit = next_limit(slice.limit, took);
        c->chores[i].next_us = mono_us + 2 * took;
    } else {
        c->chores[i].next_us = mono_us + table[i].interval_us;
    }
    return MDM_OK;
}

mdm_rc mdm_chores_step(mdm_chores_t *c, int64_t mono_us, int64_t wall_us,
                       mdm_err_t *err)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(table); i++) {
        if (mono_us >= c->chores[i].next_us) {
            return run_slice(c, i, mono_us, wall_us, err);
        }
    }
    return MDM_OK;
}

int64_t mdm_chores_next(const mdm_chores_t *c)
{
    int64_t next = INT64_MAX;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(table); i++) {
        next = c->chores[i].next_us < next ? c->chores[i].next_us : next;
    }
    return next;
}
