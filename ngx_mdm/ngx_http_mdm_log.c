/*
 * ngx_http_mdm_log.c - the core's log lines on their way into nginx's logs.
 *
 * Lines of the configuration and of the process are written at once, also
 * from the core's own thread, as nginx's thread pool does (a cycle's log has
 * no handler that could look at a connection).  Lines of a request come from
 * a pool thread, where its log may not be touched: the core keeps them until
 * the event loop writes them here.
 */
#include "ngx_http_mdm.h"

static const ngx_uint_t  ngx_http_mdm_log_levels[] = {
    [MDM_LOG_ALERT] = NGX_LOG_ALERT,
    [MDM_LOG_ERROR] = NGX_LOG_ERR,
    [MDM_LOG_WARNING] = NGX_LOG_WARN,
    [MDM_LOG_NOTICE] = NGX_LOG_NOTICE,
    [MDM_LOG_INFO] = NGX_LOG_INFO,
    [MDM_LOG_DEBUG] = NGX_LOG_DEBUG
};

static bool ngx_http_mdm_log_on(void *data, mdm_level_t level)
{
    ngx_http_mdm_log_ctx_t *ctx = data;

    return ctx->log->log_level >= ngx_http_mdm_log_levels[level];
}

static void ngx_http_mdm_log_write(void *data, mdm_level_t level,
                                   const char *file, int line,
                                   const char *msg)
{
    ngx_http_mdm_log_ctx_t *ctx = data;
    ngx_uint_t ngx_level = ngx_http_mdm_log_levels[level];

    (void)file;
    (void)line;
    if (ctx->node != NULL && ctx->node->line) {
        ngx_log_error(ngx_level, ctx->log, 0, "%s in %V:%ui", msg,
                      &ctx->node->file, ctx->node->line);
        return;
    }
    ngx_log_error(ngx_level, ctx->log, 0, "%s", msg);
}

mdm_log_t ngx_http_mdm_log(ngx_http_mdm_log_ctx_t *ctx)
{
    return (mdm_log_t){.ctx = ctx,
                       .on = ngx_http_mdm_log_on,
                       .write = ngx_http_mdm_log_write};
}
