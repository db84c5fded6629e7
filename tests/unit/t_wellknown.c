/*
 * t_wellknown.c - service discovery, and the small things that the ways into
 * management share: error documents, URLs of this site, headers that the core
 * asks for, Bearer tokens.  No server, no store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "mdm_auth.h"
#include "mdm_http.h"
#include "mdm_str.h"
#include "mdm_wellknown.h"

#define PATH "/.well-known/com.apple.remotemanagement"

typedef struct world {
    mdm_config_t *location;
    mdm_response_t res;
    mdm_err_t err;
} world_t;

static void line(world_t *w, mdm_directive_id_t id, int argc,
                 const char *const *argv)
{
    assert_int_equal(mdm_config_set(w->location, id, argc, argv, &w->err),
                     MDM_OK);
}

static int setup(void **state)
{
    static const char *const mac[] = {"mdm-adde", "/adde", "Mac"};
    static const char *const phones[] = {"mdm-byod", "https://h.example/b",
                                         "iPhone", "iPad"};
    static world_t world;
    world_t *w = &world;

    memset(w, 0, sizeof(*w));
    w->location = mdm_config_new(MDM_SCOPE_LOCATION, PATH, NULL);
    assert_non_null(w->location);
    line(w, MDM_DIRECTIVE_SERVICE_DISCOVERY, 3, mac);
    line(w, MDM_DIRECTIVE_SERVICE_DISCOVERY, 4, phones);
    w->res.arena = mdm_arena_new(true);
    assert_non_null(w->res.arena);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    mdm_response_clear(&w->res);
    mdm_config_free(&w->location);
    return 0;
}

static mdm_rc get(world_t *w, const char *target)
{
    mdm_request_t request = {.location = w->location,
                             .method = MDM_STR("GET"),
                             .target = mdm_str_from(target),
                             .host = MDM_STR("mdm.example.com"),
                             .body_fd = -1};

    w->res.status = 0;
    w->res.nheaders = 0;
    return mdm_wellknown_handle(&request, &w->res, &w->err);
}

static void check(world_t *w, int status, const char *body)
{
    assert_int_equal(w->res.status, status);
    assert_string_equal(w->res.content_type, "application/json");
    assert_int_equal(w->res.body.n, strlen(body));
    assert_memory_equal(w->res.body.s, body, w->res.body.n);
}

static void test_discovery(void **state)
{
    world_t *w = *state;
    mdm_request_t head = {.location = w->location,
                          .method = MDM_STR("HEAD"),
                          .target = MDM_STR(PATH)};

    assert_int_equal(get(w, PATH "?user-identifier=a%40b&model-family=Mac"),
                     MDM_OK);
    check(w, 200, "{\"Servers\":[{\"Version\":\"mdm-adde\",\"BaseURL\":"
                  "\"https://mdm.example.com/adde\"}]}");
    assert_int_equal(get(w, PATH "?model-family=iPad"), MDM_OK);
    check(w, 200, "{\"Servers\":[{\"Version\":\"mdm-byod\",\"BaseURL\":"
                  "\"https://h.example/b\"}]}");
    assert_int_equal(get(w, PATH), MDM_OK);
    assert_int_equal(w->res.status, 403);
    assert_non_null(memmem(w->res.body.s, w->res.body.n,
                           "\"com.apple.well-known.failed\"", 29));
    assert_int_equal(get(w, PATH "?model-family=%"), MDM_EINVAL);
    assert_int_equal(mdm_wellknown_handle(&head, &w->res, &w->err),
                     MDM_EMETHOD);
    assert_string_equal(w->res.headers[0].value, "GET");
}

static void test_documents(void **state)
{
    world_t *w = *state;
    mdm_http_document_t plain = {.code = "c", .description = "d"};
    mdm_http_document_t full = {
        .code = "c",
        .description = "d",
        .message = "m",
        .details = {{"OSVersion", MDM_STR("26.1 (a)")}}};

    assert_int_equal(mdm_http_document(&w->res, &plain, &w->err), MDM_OK);
    check(w, 403, "{\"code\":\"c\",\"description\":\"d\"}");
    assert_int_equal(mdm_http_document(&w->res, &full, &w->err), MDM_OK);
    check(w, 403, "{\"code\":\"c\",\"description\":\"d\",\"message\":\"m\","
                  "\"details\":{\"OSVersion\":\"26.1 (a)\"}}");
}

static void test_headers(void **state)
{
    static const char *const proof[] = {"header=Client-Cert"};
    world_t *w = *state;
    mdm_request_t request = {.location = w->location};
    mdm_str_t *place;
    const char *name = NULL;
    size_t n;

    for (n = 0; (place = mdm_request_header(&request, n, &name)) != NULL;
         n++) {
        assert_string_not_equal(name, "Client-Cert");
        *place = mdm_str_from(name);
    }
    assert_true(mdm_str_is(request.authorization, "Authorization"));
    assert_true(mdm_str_is(request.device_info, "x-apple-aspen-deviceinfo"));
    assert_null(request.identity_header.s);
    line(w, MDM_DIRECTIVE_DEVICE_IDENTITY, 1, proof);
    assert_ptr_equal(mdm_request_header(&request, n, &name),
                     &request.identity_header);
    assert_string_equal(name, "Client-Cert");
    assert_null(mdm_request_header(&request, n + 1, &name));
}

static void test_bearer(void **state)
{
    char big[9000] = "Bearer ";

    (void)state;
    assert_true(mdm_str_is(mdm_auth_bearer(MDM_STR("Bearer abc")), "abc"));
    assert_true(mdm_str_is(mdm_auth_bearer(MDM_STR(" bearer  a ")), "a"));
    assert_int_equal(mdm_auth_bearer(MDM_STR("Bearer")).n, 0);
    assert_null(mdm_auth_bearer(MDM_STR("Basic abc")).s);
    assert_null(mdm_auth_bearer(MDM_STR("Bearerabc")).s);
    assert_null(mdm_auth_bearer(MDM_STR_NONE).s);
    memset(big + 7, 'a', sizeof(big) - 8);
    assert_null(mdm_auth_bearer(mdm_str_from(big)).s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_discovery), TEST(test_documents), TEST(test_headers),
        TEST(test_bearer)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
