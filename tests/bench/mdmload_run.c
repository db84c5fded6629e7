/*
 * mdmload_run.c - the connections of the load generator.
 *
 * Every connection is kept alive and belongs to one device at a time: TLS
 * with that device's certificate, one request after the other.  When all
 * connections stand, the measured time begins.
 *
 * Threads: each owns its connections, its epoll and its counters; they share
 * the options, which nobody writes any more, and one flag that ends them
 * early.  The caller's thread adds up after they have ended.
 */
#include "mdmload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define OUT_MAX 8192
#define HEAD_MAX 16384
#define EVENTS 64
#define FAULTS_MAX 100
#define NOT_WATCHED UINT32_MAX

/* One run of all connections: enrolling or measuring. */
typedef struct phase {
    const options_t *options;
    bool enrol;
    atomic_bool stop;
    pthread_barrier_t ready;
} phase_t;

typedef enum state {
    CONNECTING,
    HANDSHAKE,
    READY,
    SENDING,
    READING,
    DONE,
} state_t;

typedef struct conn {
    struct worker *worker;
    const device_t *device;
    SSL *ssl;
    int fd;
    state_t state;
    uint32_t events; /* what epoll waits for */
    unsigned index;
    unsigned turn;     /* how many devices it has been before */
    unsigned answered; /* requests on this connection */
    int64_t began_us;
    size_t out_len;
    size_t head_len; /* bytes of the answer's head so far */
    bool head_done;
    bool close;
    int status;
    uint64_t body;
    uint64_t body_left;
    char out[OUT_MAX];
    char head[HEAD_MAX];
} conn_t;

typedef struct worker {
    phase_t *phase;
    pthread_t thread;
    int epoll;
    conn_t *conns;
    unsigned nconns;
    bool go; /* false: connections wait for each other */
    unsigned waiting;
    unsigned done;
    int64_t begin_us;
    int64_t end_us;
    tally_t tally;
} worker_t;

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SEC + t.tv_nsec / 1000;
}

/* ---- requests ----------------------------------------------------------- */

static const char plist_head[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
    "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
    "<plist version=\"1.0\">\n<dict>\n";
static const char plist_tail[] = "</dict>\n</plist>\n";

/* A PUT of a property list; the number of bytes. */
static size_t put(const options_t *o, const char *path, const char *type,
                  const char *inner, char out[OUT_MAX])
{
    size_t body = strlen(plist_head) + strlen(inner) + strlen(plist_tail);
    int n = snprintf(out, OUT_MAX,
                     "PUT %s HTTP/1.1\r\nHost: %s\r\n"
                     "User-Agent: mdmload\r\nContent-Type: %s\r\n"
                     "Content-Length: %zu\r\n\r\n%s%s%s",
                     path, o->authority, type, body, plist_head, inner,
                     plist_tail);

    return n > 0 && n < OUT_MAX ? (size_t)n : 0;
}

static size_t poll_request(const options_t *o, const device_t *d,
                           char out[OUT_MAX])
{
    char inner[1024];
    int n;

    if (o->get) {
        n = snprintf(out, OUT_MAX,
                     "GET %s HTTP/1.1\r\nHost: %s\r\n"
                     "User-Agent: mdmload\r\n\r\n",
                     o->path, o->authority);
        return n > 0 && n < OUT_MAX ? (size_t)n : 0;
    }
    (void)snprintf(inner, sizeof(inner),
                   "\t<key>Status</key>\n\t<string>Idle</string>\n"
                   "\t<key>UDID</key>\n\t<string>%s</string>\n",
                   d->udid);
    return put(o, o->path, "application/x-apple-aspen-mdm; charset=UTF-8",
               inner, out);
}

static size_t enrol_request(const options_t *o, const device_t *d,
                            bool token_update, char out[OUT_MAX])
{
    unsigned char token[32];
    unsigned char text[64];
    char inner[2048];

    if (!token_update) {
        (void)snprintf(
            inner, sizeof(inner),
            "\t<key>MessageType</key>\n\t<string>Authenticate</string>\n"
            "\t<key>Topic</key>\n\t<string>%s</string>\n"
            "\t<key>UDID</key>\n\t<string>%s</string>\n"
            "\t<key>DeviceName</key>\n\t<string>mdmload</string>\n"
            "\t<key>Model</key>\n\t<string>Mac14,7</string>\n"
            "\t<key>ModelName</key>\n\t<string>MacBook Pro</string>\n"
            "\t<key>ProductName</key>\n\t<string>Mac14,7</string>\n"
            "\t<key>OSVersion</key>\n\t<string>15.1</string>\n"
            "\t<key>BuildVersion</key>\n\t<string>24B83</string>\n"
            "\t<key>SerialNumber</key>\n\t<string>%.12s</string>\n",
            o->topic, d->udid, d->udid);
    } else {
        (void)RAND_bytes(token, sizeof(token));
        (void)EVP_EncodeBlock(text, token, sizeof(token));
        (void)snprintf(
            inner, sizeof(inner),
            "\t<key>MessageType</key>\n\t<string>TokenUpdate</string>\n"
            "\t<key>Topic</key>\n\t<string>%s</string>\n"
            "\t<key>UDID</key>\n\t<string>%s</string>\n"
            "\t<key>PushMagic</key>\n\t<string>magic-%s</string>\n"
            "\t<key>Token</key>\n\t<data>%s</data>\n",
            o->topic, d->udid, d->udid, (const char *)text);
    }
    return put(o, o->checkin_path, "application/x-apple-aspen-mdm-checkin",
               inner, out);
}

/* ---- answers ------------------------------------------------------------ */

/* Reads status line and headers.  False: nothing that we understand. */
static bool read_head(conn_t *c)
{
    static const char length[] = "content-length:";
    static const char closing[] = "connection: close";
    static const char chunks[] = "transfer-encoding:";
    char *line;
    char *save = NULL;

    c->status = 0;
    c->body_left = 0;
    c->close = strncmp(c->head, "HTTP/1.1 ", 9) != 0;
    if (sscanf(c->head, "HTTP/1.%*1[01] %3d", &c->status) != 1 ||
        c->status < 100) {
        return false;
    }
    line = strtok_r(c->head, "\r\n", &save);
    while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
        if (strncasecmp(line, length, sizeof(length) - 1) == 0) {
            c->body_left = strtoull(line + sizeof(length) - 1, NULL, 10);
        } else if (strcasecmp(line, closing) == 0) {
            c->close = true;
        } else if (strncasecmp(line, chunks, sizeof(chunks) - 1) == 0) {
            return false;
        }
    }
    c->body = c->body_left;
    return true;
}

/* Takes n bytes that are in head[] behind head_len.  NULL or a fault. */
static const char *take_bytes(conn_t *c, size_t n)
{
    size_t all = c->head_len + n;
    char *end;

    if (!c->head_done) {
        end = memmem(c->head, all, "\r\n\r\n", 4);
        if (end == NULL) {
            c->head_len = all;
            return all < HEAD_MAX - 1 ? NULL : "the answer's head is too long";
        }
        n = all - (size_t)(end + 4 - c->head);
        *end = '\0';
        if (!read_head(c)) {
            return "the answer is not HTTP/1.1 with a Content-Length";
        }
        c->head_done = true;
        c->head_len = 0;
    }
    if (n > c->body_left) {
        return "bytes behind the answer";
    }
    c->body_left -= n;
    return NULL;
}

static size_t bucket_of(int64_t us)
{
    uint64_t v = us > 0 ? (uint64_t)us : 0;
    unsigned high;
    size_t at;

    if (v < STEPS) {
        return (size_t)v;
    }
    high = 63U - (unsigned)__builtin_clzll(v);
    at = (size_t)(high - 5) * STEPS + (size_t)((v >> (high - 6)) % STEPS);
    return at < BUCKETS ? at : BUCKETS - 1;
}

static void count_answer(conn_t *c)
{
    const options_t *o = c->worker->phase->options;
    worker_t *w = c->worker;
    int64_t now = now_us();
    int wanted = w->phase->enrol ? 200 : o->status;
    bool full = c->body > 0 && !o->get && wanted == 200;

    if (c->status != wanted || (full && !o->any_body)) {
        w->tally.unexpected++;
    } else if (!w->phase->enrol && (now < w->begin_us || now >= w->end_us)) {
        return;
    }
    w->tally.requests++;
    w->tally.statuses[c->status]++;
    w->tally.latency[bucket_of(now - c->began_us)]++;
    if (now - c->began_us > w->tally.slowest_us) {
        w->tally.slowest_us = now - c->began_us;
    }
}

/* ---- connections -------------------------------------------------------- */

static void conn_close(conn_t *c)
{
    if (c->ssl != NULL) {
        if (c->state > HANDSHAKE) {
            (void)SSL_shutdown(c->ssl);
        }
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    ERR_clear_error();
}

static void watch(conn_t *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data = {.ptr = c}};

    if (events != c->events) {
        (void)epoll_ctl(c->worker->epoll,
                        c->events == NOT_WATCHED ? EPOLL_CTL_ADD
                                                 : EPOLL_CTL_MOD,
                        c->fd, &ev);
        c->events = events;
    }
}

/* The device this connection is now; NULL when enrolling is over. */
static const device_t *choose_device(const conn_t *c)
{
    const options_t *o = c->worker->phase->options;
    uint64_t at = c->index + (uint64_t)c->turn * o->connections;

    if (c->worker->phase->enrol && at >= o->ndevices) {
        return NULL;
    }
    return &o->devices[at % o->ndevices];
}

static SSL *new_tls(const options_t *o, const device_t *d, int fd)
{
    SSL *ssl = SSL_new(o->tls);
    struct in6_addr ip;
    bool good = ssl != NULL && SSL_set_fd(ssl, fd) == 1;

    if (good && (inet_pton(AF_INET, o->host, &ip) == 1 ||
                 inet_pton(AF_INET6, o->host, &ip) == 1)) {
        good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), o->host) ==
               1;
    } else if (good) {
        good = SSL_set1_host(ssl, o->host) == 1 &&
               SSL_set_tlsext_host_name(ssl, o->host) == 1;
    }
    if (good && d->cert != NULL) {
        good = SSL_use_certificate(ssl, d->cert) == 1 &&
               SSL_use_PrivateKey(ssl, d->key) == 1;
    }
    if (!good) {
        SSL_free(ssl);
        return NULL;
    }
    return ssl;
}

/* Opens the connection for its next device. */
static const char *conn_open(conn_t *c)
{
    const options_t *o = c->worker->phase->options;
    int on = 1;

    c->device = choose_device(c);
    c->answered = 0;
    c->events = NOT_WATCHED;
    if (c->device == NULL) {
        c->state = DONE;
        c->worker->done++;
        return NULL;
    }
    c->state = CONNECTING;
    if (!c->worker->phase->enrol) {
        c->out_len = poll_request(o, c->device, c->out);
    }
    c->fd = socket(o->address.ss_family,
                   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        return strerror(errno);
    }
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(c->fd, (const struct sockaddr *)&o->address,
                o->address_len) != 0 &&
        errno != EINPROGRESS) {
        return strerror(errno);
    }
    c->ssl = new_tls(o, c->device, c->fd);
    if (c->ssl == NULL) {
        return "cannot set up TLS";
    }
    watch(c, EPOLLOUT);
    return NULL;
}

/* What OpenSSL has to say about a failed call; NULL: wait for the socket. */
static const char *tls_fault(conn_t *c, int result)
{
    long verdict = SSL_get_verify_result(c->ssl);
    unsigned long code;

    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        watch(c, EPOLLIN);
        return NULL;
    case SSL_ERROR_WANT_WRITE:
        watch(c, EPOLLIN | EPOLLOUT);
        return NULL;
    case SSL_ERROR_ZERO_RETURN:
        return "the server closed the connection";
    case SSL_ERROR_SSL:
        if (verdict != X509_V_OK && c->state == HANDSHAKE) {
            return X509_verify_cert_error_string(verdict);
        }
        code = ERR_peek_error();
        if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            return "the server closed the connection";
        }
        return ERR_reason_error_string(code);
    default:
        return errno != 0 ? strerror(errno) : "the server broke off";
    }
}

static const char *check_connected(conn_t *c)
{
    socklen_t len = sizeof(int);
    int why = 0;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0 ||
        why != 0) {
        return strerror(why != 0 ? why : errno);
    }
    c->state = HANDSHAKE;
    return NULL;
}

static void begin_request(conn_t *c)
{
    const phase_t *phase = c->worker->phase;

    if (phase->enrol) {
        c->out_len = enrol_request(phase->options, c->device,
                                   c->answered > 0, c->out);
    }
    c->head_len = 0;
    c->head_done = false;
    c->began_us = now_us();
    c->state = SENDING;
}

/* Goes on as the next device, or as the same one. */
static const char *reopen(conn_t *c, bool next)
{
    conn_close(c);
    c->turn += next ? 1 : 0;
    return conn_open(c);
}

/* A whole answer is here. */
static const char *answer_done(conn_t *c)
{
    const phase_t *phase = c->worker->phase;
    unsigned most = phase->enrol ? 2 : phase->options->per_connection;

    count_answer(c);
    c->answered++;
    c->state = READY;
    if (most > 0 && c->answered >= most) {
        return reopen(c, true);
    }
    if (c->close) {
        if (phase->enrol) {
            return "the server closes between Authenticate and TokenUpdate";
        }
        c->worker->tally.reconnects++;
        return reopen(c, false);
    }
    return NULL;
}

/* True: reading goes on; false: wait, or *fault_r says why not. */
static bool read_some(conn_t *c, const char **fault_r)
{
    int n = SSL_read(c->ssl, c->head + c->head_len,
                     (int)(HEAD_MAX - 1 - c->head_len));

    if (n <= 0) {
        *fault_r = tls_fault(c, n);
        if (*fault_r != NULL && c->answered > 0 && c->head_len == 0 &&
            !c->head_done && !c->worker->phase->enrol) {
            /* It closed a connection that was idle in its eyes. */
            c->worker->tally.reconnects++;
            *fault_r = reopen(c, false);
        }
        return false;
    }
    *fault_r = take_bytes(c, (size_t)n);
    if (*fault_r == NULL && c->head_done && c->body_left == 0) {
        *fault_r = answer_done(c);
        return *fault_r == NULL && c->state == READY;
    }
    return *fault_r == NULL;
}

/* One step; true: there may be more to do without waiting. */
static bool step(conn_t *c, const char **fault_r)
{
    int n;

    ERR_clear_error();
    errno = 0;
    switch (c->state) {
    case CONNECTING:
        *fault_r = check_connected(c);
        return *fault_r == NULL;
    case HANDSHAKE:
        n = SSL_connect(c->ssl);
        if (n != 1) {
            *fault_r = tls_fault(c, n);
            return false;
        }
        c->state = READY;
        /* Session tickets need not be read while nothing goes on. */
        watch(c, c->worker->go ? EPOLLIN : 0);
        c->worker->waiting += c->worker->go ? 0 : 1;
        return c->worker->go;
    case READY:
        if (c->worker->go) {
            begin_request(c);
        }
        return c->worker->go;
    case SENDING:
        n = SSL_write(c->ssl, c->out, (int)c->out_len);
        if (n <= 0) {
            *fault_r = tls_fault(c, n);
            return false;
        }
        c->state = READING;
        watch(c, EPOLLIN);
        return true;
    case READING:
        return read_some(c, fault_r);
    case DONE:
    default:
        return false;
    }
}

static void note_fault(worker_t *w, const char *fault)
{
    if (w->tally.faults++ == 0) {
        (void)snprintf(w->tally.first_fault, sizeof(w->tally.first_fault),
                       "%s", fault);
    }
    if (w->tally.faults >= FAULTS_MAX || w->phase->enrol || !w->go) {
        atomic_store(&w->phase->stop, true);
    }
}

/* Works on a connection until it has to wait. */
static void drive(conn_t *c)
{
    const char *fault = NULL;

    while (step(c, &fault)) {
        continue;
    }
    while (fault != NULL && !atomic_load(&c->worker->phase->stop)) {
        note_fault(c->worker, fault);
        fault = reopen(c, false);
    }
}

/* ---- threads ------------------------------------------------------------ */

static void wait_events(worker_t *w, int64_t at_most_us)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(w->epoll, events, EVENTS,
                       (int)((at_most_us + 999) / 1000));
    int i;

    for (i = 0; i < n; i++) {
        drive(events[i].data.ptr);
    }
}

static void open_all(worker_t *w)
{
    const char *fault;
    unsigned i;

    for (i = 0; i < w->nconns; i++) {
        fault = conn_open(&w->conns[i]);
        if (fault != NULL) {
            note_fault(w, fault);
            return;
        }
    }
}

static void run_loop(worker_t *w)
{
    const options_t *o = w->phase->options;
    int64_t left = SEC / 10;
    unsigned i;

    w->go = w->phase->enrol;
    open_all(w);
    while (!w->go && w->waiting < w->nconns && !atomic_load(&w->phase->stop)) {
        wait_events(w, left);
    }
    (void)pthread_barrier_wait(&w->phase->ready);
    w->begin_us = now_us() + o->warm_up_us;
    w->end_us = w->begin_us + o->seconds_us;
    if (!w->go) {
        w->go = true;
        for (i = 0; i < w->nconns; i++) {
            drive(&w->conns[i]);
        }
    }
    while (!atomic_load(&w->phase->stop) && w->done < w->nconns) {
        if (!w->phase->enrol && (left = w->end_us - now_us()) <= 0) {
            break;
        }
        wait_events(w, left < SEC / 10 ? left : SEC / 10);
    }
}

static void *run_worker(void *arg)
{
    worker_t *w = arg;
    unsigned i;

    run_loop(w);
    for (i = 0; i < w->nconns; i++) {
        conn_close(&w->conns[i]);
    }
    close(w->epoll);
    return NULL;
}

static void add_up(tally_t *sum, const tally_t *one)
{
    size_t i;

    sum->requests += one->requests;
    sum->unexpected += one->unexpected;
    sum->reconnects += one->reconnects;
    sum->faults += one->faults;
    if (one->slowest_us > sum->slowest_us) {
        sum->slowest_us = one->slowest_us;
    }
    if (sum->first_fault[0] == '\0') {
        memcpy(sum->first_fault, one->first_fault, sizeof(sum->first_fault));
    }
    for (i = 0; i < STATUS_MAX; i++) {
        sum->statuses[i] += one->statuses[i];
    }
    for (i = 0; i < BUCKETS; i++) {
        sum->latency[i] += one->latency[i];
    }
}

/* Gives a thread its share of the connections. */
static bool prepare(worker_t *w, phase_t *phase, unsigned number)
{
    const options_t *o = phase->options;
    unsigned i;

    w->phase = phase;
    w->nconns = (o->connections - number + o->threads - 1) / o->threads;
    w->conns = calloc(w->nconns, sizeof(*w->conns));
    for (i = 0; w->conns != NULL && i < w->nconns; i++) {
        w->conns[i].worker = w;
        w->conns[i].fd = -1;
        w->conns[i].index = number + i * o->threads;
    }
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    return w->conns != NULL && w->epoll >= 0;
}

bool run_phase(const options_t *o, bool enrol, tally_t *sum_r)
{
    phase_t phase = {.options = o, .enrol = enrol};
    worker_t *workers = calloc(o->threads, sizeof(*workers));
    bool good = workers != NULL;
    unsigned i;

    memset(sum_r, 0, sizeof(*sum_r));
    atomic_init(&phase.stop, false);
    (void)pthread_barrier_init(&phase.ready, NULL, o->threads);
    for (i = 0; good && i < o->threads; i++) {
        good = prepare(&workers[i], &phase, i);
    }
    /* The others would wait at the barrier for a thread that is missing, so
     * the program ends here: the caller says why and exits. */
    for (i = 0; good && i < o->threads; i++) {
        good = pthread_create(&workers[i].thread, NULL, run_worker,
                              &workers[i]) == 0;
    }
    if (!good) {
        return false;
    }
    for (i = 0; i < o->threads; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        add_up(sum_r, &workers[i].tally);
        free(workers[i].conns);
    }
    (void)pthread_barrier_destroy(&phase.ready);
    free(workers);
    return true;
}
