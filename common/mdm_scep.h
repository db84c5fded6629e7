/*
 * mdm_scep.h - the role scep.
 */
#ifndef MDM_SCEP_H
#define MDM_SCEP_H

#include "mdm_edge.h"

/* Answers a client of SCEP; on a fault the caller makes the answer from *err.
 * Any thread; blocks on the store and computes. */
mdm_rc mdm_scep_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
