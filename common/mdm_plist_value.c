/*
 * mdm_plist_value.c - the grammar of numbers, dates and base64 in property
 * lists.  libplist takes "0x10", "12abc", month 13 and half a base64 text
 * without a word; here each is refused.
 *
 * No allocation, no locale, any thread.
 */
#include "mdm_plist_int.h"

#include <string.h>

#include "mdm_str.h"

/* Value of a base64 digit below 64. */
enum { PAD = 64, BLANK = 65, BAD = 66 };

static const unsigned char digit_of[128] = {
    66, 66, 66, 66, 66, 66, 66, 66, 66, 65, 65, 66, 66, 65, 66, 66,
    66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
    65, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 62, 66, 66, 66, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 66, 66, 64, 66, 66,
    66, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 66, 66, 66, 66, 66,
    66, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 66, 66, 66, 66, 66,
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t count_digits(mdm_str_t text, size_t from)
{
    size_t i = from;

    while (i < text.n && is_digit(text.s[i])) {
        i++;
    }
    return i - from;
}

const char *mdm_plist_check_integer(mdm_str_t text)
{
    const uint64_t most_negative = UINT64_C(1) << 63;
    bool negative = text.n > 0 && text.s[0] == '-';
    bool sign = negative || (text.n > 0 && text.s[0] == '+');
    mdm_str_t digits = {text.s + (sign ? 1 : 0), text.n - (sign ? 1 : 0)};
    uint64_t v = 0;

    if (digits.n == 0 || count_digits(digits, 0) != digits.n) {
        return "an integer that is not a decimal number";
    }
    if (!mdm_parse_u64(digits, negative ? most_negative : UINT64_MAX, &v)) {
        return "an integer that does not fit 64 bits";
    }
    return NULL;
}

/* [sign] digits [. digits] [e [sign] digits], or digits only behind the
 * point.  No "nan", no "inf", no hexadecimal form. */
const char *mdm_plist_check_real(mdm_str_t text)
{
    static const char fault[] = "a real that is not a decimal number";
    size_t i = text.n > 0 && (text.s[0] == '-' || text.s[0] == '+') ? 1 : 0;
    size_t whole = count_digits(text, i);
    size_t fraction = 0;
    size_t exponent;
    uint64_t v = 0;

    i += whole;
    if (i < text.n && text.s[i] == '.') {
        fraction = count_digits(text, i + 1);
        i += 1 + fraction;
    }
    if (whole + fraction == 0) {
        return fault;
    }
    if (i < text.n && (text.s[i] == 'e' || text.s[i] == 'E')) {
        i++;
        i += i < text.n && (text.s[i] == '-' || text.s[i] == '+') ? 1 : 0;
        exponent = count_digits(text, i);
        if (exponent == 0) {
            return fault;
        }
        /* Beyond it a double is infinite or nothing. */
        if (!mdm_parse_u64((mdm_str_t){text.s + i, exponent}, 308, &v)) {
            return "a real that does not fit a double";
        }
        i += exponent;
    }
    return i == text.n ? NULL : fault;
}

static unsigned two_digits(const char *s)
{
    return (unsigned)(s[0] - '0') * 10 + (unsigned)(s[1] - '0');
}

const char *mdm_plist_check_date(mdm_str_t text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30,
                                         31, 31, 30, 31, 30, 31};
    unsigned year;
    unsigned month;
    unsigned day;
    unsigned last;
    size_t i;

    if (text.n != sizeof(form) - 1) {
        return "a date that is not YYYY-MM-DDThh:mm:ssZ";
    }
    for (i = 0; i < text.n; i++) {
        if (form[i] == 'd' ? !is_digit(text.s[i]) : text.s[i] != form[i]) {
            return "a date that is not YYYY-MM-DDThh:mm:ssZ";
        }
    }
    year = two_digits(text.s) * 100 + two_digits(text.s + 2);
    month = two_digits(text.s + 5);
    day = two_digits(text.s + 8);
    if (year == 0 || month < 1 || month > 12) {
        return "a date that is in no calendar";
    }
    last = days[month - 1];
    if (month == 2 && year % 4 == 0 &&
        (year % 100 != 0 || year % 400 == 0)) {
        last = 29;
    }
    if (day < 1 || day > last || two_digits(text.s + 11) > 23 ||
        two_digits(text.s + 14) > 59 || two_digits(text.s + 17) > 59) {
        return "a date that is in no calendar";
    }
    return NULL;
}

/* ---- base64 ----------------------------------------------------------- */

typedef struct base64 {
    unsigned have;  /* digits of the group at hand, with padding */
    unsigned pad;   /* padding seen: nothing but blanks may follow it */
    unsigned last;  /* the last digit */
} base64_t;

static unsigned digit(unsigned char c)
{
    return c < 128 ? digit_of[c] : (unsigned)BAD;
}

static bool base64_byte(base64_t *b, unsigned char c)
{
    unsigned d = digit(c);

    if (d == BLANK) {
        return true;
    }
    if (d == BAD || b->have == 4) {
        return false;
    }
    if (d == PAD) {
        /* Bits that the padding leaves over must be zero, so that one value
         * has one spelling. */
        if (b->have < 2 ||
            (b->pad == 0 && (b->last & (b->have == 2 ? 15U : 3U)) != 0)) {
            return false;
        }
        b->pad++;
        b->have++;
        return true;
    }
    if (b->pad > 0) {
        return false;
    }
    b->last = d;
    b->have = b->have == 3 ? 0 : b->have + 1;
    return true;
}

static bool base64_feed(base64_t *b, mdm_str_t piece)
{
    const unsigned char *p = (const unsigned char *)piece.s;
    const unsigned char *end = p + piece.n;

    while (p < end) {
        if (b->have == 0) {
            while (end - p >= 4 && digit(p[0]) < PAD && digit(p[1]) < PAD &&
                   digit(p[2]) < PAD && digit(p[3]) < PAD) {
                p += 4;
            }
            if (p == end) {
                break;
            }
        }
        if (!base64_byte(b, *p++)) {
            return false;
        }
    }
    return true;
}

const char *mdm_plist_check_data(const mdm_plist_text_t *text)
{
    static const char fault[] = "data that is not base64";
    base64_t b = {0, 0, 0};
    mdm_plist_pieces_t it;
    mdm_str_t piece = {(const char *)text->s, text->n};

    if (text->plain) {
        if (!base64_feed(&b, piece)) {
            return fault;
        }
    } else {
        mdm_plist_pieces_init(&it, text);
        while (mdm_plist_pieces_next(&it, &piece)) {
            if (!base64_feed(&b, piece)) {
                return fault;
            }
        }
    }
    return b.have == 0 || b.have == 4 ? NULL : fault;
}
