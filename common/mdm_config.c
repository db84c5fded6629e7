/*
 * mdm_config.c - configuration nodes: make, merge, check, show.  The table
 * itself is mdm_directives.def; how each argument is read stands in
 * mdm_config_set.c.  Parent process only, one thread.
 */
#include "mdm_config_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_machineinfo.h"
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
static bool is_repeatable(mdm_directive_id_t id)
{
    return id == MDM_DIRECTIVE_PUSH_CERTIFICATE ||
           id == MDM_DIRECTIVE_SERVICE_DISCOVERY;
}

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
    config->seen = &config->seen_flags;
    config->site = &config->site_own;
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
        mdm_trust_free(&(*config)->owned_origin);
        mdm_jwt_key_free(&(*config)->owned_token_key);
        mdm_signer_free(&(*config)->owned_signer);
        mdm_authority_release(&(*config)->scep_authority);
        mdm_arena_free(&(*config)->arena);
        free(*config);
        *config = NULL;
    }
}

mdm_rc mdm_config_set(mdm_config_t *config, mdm_directive_id_t id, int argc,
                      const char *const *argv, mdm_err_t *err)
{
    const mdm_directive_t *d = &directives[id];
    mdm_rc rc;

    if (argc < d->min_args || (d->max_args >= 0 && argc > d->max_args)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "wrong number of arguments; syntax: %s", d->syntax);
    }
    if (config->scope != d->scope) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "is not allowed here");
    }
    if (config->set[id] && !is_repeatable(id)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "is given twice here; remove one");
    }
    rc = mdm_config_apply(config, id, argc, argv, err);
    if (rc == MDM_OK) {
        config->set[id] = true;
    }
    return rc;
}

size_t mdm_config_size(void)
{
    return sizeof(mdm_config_t);
}

#define INHERIT(id, field)                                                    \
    if (!child->set[MDM_DIRECTIVE_##id]) {                                    \
        merged->field = parent->field;                                        \
    }

static void merge_profile(mdm_config_t *merged, const mdm_config_t *parent,
                          const mdm_config_t *child)
{
    INHERIT(PUBLIC_URL, profile.public_url)
    INHERIT(PROFILE_ORGANIZATION, profile.organization)
    INHERIT(PROFILE_NAME, profile.name)
    INHERIT(PROFILE_IDENTIFIER, profile.identifier)
    INHERIT(PROFILE_ACCESS_RIGHTS, profile.access_rights)
    INHERIT(PROFILE_SIGNER, profile.signer)
    INHERIT(PROFILE_TOPIC, profile.topic)
    INHERIT(PROFILE_SERVER_URL, profile.server_url)
    INHERIT(PROFILE_CHECKIN_URL, profile.checkin_url)
    INHERIT(PROFILE_SCEP_URL, profile.scep_url)
    INHERIT(PROFILE_SCEP_CHALLENGE, profile.scep_challenge)
    INHERIT(PROFILE_SIGN_MESSAGE, profile.sign_message)
    INHERIT(PROFILE_CHECK_OUT, profile.check_out)
    INHERIT(PROFILE_USER_CHANNELS, profile.user_channels)
    INHERIT(PROFILE_CERTIFICATE, profile.ncerts)
    if (!child->set[MDM_DIRECTIVE_PROFILE_CERTIFICATE]) {
        memcpy(merged->profile.certs, parent->profile.certs,
               sizeof(merged->profile.certs));
    }
}

void mdm_config_merge(mdm_config_t *merged, const mdm_config_t *parent,
                      const mdm_config_t *child)
{
    size_t i;

    if (merged != child) {
        *merged = *child;
        merged->arena = NULL;
        merged->owned_trust = NULL;
        merged->owned_origin = NULL;
        merged->owned_token_key = NULL;
        merged->owned_signer = NULL;
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
    INHERIT(ENROLLMENT_FLOW, flows)
    INHERIT(ENROLLMENT_CA_CERTIFICATE, origin_trust)
    INHERIT(ENROLLMENT_SIGNATURE, accept_unverified)
    INHERIT(ENROLLMENT_MINIMUM_OS, minimum_os)
    INHERIT(ENROLLMENT_MINIMUM_OS, nminimum_os)
    INHERIT(ENROLLMENT_SERIAL, serials)
    INHERIT(ENROLLMENT_LOGIN, login_url)
    INHERIT(ENROLLMENT_USER, user_variable)
    INHERIT(ENROLLMENT_USER, user_domain)
    INHERIT(ENROLLMENT_TOKEN_LIFE, token_first_us)
    INHERIT(ENROLLMENT_TOKEN_LIFE, token_life_us)
    INHERIT(SERVICE_DISCOVERY, discovery)
    INHERIT(TOKEN_SIGNER, token_key)
    INHERIT(TOKEN_SIGNER, token_issuer)
    merge_profile(merged, parent, child);
    for (i = 0; i < MDM_DIRECTIVE_COUNT; i++) {
        if (i != MDM_DIRECTIVE_ENDPOINT) {
            merged->set[i] = merged->set[i] || parent->set[i];
        }
    }
}

bool mdm_config_is_endpoint(const mdm_config_t *location)
{
    return location != NULL && location->role != MDM_ROLE_OFF;
}

static void warn(const mdm_log_t *log, const char *text)
{
    mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING, "%s", text);
}

/* What is wrong with one directive alone was refused where it stands. */
mdm_rc mdm_config_check(const mdm_config_t *c, const mdm_log_t *log,
                        mdm_err_t *err)
{
    if (mdm_config_check_locked(c, err) != MDM_OK) {
        return MDM_ECONFIG;
    }
    if (mdm_config_check_scep(c, log, err) != MDM_OK) {
        return MDM_ECONFIG;
    }
    mdm_config_warn_ends(c, log);
    if (!c->push && c->npush_certs > 0) {
        warn(log, "push certificates are named but MDMPush (mdm_push) is off: "
                  "this server sends no pushes");
    }
    return MDM_OK;
}

/* How devices prove themselves at one of their endpoints. */
static mdm_rc check_identity(const mdm_config_t *main,
                             const mdm_config_t *server,
                             const mdm_config_t *location,
                             const mdm_log_t *log, mdm_err_t *err)
{
    bool header = (location->prove & MDM_PROVE_HEADER) != 0;
    const mdm_nets_t *proxies = location->trusted_proxies;
    size_t i;

    if (server->device_trust == NULL) {
        *main->seen |= MDM_SEEN_NO_DEVICE_CA; /* judged when all is read */
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

/* Profiles name these places. */
static void note_place(const mdm_config_t *server,
                       const mdm_config_t *location)
{
    mdm_site_t *site = server->site;
    const char **place = location->role == MDM_ROLE_MDM       ? &site->mdm
                         : location->role == MDM_ROLE_SERVER  ? &site->server
                         : location->role == MDM_ROLE_CHECKIN ? &site->checkin
                         : location->role == MDM_ROLE_SCEP    ? &site->scep
                                                              : NULL;

    if (place != NULL && *place == NULL) {
        *place = location->path;
    }
}

mdm_rc mdm_config_check_endpoint(const mdm_config_t *main,
                                 const mdm_config_t *server,
                                 const mdm_config_t *location,
                                 const mdm_log_t *log, mdm_err_t *err)
{
    main->found->endpoint = true;
    note_place(server, location);
    switch (location->role) {
    case MDM_ROLE_OFF:
        break;
    case MDM_ROLE_SCEP:
        *main->seen |= MDM_SEEN_SCEP;
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
    case MDM_ROLE_ENROLL:
        return mdm_config_check_enrollment(server, location, log, err);
    case MDM_ROLE_WELLKNOWN:
        if (location->discovery == NULL) {
            return mdm_err_set(
                err, MDM_ECONFIG, 0,
                "the wellknown role needs MDMServiceDiscovery "
                "(mdm_service_discovery): where devices enrol with an "
                "account");
        }
        break;
    case MDM_ROLE_MDM:
    case MDM_ROLE_SERVER:
    case MDM_ROLE_CHECKIN:
        if (check_identity(main, server, location, log, err) != MDM_OK) {
            return MDM_ECONFIG;
        }
        if (server->device_trust != NULL) {
            mdm_config_note_trust(main, server->device_trust, log);
        }
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

const char *mdm_config_user_variable(const mdm_config_t *location)
{
    return location->user_variable;
}

/* Strangers may come to the ways into management: they are not waited for
 * longer than what they have to say. */
uint64_t mdm_config_body_max(const mdm_config_t *location)
{
    switch (location->role) {
    case MDM_ROLE_ENROLL:
    case MDM_ROLE_WELLKNOWN:
        return MDM_MACHINEINFO_MAX;
    case MDM_ROLE_SCEP:
        return MDM_SCEP_BODY_MAX;
    default:
        return location->plist_limits.size;
    }
}

static const char *role_name(mdm_role_t role)
{
    static const char *const names[] = {"off", "mdm", "server", "checkin",
                                        "api", "status", "enroll",
                                        "wellknown", "scep"};

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
                       c->set[id] ? "set" : "default");
        return c->set[id] || directives[id].preset != NULL;
    }
}
