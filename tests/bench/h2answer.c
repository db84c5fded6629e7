/*
 * h2answer.c - a push service that says yes, for measuring.
 *
 * TLS with ALPN "h2" on 127.0.0.1, asks for a client certificate and takes
 * any or none, announces MAX_CONCURRENT_STREAMS and answers every POST below
 * /3/device/ with 200 and its apns-id, at once or a fixed time after the
 * request was complete; anything else is answered 404 and counted.  Prints
 * its port when it listens, one line for each connection that ended, and a
 * sum on SIGTERM or SIGINT.
 *
 * One thread, epoll.  It checks nothing else and is no test of the protocol:
 * for that there is tests/lib/mdmtest/mock_apns.py.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define ID_LEN 36
#define CHUNK 16384
#define EVENTS 64
#define PATH_HEAD "/3/device/"

typedef struct conn conn_t;

/* One request, until its stream is closed. */
typedef struct request {
    struct request *next; /* in the queue of those to be answered */
    struct request *older; /* of its connection */
    struct request *newer;
    conn_t *conn; /* NULL: gone meanwhile, freed by the queue */
    int32_t stream;
    int64_t at_us;
    bool post;
    bool path;
    bool queued;
    char id[ID_LEN];
} request_t;

struct conn {
    conn_t *prev;
    conn_t *next;
    int fd;
    SSL *ssl;
    nghttp2_session *session; /* NULL: in the handshake */
    bool want_write;          /* as epoll knows it */
    bool certificate;
    uint8_t out[CHUNK];
    size_t out_len;
    request_t *newest;
    const uint8_t *rest; /* of the frame that nghttp2 gave out last */
    size_t rest_len;
    uint64_t requests;
    uint64_t wrong;
    uint32_t open;
    uint32_t most;
    int64_t first_us;
    int64_t last_us;
};

static struct {
    int epoll;
    int listen;
    int signals;
    SSL_CTX *tls;
    uint32_t streams;
    int64_t delay_us;
    conn_t *conns;
    request_t *first; /* to be answered, in the order of their times */
    request_t *last;
    uint64_t connections;
    uint64_t requests;
    uint64_t wrong;
} srv;

__attribute__((format(printf, 1, 2), noreturn)) static void die(
    const char *fmt, ...)
{
    va_list ap;

    fputs("h2answer: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    exit(2);
}

static int64_t now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---- answers ------------------------------------------------------------- */

static nghttp2_nv header(const char *name, const char *value, size_t n)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name,
                        (uint8_t *)(uintptr_t)value, strlen(name), n,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static void answer(request_t *r)
{
    bool good = r->post && r->path;
    nghttp2_nv nv[2] = {header(":status", good ? "200" : "404", 3),
                        header("apns-id", r->id, ID_LEN)};

    nv[1].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    r->conn->requests++;
    r->conn->wrong += good ? 0U : 1U;
    r->conn->last_us = now_us();
    if (nghttp2_submit_response(r->conn->session, r->stream, nv,
                                r->id[0] != '\0' ? 2 : 1, NULL) != 0) {
        die("no memory for an answer");
    }
}

static void complete(request_t *r)
{
    if (srv.delay_us == 0) {
        answer(r);
        return;
    }
    r->at_us = now_us() + srv.delay_us;
    r->queued = true;
    r->next = NULL;
    if (srv.last != NULL) {
        srv.last->next = r;
    } else {
        srv.first = r;
    }
    srv.last = r;
}

/* Its stream is closed; one that waits to be answered is freed then. */
static void forget(request_t *r)
{
    if (r->newer != NULL) {
        r->newer->older = r->older;
    } else {
        r->conn->newest = r->older;
    }
    if (r->older != NULL) {
        r->older->newer = r->newer;
    }
    r->conn->open--;
    r->conn = NULL;
    if (!r->queued) {
        free(r);
    }
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame,
                    void *arg)
{
    conn_t *c = arg;
    request_t *r;

    if (frame->hd.type != NGHTTP2_HEADERS ||
        frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        die("no memory for a request");
    }
    r->conn = c;
    r->stream = frame->hd.stream_id;
    r->older = c->newest;
    if (r->older != NULL) {
        r->older->newer = r;
    }
    c->newest = r;
    if (c->first_us == 0) {
        c->first_us = now_us();
    }
    c->open++;
    c->most = c->open > c->most ? c->open : c->most;
    return nghttp2_session_set_stream_user_data(session, r->stream, r);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t n, const uint8_t *value,
                     size_t vn, uint8_t flags, void *arg)
{
    request_t *r = nghttp2_session_get_stream_user_data(session,
                                                        frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (r == NULL) {
        return 0;
    }
    if (n == 5 && memcmp(name, ":path", 5) == 0) {
        r->path = vn > sizeof(PATH_HEAD) &&
                  memcmp(value, PATH_HEAD, sizeof(PATH_HEAD) - 1) == 0;
    } else if (n == 7 && memcmp(name, ":method", 7) == 0) {
        r->post = vn == 4 && memcmp(value, "POST", 4) == 0;
    } else if (n == 7 && vn == ID_LEN && memcmp(name, "apns-id", 7) == 0) {
        memcpy(r->id, value, ID_LEN);
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *arg)
{
    request_t *r;

    (void)arg;
    if ((frame->hd.type == NGHTTP2_HEADERS ||
         frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        r = nghttp2_session_get_stream_user_data(session,
                                                 frame->hd.stream_id);
        if (r != NULL) {
            complete(r);
        }
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error,
                    void *arg)
{
    request_t *r = nghttp2_session_get_stream_user_data(session, stream);

    (void)error;
    (void)arg;
    if (r != NULL) {
        forget(r);
    }
    return 0;
}

/* ---- connections --------------------------------------------------------- */

static void close_conn(conn_t *c)
{
    if (c->session != NULL) {
        printf("connection: %" PRIu64 " requests in %.3f s, %" PRIu64
               " wrong, %u at once, %s certificate\n",
               c->requests, (double)(c->last_us - c->first_us) / 1e6,
               c->wrong, c->most, c->certificate ? "with" : "without");
        (void)fflush(stdout);
    }
    srv.requests += c->requests;
    srv.wrong += c->wrong;
    while (c->newest != NULL) {
        forget(c->newest);
    }
    nghttp2_session_del(c->session);
    SSL_free(c->ssl);
    (void)close(c->fd);
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        srv.conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    free(c);
}

static void open_session(conn_t *c)
{
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, srv.streams}};
    nghttp2_session_callbacks *cb;
    nghttp2_option *option;

    if (nghttp2_session_callbacks_new(&cb) != 0 ||
        nghttp2_option_new(&option) != 0) {
        die("no memory for a connection");
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option_set_no_closed_streams(option, 1);
    if (nghttp2_session_server_new2(&c->session, cb, c, option) != 0 ||
        nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
                                1) != 0) {
        die("no memory for a connection");
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    c->certificate = SSL_get0_peer_certificate(c->ssl) != NULL;
    srv.connections++;
}

static void watch(conn_t *c, bool write)
{
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0U),
                            .data.ptr = c};

    if (write != c->want_write) {
        c->want_write = write;
        (void)epoll_ctl(srv.epoll, EPOLL_CTL_MOD, c->fd, &e);
    }
}

/* Gathers frames, which are small, until a TLS record is full. */
static void gather(conn_t *c)
{
    size_t part;
    ssize_t n;

    while (c->out_len < sizeof(c->out)) {
        if (c->rest_len == 0) {
            n = nghttp2_session_mem_send(c->session, &c->rest);
            if (n <= 0) {
                return;
            }
            c->rest_len = (size_t)n;
        }
        part = sizeof(c->out) - c->out_len;
        part = c->rest_len < part ? c->rest_len : part;
        memcpy(c->out + c->out_len, c->rest, part);
        c->out_len += part;
        c->rest += part;
        c->rest_len -= part;
    }
}

/* False: the connection is over. */
static bool write_out(conn_t *c)
{
    int n;

    for (;;) {
        gather(c);
        if (c->out_len == 0) {
            watch(c, false);
            return nghttp2_session_want_read(c->session) != 0;
        }
        ERR_clear_error();
        n = SSL_write(c->ssl, c->out, (int)c->out_len);
        if (n <= 0) {
            watch(c, true);
            return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_WRITE;
        }
        memmove(c->out, c->out + n, c->out_len - (size_t)n);
        c->out_len -= (size_t)n;
    }
}

static bool read_in(conn_t *c)
{
    uint8_t buf[CHUNK];
    int n;

    for (;;) {
        ERR_clear_error();
        n = SSL_read(c->ssl, buf, sizeof(buf));
        if (n <= 0) {
            return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        }
        if (nghttp2_session_mem_recv(c->session, buf, (size_t)n) != n) {
            return false;
        }
    }
}

static bool step(conn_t *c)
{
    int n;

    if (c->session == NULL) {
        ERR_clear_error();
        n = SSL_accept(c->ssl);
        if (n <= 0) {
            n = SSL_get_error(c->ssl, n);
            watch(c, n == SSL_ERROR_WANT_WRITE);
            return n == SSL_ERROR_WANT_READ || n == SSL_ERROR_WANT_WRITE;
        }
        open_session(c);
    }
    return read_in(c) && write_out(c);
}

static void accept_one(void)
{
    int fd = accept4(srv.listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    conn_t *c;
    int on = 1;

    if (fd < 0) {
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = calloc(1, sizeof(*c));
    if (c == NULL || (c->ssl = SSL_new(srv.tls)) == NULL) {
        die("no memory for a connection");
    }
    c->fd = fd;
    (void)SSL_set_fd(c->ssl, fd);
    SSL_set_accept_state(c->ssl);
    c->next = srv.conns;
    if (c->next != NULL) {
        c->next->prev = c;
    }
    srv.conns = c;
    e.data.ptr = c;
    (void)epoll_ctl(srv.epoll, EPOLL_CTL_ADD, fd, &e);
}

/* ---- the loop ------------------------------------------------------------ */

/* Answers whose time has come. */
static void answer_due(void)
{
    int64_t now = now_us();
    request_t *r;
    conn_t *next;
    conn_t *c;

    while ((r = srv.first) != NULL && r->at_us <= now) {
        srv.first = r->next;
        if (srv.first == NULL) {
            srv.last = NULL;
        }
        if (r->conn != NULL) {
            r->queued = false;
            answer(r);
        } else {
            free(r);
        }
    }
    for (c = srv.conns; c != NULL; c = next) {
        next = c->next;
        if (c->session != NULL && !write_out(c)) {
            close_conn(c);
        }
    }
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    struct timespec ts = {0, 0};
    int64_t left;
    int n;
    int i;

    for (;;) {
        if (srv.first != NULL) {
            left = srv.first->at_us - now_us();
            left = left > 0 ? left : 0;
            ts.tv_sec = left / 1000000;
            ts.tv_nsec = left % 1000000 * 1000;
        }
        n = epoll_pwait2(srv.epoll, events, EVENTS,
                         srv.first != NULL ? &ts : NULL, NULL);
        for (i = 0; i < n; i++) {
            if (events[i].data.ptr == &srv.signals) {
                return;
            }
            if (events[i].data.ptr == &srv.listen) {
                accept_one();
            } else if (!step(events[i].data.ptr)) {
                close_conn(events[i].data.ptr);
            }
        }
        if (srv.first != NULL) {
            answer_due();
        }
    }
}

/* ---- setting up ---------------------------------------------------------- */

static int choose_h2(SSL *ssl, const unsigned char **out,
                     unsigned char *out_len, const unsigned char *in,
                     unsigned in_len, void *arg)
{
    static const unsigned char h2[] = {2, 'h', '2'};
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, h2, sizeof(h2), in,
                              in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Whose certificate it is does not matter here. */
static int take_any(int ok, X509_STORE_CTX *ctx)
{
    (void)ok;
    (void)ctx;
    return 1;
}

static void set_up_tls(const char *cert, const char *key)
{
    srv.tls = SSL_CTX_new(TLS_server_method());
    if (srv.tls == NULL ||
        SSL_CTX_use_certificate_chain_file(srv.tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(srv.tls, key, SSL_FILETYPE_PEM) != 1) {
        die("cannot use certificate %s and key %s", cert, key);
    }
    SSL_CTX_set_alpn_select_cb(srv.tls, choose_h2, NULL);
    SSL_CTX_set_verify(srv.tls, SSL_VERIFY_PEER, take_any);
    (void)SSL_CTX_set_session_id_context(srv.tls, (const unsigned char *)"a",
                                         1);
    (void)SSL_CTX_set_mode(srv.tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void watch_own(int *fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = fd};

    if (*fd < 0 || epoll_ctl(srv.epoll, EPOLL_CTL_ADD, *fd, &e) != 0) {
        die("cannot set up: %s", strerror(errno));
    }
}

static void set_up_sockets(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t n = sizeof(a);
    sigset_t set;
    int on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    srv.listen = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                        0);
    (void)setsockopt(srv.listen, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(srv.listen, (struct sockaddr *)&a, n) != 0 ||
        listen(srv.listen, 64) != 0 ||
        getsockname(srv.listen, (struct sockaddr *)&a, &n) != 0) {
        die("cannot listen on port %u: %s", (unsigned)port, strerror(errno));
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    srv.signals = signalfd(-1, &set, SFD_CLOEXEC);
    srv.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_own(&srv.listen);
    watch_own(&srv.signals);
    printf("port: %u\n", (unsigned)ntohs(a.sin_port));
    (void)fflush(stdout);
}

static void report(void)
{
    struct rusage used;

    while (srv.conns != NULL) {
        close_conn(srv.conns);
    }
    (void)getrusage(RUSAGE_SELF, &used);
    printf("connections: %" PRIu64 "\nrequests: %" PRIu64
           "\nwrong: %" PRIu64 "\ncpu s: %.3f\n",
           srv.connections, srv.requests, srv.wrong,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static uint32_t number(const char *text, uint32_t max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n > max) {
        die("\"%s\" is no number up to %" PRIu32, text, max);
    }
    return (uint32_t)n;
}

int main(int argc, char **argv)
{
    static const char usage[] =
        "usage: h2answer -c CERTIFICATE -k KEY [-p PORT] [-m STREAMS]"
        " [-d DELAY_MS]\n";
    const char *cert = NULL;
    const char *key = NULL;
    uint32_t port = 0;
    int opt;

    srv.streams = 1000;
    while ((opt = getopt(argc, argv, "c:k:p:m:d:")) != -1) {
        switch (opt) {
        case 'c':
            cert = optarg;
            break;
        case 'k':
            key = optarg;
            break;
        case 'p':
            port = number(optarg, UINT16_MAX);
            break;
        case 'm':
            srv.streams = number(optarg, INT32_MAX);
            break;
        case 'd':
            srv.delay_us = (int64_t)number(optarg, 3600000) * 1000;
            break;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (cert == NULL || key == NULL || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    set_up_tls(cert, key);
    set_up_sockets((uint16_t)port);
    serve();
    report();
    SSL_CTX_free(srv.tls);
    return srv.wrong == 0 ? 0 : 1;
}
