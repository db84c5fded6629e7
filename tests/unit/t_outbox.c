/*
 * t_outbox.c - pushes that are due, claimed and answered, and the lease of
 * the process that sends them.  Times are made up: the store takes the time
 * as an argument.
 */
#include "t_store_world.h"

#include "mdm_lease.h"
#include "mdm_time.h"

#define CLAIMS 32
#define IN_FLIGHT_US (60 * MDM_SEC)

/* One call of the outbox with everything it may need. */
typedef struct box {
    world_t *w;
    const char *holder;
    int64_t now;
    mdm_claim_t claims[CLAIMS];
    size_t limit;
    size_t n;
    mdm_push_finish_t finish;
    int64_t due;
    mdm_str_t topic;
    mdm_push_ticket_t ticket;
} box_t;

static mdm_rc do_claim(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_claim(tx, b->topic, mdm_str_from(b->holder), b->now,
                                b->now + IN_FLIGHT_US, b->limit, b->w->arena,
                                b->claims, &b->n, err);
}

static mdm_rc do_finish(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_finish(tx, &b->finish, mdm_str_from(b->holder),
                                 b->now, err);
}

static mdm_rc do_release(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_release(tx, mdm_str_from(b->holder), b->now, err);
}

static mdm_rc do_recover(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_recover(tx, mdm_str_from(b->holder), b->now, err);
}

static mdm_rc do_mark(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_mark(tx, 1, b->topic, b->now, &b->ticket, err);
}

static mdm_rc do_clear(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_clear(tx, 1, b->now, err);
}

static mdm_rc do_due(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_next_due(tx, b->topic, &b->due, err);
}

static void run(box_t *b, mdm_tx_fn *fn)
{
    mdm_err_clear(&b->w->err);
    if (mdm_store_write(b->w->store, fn, b, &b->w->err) != MDM_OK) {
        fail_msg("%s", b->w->err.text);
    }
}

static size_t claim(box_t *b)
{
    run(b, do_claim);
    return b->n;
}

static int64_t due(box_t *b)
{
    run(b, do_due);
    return b->due;
}

static void finish(box_t *b, mdm_push_verdict_t verdict, int64_t retry_at)
{
    b->finish = (mdm_push_finish_t){.eid = 1,
                                    .verdict = verdict,
                                    .status = 200,
                                    .reason = MDM_STR("Why"),
                                    .retry_at_us = retry_at,
                                    .token_at = b->claims[0].token_at};
    run(b, do_finish);
}

/* A device "D" (eid 1) with a push that is due. */
static box_t begin(world_t *w)
{
    box_t b = {.w = w, .holder = "h1", .limit = CLAIMS,
               .topic = MDM_STR(TOPIC)};

    enroll(w, "D", 'A');
    b.now = mdm_wall_us(NULL) + MDM_SEC;
    run(&b, do_mark);
    return b;
}

static void test_coalesced(void **state)
{
    world_t *w = *state;
    char uuid[8];
    char first[MDM_UUID_SIZE] = "";
    mdm_target_result_t t;
    int i;

    enroll(w, "D", 'A');
    for (i = 0; i < 10; i++) {
        (void)snprintf(uuid, sizeof(uuid), "c%d", i);
        t = enqueue(w, uuid, "D", 5);
        assert_true(t.pushed);
        if (i == 0) {
            memcpy(first, t.ticket.apns_id, sizeof(first));
        }
        assert_string_equal(t.ticket.apns_id, first);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"), 1);
    /* The device comes by itself: nothing need be sent. */
    assert_string_equal(idle(w), "c0");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 0);
    t = enqueue(w, "c10", "D", 5);
    assert_string_not_equal(t.ticket.apns_id, first);
}

static void test_claim_finish(void **state)
{
    box_t b = begin(*state);
    int64_t start = b.now;

    b.topic = MDM_STR(OTHER_TOPIC);
    assert_int_equal(claim(&b), 0);
    assert_true(due(&b) == INT64_MAX);
    b.topic = MDM_STR(TOPIC);
    assert_true(due(&b) == start);
    b.now = start - 1;
    assert_int_equal(claim(&b), 0); /* not yet */
    b.now = start;
    b.limit = 0;
    assert_int_equal(claim(&b), 0);
    b.limit = CLAIMS;
    assert_int_equal(claim(&b), 1);
    assert_true(b.claims[0].pushable);
    assert_true(mdm_str_is(b.claims[0].token, "token-of-the-device"));
    assert_true(mdm_str_is(b.claims[0].magic, "magic-of-the-device"));
    assert_true(mdm_str_is(b.claims[0].id, "D"));
    assert_string_equal(b.claims[0].apns_id, b.ticket.apns_id);
    assert_int_equal(claim(&b), 0); /* in flight */
    assert_true(due(&b) == start + IN_FLIGHT_US);

    /* Another holder's word counts for nothing. */
    b.holder = "h2";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == start + IN_FLIGHT_US);
    b.holder = "h1";
    finish(&b, MDM_PUSH_RETRY, start + 5);
    assert_true(due(&b) == start + 5);
    assert_int_equal(claim(&b), 0);
    b.now = start + 5;
    assert_int_equal(claim(&b), 1);
    assert_int_equal(b.claims[0].attempts, 1);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == INT64_MAX);
    assert_int_equal(db_int(b.w, "SELECT attempts FROM push"), 0);
    assert_int_equal(db_int(b.w, "SELECT last_status FROM push"), 200);
}

static void test_marked_in_flight(void **state)
{
    box_t b = begin(*state);
    char first[MDM_UUID_SIZE];

    memcpy(first, b.ticket.apns_id, sizeof(first));
    assert_int_equal(claim(&b), 1);
    b.now += MDM_SEC;
    run(&b, do_mark); /* a new command while the push is under way */
    assert_string_not_equal(b.ticket.apns_id, first);
    assert_int_equal(claim(&b), 0);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == b.now); /* at once again */
    assert_int_equal(claim(&b), 1);
    assert_string_equal(b.claims[0].apns_id, b.ticket.apns_id);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == INT64_MAX);

    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    run(&b, do_mark);
    finish(&b, MDM_PUSH_RETRY, b.now + 3600 * MDM_SEC);
    /* A new reason does not shorten the pause that APNs asked for ... */
    assert_true(due(&b) == b.now + 3600 * MDM_SEC);
    run(&b, do_mark);
    assert_true(due(&b) == b.now + 3600 * MDM_SEC);
    /* ... but the device's coming ends it. */
    run(&b, do_clear);
    run(&b, do_mark);
    assert_true(due(&b) == b.now);
}

/* The device comes while its push is under way; then there is a new command
 * before the push is answered.  It must get a push of its own. */
static void test_cleared_in_flight(void **state)
{
    static const mdm_push_verdict_t verdicts[] = {MDM_PUSH_DONE,
                                                  MDM_PUSH_RETRY};
    box_t b = begin(*state);
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(verdicts); i++) {
        assert_int_equal(claim(&b), 1);
        run(&b, do_clear);
        finish(&b, verdicts[i], b.now + MDM_SEC);
        assert_true(due(&b) == INT64_MAX);
        run(&b, do_mark);
        assert_int_equal(claim(&b), 1);
        run(&b, do_clear);
        run(&b, do_mark);
        assert_int_equal(claim(&b), 0); /* not twice at a time */
        finish(&b, verdicts[i], b.now + MDM_SEC);
        /* A pause that APNs asked for is kept. */
        assert_true(due(&b) == (verdicts[i] == MDM_PUSH_RETRY
                                    ? b.now + MDM_SEC
                                    : b.now));
        b.now += 2 * MDM_SEC;
    }
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_mark);
    run(&b, do_release);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_mark);
    b.holder = "h2";
    run(&b, do_recover);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    run(&b, do_clear);
    run(&b, do_release);
    assert_true(due(&b) == INT64_MAX);
}

static void test_release_recover(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    b.now += 7;
    b.holder = "h2";
    run(&b, do_release); /* not ours */
    assert_int_equal(claim(&b), 0);
    b.holder = "h1";
    run(&b, do_recover); /* takes back the others' only */
    assert_int_equal(claim(&b), 0);
    run(&b, do_release);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    b.holder = "h2";
    b.now += 7;
    run(&b, do_recover); /* a new leader */
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    /* The old one's late answer changes nothing. */
    b.holder = "h1";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == b.now + IN_FLIGHT_US);
    /* A claim that nobody finishes runs out. */
    b.now += IN_FLIGHT_US;
    assert_int_equal(claim(&b), 1);
}

static void test_token_dead(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    /* The device brings a token in between: that one is not dead. */
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    finish(&b, MDM_PUSH_TOKEN_DEAD, 0);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_GOOD);
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_DEAD, 0);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_DEAD);
    assert_true(due(&b) == INT64_MAX);
    assert_int_equal(enqueue(b.w, "c", "D", 5).push, MDM_TARGET_NO_TOKEN);
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    assert_false(b.claims[0].pushable);
    finish(&b, MDM_PUSH_DONE, 0);
    /* A new token, and the command that waits is pushed. */
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    assert_true(b.w->enrolled.push_due);
    assert_int_equal(claim(&b), 1);
    assert_true(b.claims[0].pushable);
}

/* A token that does not open is one push that cannot be sent, not all of
 * them. */
static void test_damaged_token(void **state)
{
    box_t b = begin(*state);

    enroll(b.w, "E", 'B');
    (void)enqueue(b.w, "c", "E", 5);
    db_run(b.w, "UPDATE enrollment SET token_s = x'02010203' WHERE eid = 1");
    assert_int_equal(claim(&b), 2);
    assert_int_equal(b.claims[0].pushable + b.claims[1].pushable, 1);
    assert_true(b.claims[b.claims[1].pushable ? 1 : 0].eid == 2);
}

static mdm_rc do_revive(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    box_t *b = arg;

    return mdm_store_push_revive(tx, 1, b->claims[0].token_at, b->topic,
                                 b->now, err);
}

/* A token of another topic: as dead, but the mark can be taken back. */
static void test_token_foreign(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_FOREIGN, 0);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_FOREIGN);
    assert_true(due(&b) == INT64_MAX);
    assert_int_equal(enqueue(b.w, "c", "D", 5).push, MDM_TARGET_NO_TOKEN);
    run(&b, do_revive);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_GOOD);
    assert_true(due(&b) == b.now);
    /* A token that came since is none of that; nor does a dead one live. */
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_FOREIGN, 0);
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_GOOD);
    b.now = due(&b); /* the command that waits */
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_DEAD, 0);
    run(&b, do_revive);
    assert_int_equal(db_int(b.w, "SELECT token_state FROM enrollment"),
                     MDM_TOKEN_DEAD);
    assert_true(due(&b) == INT64_MAX);
}

/* ---- what an operator sees ----------------------------------------------- */

typedef struct see {
    mdm_arena_t *arena;
    mdm_enrollment_t row;
    mdm_enrollment_filter_t filter;
    size_t n;
    int64_t next;
    int64_t given_up;
} see_t;

static mdm_rc do_see(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    see_t *s = arg;
    mdm_rc rc = mdm_store_enrollment_get(tx, MDM_STR("D"), s->arena, &s->row,
                                         err);

    return rc == MDM_OK ? mdm_store_push_given_up(tx, &s->given_up, err) : rc;
}

static mdm_rc do_list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    see_t *s = arg;

    return mdm_store_enrollment_list(tx, &s->filter, s->arena, &s->row, &s->n,
                                     &s->next, err);
}

/* The state by name; every list that asks for it shows the row, no other. */
static const char *see(world_t *w)
{
    see_t s = {.arena = w->arena};
    mdm_push_state_t state;
    int i;

    assert_int_equal(mdm_store_read(w->store, do_see, &s, &w->err), MDM_OK);
    state = s.row.push_state;
    assert_int_equal(s.given_up, s.row.push_given_up_at != 0 ? 1 : 0);
    for (i = 0; i < (int)MDM_PUSH_STATES; i++) {
        s.filter = (mdm_enrollment_filter_t){.limit = 1, .enabled = -1,
                                             .type = -1, .push = i};
        assert_int_equal(mdm_store_read(w->store, do_list, &s, &w->err),
                         MDM_OK);
        assert_int_equal(s.n, i == (int)state ? 1 : 0);
    }
    return mdm_push_state_name(state);
}

static void give_up(box_t *b, int64_t repeat_at)
{
    b->finish = (mdm_push_finish_t){.eid = 1,
                                    .verdict = MDM_PUSH_DONE,
                                    .status = 413,
                                    .reason = MDM_STR("PayloadTooLarge"),
                                    .repeat_at_us = repeat_at,
                                    .given_up = true};
    run(b, do_finish);
}

static void test_states(void **state)
{
    box_t b = begin(*state);
    world_t *w = b.w;
    const int64_t later = b.now + 3600 * MDM_SEC;

    b.now -= MDM_SEC; /* the clock of the store goes on */
    assert_string_equal(see(w), "no_certificate");
    db_run(w, "INSERT INTO pushcert (topic, cert, key_s, fingerprint,"
              " not_before, not_after, version, stored_at) VALUES ('" TOPIC
              "', 'x', 'x', 'x', 0, 0, 1, 0)");
    run(&b, do_mark);
    assert_string_equal(see(w), "due");
    assert_int_equal(claim(&b), 1);
    assert_string_equal(see(w), "in_flight");
    finish(&b, MDM_PUSH_RETRY, later);
    assert_string_equal(see(w), "retrying");
    db_run(w, "UPDATE pushcert SET suspended = 'BadCertificate'");
    assert_string_equal(see(w), "suspended");
    db_run(w, "UPDATE pushcert SET suspended = NULL");
    b.now = later;
    assert_int_equal(claim(&b), 1);
    give_up(&b, 0);
    assert_string_equal(see(w), "given_up");
    /* A new push, which works. */
    b.now = mdm_wall_us(NULL);
    run(&b, do_mark);
    assert_string_equal(see(w), "due");
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_DONE, 0);
    assert_string_equal(see(w), "idle");
    /* Given up while a command waits: a new one is planned for later. */
    assert_true(enqueue(w, "c", "D", 5).pushed);
    b.now = mdm_wall_us(NULL);
    assert_int_equal(claim(&b), 1);
    give_up(&b, later);
    assert_string_equal(see(w), "given_up");
    assert_true(due(&b) == later);
    /* The device came by itself: that is over. */
    assert_string_equal(idle(w), "c");
    assert_string_equal(see(w), "idle");
    /* Not given up is one that was asked for anew in flight. */
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    run(&b, do_mark);
    give_up(&b, 0);
    assert_string_equal(see(w), "due");
    assert_int_equal(claim(&b), 1);
    finish(&b, MDM_PUSH_TOKEN_FOREIGN, 0);
    assert_string_equal(see(w), "token_foreign");
    db_run(w, "UPDATE enrollment SET token_state = 2");
    assert_string_equal(see(w), "token_dead");
    db_run(w, "DELETE FROM pushcert");
    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, "D", 'A'), MDM_OK);
    assert_string_equal(see(w), "no_token");
}

/* An idle device with nothing in its queue ends "given up" by one write, and
 * polls without writing again. */
static void test_given_up_ends(void **state)
{
    box_t b = begin(*state);
    mdm_store_t *watch = world_store(b.w, 20 * MDM_SEC, NULL);
    int64_t before = 0;
    int64_t after = 0;

    assert_int_equal(claim(&b), 1);
    give_up(&b, 0);
    assert_true(db_int(b.w, "SELECT given_up_at FROM push") == b.now);
    assert_string_equal(idle(b.w), "");
    assert_int_equal(db_int(b.w, "SELECT given_up_at FROM push"), 0);
    assert_int_equal(mdm_store_version(watch, &before, &b.w->err), MDM_OK);
    assert_string_equal(idle(b.w), "");
    assert_int_equal(mdm_store_version(watch, &after, &b.w->err), MDM_OK);
    assert_int_equal(before, after);
    /* Any other message does it as well. */
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    give_up(&b, 0);
    assert_int_equal(checkin(b.w, MDM_CHECKIN_TOKEN_UPDATE, "D", 'A'),
                     MDM_OK);
    assert_int_equal(db_int(b.w, "SELECT given_up_at FROM push"), 0);
    mdm_store_free(&watch);
}

/* ---- lease --------------------------------------------------------------- */

static void step(world_t *w, mdm_lease_t *lease)
{
    lease->next_us = 0; /* whatever it planned */
    assert_int_equal(mdm_lease_step(lease, &w->err), MDM_OK);
}

static void test_lease(void **state)
{
    world_t *w = *state;
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    mdm_lease_t a = {.store = w->store, .name = "push", .holder = "a",
                     .life_us = 30 * MDM_SEC};
    mdm_lease_t b = {.store = other, .name = "push", .holder = "b",
                     .life_us = 30 * MDM_SEC};
    mdm_lease_t c = {.store = other, .name = "else", .holder = "c",
                     .life_us = 30 * MDM_SEC};
    int64_t now;
    char sql[100];

    step(w, &a);
    assert_true(a.held);
    now = mdm_mono_us(NULL);
    assert_true(a.next_us <= now + a.life_us / 3);
    step(w, &b);
    assert_false(b.held);
    assert_true(b.next_us > now && b.next_us <= now + b.life_us);
    step(w, &c); /* another name is another lease */
    assert_true(c.held);
    step(w, &a);
    assert_true(a.held);
    /* Given up: the other takes it at once. */
    mdm_lease_drop(&a);
    assert_false(a.held);
    step(w, &b);
    assert_true(b.held);
    step(w, &a);
    assert_false(a.held);
    mdm_lease_drop(&a); /* not ours: nothing happens */
    step(w, &a);
    assert_false(a.held);
    /* Run out: the other takes it, and the former holder learns so. */
    db_run(w, "UPDATE lease SET expires = 1 WHERE name = 'push'");
    step(w, &a);
    assert_true(a.held);
    step(w, &b);
    assert_false(b.held);
    /* An end far ahead was written under another clock. */
    (void)snprintf(sql, sizeof(sql), "UPDATE lease SET expires = %lld",
                   (long long)(mdm_wall_us(NULL) + 3600 * MDM_SEC));
    db_run(w, sql);
    step(w, &b);
    assert_true(b.held);
    mdm_store_free(&other);
}

/* The wall clock is set while the lease is held, and while nobody holds it.
 * Whatever its reading, the lease is free within three of its lives. */
static void test_lease_clock(void **state)
{
    static const int64_t steps[] = {-86400, -60, -20, -1, 0, 1, 20, 60, 86400};
    world_t *w = *state;
    mdm_store_t *other = world_store(w, 20 * MDM_SEC, NULL);
    const int64_t life = 10 * MDM_SEC;
    mdm_lease_t a;
    mdm_lease_t b;
    char sql[100];
    int64_t left;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(steps); i++) {
        a = (mdm_lease_t){.store = w->store, .name = "push", .holder = "a",
                          .life_us = life};
        b = (mdm_lease_t){.store = other, .name = "push", .holder = "b",
                          .life_us = life};
        assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
        db_run(w, "DELETE FROM lease");
        step(w, &a);
        assert_true(a.held);
        /* To set the clock is to move what was written by the old one. */
        (void)snprintf(sql, sizeof(sql),
                       "UPDATE lease SET expires = expires - %lld",
                       (long long)(steps[i] * MDM_SEC));
        db_run(w, sql);
        step(w, &b);
        left = db_int(w, "SELECT expires FROM lease") - mdm_wall_us(NULL);
        if (b.held) { /* it looked free */
            assert_true(left > 0 && left <= life);
        } else {
            assert_true(left > 0 && left <= 2 * life);
            assert_true(b.next_us <= mdm_mono_us(NULL) + life / 3);
        }
        /* The former holder learns so, or it is his again; never both. */
        step(w, &a);
        assert_true(a.held != b.held);
    }
    mdm_store_free(&other);
}

/* Claims of a holder that died are taken back whatever the clock says; the
 * holder's own late answers then change nothing. */
static void test_claim_clock(void **state)
{
    box_t b = begin(*state);

    assert_int_equal(claim(&b), 1);
    b.now -= 86400 * MDM_SEC; /* set back a day, and the holder is gone */
    assert_int_equal(claim(&b), 0);
    b.holder = "h2";
    run(&b, do_recover);
    assert_true(due(&b) == b.now);
    assert_int_equal(claim(&b), 1);
    b.holder = "h1";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_int_equal(
        db_int(b.w, "SELECT COUNT(*) FROM push WHERE claimed_by = 'h2'"
                    " AND due_at IS NOT NULL"), 1);
    b.holder = "h2";
    finish(&b, MDM_PUSH_DONE, 0);
    assert_true(due(&b) == INT64_MAX);
    /* Set ahead: what is in flight is claimed again, once. */
    run(&b, do_mark);
    assert_int_equal(claim(&b), 1);
    b.now += 2 * 86400 * MDM_SEC;
    assert_int_equal(claim(&b), 1);
    assert_int_equal(claim(&b), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_coalesced),
        world_test(test_claim_finish),
        world_test(test_marked_in_flight),
        world_test(test_cleared_in_flight),
        world_test(test_release_recover),
        world_test(test_token_dead),
        world_test(test_damaged_token),
        world_test(test_token_foreign),
        world_test(test_states),
        world_test(test_given_up_ends),
        world_test(test_lease),
        world_test(test_lease_clock),
        world_test(test_claim_clock),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
