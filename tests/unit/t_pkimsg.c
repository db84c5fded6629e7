/*
 * t_pkimsg.c - messages of SCEP: each case with its verdict, bounds on BER,
 * answers that OpenSSL reads, and every message cut short and with changed
 * bytes, which must never do more than be refused.  Best run with the
 * sanitizers.
 */
#include "plist_cases.h"

#include <string.h>

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "mdm_pkimsg.h"
#include "mdm_pkimsg_int.h"
#include "mdm_str.h"

typedef struct world {
    mdm_authority_t *ca;
    mdm_pkimsg_legacy_t *legacy;
    mdm_arena_t *arena;
    mdm_err_t err;
} world_t;

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));
    mdm_str_t cert = read_case("scep/ca.pem");
    mdm_str_t key = read_case("scep/ca.key");
    const char *weakness;

    assert_non_null(w);
    w->arena = mdm_arena_new(true);
    assert_int_equal(mdm_authority_read(cert, key, &w->ca, &weakness,
                                        &w->err), MDM_OK);
    assert_null(weakness);
    assert_int_equal(mdm_pkimsg_legacy_new(&w->legacy, &w->err), MDM_OK);
    free((void *)(uintptr_t)cert.s);
    free((void *)(uintptr_t)key.s);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    mdm_authority_release(&w->ca);
    mdm_pkimsg_legacy_free(&w->legacy);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

/* "400", "ok" or the failInfo; the message stays open in *msg_r. */
static const char *judge(world_t *w, mdm_str_t data, bool legacy,
                         mdm_pkimsg_t **msg_r)
{
    mdm_pki_keys_t keys = {.all = &w->ca,
                           .n = 1,
                           .legacy = legacy ? w->legacy : NULL};
    mdm_pki_fail_t fail = MDM_PKI_BAD_TIME;
    mdm_rc rc = mdm_pkimsg_open(data, w->arena, msg_r, &w->err);

    assert_int_equal(ERR_peek_error(), 0);
    if (rc == MDM_EINVAL) {
        assert_null(*msg_r);
        return "400";
    }
    assert_int_equal(rc, MDM_OK);
    rc = mdm_pkimsg_read(*msg_r, &keys, &fail, &w->err);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true(rc == MDM_OK || rc == MDM_EDENIED);
    return rc == MDM_OK ? "ok" : mdm_pki_fail_name(fail);
}

static const char *judge_case(world_t *w, const char *name, bool legacy,
                              mdm_pkimsg_t **msg_r)
{
    char path[128];
    mdm_str_t data;
    const char *verdict;

    (void)snprintf(path, sizeof(path), "scep/%s.p7", name);
    data = read_case(path);
    verdict = judge(w, data, legacy, msg_r);
    free((void *)(uintptr_t)data.s);
    return verdict;
}

static const struct {
    const char *name;
    const char *verdict;
    const char *challenge; /* NULL: not looked at */
} cases[] = {
    {"C68-pkcsreq-der", "ok", "s3cret-challenge"},
    {"C68-pkcsreq-ber-indefinite", "ok", "s3cret-challenge"},
    {"C68-pkcsreq-sha1", "ok", "s3cret-challenge"},
    {"C68-truncated", "400", NULL},
    {"C68-empty", "400", NULL},
    {"C68-not-asn1", "400", NULL},
    {"C68-ber-nested-bomb", "400", NULL},
    {"C68-signature-broken", "badMessageCheck", NULL},
    {"C73-challenge-printable", "ok", "s3cret-challenge"},
    {"C73-challenge-utf8", "ok", "s3cret-challenge"},
    {"C73-challenge-ia5", "ok", "s3cret-challenge"},
    {"C73-challenge-teletex", "ok", "s3cret-challenge"},
    {"C73-challenge-underscore-printable", "ok", "a_b&c*"},
    {"C73-challenge-empty", "ok", ""},
    {"C73-challenge-replay", "ok", "s3cret-challenge"},
    {"C74-env-des", "badAlg", NULL},
    {"C74-env-3des", "ok", "s3cret-challenge"},
    {"C74-env-aes128", "ok", "s3cret-challenge"},
    {"C74-env-rsa-oaep", "ok", "s3cret-challenge"},
    {"C74-env-wrong-recipient", "badMessageCheck", NULL},
    {"C74-csr-signature-wrong", "badRequest", NULL},
    {"C74-csr-key-not-signer", "ok", "s3cret-challenge"},
    {"C73-challenge-missing", "ok", NULL},
    {"C73-challenge-wrong", "ok", NULL},
};

static void test_cases(void **state)
{
    world_t *w = *state;
    const mdm_pki_request_t *r;
    mdm_pkimsg_t *msg;
    const char *verdict;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        verdict = judge_case(w, cases[i].name, false, &msg);
        if (strcmp(verdict, cases[i].verdict) != 0) {
            fail_msg("%s: %s (%s)", cases[i].name, verdict, w->err.text);
        }
        if (strcmp(verdict, "ok") == 0) {
            r = mdm_pkimsg_request(msg);
            assert_int_equal(r->type, MDM_PKI_PKCS_REQ);
            assert_true(r->transaction_id.n > 0);
            assert_true(r->common_name.n > 0 && r->key.n > 0);
            assert_int_equal(r->is_signer_key,
                             strcmp(cases[i].name,
                                    "C74-csr-key-not-signer") != 0);
            if (cases[i].challenge != NULL) {
                assert_true(mdm_str_is(r->challenge, cases[i].challenge));
            }
        }
        mdm_pkimsg_close(&msg);
    }
    /* The one that is only taken where somebody wants it. */
    assert_string_equal(judge_case(w, "C74-env-des", true, &msg), "ok");
    mdm_pkimsg_close(&msg);
}

/* ---- bounds -------------------------------------------------------------- */

static bool sane(const char *bytes, size_t n)
{
    return mdm_ber_is_sane((mdm_str_t){bytes, n});
}

#define SANE(text) sane("" text, sizeof(text) - 1)

static void test_ber(void **state)
{
    char deep[128];
    unsigned depth;
    (void)state;

    assert_true(SANE("\x05\x00"));
    assert_true(SANE("\x30\x00"));
    assert_true(SANE("\x30\x02\x05\x00"));
    assert_true(SANE("\x30\x80\x05\x00\x00\x00"));
    assert_true(SANE("\x24\x80\x04\x01x\x04\x01y\x00\x00"));
    assert_true(SANE("\x30\x81\x02\x05\x00"));
    assert_true(SANE("\x1f\x81\x01\x01x"));
    assert_false(SANE(""));
    assert_false(SANE("\x30"));
    assert_false(SANE("\x30\x01"));
    assert_false(SANE("\x30\x80"));
    assert_false(SANE("\x30\x80\x00"));
    assert_false(SANE("\x00\x00"));
    assert_false(SANE("\x30\x02\x00\x00"));
    assert_false(SANE("\x05\x00\x00"));
    assert_false(SANE("\x04\x80\x00\x00"));     /* of a primitive value */
    assert_false(SANE("\x30\x03\x04\x02xy"));   /* longer than around it */
    assert_false(SANE("\x30\x02\x30\x80\x00\x00"));
    assert_false(SANE("\x04\x84\xff\xff\xff\xff"));
    assert_false(SANE("\x04\x85\x00\x00\x00\x00\x01x"));
    assert_false(SANE("\x1f\x81\x81\x81\x81\x01\x00"));
    for (depth = 30; depth < 40; depth++) {
        memset(deep, 0, sizeof(deep));
        memset(deep, 0x30, 2 * (size_t)depth);
        for (unsigned i = 0; i < depth; i++) {
            deep[2 * i + 1] = (char)0x80;
        }
        assert_int_equal(sane(deep, 4 * (size_t)depth > sizeof(deep)
                                        ? sizeof(deep)
                                        : 4 * (size_t)depth),
                         depth <= 32);
    }
}

static void test_items(void **state)
{
    static char many[16 * 1024];
    size_t n;
    (void)state;

    for (n = 3998; n < 4003; n++) {
        memset(many, 0, sizeof(many));
        memcpy(many, "\x30\x82", 2);
        many[2] = (char)(2 * n >> 8);
        many[3] = (char)(2 * n & 0xff);
        for (size_t i = 0; i < n; i++) {
            many[4 + 2 * i] = 5;
        }
        assert_int_equal(sane(many, 4 + 2 * n), n < 4000);
    }
}

/* ---- answers ------------------------------------------------------------- */

static mdm_str_t content_of(world_t *w, mdm_str_t answer)
{
    const unsigned char *p = (const unsigned char *)answer.s;
    CMS_ContentInfo *info = d2i_CMS_ContentInfo(NULL, &p, (long)answer.n);
    X509_STORE *store = X509_STORE_new();
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL;
    long n;
    mdm_str_t content;

    assert_non_null(info);
    assert_int_equal(X509_STORE_add_cert(store, mdm_authority_x509(w->ca)),
                     1);
    if (CMS_get0_content(info) != NULL && *CMS_get0_content(info) != NULL) {
        assert_int_equal(CMS_verify(info, NULL, store, NULL, out, CMS_BINARY |
                                    CMS_NO_SIGNER_CERT_VERIFY), 1);
    }
    n = BIO_get_mem_data(out, &data);
    content = (mdm_str_t){mdm_arena_dup(w->arena, data != NULL ? data : "",
                                        (size_t)n), (size_t)n};
    BIO_free(out);
    X509_STORE_free(store);
    CMS_ContentInfo_free(info);
    return content;
}

static void test_answers(void **state)
{
    world_t *w = *state;
    mdm_issue_t issue = {.common_name = MDM_STR("Mac"),
                         .now_us = mdm_authority_not_after(w->ca) -
                                   MDM_SEC * 86400 * 1000,
                         .life_us = MDM_SEC * 86400};
    mdm_str_t answer = MDM_STR_NONE;
    mdm_new_cert_t cert;
    mdm_pkimsg_t *msg;

    assert_string_equal(judge_case(w, "C68-pkcsreq-der", false, &msg), "ok");
    issue.key = mdm_pkimsg_request(msg)->key;
    assert_int_equal(mdm_authority_issue(w->ca, &issue, w->arena, &cert,
                                         &w->err), MDM_OK);
    assert_true(mdm_str_is(cert.subject, "CN=Mac"));
    assert_true((cert.serial[0] & 0x80U) == 0);
    assert_int_equal(mdm_pkimsg_grant(msg, w->ca, cert.der, &answer,
                                      &w->err), MDM_OK);
    assert_true(content_of(w, answer).n > cert.der.n);
    assert_true(mdm_ber_is_sane(answer));
    assert_int_equal(mdm_pkimsg_refuse(msg, w->ca, MDM_PKI_BAD_TIME, &answer,
                                       &w->err), MDM_OK);
    assert_int_equal(content_of(w, answer).n, 0);
    assert_int_equal(ERR_peek_error(), 0);
    mdm_pkimsg_close(&msg);
}

/* No identity outlives its authority. */
static void test_validity(void **state)
{
    world_t *w = *state;
    mdm_issue_t issue = {.common_name = MDM_STR("Mac"),
                         .life_us = MDM_SEC * 86400 * 365};
    mdm_new_cert_t cert;
    mdm_pkimsg_t *msg;

    assert_string_equal(judge_case(w, "C68-pkcsreq-der", false, &msg), "ok");
    issue.key = mdm_pkimsg_request(msg)->key;
    issue.now_us = mdm_authority_not_after(w->ca) - MDM_SEC * 86400;
    assert_int_equal(mdm_authority_issue(w->ca, &issue, w->arena, &cert,
                                         &w->err), MDM_OK);
    assert_int_equal(cert.identity.not_after_us,
                     mdm_authority_not_after(w->ca));
    issue.subject = MDM_STR("\x30\x05xx");
    assert_int_equal(mdm_authority_issue(w->ca, &issue, w->arena, &cert,
                                         &w->err), MDM_EINVAL);
    issue.subject = MDM_STR_NONE;
    issue.key = MDM_STR("\x30\x00");
    assert_int_equal(mdm_authority_issue(w->ca, &issue, w->arena, &cert,
                                         &w->err), MDM_EINVAL);
    assert_int_equal(ERR_peek_error(), 0);
    mdm_pkimsg_close(&msg);
}

/* ---- authorities from files ---------------------------------------------- */

static void refused(world_t *w, const char *cert, const char *key,
                    const char *why)
{
    mdm_str_t c = read_case(cert);
    mdm_str_t k = read_case(key);
    mdm_authority_t *ca = NULL;

    assert_int_equal(mdm_authority_read(c, k, &ca, NULL, &w->err),
                     MDM_EINVAL);
    assert_null(ca);
    if (strstr(w->err.text, why) == NULL) {
        fail_msg("\"%s\" has no \"%s\"", w->err.text, why);
    }
    assert_int_equal(ERR_peek_error(), 0);
    free((void *)(uintptr_t)c.s);
    free((void *)(uintptr_t)k.s);
}

static void test_files(void **state)
{
    world_t *w = *state;
    mdm_str_t cert = read_case("scep/C70-ca-without-keyencipherment.pem");
    mdm_str_t key = read_case("scep/ca.key");
    const char *weakness = NULL;
    mdm_authority_t *ca;

    assert_int_equal(mdm_authority_read(cert, key, &ca, &weakness, &w->err),
                     MDM_OK);
    assert_non_null(strstr(weakness, "keyEncipherment"));
    mdm_authority_release(&ca);
    refused(w, "scep/C74-ec-ca.pem", "scep/C74-ec-ca.key", "not RSA");
    refused(w, "scep/ca.pem", "scep/C74-ec-ca.key", "not RSA");
    refused(w, "scep/ca.key", "scep/ca.key", "no certificate");
    refused(w, "scep/ca.pem", "scep/ca.pem", "no private key");
    refused(w, "pki/device-a.pem", "pki/device-a.key", "");
    free((void *)(uintptr_t)cert.s);
    free((void *)(uintptr_t)key.s);
}

/* ---- hostile ------------------------------------------------------------- */

/* Whatever comes in: an answer or a refusal, and nothing left behind. */
static void try_bytes(world_t *w, mdm_str_t data)
{
    mdm_str_t answer = MDM_STR_NONE;
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_pkimsg_t *msg;
    world_t inner = *w;

    inner.arena = arena;
    if (strcmp(judge(&inner, data, true, &msg), "400") != 0) {
        assert_int_equal(mdm_pkimsg_refuse(msg, w->ca,
                                           MDM_PKI_BAD_MESSAGE_CHECK, &answer,
                                           &w->err), MDM_OK);
        mdm_pkimsg_close(&msg);
    }
    mdm_arena_free(&arena);
}

static void mutate(world_t *w, mdm_str_t data, unsigned step)
{
    char *copy = malloc(data.n + 1);
    size_t i;

    assert_non_null(copy);
    for (i = 0; i < data.n; i += step) {
        char *cut = malloc(i > 0 ? i : 1); /* exactly: reads past it show */

        assert_non_null(cut);
        memcpy(cut, data.s, i);
        try_bytes(w, (mdm_str_t){cut, i});
        free(cut);
    }
    memcpy(copy, data.s, data.n);
    for (i = 0; i < data.n; i += step) {
        copy[i] = (char)(copy[i] ^ (1 << (i * 7 / step) % 8));
        try_bytes(w, (mdm_str_t){copy, data.n});
        copy[i] = data.s[i];
        copy[i] = (char)(i % 3 == 0 ? 0xff : i % 3 == 1 ? 0x80 : 0);
        try_bytes(w, (mdm_str_t){copy, data.n});
        copy[i] = data.s[i];
    }
    memcpy(copy, data.s, data.n);
    copy[data.n] = 0;
    try_bytes(w, (mdm_str_t){copy, data.n + 1});
    free(copy);
}

static void test_mutations(void **state)
{
    world_t *w = *state;
    char path[128];
    mdm_str_t data;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        (void)snprintf(path, sizeof(path), "scep/%s.p7", cases[i].name);
        data = read_case(path);
        if (data.n > 0 && data.n < 10000) {
            /* Every byte of the two that differ most, some of others. */
            mutate(w, data, i < 2 ? 3 : 41);
        }
        free((void *)(uintptr_t)data.s);
    }
}

/* The inside as well: changed bytes in the request, encrypted anew. */
static void test_requests(void **state)
{
    world_t *w = *state;
    mdm_pki_fail_t fail;
    mdm_pkimsg_t *msg;
    mdm_str_t der;
    char *copy;
    size_t i;
    const unsigned char *p;
    X509_REQ *req = X509_REQ_new();
    unsigned char *bytes = NULL;
    X509_NAME *name;
    int n;

    assert_string_equal(judge_case(w, "C68-pkcsreq-der", false, &msg), "ok");
    p = (const unsigned char *)mdm_pkimsg_request(msg)->subject.s;
    name = d2i_X509_NAME(NULL, &p, (long)mdm_pkimsg_request(msg)->subject.n);
    assert_int_equal(X509_REQ_set_subject_name(req, name), 1);
    X509_NAME_free(name);
    assert_int_equal(X509_REQ_set_pubkey(req, mdm_authority_pkey(w->ca)), 1);
    assert_int_equal(X509_REQ_add1_attr_by_NID(
        req, NID_pkcs9_challengePassword, MBSTRING_ASC,
        (const unsigned char *)"challenge", -1), 1);
    assert_true(X509_REQ_sign(req, mdm_authority_pkey(w->ca),
                              EVP_sha256()) > 0);
    n = i2d_X509_REQ(req, &bytes);
    der = (mdm_str_t){(const char *)bytes, (size_t)n};
    assert_int_equal(mdm_pkimsg_read_csr(msg, der, &fail, &w->err), MDM_OK);
    assert_true(mdm_str_is(mdm_pkimsg_request(msg)->challenge, "challenge"));
    assert_false(mdm_pkimsg_request(msg)->is_signer_key);
    copy = malloc(der.n);
    assert_non_null(copy);
    memcpy(copy, der.s, der.n);
    for (i = 0; i < der.n; i++) {
        copy[i] = (char)(copy[i] ^ (1 << i % 8));
        /* Some bytes around what is signed say nothing. */
        if (mdm_pkimsg_read_csr(msg, (mdm_str_t){copy, der.n}, &fail,
                                &w->err) == MDM_OK) {
            assert_true(i < 4 || i > der.n - 300);
        }
        assert_true(mdm_str_is(mdm_pkimsg_request(msg)->challenge,
                               "challenge"));
        copy[i] = der.s[i];
        assert_int_not_equal(mdm_pkimsg_read_csr(
            msg, (mdm_str_t){copy, i}, &fail, &w->err), MDM_OK);
    }
    free(copy);
    OPENSSL_free(bytes);
    X509_REQ_free(req);
    ERR_clear_error();
    mdm_pkimsg_close(&msg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, setup, teardown),
        cmocka_unit_test(test_ber),
        cmocka_unit_test(test_items),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_validity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
