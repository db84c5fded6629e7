/*
 * mdm_plist_write.c - the small property lists that we send.  Written here
 * and not by libplist, which leaves copies of what it was given on the heap:
 * these hold secrets.  No state; any thread.
 */
#include "mdm_plist.h"

#include "mdm_str.h"

/* Tabs and carriage returns would not come back everywhere as they are. */
static const char *entity_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '\t':
        return "&#9;";
    case '\r':
        return "&#13;";
    default:
        return NULL;
    }
}

static void put_text(mdm_buf_t *xml, mdm_str_t text)
{
    const char *entity;
    size_t start = 0;
    size_t i;

    for (i = 0; i < text.n; i++) {
        entity = entity_of(text.s[i]);
        if (entity != NULL) {
            (void)mdm_buf_append(xml, text.s + start, i - start);
            (void)mdm_buf_puts(xml, entity);
            start = i + 1;
        }
    }
    (void)mdm_buf_append(xml, text.s + start, text.n - start);
}

/* In pieces of whole triples, so that no second copy is made. */
static void put_data(mdm_buf_t *xml, mdm_str_t data)
{
    char piece[MDM_BASE64_SIZE(48)];
    size_t at;
    size_t n;

    for (at = 0; at < data.n; at += n) {
        n = data.n - at < 48 ? data.n - at : 48;
        mdm_base64_encode(data.s + at, n, piece);
        (void)mdm_buf_puts(xml, piece);
    }
    mdm_wipe(piece, sizeof(piece));
}

static bool is_text(mdm_str_t text)
{
    size_t n;

    for (; text.n > 0; text.s += n, text.n -= n) {
        n = mdm_str_character(text);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

static mdm_rc put_value(mdm_buf_t *xml, const mdm_plist_put_t *p, int depth,
                        mdm_err_t *err);

static mdm_rc put_container(mdm_buf_t *xml, const mdm_plist_put_t *of,
                            int depth, mdm_err_t *err)
{
    bool dict = of->type == MDM_PLIST_DICT;
    const mdm_plist_put_t *p;
    mdm_rc rc = MDM_OK;

    if (depth == MDM_PLIST_PUT_DEPTH_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "nested too deep");
    }
    (void)mdm_buf_puts(xml, dict ? "<dict>\n" : "<array>\n");
    for (p = of->items; rc == MDM_OK && p < of->items + of->n; p++) {
        if (p->type == MDM_PLIST_ABSENT) {
            continue;
        }
        if (dict && !is_text(mdm_str_from(p->key))) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "a key has a character that XML does not have");
        }
        if (dict) {
            (void)mdm_buf_puts(xml, "<key>");
            put_text(xml, mdm_str_from(p->key));
            (void)mdm_buf_puts(xml, "</key>");
        }
        rc = put_value(xml, p, depth + 1, err);
        (void)mdm_buf_puts(xml, "\n");
    }
    (void)mdm_buf_puts(xml, dict ? "</dict>" : "</array>");
    return rc;
}

static mdm_rc put_value(mdm_buf_t *xml, const mdm_plist_put_t *p, int depth,
                        mdm_err_t *err)
{
    const char *tag = p->type == MDM_PLIST_STRING    ? "string"
                      : p->type == MDM_PLIST_DATA    ? "data"
                      : p->type == MDM_PLIST_INTEGER ? "integer"
                      : p->type == MDM_PLIST_REAL    ? "real"
                                                     : "date";

    if (p->type == MDM_PLIST_DICT || p->type == MDM_PLIST_ARRAY) {
        return put_container(xml, p, depth, err);
    }
    if (p->type == MDM_PLIST_BOOL) {
        (void)mdm_buf_puts(xml, p->flag ? "<true/>" : "<false/>");
        return MDM_OK;
    }
    if (p->type == MDM_PLIST_STRING && !is_text(p->value)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s has a character that XML does not have",
                           p->key != NULL ? p->key : "a string");
    }
    (void)mdm_buf_printf(xml, "<%s>", tag);
    if (p->type == MDM_PLIST_DATA) {
        put_data(xml, p->value);
    } else if (p->type == MDM_PLIST_INTEGER && p->value.s == NULL) {
        (void)mdm_buf_printf(xml, "%lld", (long long)p->number);
    } else {
        put_text(xml, p->value);
    }
    (void)mdm_buf_printf(xml, "</%s>", tag);
    return MDM_OK;
}

mdm_rc mdm_plist_write(const mdm_plist_put_t *items, size_t n, mdm_buf_t *xml,
                       mdm_err_t *err)
{
    const mdm_plist_put_t root = {
        .type = MDM_PLIST_DICT, .items = items, .n = n};
    mdm_rc rc;

    (void)mdm_buf_puts(
        xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
             "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
             "<plist version=\"1.0\">");
    rc = put_value(xml, &root, 0, err);
    (void)mdm_buf_puts(xml, "</plist>\n");
    if (rc == MDM_OK && mdm_buf_rc(xml) != MDM_OK) {
        rc = mdm_err_set(err, mdm_buf_rc(xml), 0,
                         "a property list could not be written");
    }
    return rc;
}
