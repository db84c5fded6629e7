/*
 * t_expiry.c - who is told of the end of a certificate, when, how loud, and
 * how often; and the feed of events.  Times are made up.
 */
#include "t_store_world.h"

#include "mdm_expiry.h"
#include "mdm_pushcert.h"
#include "mdm_store_event.h"
#include "testcert.h"

#define DAY_US (86400 * MDM_SEC)
#define NOW (20000 * DAY_US)

/* What was logged: a letter for its level, number after number. */
typedef struct lines {
    char text[4096];
    int n;
} lines_t;

static bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    return level <= MDM_LOG_NOTICE;
}

static void log_write(void *ctx, mdm_level_t level, const char *file,
                      int line, const char *msg)
{
    lines_t *lines = ctx;
    size_t n = strlen(lines->text);

    (void)file;
    (void)line;
    (void)snprintf(lines->text + n, sizeof(lines->text) - n, "%c %.200s\n",
                   "AEWNID"[level], msg);
    lines->n++;
}

typedef struct scene {
    world_t *w;
    lines_t lines;
    mdm_log_t log;
    mdm_expiry_config_t config;
} scene_t;

static void scene_begin(scene_t *s, world_t *w)
{
    memset(s, 0, sizeof(*s));
    s->w = w;
    s->log = (mdm_log_t){&s->lines, log_on, log_write};
    s->config = (mdm_expiry_config_t){.store = w->store, .log = &s->log,
                                      .warn_us = 30 * DAY_US};
    assert_int_equal(mdm_store_open(w->store, &w->err), MDM_OK);
}

/* Stores a certificate of the topic that ends then. */
static void import(scene_t *s, const char *topic, char name, int64_t end_us)
{
    mdm_keypair_t pair = {.topic = mdm_str_from(topic),
                          .cert_pem = MDM_STR("certificate"),
                          .key_pem = MDM_STR("key"),
                          .not_after_us = end_us};
    mdm_pushcert_import_t how = {MDM_PUSHCERT_FILE, true, false};
    bool stored;

    pair.fingerprint[0] = name;
    assert_int_equal(mdm_pushcert_import(s->w->store, &pair, &how, &stored,
                                         &s->w->err), MDM_OK);
    assert_true(stored);
}

/* Looks at a time; gives what was logged, "" for nothing. */
static const char *look(scene_t *s, int64_t now_us)
{
    memset(&s->lines, 0, sizeof(s->lines));
    if (mdm_expiry_look(&s->config, now_us, &s->w->err) != MDM_OK) {
        fail_msg("%s", s->w->err.text);
    }
    return s->lines.text;
}

static void test_step(void **state)
{
    static const struct {
        int64_t left_us;
        int step;
    } cases[] = {{61 * DAY_US, 0},     {60 * DAY_US + 1, 0},
                 {60 * DAY_US, 1},     {30 * DAY_US + 1, 1},
                 {30 * DAY_US, 2},     {14 * DAY_US, 3},
                 {7 * DAY_US, 4},      {3 * DAY_US, 5},
                 {DAY_US, 6},          {1, 6},
                 {0, MDM_EXPIRY_OVER}, {-400 * DAY_US, MDM_EXPIRY_OVER}};
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        assert_int_equal(mdm_expiry_step(NOW + cases[i].left_us, NOW),
                         cases[i].step);
    }
}

/* Once at each step, however often it is looked; louder each time. */
static void test_each_step_once(void **state)
{
    static const struct {
        int days;
        char level;
        const char *id;
    } told[] = {{60, 'N', "MDM0501"}, {30, 'W', "MDM0501"},
                {14, 'W', "MDM0501"}, {7, 'E', "MDM0501"},
                {3, 'E', "MDM0501"},  {1, 'A', "MDM0501"},
                {0, 'A', "MDM0502"}};
    int64_t end = NOW + 100 * DAY_US;
    scene_t s;
    size_t next = 0;
    int hour;

    scene_begin(&s, *state);
    import(&s, TOPIC, 'a', end);
    for (hour = 100 * 24; hour >= 0; hour--) {
        const char *text = look(&s, end - hour * (DAY_US / 24));
        if (next < MDM_ARRAY_LEN(told) && hour == told[next].days * 24) {
            assert_int_equal(s.lines.n, 1);
            assert_int_equal(text[0], told[next].level);
            assert_non_null(strstr(text, told[next].id));
            assert_non_null(strstr(text, TOPIC));
            next++;
        } else {
            assert_string_equal(text, "");
        }
    }
    assert_int_equal(next, MDM_ARRAY_LEN(told));
    assert_int_equal(db_int(s.w, "SELECT COUNT(*) FROM event WHERE topic ="
                                 " 'server.PushCertificateEnds'"), 7);
}

/* After the end, once a day, until it is renewed. */
static void test_over(void **state)
{
    scene_t s;

    scene_begin(&s, *state);
    import(&s, TOPIC, 'a', NOW);
    assert_non_null(strstr(look(&s, NOW + 1), "MDM0502"));
    assert_string_equal(look(&s, NOW + DAY_US / 2), "");
    assert_non_null(strstr(look(&s, NOW + DAY_US + 2), "MDM0502"));
    assert_string_equal(look(&s, NOW + DAY_US + 3), "");
    /* The clock goes back: said again, and not for ever. */
    assert_non_null(strstr(look(&s, NOW + 5), "MDM0502"));
    assert_string_equal(look(&s, NOW + 6), "");
    import(&s, TOPIC, 'b', NOW + 365 * DAY_US);
    assert_string_equal(look(&s, NOW + 2 * DAY_US), "");
    assert_int_equal(db_int(s.w, "SELECT step FROM notice"), 0);
    /* The renewed one is told of again in its time. */
    assert_non_null(strstr(look(&s, NOW + 310 * DAY_US), "N MDM0501"));
    assert_int_equal(db_int(s.w, "SELECT COUNT(*) FROM notice"), 1);
}

/* A server that was off for long says the last step alone. */
static void test_late(void **state)
{
    scene_t s;

    scene_begin(&s, *state);
    import(&s, TOPIC, 'a', NOW + 5 * DAY_US);
    import(&s, OTHER_TOPIC, 'b', NOW + 200 * DAY_US);
    assert_non_null(strstr(look(&s, NOW), "E MDM0501"));
    assert_int_equal(s.lines.n, 1);
    assert_string_equal(look(&s, NOW), "");
}

/* Two leaders at once: one of them says it. */
static void test_other_leader(void **state)
{
    scene_t a;
    scene_t b;

    scene_begin(&a, *state);
    b = a;
    b.log.ctx = &b.lines;
    b.config.log = &b.log;
    a.config.log = &a.log;
    a.log.ctx = &a.lines;
    b.config.store = world_store(a.w, 20 * MDM_SEC, NULL);
    import(&a, TOPIC, 'a', NOW + 20 * DAY_US);
    (void)look(&a, NOW);
    (void)look(&b, NOW);
    assert_int_equal(a.lines.n + b.lines.n, 1);
    mdm_store_free(&b.config.store);
}

/* At the start those that end soon are told of, but for those of which the
 * parent has warned: once for each time that the configuration was read, by
 * whichever process comes first. */
static void test_start(void **state)
{
    mdm_keypair_t file = {.topic = MDM_STR(OTHER_TOPIC)};
    const mdm_keypair_t *files[] = {&file};
    scene_t s;

    scene_begin(&s, *state);
    import(&s, TOPIC, 'a', NOW + 20 * DAY_US);
    import(&s, OTHER_TOPIC, 'b', NOW + 20 * DAY_US);
    (void)look(&s, NOW);
    file.fingerprint[0] = 'b';
    s.config.file_certs = files;
    s.config.nfile_certs = 1;
    s.config.loaded_us = 1;
    assert_non_null(strstr(look(&s, NOW + 1), "W MDM0501"));
    assert_int_equal(s.lines.n, 1);
    assert_null(strstr(s.lines.text, OTHER_TOPIC));
    assert_string_equal(look(&s, NOW + 2), "");
    /* Another process of this server is the leader. */
    s.config.store = world_store(s.w, 20 * MDM_SEC, NULL);
    assert_string_equal(look(&s, NOW + 3), "");
    s.config.loaded_us = 2;
    assert_non_null(strstr(look(&s, NOW + 4), "W MDM0501"));
    s.config.loaded_us = 3;
    s.config.warn_us = 10 * DAY_US;
    assert_string_equal(look(&s, NOW + 5), "");
    assert_int_equal(db_int(s.w, "SELECT COUNT(*) FROM event WHERE topic ="
                                 " 'server.PushCertificateEnds'"), 2);
    mdm_store_free(&s.config.store);
}

static mdm_end_t an_end(mdm_end_kind_t kind, const char *name,
                        const char *fingerprint, int64_t days)
{
    mdm_end_t end = {.kind = kind, .name = mdm_str_from(name),
                     .fingerprint = mdm_str_from(fingerprint),
                     .not_after_us = NOW + days * DAY_US};

    return end;
}

/* Each once; and of too many none that ends soon is left out. */
static void test_list(void **state)
{
    static char names[MDM_ENDS_MAX + 50][8];
    mdm_ends_t *ends = calloc(1, sizeof(*ends));
    mdm_end_t end;
    size_t i;

    (void)state;
    assert_non_null(ends);
    end = an_end(MDM_END_DEVICE_CA, "CN=A", "aa", 5);
    mdm_ends_add(ends, &end);
    mdm_ends_add(ends, &end);
    assert_int_equal(ends->n, 1);
    end = an_end(MDM_END_DEVICE_CA, "CN=A", "bb", 6); /* its successor */
    mdm_ends_add(ends, &end);
    end = an_end(MDM_END_PUSH, "CN=A", "aa", 7); /* another kind */
    mdm_ends_add(ends, &end);
    assert_int_equal(ends->n, 3);
    memset(ends, 0, sizeof(*ends));
    for (i = 0; i < MDM_ARRAY_LEN(names); i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%zu", i);
        end = an_end(MDM_END_DEVICE_CA, "CN=A", names[i],
                     (int64_t)(i * 7 % MDM_ARRAY_LEN(names)));
        mdm_ends_add(ends, &end);
    }
    assert_int_equal(ends->n, MDM_ENDS_MAX);
    for (i = 0; i < ends->n; i++) {
        assert_true(ends->list[i].not_after_us <
                    NOW + MDM_ENDS_MAX * DAY_US);
    }
    free(ends);
}

static void test_device_ca(void **state)
{
    testcert_want_t want = {.name = "Device \"CA\"\n, GmbH", .ca = 1,
                            .from_day = -10, .to_day = 2};
    testcert_t ca = testcert_make(want);
    char *pem = testcert_pem(&ca);
    const mdm_trust_ca_t *list;
    const mdm_trust_t *trusts[1];
    mdm_trust_t *trust;
    int64_t now = mdm_wall_us(NULL);
    scene_t s;
    size_t n;

    scene_begin(&s, *state);
    assert_int_equal(mdm_trust_new(mdm_str_from(pem), &trust, &s.w->err),
                     MDM_OK);
    list = mdm_trust_cas(trust, &n);
    assert_int_equal(n, 1);
    assert_null(strchr(list[0].subject, '\n'));
    assert_true(list[0].not_after_us > now + DAY_US);
    assert_int_equal(strlen(list[0].fingerprint), 64);
    trusts[0] = trust;
    s.config.trusts = trusts;
    s.config.ntrusts = 1;
    assert_non_null(strstr(look(&s, now), "E MDM0505"));
    assert_string_equal(look(&s, now), "");
    assert_non_null(strstr(look(&s, now + 3 * DAY_US), "A MDM0506"));
    mdm_trust_free(&trust);
    free(pem);
    testcert_free(&ca);
}

/* A name that is cut within a character must not stop the alarms. */
static void test_long_name(void **state)
{
    char name[1 + 63 * 4 + 1] = "a"; /* "CN=" and this are 256 bytes */
    testcert_want_t want = {.ca = 1, .from_day = -10, .to_day = 2};
    const mdm_trust_t *trusts[1];
    mdm_trust_t *trust;
    testcert_t ca;
    char *pem;
    scene_t s;
    size_t i;

    for (i = 1; i + 4 < sizeof(name); i += 4) {
        memcpy(name + i, "\xf0\x9f\x98\x80", 4);
    }
    want.name = name;
    ca = testcert_make(want);
    pem = testcert_pem(&ca);
    scene_begin(&s, *state);
    assert_int_equal(mdm_trust_new(mdm_str_from(pem), &trust, &s.w->err),
                     MDM_OK);
    trusts[0] = trust;
    s.config.trusts = trusts;
    s.config.ntrusts = 1;
    assert_non_null(strstr(look(&s, mdm_wall_us(NULL)), "E MDM0505"));
    assert_int_equal(db_int(s.w, "SELECT COUNT(*) FROM event"), 1);
    mdm_trust_free(&trust);
    free(pem);
    testcert_free(&ca);
}

/* ---- events -------------------------------------------------------------- */

typedef struct feed {
    mdm_arena_t *arena;
    mdm_event_row_t rows[10];
    size_t max;
    size_t n;
    int64_t after;
    int64_t deleted;
    bool old;
} feed_t;

static mdm_rc add_three(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const mdm_event_t two = {.topic = MDM_STR("test.Event"),
                             .enrollment_id = MDM_STR("U:1"),
                             .body = MDM_STR("{\"secret\":\"two\"}")};
    const mdm_event_t other = {.topic = MDM_STR("test.Event"),
                               .body = MDM_STR("{}")};
    mdm_rc rc = MDM_OK;
    int i;

    (void)arg;
    for (i = 1; rc == MDM_OK && i <= 3; i++) {
        rc = mdm_store_event_add(tx, i == 2 ? &two : &other, i, err);
    }
    return rc;
}

static mdm_rc list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    feed_t *f = arg;

    return mdm_store_event_list(tx, f->after, f->arena, f->rows, f->max,
                                &f->n, err);
}

static mdm_rc prune(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    feed_t *f = arg;
    mdm_rc rc = mdm_store_event_is_old(tx, 3, &f->old, err);

    return rc == MDM_OK ? mdm_store_event_prune(tx, 3, f->max, &f->deleted,
                                                err)
                        : rc;
}

static void test_feed(void **state)
{
    world_t *w = *state;
    feed_t f = {.arena = w->arena, .max = 2};

    assert_int_equal(mdm_store_write(w->store, add_three, NULL, &w->err),
                     MDM_OK);
    assert_int_equal(mdm_store_read(w->store, list, &f, &w->err), MDM_OK);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.rows[0].seq, 1);
    assert_true(mdm_str_is(f.rows[1].event.body, "{\"secret\":\"two\"}"));
    assert_int_equal(f.rows[1].uuid.n, MDM_UUID_LEN);
    assert_true(mdm_str_is(f.rows[1].event.enrollment_id, "U:1"));
    assert_null(f.rows[0].event.enrollment_id.s);
    f.after = 2;
    assert_int_equal(mdm_store_read(w->store, list, &f, &w->err), MDM_OK);
    assert_int_equal(f.n, 1);
    /* Sealed, each for its own place. */
    assert_int_equal(db_int(w, "SELECT instr(body_s, 'two') FROM event"
                               " WHERE seq = 2"), 0);
    db_run(w, "UPDATE event SET body_s = (SELECT body_s FROM event WHERE seq"
              " = 2) WHERE seq = 3");
    assert_int_equal(mdm_store_read(w->store, list, &f, &w->err), MDM_OK);
    assert_int_equal(f.n, 1);
    assert_null(f.rows[0].event.body.s);
    f.max = 1;
    assert_int_equal(mdm_store_write(w->store, prune, &f, &w->err), MDM_OK);
    assert_true(f.old && f.deleted == 1);
    assert_int_equal(mdm_store_write(w->store, prune, &f, &w->err), MDM_OK);
    assert_int_equal(mdm_store_write(w->store, prune, &f, &w->err), MDM_OK);
    assert_true(!f.old && f.deleted == 0);
    /* A number is never used again. */
    db_run(w, "DELETE FROM event");
    assert_int_equal(mdm_store_write(w->store, add_three, NULL, &w->err),
                     MDM_OK);
    assert_int_equal(db_int(w, "SELECT MIN(seq) FROM event"), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        world_test(test_each_step_once),
        world_test(test_over),
        world_test(test_late),
        world_test(test_other_leader),
        world_test(test_start),
        cmocka_unit_test(test_list),
        world_test(test_device_ca),
        world_test(test_long_name),
        world_test(test_feed),
    };

    return cmocka_run_group_tests_name("expiry", tests, NULL, NULL);
}
