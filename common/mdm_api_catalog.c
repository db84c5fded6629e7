/*
 * mdm_api_catalog.c - a command from JSON: read, checked against the
 * catalogue, built, and queued like any other.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_catalog.h"
#include "mdm_command.h"
#include "mdm_str.h"

static const char *const members[] = {
    "enrollment_ids", "request_type", "args",         "priority",
    "not_before",     "expires",      "command_uuid", "confirm"};

/* A member's text; absent where it is not given or null.  Without a NUL. */
static mdm_rc text_member(const json_t *json, const char *name,
                          mdm_str_t *text_r, mdm_err_t *err)
{
    const json_t *value = json_object_get(json, name);

    *text_r = MDM_STR_NONE;
    if (value == NULL || json_is_null(value)) {
        return MDM_OK;
    }
    if (!json_is_string(value)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "%s is not a string", name);
    }
    *text_r = (mdm_str_t){json_string_value(value),
                          json_string_length(value)};
    return MDM_OK;
}

static mdm_rc check_members(const json_t *json, mdm_err_t *err)
{
    char shown[64];
    const char *name;
    json_t *value;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)json, name, value) {
        for (i = 0; i < MDM_ARRAY_LEN(members); i++) {
            if (strcmp(members[i], name) == 0) {
                break;
            }
        }
        if (i == MDM_ARRAY_LEN(members)) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "there is no member %s in this call",
                               mdm_str_printable(mdm_str_from(name), shown,
                                                 sizeof(shown)));
        }
    }
    return MDM_OK;
}

static mdm_rc read_ids(mdm_api_call_t *call, const json_t *json,
                       mdm_api_targets_t *all, mdm_err_t *err)
{
    const json_t *ids = json_object_get(json, "enrollment_ids");
    size_t n = json_array_size(ids);
    mdm_rc rc = MDM_OK;
    mdm_str_t id;
    json_t *seen;
    size_t i;

    if (n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "enrollment_ids is an array of one id or more");
    }
    if (n > MDM_API_TARGETS_MAX) {
        return mdm_err_set(err, MDM_ETOOBIG, 0, "more than %d ids in a call",
                           MDM_API_TARGETS_MAX);
    }
    all->t = mdm_arena_alloc(call->arena, n * sizeof(*all->t));
    if (all->t == NULL) {
        return mdm_err_nomem(err);
    }
    seen = json_object();
    for (i = 0; rc == MDM_OK && i < n; i++) {
        id.s = json_string_value(json_array_get(ids, i));
        id.n = json_string_length(json_array_get(ids, i));
        rc = id.s != NULL ? MDM_OK
                          : mdm_err_set(err, MDM_EINVAL, 0,
                                        "enrollment_ids[%zu] is not a string",
                                        i);
        if (rc == MDM_OK && !mdm_arena_str(call->arena, id, &id)) {
            rc = mdm_err_nomem(err);
        }
        if (rc == MDM_OK) {
            rc = mdm_api_target_add(all, seen, id, err);
        }
    }
    json_decref(seen);
    return rc;
}

static mdm_rc read_options(mdm_api_call_t *call, const json_t *json,
                           mdm_enqueue_t *enqueue, mdm_err_t *err)
{
    const json_t *priority = json_object_get(json, "priority");
    mdm_str_t value = MDM_STR_NONE;
    bool nopush = false;
    mdm_rc rc;

    rc = mdm_api_flag(call, "nopush", &nopush, err);
    enqueue->push = !nopush;
    enqueue->priority = 5;
    if (rc == MDM_OK) {
        rc = text_member(json, "not_before", &value, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_when("not_before", value, &enqueue->not_before_us, err);
    }
    if (rc == MDM_OK) {
        rc = text_member(json, "expires", &value, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_expiry(call, value, enqueue, err);
    }
    if (rc != MDM_OK || priority == NULL || json_is_null(priority)) {
        return rc;
    }
    if (!json_is_integer(priority) || json_integer_value(priority) < 0 ||
        json_integer_value(priority) > 9) {
        return mdm_err_set(err, MDM_EINVAL, 0, "priority is 0 to 9");
    }
    enqueue->priority = (int)json_integer_value(priority);
    return MDM_OK;
}

static mdm_rc find_command(const json_t *json,
                           const mdm_catalog_command_t **command_r,
                           mdm_err_t *err)
{
    const json_t *confirm = json_object_get(json, "confirm");
    mdm_str_t type;
    char shown[64];
    mdm_rc rc = text_member(json, "request_type", &type, err);

    if (rc == MDM_OK && type.s == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "request_type is missing");
    }
    if (rc != MDM_OK) {
        return rc;
    }
    *command_r = mdm_catalog_find(type);
    if (*command_r == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the catalogue has no command %s; send it as a "
                           "property list with PUT /v1/enqueue/ID",
                           mdm_str_printable(type, shown, sizeof(shown)));
    }
    if (confirm != NULL && !json_is_boolean(confirm)) {
        return mdm_err_set(err, MDM_EINVAL, 0, "confirm is true or false");
    }
    if ((*command_r)->confirm && !json_is_true(confirm)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s can lose data or lock people out; if that is "
                           "meant, add \"confirm\": true",
                           (*command_r)->name);
    }
    return MDM_OK;
}

static mdm_rc read_uuid(mdm_api_call_t *call, const json_t *json,
                        mdm_str_t *uuid_r, mdm_err_t *err)
{
    char *made = NULL;
    mdm_rc rc = text_member(json, "command_uuid", uuid_r, err);

    if (rc != MDM_OK || uuid_r->s != NULL) {
        return rc;
    }
    made = mdm_arena_alloc(call->arena, MDM_UUID_SIZE);
    if (made == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_uuid_new(made, err);
    *uuid_r = mdm_str_from(made);
    return rc;
}

/* The command as it goes to the devices, in the arena. */
static mdm_rc build(mdm_api_call_t *call, const json_t *json,
                    mdm_catalog_built_t *built, mdm_enqueue_t *enqueue,
                    mdm_err_t *err)
{
    const mdm_plist_limits_t *limits = &call->request->location->plist_limits;
    const mdm_catalog_command_t *type = NULL;
    json_t *args = json_object_get(json, "args");
    mdm_command_t command;
    mdm_str_t uuid;
    mdm_buf_t xml;
    mdm_rc rc;

    rc = find_command(json, &type, err);
    if (rc == MDM_OK) {
        rc = read_uuid(call, json, &uuid, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_buf_init_secret(&xml, limits->size);
    rc = mdm_catalog_build(type, uuid, json_is_null(args) ? NULL : args,
                           call->arena, &xml, built, err);
    if (rc == MDM_OK &&
        !mdm_arena_str(call->arena, mdm_buf_str(&xml), &enqueue->body)) {
        rc = mdm_err_nomem(err);
    }
    mdm_buf_clear(&xml);
    if (rc == MDM_OK) { /* what we make passes our own gate */
        rc = mdm_command_parse(enqueue->body, limits, call->arena, &command,
                               err);
    }
    if (rc == MDM_OK) {
        enqueue->uuid = command.uuid;
        enqueue->request_type = command.request_type;
        enqueue->built = built;
        enqueue->arena = call->arena;
    }
    return rc;
}

/* A use of what a device has escrowed is told of as its reading is. */
static void note_secrets(mdm_api_call_t *call, const mdm_enqueue_t *enqueue,
                         const mdm_api_targets_t *all)
{
    char name[64];
    char uuid[160];
    char id[160];
    size_t i;

    for (i = 0; enqueue->built->unlock_token_at > 0 && i < all->n; i++) {
        if (all->t[i].command == MDM_TARGET_OK && all->t[i].eid != 0) {
            mdm_log_msg(call->request->log, MDM_LOG_NOTICE,
                        MDM_MSG_API_SECRET_READ,
                        "unlock-token of %s goes into command %s by token "
                        "\"%s\"",
                        mdm_str_printable(all->t[i].id, id, sizeof(id)),
                        mdm_str_printable(enqueue->uuid, uuid, sizeof(uuid)),
                        mdm_str_printable(call->token->name, name,
                                          sizeof(name)));
        }
    }
}

static mdm_rc serve(mdm_api_call_t *call, const json_t *json, mdm_err_t *err)
{
    mdm_api_targets_t all = {NULL, 0, NULL};
    mdm_catalog_built_t built;
    mdm_enqueue_t enqueue;
    mdm_rc rc;

    memset(&enqueue, 0, sizeof(enqueue));
    rc = check_members(json, err);
    if (rc == MDM_OK) {
        rc = read_ids(call, json, &all, err);
    }
    if (rc == MDM_OK) {
        rc = build(call, json, &built, &enqueue, err);
    }
    if (rc == MDM_OK) {
        rc = read_options(call, json, &enqueue, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_api_enqueue_run(call, &enqueue, &all, err);
    }
    if (rc == MDM_OK) {
        note_secrets(call, &enqueue, &all);
    }
    return rc;
}

mdm_rc mdm_api_command_post(mdm_api_call_t *call, mdm_err_t *err)
{
    json_t *json = NULL;
    mdm_rc rc = mdm_api_json_body(call, &json, err);

    if (rc == MDM_OK) {
        rc = serve(call, json, err);
        mdm_api_json_free(&json);
    }
    return rc;
}
