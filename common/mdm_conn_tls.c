/*
 * mdm_conn_tls.c - the TLS side of mdm_conn.c: client certificate, trust, and
 * why TLS failed in words for an administrator.
 *
 * Never asks for a pass phrase.  OpenSSL's error queue belongs to the host as
 * well and is left empty.  The private key lives in the SSL_CTX only.
 */
#include "mdm_conn.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "mdm_conn_int.h"

#define MAX_PEM_BYTES (256 * 1024)
#define MAX_CHAIN 16

/* --- why TLS failed, in words ------------------------------------------- */

/* Reason of an OpenSSL error without its number, library and function. */
static const char *reason_text(unsigned long code)
{
    const char *text = NULL;

    if (ERR_SYSTEM_ERROR(code)) {
        return strerror((int)ERR_GET_REASON(code));
    }
    if (code != 0) {
        text = ERR_reason_error_string(code);
    }
    return text != NULL ? text : "no reason given";
}

/* Number of the alert the peer sent, 0 when the error is none. */
static int alert_of(unsigned long code)
{
    int reason = ERR_GET_REASON(code);

    if (ERR_GET_LIB(code) != ERR_LIB_SSL || reason <= SSL_AD_REASON_OFFSET ||
        reason > SSL_AD_REASON_OFFSET + 255) {
        return 0;
    }
    return reason - SSL_AD_REASON_OFFSET;
}

static const char *alert_text(int alert)
{
    return alert == SSL_AD_CERTIFICATE_REQUIRED
               ? "certificate required"
               : SSL_alert_desc_string_long(alert);
}

static mdm_rc alert_fault(int alert, mdm_rc other, mdm_err_t *err)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the push service refused the client certificate "
                           "(alert: %s)",
                           alert_text(alert));
    case SSL_AD_NO_APPLICATION_PROTOCOL:
        return mdm_err_set(err, other, 0,
                           "the server does not offer HTTP/2 (ALPN h2)");
    case SSL_AD_PROTOCOL_VERSION:
        return mdm_err_set(err, other, 0,
                           "the server accepts neither TLS 1.2 nor TLS 1.3");
    default:
        return mdm_err_set(err, other, 0,
                           "the push service ended TLS (alert: %s)",
                           alert_text(alert));
    }
}

static mdm_rc verify_fault(const mdm_conn_t *conn, long result,
                           mdm_err_t *err)
{
    if (result == X509_V_ERR_HOSTNAME_MISMATCH ||
        result == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the server's certificate is not one of %s (host "
                           "name mismatch)",
                           conn->host);
    }
    return mdm_err_set(err, MDM_EDENIED, 0,
                       "the server's certificate is not trusted: %s",
                       X509_verify_cert_error_string(result));
}

static bool is_ssl(unsigned long code, int reason)
{
    return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == reason;
}

mdm_rc mdm_conn_tls_fault(const mdm_conn_t *conn, int why, int errnum,
                          mdm_rc other, mdm_err_t *err)
{
    unsigned long code = ERR_peek_error();
    long verified = SSL_get_verify_result(conn->ssl);

    ERR_clear_error();
    if (why == SSL_ERROR_SSL && verified != X509_V_OK) {
        return verify_fault(conn, verified, err);
    }
    if (why == SSL_ERROR_SSL && alert_of(code) != 0) {
        return alert_fault(alert_of(code), other, err);
    }
    if (why == SSL_ERROR_ZERO_RETURN ||
        (why == SSL_ERROR_SYSCALL && errnum == 0) ||
        is_ssl(code, SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        return mdm_err_set(err, other, 0,
                           "the server closed the connection%s",
                           conn->state == MDM_CONN_OPEN
                               ? ""
                               : " during the TLS handshake");
    }
    if (why == SSL_ERROR_SYSCALL) {
        return mdm_err_set(err, other, 0, "the connection broke: %s",
                           strerror(errnum));
    }
    if (is_ssl(code, SSL_R_WRONG_VERSION_NUMBER)) {
        return mdm_err_set(err, other, 0, "the server does not speak TLS");
    }
    if (is_ssl(code, SSL_R_UNSUPPORTED_PROTOCOL)) {
        return mdm_err_set(err, other, 0,
                           "the server speaks neither TLS 1.2 nor TLS 1.3");
    }
    return mdm_err_set(err, other, 0, "TLS failed: %s", reason_text(code));
}

/* --- client certificate and trust --------------------------------------- */

/* Nobody can be asked for a pass phrase; remembers that one was wanted. */
static int no_pass_phrase(char *dst, int size, int writing, void *asked)
{
    (void)writing;
    if (size > 0) {
        dst[0] = '\0';
    }
    *(bool *)asked = true;
    return 0;
}

static BIO *pem_bio(mdm_str_t pem)
{
    if (pem.n == 0 || pem.n > MAX_PEM_BYTES) {
        return NULL;
    }
    return BIO_new_mem_buf(pem.s, (int)pem.n);
}

static mdm_rc load_chain(SSL_CTX *ctx, BIO *bio, mdm_err_t *err)
{
    bool asked = false;
    X509 *cert;
    int n;

    for (n = 0; n < MAX_CHAIN; n++) {
        cert = PEM_read_bio_X509(bio, NULL, no_pass_phrase, &asked);
        if (cert == NULL) {
            break;
        }
        if (SSL_CTX_add0_chain_cert(ctx, cert) != 1) {
            X509_free(cert);
            return mdm_err_openssl(err, MDM_EINVAL, 0,
                                   "an intermediate of the client "
                                   "certificate is not usable");
        }
    }
    if (n == MAX_CHAIN || ERR_GET_REASON(ERR_peek_last_error()) !=
                              PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the chain behind the client certificate is not "
                           "readable or too long");
    }
    ERR_clear_error();
    return MDM_OK;
}

static mdm_rc load_cert(SSL_CTX *ctx, mdm_str_t pem, mdm_err_t *err)
{
    BIO *bio = pem_bio(pem);
    X509 *cert = NULL;
    bool asked = false;
    mdm_rc rc;

    if (bio != NULL) {
        cert = PEM_read_bio_X509(bio, NULL, no_pass_phrase, &asked);
    }
    if (cert == NULL) {
        ERR_clear_error();
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the client certificate is not readable as PEM");
    } else if (SSL_CTX_use_certificate(ctx, cert) != 1) {
        rc = mdm_err_openssl(err, MDM_EINVAL, 0,
                             "the client certificate is not usable");
    } else {
        rc = load_chain(ctx, bio, err);
    }
    X509_free(cert);
    BIO_free(bio);
    return rc;
}

static mdm_rc load_key(SSL_CTX *ctx, mdm_str_t pem, mdm_err_t *err)
{
    BIO *bio = pem_bio(pem);
    EVP_PKEY *key = NULL;
    bool asked = false;
    mdm_rc rc = MDM_OK;

    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, &asked);
    }
    if (key == NULL) {
        ERR_clear_error();
        rc = mdm_err_set(err, MDM_EINVAL, 0, "the private key is %s",
                         asked ? "encrypted, store it without a pass phrase"
                               : "not readable as PEM");
    } else if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) !=
               1) {
        ERR_clear_error();
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "the private key does not belong to the client "
                         "certificate");
    } else if (SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        rc = mdm_err_openssl(err, MDM_EINVAL, 0,
                             "the private key is not usable");
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    return rc;
}

static mdm_rc load_trust(SSL_CTX *ctx, const char *ca_file, mdm_err_t *err)
{
    unsigned long code;

    if (ca_file == NULL) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
            return mdm_err_openssl(err, MDM_ECONFIG, 0,
                                   "the system's certificate authorities "
                                   "cannot be used");
        }
        return MDM_OK;
    }
    if (SSL_CTX_load_verify_file(ctx, ca_file) != 1) {
        code = ERR_peek_error();
        ERR_clear_error();
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "cannot read certificate authorities from %s: %s",
                           ca_file, reason_text(code));
    }
    return MDM_OK;
}

static mdm_rc set_up(SSL_CTX *ctx, mdm_err_t *err)
{
    static const unsigned char alpn[] = {2, 'h', '2'};

    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn)) != 0) {
        return mdm_err_openssl(err, MDM_EINTERNAL, 0, "cannot set up TLS");
    }
    return MDM_OK;
}

mdm_rc mdm_conn_tls_new(mdm_str_t cert_pem, mdm_str_t key_pem,
                        const char *ca_file, mdm_conn_tls_t **tls_r,
                        mdm_err_t *err)
{
    mdm_conn_tls_t *tls = calloc(1, sizeof(*tls));
    mdm_rc rc;

    *tls_r = NULL;
    if (tls == NULL) {
        return mdm_err_nomem(err);
    }
    ERR_clear_error();
    tls->ctx = SSL_CTX_new(TLS_client_method());
    if (tls->ctx == NULL) {
        rc = mdm_err_openssl(err, MDM_ENOMEM, 0, "cannot set up TLS");
        goto leave;
    }
    rc = set_up(tls->ctx, err);
    if (rc == MDM_OK) {
        rc = load_cert(tls->ctx, cert_pem, err);
    }
    if (rc == MDM_OK) {
        rc = load_key(tls->ctx, key_pem, err);
    }
    if (rc == MDM_OK) {
        rc = load_trust(tls->ctx, ca_file, err);
    }
    if (rc == MDM_OK) {
        *tls_r = tls;
        tls = NULL;
    }

leave:
    mdm_conn_tls_free(&tls);
    return rc;
}

void mdm_conn_tls_free(mdm_conn_tls_t **tls)
{
    if (*tls != NULL) {
        SSL_CTX_free((*tls)->ctx);
        free(*tls);
        *tls = NULL;
    }
}
