/*
 * mdm_plist_json.c - a property list as JSON, for results and the API.
 *
 * The only file that includes libplist.  libplist sees the bytes between
 * <plist> and </plist> of a document that passed the strict scan, and builds
 * the containers, keys, strings and booleans.  Numbers, dates and data come
 * from the scan itself, in document order: libplist 2.2 reads "010" as 8,
 * reals by the process locale, cuts dates to 32 bits and data at a comment.
 * Recursion is bounded by MDM_PLIST_DEPTH_MAX.  Any thread.
 */
#include "mdm_plist.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <plist/plist.h>

#include "mdm_plist_int.h"
#include "mdm_str.h"

typedef struct walk {
    mdm_arena_t *arena;
    const mdm_plist_tree_t *tree;
    size_t leaf; /* the next one */
} walk_t;

static json_t *value_json(walk_t *w, plist_t node, unsigned depth);

/* ---- leaves ------------------------------------------------------------ */

static json_t *text_json(mdm_str_t text)
{
    return json_stringn(text.s, text.n);
}

/* JSON numbers are signed in most readers; what is beyond goes as text. */
static json_t *integer_json(mdm_str_t text)
{
    bool negative = text.s[0] == '-';
    uint64_t v = 0;

    if (negative || text.s[0] == '+') {
        text.s++;
        text.n--;
    }
    while (text.n > 1 && text.s[0] == '0') {
        text.s++;
        text.n--;
    }
    if (!mdm_parse_u64(text, UINT64_MAX, &v)) {
        return NULL;
    }
    if (negative) {
        /* -2^63 has no positive counterpart */
        return json_integer(v == 0 ? 0 : -(json_int_t)(v - 1) - 1);
    }
    return v <= INT64_MAX ? json_integer((json_int_t)v) : text_json(text);
}

/* Copies digits; returns how many bytes of the text are used up. */
static size_t copy_digits(mdm_str_t text, size_t i, mdm_buf_t *out)
{
    size_t from = i;

    while (i < text.n && text.s[i] >= '0' && text.s[i] <= '9') {
        i++;
    }
    (void)mdm_buf_append(out, text.s + from, i - from);
    return i;
}

/* Rewrites a real in JSON's stricter form and lets jansson read it, which
 * does so without the locale. */
static json_t *real_json(mdm_str_t text)
{
    json_t *json = NULL;
    size_t i = 0;
    mdm_buf_t out;

    mdm_buf_init(&out, 2 * MDM_PLIST_NUMBER_MAX);
    if (text.s[0] == '-') {
        (void)mdm_buf_puts(&out, "-");
    }
    i += text.s[0] == '-' || text.s[0] == '+' ? 1 : 0;
    while (i + 1 < text.n && text.s[i] == '0' && text.s[i + 1] >= '0' &&
           text.s[i + 1] <= '9') {
        i++;
    }
    if (i < text.n && text.s[i] == '.') {
        (void)mdm_buf_puts(&out, "0");
    }
    i = copy_digits(text, i, &out);
    if (i < text.n && text.s[i] == '.') {
        i++;
        (void)mdm_buf_puts(&out, ".");
        i = copy_digits(text, i, &out);
        (void)mdm_buf_puts(&out, "0");
    }
    (void)mdm_buf_append(&out, text.s + i, text.n - i); /* the exponent */
    if (mdm_buf_rc(&out) == MDM_OK) {
        json = json_loadb(out.data, out.len,
                          JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
        if (json == NULL) {
            json = text_json(text); /* beyond a double */
        }
    }
    mdm_buf_clear(&out);
    return json;
}

/* Base64 without the blanks that wrap it. */
static json_t *data_json(walk_t *w, mdm_str_t text)
{
    char *packed = mdm_arena_alloc(w->arena, text.n + 1);
    size_t n = 0;
    size_t i;

    if (packed == NULL) {
        return NULL;
    }
    for (i = 0; i < text.n; i++) {
        if (!mdm_plist_is_blank((unsigned char)text.s[i])) {
            packed[n++] = text.s[i];
        }
    }
    return text_json((mdm_str_t){packed, n});
}

/* The next leaf of the scan, which must be of this type. */
static json_t *leaf_json(walk_t *w, mdm_plist_type_t type)
{
    const mdm_plist_leaf_t *leaf;

    if (w->leaf == w->tree->nleaves ||
        w->tree->leaves[w->leaf].type != type) {
        return NULL;
    }
    leaf = &w->tree->leaves[w->leaf++];
    switch (type) {
    case MDM_PLIST_INTEGER:
        return integer_json(leaf->text);
    case MDM_PLIST_REAL:
        return real_json(leaf->text);
    case MDM_PLIST_DATA:
        return data_json(w, leaf->text);
    default:
        return text_json(leaf->text); /* a date is RFC 3339 as it stands */
    }
}

/* ---- containers -------------------------------------------------------- */

static json_t *dict_json(walk_t *w, plist_t node, unsigned depth)
{
    json_t *json = json_object();
    plist_dict_iter iter = NULL;
    plist_t item = NULL;
    char *key = NULL;
    int rc = json != NULL ? 0 : -1;

    plist_dict_new_iter(node, &iter);
    while (rc == 0 && iter != NULL) {
        plist_dict_next_item(node, iter, &key, &item);
        if (item == NULL || key == NULL) {
            break;
        }
        rc = json_object_set_new(json, key, value_json(w, item, depth));
        free(key);
        key = NULL;
    }
    free(key);
    free(iter);
    if (rc != 0 || json_object_size(json) != plist_dict_get_size(node)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *array_json(walk_t *w, plist_t node, unsigned depth)
{
    json_t *json = json_array();
    plist_array_iter iter = NULL;
    plist_t item = NULL;
    int rc = json != NULL ? 0 : -1;

    plist_array_new_iter(node, &iter);
    while (rc == 0 && iter != NULL) {
        plist_array_next_item(node, iter, &item);
        if (item == NULL) {
            break;
        }
        rc = json_array_append_new(json, value_json(w, item, depth));
    }
    free(iter);
    if (rc != 0 || json_array_size(json) != plist_array_get_size(node)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *value_json(walk_t *w, plist_t node, unsigned depth)
{
    const char *text;
    uint64_t n = 0;
    uint8_t flag = 0;

    if (depth == 0) {
        return NULL;
    }
    switch (plist_get_node_type(node)) {
    case PLIST_DICT:
        return dict_json(w, node, depth - 1);
    case PLIST_ARRAY:
        return array_json(w, node, depth - 1);
    case PLIST_STRING:
        text = plist_get_string_ptr(node, &n);
        return text_json((mdm_str_t){text != NULL ? text : "", (size_t)n});
    case PLIST_BOOLEAN:
        plist_get_bool_val(node, &flag);
        return json_boolean(flag);
    case PLIST_UINT:
        return leaf_json(w, MDM_PLIST_INTEGER);
    case PLIST_REAL:
        return leaf_json(w, MDM_PLIST_REAL);
    case PLIST_DATE:
        return leaf_json(w, MDM_PLIST_DATE);
    case PLIST_DATA:
        return leaf_json(w, MDM_PLIST_DATA);
    default:
        return NULL;
    }
}

/* ---- the document ------------------------------------------------------ */

static int append(const char *data, size_t n, void *buf)
{
    return mdm_buf_append(buf, data, n) == MDM_OK ? 0 : -1;
}

static mdm_rc dump(const json_t *json, mdm_buf_t *out, mdm_err_t *err)
{
    int rc = json_dump_callback(json, append, out,
                                JSON_COMPACT | JSON_ENCODE_ANY);

    if (mdm_buf_rc(out) == MDM_ETOOBIG) {
        return mdm_err_set(err, MDM_ETOOBIG, 0,
                           "the JSON form is larger than %zu bytes",
                           out->max);
    }
    return rc == 0 ? MDM_OK : mdm_err_nomem(err);
}

mdm_rc mdm_plist_to_json(mdm_str_t xml, const mdm_plist_limits_t *limits,
                         mdm_buf_t *json, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_plist_tree_t tree;
    walk_t w = {arena, &tree, 0};
    json_t *value = NULL;
    plist_t root = NULL;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = mdm_plist_scan_tree(xml, limits, arena, &tree, err);
    if (rc != MDM_OK) {
        goto leave;
    }
    if (tree.body.n > UINT32_MAX) { /* libplist counts in 32 bits */
        rc = mdm_err_set(err, MDM_ETOOBIG, 0, "a property list over 4 GB");
        goto leave;
    }
    /* Returns nothing; only the out pointer tells. */
    plist_from_xml(tree.body.s, (uint32_t)tree.body.n, &root);
    if (root == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "libplist does not read this property list");
        goto leave;
    }
    value = value_json(&w, root, MDM_PLIST_DEPTH_MAX + 1);
    if (value == NULL || w.leaf != tree.nleaves) {
        rc = mdm_err_set(err, MDM_EINVAL, 0,
                         "libplist reads another property list");
        goto leave;
    }
    rc = dump(value, json, err);

leave:
    json_decref(value);
    if (root != NULL) {
        plist_free(root);
    }
    mdm_arena_free(&arena);
    return rc;
}
