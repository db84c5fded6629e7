/*
 * mdm_conn_int.h - what mdm_conn.c (sockets), mdm_conn_proxy.c (CONNECT) and
 * mdm_conn_tls.c (client certificate, trust, faults) share; nobody else
 * includes it.
 */
#ifndef MDM_CONN_INT_H
#define MDM_CONN_INT_H

#include <openssl/ssl.h>

#include "mdm_conn.h"

#define MDM_CONN_HOST_MAX 255

struct mdm_conn_tls {
    SSL_CTX *ctx;
};

/* A conversation with a proxy; its request holds a secret. */
typedef struct mdm_conn_hop mdm_conn_hop_t;

struct mdm_conn {
    mdm_conn_state_t state;
    int fd;
    SSL *ssl;
    mdm_conn_tls_t *tls; /* borrowed */
    char host[MDM_CONN_HOST_MAX + 1];
    uint16_t port;
    const mdm_conn_proxy_t *proxy; /* borrowed; NULL: none */
    mdm_conn_hop_t *hop;           /* in MDM_CONN_PROXY */
    struct addrinfo *addresses;
    struct addrinfo *next; /* the address to try next */
    int n_next;            /* how many are left from there */
    int64_t deadline_us;   /* of connect and handshake */
    int64_t address_us;    /* of connecting to this address */
    int last_errno;        /* why the last address failed */
    short wait;            /* what proxy or handshake waits for */
    bool heard;            /* the peer sent something after the handshake */
    bool read_wants_write;
    bool write_wants_read;
    bool broken;    /* no more writing; read says why */
    mdm_err_t late; /* fault to report by the next read */
};

/* Turns to the proxy that fd is connected to.  MDM_ENOMEM. */
mdm_rc mdm_conn_hop_start(mdm_conn_t *conn, mdm_err_t *err) MDM_USE_RESULT;
/* Goes on.  MDM_OK: the way to the host is open, fd carries its bytes from
 * here on.  MDM_EAGAIN: wait for conn->wait.  MDM_EUNAVAIL: it is not, and
 * why. */
mdm_rc mdm_conn_hop_step(mdm_conn_t *conn, mdm_err_t *err) MDM_USE_RESULT;
/* Wipes and frees; sets conn->hop NULL. */
void mdm_conn_hop_end(mdm_conn_t *conn);

/* Says why TLS input or output failed and empties OpenSSL's error queue.
 * `why` comes from SSL_get_error(); `other` is the code where the fault is
 * not about certificates. */
mdm_rc mdm_conn_tls_fault(const mdm_conn_t *conn, int why, int errnum,
                          mdm_rc other, mdm_err_t *err);

#endif
