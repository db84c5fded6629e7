/*
 * t_conn_server.h - certificates and a one-connection TLS server for
 * t_conn.c.  The server is a thread on a free port of 127.0.0.1; every wait
 * in it is bounded, so a failed test ends too.
 */
#ifndef T_CONN_SERVER_H
#define T_CONN_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define WAIT_SECONDS 10

typedef struct pair {
    X509 *cert;
    EVP_PKEY *key;
} pair_t;

/* --- certificates ------------------------------------------------------- */

static inline void add_ext(X509 *cert, X509 *issuer, int nid,
                           const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* A P-256 certificate.  No issuer: self-signed.  `san` NULL: none.  Valid
 * from a day ago until `days` from now. */
static inline pair_t make_cert(const char *name, const pair_t *issuer,
                               const char *san, int ca, int days)
{
    static long serial = 1;
    pair_t p = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *subject;

    assert_non_null(p.cert);
    assert_non_null(p.key);
    (void)X509_set_version(p.cert, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial++);
    (void)X509_gmtime_adj(X509_getm_notBefore(p.cert), -86400L * 3);
    (void)X509_gmtime_adj(X509_getm_notAfter(p.cert), 86400L * days);
    (void)X509_set_pubkey(p.cert, p.key);
    subject = X509_get_subject_name(p.cert);
    (void)X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    (void)X509_set_issuer_name(
        p.cert, X509_get_subject_name(issuer ? issuer->cert : p.cert));
    add_ext(p.cert, p.cert, NID_basic_constraints,
            ca ? "critical,CA:TRUE" : "CA:FALSE");
    add_ext(p.cert, p.cert, NID_subject_key_identifier, "hash");
    if (san != NULL) {
        add_ext(p.cert, p.cert, NID_subject_alt_name, san);
    }
    assert_true(X509_sign(p.cert, issuer ? issuer->key : p.key,
                          EVP_sha256()) > 0);
    return p;
}

static inline void pair_free(pair_t *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
    p->cert = NULL;
    p->key = NULL;
}

/* PEM text of a BIO, NUL-terminated; the BIO is freed. */
static inline char *bio_text(BIO *bio)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    char *text = malloc((size_t)n + 1);

    assert_non_null(text);
    memcpy(text, data, (size_t)n);
    text[n] = '\0';
    BIO_free(bio);
    return text;
}

static inline char *cert_pem(const pair_t *leaf, const pair_t *more)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_X509(bio, leaf->cert), 1);
    if (more != NULL) {
        assert_int_equal(PEM_write_bio_X509(bio, more->cert), 1);
    }
    return bio_text(bio);
}

static inline char *key_pem(const pair_t *p, const char *pass)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(
            bio, p->key, pass != NULL ? EVP_aes_128_cbc() : NULL, pass,
            pass != NULL ? (int)strlen(pass) : 0, NULL, NULL),
        1);
    return bio_text(bio);
}

/* --- the server --------------------------------------------------------- */

typedef enum serve {
    MODE_ECHO,  /* sends back what comes until the client ends */
    MODE_BYE,   /* reads, "bye", close_notify, close */
    MODE_CUT,   /* "bye", close without close_notify */
    MODE_RESET, /* reads, resets */
    MODE_EARLY, /* closes instead of a handshake */
    MODE_PLAIN  /* answers in plain HTTP/1 */
} serve_t;

typedef struct server {
    /* set by the test */
    serve_t mode;
    const pair_t *identity;
    const pair_t *client_ca; /* required of the client's certificate */
    int version;             /* TLS version, 0: any */
    const char *alpn;        /* "h2", "http/1.1", NULL: without */
    /* of the server */
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    SSL_CTX *ctx;
    /* seen, read after server_end() */
    char client[64]; /* CN of its certificate */
    char sni[64];
    size_t echoed;
    int polite; /* close_notify came */
} server_t;

static inline int pick_alpn(SSL *ssl, const unsigned char **out,
                            unsigned char *out_len, const unsigned char *in,
                            unsigned in_len, void *arg)
{
    server_t *server = arg;
    size_t len = strlen(server->alpn);
    unsigned i;

    (void)ssl;
    for (i = 0; i + 1 <= in_len; i += in[i] + 1u) {
        if (in[i] == len && memcmp(in + i + 1, server->alpn, len) == 0) {
            *out = in + i + 1;
            *out_len = (unsigned char)len;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static inline void note_client(server_t *server, SSL *ssl)
{
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    X509 *cert = SSL_get1_peer_certificate(ssl);

    (void)snprintf(server->sni, sizeof(server->sni), "%s", sni ? sni : "");
    if (cert != NULL) {
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert),
                                        NID_commonName, server->client,
                                        sizeof(server->client));
        X509_free(cert);
    }
}

static inline void echo(server_t *server, SSL *ssl)
{
    char data[3000];
    size_t put;
    int n;

    while ((n = SSL_read(ssl, data, sizeof(data))) > 0) {
        if (SSL_write_ex(ssl, data, (size_t)n, &put) != 1) {
            return;
        }
        server->echoed += put;
    }
    server->polite = SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN;
}

static inline void serve_tls(server_t *server, int fd)
{
    SSL *ssl = SSL_new(server->ctx);
    struct linger reset = {1, 0};
    char data[100];

    (void)SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        note_client(server, ssl);
        switch (server->mode) {
        case MODE_ECHO:
            echo(server, ssl);
            break;
        case MODE_BYE:
            /* Closing with unread bytes would reset, and lose "bye". */
            (void)SSL_read(ssl, data, sizeof(data));
            (void)SSL_write(ssl, "bye", 3);
            (void)SSL_shutdown(ssl);
            break;
        case MODE_CUT:
            (void)SSL_write(ssl, "bye", 3);
            break;
        case MODE_RESET:
            (void)SSL_read(ssl, data, sizeof(data));
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset,
                             sizeof(reset));
            break;
        case MODE_EARLY:
        case MODE_PLAIN:
            break;
        }
    }
    SSL_free(ssl);
}

static inline void *server_run(void *arg)
{
    static const char plain[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    server_t *server = arg;
    struct pollfd pfd = {.fd = server->listen_fd, .events = POLLIN};
    struct timeval wait = {WAIT_SECONDS, 0};
    char data[2000];
    int fd;

    if (poll(&pfd, 1, WAIT_SECONDS * 1000) != 1) {
        return NULL;
    }
    fd = accept(server->listen_fd, NULL, NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    if (server->mode == MODE_PLAIN) {
        (void)recv(fd, data, sizeof(data), 0);
        (void)send(fd, plain, sizeof(plain) - 1, MSG_NOSIGNAL);
    } else if (server->mode == MODE_EARLY) {
        (void)recv(fd, data, sizeof(data), 0);
    } else {
        serve_tls(server, fd);
    }
    (void)close(fd);
    OPENSSL_thread_stop();
    return NULL;
}

/* A listening socket on a free port. */
static inline int listen_any(uint16_t *port_r)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    *port_r = ntohs(sin.sin_port);
    return fd;
}

static inline void server_start(server_t *server)
{
    X509_STORE *store;

    server->ctx = SSL_CTX_new(TLS_server_method());
    assert_non_null(server->ctx);
    assert_int_equal(SSL_CTX_use_certificate(server->ctx,
                                             server->identity->cert),
                     1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->ctx,
                                            server->identity->key),
                     1);
    if (server->version != 0) {
        (void)SSL_CTX_set_min_proto_version(server->ctx, server->version);
        (void)SSL_CTX_set_max_proto_version(server->ctx, server->version);
    }
    if (server->alpn != NULL) {
        SSL_CTX_set_alpn_select_cb(server->ctx, pick_alpn, server);
    }
    if (server->client_ca != NULL) {
        store = SSL_CTX_get_cert_store(server->ctx);
        (void)X509_STORE_add_cert(store, server->client_ca->cert);
        SSL_CTX_set_verify(server->ctx,
                           SSL_VERIFY_PEER |
                               SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           NULL);
    }
    server->listen_fd = listen_any(&server->port);
    assert_int_equal(pthread_create(&server->thread, NULL, server_run,
                                    server),
                     0);
}

static inline void server_end(server_t *server)
{
    (void)pthread_join(server->thread, NULL);
    (void)close(server->listen_fd);
    SSL_CTX_free(server->ctx);
}

#endif
