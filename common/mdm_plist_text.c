/*
 * mdm_plist_text.c - the lowest level of the property-list reader: UTF-8 and
 * the characters XML allows, references, comments, CDATA, processing
 * instructions, and the text of one element.
 *
 * Nothing here allocates, recurses or looks at a byte more than a fixed
 * number of times.  Any thread; state is in the caller's reader.
 */
#include "mdm_plist_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef unsigned char u8;

/* Longest reference, "&" and ";" with it: room for leading zeros. */
#define REFERENCE_MAX 24

enum { T, L, A, G, R, X, H };

/* T: text, L: <, A: &, G: >, R: carriage return, X: forbidden control
 * character, H: byte of a longer UTF-8 sequence. */
static const u8 class_of[256] = {
    X, X, X, X, X, X, X, X, X, T, T, X, X, R, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    T, T, T, T, T, T, A, T, T, T, T, T, T, T, T, T,
    T, T, T, T, T, T, T, T, T, T, T, T, L, T, G, T,
    T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
    H, H, H, H, H, H, H, H, H, H, H, H, H, H, H, H,
};

/* ---- faults ---------------------------------------------------------- */

/* Counted only when a fault is reported, so that reading need not. */
static unsigned line_of(const mdm_plist_reader_t *r, const u8 *at,
                        const u8 **line_start_r)
{
    const u8 *p = r->start;
    const u8 *nl;
    unsigned line = 1;

    while ((nl = memchr(p, '\n', (size_t)(at - p))) != NULL) {
        p = nl + 1;
        line++;
    }
    *line_start_r = p;
    return line;
}

/* Columns count characters, not bytes. */
static unsigned column_of(const u8 *line_start, const u8 *at)
{
    unsigned column = 1;

    for (; line_start < at; line_start++) {
        column += (*line_start & 0xc0) != 0x80 ? 1U : 0U;
    }
    return column;
}

mdm_rc mdm_plist_fail(mdm_plist_reader_t *r, const u8 *at, const char *fmt,
                      ...)
{
    char text[256];
    const u8 *line_start;
    unsigned line = line_of(r, at, &line_start);
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return mdm_err_set(r->err, MDM_EINVAL, 0, "line %u, column %u: %s", line,
                       column_of(line_start, at), text);
}

mdm_rc mdm_plist_fault(mdm_plist_reader_t *r, const u8 *at, const char *what)
{
    const u8 *line_start;

    if (!r->soft) {
        return mdm_plist_fail(r, at, "%s", what);
    }
    if (r->scan->damaged++ == 0) {
        r->scan->first_line = line_of(r, at, &line_start);
        (void)snprintf(r->scan->first_fault, sizeof(r->scan->first_fault),
                       "%s", what);
    }
    return MDM_OK;
}

/* ---- characters ------------------------------------------------------ */

bool mdm_plist_is_blank(u8 c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool mdm_plist_at(const mdm_plist_reader_t *r, const char *text)
{
    size_t n = strlen(text);

    return (size_t)(r->end - r->p) >= n && memcmp(r->p, text, n) == 0;
}

void mdm_plist_skip_blanks(mdm_plist_reader_t *r)
{
    while (r->p < r->end && mdm_plist_is_blank(*r->p)) {
        r->p++;
    }
}

static bool is_tail(u8 c)
{
    return (c & 0xc0) == 0x80;
}

/* Length of the sequence that begins at p with a byte >= 0x80, 0 when it is
 * not the one right spelling of a character that XML allows. */
static size_t utf8_length(const u8 *p, const u8 *end)
{
    size_t left = (size_t)(end - p);
    u8 c = p[0];

    if (c < 0xc2 || c > 0xf4 || left < 2 || !is_tail(p[1])) {
        return 0;
    }
    if (c < 0xe0) {
        return 2;
    }
    if (left < 3 || !is_tail(p[2])) {
        return 0;
    }
    if (c < 0xf0) {
        /* overlong, surrogate, U+FFFE and U+FFFF */
        if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] >= 0xa0) ||
            (c == 0xef && p[1] == 0xbf && p[2] >= 0xbe)) {
            return 0;
        }
        return 3;
    }
    if (left < 4 || !is_tail(p[3]) || (c == 0xf0 && p[1] < 0x90) ||
        (c == 0xf4 && p[1] >= 0x90)) {
        return 0;
    }
    return 4;
}

#define BYTES(x) (UINT64_C(0x0101010101010101) * (x))
/* Not zero when a byte of v is zero. */
#define HAS_ZERO(v) (((v)-BYTES(1)) & ~(v)&BYTES(0x80))

/* First byte at or behind p that is not class T.  Eight at a time first:
 * line ends and tabs only end the fast loop early. */
static const u8 *skip_plain(const u8 *p, const u8 *end)
{
    uint64_t v;

    while (end - p >= 8) {
        memcpy(&v, p, 8);
        if (((v | (v - BYTES(0x20))) & BYTES(0x80)) != 0 ||
            HAS_ZERO(v ^ BYTES('<')) != 0 || HAS_ZERO(v ^ BYTES('&')) != 0 ||
            HAS_ZERO(v ^ BYTES('>')) != 0) {
            break;
        }
        p += 8;
    }
    while (p < end && class_of[*p] == T) {
        p++;
    }
    return p;
}

/* A byte of class X or H at *p: checks it and passes over it. */
static mdm_rc special(mdm_plist_reader_t *r, const u8 **p, const u8 *end)
{
    const u8 *at = *p;
    size_t n = 1;

    if (class_of[*at] == X) {
        (*p)++;
        return mdm_plist_fault(r, at, *at == 0 ? "a NUL byte"
                                               : "a control character");
    }
    n = utf8_length(at, end);
    *p += n > 0 ? n : 1;
    if (n == 0) {
        return mdm_plist_fault(r, at, "invalid UTF-8");
    }
    if (r->ascii) {
        return mdm_plist_fault(r, at, "not US-ASCII, as the document says");
    }
    return MDM_OK;
}

mdm_rc mdm_plist_check_chars(mdm_plist_reader_t *r, const u8 *from,
                             const u8 *to)
{
    const u8 *p = from;
    mdm_rc rc = MDM_OK;

    while (rc == MDM_OK && (p = skip_plain(p, to)) < to) {
        if (class_of[*p] == X || class_of[*p] == H) {
            rc = special(r, &p, to);
        } else {
            p++;
        }
    }
    return rc;
}

/* First place of `what` in the bytes, NULL when there is none. */
static const u8 *find(const u8 *p, const u8 *end, const char *what)
{
    size_t n = strlen(what);

    while ((size_t)(end - p) >= n) {
        p = memchr(p, what[0], (size_t)(end - p) - n + 1);
        if (p == NULL || memcmp(p, what, n) == 0) {
            return p;
        }
        p++;
    }
    return NULL;
}

/* ---- comments, instructions, CDATA ------------------------------------ */

/* At "<!--".  The first "--" must end it, so that no two readers see
 * different comments. */
static mdm_rc skip_comment(mdm_plist_reader_t *r)
{
    const u8 *from = r->p + 4;
    const u8 *stop = find(from, r->end, "--");

    if (stop == NULL || r->end - stop < 3) {
        return mdm_plist_fail(r, r->p, "a comment is not closed");
    }
    if (stop[2] != '>') {
        return mdm_plist_fail(r, stop, "\"--\" inside a comment");
    }
    r->p = stop + 3;
    return mdm_plist_check_chars(r, from, stop);
}

static bool is_name_byte(u8 c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* At "<?". */
static mdm_rc skip_instruction(mdm_plist_reader_t *r)
{
    const u8 *from = r->p + 2;
    const u8 *stop = find(from, r->end, "?>");
    const u8 *name_end = from;
    mdm_str_t name;

    if (stop == NULL) {
        return mdm_plist_fail(r, r->p,
                              "a processing instruction is not closed");
    }
    while (name_end < stop && is_name_byte(*name_end)) {
        name_end++;
    }
    name = (mdm_str_t){(const char *)from, (size_t)(name_end - from)};
    if (name.n == 0 || (*from >= '0' && *from <= '9') || *from == '-' ||
        *from == '.' ||
        (name_end < stop && !mdm_plist_is_blank(*name_end))) {
        return mdm_plist_fail(r, r->p,
                              "a processing instruction without a name");
    }
    if (name.n == 3 && (from[0] | 0x20) == 'x' && (from[1] | 0x20) == 'm' &&
        (from[2] | 0x20) == 'l') {
        return mdm_plist_fail(r, r->p, "an XML declaration that is not the "
                                       "first thing in the document");
    }
    r->p = stop + 2;
    return mdm_plist_check_chars(r, name_end, stop);
}

/* At "<![CDATA[". */
static mdm_rc skip_cdata(mdm_plist_reader_t *r)
{
    const u8 *from = r->p + 9;
    const u8 *stop = find(from, r->end, "]]>");

    if (stop == NULL) {
        return mdm_plist_fail(r, r->p, "a CDATA section is not closed");
    }
    r->p = stop + 3;
    return mdm_plist_check_chars(r, from, stop);
}

mdm_rc mdm_plist_skip_misc(mdm_plist_reader_t *r)
{
    mdm_rc rc = MDM_OK;

    do {
        mdm_plist_skip_blanks(r);
        if (r->end - r->p < 2 || (r->p[1] != '!' && r->p[1] != '?')) {
            break; /* most often */
        }
        if (mdm_plist_at(r, "<!--")) {
            rc = skip_comment(r);
        } else if (mdm_plist_at(r, "<?")) {
            rc = skip_instruction(r);
        } else {
            break;
        }
    } while (rc == MDM_OK);
    return rc;
}

/* ---- references ------------------------------------------------------- */

static bool is_xml_char(uint32_t c)
{
    return (c >= 0x20 && c <= 0xd7ff) || c == 0x9 || c == 0xa || c == 0xd ||
           (c >= 0xe000 && c <= 0xfffd) || (c >= 0x10000 && c <= 0x10ffff);
}

/* The digits between "&#" and ";". */
static const char *numeric(mdm_str_t digits, uint32_t *code_r)
{
    uint32_t base = 10;
    uint32_t v = 0;
    uint32_t d;
    size_t i = 0;
    u8 c;

    if (digits.n > 0 && digits.s[0] == 'x') {
        base = 16;
        i = 1;
    }
    if (i == digits.n) {
        return "a character reference without a number";
    }
    for (; i < digits.n; i++) {
        c = (u8)digits.s[i];
        if (c >= '0' && c <= '9') {
            d = (uint32_t)(c - '0');
        } else if (base == 16 && (c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            d = (uint32_t)((c | 0x20) - 'a' + 10);
        } else {
            return "a character reference that is not a number";
        }
        v = v * base + d;
        if (v > 0x10ffff) {
            return "a reference to a character beyond U+10FFFF";
        }
    }
    if (!is_xml_char(v)) {
        return "a reference to a character that XML forbids";
    }
    *code_r = v;
    return NULL;
}

const char *mdm_plist_reference(const u8 *p, const u8 *end, size_t *len_r,
                                uint32_t *code_r)
{
    static const struct {
        const char *name;
        uint32_t code;
    } names[] = {{"amp", '&'},
                 {"lt", '<'},
                 {"gt", '>'},
                 {"quot", '"'},
                 {"apos", '\''}};
    size_t left = (size_t)(end - p);
    const u8 *stop;
    mdm_str_t name;
    size_t i;

    stop = memchr(p, ';', left < REFERENCE_MAX ? left : REFERENCE_MAX);
    if (stop == NULL) {
        return "an \"&\" that begins no reference";
    }
    *len_r = (size_t)(stop - p) + 1;
    name = (mdm_str_t){(const char *)p + 1, *len_r - 2};
    if (name.n > 0 && name.s[0] == '#') {
        return numeric((mdm_str_t){name.s + 1, name.n - 1}, code_r);
    }
    for (i = 0; i < MDM_ARRAY_LEN(names); i++) {
        if (name.n == strlen(names[i].name) &&
            memcmp(name.s, names[i].name, name.n) == 0) {
            *code_r = names[i].code;
            return NULL;
        }
    }
    return "a reference to an unknown entity";
}

/* ---- the text of an element ------------------------------------------- */

/* At '<' that is no end tag. */
static mdm_rc markup_in_text(mdm_plist_reader_t *r, const char *tag)
{
    if (mdm_plist_at(r, "<!--")) {
        return skip_comment(r);
    }
    if (mdm_plist_at(r, "<![CDATA[")) {
        return skip_cdata(r);
    }
    if (mdm_plist_at(r, "<?")) {
        return skip_instruction(r);
    }
    return mdm_plist_fail(r, r->p, "an element inside <%s>", tag);
}

static mdm_rc text_reference(mdm_plist_reader_t *r, mdm_plist_text_t *text)
{
    const u8 *at = r->p;
    const char *fault;
    uint32_t code = 0;
    size_t n = 0;
    mdm_rc rc = MDM_OK;

    text->plain = false;
    fault = mdm_plist_reference(at, r->end, &n, &code);
    r->p += fault == NULL ? n : 1;
    if (fault != NULL) {
        return mdm_plist_fault(r, at, fault);
    }
    if (++text->refs == MDM_PLIST_REFS_MAX + 1) {
        rc = mdm_plist_fault(r, at, "too many references in one value");
    }
    return rc;
}

/* At a byte that is not class T and begins no end tag. */
static mdm_rc text_special(mdm_plist_reader_t *r, const char *tag,
                           mdm_plist_text_t *text)
{
    const u8 *at = r->p;

    switch (class_of[*at]) {
    case L:
        text->plain = false;
        return markup_in_text(r, tag);
    case A:
        return text_reference(r, text);
    case G:
        r->p++;
        if (at - text->s >= 2 && at[-1] == ']' && at[-2] == ']') {
            return mdm_plist_fault(r, at - 2, "\"]]>\" outside CDATA");
        }
        return MDM_OK;
    case R:
        text->plain = false;
        r->p++;
        return MDM_OK;
    default:
        return special(r, &r->p, r->end);
    }
}

mdm_rc mdm_plist_read_text(mdm_plist_reader_t *r, const char *tag,
                           mdm_plist_text_t *text_r)
{
    mdm_rc rc = MDM_OK;

    text_r->s = r->p;
    text_r->plain = true;
    text_r->refs = 0;
    while (rc == MDM_OK) {
        r->p = skip_plain(r->p, r->end);
        if (r->p == r->end) {
            return mdm_plist_fail(r, r->p, "the document ends inside <%s>",
                                  tag);
        }
        if (r->p[0] == '<' && r->end - r->p > 1 && r->p[1] == '/') {
            break;
        }
        rc = text_special(r, tag, text_r);
    }
    text_r->n = (size_t)(r->p - text_r->s);
    return rc;
}

/* ---- the value of a text ---------------------------------------------- */

void mdm_plist_pieces_init(mdm_plist_pieces_t *it,
                           const mdm_plist_text_t *text)
{
    it->p = text->s;
    it->end = text->s + text->n;
    it->cdata_end = NULL;
}

static size_t encode_utf8(uint32_t c, char *dst)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xc0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xe0 | c >> 12);
        dst[1] = (char)(0x80 | (c >> 6 & 63));
        dst[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    dst[0] = (char)(0xf0 | c >> 18);
    dst[1] = (char)(0x80 | (c >> 12 & 63));
    dst[2] = (char)(0x80 | (c >> 6 & 63));
    dst[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* Passes over markup inside the text, which read_text() has checked. */
static void skip_markup(mdm_plist_pieces_t *it)
{
    const char *close = it->p[1] == '?' ? "?>" : "-->";
    const u8 *stop;

    if (it->end - it->p >= 9 && memcmp(it->p, "<![CDATA[", 9) == 0) {
        it->p += 9;
        it->cdata_end = find(it->p, it->end, "]]>");
        return;
    }
    /* "<!-->" does not close itself. */
    stop = find(it->p + (it->p[1] == '?' ? 2 : 4), it->end, close);
    it->p = stop != NULL ? stop + strlen(close) : it->end;
}

static void reference_piece(mdm_plist_pieces_t *it, mdm_str_t *piece_r)
{
    uint32_t code = 0;
    size_t n = 0;

    if (mdm_plist_reference(it->p, it->end, &n, &code) != NULL) {
        /* passed over in lenient mode: stands for itself */
        *piece_r = MDM_STR("&");
        it->p++;
        return;
    }
    it->p += n;
    *piece_r = (mdm_str_t){it->utf8, encode_utf8(code, it->utf8)};
}

bool mdm_plist_pieces_next(mdm_plist_pieces_t *it, mdm_str_t *piece_r)
{
    const u8 *stop;
    const u8 *p;

    for (;;) {
        if (it->cdata_end != NULL && it->p == it->cdata_end) {
            it->p += 3;
            it->cdata_end = NULL;
        }
        if (it->p == it->end) {
            return false;
        }
        if (it->cdata_end != NULL || *it->p != '<') {
            break;
        }
        skip_markup(it);
    }
    /* Both CR LF and CR are one line feed, as XML has it. */
    if (*it->p == '\r') {
        it->p++;
        stop = it->cdata_end != NULL ? it->cdata_end : it->end;
        it->p += it->p < stop && *it->p == '\n' ? 1 : 0;
        *piece_r = MDM_STR("\n");
        return true;
    }
    if (it->cdata_end == NULL && *it->p == '&') {
        reference_piece(it, piece_r);
        return true;
    }
    stop = it->cdata_end != NULL ? it->cdata_end : it->end;
    for (p = it->p; p < stop && *p != '\r'; p++) {
        if (it->cdata_end == NULL && (*p == '<' || *p == '&')) {
            break;
        }
    }
    *piece_r = (mdm_str_t){(const char *)it->p, (size_t)(p - it->p)};
    it->p = p;
    return true;
}

bool mdm_plist_join(const mdm_plist_text_t *text, char *dst, size_t cap,
                    mdm_str_t *value_r)
{
    mdm_plist_pieces_t it;
    mdm_str_t piece;
    size_t n = 0;

    if (text->plain) {
        *value_r = (mdm_str_t){(const char *)text->s, text->n};
        return text->n <= cap;
    }
    mdm_plist_pieces_init(&it, text);
    while (mdm_plist_pieces_next(&it, &piece)) {
        if (piece.n > cap - n) {
            return false;
        }
        memcpy(dst + n, piece.s, piece.n);
        n += piece.n;
    }
    *value_r = (mdm_str_t){dst, n};
    return true;
}
