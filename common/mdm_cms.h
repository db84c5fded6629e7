/*
 * mdm_cms.h - signed messages (CMS SignedData) with one signer: a signature
 * that stands apart from the content, as devices sign their requests, or
 * around it, as they introduce themselves.
 *
 * Proves only that the content was signed with the key of a certificate;
 * whether that is trusted is judged with mdm_trust_verify(), and best before
 * the content is hashed.  OpenSSL's error queue is left empty.  An object
 * belongs to one thread at a time.
 */
#ifndef MDM_CMS_H
#define MDM_CMS_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"
#include "mdm_x509.h"

typedef struct mdm_cms mdm_cms_t;

/* Reads one detached SignedData, DER or BER, of at most 64 kB: exactly one
 * signer, whose certificate comes with it, and no content.  *signer_r: that
 * certificate and the others that came along, in `arena`.
 * MDM_EINVAL: anything else (text says what); MDM_ENOMEM. */
mdm_rc mdm_cms_open(mdm_str_t data, mdm_arena_t *arena, mdm_cms_t **cms_r,
                    mdm_shown_t *signer_r, mdm_err_t *err) MDM_USE_RESULT;

/* The same for a message that holds its content: *content_r, borrowed from
 * the message and not proved by anything before mdm_cms_verify(cms, content).
 * MDM_EINVAL also: no content, or an empty one. */
mdm_rc mdm_cms_open_whole(mdm_str_t data, mdm_arena_t *arena,
                          mdm_cms_t **cms_r, mdm_shown_t *signer_r,
                          mdm_str_t *content_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Does the signature fit these bytes, exactly as they are?  SHA-1, SHA-2;
 * RSA (PKCS #1 v1.5), ECDSA.
 * MDM_EINVAL: no, or another algorithm.  MDM_EDENIED: the certificate's key
 * usage forbids signatures.  MDM_ENOMEM. */
mdm_rc mdm_cms_verify(mdm_cms_t *cms, mdm_str_t content, mdm_err_t *err)
    MDM_USE_RESULT;

/* Frees; sets *cms to NULL.  Before its arena. */
void mdm_cms_close(mdm_cms_t **cms);

/* Who signs what we send.  Made in the parent, any thread afterwards. */
typedef struct mdm_signer mdm_signer_t;

/* From a certificate, its key without pass phrase, and further certificates
 * for the chain, in any form (mdm_x509_material.h).  MDM_EINVAL: the text
 * says what is missing or wrong; MDM_ENOMEM. */
mdm_rc mdm_signer_new(const mdm_str_t *parts, size_t nparts,
                      mdm_signer_t **signer_r, mdm_err_t *err) MDM_USE_RESULT;
void mdm_signer_free(mdm_signer_t **signer);
/* When its certificate ends. */
int64_t mdm_signer_end(const mdm_signer_t *signer);
/* Appends a SignedData with the content in it, SHA-256, DER, with the chain.
 * MDM_EINTERNAL, MDM_ENOMEM. */
mdm_rc mdm_signer_sign(const mdm_signer_t *signer, mdm_str_t content,
                       mdm_buf_t *der, mdm_err_t *err) MDM_USE_RESULT;

#endif
