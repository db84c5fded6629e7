/*
 * mdm_enrollment.h - the enroll role: every way by which a device gets its
 * enrolment profile, and the log-in that some of them begin with.
 */
#ifndef MDM_ENROLLMENT_H
#define MDM_ENROLLMENT_H

#include "mdm_edge.h"

/* Answers a request of the enroll role, or fails with what mdm_http.c makes a
 * status of.  Any thread; blocks on the store. */
mdm_rc mdm_enrollment_handle(mdm_server_t *server,
                             const mdm_request_t *request,
                             mdm_response_t *response, mdm_err_t *err)
    MDM_USE_RESULT;

/* A message of an enrolled device carries a token of its user (Authorization:
 * Bearer): is it good?  *challenged_r: no, and the device was answered that
 * its user has to log in again.  *tid_r: as mdm_account_admit().  Without a
 * token, or where no log-in is configured, nothing is judged.
 * Store errors. */
mdm_rc mdm_enrollment_admit(mdm_server_t *server,
                            const mdm_request_t *request,
                            mdm_response_t *response,
                            const unsigned char fingerprint[MDM_SHA256_LEN],
                            int64_t *tid_r, bool *challenged_r,
                            mdm_err_t *err) MDM_USE_RESULT;

#endif
