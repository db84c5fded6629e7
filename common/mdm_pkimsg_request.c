/*
 * mdm_pkimsg_request.c - the request inside a message (PKCS #10): its key,
 * name, challenge and own signature.  See mdm_pkimsg.h.
 */
#include "mdm_pkimsg_int.h"

#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "mdm_str.h"

#define RSA_MIN 2048
#define RSA_MAX 8192
/* A client's name is of no use when it is longer. */
#define SUBJECT_MAX 1024
#define SUBJECT_PARTS_MAX 16
#define CHALLENGE_MAX 256

static mdm_rc fail(mdm_pki_fail_t *fail_r, mdm_pki_fail_t what,
                   mdm_err_t *err, const char *why)
{
    if (mdm_err_take_nomem()) {
        return mdm_err_nomem(err);
    }
    *fail_r = what;
    return mdm_err_set(err, MDM_EDENIED, 0, "%s", why);
}

bool mdm_pkimsg_key_will_do(EVP_PKEY *key, bool ec)
{
    static const char *const curves[] = {"prime256v1", "secp384r1",
                                         "secp521r1"};
    char curve[32];
    size_t i;

    if (key == NULL) {
        return false;
    }
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        return EVP_PKEY_get_bits(key) >= RSA_MIN &&
               EVP_PKEY_get_bits(key) <= RSA_MAX;
    }
    if (!ec || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) != 1) {
        return false;
    }
    for (i = 0; i < MDM_ARRAY_LEN(curves); i++) {
        if (strcmp(curve, curves[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool signature_is_known(int nid)
{
    static const int known[] = {
        NID_sha1WithRSAEncryption,   NID_sha256WithRSAEncryption,
        NID_sha384WithRSAEncryption, NID_sha512WithRSAEncryption,
        NID_ecdsa_with_SHA1,         NID_ecdsa_with_SHA256,
        NID_ecdsa_with_SHA384,       NID_ecdsa_with_SHA512};
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(known); i++) {
        if (known[i] == nid) {
            return true;
        }
    }
    return false;
}

/* ---- the subject --------------------------------------------------------- */

static mdm_rc read_common_name(mdm_pkimsg_t *msg, const X509_NAME *name,
                               mdm_err_t *err)
{
    unsigned char *utf8 = NULL;
    int last = -1;
    int at = -1;
    int n;

    while ((at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0) {
        last = at;
    }
    if (last < 0) {
        return MDM_OK;
    }
    n = ASN1_STRING_to_UTF8(
        &utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
    return n > 0 ? mdm_pkimsg_take(msg, utf8, n, &msg->request.common_name,
                                   err)
                 : MDM_OK;
}

static mdm_rc read_subject(mdm_pkimsg_t *msg, X509_REQ *req,
                           mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    X509_NAME *name = X509_REQ_get_subject_name(req);
    unsigned char *der = NULL;
    int n = i2d_X509_NAME(name, &der);
    mdm_rc rc = mdm_pkimsg_take(msg, der, n, &msg->request.subject, err);

    if (rc == MDM_OK && (n > SUBJECT_MAX ||
                         X509_NAME_entry_count(name) > SUBJECT_PARTS_MAX)) {
        return fail(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "the subject in the request is too long");
    }
    msg->request.subject_empty = X509_NAME_entry_count(name) == 0;
    return rc == MDM_OK ? read_common_name(msg, name, err) : rc;
}

/* ---- the challenge ------------------------------------------------------- */

/* Compared byte by byte later, so the kind of string does not matter, nor
 * that clients put characters into one that it may not hold. */
static mdm_rc read_challenge(mdm_pkimsg_t *msg, X509_REQ *req,
                             mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    int at = X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, -1);
    const ASN1_STRING *text = NULL;
    X509_ATTRIBUTE *attribute;
    const ASN1_TYPE *value;

    if (at < 0) {
        return MDM_OK;
    }
    attribute = X509_REQ_get_attr(req, at);
    value = X509_ATTRIBUTE_count(attribute) == 1
                ? X509_ATTRIBUTE_get0_type(attribute, 0)
                : NULL;
    if (value != NULL &&
        (value->type == V_ASN1_PRINTABLESTRING ||
         value->type == V_ASN1_UTF8STRING || value->type == V_ASN1_IA5STRING ||
         value->type == V_ASN1_T61STRING)) {
        text = value->value.asn1_string;
    }
    if (text == NULL || ASN1_STRING_length(text) > CHALLENGE_MAX ||
        X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, at) >= 0) {
        return fail(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "the challenge in the request is no text, or there are "
                    "several");
    }
    return mdm_arena_str(msg->arena,
                         (mdm_str_t){(const char *)ASN1_STRING_get0_data(text),
                                     (size_t)ASN1_STRING_length(text)},
                         &msg->request.challenge)
               ? MDM_OK
               : mdm_err_nomem(err);
}

/* ---- the request --------------------------------------------------------- */

static mdm_rc check_key(mdm_pkimsg_t *msg, X509_REQ *req,
                        mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    mdm_pki_request_t *r = &msg->request;
    unsigned char *der = NULL;
    int n;
    mdm_rc rc;

    if (!mdm_pkimsg_key_will_do(key, true)) {
        return fail(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "the key in the request is neither RSA of 2048 to 8192 "
                    "bits nor of a NIST curve");
    }
    if (!signature_is_known(X509_REQ_get_signature_nid(req))) {
        return fail(fail_r, MDM_PKI_BAD_ALG, err,
                    "the request is signed with another algorithm than RSA "
                    "or ECDSA with SHA-1 or SHA-2");
    }
    if (X509_REQ_verify(req, key) != 1) {
        return fail(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "the request is not signed with its own key");
    }
    n = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(req), &der);
    rc = mdm_pkimsg_take(msg, der, n, &r->key, err);
    r->is_signer_key =
        rc == MDM_OK &&
        EVP_PKEY_eq(key, X509_get0_pubkey(msg->signer)) == 1;
    return rc;
}

mdm_rc mdm_pkimsg_read_csr(mdm_pkimsg_t *msg, mdm_str_t der,
                           mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    const unsigned char *p = (const unsigned char *)der.s;
    X509_REQ *req = NULL;
    mdm_rc rc;

    if (mdm_ber_is_sane(der)) {
        req = d2i_X509_REQ(NULL, &p, (long)der.n);
    }
    if (req == NULL) {
        /* What a wrong key makes of a message; see undecipherable(). */
        return fail(fail_r, MDM_PKI_BAD_MESSAGE_CHECK, err,
                    "cannot be decrypted");
    }
    rc = check_key(msg, req, fail_r, err);
    if (rc == MDM_OK) {
        rc = read_subject(msg, req, fail_r, err);
    }
    if (rc == MDM_OK) {
        rc = read_challenge(msg, req, fail_r, err);
    }
    X509_REQ_free(req);
    return rc;
}
