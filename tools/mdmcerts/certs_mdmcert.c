/*
 * certs_mdmcert.c - mdmcerts fetch: a signed request from mdmcert.download,
 * a vendor that signs for small sites and mails the result.
 *
 * First half: push key and CSR, a throw-away RSA key with a certificate of its
 * own, and one POST that carries CSR, e-mail address and the certificate.
 * Second half (--decrypt): the mailed file is the hexadecimal text of a CMS
 * message to that certificate; in it is the request that Apple takes.
 *
 * The files are staged before the POST: once the vendor has answered, the
 * keys cannot fail to be written for want of room.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/cms.h>
#include <openssl/err.h>

#include "certs_pki.h"
#include "mdm_str.h"

#define SITE "https://mdmcert.download"
#define DEFAULT_URL SITE "/api/v1/signrequest"
#define ANSWER_MAX (64 * 1024)
#define MAIL_MAX (1024 * 1024)
#define KEY_NAME "mdmcert.key"
#define CERT_NAME "mdmcert.crt"

/* ---- the request -------------------------------------------------------- */

/* What the throw-away key consists of. */
typedef struct parcel {
    mdm_buf_t key_pem;
    mdm_buf_t cert_pem;
    mdm_buf_t json; /* to be posted */
} parcel_t;

static void parcel_init(parcel_t *p)
{
    mdm_buf_init_secret(&p->key_pem, CERTS_FILE_MAX);
    mdm_buf_init(&p->cert_pem, CERTS_FILE_MAX);
    mdm_buf_init_secret(&p->json, 2 * CERTS_FILE_MAX);
}

static void parcel_clear(parcel_t *p)
{
    mdm_buf_clear(&p->key_pem);
    mdm_buf_clear(&p->cert_pem);
    mdm_buf_clear(&p->json);
}

static mdm_rc make_throwaway(const certs_secret_t *secret, parcel_t *p,
                             mdm_err_t *err)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    mdm_rc rc = certs_key_new(&key, err);

    if (rc == MDM_OK) {
        rc = certs_key_seal(key, secret, &p->key_pem, err);
    }
    if (rc == MDM_OK) {
        rc = certs_cert_new(key, "mdmcert.download", &cert, err);
    }
    if (rc == MDM_OK) {
        rc = certs_cert_pem(cert, &p->cert_pem, err);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}

/* Goes into JSON as it is. */
static bool is_plain(mdm_str_t text)
{
    return text.n > 0 && mdm_str_is_solid(text) &&
           memchr(text.s, '"', text.n) == NULL &&
           memchr(text.s, '\\', text.n) == NULL;
}

static void put_base64(mdm_buf_t *json, const char *key, mdm_str_t data)
{
    (void)mdm_buf_printf(json, ",\"%s\":\"", key);
    if (mdm_buf_reserve(json, MDM_BASE64_SIZE(data.n)) == MDM_OK) {
        mdm_base64_encode(data.s, data.n, json->data + json->len);
        json->len += MDM_BASE64_SIZE(data.n) - 1;
    }
    (void)mdm_buf_puts(json, "\"");
}

static mdm_rc ask_api_key(const certs_args_t *args, certs_secret_t *api_key,
                          mdm_err_t *err)
{
    certs_question_t question = {.source = args->api_key,
                                 .option = "--api-key",
                                 .what = "mdmcert.download API key"};
    mdm_rc rc = certs_secret_get(&question, api_key, err);

    if (rc == MDM_OK && !is_plain(certs_secret_str(api_key))) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the API key has characters in it that no key has");
    }
    return rc;
}

static mdm_rc make_json(const certs_args_t *args, const certs_push_t *push,
                        parcel_t *p, mdm_err_t *err)
{
    certs_secret_t api_key;
    mdm_buf_t csr;
    mdm_rc rc = ask_api_key(args, &api_key, err);

    mdm_buf_init(&csr, CERTS_FILE_MAX);
    if (rc == MDM_OK) {
        rc = certs_csr_pem(push->csr, &csr, err);
    }
    if (rc == MDM_OK) {
        (void)mdm_buf_printf(&p->json, "{\"email\":\"%s\",\"key\":\"%.*s\"",
                             args->email,
                             MDM_STR_ARG(certs_secret_str(&api_key)));
        put_base64(&p->json, "csr", mdm_buf_str(&csr));
        put_base64(&p->json, "encrypt", mdm_buf_str(&p->cert_pem));
        (void)mdm_buf_puts(&p->json, "}");
        if (mdm_buf_rc(&p->json) != MDM_OK) {
            rc = mdm_err_nomem(err);
        }
    }
    certs_secret_wipe(&api_key);
    mdm_buf_clear(&csr);
    return rc;
}

/* ---- the answer --------------------------------------------------------- */

static mdm_rc judge_answer(mdm_str_t body, long status, mdm_err_t *err)
{
    json_t *answer = json_loadb(body.s != NULL ? body.s : "", body.n, 0, NULL);
    const char *result = json_string_value(json_object_get(answer, "result"));
    const char *reason = json_string_value(json_object_get(answer, "reason"));
    char text[200];
    mdm_rc rc = MDM_OK;

    if (result == NULL) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, 0,
                         "the vendor answered with status %ld and no word "
                         "about the request; nothing was written, try again "
                         "later",
                         status);
    } else if (status != 200 || strcmp(result, "success") != 0) {
        (void)mdm_str_printable(
            mdm_str_from(reason != NULL ? reason : result), text,
            sizeof(text));
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "the vendor refused the request (status %ld): %s; "
                         "nothing was written. The e-mail address must be "
                         "registered at " SITE ", the API key is the one it "
                         "gave you",
                         status, text);
    }
    json_decref(answer);
    return rc;
}

static mdm_rc post(const certs_args_t *args, const parcel_t *p, mdm_err_t *err)
{
    certs_http_t http = {.url = args->url != NULL ? args->url : DEFAULT_URL,
                         .ca = args->ca, .json = p->json.data,
                         .max = ANSWER_MAX};
    mdm_buf_t body;
    long status = 0;
    mdm_rc rc;

    mdm_buf_init(&body, ANSWER_MAX);
    rc = certs_http_run(&http, &body, &status, err);
    if (rc == MDM_OK) {
        rc = judge_answer(mdm_buf_str(&body), status, err);
    }
    mdm_buf_clear(&body);
    return rc;
}

static mdm_rc add_file(const certs_args_t *args, const char *name,
                       mdm_str_t data, certs_file_t *file, mdm_err_t *err)
{
    file->data = data;
    /* A mail that is still under way belongs to the former key. */
    file->where = CERTS_ASIDE;
    return certs_path(file->path, args->dir, args->prefix, name, err);
}

/* Stage, post, publish. */
static mdm_rc send(const certs_args_t *args, const certs_push_t *push,
                   const parcel_t *p, mdm_err_t *err)
{
    certs_file_t files[CERTS_PUSH_FILES];
    size_t n = 0;
    mdm_rc rc = certs_push_files(args, push, files, &n, err);

    if (rc == MDM_OK) {
        rc = add_file(args, KEY_NAME, mdm_buf_str(&p->key_pem), &files[n++],
                      err);
    }
    if (rc == MDM_OK) {
        rc = add_file(args, CERT_NAME, mdm_buf_str(&p->cert_pem), &files[n++],
                      err);
    }
    if (rc == MDM_OK) {
        rc = certs_files_stage(files, n, err);
    }
    if (rc == MDM_OK) {
        rc = post(args, p, err);
        if (rc == MDM_OK) {
            rc = certs_files_publish(files, n, err);
        } else {
            certs_files_drop(files, n);
        }
    }
    if (rc == MDM_OK) {
        certs_files_tell(files, n);
        (void)printf("\nWhat to do now:\n"
                     "  1. Wait for the mail to %s; save the attached file.\n"
                     "  2. Run: mdmcerts -d %s%s%s fetch --decrypt FILE\n",
                     args->email, args->dir,
                     args->prefix[0] != '\0' ? " -p " : "", args->prefix);
    }
    return rc;
}

static mdm_rc fetch_request(const certs_args_t *args, mdm_err_t *err)
{
    certs_push_t push;
    parcel_t parcel;
    certs_file_t files[CERTS_PUSH_FILES];
    size_t n = 0;
    mdm_rc rc = certs_push_prepare(args, &push, err);

    parcel_init(&parcel);
    if (rc == MDM_OK && !is_plain(mdm_str_from(args->email))) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "this is no e-mail address: --email is the one that "
                         "is registered at " SITE);
    }
    if (rc == MDM_OK) {
        rc = certs_push_files(args, &push, files, &n, err);
    }
    if (rc == MDM_OK) {
        rc = certs_files_judge(files, n, err);
    }
    if (rc == MDM_OK) {
        rc = certs_make_dir(args->dir, err);
    }
    if (rc == MDM_OK) {
        rc = certs_push_make(args, &push, err);
    }
    if (rc == MDM_OK && push.secret.n == 0) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the push key has no password, which protects what "
                         "is written here as well; give it one: openssl pkey "
                         "-aes256 -in OLD -out NEW");
    }
    if (rc == MDM_OK) {
        rc = make_throwaway(&push.secret, &parcel, err);
    }
    if (rc == MDM_OK) {
        rc = make_json(args, &push, &parcel, err);
    }
    if (rc == MDM_OK) {
        rc = send(args, &push, &parcel, err);
    }
    parcel_clear(&parcel);
    certs_push_clear(&push);
    return rc;
}

/* ---- the mail ----------------------------------------------------------- */

/* Hexadecimal digits with white space anywhere to bytes, in place. */
static bool un_hex(mdm_buf_t *text)
{
    size_t digits = 0;
    size_t i;

    for (i = 0; i < text->len; i++) {
        if (!isspace((unsigned char)text->data[i])) {
            text->data[digits++] = text->data[i];
        }
    }
    if (digits == 0 || digits % 2 != 0 ||
        !mdm_hex_decode((mdm_str_t){text->data, digits},
                        (unsigned char *)text->data, digits / 2)) {
        return false;
    }
    text->len = digits / 2;
    return true;
}

static mdm_rc read_mail(const char *path, CMS_ContentInfo **cms_r,
                        mdm_err_t *err)
{
    const unsigned char *at;
    mdm_buf_t text;
    mdm_rc rc;

    *cms_r = NULL;
    mdm_buf_init(&text, MAIL_MAX + 4096);
    rc = certs_read_file(path, MAIL_MAX, &text, err);
    if (rc == MDM_OK && text.len > 0 &&
        (text.data[0] == 0x30 || un_hex(&text))) {
        at = (const unsigned char *)text.data;
        *cms_r = d2i_CMS_ContentInfo(NULL, &at, (long)text.len);
    }
    if (rc == MDM_OK && (*cms_r == NULL ||
                         OBJ_obj2nid(CMS_get0_type(*cms_r)) !=
                             NID_pkcs7_enveloped)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s is not the file of the mail: that one is called "
                         "mdm_signed_request.....plist.b64.p7 and holds "
                         "nothing but hexadecimal digits",
                         path);
    }
    ERR_clear_error();
    mdm_buf_clear(&text);
    return rc;
}

static mdm_rc open_mail(CMS_ContentInfo *cms, EVP_PKEY *key, X509 *cert,
                        mdm_buf_t *content, mdm_err_t *err)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL;
    long n = 0;
    mdm_rc rc = MDM_OK;

    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    if (CMS_decrypt(cms, key, cert, NULL, out, 0) == 1) {
        n = BIO_get_mem_data(out, &data);
    }
    ERR_clear_error();
    if (n <= 0) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the mailed file does not open with %s: it answers "
                         "another request (see %s.old-*), or it is damaged",
                         KEY_NAME, KEY_NAME);
    } else if (mdm_buf_append(content, data, (size_t)n) != MDM_OK) {
        rc = mdm_err_nomem(err);
    }
    BIO_free(out);
    return rc;
}

static mdm_rc load_throwaway(const certs_args_t *args, EVP_PKEY **key_r,
                             X509 **cert_r, mdm_err_t *err)
{
    certs_question_t question = {.source = args->push_password,
                                 .option = "--push-password",
                                 .what = "Push private key password"};
    char path[PATH_MAX];
    mdm_rc rc = certs_path(path, args->dir, args->prefix, CERT_NAME, err);

    if (rc == MDM_OK) {
        rc = certs_cert_read(path, cert_r, err);
    }
    if (rc == MDM_OK) {
        rc = certs_path(path, args->dir, args->prefix, KEY_NAME, err);
    }
    return rc == MDM_OK ? certs_key_read(path, &question, NULL, key_r, err)
                        : rc;
}

/* Which of our requests is this the answer to? */
static mdm_rc find_stem(const certs_args_t *args, mdm_str_t b64,
                        const char **stem_r, mdm_err_t *err)
{
    static const char *const stems[] = {"push-new", "push"};
    char name[32];
    char path[PATH_MAX];
    X509_REQ *csr;
    mdm_rc rc = MDM_EINVAL;
    size_t i;

    for (i = 0; rc != MDM_OK && i < MDM_ARRAY_LEN(stems); i++) {
        (void)snprintf(name, sizeof(name), "%s.csr", stems[i]);
        rc = certs_path(path, args->dir, args->prefix, name, err);
        if (rc == MDM_OK) {
            rc = certs_csr_read(path, &csr, err);
        }
        if (rc == MDM_OK) {
            rc = certs_request_judge(b64, csr, err);
            X509_REQ_free(csr);
        }
        *stem_r = stems[i];
    }
    return rc;
}

static mdm_rc write_request(const certs_args_t *args, mdm_str_t b64,
                            mdm_err_t *err)
{
    certs_file_t file;
    char name[32];
    const char *stem = NULL;
    mdm_rc rc = find_stem(args, b64, &stem, err);

    if (rc != MDM_OK) {
        return rc;
    }
    memset(&file, 0, sizeof(file));
    file.data = b64;
    file.where = CERTS_REPLACE;
    (void)snprintf(name, sizeof(name), "%s.b64", stem);
    rc = certs_path(file.path, args->dir, args->prefix, name, err);
    if (rc == MDM_OK) {
        rc = certs_files_write(&file, 1, err);
    }
    if (rc == MDM_OK) {
        certs_files_tell(&file, 1);
        (void)printf("\nWhat to do now: upload it at "
                     "https://identity.apple.com/pushcert (a renewal: with "
                     "the SAME\nApple Account, \"Renew\" at the SAME entry). "
                     "%s%s has done its work and may go.\n",
                     args->prefix, KEY_NAME);
    }
    return rc;
}

static mdm_rc fetch_decrypt(const certs_args_t *args, mdm_err_t *err)
{
    CMS_ContentInfo *cms = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    mdm_buf_t content;
    mdm_rc rc = read_mail(args->decrypt, &cms, err);

    mdm_buf_init(&content, MAIL_MAX);
    if (rc == MDM_OK) {
        rc = load_throwaway(args, &key, &cert, err);
    }
    if (rc == MDM_OK) {
        rc = open_mail(cms, key, cert, &content, err);
    }
    if (rc == MDM_OK) {
        rc = write_request(args, mdm_buf_str(&content), err);
    }
    mdm_buf_clear(&content);
    X509_free(cert);
    EVP_PKEY_free(key);
    CMS_ContentInfo_free(cms);
    return rc;
}

/* What no option names comes from the environment. */
static void add_environment(certs_args_t *args)
{
    if (args->email == NULL) {
        args->email = getenv("MDMCERTS_EMAIL");
    }
    if (args->url == NULL) {
        args->url = getenv("MDMCERTS_URL");
    }
    if (args->api_key == NULL && getenv("MDMCERTS_API_KEY") != NULL) {
        args->api_key = "env:MDMCERTS_API_KEY";
    }
}

mdm_rc certs_fetch(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    certs_args_t more = *args;

    (void)status_r;
    if (args->decrypt != NULL) {
        return fetch_decrypt(args, err);
    }
    add_environment(&more);
    if (more.noperands != 1 || more.email == NULL) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "fetch needs a country code and --email ADDRESS, "
                           "or --decrypt FILE");
    }
    return fetch_request(&more, err);
}
