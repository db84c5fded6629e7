/*
 * mdm_enrollment_ota.c - placeholder of this branch.
 */
#include "mdm_enrollment_int.h"

mdm_rc mdm_enrollment_ota_begin(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    return mdm_enrollment_profile(call, err);
}

mdm_rc mdm_enrollment_ota(mdm_enrollment_call_t *call, mdm_err_t *err)
{
    return mdm_enrollment_profile(call, err);
}
