/*
 * mdm_x509_material.h - whatever certificates and keys somebody hands in, in
 * any of the forms in which they go about, and what can be wrong with a push
 * certificate, one sentence a fault.  For mdm_x509.c and for programs that
 * link the core: the API, the configuration tests and the tools say the same.
 *
 * Any thread; no state.  Nobody is asked on a terminal but by the caller's
 * own function.
 */
#ifndef MDM_X509_MATERIAL_H
#define MDM_X509_MATERIAL_H

#include "mdm_x509.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

/* Larger ones are refused before OpenSSL sees a byte. */
#define MDM_MATERIAL_MAX (256 * 1024)
/* Certificates and keys in all. */
#define MDM_MATERIAL_BLOCKS_MAX 64
/* What Apple takes. */
#define MDM_RSA_BITS_MIN 2048

/* What was found; owned.  Zero-initialise. */
typedef struct mdm_material {
    STACK_OF(X509) *certs; /* NULL: none */
    EVP_PKEY *key;         /* the first one */
    int nkeys;             /* different ones */
    bool csr;              /* a signing request was among it */
    bool public_key;       /* a public key */
    bool pkcs12;           /* a PKCS #12 file */
    bool locked; /* something encrypted did not open */
} mdm_material_t;

/* Gives the pass phrase, when something is encrypted; absent: there is none.
 * Is called again for the next thing that is encrypted.  Borrowed until the
 * reading ends. */
typedef mdm_rc mdm_ask_fn(void *ctx, mdm_str_t *phrase_r, mdm_err_t *err);
typedef struct mdm_ask {
    mdm_ask_fn *fn;
    void *ctx;
} mdm_ask_t;

/* Adds what the bytes hold: PEM with text around, in any order, with CRLF or
 * a byte order mark; DER, one thing after the other; PKCS #12, also in the
 * ciphers of old.  `ask` NULL: keys are passed over.
 * MDM_EINVAL: nothing of this, damaged, or it does not open; the text says
 * which.  MDM_ENOMEM, and what `ask` returned. */
mdm_rc mdm_material_read(mdm_str_t data, const mdm_ask_t *ask,
                         mdm_material_t *m, mdm_err_t *err) MDM_USE_RESULT;
void mdm_material_clear(mdm_material_t *m);

/* Puts the certificate that belongs to the key in front; *is_pair_r false:
 * none does, or there is no key.  MDM_ENOMEM. */
mdm_rc mdm_material_order(mdm_material_t *m, bool *is_pair_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Are there a certificate and one key, and do they belong together?
 * MDM_EINVAL: the text says what is missing or wrong.  Orders them. */
mdm_rc mdm_material_judge_pair(mdm_material_t *m, mdm_err_t *err)
    MDM_USE_RESULT;

/* The topic: the one UID of the subject, which begins with "com.apple.mgmt.",
 * into `dst`.  MDM_EINVAL. */
mdm_rc mdm_x509_topic(const X509 *cert, char dst[MDM_TOPIC_MAX + 1],
                      mdm_err_t *err) MDM_USE_RESULT;
/* RSA of at least MDM_RSA_BITS_MIN bits?  `whose` begins the sentence.
 * MDM_EINVAL. */
mdm_rc mdm_x509_judge_key(const EVP_PKEY *key, const char *whose,
                          mdm_err_t *err) MDM_USE_RESULT;
/* ASN.1 time to microseconds since 1970; 0 when it is unreadable. */
int64_t mdm_x509_time_us(const ASN1_TIME *at);

#endif
