/*
 * mdm_api_status.c - the call that tells how the server itself is: what the
 * role `status` shows.
 */
#include "mdm_api.h"
#include "mdm_status.h"

mdm_rc mdm_api_status_get(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_status_t *status = NULL;
    mdm_rc rc = mdm_status_read(call->server, call->arena, &status, err);

    return rc == MDM_OK ? mdm_api_reply(call, 200,
                                        mdm_status_to_json(status), err)
                        : rc;
}
