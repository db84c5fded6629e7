/*
 * mdm_x509_int.h - between the files of this module: mdm_x509.c (push
 * certificates, bundles), mdm_x509_trust.c and mdm_x509_twin.c (device
 * identities).  No state.
 */
#ifndef MDM_X509_INT_H
#define MDM_X509_INT_H

#include "mdm_x509_material.h"

#include <openssl/bio.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

/* Subject of a certificate, as mdm_x509_subject().  False: memory is out. */
bool mdm_x509_print_subject(const X509 *cert,
                            char dst[MDM_TRUST_SUBJECT_SIZE]);

/* All certificates of a PEM text, in their order; the caller frees them.
 * MDM_EINVAL: none, damaged, too many; MDM_ENOMEM. */
mdm_rc mdm_x509_read_certs(mdm_str_t pem, STACK_OF(X509) **certs_r,
                           mdm_err_t *err) MDM_USE_RESULT;

/* SHA-256 of the other form of a certificate that `issuer` signed with ECDSA;
 * *twin_r stays as it is when there is no other form.  Turns `cert` into it.
 * MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_x509_twin(X509 *cert, const X509 *issuer,
                     unsigned char twin_r[MDM_SHA256_LEN], mdm_err_t *err)
    MDM_USE_RESULT;

/* ---- what is encrypted (mdm_x509_sealed.c) ------------------------------ */

/* Does opening it take no more than a moment, as far as can be seen before
 * it is opened? */
bool mdm_x509_is_quick_pkcs8(const X509_SIG *sealed);
bool mdm_x509_is_quick_pkcs12(PKCS12 *p12);

/* A key in OpenSSL's traditional form, whose "DEK-Info" is `value`, with the
 * ciphers of `lib`; the caller frees it.  NULL: it does not open. */
EVP_PKEY *mdm_x509_open_traditional(mdm_str_t value, mdm_str_t der,
                                    mdm_str_t phrase, OSSL_LIB_CTX *lib);

#endif
