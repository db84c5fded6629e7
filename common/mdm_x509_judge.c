/*
 * mdm_x509_judge.c - what can be wrong with a push certificate and its key,
 * one sentence a fault; see mdm_x509_material.h.
 */
#include "mdm_x509_material.h"

#include <string.h>

#include <openssl/err.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define TOPIC_PREFIX "com.apple.mgmt."

mdm_rc mdm_material_order(mdm_material_t *m, bool *is_pair_r, mdm_err_t *err)
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

static const char *missing_certificate(const mdm_material_t *m)
{
    return m->csr ? "this is a signing request, not a certificate; upload "
                    "it, and take the certificate that you get for it"
                  : "there is no certificate in it";
}

static const char *missing_key(const mdm_material_t *m)
{
    return m->pkcs12     ? "the PKCS #12 file holds no private key; in "
                           "Keychain Access select certificate and key "
                           "together to export them"
           : m->public_key ? "there is only a public key in it; the private "
                             "key is the one that the request was made with"
                           : "there is no private key in it; the file that "
                             "Apple delivers holds the certificate only";
}

mdm_rc mdm_material_judge_pair(mdm_material_t *m, mdm_err_t *err)
{
    bool is_pair = false;
    const char *text = NULL;
    mdm_rc rc;

    if (sk_X509_num(m->certs) <= 0) {
        text = missing_certificate(m);
    } else if (m->key == NULL) {
        text = missing_key(m);
    } else if (m->nkeys > 1) {
        text = "there is more than one private key in it; which one is "
               "meant?";
    }
    if (text != NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s", text);
    }
    rc = mdm_material_order(m, &is_pair, err);
    return rc != MDM_OK || is_pair
               ? rc
               : mdm_err_set(err, MDM_EINVAL, 0,
                             "certificate and private key do not belong "
                             "together");
}

mdm_rc mdm_x509_topic(const X509 *cert, char dst[MDM_TOPIC_MAX + 1],
                      mdm_err_t *err)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, NID_userId, -1);
    unsigned char *utf8 = NULL;
    mdm_str_t topic = MDM_STR_NONE;
    int n;

    dst[0] = '\0';
    if (at < 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not a push certificate: its subject has no UID");
    }
    if (X509_NAME_get_index_by_NID(name, NID_userId, at) >= 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not a push certificate: its subject has two UIDs");
    }
    n = ASN1_STRING_to_UTF8(
        &utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (n < 0) {
        ERR_clear_error();
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "not a push certificate: the UID of its subject "
                           "is unreadable");
    }
    topic = (mdm_str_t){(const char *)utf8, (size_t)n};
    (void)mdm_str_printable(topic, dst, MDM_TOPIC_MAX + 1);
    if (!mdm_str_starts(topic, TOPIC_PREFIX) || n > MDM_TOPIC_MAX ||
        !mdm_str_is_solid(topic)) {
        n = -1;
    }
    OPENSSL_free(utf8);
    return n >= 0 ? MDM_OK
                  : mdm_err_set(err, MDM_EINVAL, 0,
                                "not an MDM push certificate: the UID of its "
                                "subject does not begin with " TOPIC_PREFIX);
}

mdm_rc mdm_x509_judge_key(const EVP_PKEY *key, const char *whose,
                          mdm_err_t *err)
{
    if (key == NULL || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s is not an RSA key, and Apple takes no other",
                           whose);
    }
    if (EVP_PKEY_get_bits(key) < MDM_RSA_BITS_MIN) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s is an RSA key of %d bits; Apple wants %d",
                           whose, EVP_PKEY_get_bits(key), MDM_RSA_BITS_MIN);
    }
    return MDM_OK;
}

mdm_rc mdm_x509_judge_dates(int64_t not_before_us, int64_t not_after_us,
                            int64_t now_us, const char *whose,
                            const char *remedy, mdm_err_t *err)
{
    char when[MDM_RFC3339_SIZE];

    if (not_after_us <= now_us) {
        mdm_time_format(not_after_us, when);
        return mdm_err_set(err, MDM_EINVAL, 0, "%s expired on %.10s; %s",
                           whose, when, remedy);
    }
    if (not_before_us > now_us) {
        mdm_time_format(not_before_us, when);
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s is not valid before %.10s; check the clock of "
                           "this machine",
                           whose, when);
    }
    return MDM_OK;
}
