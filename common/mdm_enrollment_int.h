/*
 * mdm_enrollment_int.h - between the files of the enroll role: which way it
 * is (mdm_enrollment.c), who introduces himself (mdm_enrollment_device.c),
 * log-ins and their tokens (mdm_enrollment_account.c).
 */
#ifndef MDM_ENROLLMENT_INT_H
#define MDM_ENROLLMENT_INT_H

#include "mdm_account.h"
#include "mdm_enrollment.h"
#include "mdm_machineinfo.h"

/* One request. */
typedef struct mdm_enrollment_call {
    mdm_server_t *server;
    const mdm_request_t *request;
    mdm_response_t *response;
    mdm_arena_t *arena; /* of the response */
    mdm_flow_t flow;
    mdm_machineinfo_t info; /* of a device that introduced itself */
    bool verified;      /* its maker vouches for it */
    mdm_str_t account;  /* who logged in; absent: nobody */
} mdm_enrollment_call_t;

/* Reads who introduces himself, from the body or the header.
 * MDM_EINVAL, MDM_ETOOBIG, MDM_EMEDIATYPE; MDM_EDENIED: its key may not
 * sign. */
mdm_rc mdm_enrollment_read_message(mdm_enrollment_call_t *call,
                                   mdm_err_t *err) MDM_USE_RESULT;
/* Does its maker vouch for it, and need he?  MDM_EDENIED, MDM_EIDENTITY. */
mdm_rc mdm_enrollment_vouch(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;
/* Both. */
mdm_rc mdm_enrollment_read(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;
/* May this device enrol?  *answered_r: no, and it was told why; else it is to
 * get `gets`.  Keeps what it said of itself.  Store errors. */
mdm_rc mdm_enrollment_judge(mdm_enrollment_call_t *call, const char *gets,
                            bool *answered_r, mdm_err_t *err) MDM_USE_RESULT;

/* The page where a user logs in: the host has done that already. */
mdm_rc mdm_enrollment_login(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;
/* Finds call->account by the token; *answered_r: there is none that is good,
 * and the device was told where to get one.  Store errors. */
mdm_rc mdm_enrollment_authorize(mdm_enrollment_call_t *call,
                                bool *answered_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Answers with the enrolment profile of this call's flow, account and
 * device.  Store errors. */
mdm_rc mdm_enrollment_profile(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;

/* The same for one that gives a device an identity and nothing else. */
mdm_rc mdm_enrollment_identity_profile(mdm_enrollment_call_t *call,
                                       mdm_err_t *err) MDM_USE_RESULT;
/* And for the one that sends a device back to us, with this challenge. */
mdm_rc mdm_enrollment_service_profile(mdm_enrollment_call_t *call,
                                      mdm_str_t challenge, mdm_err_t *err)
    MDM_USE_RESULT;

/* Over the air: the first profile, which sends the device back to us, and
 * what it posts then, twice. */
mdm_rc mdm_enrollment_ota_begin(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;
mdm_rc mdm_enrollment_ota(mdm_enrollment_call_t *call, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
