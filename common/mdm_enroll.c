/*
 * mdm_enroll.c - see mdm_enroll.h.
 */
#include "mdm_enroll.h"

#include <string.h>

#include "mdm_str.h"

typedef struct job {
    const mdm_checkin_t *msg;
    mdm_str_t raw;
    const mdm_speaker_t *speaker;
    int64_t now_us;
    mdm_poll_t poll;
    mdm_enroll_result_t *result;
} job_t;

mdm_rc mdm_enroll_authorize(const mdm_poll_t *poll, mdm_err_t *err)
{
    if (poll->bound_elsewhere) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate belongs to another enrolment");
    }
    if (!poll->known) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "no such enrolment; a device enrols with "
                           "Authenticate first");
    }
    if (!poll->bound) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate is not bound to this enrolment");
    }
    if (!poll->current) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate is a former one of this "
                           "enrolment");
    }
    return MDM_OK;
}

/* Binds the certificate; another device's is refused. */
static mdm_rc bind(mdm_tx_t *tx, job_t *job, int64_t device_eid,
                   mdm_err_t *err)
{
    const mdm_identity_t *identity = &job->speaker->identity;
    int64_t bound_to;
    bool current;
    mdm_rc rc;

    rc = mdm_store_identity_get(tx, identity->fingerprint, &bound_to, &current,
                                err);
    if (rc == MDM_OK && bound_to != 0 && bound_to != device_eid) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate belongs to another enrolment");
    }
    if (rc == MDM_OK && bound_to != 0 && !current) {
        /* A key that leaked before a renewal must not take over again. */
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate is a former one of this "
                           "enrolment; enrol with a new one");
    }
    if (rc == MDM_OK) {
        rc = mdm_store_identity_bind(tx, device_eid, identity->fingerprint,
                                     identity->not_after_us,
                                     job->speaker->cert, job->now_us, err);
    }
    return rc;
}

/* A new life: the queue of the device and of its users is retired, tokens of
 * the former life are gone, no push goes out until TokenUpdate. */
static mdm_rc authenticate(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    int64_t eid = job->poll.eid;
    mdm_rc rc = MDM_OK;

    if (!job->poll.known) {
        rc = mdm_store_enrollment_add(tx, &job->msg->channel, 0, job->now_us,
                                      &eid, err);
    }
    if (rc == MDM_OK) {
        rc = bind(tx, job, eid, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_authenticate(tx, eid, job->msg, job->raw, job->now_us,
                                    err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_disable(tx, eid, true, job->now_us, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_queue_retire(tx, eid, job->now_us, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_push_clear_device(tx, eid, err);
    }
    return rc;
}

/* The user channel of a known device appears with its first TokenUpdate. */
static mdm_rc add_user_channel(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_poll_t device;
    mdm_rc rc;

    rc = mdm_store_poll(tx, job->msg->channel.device,
                        job->speaker->identity.fingerprint, job->now_us,
                        &device, err);
    if (rc == MDM_OK) {
        rc = mdm_enroll_authorize(&device, err);
    }
    if (rc == MDM_OK && device.state == MDM_ENROLLMENT_DISABLED) {
        rc = mdm_err_set(err, MDM_EDENIED, 0, "the device has checked out");
    }
    if (rc == MDM_OK) {
        job->poll = device;
        rc = mdm_store_enrollment_add(tx, &job->msg->channel, device.eid,
                                      job->now_us, &job->poll.eid, err);
    }
    return rc;
}

/* Commands may have been queued before: wake the device for them. */
static mdm_rc push_if_waiting(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    char apns_id[MDM_UUID_SIZE];
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
                                 job->now_us, apns_id, err);
        job->result->push_due = rc == MDM_OK;
    }
    return rc;
}

static mdm_rc token_update(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc;

    if (!job->poll.known && !job->poll.bound_elsewhere &&
        mdm_channel_is_user(job->msg->channel.type)) {
        rc = add_user_channel(tx, job, err);
    } else {
        rc = mdm_enroll_authorize(&job->poll, err);
    }
    if (rc == MDM_OK && job->poll.device_state == MDM_ENROLLMENT_DISABLED) {
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "the device has checked out; it enrols again with "
                         "Authenticate");
    }
    if (rc == MDM_OK) {
        rc = mdm_store_token_update(tx, job->poll.eid, job->msg, job->raw,
                                    job->now_us, &job->result->tally, err);
    }
    if (rc == MDM_OK && !mdm_channel_is_user(job->msg->channel.type)) {
        rc = mdm_store_identity_settle(tx, job->poll.device_eid,
                                       job->speaker->identity.fingerprint,
                                       err);
    }
    if (rc == MDM_OK) {
        rc = push_if_waiting(tx, job, err);
    }
    return rc;
}

static mdm_rc check_out(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    int64_t device = job->poll.device_eid;
    mdm_rc rc;

    rc = mdm_enroll_authorize(&job->poll, err);
    if (rc != MDM_OK || job->poll.state == MDM_ENROLLMENT_DISABLED) {
        return rc;
    }
    rc = mdm_store_disable(tx, device, false, job->now_us, err);
    if (rc == MDM_OK) {
        rc = mdm_store_queue_retire(tx, device, job->now_us, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_push_clear_device(tx, device, err);
    }
    return rc;
}

static mdm_rc look_for_topic(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_pushcert_row_t row;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_pushcert_get(tx, job->msg->topic, arena, &row, err);
    job->result->topic_known = rc == MDM_OK;
    mdm_arena_free(&arena);
    return rc == MDM_ENOTFOUND ? MDM_OK : rc;
}

static mdm_rc apply(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc;

    rc = mdm_store_poll(tx, job->msg->channel.id,
                        job->speaker->identity.fingerprint, job->now_us,
                        &job->poll, err);
    if (rc != MDM_OK) {
        return rc;
    }
    switch (job->msg->type) {
    case MDM_CHECKIN_AUTHENTICATE:
        rc = authenticate(tx, job, err);
        return rc == MDM_OK ? look_for_topic(tx, job, err) : rc;
    case MDM_CHECKIN_TOKEN_UPDATE:
        rc = token_update(tx, job, err);
        return rc == MDM_OK ? look_for_topic(tx, job, err) : rc;
    case MDM_CHECKIN_CHECK_OUT:
        job->result->topic_known = true;
        return check_out(tx, job, err);
    default:
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "this message type is not served here");
    }
}

/* ---- admission ---------------------------------------------------------- */

typedef struct admission {
    const mdm_channel_t *channel;
    const mdm_speaker_t *speaker;
    mdm_admitted_t *out;
} admission_t;

static mdm_rc admit(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    admission_t *a = arg;
    const mdm_channel_t *channel = a->channel;
    mdm_poll_t poll;
    mdm_rc rc;

    rc = mdm_store_poll(tx, channel->id, a->speaker->identity.fingerprint,
                        mdm_wall_us(NULL), &poll, err);
    if (rc == MDM_OK && !poll.known && mdm_channel_is_user(channel->type)) {
        rc = mdm_store_poll(tx, channel->device,
                            a->speaker->identity.fingerprint,
                            mdm_wall_us(NULL), &poll, err);
        poll.eid = 0;
    }
    if (rc == MDM_OK) {
        rc = mdm_enroll_authorize(&poll, err);
    }
    if (rc == MDM_OK && poll.device_state == MDM_ENROLLMENT_DISABLED) {
        rc = mdm_err_set(err, MDM_EDENIED, 0, "the device has checked out");
    }
    a->out->eid = poll.eid;
    a->out->device_eid = poll.device_eid;
    return rc;
}

mdm_rc mdm_enroll_admit(mdm_store_t *store, const mdm_channel_t *channel,
                        const mdm_speaker_t *speaker,
                        mdm_admitted_t *admitted_r, mdm_err_t *err)
{
    admission_t a = {.channel = channel, .speaker = speaker};

    memset(admitted_r, 0, sizeof(*admitted_r));
    a.out = admitted_r;
    admitted_r->id = channel->id;
    admitted_r->device_id = channel->device;
    admitted_r->type = channel->type;
    return mdm_store_read(store, admit, &a, err);
}

mdm_rc mdm_enroll_apply(mdm_store_t *store, const mdm_checkin_t *msg,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_enroll_result_t *result_r, mdm_err_t *err)
{
    job_t job = {.msg = msg, .raw = raw, .speaker = speaker};

    memset(result_r, 0, sizeof(*result_r));
    job.result = result_r;
    job.now_us = mdm_wall_us(NULL);
    return mdm_store_write(store, apply, &job, err);
}
