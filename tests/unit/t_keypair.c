/*
 * t_keypair.c - push certificates with keys that are encrypted: every form of
 * tests/cases, with the right pass phrase, a wrong one and none, each fault
 * with its own words and none of OpenSSL's numbers.
 */
#include "testcms.h"

#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/ui.h>

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
    rc = mdm_keypair_read(&pem, 1, mdm_str_from(phrase), arena, &pair, err);
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

/* What OpenSSL retired opens, too, in a context of the reader's own. */
static void check_case(void *ctx, const char *file, const char *verdict)
{
    mdm_str_t key = read_case(file);
    const char *cert = ctx;

    assert_non_null(verdict);
    expect(cert, key, "secret", false, NULL);
    expect(cert, key, "Secret", true,
           "the private key does not open with this pass phrase");
    expect(cert, key, "", true, "does not open with this pass phrase");
    expect(cert, key, NULL, true,
           "the private key is encrypted, and no pass phrase was given");
    free_case(key);
}

/* A machine without OpenSSL's legacy module: said, with what helps. */
static void test_no_legacy(void **state)
{
    mdm_str_t pem = read_case("pki/push-ok.pem");
    mdm_str_t key = read_case("pki/C54-des-dek-info.key");
    char *cert = strndup(pem.s, pem.n);

    (void)state;
    assert_int_equal(setenv("OPENSSL_MODULES", "/nonexistent", 1), 0);
    expect(cert, key, "secret", false,
           "the private key is encrypted with DES-CBC, for which OpenSSL's "
           "legacy provider is not installed");
    free_case(key);
    key = read_case("pki/C54-pkcs8-pbe-md5-des.key");
    expect(cert, key, "secret", true, "needs OpenSSL's legacy provider");
    assert_int_equal(unsetenv("OPENSSL_MODULES"), 0);
    expect(cert, key, "secret", false, NULL);
    assert_int_equal(OSSL_PROVIDER_available(NULL, "legacy"), 0);
    free(cert);
    free_case(key);
    free_case(pem);
}

/* OpenSSL's way to a terminal. */
static int opened;

static int open_terminal(UI *ui)
{
    (void)ui;
    opened++;
    return 0;
}

/* A certificate can be dressed as something encrypted: nobody is asked. */
static void test_nobody_is_asked(void **state)
{
    static const char dressed[] =
        "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-256-CBC,000102030405060708090A0B0C0D0E0F\n\n"
        "AAAAAAAAAAAAAAAAAAAAAA==\n-----END CERTIFICATE-----\n";
    UI_METHOD *terminal = UI_create_method("test");
    const UI_METHOD *before = UI_get_default_method();

    (void)state;
    assert_int_equal(UI_method_set_opener(terminal, open_terminal), 0);
    UI_set_default_method(terminal);
    expect(dressed, MDM_STR(""), "word", false, "damaged");
    expect(dressed, MDM_STR(""), NULL, false, "damaged");
    UI_set_default_method(before);
    UI_destroy_method(terminal);
    assert_int_equal(opened, 0);
}

static void expect_bytes(mdm_str_t bytes, const char *part)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_keypair_t pair;
    mdm_err_t err;

    assert_int_equal(mdm_keypair_read(&bytes, 1, MDM_STR("word"), arena, &pair,
                                      &err),
                     MDM_EINVAL);
    if (strstr(err.text, part) == NULL) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ERR_peek_error(), 0);
    mdm_arena_free(&arena);
}

/* Pass phrases stretched by so many rounds that opening takes minutes, in
 * the places where it can be seen: in PKCS#8 the number is put in after the
 * key was encrypted, so that the test does not take them itself. */
static void test_many_rounds(void **state)
{
    testcert_t c = testcert_push("com.apple.mgmt.External.1");
    X509_ALGOR *slow = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), 2000000000, NULL,
                                         0, NULL, -1);
    ASN1_OCTET_STRING *text;
    X509_SIG *sealed = X509_SIG_new();
    BIO *bio = BIO_new(BIO_s_mem());
    unsigned char *der = NULL;
    X509_ALGOR *algorithm;
    PKCS12 *p12;
    char *pem;
    int n;

    (void)state;
    X509_SIG_getm(sealed, &algorithm, &text);
    assert_int_equal(X509_ALGOR_copy(algorithm, slow), 1);
    assert_int_equal(ASN1_OCTET_STRING_set(text, (const unsigned char *)
                                                     "0123456789abcdef", 16),
                     1);
    n = i2d_X509_SIG(sealed, &der);
    expect_bytes((mdm_str_t){(char *)der, (size_t)n}, "too long");
    OPENSSL_free(der);
    assert_int_equal(PEM_write_bio_PKCS8(bio, sealed), 1);
    pem = testcert_text(bio);
    expect_bytes(mdm_str_from(pem), "too long");
    free(pem);
    p12 = PKCS12_create("word", "x", c.key, c.cert, NULL, 0, 0, 1, -1, 0);
    assert_int_equal(PKCS12_set_mac(p12, "word", 4, NULL, 8, 2000001,
                                    EVP_sha256()),
                     1);
    der = NULL;
    n = i2d_PKCS12(p12, &der);
    expect_bytes((mdm_str_t){(char *)der, (size_t)n}, "too long");
    OPENSSL_free(der);
    PKCS12_free(p12);
    X509_SIG_free(sealed);
    X509_ALGOR_free(slow);
    testcert_free(&c);
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

/* Every dress of tests/cases, as one part or with a key beside it: what opens
 * gives the right certificate and key, everything else its own words. */
static void test_forms(void **state)
{
    static const struct {
        const char *file;
        const char *key;    /* NULL: the file holds both, or nothing */
        const char *phrase; /* NULL: none is given */
        const char *part;   /* NULL: it is taken */
    } forms[] = {
        {"push-ok.pem", "push-ok.key", NULL, NULL},
        {"C49-renewed-same-topic.pem", "push-ok.key", NULL, NULL},
        {"C49-renewed-new-key.pem", "C49-renewed-new-key.key", NULL, NULL},
        {"push-ok.pem", "C52-key-mismatch.key", NULL, "do not belong"},
        {"C52-cert-without-key.pem", NULL, NULL, "no private key"},
        {"C52-csr-instead-of-cert.pem", "push-ok.key", NULL,
         "signing request"},
        {"push-ok.pem", "C52-public-key-only.pem", NULL,
         "only a public key"},
        {"C53-ec-push.pem", "C53-ec-pkcs8.key", NULL, "not an RSA key"},
        {"C53-ec-push.pem", "C53-ec-sec1.key", NULL, "not an RSA key"},
        {"push-ok.pem", "C53-rsa-pkcs1.key", NULL, NULL},
        {"push-ok.pem", "C53-rsa-pkcs8.key", NULL, NULL},
        {"push-ok.pem", "C53-rsa-pkcs8.der", NULL, NULL},
        {"C56-der.cer", "C53-rsa-pkcs8.der", NULL, NULL},
        {"C55-3des.p12", NULL, "secret", NULL},
        {"C55-modern-aes256.p12", NULL, "secret", NULL},
        {"C55-rc2-40-keychain.p12", NULL, "secret", NULL},
        {"C55-extra-certs.p12", NULL, "secret", NULL},
        {"C55-modern-aes256.p12", NULL, "Secret",
         "the PKCS #12 file does not open"},
        {"C55-modern-aes256.p12", NULL, NULL,
         "the PKCS #12 file is encrypted"},
        {"C55-no-key.p12", NULL, "secret", "holds no private key"},
        {"C55-no-mac.p12", NULL, "secret", "no checksum"},
        {"C55-truncated.p12", NULL, "secret", "cut off"},
        {"C56-crlf.pem", NULL, NULL, NULL},
        {"C56-utf8-bom.pem", NULL, NULL, NULL},
        {"C56-key-first.pem", NULL, NULL, NULL},
        {"C56-no-final-newline.pem", NULL, NULL, NULL},
        {"C56-leading-blank-lines.pem", NULL, NULL, NULL},
        {"C56-trailing-spaces.pem", NULL, NULL, NULL},
        {"C56-one-line-base64.pem", NULL, NULL, NULL},
        {"C56-trusted-cert.pem", NULL, NULL, NULL},
        {"C56-bare-cr.pem", NULL, NULL, "line ends of old Macs"},
        {"C56-utf16.pem", NULL, NULL, "UTF-16"},
        {"C56-two-keys.pem", NULL, NULL, "more than one private key"},
        {"C56-base64-only.txt", NULL, NULL, "BEGIN and END lines"},
    };
    mdm_arena_t *arena = mdm_arena_new(true);
    char path[80];
    size_t i;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(forms); i++) {
        mdm_str_t parts[2] = {MDM_STR_NONE, MDM_STR_NONE};
        mdm_keypair_t pair;
        mdm_err_t err;
        mdm_rc rc;

        (void)snprintf(path, sizeof(path), "pki/%s", forms[i].file);
        parts[0] = read_case(path);
        if (forms[i].key != NULL) {
            (void)snprintf(path, sizeof(path), "pki/%s", forms[i].key);
            parts[1] = read_case(path);
        }
        mdm_err_clear(&err);
        rc = mdm_keypair_read(parts, forms[i].key != NULL ? 2 : 1,
                              mdm_str_from(forms[i].phrase), arena, &pair,
                              &err);
        assert_int_equal(ERR_peek_error(), 0);
        if (forms[i].part == NULL
                ? rc != MDM_OK
                : rc != MDM_EINVAL ||
                      strstr(err.text, forms[i].part) == NULL) {
            fail_msg("%s: %d, \"%s\"", forms[i].file, rc, err.text);
        }
        free_case(parts[0]);
        if (forms[i].key != NULL) {
            free_case(parts[1]);
        }
    }
    mdm_arena_free(&arena);
}

/* Cut off at every byte, and with bits turned: never taken for the pair that
 * it was unless nothing that counts was hit, never a fault of ours. */
static void test_mutations(void **state)
{
    static const char *const files[] = {
        "pki/C55-modern-aes256.p12", "pki/C53-rsa-pkcs8.der",
        "pki/C56-der.cer", "pki/C56-crlf.pem", "pki/C54-des3-dek-info.key"};
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_keypair_t pair;
    mdm_err_t err;
    mdm_rc rc;
    size_t f;
    size_t i;

    (void)state;
    for (f = 0; f < MDM_ARRAY_LEN(files); f++) {
        mdm_str_t whole = read_case(files[f]);
        char *copy = malloc(whole.n);
        size_t step = strstr(files[f], "p12") != NULL ? 40 : 7;

        assert_non_null(copy);
        for (i = 0; i < whole.n; i += step) {
            mdm_str_t part = {copy, i};
            memcpy(copy, whole.s, whole.n);
            rc = mdm_keypair_read(&part, 1, MDM_STR("secret"), arena, &pair,
                                  &err);
            assert_true(rc == MDM_OK || rc == MDM_EINVAL);
            part.n = whole.n;
            copy[i] = (char)(copy[i] ^ (1 << (i % 8)));
            rc = mdm_keypair_read(&part, 1, MDM_STR("secret"), arena, &pair,
                                  &err);
            assert_true(rc == MDM_OK || rc == MDM_EINVAL);
            assert_int_equal(ERR_peek_error(), 0);
        }
        free(copy);
        free_case(whole);
    }
    mdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_no_legacy),
        cmocka_unit_test(test_nobody_is_asked),
        cmocka_unit_test(test_many_rounds),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_many_wrong),
        cmocka_unit_test(test_plain_and_damaged),
    };

    return cmocka_run_group_tests_name("keypair", tests, NULL, NULL);
}
