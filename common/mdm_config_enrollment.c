/*
 * mdm_config_enrollment.c - how the arguments of directives about the ways
 * into management are read: who may introduce himself and how, log-ins,
 * service discovery.  Parent process only.
 */
#include "mdm_config_int.h"

#include <stdlib.h>
#include <string.h>

#include "mdm_machineinfo.h"
#include "mdm_str.h"

#define DAY_US (86400 * MDM_SEC)

/* The value behind "name="; absent when it is another word. */
static mdm_str_t value_of(const char *arg, const char *name)
{
    mdm_str_t value = mdm_str_from(arg);

    return mdm_str_is(mdm_str_split(&value, '='), name) ? value : MDM_STR_NONE;
}

/* ---- ways --------------------------------------------------------------- */

const char *mdm_config_flow_name(mdm_flow_t flow)
{
    static const struct {
        mdm_flow_t flow;
        const char *name;
    } names[] = {{MDM_FLOW_DOWNLOAD, "download"}, {MDM_FLOW_DEVICE, "device"},
                 {MDM_FLOW_OTA, "ota"},           {MDM_FLOW_BYOD, "byod"},
                 {MDM_FLOW_ADDE, "adde"},         {MDM_FLOW_LOGIN, "login"}};
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(names); i++) {
        if (names[i].flow == flow) {
            return names[i].name;
        }
    }
    return NULL;
}

static mdm_rc set_flows(mdm_config_t *c, int argc, const char *const *argv,
                        mdm_err_t *err)
{
    const unsigned alone = MDM_FLOW_BYOD | MDM_FLOW_ADDE | MDM_FLOW_LOGIN;
    const char *name;
    unsigned bit = 0;
    int i;

    c->flows = 0;
    for (i = 0; i < argc; i++) {
        for (bit = 1; (name = mdm_config_flow_name((mdm_flow_t)bit)) != NULL;
             bit <<= 1) {
            if (strcmp(argv[i], name) == 0) {
                break;
            }
        }
        if (name == NULL || (c->flows & bit) != 0) {
            return mdm_config_bad(err, argv[i],
                                  "each of download, device and ota once at "
                                  "most, or one of byod, adde and login "
                                  "alone");
        }
        c->flows |= bit;
    }
    if ((c->flows & alone) != 0 && argc > 1) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "byod, adde and login stand alone: give each of "
                           "them a location of its own");
    }
    return MDM_OK;
}

/* ---- devices ------------------------------------------------------------ */

static mdm_rc set_origin(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t pem;
    mdm_rc rc;

    rc = mdm_config_read(c, arg, &pem, err);
    if (rc == MDM_OK && mdm_trust_new(pem, &c->owned_origin, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    c->origin_trust = c->owned_origin;
    return rc;
}

/* "Mac=26.1:25B78" */
static mdm_rc read_minimum(mdm_config_t *c, const char *arg,
                           mdm_minimum_os_t *minimum, mdm_err_t *err)
{
    mdm_str_t rest = mdm_str_from(arg);
    mdm_str_t family = mdm_str_split(&rest, '=');
    mdm_str_t version = rest.s != NULL ? mdm_str_split(&rest, ':')
                                       : MDM_STR_NONE;

    minimum->family = mdm_machine_family_named(family);
    if (minimum->family == NULL || !mdm_os_version_is(version) ||
        (rest.s != NULL && (rest.n == 0 || !mdm_str_is_solid(rest)))) {
        return mdm_config_bad(err, arg,
                              "family=version or family=version:build, such "
                              "as iPhone=26.1 or Mac=26.1:25B78; families "
                              "are iPhone, iPad, iPod, Mac, AppleTV, Watch "
                              "and RealityDevice");
    }
    return mdm_arena_str(c->arena, version, &minimum->version) &&
                   mdm_arena_str(c->arena, rest, &minimum->build)
               ? MDM_OK
               : mdm_err_nomem(err);
}

static mdm_rc set_minimum_os(mdm_config_t *c, int argc,
                             const char *const *argv, mdm_err_t *err)
{
    mdm_minimum_os_t *all =
        mdm_arena_alloc(c->arena, (size_t)argc * sizeof(*all));
    mdm_rc rc = all != NULL ? MDM_OK : mdm_err_nomem(err);
    int i;
    int j;

    for (i = 0; rc == MDM_OK && i < argc; i++) {
        rc = read_minimum(c, argv[i], &all[i], err);
        for (j = 0; rc == MDM_OK && j < i; j++) {
            if (strcmp(all[i].family, all[j].family) == 0) {
                rc = mdm_config_bad(err, argv[i], "each family once");
            }
        }
    }
    c->minimum_os = all;
    c->nminimum_os = rc == MDM_OK ? (size_t)argc : 0;
    return rc;
}

static int compare(const void *a, const void *b)
{
    const mdm_str_t *x = a;
    const mdm_str_t *y = b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);

    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

bool mdm_config_has_serial(const mdm_serials_t *serials, mdm_str_t serial)
{
    return serial.n > 0 && bsearch(&serial, serials->all, serials->n,
                                   sizeof(serial), compare) != NULL;
}

/* One a line; the lines stay where they were read. */
static mdm_rc set_serials(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_serials_t *serials = mdm_arena_alloc(c->arena, sizeof(*serials));
    mdm_str_t text = MDM_STR_NONE;
    mdm_str_t rest;
    mdm_str_t line;
    size_t lines = 0;
    mdm_rc rc;

    rc = serials != NULL ? mdm_config_read(c, arg, &text, err)
                         : mdm_err_nomem(err);
    for (rest = text; rc == MDM_OK && rest.s != NULL; lines++) {
        (void)mdm_str_split(&rest, '\n');
    }
    if (rc == MDM_OK) {
        serials->all =
            mdm_arena_alloc(c->arena, (lines + 1) * sizeof(*serials->all));
        rc = serials->all != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    for (lines = 1; rc == MDM_OK && text.s != NULL; lines++) {
        line = mdm_str_split(&text, '\n');
        if (line.n > 0 && line.s[line.n - 1] == '\r') {
            line.n--;
        }
        line = mdm_str_trim(line);
        if (line.n == 0 || line.s[0] == '#') {
            continue;
        }
        if (!mdm_str_is_solid(line)) {
            rc = mdm_err_set(err, MDM_ECONFIG, 0,
                             "%s, line %zu: a serial number has letters and "
                             "digits only; give one on each line",
                             arg, lines);
        }
        serials->all[serials->n++] = line;
    }
    if (rc == MDM_OK) {
        qsort(serials->all, serials->n, sizeof(*serials->all), compare);
    }
    c->serials = serials;
    return rc;
}

/* ---- log-ins ------------------------------------------------------------ */

/* "https://..." or "/path": text that can stand in a header and in JSON. */
static bool is_url(const char *arg)
{
    mdm_str_t text = mdm_str_from(arg);

    return (mdm_str_starts(text, "https://") ||
            (text.n > 0 && text.s[0] == '/')) &&
           mdm_str_is_solid(text) && strpbrk(arg, "\"\\") == NULL;
}

static mdm_rc set_login(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    if (!is_url(arg)) {
        return mdm_config_bad(err, arg,
                              "the log-in page as https://... or as a path "
                              "of this site, such as /login");
    }
    c->login_url = mdm_arena_strdup(c->arena, arg);
    return c->login_url != NULL ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc set_user(mdm_config_t *c, int argc, const char *const *argv,
                       mdm_err_t *err)
{
    mdm_str_t variable;
    mdm_str_t domain;
    int i;

    for (i = 0; i < argc; i++) {
        variable = value_of(argv[i], "variable");
        domain = value_of(argv[i], "domain");
        if (variable.n > 0 && c->user_variable == NULL &&
            mdm_str_is_solid(variable)) {
            c->user_variable = mdm_arena_strdup(c->arena, variable.s);
        } else if (domain.n > 0 && c->user_domain == NULL &&
                   mdm_str_is_solid(domain) &&
                   memchr(domain.s, '@', domain.n) == NULL) {
            c->user_domain = mdm_arena_strdup(c->arena, domain.s);
        } else {
            return mdm_config_bad(err, argv[i],
                                  "variable=NAME and domain=NAME, each once "
                                  "at most");
        }
    }
    return MDM_OK;
}

static mdm_rc set_token_life(mdm_config_t *c, int argc,
                             const char *const *argv, mdm_err_t *err)
{
    mdm_rc rc = mdm_config_time(argv[0], 60 * MDM_SEC, DAY_US,
                                &c->token_first_us, err);

    c->token_life_us = 0;
    return rc == MDM_OK && argc > 1
               ? mdm_config_time_or_off(argv[1], 3600 * MDM_SEC,
                                        3650 * DAY_US, &c->token_life_us, err)
               : rc;
}

/* ---- service discovery -------------------------------------------------- */

static mdm_rc set_discovery(mdm_config_t *c, int argc,
                            const char *const *argv, mdm_err_t *err)
{
    mdm_discovery_t *d = mdm_arena_alloc(c->arena, sizeof(*d));
    mdm_discovery_t **last = &c->discovery;
    int i;

    if (d == NULL) {
        return mdm_err_nomem(err);
    }
    if (strcmp(argv[0], "mdm-byod") != 0 && strcmp(argv[0], "mdm-adde") != 0) {
        return mdm_config_bad(err, argv[0], "mdm-byod or mdm-adde");
    }
    if (!is_url(argv[1])) {
        return mdm_config_bad(err, argv[1],
                              "where devices enrol as https://... or as a "
                              "path of this site, such as /byod");
    }
    d->version = mdm_arena_strdup(c->arena, argv[0]);
    d->url = mdm_arena_strdup(c->arena, argv[1]);
    for (i = 2; i < argc; i++) {
        d->families[i - 2] = mdm_machine_family_named(mdm_str_from(argv[i]));
        if (d->families[i - 2] == NULL) {
            return mdm_config_bad(err, argv[i],
                                  "families of devices: iPhone, iPad, iPod, "
                                  "Mac, AppleTV, Watch, RealityDevice");
        }
    }
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = d;
    return d->version != NULL && d->url != NULL ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_config_apply_enrollment(mdm_config_t *c, mdm_directive_id_t id,
                                   int argc, const char *const *argv,
                                   mdm_err_t *err)
{
    switch (id) {
    case MDM_DIRECTIVE_ENROLLMENT_FLOW:
        return set_flows(c, argc, argv, err);
    case MDM_DIRECTIVE_ENROLLMENT_CA_CERTIFICATE:
        return set_origin(c, argv[0], err);
    case MDM_DIRECTIVE_ENROLLMENT_SIGNATURE:
        c->accept_unverified = strcmp(argv[0], "accept-unverified") == 0;
        return c->accept_unverified || strcmp(argv[0], "require") == 0
                   ? MDM_OK
                   : mdm_config_bad(err, argv[0],
                                    "require or accept-unverified");
    case MDM_DIRECTIVE_ENROLLMENT_MINIMUM_OS:
        return set_minimum_os(c, argc, argv, err);
    case MDM_DIRECTIVE_ENROLLMENT_SERIAL:
        return set_serials(c, argv[0], err);
    case MDM_DIRECTIVE_ENROLLMENT_LOGIN:
        return set_login(c, argv[0], err);
    case MDM_DIRECTIVE_ENROLLMENT_USER:
        return set_user(c, argc, argv, err);
    case MDM_DIRECTIVE_ENROLLMENT_TOKEN_LIFE:
        return set_token_life(c, argc, argv, err);
    default:
        return set_discovery(c, argc, argv, err);
    }
}

/* ---- across directives -------------------------------------------------- */

static void warn(const mdm_log_t *log, const char *text)
{
    mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING, "%s", text);
}

mdm_rc mdm_config_check_enrollment(const mdm_config_t *server,
                                   const mdm_config_t *location,
                                   const mdm_log_t *log, mdm_err_t *err)
{
    const unsigned account = MDM_FLOW_BYOD | MDM_FLOW_ADDE;

    if (mdm_config_check_profile(server, log, err) != MDM_OK) {
        return MDM_ECONFIG;
    }
    if ((location->flows & account) != 0 && location->login_url == NULL) {
        return mdm_err_set(
            err, MDM_ECONFIG, 0,
            "MDMEnrollmentFlow byod or adde (mdm_enrollment_flow) needs "
            "MDMEnrollmentLogin (mdm_enrollment_login): the page where users "
            "log in");
    }
    if ((location->flows & (MDM_FLOW_DEVICE | MDM_FLOW_OTA)) != 0 &&
        location->set[MDM_DIRECTIVE_ENROLLMENT_FLOW] &&
        server->origin_trust == NULL && !location->accept_unverified) {
        warn(log, "MDMEnrollmentFlow (mdm_enrollment_flow) names device or "
                  "ota, but there is no MDMEnrollmentCACertificateFile "
                  "(mdm_enrollment_ca_certificate): devices that introduce "
                  "themselves are refused");
    }
    if (location->accept_unverified && location->serials != NULL) {
        warn(log, "MDMEnrollmentSerialFile (mdm_enrollment_serial) proves "
                  "nothing beside MDMEnrollmentSignature accept-unverified "
                  "(mdm_enrollment_signature): anybody may name one of these "
                  "serial numbers");
    }
    return MDM_OK;
}
