/*
 * t_wait.c - waiting for what APNs says: every state of a push's row and what
 * is made of it; answers that come while somebody waits, from this process
 * and from another; the ends of waiting.
 */
#include "t_store_world.h"

#include <pthread.h>

#include "mdm_thread.h"
#include "mdm_time.h"
#include "mdm_wait.h"

#define HOLDER MDM_STR("another process")
#define MANY 1000 /* targets: several chunks of rows */

/* ---- one row ------------------------------------------------------------- */

#define NOW INT64_C(1000)
#define UNTIL INT64_C(2000)

static const struct {
    const char *name;
    mdm_push_answer_t state;
    mdm_wait_verdict_t verdict;
    bool over;
} cases[] = {
    {"no row", {.found = false}, MDM_WAIT_DROPPED, true},
    {"due", {.found = true, .has_cert = true, .due_at = NOW,
             .sent_generation = 4, .last_generation = 4, .last_status = 200},
     MDM_WAIT_PENDING, false},
    {"on its way", {.found = true, .has_cert = true, .due_at = UNTIL + 1,
                    .claimed = true, .sent_generation = 5},
     MDM_WAIT_PENDING, false},
    {"the one before is on its way",
     {.found = true, .has_cert = true, .due_at = UNTIL + 1, .claimed = true,
      .sent_generation = 4}, MDM_WAIT_PENDING, false},
    {"the one before was accepted, ours is due",
     {.found = true, .has_cert = true, .due_at = NOW, .sent_generation = 4,
      .last_generation = 4, .last_status = 200}, MDM_WAIT_PENDING, false},
    {"accepted", {.found = true, .has_cert = true, .sent_generation = 5,
                  .last_generation = 5, .last_status = 200},
     MDM_WAIT_ACCEPTED, true},
    {"accepted, and the device has come",
     {.found = true, .has_cert = true, .sent_generation = -1,
      .last_generation = 5, .last_status = 200}, MDM_WAIT_ACCEPTED, true},
    {"a later one was accepted, the next is on its way",
     {.found = true, .has_cert = true, .due_at = NOW, .claimed = true,
      .sent_generation = 7, .last_generation = 6, .last_status = 200},
     MDM_WAIT_ACCEPTED, true},
    {"refused", {.found = true, .has_cert = true, .sent_generation = 5,
                 .last_generation = 5, .last_status = 400},
     MDM_WAIT_REFUSED, true},
    {"refused, and there is a later one",
     {.found = true, .has_cert = true, .due_at = NOW, .sent_generation = 5,
      .last_generation = 5, .last_status = 400}, MDM_WAIT_REFUSED, true},
    {"failed, repeated in time",
     {.found = true, .has_cert = true, .due_at = UNTIL, .attempts = 1,
      .sent_generation = 5, .last_generation = 5, .last_status = 503},
     MDM_WAIT_FAILED, false},
    {"failed, repeated too late",
     {.found = true, .has_cert = true, .due_at = UNTIL + 1, .attempts = 1,
      .sent_generation = 5, .last_generation = 5, .last_status = 503},
     MDM_WAIT_FAILED, true},
    {"failed, on its way again",
     {.found = true, .has_cert = true, .due_at = UNTIL + 1, .attempts = 1,
      .claimed = true, .sent_generation = 5, .last_generation = 5,
      .last_status = 503}, MDM_WAIT_FAILED, false},
    {"failed, and the device has come",
     {.found = true, .has_cert = true, .sent_generation = -1,
      .last_generation = 5, .last_status = 503}, MDM_WAIT_NOT_NEEDED, true},
    {"failed, the device came, and it was asked for again",
     {.found = true, .has_cert = true, .due_at = NOW, .sent_generation = 0,
      .last_generation = 5, .last_status = 503}, MDM_WAIT_PENDING, false},
    {"the process that sent it died",
     {.found = true, .has_cert = true, .due_at = NOW, .sent_generation = 0,
      .attempts = 2, .last_generation = 5, .last_status = 503},
     MDM_WAIT_PENDING, false},
    {"the device came", {.found = true, .has_cert = true, .due_at = UNTIL + 9,
                         .sent_generation = -1}, MDM_WAIT_NOT_NEEDED, true},
    {"the device came while it was on its way",
     {.found = true, .has_cert = true, .claimed = true,
      .sent_generation = -1}, MDM_WAIT_NOT_NEEDED, true},
    {"put off by an answer before", {.found = true, .has_cert = true,
                                     .due_at = UNTIL + 1, .attempts = 3,
                                     .last_generation = 4, .last_status = 503},
     MDM_WAIT_PENDING, true},
    {"the device checked out", {.found = true, .has_cert = true},
     MDM_WAIT_DROPPED, true},
    {"no certificate", {.found = true, .due_at = NOW}, MDM_WAIT_NO_CERT,
     true},
    {"topic stopped", {.found = true, .has_cert = true, .due_at = NOW,
                       .suspended = "BadCertificate"}, MDM_WAIT_STOPPED,
     true},
    {"topic stopped by this very push",
     {.found = true, .has_cert = true, .due_at = NOW, .attempts = 1,
      .sent_generation = 5, .last_generation = 5, .last_status = 403,
      .last_reason = "Forbidden", .suspended = "Forbidden"},
     MDM_WAIT_STOPPED, true},
};

static void test_judge(void **state)
{
    mdm_wait_answer_t a;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        memset(&a, 0xff, sizeof(a));
        if (mdm_wait_judge(&cases[i].state, 5, UNTIL, &a) != cases[i].over ||
            a.verdict != cases[i].verdict) {
            fail_msg("%s: verdict %d", cases[i].name, (int)a.verdict);
        }
        assert_int_equal(a.status, cases[i].verdict == MDM_WAIT_ACCEPTED ||
                                           cases[i].verdict ==
                                               MDM_WAIT_REFUSED ||
                                           cases[i].state.attempts == 1
                                       ? cases[i].state.last_status
                                       : 0);
    }
}

/* ---- a store ------------------------------------------------------------- */

typedef struct scene {
    world_t *w;
    mdm_store_t *other; /* as another process has it */
    mdm_dispatch_t *dispatch;
    mdm_target_result_t t[2];
    mdm_wait_answer_t a[2];
    mdm_wait_t wait;
    mdm_claim_t claim;
    mdm_push_finish_t finish;
    bool stopping;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool over;
} scene_t;

static bool is_stopping(void *ctx)
{
    scene_t *s = ctx;
    bool stopping;

    (void)pthread_mutex_lock(&s->mutex);
    stopping = s->stopping;
    (void)pthread_mutex_unlock(&s->mutex);
    return stopping;
}

static void write_to(scene_t *s, mdm_store_t *store, mdm_tx_fn *fn)
{
    if (mdm_store_write(store, fn, s, &s->w->err) != MDM_OK) {
        fail_msg("%s", s->w->err.text);
    }
}

static void push(scene_t *s)
{
    size_t pushed;

    assert_int_equal(mdm_queue_push(s->w->store, s->t, 1, &pushed,
                                    &s->w->err), MDM_OK);
    assert_int_equal(pushed, 1);
}

static void put_cert(const world_t *w, const char *version)
{
    char sql[300];

    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO pushcert (topic, cert, key_s, fingerprint,"
                   " not_before, not_after, version, stored_at)"
                   " VALUES ('" TOPIC "', '', x'00', '', 0, 0, %s, 0)",
                   version);
    db_run(w, sql);
}

/* A dispatcher that sends nothing, a device "D" with a push that is due. */
static scene_t *begin(world_t *w)
{
    scene_t *s = calloc(1, sizeof(*s));
    mdm_dispatch_config_t config = {.store = w->store,
                                    .host_name = "test/1",
                                    .lease_life_us = 2 * MDM_SEC};

    assert_non_null(s);
    s->w = w;
    s->other = world_store(w, 20 * MDM_SEC, NULL);
    (void)pthread_mutex_init(&s->mutex, NULL);
    assert_int_equal(mdm_cond_init(&s->ended, &w->err), MDM_OK);
    enroll(w, "D", 'A');
    put_cert(w, "1");
    assert_int_equal(mdm_dispatch_start(&config, &s->dispatch, &w->err),
                     MDM_OK);
    s->t[0].id = MDM_STR("D");
    s->t[1].id = MDM_STR("E"); /* never pushed */
    push(s);
    s->wait = (mdm_wait_t){.store = w->store,
                           .dispatch = s->dispatch,
                           .stopping = is_stopping,
                           .stopping_ctx = s,
                           .time_us = 20 * MDM_SEC,
                           .targets = s->t,
                           .n = 2,
                           .answers = s->a};
    return s;
}

static void end(scene_t *s)
{
    if (s->dispatch != NULL) {
        mdm_dispatch_stop(&s->dispatch, 0);
    }
    mdm_store_free(&s->other);
    (void)pthread_cond_destroy(&s->ended);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s);
}

static void *run(void *arg)
{
    scene_t *s = arg;
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_err_t err;

    assert_non_null(arena);
    assert_int_equal(mdm_wait_run(&s->wait, arena, &err), MDM_OK);
    mdm_arena_free(&arena);
    (void)pthread_mutex_lock(&s->mutex);
    s->over = true;
    (void)pthread_cond_broadcast(&s->ended);
    (void)pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* Is the waiting over within this time? */
static bool ends_within(scene_t *s, int64_t us)
{
    int64_t until = mdm_mono_us(NULL) + us;
    bool over;

    (void)pthread_mutex_lock(&s->mutex);
    while (!s->over &&
           mdm_cond_wait_until(&s->ended, &s->mutex, until)) {
    }
    over = s->over;
    (void)pthread_mutex_unlock(&s->mutex);
    return over;
}

static mdm_rc do_claim(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    scene_t *s = arg;
    int64_t now = mdm_wall_us(NULL);
    size_t n = 0;
    mdm_rc rc;

    rc = mdm_store_push_claim(tx, MDM_STR(TOPIC), HOLDER, now,
                              now + 60 * MDM_SEC, 1, s->w->arena, &s->claim,
                              &n, err);
    assert_int_equal(n, 1);
    return rc;
}

static mdm_rc do_finish(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    scene_t *s = arg;

    return mdm_store_push_finish(tx, &s->finish, HOLDER, mdm_wall_us(NULL),
                                 err);
}

static void finish(scene_t *s, mdm_push_verdict_t verdict, int status,
                   const char *reason)
{
    s->finish = (mdm_push_finish_t){.eid = s->claim.eid,
                                    .verdict = verdict,
                                    .status = status,
                                    .reason = mdm_str_from(reason),
                                    .apns_id = mdm_str_from(s->claim.apns_id),
                                    .timestamp_ms = status == 410 ? 77 : 0,
                                    .token_at = s->claim.token_at};
    write_to(s, s->other, do_finish);
}

/* Another process sends it, fails, and tries again. */
static void test_another_process(void **state)
{
    scene_t *s = begin(*state);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, s), 0);
    write_to(s, s->other, do_claim);
    finish(s, MDM_PUSH_RETRY, 503, "ServiceUnavailable");
    write_to(s, s->other, do_claim);
    assert_false(ends_within(s, MDM_SEC / 5));
    finish(s, MDM_PUSH_DONE, 200, "");
    assert_true(ends_within(s, 3 * MDM_SEC));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_ACCEPTED);
    assert_string_equal(s->a[0].apns_id, s->t[0].ticket.apns_id);
    assert_int_equal(s->a[1].verdict, 0);
    end(s);
}

/* A push that is asked for while another is on its way has its own answer. */
static void test_marked_in_flight(void **state)
{
    scene_t *s = begin(*state);
    char first[MDM_UUID_SIZE];
    pthread_t thread;

    memcpy(first, s->t[0].ticket.apns_id, sizeof(first));
    write_to(s, s->other, do_claim);
    push(s);
    assert_string_not_equal(s->t[0].ticket.apns_id, first);
    assert_int_equal(pthread_create(&thread, NULL, run, s), 0);
    finish(s, MDM_PUSH_DONE, 200, "");
    assert_false(ends_within(s, MDM_SEC / 5));
    write_to(s, s->other, do_claim);
    finish(s, MDM_PUSH_TOKEN_DEAD, 410, "Unregistered");
    assert_true(ends_within(s, 3 * MDM_SEC));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_REFUSED);
    assert_int_equal(s->a[0].status, 410);
    assert_int_equal(s->a[0].timestamp_ms, 77);
    assert_string_equal(s->a[0].reason, "Unregistered");
    end(s);
}

/* A push that is asked for later takes an earlier one along. */
static void test_taken_along(void **state)
{
    scene_t *s = begin(*state);
    mdm_target_result_t first = s->t[0];

    write_to(s, s->other, do_claim);
    push(s);
    finish(s, MDM_PUSH_RETRY, 500, "InternalServerError");
    write_to(s, s->other, do_claim);
    finish(s, MDM_PUSH_DONE, 200, "");
    s->t[1] = first;
    (void)run(s);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_ACCEPTED);
    assert_int_equal(s->a[1].verdict, MDM_WAIT_ACCEPTED);
    assert_string_equal(s->a[1].apns_id, s->t[0].ticket.apns_id);
    assert_string_not_equal(first.ticket.apns_id, s->t[0].ticket.apns_id);
    end(s);
}

static void test_the_device_comes(void **state)
{
    scene_t *s = begin(*state);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, s), 0);
    assert_false(ends_within(s, MDM_SEC / 10));
    assert_string_equal(idle(s->w), "");
    assert_true(ends_within(s, 3 * MDM_SEC));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_NOT_NEEDED);
    end(s);
}

static void test_time_is_over(void **state)
{
    scene_t *s = begin(*state);
    int64_t begun = mdm_mono_us(NULL);
    int64_t took;

    s->wait.time_us = MDM_SEC / 2;
    (void)run(s);
    took = mdm_mono_us(NULL) - begun;
    assert_true(took >= MDM_SEC / 2 && took < 3 * MDM_SEC);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_PENDING);
    end(s);
}

typedef enum way { HOST, RETIRED, STOPPED } way_t;

/* Whatever tells that the process ends, ends the waiting. */
static void stop_by(world_t *w, way_t how)
{
    scene_t *s = begin(w);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, s), 0);
    assert_false(ends_within(s, MDM_SEC / 10));
    if (how == HOST) {
        (void)pthread_mutex_lock(&s->mutex);
        s->stopping = true;
        (void)pthread_mutex_unlock(&s->mutex);
    } else if (how == RETIRED) {
        mdm_dispatch_retire(s->dispatch);
    } else {
        mdm_dispatch_join(s->dispatch, 0);
    }
    assert_true(ends_within(s, MDM_SEC));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s->a[0].verdict, MDM_WAIT_PENDING);
    end(s);
}

static void test_host_stops(void **state)
{
    stop_by(*state, HOST);
}

static void test_dispatcher_retires(void **state)
{
    stop_by(*state, RETIRED);
}

static void test_dispatcher_stops(void **state)
{
    stop_by(*state, STOPPED);
}

/* Many rows are read in parts. */
static void test_many(void **state)
{
    scene_t *s = begin(*state);
    mdm_target_result_t *t = calloc(MANY, sizeof(*t));
    mdm_wait_answer_t *a = calloc(MANY, sizeof(*a));
    pthread_t thread;
    size_t i;

    assert_true(t != NULL && a != NULL);
    for (i = 0; i < MANY; i++) {
        t[i] = s->t[0];
        t[i].pushed = i % 3 != 0;
    }
    s->wait.targets = t;
    s->wait.answers = a;
    s->wait.n = MANY;
    s->wait.time_us = MDM_SEC;
    (void)run(s);
    assert_int_equal(a[1].verdict, MDM_WAIT_PENDING);
    s->over = false;
    s->wait.time_us = 20 * MDM_SEC;
    assert_int_equal(pthread_create(&thread, NULL, run, s), 0);
    write_to(s, s->other, do_claim);
    finish(s, MDM_PUSH_DONE, 200, "");
    assert_true(ends_within(s, 5 * MDM_SEC));
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (i = 0; i < MANY; i++) {
        assert_int_equal(a[i].verdict,
                         i % 3 != 0 ? MDM_WAIT_ACCEPTED : MDM_WAIT_PENDING);
    }
    free(t);
    free(a);
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),
        world_test(test_another_process),
        world_test(test_marked_in_flight),
        world_test(test_taken_along),
        world_test(test_the_device_comes),
        world_test(test_time_is_over),
        world_test(test_host_stops),
        world_test(test_dispatcher_retires),
        world_test(test_dispatcher_stops),
        world_test(test_many),
    };

    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
