/*
 * t_dispatch_peer.h - a small push service for t_dispatch_push.c and
 * t_dispatch_rules.c: TLS and HTTP/2 (an nghttp2 server session) on a free
 * port of 127.0.0.1, one thread a connection.  It answers each request with
 * the next status of a script, 200 behind its end, and counts.  Its counters
 * are atomic.
 */
#ifndef T_DISPATCH_PEER_H
#define T_DISPATCH_PEER_H

#include "testcert.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#define PEER_CONNECTIONS 16

typedef struct peer peer_t;

typedef struct link {
    peer_t *peer;
    pthread_t thread;
    int fd;
    SSL *ssl;
} link_t;

struct peer {
    SSL_CTX *ctx;
    int listen_fd;
    uint16_t port;
    pthread_t thread;
    const int *script; /* ends with 0; set before peer_start() */
    const char *reason;   /* of answers that are not 200; NULL: none */
    uint32_t max_streams; /* 0: not said */
    useconds_t delay_us;  /* before each answer, one after the other */
    link_t links[PEER_CONNECTIONS];
    atomic_int connections;
    atomic_int open; /* of these, those with a session */
    atomic_int requests;
    atomic_int next;
    atomic_int ending;
    char path[200]; /* of the first request */
};

static inline ssize_t peer_send(nghttp2_session *session, const uint8_t *data,
                                size_t n, int flags, void *arg)
{
    link_t *link = arg;

    (void)session;
    (void)flags;
    if (SSL_write(link->ssl, data, (int)n) <= 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

static inline int peer_header(nghttp2_session *session,
                              const nghttp2_frame *frame, const uint8_t *name,
                              size_t n, const uint8_t *value, size_t vn,
                              uint8_t flags, void *arg)
{
    link_t *link = arg;

    (void)session;
    (void)frame;
    (void)flags;
    if (n == 5 && memcmp(name, ":path", 5) == 0 &&
        atomic_load(&link->peer->requests) == 0) {
        (void)snprintf(link->peer->path, sizeof(link->peer->path), "%.*s",
                       (int)vn, (const char *)value);
    }
    return 0;
}

static inline ssize_t peer_body(nghttp2_session *session, int32_t stream,
                                uint8_t *buf, size_t cap, uint32_t *flags,
                                nghttp2_data_source *source, void *arg)
{
    const link_t *link = arg;

    (void)session;
    (void)stream;
    (void)source;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)snprintf((char *)buf, cap, "{\"reason\":\"%s\"}",
                             link->peer->reason);
}

static inline int peer_frame(nghttp2_session *session,
                             const nghttp2_frame *frame, void *arg)
{
    link_t *link = arg;
    peer_t *peer = link->peer;
    char status[8];
    nghttp2_nv nv = {(uint8_t *)(uintptr_t) ":status", (uint8_t *)status, 7,
                     3, NGHTTP2_NV_FLAG_NONE};
    nghttp2_data_provider body = {{.ptr = NULL}, peer_body};
    int code;

    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ||
        (frame->hd.type != NGHTTP2_DATA &&
         frame->hd.type != NGHTTP2_HEADERS)) {
        return 0;
    }
    code = peer->script[atomic_load(&peer->next)];
    if (code != 0) {
        (void)atomic_fetch_add(&peer->next, 1);
    } else {
        code = 200;
    }
    (void)snprintf(status, sizeof(status), "%d", code);
    if (peer->delay_us > 0) {
        (void)usleep(peer->delay_us);
    }
    (void)nghttp2_submit_response(
        session, frame->hd.stream_id, &nv, 1,
        code != 200 && peer->reason != NULL ? &body : NULL);
    (void)atomic_fetch_add(&peer->requests, 1);
    return 0;
}

static inline void peer_serve(link_t *link, nghttp2_session *session)
{
    uint8_t data[4096];
    int n;

    const nghttp2_settings_entry most = {
        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, link->peer->max_streams};

    (void)nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &most,
                                  link->peer->max_streams > 0 ? 1 : 0);
    while (nghttp2_session_send(session) == 0 &&
           (n = SSL_read(link->ssl, data, sizeof(data))) > 0 &&
           nghttp2_session_mem_recv(session, data, (size_t)n) == n) {
    }
}

static inline void *peer_link(void *arg)
{
    link_t *link = arg;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;

    (void)nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_send_callback(callbacks, peer_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, peer_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks,
                                                         peer_frame);
    (void)nghttp2_session_server_new(&session, callbacks, link);
    link->ssl = SSL_new(link->peer->ctx);
    (void)SSL_set_fd(link->ssl, link->fd);
    if (SSL_accept(link->ssl) == 1) {
        (void)atomic_fetch_add(&link->peer->open, 1);
        peer_serve(link, session);
        (void)atomic_fetch_sub(&link->peer->open, 1);
    }
    SSL_free(link->ssl);
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
    OPENSSL_thread_stop();
    return NULL;
}

static inline void *peer_accept(void *arg)
{
    peer_t *peer = arg;
    struct pollfd pfd = {.fd = peer->listen_fd, .events = POLLIN};
    link_t *link;
    int n = 0;
    int fd;

    while (!atomic_load(&peer->ending) && n < PEER_CONNECTIONS) {
        if (poll(&pfd, 1, 20) != 1 ||
            (fd = accept(peer->listen_fd, NULL, NULL)) < 0) {
            continue;
        }
        link = &peer->links[n++];
        link->peer = peer;
        link->fd = fd;
        (void)pthread_create(&link->thread, NULL, peer_link, link);
        (void)atomic_fetch_add(&peer->connections, 1);
    }
    return NULL;
}

static inline int peer_alpn(SSL *ssl, const unsigned char **out,
                            unsigned char *n, const unsigned char *in,
                            unsigned in_n, void *arg)
{
    (void)ssl;
    (void)arg;
    return nghttp2_select_next_protocol((unsigned char **)(uintptr_t)out, n,
                                        in, in_n) == 1
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static inline void peer_start(peer_t *peer, const testcert_t *identity)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);

    peer->ctx = SSL_CTX_new(TLS_server_method());
    assert_non_null(peer->ctx);
    assert_int_equal(SSL_CTX_use_certificate(peer->ctx, identity->cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(peer->ctx, identity->key), 1);
    SSL_CTX_set_alpn_select_cb(peer->ctx, peer_alpn, NULL);
    peer->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&sin,
                          sizeof(sin)), 0);
    assert_int_equal(listen(peer->listen_fd, 8), 0);
    assert_int_equal(getsockname(peer->listen_fd, (struct sockaddr *)&sin,
                                 &len), 0);
    peer->port = ntohs(sin.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_accept, peer),
                     0);
}

static inline void peer_end(peer_t *peer)
{
    int n;
    int i;

    atomic_store(&peer->ending, 1);
    (void)pthread_join(peer->thread, NULL);
    n = atomic_load(&peer->connections);
    for (i = 0; i < n; i++) {
        (void)shutdown(peer->links[i].fd, SHUT_RDWR);
        (void)pthread_join(peer->links[i].thread, NULL);
        (void)close(peer->links[i].fd);
    }
    (void)close(peer->listen_fd);
    SSL_CTX_free(peer->ctx);
}

#endif
