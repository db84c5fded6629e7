/*
 * ngx_http_mdm_modules.c - the three tables that nginx looks up in a dynamic
 * module.  nginx's own build generates them, so this file is only for the
 * libtool build of Makefile.inc, where they are the only symbols exported.
 */
#include <ngx_config.h>
#include <ngx_core.h>

#define NGX_HTTP_MDM_EXPORT __attribute__((visibility("default")))

extern ngx_module_t ngx_http_mdm_module;
extern NGX_HTTP_MDM_EXPORT ngx_module_t *ngx_modules[];
extern NGX_HTTP_MDM_EXPORT char *ngx_module_names[];
extern NGX_HTTP_MDM_EXPORT char *ngx_module_order[];

ngx_module_t *ngx_modules[] = {&ngx_http_mdm_module, NULL};
char *ngx_module_names[] = {"ngx_http_mdm_module", NULL};
/* last, so that of the access phase ours is the first handler to run */
char *ngx_module_order[] = {NULL};
