/*
 * t_config.c - every directive with good and bad values, defaults, scopes,
 * inheritance, the files that directives name, and the checks at the end.
 */
#include "t_config_world.h"

#include "mdm_auth.h"
#include "mdm_str.h"

#define TOPIC "com.apple.mgmt.External.1"

static void test_values(void **state)
{
    static const values_t cases[] = {
        {MDM_DIRECTIVE_ENDPOINT, "mdm|server|checkin|api|status|enroll|off",
         "|MDM|x|mdm api"},
        {MDM_DIRECTIVE_STORE, "sqlite:x.db|sqlite:/tmp/x.db",
         "|x.db|sqlite:|mysql:x|sqlite:a b"},
        {MDM_DIRECTIVE_STATE_DIR, "/var/lib/mdm|mdm", "|a b"},
        {MDM_DIRECTIVE_STORE_CONNECTIONS, "1|4|256", "|0|257|-1|x|4.5|1 2"},
        {MDM_DIRECTIVE_STORE_TIMEOUT, "100ms|10|10s|5m", "|99ms|301s|x|-1s"},
        {MDM_DIRECTIVE_PLIST_LIMITS,
         "size=1k|size=1g|depth=4|depth=128|items=1|size=8m depth=32 "
         "items=1000",
         "|size=1023|size=2g|depth=3|depth=129|items=0|items=100000001|"
         "size|size=|=5|sizes=8k|size=8k size=9k|depth=8 depth=8|"
         "size=8k depth=8 items=8 items=9"},
        {MDM_DIRECTIVE_DEVICE_IDENTITY,
         "certificate|signature|certificate signature|header=Client-Cert|"
         "signature header=X_1 certificate",
         "|x|header|header=|header=a:b|Certificate|certificate=x|"
         "signature signature|header=a header=b|certificate x"},
        {MDM_DIRECTIVE_TRUSTED_PROXY,
         "127.0.0.1|10.0.0.0/8 2001:db8::/32|::1|0.0.0.0/0|"
         "::ffff:10.0.0.0/104",
         "|x|10.0.0.1/8|10.0.0.0/33|10.0.0.0/8 x|2001:db8::1/32|"
         "127.0.0.1,::1|localhost|10.0.0.0/8 "},
        {MDM_DIRECTIVE_PUSH, "on|off|On|OFF", "|yes|1|on off"},
        {MDM_DIRECTIVE_PUSH_SERVER,
         "h|api.push.apple.com|h:2197|[::1]:2197|[::1]",
         "|h:|h:0|h:65536|h:x|:443|/h|[::1]:|[]:1|[::1]2197|"
         "[::1|[|h:1:2"},
        {MDM_DIRECTIVE_PUSH_EXPIRATION, "60s|7d|30d", "|59s|31d|x"},
        {MDM_DIRECTIVE_PUSH_TIMEOUT, "1s|600s", "|999ms|601s|x"},
        {MDM_DIRECTIVE_PUSH_CONCURRENCY, "1|100000", "|0|100001|x"},
        {MDM_DIRECTIVE_PUSH_RETRY, "100ms 7d|15s 15s", "|1s|99ms 1h|2d 3d|"
                                                       "1s 8d|20s 10s|x y"},
        {MDM_DIRECTIVE_PUSH_TOPIC_CHANGE, "on|off", "|maybe"},
        {MDM_DIRECTIVE_PUSH_REPEAT, "1m|4h|30d|off|OFF",
         "|59s|31d|x|0|never|4h 5h"},
        {MDM_DIRECTIVE_PUSH_SILENT, "1h|7d|365d|off|Off",
         "|59m|366d|x|0|never|1d 2d"},
        {MDM_DIRECTIVE_PUSH_CERTIFICATE_WARN, "1h|30d|3650d",
         "|59m|3651d|x|0|off|30d 14d"},
        {MDM_DIRECTIVE_PUSH_RATE, "1|100000|off|OFF",
         "|0|100001|-1|x|10/s|1 2"},
        {MDM_DIRECTIVE_LEASE_TIME, "1s|10m", "|999ms|601s|x"},
        {MDM_DIRECTIVE_COMMAND_EXPIRATION, "1m|30d|3650d|off",
         "|59s|3651d|x|0|off 1m"},
        {MDM_DIRECTIVE_RESULT_RETENTION, "1h|90d|3650d|off|Off",
         "|59m|3651d|x|0|-1h"},
        {MDM_DIRECTIVE_DECLARATIVE_MANAGEMENT,
         "off|OFF|http://h|https://dm.example.com:8443/v1/dm/|http://[::1]:1",
         "|builtin|builtin hmac=x|on|h|file:///x|ftp://h/|http://u:p@h/|"
         "http://h/?x|http://h:0|off hmac=x|http://h/ x|http://h/ hmac=|"
         "http://h/ hmac|http://h/ hmac=missing|http://h/ hmac=a hmac=b"},
        {MDM_DIRECTIVE_ESCROW_KEY_UNLOCK_URL,
         "https://h|https://apple.example.com:8443/a/b",
         "|off|http://h/a|https://|https://h/?x|https://h/ x|https://h/ ca=|"
         "https://h/ ca=missing|https://h/ ca=a ca=b"},
        {MDM_DIRECTIVE_TOKEN_SIGNER, NULL,
         "|key|missing 677cab70-fe18-11e2-b778-0800200c9a66"},
        {MDM_DIRECTIVE_RETURN_TO_SERVICE,
         "off|on|ON|on preserve-data-plan|on retry-enrollment "
         "preserve-data-plan",
         "|yes|off retry-enrollment|on x|on wifi-profile|on wifi-profile=|"
         "on wifi-profile=missing|on mdm-profile=missing|on "
         "retry-enrollment retry-enrollment|on preserve-data-plan=1|"
         "on a b c d e"},
    };

    try_values(*state, cases, MDM_ARRAY_LEN(cases));
}

/* Known weak spots of file names. */
static void test_long_names(void **state)
{
    static const mdm_directive_id_t ids[] = {
        MDM_DIRECTIVE_STATE_DIR, MDM_DIRECTIVE_API_TOKEN_FILE,
        MDM_DIRECTIVE_SECRET_KEY_FILE, MDM_DIRECTIVE_PUSH_CERTIFICATE,
        MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE,
        MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE};
    world_t *w = *state;
    char longer[6000];
    char url[6100];
    size_t i;

    memset(longer, 'd', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    for (i = 0; i < MDM_ARRAY_LEN(ids); i++) {
        assert_int_equal(try_one(w, ids[i], longer), MDM_ECONFIG);
        /* "" as one argument, as both servers can give it. */
        assert_int_equal(try_one(w, ids[i], " "), MDM_ECONFIG);
    }
    (void)snprintf(url, sizeof(url), "sqlite:%s", longer);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_STORE, url), MDM_ECONFIG);
}

static void test_defaults(void **state)
{
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, NULL);
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", "/etc");
    char text[200];

    (void)state;
    assert_non_null(m);
    assert_non_null(l);
    assert_string_equal(m->store, "sqlite:mdm.db");
    assert_int_equal(m->store_connections, 4);
    assert_true(m->store_timeout_us == 10 * MDM_SEC);
    assert_null(m->secret_key);
    assert_true(m->push);
    assert_string_equal(m->push_host, "api.push.apple.com");
    assert_int_equal(m->push_port, 443);
    assert_null(m->push_proxy);
    assert_null(m->push_ca_file);
    assert_true(m->push_expiration_us == 7 * 86400 * MDM_SEC);
    assert_true(m->push_timeout_us == 30 * MDM_SEC);
    assert_true(m->push_ping_us == 600 * MDM_SEC);
    assert_true(m->loaded_us > 0);
    assert_int_equal(m->push_concurrency, 1000);
    assert_true(m->push_policy.retry_min_us == 15 * MDM_SEC);
    assert_true(m->push_policy.retry_max_us == 3600 * MDM_SEC);
    assert_false(m->push_topic_change);
    assert_true(m->push_policy.repeat_us == 4 * 3600 * MDM_SEC);
    assert_int_equal(m->push_silent_us, 0);
    assert_int_equal(m->push_rate, 0);
    assert_true(m->lease_life_us == 15 * MDM_SEC);
    assert_int_equal(m->command_life_us, 0);
    assert_true(m->result_retention_us == 90 * 86400 * MDM_SEC);
    assert_int_equal(m->state_dir[0], '/');
    assert_false(mdm_config_is_endpoint(l));
    assert_false(mdm_config_is_endpoint(NULL));
    assert_int_equal(mdm_config_body_max(l), 32 << 20);
    assert_int_equal(l->plist_limits.depth, 64);
    assert_int_equal(l->plist_limits.items, 2000000);
    assert_null(l->api_tokens);
    assert_true(mdm_config_show(l, MDM_DIRECTIVE_ENDPOINT, text,
                                sizeof(text)));
    assert_string_equal(text, "off");
    assert_true(mdm_config_show(l, MDM_DIRECTIVE_PLIST_LIMITS, text,
                                sizeof(text)));
    assert_string_equal(text, "size=33554432 depth=64 items=2000000");
    assert_false(mdm_config_show(m, MDM_DIRECTIVE_SECRET_KEY_FILE, text,
                                 sizeof(text)));
    mdm_config_free(&m);
    mdm_config_free(&l);
    mdm_config_free(&l);
}

/* Twice, and where it does not belong: every directive of the table. */
static void test_twice_and_scope(void **state)
{
    static const mdm_scope_t scopes[] = {MDM_SCOPE_MAIN, MDM_SCOPE_SERVER,
                                         MDM_SCOPE_LOCATION};
    world_t *w = *state;
    const mdm_directive_t *d;
    mdm_config_t *c;
    size_t n;
    size_t i;
    size_t j;

    d = mdm_directives(&n);
    assert_int_equal(n, MDM_DIRECTIVE_COUNT);
    for (i = 0; i < n; i++) {
        assert_int_equal(d[i].id, i);
        if (d[i].preset == NULL) {
            continue;
        }
        for (j = 0; j < MDM_ARRAY_LEN(scopes); j++) {
            c = mdm_config_new(scopes[j], "/mdm", w->dir);
            assert_non_null(c);
            if (scopes[j] == d[i].scope) {
                assert_int_equal(set(w, c, d[i].id, d[i].preset), MDM_OK);
                assert_int_equal(set(w, c, d[i].id, d[i].preset),
                                 MDM_ECONFIG);
                assert_non_null(strstr(w->err.text, "twice"));
            } else {
                assert_int_equal(set(w, c, d[i].id, d[i].preset),
                                 MDM_ECONFIG);
                assert_non_null(strstr(w->err.text, "not allowed here"));
            }
            mdm_config_free(&c);
        }
    }
}

static void test_merge(void **state)
{
    world_t *w = *state;
    mdm_config_t *outer = mdm_config_new(MDM_SCOPE_LOCATION, "/", w->dir);
    mdm_config_t *inner = mdm_config_new(MDM_SCOPE_LOCATION, "/in", w->dir);
    mdm_config_t *deep = mdm_config_new(MDM_SCOPE_LOCATION, "/in/x", w->dir);
    mdm_config_t *merged = calloc(1, mdm_config_size());
    mdm_config_t *again = calloc(1, mdm_config_size());

    testcert_write(w->dir, "tokens", NULL, "a:0123456789abcdef\n");
    testcert_write(w->dir, "tokens2", NULL, "b:0123456789abcdef\n");
    assert_int_equal(set(w, outer, MDM_DIRECTIVE_ENDPOINT, "api"), MDM_OK);
    assert_int_equal(set(w, outer, MDM_DIRECTIVE_PLIST_LIMITS, "size=8k"),
                     MDM_OK);
    assert_int_equal(set(w, outer, MDM_DIRECTIVE_API_TOKEN_FILE, "tokens"),
                     MDM_OK);
    mdm_config_merge(merged, outer, inner);
    assert_false(mdm_config_is_endpoint(merged)); /* never inherited */
    assert_false(merged->set[MDM_DIRECTIVE_ENDPOINT]);
    assert_int_equal(mdm_config_body_max(merged), 8192);
    assert_ptr_equal(merged->api_tokens, outer->api_tokens);
    assert_string_equal(merged->path, "/in");
    /* What is inherited is handed on. */
    mdm_config_merge(again, merged, deep);
    assert_int_equal(mdm_config_body_max(again), 8192);
    assert_false(mdm_config_is_endpoint(again));
    assert_string_equal(again->path, "/in/x");
    /* The inner one wins, whatever the outer one says. */
    assert_int_equal(set(w, inner, MDM_DIRECTIVE_ENDPOINT, "mdm"), MDM_OK);
    assert_int_equal(set(w, inner, MDM_DIRECTIVE_PLIST_LIMITS, "size=9k"),
                     MDM_OK);
    assert_int_equal(set(w, inner, MDM_DIRECTIVE_API_TOKEN_FILE, "tokens2"),
                     MDM_OK);
    mdm_config_merge(inner, outer, inner); /* in place */
    assert_int_equal(mdm_config_body_max(inner), 9216);
    assert_true(mdm_str_is(inner->api_tokens->tokens[0].name, "b"));
    assert_int_equal(inner->role, MDM_ROLE_MDM);
    free(merged);
    free(again);
    mdm_config_free(&outer);
    mdm_config_free(&inner);
    mdm_config_free(&deep);
}

#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void test_token_files(void **state)
{
    static const struct {
        const char *text;
        size_t tokens; /* 0: refused */
        const char *says;
    } cases[] = {
        {"# comment\n\n  a:0123456789abcdef  \r\nb:fedcba9876543210", 2, ""},
        {"a:read,command:sha256:" HEX "\n", 1, ""},
        {"a:with:colons:inside-it\n", 1, ""},
        {"", 0, "no line"},
        {"# nothing\n", 0, "no line"},
        {"a:short\n", 0, "line 1"},
        {"a:0123456789abcdef\nnocolon\n", 0, "line 2"},
        {":0123456789abcdef\n", 0, "line 1"},
        {"a:\n", 0, "line 1"},
        {"a:read:sha256:00\n", 0, "64 hex"},
        {"a:sha256:" HEX "\n", 0, "scopes first"},
        {"a:raed:sha256:" HEX "\n", 0, "unknown scope"},
        {"a::sha256:" HEX "\n", 0, "unknown scope"},
    };
    world_t *w = *state;
    mdm_config_t *c;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        testcert_write(w->dir, "tokens", NULL, cases[i].text);
        c = mdm_config_new(MDM_SCOPE_LOCATION, "/api", w->dir);
        assert_int_equal(set(w, c, MDM_DIRECTIVE_API_TOKEN_FILE, "tokens"),
                         cases[i].tokens > 0 ? MDM_OK : MDM_ECONFIG);
        if (cases[i].tokens > 0) {
            assert_int_equal(c->api_tokens->n, cases[i].tokens);
            assert_true(mdm_str_is(c->api_tokens->tokens[0].name, "a"));
        } else {
            assert_non_null(strstr(w->err.text, cases[i].says));
        }
        mdm_config_free(&c);
    }
    assert_int_equal(try_one(w, MDM_DIRECTIVE_API_TOKEN_FILE, "missing"),
                     MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "missing"));
    assert_int_equal(try_one(w, MDM_DIRECTIVE_API_TOKEN_FILE, "."),
                     MDM_ECONFIG);
}

/* OpenSSL set up without SHA-256, as its own configuration file may say it:
 * above all no digest that fits every other one. */
static void test_tokens_without_digest(void **state)
{
    const mdm_directive_id_t id = MDM_DIRECTIVE_API_TOKEN_FILE;
    world_t *w = *state;
    mdm_config_t *late = mdm_config_new(MDM_SCOPE_LOCATION, "/api", w->dir);
    mdm_config_t *good = mdm_config_new(MDM_SCOPE_LOCATION, "/api", w->dir);
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_request_t request = {
        .authorization = MDM_STR("Bearer 0123456789abcdef")};
    const mdm_api_token_t *found = NULL;
    mdm_rc rc;

    assert_true(late != NULL && good != NULL && arena != NULL);
    testcert_write(w->dir, "tokens", NULL, "ann:0123456789abcdef\n");
    assert_int_equal(set(w, good, id, "tokens"), MDM_OK);
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    rc = set(w, late, id, "tokens");
    request.location = good;
    assert_int_equal(mdm_auth_api(&request, arena, &found, &w->err),
                     MDM_EINTERNAL);
    request.location = late;
    request.authorization = MDM_STR("Bearer whatever-it-may-be");
    assert_int_not_equal(mdm_auth_api(&request, arena, &found, &w->err),
                         MDM_OK);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_int_equal(rc, MDM_ECONFIG);
    assert_null(found);
    mdm_arena_free(&arena);
    mdm_config_free(&late);
    mdm_config_free(&good);
}

static void test_device_ca(void **state)
{
    const mdm_directive_id_t id = MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE;
    world_t *w = *state;
    testcert_t ca = testcert_ca("ca");
    testcert_t leaf = testcert_device("leaf", &ca);

    testcert_write(w->dir, "ca.pem", testcert_pem(&ca), NULL);
    testcert_write(w->dir, "leaf.pem", testcert_pem(&leaf), NULL);
    testcert_write(w->dir, "key.pem", testcert_key(&ca, NULL), NULL);
    testcert_write(w->dir, "text", NULL, "no certificate at all\n");
    testcert_write(w->dir, "bad", NULL,
                   "-----BEGIN CERTIFICATE-----\nQUJD\n"
                   "-----END CERTIFICATE-----\n");
    assert_int_equal(try_one(w, id, "ca.pem"), MDM_OK);
    assert_int_equal(try_one(w, id, "leaf.pem"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "leaf.pem"));
    assert_int_equal(try_one(w, id, "key.pem"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "text"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "bad"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "missing"), MDM_ECONFIG);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE,
                             "ca.pem"), MDM_OK);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE,
                             "text"), MDM_ECONFIG);
    testcert_free(&ca);
    testcert_free(&leaf);
}

static void test_secret_key(void **state)
{
    world_t *w = *state;
    mdm_config_t *c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    char path[64];

    testcert_write(w->dir, "key", NULL,
                   "00112233445566778899aabbccddeeff"
                   "00112233445566778899aabbccddeeff\n");
    assert_int_equal(set(w, c, MDM_DIRECTIVE_SECRET_KEY_FILE, "key"), MDM_OK);
    assert_int_equal(c->secret_key[1], 0x11);
    assert_null(c->former_key);
    mdm_config_free(&c);
    testcert_write(w->dir, "old", NULL,
                   "ff112233445566778899aabbccddeeff"
                   "00112233445566778899aabbccddeeff\n");
    c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    assert_int_equal(set(w, c, MDM_DIRECTIVE_SECRET_KEY_FILE, "key old"),
                     MDM_OK);
    assert_int_equal(c->secret_key[0], 0x00);
    assert_int_equal(c->former_key[0], 0xff);
    mdm_config_free(&c);
    testcert_write(w->dir, "same", NULL,
                   "00112233445566778899AABBCCDDEEFF"
                   "00112233445566778899AABBCCDDEEFF\n");
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE, "key same"),
                     MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "the same"));
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE, "key none"),
                     MDM_ECONFIG);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE,
                             "key old old"), MDM_ECONFIG);
    (void)snprintf(path, sizeof(path), "%s/key", w->dir);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE, "key"),
                     MDM_ECONFIG);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE, "old key"),
                     MDM_ECONFIG);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_SECRET_KEY_FILE, "old"),
                     MDM_OK);
}

static void test_trusted_proxies(void **state)
{
    world_t *w = *state;
    mdm_log_t log = {w, log_on, log_write};
    testcert_t ca = testcert_ca("ca");
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    mdm_config_t *s = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *outer = mdm_config_new(MDM_SCOPE_LOCATION, "/", w->dir);
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", w->dir);
    mdm_config_t *merged = calloc(1, mdm_config_size());
    char text[1400];
    size_t n = 0;
    int i;

    assert_non_null(merged);
    for (i = 0; i < 65; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s192.0.2.%d",
                              i > 0 ? " " : "", i);
    }
    assert_int_equal(try_one(w, MDM_DIRECTIVE_TRUSTED_PROXY, text),
                     MDM_ECONFIG);
    *strrchr(text, ' ') = '\0';
    assert_int_equal(try_one(w, MDM_DIRECTIVE_TRUSTED_PROXY, text), MDM_OK);
    assert_int_equal(try_one(w, MDM_DIRECTIVE_TRUSTED_PROXY, "10.1.2.3/8"),
                     MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "10.0.0.0/8"));
    testcert_write(w->dir, "ca.pem", testcert_pem(&ca), NULL);
    assert_int_equal(set(w, s, MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE, "ca.pem"),
                     MDM_OK);
    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENDPOINT, "mdm"), MDM_OK);
    assert_int_equal(set(w, l, MDM_DIRECTIVE_DEVICE_IDENTITY, "header=X-Cert"),
                     MDM_OK);
    assert_int_equal(mdm_config_check_endpoint(m, s, l, &log, &w->err),
                     MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "nobody would be believed"));
    assert_non_null(strstr(w->err.text, "X-Cert"));
    /* Inherited, both ways round. */
    assert_int_equal(set(w, outer, MDM_DIRECTIVE_TRUSTED_PROXY, "10.0.0.0/8"),
                     MDM_OK);
    mdm_config_merge(merged, outer, l);
    assert_string_equal(mdm_config_identity_header(merged), "X-Cert");
    assert_int_equal(merged->trusted_proxies->n, 1);
    assert_int_equal(mdm_config_check_endpoint(m, s, merged, &log, &w->err),
                     MDM_OK);
    assert_int_equal(w->warnings, 0);
    assert_int_equal(set(w, l, MDM_DIRECTIVE_TRUSTED_PROXY, "::/0 ::1"),
                     MDM_OK);
    mdm_config_merge(merged, outer, l);
    assert_int_equal(merged->trusted_proxies->n, 2);
    assert_int_equal(mdm_config_check_endpoint(m, s, merged, &log, &w->err),
                     MDM_OK);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "all addresses"));
    /* Proxies, but no header that they could fill. */
    assert_int_equal(set(w, outer, MDM_DIRECTIVE_ENDPOINT, "mdm"), MDM_OK);
    assert_null(mdm_config_identity_header(outer));
    assert_int_equal(mdm_config_check_endpoint(m, s, outer, &log, &w->err),
                     MDM_OK);
    assert_int_equal(w->warnings, 2);
    assert_non_null(strstr(w->warning, "has no effect"));
    free(merged);
    mdm_config_free(&m);
    mdm_config_free(&s);
    mdm_config_free(&l);
    mdm_config_free(&outer);
    testcert_free(&ca);
}

static void test_checks(void **state)
{
    world_t *w = *state;
    mdm_log_t log = {w, log_on, log_write};
    testcert_t ca = testcert_ca("ca");
    testcert_t old = testcert_make((testcert_want_t){
        .name = "push", .uid = TOPIC, .rsa = 1, .from_day = -400,
        .to_day = -5});
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    mdm_config_t *s = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *l = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", w->dir);
    mdm_config_t *api = mdm_config_new(MDM_SCOPE_LOCATION, NULL, w->dir);

    testcert_write(w->dir, "ca.pem", testcert_pem(&ca), NULL);
    testcert_write(w->dir, "old", testcert_both(&old), NULL);
    assert_false(mdm_config_in_use(m));
    assert_int_equal(mdm_config_check(m, &log, &w->err), MDM_OK);
    assert_int_equal(w->warnings, 0);
    assert_int_equal(set(w, l, MDM_DIRECTIVE_ENDPOINT, "checkin"), MDM_OK);
    /* Whoever issues identities here may be named later. */
    assert_int_equal(mdm_config_check_endpoint(m, s, l, &log, &w->err),
                     MDM_OK);
    assert_int_equal(mdm_config_check(m, &log, &w->err), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "MDMDeviceCACertificateFile"));
    assert_non_null(strstr(w->err.text, "mdm_device_ca_certificate"));
    m->seen_flags = 0;
    assert_int_equal(set(w, s, MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE, "ca.pem"),
                     MDM_OK);
    assert_int_equal(mdm_config_check_endpoint(m, s, l, &log, &w->err),
                     MDM_OK);
    assert_true(mdm_config_in_use(m));
    assert_int_equal(w->warnings, 0);
    /* The api role: a fixed path, and credentials or a warning. */
    assert_int_equal(set(w, api, MDM_DIRECTIVE_ENDPOINT, "api"), MDM_OK);
    assert_int_equal(mdm_config_check_endpoint(m, s, api, &log, &w->err),
                     MDM_ECONFIG);
    mdm_config_free(&api);
    api = mdm_config_new(MDM_SCOPE_LOCATION, "/api", w->dir);
    assert_int_equal(set(w, api, MDM_DIRECTIVE_ENDPOINT, "api"), MDM_OK);
    assert_int_equal(mdm_config_check_endpoint(m, s, api, &log, &w->err),
                     MDM_OK);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->warning, "MDMAPITokenFile"));
    assert_int_equal(set(w, m, MDM_DIRECTIVE_PUSH_CERTIFICATE, "old"),
                     MDM_OK);
    assert_int_equal(mdm_config_check(m, &log, &w->err), MDM_OK);
    assert_int_equal(w->warnings, 2);
    assert_non_null(strstr(w->warning, "expired 5 days ago"));
    assert_int_equal(set(w, m, MDM_DIRECTIVE_PUSH, "off"), MDM_OK);
    assert_int_equal(mdm_config_check(m, &log, &w->err), MDM_OK);
    assert_int_equal(w->warnings, 4);
    mdm_config_free(&m);
    mdm_config_free(&s);
    mdm_config_free(&l);
    mdm_config_free(&api);
    testcert_free(&ca);
    testcert_free(&old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values),      TEST(test_long_names),
        TEST(test_defaults),    TEST(test_twice_and_scope),
        TEST(test_merge),       TEST(test_token_files),
        TEST(test_tokens_without_digest),
        TEST(test_device_ca),   TEST(test_secret_key),
        TEST(test_trusted_proxies), TEST(test_checks),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
