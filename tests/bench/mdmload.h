/*
 * mdmload.h - what the two files of the load generator share.  mdmload.c
 * reads the options and prints, mdmload_run.c does the work between.
 */
#ifndef MDMLOAD_H
#define MDMLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

#define SEC ((int64_t)1000000) /* times are in microseconds */
#define ID_MAX 128
#define NAME_SIZE 1024
#define STATUS_MAX 1000
/* Latencies: 64 steps for each power of two, so within 1.6 percent. */
#define STEPS 64
#define BUCKETS (36 * STEPS)

typedef struct device {
    X509 *cert; /* NULL: no client certificate */
    EVP_PKEY *key;
    char udid[ID_MAX + 1];
} device_t;

typedef struct options {
    char authority[NAME_SIZE]; /* host and port as they stand in the URL */
    char host[NAME_SIZE];
    char port[16];
    char path[NAME_SIZE];
    const char *checkin_path;
    const char *devices_file;
    const char *ca_file;
    const char *topic;
    unsigned connections;
    unsigned threads;
    unsigned per_connection; /* requests; 0: no end */
    int status;
    int64_t seconds_us;
    int64_t warm_up_us;
    bool get;
    bool enrol;
    bool any_body;
    bool insecure;
    device_t *devices;
    unsigned ndevices;
    struct sockaddr_storage address;
    socklen_t address_len;
    SSL_CTX *tls;
} options_t;

/* What all threads counted together. */
typedef struct tally {
    uint64_t requests;   /* answers within the measured time */
    uint64_t unexpected; /* wrong status, or a body where none belongs */
    uint64_t reconnects; /* the server ended a connection in good order */
    uint64_t faults;     /* broken connections and unreadable answers */
    uint64_t statuses[STATUS_MAX];
    uint64_t latency[BUCKETS];
    int64_t slowest_us;
    char first_fault[256];
} tally_t;

/* Enrols every device (enrol), or sends the request of the options on all
 * connections for the time they say.  Blocks until all threads have ended.
 * False: no memory or no threads for it; the program should end. */
bool run_phase(const options_t *options, bool enrol, tally_t *sum_r);

#endif
