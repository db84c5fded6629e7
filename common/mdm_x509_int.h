/*
 * mdm_x509_int.h - between the files of this module: mdm_x509.c (push
 * certificates, bundles), mdm_x509_trust.c and mdm_x509_twin.c (device
 * identities).  No state.
 */
#ifndef MDM_X509_INT_H
#define MDM_X509_INT_H

#include "mdm_x509_material.h"

#include <openssl/bio.h>
#include <openssl/x509.h>

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

#endif
