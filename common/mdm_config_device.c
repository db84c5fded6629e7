/*
 * mdm_config_device.c - how the arguments of directives about devices are
 * read: who they are and what they may send.  Parent process only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_str.h"

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
                return mdm_config_bad(err, argv[i],
                                      "each of size, depth, items once");
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
            return mdm_config_bad(err, argv[i],
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

    rc = mdm_config_read(c, arg, &pem, err);
    if (rc == MDM_OK && mdm_trust_new(pem, &c->owned_trust, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    c->device_trust = c->owned_trust;
    return rc;
}

/* RFC 9110's token. */
static bool is_header_name(mdm_str_t name)
{
    size_t i;

    for (i = 0; i < name.n; i++) {
        if (!((name.s[i] >= 'a' && name.s[i] <= 'z') ||
              (name.s[i] >= 'A' && name.s[i] <= 'Z') ||
              (name.s[i] >= '0' && name.s[i] <= '9') || name.s[i] == '-' ||
              name.s[i] == '_')) {
            return false;
        }
    }
    return name.n > 0 && name.n <= 64;
}

static mdm_rc set_identity(mdm_config_t *c, int argc, const char *const *argv,
                           mdm_err_t *err)
{
    mdm_str_t value;
    mdm_str_t name;
    unsigned bit;
    int i;

    c->prove = 0;
    for (i = 0; i < argc; i++) {
        value = mdm_str_from(argv[i]);
        name = mdm_str_split(&value, '=');
        bit = mdm_str_is(name, "certificate") && value.s == NULL
                  ? MDM_PROVE_CERTIFICATE
              : mdm_str_is(name, "signature") && value.s == NULL
                  ? MDM_PROVE_SIGNATURE
              : mdm_str_is(name, "header") && is_header_name(value)
                  ? MDM_PROVE_HEADER
                  : 0U;
        if (bit == 0 || (c->prove & bit) != 0) {
            return mdm_config_bad(err, argv[i],
                                  "each of certificate, signature and "
                                  "header=NAME once at most");
        }
        c->prove |= bit;
        if (bit == MDM_PROVE_HEADER) {
            c->identity_header = mdm_arena_dup(c->arena, value.s, value.n);
            if (c->identity_header == NULL) {
                return mdm_err_nomem(err);
            }
        }
    }
    return MDM_OK;
}

static mdm_rc set_proxies(mdm_config_t *c, int argc, const char *const *argv,
                          mdm_err_t *err)
{
    mdm_nets_t *all = mdm_arena_alloc(c->arena, sizeof(*all));
    int i;

    if (all != NULL) {
        all->nets = mdm_arena_alloc(c->arena,
                                    (size_t)argc * sizeof(*all->nets));
    }
    if (all == NULL || all->nets == NULL) {
        return mdm_err_nomem(err);
    }
    for (i = 0; i < argc; i++) {
        if (mdm_net_parse(mdm_str_from(argv[i]), &all->nets[i], err) !=
            MDM_OK) {
            (void)mdm_err_prefix(err, "\"%s\" is wrong; give addresses such "
                                      "as 192.0.2.1, 10.0.0.0/8 or "
                                      "2001:db8::/32",
                                 argv[i]);
            return MDM_ECONFIG;
        }
    }
    all->n = (size_t)argc;
    c->trusted_proxies = all;
    return MDM_OK;
}

mdm_rc mdm_config_apply_device(mdm_config_t *c, mdm_directive_id_t id,
                               int argc, const char *const *argv,
                               mdm_err_t *err)
{
    switch (id) {
    case MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE:
        return set_device_ca(c, argv[0], err);
    case MDM_DIRECTIVE_DEVICE_IDENTITY:
        return set_identity(c, argc, argv, err);
    case MDM_DIRECTIVE_USER_AUTHENTICATE:
        c->user_challenge = strcmp(argv[0], "empty-challenge") == 0;
        return c->user_challenge || strcmp(argv[0], "refuse") == 0
                   ? MDM_OK
                   : mdm_config_bad(err, argv[0],
                                    "refuse or empty-challenge");
    case MDM_DIRECTIVE_RETROACTIVE_BINDING:
        return mdm_config_flag(argv[0], &c->retroactive_binding, err);
    case MDM_DIRECTIVE_MIGRATION:
        return mdm_config_flag(argv[0], &c->migration, err);
    case MDM_DIRECTIVE_TRUSTED_PROXY:
        return set_proxies(c, argc, argv, err);
    default:
        return set_limits(c, argc, argv, err);
    }
}
