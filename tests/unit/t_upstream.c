/*
 * t_upstream.c - calls to the outside server of declarative management, made
 * to a small server in a thread of the test: what is sent, what is taken, and
 * how many wait for how long.
 */
#include "t_upstream_server.h"

#include <stdatomic.h>

#include <openssl/hmac.h>

#include "mdm_str.h"
#include "mdm_time.h"
#include "mdm_upstream.h"

#define KEY "0123456789abcdef0123456789abcdef"
#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

typedef struct world {
    server_t *server;
    mdm_upstream_t *upstream;
    mdm_upstream_config_t config;
    mdm_upstream_message_t message;
    mdm_arena_t *arena;
    mdm_str_t body;
    mdm_err_t err;
    char url[200];
    char reply[2048];
} world_t;

/* ---- what is said ------------------------------------------------------- */

static void test_urls(void **state)
{
    static const char *const good[] = {
        "http://h", "https://h/", "HTTPS://dm.example.com:8443/v1/dm",
        "http://127.0.0.1:9000", "http://[::1]:9000/x", "https://[fe80::1]",
        "http://a_b/x%20y;z=1/", "https://h/a.b/..c/d.."};
    static const char *const bad[] = {
        "", "h", "http:", "http:/", "http://", "https:///x", "file:///etc/x",
        "ftp://h/", "httpx://h", "//h", "http//h", "http://h:0", "http://h:",
        "http://h:65536", "http://h:x", "http://:80", "http://u:p@h/",
        "http://u@h", "http://h/?q", "http://h?q", "http://h#f",
        "http://h/#f", "http://h/../x", "http://h/a/..", "http://h/./x",
        "http://h/%", "http://h/%2", "http://h/%zz", "http://h/a b",
        "http://h h/", "http://h/\xc3\xa9", "http://h/\r\nX: y",
        "http://[::1", "http://[]", "http://[::1]x", "http://[h]/",
        "http://h\\x/", "http://h/\\", "http://h/\"", "http://h/<"};
    char longer[MDM_UPSTREAM_URL_MAX + 20];
    mdm_err_t err;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(good); i++) {
        if (mdm_upstream_check_url(mdm_str_from(good[i]), &err) != MDM_OK) {
            fail_msg("%s: %s", good[i], err.text);
        }
    }
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        if (mdm_upstream_check_url(mdm_str_from(bad[i]), &err) !=
            MDM_ECONFIG) {
            fail_msg("%s was taken", bad[i]);
        }
    }
    memset(longer, 'a', sizeof(longer));
    memcpy(longer, "http://h/", 9);
    assert_int_equal(
        mdm_upstream_check_url((mdm_str_t){longer, sizeof(longer)}, &err),
        MDM_ECONFIG);
    assert_int_equal(
        mdm_upstream_check_url((mdm_str_t){longer, MDM_UPSTREAM_URL_MAX},
                               &err),
        MDM_OK);
}

static void test_paths(void **state)
{
    static const struct {
        const char *endpoint;
        const char *path; /* NULL: refused */
    } cases[] = {
        {"tokens", "tokens"},
        {"declaration-items", "declaration-items"},
        {"status", "status"},
        {"declaration/activation/a", "declaration/activation/a"},
        {"declaration/asset/A-b_c.d~1", "declaration/asset/A-b_c.d~1"},
        {"declaration/configuration/a/b//c",
         "declaration/configuration/a%2Fb%2F%2Fc"},
        {"declaration/management/ x?y#z%2e&", "declaration/management/"
                                              "%20x%3Fy%23z%252e%26"},
        {"declaration/asset/\xc3\xa9\r\n", "declaration/asset/%C3%A9%0D%0A"},
        {"declaration/asset/...", "declaration/asset/..."},
        {"declaration/asset/..a", "declaration/asset/..a"},
        {"declaration/asset/a..", "declaration/asset/a.."},
        {"", NULL},
        {"token", NULL},
        {"Tokens", NULL},
        {"tokens/", NULL},
        {"status/x", NULL},
        {"/tokens", NULL},
        {"declaration", NULL},
        {"declaration/", NULL},
        {"declaration//x", NULL},
        {"declaration/asset", NULL},
        {"declaration/asset/", NULL},
        {"declaration/assets/x", NULL},
        {"declaration/Asset/x", NULL},
        {"declaration/../x", NULL},
        {"declaration/asset/.", NULL},
        {"declaration/asset/..", NULL},
        {"declaration/asset/../tokens", NULL},
        {"declaration/asset/a/..", NULL},
        {"declaration/asset/a/../../b", NULL},
        {"declaration/asset/a\\..\\b", NULL},
        {"declaration/asset/./b", NULL},
        {"../x", NULL},
    };
    mdm_arena_t *arena = mdm_arena_new(false);
    const char *path;
    mdm_err_t err;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        mdm_rc rc = mdm_upstream_path(mdm_str_from(cases[i].endpoint), arena,
                                      &path, &err);

        if (cases[i].path == NULL) {
            if (rc != MDM_EINVAL) {
                fail_msg("%s was taken", cases[i].endpoint);
            }
        } else {
            assert_int_equal(rc, MDM_OK);
            assert_string_equal(path, cases[i].path);
        }
    }
    /* A NUL cannot come out of a property list, but nothing relies on it. */
    assert_int_equal(mdm_upstream_path(MDM_STR("declaration/asset/a\0/.."),
                                       arena, &path, &err),
                     MDM_EINVAL);
    assert_int_equal(mdm_upstream_path(MDM_STR("declaration/asset/a\0b"),
                                       arena, &path, &err),
                     MDM_OK);
    assert_string_equal(path, "declaration/asset/a%00b");
    mdm_arena_free(&arena);
}

static void test_header_values(void **state)
{
    static const struct {
        const char *value;
        const char *text;
    } cases[] = {
        {"75A6F6CB-434F:robin@example.com", "75A6F6CB-434F:robin@example.com"},
        {"a b", "a b"},
        {" a ", "%20a%20"},
        {"100%", "100%25"},
        {"x\r\nX-Evil: 1", "x%0D%0AX-Evil: 1"},
        {"j\xc3\xb6rg\t\x7f", "j%C3%B6rg%09%7F"},
        {"", ""},
    };
    mdm_arena_t *arena = mdm_arena_new(false);
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        assert_string_equal(
            mdm_upstream_header(mdm_str_from(cases[i].value), arena),
            cases[i].text);
    }
    mdm_arena_free(&arena);
}

/* ---- one call ----------------------------------------------------------- */

static void open_upstream(world_t *w)
{
    mdm_upstream_free(&w->upstream);
    w->config.url = w->url;
    assert_int_equal(mdm_upstream_new(&w->config, &w->upstream, &w->err),
                     MDM_OK);
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->arena = mdm_arena_new(true);
    w->server = server_start(NULL);
    (void)snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%u/dm/",
                   w->server->port);
    w->config.connect_us = 5 * MDM_SEC;
    w->config.total_us = 20 * MDM_SEC;
    w->message = (mdm_upstream_message_t){.endpoint = MDM_STR("tokens"),
                                          .id = MDM_STR("UDID-1"),
                                          .type = "Device"};
    open_upstream(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    server_hang(w->server, false);
    mdm_upstream_free(&w->upstream);
    assert_null(w->upstream);
    mdm_upstream_free(&w->upstream);
    server_stop(w->server);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

static mdm_rc call(world_t *w)
{
    mdm_err_clear(&w->err);
    return mdm_upstream_call(w->upstream, &w->message, w->arena, &w->body,
                             &w->err);
}

/* Status line and headers (each with its line end), and a body. */
static void reply(world_t *w, const char *head, const char *body)
{
    int n = snprintf(w->reply, sizeof(w->reply),
                     "%sContent-Length: %zu\r\n\r\n%s", head, strlen(body),
                     body);

    assert_true(n > 0 && (size_t)n < sizeof(w->reply));
    server_reply(w->server, w->reply, (size_t)n);
}

static void mac(const char *body, char text[64])
{
    unsigned char digest[32];
    unsigned n = 0;

    assert_non_null(HMAC(EVP_sha256(), KEY, (int)strlen(KEY),
                         (const unsigned char *)body, strlen(body), digest,
                         &n));
    assert_int_equal(EVP_EncodeBlock((unsigned char *)text, digest, (int)n),
                     44);
}

static void test_get(void **state)
{
    world_t *w = *state;
    server_t *s = w->server;

    reply(w, OK_HEAD, "{\"a\":1}");
    assert_int_equal(call(w), MDM_OK);
    assert_true(mdm_str_is(w->body, "{\"a\":1}"));
    assert_non_null(strstr(s->head, "GET /dm/tokens HTTP/1.1\r\n"));
    assert_string_equal(server_header(s, "X-Enrollment-ID"), "UDID-1");
    assert_string_equal(server_header(s, "X-Enrollment-Type"), "Device");
    assert_null(strcasestr(s->head, "X-Enrollment-ParentID"));
    assert_null(strcasestr(s->head, "X-Hmac-Signature"));
    assert_null(strcasestr(s->head, "Content-Type"));
    assert_null(strcasestr(s->head, "Accept-Encoding"));
    assert_non_null(strstr(server_header(s, "User-Agent"), "mod_mdm/"));
    assert_int_equal(s->nbody, 0);

    /* A user of the device, a declaration, the same connection. */
    w->message.endpoint = MDM_STR("declaration/asset/a/b ?");
    w->message.id = MDM_STR("UDID-1:J\xc3\xb6rg");
    w->message.parent_id = MDM_STR("UDID-1");
    w->message.type = "User";
    reply(w, OK_HEAD, "");
    assert_int_equal(call(w), MDM_OK);
    assert_int_equal(w->body.n, 0);
    assert_non_null(strstr(s->head, "GET /dm/declaration/asset/a%2Fb%20%3F "));
    assert_string_equal(server_header(s, "X-Enrollment-ID"),
                        "UDID-1:J%C3%B6rg");
    assert_string_equal(server_header(s, "X-Enrollment-Type"), "User");
    assert_string_equal(server_header(s, "X-Enrollment-ParentID"), "UDID-1");
    assert_int_equal(s->connections, 1);
    assert_int_equal(s->requests, 2);

    w->message.endpoint = MDM_STR("tokens/..");
    assert_int_equal(call(w), MDM_EINVAL);
    assert_int_equal(s->requests, 2);
}

static void test_put(void **state)
{
    world_t *w = *state;
    server_t *s = w->server;

    w->message.endpoint = MDM_STR("status");
    w->message.data = MDM_STR("{\"StatusItems\":{}}");
    reply(w, OK_HEAD, "");
    assert_int_equal(call(w), MDM_OK);
    assert_non_null(strstr(s->head, "PUT /dm/status HTTP/1.1\r\n"));
    assert_string_equal(server_header(s, "Content-Type"), "application/json");
    assert_null(strcasestr(s->head, "Expect"));
    assert_null(strcasestr(s->head, "X-Hmac-Signature"));
    assert_int_equal(s->nbody, w->message.data.n);
    assert_memory_equal(s->body, w->message.data.s, s->nbody);

    /* A GET that follows has none of it. */
    w->message.endpoint = MDM_STR("tokens");
    w->message.data = MDM_STR_NONE;
    assert_int_equal(call(w), MDM_OK);
    assert_non_null(strstr(s->head, "GET /dm/tokens HTTP/1.1\r\n"));
    assert_null(strcasestr(s->head, "Content-Type"));
    assert_int_equal(s->connections, 1);
}

static void test_statuses(void **state)
{
    static const struct {
        const char *head;
        mdm_rc rc;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n", MDM_OK},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", MDM_OK},
        {"HTTP/1.1 404 Not Found\r\n", MDM_ENOTFOUND},
        {"HTTP/1.1 201 Created\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 206 Partial Content\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 302 Found\r\nLocation: /dm/status\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 307 Temporary\r\nLocation: /dm/status\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 401 Unauthorized\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 403 Forbidden\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 410 Gone\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 500 Internal\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 503 Busy\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
         "Content-Encoding: identity\r\n", MDM_EUNAVAIL},
        {"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\n", MDM_OK},
    };
    world_t *w = *state;
    unsigned before;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        before = w->server->requests;
        reply(w, cases[i].head, "{}");
        if (call(w) != cases[i].rc) {
            fail_msg("%s: %s", cases[i].head, w->err.text);
        }
        assert_int_equal(w->server->requests, before + 1);
        assert_int_equal(w->body.n, cases[i].rc == MDM_OK ? 2 : 0);
    }
    assert_int_equal(w->err.rc, MDM_OK);
    reply(w, "HTTP/1.1 500 Internal\r\n", "{}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_string_equal(w->err.text, "GET tokens: it answered 500");
    server_reply(w->server, "nonsense\r\nclose\r\n", 17);
    assert_int_equal(call(w), MDM_EUNAVAIL);
    /* Cut short. */
    (void)snprintf(w->reply, sizeof(w->reply), OK_HEAD
                   "Connection: close\r\nContent-Length: 50\r\n\r\nhalf");
    server_reply(w->server, w->reply, strlen(w->reply));
    assert_int_equal(call(w), MDM_EUNAVAIL);
}

static void test_signatures(void **state)
{
    world_t *w = *state;
    char head[512];
    char good[64];
    char text[64];
    char bad[64];

    w->config.hmac_key = MDM_STR(KEY);
    open_upstream(w);
    mac("{\"a\":1}", good);
    (void)snprintf(head, sizeof(head), OK_HEAD "x-hmac-signature:%s\r\n",
                   good);
    reply(w, head, "{\"a\":1}");
    assert_int_equal(call(w), MDM_OK);
    mac("", text); /* of a GET: that of nothing */
    assert_string_equal(server_header(w->server, "X-Hmac-Signature"), text);
    w->message.endpoint = MDM_STR("status");
    w->message.data = MDM_STR("{}");
    assert_int_equal(call(w), MDM_OK);
    mac("{}", text);
    assert_string_equal(server_header(w->server, "X-Hmac-Signature"), text);

    /* None, of another body, cut, twice, too long, no base64. */
    reply(w, OK_HEAD, "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_non_null(strstr(w->err.text, "has no X-Hmac-Signature"));
    reply(w, head, "{\"a\":2}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_non_null(strstr(w->err.text, "has a wrong X-Hmac-Signature"));
    (void)snprintf(head, sizeof(head), OK_HEAD "X-Hmac-Signature: %.40s\r\n",
                   good);
    reply(w, head, "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    (void)snprintf(head, sizeof(head),
                   OK_HEAD "X-Hmac-Signature: %s\r\nX-Hmac-Signature: %s\r\n",
                   good, good);
    reply(w, head, "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    (void)snprintf(head, sizeof(head),
                   OK_HEAD "X-Hmac-Signature: %s%0130d\r\n", good, 0);
    reply(w, head, "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    memset(bad, '!', 44);
    bad[44] = '\0';
    (void)snprintf(head, sizeof(head), OK_HEAD "X-Hmac-Signature: %s\r\n",
                   bad);
    reply(w, head, "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    reply(w, OK_HEAD "X-Hmac-Signature\r\n", "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    reply(w, OK_HEAD "X-Hmac-Signature: \r\n", "{\"a\":1}");
    assert_int_equal(call(w), MDM_EUNAVAIL);
}

/* A signature that cannot be made is neither sent nor compared. */
static void test_no_digest(void **state)
{
    world_t *w = *state;
    char head[512];
    char good[64];
    mdm_rc rc;

    w->config.hmac_key = MDM_STR(KEY);
    open_upstream(w);
    mac("{}", good);
    (void)snprintf(head, sizeof(head), OK_HEAD "X-Hmac-Signature: %s\r\n",
                   good);
    reply(w, head, "{}");
    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    rc = call(w);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_int_equal(rc, MDM_EINTERNAL);
    assert_int_equal(w->server->requests, 0);
    assert_int_equal(call(w), MDM_OK);
}

/* A 404 passes without a signature, not with a wrong one.  And where a
 * signature may stand. */
static void test_signed_404(void **state)
{
    world_t *w = *state;
    char head[256];
    char text[64];

    w->config.hmac_key = MDM_STR(KEY);
    open_upstream(w);
    reply(w, "HTTP/1.1 404 Not Found\r\n", "");
    assert_int_equal(call(w), MDM_ENOTFOUND);
    mac("x", text);
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 404 Not Found\r\nX-Hmac-Signature: %s\r\n",
                   text);
    reply(w, head, "");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    mac("", text);
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 404 Not Found\r\nX-Hmac-Signature: %s\r\n",
                   text);
    reply(w, head, "");
    assert_int_equal(call(w), MDM_ENOTFOUND);
    /* One before an interim answer, or behind the body, is none. */
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 103 Early\r\nX-Hmac-Signature: %s\r\n\r\n"
                   "HTTP/1.1 200 OK\r\n",
                   text);
    reply(w, head, "");
    assert_int_equal(call(w), MDM_EUNAVAIL);
    mac("{}", text);
    (void)snprintf(w->reply, sizeof(w->reply),
                   OK_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
                           "X-Hmac-Signature: %s\r\n\r\n",
                   text);
    server_reply(w->server, w->reply, strlen(w->reply));
    assert_int_equal(call(w), MDM_EUNAVAIL);
}

static void test_sizes(void **state)
{
    size_t room = MDM_UPSTREAM_BODY_MAX + 200;
    char *all = calloc(1, room);
    world_t *w = *state;
    size_t size;
    size_t i;
    int n;

    assert_non_null(all);
    for (i = 0; i < 2; i++) { /* with a length, and up to the end */
        for (size = MDM_UPSTREAM_BODY_MAX; size <= MDM_UPSTREAM_BODY_MAX + 1;
             size++) {
            n = i == 0 ? snprintf(all, 200,
                                  OK_HEAD "Content-Length: %zu\r\n\r\n", size)
                       : snprintf(all, 200,
                                  OK_HEAD "Connection: close\r\n\r\n");
            memset(all + n, 'x', size);
            server_reply(w->server, all, (size_t)n + size);
            if (size == MDM_UPSTREAM_BODY_MAX) {
                assert_int_equal(call(w), MDM_OK);
                assert_int_equal(w->body.n, size);
                assert_int_equal(w->body.s[size - 1], 'x');
            } else {
                assert_int_equal(call(w), MDM_EUNAVAIL);
                assert_non_null(strstr(w->err.text, "longer than"));
            }
        }
    }
    /* Headers without end. */
    n = snprintf(all, 200, OK_HEAD);
    for (i = 0; i < 70; i++) {
        memset(all + n, 'y', 1000);
        memcpy(all + n, "X-Y: ", 5);
        memcpy(all + n + 998, "\r\n", 2);
        n += 1000;
    }
    n += snprintf(all + n, 200, "Content-Length: 0\r\n\r\n");
    server_reply(w->server, all, (size_t)n);
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_non_null(strstr(w->err.text, "headers"));
    free(all);
}

/* Who cannot be reached, and what the environment says about proxies. */
static void test_unreachable(void **state)
{
    world_t *w = *state;
    server_t *gone = server_start(NULL);

    (void)snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%u", gone->port);
    server_stop(gone);
    open_upstream(w);
    assert_int_equal(call(w), MDM_EUNAVAIL);
    (void)snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%u",
                   w->server->port);
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("all_proxy", "http://127.0.0.1:1", 1), 0);
    open_upstream(w);
    reply(w, OK_HEAD, "{}");
    assert_int_equal(call(w), MDM_OK);
    assert_non_null(strstr(w->server->head, "GET /tokens HTTP/1.1\r\n"));
    (void)unsetenv("http_proxy");
    (void)unsetenv("all_proxy");
}

static void test_time_limit(void **state)
{
    world_t *w = *state;
    int64_t begin = mdm_mono_us(NULL);
    int64_t took;

    w->config.total_us = MDM_SEC / 2;
    open_upstream(w);
    reply(w, OK_HEAD, "{}");
    server_hang(w->server, true);
    assert_int_equal(call(w), MDM_ETIMEDOUT);
    took = mdm_mono_us(NULL) - begin;
    assert_true(took > MDM_SEC * 4 / 10 && took < 5 * MDM_SEC);
    server_hang(w->server, false);
    assert_int_equal(call(w), MDM_OK);
}

static SSL_CTX *tls_of(const testcert_t *c)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

    assert_non_null(tls);
    assert_int_equal(SSL_CTX_use_certificate(tls, c->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, c->key), 1);
    return tls;
}

static void test_tls(void **state)
{
    testcert_t ca = testcert_ca("Outside CA");
    testcert_t own = testcert_make((testcert_want_t){
        .name = "own", .san = "DNS:localhost", .issuer = &ca,
        .from_day = -1, .to_day = 300});
    char dir[] = "/tmp/t_upstream.XXXXXX";
    SSL_CTX *tls = tls_of(&own);
    server_t *secure = server_start(tls);
    world_t *w = *state;
    char file[64];

    assert_non_null(mkdtemp(dir));
    testcert_write(dir, "ca.pem", testcert_pem(&ca), NULL);
    (void)snprintf(file, sizeof(file), "%s/ca.pem", dir);
    (void)snprintf(w->reply, sizeof(w->reply), OK_HEAD
                   "Content-Length: 2\r\n\r\n{}");
    server_reply(secure, w->reply, strlen(w->reply));
    (void)snprintf(w->url, sizeof(w->url), "https://localhost:%u/",
                   secure->port);
    open_upstream(w); /* against the system's authorities */
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_non_null(strcasestr(w->err.text, "certificate"));
    assert_int_equal(secure->requests, 0);
    w->config.ca_file = file;
    open_upstream(w);
    assert_int_equal(call(w), MDM_OK);
    assert_int_equal(call(w), MDM_OK);
    assert_int_equal(secure->requests, 2);
    (void)snprintf(w->url, sizeof(w->url), "https://127.0.0.1:%u/",
                   secure->port);
    open_upstream(w); /* not its name */
    assert_int_equal(call(w), MDM_EUNAVAIL);
    assert_int_equal(secure->requests, 2);
    mdm_upstream_free(&w->upstream);
    server_stop(secure);
    SSL_CTX_free(tls);
    assert_int_equal(remove(file), 0);
    assert_int_equal(remove(dir), 0);
    testcert_free(&own);
    testcert_free(&ca);
}

/* ---- many calls --------------------------------------------------------- */

typedef struct caller {
    pthread_t thread;
    world_t *world;
    mdm_arena_t *arena;
    mdm_rc rc;
    int64_t took_us;
} caller_t;

static void *run_call(void *arg)
{
    caller_t *c = arg;
    int64_t begin = mdm_mono_us(NULL);
    mdm_str_t body;
    mdm_err_t err;

    c->rc = mdm_upstream_call(c->world->upstream, &c->world->message,
                              c->arena, &body, &err);
    c->took_us = mdm_mono_us(NULL) - begin;
    return NULL;
}

static void start_calls(world_t *w, caller_t *callers, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        callers[i].world = w;
        callers[i].arena = mdm_arena_new(false);
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run_call,
                                        &callers[i]),
                         0);
    }
}

static void end_calls(caller_t *callers, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        mdm_arena_free(&callers[i].arena);
    }
}

static void test_places(void **state)
{
    caller_t callers[MDM_UPSTREAM_CALLS];
    caller_t more[24];
    world_t *w = *state;
    int64_t begin;
    unsigned quick = 0;
    size_t i;

    reply(w, OK_HEAD, "{}");
    server_hang(w->server, true);
    start_calls(w, callers, MDM_UPSTREAM_CALLS);
    server_wait_hanging(w->server, MDM_UPSTREAM_CALLS);
    begin = mdm_mono_us(NULL);
    assert_int_equal(call(w), MDM_EBUSY);
    assert_true(mdm_mono_us(NULL) - begin > MDM_SEC * 9 / 10);
    assert_true(mdm_mono_us(NULL) - begin < 3 * MDM_SEC);
    /* The server has proved slow: few may still wait for it. */
    start_calls(w, more, MDM_ARRAY_LEN(more));
    end_calls(more, MDM_ARRAY_LEN(more));
    for (i = 0; i < MDM_ARRAY_LEN(more); i++) {
        assert_int_equal(more[i].rc, MDM_EBUSY);
        assert_true(more[i].took_us < 3 * MDM_SEC);
        quick += more[i].took_us < MDM_SEC / 2;
    }
    assert_true(quick >= MDM_ARRAY_LEN(more) - MDM_UPSTREAM_CALLS);
    assert_int_equal(w->server->requests, MDM_UPSTREAM_CALLS);
    server_hang(w->server, false);
    end_calls(callers, MDM_UPSTREAM_CALLS);
    for (i = 0; i < MDM_UPSTREAM_CALLS; i++) {
        assert_int_equal(callers[i].rc, MDM_OK);
    }
    /* It is quick again: a crowd is served, by the same connections. */
    for (i = 0; i < 30; i++) {
        assert_int_equal(call(w), MDM_OK);
    }
    start_calls(w, more, MDM_ARRAY_LEN(more));
    end_calls(more, MDM_ARRAY_LEN(more));
    for (i = 0; i < MDM_ARRAY_LEN(more); i++) {
        assert_int_equal(more[i].rc, MDM_OK);
    }
    assert_int_equal(w->server->connections, MDM_UPSTREAM_CALLS);
}

/* Whoever waits gets the place that becomes free. */
static void test_waiting(void **state)
{
    caller_t callers[MDM_UPSTREAM_CALLS + 2];
    world_t *w = *state;
    size_t i;

    reply(w, OK_HEAD, "{}");
    server_hang(w->server, true);
    start_calls(w, callers, MDM_ARRAY_LEN(callers));
    server_wait_hanging(w->server, MDM_UPSTREAM_CALLS);
    assert_int_equal(w->server->requests, MDM_UPSTREAM_CALLS);
    server_hang(w->server, false);
    end_calls(callers, MDM_ARRAY_LEN(callers));
    for (i = 0; i < MDM_ARRAY_LEN(callers); i++) {
        assert_int_equal(callers[i].rc, MDM_OK);
    }
}

static void test_stop(void **state)
{
    caller_t callers[MDM_UPSTREAM_CALLS + 1];
    world_t *w = *state;
    int64_t begin;
    size_t i;

    reply(w, OK_HEAD, "{}");
    server_hang(w->server, true);
    start_calls(w, callers, MDM_ARRAY_LEN(callers));
    server_wait_hanging(w->server, MDM_UPSTREAM_CALLS);
    begin = mdm_mono_us(NULL);
    mdm_upstream_stop(w->upstream);
    end_calls(callers, MDM_ARRAY_LEN(callers));
    assert_true(mdm_mono_us(NULL) - begin < MDM_SEC / 2);
    for (i = 0; i < MDM_ARRAY_LEN(callers); i++) {
        assert_int_equal(callers[i].rc, MDM_EBUSY);
    }
    assert_int_equal(call(w), MDM_EBUSY);
    mdm_upstream_stop(NULL);
}

static bool is_set(void *ctx)
{
    return atomic_load((atomic_bool *)ctx);
}

static void test_stopping(void **state)
{
    atomic_bool stopping = false;
    caller_t callers[2];
    world_t *w = *state;
    int64_t took;

    w->config.stopping = is_set;
    w->config.stopping_ctx = &stopping;
    open_upstream(w);
    reply(w, OK_HEAD, "{}");
    server_hang(w->server, true);
    start_calls(w, callers, 2);
    server_wait_hanging(w->server, 2);
    took = mdm_mono_us(NULL);
    atomic_store(&stopping, true);
    end_calls(callers, 2);
    took = mdm_mono_us(NULL) - took;
    assert_true(took > MDM_SEC * 8 / 10 && took < 2 * MDM_SEC);
    assert_int_equal(callers[0].rc, MDM_EBUSY);
    assert_int_equal(callers[1].rc, MDM_EBUSY);
    /* Whoever comes meanwhile is served if it goes quickly. */
    server_hang(w->server, false);
    assert_int_equal(call(w), MDM_OK);
}

#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_header_values),
        WITH_SERVER(test_get),
        WITH_SERVER(test_put),
        WITH_SERVER(test_statuses),
        WITH_SERVER(test_signatures),
        WITH_SERVER(test_no_digest),
        WITH_SERVER(test_signed_404),
        WITH_SERVER(test_sizes),
        WITH_SERVER(test_unreachable),
        WITH_SERVER(test_time_limit),
        WITH_SERVER(test_tls),
        WITH_SERVER(test_places),
        WITH_SERVER(test_waiting),
        WITH_SERVER(test_stop),
        WITH_SERVER(test_stopping),
    };

    return cmocka_run_group_tests_name("upstream", tests, NULL, NULL);
}
