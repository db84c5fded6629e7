/*
 * mdm_enroll_admit.c - who may speak for an enrolment: certificates, their
 * binding, and what their first use changes.  See mdm_enroll.h.
 */
#include "mdm_enroll.h"

#include <string.h>

#include "mdm_str.h"

/* Does the speaker's certificate speak for the enrolment that was looked up?
 * MDM_EBLOCKED: it does, but the device is shut out. */
static mdm_rc authorize(const mdm_poll_t *poll, mdm_err_t *err)
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
    if (poll->revoked) {
        return mdm_err_set(err, MDM_EDENIED, 0, "the certificate is revoked");
    }
    if (poll->blocked) {
        return mdm_err_set(err, MDM_EBLOCKED, 0, "the device is blocked");
    }
    return MDM_OK;
}

mdm_rc mdm_enroll_check_issued(mdm_tx_t *tx, const mdm_identity_t *identity,
                               mdm_str_t device_id, mdm_str_t serial_number,
                               mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_issued_t issued = {.number = 0};
    mdm_rc rc;

    rc = arena != NULL ? mdm_store_issued_get(tx, identity->fingerprint,
                                              arena, &issued, err)
                       : mdm_err_nomem(err);
    if (rc == MDM_OK && issued.revoked_at != 0) {
        rc = mdm_err_set(err, MDM_EDENIED, 0, "the certificate is revoked");
    } else if (rc == MDM_OK &&
               ((issued.device_id.s != NULL &&
                 !mdm_str_eq(issued.device_id, device_id)) ||
                (issued.serial_number.s != NULL &&
                 !mdm_str_eq(issued.serial_number, serial_number)))) {
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "the certificate was issued for another device");
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_enroll_check_new(mdm_tx_t *tx, const mdm_identity_t *identity,
                            mdm_err_t *err)
{
    static const unsigned char none[MDM_SHA256_LEN];
    mdm_binding_t known;
    mdm_rc rc;

    if (memcmp(identity->twin, none, sizeof(none)) == 0) {
        return MDM_OK;
    }
    rc = mdm_store_identity_get(tx, identity->twin, &known, err);
    if (rc == MDM_OK && known.device_eid != 0) {
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "the certificate is an altered copy of one that "
                         "belongs to an enrolment");
    }
    return rc;
}

/* Would this message change the binding?  A renewed certificate is seen for
 * the first time, or a device that never had one shows one. */
static mdm_rc is_first_use(mdm_tx_t *tx, const mdm_poll_t *poll,
                           const mdm_speaker_t *speaker, bool *first_r,
                           mdm_err_t *err)
{
    bool any = true;
    bool own;
    mdm_rc rc = MDM_OK;

    if (poll->known && !poll->bound && !poll->bound_elsewhere &&
        speaker->retroactive) {
        rc = mdm_store_identity_any(tx, poll->device_eid, &any, &own, err);
    }
    *first_r = rc == MDM_OK && (poll->renewal == MDM_RENEWAL_ISSUED || !any);
    return rc;
}

/* The same for a device that is known, whose serial number is on record. */
static mdm_rc check_found(mdm_tx_t *tx, const mdm_identity_t *identity,
                          mdm_str_t device_id, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_enrollment_t row;
    mdm_rc rc;

    rc = arena != NULL
             ? mdm_store_enrollment_get(tx, device_id, arena, &row, err)
             : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        rc = mdm_enroll_check_issued(tx, identity, device_id,
                                     row.serial_number, err);
    }
    mdm_arena_free(&arena);
    return rc;
}

/* Of a renewal the certificate before becomes history; a first one is kept. */
static mdm_rc first_use(mdm_tx_t *tx, const mdm_look_up_t *what,
                        mdm_poll_t *poll, mdm_err_t *err)
{
    const mdm_identity_t *identity = &what->speaker->identity;
    mdm_binding_add_t add = {.device_eid = poll->device_eid,
                             .fingerprint = identity->fingerprint,
                             .not_after_us = identity->not_after_us,
                             .der = what->speaker->cert,
                             .renewal = MDM_RENEWAL_FOUND};
    mdm_rc rc;

    if (poll->renewal == MDM_RENEWAL_ISSUED) {
        return mdm_store_identity_settle(tx, poll->device_eid,
                                         identity->fingerprint,
                                         MDM_RENEWAL_SEEN, err);
    }
    rc = mdm_enroll_check_new(tx, identity, err);
    if (rc == MDM_OK) {
        rc = check_found(tx, identity, what->channel->device, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_identity_bind(tx, &add, what->now_us, err);
    }
    poll->bound = rc == MDM_OK;
    poll->current = poll->bound;
    return rc;
}

static mdm_rc poll_channel(mdm_tx_t *tx, const mdm_look_up_t *what,
                           mdm_poll_t *poll_r, mdm_err_t *err)
{
    const unsigned char *fp = what->speaker->identity.fingerprint;
    mdm_rc rc;

    rc = mdm_store_poll(tx, what->channel->id, fp, what->now_us, poll_r, err);
    if (rc == MDM_OK && !poll_r->known && what->any_user &&
        mdm_channel_is_user(what->channel->type)) {
        rc = mdm_store_poll(tx, what->channel->device, fp, what->now_us,
                            poll_r, err);
        poll_r->eid = 0;
    }
    return rc;
}

mdm_rc mdm_enroll_look_up(mdm_tx_t *tx, const mdm_look_up_t *what,
                          mdm_poll_t *poll_r, bool *again_r, mdm_err_t *err)
{
    mdm_rc rc = poll_channel(tx, what, poll_r, err);
    bool blocked = poll_r->blocked;
    bool first = false;

    *again_r = false;
    if (rc == MDM_OK) {
        rc = is_first_use(tx, poll_r, what->speaker, &first, err);
    }
    if (first) {
        if (!what->writing) {
            *again_r = true;
            return MDM_OK;
        }
        rc = first_use(tx, what, poll_r, err);
    }
    if (rc == MDM_OK) {
        poll_r->blocked = blocked && !what->leaving;
        rc = authorize(poll_r, err);
        poll_r->blocked = blocked;
    }
    if (rc == MDM_OK && !what->leaving &&
        (poll_r->device_state == MDM_ENROLLMENT_DISABLED ||
         (poll_r->state == MDM_ENROLLMENT_DISABLED && !what->any_user))) {
        rc = mdm_err_set(err, MDM_EDENIED, 0, "the enrolment has checked out");
    }
    return rc;
}

typedef struct admission {
    mdm_look_up_t what;
    mdm_poll_t poll;
    bool again;
} admission_t;

static mdm_rc admit(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    admission_t *a = arg;

    return mdm_enroll_look_up(tx, &a->what, &a->poll, &a->again, err);
}

mdm_rc mdm_enroll_admit(mdm_store_t *store, const mdm_channel_t *channel,
                        const mdm_speaker_t *speaker,
                        mdm_admitted_t *admitted_r, mdm_err_t *err)
{
    admission_t a = {.what = {.channel = channel,
                              .speaker = speaker,
                              .any_user = true}};
    mdm_rc rc;

    a.what.now_us = mdm_wall_us(NULL);
    rc = mdm_store_read(store, admit, &a, err);
    if (rc == MDM_OK && a.again) {
        a.what.writing = true;
        rc = mdm_store_write(store, admit, &a, err);
    }
    admitted_r->eid = a.poll.eid;
    admitted_r->device_eid = a.poll.device_eid;
    admitted_r->id = channel->id;
    admitted_r->device_id = channel->device;
    admitted_r->type = channel->type;
    return rc;
}

/* May whoever has this certificate ask for another one? */
static mdm_rc check_signer(const mdm_binding_t *signer,
                           const mdm_owner_t *owner, mdm_err_t *err)
{
    if (signer->device_eid == 0) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate to be renewed belongs to no "
                           "enrolment");
    }
    if (!signer->current) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the certificate to be renewed is a former one");
    }
    if (owner->blocked) {
        return mdm_err_set(err, MDM_EBLOCKED, 0, "the device is blocked");
    }
    if (owner->state == MDM_ENROLLMENT_DISABLED) {
        return mdm_err_set(err, MDM_EDENIED, 0, "the device has checked out");
    }
    return MDM_OK;
}

mdm_rc mdm_enroll_renew(mdm_tx_t *tx,
                        const unsigned char signer[MDM_SHA256_LEN],
                        const mdm_speaker_t *issued, int64_t now_us,
                        mdm_err_t *err)
{
    mdm_binding_add_t add = {.fingerprint = issued->identity.fingerprint,
                             .not_after_us = issued->identity.not_after_us,
                             .der = issued->cert,
                             .renewal = MDM_RENEWAL_ISSUED};
    mdm_binding_t old;
    mdm_binding_t known;
    mdm_owner_t owner;
    mdm_rc rc;

    memset(&owner, 0, sizeof(owner));
    rc = mdm_store_identity_get(tx, signer, &old, err);
    if (rc == MDM_OK && old.device_eid != 0) {
        rc = mdm_store_owner_get(tx, old.device_eid, &owner, err);
    }
    if (rc == MDM_OK) {
        rc = check_signer(&old, &owner, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_identity_get(tx, add.fingerprint, &known, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (known.device_eid == old.device_eid && known.current) {
        return MDM_OK; /* the same request once more */
    }
    if (known.device_eid != 0) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the new certificate belongs to another "
                           "enrolment, or is a former one");
    }
    add.device_eid = old.device_eid;
    return mdm_store_identity_bind(tx, &add, now_us, err);
}
