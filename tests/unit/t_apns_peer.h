/*
 * t_apns_peer.h - the other end for t_apns.c: an nghttp2 server session in
 * memory that notes requests and answers as it is told.  No sockets, one
 * thread; cmocka's assertions end the test that uses it.
 */
#ifndef T_APNS_PEER_H
#define T_APNS_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

#define MAX_HEADERS 16

typedef struct header {
    char name[32];
    char value[600];
} header_t;

typedef struct request {
    int32_t stream_id;
    header_t headers[MAX_HEADERS];
    size_t n_headers;
    char body[5000];
    size_t body_len;
    int ended;
} request_t;

/* What a request is answered with; zero status: not at all. */
typedef struct answer {
    int status;
    int informational;
    const char *body;
    size_t body_len; /* 0: strlen(body) */
    size_t split;    /* DATA frames of so many bytes; 0: one */
    const char *header;
    const char *value;
    int trailers;
    int no_end;
    int no_id;
} answer_t;

typedef struct body {
    struct body *next;
    const answer_t *answer;
    size_t pos;
} body_t;

typedef struct peer {
    nghttp2_session *session;
    request_t *requests;
    size_t n_requests;
    size_t cap;
    size_t n_open;
    size_t max_open;
    unsigned pings;
    unsigned resets;
    uint32_t reset_code;
    unsigned goaways;
    int at_headers; /* answer before the body has come */
    answer_t answer;
    body_t *bodies;
} peer_t;

static inline request_t *request_of(peer_t *peer, int32_t stream_id)
{
    size_t i;

    for (i = peer->n_requests; i > 0; i--) {
        if (peer->requests[i - 1].stream_id == stream_id) {
            return &peer->requests[i - 1];
        }
    }
    return NULL;
}

static inline const char *header_of(const request_t *request, const char *name)
{
    size_t i;

    for (i = 0; i < request->n_headers; i++) {
        if (strcmp(request->headers[i].name, name) == 0) {
            return request->headers[i].value;
        }
    }
    return NULL;
}

static inline nghttp2_nv nv_of(const char *name, const char *value)
{
    nghttp2_nv nv = {(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value,
                     strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};

    return nv;
}

static inline ssize_t peer_read(nghttp2_session *session, int32_t stream_id,
                                uint8_t *dst, size_t cap, uint32_t *flags,
                                nghttp2_data_source *source, void *ctx)
{
    body_t *body = source->ptr;
    const answer_t *answer = body->answer;
    size_t len = answer->body_len ? answer->body_len : strlen(answer->body);
    size_t n = len - body->pos;
    nghttp2_nv trailer = nv_of("x-t", "1");

    (void)ctx;
    if (n == 0 && answer->no_end) {
        return NGHTTP2_ERR_DEFERRED;
    }
    n = answer->split > 0 && n > answer->split ? answer->split : n;
    n = n > cap ? cap : n;
    memcpy(dst, answer->body + body->pos, n);
    body->pos += n;
    if (body->pos == len && !answer->no_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (answer->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            assert_int_equal(
                nghttp2_submit_trailer(session, stream_id, &trailer, 1), 0);
        }
    }
    return (ssize_t)n;
}

static inline void peer_answer(peer_t *peer, int32_t stream_id,
                               const answer_t *answer)
{
    nghttp2_data_provider provider = {{.ptr = NULL}, peer_read};
    nghttp2_nv nv[4];
    char status[12];
    char id[40];
    size_t n = 0;
    body_t *body;

    if (answer->informational) {
        (void)snprintf(status, sizeof(status), "%d", answer->informational);
        nv[0] = nv_of(":status", status);
        nv[1] = nv_of("retry-after", "77");
        assert_int_equal(nghttp2_submit_headers(peer->session, 0, stream_id,
                                                NULL, nv, 2, NULL),
                         0);
    }
    (void)snprintf(status, sizeof(status), "%d", answer->status);
    (void)snprintf(id, sizeof(id), "00000000-0000-4000-8000-%012d",
                   stream_id);
    nv[n++] = nv_of(":status", status);
    if (!answer->no_id) {
        nv[n++] = nv_of("apns-id", id);
    }
    if (answer->header != NULL) {
        nv[n++] = nv_of(answer->header, answer->value);
    }
    if (answer->body != NULL) {
        body = calloc(1, sizeof(*body));
        assert_non_null(body);
        body->answer = answer;
        body->next = peer->bodies;
        peer->bodies = body;
        provider.source.ptr = body;
    }
    assert_int_equal(nghttp2_submit_response(peer->session, stream_id, nv, n,
                                             answer->body ? &provider : NULL),
                     0);
}

static inline int peer_begin(nghttp2_session *session,
                             const nghttp2_frame *frame, void *ctx)
{
    peer_t *peer = ctx;

    (void)session;
    if (peer->n_requests == peer->cap) {
        peer->cap = peer->cap > 0 ? 2 * peer->cap : 4;
        peer->requests =
            realloc(peer->requests, peer->cap * sizeof(request_t));
        assert_non_null(peer->requests);
    }
    memset(&peer->requests[peer->n_requests], 0, sizeof(request_t));
    peer->requests[peer->n_requests++].stream_id = frame->hd.stream_id;
    if (++peer->n_open > peer->max_open) {
        peer->max_open = peer->n_open;
    }
    return 0;
}

static inline int peer_header(nghttp2_session *session,
                              const nghttp2_frame *frame, const uint8_t *name,
                              size_t name_len, const uint8_t *value,
                              size_t value_len, uint8_t flags, void *ctx)
{
    request_t *request = request_of(ctx, frame->hd.stream_id);
    header_t *header = &request->headers[request->n_headers++];

    (void)session;
    (void)flags;
    assert_true(request->n_headers <= MAX_HEADERS);
    assert_true(name_len < sizeof(header->name));
    assert_true(value_len < sizeof(header->value));
    memcpy(header->name, name, name_len + 1);
    memcpy(header->value, value, value_len + 1);
    return 0;
}

static inline int peer_data(nghttp2_session *session, uint8_t flags,
                            int32_t stream_id, const uint8_t *data, size_t len,
                            void *ctx)
{
    request_t *request = request_of(ctx, stream_id);

    (void)session;
    (void)flags;
    assert_true(request->body_len + len < sizeof(request->body));
    memcpy(request->body + request->body_len, data, len);
    request->body_len += len;
    return 0;
}

static inline int peer_frame(nghttp2_session *session,
                             const nghttp2_frame *frame, void *ctx)
{
    peer_t *peer = ctx;
    request_t *request;

    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_PING:
        peer->pings += (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0;
        break;
    case NGHTTP2_RST_STREAM:
        peer->resets++;
        peer->reset_code = frame->rst_stream.error_code;
        break;
    case NGHTTP2_GOAWAY:
        peer->goaways++;
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        request = request_of(peer, frame->hd.stream_id);
        request->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        if (peer->answer.status != 0 &&
            (request->ended || peer->at_headers)) {
            peer_answer(peer, frame->hd.stream_id, &peer->answer);
        }
        break;
    default:
        break;
    }
    return 0;
}

static inline int peer_close(nghttp2_session *session, int32_t stream_id,
                             uint32_t code, void *ctx)
{
    peer_t *peer = ctx;

    (void)session;
    (void)stream_id;
    (void)code;
    peer->n_open--;
    return 0;
}

static inline void peer_limit(peer_t *peer, uint32_t streams)
{
    nghttp2_settings_entry entry = {
        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams};

    assert_int_equal(
        nghttp2_submit_settings(peer->session, NGHTTP2_FLAG_NONE, &entry, 1),
        0);
}

static inline void peer_goaway(peer_t *peer, int32_t last, uint32_t code,
                               const char *debug)
{
    assert_int_equal(nghttp2_submit_goaway(peer->session, NGHTTP2_FLAG_NONE,
                                           last, code,
                                           (const uint8_t *)debug,
                                           strlen(debug)),
                     0);
}

static inline void peer_init(peer_t *peer, int mute_pings)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    memset(peer, 0, sizeof(*peer));
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_auto_ping_ack(option, mute_pings);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                            peer_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, peer_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              peer_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks,
                                                         peer_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           peer_close);
    assert_int_equal(nghttp2_session_server_new2(&peer->session, callbacks,
                                                 peer, option),
                     0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
}

static inline void peer_clear(peer_t *peer)
{
    body_t *body;

    nghttp2_session_del(peer->session);
    while ((body = peer->bodies) != NULL) {
        peer->bodies = body->next;
        free(body);
    }
    free(peer->requests);
}

#endif
