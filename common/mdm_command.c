/*
 * mdm_command.c - the envelope of operator commands and of device reports.
 *
 * A command is checked strictly: it will be relayed byte for byte.  A report
 * is read leniently: an app name with a stray byte must not keep a command
 * at the head of the queue for ever.  Strings are borrowed from the message
 * or made in the caller's arena.  Any thread; no state.
 */
#include "mdm_command.h"

#include <string.h>

#include "mdm_str.h"

/* Statuses are words; a longer text is none. */
#define STATUS_MAX 64

/* A string of 1 to max bytes. */
static mdm_rc need(const mdm_plist_want_t *want, size_t max,
                   mdm_str_t *value_r, mdm_err_t *err)
{
    if (want->type == MDM_PLIST_ABSENT) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is missing", want->path);
    }
    if (want->type != MDM_PLIST_STRING) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is not a string",
                           want->path);
    }
    if (want->value.n == 0 || want->value.n > max) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s has %zu bytes, allowed are 1 to %zu",
                           want->path, want->value.n, max);
    }
    *value_r = want->value;
    return MDM_OK;
}

/* ---- commands ---------------------------------------------------------- */

/* Names that operators give appear in URLs, tables and logs. */
static mdm_rc need_name(const mdm_plist_want_t *want, size_t max,
                        mdm_str_t *value_r, mdm_err_t *err)
{
    mdm_rc rc = need(want, max, value_r, err);
    size_t i;

    for (i = 0; rc == MDM_OK && i < value_r->n; i++) {
        if ((unsigned char)value_r->s[i] < 0x20 || value_r->s[i] == 0x7f) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "%s has a control character", want->path);
        }
    }
    return rc;
}

mdm_rc mdm_command_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                         mdm_arena_t *arena, mdm_command_t *command_r,
                         mdm_err_t *err)
{
    mdm_plist_want_t want[] = {{.path = "CommandUUID"},
                               {.path = "Command"},
                               {.path = "Command.RequestType"}};
    mdm_plist_scan_t scan;
    mdm_rc rc;

    memset(command_r, 0, sizeof(*command_r));
    rc = mdm_plist_scan(raw, limits, MDM_PLIST_STRICT, arena, want,
                        MDM_ARRAY_LEN(want), &scan, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (scan.root != MDM_PLIST_DICT) {
        return mdm_err_set(err, MDM_EINVAL, 0, "not a dictionary");
    }
    rc = need_name(&want[0], MDM_COMMAND_UUID_MAX, &command_r->uuid, err);
    if (rc == MDM_OK && want[1].type != MDM_PLIST_DICT) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "Command is %s",
                         want[1].type == MDM_PLIST_ABSENT
                             ? "missing"
                             : "not a dictionary");
    }
    if (rc == MDM_OK) {
        rc = need_name(&want[2], MDM_REQUEST_TYPE_MAX,
                       &command_r->request_type, err);
    }
    return rc;
}

/* ---- reports ----------------------------------------------------------- */

static mdm_report_status_t status_of(mdm_str_t text)
{
    static const struct {
        const char *name;
        mdm_report_status_t status;
    } words[] = {
        {"Idle", MDM_REPORT_IDLE},
        {"Acknowledged", MDM_REPORT_ACKNOWLEDGED},
        {"Error", MDM_REPORT_ERROR},
        {"CommandFormatError", MDM_REPORT_COMMAND_FORMAT_ERROR},
        {"NotNow", MDM_REPORT_NOT_NOW},
    };
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(words); i++) {
        if (mdm_str_is(text, words[i].name)) {
            return words[i].status;
        }
    }
    return MDM_REPORT_UNKNOWN;
}

/* The report behind the wanted values. */
static mdm_rc read_report(const mdm_plist_want_t *want, mdm_arena_t *arena,
                          mdm_report_t *report, mdm_err_t *err)
{
    const mdm_plist_want_t *own = want + MDM_CHANNEL_WANTS;
    mdm_rc rc;

    rc = need(&own[0], STATUS_MAX, &report->status_text, err);
    if (rc != MDM_OK) {
        return rc;
    }
    report->status = status_of(report->status_text);
    rc = mdm_channel_from_wanted(want, arena, &report->channel, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (report->status != MDM_REPORT_IDLE) {
        return need(&own[1], MDM_COMMAND_UUID_MAX, &report->command_uuid,
                    err);
    }
    /* An Idle carries nothing that would be lost with it. */
    if (report->damaged > 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "line %u: %s",
                           report->damaged_line, report->damaged_fault);
    }
    return MDM_OK;
}

mdm_rc mdm_report_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                        mdm_arena_t *arena, mdm_report_t *report_r,
                        mdm_err_t *err)
{
    mdm_plist_want_t want[MDM_CHANNEL_WANTS + 2];
    mdm_plist_scan_t scan;
    mdm_rc rc;

    memset(report_r, 0, sizeof(*report_r));
    mdm_channel_want(want);
    want[MDM_CHANNEL_WANTS].path = "Status";
    want[MDM_CHANNEL_WANTS + 1].path = "CommandUUID";
    rc = mdm_plist_scan(raw, limits, MDM_PLIST_LENIENT, arena, want,
                        MDM_ARRAY_LEN(want), &scan, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (scan.root != MDM_PLIST_DICT) {
        return mdm_err_set(err, MDM_EINVAL, 0, "not a dictionary");
    }
    report_r->damaged = scan.damaged;
    report_r->damaged_line = scan.first_line;
    memcpy(report_r->damaged_fault, scan.first_fault,
           sizeof(report_r->damaged_fault));
    return read_report(want, arena, report_r, err);
}
