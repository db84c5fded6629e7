/*
 * mdm_conn.c - TCP and TLS client on one non-blocking socket; what is said to
 * a proxy in between stands in mdm_conn_proxy.c.
 *
 * Addresses are tried in turn, each with its share of the time left.  A
 * connection that breaks while we write is not given up at once: reading goes
 * on, because the peer's reason (a TLS alert, a GOAWAY) is still on its way.
 * One thread, in which SIGPIPE is blocked.  OpenSSL's error queue belongs to
 * the host as well: cleared before each call and left empty.
 */
#include "mdm_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "mdm_conn_int.h"

#define MAX_ADDRESSES 16

/* --- connecting --------------------------------------------------------- */

static void close_fd(mdm_conn_t *conn)
{
    if (conn->fd >= 0) {
        (void)close(conn->fd);
        conn->fd = -1;
    }
}

/* Whom the socket is connected to, and the words before that in a text. */
static const char *dialled(const mdm_conn_t *conn)
{
    return conn->proxy != NULL ? conn->proxy->host : conn->host;
}

static const char *the_proxy(const mdm_conn_t *conn)
{
    return conn->proxy != NULL ? "the proxy " : "";
}

/* Starts to connect to the next address that takes it. */
static mdm_rc connect_next(mdm_conn_t *conn, int64_t now_us, mdm_err_t *err)
{
    int64_t left = conn->deadline_us - now_us;
    struct addrinfo *ai;
    int one = 1;

    close_fd(conn);
    while ((ai = conn->next) != NULL && conn->n_next > 0) {
        conn->address_us = now_us + left / conn->n_next;
        conn->next = ai->ai_next;
        conn->n_next--;
        conn->fd = socket(ai->ai_family,
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (conn->fd < 0) {
            conn->last_errno = errno;
            continue;
        }
        (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one,
                         sizeof(one));
        if (connect(conn->fd, ai->ai_addr, ai->ai_addrlen) == 0 ||
            errno == EINPROGRESS || errno == EINTR) {
            return MDM_OK;
        }
        conn->last_errno = errno;
        close_fd(conn);
    }
    conn->state = MDM_CONN_CLOSED;
    return mdm_err_set(err, MDM_EUNAVAIL, 0, "cannot connect to %s%s: %s",
                       the_proxy(conn), dialled(conn),
                       strerror(conn->last_errno));
}

static mdm_rc resolve(mdm_conn_t *conn, mdm_err_t *err)
{
    uint16_t port = conn->proxy != NULL ? conn->proxy->port : conn->port;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV};
    struct addrinfo *ai;
    char service[8];
    int rc;

    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    rc = getaddrinfo(dialled(conn), service, &hints, &conn->addresses);
    if (rc != 0) {
        conn->addresses = NULL;
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "cannot find the address of %s%s: %s",
                           the_proxy(conn), dialled(conn),
                           rc == EAI_SYSTEM ? strerror(errno)
                                            : gai_strerror(rc));
    }
    conn->next = conn->addresses;
    for (ai = conn->addresses; ai != NULL && conn->n_next < MAX_ADDRESSES;
         ai = ai->ai_next) {
        conn->n_next++;
    }
    return MDM_OK;
}

mdm_rc mdm_conn_new(const mdm_conn_config_t *config, int64_t now_us,
                    mdm_conn_t **conn_r, mdm_err_t *err)
{
    const char *host = config->host;
    mdm_conn_t *conn;
    mdm_rc rc;

    *conn_r = NULL;
    if (host == NULL || host[0] == '\0' || strlen(host) > MDM_CONN_HOST_MAX ||
        config->timeout_us <= 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the server's name is empty or too long");
    }
    conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return mdm_err_nomem(err);
    }
    conn->fd = -1;
    conn->tls = config->tls;
    conn->proxy = config->proxy;
    conn->port = config->port;
    conn->deadline_us = now_us + config->timeout_us;
    (void)snprintf(conn->host, sizeof(conn->host), "%s", host);
    rc = resolve(conn, err);
    if (rc == MDM_OK) {
        rc = connect_next(conn, now_us, err);
    }
    if (rc == MDM_OK) {
        *conn_r = conn;
        conn = NULL;
    }
    mdm_conn_free(&conn);
    return rc;
}

void mdm_conn_free(mdm_conn_t **conn)
{
    mdm_conn_t *c = *conn;

    *conn = NULL;
    if (c == NULL) {
        return;
    }
    if (c->state == MDM_CONN_OPEN && !c->broken && c->late.rc == MDM_OK) {
        ERR_clear_error();
        (void)SSL_shutdown(c->ssl);
        ERR_clear_error();
    }
    SSL_free(c->ssl);
    mdm_conn_hop_end(c);
    close_fd(c);
    if (c->addresses != NULL) {
        freeaddrinfo(c->addresses);
    }
    free(c);
}

/* The name the peer's certificate must hold, and SNI where it is a name. */
static bool set_name(mdm_conn_t *conn)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(conn->ssl);
    unsigned char address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, conn->host, address) == 1 ||
        inet_pton(AF_INET6, conn->host, address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, conn->host) == 1;
    }
    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, conn->host, 0) == 1 &&
           SSL_set_tlsext_host_name(conn->ssl, conn->host) == 1;
}

static mdm_rc start_tls(mdm_conn_t *conn, mdm_err_t *err)
{
    ERR_clear_error();
    conn->ssl = SSL_new(conn->tls->ctx);
    if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1 ||
        !set_name(conn)) {
        return mdm_err_openssl(err, MDM_ENOMEM, 0, "cannot start TLS");
    }
    SSL_set_connect_state(conn->ssl);
    conn->state = MDM_CONN_HANDSHAKE;
    return MDM_OK;
}

static mdm_rc step_connect(mdm_conn_t *conn, int64_t now_us, mdm_err_t *err)
{
    struct pollfd pfd = {.fd = conn->fd, .events = POLLOUT};
    int fault = 0;
    socklen_t len = sizeof(fault);

    if (poll(&pfd, 1, 0) > 0) {
        if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &fault, &len) != 0) {
            fault = errno;
        }
        if (fault == 0) {
            return conn->proxy != NULL ? mdm_conn_hop_start(conn, err)
                                       : start_tls(conn, err);
        }
        conn->last_errno = fault;
        return connect_next(conn, now_us, err);
    }
    if (now_us >= conn->address_us) {
        conn->last_errno = ETIMEDOUT;
        return connect_next(conn, now_us, err);
    }
    return MDM_OK;
}

static mdm_rc step_proxy(mdm_conn_t *conn, mdm_err_t *err)
{
    mdm_rc rc = mdm_conn_hop_step(conn, err);

    if (rc == MDM_EAGAIN) {
        return MDM_OK;
    }
    mdm_conn_hop_end(conn);
    return rc == MDM_OK ? start_tls(conn, err) : rc;
}

static mdm_rc step_handshake(mdm_conn_t *conn, mdm_err_t *err)
{
    const unsigned char *proto = NULL;
    unsigned len = 0;
    int errnum;
    int why;
    int rc;

    ERR_clear_error();
    errno = 0;
    rc = SSL_do_handshake(conn->ssl);
    if (rc != 1) {
        errnum = errno;
        why = SSL_get_error(conn->ssl, rc);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
            conn->wait = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
            return MDM_OK;
        }
        return mdm_conn_tls_fault(conn, why, errnum, MDM_EUNAVAIL, err);
    }
    SSL_get0_alpn_selected(conn->ssl, &proto, &len);
    if (len != 2 || memcmp(proto, "h2", 2) != 0) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "the server does not offer HTTP/2 (ALPN h2)");
    }
    conn->state = MDM_CONN_OPEN;
    return MDM_OK;
}

static mdm_rc timed_out(const mdm_conn_t *conn, mdm_err_t *err)
{
    if (conn->state == MDM_CONN_HANDSHAKE) {
        return mdm_err_set(err, MDM_ETIMEDOUT, 0,
                           "%s does not finish the TLS handshake",
                           conn->host);
    }
    if (conn->state == MDM_CONN_PROXY) {
        return mdm_err_set(err, MDM_ETIMEDOUT, 0,
                           "the proxy %s does not finish its answer to "
                           "CONNECT", conn->proxy->host);
    }
    return mdm_err_set(err, MDM_ETIMEDOUT, 0, "%s%s does not answer",
                       the_proxy(conn), dialled(conn));
}

mdm_rc mdm_conn_step(mdm_conn_t *conn, int64_t now_us, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    if (conn->state == MDM_CONN_CLOSED) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0, "the connection is closed");
    }
    if (conn->state == MDM_CONN_OPEN) {
        return MDM_OK;
    }
    if (now_us >= conn->deadline_us) {
        rc = timed_out(conn, err);
    } else if (conn->state == MDM_CONN_CONNECTING) {
        rc = step_connect(conn, now_us, err);
    }
    if (rc == MDM_OK && conn->state == MDM_CONN_PROXY) {
        rc = step_proxy(conn, err);
    }
    if (rc == MDM_OK && conn->state == MDM_CONN_HANDSHAKE) {
        rc = step_handshake(conn, err);
    }
    if (rc != MDM_OK) {
        conn->state = MDM_CONN_CLOSED;
    }
    return rc;
}

/* --- state -------------------------------------------------------------- */

mdm_conn_state_t mdm_conn_state(const mdm_conn_t *conn)
{
    return conn->state;
}

int mdm_conn_fd(const mdm_conn_t *conn)
{
    return conn->fd;
}

short mdm_conn_events(const mdm_conn_t *conn, bool want_write)
{
    switch (conn->state) {
    case MDM_CONN_CONNECTING:
        return POLLOUT;
    case MDM_CONN_PROXY:
    case MDM_CONN_HANDSHAKE:
        return conn->wait;
    case MDM_CONN_OPEN:
        want_write = want_write && !conn->write_wants_read && !conn->broken;
        return want_write || conn->read_wants_write ? POLLIN | POLLOUT
                                                    : POLLIN;
    case MDM_CONN_CLOSED:
        break;
    }
    return 0;
}

int64_t mdm_conn_deadline(const mdm_conn_t *conn)
{
    if (conn->state == MDM_CONN_CONNECTING &&
        conn->address_us < conn->deadline_us) {
        return conn->address_us;
    }
    return conn->state == MDM_CONN_OPEN || conn->state == MDM_CONN_CLOSED
               ? INT64_MAX
               : conn->deadline_us;
}

/* --- bytes -------------------------------------------------------------- */

/* A TLS 1.3 peer looks at our certificate after our side of the handshake;
 * where it refuses it while we send, its alert may be lost in a reset. */
static void add_hint(mdm_conn_t *conn)
{
    if (conn->late.rc == MDM_ECLOSED && !conn->heard &&
        SSL_version(conn->ssl) == TLS1_3_VERSION) {
        (void)mdm_err_prefix(&conn->late,
                             "the server said nothing after the TLS "
                             "handshake, perhaps it refused the client "
                             "certificate");
    }
}

/* Fills dst as far as there is something; a fault goes to conn->late. */
static size_t read_some(mdm_conn_t *conn, char *dst, size_t cap)
{
    size_t n = 0;
    size_t got;
    int errnum;
    int why;

    conn->read_wants_write = false;
    conn->write_wants_read = false;
    while (n < cap) {
        ERR_clear_error();
        errno = 0;
        got = 0;
        if (SSL_read_ex(conn->ssl, dst + n, cap - n, &got) == 1) {
            n += got;
            conn->heard = true;
            continue;
        }
        errnum = errno;
        why = SSL_get_error(conn->ssl, 0);
        if (why == SSL_ERROR_WANT_WRITE) {
            conn->read_wants_write = true;
        } else if (why != SSL_ERROR_WANT_READ) {
            (void)mdm_conn_tls_fault(conn, why, errnum, MDM_ECLOSED,
                                     &conn->late);
        } else if (conn->broken) {
            /* Cannot write, nothing to read: that is all we learn. */
            (void)mdm_err_set(&conn->late, MDM_ECLOSED, 0,
                              "the connection broke: %s",
                              strerror(conn->last_errno));
        }
        add_hint(conn);
        break;
    }
    return n;
}

mdm_rc mdm_conn_read(mdm_conn_t *conn, void *dst, size_t cap, size_t *n_r,
                     mdm_err_t *err)
{
    *n_r = 0;
    if (conn->state != MDM_CONN_OPEN) {
        return mdm_err_set(err, MDM_ECLOSED, 0, "the connection is closed");
    }
    if (conn->late.rc == MDM_OK) {
        *n_r = read_some(conn, dst, cap);
        if (*n_r > 0) {
            return MDM_OK;
        }
    }
    if (conn->late.rc == MDM_OK) {
        return MDM_EAGAIN;
    }
    conn->state = MDM_CONN_CLOSED;
    return mdm_err_set(err, conn->late.rc, conn->late.id, "%s",
                       conn->late.text);
}

mdm_rc mdm_conn_write(mdm_conn_t *conn, const void *src, size_t n,
                      size_t *n_r, mdm_err_t *err)
{
    int errnum;
    int why;

    *n_r = 0;
    if (conn->state != MDM_CONN_OPEN) {
        return mdm_err_set(err, MDM_ECLOSED, 0, "the connection is closed");
    }
    if (conn->broken || conn->late.rc != MDM_OK) {
        return MDM_EAGAIN;
    }
    if (n == 0) {
        return MDM_OK;
    }
    ERR_clear_error();
    errno = 0;
    if (SSL_write_ex(conn->ssl, src, n, n_r) == 1) {
        return MDM_OK;
    }
    errnum = errno;
    why = SSL_get_error(conn->ssl, 0);
    *n_r = 0;
    if (why == SSL_ERROR_WANT_READ) {
        conn->write_wants_read = true;
    } else if (why == SSL_ERROR_SYSCALL) {
        /* What the peer said before it went may still be read. */
        conn->broken = true;
        conn->last_errno = errnum;
    } else if (why != SSL_ERROR_WANT_WRITE) {
        conn->broken = true;
        (void)mdm_conn_tls_fault(conn, why, errnum, MDM_ECLOSED,
                                 &conn->late);
    }
    ERR_clear_error();
    return MDM_EAGAIN;
}
