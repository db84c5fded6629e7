/*
 * mdm_device_services.c - check-ins that ask for something which is made
 * elsewhere: declarations, tokens for other services, the way back into
 * service.  Any request thread.
 */
#include "mdm_device_int.h"

mdm_rc mdm_device_declarative_management(mdm_device_call_t *call,
                                         const mdm_checkin_t *msg,
                                         const mdm_admitted_t *who,
                                         mdm_err_t *err)
{
    (void)call;
    (void)msg;
    (void)who;
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "declarative management is off on this server");
}

mdm_rc mdm_device_get_token(mdm_device_call_t *call, const mdm_checkin_t *msg,
                            const mdm_admitted_t *who, mdm_err_t *err)
{
    (void)call;
    (void)msg;
    (void)who;
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "tokens of this service are not given here");
}

mdm_rc mdm_device_return_to_service(mdm_device_call_t *call,
                                    const mdm_checkin_t *msg,
                                    const mdm_admitted_t *who, mdm_err_t *err)
{
    (void)call;
    (void)msg;
    (void)who;
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "return to service is off on this server");
}
