/*
 * certs_vendor.c - mdmcerts: the vendor's certificate and key, and the
 * request that they sign.
 *
 * A request is base64 of an XML property list with three strings: the CSR
 * (base64 of DER), the vendor's chain (PEM, leaf first), and the vendor's
 * signature over the CSR's DER (base64, RSA PKCS #1 v1.5 with SHA-256).
 * Source: Apple's "MDM Vendor CSR Signing Overview" and what Apple takes
 * today (SHA-256 only).
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "certs_pki.h"
#include "mdm_x509_material.h"
#include "mdm_plist.h"
#include "mdm_str.h"

#define REQUEST_MAX (256 * 1024)
#define PORTAL "https://developer.apple.com/account/resources/certificates"

/* ---- certificate and key ------------------------------------------------ */

/* The push certificate is the other one that Apple issues in this affair. */
static bool is_push_certificate(const X509 *cert)
{
    return X509_NAME_get_index_by_NID(X509_get_subject_name(cert), NID_userId,
                                      -1) >= 0;
}

static mdm_rc load_certificate(const certs_args_t *args, X509 **cert_r,
                               mdm_err_t *err)
{
    char path[PATH_MAX];
    mdm_rc rc = certs_path(path, args->dir, "", "vendor.crt", err);

    *cert_r = NULL;
    if (rc != MDM_OK) {
        return rc;
    }
    rc = certs_cert_read(path, cert_r, err);
    if (rc == MDM_ENOTFOUND) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "there is no %s: upload vendor.csr at %s as a "
                           "certificate of type MDM CSR, and save what Apple "
                           "gives you (mdm.cer) under this name",
                           path, PORTAL);
    }
    if (rc == MDM_OK && is_push_certificate(*cert_r)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s is a push certificate; the vendor certificate "
                         "is the one of type MDM CSR from developer.apple.com",
                         path);
    }
    if (rc == MDM_OK) {
        rc = mdm_x509_judge_key(X509_get0_pubkey(*cert_r),
                                "the key of vendor.crt", err);
    }
    if (rc == MDM_OK) {
        rc = certs_judge_dates(*cert_r, "vendor.crt",
                               "get a new one for vendor.csr at "
                               "developer.apple.com; servers that run are "
                               "not concerned",
                               err);
    }
    return rc;
}

static mdm_rc load_key(const certs_args_t *args, EVP_PKEY **key_r,
                       mdm_err_t *err)
{
    certs_question_t question = {.source = args->vendor_password,
                                 .option = "--vendor-password",
                                 .what = "Vendor private key password"};
    char path[PATH_MAX];
    mdm_rc rc = certs_path(path, args->dir, "", "vendor.key", err);

    if (rc == MDM_OK && !certs_exists(path)) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0,
                         "there is no %s: vendor.crt works only with the key "
                         "that `mdmcerts init` made for it",
                         path);
    }
    if (rc == MDM_OK) {
        rc = certs_key_read(path, &question, NULL, key_r, err);
    }
    return rc;
}

mdm_rc certs_vendor_load(const certs_args_t *args, certs_vendor_t *vendor,
                         mdm_err_t *err)
{
    X509 *cert = NULL;
    mdm_rc rc;

    memset(vendor, 0, sizeof(*vendor));
    rc = load_certificate(args, &cert, err);
    if (rc == MDM_OK) {
        rc = certs_chain_build(args, cert, "vendor.crt", &vendor->chain, err);
    }
    if (rc == MDM_OK) {
        rc = load_key(args, &vendor->key, err);
    }
    if (rc == MDM_OK && X509_check_private_key(cert, vendor->key) != 1) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "vendor.crt was not issued for vendor.key of %s; "
                         "upload the vendor.csr that belongs to this key, or "
                         "put the key back that belongs to this certificate",
                         args->dir);
    }
    ERR_clear_error();
    X509_free(cert);
    if (rc != MDM_OK) {
        certs_vendor_clear(vendor);
    }
    return rc;
}

void certs_vendor_clear(certs_vendor_t *vendor)
{
    EVP_PKEY_free(vendor->key);
    vendor->key = NULL;
    certs_chain_clear(&vendor->chain);
}

/* ---- signature ---------------------------------------------------------- */

static mdm_rc sign(EVP_PKEY *key, mdm_str_t data, mdm_buf_t *signature,
                   mdm_err_t *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = 0;
    bool ok;

    ok = ctx != NULL &&
         EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestSign(ctx, NULL, &n, (const unsigned char *)data.s,
                        data.n) == 1 &&
         mdm_buf_reserve(signature, n) == MDM_OK &&
         EVP_DigestSign(ctx, (unsigned char *)signature->data, &n,
                        (const unsigned char *)data.s, data.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (!ok) {
        return mdm_err_set(err, MDM_EINTERNAL, 0,
                           "signing with vendor.key failed inside OpenSSL");
    }
    signature->len = n;
    return MDM_OK;
}

static bool fits(EVP_PKEY *key, mdm_str_t data, mdm_str_t signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok;

    ok = ctx != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
         EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestVerify(ctx, (const unsigned char *)signature.s,
                          signature.n, (const unsigned char *)data.s,
                          data.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

/* ---- the request -------------------------------------------------------- */

static mdm_rc to_base64(mdm_str_t data, mdm_buf_t *text, mdm_err_t *err)
{
    size_t size = MDM_BASE64_SIZE(data.n);

    if (mdm_buf_reserve(text, size) != MDM_OK) {
        return mdm_err_nomem(err);
    }
    mdm_base64_encode(data.s, data.n, text->data + text->len);
    text->len += size - 1;
    return MDM_OK;
}

static mdm_rc put_together(const certs_vendor_t *vendor, mdm_str_t csr,
                           mdm_str_t signature, mdm_buf_t *b64,
                           mdm_err_t *err)
{
    mdm_buf_t chain;
    mdm_buf_t csr64;
    mdm_buf_t signature64;
    mdm_buf_t xml;
    mdm_rc rc = MDM_OK;
    int i;

    mdm_buf_init(&chain, REQUEST_MAX);
    mdm_buf_init(&csr64, REQUEST_MAX);
    mdm_buf_init(&signature64, REQUEST_MAX);
    mdm_buf_init(&xml, REQUEST_MAX);
    for (i = 0; rc == MDM_OK && i < vendor->chain.n; i++) {
        rc = certs_cert_pem(vendor->chain.certs[i], &chain, err);
    }
    if (rc == MDM_OK) {
        rc = to_base64(csr, &csr64, err);
    }
    if (rc == MDM_OK) {
        rc = to_base64(signature, &signature64, err);
    }
    if (rc == MDM_OK) {
        mdm_plist_put_t items[] = {
            {.key = "PushCertCertificateChain", .type = MDM_PLIST_STRING,
             .value = mdm_buf_str(&chain)},
            {.key = "PushCertRequestCSR", .type = MDM_PLIST_STRING,
             .value = mdm_buf_str(&csr64)},
            {.key = "PushCertSignature", .type = MDM_PLIST_STRING,
             .value = mdm_buf_str(&signature64)},
        };

        rc = mdm_plist_write(items, MDM_ARRAY_LEN(items), &xml, err);
    }
    if (rc == MDM_OK) {
        rc = to_base64(mdm_buf_str(&xml), b64, err);
    }
    mdm_buf_clear(&chain);
    mdm_buf_clear(&csr64);
    mdm_buf_clear(&signature64);
    mdm_buf_clear(&xml);
    return rc;
}

mdm_rc certs_vendor_sign(const certs_vendor_t *vendor, const X509_REQ *csr,
                         mdm_buf_t *b64, mdm_err_t *err)
{
    mdm_buf_t der;
    mdm_buf_t signature;
    mdm_rc rc;

    mdm_buf_init(&der, REQUEST_MAX);
    mdm_buf_init(&signature, REQUEST_MAX);
    rc = certs_csr_der(csr, &der, err);
    if (rc == MDM_OK) {
        rc = sign(vendor->key, mdm_buf_str(&der), &signature, err);
    }
    if (rc == MDM_OK &&
        !fits(X509_get0_pubkey(vendor->chain.certs[0]), mdm_buf_str(&der),
              mdm_buf_str(&signature))) {
        rc = mdm_err_set(err, MDM_EINTERNAL, 0,
                         "the signature that was made does not verify under "
                         "vendor.crt; nothing was written");
    }
    if (rc == MDM_OK) {
        rc = put_together(vendor, mdm_buf_str(&der), mdm_buf_str(&signature),
                          b64, err);
    }
    /* What was written is read again as Apple will. */
    if (rc == MDM_OK) {
        rc = certs_request_judge(mdm_buf_str(b64), csr, err);
    }
    mdm_buf_clear(&der);
    mdm_buf_clear(&signature);
    return rc;
}

/* ---- reading one -------------------------------------------------------- */

static X509 *first_certificate(mdm_str_t pem)
{
    BIO *bio = BIO_new_mem_buf(pem.s, (int)pem.n);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL)
                             : NULL;

    BIO_free(bio);
    ERR_clear_error();
    return cert;
}

/* Base64 inside the list, decoded in the arena. */
static bool decode(mdm_arena_t *arena, mdm_str_t text, mdm_str_t *data_r)
{
    unsigned char *dst = mdm_arena_alloc(arena, text.n / 4 * 3 + 3);
    size_t n = 0;

    if (dst == NULL || text.n == 0 ||
        mdm_base64_decode(text, dst, &n) != MDM_OK) {
        return false;
    }
    *data_r = (mdm_str_t){(const char *)dst, n};
    return true;
}

static mdm_rc judge_parts(mdm_arena_t *arena, const mdm_plist_want_t *parts,
                          const X509_REQ *csr, mdm_err_t *err)
{
    mdm_str_t signed_csr = MDM_STR_NONE;
    mdm_str_t signature = MDM_STR_NONE;
    X509 *leaf = first_certificate(parts[0].value);
    mdm_buf_t der;
    mdm_rc rc;

    mdm_buf_init(&der, REQUEST_MAX);
    rc = certs_csr_der(csr, &der, err);
    if (rc != MDM_OK) {
        /* said already */
    } else if (leaf == NULL || !decode(arena, parts[1].value, &signed_csr) ||
               !decode(arena, parts[2].value, &signature)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the request's certificates, CSR or signature are "
                         "damaged");
    } else if (!mdm_str_eq(signed_csr, mdm_buf_str(&der))) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the request is for another CSR than ours; it may "
                         "be the answer to an earlier one");
    } else if (!fits(X509_get0_pubkey(leaf), signed_csr, signature)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the vendor's signature in the request is wrong, and "
                         "Apple would refuse it");
    }
    mdm_buf_clear(&der);
    X509_free(leaf);
    return rc;
}

mdm_rc certs_request_judge(mdm_str_t b64, const X509_REQ *csr,
                           mdm_err_t *err)
{
    const mdm_plist_limits_t limits = {REQUEST_MAX, 4, 64};
    mdm_plist_want_t parts[] = {{.path = "PushCertCertificateChain"},
                                {.path = "PushCertRequestCSR"},
                                {.path = "PushCertSignature"}};
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_plist_scan_t scan;
    mdm_str_t xml = MDM_STR_NONE;
    mdm_err_t fault;
    mdm_rc rc = MDM_OK;
    size_t i;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    if (!decode(arena, b64, &xml) ||
        mdm_plist_scan(xml, &limits, MDM_PLIST_STRICT, arena, parts,
                       MDM_ARRAY_LEN(parts), &scan, &fault) != MDM_OK) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "this is no signed request: not base64 of a "
                         "property list");
    }
    for (i = 0; rc == MDM_OK && i < MDM_ARRAY_LEN(parts); i++) {
        if (parts[i].type != MDM_PLIST_STRING) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "this is no signed request: it has no %s",
                             parts[i].path);
        }
    }
    if (rc == MDM_OK) {
        rc = judge_parts(arena, parts, csr, err);
    }
    mdm_arena_free(&arena);
    return rc;
}
