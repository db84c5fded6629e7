/*
 * mdm_plist_keys.c - no key twice in one dictionary, at a cost that the
 * sender cannot drive up.
 *
 * A key stands for itself by a 64-bit hash; the hashes of all dictionaries
 * that are open lie on one stack.  A small dictionary compares each new key
 * with those before it, a large one is sorted once when it ends.  No hash
 * table, so no collision makes anything slow.  Two different keys with one
 * hash count as a duplicate: by chance that does not happen, and who makes
 * it happen has his own document refused and gains nothing.
 */
#include "mdm_plist_int.h"

#include <stdlib.h>
#include <string.h>

/* Dictionaries up to this size are compared, larger ones sorted. */
#define COMPARED 48

static const char fault[] = "a key twice in a dictionary";

typedef struct hash {
    uint64_t h;
    uint64_t word;
    size_t n;
} hash_t;

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

/* The pieces of one text give one hash however they are cut. */
static void hash_add(hash_t *h, mdm_str_t piece)
{
    size_t room;
    size_t n;

    while (piece.n > 0) {
        room = 8 - h->n % 8;
        if (room == 8 && piece.n >= 8) {
            memcpy(&h->word, piece.s, 8);
            n = 8;
        } else {
            n = piece.n < room ? piece.n : room;
            memcpy((char *)&h->word + h->n % 8, piece.s, n);
        }
        h->n += n;
        piece.s += n;
        piece.n -= n;
        if (h->n % 8 == 0) {
            h->h = mix(h->h, h->word);
            h->word = 0;
        }
    }
}

static uint64_t hash_text(const mdm_plist_text_t *text)
{
    hash_t h = {UINT64_C(0x6d646d2d706c6973), 0, 0};
    mdm_plist_pieces_t it;
    mdm_str_t piece = {(const char *)text->s, text->n};

    if (text->plain) {
        hash_add(&h, piece);
    } else {
        mdm_plist_pieces_init(&it, text);
        while (mdm_plist_pieces_next(&it, &piece)) {
            hash_add(&h, piece);
        }
    }
    return mix(mix(h.h, h.word), h.n);
}

void mdm_plist_keys_init(mdm_plist_keys_t *keys)
{
    keys->keys = keys->first;
    keys->n = 0;
    keys->cap = MDM_PLIST_KEYS_INLINE;
}

void mdm_plist_keys_clear(mdm_plist_keys_t *keys)
{
    if (keys->keys != keys->first) {
        free(keys->keys);
    }
    mdm_plist_keys_init(keys);
}

static bool grow(mdm_plist_keys_t *keys)
{
    size_t cap = keys->cap * 2;
    mdm_plist_key_t *more;

    if (keys->keys == keys->first) {
        more = malloc(cap * sizeof(*more));
        if (more != NULL) {
            memcpy(more, keys->keys, keys->n * sizeof(*more));
        }
    } else {
        more = realloc(keys->keys, cap * sizeof(*more));
    }
    if (more == NULL) {
        return false;
    }
    keys->keys = more;
    keys->cap = cap;
    return true;
}

mdm_rc mdm_plist_keys_add(mdm_plist_keys_t *keys, size_t first,
                          mdm_plist_reader_t *r, const unsigned char *at,
                          const mdm_plist_text_t *text)
{
    uint64_t hash = hash_text(text);
    size_t n = keys->n - first;
    size_t i;

    if (n >= MDM_PLIST_KEYS_MAX) {
        return mdm_plist_fail(r, at, "too many keys in one dictionary");
    }
    if (n < COMPARED) {
        for (i = first; i < keys->n; i++) {
            if (keys->keys[i].hash == hash) {
                return mdm_plist_fault(r, at, fault);
            }
        }
    }
    if (keys->n == keys->cap && !grow(keys)) {
        return mdm_err_nomem(r->err);
    }
    keys->keys[keys->n].hash = hash;
    keys->keys[keys->n].at = at;
    keys->n++;
    return MDM_OK;
}

static bool less(const mdm_plist_key_t *a, const mdm_plist_key_t *b)
{
    return a->hash < b->hash || (a->hash == b->hash && a->at < b->at);
}

static void sift_down(mdm_plist_key_t *keys, size_t i, size_t n)
{
    mdm_plist_key_t moved = keys[i];
    size_t child;

    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && less(&keys[child], &keys[child + 1])) {
            child++;
        }
        if (!less(&moved, &keys[child])) {
            break;
        }
        keys[i] = keys[child];
        i = child;
    }
    keys[i] = moved;
}

/* Heapsort: no worst case, no memory. */
static void sort_keys(mdm_plist_key_t *keys, size_t n)
{
    mdm_plist_key_t last;
    size_t i;

    for (i = n / 2; i-- > 0;) {
        sift_down(keys, i, n);
    }
    for (i = n; i-- > 1;) {
        last = keys[i];
        keys[i] = keys[0];
        keys[0] = last;
        sift_down(keys, 0, i);
    }
}

mdm_rc mdm_plist_keys_end(mdm_plist_keys_t *keys, size_t first,
                          mdm_plist_reader_t *r)
{
    mdm_plist_key_t *k = keys->keys + first;
    size_t n = keys->n - first;
    mdm_rc rc = MDM_OK;
    size_t i;

    keys->n = first;
    if (n <= COMPARED) {
        return MDM_OK;
    }
    sort_keys(k, n);
    for (i = 1; rc == MDM_OK && i < n; i++) {
        if (k[i].hash == k[i - 1].hash) {
            rc = mdm_plist_fault(r, k[i].at, fault);
        }
    }
    return rc;
}
