/*
 * mdm_x509_twin.c - the one certificate that is another one in other bytes.
 *
 * Certificates are told apart by the SHA-256 of their DER.  Of an ECDSA
 * signature (r, s) anybody can make (r, n - s), which fits as well, n being
 * the order of the issuer's curve: whoever holds a certificate of such an
 * authority has a second one, of another SHA-256, that nobody issued.  Other
 * signatures have one form only, and what is signed cannot be written in
 * another way.  No state; any thread.
 */
#include "mdm_x509_int.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "mdm_str.h"

/* Turns s around and writes the signature anew; false: memory is out. */
static bool turn(ECDSA_SIG *sig, const BIGNUM *order, ASN1_BIT_STRING *text)
{
    BIGNUM *r = BN_dup(ECDSA_SIG_get0_r(sig));
    BIGNUM *s = BN_new();
    unsigned char *der = NULL;
    bool ok = r != NULL && s != NULL &&
              BN_sub(s, order, ECDSA_SIG_get0_s(sig)) == 1 &&
              ECDSA_SIG_set0(sig, r, s) == 1;
    int n;

    if (!ok) {
        BN_free(r);
        BN_free(s);
        return false;
    }
    n = i2d_ECDSA_SIG(sig, &der);
    ok = n > 0 && ASN1_STRING_set(text, der, n) == 1;
    OPENSSL_free(der);
    return ok;
}

mdm_rc mdm_x509_twin(X509 *cert, const X509 *issuer,
                     unsigned char twin_r[MDM_SHA256_LEN], mdm_err_t *err)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    const ASN1_BIT_STRING *text = NULL;
    const unsigned char *p;
    ECDSA_SIG *sig = NULL;
    BIGNUM *order = NULL;
    unsigned char *der = NULL;
    mdm_rc rc;
    bool ok;
    int n = 0;

    if (key == NULL || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) {
        return MDM_OK;
    }
    X509_get0_signature(&text, NULL, cert);
    p = ASN1_STRING_get0_data(text);
    sig = d2i_ECDSA_SIG(NULL, &p, ASN1_STRING_length(text));
    /* The certificate is the caller's own, and to be written anew. */
    ok = sig != NULL &&
         EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_ORDER, &order) == 1 &&
         turn(sig, order, (ASN1_BIT_STRING *)(uintptr_t)text);
    if (ok) {
        n = i2d_X509(cert, &der);
    }
    rc = n > 0 ? mdm_sha256((mdm_str_t){(const char *)der, (size_t)n}, twin_r,
                            err)
               : mdm_err_nomem(err);
    OPENSSL_free(der);
    BN_free(order);
    ECDSA_SIG_free(sig);
    return rc;
}
