/*
 * ngx_http_mdm_conf.c - directives: one row of common/mdm_directives.def is
 * one ngx_command_t, and one setter hands the words of all of them to the
 * core, which parses and checks.  Runs while the configuration is read, in
 * the master or under `nginx -t`; touches nothing but what directives name.
 *
 * Nodes (mdm_config_t) are heap memory of the core; each is freed by a
 * clean-up of the cycle's pool.  Merged nodes are the pool's own memory.
 */
#include "ngx_http_mdm.h"

#include <limits.h>

static char *ngx_http_mdm_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_http_mdm_thread_pool(ngx_conf_t *cf, ngx_command_t *cmd,
                                      void *conf);

/* Where a row may stand, and which of our structs it goes to.  How many words
 * it takes is the core's to say. */
#define NGX_HTTP_MDM_PLACE(scope, only)                                       \
    ((scope) == MDM_SCOPE_MAIN ? NGX_HTTP_MAIN_CONF                           \
     : (scope) == MDM_SCOPE_SERVER                                            \
         ? NGX_HTTP_SRV_CONF | ((only) ? 0 : NGX_HTTP_MAIN_CONF)              \
         : NGX_HTTP_LOC_CONF                                                  \
               | ((only) ? 0 : NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF))

#define NGX_HTTP_MDM_OFFSET(scope)                                            \
    ((scope) == MDM_SCOPE_MAIN ? NGX_HTTP_MAIN_CONF_OFFSET                    \
     : (scope) == MDM_SCOPE_SERVER ? NGX_HTTP_SRV_CONF_OFFSET                 \
                                   : NGX_HTTP_LOC_CONF_OFFSET)

ngx_command_t  ngx_http_mdm_commands[] = {

#define MDM_DIRECTIVE(id, apache, nginx, scope, only, min, max, syntax,       \
                      preset, help)                                           \
    { ngx_string(nginx),                                                      \
      NGX_HTTP_MDM_PLACE(scope, only) | NGX_CONF_ANY,                         \
      ngx_http_mdm_set,                                                       \
      NGX_HTTP_MDM_OFFSET(scope),                                             \
      MDM_DIRECTIVE_##id,                                                     \
      NULL },

#include "mdm_directives.def"
#undef MDM_DIRECTIVE

    { ngx_string("mdm_thread_pool"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_mdm_thread_pool,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};

static void ngx_http_mdm_node_cleanup(void *data)
{
    ngx_http_mdm_node_t *node = data;

    mdm_config_free(&node->own);
}

static char *ngx_http_mdm_cstring(ngx_pool_t *pool, const ngx_str_t *s)
{
    char *p = ngx_pnalloc(pool, s->len + 1);

    if (p != NULL) {
        ngx_memcpy(p, s->data, s->len);
        p[s->len] = '\0';
    }
    return p;
}

/* The directory where ssl_certificate starts from as well. */
static const char *ngx_http_mdm_root(ngx_conf_t *cf, char *absolute)
{
    const char *root = ngx_http_mdm_cstring(cf->temp_pool,
                                            &cf->cycle->conf_prefix);

    /* `nginx -p relative`: a worker may change its directory */
    if (root != NULL && root[0] != '/'
        && realpath(root[0] != '\0' ? root : ".", absolute) != NULL) {
        return absolute;
    }
    return root;
}

ngx_int_t ngx_http_mdm_node_init(ngx_conf_t *cf, ngx_http_mdm_node_t *node,
                                 mdm_scope_t scope, const ngx_str_t *path)
{
    char absolute[PATH_MAX];
    const char *root = ngx_http_mdm_root(cf, absolute);
    const char *prefix = NULL;
    ngx_pool_cleanup_t *cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (path != NULL) {
        prefix = ngx_http_mdm_cstring(cf->temp_pool, path);
    }
    if (cln == NULL || root == NULL || (path != NULL && prefix == NULL)) {
        return NGX_ERROR;
    }
    node->own = mdm_config_new(scope, prefix, root);
    cln->handler = ngx_http_mdm_node_cleanup;
    cln->data = node;
    return node->own != NULL ? NGX_OK : NGX_ERROR;
}

char *ngx_http_mdm_node_merge(ngx_conf_t *cf, mdm_scope_t scope,
                              ngx_http_mdm_node_t *prev,
                              ngx_http_mdm_node_t *conf)
{
    if (prev->config == NULL) {
        /* only the http block is never merged into anything itself */
        if (prev->own == NULL
            && ngx_http_mdm_node_init(cf, prev, scope, NULL) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
        prev->config = prev->own;
    }
    if (conf->own == NULL) {
        conf->config = prev->config;
        return NGX_CONF_OK;
    }
    conf->config = ngx_pmemalign(cf->pool, mdm_config_size(),
                                 __BIGGEST_ALIGNMENT__);
    if (conf->config == NULL) {
        return NGX_CONF_ERROR;
    }
    mdm_config_merge(conf->config, prev->config, conf->own);
    return NGX_CONF_OK;
}

/* Does one of the addresses that the server listens on speak TLS? */
static bool ngx_http_mdm_has_tls(ngx_conf_t *cf,
                                 const ngx_http_core_srv_conf_t *cscf)
{
    ngx_http_core_main_conf_t *cmcf =
        ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ngx_http_conf_port_t *port = cmcf->ports->elts;
    ngx_http_conf_addr_t *addr;
    ngx_uint_t p, a, s;

    for (p = 0; p < cmcf->ports->nelts; p++) {
        addr = port[p].addrs.elts;
        for (a = 0; a < port[p].addrs.nelts; a++) {
            for (s = 0; addr[a].opt.ssl && s < addr[a].servers.nelts; s++) {
                if (((ngx_http_core_srv_conf_t **)addr[a].servers.elts)[s]
                    == cscf) {
                    return true;
                }
            }
        }
    }
    return false;
}

void ngx_http_mdm_check_host(ngx_conf_t *cf, const mdm_config_t *location,
                             const mdm_log_t *log)
{
    ngx_http_core_loc_conf_t *clcf =
        ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ngx_http_core_srv_conf_t *cscf =
        ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    mdm_host_limits_t limits = {
        .body_max = (uint64_t)clcf->client_max_body_size,
        .header_max = cscf->large_client_header_buffers.size,
        .tls = ngx_http_mdm_has_tls(cf, cscf),
        .body_name = "client_max_body_size",
        .header_name = "large_client_header_buffers",
        .tls_line = "listen 443 ssl",
        .asks_line = "ssl_verify_client optional_no_ca",
    };
#if (NGX_HTTP_SSL)
    ngx_http_ssl_srv_conf_t *sscf =
        ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);

    if (sscf->verify) {
        limits.asks = MDM_HOST_ASKS_FIRST;
    }
#if (nginx_version < 1025001)
    limits.tls |= sscf->enable; /* "ssl on" */
#endif
#endif
    mdm_config_check_host(location, &limits, log);
}

void ngx_http_mdm_conf_error(ngx_conf_t *cf, const ngx_http_mdm_node_t *node,
                             const mdm_err_t *err)
{
    if (node != NULL && node->line) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s in %V:%ui", err->text,
                      &node->file, node->line);
        return;
    }
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s", err->text);
}

/* Makes the node that a directive goes to; now a location has its name. */
static ngx_int_t ngx_http_mdm_set_node(ngx_conf_t *cf,
                                       const ngx_command_t *cmd,
                                       ngx_http_mdm_node_t *node)
{
    ngx_http_core_loc_conf_t *clcf;
    const ngx_str_t *path = NULL;

    if (node->own != NULL) {
        return NGX_OK;
    }
    if (cmd->conf == NGX_HTTP_SRV_CONF_OFFSET) {
        return ngx_http_mdm_node_init(cf, node, MDM_SCOPE_SERVER, NULL);
    }
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    if (clcf->name.len != 0 && !clcf->named) {
        path = &clcf->name;
    }
#if (NGX_PCRE)
    if (clcf->regex != NULL) {
        path = NULL;
    }
#endif
    return ngx_http_mdm_node_init(cf, node, MDM_SCOPE_LOCATION, path);
}

static char *ngx_http_mdm_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_mdm_node_t *node = conf;
    ngx_str_t *value = cf->args->elts;
    int argc = (int)cf->args->nelts - 1;
    const char **argv = ngx_pcalloc(cf->temp_pool,
                                    cf->args->nelts * sizeof(*argv));
    mdm_err_t err;
    int i;

    if (argv == NULL || ngx_http_mdm_set_node(cf, cmd, node) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    for (i = 0; i < argc; i++) {
        argv[i] = (const char *)value[i + 1].data;
    }
    mdm_err_clear(&err);
    if (mdm_config_set(node->own, (mdm_directive_id_t)cmd->offset, argc, argv,
                       &err)
        != MDM_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" directive: %s",
                           &cmd->name, err.text);
        return NGX_CONF_ERROR;
    }
    if (node->line == 0 || cmd->offset == MDM_DIRECTIVE_ENDPOINT) {
        node->file = cf->conf_file->file.name;
        node->line = cf->conf_file->line;
    }
    return NGX_CONF_OK;
}

static char *ngx_http_mdm_thread_pool(ngx_conf_t *cf, ngx_command_t *cmd,
                                      void *conf)
{
    ngx_http_mdm_loc_conf_t *mlcf = conf;
    ngx_str_t *value = cf->args->elts;

    (void)cmd;
    if (mlcf->thread_pool != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }
    mlcf->thread_pool = ngx_thread_pool_add(cf, &value[1]);
    return mlcf->thread_pool != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}
