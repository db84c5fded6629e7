/*
 * mdm_log_lines.c - keeps the lines of a thread that may not write its log
 * itself, such as a thread of a pool that works for an event loop.  The
 * object is its owner's; the thread has it between init and flush.
 */
#include "mdm_log.h"

#include <stdlib.h>
#include <string.h>

static bool lines_on(void *ctx, mdm_level_t level)
{
    mdm_log_lines_t *lines = ctx;

    return lines->on[level];
}

static void lines_write(void *ctx, mdm_level_t level, const char *file,
                        int line, const char *msg)
{
    mdm_log_lines_t *lines = ctx;
    size_t size = strlen(msg) + 1;

    if (lines->text == NULL) {
        /* Not before: most requests have nothing to say. */
        lines->text = malloc(MDM_LOG_LINES_BYTES);
    }
    if (lines->text == NULL || lines->n == MDM_LOG_LINES_MAX ||
        size > MDM_LOG_LINES_BYTES - lines->used) {
        lines->lost++;
        return;
    }
    lines->line[lines->n].level = level;
    lines->line[lines->n].file = file;
    lines->line[lines->n].line = line;
    lines->n++;
    memcpy(lines->text + lines->used, msg, size);
    lines->used += size;
}

mdm_log_t mdm_log_lines_init(mdm_log_lines_t *lines, const mdm_log_t *to)
{
    int level;

    memset(lines, 0, sizeof(*lines));
    for (level = MDM_LOG_ALERT; level <= MDM_LOG_DEBUG; level++) {
        lines->on[level] = to->on(to->ctx, (mdm_level_t)level);
    }
    return (mdm_log_t){.ctx = lines, .on = lines_on, .write = lines_write};
}

void mdm_log_lines_flush(mdm_log_lines_t *lines, const mdm_log_t *to)
{
    const char *msg = lines->text;
    size_t i;

    for (i = 0; to != NULL && i < lines->n; i++) {
        to->write(to->ctx, lines->line[i].level, lines->line[i].file,
                  lines->line[i].line, msg);
        msg += strlen(msg) + 1;
    }
    if (lines->lost > 0) {
        mdm_log_info(to, "%llu more lines of this request found no room",
                     (unsigned long long)lines->lost);
    }
    free(lines->text);
    lines->text = NULL;
    lines->used = 0;
    lines->n = 0;
    lines->lost = 0;
}
