/*
 * mdm_x509_key.c - private keys from PEM, encrypted ones too, and the reason
 * in words where one does not open.
 *
 * OpenSSL says "unsupported" to a wrong pass phrase (when what comes out
 * happens to be padded well) and to a cipher that it does not offer any more,
 * so the cipher is looked up in the text.  Any thread; no state.
 */
#include "mdm_x509_int.h"

#include <string.h>

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include "mdm_str.h"

#define CIPHER_SIZE 40

int mdm_x509_passphrase(char *buf, int size, int writing, void *arg)
{
    const mdm_str_t *pass = arg;

    (void)writing;
    if (pass == NULL || pass->s == NULL || pass->n > (size_t)size) {
        return -1;
    }
    memcpy(buf, pass->s, pass->n);
    return (int)pass->n;
}

typedef struct asked {
    mdm_str_t passphrase;
    bool asked; /* OpenSSL wanted one: the key is encrypted */
} asked_t;

static int note_and_give(char *buf, int size, int writing, void *arg)
{
    asked_t *a = arg;

    a->asked = true;
    return mdm_x509_passphrase(buf, size, writing, &a->passphrase);
}

/* ---- which cipher ------------------------------------------------------- */

/* "DEK-Info: DES-CBC,0123..." of the traditional form. */
static bool traditional_cipher(mdm_str_t pem, char name[CIPHER_SIZE])
{
    static const char field[] = "\nDEK-Info:";
    const char *at = memmem(pem.s, pem.n, field, sizeof(field) - 1);
    mdm_str_t rest;
    mdm_str_t value;

    if (at == NULL) {
        return false;
    }
    at += sizeof(field) - 1;
    rest = (mdm_str_t){at, pem.n - (size_t)(at - pem.s)};
    value = mdm_str_split(&rest, '\n');
    value = mdm_str_trim(mdm_str_split(&value, ','));
    (void)mdm_str_printable(value, name, CIPHER_SIZE);
    return value.n > 0 && value.n < CIPHER_SIZE;
}

/* The algorithm identifiers of PKCS#5 version 2 stand one level deeper. */
static int pbes2_cipher(const X509_ALGOR *algorithm)
{
    PBE2PARAM *both = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM),
                                                algorithm->parameter);
    int nid = NID_undef;

    if (both != NULL) {
        nid = OBJ_obj2nid(both->encryption->algorithm);
        PBE2PARAM_free(both);
    }
    return nid;
}

static bool pkcs8_cipher(mdm_str_t pem, char name[CIPHER_SIZE])
{
    mdm_rc rc;
    BIO *bio = mdm_x509_open_pem(pem, &rc, NULL);
    X509_SIG *sealed = NULL;
    const X509_ALGOR *algorithm;
    const char *text = NULL;
    int nid = NID_undef;
    int outer;

    if (bio != NULL) {
        sealed = PEM_read_bio_PKCS8(bio, NULL, mdm_x509_passphrase, NULL);
    }
    if (sealed != NULL) {
        X509_SIG_get0(sealed, &algorithm, NULL);
        outer = OBJ_obj2nid(algorithm->algorithm);
        if (outer == NID_pbes2) {
            nid = pbes2_cipher(algorithm);
        } else if (EVP_PBE_find(EVP_PBE_TYPE_OUTER, outer, &nid, NULL,
                                NULL) != 1) {
            nid = NID_undef;
        }
        text = nid > 0 ? OBJ_nid2sn(nid) : NULL;
        (void)mdm_str_printable(mdm_str_from(text), name, CIPHER_SIZE);
    }
    X509_SIG_free(sealed);
    BIO_free(bio);
    return text != NULL && nid != NID_undef;
}

/* Is the key encrypted by a cipher that OpenSSL, as the host has set it up,
 * does not offer?  Its name is in `name` then. */
static bool is_retired(mdm_str_t pem, char name[CIPHER_SIZE])
{
    EVP_CIPHER *cipher;

    if (!traditional_cipher(pem, name) && !pkcs8_cipher(pem, name)) {
        return false;
    }
    cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_free(cipher);
    return cipher == NULL;
}

/* ---- the key ------------------------------------------------------------ */

/* OpenSSL 3 says the same of a text without a key and of a damaged one. */
static bool has_key(mdm_str_t pem)
{
    static const char end[] = "PRIVATE KEY-----";

    return memmem(pem.s, pem.n, end, sizeof(end) - 1) != NULL;
}

static mdm_rc not_opened(mdm_str_t pem, const asked_t *a, bool *locked_r,
                         mdm_err_t *err)
{
    char cipher[CIPHER_SIZE];

    bool retired = is_retired(pem, cipher);

    ERR_clear_error();
    if (retired) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the private key is encrypted with %s, which "
                           "OpenSSL offers no more; encrypt it anew: openssl "
                           "pkey -provider legacy -provider default -aes256 "
                           "-in OLD -out NEW",
                           cipher);
    }
    *locked_r = true;
    if (a->passphrase.s == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the private key is encrypted, and no pass phrase "
                           "was given");
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "the private key does not open with this pass phrase");
}

mdm_rc mdm_x509_read_key(mdm_str_t pem, mdm_str_t passphrase,
                         EVP_PKEY **key_r, bool *locked_r, mdm_err_t *err)
{
    asked_t asked = {.passphrase = passphrase};
    mdm_rc rc;
    BIO *bio = mdm_x509_open_pem(pem, &rc, err);
    bool no_memory;

    *key_r = NULL;
    *locked_r = false;
    if (bio == NULL) {
        return rc;
    }
    ERR_clear_error();
    *key_r = PEM_read_bio_PrivateKey(bio, NULL, note_and_give, &asked);
    BIO_free(bio);
    no_memory = mdm_err_take_nomem();
    if (*key_r != NULL) {
        rc = MDM_OK;
    } else if (no_memory) {
        rc = mdm_err_nomem(err);
    } else if (asked.asked) {
        rc = not_opened(pem, &asked, locked_r, err);
    } else if (!has_key(pem)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "no private key (\"BEGIN PRIVATE KEY\") in it; the "
                         "file that Apple delivers holds the certificate "
                         "only");
    } else {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "the private key is damaged");
    }
    return rc;
}
