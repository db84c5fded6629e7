/*
 * mdm_x509.c - push certificates and their keys from PEM; see mdm_x509.h.
 * Private keys stand in mdm_x509_key.c, trust of device identities in
 * mdm_x509_trust.c.
 */
#include "mdm_x509_int.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define PEM_MAX (256 * 1024)
#define CERTS_MAX 64
#define TOPIC_PREFIX "com.apple.mgmt."

int64_t mdm_x509_time_us(const ASN1_TIME *at)
{
    struct tm tm;

    if (at == NULL || ASN1_TIME_to_tm(at, &tm) != 1) {
        return 0;
    }
    return (mdm_days_from_civil(tm.tm_year + 1900, (unsigned)tm.tm_mon + 1,
                                (unsigned)tm.tm_mday) *
                86400 +
            tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec) *
           MDM_SEC;
}

BIO *mdm_x509_open_pem(mdm_str_t pem, mdm_rc *rc, mdm_err_t *err)
{
    BIO *bio;

    *rc = MDM_OK;
    if (pem.n == 0 || pem.n > PEM_MAX) {
        *rc = mdm_err_set(err, MDM_EINVAL, 0,
                          pem.n == 0 ? "nothing there"
                                     : "longer than a certificate file can be");
        return NULL;
    }
    bio = BIO_new_mem_buf(pem.s, (int)pem.n);
    if (bio == NULL) {
        *rc = mdm_err_nomem(err);
    }
    return bio;
}

mdm_rc mdm_x509_read_certs(mdm_str_t pem, STACK_OF(X509) **certs_r,
                           mdm_err_t *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    mdm_rc rc;
    BIO *bio = mdm_x509_open_pem(pem, &rc, err);
    X509 *cert;

    *certs_r = NULL;
    while (rc == MDM_OK && certs != NULL &&
           (cert = PEM_read_bio_X509(bio, NULL, mdm_x509_passphrase, NULL)) !=
               NULL) {
        if (sk_X509_num(certs) >= CERTS_MAX || !sk_X509_push(certs, cert)) {
            X509_free(cert);
            rc = mdm_err_set(err, MDM_EINVAL, 0, "more than %d certificates",
                             CERTS_MAX);
        }
    }
    if (rc == MDM_OK && certs == NULL) {
        rc = mdm_err_nomem(err);
    }
    if (rc == MDM_OK && ERR_GET_REASON(ERR_peek_last_error()) !=
                            PEM_R_NO_START_LINE) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "a certificate or key in it is damaged");
    }
    if (rc == MDM_OK && sk_X509_num(certs) == 0) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "no certificate (\"BEGIN CERTIFICATE\") in it");
    }
    ERR_clear_error();
    BIO_free(bio);
    if (rc != MDM_OK) {
        sk_X509_pop_free(certs, X509_free);
        return rc;
    }
    *certs_r = certs;
    return MDM_OK;
}

/* Moves the certificate that belongs to the key to the front. */
static mdm_rc leaf_first(STACK_OF(X509) *certs, EVP_PKEY *key, mdm_err_t *err)
{
    X509 *cert;
    int i;

    for (i = 0; i < sk_X509_num(certs); i++) {
        cert = sk_X509_value(certs, i);
        if (X509_check_private_key(cert, key) == 1) {
            ERR_clear_error();
            (void)sk_X509_delete(certs, i);
            return sk_X509_unshift(certs, cert) > 0 ? MDM_OK
                                                    : mdm_err_nomem(err);
        }
    }
    ERR_clear_error();
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "certificate and private key do not belong together");
}

/* The one UID of the subject. */
static mdm_rc read_topic(const X509 *cert, mdm_arena_t *arena,
                         mdm_str_t *topic_r, mdm_err_t *err)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    unsigned char *utf8 = NULL;
    int at = X509_NAME_get_index_by_NID(name, NID_userId, -1);
    int n;

    if (at < 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not a push certificate: its subject has no UID");
    }
    if (X509_NAME_get_index_by_NID(name, NID_userId, at) >= 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not a push certificate: its subject has two UIDs");
    }
    n = ASN1_STRING_to_UTF8(
        &utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (n < 0) {
        return mdm_err_openssl(err, MDM_EINVAL, 0, "unreadable UID");
    }
    *topic_r = (mdm_str_t){mdm_arena_dup(arena, utf8, (size_t)n), (size_t)n};
    OPENSSL_free(utf8);
    if (topic_r->s == NULL) {
        return mdm_err_nomem(err);
    }
    if (!mdm_str_starts(*topic_r, TOPIC_PREFIX) || n > MDM_TOPIC_MAX ||
        strlen(topic_r->s) != (size_t)n) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not an MDM push certificate: the UID of its "
                           "subject does not begin with " TOPIC_PREFIX);
    }
    return MDM_OK;
}

static mdm_rc fingerprint(const X509 *cert,
                          unsigned char digest[MDM_SHA256_LEN], mdm_err_t *err)
{
    unsigned int n = 0;

    if (X509_digest(cert, EVP_sha256(), digest, &n) != 1) {
        return mdm_err_openssl(err, MDM_EINTERNAL, 0,
                               "cannot digest a certificate");
    }
    return MDM_OK;
}

static mdm_rc bio_to_arena(BIO *bio, mdm_arena_t *arena, mdm_str_t *out_r,
                           mdm_err_t *err)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);

    out_r->s = mdm_arena_dup(arena, data, (size_t)n);
    out_r->n = (size_t)n;
    return out_r->s != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* Normalised texts of certificates and key. */
static mdm_rc write_pair(STACK_OF(X509) *certs, EVP_PKEY *key,
                         mdm_arena_t *arena, mdm_keypair_t *pair,
                         mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    BIO *secret = BIO_new(BIO_s_secmem());
    mdm_rc rc = MDM_OK;
    int i;

    if (bio == NULL || secret == NULL) {
        rc = mdm_err_nomem(err);
    }
    for (i = 0; rc == MDM_OK && i < sk_X509_num(certs); i++) {
        if (PEM_write_bio_X509(bio, sk_X509_value(certs, i)) != 1) {
            rc = mdm_err_openssl(err, MDM_EINTERNAL, 0,
                                 "cannot write a certificate");
        }
    }
    if (rc == MDM_OK && PEM_write_bio_PKCS8PrivateKey(
                            secret, key, NULL, NULL, 0, NULL, NULL) != 1) {
        rc = mdm_err_openssl(err, MDM_EINTERNAL, 0, "cannot write a key");
    }
    if (rc == MDM_OK) {
        rc = bio_to_arena(bio, arena, &pair->cert_pem, err);
    }
    if (rc == MDM_OK) {
        rc = bio_to_arena(secret, arena, &pair->key_pem, err);
    }
    BIO_free(bio);
    BIO_free(secret);
    return rc;
}

/* Two files put together without a newline between them leave the end of
 * one block and the begin of the next in one line: "-----" "-----BEGIN". */
static mdm_rc unglue(mdm_str_t pem, mdm_arena_t *arena, mdm_str_t *out_r,
                     mdm_err_t *err)
{
    static const char seam[] = "----------BEGIN ";
    mdm_str_t rest = pem;
    mdm_buf_t buf;
    const char *at;
    size_t n;

    *out_r = pem;
    if (pem.n > PEM_MAX ||
        memmem(pem.s, pem.n, seam, sizeof(seam) - 1) == NULL) {
        return MDM_OK;
    }
    mdm_buf_init_secret(&buf, 2 * PEM_MAX);
    while (rest.n > 0) {
        at = memmem(rest.s, rest.n, seam, sizeof(seam) - 1);
        n = at != NULL ? (size_t)(at - rest.s) + 5 : rest.n;
        (void)mdm_buf_append(&buf, rest.s, n);
        (void)mdm_buf_puts(&buf, "\n");
        rest.s += n;
        rest.n -= n;
    }
    n = buf.rc == MDM_OK && mdm_arena_str(arena, mdm_buf_str(&buf), out_r);
    mdm_buf_clear(&buf);
    return n != 0 ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_keypair_read(mdm_str_t pem, mdm_str_t passphrase,
                        mdm_arena_t *arena, mdm_keypair_t *pair_r,
                        mdm_err_t *err)
{
    unsigned char digest[MDM_SHA256_LEN];
    STACK_OF(X509) *certs = NULL;
    EVP_PKEY *key = NULL;
    X509 *leaf;
    mdm_rc rc;

    memset(pair_r, 0, sizeof(*pair_r));
    ERR_clear_error();
    rc = unglue(pem, arena, &pem, err);
    if (rc == MDM_OK) {
        rc = mdm_x509_read_certs(pem, &certs, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_x509_read_key(pem, passphrase, &key, &pair_r->locked, err);
    }
    if (rc == MDM_OK) {
        rc = leaf_first(certs, key, err);
    }
    if (rc == MDM_OK) {
        leaf = sk_X509_value(certs, 0);
        pair_r->not_before_us = mdm_x509_time_us(X509_get0_notBefore(leaf));
        pair_r->not_after_us = mdm_x509_time_us(X509_get0_notAfter(leaf));
        rc = read_topic(leaf, arena, &pair_r->topic, err);
        if (rc == MDM_OK) {
            rc = fingerprint(leaf, digest, err);
        }
        mdm_hex_encode(digest, sizeof(digest), pair_r->fingerprint);
    }
    if (rc == MDM_OK) {
        rc = write_pair(certs, key, arena, pair_r, err);
    }
    sk_X509_pop_free(certs, X509_free);
    EVP_PKEY_free(key);
    return rc;
}

mdm_rc mdm_x509_check_bundle(mdm_str_t pem, mdm_err_t *err)
{
    BIO *bio = pem.n <= INT_MAX ? BIO_new_mem_buf(pem.s, (int)pem.n) : NULL;
    X509 *cert;

    cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, mdm_x509_passphrase,
                                           NULL)
                       : NULL;
    BIO_free(bio);
    X509_free(cert);
    ERR_clear_error();
    return cert != NULL
               ? MDM_OK
               : mdm_err_set(err, MDM_EINVAL, 0,
                             "no readable certificate (\"BEGIN "
                             "CERTIFICATE\") in it");
}
