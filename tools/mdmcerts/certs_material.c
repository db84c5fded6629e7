/*
 * certs_material.c - see certs_material.h.
 */
#include "certs_material.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "certs_pki.h"

typedef struct asking {
    const certs_question_t *question;
    certs_secret_t *secret;
} asking_t;

/* The password, asked for at most once. */
static mdm_rc ask(void *ctx, mdm_str_t *phrase_r, mdm_err_t *err)
{
    asking_t *a = ctx;
    mdm_rc rc = MDM_OK;

    if (a->secret->n == 0) {
        rc = certs_secret_get(a->question, a->secret, err);
    }
    *phrase_r = rc == MDM_OK ? certs_secret_str(a->secret) : MDM_STR_NONE;
    return rc;
}

mdm_rc certs_material_read(const char *path, const certs_question_t *question,
                           certs_secret_t *secret, mdm_material_t *m,
                           mdm_err_t *err)
{
    asking_t asking = {question, secret};
    const mdm_ask_t how = {ask, &asking};
    mdm_buf_t data;
    mdm_rc rc;

    mdm_buf_init_secret(&data, CERTS_FILE_MAX + 8192);
    rc = certs_read_file(path, CERTS_FILE_MAX, &data, err);
    if (rc == MDM_OK) {
        rc = mdm_material_read(mdm_buf_str(&data),
                               question != NULL ? &how : NULL, m, err);
        /* That a password is missing or too short tells of itself. */
        if (rc != MDM_OK && (question == NULL || secret->n > 0 ||
                             !m->locked)) {
            (void)mdm_err_prefix(err, "%s", path);
        }
    }
    mdm_buf_clear(&data);
    return rc;
}

mdm_rc certs_material_pem(const mdm_material_t *m, mdm_buf_t *pem,
                          mdm_err_t *err)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    char *text = NULL;
    long n = 0;
    mdm_rc rc = MDM_OK;
    int i;

    for (i = 0; rc == MDM_OK && i < sk_X509_num(m->certs); i++) {
        rc = certs_cert_pem(sk_X509_value(m->certs, i), pem, err);
    }
    if (rc == MDM_OK && m->key != NULL) {
        if (bio != NULL && PEM_write_bio_PKCS8PrivateKey(
                               bio, m->key, NULL, NULL, 0, NULL, NULL) == 1) {
            n = BIO_get_mem_data(bio, &text);
        }
        if (n <= 0 || mdm_buf_append(pem, text, (size_t)n) != MDM_OK) {
            rc = mdm_err_nomem(err);
        }
    }
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}
