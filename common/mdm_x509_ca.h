/*
 * mdm_x509_ca.h - a certificate authority of device identities: its key and
 * certificate, from files or made here, and the certificates that it signs.
 *
 * The key must be RSA: what devices send to a SCEP server is encrypted to it.
 * An authority never changes once it is made, any number of threads may use
 * one at a time; it is counted, and freed when the last owner gives it back.
 * OpenSSL's error queue is left empty.
 */
#ifndef MDM_X509_CA_H
#define MDM_X509_CA_H

#include "mdm_x509.h"

typedef struct mdm_authority mdm_authority_t;

/* A certificate and its key from PEM texts: RSA, 2048 to 8192 bits, a pair,
 * a certificate authority that may sign certificates.  `cert` may go on with
 * others, which are left alone.  *weakness_r, if not NULL: static text on
 * what devices of some systems will not like, else NULL.
 * MDM_EINVAL: the text says what is wrong.  MDM_ENOMEM. */
mdm_rc mdm_authority_read(mdm_str_t cert, mdm_str_t key,
                          mdm_authority_t **authority_r,
                          const char **weakness_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* The same from DER, as mdm_authority_write() has written them. */
mdm_rc mdm_authority_load(mdm_str_t cert, mdm_str_t key,
                          mdm_authority_t **authority_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Makes one: RSA of 3072 bits, ten years.  Takes a second of processor time.
 * MDM_EINTERNAL, MDM_ENOMEM. */
mdm_rc mdm_authority_make(int64_t now_us, mdm_authority_t **authority_r,
                          mdm_err_t *err) MDM_USE_RESULT;
/* Its key in DER (PKCS #8), in the arena, which should wipe.  MDM_ENOMEM,
 * MDM_EINTERNAL. */
mdm_rc mdm_authority_write_key(const mdm_authority_t *authority,
                               mdm_arena_t *arena, mdm_str_t *key_r,
                               mdm_err_t *err) MDM_USE_RESULT;

/* One more owner. */
mdm_authority_t *mdm_authority_keep(mdm_authority_t *authority);
/* One less; sets *authority to NULL. */
void mdm_authority_release(mdm_authority_t **authority);

/* Its certificate in DER; SHA-256 of that in hex; borrowed. */
mdm_str_t mdm_authority_cert(const mdm_authority_t *authority);
mdm_str_t mdm_authority_fingerprint(const mdm_authority_t *authority);
int64_t mdm_authority_not_after(const mdm_authority_t *authority);
/* Its key and certificate for OpenSSL (EVP_PKEY, X509), borrowed, read
 * only. */
void *mdm_authority_pkey(const mdm_authority_t *authority);
void *mdm_authority_x509(const mdm_authority_t *authority);

#define MDM_SERIAL_LEN 18
/* The longest common name that certificates may hold (X.520). */
#define MDM_COMMON_NAME_MAX 64

/* What is to be signed. */
typedef struct mdm_issue {
    mdm_str_t key;         /* SubjectPublicKeyInfo, DER */
    mdm_str_t subject;     /* Name, DER; absent: made of what follows */
    mdm_str_t common_name; /* printable ASCII */
    mdm_str_t serial_number; /* of the device; absent: none */
    int64_t now_us;
    int64_t life_us;
} mdm_issue_t;

typedef struct mdm_new_cert {
    mdm_str_t der;
    mdm_identity_t identity;
    unsigned char serial[MDM_SERIAL_LEN]; /* random, positive */
    mdm_str_t subject;                    /* for people */
} mdm_new_cert_t;

/* Signs an identity of a device: version 3, a random serial number, good from
 * ten minutes ago for life_us or as long as the authority; for TLS clients,
 * signatures and key encipherment; no CA.  In the arena.
 * MDM_EINVAL: the key or the subject is unreadable.  MDM_ENOMEM,
 * MDM_EINTERNAL. */
mdm_rc mdm_authority_issue(const mdm_authority_t *authority,
                           const mdm_issue_t *issue, mdm_arena_t *arena,
                           mdm_new_cert_t *cert_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
