/*
 * certs_push.c - mdmcerts: the push key and its signing request.
 *
 * A key that is in use is never touched: without an option nothing that
 * exists is overwritten, --renew makes a new request for the same key,
 * --new-key makes a key of another name beside it, and --force gives the
 * former key another name.
 */
#include <ctype.h>
#include <string.h>

#include "certs_pki.h"
#include "mdm_x509_material.h"

#define STEM "push"
#define NEW_STEM "push-new"

static mdm_rc read_country(const char *text, char dst[3], mdm_err_t *err)
{
    if (strlen(text) != 2 || !isalpha((unsigned char)text[0]) ||
        !isalpha((unsigned char)text[1])) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "the country code has two letters, such as DE");
    }
    dst[0] = (char)toupper((unsigned char)text[0]);
    dst[1] = (char)toupper((unsigned char)text[1]);
    dst[2] = '\0';
    return MDM_OK;
}

static mdm_rc push_path(const certs_args_t *args, const certs_push_t *push,
                        const char *end, char *dst, mdm_err_t *err)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "%s%s", push->stem, end);
    return certs_path(dst, args->dir, args->prefix, name, err);
}

static bool keeps_key(const certs_args_t *args)
{
    return args->renew && !args->new_key;
}

static mdm_rc judge_names(const certs_args_t *args, const certs_push_t *push,
                          mdm_err_t *err)
{
    char key[PATH_MAX];
    mdm_rc rc = push_path(args, push, ".key", key, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (keeps_key(args)) {
        return certs_exists(key)
                   ? MDM_OK
                   : mdm_err_set(err, MDM_ENOTFOUND, 0,
                                 "there is no %s to renew with; without "
                                 "--renew a new key is made, which does as "
                                 "well",
                                 key);
    }
    if (args->force || !certs_exists(key)) {
        return MDM_OK;
    }
    if (args->new_key) {
        return mdm_err_set(err, MDM_ECONFLICT, 0,
                           "%s is there already, from an earlier --new-key, "
                           "and nothing was changed; once it is in use move "
                           "it to %s%s.key, or give --force",
                           key, args->prefix, STEM);
    }
    return mdm_err_set(err, MDM_ECONFLICT, 0,
                       "%s exists already, and nothing was changed; --renew "
                       "makes a new request for this key, --new-key a new key "
                       "beside it",
                       key);
}

mdm_rc certs_push_prepare(const certs_args_t *args, certs_push_t *push,
                          mdm_err_t *err)
{
    mdm_rc rc;

    memset(push, 0, sizeof(*push));
    mdm_buf_init_secret(&push->key_pem, CERTS_FILE_MAX);
    mdm_buf_init(&push->csr_der, CERTS_FILE_MAX);
    push->stem = args->new_key ? NEW_STEM : STEM;
    rc = read_country(args->operands[0], push->country, err);
    return rc == MDM_OK ? judge_names(args, push, err) : rc;
}

/* ---- key ---------------------------------------------------------------- */

static mdm_rc make_key(const certs_question_t *question, certs_push_t *push,
                       mdm_err_t *err)
{
    mdm_rc rc = certs_secret_get(question, &push->secret, err);

    if (rc == MDM_OK) {
        rc = certs_key_new(&push->key, err);
    }
    if (rc == MDM_OK) {
        rc = certs_key_seal(push->key, &push->secret, &push->key_pem, err);
        push->key_is_new = true;
    }
    return rc;
}

static mdm_rc take_key(const certs_args_t *args,
                       const certs_question_t *question, certs_push_t *push,
                       mdm_err_t *err)
{
    char path[PATH_MAX];
    mdm_rc rc = push_path(args, push, ".key", path, err);

    if (rc == MDM_OK) {
        rc = certs_key_read(path, question, &push->secret, &push->key, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_x509_judge_key(push->key, path, err);
    }
    return rc;
}

mdm_rc certs_push_make(const certs_args_t *args, certs_push_t *push,
                       mdm_err_t *err)
{
    certs_question_t question = {.source = args->push_password,
                                 .option = "--push-password",
                                 .what = "Push private key password",
                                 .is_new = !keeps_key(args)};
    mdm_rc rc;

    rc = keeps_key(args) ? take_key(args, &question, push, err)
                         : make_key(&question, push, err);
    if (rc == MDM_OK) {
        rc = certs_csr_new(push->key, "MDM Push", push->country, &push->csr,
                           err);
    }
    if (rc == MDM_OK) {
        rc = certs_csr_der(push->csr, &push->csr_der, err);
    }
    return rc;
}

mdm_rc certs_push_files(const certs_args_t *args, const certs_push_t *push,
                        certs_file_t *files, size_t *n_r, mdm_err_t *err)
{
    certs_file_t *file = files;
    mdm_rc rc = MDM_OK;

    memset(files, 0, CERTS_PUSH_FILES * sizeof(*files));
    if (push->key_is_new) {
        rc = push_path(args, push, ".key", file->path, err);
        file->data = mdm_buf_str(&push->key_pem);
        file->where = args->force ? CERTS_ASIDE : CERTS_NEW;
        file++;
    }
    if (rc == MDM_OK) {
        rc = push_path(args, push, ".csr", file->path, err);
        file->data = mdm_buf_str(&push->csr_der);
        file->where = args->renew || args->new_key || args->force
                          ? CERTS_REPLACE
                          : CERTS_NEW;
        file++;
    }
    *n_r = (size_t)(file - files);
    return rc;
}

void certs_push_clear(certs_push_t *push)
{
    EVP_PKEY_free(push->key);
    X509_REQ_free(push->csr);
    mdm_buf_clear(&push->key_pem);
    mdm_buf_clear(&push->csr_der);
    certs_secret_wipe(&push->secret);
}
