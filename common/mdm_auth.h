/*
 * mdm_auth.h - who speaks: a device by its certificate or signature, an API
 * client by its token.  Any thread; no state.
 */
#ifndef MDM_AUTH_H
#define MDM_AUTH_H

#include "mdm_ca.h"
#include "mdm_config.h"
#include "mdm_enroll.h"

/* What a device sent, and who vouches for devices beside the authorities of
 * the host's configuration. */
typedef struct mdm_proof {
    const mdm_request_t *request;
    mdm_str_t body; /* the request's bytes as they came */
    mdm_ca_t *ca;   /* NULL: nobody */
} mdm_proof_t;

/* The device, by what the location accepts: the certificate of the TLS
 * connection, one that a trusted proxy put into a header, the signature of the
 * body.  What is there must be good, and all of it must name one certificate;
 * that is verified against the device CAs of this host and ours on every
 * request (a resumed TLS session proves nothing).  The speaker's strings are
 * the request's or in `arena`.
 * MDM_EIDENTITY: nothing that proves anything, unreadable, contradictory, or
 * a signature that does not fit the body.  MDM_EDENIED: not trusted.
 * MDM_ENOMEM, MDM_EINTERNAL; store errors while it is not known whom to
 * trust. */
mdm_rc mdm_auth_device(const mdm_proof_t *proof, mdm_speaker_t *speaker_r,
                       mdm_arena_t *arena, mdm_err_t *err) MDM_USE_RESULT;

/* Is this a certificate that is trusted for devices now?  The body does not
 * count.  As mdm_trust_verify(). */
mdm_rc mdm_auth_identity(const mdm_proof_t *proof, const mdm_shown_t *shown,
                         mdm_identity_t *identity_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Did somebody who is no trusted proxy send the header with a certificate?
 * It was taken as not sent, but is worth a line in the log. */
bool mdm_auth_header_ignored(const mdm_request_t *request);

/* The token of an Authorization header of the form "Bearer TOKEN"; absent:
 * it is of another form, or too long.  Borrowed. */
mdm_str_t mdm_auth_bearer(mdm_str_t authorization);

/* HTTP Basic (any user name, the token as password) or Bearer.  *token_r: the
 * credential, borrowed.  MDM_EDENIED: no token file is configured.
 * MDM_EUNAUTHORIZED: credentials missing or wrong.  MDM_EINTERNAL. */
mdm_rc mdm_auth_api(const mdm_request_t *request, mdm_arena_t *arena,
                    const mdm_api_token_t **token_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
