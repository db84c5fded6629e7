/*
 * certs_check.c - mdmcerts check.
 */
#include "certs_pki.h"

mdm_rc certs_check(const certs_args_t *args, int *status_r, mdm_err_t *err)
{
    (void)args;
    (void)status_r;
    return mdm_err_set(err, MDM_EINTERNAL, 0, "not yet");
}
