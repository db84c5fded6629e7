/*
 * mdm_profile.h - the profiles that lead into management, as XML: the one
 * that enrols, the one that gives an identity alone, and the one that sends a
 * device back to where it came from.  Values in, bytes out; who gets what is
 * decided above.  Source: docs/protocol.md, enrolment.  Any thread; no state.
 */
#ifndef MDM_PROFILE_H
#define MDM_PROFILE_H

#include "mdm_base.h"
#include "mdm_buf.h"
#include "mdm_err.h"

#define MDM_PROFILE_TYPE "application/x-apple-aspen-config"
/* No profile of ours is larger. */
#define MDM_PROFILE_MAX (1024 * 1024)

/* Certificates that come along. */
#define MDM_PROFILE_BRINGS_MAX 32

/* All rights of an MDM server. */
#define MDM_RIGHTS_ALL 8191

/* What stands in it.  Strings are as mdm_str_is_text() wants them. */
typedef struct mdm_profile {
    mdm_str_t identifier; /* reverse DNS; of a later profile the same */
    mdm_str_t name;
    mdm_str_t organization;
    /* identity */
    mdm_str_t scep_url;
    mdm_str_t challenge;
    mdm_str_t common_name;
    /* management */
    mdm_str_t topic;
    mdm_str_t server_url;
    mdm_str_t checkin_url; /* absent: the same */
    int64_t access_rights; /* 0: left out, as it must be for BYOD */
    mdm_str_t mode;        /* "BYOD" or "ADDE"; absent: no account */
    mdm_str_t account;     /* with a mode: the Managed Apple Account */
    bool tokens;           /* the server gives tokens of com.apple.maid */
    bool sign_message;
    bool check_out;
    bool user_channels;
    const mdm_str_t *certs; /* DER, that the device is to know */
    size_t ncerts;          /* at most MDM_PROFILE_BRINGS_MAX */
} mdm_profile_t;

/* Appends the enrolment profile: an identity by SCEP, and the management that
 * uses it.  Every payload gets a UUID of its own.  With
 * mdm_buf_init_secret() the challenge is wiped.
 * MDM_EINVAL: another character, MDM_ETOOBIG, MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_profile_write(const mdm_profile_t *profile, mdm_buf_t *xml,
                         mdm_err_t *err) MDM_USE_RESULT;
/* The identity alone. */
mdm_rc mdm_profile_write_identity(const mdm_profile_t *profile,
                                  mdm_buf_t *xml, mdm_err_t *err)
    MDM_USE_RESULT;
/* The profile service: the device posts what it is to `url`, with the
 * challenge. */
mdm_rc mdm_profile_write_service(const mdm_profile_t *profile, mdm_str_t url,
                                 mdm_buf_t *xml, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
