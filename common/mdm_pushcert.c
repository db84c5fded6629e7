/*
 * mdm_pushcert.c - see mdm_pushcert.h.
 */
#include "mdm_pushcert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mdm_log.h"
#include "mdm_store_event.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define DAY_US (INT64_C(86400) * MDM_SEC)

typedef struct job {
    const mdm_keypair_t *pair;
    const mdm_pushcert_import_t *how;
    int64_t now_us;
    bool same;
    mdm_str_t former; /* fingerprint of the one that it replaces; absent */
    mdm_arena_t *arena;
} job_t;

const char *mdm_pushcert_describe_end(int64_t not_after_us, int64_t now_us,
                                      char *dst, size_t cap)
{
    int64_t left = not_after_us - now_us;

    if (left >= 0) {
        (void)snprintf(dst, cap, "expires in %lld days",
                       (long long)(left / DAY_US));
    } else {
        (void)snprintf(dst, cap, "expired %lld days ago",
                       (long long)(-left / DAY_US));
    }
    return dst;
}

static mdm_rc judge_time(const job_t *job, mdm_err_t *err)
{
    return job->how->source == MDM_PUSHCERT_API
               ? mdm_x509_judge_dates(job->pair->not_before_us,
                                      job->pair->not_after_us, job->now_us,
                                      "the push certificate",
                                      "renew it with the same Apple Account",
                                      err)
               : MDM_OK;
}

/* Another certificate of the same topic is there. */
static mdm_rc judge_age(job_t *job, const mdm_pushcert_row_t *stored,
                        mdm_err_t *err)
{
    /* A file that is read at every start is no operator's word that APNs may
     * be tried again; an import by the API is. */
    job->former = stored->fingerprint;
    job->same = mdm_str_is(stored->fingerprint, job->pair->fingerprint) &&
                (stored->suspended.s == NULL ||
                 job->how->source == MDM_PUSHCERT_FILE);
    if (job->same || job->how->force ||
        stored->not_before_us <= job->pair->not_before_us) {
        return MDM_OK;
    }
    return mdm_err_set(err, MDM_ECONFLICT, MDM_MSG_PUSH_CERTIFICATE_REFUSED,
                       "the push certificate is older than the stored one of "
                       "this topic; force it if that is meant");
}

static mdm_rc judge_number(mdm_tx_t *tx, const job_t *job, mdm_err_t *err)
{
    mdm_pushcert_row_t rows[MDM_PUSH_TOPICS_MAX];
    size_t n;
    mdm_rc rc = mdm_store_pushcert_list(tx, job->arena, rows,
                                        MDM_PUSH_TOPICS_MAX, &n, err);

    return rc == MDM_OK && n == MDM_PUSH_TOPICS_MAX
               ? mdm_err_set(err, MDM_ECONFLICT,
                             MDM_MSG_PUSH_CERTIFICATE_REFUSED,
                             "there are push certificates of %d topics "
                             "already, and more cannot be used",
                             MDM_PUSH_TOPICS_MAX)
               : rc;
}

/* The first certificate of its topic. */
static mdm_rc judge_topic(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_str_t other;
    int64_t all;
    int64_t same;
    mdm_rc rc = judge_number(tx, job, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (job->how->force || job->how->topic_change) {
        return MDM_OK;
    }
    rc = mdm_store_topic_usage(tx, job->pair->topic, job->arena, &all, &same,
                               &other, err);
    if (rc != MDM_OK || all == 0 || same > 0) {
        return rc;
    }
    return mdm_err_set(err, MDM_ECONFLICT, MDM_MSG_PUSH_CERTIFICATE_REFUSED,
                       "the push certificate has the topic %.*s, which no "
                       "enrolment uses, while %lld use another such as %.*s "
                       "and would not be woken by it; renew the old one with "
                       "the same Apple Account, or force this one",
                       MDM_STR_ARG(job->pair->topic), (long long)all,
                       MDM_STR_ARG(other));
}

/* Refuses, or finds that it is the very same. */
static mdm_rc judge(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_pushcert_row_t row;
    mdm_rc rc;

    rc = mdm_store_pushcert_get(tx, job->pair->topic, job->arena, &row, err);
    if (rc == MDM_OK) {
        rc = judge_age(job, &row, err);
    } else if (rc == MDM_ENOTFOUND) {
        rc = judge_topic(tx, job, err);
    } else if (rc == MDM_EINTERNAL) {
        rc = MDM_OK; /* its key does not open: any other is better */
    }
    return rc;
}

static mdm_rc add_event(mdm_tx_t *tx, const job_t *job, mdm_err_t *err)
{
    char when[MDM_RFC3339_SIZE];
    json_t *json;
    char *text;
    mdm_rc rc;

    mdm_time_format(job->pair->not_after_us, when);
    json = json_pack("{s:{s:o, s:s, s:s, s:s, s:o}}", "certificate_event",
                     "push_topic",
                     json_stringn(job->pair->topic.s, job->pair->topic.n),
                     "sha256", job->pair->fingerprint, "not_after", when,
                     "source",
                     job->how->source == MDM_PUSHCERT_FILE ? "file" : "import",
                     "replaces",
                     job->former.s != NULL
                         ? json_stringn(job->former.s, job->former.n)
                         : json_null());
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_event_add(
        tx,
        &(mdm_event_t){.topic = MDM_STR("server.PushCertificateStored"),
                       .body = mdm_str_from(text)},
        job->now_us, err);
    free(text);
    return rc;
}

static mdm_rc import(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_pushcert_row_t row;
    mdm_rc rc = judge(tx, job, err);

    if (rc != MDM_OK || job->same) {
        return rc;
    }
    memset(&row, 0, sizeof(row));
    row.topic = job->pair->topic;
    row.cert_pem = job->pair->cert_pem;
    row.key_pem = job->pair->key_pem;
    row.fingerprint = mdm_str_from(job->pair->fingerprint);
    row.not_before_us = job->pair->not_before_us;
    row.not_after_us = job->pair->not_after_us;
    rc = mdm_store_pushcert_set(tx, &row, job->now_us, err);
    return rc == MDM_OK ? add_event(tx, job, err) : rc;
}

mdm_rc mdm_pushcert_import(mdm_store_t *store, const mdm_keypair_t *pair,
                           const mdm_pushcert_import_t *how, bool *stored_r,
                           mdm_err_t *err)
{
    job_t job = {.pair = pair, .how = how};
    mdm_rc rc;

    *stored_r = false;
    job.now_us = mdm_wall_us(NULL);
    rc = judge_time(&job, err);
    if (rc != MDM_OK) {
        return rc;
    }
    job.arena = mdm_arena_new(true);
    if (job.arena == NULL) {
        return mdm_err_nomem(err);
    }
    /* Files come with every process that starts, and change once a year: what
     * changes nothing must not hold up those that write. */
    rc = mdm_store_read(store, judge, &job, err);
    if (rc == MDM_OK && !job.same) {
        rc = mdm_store_write(store, import, &job, err);
    }
    mdm_arena_free(&job.arena);
    *stored_r = rc == MDM_OK && !job.same;
    return rc;
}

/* ---- a certificate without its key -------------------------------------- */

typedef struct key_job {
    mdm_str_t topic;
    mdm_arena_t *arena;
    mdm_pushcert_row_t row;
} key_job_t;

static mdm_rc read_row(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    key_job_t *job = arg;

    return mdm_store_pushcert_get(tx, job->topic, job->arena, &job->row, err);
}

mdm_rc mdm_pushcert_read(mdm_store_t *store, mdm_str_t body,
                         mdm_str_t passphrase, mdm_arena_t *arena,
                         mdm_keypair_t *pair_r, mdm_err_t *err)
{
    mdm_str_t parts[2] = {body, MDM_STR_NONE};
    key_job_t job = {.arena = arena};
    mdm_err_t fault;
    mdm_rc rc = mdm_keypair_read(parts, 1, passphrase, arena, pair_r, err);

    if (rc != MDM_EINVAL || !pair_r->lacks_key) {
        return rc;
    }
    job.topic = pair_r->topic;
    rc = mdm_store_read(store, read_row, &job, &fault);
    if (rc == MDM_ENOTFOUND || rc == MDM_EINTERNAL) {
        return MDM_EINVAL; /* none, or none that opens: the key is missing */
    }
    if (rc != MDM_OK) {
        *err = fault;
        return rc;
    }
    /* The stored one once more is no renewal: whoever hands it in takes it
     * for the whole, and is told that it is a half. */
    if (pair_r->not_before_us <= job.row.not_before_us) {
        return MDM_EINVAL;
    }
    parts[1] = job.row.key_pem;
    rc = mdm_keypair_read(parts, 2, passphrase, arena, pair_r, err);
    return rc != MDM_EINVAL
               ? rc
               : mdm_err_set(err, MDM_EINVAL, 0,
                             "there is no private key in it, and the one that "
                             "is stored for this topic does not belong to "
                             "this certificate; give the key, too");
}
