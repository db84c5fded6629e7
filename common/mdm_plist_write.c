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

/* A newline comes back as it was; a tab or carriage return would not
 * everywhere. */
static bool is_ascii(mdm_str_t text)
{
    size_t i;

    for (i = 0; i < text.n; i++) {
        if ((text.s[i] < ' ' && text.s[i] != '\n') || text.s[i] > '~') {
            return false;
        }
    }
    return true;
}

static mdm_rc put_dict(mdm_buf_t *xml, const mdm_plist_put_t *items, size_t n,
                       int depth, mdm_err_t *err)
{
    const mdm_plist_put_t *p;
    mdm_rc rc = MDM_OK;

    if (depth == DEPTH_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "nested too deep");
    }
    (void)mdm_buf_puts(xml, "<dict>\n");
    for (p = items; rc == MDM_OK && p < items + n; p++) {
        if (p->type == MDM_PLIST_ABSENT) {
            continue;
        }
        (void)mdm_buf_printf(xml, "<key>%s</key>", p->key);
        if (p->type == MDM_PLIST_DICT) {
            rc = put_dict(xml, p->items, p->n, depth + 1, err);
        } else if (p->type == MDM_PLIST_BOOL) {
            (void)mdm_buf_puts(xml, p->flag ? "<true/>" : "<false/>");
        } else if (p->type == MDM_PLIST_DATA) {
            (void)mdm_buf_puts(xml, "<data>");
            put_data(xml, p->value);
            (void)mdm_buf_puts(xml, "</data>");
        } else if (is_ascii(p->value)) {
            (void)mdm_buf_puts(xml, "<string>");
            put_text(xml, p->value);
            (void)mdm_buf_puts(xml, "</string>");
        } else {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "%s is not printable ASCII", p->key);
        }
        (void)mdm_buf_puts(xml, "\n");
    }
    (void)mdm_buf_puts(xml, "</dict>");
    return rc;
}

mdm_rc mdm_plist_write(const mdm_plist_put_t *items, size_t n, mdm_buf_t *xml,
                       mdm_err_t *err)
{
    mdm_rc rc;

    (void)mdm_buf_puts(
        xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
             "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
             "<plist version=\"1.0\">");
    rc = put_dict(xml, items, n, 0, err);
    (void)mdm_buf_puts(xml, "</plist>\n");
    if (rc == MDM_OK && mdm_buf_rc(xml) != MDM_OK) {
        rc = mdm_err_set(err, mdm_buf_rc(xml), 0,
                         "a property list could not be written");
    }
    return rc;
}
