/*
 * mdm_command.h - the command half of the protocol: operator commands and
 * device reports, bytes to struct.  Bytes are kept as they came; only the
 * envelope is read.  Any thread; no state.
 */
#ifndef MDM_COMMAND_H
#define MDM_COMMAND_H

#include "mdm_checkin.h"
#include "mdm_plist.h"

typedef struct mdm_command {
    mdm_str_t uuid;         /* 1 to MDM_COMMAND_UUID_MAX bytes, opaque */
    mdm_str_t request_type; /* 1 to MDM_REQUEST_TYPE_MAX bytes */
} mdm_command_t;

/* Envelope of a command plist that an operator hands in.
 * MDM_EINVAL (text says which key), MDM_ETOOBIG, MDM_ENOMEM. */
mdm_rc mdm_command_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                         mdm_arena_t *arena, mdm_command_t *command_r,
                         mdm_err_t *err) MDM_USE_RESULT;

typedef enum mdm_report_status {
    MDM_REPORT_IDLE = 1,
    MDM_REPORT_ACKNOWLEDGED,
    MDM_REPORT_ERROR,
    MDM_REPORT_COMMAND_FORMAT_ERROR,
    MDM_REPORT_NOT_NOW,
    MDM_REPORT_UNKNOWN /* a word we do not know: command stays, answer 200 */
} mdm_report_status_t;

typedef struct mdm_report {
    mdm_channel_t channel;
    mdm_report_status_t status;
    mdm_str_t status_text;
    mdm_str_t command_uuid; /* absent with Idle */
    size_t damaged;         /* faults outside the envelope, see mdm_plist.h */
    unsigned damaged_line;
    char damaged_fault[96];
} mdm_report_t;

/* Envelope of a device's report.  Idle is read strictly, every other status
 * leniently: a report whose envelope can be read is never refused for its
 * details.
 * MDM_EINVAL: unreadable, no identifier, Status absent or not a string, no
 * CommandUUID with a status other than Idle.  MDM_ETOOBIG, MDM_ENOMEM. */
mdm_rc mdm_report_parse(mdm_str_t raw, const mdm_plist_limits_t *limits,
                        mdm_arena_t *arena, mdm_report_t *report_r,
                        mdm_err_t *err) MDM_USE_RESULT;

#endif
