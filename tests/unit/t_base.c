/*
 * t_base.c - the ground floor: buffers, counted strings, the arena, times,
 * errors and log lines.
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
#include "mdm_err.h"
#include "mdm_log.h"
#include "mdm_mem.h"
#include "mdm_str.h"
#include "mdm_time.h"

/* ---- buffers ------------------------------------------------------------ */

static void test_buf_limits(void **state)
{
    char big[600];
    mdm_buf_t buf;
    size_t i;

    (void)state;
    memset(big, 'x', sizeof(big));
    mdm_buf_init(&buf, 10);
    assert_int_equal(mdm_buf_append(&buf, "0123456789", 10), MDM_OK);
    assert_int_equal(mdm_buf_append(&buf, NULL, 0), MDM_OK);
    assert_int_equal(mdm_buf_append(&buf, "x", 1), MDM_ETOOBIG);
    /* The error sticks, the content stays, and nothing may follow. */
    mdm_buf_consume(&buf, 5);
    assert_int_equal(mdm_buf_puts(&buf, "y"), MDM_ETOOBIG);
    assert_int_equal(mdm_buf_printf(&buf, "%d", 1), MDM_ETOOBIG);
    assert_int_equal(mdm_buf_reserve(&buf, 0), MDM_ETOOBIG);
    assert_int_equal(mdm_buf_rc(&buf), MDM_ETOOBIG);
    assert_string_equal(buf.data, "56789");
    mdm_buf_reset(&buf);
    assert_int_equal(mdm_buf_rc(&buf), MDM_OK);
    assert_int_equal(mdm_buf_str(&buf).n, 0);
    assert_int_equal(mdm_buf_printf(&buf, "%s-%d", "ab", 7), MDM_OK);
    assert_string_equal(buf.data, "ab-7");
    assert_int_equal(mdm_buf_reserve(&buf, SIZE_MAX), MDM_ETOOBIG);
    mdm_buf_clear(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.max, 10);

    /* Every length around the growth steps, for secrets too. */
    for (i = 0; i <= sizeof(big); i++) {
        mdm_buf_init_secret(&buf, i);
        assert_int_equal(mdm_buf_append(&buf, big, i), MDM_OK);
        assert_int_equal(mdm_buf_rc(&buf), MDM_OK);
        assert_int_equal(mdm_buf_append(&buf, "z", 1), MDM_ETOOBIG);
        assert_int_equal(buf.len, i);
        mdm_buf_clear(&buf);
    }
}

static void test_buf_grow_consume(void **state)
{
    mdm_buf_t buf;
    mdm_str_t s;
    size_t i;

    (void)state;
    mdm_buf_init_secret(&buf, 100000);
    for (i = 0; i < 20000; i++) {
        assert_int_equal(mdm_buf_printf(&buf, "%05zu", i), MDM_OK);
    }
    assert_int_equal(buf.len, 100000);
    assert_int_equal(mdm_buf_append(&buf, "", 1), MDM_ETOOBIG);
    s = mdm_buf_str(&buf);
    for (i = 0; i < 20000; i++) {
        assert_int_equal(atoi((char[]){s.s[5 * i], s.s[5 * i + 1],
                                       s.s[5 * i + 2], s.s[5 * i + 3],
                                       s.s[5 * i + 4], 0}),
                         (int)i);
    }
    mdm_buf_consume(&buf, 99995);
    assert_string_equal(buf.data, "19999");
    mdm_buf_consume(&buf, 5);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.data[0], '\0');
    mdm_buf_clear(&buf);
    assert_true(buf.wipe);
    mdm_buf_consume(&buf, 0);
    assert_null(mdm_buf_str(&buf).n != 0 ? "not empty" : NULL);
}

/* ---- strings ------------------------------------------------------------ */

static void test_str_compare(void **state)
{
    char out[8];

    (void)state;
    assert_true(mdm_str_eq(MDM_STR("ab"), MDM_STR("ab")));
    assert_false(mdm_str_eq(MDM_STR("ab"), MDM_STR("aB")));
    assert_false(mdm_str_eq(MDM_STR("ab"), MDM_STR("abc")));
    assert_true(mdm_str_is(MDM_STR("ab"), "ab"));
    assert_false(mdm_str_is(MDM_STR("ab\0"), "ab"));
    assert_true(mdm_str_ieq(MDM_STR("BeArEr"), "bearer"));
    assert_false(mdm_str_ieq(MDM_STR("bearer "), "bearer"));
    /* "[" and "{" differ by the bit of letter case, and are no letters. */
    assert_false(mdm_str_ieq(MDM_STR("["), "{"));
    assert_true(mdm_str_starts(MDM_STR("com.apple.mgmt.x"), "com.apple."));
    assert_false(mdm_str_starts(MDM_STR("com"), "com.apple."));
    assert_null(mdm_str_from(NULL).s);
    assert_int_equal(mdm_str_from("").n, 0);
    assert_non_null(mdm_str_from("").s);
    assert_true(mdm_str_is(mdm_str_trim(MDM_STR(" \t a b\t ")), "a b"));
    assert_int_equal(mdm_str_trim(MDM_STR(" \t ")).n, 0);
    assert_true(mdm_str_secret_eq(MDM_STR("x1"), MDM_STR("x1")));
    assert_false(mdm_str_secret_eq(MDM_STR("x1"), MDM_STR("x2")));
    assert_false(mdm_str_secret_eq(MDM_STR("x1"), MDM_STR("x")));
    assert_string_equal(mdm_str_printable(MDM_STR("a\n\x80\x7f~"), out,
                                          sizeof(out)),
                        "a???~");
    assert_string_equal(mdm_str_printable(MDM_STR("0123456789"), out,
                                          sizeof(out)),
                        "0123456");
    assert_string_equal(mdm_str_printable(MDM_STR("x"), out, 1), "");
}

static void test_str_split(void **state)
{
    mdm_str_t rest = MDM_STR("a,,b,");

    (void)state;
    assert_true(mdm_str_is(mdm_str_split(&rest, ','), "a"));
    assert_true(mdm_str_is(mdm_str_split(&rest, ','), ""));
    assert_true(mdm_str_is(mdm_str_split(&rest, ','), "b"));
    assert_non_null(rest.s); /* something was behind the last separator */
    assert_true(mdm_str_is(mdm_str_split(&rest, ','), ""));
    assert_null(rest.s);
    assert_null(mdm_str_split(&rest, ',').s);
}

static void test_hex(void **state)
{
    unsigned char raw[3];
    char text[7];

    (void)state;
    mdm_hex_encode("\x00\xaf\xff", 3, text);
    assert_string_equal(text, "00afff");
    assert_true(mdm_hex_decode(MDM_STR("00AFff"), raw, 3));
    assert_memory_equal(raw, "\x00\xaf\xff", 3);
    assert_false(mdm_hex_decode(MDM_STR("00afff"), raw, 2));
    assert_false(mdm_hex_decode(MDM_STR("00aff"), raw, 3));
    assert_false(mdm_hex_decode(MDM_STR("00affg"), raw, 3));
    assert_false(mdm_hex_decode(MDM_STR("00af f"), raw, 3));
}

static void test_base64_round_trip(void **state)
{
    unsigned char raw[300];
    unsigned char back[302];
    char text[MDM_BASE64_SIZE(300)];
    size_t len;
    size_t n;
    size_t i;

    (void)state;
    for (n = 0; n <= sizeof(raw); n++) {
        for (i = 0; i < n; i++) {
            raw[i] = (unsigned char)(i * 37 + n * 11);
        }
        mdm_base64_encode(raw, n, text);
        assert_int_equal(strlen(text) + 1, MDM_BASE64_SIZE(n));
        assert_int_equal(mdm_base64_decode(mdm_str_from(text), back, &len),
                         MDM_OK);
        assert_int_equal(len, n);
        assert_memory_equal(back, raw, n);
        /* In place. */
        assert_int_equal(mdm_base64_decode(mdm_str_from(text),
                                           (unsigned char *)text, &len),
                         MDM_OK);
        assert_int_equal(len, n);
        assert_memory_equal(text, raw, n);
    }
}

static void test_base64_strict(void **state)
{
    static const char *const good[] = {"", " \r\n\t", "QQ==", "Q\nQ= =\n",
                                       "QUI=", "QUJD", "+/+/"};
    static const char *const bad[] = {
        "Q",     "QQ",    "QQ=",   "QQ===",  "QQ== =", "QUI",   "QUI==",
        "=",     "====",  "Q===",  "QQ=A",   "QQ==QQ==", "QUJDQ", "QR==",
        "QUJ=",  "Q*==",  "QU-D",  "QU_D",   "QUI=QUI=", "QUJD=", "Q=Q="};
    unsigned char out[32];
    size_t len;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(good); i++) {
        assert_int_equal(mdm_base64_decode(mdm_str_from(good[i]), out, &len),
                         MDM_OK);
    }
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        if (mdm_base64_decode(mdm_str_from(bad[i]), out, &len) != MDM_EINVAL) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
        assert_int_equal(len, 0);
    }
    assert_int_equal(mdm_base64_decode(MDM_STR("QQ\0=="), out, &len),
                     MDM_EINVAL);
}

static void test_numbers(void **state)
{
    uint64_t v;

    (void)state;
    assert_true(mdm_parse_u64(MDM_STR("0"), 0, &v));
    assert_true(mdm_parse_u64(MDM_STR("18446744073709551615"), UINT64_MAX,
                              &v));
    assert_true(v == UINT64_MAX);
    assert_false(mdm_parse_u64(MDM_STR("18446744073709551616"), UINT64_MAX,
                               &v));
    assert_false(mdm_parse_u64(MDM_STR("99999999999999999999999"),
                               UINT64_MAX, &v));
    assert_true(mdm_parse_u64(MDM_STR("007"), 7, &v));
    assert_false(mdm_parse_u64(MDM_STR("8"), 7, &v));
    assert_false(mdm_parse_u64(MDM_STR("10"), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR(""), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR_NONE, 9, &v));
    assert_false(mdm_parse_u64(MDM_STR("-1"), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR("+1"), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR(" 1"), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR("1 "), 9, &v));
    assert_false(mdm_parse_u64(MDM_STR("0x1"), 9, &v));
}

static void test_durations_and_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t us; /* -1: refused */
    } times[] = {{"10", 10 * MDM_SEC},     {"10s", 10 * MDM_SEC},
                 {"500ms", MDM_SEC / 2},   {"15m", 900 * MDM_SEC},
                 {"4h", 14400 * MDM_SEC},  {"7d", 604800 * MDM_SEC},
                 {"0", 0},                 {"", -1},
                 {"s", -1},                {"10 s", -1},
                 {"10S", -1},              {"1w", -1},
                 {"-1s", -1},              {"1.5s", -1},
                 {"36500d", INT64_C(36500) * 86400 * MDM_SEC},
                 {"36501d", -1},           {"99999999999999999999d", -1}};
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {{"1024", 1024},     {"8k", 8192},      {"8K", 8192},
                 {"32m", 33554432},  {"1g", 1073741824}, {"1kb", -1},
                 {"k", -1},          {"", -1},          {"1 k", -1},
                 {"1t", -1},         {"9999999999", -1}, {"-1k", -1}};
    int64_t us;
    uint64_t bytes;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(times); i++) {
        us = -1;
        assert_int_equal(mdm_parse_duration(mdm_str_from(times[i].text), &us),
                         times[i].us >= 0);
        assert_true(us == times[i].us);
    }
    for (i = 0; i < MDM_ARRAY_LEN(sizes); i++) {
        assert_int_equal(mdm_parse_size(mdm_str_from(sizes[i].text), &bytes),
                         sizes[i].bytes >= 0);
        if (sizes[i].bytes >= 0) {
            assert_true(bytes == (uint64_t)sizes[i].bytes);
        }
    }
}

static void test_uuid_and_digest(void **state)
{
    char a[MDM_UUID_SIZE];
    char b[MDM_UUID_SIZE];
    unsigned char digest[MDM_SHA256_LEN];
    char hex[2 * MDM_SHA256_LEN + 1];

    (void)state;
    assert_int_equal(mdm_uuid_new(a, NULL), MDM_OK);
    assert_int_equal(mdm_uuid_new(b, NULL), MDM_OK);
    assert_int_equal(strlen(a), MDM_UUID_LEN);
    assert_string_not_equal(a, b);
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    assert_int_equal(strspn(a, "0123456789abcdef-"), MDM_UUID_LEN);
    assert_int_equal(mdm_sha256(MDM_STR("abc"), digest, NULL), MDM_OK);
    mdm_hex_encode(digest, sizeof(digest), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223"
                             "b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(mdm_sha256(MDM_STR_NONE, digest, NULL), MDM_OK);
    mdm_hex_encode(digest, 4, hex);
    assert_string_equal(hex, "e3b0c442");
}

/* ---- arena -------------------------------------------------------------- */

static void test_arena(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4095, 4096, 4097,
                                   100000, 33554432};
    mdm_arena_t *arena = mdm_arena_new(true);
    unsigned char *p[64];
    mdm_str_t s;
    size_t i;
    size_t j;

    (void)state;
    assert_non_null(arena);
    for (i = 0; i < 64; i++) {
        p[i] = mdm_arena_alloc(arena, i * 131);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
        for (j = 0; j < i * 131; j++) {
            assert_int_equal(p[i][j], 0);
        }
        memset(p[i], (int)i, i * 131);
    }
    for (i = 0; i < MDM_ARRAY_LEN(sizes); i++) {
        unsigned char *big = mdm_arena_alloc(arena, sizes[i]);

        assert_non_null(big);
        assert_int_equal((uintptr_t)big % _Alignof(max_align_t), 0);
        memset(big, 0xee, sizes[i]);
    }
    for (i = 0; i < 64; i++) { /* nobody overwrote anybody */
        for (j = 0; j < i * 131; j++) {
            assert_int_equal(p[i][j], i);
        }
    }
    assert_null(mdm_arena_alloc(arena, SIZE_MAX));
    assert_null(mdm_arena_alloc(arena, SIZE_MAX - 16));
    assert_null(mdm_arena_dup(arena, "x", SIZE_MAX));
    assert_string_equal(mdm_arena_dup(arena, "abc", 2), "ab");
    assert_string_equal(mdm_arena_printf(arena, "%s%05d", "n", 42), "n00042");
    assert_true(mdm_arena_str(arena, MDM_STR_NONE, &s));
    assert_null(s.s);
    assert_true(mdm_arena_str(arena, MDM_STR(""), &s));
    assert_non_null(s.s);
    assert_int_equal(s.n, 0);
    mdm_arena_free(&arena);
    assert_null(arena);
    mdm_arena_free(&arena);
}

static void test_wipe(void **state)
{
    char secret[64];
    size_t i;

    (void)state;
    memset(secret, 's', sizeof(secret));
    mdm_wipe(secret + 1, sizeof(secret) - 2);
    assert_int_equal(secret[0], 's');
    assert_int_equal(secret[63], 's');
    for (i = 1; i < 63; i++) {
        assert_int_not_equal(secret[i], 's');
    }
    mdm_wipe(NULL, 10);
}

/* ---- time --------------------------------------------------------------- */

static void test_time_format(void **state)
{
    static const struct {
        int64_t s;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {951782400, "2000-02-29T00:00:00Z"},
        {951868799, "2000-02-29T23:59:59Z"},
        {951868800, "2000-03-01T00:00:00Z"},
        {1709164800, "2024-02-29T00:00:00Z"},
        {4107542400, "2100-03-01T00:00:00Z"},
        {-1, "1969-12-31T23:59:59Z"},
        {INT64_C(253402300799), "9999-12-31T23:59:59Z"},
        {INT64_C(-62135596800), "0001-01-01T00:00:00Z"},
    };
    char text[MDM_RFC3339_SIZE];
    int64_t us;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        mdm_time_format(cases[i].s * MDM_SEC, text);
        assert_string_equal(text, cases[i].text);
        assert_true(mdm_time_parse(mdm_str_from(text), &us));
        assert_true(us == cases[i].s * MDM_SEC);
    }
    /* Parts of a second are cut towards the past. */
    mdm_time_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59Z");
    /* A prime step through 8000 years. */
    for (us = 0; us < INT64_C(253402300799) * MDM_SEC;
         us += INT64_C(86400007) * 997 * 1000) {
        int64_t back;

        mdm_time_format(us, text);
        assert_true(mdm_time_parse(mdm_str_from(text), &back));
        assert_true(back == us - us % MDM_SEC);
    }
}

static void test_time_parse(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"1970-01-01T00:00:00.5Z", MDM_SEC / 2},
        {"1970-01-01T00:00:00.1234567Z", 123456},
        {"1970-01-01t00:00:01z", MDM_SEC},
        {"1970-01-01 00:00:01Z", MDM_SEC},
        {"1970-01-01T01:00:00+01:00", 0},
        {"1969-12-31T16:30:00-07:30", 0},
        {"2000-02-29T00:00:00+00:00", INT64_C(951782400) * MDM_SEC},
    };
    static const char *const bad[] = {
        "", "1970", "1970-01-01", "1970-01-01T00:00:00", "70-01-01T00:00:00Z",
        "1970-13-01T00:00:00Z", "1970-00-01T00:00:00Z",
        "1970-01-32T00:00:00Z", "1970-01-00T00:00:00Z",
        "2001-02-29T00:00:00Z", "2100-02-29T00:00:00Z",
        "1970-01-01T24:00:00Z", "1970-01-01T00:60:00Z",
        "1970-01-01T00:00:61Z", "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00+1:00", "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+00:60",
        "1970-01-01T00:00:00Zx", " 1970-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z", "1970/01/01T00:00:00Z", "1970-1-1T0:0:0Z"};
    int64_t us;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(good); i++) {
        assert_true(mdm_time_parse(mdm_str_from(good[i].text), &us));
        assert_true(us == good[i].us);
    }
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        if (mdm_time_parse(mdm_str_from(bad[i]), &us)) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
    }
}

static int64_t fixed(void *ctx)
{
    return *(int64_t *)ctx;
}

static void test_clock(void **state)
{
    int64_t now = 42;
    mdm_clock_t clock = {&now, fixed, NULL};
    int64_t before = mdm_mono_us(NULL);

    (void)state;
    assert_int_equal(mdm_wall_us(&clock), 42);
    assert_true(mdm_mono_us(&clock) >= before);
    assert_true(mdm_wall_us(NULL) > INT64_C(1700000000) * MDM_SEC);
    assert_int_equal(mdm_days_from_civil(1970, 1, 1), 0);
    assert_int_equal(mdm_days_from_civil(2000, 3, 1), 11017);
}

/* ---- errors and log lines ----------------------------------------------- */

static void test_err(void **state)
{
    char longer[2 * MDM_ERR_TEXT_MAX];
    mdm_err_t err;

    (void)state;
    assert_int_equal(mdm_err_set(NULL, MDM_EBUSY, 0, "x"), MDM_EBUSY);
    assert_int_equal(mdm_err_set(&err, MDM_EINVAL, 7, "a%sb", "\n\x1b\x7f"),
                     MDM_EINVAL);
    assert_string_equal(err.text, "a???b");
    assert_int_equal(err.id, 7);
    assert_int_equal(mdm_err_prefix(&err, "f\to %d", 1), MDM_EINVAL);
    assert_string_equal(err.text, "f?o 1: a???b");
    memset(longer, 'l', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    (void)mdm_err_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), MDM_ERR_TEXT_MAX - 1);
    (void)mdm_err_set(&err, MDM_EINVAL, 0, "%s", longer);
    assert_int_equal(strlen(err.text), MDM_ERR_TEXT_MAX - 1);
    (void)mdm_err_prefix(&err, "where");
    assert_memory_equal(err.text, "where: lll", 10);
    assert_int_equal(strlen(err.text), MDM_ERR_TEXT_MAX - 1);
    assert_int_equal(mdm_err_nomem(&err), MDM_ENOMEM);
    assert_string_equal(err.text, "out of memory");
    mdm_err_clear(&err);
    assert_int_equal(err.rc, MDM_OK);
    assert_string_equal(err.text, "");
    assert_string_equal(mdm_rc_name(MDM_EGONE), "not managed");
    assert_string_equal(mdm_rc_name((mdm_rc)-999), "unknown");
}

typedef struct sink {
    mdm_level_t level; /* up to this one */
    unsigned lines;
    mdm_level_t last;
    char text[2048];
} sink_t;

static bool sink_on(void *ctx, mdm_level_t level)
{
    return level <= ((sink_t *)ctx)->level;
}

static void sink_write(void *ctx, mdm_level_t level, const char *file,
                       int line, const char *msg)
{
    sink_t *sink = ctx;

    assert_non_null(file);
    assert_true(line > 0);
    sink->lines++;
    sink->last = level;
    (void)snprintf(sink->text, sizeof(sink->text), "%s", msg);
}

static void test_log(void **state)
{
    sink_t sink = {.level = MDM_LOG_INFO};
    mdm_log_t log = {&sink, sink_on, sink_write};
    char longer[3000];
    mdm_err_t err;

    (void)state;
    mdm_log_msg(&log, MDM_LOG_ERROR, MDM_MSG_STORE_NEWER, "it is %s", "new\n");
    assert_string_equal(sink.text,
                        "MDM0105: it is new?; install the newer module or "
                        "restore the older database");
    assert_int_equal(sink.last, MDM_LOG_ERROR);
    mdm_log_msg(&log, MDM_LOG_NOTICE, MDM_MSG_ENROLLED, "x");
    assert_string_equal(sink.text, "MDM0202: x");
    (void)mdm_err_set(&err, MDM_EINVAL, MDM_MSG_ENROLLED, "own id");
    mdm_log_err(&log, MDM_LOG_ERROR, MDM_MSG_STORE_NEWER, &err);
    assert_string_equal(sink.text, "MDM0202: own id");
    err.id = 0;
    mdm_log_err(&log, MDM_LOG_ERROR, MDM_MSG_CHECKED_OUT, &err);
    assert_string_equal(sink.text, "MDM0203: own id");
    mdm_log_info(&log, "plain %d", 5);
    assert_string_equal(sink.text, "plain 5");
    assert_int_equal(sink.lines, 5);
    mdm_log_debug(&log, "not on");
    mdm_log_info(NULL, "nowhere");
    log.on = NULL;
    mdm_log_info(&log, "nobody asked");
    assert_int_equal(sink.lines, 5);
    log.on = sink_on;
    memset(longer, 'y', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    mdm_log_msg(&log, MDM_LOG_ERROR, MDM_MSG_STORE_NEWER, "%s", longer);
    assert_true(strlen(sink.text) < 1100);
    assert_string_equal(mdm_msg_remedy((mdm_msg_t)9999), "");
}

static void test_log_limit(void **state)
{
    mdm_log_limit_t limit = {0, 0};
    uint64_t held = 99;
    int i;

    (void)state;
    assert_true(mdm_log_limit_pass(&limit, 1000, 100, &held));
    assert_int_equal(held, 0);
    for (i = 0; i < 5; i++) {
        assert_false(mdm_log_limit_pass(&limit, 1099, 100, &held));
    }
    assert_true(mdm_log_limit_pass(&limit, 1100, 100, &held));
    assert_int_equal(held, 5);
    assert_true(mdm_log_limit_pass(&limit, 1200, 100, &held));
    assert_int_equal(held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_limits),
        cmocka_unit_test(test_buf_grow_consume),
        cmocka_unit_test(test_str_compare),
        cmocka_unit_test(test_str_split),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64_round_trip),
        cmocka_unit_test(test_base64_strict),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_durations_and_sizes),
        cmocka_unit_test(test_uuid_and_digest),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_time_format),
        cmocka_unit_test(test_time_parse),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_log_limit),
    };

    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
