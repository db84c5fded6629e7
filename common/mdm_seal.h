/*
 * mdm_seal.h - secrets at rest: AES-256-GCM under one secret key.
 *
 * A sealed value is one version byte, a random 12-byte nonce, the ciphertext
 * and a 16-byte tag.  The row a value belongs to is its associated data, so a
 * value copied into another row does not open.  A seal may be used by any
 * number of threads at once.
 */
#ifndef MDM_SEAL_H
#define MDM_SEAL_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"

typedef struct mdm_seal mdm_seal_t;

#define MDM_SEAL_KEY_LEN 32
#define MDM_SEAL_OVERHEAD (1 + 12 + 16)
/* Fingerprint of a key as hex digits and NUL. */
#define MDM_SEAL_ID_SIZE 33

/* Copies the key.  MDM_ENOMEM. */
mdm_rc mdm_seal_new(const unsigned char key[MDM_SEAL_KEY_LEN],
                    mdm_seal_t **seal_r, mdm_err_t *err) MDM_USE_RESULT;
void mdm_seal_free(mdm_seal_t **seal);

/* Reads a key file: 64 hex digits on the first line.  Refuses a file that
 * others may read, or that its group may write.  MDM_ECONFIG. */
mdm_rc mdm_seal_read_key(const char *path,
                         unsigned char key_r[MDM_SEAL_KEY_LEN],
                         mdm_err_t *err) MDM_USE_RESULT;
/* The same for `dir`/secret.key, which is made when absent; several
 * processes may do so at once and get the same key.  *made_r: by us. */
mdm_rc mdm_seal_obtain_key(const char *dir,
                           unsigned char key_r[MDM_SEAL_KEY_LEN],
                           bool *made_r, mdm_err_t *err) MDM_USE_RESULT;

/* Is there a file `dir`/secret.key? */
bool mdm_seal_has_key(const char *dir);

/* Tells keys apart without revealing them; borrowed text. */
const char *mdm_seal_id(const mdm_seal_t *seal);

/* Seals `plain` for the place `where` ("enrollment.token:42"); the result
 * lives in `arena`.  An absent value stays absent.  MDM_ENOMEM,
 * MDM_EINTERNAL. */
mdm_rc mdm_seal_close(const mdm_seal_t *seal, const char *where,
                      mdm_str_t plain, mdm_arena_t *arena, mdm_str_t *sealed_r,
                      mdm_err_t *err) MDM_USE_RESULT;
/* Opens what mdm_seal_close() made.  MDM_EINTERNAL: another key, another
 * place, or altered bytes. */
mdm_rc mdm_seal_open(const mdm_seal_t *seal, const char *where,
                     mdm_str_t sealed, mdm_arena_t *arena, mdm_str_t *plain_r,
                     mdm_err_t *err) MDM_USE_RESULT;

#endif
