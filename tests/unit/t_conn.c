/*
 * t_conn.c - the TLS client against a small TLS server on 127.0.0.1: trust,
 * names, ALPN, client certificates accepted and refused under TLS 1.2 and
 * 1.3, time limits, every way a connection ends.  One name, "two.test", is
 * resolved here: to 127.0.0.2 first and 127.0.0.1 second.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>

#include "t_conn_world.h"

/* --- a name with two addresses ------------------------------------------ */

static struct sockaddr_in two_addresses[2];
static struct addrinfo two_infos[2];

int getaddrinfo(const char *host, const char *service,
                const struct addrinfo *hints, struct addrinfo **list_r)
{
    union {
        void *p;
        int (*call)(const char *, const char *, const struct addrinfo *,
                    struct addrinfo **);
    } real = {.p = dlsym(RTLD_NEXT, "getaddrinfo")};
    size_t i;

    if (strcmp(host, "two.test") != 0) {
        return real.call(host, service, hints, list_r);
    }
    for (i = 0; i < 2; i++) {
        two_addresses[i].sin_family = AF_INET;
        two_addresses[i].sin_port = htons((uint16_t)atoi(service));
        two_addresses[i].sin_addr.s_addr =
            htonl(INADDR_LOOPBACK + (i == 0 ? 1 : 0));
        two_infos[i].ai_family = AF_INET;
        two_infos[i].ai_addr = (struct sockaddr *)&two_addresses[i];
        two_infos[i].ai_addrlen = sizeof(two_addresses[i]);
        two_infos[i].ai_next = i == 0 ? &two_infos[1] : NULL;
    }
    *list_r = two_infos;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    union {
        void *p;
        void (*call)(struct addrinfo *);
    } real = {.p = dlsym(RTLD_NEXT, "freeaddrinfo")};

    if (list != two_infos) {
        real.call(list);
    }
}

/* --- helpers ------------------------------------------------------------ */

/* Without going on. */
static mdm_rc start(const char *host, uint16_t port, mdm_conn_tls_t *tls,
                    int64_t timeout_us, int64_t now_us, mdm_conn_t **conn_r,
                    mdm_err_t *err)
{
    mdm_conn_config_t way = {.host = host,
                             .port = port,
                             .tls = tls,
                             .timeout_us = timeout_us};

    return mdm_conn_new(&way, now_us, conn_r, err);
}

/* Dials a server that must not be reached, returns why in *err. */
static void expect_refusal(server_t *server, const pair_t *client, mdm_rc rc,
                           const char *part)
{
    mdm_conn_tls_t *tls = tls_of(client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    server_start(server);
    assert_int_equal(dial("127.0.0.1", server->port, tls, &conn, &err), rc);
    expect_text(&err, part);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CLOSED);
    assert_int_equal(mdm_conn_events(conn, true), 0);
    assert_int_equal(mdm_conn_deadline(conn), INT64_MAX);
    assert_int_equal(mdm_conn_step(conn, 0, NULL), MDM_EUNAVAIL);
    mdm_conn_free(&conn);
    server_end(server);
    mdm_conn_tls_free(&tls);
}

/* --- it works ----------------------------------------------------------- */

static void check_success(const char *host, const char *sni, int version)
{
    server_t server = {.identity = &pki.server,
                       .client_ca = &pki.ca,
                       .version = version,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    server_start(&server);
    if (dial(host, server.port, tls, &conn, &err) != MDM_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(mdm_conn_deadline(conn), INT64_MAX);
    assert_int_equal(mdm_conn_events(conn, false), POLLIN);
    assert_int_equal(mdm_conn_events(conn, true), POLLIN | POLLOUT);
    assert_true((fcntl(mdm_conn_fd(conn), F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(mdm_conn_fd(conn), F_GETFL) & O_NONBLOCK) != 0);
    assert_int_equal(mdm_conn_step(conn, INT64_MAX, &err), MDM_OK);
    exchange(conn);
    mdm_conn_free(&conn);
    assert_null(conn);
    server_end(&server);
    assert_string_equal(server.sni, sni);
    assert_string_equal(server.client, "client");
    assert_int_equal(server.echoed, 400000);
    assert_true(server.polite);
    mdm_conn_tls_free(&tls);
    assert_null(tls);
}

static void test_success(void **state)
{
    (void)state;
    check_success("localhost", "localhost", TLS1_2_VERSION);
    check_success("localhost", "localhost", TLS1_3_VERSION);
    check_success("127.0.0.1", "", TLS1_3_VERSION);
}

static void test_chain_is_sent(void **state)
{
    server_t server = {.identity = &pki.server,
                       .client_ca = &pki.ca,
                       .mode = MODE_BYE,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.middle_client, &pki.middle);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    char text[8];
    size_t n;

    (void)state;
    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_OK);
    assert_int_equal(mdm_conn_write(conn, "x", 1, &n, &err), MDM_OK);
    assert_int_equal(read_wait(conn, text, sizeof(text), &n, &err), MDM_OK);
    mdm_conn_free(&conn);
    server_end(&server);
    assert_string_equal(server.client, "middle client");
    mdm_conn_tls_free(&tls);
}

/* --- we refuse the peer ------------------------------------------------- */

static void test_untrusted(void **state)
{
    server_t stray = {.identity = &pki.stray_server, .alpn = "h2"};
    server_t old = {.identity = &pki.old_server, .alpn = "h2"};

    (void)state;
    expect_refusal(&stray, &pki.client, MDM_EDENIED,
                   "the server's certificate is not trusted: unable to get "
                   "local issuer certificate");
    expect_refusal(&old, &pki.client, MDM_EDENIED,
                   "not trusted: certificate has expired");
}

static void test_wrong_name(void **state)
{
    server_t server = {.identity = &pki.other_server, .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    (void)state;
    expect_refusal(&server, &pki.client, MDM_EDENIED, "host name mismatch");
    /* The same by name; the CN does not count where there are names. */
    server = (server_t){.identity = &pki.other_server, .alpn = "h2"};
    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_EDENIED);
    expect_text(&err, "localhost (host name mismatch)");
    mdm_conn_free(&conn);
    server_end(&server);
    mdm_conn_tls_free(&tls);
}

static void test_no_h2(void **state)
{
    server_t without = {.identity = &pki.server};
    server_t other = {.identity = &pki.server, .alpn = "http/1.1"};

    (void)state;
    expect_refusal(&without, &pki.client, MDM_EUNAVAIL,
                   "the server does not offer HTTP/2");
    expect_refusal(&other, &pki.client, MDM_EUNAVAIL,
                   "the server does not offer HTTP/2");
}

static void test_not_tls(void **state)
{
    server_t plain = {.identity = &pki.server, .mode = MODE_PLAIN};
    server_t early = {.identity = &pki.server, .mode = MODE_EARLY};
    server_t old = {.identity = &pki.server, .version = TLS1_1_VERSION};

    (void)state;
    expect_refusal(&plain, &pki.client, MDM_EUNAVAIL,
                   "the server does not speak TLS");
    expect_refusal(&early, &pki.client, MDM_EUNAVAIL,
                   "closed the connection during the TLS handshake");
    expect_refusal(&old, &pki.client, MDM_EUNAVAIL,
                   "neither TLS 1.2 nor TLS 1.3");
}

/* --- the peer refuses us ------------------------------------------------ */

static void test_refused_tls12(void **state)
{
    server_t server = {.identity = &pki.server,
                       .client_ca = &pki.other_ca,
                       .version = TLS1_2_VERSION,
                       .alpn = "h2"};
    server_t old = {.identity = &pki.server,
                    .client_ca = &pki.ca,
                    .version = TLS1_2_VERSION,
                    .alpn = "h2"};

    (void)state;
    expect_refusal(&server, &pki.client, MDM_EDENIED,
                   "the push service refused the client certificate (alert: "
                   "unknown CA)");
    expect_refusal(&old, &pki.old_client, MDM_EDENIED,
                   "(alert: certificate expired)");
}

/* Under TLS 1.3 the refusal comes after our side of the handshake.  With
 * `writes` we are sending when it comes. */
static void check_refused_tls13(const pair_t *client, const pair_t *ca,
                                const char *part, bool writes)
{
    static const char junk[2000];
    server_t server = {.identity = &pki.server,
                       .client_ca = ca,
                       .version = TLS1_3_VERSION,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    char text[8];
    size_t n;
    int i;

    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_OK);
    if (writes) {
        server_end(&server); /* alert and FIN are under way or here */
        for (i = 0; i < 5; i++) {
            assert_true(mdm_conn_write(conn, junk, sizeof(junk), &n, &err) !=
                        MDM_ECLOSED);
        }
    }
    assert_int_equal(read_wait(conn, text, sizeof(text), &n, &err),
                     MDM_EDENIED);
    assert_int_equal(n, 0);
    expect_text(&err, part);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CLOSED);
    assert_int_equal(mdm_conn_read(conn, text, 1, &n, &err), MDM_ECLOSED);
    assert_int_equal(mdm_conn_write(conn, "x", 1, &n, &err), MDM_ECLOSED);
    mdm_conn_free(&conn);
    if (!writes) {
        server_end(&server);
    }
    mdm_conn_tls_free(&tls);
}

static void test_refused_tls13(void **state)
{
    (void)state;
    check_refused_tls13(&pki.client, &pki.other_ca, "(alert: unknown CA)",
                        false);
    check_refused_tls13(&pki.old_client, &pki.ca,
                        "the push service refused the client certificate "
                        "(alert: certificate expired)",
                        false);
    check_refused_tls13(&pki.old_client, &pki.ca,
                        "(alert: certificate expired)", true);
}

/* --- not reached -------------------------------------------------------- */

static void test_connection_refused(void **state)
{
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    uint16_t port;
    int fd = listen_any(&port);

    (void)state;
    (void)close(fd);
    assert_int_equal(dial("127.0.0.1", port, tls, &conn, &err),
                     MDM_EUNAVAIL);
    expect_text(&err, "cannot connect to 127.0.0.1: Connection refused");
    mdm_conn_free(&conn);
    assert_int_equal(dial("localhost", port, tls, &conn, &err),
                     MDM_EUNAVAIL);
    expect_text(&err, "Connection refused");
    mdm_conn_free(&conn);
    mdm_conn_tls_free(&tls);
}

/* Nobody listens at the first address: the second is taken. */
static void test_second_address(void **state)
{
    (void)state;
    check_success("two.test", "two.test", TLS1_3_VERSION);
}

/* The first address is silent: it gets its share of the time only. */
static void test_silent_address(void **state)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    int fill[3];
    uint16_t port;
    int fd = listen_any(&port);
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t i;

    (void)state;
    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    assert_int_equal(bind(silent, (struct sockaddr *)&sin, sizeof(sin)), 0);
    /* With its queue full the kernel drops what wants to connect. */
    assert_int_equal(listen(silent, 0), 0);
    for (i = 0; i < MDM_ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                         0);
        (void)connect(fill[i], (struct sockaddr *)&sin, sizeof(sin));
    }
    assert_int_equal(start("two.test", port, tls, 8 * MDM_SEC, 0, &conn,
                           &err),
                     MDM_OK);
    assert_int_equal(mdm_conn_deadline(conn), 4 * MDM_SEC);
    assert_int_equal(mdm_conn_step(conn, 4 * MDM_SEC - 1, &err), MDM_OK);
    assert_int_equal(mdm_conn_deadline(conn), 4 * MDM_SEC);
    assert_int_equal(mdm_conn_step(conn, 4 * MDM_SEC, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CONNECTING);
    assert_int_equal(mdm_conn_deadline(conn), 8 * MDM_SEC);
    wait_for(conn, false);
    assert_int_equal(mdm_conn_step(conn, 5 * MDM_SEC, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_HANDSHAKE);
    mdm_conn_free(&conn);
    for (i = 0; i < MDM_ARRAY_LEN(fill); i++) {
        (void)close(fill[i]);
    }
    (void)close(silent);
    (void)close(fd);
    mdm_conn_tls_free(&tls);
}

static void test_bad_names(void **state)
{
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    char host[400];

    (void)state;
    /* A label that long exists nowhere and is not asked for. */
    memset(host, 'a', sizeof(host));
    host[70] = '\0';
    assert_int_equal(start(host, 443, tls, MDM_SEC, 0, &conn, &err),
                     MDM_EUNAVAIL);
    expect_text(&err, "cannot find the address of aaaa");
    assert_null(conn);
    host[70] = 'a';
    host[256] = '\0';
    assert_int_equal(start(host, 443, tls, MDM_SEC, 0, &conn, &err),
                     MDM_EINVAL);
    assert_int_equal(start("", 443, tls, MDM_SEC, 0, &conn, &err),
                     MDM_EINVAL);
    assert_int_equal(start(NULL, 443, tls, MDM_SEC, 0, &conn, &err),
                     MDM_EINVAL);
    mdm_conn_tls_free(&tls);
}

/* Nobody accepts: TCP connects, the handshake hangs.  Our own clock. */
static void test_timeouts(void **state)
{
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    uint16_t port;
    int fd = listen_any(&port);

    (void)state;
    assert_int_equal(start("127.0.0.1", port, tls, 5 * MDM_SEC, MDM_SEC,
                           &conn, &err),
                     MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CONNECTING);
    assert_int_equal(mdm_conn_events(conn, false), POLLOUT);
    assert_int_equal(mdm_conn_deadline(conn), 6 * MDM_SEC);
    wait_for(conn, false);
    assert_int_equal(mdm_conn_step(conn, 2 * MDM_SEC, &err), MDM_OK);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_HANDSHAKE);
    assert_int_equal(mdm_conn_events(conn, true), POLLIN);
    assert_int_equal(mdm_conn_deadline(conn), 6 * MDM_SEC);
    assert_int_equal(mdm_conn_step(conn, 6 * MDM_SEC - 1, &err), MDM_OK);
    assert_int_equal(mdm_conn_step(conn, 6 * MDM_SEC, &err), MDM_ETIMEDOUT);
    expect_text(&err, "does not finish the TLS handshake");
    mdm_conn_free(&conn);
    assert_int_equal(start("127.0.0.1", port, tls, 5 * MDM_SEC, MDM_SEC,
                           &conn, &err),
                     MDM_OK);
    assert_int_equal(mdm_conn_step(conn, 6 * MDM_SEC, &err), MDM_ETIMEDOUT);
    expect_text(&err, "127.0.0.1 does not answer");
    mdm_conn_free(&conn);
    /* Freed in the middle. */
    assert_int_equal(start("127.0.0.1", port, tls, 5 * MDM_SEC, MDM_SEC,
                           &conn, &err),
                     MDM_OK);
    mdm_conn_free(&conn);
    mdm_conn_free(&conn);
    (void)close(fd);
    mdm_conn_tls_free(&tls);
}

/* --- the end ------------------------------------------------------------ */

static void check_end(serve_t mode, int version, const char *text,
                      const char *part)
{
    server_t server = {.identity = &pki.server,
                       .mode = mode,
                       .version = version,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    char got[8];
    size_t n;

    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_OK);
    assert_int_equal(mdm_conn_write(conn, "x", 1, &n, &err), MDM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(mdm_conn_write(conn, "x", 0, &n, &err), MDM_OK);
    if (text != NULL) {
        assert_int_equal(read_wait(conn, got, sizeof(got), &n, &err),
                         MDM_OK);
        assert_int_equal(n, strlen(text));
        assert_memory_equal(got, text, n);
    }
    assert_int_equal(read_wait(conn, got, sizeof(got), &n, &err),
                     MDM_ECLOSED);
    expect_text(&err, part);
    assert_int_equal(mdm_conn_state(conn), MDM_CONN_CLOSED);
    mdm_conn_free(&conn);
    server_end(&server);
    mdm_conn_tls_free(&tls);
}

static void test_peer_ends(void **state)
{
    (void)state;
    check_end(MODE_BYE, TLS1_2_VERSION, "bye",
              "the server closed the connection");
    check_end(MODE_BYE, TLS1_3_VERSION, "bye",
              "the server closed the connection");
    check_end(MODE_RESET, TLS1_2_VERSION, NULL, "the connection broke: ");
    /* A refusal may be lost in a reset: say that it can be one. */
    check_end(MODE_RESET, TLS1_3_VERSION, NULL,
              "perhaps it refused the client certificate: the connection "
              "broke: ");
}

/* The peer's last words are read though writing fails already. */
static void test_last_words(void **state)
{
    static const char junk[3000];
    server_t server = {.identity = &pki.server,
                       .mode = MODE_CUT,
                       .alpn = "h2"};
    mdm_conn_tls_t *tls = tls_of(&pki.client, NULL);
    mdm_conn_t *conn = NULL;
    mdm_err_t err = {.rc = MDM_OK};
    char got[8];
    size_t n;
    int i;

    (void)state;
    server_start(&server);
    assert_int_equal(dial("localhost", server.port, tls, &conn, &err),
                     MDM_OK);
    server_end(&server);
    for (i = 0; i < 5; i++) {
        assert_true(mdm_conn_write(conn, junk, sizeof(junk), &n, &err) !=
                    MDM_ECLOSED);
    }
    assert_int_equal(mdm_conn_write(conn, junk, 1, &n, &err), MDM_EAGAIN);
    assert_int_equal(mdm_conn_events(conn, true), POLLIN);
    assert_int_equal(read_wait(conn, got, sizeof(got), &n, &err), MDM_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(got, "bye", 3);
    assert_int_equal(read_wait(conn, got, sizeof(got), &n, &err),
                     MDM_ECLOSED);
    mdm_conn_free(&conn);
    mdm_conn_tls_free(&tls);
}

/* --- certificates that do not load -------------------------------------- */

static void check_load(const char *cert, const char *key, const char *ca,
                       mdm_rc rc, const char *part)
{
    mdm_conn_tls_t *tls = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    assert_int_equal(mdm_conn_tls_new(mdm_str_from(cert), mdm_str_from(key),
                                      ca, &tls, &err),
                     rc);
    assert_null(tls);
    assert_int_equal(err.rc, rc);
    expect_text(&err, part);
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_loading(void **state)
{
    char *cert = cert_pem(&pki.client, NULL);
    char *chain = cert_pem(&pki.client, &pki.middle);
    char *key = key_pem(&pki.client, NULL);
    char *other = key_pem(&pki.server, NULL);
    char *sealed = key_pem(&pki.client, "secret");
    char *long_chain = calloc(1, 20 * strlen(cert) + 1);
    mdm_conn_tls_t *tls = NULL;
    int i;

    (void)state;
    check_load("", key, NULL, MDM_EINVAL, "not readable as PEM");
    check_load(NULL, key, NULL, MDM_EINVAL, "not readable as PEM");
    check_load("junk", key, NULL, MDM_EINVAL, "not readable as PEM");
    check_load(key, key, NULL, MDM_EINVAL, "not readable as PEM");
    check_load(cert, "", NULL, MDM_EINVAL, "private key is not readable");
    check_load(cert, cert, NULL, MDM_EINVAL, "private key is not readable");
    check_load(cert, other, NULL, MDM_EINVAL,
               "the private key does not belong to the client certificate");
    check_load(cert, sealed, NULL, MDM_EINVAL, "encrypted");
    check_load(cert, key, "/nonexistent/ca.pem", MDM_ECONFIG,
               "/nonexistent/ca.pem: No such file or directory");
    check_load(cert, key, "/dev/null", MDM_ECONFIG, "/dev/null: ");
    assert_non_null(long_chain);
    for (i = 0; i < 20; i++) {
        strcat(long_chain, cert);
    }
    check_load(long_chain, key, NULL, MDM_EINVAL, "too long");
    chain[strlen(chain) - 40] = '\0';
    check_load(chain, key, NULL, MDM_EINVAL, "chain");
    /* The system's authorities, and freeing twice. */
    assert_int_equal(mdm_conn_tls_new(mdm_str_from(cert), mdm_str_from(key),
                                      NULL, &tls, NULL),
                     MDM_OK);
    mdm_conn_tls_free(&tls);
    mdm_conn_tls_free(&tls);
    free(cert);
    free(chain);
    free(key);
    free(other);
    free(sealed);
    free(long_chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_chain_is_sent),
        cmocka_unit_test(test_untrusted),
        cmocka_unit_test(test_wrong_name),
        cmocka_unit_test(test_no_h2),
        cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_refused_tls12),
        cmocka_unit_test(test_refused_tls13),
        cmocka_unit_test(test_connection_refused),
        cmocka_unit_test(test_second_address),
        cmocka_unit_test(test_silent_address),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_peer_ends),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_loading),
    };
    sigset_t pipe_only;

    /* As in the thread that uses connections. */
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, NULL);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
