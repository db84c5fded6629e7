/*
 * t_config_push.c - the directives about push certificates from files, the
 * pass phrase of their keys, and the proxy.
 */
#include "t_config_world.h"

#include "mdm_str.h"

#define TOPIC "com.apple.mgmt.External.1"
#define OTHER_TOPIC "com.apple.mgmt.External.2"

static void test_values(void **state)
{
    static const values_t cases[] = {
        {MDM_DIRECTIVE_PUSH_PROXY,
         "off|OFF|http://h|http://h/|HTTP://proxy.example.com:3128|"
         "http://[::1]:8080|http://[2001:db8::1]|http://u@h|http://u:@h|"
         "http://u:p@h:1|http://u:a:b@h|http://a%40b:%25%2f%3A@[::1]:1/|"
         "http://u:!$&'()*+,;=-._~@h",
         "|on|h|h:3128|http:|http:/h|http://|http:///|http://:3128|"
         "https://h|https://u:p@h:443|socks5://h|http://h:0|http://h:65536|"
         "http://h:|http://h:x|http://h/x|http://h?x|http://h#x|http://h//|"
         "http://[::1|http://[]|http://[::1]1|http://[h]|http://[::1/8]|"
         "http://::1|http://@h|http://:p@h|http://u@v@h|http://u:p@|"
         "http://u%3av:p@h|http://u%:p@h|http://u%0:p@h|http://u:%zz@h|"
         "http://u:%00@h|http://u:%0d%0a@h|http://u:%7f@h|http://u:p\"@h|"
         "http://u:p\xc3\xa4@h|http://u:p/q@h|http://u:p?q@h|http://u[:p@h|"
         "http://h_\xc3\xa4|http://h%41|http://h off"},
        {MDM_DIRECTIVE_PUSH_PING, "5s|4m|1h|3600s",
         "|4s|61m|0|off|x|-1s|5m 6m"},
        {MDM_DIRECTIVE_PUSH_CERTIFICATE_PASS_PHRASE, NULL,
         "|secret|file:|file:missing|exec:|exec:true|exec:./true|"
         "exec:/nonexistent/program|exec:/bin/false|exec:/bin/true|"
         "exec:/|FILE:x|file:a b|file:/dev/null"},
    };

    try_values(*state, cases, MDM_ARRAY_LEN(cases));
}

static void test_push_certificates(void **state)
{
    const mdm_directive_id_t id = MDM_DIRECTIVE_PUSH_CERTIFICATE;
    world_t *w = *state;
    testcert_t push = testcert_push(TOPIC);
    testcert_t other = testcert_push("com.apple.mgmt.External.2");
    testcert_t plain = testcert_push("org.example.app");
    testcert_t none = testcert_device("no topic", NULL);
    mdm_config_t *c;

    testcert_write(w->dir, "both", testcert_both(&push), NULL);
    testcert_write(w->dir, "other", testcert_both(&other), NULL);
    testcert_write(w->dir, "plain", testcert_both(&plain), NULL);
    testcert_write(w->dir, "none", testcert_both(&none), NULL);
    testcert_write(w->dir, "cert", testcert_pem(&push), NULL);
    testcert_write(w->dir, "key", testcert_key(&push, NULL), NULL);
    testcert_write(w->dir, "sealed", testcert_key(&push, "word"), NULL);
    testcert_write(w->dir, "wrong", testcert_key(&other, NULL), NULL);
    assert_int_equal(try_one(w, id, "both"), MDM_OK);
    assert_int_equal(try_one(w, id, "cert key"), MDM_OK);
    assert_int_equal(try_one(w, id, "cert"), MDM_ECONFIG); /* no key */
    assert_int_equal(try_one(w, id, "key"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "cert wrong"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "cert missing"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "plain"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "none"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "both both both"), MDM_ECONFIG);

    c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    assert_int_equal(set(w, c, id, "both"), MDM_OK);
    assert_int_equal(set(w, c, id, "other"), MDM_OK); /* once per topic */
    assert_int_equal(set(w, c, id, "cert key"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, TOPIC));
    assert_int_equal(c->npush_certs, 2);
    assert_true(mdm_str_is(c->push_certs[0]->topic, TOPIC));
    mdm_config_free(&c);
    testcert_free(&push);
    testcert_free(&other);
    testcert_free(&plain);
    testcert_free(&none);
}

/* What goes into the request; nothing shows the password. */
static void test_push_proxy(void **state)
{
    static const struct {
        const char *url;
        const char *host;
        unsigned port;
        const char *authorization;
        const char *shown;
    } cases[] = {
        {"http://h", "h", 80, NULL, "http://h:80"},
        {"http://h:3128/", "h", 3128, NULL, "http://h:3128"},
        {"http://[::1]:8080", "::1", 8080, NULL, "http://[::1]:8080"},
        /* "Aladdin:open sesame", of RFC 7617 */
        {"http://Aladdin:open%20sesame@h", "h", 80,
         "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "http://h:80"},
        {"http://u@h", "h", 80, "Basic dTo=", "http://h:80"},
        {"http://u:@h", "h", 80, "Basic dTo=", "http://h:80"},
        {"http://u:a:b%40%C3%a4@h:1", "h", 1, "Basic dTphOmJAw6Q=",
         "http://h:1"},
        {"off", NULL, 0, NULL, "off"},
    };
    world_t *w = *state;
    char text[200];
    mdm_config_t *c;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
        assert_int_equal(set(w, c, MDM_DIRECTIVE_PUSH_PROXY, cases[i].url),
                         MDM_OK);
        assert_true(mdm_config_show(c, MDM_DIRECTIVE_PUSH_PROXY, text,
                                    sizeof(text)));
        assert_string_equal(text, cases[i].shown);
        if (cases[i].host == NULL) {
            assert_null(c->push_proxy);
        } else {
            assert_string_equal(c->push_proxy->host, cases[i].host);
            assert_int_equal(c->push_proxy->port, cases[i].port);
            if (cases[i].authorization == NULL) {
                assert_null(c->push_proxy->authorization);
            } else {
                assert_string_equal(c->push_proxy->authorization,
                                    cases[i].authorization);
            }
        }
        mdm_config_free(&c);
    }
}

static void test_push_proxy_faults(void **state)
{
    static const char *const wrong[] = {
        "https://user:Passw0rd@h",   "http://user:Passw0rd@h:x",
        "http://user:Passw0rd@h/x",  "http://us\"er:Passw0rd@h",
        "http://user:Passw0rd%00@h", "http://user:Passw0rd@h@h",
        "ftp://user:Passw0rd@h",     "http://user:Passw0rd@h off"};
    world_t *w = *state;
    char url[1200];
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(wrong); i++) {
        assert_int_equal(try_one(w, MDM_DIRECTIVE_PUSH_PROXY, wrong[i]),
                         MDM_ECONFIG);
        assert_null(strstr(w->err.text, "Passw0rd"));
        assert_true(i > 0 || strstr(w->err.text, "(https://) is not") != NULL);
    }
    memset(url, 'p', sizeof(url));
    memcpy(url, "http://u:", 9);
    memcpy(url + sizeof(url) - 3, "@h", 3);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_PUSH_PROXY, url), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "too long"));
}

/* ---- the pass phrase ---------------------------------------------------- */

#define CERT MDM_DIRECTIVE_PUSH_CERTIFICATE
#define PHRASE MDM_DIRECTIVE_PUSH_CERTIFICATE_PASS_PHRASE

typedef struct step {
    mdm_directive_id_t id;
    const char *args;
} step_t;

/* Files with plain and encrypted keys, pass phrases and programs. */
static void make_files(world_t *w)
{
    static const struct {
        const char *name;
        const char *text;
        mode_t mode;
    } files[] = {
        {"word", "word\n", 0600},
        {"word_crlf", "word\r\nmore\r\n", 0600},
        {"word_bare", "word", 0600},
        {"wrong", "Word\n", 0600},
        {"blank", "\nword\n", 0600},
        {"say_word", "#!/bin/sh\necho word\necho more\n", 0700},
        {"say_wrong", "#!/bin/sh\necho Word\n", 0700},
        {"say_blank", "#!/bin/sh\necho\n", 0700},
        {"say_nothing", "#!/bin/sh\n", 0700},
        {"fails", "#!/bin/sh\necho word\nexit 3\n", 0700},
        {"floods", "#!/bin/sh\nwhile echo word; do :; done\n", 0700},
        {"no_program", "#!/bin/sh\necho word\n", 0600},
    };
    testcert_t push = testcert_push(TOPIC);
    testcert_t other = testcert_push(OTHER_TOPIC);
    testcert_t plain = testcert_push("com.apple.mgmt.External.3");
    char path[100];
    size_t i;

    testcert_write(w->dir, "cert", testcert_pem(&push), NULL);
    testcert_write(w->dir, "sealed", testcert_key(&push, "word"), NULL);
    testcert_write(w->dir, "other", testcert_pem(&other), NULL);
    testcert_write(w->dir, "other_sealed", testcert_key(&other, "word"),
                   NULL);
    testcert_write(w->dir, "other_apart", testcert_key(&other, "apart"),
                   NULL);
    testcert_write(w->dir, "plain", testcert_both(&plain), NULL);
    for (i = 0; i < MDM_ARRAY_LEN(files); i++) {
        testcert_write(w->dir, files[i].name, NULL, files[i].text);
        (void)snprintf(path, sizeof(path), "%s/%s", w->dir, files[i].name);
        assert_int_equal(chmod(path, files[i].mode), 0);
    }
    testcert_free(&push);
    testcert_free(&other);
    testcert_free(&plain);
}

/* Sets them in turn until one fails; returns its number, or 4 for the check
 * at the end, or 5.  "exec:x" becomes a path in the test's directory. */
static int play(world_t *w, mdm_config_t *c, const step_t *steps)
{
    mdm_log_t log = {w, log_on, log_write};
    char args[200];
    int i;

    for (i = 0; i < 4 && steps[i].args != NULL; i++) {
        if (strncmp(steps[i].args, "exec:", 5) == 0) {
            (void)snprintf(args, sizeof(args), "exec:%s/%s", w->dir,
                           steps[i].args + 5);
        } else {
            (void)snprintf(args, sizeof(args), "%s", steps[i].args);
        }
        if (set(w, c, steps[i].id, args) != MDM_OK) {
            return i;
        }
    }
    return mdm_config_check(c, &log, &w->err) == MDM_OK ? 5 : 4;
}

static void test_pass_phrase(void **state)
{
    static const step_t good[][5] = {
        {{CERT, "cert sealed"}, {PHRASE, "file:word"}},
        {{PHRASE, "file:word"}, {CERT, "cert sealed"}},
        {{CERT, "cert sealed"}, {PHRASE, "file:word_crlf"}},
        {{CERT, "cert sealed"}, {PHRASE, "file:word_bare"}},
        {{CERT, "cert sealed"}, {PHRASE, "exec:say_word"}},
        {{PHRASE, "exec:say_word"}, {CERT, "cert sealed"}},
        {{CERT, "cert sealed"},
         {PHRASE, "file:word"},
         {CERT, "other other_sealed"},
         {CERT, "plain"}},
        {{CERT, "cert sealed"},
         {CERT, "plain"},
         {CERT, "other other_sealed"},
         {PHRASE, "exec:say_word"}},
        /* Nothing to open with it. */
        {{CERT, "plain"}, {PHRASE, "file:word"}},
        {{PHRASE, "file:word"}},
    };
    world_t *w = *state;
    mdm_config_t *c;
    size_t i;
    size_t j;
    size_t certs;

    make_files(w);
    for (i = 0; i < MDM_ARRAY_LEN(good); i++) {
        c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
        if (play(w, c, good[i]) != 5) {
            fail_msg("case %zu: %s", i, w->err.text);
        }
        for (certs = 0, j = 0; j < 4; j++) {
            certs += good[i][j].args != NULL && good[i][j].id == CERT;
        }
        assert_int_equal(c->npush_certs, certs);
        for (j = 0; j < certs; j++) {
            assert_non_null(strstr(c->push_certs[j]->key_pem.s,
                                   "BEGIN PRIVATE KEY"));
        }
        mdm_config_free(&c);
    }
}

/* Each fault at the line of one of the two directives, in words of its own. */
static void test_pass_phrase_faults(void **state)
{
    static const struct {
        step_t steps[5];
        int at; /* the step that fails; 4: the check at the end */
        const char *part;
    } cases[] = {
        {{{CERT, "cert sealed"}}, 4,
         "MDMPushCertificateFile (mdm_push_certificate) cert: the private "
         "key in sealed is encrypted, and no MDMPushCertificatePassPhrase "
         "(mdm_push_certificate_pass_phrase) is given; name its pass phrase"},
        {{{CERT, "cert sealed"}, {CERT, "plain"}}, 4, "cert: the private"},
        {{{CERT, "cert sealed"}, {PHRASE, "file:wrong"}}, 1,
         "sealed: the private key does not open with the pass phrase of the "
         "file wrong"},
        {{{PHRASE, "file:wrong"}, {CERT, "cert sealed"}}, 1,
         "sealed: the private key does not open with the pass phrase of the "
         "file wrong"},
        {{{CERT, "cert sealed"}, {PHRASE, "exec:say_wrong"}}, 1,
         "say_wrong prints"},
        {{{PHRASE, "file:word"}, {CERT, "other other_apart"}}, 1,
         "other_apart: the private key does not open"},
        {{{CERT, "cert sealed"}, {PHRASE, "file:blank"}}, 1,
         "blank: its first line is empty"},
        {{{CERT, "cert sealed"}, {PHRASE, "exec:say_blank"}}, 1,
         "say_blank: its first line is empty"},
        {{{CERT, "cert sealed"}, {PHRASE, "exec:say_nothing"}}, 1,
         "say_nothing: it printed nothing, so there is no pass phrase"},
        {{{PHRASE, "exec:fails"}}, 0, "fails: it ended with status 3"},
        {{{PHRASE, "exec:floods"}}, 0,
         "floods: it prints more than 4096 bytes"},
        {{{PHRASE, "exec:no_program"}}, 0,
         "no_program: it cannot be run: Permission denied"},
        {{{PHRASE, "exec:none"}}, 0,
         "none: it cannot be run: No such file or directory"},
        {{{PHRASE, "file:word"}, {PHRASE, "file:word"}}, 1, "twice"},
        {{{CERT, "cert other_sealed"}, {PHRASE, "file:word"}}, 1,
         "cert: certificate and private key do not belong together"},
        {{{CERT, "sealed"}, {PHRASE, "file:word"}}, 1,
         "sealed: there is no certificate in it"},
        /* The same topic twice, opened late. */
        {{{CERT, "cert sealed"}, {CERT, "cert sealed"},
          {PHRASE, "file:word"}}, 2,
         "cert: a certificate of the topic " TOPIC " is named already"},
    };
    world_t *w = *state;
    mdm_config_t *c;
    size_t i;
    int at;

    make_files(w);
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
        at = play(w, c, cases[i].steps);
        if (at != cases[i].at ||
            strstr(w->err.text, cases[i].part) == NULL) {
            fail_msg("case %zu: step %d: %s", i, at, w->err.text);
        }
        mdm_config_free(&c);
    }
    /* What somebody took for the pass phrase's place is not repeated. */
    assert_int_equal(try_one(w, PHRASE, "Passw0rd"), MDM_ECONFIG);
    assert_null(strstr(w->err.text, "Passw0rd"));
}

static void test_pass_phrase_length(void **state)
{
    world_t *w = *state;
    char text[MDM_PASSPHRASE_MAX + 3];
    testcert_t push = testcert_push(TOPIC);
    mdm_config_t *c;

    memset(text, 'w', sizeof(text));
    text[MDM_PASSPHRASE_MAX] = '\0';
    testcert_write(w->dir, "cert", testcert_pem(&push), NULL);
    testcert_write(w->dir, "sealed", testcert_key(&push, text), NULL);
    testcert_write(w->dir, "long", NULL, text);
    c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    assert_int_equal(set(w, c, CERT, "cert sealed"), MDM_OK);
    assert_int_equal(set(w, c, PHRASE, "file:long"), MDM_OK);
    assert_int_equal(c->npush_certs, 1);
    mdm_config_free(&c);
    text[MDM_PASSPHRASE_MAX] = 'w';
    text[MDM_PASSPHRASE_MAX + 1] = '\0';
    testcert_write(w->dir, "longer", NULL, text);
    assert_int_equal(try_one(w, PHRASE, "file:longer"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "too long"));
    testcert_free(&push);
}

/* More than can be used, encrypted: refused, not forgotten. */
static void test_many_locked(void **state)
{
    world_t *w = *state;
    mdm_config_t *c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    int i;

    make_files(w);
    for (i = 0; i < MDM_PUSH_CERTS_MAX; i++) {
        assert_int_equal(set(w, c, CERT, "cert sealed"), MDM_OK);
    }
    assert_int_equal(set(w, c, CERT, "cert sealed"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "more than 16"));
    mdm_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values),
        TEST(test_push_certificates),
        TEST(test_push_proxy),
        TEST(test_push_proxy_faults),
        TEST(test_pass_phrase),
        TEST(test_pass_phrase_faults),
        TEST(test_pass_phrase_length),
        TEST(test_many_locked),
    };

    return cmocka_run_group_tests_name("config_push", tests, NULL, NULL);
}
