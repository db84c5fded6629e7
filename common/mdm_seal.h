/*
 * mdm_seal.h - secrets at rest: AES-256-GCM under the secret key.
 *
 * A sealed value is one version byte (2), the first four bytes of the key's
 * fingerprint, a random 12-byte nonce, the ciphertext and a 16-byte tag.  The
 * head and the row a value belongs to are its associated data, so a value
 * copied into another row does not open.  Values of version 1 lack the four
 * bytes; they still open, none are made.
 *
 * A seal holds one key or two: while the key is being replaced both open, and
 * one of them closes (mdm_seal_use).  What begins a value tells under which
 * key it stands, without opening it.  A seal may be used by any number of
 * threads at once; mdm_seal_add() comes before that.
 */
#ifndef MDM_SEAL_H
#define MDM_SEAL_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"

typedef struct mdm_seal mdm_seal_t;

#define MDM_SEAL_KEY_LEN 32
/* What begins every value that one key closed: version and key. */
#define MDM_SEAL_MARK_LEN 5
/* And with the nonce: what no other value begins with. */
#define MDM_SEAL_HEAD_LEN (MDM_SEAL_MARK_LEN + 12)
#define MDM_SEAL_OVERHEAD (MDM_SEAL_HEAD_LEN + 16)
/* Fingerprint of a key, which tells keys apart without revealing them, as hex
 * digits and NUL. */
#define MDM_SEAL_ID_SIZE 33

/* Copies the key.  MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_seal_new(const unsigned char key[MDM_SEAL_KEY_LEN],
                    mdm_seal_t **seal_r, mdm_err_t *err) MDM_USE_RESULT;
/* Copies a second key, which opens but does not close until mdm_seal_use()
 * says so.  MDM_ECONFIG: it cannot be told from the first.
 * MDM_EINTERNAL. */
mdm_rc mdm_seal_add(mdm_seal_t *seal,
                    const unsigned char key[MDM_SEAL_KEY_LEN], mdm_err_t *err)
    MDM_USE_RESULT;
/* Wipes the keys. */
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

/* Fingerprint of the key that closes now; borrowed text. */
const char *mdm_seal_id(const mdm_seal_t *seal);
/* Of the first and the second key; NULL: there is no second. */
const char *mdm_seal_nth_id(const mdm_seal_t *seal, unsigned n);
/* Is this the fingerprint of one of the keys? */
bool mdm_seal_knows(const mdm_seal_t *seal, mdm_str_t id);
/* From now on values are closed under the key of this fingerprint.  False: it
 * is none of ours, nothing changes. */
bool mdm_seal_use(mdm_seal_t *seal, mdm_str_t id) MDM_USE_RESULT;
/* What begins the values that are closed now. */
mdm_str_t mdm_seal_mark(const mdm_seal_t *seal);

/* Seals `plain` for the place `where` ("enrollment.token:42"); the result
 * lives in `arena`.  An absent value stays absent.  MDM_ENOMEM,
 * MDM_EINTERNAL. */
mdm_rc mdm_seal_close(const mdm_seal_t *seal, const char *where,
                      mdm_str_t plain, mdm_arena_t *arena, mdm_str_t *sealed_r,
                      mdm_err_t *err) MDM_USE_RESULT;
/* Opens what mdm_seal_close() made, under either key.  MDM_EINTERNAL: another
 * key, another place, or altered bytes.  MDM_ENOMEM. */
mdm_rc mdm_seal_open(const mdm_seal_t *seal, const char *where,
                     mdm_str_t sealed, mdm_arena_t *arena, mdm_str_t *plain_r,
                     mdm_err_t *err) MDM_USE_RESULT;

#endif
