/*
 * mdm_apns.h - the APNs provider protocol on nghttp2, without sockets.
 *
 * The owner submits pushes, feeds the bytes that came from the peer, takes
 * the bytes that go to it, and gets one outcome for every push it submitted.
 * All calls of one session from one thread; the outcome callback must not
 * call back into the session.  Times are monotonic microseconds, handed in.
 *
 * Protocol facts: docs/protocol.md (APNs).
 */
#ifndef MDM_APNS_H
#define MDM_APNS_H

#include "mdm_base.h"
#include "mdm_err.h"

typedef struct mdm_apns mdm_apns_t;

/* One push; copied by mdm_apns_submit(). */
typedef struct mdm_apns_push {
    uint64_t tag;         /* the owner's, comes back in the outcome */
    mdm_str_t token;      /* raw device token */
    mdm_str_t topic;
    mdm_str_t magic;      /* PushMagic, UTF-8, escaped by us */
    int64_t expiration_s; /* apns-expiration, seconds since 1970; 0: once */
    int priority;         /* 10, 5 or 1 */
    char id[MDM_UUID_SIZE]; /* apns-id, lower-case UUID */
} mdm_apns_push_t;

typedef enum mdm_apns_kind {
    MDM_APNS_ANSWERED, /* APNs answered: see status and reason */
    MDM_APNS_UNSENT,   /* certainly not processed: may go out at once again */
    MDM_APNS_UNKNOWN   /* no answer: may or may not have been processed */
} mdm_apns_kind_t;

#define MDM_APNS_REASON_MAX 64

typedef struct mdm_apns_outcome {
    uint64_t tag;
    mdm_apns_kind_t kind;
    int status;                       /* HTTP status of an answer */
    char reason[MDM_APNS_REASON_MAX]; /* APNs reason word, "" with 200; for
                                         UNSENT and UNKNOWN what happened */
    int64_t timestamp_ms;  /* of a 410, else 0 */
    int64_t retry_after_s; /* of a Retry-After header, else 0 */
    char id[MDM_UUID_SIZE]; /* apns-id of the answer, "" when absent */
} mdm_apns_outcome_t;

typedef struct mdm_apns_config {
    const char *authority;    /* value of :authority, copied */
    uint32_t max_streams;     /* our own upper bound of streams in flight */
    int64_t answer_timeout_us; /* for one push */
    int64_t ping_idle_us;     /* ping after so long without traffic */
    int64_t ping_timeout_us;  /* and give up so long after the ping */
    void (*outcome)(void *ctx, const mdm_apns_outcome_t *outcome);
    void *ctx;
} mdm_apns_config_t;

/* New session; the client preface and SETTINGS wait to be taken. */
mdm_rc mdm_apns_new(const mdm_apns_config_t *config, int64_t now_us,
                    mdm_apns_t **apns_r, mdm_err_t *err) MDM_USE_RESULT;
/* Reports every open push (MDM_APNS_UNKNOWN, or UNSENT where it never left
 * mdm_apns_take) with `why` as reason, then frees.  Sets *apns to NULL. */
void mdm_apns_free(mdm_apns_t **apns, const char *why);

/* How many pushes may be submitted now: the peer's live
 * MAX_CONCURRENT_STREAMS and our bound less what is open; 0 after GOAWAY,
 * when the session is finished, and while a peer that missed an answer and was
 * silent ever since has not answered a ping. */
uint32_t mdm_apns_room(const mdm_apns_t *apns);
/* Is it the peer's MAX_CONCURRENT_STREAMS that leaves no room?  False where
 * our own bound is the lower one, and for each other reason. */
bool mdm_apns_is_full(const mdm_apns_t *apns);
/* MDM_EBUSY: no room.  MDM_ECLOSED: session ended or going away.
 * MDM_EINVAL: token or magic empty or over its maximum, magic not UTF-8.
 * On an error there is no outcome. */
mdm_rc mdm_apns_submit(mdm_apns_t *apns, const mdm_apns_push_t *push,
                       int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;

/* Bytes from the peer.  MDM_ECLOSED or MDM_EINVAL: a connection error, the
 * owner closes the connection and frees the session. */
mdm_rc mdm_apns_feed(mdm_apns_t *apns, const void *data, size_t n,
                     int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;
/* Moves up to cap bytes for the peer to dst; 0: nothing to send. */
mdm_rc mdm_apns_take(mdm_apns_t *apns, void *dst, size_t cap, size_t *n_r,
                     mdm_err_t *err) MDM_USE_RESULT;
bool mdm_apns_wants_write(const mdm_apns_t *apns);

/* Deadlines: answers that did not come, pings due or unanswered.
 * MDM_ETIMEDOUT: the peer is dead, close.  mdm_apns_deadline() says when to
 * call next.  Feed what has come first, or a late tick sees a dead peer. */
mdm_rc mdm_apns_tick(mdm_apns_t *apns, int64_t now_us, mdm_err_t *err)
    MDM_USE_RESULT;
int64_t mdm_apns_deadline(const mdm_apns_t *apns);

uint32_t mdm_apns_in_flight(const mdm_apns_t *apns);
/* The peer's SETTINGS have come: the connection works. */
bool mdm_apns_ready(const mdm_apns_t *apns);
/* The peer said GOAWAY, or the stream ids are nearly used up: submit no more;
 * done when nothing is in flight. */
bool mdm_apns_going_away(const mdm_apns_t *apns);
/* Printable reason of the GOAWAY ("" when none), bounded, for the log. */
const char *mdm_apns_goaway_reason(const mdm_apns_t *apns);

/* Ends politely: queues our GOAWAY; take and send what is left. */
void mdm_apns_shutdown(mdm_apns_t *apns);

#endif
