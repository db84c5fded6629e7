/*
 * mdm_lease.h - a named lease in the store: at most one holder at a time,
 * over all processes.  Correctness never depends on it (claims are rows), it
 * only saves connections.  One thread; blocks on the store.
 */
#ifndef MDM_LEASE_H
#define MDM_LEASE_H

#include "mdm_store.h"

typedef struct mdm_lease {
    mdm_store_t *store;
    const char *name;   /* borrowed */
    const char *holder; /* borrowed; unlike every other process's */
    int64_t life_us;
    bool held;
    int64_t sure_until_us; /* monotonic: held for certain until then */
    int64_t next_us;       /* monotonic: when to step next */
} mdm_lease_t;

/* Takes, renews or watches, whichever is due; sets `held` and `next_us`.
 * Asking costs one read while somebody else holds it.  On a store error the
 * lease counts as held until sure_until_us. */
mdm_rc mdm_lease_step(mdm_lease_t *lease, mdm_err_t *err) MDM_USE_RESULT;
/* Gives it up, so that another takes it at once. */
void mdm_lease_drop(mdm_lease_t *lease);

#endif
