/*
 * mdm_enroll.h - the life of an enrolment: Authenticate, TokenUpdate,
 * CheckOut, and who may speak for it.
 *
 *   (none) --Authenticate--> authenticating --TokenUpdate--> enrolled
 *   enrolled --Authenticate--> authenticating (a new life)
 *   any --CheckOut--> disabled --Authenticate--> authenticating
 *
 * A certificate is bound to the device part of the id at Authenticate, by the
 * SHA-256 of its DER.  Until the TokenUpdate that follows, the former one is
 * accepted as well, because a device may roll a profile replacement back;
 * from then on the other one is history.  Any thread; blocks on the store.
 */
#ifndef MDM_ENROLL_H
#define MDM_ENROLL_H

#include "mdm_checkin.h"
#include "mdm_store.h"
#include "mdm_x509.h"

/* Who sent a message: a device certificate that chains to a device CA. */
typedef struct mdm_speaker {
    mdm_identity_t identity;
    mdm_str_t cert; /* DER */
} mdm_speaker_t;

/* Does the speaker's certificate speak for the enrolment that was looked up?
 * MDM_EDENIED with the reason. */
mdm_rc mdm_enroll_authorize(const mdm_poll_t *poll, mdm_err_t *err);

/* An enrolment whose sender was admitted; strings in the caller's arena. */
typedef struct mdm_admitted {
    int64_t eid;
    int64_t device_eid;
    mdm_str_t id;        /* as the message's channel says */
    mdm_str_t device_id; /* the device part; equal to id on its own channel */
    mdm_channel_type_t type;
} mdm_admitted_t;

/* May this sender speak for the channel now?  One read.  For messages that
 * change nothing of the enrolment itself.  A user channel need not be known
 * yet when the device is: eid is 0 then.
 * MDM_EDENIED: another certificate, unknown, or checked out.  Store errors. */
mdm_rc mdm_enroll_admit(mdm_store_t *store, const mdm_channel_t *channel,
                        const mdm_speaker_t *speaker,
                        mdm_admitted_t *admitted_r, mdm_err_t *err)
    MDM_USE_RESULT;

typedef struct mdm_enroll_result {
    int64_t tally;     /* TokenUpdates since Authenticate */
    bool push_due;     /* a push became due: wake the dispatcher */
    bool topic_known;  /* a push certificate of the topic is there */
} mdm_enroll_result_t;

/* Applies one Authenticate, TokenUpdate or CheckOut in one transaction.
 * MDM_EDENIED: another device's or an unknown certificate, or no such
 * enrolment.  MDM_EINVAL: another message type.  Store errors. */
mdm_rc mdm_enroll_apply(mdm_store_t *store, const mdm_checkin_t *msg,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_enroll_result_t *result_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
