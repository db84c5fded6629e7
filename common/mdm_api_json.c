/*
 * mdm_api_json.c - bodies of calls that are JSON: bounded before jansson sees
 * them, and wiped, as they may hold pass codes.
 */
#include "mdm_api.h"

#include <string.h>

#include "mdm_str.h"

/* Deeper than any command; jansson recurses. */
#define DEPTH_MAX 32

/* What the text could make of memory: at most so many values, so deep.  Says
 * nothing about its grammar. */
static mdm_rc check_bounds(mdm_str_t text, size_t items_max, mdm_err_t *err)
{
    bool in_string = false;
    unsigned depth = 0;
    size_t items = 0;
    size_t i;

    for (i = 0; i < text.n; i++) {
        if (in_string) {
            i += text.s[i] == '\\' ? 1 : 0;
            in_string = i < text.n && text.s[i] != '"';
            continue;
        }
        switch (text.s[i]) {
        case '"':
            in_string = true;
            break;
        case '[':
        case '{':
            depth++;
            items++;
            break;
        case ']':
        case '}':
            depth -= depth > 0 ? 1 : 0;
            break;
        case ',':
            items++;
            break;
        default:
            break;
        }
        if (depth > DEPTH_MAX) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "nested deeper than %d levels", DEPTH_MAX);
        }
        if (items > items_max) {
            return mdm_err_set(err, MDM_ETOOBIG, 0, "more than %zu values",
                               items_max);
        }
    }
    return MDM_OK;
}

mdm_rc mdm_api_json_body(mdm_api_call_t *call, json_t **json_r,
                         mdm_err_t *err)
{
    const mdm_plist_limits_t *limits = &call->request->location->plist_limits;
    json_error_t fault;
    mdm_str_t body;
    mdm_rc rc;

    *json_r = NULL;
    rc = mdm_http_body(call->request, limits->size, call->arena, &body, err);
    if (rc == MDM_OK) {
        rc = check_bounds(body, limits->items, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    *json_r = json_loadb(body.s != NULL ? body.s : "", body.n,
                         JSON_REJECT_DUPLICATES, &fault);
    if (*json_r == NULL) { /* its text quotes the body */
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the body is not JSON: a fault in line %d, column "
                           "%d",
                           fault.line, fault.column);
    }
    if (!json_is_object(*json_r)) {
        mdm_api_json_free(json_r);
        return mdm_err_set(err, MDM_EINVAL, 0, "the body is not an object");
    }
    return MDM_OK;
}

/* At most DEPTH_MAX deep. */
static void wipe(json_t *json)
{
    const char *name;
    json_t *value;
    size_t i;

    if (json_is_string(json)) {
        mdm_wipe((char *)(uintptr_t)json_string_value(json),
                 json_string_length(json));
    } else if (json_is_array(json)) {
        json_array_foreach(json, i, value) {
            wipe(value);
        }
    } else if (json_is_object(json)) {
        json_object_foreach(json, name, value) {
            wipe(value);
        }
    }
}

void mdm_api_json_free(json_t **json)
{
    wipe(*json);
    json_decref(*json);
    *json = NULL;
}
