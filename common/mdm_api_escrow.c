/*
 * mdm_api_escrow.c - taking Activation Lock off with a bypass code: a form is
 * handed to Apple under the push certificate of its topic, and Apple's answer
 * is handed back as it is.  The fields, and which of them go where, are those
 * of NanoMDM and of Apple's "Creating and using bypass codes".
 *
 * The code is never logged.  Blocks on the store and on Apple; any thread.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_str.h"

#define FORM_MAX (16 * 1024)
#define FIELD_MAX 512

/* Where a field goes. */
typedef enum place {
    PLACE_QUERY,
    PLACE_BODY,
    PLACE_OURS
} place_t;

static const struct {
    const char *name;
    place_t place;
    bool required;
} fields[] = {
    {"topic", PLACE_OURS, true},        {"serial", PLACE_QUERY, true},
    {"productType", PLACE_QUERY, true}, {"imei", PLACE_QUERY, false},
    {"imei2", PLACE_QUERY, false},      {"meid", PLACE_QUERY, false},
    {"orgName", PLACE_BODY, true},      {"guid", PLACE_BODY, true},
    {"escrowKey", PLACE_BODY, true},
};
#define FIELDS MDM_ARRAY_LEN(fields)
#define TOPIC 0
#define SERIAL 1

typedef struct job {
    mdm_api_call_t *call;
    mdm_str_t values[FIELDS];
    mdm_pushcert_row_t cert;
} job_t;

/* "+" is a blank in a form. */
static mdm_rc decode(job_t *job, mdm_str_t raw, mdm_str_t *text_r,
                     mdm_err_t *err)
{
    char *copy = mdm_arena_dup(job->call->arena, raw.s != NULL ? raw.s : "",
                               raw.n);
    size_t i;

    if (copy == NULL) {
        return mdm_err_nomem(err);
    }
    for (i = 0; i < raw.n; i++) {
        copy[i] = copy[i] == '+' ? ' ' : copy[i];
    }
    return mdm_http_decode((mdm_str_t){copy, raw.n}, job->call->arena, text_r,
                           err);
}

/* The first of a name counts; names that we do not know do not. */
static mdm_rc read_pair(job_t *job, mdm_str_t pair, mdm_err_t *err)
{
    mdm_str_t raw = pair;
    mdm_str_t name = mdm_str_split(&raw, '=');
    size_t i;
    mdm_rc rc;

    for (i = 0; i < FIELDS; i++) {
        if (!mdm_str_is(name, fields[i].name) ||
            job->values[i].s != NULL) {
            continue;
        }
        rc = decode(job, raw, &job->values[i], err);
        if (rc == MDM_OK && job->values[i].n > FIELD_MAX) {
            rc = mdm_err_set(err, MDM_EINVAL, 0, "%s is longer than %d bytes",
                             fields[i].name, FIELD_MAX);
        }
        return rc;
    }
    return MDM_OK;
}

static mdm_rc read_form(job_t *job, mdm_err_t *err)
{
    const mdm_request_t *request = job->call->request;
    mdm_str_t rest;
    size_t i;
    mdm_rc rc;

    if (!mdm_str_ieq(mdm_http_media_type(request->content_type),
                     "application/x-www-form-urlencoded")) {
        return mdm_err_set(err, MDM_EMEDIATYPE, 0,
                           "this call takes "
                           "application/x-www-form-urlencoded");
    }
    rc = mdm_http_body(request, FORM_MAX, job->call->arena, &rest, err);
    while (rc == MDM_OK && rest.s != NULL) {
        rc = read_pair(job, mdm_str_split(&rest, '&'), err);
    }
    for (i = 0; rc == MDM_OK && i < FIELDS; i++) {
        if (fields[i].required && job->values[i].n == 0) {
            rc = mdm_err_set(err, MDM_EINVAL, 0, "%s is missing",
                             fields[i].name);
        }
    }
    return rc;
}

/* The fields of one place as "a=1&b=2", in the arena. */
static mdm_rc join(const job_t *job, place_t place, mdm_str_t *text_r,
                   mdm_err_t *err)
{
    mdm_arena_t *arena = job->call->arena;
    const char *text = "";
    const char *value;
    size_t i;

    for (i = 0; text != NULL && i < FIELDS; i++) {
        if (fields[i].place != place || job->values[i].n == 0) {
            continue;
        }
        value = mdm_upstream_encode(job->values[i], arena);
        text = value != NULL ? mdm_arena_printf(arena, "%s%s%s=%s", text,
                                                text[0] != '\0' ? "&" : "",
                                                fields[i].name, value)
                             : NULL;
    }
    *text_r = mdm_str_from(text);
    return text != NULL ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc read_cert(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_pushcert_get(tx, job->values[TOPIC], job->call->arena,
                                  &job->cert, err);
}

static mdm_rc hand_over(job_t *job, mdm_upstream_answer_t *answer,
                        mdm_err_t *err)
{
    mdm_upstream_form_t form = {.cert_pem = job->cert.cert_pem,
                                .key_pem = job->cert.key_pem};
    mdm_rc rc = join(job, PLACE_QUERY, &form.query, err);

    if (rc == MDM_OK) {
        rc = join(job, PLACE_BODY, &form.body, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    rc = mdm_upstream_post(job->call->server->unlock, &form, job->call->arena,
                           answer, err);
    if (rc != MDM_OK) {
        (void)mdm_err_prefix(err, "escrow key unlock");
        err->id = MDM_MSG_API_UNLOCK_FAULT;
    }
    return rc;
}

mdm_rc mdm_api_escrow_key_unlock(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.call = call};
    mdm_upstream_answer_t answer;
    mdm_rc rc = read_form(&job, err);

    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, read_cert, &job, err);
    }
    if (rc == MDM_OK) {
        rc = hand_over(&job, &answer, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_api_note(call,
                 answer.status == 200 ? "Activation Lock taken off of"
                                      : "Activation Lock not taken off of",
                 job.values[SERIAL]);
    mdm_http_reply(call->response, answer.status,
                   answer.content_type != NULL ? answer.content_type
                                               : "application/octet-stream",
                   answer.body);
    return MDM_OK;
}
