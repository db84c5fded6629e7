/*
 * mdm_x509_int.h - between the files of this module: mdm_x509.c (push
 * certificates), mdm_x509_key.c (private keys), mdm_x509_trust.c and
 * mdm_x509_twin.c (device identities).  No state.
 */
#ifndef MDM_X509_INT_H
#define MDM_X509_INT_H

#include "mdm_x509.h"

#include <openssl/bio.h>
#include <openssl/x509.h>

/* PEM text for OpenSSL, bounded; the caller frees it.  NULL: *rc is
 * MDM_EINVAL or MDM_ENOMEM. */
BIO *mdm_x509_open_pem(mdm_str_t pem, mdm_rc *rc, mdm_err_t *err);

/* OpenSSL's pem_password_cb: gives the mdm_str_t that `arg` points to; with
 * NULL or an absent one, nothing.  Never asks on a terminal: a server has
 * none. */
int mdm_x509_passphrase(char *buf, int size, int writing, void *arg);

/* The first private key of a PEM text; the caller frees it.  *locked_r: it
 * is encrypted and only the pass phrase was missing.  MDM_EINVAL: the text
 * says why there is none.  MDM_ENOMEM. */
mdm_rc mdm_x509_read_key(mdm_str_t pem, mdm_str_t passphrase,
                         EVP_PKEY **key_r, bool *locked_r, mdm_err_t *err)
    MDM_USE_RESULT;

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

/* ASN.1 time to microseconds since 1970; 0 when it is unreadable. */
int64_t mdm_x509_time_us(const ASN1_TIME *at);

#endif
