/*
 * mdm_cms_sign.c - signing what we send, around its content; see mdm_cms.h.
 */
#include "mdm_cms.h"

#include <stdlib.h>

#include <openssl/cms.h>
#include <openssl/err.h>

#include "mdm_x509_material.h"

struct mdm_signer {
    mdm_material_t m; /* the certificate of the key first, then the chain */
};

static mdm_rc no_phrase(void *ctx, mdm_str_t *phrase_r, mdm_err_t *err)
{
    (void)ctx;
    (void)err;
    *phrase_r = MDM_STR_NONE;
    return MDM_OK;
}

mdm_rc mdm_signer_new(const mdm_str_t *parts, size_t nparts,
                      mdm_signer_t **signer_r, mdm_err_t *err)
{
    static const mdm_ask_t ask = {no_phrase, NULL};
    mdm_signer_t *signer = calloc(1, sizeof(*signer));
    mdm_rc rc = signer != NULL ? MDM_OK : mdm_err_nomem(err);
    size_t i;

    for (i = 0; rc == MDM_OK && i < nparts; i++) {
        rc = mdm_material_read(parts[i], &ask, &signer->m, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_material_judge_pair(&signer->m, err);
    }
    if (rc != MDM_OK) {
        mdm_signer_free(&signer);
    }
    *signer_r = signer;
    return rc;
}

void mdm_signer_free(mdm_signer_t **signer)
{
    if (*signer != NULL) {
        mdm_material_clear(&(*signer)->m);
        free(*signer);
        *signer = NULL;
    }
}

int64_t mdm_signer_end(const mdm_signer_t *signer)
{
    return mdm_x509_time_us(
        X509_get0_notAfter(sk_X509_value(signer->m.certs, 0)));
}

/* The chain goes along, the signer's own certificate by itself. */
static CMS_ContentInfo *sign(const mdm_signer_t *signer, BIO *content)
{
    const unsigned flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
    X509 *leaf = sk_X509_value(signer->m.certs, 0);
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, content, flags);
    bool ok = cms != NULL && CMS_add1_signer(cms, leaf, signer->m.key,
                                             EVP_sha256(), flags) != NULL;
    int i;

    for (i = 1; ok && i < sk_X509_num(signer->m.certs); i++) {
        ok = CMS_add1_cert(cms, sk_X509_value(signer->m.certs, i)) == 1;
    }
    if (!ok || CMS_final(cms, content, NULL, flags) != 1) {
        CMS_ContentInfo_free(cms);
        return NULL;
    }
    return cms;
}

mdm_rc mdm_signer_sign(const mdm_signer_t *signer, mdm_str_t content,
                       mdm_buf_t *der, mdm_err_t *err)
{
    BIO *bio = BIO_new_mem_buf(content.s, (int)content.n);
    CMS_ContentInfo *cms = bio != NULL ? sign(signer, bio) : NULL;
    unsigned char *bytes = NULL;
    int n = cms != NULL ? i2d_CMS_ContentInfo(cms, &bytes) : 0;
    mdm_rc rc = MDM_OK;

    if (n <= 0) {
        rc = mdm_err_openssl(err, MDM_EINTERNAL, 0, "cannot sign");
    } else if (mdm_buf_append(der, bytes, (size_t)n) != MDM_OK) {
        rc = mdm_err_nomem(err);
    }
    if (n > 0) {
        OPENSSL_clear_free(bytes, (size_t)n);
    }
    CMS_ContentInfo_free(cms);
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}
