/*
 * mdm_config_set.c - which directive sets what, and the arguments of those
 * that belong to no larger group.  Reads the files that are named, touches
 * nothing else.  Parent process only.
 */
#include "mdm_config_int.h"

#include <limits.h>
#include <string.h>

#include "mdm_store.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define DAY_US (86400 * MDM_SEC)

static mdm_rc set_endpoint(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    static const struct {
        const char *name;
        mdm_role_t role;
    } roles[] = {{"off", MDM_ROLE_OFF},
                 {"mdm", MDM_ROLE_MDM},
                 {"server", MDM_ROLE_SERVER},
                 {"checkin", MDM_ROLE_CHECKIN},
                 {"api", MDM_ROLE_API},
                 {"status", MDM_ROLE_STATUS},
                 {"enroll", MDM_ROLE_ENROLL},
                 {"wellknown", MDM_ROLE_WELLKNOWN},
                 {"scep", MDM_ROLE_SCEP}};
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(roles); i++) {
        if (strcmp(arg, roles[i].name) == 0) {
            c->role = roles[i].role;
            return MDM_OK;
        }
    }
    return mdm_config_bad(err, arg, "mdm, server, checkin, scep, enroll, "
                          "wellknown, api, status or off");
}

static mdm_rc parse_scopes(mdm_str_t list, unsigned *scopes, mdm_err_t *err)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {{"read", MDM_MAY_READ},
                 {"command", MDM_MAY_COMMAND},
                 {"secrets", MDM_MAY_SECRETS},
                 {"admin", MDM_MAY_ALL}};
    mdm_str_t one;
    size_t i;

    *scopes = 0;
    while (list.s != NULL) {
        one = mdm_str_split(&list, ',');
        for (i = 0; i < MDM_ARRAY_LEN(known); i++) {
            if (mdm_str_is(one, known[i].name)) {
                *scopes |= known[i].bits;
                break;
            }
        }
        if (i == MDM_ARRAY_LEN(known)) {
            return mdm_err_set(err, MDM_ECONFIG, 0,
                               "unknown scope; they are read, command, "
                               "secrets and admin");
        }
    }
    return MDM_OK;
}

/* "name:token" or "name:scope,scope:sha256:HEX". */
static mdm_rc parse_token(mdm_config_t *c, mdm_str_t line,
                          mdm_api_token_t *token, mdm_err_t *err)
{
    mdm_str_t rest = line;
    mdm_str_t name = mdm_str_split(&rest, ':');
    mdm_str_t hash = rest;
    mdm_str_t scopes = mdm_str_split(&hash, ':');

    if (name.n == 0 || rest.n == 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "not of the form name:token");
    }
    if (!mdm_arena_str(c->arena, name, &token->name)) {
        return mdm_err_nomem(err);
    }
    if (mdm_str_is(scopes, "sha256")) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "a hashed token names its scopes first: "
                           "name:admin:sha256:HEX");
    }
    if (hash.s != NULL && mdm_str_starts(hash, "sha256:")) {
        hash.s += 7;
        hash.n -= 7;
        if (!mdm_hex_decode(hash, token->sha256, MDM_SHA256_LEN)) {
            return mdm_err_set(err, MDM_ECONFIG, 0,
                               "sha256: needs 64 hex digits");
        }
        return parse_scopes(scopes, &token->scopes, err);
    }
    if (rest.n < 16) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "the token is shorter than 16 characters; make one "
                           "with: openssl rand -hex 32");
    }
    token->scopes = MDM_MAY_ALL;
    return mdm_sha256(rest, token->sha256, err);
}

/* Every line that is neither empty nor a comment. */
static mdm_rc parse_tokens(mdm_config_t *c, mdm_str_t text,
                           mdm_api_tokens_t *all, unsigned *line_r,
                           mdm_err_t *err)
{
    mdm_str_t line;
    mdm_rc rc = MDM_OK;

    for (*line_r = 1; rc == MDM_OK && text.s != NULL; (*line_r)++) {
        line = mdm_str_split(&text, '\n');
        if (line.n > 0 && line.s[line.n - 1] == '\r') {
            line.n--;
        }
        line = mdm_str_trim(line);
        if (line.n == 0 || line.s[0] == '#') {
            continue;
        }
        if (all->n == MDM_API_TOKENS_MAX) {
            return mdm_err_set(err, MDM_ECONFIG, 0, "more than %d tokens",
                               MDM_API_TOKENS_MAX);
        }
        rc = parse_token(c, line, &all->tokens[all->n++], err);
    }
    return rc;
}

static mdm_rc set_tokens(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_api_tokens_t *all = mdm_arena_alloc(c->arena, sizeof(*all));
    mdm_str_t text = MDM_STR_NONE;
    unsigned line = 0;
    mdm_rc rc;

    rc = all != NULL ? mdm_config_read(c, arg, &text, err) : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        all->tokens = mdm_arena_alloc(
            c->arena, MDM_API_TOKENS_MAX * sizeof(*all->tokens));
        rc = all->tokens != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    if (rc == MDM_OK && parse_tokens(c, text, all, &line, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s, line %u", arg, line - 1);
        rc = MDM_ECONFIG;
    }
    mdm_wipe((void *)(uintptr_t)text.s, text.n);
    if (rc == MDM_OK && all->n == 0) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "%s holds no line of the form name:token", arg);
    }
    c->api_tokens = all;
    return rc;
}

static mdm_rc read_key(mdm_config_t *c, const char *arg,
                       const unsigned char **key_r, mdm_err_t *err)
{
    unsigned char *key = mdm_arena_alloc(c->arena, MDM_SEAL_KEY_LEN);
    const char *path = NULL;
    mdm_rc rc;

    rc = key != NULL ? mdm_config_path(c, arg, &path, err) : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        rc = mdm_seal_read_key(path, key, err);
    }
    *key_r = key;
    return rc;
}

/* The second file is that of the key before, while it is needed. */
static mdm_rc set_secret_key(mdm_config_t *c, int argc,
                             const char *const *argv, mdm_err_t *err)
{
    mdm_seal_t *seal = NULL;
    mdm_rc rc = read_key(c, argv[0], &c->secret_key, err);

    if (rc != MDM_OK || argc < 2) {
        return rc;
    }
    rc = read_key(c, argv[1], &c->former_key, err);
    if (rc == MDM_OK) {
        rc = mdm_seal_new(c->secret_key, &seal, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_seal_add(seal, c->former_key, err);
    }
    mdm_seal_free(&seal);
    return rc;
}

static mdm_rc set_store(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_rc rc = mdm_store_check_url(arg, err);

    c->store = mdm_arena_strdup(c->arena, arg);
    if (rc == MDM_OK && strlen(arg) > PATH_MAX / 2) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0, "the file name is too long");
    }
    return rc == MDM_OK && c->store == NULL ? mdm_err_nomem(err) : rc;
}

static mdm_rc set_state_dir(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_rc rc = mdm_config_path(c, arg, &c->state_dir, err);

    if (rc == MDM_OK && strlen(c->state_dir) > PATH_MAX / 2 - 64) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0, "the path is too long");
    }
    return rc;
}

mdm_rc mdm_config_apply(mdm_config_t *c, mdm_directive_id_t id, int argc,
                        const char *const *argv, mdm_err_t *err)
{
    uint64_t n = 0;
    mdm_rc rc;

    switch (id) {
    case MDM_DIRECTIVE_ENDPOINT:
        return set_endpoint(c, argv[0], err);
    case MDM_DIRECTIVE_STORE:
        return set_store(c, argv[0], err);
    case MDM_DIRECTIVE_STATE_DIR:
        return set_state_dir(c, argv[0], err);
    case MDM_DIRECTIVE_STORE_CONNECTIONS:
        rc = mdm_config_number(argv[0], 1, 256, &n, err);
        c->store_connections = (unsigned)n;
        return rc;
    case MDM_DIRECTIVE_STORE_TIMEOUT:
        return mdm_config_time(argv[0], MDM_SEC / 10, 300 * MDM_SEC,
                        &c->store_timeout_us, err);
    case MDM_DIRECTIVE_SECRET_KEY_FILE:
        return set_secret_key(c, argc, argv, err);
    case MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE:
    case MDM_DIRECTIVE_DEVICE_IDENTITY:
    case MDM_DIRECTIVE_USER_AUTHENTICATE:
    case MDM_DIRECTIVE_RETROACTIVE_BINDING:
    case MDM_DIRECTIVE_MIGRATION:
    case MDM_DIRECTIVE_TRUSTED_PROXY:
    case MDM_DIRECTIVE_PLIST_LIMITS:
        return mdm_config_apply_device(c, id, argc, argv, err);
    case MDM_DIRECTIVE_DECLARATIVE_MANAGEMENT:
    case MDM_DIRECTIVE_ESCROW_KEY_UNLOCK_URL:
    case MDM_DIRECTIVE_TOKEN_SIGNER:
    case MDM_DIRECTIVE_RETURN_TO_SERVICE:
        return mdm_config_apply_services(c, id, argc, argv, err);
    case MDM_DIRECTIVE_ENROLLMENT_FLOW:
    case MDM_DIRECTIVE_ENROLLMENT_CA_CERTIFICATE:
    case MDM_DIRECTIVE_ENROLLMENT_SIGNATURE:
    case MDM_DIRECTIVE_ENROLLMENT_MINIMUM_OS:
    case MDM_DIRECTIVE_ENROLLMENT_SERIAL:
    case MDM_DIRECTIVE_ENROLLMENT_LOGIN:
    case MDM_DIRECTIVE_ENROLLMENT_USER:
    case MDM_DIRECTIVE_ENROLLMENT_TOKEN_LIFE:
    case MDM_DIRECTIVE_SERVICE_DISCOVERY:
        return mdm_config_apply_enrollment(c, id, argc, argv, err);
    case MDM_DIRECTIVE_SCEP_CERTIFICATE:
    case MDM_DIRECTIVE_SCEP_CERTIFICATE_KEY:
    case MDM_DIRECTIVE_SCEP_VALIDITY:
    case MDM_DIRECTIVE_SCEP_CHALLENGE:
    case MDM_DIRECTIVE_SCEP_LEGACY:
        return mdm_config_apply_scep(c, id, argv, err);
    case MDM_DIRECTIVE_PUBLIC_URL:
    case MDM_DIRECTIVE_PROFILE_ORGANIZATION:
    case MDM_DIRECTIVE_PROFILE_NAME:
    case MDM_DIRECTIVE_PROFILE_IDENTIFIER:
    case MDM_DIRECTIVE_PROFILE_ACCESS_RIGHTS:
    case MDM_DIRECTIVE_PROFILE_SIGNER:
    case MDM_DIRECTIVE_PROFILE_TOPIC:
    case MDM_DIRECTIVE_PROFILE_SERVER_URL:
    case MDM_DIRECTIVE_PROFILE_CHECKIN_URL:
    case MDM_DIRECTIVE_PROFILE_SCEP_URL:
    case MDM_DIRECTIVE_PROFILE_SCEP_CHALLENGE:
    case MDM_DIRECTIVE_PROFILE_SIGN_MESSAGE:
    case MDM_DIRECTIVE_PROFILE_CHECK_OUT:
    case MDM_DIRECTIVE_PROFILE_USER_CHANNELS:
    case MDM_DIRECTIVE_PROFILE_CERTIFICATE:
        return mdm_config_apply_profile(c, id, argc, argv, err);
    case MDM_DIRECTIVE_API_TOKEN_FILE:
        return set_tokens(c, argv[0], err);
    case MDM_DIRECTIVE_LEASE_TIME:
        return mdm_config_time(argv[0], MDM_SEC, 600 * MDM_SEC,
                               &c->lease_life_us, err);
    case MDM_DIRECTIVE_COMMAND_EXPIRATION:
        return mdm_config_time_or_off(argv[0], 60 * MDM_SEC, 3650 * DAY_US,
                                      &c->command_life_us, err);
    case MDM_DIRECTIVE_RESULT_RETENTION:
        return mdm_config_time_or_off(argv[0], 3600 * MDM_SEC, 3650 * DAY_US,
                                      &c->result_retention_us, err);
    default:
        return mdm_config_apply_push(c, id, argc, argv, err);
    }
}
