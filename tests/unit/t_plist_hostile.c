/*
 * t_plist_hostile.c - documents made to do harm: deep, quadratic for other
 * readers, cut at every length, damaged at every byte.  Nothing may crash,
 * overflow a small stack or take longer than its size allows.
 *
 * Every document is a heap block of exactly its size (ASan sees a read past
 * the end); all runs on a thread with a small stack.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_buf.h"
#include "mdm_command.h"
#include "mdm_plist.h"
#include "mdm_str.h"
#include "plist_cases.h"

#if defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLOW 1
#endif
#endif

/* CPU seconds one hostile document may take. */
#ifdef SLOW
#define KILL_SECONDS 1.0
#else
#define KILL_SECONDS 0.1
#endif

#define OPEN "<plist version=\"1.0\">"
#define CLOSE "</plist>"

static const mdm_plist_limits_t limits = {32 << 20, 64, 2000000};

static mdm_rc scan_mode(mdm_str_t xml, mdm_plist_mode_t mode, size_t *damaged,
                        mdm_err_t *err)
{
    mdm_plist_want_t want[] = {{.path = "UDID"}, {.path = "Status"}};
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_plist_scan_t scan;
    mdm_rc rc;

    assert_non_null(arena);
    mdm_err_clear(err);
    rc = mdm_plist_scan(xml, &limits, mode, arena, want, 2, &scan, err);
    *damaged = scan.damaged;
    mdm_arena_free(&arena);
    return rc;
}

/* ---- slow for others ---------------------------------------------------- */

static mdm_buf_t doc;

static void add(const char *text)
{
    assert_int_equal(mdm_buf_puts(&doc, text), MDM_OK);
}

static void add_many(const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        add(text);
    }
}

static void begin(void)
{
    mdm_buf_init(&doc, 64 << 20);
}

/* Reads the document in both modes and as JSON, each in time; `why` is in
 * the strict refusal, or NULL when it is to be accepted. */
static void in_time(const char *name, const char *why, mdm_rc lenient)
{
    mdm_str_t xml = mdm_buf_str(&doc);
    mdm_buf_t json;
    size_t damaged = 0;
    mdm_err_t err;
    double t = cpu_now();
    mdm_rc rc = scan_mode(xml, MDM_PLIST_STRICT, &damaged, &err);
    double strict_time = cpu_now() - t;
    double lenient_time;

    if (why == NULL ? rc != MDM_OK
                    : rc != MDM_EINVAL || strstr(err.text, why) == NULL) {
        fail_msg("%s: strict %d %s", name, rc, err.text);
    }
    t = cpu_now();
    rc = scan_mode(xml, MDM_PLIST_LENIENT, &damaged, &err);
    lenient_time = cpu_now() - t;
    if (rc != lenient) {
        fail_msg("%s: lenient %d %s", name, rc, err.text);
    }
    if (strict_time > KILL_SECONDS || lenient_time > KILL_SECONDS) {
        fail_msg("%s: %.3f s strict, %.3f s lenient", name, strict_time,
                 lenient_time);
    }
    if (why != NULL) {
        mdm_buf_init(&json, 64 << 20);
        t = cpu_now();
        assert_int_equal(mdm_plist_to_json(xml, &limits, &json, &err),
                         MDM_EINVAL);
        assert_true(cpu_now() - t < KILL_SECONDS);
        mdm_buf_clear(&json);
    }
    mdm_buf_clear(&doc);
}

static void test_nesting(void **state)
{
    (void)state;
    begin();
    add(OPEN);
    add_many("<array>", 175000);
    add_many("</array>", 175000);
    add(CLOSE);
    in_time("arrays", "deeper", MDM_EINVAL);
    begin();
    add(OPEN);
    add_many("<dict><key>a</key>", 100000);
    in_time("dictionaries, not closed", "deeper", MDM_EINVAL);
}

static void test_references(void **state)
{
    (void)state;
    begin();
    add(OPEN "<string>");
    add_many("&amp;", 1000000);
    add("</string>" CLOSE);
    in_time("references", "too many references", MDM_OK);
    begin();
    add(OPEN "<array>");
    add_many("<string>&lt;&#38;</string>", 100000);
    add("</array>" CLOSE);
    in_time("two references each", NULL, MDM_OK);
    begin();
    add(OPEN "<string>");
    add_many("&", 2000000);
    add("</string>" CLOSE);
    in_time("ampersands", "begins no reference", MDM_OK);
    begin();
    add(OPEN "<string>&#");
    add_many("0", 5000000);
    add(";</string>" CLOSE);
    in_time("leading zeros", "begins no reference", MDM_OK);
}

/* "az" and "bY" have one hash in libplist's dictionaries, and so have all
 * strings of the same number of them. */
static void add_colliding_keys(unsigned n)
{
    char key[64];
    unsigned i;
    unsigned bit;
    size_t len;

    for (i = 0; i < n; i++) {
        len = 0;
        for (bit = 0; bit < 17; bit++) {
            memcpy(key + len, i >> bit & 1 ? "az" : "bY", 2);
            len += 2;
        }
        key[len] = '\0';
        add("<key>");
        add(key);
        add("</key><true/>");
    }
}

static void test_keys(void **state)
{
    int i;

    (void)state;
    begin();
    add(OPEN "<dict>");
    add_colliding_keys(60000);
    add("</dict>" CLOSE);
    in_time("60000 keys with one hash", NULL, MDM_OK);
    begin();
    add(OPEN "<dict>");
    add_colliding_keys(100000);
    add("</dict>" CLOSE);
    in_time("100000 keys with one hash", "too many keys", MDM_EINVAL);
    begin();
    add(OPEN "<array>");
    for (i = 0; i < 1000; i++) {
        add("<dict>");
        add_colliding_keys(49);
        add("</dict>");
    }
    add("</array>" CLOSE);
    in_time("many dictionaries", NULL, MDM_OK);
    begin();
    add(OPEN "<dict>");
    add_many("<key>a</key><true/>", 200000);
    add("</dict>" CLOSE);
    in_time("one key very often", "twice", MDM_OK);
}

static void test_markup(void **state)
{
    (void)state;
    begin();
    add(OPEN "<array>");
    add_many("<!---->", 500000);
    add("</array>" CLOSE);
    in_time("comments", NULL, MDM_OK);
    begin();
    add(OPEN "<string>");
    add_many("<!-- -->", 400000);
    add("</string>" CLOSE);
    in_time("comments in a text", NULL, MDM_OK);
    begin();
    add(OPEN "<!--");
    add_many("-<!", 1000000);
    in_time("a comment without end", "not closed", MDM_EINVAL);
    begin();
    add(OPEN "<string><![CDATA[");
    add_many("]]]", 1000000);
    in_time("CDATA without end", "not closed", MDM_EINVAL);
    begin();
    add(OPEN "<string a='");
    add_many("&amp;", 500000);
    add("'/>" CLOSE);
    in_time("a long attribute", NULL, MDM_OK);
    begin();
    add(OPEN "<string ");
    add_many("a", 3000000);
    add("='' b=''/>" CLOSE);
    in_time("a long name", NULL, MDM_OK);
    begin();
    add(OPEN "<array>");
    add_many("<true a='1' b='2'></true\n>", 100000);
    add("</array>" CLOSE);
    in_time("attributes everywhere", NULL, MDM_OK);
}

static void test_bytes(void **state)
{
    (void)state;
    begin();
    add(OPEN "<string>");
    add_many("\xff", 2000000);
    add("</string>" CLOSE);
    in_time("invalid UTF-8", "UTF-8", MDM_OK);
    begin();
    add(OPEN "<string>");
    add_many("\xe2\x82\xac", 1000000);
    add("</string>" CLOSE);
    in_time("three-byte characters", NULL, MDM_OK);
    begin();
    add(OPEN "<data>");
    add_many("QUJD\n ", 500000);
    add("</data>" CLOSE);
    in_time("base64", NULL, MDM_OK);
    begin();
    add(OPEN "<string>");
    add_many("\r", 2000000);
    add("</string>" CLOSE);
    in_time("carriage returns", NULL, MDM_OK);
    begin();
    add_many("\n", 3000000);
    in_time("line feeds", "not an XML", MDM_EINVAL);
}

/* What the reader accepts but libplist would take minutes for. */
static void tree_refused(const char *why)
{
    mdm_buf_t json;
    mdm_err_t err;
    double t = cpu_now();

    mdm_buf_init(&json, 64 << 20);
    assert_int_equal(
        mdm_plist_to_json(mdm_buf_str(&doc), &limits, &json, &err),
        MDM_EINVAL);
    assert_non_null(strstr(err.text, why));
    assert_true(cpu_now() - t < KILL_SECONDS);
    mdm_buf_clear(&json);
    mdm_buf_clear(&doc);
}

static void test_tree(void **state)
{
    mdm_plist_limits_t deepest = {1 << 20, 1000, 1000};
    mdm_buf_t json;
    mdm_err_t err;
    int i;

    (void)state;
    begin();
    add(OPEN "<dict>");
    add_colliding_keys(2001);
    add("</dict>" CLOSE);
    tree_refused("too many keys");
    begin();
    add(OPEN "<array>");
    for (i = 0; i < 60; i++) {
        add("<dict>");
        add_colliding_keys(2000);
        add("</dict>");
    }
    add("</array>" CLOSE);
    tree_refused("too many keys");
    begin();
    add(OPEN "<string>");
    add_many("&amp;", 4000);
    add_many("0123456789", 100000);
    add("</string>" CLOSE);
    tree_refused("too many references");
    /* The deepest tree there is, built, written and freed. */
    begin();
    add(OPEN);
    add_many("<array>", MDM_PLIST_DEPTH_MAX);
    add_many("</array>", MDM_PLIST_DEPTH_MAX);
    add(CLOSE);
    mdm_buf_init(&json, 1 << 20);
    assert_int_equal(
        mdm_plist_to_json(mdm_buf_str(&doc), &deepest, &json, &err), MDM_OK);
    assert_int_equal(json.len, 2 * MDM_PLIST_DEPTH_MAX);
    mdm_buf_clear(&json);
    mdm_buf_clear(&doc);
    begin();
    add(OPEN);
    add_many("<array>", MDM_PLIST_DEPTH_MAX + 1);
    add_many("</array>", MDM_PLIST_DEPTH_MAX + 1);
    add(CLOSE);
    tree_refused("deeper");
}

/* ---- cut and damaged ---------------------------------------------------- */

static const char *const valid[] = {
    "plist/C06-cdata.plist",
    "plist/C06-processing-instruction.plist",
    "plist/C05-utf8-bom.plist",
    "plist/C10-ok-emoji-charref.plist",
    "mdm/C19-2-tokenupdate-with-unlock.plist",
    "mdm/C11-mixed-types.plist",
    "mdm/C38-command-installprofile.plist",
};

/* Where "</plist>" ends: what is cut behind it is only blanks. */
static size_t complete_at(mdm_str_t raw)
{
    size_t n = raw.n;

    while (n > 0 && raw.s[n - 1] != '>') {
        n--;
    }
    return n;
}

static void check_prefix(mdm_str_t raw, size_t n, mdm_rc expected)
{
    char *part = malloc(n > 0 ? n : 1);
    size_t damaged;
    mdm_err_t err;

    assert_non_null(part);
    memcpy(part, raw.s, n);
    assert_int_equal(
        scan_mode((mdm_str_t){part, n}, MDM_PLIST_STRICT, &damaged, &err),
        expected);
    assert_int_equal(
        scan_mode((mdm_str_t){part, n}, MDM_PLIST_LENIENT, &damaged, &err),
        expected);
    free(part);
}

static void test_cut(void **state)
{
    mdm_str_t raw;
    size_t whole;
    size_t i;
    size_t n;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(valid); i++) {
        raw = read_case(valid[i]);
        whole = complete_at(raw);
        for (n = 0; n <= raw.n; n++) {
            check_prefix(raw, n, n < whole ? MDM_EINVAL : MDM_OK);
        }
        free_case(raw);
    }
}

/* All parsers on one document; returns what the strict scan says. */
static mdm_rc everything(mdm_str_t xml)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_checkin_t checkin;
    mdm_command_t command;
    mdm_report_t report;
    size_t damaged = 0;
    mdm_buf_t json;
    mdm_err_t err;
    mdm_rc lenient;
    mdm_rc rc;

    assert_non_null(arena);
    rc = scan_mode(xml, MDM_PLIST_STRICT, &damaged, &err);
    assert_int_equal(damaged, 0);
    lenient = scan_mode(xml, MDM_PLIST_LENIENT, &damaged, &err);
    /* Lenient takes no less than strict, and counts what is between. */
    assert_true(rc != MDM_OK || (lenient == MDM_OK && damaged == 0));
    assert_true(lenient != MDM_OK || rc == MDM_OK || damaged > 0);
    (void)!mdm_checkin_parse(xml, &limits, arena, &checkin, &err);
    (void)!mdm_command_parse(xml, &limits, arena, &command, &err);
    (void)!mdm_report_parse(xml, &limits, arena, &report, &err);
    mdm_buf_init(&json, 1 << 20);
    if (rc == MDM_OK) {
        (void)!mdm_plist_to_json(xml, &limits, &json, &err);
    }
    mdm_buf_clear(&json);
    mdm_arena_free(&arena);
    return rc;
}

static void test_damaged(void **state)
{
    static const char bytes[] = "\0\x01\t\n\r \"&'-/0=<>?A[]az;#\x7f\x80\xc3"
                                "\xed\xf4\xff!x";
    static const char *const files[] = {
        "plist/C06-cdata.plist", "plist/C06-comment-splits-string.plist",
        "plist/C12-ok-int-limits.plist", "mdm/C11-mixed-types.plist",
        "mdm/C21-2-user-tokenupdate.plist"};
    mdm_str_t raw;
    size_t same = 0;
    char *copy;
    size_t i;
    size_t k;
    size_t b;
    char old;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(files); i++) {
        raw = read_case(files[i]);
        copy = malloc(raw.n);
        assert_non_null(copy);
        memcpy(copy, raw.s, raw.n);
        for (k = 0; k < raw.n; k++) {
            old = copy[k];
            for (b = 0; b < sizeof(bytes) - 1; b++) {
                copy[k] = bytes[b];
                same += everything((mdm_str_t){copy, raw.n}) == MDM_OK;
            }
            copy[k] = old;
        }
        free(copy);
        free_case(raw);
    }
    /* Letters of texts may change; markup may not. */
    assert_true(same > 1000);
}

/* One byte taken out, and one put in twice. */
static void test_shifted(void **state)
{
    mdm_str_t raw = read_case("mdm/C19-3-tokenupdate-no-unlock.plist");
    char *copy = malloc(raw.n + 1);
    size_t k;

    (void)state;
    assert_non_null(copy);
    for (k = 0; k < raw.n; k++) {
        memcpy(copy, raw.s, k);
        memcpy(copy + k, raw.s + k + 1, raw.n - k - 1);
        (void)everything((mdm_str_t){copy, raw.n - 1});
        memcpy(copy, raw.s, k + 1);
        memcpy(copy + k + 1, raw.s + k, raw.n - k);
        (void)everything((mdm_str_t){copy, raw.n + 1});
    }
    free(copy);
    free_case(raw);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_markup),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_shifted),
    };

    return cmocka_run_group_tests_name("plist_hostile", tests, NULL, NULL);
}

int main(void)
{
    return on_small_stack(run);
}
