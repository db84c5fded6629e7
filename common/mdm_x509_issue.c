/*
 * mdm_x509_issue.c - identities that an authority signs.  See mdm_x509_ca.h.
 *
 * Nothing of a request gets into a certificate but its key and, where nobody
 * here knows better, its subject; extensions are ours.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "mdm_log.h"
#include "mdm_str.h"
#include "mdm_x509_ca.h"
#include "mdm_x509_int.h"

#define BACKDATE_US (600 * MDM_SEC) /* clocks of devices differ */

static mdm_rc fault(mdm_err_t *err)
{
    return mdm_err_take_nomem()
               ? mdm_err_nomem(err)
               : mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                             "a certificate cannot be signed");
}

static X509_NAME *read_name(mdm_str_t der)
{
    const unsigned char *p = (const unsigned char *)der.s;
    X509_NAME *name = d2i_X509_NAME(NULL, &p, (long)der.n);

    if (name != NULL && p != (const unsigned char *)der.s + der.n) {
        X509_NAME_free(name);
        name = NULL;
    }
    return name;
}

static bool add_entry(X509_NAME *name, int nid, mdm_str_t value)
{
    return value.s == NULL ||
           X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8,
                                      (const unsigned char *)value.s,
                                      (int)value.n, -1, 0) == 1;
}

static mdm_rc set_subject(X509 *cert, const mdm_issue_t *issue, mdm_err_t *err)
{
    X509_NAME *name;
    mdm_rc rc = MDM_OK;

    name = issue->subject.s != NULL ? read_name(issue->subject)
                                    : X509_NAME_new();
    if (name == NULL) {
        return mdm_err_take_nomem()
                   ? mdm_err_nomem(err)
                   : mdm_err_set(err, MDM_EINVAL, 0,
                                 "the subject is unreadable");
    }
    if ((issue->subject.s == NULL &&
         (!add_entry(name, NID_commonName, issue->common_name) ||
          !add_entry(name, NID_serialNumber, issue->serial_number))) ||
        X509_set_subject_name(cert, name) != 1) {
        rc = fault(err);
    }
    X509_NAME_free(name);
    return rc;
}

static mdm_rc set_key(X509 *cert, mdm_str_t spki, mdm_err_t *err)
{
    const unsigned char *p = (const unsigned char *)spki.s;
    X509_PUBKEY *key = d2i_X509_PUBKEY(NULL, &p, (long)spki.n);
    EVP_PKEY *pkey = key != NULL ? X509_PUBKEY_get0(key) : NULL;
    mdm_rc rc = MDM_OK;

    if (pkey == NULL || X509_set_pubkey(cert, pkey) != 1) {
        rc = mdm_err_take_nomem()
                 ? mdm_err_nomem(err)
                 : mdm_err_set(err, MDM_EINVAL, 0, "the key is unreadable");
    }
    X509_PUBKEY_free(key);
    return rc;
}

/* From ten minutes ago to its end or the authority's. */
static bool set_times(X509 *cert, const X509 *ca, const mdm_issue_t *issue)
{
    int64_t begin = mdm_x509_time_us(X509_get0_notBefore(ca));
    int64_t end = mdm_x509_time_us(X509_get0_notAfter(ca));
    int64_t from = issue->now_us - BACKDATE_US;
    int64_t to = issue->now_us + issue->life_us;

    from = from > begin ? from : begin;
    to = to < end ? to : end;
    return ASN1_TIME_set(X509_getm_notBefore(cert),
                         (time_t)(from / MDM_SEC)) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(to / MDM_SEC)) !=
               NULL;
}

static bool set_serial(X509 *cert, unsigned char serial[MDM_SERIAL_LEN])
{
    BIGNUM *number;
    bool ok;

    if (RAND_bytes(serial, MDM_SERIAL_LEN) != 1) {
        return false;
    }
    serial[0] = (serial[0] & 0x3fU) | 0x40U; /* positive, of full length */
    number = BN_bin2bn(serial, MDM_SERIAL_LEN, NULL);
    ok = number != NULL &&
         BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static bool add_extensions(X509 *cert, X509 *ca)
{
    static const struct {
        int nid;
        const char *value;
        bool optional;
    } all[] = {{NID_basic_constraints, "critical,CA:FALSE", false},
               {NID_key_usage, "critical,digitalSignature,keyEncipherment",
                false},
               {NID_ext_key_usage, "clientAuth", false},
               {NID_subject_key_identifier, "hash", false},
               /* Not every authority from a file has a key identifier. */
               {NID_authority_key_identifier, "keyid", true}};
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok = true;
    size_t i;

    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    for (i = 0; ok && i < MDM_ARRAY_LEN(all); i++) {
        if (all[i].optional && X509_get0_subject_key_id(ca) == NULL) {
            continue;
        }
        ext = X509V3_EXT_conf_nid(NULL, &ctx, all[i].nid, all[i].value);
        ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
        X509_EXTENSION_free(ext);
    }
    return ok;
}

/* "CN=...,serialNumber=...", of at most some hundred bytes. */
static char *name_text(const X509 *cert, mdm_arena_t *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    char *text = NULL;
    long n;

    if (bio != NULL &&
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0,
                           XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        n = BIO_get_mem_data(bio, &data);
        text = mdm_arena_dup(arena, data, n > 500 ? 500 : (size_t)n);
    }
    BIO_free(bio);
    if (text != NULL) {
        mdm_err_printable(text);
    }
    return text;
}

static mdm_rc describe(X509 *cert, mdm_arena_t *arena, mdm_new_cert_t *r,
                       mdm_err_t *err)
{
    unsigned char *der = NULL;
    int n = i2d_X509(cert, &der);
    mdm_rc rc = MDM_OK;

    if (n <= 0) {
        return fault(err);
    }
    r->der = (mdm_str_t){mdm_arena_dup(arena, der, (size_t)n), (size_t)n};
    OPENSSL_free(der);
    r->subject = mdm_str_from(name_text(cert, arena));
    r->identity.not_after_us = mdm_x509_time_us(X509_get0_notAfter(cert));
    if (r->der.s == NULL || r->subject.s == NULL) {
        rc = mdm_err_nomem(err);
    }
    return rc == MDM_OK ? mdm_sha256(r->der, r->identity.fingerprint, err)
                        : rc;
}

mdm_rc mdm_authority_issue(const mdm_authority_t *authority,
                           const mdm_issue_t *issue, mdm_arena_t *arena,
                           mdm_new_cert_t *cert_r, mdm_err_t *err)
{
    X509 *ca = mdm_authority_x509(authority);
    X509 *cert = X509_new();
    mdm_rc rc;

    memset(cert_r, 0, sizeof(*cert_r));
    ERR_clear_error();
    rc = cert != NULL ? set_subject(cert, issue, err) : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        rc = set_key(cert, issue->key, err);
    }
    if (rc == MDM_OK &&
        (X509_set_version(cert, X509_VERSION_3) != 1 ||
         !set_serial(cert, cert_r->serial) ||
         X509_set_issuer_name(cert, X509_get_subject_name(ca)) != 1 ||
         !set_times(cert, ca, issue) || !add_extensions(cert, ca) ||
         X509_sign(cert, mdm_authority_pkey(authority), EVP_sha256()) <= 0)) {
        rc = fault(err);
    }
    if (rc == MDM_OK) {
        rc = describe(cert, arena, cert_r, err);
    }
    X509_free(cert);
    ERR_clear_error();
    return rc;
}
