/*
 * mdm_jwt.c - see mdm_jwt.h.  The host's own OpenSSL context does the work;
 * its error queue is left empty.
 */
#include "mdm_jwt.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "mdm_str.h"

#define PEM_MAX (256 * 1024)
#define MARK "PRIVATE KEY-----"
#define BITS_MIN 2048
/* A signature takes as many bytes as the key; nobody has a larger one. */
#define BITS_MAX 16384
#define HEADER "{\"alg\":\"RS256\",\"typ\":\"JWT\"}"

struct mdm_jwt_key {
    EVP_PKEY *pkey;
};

/* Nobody is asked for a pass phrase: a server has no terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static mdm_rc read_key(mdm_str_t pem, EVP_PKEY **pkey_r, mdm_err_t *err)
{
    BIO *bio;

    if (pem.n > PEM_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "longer than a key file can be");
    }
    bio = BIO_new_mem_buf(pem.n > 0 ? pem.s : "", (int)pem.n);
    if (bio == NULL) {
        ERR_clear_error();
        return mdm_err_nomem(err);
    }
    *pkey_r = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    ERR_clear_error();
    BIO_free(bio);
    if (*pkey_r != NULL) {
        return MDM_OK;
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       pem.n > 0 && memmem(pem.s, pem.n, MARK,
                                           sizeof(MARK) - 1) != NULL
                           ? "the private key is encrypted or damaged; it "
                             "has to be unencrypted"
                           : "no private key (\"BEGIN PRIVATE KEY\") in it");
}

mdm_rc mdm_jwt_key_new(mdm_str_t pem, mdm_jwt_key_t **key_r, mdm_err_t *err)
{
    mdm_jwt_key_t *key;
    EVP_PKEY *pkey = NULL;
    mdm_rc rc;

    *key_r = NULL;
    rc = read_key(pem, &pkey, err);
    if (rc != MDM_OK) {
        return rc;
    }
    /* RS256 is PKCS #1 version 1.5: a key for PSS alone does not fit. */
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA ||
        EVP_PKEY_get_bits(pkey) < BITS_MIN ||
        EVP_PKEY_get_bits(pkey) > BITS_MAX) {
        EVP_PKEY_free(pkey);
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not an RSA key of %d to %d bits", BITS_MIN,
                           BITS_MAX);
    }
    key = calloc(1, sizeof(*key));
    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return mdm_err_nomem(err);
    }
    key->pkey = pkey;
    *key_r = key;
    return MDM_OK;
}

void mdm_jwt_key_free(mdm_jwt_key_t **key)
{
    if (*key != NULL) {
        EVP_PKEY_free((*key)->pkey);
        free(*key);
        *key = NULL;
    }
}

/* base64 with "-" and "_", without padding; NULL: memory is out. */
static char *base64url(const void *data, size_t n, mdm_arena_t *arena)
{
    char *text = mdm_arena_alloc(arena, MDM_BASE64_SIZE(n));
    char *p;

    if (text == NULL) {
        return NULL;
    }
    mdm_base64_encode(data, n, text);
    for (p = text; *p != '\0' && *p != '='; p++) {
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    }
    *p = '\0';
    return text;
}

static bool needs_escape(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\') {
            return true;
        }
    }
    return false;
}

static mdm_rc sign(EVP_PKEY *pkey, const char *text, mdm_arena_t *arena,
                   char **signature_r, mdm_err_t *err)
{
    size_t n = (size_t)EVP_PKEY_get_size(pkey);
    unsigned char *raw = mdm_arena_alloc(arena, n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    mdm_rc rc = MDM_OK;

    *signature_r = NULL;
    if (raw == NULL || ctx == NULL) {
        rc = mdm_err_nomem(err);
    } else if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) != 1 ||
               EVP_DigestSign(ctx, raw, &n, (const unsigned char *)text,
                              strlen(text)) != 1) {
        rc = mdm_err_openssl(err, MDM_EINTERNAL, 0,
                             "cannot sign the token");
    } else {
        *signature_r = base64url(raw, n, arena);
        rc = *signature_r != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    EVP_MD_CTX_free(ctx);
    return rc;
}

mdm_rc mdm_jwt_sign(const mdm_jwt_key_t *key, const mdm_jwt_claims_t *claims,
                    mdm_arena_t *arena, mdm_str_t *token_r, mdm_err_t *err)
{
    char jti[MDM_UUID_SIZE];
    char *signature;
    char *head;
    char *body;
    char *text;
    mdm_rc rc;

    if (needs_escape(claims->iss) || needs_escape(claims->service_type)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "a claim is no plain text");
    }
    rc = mdm_uuid_new(jti, err);
    if (rc != MDM_OK) {
        return rc;
    }
    text = mdm_arena_printf(arena,
                            "{\"iss\":\"%s\",\"iat\":%lld,\"jti\":\"%s\","
                            "\"service_type\":\"%s\"}",
                            claims->iss,
                            (long long)(claims->iat_us / MDM_SEC), jti,
                            claims->service_type);
    head = base64url(HEADER, sizeof(HEADER) - 1, arena);
    body = text != NULL ? base64url(text, strlen(text), arena) : NULL;
    text = head != NULL && body != NULL
               ? mdm_arena_printf(arena, "%s.%s", head, body)
               : NULL;
    if (text == NULL) {
        return mdm_err_nomem(err);
    }
    rc = sign(key->pkey, text, arena, &signature, err);
    if (rc != MDM_OK) {
        return rc;
    }
    text = mdm_arena_printf(arena, "%s.%s", text, signature);
    *token_r = mdm_str_from(text);
    return text != NULL ? MDM_OK : mdm_err_nomem(err);
}
