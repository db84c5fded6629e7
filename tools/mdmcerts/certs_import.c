/*
 * certs_import.c - mdmcerts import: a push certificate into the store of a
 * server, which may run meanwhile.
 *
 * The same rules as those of PUT /v1/pushcert (mdm_pushcert.h).  Files are
 * read and passwords asked for as whoever called; the store is opened as the
 * user whom it belongs to, because SQLite makes files beside the database,
 * and those of root would shut the server out.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "certs_material.h"
#include "mdm_pushcert.h"
#include "mdm_seal.h"
#include "mdm_store.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define SCHEME "sqlite:"
#define STORE_WAIT (20 * MDM_SEC)

/* Where things are, and what was read before the user changed. */
typedef struct import {
    const certs_args_t *args;
    char database[PATH_MAX];
    char state_dir[PATH_MAX];
    unsigned char secret_key[MDM_SEAL_KEY_LEN];
    mdm_arena_t *arena;
    mdm_keypair_t pair;
} import_t;

/* ---- log lines of the store --------------------------------------------- */

static bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    return level <= MDM_LOG_NOTICE;
}

static void log_write(void *ctx, mdm_level_t level, const char *file,
                      int line, const char *msg)
{
    (void)ctx;
    (void)level;
    (void)file;
    (void)line;
    certs_say("%s", msg);
}

/* ---- where the store is ------------------------------------------------- */

static mdm_rc find_store(import_t *job, mdm_err_t *err)
{
    const certs_args_t *args = job->args;
    const char *path;
    mdm_rc rc = mdm_store_check_url(args->store, err);

    if (rc != MDM_OK) {
        return rc;
    }
    path = args->store + strlen(SCHEME);
    if (path[0] != '/' && args->state_dir == NULL) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "--store takes an absolute path, such as "
                           "sqlite:/var/lib/mdm/mdm.db, or --state-dir says "
                           "where the database lies");
    }
    if (strlen(path) + 1 > sizeof(job->database) ||
        (args->state_dir != NULL &&
         strlen(args->state_dir) + strlen(path) + 2 >
             sizeof(job->database))) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "the path is too long");
    }
    (void)snprintf(job->database, sizeof(job->database), "%s%s%s",
                   path[0] == '/' ? "" : args->state_dir,
                   path[0] == '/' ? "" : "/", path);
    if (args->state_dir != NULL) {
        (void)snprintf(job->state_dir, sizeof(job->state_dir), "%s",
                       args->state_dir);
    } else {
        (void)snprintf(job->state_dir, sizeof(job->state_dir), "%.*s",
                       (int)(strrchr(path, '/') - path), path);
    }
    if (job->state_dir[0] == '\0') {
        (void)snprintf(job->state_dir, sizeof(job->state_dir), "/");
    }
    return MDM_OK;
}

/* A store that is not there would be made, and nobody would use it. */
static mdm_rc look_at_store(const import_t *job, struct stat *st,
                            mdm_err_t *err)
{
    if (stat(job->database, st) != 0) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "there is no database %s (%s); start the server "
                           "once, which makes it, or look which store its "
                           "configuration names",
                           job->database, strerror(errno));
    }
    if (!S_ISREG(st->st_mode)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is not a file",
                           job->database);
    }
    return MDM_OK;
}

/* ---- whose the store is ------------------------------------------------- */

static mdm_rc become_owner(const import_t *job, const struct stat *st,
                           mdm_err_t *err)
{
    const struct passwd *owner;
    char name[64];

    if (geteuid() == st->st_uid) {
        return MDM_OK;
    }
    owner = getpwuid(st->st_uid);
    (void)snprintf(name, sizeof(name), "%s",
                   owner != NULL ? owner->pw_name : "another user");
    if (geteuid() != 0) {
        return mdm_err_set(err, MDM_EDENIED, 0,
                           "%s belongs to %s, and files that another user "
                           "makes beside it would stop the server; run this "
                           "as root or as %s",
                           job->database, name, name);
    }
    if (setgroups(0, NULL) != 0 ||
        setresgid(st->st_gid, st->st_gid, st->st_gid) != 0 ||
        setresuid(st->st_uid, st->st_uid, st->st_uid) != 0) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "cannot become %s, whom %s belongs to: %s", name,
                           job->database, strerror(errno));
    }
    return MDM_OK;
}

/* ---- certificate and key ------------------------------------------------ */

static mdm_rc read_files(const certs_args_t *args, mdm_material_t *m,
                         mdm_err_t *err)
{
    const certs_question_t question = {.source = args->push_password,
                                       .option = "--push-password",
                                       .what = "Push private key password"};
    certs_secret_t secret;
    mdm_rc rc;

    memset(&secret, 0, sizeof(secret));
    rc = certs_material_read(args->cert, &question, &secret, m, err);
    if (rc == MDM_OK && args->key != NULL) {
        rc = certs_material_read(args->key, &question, &secret, m, err);
    }
    certs_secret_wipe(&secret);
    return rc;
}

/* Judged by the core, as everywhere. */
static mdm_rc read_pair(import_t *job, mdm_err_t *err)
{
    mdm_material_t m = {0};
    mdm_str_t text;
    mdm_buf_t pem;
    mdm_rc rc = read_files(job->args, &m, err);

    mdm_buf_init_secret(&pem, CERTS_FILE_MAX);
    if (rc == MDM_OK) {
        rc = mdm_material_judge_pair(&m, err);
    }
    if (rc == MDM_OK) {
        rc = certs_material_pem(&m, &pem, err);
    }
    if (rc == MDM_OK) {
        text = mdm_buf_str(&pem);
        rc = mdm_keypair_read(&text, 1, MDM_STR_NONE, job->arena, &job->pair,
                              err);
    }
    mdm_buf_clear(&pem);
    mdm_material_clear(&m);
    return rc;
}

/* ---- the import --------------------------------------------------------- */

static mdm_rc open_store(import_t *job, const mdm_log_t *log,
                         mdm_store_t **store_r, mdm_err_t *err)
{
    mdm_store_config_t config = {.url = job->args->store,
                                 .state_dir = job->state_dir,
                                 .connections = 1,
                                 .timeout_us = STORE_WAIT,
                                 .log = log};
    mdm_rc rc;

    if (job->args->secret_key_file != NULL) {
        config.secret_key = job->secret_key;
    } else if (!mdm_seal_has_key(job->state_dir)) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "there is no %s/secret.key; give --secret-key-file "
                           "as the server's configuration does, or "
                           "--state-dir",
                           job->state_dir);
    }
    rc = mdm_store_new(&config, store_r, err);
    if (rc == MDM_OK) {
        rc = mdm_store_open(*store_r, err);
        /* To this program nothing of it is wrong usage. */
        rc = rc == MDM_ECONFIG ? MDM_EUNAVAIL : rc;
    }
    return rc;
}

static void tell(const import_t *job, bool stored)
{
    char end[MDM_RFC3339_SIZE];

    mdm_time_format(job->pair.not_after_us, end);
    (void)printf("%s\ntopic: %.*s\nvalid until: %s\n",
                 stored ? "stored; servers that run use it from now on"
                        : "nothing to do: this certificate is in use already",
                 MDM_STR_ARG(job->pair.topic), end);
}

static mdm_rc store_pair(import_t *job, mdm_err_t *err)
{
    const mdm_log_t log = {.on = log_on, .write = log_write};
    const mdm_pushcert_import_t how = {.source = MDM_PUSHCERT_API,
                                       .force = job->args->force};
    mdm_store_t *store = NULL;
    bool stored = false;
    mdm_rc rc = open_store(job, &log, &store, err);

    if (rc == MDM_OK) {
        rc = mdm_pushcert_import(store, &job->pair, &how, &stored, err);
    }
    mdm_store_free(&store);
    if (rc == MDM_OK) {
        tell(job, stored);
    } else if (rc == MDM_ECONFLICT) {
        (void)mdm_err_prefix(err, "refused (--force overrides this)");
    }
    return rc;
}

mdm_rc certs_import(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    import_t job = {.args = args};
    struct stat st;
    mdm_rc rc;

    (void)status_r;
    if (args->store == NULL || args->cert == NULL) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "import needs --store URL and --cert FILE; see "
                           "mdmcerts import --help");
    }
    job.arena = mdm_arena_new(true);
    if (job.arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = find_store(&job, err);
    if (rc == MDM_OK) {
        rc = look_at_store(&job, &st, err);
    }
    if (rc == MDM_OK && args->secret_key_file != NULL) {
        rc = mdm_seal_read_key(args->secret_key_file, job.secret_key, err);
        rc = rc == MDM_ECONFIG ? MDM_EINVAL : rc;
    }
    if (rc == MDM_OK) {
        rc = read_pair(&job, err);
    }
    if (rc == MDM_OK) {
        rc = become_owner(&job, &st, err);
    }
    if (rc == MDM_OK) {
        rc = store_pair(&job, err);
    }
    mdm_arena_free(&job.arena);
    mdm_wipe(job.secret_key, sizeof(job.secret_key));
    return rc;
}
