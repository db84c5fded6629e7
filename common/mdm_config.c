/*
 * mdm_config.c - configuration nodes: make, merge, check, show.  The table
 * itself is mdm_directives.def; how each argument is read stands in
 * mdm_config_set.c.  Parent process only, one thread.
 */
#include "mdm_config_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_pushcert.h"
#include "mdm_store.h"
#include "mdm_str.h"
#include "mdm_time.h"

static const mdm_directive_t directives[MDM_DIRECTIVE_COUNT] = {
#define MDM_DIRECTIVE(id, apache, nginx, scope, only, min, max, syntax,       \
                      preset, help)                                           \
    {MDM_DIRECTIVE_##id, apache, nginx, scope, only,                          \
     min,                max,    syntax, preset, help},
#include "mdm_directives.def"
#undef MDM_DIRECTIVE
};

/* Directives that may be given several times in one node. */
#define REPEATABLE (UINT64_C(1) << MDM_DIRECTIVE_PUSH_CERTIFICATE)

const mdm_directive_t *mdm_directives(size_t *n_r)
{
    *n_r = MDM_DIRECTIVE_COUNT;
    return directives;
}

/* Defaults are written as an administrator would write them. */
static mdm_rc set_preset(mdm_config_t *config, const mdm_directive_t *d,
                         mdm_err_t *err)
{
    const char *argv[8];
    char text[256];
    char *save = text;
    char *word;
    int argc = 0;

    (void)snprintf(text, sizeof(text), "%s", d->preset);
    while (argc < 8 && (word = strsep(&save, " ")) != NULL) {
        argv[argc++] = word;
    }
    return mdm_config_apply(config, d->id, argc, argv, err);
}

mdm_config_t *mdm_config_new(mdm_scope_t scope, const char *path,
                             const char *root)
{
    mdm_config_t *config = calloc(1, sizeof(*config));
    mdm_err_t err;
    bool ok;
    size_t i;

    if (config == NULL) {
        return NULL;
    }
    config->scope = scope;
    config->loaded_us = mdm_wall_us(NULL);
    config->found = &config->found_here;
    config->arena = mdm_arena_new(true);
    ok = config->arena != NULL;
    if (ok && path != NULL) {
        ok = mdm_config_set_path(config, path);
    }
    if (ok) {
        config->root =
            mdm_arena_strdup(config->arena, root != NULL ? root : "/");
        ok = config->root != NULL;
    }
    for (i = 0; ok && i < MDM_DIRECTIVE_COUNT; i++) {
        if (directives[i].scope == scope && directives[i].preset != NULL) {
            ok = set_preset(config, &directives[i], &err) == MDM_OK;
        }
    }
    if (!ok) {
        mdm_config_free(&config);
    }
    return config;
}

bool mdm_config_set_path(mdm_config_t *config, const char *path)
{
    config->path = mdm_arena_strdup(config->arena, path);
    return config->path != NULL;
}

void mdm_config_free(mdm_config_t **config)
{
    if (*config != NULL) {
        mdm_trust_free(&(*config)->owned_trust);
        mdm_jwt_key_free(&(*config)->owned_token_key);
        mdm_arena_free(&(*config)->arena);
        free(*config);
        *config = NULL;
    }
}

mdm_rc mdm_config_set(mdm_config_t *config, mdm_directive_id_t id, int argc,
                      const char *const *argv, mdm_err_t *err)
{
    const mdm_directive_t *d = &directives[id];
    uint64_t bit = UINT64_C(1) << id;
    mdm_rc rc;

    if (argc < d->min_args || (d->max_args >= 0 && argc > d->max_args)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "wrong number of arguments; syntax: %s", d->syntax);
    }
    if (config->scope != d->scope) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "is not allowed here");
    }
    if ((config->set & bit & ~REPEATABLE) != 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "is given twice here; remove one");
    }
    rc = mdm_config_apply(config, id, argc, argv, err);
    if (rc == MDM_OK) {
        config->set |= bit;
    }
    return rc;
}

size_t mdm_config_size(void)
{
    return sizeof(mdm_config_t);
}

#define INHERIT(id, field)                                                    \
    if ((child->set & UINT64_C(1) << MDM_DIRECTIVE_##id) == 0) {              \
        merged->field = parent->field;                                        \
    }

void mdm_config_merge(mdm_config_t *merged, const mdm_config_t *parent,
                      const mdm_config_t *child)
{
    if (merged != child) {
        *merged = *child;
        merged->arena = NULL;
        merged->owned_trust = NULL;
        merged->owned_token_key = NULL;
    }
    /* MDMEndpoint stands alone: it is never inherited. */
    INHERIT(PLIST_LIMITS, plist_limits)
    INHERIT(DEVICE_IDENTITY, prove)
    INHERIT(DEVICE_IDENTITY, identity_header)
    INHERIT(USER_AUTHENTICATE, user_challenge)
    INHERIT(RETROACTIVE_BINDING, retroactive_binding)
    INHERIT(MIGRATION, migration)
    INHERIT(TRUSTED_PROXY, trusted_proxies)
    INHERIT(API_TOKEN_FILE, api_tokens)
    INHERIT(DEVICE_CA_CERTIFICATE, device_trust)
    INHERIT(RETURN_TO_SERVICE, return_to_service)
    INHERIT(TOKEN_SIGNER, token_key)
    INHERIT(TOKEN_SIGNER, token_issuer)
    merged->set |= parent->set & ~(UINT64_C(1) << MDM_DIRECTIVE_ENDPOINT);
}

bool mdm_config_is_endpoint(const mdm_config_t *location)
{
    return location != NULL && location->role != MDM_ROLE_OFF;
}

static void warn(const mdm_log_t *log, const char *text)
{
    mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING, "%s", text);
}

static void check_push_certs(const mdm_config_t *c, const mdm_log_t *log)
{
    int64_t now = mdm_wall_us(NULL);
    char end[64];
    size_t i;

    for (i = 0; i < c->npush_certs; i++) {
        if (c->push_certs[i]->not_after_us <
            now + c->push_cert_warn_us) {
            mdm_log_msg(log, MDM_LOG_WARNING,
                        c->push_certs[i]->not_after_us < now
                            ? MDM_MSG_PUSH_CERTIFICATE_EXPIRED
                            : MDM_MSG_PUSH_CERTIFICATE_EXPIRING,
                        "the push certificate of %.*s %s",
                        MDM_STR_ARG(c->push_certs[i]->topic),
                        mdm_pushcert_describe_end(
                            c->push_certs[i]->not_after_us, now, end,
                            sizeof(end)));
        }
    }
}

/* What is wrong with one directive alone was refused where it stands. */
mdm_rc mdm_config_check(const mdm_config_t *c, const mdm_log_t *log,
                        mdm_err_t *err)
{
    if (mdm_config_check_locked(c, err) != MDM_OK) {
        return MDM_ECONFIG;
    }
    check_push_certs(c, log);
    if (!c->push && c->npush_certs > 0) {
        warn(log, "push certificates are named but MDMPush (mdm_push) is off: "
                  "this server sends no pushes");
    }
    return MDM_OK;
}

/* How devices prove themselves at one of their endpoints. */
static mdm_rc check_identity(const mdm_config_t *server,
                             const mdm_config_t *location,
                             const mdm_log_t *log, mdm_err_t *err)
{
    bool header = (location->prove & MDM_PROVE_HEADER) != 0;
    const mdm_nets_t *proxies = location->trusted_proxies;
    size_t i;

    if (server->device_trust == NULL) {
        return mdm_err_set(
            err, MDM_ECONFIG, 0,
            "a device endpoint needs MDMDeviceCACertificateFile "
            "(mdm_device_ca_certificate): the certificate authority that "
            "issued the devices' identities");
    }
    if (header && proxies == NULL) {
        return mdm_err_set(
            err, MDM_ECONFIG, 0,
            "MDMDeviceIdentity header=%s (mdm_device_identity) without "
            "MDMTrustedProxy (mdm_trusted_proxy): nobody would be believed; "
            "name the addresses of the proxies that set this header",
            location->identity_header);
    }
    if (!header && proxies != NULL) {
        warn(log, "MDMTrustedProxy (mdm_trusted_proxy) has no effect on an "
                  "endpoint whose MDMDeviceIdentity (mdm_device_identity) "
                  "has no header=NAME");
    }
    for (i = 0; header && i < proxies->n; i++) {
        if (proxies->nets[i].bits == 0) {
            warn(log, "MDMTrustedProxy (mdm_trusted_proxy) names a network "
                      "of all addresses: every client may say that it is any "
                      "device");
        }
    }
    return MDM_OK;
}

static bool is_noted(const mdm_found_t *found, const mdm_trust_ca_t *ca)
{
    const mdm_trust_ca_t *list;
    size_t n;
    size_t t;
    size_t i;

    for (t = 0; t < found->ntrusts; t++) {
        list = mdm_trust_cas(found->trusts[t], &n);
        for (i = 0; i < n; i++) {
            if (strcmp(list[i].fingerprint, ca->fingerprint) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void warn_of_authority(const mdm_config_t *main,
                              const mdm_trust_ca_t *ca, const mdm_log_t *log)
{
    int64_t now = mdm_wall_us(NULL);
    char end[64];

    if (ca->not_after_us < now + main->push_cert_warn_us) {
        mdm_log_msg(log, MDM_LOG_WARNING,
                    ca->not_after_us < now ? MDM_MSG_DEVICE_CA_EXPIRED
                                           : MDM_MSG_DEVICE_CA_EXPIRING,
                    "the device certificate authority %s %s", ca->subject,
                    mdm_pushcert_describe_end(ca->not_after_us, now, end,
                                              sizeof(end)));
    }
}

/* Remembers the device CAs in use, for whoever watches their ends.  Many sites
 * may read one file. */
static void note_trust(const mdm_config_t *main, const mdm_trust_t *trust,
                       const mdm_log_t *log)
{
    mdm_found_t *found = main->found;
    const mdm_trust_ca_t *list;
    bool news = false;
    size_t n;
    size_t i;

    list = mdm_trust_cas(trust, &n);
    for (i = 0; i < n; i++) {
        if (!is_noted(found, &list[i])) {
            warn_of_authority(main, &list[i], log);
            news = true;
        }
    }
    if (news && found->ntrusts < MDM_TRUSTS_MAX) {
        found->trusts[found->ntrusts++] = trust;
    }
}

mdm_expiry_config_t mdm_config_expiry(const mdm_config_t *main)
{
    mdm_expiry_config_t expiry = {.warn_us = main->push_cert_warn_us,
                                  .file_certs = main->push_certs,
                                  .nfile_certs = main->npush_certs,
                                  .trusts = main->found->trusts,
                                  .ntrusts = main->found->ntrusts,
                                  .loaded_us = main->loaded_us};

    return expiry;
}

mdm_rc mdm_config_check_endpoint(const mdm_config_t *main,
                                 const mdm_config_t *server,
                                 const mdm_config_t *location,
                                 const mdm_log_t *log, mdm_err_t *err)
{
    main->found->endpoint = true;
    switch (location->role) {
    case MDM_ROLE_OFF:
        break;
    case MDM_ROLE_API:
        if (location->path == NULL) {
            return mdm_err_set(err, MDM_ECONFIG, 0,
                               "the api role needs a location with a fixed "
                               "path, not a regular expression");
        }
        if (location->api_tokens == NULL) {
            warn(log, "an api endpoint has no MDMAPITokenFile "
                      "(mdm_api_token_file): every call is refused with 403");
        }
        break;
    case MDM_ROLE_STATUS:
        break;
    case MDM_ROLE_MDM:
    case MDM_ROLE_SERVER:
    case MDM_ROLE_CHECKIN:
        if (check_identity(server, location, log, err) != MDM_OK) {
            return MDM_ECONFIG;
        }
        note_trust(main, server->device_trust, log);
        break;
    }
    return MDM_OK;
}

bool mdm_config_in_use(const mdm_config_t *main)
{
    return main->found->endpoint;
}

const char *mdm_config_identity_header(const mdm_config_t *location)
{
    return (location->prove & MDM_PROVE_HEADER) != 0
               ? location->identity_header
               : NULL;
}

bool mdm_config_takes_signature(const mdm_config_t *location)
{
    return (location->prove & MDM_PROVE_SIGNATURE) != 0;
}

bool mdm_config_takes_certificate(const mdm_config_t *location)
{
    return (location->prove & MDM_PROVE_CERTIFICATE) != 0;
}

uint64_t mdm_config_body_max(const mdm_config_t *location)
{
    return location->plist_limits.size;
}

static const char *role_name(mdm_role_t role)
{
    static const char *const names[] = {"off", "mdm", "server", "checkin",
                                        "api", "status"};

    return names[role];
}

bool mdm_config_show(const mdm_config_t *c, mdm_directive_id_t id, char *dst,
                     size_t cap)
{
    long long sec = MDM_SEC;

    switch (id) {
    case MDM_DIRECTIVE_ENDPOINT:
        (void)snprintf(dst, cap, "%s", role_name(c->role));
        return true;
    case MDM_DIRECTIVE_STORE:
        (void)snprintf(dst, cap, "%s", c->store);
        return true;
    case MDM_DIRECTIVE_STATE_DIR:
        (void)snprintf(dst, cap, "%s", c->state_dir);
        return true;
    case MDM_DIRECTIVE_PLIST_LIMITS:
        (void)snprintf(dst, cap, "size=%zu depth=%u items=%zu",
                       c->plist_limits.size, c->plist_limits.depth,
                       c->plist_limits.items);
        return true;
    case MDM_DIRECTIVE_PUSH_SERVER:
        (void)snprintf(dst, cap, "%s:%u", c->push_host,
                       (unsigned)c->push_port);
        return true;
    case MDM_DIRECTIVE_PUSH_PROXY: /* without its credentials */
        if (c->push_proxy == NULL) {
            (void)snprintf(dst, cap, "off");
        } else {
            (void)snprintf(dst, cap,
                           strchr(c->push_proxy->host, ':') == NULL
                               ? "http://%s:%u"
                               : "http://[%s]:%u",
                           c->push_proxy->host,
                           (unsigned)c->push_proxy->port);
        }
        return true;
    case MDM_DIRECTIVE_PUSH_RETRY:
        (void)snprintf(dst, cap, "%llds %llds",
                       (long long)c->push_policy.retry_min_us / sec,
                       (long long)c->push_policy.retry_max_us / sec);
        return true;
    case MDM_DIRECTIVE_DECLARATIVE_MANAGEMENT:
        (void)snprintf(dst, cap, "%s", c->dm_url != NULL ? c->dm_url : "off");
        return true;
    case MDM_DIRECTIVE_LEASE_TIME:
        (void)snprintf(dst, cap, "%llds", (long long)c->lease_life_us / sec);
        return true;
    default:
        /* Whether it was given at all; its value is a file or a number that
         * needs no inspection from outside. */
        (void)snprintf(dst, cap, "%s",
                       (c->set & UINT64_C(1) << id) != 0 ? "set" : "default");
        return (c->set & UINT64_C(1) << id) != 0 ||
               directives[id].preset != NULL;
    }
}
