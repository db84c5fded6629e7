/*
 * t_apns_flow.c - the push session over time, against an nghttp2 server
 * session in memory: limits that move, resets, GOAWAY, deadlines, pings, the
 * end of a session with pushes in flight.
 *
 * With the argument "bench" it measures pushes a second instead.
 */
#include <time.h>

#include "t_apns_world.h"

/* --- limits ------------------------------------------------------------- */

static void test_early_burst(void **state)
{
    world_t *w = world_new(500);

    (void)state;
    assert_true(mdm_apns_wants_write(w->apns));
    assert_false(mdm_apns_ready(w->apns));
    assert_int_equal(mdm_apns_room(w->apns), 1);
    submit(w, 1);
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_int_equal(submit_one(w), MDM_EBUSY);
    (void)send_all(w);
    assert_int_equal(w->peer.n_requests, 1);
    assert_false(mdm_apns_ready(w->apns));
    assert_int_equal(mdm_apns_room(w->apns), 0);
    pump(w);
    assert_true(mdm_apns_ready(w->apns));
    assert_int_equal(mdm_apns_room(w->apns), 499);
    submit(w, 499);
    assert_int_equal(submit_one(w), MDM_EBUSY);
    assert_int_equal(mdm_apns_in_flight(w->apns), 500);
    pump(w);
    assert_int_equal(w->peer.max_open, 500);
    world_end(w);
}

static void test_own_bound(void **state)
{
    world_t *w = world_new(5000);

    (void)state;
    pump(w);
    assert_int_equal(mdm_apns_room(w->apns), 1000);
    /* SETTINGS without a limit mean no limit: ours holds. */
    mdm_apns_free(&w->apns, NULL);
    peer_clear(&w->peer);
    free(w);
    w = world_new(NEVER_SETTINGS);
    assert_int_equal(nghttp2_submit_settings(w->peer.session, 0, NULL, 0),
                     0);
    pump(w);
    assert_int_equal(w->feed_rc, MDM_OK);
    assert_int_equal(mdm_apns_room(w->apns), 1000);
    submit(w, 1000);
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_false(mdm_apns_is_full(w->apns)); /* it would take more */
    world_end(w);
}

static void test_limit_zero(void **state)
{
    world_t *w = world_new(0);

    (void)state;
    submit(w, 1); /* not taken yet when the limit comes */
    (void)recv_all(w);
    pump(w);
    assert_true(mdm_apns_ready(w->apns));
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_true(mdm_apns_is_full(w->apns));
    assert_int_equal(w->peer.n_requests, 0);
    assert_false(mdm_apns_wants_write(w->apns)); /* no spin */
    assert_int_equal(submit_one(w), MDM_EBUSY);
    w->peer.answer.status = 200;
    peer_limit(&w->peer, 10);
    pump(w);
    assert_int_equal(w->n_out, 1);
    expect(w, MDM_APNS_ANSWERED, 200, "");
    assert_int_equal(mdm_apns_room(w->apns), 10);
    world_end(w);
}

/* One bad token: the limit falls to 1, what is open stays open. */
static void test_limit_moves(void **state)
{
    static const answer_t bad = {
        .status = 400, .body = "{\"reason\":\"BadDeviceToken\"}"};
    static const answer_t good = {.status = 200};
    world_t *w = world_new(500);
    unsigned i;

    (void)state;
    pump(w);
    submit(w, 10);
    pump(w);
    submit(w, 5); /* these wait when the limit falls */
    peer_limit(&w->peer, 1);
    peer_answer(&w->peer, 1, &bad);
    (void)recv_all(w);
    pump(w);
    assert_int_equal(w->n_out, 1);
    assert_int_equal(w->peer.n_requests, 10);
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_int_equal(mdm_apns_in_flight(w->apns), 14);
    for (i = 1; i < 9; i++) {
        peer_answer(&w->peer, (int32_t)(2 * i + 1), &good);
        pump(w);
        assert_int_equal(w->peer.n_requests, 10);
    }
    /* The last of the ten goes, then one by one. */
    w->peer.max_open = 0;
    w->peer.answer = good;
    peer_answer(&w->peer, 19, &good);
    pump(w);
    assert_int_equal(w->n_out, 15);
    assert_int_equal(w->peer.max_open, 1);
    assert_int_equal(mdm_apns_room(w->apns), 1);
    peer_limit(&w->peer, 500);
    pump(w);
    assert_int_equal(mdm_apns_room(w->apns), 500);
    world_end(w);
}

/* --- resets and GOAWAY -------------------------------------------------- */

static void test_resets(void **state)
{
    world_t *w = world_new(100);

    (void)state;
    submit(w, 1);
    pump(w);
    submit(w, 4);
    pump(w);
    assert_int_equal(w->peer.n_requests, 5);
    (void)nghttp2_submit_rst_stream(w->peer.session, 0, 1,
                                    NGHTTP2_REFUSED_STREAM);
    pump(w);
    expect(w, MDM_APNS_UNSENT, 0, "refused by the push service");
    assert_int_equal(last(w)->tag, 0);
    (void)nghttp2_submit_rst_stream(w->peer.session, 0, 3,
                                    NGHTTP2_INTERNAL_ERROR);
    pump(w);
    expect(w, MDM_APNS_UNKNOWN, 0,
           "reset by the push service (INTERNAL_ERROR)");
    (void)nghttp2_submit_rst_stream(w->peer.session, 0, 5, NGHTTP2_NO_ERROR);
    pump(w);
    expect(w, MDM_APNS_UNKNOWN, 0, NULL);
    (void)nghttp2_submit_rst_stream(w->peer.session, 0, 7, 0xdeadbeef);
    pump(w);
    expect(w, MDM_APNS_UNKNOWN, 0, NULL);
    /* Half an answer, then a reset: not an answer. */
    w->peer.answer = (answer_t){
        .status = 400, .body = "{\"reason\":\"BadDev", .no_end = 1};
    peer_answer(&w->peer, 9, &w->peer.answer);
    pump(w);
    assert_int_equal(w->n_out, 4);
    (void)nghttp2_submit_rst_stream(w->peer.session, 0, 9,
                                    NGHTTP2_REFUSED_STREAM);
    pump(w);
    expect(w, MDM_APNS_UNKNOWN, 0, NULL);
    assert_int_equal(mdm_apns_room(w->apns), 100);
    world_end(w);
}

static void test_goaway_two_phase(void **state)
{
    static const answer_t good = {.status = 200};
    world_t *w = world_new(100);

    (void)state;
    pump(w);
    submit(w, 2);
    pump(w);
    assert_int_equal(nghttp2_submit_shutdown_notice(w->peer.session), 0);
    pump(w);
    assert_true(mdm_apns_going_away(w->apns));
    assert_string_equal(mdm_apns_goaway_reason(w->apns), "");
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_int_equal(submit_one(w), MDM_ECLOSED);
    assert_int_equal(mdm_apns_in_flight(w->apns), 2);
    peer_goaway(&w->peer, 3, NGHTTP2_NO_ERROR, "");
    pump(w);
    assert_int_equal(mdm_apns_in_flight(w->apns), 2);
    peer_answer(&w->peer, 3, &good);
    peer_answer(&w->peer, 1, &good);
    pump(w);
    assert_int_equal(w->feed_rc, MDM_OK);
    assert_int_equal(count(w, MDM_APNS_ANSWERED), 2);
    assert_int_equal(mdm_apns_in_flight(w->apns), 0);
    world_end(w);
}

static void test_goaway_cuts(void **state)
{
    static const answer_t good = {.status = 200};
    world_t *w = world_new(100);
    uint8_t out[1];
    size_t n;

    (void)state;
    pump(w);
    submit(w, 4);
    pump(w);
    submit(w, 3);
    /* One of the three is with nghttp2, none has left. */
    assert_int_equal(mdm_apns_take(w->apns, out, 0, &n, &w->err), MDM_OK);
    assert_int_equal(n, 0);
    peer_goaway(&w->peer, 3, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
    (void)recv_all(w);
    assert_int_equal(count(w, MDM_APNS_UNSENT), 5);
    assert_int_equal(mdm_apns_in_flight(w->apns), 2);
    assert_string_equal(mdm_apns_goaway_reason(w->apns), "too_many_pings");
    pump(w);
    assert_int_equal(w->peer.n_requests, 4);
    peer_answer(&w->peer, 1, &good);
    pump(w);
    assert_int_equal(count(w, MDM_APNS_ANSWERED), 1);
    mdm_apns_free(&w->apns, "connection closed");
    expect(w, MDM_APNS_UNKNOWN, 0, "connection closed");
    world_end(w);
}

static void check_goaway(uint32_t code, const char *debug,
                         const char *reason)
{
    world_t *w = world_new(100);

    pump(w);
    submit(w, 1);
    pump(w);
    peer_goaway(&w->peer, 0, code, debug);
    pump(w);
    assert_string_equal(mdm_apns_goaway_reason(w->apns), reason);
    expect(w, MDM_APNS_UNSENT, 0, "connection is going away");
    assert_int_equal(w->feed_rc, MDM_OK);
    world_end(w);
}

static void test_goaway_reasons(void **state)
{
    json_t *root = load_case("C61-goaway-debug-16k.json");
    json_t *step = json_array_get(json_object_get(root, "steps"), 0);
    world_t *w = world_new(100);

    (void)state;
    check_goaway(0, "", "");
    check_goaway(0, "{\"reason\":\"BadCertificateEnvironment\"}",
                 "BadCertificateEnvironment");
    check_goaway(NGHTTP2_ENHANCE_YOUR_CALM, "", "ENHANCE_YOUR_CALM");
    check_goaway(0, "{\"reason\":", "{\"reason\":");
    check_goaway(0, "a\nb\xff", "a?b?");
    check_goaway(0, "{\"reason\":7}", "{\"reason\":7}");
    pump(w);
    submit(w, 1);
    pump(w);
    peer_goaway(&w->peer, 1, 2, text_of(step, "debug"));
    pump(w);
    assert_int_equal(strlen(mdm_apns_goaway_reason(w->apns)), 127);
    assert_int_equal(mdm_apns_in_flight(w->apns), 1);
    json_decref(root);
    world_end(w);
}

static void test_shutdown(void **state)
{
    static const answer_t good = {.status = 200};
    world_t *w = world_new(100);

    (void)state;
    pump(w);
    submit(w, 2);
    pump(w);
    submit(w, 1);
    mdm_apns_shutdown(w->apns);
    mdm_apns_shutdown(w->apns);
    expect(w, MDM_APNS_UNSENT, 0, NULL);
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_int_equal(submit_one(w), MDM_ECLOSED);
    pump(w);
    assert_int_equal(w->peer.goaways, 1);
    assert_int_equal(mdm_apns_in_flight(w->apns), 2);
    peer_answer(&w->peer, 1, &good);
    pump(w);
    assert_int_equal(w->feed_rc, MDM_OK);
    expect(w, MDM_APNS_ANSWERED, 200, "");
    world_end(w);
}

/* --- time --------------------------------------------------------------- */

static mdm_rc tick(world_t *w, int64_t seconds)
{
    w->now_us = START_US + seconds * MDM_SEC;
    return mdm_apns_tick(w->apns, w->now_us, &w->err);
}

static void test_no_answer(void **state)
{
    world_t *w = world_new(100);

    (void)state;
    pump(w);
    submit(w, 2);
    pump(w);
    assert_int_equal(mdm_apns_deadline(w->apns), START_US + 20 * MDM_SEC);
    assert_int_equal(tick(w, 10), MDM_OK);
    submit(w, 1);
    pump(w);
    /* Headers and half a body, as in C64-headers-without-end. */
    w->peer.answer = (answer_t){
        .status = 400, .body = "{\"reason\":\"BadDev", .no_end = 1};
    peer_answer(&w->peer, 1, &w->peer.answer);
    pump(w);
    assert_int_equal(tick(w, 19), MDM_OK);
    assert_int_equal(w->n_out, 0);
    assert_int_equal(tick(w, 20), MDM_OK);
    assert_int_equal(w->n_out, 2);
    expect(w, MDM_APNS_UNKNOWN, 0, "no answer");
    assert_int_equal(mdm_apns_in_flight(w->apns), 1);
    assert_int_equal(mdm_apns_deadline(w->apns), START_US + 30 * MDM_SEC);
    /* Their places are free only when the resets are out. */
    assert_int_equal(mdm_apns_room(w->apns), 97);
    pump(w);
    assert_int_equal(w->peer.resets, 2);
    assert_int_equal(w->peer.reset_code, NGHTTP2_CANCEL);
    assert_int_equal(mdm_apns_room(w->apns), 99);
    assert_int_equal(tick(w, 30), MDM_OK);
    /* An answer that crosses our reset changes nothing. */
    peer_answer(&w->peer, 5, &(answer_t){.status = 200});
    (void)recv_all(w);
    pump(w);
    assert_int_equal(w->n_out, 3);
    assert_int_equal(w->feed_rc, MDM_OK);
    assert_int_equal(mdm_apns_room(w->apns), 100);
    world_end(w);
}

static void test_not_sent_in_time(void **state)
{
    world_t *w = world_new(1);
    uint8_t out[1];
    size_t n;

    (void)state;
    pump(w);
    submit(w, 1); /* never taken: the socket is full */
    assert_int_equal(mdm_apns_take(w->apns, out, 0, &n, &w->err), MDM_OK);
    assert_int_equal(tick(w, 20), MDM_OK);
    expect(w, MDM_APNS_UNSENT, 0, "could not be sent in time");
    pump(w);
    assert_int_equal(w->peer.n_requests, 0);
    assert_int_equal(mdm_apns_room(w->apns), 1);
    submit(w, 1);
    w->peer.answer.status = 200;
    pump(w);
    expect(w, MDM_APNS_ANSWERED, 200, "");
    world_end(w);
}

static void test_pings(void **state)
{
    world_t *w = world_new(100);
    unsigned i;

    (void)state;
    pump(w);
    assert_int_equal(mdm_apns_deadline(w->apns), START_US + 600 * MDM_SEC);
    assert_int_equal(tick(w, 599), MDM_OK);
    assert_false(mdm_apns_wants_write(w->apns));
    for (i = 1; i < 4; i++) {
        assert_int_equal(tick(w, 600 * i), MDM_OK);
        assert_true(mdm_apns_wants_write(w->apns));
        assert_int_equal(mdm_apns_deadline(w->apns),
                         w->now_us + 15 * MDM_SEC);
        pump(w);
        assert_int_equal(w->peer.pings, i);
        assert_int_equal(mdm_apns_deadline(w->apns),
                         w->now_us + 600 * MDM_SEC);
    }
    world_end(w);
}

static void test_ping_unanswered(void **state)
{
    world_t *w = world_new_muted(100, 1);

    (void)state;
    pump(w);
    assert_int_equal(tick(w, 600), MDM_OK);
    pump(w);
    assert_int_equal(w->peer.pings, 1);
    assert_int_equal(tick(w, 614), MDM_OK);
    /* Whatever comes shows that the peer lives. */
    peer_limit(&w->peer, 50);
    pump(w);
    assert_int_equal(tick(w, 616), MDM_OK);
    assert_int_equal(w->peer.pings, 1);
    assert_int_equal(tick(w, 1214), MDM_OK);
    submit(w, 1);
    pump(w);
    assert_int_equal(w->peer.pings, 2);
    assert_int_equal(tick(w, 1228), MDM_OK);
    assert_int_equal(tick(w, 1229), MDM_ETIMEDOUT);
    mdm_apns_free(&w->apns, w->err.text);
    expect(w, MDM_APNS_UNKNOWN, 0,
           "the push service does not answer a ping");
    world_end(w);
}

/* No answer, and nothing else came since: as in C64-blackhole-after-first,
 * where the network forgot the connection.  A ping decides. */
static void test_silence_is_doubted(void **state)
{
    world_t *w = world_new_muted(100, 1);

    (void)state;
    pump(w);
    assert_int_equal(tick(w, 100), MDM_OK);
    submit(w, 2);
    pump(w);
    assert_int_equal(tick(w, 119), MDM_OK);
    submit(w, 1);
    pump(w);
    assert_int_equal(w->peer.pings, 0);
    assert_int_equal(tick(w, 120), MDM_OK);
    assert_int_equal(w->n_out, 2);
    expect(w, MDM_APNS_UNKNOWN, 0, "no answer");
    assert_int_equal(mdm_apns_room(w->apns), 0);
    assert_int_equal(mdm_apns_deadline(w->apns), START_US + 135 * MDM_SEC);
    pump(w);
    assert_int_equal(w->peer.pings, 1);
    /* A sign of life: it takes pushes again. */
    peer_limit(&w->peer, 50);
    pump(w);
    assert_true(mdm_apns_room(w->apns) > 40);
    assert_int_equal(tick(w, 139), MDM_OK); /* the third: heard of since */
    assert_int_equal(w->n_out, 3);
    assert_int_equal(w->peer.pings, 1);
    submit(w, 1);
    pump(w);
    assert_int_equal(tick(w, 159), MDM_OK);
    assert_int_equal(w->n_out, 4);
    assert_int_equal(mdm_apns_room(w->apns), 0);
    pump(w);
    assert_int_equal(w->peer.pings, 2);
    assert_int_equal(tick(w, 173), MDM_OK);
    assert_int_equal(tick(w, 174), MDM_ETIMEDOUT);
    world_end(w);
}

static void test_no_settings(void **state)
{
    world_t *w = world_new(NEVER_SETTINGS);

    (void)state;
    assert_int_equal(mdm_apns_deadline(w->apns), START_US + 20 * MDM_SEC);
    assert_int_equal(tick(w, 19), MDM_OK);
    assert_int_equal(tick(w, 20), MDM_ETIMEDOUT);
    world_end(w);
}

/* --- the end ------------------------------------------------------------ */

static void test_free_with_open(void **state)
{
    world_t *w = world_new(100);
    uint8_t out[1];
    size_t n;

    (void)state;
    pump(w);
    submit(w, 2);
    pump(w);
    submit(w, 1);
    /* The first byte of its HEADERS left: nobody can say any more. */
    assert_int_equal(mdm_apns_take(w->apns, out, 1, &n, &w->err), MDM_OK);
    assert_int_equal(n, 1);
    submit(w, 2);
    mdm_apns_free(&w->apns, "line\ncut");
    assert_int_equal(count(w, MDM_APNS_UNKNOWN), 3);
    assert_int_equal(count(w, MDM_APNS_UNSENT), 2);
    assert_string_equal(last(w)->reason, "line?cut");
    mdm_apns_free(&w->apns, NULL);
    world_end(w);
}

/* Thousands of pushes, odd chunk sizes, all kinds of ends. */
static void test_mix(void **state)
{
    static const answer_t good = {.status = 200};
    static const answer_t gone = {
        .status = 410,
        .body = "{\"reason\":\"Unregistered\",\"timestamp\":5}"};
    world_t *w = world_new(250);
    unsigned seed = 12345;
    uint32_t room;
    size_t done = 0;

    (void)state;
    w->take_cap = 117;
    w->feed_cap = 13;
    pump(w);
    while (w->next_tag < 1150) {
        room = mdm_apns_room(w->apns);
        submit(w, room < 1150 - w->next_tag ? room
                                            : 1150 - (unsigned)w->next_tag);
        pump(w);
        for (; done < w->peer.n_requests; done++) {
            seed = seed * 1103515245 + 12345;
            switch (seed >> 16 & 7) {
            case 0:
                (void)nghttp2_submit_rst_stream(
                    w->peer.session, 0, w->peer.requests[done].stream_id,
                    NGHTTP2_REFUSED_STREAM);
                break;
            case 1:
                peer_answer(&w->peer, w->peer.requests[done].stream_id,
                            &gone);
                break;
            case 2:
                break; /* no answer */
            default:
                peer_answer(&w->peer, w->peer.requests[done].stream_id,
                            &good);
                break;
            }
        }
        pump(w);
        w->now_us += 20 * MDM_SEC;
        assert_int_equal(mdm_apns_tick(w->apns, w->now_us, &w->err), MDM_OK);
    }
    pump(w);
    assert_int_equal(w->n_out, 1150);
    assert_true(w->peer.max_open <= 250);
    assert_true(count(w, MDM_APNS_UNKNOWN) > 50);
    assert_true(count(w, MDM_APNS_UNSENT) > 50);
    world_end(w);
}

/* --- speed -------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

typedef struct bench {
    uint64_t outcomes;
    double ours; /* time spent in the session under test */
} bench_t;

static void count_outcome(void *ctx, const mdm_apns_outcome_t *outcome)
{
    ((bench_t *)ctx)->outcomes += outcome->status == 200;
}

static int bench(void)
{
    enum { PUSHES = 300000 };
    bench_t b = {0, 0};
    mdm_apns_config_t config = {.authority = "api.push.example",
                                .max_streams = 1000,
                                .answer_timeout_us = 20 * MDM_SEC,
                                .outcome = count_outcome,
                                .ctx = &b};
    static uint8_t out[65536];
    static uint8_t in[65536];
    char token[32] = {0};
    mdm_apns_push_t push = {.topic = MDM_STR(TOPIC),
                            .magic = MDM_STR(
                                "22222222-3333-4444-8555-666677778888"),
                            .expiration_s = 1767225600,
                            .priority = 10,
                            .id = "5c0c7f4e-8b8f-4d3a-9a61-3f2d6f1b7e90"};
    const uint8_t *p;
    peer_t peer;
    mdm_apns_t *apns;
    double start;
    ssize_t got;
    size_t n;

    push.token = (mdm_str_t){token, sizeof(token)};
    peer_init(&peer, 0);
    peer.answer.status = 200;
    peer_limit(&peer, 1000);
    if (mdm_apns_new(&config, 0, &apns, NULL) != MDM_OK) {
        return 1;
    }
    while (b.outcomes < PUSHES) {
        if (peer.n_open == 0) {
            peer.n_requests = 0;
        }
        start = seconds();
        while (mdm_apns_room(apns) > 0) {
            push.tag++;
            memcpy(token, &push.tag, sizeof(push.tag));
            if (mdm_apns_submit(apns, &push, 0, NULL) != MDM_OK) {
                return 1;
            }
        }
        b.ours += seconds() - start;
        do {
            start = seconds();
            if (mdm_apns_take(apns, out, sizeof(out), &n, NULL) != MDM_OK) {
                return 1;
            }
            b.ours += seconds() - start;
            if (nghttp2_session_mem_recv(peer.session, out, n) < 0) {
                return 1;
            }
        } while (n > 0);
        do {
            for (n = 0; n < sizeof(in) - 17000; n += (size_t)got) {
                got = nghttp2_session_mem_send(peer.session, &p);
                if (got <= 0) {
                    break;
                }
                memcpy(in + n, p, (size_t)got);
            }
            start = seconds();
            if (mdm_apns_feed(apns, in, n, 0, NULL) != MDM_OK) {
                return 1;
            }
            b.ours += seconds() - start;
        } while (n > 0);
    }
    (void)printf("%.0f pushes/s (%.2f us a push in the session)\n",
                 (double)b.outcomes / b.ours,
                 b.ours / (double)b.outcomes * 1e6);
    mdm_apns_free(&apns, NULL);
    peer_clear(&peer);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_early_burst),
        cmocka_unit_test(test_own_bound),
        cmocka_unit_test(test_limit_zero),
        cmocka_unit_test(test_limit_moves),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_goaway_two_phase),
        cmocka_unit_test(test_goaway_cuts),
        cmocka_unit_test(test_goaway_reasons),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_not_sent_in_time),
        cmocka_unit_test(test_pings),
        cmocka_unit_test(test_ping_unanswered),
        cmocka_unit_test(test_silence_is_doubted),
        cmocka_unit_test(test_no_settings),
        cmocka_unit_test(test_free_with_open),
        cmocka_unit_test(test_mix),
    };

    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        return bench();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
