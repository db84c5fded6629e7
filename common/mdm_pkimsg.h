/*
 * mdm_pkimsg.h - the messages of SCEP (RFC 8894): a signed message around an
 * encrypted request for a certificate, and the answer of the same form.
 *
 * Judges the message alone: who may have a certificate is not known here.
 * Sizes, nesting and the number of elements are bounded before OpenSSL sees a
 * byte, and keys before they are computed with.  Whatever goes wrong between
 * the encrypted bytes and a readable request gives one and the same fault, so
 * that nobody can use the key as an oracle.  OpenSSL's error queue is left
 * empty.  A message belongs to one thread at a time.
 */
#ifndef MDM_PKIMSG_H
#define MDM_PKIMSG_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"
#include "mdm_x509_ca.h"

#define MDM_PKIMSG_MAX (64 * 1024)

/* messageType (RFC 8894, 3.2.1.2). */
typedef enum mdm_pki_type {
    MDM_PKI_RENEWAL_REQ = 17,
    MDM_PKI_PKCS_REQ = 19,
    MDM_PKI_CERT_POLL = 20,
    MDM_PKI_GET_CERT = 21,
    MDM_PKI_GET_CRL = 22
} mdm_pki_type_t;

/* failInfo (RFC 8894, 3.2.1.4). */
typedef enum mdm_pki_fail {
    MDM_PKI_BAD_ALG = 0,
    MDM_PKI_BAD_MESSAGE_CHECK = 1,
    MDM_PKI_BAD_REQUEST = 2,
    MDM_PKI_BAD_TIME = 3,
    MDM_PKI_BAD_CERT_ID = 4
} mdm_pki_fail_t;

const char *mdm_pki_fail_name(mdm_pki_fail_t fail);

typedef struct mdm_pkimsg mdm_pkimsg_t;

/* Ciphers that OpenSSL keeps apart because nobody should use them, in a place
 * of their own, so that the host's TLS never meets them.  Any thread. */
typedef struct mdm_pkimsg_legacy mdm_pkimsg_legacy_t;

/* MDM_EINTERNAL: OpenSSL's legacy provider is not there; MDM_ENOMEM. */
mdm_rc mdm_pkimsg_legacy_new(mdm_pkimsg_legacy_t **legacy_r, mdm_err_t *err)
    MDM_USE_RESULT;
void mdm_pkimsg_legacy_free(mdm_pkimsg_legacy_t **legacy);

/* What a message asks for; all borrowed from it.  Before mdm_pkimsg_read()
 * only what is above the line, which nobody has proved. */
typedef struct mdm_pki_request {
    int type;                 /* mdm_pki_type_t, or another number */
    mdm_str_t transaction_id; /* the client's choice, 1 to 256 bytes */
    mdm_str_t signer;         /* certificate, DER */
    mdm_str_t signer_key;     /* SubjectPublicKeyInfo, DER */
    mdm_str_t signer_subject; /* Name, DER */
    /* ---- */
    mdm_str_t key;       /* to be certified: SubjectPublicKeyInfo, DER */
    mdm_str_t subject;   /* Name, DER */
    bool subject_empty;
    mdm_str_t common_name; /* the last one of the subject; absent: none */
    mdm_str_t challenge; /* absent: none */
    bool is_signer_key;  /* key is the signer's */
} mdm_pki_request_t;

/* Reads the outside of a message, DER or BER.  `arena` should wipe.  Close it
 * before the arena goes.
 * MDM_EINVAL: it is not a message that can be answered.  MDM_ENOMEM. */
mdm_rc mdm_pkimsg_open(mdm_str_t data, mdm_arena_t *arena,
                       mdm_pkimsg_t **msg_r, mdm_err_t *err) MDM_USE_RESULT;
void mdm_pkimsg_close(mdm_pkimsg_t **msg);

/* Whom messages may be encrypted to. */
typedef struct mdm_pki_keys {
    mdm_authority_t *const *all; /* one at least */
    size_t n;
    const mdm_pkimsg_legacy_t *legacy; /* NULL: no old ciphers */
} mdm_pki_keys_t;

/* Checks the signature, decrypts with whichever key it is encrypted to, and
 * reads the request, whose own signature must be good.  CertPoll holds no
 * request; other types are not decrypted.
 * MDM_EDENIED: *fail_r is what to answer, the text is for the log alone.
 * MDM_ENOMEM. */
mdm_rc mdm_pkimsg_read(mdm_pkimsg_t *msg, const mdm_pki_keys_t *keys,
                       mdm_pki_fail_t *fail_r, mdm_err_t *err) MDM_USE_RESULT;

const mdm_pki_request_t *mdm_pkimsg_request(const mdm_pkimsg_t *msg);
/* The authority that the message was encrypted to; the first of all before
 * that is known. */
const mdm_authority_t *mdm_pkimsg_authority(const mdm_pkimsg_t *msg);

/* The answer that holds a certificate (DER), encrypted to the signer, in the
 * message's arena.  MDM_EINVAL: the signer's key cannot decrypt, answer
 * MDM_PKI_BAD_ALG.  MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_pkimsg_grant(mdm_pkimsg_t *msg, const mdm_authority_t *authority,
                        mdm_str_t cert, mdm_str_t *answer_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* The answer that says no. */
mdm_rc mdm_pkimsg_refuse(mdm_pkimsg_t *msg, const mdm_authority_t *authority,
                         mdm_pki_fail_t fail, mdm_str_t *answer_r,
                         mdm_err_t *err) MDM_USE_RESULT;

#endif
