/*
 * mdm_lease.c - see mdm_lease.h.
 */
#include "mdm_lease.h"

#include "mdm_str.h"

typedef struct job {
    mdm_lease_t *lease;
    mdm_arena_t *arena;
    int64_t now_us;
    int64_t expires_us;
    bool free;
    bool taken;
} job_t;

static mdm_rc look(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_str_t holder;
    mdm_rc rc;

    rc = mdm_store_lease_get(tx, mdm_str_from(job->lease->name), job->arena,
                             &holder, &job->expires_us, err);
    /* An end that lies too far ahead was written before the clock was set
     * back, by a holder that would have renewed it since. */
    job->free = job->expires_us <= job->now_us ||
                job->expires_us > job->now_us + 2 * job->lease->life_us ||
                mdm_str_is(holder, job->lease->holder);
    return rc;
}

static mdm_rc take(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    job->expires_us = job->now_us + job->lease->life_us;
    return mdm_store_lease_take(tx, mdm_str_from(job->lease->name),
                                mdm_str_from(job->lease->holder), job->now_us,
                                job->expires_us, &job->taken, err);
}

static mdm_rc run(job_t *job, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    job->free = job->lease->held;
    if (!job->free) {
        rc = mdm_store_read(job->lease->store, look, job, err);
    }
    if (rc == MDM_OK && job->free) {
        rc = mdm_store_write(job->lease->store, take, job, err);
    }
    return rc;
}

mdm_rc mdm_lease_step(mdm_lease_t *lease, mdm_err_t *err)
{
    job_t job = {.lease = lease};
    int64_t mono = mdm_mono_us(NULL);
    int64_t wait;
    mdm_rc rc;

    if (mono < lease->next_us) {
        return MDM_OK;
    }
    job.now_us = mdm_wall_us(NULL);
    job.arena = mdm_arena_new(false);
    if (job.arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = run(&job, err);
    mdm_arena_free(&job.arena);
    if (rc != MDM_OK) {
        lease->held = lease->held && mono < lease->sure_until_us;
        lease->next_us = mono + MDM_SEC;
        return rc;
    }
    lease->held = job.taken;
    if (lease->held) {
        lease->sure_until_us = mono + lease->life_us;
        lease->next_us = mono + lease->life_us / 3;
        return MDM_OK;
    }
    /* Look again when the holder's time is up, but not less often than a
     * third of a life: it may be dropped early. */
    wait = job.expires_us - job.now_us;
    if (wait > lease->life_us / 3) {
        wait = lease->life_us / 3;
    }
    lease->next_us = mono + (wait > 50000 ? wait : 50000);
    return MDM_OK;
}

static mdm_rc drop(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    mdm_lease_t *lease = arg;

    return mdm_store_lease_drop(tx, mdm_str_from(lease->name),
                                mdm_str_from(lease->holder), err);
}

void mdm_lease_drop(mdm_lease_t *lease)
{
    mdm_err_t err;

    if (lease->held) {
        lease->held = false;
        /* Should it fail, the lease runs out by itself. */
        if (mdm_store_write(lease->store, drop, lease, &err) != MDM_OK) {
            lease->next_us = 0;
        }
    }
}
