/*
 * t_command.c - envelopes of operator commands and device reports.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_command.h"
#include "mdm_str.h"
#include "plist_cases.h"

#define KEY(name) "<key>" name "</key>"
#define STRING(name, value) KEY(name) "<string>" value "</string>"
#define UUID STRING("CommandUUID", "C-1")
#define REQUEST(inner) KEY("Command") "<dict>" inner "</dict>"
#define DEVICE STRING("UDID", "U-1")
#define STATUS(word) STRING("Status", word)

static const mdm_plist_limits_t limits = {1 << 20, 64, 10000};

typedef struct parsed {
    mdm_rc rc;
    mdm_err_t err;
    mdm_command_t command;
    mdm_report_t report;
    mdm_arena_t *arena;
    char *raw;
} parsed_t;

static parsed_t begin(const char *dict)
{
    size_t size = strlen(dict) + 64;
    parsed_t p;

    memset(&p, 0, sizeof(p));
    p.arena = mdm_arena_new(true);
    p.raw = malloc(size);
    assert_non_null(p.arena);
    assert_non_null(p.raw);
    (void)snprintf(p.raw, size, "<plist version=\"1.0\">\n<dict>%s</dict>"
                                "</plist>", dict);
    return p;
}

static void end(parsed_t *p)
{
    mdm_arena_free(&p->arena);
    free(p->raw);
}

static parsed_t command(const char *dict)
{
    parsed_t p = begin(dict);

    p.rc = mdm_command_parse(mdm_str_from(p.raw), &limits, p.arena,
                             &p.command, &p.err);
    return p;
}

static parsed_t report(const char *dict)
{
    parsed_t p = begin(dict);

    p.rc = mdm_report_parse(mdm_str_from(p.raw), &limits, p.arena, &p.report,
                            &p.err);
    return p;
}

static void refusal(parsed_t p, const char *dict, const char *why)
{
    if (p.rc != MDM_EINVAL || strstr(p.err.text, why) == NULL) {
        fail_msg("%s: rc %d, \"%s\"", dict, p.rc, p.err.text);
    }
    end(&p);
}

static void command_refused(const char *dict, const char *why)
{
    refusal(command(dict), dict, why);
}

static void report_refused(const char *dict, const char *why)
{
    refusal(report(dict), dict, why);
}

/* ---- commands ---------------------------------------------------------- */

static void test_command(void **state)
{
    parsed_t p;

    (void)state;
    p = command(REQUEST(KEY("Queries") "<array><string>UDID</string></array>"
                        STRING("RequestType", "DeviceInformation")) UUID);
    assert_int_equal(p.rc, MDM_OK);
    assert_true(mdm_str_is(p.command.uuid, "C-1"));
    assert_true(mdm_str_is(p.command.request_type, "DeviceInformation"));
    end(&p);
    /* Any text will do as an id. */
    p = command(STRING("CommandUUID", "&#233; &lt;x&gt; /..,:")
                    REQUEST(STRING("RequestType", "SomethingNew")));
    assert_int_equal(p.rc, MDM_OK);
    assert_true(mdm_str_is(p.command.uuid, "\xc3\xa9 <x> /..,:"));
    end(&p);
}

static void test_command_rules(void **state)
{
    (void)state;
    command_refused(REQUEST(STRING("RequestType", "X")),
                    "CommandUUID is missing");
    command_refused(STRING("CommandUUID", "")
                        REQUEST(STRING("RequestType", "X")),
                    "CommandUUID has 0");
    command_refused(KEY("CommandUUID") "<integer>1</integer>"
                        REQUEST(STRING("RequestType", "X")),
                    "CommandUUID is not a string");
    command_refused(STRING("CommandUUID", "a&#10;b")
                        REQUEST(STRING("RequestType", "X")),
                    "CommandUUID has a control");
    command_refused(UUID, "Command is missing");
    command_refused(UUID STRING("Command", "X"), "Command is not a dict");
    command_refused(UUID STRING("Command.RequestType", "X"),
                    "Command is missing");
    command_refused(UUID REQUEST(""), "Command.RequestType is missing");
    command_refused(UUID REQUEST("") STRING("RequestType", "X"),
                    "Command.RequestType is missing");
    command_refused(UUID REQUEST(KEY("A") "<dict>" STRING("RequestType", "X")
                                 "</dict>"),
                    "Command.RequestType is missing");
    command_refused(UUID REQUEST(STRING("RequestType", "")),
                    "Command.RequestType has 0");
    command_refused(UUID REQUEST(KEY("RequestType") "<data/>"),
                    "Command.RequestType is not a string");
    command_refused(UUID REQUEST(STRING("RequestType", "a\tb")),
                    "Command.RequestType has a control");
    /* Two commands in one, for readers that take the other one. */
    command_refused(UUID REQUEST(STRING("RequestType", "X"))
                        REQUEST(STRING("RequestType", "Y")), "twice");
    command_refused(UUID REQUEST(STRING("RequestType", "X")
                                 STRING("RequestType", "Y")), "twice");
    command_refused(UUID REQUEST(STRING("RequestType", "X")
                                 KEY("Payload") "<data>x</data>"),
                    "line 2, column");
}

static mdm_rc command_sized(size_t uuid, size_t request)
{
    char text[1024];
    char a[300];
    parsed_t p;

    memset(a, 'a', sizeof(a));
    (void)snprintf(text, sizeof(text),
                   STRING("CommandUUID", "%.*s")
                   REQUEST(STRING("RequestType", "%.*s")),
                   (int)uuid, a, (int)request, a);
    p = command(text);
    end(&p);
    return p.rc;
}

static void test_command_sizes(void **state)
{
    mdm_plist_limits_t tight = {10, 64, 1000};
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_command_t c;
    mdm_err_t err;

    (void)state;
    assert_int_equal(command_sized(MDM_COMMAND_UUID_MAX,
                                   MDM_REQUEST_TYPE_MAX), MDM_OK);
    assert_int_equal(command_sized(MDM_COMMAND_UUID_MAX + 1, 1), MDM_EINVAL);
    assert_int_equal(command_sized(1, MDM_REQUEST_TYPE_MAX + 1), MDM_EINVAL);
    assert_int_equal(
        mdm_command_parse(MDM_STR("<plist><array/></plist>"), &tight, arena,
                          &c, &err), MDM_ETOOBIG);
    assert_int_equal(
        mdm_command_parse(MDM_STR("<plist><array/></plist>"), &limits, arena,
                          &c, &err), MDM_EINVAL);
    assert_string_equal(err.text, "not a dictionary");
    mdm_arena_free(&arena);
}

/* ---- reports ----------------------------------------------------------- */

static void test_statuses(void **state)
{
    static const struct {
        const char *word;
        mdm_report_status_t status;
    } words[] = {
        {"Acknowledged", MDM_REPORT_ACKNOWLEDGED},
        {"Error", MDM_REPORT_ERROR},
        {"CommandFormatError", MDM_REPORT_COMMAND_FORMAT_ERROR},
        {"NotNow", MDM_REPORT_NOT_NOW},
        {"Pending", MDM_REPORT_UNKNOWN},
        {"acknowledged", MDM_REPORT_UNKNOWN},
        {"idle", MDM_REPORT_UNKNOWN},
    };
    char text[256];
    parsed_t p;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(words); i++) {
        (void)snprintf(text, sizeof(text), STATUS("%s") UUID DEVICE,
                       words[i].word);
        p = report(text);
        assert_int_equal(p.rc, MDM_OK);
        assert_int_equal(p.report.status, words[i].status);
        assert_true(mdm_str_is(p.report.status_text, words[i].word));
        assert_true(mdm_str_is(p.report.command_uuid, "C-1"));
        assert_true(mdm_str_is(p.report.channel.id, "U-1"));
        assert_int_equal(p.report.damaged, 0);
        end(&p);
        (void)snprintf(text, sizeof(text), STATUS("%s") DEVICE,
                       words[i].word);
        report_refused(text, "CommandUUID is missing");
    }
    p = report(STATUS("Idle") DEVICE STRING("UserID", "G"));
    assert_int_equal(p.rc, MDM_OK);
    assert_int_equal(p.report.status, MDM_REPORT_IDLE);
    assert_int_equal(p.report.channel.type, MDM_CHANNEL_USER);
    assert_true(mdm_str_is(p.report.channel.id, "U-1:G"));
    assert_null(p.report.command_uuid.s);
    end(&p);
}

static void test_report_rules(void **state)
{
    (void)state;
    report_refused(UUID DEVICE, "Status is missing");
    report_refused(KEY("Status") "<integer>0</integer>" UUID DEVICE,
                   "Status is not a string");
    report_refused(STATUS("") UUID DEVICE, "Status has 0");
    report_refused(STATUS("Acknowledged") UUID, "neither UDID");
    report_refused(STATUS("Acknowledged") UUID KEY("UDID")
                       "<integer>7</integer>", "UDID is not a string");
    report_refused(STATUS("Error") STRING("CommandUUID", "") DEVICE,
                   "CommandUUID has 0");
    report_refused(STATUS("Error") KEY("CommandUUID") "<data/>" DEVICE,
                   "CommandUUID is not a string");
    report_refused(STATUS("Error") UUID DEVICE STRING("UDID", "U-2"),
                   "key UDID twice");
    report_refused(STATUS("Error") UUID DEVICE STATUS("Acknowledged"),
                   "key Status twice");
    report_refused(STATUS("Error") UUID DEVICE UUID, "key CommandUUID twice");
    report_refused(STATUS("Error") UUID STRING("UDID", "U\x12"),
                   "control character");
    report_refused(STATUS("Error") STRING("CommandUUID", "&nbsp;") DEVICE,
                   "unknown entity");
    report_refused(STATUS("Error") UUID DEVICE KEY("A"), "without a value");
}

/* Details are passed over in every report but Idle. */
static void test_damage(void **state)
{
    static const char *const details[] = {
        KEY("A") "\n<string>Pad\x12Name</string>",
        KEY("A") "\n<string>Pad\xe9</string>",
        KEY("A") "\n<string>&nbsp;</string>",
        KEY("A") "\n<integer>12abc</integer>",
        KEY("A") "\n<date>2025-13-40T25:61:61Z</date>",
        KEY("A") "\n<data>A</data>",
        KEY("A") "<true/>\n" KEY("A") "<true/>",
        KEY("ErrorChain") "<array><dict>" KEY("ErrorCode")
            "\n<integer>0x1</integer></dict></array>",
    };
    char text[512];
    parsed_t p;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(details); i++) {
        (void)snprintf(text, sizeof(text), "%s" STATUS("Error") UUID DEVICE,
                       details[i]);
        p = report(text);
        if (p.rc != MDM_OK) {
            fail_msg("%s: %s", text, p.err.text);
        }
        assert_int_equal(p.report.damaged, 1);
        assert_int_equal(p.report.damaged_line, 3);
        assert_true(p.report.damaged_fault[0] != '\0');
        assert_true(mdm_str_is(p.report.command_uuid, "C-1"));
        end(&p);
        (void)snprintf(text, sizeof(text), "%s" STATUS("Idle") DEVICE,
                       details[i]);
        report_refused(text, "line 3: ");
    }
}

/* The application list as it comes, and every scalar of it spoilt. */
static void test_app_list(void **state)
{
    mdm_str_t raw = read_case("mdm/C36-applist-140k.plist");
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_report_t r;
    mdm_err_t err;
    size_t spoilt = 0;
    char *copy;
    char *at;

    (void)state;
    assert_int_equal(mdm_report_parse(raw, &limits, arena, &r, &err), MDM_OK);
    assert_int_equal(r.status, MDM_REPORT_ACKNOWLEDGED);
    assert_int_equal(r.damaged, 0);
    copy = mdm_arena_dup(arena, raw.s, raw.n);
    assert_non_null(copy);
    for (at = copy; (at = strstr(at, "<integer>")) != NULL; spoilt++) {
        at += strlen("<integer>");
        *at = 'x';
    }
    assert_true(spoilt > 100);
    assert_int_equal(mdm_report_parse((mdm_str_t){copy, raw.n}, &limits,
                                      arena, &r, &err), MDM_OK);
    assert_int_equal(r.damaged, spoilt);
    mdm_arena_free(&arena);
    free_case(raw);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_command_rules),
        cmocka_unit_test(test_command_sizes),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_report_rules),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_app_list),
    };

    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}

int main(void)
{
    return on_small_stack(run);
}
