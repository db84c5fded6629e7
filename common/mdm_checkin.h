/*
 * mdm_checkin.h - check-in messages: bytes to struct, with the refusals the
 * protocol asks for.  Source of the rules: docs/protocol.md (check-in).
 * Any thread; no state.
 */
#ifndef MDM_CHECKIN_H
#define MDM_CHECKIN_H

#include "mdm_plist.h"

/* Which kind of enrolment and channel a message speaks for. */
typedef enum mdm_channel_type {
    MDM_CHANNEL_DEVICE = 1,          /* UDID */
    MDM_CHANNEL_USER = 2,            /* UDID:UserID (macOS) */
    MDM_CHANNEL_USER_ENROLLMENT_DEVICE = 3, /* EnrollmentID */
    MDM_CHANNEL_USER_ENROLLMENT = 4, /* EnrollmentID:EnrollmentUserID */
    MDM_CHANNEL_SHARED_IPAD = 5      /* UDID:UserShortName */
} mdm_channel_type_t;

/* The enrolment a message claims to come from; a claim until the identity
 * certificate has been compared. */
typedef struct mdm_channel {
    mdm_channel_type_t type;
    mdm_str_t id;     /* device part, or device part ":" user part */
    mdm_str_t device; /* the device part alone: certificates bind to it */
} mdm_channel_t;

/* Names as NanoMDM's webhook and API use them ("Device", "User", ...). */
const char *mdm_channel_type_name(mdm_channel_type_t type);
bool mdm_channel_is_user(mdm_channel_type_t type);

/* The identifier keys of any message, for mdm_channel_resolve(). */
typedef struct mdm_channel_keys {
    mdm_str_t udid;
    mdm_str_t enrollment_id;
    mdm_str_t user_id;
    mdm_str_t user_short_name;
    mdm_str_t enrollment_user_id;
} mdm_channel_keys_t;

/* Which enrolment these keys name.  UDID wins over EnrollmentID; the Shared
 * iPad constant is compared ignoring case.  The id is made in `arena`.
 * MDM_EINVAL: no device part, or a part empty where needed, over
 * MDM_ID_PART_MAX bytes, or with a NUL or control character; a colon in the
 * device part, which would make it look like somebody's user channel. */
mdm_rc mdm_channel_resolve(const mdm_channel_keys_t *keys, mdm_arena_t *arena,
                           mdm_channel_t *channel_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* The same keys as values to pick from a message: put them first in the list
 * of wanted values, scan, then resolve.  A key of another type than string is
 * MDM_EINVAL, besides the cases above. */
#define MDM_CHANNEL_WANTS 5
void mdm_channel_want(mdm_plist_want_t want[MDM_CHANNEL_WANTS]);
mdm_rc mdm_channel_from_wanted(const mdm_plist_want_t *want,
                               mdm_arena_t *arena, mdm_channel_t *channel_r,
                               mdm_err_t *err) MDM_USE_RESULT;

typedef enum mdm_checkin_type {
    MDM_CHECKIN_AUTHENTICATE = 1,
    MDM_CHECKIN_TOKEN_UPDATE,
    MDM_CHECKIN_CHECK_OUT,
    MDM_CHECKIN_USER_AUTHENTICATE,
    MDM_CHECKIN_SET_BOOTSTRAP_TOKEN,
    MDM_CHECKIN_GET_BOOTSTRAP_TOKEN,
    MDM_CHECKIN_DECLARATIVE_MANAGEMENT,
    MDM_CHECKIN_GET_TOKEN,
    MDM_CHECKIN_RETURN_TO_SERVICE
} mdm_checkin_type_t;

typedef struct mdm_checkin {
    mdm_checkin_type_t type;
    mdm_channel_t channel;
    mdm_str_t topic;
    /* TokenUpdate */
    mdm_str_t token;        /* raw bytes, 1 to MDM_TOKEN_MAX */
    mdm_str_t push_magic;   /* 1 to MDM_MAGIC_MAX bytes */
    mdm_str_t unlock_token; /* absent or empty: keep the stored one */
    bool has_awaiting_configuration;
    bool awaiting_configuration;
    /* Authenticate; each absent when not sent or of another type */
    mdm_str_t serial_number;
    mdm_str_t device_name;
    mdm_str_t model;
    mdm_str_t model_name;
    mdm_str_t product_name;
    mdm_str_t os_version;
    mdm_str_t build_version;
    mdm_str_t imei;
    mdm_str_t meid;
    /* user channel */
    mdm_str_t user_short_name;
    mdm_str_t user_long_name;
    /* UserAuthenticate: the second request of a log-in; absent in the first */
    mdm_str_t digest_response;
    /* SetBootstrapToken; absent or empty: forget the stored one */
    mdm_str_t bootstrap_token;
    /* DeclarativeManagement: 1 to MDM_ENDPOINT_MAX bytes without control
     * characters; data is absent unless something is reported */
    mdm_str_t endpoint;
    mdm_str_t data;
    /* GetToken: 1 to MDM_TOKEN_SERVICE_MAX bytes */
    mdm_str_t token_service_type;
} mdm_checkin_t;

/* Strings borrowed from `raw` or made in `arena`.
 * MDM_EINVAL: not a property list, root no dictionary, no or unknown
 * MessageType, a required key absent or of another type, a token or magic of
 * length 0 or over its maximum, a topic that does not begin with
 * "com.apple.mgmt.".  Unknown keys, optional keys of a wrong type and
 * texts over MDM_TEXT_MAX are passed over.  MDM_ETOOBIG, MDM_ENOMEM. */
mdm_rc mdm_checkin_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                         mdm_arena_t *arena, mdm_checkin_t *msg_r,
                         mdm_err_t *err) MDM_USE_RESULT;

#endif
