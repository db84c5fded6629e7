/*
 * mdm_catalog.c - the tables of the catalogue, what is known of systems, and
 * whether a command may go to an enrolment.
 *
 * What cannot work is refused: a system or channel that does not know the
 * command or a key of it, and what a User Enrollment never does.  What may
 * have changed since the device enrolled, or is not known here, only warns.
 */
#include "mdm_catalog.h"

#include <string.h>

#include "mdm_str.h"

#include "mdm_catalog_table.inc"

const mdm_catalog_command_t *mdm_catalog_commands(size_t *n_r)
{
    *n_r = MDM_ARRAY_LEN(command_table);
    return command_table;
}

const mdm_catalog_key_t *mdm_catalog_keys(size_t *n_r)
{
    *n_r = MDM_ARRAY_LEN(key_table);
    return key_table;
}

const mdm_catalog_systems_t *mdm_catalog_systems(uint16_t row)
{
    return &systems_table[row];
}

void mdm_catalog_common(uint16_t *first_r, uint16_t *end_r)
{
    *first_r = MDM_CATALOG_COMMON_FIRST;
    *end_r = MDM_CATALOG_COMMON_END;
}

const mdm_catalog_command_t *mdm_catalog_find(mdm_str_t request_type)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(command_table); i++) {
        if (mdm_str_is(request_type, command_table[i].name)) {
            return &command_table[i];
        }
    }
    return NULL;
}

/* ---- systems ------------------------------------------------------------ */

const char *mdm_system_name(mdm_system_t system)
{
    static const char *const names[] = {"iOS", "macOS", "tvOS", "visionOS",
                                        "watchOS"};

    return (size_t)system < MDM_ARRAY_LEN(names) ? names[system] : "unknown";
}

mdm_system_t mdm_system_of(mdm_str_t product_name, mdm_str_t model_name)
{
    /* How ProductName begins, or ModelName. */
    static const struct {
        const char *product;
        mdm_system_t system;
    } known[] = {
        {"iPhone", MDM_SYSTEM_IOS},
        {"iPad", MDM_SYSTEM_IOS},
        {"iPod", MDM_SYSTEM_IOS},
        {"AppleTV", MDM_SYSTEM_TVOS},
        {"Apple TV", MDM_SYSTEM_TVOS},
        {"Mac", MDM_SYSTEM_MACOS},
        {"iMac", MDM_SYSTEM_MACOS},
        {"VirtualMac", MDM_SYSTEM_MACOS},
        {"Xserve", MDM_SYSTEM_MACOS},
        {"Watch", MDM_SYSTEM_WATCHOS},
        {"Apple Watch", MDM_SYSTEM_WATCHOS},
        {"RealityDevice", MDM_SYSTEM_VISIONOS},
        {"Apple Vision", MDM_SYSTEM_VISIONOS},
    };
    mdm_str_t name = product_name.n > 0 ? product_name : model_name;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(known); i++) {
        if (mdm_str_starts(name, known[i].product)) {
            return known[i].system;
        }
    }
    return MDM_SYSTEM_UNKNOWN;
}

int32_t mdm_system_version(mdm_str_t text)
{
    static const int32_t scale[] = {10000, 100, 1};
    int32_t version = 0;
    uint64_t part;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(scale) && text.s != NULL; i++) {
        if (!mdm_parse_u64(mdm_str_split(&text, '.'), i == 0 ? 999 : 99,
                           &part)) {
            return i == 0 ? 0 : version;
        }
        version += (int32_t)part * scale[i];
    }
    return version;
}

static const char *version_text(int32_t version, mdm_arena_t *arena)
{
    if (version % 100 > 0) {
        return mdm_arena_printf(arena, "%d.%d.%d", version / 10000,
                                version / 100 % 100, version % 100);
    }
    return mdm_arena_printf(arena, "%d.%d", version / 10000,
                            version / 100 % 100);
}

/* ---- may it go there? --------------------------------------------------- */

typedef struct judge {
    const mdm_catalog_built_t *built;
    const mdm_catalog_target_t *target;
    mdm_system_t system;
    int32_t version; /* 0: not known */
    mdm_arena_t *arena;
    mdm_catalog_verdict_t *verdict;
    bool nomem;
} judge_t;

static void refuse(judge_t *j, const char *text)
{
    j->nomem = j->nomem || text == NULL;
    if (j->verdict->refused == NULL) {
        j->verdict->refused = text;
    }
}

static void warn(judge_t *j, const char *text)
{
    j->nomem = j->nomem || text == NULL;
    if (j->verdict->nwarnings < MDM_CATALOG_WARNINGS_MAX) {
        j->verdict->warnings[j->verdict->nwarnings++] = text;
    }
}

static bool is_user_channel(mdm_channel_type_t type)
{
    return type == MDM_CHANNEL_USER || type == MDM_CHANNEL_USER_ENROLLMENT ||
           type == MDM_CHANNEL_SHARED_IPAD;
}

static bool is_user_enrollment(mdm_channel_type_t type)
{
    return type == MDM_CHANNEL_USER_ENROLLMENT_DEVICE ||
           type == MDM_CHANNEL_USER_ENROLLMENT;
}

/* Nothing tells whether the device channel of an iPad is one of a Shared
 * iPad, so either is good enough there. */
static bool has_channel(const judge_t *j)
{
    const mdm_catalog_command_t *c = j->built->command;
    bool user = is_user_channel(j->target->channel);
    unsigned allowed = user ? c->user : c->device;
    unsigned bits = 1U << j->system;

    if (j->target->channel == MDM_CHANNEL_SHARED_IPAD) {
        bits = MDM_SYSTEM_BIT_SHARED_IPAD;
    } else if (j->system == MDM_SYSTEM_IOS && !user) {
        bits |= MDM_SYSTEM_BIT_SHARED_IPAD;
    }
    return (allowed & bits) != 0;
}

static void judge_refusal(judge_t *j)
{
    const mdm_catalog_command_t *c = j->built->command;
    const mdm_catalog_need_t *need = &j->built->need[j->system];
    const char *name = mdm_system_name(j->system);

    if (systems_table[c->systems].since[j->system] == 0) {
        refuse(j, mdm_arena_printf(j->arena, "%s does not know %s", name,
                                   c->name));
    } else if (!has_channel(j)) {
        refuse(j, mdm_arena_printf(
                      j->arena, "%s is not for the %s channel of %s", c->name,
                      is_user_channel(j->target->channel) ? "user" : "device",
                      j->target->channel == MDM_CHANNEL_SHARED_IPAD
                          ? "a Shared iPad"
                          : name));
    } else if (need->absent != NULL) {
        refuse(j, mdm_arena_printf(j->arena, "%s does not know the key %s",
                                   name, need->absent));
    } else if (!is_user_enrollment(j->target->channel)) {
        return;
    } else if ((c->not_user_enrollment & 1U << j->system) != 0) {
        refuse(j, mdm_arena_printf(j->arena,
                                   "%s is not for User Enrollments", c->name));
    } else if (need->not_user_enrollment != NULL) {
        refuse(j, mdm_arena_printf(j->arena,
                                   "the key %s is not for User Enrollments",
                                   need->not_user_enrollment));
    }
}

/* `what`: the command or a key. */
static void judge_version(judge_t *j, const char *what, int32_t since,
                          int32_t until)
{
    const char *name = mdm_system_name(j->system);

    if (since > j->version) {
        warn(j, mdm_arena_printf(j->arena,
                                 "%s needs %s %s; this device enrolled with "
                                 "an older one",
                                 what, name, version_text(since, j->arena)));
    }
    if (until > 0 && j->version >= until) {
        warn(j, mdm_arena_printf(j->arena, "%s is gone since %s %s", what,
                                 name, version_text(until, j->arena)));
    }
}

static void judge_warnings(judge_t *j)
{
    const mdm_catalog_command_t *c = j->built->command;
    const mdm_catalog_need_t *need = &j->built->need[j->system];
    const mdm_catalog_systems_t *versions = &systems_table[c->systems];
    unsigned bit = 1U << j->system;

    if (j->version > 0) {
        judge_version(j, c->name, versions->since[j->system],
                      versions->until[j->system]);
        judge_version(j, need->since_key, need->since, 0);
        judge_version(j, need->until_key, 0, need->until);
    }
    if ((c->supervised & bit) != 0) {
        warn(j, mdm_arena_printf(j->arena, "%s needs a supervised device",
                                 c->name));
    } else if (need->supervised != NULL) {
        warn(j, mdm_arena_printf(j->arena, "%s needs a supervised device",
                                 need->supervised));
    }
    if ((c->automated & bit) != 0) {
        warn(j, mdm_arena_printf(j->arena, "%s needs Automated Device "
                                           "Enrollment", c->name));
    }
    if (j->target->channel == MDM_CHANNEL_DEVICE &&
        j->system == MDM_SYSTEM_IOS && (c->device & bit) == 0) {
        warn(j, mdm_arena_printf(j->arena, "%s needs a Shared iPad",
                                 c->name));
    }
}

mdm_rc mdm_catalog_judge(const mdm_catalog_built_t *built,
                         const mdm_catalog_target_t *target,
                         mdm_arena_t *arena, mdm_catalog_verdict_t *verdict_r,
                         mdm_err_t *err)
{
    judge_t j = {.built = built, .target = target, .arena = arena};

    memset(verdict_r, 0, sizeof(*verdict_r));
    j.verdict = verdict_r;
    j.system = mdm_system_of(target->product_name, target->model_name);
    j.version = mdm_system_version(target->os_version);
    if (j.system == MDM_SYSTEM_UNKNOWN) {
        warn(&j, "it is not known which system this device has: nothing "
                 "could be checked against it");
        return MDM_OK;
    }
    judge_refusal(&j);
    if (verdict_r->refused == NULL) {
        judge_warnings(&j);
    }
    return j.nomem ? mdm_err_nomem(err) : MDM_OK;
}
