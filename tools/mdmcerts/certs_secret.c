/*
 * certs_secret.c - mdmcerts: passwords from the terminal, a file or an
 * environment variable; never from the command line, where other users of
 * the machine could read them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "certs_io.h"
#include "mdm_mem.h"
#include "mdm_str.h"

/* As few as openssl(1) lets a new key have. */
#define NEW_MIN 4
#define PROMPT_SIZE 128

void certs_secret_wipe(certs_secret_t *secret)
{
    mdm_wipe(secret, sizeof(*secret));
}

mdm_str_t certs_secret_str(const certs_secret_t *secret)
{
    return (mdm_str_t){secret->text, secret->n};
}

void certs_secret_forget(const char *source)
{
    char *value = NULL;

    if (source != NULL && strncmp(source, "env:", 4) == 0) {
        value = getenv(source + 4);
    }
    if (value != NULL) {
        mdm_wipe(value, strlen(value));
    }
}

static mdm_rc too_long(const certs_question_t *q, mdm_err_t *err)
{
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "%s: longer than %d bytes; OpenSSL takes no more",
                       q->what, MDM_PASSPHRASE_MAX - 1);
}

/* ---- file and environment ----------------------------------------------- */

/* The first line. */
static mdm_rc from_file(const certs_question_t *q, const char *path,
                        certs_secret_t *secret, mdm_err_t *err)
{
    mdm_buf_t data;
    struct stat st;
    mdm_str_t rest;
    mdm_str_t line;
    mdm_rc rc;

    mdm_buf_init_secret(&data, CERTS_FILE_MAX);
    rc = certs_read_file(path, 4 * MDM_PASSPHRASE_MAX, &data, err);
    if (rc == MDM_OK) {
        if (stat(path, &st) == 0 && (st.st_mode & (S_IROTH | S_IWOTH)) != 0) {
            certs_say("warning: every user of this machine can read %s; "
                      "chmod 600 it", path);
        }
        rest = mdm_buf_str(&data);
        line = rest.n > 0 ? mdm_str_split(&rest, '\n') : MDM_STR("");
        if (line.n > 0 && line.s[line.n - 1] == '\r') {
            line.n--;
        }
        if (line.n >= MDM_PASSPHRASE_MAX) {
            rc = too_long(q, err);
        } else {
            memcpy(secret->text, line.s, line.n);
            secret->n = line.n;
        }
    }
    mdm_buf_clear(&data);
    return rc;
}

static mdm_rc from_environment(const certs_question_t *q, const char *name,
                               certs_secret_t *secret, mdm_err_t *err)
{
    const char *value = getenv(name);

    if (value == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s: there is no environment variable %s; export "
                           "it, or leave %s out to be asked",
                           q->what, name, q->option);
    }
    secret->n = strlen(value);
    if (secret->n >= MDM_PASSPHRASE_MAX) {
        secret->n = 0;
        return too_long(q, err);
    }
    memcpy(secret->text, value, secret->n);
    return MDM_OK;
}

/* ---- terminal ----------------------------------------------------------- */

/* One line, without its end.  False: the terminal has ended, or the line is
 * too long. */
static bool read_line(int fd, certs_secret_t *secret, bool *long_r)
{
    char c = '\0';
    ssize_t n;

    *long_r = false;
    secret->n = 0;
    for (;;) {
        n = read(fd, &c, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        if (c == '\n' || c == '\r') {
            secret->text[secret->n] = '\0';
            return !*long_r;
        }
        if (secret->n + 1 >= MDM_PASSPHRASE_MAX) {
            *long_r = true;
        } else {
            secret->text[secret->n++] = c;
        }
    }
}

static mdm_rc ask(int fd, const certs_question_t *q, bool again,
                  certs_secret_t *secret, mdm_err_t *err)
{
    char prompt[PROMPT_SIZE];
    bool is_long = false;
    bool ok;

    (void)snprintf(prompt, sizeof(prompt), "%s%s: ", q->what,
                   again ? " (again)" : "");
    if (!certs_guard_hide(fd, prompt)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s: the terminal cannot be used; give %s file:F "
                           "or env:V",
                           q->what, q->option);
    }
    ok = read_line(fd, secret, &is_long);
    certs_guard_show();
    if (is_long) {
        return too_long(q, err);
    }
    if (!ok) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s: nothing was typed; nothing was changed",
                           q->what);
    }
    return MDM_OK;
}

static mdm_rc from_terminal(const certs_question_t *q, certs_secret_t *secret,
                            mdm_err_t *err)
{
    certs_secret_t again;
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int asked = fd >= 0 ? fd : isatty(STDIN_FILENO) ? STDIN_FILENO : -1;
    mdm_rc rc;

    if (asked < 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s: there is no terminal to ask on; give %s "
                           "file:F (its first line) or env:V",
                           q->what, q->option);
    }
    memset(&again, 0, sizeof(again));
    rc = ask(asked, q, false, secret, err);
    if (rc == MDM_OK && q->is_new && secret->n >= NEW_MIN) {
        rc = ask(asked, q, true, &again, err);
        if (rc == MDM_OK && !mdm_str_secret_eq(certs_secret_str(secret),
                                               certs_secret_str(&again))) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "%s: the two differ; nothing was changed, try "
                             "again",
                             q->what);
        }
        certs_secret_wipe(&again);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

mdm_rc certs_secret_get(const certs_question_t *q, certs_secret_t *secret,
                        mdm_err_t *err)
{
    mdm_rc rc;

    memset(secret, 0, sizeof(*secret));
    if (q->source == NULL) {
        rc = from_terminal(q, secret, err);
    } else if (strncmp(q->source, "file:", 5) == 0) {
        rc = from_file(q, q->source + 5, secret, err);
    } else if (strncmp(q->source, "env:", 4) == 0) {
        rc = from_environment(q, q->source + 4, secret, err);
    } else {
        /* Not quoted: it may be the password itself. */
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s takes file:F (first line of a file) or env:V (an "
                         "environment variable), never the password itself",
                         q->option);
    }
    if (rc == MDM_OK && q->is_new && secret->n < NEW_MIN) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "%s: at least %d characters, please; nothing was "
                         "changed",
                         q->what, NEW_MIN);
    }
    if (rc == MDM_OK && memchr(secret->text, '\0', secret->n) != NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "%s: has a NUL byte in it",
                         q->what);
    }
    if (rc != MDM_OK) {
        certs_secret_wipe(secret);
    }
    return rc;
}
