/*
 * testcert.h - certificates and keys made while a test runs, with OpenSSL's
 * own calls: certificate authorities, device identities, push certificates.
 * For whoever needs them.  Texts are freed by the caller.
 */
#ifndef TESTCERT_H
#define TESTCERT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

typedef struct testcert {
    X509 *cert;
    EVP_PKEY *key;
} testcert_t;

typedef struct testcert_want {
    const char *name;         /* CN */
    const char *uid;          /* topic of a push certificate; NULL: none */
    const char *san;          /* "DNS:localhost"; NULL: none */
    const testcert_t *issuer; /* NULL: self-signed */
    int ca;
    int rsa;               /* 2048 bits; otherwise P-256 */
    const char *key_usage; /* "digitalSignature"; NULL: none */
    const char *ext_usage; /* "clientAuth"; NULL: none */
    EVP_PKEY *key;         /* taken over; NULL: a new one */
    long from_day;         /* against now */
    long to_day;
} testcert_want_t;

static inline void testcert_ext(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext;
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static inline void testcert_entry(X509_NAME *name, const char *field,
                                  const char *value)
{
    assert_int_equal(X509_NAME_add_entry_by_txt(
                         name, field, MBSTRING_UTF8,
                         (const unsigned char *)value, -1, -1, 0),
                     1);
}

static inline testcert_t testcert_make(testcert_want_t want)
{
    testcert_t c = {X509_new(), want.key != NULL ? want.key
                                : want.rsa       ? EVP_RSA_gen(2048)
                                                 : EVP_EC_gen("P-256")};
    uint64_t serial = 0;
    X509_NAME *name;

    assert_non_null(c.cert);
    assert_non_null(c.key);
    (void)X509_set_version(c.cert, 2);
    memcpy(&serial, &c.cert, sizeof(serial));
    (void)ASN1_INTEGER_set_uint64(X509_get_serialNumber(c.cert), serial);
    (void)X509_gmtime_adj(X509_getm_notBefore(c.cert),
                          86400L * want.from_day);
    (void)X509_gmtime_adj(X509_getm_notAfter(c.cert), 86400L * want.to_day);
    (void)X509_set_pubkey(c.cert, c.key);
    name = X509_get_subject_name(c.cert);
    if (want.uid != NULL) {
        testcert_entry(name, "UID", want.uid);
    }
    testcert_entry(name, "CN", want.name);
    (void)X509_set_issuer_name(
        c.cert,
        X509_get_subject_name(want.issuer ? want.issuer->cert : c.cert));
    testcert_ext(c.cert, NID_basic_constraints,
                 want.ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (want.key_usage != NULL) {
        testcert_ext(c.cert, NID_key_usage, want.key_usage);
    }
    if (want.ext_usage != NULL) {
        testcert_ext(c.cert, NID_ext_key_usage, want.ext_usage);
    }
    if (want.san != NULL) {
        testcert_ext(c.cert, NID_subject_alt_name, want.san);
    }
    assert_true(X509_sign(c.cert, want.issuer ? want.issuer->key : c.key,
                          EVP_sha256()) > 0);
    return c;
}

static inline testcert_t testcert_ca(const char *name)
{
    return testcert_make(
        (testcert_want_t){.name = name, .ca = 1, .from_day = -1,
                          .to_day = 300});
}

static inline testcert_t testcert_device(const char *name,
                                         const testcert_t *issuer)
{
    return testcert_make((testcert_want_t){
        .name = name, .issuer = issuer, .from_day = -1, .to_day = 300});
}

static inline testcert_t testcert_push(const char *topic)
{
    return testcert_make((testcert_want_t){
        .name = "push", .uid = topic, .rsa = 1, .from_day = -1,
        .to_day = 300});
}

static inline void testcert_free(testcert_t *c)
{
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
    c->cert = NULL;
    c->key = NULL;
}

static inline char *testcert_text(BIO *bio)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    char *text = calloc(1, (size_t)n + 1);

    assert_non_null(text);
    memcpy(text, data, (size_t)n);
    (void)BIO_free(bio);
    return text;
}

static inline char *testcert_pem(const testcert_t *c)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_X509(bio, c->cert), 1);
    return testcert_text(bio);
}

static inline char *testcert_key(const testcert_t *c, const char *pass)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(
                         bio, c->key, pass ? EVP_aes_128_cbc() : NULL, pass,
                         pass ? (int)strlen(pass) : 0, NULL, NULL),
                     1);
    return testcert_text(bio);
}

/* Certificate and key in one text. */
static inline char *testcert_both(const testcert_t *c)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_X509(bio, c->cert), 1);
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, c->key, NULL, NULL, 0,
                                                   NULL, NULL),
                     1);
    return testcert_text(bio);
}

/* DER; *n_r bytes. */
static inline unsigned char *testcert_der(const testcert_t *c, size_t *n_r)
{
    unsigned char *der = NULL;
    int n = i2d_X509(c->cert, &der);

    assert_true(n > 0);
    *n_r = (size_t)n;
    return der; /* OPENSSL_free() */
}

/* Writes a file of mode 0600 and frees the text when it is `owned`. */
static inline void testcert_write(const char *dir, const char *name,
                                  char *owned, const char *text)
{
    char path[256];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(chmod(path, 0600), 0);
    assert_true(fputs(owned != NULL ? owned : text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(owned);
}

#endif
