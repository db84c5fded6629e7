/*
 * t_conn_world.h - what the programs about connections share: certificates of
 * all parties, dialling, waiting.  For t_conn*.c, once in a program.
 */
#ifndef T_CONN_WORLD_H
#define T_CONN_WORLD_H

#include "t_conn_server.h"

#include "mdm_conn.h"
#include "mdm_str.h"
#include "mdm_time.h"

static struct {
    pair_t ca;
    pair_t other_ca;
    pair_t middle; /* an intermediate of `ca` */
    pair_t server;
    pair_t old_server;   /* expired */
    pair_t other_server; /* of another name */
    pair_t stray_server; /* of another CA */
    pair_t client;
    pair_t old_client;
    pair_t middle_client; /* issued by the intermediate */
    char dir[64];
    char ca_file[96];
} pki;


static inline int set_up(void **state)
{
    static const char names[] = "DNS:localhost,DNS:two.test,IP:127.0.0.1";
    char *pem;
    FILE *f;

    (void)state;
    pki.ca = make_cert("ca", NULL, NULL, 1, 10);
    pki.other_ca = make_cert("other ca", NULL, NULL, 1, 10);
    pki.middle = make_cert("middle", &pki.ca, NULL, 1, 10);
    pki.server = make_cert("server", &pki.ca, names, 0, 10);
    pki.old_server = make_cert("old", &pki.ca, names, 0, -1);
    pki.other_server = make_cert("localhost", &pki.ca,
                                 "DNS:other.example,IP:127.0.0.2", 0, 10);
    pki.stray_server = make_cert("stray", &pki.other_ca, names, 0, 10);
    pki.client = make_cert("client", &pki.ca, NULL, 0, 10);
    pki.old_client = make_cert("old client", &pki.ca, NULL, 0, -1);
    pki.middle_client = make_cert("middle client", &pki.middle, NULL, 0, 10);
    (void)snprintf(pki.dir, sizeof(pki.dir), "/tmp/t_conn.XXXXXX");
    assert_non_null(mkdtemp(pki.dir));
    (void)snprintf(pki.ca_file, sizeof(pki.ca_file), "%s/ca.pem", pki.dir);
    f = fopen(pki.ca_file, "w");
    assert_non_null(f);
    pem = cert_pem(&pki.ca, NULL);
    assert_true(fputs(pem, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(pem);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    pair_free(&pki.ca);
    pair_free(&pki.other_ca);
    pair_free(&pki.middle);
    pair_free(&pki.server);
    pair_free(&pki.old_server);
    pair_free(&pki.other_server);
    pair_free(&pki.stray_server);
    pair_free(&pki.client);
    pair_free(&pki.old_client);
    pair_free(&pki.middle_client);
    (void)unlink(pki.ca_file);
    (void)rmdir(pki.dir);
    return 0;
}

static inline mdm_conn_tls_t *tls_of(const pair_t *leaf, const pair_t *more)
{
    char *cert = cert_pem(leaf, more);
    char *key = key_pem(leaf, NULL);
    mdm_conn_tls_t *tls = NULL;
    mdm_err_t err = {.rc = MDM_OK};

    if (mdm_conn_tls_new((mdm_str_t){cert, strlen(cert)},
                         (mdm_str_t){key, strlen(key)}, pki.ca_file, &tls,
                         &err) != MDM_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ERR_peek_error(), 0);
    free(cert);
    free(key);
    return tls;
}

static inline void wait_for(const mdm_conn_t *conn, bool want_write)
{
    struct pollfd pfd = {.fd = mdm_conn_fd(conn),
                         .events = mdm_conn_events(conn, want_write)};

    assert_true(pfd.events != 0);
    assert_int_equal(poll(&pfd, 1, WAIT_SECONDS * 1000), 1);
}

/* Connects until the connection is open or failed. */
static inline mdm_rc dial_way(const mdm_conn_config_t *way,
                              mdm_conn_t **conn_r, mdm_err_t *err)
{
    bool tls_was;
    mdm_rc rc;

    rc = mdm_conn_new(way, mdm_mono_us(NULL), conn_r, err);
    while (rc == MDM_OK && mdm_conn_state(*conn_r) != MDM_CONN_OPEN) {
        assert_true(mdm_conn_deadline(*conn_r) < INT64_MAX);
        wait_for(*conn_r, false);
        /* An older error of the host's must not be taken for ours. */
        ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER);
        tls_was = mdm_conn_state(*conn_r) == MDM_CONN_HANDSHAKE;
        rc = mdm_conn_step(*conn_r, mdm_mono_us(NULL), err);
        assert_true(!tls_was || ERR_peek_error() == 0);
        ERR_clear_error();
    }
    return rc;
}

static inline mdm_rc dial(const char *host, uint16_t port,
                          mdm_conn_tls_t *tls, mdm_conn_t **conn_r,
                          mdm_err_t *err)
{
    mdm_conn_config_t way = {.host = host,
                             .port = port,
                             .tls = tls,
                             .timeout_us = WAIT_SECONDS * MDM_SEC};

    return dial_way(&way, conn_r, err);
}

static inline mdm_rc read_wait(mdm_conn_t *conn, void *dst, size_t cap,
                               size_t *n_r, mdm_err_t *err)
{
    mdm_rc rc;

    while ((rc = mdm_conn_read(conn, dst, cap, n_r, err)) == MDM_EAGAIN) {
        assert_int_equal(*n_r, 0);
        assert_int_equal(ERR_peek_error(), 0);
        wait_for(conn, false);
    }
    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

static inline void expect_text(const mdm_err_t *err, const char *part)
{
    if (strstr(err->text, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, err->text);
    }
    assert_null(strstr(err->text, "error:"));
}

/* Sends more than the socket takes at once and gets it back. */
static inline void exchange(mdm_conn_t *conn)
{
    enum { TOTAL = 400000 };
    static unsigned char out[TOTAL];
    static unsigned char in[TOTAL];
    mdm_err_t err;
    size_t sent = 0;
    size_t got = 0;
    size_t n;
    mdm_rc rc;

    for (n = 0; n < TOTAL; n++) {
        out[n] = (unsigned char)(n * 7 + n / 251);
    }
    while (got < TOTAL) {
        if (sent < TOTAL) {
            rc = mdm_conn_write(conn, out + sent, TOTAL - sent, &n, &err);
            assert_true(rc == MDM_OK || rc == MDM_EAGAIN);
            sent += n;
        }
        rc = mdm_conn_read(conn, in + got, TOTAL - got < 5000
                                               ? TOTAL - got
                                               : 5000,
                           &n, &err);
        assert_true(rc == MDM_OK || rc == MDM_EAGAIN);
        got += n;
        if (rc == MDM_EAGAIN) {
            wait_for(conn, sent < TOTAL);
        }
    }
    assert_memory_equal(in, out, TOTAL);
    assert_int_equal(mdm_conn_read(conn, in, 10, &n, &err), MDM_EAGAIN);
}

#endif
