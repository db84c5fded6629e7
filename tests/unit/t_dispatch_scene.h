/*
 * t_dispatch_scene.h - a dispatcher, a store and a push service on 127.0.0.1
 * (t_dispatch_peer.h), put together.  Waits for conditions.
 */
#ifndef T_DISPATCH_SCENE_H
#define T_DISPATCH_SCENE_H

#include "t_store_world.h"

#include <signal.h>

#include "mdm_dispatch.h"
#include "mdm_pushcert.h"
#include "mdm_time.h"
#include "t_dispatch_peer.h"

#define WAIT_US (20 * MDM_SEC)

typedef struct scene {
    world_t *w;
    testcert_t ca;
    testcert_t identity;
    testcert_t push;
    char ca_file[64];
    mdm_keypair_t pair;
    const mdm_keypair_t *pairs[1];
    peer_t peer;
    mdm_dispatch_config_t config;
} scene_t;

static inline void read_pair(scene_t *s)
{
    char *text = testcert_both(&s->push);
    mdm_str_t both = mdm_str_from(text);

    assert_int_equal(mdm_keypair_read(&both, 1, MDM_STR_NONE,
                                      s->w->arena, &s->pair, &s->w->err),
                     MDM_OK);
    free(text);
    s->pairs[0] = &s->pair;
}

/* Answers are those of the script, then 200; the rest of `how` may say more of
 * them. */
static inline scene_t *scene_like(world_t *w, const int *script, peer_t how)
{
    scene_t *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->peer = how;
    s->w = w;
    s->ca = testcert_ca("peer ca");
    s->identity = testcert_make((testcert_want_t){
        .name = "peer", .san = "IP:127.0.0.1", .issuer = &s->ca,
        .from_day = -1, .to_day = 10});
    s->push = testcert_push(TOPIC);
    testcert_write(w->dir, "peer.pem", testcert_pem(&s->ca), NULL);
    (void)snprintf(s->ca_file, sizeof(s->ca_file), "%s/peer.pem", w->dir);
    read_pair(s);
    s->peer.script = script;
    peer_start(&s->peer, &s->identity);
    s->config = (mdm_dispatch_config_t){
        .store = w->store,
        .host_name = "test/1",
        .push = true,
        .push_host = "127.0.0.1",
        .push_port = s->peer.port,
        .push_ca_file = s->ca_file,
        .push_expiration_us = 3600 * MDM_SEC,
        .push_timeout_us = 10 * MDM_SEC,
        .push_concurrency = 10,
        .push_ping_us = 600 * MDM_SEC,
        .policy = {.retry_min_us = MDM_SEC / 10, .retry_max_us = MDM_SEC},
        .lease_life_us = 3 * MDM_SEC,
        .file_certs = s->pairs,
        .nfile_certs = 1,
    };
    return s;
}

static inline scene_t *scene(world_t *w, const int *script)
{
    return scene_like(w, script, (peer_t){.reason = NULL});
}

static inline void scene_end(scene_t *s)
{
    peer_end(&s->peer);
    testcert_free(&s->ca);
    testcert_free(&s->identity);
    testcert_free(&s->push);
    free(s);
}

static inline mdm_dispatch_t *start(scene_t *s, mdm_store_t *store)
{
    mdm_dispatch_t *d = NULL;
    mdm_dispatch_config_t *config = &s->config;

    config->store = store;
    assert_int_equal(mdm_dispatch_start(config, &d, &s->w->err), MDM_OK);
    return d;
}

static inline bool wait_sql(const world_t *w, const char *sql, int64_t wanted)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;

    while (db_int(w, sql) != wanted) {
        if (mdm_mono_us(NULL) > until) {
            return false;
        }
        (void)usleep(10000);
    }
    return true;
}

static inline bool wait_count(atomic_int *count, int wanted)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;

    while (atomic_load(count) < wanted) {
        if (mdm_mono_us(NULL) > until) {
            return false;
        }
        (void)usleep(5000);
    }
    return true;
}

static inline bool wait_zero(atomic_int *count)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;

    while (atomic_load(count) != 0) {
        if (mdm_mono_us(NULL) > until) {
            return false;
        }
        (void)usleep(5000);
    }
    return true;
}

/* Devices "0", "1" ... that can be woken. */
static inline void fleet(world_t *w, int n)
{
    char id[16];
    int i;

    for (i = 0; i < n; i++) {
        (void)snprintf(id, sizeof(id), "%d", i);
        enroll(w, id, (char)('0' + i % 64));
    }
}

static inline void push_some(world_t *w, int first, int n)
{
    mdm_target_result_t *t = calloc((size_t)n, sizeof(*t));
    char (*ids)[16] = calloc((size_t)n, sizeof(*ids));
    size_t pushed = 0;
    int i;

    assert_non_null(t);
    assert_non_null(ids);
    for (i = 0; i < n; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "%d", first + i);
        t[i].id = mdm_str_from(ids[i]);
    }
    assert_int_equal(mdm_queue_push(w->store, t, (size_t)n, &pushed, &w->err),
                     MDM_OK);
    assert_int_equal(pushed, n);
    free(ids);
    free(t);
}

/* The same for hundreds, in one transaction and without identities. */
typedef struct many {
    int first;
    int n;
} many_t;

static inline mdm_rc add_many(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const many_t *m = arg;
    mdm_checkin_t msg = {.type = MDM_CHECKIN_TOKEN_UPDATE,
                         .topic = MDM_STR(TOPIC),
                         .token = MDM_STR("token-of-the-device"),
                         .push_magic = MDM_STR("magic-of-the-device")};
    mdm_channel_t c;
    int64_t tally;
    int64_t eid;
    char id[16];
    int i;
    mdm_rc rc = MDM_OK;

    for (i = 0; rc == MDM_OK && i < m->n; i++) {
        (void)snprintf(id, sizeof(id), "%d", m->first + i);
        c = channel(id);
        rc = mdm_store_enrollment_add(tx, &c, 0, 1, &eid, err);
        if (rc == MDM_OK) {
            rc = mdm_store_token_update(tx, eid, &msg, MDM_STR("raw"), 1,
                                        &tally, err);
        }
    }
    return rc;
}

static inline void large_fleet(world_t *w, int n)
{
    many_t m = {.first = 0, .n = n};

    assert_int_equal(mdm_store_write(w->store, add_many, &m, &w->err),
                     MDM_OK);
}

#define DUE "SELECT COUNT(*) FROM push WHERE due_at IS NOT NULL"

#endif
