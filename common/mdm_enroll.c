/*
 * mdm_enroll.c - what a check-in does to an enrolment.  See mdm_enroll.h.
 */
#include "mdm_enroll.h"

#include <string.h>

#include "mdm_str.h"

typedef struct job {
    const mdm_checkin_t *msg;
    mdm_str_t raw;
    const mdm_speaker_t *speaker;
    bool import; /* brought by an operator: the speaker is nobody */
    int64_t now_us;
    mdm_poll_t poll;
    mdm_enroll_result_t *result;
} job_t;

/* ---- Authenticate ------------------------------------------------------- */

/* Binds the certificate; another device's is refused.  One that was issued as
 * a renewal is bound already. */
static mdm_rc bind(mdm_tx_t *tx, job_t *job, int64_t device_eid,
                   mdm_err_t *err)
{
    const mdm_identity_t *identity = &job->speaker->identity;
    mdm_binding_add_t add = {.device_eid = device_eid,
                             .fingerprint = identity->fingerprint,
                             .not_after_us = identity->not_after_us,
                             .der = job->speaker->cert};
    mdm_binding_t bound;
    mdm_rc rc;

    rc = mdm_store_identity_get(tx, identity->fingerprint, &bound, err);
    if (rc == MDM_OK && bound.device_eid == 0) {
        rc = mdm_enroll_check_new(tx, identity, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_enroll_check_issued(tx, identity, job->msg->channel.device,
                                     job->msg->serial_number, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (bound.device_eid != 0 && bound.device_eid != device_eid) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate belongs to another enrolment");
    }
    if (bound.device_eid != 0 && !bound.current) {
        /* A key that leaked before a renewal must not take over again. */
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate is a former one of this "
                           "enrolment; enrol with a new one");
    }
    job->result->renewed = (bound.renewal == MDM_RENEWAL_ISSUED ||
                            bound.renewal == MDM_RENEWAL_SEEN) &&
                           job->poll.state != MDM_ENROLLMENT_DISABLED;
    return job->result->renewed
               ? MDM_OK
               : mdm_store_identity_bind(tx, &add, job->now_us, err);
}

/* A device that came while its enrolment was being brought: is this a part
 * that is missing still? */
static mdm_rc is_missing(mdm_tx_t *tx, const job_t *job, bool *missing_r,
                         mdm_err_t *err)
{
    mdm_arena_t *arena;
    mdm_str_t token;
    mdm_rc rc;

    *missing_r = false;
    if (job->msg->type == MDM_CHECKIN_TOKEN_UPDATE) {
        *missing_r = job->poll.eid == 0 ||
                     job->poll.state == MDM_ENROLLMENT_AUTHENTICATING;
    }
    if (job->msg->type != MDM_CHECKIN_SET_BOOTSTRAP_TOKEN) {
        return MDM_OK;
    }
    arena = mdm_arena_new(true);
    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_secret_get(tx, job->poll.eid, MDM_SECRET_BOOTSTRAP_TOKEN,
                              arena, &token, err);
    *missing_r = token.s == NULL;
    mdm_arena_free(&arena);
    return rc;
}

/* Nothing of an enrolment that proves itself here is overwritten by what
 * somebody brings. */
static mdm_rc check_import(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    bool any = false;
    bool own = false;
    bool missing = false;
    mdm_rc rc = MDM_OK;

    if (job->poll.known) {
        rc = mdm_store_identity_any(tx, job->poll.device_eid, &any, &own, err);
    }
    if (rc == MDM_OK && any && !own) {
        rc = is_missing(tx, job, &missing, err);
    }
    if (rc == MDM_OK && any && !missing) {
        rc = mdm_err_set(err, MDM_ECONFLICT, 0,
                         "this enrolment has a certificate here already");
    }
    return rc;
}

static mdm_rc look_at_device(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc;

    rc = mdm_store_poll(tx, job->msg->channel.id,
                        job->speaker->identity.fingerprint, job->now_us,
                        &job->poll, err);
    if (rc == MDM_OK && job->import) {
        return check_import(tx, job, err);
    }
    /* Whether a certificate may be bound is judged with the binding. */
    if (rc == MDM_OK && job->poll.blocked && !job->poll.bound_elsewhere) {
        rc = mdm_err_set(err, MDM_EBLOCKED, 0, "the device is blocked");
    }
    return rc;
}

static mdm_rc authenticate(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc = look_at_device(tx, job, err);
    int64_t eid;

    if (rc == MDM_OK && !job->poll.known) {
        rc = mdm_store_enrollment_add(tx, &job->msg->channel, 0, job->now_us,
                                      &job->poll.eid, err);
    }
    eid = job->poll.eid;
    if (rc == MDM_OK && !job->import) {
        rc = bind(tx, job, eid, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_authenticate(tx, eid, job->msg, job->raw,
                                    !job->result->renewed, job->now_us, err);
    }
    if (rc == MDM_OK) {
        rc = job->result->renewed
                 ? mdm_store_push_clear(tx, eid, job->now_us, err)
                 : mdm_enroll_end_life(tx, eid, true, job->now_us, err);
    }
    return rc;
}

/* ---- TokenUpdate and what an enrolled device sends ---------------------- */

/* Who sends it, and may he? */
static mdm_rc admit(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_look_up_t what = {.channel = &job->msg->channel,
                          .speaker = job->speaker,
                          .writing = true,
                          .any_user = true,
                          .leaving = job->msg->type == MDM_CHECKIN_CHECK_OUT,
                          .now_us = job->now_us};
    bool again;
    mdm_rc rc;

    if (!job->import) {
        return mdm_enroll_look_up(tx, &what, &job->poll, &again, err);
    }
    rc = mdm_store_poll(tx, job->msg->channel.id,
                        job->speaker->identity.fingerprint, job->now_us,
                        &job->poll, err);
    if (rc == MDM_OK && !job->poll.known &&
        mdm_channel_is_user(job->msg->channel.type)) {
        rc = mdm_store_poll(tx, job->msg->channel.device,
                            job->speaker->identity.fingerprint, job->now_us,
                            &job->poll, err);
        job->poll.eid = 0;
    }
    if (rc == MDM_OK && !job->poll.known) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "no such enrolment; bring its Authenticate first");
    }
    return rc == MDM_OK ? check_import(tx, job, err) : rc;
}

/* Commands may have been queued before: wake the device for them. */
static mdm_rc push_if_waiting(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_push_ticket_t ticket;
    bool waiting = false;
    mdm_rc rc;

    /* A new token: what APNs said of the old one is over. */
    rc = mdm_store_push_clear(tx, job->poll.eid, job->now_us, err);
    if (rc == MDM_OK) {
        rc = mdm_store_queue_waiting(tx, job->poll.eid, job->now_us, &waiting,
                                     err);
    }
    if (rc == MDM_OK && waiting) {
        rc = mdm_store_push_mark(tx, job->poll.eid, job->msg->topic,
                                 job->now_us, &ticket, err);
        job->result->push_due = rc == MDM_OK;
    }
    return rc;
}

static mdm_rc token_update(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc = admit(tx, job, err);

    /* The user channel of a known device appears with its TokenUpdate. */
    if (rc == MDM_OK && job->poll.eid == 0) {
        rc = mdm_store_enrollment_add(tx, &job->msg->channel,
                                      job->poll.device_eid, job->now_us,
                                      &job->poll.eid, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_token_update(tx, job->poll.eid, job->msg, job->raw,
                                    job->now_us, &job->result->tally, err);
    }
    if (rc == MDM_OK && !job->import &&
        !mdm_channel_is_user(job->msg->channel.type)) {
        rc = mdm_store_identity_settle(tx, job->poll.device_eid,
                                       job->speaker->identity.fingerprint,
                                       MDM_RENEWAL_NONE, err);
    }
    if (rc == MDM_OK) {
        rc = push_if_waiting(tx, job, err);
    }
    return rc;
}

/* A blocked device may leave like any other. */
static mdm_rc check_out(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc = admit(tx, job, err);
    int64_t device = job->poll.device_eid;

    if (rc != MDM_OK || job->poll.state == MDM_ENROLLMENT_DISABLED) {
        return rc;
    }
    rc = mdm_enroll_end_life(tx, device, false, job->now_us, err);
    if (rc == MDM_OK && job->poll.blocked) {
        rc = mdm_store_blocked_told(tx, device, job->now_us, err);
    }
    return rc;
}

/* Source: docs/protocol.md: an empty token takes the stored one away. */
static mdm_rc set_bootstrap_token(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc = admit(tx, job, err);

    if (rc == MDM_OK) {
        rc = mdm_store_bootstrap_token_set(
            tx, job->poll.eid,
            job->msg->bootstrap_token.n > 0 ? job->msg->bootstrap_token
                                            : MDM_STR_NONE,
            err);
    }
    return rc;
}

/* ---- all ---------------------------------------------------------------- */

static mdm_rc apply(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    bool has_topic = false;
    mdm_rc rc;

    job->result->topic_known = true;
    switch (job->msg->type) {
    case MDM_CHECKIN_AUTHENTICATE:
        rc = authenticate(tx, job, err);
        has_topic = true;
        break;
    case MDM_CHECKIN_TOKEN_UPDATE:
        rc = token_update(tx, job, err);
        has_topic = true;
        break;
    case MDM_CHECKIN_CHECK_OUT:
        rc = check_out(tx, job, err);
        break;
    case MDM_CHECKIN_SET_BOOTSTRAP_TOKEN:
        rc = set_bootstrap_token(tx, job, err);
        break;
    default:
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "this message type is not served here");
    }
    job->result->eid = job->poll.eid;
    return rc == MDM_OK && has_topic
               ? mdm_store_pushcert_known(tx, job->msg->topic,
                                          &job->result->topic_known, err)
               : rc;
}

static mdm_rc run(mdm_store_t *store, job_t *job,
                  mdm_enroll_result_t *result_r, mdm_err_t *err)
{
    memset(result_r, 0, sizeof(*result_r));
    job->result = result_r;
    job->now_us = mdm_wall_us(NULL);
    return mdm_store_write(store, apply, job, err);
}

mdm_rc mdm_enroll_apply(mdm_store_t *store, const mdm_checkin_t *msg,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_enroll_result_t *result_r, mdm_err_t *err)
{
    job_t job = {.msg = msg, .raw = raw, .speaker = speaker};

    return run(store, &job, result_r, err);
}

mdm_rc mdm_enroll_import(mdm_store_t *store, const mdm_checkin_t *msg,
                         mdm_str_t raw, mdm_enroll_result_t *result_r,
                         mdm_err_t *err)
{
    static const mdm_speaker_t nobody;
    job_t job = {.msg = msg, .raw = raw, .speaker = &nobody, .import = true};

    return run(store, &job, result_r, err);
}
