/*
 * mdm_auth.c - see mdm_auth.h.
 */
#include "mdm_auth.h"

#include "mdm_str.h"

#define AUTHORIZATION_MAX 8192

mdm_rc mdm_auth_device(const mdm_request_t *request, mdm_speaker_t *speaker_r,
                       mdm_err_t *err)
{
    if (request->client_cert.n == 0) {
        return mdm_err_set(err, MDM_EIDENTITY, 0,
                           "no client certificate was sent");
    }
    if (request->server->device_trust == NULL) {
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                           "no device certificate authority is configured");
    }
    speaker_r->cert = request->client_cert;
    return mdm_trust_verify(request->server->device_trust,
                            request->client_cert, mdm_wall_us(NULL),
                            &speaker_r->identity, err);
}

/* The token in an Authorization header; absent when there is none. */
static mdm_str_t find_token(mdm_str_t header, mdm_arena_t *arena)
{
    mdm_str_t rest = mdm_str_trim(header);
    mdm_str_t scheme = mdm_str_split(&rest, ' ');
    unsigned char *plain;
    size_t n = 0;

    rest = mdm_str_trim(rest);
    if (header.n > AUTHORIZATION_MAX || rest.s == NULL) {
        return MDM_STR_NONE;
    }
    if (mdm_str_ieq(scheme, "Bearer")) {
        return rest;
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
    size_t i;

    if (tokens == NULL) {
        return mdm_err_set(err, MDM_EDENIED, MDM_MSG_API_NO_TOKENS,
                           "the administration API has no credentials here");
    }
    token = find_token(request->authorization, arena);
    if (token.n > 0) {
        mdm_sha256(token, digest);
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
