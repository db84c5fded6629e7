/*
 * t_cms.c - detached signatures: every file of tests/cases, messages made
 * with OpenSSL while the test runs, and such as nobody should believe.
 */
#include "testcms.h"

#include "mdm_cms.h"

typedef struct world {
    testcert_t ca;
    testcert_t ec;
    testcert_t rsa;
    testcert_t other;
    mdm_arena_t *arena;
    mdm_err_t err;
    mdm_shown_t shown;
} world_t;

static const mdm_str_t body = {"<plist>\n<dict/>\r\n</plist>", 25};

static testcert_t make_device(const testcert_t *ca, int rsa,
                              const char *key_usage)
{
    return testcert_make((testcert_want_t){.name = "device",
                                           .issuer = ca,
                                           .rsa = rsa,
                                           .key_usage = key_usage,
                                           .from_day = -1,
                                           .to_day = 300});
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->arena = mdm_arena_new(false);
    assert_non_null(w->arena);
    w->ca = testcert_ca("device ca");
    w->ec = make_device(&w->ca, 0, "digitalSignature");
    w->rsa = make_device(&w->ca, 1, NULL);
    w->other = make_device(&w->ca, 0, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    testcert_free(&w->ca);
    testcert_free(&w->ec);
    testcert_free(&w->rsa);
    testcert_free(&w->other);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

/* Opens and verifies; the result that ends it. */
static mdm_rc check(world_t *w, mdm_str_t data, mdm_str_t content)
{
    mdm_cms_t *cms = NULL;
    mdm_rc rc;

    mdm_err_clear(&w->err);
    rc = mdm_cms_open(data, w->arena, &cms, &w->shown, &w->err);
    assert_int_equal(rc == MDM_OK, cms != NULL);
    assert_int_equal(ERR_peek_error(), 0);
    if (rc == MDM_OK) {
        rc = mdm_cms_verify(cms, content, &w->err);
        assert_int_equal(ERR_peek_error(), 0);
    }
    mdm_cms_close(&cms);
    assert_null(cms);
    assert_int_equal(rc == MDM_OK, w->err.text[0] == '\0');
    return rc;
}

static void accepted(world_t *w, mdm_str_t owned, mdm_str_t content)
{
    if (check(w, owned, content) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    testcms_free(owned);
}

static void refused(world_t *w, mdm_str_t owned, const char *why)
{
    mdm_rc rc = check(w, owned, body);

    if (rc != MDM_EINVAL || strstr(w->err.text, why) == NULL) {
        fail_msg("rc %d, \"%s\" has no \"%s\"", rc, w->err.text, why);
    }
    testcms_free(owned);
}

static void is_cert(mdm_str_t der, const testcert_t *c)
{
    size_t n = 0;
    unsigned char *expected = testcert_der(c, &n);

    assert_int_equal(der.n, n);
    assert_memory_equal(der.s, expected, n);
    OPENSSL_free(expected);
}

/* ---- good ones ----------------------------------------------------------- */

static void test_algorithms(void **state)
{
    static const char *const digests[] = {"SHA1", "SHA256", "SHA384",
                                          "SHA512"};
    static const unsigned forms[] = {0, CMS_NOATTR};
    world_t *w = *state;
    const testcert_t *signers[2] = {&w->ec, &w->rsa};
    mdm_str_t der;
    size_t i;
    size_t j;
    size_t k;

    for (i = 0; i < MDM_ARRAY_LEN(digests); i++) {
        for (j = 0; j < MDM_ARRAY_LEN(forms); j++) {
            for (k = 0; k < 2; k++) {
                der = testcms_der(testcms_make(signers[k], body, digests[i],
                                               forms[j], NULL));
                assert_int_equal(check(w, der, MDM_STR("<plist/>")),
                                 MDM_EINVAL);
                assert_int_equal(check(w, der, MDM_STR("")), MDM_EINVAL);
                accepted(w, testcms_ber(der, 1), body);
                accepted(w, der, body);
                is_cert(w->shown.cert, signers[k]);
                assert_int_equal(w->shown.nhelpers, 0);
            }
        }
    }
}

static void test_bodies(void **state)
{
    world_t *w = *state;
    size_t n = 1 << 20;
    char *big = malloc(n);
    mdm_str_t der;

    assert_non_null(big);
    memset(big, 'x', n);
    der = testcms_sign(&w->ec, (mdm_str_t){big, n}, "SHA256");
    assert_int_equal(check(w, der, (mdm_str_t){big, n}), MDM_OK);
    assert_int_equal(check(w, der, (mdm_str_t){big, n - 1}), MDM_EINVAL);
    big[n - 1] = 'y';
    assert_int_equal(check(w, der, (mdm_str_t){big, n}), MDM_EINVAL);
    testcms_free(der);
    free(big);
    /* Line ends are bytes: neither form stands for the other. */
    der = testcms_sign(&w->rsa, MDM_STR("a\nb\n"), "SHA256");
    assert_int_equal(check(w, der, MDM_STR("a\r\nb\r\n")), MDM_EINVAL);
    assert_non_null(strstr(w->err.text, "does not fit the body"));
    accepted(w, der, MDM_STR("a\nb\n"));
    der = testcms_sign(&w->rsa, MDM_STR("a\r\nb\r\n"), "SHA256");
    assert_int_equal(check(w, der, MDM_STR("a\nb\n")), MDM_EINVAL);
    accepted(w, der, MDM_STR("a\r\nb\r\n"));
    der = testcms_sign(&w->ec, MDM_STR("\0\0"), "SHA256");
    assert_int_equal(check(w, der, MDM_STR("\0")), MDM_EINVAL);
    accepted(w, der, MDM_STR("\0\0"));
    accepted(w, testcms_sign(&w->ec, MDM_STR(""), "SHA256"), MDM_STR(""));
}

/* Wherever it stands among the others, the signer is found. */
static void test_extra_certificates(void **state)
{
    world_t *w = *state;
    STACK_OF(X509) *extra = sk_X509_new_null();
    testcert_t more[MDM_X509_HELPERS_MAX + 1];
    mdm_str_t der;
    size_t n;

    for (n = 0; n < MDM_ARRAY_LEN(more); n++) {
        more[n] = make_device(&w->ca, 0, NULL);
        assert_true(sk_X509_push(extra, more[n].cert) > 0);
        der = testcms_der(testcms_make(&w->ec, body, "SHA256", 0, extra));
        if (n < MDM_X509_HELPERS_MAX) {
            accepted(w, der, body);
            is_cert(w->shown.cert, &w->ec);
            assert_int_equal(w->shown.nhelpers, n + 1);
        } else {
            refused(w, der, "too many certificates");
        }
    }
    for (n = 0; n < MDM_ARRAY_LEN(more); n++) {
        testcert_free(&more[n]);
    }
    sk_X509_free(extra);
}

static void test_key_usage(void **state)
{
    world_t *w = *state;
    testcert_t c = make_device(&w->ca, 1, "keyEncipherment");
    mdm_str_t der = testcms_sign(&c, body, "SHA256");

    assert_int_equal(check(w, der, body), MDM_EDENIED);
    testcms_free(der);
    testcert_free(&c);
    c = make_device(&w->ca, 1, "critical,digitalSignature,keyEncipherment");
    accepted(w, testcms_sign(&c, body, "SHA512"), body);
    testcert_free(&c);
}

/* ---- bad ones ------------------------------------------------------------ */

static void test_signers(void **state)
{
    world_t *w = *state;
    unsigned flags = CMS_BINARY | CMS_DETACHED | CMS_PARTIAL;
    CMS_ContentInfo *cms;
    BIO *bio;

    cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    assert_int_equal(CMS_add1_cert(cms, w->ec.cert), 1);
    refused(w, testcms_der(cms), "not exactly one signer");
    cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    assert_non_null(CMS_add1_signer(cms, w->ec.cert, w->ec.key, NULL, flags));
    assert_non_null(
        CMS_add1_signer(cms, w->other.cert, w->other.key, NULL, flags));
    bio = BIO_new_mem_buf(body.s, (int)body.n);
    assert_int_equal(CMS_final(cms, bio, NULL, CMS_BINARY | CMS_DETACHED), 1);
    BIO_free(bio);
    refused(w, testcms_der(cms), "not exactly one signer");
    refused(w,
            testcms_der(
                testcms_make(&w->ec, body, "SHA256", CMS_NOCERTS, NULL)),
            "does not bring its signer's certificate");
    /* Certificates, but not the signer's. */
    cms = testcms_make(&w->ec, body, "SHA256", CMS_NOCERTS, NULL);
    assert_int_equal(CMS_add1_cert(cms, w->other.cert), 1);
    assert_int_equal(CMS_add1_cert(cms, w->ca.cert), 1);
    refused(w, testcms_der(cms), "does not bring its signer's certificate");
}

static void test_other_messages(void **state)
{
    world_t *w = *state;
    STACK_OF(X509) *to = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(body.s, (int)body.n);
    unsigned flags = CMS_BINARY;
    CMS_ContentInfo *cms;

    refused(w, testcms_der(CMS_data_create(bio, flags)), "another type");
    BIO_free(bio);
    bio = BIO_new_mem_buf(body.s, (int)body.n);
    refused(w, testcms_der(CMS_digest_create(bio, EVP_sha256(), flags)),
            "another type");
    BIO_free(bio);
    bio = BIO_new_mem_buf(body.s, (int)body.n);
    assert_true(sk_X509_push(to, w->rsa.cert) > 0);
    refused(w, testcms_der(CMS_encrypt(to, bio, EVP_aes_128_cbc(), flags)),
            "another type");
    sk_X509_free(to);
    BIO_free(bio);
    /* Signed, but with the content inside, equal or not. */
    bio = BIO_new_mem_buf(body.s, (int)body.n);
    cms = CMS_sign(w->ec.cert, w->ec.key, NULL, bio, flags);
    refused(w, testcms_der(cms), "must be detached");
    BIO_free(bio);
    bio = BIO_new_mem_buf("", 0);
    cms = CMS_sign(w->ec.cert, w->ec.key, NULL, bio, flags);
    refused(w, testcms_der(cms), "must be detached");
    BIO_free(bio);
}

/* Signs with another content type, and (patched) hides that outside. */
static mdm_str_t sign_as(const world_t *w, bool hide)
{
    static const unsigned char oid[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                        0xf7, 0x0d, 0x01, 0x07, 0x05};
    unsigned flags = CMS_BINARY | CMS_DETACHED | CMS_PARTIAL;
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    BIO *bio = BIO_new_mem_buf(body.s, (int)body.n);
    mdm_str_t der;
    char *at;

    assert_int_equal(CMS_set1_eContentType(cms, OBJ_nid2obj(NID_pkcs7_digest)),
                     1);
    assert_non_null(CMS_add1_signer(cms, w->ec.cert, w->ec.key, NULL, flags));
    assert_int_equal(CMS_final(cms, bio, NULL, CMS_BINARY | CMS_DETACHED), 1);
    BIO_free(bio);
    der = testcms_der(cms);
    if (hide) {
        at = memmem(der.s, der.n, oid, sizeof(oid));
        assert_non_null(at);
        at[sizeof(oid) - 1] = 0x01; /* data */
    }
    return der;
}

static void test_content_type(void **state)
{
    world_t *w = *state;

    refused(w, sign_as(w, false), "another type of content");
    refused(w, sign_as(w, true), "about another type of content");
}

static void test_algorithms_refused(void **state)
{
    world_t *w = *state;
    unsigned flags = CMS_BINARY | CMS_DETACHED | CMS_PARTIAL;
    CMS_ContentInfo *cms;
    CMS_SignerInfo *one;
    mdm_str_t der;
    BIO *bio;

    refused(w, testcms_sign(&w->rsa, body, "MD5"), "another digest");
    refused(w, testcms_sign(&w->rsa, body, "SHA224"), "another digest");
    cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
    one = CMS_add1_signer(cms, w->rsa.cert, w->rsa.key, EVP_sha256(),
                          flags | CMS_KEY_PARAM);
    assert_non_null(one);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(CMS_SignerInfo_get0_pkey_ctx(one),
                                             RSA_PKCS1_PSS_PADDING) > 0);
    bio = BIO_new_mem_buf(body.s, (int)body.n);
    assert_int_equal(CMS_final(cms, bio, NULL, CMS_BINARY | CMS_DETACHED), 1);
    BIO_free(bio);
    refused(w, testcms_der(cms), "another algorithm");
    /* Each digest that is named costs a pass over the body. */
    der = testcms_sign(&w->ec, body, "SHA256");
    accepted(w, testcms_ber(der, 4), body);
    refused(w, testcms_ber(der, 5), "no digest that is known, or too many");
    refused(w, testcms_ber(der, 3000), "no digest that is known, or too many");
    refused(w, testcms_ber(der, 0), "no digest that is known, or too many");
    testcms_free(der);
}

static mdm_str_t copy(const char *data, size_t n)
{
    char *out = malloc(n > 0 ? n : 1);

    assert_non_null(out);
    if (n > 0) {
        memcpy(out, data, n);
    }
    return (mdm_str_t){out, n};
}

static void test_damaged(void **state)
{
    world_t *w = *state;
    mdm_str_t der = testcms_sign(&w->ec, body, "SHA256");
    mdm_str_t ber = testcms_ber(der, 1);
    char *big = calloc(1, 65537);
    mdm_str_t bad;
    size_t i;

    assert_non_null(big);
    for (i = 0; i < der.n; i++) {
        refused(w, copy(der.s, i), "cut short");
    }
    for (i = 0; i < ber.n; i++) {
        refused(w, copy(ber.s, i), "cut short");
    }
    memcpy(big, der.s, der.n);
    for (i = der.n + 1; i < der.n + 5; i++) {
        refused(w, copy(big, i), "bytes behind it");
    }
    refused(w, copy(big, 65537), "is no CMS message");
    refused(w, copy("hello", 5), "is no CMS message");
    refused(w, copy("\x30\x80\x00\x00", 4), "is no CMS message");
    refused(w, copy("\x30\x84\xff\xff\xff\xff", 6), "is no CMS message");
    /* Deep nesting. */
    for (i = 0; i + 1 < 65536; i += 2) {
        big[i] = 0x30;
        big[i + 1] = (char)0x80;
    }
    refused(w, copy(big, 65536), "is no CMS message");
    /* Whatever bit falls over: another body is never proved. */
    for (i = 0; i < der.n * 8; i++) {
        bad = copy(der.s, der.n);
        ((char *)(uintptr_t)bad.s)[i / 8] ^= (char)(1 << i % 8);
        assert_int_not_equal(check(w, bad, MDM_STR("another body")), MDM_OK);
        testcms_free(bad);
    }
    free(big);
    testcms_free(ber);
    testcms_free(der);
}

/* A valid signature under somebody else's certificate. */
static void test_stolen_certificate(void **state)
{
    world_t *w = *state;
    testcert_t twin = {X509_dup(w->other.cert), w->ec.key};
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL,
                                    CMS_BINARY | CMS_DETACHED | CMS_PARTIAL);
    BIO *bio = BIO_new_mem_buf(body.s, (int)body.n);

    /* OpenSSL compares key and certificate, so that they are made to match
     * while it looks. */
    assert_int_equal(X509_set_pubkey(twin.cert, w->ec.key), 1);
    assert_non_null(CMS_add1_signer(cms, twin.cert, twin.key, EVP_sha256(),
                                    CMS_BINARY | CMS_NOCERTS));
    assert_int_equal(CMS_add1_cert(cms, w->other.cert), 1);
    assert_int_equal(CMS_final(cms, bio, NULL, CMS_BINARY | CMS_DETACHED), 1);
    BIO_free(bio);
    refused(w, testcms_der(cms), "signed by another key");
    is_cert(w->shown.cert, &w->other);
    X509_free(twin.cert);
}

/* ---- the cases ----------------------------------------------------------- */

/* Those whose fault is one of trust, not of the signature itself. */
static bool is_about_trust(const char *file)
{
    return strstr(file, "sig-expired") != NULL ||
           strstr(file, "sig-self-signed") != NULL ||
           strstr(file, "sig-same-name-other-ca") != NULL;
}

static void check_case(void *ctx, const char *file, const char *expect)
{
    world_t *w = ctx;
    mdm_str_t text = read_case(file);
    mdm_str_t content = read_case(CMS_BODY_FILE);
    unsigned char *data = malloc(text.n + 1);
    mdm_str_t der = {(char *)data, 0};
    bool yes = testcms_is_yes(expect) || is_about_trust(file);
    mdm_rc rc;

    assert_non_null(data);
    assert_int_equal(mdm_base64_decode(text, data, &der.n), MDM_OK);
    rc = check(w, der, content);
    if (rc != (yes ? MDM_OK : MDM_EINVAL)) {
        fail_msg("%s: rc %d, %s", file, rc, w->err.text);
    }
    if (strstr(file, "extra-certs") != NULL) {
        assert_true(w->shown.nhelpers > 0);
    }
    free(data);
    free_case(content);
    free_case(text);
}

static void test_cases(void **state)
{
    assert_int_equal(testcms_cases("pki/C42-", check_case, *state), 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_extra_certificates),
        cmocka_unit_test(test_key_usage),
        cmocka_unit_test(test_signers),
        cmocka_unit_test(test_other_messages),
        cmocka_unit_test(test_content_type),
        cmocka_unit_test(test_algorithms_refused),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_stolen_certificate),
        cmocka_unit_test(test_cases),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
