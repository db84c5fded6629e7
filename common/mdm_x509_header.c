/*
 * mdm_x509_header.c - the certificate that a proxy puts into a header, in the
 * forms that are in use: RFC 9440 (":base64:"), percent-escaped PEM (nginx,
 * AWS load balancers), PEM whose newlines became blanks (httpd).
 *
 * Strict, since a form that is nearly right is mostly one that something on
 * the way has spoilt: then the text says what.  Who may send such a header
 * is not decided here.  No state; any thread.
 */
#include "mdm_x509.h"

#include <string.h>

#include "mdm_str.h"

#define BEGIN_MARK "-----BEGIN CERTIFICATE-----"
#define END_MARK "-----END CERTIFICATE-----"

static mdm_rc bad(mdm_err_t *err, const char *why)
{
    return mdm_err_set(err, MDM_EIDENTITY, 0,
                       "the header with the proxy's certificate %s", why);
}

/* Strict base64 into the arena. */
static mdm_rc read_base64(mdm_str_t text, mdm_arena_t *arena,
                          mdm_str_t *der_r, mdm_err_t *err)
{
    unsigned char *der = mdm_arena_alloc(arena, text.n + 1);

    if (der == NULL) {
        return mdm_err_nomem(err);
    }
    *der_r = (mdm_str_t){(const char *)der, 0};
    if (mdm_base64_decode(text, der, &der_r->n) != MDM_OK || der_r->n == 0) {
        return bad(err, "is no base64, or cut short");
    }
    return MDM_OK;
}

/* RFC 9440: the value between two colons. */
static mdm_rc read_sequence(mdm_str_t text, mdm_arena_t *arena,
                            mdm_str_t *der_r, mdm_err_t *err)
{
    if (text.n < 2 || text.s[text.n - 1] != ':') {
        return bad(err, "does not end with the colon that it began with");
    }
    text.s++;
    text.n -= 2;
    if (!mdm_str_is_solid(text)) {
        return bad(err, "has a blank inside its base64");
    }
    return read_base64(text, arena, der_r, err);
}

/* Percent-decodes; "+" stays "+". */
static mdm_rc unescape(mdm_str_t text, mdm_arena_t *arena, mdm_str_t *plain_r,
                       mdm_err_t *err)
{
    char *out = mdm_arena_alloc(arena, text.n + 1);
    unsigned char byte;
    size_t n = 0;
    size_t i;

    if (out == NULL) {
        return mdm_err_nomem(err);
    }
    for (i = 0; i < text.n; i++) {
        byte = (unsigned char)text.s[i];
        if (byte == '%') {
            if (text.n - i < 3 ||
                !mdm_hex_decode((mdm_str_t){text.s + i + 1, 2}, &byte, 1)) {
                return bad(err, "has a damaged percent escape");
            }
            i += 2;
        }
        out[n++] = (char)byte;
    }
    *plain_r = (mdm_str_t){out, n};
    return MDM_OK;
}

static mdm_str_t skip(mdm_str_t text, const char *which)
{
    while (text.n > 0 && strchr(which, text.s[0]) != NULL &&
           text.s[0] != '\0') {
        text.s++;
        text.n--;
    }
    return text;
}

/* Blanks in place of newlines make lines of one length, but for the last;
 * one that stands for a lost "+" cuts a line somewhere else. */
static bool has_even_lines(mdm_str_t body)
{
    size_t length = 0;
    mdm_str_t line;

    while (body.s != NULL) {
        line = mdm_str_split(&body, ' ');
        length = length == 0 ? line.n : length;
        if (line.n == 0 || line.n > length ||
            (line.n < length && body.s != NULL)) {
            return false;
        }
    }
    return true;
}

/* Base64 between the marks. */
static mdm_rc read_body(mdm_str_t body, mdm_arena_t *arena, mdm_str_t *der_r,
                        mdm_err_t *err)
{
    bool even = true;

    if (body.n > 0 && memchr(body.s, '\n', body.n) != NULL) {
        even = memchr(body.s, ' ', body.n) == NULL;
    } else if (mdm_str_trim(body).n > 0) {
        even = has_even_lines(mdm_str_trim(body));
    }
    if (!even) {
        return bad(err, "has a blank inside its base64: something on the way "
                        "took \"+\" for one; it must undo percent escapes "
                        "only");
    }
    return read_base64(body, arena, der_r, err);
}

/* One block; cuts it off *text. */
static mdm_rc read_block(mdm_str_t *text, mdm_arena_t *arena,
                         mdm_str_t *der_r, mdm_err_t *err)
{
    mdm_str_t body;
    const char *end;

    if (!mdm_str_starts(*text, BEGIN_MARK)) {
        return bad(err, "is neither a value between colons (RFC 9440) nor a "
                        "PEM certificate");
    }
    text->s += sizeof(BEGIN_MARK) - 1;
    text->n -= sizeof(BEGIN_MARK) - 1;
    end = text->n > 0
              ? memmem(text->s, text->n, END_MARK, sizeof(END_MARK) - 1)
              : NULL;
    if (end == NULL) {
        return bad(err, "is cut short: there is no END CERTIFICATE");
    }
    body = (mdm_str_t){text->s, (size_t)(end - text->s)};
    text->s = end + sizeof(END_MARK) - 1;
    text->n -= body.n + sizeof(END_MARK) - 1;
    return read_body(body, arena, der_r, err);
}

static mdm_rc read_pem(mdm_str_t text, mdm_arena_t *arena, mdm_shown_t *shown,
                       mdm_err_t *err)
{
    mdm_rc rc = unescape(text, arena, &text, err);
    mdm_str_t *next = &shown->cert;

    if (rc != MDM_OK) {
        return rc;
    }
    text = skip(text, " \r\n");
    do {
        rc = read_block(&text, arena, next, err);
        text = skip(text, " \r\n");
        if (rc == MDM_OK && text.n > 0) {
            if (shown->nhelpers == MDM_X509_HELPERS_MAX) {
                return bad(err, "holds too many certificates");
            }
            next = &shown->helpers[shown->nhelpers++];
        }
    } while (rc == MDM_OK && text.n > 0);
    return rc;
}

mdm_rc mdm_x509_read_header(mdm_str_t value, mdm_arena_t *arena,
                            mdm_shown_t *shown_r, mdm_err_t *err)
{
    mdm_str_t text = skip(value, " ");
    size_t i;

    memset(shown_r, 0, sizeof(*shown_r));
    if (value.n > MDM_X509_HEADER_MAX) {
        return bad(err, "is longer than 64 kB");
    }
    for (i = 0; i < value.n; i++) {
        if ((unsigned char)value.s[i] < 0x20 ||
            (unsigned char)value.s[i] >= 0x7f) {
            return bad(err, "has a tab, a line break or another byte that is "
                            "no text: folded headers are not read");
        }
    }
    text = mdm_str_trim(text);
    if (text.n == 0) {
        return bad(err, "is empty");
    }
    if (memchr(text.s, ',', text.n) != NULL) {
        return bad(err, "was sent more than once");
    }
    return text.s[0] == ':'
               ? read_sequence(text, arena, &shown_r->cert, err)
               : read_pem(text, arena, shown_r, err);
}
