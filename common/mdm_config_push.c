/*
 * mdm_config_push.c - how the arguments of the MDMPush... directives are
 * read.  Parent process only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

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
        return mdm_config_bad(err, arg,
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
    rc = mdm_config_read(c, argv[0], &cert, err);
    if (rc == MDM_OK && argc > 1) {
        rc = mdm_config_read(c, argv[1], &key, err);
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

static mdm_rc set_retry(mdm_config_t *c, const char *const *argv,
                        mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    mdm_rc rc;

    rc = mdm_config_time(argv[0], MDM_SEC / 10, day,
                         &c->push_policy.retry_min_us, err);
    if (rc == MDM_OK) {
        rc = mdm_config_time(argv[1], MDM_SEC / 10, 7 * day,
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

mdm_rc mdm_config_apply_push(mdm_config_t *c, mdm_directive_id_t id, int argc,
                             const char *const *argv, mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    mdm_str_t text;
    uint64_t n = 0;
    mdm_rc rc = MDM_OK;

    switch (id) {
    case MDM_DIRECTIVE_PUSH:
        return mdm_config_flag(argv[0], &c->push, err);
    case MDM_DIRECTIVE_PUSH_SERVER:
        return set_push_server(c, argv[0], err);
    case MDM_DIRECTIVE_PUSH_CERTIFICATE:
        return set_push_cert(c, argc, argv, err);
    case MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE:
        rc = mdm_config_read(c, argv[0], &text, err);
        if (rc == MDM_OK && mdm_x509_check_bundle(text, err) != MDM_OK) {
            (void)mdm_err_prefix(err, "%s", argv[0]);
            rc = MDM_ECONFIG;
        }
        return rc == MDM_OK ? mdm_config_path(c, argv[0], &c->push_ca_file, err)
                            : rc;
    case MDM_DIRECTIVE_PUSH_EXPIRATION:
        return mdm_config_time(argv[0], 60 * MDM_SEC, 30 * day,
                        &c->push_expiration_us, err);
    case MDM_DIRECTIVE_PUSH_TIMEOUT:
        return mdm_config_time(argv[0], MDM_SEC, 600 * MDM_SEC,
                               &c->push_timeout_us, err);
    case MDM_DIRECTIVE_PUSH_CONCURRENCY:
        rc = mdm_config_number(argv[0], 1, 100000, &n, err);
        c->push_concurrency = (uint32_t)n;
        return rc;
    case MDM_DIRECTIVE_PUSH_RETRY:
        return set_retry(c, argv, err);
    case MDM_DIRECTIVE_PUSH_REPEAT:
        return mdm_config_time_or_off(argv[0], 60 * MDM_SEC, 30 * day,
                                      &c->push_policy.repeat_us, err);
    case MDM_DIRECTIVE_PUSH_SILENT:
        return mdm_config_time_or_off(argv[0], 3600 * MDM_SEC, 365 * day,
                                      &c->push_silent_us, err);
    case MDM_DIRECTIVE_PUSH_RATE:
        if (!mdm_str_ieq(mdm_str_from(argv[0]), "off")) {
            rc = mdm_config_number(argv[0], 1, 100000, &n, err);
        }
        c->push_rate = (uint32_t)n;
        return rc;
    default:
        return mdm_config_flag(argv[0], &c->push_topic_change, err);
    }
}
