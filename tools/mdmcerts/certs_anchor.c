/*
 * certs_anchor.c - mdmcerts: the chain from a certificate up to Apple's root.
 *
 * What may be trusted is known beforehand: the root by its fingerprint, every
 * other certificate by a signature that leads to it.  So it does not matter
 * where the files come from, or how they are named: all certificates in the
 * -d directory and in the installed data directory are looked at.
 *
 * Source of fingerprints: Apple's certificate authority page, as pinned by
 * the requirements of this program.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <openssl/x509_vfy.h>

#include "certs_pki.h"
#include "mdm_str.h"

#define APPLE_ROOT_SHA256 \
    "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024"
#define APPLE_G3_SHA256 \
    "dcf21878c77f4198e4b4614f03d696d89c66c66008d4244e1b99161aac91601f"
#define APPLE_SITE "https://www.apple.com"
#define ROOT_PATH "/appleca/"
#define ROOT_FILE "AppleIncRootCertificate.cer"
#define WWDR_PATH "/certificateauthority/"
#define PAGE APPLE_SITE WWDR_PATH
#define FILES_MAX 256
#define FETCHED_MAX 4
#define NAME_SIZE 200

/* A certificate that was loaded: kept as a file once the chain is good. */
typedef struct fetched {
    char file[64];
    char *der;
    size_t n;
} fetched_t;

typedef struct search {
    const certs_args_t *args;
    const char *whose;
    X509 *root; /* --root; else NULL */
    STACK_OF(X509) *known;
    fetched_t fetched[FETCHED_MAX];
    size_t nfetched;
} search_t;

void certs_chain_clear(certs_chain_t *chain)
{
    while (chain->n > 0) {
        X509_free(chain->certs[--chain->n]);
    }
}

static bool is_root(const search_t *s, X509 *cert)
{
    char fingerprint[2 * MDM_SHA256_LEN + 1];

    if (s->root != NULL) {
        return X509_cmp(cert, s->root) == 0;
    }
    return certs_fingerprint(cert, fingerprint) &&
           strcmp(fingerprint, APPLE_ROOT_SHA256) == 0;
}

/* ---- what lies there ---------------------------------------------------- */

static bool is_certificate_name(const char *name)
{
    static const char *const ends[] = {".cer", ".crt", ".der", ".pem"};
    size_t n = strlen(name);
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(ends); i++) {
        if (n > 4 && strcmp(name + n - 4, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Files that cannot be read as certificates are none of this. */
static mdm_rc look_into(const char *dir, STACK_OF(X509) *known,
                        mdm_err_t *err)
{
    DIR *folder = opendir(dir);
    const struct dirent *entry;
    char path[PATH_MAX];
    mdm_rc rc = MDM_OK;
    X509 *cert;
    int left = FILES_MAX;

    while (rc == MDM_OK && folder != NULL && left > 0 &&
           (entry = readdir(folder)) != NULL) {
        if (!is_certificate_name(entry->d_name) ||
            certs_path(path, dir, "", entry->d_name, NULL) != MDM_OK) {
            continue;
        }
        left--;
        if (certs_cert_read(path, &cert, NULL) == MDM_OK &&
            sk_X509_push(known, cert) == 0) {
            X509_free(cert);
            rc = mdm_err_nomem(err);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return rc;
}

/* ---- issuers ------------------------------------------------------------ */

static bool in_date(const X509 *cert)
{
    return X509_cmp_current_time(X509_get0_notBefore(cert)) < 0 &&
           X509_cmp_current_time(X509_get0_notAfter(cert)) > 0;
}

/* The one that signed `cert`; one that is in date is preferred.  *impostor_r:
 * there is only one that has its name. */
static X509 *find_issuer(const search_t *s, X509 *cert, bool *impostor_r)
{
    X509 *found = NULL;
    X509 *one;
    int i;

    *impostor_r = false;
    for (i = 0; i < sk_X509_num(s->known); i++) {
        one = sk_X509_value(s->known, i);
        if (X509_NAME_cmp(X509_get_subject_name(one),
                          X509_get_issuer_name(cert)) != 0) {
            continue;
        }
        if (X509_verify(cert, X509_get0_pubkey(one)) != 1) {
            *impostor_r = true;
        } else if (found == NULL || (in_date(one) && !in_date(found)) ||
                   (is_root(s, one) && !is_root(s, found))) {
            found = one;
        }
    }
    ERR_clear_error();
    if (found != NULL) {
        *impostor_r = false;
    }
    return found;
}

/* ---- loading ------------------------------------------------------------ */

/* "G3" of Apple's WWDR authority, from the OU of its name. */
static bool generation(const X509_NAME *name, char *dst, size_t cap)
{
    char text[16];
    int n = X509_NAME_get_text_by_NID((X509_NAME *)name,
                                      NID_organizationalUnitName, text,
                                      sizeof(text));

    if (n < 2 || n > 3 || text[0] != 'G' ||
        strspn(text + 1, "0123456789") != (size_t)n - 1) {
        return false;
    }
    (void)snprintf(dst, cap, "%s", text);
    return true;
}

static bool is_root_name(const X509_NAME *name)
{
    char text[64];

    return X509_NAME_get_text_by_NID((X509_NAME *)name, NID_commonName, text,
                                     sizeof(text)) > 0 &&
           strcmp(text, "Apple Root CA") == 0;
}

/* File and path of the certificate of this name; false: not known. */
static bool known_place(const X509_NAME *name, char *file, size_t cap,
                        const char **path_r)
{
    char number[16];

    if (is_root_name(name)) {
        (void)snprintf(file, cap, "%s", ROOT_FILE);
        *path_r = ROOT_PATH;
        return true;
    }
    if (!generation(name, number, sizeof(number))) {
        return false;
    }
    (void)snprintf(file, cap, "AppleWWDRCA%s.cer", number);
    *path_r = WWDR_PATH;
    return true;
}

/* Which fingerprint a loaded file must have; NULL: the signature decides. */
static const char *pin_of(const search_t *s, const char *file)
{
    if (s->root != NULL) {
        return NULL;
    }
    if (strcmp(file, ROOT_FILE) == 0) {
        return APPLE_ROOT_SHA256;
    }
    return strcmp(file, "AppleWWDRCAG3.cer") == 0 ? APPLE_G3_SHA256 : NULL;
}

static mdm_rc judge_fetched(const search_t *s, const char *url,
                            const char *file, mdm_str_t data, X509 **cert_r,
                            mdm_err_t *err)
{
    const unsigned char *at = (const unsigned char *)data.s;
    X509 *cert = d2i_X509(NULL, &at, (long)data.n);
    const char *pin = pin_of(s, file);
    char fingerprint[2 * MDM_SHA256_LEN + 1] = "";
    mdm_rc rc = MDM_OK;

    ERR_clear_error();
    *cert_r = NULL;
    if (cert == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s did not deliver a certificate (DER); nothing was "
                         "written",
                         url);
    } else if (pin != NULL && (!certs_fingerprint(cert, fingerprint) ||
                               strcmp(fingerprint, pin) != 0)) {
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "%s delivered another certificate than Apple's: its "
                         "SHA-256 is %s and must be %s; nothing was written, "
                         "and somebody may be in between",
                         url, fingerprint, pin);
    }
    if (rc != MDM_OK) {
        X509_free(cert);
        return rc;
    }
    *cert_r = cert;
    return MDM_OK;
}

static mdm_rc keep_fetched(search_t *s, const char *file, mdm_str_t data,
                           X509 *cert, mdm_err_t *err)
{
    fetched_t *f = &s->fetched[s->nfetched];

    f->der = malloc(data.n);
    if (f->der == NULL || sk_X509_push(s->known, cert) == 0) {
        free(f->der);
        X509_free(cert);
        return mdm_err_nomem(err);
    }
    memcpy(f->der, data.s, data.n);
    f->n = data.n;
    (void)snprintf(f->file, sizeof(f->file), "%s", file);
    s->nfetched++;
    return MDM_OK;
}

static mdm_rc load_issuer(search_t *s, const char *file, const char *path,
                          mdm_err_t *err)
{
    char url[PATH_MAX];
    certs_http_t http = {.url = url, .ca = s->args->ca,
                         .max = CERTS_FILE_MAX};
    mdm_buf_t body;
    X509 *cert = NULL;
    long status = 0;
    mdm_rc rc;

    (void)snprintf(url, sizeof(url), "%s%s%s",
                   s->args->fetch_from != NULL ? s->args->fetch_from
                                               : APPLE_SITE,
                   path, file);
    mdm_buf_init(&body, CERTS_FILE_MAX);
    rc = certs_http_run(&http, &body, &status, err);
    if (rc == MDM_OK && status != 200) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, 0,
                         "%s was answered with status %ld; load the file in "
                         "a browser from %s and put it into %s",
                         url, status, PAGE, s->args->dir);
    }
    if (rc == MDM_OK) {
        rc = judge_fetched(s, url, file, mdm_buf_str(&body), &cert, err);
    }
    if (rc == MDM_OK) {
        rc = keep_fetched(s, file, mdm_buf_str(&body), cert, err);
    }
    mdm_buf_clear(&body);
    return rc;
}

/* ---- the chain ---------------------------------------------------------- */

/* "vendor.crt", or the name of a certificate above it. */
static const char *name_of(const search_t *s, const certs_chain_t *chain,
                           char *dst, size_t cap)
{
    return chain->n <= 1
               ? s->whose
               : certs_name(
                     X509_get_subject_name(chain->certs[chain->n - 1]), dst,
                     cap);
}

/* The issuer of the last one of the chain is not here. */
static mdm_rc missing(const search_t *s, const certs_chain_t *chain,
                      bool impostor, mdm_err_t *err)
{
    const X509_NAME *issuer =
        X509_get_issuer_name(chain->certs[chain->n - 1]);
    char name[NAME_SIZE];
    char below[NAME_SIZE];
    const char *whose = name_of(s, chain, below, sizeof(below));
    bool one_place = strcmp(s->args->dir, MDM_PKGDATA_DIR) == 0;
    char file[64];
    const char *path;

    (void)certs_name(issuer, name, sizeof(name));
    if (impostor) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the certificate of %s that is here did not sign "
                           "%s: one of the two is not Apple's",
                           name, whose);
    }
    if (!known_place(issuer, file, sizeof(file), &path)) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "%s was issued by %s, whose certificate is not in "
                           "%s%s%s; if that is an authority of Apple's, load "
                           "its certificate from %s and put it there",
                           whose, name, s->args->dir,
                           one_place ? "" : " or ",
                           one_place ? "" : MDM_PKGDATA_DIR, PAGE);
    }
    return mdm_err_set(err, MDM_ENOTFOUND, 0,
                       "%s was issued by %s, whose certificate is missing; "
                       "load %s%s%s and put it into %s or %s, or let --fetch "
                       "do that",
                       s->whose, name, APPLE_SITE, path, file, s->args->dir,
                       MDM_PKGDATA_DIR);
}

/* The issuer of the last one, from what is here or loaded. */
static mdm_rc next_issuer(search_t *s, const certs_chain_t *chain,
                          X509 **issuer_r, mdm_err_t *err)
{
    X509 *cert = chain->certs[chain->n - 1];
    const X509_NAME *name = X509_get_issuer_name(cert);
    bool impostor = false;
    char file[64];
    const char *path;
    mdm_rc rc = MDM_OK;

    *issuer_r = find_issuer(s, cert, &impostor);
    if (*issuer_r == NULL && s->args->fetch && s->nfetched < FETCHED_MAX &&
        known_place(name, file, sizeof(file), &path)) {
        rc = load_issuer(s, file, path, err);
        if (rc == MDM_OK) {
            *issuer_r = find_issuer(s, cert, &impostor);
        }
    }
    if (rc == MDM_OK && *issuer_r == NULL) {
        rc = missing(s, chain, impostor, err);
    }
    return rc;
}

static mdm_rc climb(search_t *s, X509 *leaf, certs_chain_t *chain,
                    mdm_err_t *err)
{
    char name[NAME_SIZE];
    X509 *cert = leaf;
    mdm_rc rc = MDM_OK;

    while (rc == MDM_OK) {
        if (chain->n == CERTS_CHAIN_MAX) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "the chain of %s is longer than %d",
                               s->whose, CERTS_CHAIN_MAX);
        }
        if (X509_up_ref(cert) != 1) {
            return mdm_err_nomem(err);
        }
        chain->certs[chain->n++] = cert;
        if (is_root(s, cert)) {
            return MDM_OK;
        }
        if (X509_NAME_cmp(X509_get_subject_name(cert),
                          X509_get_issuer_name(cert)) == 0) {
            return mdm_err_set(
                err, MDM_EINVAL, 0,
                "%s does not lead to Apple's root: its chain ends at %s; "
                "Apple takes requests only under a certificate that Apple "
                "issued",
                s->whose,
                certs_name(X509_get_subject_name(cert), name, sizeof(name)));
        }
        rc = next_issuer(s, chain, &cert, err);
    }
    return rc;
}

/* ---- the whole of it, once more by OpenSSL ------------------------------ */

static const char *in_words(int fault)
{
    switch (fault) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "it has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "it is not valid yet; check the clock";
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
        return "it may not issue certificates";
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "its signature is wrong";
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return "its key or signature is too weak";
    case X509_V_ERR_OUT_OF_MEM:
        return "memory is out";
    default:
        return "it is not put together as certificates must be";
    }
}

static mdm_rc verify(const search_t *s, const certs_chain_t *chain,
                     mdm_err_t *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *between = sk_X509_new_null();
    char name[NAME_SIZE];
    int fault = X509_V_ERR_OUT_OF_MEM;
    X509 *at = NULL;
    mdm_rc rc = MDM_OK;
    int i;
    bool ok = store != NULL && ctx != NULL && between != NULL &&
              X509_STORE_add_cert(store, chain->certs[chain->n - 1]) == 1;

    for (i = 1; ok && i < chain->n - 1; i++) {
        ok = sk_X509_push(between, chain->certs[i]) > 0;
    }
    if (ok &&
        X509_STORE_CTX_init(ctx, store, chain->certs[0], between) == 1) {
        ok = X509_verify_cert(ctx) == 1;
        fault = X509_STORE_CTX_get_error(ctx);
        at = X509_STORE_CTX_get_current_cert(ctx);
    }
    if (!ok || fault != X509_V_OK) {
        rc = mdm_err_set(
            err, MDM_EINVAL, 0,
            "%s does not lead to Apple's root: the certificate of %s is not "
            "good, %s",
            s->whose,
            at == NULL ? "this chain"
                       : certs_name(X509_get_subject_name(at), name,
                                    sizeof(name)),
            in_words(fault));
    }
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(between);
    return rc;
}

/* So that the next time nothing need be loaded. */
static mdm_rc save_fetched(const search_t *s, mdm_err_t *err)
{
    certs_file_t file;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < s->nfetched; i++) {
        memset(&file, 0, sizeof(file));
        file.data = (mdm_str_t){s->fetched[i].der, s->fetched[i].n};
        file.where = CERTS_REPLACE;
        rc = certs_path(file.path, s->args->dir, "", s->fetched[i].file, err);
        if (rc == MDM_OK) {
            rc = certs_files_write(&file, 1, err);
        }
        if (rc == MDM_OK) {
            certs_files_tell(&file, 1);
        }
    }
    return rc;
}

static mdm_rc open_root(search_t *s, mdm_err_t *err)
{
    mdm_rc rc;

    if (s->args->root == NULL) {
        return MDM_OK;
    }
    certs_say("WARNING: --root %s takes the place of Apple's root.  What "
              "comes of it is for tests: Apple will refuse it.",
              s->args->root);
    rc = certs_cert_read(s->args->root, &s->root, err);
    if (rc == MDM_OK && (X509_up_ref(s->root) != 1 ||
                         sk_X509_push(s->known, s->root) == 0)) {
        rc = mdm_err_nomem(err);
    }
    return rc;
}

mdm_rc certs_chain_build(const certs_args_t *args, X509 *leaf,
                         const char *whose, certs_chain_t *chain_r,
                         mdm_err_t *err)
{
    search_t s = {.args = args, .whose = whose,
                  .known = sk_X509_new_null()};
    mdm_rc rc = s.known != NULL ? MDM_OK : mdm_err_nomem(err);

    memset(chain_r, 0, sizeof(*chain_r));
    if (rc == MDM_OK) {
        rc = open_root(&s, err);
    }
    if (rc == MDM_OK) {
        rc = look_into(args->dir, s.known, err);
    }
    if (rc == MDM_OK) {
        rc = look_into(MDM_PKGDATA_DIR, s.known, err);
    }
    if (rc == MDM_OK) {
        rc = climb(&s, leaf, chain_r, err);
    }
    if (rc == MDM_OK) {
        rc = verify(&s, chain_r, err);
    }
    if (rc == MDM_OK) {
        rc = save_fetched(&s, err);
    }
    if (rc != MDM_OK) {
        certs_chain_clear(chain_r);
    }
    while (s.nfetched > 0) {
        free(s.fetched[--s.nfetched].der);
    }
    X509_free(s.root);
    sk_X509_pop_free(s.known, X509_free);
    return rc;
}
