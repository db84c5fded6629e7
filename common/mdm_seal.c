/*
 * mdm_seal.c - AES-256-GCM on OpenSSL's EVP, and the key file.
 */
#include "mdm_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "mdm_log.h"
#include "mdm_str.h"

#define SEAL_VERSION 1
#define NONCE_LEN 12
#define TAG_LEN 16

struct mdm_seal {
    unsigned char key[MDM_SEAL_KEY_LEN];
    char id[MDM_SEAL_ID_SIZE];
};

mdm_rc mdm_seal_new(const unsigned char key[MDM_SEAL_KEY_LEN],
                    mdm_seal_t **seal_r, mdm_err_t *err)
{
    static const char label[] = "mdm secret key";
    unsigned char digest[MDM_SHA256_LEN];
    char both[sizeof(label) + MDM_SEAL_KEY_LEN];
    mdm_seal_t *seal = calloc(1, sizeof(*seal));

    *seal_r = NULL;
    if (seal == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(seal->key, key, sizeof(seal->key));
    memcpy(both, label, sizeof(label));
    memcpy(both + sizeof(label), key, MDM_SEAL_KEY_LEN);
    mdm_sha256((mdm_str_t){both, sizeof(both)}, digest);
    mdm_wipe(both, sizeof(both));
    mdm_hex_encode(digest, (MDM_SEAL_ID_SIZE - 1) / 2, seal->id);
    *seal_r = seal;
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

const char *mdm_seal_id(const mdm_seal_t *seal)
{
    return seal->id;
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

/* One GCM pass over `in`; `tag` is written when sealing, else checked. */
static bool gcm(const mdm_seal_t *seal, bool sealing, const char *where,
                const unsigned char *nonce, mdm_str_t in, unsigned char *out,
                unsigned char *tag)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    bool ok;

    ok = ctx != NULL && in.n <= INT_MAX &&
         EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, seal->key, nonce,
                           sealing ? 1 : 0) == 1 &&
         EVP_CipherUpdate(ctx, NULL, &n, (const unsigned char *)where,
                          (int)strlen(where)) == 1 &&
         (in.n == 0 || EVP_CipherUpdate(ctx, out, &n,
                                        (const unsigned char *)in.s,
                                        (int)in.n) == 1);
    if (ok && !sealing) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1;
    }
    ok = ok && EVP_CipherFinal_ex(ctx, out + in.n, &n) == 1;
    if (ok && sealing) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1;
    }
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

mdm_rc mdm_seal_close(const mdm_seal_t *seal, const char *where,
                      mdm_str_t plain, mdm_arena_t *arena, mdm_str_t *sealed_r,
                      mdm_err_t *err)
{
    unsigned char *out;

    *sealed_r = MDM_STR_NONE;
    if (plain.s == NULL) {
        return MDM_OK;
    }
    out = mdm_arena_alloc(arena, plain.n + MDM_SEAL_OVERHEAD);
    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    out[0] = SEAL_VERSION;
    if (RAND_bytes(out + 1, NONCE_LEN) != 1 ||
        !gcm(seal, true, where, out + 1, plain, out + 1 + NONCE_LEN,
             out + 1 + NONCE_LEN + plain.n)) {
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "cannot seal a secret");
    }
    *sealed_r = (mdm_str_t){(const char *)out, plain.n + MDM_SEAL_OVERHEAD};
    return MDM_OK;
}

mdm_rc mdm_seal_open(const mdm_seal_t *seal, const char *where,
                     mdm_str_t sealed, mdm_arena_t *arena, mdm_str_t *plain_r,
                     mdm_err_t *err)
{
    const unsigned char *in = (const unsigned char *)sealed.s;
    unsigned char tag[TAG_LEN];
    unsigned char *out;
    size_t n;

    *plain_r = MDM_STR_NONE;
    if (sealed.s == NULL) {
        return MDM_OK;
    }
    if (sealed.n < MDM_SEAL_OVERHEAD || in[0] != SEAL_VERSION) {
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                           "the stored secret %s is not in a known form",
                           where);
    }
    n = sealed.n - MDM_SEAL_OVERHEAD;
    out = mdm_arena_alloc(arena, n + 1);
    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(tag, in + 1 + NONCE_LEN + n, TAG_LEN);
    if (!gcm(seal, false, where, in + 1,
             (mdm_str_t){sealed.s + 1 + NONCE_LEN, n}, out, tag)) {
        mdm_wipe(out, n);
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_STORE_FAULT,
                               "the stored secret %s does not open", where);
    }
    *plain_r = (mdm_str_t){(const char *)out, n};
    return MDM_OK;
}
