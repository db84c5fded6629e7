/*
 * mdm_log.c - formats log lines and hands them to the host.  Any thread the
 * given log allows; no state.
 */
#include "mdm_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 1024

typedef struct message {
    int number;
    const char *remedy;
} message_t;

static const message_t messages[] = {
#define MDM_MESSAGE(number, name, remedy) {number, remedy},
#include "mdm_messages.def"
#undef MDM_MESSAGE
};

const char *mdm_msg_remedy(mdm_msg_t id)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(messages); i++) {
        if (messages[i].number == (int)id) {
            return messages[i].remedy;
        }
    }
    return "";
}

static bool is_on(const mdm_log_t *log, mdm_level_t level)
{
    return log != NULL && log->write != NULL && log->on != NULL &&
           log->on(log->ctx, level);
}

/* "MDM0101: text; remedy" */
static void write_message(const mdm_log_t *log, mdm_level_t level, int id,
                          const char *file, int line, const char *text)
{
    char msg[LINE_MAX_BYTES];
    const char *remedy = mdm_msg_remedy((mdm_msg_t)id);

    (void)snprintf(msg, sizeof(msg), "MDM%04d: %s%s%s", id, text,
                   remedy[0] != '\0' ? "; " : "", remedy);
    mdm_err_printable(msg);
    log->write(log->ctx, level, file, line, msg);
}

void mdm_log_msg_at(const mdm_log_t *log, mdm_level_t level, mdm_msg_t id,
                    const char *file, int line, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES];
    va_list ap;

    if (!is_on(log, level)) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    write_message(log, level, (int)id, file, line, text);
}

void mdm_log_at(const mdm_log_t *log, mdm_level_t level, const char *file,
                int line, const char *fmt, ...)
{
    char text[LINE_MAX_BYTES];
    va_list ap;

    if (!is_on(log, level)) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    mdm_err_printable(text);
    log->write(log->ctx, level, file, line, text);
}

void mdm_log_err_at(const mdm_log_t *log, mdm_level_t level, mdm_msg_t id,
                    const char *file, int line, const mdm_err_t *err)
{
    if (is_on(log, level)) {
        write_message(log, level, err->id != 0 ? err->id : (int)id, file,
                      line, err->text);
    }
}

bool mdm_log_limit_pass(mdm_log_limit_t *limit, int64_t now_us,
                        int64_t interval_us, uint64_t *held_r)
{
    if (limit->next_us != 0 && now_us < limit->next_us) {
        limit->held++;
        return false;
    }
    *held_r = limit->held;
    limit->held = 0;
    limit->next_us = now_us + interval_us;
    return true;
}
