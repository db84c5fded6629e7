/*
 * mdm_checkin.c - check-in messages: which enrolment speaks, what it says,
 * and whether it may say so.  Nothing here knows whether the claim is true;
 * the certificate decides that elsewhere.
 *
 * Strings are borrowed from the message or made in the caller's arena.  Any
 * thread; no state.
 */
#include "mdm_checkin.h"

#include <string.h>

#include "mdm_str.h"

#define TOPIC_PREFIX "com.apple.mgmt."
#define SHARED_IPAD_USER "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"

/* ---- enrolment ids ----------------------------------------------------- */

const char *mdm_channel_type_name(mdm_channel_type_t type)
{
    switch (type) {
    case MDM_CHANNEL_DEVICE:
        return "Device";
    case MDM_CHANNEL_USER:
        return "User";
    case MDM_CHANNEL_USER_ENROLLMENT_DEVICE:
        return "User Enrollment (Device)";
    case MDM_CHANNEL_USER_ENROLLMENT:
        return "User Enrollment";
    case MDM_CHANNEL_SHARED_IPAD:
        return "Shared iPad";
    }
    return "unknown";
}

bool mdm_channel_is_user(mdm_channel_type_t type)
{
    return type == MDM_CHANNEL_USER || type == MDM_CHANNEL_USER_ENROLLMENT ||
           type == MDM_CHANNEL_SHARED_IPAD;
}

/* C0, DEL and, as UTF-8, C1. */
static bool has_control(mdm_str_t text)
{
    const unsigned char *p = (const unsigned char *)text.s;
    size_t i;

    for (i = 0; i < text.n; i++) {
        if (p[i] < 0x20 || p[i] == 0x7f ||
            (p[i] == 0xc2 && i + 1 < text.n && p[i + 1] >= 0x80 &&
             p[i + 1] <= 0x9f)) {
            return true;
        }
    }
    return false;
}

/* One part of an id, from the key `name`. */
static mdm_rc check_part(mdm_str_t part, const char *name, mdm_err_t *err)
{
    if (part.s == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is missing", name);
    }
    if (part.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is empty", name);
    }
    if (part.n > MDM_ID_PART_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is longer than %d bytes",
                           name, MDM_ID_PART_MAX);
    }
    if (has_control(part)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s has a control character", name);
    }
    return MDM_OK;
}

static mdm_rc check_device(mdm_str_t device, const char *name,
                           mdm_err_t *err)
{
    mdm_rc rc = check_part(device, name, err);

    if (rc == MDM_OK && memchr(device.s, ':', device.n) != NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s has a colon", name);
    }
    return rc;
}

/* The channel of a user, when there is one; else of the device. */
static mdm_rc join_parts(mdm_channel_t *channel, mdm_str_t user,
                         const char *name, mdm_arena_t *arena,
                         mdm_err_t *err)
{
    mdm_rc rc;
    char *id;

    if (!mdm_channel_is_user(channel->type)) {
        channel->id = channel->device;
        return MDM_OK;
    }
    rc = check_part(user, name, err);
    if (rc != MDM_OK) {
        return rc;
    }
    id = mdm_arena_alloc(arena, channel->device.n + 1 + user.n + 1);
    if (id == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(id, channel->device.s, channel->device.n);
    id[channel->device.n] = ':';
    memcpy(id + channel->device.n + 1, user.s, user.n);
    channel->id = (mdm_str_t){id, channel->device.n + 1 + user.n};
    return MDM_OK;
}

mdm_rc mdm_channel_resolve(const mdm_channel_keys_t *keys,
                           mdm_arena_t *arena, mdm_channel_t *channel_r,
                           mdm_err_t *err)
{
    const char *device_key = "UDID";
    const char *user_key = "UserID";
    mdm_str_t user = keys->user_id;
    mdm_rc rc;

    memset(channel_r, 0, sizeof(*channel_r));
    if (keys->udid.s != NULL) {
        channel_r->device = keys->udid;
        channel_r->type = MDM_CHANNEL_DEVICE;
        if (mdm_str_ieq(user, SHARED_IPAD_USER)) {
            channel_r->type = MDM_CHANNEL_SHARED_IPAD;
            user = keys->user_short_name;
            user_key = "UserShortName";
        } else if (user.n > 0) {
            channel_r->type = MDM_CHANNEL_USER;
        }
    } else if (keys->enrollment_id.s != NULL) {
        device_key = "EnrollmentID";
        channel_r->device = keys->enrollment_id;
        channel_r->type = MDM_CHANNEL_USER_ENROLLMENT_DEVICE;
        user = keys->enrollment_user_id;
        user_key = "EnrollmentUserID";
        if (user.n > 0) {
            channel_r->type = MDM_CHANNEL_USER_ENROLLMENT;
        }
    } else {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "neither UDID nor EnrollmentID");
    }
    rc = check_device(channel_r->device, device_key, err);
    if (rc == MDM_OK) {
        rc = join_parts(channel_r, user, user_key, arena, err);
    }
    return rc;
}

void mdm_channel_want(mdm_plist_want_t want[MDM_CHANNEL_WANTS])
{
    static const char *const names[MDM_CHANNEL_WANTS] = {
        "UDID", "EnrollmentID", "UserID", "UserShortName",
        "EnrollmentUserID"};
    size_t i;

    for (i = 0; i < MDM_CHANNEL_WANTS; i++) {
        want[i].path = names[i];
    }
}

mdm_rc mdm_channel_from_wanted(const mdm_plist_want_t *want,
                               mdm_arena_t *arena, mdm_channel_t *channel_r,
                               mdm_err_t *err)
{
    mdm_channel_keys_t keys;
    size_t i;

    for (i = 0; i < MDM_CHANNEL_WANTS; i++) {
        if (want[i].type != MDM_PLIST_ABSENT &&
            want[i].type != MDM_PLIST_STRING) {
            return mdm_err_set(err, MDM_EINVAL, 0, "%s is not a string",
                               want[i].path);
        }
    }
    keys.udid = want[0].value;
    keys.enrollment_id = want[1].value;
    keys.user_id = want[2].value;
    keys.user_short_name = want[3].value;
    keys.enrollment_user_id = want[4].value;
    return mdm_channel_resolve(&keys, arena, channel_r, err);
}

/* ---- messages ---------------------------------------------------------- */

enum {
    W_USER_SHORT_NAME = 3, /* its place in mdm_channel_want() */
    W_MESSAGE_TYPE = MDM_CHANNEL_WANTS,
    W_TOPIC,
    W_TOKEN,
    W_PUSH_MAGIC,
    W_UNLOCK_TOKEN,
    W_AWAITING_CONFIGURATION,
    W_SERIAL_NUMBER,
    W_DEVICE_NAME,
    W_MODEL,
    W_MODEL_NAME,
    W_PRODUCT_NAME,
    W_OS_VERSION,
    W_BUILD_VERSION,
    W_IMEI,
    W_MEID,
    W_USER_LONG_NAME,
    W_DIGEST_RESPONSE,
    W_BOOTSTRAP_TOKEN,
    W_ENDPOINT,
    W_DATA,
    W_TOKEN_SERVICE_TYPE,
    W_COUNT
};

static const char *const want_names[W_COUNT] = {
    [W_MESSAGE_TYPE] = "MessageType",
    [W_TOPIC] = "Topic",
    [W_TOKEN] = "Token",
    [W_PUSH_MAGIC] = "PushMagic",
    [W_UNLOCK_TOKEN] = "UnlockToken",
    [W_AWAITING_CONFIGURATION] = "AwaitingConfiguration",
    [W_SERIAL_NUMBER] = "SerialNumber",
    [W_DEVICE_NAME] = "DeviceName",
    [W_MODEL] = "Model",
    [W_MODEL_NAME] = "ModelName",
    [W_PRODUCT_NAME] = "ProductName",
    [W_OS_VERSION] = "OSVersion",
    [W_BUILD_VERSION] = "BuildVersion",
    [W_IMEI] = "IMEI",
    [W_MEID] = "MEID",
    [W_USER_LONG_NAME] = "UserLongName",
    [W_DIGEST_RESPONSE] = "DigestResponse",
    [W_BOOTSTRAP_TOKEN] = "BootstrapToken",
    [W_ENDPOINT] = "Endpoint",
    [W_DATA] = "Data",
    [W_TOKEN_SERVICE_TYPE] = "TokenServiceType",
};

/* Which channels send a message. */
typedef enum channels { ANY, DEVICE, USER } channels_t;

/* What each message needs beside MessageType and an identifier. */
static const struct {
    const char *name;
    mdm_checkin_type_t type;
    bool topic;
    channels_t channels;
} messages[] = {
    {"Authenticate", MDM_CHECKIN_AUTHENTICATE, true, DEVICE},
    {"TokenUpdate", MDM_CHECKIN_TOKEN_UPDATE, true, ANY},
    /* The topic of a CheckOut decides nothing: do without it. */
    {"CheckOut", MDM_CHECKIN_CHECK_OUT, false, DEVICE},
    {"UserAuthenticate", MDM_CHECKIN_USER_AUTHENTICATE, false, USER},
    {"SetBootstrapToken", MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, false, DEVICE},
    {"GetBootstrapToken", MDM_CHECKIN_GET_BOOTSTRAP_TOKEN, false, DEVICE},
    {"DeclarativeManagement", MDM_CHECKIN_DECLARATIVE_MANAGEMENT, false, ANY},
    {"GetToken", MDM_CHECKIN_GET_TOKEN, false, ANY},
    {"ReturnToService", MDM_CHECKIN_RETURN_TO_SERVICE, false, DEVICE},
};

/* A value of exactly this type and 1 to max bytes. */
static mdm_rc need(const mdm_plist_want_t *want, mdm_plist_type_t type,
                   size_t max, mdm_str_t *value_r, mdm_err_t *err)
{
    if (want->type == MDM_PLIST_ABSENT) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is missing", want->path);
    }
    if (want->type != type) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is not %s", want->path,
                           type == MDM_PLIST_DATA ? "data" : "a string");
    }
    if (want->value.n == 0 || want->value.n > max) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s has %zu bytes, allowed are 1 to %zu",
                           want->path, want->value.n, max);
    }
    *value_r = want->value;
    return MDM_OK;
}

/* The text of an optional key; absent when it is of another type. */
static mdm_str_t optional(const mdm_plist_want_t *want,
                          mdm_plist_type_t type)
{
    return want->type == type ? want->value : MDM_STR_NONE;
}

static mdm_rc read_topic(const mdm_plist_want_t *want, bool required,
                         mdm_str_t *topic_r, mdm_err_t *err)
{
    mdm_rc rc;

    if (!required && want->type != MDM_PLIST_STRING) {
        return MDM_OK;
    }
    rc = need(want, MDM_PLIST_STRING, MDM_TOPIC_MAX, topic_r, err);
    if (rc == MDM_OK &&
        (!mdm_str_starts(*topic_r, TOPIC_PREFIX) || has_control(*topic_r))) {
        return mdm_err_set(err, MDM_EINVAL, 0, "Topic is no MDM push topic");
    }
    return rc;
}

static mdm_rc read_token_update(const mdm_plist_want_t *want,
                                mdm_checkin_t *msg, mdm_err_t *err)
{
    mdm_rc rc;

    rc = need(&want[W_TOKEN], MDM_PLIST_DATA, MDM_TOKEN_MAX, &msg->token,
              err);
    if (rc == MDM_OK) {
        rc = need(&want[W_PUSH_MAGIC], MDM_PLIST_STRING, MDM_MAGIC_MAX,
                  &msg->push_magic, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    msg->unlock_token = optional(&want[W_UNLOCK_TOKEN], MDM_PLIST_DATA);
    if (msg->unlock_token.n > MDM_UNLOCK_TOKEN_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "UnlockToken is longer than %d bytes",
                           MDM_UNLOCK_TOKEN_MAX);
    }
    return MDM_OK;
}

/* The token is data; absent and empty both mean that there is none now. */
static mdm_rc read_bootstrap_token(const mdm_plist_want_t *want,
                                   mdm_checkin_t *msg, mdm_err_t *err)
{
    if (want->type != MDM_PLIST_ABSENT && want->type != MDM_PLIST_DATA) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is not data", want->path);
    }
    if (want->value.n > MDM_BOOTSTRAP_TOKEN_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is longer than %d bytes",
                           want->path, MDM_BOOTSTRAP_TOKEN_MAX);
    }
    msg->bootstrap_token = want->value;
    return MDM_OK;
}

static mdm_rc read_declarative(const mdm_plist_want_t *want,
                               mdm_checkin_t *msg, mdm_err_t *err)
{
    mdm_rc rc;

    rc = need(&want[W_ENDPOINT], MDM_PLIST_STRING, MDM_ENDPOINT_MAX,
              &msg->endpoint, err);
    if (rc == MDM_OK && has_control(msg->endpoint)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "Endpoint has a control character");
    }
    if (rc == MDM_OK && want[W_DATA].type != MDM_PLIST_ABSENT &&
        want[W_DATA].type != MDM_PLIST_DATA) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "Data is not data");
    }
    msg->data = want[W_DATA].value;
    return rc;
}

/* What a message of this type must or may carry beyond the common keys. */
static mdm_rc read_own(const mdm_plist_want_t *want, mdm_checkin_t *msg,
                       mdm_err_t *err)
{
    switch (msg->type) {
    case MDM_CHECKIN_TOKEN_UPDATE:
        return read_token_update(want, msg, err);
    case MDM_CHECKIN_USER_AUTHENTICATE:
        return want[W_DIGEST_RESPONSE].type == MDM_PLIST_ABSENT
                   ? MDM_OK
                   : need(&want[W_DIGEST_RESPONSE], MDM_PLIST_STRING,
                          MDM_DIGEST_RESPONSE_MAX, &msg->digest_response,
                          err);
    case MDM_CHECKIN_SET_BOOTSTRAP_TOKEN:
        return read_bootstrap_token(&want[W_BOOTSTRAP_TOKEN], msg, err);
    case MDM_CHECKIN_DECLARATIVE_MANAGEMENT:
        return read_declarative(want, msg, err);
    case MDM_CHECKIN_GET_TOKEN:
        return need(&want[W_TOKEN_SERVICE_TYPE], MDM_PLIST_STRING,
                    MDM_TOKEN_SERVICE_MAX, &msg->token_service_type, err);
    default:
        return MDM_OK;
    }
}

static void read_optional(const mdm_plist_want_t *want, mdm_checkin_t *msg)
{
    const struct {
        mdm_str_t *to;
        int from;
    } fields[] = {
        {&msg->serial_number, W_SERIAL_NUMBER},
        {&msg->device_name, W_DEVICE_NAME},
        {&msg->model, W_MODEL},
        {&msg->model_name, W_MODEL_NAME},
        {&msg->product_name, W_PRODUCT_NAME},
        {&msg->os_version, W_OS_VERSION},
        {&msg->build_version, W_BUILD_VERSION},
        {&msg->imei, W_IMEI},
        {&msg->meid, W_MEID},
        {&msg->user_short_name, W_USER_SHORT_NAME},
        {&msg->user_long_name, W_USER_LONG_NAME},
    };
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(fields); i++) {
        *fields[i].to = optional(&want[fields[i].from], MDM_PLIST_STRING);
        if (fields[i].to->n > MDM_TEXT_MAX) {
            *fields[i].to = MDM_STR_NONE;
        }
    }
    msg->has_awaiting_configuration =
        want[W_AWAITING_CONFIGURATION].type == MDM_PLIST_BOOL;
    msg->awaiting_configuration = msg->has_awaiting_configuration &&
                                  want[W_AWAITING_CONFIGURATION].flag;
}

/* The message behind the wanted values. */
static mdm_rc read_message(const mdm_plist_want_t *want, mdm_arena_t *arena,
                           mdm_checkin_t *msg, mdm_err_t *err)
{
    mdm_str_t name = MDM_STR_NONE;
    char shown[64];
    size_t i = 0;
    mdm_rc rc;

    rc = need(&want[W_MESSAGE_TYPE], MDM_PLIST_STRING, SIZE_MAX, &name, err);
    if (rc != MDM_OK) {
        return rc;
    }
    while (i < MDM_ARRAY_LEN(messages) &&
           !mdm_str_is(name, messages[i].name)) {
        i++;
    }
    if (i == MDM_ARRAY_LEN(messages)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "unknown MessageType \"%s\"",
                           mdm_str_printable(name, shown, sizeof(shown)));
    }
    msg->type = messages[i].type;
    rc = mdm_channel_from_wanted(want, arena, &msg->channel, err);
    if (rc == MDM_OK && messages[i].channels != ANY &&
        (messages[i].channels == USER) !=
            mdm_channel_is_user(msg->channel.type)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "%s on a %s channel",
                         messages[i].name,
                         messages[i].channels == USER ? "device" : "user");
    }
    if (rc == MDM_OK) {
        rc = read_topic(&want[W_TOPIC], messages[i].topic, &msg->topic, err);
    }
    if (rc == MDM_OK) {
        rc = read_own(want, msg, err);
    }
    read_optional(want, msg);
    return rc;
}

mdm_rc mdm_checkin_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                         mdm_arena_t *arena, mdm_checkin_t *msg_r,
                         mdm_err_t *err)
{
    mdm_plist_want_t want[W_COUNT];
    mdm_plist_scan_t scan;
    mdm_rc rc;
    size_t i;

    memset(msg_r, 0, sizeof(*msg_r));
    mdm_channel_want(want);
    for (i = MDM_CHANNEL_WANTS; i < W_COUNT; i++) {
        want[i].path = want_names[i];
    }
    rc = mdm_plist_scan(raw, limits, MDM_PLIST_STRICT, arena, want, W_COUNT,
                        &scan, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (scan.root != MDM_PLIST_DICT) {
        return mdm_err_set(err, MDM_EINVAL, 0, "not a dictionary");
    }
    return read_message(want, arena, msg_r, err);
}
