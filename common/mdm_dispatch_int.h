/*
 * mdm_dispatch_int.h - between mdm_dispatch.c (the thread and its loop),
 * mdm_dispatch_topic.c (pushes of one topic: claims, answers, how many
 * connections) and mdm_dispatch_session.c (one connection, and the set of
 * them).  Dispatcher thread only.
 */
#ifndef MDM_DISPATCH_INT_H
#define MDM_DISPATCH_INT_H

#include <poll.h>
#include <pthread.h>

#include "mdm_apns.h"
#include "mdm_conn.h"
#include "mdm_dispatch.h"
#include "mdm_pushcert.h"

#define MDM_SESSIONS_MAX 8 /* of one topic, with those that drain ... */
#define MDM_SESSIONS_WORK 4 /* ... and of these, at work */

/* One connection to APNs with the HTTP/2 session on it. */
typedef struct mdm_session {
    struct mdm_topic *topic;
    mdm_conn_t *conn;
    mdm_apns_t *apns;
    mdm_conn_tls_t *tls;
    int64_t version; /* of the push certificate it uses */
    bool draining;   /* takes no new pushes */
    bool announced;  /* "connected" was logged */
    int64_t used_us; /* monotonic: opened, or last given a push */
    bool more_to_read;
    char out[16384]; /* taken from apns, not yet written */
    size_t out_len;
    size_t out_pos;
} mdm_session_t;

/* One push in flight; its address is the tag. */
typedef struct mdm_flight {
    struct mdm_flight *next; /* list of those ended, or free */
    struct mdm_topic *topic;
    mdm_push_from_t from;
    int64_t attempts;
    int64_t version; /* of the certificate it was sent with */
    char apns_id[MDM_UUID_SIZE];
    mdm_apns_outcome_t outcome;
    bool judged;
    mdm_push_judgement_t judgement;
} mdm_flight_t;

typedef struct mdm_topic {
    struct mdm_dispatch *dispatch;
    char name[MDM_TOPIC_MAX + 1];
    int64_t version;
    bool suspended;
    bool trusted;         /* a push was accepted under this version */
    bool accepted_known;  /* and when that was stands in the store */
    bool accepted_unsaved;
    mdm_push_run_t run;
    mdm_push_run_t accused; /* the run that suspends the topic */
    mdm_session_t *sessions[MDM_SESSIONS_MAX];
    int64_t next_due_us;    /* wall time of the earliest due push */
    int64_t connect_at_us;  /* monotonic: not before */
    int64_t connect_failures;
    struct {
        int64_t since_us;  /* monotonic: APNs' limits are reached and pushes
                            * wait; 0: not so */
        int64_t waited_us; /* the thread's, as of then */
        int64_t accepted;  /* answers since then */
        int64_t refused;
    } full;
    bool more; /* the round ended before the due pushes did */
    int64_t spare_at_us; /* monotonic: no further connection before */
    mdm_push_bucket_t bucket;
    int64_t ready_at_us; /* monotonic: what waits for the rate; 0: nothing */
    mdm_log_limit_t connect_limit;
    mdm_flight_t *ended; /* outcomes not yet written, the first one first */
    mdm_flight_t *last_ended;
    size_t nended;
} mdm_topic_t;

struct mdm_dispatch {
    mdm_dispatch_config_t config;
    pthread_t thread;
    int wake_fd;
    pthread_mutex_t mutex; /* guards the fields down to the blank line */
    pthread_cond_t answered; /* one of the next two changed */
    uint64_t answers;        /* how often answers were stored */
    bool retire;
    bool stop;
    int64_t stop_by_us;
    bool hurry; /* there is no time to write anything more */
    struct {
        int64_t eid;
        int64_t at_us;
    } seen[1024];
    size_t nseen;

    bool joined; /* the thread has ended; the stopping thread's */
    char holder[128];
    bool leading;
    bool store_opened;
    bool certs_adopted;
    int64_t version; /* of the store, when last looked at */
    int64_t certs_version; /* of it, when the certificates were read */
    int64_t look_at_us;
    int64_t resolve_at_us; /* monotonic: no new connection before */
    int64_t waited_us; /* how long the thread has slept in poll() so far */
    mdm_chores_t chores;
    int64_t seen_at_us;
    int64_t store_retry_us;
    uint32_t dice;
    mdm_topic_t *topics[MDM_PUSH_TOPICS_MAX];
    size_t ntopics;
    mdm_log_limit_t store_limit;
    mdm_log_limit_t reject_limit;
};

uint32_t mdm_dispatch_dice(mdm_dispatch_t *d);
/* Logs a store fault, at most one line a minute. */
void mdm_dispatch_store_fault(mdm_dispatch_t *d, const mdm_err_t *err);

/* One more outcome; takes the flight over. */
void mdm_topic_ended(mdm_topic_t *topic, mdm_flight_t *flight);
/* Frees outcomes from the first on. */
void mdm_topic_drop_ended(mdm_topic_t *topic, size_t n);
/* What the store says of the topic's certificate. */
void mdm_topic_set(mdm_topic_t *topic, const mdm_pushcert_row_t *row);
/* Is there a reason to look at its due pushes? */
bool mdm_topic_wants(const mdm_topic_t *topic, int64_t wall_us,
                     int64_t mono_us);
/* Answers of APNs were stored: tells those who wait for them. */
void mdm_dispatch_answered(mdm_dispatch_t *d);

/* Claims and submits what is due, connects where needed. */
void mdm_topic_pump(mdm_topic_t *topic, int64_t mono_us);
/* Moves bytes and deadlines of all sessions; `fds` as filled before. */
void mdm_topic_step(mdm_topic_t *topic, int64_t mono_us);
/* Writes what waits to be sent as far as the peers take it.  A fault stays
 * and ends the session in the next step. */
void mdm_topic_write(mdm_topic_t *topic);
/* Writes ended pushes to the store. */
void mdm_topic_flush(mdm_topic_t *topic);
/* Adds descriptors to poll for; lowers *until_us to the next deadline. */
nfds_t mdm_topic_poll(const mdm_topic_t *topic, struct pollfd *fds,
                      int64_t *until_us);
/* The certificate changed: sessions of other versions drain. */
void mdm_topic_renew(mdm_topic_t *topic, int64_t version);
/* The topic was suspended: its sessions take nothing new. */
void mdm_topic_drain(mdm_topic_t *topic);
/* Starts a new connection in a free place, unless it is too early. */
void mdm_topic_connect(mdm_topic_t *topic, int64_t mono_us);
/* Sessions at work, of which *opening_r are not connected yet. */
size_t mdm_topic_working(const mdm_topic_t *topic, size_t *opening_r);
/* The first open session with room; NULL: none.  *room_r: of all. */
mdm_session_t *mdm_topic_room(const mdm_topic_t *topic, uint64_t *room_r);
/* Is there no open session at work that could take more, as far as APNs'
 * limits go?  Not so while one is being opened. */
bool mdm_topic_is_full(const mdm_topic_t *topic);
/* " (3 more such lines held back)", or nothing. */
const char *mdm_dispatch_held(uint64_t held, char dst[64]);
size_t mdm_topic_in_flight(const mdm_topic_t *topic);
/* Ends all sessions; open pushes become outcomes. */
void mdm_topic_close(mdm_topic_t *topic, const char *why);

#endif
