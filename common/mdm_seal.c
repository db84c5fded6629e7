/*
 * mdm_seal.c - AES-256-GCM on OpenSSL's EVP, and the key file.
 */
#include "mdm_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "mdm_log.h"
#include "mdm_str.h"

#define VERSION_1 1
#define VERSION_2 2
#define KEY_LEN (MDM_SEAL_MARK_LEN - 1)
#define NONCE_LEN 12
#define TAG_LEN 16
/* Version byte and nonce of the first version, which named no key. */
#define HEAD_1_LEN (1 + NONCE_LEN)

typedef struct seal_key {
    unsigned char bytes[MDM_SEAL_KEY_LEN];
    unsigned char mark[MDM_SEAL_MARK_LEN];
    char id[MDM_SEAL_ID_SIZE];
} seal_key_t;

struct mdm_seal {
    seal_key_t keys[2];
    unsigned n;
    atomic_uint closing; /* which of them closes */
};

static mdm_rc fingerprint(const unsigned char bytes[MDM_SEAL_KEY_LEN],
                          unsigned char digest_r[MDM_SHA256_LEN],
                          mdm_err_t *err)
{
    static const char label[] = "mdm secret key";
    char both[sizeof(label) + MDM_SEAL_KEY_LEN];
    mdm_rc rc;

    memcpy(both, label, sizeof(label));
    memcpy(both + sizeof(label), bytes, MDM_SEAL_KEY_LEN);
    rc = mdm_sha256((mdm_str_t){both, sizeof(both)}, digest_r, err);
    mdm_wipe(both, sizeof(both));
    return rc;
}

static mdm_rc set_key(seal_key_t *key,
                      const unsigned char bytes[MDM_SEAL_KEY_LEN],
                      mdm_err_t *err)
{
    unsigned char digest[MDM_SHA256_LEN];
    mdm_rc rc = fingerprint(bytes, digest, err);

    if (rc != MDM_OK) {
        return rc;
    }
    memcpy(key->bytes, bytes, MDM_SEAL_KEY_LEN);
    key->mark[0] = VERSION_2;
    memcpy(key->mark + 1, digest, KEY_LEN);
    mdm_hex_encode(digest, (MDM_SEAL_ID_SIZE - 1) / 2, key->id);
    return MDM_OK;
}

mdm_rc mdm_seal_new(const unsigned char key[MDM_SEAL_KEY_LEN],
                    mdm_seal_t **seal_r, mdm_err_t *err)
{
    mdm_seal_t *seal = calloc(1, sizeof(*seal));
    mdm_rc rc;

    *seal_r = seal;
    if (seal == NULL) {
        return mdm_err_nomem(err);
    }
    rc = set_key(&seal->keys[0], key, err);
    seal->n = 1;
    atomic_init(&seal->closing, 0);
    if (rc != MDM_OK) {
        mdm_seal_free(seal_r);
    }
    return rc;
}

mdm_rc mdm_seal_add(mdm_seal_t *seal,
                    const unsigned char key[MDM_SEAL_KEY_LEN], mdm_err_t *err)
{
    seal_key_t *second = &seal->keys[1];
    mdm_rc rc = set_key(second, key, err);

    if (rc != MDM_OK) {
        return rc;
    }
    /* By chance once in four thousand million pairs; a new key costs
     * nothing. */
    if (memcmp(second->mark, seal->keys[0].mark, MDM_SEAL_MARK_LEN) == 0) {
        mdm_wipe(second, sizeof(*second));
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "the two secret keys are the same, or look the "
                           "same; make a new one with: openssl rand -hex 32");
    }
    seal->n = 2;
    return MDM_OK;
}

void mdm_seal_free(mdm_seal_t **seal)
{
    if (*seal != NULL) {
        mdm_wipe(*seal, sizeof(**seal));
        free(*seal);
        *seal = NULL;
    }
}

static const seal_key_t *closing_key(const mdm_seal_t *seal)
{
    return &seal->keys[atomic_load(&seal->closing)];
}

const char *mdm_seal_id(const mdm_seal_t *seal)
{
    return closing_key(seal)->id;
}

const char *mdm_seal_nth_id(const mdm_seal_t *seal, unsigned n)
{
    return n < seal->n ? seal->keys[n].id : NULL;
}

bool mdm_seal_knows(const mdm_seal_t *seal, mdm_str_t id)
{
    return mdm_str_is(id, seal->keys[0].id) ||
           (seal->n > 1 && mdm_str_is(id, seal->keys[1].id));
}

bool mdm_seal_use(mdm_seal_t *seal, mdm_str_t id)
{
    if (!mdm_seal_knows(seal, id)) {
        return false;
    }
    atomic_store(&seal->closing, mdm_str_is(id, seal->keys[0].id) ? 0U : 1U);
    return true;
}

mdm_str_t mdm_seal_mark(const mdm_seal_t *seal)
{
    return (mdm_str_t){(const char *)closing_key(seal)->mark,
                       MDM_SEAL_MARK_LEN};
}

mdm_rc mdm_seal_read_key(const char *path,
                         unsigned char key_r[MDM_SEAL_KEY_LEN], mdm_err_t *err)
{
    char text[2 * MDM_SEAL_KEY_LEN + 2];
    struct stat st;
    ssize_t n = -1;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        n = read(fd, text, sizeof(text));
    }
    if (n < 0) {
        (void)mdm_err_set(err, MDM_ECONFIG, 0, "cannot read %s: %s", path,
                          strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return MDM_ECONFIG;
    }
    close(fd);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 027) != 0) {
        mdm_wipe(text, sizeof(text));
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s may be read by others; make it a file of mode "
                           "0600, or 0640 with the workers' group",
                           path);
    }
    if (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    if (!mdm_hex_decode((mdm_str_t){text, (size_t)n}, key_r,
                        MDM_SEAL_KEY_LEN)) {
        mdm_wipe(text, sizeof(text));
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s does not hold 64 hex digits; make one with: "
                           "openssl rand -hex 32",
                           path);
    }
    mdm_wipe(text, sizeof(text));
    return MDM_OK;
}

/* Writes a new key beside its final name and links it there: of several
 * processes one wins, and no half-written key is ever seen. */
static mdm_rc make_key(const char *dir, const char *path, bool *made_r,
                       mdm_err_t *err)
{
    unsigned char key[MDM_SEAL_KEY_LEN];
    char text[2 * MDM_SEAL_KEY_LEN + 2];
    char temporary[PATH_MAX];
    bool written = false;
    int fd;

    if (RAND_bytes(key, sizeof(key)) != 1) {
        return mdm_err_openssl(err, MDM_EINTERNAL, 0, "no random numbers");
    }
    mdm_hex_encode(key, sizeof(key), text);
    mdm_wipe(key, sizeof(key));
    text[2 * MDM_SEAL_KEY_LEN] = '\n';
    (void)snprintf(temporary, sizeof(temporary), "%s/.secret.key.XXXXXX", dir);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd >= 0) {
        written = write(fd, text, sizeof(text) - 1) ==
                      (ssize_t)sizeof(text) - 1 &&
                  fsync(fd) == 0;
        close(fd);
    }
    mdm_wipe(text, sizeof(text));
    if (written && link(temporary, path) == 0) {
        /* The name must outlast a power cut as the sealed rows do. */
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            (void)fsync(fd);
            close(fd);
        }
        *made_r = true;
    } else if (!written || errno != EEXIST) {
        (void)mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_UNAVAILABLE,
                          "cannot make %s: %s", path, strerror(errno));
        if (fd >= 0) {
            (void)unlink(temporary);
        }
        return MDM_EUNAVAIL;
    }
    (void)unlink(temporary);
    return MDM_OK;
}

bool mdm_seal_has_key(const char *dir)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/secret.key", dir);
    return access(path, F_OK) == 0;
}

mdm_rc mdm_seal_obtain_key(const char *dir,
                           unsigned char key_r[MDM_SEAL_KEY_LEN], bool *made_r,
                           mdm_err_t *err)
{
    char path[PATH_MAX];
    mdm_rc rc;

    *made_r = false;
    (void)snprintf(path, sizeof(path), "%s/secret.key", dir);
    if (!mdm_seal_has_key(dir)) {
        rc = make_key(dir, path, made_r, err);
        if (rc != MDM_OK) {
            return rc;
        }
    }
    return mdm_seal_read_key(path, key_r, err);
}

/* One pass of the cipher. */
typedef struct pass {
    const seal_key_t *key;
    mdm_str_t head; /* associated data, and where the row is */
    const char *where;
    const unsigned char *nonce;
    bool sealing;
} pass_t;

static bool add_data(EVP_CIPHER_CTX *ctx, const char *data, size_t n)
{
    int done = 0;

    return EVP_CipherUpdate(ctx, NULL, &done, (const unsigned char *)data,
                            (int)n) == 1;
}

/* `tag` is written when sealing, else checked.  MDM_EINTERNAL: the tag is not
 * that of these bytes.  Nothing else goes wrong but for want of memory. */
static mdm_rc gcm(const pass_t *p, mdm_str_t in, unsigned char *out,
                  unsigned char *tag)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    mdm_rc rc = MDM_OK;
    int n = 0;
    bool ok;

    ok = ctx != NULL && in.n <= INT_MAX &&
         EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, p->key->bytes,
                           p->nonce, p->sealing ? 1 : 0) == 1 &&
         (p->head.n == 0 || add_data(ctx, p->head.s, p->head.n)) &&
         add_data(ctx, p->where, strlen(p->where)) &&
         (in.n == 0 || EVP_CipherUpdate(ctx, out, &n,
                                        (const unsigned char *)in.s,
                                        (int)in.n) == 1);
    if (ok && !p->sealing) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1;
    }
    if (ok && EVP_CipherFinal_ex(ctx, out + in.n, &n) != 1) {
        rc = p->sealing ? MDM_ENOMEM : MDM_EINTERNAL;
    }
    if (ok && rc == MDM_OK && p->sealing) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1;
    }
    EVP_CIPHER_CTX_free(ctx);
    return ok ? rc : MDM_ENOMEM;
}

mdm_rc mdm_seal_close(const mdm_seal_t *seal, const char *where,
                      mdm_str_t plain, mdm_arena_t *arena, mdm_str_t *sealed_r,
                      mdm_err_t *err)
{
    pass_t pass = {.key = closing_key(seal), .where = where, .sealing = true};
    unsigned char *out;

    *sealed_r = MDM_STR_NONE;
    if (plain.s == NULL) {
        return MDM_OK;
    }
    out = mdm_arena_alloc(arena, plain.n + MDM_SEAL_OVERHEAD);
    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(out, pass.key->mark, MDM_SEAL_MARK_LEN);
    pass.head = (mdm_str_t){(const char *)out, MDM_SEAL_MARK_LEN};
    pass.nonce = out + MDM_SEAL_MARK_LEN;
    if (RAND_bytes(out + MDM_SEAL_MARK_LEN, NONCE_LEN) != 1 ||
        gcm(&pass, plain, out + MDM_SEAL_HEAD_LEN,
            out + MDM_SEAL_HEAD_LEN + plain.n) != MDM_OK) {
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "cannot seal a secret");
    }
    *sealed_r = (mdm_str_t){(const char *)out, plain.n + MDM_SEAL_OVERHEAD};
    return MDM_OK;
}

/* The key that a value names; NULL: none of ours. */
static const seal_key_t *key_of(const mdm_seal_t *seal, mdm_str_t sealed)
{
    unsigned i;

    for (i = 0; i < seal->n; i++) {
        if (memcmp(sealed.s, seal->keys[i].mark, MDM_SEAL_MARK_LEN) == 0) {
            return &seal->keys[i];
        }
    }
    return NULL;
}

/* Opens under one key; `head` bytes stand before the ciphertext. */
static mdm_rc open_with(pass_t *pass, mdm_str_t sealed, size_t head,
                        unsigned char *out)
{
    size_t n = sealed.n - head - TAG_LEN;
    unsigned char tag[TAG_LEN];
    mdm_rc rc;

    memcpy(tag, sealed.s + head + n, TAG_LEN);
    pass->nonce = (const unsigned char *)sealed.s + head - NONCE_LEN;
    rc = gcm(pass, (mdm_str_t){sealed.s + head, n}, out, tag);
    if (rc != MDM_OK) {
        mdm_wipe(out, n);
    }
    return rc;
}

mdm_rc mdm_seal_open(const mdm_seal_t *seal, const char *where,
                     mdm_str_t sealed, mdm_arena_t *arena, mdm_str_t *plain_r,
                     mdm_err_t *err)
{
    bool second = sealed.n > 0 && sealed.s[0] == VERSION_2;
    size_t head = second ? MDM_SEAL_HEAD_LEN : HEAD_1_LEN;
    pass_t pass = {.key = closing_key(seal), .where = where};
    unsigned char *out;
    mdm_rc rc;

    *plain_r = MDM_STR_NONE;
    if (sealed.s == NULL) {
        return MDM_OK;
    }
    if (sealed.n < head + TAG_LEN || (!second && sealed.s[0] != VERSION_1)) {
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                           "the stored secret %s is not in a known form",
                           where);
    }
    if (second) {
        pass.key = key_of(seal, sealed);
        pass.head = (mdm_str_t){sealed.s, MDM_SEAL_MARK_LEN};
    }
    if (pass.key == NULL) {
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                           "the stored secret %s is sealed with a key that is "
                           "not known here",
                           where);
    }
    out = mdm_arena_alloc(arena, sealed.n - head - TAG_LEN + 1);
    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    rc = open_with(&pass, sealed, head, out);
    if (rc == MDM_EINTERNAL && !second && seal->n > 1) {
        ERR_clear_error(); /* the queue is the host's, too */
        pass.key = pass.key == &seal->keys[0] ? &seal->keys[1]
                                              : &seal->keys[0];
        rc = open_with(&pass, sealed, head, out);
    }
    if (rc != MDM_OK) {
        return mdm_err_openssl(err, rc, MDM_MSG_STORE_FAULT,
                               "the stored secret %s does not open", where);
    }
    *plain_r = (mdm_str_t){(const char *)out, sealed.n - head - TAG_LEN};
    return MDM_OK;
}
