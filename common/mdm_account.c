/*
 * mdm_account.c - see mdm_account.h.
 */
#include "mdm_account.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#include "mdm_str.h"

#define TOKEN_BYTES 32
/* How long an introduction is kept that is not repeated. */
#define KEEP_US (90 * 86400 * MDM_SEC)

typedef struct job {
    unsigned char hash[MDM_SHA256_LEN];
    const unsigned char *fingerprint;
    mdm_account_token_t row;
    mdm_account_token_t last; /* of the device */
    mdm_binding_t binding;    /* of the certificate */
    mdm_owner_t owner;        /* its device */
    int64_t eid;
    int64_t life_us;
    int64_t now_us;
    int64_t n;
    mdm_arena_t *arena;
    mdm_introduction_t *introduction;
} job_t;

/* ---- making ------------------------------------------------------------- */

static mdm_rc add(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = mdm_store_token_prune(tx, job->now_us, err);

    return rc == MDM_OK ? mdm_store_token_add(tx, job->hash, &job->row, err)
                        : rc;
}

mdm_rc mdm_account_issue(mdm_store_t *store, mdm_token_kind_t kind,
                         mdm_str_t account, int64_t life_us,
                         char token_r[MDM_ACCOUNT_TOKEN_SIZE], mdm_err_t *err)
{
    unsigned char random[TOKEN_BYTES];
    job_t job = {.now_us = mdm_wall_us(NULL)};
    mdm_rc rc;

    if (RAND_bytes(random, sizeof(random)) != 1) {
        ERR_clear_error();
        return mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                           "no random numbers");
    }
    mdm_hex_encode(random, sizeof(random), token_r);
    mdm_wipe(random, sizeof(random));
    job.row.kind = kind;
    job.row.account = account.s != NULL ? account : MDM_STR("");
    job.row.created_at = job.now_us;
    job.row.expires_at = job.now_us + life_us;
    rc = mdm_sha256(mdm_str_from(token_r), job.hash, err);
    return rc == MDM_OK ? mdm_store_write(store, add, &job, err) : rc;
}

/* ---- checking ----------------------------------------------------------- */

static mdm_rc log_in_again(mdm_err_t *err, const char *why)
{
    return mdm_err_set(err, MDM_EUNAUTHORIZED, 0, "%s", why);
}

static mdm_rc judge(const job_t *job, mdm_token_kind_t kind, mdm_err_t *err)
{
    if (job->row.tid == 0 || job->row.kind != kind) {
        return log_in_again(err, "the token is not known");
    }
    if (job->row.revoked_at != 0) {
        return log_in_again(err, "the token was revoked");
    }
    if (job->row.expires_at != 0 && job->row.expires_at <= job->now_us) {
        return log_in_again(err, "the token has ended");
    }
    return MDM_OK;
}

static mdm_rc find(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc;

    rc = mdm_store_token_get(tx, job->hash, job->arena, &job->row, err);
    if (rc != MDM_OK || job->fingerprint == NULL) {
        return rc;
    }
    rc = mdm_store_identity_get(tx, job->fingerprint, &job->binding, err);
    if (rc == MDM_OK && job->binding.device_eid != 0) {
        rc = mdm_store_owner_get(tx, job->binding.device_eid, &job->owner,
                                 err);
    }
    if (rc == MDM_OK && job->binding.device_eid != 0 &&
        job->row.device_eid == 0) {
        rc = mdm_store_token_of_device(tx, job->binding.device_eid,
                                       job->arena, &job->last, err);
    }
    return rc;
}

/* Found by its hash: how long that takes tells nothing of the token. */
static mdm_rc look_up(mdm_store_t *store, mdm_str_t token, job_t *job,
                      mdm_err_t *err)
{
    mdm_rc rc = mdm_sha256(token, job->hash, err);

    job->now_us = mdm_wall_us(NULL);
    return rc == MDM_OK ? mdm_store_read(store, find, job, err) : rc;
}

mdm_rc mdm_account_check(mdm_store_t *store, mdm_token_kind_t kind,
                         mdm_str_t token, mdm_arena_t *arena,
                         mdm_account_token_t *row_r, mdm_err_t *err)
{
    job_t job = {.arena = arena};
    mdm_rc rc = look_up(store, token, &job, err);

    *row_r = job.row;
    return rc == MDM_OK ? judge(&job, kind, err) : rc;
}

mdm_rc mdm_account_admit(mdm_store_t *store, mdm_str_t token,
                         const unsigned char fingerprint[MDM_SHA256_LEN],
                         mdm_arena_t *arena, int64_t *tid_r, mdm_err_t *err)
{
    job_t job = {.arena = arena, .fingerprint = fingerprint};
    mdm_rc rc = look_up(store, token, &job, err);

    *tid_r = 0;
    if (rc == MDM_OK && job.owner.blocked) {
        return MDM_OK; /* it is told to leave, not to log in */
    }
    if (rc == MDM_OK) {
        rc = judge(&job, MDM_TOKEN_KIND_ACCOUNT, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    /* A certificate that nobody has yet comes with an Authenticate: whose it
     * will be shows then. */
    if (job.row.device_eid != 0 && job.binding.device_eid != 0 &&
        job.row.device_eid != job.binding.device_eid) {
        return log_in_again(err, "the token belongs to another device");
    }
    if (job.last.tid != 0 &&
        !mdm_str_eq(job.last.account, job.row.account)) {
        return log_in_again(err, "the token is of another user than the "
                                 "device's");
    }
    *tid_r = job.row.device_eid == 0 ? job.row.tid : 0;
    return MDM_OK;
}

/* ---- changing ----------------------------------------------------------- */

static mdm_rc bind_token(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const job_t *job = arg;

    return mdm_store_token_bind(tx, job->row.tid, job->eid,
                                job->life_us != 0
                                    ? job->now_us + job->life_us
                                    : 0,
                                job->now_us, err);
}

mdm_rc mdm_account_bind(mdm_store_t *store, int64_t tid, int64_t eid,
                        int64_t life_us, mdm_err_t *err)
{
    job_t job = {.row = {.tid = tid},
                 .eid = eid,
                 .life_us = life_us,
                 .now_us = mdm_wall_us(NULL)};

    return mdm_store_write(store, bind_token, &job, err);
}

static mdm_rc drop(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const job_t *job = arg;

    return mdm_store_token_drop(tx, job->row.tid, err);
}

mdm_rc mdm_account_use_up(mdm_store_t *store, int64_t tid, mdm_err_t *err)
{
    job_t job = {.row = {.tid = tid}};

    return mdm_store_write(store, drop, &job, err);
}

static mdm_rc revoke(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return job->row.tid != 0
               ? mdm_store_token_revoke(tx, job->row.tid, job->now_us,
                                        &job->n, err)
               : mdm_store_token_revoke_account(tx, job->row.account,
                                                job->now_us, &job->n, err);
}

mdm_rc mdm_account_revoke(mdm_store_t *store, int64_t tid, mdm_str_t account,
                          int64_t *n_r, mdm_err_t *err)
{
    job_t job = {.row = {.tid = tid, .account = account},
                 .now_us = mdm_wall_us(NULL)};
    mdm_rc rc = mdm_store_write(store, revoke, &job, err);

    *n_r = job.n;
    return rc;
}

/* ---- introductions ------------------------------------------------------ */

static mdm_rc put(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_introduction_put(tx, job->introduction,
                                      job->now_us - KEEP_US, err);
}

/* A claim must not stand in the place of what was proved, so it has a key of
 * its own. */
mdm_rc mdm_account_introduce(mdm_store_t *store, mdm_introduction_t *row,
                             mdm_arena_t *arena, mdm_err_t *err)
{
    mdm_str_t who = row->udid.n > 0     ? row->udid
                    : row->serial.n > 0 ? row->serial
                    : row->account.n > 0 ? row->account
                                         : MDM_STR("");
    job_t job = {.now_us = mdm_wall_us(NULL), .introduction = row};

    row->key = mdm_str_from(mdm_arena_printf(
        arena, "%s:%.*s:%.*s", row->verified ? "verified" : "claimed",
        MDM_STR_ARG(who), MDM_STR_ARG(row->product)));
    if (row->key.s == NULL) {
        return mdm_err_nomem(err);
    }
    row->first_at = job.now_us;
    row->last_at = job.now_us;
    return mdm_store_write(store, put, &job, err);
}
