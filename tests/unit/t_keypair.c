/*
 * t_keypair.c - push certificates with keys that are encrypted: every form of
 * tests/cases, with the right pass phrase, a wrong one and none, each fault
 * with its own words and none of OpenSSL's numbers.
 */
#include "testcms.h"

#include <openssl/err.h>

#include "mdm_mem.h"
#include "mdm_str.h"
#include "mdm_x509.h"

/* Reads certificate and key with a pass phrase, NULL: none. */
static mdm_rc read_pair(const char *cert, mdm_str_t key, const char *phrase,
                        bool *locked_r, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_keypair_t pair;
    mdm_str_t pem;
    mdm_rc rc;

    mdm_err_clear(err);
    pem.s = mdm_arena_printf(arena, "%s\n%.*s", cert, MDM_STR_ARG(key));
    assert_non_null(pem.s);
    pem.n = strlen(pem.s);
    /* An older error of the host's must not be taken for ours. */
    ERR_raise(ERR_LIB_PEM, PEM_R_NO_START_LINE);
    rc = mdm_keypair_read(pem, mdm_str_from(phrase), arena, &pair, err);
    assert_int_equal(ERR_peek_error(), 0);
    assert_null(strstr(err->text, "error:"));
    *locked_r = pair.locked;
    if (rc == MDM_OK) {
        assert_non_null(strstr(pair.key_pem.s, "BEGIN PRIVATE KEY"));
        assert_int_equal(strlen(pair.fingerprint), 2 * MDM_SHA256_LEN);
        assert_false(pair.locked);
    }
    mdm_arena_free(&arena);
    return rc;
}

static void expect(const char *cert, mdm_str_t key, const char *phrase,
                   bool locked, const char *part)
{
    mdm_err_t err;
    bool is_locked;
    mdm_rc rc = read_pair(cert, key, phrase, &is_locked, &err);

    if (part == NULL && rc != MDM_OK) {
        fail_msg("%s: %s", phrase, err.text);
    }
    if (part != NULL &&
        (rc != MDM_EINVAL || strstr(err.text, part) == NULL)) {
        fail_msg("%s: %d, \"%s\"", phrase, rc, err.text);
    }
    assert_int_equal(is_locked, locked);
}

static bool has_single_des(void)
{
    EVP_CIPHER *des = EVP_CIPHER_fetch(NULL, "DES-CBC", NULL);

    EVP_CIPHER_free(des);
    ERR_clear_error();
    return des != NULL; /* a legacy provider is at work on this machine */
}

static void check_case(void *ctx, const char *file, const char *verdict)
{
    bool opens = strcmp(verdict, "accept-with-passphrase") == 0;
    mdm_str_t key = read_case(file);
    const char *cert = ctx;

    assert_true(opens || strcmp(verdict, "clear-error-without-legacy") == 0);
    if (opens || has_single_des()) {
        expect(cert, key, "secret", false, NULL);
        expect(cert, key, "Secret", true,
               "the private key does not open with this pass phrase");
        expect(cert, key, "", true, "does not open with this pass phrase");
        expect(cert, key, NULL, true,
               "the private key is encrypted, and no pass phrase was given");
    } else {
        expect(cert, key, "secret", false,
               "the private key is encrypted with DES-CBC, which OpenSSL "
               "offers no more; encrypt it anew: openssl pkey -provider "
               "legacy -provider default -aes256 -in OLD -out NEW");
        expect(cert, key, NULL, false, "encrypted with DES-CBC");
    }
    free_case(key);
}

static void test_cases(void **state)
{
    mdm_str_t pem = read_case("pki/push-ok.pem");
    char *cert = strndup(pem.s, pem.n);

    (void)state;
    assert_int_equal(testcms_cases("pki/C54-", check_case, cert), 5);
    free(cert);
    free_case(pem);
}

/* A wrong pass phrase gives padding that looks good for one in 256: still no
 * other words than those of a wrong pass phrase. */
static void test_many_wrong(void **state)
{
    static const char *const files[] = {"pki/C54-des3-dek-info.key",
                                        "pki/C54-pkcs8-pbes1-3des.key"};
    mdm_str_t pem = read_case("pki/push-ok.pem");
    char *cert = strndup(pem.s, pem.n);
    mdm_str_t key;
    char phrase[20];
    size_t f;
    int i;

    (void)state;
    for (f = 0; f < MDM_ARRAY_LEN(files); f++) {
        key = read_case(files[f]);
        for (i = 0; i < 600; i++) {
            (void)snprintf(phrase, sizeof(phrase), "wrong %d", i);
            expect(cert, key, phrase, true, "does not open with this pass");
        }
        free_case(key);
    }
    free(cert);
    free_case(pem);
}

/* Not encrypted: a pass phrase does no harm.  Damaged: said so. */
static void test_plain_and_damaged(void **state)
{
    testcert_t push = testcert_push("com.apple.mgmt.External.1");
    char *cert = testcert_pem(&push);
    char *key = testcert_key(&push, NULL);
    char *sealed = testcert_key(&push, "word");

    (void)state;
    expect(cert, mdm_str_from(key), NULL, false, NULL);
    expect(cert, mdm_str_from(key), "word", false, NULL);
    expect(cert, mdm_str_from(sealed), "word", false, NULL);
    expect(cert, MDM_STR_NONE, "word", false, "no private key");
    memcpy(key + 40, "AAAA", 4);
    expect(cert, mdm_str_from(key), NULL, false, "the private key is damaged");
    memcpy(sealed + 40, "AAAA", 4);
    expect(cert, mdm_str_from(sealed), "word", false,
           "the private key is damaged");
    expect(cert, mdm_str_from(sealed), NULL, false,
           "the private key is damaged");
    free(cert);
    free(key);
    free(sealed);
    testcert_free(&push);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_many_wrong),
        cmocka_unit_test(test_plain_and_damaged),
    };

    return cmocka_run_group_tests_name("keypair", tests, NULL, NULL);
}
