/*
 * mdm_auth.c - see mdm_auth.h.
 */
#include "mdm_auth.h"

#include <string.h>

#include "mdm_cms.h"
#include "mdm_net.h"
#include "mdm_str.h"

#define AUTHORIZATION_MAX 8192

/* ---- devices ------------------------------------------------------------- */

/* What a device showed, read but not yet believed. */
typedef struct proofs {
    mdm_shown_t held;   /* certificate of TLS or of a proxy's header */
    mdm_shown_t signer; /* certificate of the signature */
    mdm_cms_t *cms;     /* NULL: no signature */
} proofs_t;

static bool accepts(const mdm_request_t *request, mdm_prove_t way)
{
    return (request->location->prove & (unsigned)way) != 0;
}

static bool is_from_proxy(const mdm_request_t *request)
{
    const mdm_nets_t *proxies = request->location->trusted_proxies;

    return proxies != NULL &&
           mdm_net_has(proxies->nets, proxies->n, request->neighbor);
}

static bool has_header(const mdm_request_t *request)
{
    return accepts(request, MDM_PROVE_HEADER) &&
           request->identity_header.s != NULL;
}

bool mdm_auth_header_ignored(const mdm_request_t *request)
{
    return has_header(request) && !is_from_proxy(request);
}

static mdm_rc read_held(const mdm_request_t *request, mdm_arena_t *arena,
                        mdm_shown_t *held, mdm_err_t *err)
{
    if (has_header(request) && is_from_proxy(request)) {
        if (request->client_cert.n > 0) {
            return mdm_err_set(err, MDM_EIDENTITY, 0,
                               "a TLS client certificate was sent and the "
                               "header with a proxy's certificate, too: "
                               "which one is the device's cannot be told");
        }
        return mdm_x509_read_header(request->identity_header, arena, held,
                                    err);
    }
    if (accepts(request, MDM_PROVE_CERTIFICATE)) {
        held->cert = request->client_cert;
    }
    return MDM_OK;
}

static mdm_rc bad_signature(mdm_err_t *err, const char *why)
{
    return mdm_err_set(err, MDM_EIDENTITY, 0, "Mdm-Signature %s", why);
}

/* The header's value to bytes, in the arena. */
static mdm_rc decode_signature(mdm_str_t value, mdm_arena_t *arena,
                               mdm_str_t *data_r, mdm_err_t *err)
{
    mdm_str_t text = mdm_str_trim(value);
    unsigned char *data;

    if (value.n > MDM_X509_HEADER_MAX) {
        return bad_signature(err, "is longer than 64 kB");
    }
    if (text.n == 0) {
        return bad_signature(err, "is empty");
    }
    if (memchr(text.s, ',', text.n) != NULL) {
        return bad_signature(err, "was sent more than once");
    }
    if (!mdm_str_is_solid(text)) {
        return bad_signature(err, "has a blank inside, or is folded");
    }
    data = mdm_arena_alloc(arena, text.n);
    if (data == NULL) {
        return mdm_err_nomem(err);
    }
    *data_r = (mdm_str_t){(const char *)data, 0};
    return mdm_base64_decode(text, data, &data_r->n) == MDM_OK
               ? MDM_OK
               : bad_signature(err, "is not base64");
}

/* To a device a damaged signature is a lack of identity. */
static mdm_rc as_identity(mdm_rc rc, mdm_err_t *err)
{
    if (rc != MDM_EINVAL) {
        return rc;
    }
    (void)mdm_err_prefix(err, "Mdm-Signature");
    if (err != NULL) {
        err->rc = MDM_EIDENTITY;
    }
    return MDM_EIDENTITY;
}

static mdm_rc read_signature(const mdm_request_t *request,
                             mdm_arena_t *arena, proofs_t *proofs,
                             mdm_err_t *err)
{
    mdm_str_t data = MDM_STR_NONE;
    mdm_rc rc;

    if (!accepts(request, MDM_PROVE_SIGNATURE) ||
        request->signature.s == NULL) {
        return MDM_OK;
    }
    rc = decode_signature(request->signature, arena, &data, err);
    if (rc != MDM_OK) {
        return rc;
    }
    return as_identity(
        mdm_cms_open(data, arena, &proofs->cms, &proofs->signer, err), err);
}

static mdm_rc say_nothing_sent(const mdm_request_t *request, mdm_err_t *err)
{
    return mdm_err_set(
        err, MDM_EIDENTITY, 0, "the device proved nothing: no%s%s%s was sent",
        accepts(request, MDM_PROVE_CERTIFICATE) ? " client certificate" : "",
        !accepts(request, MDM_PROVE_SIGNATURE)     ? ""
        : accepts(request, MDM_PROVE_CERTIFICATE) ? " and no Mdm-Signature"
                                                   : " Mdm-Signature",
        !accepts(request, MDM_PROVE_HEADER) ? ""
        : accepts(request, MDM_PROVE_CERTIFICATE) ||
                accepts(request, MDM_PROVE_SIGNATURE)
            ? " and no certificate of a trusted proxy"
            : " certificate of a trusted proxy");
}

/* The one certificate that all proofs name, with everything that helps to
 * build its chain. */
static mdm_rc join(const mdm_request_t *request, proofs_t *proofs,
                   mdm_err_t *err)
{
    mdm_shown_t *held = &proofs->held;
    size_t i;

    if (proofs->cms == NULL) {
        return held->cert.n > 0 ? MDM_OK : say_nothing_sent(request, err);
    }
    if (held->cert.n > 0 && !mdm_str_eq(held->cert, proofs->signer.cert)) {
        return mdm_err_set(err, MDM_EIDENTITY, 0,
                           "the client certificate and the certificate of "
                           "Mdm-Signature are not the same; where a proxy "
                           "shows a certificate of its own, accept "
                           "signatures only");
    }
    held->cert = proofs->signer.cert;
    for (i = 0; i < proofs->signer.nhelpers &&
                held->nhelpers < MDM_X509_HELPERS_MAX;
         i++) {
        held->helpers[held->nhelpers++] = proofs->signer.helpers[i];
    }
    return MDM_OK;
}

mdm_rc mdm_auth_identity(const mdm_proof_t *proof, const mdm_shown_t *shown,
                         mdm_identity_t *identity_r, mdm_err_t *err)
{
    const mdm_trust_t *trust = proof->request->server->device_trust;
    int64_t now = mdm_wall_us(NULL);

    return proof->ca != NULL
               ? mdm_ca_verify(proof->ca, trust, shown, now, identity_r, err)
               : mdm_trust_verify(trust, shown, now, identity_r, err);
}

mdm_rc mdm_auth_device(const mdm_proof_t *proof, mdm_speaker_t *speaker_r,
                       mdm_arena_t *arena, mdm_err_t *err)
{
    const mdm_request_t *request = proof->request;
    proofs_t proofs = {.cms = NULL};
    mdm_rc rc;

    speaker_r->cert = MDM_STR_NONE;
    if (request->server->device_trust == NULL && proof->ca == NULL) {
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                           "no device certificate authority is configured");
    }
    rc = read_held(request, arena, &proofs.held, err);
    if (rc == MDM_OK) {
        rc = read_signature(request, arena, &proofs, err);
    }
    if (rc == MDM_OK) {
        rc = join(request, &proofs, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_auth_identity(proof, &proofs.held, &speaker_r->identity, err);
    }
    /* Last, so that a stranger cannot make us hash large bodies. */
    if (rc == MDM_OK && proofs.cms != NULL) {
        rc = as_identity(mdm_cms_verify(proofs.cms, proof->body, err), err);
    }
    mdm_cms_close(&proofs.cms);
    if (rc == MDM_OK) {
        speaker_r->cert = proofs.held.cert;
    }
    return rc;
}

/* ---- API ----------------------------------------------------------------- */

mdm_str_t mdm_auth_bearer(mdm_str_t authorization)
{
    mdm_str_t rest = mdm_str_trim(authorization);
    mdm_str_t scheme = mdm_str_split(&rest, ' ');

    return authorization.n <= AUTHORIZATION_MAX && rest.s != NULL &&
                   mdm_str_ieq(scheme, "Bearer")
               ? mdm_str_trim(rest)
               : MDM_STR_NONE;
}

/* The token in an Authorization header; absent when there is none. */
static mdm_str_t find_token(mdm_str_t header, mdm_arena_t *arena)
{
    mdm_str_t bearer = mdm_auth_bearer(header);
    mdm_str_t rest = mdm_str_trim(header);
    mdm_str_t scheme = mdm_str_split(&rest, ' ');
    unsigned char *plain;
    size_t n = 0;

    if (bearer.s != NULL) {
        return bearer;
    }
    rest = mdm_str_trim(rest);
    if (header.n > AUTHORIZATION_MAX || rest.s == NULL) {
        return MDM_STR_NONE;
    }
    if (!mdm_str_ieq(scheme, "Basic")) {
        return MDM_STR_NONE;
    }
    plain = mdm_arena_alloc(arena, rest.n + 1);
    if (plain == NULL || mdm_base64_decode(rest, plain, &n) != MDM_OK) {
        return MDM_STR_NONE;
    }
    rest = (mdm_str_t){(const char *)plain, n};
    (void)mdm_str_split(&rest, ':');
    return rest;
}

mdm_rc mdm_auth_api(const mdm_request_t *request, mdm_arena_t *arena,
                    const mdm_api_token_t **token_r, mdm_err_t *err)
{
    const mdm_api_tokens_t *tokens = request->location->api_tokens;
    unsigned char digest[MDM_SHA256_LEN];
    const mdm_api_token_t *found = NULL;
    mdm_str_t token;
    mdm_rc rc;
    size_t i;

    if (tokens == NULL) {
        return mdm_err_set(err, MDM_EDENIED, MDM_MSG_API_NO_TOKENS,
                           "the administration API has no credentials here");
    }
    token = find_token(request->authorization, arena);
    if (token.n > 0) {
        rc = mdm_sha256(token, digest, err);
        if (rc != MDM_OK) {
            return rc;
        }
        /* Every token is compared, so that time says nothing. */
        for (i = 0; i < tokens->n; i++) {
            if (mdm_str_secret_eq(
                    (mdm_str_t){(const char *)digest, sizeof(digest)},
                    (mdm_str_t){(const char *)tokens->tokens[i].sha256,
                                MDM_SHA256_LEN})) {
                found = &tokens->tokens[i];
            }
        }
    }
    if (found == NULL) {
        return mdm_err_set(err, MDM_EUNAUTHORIZED, MDM_MSG_API_DENIED,
                           token.s == NULL ? "credentials are missing"
                                           : "credentials are wrong");
    }
    *token_r = found;
    return MDM_OK;
}
