/*
 * mdm_str.h - bounded helpers for counted strings: compare, hex, base64,
 * UUID, numbers.  No allocation, any thread.
 */
#ifndef MDM_STR_H
#define MDM_STR_H

#include "mdm_base.h"
#include "mdm_err.h"

bool mdm_str_eq(mdm_str_t a, mdm_str_t b);
bool mdm_str_is(mdm_str_t a, const char *text);
/* ASCII case folded; independent of the process locale. */
bool mdm_str_ieq(mdm_str_t a, const char *text);
bool mdm_str_starts(mdm_str_t a, const char *prefix);
mdm_str_t mdm_str_from(const char *text); /* NULL: absent */
/* Only printable ASCII, and no blank among it. */
bool mdm_str_is_solid(mdm_str_t a);
/* Length of the character at the head of a text that is not empty; 0: none
 * that can stand in XML, or no UTF-8. */
size_t mdm_str_character(mdm_str_t text);
/* UTF-8 that can stand in XML and shows no control characters but
 * newlines. */
bool mdm_str_is_text(mdm_str_t a);
/* Without blanks and tabs at both ends. */
mdm_str_t mdm_str_trim(mdm_str_t a);
/* Cuts *rest at the first `sep`: returns what is before it, leaves what is
 * behind it in *rest (absent when there was no separator). */
mdm_str_t mdm_str_split(mdm_str_t *rest, char sep);

/* Equal in constant time for equal lengths; lengths are not secret. */
bool mdm_str_secret_eq(mdm_str_t a, mdm_str_t b);

/* Copies for a log line: at most cap - 1 bytes, everything outside printable
 * ASCII replaced by '?'.  Returns dst. */
const char *mdm_str_printable(mdm_str_t a, char *dst, size_t cap);

/* dst must hold 2n + 1 bytes; lower case. */
void mdm_hex_encode(const void *data, size_t n, char *dst);
/* Exactly 2 * n digits of either case; false otherwise. */
bool mdm_hex_decode(mdm_str_t hex, unsigned char *dst, size_t n);

/* Bytes needed for base64 of n bytes, with padding and NUL. */
#define MDM_BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)
void mdm_base64_encode(const void *data, size_t n, char *dst);
/* Strict RFC 4648 with padding; blanks, tabs, CR and LF are skipped, all else
 * refused (MDM_EINVAL).  dst must hold in.n / 4 * 3 bytes; may be in.s. */
mdm_rc mdm_base64_decode(mdm_str_t in, unsigned char *dst, size_t *len_r);

/* A random UUID (version 4), canonical lower case, NUL-terminated. */
mdm_rc mdm_uuid_new(char dst[MDM_UUID_SIZE], mdm_err_t *err);

/* Unsigned decimal, whole string, no sign, no blanks; false when malformed
 * or over max. */
bool mdm_parse_u64(mdm_str_t text, uint64_t max, uint64_t *value_r);
/* "10", "10s", "15m", "4h", "7d", "500ms" to microseconds. */
bool mdm_parse_duration(mdm_str_t text, int64_t *us_r);
/* "1024", "8k", "32m", "1g" to bytes. */
bool mdm_parse_size(mdm_str_t text, uint64_t *bytes_r);

/* SHA-256 of the bytes.  MDM_EINTERNAL: memory is out, or OpenSSL was set up
 * without it; the digest is all zeros then and must not be compared. */
mdm_rc mdm_sha256(mdm_str_t data, unsigned char digest[MDM_SHA256_LEN],
                  mdm_err_t *err) MDM_USE_RESULT;

#endif
