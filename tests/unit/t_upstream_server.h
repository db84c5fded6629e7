/*
 * t_upstream_server.h - a small HTTP server on a free port of 127.0.0.1 for
 * t_upstream.c: a thread for each connection, with TLS or without, that
 * answers every request with the bytes it was told and keeps the last one.
 * Every wait in it is bounded, so a failed test ends too.
 */
#ifndef T_UPSTREAM_SERVER_H
#define T_UPSTREAM_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "testcert.h"

#define SERVER_WAIT_MS 30000
#define SERVER_CONNECTIONS 64

struct server;

typedef struct peer {
    struct server *server;
    pthread_t thread;
    int fd;
    SSL *ssl;
} peer_t;

typedef struct server {
    int fd;
    unsigned port;
    pthread_t thread;
    SSL_CTX *tls; /* NULL: plain */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    peer_t peers[SERVER_CONNECTIONS + 1];
    unsigned connections;
    unsigned requests;
    unsigned hanging; /* requests that wait for `hang` to end */
    bool hang;
    bool ending;
    char *reply; /* whole answer, head and body; owned */
    size_t nreply;
    char head[8192]; /* of the last request, with its blank line */
    char body[4096];
    size_t nbody;
} server_t;

static inline bool peer_ready(const peer_t *p)
{
    struct pollfd pfd = {.fd = p->fd, .events = POLLIN};

    return (p->ssl != NULL && SSL_pending(p->ssl) > 0) ||
           poll(&pfd, 1, SERVER_WAIT_MS) > 0;
}

static inline ssize_t peer_read(peer_t *p, char *dst, size_t n)
{
    if (!peer_ready(p)) {
        return -1;
    }
    return p->ssl != NULL ? SSL_read(p->ssl, dst, (int)n)
                          : recv(p->fd, dst, n, 0);
}

static inline bool peer_write(peer_t *p, const char *src, size_t n)
{
    ssize_t done;

    while (n > 0) {
        done = p->ssl != NULL ? SSL_write(p->ssl, src, (int)n)
                              : send(p->fd, src, n, MSG_NOSIGNAL);
        if (done <= 0) {
            return false;
        }
        src += done;
        n -= (size_t)done;
    }
    return true;
}

/* Value of a header of the last request, trimmed of one blank; "" when it is
 * absent, which no test mistakes for one. */
static inline const char *server_header(server_t *s, const char *name)
{
    static _Thread_local char value[1024];
    const char *line = s->head;
    size_t n = strlen(name);
    const char *end;

    value[0] = '\0';
    for (; (end = strstr(line, "\r\n")) != NULL && end != line;
         line = end + 2) {
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            (void)snprintf(value, sizeof(value), "%.*s",
                           (int)(end - line - (long)n - 2), line + n + 2);
        }
    }
    return value;
}

/* One request into the server's record; false: the connection is over. */
static inline bool peer_take(peer_t *p)
{
    server_t *s = p->server;
    char head[8192];
    char body[4096] = "";
    size_t want = 0;
    size_t got = 0;
    size_t n = 0;
    char *length;

    while (n < sizeof(head) - 1) {
        if (peer_read(p, head + n, 1) != 1) {
            return false;
        }
        head[++n] = '\0';
        if (n >= 4 && strcmp(head + n - 4, "\r\n\r\n") == 0) {
            break;
        }
    }
    length = strcasestr(head, "\r\ncontent-length:");
    want = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    while (got < want && got < sizeof(body)) {
        ssize_t more = peer_read(p, body + got, sizeof(body) - got);

        if (more <= 0) {
            return false;
        }
        got += (size_t)more;
    }
    (void)pthread_mutex_lock(&s->mutex);
    memcpy(s->head, head, n + 1);
    memcpy(s->body, body, got);
    s->nbody = got;
    s->requests++;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
    return true;
}

static inline void *peer_run(void *arg)
{
    peer_t *p = arg;
    server_t *s = p->server;
    bool going = true;
    char *copy;
    size_t n;

    if (s->tls != NULL) {
        p->ssl = SSL_new(s->tls);
        (void)SSL_set_fd(p->ssl, p->fd);
    }
    while (going &&
           (p->ssl == NULL || SSL_is_init_finished(p->ssl) ||
            SSL_accept(p->ssl) == 1) &&
           peer_take(p)) {
        (void)pthread_mutex_lock(&s->mutex);
        s->hanging++;
        (void)pthread_cond_broadcast(&s->changed);
        while (s->hang && !s->ending) {
            (void)pthread_cond_wait(&s->changed, &s->mutex);
        }
        s->hanging--;
        /* The test may be past it before all of it is sent. */
        n = s->nreply;
        copy = calloc(1, n + 1);
        if (copy != NULL) {
            memcpy(copy, s->reply, n);
        }
        (void)pthread_mutex_unlock(&s->mutex);
        going = copy != NULL && peer_write(p, copy, n) &&
                strstr(copy, "close\r\n") == NULL;
        free(copy);
    }
    (void)shutdown(p->fd, SHUT_RDWR);
    return NULL;
}

static inline void *server_run(void *arg)
{
    server_t *s = arg;
    peer_t *p;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        (void)pthread_mutex_lock(&s->mutex);
        p = &s->peers[s->connections];
        p->server = s;
        p->fd = fd;
        if (s->connections == SERVER_CONNECTIONS ||
            pthread_create(&p->thread, NULL, peer_run, p) != 0) {
            close(fd); /* the test sees an answer missing */
        } else {
            s->connections++;
        }
        (void)pthread_mutex_unlock(&s->mutex);
    }
    return NULL;
}

/* `tls` NULL: plain HTTP. */
static inline server_t *server_start(SSL_CTX *tls)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof(at);
    server_t *s = calloc(1, sizeof(*s));
    sigset_t pipes;
    sigset_t old;

    assert_non_null(s);
    s->tls = tls;
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_cond_init(&s->changed, NULL);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(s->fd, SERVER_CONNECTIONS), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &n), 0);
    s->port = ntohs(at.sin_port);
    /* What the peer closes early must not end the program; in the threads
     * that are tested SIGPIPE stays deadly. */
    (void)sigemptyset(&pipes);
    (void)sigaddset(&pipes, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipes, &old);
    assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return s;
}

static inline void server_stop(server_t *s)
{
    unsigned i;

    (void)pthread_mutex_lock(&s->mutex);
    s->ending = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)shutdown(s->fd, SHUT_RDWR);
    (void)pthread_join(s->thread, NULL);
    close(s->fd);
    for (i = 0; i < s->connections; i++) {
        (void)shutdown(s->peers[i].fd, SHUT_RDWR);
        (void)pthread_join(s->peers[i].thread, NULL);
        SSL_free(s->peers[i].ssl);
        close(s->peers[i].fd);
    }
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s->reply);
    free(s);
}

static inline void server_reply(server_t *s, const char *reply, size_t n)
{
    char *copy = calloc(1, n + 1);

    assert_non_null(copy);
    memcpy(copy, reply, n);
    (void)pthread_mutex_lock(&s->mutex);
    free(s->reply);
    s->reply = copy;
    s->nreply = n;
    (void)pthread_mutex_unlock(&s->mutex);
}

static inline void server_hang(server_t *s, bool hang)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->hang = hang;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->mutex);
}

/* Until `n` requests hang. */
static inline void server_wait_hanging(server_t *s, unsigned n)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SERVER_WAIT_MS / 1000;
    (void)pthread_mutex_lock(&s->mutex);
    while (s->hanging < n && rc == 0) {
        rc = pthread_cond_timedwait(&s->changed, &s->mutex, &until);
    }
    rc = s->hanging >= n ? 0 : 1;
    (void)pthread_mutex_unlock(&s->mutex);
    assert_int_equal(rc, 0);
}

#endif
