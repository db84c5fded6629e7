/*
 * certs_material.h - mdmcerts: whatever certificates and keys a file holds,
 * in any of the forms in which they are handed about.
 */
#ifndef CERTS_MATERIAL_H
#define CERTS_MATERIAL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "certs_io.h"

/* What was found; owned. */
typedef struct certs_material {
    STACK_OF(X509) *certs;
    EVP_PKEY *key;
    int nkeys;       /* the first one is kept */
    bool csr;        /* a signing request was among it */
    bool public_key; /* a public key */
    bool pkcs12;     /* one of the files was PKCS #12 */
} certs_material_t;

/* Adds what the file holds: PEM with text around, in any order, with CRLF or
 * a byte order mark; DER; PKCS #12, also in the ciphers of old.  The question
 * is put if something is encrypted; the answer stays in *secret_r (zeroed
 * beforehand) and is tried for what comes next.  Without a question only
 * certificates are looked for.
 * MDM_ENOTFOUND: no such file.  MDM_EINVAL: none of these, damaged, or the
 * password is wrong; the text says which. */
mdm_rc certs_material_read(const char *path, const certs_question_t *question,
                           certs_secret_t *secret_r, certs_material_t *m,
                           mdm_err_t *err) MDM_USE_RESULT;
void certs_material_clear(certs_material_t *m);

/* Puts the certificate that belongs to the key in front; *is_pair_r false:
 * none does, or there is no key. */
mdm_rc certs_material_order(certs_material_t *m, bool *is_pair_r,
                            mdm_err_t *err) MDM_USE_RESULT;
/* Certificates and key as PEM, the key in the clear. */
mdm_rc certs_material_pem(const certs_material_t *m, mdm_buf_t *pem,
                          mdm_err_t *err) MDM_USE_RESULT;

#endif
