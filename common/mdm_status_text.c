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
                         const mdm_status_cert_t *cert, const char *name)
{
    return json_pack("{s:o, s:o, s:o, s:I, s:s, s:s}", name,
                     text_json(cert->name), "sha256",
                     text_json(cert->fingerprint), "not_after",
                     time_json(cert->not_after_us), "days_left",
                     (json_int_t)mdm_status_days_left(status, cert), "state",
                     mdm_status_cert_state(status, cert), "source",
                     cert->from_file ? "file" : "store");
}

static json_t *certs_json(const mdm_status_t *status)
{
    json_t *list = json_array();
    json_t *json;
    size_t i;

    for (i = 0; i < status->npush; i++) {
        json = cert_json(status, &status->push[i], "topic");
        (void)json_object_set_new(json, "accepted_at",
                                  time_json(status->push[i].accepted_at));
        (void)json_object_set_new(json, "suspended",
                                  text_json(status->push[i].suspended));
        (void)json_object_set_new(json, "suspended_at",
                                  time_json(status->push[i].suspended_at));
        (void)json_array_append_new(list, json);
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
    json_t *cas = json_array();
    json_t *json;
    size_t i;

    for (i = 0; i < status->nca; i++) {
        (void)json_array_append_new(cas, cert_json(status, &status->ca[i],
                                                   "subject"));
    }
    json = json_pack("{s:s, s:o, s:b, s:o, s:o}", "version", mdm_version(),
                     "time", time_json(status->now_us), "store_up",
                     status->store_up ? 1 : 0, "push_certificates",
                     certs_json(status), "device_cas", cas);
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
                         const char *metric, const char *name,
                         const mdm_status_cert_t *cert)
{
    (void)mdm_buf_printf(out, "%s{", metric);
    label(out, name, cert->name);
    (void)mdm_buf_puts(out, ",");
    label(out, "sha256", cert->fingerprint);
    (void)mdm_buf_printf(
        out, "} %lld\n",
        (long long)((cert->not_after_us - status->now_us) / MDM_SEC));
}

void mdm_status_prometheus(const mdm_status_t *status, mdm_buf_t *out)
{
    static const char push[] = "mdm_push_certificate_expiry_seconds";
    static const char stopped[] = "mdm_push_certificate_suspended";
    static const char ca[] = "mdm_device_ca_expiry_seconds";
    size_t i;

    head(out, "mdm_build_info", "Version of the module.");
    (void)mdm_buf_printf(out, "mdm_build_info{version=\"%s\"} 1\n",
                         mdm_version());
    head(out, "mdm_store_up", "Whether the store answers.");
    (void)mdm_buf_printf(out, "mdm_store_up %d\n", status->store_up ? 1 : 0);
    head(out, push, "Seconds until a push certificate ends.");
    for (i = 0; i < status->npush; i++) {
        seconds_left(status, out, push, "topic", &status->push[i]);
    }
    head(out, ca, "Seconds until a device certificate authority ends.");
    for (i = 0; i < status->nca; i++) {
        seconds_left(status, out, ca, "subject", &status->ca[i]);
    }
    if (!status->store_up) {
        return;
    }
    head(out, stopped, "Whether Apple refuses the pushes of a topic.");
    for (i = 0; i < status->npush; i++) {
        (void)mdm_buf_printf(out, "%s{", stopped);
        label(out, "topic", status->push[i].name);
        (void)mdm_buf_printf(out, "} %d\n",
                             status->push[i].suspended.s != NULL ? 1 : 0);
    }
    head(out, "mdm_pushes_given_up",
         "Enrolments whose last push was given up.");
    (void)mdm_buf_printf(out, "mdm_pushes_given_up %lld\n",
                         (long long)status->given_up);
}
