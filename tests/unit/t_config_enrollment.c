/*
 * t_config_enrollment.c - directives about the ways into management: values,
 * files, inheritance, and what fits together at an endpoint.
 */
#include "t_config_world.h"

static void test_values(void **state)
{
    static const values_t cases[] = {
        {MDM_DIRECTIVE_ENROLLMENT_FLOW,
         "download|device|ota|download device|ota download device|byod|adde|"
         "login",
         "|x|Device|device device|download byod|byod adde|login download|"
         "device login"},
        {MDM_DIRECTIVE_ENROLLMENT_SIGNATURE, "require|accept-unverified",
         "|on|off|require require"},
        {MDM_DIRECTIVE_ENROLLMENT_MINIMUM_OS,
         "iPhone=17|iphone=26.1|Mac=14.5:23F79|iPhone=18 iPad=18 Mac=15.0.1",
         "|iPhone|iPhone=|iPhone=x|iPhone=17.|=17|Phone=17|Mac=14:|"
         "Mac=14 mac=15|Mac=1.2.3.4.5"},
        {MDM_DIRECTIVE_ENROLLMENT_LOGIN,
         "/login|/login?x=1|https://mdm.example.com/login",
         "|login|http://h/|https:|//\"x|/a\\b|/l /m"},
        {MDM_DIRECTIVE_ENROLLMENT_USER,
         "domain=example.com|variable=OIDC_CLAIM_email|"
         "variable=v domain=example.com|domain=d variable=v",
         "|x|domain=|variable=|domain=@x|domain=a domain=b|"
         "variable=a variable=b"},
        {MDM_DIRECTIVE_ENROLLMENT_TOKEN_LIFE, "1m|1d|15m 180d|1h off|1h 1h",
         "|59s|25h|off|1h 59m|1h 3651d|1h x|1h 2h 3h"},
        {MDM_DIRECTIVE_SERVICE_DISCOVERY,
         "mdm-byod /byod|mdm-adde https://h/adde Mac|"
         "mdm-byod /b iPhone iPad iPod Mac AppleTV Watch RealityDevice",
         "|mdm-byod|mdm /b|mdm-byod b|mdm-byod http://h/|mdm-byod /b x|"
         "mdm-byod /b Mac Mac Mac Mac Mac Mac Mac Mac"},
    };

    try_values(*state, cases, MDM_ARRAY_LEN(cases));
}

static void test_defaults(void **state)
{
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/e", NULL);

    assert_int_equal(l->flows, MDM_FLOW_DOWNLOAD | MDM_FLOW_DEVICE);
    assert_false(l->accept_unverified);
    assert_null(l->serials);
    assert_null(l->login_url);
    assert_null(mdm_config_user_variable(l));
    assert_true(l->token_first_us == 3600 * MDM_SEC);
    assert_true(l->token_life_us == 0);
    assert_null(l->discovery);
    assert_int_equal(set(*state, l, MDM_DIRECTIVE_ENDPOINT, "enroll"), MDM_OK);
    assert_int_equal(mdm_config_body_max(l), 64 * 1024);
    assert_string_equal(mdm_config_flow_name(MDM_FLOW_LOGIN), "login");
    assert_null(mdm_config_flow_name((mdm_flow_t)64));
    mdm_config_free(&l);
}

static void test_read(void **state)
{
    world_t *w = *state;
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/e", w->dir);

    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENROLLMENT_MINIMUM_OS,
                         "iphone=26.1 Mac=15.2:24C101"),
                     MDM_OK);
    assert_int_equal(l->nminimum_os, 2);
    assert_string_equal(l->minimum_os[0].family, "iPhone");
    assert_true(mdm_str_is(l->minimum_os[0].version, "26.1"));
    assert_null(l->minimum_os[0].build.s);
    assert_true(mdm_str_is(l->minimum_os[1].build, "24C101"));
    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENROLLMENT_USER,
                         "variable=v domain=d"),
                     MDM_OK);
    assert_string_equal(mdm_config_user_variable(l), "v");
    assert_string_equal(l->user_domain, "d");
    assert_int_equal(set(w, l, MDM_DIRECTIVE_SERVICE_DISCOVERY,
                         "mdm-adde /a Mac"),
                     MDM_OK);
    assert_int_equal(set(w, l, MDM_DIRECTIVE_SERVICE_DISCOVERY,
                         "mdm-byod /b"),
                     MDM_OK);
    assert_string_equal(l->discovery->version, "mdm-adde");
    assert_string_equal(l->discovery->families[0], "Mac");
    assert_null(l->discovery->families[1]);
    assert_string_equal(l->discovery->next->url, "/b");
    assert_null(l->discovery->next->next);
    mdm_config_free(&l);
}

static void test_serials(void **state)
{
    world_t *w = *state;
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/e", w->dir);

    testcert_write(w->dir, "serials", NULL,
                   "# ours\nZX0TESTQ7L\r\n\n  ABC123  \nABC12\n# end");
    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENROLLMENT_SERIAL, "serials"),
                     MDM_OK);
    assert_int_equal(l->serials->n, 3);
    assert_true(mdm_config_has_serial(l->serials, MDM_STR("ABC123")));
    assert_true(mdm_config_has_serial(l->serials, MDM_STR("ABC12")));
    assert_true(mdm_config_has_serial(l->serials, MDM_STR("ZX0TESTQ7L")));
    assert_false(mdm_config_has_serial(l->serials, MDM_STR("ABC1")));
    assert_false(mdm_config_has_serial(l->serials, MDM_STR("ABC1234")));
    assert_false(mdm_config_has_serial(l->serials, MDM_STR("# ours")));
    assert_false(mdm_config_has_serial(l->serials, MDM_STR("")));
    assert_false(mdm_config_has_serial(l->serials, MDM_STR_NONE));
    mdm_config_free(&l);
    testcert_write(w->dir, "bad", NULL, "ABC\nA B\n");
    assert_int_equal(try_one(w, MDM_DIRECTIVE_ENROLLMENT_SERIAL, "bad"),
                     MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "line 2"));
    assert_int_equal(try_one(w, MDM_DIRECTIVE_ENROLLMENT_SERIAL, "missing"),
                     MDM_ECONFIG);
    testcert_write(w->dir, "empty", NULL, "");
    assert_int_equal(try_one(w, MDM_DIRECTIVE_ENROLLMENT_SERIAL, "empty"),
                     MDM_OK);
}

static void test_authorities(void **state)
{
    world_t *w = *state;
    testcert_t ca = testcert_ca("maker");
    testcert_t leaf = testcert_device("no authority", &ca);
    mdm_config_t *s = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *inner = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    char *pem = testcert_pem(&ca);
    const mdm_directive_id_t id = MDM_DIRECTIVE_ENROLLMENT_CA_CERTIFICATE;

    testcert_write(w->dir, "ca", NULL, pem);
    free(pem);
    pem = testcert_pem(&leaf);
    testcert_write(w->dir, "leaf", NULL, pem);
    free(pem);
    assert_int_equal(set(w, s, id, "ca"), MDM_OK);
    assert_non_null(s->origin_trust);
    mdm_config_merge(inner, s, inner);
    assert_ptr_equal(inner->origin_trust, s->origin_trust);
    assert_int_equal(try_one(w, id, "leaf"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "missing"), MDM_ECONFIG);
    mdm_config_free(&inner);
    mdm_config_free(&s);
    testcert_free(&leaf);
    testcert_free(&ca);
}

/* The check of an endpoint whose location has these directives. */
static mdm_rc check(world_t *w, const char *role,
                    const char *const lines[][2], size_t n)
{
    static const struct {
        const char *name;
        mdm_directive_id_t id;
    } known[] = {{"flow", MDM_DIRECTIVE_ENROLLMENT_FLOW},
                 {"login", MDM_DIRECTIVE_ENROLLMENT_LOGIN},
                 {"signature", MDM_DIRECTIVE_ENROLLMENT_SIGNATURE},
                 {"serials", MDM_DIRECTIVE_ENROLLMENT_SERIAL},
                 {"discovery", MDM_DIRECTIVE_SERVICE_DISCOVERY}};
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    mdm_config_t *s = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/e", w->dir);
    mdm_log_t log = {w, log_on, log_write};
    mdm_rc rc;
    size_t i;
    size_t j;

    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENDPOINT, role), MDM_OK);
    for (i = 0; i < n; i++) {
        for (j = 0; strcmp(known[j].name, lines[i][0]) != 0; j++) {
        }
        assert_int_equal(set(w, l, known[j].id, lines[i][1]), MDM_OK);
    }
    w->warnings = 0;
    mdm_err_clear(&w->err);
    rc = mdm_config_check_endpoint(m, s, l, &log, &w->err);
    mdm_config_free(&l);
    mdm_config_free(&s);
    mdm_config_free(&m);
    return rc;
}

static void test_endpoints(void **state)
{
    static const char *const byod[][2] = {{"flow", "byod"}};
    static const char *const whole[][2] = {{"flow", "byod"},
                                           {"login", "/login"}};
    static const char *const device[][2] = {{"flow", "device"}};
    static const char *const claims[][2] = {
        {"signature", "accept-unverified"}, {"serials", "serials"}};
    static const char *const discovery[][2] = {{"discovery", "mdm-byod /b"}};
    world_t *w = *state;

    testcert_write(w->dir, "serials", NULL, "ABC\n");
    assert_int_equal(check(w, "enroll", NULL, 0), MDM_OK);
    assert_int_equal(w->warnings, 0);
    assert_int_equal(check(w, "enroll", byod, 1), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "MDMEnrollmentLogin"));
    assert_int_equal(check(w, "enroll", whole, 2), MDM_OK);
    assert_int_equal(w->warnings, 0);
    assert_int_equal(check(w, "enroll", device, 1), MDM_OK);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "MDMEnrollmentCACertificateFile"));
    assert_int_equal(check(w, "enroll", claims, 2), MDM_OK);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "MDMEnrollmentSerialFile"));
    assert_int_equal(check(w, "wellknown", NULL, 0), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "MDMServiceDiscovery"));
    assert_int_equal(check(w, "wellknown", discovery, 1), MDM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values),  TEST(test_defaults),    TEST(test_read),
        TEST(test_serials), TEST(test_authorities), TEST(test_endpoints)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
