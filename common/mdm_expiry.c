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

typedef struct job {
    const mdm_expiry_config_t *config;
    int64_t now_us;
    mdm_arena_t *arena;
    mdm_ends_t ends;
    /* Found to be said, in the transaction that notes it. */
    bool tell[MDM_ENDS_MAX];
    bool start;   /* the first look since the configuration was read */
    bool changes; /* there is something to note */
} job_t;

static bool is_push(const mdm_end_t *end)
{
    return end->kind == MDM_END_PUSH;
}

static int step_of(const job_t *job, const mdm_end_t *end)
{
    return mdm_expiry_step(end->not_after_us, job->now_us);
}

/* ---- what is new about it ------------------------------------------------ */

/* What is noted of a certificate: of a push certificate by its topic, which
 * the next one has, too. */
static mdm_str_t subject_of(const mdm_end_t *end, char *dst, size_t cap)
{
    (void)snprintf(dst, cap, "%s:%.*s", is_push(end) ? "push" : "ca",
                   MDM_STR_ARG(is_push(end) ? end->name : end->fingerprint));
    return mdm_str_from(dst);
}

/* Said once for each step; after the end once a day. */
static mdm_rc judge(mdm_tx_t *tx, job_t *job, size_t i, bool *note_r,
                    mdm_err_t *err)
{
    const mdm_end_t *end = &job->ends.list[i];
    int now = step_of(job, end);
    char subject[SUBJECT_SIZE];
    int64_t step = 0;
    int64_t told = 0;
    mdm_rc rc = mdm_store_notice_get(
        tx, subject_of(end, subject, sizeof(subject)), &step, &told, err);

    job->tell[i] = rc == MDM_OK &&
                   (now > step ||
                    (now == MDM_EXPIRY_OVER &&
                     (told > job->now_us || job->now_us - told >= DAY_US)));
    *note_r = rc == MDM_OK && (job->tell[i] || now != step);
    return rc;
}

/* Which configuration's start was told of last is a notice as well. */
static mdm_rc judge_start(mdm_tx_t *tx, job_t *job, mdm_err_t *err)
{
    int64_t loaded = 0;
    int64_t told = 0;
    mdm_rc rc = mdm_store_notice_get(tx, MDM_STR("start"), &loaded, &told,
                                     err);

    job->start = rc == MDM_OK && loaded != job->config->loaded_us;
    return rc;
}

static mdm_rc find(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    bool due = false;
    size_t i;
    mdm_rc rc;

    rc = mdm_ends_read(tx, job->config, job->arena, &job->ends, err);
    if (rc == MDM_OK) {
        rc = judge_start(tx, job, err);
    }
    job->changes = job->start;
    for (i = 0; rc == MDM_OK && i < job->ends.n; i++) {
        rc = judge(tx, job, i, &due, err);
        job->changes = job->changes || due;
    }
    return rc;
}

static mdm_rc add_event(mdm_tx_t *tx, const job_t *job, const mdm_end_t *end,
                        mdm_err_t *err)
{
    char when[MDM_RFC3339_SIZE];
    json_t *json;
    char *text;
    mdm_rc rc;

    mdm_time_format(end->not_after_us, when);
    json = json_pack("{s:{s:s, s:s, s:s, s:I}}", "certificate_event",
                     is_push(end) ? "push_topic" : "subject", end->name.s,
                     "sha256", end->fingerprint.s, "not_after", when,
                     "days_left",
                     (json_int_t)((end->not_after_us - job->now_us) / DAY_US));
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_store_event_add(
        tx,
        &(mdm_event_t){.topic = is_push(end)
                                    ? MDM_STR("server.PushCertificateEnds")
                                    : MDM_STR("server.DeviceCAEnds"),
                       .body = mdm_str_from(text)},
        job->now_us, err);
    free(text);
    return rc;
}

/* Judges anew: another leader may have been here. */
static mdm_rc note_one(mdm_tx_t *tx, job_t *job, size_t i, mdm_err_t *err)
{
    const mdm_end_t *end = &job->ends.list[i];
    char subject[SUBJECT_SIZE];
    bool due = false;
    mdm_rc rc = judge(tx, job, i, &due, err);

    if (rc == MDM_OK && job->tell[i]) {
        rc = add_event(tx, job, end, err);
    }
    return rc == MDM_OK && due
               ? mdm_store_notice_set(
                     tx, subject_of(end, subject, sizeof(subject)),
                     step_of(job, end), job->now_us, err)
               : rc;
}

static mdm_rc note(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    size_t i;
    mdm_rc rc = judge_start(tx, job, err);

    if (rc == MDM_OK && job->start) {
        rc = mdm_store_notice_set(tx, MDM_STR("start"),
                                  job->config->loaded_us, job->now_us, err);
    }
    for (i = 0; rc == MDM_OK && i < job->ends.n; i++) {
        rc = note_one(tx, job, i, err);
    }
    return rc;
}

/* ---- telling ------------------------------------------------------------- */

static void say(const job_t *job, const mdm_end_t *end, mdm_level_t level)
{
    bool over = step_of(job, end) == MDM_EXPIRY_OVER;
    char text[64];

    (void)mdm_pushcert_describe_end(end->not_after_us, job->now_us, text,
                                    sizeof(text));
    if (is_push(end)) {
        mdm_log_msg(job->config->log, level,
                    over ? MDM_MSG_PUSH_CERTIFICATE_EXPIRED
                         : MDM_MSG_PUSH_CERTIFICATE_EXPIRING,
                    "the push certificate of %.*s %s", MDM_STR_ARG(end->name),
                    text);
    } else {
        mdm_log_msg(job->config->log, level,
                    over ? MDM_MSG_DEVICE_CA_EXPIRED
                         : MDM_MSG_DEVICE_CA_EXPIRING,
                    "the device certificate authority %.*s %s",
                    MDM_STR_ARG(end->name), text);
    }
}

static void tell(const job_t *job)
{
    const mdm_end_t *end;
    size_t i;

    for (i = 0; i < job->ends.n; i++) {
        end = &job->ends.list[i];
        if (job->tell[i]) {
            say(job, end, steps[step_of(job, end) - 1].level);
        } else if (job->start && !end->from_file &&
                   end->not_after_us - job->now_us <= job->config->warn_us) {
            say(job, end, MDM_LOG_WARNING);
        }
    }
}

mdm_rc mdm_expiry_look(const mdm_expiry_config_t *config, int64_t now_us,
                       mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    job_t *job = arena != NULL ? mdm_arena_alloc(arena, sizeof(*job)) : NULL;
    mdm_rc rc;

    if (job == NULL) {
        mdm_arena_free(&arena);
        return mdm_err_nomem(err);
    }
    job->config = config;
    job->now_us = now_us;
    job->arena = arena;
    rc = mdm_store_read(config->store, find, job, err);
    if (rc == MDM_OK && job->changes) {
        rc = mdm_store_write(config->store, note, job, err);
    }
    if (rc == MDM_OK) {
        tell(job);
    }
    mdm_arena_free(&arena);
    return rc;
}
