/*
 * ctl.h - mdmctl: the administration API from a shell.
 *
 * One thread, short-lived.  A subcommand gets its own words, calls the API
 * and prints; it returns a code, or sets what the exit status is to be.
 * main() alone prints errors.  Results go to standard output, remarks,
 * progress and errors to standard error.
 */
#ifndef CTL_H
#define CTL_H

#include <jansson.h>
#include <stdio.h>

#include "mdm_base.h"
#include "mdm_buf.h"
#include "mdm_err.h"
#include "mdm_str.h"

/* Exit statuses. */
#define CTL_DONE 0
#define CTL_FAILED 1 /* the call failed, or did for some of the targets */
#define CTL_USAGE 2

/* Longest answer that is read: a report of 32 MB, as JSON. */
#define CTL_ANSWER_MAX ((size_t)64 * 1024 * 1024)
/* Largest file that is sent: what the server takes. */
#define CTL_FILE_MAX ((size_t)32 * 1024 * 1024)

/* What the command line, the environment and the settings file say. */
typedef struct ctl_settings {
    char *url; /* of the API's location, without a slash at its end */
    char *token;
    char *ca; /* NULL: whom the system trusts */
    bool json;
} ctl_settings_t;

typedef struct ctl_client ctl_client_t;

/* Options of subcommands; which of them one takes is in its row.  */
typedef enum ctl_option {
    CTL_SERIAL,
    CTL_ENABLED,
    CTL_TYPE,
    CTL_QUERY,
    CTL_PUSH,
    CTL_STATE,
    CTL_LIMIT,
    CTL_NO_PUSH,
    CTL_WAIT,
    CTL_PRIORITY,
    CTL_NOT_BEFORE,
    CTL_EXPIRES,
    CTL_FORCE,
    CTL_PASSPHRASE_FILE,
    CTL_XML,
    CTL_NOPTIONS
} ctl_option_t;
#define CTL_TAKES(option) (UINT32_C(1) << (option))

/* One run of a subcommand. */
typedef struct ctl_call {
    ctl_client_t *client; /* NULL for those that make no call */
    const ctl_settings_t *settings;
    int argc; /* its own words, without its name and options */
    char **argv;
    const char *options[CTL_NOPTIONS]; /* NULL: not given */
    int status;                        /* exit status where all went well */
} ctl_call_t;

typedef mdm_rc ctl_fn(ctl_call_t *call, mdm_err_t *err);

typedef struct ctl_command {
    const char *name;
    const char *words; /* usage, behind the name */
    const char *help;
    uint32_t takes; /* of CTL_TAKES */
    int least;      /* words */
    int most;       /* -1: any number */
    bool offline;   /* calls no server */
    ctl_fn *run;
} ctl_command_t;

/* The table of subcommands; ends with a row without a name.  ctl_commands.c. */
extern const ctl_command_t ctl_commands[];
/* "serial" and so on; ctl_main.c. */
const char *ctl_option_name(ctl_option_t option);

ctl_fn ctl_version;
ctl_fn ctl_status;
ctl_fn ctl_raw;
ctl_fn ctl_enrollments;
ctl_fn ctl_block;
ctl_fn ctl_unblock;
ctl_fn ctl_secret;
ctl_fn ctl_pushcert;
ctl_fn ctl_enqueue;
ctl_fn ctl_push;
ctl_fn ctl_queue;
ctl_fn ctl_results;
ctl_fn ctl_token;
ctl_fn ctl_completion;

/* ---- settings: ctl_settings.c ------------------------------------------- */

/* Fills what is missing from the environment, then from the settings file.
 * MDM_EINVAL: a wrong line; a URL or a token is missing. */
mdm_rc ctl_settings_load(ctl_settings_t *settings, mdm_err_t *err)
    MDM_USE_RESULT;
/* Reads a file of one secret: its first line. */
mdm_rc ctl_settings_token_file(ctl_settings_t *settings, const char *path,
                               mdm_err_t *err) MDM_USE_RESULT;
void ctl_settings_clear(ctl_settings_t *settings);
/* All of a file, or of standard input for "-".  MDM_EINVAL, MDM_ETOOBIG. */
mdm_rc ctl_read_file(const char *path, size_t max, mdm_buf_t *data,
                     mdm_err_t *err) MDM_USE_RESULT;

/* ---- calls: ctl_client.c ------------------------------------------------ */

typedef struct ctl_request {
    const char *method;
    const char *path; /* below the API's location, encoded; with its query */
    mdm_str_t body;   /* absent: none */
    const char *type; /* of the body; NULL: none is named */
    const char *accept;
    const char *passphrase; /* X-Key-Passphrase, NULL: none */
} ctl_request_t;

typedef struct ctl_reply {
    long status;
    mdm_buf_t body;
    json_t *json; /* NULL: the body is not JSON */
} ctl_reply_t;

mdm_rc ctl_client_new(const ctl_settings_t *settings, ctl_client_t **client_r,
                      mdm_err_t *err) MDM_USE_RESULT;
void ctl_client_free(ctl_client_t **client);
/* One call.  Any status is an answer; the reply has to be cleared in every
 * case.  MDM_EUNAVAIL: no answer, the text says why. */
mdm_rc ctl_send(ctl_client_t *client, const ctl_request_t *request,
                ctl_reply_t *reply_r, mdm_err_t *err) MDM_USE_RESULT;
/* The same, and a status of 400 or above is an error in the server's words,
 * but for the two that tell of several targets, one by one. */
mdm_rc ctl_ask(ctl_client_t *client, const ctl_request_t *request,
               ctl_reply_t *reply_r, mdm_err_t *err) MDM_USE_RESULT;
void ctl_reply_clear(ctl_reply_t *reply);

/* A path: text as it is, and parts that are percent-encoded. */
mdm_rc ctl_path_add(mdm_buf_t *path, const char *part);
/* "?name=value" or "&name=value"; nothing where the value is NULL. */
mdm_rc ctl_path_query(mdm_buf_t *path, const char *name, const char *value);

/* ---- output: ctl_print.c ------------------------------------------------ */

#define CTL_COLUMNS_MAX 8
#define CTL_CELL_MAX 256

typedef struct ctl_table ctl_table_t;

/* A table that fits the terminal; a NULL ends the headings. */
ctl_table_t *ctl_table_new(const char *const *headings);
/* Takes as many cells as there are headings; each may be NULL.  What devices
 * sent cannot steer the terminal: it is made printable. */
bool ctl_table_row(ctl_table_t *table, const char *const *cells);
/* Prints and frees. */
void ctl_table_end(ctl_table_t **table);
/* Frees without printing. */
void ctl_table_free(ctl_table_t **table);
/* Prints text in which nothing can steer the terminal. */
void ctl_print_text(FILE *to, const char *text);
void ctl_print_json(const json_t *json);
/* "name  value" for every member of an object, members of members too. */
void ctl_print_object(const json_t *object);
/* Text of a member: a string as it is, a number, "yes" or "no"; "-" for
 * null.  In dst. */
const char *ctl_text_of(const json_t *object, const char *name, char *dst,
                        size_t cap);
/* How far a call on many targets is; on a terminal only. */
void ctl_progress(size_t done, size_t of);
void ctl_progress_end(void);

/* ---- targets: ctl_targets.c --------------------------------------------- */

typedef struct ctl_targets {
    char **ids; /* point to words, or into `own` */
    size_t n;
    mdm_buf_t own; /* what was read from standard input */
    bool listed;   /* the array is our own */
} ctl_targets_t;

/* Ids from words; "-" reads them from standard input, one a line. */
mdm_rc ctl_targets_read(char **words, size_t n, ctl_targets_t *targets_r,
                        mdm_err_t *err) MDM_USE_RESULT;
void ctl_targets_clear(ctl_targets_t *targets);

/* Calls that name all targets in the path, as many calls as that takes. */
typedef struct ctl_many {
    const char *method;
    const char *path;  /* ends in "/" */
    const char *query; /* begins with "?", or "" */
    mdm_str_t body;    /* absent: none */
    const char *type;
    bool once; /* the server takes it once only: one call, or none */
} ctl_many_t;

/* Sends them and adds each answer to *all_r (made where it is NULL; the
 * caller's), an object whose "status" has a member for each target. */
mdm_rc ctl_many_send(ctl_call_t *call, const ctl_many_t *many,
                     const ctl_targets_t *targets, json_t **all_r,
                     mdm_err_t *err) MDM_USE_RESULT;
/* Prints what became of each target and sets the exit status. */
void ctl_many_print(ctl_call_t *call, const json_t *all);

#endif
