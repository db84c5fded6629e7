/*
 * mdm_config_ends.c - the certificates of a configuration that end some day:
 * warnings of those that end soon, while it is read, and whose ends a running
 * server watches (mdm_expiry.h).  Parent process only, but for
 * mdm_config_expiry().
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_pushcert.h"
#include "mdm_str.h"
#include "mdm_time.h"

static void warn_of_authority(const mdm_config_t *main, const char *subject,
                              int64_t not_after_us, const mdm_log_t *log)
{
    int64_t now = mdm_wall_us(NULL);
    char end[64];

    if (not_after_us < now + main->push_cert_warn_us) {
        mdm_log_msg(log, MDM_LOG_WARNING,
                    not_after_us < now ? MDM_MSG_DEVICE_CA_EXPIRED
                                       : MDM_MSG_DEVICE_CA_EXPIRING,
                    "the device certificate authority %s %s", subject,
                    mdm_pushcert_describe_end(not_after_us, now, end,
                                              sizeof(end)));
    }
}

static void warn_of_pushcert(const mdm_config_t *main,
                             const mdm_keypair_t *pair, const mdm_log_t *log)
{
    int64_t now = mdm_wall_us(NULL);
    char end[64];

    if (pair->not_after_us < now + main->push_cert_warn_us) {
        mdm_log_msg(log, MDM_LOG_WARNING,
                    pair->not_after_us < now
                        ? MDM_MSG_PUSH_CERTIFICATE_EXPIRED
                        : MDM_MSG_PUSH_CERTIFICATE_EXPIRING,
                    "the push certificate of %.*s %s",
                    MDM_STR_ARG(pair->topic),
                    mdm_pushcert_describe_end(pair->not_after_us, now, end,
                                              sizeof(end)));
    }
}

void mdm_config_warn_ends(const mdm_config_t *main, const mdm_log_t *log)
{
    char subject[MDM_TRUST_SUBJECT_SIZE];
    size_t i;

    for (i = 0; i < main->npush_certs; i++) {
        warn_of_pushcert(main, main->push_certs[i], log);
    }
    if (main->scep_authority != NULL) {
        mdm_x509_subject(mdm_authority_cert(main->scep_authority), subject);
        warn_of_authority(main, subject,
                          mdm_authority_not_after(main->scep_authority), log);
    }
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

void mdm_config_note_trust(const mdm_config_t *main,
                           const mdm_trust_t *trust, const mdm_log_t *log)
{
    mdm_found_t *found = main->found;
    const mdm_trust_ca_t *list;
    bool news = false;
    size_t n;
    size_t i;

    list = mdm_trust_cas(trust, &n);
    for (i = 0; i < n; i++) {
        if (!is_noted(found, &list[i])) {
            warn_of_authority(main, list[i].subject, list[i].not_after_us,
                              log);
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
                                  .issuer = main->scep_authority,
                                  .trusts = main->found->trusts,
                                  .ntrusts = main->found->ntrusts,
                                  .loaded_us = main->loaded_us};

    return expiry;
}
