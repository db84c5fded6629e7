/*
 * mdm_ca_issue.c - see mdm_ca_issue.h.
 *
 * In three steps: look (a plain read) who asks and what the certificate will
 * say; sign, which takes a millisecond in which nobody else should have to
 * wait; and write, where everything that was looked at is looked at again.
 */
#include "mdm_ca_issue.h"

#include <string.h>

#include "mdm_enroll.h"
#include "mdm_str.h"

#define REPEAT_US (900 * MDM_SEC)
/* What is over for a year is forgotten, some rows with each new one. */
#define KEEP_US (365 * 86400 * MDM_SEC)
#define PRUNE 20

typedef struct job {
    const mdm_ca_ask_t *ask;
    mdm_arena_t *arena;
    int64_t now_us;
    unsigned char id[MDM_SHA256_LEN];     /* of the transaction */
    unsigned char proof[MDM_SHA256_LEN];  /* of that and the challenge */
    unsigned char asked[MDM_SHA256_LEN];  /* of the request's subject */
    unsigned char signer[MDM_SHA256_LEN]; /* of its certificate */
    bool is_static;                       /* the challenge is */
    mdm_challenge_t what;
    mdm_issued_t old;    /* a renewal's signer */
    mdm_issued_t before; /* given to the same transaction */
    mdm_new_cert_t fresh;
    mdm_pki_fail_t fail;
} job_t;

static mdm_rc deny(job_t *job, mdm_pki_fail_t fail, mdm_err_t *err,
                   const char *why)
{
    job->fail = fail;
    return mdm_err_set(err, MDM_EDENIED, 0, "%s", why);
}

/* ---- look ---------------------------------------------------------------- */

static mdm_rc hash_both(job_t *job, mdm_str_t a, mdm_str_t b,
                        unsigned char hash[MDM_SHA256_LEN], mdm_err_t *err)
{
    char *data = mdm_arena_alloc(job->arena, a.n + b.n + 1);

    if (data == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(data, a.s, a.n);
    if (b.n > 0) {
        memcpy(data + a.n, b.s, b.n);
    }
    return mdm_sha256((mdm_str_t){data, a.n + b.n}, hash, err);
}

/* Whoever repeats a transaction has its key: that is what its name is made
 * of, with the client's own name for it. */
static mdm_rc name_transaction(job_t *job, mdm_err_t *err)
{
    const mdm_pki_request_t *r = job->ask->request;
    /* A key is DER and says itself where it ends. */
    mdm_rc rc = hash_both(job, r->key.s != NULL ? r->key : r->signer_key,
                          r->transaction_id, job->id, err);

    if (rc == MDM_OK) {
        rc = hash_both(job, (mdm_str_t){(const char *)job->id, MDM_SHA256_LEN},
                       r->challenge, job->proof, err);
    }
    if (rc == MDM_OK && r->subject.s != NULL) {
        rc = mdm_sha256(r->subject, job->asked, err);
    }
    return rc == MDM_OK ? mdm_sha256(r->signer, job->signer, err) : rc;
}

static mdm_rc find_before(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_rc rc = mdm_store_issued_of(tx, job->id, job->arena, &job->before,
                                    err);

    if (job->before.issued_at + REPEAT_US <= job->now_us ||
        job->before.revoked_at != 0 ||
        (job->ask->request->type != MDM_PKI_CERT_POLL &&
         memcmp(job->before.proof, job->proof, MDM_SHA256_LEN) != 0)) {
        job->before.number = 0;
    }
    return rc;
}

/* The name that the client gives itself is nobody's word; but one that does
 * not agree with the identity it renews, and never did, wants something
 * else. */
static mdm_rc look_at_signer(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    const mdm_pki_request_t *r = job->ask->request;
    mdm_rc rc = mdm_store_issued_get(tx, job->signer, job->arena, &job->old,
                                     err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (job->old.number == 0) {
        return deny(job, MDM_PKI_BAD_CERT_ID, err,
                    "the identity to be renewed was not issued here");
    }
    if (job->old.revoked_at != 0) {
        return deny(job, MDM_PKI_BAD_CERT_ID, err,
                    "the identity to be renewed is revoked");
    }
    if (!r->subject_empty && !mdm_str_eq(r->subject, r->signer_subject) &&
        memcmp(job->asked, job->old.asked, MDM_SHA256_LEN) != 0) {
        return deny(job, MDM_PKI_BAD_REQUEST, err,
                    "the request names another subject than the identity "
                    "that it renews");
    }
    return MDM_OK;
}

static mdm_rc look_at_challenge(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    const mdm_pki_request_t *r = job->ask->request;
    mdm_rc rc;

    if (r->challenge.n == 0) {
        return deny(job, MDM_PKI_BAD_REQUEST, err, "no challenge in it");
    }
    job->is_static = job->ask->static_challenge.n > 0 &&
                     mdm_str_secret_eq(r->challenge,
                                       job->ask->static_challenge);
    if (job->is_static) {
        job->what.purpose = MDM_CHALLENGE_ENROL;
        return MDM_OK;
    }
    rc = mdm_challenge_look(tx, r->challenge, job->now_us, job->arena,
                            &job->what, err);
    if (rc == MDM_OK && job->what.common_name.s != NULL &&
        r->common_name.s != NULL &&
        !mdm_str_eq(job->what.common_name, r->common_name)) {
        return deny(job, MDM_PKI_BAD_REQUEST, err,
                    "the request names another common name than its "
                    "challenge");
    }
    job->fail = MDM_PKI_BAD_REQUEST;
    return rc;
}

static mdm_rc look(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = find_before(tx, job, err);

    if (rc != MDM_OK || job->before.number != 0) {
        return rc;
    }
    switch (job->ask->request->type) {
    case MDM_PKI_PKCS_REQ:
        return look_at_challenge(tx, job, err);
    case MDM_PKI_RENEWAL_REQ:
        return look_at_signer(tx, job, err);
    default:
        return deny(job, MDM_PKI_BAD_CERT_ID, err,
                    "nothing is kept for this transaction");
    }
}

/* ---- sign ---------------------------------------------------------------- */

static mdm_rc sign(job_t *job, mdm_err_t *err)
{
    const mdm_pki_request_t *r = job->ask->request;
    const mdm_challenge_t *what = &job->what;
    mdm_issue_t issue = {.key = r->key,
                         .serial_number = what->serial_number,
                         .now_us = job->now_us,
                         .life_us = job->ask->life_us};
    mdm_rc rc;

    if (r->type == MDM_PKI_RENEWAL_REQ) {
        issue.subject = r->signer_subject;
    } else if (what->common_name.s != NULL) {
        issue.common_name = what->common_name;
    } else if (what->device_id.s != NULL &&
               what->device_id.n <= MDM_COMMON_NAME_MAX) {
        issue.common_name = what->device_id;
    } else if (what->serial_number.s != NULL) {
        issue.common_name = what->serial_number;
    } else if (!r->subject_empty) {
        issue.subject = r->subject;
    } else {
        issue.common_name = MDM_STR("MDM Identity");
    }
    rc = mdm_authority_issue(job->ask->authority, &issue, job->arena,
                             &job->fresh, err);
    job->fail = MDM_PKI_BAD_REQUEST;
    return rc == MDM_EINVAL ? MDM_EDENIED : rc;
}

/* ---- write --------------------------------------------------------------- */

static mdm_rc store(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    bool renewal = job->ask->request->type == MDM_PKI_RENEWAL_REQ;
    mdm_issued_t issued = {
        .serial = {(const char *)job->fresh.serial, MDM_SERIAL_LEN},
        .authority = mdm_authority_fingerprint(job->ask->authority),
        .subject = job->fresh.subject,
        .device_id = renewal ? job->old.device_id : job->what.device_id,
        .serial_number = renewal ? job->old.serial_number
                                 : job->what.serial_number,
        .certificate = job->fresh.der,
        .issued_at = job->now_us,
        .not_after_us = job->fresh.identity.not_after_us};

    memcpy(issued.fingerprint, job->fresh.identity.fingerprint,
           MDM_SHA256_LEN);
    memcpy(issued.request, job->id, MDM_SHA256_LEN);
    memcpy(issued.proof, job->proof, MDM_SHA256_LEN);
    memcpy(issued.asked, job->asked, MDM_SHA256_LEN);
    return mdm_store_issued_add(tx, &issued, err);
}

/* Which identity a challenge to renew is about: the one bound last. */
static mdm_rc find_renewed(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_enrollment_t row;
    mdm_rc rc = mdm_store_enrollment_get(tx, job->what.device_id, job->arena,
                                         &row, err);

    if (rc == MDM_OK && !mdm_hex_decode(mdm_str_from(row.identity_sha256),
                                        job->signer, MDM_SHA256_LEN)) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    }
    return rc == MDM_ENOTFOUND
               ? deny(job, MDM_PKI_BAD_REQUEST, err,
                      "the enrolment whose identity is to be renewed is gone")
               : rc;
}

static mdm_rc bind_renewed(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_speaker_t speaker = {.identity = job->fresh.identity,
                             .cert = job->fresh.der};
    mdm_rc rc = MDM_OK;

    if (job->ask->request->type == MDM_PKI_PKCS_REQ) {
        rc = find_renewed(tx, job, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_enroll_renew(tx, job->signer, &speaker, job->now_us, err);
    }
    job->fail = MDM_PKI_BAD_REQUEST;
    return rc == MDM_EBLOCKED ? MDM_EDENIED : rc;
}

/* Everything once more: two requests may have come with one challenge, or
 * somebody revoked the identity meanwhile. */
static mdm_rc write(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    bool renewal = job->ask->request->type == MDM_PKI_RENEWAL_REQ;
    mdm_challenge_t what;
    mdm_rc rc = look(tx, job, err);

    if (rc != MDM_OK || job->before.number != 0) {
        return rc;
    }
    if (!renewal && !job->is_static) {
        rc = mdm_challenge_use(tx, job->ask->request->challenge, job->now_us,
                               job->arena, &what, err);
        renewal = what.purpose == MDM_CHALLENGE_RENEW;
    }
    if (rc == MDM_OK && renewal) {
        rc = bind_renewed(tx, job, err);
    }
    if (rc == MDM_OK) {
        rc = store(tx, job, err);
    }
    return rc == MDM_OK ? mdm_store_issued_prune(
                              tx, job->now_us - KEEP_US, PRUNE, err)
                        : rc;
}

static void describe(const job_t *job, mdm_ca_given_t *given)
{
    bool again = job->before.number != 0;
    mdm_str_t serial = again ? job->before.serial
                             : (mdm_str_t){(const char *)job->fresh.serial,
                                           MDM_SERIAL_LEN};

    given->again = again;
    given->cert = again ? job->before.certificate : job->fresh.der;
    given->subject = again ? job->before.subject : job->fresh.subject;
    if (serial.n <= MDM_SERIAL_MAX) {
        mdm_hex_encode(serial.s, serial.n, given->serial);
    }
}

mdm_rc mdm_ca_give(mdm_store_t *store_of, const mdm_ca_ask_t *ask,
                   mdm_arena_t *arena, mdm_ca_given_t *given_r,
                   mdm_pki_fail_t *fail_r, mdm_err_t *err)
{
    job_t job = {.ask = ask, .arena = arena, .now_us = mdm_wall_us(NULL)};
    mdm_rc rc = name_transaction(&job, err);

    memset(given_r, 0, sizeof(*given_r));
    if (rc == MDM_OK) {
        rc = mdm_store_read(store_of, look, &job, err);
    }
    if (rc == MDM_OK && job.before.number == 0) {
        rc = sign(&job, err);
        if (rc == MDM_OK) {
            rc = mdm_store_write(store_of, write, &job, err);
        }
    }
    *fail_r = job.fail;
    if (rc == MDM_OK) {
        describe(&job, given_r);
    }
    return rc;
}
