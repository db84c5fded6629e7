/*
 * mdm_api_scep.c - calls about the built-in certificate authority: challenges,
 * its own certificates, what it has issued.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_challenge.h"
#include "mdm_str.h"

#define CHALLENGE_BODY_MAX (16 * 1024)
#define LIFE_PRESET_US (3600 * MDM_SEC)
#define LIFE_MAX_US (90 * 86400 * MDM_SEC)
#define PAGE_ROWS 1000

/* ---- challenges ---------------------------------------------------------- */

typedef struct asked {
    mdm_challenge_t what;
    int64_t expires_us;
} asked_t;

static mdm_rc set_field(asked_t *asked, const char *name, mdm_str_t value,
                        mdm_err_t *err)
{
    if (strcmp(name, "expires") == 0) {
        return mdm_api_moment(value, name, &asked->expires_us, err);
    }
    if (strcmp(name, "purpose") == 0) {
        asked->what.purpose = mdm_str_is(value, "renew") ? MDM_CHALLENGE_RENEW
                                                         : MDM_CHALLENGE_ENROL;
        return mdm_str_is(value, "renew") || mdm_str_is(value, "enroll")
                   ? MDM_OK
                   : mdm_err_set(err, MDM_EINVAL, 0,
                                 "purpose is enroll or renew");
    }
    if (strcmp(name, "enrollment_id") == 0) {
        asked->what.device_id = value;
    } else if (strcmp(name, "serial_number") == 0) {
        asked->what.serial_number = value;
    } else {
        asked->what.common_name = value;
    }
    return MDM_OK;
}

static const char *const fields[] = {"enrollment_id", "serial_number",
                                     "common_name", "purpose", "expires"};

static mdm_rc read_query(mdm_api_call_t *call, asked_t *asked, mdm_err_t *err)
{
    mdm_str_t value;
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < MDM_ARRAY_LEN(fields); i++) {
        rc = mdm_api_query(call, fields[i], &value, err);
        if (rc == MDM_OK && value.s != NULL) {
            rc = set_field(asked, fields[i], value, err);
        }
    }
    return rc;
}

static const char *known_field(const char *name)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(fields); i++) {
        if (strcmp(name, fields[i]) == 0) {
            return fields[i];
        }
    }
    return NULL;
}

/* A word that is not known is refused: it may be what the challenge was meant
 * to be bound to. */
static mdm_rc read_json(mdm_api_call_t *call, json_t *json, asked_t *asked,
                        mdm_err_t *err)
{
    mdm_str_t text;
    mdm_str_t value = MDM_STR_NONE;
    const char *given;
    const char *name;
    json_t *field;
    mdm_rc rc = MDM_OK;

    if (!json_is_object(json)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the body is empty, or a JSON object");
    }
    json_object_foreach(json, given, field) {
        if (rc != MDM_OK || json_is_null(field)) {
            continue;
        }
        name = known_field(given);
        if (name == NULL || !json_is_string(field)) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "the body may hold enrollment_id, "
                               "serial_number, common_name, purpose and "
                               "expires, all of them strings");
        }
        text = (mdm_str_t){json_string_value(field),
                           json_string_length(field)};
        rc = mdm_arena_str(call->arena, text, &value)
                 ? set_field(asked, name, value, err)
                 : mdm_err_nomem(err);
    }
    return rc;
}

static mdm_rc read_asked(mdm_api_call_t *call, asked_t *asked, mdm_err_t *err)
{
    mdm_str_t body = MDM_STR_NONE;
    int64_t now;
    json_t *json;
    mdm_rc rc = read_query(call, asked, err);

    if (rc == MDM_OK) {
        rc = mdm_http_body(call->request, CHALLENGE_BODY_MAX, call->arena,
                           &body, err);
    }
    if (rc == MDM_OK && body.n > 0) {
        json = json_loadb(body.s, body.n, JSON_REJECT_DUPLICATES, NULL);
        rc = read_json(call, json, asked, err);
        json_decref(json);
    }
    now = mdm_wall_us(NULL);
    if (rc == MDM_OK && (asked->expires_us <= now ||
                         asked->expires_us > now + LIFE_MAX_US)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "expires is over, or more than 90 days ahead");
    }
    return rc;
}

/* Written by hand, as jansson keeps copies that nobody wipes. */
static mdm_rc reply_challenge(mdm_api_call_t *call, const char *text,
                              int64_t expires_us, mdm_err_t *err)
{
    char end[MDM_RFC3339_SIZE];
    char *body;

    mdm_time_format(expires_us, end);
    body = mdm_arena_printf(call->arena,
                            "{\n \"challenge\": \"%s\",\n"
                            " \"expires\": \"%s\"\n}\n",
                            text, end);
    if (body == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_http_header(call->response, "Cache-Control", "no-store");
    mdm_http_reply(call->response, 200, "application/json",
                   mdm_str_from(body));
    return MDM_OK;
}

mdm_rc mdm_api_challenge_make(mdm_api_call_t *call, mdm_err_t *err)
{
    int64_t now = mdm_wall_us(NULL);
    asked_t asked = {.what = {.purpose = MDM_CHALLENGE_ENROL},
                     .expires_us = now + LIFE_PRESET_US};
    char *text = mdm_arena_alloc(call->arena, MDM_CHALLENGE_SIZE);
    const mdm_challenge_t *what = &asked.what;
    mdm_rc rc;

    rc = text != NULL ? read_asked(call, &asked, err) : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        rc = mdm_challenge_give(call->server->store, what,
                                asked.expires_us - now, text, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_api_note(call,
                 what->purpose == MDM_CHALLENGE_RENEW
                     ? "challenge made to renew"
                     : "challenge made for",
                 what->device_id.s != NULL       ? what->device_id
                 : what->serial_number.s != NULL ? what->serial_number
                 : what->common_name.s != NULL   ? what->common_name
                                                 : MDM_STR("any device"));
    return reply_challenge(call, text, asked.expires_us, err);
}

/* ---- authorities --------------------------------------------------------- */

/* A certificate as PEM text. */
static json_t *pem(mdm_arena_t *arena, mdm_str_t der)
{
    static const char head[] = "-----BEGIN CERTIFICATE-----\n";
    static const char tail[] = "-----END CERTIFICATE-----\n";
    size_t n = MDM_BASE64_SIZE(der.n);
    char *text = mdm_arena_alloc(arena, n);
    char *out = mdm_arena_alloc(arena, n + n / 64 + sizeof(head) +
                                           sizeof(tail) + 2);
    char *at = out;
    size_t i;

    if (text == NULL || out == NULL) {
        return NULL;
    }
    mdm_base64_encode(der.s, der.n, text);
    at = stpcpy(at, head);
    for (i = 0; i < strlen(text); i += 64) {
        at = stpncpy(at, text + i, 64);
        *at++ = '\n';
    }
    (void)stpcpy(at, tail);
    return json_string(out);
}

static json_t *authority_json(mdm_api_call_t *call,
                              const mdm_authority_row_t *row)
{
    static const char *const states[] = {"next", "current", "former"};

    return json_pack("{s:o, s:s, s:o, s:o, s:b, s:o}", "fingerprint",
                     mdm_api_string(row->fingerprint), "state",
                     states[row->state], "created_at",
                     mdm_api_time(row->created_at), "not_after",
                     mdm_api_time(row->not_after_us), "in_use",
                     row->in_use ? 1 : 0, "certificate",
                     pem(call->arena, row->certificate));
}

static mdm_rc reply_authorities(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_authority_row_t rows[MDM_CA_MAX];
    json_t *all = json_array();
    size_t n = 0;
    size_t i;
    mdm_rc rc = mdm_ca_list(call->server->ca, call->arena, rows, &n, err);

    if (rc != MDM_OK) {
        json_decref(all);
        return rc;
    }
    for (i = 0; i < n; i++) {
        (void)json_array_append_new(all, authority_json(call, &rows[i]));
    }
    return mdm_api_reply(call, 200, json_pack("{s:o}", "authorities", all),
                         err);
}

mdm_rc mdm_api_authority_list(mdm_api_call_t *call, mdm_err_t *err)
{
    return reply_authorities(call, err);
}

mdm_rc mdm_api_authority_prepare(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_str_t cert;
    mdm_rc rc = mdm_ca_prepare(call->server->ca, call->arena, &cert, err);

    if (rc != MDM_OK) {
        return rc;
    }
    mdm_api_note(call, "prepared", MDM_STR("the next certificate authority"));
    return reply_authorities(call, err);
}

mdm_rc mdm_api_authority_promote(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_rc rc = mdm_ca_promote(call->server->ca, err);

    if (rc != MDM_OK) {
        return rc;
    }
    mdm_api_note(call, "activated", MDM_STR("the next certificate authority"));
    return reply_authorities(call, err);
}

/* ---- issued certificates ------------------------------------------------- */

static const char *state_of(const mdm_issued_t *row)
{
    return row->revoked_at != 0                        ? "revoked"
           : row->not_after_us <= mdm_wall_us(NULL)    ? "expired"
           : row->enrollment_id.s == NULL              ? "issued"
           : !row->current                             ? "former"
           : row->blocked                              ? "blocked"
                                                       : "current";
}

static json_t *issued_json(mdm_api_call_t *call, const mdm_issued_t *row,
                           bool whole)
{
    char serial[2 * MDM_SERIAL_MAX + 1] = "";
    char fingerprint[2 * MDM_SHA256_LEN + 1];
    json_t *json;

    if (row->serial.n <= MDM_SERIAL_MAX) {
        mdm_hex_encode(row->serial.s, row->serial.n, serial);
    }
    mdm_hex_encode(row->fingerprint, MDM_SHA256_LEN, fingerprint);
    json = json_pack(
        "{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "serial",
        serial, "state", state_of(row), "subject",
        mdm_api_string(row->subject), "sha256", fingerprint, "authority",
        mdm_api_string(row->authority), "issued_for",
        row->device_id.s != NULL ? mdm_api_string(row->device_id)
                                 : mdm_api_string(row->serial_number),
        "enrollment_id", mdm_api_string(row->enrollment_id), "issued_at",
        mdm_api_time(row->issued_at), "not_after",
        mdm_api_time(row->not_after_us), "revoked_at",
        mdm_api_time(row->revoked_at));
    if (whole) {
        (void)json_object_set_new(json, "certificate",
                                  pem(call->arena, row->certificate));
    }
    return json;
}

typedef struct job {
    mdm_arena_t *arena;
    int64_t after;
    size_t limit;
    mdm_issued_t *rows;
    size_t n;
    mdm_str_t serial; /* bytes */
    mdm_issued_t row;
} job_t;

static mdm_rc list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;

    return mdm_store_issued_list(tx, job->after, job->limit, job->arena,
                                 job->rows, &job->n, err);
}

mdm_rc mdm_api_issued_list(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.arena = call->arena};
    json_t *rows;
    json_t *json;
    size_t i;
    mdm_rc rc = mdm_api_page(call, &job.after, &job.limit, err);

    if (rc == MDM_OK) {
        job.rows = mdm_arena_alloc(call->arena,
                                   PAGE_ROWS * sizeof(*job.rows));
        rc = job.rows != NULL && job.limit <= PAGE_ROWS
                 ? mdm_store_read(call->server->store, list, &job, err)
                 : mdm_err_nomem(err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    rows = json_array();
    for (i = 0; i < job.n; i++) {
        (void)json_array_append_new(rows,
                                    issued_json(call, &job.rows[i], false));
    }
    json = json_pack("{s:o}", "certificates", rows);
    if (job.n == job.limit) {
        mdm_api_next(json, job.rows[job.n - 1].number);
    }
    return mdm_api_reply(call, 200, json, err);
}

static mdm_rc get(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = mdm_store_issued_serial(tx, job->serial, job->arena,
                                        &job->row, err);

    return rc == MDM_OK && job->row.number == 0
               ? mdm_err_set(err, MDM_ENOTFOUND, 0, "no such certificate")
               : rc;
}

static mdm_rc revoke(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    job_t *job = arg;
    mdm_rc rc = get(tx, job, err);

    if (rc == MDM_OK) {
        rc = mdm_store_issued_revoke(tx, job->row.number, mdm_wall_us(NULL),
                                     err);
    }
    return rc == MDM_OK ? get(tx, job, err) : rc;
}

/* The serial number in the path, in hex. */
static mdm_rc read_serial(mdm_api_call_t *call, job_t *job, mdm_err_t *err)
{
    unsigned char *bytes = mdm_arena_alloc(call->arena, MDM_SERIAL_MAX);
    mdm_str_t text = MDM_STR_NONE;
    mdm_rc rc = mdm_api_segment(call, 3, &text, err);

    if (rc == MDM_OK && bytes == NULL) {
        return mdm_err_nomem(err);
    }
    job->serial = (mdm_str_t){(const char *)bytes, text.n / 2};
    if (rc == MDM_OK && (text.n > 2 * MDM_SERIAL_MAX || text.n % 2 != 0 ||
                         !mdm_hex_decode(text, bytes, text.n / 2))) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such certificate");
    }
    return rc;
}

mdm_rc mdm_api_issued_get(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.arena = call->arena};
    mdm_rc rc = read_serial(call, &job, err);

    if (rc == MDM_OK) {
        rc = mdm_store_read(call->server->store, get, &job, err);
    }
    return rc == MDM_OK ? mdm_api_reply(call, 200,
                                        issued_json(call, &job.row, true), err)
                        : rc;
}

mdm_rc mdm_api_issued_revoke(mdm_api_call_t *call, mdm_err_t *err)
{
    job_t job = {.arena = call->arena};
    char subject[256];
    mdm_rc rc = read_serial(call, &job, err);

    if (rc == MDM_OK) {
        rc = mdm_store_write(call->server->store, revoke, &job, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_log_msg(call->request->log, MDM_LOG_NOTICE,
                MDM_MSG_CERTIFICATE_REVOKED, "the certificate of %s is revoked",
                mdm_str_printable(job.row.subject, subject, sizeof(subject)));
    mdm_api_note(call, "revoked certificate", call->segments[3]);
    return mdm_api_reply(call, 200, issued_json(call, &job.row, false), err);
}
