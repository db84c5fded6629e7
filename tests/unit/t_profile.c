/*
 * t_profile.c - the profiles that lead into management, read back with the
 * gate and as JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <jansson.h>

#include "mdm_plist.h"
#include "mdm_profile.h"
#include "mdm_str.h"

static const mdm_plist_limits_t limits = {
    .size = 1 << 20, .depth = 16, .items = 1000};

static const mdm_profile_t plain = {
    .identifier = {"com.example", 11},
    .name = {"A & <B>", 7},
    .organization = {"Example", 7},
    .scep_url = {"https://h/scep", 14},
    .challenge = {"secret", 6},
    .common_name = {"device", 6},
    .topic = {"com.apple.mgmt.x", 16},
    .server_url = {"https://h/mdm", 13},
    .access_rights = MDM_RIGHTS_ALL,
};

static json_t *read_back(mdm_buf_t *xml)
{
    mdm_buf_t text;
    mdm_err_t err;
    json_t *json;

    mdm_buf_init(&text, 1 << 20);
    assert_int_equal(mdm_plist_to_json(mdm_buf_str(xml), &limits, &text,
                                       &err),
                     MDM_OK);
    json = json_loadb(text.data, text.len, 0, NULL);
    assert_non_null(json);
    mdm_buf_clear(&text);
    mdm_buf_clear(xml);
    return json;
}

static const char *str(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static const json_t *payload(const json_t *json, size_t at)
{
    return json_array_get(json_object_get(json, "PayloadContent"), at);
}

static json_t *enrol(const mdm_profile_t *profile)
{
    mdm_buf_t xml;
    mdm_err_t err;

    mdm_buf_init_secret(&xml, MDM_PROFILE_MAX);
    assert_int_equal(mdm_profile_write(profile, &xml, &err), MDM_OK);
    return read_back(&xml);
}

static void test_enrollment(void **state)
{
    json_t *json = enrol(&plain);
    const json_t *scep = payload(json, 0);
    const json_t *mdm = payload(json, 1);
    json_t *again = enrol(&plain);

    (void)state;
    assert_string_equal(str(json, "PayloadType"), "Configuration");
    assert_string_equal(str(json, "PayloadDisplayName"), "A & <B>");
    assert_string_equal(str(json, "PayloadIdentifier"), "com.example");
    assert_string_equal(str(scep, "PayloadIdentifier"),
                        "com.example.identity");
    assert_string_equal(str(mdm, "PayloadIdentifier"), "com.example.mdm");
    assert_string_equal(str(mdm, "IdentityCertificateUUID"),
                        str(scep, "PayloadUUID"));
    assert_string_equal(str(json_object_get(scep, "PayloadContent"),
                            "Challenge"),
                        "secret");
    assert_int_equal(json_integer_value(json_object_get(mdm, "AccessRights")),
                     8191);
    assert_string_equal(str(mdm, "ServerURL"), "https://h/mdm");
    assert_null(json_object_get(mdm, "CheckInURL"));
    assert_null(json_object_get(mdm, "EnrollmentMode"));
    assert_int_equal(json_array_size(json_object_get(mdm,
                                                     "ServerCapabilities")),
                     2);
    /* the same identifiers, other UUIDs */
    assert_string_equal(str(again, "PayloadIdentifier"), "com.example");
    assert_string_not_equal(str(again, "PayloadUUID"),
                            str(json, "PayloadUUID"));
    json_decref(json);
    json_decref(again);
}

static void test_account(void **state)
{
    mdm_profile_t profile = plain;
    const json_t *mdm;
    json_t *json;

    (void)state;
    profile.access_rights = 0;
    profile.mode = MDM_STR("BYOD");
    profile.account = MDM_STR("anna@example.com");
    profile.checkin_url = MDM_STR("https://h/checkin");
    profile.tokens = true;
    json = enrol(&profile);
    mdm = payload(json, 1);
    assert_null(json_object_get(mdm, "AccessRights"));
    assert_string_equal(str(mdm, "EnrollmentMode"), "BYOD");
    assert_string_equal(str(mdm, "AssignedManagedAppleID"),
                        "anna@example.com");
    assert_string_equal(str(mdm, "CheckInURL"), "https://h/checkin");
    assert_int_equal(json_array_size(json_object_get(mdm,
                                                     "ServerCapabilities")),
                     3);
    json_decref(json);
}

static void test_steps(void **state)
{
    const json_t *content;
    mdm_buf_t xml;
    mdm_err_t err;
    json_t *json;

    (void)state;
    mdm_buf_init(&xml, MDM_PROFILE_MAX);
    assert_int_equal(mdm_profile_write_identity(&plain, &xml, &err), MDM_OK);
    json = read_back(&xml);
    assert_int_equal(json_array_size(json_object_get(json,
                                                     "PayloadContent")),
                     1);
    assert_string_equal(str(payload(json, 0), "PayloadType"),
                        "com.apple.security.scep");
    assert_string_equal(str(json, "PayloadIdentifier"), "com.example.step");
    json_decref(json);
    assert_int_equal(mdm_profile_write_service(
                         &plain, MDM_STR("https://h/?ota"), &xml, &err),
                     MDM_OK);
    json = read_back(&xml);
    assert_string_equal(str(json, "PayloadType"), "Profile Service");
    content = json_object_get(json, "PayloadContent");
    assert_string_equal(str(content, "URL"), "https://h/?ota");
    assert_string_equal(str(content, "Challenge"), "secret");
    assert_true(json_array_size(json_object_get(content,
                                                "DeviceAttributes")) >= 4);
    json_decref(json);
}

static void test_bad(void **state)
{
    mdm_profile_t profile = plain;
    char big[400];
    mdm_buf_t xml;
    mdm_err_t err;

    (void)state;
    mdm_buf_init(&xml, MDM_PROFILE_MAX);
    profile.name = MDM_STR("\x01");
    assert_int_equal(mdm_profile_write(&profile, &xml, &err), MDM_EINVAL);
    mdm_buf_reset(&xml);
    memset(big, 'a', sizeof(big));
    profile = plain;
    profile.identifier = (mdm_str_t){big, sizeof(big)};
    assert_int_equal(mdm_profile_write(&profile, &xml, &err), MDM_EINVAL);
    mdm_buf_clear(&xml);
    mdm_buf_init(&xml, 100);
    assert_int_equal(mdm_profile_write(&plain, &xml, &err), MDM_ETOOBIG);
    mdm_buf_clear(&xml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enrollment), cmocka_unit_test(test_account),
        cmocka_unit_test(test_steps), cmocka_unit_test(test_bad)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
