/*
 * mdm_machineinfo.c - see mdm_machineinfo.h.
 */
#include "mdm_machineinfo.h"

#include <string.h>

#include "mdm_cms.h"
#include "mdm_plist.h"
#include "mdm_str.h"

/* Far more than a device says: its list is flat and has some twenty keys. */
static const mdm_plist_limits_t limits = {
    .size = MDM_MACHINEINFO_MAX, .depth = 8, .items = 512};

#define IDENTIFIER_MAX 128
#define CHALLENGE_MAX 1024
#define PAIRING_TOKEN_MAX 4096

typedef enum kind { IDENTIFIER, TEXT, SECRET } kind_t;

/* Keys of strings, and where they go. */
static const struct {
    const char *path;
    kind_t kind;
    size_t at;
} strings[] = {
    {"UDID", IDENTIFIER, offsetof(mdm_machineinfo_t, udid)},
    {"SERIAL", IDENTIFIER, offsetof(mdm_machineinfo_t, serial)},
    {"PRODUCT", IDENTIFIER, offsetof(mdm_machineinfo_t, product)},
    {"VERSION", IDENTIFIER, offsetof(mdm_machineinfo_t, build)},
    {"OS_VERSION", TEXT, offsetof(mdm_machineinfo_t, os_version)},
    {"SUPPLEMENTAL_BUILD_VERSION", TEXT,
     offsetof(mdm_machineinfo_t, supplemental_build)},
    {"SUPPLEMENTAL_OS_VERSION_EXTRA", TEXT,
     offsetof(mdm_machineinfo_t, supplemental_extra)},
    {"IMEI", TEXT, offsetof(mdm_machineinfo_t, imei)},
    {"MEID", TEXT, offsetof(mdm_machineinfo_t, meid)},
    {"LANGUAGE", TEXT, offsetof(mdm_machineinfo_t, language)},
    {"SOFTWARE_UPDATE_DEVICE_ID", TEXT,
     offsetof(mdm_machineinfo_t, software_update_id)},
    {"DEVICE_NAME", TEXT, offsetof(mdm_machineinfo_t, device_name)},
    {"CHALLENGE", SECRET, offsetof(mdm_machineinfo_t, challenge)},
};
#define STRINGS MDM_ARRAY_LEN(strings)

enum {
    W_CAN_UPDATE = STRINGS,
    W_CAN_PSSO,
    W_UPDATE_MANDATORY,
    W_PAIRING_TOKEN,
    W_COUNT
};

static mdm_rc is_not(mdm_err_t *err, const char *key, const char *what)
{
    return mdm_err_set(err, MDM_EINVAL, 0, "%s is no %s", key, what);
}

static bool has_control(mdm_str_t text)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if ((unsigned char)text.s[i] < 0x20 || text.s[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

/* An empty string is as good as none. */
static mdm_rc take_string(const mdm_plist_want_t *want, kind_t kind,
                          mdm_arena_t *arena, mdm_str_t *value_r,
                          mdm_err_t *err)
{
    size_t max = kind == IDENTIFIER ? IDENTIFIER_MAX
                 : kind == TEXT     ? MDM_TEXT_MAX
                                    : CHALLENGE_MAX;

    if (want->type == MDM_PLIST_ABSENT) {
        return MDM_OK;
    }
    if (want->type != MDM_PLIST_STRING) {
        return is_not(err, want->path, "string");
    }
    if (want->value.n > max ||
        (kind == IDENTIFIER && !mdm_str_is_solid(want->value)) ||
        (kind == TEXT && has_control(want->value))) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s is too long, or has other characters than "
                           "such a value may have",
                           want->path);
    }
    if (want->value.n > 0 && !mdm_arena_str(arena, want->value, value_r)) {
        return mdm_err_nomem(err);
    }
    return MDM_OK;
}

static mdm_rc take_flag(const mdm_plist_want_t *want, bool *value_r,
                        mdm_err_t *err)
{
    *value_r = want->type == MDM_PLIST_BOOL && want->flag;
    return want->type == MDM_PLIST_ABSENT || want->type == MDM_PLIST_BOOL
               ? MDM_OK
               : is_not(err, want->path, "boolean");
}

static mdm_rc take_values(const mdm_plist_want_t *want, mdm_arena_t *arena,
                          mdm_machineinfo_t *info, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;
    size_t i;

    for (i = 0; rc == MDM_OK && i < STRINGS; i++) {
        rc = take_string(&want[i], strings[i].kind, arena,
                         (mdm_str_t *)(void *)((char *)info + strings[i].at),
                         err);
    }
    if (rc == MDM_OK) {
        rc = take_flag(&want[W_CAN_UPDATE], &info->can_update, err);
    }
    if (rc == MDM_OK) {
        rc = take_flag(&want[W_CAN_PSSO], &info->can_psso, err);
    }
    if (rc == MDM_OK) {
        rc = take_flag(&want[W_UPDATE_MANDATORY], &info->update_mandatory,
                       err);
    }
    if (rc == MDM_OK && want[W_PAIRING_TOKEN].type != MDM_PLIST_ABSENT) {
        if (want[W_PAIRING_TOKEN].type != MDM_PLIST_DATA ||
            want[W_PAIRING_TOKEN].value.n > PAIRING_TOKEN_MAX) {
            return is_not(err, "PAIRING_TOKEN", "data of a usual length");
        }
        if (!mdm_arena_str(arena, want[W_PAIRING_TOKEN].value,
                           &info->pairing_token)) {
            return mdm_err_nomem(err);
        }
    }
    return rc;
}

static mdm_rc parse(mdm_str_t xml, mdm_arena_t *arena,
                    mdm_machineinfo_t *info, mdm_err_t *err)
{
    mdm_plist_want_t want[W_COUNT] = {
        [W_CAN_UPDATE].path = "MDM_CAN_REQUEST_SOFTWARE_UPDATE",
        [W_CAN_PSSO].path = "MDM_CAN_REQUEST_PSSO_CONFIG",
        [W_UPDATE_MANDATORY].path = "MANDATORY_SOFTWARE_UPDATE_REQUIRED",
        [W_PAIRING_TOKEN].path = "PAIRING_TOKEN",
    };
    mdm_plist_scan_t scan;
    mdm_rc rc;
    size_t i;

    for (i = 0; i < STRINGS; i++) {
        want[i].path = strings[i].path;
    }
    rc = mdm_plist_scan(xml, &limits, MDM_PLIST_STRICT, arena, want, W_COUNT,
                        &scan, err);
    if (rc == MDM_OK && scan.root != MDM_PLIST_DICT) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "not a dictionary");
    }
    return rc == MDM_OK ? take_values(want, arena, info, err) : rc;
}

/* The signature before the list: nobody's bytes are not worth reading. */
mdm_rc mdm_machineinfo_read(mdm_str_t message, mdm_arena_t *arena,
                            mdm_machineinfo_t *info_r, mdm_err_t *err)
{
    mdm_str_t xml = MDM_STR_NONE;
    mdm_cms_t *cms = NULL;
    mdm_rc rc;

    memset(info_r, 0, sizeof(*info_r));
    if (message.n > MDM_MACHINEINFO_MAX) {
        return mdm_err_set(err, MDM_ETOOBIG, 0,
                           "a signed message of more than %d bytes",
                           MDM_MACHINEINFO_MAX);
    }
    rc = mdm_cms_open_whole(message, arena, &cms, &info_r->signer, &xml, err);
    if (rc == MDM_OK) {
        rc = mdm_cms_verify(cms, xml, err);
    }
    if (rc == MDM_EINVAL || rc == MDM_EDENIED) {
        (void)mdm_err_prefix(err, "the signed message");
    }
    if (rc == MDM_OK) {
        rc = parse(xml, arena, info_r, err);
        if (rc == MDM_EINVAL) {
            (void)mdm_err_prefix(err, "the device's property list");
        }
    }
    mdm_cms_close(&cms);
    return rc;
}

mdm_rc mdm_machineinfo_read_header(mdm_str_t value, mdm_arena_t *arena,
                                   mdm_machineinfo_t *info_r, mdm_err_t *err)
{
    unsigned char *der;
    size_t n = 0;

    memset(info_r, 0, sizeof(*info_r));
    if (value.n > MDM_BASE64_SIZE(MDM_MACHINEINFO_MAX)) {
        return mdm_err_set(err, MDM_ETOOBIG, 0,
                           "a device's header of more than %d bytes",
                           (int)MDM_BASE64_SIZE(MDM_MACHINEINFO_MAX));
    }
    der = mdm_arena_alloc(arena, value.n / 4 * 3 + 1);
    if (der == NULL) {
        return mdm_err_nomem(err);
    }
    if (mdm_base64_decode(value, der, &n) != MDM_OK) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the header x-apple-aspen-deviceinfo is no "
                           "base64");
    }
    return mdm_machineinfo_read((mdm_str_t){(const char *)der, n}, arena,
                                info_r, err);
}

/* ---- families and versions ---------------------------------------------- */

/* Those that stand in front of products; every other Mac has its name
 * somewhere in it ("Mac14,7", "MacBookPro18,1", "iMac21,1", "VirtualMac2,1").
 */
static const char *const families[] = {
    "iPhone", "iPad", "iPod", "AppleTV", "Watch", "RealityDevice", "Mac"};

const char *mdm_machine_family(mdm_str_t product)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(families); i++) {
        if (mdm_str_starts(product, families[i])) {
            return families[i];
        }
    }
    return product.n > 0 && memmem(product.s, product.n, "Mac", 3) != NULL
               ? "Mac"
               : NULL;
}

const char *mdm_machine_family_named(mdm_str_t name)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(families); i++) {
        if (mdm_str_ieq(name, families[i])) {
            return families[i];
        }
    }
    return NULL;
}

#define PARTS 4

static bool read_version(mdm_str_t text, uint64_t parts[PARTS])
{
    mdm_str_t rest = mdm_str_split(&text, ' ');
    size_t i;

    memset(parts, 0, PARTS * sizeof(parts[0]));
    for (i = 0; i < PARTS && rest.s != NULL; i++) {
        if (!mdm_parse_u64(mdm_str_split(&rest, '.'), UINT32_MAX,
                           &parts[i])) {
            return false;
        }
    }
    return i > 0 && rest.s == NULL;
}

bool mdm_os_version_is(mdm_str_t text)
{
    uint64_t parts[PARTS];

    return read_version(text, parts);
}

bool mdm_os_version_below(mdm_str_t version, mdm_str_t minimum)
{
    uint64_t a[PARTS];
    uint64_t b[PARTS];
    size_t i;

    if (!read_version(version, a) || !read_version(minimum, b)) {
        return false;
    }
    for (i = 0; i < PARTS && a[i] == b[i]; i++) {
    }
    return i < PARTS && a[i] < b[i];
}
