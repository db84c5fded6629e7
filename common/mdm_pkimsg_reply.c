/*
 * mdm_pkimsg_reply.c - answers (CertRep) in DER, signed by the authority.
 * See mdm_pkimsg.h.
 *
 * The certificate alone is inside, which is what every client looks for; the
 * authority's stands outside, as the signer's.
 */
#include "mdm_pkimsg_int.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/rand.h>

#include "mdm_log.h"
#include "mdm_str.h"

#define NONCE_LEN 16
#define CERT_REP "3"
#define SUCCESS "0"
#define FAILURE "2"

typedef struct reply {
    const char *status;
    const char *fail; /* NULL: none */
} reply_t;

static mdm_rc fault(mdm_err_t *err)
{
    return mdm_err_take_nomem()
               ? mdm_err_nomem(err)
               : mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                             "an answer cannot be made");
}

/* ---- what is inside ------------------------------------------------------ */

/* A SignedData that signs nothing and holds one certificate. */
static mdm_rc wrap_cert(mdm_pkimsg_t *msg, mdm_str_t der, mdm_str_t *out_r,
                        mdm_err_t *err)
{
    const unsigned char *p = (const unsigned char *)der.s;
    X509 *cert = d2i_X509(NULL, &p, (long)der.n);
    PKCS7 *p7 = PKCS7_new();
    unsigned char *bytes = NULL;
    int n = 0;

    if (cert != NULL && p7 != NULL &&
        PKCS7_set_type(p7, NID_pkcs7_signed) == 1 &&
        PKCS7_content_new(p7, NID_pkcs7_data) == 1 &&
        PKCS7_set_detached(p7, 1) == 1 &&
        PKCS7_add_certificate(p7, cert) == 1) {
        n = i2d_PKCS7(p7, &bytes);
    }
    PKCS7_free(p7);
    X509_free(cert);
    return n > 0 ? mdm_pkimsg_take(msg, bytes, n, out_r, err) : fault(err);
}

/* As the client encrypts, so it can decrypt; one that knows single DES alone
 * gets three of it. */
static const EVP_CIPHER *cipher_for(const mdm_pkimsg_t *msg)
{
    switch (msg->cipher) {
    case NID_aes_256_cbc:
        return EVP_aes_256_cbc();
    case NID_aes_192_cbc:
        return EVP_aes_192_cbc();
    case NID_des_ede3_cbc:
    case NID_des_cbc:
        return EVP_des_ede3_cbc();
    default:
        return EVP_aes_128_cbc();
    }
}

static mdm_rc encrypt(mdm_pkimsg_t *msg, mdm_str_t plain, mdm_str_t *out_r,
                      mdm_err_t *err)
{
    STACK_OF(X509) *to = sk_X509_new_null();
    BIO *in = BIO_new_mem_buf(plain.s, (int)plain.n);
    CMS_ContentInfo *envelope = NULL;
    unsigned char *bytes = NULL;
    int n = 0;

    if (to != NULL && in != NULL && sk_X509_push(to, msg->signer) > 0) {
        envelope = CMS_encrypt(to, in, cipher_for(msg), CMS_BINARY);
    }
    if (envelope != NULL) {
        n = i2d_CMS_ContentInfo(envelope, &bytes);
    }
    CMS_ContentInfo_free(envelope);
    BIO_free(in);
    sk_X509_free(to);
    return n > 0 ? mdm_pkimsg_take(msg, bytes, n, out_r, err) : fault(err);
}

/* ---- around it ----------------------------------------------------------- */

static bool add(CMS_SignerInfo *one, const char *number, int type,
                mdm_str_t value)
{
    char oid[sizeof(MDM_PKI_OID) + 4];

    (void)snprintf(oid, sizeof(oid), "%s%s", MDM_PKI_OID, number);
    return CMS_signed_add1_attr_by_txt(one, oid, type, value.s,
                                       (int)value.n) == 1;
}

static bool add_attributes(const mdm_pkimsg_t *msg, const reply_t *reply,
                           CMS_SignerInfo *one)
{
    unsigned char nonce[NONCE_LEN];

    return RAND_bytes(nonce, sizeof(nonce)) == 1 &&
           add(one, "2", V_ASN1_PRINTABLESTRING, MDM_STR(CERT_REP)) &&
           add(one, "3", V_ASN1_PRINTABLESTRING,
               mdm_str_from(reply->status)) &&
           (reply->fail == NULL || add(one, "4", V_ASN1_PRINTABLESTRING,
                                       mdm_str_from(reply->fail))) &&
           add(one, "5", V_ASN1_OCTET_STRING,
               (mdm_str_t){(const char *)nonce, sizeof(nonce)}) &&
           add(one, "6", V_ASN1_OCTET_STRING, msg->nonce) &&
           add(one, "7", msg->transaction_tag, msg->request.transaction_id);
}

static mdm_rc sign(mdm_pkimsg_t *msg, const mdm_authority_t *authority,
                   const reply_t *reply, mdm_str_t content,
                   mdm_str_t *answer_r, mdm_err_t *err)
{
    unsigned flags = CMS_BINARY | CMS_PARTIAL |
                     (content.s == NULL ? CMS_DETACHED : 0U);
    const EVP_MD *digest = msg->digest == NID_sha1 ? EVP_sha1()
                                                   : EVP_sha256();
    CMS_ContentInfo *info = CMS_sign(NULL, NULL, NULL, NULL, flags);
    BIO *in = content.s != NULL ? BIO_new_mem_buf(content.s, (int)content.n)
                                : BIO_new_mem_buf("", 0);
    CMS_SignerInfo *one = NULL;
    unsigned char *bytes = NULL;
    int n = 0;

    if (info != NULL && in != NULL) {
        one = CMS_add1_signer(info, mdm_authority_x509(authority),
                              mdm_authority_pkey(authority), digest,
                              CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP);
    }
    if (one != NULL && add_attributes(msg, reply, one) &&
        CMS_final(info, in, NULL, flags & ~(unsigned)CMS_PARTIAL) == 1) {
        n = i2d_CMS_ContentInfo(info, &bytes);
    }
    BIO_free(in);
    CMS_ContentInfo_free(info);
    return n > 0 ? mdm_pkimsg_take(msg, bytes, n, answer_r, err) : fault(err);
}

mdm_rc mdm_pkimsg_grant(mdm_pkimsg_t *msg, const mdm_authority_t *authority,
                        mdm_str_t cert, mdm_str_t *answer_r, mdm_err_t *err)
{
    static const reply_t reply = {.status = SUCCESS};
    mdm_str_t inside = MDM_STR_NONE;
    mdm_str_t sealed = MDM_STR_NONE;
    mdm_rc rc;

    if (EVP_PKEY_get_base_id(X509_get0_pubkey(msg->signer)) != EVP_PKEY_RSA) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "nothing can be encrypted to its signer, whose "
                           "key is not RSA");
    }
    ERR_clear_error();
    rc = wrap_cert(msg, cert, &inside, err);
    if (rc == MDM_OK) {
        rc = encrypt(msg, inside, &sealed, err);
    }
    if (rc == MDM_OK) {
        rc = sign(msg, authority, &reply, sealed, answer_r, err);
    }
    ERR_clear_error();
    return rc;
}

mdm_rc mdm_pkimsg_refuse(mdm_pkimsg_t *msg, const mdm_authority_t *authority,
                         mdm_pki_fail_t fail, mdm_str_t *answer_r,
                         mdm_err_t *err)
{
    static const char *const numbers[] = {"0", "1", "2", "3", "4"};
    reply_t reply = {.status = FAILURE, .fail = numbers[fail]};
    mdm_rc rc;

    ERR_clear_error();
    rc = sign(msg, authority, &reply, MDM_STR_NONE, answer_r, err);
    ERR_clear_error();
    return rc;
}
