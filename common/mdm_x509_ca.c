/*
 * mdm_x509_ca.c - an authority's key and certificate: read, made, written.
 * See mdm_x509_ca.h; what it signs stands in mdm_x509_issue.c.
 */
#include "mdm_x509_ca.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "mdm_log.h"
#include "mdm_str.h"
#include "mdm_x509_int.h"

#define BITS_MIN 2048
#define BITS_MAX 8192
#define BITS_MADE 3072
#define YEARS_MADE 10

struct mdm_authority {
    atomic_uint owners;
    X509 *cert;
    EVP_PKEY *key;
    unsigned char *der;
    size_t der_n;
    char fingerprint[2 * MDM_SHA256_LEN + 1];
};

static mdm_rc bad(mdm_err_t *err, const char *why)
{
    return mdm_err_take_nomem() ? mdm_err_nomem(err)
                                : mdm_err_set(err, MDM_EINVAL, 0, "%s", why);
}

/* ---- whether it will do -------------------------------------------------- */

static mdm_rc check_key(EVP_PKEY *key, mdm_err_t *err)
{
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        return bad(err, "the key is not RSA: devices encrypt their requests "
                        "to it, which only RSA can do; make an RSA authority");
    }
    if (EVP_PKEY_get_bits(key) < BITS_MIN ||
        EVP_PKEY_get_bits(key) > BITS_MAX) {
        return bad(err, "the key has not 2048 to 8192 bits");
    }
    return MDM_OK;
}

static mdm_rc check_cert(X509 *cert, const char **weakness_r, mdm_err_t *err)
{
    uint32_t usage = X509_get_key_usage(cert); /* all ones: not limited */

    *weakness_r = NULL;
    if (X509_check_ca(cert) != 1) {
        return bad(err, "the certificate is not one of a certificate "
                        "authority (basicConstraints CA:TRUE)");
    }
    if ((usage & KU_KEY_CERT_SIGN) == 0) {
        return bad(err, "the certificate's key usage lacks keyCertSign");
    }
    if ((usage & KU_KEY_ENCIPHERMENT) == 0) {
        *weakness_r = "its key usage lacks keyEncipherment: macOS will not "
                      "enrol; make it with keyCertSign, cRLSign, "
                      "digitalSignature and keyEncipherment";
    } else if ((usage & KU_DIGITAL_SIGNATURE) == 0) {
        *weakness_r = "its key usage lacks digitalSignature: some systems "
                      "will not enrol; make it with keyCertSign, cRLSign, "
                      "digitalSignature and keyEncipherment";
    }
    return MDM_OK;
}

/* Takes over certificate and key. */
static mdm_rc finish(X509 *cert, EVP_PKEY *key, const char **weakness_r,
                     mdm_authority_t **authority_r, mdm_err_t *err)
{
    mdm_authority_t *a = calloc(1, sizeof(*a));
    unsigned char digest[MDM_SHA256_LEN];
    int n;
    mdm_rc rc;

    *authority_r = a;
    if (a == NULL) {
        X509_free(cert);
        EVP_PKEY_free(key);
        return mdm_err_nomem(err);
    }
    atomic_init(&a->owners, 1);
    a->cert = cert;
    a->key = key;
    rc = check_key(key, err);
    if (rc == MDM_OK && X509_check_private_key(cert, key) != 1) {
        rc = bad(err, "the certificate and the key do not belong together");
    }
    if (rc == MDM_OK) {
        rc = check_cert(cert, weakness_r, err);
    }
    if (rc == MDM_OK) {
        n = i2d_X509(cert, &a->der);
        a->der_n = n > 0 ? (size_t)n : 0;
        rc = n > 0 ? mdm_sha256(mdm_authority_cert(a), digest, err)
                   : mdm_err_nomem(err);
    }
    if (rc == MDM_OK) {
        mdm_hex_encode(digest, sizeof(digest), a->fingerprint);
    } else {
        mdm_authority_release(authority_r);
    }
    ERR_clear_error();
    return rc;
}

/* Its key has no pass phrase: the server has to come up by itself. */
static mdm_rc no_phrase(void *ctx, mdm_str_t *phrase_r, mdm_err_t *err)
{
    (void)ctx;
    (void)err;
    *phrase_r = MDM_STR_NONE;
    return MDM_OK;
}

mdm_rc mdm_authority_read(mdm_str_t cert, mdm_str_t key,
                          mdm_authority_t **authority_r,
                          const char **weakness_r, mdm_err_t *err)
{
    static const mdm_ask_t ask = {no_phrase, NULL};
    const char *weakness = NULL;
    mdm_material_t m = {0};
    X509 *first;
    mdm_rc rc;

    *authority_r = NULL;
    rc = mdm_material_read(cert, NULL, &m, err);
    if (rc == MDM_OK) {
        rc = mdm_material_read(key, &ask, &m, err);
        if (rc != MDM_OK && m.locked) {
            rc = bad(err, "the private key is encrypted; store it without a "
                          "pass phrase, readable for root alone");
        }
    }
    if (rc == MDM_OK) {
        rc = mdm_material_judge_pair(&m, err);
    }
    if (rc == MDM_OK) {
        first = sk_X509_shift(m.certs);
        rc = finish(first, m.key, &weakness, authority_r, err);
        m.key = NULL;
    }
    mdm_material_clear(&m);
    if (weakness_r != NULL) {
        *weakness_r = weakness;
    }
    return rc;
}

mdm_rc mdm_authority_load(mdm_str_t cert, mdm_str_t key,
                          mdm_authority_t **authority_r, mdm_err_t *err)
{
    const unsigned char *p = (const unsigned char *)cert.s;
    const unsigned char *q = (const unsigned char *)key.s;
    const char *weakness;
    EVP_PKEY *pkey;
    X509 *x509;

    *authority_r = NULL;
    ERR_clear_error();
    x509 = d2i_X509(NULL, &p, (long)cert.n);
    pkey = d2i_AutoPrivateKey(NULL, &q, (long)key.n);
    if (x509 == NULL || pkey == NULL) {
        X509_free(x509);
        EVP_PKEY_free(pkey);
        return bad(err, "the stored certificate authority is damaged");
    }
    return finish(x509, pkey, &weakness, authority_r, err);
}

/* ---- making one ---------------------------------------------------------- */

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_name(X509 *cert, const unsigned char serial[MDM_SERIAL_LEN])
{
    /* One of its own: issuers are looked for by name. */
    char text[32] = "MDM Device CA ";
    X509_NAME *name = X509_get_subject_name(cert);

    mdm_hex_encode(serial + 1, 4, text + strlen(text));
    return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)text, -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(cert, name) == 1;
}

static bool fill(X509 *cert, EVP_PKEY *key, int64_t now_us)
{
    time_t now = (time_t)(now_us / MDM_SEC);
    unsigned char serial[MDM_SERIAL_LEN];
    BIGNUM *number = NULL;
    bool ok;

    ok = RAND_bytes(serial, sizeof(serial)) == 1;
    serial[0] = (serial[0] & 0x3fU) | 0x40U; /* positive, of full length */
    number = BN_bin2bn(serial, sizeof(serial), NULL);
    ok = ok && number != NULL && X509_set_version(cert, X509_VERSION_3) == 1 &&
         BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL &&
         ASN1_TIME_adj(X509_getm_notBefore(cert), now, -1, 0) != NULL &&
         ASN1_TIME_adj(X509_getm_notAfter(cert), now,
                       YEARS_MADE * 365 + YEARS_MADE / 4, 0) != NULL &&
         set_name(cert, serial) && X509_set_pubkey(cert, key) == 1 &&
         add_extension(cert, NID_basic_constraints,
                       "critical,CA:TRUE,pathlen:0") &&
         add_extension(cert, NID_key_usage,
                       "critical,digitalSignature,keyEncipherment,"
                       "keyCertSign,cRLSign") &&
         add_extension(cert, NID_subject_key_identifier, "hash") &&
         X509_sign(cert, key, EVP_sha256()) > 0;
    BN_free(number);
    return ok;
}

mdm_rc mdm_authority_make(int64_t now_us, mdm_authority_t **authority_r,
                          mdm_err_t *err)
{
    const char *weakness;
    EVP_PKEY *key;
    X509 *cert = X509_new();

    *authority_r = NULL;
    ERR_clear_error();
    key = cert != NULL ? EVP_RSA_gen(BITS_MADE) : NULL;
    if (key == NULL || !fill(cert, key, now_us)) {
        X509_free(cert);
        EVP_PKEY_free(key);
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "cannot make a certificate authority");
    }
    return finish(cert, key, &weakness, authority_r, err);
}

mdm_rc mdm_authority_write_key(const mdm_authority_t *a, mdm_arena_t *arena,
                               mdm_str_t *key_r, mdm_err_t *err)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(a->key);
    unsigned char *der = NULL;
    int n = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : 0;

    PKCS8_PRIV_KEY_INFO_free(info);
    if (n <= 0) {
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "cannot write a key");
    }
    key_r->s = mdm_arena_dup(arena, der, (size_t)n);
    key_r->n = (size_t)n;
    OPENSSL_clear_free(der, (size_t)n);
    return key_r->s != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* ---- owners, and what it is ---------------------------------------------- */

mdm_authority_t *mdm_authority_keep(mdm_authority_t *authority)
{
    (void)atomic_fetch_add(&authority->owners, 1);
    return authority;
}

void mdm_authority_release(mdm_authority_t **authority)
{
    mdm_authority_t *a = *authority;

    *authority = NULL;
    if (a != NULL && atomic_fetch_sub(&a->owners, 1) == 1) {
        X509_free(a->cert);
        EVP_PKEY_free(a->key); /* wipes what is secret of it */
        OPENSSL_free(a->der);
        free(a);
    }
}

mdm_str_t mdm_authority_cert(const mdm_authority_t *a)
{
    return (mdm_str_t){(const char *)a->der, a->der_n};
}

mdm_str_t mdm_authority_fingerprint(const mdm_authority_t *a)
{
    return mdm_str_from(a->fingerprint);
}

int64_t mdm_authority_not_after(const mdm_authority_t *a)
{
    return mdm_x509_time_us(X509_get0_notAfter(a->cert));
}

void *mdm_authority_pkey(const mdm_authority_t *a)
{
    return a->key;
}

void *mdm_authority_x509(const mdm_authority_t *a)
{
    return a->cert;
}
