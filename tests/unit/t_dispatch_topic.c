/*
 * t_dispatch_topic.c - the pushes of one topic, driven step by step without
 * the thread: what happens between a look at the store and a claim, when
 * answers cannot be written, and what counts as a burst.  The push service on
 * 127.0.0.1 is a real one (t_dispatch_peer.h); times are handed in.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif

#include "t_dispatch_scene.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sqlite3.h>

#include "mdm_dispatch_int.h"

typedef struct stage {
    world_t *w;
    scene_t *s;
    mdm_dispatch_t d;
    mdm_topic_t topic;
    sqlite3 *intruder; /* holds the store's lock */
} stage_t;

static void import_cert(stage_t *g)
{
    mdm_pushcert_import_t how = {MDM_PUSHCERT_API, true, false};
    bool stored = false;

    assert_int_equal(mdm_pushcert_import(g->w->store, &g->s->pair, &how,
                                         &stored, &g->w->err), MDM_OK);
    assert_true(stored);
}

/* Another certificate of the same topic, in the store only. */
static void renew_cert(stage_t *g)
{
    testcert_free(&g->s->push);
    g->s->push = testcert_push(TOPIC);
    read_pair(g->s);
    import_cert(g);
}

/* What the dispatcher does when it looks. */
static mdm_rc look(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    stage_t *g = arg;
    mdm_pushcert_row_t row;
    size_t n;
    mdm_rc rc = mdm_store_pushcert_list(tx, g->w->arena, &row, 1, &n, err);

    if (rc == MDM_OK && n == 1) {
        mdm_topic_set(&g->topic, &row);
    }
    return rc;
}

static void look_at_cert(stage_t *g)
{
    assert_int_equal(mdm_store_read(g->w->store, look, g, &g->w->err),
                     MDM_OK);
}

static void stage_begin(stage_t *g, world_t *w, peer_t how, uint32_t bound)
{
    static const int script[] = {0};

    memset(g, 0, sizeof(*g));
    g->w = w;
    g->s = scene_like(w, script, how);
    g->s->config.push_concurrency = bound;
    g->d.config = g->s->config;
    (void)snprintf(g->d.holder, sizeof(g->d.holder), "stage");
    assert_int_equal(pthread_mutex_init(&g->d.mutex, NULL), 0);
    assert_int_equal(pthread_cond_init(&g->d.answered, NULL), 0);
    g->topic.dispatch = &g->d;
    (void)snprintf(g->topic.name, sizeof(g->topic.name), TOPIC);
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
    import_cert(g);
    look_at_cert(g);
}

static void stage_end(stage_t *g)
{
    mdm_topic_close(&g->topic, "end of the test");
    mdm_topic_drop_ended(&g->topic, g->topic.nended);
    (void)pthread_cond_destroy(&g->d.answered);
    (void)pthread_mutex_destroy(&g->d.mutex);
    scene_end(g->s);
}

static void step(stage_t *g)
{
    mdm_topic_step(&g->topic, mdm_mono_us(NULL));
    (void)usleep(2000);
}

static mdm_session_t *open_session(stage_t *g)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;
    mdm_session_t *s;
    uint64_t room;

    mdm_topic_connect(&g->topic, mdm_mono_us(NULL));
    while ((s = mdm_topic_room(&g->topic, &room)) == NULL) {
        assert_true(mdm_mono_us(NULL) < until);
        step(g);
    }
    return s;
}

/* Until nothing is in flight; outcomes wait to be written. */
static void answers(stage_t *g)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;

    while (mdm_topic_in_flight(&g->topic) > 0) {
        assert_true(mdm_mono_us(NULL) < until);
        step(g);
    }
}

#define CLAIMED "SELECT COUNT(*) FROM push WHERE claimed_by IS NOT NULL"

/* ---- names --------------------------------------------------------------- */

/* The name server "slow.invalid" takes its time and says nothing. */
static int asked;

int getaddrinfo(const char *host, const char *service,
                const struct addrinfo *hints, struct addrinfo **found)
{
    union {
        void *p;
        int (*f)(const char *, const char *, const struct addrinfo *,
                 struct addrinfo **);
    } real = {.p = dlsym(RTLD_NEXT, "getaddrinfo")};

    if (strcmp(host, "slow.invalid") != 0) {
        return real.f(host, service, hints, found);
    }
    asked++;
    (void)usleep(1100000);
    return EAI_AGAIN;
}

/* When the name server is away each topic does not wait for it in turn: the
 * thread has other things to do as well. */
static void test_slow_names_block_once(void **state)
{
    stage_t g;
    mdm_topic_t other;
    int64_t mono;

    stage_begin(&g, *state, (peer_t){.reason = NULL}, 10);
    other = g.topic;
    g.d.config.push_host = "slow.invalid";
    asked = 0;
    mono = mdm_mono_us(NULL);
    mdm_topic_connect(&g.topic, mono);
    mdm_topic_connect(&other, mono);
    assert_int_equal(asked, 1);
    mdm_topic_connect(&other, mdm_mono_us(NULL));
    assert_int_equal(asked, 1);
    while (mdm_mono_us(NULL) < g.d.resolve_at_us) {
        assert_true(mdm_mono_us(NULL) < mono + WAIT_US);
        (void)usleep(20000);
    }
    mdm_topic_connect(&other, mdm_mono_us(NULL));
    assert_int_equal(asked, 2);
    stage_end(&g);
}

/* ---- the certificate ----------------------------------------------------- */

/* Renewed after the dispatcher looked, and before it claims: nothing goes out
 * under the former one, though its connection is open. */
static void test_renewed_before_the_claim(void **state)
{
    stage_t g;
    mdm_session_t *s;

    stage_begin(&g, *state, (peer_t){.reason = NULL}, 10);
    fleet(g.w, 1);
    s = open_session(&g);
    push_some(g.w, 0, 1);
    renew_cert(&g);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_topic_in_flight(&g.topic), 0);
    assert_int_equal(db_int(g.w, CLAIMED), 0);
    assert_int_equal(db_int(g.w, DUE), 1);
    assert_true(g.d.certs_version == -1); /* it looks again */
    look_at_cert(&g);
    assert_true(s->draining);
    s = open_session(&g);
    assert_int_equal(s->version, 2);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_apns_in_flight(s->apns), 1);
    answers(&g);
    mdm_topic_flush(&g.topic);
    assert_int_equal(db_int(g.w, DUE), 0);
    assert_int_equal(atomic_load(&g.s->peer.requests), 1);
    assert_int_equal(atomic_load(&g.s->peer.connections), 2);
    stage_end(&g);
}

/* The same with a topic that somebody else suspended meanwhile. */
static void test_suspended_before_the_claim(void **state)
{
    stage_t g;

    stage_begin(&g, *state, (peer_t){.reason = NULL}, 10);
    fleet(g.w, 1);
    (void)open_session(&g);
    push_some(g.w, 0, 1);
    db_run(g.w, "UPDATE pushcert SET suspended = 'BadCertificate'");
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_topic_in_flight(&g.topic), 0);
    assert_int_equal(db_int(g.w, CLAIMED), 0);
    look_at_cert(&g);
    step(&g);
    assert_null(g.topic.sessions[0]); /* and it hangs up */
    stage_end(&g);
}

/* How long it stays away after a connection that does not come about. */
static int64_t pause_after_failure(stage_t *g)
{
    int64_t until = mdm_mono_us(NULL) + WAIT_US;

    g->topic.connect_at_us = 0;
    g->topic.connect_failures = 0;
    mdm_topic_connect(&g->topic, mdm_mono_us(NULL));
    while (g->topic.sessions[0] != NULL) {
        assert_true(mdm_mono_us(NULL) < until);
        step(g);
    }
    return g->topic.connect_at_us - mdm_mono_us(NULL);
}

/* A certificate that is refused does not mend itself: it is not tried a second
 * later again. */
static void test_refused_certificates_get_long_pauses(void **state)
{
    stage_t g;
    testcert_t stranger = testcert_ca("another ca");
    int64_t pause;

    stage_begin(&g, *state, (peer_t){.reason = NULL}, 10);
    testcert_write(g.w->dir, "peer.pem", testcert_pem(&stranger), NULL);
    pause = pause_after_failure(&g);
    assert_true(pause > 30 * MDM_SEC && pause < 41 * MDM_SEC);
    g.d.config.push_port = 1; /* nobody listens */
    pause = pause_after_failure(&g);
    assert_true(pause > 0 && pause < 2 * MDM_SEC);
    testcert_free(&stranger);
    stage_end(&g);
}

/* ---- answers ------------------------------------------------------------- */

/* As long as answers are not in the store nothing is claimed: an old answer
 * must not be taken for that of a later push. */
static void test_unwritten_answers_come_first(void **state)
{
    stage_t g;
    mdm_store_t *hasty;

    stage_begin(&g, *state, (peer_t){.reason = NULL}, 10);
    fleet(g.w, 2);
    hasty = world_store(g.w, MDM_SEC / 5, NULL);
    assert_int_equal(mdm_store_open(hasty, &g.w->err), MDM_OK);
    (void)open_session(&g);
    push_some(g.w, 0, 1);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    answers(&g);
    assert_int_equal(g.topic.nended, 1);
    assert_int_equal(sqlite3_open(g.w->file, &g.intruder), SQLITE_OK);
    assert_int_equal(sqlite3_exec(g.intruder, "BEGIN IMMEDIATE", NULL, NULL,
                                  NULL), SQLITE_OK);
    g.d.config.store = hasty;
    mdm_topic_flush(&g.topic);
    assert_int_equal(g.topic.nended, 1);
    assert_int_equal(sqlite3_exec(g.intruder, "ROLLBACK", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(g.intruder), SQLITE_OK);
    push_some(g.w, 1, 1);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_topic_in_flight(&g.topic), 0);
    mdm_topic_flush(&g.topic);
    assert_int_equal(g.topic.nended, 0);
    assert_int_equal(db_int(g.w, "SELECT COUNT(*) FROM push"
                                 " WHERE last_status = 200"), 1);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_topic_in_flight(&g.topic), 1);
    answers(&g);
    mdm_topic_flush(&g.topic);
    assert_int_equal(db_int(g.w, DUE), 0);
    g.d.config.store = g.w->store;
    mdm_store_free(&hasty);
    stage_end(&g);
}

/* ---- turns --------------------------------------------------------------- */

/* A topic with much to send lets the others have their turn, and goes on
 * without waiting. */
static void test_a_round_is_bounded(void **state)
{
    stage_t g;
    struct pollfd fds[MDM_SESSIONS_MAX];
    int64_t until = INT64_MAX;

    stage_begin(&g, *state, (peer_t){.delay_us = 100}, 5000);
    large_fleet(g.w, 1200);
    (void)open_session(&g);
    push_some(g.w, 0, 1200);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    assert_int_equal(mdm_topic_in_flight(&g.topic), 1000);
    (void)mdm_topic_poll(&g.topic, fds, &until);
    assert_int_equal(until, 0);
    /* Only for one round: when the next one does not get to it, because the
     * store is away, say, it must not be a loop without a wait. */
    step(&g);
    until = INT64_MAX;
    (void)mdm_topic_poll(&g.topic, fds, &until);
    assert_true(until > 0);
    mdm_topic_flush(&g.topic);
    mdm_topic_pump(&g.topic, mdm_mono_us(NULL));
    answers(&g);
    mdm_topic_flush(&g.topic);
    assert_int_equal(db_int(g.w, DUE), 0);
    assert_int_equal(atomic_load(&g.s->peer.requests), 1200);
    stage_end(&g);
}

/* ---- bursts -------------------------------------------------------------- */

static size_t working(const stage_t *g)
{
    size_t opening;

    return mdm_topic_working(&g->topic, &opening);
}

/* A second with every stream taken, ten pushes accepted and this thread
 * asleep for `slept`. */
static size_t full_second(stage_t *g, int64_t slept)
{
    int64_t mono = mdm_mono_us(NULL);

    mdm_topic_pump(&g->topic, mono);
    g->topic.full.accepted = 10;
    g->d.waited_us += slept;
    mdm_topic_pump(&g->topic, mono + MDM_SEC + 1);
    return working(g);
}

static void test_burst_is_the_peers_limit(void **state)
{
    stage_t g;

    /* Answers take so long that the one stream stays taken. */
    stage_begin(&g, *state, (peer_t){.max_streams = 1, .delay_us = 5000000},
                1000);
    large_fleet(g.w, 100);
    (void)open_session(&g);
    push_some(g.w, 0, 100);
    /* This thread was at work all the time: a further connection would not be
     * served any faster. */
    assert_int_equal(full_second(&g, 0), 1);
    assert_int_equal(full_second(&g, MDM_SEC / 5), 1);
    assert_int_equal(mdm_topic_in_flight(&g.topic), 1);
    assert_int_equal(full_second(&g, MDM_SEC / 2), 2);
    stage_end(&g);
}

/* Who bounds the number of pushes in flight does not want more connections
 * instead. */
static void test_our_own_limit_is_no_burst(void **state)
{
    stage_t g;

    stage_begin(&g, *state, (peer_t){.delay_us = 5000000}, 1);
    large_fleet(g.w, 100);
    (void)open_session(&g);
    push_some(g.w, 0, 100);
    assert_int_equal(full_second(&g, MDM_SEC / 2), 1);
    assert_int_equal(mdm_topic_in_flight(&g.topic), 1);
    assert_int_equal(g.topic.full.since_us, 0);
    stage_end(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_slow_names_block_once),
        world_test(test_renewed_before_the_claim),
        world_test(test_suspended_before_the_claim),
        world_test(test_refused_certificates_get_long_pauses),
        world_test(test_unwritten_answers_come_first),
        world_test(test_a_round_is_bounded),
        world_test(test_burst_is_the_peers_limit),
        world_test(test_our_own_limit_is_no_burst),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* the peer writes to closed sockets */
    return cmocka_run_group_tests_name("dispatch_topic", tests, NULL, NULL);
}
