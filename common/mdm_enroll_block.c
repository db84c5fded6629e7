/*
 * mdm_enroll_block.c - devices that an operator shuts out.
 *
 * A device leaves when it is answered 401; its system from the year of
 * iOS 17 on leaves at 403 with an error document as well, which no access
 * rule of the host can send by mistake, so that is what it gets.
 */
#include "mdm_enroll.h"

#include <string.h>

#include "mdm_str.h"

typedef struct job {
    mdm_str_t id;
    bool block;
    bool changed;
    mdm_arena_t *arena;
    mdm_blocked_t blocked;
    int64_t now_us;
} job_t;

static mdm_rc run(mdm_store_t *store, mdm_tx_fn *fn, job_t *job,
                  mdm_err_t *err)
{
    job->now_us = mdm_wall_us(NULL);
    job->arena = mdm_arena_new(false);
    return job->arena != NULL ? mdm_store_write(store, fn, job, err)
                              : mdm_err_nomem(err);
}

/* Wakes a device that can still be reached, so that it learns of it. */
static mdm_rc wake(mdm_tx_t *tx, const job_t *job, mdm_err_t *err)
{
    mdm_push_ticket_t ticket;
    mdm_target_t target;
    mdm_rc rc;

    rc = mdm_store_target(tx, job->id, job->arena, &target, err);
    if (rc == MDM_OK && target.state == MDM_ENROLLMENT_ENROLLED &&
        target.token_state == MDM_TOKEN_GOOD) {
        rc = mdm_store_push_mark(tx, target.eid, target.topic, job->now_us,
                                 &ticket, err);
    }
    return rc;
}

static mdm_rc change(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_enrollment_t row;
    mdm_rc rc;

    rc = mdm_store_enrollment_get(tx, job->id, job->arena, &row, err);
    if (rc == MDM_OK && mdm_channel_is_user(row.type)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "this is the channel of a user; block its device, "
                           "%.*s",
                           MDM_STR_ARG(row.device_id));
    }
    if (rc != MDM_OK || (row.blocked_at != 0) == job->block) {
        return rc;
    }
    rc = mdm_store_block(tx, row.eid, job->block ? job->now_us : 0, err);
    job->changed = rc == MDM_OK;
    return rc == MDM_OK && job->block ? wake(tx, job, err) : rc;
}

mdm_rc mdm_enroll_block(mdm_store_t *store, mdm_str_t id, bool block,
                        bool *changed_r, mdm_err_t *err)
{
    job_t job = {.id = id, .block = block};
    mdm_rc rc = run(store, change, &job, err);

    *changed_r = job.changed;
    mdm_arena_free(&job.arena);
    return rc;
}

/* ---- turning away ------------------------------------------------------- */

mdm_rc mdm_enroll_end_life(mdm_tx_t *tx, int64_t device_eid, bool users_only,
                           int64_t now_us, mdm_err_t *err)
{
    mdm_rc rc = mdm_store_disable(tx, device_eid, users_only, now_us, err);

    if (rc == MDM_OK) {
        rc = mdm_store_queue_retire(tx, device_eid, now_us, err);
    }
    return rc == MDM_OK ? mdm_store_push_clear_device(tx, device_eid, err)
                        : rc;
}

static mdm_rc turn_away(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    int64_t eid;
    mdm_rc rc;

    rc = mdm_store_blocked_get(tx, job->id, job->arena, &job->blocked, err);
    eid = job->blocked.eid;
    if (rc == MDM_OK && !job->blocked.blocked) {
        rc = mdm_err_set(err, MDM_EBUSY, 0,
                         "the device was unblocked just now");
    }
    if (rc != MDM_OK || job->blocked.told_at != 0) {
        return rc;
    }
    rc = mdm_store_blocked_told(tx, eid, job->now_us, err);
    return rc == MDM_OK
               ? mdm_enroll_end_life(tx, eid, false, job->now_us, err)
               : rc;
}

/* "17.0.1" at least major.minor? */
static bool is_at_least(mdm_str_t version, uint64_t major, uint64_t minor)
{
    uint64_t have_major = 0;
    uint64_t have_minor = 0;
    mdm_str_t first = mdm_str_split(&version, '.');
    mdm_str_t second = mdm_str_split(&version, '.');

    if (!mdm_parse_u64(first, 1000, &have_major)) {
        return false;
    }
    if (second.s != NULL && !mdm_parse_u64(second, 1000, &have_minor)) {
        have_minor = 0;
    }
    return have_major > major || (have_major == major && have_minor >= minor);
}

/* Source: docs/protocol.md, "Refusals". */
static bool knows_documents(const mdm_blocked_t *device)
{
    static const struct {
        const char *product; /* how ProductName begins */
        uint64_t major;
        uint64_t minor;
    } since[] = {
        {"iPhone", 17, 0},        {"iPad", 17, 0},  {"iPod", 17, 0},
        {"AppleTV", 17, 0},       {"Mac", 14, 0},   {"iMac", 14, 0},
        {"VirtualMac", 14, 0},    {"Watch", 10, 0},
        {"RealityDevice", 1, 1},
    };
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(since); i++) {
        if (mdm_str_starts(device->product_name, since[i].product)) {
            return is_at_least(device->os_version, since[i].major,
                               since[i].minor);
        }
    }
    return false;
}

mdm_rc mdm_enroll_turn_away(mdm_store_t *store, const mdm_channel_t *channel,
                            mdm_turn_away_t *how_r, mdm_err_t *err)
{
    job_t job = {.id = channel->device};
    mdm_rc rc = run(store, turn_away, &job, err);

    how_r->by_document = rc == MDM_OK && knows_documents(&job.blocked);
    how_r->first = rc == MDM_OK && job.blocked.told_at == 0;
    mdm_arena_free(&job.arena);
    return rc;
}
