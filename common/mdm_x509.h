/*
 * mdm_x509.h - certificates and keys: reading PEM, what an administrator
 * wants to know of a certificate, and trust of device identities.
 *
 * OpenSSL's host-wide state is the host's; nothing here initialises or cleans
 * it up.  Errors never carry OpenSSL's numbers, and its error queue is left
 * empty.  Any thread.
 */
#ifndef MDM_X509_H
#define MDM_X509_H

#include "mdm_base.h"
#include "mdm_buf.h"
#include "mdm_err.h"
#include "mdm_mem.h"

#define MDM_TRUST_SUBJECT_SIZE 256

/* ---- push certificates -------------------------------------------------- */

/* As much as OpenSSL takes for a key in PEM. */
#define MDM_PASSPHRASE_MAX 1024

/* A push certificate with its key, checked to be a pair.  The PEM texts are
 * normalised (leaf first, key unencrypted) and live in the arena given. */
typedef struct mdm_keypair {
    mdm_str_t cert_pem;
    mdm_str_t key_pem;
    mdm_str_t topic; /* UID of the subject, "com.apple.mgmt...." */
    char fingerprint[2 * MDM_SHA256_LEN + 1]; /* of the leaf's DER */
    int64_t not_before_us;
    int64_t not_after_us;
    /* The key is encrypted, in a way that could be opened, and no pass phrase
     * was given, or another one.  Set where reading failed; nothing else is
     * then. */
    bool locked;
    /* It failed as there is a certificate, in order and with a topic, which is
     * set then, but nothing of a key. */
    bool lacks_key;
} mdm_keypair_t;

/* Finds one certificate that matches one private key in the parts, files or a
 * body, each in any form (mdm_x509_material.h), in any order; further
 * certificates become the chain.  The key must be one that Apple takes.
 * `passphrase` opens what is encrypted (absent: none), of at most
 * MDM_PASSPHRASE_MAX bytes; nobody is ever asked.
 * `arena` should wipe.  Does not judge validity in time.
 * MDM_EINVAL: the text names what is missing or wrong.  MDM_ENOMEM. */
mdm_rc mdm_keypair_read(const mdm_str_t *parts, size_t nparts,
                        mdm_str_t passphrase, mdm_arena_t *arena,
                        mdm_keypair_t *pair_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* In date at this time?  `whose` begins the sentence, `remedy` ends it.
 * MDM_EINVAL. */
mdm_rc mdm_x509_judge_dates(int64_t not_before_us, int64_t not_after_us,
                            int64_t now_us, const char *whose,
                            const char *remedy, mdm_err_t *err)
    MDM_USE_RESULT;

/* Certificates of a file in any form, as DER in the arena, at most `max`.
 * MDM_EINVAL: none, damaged, too many; MDM_ENOMEM. */
mdm_rc mdm_x509_list(mdm_str_t data, mdm_arena_t *arena, mdm_str_t *certs_r,
                     size_t max, size_t *n_r, mdm_err_t *err) MDM_USE_RESULT;

/* Subject of a certificate (DER): RFC 2253, printable; "" when it is not
 * one. */
void mdm_x509_subject(mdm_str_t der, char dst[MDM_TRUST_SUBJECT_SIZE]);
/* Is this certificate (DER) its own issuer, by name? */
bool mdm_x509_is_root(mdm_str_t der);

/* Does a PEM bundle of any length begin with a readable certificate?
 * MDM_EINVAL. */
mdm_rc mdm_x509_check_bundle(mdm_str_t pem, mdm_err_t *err) MDM_USE_RESULT;

/* ---- device identities -------------------------------------------------- */

#define MDM_X509_HELPERS_MAX 16

/* A certificate as somebody showed it, DER, with others that came along:
 * these are trusted for nothing and only help to build its chain.  What the
 * fields point to belongs to whoever filled them in. */
typedef struct mdm_shown {
    mdm_str_t cert; /* absent: none was shown */
    mdm_str_t helpers[MDM_X509_HELPERS_MAX];
    size_t nhelpers;
} mdm_shown_t;

/* Longest header with a certificate or a signature that is decoded. */
#define MDM_X509_HEADER_MAX (64 * 1024)

/* The certificate that a proxy put into a header: an RFC 9440 byte sequence
 * (":base64:"), or PEM, percent-escaped or with blanks for its newlines; of
 * several the first is the holder's.  Says nothing about trust.
 * MDM_EIDENTITY: anything else; MDM_ENOMEM. */
mdm_rc mdm_x509_read_header(mdm_str_t value, mdm_arena_t *arena,
                            mdm_shown_t *shown_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* The certificate authorities device identities may come from.  Made in the
 * parent, used by every thread of every worker: what it trusts never
 * changes; a cache of certificates that were found good goes with it and
 * fills in each process on its own. */
typedef struct mdm_trust mdm_trust_t;

/* All certificates of a PEM text; roots and intermediates alike are trusted
 * as issuers.  MDM_EINVAL: none, or one that is no CA. */
mdm_rc mdm_trust_new(mdm_str_t pem, mdm_trust_t **trust_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* The same of certificates in DER. */
mdm_rc mdm_trust_new_der(const mdm_str_t *certs, size_t n,
                         mdm_trust_t **trust_r, mdm_err_t *err)
    MDM_USE_RESULT;
void mdm_trust_free(mdm_trust_t **trust);

/* One of them, for whoever watches its end. */
typedef struct mdm_trust_ca {
    char subject[MDM_TRUST_SUBJECT_SIZE]; /* RFC 2253, printable */
    char fingerprint[2 * MDM_SHA256_LEN + 1];
    int64_t not_after_us;
} mdm_trust_ca_t;

/* All of them, each once; borrowed from the trust object. */
const mdm_trust_ca_t *mdm_trust_cas(const mdm_trust_t *trust, size_t *n_r);

typedef struct mdm_identity {
    unsigned char fingerprint[MDM_SHA256_LEN]; /* of the DER */
    /* Of the only other form that this certificate can be given without its
     * issuer (see mdm_x509_twin.c); zeros: there is none. */
    unsigned char twin[MDM_SHA256_LEN];
    int64_t not_after_us;
} mdm_identity_t;

/* Verifies a device's certificate at the time `now_us`: signatures up to a
 * trusted CA, every certificate of the chain in date, usable as a TLS
 * client.  A verdict of yes is remembered by the certificate's SHA-256 for
 * as long as the whole chain is in date.
 * MDM_EIDENTITY: not a certificate.  MDM_EDENIED: not trusted (text says
 * why).  MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_trust_verify(const mdm_trust_t *trust, const mdm_shown_t *shown,
                        int64_t now_us, mdm_identity_t *identity_r,
                        mdm_err_t *err) MDM_USE_RESULT;

/* Does a certificate that a device got when it was made come from one of
 * these authorities, at whatever time?  Some of their intermediates have
 * ended long ago and are still in use, a new device's clock may be wrong, and
 * chains with SHA-1 are about; so times and strength are not looked at, only
 * signatures up to an authority.  Source: docs/protocol.md, enrolment.
 * Nothing is remembered.
 * MDM_EIDENTITY: not a certificate.  MDM_EDENIED: not from them (text says
 * why).  MDM_ENOMEM. */
mdm_rc mdm_trust_verify_origin(const mdm_trust_t *trust,
                               const mdm_shown_t *shown, mdm_err_t *err)
    MDM_USE_RESULT;

/* The same against several, of which each may be NULL; at most 4.  With none
 * at all nobody is trusted. */
mdm_rc mdm_trust_verify_any(const mdm_trust_t *const *trusts, size_t n,
                            const mdm_shown_t *shown, int64_t now_us,
                            mdm_identity_t *identity_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Was the certificate with this fingerprint found good, and is it so at this
 * time?  For tests and measurements. */
bool mdm_trust_remembers(const mdm_trust_t *trust,
                         const unsigned char fingerprint[MDM_SHA256_LEN],
                         int64_t now_us);

#endif
