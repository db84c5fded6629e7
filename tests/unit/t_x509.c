/*
 * t_x509.c - trust of device identities: chains, dates, usages, every
 * certificate of tests/cases, and the cache of those that were found good.
 */
#include "testcms.h"

#include <pthread.h>
#include <time.h>

#include "mdm_time.h"
#include "mdm_x509.h"

#define DAY (86400 * MDM_SEC)

typedef struct world {
    testcert_t ca;
    testcert_t device;
    mdm_trust_t *trust;
    int64_t now;
    mdm_err_t err;
} world_t;

static mdm_trust_t *trust_of(const testcert_t *a, const testcert_t *b)
{
    mdm_trust_t *trust = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    mdm_err_t err;
    char *pem;

    assert_int_equal(PEM_write_bio_X509(bio, a->cert), 1);
    if (b != NULL) {
        assert_int_equal(PEM_write_bio_X509(bio, b->cert), 1);
    }
    pem = testcert_text(bio);
    if (mdm_trust_new(mdm_str_from(pem), &trust, &err) != MDM_OK) {
        fail_msg("%s", err.text);
    }
    free(pem);
    return trust;
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->ca = testcert_ca("device ca");
    w->device = testcert_device("device", &w->ca);
    w->trust = trust_of(&w->ca, NULL);
    w->now = (int64_t)time(NULL) * MDM_SEC;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    testcert_free(&w->ca);
    testcert_free(&w->device);
    mdm_trust_free(&w->trust);
    assert_null(w->trust);
    mdm_trust_free(&w->trust);
    free(w);
    return 0;
}

static mdm_str_t der_of(const testcert_t *c)
{
    mdm_str_t der;

    der.s = (char *)testcert_der(c, &der.n);
    return der;
}

/* With one helper or none. */
static mdm_rc verify(world_t *w, const mdm_trust_t *trust,
                     const testcert_t *c, const testcert_t *helper,
                     int64_t now)
{
    mdm_shown_t shown = {.cert = der_of(c)};
    unsigned char digest[MDM_SHA256_LEN];
    mdm_identity_t identity;
    mdm_rc rc;

    if (helper != NULL) {
        shown.helpers[shown.nhelpers++] = der_of(helper);
    }
    mdm_err_clear(&w->err);
    rc = mdm_trust_verify(trust, &shown, now, &identity, &w->err);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(rc == MDM_OK, w->err.text[0] == '\0');
    assert_int_equal(mdm_sha256(shown.cert, digest, NULL), MDM_OK);
    assert_memory_equal(digest, identity.fingerprint, sizeof(digest));
    OPENSSL_free((void *)(uintptr_t)shown.cert.s);
    if (helper != NULL) {
        OPENSSL_free((void *)(uintptr_t)shown.helpers[0].s);
    }
    return rc;
}

static bool remembers(const mdm_trust_t *trust, const testcert_t *c,
                      int64_t now)
{
    unsigned char digest[MDM_SHA256_LEN];
    mdm_str_t der = der_of(c);

    assert_int_equal(mdm_sha256(der, digest, NULL), MDM_OK);
    OPENSSL_free((void *)(uintptr_t)der.s);
    return mdm_trust_remembers(trust, digest, now);
}

/* One certificate of the CA with these usages, tried and thrown away. */
static mdm_rc try_usage(world_t *w, const char *key_usage,
                        const char *ext_usage)
{
    testcert_t c = testcert_make((testcert_want_t){.name = "u",
                                                   .issuer = &w->ca,
                                                   .key_usage = key_usage,
                                                   .ext_usage = ext_usage,
                                                   .from_day = -1,
                                                   .to_day = 10});
    mdm_rc rc = verify(w, w->trust, &c, NULL, w->now);

    testcert_free(&c);
    return rc;
}

static void test_usage(void **state)
{
    world_t *w = *state;

    assert_int_equal(try_usage(w, NULL, NULL), MDM_OK);
    assert_int_equal(try_usage(w, NULL, "clientAuth"), MDM_OK);
    assert_int_equal(try_usage(w, NULL, "serverAuth,clientAuth"), MDM_OK);
    assert_int_equal(try_usage(w, "digitalSignature", "clientAuth"), MDM_OK);
    assert_int_equal(try_usage(w, NULL, "serverAuth"), MDM_EDENIED);
    assert_non_null(strstr(w->err.text, "not trusted"));
    assert_int_equal(try_usage(w, NULL, "codeSigning"), MDM_EDENIED);
    assert_int_equal(try_usage(w, "keyEncipherment", NULL), MDM_EDENIED);
    assert_int_equal(try_usage(w, "critical,keyCertSign", NULL), MDM_EDENIED);
}

static void test_foreign(void **state)
{
    world_t *w = *state;
    testcert_t twin = testcert_ca("device ca"); /* the same name */
    testcert_t foreign = testcert_device("device", &twin);
    testcert_t self = testcert_device("device", NULL);

    assert_int_equal(verify(w, w->trust, &foreign, NULL, w->now),
                     MDM_EDENIED);
    assert_int_equal(verify(w, w->trust, &foreign, &twin, w->now),
                     MDM_EDENIED);
    assert_int_equal(verify(w, w->trust, &self, &self, w->now), MDM_EDENIED);
    assert_false(remembers(w->trust, &foreign, w->now));
    assert_int_equal(verify(w, w->trust, &w->device, &twin, w->now), MDM_OK);
    testcert_free(&self);
    testcert_free(&foreign);
    testcert_free(&twin);
}

static void test_unreadable(void **state)
{
    world_t *w = *state;
    mdm_str_t der = der_of(&w->device);
    char *big = calloc(1, 65537);
    mdm_identity_t identity;
    mdm_shown_t shown = {.cert = MDM_STR_NONE};
    size_t n;

    assert_non_null(big);
    memcpy(big, der.s, der.n);
    for (n = 0; n < der.n + 4; n++) {
        shown.cert = (mdm_str_t){big, n};
        assert_int_equal(
            mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
            n == der.n ? MDM_OK : MDM_EIDENTITY);
        assert_int_equal(ERR_peek_error(), 0);
    }
    shown.cert = (mdm_str_t){big, 65537};
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_EIDENTITY);
    shown.cert = MDM_STR_NONE;
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_EIDENTITY);
    /* A helper that cannot be read does not take the proof away. */
    shown.cert = der;
    shown.helpers[0] = MDM_STR("garbage");
    shown.helpers[1] = MDM_STR_NONE;
    shown.nhelpers = 2;
    assert_int_equal(mdm_trust_verify(w->trust, &shown, w->now, &identity,
                                      &w->err), MDM_OK);
    OPENSSL_free((void *)(uintptr_t)der.s);
    free(big);
}

/* The same certificate in BER: its outermost length without need in three
 * bytes, or not said at all.  Bytes that name it have to be its own. */
static void test_not_der(void **state)
{
    world_t *w = *state;
    mdm_str_t der = der_of(&w->device);
    char *ber = calloc(1, der.n + 4);
    mdm_shown_t shown = {.cert = MDM_STR_NONE};
    mdm_identity_t identity;

    assert_non_null(ber);
    assert_memory_equal(der.s, "\x30\x82", 2);
    memcpy(ber, "\x30\x83\0", 3);
    memcpy(ber + 3, der.s + 2, der.n - 2);
    shown.cert = (mdm_str_t){ber, der.n + 1};
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_EIDENTITY);
    memcpy(ber, "\x30\x80", 2);
    memcpy(ber + 2, der.s + 4, der.n - 4);
    memcpy(ber + der.n - 2, "\0\0", 2);
    shown.cert = (mdm_str_t){ber, der.n};
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_EIDENTITY);
    assert_int_equal(ERR_peek_error(), 0);
    shown.cert = der;
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_OK);
    free(ber);
    OPENSSL_free((void *)(uintptr_t)der.s);
}

/* OpenSSL set up without SHA-256: our own trouble, not the device's. */
static void test_no_digest(void **state)
{
    world_t *w = *state;
    mdm_shown_t shown = {.cert = der_of(&w->device)};
    mdm_identity_t identity;
    mdm_rc rc;

    assert_int_equal(EVP_set_default_properties(NULL, "fips=yes"), 1);
    rc = mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_int_equal(rc, MDM_EINTERNAL);
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &identity, &w->err),
        MDM_OK);
    OPENSSL_free((void *)(uintptr_t)shown.cert.s);
}

/* ---- the other form of a certificate ------------------------------------- */

/* (r, s) to (r, n - s), by a way of its own: bytes and schoolbook
 * subtraction.  P-256 alone. */
static testcert_t altered(const testcert_t *c)
{
    static const char order[] = "FFFFFFFF00000000FFFFFFFFFFFFFFFF"
                                "BCE6FAADA7179E84F3B9CAC2FC632551";
    testcert_t copy = {X509_dup(c->cert), NULL};
    const ASN1_BIT_STRING *text = NULL;
    const unsigned char *p;
    unsigned char *der = NULL;
    BIGNUM *n = NULL;
    BIGNUM *s = BN_new();
    ECDSA_SIG *sig;
    int size;

    X509_get0_signature(&text, NULL, copy.cert);
    p = ASN1_STRING_get0_data(text);
    sig = d2i_ECDSA_SIG(NULL, &p, ASN1_STRING_length(text));
    assert_non_null(sig);
    assert_true(BN_hex2bn(&n, order) > 0);
    assert_int_equal(BN_sub(s, n, ECDSA_SIG_get0_s(sig)), 1);
    assert_int_equal(
        ECDSA_SIG_set0(sig, BN_dup(ECDSA_SIG_get0_r(sig)), s), 1);
    size = i2d_ECDSA_SIG(sig, &der);
    assert_true(size > 0);
    assert_int_equal(
        ASN1_STRING_set((ASN1_STRING *)(uintptr_t)text, der, size), 1);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    BN_free(n);
    return copy;
}

static mdm_identity_t identity_of(world_t *w, const mdm_trust_t *trust,
                                  const testcert_t *c)
{
    mdm_shown_t shown = {.cert = der_of(c)};
    mdm_identity_t identity;

    assert_int_equal(
        mdm_trust_verify(trust, &shown, w->now, &identity, &w->err), MDM_OK);
    OPENSSL_free((void *)(uintptr_t)shown.cert.s);
    return identity;
}

/* Each names the other, whether the cache knows it or not. */
static void test_twin(void **state)
{
    static const unsigned char none[MDM_SHA256_LEN];
    world_t *w = *state;
    testcert_t copy = altered(&w->device);
    testcert_t rsa = testcert_make((testcert_want_t){
        .name = "rsa ca", .ca = 1, .rsa = 1, .from_day = -1, .to_day = 9});
    testcert_t of_rsa = testcert_device("of rsa", &rsa);
    mdm_trust_t *other = trust_of(&rsa, &w->ca);
    mdm_identity_t one;
    mdm_identity_t two;
    int i;

    for (i = 0; i < 2; i++) {
        one = identity_of(w, w->trust, &w->device);
        two = identity_of(w, w->trust, &copy);
        assert_memory_not_equal(one.fingerprint, two.fingerprint,
                                MDM_SHA256_LEN);
        assert_memory_equal(one.fingerprint, two.twin, MDM_SHA256_LEN);
        assert_memory_equal(two.fingerprint, one.twin, MDM_SHA256_LEN);
        one = identity_of(w, other, &of_rsa);
        assert_memory_equal(one.twin, none, MDM_SHA256_LEN);
    }
    /* The authority's own certificate: nobody signed it but itself. */
    one = identity_of(w, w->trust, &w->ca);
    assert_memory_equal(one.twin, none, MDM_SHA256_LEN);
    mdm_trust_free(&other);
    testcert_free(&of_rsa);
    testcert_free(&rsa);
    testcert_free(&copy);
}

/* ---- chains and dates ---------------------------------------------------- */

static void test_intermediate(void **state)
{
    world_t *w = *state;
    testcert_t sub = testcert_make((testcert_want_t){.name = "sub",
                                                     .issuer = &w->ca,
                                                     .ca = 1,
                                                     .from_day = -1,
                                                     .to_day = 20});
    testcert_t leaf = testcert_device("leaf", &sub);
    mdm_trust_t *partial = trust_of(&sub, NULL);
    mdm_trust_t *both = trust_of(&w->ca, &sub);

    /* The root alone: the intermediate has to come along. */
    assert_int_equal(verify(w, w->trust, &leaf, NULL, w->now), MDM_EDENIED);
    assert_int_equal(verify(w, w->trust, &leaf, &w->device, w->now),
                     MDM_EDENIED);
    assert_int_equal(verify(w, w->trust, &leaf, &sub, w->now), MDM_OK);
    /* Once proven, the chain need not be shown again, but ends with its
     * weakest link. */
    assert_int_equal(verify(w, w->trust, &leaf, NULL, w->now), MDM_OK);
    assert_true(remembers(w->trust, &leaf, w->now + 19 * DAY));
    assert_false(remembers(w->trust, &leaf, w->now + 21 * DAY));
    assert_int_equal(verify(w, w->trust, &leaf, &sub, w->now + 21 * DAY),
                     MDM_EDENIED);
    /* Named in the file, it is an anchor, with or without its root. */
    assert_int_equal(verify(w, partial, &leaf, NULL, w->now), MDM_OK);
    assert_int_equal(verify(w, both, &leaf, NULL, w->now), MDM_OK);
    assert_int_equal(verify(w, both, &w->device, NULL, w->now), MDM_OK);
    assert_int_equal(verify(w, partial, &w->device, NULL, w->now),
                     MDM_EDENIED);
    mdm_trust_free(&partial);
    mdm_trust_free(&both);
    testcert_free(&leaf);
    testcert_free(&sub);
}

/* A device's certificate issues nothing, whoever shows it. */
static void test_leaf_is_no_authority(void **state)
{
    world_t *w = *state;
    testcert_t child = testcert_device("child", &w->device);

    assert_int_equal(verify(w, w->trust, &w->device, NULL, w->now), MDM_OK);
    assert_int_equal(verify(w, w->trust, &child, &w->device, w->now),
                     MDM_EDENIED);
    testcert_free(&child);
}

/* The same verdict with and without the cache, to the second. */
static void test_dates(void **state)
{
    world_t *w = *state;
    testcert_t c = testcert_make((testcert_want_t){.name = "c",
                                                   .issuer = &w->ca,
                                                   .from_day = 2,
                                                   .to_day = 5});
    testcert_t later = testcert_make((testcert_want_t){.name = "later",
                                                       .issuer = &w->ca,
                                                       .from_day = -1,
                                                       .to_day = 9000});
    mdm_trust_t *fresh;
    struct tm tm;
    int64_t from;
    int64_t until;
    int i;

    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notBefore(c.cert), &tm), 1);
    from = (int64_t)timegm(&tm) * MDM_SEC;
    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notAfter(c.cert), &tm), 1);
    until = (int64_t)timegm(&tm) * MDM_SEC;
    for (i = 0; i < 2; i++) {
        assert_int_equal(verify(w, w->trust, &c, NULL, from - 1),
                         MDM_EDENIED);
        assert_int_equal(verify(w, w->trust, &c, NULL, w->now), MDM_EDENIED);
        assert_int_equal(verify(w, w->trust, &c, NULL, until), MDM_EDENIED);
        assert_int_equal(remembers(w->trust, &c, from), i == 1);
        assert_int_equal(verify(w, w->trust, &c, NULL, from), MDM_OK);
        assert_int_equal(verify(w, w->trust, &c, NULL, until - 1), MDM_OK);
        fresh = trust_of(&w->ca, NULL);
        assert_int_equal(verify(w, fresh, &c, NULL, until - 1), MDM_OK);
        mdm_trust_free(&fresh);
        assert_true(remembers(w->trust, &c, from));
        assert_true(remembers(w->trust, &c, until - 1));
        assert_false(remembers(w->trust, &c, until));
        assert_false(remembers(w->trust, &c, from - 1));
    }
    /* The authority ends before the device. */
    assert_int_equal(verify(w, w->trust, &later, NULL, w->now), MDM_OK);
    assert_true(remembers(w->trust, &later, w->now + 299 * DAY));
    assert_false(remembers(w->trust, &later, w->now + 301 * DAY));
    assert_int_equal(
        verify(w, w->trust, &later, NULL, w->now + 301 * DAY), MDM_EDENIED);
    testcert_free(&later);
    testcert_free(&c);
}

/* ---- cache --------------------------------------------------------------- */

static void test_cache(void **state)
{
    world_t *w = *state;
    mdm_trust_t *other = trust_of(&w->ca, NULL);
    mdm_shown_t shown = {.cert = der_of(&w->device)};
    mdm_identity_t first;
    mdm_identity_t again;

    assert_false(remembers(w->trust, &w->device, w->now));
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &first, &w->err), MDM_OK);
    assert_true(remembers(w->trust, &w->device, w->now));
    assert_int_equal(
        mdm_trust_verify(w->trust, &shown, w->now, &again, &w->err), MDM_OK);
    assert_memory_equal(first.fingerprint, again.fingerprint,
                        MDM_SHA256_LEN);
    assert_int_equal(first.not_after_us, again.not_after_us);
    assert_true(first.not_after_us > w->now);
    /* Another trust has to find out for itself. */
    assert_false(remembers(other, &w->device, w->now));
    OPENSSL_free((void *)(uintptr_t)shown.cert.s);
    mdm_trust_free(&other);
}

/* More certificates than there are places: all good, some forgotten. */
static void test_cache_is_bounded(void **state)
{
    enum { MANY = 5000 };
    world_t *w = *state;
    testcert_t *all = calloc(MANY, sizeof(*all));
    EVP_PKEY *key = EVP_EC_gen("P-256");
    unsigned known = 0;
    unsigned i;

    assert_non_null(all);
    assert_non_null(key);
    for (i = 0; i < MANY; i++) {
        assert_int_equal(EVP_PKEY_up_ref(key), 1);
        all[i] = testcert_make((testcert_want_t){.name = "d",
                                                 .issuer = &w->ca,
                                                 .key = key,
                                                 .from_day = -1,
                                                 .to_day = 9});
        assert_int_equal(verify(w, w->trust, &all[i], NULL, w->now), MDM_OK);
        assert_true(remembers(w->trust, &all[i], w->now));
    }
    for (i = 0; i < MANY; i++) {
        known += remembers(w->trust, &all[i], w->now) ? 1U : 0U;
        testcert_free(&all[i]);
    }
    assert_true(known <= 4096);
    assert_true(known > 3000);
    EVP_PKEY_free(key);
    free(all);
}

typedef struct worker {
    pthread_t thread;
    world_t *w;
    mdm_str_t good;
    mdm_str_t bad;
    unsigned faults;
} worker_t;

static void *work(void *arg)
{
    worker_t *me = arg;
    mdm_shown_t good = {.cert = me->good};
    mdm_shown_t bad = {.cert = me->bad};
    mdm_identity_t identity;
    mdm_err_t err;
    int i;

    for (i = 0; i < 500; i++) {
        me->faults += mdm_trust_verify(me->w->trust, &good, me->w->now,
                                       &identity, &err) != MDM_OK;
        me->faults += mdm_trust_verify(me->w->trust, &bad, me->w->now,
                                       &identity, &err) != MDM_EDENIED;
    }
    return NULL;
}

static void test_threads(void **state)
{
    world_t *w = *state;
    testcert_t self = testcert_device("device", NULL);
    mdm_str_t good = der_of(&w->device);
    mdm_str_t bad = der_of(&self);
    worker_t workers[4];
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(workers); i++) {
        workers[i] = (worker_t){.w = w, .good = good, .bad = bad};
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (i = 0; i < MDM_ARRAY_LEN(workers); i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].faults, 0);
    }
    OPENSSL_free((void *)(uintptr_t)good.s);
    OPENSSL_free((void *)(uintptr_t)bad.s);
    testcert_free(&self);
}

/* ---- the cases ----------------------------------------------------------- */

typedef struct cases {
    mdm_trust_t *trust;
    int64_t now;
} cases_t;

static void check_case(void *ctx, const char *file, const char *expect)
{
    cases_t *c = ctx;
    bool yes = testcms_is_yes(expect);
    mdm_shown_t shown = {.cert = MDM_STR_NONE};
    mdm_identity_t identity;
    unsigned char *der = NULL;
    mdm_str_t text;
    mdm_err_t err;
    X509 *cert;
    BIO *bio;
    int i;

    if (strstr(file, ".key") != NULL || strstr(file, "device-ca") != NULL) {
        return;
    }
    text = read_case(file);
    bio = BIO_new_mem_buf(text.s, (int)text.n);
    cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(cert);
    BIO_free(bio);
    free_case(text);
    shown.cert.n = (size_t)i2d_X509(cert, &der);
    shown.cert.s = (const char *)der;
    X509_free(cert);
    for (i = 0; i < 2; i++) { /* fresh and remembered */
        mdm_err_clear(&err);
        if (mdm_trust_verify(c->trust, &shown, c->now, &identity, &err) !=
            (yes ? MDM_OK : MDM_EDENIED)) {
            fail_msg("%s: %s", file, err.text);
        }
    }
    assert_int_equal(
        mdm_trust_remembers(c->trust, identity.fingerprint, c->now), yes);
    OPENSSL_free(der);
}

static void test_cases(void **state)
{
    mdm_str_t pem = read_case("pki/device-ca.pem");
    cases_t c = {.trust = NULL};
    mdm_err_t err;

    (void)state;
    /* All of them are meant for a day in between. */
    assert_true(mdm_time_parse(MDM_STR("2026-06-01T00:00:00Z"), &c.now));
    assert_int_equal(mdm_trust_new(pem, &c.trust, &err), MDM_OK);
    assert_int_equal(testcms_cases("pki/C40-", check_case, &c), 4);
    assert_int_equal(testcms_cases("pki/C43-", check_case, &c), 10);
    assert_int_equal(testcms_cases("pki/C47-", check_case, &c), 6);
    assert_int_equal(testcms_cases("pki/device-", check_case, &c), 6);
    mdm_trust_free(&c.trust);
    free_case(pem);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_usage),
        EACH(test_foreign),
        EACH(test_unreadable),
        EACH(test_no_digest),
        EACH(test_not_der),
        EACH(test_twin),
        EACH(test_intermediate),
        EACH(test_leaf_is_no_authority),
        EACH(test_dates),
        EACH(test_cache),
        EACH(test_cache_is_bounded),
        EACH(test_threads),
        EACH(test_cases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
