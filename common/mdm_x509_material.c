/*
 * mdm_x509_material.c - certificates and keys in any dress; see
 * mdm_x509_material.h.
 *
 * Ciphers that OpenSSL retired (RC2-40 of Keychain's exports, single DES) are
 * opened in a library context of one reading's own with the legacy provider;
 * the rest of the process does not see it.  PEM is cut into blocks here, so
 * that each fault can be told apart, and OpenSSL gets one block at a time.
 */
#include "mdm_x509_material.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>

#include "mdm_str.h"
#include "mdm_x509_int.h"

#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"
#define NAME_MAX_LEN 64
#define TOO_MANY_ROUNDS                                                       \
    "opening it would take too long, its pass phrase is stretched by too "    \
    "many rounds; encrypt it anew"

/* One reading. */
typedef struct reading {
    const mdm_ask_t *ask;
    mdm_err_t *err;
    mdm_material_t *m;
    bool asked;     /* for what is read now */
    bool none;      /* there is no pass phrase */
    mdm_rc ask_rc;  /* asking failed */
    int blocks;     /* seen so far */
    OSSL_LIB_CTX *ctx;
    OSSL_PROVIDER *legacy;
    OSSL_PROVIDER *usual;
} reading_t;

static mdm_rc fault(const reading_t *r, const char *what)
{
    return mdm_err_take_nomem() ? mdm_err_nomem(r->err)
                                : mdm_err_set(r->err, MDM_EINVAL, 0, "%s",
                                              what);
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

/* ---- the pass phrase ----------------------------------------------------- */

static bool take_phrase(reading_t *r, mdm_str_t *phrase_r)
{
    r->asked = true;
    *phrase_r = MDM_STR_NONE;
    if (r->ask_rc == MDM_OK) {
        r->ask_rc = r->ask->fn(r->ask->ctx, phrase_r, r->err);
    }
    r->none = r->ask_rc == MDM_OK && phrase_r->s == NULL;
    return phrase_r->s != NULL;
}

static int give(char *buf, int size, int writing, void *arg)
{
    reading_t *r = arg;
    mdm_str_t phrase;

    (void)writing;
    if (!take_phrase(r, &phrase) || phrase.n > (size_t)size) {
        return -1;
    }
    memcpy(buf, phrase.s, phrase.n);
    return (int)phrase.n;
}

/* A certificate may have an encrypted dress, too; without a function OpenSSL
 * would ask on the terminal. */
static int refuse(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

/* Something encrypted did not open. */
static mdm_rc not_opened(reading_t *r, const char *what)
{
    ERR_clear_error();
    if (r->ask_rc != MDM_OK) {
        return r->ask_rc;
    }
    r->m->locked = true;
    if (r->none) {
        return mdm_err_set(r->err, MDM_EINVAL, 0,
                           "%s is encrypted, and no pass phrase was given",
                           what);
    }
    return mdm_err_set(r->err, MDM_EINVAL, 0,
                       "%s does not open with this pass phrase%s", what,
                       r->legacy != NULL
                           ? ""
                           : ", or it is encrypted in a way that needs "
                             "OpenSSL's legacy provider, which is not "
                             "installed");
}

/* ---- adding -------------------------------------------------------------- */

static mdm_rc add_cert(reading_t *r, X509 *cert)
{
    if (cert == NULL) {
        return fault(r, "a certificate in it is damaged");
    }
    if (r->m->certs == NULL) {
        r->m->certs = sk_X509_new_null();
    }
    if (r->m->certs == NULL ||
        sk_X509_num(r->m->certs) >= MDM_MATERIAL_BLOCKS_MAX ||
        sk_X509_push(r->m->certs, cert) == 0) {
        X509_free(cert);
        return fault(r, "there are more certificates in it than a chain can "
                        "have");
    }
    return MDM_OK;
}

/* The same key in the default context: the one it was read in goes. */
static EVP_PKEY *move_key(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    const unsigned char *at;
    EVP_PKEY *moved = NULL;
    int n = i2d_PrivateKey(key, &der);

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
        return fault(r, "the private key is damaged");
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
    return text.n > 0 ? memmem(text.s, text.n, what, strlen(what)) : NULL;
}

static mdm_str_t behind(mdm_str_t text, const char *at)
{
    return (mdm_str_t){at, (size_t)(text.s + text.n - at)};
}

/* ---- PEM ----------------------------------------------------------------- */

/* "DES-CBC,0123..." behind "DEK-Info:" of the traditional form, whose ciphers
 * OpenSSL takes from the host's context alone.  False: it has this one, or it
 * is another form. */
static bool is_retired(mdm_str_t block, mdm_str_t *value_r, char *name,
                       size_t cap)
{
    static const char field[] = "\nDEK-Info:";
    const char *at = find(block, field);
    EVP_CIPHER *cipher;
    mdm_str_t rest;

    if (at == NULL) {
        return false;
    }
    rest = behind(block, at + strlen(field));
    *value_r = mdm_str_split(&rest, '\n');
    if (value_r->n > 0 && value_r->s[value_r->n - 1] == '\r') {
        value_r->n--;
    }
    rest = *value_r;
    (void)mdm_str_printable(mdm_str_trim(mdm_str_split(&rest, ',')), name,
                            cap);
    cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_free(cipher);
    ERR_clear_error();
    return cipher == NULL;
}

static mdm_rc retired_key(reading_t *r, mdm_str_t block, mdm_str_t value,
                          const char *cipher)
{
    BIO *bio = BIO_new_mem_buf(block.s, (int)block.n);
    unsigned char *der = NULL;
    mdm_str_t phrase = MDM_STR_NONE;
    EVP_PKEY *key = NULL;
    char *name = NULL;
    char *header = NULL;
    long n = 0;
    bool read;

    if (r->legacy == NULL) {
        BIO_free(bio);
        return mdm_err_set(r->err, MDM_EINVAL, 0,
                           "the private key is encrypted with %s, for which "
                           "OpenSSL's legacy provider is not installed; "
                           "install it, or encrypt the key anew where it is: "
                           "openssl pkey -provider legacy -provider default "
                           "-aes256 -in OLD -out NEW",
                           cipher);
    }
    read = bio != NULL && PEM_read_bio(bio, &name, &header, &der, &n) == 1;
    if (read && take_phrase(r, &phrase)) {
        key = mdm_x509_open_traditional(
            value, (mdm_str_t){(char *)der, (size_t)n}, phrase, r->ctx);
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    return key != NULL ? add_key(r, key)
           : read      ? not_opened(r, "the private key")
                       : fault(r, "the private key is damaged");
}

/* One that would keep a thread busy for minutes, or for ever? */
static mdm_rc judge_rounds(const reading_t *r, const X509_SIG *sealed)
{
    return sealed == NULL || mdm_x509_is_quick_pkcs8(sealed)
               ? MDM_OK
               : fault(r, TOO_MANY_ROUNDS);
}

static mdm_rc pem_rounds(const reading_t *r, mdm_str_t block)
{
    BIO *bio = BIO_new_mem_buf(block.s, (int)block.n);
    X509_SIG *sealed =
        bio != NULL ? PEM_read_bio_PKCS8(bio, NULL, refuse, NULL) : NULL;
    mdm_rc rc;

    ERR_clear_error();
    rc = judge_rounds(r, sealed);
    X509_SIG_free(sealed);
    BIO_free(bio);
    return rc;
}

static mdm_rc pem_key(reading_t *r, mdm_str_t block)
{
    char cipher[40];
    mdm_str_t value;
    BIO *bio;
    EVP_PKEY *key = NULL;
    mdm_rc rc;

    if (r->ask == NULL) {
        return MDM_OK;
    }
    open_context(r);
    if (is_retired(block, &value, cipher, sizeof(cipher))) {
        return retired_key(r, block, value, cipher);
    }
    rc = pem_rounds(r, block);
    if (rc != MDM_OK) {
        return rc;
    }
    r->asked = false;
    bio = BIO_new_mem_buf(block.s, (int)block.n);
    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey_ex(bio, NULL, give, r, r->ctx, NULL);
    }
    BIO_free(bio);
    if (key != NULL) {
        return add_key(r, key);
    }
    return r->asked ? not_opened(r, "the private key")
                    : fault(r, "the private key is damaged");
}

static bool ends_in(mdm_str_t name, const char *end)
{
    size_t n = strlen(end);

    return name.n >= n && memcmp(name.s + name.n - n, end, n) == 0;
}

static mdm_rc pem_block(reading_t *r, mdm_str_t name, mdm_str_t block)
{
    BIO *bio;
    X509 *cert;

    if (ends_in(name, "PRIVATE KEY")) {
        return pem_key(r, block);
    }
    r->m->csr = r->m->csr || ends_in(name, "CERTIFICATE REQUEST");
    r->m->public_key = r->m->public_key || ends_in(name, "PUBLIC KEY");
    if (!ends_in(name, "CERTIFICATE")) {
        return MDM_OK; /* parameters of a curve and the like */
    }
    bio = BIO_new_mem_buf(block.s, (int)block.n);
    cert = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, refuse, NULL) : NULL;
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

    while (rc == MDM_OK && (begin = find(text, BEGIN)) != NULL) {
        text = behind(text, begin);
        name = behind(text, begin + strlen(BEGIN));
        end = find(name, DASHES);
        name.n = end != NULL ? (size_t)(end - name.s) : 0;
        end = find(text, END);
        if (r->blocks++ == MDM_MATERIAL_BLOCKS_MAX) {
            return fault(r, "there is more in it than a certificate file can "
                            "hold");
        }
        if (name.n == 0 || name.n > NAME_MAX_LEN || end == NULL ||
            behind(text, end).n < strlen(END) + name.n + strlen(DASHES) ||
            memcmp(end + strlen(END), name.s, name.n) != 0) {
            return fault(r, "it is cut off or damaged: a BEGIN line without "
                            "its END line");
        }
        end += strlen(END) + name.n + strlen(DASHES);
        rc = pem_block(r, name, (mdm_str_t){begin, (size_t)(end - begin)});
        text = behind(text, end);
    }
    return rc;
}

/* ---- DER and PKCS #12 ---------------------------------------------------- */

static PKCS12 *parse_pkcs12(const reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    PKCS12 *p12 = PKCS12_init_ex(NID_pkcs7_data, r->ctx, NULL);
    PKCS12 *read = p12;

    if (p12 == NULL || d2i_PKCS12(&read, &at, (long)data.n) == NULL) {
        return NULL; /* it freed what it was given */
    }
    return read;
}

typedef struct pkcs12_parts {
    EVP_PKEY *key;
    X509 *cert;
    STACK_OF(X509) *others;
} pkcs12_parts_t;

static bool opens(PKCS12 *p12, const char *phrase, pkcs12_parts_t *parts)
{
    memset(parts, 0, sizeof(*parts));
    return PKCS12_parse(p12, phrase, &parts->key, &parts->cert,
                        &parts->others) == 1;
}

static mdm_rc add_parts(reading_t *r, pkcs12_parts_t *parts)
{
    mdm_rc rc = MDM_OK;

    if (parts->cert != NULL) {
        rc = add_cert(r, parts->cert);
    }
    while (rc == MDM_OK && sk_X509_num(parts->others) > 0) {
        rc = add_cert(r, sk_X509_shift(parts->others));
    }
    if (rc == MDM_OK && parts->key != NULL) {
        rc = add_key(r, parts->key);
    } else {
        EVP_PKEY_free(parts->key);
    }
    sk_X509_pop_free(parts->others, X509_free);
    return rc;
}

/* PKCS12_parse() wants a C string. */
static mdm_rc open_with_phrase(reading_t *r, PKCS12 *p12,
                               pkcs12_parts_t *parts)
{
    char text[MDM_PASSPHRASE_MAX + 1];
    mdm_str_t phrase;
    bool ok = false;

    if (take_phrase(r, &phrase) && phrase.n < sizeof(text) &&
        memchr(phrase.s, '\0', phrase.n) == NULL) {
        memcpy(text, phrase.s, phrase.n);
        text[phrase.n] = '\0';
        ok = opens(p12, text, parts);
        mdm_wipe(text, sizeof(text));
    }
    return ok ? MDM_OK : not_opened(r, "the PKCS #12 file");
}

static mdm_rc read_pkcs12(reading_t *r, PKCS12 *p12)
{
    pkcs12_parts_t parts;
    mdm_rc rc = MDM_OK;

    r->asked = false;
    r->m->pkcs12 = true;
    if (!mdm_x509_is_quick_pkcs12(p12)) {
        return fault(r, TOO_MANY_ROUNDS);
    }
    if (!opens(p12, NULL, &parts) && !opens(p12, "", &parts)) {
        rc = PKCS12_mac_present(p12) == 1
                 ? open_with_phrase(r, p12, &parts)
                 : fault(r, "the PKCS #12 file has no checksum (MAC); export "
                            "it anew");
    }
    return rc == MDM_OK ? add_parts(r, &parts) : rc;
}

static mdm_rc der_rounds(const reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509_SIG *sealed = d2i_X509_SIG(NULL, &at, (long)data.n);
    mdm_rc rc;

    ERR_clear_error();
    rc = judge_rounds(r, sealed);
    X509_SIG_free(sealed);
    return rc;
}

/* A private key, encrypted or not. */
static EVP_PKEY *der_key(reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)data.n);
    BIO *bio;

    r->asked = false;
    if (key == NULL) {
        bio = BIO_new_mem_buf(data.s, (int)data.n);
        key = bio != NULL ? d2i_PKCS8PrivateKey_bio(bio, NULL, give, r)
                          : NULL;
        BIO_free(bio);
    }
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

/* One thing in DER. */
static mdm_rc der_thing(reading_t *r, mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509 *cert = d2i_X509(NULL, &at, (long)data.n);
    PKCS12 *p12;
    EVP_PKEY *key;
    mdm_rc rc;

    if (cert != NULL) {
        return add_cert(r, cert);
    }
    if (is_request(data)) {
        r->m->csr = true;
        return MDM_OK;
    }
    if (r->ask == NULL) {
        return MDM_OK;
    }
    open_context(r);
    p12 = parse_pkcs12(r, data);
    if (p12 != NULL) {
        rc = read_pkcs12(r, p12);
        PKCS12_free(p12);
        return rc;
    }
    rc = der_rounds(r, data);
    if (rc != MDM_OK) {
        return rc;
    }
    key = der_key(r, data);
    if (key != NULL) {
        return add_key(r, key);
    }
    return r->asked ? not_opened(r, "the private key")
                    : fault(r, "it is neither certificate nor key, or is "
                               "damaged or cut off");
}

/* ---- which form ---------------------------------------------------------- */

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
    if (text.n >= 2 && (memcmp(text.s, "\xff\xfe", 2) == 0 ||
                        memcmp(text.s, "\xfe\xff", 2) == 0)) {
        return fault(r, "it was saved as UTF-16; save it as plain text (ANSI "
                        "or UTF-8), or take the file as it was downloaded");
    }
    if (find(text, BEGIN) == NULL) {
        return fault(r, is_base64(text)
                            ? "it is base64 without its BEGIN and END lines; "
                              "take the file as it was downloaded"
                            : "there is neither certificate nor key in it");
    }
    if (find(text, "\n") == NULL) {
        return fault(r, "it has the line ends of old Macs; convert them: tr "
                        "'\\r' '\\n' <OLD >NEW");
    }
    return read_pem(r, text);
}

/* Length of the one thing in DER at the begin; 0: it goes to the end, or
 * beyond. */
static size_t der_length(mdm_str_t data)
{
    const unsigned char *at = (const unsigned char *)data.s;
    long n = 0;
    int tag = 0;
    int class = 0;
    int bad = ASN1_get_object(&at, &n, &tag, &class, (long)data.n);

    ERR_clear_error();
    if ((bad & 0x80) != 0 || (bad & 1) != 0) {
        return 0;
    }
    return (size_t)(at - (const unsigned char *)data.s) + (size_t)n;
}

/* DER things one behind the other, and text after them. */
static mdm_rc read_all(reading_t *r, mdm_str_t data)
{
    mdm_rc rc = MDM_OK;
    size_t n;

    while (rc == MDM_OK && data.n > 0 && data.s[0] == 0x30) {
        if (r->blocks++ == MDM_MATERIAL_BLOCKS_MAX) {
            return fault(r, "there is more in it than a certificate file can "
                            "hold");
        }
        n = der_length(data);
        n = n == 0 || n > data.n ? data.n : n;
        rc = der_thing(r, (mdm_str_t){data.s, n});
        data = behind(data, data.s + n);
    }
    while (r->blocks > 0 && data.n > 0 &&
           strchr(" \t\r\n", data.s[0]) != NULL && data.s[0] != '\0') {
        data = behind(data, data.s + 1);
    }
    return rc == MDM_OK && data.n > 0 ? read_text(r, data) : rc;
}

mdm_rc mdm_material_read(mdm_str_t data, const mdm_ask_t *ask,
                         mdm_material_t *m, mdm_err_t *err)
{
    reading_t r = {.ask = ask, .err = err, .m = m};
    mdm_rc rc;

    ERR_clear_error();
    if (data.n > MDM_MATERIAL_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "it is longer than a certificate file can be");
    }
    if (data.n >= 3 && memcmp(data.s, "\xef\xbb\xbf", 3) == 0) {
        data = behind(data, data.s + 3);
    }
    if (data.n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "there is nothing in it");
    }
    rc = read_all(&r, data);
    close_context(&r);
    ERR_clear_error();
    return rc;
}

void mdm_material_clear(mdm_material_t *m)
{
    sk_X509_pop_free(m->certs, X509_free);
    EVP_PKEY_free(m->key);
    memset(m, 0, sizeof(*m));
}
