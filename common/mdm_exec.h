/*
 * mdm_exec.h - runs a program of the administrator's and takes what it
 * prints: the one place of the core that starts a process.
 *
 * For the parent while it reads its configuration, so one thread and as the
 * user that the host was started as; no shell, no arguments.  Not for a
 * worker: it waits.
 */
#ifndef MDM_EXEC_H
#define MDM_EXEC_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"

/* The most that a program may print. */
#define MDM_EXEC_OUTPUT_MAX 4096

/* Runs `program`, an absolute path, and gives all it wrote to its standard
 * output, in the arena, which should wipe.  The program has an empty standard
 * input, the host's standard error, no other descriptor, no terminal, default
 * signals, and an environment of PATH alone.  It is killed with those it
 * started when it is not done after timeout_us, or prints too much.
 * MDM_EINVAL: no absolute path.  MDM_EUNAVAIL: cannot be run, or did not end
 * with status 0.  MDM_ETIMEDOUT; MDM_ETOOBIG; MDM_ENOMEM. */
mdm_rc mdm_exec_read(const char *program, int64_t timeout_us,
                     mdm_arena_t *arena, mdm_str_t *output_r,
                     mdm_err_t *err) MDM_USE_RESULT;

#endif
