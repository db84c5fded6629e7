/*
 * mdm_x509.c - push certificates with their keys, and bundles of
 * certificates; see mdm_x509.h.  What certificates and keys are read from
 * stands in mdm_x509_material.c, trust of device identities in
 * mdm_x509_trust.c.
 */
#include "mdm_x509_int.h"

#include <limits.h>
#include <stdio.h>
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

/* OpenSSL's pem_password_cb: a server has no terminal to ask on. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static BIO *open_pem(mdm_str_t pem, mdm_rc *rc, mdm_err_t *err)
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
    BIO *bio = open_pem(pem, &rc, err);
    X509 *cert;

    *certs_r = NULL;
    while (rc == MDM_OK && certs != NULL &&
           (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) !=
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

/* What the caller of mdm_keypair_read() gave, every time. */
static mdm_rc given(void *ctx, mdm_str_t *phrase_r, mdm_err_t *err)
{
    (void)err;
    *phrase_r = *(const mdm_str_t *)ctx;
    return MDM_OK;
}

static mdm_rc describe(const X509 *leaf, mdm_arena_t *arena,
                       mdm_keypair_t *pair, mdm_err_t *err)
{
    unsigned char digest[MDM_SHA256_LEN];
    char topic[MDM_TOPIC_MAX + 1];
    mdm_rc rc;

    pair->not_before_us = mdm_x509_time_us(X509_get0_notBefore(leaf));
    pair->not_after_us = mdm_x509_time_us(X509_get0_notAfter(leaf));
    rc = mdm_x509_topic(leaf, topic, err);
    if (rc == MDM_OK &&
        !mdm_arena_str(arena, mdm_str_from(topic), &pair->topic)) {
        rc = mdm_err_nomem(err);
    }
    if (rc == MDM_OK) {
        rc = mdm_x509_judge_key(X509_get0_pubkey(leaf),
                                "the certificate's key", err);
    }
    if (rc == MDM_OK) {
        rc = fingerprint(leaf, digest, err);
    }
    if (rc == MDM_OK) {
        mdm_hex_encode(digest, sizeof(digest), pair->fingerprint);
    }
    return rc;
}

static bool is_cert_alone(const mdm_material_t *m)
{
    return sk_X509_num(m->certs) > 0 && m->key == NULL && !m->locked &&
           !m->csr && !m->public_key && !m->pkcs12;
}

mdm_rc mdm_keypair_read(const mdm_str_t *parts, size_t nparts,
                        mdm_str_t passphrase, mdm_arena_t *arena,
                        mdm_keypair_t *pair_r, mdm_err_t *err)
{
    const mdm_ask_t ask = {given, &passphrase};
    mdm_material_t m = {0};
    mdm_rc rc = MDM_OK;
    size_t i;

    memset(pair_r, 0, sizeof(*pair_r));
    for (i = 0; rc == MDM_OK && i < nparts; i++) {
        rc = mdm_material_read(parts[i], &ask, &m, err);
    }
    pair_r->locked = m.locked;
    if (rc == MDM_OK) {
        rc = mdm_material_judge_pair(&m, err);
        pair_r->lacks_key = rc == MDM_EINVAL && is_cert_alone(&m) &&
                            describe(sk_X509_value(m.certs, 0), arena, pair_r,
                                     NULL) == MDM_OK;
    }
    if (rc == MDM_OK) {
        rc = describe(sk_X509_value(m.certs, 0), arena, pair_r, err);
    }
    if (rc == MDM_OK) {
        rc = write_pair(m.certs, m.key, arena, pair_r, err);
    }
    mdm_material_clear(&m);
    ERR_clear_error();
    return rc;
}

static mdm_rc list_certs(const mdm_material_t *m, mdm_arena_t *arena,
                         mdm_str_t *certs, size_t max, size_t *n_r,
                         mdm_err_t *err)
{
    unsigned char *at;
    int i;
    int n;

    if (sk_X509_num(m->certs) <= 0 || (size_t)sk_X509_num(m->certs) > max) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           sk_X509_num(m->certs) <= 0
                               ? "there is no certificate in it"
                               : "there are more than %zu certificates in it",
                           max);
    }
    for (i = 0; i < sk_X509_num(m->certs); i++) {
        n = i2d_X509(sk_X509_value(m->certs, i), NULL);
        at = n > 0 ? mdm_arena_alloc(arena, (size_t)n) : NULL;
        if (at == NULL) {
            return mdm_err_nomem(err);
        }
        certs[i] = (mdm_str_t){(const char *)at, (size_t)n};
        (void)i2d_X509(sk_X509_value(m->certs, i), &at);
    }
    *n_r = (size_t)sk_X509_num(m->certs);
    return MDM_OK;
}

mdm_rc mdm_x509_list(mdm_str_t data, mdm_arena_t *arena, mdm_str_t *certs_r,
                     size_t max, size_t *n_r, mdm_err_t *err)
{
    mdm_material_t m = {0};
    mdm_rc rc = mdm_material_read(data, NULL, &m, err);

    *n_r = 0;
    if (rc == MDM_OK) {
        rc = list_certs(&m, arena, certs_r, max, n_r, err);
    }
    mdm_material_clear(&m);
    return rc;
}

/* A name that was too long may end within a character, which JSON refuses. */
static void drop_half_character(char *text)
{
    size_t n = strlen(text);
    size_t i = n;
    unsigned char first;

    while (i > 0 && n - i < 4 && ((unsigned char)text[i - 1] & 0xc0) == 0x80) {
        i--;
    }
    first = i > 0 ? (unsigned char)text[i - 1] : 0;
    if (first >= 0xc0 &&
        n - i < (first >= 0xf0 ? 3u : first >= 0xe0 ? 2u : 1u)) {
        text[i - 1] = '\0';
    }
}

bool mdm_x509_print_subject(const X509 *cert,
                            char dst[MDM_TRUST_SUBJECT_SIZE])
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len;

    dst[0] = '\0';
    if (bio == NULL ||
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0,
                           XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
        BIO_free(bio);
        return false;
    }
    len = BIO_get_mem_data(bio, &text);
    (void)snprintf(dst, MDM_TRUST_SUBJECT_SIZE, "%.*s",
                   len > 0 ? (int)len : 0, text);
    drop_half_character(dst);
    mdm_err_printable(dst);
    BIO_free(bio);
    return true;
}

void mdm_x509_subject(mdm_str_t der, char dst[MDM_TRUST_SUBJECT_SIZE])
{
    const unsigned char *at = (const unsigned char *)der.s;
    X509 *cert = d2i_X509(NULL, &at, (long)der.n);

    dst[0] = '\0';
    if (cert != NULL) {
        (void)mdm_x509_print_subject(cert, dst);
    }
    X509_free(cert);
    ERR_clear_error();
}

bool mdm_x509_is_root(mdm_str_t der)
{
    const unsigned char *at = (const unsigned char *)der.s;
    X509 *cert = d2i_X509(NULL, &at, (long)der.n);
    bool is = cert != NULL && X509_NAME_cmp(X509_get_subject_name(cert),
                                           X509_get_issuer_name(cert)) == 0;

    X509_free(cert);
    ERR_clear_error();
    return is;
}

mdm_rc mdm_x509_check_bundle(mdm_str_t pem, mdm_err_t *err)
{
    BIO *bio = pem.n <= INT_MAX ? BIO_new_mem_buf(pem.s, (int)pem.n) : NULL;
    X509 *cert;

    cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase,
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
