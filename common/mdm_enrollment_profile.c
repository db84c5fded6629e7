/*
 * mdm_enrollment_profile.c - placeholder of this branch.
 */
#include "mdm_enrollment_int.h"

mdm_rc mdm_enrollment_profile(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    (void)err;
    mdm_http_reply(call->response, 200, "application/x-apple-aspen-config",
                   MDM_STR("<plist/>"));
    return MDM_OK;
}
