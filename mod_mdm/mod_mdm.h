/*
 * mod_mdm.h - shared between the files of the Apache front end.
 *
 * mod_mdm.c has the life cycle, mod_mdm_config.c the directives and checks,
 * mod_mdm_request.c everything a request touches, mod_mdm_log.c the bridge
 * to httpd's error log.  Decisions are the core's (common/mdm.h).
 *
 * Memory: what belongs to the configuration lives in pconf and dies with it,
 * before the module is unloaded at a restart.  Threads: configuration is
 * read-only once children run; only the fields of mod_mdm_service_t marked
 * "child" change there.
 */
#ifndef MOD_MDM_H
#define MOD_MDM_H

#include "httpd.h"
#include "http_config.h"
#include "http_log.h"

#include <stdatomic.h>

#include "mdm.h"

/* Visible whatever -fvisibility says: httpd looks the record up by name. */
extern __attribute__((visibility("default"))) module mdm_module;

/* The one service of this process; a new one for each reading of the
 * configuration. */
typedef struct mod_mdm_service {
    server_rec *base;   /* the main server */
    mdm_config_t *main; /* settings of the main server config */
    /* of mod_mdm_endpoint_t: each place where MDMEndpoint was read */
    apr_array_header_t *endpoints;
    mdm_host_t host;
    mdm_server_t *server; /* NULL: no endpoint is in use */
    bool threaded;        /* false under prefork */
    /* child: */
    bool started;
    const char *temp_dir; /* for large bodies, NULL: none found */
    atomic_bool stopping;
    atomic_bool graceful;
} mod_mdm_service_t;

/* What SSLVerifyClient may say, by how much it asks of a client. */
typedef enum mod_mdm_verify {
    MOD_MDM_VERIFY_UNSET,
    MOD_MDM_VERIFY_NONE,
    MOD_MDM_VERIFY_OPTIONAL,
    MOD_MDM_VERIFY_REQUIRE
} mod_mdm_verify_t;

/* Per server: the settings that may differ between virtual hosts. */
typedef struct mod_mdm_site {
    mdm_config_t *node;
    mod_mdm_verify_t verify; /* of mod_ssl */
    const char *engine;      /* mod_ssl's SSLEngine, NULL: unset */
} mod_mdm_site_t;

/* Per section.  The endpoint stands apart from the other settings because it
 * belongs to the section that names it, whatever sections are merged later. */
typedef struct mod_mdm_dir {
    mdm_config_t *settings; /* NULL: none given */
    mdm_config_t *endpoint; /* NULL: none given */
    mod_mdm_verify_t verify; /* of mod_ssl */
} mod_mdm_dir_t;

/* One MDMEndpoint line. */
typedef struct mod_mdm_endpoint {
    server_rec *server;
    ap_conf_vector_t *section;
    mod_mdm_dir_t *dir;
    const char *file;
    int line;
} mod_mdm_endpoint_t;

/* The single piece of state outside pools; set while the configuration is
 * read, zero again after the module was loaded anew. */
extern mod_mdm_service_t *mod_mdm_service;

/* mod_mdm_config.c */
extern const command_rec mod_mdm_commands[];
void *mod_mdm_create_server(apr_pool_t *p, server_rec *s);
void *mod_mdm_merge_server(apr_pool_t *p, void *base, void *add);
void *mod_mdm_create_dir(apr_pool_t *p, char *path);
void *mod_mdm_merge_dir(apr_pool_t *p, void *base, void *add);
int mod_mdm_check_config(apr_pool_t *pconf, apr_pool_t *plog,
                         apr_pool_t *ptemp, server_rec *s);
/* The section's endpoint completed by its settings; NULL: not ours. */
const mdm_config_t *mod_mdm_location(apr_pool_t *p, const mod_mdm_dir_t *dir);

/* mod_mdm_request.c */
void mod_mdm_request_hooks(void);

/* mod_mdm_log.c */
/* Also names the endpoint's line; NULL in `file`: none. */
mdm_log_t mod_mdm_log_startup(mod_mdm_endpoint_t *endpoint);
mdm_log_t mod_mdm_log_server(server_rec *s);
mdm_log_t mod_mdm_log_request(request_rec *r);

#endif
