/*
 * mdm_conn.h - one outgoing TCP + TLS connection on a non-blocking socket,
 * straight or through an HTTP proxy (CONNECT).
 *
 * Name resolution blocks (it may: the dispatcher has a thread of its own);
 * connect, handshake, read and write do not.  One thread.  Every descriptor
 * is close-on-exec.  TLS: 1.2 or later, ALPN "h2" offered and required, the
 * peer's chain and host name always verified; a proxy sees TLS only.  No
 * proxy but the one given is used: the environment is not looked at.
 */
#ifndef MDM_CONN_H
#define MDM_CONN_H

#include "mdm_base.h"
#include "mdm_err.h"

/* Client certificate and trust for connections of one push topic. */
typedef struct mdm_conn_tls mdm_conn_tls_t;

/* `cert_pem`: leaf first, then intermediates; `key_pem`: unencrypted.
 * `ca_file`: PEM bundle, NULL for the system's.  Loads them into a context
 * of its own; the key is not kept elsewhere.  MDM_EINVAL: unreadable or not
 * a pair.  MDM_ECONFIG: ca_file unreadable. */
mdm_rc mdm_conn_tls_new(mdm_str_t cert_pem, mdm_str_t key_pem,
                        const char *ca_file, mdm_conn_tls_t **tls_r,
                        mdm_err_t *err) MDM_USE_RESULT;
void mdm_conn_tls_free(mdm_conn_tls_t **tls);

typedef struct mdm_conn mdm_conn_t;

typedef enum mdm_conn_state {
    MDM_CONN_CONNECTING, /* TCP */
    MDM_CONN_PROXY,      /* CONNECT to the proxy and its answer */
    MDM_CONN_HANDSHAKE,  /* TLS */
    MDM_CONN_OPEN,
    MDM_CONN_CLOSED /* failed or ended by the peer */
} mdm_conn_state_t;

/* An HTTP proxy, reached in plain HTTP. */
typedef struct mdm_conn_proxy {
    const char *host;
    uint16_t port;
    /* Value of Proxy-Authorization, "Basic ..."; NULL: none.  Secret. */
    const char *authorization;
} mdm_conn_proxy_t;

/* Where to, and how; all borrowed for the life of the connection. */
typedef struct mdm_conn_config {
    const char *host; /* name or address without brackets */
    uint16_t port;
    const mdm_conn_proxy_t *proxy; /* NULL: straight */
    mdm_conn_tls_t *tls;
    int64_t timeout_us; /* for connect, proxy and handshake together */
} mdm_conn_config_t;

/* Resolves and starts to connect; tries every address in turn.
 * MDM_EINVAL: no usable name.  MDM_EUNAVAIL: name unknown, nothing to connect
 * to. */
mdm_rc mdm_conn_new(const mdm_conn_config_t *config, int64_t now_us,
                    mdm_conn_t **conn_r, mdm_err_t *err) MDM_USE_RESULT;
/* Closes (TLS close_notify where possible) and frees; sets *conn NULL. */
void mdm_conn_free(mdm_conn_t **conn);

mdm_conn_state_t mdm_conn_state(const mdm_conn_t *conn);
/* Ask anew after each step: another address is another descriptor. */
int mdm_conn_fd(const mdm_conn_t *conn);
/* POLLIN / POLLOUT to wait for; `want_write`: the owner has bytes to send. */
short mdm_conn_events(const mdm_conn_t *conn, bool want_write);
/* When connect, proxy or handshake must be done; INT64_MAX once open. */
int64_t mdm_conn_deadline(const mdm_conn_t *conn);

/* Goes on with connect, proxy and handshake.  MDM_OK: open or still under way
 * (see the state).  MDM_EUNAVAIL: cannot connect, or the proxy does not (text
 * has its status); MDM_ETIMEDOUT; MDM_EDENIED: the peer refused our
 * certificate or we refuse the peer's (text says which). */
mdm_rc mdm_conn_step(mdm_conn_t *conn, int64_t now_us, mdm_err_t *err)
    MDM_USE_RESULT;
/* Reads what is there, up to cap.  MDM_EAGAIN: nothing now; poll only after
 * that, bytes may be left inside TLS.  MDM_ECLOSED: ended or broken, said
 * after all that came before was handed out.  MDM_EDENIED: a TLS 1.3 peer
 * refused our certificate after the handshake.  Call it for POLLERR and
 * POLLHUP too. */
mdm_rc mdm_conn_read(mdm_conn_t *conn, void *dst, size_t cap, size_t *n_r,
                     mdm_err_t *err) MDM_USE_RESULT;
/* Writes up to n bytes, says how many.  MDM_EAGAIN: not now, also where the
 * connection is found broken: the next mdm_conn_read() says why.  Offer the
 * same bytes first the next time.
 * MDM_ECLOSED: that was said already. */
mdm_rc mdm_conn_write(mdm_conn_t *conn, const void *src, size_t n,
                      size_t *n_r, mdm_err_t *err) MDM_USE_RESULT;

#endif
