/*
 * mod_mdm_log.c - the core's log lines into httpd's error log, under this
 * module's own level (LogLevel mdm:debug).
 *
 * Three destinations: the console and error log while httpd starts, the main
 * server's log for the background thread, a request's log for its request.
 * Any thread; httpd's logging calls are thread-safe.
 */
#include "mod_mdm.h"

APLOG_USE_MODULE(mdm);

static int host_level(mdm_level_t level)
{
    static const int levels[] = {APLOG_ALERT,  APLOG_ERR,  APLOG_WARNING,
                                 APLOG_NOTICE, APLOG_INFO, APLOG_DEBUG};

    return levels[level];
}

static bool server_on(void *ctx, mdm_level_t level)
{
    server_rec *s = ctx;

    return APLOG_IS_LEVEL(s, host_level(level));
}

static void server_write(void *ctx, mdm_level_t level, const char *file,
                         int line, const char *msg)
{
    server_rec *s = ctx;

    ap_log_error(file, line, APLOG_MODULE_INDEX, host_level(level), 0, s,
                 "%s", msg);
}

static bool startup_on(void *ctx, mdm_level_t level)
{
    mod_mdm_endpoint_t *endpoint = ctx;

    return server_on(endpoint->server, level);
}

static void startup_write(void *ctx, mdm_level_t level, const char *file,
                          int line, const char *msg)
{
    mod_mdm_endpoint_t *endpoint = ctx;
    int how = APLOG_STARTUP | host_level(level);

    if (endpoint->file != NULL)
        ap_log_error(file, line, APLOG_MODULE_INDEX, how, 0, endpoint->server,
                     "%s in %s:%d", msg, endpoint->file, endpoint->line);
    else
        ap_log_error(file, line, APLOG_MODULE_INDEX, how, 0, endpoint->server,
                     "%s", msg);
}

static bool request_on(void *ctx, mdm_level_t level)
{
    request_rec *r = ctx;

    return APLOG_R_IS_LEVEL(r, host_level(level));
}

static void request_write(void *ctx, mdm_level_t level, const char *file,
                          int line, const char *msg)
{
    request_rec *r = ctx;

    ap_log_rerror(file, line, APLOG_MODULE_INDEX, host_level(level), 0, r,
                  "%s", msg);
}

mdm_log_t mod_mdm_log_startup(mod_mdm_endpoint_t *endpoint)
{
    return (mdm_log_t){endpoint, startup_on, startup_write};
}

mdm_log_t mod_mdm_log_server(server_rec *s)
{
    return (mdm_log_t){s, server_on, server_write};
}

mdm_log_t mod_mdm_log_request(request_rec *r)
{
    return (mdm_log_t){r, request_on, request_write};
}
