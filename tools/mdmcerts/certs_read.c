/*
 * certs_read.c - mdmcerts: certificates, keys and signing requests that
 * others made, and what can be wrong with each, in words.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "certs_material.h"
#include "certs_pki.h"
#include "mdm_str.h"
#include "mdm_time.h"

/* ---- names and fingerprints --------------------------------------------- */

mdm_rc certs_judge_dates(const X509 *cert, const char *whose,
                         const char *remedy, mdm_err_t *err)
{
    return mdm_x509_judge_dates(mdm_x509_time_us(X509_get0_notBefore(cert)),
                                mdm_x509_time_us(X509_get0_notAfter(cert)),
                                mdm_wall_us(NULL), whose, remedy, err);
}

static bool name_part(const X509_NAME *name, int nid, char *dst, size_t cap)
{
    int at = X509_NAME_get_index_by_NID((X509_NAME *)name, nid, -1);
    unsigned char *text = NULL;
    int n = -1;

    if (at >= 0) {
        n = ASN1_STRING_to_UTF8(
            &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    }
    if (n < 0) {
        return false;
    }
    (void)mdm_str_printable((mdm_str_t){(const char *)text, (size_t)n}, dst,
                            cap);
    OPENSSL_free(text);
    return true;
}

const char *certs_name(const X509_NAME *name, char *dst, size_t cap)
{
    char common[96];
    char unit[64];
    bool has_common = name_part(name, NID_commonName, common, sizeof(common));
    bool has_unit = name_part(name, NID_organizationalUnitName, unit,
                              sizeof(unit));

    if (!has_common && !has_unit) {
        (void)snprintf(dst, cap, "somebody without a name");
    } else if (has_common && has_unit) {
        (void)snprintf(dst, cap, "\"%s\" (%s)", common, unit);
    } else {
        (void)snprintf(dst, cap, "\"%s\"", has_common ? common : unit);
    }
    return dst;
}

bool certs_fingerprint(const X509 *cert, char dst[2 * MDM_SHA256_LEN + 1])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (X509_digest(cert, EVP_sha256(), digest, &n) != 1 ||
        n != MDM_SHA256_LEN) {
        return false;
    }
    mdm_hex_encode(digest, n, dst);
    return true;
}

/* ---- signing requests --------------------------------------------------- */

/* The whole of it must be the request: what is signed is what is there. */
static X509_REQ *csr_of_der(mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509_REQ *csr = d2i_X509_REQ(NULL, &at, (long)data.n);

    if (csr != NULL && at != (const unsigned char *)data.s + data.n) {
        X509_REQ_free(csr);
        csr = NULL;
    }
    return csr;
}

static X509_REQ *csr_of_pem(mdm_str_t data)
{
    BIO *bio = BIO_new_mem_buf(data.s, (int)data.n);
    X509_REQ *csr = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL)
                                : NULL;

    BIO_free(bio);
    return csr;
}

static mdm_rc judge_csr(X509_REQ *csr, const char *path, mdm_err_t *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(csr);
    char whose[PATH_MAX];
    mdm_rc rc;

    (void)snprintf(whose, sizeof(whose), "the key of %s", path);
    rc = mdm_x509_judge_key(key, whose, err);
    if (rc == MDM_OK && X509_REQ_verify(csr, key) != 1) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s is not signed with its own key, or was altered; "
                         "have it made and sent again",
                         path);
    }
    ERR_clear_error();
    return rc;
}

mdm_rc certs_csr_read(const char *path, X509_REQ **csr_r, mdm_err_t *err)
{
    mdm_buf_t data;
    X509_REQ *csr = NULL;
    mdm_rc rc;

    *csr_r = NULL;
    mdm_buf_init(&data, CERTS_FILE_MAX);
    rc = certs_read_file(path, CERTS_FILE_MAX / 2, &data, err);
    if (rc == MDM_OK && data.len > 0) {
        csr = data.data[0] == 0x30 ? csr_of_der(mdm_buf_str(&data))
                                   : csr_of_pem(mdm_buf_str(&data));
    }
    ERR_clear_error();
    if (rc == MDM_OK && csr == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s is no signing request (PKCS #10, DER or PEM "
                         "with \"BEGIN CERTIFICATE REQUEST\")",
                         path);
    }
    if (rc == MDM_OK) {
        rc = judge_csr(csr, path, err);
    }
    if (rc != MDM_OK) {
        X509_REQ_free(csr);
        csr = NULL;
    }
    *csr_r = csr;
    mdm_buf_clear(&data);
    return rc;
}

/* ---- certificates and keys ---------------------------------------------- */

mdm_rc certs_cert_read(const char *path, X509 **cert_r, mdm_err_t *err)
{
    mdm_material_t m = {0};
    mdm_rc rc = certs_material_read(path, NULL, NULL, &m, err);

    *cert_r = NULL;
    if (rc == MDM_OK && sk_X509_num(m.certs) > 0) {
        *cert_r = sk_X509_shift(m.certs);
    } else if (rc == MDM_OK) {
        rc = mdm_material_judge_pair(&m, err);
        (void)mdm_err_prefix(err, "%s", path);
    }
    mdm_material_clear(&m);
    return rc;
}

mdm_rc certs_key_read(const char *path, const certs_question_t *question,
                      certs_secret_t *secret_r, EVP_PKEY **key_r,
                      mdm_err_t *err)
{
    mdm_material_t m = {0};
    certs_secret_t own;
    certs_secret_t *secret = secret_r != NULL ? secret_r : &own;
    mdm_rc rc;

    *key_r = NULL;
    memset(secret, 0, sizeof(*secret));
    rc = certs_material_read(path, question, secret, &m, err);
    if (rc == MDM_OK && m.key == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s: there is no private key in it", path);
    } else if (rc == MDM_OK) {
        *key_r = m.key;
        m.key = NULL;
    }
    mdm_material_clear(&m);
    if (secret == &own) {
        certs_secret_wipe(&own);
    }
    return rc;
}
