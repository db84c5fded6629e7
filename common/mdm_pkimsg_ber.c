/*
 * mdm_pkimsg_ber.c - bounds on BER before a library reads it: OpenSSL reads
 * nested values by calling itself, and keeps an object for each.  No
 * recursion here, one pass.
 */
#include "mdm_pkimsg_int.h"

#define DEPTH_MAX 32
#define ITEMS_MAX 4000

typedef struct walk {
    const unsigned char *p;
    size_t n;  /* bytes left */
    size_t at; /* position */
    size_t ends[DEPTH_MAX]; /* of the values around; SIZE_MAX: indefinite */
    unsigned depth;
    unsigned items;
} walk_t;

static bool next_byte(walk_t *w, unsigned *byte_r)
{
    if (w->at >= w->n) {
        return false;
    }
    *byte_r = w->p[w->at++];
    return true;
}

/* A tag of one byte, or one that goes on for at most four more. */
static bool skip_tag(walk_t *w, unsigned *first_r)
{
    unsigned byte;
    unsigned i;

    if (!next_byte(w, first_r)) {
        return false;
    }
    if ((*first_r & 0x1fU) != 0x1fU) {
        return true;
    }
    for (i = 0; i < 4; i++) {
        if (!next_byte(w, &byte)) {
            return false;
        }
        if ((byte & 0x80U) == 0) {
            return true;
        }
    }
    return false;
}

static bool read_length(walk_t *w, size_t *length_r, bool *open_r)
{
    unsigned byte;
    unsigned i;
    size_t n = 0;

    *open_r = false;
    if (!next_byte(w, &byte)) {
        return false;
    }
    if (byte == 0x80U) {
        *open_r = true;
        return true;
    }
    if (byte < 0x80U) {
        *length_r = byte;
        return true;
    }
    i = byte & 0x7fU;
    if (i > 4) {
        return false;
    }
    for (; i > 0; i--) {
        if (!next_byte(w, &byte)) {
            return false;
        }
        n = n << 8 | byte;
    }
    *length_r = n;
    return true;
}

/* Where the values around must end at the latest. */
static size_t limit(const walk_t *w)
{
    unsigned i;

    for (i = w->depth; i > 0; i--) {
        if (w->ends[i - 1] != SIZE_MAX) {
            return w->ends[i - 1];
        }
    }
    return w->n;
}

static bool enter(walk_t *w, size_t end)
{
    if (w->depth == DEPTH_MAX) {
        return false;
    }
    w->ends[w->depth++] = end;
    return true;
}

/* One value: into it when it holds others, else over it. */
static bool step(walk_t *w)
{
    unsigned tag = 0;
    size_t length = 0;
    bool open;

    if (++w->items > ITEMS_MAX || !skip_tag(w, &tag) ||
        !read_length(w, &length, &open)) {
        return false;
    }
    if (tag == 0 && !open && length == 0) { /* ends an indefinite one */
        return w->depth > 0 && w->ends[w->depth - 1] == SIZE_MAX &&
               w->depth-- > 0;
    }
    if (open) {
        return (tag & 0x20U) != 0 && enter(w, SIZE_MAX);
    }
    if (w->at > limit(w) || length > limit(w) - w->at) {
        return false;
    }
    if ((tag & 0x20U) != 0) {
        return enter(w, w->at + length);
    }
    w->at += length;
    return true;
}

bool mdm_ber_is_sane(mdm_str_t data)
{
    walk_t w = {.p = (const unsigned char *)data.s, .n = data.n};

    if (data.n == 0 || data.n > MDM_PKIMSG_MAX) {
        return false;
    }
    do {
        if (!step(&w)) {
            return false;
        }
        while (w.depth > 0 && w.ends[w.depth - 1] == w.at) {
            w.depth--;
        }
    } while (w.depth > 0);
    return w.at == w.n;
}
