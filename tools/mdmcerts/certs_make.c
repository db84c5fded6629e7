/*
 * certs_make.c - mdmcerts: new keys, signing requests and certificates, and
 * their text forms.  Nothing here reads what others made.
 */
#include <limits.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "certs_pki.h"
#include "mdm_x509_material.h"

/* A guess at a password costs this many hashes: a quarter of a second. */
#define PBKDF2_ROUNDS 600000
#define CERT_SECONDS (365L * 86400)
#define SERIAL_BITS 63

/* What cannot be the user's fault. */
static mdm_rc broken(const char *doing, mdm_err_t *err)
{
    ERR_clear_error();
    return mdm_err_set(err, MDM_EINTERNAL, 0,
                       "%s failed inside OpenSSL: memory is out, or OpenSSL "
                       "was set up without what is needed (RSA, SHA-256, "
                       "AES-256)",
                       doing);
}

mdm_rc certs_key_new(EVP_PKEY **key_r, mdm_err_t *err)
{
    *key_r = EVP_RSA_gen(MDM_RSA_BITS_MIN);
    return *key_r != NULL ? MDM_OK : broken("making a key", err);
}

/* Moves a memory BIO's content to the end of a buffer. */
static mdm_rc take(BIO *bio, bool ok, const char *doing, mdm_buf_t *buf,
                   mdm_err_t *err)
{
    char *data = NULL;
    long n = ok ? BIO_get_mem_data(bio, &data) : 0;
    mdm_rc rc = MDM_OK;

    if (n <= 0) {
        rc = broken(doing, err);
    } else if (mdm_buf_append(buf, data, (size_t)n) != MDM_OK) {
        rc = mdm_err_nomem(err);
    }
    BIO_free(bio);
    return rc;
}

mdm_rc certs_key_seal(const EVP_PKEY *key, const certs_secret_t *secret,
                      mdm_buf_t *pem, mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
    X509_ALGOR *how = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), PBKDF2_ROUNDS,
                                        NULL, 0, NULL, NID_hmacWithSHA256);
    X509_SIG *sealed = NULL;
    bool ok;

    if (bio != NULL && plain != NULL && how != NULL) {
        sealed = PKCS8_set0_pbe(secret->text, (int)secret->n, plain, how);
    }
    if (sealed == NULL) {
        X509_ALGOR_free(how);
    }
    ok = sealed != NULL && PEM_write_bio_PKCS8(bio, sealed) == 1;
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(plain);
    return take(bio, ok, "encrypting the key", pem, err);
}

static bool name_entry(X509_NAME *name, int nid, const char *value)
{
    return value == NULL ||
           X509_NAME_add_entry_by_NID(name, nid, MBSTRING_ASC,
                                      (const unsigned char *)value, -1, -1,
                                      0) == 1;
}

mdm_rc certs_csr_new(EVP_PKEY *key, const char *name, const char *country,
                     X509_REQ **csr_r, mdm_err_t *err)
{
    X509_REQ *csr = X509_REQ_new();
    X509_NAME *subject = csr != NULL ? X509_REQ_get_subject_name(csr) : NULL;

    *csr_r = NULL;
    if (subject == NULL || X509_REQ_set_version(csr, X509_REQ_VERSION_1) != 1 ||
        !name_entry(subject, NID_commonName, name) ||
        !name_entry(subject, NID_countryName, country) ||
        X509_REQ_set_pubkey(csr, key) != 1 ||
        X509_REQ_sign(csr, key, EVP_sha256()) <= 0) {
        X509_REQ_free(csr);
        return broken("making the request", err);
    }
    *csr_r = csr;
    return MDM_OK;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    bool ok = number != NULL &&
              BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY,
                      BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;

    BN_free(number);
    return ok;
}

mdm_rc certs_cert_new(EVP_PKEY *key, const char *name, X509 **cert_r,
                      mdm_err_t *err)
{
    X509 *cert = X509_new();
    X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;

    *cert_r = NULL;
    if (subject == NULL || X509_set_version(cert, X509_VERSION_3) != 1 ||
        !set_serial(cert) || !name_entry(subject, NID_commonName, name) ||
        X509_set_issuer_name(cert, subject) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(cert), 0) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(cert), CERT_SECONDS) == NULL ||
        X509_set_pubkey(cert, key) != 1 ||
        X509_sign(cert, key, EVP_sha256()) <= 0) {
        X509_free(cert);
        return broken("making a certificate", err);
    }
    *cert_r = cert;
    return MDM_OK;
}

mdm_rc certs_csr_der(const X509_REQ *csr, mdm_buf_t *der, mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && i2d_X509_REQ_bio(bio, (X509_REQ *)csr) == 1;

    return take(bio, ok, "encoding the request", der, err);
}

mdm_rc certs_csr_pem(const X509_REQ *csr, mdm_buf_t *pem, mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && PEM_write_bio_X509_REQ(bio, (X509_REQ *)csr) == 1;

    return take(bio, ok, "encoding the request", pem, err);
}

mdm_rc certs_cert_pem(const X509 *cert, mdm_buf_t *pem, mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && PEM_write_bio_X509(bio, (X509 *)cert) == 1;

    return take(bio, ok, "encoding the certificate", pem, err);
}
