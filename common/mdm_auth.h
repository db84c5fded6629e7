/*
 * mdm_auth.h - who speaks: a device by its certificate, an API client by its
 * token.  Any thread; no state.
 */
#ifndef MDM_AUTH_H
#define MDM_AUTH_H

#include "mdm_config.h"
#include "mdm_enroll.h"

/* The device certificate of the TLS connection, verified against the device
 * CAs of this host on every request (a resumed TLS session proves nothing).
 * MDM_EIDENTITY: none, or unreadable.  MDM_EDENIED: not trusted. */
mdm_rc mdm_auth_device(const mdm_request_t *request, mdm_speaker_t *speaker_r,
                       mdm_err_t *err) MDM_USE_RESULT;

/* HTTP Basic (any user name, the token as password) or Bearer.  *token_r: the
 * credential, borrowed.  MDM_EDENIED: no token file is configured.
 * MDM_EUNAUTHORIZED: credentials missing or wrong. */
mdm_rc mdm_auth_api(const mdm_request_t *request, mdm_arena_t *arena,
                    const mdm_api_token_t **token_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
