/*
 * mdm_challenge.c - see mdm_challenge.h.
 */
#include "mdm_challenge.h"

#include <string.h>

#include <openssl/rand.h>

#include "mdm_log.h"
#include "mdm_str.h"
#include "mdm_x509_ca.h"

#define RANDOM_LEN (MDM_CHALLENGE_LEN * 5 / 8)
/* With every new one go some whose time is over. */
#define PRUNE 50

/* RFC 4648's base32: five bits a letter, none that looks like another. */
static void spell(const unsigned char random[RANDOM_LEN], char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    size_t bit;
    size_t i;
    unsigned at;

    for (i = 0; i < MDM_CHALLENGE_LEN; i++) {
        bit = 5 * i;
        at = (unsigned)random[bit / 8] << 8;
        at |= bit / 8 + 1 < RANDOM_LEN ? random[bit / 8 + 1] : 0U;
        text[i] = letters[at >> (11 - bit % 8) & 31U];
    }
    text[MDM_CHALLENGE_LEN] = '\0';
}

static bool is_text(mdm_str_t text, size_t max)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if (text.s[i] < ' ' || text.s[i] > '~') {
            return false;
        }
    }
    return text.s == NULL || (text.n > 0 && text.n <= max);
}

static mdm_rc check(mdm_tx_t *tx, const mdm_challenge_t *what, mdm_err_t *err)
{
    mdm_target_t target;
    mdm_arena_t *arena;
    mdm_rc rc;

    if (!is_text(what->device_id, MDM_ID_PART_MAX) ||
        !is_text(what->serial_number, MDM_COMMON_NAME_MAX) ||
        !is_text(what->common_name, MDM_COMMON_NAME_MAX)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "what a challenge is for must be printable ASCII: "
                           "an id of at most %d bytes, serial number and "
                           "common name of at most %d",
                           MDM_ID_PART_MAX, MDM_COMMON_NAME_MAX);
    }
    if (what->purpose != MDM_CHALLENGE_RENEW) {
        return MDM_OK;
    }
    if (what->device_id.s == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "a challenge to renew needs the enrolment that it "
                           "is for");
    }
    arena = mdm_arena_new(false);
    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_target(tx, what->device_id, arena, &target, err);
    if (rc == MDM_OK && target.eid == 0) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_challenge_make(mdm_tx_t *tx, const mdm_challenge_t *what,
                          int64_t life_us, char text_r[MDM_CHALLENGE_SIZE],
                          mdm_err_t *err)
{
    int64_t now = mdm_wall_us(NULL);
    mdm_challenge_row_t row = {.purpose = what->purpose,
                               .device_id = what->device_id,
                               .serial_number = what->serial_number,
                               .common_name = what->common_name,
                               .expires_at = now + life_us};
    unsigned char random[RANDOM_LEN];
    unsigned char hash[MDM_SHA256_LEN];
    mdm_rc rc = check(tx, what, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (RAND_bytes(random, sizeof(random)) != 1) {
        return mdm_err_openssl(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                               "no random numbers");
    }
    spell(random, text_r);
    mdm_wipe(random, sizeof(random));
    rc = mdm_sha256((mdm_str_t){text_r, MDM_CHALLENGE_LEN}, hash, err);
    if (rc == MDM_OK) {
        rc = mdm_store_challenge_add(tx, hash, &row, now, err);
    }
    return rc == MDM_OK ? mdm_store_challenge_prune(tx, now, PRUNE, err) : rc;
}

typedef struct job {
    const mdm_challenge_t *what;
    int64_t life_us;
    char *text;
} job_t;

static mdm_rc give(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_challenge_make(tx, job->what, job->life_us, job->text, err);
}

mdm_rc mdm_challenge_give(mdm_store_t *store, const mdm_challenge_t *what,
                          int64_t life_us, char text_r[MDM_CHALLENGE_SIZE],
                          mdm_err_t *err)
{
    job_t job = {.what = what, .life_us = life_us, .text = text_r};

    return mdm_store_write(store, give, &job, err);
}

static mdm_rc hash_text(mdm_str_t text, unsigned char hash[MDM_SHA256_LEN],
                        mdm_err_t *err)
{
    return text.n == MDM_CHALLENGE_LEN
               ? mdm_sha256(text, hash, err)
               : mdm_err_set(err, MDM_EDENIED, 0, "the challenge is unknown");
}

mdm_rc mdm_challenge_look(mdm_tx_t *tx, mdm_str_t text, int64_t now_us,
                          mdm_arena_t *arena, mdm_challenge_t *what_r,
                          mdm_err_t *err)
{
    unsigned char hash[MDM_SHA256_LEN];
    mdm_challenge_row_t row;
    mdm_rc rc;

    memset(what_r, 0, sizeof(*what_r));
    rc = hash_text(text, hash, err);
    if (rc == MDM_OK) {
        rc = mdm_store_challenge_get(tx, hash, arena, &row, err);
    }
    if (rc == MDM_ENOTFOUND) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the challenge is unknown, or was used");
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (row.expires_at <= now_us) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "the time of the challenge is over");
    }
    what_r->purpose = (mdm_challenge_purpose_t)row.purpose;
    what_r->device_id = row.device_id;
    what_r->serial_number = row.serial_number;
    what_r->common_name = row.common_name;
    return MDM_OK;
}

mdm_rc mdm_challenge_use(mdm_tx_t *tx, mdm_str_t text, int64_t now_us,
                         mdm_arena_t *arena, mdm_challenge_t *what_r,
                         mdm_err_t *err)
{
    unsigned char hash[MDM_SHA256_LEN];
    mdm_rc rc = mdm_challenge_look(tx, text, now_us, arena, what_r, err);

    if (rc == MDM_OK) {
        rc = hash_text(text, hash, err);
    }
    return rc == MDM_OK ? mdm_store_challenge_drop(tx, hash, err) : rc;
}
