/*
 * mdm_str.c - counted strings: compare, hex, base64, UUID, numbers.  ASCII
 * only; nothing here depends on the process locale.
 */
#include "mdm_str.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

bool mdm_str_eq(mdm_str_t a, mdm_str_t b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

bool mdm_str_is(mdm_str_t a, const char *text)
{
    return a.s != NULL && mdm_str_eq(a, mdm_str_from(text));
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool mdm_str_ieq(mdm_str_t a, const char *text)
{
    size_t i;

    if (a.s == NULL || a.n != strlen(text)) {
        return false;
    }
    for (i = 0; i < a.n; i++) {
        if (lower(a.s[i]) != lower(text[i])) {
            return false;
        }
    }
    return true;
}

bool mdm_str_starts(mdm_str_t a, const char *prefix)
{
    size_t n = strlen(prefix);

    return a.n >= n && (n == 0 || memcmp(a.s, prefix, n) == 0);
}

mdm_str_t mdm_str_from(const char *text)
{
    return text != NULL ? (mdm_str_t){text, strlen(text)} : MDM_STR_NONE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool mdm_str_is_solid(mdm_str_t a)
{
    size_t i;

    for (i = 0; i < a.n; i++) {
        if (a.s[i] <= ' ' || a.s[i] > '~') {
            return false;
        }
    }
    return true;
}

size_t mdm_str_character(mdm_str_t text)
{
    const unsigned char *p = (const unsigned char *)text.s;
    uint32_t c = p[0];
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    size_t i;

    if (n == 1) {
        return (c >= ' ' && c != 0x7f) || c == '\n' || c == '\t' || c == '\r'
                   ? 1
                   : 0;
    }
    if (c < 0xc2 || c > 0xf4 || n > text.n) {
        return 0;
    }
    c &= 0x7fU >> n;
    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3fU);
    }
    if (c < 0x80 || (n == 3 && c < 0x800) || (n == 4 && c < 0x10000) ||
        (c >= 0xd800 && c < 0xe000) || (c & 0xfffe) == 0xfffe ||
        c > 0x10ffff) {
        return 0;
    }
    return n;
}

bool mdm_str_is_text(mdm_str_t a)
{
    const unsigned char *p;
    size_t n;

    for (; a.n > 0; a.s += n, a.n -= n) {
        p = (const unsigned char *)a.s;
        n = mdm_str_character(a);
        if (n == 0 || p[0] == '\t' || p[0] == '\r' ||
            (p[0] == 0xc2 && p[1] < 0xa0)) {
            return false;
        }
    }
    return true;
}

mdm_str_t mdm_str_trim(mdm_str_t a)
{
    while (a.n > 0 && is_blank(a.s[0])) {
        a.s++;
        a.n--;
    }
    while (a.n > 0 && is_blank(a.s[a.n - 1])) {
        a.n--;
    }
    return a;
}

mdm_str_t mdm_str_split(mdm_str_t *rest, char sep)
{
    mdm_str_t head = *rest;
    const char *at;

    at = rest->n > 0 ? memchr(rest->s, sep, rest->n) : NULL;
    if (at == NULL) {
        *rest = MDM_STR_NONE;
        return head;
    }
    head.n = (size_t)(at - head.s);
    rest->s = at + 1;
    rest->n -= head.n + 1;
    return head;
}

bool mdm_str_secret_eq(mdm_str_t a, mdm_str_t b)
{
    return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.s, b.s, a.n) == 0);
}

const char *mdm_str_printable(mdm_str_t a, char *dst, size_t cap)
{
    size_t n = a.n < cap - 1 ? a.n : cap - 1;
    size_t i;

    for (i = 0; i < n; i++) {
        dst[i] = a.s[i] >= 0x20 && a.s[i] < 0x7f ? a.s[i] : '?';
    }
    dst[n] = '\0';
    return dst;
}

void mdm_hex_encode(const void *data, size_t n, char *dst)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = data;
    size_t i;

    for (i = 0; i < n; i++) {
        dst[2 * i] = digits[p[i] >> 4];
        dst[2 * i + 1] = digits[p[i] & 15];
    }
    dst[2 * n] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool mdm_hex_decode(mdm_str_t hex, unsigned char *dst, size_t n)
{
    size_t i;
    int hi;
    int lo;

    if (hex.n != 2 * n) {
        return false;
    }
    for (i = 0; i < n; i++) {
        hi = hex_value(hex.s[2 * i]);
        lo = hex_value(hex.s[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            return false;
        }
        dst[i] = (unsigned char)(hi << 4 | lo);
    }
    return true;
}

void mdm_base64_encode(const void *data, size_t n, char *dst)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    unsigned long v;
    size_t i;

    for (i = 0; i + 2 < n; i += 3) {
        v = (unsigned long)p[i] << 16 | (unsigned long)p[i + 1] << 8 |
            p[i + 2];
        *dst++ = digits[v >> 18];
        *dst++ = digits[v >> 12 & 63];
        *dst++ = digits[v >> 6 & 63];
        *dst++ = digits[v & 63];
    }
    if (i < n) {
        v = (unsigned long)p[i] << 16 |
            (i + 1 < n ? (unsigned long)p[i + 1] << 8 : 0);
        *dst++ = digits[v >> 18];
        *dst++ = digits[v >> 12 & 63];
        *dst++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *dst++ = '=';
    }
    *dst = '\0';
}

/* Value of a base64 digit; 64: padding; 65: blank; 66: anything else. */
static unsigned base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (unsigned)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (unsigned)(c - 'a' + 26);
    }
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0' + 52);
    }
    switch (c) {
    case '+':
        return 62;
    case '/':
        return 63;
    case '=':
        return 64;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        return 65;
    default:
        return 66;
    }
}

/* Writes the bytes of one group of four digits, `pad` of them "=". */
static bool base64_group(uint32_t v, unsigned pad, unsigned char *dst,
                         size_t *len)
{
    /* Bits that the padding leaves over must be zero, so that one value has
     * one spelling. */
    if ((pad == 1 && (v & 0xff) != 0) || (pad == 2 && (v & 0xffff) != 0)) {
        return false;
    }
    dst[(*len)++] = (unsigned char)(v >> 16);
    if (pad < 2) {
        dst[(*len)++] = (unsigned char)(v >> 8);
    }
    if (pad < 1) {
        dst[(*len)++] = (unsigned char)v;
    }
    return true;
}

mdm_rc mdm_base64_decode(mdm_str_t in, unsigned char *dst, size_t *len_r)
{
    uint32_t v = 0;
    unsigned have = 0; /* digits of the current group */
    unsigned pad = 0;
    unsigned d;
    size_t len = 0;
    size_t i;

    *len_r = 0;
    for (i = 0; i < in.n; i++) {
        d = base64_value((unsigned char)in.s[i]);
        if (d == 65) {
            continue;
        }
        /* Padding is only the third or fourth digit, and ends the text. */
        if (d == 66 || (d == 64 && have < 2) || (d != 64 && pad > 0)) {
            return MDM_EINVAL;
        }
        v = v << 6 | (d & 63);
        pad += d == 64 ? 1U : 0U;
        if (++have == 4) {
            if (!base64_group(v, pad, dst, &len)) {
                return MDM_EINVAL;
            }
            if (pad > 0) {
                have = 8; /* nothing but blanks may follow */
            } else {
                have = 0;
            }
            v = 0;
        } else if (have > 8) {
            return MDM_EINVAL;
        }
    }
    if (have != 0 && have != 8) {
        return MDM_EINVAL;
    }
    *len_r = len;
    return MDM_OK;
}

mdm_rc mdm_uuid_new(char dst[MDM_UUID_SIZE], mdm_err_t *err)
{
    unsigned char r[16];
    char hex[33];

    if (RAND_bytes(r, sizeof(r)) != 1) {
        return mdm_err_openssl(err, MDM_EINTERNAL, 0, "no random numbers");
    }
    r[6] = (unsigned char)((r[6] & 0x0f) | 0x40);
    r[8] = (unsigned char)((r[8] & 0x3f) | 0x80);
    mdm_hex_encode(r, sizeof(r), hex);
    (void)snprintf(dst, MDM_UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex,
                   hex + 8, hex + 12, hex + 16, hex + 20);
    return MDM_OK;
}

bool mdm_parse_u64(mdm_str_t text, uint64_t max, uint64_t *value_r)
{
    uint64_t v = 0;
    uint64_t d;
    size_t i;

    if (text.n == 0) {
        return false;
    }
    for (i = 0; i < text.n; i++) {
        if (text.s[i] < '0' || text.s[i] > '9') {
            return false;
        }
        d = (uint64_t)(text.s[i] - '0');
        if (v > (max - d) / 10 || d > max) {
            return false;
        }
        v = v * 10 + d;
    }
    *value_r = v;
    return true;
}

/* A number and a unit letter or word behind it. */
static bool number_unit(mdm_str_t text, uint64_t max, uint64_t *value_r,
                        mdm_str_t *unit_r)
{
    size_t i = 0;

    while (i < text.n && text.s[i] >= '0' && text.s[i] <= '9') {
        i++;
    }
    *unit_r = (mdm_str_t){text.s + i, text.n - i};
    return mdm_parse_u64((mdm_str_t){text.s, i}, max, value_r);
}

bool mdm_parse_duration(mdm_str_t text, int64_t *us_r)
{
    static const struct {
        const char *unit;
        int64_t us;
    } units[] = {{"", MDM_SEC},        {"ms", 1000},
                 {"s", MDM_SEC},       {"m", 60 * MDM_SEC},
                 {"h", 3600 * MDM_SEC}, {"d", 86400 * MDM_SEC}};
    /* A hundred years, so that adding to a time cannot overflow. */
    const int64_t max = INT64_C(36500) * 86400 * MDM_SEC;
    mdm_str_t unit;
    uint64_t v;
    size_t i;

    if (!number_unit(text, (uint64_t)max, &v, &unit)) {
        return false;
    }
    for (i = 0; i < MDM_ARRAY_LEN(units); i++) {
        if (mdm_str_is(unit, units[i].unit)) {
            if (v > (uint64_t)(max / units[i].us)) {
                return false;
            }
            *us_r = (int64_t)v * units[i].us;
            return true;
        }
    }
    return false;
}

bool mdm_parse_size(mdm_str_t text, uint64_t *bytes_r)
{
    mdm_str_t unit;
    uint64_t v;
    unsigned shift;

    if (!number_unit(text, UINT64_C(1) << 33, &v, &unit) || unit.n > 1) {
        return false;
    }
    switch (unit.n == 0 ? '\0' : lower(unit.s[0])) {
    case '\0':
        shift = 0;
        break;
    case 'k':
        shift = 10;
        break;
    case 'm':
        shift = 20;
        break;
    case 'g':
        shift = 30;
        break;
    default:
        return false;
    }
    *bytes_r = v << shift;
    return *bytes_r >> shift == v;
}

mdm_rc mdm_sha256(mdm_str_t data, unsigned char digest[MDM_SHA256_LEN],
                  mdm_err_t *err)
{
    unsigned int n = 0;

    if (EVP_Digest(data.s != NULL ? data.s : "", data.n, digest, &n,
                   EVP_sha256(), NULL) != 1) {
        memset(digest, 0, MDM_SHA256_LEN);
        return mdm_err_openssl(err, MDM_EINTERNAL, 0,
                               "cannot make a SHA-256");
    }
    return MDM_OK;
}
