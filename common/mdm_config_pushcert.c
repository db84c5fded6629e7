/*
 * mdm_config_pushcert.c - push certificates from files, and the pass phrase
 * of their keys: the arguments of MDMPushCertificateFile and
 * MDMPushCertificatePassPhrase.
 *
 * The two may stand in any order.  A certificate whose key is encrypted waits
 * for the pass phrase and is opened when that is read, so that every fault is
 * said at the line of one of them; only the check at the end finds out that
 * there is none.  Nobody is asked on a terminal.  Parent process only, before
 * it gives up its rights.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_exec.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define EXEC_TIMEOUT_US (10 * MDM_SEC)

/* Takes a pair into use that was read. */
static mdm_rc add_pair(mdm_config_t *c, const char *file,
                       const mdm_keypair_t *pair, mdm_err_t *err)
{
    size_t i;

    if (c->npush_certs == MDM_PUSH_CERTS_MAX) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "more than %d push certificates",
                           MDM_PUSH_CERTS_MAX);
    }
    /* One that has ended is warned of: a site must come up. */
    if (mdm_x509_judge_dates(pair->not_before_us, INT64_MAX, mdm_wall_us(NULL),
                             "the push certificate", "", err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", file);
        return MDM_ECONFIG;
    }
    for (i = 0; i < c->npush_certs; i++) {
        if (mdm_str_eq(c->push_certs[i]->topic, pair->topic)) {
            return mdm_err_set(err, MDM_ECONFIG, 0,
                               "%s: a certificate of the topic %.*s is named "
                               "already",
                               file, MDM_STR_ARG(pair->topic));
        }
    }
    c->push_certs[c->npush_certs++] = pair;
    return MDM_OK;
}

/* Keeps it until a pass phrase comes. */
static mdm_rc add_locked(mdm_config_t *c, const mdm_locked_cert_t *from,
                         mdm_err_t *err)
{
    mdm_locked_cert_t *locked = mdm_arena_alloc(c->arena, sizeof(*locked));
    const mdm_locked_cert_t *each;
    size_t n = 0;

    for (each = c->locked_certs; each != NULL; each = each->next) {
        n++;
    }
    if (n == MDM_PUSH_CERTS_MAX) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "more than %d push certificates",
                           MDM_PUSH_CERTS_MAX);
    }
    if (locked == NULL) {
        return mdm_err_nomem(err);
    }
    locked->file = mdm_arena_strdup(c->arena, from->file);
    locked->key_file = mdm_arena_strdup(c->arena, from->key_file);
    if (locked->file == NULL || locked->key_file == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(locked->parts, from->parts, sizeof(locked->parts));
    locked->nparts = from->nparts;
    locked->next = c->locked_certs;
    c->locked_certs = locked;
    return MDM_OK;
}

/* The text lives in the node's arena. */
static mdm_rc open_pair(mdm_config_t *c, const mdm_locked_cert_t *from,
                        mdm_err_t *err)
{
    mdm_keypair_t *pair = mdm_arena_alloc(c->arena, sizeof(*pair));

    if (pair == NULL) {
        return mdm_err_nomem(err);
    }
    if (mdm_keypair_read(from->parts, from->nparts, c->push_phrase, c->arena,
                         pair, err) == MDM_OK) {
        return add_pair(c, from->file, pair, err);
    }
    if (!pair->locked) {
        (void)mdm_err_prefix(err, "%s", from->file);
        return MDM_ECONFIG;
    }
    if (c->push_phrase.s == NULL) {
        mdm_err_clear(err);
        return add_locked(c, from, err);
    }
    return mdm_err_set(err, MDM_ECONFIG, 0,
                       "%s: the private key does not open with the pass "
                       "phrase %s",
                       from->key_file, c->push_phrase_from);
}

mdm_rc mdm_config_push_cert(mdm_config_t *c, int argc,
                            const char *const *argv, mdm_err_t *err)
{
    mdm_locked_cert_t from = {.file = argv[0], .key_file = argv[argc - 1]};
    mdm_rc rc = MDM_OK;
    int i;

    for (i = 0; rc == MDM_OK && i < argc; i++) {
        rc = mdm_config_read(c, argv[i], &from.parts[from.nparts++], err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    return open_pair(c, &from, err);
}

/* ---- the pass phrase ---------------------------------------------------- */

static mdm_rc run(mdm_config_t *c, const char *program, mdm_str_t *phrase_r,
                  mdm_err_t *err)
{
    mdm_str_t output = MDM_STR_NONE;

    if (program[0] != '/') {
        return mdm_config_bad(err, program,
                              "the program's absolute path, without "
                              "arguments");
    }
    if (mdm_exec_read(program, EXEC_TIMEOUT_US, c->arena, &output, err) !=
        MDM_OK) {
        (void)mdm_err_prefix(err, "%s", program);
        return MDM_ECONFIG;
    }
    if (output.n == 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s: it printed nothing, so there is no pass "
                           "phrase", program);
    }
    *phrase_r = mdm_config_first_line(output);
    return MDM_OK;
}

/* Where it came from, for messages about keys that do not open. */
static mdm_rc keep_phrase(mdm_config_t *c, mdm_str_t phrase,
                          const char *source, bool is_program,
                          mdm_err_t *err)
{
    if (phrase.n == 0 || phrase.n > MDM_PASSPHRASE_MAX) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s: its first line is %s, so it is no pass phrase",
                           source, phrase.n == 0 ? "empty" : "too long");
    }
    c->push_phrase = phrase;
    c->push_phrase_from =
        mdm_arena_printf(c->arena, is_program ? "that the program %s prints"
                                              : "of the file %s", source);
    return c->push_phrase_from != NULL ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_config_push_phrase(mdm_config_t *c, const char *arg,
                              mdm_err_t *err)
{
    bool is_program = mdm_str_starts(mdm_str_from(arg), "exec:");
    mdm_str_t phrase = MDM_STR_NONE;
    mdm_locked_cert_t *locked;
    mdm_rc rc;

    if (!is_program && !mdm_str_starts(mdm_str_from(arg), "file:")) {
        /* Without the argument: it may be the pass phrase itself. */
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "give file:path or exec:program, not the pass "
                           "phrase itself");
    }
    rc = is_program ? run(c, arg + 5, &phrase, err)
                    : mdm_config_secret(c, arg + 5, &phrase, err);
    if (rc == MDM_OK) {
        rc = keep_phrase(c, phrase, arg + 5, is_program, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    locked = c->locked_certs;
    c->locked_certs = NULL;
    for (; rc == MDM_OK && locked != NULL; locked = locked->next) {
        rc = open_pair(c, locked, err);
    }
    return rc;
}

mdm_rc mdm_config_check_locked(const mdm_config_t *c, mdm_err_t *err)
{
    if (c->locked_certs == NULL) {
        return MDM_OK;
    }
    return mdm_err_set(err, MDM_ECONFIG, 0,
                       "MDMPushCertificateFile (mdm_push_certificate) %s: the "
                       "private key in %s is encrypted, and no "
                       "MDMPushCertificatePassPhrase "
                       "(mdm_push_certificate_pass_phrase) is given; name its "
                       "pass phrase there as file:path or exec:program",
                       c->locked_certs->file, c->locked_certs->key_file);
}
