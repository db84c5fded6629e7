/*
 * mdmload.c - simulated devices that poll as fast as the server answers.
 *
 * Sends one request again and again, an Idle report or GET of a URL to
 * compare it with, over kept-alive TLS connections with the devices' own
 * certificates; enrols the devices before if told to.  Measures, and checks
 * that every answer is the one expected.  It carries out no commands, and it
 * is no test of the protocol.
 *
 * This file: options, devices, the report.  One thread; the others live and
 * end inside run_phase().
 */
#include "mdmload.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#define SCHEME "https://"
#define CONNECTIONS_MAX 10000
#define THREADS_MAX 64
#define DEVICES_MAX 100000
#define SECONDS_MAX 86400
#define LINE_SIZE 4096

enum { EXIT_ANSWERS = 1, EXIT_USAGE = 2 };

static const char usage_text[] =
    "usage: mdmload [options] https://host[:port]/path\n"
    "Sends Idle reports of simulated devices and measures the answers.\n"
    "\n"
    "  -d, --devices=FILE     lines of: certificate key [UDID], two PEM files\n"
    "                         and an id (made up when missing)\n"
    "  -e, --enroll           Authenticate and TokenUpdate for each device\n"
    "                         before measuring; needs --topic\n"
    "  -T, --topic=TOPIC      push topic that the devices enrol with\n"
    "  -u, --checkin=PATH     path for check-ins (default: that of the URL)\n"
    "  -g, --get              send GET instead of an Idle report\n"
    "  -x, --status=CODE      the status that is expected (default 200)\n"
    "  -b, --any-body         a command may be answered to an Idle report;\n"
    "                         else a body counts as unexpected\n"
    "  -c, --connections=N    connections at the same time (default 16);\n"
    "                         each is one device at a time\n"
    "  -r, --requests=N       requests on a connection, then it is closed and\n"
    "                         opened for the next device (default 0: no end)\n"
    "  -t, --threads=N        threads of this program (default 1)\n"
    "  -s, --seconds=S        how long to measure (default 10); 0: only enrol\n"
    "  -w, --warm-up=S        seconds before that do not count (default 0)\n"
    "  -a, --ca-file=FILE     authorities the server is verified against\n"
    "                         (default: the system's)\n"
    "  -k, --insecure         do not verify the server\n"
    "  -h, --help             this text\n"
    "\n"
    "Every connection sends its next request when the answer has come, so\n"
    "latency is that of a server at its limit.  Exit status: 0 all answers\n"
    "were as expected, 1 some were not, 2 it could not begin.\n";

__attribute__((format(printf, 1, 2), noreturn)) static void die(
    const char *fmt, ...)
{
    va_list ap;

    fputs("mdmload: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    exit(EXIT_USAGE);
}

/* ---- options ------------------------------------------------------------ */

static unsigned read_number(const char *name, const char *text, unsigned min,
                            unsigned max)
{
    char *end = NULL;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 ||
        value < min || value > max) {
        die("%s wants a number from %u to %u, not \"%s\"", name, min, max,
            text);
    }
    return (unsigned)value;
}

static int64_t read_seconds(const char *name, const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || !(value >= 0) ||
        value > SECONDS_MAX) {
        die("%s wants seconds from 0 to %d, not \"%s\"", name, SECONDS_MAX,
            text);
    }
    return (int64_t)(value * (double)SEC);
}

/* Goes into a property list and a header as it is. */
static bool is_plain(const char *text)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:";

    return text[0] != '\0' && strlen(text) <= ID_MAX &&
           strspn(text, good) == strlen(text);
}

static bool is_printable(const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return false;
        }
    }
    return true;
}

static bool is_path(const char *text)
{
    return text[0] == '/' && strlen(text) < NAME_SIZE &&
           is_printable(text, strlen(text));
}

/* https://host[:port]/path; an IPv6 address stands in brackets. */
static void read_url(const char *url, options_t *o)
{
    const char *host = url + strlen(SCHEME);
    const char *path;
    const char *colon;
    size_t n;

    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0) {
        die("\"%s\" is not an https:// URL", url);
    }
    path = host + strcspn(host, "/");
    if (!is_path(path)) {
        die("\"%s\" has no usable path", url);
    }
    n = (size_t)(path - host);
    if (n >= sizeof(o->authority) || !is_printable(host, n)) {
        die("\"%s\" has no usable host", url);
    }
    memcpy(o->authority, host, n);
    colon = memchr(host, host[0] == '[' ? ']' : ':', (size_t)(path - host));
    n = colon != NULL ? (size_t)(colon - host) : (size_t)(path - host);
    if (host[0] == '[' && colon != NULL) {
        host++;
        n--;
        colon = colon[1] == ':' ? colon + 1 : NULL;
    }
    if (n == 0 || n >= sizeof(o->host)) {
        die("\"%s\" has no usable host", url);
    }
    memcpy(o->host, host, n);
    (void)snprintf(o->port, sizeof(o->port), "443");
    if (colon != NULL) {
        n = (size_t)(path - colon - 1);
        (void)snprintf(o->port, sizeof(o->port), "%.*s",
                       n < sizeof(o->port) ? (int)n : 0, colon + 1);
        (void)read_number("the port", o->port, 1, 65535);
    }
    (void)snprintf(o->path, sizeof(o->path), "%s", path);
}

static void read_option(int letter, const char *value, options_t *o)
{
    switch (letter) {
    case 'd': o->devices_file = value; break;
    case 'e': o->enrol = true; break;
    case 'T': o->topic = value; break;
    case 'u': o->checkin_path = value; break;
    case 'g': o->get = true; break;
    case 'x': o->status = (int)read_number("--status", value, 200, 599); break;
    case 'b': o->any_body = true; break;
    case 'c':
        o->connections = read_number("--connections", value, 1,
                                     CONNECTIONS_MAX);
        break;
    case 'r':
        o->per_connection = read_number("--requests", value, 0, 1000000000);
        break;
    case 't':
        o->threads = read_number("--threads", value, 1, THREADS_MAX);
        break;
    case 's': o->seconds_us = read_seconds("--seconds", value); break;
    case 'w': o->warm_up_us = read_seconds("--warm-up", value); break;
    case 'a': o->ca_file = value; break;
    case 'k': o->insecure = true; break;
    case 'h':
        fputs(usage_text, stdout);
        exit(0);
    default:
        fputs("mdmload: try --help\n", stderr);
        exit(EXIT_USAGE);
    }
}

static void read_options(int argc, char **argv, options_t *o)
{
    static const struct option longs[] = {
        {"devices", required_argument, NULL, 'd'},
        {"enroll", no_argument, NULL, 'e'},
        {"topic", required_argument, NULL, 'T'},
        {"checkin", required_argument, NULL, 'u'},
        {"get", no_argument, NULL, 'g'},
        {"status", required_argument, NULL, 'x'},
        {"any-body", no_argument, NULL, 'b'},
        {"connections", required_argument, NULL, 'c'},
        {"requests", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 's'},
        {"warm-up", required_argument, NULL, 'w'},
        {"ca-file", required_argument, NULL, 'a'},
        {"insecure", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int letter;

    while ((letter = getopt_long(argc, argv, "d:eT:u:gx:bc:r:t:s:w:a:kh",
                                 longs, NULL)) != -1) {
        read_option(letter, optarg, o);
    }
    if (optind != argc - 1) {
        die("one URL is needed; try --help");
    }
    read_url(argv[optind], o);
    if (o->checkin_path == NULL) {
        o->checkin_path = o->path;
    }
    if (!is_path(o->checkin_path)) {
        die("--checkin wants a path, not \"%s\"", o->checkin_path);
    }
    if (o->enrol && (o->topic == NULL || !is_plain(o->topic))) {
        die("--enroll needs a --topic of letters, digits, dots and dashes");
    }
    if (o->devices_file == NULL && (o->enrol || !o->get)) {
        die("--devices is needed, but for --get");
    }
    if (o->threads > o->connections) {
        o->threads = o->connections;
    }
}

/* ---- devices ------------------------------------------------------------ */

/* Asks nobody for a pass phrase. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static void read_identity(const char *cert, const char *key, device_t *d)
{
    FILE *f = fopen(cert, "re");

    if (f == NULL) {
        die("%s: %s", cert, strerror(errno));
    }
    d->cert = PEM_read_X509(f, NULL, no_passphrase, NULL);
    (void)fclose(f);
    f = fopen(key, "re");
    if (f == NULL) {
        die("%s: %s", key, strerror(errno));
    }
    d->key = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
    (void)fclose(f);
    if (d->cert == NULL) {
        die("%s: no readable certificate", cert);
    }
    if (d->key == NULL) {
        die("%s: no readable private key without a pass phrase", key);
    }
    if (X509_check_private_key(d->cert, d->key) != 1) {
        die("%s does not belong to %s", key, cert);
    }
}

static void make_udid(char out[ID_MAX + 1])
{
    unsigned char b[16];

    if (RAND_bytes(b, sizeof(b)) != 1) {
        die("no random numbers");
    }
    (void)snprintf(out, ID_MAX + 1,
                   "%02X%02X%02X%02X-%02X%02X-4%X%02X-A%X%02X-"
                   "%02X%02X%02X%02X%02X%02X",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6] & 15, b[7],
                   b[8] & 15, b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static device_t *add_device(options_t *o)
{
    device_t *more = realloc(o->devices,
                             (o->ndevices + 1) * sizeof(*o->devices));

    if (more == NULL || o->ndevices >= DEVICES_MAX) {
        die("too many devices");
    }
    o->devices = more;
    memset(&more[o->ndevices], 0, sizeof(*more));
    return &more[o->ndevices++];
}

static void read_devices(options_t *o)
{
    char line[LINE_SIZE];
    char cert[LINE_SIZE];
    char key[LINE_SIZE];
    char udid[LINE_SIZE];
    FILE *f = fopen(o->devices_file, "re");
    device_t *d;
    int n;

    if (f == NULL) {
        die("%s: %s", o->devices_file, strerror(errno));
    }
    while (fgets(line, sizeof(line), f) != NULL) {
        n = sscanf(line, "%s %s %s", cert, key, udid);
        if (n < 1 || cert[0] == '#') {
            continue;
        }
        d = add_device(o);
        if (n < 2 || (n == 3 && !is_plain(udid))) {
            die("%s: device %u: not \"certificate key [UDID]\"",
                o->devices_file, o->ndevices);
        }
        read_identity(cert, key, d);
        if (n == 3) {
            memcpy(d->udid, udid, strlen(udid) + 1);
        } else {
            make_udid(d->udid);
        }
    }
    (void)fclose(f);
    if (o->ndevices == 0) {
        die("%s: no devices in it", o->devices_file);
    }
}

/* ---- the server --------------------------------------------------------- */

/* The first address that takes a connection. */
static void find_server(options_t *o)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    struct addrinfo *a;
    int why = getaddrinfo(o->host, o->port, &hints, &list);
    int fd;

    if (why != 0) {
        die("%s: %s", o->host, gai_strerror(why));
    }
    for (a = list; a != NULL; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            close(fd);
            break;
        }
        why = errno;
        if (fd >= 0) {
            close(fd);
        }
    }
    if (a == NULL) {
        die("%s:%s: %s", o->host, o->port, strerror(why));
    }
    memcpy(&o->address, a->ai_addr, a->ai_addrlen);
    o->address_len = a->ai_addrlen;
    freeaddrinfo(list);
}

static void set_up_tls(options_t *o)
{
    o->tls = SSL_CTX_new(TLS_client_method());
    if (o->tls == NULL) {
        die("cannot set up TLS");
    }
    /* Full handshakes, as by devices that come once in many hours. */
    (void)SSL_CTX_set_session_cache_mode(o->tls, SSL_SESS_CACHE_OFF);
    if (o->insecure) {
        return;
    }
    SSL_CTX_set_verify(o->tls, SSL_VERIFY_PEER, NULL);
    if ((o->ca_file != NULL
             ? SSL_CTX_load_verify_file(o->tls, o->ca_file)
             : SSL_CTX_set_default_verify_paths(o->tls)) != 1) {
        die("%s: no readable certificates",
            o->ca_file != NULL ? o->ca_file : "the system's authorities");
    }
}

/* ---- report ------------------------------------------------------------- */

/* The middle of a bucket in milliseconds. */
static double bucket_ms(size_t at)
{
    size_t power = at / STEPS;

    if (power == 0) {
        return (double)at / 1e3;
    }
    return ((double)(STEPS + at % STEPS) + 0.5) *
           (double)((uint64_t)1 << (power - 1)) / 1e3;
}

static double percentile_ms(const tally_t *t, double share)
{
    double wanted = share * (double)t->requests;
    uint64_t seen = 0;
    size_t i;

    for (i = 0; i < BUCKETS - 1; i++) {
        seen += t->latency[i];
        if (seen > 0 && (double)seen >= wanted) {
            break;
        }
    }
    return bucket_ms(i);
}

static void report(const options_t *o, const tally_t *t)
{
    unsigned i;

    printf("requests: %" PRIu64 "\n", t->requests);
    printf("seconds: %.2f\n", (double)o->seconds_us / (double)SEC);
    printf("requests/s: %.1f\n",
           (double)t->requests * (double)SEC / (double)o->seconds_us);
    printf("median ms: %.3f\n", percentile_ms(t, 0.5));
    printf("p99 ms: %.3f\n", percentile_ms(t, 0.99));
    printf("slowest ms: %.3f\n", (double)t->slowest_us / 1e3);
    for (i = 0; i < STATUS_MAX; i++) {
        if (t->statuses[i] > 0) {
            printf("status %u: %" PRIu64 "\n", i, t->statuses[i]);
        }
    }
    printf("unexpected: %" PRIu64 "\n", t->unexpected);
    printf("reconnects: %" PRIu64 "\n", t->reconnects);
    printf("faults: %" PRIu64 "\n", t->faults);
}

/* Says what went wrong in a phase; true: nothing. */
static bool judge(const char *phase, const tally_t *t)
{
    unsigned i;

    if (t->faults > 0) {
        fprintf(stderr, "mdmload: %s: %" PRIu64 " faults, the first: %s\n",
                phase, t->faults, t->first_fault);
    }
    if (t->unexpected > 0) {
        fprintf(stderr, "mdmload: %s: %" PRIu64 " unexpected answers:", phase,
                t->unexpected);
        for (i = 0; i < STATUS_MAX; i++) {
            if (t->statuses[i] > 0) {
                fprintf(stderr, " %" PRIu64 " of status %u", t->statuses[i],
                        i);
            }
        }
        fputs(" in all\n", stderr);
    }
    if (t->requests == 0) {
        fprintf(stderr, "mdmload: %s: no answer\n", phase);
    }
    return t->faults == 0 && t->unexpected == 0 && t->requests > 0;
}

static void run(const options_t *o, bool enrol, tally_t *sum)
{
    if (!run_phase(o, enrol, sum)) {
        die("no memory or no threads for %u connections", o->connections);
    }
}

static void clear(options_t *o)
{
    unsigned i;

    for (i = 0; i < o->ndevices; i++) {
        X509_free(o->devices[i].cert);
        EVP_PKEY_free(o->devices[i].key);
    }
    free(o->devices);
    SSL_CTX_free(o->tls);
}

int main(int argc, char **argv)
{
    options_t o = {.connections = 16, .threads = 1, .status = 200,
                   .seconds_us = 10 * SEC};
    tally_t sum;
    bool good = true;

    read_options(argc, argv, &o);
    (void)signal(SIGPIPE, SIG_IGN);
    if (o.devices_file != NULL) {
        read_devices(&o);
    } else {
        (void)add_device(&o);
    }
    find_server(&o);
    set_up_tls(&o);
    if (o.enrol) {
        run(&o, true, &sum);
        good = judge("enrolment", &sum);
    }
    if (good && o.seconds_us > 0) {
        run(&o, false, &sum);
        report(&o, &sum);
        good = judge("measurement", &sum);
    }
    clear(&o);
    return good ? 0 : EXIT_ANSWERS;
}
