/*
 * mdm_config_set.c - how the arguments of each directive are read.  Reads the
 * files that are named, touches nothing else.  Parent process only.
 */
#include "mdm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdm_store.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define FILE_MAX_BYTES (1024 * 1024)

static mdm_rc bad(mdm_err_t *err, const char *arg, const char *expected)
{
    return mdm_err_set(err, MDM_ECONFIG, 0, "\"%s\" is wrong; give %s", arg,
                       expected);
}

static mdm_rc full_path(mdm_config_t *c, const char *arg, const char **path_r,
                        mdm_err_t *err)
{
    char *path;

    if (arg[0] == '\0') {
        return bad(err, arg, "a file name");
    }
    path = arg[0] == '/'
               ? mdm_arena_strdup(c->arena, arg)
               : mdm_arena_printf(c->arena, "%s/%s", c->root, arg);
    if (path == NULL) {
        return mdm_err_nomem(err);
    }
    if (strlen(path) > PATH_MAX - 64) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "the file name is too long");
    }
    *path_r = path;
    return MDM_OK;
}

/* Whole content of a small file, in the node's (wiping) arena. */
static mdm_rc read_file(mdm_config_t *c, const char *arg, mdm_str_t *text_r,
                        mdm_err_t *err)
{
    const char *path = NULL;
    struct stat st;
    ssize_t n = -1;
    char *data;
    mdm_rc rc;
    int fd;

    rc = full_path(c, arg, &path, err);
    if (rc != MDM_OK) {
        return rc;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        (void)mdm_err_set(err, MDM_ECONFIG, 0, "cannot read %s: %s", path,
                          strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return MDM_ECONFIG;
    }
    data = S_ISREG(st.st_mode) && st.st_size <= FILE_MAX_BYTES
               ? mdm_arena_alloc(c->arena, (size_t)st.st_size + 1)
               : NULL;
    if (data != NULL) {
        n = read(fd, data, (size_t)st.st_size);
    }
    close(fd);
    if (n < 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "cannot read %s: not a plain file of at most 1 MB",
                           path);
    }
    *text_r = (mdm_str_t){data, (size_t)n};
    return MDM_OK;
}

static mdm_rc set_flag(const char *arg, bool *value, mdm_err_t *err)
{
    mdm_str_t s = mdm_str_from(arg);

    if (!mdm_str_ieq(s, "on") && !mdm_str_ieq(s, "off")) {
        return bad(err, arg, "on or off");
    }
    *value = mdm_str_ieq(s, "on");
    return MDM_OK;
}

static mdm_rc set_time(const char *arg, int64_t min_us, int64_t max_us,
                       int64_t *value, mdm_err_t *err)
{
    int64_t us;

    if (!mdm_parse_duration(mdm_str_from(arg), &us)) {
        return bad(err, arg, "a time such as 500ms, 10s, 15m, 4h or 7d");
    }
    if (us < min_us || us > max_us) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "\"%s\" is out of bounds; give a time from %llds "
                           "to %llds",
                           arg, (long long)(min_us / MDM_SEC),
                           (long long)(max_us / MDM_SEC));
    }
    *value = us;
    return MDM_OK;
}

static mdm_rc set_number(const char *arg, uint64_t min, uint64_t max,
                         uint64_t *value, mdm_err_t *err)
{
    if (!mdm_parse_u64(mdm_str_from(arg), max, value) || *value < min) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "\"%s\" is wrong; give a number from %llu to %llu",
                           arg, (unsigned long long)min,
                           (unsigned long long)max);
    }
    return MDM_OK;
}

static mdm_rc set_endpoint(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    static const struct {
        const char *name;
        mdm_role_t role;
    } roles[] = {{"off", MDM_ROLE_OFF},
                 {"mdm", MDM_ROLE_MDM},
                 {"server", MDM_ROLE_SERVER},
                 {"checkin", MDM_ROLE_CHECKIN},
                 {"api", MDM_ROLE_API}};
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(roles); i++) {
        if (strcmp(arg, roles[i].name) == 0) {
            c->role = roles[i].role;
            return MDM_OK;
        }
    }
    return bad(err, arg, "mdm, server, checkin, api or off");
}

static mdm_rc set_limits(mdm_config_t *c, int argc, const char *const *argv,
                         mdm_err_t *err)
{
    mdm_plist_limits_t *l = &c->plist_limits;
    mdm_str_t value;
    mdm_str_t name;
    uint64_t n;
    int i;
    int j;

    for (i = 0; i < argc; i++) {
        for (j = 0; j < i; j++) {
            if (argv[i][0] == argv[j][0]) {
                return bad(err, argv[i], "each of size, depth, items once");
            }
        }
        value = mdm_str_from(argv[i]);
        name = mdm_str_split(&value, '=');
        if (mdm_str_is(name, "size") && mdm_parse_size(value, &n) &&
            n >= 1024 && n <= UINT64_C(1) << 30) {
            l->size = (size_t)n;
        } else if (mdm_str_is(name, "depth") &&
                   mdm_parse_u64(value, MDM_PLIST_DEPTH_MAX, &n) && n >= 4) {
            l->depth = (unsigned)n;
        } else if (mdm_str_is(name, "items") &&
                   mdm_parse_u64(value, 100000000, &n) && n >= 1) {
            l->items = (size_t)n;
        } else {
            return bad(err, argv[i],
                       "size=1k to 1g, depth=4 to 128 or items=1 to "
                       "100000000");
        }
    }
    return MDM_OK;
}

static mdm_rc set_device_ca(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t pem;
    mdm_rc rc;

    rc = read_file(c, arg, &pem, err);
    if (rc == MDM_OK && mdm_trust_new(pem, &c->owned_trust, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    c->device_trust = c->owned_trust;
    return rc;
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
    mdm_sha256(rest, token->sha256);
    return MDM_OK;
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

    rc = all != NULL ? read_file(c, arg, &text, err) : mdm_err_nomem(err);
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

static mdm_rc set_push_server(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t rest = mdm_str_from(arg);
    mdm_str_t host;
    uint64_t port = 443;
    size_t i;

    if (rest.n > 0 && rest.s[0] == '[') { /* [::1]:2197 */
        rest.s++;
        rest.n--;
        host = mdm_str_split(&rest, ']');
        if (rest.s == NULL || (rest.n > 0 && rest.s[0] != ':')) {
            host.n = 0; /* no "]", or something else than a port behind it */
        } else if (rest.n > 0) {
            rest.s++;
            rest.n--;
        } else {
            rest = MDM_STR_NONE;
        }
    } else {
        host = mdm_str_split(&rest, ':');
    }
    for (i = 0; i < host.n; i++) {
        if (host.s[i] <= ' ' || host.s[i] == '/' || host.s[i] >= 0x7f) {
            host.n = 0;
        }
    }
    if (host.n == 0 || host.n > 255 ||
        (rest.s != NULL &&
         (!mdm_parse_u64(rest, 65535, &port) || port == 0))) {
        return bad(err, arg,
                   "host or host:port, such as api.push.apple.com:2197");
    }
    c->push_port = (uint16_t)port;
    c->push_host = mdm_arena_dup(c->arena, host.s, host.n);
    return c->push_host != NULL ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc set_push_cert(mdm_config_t *c, int argc, const char *const *argv,
                            mdm_err_t *err)
{
    mdm_str_t cert = MDM_STR_NONE;
    mdm_str_t key = MDM_STR_NONE;
    mdm_keypair_t *pair = mdm_arena_alloc(c->arena, sizeof(*pair));
    mdm_str_t both;
    size_t i;
    mdm_rc rc;

    if (pair == NULL || c->npush_certs == MDM_PUSH_CERTS_MAX) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "more than %d push certificates",
                           MDM_PUSH_CERTS_MAX);
    }
    rc = read_file(c, argv[0], &cert, err);
    if (rc == MDM_OK && argc > 1) {
        rc = read_file(c, argv[1], &key, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    both.n = cert.n + 1 + key.n;
    both.s = mdm_arena_printf(c->arena, "%.*s\n%.*s", MDM_STR_ARG(cert),
                              MDM_STR_ARG(key));
    if (both.s == NULL) {
        return mdm_err_nomem(err);
    }
    both.n = strlen(both.s);
    if (mdm_keypair_read(both, MDM_STR_NONE, c->arena, pair, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", argv[0]);
        return MDM_ECONFIG;
    }
    if (pair->not_before_us > mdm_wall_us(NULL)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s: the certificate is not valid yet; check the "
                           "clock",
                           argv[0]);
    }
    for (i = 0; i < c->npush_certs; i++) {
        if (mdm_str_eq(c->push_certs[i]->topic, pair->topic)) {
            return mdm_err_set(err, MDM_ECONFIG, 0,
                               "%s: a certificate of the topic %.*s is named "
                               "already",
                               argv[0], MDM_STR_ARG(pair->topic));
        }
    }
    c->push_certs[c->npush_certs++] = pair;
    return MDM_OK;
}

static mdm_rc set_secret_key(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    unsigned char *key = mdm_arena_alloc(c->arena, MDM_SEAL_KEY_LEN);
    const char *path = NULL;
    mdm_rc rc;

    rc = key != NULL ? full_path(c, arg, &path, err) : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        rc = mdm_seal_read_key(path, key, err);
    }
    c->secret_key = key;
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
    mdm_rc rc = full_path(c, arg, &c->state_dir, err);

    if (rc == MDM_OK && strlen(c->state_dir) > PATH_MAX / 2 - 64) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0, "the path is too long");
    }
    return rc;
}

static mdm_rc set_retry(mdm_config_t *c, const char *const *argv,
                        mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    mdm_rc rc;

    rc = set_time(argv[0], MDM_SEC / 10, day, &c->push_policy.retry_min_us,
                  err);
    if (rc == MDM_OK) {
        rc = set_time(argv[1], MDM_SEC / 10, 7 * day,
                      &c->push_policy.retry_max_us, err);
    }
    if (rc == MDM_OK &&
        c->push_policy.retry_min_us > c->push_policy.retry_max_us) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "the shortest pause, %s, is longer than the longest, "
                         "%s; give them the other way round",
                         argv[0], argv[1]);
    }
    return rc;
}

static mdm_rc apply_push(mdm_config_t *c, mdm_directive_id_t id, int argc,
                         const char *const *argv, mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    mdm_str_t text;
    uint64_t n = 0;
    mdm_rc rc;

    switch (id) {
    case MDM_DIRECTIVE_PUSH:
        return set_flag(argv[0], &c->push, err);
    case MDM_DIRECTIVE_PUSH_SERVER:
        return set_push_server(c, argv[0], err);
    case MDM_DIRECTIVE_PUSH_CERTIFICATE:
        return set_push_cert(c, argc, argv, err);
    case MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE:
        rc = read_file(c, argv[0], &text, err);
        if (rc == MDM_OK && mdm_x509_check_bundle(text, err) != MDM_OK) {
            (void)mdm_err_prefix(err, "%s", argv[0]);
            rc = MDM_ECONFIG;
        }
        return rc == MDM_OK ? full_path(c, argv[0], &c->push_ca_file, err)
                            : rc;
    case MDM_DIRECTIVE_PUSH_EXPIRATION:
        return set_time(argv[0], 60 * MDM_SEC, 30 * day,
                        &c->push_expiration_us, err);
    case MDM_DIRECTIVE_PUSH_TIMEOUT:
        return set_time(argv[0], MDM_SEC, 600 * MDM_SEC, &c->push_timeout_us,
                        err);
    case MDM_DIRECTIVE_PUSH_CONCURRENCY:
        rc = set_number(argv[0], 1, 100000, &n, err);
        c->push_concurrency = (uint32_t)n;
        return rc;
    case MDM_DIRECTIVE_PUSH_RETRY:
        return set_retry(c, argv, err);
    default:
        return set_flag(argv[0], &c->push_topic_change, err);
    }
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
        rc = set_number(argv[0], 1, 256, &n, err);
        c->store_connections = (unsigned)n;
        return rc;
    case MDM_DIRECTIVE_STORE_TIMEOUT:
        return set_time(argv[0], MDM_SEC / 10, 300 * MDM_SEC,
                        &c->store_timeout_us, err);
    case MDM_DIRECTIVE_SECRET_KEY_FILE:
        return set_secret_key(c, argv[0], err);
    case MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE:
        return set_device_ca(c, argv[0], err);
    case MDM_DIRECTIVE_PLIST_LIMITS:
        return set_limits(c, argc, argv, err);
    case MDM_DIRECTIVE_API_TOKEN_FILE:
        return set_tokens(c, argv[0], err);
    case MDM_DIRECTIVE_LEASE_TIME:
        return set_time(argv[0], MDM_SEC, 600 * MDM_SEC, &c->lease_life_us,
                        err);
    default:
        return apply_push(c, id, argc, argv, err);
    }
}
