/*
 * mdm_catalog_build.c - a command from JSON: each value is checked against
 * its row of the catalogue while the property list is put together.
 *
 * What is put together borrows the texts of the JSON and lives in the
 * caller's arena, which should wipe.  No message quotes a value.
 */
#include "mdm_catalog.h"

#include <stdio.h>
#include <string.h>

#include "mdm_plist.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define PATH_MAX_BYTES 200
#define NO_KEY UINT16_MAX
#define UNLOCK_TOKEN "<key>UnlockToken</key><data>"

/* Where the walk is; the frames are on the stack. */
typedef struct spot {
    const struct spot *above; /* NULL: the arguments themselves */
    const char *key;          /* NULL: an element */
    size_t index;
    unsigned depth;
} spot_t;

typedef struct work {
    const mdm_catalog_key_t *keys;
    const mdm_catalog_command_t *command;
    mdm_catalog_built_t *built;
    mdm_arena_t *arena;
    bool reference; /* the unlock token is by reference */
    mdm_err_t *err;
} work_t;

/* ---- where -------------------------------------------------------------- */

static void add_path(const spot_t *spot, char *dst, size_t cap)
{
    size_t n;

    if (spot->above == NULL) {
        dst[0] = '\0';
        return;
    }
    add_path(spot->above, dst, cap);
    n = strlen(dst);
    if (spot->key == NULL) {
        (void)snprintf(dst + n, cap - n, "[%zu]", spot->index);
    } else {
        (void)snprintf(dst + n, cap - n, "%s%s", n > 0 ? "." : "", spot->key);
    }
}

static mdm_rc wrong(const work_t *w, const spot_t *spot, const char *what)
{
    char path[PATH_MAX_BYTES];

    add_path(spot, path, sizeof(path));
    return mdm_err_set(w->err, MDM_EINVAL, 0, "%s: %s %s", w->command->name,
                       path[0] != '\0' ? path : "args", what);
}

static const char *path_of(const work_t *w, const spot_t *spot)
{
    char path[PATH_MAX_BYTES];

    add_path(spot, path, sizeof(path));
    return mdm_arena_strdup(w->arena, path);
}

/* ---- what a key needs --------------------------------------------------- */

static void need_versions(mdm_catalog_need_t *need, int32_t since,
                          int32_t until, const char *path)
{
    if (since == 0 && need->absent == NULL) {
        need->absent = path;
    }
    if (since > need->since) {
        need->since = since;
        need->since_key = path;
    }
    if (until > 0 && (need->until == 0 || until < need->until)) {
        need->until = until;
        need->until_key = path;
    }
}

static mdm_rc note_needs(work_t *w, const mdm_catalog_key_t *key,
                         const spot_t *spot)
{
    const mdm_catalog_systems_t *versions = mdm_catalog_systems(key->systems);
    mdm_catalog_need_t *need;
    const char *path;
    unsigned i;

    if (key->systems == 0 && key->supervised == 0 &&
        key->not_user_enrollment == 0) {
        return MDM_OK;
    }
    path = path_of(w, spot);
    if (path == NULL) {
        return mdm_err_nomem(w->err);
    }
    for (i = 0; i < MDM_SYSTEMS; i++) {
        need = &w->built->need[i];
        if (key->systems != 0) {
            need_versions(need, versions->since[i], versions->until[i], path);
        }
        if ((key->supervised & 1U << i) != 0 && need->supervised == NULL) {
            need->supervised = path;
        }
        if ((key->not_user_enrollment & 1U << i) != 0 &&
            need->not_user_enrollment == NULL) {
            need->not_user_enrollment = path;
        }
    }
    return MDM_OK;
}

/* ---- leaves ------------------------------------------------------------- */

static mdm_str_t text_of(const json_t *json)
{
    return (mdm_str_t){json_string_value(json), json_string_length(json)};
}

static mdm_rc check_size(const work_t *w, const mdm_catalog_key_t *key,
                         size_t n, const spot_t *spot)
{
    char what[64];

    if (key->max == 0 || (n >= key->min && n <= key->max)) {
        return MDM_OK;
    }
    (void)snprintf(what, sizeof(what), "has %zu bytes, allowed are %u to %u",
                   n, (unsigned)key->min, (unsigned)key->max);
    return wrong(w, spot, what);
}

static mdm_rc put_base64(work_t *w, mdm_str_t text, mdm_plist_put_t *put,
                         const spot_t *spot)
{
    unsigned char *bytes = mdm_arena_alloc(w->arena, text.n / 4 * 3 + 4);
    size_t n = 0;

    if (bytes == NULL) {
        return mdm_err_nomem(w->err);
    }
    if (mdm_base64_decode(text, bytes, &n) != MDM_OK) {
        return wrong(w, spot, "is not base64");
    }
    put->type = MDM_PLIST_DATA;
    put->value = (mdm_str_t){(const char *)bytes, n};
    return MDM_OK;
}

static mdm_rc put_number(work_t *w, const json_t *json, mdm_plist_put_t *put)
{
    char text[48];

    if (json_is_integer(json)) {
        put->type = MDM_PLIST_INTEGER;
        (void)snprintf(text, sizeof(text), "%lld",
                       (long long)json_integer_value(json));
    } else {
        size_t i;

        put->type = MDM_PLIST_REAL;
        (void)snprintf(text, sizeof(text), "%.17g", json_real_value(json));
        for (i = 0; text[i] != '\0'; i++) { /* whatever the locale says */
            text[i] = text[i] == ',' ? '.' : text[i];
        }
    }
    put->value = mdm_str_from(mdm_arena_strdup(w->arena, text));
    return put->value.s != NULL ? MDM_OK : mdm_err_nomem(w->err);
}

static mdm_rc put_date(work_t *w, mdm_str_t text, mdm_plist_put_t *put,
                       const spot_t *spot)
{
    char *form = mdm_arena_alloc(w->arena, MDM_RFC3339_SIZE);
    int64_t at;

    if (form == NULL) {
        return mdm_err_nomem(w->err);
    }
    if (!mdm_time_parse(text, &at)) {
        return wrong(w, spot, "is not a time such as 2026-01-31T12:00:00Z");
    }
    mdm_time_format(at, form);
    put->type = MDM_PLIST_DATE;
    put->value = mdm_str_from(form);
    return MDM_OK;
}

/* Is it one of "a|b"? */
static bool is_among(mdm_str_t text, const char *values)
{
    mdm_str_t rest = mdm_str_from(values);

    while (rest.s != NULL) {
        if (mdm_str_eq(mdm_str_split(&rest, '|'), text)) {
            return true;
        }
    }
    return false;
}

/* Is it a value that the rows below the key list, if they list any? */
static bool is_listed(const work_t *w, uint16_t row, mdm_str_t text)
{
    const mdm_catalog_key_t *key = &w->keys[row];
    uint16_t i = (uint16_t)(row + 1);

    if (i == key->end || w->keys[i].kind != MDM_CATALOG_VALUE) {
        return true;
    }
    for (; i < key->end; i = w->keys[i].end) {
        if (mdm_str_is(text, w->keys[i].name)) {
            return true;
        }
    }
    return false;
}

static mdm_rc check_value(const work_t *w, uint16_t row, mdm_str_t text,
                          const spot_t *spot)
{
    const mdm_catalog_key_t *key = &w->keys[row];
    char what[MDM_ERR_TEXT_MAX];

    if (key->values != NULL && !is_among(text, key->values)) {
        (void)snprintf(what, sizeof(what), "may be %s", key->values);
        return wrong(w, spot, what);
    }
    return is_listed(w, row, text)
               ? MDM_OK
               : wrong(w, spot, "has a value that is not in the catalogue");
}

static mdm_rc put_string(work_t *w, uint16_t row, const json_t *json,
                         mdm_plist_put_t *put, const spot_t *spot)
{
    mdm_rc rc;

    if (!json_is_string(json)) {
        return wrong(w, spot, "is not a string");
    }
    put->type = MDM_PLIST_STRING;
    put->value = text_of(json);
    rc = check_size(w, &w->keys[row], put->value.n, spot);
    return rc == MDM_OK ? check_value(w, row, put->value, spot) : rc;
}

static mdm_rc put_int(work_t *w, uint16_t row, const json_t *json,
                      mdm_plist_put_t *put, const spot_t *spot)
{
    mdm_rc rc;

    if (!json_is_integer(json)) {
        return wrong(w, spot, "is not an integer");
    }
    rc = put_number(w, json, put);
    return rc == MDM_OK ? check_value(w, row, put->value, spot) : rc;
}

/* The value of an object with this one member, else absent. */
static mdm_str_t tagged(const json_t *json, const char *tag)
{
    const json_t *value = json_object_get(json, tag);

    return json_object_size(json) == 1 && json_is_string(value)
               ? text_of(value)
               : MDM_STR_NONE;
}

static mdm_rc put_data(work_t *w, uint16_t row, const json_t *json,
                       mdm_plist_put_t *put, const spot_t *spot)
{
    mdm_str_t reference = tagged(json, "$ref");
    mdm_rc rc;

    if (reference.s != NULL) {
        if (strcmp(w->command->name, "ClearPasscode") != 0 ||
            !mdm_str_is(reference, "unlock-token")) {
            return wrong(w, spot, "cannot be that reference; there is "
                                  "unlock-token for ClearPasscode's "
                                  "UnlockToken");
        }
        w->reference = true;
        put->type = MDM_PLIST_DATA;
        put->value = MDM_STR("");
        return MDM_OK;
    }
    if (!json_is_string(json)) {
        return wrong(w, spot, "is not data (a string of base64)");
    }
    rc = put_base64(w, text_of(json), put, spot);
    return rc == MDM_OK ? check_size(w, &w->keys[row], put->value.n, spot)
                        : rc;
}

/* ---- containers --------------------------------------------------------- */

static mdm_rc put_any(work_t *w, json_t *json, mdm_plist_put_t *put,
                      const spot_t *spot);
static mdm_rc put_value(work_t *w, uint16_t row, json_t *json,
                        mdm_plist_put_t *put, const spot_t *spot);

static mdm_rc begin(work_t *w, mdm_plist_put_t *put, mdm_plist_type_t type,
                    size_t n, const spot_t *spot)
{
    if (spot->depth == MDM_CATALOG_DEPTH_MAX) {
        return wrong(w, spot, "is nested too deep");
    }
    put->type = type;
    put->n = n;
    put->items = mdm_arena_alloc(w->arena, (n + 1) * sizeof(*put));
    return put->items != NULL ? MDM_OK : mdm_err_nomem(w->err);
}

/* begin() made them for us to fill. */
static mdm_plist_put_t *items_of(const mdm_plist_put_t *put)
{
    return (mdm_plist_put_t *)(uintptr_t)put->items;
}

/* The row of a member among rows first to end, or NO_KEY. */
static uint16_t find_key(const work_t *w, uint16_t first, uint16_t end,
                         const char *name)
{
    uint16_t i;

    for (i = first; i < end; i = w->keys[i].end) {
        if (strcmp(w->keys[i].name, name) == 0 ||
            strcmp(w->keys[i].name, "*") == 0) {
            return i;
        }
    }
    return NO_KEY;
}

static mdm_rc check_required(const work_t *w, uint16_t first, uint16_t end,
                             const json_t *json, const spot_t *spot)
{
    spot_t missing = {.above = spot};
    uint16_t i;

    for (i = first; i < end; i = w->keys[i].end) {
        if (w->keys[i].required &&
            json_object_get(json, w->keys[i].name) == NULL) {
            missing.key = w->keys[i].name;
            return wrong(w, &missing, "is missing");
        }
    }
    return MDM_OK;
}

/* The members of an object whose keys are rows first to end. */
static mdm_rc put_members(work_t *w, uint16_t first, uint16_t end,
                          json_t *json, mdm_plist_put_t *items,
                          const spot_t *spot)
{
    spot_t below = {.above = spot, .depth = spot->depth + 1};
    mdm_plist_put_t *put = items;
    const char *name;
    json_t *value;
    uint16_t row;
    uint16_t common_first;
    uint16_t common_end;
    mdm_rc rc = check_required(w, first, end, json, spot);

    mdm_catalog_common(&common_first, &common_end);
    json_object_foreach(json, name, value) {
        if (rc != MDM_OK) {
            break;
        }
        below.key = name;
        row = find_key(w, first, end, name);
        if (row == NO_KEY && spot->above == NULL) {
            row = find_key(w, common_first, common_end, name);
        }
        if (row == NO_KEY) {
            return wrong(w, &below, "is no key of this command");
        }
        put->key = name;
        rc = put_value(w, row, value, put++, &below);
    }
    return rc;
}

static mdm_rc put_dict(work_t *w, uint16_t row, json_t *json,
                       mdm_plist_put_t *put, const spot_t *spot)
{
    mdm_rc rc;

    if (!json_is_object(json)) {
        return wrong(w, spot, "is not a dictionary (an object)");
    }
    rc = begin(w, put, MDM_PLIST_DICT, json_object_size(json), spot);
    if (rc != MDM_OK) {
        return rc;
    }
    return put_members(w, (uint16_t)(row + 1), w->keys[row].end, json,
                       items_of(put), spot);
}

/* An element of an array of choices: the row that its Item names. */
static mdm_rc find_choice(work_t *w, uint16_t *row, const json_t *json,
                          const spot_t *spot)
{
    spot_t item = {.above = spot, .key = "Item"};
    uint16_t i = (uint16_t)(*row + 1);
    const json_t *name = json_object_get(json, "Item");

    if (w->keys[i].kind != MDM_CATALOG_CHOICE) {
        *row = i;
        return MDM_OK;
    }
    if (!json_is_object(json)) {
        return wrong(w, spot, "is not a dictionary (an object)");
    }
    if (!json_is_string(name)) {
        return wrong(w, &item, name == NULL ? "is missing"
                                            : "is not a string");
    }
    *row = find_key(w, i, w->keys[*row].end, json_string_value(name));
    return *row != NO_KEY ? MDM_OK
                       : wrong(w, &item, "is none of the catalogue's");
}

static mdm_rc put_array(work_t *w, uint16_t row, json_t *json,
                        mdm_plist_put_t *put, const spot_t *spot)
{
    spot_t below = {.above = spot, .depth = spot->depth + 1};
    json_t *value;
    uint16_t which;
    mdm_rc rc;

    if (!json_is_array(json)) {
        return wrong(w, spot, "is not an array");
    }
    rc = begin(w, put, MDM_PLIST_ARRAY, json_array_size(json), spot);
    for (; rc == MDM_OK && below.index < put->n; below.index++) {
        value = json_array_get(json, below.index);
        which = row;
        rc = find_choice(w, &which, value, &below);
        if (rc == MDM_OK) {
            rc = put_value(w, which, value, &items_of(put)[below.index],
                           &below);
        }
    }
    return rc;
}

static mdm_rc any_members(work_t *w, json_t *json, mdm_plist_put_t *put,
                          const spot_t *spot)
{
    spot_t below = {.above = spot, .depth = spot->depth + 1};
    mdm_plist_put_t *item;
    const char *name;
    json_t *value;
    mdm_rc rc = begin(w, put, MDM_PLIST_DICT, json_object_size(json), spot);

    item = items_of(put);
    json_object_foreach(json, name, value) {
        if (rc != MDM_OK) {
            break;
        }
        below.key = name;
        if (name[0] == '\0' || name[0] == '$') {
            return wrong(w, &below, "is no name for a key; $data and $date "
                                    "stand alone, with a string");
        }
        item->key = name;
        rc = put_any(w, value, item++, &below);
    }
    return rc;
}

static mdm_rc any_elements(work_t *w, json_t *json, mdm_plist_put_t *put,
                           const spot_t *spot)
{
    spot_t below = {.above = spot, .depth = spot->depth + 1};
    mdm_rc rc = begin(w, put, MDM_PLIST_ARRAY, json_array_size(json), spot);

    for (; rc == MDM_OK && below.index < put->n; below.index++) {
        rc = put_any(w, json_array_get(json, below.index),
                     &items_of(put)[below.index], &below);
    }
    return rc;
}

static mdm_rc put_any(work_t *w, json_t *json, mdm_plist_put_t *put,
                      const spot_t *spot)
{
    mdm_str_t text;

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        text = tagged(json, "$data");
        if (text.s != NULL) {
            return put_base64(w, text, put, spot);
        }
        text = tagged(json, "$date");
        return text.s != NULL ? put_date(w, text, put, spot)
                              : any_members(w, json, put, spot);
    case JSON_ARRAY:
        return any_elements(w, json, put, spot);
    case JSON_STRING:
        put->type = MDM_PLIST_STRING;
        put->value = text_of(json);
        return MDM_OK;
    case JSON_INTEGER:
    case JSON_REAL:
        return put_number(w, json, put);
    case JSON_TRUE:
    case JSON_FALSE:
        put->type = MDM_PLIST_BOOL;
        put->flag = json_is_true(json);
        return MDM_OK;
    default:
        return wrong(w, spot, "is null, which a property list does not have");
    }
}

static mdm_rc put_value(work_t *w, uint16_t row, json_t *json,
                        mdm_plist_put_t *put, const spot_t *spot)
{
    mdm_rc rc = note_needs(w, &w->keys[row], spot);

    if (rc != MDM_OK) {
        return rc;
    }
    switch (w->keys[row].kind) {
    case MDM_CATALOG_STRING:
    case MDM_CATALOG_VALUE: /* stands below a string, is none itself */
        return put_string(w, row, json, put, spot);
    case MDM_CATALOG_DATA:
        return put_data(w, row, json, put, spot);
    case MDM_CATALOG_INT:
        return put_int(w, row, json, put, spot);
    case MDM_CATALOG_BOOL:
        if (!json_is_boolean(json)) {
            return wrong(w, spot, "is not true or false");
        }
        put->type = MDM_PLIST_BOOL;
        put->flag = json_is_true(json);
        return MDM_OK;
    case MDM_CATALOG_ARRAY:
        return put_array(w, row, json, put, spot);
    case MDM_CATALOG_ANY:
        return put_any(w, json, put, spot);
    default:
        return put_dict(w, row, json, put, spot);
    }
}

/* ---- the command -------------------------------------------------------- */

static mdm_rc write_command(work_t *w, mdm_str_t uuid,
                            const mdm_plist_put_t *items, size_t n,
                            mdm_buf_t *xml)
{
    const mdm_plist_put_t root[] = {
        {.key = "Command", .type = MDM_PLIST_DICT, .items = items, .n = n},
        {.key = "CommandUUID", .type = MDM_PLIST_STRING, .value = uuid},
    };
    const char *at;
    mdm_rc rc = mdm_plist_write(root, MDM_ARRAY_LEN(root), xml, w->err);

    if (rc == MDM_EINVAL) {
        (void)mdm_err_prefix(w->err, "%s", w->command->name);
    }
    if (rc == MDM_OK && w->reference) {
        /* Texts are escaped, so that only the key itself reads like this. */
        at = memmem(xml->data, xml->len, UNLOCK_TOKEN, strlen(UNLOCK_TOKEN));
        if (at == NULL) {
            return mdm_err_set(w->err, MDM_EINTERNAL, 0,
                               "no place for the unlock token");
        }
        w->built->unlock_token_at =
            (size_t)(at - xml->data) + strlen(UNLOCK_TOKEN);
    }
    return rc;
}

mdm_rc mdm_catalog_build(const mdm_catalog_command_t *command,
                         mdm_str_t uuid, json_t *args, mdm_arena_t *arena,
                         mdm_buf_t *xml, mdm_catalog_built_t *built_r,
                         mdm_err_t *err)
{
    work_t w = {.command = command, .arena = arena, .err = err};
    const spot_t top = {.above = NULL};
    mdm_plist_put_t *items;
    json_t *none = NULL;
    size_t nkeys;
    size_t n;
    mdm_rc rc;

    memset(built_r, 0, sizeof(*built_r));
    built_r->command = command;
    w.built = built_r;
    w.keys = mdm_catalog_keys(&nkeys);
    if (args == NULL) {
        args = none = json_object();
    }
    if (!json_is_object(args)) {
        return wrong(&w, &top, "is not an object");
    }
    n = json_object_size(args);
    items = mdm_arena_alloc(arena, (n + 1) * sizeof(*items));
    if (items == NULL) {
        json_decref(none);
        return mdm_err_nomem(err);
    }
    items[0].key = "RequestType";
    items[0].type = MDM_PLIST_STRING;
    items[0].value = mdm_str_from(command->name);
    rc = put_members(&w, command->first, command->end, args, items + 1, &top);
    if (rc == MDM_OK) {
        rc = write_command(&w, uuid, items, n + 1, xml);
    }
    json_decref(none);
    return rc;
}
