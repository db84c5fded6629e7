/*
 * mdm_expiry.c - see mdm_expiry.h.
 */
#include "mdm_expiry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mdm_pushcert.h"
#include "mdm_store_event.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define DAY_US (INT64_C(86400) * MDM_SEC)
#define ROWS_MAX 256
#define SUBJECT_SIZE (MDM_TOPIC_MAX + 8)

/* From the far end to the near one. */
static const struct {
    int days;
    mdm_level_t level;
} steps[MDM_EXPIRY_OVER] = {
    {60, MDM_LOG_NOTICE}, {30, MDM_LOG_WARNING}, {14, MDM_LOG_WARNING},
    {7, MDM_LOG_ERROR},   {3, MDM_LOG_ERROR},    {1, MDM_LOG_ALERT},
    {0, MDM_LOG_ALERT}};

int mdm_expiry_step(int64_t not_after_us, int64_t now_us)
{
    int step = 0;

    while (step < MDM_EXPIRY_OVER &&
           not_after_us - now_us <= steps[step].days * DAY_US) {
        step++;
    }
    return step;
}

/* One certificate that ends some day. */
typedef struct end {
    char subject[SUBJECT_SIZE]; /* of its notice */
    bool push;                  /* a push certificate; else a device CA */
    const char *name;           /* topic, or subject of the CA */
    const char *fingerprint;
    int64_t not_after_us;
    int step;
    bool tell; /* found to be said, in the transaction that notes it */
} end_t;

typedef struct job {
    const mdm_expiry_config_t *config;
    int64_t now_us;
    mdm_arena_t *arena;
    end_t *ends;
    size_t n;
    bool changes; /* there is something to note */
} job_t;

/* ---- what there is ------------------------------------------------------- */

static void add_end(job_t *job, bool push, const char *name,
                    const char *fingerprint, int64_t not_after_us)
{
    end_t *end;

    if (job->n == ROWS_MAX) {
        return;
    }
    end = &job->ends[job->n++];
    end->push = push;
    end->name = name;
    end->fingerprint = fingerprint;
    end->not_after_us = not_after_us;
    end->step = mdm_expiry_step(not_after_us, job->now_us);
    /* Of a push certificate its topic, which the next one has, too. */
    (void)snprintf(end->subject, sizeof(end->subject), "%s:%s",
                   push ? "push" : "ca", push ? name : fingerprint);
}

static mdm_rc add_pushcerts(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    mdm_pushcert_row_t *rows =
        mdm_arena_alloc(job->arena, ROWS_MAX * sizeof(*rows));
    size_t n = 0;
    size_t i;
    mdm_rc rc;

    if (rows == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_pushcert_list(tx, job->arena, rows, ROWS_MAX, &n, err);
    for (i = 0; rc == MDM_OK && i < n; i++) {
        add_end(job, true, rows[i].topic.s, rows[i].fingerprint.s,
                rows[i].not_after_us);
    }
    return rc;
}

static void add_authorities(job_t *job)
{
    const mdm_trust_ca_t *list;
    size_t n;
    size_t t;
    size_t i;

    for (t = 0; t < job->config->ntrusts; t++) {
        list = mdm_trust_cas(job->config->trusts[t], &n);
        for (i = 0; i < n; i++) {
            add_end(job, false, list[i].subject, list[i].fingerprint,
                    list[i].not_after_us);
        }
    }
}

/* ---- what is new about it ------------------------------------------------ */

/* Said once for each step; after the end once a day. */
static mdm_rc judge(mdm_tx_t *tx, job_t *job, end_t *end, bool *note_r,
                    mdm_err_t *err)
{
    int64_t step = 0;
    int64_t told = 0;
    mdm_rc rc = mdm_store_notice_get(tx, mdm_str_from(end->subject), &step,
                                     &told, err);

    end->tell = rc == MDM_OK &&
                (end->step > step ||
                 (end->step == MDM_EXPIRY_OVER &&
                  (told > job->now_us || job->now_us - told >= DAY_US)));
    *note_r = rc == MDM_OK && (end->tell || end->step != step);
    return rc;
}

static mdm_rc find(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    bool note = false;
    size_t i;
    mdm_rc rc;

    rc = add_pushcerts(tx, job, err);
    if (rc == MDM_OK) {
        add_authorities(job);
    }
    for (i = 0; rc == MDM_OK && i < job->n; i++) {
        rc = judge(tx, job, &job->ends[i], &note, err);
        job->changes = job->changes || note;
    }
    return rc;
}

static mdm_rc add_event(mdm_tx_t *tx, const job_t *job, const end_t *end,
                        mdm_err_t *err)
{
    char when[MDM_RFC3339_SIZE];
    json_t *json;
    char *text;
    mdm_rc rc;

    mdm_time_format(end->not_after_us, when);
    json = json_pack(
        "{s:{s:s, s:s, s:s, s:I}}", "certificate_event",
        end->push ? "push_topic" : "subject", end->name, "sha256",
        end->fingerprint, "not_after", when, "days_left",
        (json_int_t)((end->not_after_us - job->now_us) / DAY_US));
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_event_add(tx,
                             end->push ? MDM_STR("server.PushCertificateEnds")
                                       : MDM_STR("server.DeviceCAEnds"),
                             mdm_str_from(text), job->now_us, err);
    free(text);
    return rc;
}

/* Judges anew: another leader may have been here. */
static mdm_rc note(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = MDM_OK;
    bool due = false;
    end_t *end;
    size_t i;

    for (i = 0; rc == MDM_OK && i < job->n; i++) {
        end = &job->ends[i];
        rc = judge(tx, job, end, &due, err);
        if (rc == MDM_OK && end->tell) {
            rc = add_event(tx, job, end, err);
        }
        if (rc == MDM_OK && due) {
            rc = mdm_store_notice_set(tx, mdm_str_from(end->subject),
                                      end->step, job->now_us, err);
        }
    }
    return rc;
}

/* ---- telling ------------------------------------------------------------- */

static void say(const job_t *job, const end_t *end, mdm_level_t level)
{
    bool over = end->step == MDM_EXPIRY_OVER;
    char text[64];

    (void)mdm_pushcert_describe_end(end->not_after_us, job->now_us, text,
                                    sizeof(text));
    if (end->push) {
        mdm_log_msg(job->config->log, level,
                    over ? MDM_MSG_PUSH_CERTIFICATE_EXPIRED
                         : MDM_MSG_PUSH_CERTIFICATE_EXPIRING,
                    "the push certificate of %s %s", end->name, text);
    } else {
        mdm_log_msg(job->config->log, level,
                    over ? MDM_MSG_DEVICE_CA_EXPIRED
                         : MDM_MSG_DEVICE_CA_EXPIRING,
                    "the device certificate authority %s %s", end->name,
                    text);
    }
}

static bool from_file(const job_t *job, const end_t *end)
{
    size_t i;

    for (i = 0; i < job->config->nfile_certs; i++) {
        if (strcmp(job->config->file_certs[i]->fingerprint,
                   end->fingerprint) == 0) {
            return true;
        }
    }
    return false;
}

static void tell(const job_t *job, bool start)
{
    const end_t *end;
    size_t i;

    for (i = 0; i < job->n; i++) {
        end = &job->ends[i];
        if (end->tell) {
            say(job, end, steps[end->step - 1].level);
        } else if (start && end->push && !from_file(job, end) &&
                   end->not_after_us - job->now_us <= job->config->warn_us) {
            say(job, end, MDM_LOG_WARNING);
        }
    }
}

mdm_rc mdm_expiry_look(const mdm_expiry_config_t *config, bool start,
                       int64_t now_us, mdm_err_t *err)
{
    job_t job = {.config = config, .now_us = now_us};
    mdm_rc rc;

    job.arena = mdm_arena_new(false);
    if (job.arena != NULL) {
        job.ends = mdm_arena_alloc(job.arena, ROWS_MAX * sizeof(*job.ends));
    }
    if (job.ends == NULL) {
        mdm_arena_free(&job.arena);
        return mdm_err_nomem(err);
    }
    rc = mdm_store_read(config->store, find, &job, err);
    if (rc == MDM_OK && job.changes) {
        rc = mdm_store_write(config->store, note, &job, err);
    }
    if (rc == MDM_OK) {
        tell(&job, start);
    }
    mdm_arena_free(&job.arena);
    return rc;
}
