/*
 * mdm_mem.c - the arena: blocks from malloc, bump allocation inside.  A large
 * object gets a block of its own, so that a 32 MB body does not round up.
 */
#include "mdm_mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#define BLOCK_BYTES 4096
#define ALIGNMENT _Alignof(max_align_t)

typedef struct block {
    struct block *next;
    size_t used; /* bytes given out behind the header */
    size_t size; /* bytes behind the header */
} block_t;

/* The header is followed by the data, so its size keeps the alignment. */
#define HEADER_BYTES                                                          \
    ((sizeof(block_t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

struct mdm_arena {
    block_t *blocks; /* the newest small block first */
    bool wipe;
};

mdm_arena_t *mdm_arena_new(bool wipe)
{
    mdm_arena_t *arena = calloc(1, sizeof(*arena));

    if (arena != NULL) {
        arena->wipe = wipe;
    }
    return arena;
}

void mdm_arena_free(mdm_arena_t **arena)
{
    block_t *block;
    block_t *next;

    if (*arena == NULL) {
        return;
    }
    for (block = (*arena)->blocks; block != NULL; block = next) {
        next = block->next;
        if ((*arena)->wipe) {
            OPENSSL_cleanse((char *)block + HEADER_BYTES, block->used);
        }
        free(block);
    }
    free(*arena);
    *arena = NULL;
}

static block_t *add_block(mdm_arena_t *arena, size_t size)
{
    block_t *block = malloc(HEADER_BYTES + size);

    if (block == NULL) {
        return NULL;
    }
    block->used = 0;
    block->size = size;
    /* A block for one large object goes behind the one still filling up. */
    if (size > BLOCK_BYTES && arena->blocks != NULL) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

/* Memory as malloc leaves it, rounded up to the alignment. */
static void *take(mdm_arena_t *arena, size_t size)
{
    block_t *block = arena->blocks;
    void *p;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (block == NULL || block->size - block->used < size) {
        block = add_block(arena, size > BLOCK_BYTES ? size : BLOCK_BYTES);
        if (block == NULL) {
            return NULL;
        }
    }
    p = (char *)block + HEADER_BYTES + block->used;
    block->used += size;
    return p;
}

void *mdm_arena_alloc(mdm_arena_t *arena, size_t size)
{
    void *p = take(arena, size);

    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

char *mdm_arena_dup(mdm_arena_t *arena, const void *data, size_t n)
{
    char *p = n < SIZE_MAX ? take(arena, n + 1) : NULL;

    if (p != NULL) {
        if (n > 0) {
            memcpy(p, data, n);
        }
        p[n] = '\0';
    }
    return p;
}

char *mdm_arena_strdup(mdm_arena_t *arena, const char *text)
{
    return mdm_arena_dup(arena, text, strlen(text));
}

bool mdm_arena_str(mdm_arena_t *arena, mdm_str_t in, mdm_str_t *out_r)
{
    *out_r = MDM_STR_NONE;
    if (in.s == NULL) {
        return true;
    }
    out_r->s = mdm_arena_dup(arena, in.s, in.n);
    out_r->n = out_r->s != NULL ? in.n : 0;
    return out_r->s != NULL;
}

char *mdm_arena_vprintf(mdm_arena_t *arena, const char *fmt, va_list ap)
{
    va_list again;
    char *p = NULL;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0) {
        p = take(arena, (size_t)n + 1);
    }
    if (p != NULL) {
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return p;
}

char *mdm_arena_printf(mdm_arena_t *arena, const char *fmt, ...)
{
    va_list ap;
    char *p;

    va_start(ap, fmt);
    p = mdm_arena_vprintf(arena, fmt, ap);
    va_end(ap);
    return p;
}

void mdm_wipe(void *data, size_t n)
{
    if (data != NULL) {
        OPENSSL_cleanse(data, n);
    }
}
