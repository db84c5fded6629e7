/*
 * mdm_mem.h - the arena: everything made for one request or one
 * configuration lives and dies together.
 *
 * One arena belongs to one thread at a time.  A wiping arena overwrites its
 * blocks before it frees them; use it where secrets pass through.
 */
#ifndef MDM_MEM_H
#define MDM_MEM_H

#include <stdarg.h>

#include "mdm_base.h"

typedef struct mdm_arena mdm_arena_t;

/* New arena; `wipe` overwrites on free.  NULL when memory is out. */
mdm_arena_t *mdm_arena_new(bool wipe) MDM_USE_RESULT;
/* Frees the arena and all it gave out; sets *arena to NULL. */
void mdm_arena_free(mdm_arena_t **arena);

/* Zeroed memory aligned for any type, valid until the arena is freed.
 * NULL when memory is out. */
void *mdm_arena_alloc(mdm_arena_t *arena, size_t size) MDM_USE_RESULT;
/* Copies; the copy of n bytes has a NUL behind it. */
char *mdm_arena_dup(mdm_arena_t *arena, const void *data, size_t n)
    MDM_USE_RESULT;
char *mdm_arena_strdup(mdm_arena_t *arena, const char *text) MDM_USE_RESULT;
/* Copies a counted string; absent stays absent.  False: memory is out. */
bool mdm_arena_str(mdm_arena_t *arena, mdm_str_t in, mdm_str_t *out_r)
    MDM_USE_RESULT;
char *mdm_arena_printf(mdm_arena_t *arena, const char *fmt, ...)
    MDM_USE_RESULT MDM_PRINTF(2, 3);
char *mdm_arena_vprintf(mdm_arena_t *arena, const char *fmt, va_list ap)
    MDM_USE_RESULT MDM_PRINTF(2, 0);

/* Overwrites memory in a way the compiler keeps. */
void mdm_wipe(void *data, size_t n);

#endif
