/*
 * certs_pki.h - mdmcerts: keys, signing requests, the vendor's certificate
 * with its chain, and the request that Apple takes.
 *
 * OpenSSL's words never reach the user: every fault has a sentence here.
 */
#ifndef CERTS_PKI_H
#define CERTS_PKI_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "certs.h"
#include "certs_io.h"

/* ---- making: certs_make.c ----------------------------------------------- */

/* A new RSA key. */
mdm_rc certs_key_new(EVP_PKEY **key_r, mdm_err_t *err) MDM_USE_RESULT;
/* Encrypted PKCS#8 in PEM: AES-256, key from the password by PBKDF2. */
mdm_rc certs_key_seal(const EVP_PKEY *key, const certs_secret_t *secret,
                      mdm_buf_t *pem, mdm_err_t *err) MDM_USE_RESULT;
/* A signing request, SHA-256; country may be NULL. */
mdm_rc certs_csr_new(EVP_PKEY *key, const char *name, const char *country,
                     X509_REQ **csr_r, mdm_err_t *err) MDM_USE_RESULT;
/* DER or PEM text appended to a buffer. */
mdm_rc certs_csr_der(const X509_REQ *csr, mdm_buf_t *der, mdm_err_t *err)
    MDM_USE_RESULT;
mdm_rc certs_csr_pem(const X509_REQ *csr, mdm_buf_t *pem, mdm_err_t *err)
    MDM_USE_RESULT;
mdm_rc certs_cert_pem(const X509 *cert, mdm_buf_t *pem, mdm_err_t *err)
    MDM_USE_RESULT;
/* Self-signed, for a year. */
mdm_rc certs_cert_new(EVP_PKEY *key, const char *name, X509 **cert_r,
                      mdm_err_t *err) MDM_USE_RESULT;

/* ---- reading: certs_read.c ---------------------------------------------- */

/* A signing request, PEM or DER, judged: signed with its own key, RSA of at
 * least 2048 bits. */
mdm_rc certs_csr_read(const char *path, X509_REQ **csr_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* One certificate, PEM or DER. */
mdm_rc certs_cert_read(const char *path, X509 **cert_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* A private key, PEM or DER.  The question is put only if it is encrypted; the
 * answer goes to *secret_r where that is not NULL. */
mdm_rc certs_key_read(const char *path, const certs_question_t *question,
                      certs_secret_t *secret_r, EVP_PKEY **key_r,
                      mdm_err_t *err) MDM_USE_RESULT;
/* In date?  `whose` begins the sentence, `remedy` ends it. */
mdm_rc certs_judge_dates(const X509 *cert, const char *whose,
                         const char *remedy, mdm_err_t *err) MDM_USE_RESULT;
/* "CN (OU)" of a name, printable, into dst. */
const char *certs_name(const X509_NAME *name, char *dst, size_t cap);
/* Lower-case hex of the SHA-256 of the DER. */
bool certs_fingerprint(const X509 *cert,
                       char dst[2 * MDM_SHA256_LEN + 1]);

/* ---- Apple's certificates: certs_anchor.c ------------------------------- */

#define CERTS_CHAIN_MAX 6

/* From the leaf to the root; owned. */
typedef struct certs_chain {
    X509 *certs[CERTS_CHAIN_MAX];
    int n;
} certs_chain_t;

/* Completes the chain of `leaf` up to Apple's root (or --root) with what lies
 * in the directories, or is loaded with --fetch (and then kept in the -d
 * directory), and verifies it.  `whose` names the leaf in sentences.
 * MDM_ENOTFOUND: a certificate is missing, and the text says which and where
 * to get it; MDM_EINVAL: it does not lead to the root. */
mdm_rc certs_chain_build(const certs_args_t *args, X509 *leaf,
                         const char *whose, certs_chain_t *chain_r,
                         mdm_err_t *err) MDM_USE_RESULT;
void certs_chain_clear(certs_chain_t *chain);

/* ---- the vendor: certs_vendor.c ----------------------------------------- */

typedef struct certs_vendor {
    EVP_PKEY *key;
    certs_chain_t chain; /* vendor.crt first */
} certs_vendor_t;

/* vendor.crt and vendor.key of the -d directory: certificate and chain are
 * judged, then the password is asked for, then they must be a pair. */
mdm_rc certs_vendor_load(const certs_args_t *args, certs_vendor_t *vendor_r,
                         mdm_err_t *err) MDM_USE_RESULT;
void certs_vendor_clear(certs_vendor_t *vendor);
/* Signs a request: appends the base64 text that Apple takes. */
mdm_rc certs_vendor_sign(const certs_vendor_t *vendor, const X509_REQ *csr,
                         mdm_buf_t *b64, mdm_err_t *err) MDM_USE_RESULT;
/* Is this text (base64) a request that Apple takes for this CSR?  Looks at
 * form, CSR and signature, not at the vendor's chain. */
mdm_rc certs_request_judge(mdm_str_t b64, const X509_REQ *csr,
                           mdm_err_t *err) MDM_USE_RESULT;

/* ---- the push key: certs_push.c ----------------------------------------- */

/* Key, CSR, and what a subcommand writes with them. */
#define CERTS_PUSH_FILES 5

/* Push key and CSR, made or taken as the options say, with the names that
 * their files will have. */
typedef struct certs_push {
    char country[3];
    const char *stem; /* "push" or "push-new" */
    EVP_PKEY *key;
    bool key_is_new;
    X509_REQ *csr;
    mdm_buf_t key_pem; /* empty: the key is kept */
    mdm_buf_t csr_der;
    certs_secret_t secret;
} certs_push_t;

/* Judges operands and names of files: before anything is asked or loaded. */
mdm_rc certs_push_prepare(const certs_args_t *args, certs_push_t *push_r,
                          mdm_err_t *err) MDM_USE_RESULT;
/* Asks for the password, makes or reads the key, makes the CSR. */
mdm_rc certs_push_make(const certs_args_t *args, certs_push_t *push,
                       mdm_err_t *err) MDM_USE_RESULT;
/* Fills in the files of key (if new) and CSR; *n_r: how many. */
mdm_rc certs_push_files(const certs_args_t *args, const certs_push_t *push,
                        certs_file_t *files, size_t *n_r, mdm_err_t *err)
    MDM_USE_RESULT;
void certs_push_clear(certs_push_t *push);

#endif
