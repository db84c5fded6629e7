/*
 * mdm_plist_write.c - the small property lists that we send.  Written here
 * and not by libplist, which leaves copies of what it was given on the heap:
 * these hold secrets.  No state; any thread.
 */
#include "mdm_plist.h"

#include "mdm_str.h"

#define DEPTH_MAX 8

static void put_text(mdm_buf_t *xml, mdm_str_t text)
{
    const char *entity;
    size_t start = 0;
    size_t i;

    for (i = 0; i < text.n; i++) {
        entity = text.s[i] == '&'   ? "&amp;"
                 : text.s[i] == '<' ? "&lt;"
                 : text.s[i] == '>' ? "&gt;"
                                    : NULL;
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

static mdm_rc put_items(mdm_buf_t *xml, const mdm_plist_put_t *container,
                        int depth, mdm_err_t *err);

static mdm_rc put_value(mdm_buf_t *xml, const mdm_plist_put_t *p, int depth,
                        mdm_err_t *err)
{
    switch (p->type) {
    case MDM_PLIST_DICT:
    case MDM_PLIST_ARRAY:
        return put_items(xml, p, depth + 1, err);
    case MDM_PLIST_BOOL:
        (void)mdm_buf_puts(xml, p->flag ? "<true/>" : "<false/>");
        return MDM_OK;
    case MDM_PLIST_INTEGER:
        (void)mdm_buf_printf(xml, "<integer>%lld</integer>",
                             (long long)p->number);
        return MDM_OK;
    case MDM_PLIST_DATA:
        (void)mdm_buf_puts(xml, "<data>");
        put_data(xml, p->value);
        (void)mdm_buf_puts(xml, "</data>");
        return MDM_OK;
    default:
        /* A newline comes back as it was; a tab or carriage return would not
         * everywhere. */
        if (!mdm_str_is_text(p->value)) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "%s is not printable UTF-8",
                               p->key != NULL ? p->key : "a value");
        }
        (void)mdm_buf_puts(xml, "<string>");
        put_text(xml, p->value);
        (void)mdm_buf_puts(xml, "</string>");
        return MDM_OK;
    }
}

static mdm_rc put_items(mdm_buf_t *xml, const mdm_plist_put_t *container,
                        int depth, mdm_err_t *err)
{
    const char *tag = container->type == MDM_PLIST_ARRAY ? "array" : "dict";
    const mdm_plist_put_t *p;
    mdm_rc rc = MDM_OK;

    if (depth == DEPTH_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "nested too deep");
    }
    (void)mdm_buf_printf(xml, "<%s>\n", tag);
    for (p = container->items;
         rc == MDM_OK && p < container->items + container->n; p++) {
        if (p->type == MDM_PLIST_ABSENT) {
            continue;
        }
        if (container->type == MDM_PLIST_DICT) {
            (void)mdm_buf_printf(xml, "<key>%s</key>", p->key);
        }
        rc = put_value(xml, p, depth, err);
        (void)mdm_buf_puts(xml, "\n");
    }
    (void)mdm_buf_printf(xml, "</%s>", tag);
    return rc;
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
    rc = put_items(xml, &root, 0, err);
    (void)mdm_buf_puts(xml, "</plist>\n");
    if (rc == MDM_OK && mdm_buf_rc(xml) != MDM_OK) {
        rc = mdm_err_set(err, mdm_buf_rc(xml), 0,
                         "a property list could not be written");
    }
    return rc;
}
