/*
 * t_jwt.c - tokens are checked with the public key and read back with
 * jansson; keys that do not fit are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "mdm_jwt.h"
#include "mdm_str.h"

#define ISSUER "677cab70-fe18-11e2-b778-0800200c9a66"

static char *text_of(BIO *bio)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    char *text = calloc(1, (size_t)n + 1);

    assert_non_null(text);
    memcpy(text, data, (size_t)n);
    (void)BIO_free(bio);
    return text;
}

/* PKCS #8, or with `traditional` "BEGIN RSA PRIVATE KEY". */
static char *pem_of(EVP_PKEY *key, const char *pass, bool traditional)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (traditional) {
        assert_int_equal(PEM_write_bio_PrivateKey_traditional(
                             bio, key, NULL, NULL, 0, NULL, NULL),
                         1);
    } else {
        assert_int_equal(PEM_write_bio_PKCS8PrivateKey(
                             bio, key, pass ? EVP_aes_128_cbc() : NULL, pass,
                             pass ? (int)strlen(pass) : 0, NULL, NULL),
                         1);
    }
    return text_of(bio);
}

static mdm_rc try_pem(char *owned, mdm_err_t *err)
{
    mdm_jwt_key_t *key = NULL;
    mdm_rc rc;

    mdm_err_clear(err);
    rc = mdm_jwt_key_new(mdm_str_from(owned), &key, err);
    assert_int_equal(rc == MDM_OK, key != NULL);
    mdm_jwt_key_free(&key);
    assert_null(key);
    free(owned);
    return rc;
}

/* Decodes base64url in place of a new, NUL-terminated copy. */
static unsigned char *decode(mdm_str_t part, size_t *n_r)
{
    size_t room = part.n + 4;
    char *text = calloc(1, room);
    size_t n = part.n;
    size_t i;

    assert_non_null(text);
    memcpy(text, part.s, n);
    for (i = 0; i < n; i++) {
        assert_true(text[i] != '+' && text[i] != '/' && text[i] != '=');
        text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    }
    while (n % 4 != 0) {
        text[n++] = '=';
    }
    assert_int_equal(mdm_base64_decode((mdm_str_t){text, n},
                                       (unsigned char *)text, n_r),
                     MDM_OK);
    text[*n_r] = '\0';
    return (unsigned char *)text;
}

static json_t *json_of(mdm_str_t part)
{
    size_t n = 0;
    unsigned char *text = decode(part, &n);
    json_t *json = json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES,
                              NULL);

    assert_non_null(json);
    free(text);
    return json;
}

static const char *member(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    assert_non_null(text);
    return text;
}

static void verify(EVP_PKEY *key, mdm_str_t token)
{
    mdm_str_t rest = token;
    mdm_str_t head = mdm_str_split(&rest, '.');
    mdm_str_t body = mdm_str_split(&rest, '.');
    size_t n = 0;
    unsigned char *signature = decode(rest, &n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_int_equal(n, EVP_PKEY_get_size(key));
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key),
                     1);
    assert_int_equal(
        EVP_DigestVerify(ctx, signature, n, (const unsigned char *)token.s,
                         head.n + 1 + body.n),
        1);
    EVP_MD_CTX_free(ctx);
    free(signature);
}

static void test_token(void **state)
{
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    char *pem = pem_of(pkey, NULL, false);
    mdm_jwt_claims_t claims = {.iss = ISSUER,
                               .service_type = "com.apple.maid",
                               .iat_us = INT64_C(1795593276999999)};
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_str_t tokens[2];
    char seen[2][64];
    mdm_jwt_key_t *key = NULL;
    mdm_err_t err;
    size_t i;

    (void)state;
    assert_int_equal(mdm_jwt_key_new(mdm_str_from(pem), &key, &err), MDM_OK);
    for (i = 0; i < 2; i++) {
        mdm_str_t rest;
        json_t *head;
        json_t *body;

        assert_int_equal(mdm_jwt_sign(key, &claims, arena, &tokens[i], &err),
                         MDM_OK);
        verify(pkey, tokens[i]);
        rest = tokens[i];
        head = json_of(mdm_str_split(&rest, '.'));
        body = json_of(mdm_str_split(&rest, '.'));
        assert_int_equal(json_object_size(head), 2);
        assert_string_equal(member(head, "alg"), "RS256");
        assert_string_equal(member(head, "typ"), "JWT");
        assert_int_equal(json_object_size(body), 4);
        assert_string_equal(member(body, "iss"), ISSUER);
        assert_string_equal(member(body, "service_type"), "com.apple.maid");
        assert_true(json_is_integer(json_object_get(body, "iat")));
        assert_true(json_integer_value(json_object_get(body, "iat")) ==
                    1795593276);
        assert_int_equal(strlen(member(body, "jti")), MDM_UUID_LEN);
        (void)snprintf(seen[i], sizeof(seen[i]), "%s", member(body, "jti"));
        json_decref(head);
        json_decref(body);
    }
    assert_string_not_equal(seen[0], seen[1]);
    mdm_jwt_key_free(&key);
    mdm_jwt_key_free(&key);
    mdm_arena_free(&arena);
    free(pem);
    EVP_PKEY_free(pkey);
}

static void test_claims_that_need_escapes(void **state)
{
    static const char *const bad[] = {"a\"b", "a\\b", "a\nb", "\x7f",
                                      "caf\xc3\xa9"};
    EVP_PKEY *pkey = EVP_RSA_gen(2048);
    char *pem = pem_of(pkey, NULL, true);
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_jwt_claims_t claims;
    mdm_jwt_key_t *key = NULL;
    mdm_str_t token;
    mdm_err_t err;
    size_t i;

    (void)state;
    assert_int_equal(mdm_jwt_key_new(mdm_str_from(pem), &key, &err), MDM_OK);
    for (i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        claims = (mdm_jwt_claims_t){.iss = bad[i], .service_type = "x"};
        assert_int_equal(mdm_jwt_sign(key, &claims, arena, &token, &err),
                         MDM_EINVAL);
        claims = (mdm_jwt_claims_t){.iss = "x", .service_type = bad[i]};
        assert_int_equal(mdm_jwt_sign(key, &claims, arena, &token, &err),
                         MDM_EINVAL);
    }
    mdm_jwt_key_free(&key);
    mdm_arena_free(&arena);
    free(pem);
    EVP_PKEY_free(pkey);
}

/* For signatures of another kind alone. */
static EVP_PKEY *pss_key(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;

    assert_non_null(ctx);
    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048), 1);
    assert_int_equal(EVP_PKEY_generate(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void test_keys(void **state)
{
    EVP_PKEY *good = EVP_RSA_gen(2048);
    EVP_PKEY *small = EVP_RSA_gen(1024);
    EVP_PKEY *ec = EVP_EC_gen("P-256");
    EVP_PKEY *pss = pss_key();
    BIO *bio = BIO_new(BIO_s_mem());
    char *both = pem_of(good, NULL, false);
    char *huge = calloc(1, 300 * 1024);
    mdm_err_t err;
    char *framed;

    (void)state;
    assert_int_equal(try_pem(pem_of(good, NULL, false), &err), MDM_OK);
    assert_int_equal(try_pem(pem_of(good, NULL, true), &err), MDM_OK);
    framed = calloc(1, strlen(both) + 64);
    assert_non_null(framed);
    (void)snprintf(framed, strlen(both) + 64, "key of the server\n%s\nend\n",
                   both);
    assert_int_equal(try_pem(framed, &err), MDM_OK);

    assert_int_equal(try_pem(pem_of(good, "secret", false), &err),
                     MDM_EINVAL);
    assert_non_null(strstr(err.text, "encrypted"));
    assert_int_equal(try_pem(pem_of(small, NULL, false), &err), MDM_EINVAL);
    assert_non_null(strstr(err.text, "2048"));
    assert_int_equal(try_pem(pem_of(ec, NULL, false), &err), MDM_EINVAL);
    assert_int_equal(try_pem(pem_of(pss, NULL, false), &err), MDM_EINVAL);
    assert_int_equal(PEM_write_bio_PUBKEY(bio, good), 1);
    assert_int_equal(try_pem(text_of(bio), &err), MDM_EINVAL);
    assert_non_null(strstr(err.text, "no private key"));
    assert_int_equal(try_pem(strdup(""), &err), MDM_EINVAL);
    assert_int_equal(try_pem(strdup("hello\n"), &err), MDM_EINVAL);
    both[100] = '!'; /* damaged */
    assert_int_equal(try_pem(both, &err), MDM_EINVAL);
    assert_non_null(huge);
    memset(huge, 'x', 300 * 1024 - 1);
    assert_int_equal(try_pem(huge, &err), MDM_EINVAL);
    assert_int_equal(ERR_peek_error(), 0);
    EVP_PKEY_free(good);
    EVP_PKEY_free(small);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(pss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_claims_that_need_escapes),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests_name("jwt", tests, NULL, NULL);
}
