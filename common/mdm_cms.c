/*
 * mdm_cms.c - see mdm_cms.h.  OpenSSL does the cryptography; what it is too
 * kind about is refused here: content where none may be, bytes behind the
 * message, more than one signer, and more digests than anybody needs.  Its
 * reader bounds by itself how deep values are nested (30, strings in pieces
 * 5), so a message of 64 kB costs little whatever is in it.
 */
#include "mdm_cms.h"

#include <limits.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#define CMS_MAX (64 * 1024)

/* Every digest that a message names is made over the whole content, whether
 * a signer uses it or not. */
#define DIGESTS_MAX 4

struct mdm_cms {
    CMS_ContentInfo *info;
    X509 *signer; /* borrowed from info */
};

static mdm_rc bad(mdm_err_t *err, const char *why)
{
    return mdm_err_take_nomem() ? mdm_err_nomem(err)
                                : mdm_err_set(err, MDM_EINVAL, 0, "%s", why);
}

/* One message and nothing behind it; NULL otherwise. */
static CMS_ContentInfo *read_info(mdm_str_t data)
{
    const unsigned char *p = (const unsigned char *)data.s;
    CMS_ContentInfo *info = NULL;

    if (data.n > 0 && data.n <= CMS_MAX) {
        info = d2i_CMS_ContentInfo(NULL, &p, (long)data.n);
    }
    if (info != NULL && p != (const unsigned char *)data.s + data.n) {
        CMS_ContentInfo_free(info);
        info = NULL;
    }
    return info;
}

/* `content_r`: NULL where the content is to stand apart. */
static mdm_rc check_form(CMS_ContentInfo *info, mdm_str_t *content_r,
                         mdm_err_t *err)
{
    ASN1_OCTET_STRING **content;

    if (OBJ_obj2nid(CMS_get0_type(info)) != NID_pkcs7_signed) {
        return bad(err, "is a CMS message of another type than SignedData");
    }
    if (OBJ_obj2nid(CMS_get0_eContentType(info)) != NID_pkcs7_data) {
        return bad(err, "is one of another type of content than data");
    }
    content = CMS_get0_content(info);
    if (content == NULL || (*content != NULL && content_r == NULL)) {
        return bad(err, "brings content of its own: it must be detached");
    }
    if (content_r != NULL) {
        if (*content == NULL || ASN1_STRING_length(*content) <= 0) {
            return bad(err, "has nothing inside that could be signed");
        }
        content_r->s = (const char *)ASN1_STRING_get0_data(*content);
        content_r->n = (size_t)ASN1_STRING_length(*content);
    }
    if (sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(info)) != 1) {
        return bad(err, "has not exactly one signer");
    }
    return MDM_OK;
}

static mdm_rc write_cert(X509 *cert, mdm_arena_t *arena, mdm_str_t *der_r,
                         mdm_err_t *err)
{
    int n = i2d_X509(cert, NULL);
    unsigned char *der = n > 0 ? mdm_arena_alloc(arena, (size_t)n) : NULL;
    unsigned char *p = der;

    if (n <= 0) {
        return bad(err, "brings a certificate that cannot be written");
    }
    if (der == NULL) {
        return mdm_err_nomem(err);
    }
    *der_r = (mdm_str_t){(const char *)der, (size_t)i2d_X509(cert, &p)};
    return MDM_OK;
}

static mdm_rc write_certs(const mdm_cms_t *cms, STACK_OF(X509) *certs,
                          mdm_arena_t *arena, mdm_shown_t *shown,
                          mdm_err_t *err)
{
    mdm_rc rc = write_cert(cms->signer, arena, &shown->cert, err);
    X509 *cert;
    int i;

    for (i = 0; rc == MDM_OK && i < sk_X509_num(certs); i++) {
        cert = sk_X509_value(certs, i);
        if (cert == cms->signer) {
            continue;
        }
        if (shown->nhelpers == MDM_X509_HELPERS_MAX) {
            return bad(err, "brings too many certificates");
        }
        rc = write_cert(cert, arena, &shown->helpers[shown->nhelpers++],
                        err);
    }
    return rc;
}

static mdm_rc find_signer(mdm_cms_t *cms, mdm_arena_t *arena,
                          mdm_shown_t *shown, mdm_err_t *err)
{
    STACK_OF(X509) *certs;
    CMS_SignerInfo *one;
    mdm_rc rc;

    (void)CMS_set1_signers_certs(cms->info, NULL, 0);
    one = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms->info), 0);
    CMS_SignerInfo_get0_algs(one, NULL, &cms->signer, NULL, NULL);
    if (cms->signer == NULL) {
        return bad(err, "does not bring its signer's certificate");
    }
    certs = CMS_get1_certs(cms->info);
    rc = write_certs(cms, certs, arena, shown, err);
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

static mdm_rc open_message(mdm_str_t data, mdm_arena_t *arena,
                           mdm_cms_t **cms_r, mdm_shown_t *signer_r,
                           mdm_str_t *content_r, mdm_err_t *err)
{
    mdm_cms_t *cms = mdm_arena_alloc(arena, sizeof(*cms));
    mdm_rc rc;

    *cms_r = NULL;
    memset(signer_r, 0, sizeof(*signer_r));
    if (cms == NULL) {
        return mdm_err_nomem(err);
    }
    ERR_clear_error();
    cms->info = read_info(data);
    rc = cms->info != NULL ? check_form(cms->info, content_r, err)
                           : bad(err, "is no CMS message, cut short, or has "
                                      "bytes behind it");
    if (rc == MDM_OK) {
        rc = find_signer(cms, arena, signer_r, err);
    }
    if (rc != MDM_OK) {
        mdm_cms_close(&cms);
    }
    ERR_clear_error();
    *cms_r = cms;
    return rc;
}

mdm_rc mdm_cms_open(mdm_str_t data, mdm_arena_t *arena, mdm_cms_t **cms_r,
                    mdm_shown_t *signer_r, mdm_err_t *err)
{
    return open_message(data, arena, cms_r, signer_r, NULL, err);
}

mdm_rc mdm_cms_open_whole(mdm_str_t data, mdm_arena_t *arena,
                          mdm_cms_t **cms_r, mdm_shown_t *signer_r,
                          mdm_str_t *content_r, mdm_err_t *err)
{
    *content_r = MDM_STR_NONE;
    return open_message(data, arena, cms_r, signer_r, content_r, err);
}

void mdm_cms_close(mdm_cms_t **cms)
{
    if (*cms != NULL) {
        CMS_ContentInfo_free((*cms)->info);
        (*cms)->info = NULL;
        *cms = NULL;
    }
}

static bool is_one_of(const X509_ALGOR *algorithm, const int *nids, size_t n)
{
    const ASN1_OBJECT *object = NULL;
    size_t i;
    int nid;

    X509_ALGOR_get0(&object, NULL, NULL, algorithm);
    nid = OBJ_obj2nid(object);
    for (i = 0; i < n; i++) {
        if (nids[i] == nid) {
            return true;
        }
    }
    return false;
}

static mdm_rc check_algorithms(CMS_SignerInfo *one, mdm_err_t *err)
{
    static const int digests[] = {NID_sha1, NID_sha256, NID_sha384,
                                  NID_sha512};
    static const int signatures[] = {
        NID_rsaEncryption,           NID_sha1WithRSAEncryption,
        NID_sha256WithRSAEncryption, NID_sha384WithRSAEncryption,
        NID_sha512WithRSAEncryption, NID_X9_62_id_ecPublicKey,
        NID_ecdsa_with_SHA1,         NID_ecdsa_with_SHA256,
        NID_ecdsa_with_SHA384,       NID_ecdsa_with_SHA512};
    X509_ALGOR *digest = NULL;
    X509_ALGOR *signature = NULL;

    CMS_SignerInfo_get0_algs(one, NULL, NULL, &digest, &signature);
    if (!is_one_of(digest, digests, MDM_ARRAY_LEN(digests))) {
        return bad(err, "uses another digest than SHA-1 or SHA-2");
    }
    if (!is_one_of(signature, signatures, MDM_ARRAY_LEN(signatures))) {
        return bad(err, "uses another algorithm than RSA (PKCS #1 v1.5) or "
                        "ECDSA");
    }
    return MDM_OK;
}

/* Signed attributes, when there are any, say what kind of content they are
 * about; OpenSSL does not compare. */
static mdm_rc check_attributes(const CMS_SignerInfo *one, mdm_err_t *err)
{
    const ASN1_OBJECT *type;

    if (CMS_signed_get_attr_count(one) <= 0) {
        return MDM_OK;
    }
    type = CMS_signed_get0_data_by_OBJ(
        one, OBJ_nid2obj(NID_pkcs9_contentType), -3, V_ASN1_OBJECT);
    if (type == NULL || OBJ_obj2nid(type) != NID_pkcs7_data) {
        return bad(err, "is about another type of content than data");
    }
    return MDM_OK;
}

static mdm_rc check_digests(CMS_ContentInfo *info, mdm_err_t *err)
{
    BIO *chain = CMS_dataInit(info, NULL);
    unsigned n = 0;
    BIO *at;

    for (at = chain; at != NULL; at = BIO_next(at)) {
        n += BIO_method_type(at) == BIO_TYPE_MD ? 1U : 0U;
    }
    BIO_free_all(chain);
    if (chain == NULL || n == 0 || n > DIGESTS_MAX) {
        return bad(err, "names no digest that is known, or too many");
    }
    return MDM_OK;
}

mdm_rc mdm_cms_verify(mdm_cms_t *cms, mdm_str_t content, mdm_err_t *err)
{
    CMS_SignerInfo *one =
        sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms->info), 0);
    BIO *bio;
    mdm_rc rc;

    ERR_clear_error();
    if ((X509_get_key_usage(cms->signer) & KU_DIGITAL_SIGNATURE) == 0) {
        if (mdm_err_take_nomem()) { /* the extension was not read */
            return mdm_err_nomem(err);
        }
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the key usage of the device certificate does not "
                           "allow signatures");
    }
    rc = check_algorithms(one, err);
    if (rc == MDM_OK) {
        rc = check_attributes(one, err);
    }
    if (rc == MDM_OK) {
        rc = check_digests(cms->info, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    bio = content.n <= INT_MAX
              ? BIO_new_mem_buf(content.n > 0 ? content.s : "",
                                (int)content.n)
              : NULL;
    if (bio == NULL) {
        ERR_clear_error();
        return mdm_err_nomem(err);
    }
    /* Binary: line ends are bytes like any other. */
    if (CMS_verify(cms->info, NULL, NULL, bio, NULL,
                   CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY | CMS_DETACHED) !=
        1) {
        rc = bad(err, "does not fit the body: one of them was changed on the "
                      "way, or signed by another key");
    }
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}
