/*
 * mdm_status_text.c - the status for programs: JSON, and Prometheus' text
 * format (version 0.0.4: https://prometheus.io/docs/instrumenting/).
 */
#include "mdm_status.h"

#include <stdlib.h>
#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

/* ---- JSON ---------------------------------------------------------------- */

static json_t *time_json(int64_t wall_us)
{
    char text[MDM_RFC3339_SIZE];

    if (wall_us == 0) {
        return json_null();
    }
    mdm_time_format(wall_us, text);
    return json_string(text);
}

static json_t *text_json(mdm_str_t text)
{
    json_t *json = text.s != NULL ? json_stringn(text.s, text.n) : NULL;

    return json != NULL ? json : json_null();
}

static json_t *cert_json(const mdm_status_t *status,
                         const mdm_end_t *cert, const char *name)
{
    return json_pack("{s:o, s:o, s:o, s:I, s:s, s:s}", name,
                     text_json(cert->name), "sha256",
                     text_json(cert->fingerprint), "not_after",
                     time_json(cert->not_after_us), "days_left",
                     (json_int_t)mdm_status_days_left(status, cert), "state",
                     mdm_status_cert_state(status, cert), "source",
                     cert->from_file ? "file" : "store");
}

static json_t *push_json(const mdm_status_t *status, size_t i)
{
    const mdm_end_t *cert = &status->ends.list[i];
    json_t *json = cert_json(status, cert, "topic");

    (void)json_object_set_new(json, "accepted_at",
                              time_json(cert->accepted_at));
    (void)json_object_set_new(json, "suspended", text_json(cert->suspended));
    (void)json_object_set_new(json, "suspended_at",
                              time_json(cert->suspended_at));
    if (status->store_up) {
        (void)json_object_set_new(json, "enrollments",
                                  json_integer(status->users[i]));
    }
    return json;
}

static json_t *certs_json(const mdm_status_t *status, mdm_end_kind_t kind)
{
    const mdm_ends_t *ends = &status->ends;
    json_t *list = json_array();
    size_t i;

    for (i = 0; i < ends->n; i++) {
        if (ends->list[i].kind == kind) {
            (void)json_array_append_new(
                list, kind == MDM_END_PUSH
                          ? push_json(status, i)
                          : cert_json(status, &ends->list[i], "subject"));
        }
    }
    return list;
}

static json_t *key_json(const mdm_store_status_t *s)
{
    bool rotating = s->former_key[0] != '\0';
    json_t *rotation = json_null();

    if (rotating) {
        rotation = json_pack("{s:s, s:I, s:I, s:s}", "from", s->former_key,
                             "done", (json_int_t)s->resealed, "left",
                             (json_int_t)s->left, "table", s->table);
    }
    return json_pack("{s:s, s:o, s:b}", "id", s->key, "rotation", rotation,
                     "old_key_needed", rotating ? 1 : 0);
}

json_t *mdm_status_to_json(const mdm_status_t *status)
{
    json_t *json = json_pack(
        "{s:s, s:o, s:b, s:o, s:o}", "version", mdm_version(), "time",
        time_json(status->now_us), "store_up", status->store_up ? 1 : 0,
        "push_certificates", certs_json(status, MDM_END_PUSH), "device_cas",
        certs_json(status, MDM_END_DEVICE_CA));

    if (json != NULL && status->store_up) {
        (void)json_object_set_new(json, "schema",
                                  json_integer(status->store.schema));
        (void)json_object_set_new(json, "secret_key",
                                  key_json(&status->store));
        (void)json_object_set_new(
            json, "pushes",
            json_pack("{s:I}", "given_up", (json_int_t)status->given_up));
    }
    return json;
}

void mdm_status_json(const mdm_status_t *status, mdm_buf_t *out)
{
    json_t *json = mdm_status_to_json(status);
    char *text;

    text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (text == NULL) {
        out->rc = MDM_ENOMEM;
        return;
    }
    (void)mdm_buf_puts(out, text);
    (void)mdm_buf_puts(out, "\n");
    free(text);
}

/* ---- Prometheus ---------------------------------------------------------- */

static void head(mdm_buf_t *out, const char *name, const char *help)
{
    (void)mdm_buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", name, help,
                         name);
}

/* A label's value: backslash, quote and newline are escaped. */
static void label(mdm_buf_t *out, const char *name, mdm_str_t value)
{
    size_t i;

    (void)mdm_buf_printf(out, "%s=\"", name);
    for (i = 0; i < value.n; i++) {
        if (value.s[i] == '\n') {
            (void)mdm_buf_puts(out, "\\n");
            continue;
        }
        if (value.s[i] == '"' || value.s[i] == '\\') {
            (void)mdm_buf_puts(out, "\\");
        }
        (void)mdm_buf_append(out, &value.s[i], 1);
    }
    (void)mdm_buf_puts(out, "\"");
}

static void seconds_left(const mdm_status_t *status, mdm_buf_t *out,
                         mdm_end_kind_t kind, const char *metric,
                         const char *name)
{
    const mdm_end_t *end;
    size_t i;

    for (i = 0; i < status->ends.n; i++) {
        end = &status->ends.list[i];
        if (end->kind == kind) {
            (void)mdm_buf_printf(out, "%s{", metric);
            label(out, name, end->name);
            (void)mdm_buf_puts(out, ",");
            label(out, "sha256", end->fingerprint);
            (void)mdm_buf_printf(
                out, "} %lld\n",
                (long long)((end->not_after_us - status->now_us) / MDM_SEC));
        }
    }
}

static void suspended(const mdm_status_t *status, mdm_buf_t *out)
{
    static const char metric[] = "mdm_push_certificate_suspended";
    const mdm_end_t *end;
    size_t i;

    head(out, metric, "Whether Apple refuses the pushes of a topic.");
    for (i = 0; i < status->ends.n; i++) {
        end = &status->ends.list[i];
        if (end->kind == MDM_END_PUSH) {
            (void)mdm_buf_printf(out, "%s{", metric);
            label(out, "topic", end->name);
            (void)mdm_buf_printf(out, "} %d\n",
                                 end->suspended.s != NULL ? 1 : 0);
        }
    }
}

void mdm_status_prometheus(const mdm_status_t *status, mdm_buf_t *out)
{
    static const char push[] = "mdm_push_certificate_expiry_seconds";
    static const char ca[] = "mdm_device_ca_expiry_seconds";

    head(out, "mdm_build_info", "Version of the module.");
    (void)mdm_buf_printf(out, "mdm_build_info{version=\"%s\"} 1\n",
                         mdm_version());
    head(out, "mdm_store_up", "Whether the store answers.");
    (void)mdm_buf_printf(out, "mdm_store_up %d\n", status->store_up ? 1 : 0);
    head(out, push, "Seconds until a push certificate ends.");
    seconds_left(status, out, MDM_END_PUSH, push, "topic");
    head(out, ca, "Seconds until a device certificate authority ends.");
    seconds_left(status, out, MDM_END_DEVICE_CA, ca, "subject");
    if (!status->store_up) {
        return;
    }
    suspended(status, out);
    head(out, "mdm_pushes_given_up",
         "Enrolments whose last push was given up.");
    (void)mdm_buf_printf(out, "mdm_pushes_given_up %lld\n",
                         (long long)status->given_up);
}
