/*
 * t_config_services.c - directives about what devices ask of others through
 * us: declarative management, tokens, return to service.  Their simple values
 * are with all others in t_config.c.
 */
#include "t_config_world.h"

#include "mdm_str.h"

static void test_hmac_key(void **state)
{
    const mdm_directive_id_t id = MDM_DIRECTIVE_DECLARATIVE_MANAGEMENT;
    static const struct {
        const char *text;
        const char *key; /* NULL: refused */
    } cases[] = {
        {"0123456789abcdef", "0123456789abcdef"},
        {"0123456789abcdef\n", "0123456789abcdef"},
        {"0123456789abcdef \r\nmore\n", "0123456789abcdef "},
        {"0123456789abcdef\n\n", "0123456789abcdef"},
        {"0123456789abcde\n", NULL},
        {"\n0123456789abcdef\n", NULL},
        {"", NULL},
    };
    world_t *w = *state;
    mdm_config_t *c;
    char text[200];
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        testcert_write(w->dir, "hmac", NULL, cases[i].text);
        c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
        assert_null(c->dm_url);
        if (cases[i].key != NULL) {
            assert_int_equal(set(w, c, id, "http://h/dm hmac=hmac"), MDM_OK);
            assert_string_equal(c->dm_url, "http://h/dm");
            assert_true(mdm_str_is(c->dm_hmac_key, cases[i].key));
        } else {
            assert_int_equal(set(w, c, id, "http://h/dm hmac=hmac"),
                             MDM_ECONFIG);
            assert_non_null(strstr(w->err.text, "16 bytes"));
        }
        mdm_config_free(&c);
    }
    c = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    assert_true(mdm_config_show(c, id, text, sizeof(text)));
    assert_string_equal(text, "off");
    assert_int_equal(set(w, c, id, "builtin"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "not part of this version"));
    assert_int_equal(set(w, c, id, "http://h/dm"), MDM_OK);
    assert_null(c->dm_hmac_key.s);
    assert_true(mdm_config_show(c, id, text, sizeof(text)));
    assert_string_equal(text, "http://h/dm");
    mdm_config_free(&c);
}

#define SERVER_UUID "677cab70-fe18-11e2-b778-0800200C9A66"

static void test_token_signer(void **state)
{
    static const char *const bad_uuids[] = {
        "677cab70fe1811e2b7780800200c9a66",
        "677cab70-fe18-11e2-b778-0800200c9a6",
        "677cab70-fe18-11e2-b778-0800200c9a666",
        "677cab70-fe18-11e2-b7780-800200c9a66",
        "677cab70-fe18-11e2-b778-0800200c9a6g",
        "{77cab70-fe18-11e2-b778-0800200c9a6}"};
    const mdm_directive_id_t id = MDM_DIRECTIVE_TOKEN_SIGNER;
    world_t *w = *state;
    testcert_t rsa = {NULL, EVP_RSA_gen(2048)};
    testcert_t small = {NULL, EVP_RSA_gen(1024)};
    testcert_t ec = {NULL, EVP_EC_gen("P-256")};
    mdm_config_t *outer = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *inner = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    mdm_config_t *merged = calloc(1, mdm_config_size());
    char args[200];
    size_t i;

    testcert_write(w->dir, "rsa", testcert_key(&rsa, NULL), NULL);
    testcert_write(w->dir, "small", testcert_key(&small, NULL), NULL);
    testcert_write(w->dir, "ec", testcert_key(&ec, NULL), NULL);
    testcert_write(w->dir, "sealed", testcert_key(&rsa, "word"), NULL);
    for (i = 0; i < MDM_ARRAY_LEN(bad_uuids); i++) {
        (void)snprintf(args, sizeof(args), "rsa %s", bad_uuids[i]);
        assert_int_equal(try_one(w, id, args), MDM_ECONFIG);
        assert_non_null(strstr(w->err.text, "UUID"));
    }
    assert_int_equal(try_one(w, id, "small " SERVER_UUID), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "small"));
    assert_int_equal(try_one(w, id, "ec " SERVER_UUID), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "sealed " SERVER_UUID), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "rsa " SERVER_UUID " x"), MDM_ECONFIG);

    /* Inherited as a pair; the outer node stays the owner. */
    assert_null(outer->token_key);
    assert_int_equal(set(w, outer, id, "rsa " SERVER_UUID), MDM_OK);
    mdm_config_merge(merged, outer, inner);
    assert_non_null(merged->token_key);
    assert_ptr_equal(merged->token_key, outer->token_key);
    assert_null(merged->owned_token_key);
    assert_string_equal(merged->token_issuer, SERVER_UUID);
    assert_int_equal(set(w, inner, id, "rsa 00000000-0000-0000-0000-"
                                       "000000000001"),
                     MDM_OK);
    mdm_config_merge(inner, outer, inner);
    assert_ptr_not_equal(inner->token_key, outer->token_key);
    assert_string_equal(inner->token_issuer,
                        "00000000-0000-0000-0000-000000000001");
    free(merged);
    mdm_config_free(&outer);
    mdm_config_free(&inner);
    testcert_free(&rsa);
    testcert_free(&small);
    testcert_free(&ec);
}

static void write_bytes(world_t *w, const char *name, const void *data,
                        size_t n)
{
    char path[64];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_return_to_service(void **state)
{
    static const char *const good[] = {
        "<?xml version=\"1.0\"?>\n<!DOCTYPE plist>\n<plist></plist>",
        "\xef\xbb\xbf \r\n\t<plist version=\"1.0\"></plist>",
        "<!DOCTYPE plist><plist/>",
        "\x30\x2a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0",
        "\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0",
        ("\x30\x83\x01\x02\x03\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"
         "\x02\xa0")};
    static const char *const bad[] = {
        "", "hello", "bplist00", "<?xml version=\"1.0\"?><html/>",
        "<html><plist></html>", "\x30\x2a",
        "\x30\x2a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0",
        "\x30\xff\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0",
        "-----BEGIN PKCS7-----\n"};
    const mdm_directive_id_t id = MDM_DIRECTIVE_RETURN_TO_SERVICE;
    world_t *w = *state;
    mdm_config_t *outer = mdm_config_new(MDM_SCOPE_LOCATION, "/", w->dir);
    mdm_config_t *inner = mdm_config_new(MDM_SCOPE_LOCATION, "/x", w->dir);
    mdm_config_t *merged = calloc(1, mdm_config_size());
    size_t large = 1024 * 1024;
    char *text = calloc(1, large + 2);
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(good); i++) {
        write_bytes(w, "p", good[i], strlen(good[i]));
        assert_int_equal(try_one(w, id, "on wifi-profile=p mdm-profile=p"),
                         MDM_OK);
    }
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        write_bytes(w, "p", bad[i], strlen(bad[i]));
        if (try_one(w, id, "on wifi-profile=p") != MDM_ECONFIG) {
            fail_msg("profile %zu was taken", i);
        }
        assert_non_null(strstr(w->err.text, "is no profile"));
        assert_int_equal(try_one(w, id, "on mdm-profile=p"), MDM_ECONFIG);
    }
    assert_non_null(text);
    memset(text, ' ', large + 1);
    memcpy(text, good[0], strlen(good[0]));
    write_bytes(w, "p", text, large);
    write_bytes(w, "q", text, large + 1);
    assert_int_equal(try_one(w, id, "on wifi-profile=p"), MDM_OK);
    assert_int_equal(try_one(w, id, "on wifi-profile=q"), MDM_ECONFIG);
    assert_int_equal(try_one(w, id, "on wifi-profile=p wifi-profile=p"),
                     MDM_ECONFIG);

    assert_null(outer->return_to_service);
    assert_int_equal(set(w, outer, id, "on mdm-profile=p retry-enrollment"),
                     MDM_OK);
    mdm_config_merge(merged, outer, inner);
    assert_ptr_equal(merged->return_to_service, outer->return_to_service);
    assert_int_equal(merged->return_to_service->mdm_profile.n, large);
    assert_null(merged->return_to_service->wifi_profile.s);
    assert_true(merged->return_to_service->retry_enrollment);
    assert_false(merged->return_to_service->preserve_data_plan);
    assert_int_equal(set(w, inner, id, "off"), MDM_OK);
    mdm_config_merge(merged, outer, inner);
    assert_null(merged->return_to_service);
    free(text);
    free(merged);
    mdm_config_free(&outer);
    mdm_config_free(&inner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hmac_key),
        TEST(test_token_signer),
        TEST(test_return_to_service),
    };

    return cmocka_run_group_tests_name("config_services", tests, NULL, NULL);
}
