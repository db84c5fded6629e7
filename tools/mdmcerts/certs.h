/*
 * certs.h - mdmcerts: what was asked for on the command line, and the
 * subcommands that do it.
 *
 * The program is short-lived and has one thread.  A subcommand fills the
 * error object and returns a code, as functions of the core do; main() alone
 * prints the error and turns the code into an exit status.  Results go to
 * standard output, remarks and warnings to standard error.
 */
#ifndef CERTS_H
#define CERTS_H

#include "mdm_base.h"
#include "mdm_err.h"

/* Exit statuses; CERTS_EXPIRES is that of `check` alone. */
#define CERTS_DONE 0
#define CERTS_FAILED 1
#define CERTS_USAGE 2
#define CERTS_EXPIRES 3

#define CERTS_WARN_DAYS 30

typedef struct certs_args {
    const char *dir;    /* -d, or "."; NULL (check): not given */
    const char *prefix; /* -p; "" */
    const char *vendor_password; /* "file:F", "env:V"; NULL: the terminal */
    const char *push_password;
    const char *root;       /* --root; NULL: Apple's, by its fingerprint */
    const char *fetch_from; /* where Apple's certificates are loaded from */
    const char *ca;         /* whom HTTPS trusts; NULL: as the system does */
    const char *store;
    const char *state_dir;
    const char *cert;
    const char *key;
    const char *secret_key_file;
    const char *email;
    const char *api_key; /* "file:F", "env:V" */
    const char *url;
    const char *decrypt;
    bool renew;
    bool new_key;
    bool fetch;
    bool force;
    bool json;
    int warn_days;
    const char *operands[2];
    int noperands;
} certs_args_t;

/* One subcommand.  *status_r is CERTS_DONE beforehand and counts where MDM_OK
 * is returned. */
typedef mdm_rc certs_command_fn(const certs_args_t *args, int *status_r,
                                mdm_err_t *err);

certs_command_fn certs_init;     /* certs_request.c */
certs_command_fn certs_req;
certs_command_fn certs_sign_req;
certs_command_fn certs_check;    /* certs_check.c */
certs_command_fn certs_import;   /* certs_import.c */
certs_command_fn certs_fetch;    /* certs_mdmcert.c */

/* A remark for people, on standard error. */
void certs_say(const char *fmt, ...) MDM_PRINTF(1, 2);

#endif
