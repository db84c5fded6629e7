/*
 * ngx_http_mdm.h - what the files of ngx_mdm/ share.
 *
 * The front end translates: nginx's requests, configuration, log and process
 * events to the core's (mdm.h) and back.  It knows nothing of property
 * lists, stores or pushes and decides no status but 413 and 503 for its own
 * limits.  Everything here runs in the event loop except where a comment
 * says "pool thread".
 */
#ifndef NGX_HTTP_MDM_H_INCLUDED
#define NGX_HTTP_MDM_H_INCLUDED

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <ngx_thread_pool.h>

#include "mdm.h"

#if !(NGX_THREADS)
#error "ngx_mdm needs an nginx that is built --with-threads"
#endif

/* One block's settings on one scope. */
typedef struct {
    /* What stands in the block itself; made with its first directive. */
    mdm_config_t               *own;
    /* The same completed by the blocks outside; NULL before the merge. */
    mdm_config_t               *config;
    /* Where it stands in the file, for messages that come after parsing. */
    ngx_str_t                   file;
    ngx_uint_t                  line;
} ngx_http_mdm_node_t;

/* Where the core's lines go. */
typedef struct {
    ngx_log_t                  *log;
    /* The place in the configuration that they name, or NULL. */
    const ngx_http_mdm_node_t  *node;
} ngx_http_mdm_log_ctx_t;

/* The three begin with their node: the setter knows no more of them. */

typedef struct {
    ngx_http_mdm_node_t         node;
    ngx_http_mdm_log_ctx_t      log;
    mdm_host_t                  host;
    mdm_server_t               *server;
    /* Set in the process whose init_process started the server: only there
     * may requests be given to it. */
    unsigned                    started:1;
} ngx_http_mdm_main_conf_t;

typedef struct {
    ngx_http_mdm_node_t         node;
} ngx_http_mdm_srv_conf_t;

typedef struct {
    ngx_http_mdm_node_t         node;
    ngx_thread_pool_t          *thread_pool;
    /* Not in a location inside that has no mdm_endpoint of its own. */
    unsigned                    endpoint:1;
} ngx_http_mdm_loc_conf_t;

extern ngx_module_t  ngx_http_mdm_module;

/* ngx_http_mdm_conf.c */

extern ngx_command_t  ngx_http_mdm_commands[];

/* Makes node->own unless it is there.  `path` may be NULL. */
ngx_int_t ngx_http_mdm_node_init(ngx_conf_t *cf, ngx_http_mdm_node_t *node,
    mdm_scope_t scope, const ngx_str_t *path);

/* Fills conf->config from the two blocks. */
char *ngx_http_mdm_node_merge(ngx_conf_t *cf, mdm_scope_t scope,
    ngx_http_mdm_node_t *prev, ngx_http_mdm_node_t *conf);

/* Warns of settings of nginx that devices would run into. */
void ngx_http_mdm_check_host(ngx_conf_t *cf, const mdm_config_t *location,
    const mdm_log_t *log);

/* Writes a fault of a check, with its place unless `node` is NULL. */
void ngx_http_mdm_conf_error(ngx_conf_t *cf, const ngx_http_mdm_node_t *node,
    const mdm_err_t *err);

/* ngx_http_mdm_log.c */

/* Writes at once; any thread.  `ctx` must outlive the log. */
mdm_log_t ngx_http_mdm_log(ngx_http_mdm_log_ctx_t *ctx);

/* ngx_http_mdm_request.c */

ngx_int_t ngx_http_mdm_handler(ngx_http_request_t *r);

#endif /* NGX_HTTP_MDM_H_INCLUDED */
