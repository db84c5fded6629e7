/*
 * mdm_plist.c - the gate: which element of a property list may stand where,
 * limits, duplicate keys, and the values that the caller asked for.
 *
 * One pass, no tree, no recursion.  Memory beside the caller's arena is
 * taken only while very many keys stand in open dictionaries.
 * Any thread; all state is on the stack of one call.
 */
#include "mdm_plist.h"

#include <string.h>

#include "mdm_plist_int.h"
#include "mdm_str.h"

typedef unsigned char u8;

#define WANTS_MAX 64
#define NAME_MAX_BYTES 64
/* libplist's dictionaries have a fixed hash without a seed and its
 * unescaping moves the rest of the text for every reference. */
#define TREE_KEYS_MAX 2000
#define TREE_KEY_WORK_MAX UINT64_C(200000000)
#define TREE_REFERENCE_WORK_MAX UINT64_C(1000000000)

typedef struct frame {
    const u8 *at;
    size_t first_key; /* of this dictionary, on the stack of keys */
    uint64_t below;   /* wants that name a key of this dictionary */
    bool dict;
    bool has_key; /* a key waits for its value */
} frame_t;

typedef struct scanner {
    mdm_plist_reader_t r;
    const mdm_plist_limits_t *limits;
    unsigned depth_max;
    mdm_arena_t *arena;
    mdm_plist_want_t *want;
    size_t nwant;
    mdm_plist_tree_t *tree; /* NULL: no tree will be made */
    /* For the value that comes next: */
    mdm_plist_want_t *wanted; /* NULL: nobody asked for it */
    uint64_t below;
    uint64_t parents_seen;
    unsigned depth;
    frame_t frames[MDM_PLIST_DEPTH_MAX];
    mdm_plist_keys_t keys; /* of all dictionaries that are open */
} scanner_t;

/* ---- wanted values ----------------------------------------------------- */

static bool is_name(const char *name, size_t n, mdm_str_t key)
{
    return key.n == n && memcmp(name, key.s, n) == 0;
}

static mdm_rc key_twice(scanner_t *s, const u8 *at, mdm_str_t key)
{
    char shown[NAME_MAX_BYTES];

    return mdm_plist_fail(&s->r, at, "key %s twice",
                          mdm_str_printable(key, shown, sizeof(shown)));
}

/* The root dictionary has this key. */
static mdm_rc root_key(scanner_t *s, const u8 *at, mdm_str_t key)
{
    const char *path;
    const char *dot;
    size_t i;

    for (i = 0; i < s->nwant; i++) {
        path = s->want[i].path;
        dot = strchr(path, '.');
        if (!is_name(path, dot != NULL ? (size_t)(dot - path) : strlen(path),
                     key)) {
            continue;
        }
        if (dot != NULL) {
            s->below |= UINT64_C(1) << i;
        } else {
            s->wanted = &s->want[i];
        }
    }
    if ((s->wanted != NULL && s->wanted->type != MDM_PLIST_ABSENT) ||
        (s->parents_seen & s->below) != 0) {
        return key_twice(s, at, key);
    }
    s->parents_seen |= s->below;
    return MDM_OK;
}

/* A dictionary right below the root has this key. */
static mdm_rc second_key(scanner_t *s, const u8 *at, mdm_str_t key)
{
    uint64_t below = s->frames[s->depth - 1].below;
    const char *name;
    size_t i;

    for (i = 0; i < s->nwant; i++) {
        if ((below & UINT64_C(1) << i) == 0) {
            continue;
        }
        name = strchr(s->want[i].path, '.') + 1;
        if (is_name(name, strlen(name), key)) {
            s->wanted = &s->want[i];
        }
    }
    if (s->wanted != NULL && s->wanted->type != MDM_PLIST_ABSENT) {
        return key_twice(s, at, key);
    }
    return MDM_OK;
}

static mdm_rc key_element(scanner_t *s, const mdm_plist_start_t *start)
{
    mdm_plist_text_t text = {s->r.p, 0, true, 0};
    frame_t *top = s->depth > 0 ? &s->frames[s->depth - 1] : NULL;
    char name[NAME_MAX_BYTES];
    mdm_str_t key;
    mdm_rc rc = MDM_OK;

    if (top == NULL || !top->dict) {
        return mdm_plist_fail(&s->r, start->at, "<key> outside <dict>");
    }
    if (top->has_key) {
        return mdm_plist_fail(&s->r, start->at, "a key without a value");
    }
    if (!start->empty) {
        rc = mdm_plist_read_text(&s->r, "key", &text);
        if (rc == MDM_OK) {
            rc = mdm_plist_read_end(&s->r, MDM_PLIST_TAG_KEY);
        }
    }
    if (rc != MDM_OK) {
        return rc;
    }
    top->has_key = true;
    s->wanted = NULL;
    s->below = 0;
    /* Longer keys than any wanted one need no name. */
    if (mdm_plist_join(&text, name, sizeof(name), &key)) {
        if (s->depth == 1) {
            rc = root_key(s, start->at, key);
        } else if (top->below != 0) {
            rc = second_key(s, start->at, key);
        }
    }
    if (rc == MDM_OK) {
        rc = mdm_plist_keys_add(&s->keys, top->first_key, &s->r, start->at,
                                &text);
    }
    return rc;
}

static mdm_str_t trim(mdm_str_t text)
{
    while (text.n > 0 && mdm_plist_is_blank((u8)text.s[0])) {
        text.s++;
        text.n--;
    }
    while (text.n > 0 && mdm_plist_is_blank((u8)text.s[text.n - 1])) {
        text.n--;
    }
    return text;
}

/* Keeps a value's text for the caller: the document's bytes when they are
 * the value, else a copy. */
static mdm_rc keep_text(scanner_t *s, const mdm_plist_text_t *text,
                        mdm_str_t *value_r)
{
    char *copy;

    if (text->plain) {
        *value_r = (mdm_str_t){(const char *)text->s, text->n};
        return MDM_OK;
    }
    /* A value is never longer than its spelling. */
    copy = mdm_arena_alloc(s->arena, text->n + 1);
    if (copy == NULL ||
        !mdm_plist_join(text, copy, text->n, value_r)) {
        return mdm_err_nomem(s->r.err);
    }
    return MDM_OK;
}

static mdm_rc keep_data(scanner_t *s, const mdm_plist_text_t *text)
{
    mdm_str_t base64;
    unsigned char *bytes;
    size_t n = 0;
    mdm_rc rc;

    rc = keep_text(s, text, &base64);
    if (rc != MDM_OK) {
        return rc;
    }
    bytes = mdm_arena_alloc(s->arena, base64.n / 4 * 3 + 1);
    if (bytes == NULL) {
        return mdm_err_nomem(s->r.err);
    }
    if (mdm_base64_decode(base64, bytes, &n) != MDM_OK) {
        return mdm_plist_fail(&s->r, text->s, "data that is not base64");
    }
    s->wanted->value = (mdm_str_t){(const char *)bytes, n};
    return MDM_OK;
}

/* Keeps a leaf for the JSON form. */
static mdm_rc keep_leaf(scanner_t *s, mdm_plist_type_t type,
                        const mdm_plist_text_t *text)
{
    mdm_plist_tree_t *tree = s->tree;
    mdm_plist_leaf_t *leaves;
    mdm_plist_leaf_t *leaf;
    size_t cap;
    mdm_rc rc;

    if (tree->nleaves == tree->cap) {
        cap = tree->cap > 0 ? tree->cap * 2 : 32;
        leaves = mdm_arena_alloc(s->arena, cap * sizeof(*leaves));
        if (leaves == NULL) {
            return mdm_err_nomem(s->r.err);
        }
        if (tree->nleaves > 0) {
            memcpy(leaves, tree->leaves, tree->nleaves * sizeof(*leaves));
        }
        tree->leaves = leaves;
        tree->cap = cap;
    }
    leaf = &tree->leaves[tree->nleaves++];
    leaf->type = type;
    rc = keep_text(s, text, &leaf->text);
    leaf->text = trim(leaf->text);
    return rc;
}

/* ---- values ------------------------------------------------------------ */

/* What is wrong with an integer, real, date or bool; NULL: nothing. */
static const char *check_short(mdm_plist_tag_t tag,
                               const mdm_plist_text_t *text)
{
    char joined[MDM_PLIST_NUMBER_MAX];
    mdm_str_t value;

    if (!mdm_plist_join(text, joined, sizeof(joined), &value)) {
        return "a value that is too long for its type";
    }
    switch (tag) {
    case MDM_PLIST_TAG_INTEGER:
        return mdm_plist_check_integer(trim(value));
    case MDM_PLIST_TAG_REAL:
        return mdm_plist_check_real(trim(value));
    case MDM_PLIST_TAG_DATE:
        return mdm_plist_check_date(value);
    default:
        return trim(value).n > 0 ? "text inside <true> or <false>" : NULL;
    }
}

static mdm_plist_type_t type_of(mdm_plist_tag_t tag)
{
    switch (tag) {
    case MDM_PLIST_TAG_DICT:
        return MDM_PLIST_DICT;
    case MDM_PLIST_TAG_ARRAY:
        return MDM_PLIST_ARRAY;
    case MDM_PLIST_TAG_STRING:
        return MDM_PLIST_STRING;
    case MDM_PLIST_TAG_DATA:
        return MDM_PLIST_DATA;
    case MDM_PLIST_TAG_INTEGER:
        return MDM_PLIST_INTEGER;
    case MDM_PLIST_TAG_REAL:
        return MDM_PLIST_REAL;
    case MDM_PLIST_TAG_DATE:
        return MDM_PLIST_DATE;
    case MDM_PLIST_TAG_TRUE:
    case MDM_PLIST_TAG_FALSE:
        return MDM_PLIST_BOOL;
    default:
        return MDM_PLIST_ABSENT;
    }
}

static mdm_rc keep_wanted(scanner_t *s, mdm_plist_tag_t tag,
                          const mdm_plist_text_t *text)
{
    mdm_plist_want_t *want = s->wanted;
    mdm_rc rc;

    if (tag == MDM_PLIST_TAG_DATA) {
        return keep_data(s, text);
    }
    if (type_of(tag) == MDM_PLIST_BOOL) {
        want->flag = tag == MDM_PLIST_TAG_TRUE;
        return MDM_OK;
    }
    rc = keep_text(s, text, &want->value);
    if (rc == MDM_OK && tag != MDM_PLIST_TAG_STRING) {
        want->value = trim(want->value);
    }
    return rc;
}

/* A tree's text that libplist would take too long for. */
static bool is_hard_text(const mdm_plist_text_t *text)
{
    return text->refs > 0 &&
           text->n > TREE_REFERENCE_WORK_MAX / text->refs;
}

static mdm_rc scalar(scanner_t *s, const mdm_plist_start_t *start)
{
    const char *name = mdm_plist_tag_name(start->tag);
    mdm_plist_text_t text = {s->r.p, 0, true, 0};
    const char *fault = NULL;
    mdm_rc rc = MDM_OK;

    if (!start->empty) {
        rc = mdm_plist_read_text(&s->r, name, &text);
        if (rc == MDM_OK) {
            rc = mdm_plist_read_end(&s->r, start->tag);
        }
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (start->tag == MDM_PLIST_TAG_DATA) {
        fault = mdm_plist_check_data(&text);
    } else if (start->tag != MDM_PLIST_TAG_STRING) {
        fault = check_short(start->tag, &text);
    }
    if (s->tree != NULL && is_hard_text(&text)) {
        fault = "too many references in so long a text";
    }
    if (fault != NULL) {
        return mdm_plist_fault(&s->r, start->at, fault);
    }
    if (s->wanted != NULL) {
        rc = keep_wanted(s, start->tag, &text);
    }
    if (rc == MDM_OK && s->tree != NULL &&
        start->tag != MDM_PLIST_TAG_STRING &&
        type_of(start->tag) != MDM_PLIST_BOOL) {
        rc = keep_leaf(s, type_of(start->tag), &text);
    }
    return rc;
}

/* ---- containers -------------------------------------------------------- */

static mdm_rc open_container(scanner_t *s, const mdm_plist_start_t *start)
{
    frame_t *top;

    if (s->depth >= s->depth_max) {
        return mdm_plist_fail(&s->r, start->at,
                              "nested deeper than %u levels", s->depth_max);
    }
    if (start->empty) {
        return MDM_OK;
    }
    top = &s->frames[s->depth++];
    top->at = start->at;
    top->dict = start->tag == MDM_PLIST_TAG_DICT;
    top->has_key = false;
    top->first_key = s->keys.n;
    top->below = top->dict && s->depth == 2 ? s->below : 0;
    return MDM_OK;
}

/* The dictionary that began at `at` ends. */
static mdm_rc end_keys(scanner_t *s, size_t first, const u8 *at)
{
    uint64_t n = s->keys.n - first;

    if (s->tree != NULL) {
        s->tree->key_work += n * n;
        if (n > TREE_KEYS_MAX || s->tree->key_work > TREE_KEY_WORK_MAX) {
            return mdm_plist_fail(&s->r, at,
                                  "too many keys in dictionaries");
        }
    }
    return mdm_plist_keys_end(&s->keys, first, &s->r);
}

/* At "</" inside a container. */
static mdm_rc close_container(scanner_t *s)
{
    const frame_t *top = &s->frames[s->depth - 1];
    const u8 *at = s->r.p;
    mdm_rc rc;

    rc = mdm_plist_read_end(&s->r, top->dict ? MDM_PLIST_TAG_DICT
                                            : MDM_PLIST_TAG_ARRAY);
    if (rc != MDM_OK) {
        return rc;
    }
    if (top->has_key) {
        return mdm_plist_fail(&s->r, at, "a key without a value");
    }
    s->depth--;
    return top->dict ? end_keys(s, top->first_key, top->at) : MDM_OK;
}

/* A value begins: may it, and did anybody ask for it? */
static mdm_rc place_value(scanner_t *s, const mdm_plist_start_t *start)
{
    frame_t *top;

    if (s->depth == 0) {
        if (s->r.scan->root != MDM_PLIST_ABSENT) {
            return mdm_plist_fail(&s->r, start->at,
                                  "more than one value in <plist>");
        }
        s->r.scan->root = type_of(start->tag);
        return MDM_OK;
    }
    top = &s->frames[s->depth - 1];
    if (!top->dict) {
        s->wanted = NULL;
        s->below = 0;
        return MDM_OK;
    }
    if (!top->has_key) {
        return mdm_plist_fail(&s->r, start->at,
                              "a value without a key in <dict>");
    }
    top->has_key = false;
    if (s->wanted != NULL) {
        s->wanted->type = type_of(start->tag);
    }
    return MDM_OK;
}

/* At a start tag. */
static mdm_rc element(scanner_t *s)
{
    mdm_plist_start_t start;
    mdm_rc rc;

    rc = mdm_plist_read_start(&s->r, &start);
    if (rc != MDM_OK) {
        return rc;
    }
    if (++s->r.scan->items > s->limits->items) {
        return mdm_plist_fail(&s->r, start.at, "more than %zu elements",
                              s->limits->items);
    }
    if (start.tag == MDM_PLIST_TAG_PLIST) {
        return mdm_plist_fail(&s->r, start.at, "<plist> inside <plist>");
    }
    if (start.odd && s->tree != NULL) {
        return mdm_plist_fail(&s->r, start.at, "\">\" inside an attribute");
    }
    if (start.tag == MDM_PLIST_TAG_KEY) {
        return key_element(s, &start);
    }
    rc = place_value(s, &start);
    if (rc != MDM_OK) {
        return rc;
    }
    if (start.tag == MDM_PLIST_TAG_DICT ||
        start.tag == MDM_PLIST_TAG_ARRAY) {
        return open_container(s, &start);
    }
    s->r.soft = s->r.lenient && s->wanted == NULL;
    rc = scalar(s, &start);
    s->r.soft = s->r.lenient;
    return rc;
}

/* ---- the document ------------------------------------------------------ */

/* From behind <plist> to its end tag. */
static mdm_rc read_values(scanner_t *s)
{
    mdm_plist_reader_t *r = &s->r;
    mdm_rc rc = MDM_OK;

    while (rc == MDM_OK) {
        rc = mdm_plist_skip_misc(r);
        if (rc != MDM_OK) {
            break;
        }
        if (r->p == r->end) {
            rc = mdm_plist_fail(r, r->p, "the document ends too early");
        } else if (*r->p != '<') {
            rc = mdm_plist_fail(r, r->p, "text between elements");
        } else if (r->end - r->p < 2 || r->p[1] != '/') {
            rc = element(s);
        } else if (s->depth > 0) {
            rc = close_container(s);
        } else {
            break;
        }
    }
    if (rc == MDM_OK && r->scan->root == MDM_PLIST_ABSENT) {
        rc = mdm_plist_fail(r, r->p, "no value in <plist>");
    }
    return rc;
}

static mdm_rc read_document(scanner_t *s)
{
    mdm_plist_reader_t *r = &s->r;
    mdm_plist_start_t start;
    const u8 *body;
    mdm_rc rc;

    rc = mdm_plist_read_prolog(r);
    if (rc != MDM_OK) {
        return rc;
    }
    body = r->p;
    rc = mdm_plist_read_start(r, &start);
    if (rc != MDM_OK) {
        return rc;
    }
    if (start.tag != MDM_PLIST_TAG_PLIST || start.empty ||
        (start.odd && s->tree != NULL)) {
        return mdm_plist_fail(r, start.at, "<plist> is expected here");
    }
    r->soft = r->lenient;
    rc = read_values(s);
    if (rc == MDM_OK) {
        rc = mdm_plist_read_end(r, MDM_PLIST_TAG_PLIST);
    }
    if (rc == MDM_OK && s->tree != NULL) {
        s->tree->body = (mdm_str_t){(const char *)body,
                                    (size_t)(r->p - body)};
    }
    if (rc == MDM_OK) {
        rc = mdm_plist_skip_misc(r);
    }
    if (rc == MDM_OK && r->p != r->end) {
        rc = mdm_plist_fail(r, r->p, "something stands behind </plist>");
    }
    return rc;
}

static mdm_rc scan_bytes(scanner_t *s, mdm_str_t xml, mdm_plist_scan_t *scan,
                         mdm_err_t *err)
{
    static const char nothing[] = "";
    mdm_rc rc;

    memset(scan, 0, sizeof(*scan));
    if (xml.n > s->limits->size) {
        return mdm_err_set(err, MDM_ETOOBIG, 0,
                           "a property list of %zu bytes, allowed are %zu",
                           xml.n, s->limits->size);
    }
    s->r.start = (const u8 *)(xml.s != NULL ? xml.s : nothing);
    s->r.p = s->r.start;
    s->r.end = s->r.start + xml.n;
    s->r.scan = scan;
    s->r.err = err;
    s->depth_max = s->limits->depth < MDM_PLIST_DEPTH_MAX
                       ? s->limits->depth
                       : MDM_PLIST_DEPTH_MAX;
    mdm_plist_keys_init(&s->keys);
    rc = read_document(s);
    mdm_plist_keys_clear(&s->keys);
    return rc;
}

/* What has a start value, without clearing the large arrays. */
static void init_scanner(scanner_t *s, const mdm_plist_limits_t *limits,
                         mdm_arena_t *arena)
{
    memset(&s->r, 0, sizeof(s->r));
    s->limits = limits;
    s->arena = arena;
    s->want = NULL;
    s->nwant = 0;
    s->tree = NULL;
    s->wanted = NULL;
    s->below = 0;
    s->parents_seen = 0;
    s->depth = 0;
}

mdm_rc mdm_plist_scan(mdm_str_t xml, const mdm_plist_limits_t *limits,
                      mdm_plist_mode_t mode, mdm_arena_t *arena,
                      mdm_plist_want_t *want, size_t nwant,
                      mdm_plist_scan_t *scan_r, mdm_err_t *err)
{
    scanner_t s;
    size_t i;

    if (nwant > WANTS_MAX) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "%zu wanted keys", nwant);
    }
    for (i = 0; i < nwant; i++) {
        want[i].type = MDM_PLIST_ABSENT;
        want[i].value = MDM_STR_NONE;
        want[i].flag = false;
    }
    init_scanner(&s, limits, arena);
    s.r.lenient = mode == MDM_PLIST_LENIENT;
    s.want = want;
    s.nwant = nwant;
    return scan_bytes(&s, xml, scan_r, err);
}

mdm_rc mdm_plist_scan_tree(mdm_str_t xml, const mdm_plist_limits_t *limits,
                           mdm_arena_t *arena, mdm_plist_tree_t *tree_r,
                           mdm_err_t *err)
{
    mdm_plist_scan_t scan;
    scanner_t s;

    memset(tree_r, 0, sizeof(*tree_r));
    init_scanner(&s, limits, arena);
    s.tree = tree_r;
    return scan_bytes(&s, xml, &scan, err);
}
