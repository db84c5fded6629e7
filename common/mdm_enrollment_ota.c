/*
 * mdm_enrollment_ota.c - over the air, the profile service: a first profile
 * that sends the device back to us, one that gives it an identity, and the
 * enrolment profile.  Which step it is shows by who signed.  Source:
 * docs/protocol.md, enrolment.
 */
#include "mdm_enrollment_int.h"

#include "mdm_auth.h"
#include "mdm_enroll.h"
#include "mdm_str.h"

/* ---- the first step ----------------------------------------------------- */

/* Who fetches it has passed the host's rules; the challenge in it is what his
 * device proves that with, as it comes without his password. */
mdm_rc mdm_enrollment_ota_begin(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    char token[MDM_ACCOUNT_TOKEN_SIZE];
    mdm_str_t challenge = MDM_STR_NONE;
    mdm_str_t user = call->request->remote_user;
    mdm_rc rc;

    user.n = user.n < MDM_ACCOUNT_MAX ? user.n : MDM_ACCOUNT_MAX;
    rc = mdm_account_issue(call->server->store, MDM_TOKEN_KIND_OTA, user,
                           call->request->location->token_first_us, token,
                           err);
    if (rc == MDM_OK &&
        !mdm_arena_str(call->arena, mdm_str_from(token), &challenge)) {
        rc = mdm_err_nomem(err);
    }
    mdm_wipe(token, sizeof(token));
    return rc == MDM_OK ? mdm_enrollment_service_profile(call, challenge, err)
                        : rc;
}

/* ---- the others --------------------------------------------------------- */

static mdm_rc check_challenge(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    mdm_account_token_t row;
    mdm_rc rc;

    rc = mdm_account_check(call->server->store, MDM_TOKEN_KIND_OTA,
                           call->info.challenge, call->arena, &row, err);
    if (rc == MDM_OK) {
        call->account = row.account.n > 0 ? row.account : MDM_STR_NONE;
    } else if (rc == MDM_EUNAUTHORIZED) {
        rc = mdm_err_set(err, MDM_EDENIED, MDM_MSG_INTRODUCTION_REFUSED,
                         "a device came over the air with a challenge that "
                         "is not known, or not any more");
    }
    return rc;
}

static mdm_rc find_owner(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const mdm_identity_t *identity = arg;
    mdm_binding_t binding;
    mdm_rc rc;

    rc = mdm_store_identity_get(tx, identity->fingerprint, &binding, err);
    if (rc == MDM_OK && binding.device_eid != 0) {
        rc = mdm_err_set(err, MDM_EDENIED, 0, "it belongs to an enrolment");
    }
    return rc == MDM_OK ? mdm_enroll_check_new(tx, identity, err) : rc;
}

/* An identity that a device uses already is none that it got just now: a
 * device that is managed has no business here. */
static mdm_rc check_unused(mdm_enrollment_call_t *call,
                           mdm_identity_t *identity, mdm_err_t *err)
{
    mdm_rc rc = mdm_store_read(call->server->store, find_owner, identity,
                               err);

    if (rc == MDM_EDENIED) {
        (void)mdm_err_prefix(err, "an identity that came over the air");
        err->id = MDM_MSG_INTRODUCTION_REFUSED;
    }
    return rc;
}

/* Signed by an identity of ours?  Then this is the last step. */
static mdm_rc is_last(mdm_enrollment_call_t *call, bool *last_r,
                      mdm_err_t *err)
{
    mdm_proof_t proof = {.request = call->request, .ca = call->server->ca};
    mdm_identity_t identity;
    mdm_rc rc;

    rc = mdm_auth_identity(&proof, &call->info.signer, &identity, err);
    *last_r = rc == MDM_OK;
    return rc == MDM_OK ? check_unused(call, &identity, err)
           : rc == MDM_EDENIED || rc == MDM_EIDENTITY ? MDM_OK
                                                      : rc;
}

mdm_rc mdm_enrollment_ota(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    bool answered = false;
    bool last = false;
    mdm_rc rc = mdm_enrollment_read_message(call, err);

    if (rc == MDM_OK) {
        rc = is_last(call, &last, err);
    }
    call->verified = last;
    if (rc == MDM_OK && !last) {
        rc = mdm_enrollment_vouch(call, err);
        if (rc == MDM_OK) {
            rc = check_challenge(call, err);
        }
    }
    if (rc == MDM_OK) {
        rc = mdm_enrollment_judge(call, last ? "profile" : "identity",
                                  &answered, err);
    }
    if (rc != MDM_OK || answered) {
        return rc;
    }
    return last ? mdm_enrollment_profile(call, err)
                : mdm_enrollment_identity_profile(call, err);
}
