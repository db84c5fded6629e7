/*
 * ngx_http_mdm_module.c - module record, merging of the configuration and
 * the life of the core's server object.
 *
 * The master makes the object (and the state directory, while it is root);
 * a worker starts it after the fork and stops it before it exits.  Neither a
 * broken store nor a missing directory may stop nginx: it has other sites to
 * serve.  MDM URLs answer 503 then.
 */
#include "ngx_http_mdm.h"

/* What pushes in flight get to finish when the worker exits.  On a fast stop
 * the master kills workers after about a second. */
#define NGX_HTTP_MDM_GRACE (5 * MDM_SEC)
#define NGX_HTTP_MDM_GRACE_FAST (1 * MDM_SEC)

static void *ngx_http_mdm_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_mdm_create_srv_conf(ngx_conf_t *cf);
static char *ngx_http_mdm_merge_srv_conf(ngx_conf_t *cf, void *parent,
                                         void *child);
static void *ngx_http_mdm_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_mdm_merge_loc_conf(ngx_conf_t *cf, void *parent,
                                         void *child);
static ngx_int_t ngx_http_mdm_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_mdm_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_mdm_init_process(ngx_cycle_t *cycle);
static void ngx_http_mdm_exit_process(ngx_cycle_t *cycle);

static ngx_http_module_t  ngx_http_mdm_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_mdm_postconfiguration,        /* postconfiguration */

    ngx_http_mdm_create_main_conf,         /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_mdm_create_srv_conf,          /* create server configuration */
    ngx_http_mdm_merge_srv_conf,           /* merge server configuration */

    ngx_http_mdm_create_loc_conf,          /* create location configuration */
    ngx_http_mdm_merge_loc_conf            /* merge location configuration */
};

ngx_module_t  ngx_http_mdm_module = {
    NGX_MODULE_V1,
    &ngx_http_mdm_module_ctx,              /* module context */
    ngx_http_mdm_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_mdm_init_module,              /* init module */
    ngx_http_mdm_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_mdm_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};

static void *ngx_http_mdm_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_mdm_main_conf_t *mmcf = ngx_pcalloc(cf->pool, sizeof(*mmcf));

    if (mmcf == NULL
        || ngx_http_mdm_node_init(cf, &mmcf->node, MDM_SCOPE_MAIN, NULL)
               != NGX_OK) {
        return NULL;
    }
    mmcf->node.config = mmcf->node.own;
    return mmcf;
}

static void *ngx_http_mdm_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_mdm_srv_conf_t));
}

static char *ngx_http_mdm_merge_srv_conf(ngx_conf_t *cf, void *parent,
                                         void *child)
{
    ngx_http_mdm_srv_conf_t *prev = parent;
    ngx_http_mdm_srv_conf_t *conf = child;

    return ngx_http_mdm_node_merge(cf, MDM_SCOPE_SERVER, &prev->node,
                                   &conf->node);
}

static void *ngx_http_mdm_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_mdm_loc_conf_t *mlcf = ngx_pcalloc(cf->pool, sizeof(*mlcf));

    if (mlcf != NULL) {
        mlcf->thread_pool = NGX_CONF_UNSET_PTR;
    }
    return mlcf;
}

/* Makes a location that has an mdm_endpoint ours. */
static char *ngx_http_mdm_init_endpoint(ngx_conf_t *cf,
                                        ngx_http_core_loc_conf_t *clcf,
                                        ngx_http_mdm_loc_conf_t *mlcf)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_conf_get_module_main_conf(cf, ngx_http_mdm_module);
    ngx_http_mdm_srv_conf_t *mscf =
        ngx_http_conf_get_module_srv_conf(cf, ngx_http_mdm_module);
    ngx_http_mdm_log_ctx_t ctx = {cf->log, &mlcf->node};
    mdm_log_t log = ngx_http_mdm_log(&ctx);
    mdm_err_t err;
    mdm_rc rc;

    mdm_err_clear(&err);
    if (clcf->handler != NULL) {
        rc = mdm_err_set(&err, MDM_ECONFIG, 0,
                         "\"mdm_endpoint\" shares its location with another "
                         "directive that answers requests");
    } else {
        rc = mdm_config_check_endpoint(mmcf->node.config, mscf->node.config,
                                       mlcf->node.config, &log, &err);
    }
    if (rc != MDM_OK) {
        ngx_http_mdm_conf_error(cf, &mlcf->node, &err);
        return NGX_CONF_ERROR;
    }
    ngx_http_mdm_check_host(cf, mlcf->node.config, &log);
    if (mlcf->thread_pool == NULL) {
        mlcf->thread_pool = ngx_thread_pool_add(cf, NULL);
    }
    clcf->handler = ngx_http_mdm_handler;
    return mlcf->thread_pool != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static char *ngx_http_mdm_merge_loc_conf(ngx_conf_t *cf, void *parent,
                                         void *child)
{
    ngx_http_mdm_loc_conf_t *prev = parent;
    ngx_http_mdm_loc_conf_t *conf = child;
    ngx_http_core_loc_conf_t *clcf =
        ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    ngx_conf_merge_ptr_value(conf->thread_pool, prev->thread_pool, NULL);
    if (ngx_http_mdm_node_merge(cf, MDM_SCOPE_LOCATION, &prev->node,
                                &conf->node)
        != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    if (clcf->noname) {
        /* An "if" or limit_except block takes no directive of ours; inside
         * one the location around goes on.  nginx keeps the handler under
         * "if", but not under limit_except. */
        conf->endpoint = prev->endpoint;
        if (conf->endpoint && clcf->lmt_excpt && clcf->handler == NULL) {
            clcf->handler = ngx_http_mdm_handler;
        }
        return NGX_CONF_OK;
    }
    if (conf->node.own != NULL && mdm_config_is_endpoint(conf->node.config)) {
        conf->endpoint = 1;
        return ngx_http_mdm_init_endpoint(cf, clcf, conf);
    }
    return NGX_CONF_OK;
}

/* nginx notes the name that a client gives as soon as anybody asks for
 * $remote_user.  Forgotten here: runs before the modules that check
 * passwords, which alone bring it back. */
static ngx_int_t ngx_http_mdm_access(ngx_http_request_t *r)
{
    ngx_http_mdm_loc_conf_t *mlcf =
        ngx_http_get_module_loc_conf(r, ngx_http_mdm_module);

    if (mlcf->endpoint) {
        ngx_str_null(&r->headers_in.user);
    }
    return NGX_DECLINED;
}

/* Not init_main_conf: only the merges tell what is an endpoint. */
static ngx_int_t ngx_http_mdm_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_conf_get_module_main_conf(cf, ngx_http_mdm_module);
    ngx_http_core_main_conf_t *cmcf =
        ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_handler_pt *h;
    ngx_http_mdm_log_ctx_t ctx = {cf->log, NULL};
    mdm_log_t log = ngx_http_mdm_log(&ctx);
    mdm_err_t err;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }
    *h = ngx_http_mdm_access;

    mdm_err_clear(&err);
    if (mdm_config_in_use(mmcf->node.config)
        && mdm_config_check(mmcf->node.config, &log, &err) != MDM_OK) {
        ngx_http_mdm_conf_error(cf, NULL, &err);
        return NGX_ERROR;
    }
    return NGX_OK;
}

/* Asked by the core's thread. */
static bool ngx_http_mdm_stopping(void *ctx)
{
    (void)ctx;
    return ngx_exiting || ngx_quit || ngx_terminate;
}

static void ngx_http_mdm_server_cleanup(void *data)
{
    ngx_http_mdm_main_conf_t *mmcf = data;

    mdm_server_free(&mmcf->server);
}

/* An error here would end the master, at a reload too: none is returned. */
static ngx_int_t ngx_http_mdm_init_module(ngx_cycle_t *cycle)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_mdm_module);
    ngx_core_conf_t *ccf =
        (ngx_core_conf_t *)ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    ngx_pool_cleanup_t *cln;
    mdm_err_t err;

    if (ngx_test_config || mmcf == NULL
        || !mdm_config_in_use(mmcf->node.config)) {
        return NGX_OK;
    }
    mmcf->log.log = cycle->log;
    mmcf->host.log = ngx_http_mdm_log(&mmcf->log);
    mmcf->host.stopping = ngx_http_mdm_stopping;
    mmcf->host.name = NGINX_VER;

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_OK;
    }
    cln->handler = ngx_http_mdm_server_cleanup;
    cln->data = mmcf;

    mdm_err_clear(&err);
    if (mdm_config_make_state_dir(mmcf->node.config, ccf->user, ccf->group,
                                  &err)
        != MDM_OK) {
        mdm_log_err(&mmcf->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
    }
    mdm_err_clear(&err);
    if (mdm_server_new(mmcf->node.config, &mmcf->host, &mmcf->server, &err)
        != MDM_OK) {
        mdm_log_err(&mmcf->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
        mmcf->server = NULL;
    }
    return NGX_OK;
}

/* Nor here: a worker that fails to start is not started again. */
static ngx_int_t ngx_http_mdm_init_process(ngx_cycle_t *cycle)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_mdm_module);
    mdm_err_t err;

    /* the cache manager and its loader come by here, too */
    if ((ngx_process != NGX_PROCESS_WORKER
         && ngx_process != NGX_PROCESS_SINGLE)
        || mmcf == NULL || mmcf->server == NULL) {
        return NGX_OK;
    }
    mdm_err_clear(&err);
    if (mdm_server_start(mmcf->server, &err) != MDM_OK) {
        mdm_log_err(&mmcf->host.log, MDM_LOG_ERROR, MDM_MSG_START_FAILED,
                    &err);
        return NGX_OK;
    }
    mmcf->started = 1;
    return NGX_OK;
}

/* nginx's thread pools have run dry when this is called. */
static void ngx_http_mdm_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_mdm_main_conf_t *mmcf =
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_mdm_module);

    if (mmcf != NULL && mmcf->started) {
        mmcf->started = 0;
        mdm_server_stop(mmcf->server, ngx_terminate ? NGX_HTTP_MDM_GRACE_FAST
                                                    : NGX_HTTP_MDM_GRACE);
    }
}
