/*
 * mdm_plist_markup.c - the markup of a property list: what may stand before
 * <plist>, start tags with attributes, end tags.
 *
 * A document type is read over and never followed: nothing here opens
 * anything.  An internal subset, the door to entity tricks, is refused.
 * Any thread; no state of its own.
 */
#include "mdm_plist_int.h"

#include <string.h>

#include "mdm_str.h"

typedef unsigned char u8;

/* A real property list has one attribute in all, "version". */
#define ATTRIBUTES_MAX 8

static const struct {
    const char *name;
    size_t n;
} tags[] = {
    [MDM_PLIST_TAG_KEY] = {"key", 3},
    [MDM_PLIST_TAG_STRING] = {"string", 6},
    [MDM_PLIST_TAG_INTEGER] = {"integer", 7},
    [MDM_PLIST_TAG_TRUE] = {"true", 4},
    [MDM_PLIST_TAG_FALSE] = {"false", 5},
    [MDM_PLIST_TAG_DICT] = {"dict", 4},
    [MDM_PLIST_TAG_ARRAY] = {"array", 5},
    [MDM_PLIST_TAG_DATA] = {"data", 4},
    [MDM_PLIST_TAG_DATE] = {"date", 4},
    [MDM_PLIST_TAG_REAL] = {"real", 4},
    [MDM_PLIST_TAG_PLIST] = {"plist", 5},
};

const char *mdm_plist_tag_name(mdm_plist_tag_t tag)
{
    return tags[tag].name;
}

static bool is_name_byte(u8 c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ||
           c == ':';
}

/* The name at r->p; of length 0 when there is none. */
static mdm_str_t read_name(mdm_plist_reader_t *r)
{
    const u8 *from = r->p;

    if (r->p < r->end && *r->p != '-' && *r->p != '.' &&
        !(*r->p >= '0' && *r->p <= '9')) {
        while (r->p < r->end && is_name_byte(*r->p)) {
            r->p++;
        }
    }
    return (mdm_str_t){(const char *)from, (size_t)(r->p - from)};
}

/* A quoted value at r->p; the quotes are not part of it. */
static mdm_rc read_quoted(mdm_plist_reader_t *r, mdm_str_t *value_r)
{
    const u8 *from = r->p + 1;
    const u8 *stop;

    if (r->p == r->end || (*r->p != '"' && *r->p != '\'')) {
        return mdm_plist_fail(r, r->p, "a quoted value is missing");
    }
    stop = memchr(from, *r->p, (size_t)(r->end - from));
    if (stop == NULL) {
        return mdm_plist_fail(r, r->p, "a quoted value is not closed");
    }
    *value_r = (mdm_str_t){(const char *)from, (size_t)(stop - from)};
    r->p = stop + 1;
    return mdm_plist_check_chars(r, from, stop);
}

/* ---- tags ------------------------------------------------------------- */

/* An attribute's value: no "<", every "&" a good reference. */
static mdm_rc check_value(mdm_plist_reader_t *r, mdm_str_t value, bool *odd)
{
    const u8 *p = (const u8 *)value.s;
    const u8 *end = p + value.n;
    const char *fault;
    uint32_t code = 0;
    size_t n = 0;

    for (; p < end; p++) {
        if (*p == '<') {
            return mdm_plist_fail(r, p, "\"<\" inside an attribute");
        }
        if (*p == '&') {
            fault = mdm_plist_reference(p, end, &n, &code);
            if (fault != NULL) {
                return mdm_plist_fail(r, p, "%s", fault);
            }
        }
        *odd = *odd || *p == '>';
    }
    return MDM_OK;
}

/* One attribute at r->p, not named like any of the n before it. */
static mdm_rc read_attribute(mdm_plist_reader_t *r, mdm_str_t *names,
                             size_t n, bool *odd)
{
    const u8 *at = r->p;
    mdm_str_t value = MDM_STR_NONE;
    mdm_rc rc;
    size_t i;

    names[n] = read_name(r);
    if (names[n].n == 0) {
        return mdm_plist_fail(r, at, "a malformed tag");
    }
    for (i = 0; i < n; i++) {
        if (mdm_str_eq(names[i], names[n])) {
            return mdm_plist_fail(r, at, "an attribute twice in one tag");
        }
    }
    mdm_plist_skip_blanks(r);
    if (r->p == r->end || *r->p != '=') {
        return mdm_plist_fail(r, r->p, "an attribute without a value");
    }
    r->p++;
    mdm_plist_skip_blanks(r);
    rc = read_quoted(r, &value);
    return rc == MDM_OK ? check_value(r, value, odd) : rc;
}

/* From behind the name to behind the '>'. */
static mdm_rc read_attributes(mdm_plist_reader_t *r,
                              mdm_plist_start_t *start)
{
    mdm_str_t names[ATTRIBUTES_MAX];
    bool soft = r->soft;
    const u8 *at;
    size_t n = 0;
    mdm_rc rc = MDM_OK;

    r->soft = false; /* a fault inside a tag is one of structure */
    while (rc == MDM_OK) {
        at = r->p;
        mdm_plist_skip_blanks(r);
        if (mdm_plist_at(r, ">")) {
            r->p++;
            break;
        }
        if (mdm_plist_at(r, "/>")) {
            start->empty = true;
            r->p += 2;
            break;
        }
        if (r->p == r->end) {
            rc = mdm_plist_fail(r, start->at, "a tag is not closed");
        } else if (r->p == at) {
            rc = mdm_plist_fail(r, at, "a malformed tag");
        } else if (n == ATTRIBUTES_MAX) {
            rc = mdm_plist_fail(r, at, "too many attributes in one tag");
        } else {
            rc = read_attribute(r, names, n++, &start->odd);
        }
    }
    r->soft = soft;
    return rc;
}

static bool find_tag(mdm_str_t name, mdm_plist_tag_t *tag_r)
{
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(tags); i++) {
        if (tags[i].n == name.n &&
            memcmp(tags[i].name, name.s, name.n) == 0) {
            *tag_r = (mdm_plist_tag_t)i;
            return true;
        }
    }
    return false;
}

/* The only tag that can begin with these bytes; four are there. */
static mdm_plist_tag_t guess_tag(const u8 *p)
{
    switch (p[0]) {
    case 'k':
        return MDM_PLIST_TAG_KEY;
    case 's':
        return MDM_PLIST_TAG_STRING;
    case 'i':
        return MDM_PLIST_TAG_INTEGER;
    case 't':
        return MDM_PLIST_TAG_TRUE;
    case 'f':
        return MDM_PLIST_TAG_FALSE;
    case 'a':
        return MDM_PLIST_TAG_ARRAY;
    case 'r':
        return MDM_PLIST_TAG_REAL;
    case 'd':
        return p[1] == 'i' ? MDM_PLIST_TAG_DICT
               : p[3] == 'e' ? MDM_PLIST_TAG_DATE
                             : MDM_PLIST_TAG_DATA;
    default:
        return MDM_PLIST_TAG_PLIST;
    }
}

/* A tag as nearly all are: a known name with '>' or "/>" behind it. */
static bool read_usual(mdm_plist_reader_t *r, mdm_plist_start_t *start)
{
    const u8 *p = r->p + 1;
    size_t n;

    if (r->end - p < 10) {
        return false;
    }
    start->tag = guess_tag(p);
    n = tags[start->tag].n;
    if (memcmp(p, tags[start->tag].name, n) != 0) {
        return false;
    }
    p += n;
    start->empty = *p == '/';
    p += start->empty ? 1 : 0;
    if (*p != '>') {
        return false;
    }
    r->p = p + 1;
    return true;
}

mdm_rc mdm_plist_read_start(mdm_plist_reader_t *r,
                            mdm_plist_start_t *start_r)
{
    char shown[32];
    mdm_str_t name;

    start_r->at = r->p;
    start_r->empty = false;
    start_r->odd = false;
    if (read_usual(r, start_r)) {
        return MDM_OK;
    }
    start_r->empty = false;
    r->p++;
    name = read_name(r);
    if (name.n == 0) {
        return mdm_plist_fail(r, start_r->at,
                              "\"<\" that begins no element");
    }
    if (!find_tag(name, &start_r->tag)) {
        return mdm_plist_fail(r, start_r->at,
                              "<%s> is no element of a property list",
                              mdm_str_printable(name, shown, sizeof(shown)));
    }
    return read_attributes(r, start_r);
}

mdm_rc mdm_plist_read_end(mdm_plist_reader_t *r, mdm_plist_tag_t tag)
{
    size_t n = tags[tag].n;
    const u8 *at = r->p;
    mdm_str_t name;

    r->p += 2;
    if ((size_t)(r->end - r->p) > n && r->p[n] == '>' &&
        memcmp(r->p, tags[tag].name, n) == 0) {
        r->p += n + 1; /* most often */
        return MDM_OK;
    }
    name = read_name(r);
    if (!mdm_str_is(name, tags[tag].name)) {
        return mdm_plist_fail(r, at, "</%s> is expected here",
                              tags[tag].name);
    }
    mdm_plist_skip_blanks(r);
    if (r->p == r->end || *r->p != '>') {
        return mdm_plist_fail(r, at, "a tag is not closed");
    }
    r->p++;
    return MDM_OK;
}

/* ---- before the root --------------------------------------------------- */

/* Is there ` name = "value"` at r->p?  Reads it, or leaves r->p alone. */
static mdm_rc read_pseudo(mdm_plist_reader_t *r, const char *name,
                          mdm_str_t *value_r)
{
    const u8 *at = r->p;

    *value_r = MDM_STR_NONE;
    mdm_plist_skip_blanks(r);
    if (r->p == at || !mdm_str_is(read_name(r), name)) {
        r->p = at;
        return MDM_OK;
    }
    mdm_plist_skip_blanks(r);
    if (r->p == r->end || *r->p != '=') {
        return mdm_plist_fail(r, at, "a malformed XML declaration");
    }
    r->p++;
    mdm_plist_skip_blanks(r);
    return read_quoted(r, value_r);
}

/* At "<?xml". */
static mdm_rc read_declaration(mdm_plist_reader_t *r)
{
    const u8 *at = r->p;
    char shown[32];
    mdm_str_t version;
    mdm_str_t encoding = MDM_STR_NONE;
    mdm_str_t alone = MDM_STR_NONE;
    mdm_rc rc;

    r->p += 5;
    rc = read_pseudo(r, "version", &version);
    if (rc == MDM_OK) {
        rc = read_pseudo(r, "encoding", &encoding);
    }
    if (rc == MDM_OK) {
        rc = read_pseudo(r, "standalone", &alone);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_plist_skip_blanks(r);
    if (!mdm_plist_at(r, "?>") || !mdm_str_is(version, "1.0") ||
        (alone.s != NULL && !mdm_str_is(alone, "yes") &&
         !mdm_str_is(alone, "no"))) {
        return mdm_plist_fail(r, at, "a malformed XML declaration");
    }
    r->p += 2;
    r->ascii = mdm_str_ieq(encoding, "US-ASCII") ||
               mdm_str_ieq(encoding, "ASCII");
    if (encoding.s != NULL && !r->ascii && !mdm_str_ieq(encoding, "UTF-8")) {
        return mdm_plist_fail(
            r, at, "encoding \"%s\" is not accepted, only UTF-8",
            mdm_str_printable(encoding, shown, sizeof(shown)));
    }
    return MDM_OK;
}

/* At "<!DOCTYPE". */
static mdm_rc read_doctype(mdm_plist_reader_t *r)
{
    const u8 *at = r->p;
    mdm_str_t word;
    mdm_str_t id;
    mdm_rc rc = MDM_OK;
    int ids = 0;

    r->p += 9;
    mdm_plist_skip_blanks(r);
    if (r->p == at + 9 || !mdm_str_is(read_name(r), "plist")) {
        return mdm_plist_fail(r, at, "a document type that is not plist");
    }
    mdm_plist_skip_blanks(r);
    word = read_name(r);
    if (word.n > 0) {
        ids = mdm_str_is(word, "PUBLIC") ? 2 : 1;
        if (ids == 1 && !mdm_str_is(word, "SYSTEM")) {
            return mdm_plist_fail(r, at, "a malformed document type");
        }
    }
    for (; rc == MDM_OK && ids > 0; ids--) {
        mdm_plist_skip_blanks(r);
        if (!mdm_plist_is_blank(r->p[-1])) {
            return mdm_plist_fail(r, at, "a malformed document type");
        }
        rc = read_quoted(r, &id);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_plist_skip_blanks(r);
    if (mdm_plist_at(r, "[")) {
        return mdm_plist_fail(r, r->p, "a document type with declarations "
                                       "of its own is not accepted");
    }
    if (!mdm_plist_at(r, ">")) {
        return mdm_plist_fail(r, at, "a malformed document type");
    }
    r->p++;
    return MDM_OK;
}

/* Formats and encodings that are refused with a word of their own. */
static mdm_rc refuse_foreign(mdm_plist_reader_t *r)
{
    const u8 *p = r->p;
    size_t n = (size_t)(r->end - r->p);

    if (n == 0) {
        return mdm_plist_fail(r, p, "an empty document");
    }
    if (mdm_plist_at(r, "bplist")) {
        return mdm_plist_fail(r, p,
                              "binary property lists are not accepted");
    }
    if (n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) ||
                   (p[0] == 0xfe && p[1] == 0xff) ||
                   (p[0] == '<' && p[1] == 0) || (p[0] == 0 && p[1] == '<') ||
                   (p[0] == 0 && p[1] == 0))) {
        return mdm_plist_fail(r, p, "UTF-16 and UTF-32 are not accepted, "
                                    "only UTF-8");
    }
    return MDM_OK;
}

mdm_rc mdm_plist_read_prolog(mdm_plist_reader_t *r)
{
    mdm_rc rc;

    rc = refuse_foreign(r);
    if (rc != MDM_OK) {
        return rc;
    }
    if (mdm_plist_at(r, "\xef\xbb\xbf")) {
        r->p += 3;
    }
    if (mdm_plist_at(r, "<?xml") && r->end - r->p > 5 &&
        mdm_plist_is_blank(r->p[5])) {
        rc = read_declaration(r);
    }
    if (rc == MDM_OK) {
        rc = mdm_plist_skip_misc(r);
    }
    if (rc == MDM_OK && mdm_plist_at(r, "<!DOCTYPE")) {
        rc = read_doctype(r);
        if (rc == MDM_OK) {
            rc = mdm_plist_skip_misc(r);
        }
    }
    if (rc == MDM_OK && (r->p == r->end || *r->p != '<')) {
        rc = mdm_plist_fail(r, r->p, "not an XML property list");
    }
    return rc;
}
