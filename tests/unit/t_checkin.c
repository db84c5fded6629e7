/*
 * t_checkin.c - check-in messages and enrolment ids.  The files of
 * tests/cases/mdm run in t_plist.c; here is what each field becomes and what
 * each refusal says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_checkin.h"
#include "mdm_str.h"
#include "plist_cases.h"

#define TOPIC "com.apple.mgmt.External.0b9c3d52"
#define KEY(name) "<key>" name "</key>"
#define STRING(name, value) KEY(name) "<string>" value "</string>"
#define DATA(name, value) KEY(name) "<data>" value "</data>"
#define TYPE(name) STRING("MessageType", name)
#define SERVICE STRING("TokenServiceType", "com.apple.maid")
#define DEVICE STRING("UDID", "U-1")
#define SHARED STRING("UserID", "ffffffff-FFFF-FFFF-FFFF-ffffffffffff")
#define TOKENS                                                                \
    STRING("Topic", TOPIC)                                                    \
    DATA("Token", "AAEC") STRING("PushMagic", "magic")

static const mdm_plist_limits_t limits = {1 << 20, 64, 10000};

typedef struct parsed {
    mdm_rc rc;
    mdm_err_t err;
    mdm_checkin_t msg;
    mdm_arena_t *arena;
    char *raw;
} parsed_t;

static parsed_t parse(const char *dict)
{
    size_t size = strlen(dict) + 64;
    parsed_t p;

    p.arena = mdm_arena_new(true);
    p.raw = malloc(size);
    assert_non_null(p.arena);
    assert_non_null(p.raw);
    (void)snprintf(p.raw, size, "<plist version=\"1.0\"><dict>%s</dict>"
                                "</plist>", dict);
    mdm_err_clear(&p.err);
    p.rc = mdm_checkin_parse(mdm_str_from(p.raw), &limits, p.arena, &p.msg,
                             &p.err);
    return p;
}

static void end(parsed_t *p)
{
    mdm_arena_free(&p->arena);
    free(p->raw);
}

static void accepted(const char *dict)
{
    parsed_t p = parse(dict);

    if (p.rc != MDM_OK) {
        fail_msg("%s: %s", dict, p.err.text);
    }
    end(&p);
}

static void refused(const char *dict, const char *why)
{
    parsed_t p = parse(dict);

    if (p.rc != MDM_EINVAL || strstr(p.err.text, why) == NULL) {
        fail_msg("%s: rc %d, \"%s\"", dict, p.rc, p.err.text);
    }
    end(&p);
}

static void is(mdm_str_t value, const char *expected)
{
    if (!mdm_str_is(value, expected)) {
        fail_msg("\"%.*s\" is not \"%s\"", MDM_STR_ARG(value), expected);
    }
}

/* ---- messages ---------------------------------------------------------- */

static void test_authenticate(void **state)
{
    mdm_str_t raw = read_case("mdm/C19-1-authenticate.plist");
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_checkin_t m;
    mdm_err_t err;

    (void)state;
    assert_int_equal(mdm_checkin_parse(raw, &limits, arena, &m, &err),
                     MDM_OK);
    assert_int_equal(m.type, MDM_CHECKIN_AUTHENTICATE);
    assert_int_equal(m.channel.type, MDM_CHANNEL_DEVICE);
    is(m.channel.id, "11111111-2222-5333-8444-555566667777");
    is(m.channel.device, "11111111-2222-5333-8444-555566667777");
    is(m.topic, "com.apple.mgmt.External.aaaaaaaa-bbbb-4ccc-8ddd-"
                "eeeeeeeeeeee");
    is(m.serial_number, "X0TESTSER1");
    is(m.device_name, "Test Device");
    is(m.model, "MX000");
    is(m.model_name, "iPhone");
    is(m.product_name, "iPhone17,2");
    is(m.os_version, "18.1");
    is(m.build_version, "22B83");
    assert_null(m.imei.s);
    assert_null(m.meid.s);
    assert_null(m.token.s);
    assert_false(m.has_awaiting_configuration);
    mdm_arena_free(&arena);
    free_case(raw);
}

static void test_authenticate_rules(void **state)
{
    char long_name[MDM_TEXT_MAX + 2];
    char dict[3 * MDM_TEXT_MAX];
    parsed_t p;

    (void)state;
    refused(TYPE("Authenticate") DEVICE, "Topic is missing");
    refused(TYPE("Authenticate") STRING("Topic", TOPIC), "neither UDID");
    refused(TYPE("Authenticate") DEVICE DATA("Topic", "AAEC"),
            "Topic is not a string");
    refused(TYPE("Authenticate") DEVICE STRING("Topic", ""), "Topic has 0");
    refused(TYPE("Authenticate") DEVICE STRING("Topic", "com.example"),
            "no MDM push topic");
    refused(TYPE("Authenticate") DEVICE STRING("Topic", TOPIC "&#10;"),
            "no MDM push topic");
    refused(TYPE("Authenticate") DEVICE STRING("Topic", TOPIC)
                STRING("UserID", "X"), "Authenticate on a user channel");
    refused(TYPE("Authenticate") STRING("EnrollmentID", "E")
                STRING("EnrollmentUserID", "X") STRING("Topic", TOPIC),
            "Authenticate on a user channel");
    /* No name is that long; the raw message has it still. */
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    (void)snprintf(dict, sizeof(dict), "%s<key>DeviceName</key><string>%s"
                   "</string><key>Model</key><string>%s</string>",
                   TYPE("Authenticate") DEVICE STRING("Topic", TOPIC),
                   long_name, long_name + 1);
    p = parse(dict);
    assert_int_equal(p.rc, MDM_OK);
    assert_null(p.msg.device_name.s);
    assert_int_equal(p.msg.model.n, MDM_TEXT_MAX);
    end(&p);
    /* Optional keys of another type, unknown keys: passed over. */
    p = parse(TYPE("Authenticate") DEVICE STRING("Topic", TOPIC)
                  KEY("SerialNumber") "<integer>7</integer>"
                  KEY("OSVersion") "<dict/>" DATA("Challenge", "YXBwbGU=")
                  STRING("IMEI", "35 000000 000000 0")
                  STRING("MEID", "35000000000000"));
    assert_int_equal(p.rc, MDM_OK);
    assert_null(p.msg.serial_number.s);
    assert_null(p.msg.os_version.s);
    is(p.msg.imei, "35 000000 000000 0");
    is(p.msg.meid, "35000000000000");
    end(&p);
}

static void test_token_update(void **state)
{
    parsed_t p;

    (void)state;
    p = parse(TYPE("TokenUpdate") DEVICE TOKENS DATA("UnlockToken", "/w==")
                  KEY("AwaitingConfiguration") "<true/>");
    assert_int_equal(p.rc, MDM_OK);
    assert_int_equal(p.msg.type, MDM_CHECKIN_TOKEN_UPDATE);
    is(p.msg.topic, TOPIC);
    assert_int_equal(p.msg.token.n, 3);
    assert_memory_equal(p.msg.token.s, "\0\1\2", 3);
    is(p.msg.push_magic, "magic");
    assert_int_equal(p.msg.unlock_token.n, 1);
    assert_memory_equal(p.msg.unlock_token.s, "\xff", 1);
    assert_true(p.msg.has_awaiting_configuration);
    assert_true(p.msg.awaiting_configuration);
    end(&p);
    p = parse(TYPE("TokenUpdate") DEVICE TOKENS DATA("UnlockToken", "")
                  KEY("AwaitingConfiguration") "<false/>");
    assert_int_equal(p.rc, MDM_OK);
    assert_int_equal(p.msg.unlock_token.n, 0);
    assert_true(p.msg.has_awaiting_configuration);
    assert_false(p.msg.awaiting_configuration);
    end(&p);
    p = parse(TYPE("TokenUpdate") DEVICE TOKENS STRING("UnlockToken", "x")
                  STRING("AwaitingConfiguration", "true"));
    assert_int_equal(p.rc, MDM_OK);
    assert_null(p.msg.unlock_token.s);
    assert_false(p.msg.has_awaiting_configuration);
    assert_false(p.msg.awaiting_configuration);
    end(&p);
}

/* A TokenUpdate whose value of the key is n bytes of base64 or text. */
static mdm_rc sized(const char *key, bool data, size_t n)
{
    const char *element = data ? "data" : "string";
    size_t len = data ? n / 3 * 4 : n;
    char *body = malloc(len + 1);
    size_t size = len + 512;
    char *text = malloc(size);
    parsed_t p;

    assert_non_null(body);
    assert_non_null(text);
    assert_true(!data || n % 3 == 0);
    memset(body, 'A', len);
    body[len] = '\0';
    (void)snprintf(text, size,
                   TYPE("TokenUpdate") DEVICE "%s%s%s<key>%s</key>"
                   "<%s>%s</%s>",
                   strcmp(key, "Topic") != 0 ? STRING("Topic", TOPIC) : "",
                   strcmp(key, "Token") != 0 ? DATA("Token", "AAEC") : "",
                   strcmp(key, "PushMagic") != 0 ? STRING("PushMagic", "m")
                                                 : "",
                   key, element, body, element);
    p = parse(text);
    free(body);
    free(text);
    end(&p);
    return p.rc;
}

static void test_token_update_rules(void **state)
{
    (void)state;
    refused(TYPE("TokenUpdate") DEVICE STRING("Topic", TOPIC)
                STRING("PushMagic", "m"), "Token is missing");
    refused(TYPE("TokenUpdate") DEVICE STRING("Topic", TOPIC)
                STRING("PushMagic", "m") STRING("Token", "00ff"),
            "Token is not data");
    refused(TYPE("TokenUpdate") DEVICE STRING("Topic", TOPIC)
                STRING("PushMagic", "m") DATA("Token", ""), "Token has 0");
    refused(TYPE("TokenUpdate") DEVICE STRING("Topic", TOPIC)
                DATA("Token", "AAEC"), "PushMagic is missing");
    refused(TYPE("TokenUpdate") DEVICE STRING("Topic", TOPIC)
                DATA("Token", "AAEC") STRING("PushMagic", ""),
            "PushMagic has 0");
    refused(TYPE("TokenUpdate") DEVICE DATA("Token", "AAEC")
                STRING("PushMagic", "m"), "Topic is missing");
    refused(TYPE("TokenUpdate") DEVICE TOKENS DATA("Token", "AAEC"),
            "key Token twice");
    assert_int_equal(sized("Token", true, 510), MDM_OK);
    assert_int_equal(sized("Token", true, 513), MDM_EINVAL);
    assert_int_equal(sized("PushMagic", false, MDM_MAGIC_MAX), MDM_OK);
    assert_int_equal(sized("PushMagic", false, MDM_MAGIC_MAX + 1),
                     MDM_EINVAL);
    assert_int_equal(sized("UnlockToken", true, 65535), MDM_OK);
    assert_int_equal(sized("UnlockToken", true, 65538), MDM_EINVAL);
}

/* The keys that each message has for itself. */
static void test_own_keys(void **state)
{
    parsed_t p;

    (void)state;
    p = parse(TYPE("SetBootstrapToken") DEVICE DATA("BootstrapToken", "AAEC"));
    assert_int_equal(p.rc, MDM_OK);
    assert_int_equal(p.msg.bootstrap_token.n, 3);
    assert_memory_equal(p.msg.bootstrap_token.s, "\0\1\2", 3);
    end(&p);
    p = parse(TYPE("SetBootstrapToken") DEVICE DATA("BootstrapToken", ""));
    assert_int_equal(p.rc, MDM_OK);
    assert_int_equal(p.msg.bootstrap_token.n, 0);
    end(&p);
    refused(TYPE("SetBootstrapToken") DEVICE STRING("BootstrapToken", "AAEC"),
            "BootstrapToken is not data");
    p = parse(TYPE("DeclarativeManagement") DEVICE
                  STRING("Endpoint", "status") DATA("Data", "e30="));
    assert_int_equal(p.rc, MDM_OK);
    is(p.msg.endpoint, "status");
    is(p.msg.data, "{}");
    end(&p);
    p = parse(TYPE("DeclarativeManagement") DEVICE
                  STRING("Endpoint", "tokens"));
    assert_int_equal(p.rc, MDM_OK);
    assert_null(p.msg.data.s);
    end(&p);
    refused(TYPE("DeclarativeManagement") DEVICE, "Endpoint is missing");
    refused(TYPE("DeclarativeManagement") DEVICE
                STRING("Endpoint", "tokens&#13;"), "control character");
    refused(TYPE("DeclarativeManagement") DEVICE STRING("Endpoint", "status")
                STRING("Data", "{}"), "Data is not data");
    refused(TYPE("GetToken") DEVICE, "TokenServiceType is missing");
    refused(TYPE("GetToken") DEVICE STRING("TokenServiceType", ""),
            "TokenServiceType has 0");
    p = parse(TYPE("UserAuthenticate") DEVICE STRING("UserID", "X"));
    assert_int_equal(p.rc, MDM_OK);
    assert_null(p.msg.digest_response.s);
    end(&p);
    p = parse(TYPE("UserAuthenticate") DEVICE STRING("UserID", "X")
                  STRING("DigestResponse", "Digest a"));
    assert_int_equal(p.rc, MDM_OK);
    is(p.msg.digest_response, "Digest a");
    end(&p);
    refused(TYPE("UserAuthenticate") DEVICE STRING("UserID", "X")
                KEY("DigestResponse") "<true/>",
            "DigestResponse is not a string");
}

static void test_other_messages(void **state)
{
    static const struct {
        const char *name;
        mdm_checkin_type_t type;
        const char *keys;
    } names[] = {
        {"CheckOut", MDM_CHECKIN_CHECK_OUT, ""},
        {"UserAuthenticate", MDM_CHECKIN_USER_AUTHENTICATE,
         STRING("UserID", "X")},
        {"SetBootstrapToken", MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, ""},
        {"GetBootstrapToken", MDM_CHECKIN_GET_BOOTSTRAP_TOKEN, ""},
        {"DeclarativeManagement", MDM_CHECKIN_DECLARATIVE_MANAGEMENT,
         STRING("Endpoint", "tokens")},
        {"GetToken", MDM_CHECKIN_GET_TOKEN, SERVICE},
        {"ReturnToService", MDM_CHECKIN_RETURN_TO_SERVICE, ""},
    };
    char text[256];
    parsed_t p;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(names); i++) {
        (void)snprintf(text, sizeof(text), TYPE("%s") DEVICE "%s",
                       names[i].name, names[i].keys);
        p = parse(text);
        assert_int_equal(p.rc, MDM_OK);
        assert_int_equal(p.msg.type, names[i].type);
        assert_null(p.msg.topic.s);
        end(&p);
        (void)snprintf(text, sizeof(text), TYPE("%s"), names[i].name);
        refused(text, "neither UDID");
    }
    refused(TYPE("CheckOut") DEVICE STRING("UserID", "X"),
            "CheckOut on a user channel");
    refused(TYPE("CheckOut") DEVICE STRING("Topic", "x"), "push topic");
    accepted(TYPE("GetToken") SERVICE DEVICE STRING("UserID", "X"));
    refused(TYPE("SetBootstrapToken") DEVICE STRING("UserID", "X"),
            "SetBootstrapToken on a user channel");
    refused(TYPE("UserAuthenticate") DEVICE,
            "UserAuthenticate on a device channel");
    refused(DEVICE, "MessageType is missing");
    refused(TYPE("") DEVICE, "MessageType has 0");
    refused(TYPE("authenticate") DEVICE, "unknown MessageType");
    refused(TYPE("Authenticate ") DEVICE, "unknown MessageType");
    refused(KEY("MessageType") "<integer>1</integer>" DEVICE,
            "MessageType is not a string");
    /* Check-ins are read strictly. */
    refused(TYPE("CheckOut") DEVICE STRING("DeviceName", "\x12"),
            "control character");
    refused(TYPE("CheckOut") DEVICE STRING("UDID", "U-2"), "key UDID twice");
}

static void test_root(void **state)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_plist_limits_t tight = limits;
    mdm_checkin_t m;
    mdm_err_t err;

    (void)state;
    assert_int_equal(
        mdm_checkin_parse(MDM_STR("<plist><array/></plist>"), &limits, arena,
                          &m, &err), MDM_EINVAL);
    assert_string_equal(err.text, "not a dictionary");
    assert_int_equal(mdm_checkin_parse(MDM_STR("bplist00"), &limits, arena,
                                       &m, &err), MDM_EINVAL);
    assert_non_null(strstr(err.text, "binary"));
    tight.size = 5;
    assert_int_equal(
        mdm_checkin_parse(MDM_STR("<plist><array/></plist>"), &tight, arena,
                          &m, &err), MDM_ETOOBIG);
    mdm_arena_free(&arena);
}

/* ---- channels ---------------------------------------------------------- */

static void channel_is(const char *keys, mdm_channel_type_t type,
                       const char *id, const char *device)
{
    char text[1024];
    parsed_t p;

    (void)snprintf(text, sizeof(text), TYPE("GetToken") SERVICE "%s", keys);
    p = parse(text);
    if (p.rc != MDM_OK) {
        fail_msg("%s: %s", keys, p.err.text);
    }
    assert_int_equal(p.msg.channel.type, type);
    is(p.msg.channel.id, id);
    is(p.msg.channel.device, device);
    end(&p);
}

static void test_channels(void **state)
{
    (void)state;
    channel_is(DEVICE, MDM_CHANNEL_DEVICE, "U-1", "U-1");
    channel_is(DEVICE STRING("UserID", ""), MDM_CHANNEL_DEVICE, "U-1",
               "U-1");
    channel_is(DEVICE STRING("UserID", "G") STRING("UserShortName", "robin"),
               MDM_CHANNEL_USER, "U-1:G", "U-1");
    channel_is(DEVICE SHARED STRING("UserShortName", "a:b/../%00'; --"),
               MDM_CHANNEL_SHARED_IPAD, "U-1:a:b/../%00'; --", "U-1");
    channel_is(STRING("EnrollmentID", "E"),
               MDM_CHANNEL_USER_ENROLLMENT_DEVICE, "E", "E");
    channel_is(STRING("EnrollmentID", "E") STRING("EnrollmentUserID", "V"),
               MDM_CHANNEL_USER_ENROLLMENT, "E:V", "E");
    /* Both: the UDID wins, and with it the keys of its users. */
    channel_is(DEVICE STRING("EnrollmentID", "E")
                   STRING("EnrollmentUserID", "V"),
               MDM_CHANNEL_DEVICE, "U-1", "U-1");
    channel_is(STRING("EnrollmentID", "E") STRING("UserID", "G"),
               MDM_CHANNEL_USER_ENROLLMENT_DEVICE, "E", "E");
    /* The value counts, not its spelling. */
    channel_is(STRING("UDID", "U<!-- x -->-&#49;"), MDM_CHANNEL_DEVICE,
               "U-1", "U-1");
    /* Case is kept. */
    channel_is(STRING("UDID", "u-1"), MDM_CHANNEL_DEVICE, "u-1", "u-1");
}

static void test_channel_refusals(void **state)
{
    (void)state;
    refused(TYPE("GetToken") STRING("UDID", ""), "UDID is empty");
    refused(TYPE("GetToken") STRING("UDID", "") STRING("EnrollmentID", "E"),
            "UDID is empty");
    refused(TYPE("GetToken") STRING("EnrollmentID", ""),
            "EnrollmentID is empty");
    refused(TYPE("GetToken") DEVICE SHARED, "UserShortName is missing");
    refused(TYPE("GetToken") DEVICE SHARED STRING("UserShortName", ""),
            "UserShortName is empty");
    refused(TYPE("GetToken") KEY("UDID") "<integer>7</integer>",
            "UDID is not a string");
    refused(TYPE("GetToken") DEVICE KEY("UserID") "<true/>",
            "UserID is not a string");
    refused(TYPE("GetToken") DEVICE KEY("EnrollmentID") "<dict/>",
            "EnrollmentID is not a string");
    refused(TYPE("GetToken") STRING("UDID", "a&#10;b"), "control character");
    refused(TYPE("GetToken") STRING("UDID", "a\tb"), "control character");
    refused(TYPE("GetToken") STRING("UDID", "a\x7f"), "control character");
    refused(TYPE("GetToken") STRING("UDID", "a&#x85;"), "control character");
    refused(TYPE("GetToken") DEVICE STRING("UserID", "a&#13;"),
            "control character");
    refused(TYPE("GetToken") STRING("UDID", "U-1:G"), "colon");
    refused(TYPE("GetToken") STRING("EnrollmentID", "E:V"), "colon");
}

static void test_resolve(void **state)
{
    char part[MDM_ID_PART_MAX + 2];
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_channel_keys_t keys = {0};
    mdm_channel_t channel;
    mdm_err_t err;

    (void)state;
    memset(part, 'a', sizeof(part));
    keys.udid = (mdm_str_t){part, MDM_ID_PART_MAX};
    keys.user_id = (mdm_str_t){part, MDM_ID_PART_MAX};
    assert_int_equal(mdm_channel_resolve(&keys, arena, &channel, &err),
                     MDM_OK);
    assert_int_equal(channel.id.n, MDM_ID_MAX);
    assert_int_equal(channel.id.s[MDM_ID_PART_MAX], ':');
    keys.user_id.n++;
    assert_int_equal(mdm_channel_resolve(&keys, arena, &channel, &err),
                     MDM_EINVAL);
    assert_non_null(strstr(err.text, "UserID is longer"));
    keys.user_id = MDM_STR_NONE;
    keys.udid.n++;
    assert_int_equal(mdm_channel_resolve(&keys, arena, &channel, &err),
                     MDM_EINVAL);
    keys.udid = MDM_STR("a\0b");
    assert_int_equal(mdm_channel_resolve(&keys, arena, &channel, &err),
                     MDM_EINVAL);
    assert_non_null(strstr(err.text, "control character"));
    mdm_arena_free(&arena);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(mdm_channel_type_name(MDM_CHANNEL_DEVICE), "Device");
    assert_string_equal(mdm_channel_type_name(MDM_CHANNEL_USER), "User");
    assert_string_equal(
        mdm_channel_type_name(MDM_CHANNEL_USER_ENROLLMENT_DEVICE),
        "User Enrollment (Device)");
    assert_string_equal(mdm_channel_type_name(MDM_CHANNEL_USER_ENROLLMENT),
                        "User Enrollment");
    assert_string_equal(mdm_channel_type_name(MDM_CHANNEL_SHARED_IPAD),
                        "Shared iPad");
    assert_false(mdm_channel_is_user(MDM_CHANNEL_DEVICE));
    assert_true(mdm_channel_is_user(MDM_CHANNEL_USER));
    assert_false(mdm_channel_is_user(MDM_CHANNEL_USER_ENROLLMENT_DEVICE));
    assert_true(mdm_channel_is_user(MDM_CHANNEL_USER_ENROLLMENT));
    assert_true(mdm_channel_is_user(MDM_CHANNEL_SHARED_IPAD));
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_authenticate),
        cmocka_unit_test(test_authenticate_rules),
        cmocka_unit_test(test_token_update),
        cmocka_unit_test(test_token_update_rules),
        cmocka_unit_test(test_own_keys),
        cmocka_unit_test(test_other_messages),
        cmocka_unit_test(test_root),
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_channel_refusals),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("checkin", tests, NULL, NULL);
}

int main(void)
{
    return on_small_stack(run);
}
