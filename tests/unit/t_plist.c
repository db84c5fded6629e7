/*
 * t_plist.c - the property-list reader and writer: every file of tests/cases
 * against its verdict, wanted values, faults with their place, JSON.  Hostile
 * documents are in t_plist_hostile.c.  What is read lies in heap blocks of
 * exactly its size, for ASan, and on a thread with a small stack.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mdm_command.h"
#include "mdm_plist.h"
#include "mdm_str.h"
#include "plist_cases.h"

#define OPEN "<plist version=\"1.0\">"
#define CLOSE "</plist>"

static const mdm_plist_limits_t limits = {32 << 20, 64, 2000000};

/* ---- helpers ----------------------------------------------------------- */

/* One scan of a copy of exactly n bytes. */
typedef struct result {
    mdm_rc rc;
    mdm_err_t err;
    mdm_plist_scan_t scan;
    mdm_arena_t *arena;
    char *copy;
} result_t;

static result_t scan_n(const char *text, size_t n, mdm_plist_mode_t mode,
                       mdm_plist_want_t *want, size_t nwant)
{
    result_t r;

    mdm_err_clear(&r.err);
    r.arena = mdm_arena_new(false);
    r.copy = malloc(n > 0 ? n : 1);
    assert_non_null(r.arena);
    assert_non_null(r.copy);
    memcpy(r.copy, text, n);
    r.rc = mdm_plist_scan((mdm_str_t){r.copy, n}, &limits, mode, r.arena,
                          want, nwant, &r.scan, &r.err);
    return r;
}

static result_t scan(const char *text, mdm_plist_want_t *want, size_t nwant)
{
    return scan_n(text, strlen(text), MDM_PLIST_STRICT, want, nwant);
}

static void end(result_t *r)
{
    mdm_arena_free(&r->arena);
    free(r->copy);
}

static void accepted(const char *text)
{
    result_t r = scan(text, NULL, 0);

    if (r.rc != MDM_OK) {
        fail_msg("%s: %s", text, r.err.text);
    }
    end(&r);
}

static void refused(const char *text, const char *why)
{
    result_t r = scan(text, NULL, 0);

    if (r.rc != MDM_EINVAL || strstr(r.err.text, why) == NULL) {
        fail_msg("%s: rc %d, \"%s\"", text, r.rc, r.err.text);
    }
    end(&r);
}

/* The value of key K of a dictionary with this one value. */
static void value_is(const char *element, mdm_plist_type_t type,
                     const char *expected, size_t n)
{
    mdm_plist_want_t want = {.path = "K"};
    char text[1024];
    result_t r;

    (void)snprintf(text, sizeof(text),
                   OPEN "<dict><key>K</key>%s</dict>" CLOSE, element);
    r = scan(text, &want, 1);
    if (r.rc != MDM_OK) {
        fail_msg("%s: %s", element, r.err.text);
    }
    assert_int_equal(want.type, type);
    assert_int_equal(want.value.n, n);
    assert_non_null(want.value.s);
    assert_memory_equal(want.value.s, expected, n);
    end(&r);
}

static void element_refused(const char *element, const char *why)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), OPEN "<array>%s</array>" CLOSE,
                   element);
    refused(text, why);
}

/* ---- the manifest ------------------------------------------------------ */

static mdm_rc scan_case(mdm_str_t raw, mdm_plist_mode_t mode,
                        size_t *damaged_r)
{
    result_t r = scan_n(raw.s, raw.n, mode, NULL, 0);
    mdm_rc rc = r.rc;

    *damaged_r = r.scan.damaged;
    end(&r);
    return rc;
}

/* Reads a message with the parser that its keys ask for. */
static mdm_rc parse_case(const char *file, mdm_str_t raw)
{
    mdm_plist_want_t want[] = {{.path = "Status"}};
    result_t r = scan_n(raw.s, raw.n, MDM_PLIST_STRICT, want, 1);
    mdm_command_t command;
    mdm_checkin_t checkin;
    mdm_report_t report;
    mdm_rc rc;

    assert_int_equal(r.rc, MDM_OK);
    if (strstr(file, "C38-command") != NULL) {
        rc = mdm_command_parse(raw, &limits, r.arena, &command, &r.err);
    } else if (want[0].type != MDM_PLIST_ABSENT) {
        rc = mdm_report_parse(raw, &limits, r.arena, &report, &r.err);
    } else {
        rc = mdm_checkin_parse(raw, &limits, r.arena, &checkin, &r.err);
    }
    end(&r);
    return rc;
}

/* Our choice where the manifest leaves one; tests/cases/README.md says
 * why. */
static bool choose_accept(const char *file)
{
    return strcmp(file, "mdm/C23-4-udid-and-enrolmentid.plist") == 0;
}

static void check_case(const char *file, const char *expect)
{
    mdm_str_t raw = read_case(file);
    bool message = strncmp(file, "mdm/", 4) == 0;
    size_t damaged = 0;
    mdm_rc rc = scan_case(raw, MDM_PLIST_STRICT, &damaged);
    bool ok = false;

    if (strncmp(expect, "accept", 6) == 0 &&
        strcmp(expect, "accept-or-415") != 0) {
        ok = rc == MDM_OK && (!message || parse_case(file, raw) == MDM_OK);
    } else if (strncmp(expect, "410-or", 6) == 0 ||
               strncmp(expect, "clean-error", 11) == 0) {
        ok = rc == MDM_OK && parse_case(file, raw) == MDM_OK;
    } else if (strcmp(expect, "reject-message") == 0 ||
               strcmp(expect, "400") == 0) {
        ok = rc == MDM_OK && parse_case(file, raw) == MDM_EINVAL;
    } else if (strcmp(expect, "reject") == 0 ||
               strcmp(expect, "accept-or-415") == 0) {
        ok = rc == MDM_EINVAL;
    } else if (strcmp(expect, "reject-or-replace") == 0) {
        ok = rc == MDM_EINVAL &&
             scan_case(raw, MDM_PLIST_LENIENT, &damaged) == MDM_OK &&
             damaged == 1;
    } else if (strcmp(expect, "either") == 0) {
        ok = choose_accept(file)
                 ? rc == MDM_OK && parse_case(file, raw) == MDM_OK
                 : rc == MDM_EINVAL;
    }
    if (!ok) {
        fail_msg("%s: %s expected, the scan says %s", file, expect,
                 mdm_rc_name(rc));
    }
    free_case(raw);
}

static void test_manifest(void **state)
{
    char path[1024];
    json_error_t fault;
    json_t *list;
    json_t *entry;
    size_t i;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/manifest.plists.json",
                   cases_dir());
    list = json_load_file(path, 0, &fault);
    if (list == NULL) {
        fail_msg("%s: %s", path, fault.text);
    }
    /* As many as there were when this test was written. */
    assert_true(json_array_size(list) >= 178);
    json_array_foreach(list, i, entry) {
        check_case(json_string_value(json_object_get(entry, "file")),
                   json_string_value(json_object_get(entry, "expect")));
    }
    json_decref(list);
}

/* ---- values ------------------------------------------------------------ */

static void test_strings(void **state)
{
    (void)state;
    value_is("<string>abc</string>", MDM_PLIST_STRING, "abc", 3);
    value_is("<string></string>", MDM_PLIST_STRING, "", 0);
    value_is("<string/>", MDM_PLIST_STRING, "", 0);
    value_is("<string a='>' b=\"&lt;\" >x</string \n>", MDM_PLIST_STRING, "x",
             1);
    value_is("<string>R&amp;D &lt;Lab&gt; &quot;1&quot; &apos;</string>",
             MDM_PLIST_STRING, "R&D <Lab> \"1\" '", 15);
    value_is("<string>&amp;lt;</string>", MDM_PLIST_STRING, "&lt;", 4);
    value_is("<string>&#x1F4F1;&#233;&#xA;</string>", MDM_PLIST_STRING,
             "\xf0\x9f\x93\xb1\xc3\xa9\n", 7);
    value_is("<string>a<!-- x -->b<?p y?>c</string>", MDM_PLIST_STRING,
             "abc", 3);
    value_is("<string>a<![CDATA[<b>&amp;]]>c</string>", MDM_PLIST_STRING,
             "a<b>&amp;c", 10);
    value_is("<string><![CDATA[]]]]><![CDATA[>]]></string>",
             MDM_PLIST_STRING, "]]>", 3);
    value_is("<string>a\r\nb\rc</string>", MDM_PLIST_STRING, "a\nb\nc", 5);
    value_is("<string><!---->a<!---->x<!--->--></string>", MDM_PLIST_STRING,
             "ax", 2);
    value_is("<string>0123456&amp;89abcdef&gt;</string>", MDM_PLIST_STRING,
             "0123456&89abcdef>", 17);
}

static void test_characters(void **state)
{
    (void)state;
    value_is("<string>\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbd"
             "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf</string>",
             MDM_PLIST_STRING,
             "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbd"
             "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
             21);
    element_refused("<string>\xc0\x80</string>", "invalid UTF-8");
    element_refused("<string>\xc1\xbf</string>", "invalid UTF-8");
    element_refused("<string>\xe0\x9f\xbf</string>", "invalid UTF-8");
    element_refused("<string>\xed\xa0\x80</string>", "invalid UTF-8");
    element_refused("<string>\xef\xbf\xbe</string>", "invalid UTF-8");
    element_refused("<string>\xef\xbf\xbf</string>", "invalid UTF-8");
    element_refused("<string>\xf0\x8f\xbf\xbf</string>", "invalid UTF-8");
    element_refused("<string>\xf4\x90\x80\x80</string>", "invalid UTF-8");
    element_refused("<string>\xf5\x80\x80\x80</string>", "invalid UTF-8");
    element_refused("<string>\x80</string>", "invalid UTF-8");
    element_refused("<string>\xe2\x82</string>", "invalid UTF-8");
    element_refused("<string>\x01</string>", "control character");
    element_refused("<string>\x1f</string>", "control character");
    element_refused("<!-- \x02 --><string/>", "control character");
    element_refused("<string><![CDATA[\x0b]]></string>", "control character");
    element_refused("<string a='\x0c'/>", "control character");
    element_refused("<string>a]]>b</string>", "outside CDATA");
    element_refused("<string>&#0;</string>", "XML forbids");
    element_refused("<string>&#xFFFE;</string>", "XML forbids");
    element_refused("<string>&#xdfff;</string>", "XML forbids");
    element_refused("<string>&#x110000;</string>", "U+10FFFF");
    element_refused("<string>&#;</string>", "without a number");
    element_refused("<string>&#x;</string>", "without a number");
    element_refused("<string>&#12a;</string>", "not a number");
    element_refused("<string>&#X41;</string>", "not a number");
    element_refused("<string>&ampx;</string>", "unknown entity");
    element_refused("<string>&AMP;</string>", "unknown entity");
    element_refused("<string>&;</string>", "unknown entity");
    element_refused("<string>a & b</string>", "begins no reference");
}

static void test_numbers(void **state)
{
    (void)state;
    value_is("<integer>18446744073709551615</integer>", MDM_PLIST_INTEGER,
             "18446744073709551615", 20);
    value_is("<integer>-9223372036854775808</integer>", MDM_PLIST_INTEGER,
             "-9223372036854775808", 20);
    value_is("<integer>\n +5\t</integer>", MDM_PLIST_INTEGER, "+5", 2);
    value_is("<integer>1<!-- x -->2</integer>", MDM_PLIST_INTEGER, "12", 2);
    value_is("<real>0.059999999999999998</real>", MDM_PLIST_REAL,
             "0.059999999999999998", 20);
    value_is("<real>-.5E+10</real>", MDM_PLIST_REAL, "-.5E+10", 7);
    element_refused("<integer/>", "not a decimal");
    element_refused("<integer>-</integer>", "not a decimal");
    element_refused("<integer>1 2</integer>", "not a decimal");
    element_refused("<integer>0x1F</integer>", "not a decimal");
    element_refused("<integer>18446744073709551616</integer>", "64 bits");
    element_refused("<integer>-9223372036854775809</integer>", "64 bits");
    element_refused("<integer>00000000000000000000000000000000000000000000000"
                    "000000000000000000000000000000000000000000001</integer>",
                    "too long");
    element_refused("<real>nan</real>", "not a decimal");
    element_refused("<real>1,5</real>", "not a decimal");
    element_refused("<real>.</real>", "not a decimal");
    element_refused("<real>1e</real>", "not a decimal");
    element_refused("<real>1.2.3</real>", "not a decimal");
    element_refused("<real>1e309</real>", "double");
    element_refused("<true>x</true>", "text inside");
}

static void test_dates_and_data(void **state)
{
    (void)state;
    value_is("<date>2024-02-29T23:59:59Z</date>", MDM_PLIST_DATE,
             "2024-02-29T23:59:59Z", 20);
    value_is("<date>2000-02-29T00:00:00Z</date>", MDM_PLIST_DATE,
             "2000-02-29T00:00:00Z", 20);
    element_refused("<date>2023-02-29T00:00:00Z</date>", "no calendar");
    element_refused("<date>1900-02-29T00:00:00Z</date>", "no calendar");
    element_refused("<date>2000-02-30T00:00:00Z</date>", "no calendar");
    element_refused("<date>0000-01-01T00:00:00Z</date>", "no calendar");
    element_refused("<date>2024-00-01T00:00:00Z</date>", "no calendar");
    element_refused("<date>2024-04-31T00:00:00Z</date>", "no calendar");
    element_refused("<date>2024-01-00T00:00:00Z</date>", "no calendar");
    element_refused("<date>2024-01-01T24:00:00Z</date>", "no calendar");
    element_refused("<date>2024-01-01T00:60:00Z</date>", "no calendar");
    element_refused("<date>2024-01-01T00:00:60Z</date>", "no calendar");
    element_refused("<date>2024-01-01T00:00:00</date>", "YYYY");
    element_refused("<date> 2024-01-01T00:00:00Z</date>", "YYYY");
    element_refused("<date/>", "YYYY");
    value_is("<data>\r\n\tAA ECAw==\n</data>", MDM_PLIST_DATA, "\0\1\2\3", 4);
    value_is("<data>AAE<!-- x -->CAw&#61;=</data>", MDM_PLIST_DATA,
             "\0\1\2\3", 4);
    value_is("<data/>", MDM_PLIST_DATA, "", 0);
    value_is("<data> \n</data>", MDM_PLIST_DATA, "", 0);
    element_refused("<data>A</data>", "base64");
    element_refused("<data>AA</data>", "base64");
    element_refused("<data>AA=</data>", "base64");
    element_refused("<data>A===</data>", "base64");
    element_refused("<data>AAE</data>", "base64");
    element_refused("<data>AA==AA==</data>", "base64");
    element_refused("<data>AAE==</data>", "base64");
    element_refused("<data>AA=A</data>", "base64");
    element_refused("<data>AB==</data>", "base64");
    element_refused("<data>AAB=</data>", "base64");
    element_refused("<data>AA-_</data>", "base64");
    element_refused("<data>====</data>", "base64");
}

static void test_wanted(void **state)
{
    mdm_plist_want_t want[] = {{.path = "A"},   {.path = "C.R"},
                               {.path = "C"},   {.path = "T"},
                               {.path = "C.B"}, {.path = "Missing"}};
    result_t r;

    (void)state;
    r = scan(OPEN "<dict><key>L</key><array><dict><key>A</key><string>no"
                  "</string><key>R</key><string>no</string></dict></array>"
                  "<key>C.R</key><string>not below</string>"
                  "<key>C</key><dict><key>A</key><string>no</string>"
                  "<key>D</key><dict><key>R</key><true/></dict>"
                  "<key>&#82;</key><string>yes</string>"
                  "<key>B</key><false/></dict>"
                  "<key>O</key><dict><key>R</key><string>no</string></dict>"
                  "<key>T</key><true/>"
                  "<key><![CDATA[A]]></key><string>1</string></dict>" CLOSE,
             want, MDM_ARRAY_LEN(want));
    assert_int_equal(r.rc, MDM_OK);
    assert_int_equal(r.scan.root, MDM_PLIST_DICT);
    assert_true(mdm_str_is(want[0].value, "1"));
    assert_true(mdm_str_is(want[1].value, "yes"));
    assert_int_equal(want[2].type, MDM_PLIST_DICT);
    assert_null(want[2].value.s);
    assert_int_equal(want[3].type, MDM_PLIST_BOOL);
    assert_true(want[3].flag);
    assert_int_equal(want[4].type, MDM_PLIST_BOOL);
    assert_false(want[4].flag);
    assert_int_equal(want[5].type, MDM_PLIST_ABSENT);
    end(&r);
    /* A container is no value, and what is in it neither. */
    r = scan(OPEN "<dict><key>A</key><array><string>no</string><true/>"
                  "</array></dict>" CLOSE, want, 1);
    assert_int_equal(r.rc, MDM_OK);
    assert_int_equal(want[0].type, MDM_PLIST_ARRAY);
    assert_null(want[0].value.s);
    assert_false(want[0].flag);
    end(&r);
    /* What the last scan found is forgotten. */
    r = scan(OPEN "<array/>" CLOSE, want, MDM_ARRAY_LEN(want));
    assert_int_equal(r.rc, MDM_OK);
    assert_int_equal(r.scan.root, MDM_PLIST_ARRAY);
    assert_int_equal(want[0].type, MDM_PLIST_ABSENT);
    assert_null(want[0].value.s);
    end(&r);
}

/* ---- structure --------------------------------------------------------- */

static void test_structure(void **state)
{
    (void)state;
    accepted(OPEN "<true/>" CLOSE);
    accepted("\xef\xbb\xbf<?xml version='1.0' encoding='us-ascii' "
             "standalone='no' ?>\n<!-- c -->\n<!DOCTYPE plist>\n<?pi?>" OPEN
             "\n<dict/>\n" CLOSE "\n<!-- c --><?pi x?>\n");
    accepted("<!DOCTYPE plist SYSTEM 'file:///etc/passwd'>" OPEN
             "<dict/>" CLOSE);
    refused("", "empty document");
    refused("\xef\xbb\xbf", "not an XML");
    refused("bplist00", "binary property lists are not accepted");
    refused("<dict/>", "<plist> is expected");
    refused("<plist/>", "<plist> is expected");
    refused(OPEN CLOSE, "no value");
    refused(OPEN "<dict/><dict/>" CLOSE, "more than one value");
    refused(OPEN "<dict/>" CLOSE "x", "behind </plist>");
    refused(OPEN "<dict/>" CLOSE OPEN, "behind </plist>");
    refused(OPEN "<dict/>", "ends too early");
    refused(OPEN "<dict></array>" CLOSE, "</dict> is expected");
    refused(OPEN "<dict></dict></dict>" CLOSE, "</plist> is expected");
    refused(OPEN "<plist/>" CLOSE, "<plist> inside");
    refused(OPEN "<key>a</key>" CLOSE, "<key> outside");
    refused(OPEN "<array><key>a</key></array>" CLOSE, "<key> outside");
    refused(OPEN "<string>a<b/></string>" CLOSE, "an element inside");
    refused(OPEN "<Dict/>" CLOSE, "<Dict> is no element");
    refused(OPEN "<dict:x/>" CLOSE, "is no element");
    refused(OPEN "< dict/>" CLOSE, "begins no element");
    refused(OPEN "<dict / >" CLOSE, "malformed tag");
    refused(OPEN "<dict a/>" CLOSE, "without a value");
    refused(OPEN "<dict a=b/>" CLOSE, "quoted value");
    refused(OPEN "<dict a='1'b='2'/>" CLOSE, "malformed tag");
    refused(OPEN "<dict a='1' a='2'/>" CLOSE, "twice");
    refused(OPEN "<dict a='<'/>" CLOSE, "\"<\" inside an attribute");
    refused(OPEN "<dict a='&x;'/>" CLOSE, "unknown entity");
    refused(OPEN "<dict a='1' b='' c='' d='' e='' f='' g='' h='' i=''/>"
                 CLOSE, "too many attributes");
    refused(OPEN "<!-- a -- b --><dict/>" CLOSE, "inside a comment");
    refused(OPEN "<!-- a ---><dict/>" CLOSE, "inside a comment");
    refused(OPEN "<!-- a <dict/>" CLOSE, "not closed");
    refused(OPEN "<? x?><dict/>" CLOSE, "without a name");
    refused(OPEN "<?xml version='1.0'?><dict/>" CLOSE, "XML declaration");
    refused(" <?xml version='1.0'?>" OPEN "<dict/>" CLOSE, "XML declaration");
    refused("<?xml version='1.1'?>" OPEN "<dict/>" CLOSE, "malformed XML");
    refused("<?xml encoding='UTF-8'?>" OPEN "<dict/>" CLOSE, "malformed XML");
    refused("<?xml version='1.0' encoding='UTF-7'?>" OPEN "<dict/>" CLOSE,
            "only UTF-8");
    refused("<?xml version='1.0' encoding='US-ASCII'?>" OPEN
            "<string>\xc3\xa9</string>" CLOSE, "not US-ASCII");
    refused("<!DOCTYPEplist>" OPEN "<dict/>" CLOSE, "not plist");
    refused("<!DOCTYPE html>" OPEN "<dict/>" CLOSE, "not plist");
    refused("<!DOCTYPE plist [ ]>" OPEN "<dict/>" CLOSE, "declarations");
    refused("<!DOCTYPE plist PUBLIC 'a' 'b' [<!ENTITY a 'b'>]>" OPEN
            "<dict/>" CLOSE, "declarations");
    refused("<!DOCTYPE plist PUBLIC 'a'>" OPEN "<dict/>" CLOSE,
            "malformed document type");
    refused("<!DOCTYPE plist><!DOCTYPE plist>" OPEN "<dict/>" CLOSE,
            "begins no element");
    /* A second key hidden where other readers see the comment end. */
    refused(OPEN "<dict><key>UDID</key><string>a</string><!---><key>UDID"
                 "</key><string>b</string><!-- --></dict>" CLOSE,
            "inside a comment");
}

static void test_duplicates(void **state)
{
    mdm_plist_want_t want[] = {{.path = "C.R"}};
    char text[20000];
    size_t n;
    result_t r;
    int i;

    (void)state;
    refused(OPEN "<dict><key>a</key><true/><key>a</key><true/></dict>" CLOSE,
            "twice");
    refused(OPEN "<dict><key>a&amp;b</key><true/>"
                 "<key>a<![CDATA[&]]>b</key><true/></dict>" CLOSE, "twice");
    refused(OPEN "<dict><key>0123456789abcdef</key><true/>"
                 "<key>01234&#53;6789<!-- -->abcdef</key><true/></dict>"
                 CLOSE, "twice");
    accepted(OPEN "<dict><key>a</key><dict><key>a</key><true/><key>b</key>"
                  "<true/></dict><key>b</key><true/><key></key><true/>"
                  "<key>A</key><true/></dict>" CLOSE);
    /* Past the size up to which keys are compared one by one. */
    n = (size_t)snprintf(text, sizeof(text), "%s", OPEN "<dict>");
    for (i = 0; i < 400; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "<key>k%d</key>%s", i,
                              i == 50 ? "<dict><key>k3</key><true/></dict>"
                                      : "<true/>");
    }
    (void)snprintf(text + n, sizeof(text) - n, "</dict>" CLOSE);
    accepted(text);
    (void)snprintf(text + n, sizeof(text) - n,
                   "<key>k3</key><true/></dict>" CLOSE);
    refused(text, "twice");
    /* Wanted keys, also when lenient. */
    r = scan_n(OPEN "<dict><key>C</key><dict/><key>C</key><dict/></dict>"
                    CLOSE, strlen(OPEN "<dict><key>C</key><dict/><key>C"
                                       "</key><dict/></dict>" CLOSE),
               MDM_PLIST_LENIENT, want, 1);
    assert_int_equal(r.rc, MDM_EINVAL);
    end(&r);
}

static mdm_rc scan_tight(const char *text, size_t *items_r, mdm_err_t *err)
{
    const mdm_plist_limits_t tight = {200, 3, 5};
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_plist_scan_t found;
    mdm_rc rc;

    assert_non_null(arena);
    rc = mdm_plist_scan(mdm_str_from(text), &tight, MDM_PLIST_LENIENT, arena,
                        NULL, 0, &found, err);
    *items_r = found.items;
    mdm_arena_free(&arena);
    return rc;
}

static void test_limits(void **state)
{
    char large[202];
    size_t items;
    mdm_err_t err;

    (void)state;
    assert_int_equal(scan_tight(OPEN "<array><array><array/></array>"
                                     "</array>" CLOSE, &items, &err), MDM_OK);
    assert_int_equal(scan_tight(OPEN "<array><array><array><array/></array>"
                                     "</array></array>" CLOSE, &items, &err),
                     MDM_EINVAL);
    assert_non_null(strstr(err.text, "deeper than 3"));
    assert_int_equal(scan_tight(OPEN "<array><true/><true/><true/><true/>"
                                     "</array>" CLOSE, &items, &err), MDM_OK);
    assert_int_equal(items, 5);
    assert_int_equal(scan_tight(OPEN "<array><true/><true/><true/><true/>"
                                     "<true/></array>" CLOSE, &items, &err),
                     MDM_EINVAL);
    assert_non_null(strstr(err.text, "more than 5"));
    (void)snprintf(large, sizeof(large), "%-201s", OPEN "<true/>" CLOSE);
    assert_int_equal(scan_tight(large, &items, &err), MDM_ETOOBIG);
    large[200] = '\0';
    assert_int_equal(scan_tight(large, &items, &err), MDM_OK);
}

static void test_place(void **state)
{
    (void)state;
    refused(OPEN "\n<dict>\n <key>\xc3\xa9</key><blob/>\n</dict>" CLOSE,
            "line 3, column 14: <blob>");
    refused("x", "line 1, column 1:");
    refused(OPEN "\n\n", "line 3, column 1: the document ends");
}

/* ---- lenient ----------------------------------------------------------- */

static result_t lenient(const char *inner, mdm_plist_want_t *want)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), OPEN "\n<dict>%s</dict>" CLOSE,
                   inner);
    return scan_n(text, strlen(text), MDM_PLIST_LENIENT, want, 1);
}

static void passes(const char *inner, size_t damaged, const char *fault)
{
    mdm_plist_want_t want = {.path = "W"};
    result_t r = lenient(inner, &want);

    if (r.rc != MDM_OK || r.scan.damaged != damaged ||
        strstr(r.scan.first_fault, fault) == NULL) {
        fail_msg("%s: rc %d, %zu damaged, \"%s\" %s", inner, r.rc,
                 r.scan.damaged, r.scan.first_fault, r.err.text);
    }
    assert_int_equal(r.scan.first_line, damaged > 0 ? 2 : 0);
    end(&r);
}

static void fails(const char *inner)
{
    mdm_plist_want_t want = {.path = "W"};
    result_t r = lenient(inner, &want);

    if (r.rc != MDM_EINVAL) {
        fail_msg("%s: rc %d", inner, r.rc);
    }
    end(&r);
}

static void test_lenient(void **state)
{
    (void)state;
    passes("<key>W</key><string>w</string>", 0, "");
    passes("<key>A</key><string>\x12</string>", 1, "control");
    passes("<key>A</key><string>\xff\xfe</string>", 2, "UTF-8");
    passes("<key>A</key><string>&nbsp;&</string>", 2, "unknown entity");
    passes("<key>A</key><string>]]></string>", 1, "CDATA");
    passes("<key>A</key><integer>x</integer>", 1, "integer");
    passes("<key>A</key><real>x</real><key>W</key><true/>", 1, "real");
    passes("<key>A</key><date>x</date>", 1, "date");
    passes("<key>A</key><data>x</data>", 1, "base64");
    passes("<key>A</key><true/><key>A</key><true/>", 1, "twice");
    passes("<key>A</key><true/><!-- \x01 -->", 1, "control");
    passes("<key>W</key><dict><key>A</key><integer/></dict>", 1, "integer");
    passes("<key>W</key><array><string>\x01</string></array>", 1, "control");
    passes("<key>W\x01</key><true/><key>W&x;</key><true/>", 2, "control");
    fails("<key>W</key><string>\x12</string>");
    fails("<key>W</key><string>&nbsp;</string>");
    fails("<key>W</key><string>\xff</string>");
    fails("<key>W</key><integer>x</integer>");
    fails("<key>W</key><data>x</data>");
    fails("<key>W</key><true/><key>&#87;</key><true/>");
    fails("<key>A</key>");
    fails("<key>A</key><blob/>");
    fails("<key>A</key><string>");
    fails("<key>A</key><string a='\x01'/>");
    fails("text");
}

/* A NUL inside a key neither ends nor makes a wanted one. */
static void test_nul_in_key(void **state)
{
    static const char text[] =
        OPEN "<dict><key>W\0x</key><true/><key>W\0</key><true/>"
             "</dict>" CLOSE;
    mdm_plist_want_t want = {.path = "W"};
    result_t r;

    (void)state;
    r = scan_n(text, sizeof(text) - 1, MDM_PLIST_LENIENT, &want, 1);
    assert_int_equal(r.rc, MDM_OK);
    assert_int_equal(r.scan.damaged, 2);
    assert_int_equal(want.type, MDM_PLIST_ABSENT);
    end(&r);
    r = scan_n(text, sizeof(text) - 1, MDM_PLIST_STRICT, &want, 1);
    assert_int_equal(r.rc, MDM_EINVAL);
    end(&r);
}

/* ---- JSON -------------------------------------------------------------- */

static mdm_rc to_json(mdm_str_t xml, mdm_buf_t *json, mdm_err_t *err)
{
    mdm_plist_limits_t most = limits;

    most.depth = MDM_PLIST_DEPTH_MAX;
    mdm_err_clear(err);
    mdm_buf_init(json, 64 << 20);
    return mdm_plist_to_json(xml, &most, json, err);
}

static void json_is(const char *body, const char *expected)
{
    char text[2048];
    mdm_buf_t json;
    mdm_err_t err;

    (void)snprintf(text, sizeof(text), "\xef\xbb\xbf<!DOCTYPE plist>" OPEN
                   "%s" CLOSE "\n", body);
    if (to_json(mdm_str_from(text), &json, &err) != MDM_OK) {
        fail_msg("%s: %s", body, err.text);
    }
    assert_string_equal(json.data, expected);
    mdm_buf_clear(&json);
}

static void test_json(void **state)
{
    mdm_buf_t json;
    mdm_err_t err;

    (void)state;
    json_is("<dict><key>a</key><string>x&amp;\"</string><key>b</key><array>"
            "<true/><false/><dict/><array/></array></dict>",
            "{\"a\":\"x&\\\"\",\"b\":[true,false,{},[]]}");
    json_is("<array><integer>-9223372036854775808</integer><integer>"
            "9223372036854775807</integer><integer>9223372036854775808"
            "</integer><integer>+010</integer><integer>-0</integer></array>",
            "[-9223372036854775808,9223372036854775807,"
            "\"9223372036854775808\",10,0]");
    json_is("<array><real>+007.50e+2</real><real>.5</real><real>-1.</real>"
            "<real>3</real><real>9.9e308</real></array>",
            "[750.0,0.5,-1.0,3.0,\"9.9e308\"]");
    json_is("<array><date>0001-01-01T00:00:00Z</date>"
            "<date>4001-01-01T00:00:00Z</date></array>",
            "[\"0001-01-01T00:00:00Z\",\"4001-01-01T00:00:00Z\"]");
    json_is("<array><data>\n\tQUJD\n\tRA==\n</data><data>QU<!-- x -->JD"
            "</data><data/></array>", "[\"QUJDRA==\",\"QUJD\",\"\"]");
    json_is("<array><string>a<!-- b -->c</string><string><![CDATA[<&amp;]]>"
            "</string><string>\xf0\x9f\x93\xb1</string></array>",
            "[\"ac\",\"<&amp;\",\"\xf0\x9f\x93\xb1\"]");
    json_is("<string>root</string>", "\"root\"");
    assert_int_equal(to_json(MDM_STR(OPEN "<dict><key>a</key></dict>" CLOSE),
                             &json, &err), MDM_EINVAL);
    mdm_buf_clear(&json);
    /* The buffer's maximum holds. */
    mdm_buf_init(&json, 5);
    assert_int_equal(mdm_plist_to_json(
                         MDM_STR(OPEN "<string>123456</string>" CLOSE),
                         &limits, &json, &err), MDM_ETOOBIG);
    mdm_buf_clear(&json);
}

static void test_write(void **state)
{
    const mdm_plist_put_t inner[] = {
        {.key = "On", .type = MDM_PLIST_BOOL, .flag = true},
        {.key = "Off", .type = MDM_PLIST_BOOL}};
    const mdm_plist_put_t list[] = {
        {.type = MDM_PLIST_INTEGER, .number = -5},
        {.type = MDM_PLIST_ABSENT}, {.type = MDM_PLIST_ARRAY},
        {.type = MDM_PLIST_STRING, .value = {"s", 1}}};
    mdm_plist_put_t items[] = {
        {.key = "Empty", .type = MDM_PLIST_STRING, .value = {"", 0}},
        {.key = "Text", .type = MDM_PLIST_STRING, .value = {"a<&>b", 5}},
        {.key = "Left", .type = MDM_PLIST_ABSENT},
        {.key = "Data", .type = MDM_PLIST_DATA, .value = {"\0\xff\n", 3}},
        {.key = "Dict", .type = MDM_PLIST_DICT, .items = inner, .n = 2},
        {.key = "List", .type = MDM_PLIST_ARRAY, .items = list, .n = 4},
    };
    char big[100000];
    mdm_buf_t xml;
    mdm_buf_t json;
    mdm_err_t err;

    (void)state;
    mdm_buf_init_secret(&xml, 1 << 20);
    assert_int_equal(mdm_plist_write(items, MDM_ARRAY_LEN(items), &xml, &err),
                     MDM_OK);
    assert_int_equal(to_json(mdm_buf_str(&xml), &json, &err), MDM_OK);
    assert_string_equal(mdm_buf_str(&json).s,
                        "{\"Empty\":\"\",\"Text\":\"a<&>b\",\"Data\":"
                        "\"AP8K\",\"Dict\":{\"On\":true,\"Off\":false},"
                        "\"List\":[-5,[],\"s\"]}");
    mdm_buf_clear(&json);
    mdm_buf_clear(&xml);
    /* Long data is put together from pieces without a seam. */
    memset(big, 0x5a, sizeof(big));
    items[3].value = (mdm_str_t){big, sizeof(big)};
    mdm_buf_init(&xml, 1 << 20);
    assert_int_equal(mdm_plist_write(items + 3, 1, &xml, &err), MDM_OK);
    assert_null(memmem(mdm_buf_str(&xml).s, mdm_buf_str(&xml).n, "=WlpaWl",
                       7));
    assert_true(mdm_buf_str(&xml).n > sizeof(big) / 3 * 4);
    mdm_buf_clear(&xml);
    /* Neither the maximum nor XML is broken. */
    mdm_buf_init(&xml, 100);
    assert_int_equal(mdm_plist_write(items, 1, &xml, &err), MDM_ETOOBIG);
    mdm_buf_clear(&xml);
    items[1].value = MDM_STR("a\x01");
    mdm_buf_init(&xml, 1 << 20);
    assert_int_equal(mdm_plist_write(items, 2, &xml, &err), MDM_EINVAL);
    mdm_buf_clear(&xml);
    items[1].value = MDM_STR("a\xc3");
    assert_int_equal(mdm_plist_write(items, 2, &xml, &err), MDM_EINVAL);
    mdm_buf_clear(&xml);
    /* Blanks of any kind and other scripts come back as they were. */
    items[1].value = MDM_STR("a\r\n\t\xc3\xa4");
    assert_int_equal(mdm_plist_write(items, 2, &xml, &err), MDM_OK);
    assert_int_equal(to_json(mdm_buf_str(&xml), &json, &err), MDM_OK);
    assert_string_equal(mdm_buf_str(&json).s,
                        "{\"Empty\":\"\",\"Text\":\"a\\r\\n\\t\xc3\xa4\"}");
    mdm_buf_clear(&json);
    mdm_buf_clear(&xml);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_dates_and_data),
        cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_nul_in_key),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_write),
    };

    return cmocka_run_group_tests_name("plist", tests, NULL, NULL);
}

int main(void)
{
    return on_small_stack(run);
}
