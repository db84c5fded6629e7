/*
 * t_apns.c - the push session against an nghttp2 server session in memory:
 * shape of a request, every kind of answer, hostile bytes.  What happens over
 * time is in t_apns_flow.c.
 */
#include <dirent.h>

#include "t_apns_world.h"

/* --- requests ----------------------------------------------------------- */

static void test_expected_request(void **state)
{
    json_t *root = load_case("C67-expected-request.json");
    world_t *w = world_new(100);
    mdm_apns_push_t push = push_of(w);
    char token[32];
    const char *key;
    json_t *value;
    request_t *request;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(token); i++) {
        token[i] = (char)i;
    }
    push.token = (mdm_str_t){token, sizeof(token)};
    push.topic.s = text_of(root, "topic");
    push.topic.n = strlen(push.topic.s);
    push.magic.s = text_of(root, "push_magic");
    push.magic.n = strlen(push.magic.s);
    assert_int_equal(submit_push(w, &push), MDM_OK);
    pump(w);
    assert_int_equal(w->peer.n_requests, 1);
    request = &w->peer.requests[0];
    json_object_foreach(json_object_get(root, "must"), key, value)
    {
        assert_string_equal(header_of(request, key),
                            json_string_value(value));
    }
    assert_string_equal(request->body, text_of(root, "body_exact"));
    assert_true(request->ended);
    assert_string_equal(header_of(request, ":authority"),
                        "api.push.example");
    assert_string_equal(header_of(request, "apns-expiration"), "1767225600");
    assert_string_equal(header_of(request, "apns-priority"), "10");
    assert_string_equal(header_of(request, "apns-id"),
                        "5c0c7f4e-8b8f-4d3a-9a61-3f2d6f1b7e90");
    assert_string_equal(header_of(request, "content-type"),
                        "application/json");
    assert_int_equal(atol(header_of(request, "content-length")),
                     request->body_len);
    assert_int_equal(request->n_headers, 11);
    json_decref(root);
    world_end(w);
}

static void check_body(const char *magic, size_t n, const char *body)
{
    world_t *w = world_new(100);
    mdm_apns_push_t push = push_of(w);

    push.magic = (mdm_str_t){magic, n};
    push.id[0] = '\0';
    push.priority = 5;
    push.expiration_s = 0;
    assert_int_equal(submit_push(w, &push), MDM_OK);
    pump(w);
    assert_string_equal(w->peer.requests[0].body, body);
    assert_true(w->peer.requests[0].body_len <= 4096);
    assert_null(header_of(&w->peer.requests[0], "apns-id"));
    assert_string_equal(header_of(&w->peer.requests[0], "apns-priority"),
                        "5");
    assert_string_equal(header_of(&w->peer.requests[0], "apns-expiration"),
                        "0");
    world_end(w);
}

static void test_magic_escaping(void **state)
{
    json_t *root = load_case("C67-magic-escaping.json");
    const char *magic = text_of(root, "push_magic");
    char worst[MDM_MAGIC_MAX];
    char body[4096] = "{\"mdm\":\"";
    size_t i;

    (void)state;
    check_body(magic, strlen(magic), text_of(root, "body_exact"));
    check_body("a/b\x7f\xf0\x9f\x98\x80", 8,
               "{\"mdm\":\"a/b\x7f\xf0\x9f\x98\x80\"}");
    check_body("a\0\x1f", 3, "{\"mdm\":\"a\\u0000\\u001F\"}");
    memset(worst, 1, sizeof(worst));
    for (i = 0; i < sizeof(worst); i++) {
        strncat(body, "\\u0001", 7);
    }
    strncat(body, "\"}", 3);
    check_body(worst, sizeof(worst), body);
    json_decref(root);
}

static void test_refused_pushes(void **state)
{
    world_t *w = world_new(100);
    static const char big[MDM_TOKEN_MAX + 1];
    static const mdm_str_t bad_magic[] = {
        {NULL, 0},       {"", 0},         {big, MDM_MAGIC_MAX + 1},
        {"\xff", 1},     {"\xc3", 1},     {"\xed\xa0\x80", 3},
        {"\xc0\x80", 2}, {"a\x80", 2},    {"\xf4\x90\x80\x80", 4},
    };
    static const mdm_str_t bad_topic[] = {
        {NULL, 0}, {"a b", 3}, {"a\r\nb: c", 7}, {"a\0b", 3}, {"\xc3\xa9", 2},
    };
    mdm_apns_push_t push;
    size_t i;

    (void)state;
    pump(w);
    for (i = 0; i < MDM_ARRAY_LEN(bad_magic); i++) {
        push = push_of(w);
        push.magic = bad_magic[i];
        assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    }
    for (i = 0; i < MDM_ARRAY_LEN(bad_topic); i++) {
        push = push_of(w);
        push.topic = bad_topic[i];
        assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    }
    push = push_of(w);
    push.token.n = 0;
    assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    push.token = (mdm_str_t){big, MDM_TOKEN_MAX + 1};
    assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    push = push_of(w);
    push.priority = 7;
    assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    push = push_of(w);
    push.expiration_s = -1;
    assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    push = push_of(w);
    push.id[3] = '\n';
    assert_int_equal(submit_push(w, &push), MDM_EINVAL);
    assert_int_equal(mdm_apns_in_flight(w->apns), 0);
    assert_int_equal(w->n_out, 0);
    /* The largest token that is right. */
    push = push_of(w);
    push.token = (mdm_str_t){big, MDM_TOKEN_MAX};
    assert_int_equal(submit_push(w, &push), MDM_OK);
    world_end(w);
}

static void test_config_checked(void **state)
{
    mdm_apns_config_t good = {.authority = "a",
                              .max_streams = 1,
                              .answer_timeout_us = 1,
                              .outcome = on_outcome};
    mdm_apns_config_t bad[5];
    mdm_apns_t *apns = NULL;
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        bad[i] = good;
    }
    bad[0].authority = "a\r\nb";
    bad[1].authority = NULL;
    bad[2].max_streams = 0;
    bad[3].answer_timeout_us = 0;
    bad[4].outcome = NULL;
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        assert_int_equal(mdm_apns_new(&bad[i], 0, &apns, NULL), MDM_EINVAL);
        assert_null(apns);
    }
    assert_int_equal(mdm_apns_new(&good, 0, &apns, NULL), MDM_OK);
    mdm_apns_free(&apns, NULL);
}

/* --- answers ------------------------------------------------------------ */

static void check_answer(const answer_t *answer, size_t feed_cap, int status,
                         const char *reason)
{
    world_t *w = world_new(100);

    w->peer.answer = *answer;
    w->feed_cap = feed_cap;
    w->take_cap = feed_cap == 1 ? 1 : 16384;
    submit(w, 1);
    pump(w);
    assert_int_equal(w->feed_rc, MDM_OK);
    assert_int_equal(w->n_out, 1);
    expect(w, MDM_APNS_ANSWERED, status, reason);
    assert_string_equal(last(w)->id, "00000000-0000-4000-8000-000000000001");
    assert_int_equal(mdm_apns_in_flight(w->apns), 0);
    assert_int_equal(w->peer.n_open, 0);
    world_end(w);
}

/* Plays a case whose only step answers every request. */
static void play_answer_case(const char *name)
{
    json_t *root = load_case(name);
    json_t *step = json_array_get(json_object_get(root, "steps"), 0);
    const char *text = json_string_value(json_object_get(step, "body"));
    json_t *body = text != NULL ? json_loads(text, 0, NULL) : NULL;
    const char *reason = json_string_value(json_object_get(body, "reason"));
    json_t *header = json_array_get(json_object_get(step, "headers"), 0);
    answer_t answer = {
        .status = (int)json_integer_value(json_object_get(step, "status")),
        .informational = (int)json_integer_value(
            json_object_get(step, "informational")),
        .body = text,
        .split = 3,
        .header = json_string_value(json_array_get(header, 0)),
        .value = json_string_value(json_array_get(header, 1)),
        .trailers = json_object_get(step, "trailers") != NULL,
    };

    assert_string_equal(text_of(step, "on"), "every");
    reason = reason != NULL ? reason : "";
    check_answer(&answer, SIZE_MAX, answer.status, reason);
    check_answer(&answer, 1, answer.status, reason);
    answer.split = 0;
    check_answer(&answer, SIZE_MAX, answer.status, reason);
    json_decref(body);
    json_decref(root);
}

static void test_answer_cases(void **state)
{
    static const char *const more[] = {
        "C66-retry-after.json", "C66-trailers.json", "C66-1xx-then-200.json",
        "C66-302-redirect.json"};
    char dir[400];
    DIR *d = opendir(case_dir(dir, sizeof(dir)));
    struct dirent *entry;
    unsigned n = 0;
    size_t i;

    (void)state;
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        if (strncmp(entry->d_name, "C66-", 4) == 0 &&
            entry->d_name[4] >= '3' && entry->d_name[4] <= '5' &&
            strstr(entry->d_name, ".json") != NULL) {
            play_answer_case(entry->d_name);
            n++;
        }
    }
    (void)closedir(d);
    assert_true(n >= 18);
    for (i = 0; i < MDM_ARRAY_LEN(more); i++) {
        play_answer_case(more[i]);
    }
}

static void test_answer_table(void **state)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {
        {400, "BadDeviceToken"},        {400, "DeviceTokenNotForTopic"},
        {400, "TopicDisallowed"},       {400, "BadTopic"},
        {400, "MissingTopic"},          {400, "BadExpirationDate"},
        {400, "BadMessageId"},          {400, "BadPriority"},
        {400, "BadCollapseId"},         {400, "InvalidPushType"},
        {400, "DuplicateHeaders"},      {400, "MissingDeviceToken"},
        {400, "PayloadEmpty"},          {400, "IdleTimeout"},
        {403, "BadCertificate"},        {403, "BadCertificateEnvironment"},
        {403, "Forbidden"},             {403, "ExpiredProviderToken"},
        {403, "InvalidProviderToken"},  {403, "MissingProviderToken"},
        {403, "UnrelatedKeyIdInToken"}, {403, "BadEnvironmentKeyIdInToken"},
        {404, "BadPath"},               {405, "MethodNotAllowed"},
        {410, "Unregistered"},          {410, "ExpiredToken"},
        {413, "PayloadTooLarge"},       {429, "TooManyRequests"},
        {429, "TooManyProviderTokenUpdates"},
        {500, "InternalServerError"},   {503, "ServiceUnavailable"},
        {503, "Shutdown"},              {599, "SomethingNew"},
    };
    char text[128];
    answer_t answer = {.body = text};
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(rows); i++) {
        (void)snprintf(text, sizeof(text), "{\"reason\":\"%s\"}",
                       rows[i].reason);
        answer.status = rows[i].status;
        check_answer(&answer, SIZE_MAX, rows[i].status, rows[i].reason);
    }
}

/* Bodies nobody agreed on: the status counts all the same. */
static void test_answer_bodies(void **state)
{
    static const struct {
        const char *body;
        const char *reason;
    } rows[] = {
        {"", ""},
        {"no JSON", ""},
        {"{\"reason\":", ""},
        {"[]", ""},
        {"\"BadTopic\"", ""},
        {"{\"reason\":7}", ""},
        {"{\"reason\":null}", ""},
        {"{\"reason\":[\"a\"]}", ""},
        {"{\"reason\":\"a\\nb\\u00e9\"}", "a?b??"},
        {"{\"reason\":\"a\",\"more\":{\"x\":[1,2]}}", "a"},
        {"\xff\xfe{}", ""},
        {"[[[[[[[[[[[[[[[[", ""},
    };
    answer_t answer = {.status = 400};
    char text[200] = "{\"reason\":\"";
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(rows); i++) {
        answer.body = rows[i].body;
        check_answer(&answer, SIZE_MAX, 400, rows[i].reason);
    }
    memset(text + 11, 'x', 100);
    memcpy(text + 111, "\"}", 3);
    answer.body = text;
    text[11 + 63] = 'y';
    check_answer(&answer, SIZE_MAX, 400,
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxx");
    answer.status = 200;
    check_answer(&answer, SIZE_MAX, 200, "");
}

static void check_extras(const answer_t *answer, int64_t timestamp_ms,
                         int64_t retry_after_s, const char *id)
{
    world_t *w = world_new(100);

    w->peer.answer = *answer;
    submit(w, 1);
    pump(w);
    assert_int_equal(last(w)->status, answer->status);
    assert_int_equal(last(w)->timestamp_ms, timestamp_ms);
    assert_int_equal(last(w)->retry_after_s, retry_after_s);
    assert_string_equal(last(w)->id, id);
    world_end(w);
}

static void test_timestamp_and_retry(void **state)
{
    static const char id[] = "00000000-0000-4000-8000-000000000001";
    answer_t a = {.status = 410};

    (void)state;
    a.body = "{\"reason\":\"Unregistered\",\"timestamp\":1767225600123}";
    check_extras(&a, INT64_C(1767225600123), 0, id);
    a.status = 400; /* only a 410 dates a token */
    check_extras(&a, 0, 0, id);
    a.status = 410;
    a.body = "{\"reason\":\"Unregistered\",\"timestamp\":1.5e12}";
    check_extras(&a, INT64_C(1500000000000), 0, id);
    a.body = "{\"timestamp\":-5}";
    check_extras(&a, 0, 0, id);
    a.body = "{\"timestamp\":1e300}";
    check_extras(&a, 0, 0, id);
    a.body = "{\"timestamp\":\"1\"}";
    check_extras(&a, 0, 0, id);
    a = (answer_t){.status = 503, .header = "retry-after", .value = "120"};
    check_extras(&a, 0, 120, id);
    a.value = "99999999999";
    check_extras(&a, 0, 604800, id);
    a.value = "Wed, 21 Oct 2026 07:28:00 GMT";
    check_extras(&a, 0, 0, id);
    a.value = "-1";
    check_extras(&a, 0, 0, id);
    a = (answer_t){.status = 200, .no_id = 1};
    check_extras(&a, 0, 0, "");
    a.header = "apns-id";
    a.value = "00000000-0000-4000-8000-00000000000\xff";
    check_extras(&a, 0, 0, "");
    a.value = "short";
    check_extras(&a, 0, 0, "");
    /* What a 103 says is not part of the answer. */
    a = (answer_t){.status = 200, .informational = 103};
    check_extras(&a, 0, 0, id);
}

static void test_long_body(void **state)
{
    static char big[100000];
    answer_t answer = {.status = 400, .body = big, .body_len = sizeof(big)};
    world_t *w = world_new(100);

    (void)state;
    memset(big, ' ', sizeof(big));
    w->peer.answer = answer;
    pump(w);
    submit(w, 3);
    pump(w);
    assert_int_equal(w->n_out, 3);
    expect(w, MDM_APNS_ANSWERED, 400, "");
    assert_int_equal(w->peer.resets, 3);
    assert_int_equal(w->peer.n_open, 0);
    submit(w, 1);
    w->peer.answer = (answer_t){.status = 200};
    pump(w);
    expect(w, MDM_APNS_ANSWERED, 200, "");
    world_end(w);
}

/* The answer comes before the body could go: window 0. */
static void test_early_answer(void **state)
{
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
    world_t *w = world_new(100);

    (void)state;
    assert_int_equal(nghttp2_submit_settings(w->peer.session, 0, &entry, 1),
                     0);
    pump(w);
    w->peer.at_headers = 1;
    w->peer.answer = (answer_t){.status = 403,
                                .body = "{\"reason\":\"BadCertificate\"}"};
    submit(w, 2);
    pump(w);
    assert_int_equal(w->n_out, 2);
    expect(w, MDM_APNS_ANSWERED, 403, "BadCertificate");
    assert_int_equal(w->peer.resets, 2);
    assert_int_equal(w->peer.n_open, 0);
    assert_int_equal(mdm_apns_room(w->apns), 100);
    world_end(w);
}

/* --- hostile bytes ------------------------------------------------------ */

typedef struct hostile {
    const char *file;
    mdm_rc rc;            /* of the feed */
    mdm_apns_kind_t kind; /* of a push in flight */
    int status;
    const char *text;     /* in the error, or reason of the push */
} hostile_t;

static const hostile_t hostile_cases[] = {
    {"C61-goaway-in-pieces", MDM_OK, MDM_APNS_UNKNOWN, 0, NULL},
    {"C66-data-on-idle-stream", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "idle"},
    {"C66-frame-too-big", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "FRAME_SIZE_ERROR"},
    /* Its field is shorter than the frame; the rest is no header at all. */
    {"C66-header-list-64k", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "COMPRESSION_ERROR"},
    {"C66-hpack-bad-index", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "COMPRESSION_ERROR"},
    {"C66-http1-answer", MDM_EINVAL, MDM_APNS_UNKNOWN, 0, "HTTP/1, not"},
    {"C66-no-status", MDM_OK, MDM_APNS_UNKNOWN, 0, "malformed answer"},
    {"C66-ping-flood", MDM_EINVAL, MDM_APNS_UNKNOWN, 0, "flood"},
    {"C66-push-promise", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "push disabled"},
    {"C66-rst-flood", MDM_EINVAL, MDM_APNS_UNSENT, 0, NULL},
    {"C66-settings-bad-length", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "FRAME_SIZE_ERROR"},
    {"C66-settings-flood", MDM_EINVAL, MDM_APNS_UNKNOWN, 0, "flood"},
    {"C66-trunc-mid-frame", MDM_OK, MDM_APNS_UNKNOWN, 0, NULL},
    {"C66-two-status", MDM_OK, MDM_APNS_UNKNOWN, 0, "malformed answer"},
    {"C66-unknown-frame", MDM_OK, MDM_APNS_ANSWERED, 200, NULL},
    {"C66-window-overflow", MDM_EINVAL, MDM_APNS_UNKNOWN, 0,
     "FLOW_CONTROL_ERROR"},
};

static uint8_t *read_file(const char *name, size_t *len_r)
{
    static uint8_t data[200000];
    char dir[400];
    char path[800];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s.h2bin",
                   case_dir(dir, sizeof(dir)), name);
    f = fopen(path, "rb");
    if (f == NULL) {
        fail_msg("cannot open %s", path);
    }
    *len_r = fread(data, 1, sizeof(data), f);
    assert_true(*len_r > 0 && *len_r < sizeof(data));
    (void)fclose(f);
    return data;
}

static void play_hostile(const hostile_t *c, size_t feed_cap)
{
    world_t *w = world_new(NEVER_SETTINGS);
    size_t len;
    const uint8_t *data = read_file(c->file, &len);

    submit(w, 1);
    drain(w);
    w->feed_cap = feed_cap;
    feed(w, data, len);
    /* What a peer makes us queue is bounded, whatever it sends. */
    assert_true(drain(w) < 16384);
    assert_int_equal(w->feed_rc, c->rc);
    if (c->rc != MDM_OK) {
        assert_int_equal(mdm_apns_feed(w->apns, "x", 1, w->now_us, &w->err),
                         c->rc);
        assert_int_equal(mdm_apns_tick(w->apns, w->now_us, NULL), c->rc);
        assert_int_equal(mdm_apns_room(w->apns), 0);
        if (c->text != NULL && strstr(w->err.text, c->text) == NULL) {
            fail_msg("%s: %s", c->file, w->err.text);
        }
    }
    mdm_apns_free(&w->apns, "closed");
    expect(w, c->kind, c->status, NULL);
    if (c->rc == MDM_OK && c->text != NULL &&
        strstr(last(w)->reason, c->text) == NULL) {
        fail_msg("%s: %s", c->file, last(w)->reason);
    }
    world_end(w);
}

static void test_hostile(void **state)
{
    char dir[400];
    DIR *d = opendir(case_dir(dir, sizeof(dir)));
    struct dirent *entry;
    size_t n = 0;
    size_t i;

    (void)state;
    assert_non_null(d);
    while ((entry = readdir(d)) != NULL) {
        n += strstr(entry->d_name, ".h2bin") != NULL;
    }
    (void)closedir(d);
    assert_int_equal(n, MDM_ARRAY_LEN(hostile_cases));
    for (i = 0; i < MDM_ARRAY_LEN(hostile_cases); i++) {
        play_hostile(&hostile_cases[i], SIZE_MAX);
        play_hostile(&hostile_cases[i], 1);
    }
}

/* Raw frames against one push: what becomes of it. */
static void check_raw(const void *frames, size_t len, mdm_apns_kind_t kind,
                      int status)
{
    static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    world_t *w = world_new(NEVER_SETTINGS);

    submit(w, 1);
    drain(w);
    feed(w, settings, sizeof(settings));
    feed(w, frames, len);
    drain(w);
    assert_int_equal(w->feed_rc, MDM_OK);
    mdm_apns_free(&w->apns, "closed");
    expect(w, kind, status, NULL);
    world_end(w);
}

#define RAW(bytes) "" bytes, sizeof(bytes) - 1

static void test_raw_answers(void **state)
{
    (void)state;
    /* Status 099, 1000, 20x, 101, none in the final headers. */
    check_raw(RAW("\0\0\5\1\5\0\0\0\1\10\003099"), MDM_APNS_UNKNOWN, 0);
    check_raw(RAW("\0\0\6\1\5\0\0\0\1\10\0041000"), MDM_APNS_UNKNOWN, 0);
    check_raw(RAW("\0\0\5\1\5\0\0\0\1\10\00320x"), MDM_APNS_UNKNOWN, 0);
    check_raw(RAW("\0\0\5\1\5\0\0\0\1\10\003101"), MDM_APNS_UNKNOWN, 0);
    /* A 103 that ends the stream. */
    check_raw(RAW("\0\0\5\1\5\0\0\0\1\10\003103"), MDM_APNS_UNKNOWN, 0);
    /* 999 is a status. */
    check_raw(RAW("\0\0\5\1\5\0\0\0\1\10\003999"), MDM_APNS_ANSWERED, 999);
    /* Headers without an end. */
    check_raw(RAW("\0\0\1\1\4\0\0\0\1\x88"), MDM_APNS_UNKNOWN, 0);
}

/* A breach after GOAWAY shows once our own GOAWAY was taken. */
static void test_breach_after_goaway(void **state)
{
    static const uint8_t frames[] =
        "\0\0\0\4\0\0\0\0\0"
        "\0\0\x08\7\0\0\0\0\0\0\0\0\1\0\0\0\0"
        "\0\0\1\0\1\0\0\0\x0bx";
    world_t *w = world_new(NEVER_SETTINGS);

    (void)state;
    submit(w, 1);
    drain(w);
    feed(w, frames, sizeof(frames) - 1);
    assert_true(mdm_apns_going_away(w->apns));
    drain(w);
    assert_int_equal(mdm_apns_tick(w->apns, w->now_us, &w->err), MDM_EINVAL);
    assert_non_null(strstr(w->err.text, "PROTOCOL_ERROR"));
    feed(w, frames, 9);
    assert_int_equal(w->feed_rc, MDM_EINVAL);
    world_end(w);
}

static void test_long_headers(void **state)
{
    static char value[40000];
    answer_t answer = {.status = 200, .header = "x-big", .value = value};

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    check_answer(&answer, SIZE_MAX, 200, "");
    /* Not byte by byte: nghttp2 counts the pieces of a CONTINUATION's head
     * as frames of their own and takes them for a flood. */
    check_answer(&answer, 1000, 200, "");
}

/* Every prefix and every single wrong byte of a good conversation. */
static void test_bent_bytes(void **state)
{
    static const uint8_t seed[] =
        "\0\0\x0c\4\0\0\0\0\0\0\3\0\0\0\x64\0\5\0\0\x40\0"
        "\0\0\0\4\1\0\0\0\0"
        "\0\0\1\1\4\0\0\0\1\x8d"
        "\0\0\x10\0\1\0\0\0\1{\"reason\":\"Abc\"}"
        "\0\0\x0a\7\0\0\0\0\0\0\0\0\1\0\0\0\0xy";
    uint8_t bent[sizeof(seed) - 1];
    world_t *w;
    size_t i;
    unsigned bit;

    (void)state;
    for (i = 0; i < sizeof(bent); i++) {
        for (bit = 0; bit < 9; bit++) {
            memcpy(bent, seed, sizeof(bent));
            if (bit < 8) {
                bent[i] ^= (uint8_t)(1u << bit);
            }
            w = world_new(NEVER_SETTINGS);
            submit(w, 1);
            drain(w);
            feed(w, bent, bit < 8 ? sizeof(bent) : i);
            assert_true(w->feed_rc == MDM_OK || w->feed_rc == MDM_EINVAL);
            assert_true(drain(w) < 16384);
            world_end(w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected_request),
        cmocka_unit_test(test_magic_escaping),
        cmocka_unit_test(test_refused_pushes),
        cmocka_unit_test(test_config_checked),
        cmocka_unit_test(test_answer_cases),
        cmocka_unit_test(test_answer_table),
        cmocka_unit_test(test_answer_bodies),
        cmocka_unit_test(test_timestamp_and_retry),
        cmocka_unit_test(test_long_body),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_raw_answers),
        cmocka_unit_test(test_breach_after_goaway),
        cmocka_unit_test(test_long_headers),
        cmocka_unit_test(test_bent_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
