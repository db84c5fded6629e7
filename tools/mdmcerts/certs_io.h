/*
 * certs_io.h - mdmcerts: files that are there as a whole or not at all,
 * passwords, and HTTPS.  One thread; the state is that of certs_guard.c.
 */
#ifndef CERTS_IO_H
#define CERTS_IO_H

#include <limits.h>

#include "certs.h"
#include "mdm_buf.h"
#include "mdm_x509.h"

/* ---- what a signal must not leave behind: certs_guard.c ----------------- */

/* From here on INT, TERM, HUP, QUIT and PIPE end the program only after the
 * terminal shows again what is typed and unfinished files are gone; TSTP
 * stops it with the terminal in order. */
void certs_guard_start(void);
/* Remembers a file to be removed; false: no room. */
bool certs_guard_add(const char *path);
void certs_guard_remove(const char *path);
/* While held, signals wait. */
void certs_guard_hold(void);
void certs_guard_let_go(void);
/* Stops showing what is typed and prints the prompt, and undoes it.  False:
 * `fd` is no terminal. */
bool certs_guard_hide(int fd, const char *prompt);
void certs_guard_show(void);

/* ---- secrets: certs_secret.c -------------------------------------------- */

typedef struct certs_secret {
    char text[MDM_PASSPHRASE_MAX + 1];
    size_t n;
} certs_secret_t;

typedef struct certs_question {
    const char *source; /* "file:F", "env:V", or NULL: the terminal */
    const char *option; /* by which it could have been given */
    const char *what;   /* "Vendor private key password" */
    bool is_new;        /* it will protect a new key: asked twice */
} certs_question_t;

/* Wipe it after use.  MDM_EINVAL: none, wrong source, too short (new), too
 * long, the two differ. */
mdm_rc certs_secret_get(const certs_question_t *question,
                        certs_secret_t *secret_r, mdm_err_t *err)
    MDM_USE_RESULT;
void certs_secret_wipe(certs_secret_t *secret);
mdm_str_t certs_secret_str(const certs_secret_t *secret);
/* Overwrites the value of the variable that "env:V" names. */
void certs_secret_forget(const char *source);

/* ---- files: certs_files.c ----------------------------------------------- */

/* No certificate, key or request is longer. */
#define CERTS_FILE_MAX (256 * 1024)

/* DIR/PREFIX NAME into dst of PATH_MAX bytes; MDM_EINVAL: too long. */
mdm_rc certs_path(char *dst, const char *dir, const char *prefix,
                  const char *name, mdm_err_t *err) MDM_USE_RESULT;
/* Is there anything of this name? */
bool certs_exists(const char *path);
/* All of a file.  MDM_ENOTFOUND: there is none; MDM_EINVAL. */
mdm_rc certs_read_file(const char *path, size_t max, mdm_buf_t *data,
                       mdm_err_t *err) MDM_USE_RESULT;
/* Makes a directory of mode 0700 if there is none. */
mdm_rc certs_make_dir(const char *dir, mdm_err_t *err) MDM_USE_RESULT;

typedef enum certs_where {
    CERTS_NEW,     /* must not exist */
    CERTS_REPLACE, /* takes the place of what is there */
    CERTS_ASIDE    /* the same, and what is there gets another name */
} certs_where_t;

/* One file to be written, of mode 0600. */
typedef struct certs_file {
    char path[PATH_MAX];
    mdm_str_t data; /* borrowed until it is staged */
    certs_where_t where;
    char temporary[PATH_MAX]; /* "": not staged */
    char aside[PATH_MAX];     /* the name that the former file got */
    bool published;
    bool swapped; /* what was there has the temporary name meanwhile */
} certs_file_t;

/* MDM_ECONFLICT: one is there that must not be, or is no ordinary file. */
mdm_rc certs_files_judge(const certs_file_t *files, size_t n, mdm_err_t *err)
    MDM_USE_RESULT;
/* Writes all under temporary names and syncs them; after a failure none is
 * left. */
mdm_rc certs_files_stage(certs_file_t *files, size_t n, mdm_err_t *err)
    MDM_USE_RESULT;
/* Gives all their names; after a failure none has its own. */
mdm_rc certs_files_publish(certs_file_t *files, size_t n, mdm_err_t *err)
    MDM_USE_RESULT;
/* Removes what was staged and not published. */
void certs_files_drop(certs_file_t *files, size_t n);
/* Stage and publish. */
mdm_rc certs_files_write(certs_file_t *files, size_t n, mdm_err_t *err)
    MDM_USE_RESULT;
/* Tells what was written. */
void certs_files_tell(const certs_file_t *files, size_t n);

/* ---- HTTPS: certs_http.c ------------------------------------------------ */

typedef struct certs_http {
    const char *url;
    const char *ca;   /* PEM file, NULL: the system's */
    const char *json; /* to be posted; NULL: GET */
    size_t max;       /* of the answer */
} certs_http_t;

/* One request.  MDM_EUNAVAIL: no answer; the text says why and what to do.
 * Any status is an answer. */
mdm_rc certs_http_run(const certs_http_t *request, mdm_buf_t *body,
                      long *status_r, mdm_err_t *err) MDM_USE_RESULT;

#endif
