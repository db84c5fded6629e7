/*
 * t_conn_proxy.c - the TLS client through an HTTP proxy: what is asked of it,
 * every way it answers, and that TLS inside is verified as without one.  The
 * proxy is a thread on a free port of 127.0.0.1 that follows a script; the
 * server behind it is that of t_conn_server.h.
 */
#include "t_conn_world.h"

#include <signal.h>

#define OK_ANSWER "HTTP/1.1 200 Connection established\r\n\r\n"
#define BASIC "Basic dXNlcjpwYXNz"
#define REQUEST_MAX 2000

typedef enum after {
    AFTER_TUNNEL, /* to `target` */
    AFTER_CLOSE,
    AFTER_HANG,    /* until the client goes */
    AFTER_DRIBBLE, /* a byte now and then, until the client goes */
    AFTER_RESET
} after_t;

typedef struct proxy {
    /* set by the test */
    const char *answer;
    size_t answer_n; /* 0: the length of the text */
    bool deaf;       /* answers without reading */
    bool by_byte;
    after_t after;
    uint16_t target;
    /* of the proxy */
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    /* seen, read after proxy_end() */
    char request[REQUEST_MAX];
    size_t request_n;
    size_t carried; /* bytes from the client through the tunnel */
} proxy_t;

static void proxy_read(proxy_t *proxy, int fd)
{
    ssize_t n = 1;

    while (n > 0 && strstr(proxy->request, "\r\n\r\n") == NULL &&
           proxy->request_n < REQUEST_MAX - 1) {
        n = recv(fd, proxy->request + proxy->request_n,
                 REQUEST_MAX - 1 - proxy->request_n, 0);
        proxy->request_n += n > 0 ? (size_t)n : 0;
    }
}

static void proxy_answer(const proxy_t *proxy, int fd)
{
    size_t n = proxy->answer_n > 0 ? proxy->answer_n : strlen(proxy->answer);
    size_t i;

    if (!proxy->by_byte) {
        (void)send(fd, proxy->answer, n, MSG_NOSIGNAL);
        return;
    }
    for (i = 0; i < n; i++) {
        (void)send(fd, proxy->answer + i, 1, MSG_NOSIGNAL);
        (void)poll(NULL, 0, 1); /* so that it is seen by itself */
    }
}

static void proxy_tunnel(proxy_t *proxy, int fd)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd pfds[2] = {{.fd = fd, .events = POLLIN},
                             {.fd = other, .events = POLLIN}};
    char data[4096];
    ssize_t n = 1;
    int i;

    sin.sin_port = htons(proxy->target);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(other, (struct sockaddr *)&sin, sizeof(sin)) != 0) {
        n = 0;
    }
    while (n > 0 && poll(pfds, 2, WAIT_SECONDS * 1000) > 0) {
        for (i = 0; n > 0 && i < 2; i++) {
            if (pfds[i].revents != 0) {
                n = recv(pfds[i].fd, data, sizeof(data), 0);
                if (n > 0) {
                    proxy->carried += i == 0 ? (size_t)n : 0;
                    n = send(pfds[1 - i].fd, data, (size_t)n, MSG_NOSIGNAL);
                }
            }
        }
    }
    (void)close(other);
}

static void *proxy_run(void *arg)
{
    proxy_t *proxy = arg;
    struct pollfd pfd = {.fd = proxy->listen_fd, .events = POLLIN};
    struct timeval wait = {WAIT_SECONDS, 0};
    struct linger reset = {1, 0};
    char byte;
    int fd;
    int i;

    if (poll(&pfd, 1, WAIT_SECONDS * 1000) != 1) {
        return NULL;
    }
    fd = accept(proxy->listen_fd, NULL, NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (!proxy->deaf) {
        proxy_read(proxy, fd);
    }
    proxy_answer(proxy, fd);
    switch (proxy->after) {
    case AFTER_TUNNEL:
        proxy_tunnel(proxy, fd);
        break;
    case AFTER_HANG:
        (void)recv(fd, &byte, 1, 0);
        break;
    case AFTER_DRIBBLE:
        for (i = 0; i < 10000 && send(fd, "X", 1, MSG_NOSIGNAL) == 1; i++) {
            (void)poll(NULL, 0, 1);
        }
        break;
    case AFTER_RESET:
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        break;
    case AFTER_CLOSE:
        break;
    }
    (void)close(fd);
    return NULL;
}

static void proxy_start(proxy_t *proxy)
{
    proxy->listen_fd = listen_any(&proxy->port);
    assert_int_equal(pthread_create(&proxy->thread, NULL, proxy_run, proxy),
                     0);
}

static void proxy_end(proxy_t *proxy)
{
    (void)pthread_join(proxy->thread, NULL);
    (void)close(proxy->listen_fd);
}

/* Dials `host` through a proxy on 127.0.0.1. */
static mdm_rc dial_via(const mdm_conn_proxy_t *hop, const char *host,
                       uint16_t port, mdm_conn_t **conn_r, mdm_err_t *err)
{
    static mdm_conn_tls_t *tls;
    mdm_conn_config_t way = {.host = host,
                             .port = port,
                             .proxy = hop,
                             .timeout_us = WAIT_SECONDS * MDM_SEC};
    mdm_rc rc;

    if (hop == NULL) { /* after the last dial */
        mdm_conn_tls_free(&tls);
        return MDM_OK;
    }
    if (tls == NULL) {
        tls = tls_of(&pki.client, NULL);
    }
    way.tls = tls;
    rc = dial_way(&way, conn_r, err);
    if (rc == MDM_OK) {
        assert_int_equal(mdm_conn_deadline(*conn_r), INT64_MAX);
    }
    return rc;
}

/* --- it works ----------------------------------------------------------- */

static void check_tunnel(proxy_t *proxy, const char *host, uint16_t port,
                         const char *authorization, const char *request)
{
    server_t server = {.identity = &pki.server,
                       .client_ca = &pki.ca,
                       .alpn = "h2"};
    mdm_conn_proxy_t hop = {.host = "localhost",
                            .authorization = authorization};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    server_start(&server);
    proxy->target = server.port;
    proxy_start(proxy);
    hop.port = proxy->port;
    if (dial_via(&hop, host, port, &conn, &err) != MDM_OK) {
        fail_msg("%s", err.text);
    }
    exchange(conn);
    mdm_conn_free(&conn);
    proxy_end(proxy);
    server_end(&server);
    assert_string_equal(proxy->request, request);
    assert_true(proxy->carried > 400000);
    assert_string_equal(server.client, "client");
    assert_string_equal(server.sni, host[0] == 'l' ? host : "");
    assert_int_equal(server.echoed, 400000);
}

/* Both of the service's ports; the host is the proxy's to find. */
static void test_tunnel(void **state)
{
    proxy_t plain = {.answer = OK_ANSWER};
    proxy_t with = {.answer = OK_ANSWER};

    (void)state;
    check_tunnel(&plain, "localhost", 443, NULL,
                 "CONNECT localhost:443 HTTP/1.1\r\n"
                 "Host: localhost:443\r\n\r\n");
    check_tunnel(&with, "127.0.0.1", 2197, BASIC,
                 "CONNECT 127.0.0.1:2197 HTTP/1.1\r\n"
                 "Host: 127.0.0.1:2197\r\n"
                 "Proxy-Authorization: " BASIC "\r\n\r\n");
}

/* Answers that are unusual and good. */
static void test_good_answers(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200 \r\nVia: 1.1 x\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n" OK_ANSWER,
        "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
        "HTTP/1.1 102 Processing\r\n\r\n" OK_ANSWER,
    };
    proxy_t proxy;
    size_t i;

    (void)state;
    for (i = 0; i < 2 * MDM_ARRAY_LEN(answers); i++) {
        proxy = (proxy_t){.answer = answers[i / 2], .by_byte = i % 2 == 1};
        check_tunnel(&proxy, "localhost", 443, NULL,
                     "CONNECT localhost:443 HTTP/1.1\r\n"
                     "Host: localhost:443\r\n\r\n");
    }
}

/* --- the proxy does not ------------------------------------------------- */

static void check_refusal(proxy_t *proxy, const char *authorization,
                          const char *part)
{
    mdm_conn_proxy_t hop = {.host = "127.0.0.1",
                            .authorization = authorization};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    mdm_rc rc;

    proxy_start(proxy);
    hop.port = proxy->port;
    rc = dial_via(&hop, "push.test", 443, &conn, &err);
    if (rc != MDM_EUNAVAIL || strstr(err.text, part) == NULL) {
        fail_msg("after \"%s\": %d, %s", proxy->answer, rc, err.text);
    }
    assert_null(strstr(err.text, "dXNlcjpwYXNz"));
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CLOSED);
    assert_int_equal(mdm_conn_events(conn, true), 0);
    assert_int_equal(mdm_conn_deadline(conn), INT64_MAX);
    assert_int_equal(mdm_conn_step(conn, 0, NULL), MDM_EUNAVAIL);
    mdm_conn_free(&conn);
    proxy_end(proxy);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *answer;
        const char *authorization;
        const char *part;
    } cases[] = {
        {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", NULL,
         "the proxy 127.0.0.1 wants a user name and password (407 Proxy "
         "Authentication Required)"},
        {"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\nbody", BASIC,
         "refuses the user name and password (407 No)"},
        {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nbody", NULL,
         "does not connect to push.test:443 (status 502 Bad Gateway)"},
        {"HTTP/1.0 403 No\x1b[31m\x80way\r\n\r\n", NULL,
         "(status 403 No?[31m?way)"},
        {"HTTP/1.1 503\r\n\r\n", NULL, "(status 503)"},
        {"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n", NULL,
         "(status 301 Moved)"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", NULL, "(status 101"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", NULL,
         "(status 403 No)"},
        {OK_ANSWER "x", NULL, "sends more than its answer to CONNECT"},
        {OK_ANSWER OK_ANSWER, NULL, "sends more than its answer"},
        {"HTTP/2 200\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"HTTP/1.1 600 x\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"HTTP/1.1 099 x\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"HTTP/1.1 2000 x\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"HTTP/1.1  200 x\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"http/1.1 200 x\r\n\r\n", NULL, "does not answer in HTTP/1.1"},
        {"HTTP/1.1 100 x\r\n\r\nHTTQ", NULL, "does not answer in HTTP/1.1"},
        {"\r\n" OK_ANSWER, NULL, "does not answer in HTTP/1.1"},
        {"SSH-2.0-x\r\n", NULL, "does not answer in HTTP/1.1"},
        /* No end of a line: told apart by its first byte. */
        {"\x15\x03\x01", NULL, "does not answer in HTTP/1.1"},
    };
    proxy_t proxy;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        proxy = (proxy_t){.answer = cases[i].answer, .after = AFTER_HANG};
        check_refusal(&proxy, cases[i].authorization, cases[i].part);
    }
}

static void test_hang_ups(void **state)
{
    proxy_t nothing = {.answer = "", .after = AFTER_CLOSE};
    proxy_t half = {.answer = "HTTP/1.1 200 OK\r\nX",
                    .after = AFTER_CLOSE};
    proxy_t reset = {.answer = "", .after = AFTER_RESET};
    proxy_t deaf = {.answer = "HTTP/1.1 403 Not you\r\n\r\n",
                    .deaf = true,
                    .after = AFTER_HANG};

    (void)state;
    check_refusal(&nothing, NULL,
                  "the proxy 127.0.0.1 closed the connection instead of an "
                  "answer");
    check_refusal(&half, NULL,
                  "closed the connection in the middle of its answer");
    check_refusal(&reset, NULL, "the connection to the proxy 127.0.0.1 ");
    check_refusal(&deaf, BASIC, "(status 403 Not you)");
}

/* Without an end, in one line, in many, in interim answers: bounded. */
static void test_huge_answers(void **state)
{
    static const struct {
        const char *first;
        const char *more;
        bool fits;
    } cases[] = {
        {"HTTP/1.1 200 ", "x", false},
        {"HTTP/1.1 200 OK\r\n", "X: y\r\n", false},
        {"HTTP/1.1 100 x\r\n\r\n", "HTTP/1.1 100 x\r\n\r\n", false},
        {"HTTP/1.1 502 OK\r\n", "X: y\r\n", true},
    };
    char answer[20000];
    proxy_t proxy;
    size_t i;
    size_t n;
    size_t max;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        max = cases[i].fits ? 16380 : sizeof(answer) - 4;
        n = strlen(cases[i].first);
        memcpy(answer, cases[i].first, n);
        while (n + strlen(cases[i].more) < max) {
            memcpy(answer + n, cases[i].more, strlen(cases[i].more));
            n += strlen(cases[i].more);
        }
        memcpy(answer + n, "\r\n", 3);
        proxy = (proxy_t){.answer = answer, .after = AFTER_HANG};
        check_refusal(&proxy, NULL,
                      cases[i].fits ? "(status 502 OK)"
                                    : "sends an answer with too long a "
                                      "header");
    }
}

/* --- time --------------------------------------------------------------- */

/* One time limit for all: a proxy that keeps sending gets no more of it. */
static void test_slow(void **state)
{
    proxy_t proxy = {.answer = "HTTP/1.1 200 OK\r\n",
                     .after = AFTER_DRIBBLE};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_proxy_t hop = {.host = "127.0.0.1"};
    mdm_conn_config_t way = {.host = "push.test",
                             .port = 443,
                             .proxy = &hop,
                             .tls = tls,
                             .timeout_us = 5 * MDM_SEC};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    (void)state;
    proxy_start(&proxy);
    hop.port = proxy.port;
    assert_int_equal(mdm_conn_new(&way, MDM_SEC, &conn, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CONNECTING);
    assert_int_equal(mdm_conn_deadline(conn), 6 * MDM_SEC);
    wait_for(conn, false);
    assert_int_equal(mdm_conn_step(conn, 2 * MDM_SEC, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_PROXY);
    assert_int_equal(mdm_conn_events(conn, true), POLLIN);
    assert_int_equal(mdm_conn_deadline(conn), 6 * MDM_SEC);
    wait_for(conn, false);
    assert_int_equal(mdm_conn_step(conn, 6 * MDM_SEC - 1, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_PROXY);
    assert_int_equal(mdm_conn_step(conn, 6 * MDM_SEC, &err), MDM_ETIMEDOUT);
    expect_text(&err, "the proxy 127.0.0.1 does not finish its answer");
    mdm_conn_free(&conn);
    proxy_end(&proxy);
    /* Freed in the middle. */
    proxy = (proxy_t){.answer = "", .after = AFTER_HANG};
    proxy_start(&proxy);
    hop.port = proxy.port;
    hop.authorization = BASIC;
    assert_int_equal(mdm_conn_new(&way, MDM_SEC, &conn, &err), MDM_OK);
    wait_for(conn, false);
    assert_int_equal(mdm_conn_step(conn, 2 * MDM_SEC, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_PROXY);
    mdm_conn_free(&conn);
    proxy_end(&proxy);
    mdm_conn_tls_free(&tls);
}

/* --- the proxy is away; what is behind it ------------------------------- */

static void test_no_proxy(void **state)
{
    mdm_conn_proxy_t hop = {.host = "127.0.0.1"};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    int fd = listen_any(&hop.port);

    (void)state;
    (void)close(fd);
    assert_int_equal(dial_via(&hop, "localhost", 443, &conn, &err),
                     MDM_EUNAVAIL);
    expect_text(&err, "cannot connect to the proxy 127.0.0.1: Connection "
                      "refused");
    mdm_conn_free(&conn);
    hop.host = "nowhere.invalid";
    assert_int_equal(dial_via(&hop, "localhost", 443, &conn, &err),
                     MDM_EUNAVAIL);
    expect_text(&err, "cannot find the address of the proxy nowhere.invalid");
    assert_null(conn);
}

/* An IPv6 address as the host stands in brackets in what is asked; the
 * server's certificate has to name it. */
static void test_ipv6_host(void **state)
{
    server_t server = {.identity = &pki.server, .alpn = "h2"};
    proxy_t proxy = {.answer = OK_ANSWER};
    mdm_conn_proxy_t hop = {.host = "localhost"};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    (void)state;
    server_start(&server);
    proxy.target = server.port;
    proxy_start(&proxy);
    hop.port = proxy.port;
    assert_int_equal(dial_via(&hop, "2001:db8::1", 2197, &conn, &err),
                     MDM_EDENIED);
    expect_text(&err, "not one of 2001:db8::1 (host name mismatch)");
    mdm_conn_free(&conn);
    proxy_end(&proxy);
    server_end(&server);
    assert_string_equal(proxy.request,
                        "CONNECT [2001:db8::1]:2197 HTTP/1.1\r\n"
                        "Host: [2001:db8::1]:2197\r\n\r\n");
}

/* The certificate is compared with the host's name, never the proxy's; a
 * proxy that answers TLS itself is found out. */
static void test_verified(void **state)
{
    static const struct {
        const pair_t *identity;
        serve_t mode;
        mdm_rc rc;
        const char *host;
        const char *part;
    } cases[] = {
        {&pki.server, MODE_ECHO, MDM_EDENIED, "push.test",
         "not one of push.test (host name mismatch)"},
        {&pki.stray_server, MODE_ECHO, MDM_EDENIED, "localhost",
         "the server's certificate is not trusted"},
        {&pki.server, MODE_EARLY, MDM_EUNAVAIL, "localhost",
         "closed the connection during the TLS handshake"},
        {&pki.server, MODE_PLAIN, MDM_EUNAVAIL, "localhost",
         "the server does not speak TLS"},
    };
    mdm_conn_proxy_t hop = {.host = "localhost"};
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    server_t server;
    proxy_t proxy;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        server = (server_t){.identity = cases[i].identity,
                            .mode = cases[i].mode,
                            .alpn = "h2"};
        server_start(&server);
        proxy = (proxy_t){.answer = OK_ANSWER, .target = server.port};
        proxy_start(&proxy);
        hop.port = proxy.port;
        assert_int_equal(dial_via(&hop, cases[i].host, 443, &conn, &err),
                         cases[i].rc);
        expect_text(&err, cases[i].part);
        mdm_conn_free(&conn);
        proxy_end(&proxy);
        server_end(&server);
    }
}

/* Only the proxy that was given: the environment's is not used. */
static void test_environment(void **state)
{
    server_t server = {.identity = &pki.server,
                       .mode = MODE_BYE,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    (void)state;
    assert_int_equal(setenv("https_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_OK);
    mdm_conn_free(&conn);
    server_end(&server);
    mdm_conn_tls_free(&tls);
    (void)unsetenv("https_proxy");
    (void)unsetenv("HTTPS_PROXY");
    (void)unsetenv("ALL_PROXY");
}

static int end_all(void **state)
{
    (void)dial_via(NULL, NULL, 0, NULL, NULL);
    return tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_good_answers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_hang_ups),
        cmocka_unit_test(test_huge_answers),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_no_proxy),
        cmocka_unit_test(test_ipv6_host),
        cmocka_unit_test(test_verified),
        cmocka_unit_test(test_environment),
    };
    sigset_t pipe_only;

    /* As in the thread that uses connections. */
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
    return cmocka_run_group_tests(tests, set_up, end_all);
}
