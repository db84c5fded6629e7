/*
 * mdm_catalog.h - the command catalogue: every request type with its keys,
 * and commands made from JSON that it has checked.
 *
 * The tables are made at build time from common/catalog.  They say what Apple
 * publishes of each command; an operator who knows better enqueues a property
 * list, which is not looked at.  Values are never quoted in a message: they
 * may be secrets.  Any thread; no state.
 */
#ifndef MDM_CATALOG_H
#define MDM_CATALOG_H

#include <jansson.h>

#include "mdm_base.h"
#include "mdm_buf.h"
#include "mdm_checkin.h"
#include "mdm_err.h"
#include "mdm_mem.h"

typedef enum mdm_system {
    MDM_SYSTEM_IOS,
    MDM_SYSTEM_MACOS,
    MDM_SYSTEM_TVOS,
    MDM_SYSTEM_VISIONOS,
    MDM_SYSTEM_WATCHOS,
    MDM_SYSTEM_UNKNOWN
} mdm_system_t;
#define MDM_SYSTEMS MDM_SYSTEM_UNKNOWN
/* In masks of systems: the iPad that several people use. */
#define MDM_SYSTEM_BIT_SHARED_IPAD (1U << MDM_SYSTEMS)

const char *mdm_system_name(mdm_system_t system);
/* By ProductName ("iPhone14,5"), else by ModelName ("MacBook Pro"). */
mdm_system_t mdm_system_of(mdm_str_t product_name, mdm_str_t model_name);
/* "17.5.1" as 170501; 0: cannot be read. */
int32_t mdm_system_version(mdm_str_t text);

/* Versions as by mdm_system_version().  since 0: not there at all; until 0:
 * not taken away again. */
typedef struct mdm_catalog_systems {
    int32_t since[MDM_SYSTEMS];
    int32_t until[MDM_SYSTEMS];
} mdm_catalog_systems_t;

typedef enum mdm_catalog_kind {
    MDM_CATALOG_STRING,
    MDM_CATALOG_DATA,
    MDM_CATALOG_INT,
    MDM_CATALOG_BOOL,
    MDM_CATALOG_ARRAY,
    MDM_CATALOG_DICT,
    MDM_CATALOG_ANY,    /* whatever a property list can hold */
    MDM_CATALOG_CHOICE, /* one of several dictionaries, told apart by Item */
    MDM_CATALOG_VALUE   /* a value that the string above may have */
} mdm_catalog_kind_t;

/* A key, or ("") the element of an array, or ("*") any key.  Those below it
 * follow, up to row `end` of the table. */
typedef struct mdm_catalog_key {
    const char *name;
    uint16_t end;
    mdm_catalog_kind_t kind;
    bool required;
    bool secret;
    uint8_t supervised;          /* mask of systems where it needs that */
    uint8_t not_user_enrollment; /* mask of systems */
    uint16_t systems;            /* row of versions; 0: as what is above */
    uint16_t min;                /* bytes; */
    uint16_t max;                /* 0: no bounds */
    const char *values;          /* "a|b"; NULL: any */
} mdm_catalog_key_t;

typedef struct mdm_catalog_command {
    const char *name;
    uint16_t first; /* its keys' rows */
    uint16_t end;
    uint16_t systems;
    uint8_t device; /* masks of systems: on which channel it goes */
    uint8_t user;
    uint8_t supervised;
    uint8_t automated; /* needs Automated Device Enrollment */
    uint8_t not_user_enrollment;
    int32_t access_right; /* bit; 0: none; -1: by query */
    uint8_t access_right_on;
    bool confirm; /* loses data or locks people out: nobody does it by
                     mistake */
} mdm_catalog_command_t;

/* The tables, for tools and tests; static. */
const mdm_catalog_command_t *mdm_catalog_commands(size_t *n_r);
const mdm_catalog_key_t *mdm_catalog_keys(size_t *n_r);
const mdm_catalog_systems_t *mdm_catalog_systems(uint16_t row);
/* Rows of the keys that every command has. */
void mdm_catalog_common(uint16_t *first_r, uint16_t *end_r);
/* NULL: no such request type. */
const mdm_catalog_command_t *mdm_catalog_find(mdm_str_t request_type);

/* What the keys that are used need of a system; paths in the arena. */
typedef struct mdm_catalog_need {
    const char *absent; /* a key that the system does not have */
    const char *not_user_enrollment;
    const char *supervised;
    int32_t since; /* the newest version that a key needs, ... */
    const char *since_key;
    int32_t until; /* ... and the oldest that has no longer one */
    const char *until_key;
} mdm_catalog_need_t;

/* A command that was checked and built. */
typedef struct mdm_catalog_built {
    const mdm_catalog_command_t *command;
    mdm_catalog_need_t need[MDM_SYSTEMS];
    /* Where in the property list the unlock token of each device belongs, in
     * base64; 0: nowhere. */
    size_t unlock_token_at;
} mdm_catalog_built_t;

#define MDM_CATALOG_DEPTH_MAX 24

/* Checks `args` (an object; NULL: none) and appends the property list of the
 * command.  Data is base64 text, or {"$data": base64} where anything may
 * stand, as {"$date": RFC 3339} is a date; {"$ref": "unlock-token"} for
 * UnlockToken is what each device has escrowed.
 * MDM_EINVAL: the text names the key, as in "Settings[0].Item".  MDM_ETOOBIG:
 * the buffer's maximum.  MDM_ENOMEM. */
mdm_rc mdm_catalog_build(const mdm_catalog_command_t *command,
                         mdm_str_t uuid, json_t *args, mdm_arena_t *arena,
                         mdm_buf_t *xml, mdm_catalog_built_t *built_r,
                         mdm_err_t *err) MDM_USE_RESULT;

/* What is known of an enrolment. */
typedef struct mdm_catalog_target {
    mdm_channel_type_t channel;
    mdm_str_t product_name; /* of its device */
    mdm_str_t model_name;
    mdm_str_t os_version; /* when it enrolled */
} mdm_catalog_target_t;

#define MDM_CATALOG_WARNINGS_MAX 6
typedef struct mdm_catalog_verdict {
    const char *refused; /* NULL: may be sent */
    const char *warnings[MDM_CATALOG_WARNINGS_MAX];
    size_t nwarnings;
} mdm_catalog_verdict_t;

/* May it go there?  Texts in the arena or static.  MDM_ENOMEM. */
mdm_rc mdm_catalog_judge(const mdm_catalog_built_t *built,
                         const mdm_catalog_target_t *target,
                         mdm_arena_t *arena, mdm_catalog_verdict_t *verdict_r,
                         mdm_err_t *err) MDM_USE_RESULT;

#endif
