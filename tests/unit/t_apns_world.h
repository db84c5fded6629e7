/*
 * t_apns_world.h - a push session and its peer joined in memory, for
 * t_apns.c and t_apns_flow.c.  The outcome callback sees to it that no push
 * gets two outcomes, world_end() that each got one.
 */
#ifndef T_APNS_WORLD_H
#define T_APNS_WORLD_H

#include "t_apns_peer.h"

#include <jansson.h>

#include "mdm_apns.h"

#define MAX_OUT 4000
#define START_US INT64_C(5000000)
#define TOPIC "com.apple.mgmt.External.aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define NEVER_SETTINGS UINT32_MAX

typedef struct world {
    mdm_apns_t *apns;
    peer_t peer;
    mdm_apns_outcome_t out[MAX_OUT];
    size_t n_out;
    unsigned char seen[MAX_OUT]; /* outcomes of each tag */
    uint64_t next_tag;
    size_t take_cap;
    size_t feed_cap;
    int64_t now_us;
    mdm_rc feed_rc;
    mdm_err_t err;
} world_t;

static inline void on_outcome(void *ctx, const mdm_apns_outcome_t *outcome)
{
    world_t *w = ctx;

    assert_true(outcome->tag < w->next_tag);
    assert_int_equal(w->seen[outcome->tag], 0);
    w->seen[outcome->tag] = 1;
    w->out[w->n_out++] = *outcome;
}

static inline world_t *world_new_muted(uint32_t limit, int mute_pings)
{
    world_t *w = calloc(1, sizeof(*w));
    mdm_apns_config_t config = {
        .authority = "api.push.example",
        .max_streams = 1000,
        .answer_timeout_us = 20 * MDM_SEC,
        .ping_idle_us = 600 * MDM_SEC,
        .ping_timeout_us = 15 * MDM_SEC,
        .outcome = on_outcome,
    };

    assert_non_null(w);
    config.ctx = w;
    w->take_cap = 16384;
    w->feed_cap = SIZE_MAX;
    w->now_us = START_US;
    peer_init(&w->peer, mute_pings);
    assert_int_equal(mdm_apns_new(&config, w->now_us, &w->apns, &w->err),
                     MDM_OK);
    if (limit != NEVER_SETTINGS) {
        peer_limit(&w->peer, limit);
    }
    return w;
}

static inline world_t *world_new(uint32_t limit)
{
    return world_new_muted(limit, 0);
}

static inline void world_end(world_t *w)
{
    uint64_t i;

    mdm_apns_free(&w->apns, "the end");
    assert_null(w->apns);
    for (i = 0; i < w->next_tag; i++) {
        assert_int_equal(w->seen[i], 1);
    }
    peer_clear(&w->peer);
    free(w);
}

static inline mdm_apns_push_t push_of(world_t *w)
{
    static const char token[] = {0, 1, 2, (char)0xab};
    mdm_apns_push_t push = {
        .tag = w->next_tag,
        .token = {token, sizeof(token)},
        .topic = MDM_STR(TOPIC),
        .magic = MDM_STR("magic"),
        .expiration_s = 1767225600,
        .priority = 10,
        .id = "5c0c7f4e-8b8f-4d3a-9a61-3f2d6f1b7e90",
    };

    return push;
}

static inline mdm_rc submit_push(world_t *w, const mdm_apns_push_t *push)
{
    mdm_rc rc;

    w->next_tag++; /* first: an outcome may come at any time after */
    rc = mdm_apns_submit(w->apns, push, w->now_us, &w->err);
    if (rc != MDM_OK) {
        w->next_tag--;
    }
    return rc;
}

static inline mdm_rc submit_one(world_t *w)
{
    mdm_apns_push_t push = push_of(w);

    return submit_push(w, &push);
}

static inline void submit(world_t *w, unsigned n)
{
    for (; n > 0; n--) {
        assert_int_equal(submit_one(w), MDM_OK);
    }
}

static inline void feed(world_t *w, const uint8_t *data, size_t n)
{
    size_t part;

    while (n > 0 && w->feed_rc == MDM_OK) {
        part = n < w->feed_cap ? n : w->feed_cap;
        w->feed_rc =
            mdm_apns_feed(w->apns, data, part, w->now_us, &w->err);
        data += part;
        n -= part;
    }
}

/* Client to peer, until there is no more. */
static inline bool send_all(world_t *w)
{
    uint8_t out[16384];
    size_t total = 0;
    size_t n;

    do {
        assert_int_equal(mdm_apns_take(w->apns, out, w->take_cap, &n,
                                       &w->err),
                         MDM_OK);
        total += n;
        assert_int_equal(
            nghttp2_session_mem_recv(w->peer.session, out, n), (ssize_t)n);
    } while (n > 0);
    assert_false(mdm_apns_wants_write(w->apns));
    return total > 0;
}

/* Peer to client, until there is no more. */
static inline bool recv_all(world_t *w)
{
    const uint8_t *in;
    bool moved = false;
    ssize_t n;

    while ((n = nghttp2_session_mem_send(w->peer.session, &in)) > 0) {
        moved = true;
        feed(w, in, (size_t)n);
    }
    assert_true(n == 0);
    return moved;
}

/* Moves bytes both ways until neither side has any. */
static inline void pump(world_t *w)
{
    bool moved = true;

    while (moved) {
        moved = send_all(w);
        moved = recv_all(w) || moved;
    }
}

/* What the client wants to say goes nowhere. */
static inline size_t drain(world_t *w)
{
    uint8_t out[4096];
    size_t total = 0;
    size_t n;

    do {
        /* After a fault that ends the session there is nothing to take. */
        if (mdm_apns_take(w->apns, out, sizeof(out), &n, NULL) != MDM_OK) {
            assert_true(w->feed_rc != MDM_OK);
            assert_int_equal(n, 0);
        }
        total += n;
    } while (n > 0);
    return total;
}

static inline const mdm_apns_outcome_t *last(const world_t *w)
{
    assert_true(w->n_out > 0);
    return &w->out[w->n_out - 1];
}

static inline void expect(const world_t *w, mdm_apns_kind_t kind, int status,
                          const char *reason)
{
    assert_int_equal(last(w)->kind, kind);
    assert_int_equal(last(w)->status, status);
    if (reason != NULL) {
        assert_string_equal(last(w)->reason, reason);
    }
}

static inline size_t count(const world_t *w, mdm_apns_kind_t kind)
{
    size_t n = 0;
    size_t i;

    for (i = 0; i < w->n_out; i++) {
        n += w->out[i].kind == kind;
    }
    return n;
}

static inline const char *case_dir(char *dst, size_t cap)
{
    const char *dir = getenv("MDM_TEST_CASES");

#ifdef MDM_TEST_CASES_DIR
    dir = dir != NULL ? dir : MDM_TEST_CASES_DIR;
#endif
    if (dir == NULL) {
        fail_msg("MDM_TEST_CASES is not set");
    }
    (void)snprintf(dst, cap, "%s/apns", dir);
    return dst;
}

static inline json_t *load_case(const char *name)
{
    char dir[400];
    char path[800];
    json_error_t error;
    json_t *root;

    (void)snprintf(path, sizeof(path), "%s/%s", case_dir(dir, sizeof(dir)),
                   name);
    root = json_load_file(path, 0, &error);
    if (root == NULL) {
        fail_msg("%s: %s", path, error.text);
    }
    return root;
}

static inline const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    assert_non_null(text);
    return text;
}

#endif
