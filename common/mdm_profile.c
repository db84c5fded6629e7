/*
 * mdm_profile.c - see mdm_profile.h.
 */
#include "mdm_profile.h"

#include <stdio.h>
#include <stdlib.h>

#include "mdm_plist.h"
#include "mdm_str.h"
#include "mdm_x509.h"

#define IDENTIFIER_MAX 256
#define KEY_BITS 2048
#define KEY_SIGN_AND_ENCRYPT 5

/* What every payload has. */
typedef struct head {
    char identifier[IDENTIFIER_MAX];
    char uuid[MDM_UUID_SIZE];
} head_t;

static mdm_plist_put_t text(const char *key, mdm_str_t value)
{
    return (mdm_plist_put_t){
        .key = key,
        .type = value.s != NULL ? MDM_PLIST_STRING : MDM_PLIST_ABSENT,
        .value = value};
}

static mdm_plist_put_t number(const char *key, int64_t value)
{
    return (mdm_plist_put_t){
        .key = key, .type = MDM_PLIST_INTEGER, .number = value};
}

static mdm_plist_put_t flag(const char *key, bool value)
{
    return (mdm_plist_put_t){
        .key = key, .type = MDM_PLIST_BOOL, .flag = value};
}

static mdm_plist_put_t group(const char *key, mdm_plist_type_t type,
                             const mdm_plist_put_t *items, size_t n)
{
    return (mdm_plist_put_t){
        .key = key, .type = type, .items = items, .n = n};
}

static mdm_rc head_make(head_t *head, const mdm_profile_t *profile,
                        const char *suffix, mdm_err_t *err)
{
    int n = snprintf(head->identifier, sizeof(head->identifier), "%.*s%s",
                     MDM_STR_ARG(profile->identifier), suffix);

    if (n < 0 || (size_t)n >= sizeof(head->identifier)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "the identifier is too long");
    }
    return mdm_uuid_new(head->uuid, err);
}

/* The whole, around `content`. */
static mdm_rc write_whole(const mdm_profile_t *profile, const char *type,
                          const head_t *head, mdm_plist_put_t content,
                          mdm_buf_t *xml, mdm_err_t *err)
{
    const mdm_plist_put_t items[] = {
        content,
        text("PayloadDisplayName", profile->name),
        text("PayloadIdentifier", mdm_str_from(head->identifier)),
        text("PayloadOrganization", profile->organization),
        text("PayloadScope", MDM_STR("System")),
        text("PayloadType", mdm_str_from(type)),
        text("PayloadUUID", mdm_str_from(head->uuid)),
        number("PayloadVersion", 1),
    };

    return mdm_plist_write(items, MDM_ARRAY_LEN(items), xml, err);
}

/* Calls `next` with the SCEP payload, whose parts live on the stack. */
typedef mdm_rc with_scep_fn(const mdm_profile_t *profile,
                            const head_t *head, mdm_plist_put_t scep,
                            mdm_buf_t *xml, mdm_err_t *err);

static mdm_rc with_scep(const mdm_profile_t *profile, with_scep_fn *next,
                        mdm_buf_t *xml, mdm_err_t *err)
{
    const mdm_plist_put_t pair[] = {text(NULL, MDM_STR("CN")),
                                    text(NULL, profile->common_name)};
    const mdm_plist_put_t rdn[] = {group(NULL, MDM_PLIST_ARRAY, pair, 2)};
    const mdm_plist_put_t subject[] = {group(NULL, MDM_PLIST_ARRAY, rdn, 1)};
    const mdm_plist_put_t settings[] = {
        text("Challenge", profile->challenge),
        text("Key Type", MDM_STR("RSA")),
        number("Key Usage", KEY_SIGN_AND_ENCRYPT),
        number("Keysize", KEY_BITS),
        text("Name", MDM_STR("mdm")),
        group("Subject", MDM_PLIST_ARRAY, subject, 1),
        text("URL", profile->scep_url),
    };
    head_t head;
    mdm_rc rc = head_make(&head, profile, ".identity", err);
    const mdm_plist_put_t payload[] = {
        group("PayloadContent", MDM_PLIST_DICT, settings,
              MDM_ARRAY_LEN(settings)),
        text("PayloadDisplayName", MDM_STR("Identity")),
        text("PayloadIdentifier", mdm_str_from(head.identifier)),
        text("PayloadType", MDM_STR("com.apple.security.scep")),
        text("PayloadUUID", mdm_str_from(head.uuid)),
        number("PayloadVersion", 1),
    };

    return rc == MDM_OK
               ? next(profile, &head,
                      group(NULL, MDM_PLIST_DICT, payload,
                            MDM_ARRAY_LEN(payload)),
                      xml, err)
               : rc;
}

/* ---- enrolment ---------------------------------------------------------- */

/* A certificate that the device is to know; its parts live in `part`. */
typedef struct cert_part {
    head_t head;
    mdm_plist_put_t items[6];
} cert_part_t;

static mdm_rc cert_payload(const mdm_profile_t *profile, size_t i,
                           cert_part_t *part, mdm_plist_put_t *put_r,
                           mdm_err_t *err)
{
    char suffix[32];
    mdm_rc rc;

    (void)snprintf(suffix, sizeof(suffix), ".certificate-%zu", i + 1);
    rc = head_make(&part->head, profile, suffix, err);
    part->items[0] = (mdm_plist_put_t){.key = "PayloadContent",
                                       .type = MDM_PLIST_DATA,
                                       .value = profile->certs[i]};
    part->items[1] = text("PayloadDisplayName", MDM_STR("Certificate"));
    part->items[2] = text("PayloadIdentifier",
                          mdm_str_from(part->head.identifier));
    part->items[3] = text("PayloadType",
                          mdm_x509_is_root(profile->certs[i])
                              ? MDM_STR("com.apple.security.root")
                              : MDM_STR("com.apple.security.pkcs1"));
    part->items[4] = text("PayloadUUID", mdm_str_from(part->head.uuid));
    part->items[5] = number("PayloadVersion", 1);
    *put_r = group(NULL, MDM_PLIST_DICT, part->items,
                   MDM_ARRAY_LEN(part->items));
    return rc;
}

/* The whole, with the certificates behind the two payloads. */
static mdm_rc with_certs(const mdm_profile_t *profile,
                         const mdm_plist_put_t two[2], const head_t *outer,
                         mdm_buf_t *xml, mdm_err_t *err)
{
    mdm_plist_put_t all[2 + MDM_PROFILE_BRINGS_MAX] = {two[0], two[1]};
    cert_part_t *parts = calloc(MDM_PROFILE_BRINGS_MAX, sizeof(*parts));
    mdm_rc rc = parts != NULL ? MDM_OK : mdm_err_nomem(err);
    size_t i;

    for (i = 0; rc == MDM_OK && i < profile->ncerts &&
                i < MDM_PROFILE_BRINGS_MAX; i++) {
        rc = cert_payload(profile, i, &parts[i], &all[2 + i], err);
    }
    if (rc == MDM_OK) {
        rc = write_whole(profile, "Configuration", outer,
                         group("PayloadContent", MDM_PLIST_ARRAY, all, 2 + i),
                         xml, err);
    }
    free(parts);
    return rc;
}

static mdm_rc write_enrollment(const mdm_profile_t *profile,
                               const head_t *identity, mdm_plist_put_t scep,
                               mdm_buf_t *xml, mdm_err_t *err)
{
    mdm_plist_put_t capabilities[3];
    size_t n = 0;
    mdm_plist_put_t rights = number("AccessRights", profile->access_rights);
    head_t outer;
    head_t head;
    mdm_rc rc = head_make(&outer, profile, "", err);

    if (rc == MDM_OK) {
        rc = head_make(&head, profile, ".mdm", err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (profile->access_rights == 0) {
        rights.type = MDM_PLIST_ABSENT;
    }
    if (profile->user_channels) {
        capabilities[n++] =
            text(NULL, MDM_STR("com.apple.mdm.per-user-connections"));
    }
    capabilities[n++] = text(NULL, MDM_STR("com.apple.mdm.bootstraptoken"));
    if (profile->tokens) {
        capabilities[n++] = text(NULL, MDM_STR("com.apple.mdm.token"));
    }

    const mdm_plist_put_t payload[] = {
        rights,
        text("AssignedManagedAppleID", profile->account),
        text("CheckInURL", profile->checkin_url),
        flag("CheckOutWhenRemoved", profile->check_out),
        text("EnrollmentMode", profile->mode),
        text("IdentityCertificateUUID", mdm_str_from(identity->uuid)),
        text("PayloadDisplayName", MDM_STR("Device management")),
        text("PayloadIdentifier", mdm_str_from(head.identifier)),
        text("PayloadOrganization", profile->organization),
        text("PayloadType", MDM_STR("com.apple.mdm")),
        text("PayloadUUID", mdm_str_from(head.uuid)),
        number("PayloadVersion", 1),
        group("ServerCapabilities", MDM_PLIST_ARRAY, capabilities, n),
        text("ServerURL", profile->server_url),
        flag("SignMessage", profile->sign_message),
        text("Topic", profile->topic),
    };
    const mdm_plist_put_t two[] = {
        scep, group(NULL, MDM_PLIST_DICT, payload, MDM_ARRAY_LEN(payload))};

    return with_certs(profile, two, &outer, xml, err);
}

mdm_rc mdm_profile_write(const mdm_profile_t *profile, mdm_buf_t *xml,
                         mdm_err_t *err)
{
    return with_scep(profile, write_enrollment, xml, err);
}

/* ---- steps over the air -------------------------------------------------- */

/* It goes with the enrolment profile's identity: another identifier, so that
 * neither takes the other's place. */
static mdm_rc write_identity(const mdm_profile_t *profile,
                             const head_t *identity, mdm_plist_put_t scep,
                             mdm_buf_t *xml, mdm_err_t *err)
{
    head_t outer;
    mdm_rc rc = head_make(&outer, profile, ".step", err);

    (void)identity;
    return rc == MDM_OK ? write_whole(profile, "Configuration", &outer,
                                      group("PayloadContent", MDM_PLIST_ARRAY,
                                            &scep, 1),
                                      xml, err)
                        : rc;
}

mdm_rc mdm_profile_write_identity(const mdm_profile_t *profile,
                                  mdm_buf_t *xml, mdm_err_t *err)
{
    return with_scep(profile, write_identity, xml, err);
}

mdm_rc mdm_profile_write_service(const mdm_profile_t *profile, mdm_str_t url,
                                 mdm_buf_t *xml, mdm_err_t *err)
{
    const mdm_plist_put_t wanted[] = {
        text(NULL, MDM_STR("UDID")),    text(NULL, MDM_STR("SERIAL")),
        text(NULL, MDM_STR("PRODUCT")), text(NULL, MDM_STR("VERSION")),
        text(NULL, MDM_STR("DEVICE_NAME"))};
    const mdm_plist_put_t content[] = {
        text("Challenge", profile->challenge),
        group("DeviceAttributes", MDM_PLIST_ARRAY, wanted,
              MDM_ARRAY_LEN(wanted)),
        text("URL", url),
    };
    head_t head;
    mdm_rc rc = head_make(&head, profile, ".service", err);

    return rc == MDM_OK
               ? write_whole(profile, "Profile Service", &head,
                             group("PayloadContent", MDM_PLIST_DICT, content,
                                   MDM_ARRAY_LEN(content)),
                             xml, err)
               : rc;
}
