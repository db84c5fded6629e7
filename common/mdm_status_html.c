/*
 * mdm_status_html.c - the status page for people: one file without outside
 * resources or scripts, in dark and light, on a desk and on a phone.
 */
#include "mdm_status.h"

#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, "
    "initial-scale=1\">\n"
    "<meta http-equiv=\"refresh\" content=\"60\">\n"
    "<title>MDM server</title>\n<style>\n"
    ":root{color-scheme:light dark}\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
    "margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;"
    "border-bottom:1px solid #8885;overflow-wrap:break-word}\n"
    "td:first-child{overflow-wrap:anywhere}\n"
    "th,time,.number{white-space:nowrap}.number{text-align:right}\n"
    ".good{color:#18794e}.soon{color:#ad5700}\n"
    ".expired,.suspended,.down{color:#cd2b31;font-weight:bold}\n"
    "@media(prefers-color-scheme:dark){.good{color:#4cc38a}"
    ".soon{color:#f1a10d}.expired,.suspended,.down{color:#ff9592}}\n"
    "@media(max-width:40rem){thead{display:none}tr{display:block;"
    "border-bottom:1px solid #8885;padding:.5rem 0}"
    "td,td.number{display:block;border:0;padding:.1rem 0 .1rem 8rem;"
    "text-align:left}"
    "td::before{content:attr(data-name);float:left;width:7rem;"
    "margin-left:-8rem;color:CanvasText;opacity:.7;font-weight:normal}}\n"
    "</style>\n</head>\n<body>\n<h1>MDM server</h1>\n";

static void text(mdm_buf_t *out, mdm_str_t s)
{
    size_t i;

    for (i = 0; i < s.n; i++) {
        switch (s.s[i]) {
        case '&':
            (void)mdm_buf_puts(out, "&amp;");
            break;
        case '<':
            (void)mdm_buf_puts(out, "&lt;");
            break;
        case '>':
            (void)mdm_buf_puts(out, "&gt;");
            break;
        case '"':
            (void)mdm_buf_puts(out, "&quot;");
            break;
        case '\'':
            (void)mdm_buf_puts(out, "&#39;");
            break;
        default:
            (void)mdm_buf_append(out, &s.s[i], 1);
        }
    }
}

static void when(mdm_buf_t *out, int64_t wall_us)
{
    char time[MDM_RFC3339_SIZE];

    mdm_time_format(wall_us, time);
    (void)mdm_buf_printf(out, "<time datetime=\"%s\">%.10s</time>", time,
                         time);
}

/* The two tables; the first column of each is the name. */
static const struct {
    mdm_end_kind_t kind;
    const char *title;
    const char *name;
    const char *none; /* what it means that there is none */
} tables[] = {
    {MDM_END_PUSH, "Push certificates", "Topic",
     "There is none: no device can be woken."},
    {MDM_END_DEVICE_CA, "Device certificate authorities", "Subject",
     "There is none: no device is known by its certificate."},
};

static void row(mdm_buf_t *out, const mdm_status_t *status, size_t i,
                const char *name)
{
    const mdm_end_t *cert = &status->ends.list[i];
    const char *state = mdm_status_cert_state(status, cert);
    char users[32];

    (void)mdm_buf_printf(out, "<tr><td data-name=\"%s\">", name);
    text(out, cert->name);
    (void)mdm_buf_puts(out, "</td><td data-name=\"Ends\">");
    when(out, cert->not_after_us);
    (void)mdm_buf_printf(
        out,
        "</td><td data-name=\"Days left\" class=\"number\">%lld</td>"
        "<td data-name=\"State\" class=\"%s\">%s",
        (long long)mdm_status_days_left(status, cert), state, state);
    if (cert->suspended.s != NULL) {
        (void)mdm_buf_puts(out, " since ");
        when(out, cert->suspended_at);
        (void)mdm_buf_puts(out, ": Apple says ");
        text(out, cert->suspended);
    }
    (void)mdm_buf_printf(out, "</td><td data-name=\"From\">%s</td>",
                         cert->from_file ? "file" : "store");
    if (cert->kind == MDM_END_PUSH) {
        (void)mdm_buf_printf(out,
                             "<td data-name=\"Enrolments\" "
                             "class=\"number\">%s</td>",
                             mdm_status_users(status, i, users,
                                              sizeof(users)));
    }
    (void)mdm_buf_puts(out, "</tr>\n");
}

static void table(mdm_buf_t *out, const mdm_status_t *status, size_t t)
{
    bool push = tables[t].kind == MDM_END_PUSH;
    size_t n = 0;
    size_t i;

    (void)mdm_buf_printf(
        out,
        "<h2>%s</h2>\n<table>\n<thead><tr><th>%s</th><th>Ends</th>"
        "<th class=\"number\">Days left</th><th>State</th><th>From</th>%s"
        "</tr></thead>\n<tbody>\n",
        tables[t].title, tables[t].name,
        push ? "<th class=\"number\">Enrolments</th>" : "");
    for (i = 0; i < status->ends.n; i++) {
        if (status->ends.list[i].kind == tables[t].kind) {
            row(out, status, i, tables[t].name);
            n++;
        }
    }
    (void)mdm_buf_puts(out, "</tbody>\n</table>\n");
    if (n == 0) {
        (void)mdm_buf_printf(out, "<p class=\"soon\">%s</p>\n",
                             tables[t].none);
    }
}

static void secret_key(mdm_buf_t *out, const mdm_store_status_t *store)
{
    (void)mdm_buf_printf(out, "<h2>Secret key</h2>\n<p>%s", store->key);
    if (store->former_key[0] != '\0') {
        (void)mdm_buf_printf(out,
                             ", replaces %s: %lld values sealed anew, at "
                             "most %lld left. Keep the old key.",
                             store->former_key, (long long)store->resealed,
                             (long long)store->left);
    }
    (void)mdm_buf_puts(out, "</p>\n");
}

void mdm_status_html(const mdm_status_t *status, mdm_buf_t *out)
{
    size_t i;

    (void)mdm_buf_puts(out, head);
    if (!status->store_up) {
        (void)mdm_buf_puts(out,
                           "<p class=\"down\">The store does not answer. "
                           "Devices get 503 and come back; the error log "
                           "says why (MDM0101).</p>\n");
    }
    for (i = 0; i < MDM_ARRAY_LEN(tables); i++) {
        table(out, status, i);
    }
    if (status->store_up) {
        (void)mdm_buf_printf(out,
                             "<h2>Pushes</h2>\n<p>Given up: %lld "
                             "enrolments.</p>\n",
                             (long long)status->given_up);
        secret_key(out, &status->store);
    }
    (void)mdm_buf_printf(out, "<p><small>Version %s, ", mdm_version());
    when(out, status->now_us);
    (void)mdm_buf_puts(out, "</small></p>\n</body>\n</html>\n");
}
