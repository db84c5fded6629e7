/*
 * ctl_commands.c - mdmctl: the table of subcommands.
 */
#include "ctl.h"

#define QUEUES \
    (CTL_TAKES(CTL_NO_PUSH) | CTL_TAKES(CTL_WAIT) | \
     CTL_TAKES(CTL_PRIORITY) | CTL_TAKES(CTL_NOT_BEFORE) | \
     CTL_TAKES(CTL_EXPIRES))
#define FILTERS \
    (CTL_TAKES(CTL_SERIAL) | CTL_TAKES(CTL_ENABLED) | CTL_TAKES(CTL_TYPE) | \
     CTL_TAKES(CTL_QUERY) | CTL_TAKES(CTL_PUSH) | CTL_TAKES(CTL_LIMIT))

const ctl_command_t ctl_commands[] = {
    {"enrollments", "[ID]", "lists enrolments, or shows one", FILTERS, 0, 1,
     false, ctl_enrollments},
    {"enqueue", "ID... FILE",
     "queues a command that is a property list (an ID of - reads ids from "
     "standard input)",
     QUEUES, 2, -1, false, ctl_enqueue},
    {"push", "ID...", "wakes devices", CTL_TAKES(CTL_WAIT), 1, -1, false,
     ctl_push},
    {"queue", "ID [clear | cancel UUID]",
     "shows the commands of an enrolment, or cancels them",
     CTL_TAKES(CTL_STATE) | CTL_TAKES(CTL_LIMIT), 1, 3, false, ctl_queue},
    {"results", "UUID [ID]",
     "shows what became of a command, or what one enrolment reported",
     CTL_TAKES(CTL_XML) | CTL_TAKES(CTL_LIMIT), 1, 2, false, ctl_results},
    {"block", "ID...", "shuts devices out: they drop their management", 0, 1,
     -1, false, ctl_block},
    {"unblock", "ID...", "lets devices in again", 0, 1, -1, false,
     ctl_unblock},
    {"secret", "ID unlock-token|bootstrap-token",
     "shows what a device escrowed, base64", 0, 2, 2, false, ctl_secret},
    {"pushcert", "show TOPIC | import FILE... | resume TOPIC",
     "shows or stores a push certificate, or lets its pushes go on",
     CTL_TAKES(CTL_FORCE) | CTL_TAKES(CTL_PASSPHRASE_FILE), 2, -1, false,
     ctl_pushcert},
    {"status", "", "shows how the server is", 0, 0, 0, false, ctl_status},
    {"version", "", "shows the version of the server", 0, 0, 0, false,
     ctl_version},
    {"call", "METHOD PATH [FILE]",
     "makes any call of the API; FILE (or -) is its body", 0, 2, 3, false,
     ctl_raw},
    {"token", "new NAME [SCOPE,SCOPE...]",
     "makes a token and its line for the token file", 0, 1, 3, true,
     ctl_token},
    {"completion", "bash|zsh", "prints what a shell needs to complete words",
     0, 1, 1, true, ctl_completion},
    {NULL, NULL, NULL, 0, 0, 0, false, NULL}};
