/*
 * mdm_wellknown.h - service discovery of account-driven enrolment.
 */
#ifndef MDM_WELLKNOWN_H
#define MDM_WELLKNOWN_H

#include "mdm_edge.h"

/* Answers a request of the wellknown role.  MDM_EMETHOD, MDM_EINVAL (damaged
 * query), MDM_ENOMEM.  Any thread; does not block. */
mdm_rc mdm_wellknown_handle(const mdm_request_t *request,
                            mdm_response_t *response, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
