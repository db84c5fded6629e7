/*
 * mdm_apns_int.h - what mdm_apns.c (session, bytes, time),
 * mdm_apns_request.c (one push) and mdm_apns_frames.c (what the peer sends)
 * share; nobody else includes it.
 *
 * A push is one block: the struct and behind it every string of its request,
 * which nghttp2 reads in place.  It lives until it has its outcome and, where
 * it became a stream, until nghttp2 has closed that stream.
 */
#ifndef MDM_APNS_INT_H
#define MDM_APNS_INT_H

#include <nghttp2/nghttp2.h>

#include "mdm_apns.h"
#include "mdm_buf.h"

#define MDM_APNS_DETAIL_MAX 160
/* First bytes of the peer, kept to tell an HTTP/1 answer. */
#define MDM_APNS_HEAD_LEN 8
/* Largest answer body looked at; Apple's are under 100 bytes. */
#define MDM_APNS_BODY_MAX 4096

typedef struct mdm_apns_item {
    struct mdm_apns_item *prev;
    struct mdm_apns_item *next;
    uint64_t tag;
    int64_t deadline_us;
    int32_t stream_id; /* 0: nghttp2 has not got it yet */
    bool sent;         /* its HEADERS left mdm_apns_take */
    bool done;         /* the outcome was reported */
    bool final;        /* the final status has come */
    bool reset;        /* the peer reset the stream */
    int status;
    int64_t retry_after_s;
    char answer_id[MDM_UUID_SIZE];
    mdm_buf_t answer; /* body of the answer */
    size_t body_sent;
    mdm_str_t path;
    mdm_str_t topic;
    mdm_str_t body;
    char priority[4];
    char expiration[24];
    char length[24];
    char id[MDM_UUID_SIZE];
    char text[]; /* what path, topic and body point into */
} mdm_apns_item_t;

typedef struct mdm_apns_list {
    mdm_apns_item_t *head;
    mdm_apns_item_t *tail;
} mdm_apns_list_t;

struct mdm_apns {
    nghttp2_session *session;
    char *authority;
    uint32_t max_streams;
    int64_t answer_timeout_us;
    int64_t ping_idle_us;
    int64_t ping_timeout_us;
    void (*outcome)(void *ctx, const mdm_apns_outcome_t *outcome);
    void *ctx;

    /* Pushes without an outcome in the order of submission, which is that
     * of their deadlines; from `waiting` on nghttp2 has not got them. */
    mdm_apns_list_t open;
    mdm_apns_item_t *waiting;
    mdm_apns_list_t done; /* reported, stream still known to nghttp2 */
    uint32_t n_open;
    uint32_t n_waiting;
    uint32_t n_streams; /* given to nghttp2 and not closed */

    const uint8_t *chunk; /* rest of what nghttp2 gave out last */
    size_t chunk_len;

    bool ready;      /* SETTINGS came */
    bool going_away; /* GOAWAY came */
    bool ending;     /* mdm_apns_shutdown() */
    bool fatal;      /* nghttp2 must not be called again */
    mdm_rc rc;       /* why the session is over, MDM_OK while it is not */
    char detail[MDM_APNS_DETAIL_MAX]; /* the same in words */
    char goaway[2 * MDM_APNS_REASON_MAX];
    char head[MDM_APNS_HEAD_LEN];
    size_t head_len;

    int64_t start_us;
    int64_t heard_us; /* last time bytes came */
    int64_t ping_us;  /* unanswered ping, -1: none */
    bool doubted;     /* is the peer still there?  That ping will tell */
};

/* Reports the outcome of a push, once; frees it or parks it until its stream
 * is closed.  `reason` may be NULL. */
void mdm_apns_finish(mdm_apns_t *apns, mdm_apns_item_t *item,
                     mdm_apns_kind_t kind, const char *reason);
/* Reports as unsent every push that never left mdm_apns_take. */
void mdm_apns_drop_unsent(mdm_apns_t *apns, const char *reason);
/* The stream of the push is closed: frees the push. */
void mdm_apns_closed(mdm_apns_t *apns, mdm_apns_item_t *item);
/* The peer broke the protocol and nghttp2 ends the session: keeps why, from
 * nghttp2's GOAWAY where there is one. */
void mdm_apns_breach(mdm_apns_t *apns, const nghttp2_goaway *goaway);

/* Printable ASCII without blanks, 1 to max bytes: fit for a header. */
bool mdm_apns_is_text(mdm_str_t text, size_t max);
/* Checks a push and formats its request; stream and list are not set. */
mdm_rc mdm_apns_item_new(const mdm_apns_push_t *push,
                         mdm_apns_item_t **item_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Hands the first waiting push to nghttp2. */
mdm_rc mdm_apns_open_stream(mdm_apns_t *apns, mdm_apns_item_t *item)
    MDM_USE_RESULT;

/* Fills reason and time stamp of an answer from its body. */
void mdm_apns_read_answer(const mdm_apns_item_t *item,
                          mdm_apns_outcome_t *outcome);
/* The callbacks for whatever the peer sends, in a fresh object. */
mdm_rc mdm_apns_callbacks(nghttp2_session_callbacks **callbacks_r,
                          mdm_err_t *err) MDM_USE_RESULT;

#endif
