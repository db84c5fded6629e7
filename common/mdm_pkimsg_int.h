/*
 * mdm_pkimsg_int.h - between the files of this module: mdm_pkimsg_ber.c
 * (bounds), mdm_pkimsg.c (the outside), mdm_pkimsg_request.c (the inside) and
 * mdm_pkimsg_reply.c (answers).
 */
#ifndef MDM_PKIMSG_INT_H
#define MDM_PKIMSG_INT_H

#include "mdm_pkimsg.h"

#include <openssl/cms.h>
#include <openssl/x509.h>

#define MDM_PKI_OID "2.16.840.1.113733.1.9."

struct mdm_pkimsg {
    mdm_arena_t *arena;
    CMS_ContentInfo *info;
    CMS_SignerInfo *one; /* borrowed from info */
    X509 *signer;        /* borrowed from info */
    int digest;          /* NID of the signature's digest */
    int transaction_tag; /* kind of string */
    mdm_str_t nonce;     /* of the sender */
    const mdm_authority_t *authority;
    int cipher; /* NID; 0: not known yet */
    mdm_pki_request_t request;
};

/* Is this one BER value and nothing behind it, nested and divided within
 * bounds?  Looks at tags and lengths alone. */
bool mdm_ber_is_sane(mdm_str_t data);

/* MDM_EINVAL with this text, or MDM_ENOMEM when that is why. */
mdm_rc mdm_pkimsg_bad(mdm_err_t *err, const char *why);
/* DER of what OpenSSL has written, freed here, in the arena. */
mdm_rc mdm_pkimsg_take(mdm_pkimsg_t *msg, unsigned char *der, int n,
                       mdm_str_t *out_r, mdm_err_t *err) MDM_USE_RESULT;
/* What stands in a memory BIO, in the arena. */
mdm_rc mdm_pkimsg_take_bio(mdm_pkimsg_t *msg, BIO *bio, mdm_str_t *out_r,
                           mdm_err_t *err) MDM_USE_RESULT;

/* Are the request's bytes one that can be certified?  As mdm_pkimsg_read(). */
mdm_rc mdm_pkimsg_read_csr(mdm_pkimsg_t *msg, mdm_str_t der,
                           mdm_pki_fail_t *fail_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* RSA of 2048 to 8192 bits, or (ec) a NIST curve? */
bool mdm_pkimsg_key_will_do(EVP_PKEY *key, bool ec);

#endif
