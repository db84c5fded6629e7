/*
 * t_host.c - what the front ends use beside the server object: warnings of
 * host limits, the state directory, kept log lines, request targets and
 * client certificates as PEM.
 */
#include "testcert.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdm_config.h"

typedef struct world {
    char dir[32];
    mdm_err_t err;
    mdm_level_t level; /* up to this one */
    unsigned lines;
    mdm_level_t last;
    int line;
    char text[1100];
} world_t;

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_host.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static bool log_on(void *ctx, mdm_level_t level)
{
    return level <= ((world_t *)ctx)->level;
}

static void log_write(void *ctx, mdm_level_t level, const char *file,
                      int line, const char *msg)
{
    world_t *w = ctx;

    assert_non_null(file);
    w->lines++;
    w->last = level;
    w->line = line;
    (void)snprintf(w->text, sizeof(w->text), "%s", msg);
}

/* ---- host limits ------------------------------------------------------- */

/* A host that stops nobody. */
static const mdm_host_limits_t GOOD = {
    .body_max = 32 << 20,
    .header_max = 8190,
    .tls = true,
    .asks = MDM_HOST_ASKS_FIRST,
    .body_name = "BodyLimit",
    .header_name = "HeaderLimit",
    .tls_line = "Tls on",
    .asks_line = "Ask all",
};

/* Number of warnings for a location of this role; NULL: the default. */
static unsigned check(world_t *w, const char *role, const char *proofs,
                      const char *size, const mdm_host_limits_t *limits)
{
    mdm_config_t *c = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", w->dir);
    mdm_log_t log = {w, log_on, log_write};
    const char *argv[4];
    char text[100];
    char *save = text;
    int argc = 0;

    assert_non_null(c);
    assert_int_equal(mdm_config_set(c, MDM_DIRECTIVE_ENDPOINT, 1, &role,
                                    &w->err), MDM_OK);
    if (proofs != NULL) {
        (void)snprintf(text, sizeof(text), "%s", proofs);
        while ((argv[argc] = strsep(&save, " ")) != NULL) {
            argc++;
        }
        assert_int_equal(mdm_config_set(c, MDM_DIRECTIVE_DEVICE_IDENTITY,
                                        argc, argv, &w->err), MDM_OK);
    }
    if (size != NULL) {
        assert_int_equal(mdm_config_set(c, MDM_DIRECTIVE_PLIST_LIMITS, 1,
                                        &size, &w->err), MDM_OK);
    }
    w->lines = 0;
    w->level = MDM_LOG_WARNING;
    w->text[0] = '\0';
    mdm_config_check_host(c, limits, &log);
    mdm_config_free(&c);
    assert_true(w->lines == 0 || w->last == MDM_LOG_WARNING);
    assert_true(w->lines == 0 || strstr(w->text, "MDM0003: ") == w->text);
    return w->lines;
}

static void test_sizes(void **state)
{
    static const char *const roles[] = {"mdm", "server", "checkin"};
    world_t *w = *state;
    mdm_host_limits_t limits = GOOD;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(roles); i++) {
        assert_int_equal(check(w, roles[i], NULL, NULL, &GOOD), 0);
    }
    limits.body_max = (32 << 20) - 1;
    for (i = 0; i < MDM_ARRAY_LEN(roles); i++) {
        assert_int_equal(check(w, roles[i], NULL, NULL, &limits), 1);
        assert_non_null(strstr(w->text, "BodyLimit of 33554431 bytes"));
        assert_non_null(strstr(w->text, "set it to 33554432 or more"));
    }
    assert_int_equal(check(w, "api", NULL, NULL, &limits), 0);
    assert_int_equal(check(w, "off", NULL, NULL, &limits), 0);
    /* What we refuse anyway the host may refuse, too. */
    assert_int_equal(check(w, "mdm", NULL, "size=31m", &limits), 0);
    assert_int_equal(check(w, "mdm", NULL, "size=33m", &GOOD), 1);
    assert_non_null(strstr(w->text, "set it to 34603008 or more"));
    limits.body_max = 0;
    assert_int_equal(check(w, "mdm", NULL, "size=1g", &limits), 0);
    limits = GOOD;
    limits.header_max = 8189;
    assert_int_equal(check(w, "mdm", NULL, NULL, &limits), 1);
    assert_non_null(strstr(w->text, "HeaderLimit of 8189 bytes"));
    assert_non_null(strstr(w->text, "Mdm-Signature"));
    assert_int_equal(check(w, "mdm", "certificate", NULL, &limits), 0);
    assert_int_equal(check(w, "mdm", "certificate header=X-Cert", NULL,
                           &limits), 1);
    assert_non_null(strstr(w->text, "X-Cert"));
    assert_int_equal(check(w, "api", NULL, NULL, &limits), 0);
    assert_int_equal(check(w, "enroll", NULL, NULL, &limits), 1);
    assert_non_null(strstr(w->text, "x-apple-aspen-deviceinfo"));
    assert_int_equal(check(w, "enroll", NULL, NULL, &GOOD), 0);
    limits.body_max = 1;
    assert_int_equal(check(w, "wellknown", NULL, NULL, &limits), 0);
    assert_int_equal(check(w, "mdm", NULL, NULL, &limits), 2);
}

static void test_certificates(void **state)
{
    world_t *w = *state;
    mdm_host_limits_t never = GOOD;
    mdm_host_limits_t later = GOOD;
    mdm_host_limits_t plain = GOOD;

    never.asks = MDM_HOST_ASKS_NEVER;
    later.asks = MDM_HOST_ASKS_LATER;
    plain.tls = false;
    assert_int_equal(check(w, "mdm", "certificate", NULL, &GOOD), 0);
    assert_int_equal(check(w, "mdm", "certificate", NULL, &never), 1);
    assert_non_null(strstr(w->text, "asks nobody"));
    assert_non_null(strstr(w->text, "\"Ask all\""));
    assert_non_null(strstr(w->text, "MDMDeviceIdentity"));
    assert_int_equal(check(w, "mdm", "certificate", NULL, &plain), 1);
    assert_non_null(strstr(w->text, "no TLS"));
    assert_non_null(strstr(w->text, "\"Tls on\" and \"Ask all\""));
    plain.asks = MDM_HOST_ASKS_NEVER;
    assert_int_equal(check(w, "mdm", "certificate", NULL, &plain), 1);
    /* Another proof will do. */
    assert_int_equal(check(w, "mdm", NULL, NULL, &never), 0);
    assert_int_equal(check(w, "mdm", "signature", NULL, &never), 0);
    assert_int_equal(check(w, "mdm", "certificate header=X-Cert", NULL,
                           &plain), 0);
    /* Asking again breaks the request, whatever the proof is. */
    assert_int_equal(check(w, "mdm", "signature", NULL, &later), 1);
    assert_non_null(strstr(w->text, "\"Ask all\" for the whole site"));
    assert_int_equal(check(w, "mdm", "certificate", NULL, &later), 1);
    plain.asks = MDM_HOST_ASKS_LATER; /* which nobody does without TLS */
    assert_int_equal(check(w, "mdm", "signature", NULL, &plain), 0);
    assert_int_equal(check(w, "api", NULL, NULL, &later), 0);
}

/* ---- state directory --------------------------------------------------- */

static mdm_rc make(world_t *w, const char *name)
{
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    mdm_rc rc;

    assert_non_null(m);
    mdm_err_clear(&w->err);
    assert_int_equal(mdm_config_set(m, MDM_DIRECTIVE_STATE_DIR, 1, &name,
                                    &w->err), MDM_OK);
    rc = mdm_config_make_state_dir(m, getuid(), getgid(), &w->err);
    mdm_config_free(&m);
    return rc;
}

static void test_state_dir(void **state)
{
    world_t *w = *state;
    struct stat st;
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/state", w->dir);
    assert_int_equal(make(w, "state"), MDM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_uid, getuid());
    /* One that exists is left as it is. */
    assert_int_equal(chmod(path, 0750), 0);
    assert_int_equal(make(w, "state"), MDM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(make(w, "no/such/place"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "MDMStateDir (mdm_state_dir)"));
    assert_non_null(strstr(w->err.text, "/no/such/place"));
    assert_non_null(strstr(w->err.text, strerror(ENOENT)));
}

/* ---- kept lines -------------------------------------------------------- */

static void test_log_lines(void **state)
{
    world_t *w = *state;
    mdm_log_t to = {w, log_on, log_write};
    mdm_log_lines_t lines;
    mdm_log_t log;
    char longer[900];
    int i;

    memset(&lines, 0, sizeof(lines));
    mdm_log_lines_flush(&lines, NULL);
    w->level = MDM_LOG_INFO;
    log = mdm_log_lines_init(&lines, &to);
    mdm_log_debug(&log, "not on");
    mdm_log_lines_flush(&lines, &to);
    assert_int_equal(w->lines, 0);
    mdm_log_msg_at(&log, MDM_LOG_NOTICE, MDM_MSG_ENROLLED, "f.c", 7, "one");
    mdm_log_at(&log, MDM_LOG_INFO, "f.c", 8, "%s", "two");
    w->level = MDM_LOG_DEBUG; /* as it was when the thread began */
    mdm_log_debug(&log, "not on");
    assert_int_equal(w->lines, 0);
    mdm_log_lines_flush(&lines, &to);
    assert_int_equal(w->lines, 2);
    assert_string_equal(w->text, "two");
    assert_int_equal(w->last, MDM_LOG_INFO);
    assert_int_equal(w->line, 8);
    /* More than there is room for, by number and by length. */
    for (i = 0; i < MDM_LOG_LINES_MAX + 3; i++) {
        mdm_log_info(&log, "%d", i);
    }
    mdm_log_lines_flush(&lines, &to);
    assert_int_equal(w->lines, 2 + MDM_LOG_LINES_MAX + 1);
    assert_string_equal(w->text,
                        "3 more lines of this request found no room");
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    w->lines = 0;
    for (i = 0; i < 20; i++) {
        mdm_log_info(&log, "%s", longer);
    }
    mdm_log_lines_flush(&lines, &to);
    assert_int_equal(w->lines, MDM_LOG_LINES_BYTES / sizeof(longer) + 1);
    assert_string_equal(w->text,
                        "2 more lines of this request found no room");
    /* Nobody wants them: nothing is written, nothing is lost. */
    mdm_log_info(&log, "three");
    w->lines = 0;
    mdm_log_lines_flush(&lines, NULL);
    mdm_log_lines_flush(&lines, &to);
    assert_int_equal(w->lines, 0);
}

/* ---- requests ---------------------------------------------------------- */

static void test_target(void **state)
{
    static const struct {
        const char *uri;
        const char *target;
    } cases[] = {
        {"/mdm?a=b", "/mdm?a=b"},
        {"//mdm", "//mdm"},
        {"https://mdm.example.com/a%2Fb?c#d", "/a%2Fb?c#d"},
        {"http://mdm.example.com", "/"},
        {"http://mdm.example.com?x=/y", "/"},
        {"*", "/"},
        {"", "/"},
        {NULL, "/"},
    };
    mdm_str_t got;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        got = mdm_request_target(cases[i].uri);
        assert_int_equal(got.n, strlen(cases[i].target));
        assert_memory_equal(got.s, cases[i].target, got.n);
    }
}

static void test_pem(void **state)
{
    static const char *const bad[] = {
        "", "AQID", "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nAQID\n",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nA?ID\n-----END CERTIFICATE-----",
        "-----BEGIN X509 CRL-----\nAQID\n-----END X509 CRL-----\n",
    };
    char text[] = "x -----BEGIN CERTIFICATE-----\r\nAQ\r\nID\r\n"
                  "-----END CERTIFICATE-----\r\n"
                  "-----BEGIN CERTIFICATE-----\nBAUG\n"
                  "-----END CERTIFICATE-----\n";
    char copy[100];
    mdm_str_t der = mdm_request_pem(text);
    size_t i;

    (void)state;
    assert_int_equal(der.n, 3);
    assert_memory_equal(der.s, "\1\2\3", 3);
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        (void)snprintf(copy, sizeof(copy), "%s", bad[i]);
        assert_null(mdm_request_pem(copy).s);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sizes),     TEST(test_certificates),
        TEST(test_state_dir), TEST(test_log_lines),
        TEST(test_target),    TEST(test_pem),
    };

    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
