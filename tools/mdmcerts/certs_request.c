/*
 * certs_request.c - mdmcerts init, req and sign_req: from nothing to the file
 * that Apple's push certificate portal takes.
 *
 * Everything is judged and made in memory first; files are written last.
 */
#include <stdio.h>
#include <string.h>

#include "certs_pki.h"

/* ---- init --------------------------------------------------------------- */

static void init_next(const certs_args_t *args)
{
    (void)printf(
        "\nWhat to do now:\n"
        "  1. Sign in at https://developer.apple.com/account/resources/"
        "certificates/add\n"
        "     as the holder of the developer account.  Apple must have "
        "allowed it MDM:\n"
        "     the type \"MDM CSR\" is in the list then (ask Apple's developer "
        "support).\n"
        "  2. Choose \"MDM CSR\", upload %s/vendor.csr, download mdm.cer.\n"
        "  3. Save it as %s/vendor.crt.\n"
        "  4. Run: mdmcerts -d %s req COUNTRYCODE\n"
        "Keep vendor.key and its password: no vendor.crt works without "
        "them.\n",
        args->dir, args->dir, args->dir);
}

static mdm_rc init_files(const certs_args_t *args, certs_file_t files[2],
                         mdm_err_t *err)
{
    mdm_rc rc;

    memset(files, 0, 2 * sizeof(*files));
    files[0].where = args->force ? CERTS_ASIDE : CERTS_NEW;
    files[1].where = args->force ? CERTS_REPLACE : CERTS_NEW;
    rc = certs_path(files[0].path, args->dir, "", "vendor.key", err);
    if (rc == MDM_OK) {
        rc = certs_path(files[1].path, args->dir, "", "vendor.csr", err);
    }
    if (rc == MDM_OK) {
        rc = certs_make_dir(args->dir, err);
    }
    return rc == MDM_OK ? certs_files_judge(files, 2, err) : rc;
}

/* Key and request in PEM. */
static mdm_rc init_make(const certs_secret_t *secret, mdm_buf_t *key_pem,
                        mdm_buf_t *csr_pem, mdm_err_t *err)
{
    EVP_PKEY *key = NULL;
    X509_REQ *csr = NULL;
    mdm_rc rc = certs_key_new(&key, err);

    if (rc == MDM_OK) {
        rc = certs_key_seal(key, secret, key_pem, err);
    }
    if (rc == MDM_OK) {
        rc = certs_csr_new(key, "MDM Vendor", NULL, &csr, err);
    }
    if (rc == MDM_OK) {
        rc = certs_csr_pem(csr, csr_pem, err);
    }
    X509_REQ_free(csr);
    EVP_PKEY_free(key);
    return rc;
}

mdm_rc certs_init(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    certs_question_t question = {.source = args->vendor_password,
                                 .option = "--vendor-password",
                                 .what = "Vendor private key password",
                                 .is_new = true};
    certs_file_t files[2];
    certs_secret_t secret;
    mdm_buf_t key_pem;
    mdm_buf_t csr_pem;
    mdm_rc rc = init_files(args, files, err);

    (void)status_r;
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_buf_init_secret(&key_pem, CERTS_FILE_MAX);
    mdm_buf_init(&csr_pem, CERTS_FILE_MAX);
    rc = certs_secret_get(&question, &secret, err);
    if (rc == MDM_OK) {
        rc = init_make(&secret, &key_pem, &csr_pem, err);
    }
    certs_secret_wipe(&secret);
    if (rc == MDM_OK) {
        files[0].data = mdm_buf_str(&key_pem);
        files[1].data = mdm_buf_str(&csr_pem);
        rc = certs_files_write(files, 2, err);
    }
    if (rc == MDM_OK) {
        certs_files_tell(files, 2);
        init_next(args);
    }
    mdm_buf_clear(&key_pem);
    mdm_buf_clear(&csr_pem);
    return rc;
}

/* ---- req ---------------------------------------------------------------- */

static void req_next(const certs_args_t *args, const certs_push_t *push)
{
    const char *p = args->prefix;
    bool again = args->renew || args->new_key;

    (void)printf(
        "\nWhat to do now:\n"
        "  1. Sign in at https://identity.apple.com/pushcert%s.\n",
        again ? " with the SAME Apple\n     Account as for the certificate "
                "in use"
              : "; write down which\n     Apple Account it was: renewals "
                "need the same one");
    (void)printf(
        "  2. %s, upload\n     %s/%s%s.b64, download the certificate.\n",
        again ? "Press \"Renew\" at the SAME entry, never \"Create\""
              : "Press \"Create a Certificate\"",
        args->dir, p, push->stem);
    (void)printf(
        "  3. Look at it: mdmcerts check MDM_....pem %s/%s%s.key\n"
        "  4. Give it to the server: mdmcerts import --store "
        "sqlite:/var/lib/mdm/mdm.db\n"
        "     --cert MDM_....pem --key %s/%s%s.key\n",
        args->dir, p, push->stem, args->dir, p, push->stem);
    if (args->new_key) {
        (void)printf("  5. Then move %s%s.key to %spush.key, so that the next "
                     "renewal finds it.\n",
                     p, push->stem, p);
    }
}

static mdm_rc req_files(const certs_args_t *args, const certs_push_t *push,
                        certs_file_t *files, size_t *n_r, mdm_err_t *err)
{
    char name[32];
    mdm_rc rc = certs_push_files(args, push, files, n_r, err);

    (void)snprintf(name, sizeof(name), "%s.b64", push->stem);
    if (rc == MDM_OK) {
        rc = certs_path(files[*n_r].path, args->dir, args->prefix, name, err);
    }
    if (rc == MDM_OK) {
        files[*n_r].where = files[*n_r - 1].where; /* as the CSR */
        (*n_r)++;
        rc = certs_files_judge(files, *n_r, err);
    }
    return rc;
}

/* What stands in the way shows before anybody types a password. */
static mdm_rc req_prepare(const certs_args_t *args, certs_push_t *push,
                          mdm_err_t *err)
{
    certs_file_t files[CERTS_PUSH_FILES];
    size_t n = 0;
    mdm_rc rc = certs_push_prepare(args, push, err);

    return rc == MDM_OK ? req_files(args, push, files, &n, err) : rc;
}

mdm_rc certs_req(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    certs_file_t files[CERTS_PUSH_FILES];
    certs_vendor_t vendor = {0};
    certs_push_t push;
    mdm_buf_t b64;
    size_t n = 0;
    mdm_rc rc = req_prepare(args, &push, err);

    (void)status_r;
    mdm_buf_init(&b64, 2 * CERTS_FILE_MAX);
    if (rc == MDM_OK) {
        rc = certs_vendor_load(args, &vendor, err);
    }
    if (rc == MDM_OK) {
        rc = certs_push_make(args, &push, err);
    }
    if (rc == MDM_OK) {
        rc = certs_vendor_sign(&vendor, push.csr, &b64, err);
    }
    if (rc == MDM_OK) {
        rc = req_files(args, &push, files, &n, err);
    }
    if (rc == MDM_OK) {
        files[n - 1].data = mdm_buf_str(&b64);
        rc = certs_files_write(files, n, err);
    }
    if (rc == MDM_OK) {
        certs_files_tell(files, n);
        req_next(args, &push);
    }
    mdm_buf_clear(&b64);
    certs_vendor_clear(&vendor);
    certs_push_clear(&push);
    return rc;
}

/* ---- sign_req ----------------------------------------------------------- */

mdm_rc certs_sign_req(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    certs_vendor_t vendor = {0};
    certs_file_t file;
    X509_REQ *csr = NULL;
    mdm_buf_t b64;
    mdm_rc rc;
    int n;

    (void)status_r;
    memset(&file, 0, sizeof(file));
    file.where = args->force ? CERTS_REPLACE : CERTS_NEW;
    n = snprintf(file.path, sizeof(file.path), "%s.b64", args->operands[0]);
    if (n < 0 || n >= PATH_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "the path is too long");
    }
    mdm_buf_init(&b64, 2 * CERTS_FILE_MAX);
    rc = certs_csr_read(args->operands[0], &csr, err);
    if (rc == MDM_OK) {
        rc = certs_files_judge(&file, 1, err);
    }
    if (rc == MDM_OK) {
        rc = certs_vendor_load(args, &vendor, err);
    }
    if (rc == MDM_OK) {
        rc = certs_vendor_sign(&vendor, csr, &b64, err);
    }
    if (rc == MDM_OK) {
        file.data = mdm_buf_str(&b64);
        rc = certs_files_write(&file, 1, err);
    }
    if (rc == MDM_OK) {
        certs_files_tell(&file, 1);
        (void)printf("\nSend it back to whom the request came from: it goes "
                     "to\nhttps://identity.apple.com/pushcert.\n");
    }
    mdm_buf_clear(&b64);
    X509_REQ_free(csr);
    certs_vendor_clear(&vendor);
    return rc;
}
