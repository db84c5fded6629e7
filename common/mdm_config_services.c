/*
 * mdm_config_services.c - how the arguments of directives about what devices
 * ask of others through us are read: declarative management, tokens, return
 * to service.  Parent process only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_str.h"
#include "mdm_upstream.h"

#define HMAC_KEY_MIN 16

/* The value behind "name="; absent when it is another word. */
static mdm_str_t value_of(const char *arg, const char *name)
{
    mdm_str_t value = mdm_str_from(arg);

    return mdm_str_is(mdm_str_split(&value, '='), name) ? value : MDM_STR_NONE;
}

/* ---- declarative management --------------------------------------------- */

static mdm_rc read_hmac_key(mdm_config_t *c, const char *file, mdm_err_t *err)
{
    mdm_rc rc = mdm_config_secret(c, file, &c->dm_hmac_key, err);

    if (rc == MDM_OK && c->dm_hmac_key.n < HMAC_KEY_MIN) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "%s: the key in its first line is shorter than %d "
                         "bytes; make one with: openssl rand -hex 32",
                         file, HMAC_KEY_MIN);
    }
    return rc;
}

static mdm_rc set_declarative(mdm_config_t *c, int argc,
                              const char *const *argv, mdm_err_t *err)
{
    mdm_str_t url = mdm_str_from(argv[0]);
    mdm_str_t file = argc > 1 ? value_of(argv[1], "hmac") : MDM_STR_NONE;
    mdm_rc rc;

    if (mdm_str_ieq(url, "builtin")) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "the built-in declarative management is not part "
                           "of this version; give the URL of an outside "
                           "server, or off");
    }
    if (argc > 1 && file.s == NULL) {
        return mdm_config_bad(err, argv[1], "hmac=file");
    }
    if (mdm_str_ieq(url, "off")) {
        return argc == 1 ? MDM_OK
                         : mdm_config_bad(err, argv[1],
                                          "a URL in front of it, or off "
                                          "alone");
    }
    rc = mdm_upstream_check_url(url, err);
    if (rc == MDM_OK && argc > 1) {
        rc = read_hmac_key(c, file.s, err);
    }
    if (rc == MDM_OK) {
        c->dm_url = mdm_arena_strdup(c->arena, argv[0]);
        rc = c->dm_url != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    return rc;
}

/* ---- escrow key unlock -------------------------------------------------- */

static mdm_rc set_unlock(mdm_config_t *c, int argc, const char *const *argv,
                         mdm_err_t *err)
{
    mdm_str_t ca = argc > 1 ? value_of(argv[1], "ca") : MDM_STR_NONE;
    mdm_rc rc;

    if (argc > 1 && ca.n == 0) {
        return mdm_config_bad(err, argv[1], "ca=file");
    }
    if (!mdm_str_starts(mdm_str_from(argv[0]), "https://")) {
        return mdm_config_bad(err, argv[0],
                              "a URL that begins with https://, as the push "
                              "certificate is shown there");
    }
    rc = mdm_upstream_check_url(mdm_str_from(argv[0]), err);
    if (rc == MDM_OK && argc > 1) {
        rc = mdm_config_bundle(c, ca.s, &c->unlock_ca_file, err);
    }
    if (rc == MDM_OK) {
        c->unlock_url = mdm_arena_strdup(c->arena, argv[0]);
        rc = c->unlock_url != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    return rc;
}

/* ---- tokens ------------------------------------------------------------- */

static bool is_uuid(mdm_str_t text)
{
    unsigned char bytes[16];
    char hex[32];
    size_t n = 0;
    size_t i;

    for (i = 0; i < text.n && i < MDM_UUID_LEN; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text.s[i] != '-') {
                return false;
            }
        } else {
            hex[n++] = text.s[i];
        }
    }
    return text.n == MDM_UUID_LEN &&
           mdm_hex_decode((mdm_str_t){hex, sizeof(hex)}, bytes,
                          sizeof(bytes));
}

static mdm_rc set_token_signer(mdm_config_t *c, const char *const *argv,
                               mdm_err_t *err)
{
    mdm_str_t pem = MDM_STR_NONE;
    mdm_rc rc;

    if (!is_uuid(mdm_str_from(argv[1]))) {
        return mdm_config_bad(err, argv[1],
                              "the server's UUID, such as "
                              "677cab70-fe18-11e2-b778-0800200c9a66");
    }
    rc = mdm_config_read(c, argv[0], &pem, err);
    if (rc == MDM_OK &&
        mdm_jwt_key_new(pem, &c->owned_token_key, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", argv[0]);
        rc = MDM_ECONFIG;
    }
    if (rc != MDM_OK) {
        return rc;
    }
    c->token_key = c->owned_token_key;
    c->token_issuer = mdm_arena_strdup(c->arena, argv[1]);
    return c->token_issuer != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* ---- return to service -------------------------------------------------- */

/* XML of a property list, behind a byte order mark and white space. */
static bool begins_as_xml(mdm_str_t text)
{
    if (mdm_str_starts(text, "\xef\xbb\xbf")) {
        text = (mdm_str_t){text.s + 3, text.n - 3};
    }
    while (text.n > 0 && strchr(" \t\r\n", text.s[0]) != NULL &&
           text.s[0] != '\0') {
        text = (mdm_str_t){text.s + 1, text.n - 1};
    }
    return (mdm_str_starts(text, "<?xml") ||
            mdm_str_starts(text, "<!DOCTYPE") ||
            mdm_str_starts(text, "<plist")) &&
           memmem(text.s, text.n < 1024 ? text.n : 1024, "<plist", 6) != NULL;
}

/* A SEQUENCE that begins with the object identifier of CMS SignedData. */
static bool begins_as_cms(mdm_str_t der)
{
    static const unsigned char oid[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                        0xf7, 0x0d, 0x01, 0x07, 0x02};
    size_t skip;

    if (der.n < 2 || der.s[0] != 0x30) {
        return false;
    }
    /* Length bytes: one, or one that says how many follow. */
    skip = 2 + (((unsigned char)der.s[1] & 0x80U) != 0
                    ? (unsigned char)der.s[1] & 0x7fU
                    : 0U);
    return skip <= 6 && der.n > skip + sizeof(oid) &&
           memcmp(der.s + skip, oid, sizeof(oid)) == 0;
}

static mdm_rc read_profile(mdm_config_t *c, const char *file,
                           mdm_str_t *profile_r, mdm_err_t *err)
{
    mdm_rc rc = mdm_config_read(c, file, profile_r, err);

    if (rc == MDM_OK && !begins_as_xml(*profile_r) &&
        !begins_as_cms(*profile_r)) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "%s is no profile: neither an XML property list nor "
                         "a signed one (CMS in DER)",
                         file);
    }
    return rc;
}

static mdm_rc set_return_to_service(mdm_config_t *c, int argc,
                                    const char *const *argv, mdm_err_t *err)
{
    mdm_return_to_service_t *how = mdm_arena_alloc(c->arena, sizeof(*how));
    mdm_str_t wifi;
    mdm_str_t mdm;
    bool on = false;
    mdm_rc rc;
    int i;

    rc = how != NULL ? mdm_config_flag(argv[0], &on, err) : mdm_err_nomem(err);
    for (i = 1; rc == MDM_OK && i < argc; i++) {
        wifi = value_of(argv[i], "wifi-profile");
        mdm = value_of(argv[i], "mdm-profile");
        if (on && wifi.s != NULL && how->wifi_profile.s == NULL) {
            rc = read_profile(c, wifi.s, &how->wifi_profile, err);
        } else if (on && mdm.s != NULL && how->mdm_profile.s == NULL) {
            rc = read_profile(c, mdm.s, &how->mdm_profile, err);
        } else if (on && strcmp(argv[i], "preserve-data-plan") == 0 &&
                   !how->preserve_data_plan) {
            how->preserve_data_plan = true;
        } else if (on && strcmp(argv[i], "retry-enrollment") == 0 &&
                   !how->retry_enrollment) {
            how->retry_enrollment = true;
        } else {
            rc = mdm_config_bad(err, argv[i],
                                "off alone, or on with each of "
                                "wifi-profile=file, mdm-profile=file, "
                                "preserve-data-plan and retry-enrollment "
                                "once at most");
        }
    }
    c->return_to_service = rc == MDM_OK && on ? how : NULL;
    return rc;
}

mdm_rc mdm_config_apply_services(mdm_config_t *c, mdm_directive_id_t id,
                                 int argc, const char *const *argv,
                                 mdm_err_t *err)
{
    switch (id) {
    case MDM_DIRECTIVE_DECLARATIVE_MANAGEMENT:
        return set_declarative(c, argc, argv, err);
    case MDM_DIRECTIVE_ESCROW_KEY_UNLOCK_URL:
        return set_unlock(c, argc, argv, err);
    case MDM_DIRECTIVE_TOKEN_SIGNER:
        return set_token_signer(c, argv, err);
    default:
        return set_return_to_service(c, argc, argv, err);
    }
}
