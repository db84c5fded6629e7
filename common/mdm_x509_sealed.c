/*
 * mdm_x509_sealed.c - what is encrypted, before and while it is opened: how
 * much work that is, and OpenSSL's traditional form in ciphers that it has
 * retired, which its own reader takes from the host's library context alone.
 * Any thread; no state.
 */
#include "mdm_x509_int.h"

#include <string.h>

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pkcs12.h>

#include "mdm_str.h"

/* OpenSSL takes 2048 rounds when nobody says otherwise, others up to some
 * hundred thousand.  Two millions are a second or two. */
#define ROUNDS_MAX 2000000
#define SALT_LEN 8 /* of the traditional form */

/* ---- rounds ------------------------------------------------------------- */

static bool is_bearable(const ASN1_INTEGER *rounds)
{
    int64_t n;

    return rounds == NULL || (ASN1_INTEGER_get_int64(&n, rounds) == 1 &&
                              n >= 0 && n <= ROUNDS_MAX);
}

/* PKCS#5 version 2: the key derivation stands one level deeper.  What cannot
 * be read here cannot be opened either, and costs nothing. */
static bool is_quick_pbes2(const X509_ALGOR *algorithm)
{
    PBE2PARAM *both = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM),
                                                algorithm->parameter);
    PBKDF2PARAM *kdf = NULL;
    bool yes = true;

    if (both != NULL &&
        OBJ_obj2nid(both->keyfunc->algorithm) == NID_id_pbkdf2) {
        kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM),
                                        both->keyfunc->parameter);
        yes = kdf == NULL || is_bearable(kdf->iter);
    }
    PBKDF2PARAM_free(kdf);
    PBE2PARAM_free(both);
    return yes;
}

static bool is_quick(const X509_ALGOR *algorithm)
{
    PBEPARAM *pbe;
    bool yes;

    if (OBJ_obj2nid(algorithm->algorithm) == NID_pbes2) {
        return is_quick_pbes2(algorithm);
    }
    pbe = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM),
                                    algorithm->parameter);
    yes = pbe == NULL || is_bearable(pbe->iter);
    PBEPARAM_free(pbe);
    return yes;
}

bool mdm_x509_is_quick_pkcs8(const X509_SIG *sealed)
{
    const X509_ALGOR *algorithm = NULL;

    X509_SIG_get0(sealed, &algorithm, NULL);
    return is_quick(algorithm);
}

/* The bags of a part that is not encrypted as a whole. */
static bool are_quick_bags(PKCS7 *part)
{
    STACK_OF(PKCS12_SAFEBAG) *bags = PKCS12_unpack_p7data(part);
    const PKCS12_SAFEBAG *bag;
    bool yes = true;
    int i;

    for (i = 0; yes && i < sk_PKCS12_SAFEBAG_num(bags); i++) {
        bag = sk_PKCS12_SAFEBAG_value(bags, i);
        yes = PKCS12_SAFEBAG_get_nid(bag) != NID_pkcs8ShroudedKeyBag ||
              mdm_x509_is_quick_pkcs8(PKCS12_SAFEBAG_get0_pkcs8(bag));
    }
    sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
    return yes;
}

bool mdm_x509_is_quick_pkcs12(PKCS12 *p12)
{
    STACK_OF(PKCS7) *parts = PKCS12_unpack_authsafes(p12);
    const ASN1_INTEGER *rounds = NULL;
    PKCS7 *part;
    bool yes;
    int i;

    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, p12);
    yes = is_bearable(rounds);
    for (i = 0; yes && i < sk_PKCS7_num(parts); i++) {
        part = sk_PKCS7_value(parts, i);
        if (PKCS7_type_is_data(part)) {
            yes = are_quick_bags(part);
        } else if (PKCS7_type_is_encrypted(part) &&
                   part->d.encrypted != NULL &&
                   part->d.encrypted->enc_data != NULL) {
            yes = is_quick(part->d.encrypted->enc_data->algorithm);
        }
    }
    sk_PKCS7_pop_free(parts, PKCS7_free);
    ERR_clear_error();
    return yes;
}

/* ---- the traditional form ----------------------------------------------- */

typedef struct dek {
    EVP_CIPHER *cipher;
    EVP_MD *md5;
    unsigned char iv[EVP_MAX_IV_LENGTH];
} dek_t;

/* "DES-CBC,0123...", what stands behind "DEK-Info:". */
static bool read_dek(mdm_str_t value, OSSL_LIB_CTX *lib, dek_t *dek)
{
    char name[40];
    mdm_str_t iv = value;
    mdm_str_t cipher = mdm_str_trim(mdm_str_split(&iv, ','));
    int n;

    (void)mdm_str_printable(cipher, name, sizeof(name));
    dek->cipher = EVP_CIPHER_fetch(lib, name, NULL);
    dek->md5 = EVP_MD_fetch(lib, "MD5", NULL);
    iv = mdm_str_trim(iv);
    if (dek->cipher == NULL || dek->md5 == NULL ||
        EVP_CIPHER_get_mode(dek->cipher) != EVP_CIPH_CBC_MODE) {
        return false;
    }
    n = EVP_CIPHER_get_iv_length(dek->cipher);
    return n >= SALT_LEN && mdm_hex_decode(iv, dek->iv, (size_t)n);
}

/* Key from the pass phrase by OpenSSL's old way, one round of MD5; decrypts
 * in place. */
static bool decrypt(const dek_t *dek, mdm_str_t phrase, mdm_buf_t *buf)
{
    unsigned char key[EVP_MAX_KEY_LENGTH];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *data = (unsigned char *)buf->data;
    int n = 0;
    int last = 0;
    bool ok;

    ok = ctx != NULL &&
         EVP_BytesToKey(dek->cipher, dek->md5, dek->iv,
                        (const unsigned char *)phrase.s, (int)phrase.n, 1,
                        key, NULL) > 0 &&
         EVP_DecryptInit_ex2(ctx, dek->cipher, key, dek->iv, NULL) == 1 &&
         EVP_DecryptUpdate(ctx, data, &n, data, (int)buf->len) == 1 &&
         EVP_DecryptFinal_ex(ctx, data + n, &last) == 1;
    buf->len = ok ? (size_t)(n + last) : 0;
    EVP_CIPHER_CTX_free(ctx);
    mdm_wipe(key, sizeof(key));
    return ok;
}

EVP_PKEY *mdm_x509_open_traditional(mdm_str_t value, mdm_str_t der,
                                    mdm_str_t phrase, OSSL_LIB_CTX *lib)
{
    const unsigned char *at;
    EVP_PKEY *key = NULL;
    mdm_buf_t buf;
    dek_t dek = {0};

    mdm_buf_init_secret(&buf, der.n + EVP_MAX_BLOCK_LENGTH);
    if (read_dek(value, lib, &dek) &&
        mdm_buf_append(&buf, der.s, der.n) == MDM_OK &&
        mdm_buf_reserve(&buf, EVP_MAX_BLOCK_LENGTH) == MDM_OK &&
        decrypt(&dek, phrase, &buf)) {
        at = (const unsigned char *)buf.data;
        key = d2i_AutoPrivateKey(NULL, &at, (long)buf.len);
    }
    mdm_buf_clear(&buf);
    EVP_CIPHER_free(dek.cipher);
    EVP_MD_free(dek.md5);
    return key;
}
