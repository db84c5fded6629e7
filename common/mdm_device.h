/*
 * mdm_device.h - the roles mdm, server and checkin.
 */
#ifndef MDM_DEVICE_H
#define MDM_DEVICE_H

#include "mdm_edge.h"

/* Answers a device's message; on a fault the caller makes the answer from
 * *err (headers may be set already).  Any thread; blocks on the store. */
mdm_rc mdm_device_handle(mdm_server_t *server, const mdm_request_t *request,
                         mdm_response_t *response, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
