/*
 * mdm_jwt.h - signed tokens for other services: JWT, signed RS256.
 *
 * A key is read-only after it was made: made in the parent, used by every
 * thread.  Nothing is verified here, and no other algorithm is known.
 */
#ifndef MDM_JWT_H
#define MDM_JWT_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"

typedef struct mdm_jwt_key mdm_jwt_key_t;

/* The first private key of a PEM text, other text around it allowed.
 * MDM_EINVAL: none, encrypted, no RSA, or under 2048 bits.  MDM_ENOMEM. */
mdm_rc mdm_jwt_key_new(mdm_str_t pem, mdm_jwt_key_t **key_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Frees, wiping; NULL is allowed; sets *key to NULL. */
void mdm_jwt_key_free(mdm_jwt_key_t **key);

typedef struct mdm_jwt_claims {
    const char *iss;
    const char *service_type;
    int64_t iat_us; /* wall time; whole seconds go into the token */
} mdm_jwt_claims_t;

/* The signed token in the arena, with a random "jti" of its own: a token is
 * good for one use.  Any thread.
 * MDM_EINVAL: a claim with a character that JSON would have to escape.
 * MDM_EINTERNAL, MDM_ENOMEM. */
mdm_rc mdm_jwt_sign(const mdm_jwt_key_t *key, const mdm_jwt_claims_t *claims,
                    mdm_arena_t *arena, mdm_str_t *token_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
