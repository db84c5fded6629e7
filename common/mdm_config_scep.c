/*
 * mdm_config_scep.c - how the arguments of directives about the built-in SCEP
 * server are read.  Parent process only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_challenge.h"
#include "mdm_pkimsg.h"
#include "mdm_str.h"

#define DAY_US (86400 * MDM_SEC)
#define CHALLENGE_GOOD 16

/* Certificate and key stand in two directives, in any order: the second one
 * finds out whether they belong together. */
static mdm_rc set_authority(mdm_config_t *c, const char *arg, mdm_str_t *pem,
                            mdm_err_t *err)
{
    mdm_rc rc = mdm_config_read(c, arg, pem, err);

    if (rc == MDM_OK && pem == &c->scep_cert &&
        mdm_x509_check_bundle(*pem, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        return MDM_ECONFIG;
    }
    c->scep_file = mdm_arena_strdup(c->arena, arg);
    if (rc == MDM_OK && c->scep_file == NULL) {
        return mdm_err_nomem(err);
    }
    if (rc != MDM_OK || c->scep_cert.s == NULL || c->scep_key.s == NULL) {
        return rc;
    }
    if (mdm_authority_read(c->scep_cert, c->scep_key, &c->scep_authority,
                           &c->scep_weakness, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    return rc;
}

static mdm_rc set_challenge(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_rc rc = mdm_config_secret(c, arg, &c->scep_challenge, err);

    if (rc == MDM_OK && (c->scep_challenge.n == 0 ||
                         c->scep_challenge.n > MDM_CHALLENGE_MAX)) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "%s: the challenge in its first line is empty, or "
                         "longer than %d characters; make one with: openssl "
                         "rand -hex 16",
                         arg, MDM_CHALLENGE_MAX);
    }
    return rc;
}

/* Found out here, not in a worker, whether OpenSSL has it. */
static mdm_rc set_legacy(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_pkimsg_legacy_t *legacy = NULL;
    mdm_rc rc = mdm_config_flag(arg, &c->scep_legacy, err);

    if (rc == MDM_OK && c->scep_legacy &&
        mdm_pkimsg_legacy_new(&legacy, err) != MDM_OK) {
        rc = MDM_ECONFIG;
    }
    mdm_pkimsg_legacy_free(&legacy);
    return rc;
}

mdm_rc mdm_config_apply_scep(mdm_config_t *c, mdm_directive_id_t id,
                             const char *const *argv, mdm_err_t *err)
{
    switch (id) {
    case MDM_DIRECTIVE_SCEP_CERTIFICATE:
        return set_authority(c, argv[0], &c->scep_cert, err);
    case MDM_DIRECTIVE_SCEP_CERTIFICATE_KEY:
        return set_authority(c, argv[0], &c->scep_key, err);
    case MDM_DIRECTIVE_SCEP_VALIDITY:
        return mdm_config_time(argv[0], 3600 * MDM_SEC, 3650 * DAY_US,
                               &c->scep_validity_us, err);
    case MDM_DIRECTIVE_SCEP_CHALLENGE:
        return set_challenge(c, argv[0], err);
    default:
        return set_legacy(c, argv[0], err);
    }
}

mdm_rc mdm_config_check_scep(const mdm_config_t *c, const mdm_log_t *log,
                             mdm_err_t *err)
{
    if (c->scep_cert.s != NULL && c->scep_key.s == NULL) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "MDMSCEPCertificateFile (mdm_scep_certificate) %s "
                           "needs MDMSCEPCertificateKeyFile "
                           "(mdm_scep_certificate_key) beside it",
                           c->scep_file);
    }
    if (c->scep_cert.s == NULL && c->scep_key.s != NULL) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "MDMSCEPCertificateKeyFile "
                           "(mdm_scep_certificate_key) %s needs "
                           "MDMSCEPCertificateFile (mdm_scep_certificate) "
                           "beside it",
                           c->scep_file);
    }
    if (c->scep_challenge.n > 0 && c->scep_challenge.n < CHALLENGE_GOOD) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "the challenge of MDMSCEPChallengeFile "
                    "(mdm_scep_challenge_file) is shorter than %d characters "
                    "and may be guessed; make one with: openssl rand -hex 16",
                    CHALLENGE_GOOD);
    }
    if (c->scep_weakness != NULL) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "the authority of MDMSCEPCertificateFile "
                    "(mdm_scep_certificate): %s",
                    c->scep_weakness);
    }
    if ((*c->seen & MDM_SEEN_NO_DEVICE_CA) != 0 &&
        (*c->seen & MDM_SEEN_SCEP) == 0 && c->scep_authority == NULL) {
        return mdm_err_set(
            err, MDM_ECONFIG, 0,
            "a device endpoint needs MDMDeviceCACertificateFile "
            "(mdm_device_ca_certificate): the certificate authority that "
            "issued the devices' identities; or a scep endpoint, which "
            "issues them");
    }
    return MDM_OK;
}
