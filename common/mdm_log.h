/*
 * mdm_log.h - the printf front to the host's log.
 *
 * A log is a value: two callbacks and their context.  Whoever has one may use
 * it from the thread the host allows (see mdm.h).  Lines of level notice and
 * above go through mdm_log_msg() with a number of mdm_messages.def.
 */
#ifndef MDM_LOG_H
#define MDM_LOG_H

#include "mdm_base.h"
#include "mdm_err.h"

typedef enum mdm_level {
    MDM_LOG_ALERT,
    MDM_LOG_ERROR,
    MDM_LOG_WARNING,
    MDM_LOG_NOTICE,
    MDM_LOG_INFO,
    MDM_LOG_DEBUG
} mdm_level_t;

typedef struct mdm_log {
    void *ctx;
    /* Is this level written at all?  NULL: no. */
    bool (*on)(void *ctx, mdm_level_t level);
    /* Takes one line without newline; copies it. */
    void (*write)(void *ctx, mdm_level_t level, const char *file, int line,
                  const char *msg);
} mdm_log_t;

/* Symbolic names of the message numbers: MDM_MSG_STARTED = 1, ... */
typedef enum mdm_msg {
#define MDM_MESSAGE(number, name, remedy) MDM_MSG_##name = number,
#include "mdm_messages.def"
#undef MDM_MESSAGE
    MDM_MSG_NONE = 0
} mdm_msg_t;

/* "Says it once": remembers when a repeating message was last written, so
 * that a fault that hits every request makes one line a minute with a count.
 * Zero-initialise; guard by the owner's lock or use from one thread. */
typedef struct mdm_log_limit {
    int64_t next_us; /* monotonic time of the next line allowed */
    uint64_t held;   /* lines held back since the last one */
} mdm_log_limit_t;

/* Remedy text of a message number, "" when there is none or it is unknown. */
const char *mdm_msg_remedy(mdm_msg_t id);

/* Writes "MDM####: text; remedy" when `level` is on.  `log` may be NULL. */
void mdm_log_msg_at(const mdm_log_t *log, mdm_level_t level, mdm_msg_t id,
                    const char *file, int line, const char *fmt, ...)
    MDM_PRINTF(6, 7);

/* Writes a plain line (info and debug only). */
void mdm_log_at(const mdm_log_t *log, mdm_level_t level, const char *file,
                int line, const char *fmt, ...) MDM_PRINTF(5, 6);

/* Writes an error object; its own id wins over `id`. */
void mdm_log_err_at(const mdm_log_t *log, mdm_level_t level, mdm_msg_t id,
                    const char *file, int line, const mdm_err_t *err);

/* May a line governed by `limit` be written now?  Counts those held back
 * and hands their number out in *held_r when it says yes. */
bool mdm_log_limit_pass(mdm_log_limit_t *limit, int64_t now_us,
                        int64_t interval_us, uint64_t *held_r);

/* Lines kept for a log that only another thread may write, and later. */
#define MDM_LOG_LINES_MAX 32
#define MDM_LOG_LINES_BYTES (16 * 1024)

typedef struct mdm_log_lines {
    bool on[MDM_LOG_DEBUG + 1]; /* which levels are worth keeping */
    char *text;                 /* heap: one after the other, with NULs */
    size_t used;
    size_t n;
    uint64_t lost; /* found no room */
    struct {
        mdm_level_t level;
        const char *file;
        int line;
    } line[MDM_LOG_LINES_MAX];
} mdm_log_lines_t;

/* Returns a log that keeps in `lines` what `to` would write by now.  One
 * thread at a time; `lines` must outlive the log.  `to` is not kept. */
mdm_log_t mdm_log_lines_init(mdm_log_lines_t *lines, const mdm_log_t *to);
/* Writes what was kept to `to`, frees it, and is ready to keep more.
 * NULL: frees alone.  A zeroed object is fine, too. */
void mdm_log_lines_flush(mdm_log_lines_t *lines, const mdm_log_t *to);

#define mdm_log_msg(log, level, id, ...)                                      \
    mdm_log_msg_at(log, level, id, __FILE__, __LINE__, __VA_ARGS__)
#define mdm_log_err(log, level, id, err)                                      \
    mdm_log_err_at(log, level, id, __FILE__, __LINE__, err)
#define mdm_log_info(log, ...)                                                \
    mdm_log_at(log, MDM_LOG_INFO, __FILE__, __LINE__, __VA_ARGS__)
#define mdm_log_debug(log, ...)                                               \
    mdm_log_at(log, MDM_LOG_DEBUG, __FILE__, __LINE__, __VA_ARGS__)

#endif
