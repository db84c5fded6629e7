/*
 * mdm_enroll.h - the life of an enrolment, and who may speak for it.
 *
 *   (none) --Authenticate--> authenticating --TokenUpdate--> enrolled
 *   enrolled --Authenticate--> authenticating (a new life)
 *   any --CheckOut--> disabled --Authenticate--> authenticating
 *
 * Binding.  A certificate is bound to the device part of the id at
 * Authenticate, by the SHA-256 of its DER; one that belongs to another device
 * is refused, and so is a former one of the same device.  Until the
 * TokenUpdate that follows, the certificate before is accepted as well,
 * because a device may roll a profile replacement back; from then on it is
 * history, which is kept.  An enrolment that never had a certificate (it came
 * from another server) gets one at its first message, where the operator
 * allows that.
 *
 * Renewal.  A certificate that was issued for one in use is bound as it is
 * issued.  The old one stays good until the new one is seen in any message
 * but Authenticate.  An Authenticate under it goes on with the same life: the
 * queue and the escrowed tokens stay, pushes wait for the TokenUpdate.
 *
 * Blocking.  A device that an operator blocked is turned away at its next
 * contact, which makes it leave; it is disabled then, and stays shut out
 * until it is unblocked.
 *
 * Any thread; blocks on the store.
 */
#ifndef MDM_ENROLL_H
#define MDM_ENROLL_H

#include "mdm_checkin.h"
#include "mdm_store_issue.h"
#include "mdm_x509.h"

/* Who sent a message: a device certificate that chains to a device CA. */
typedef struct mdm_speaker {
    mdm_identity_t identity;
    mdm_str_t cert;   /* DER */
    bool retroactive; /* may be bound to a device that never had one */
} mdm_speaker_t;

/* May a certificate that is in no binding yet be bound at all?  Not when it
 * is one that was bound before, rewritten by its owner.
 * MDM_EDENIED; store errors. */
mdm_rc mdm_enroll_check_new(mdm_tx_t *tx, const mdm_identity_t *identity,
                            mdm_err_t *err) MDM_USE_RESULT;

/* May a certificate speak for this device?  One that we have issued may not
 * when it is revoked, or was issued for another device: another id, or
 * another serial number than the one that the device says it has.
 * MDM_EDENIED; store errors. */
mdm_rc mdm_enroll_check_issued(mdm_tx_t *tx, const mdm_identity_t *identity,
                               mdm_str_t device_id, mdm_str_t serial_number,
                               mdm_err_t *err) MDM_USE_RESULT;

/* Looks the channel up and admits the sender, inside a transaction.  The
 * first use of a certificate may change its binding: in a plain read
 * (`writing` false) *again_r says then that a writing transaction is needed,
 * and nothing is judged.  What of *poll_r is about commands and pushes is
 * valid either way.
 * MDM_EDENIED, MDM_EBLOCKED; MDM_EDENIED also when it has checked out. */
typedef struct mdm_look_up {
    const mdm_channel_t *channel;
    const mdm_speaker_t *speaker;
    bool writing;
    bool any_user; /* a user's channel may be unknown or disabled, if the
                    * device is ours; eid is 0 when it is unknown */
    bool leaving;  /* it may be blocked, or have checked out before */
    int64_t now_us;
} mdm_look_up_t;

mdm_rc mdm_enroll_look_up(mdm_tx_t *tx, const mdm_look_up_t *what,
                          mdm_poll_t *poll_r, bool *again_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* An enrolment whose sender was admitted; strings borrowed from the channel
 * that was asked for. */
typedef struct mdm_admitted {
    int64_t eid;
    int64_t device_eid;
    mdm_str_t id;        /* as the message's channel says */
    mdm_str_t device_id; /* the device part; equal to id on its own channel */
    mdm_channel_type_t type;
} mdm_admitted_t;

/* May this sender speak for the channel now?  One read as a rule.  For
 * messages that change nothing of the enrolment itself.  A user channel need
 * not be known yet when the device is: eid is 0 then.
 * MDM_EDENIED: another certificate, unknown, or checked out.  MDM_EBLOCKED.
 * Store errors. */
mdm_rc mdm_enroll_admit(mdm_store_t *store, const mdm_channel_t *channel,
                        const mdm_speaker_t *speaker,
                        mdm_admitted_t *admitted_r, mdm_err_t *err)
    MDM_USE_RESULT;

typedef struct mdm_enroll_result {
    int64_t eid;
    int64_t tally;     /* TokenUpdates since Authenticate */
    bool push_due;     /* a push became due: wake the dispatcher */
    bool topic_known;  /* a push certificate of the topic is there */
    bool renewed;      /* an Authenticate that goes on with the same life */
} mdm_enroll_result_t;

/* Applies one Authenticate, TokenUpdate, CheckOut or SetBootstrapToken in one
 * transaction.
 * MDM_EDENIED: another device's or an unknown certificate, or no such
 * enrolment.  MDM_EBLOCKED.  MDM_EINVAL: another message type.  Store
 * errors. */
mdm_rc mdm_enroll_apply(mdm_store_t *store, const mdm_checkin_t *msg,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_enroll_result_t *result_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* The same for a message that another MDM server has kept and an operator
 * brings: nobody proves anything, so it is refused for an enrolment that has
 * a certificate here, but for what is missing of one that came meanwhile and
 * was bound by its first use.  MDM_ECONFLICT: so it has. */
mdm_rc mdm_enroll_import(mdm_store_t *store, const mdm_checkin_t *msg,
                         mdm_str_t raw, mdm_enroll_result_t *result_r,
                         mdm_err_t *err) MDM_USE_RESULT;

/* Binds a certificate that is issued as the renewal of another one; call it
 * in the transaction that records the issue.  `signer`: SHA-256 of the
 * certificate that signed the request.  Repeating it changes nothing.
 * MDM_EDENIED: the signer speaks for no enrolment (unknown, former, of a
 * device that checked out), or the new certificate is another device's.
 * MDM_EBLOCKED. */
mdm_rc mdm_enroll_renew(mdm_tx_t *tx,
                        const unsigned char signer[MDM_SHA256_LEN],
                        const mdm_speaker_t *issued, int64_t now_us,
                        mdm_err_t *err) MDM_USE_RESULT;

/* Shuts a device out at its next contact, for which it is pushed, or lets it
 * in again; *changed_r: it was otherwise.  Unblocking does not enrol a device
 * that has left.
 * MDM_ENOTFOUND: no such enrolment.  MDM_EINVAL: a user channel. */
mdm_rc mdm_enroll_block(mdm_store_t *store, mdm_str_t id, bool block,
                        bool *changed_r, mdm_err_t *err) MDM_USE_RESULT;

/* For mdm_enroll*.c: the queue of the device and of its users is retired, no
 * push goes out until TokenUpdate; the users (Authenticate) or all channels
 * are disabled. */
mdm_rc mdm_enroll_end_life(mdm_tx_t *tx, int64_t device_eid, bool users_only,
                           int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;

/* How a blocked device is told. */
typedef struct mdm_turn_away {
    bool by_document; /* its system knows the 403 answer that says
                       * com.apple.unrecognized.device; an older one needs
                       * 401 */
    bool first;       /* it had not been told before */
} mdm_turn_away_t;

/* A blocked device is here: disables it and retires its queue.  MDM_EBUSY: it
 * was unblocked meanwhile and is to come again.  Store errors. */
mdm_rc mdm_enroll_turn_away(mdm_store_t *store, const mdm_channel_t *channel,
                            mdm_turn_away_t *how_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
