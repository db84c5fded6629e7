/*
 * mdm_pkimsg.c - the outside of a message: who signed it, its attributes, and
 * whether the signature is good.  See mdm_pkimsg.h.
 */
#include "mdm_pkimsg_int.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/provider.h>

#include "mdm_log.h"
#include "mdm_str.h"

#define TRANSACTION_MAX 256
#define NONCE_MIN 8
#define NONCE_MAX 64
/* Each digest that is named is made over the content. */
#define DIGESTS_MAX 4
#define RECIPIENTS_MAX 8

struct mdm_pkimsg_legacy {
    OSSL_LIB_CTX *ctx;
    OSSL_PROVIDER *usual;
    OSSL_PROVIDER *old;
};

const char *mdm_pki_fail_name(mdm_pki_fail_t fail)
{
    static const char *const names[] = {"badAlg", "badMessageCheck",
                                        "badRequest", "badTime", "badCertId"};

    return names[fail];
}

mdm_rc mdm_pkimsg_bad(mdm_err_t *err, const char *why)
{
    return mdm_err_take_nomem() ? mdm_err_nomem(err)
                                : mdm_err_set(err, MDM_EINVAL, 0, "%s", why);
}

/* The same for what can be answered. */
static mdm_rc fail(mdm_pki_fail_t *fail_r, mdm_pki_fail_t what,
                   mdm_err_t *err, const char *why)
{
    if (mdm_err_take_nomem()) {
        return mdm_err_nomem(err);
    }
    *fail_r = what;
    return mdm_err_set(err, MDM_EDENIED, 0, "%s", why);
}

mdm_rc mdm_pkimsg_take(mdm_pkimsg_t *msg, unsigned char *der, int n,
                       mdm_str_t *out_r, mdm_err_t *err)
{
    if (n <= 0 || der == NULL) {
        return mdm_pkimsg_bad(err, "something in it cannot be written");
    }
    out_r->s = mdm_arena_dup(msg->arena, der, (size_t)n);
    out_r->n = (size_t)n;
    OPENSSL_free(der);
    return out_r->s != NULL ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_pkimsg_take_bio(mdm_pkimsg_t *msg, BIO *bio, mdm_str_t *out_r,
                           mdm_err_t *err)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);

    out_r->s = mdm_arena_dup(msg->arena, data != NULL ? data : "", (size_t)n);
    out_r->n = (size_t)n;
    if (n > 0) {
        mdm_wipe(data, (size_t)n);
    }
    return out_r->s != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* ---- old ciphers --------------------------------------------------------- */

mdm_rc mdm_pkimsg_legacy_new(mdm_pkimsg_legacy_t **legacy_r, mdm_err_t *err)
{
    mdm_pkimsg_legacy_t *l = OPENSSL_zalloc(sizeof(*l));

    *legacy_r = l;
    if (l == NULL) {
        return mdm_err_nomem(err);
    }
    l->ctx = OSSL_LIB_CTX_new();
    if (l->ctx != NULL) {
        l->usual = OSSL_PROVIDER_load(l->ctx, "default");
        l->old = OSSL_PROVIDER_load(l->ctx, "legacy");
    }
    if (l->usual == NULL || l->old == NULL) {
        mdm_pkimsg_legacy_free(legacy_r);
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "OpenSSL's legacy provider cannot be loaded");
    }
    return MDM_OK;
}

void mdm_pkimsg_legacy_free(mdm_pkimsg_legacy_t **legacy)
{
    if (*legacy != NULL) {
        (void)OSSL_PROVIDER_unload((*legacy)->old);
        (void)OSSL_PROVIDER_unload((*legacy)->usual);
        OSSL_LIB_CTX_free((*legacy)->ctx);
        OPENSSL_free(*legacy);
        *legacy = NULL;
    }
}

/* ---- attributes ---------------------------------------------------------- */

static const ASN1_STRING *attribute(const CMS_SignerInfo *one,
                                    const char *number, int type)
{
    char name[sizeof(MDM_PKI_OID) + 4];
    ASN1_OBJECT *oid;
    const ASN1_STRING *value = NULL;

    (void)snprintf(name, sizeof(name), "%s%s", MDM_PKI_OID, number);
    oid = OBJ_txt2obj(name, 1);
    if (oid != NULL) {
        /* -3: once, with one value. */
        value = CMS_signed_get0_data_by_OBJ(one, oid, -3, type);
    }
    ASN1_OBJECT_free(oid);
    return value;
}

static mdm_str_t bytes_of(const ASN1_STRING *value)
{
    return value != NULL
               ? (mdm_str_t){(const char *)ASN1_STRING_get0_data(value),
                             (size_t)ASN1_STRING_length(value)}
               : MDM_STR_NONE;
}

static mdm_rc read_attributes(mdm_pkimsg_t *msg, mdm_err_t *err)
{
    static const int texts[] = {V_ASN1_PRINTABLESTRING, V_ASN1_UTF8STRING,
                                V_ASN1_IA5STRING};
    mdm_str_t type = bytes_of(
        attribute(msg->one, "2", V_ASN1_PRINTABLESTRING));
    uint64_t n = 0;
    size_t i;

    if (!mdm_parse_u64(type, 99, &n)) {
        return mdm_pkimsg_bad(err, "no messageType in it");
    }
    msg->request.type = (int)n;
    for (i = 0; i < MDM_ARRAY_LEN(texts); i++) {
        msg->request.transaction_id =
            bytes_of(attribute(msg->one, "7", texts[i]));
        if (msg->request.transaction_id.s != NULL) {
            msg->transaction_tag = texts[i];
            break;
        }
    }
    msg->nonce = bytes_of(attribute(msg->one, "5", V_ASN1_OCTET_STRING));
    if (msg->request.transaction_id.n == 0 ||
        msg->request.transaction_id.n > TRANSACTION_MAX) {
        return mdm_pkimsg_bad(err, "no transactionID in it, or a long one");
    }
    if (msg->nonce.n < NONCE_MIN || msg->nonce.n > NONCE_MAX) {
        return mdm_pkimsg_bad(err, "no senderNonce of 8 to 64 bytes in it");
    }
    return MDM_OK;
}

/* ---- the signer ---------------------------------------------------------- */

static mdm_rc describe_signer(mdm_pkimsg_t *msg, mdm_err_t *err)
{
    mdm_pki_request_t *r = &msg->request;
    unsigned char *der = NULL;
    int n = i2d_X509(msg->signer, &der);
    mdm_rc rc = mdm_pkimsg_take(msg, der, n, &r->signer, err);

    if (rc == MDM_OK) {
        der = NULL;
        n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(msg->signer), &der);
        rc = mdm_pkimsg_take(msg, der, n, &r->signer_key, err);
    }
    if (rc == MDM_OK) {
        der = NULL;
        n = i2d_X509_NAME(X509_get_subject_name(msg->signer), &der);
        rc = mdm_pkimsg_take(msg, der, n, &r->signer_subject, err);
    }
    return rc;
}

static mdm_rc read_signer(mdm_pkimsg_t *msg, mdm_err_t *err)
{
    X509_ALGOR *digest = NULL;
    const ASN1_OBJECT *oid = NULL;

    if (OBJ_obj2nid(CMS_get0_type(msg->info)) != NID_pkcs7_signed) {
        return mdm_pkimsg_bad(err, "a CMS message of another type than "
                                   "SignedData");
    }
    if (sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(msg->info)) != 1) {
        return mdm_pkimsg_bad(err, "not exactly one signer");
    }
    (void)CMS_set1_signers_certs(msg->info, NULL, 0);
    msg->one = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(msg->info), 0);
    CMS_SignerInfo_get0_algs(msg->one, NULL, &msg->signer, &digest, NULL);
    if (msg->signer == NULL) {
        return mdm_pkimsg_bad(err, "its signer's certificate is missing");
    }
    X509_ALGOR_get0(&oid, NULL, NULL, digest);
    msg->digest = OBJ_obj2nid(oid);
    return describe_signer(msg, err);
}

mdm_rc mdm_pkimsg_open(mdm_str_t data, mdm_arena_t *arena,
                       mdm_pkimsg_t **msg_r, mdm_err_t *err)
{
    mdm_pkimsg_t *msg = mdm_arena_alloc(arena, sizeof(*msg));
    const unsigned char *p = (const unsigned char *)data.s;
    mdm_rc rc;

    *msg_r = NULL;
    if (msg == NULL) {
        return mdm_err_nomem(err);
    }
    if (!mdm_ber_is_sane(data)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "no message of SCEP: cut short, with bytes behind "
                           "it, or nested too deeply");
    }
    ERR_clear_error();
    msg->arena = arena;
    msg->info = d2i_CMS_ContentInfo(NULL, &p, (long)data.n);
    rc = msg->info != NULL ? read_signer(msg, err)
                           : mdm_pkimsg_bad(err, "no message of SCEP");
    if (rc == MDM_OK) {
        rc = read_attributes(msg, err);
    }
    if (rc != MDM_OK) {
        mdm_pkimsg_close(&msg);
    }
    ERR_clear_error();
    *msg_r = msg;
    return rc;
}

void mdm_pkimsg_close(mdm_pkimsg_t **msg)
{
    if (*msg != NULL) {
        CMS_ContentInfo_free((*msg)->info);
        (*msg)->info = NULL;
        *msg = NULL; /* the arena's */
    }
}

const mdm_pki_request_t *mdm_pkimsg_request(const mdm_pkimsg_t *msg)
{
    return &msg->request;
}

const mdm_authority_t *mdm_pkimsg_authority(const mdm_pkimsg_t *msg)
{
    return msg->authority;
}

/* ---- the signature ------------------------------------------------------- */

static bool digest_is_known(int nid)
{
    return nid == NID_sha1 || nid == NID_sha256 || nid == NID_sha384 ||
           nid == NID_sha512;
}

static bool has_few_digests(CMS_ContentInfo *info)
{
    BIO *chain = CMS_dataInit(info, NULL);
    unsigned n = 0;
    BIO *at;

    for (at = chain; at != NULL; at = BIO_next(at)) {
        n += BIO_method_type(at) == BIO_TYPE_MD ? 1U : 0U;
    }
    BIO_free_all(chain);
    return n > 0 && n <= DIGESTS_MAX;
}

static mdm_rc check_signature(mdm_pkimsg_t *msg, mdm_str_t *inner_r,
                              mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    const ASN1_OBJECT *oid = NULL;
    X509_ALGOR *signature = NULL;
    BIO *out;
    mdm_rc rc;
    int nid;

    CMS_SignerInfo_get0_algs(msg->one, NULL, NULL, NULL, &signature);
    X509_ALGOR_get0(&oid, NULL, NULL, signature);
    nid = OBJ_obj2nid(oid);
    if (!digest_is_known(msg->digest) || nid == NID_rsassaPss) {
        return fail(fail_r, MDM_PKI_BAD_ALG, err,
                    "signed with another algorithm than RSA (PKCS #1 v1.5) "
                    "with SHA-1 or SHA-2");
    }
    if (!mdm_pkimsg_key_will_do(X509_get0_pubkey(msg->signer), true)) {
        return fail(fail_r, MDM_PKI_BAD_REQUEST, err,
                    "its signer's key is no RSA key of 2048 to 8192 bits");
    }
    if (!has_few_digests(msg->info)) {
        return fail(fail_r, MDM_PKI_BAD_ALG, err,
                    "names digests that are unknown, or too many");
    }
    out = BIO_new(BIO_s_mem());
    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    rc = CMS_verify(msg->info, NULL, NULL, NULL, out,
                    CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY) == 1
             ? mdm_pkimsg_take_bio(msg, out, inner_r, err)
             : fail(fail_r, MDM_PKI_BAD_MESSAGE_CHECK, err,
                    "its signature is not good");
    BIO_free(out);
    return rc;
}

/* ---- the envelope -------------------------------------------------------- */

/* OpenSSL's CMS does not tell which cipher a message uses, its PKCS #7 does;
 * the two forms are one as far as SCEP goes. */
static int find_cipher(mdm_str_t inner, bool *transport_ok)
{
    const unsigned char *p = (const unsigned char *)inner.s;
    PKCS7 *p7 = d2i_PKCS7(NULL, &p, (long)inner.n);
    STACK_OF(PKCS7_RECIP_INFO) *recipients;
    int nid = NID_undef;
    int n;
    int i;

    *transport_ok = true;
    if (p7 != NULL && PKCS7_type_is_enveloped(p7) &&
        p7->d.enveloped != NULL) {
        nid = OBJ_obj2nid(p7->d.enveloped->enc_data->algorithm->algorithm);
        recipients = p7->d.enveloped->recipientinfo;
        for (i = 0; i < sk_PKCS7_RECIP_INFO_num(recipients); i++) {
            n = OBJ_obj2nid(sk_PKCS7_RECIP_INFO_value(recipients, i)
                                ->key_enc_algor->algorithm);
            if ((n != NID_rsaEncryption && n != NID_rsaesOaep) ||
                i == RECIPIENTS_MAX) {
                *transport_ok = false;
            }
        }
    }
    PKCS7_free(p7);
    return nid;
}

static mdm_rc check_algorithms(mdm_pkimsg_t *msg, mdm_str_t inner,
                               bool legacy, mdm_pki_fail_t *fail_r,
                               mdm_err_t *err)
{
    bool transport_ok;

    msg->cipher = find_cipher(inner, &transport_ok);
    if (msg->cipher == NID_undef) {
        return fail(fail_r, MDM_PKI_BAD_MESSAGE_CHECK, err,
                    "what it signs is not encrypted data");
    }
    if (!transport_ok) {
        return fail(fail_r, MDM_PKI_BAD_ALG, err,
                    "its key is not encrypted with RSA");
    }
    if (msg->cipher != NID_aes_128_cbc && msg->cipher != NID_aes_192_cbc &&
        msg->cipher != NID_aes_256_cbc && msg->cipher != NID_des_ede3_cbc &&
        (msg->cipher != NID_des_cbc || !legacy)) {
        return fail(fail_r, MDM_PKI_BAD_ALG, err,
                    msg->cipher == NID_des_cbc
                        ? "encrypted with single DES; "
                          "MDMSCEPLegacyEncryption "
                          "(mdm_scep_legacy_encryption) would allow it"
                        : "encrypted with another cipher than AES or "
                          "Triple-DES");
    }
    return MDM_OK;
}

static const mdm_authority_t *find_recipient(CMS_ContentInfo *envelope,
                                             const mdm_pki_keys_t *keys)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(envelope);
    CMS_RecipientInfo *one;
    size_t j;
    int i;

    for (i = 0; i < sk_CMS_RecipientInfo_num(infos) && i < RECIPIENTS_MAX;
         i++) {
        one = sk_CMS_RecipientInfo_value(infos, i);
        for (j = 0; j < keys->n; j++) {
            if (CMS_RecipientInfo_type(one) == CMS_RECIPINFO_TRANS &&
                CMS_RecipientInfo_ktri_cert_cmp(
                    one, mdm_authority_x509(keys->all[j])) == 0) {
                return keys->all[j];
            }
        }
    }
    return NULL;
}

static CMS_ContentInfo *read_envelope(mdm_str_t inner, OSSL_LIB_CTX *ctx)
{
    const unsigned char *p = (const unsigned char *)inner.s;
    CMS_ContentInfo *envelope = CMS_ContentInfo_new_ex(ctx, NULL);

    return envelope != NULL
               ? d2i_CMS_ContentInfo(&envelope, &p, (long)inner.n)
               : NULL;
}

/* From here to a readable request every fault is the same one. */
static mdm_rc undecipherable(mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    return fail(fail_r, MDM_PKI_BAD_MESSAGE_CHECK, err,
                "cannot be decrypted");
}

static mdm_rc decrypt(mdm_pkimsg_t *msg, mdm_str_t inner,
                      const mdm_pki_keys_t *keys, mdm_str_t *plain_r)
{
    CMS_ContentInfo *envelope = read_envelope(
        inner, msg->cipher == NID_des_cbc ? keys->legacy->ctx : NULL);
    const mdm_authority_t *authority =
        envelope != NULL ? find_recipient(envelope, keys) : NULL;
    BIO *out = BIO_new(BIO_s_mem());
    mdm_rc rc = MDM_EDENIED;

    if (authority != NULL && out != NULL) {
        msg->authority = authority;
        if (CMS_decrypt(envelope, mdm_authority_pkey(authority),
                        mdm_authority_x509(authority), NULL, out,
                        CMS_BINARY) == 1) {
            rc = mdm_pkimsg_take_bio(msg, out, plain_r, NULL);
        }
    }
    BIO_free(out);
    CMS_ContentInfo_free(envelope);
    return rc;
}

static bool holds_request(int type)
{
    return type == MDM_PKI_PKCS_REQ || type == MDM_PKI_RENEWAL_REQ;
}

mdm_rc mdm_pkimsg_read(mdm_pkimsg_t *msg, const mdm_pki_keys_t *keys,
                       mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    mdm_str_t inner = MDM_STR_NONE;
    mdm_str_t plain = MDM_STR_NONE;
    mdm_rc rc;

    ERR_clear_error();
    msg->authority = keys->all[0];
    rc = check_signature(msg, &inner, fail_r, err);
    if (rc == MDM_OK && holds_request(msg->request.type)) {
        if (!mdm_ber_is_sane(inner)) {
            rc = undecipherable(fail_r, err);
        }
        if (rc == MDM_OK) {
            rc = check_algorithms(msg, inner, keys->legacy != NULL, fail_r,
                                  err);
        }
        if (rc == MDM_OK &&
            decrypt(msg, inner, keys, &plain) != MDM_OK) {
            rc = undecipherable(fail_r, err);
        }
        if (rc == MDM_OK) {
            rc = mdm_pkimsg_read_csr(msg, plain, fail_r, err);
        }
    }
    ERR_clear_error();
    return rc;
}
