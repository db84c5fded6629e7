/*
 * mdm_x509_trust.c - trust of device identities: the chain to a device CA,
 * and a cache of certificates that were found good.
 *
 * Only a yes is remembered, by the SHA-256 of the certificate, with the time
 * in which its whole chain is in date; every use looks at that time again.
 * The cache lies in memory of the trust object: made (empty) in the parent,
 * filled by each worker for itself after the fork.  Its locks are only ever
 * tried: who finds one taken verifies the chain, so that nobody waits, and a
 * lock that was held at a fork can do no harm.
 */
#include "mdm_x509_int.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define CERT_MAX (64 * 1024)

/* 4096 places: a certificate may be in any of the 8 of its set. */
#define CACHE_SETS 512U
#define CACHE_WAYS 8U
#define CACHE_LOCKS 16U

typedef struct cache_entry {
    mdm_identity_t identity;
    int64_t from_us;  /* the whole chain is in date from here on ... */
    int64_t until_us; /* ... and before this; 0: empty place */
} cache_entry_t;

typedef struct cache {
    pthread_mutex_t locks[CACHE_LOCKS]; /* of the sets with this remainder */
    cache_entry_t sets[CACHE_SETS][CACHE_WAYS];
} cache_t;

struct mdm_trust {
    X509_STORE *store;
    cache_t *cache;
    mdm_trust_ca_t *authorities;
    size_t nauthorities;
};

/* ---- cache --------------------------------------------------------------- */

/* A hash function's output needs no hashing. */
static unsigned cache_set(const unsigned char *fingerprint)
{
    return ((unsigned)fingerprint[0] << 8 | fingerprint[1]) % CACHE_SETS;
}

static bool cache_get(cache_t *cache, const unsigned char *fingerprint,
                      int64_t now_us, mdm_identity_t *identity_r)
{
    unsigned set = cache_set(fingerprint);
    pthread_mutex_t *lock = &cache->locks[set % CACHE_LOCKS];
    const cache_entry_t *entry;
    bool found = false;
    unsigned i;

    if (pthread_mutex_trylock(lock) != 0) {
        return false;
    }
    for (i = 0; i < CACHE_WAYS && !found; i++) {
        entry = &cache->sets[set][i];
        if (entry->until_us > now_us && entry->from_us <= now_us &&
            memcmp(entry->identity.fingerprint, fingerprint,
                   MDM_SHA256_LEN) == 0) {
            *identity_r = entry->identity;
            found = true;
        }
    }
    (void)pthread_mutex_unlock(lock);
    return found;
}

/* A full set gives up the place that the fingerprint itself names: as good
 * as by chance, and without a counter. */
static void cache_put(cache_t *cache, const cache_entry_t *fresh,
                      int64_t now_us)
{
    const unsigned char *fingerprint = fresh->identity.fingerprint;
    unsigned set = cache_set(fingerprint);
    pthread_mutex_t *lock = &cache->locks[set % CACHE_LOCKS];
    cache_entry_t *place = NULL;
    cache_entry_t *entry;
    unsigned i;

    if (pthread_mutex_trylock(lock) != 0) {
        return;
    }
    for (i = 0; i < CACHE_WAYS; i++) {
        entry = &cache->sets[set][i];
        if (memcmp(entry->identity.fingerprint, fingerprint,
                   MDM_SHA256_LEN) == 0) {
            place = entry;
            break;
        }
        if (place == NULL && entry->until_us <= now_us) {
            place = entry;
        }
    }
    if (place == NULL) {
        place = &cache->sets[set][fingerprint[2] % CACHE_WAYS];
    }
    *place = *fresh;
    (void)pthread_mutex_unlock(lock);
}

static cache_t *cache_new(void)
{
    cache_t *cache = calloc(1, sizeof(*cache));
    unsigned i;

    for (i = 0; cache != NULL && i < CACHE_LOCKS; i++) {
        (void)pthread_mutex_init(&cache->locks[i], NULL);
    }
    return cache;
}

static void cache_free(cache_t *cache)
{
    unsigned i;

    for (i = 0; cache != NULL && i < CACHE_LOCKS; i++) {
        (void)pthread_mutex_destroy(&cache->locks[i]);
    }
    free(cache);
}

/* ---- authorities --------------------------------------------------------- */

/* What is told of a certificate's end.  False: memory is out. */
static bool describe(const X509 *cert, mdm_trust_ca_t *authority)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (!mdm_x509_print_subject(cert, authority->subject) ||
        X509_digest(cert, EVP_sha256(), digest, &n) != 1) {
        return false;
    }
    mdm_hex_encode(digest, MDM_SHA256_LEN, authority->fingerprint);
    authority->not_after_us = mdm_x509_time_us(X509_get0_notAfter(cert));
    return true;
}

/* Is the one behind the last among those before? */
static bool is_described(const mdm_trust_t *trust)
{
    const mdm_trust_ca_t *list = trust->authorities;
    size_t i;

    for (i = 0; i < trust->nauthorities; i++) {
        if (strcmp(list[i].fingerprint,
                   list[trust->nauthorities].fingerprint) == 0) {
            return true;
        }
    }
    return false;
}

static mdm_rc describe_all(mdm_trust_t *trust, STACK_OF(X509) *certs,
                           mdm_err_t *err)
{
    size_t n = (size_t)sk_X509_num(certs);
    size_t i;

    trust->authorities = calloc(n, sizeof(*trust->authorities));
    for (i = 0; trust->authorities != NULL && i < n; i++) {
        if (!describe(sk_X509_value(certs, (int)i),
                      &trust->authorities[trust->nauthorities])) {
            return mdm_err_openssl(err, MDM_EINVAL, 0, "unusable certificate");
        }
        /* Files are often put together, and then one is in them twice. */
        trust->nauthorities += is_described(trust) ? 0 : 1;
    }
    return trust->authorities != NULL ? MDM_OK : mdm_err_nomem(err);
}

const mdm_trust_ca_t *mdm_trust_cas(const mdm_trust_t *trust, size_t *n_r)
{
    *n_r = trust->nauthorities;
    return trust->authorities;
}

/* Takes over `certs`. */
static mdm_rc trust_certs(STACK_OF(X509) *certs, mdm_trust_t **trust_r,
                          mdm_err_t *err)
{
    mdm_trust_t *trust = calloc(1, sizeof(*trust));
    mdm_rc rc = MDM_OK;
    int i;

    *trust_r = trust;
    if (trust == NULL) {
        sk_X509_pop_free(certs, X509_free);
        return mdm_err_nomem(err);
    }
    trust->store = X509_STORE_new();
    trust->cache = cache_new();
    if (trust->store == NULL || trust->cache == NULL) {
        rc = mdm_err_nomem(err);
    }
    for (i = 0; rc == MDM_OK && i < sk_X509_num(certs); i++) {
        if (X509_check_ca(sk_X509_value(certs, i)) == 0) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "certificate %d in it is not one of a "
                             "certificate authority",
                             i + 1);
        } else if (X509_STORE_add_cert(trust->store,
                                       sk_X509_value(certs, i)) != 1) {
            rc = mdm_err_openssl(err, MDM_EINVAL, 0, "unusable certificate");
        }
    }
    if (rc == MDM_OK) {
        rc = describe_all(trust, certs, err);
    }
    sk_X509_pop_free(certs, X509_free);
    if (rc != MDM_OK) {
        mdm_trust_free(trust_r);
        return rc;
    }
    /* An intermediate named in the file is an anchor of its own. */
    (void)X509_STORE_set_flags(trust->store, X509_V_FLAG_PARTIAL_CHAIN);
    return MDM_OK;
}

mdm_rc mdm_trust_new(mdm_str_t pem, mdm_trust_t **trust_r, mdm_err_t *err)
{
    STACK_OF(X509) *certs = NULL;
    mdm_rc rc = mdm_x509_read_certs(pem, &certs, err);

    *trust_r = NULL;
    return rc == MDM_OK ? trust_certs(certs, trust_r, err) : rc;
}

void mdm_trust_free(mdm_trust_t **trust)
{
    if (*trust != NULL) {
        X509_STORE_free((*trust)->store);
        cache_free((*trust)->cache);
        free((*trust)->authorities);
        free(*trust);
        *trust = NULL;
    }
}

/* ---- chains -------------------------------------------------------------- */

/* One certificate and nothing behind it; NULL otherwise, and OpenSSL's error
 * queue may say why. */
static X509 *read_der(mdm_str_t der)
{
    const unsigned char *p = (const unsigned char *)der.s;
    X509 *cert = NULL;

    if (der.s != NULL && der.n > 0 && der.n <= CERT_MAX) {
        cert = d2i_X509(NULL, &p, (long)der.n);
    }
    if (cert != NULL && p != (const unsigned char *)der.s + der.n) {
        X509_free(cert);
        cert = NULL;
    }
    return cert;
}

mdm_rc mdm_trust_new_der(const mdm_str_t *certs, size_t n,
                         mdm_trust_t **trust_r, mdm_err_t *err)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    X509 *cert;
    size_t i;

    *trust_r = NULL;
    for (i = 0; all != NULL && i < n; i++) {
        cert = read_der(certs[i]);
        if (cert == NULL || sk_X509_push(all, cert) <= 0) {
            X509_free(cert);
            sk_X509_pop_free(all, X509_free);
            return mdm_err_openssl(err, MDM_EINVAL, 0,
                                   "unusable certificate");
        }
    }
    return all != NULL ? trust_certs(all, trust_r, err) : mdm_err_nomem(err);
}

/* Are these bytes the only way to write what was read from them?  OpenSSL
 * reads BER around what is signed, too, where one certificate would have any
 * number of fingerprints. */
static bool is_der(X509 *cert, mdm_str_t bytes)
{
    unsigned char *der = NULL;
    int n = i2d_X509(cert, &der);
    bool same = n > 0 &&
                mdm_str_eq(bytes, (mdm_str_t){(const char *)der, (size_t)n});

    OPENSSL_free(der);
    return same;
}

/* Those that can be read: one that cannot be helps nobody, and does not take
 * away what the others prove. */
static STACK_OF(X509) *read_helpers(const mdm_shown_t *shown)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    X509 *cert;
    size_t i;

    for (i = 0; certs != NULL && i < shown->nhelpers; i++) {
        cert = read_der(shown->helpers[i]);
        if (cert != NULL && sk_X509_push(certs, cert) <= 0) {
            X509_free(cert);
        }
    }
    ERR_clear_error();
    return certs;
}

/* When all certificates of the chain that was built are in date. */
static void note_span(const X509_STORE_CTX *ctx, cache_entry_t *entry)
{
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    const X509 *cert;
    int64_t from;
    int64_t until;
    int i;

    for (i = 0; i < sk_X509_num(chain); i++) {
        cert = sk_X509_value(chain, i);
        from = mdm_x509_time_us(X509_get0_notBefore(cert));
        until = mdm_x509_time_us(X509_get0_notAfter(cert));
        entry->from_us = from > entry->from_us ? from : entry->from_us;
        entry->until_us = until < entry->until_us ? until : entry->until_us;
    }
}

/* The last that is done with the certificate: it is turned into the twin. */
static mdm_rc note_twin(const X509_STORE_CTX *ctx, X509 *cert,
                        cache_entry_t *entry, mdm_err_t *err)
{
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);

    return sk_X509_num(chain) > 1
               ? mdm_x509_twin(cert, sk_X509_value(chain, 1),
                               entry->identity.twin, err)
               : MDM_OK;
}

/* The verdict on a chain that was looked at. */
static mdm_rc judge(X509_STORE_CTX *ctx, mdm_err_t *err)
{
    int why;

    if (X509_verify_cert(ctx) == 1) {
        return MDM_OK;
    }
    why = X509_STORE_CTX_get_error(ctx);
    return mdm_err_take_nomem() || why == X509_V_ERR_OUT_OF_MEM
               ? mdm_err_nomem(err)
               : mdm_err_set(err, MDM_EDENIED, 0,
                             "the device certificate is not trusted: %s",
                             X509_verify_cert_error_string(why));
}

static mdm_rc verify_chain(const mdm_trust_t *trust, X509 *cert,
                           STACK_OF(X509) *helpers, int64_t now_us,
                           cache_entry_t *entry, mdm_err_t *err)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    mdm_rc rc;

    if (ctx == NULL ||
        X509_STORE_CTX_init(ctx, trust->store, cert, helpers) != 1) {
        rc = mdm_err_nomem(err);
    } else {
        X509_STORE_CTX_set_time(ctx, 0, (time_t)(now_us / MDM_SEC));
        (void)X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT);
        rc = judge(ctx, err);
        if (rc == MDM_OK) {
            note_span(ctx, entry);
            rc = note_twin(ctx, cert, entry, err);
        }
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

mdm_rc mdm_trust_verify(const mdm_trust_t *trust, const mdm_shown_t *shown,
                        int64_t now_us, mdm_identity_t *identity_r,
                        mdm_err_t *err)
{
    cache_entry_t entry = {.from_us = 0, .until_us = INT64_MAX};
    mdm_identity_t *identity = &entry.identity;
    STACK_OF(X509) *helpers = NULL;
    X509 *cert;
    mdm_rc rc;

    memset(identity_r, 0, sizeof(*identity_r));
    if (shown->cert.n > 0 && shown->cert.n <= CERT_MAX) {
        rc = mdm_sha256(shown->cert, identity->fingerprint, err);
        if (rc != MDM_OK) {
            return rc;
        }
        if (cache_get(trust->cache, identity->fingerprint, now_us,
                      identity_r)) {
            return MDM_OK;
        }
    }
    *identity_r = *identity;
    cert = read_der(shown->cert);
    if (cert == NULL || !is_der(cert, shown->cert)) {
        X509_free(cert);
        return mdm_err_take_nomem()
                   ? mdm_err_nomem(err)
                   : mdm_err_set(err, MDM_EIDENTITY, 0,
                                 "the device certificate is unreadable, or "
                                 "no DER");
    }
    identity->not_after_us = mdm_x509_time_us(X509_get0_notAfter(cert));
    helpers = read_helpers(shown);
    rc = helpers != NULL
             ? verify_chain(trust, cert, helpers, now_us, &entry, err)
             : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        cache_put(trust->cache, &entry, now_us);
    }
    *identity_r = *identity;
    sk_X509_pop_free(helpers, X509_free);
    X509_free(cert);
    return rc;
}

mdm_rc mdm_trust_verify_origin(const mdm_trust_t *trust,
                               const mdm_shown_t *shown, mdm_err_t *err)
{
    X509 *cert = read_der(shown->cert);
    STACK_OF(X509) *helpers = read_helpers(shown);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    mdm_rc rc = MDM_OK;

    if (cert == NULL) {
        rc = mdm_err_set(err, MDM_EIDENTITY, 0,
                         "the device certificate is unreadable");
    } else if (helpers == NULL || ctx == NULL ||
               X509_STORE_CTX_init(ctx, trust->store, cert, helpers) != 1) {
        rc = mdm_err_nomem(err);
    } else {
        X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_NO_CHECK_TIME);
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(ctx), 0);
        rc = judge(ctx, err);
    }
    X509_STORE_CTX_free(ctx);
    sk_X509_pop_free(helpers, X509_free);
    X509_free(cert);
    ERR_clear_error();
    return rc;
}

/* A certificate of an authority that is known says more with its fault than
 * that another trust does not know its issuer. */
static bool says_more(const mdm_err_t *err)
{
    return strstr(err->text, X509_verify_cert_error_string(
                      X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY)) == NULL;
}

mdm_rc mdm_trust_verify_any(const mdm_trust_t *const *trusts, size_t n,
                            const mdm_shown_t *shown, int64_t now_us,
                            mdm_identity_t *identity_r, mdm_err_t *err)
{
    unsigned char digest[MDM_SHA256_LEN];
    mdm_err_t one;
    mdm_rc rc;
    size_t i;

    memset(identity_r, 0, sizeof(*identity_r));
    rc = mdm_sha256(shown->cert, digest, err);
    for (i = 0; rc == MDM_OK && i < n; i++) {
        if (trusts[i] != NULL &&
            cache_get(trusts[i]->cache, digest, now_us, identity_r)) {
            return MDM_OK;
        }
    }
    if (rc == MDM_OK) {
        rc = mdm_err_set(err, MDM_EDENIED, 0,
                         "no authority of device certificates is known");
    }
    for (i = 0; rc == MDM_EDENIED && i < n; i++) {
        if (trusts[i] == NULL) {
            continue;
        }
        mdm_err_clear(&one);
        rc = mdm_trust_verify(trusts[i], shown, now_us, identity_r, &one);
        if (rc != MDM_OK && err != NULL &&
            (i == 0 || rc != MDM_EDENIED || says_more(&one))) {
            *err = one;
        }
    }
    return rc;
}

bool mdm_trust_remembers(const mdm_trust_t *trust,
                         const unsigned char fingerprint[MDM_SHA256_LEN],
                         int64_t now_us)
{
    mdm_identity_t identity;

    return cache_get(trust->cache, fingerprint, now_us, &identity);
}
