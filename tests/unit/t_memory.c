/*
 * t_memory.c - what is made of a signature while memory runs out inside
 * OpenSSL: one allocation fails.  Nothing bad is taken for good and the error
 * queue is left empty; where OpenSSL tells it is our own trouble, not a
 * fault of the device's.
 */
#include "testcms.h"

#include "mdm_auth.h"

/* Allocations left until one fails; below zero: none does. */
static long left = -1;

static bool is_out(void)
{
    return left >= 0 && left-- == 0;
}

static void *get(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_out() ? NULL : malloc(n);
}

static void *get_more(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_out() ? NULL : realloc(p, n);
}

static void give(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

typedef struct world {
    testcert_t ca;
    testcert_t device;
    testcert_t stranger;
    char *pem;
    mdm_config_t *server;
    mdm_config_t *location;
} world_t;

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->ca = testcert_ca("device ca");
    w->device = testcert_device("device", &w->ca);
    w->stranger = testcert_device("device", NULL);
    w->pem = testcert_pem(&w->ca);
    w->server = mdm_config_new(MDM_SCOPE_SERVER, NULL, "/");
    w->location = mdm_config_new(MDM_SCOPE_LOCATION, "/mdm", "/");
    assert_true(w->server != NULL && w->location != NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    mdm_config_free(&w->server);
    mdm_config_free(&w->location);
    testcert_free(&w->ca);
    testcert_free(&w->device);
    testcert_free(&w->stranger);
    free(w->pem);
    free(w);
    return 0;
}

/* With an empty cache, so that the whole way is gone. */
static mdm_rc ask(world_t *w, mdm_str_t signature, const char *body, long at)
{
    mdm_request_t r = {.server = w->server,
                       .location = w->location,
                       .signature = signature,
                       .body_fd = -1};
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_speaker_t speaker;
    mdm_err_t err;
    mdm_rc rc;

    assert_non_null(arena);
    assert_int_equal(mdm_trust_new(mdm_str_from(w->pem),
                                   &w->server->owned_trust, &err), MDM_OK);
    w->server->device_trust = w->server->owned_trust;
    left = at;
    rc = mdm_auth_device(&(mdm_proof_t){&r, mdm_str_from(body), NULL},
                         &speaker, arena, &err);
    assert_int_equal(ERR_peek_error(), 0);
    mdm_trust_free(&w->server->owned_trust);
    mdm_arena_free(&arena);
    return rc;
}

/* Asks until no allocation fails any more, but not for each: there are
 * thousands. */
static void ask_all(world_t *w, const testcert_t *signer, const char *body,
                    mdm_rc verdict)
{
    mdm_str_t signature =
        testcms_header(testcms_sign(signer, MDM_STR("body"), "sha256"));
    mdm_rc rc;
    long at;

    assert_int_equal(ask(w, signature, body, -1), verdict);
    for (at = 0; at == 0 || left < 0; at += at < 20 ? 1 : 5) {
        rc = ask(w, signature, body, at);
        if (at < 20) { /* the message is being read */
            assert_int_equal(rc, MDM_ENOMEM);
        } else if (rc != MDM_ENOMEM && rc != MDM_EINTERNAL &&
                   rc != MDM_EIDENTITY && rc != MDM_EDENIED) {
            assert_int_equal(rc, verdict);
        }
    }
    left = -1;
    testcms_free(signature);
}

static void test_good(void **state)
{
    ask_all(*state, &((world_t *)*state)->device, "body", MDM_OK);
}

static void test_bad(void **state)
{
    ask_all(*state, &((world_t *)*state)->device, "another body",
            MDM_EIDENTITY);
    ask_all(*state, &((world_t *)*state)->stranger, "body", MDM_EDENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
    };

    /* Possible before anything else was allocated alone. */
    if (CRYPTO_set_mem_functions(get, get_more, give) != 1) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
