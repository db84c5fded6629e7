/*
 * mod_mdm.c - the module record and the life of the service in httpd's
 * processes.
 *
 * The parent (root) makes the state directory and the server object and
 * opens nothing else.  A child starts the service after the fork and ends it
 * before its pool's other cleanups run.  httpd unloads this file at every
 * restart, so nothing here may outlive pconf.
 */
#include "mod_mdm.h"

#include <signal.h>
#include "ap_mpm.h"
#include "http_core.h"
#include "mpm_common.h"
#include "unixd.h"

#include "apr_strings.h"

APLOG_USE_MODULE(mdm);

mod_mdm_service_t *mod_mdm_service;

/* ---- parent ------------------------------------------------------------ */

/* Under prefork the hooks wait until the only thread has left its request. */
static bool host_stopping(void *ctx)
{
    mod_mdm_service_t *service = ctx;
    sigset_t told;
    int state = AP_MPMQ_RUNNING;

    (void)ap_mpm_query(AP_MPMQ_MPM_STATE, &state);
    return atomic_load(&service->stopping) || state == AP_MPMQ_STOPPING ||
           (sigpending(&told) == 0 && sigismember(&told, SIGTERM) == 1);
}

static apr_status_t service_free(void *data)
{
    mod_mdm_service_t *service = data;

    mdm_server_free(&service->server);
    return APR_SUCCESS;
}

static void service_new(apr_pool_t *pconf, mod_mdm_service_t *service)
{
    ap_version_t version;
    int threaded = AP_MPMQ_NOT_SUPPORTED;
    mdm_err_t err = {MDM_OK, 0, ""};

    ap_get_server_revision(&version);
    service->host.name = apr_psprintf(pconf, "Apache/%d.%d.%d", version.major,
                                      version.minor, version.patch);
    service->host.log = mod_mdm_log_server(service->base);
    service->host.ctx = service;
    service->host.stopping = host_stopping;
    service->threaded =
        ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) == APR_SUCCESS &&
        threaded != AP_MPMQ_NOT_SUPPORTED;
    if (!service->threaded)
        mdm_log_msg(&service->host.log, MDM_LOG_WARNING, MDM_MSG_MPM_PREFORK,
                    "the MPM %s has one thread a process", ap_show_mpm());
    if (mdm_config_make_state_dir(service->main, ap_unixd_config.user_id,
                                  ap_unixd_config.group_id, &err) != MDM_OK)
        mdm_log_err(&service->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
    if (mdm_server_new(service->main, &service->host, &service->server,
                       &err) == MDM_OK)
        apr_pool_cleanup_register(pconf, service, service_free,
                                  apr_pool_cleanup_null);
    else
        mdm_log_err(&service->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    mod_mdm_service_t *service = mod_mdm_service;

    (void)plog;
    (void)ptemp;
    (void)s;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG &&
        mdm_config_in_use(service->main)) /* nor is it the dry run */
        service_new(pconf, service);
    return OK;
}

/* ---- child ------------------------------------------------------------- */

/* Runs before any other cleanup of the child's pool; requests have ended. */
static apr_status_t child_stop(void *data)
{
    mod_mdm_service_t *service = data;

    atomic_store(&service->stopping, true);
    service->started = false;
    mdm_server_stop(service->server,
                    (atomic_load(&service->graceful) ? 5 : 1) * MDM_SEC);
    return APR_SUCCESS;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    mod_mdm_service_t *service = mod_mdm_service;
    mdm_err_t err = {MDM_OK, 0, ""};

    (void)s;
    if (service->server == NULL)
        return;
    /* APR remembers the directory in a static buffer: ask before threads. */
    if (apr_temp_dir_get(&service->temp_dir, pchild) != APR_SUCCESS)
        service->temp_dir = NULL;
    service->started = mdm_server_start(service->server, &err) == MDM_OK;
    if (service->started)
        apr_pool_pre_cleanup_register(pchild, service, child_stop);
    else /* requests are answered 503 */
        mdm_log_err(&service->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
}

static void child_stopping(apr_pool_t *pchild, int graceful)
{
    mod_mdm_service_t *service = mod_mdm_service;

    (void)pchild;
    if (!service->started)
        return;
    atomic_store(&service->graceful, graceful != 0);
    atomic_store(&service->stopping, true);
    mdm_server_stopping(service->server);
}

/* ---- the module -------------------------------------------------------- */

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_check_config(mod_mdm_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_stopping(child_stopping, NULL, NULL, APR_HOOK_MIDDLE);
    mod_mdm_request_hooks();
}

module AP_MODULE_DECLARE_DATA mdm_module = {
    STANDARD20_MODULE_STUFF,
    mod_mdm_create_dir,
    mod_mdm_merge_dir,
    mod_mdm_create_server,
    mod_mdm_merge_server,
    mod_mdm_commands,
    register_hooks,
    0
};
