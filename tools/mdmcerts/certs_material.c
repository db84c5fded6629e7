/*
 * certs_material.c - mdmcerts: certificates and keys in any dress.
 *
 * Ciphers that OpenSSL retired (RC2-40 of Keychain's exports, single DES) are
 * opened in a library context of this file's own with the legacy provider; the
 * rest of the program does not see it.  PEM is cut into blocks here, so that
 * each fault can be told apart, and OpenSSL gets one block at a time.
 */
#include "certs_material.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>

#include "certs_pki.h"
#include "mdm_str.h"

#define BLOCKS_MAX 64
#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"

/* One reading of one file. */
typedef struct reading {
    const char *path;
    const certs_question_t *question;
    certs_secret_t *secret;
    bool asked;
    mdm_rc asked_rc; /* why there is no password */
    mdm_err_t *err;
    certs_material_t *m;
    OSSL_LIB_CTX *ctx; /* NULL: the default one */
    OSSL_PROVIDER *legacy;
    OSSL_PROVIDER *usual;
} reading_t;

static mdm_rc fault(const reading_t *r, const char *what)
{
    ERR_clear_error();
    return mdm_err_set(r->err, MDM_EINVAL, 0, "%s %s", r->path, what);
}

static mdm_rc wrong_password(const reading_t *r)
{
    return fault(r, r->legacy != NULL
                        ? "does not open with this password"
                        : "does not open with this password, or it is "
                          "encrypted in a way that needs OpenSSL's legacy "
                          "provider, which is not installed");
}

/* At the first key: retired ciphers are there if the legacy provider is
 * installed. */
static void open_context(reading_t *r)
{
    if (r->ctx == NULL && (r->ctx = OSSL_LIB_CTX_new()) != NULL) {
        r->legacy = OSSL_PROVIDER_load(r->ctx, "legacy");
        r->usual = OSSL_PROVIDER_load(r->ctx, "default");
    }
    ERR_clear_error();
}

static void close_context(reading_t *r)
{
    if (r->legacy != NULL) {
        (void)OSSL_PROVIDER_unload(r->legacy);
    }
    if (r->usual != NULL) {
        (void)OSSL_PROVIDER_unload(r->usual);
    }
    OSSL_LIB_CTX_free(r->ctx);
    r->ctx = NULL;
}

/* The password, asked for at most once in a whole reading. */
static bool has_password(reading_t *r)
{
    if (r->secret->n == 0 && !r->asked) {
        r->asked = true;
        r->asked_rc = certs_secret_get(r->question, r->secret, r->err);
    }
    return r->asked_rc == MDM_OK;
}

static int give(char *buf, int size, int writing, void *arg)
{
    reading_t *r = arg;

    (void)writing;
    r->asked = r->asked || r->secret->n > 0;
    if (!has_password(r) || r->secret->n > (size_t)size) {
        return -1;
    }
    memcpy(buf, r->secret->text, r->secret->n);
    return (int)r->secret->n;
}

/* ---- adding ------------------------------------------------------------- */

static mdm_rc add_cert(reading_t *r, X509 *cert)
{
    if (cert == NULL) {
        return fault(r, "holds a damaged certificate");
    }
    if (r->m->certs == NULL) {
        r->m->certs = sk_X509_new_null();
    }
    if (r->m->certs == NULL || sk_X509_num(r->m->certs) >= BLOCKS_MAX ||
        sk_X509_push(r->m->certs, cert) == 0) {
        X509_free(cert);
        return fault(r, "holds more certificates than a chain can have");
    }
    return MDM_OK;
}

/* The same key in the default context: the one it was read in goes. */
static EVP_PKEY *move_key(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    const unsigned char *at;
    int n = i2d_PrivateKey(key, &der);
    EVP_PKEY *moved = NULL;

    if (n > 0) {
        at = der;
        moved = d2i_AutoPrivateKey(NULL, &at, n);
        OPENSSL_clear_free(der, (size_t)n);
    }
    EVP_PKEY_free(key);
    return moved;
}

static mdm_rc add_key(reading_t *r, EVP_PKEY *key)
{
    key = move_key(key);
    if (key == NULL) {
        return fault(r, "holds a damaged private key");
    }
    /* The same one twice does no harm. */
    if (r->m->key != NULL && EVP_PKEY_eq(r->m->key, key) == 1) {
        EVP_PKEY_free(key);
        return MDM_OK;
    }
    r->m->nkeys++;
    if (r->m->key == NULL) {
        r->m->key = key;
    } else {
        EVP_PKEY_free(key);
    }
    return MDM_OK;
}

static const char *find(mdm_str_t text, const char *what)
{
    return text.s != NULL ? memmem(text.s, text.n, what, strlen(what)) : NULL;
}

static mdm_str_t behind(mdm_str_t text, const char *at)
{
    return (mdm_str_t){at, (size_t)(text.s + text.n - at)};
}

/* ---- PEM ---------------------------------------------------------------- */

/* "DEK-Info: DES-CBC,0123..." of the traditional form, whose ciphers come from
 * the default context alone. */
static mdm_rc not_opened(const reading_t *r, mdm_str_t block)
{
    static const char field[] = "\nDEK-Info:";
    const char *at = find(block, field);
    EVP_CIPHER *cipher;
    mdm_str_t rest;
    mdm_str_t name;
    char text[40];

    if (at == NULL) {
        return wrong_password(r);
    }
    rest = behind(block, at + strlen(field));
    name = mdm_str_split(&rest, ',');
    (void)mdm_str_printable(mdm_str_trim(name), text, sizeof(text));
    cipher = EVP_CIPHER_fetch(NULL, text, NULL);
    EVP_CIPHER_free(cipher);
    if (cipher != NULL) {
        return wrong_password(r);
    }
    ERR_clear_error();
    return mdm_err_set(r->err, MDM_EINVAL, 0,
                       "%s is encrypted with %s, which OpenSSL offers no "
                       "more; encrypt it anew: openssl rsa -provider legacy "
                       "-provider default -aes256 -in OLD -out NEW",
                       r->path, text);
}

static mdm_rc pem_key(reading_t *r, mdm_str_t block)
{
    BIO *bio;
    EVP_PKEY *key;

    if (r->question == NULL) {
        return MDM_OK;
    }
    open_context(r);
    bio = BIO_new_mem_buf(block.s, (int)block.n);
    r->asked = false;
    key = bio != NULL
              ? PEM_read_bio_PrivateKey_ex(bio, NULL, give, r, r->ctx, NULL)
              : NULL;
    BIO_free(bio);
    if (key != NULL) {
        return add_key(r, key);
    }
    if (r->asked_rc != MDM_OK) {
        ERR_clear_error();
        return r->asked_rc;
    }
    return r->asked ? not_opened(r, block)
                    : fault(r, "holds a damaged private key");
}

static bool named(mdm_str_t name, const char *end)
{
    size_t n = strlen(end);

    return name.n >= n && memcmp(name.s + name.n - n, end, n) == 0;
}

static mdm_rc pem_block(reading_t *r, mdm_str_t name, mdm_str_t block)
{
    BIO *bio;
    X509 *cert;

    if (named(name, "PRIVATE KEY")) {
        return pem_key(r, block);
    }
    r->m->csr = r->m->csr || named(name, "CERTIFICATE REQUEST");
    r->m->public_key = r->m->public_key || named(name, "PUBLIC KEY");
    if (!named(name, "CERTIFICATE")) {
        return MDM_OK; /* parameters of a curve and the like */
    }
    bio = BIO_new_mem_buf(block.s, (int)block.n);
    cert = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return add_cert(r, cert);
}

/* Cuts the text into its blocks; what stands between is passed over. */
static mdm_rc read_pem(reading_t *r, mdm_str_t text)
{
    const char *begin;
    const char *end;
    mdm_str_t name;
    mdm_rc rc = MDM_OK;
    int left = BLOCKS_MAX;

    while (rc == MDM_OK && (begin = find(text, BEGIN)) != NULL) {
        text = behind(text, begin);
        name = behind(text, begin + strlen(BEGIN));
        end = find(name, DASHES);
        name.n = end != NULL ? (size_t)(end - name.s) : 0;
        end = find(text, END);
        if (left-- == 0) {
            return fault(r, "holds more than a certificate file can");
        }
        if (name.n == 0 || name.n > 64 || end == NULL ||
            behind(text, end).n < strlen(END) + name.n + strlen(DASHES) ||
            memcmp(end + strlen(END), name.s, name.n) != 0) {
            return fault(r, "is cut off or damaged: a BEGIN line without its "
                            "END line");
        }
        end += strlen(END) + name.n + strlen(DASHES);
        rc = pem_block(r, name, (mdm_str_t){begin, (size_t)(end - begin)});
        text = behind(text, end);
    }
    return rc;
}

/* ---- DER and PKCS #12 --------------------------------------------------- */

static PKCS12 *parse_pkcs12(const reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    PKCS12 *p12 = PKCS12_init_ex(NID_pkcs7_data, r->ctx, NULL);
    PKCS12 *read = p12;

    if (p12 == NULL) {
        return NULL;
    }
    if (d2i_PKCS12(&read, &at, (long)data.n) == NULL) {
        return NULL; /* it freed what it was given */
    }
    return read;
}

static bool pkcs12_opens(PKCS12 *p12, const char *password, EVP_PKEY **key_r,
                         X509 **cert_r, STACK_OF(X509) **others_r)
{
    *key_r = NULL;
    *cert_r = NULL;
    *others_r = NULL;
    return PKCS12_parse(p12, password, key_r, cert_r, others_r) == 1;
}

static mdm_rc add_pkcs12(reading_t *r, EVP_PKEY *key, X509 *cert,
                         STACK_OF(X509) *others)
{
    mdm_rc rc = MDM_OK;

    if (cert != NULL) {
        rc = add_cert(r, cert);
    }
    while (rc == MDM_OK && sk_X509_num(others) > 0) {
        rc = add_cert(r, sk_X509_shift(others));
    }
    if (rc == MDM_OK && key != NULL) {
        rc = add_key(r, key);
    } else {
        EVP_PKEY_free(key);
    }
    sk_X509_pop_free(others, X509_free);
    return rc;
}

static mdm_rc read_pkcs12(reading_t *r, PKCS12 *p12)
{
    EVP_PKEY *key;
    X509 *cert;
    STACK_OF(X509) *others;
    bool ok = pkcs12_opens(p12, NULL, &key, &cert, &others) ||
              pkcs12_opens(p12, "", &key, &cert, &others);

    r->asked = false;
    r->m->pkcs12 = true;
    if (!ok && PKCS12_mac_present(p12) != 1) {
        return fault(r, "is a PKCS #12 file without its checksum (MAC); "
                        "export it anew");
    }
    if (!ok) {
        if (!has_password(r)) {
            ERR_clear_error();
            return r->asked_rc;
        }
        ok = pkcs12_opens(p12, r->secret->text, &key, &cert, &others);
    }
    return ok ? add_pkcs12(r, key, cert, others) : wrong_password(r);
}

/* A private key in DER, encrypted or not. */
static EVP_PKEY *der_key(reading_t *r, mdm_str_t data)
{
    BIO *bio = BIO_new_mem_buf(data.s, (int)data.n);
    const unsigned char *at = (const unsigned char *)data.s;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)data.n);

    r->asked = false;
    if (key == NULL && bio != NULL) {
        key = d2i_PKCS8PrivateKey_bio(bio, NULL, give, r);
    }
    BIO_free(bio);
    return key;
}

static bool is_request(mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509_REQ *csr = d2i_X509_REQ(NULL, &at, (long)data.n);
    bool found = csr != NULL;

    X509_REQ_free(csr);
    return found;
}

static mdm_rc read_der(reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509 *cert = d2i_X509(NULL, &at, (long)data.n);
    PKCS12 *p12;
    EVP_PKEY *key;
    mdm_rc rc;

    if (cert != NULL) {
        return add_cert(r, cert);
    }
    if (r->question == NULL) {
        r->m->csr = is_request(data);
        return MDM_OK;
    }
    open_context(r);
    p12 = parse_pkcs12(r, data);
    if (p12 != NULL) {
        rc = read_pkcs12(r, p12);
        PKCS12_free(p12);
        return rc;
    }
    key = der_key(r, data);
    if (key != NULL) {
        return add_key(r, key);
    }
    if (r->asked_rc != MDM_OK) {
        return r->asked_rc;
    }
    if (r->asked) {
        return wrong_password(r);
    }
    r->m->csr = r->m->csr || is_request(data);
    return r->m->csr ? MDM_OK
                     : fault(r, "is neither certificate nor key, or is "
                                "damaged or cut off");
}

/* ---- which form --------------------------------------------------------- */

static bool is_base64(mdm_str_t text)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if (memchr("+/= \t\r\n", text.s[i], 7) == NULL &&
            !((text.s[i] | 0x20) >= 'a' && (text.s[i] | 0x20) <= 'z') &&
            !(text.s[i] >= '0' && text.s[i] <= '9')) {
            return false;
        }
    }
    return text.n > 0;
}

static mdm_rc read_text(reading_t *r, mdm_str_t text)
{
    if (text.n >= 3 && memcmp(text.s, "\xef\xbb\xbf", 3) == 0) {
        text = behind(text, text.s + 3);
    }
    if (text.n >= 2 && (memcmp(text.s, "\xff\xfe", 2) == 0 ||
                        memcmp(text.s, "\xfe\xff", 2) == 0)) {
        return fault(r, "was saved as UTF-16; save it as plain text (ANSI or "
                        "UTF-8), or take the file as it was downloaded");
    }
    if (find(text, BEGIN) == NULL) {
        return fault(r, is_base64(text)
                            ? "is base64 without its BEGIN and END lines; "
                              "take the file as it was downloaded"
                            : "holds neither certificate nor key");
    }
    if (find(text, "\n") == NULL) {
        return fault(r, "has the line ends of old Macs; convert them: tr "
                        "'\\r' '\\n' <OLD >NEW");
    }
    return read_pem(r, text);
}

mdm_rc certs_material_read(const char *path, const certs_question_t *question,
                           certs_secret_t *secret, certs_material_t *m,
                           mdm_err_t *err)
{
    reading_t r = {.path = path, .question = question, .secret = secret,
                   .err = err, .m = m};
    mdm_buf_t data;
    mdm_rc rc;

    mdm_buf_init_secret(&data, CERTS_FILE_MAX + 8192);
    rc = certs_read_file(path, CERTS_FILE_MAX, &data, err);
    if (rc == MDM_OK && data.len == 0) {
        rc = fault(&r, "is empty");
    }
    if (rc == MDM_OK) {
        rc = data.data[0] == 0x30 ? read_der(&r, mdm_buf_str(&data))
                                  : read_text(&r, mdm_buf_str(&data));
        close_context(&r);
        ERR_clear_error();
    }
    mdm_buf_clear(&data);
    return rc;
}

void certs_material_clear(certs_material_t *m)
{
    sk_X509_pop_free(m->certs, X509_free);
    EVP_PKEY_free(m->key);
    memset(m, 0, sizeof(*m));
}

/* ---- the pair ----------------------------------------------------------- */

mdm_rc certs_material_order(certs_material_t *m, bool *is_pair_r,
                            mdm_err_t *err)
{
    X509 *cert;
    int i;

    *is_pair_r = false;
    for (i = 0; m->key != NULL && i < sk_X509_num(m->certs); i++) {
        cert = sk_X509_value(m->certs, i);
        if (X509_check_private_key(cert, m->key) == 1) {
            *is_pair_r = true;
            (void)sk_X509_delete(m->certs, i);
            if (sk_X509_unshift(m->certs, cert) == 0) {
                X509_free(cert);
                return mdm_err_nomem(err);
            }
            break;
        }
    }
    ERR_clear_error();
    return MDM_OK;
}

mdm_rc certs_material_pem(const certs_material_t *m, mdm_buf_t *pem,
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
