/*
 * mod_mdm_config.c - directives and their checks.
 *
 * The command table is made from the core's table of settings and every
 * directive runs through one setter: words go to the core as they stand, its
 * text comes back as httpd's syntax error.  Cross checks run in check_config,
 * the only hook that `apachectl configtest` runs as well.
 *
 * Nodes are freed (and their secrets wiped) with the pool they were made
 * for.  Merging at request time allocates from the request and owns nothing.
 */
#include "mod_mdm.h"

#include "http_core.h"
#include "http_main.h"

#include "apr_strings.h"

APLOG_USE_MODULE(mdm);

static apr_status_t node_free(void *data)
{
    mdm_config_t *node = data;

    mdm_config_free(&node);
    return APR_SUCCESS;
}

static mdm_config_t *node_new(apr_pool_t *p, mdm_scope_t scope)
{
    mdm_config_t *node = mdm_config_new(scope, NULL, ap_server_root);

    if (node == NULL)
        ap_abort_on_oom(); /* as httpd does itself while it starts */
    apr_pool_cleanup_register(p, node, node_free, apr_pool_cleanup_null);
    return node;
}

static mdm_config_t *node_need(apr_pool_t *p, mdm_config_t **node,
                               mdm_scope_t scope)
{
    if (*node == NULL)
        *node = node_new(p, scope);
    return *node;
}

static mdm_config_t *node_merge(apr_pool_t *p, const mdm_config_t *parent,
                                const mdm_config_t *child)
{
    mdm_config_t *merged = apr_palloc(p, mdm_config_size());

    mdm_config_merge(merged, parent, child);
    return merged;
}

/* ---- per server and per section ---------------------------------------- */

/* Runs as soon as the module is loaded, maybe before ServerRoot is known, so
 * nodes are made when the first directive needs them. */
void *mod_mdm_create_server(apr_pool_t *p, server_rec *s)
{
    mod_mdm_service_t *service = NULL;

    if (!s->is_virtual) {
        service = apr_pcalloc(p, sizeof(*service));
        service->base = s;
        service->endpoints = apr_array_make(p, 4, sizeof(mod_mdm_endpoint_t));
        mod_mdm_service = service;
    }
    return apr_pcalloc(p, sizeof(mod_mdm_site_t));
}

/* Of two nodes that may be absent. */
static mdm_config_t *node_join(apr_pool_t *p, mdm_config_t *parent,
                               mdm_config_t *child)
{
    if (parent == NULL || child == NULL)
        return child ? child : parent;
    return node_merge(p, parent, child);
}

void *mod_mdm_merge_server(apr_pool_t *p, void *base, void *add)
{
    mod_mdm_site_t *site = apr_pmemdup(p, add, sizeof(*site));
    const mod_mdm_site_t *parent = base;

    site->node = node_join(p, parent->node, site->node);
    if (site->verify == MOD_MDM_VERIFY_UNSET)
        site->verify = parent->verify;
    if (site->engine == NULL)
        site->engine = parent->engine;
    return site;
}

void *mod_mdm_create_dir(apr_pool_t *p, char *path)
{
    (void)path; /* may be a regular expression; see endpoint_settle() */
    return apr_pcalloc(p, sizeof(mod_mdm_dir_t));
}

void *mod_mdm_merge_dir(apr_pool_t *p, void *base, void *add)
{
    mod_mdm_dir_t *parent = base;
    mod_mdm_dir_t *child = add;
    mod_mdm_dir_t *dir = apr_palloc(p, sizeof(*dir));

    dir->settings = node_join(p, parent->settings, child->settings);
    dir->endpoint = child->endpoint ? child->endpoint : parent->endpoint;
    dir->verify = child->verify ? child->verify : parent->verify;
    return dir;
}

const mdm_config_t *mod_mdm_location(apr_pool_t *p, const mod_mdm_dir_t *dir)
{
    if (dir == NULL || dir->endpoint == NULL ||
        !mdm_config_is_endpoint(dir->endpoint))
        return NULL;
    if (dir->settings == NULL)
        return dir->endpoint;
    return node_merge(p, dir->settings, dir->endpoint);
}

/* ---- directives -------------------------------------------------------- */

/* Notes the line for the checks and gives the section an endpoint node. */
static mdm_config_t *endpoint_node(cmd_parms *cmd, mod_mdm_dir_t *dir)
{
    mod_mdm_endpoint_t *endpoint = NULL;

    if (dir->endpoint != NULL)
        return dir->endpoint; /* given twice: the core refuses it */
    dir->endpoint = node_new(cmd->pool, MDM_SCOPE_LOCATION);
    endpoint = apr_array_push(mod_mdm_service->endpoints);
    endpoint->server = cmd->server;
    endpoint->section = cmd->context;
    endpoint->dir = dir;
    endpoint->file = apr_pstrdup(cmd->pool, cmd->directive->filename);
    endpoint->line = cmd->directive->line_num;
    return dir->endpoint;
}

/* The node that holds values of the directive's scope here. */
static mdm_config_t *target_node(cmd_parms *cmd, mod_mdm_dir_t *dir,
                                 const mdm_directive_t *directive)
{
    mod_mdm_site_t *site = NULL;

    switch (directive->scope) {
    case MDM_SCOPE_MAIN:
        return node_need(cmd->pool, &mod_mdm_service->main, directive->scope);
    case MDM_SCOPE_SERVER:
        site = ap_get_module_config(cmd->server->module_config, &mdm_module);
        return node_need(cmd->pool, &site->node, directive->scope);
    case MDM_SCOPE_LOCATION:
        break;
    }
    if (directive->id == MDM_DIRECTIVE_ENDPOINT)
        return endpoint_node(cmd, dir);
    return node_need(cmd->pool, &dir->settings, directive->scope);
}

static const char *context_fault(cmd_parms *cmd,
                                 const mdm_directive_t *directive)
{
    if (directive->scope == MDM_SCOPE_MAIN && cmd->server->is_virtual)
        return apr_pstrcat(cmd->pool, directive->apache,
                           ": one MDM service serves all virtual hosts; "
                           "move this line out of <VirtualHost>", NULL);
    if (directive->scope == MDM_SCOPE_LOCATION)
        return ap_check_cmd_context(cmd, NOT_IN_LIMIT | NOT_IN_FILES);
    return NULL;
}

/* All directives.  Takes the raw line, as httpd's own splitting silently
 * drops words beyond a limit. */
static const char *set_directive(cmd_parms *cmd, void *mconfig,
                                 const char *args)
{
    size_t n = 0;
    const mdm_directive_t *directive = &mdm_directives(&n)[(intptr_t)cmd->info];
    const char *fault = context_fault(cmd, directive);
    apr_array_header_t *words = NULL;
    mdm_config_t *node = NULL;
    mdm_err_t err = {MDM_OK, 0, ""};

    if (fault != NULL)
        return fault;
    words = apr_array_make(cmd->temp_pool, 4, sizeof(const char *));
    while (*args != '\0')
        APR_ARRAY_PUSH(words, const char *) =
            ap_getword_conf(cmd->temp_pool, &args);
    node = target_node(cmd, mconfig, directive);
    if (mdm_config_set(node, directive->id, words->nelts,
                       (const char *const *)words->elts, &err) != MDM_OK)
        return apr_psprintf(cmd->pool, "%s: %s", directive->apache, err.text);
    return NULL;
}

/* Two directives of mod_ssl, which handles them itself: several modules may
 * know one directive.  Kept to tell whether client certificates can work;
 * this way they are inherited and merged as mod_ssl's own. */
static const char *note_ssl(cmd_parms *cmd, void *mconfig, const char *value)
{
    mod_mdm_site_t *site =
        ap_get_module_config(cmd->server->module_config, &mdm_module);
    mod_mdm_verify_t verify = MOD_MDM_VERIFY_REQUIRE;

    if (ap_find_linked_module("mod_ssl.c") == NULL)
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           " belongs to mod_ssl, which is not loaded", NULL);
    if (cmd->info != NULL) {
        site->engine = value;
        return NULL;
    }
    if (!ap_cstr_casecmp(value, "none") || !ap_cstr_casecmp(value, "off"))
        verify = MOD_MDM_VERIFY_NONE;
    else if (!ap_cstr_casecmpn(value, "optional", 8)) /* _no_ca, too */
        verify = MOD_MDM_VERIFY_OPTIONAL;
    if (cmd->path != NULL)
        ((mod_mdm_dir_t *)mconfig)->verify = verify;
    else
        site->verify = verify;
    return NULL;
}

#define WHERE(scope, only)                                                    \
    ((scope) != MDM_SCOPE_LOCATION ? RSRC_CONF                                \
     : (only)                      ? ACCESS_CONF                              \
                                   : RSRC_CONF | ACCESS_CONF)

const command_rec mod_mdm_commands[] = {
#define MDM_DIRECTIVE(id, apache, nginx, scope, only, min, max, syntax,       \
                      preset, help)                                           \
    AP_INIT_RAW_ARGS(apache, set_directive,                                   \
                     (void *)(intptr_t)MDM_DIRECTIVE_##id,                    \
                     WHERE(scope, only), help),
#include "mdm_directives.def"
#undef MDM_DIRECTIVE
    AP_INIT_TAKE1("SSLVerifyClient", note_ssl, NULL, RSRC_CONF | OR_AUTHCFG,
                  "see mod_ssl"),
    AP_INIT_TAKE1("SSLEngine", note_ssl, "", RSRC_CONF, "see mod_ssl"),
    {NULL, {NULL}, NULL, 0, RAW_ARGS, NULL}
};

/* ---- checks across directives ------------------------------------------ */

/* An endpoint with everything that applies to its URL. */
typedef struct effective {
    mod_mdm_dir_t dir;
    apr_off_t body_limit; /* LimitRequestBody, 0: none */
    mod_mdm_verify_t if_verify;
} effective_t;

#define HOST_BODY_LIMIT ((apr_off_t)1 << 30)

/* What httpd knows of the endpoint's <Location>, NULL in other sections. */
static const core_dir_config *location_core(const mod_mdm_endpoint_t *endpoint)
{
    core_server_config *server =
        ap_get_core_module_config(endpoint->server->module_config);
    ap_conf_vector_t **sections = (ap_conf_vector_t **)server->sec_url->elts;
    int i = 0;

    for (i = 0; i < server->sec_url->nelts; i++) {
        if (sections[i] == endpoint->section)
            return ap_get_core_module_config(sections[i]);
    }
    return NULL;
}

/* The URL prefix of a section, NULL where it has none. */
static const char *fixed_prefix(const core_dir_config *core)
{
    if (core == NULL || core->r != NULL || core->d_is_fnmatch)
        return NULL;
    return core->d;
}

/* Gives the endpoint node its URL prefix, which httpd knows only when the
 * section has been read to its end. */
static void endpoint_settle(const mod_mdm_endpoint_t *endpoint)
{
    const char *prefix = fixed_prefix(location_core(endpoint));

    if (prefix != NULL &&
        !mdm_config_set_path(endpoint->dir->endpoint, prefix))
        ap_abort_on_oom();
}

/* As httpd's own walk: does the section apply to this path?  Where the path
 * is not fixed, only a section for all paths surely does. */
static bool covers(const core_dir_config *core, const char *path)
{
    const char *prefix = fixed_prefix(core);
    size_t n = prefix ? strlen(prefix) : 0;

    if (prefix == NULL || strncmp(prefix, path ? path : "/", n) != 0)
        return false;
    return n == 0 || prefix[n - 1] == '/' || path[n] == '/' ||
           path[n] == '\0';
}

/* What <If> sections may ask of a client, whose conditions nobody knows. */
static void effective_if(effective_t *effective, const core_dir_config *core)
{
    ap_conf_vector_t **ifs = NULL;
    const mod_mdm_dir_t *dir = NULL;
    int i = 0;

    if (core == NULL || core->sec_if == NULL)
        return;
    ifs = (ap_conf_vector_t **)core->sec_if->elts;
    for (i = 0; i < core->sec_if->nelts; i++) {
        dir = ap_get_module_config(ifs[i], &mdm_module);
        if (dir != NULL && dir->verify > effective->if_verify)
            effective->if_verify = dir->verify;
        effective_if(effective, ap_get_core_module_config(ifs[i]));
    }
}

static void effective_add(apr_pool_t *p, effective_t *effective,
                          ap_conf_vector_t *section)
{
    mod_mdm_dir_t *dir = ap_get_module_config(section, &mdm_module);
    core_dir_config *core = ap_get_core_module_config(section);

    effective_if(effective, core);
    if (dir != NULL)
        effective->dir =
            *(mod_mdm_dir_t *)mod_mdm_merge_dir(p, &effective->dir, dir);
    if (core != NULL && core->limit_req_body >= 0)
        effective->body_limit = core->limit_req_body;
}

/* Merges as a request for the section's own path would see it. */
static effective_t effective_of(apr_pool_t *p,
                                const mod_mdm_endpoint_t *endpoint)
{
    effective_t effective = {.body_limit = HOST_BODY_LIMIT};
    core_server_config *server =
        ap_get_core_module_config(endpoint->server->module_config);
    ap_conf_vector_t **sections = (ap_conf_vector_t **)server->sec_url->elts;
    const core_dir_config *own = location_core(endpoint);
    const char *path = fixed_prefix(own);
    int i = 0;

    effective_add(p, &effective, endpoint->server->lookup_defaults);
    for (i = 0; i < server->sec_url->nelts; i++) {
        if (sections[i] == endpoint->section ||
            covers(ap_get_core_module_config(sections[i]), path))
            effective_add(p, &effective, sections[i]);
    }
    if (own == NULL) /* <Directory>, <If> */
        effective_add(p, &effective, endpoint->section);
    return effective;
}

static void check_host(const mod_mdm_endpoint_t *endpoint,
                       const mod_mdm_site_t *site,
                       const effective_t *effective,
                       const mdm_config_t *location, const mdm_log_t *log)
{
    const char *protocol = ap_get_server_protocol(endpoint->server);
    mod_mdm_verify_t verify = effective->dir.verify;
    mdm_host_limits_t limits = {
        .body_max = (uint64_t)effective->body_limit,
        .header_max = (uint64_t)endpoint->server->limit_req_fieldsize,
        .body_name = "LimitRequestBody",
        .header_name = "LimitRequestFieldSize",
        .tls_line = "SSLEngine on",
        .asks_line = "SSLVerifyClient optional_no_ca",
    };

    limits.tls = site->engine ? ap_cstr_casecmp(site->engine, "off") != 0
                              : protocol && !strcmp(protocol, "https");
    if (verify < effective->if_verify)
        verify = effective->if_verify;
    /* mod_ssl asks again for what is stricter than the handshake was. */
    if (verify > MOD_MDM_VERIFY_NONE && verify > site->verify)
        limits.asks = MDM_HOST_ASKS_LATER;
    else if (site->verify > MOD_MDM_VERIFY_NONE)
        limits.asks = MDM_HOST_ASKS_FIRST;
    mdm_config_check_host(location, &limits, log);
}

static mdm_rc check_endpoint(apr_pool_t *p, mod_mdm_endpoint_t *endpoint)
{
    effective_t effective = effective_of(p, endpoint);
    const mdm_config_t *location = mod_mdm_location(p, &effective.dir);
    const mod_mdm_site_t *site = ap_get_module_config(
        endpoint->server->module_config, &mdm_module);
    mdm_log_t log = mod_mdm_log_startup(endpoint);
    mdm_err_t err = {MDM_OK, 0, ""};
    mdm_rc rc = MDM_OK;

    if (location == NULL)
        return MDM_OK; /* "off", here or by a later section */
    rc = mdm_config_check_endpoint(mod_mdm_service->main, site->node,
                                   location, &log, &err);
    if (rc != MDM_OK)
        log.write(log.ctx, MDM_LOG_ERROR, __FILE__, __LINE__, err.text);
    else
        check_host(endpoint, site, &effective, location, &log);
    return rc;
}

int mod_mdm_check_config(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp, server_rec *s)
{
    mod_mdm_endpoint_t *endpoints =
        (mod_mdm_endpoint_t *)mod_mdm_service->endpoints->elts;
    mod_mdm_endpoint_t nowhere = {.server = s};
    mdm_log_t log = mod_mdm_log_startup(&nowhere);
    mdm_err_t err = {MDM_OK, 0, ""};
    mod_mdm_site_t *site = NULL;
    server_rec *each = NULL;
    int result = OK;
    int i = 0;

    (void)plog;
    (void)ptemp;
    node_need(pconf, &mod_mdm_service->main, MDM_SCOPE_MAIN);
    for (each = s; each != NULL; each = each->next) {
        site = ap_get_module_config(each->module_config, &mdm_module);
        node_need(pconf, &site->node, MDM_SCOPE_SERVER);
    }
    for (i = 0; i < mod_mdm_service->endpoints->nelts; i++)
        endpoint_settle(&endpoints[i]);
    for (i = 0; i < mod_mdm_service->endpoints->nelts; i++) {
        if (check_endpoint(pconf, &endpoints[i]) != MDM_OK)
            result = HTTP_INTERNAL_SERVER_ERROR;
    }
    if (mdm_config_check(mod_mdm_service->main, &log, &err) != MDM_OK) {
        log.write(log.ctx, MDM_LOG_ERROR, __FILE__, __LINE__, err.text);
        result = HTTP_INTERNAL_SERVER_ERROR;
    }
    return result;
}
