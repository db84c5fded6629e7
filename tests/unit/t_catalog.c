/*
 * t_catalog.c - the command catalogue: every request type can be built, every
 * key is checked, and nothing odd gets through.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mdm_command.h"
#include "mdm_plist.h"
#include "t_catalog_world.h"

static const mdm_plist_limits_t limits = {1 << 20, 64, 100000};

/* ---- samples ------------------------------------------------------------- */

static json_t *sample(const world_t *w, uint16_t row, bool all);

static json_t *sample_members(const world_t *w, uint16_t first, uint16_t end,
                              bool all)
{
    json_t *json = json_object();
    uint16_t i;

    for (i = first; i < end; i = w->keys[i].end) {
        if (strcmp(w->keys[i].name, "*") == 0) {
            json_object_set_new(json, "x", json_string("any"));
        } else if (all || w->keys[i].required) {
            json_object_set_new(json, w->keys[i].name, sample(w, i, all));
        }
    }
    return json;
}

static json_t *sample_text(const mdm_catalog_key_t *k, const char *preset)
{
    mdm_str_t rest = mdm_str_from(k->values);
    mdm_str_t first;

    if (rest.s == NULL) {
        return json_string(preset);
    }
    first = mdm_str_split(&rest, '|');
    return json_stringn(first.s, first.n);
}

static json_t *sample_array(const world_t *w, uint16_t row, bool all)
{
    json_t *json = json_array();
    uint16_t i;

    for (i = (uint16_t)(row + 1); i < w->keys[row].end; i = w->keys[i].end) {
        json_array_append_new(json, sample(w, i, all));
    }
    return json;
}

static json_t *sample(const world_t *w, uint16_t row, bool all)
{
    const mdm_catalog_key_t *k = &w->keys[row];
    json_t *text;
    json_t *json;

    switch (k->kind) {
    case MDM_CATALOG_STRING:
        if (row + 1 < k->end) {
            return json_string(w->keys[row + 1].name);
        }
        return sample_text(k, k->min == 6 ? "123456" : "t\xc3\xa4xt <&>");
    case MDM_CATALOG_DATA:
        return json_string("AAEC/w==");
    case MDM_CATALOG_INT:
        text = sample_text(k, "7");
        json = json_integer(strtoll(json_string_value(text), NULL, 10));
        json_decref(text);
        return json;
    case MDM_CATALOG_BOOL:
        return json_true();
    case MDM_CATALOG_ARRAY:
        return sample_array(w, row, all);
    case MDM_CATALOG_ANY:
        return json_string("any");
    default:
        return sample_members(w, (uint16_t)(row + 1), k->end, all);
    }
}

/* What was built, for one look. */
typedef struct built {
    mdm_arena_t *arena;
    mdm_buf_t xml;
    mdm_catalog_built_t b;
    mdm_err_t err;
} built_t;

static mdm_rc build(built_t *t, const char *type, json_t *args)
{
    mdm_rc rc;

    t->arena = mdm_arena_new(true);
    mdm_buf_init_secret(&t->xml, 1 << 20);
    mdm_err_clear(&t->err);
    rc = mdm_catalog_build(mdm_catalog_find(mdm_str_from(type)),
                           MDM_STR("u-1"), args, t->arena, &t->xml, &t->b,
                           &t->err);
    return rc;
}

static void drop(built_t *t)
{
    mdm_buf_clear(&t->xml);
    mdm_arena_free(&t->arena);
}

/* The property list says what the arguments say. */
static void assert_same(built_t *t, const char *type, const json_t *args)
{
    mdm_command_t command;
    mdm_buf_t text;
    json_t *root;
    json_t *have;

    assert_int_equal(mdm_command_parse(mdm_buf_str(&t->xml), &limits,
                                       t->arena, &command, &t->err), MDM_OK);
    assert_true(mdm_str_is(command.uuid, "u-1"));
    assert_true(mdm_str_is(command.request_type, type));
    mdm_buf_init(&text, 1 << 20);
    assert_int_equal(mdm_plist_to_json(mdm_buf_str(&t->xml), &limits, &text,
                                       &t->err), MDM_OK);
    root = json_loadb(text.data, text.len, 0, NULL);
    have = json_object_get(root, "Command");
    assert_int_equal(json_object_del(have, "RequestType"), 0);
    if (args != NULL) {
        assert_true(json_equal(have, args));
    }
    json_decref(root);
    mdm_buf_clear(&text);
}

static void test_every_command(void **state)
{
    world_t w = the_world();
    const mdm_catalog_command_t *c;
    json_t *args;
    built_t t;
    int all;
    size_t i;

    (void)state;
    for (i = 0; i < w.ncommands; i++) {
        c = &w.commands[i];
        for (all = 0; all < 2; all++) {
            args = sample_members(&w, c->first, c->end, all == 1);
            if (all == 1) {
                json_object_set_new(args, "RequestRequiresNetworkTether",
                                    json_false());
            }
            if (build(&t, c->name, args) != MDM_OK) {
                fail_msg("%s", t.err.text);
            }
            assert_same(&t, c->name, args);
            assert_int_equal(t.b.unlock_token_at, 0);
            drop(&t);
            json_decref(args);
        }
    }
}

/* ---- faults -------------------------------------------------------------- */

/* Sets each key to a value of another type; a choice keeps its Item. */
static void wrong_types(const world_t *w, const char *type, json_t *args,
                        json_t *at, uint16_t first, uint16_t end,
                        const char *path)
{
    static const char *const says[] = {
        "is not a string", "is not data", "is not an integer",
        "is not true or false", "is not an array",
        "is not a dictionary"};
    const mdm_catalog_key_t *k;
    char here[512];
    json_t *kept;
    json_t *value;
    built_t t;
    uint16_t i;
    size_t n;

    for (i = first; i < end; i = k->end) {
        k = &w->keys[i];
        if (k->kind > MDM_CATALOG_DICT || strcmp(k->name, "Item") == 0) {
            continue;
        }
        (void)snprintf(here, sizeof(here), "%s: %s%s%s ", type, path,
                       path[0] != '\0' ? "." : "", k->name);
        kept = json_incref(json_object_get(at, k->name));
        value = k->kind == MDM_CATALOG_BOOL ? json_integer(1) : json_real(1.5);
        json_object_set_new(at, k->name, value);
        assert_int_equal(build(&t, type, args), MDM_EINVAL);
        if (strncmp(t.err.text, here, strlen(here)) != 0 ||
            strstr(t.err.text, says[k->kind]) == NULL) {
            fail_msg("%s instead of %s%s", t.err.text, here, says[k->kind]);
        }
        drop(&t);
        json_object_set_new(at, k->name, json_null());
        assert_int_equal(build(&t, type, args), MDM_EINVAL);
        drop(&t);
        json_object_set_new(at, k->name, kept);
        (void)snprintf(here, sizeof(here), "%s%s%s", path,
                       path[0] != '\0' ? "." : "", k->name);
        if (k->kind == MDM_CATALOG_DICT) {
            wrong_types(w, type, args, kept, (uint16_t)(i + 1), k->end, here);
        } else if (k->kind == MDM_CATALOG_ARRAY) {
            n = strlen(here);
            (void)snprintf(here + n, sizeof(here) - n, "[0]");
            value = json_array_get(kept, 0);
            if (json_is_object(value)) {
                wrong_types(w, type, args, value, (uint16_t)(i + 2),
                            w->keys[i + 1].end, here);
            }
        }
    }
}

static void test_wrong_types(void **state)
{
    world_t w = the_world();
    const mdm_catalog_command_t *c;
    json_t *args;
    size_t i;

    (void)state;
    for (i = 0; i < w.ncommands; i++) {
        c = &w.commands[i];
        args = sample_members(&w, c->first, c->end, true);
        wrong_types(&w, c->name, args, args, c->first, c->end, "");
        json_decref(args);
    }
}

static void test_faults(void **state)
{
    static const struct {
        const char *type;
        const char *args;
        const char *says;
    } cases[] = {
        {"DeviceLock", "{\"Pin\":\"1\"}", "DeviceLock: Pin is no key"},
        {"DeviceLock", "{\"RequestType\":\"EraseDevice\"}",
         "RequestType is no key"},
        {"DeviceLock", "{\"PIN\":\"12345\"}", "PIN has 5 bytes, allowed are 6 "
                                              "to 6"},
        {"DeviceLock", "[]", "args is not an object"},
        {"RemoveProfile", "{}", "RemoveProfile: Identifier is missing"},
        {"EraseDevice", "{\"ObliterationBehavior\":\"x\"}",
         "ObliterationBehavior may be Default|DoNotObliterate|"
         "ObliterateWithWarning|Always"},
        {"EraseDevice", "{\"ReturnToService\":{}}",
         "ReturnToService.Enabled is missing"},
        {"EraseDevice", "{\"ReturnToService\":{\"Enabled\":true,\"X\":1}}",
         "ReturnToService.X is no key"},
        {"Settings", "{\"Settings\":[{}]}", "Settings[0].Item is missing"},
        {"Settings", "{\"Settings\":[{\"Item\":7}]}",
         "Settings[0].Item is not a string"},
        {"Settings", "{\"Settings\":[7]}", "Settings[0] is not a dictionary"},
        {"Settings", "{\"Settings\":[{\"Item\":\"Nope\"}]}",
         "Settings[0].Item is none of the catalogue's"},
        {"Settings",
         "{\"Settings\":[{\"Item\":\"Bluetooth\",\"Enabled\":true},"
         "{\"Item\":\"Bluetooth\",\"Enabled\":\"yes\"}]}",
         "Settings[1].Enabled is not true or false"},
        {"Settings",
         "{\"Settings\":[{\"Item\":\"Wallpaper\",\"Image\":\"AA==\","
         "\"Where\":4}]}",
         "Settings[0].Where may be 1|2|3"},
        {"DeviceInformation", "{\"Queries\":[\"UDID\",\"udid\"]}",
         "Queries[1] has a value that is not in the catalogue"},
        {"DeviceInformation", "{\"Queries\":[\"UDID\"],"
                              "\"DeviceAttestationNonce\":\"AAAAAAAAAAAAAAAAAA"
                              "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
         "DeviceAttestationNonce has 36 bytes, allowed are 0 to 32"},
        {"InstallProfile", "{\"Payload\":\"%%%\"}", "Payload is not base64"},
        {"InstallProfile", "{\"Payload\":{\"$ref\":\"unlock-token\"}}",
         "cannot be that reference"},
        {"ClearPasscode", "{\"UnlockToken\":{\"$ref\":\"bootstrap-token\"}}",
         "cannot be that reference"},
        {"ClearPasscode", "{\"UnlockToken\":{\"$ref\":\"unlock-token\","
                          "\"x\":1}}",
         "UnlockToken is not data"},
        {"InstallApplication", "{\"Configuration\":{\"a\":null}}",
         "Configuration.a is null"},
        {"InstallApplication", "{\"Configuration\":{\"a\":[1,{\"\":1}]}}",
         "is no name for a key"},
        {"InstallApplication",
         "{\"Configuration\":{\"a\":{\"$date\":\"yesterday\"}}}",
         "Configuration.a is not a time"},
        {"InstallApplication",
         "{\"Configuration\":{\"a\":{\"$data\":\"x\"}}}",
         "Configuration.a is not base64"},
        {"InstallApplication",
         "{\"Configuration\":{\"a\":{\"$data\":\"AA==\",\"b\":1}}}",
         "$data and $date stand alone"},
        {"DeviceLock", "{\"Message\":\"a\\u0001\"}",
         "a character that XML does not have"},
        {"InstallApplication", "{\"Configuration\":{\"a\\u0001\":1}}",
         "a character that XML does not have"},
    };
    json_t *args;
    built_t t;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        args = json_loads(cases[i].args, 0, NULL);
        assert_non_null(args);
        assert_int_equal(build(&t, cases[i].type, args), MDM_EINVAL);
        if (strstr(t.err.text, cases[i].says) == NULL) {
            fail_msg("%s instead of %s", t.err.text, cases[i].says);
        }
        drop(&t);
        json_decref(args);
    }
}

static void test_depth_and_size(void **state)
{
    json_t *args = json_pack("{s:{}}", "Configuration");
    json_t *at = json_object_get(args, "Configuration");
    built_t t;
    int i;

    (void)state;
    for (i = 0; i < MDM_CATALOG_DEPTH_MAX - 2; i++) {
        json_object_set_new(at, "d", json_object());
        at = json_object_get(at, "d");
    }
    assert_int_equal(build(&t, "InstallApplication", args), MDM_OK);
    drop(&t);
    json_object_set_new(at, "d", json_array());
    assert_int_equal(build(&t, "InstallApplication", args), MDM_EINVAL);
    assert_non_null(strstr(t.err.text, "nested too deep"));
    drop(&t);
    json_decref(args);
    /* The buffer's maximum holds. */
    args = json_pack("{s:s}", "Identifier", "x");
    t.arena = mdm_arena_new(true);
    mdm_buf_init(&t.xml, 100);
    assert_int_equal(mdm_catalog_build(
                         mdm_catalog_find(MDM_STR("RemoveProfile")),
                         MDM_STR("u"), args, t.arena, &t.xml, &t.b, &t.err),
                     MDM_ETOOBIG);
    drop(&t);
    json_decref(args);
}

static void test_any(void **state)
{
    json_t *args = json_loads(
        "{\"Configuration\":{\"n\":-9223372036854775808,\"r\":0.1,"
        "\"b\":false,\"s\":\"a\\tb\\r\\n\",\"k&<\":[[],{}],"
        "\"d\":{\"$data\":\"AAE=\"},"
        "\"t\":{\"$date\":\"2026-01-31T13:00:00.5+01:00\"}}}", 0, NULL);
    json_t *c = json_object_get(args, "Configuration");
    built_t t;

    (void)state;
    assert_non_null(args);
    assert_int_equal(build(&t, "InstallApplication", args), MDM_OK);
    assert_non_null(strstr(t.xml.data, "<data>AAE=</data>"));
    assert_non_null(strstr(t.xml.data, "<date>2026-01-31T12:00:00Z</date>"));
    json_object_set_new(c, "d", json_string("AAE="));
    json_object_set_new(c, "t", json_string("2026-01-31T12:00:00Z"));
    assert_same(&t, "InstallApplication", args);
    drop(&t);
    json_decref(args);
}

static void test_reference(void **state)
{
    json_t *args = json_loads("{\"UnlockToken\":{\"$ref\":\"unlock-token\"},"
                              "\"RequestRequiresNetworkTether\":true}",
                              0, NULL);
    built_t t;

    (void)state;
    assert_int_equal(build(&t, "ClearPasscode", args), MDM_OK);
    assert_true(t.b.unlock_token_at > 0);
    assert_int_equal(strncmp(t.xml.data + t.b.unlock_token_at - 6,
                             "<data></data>", 13), 0);
    drop(&t);
    json_decref(args);
}

/* ---- where it may go ----------------------------------------------------- */

static void test_systems(void **state)
{
    static const struct {
        const char *product;
        const char *model;
        mdm_system_t system;
    } cases[] = {
        {"iPhone14,5", "", MDM_SYSTEM_IOS},
        {"iPad8,1", "iPad", MDM_SYSTEM_IOS},
        {"iPod9,1", "", MDM_SYSTEM_IOS},
        {"Mac14,2", "", MDM_SYSTEM_MACOS},
        {"MacBookPro18,3", "", MDM_SYSTEM_MACOS},
        {"iMac21,1", "", MDM_SYSTEM_MACOS},
        {"VirtualMac2,1", "", MDM_SYSTEM_MACOS},
        {"AppleTV14,1", "", MDM_SYSTEM_TVOS},
        {"Watch6,1", "", MDM_SYSTEM_WATCHOS},
        {"RealityDevice14,1", "", MDM_SYSTEM_VISIONOS},
        {"", "MacBook Pro", MDM_SYSTEM_MACOS},
        {"", "Apple TV", MDM_SYSTEM_TVOS},
        {"Toaster1,1", "iPhone", MDM_SYSTEM_UNKNOWN},
        {"", "", MDM_SYSTEM_UNKNOWN},
    };
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        assert_int_equal(mdm_system_of(mdm_str_from(cases[i].product),
                                       mdm_str_from(cases[i].model)),
                         cases[i].system);
    }
    assert_int_equal(mdm_system_version(MDM_STR("17.5.1")), 170501);
    assert_int_equal(mdm_system_version(MDM_STR("17")), 170000);
    assert_int_equal(mdm_system_version(MDM_STR("10.15.7.2")), 101507);
    assert_int_equal(mdm_system_version(MDM_STR("x.1")), 0);
    assert_int_equal(mdm_system_version(MDM_STR("")), 0);
    assert_int_equal(mdm_system_version(MDM_STR_NONE), 0);
}

static void test_judge(void **state)
{
    static const struct {
        const char *type;
        const char *args;
        mdm_channel_type_t channel;
        const char *product;
        const char *os;
        const char *refused;
        const char *warned;
    } cases[] = {
        {"RestartDevice", "{}", MDM_CHANNEL_DEVICE, "Mac14,2", "14.1", NULL,
         NULL},
        {"RestartDevice", "{}", MDM_CHANNEL_USER, "Mac14,2", "14.1",
         "RestartDevice is not for the user channel of macOS", NULL},
        {"RestartDevice", "{}", MDM_CHANNEL_DEVICE, "Watch6,1", "10.1",
         "watchOS does not know RestartDevice", NULL},
        {"RestartDevice", "{}", MDM_CHANNEL_DEVICE, "iPhone14,5", "17.0",
         NULL, "RestartDevice needs a supervised device"},
        {"RestartDevice", "{}", MDM_CHANNEL_USER_ENROLLMENT_DEVICE,
         "iPhone14,5", "17.0", "RestartDevice is not for User Enrollments",
         NULL},
        {"RestartDevice", "{\"NotifyUser\":true}", MDM_CHANNEL_DEVICE,
         "iPhone14,5", "17.0", "iOS does not know the key NotifyUser", NULL},
        {"RestartDevice", "{\"NotifyUser\":true}", MDM_CHANNEL_DEVICE,
         "Mac14,2", "11.3", NULL, "NotifyUser needs macOS 11.4"},
        {"SetRecoveryLock", "{\"NewPassword\":\"x\"}", MDM_CHANNEL_DEVICE,
         "Mac14,2", "11.4", NULL, "SetRecoveryLock needs macOS 11.5"},
        {"SetRecoveryLock", "{\"NewPassword\":\"x\"}", MDM_CHANNEL_DEVICE,
         "Mac14,2", "", NULL, NULL},
        {"AvailableOSUpdates", "{}", MDM_CHANNEL_DEVICE, "Mac14,2", "27.0",
         NULL, "AvailableOSUpdates is gone since macOS 27.0"},
        {"ActiveNSExtensions", "{}", MDM_CHANNEL_DEVICE, "Mac14,2", "14.0",
         "ActiveNSExtensions is not for the device channel of macOS", NULL},
        {"UserConfigured", "{}", MDM_CHANNEL_SHARED_IPAD, "iPad14,1", "17.0",
         NULL, "Automated Device Enrollment"},
        {"DeviceLocation", "{}", MDM_CHANNEL_SHARED_IPAD, "iPad14,1", "17.0",
         "DeviceLocation is not for the user channel of a Shared iPad", NULL},
        {"ProfileList", "{}", MDM_CHANNEL_SHARED_IPAD, "iPad14,1", "17.0",
         NULL, NULL},
        {"LogOutUser", "{}", MDM_CHANNEL_DEVICE, "iPad14,1", "17.0", NULL,
         "LogOutUser needs a Shared iPad"},
        {"DeviceInformation", "{\"Queries\":[\"IsAppleSilicon\"]}",
         MDM_CHANNEL_DEVICE, "iPhone14,5", "17.0", NULL, NULL},
        {"Settings",
         "{\"Settings\":[{\"Item\":\"HostName\",\"HostName\":\"h\"}]}",
         MDM_CHANNEL_DEVICE, "iPhone14,5", "17.0",
         "iOS does not know the key Settings[0]", NULL},
        {"ProfileList", "{}", MDM_CHANNEL_DEVICE, "Toaster1,1", "1.0", NULL,
         "not known which system"},
    };
    mdm_catalog_target_t target = {0};
    mdm_catalog_verdict_t v;
    json_t *args;
    built_t t;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        args = json_loads(cases[i].args, 0, NULL);
        assert_int_equal(build(&t, cases[i].type, args), MDM_OK);
        target.channel = cases[i].channel;
        target.product_name = mdm_str_from(cases[i].product);
        target.os_version = mdm_str_from(cases[i].os);
        assert_int_equal(mdm_catalog_judge(&t.b, &target, t.arena, &v,
                                           &t.err), MDM_OK);
        if (cases[i].refused != NULL) {
            assert_non_null(v.refused);
            assert_string_equal(v.refused, cases[i].refused);
        } else if (v.refused != NULL) {
            fail_msg("%s", v.refused);
        }
        if (cases[i].warned == NULL) {
            assert_int_equal(v.nwarnings, 0);
        } else {
            size_t n = 0;

            while (n < v.nwarnings &&
                   strstr(v.warnings[n], cases[i].warned) == NULL) {
                n++;
            }
            assert_true(n < v.nwarnings);
        }
        drop(&t);
        json_decref(args);
    }
}

/* ---- anything ------------------------------------------------------------ */

static uint32_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525U + 1013904223U;
    return (seed >> 8) % n;
}

static json_t *odd_value(unsigned depth)
{
    static const char *const texts[] = {
        "", "AAEC", "x", "\xf0\x9f\x93\xb1", "<&>]]>", "\x7f", "unlock-token",
        "2026-01-31T12:00:00Z", "</data>", "\xef\xbf\xbe"};
    json_t *json;
    uint32_t i;

    switch (dice(depth > 6 ? 5 : 7)) {
    case 0:
        return json_integer((json_int_t)dice(1000) - 500);
    case 1:
        return json_real((double)dice(1000) / 7 - 50);
    case 2:
        return json_boolean(dice(2));
    case 3:
        return json_null();
    case 4:
        return json_string(texts[dice(MDM_ARRAY_LEN(texts))]);
    case 5:
        json = json_array();
        for (i = dice(4); i > 0; i--) {
            json_array_append_new(json, odd_value(depth + 1));
        }
        return json;
    default:
        json = json_object();
        for (i = dice(4); i > 0; i--) {
            json_object_set_new(json,
                                i == 1   ? "$data"
                                : i == 2 ? "$ref"
                                         : texts[2 + dice(3)],
                                odd_value(depth + 1));
        }
        return json;
    }
}

/* Changes something anywhere. */
static void disturb(json_t *json, unsigned depth)
{
    const char *name;
    json_t *value;
    void *next;
    size_t n;

    if (json_is_object(json) && json_object_size(json) > 0) {
        n = dice((uint32_t)json_object_size(json) + 1);
        if (n == json_object_size(json)) {
            json_object_set_new(json, "extra", odd_value(0));
            return;
        }
        next = json_object_iter(json);
        while (n-- > 0) {
            next = json_object_iter_next(json, next);
        }
        name = json_object_iter_key(next);
        value = json_object_iter_value(next);
        if (depth < 5 && dice(3) > 0 &&
            (json_is_object(value) || json_is_array(value))) {
            disturb(value, depth + 1);
        } else if (dice(4) == 0) {
            (void)json_object_del(json, name);
        } else {
            json_object_iter_set_new(json, next, odd_value(0));
        }
    } else if (json_is_array(json) && json_array_size(json) > 0) {
        n = dice((uint32_t)json_array_size(json));
        if (dice(2) == 0) {
            disturb(json_array_get(json, n), depth + 1);
        } else {
            json_array_set_new(json, n, odd_value(0));
        }
    }
}

static void test_anything(void **state)
{
    world_t w = the_world();
    const mdm_catalog_command_t *c;
    size_t passed = 0;
    size_t refused = 0;
    json_t *args;
    built_t t;
    mdm_rc rc;
    int i;

    (void)state;
    seed = 20261128;
    for (i = 0; i < 20000; i++) {
        c = &w.commands[dice((uint32_t)w.ncommands)];
        args = sample_members(&w, c->first, c->end, dice(2) == 0);
        disturb(args, 0);
        if (dice(3) == 0) {
            disturb(args, 0);
        }
        rc = build(&t, c->name, args);
        if (rc == MDM_OK) {
            passed++;
            assert_same(&t, c->name, NULL);
        } else {
            refused++;
            assert_int_equal(rc, MDM_EINVAL);
            assert_true(strncmp(t.err.text, c->name, strlen(c->name)) == 0);
        }
        drop(&t);
        json_decref(args);
    }
    assert_true(passed > 500);
    assert_true(refused > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_command),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_depth_and_size),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_systems),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
