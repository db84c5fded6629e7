/*
 * mdm_wellknown.c - service discovery: a user has typed "anna@example.com",
 * the device asks example.com where to enrol, and of which kind.  The answer
 * depends on the family of the device alone; whether there is such a user
 * shows at the log-in.  Source: docs/protocol.md, enrolment.
 */
#include "mdm_wellknown.h"

#include <string.h>

#include <jansson.h>

#include "mdm_str.h"

#define NOT_SERVED                                                            \
    {.code = "com.apple.well-known.failed",                                   \
     .description = "no enrolment with an account for this kind of device",   \
     .message = "This kind of device cannot be enrolled with an account "     \
                "here."}

static bool serves(const mdm_discovery_t *d, mdm_str_t family)
{
    size_t i;

    for (i = 0; i < MDM_FAMILIES_MAX && d->families[i] != NULL; i++) {
        if (mdm_str_ieq(family, d->families[i])) {
            return true;
        }
    }
    return d->families[0] == NULL;
}

static mdm_rc reply(const mdm_discovery_t *d, const mdm_request_t *request,
                    mdm_response_t *response, mdm_err_t *err)
{
    const char *url = mdm_http_url(request, d->url, response->arena);
    mdm_str_t body = MDM_STR_NONE;
    json_free_t free_json;
    json_t *json;
    char *dump;

    json = json_pack("{s:[{s:s, s:s}]}", "Servers", "Version", d->version,
                     "BaseURL", url != NULL ? url : "");
    dump = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (dump != NULL && url != NULL &&
        !mdm_arena_str(response->arena, mdm_str_from(dump), &body)) {
        body = MDM_STR_NONE;
    }
    json_get_alloc_funcs(NULL, &free_json);
    free_json(dump);
    if (body.s == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_http_reply(response, 200, "application/json", body);
    return MDM_OK;
}

mdm_rc mdm_wellknown_handle(const mdm_request_t *request,
                            mdm_response_t *response, mdm_err_t *err)
{
    static const mdm_http_document_t refused = NOT_SERVED;
    const mdm_discovery_t *d = request->location->discovery;
    mdm_str_t family = MDM_STR_NONE;
    mdm_rc rc;

    if (!mdm_str_is(request->method, "GET")) {
        mdm_http_header(response, "Allow", "GET");
        return mdm_err_set(err, MDM_EMETHOD, 0, "service discovery takes GET");
    }
    rc = mdm_http_query(request->target, "model-family", response->arena,
                        &family, err);
    if (rc != MDM_OK) {
        return rc;
    }
    while (d != NULL && !serves(d, family)) {
        d = d->next;
    }
    return d != NULL ? reply(d, request, response, err)
                     : mdm_http_document(response, &refused, err);
}
