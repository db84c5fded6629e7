/*
 * ngx_http_mdm_log.c - the core's log lines on their way into nginx's logs.
 *
 * Two kinds: lines of the configuration and of the process are written at
 * once, also from the core's own thread, as nginx's thread pool does (a
 * cycle's log has no handler that could look at a connection).  Lines of a
 * request come from a pool thread, where neither the request nor its log may
 * be touched: they are kept in the job and written by the event loop.
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

static bool ngx_http_mdm_process_log_on(void *data, mdm_level_t level)
{
    ngx_http_mdm_log_ctx_t *ctx = data;

    return ctx->log->log_level >= ngx_http_mdm_log_levels[level];
}

static void ngx_http_mdm_process_log_write(void *data, mdm_level_t level,
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

mdm_log_t ngx_http_mdm_process_log(ngx_http_mdm_log_ctx_t *ctx)
{
    return (mdm_log_t){.ctx = ctx,
                       .on = ngx_http_mdm_process_log_on,
                       .write = ngx_http_mdm_process_log_write};
}

static bool ngx_http_mdm_request_log_on(void *data, mdm_level_t level)
{
    ngx_http_mdm_lines_t *lines = data;

    return lines->level >= ngx_http_mdm_log_levels[level];
}

static void ngx_http_mdm_request_log_write(void *data, mdm_level_t level,
                                           const char *file, int line,
                                           const char *msg)
{
    ngx_http_mdm_lines_t *lines = data;
    size_t len = ngx_strlen(msg);

    (void)file;
    (void)line;
    if (lines->text == NULL) {
        /* not before: most requests have nothing to say */
        lines->text = malloc(NGX_HTTP_MDM_LINES_BYTES);
    }
    if (lines->text == NULL || lines->n == NGX_HTTP_MDM_LINES
        || len > NGX_HTTP_MDM_LINES_BYTES - lines->used) {
        lines->lost++;
        return;
    }
    lines->line[lines->n].level = ngx_http_mdm_log_levels[level];
    lines->line[lines->n].len = len;
    lines->n++;
    ngx_memcpy(lines->text + lines->used, msg, len);
    lines->used += len;
}

mdm_log_t ngx_http_mdm_request_log(ngx_http_mdm_lines_t *lines)
{
    return (mdm_log_t){.ctx = lines,
                       .on = ngx_http_mdm_request_log_on,
                       .write = ngx_http_mdm_request_log_write};
}

void ngx_http_mdm_lines_flush(ngx_http_mdm_lines_t *lines, ngx_log_t *log)
{
    u_char *p = lines->text;
    ngx_uint_t i;

    for (i = 0; i < lines->n; i++) {
        ngx_log_error(lines->line[i].level, log, 0, "%*s",
                      lines->line[i].len, p);
        p += lines->line[i].len;
    }
    if (lines->lost) {
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "%ui more mdm lines of this request found no room",
                      lines->lost);
    }
    free(lines->text);
    ngx_memzero(lines, sizeof(*lines));
}
