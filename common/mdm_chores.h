/*
 * mdm_chores.h - periodic work on the store that nobody waits for.
 *
 * The table of chores stands in mdm_chores.c.  One process does them, the one
 * whose dispatcher holds the lease, in the dispatcher's thread and between
 * pushes: a slice at a time, so that no push waits longer than a slice takes.
 * What a chore has to know is in the store; it may be cut short at any time,
 * and two processes at the same chore must do no harm.  One thread owns an
 * mdm_chores_t; no allocation.
 */
#ifndef MDM_CHORES_H
#define MDM_CHORES_H

#include "mdm_expiry.h"
#include "mdm_log.h"
#include "mdm_store.h"

#define MDM_CHORES_MAX 16

/* Borrowed for the life of the chores. */
typedef struct mdm_chores_config {
    mdm_store_t *store;
    const mdm_log_t *log;
    int64_t result_retention_us; /* 0: for ever */
    int64_t push_silent_us;      /* 0: silent devices are left alone */
    mdm_expiry_config_t expiry;  /* store and log are set from above */
} mdm_chores_config_t;

/* One call of a chore's function. */
typedef struct mdm_slice {
    const mdm_chores_config_t *config;
    int64_t now_us; /* wall time */
    size_t limit;   /* rows that it may change, see SLICE_US */
    int64_t *mark;  /* two numbers of this chore's own, 0 at first: where the
                     * next slice goes on */
    bool more;      /* set by the function: there is more to do at once */
} mdm_slice_t;

/* Does one slice: looks first, by mdm_store_read(), and writes in one
 * transaction only if there is something to do.  Store errors. */
typedef mdm_rc mdm_chore_fn(mdm_slice_t *slice, mdm_err_t *err);

typedef struct mdm_chores {
    mdm_chores_config_t config;
    struct {
        int64_t next_us; /* monotonic: not before */
        size_t limit;
        int64_t mark[2];
    } chores[MDM_CHORES_MAX];
} mdm_chores_t;

void mdm_chores_init(mdm_chores_t *chores, const mdm_chores_config_t *config);
/* One slice of the first chore that is due, if any.  Store errors: that chore
 * is tried again after some seconds. */
mdm_rc mdm_chores_step(mdm_chores_t *chores, int64_t mono_us, int64_t wall_us,
                       mdm_err_t *err) MDM_USE_RESULT;
/* Monotonic time at which the next chore is due. */
int64_t mdm_chores_next(const mdm_chores_t *chores);

#endif
