/*
 * mdm_enrollment_profile.c - placeholder of this branch.
 */
#include "mdm_enrollment_int.h"

static mdm_rc reply(mdm_enrollment_call_t *call, const char *kind)
{
    const char *text = mdm_arena_printf(
        call->arena, "<plist version=\"1.0\"><string>%s</string></plist>",
        kind);

    mdm_http_reply(call->response, 200, "application/x-apple-aspen-config",
                   (mdm_str_t){text, __builtin_strlen(text)});
    return MDM_OK;
}

mdm_rc mdm_enrollment_profile(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    (void)err;
    return reply(call, "profile");
}

mdm_rc mdm_enrollment_identity_profile(mdm_enrollment_call_t *call,
                                       mdm_err_t *err)
{
    (void)err;
    return reply(call, "identity");
}

mdm_rc mdm_enrollment_service_profile(mdm_enrollment_call_t *call,
                                      mdm_str_t challenge, mdm_err_t *err)
{
    (void)err;
    return reply(call, challenge.s);
}
