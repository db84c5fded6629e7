/*
 * pushload.c - fills a store with due pushes and has the real dispatcher send
 * them.
 *
 *   pushload fill: enrols -n devices with push tokens through the store's
 *     verbs, in large transactions, and unless -e is given queues one command
 *     for all of them, so that a push is due for each.
 *   pushload run: starts a dispatcher on that store, as a worker process
 *     does, and waits until every push has its outcome in the store.  Prints
 *     the time from the connection to the last outcome, the processor time
 *     of the process within it, and how much memory it took.
 *
 * Two commands, so that filling does not count into the memory of sending.
 * The dispatcher has its own thread; this one only looks at the store.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <sqlite3.h>

#include "mdm_dispatch.h"
#include "mdm_store.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define PER_TRANSACTION 2000
#define LOOK_US 5000
#define PEM_MAX 65536
#define COMMAND_UUID "7B1E2C5A-0D5B-4C2E-9C58-2F4B3A6D1E00"
#define TOKEN_LEN 32

typedef struct options {
    const char *dir;
    const char *topic;
    const char *ca_file;
    const char *cert_file;
    const char *host;
    uint32_t pushes;
    uint32_t port;
    uint32_t concurrency;
    uint32_t patience_s;
    int64_t repeat_us;
    bool enrolments_only;
} options_t;

__attribute__((format(printf, 1, 2), noreturn)) static void die(
    const char *fmt, ...)
{
    va_list ap;

    fputs("pushload: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    exit(2);
}

static void must(mdm_rc rc, const char *what, const mdm_err_t *err)
{
    if (rc != MDM_OK) {
        die("%s: %s", what, err->text);
    }
}

/* ---- the log: says when the connection was there ------------------------ */

static atomic_int_least64_t connected_us;

static bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    return level <= MDM_LOG_NOTICE;
}

static void log_write(void *ctx, mdm_level_t level, const char *file,
                      int line, const char *msg)
{
    int_least64_t none = 0;
    char mark[16];

    (void)ctx;
    (void)file;
    (void)line;
    (void)snprintf(mark, sizeof(mark), "MDM%04d:", MDM_MSG_PUSH_CONNECTED);
    if (strncmp(msg, mark, strlen(mark)) == 0) {
        (void)atomic_compare_exchange_strong(&connected_us, &none,
                                             mdm_mono_us(NULL));
    } else if (level < MDM_LOG_NOTICE) {
        fprintf(stderr, "pushload: log: %s\n", msg);
    }
}

static const mdm_log_t the_log = {NULL, log_on, log_write};

static mdm_store_t *open_store(const options_t *o)
{
    mdm_store_config_t config = {.url = "sqlite:mdm.db",
                                 .state_dir = o->dir,
                                 .connections = 4,
                                 .timeout_us = 30 * MDM_SEC,
                                 .push_repeat_us = o->repeat_us,
                                 .log = &the_log};
    mdm_store_t *store;
    mdm_err_t err;

    must(mdm_store_new(&config, &store, &err), "store", &err);
    must(mdm_store_open(store, &err), "store", &err);
    return store;
}

/* ---- filling ------------------------------------------------------------ */

typedef struct fill_job {
    const options_t *o;
    uint32_t first;
    uint32_t end;
    int64_t cid; /* 0: no command */
    int64_t now_us;
} fill_job_t;

static mdm_rc add_command(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    fill_job_t *job = arg;

    return mdm_store_command_add(
        tx, MDM_STR(COMMAND_UUID), MDM_STR("DeviceInformation"),
        MDM_STR("<plist version=\"1.0\"><dict><key>Command</key><dict/>"
                "</dict></plist>"),
        job->now_us, &job->cid, err);
}

/* The device says who it is and what its token is. */
static mdm_rc add_enrolment(mdm_tx_t *tx, const fill_job_t *job, uint32_t n,
                            int64_t *eid_r, mdm_err_t *err)
{
    mdm_checkin_t msg = {.type = MDM_CHECKIN_TOKEN_UPDATE};
    mdm_channel_t channel = {.type = MDM_CHANNEL_DEVICE};
    unsigned char token[TOKEN_LEN];
    char magic[MDM_UUID_SIZE];
    char id[32];
    int64_t tally;
    mdm_rc rc;

    (void)snprintf(id, sizeof(id), "00008030-%016" PRIX32, n);
    rc = mdm_sha256(mdm_str_from(id), token, err);
    if (rc == MDM_OK) {
        rc = mdm_uuid_new(magic, err);
    }
    channel.id = mdm_str_from(id);
    channel.device = channel.id;
    msg.topic = mdm_str_from(job->o->topic);
    msg.token = (mdm_str_t){(const char *)token, sizeof(token)};
    msg.push_magic = mdm_str_from(magic);
    if (rc == MDM_OK) {
        rc = mdm_store_enrollment_add(tx, &channel, 0, job->now_us, eid_r,
                                      err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_token_update(tx, *eid_r, &msg,
                                    MDM_STR("<plist/>"), job->now_us, &tally,
                                    err);
    }
    return rc;
}

static mdm_rc fill_some(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    fill_job_t *job = arg;
    mdm_queue_add_t add = {.cid = job->cid, .priority = 5};
    mdm_push_ticket_t ticket;
    mdm_rc rc = MDM_OK;
    uint32_t n;

    for (n = job->first; rc == MDM_OK && n < job->end; n++) {
        rc = add_enrolment(tx, job, n, &add.eid, err);
        if (rc == MDM_OK && job->cid != 0) {
            rc = mdm_store_queue_add(tx, &add, job->now_us, err);
        }
        if (rc == MDM_OK && job->cid != 0) {
            rc = mdm_store_push_mark(tx, add.eid,
                                     mdm_str_from(job->o->topic),
                                     job->now_us, &ticket, err);
        }
    }
    return rc;
}

static int fill(const options_t *o)
{
    mdm_store_t *store = open_store(o);
    fill_job_t job = {.o = o, .now_us = mdm_wall_us(NULL)};
    mdm_err_t err;

    if (!o->enrolments_only) {
        must(mdm_store_write(store, add_command, &job, &err), "command",
             &err);
    }
    while (job.first < o->pushes) {
        job.end = o->pushes - job.first > PER_TRANSACTION
                      ? job.first + PER_TRANSACTION
                      : o->pushes;
        must(mdm_store_write(store, fill_some, &job, &err), "enrolments",
             &err);
        job.first = job.end;
    }
    mdm_store_free(&store);
    return 0;
}

/* ---- sending ------------------------------------------------------------ */

typedef struct look_job {
    mdm_str_t topic;
    int64_t due_us;
} look_job_t;

static mdm_rc next_due(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_job_t *job = arg;

    return mdm_store_push_next_due(tx, job->topic, &job->due_us, err);
}

static int64_t cpu_us(void)
{
    struct rusage used;

    (void)getrusage(RUSAGE_SELF, &used);
    return (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * MDM_SEC +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* "VmRSS" or "VmHWM" of this process, in MB. */
static double memory_mb(const char *what)
{
    FILE *f = fopen("/proc/self/status", "r");
    size_t n = strlen(what);
    char line[128];
    double kb = 0;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, what, n) == 0) {
            kb = strtod(line + n + 1, NULL);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kb / 1024;
}

/* First column of the first row, read beside the store. */
static int64_t ask(const options_t *o, const char *sql)
{
    sqlite3_stmt *st = NULL;
    sqlite3 *db = NULL;
    int64_t value = -1;
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/mdm.db", o->dir);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) ==
            SQLITE_OK &&
        sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        value = sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    return value;
}

static mdm_keypair_t read_cert(const options_t *o, mdm_arena_t *arena)
{
    FILE *f = fopen(o->cert_file, "r");
    mdm_keypair_t pair;
    mdm_err_t err;
    char *text = mdm_arena_alloc(arena, PEM_MAX);
    mdm_str_t pem = {text, 0};

    if (f == NULL || text == NULL) {
        die("cannot read %s", o->cert_file);
    }
    pem.n = fread(text, 1, PEM_MAX, f);
    (void)fclose(f);
    must(mdm_keypair_read(&pem, 1, MDM_STR_NONE, arena, &pair, &err),
         o->cert_file, &err);
    return pair;
}

/* A push that waits is due now; one that was claimed within two minutes; one
 * that was delivered in hours, if ever. */
static bool all_over(mdm_store_t *store, mdm_str_t topic)
{
    look_job_t job = {.topic = topic};
    mdm_err_t err;

    must(mdm_store_read(store, next_due, &job, &err), "store", &err);
    return job.due_us > mdm_wall_us(NULL) + 600 * MDM_SEC;
}

typedef struct span {
    int64_t connected_us; /* when the connection was there; 0: not yet */
    int64_t cpu_us;       /* what had been used by then */
    int64_t end_us;
    int64_t end_cpu_us;
} span_t;

/* False: it took longer than one may wait. */
static bool watch(const options_t *o, mdm_store_t *store, mdm_str_t topic,
                  span_t *span)
{
    int64_t until = mdm_mono_us(NULL) + o->patience_s * MDM_SEC;

    do {
        (void)usleep(span->connected_us == 0 ? 500 : LOOK_US);
        span->end_us = mdm_mono_us(NULL);
        if (span->connected_us == 0) {
            span->cpu_us = cpu_us();
            span->connected_us = atomic_load(&connected_us);
        } else if (all_over(store, topic)) {
            span->end_cpu_us = cpu_us();
            return true;
        }
    } while (span->end_us < until);
    return false;
}

static int report(const options_t *o, const span_t *s, double before_mb,
                  int64_t done)
{
    double seconds = (double)(s->end_us - s->connected_us) / 1e6;

    printf("pushes: %" PRId64 "\n", done);
    printf("seconds: %.3f\n", seconds);
    printf("pushes/s: %.0f\n", (double)done / seconds);
    printf("cpu us: %.1f\n",
           (double)(s->end_cpu_us - s->cpu_us) / (double)done);
    printf("memory before MB: %.1f\n", before_mb);
    printf("memory peak MB: %.1f\n", memory_mb("VmHWM"));
    if (done != o->pushes) {
        fprintf(stderr,
                "pushload: %" PRIu32 " pushes, %" PRId64 " were accepted\n",
                o->pushes, done);
        return 1;
    }
    return 0;
}

static int run(const options_t *o)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_keypair_t pair = read_cert(o, arena);
    const mdm_keypair_t *pairs[1] = {&pair};
    mdm_store_t *store = open_store(o);
    mdm_dispatch_config_t config = {
        .store = store,
        .log = &the_log,
        .host_name = "pushload",
        .push = true,
        .push_host = o->host,
        .push_port = (uint16_t)o->port,
        .push_ca_file = o->ca_file,
        .push_expiration_us = 7 * 24 * 3600 * MDM_SEC,
        .push_timeout_us = 30 * MDM_SEC,
        .push_ping_us = 600 * MDM_SEC,
        .push_concurrency = o->concurrency,
        .policy = {15 * MDM_SEC, 3600 * MDM_SEC, o->repeat_us},
        .lease_life_us = 15 * MDM_SEC,
        .file_certs = pairs,
        .nfile_certs = 1,
    };
    double before_mb = memory_mb("VmRSS");
    mdm_dispatch_t *dispatch;
    span_t span = {0};
    mdm_err_t err;
    bool over;

    must(mdm_dispatch_start(&config, &dispatch, &err), "dispatcher", &err);
    over = watch(o, store, pair.topic, &span);
    mdm_dispatch_stop(&dispatch, 5 * MDM_SEC);
    mdm_store_free(&store);
    mdm_arena_free(&arena);
    if (!over) {
        die("not done after %" PRIu32 " s", o->patience_s);
    }
    return report(o, &span, before_mb,
                  ask(o, "SELECT COUNT(*) FROM push"
                         " WHERE last_status = 200"));
}

/* ---- options ------------------------------------------------------------ */

static const char usage_text[] =
    "usage: pushload fill -D DIR -T TOPIC -n PUSHES [-e]\n"
    "       pushload run -D DIR -n PUSHES -p PORT -a CA_FILE -k CERT_AND_KEY\n"
    "                [-H HOST] [-c PUSHES_IN_FLIGHT] [-s SECONDS_AT_MOST]\n"
    "  DIR  absolute; holds mdm.db and secret.key, made by fill\n"
    "  -e   enrolments alone, nothing is due\n"
    "Exit status: 0 all pushes were accepted, 1 some were not, 2 other\n"
    "trouble.\n";

static uint32_t number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n == 0 || n > 100000000) {
        die("\"%s\" is no number", text);
    }
    return (uint32_t)n;
}

static void read_options(int argc, char **argv, options_t *o)
{
    int opt;

    while ((opt = getopt(argc, argv, "D:T:n:p:a:k:H:c:s:e")) != -1) {
        switch (opt) {
        case 'D':
            o->dir = optarg;
            break;
        case 'T':
            o->topic = optarg;
            break;
        case 'n':
            o->pushes = number(optarg);
            break;
        case 'p':
            o->port = number(optarg);
            break;
        case 'a':
            o->ca_file = optarg;
            break;
        case 'k':
            o->cert_file = optarg;
            break;
        case 'H':
            o->host = optarg;
            break;
        case 'c':
            o->concurrency = number(optarg);
            break;
        case 's':
            o->patience_s = number(optarg);
            break;
        case 'e':
            o->enrolments_only = true;
            break;
        default:
            die("%s", usage_text);
        }
    }
}

int main(int argc, char **argv)
{
    options_t o = {.host = "localhost",
                   .concurrency = 1000,
                   .patience_s = 600,
                   .repeat_us = 4 * 3600 * MDM_SEC};

    if (argc > 1) {
        read_options(argc - 1, argv + 1, &o);
    }
    if (o.dir == NULL || o.dir[0] != '/' || o.pushes == 0) {
        die("%s", usage_text);
    }
    if (strcmp(argv[1], "fill") == 0 && o.topic != NULL) {
        return fill(&o);
    }
    if (strcmp(argv[1], "run") == 0 && o.port != 0 && o.ca_file != NULL &&
        o.cert_file != NULL) {
        return run(&o);
    }
    die("%s", usage_text);
}
