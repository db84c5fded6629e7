/*
 * mdm_config_profile.c - how the arguments of directives about enrolment
 * profiles are read: names, rights, URLs, who signs, what comes along.
 * Parent process only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_profile.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define TEXT_MAX 8192
#define IDENTIFIER_MAX 200
#define URL_MAX 2048
/* Two of the rights are worth nothing without another. */
#define RIGHT_INSPECT_PROFILES 1
#define RIGHT_INSTALL_PROFILES 2
#define RIGHT_INSPECT_PROVISIONING 64
#define RIGHT_INSTALL_PROVISIONING 128

static mdm_rc keep(mdm_config_t *c, mdm_str_t text, mdm_str_t *field,
                   mdm_err_t *err)
{
    return mdm_arena_str(c->arena, text, field) ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc set_text(mdm_config_t *c, const char *arg, mdm_str_t *field,
                       mdm_err_t *err)
{
    mdm_str_t text = mdm_str_from(arg);

    if (text.n == 0 || text.n > TEXT_MAX || !mdm_str_is_text(text)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "give a text of 1 to %d bytes of UTF-8 without "
                           "control characters",
                           TEXT_MAX);
    }
    return keep(c, text, field, err);
}

/* Reverse DNS: what devices compare. */
static mdm_rc set_identifier(mdm_config_t *c, const char *arg,
                             mdm_err_t *err)
{
    size_t n = strspn(arg, "abcdefghijklmnopqrstuvwxyz"
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    if (n == 0 || arg[n] != '\0' || n > IDENTIFIER_MAX) {
        return mdm_config_bad(err, arg,
                              "a name such as com.example.mdm, of letters, "
                              "digits and . - _");
    }
    return keep(c, mdm_str_from(arg), &c->profile.identifier, err);
}

static mdm_rc set_rights(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    uint64_t n = 0;

    if (!mdm_parse_u64(mdm_str_from(arg), MDM_RIGHTS_ALL, &n) || n == 0) {
        return mdm_config_bad(err, arg, "a sum of rights from 1 to 8191");
    }
    if (((n & RIGHT_INSTALL_PROFILES) != 0 &&
         (n & RIGHT_INSPECT_PROFILES) == 0) ||
        ((n & RIGHT_INSTALL_PROVISIONING) != 0 &&
         (n & RIGHT_INSPECT_PROVISIONING) == 0)) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "right 2 needs right 1, and right 128 needs right "
                           "64: devices refuse the profile otherwise");
    }
    c->profile.access_rights = (int64_t)n;
    return MDM_OK;
}

/* Devices take https:// alone, but for SCEP, whose messages are sealed. */
static mdm_rc set_url(mdm_config_t *c, const char *arg, bool plain_too,
                      mdm_str_t *field, mdm_err_t *err)
{
    mdm_str_t url = mdm_str_from(arg);
    bool secure = mdm_str_starts(url, "https://") && url.n > 8;
    bool plain = mdm_str_starts(url, "http://") && url.n > 7;

    if ((!secure && !(plain && plain_too)) || url.n > URL_MAX ||
        !mdm_str_is_solid(url) || strpbrk(arg, "\"<>\\^`{|}") != NULL) {
        return mdm_config_bad(err, arg, plain_too
                                            ? "a URL, https://... or http://..."
                                            : "a URL, https://...");
    }
    return keep(c, url, field, err);
}

static mdm_rc set_public_url(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_rc rc = set_url(c, arg, false, &c->profile.public_url, err);
    mdm_str_t *url = &c->profile.public_url;

    if (rc != MDM_OK) {
        return rc;
    }
    if (url->s[url->n - 1] == '/') {
        url->n--;
    }
    return memchr(url->s + 8, '/', url->n - 8) == NULL &&
                   memchr(url->s, '?', url->n) == NULL
               ? MDM_OK
               : mdm_config_bad(err, arg,
                                "scheme, name and port alone, such as "
                                "https://mdm.example.com:8443");
}

static mdm_rc set_topic(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t topic = mdm_str_from(arg);

    if (!mdm_str_starts(topic, "com.apple.mgmt.") ||
        topic.n > MDM_TOPIC_MAX || !mdm_str_is_solid(topic)) {
        return mdm_config_bad(err, arg,
                              "the topic of a push certificate, "
                              "com.apple.mgmt....");
    }
    return keep(c, topic, &c->profile.topic, err);
}

static mdm_rc set_signer(mdm_config_t *c, int argc, const char *const *argv,
                         mdm_err_t *err)
{
    mdm_str_t parts[3];
    mdm_rc rc = MDM_OK;
    int i;

    for (i = 0; rc == MDM_OK && i < argc; i++) {
        rc = mdm_config_read(c, argv[i], &parts[i], err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (mdm_signer_new(parts, (size_t)argc, &c->owned_signer, err) !=
        MDM_OK) {
        (void)mdm_err_prefix(err, "%s, %s", argv[0], argv[1]);
        return MDM_ECONFIG;
    }
    c->profile.signer = c->owned_signer;
    return MDM_OK;
}

static mdm_rc set_certificates(mdm_config_t *c, const char *arg,
                               mdm_err_t *err)
{
    mdm_str_t data;
    mdm_rc rc = mdm_config_read(c, arg, &data, err);

    if (rc == MDM_OK &&
        mdm_x509_list(data, c->arena, c->profile.certs,
                      MDM_PROFILE_CERTS_MAX, &c->profile.ncerts, err) !=
            MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    return rc;
}

static mdm_rc set_challenge(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t *text = &c->profile.scep_challenge;
    mdm_rc rc = mdm_config_secret(c, arg, text, err);

    if (rc == MDM_OK && (text->n == 0 || !mdm_str_is_text(*text))) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "%s: its first line is empty or not UTF-8", arg);
    }
    return rc;
}

mdm_rc mdm_config_apply_profile(mdm_config_t *c, mdm_directive_id_t id,
                                int argc, const char *const *argv,
                                mdm_err_t *err)
{
    switch (id) {
    case MDM_DIRECTIVE_PUBLIC_URL:
        return set_public_url(c, argv[0], err);
    case MDM_DIRECTIVE_PROFILE_ORGANIZATION:
        return set_text(c, argv[0], &c->profile.organization, err);
    case MDM_DIRECTIVE_PROFILE_NAME:
        return set_text(c, argv[0], &c->profile.name, err);
    case MDM_DIRECTIVE_PROFILE_IDENTIFIER:
        return set_identifier(c, argv[0], err);
    case MDM_DIRECTIVE_PROFILE_ACCESS_RIGHTS:
        return set_rights(c, argv[0], err);
    case MDM_DIRECTIVE_PROFILE_SIGNER:
        return set_signer(c, argc, argv, err);
    case MDM_DIRECTIVE_PROFILE_TOPIC:
        return set_topic(c, argv[0], err);
    case MDM_DIRECTIVE_PROFILE_SERVER_URL:
        return set_url(c, argv[0], false, &c->profile.server_url, err);
    case MDM_DIRECTIVE_PROFILE_CHECKIN_URL:
        return set_url(c, argv[0], false, &c->profile.checkin_url, err);
    case MDM_DIRECTIVE_PROFILE_SCEP_URL:
        return set_url(c, argv[0], true, &c->profile.scep_url, err);
    case MDM_DIRECTIVE_PROFILE_SCEP_CHALLENGE:
        return set_challenge(c, argv[0], err);
    case MDM_DIRECTIVE_PROFILE_SIGN_MESSAGE:
        return mdm_config_flag(argv[0], &c->profile.sign_message, err);
    case MDM_DIRECTIVE_PROFILE_CHECK_OUT:
        return mdm_config_flag(argv[0], &c->profile.check_out, err);
    case MDM_DIRECTIVE_PROFILE_USER_CHANNELS:
        return mdm_config_flag(argv[0], &c->profile.user_channels, err);
    default:
        return set_certificates(c, argv[0], err);
    }
}

mdm_rc mdm_config_check_profile(const mdm_config_t *server,
                                const mdm_log_t *log, mdm_err_t *err)
{
    const mdm_profile_settings_t *p = &server->profile;

    if (p->scep_challenge.s != NULL && p->scep_url.s == NULL) {
        return mdm_err_set(
            err, MDM_ECONFIG, 0,
            "MDMProfileSCEPChallengeFile (mdm_profile_scep_challenge) is the "
            "challenge of an outside SCEP server: name that by "
            "MDMProfileSCEPURL (mdm_profile_scep_url), or remove it");
    }
    if (p->scep_url.s != NULL && p->scep_challenge.s == NULL) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "MDMProfileSCEPURL (mdm_profile_scep_url) without "
                    "MDMProfileSCEPChallengeFile "
                    "(mdm_profile_scep_challenge): the challenge in profiles "
                    "is one of this server");
    }
    if (p->signer != NULL &&
        mdm_signer_end(p->signer) <
            mdm_wall_us(NULL) + 30 * 86400 * MDM_SEC) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "the certificate of MDMProfileSigner "
                    "(mdm_profile_signer) has ended or ends within 30 days: "
                    "devices call such profiles not verified");
    }
    return MDM_OK;
}
