/*
 * mdm_buf.h - a growing byte buffer that cannot grow past its maximum.
 *
 * Errors stick: after a failed append every later one fails too, so a caller
 * may append many times and look once, with mdm_buf_rc().  Always keeps a NUL
 * behind the data.  One owner, one thread at a time.
 */
#ifndef MDM_BUF_H
#define MDM_BUF_H

#include "mdm_base.h"
#include "mdm_err.h"

typedef struct mdm_buf {
    char *data; /* owned; NULL while empty */
    size_t len;
    size_t cap;
    size_t max;
    mdm_rc rc; /* MDM_OK, MDM_ETOOBIG or MDM_ENOMEM */
    bool wipe; /* overwrite before every free */
} mdm_buf_t;

/* Makes an empty buffer that may hold up to `max` bytes. */
void mdm_buf_init(mdm_buf_t *buf, size_t max);
/* The same for secrets. */
void mdm_buf_init_secret(mdm_buf_t *buf, size_t max);
/* Frees the memory and makes the buffer empty, its maximum unchanged. */
void mdm_buf_clear(mdm_buf_t *buf);
/* Forgets content and error, keeps the memory. */
void mdm_buf_reset(mdm_buf_t *buf);

/* MDM_ETOOBIG past the maximum, MDM_ENOMEM when memory is out. */
mdm_rc mdm_buf_append(mdm_buf_t *buf, const void *data, size_t n);
mdm_rc mdm_buf_puts(mdm_buf_t *buf, const char *text);
mdm_rc mdm_buf_printf(mdm_buf_t *buf, const char *fmt, ...) MDM_PRINTF(2, 3);
/* Makes room for n more bytes; write them at data + len, then add to len. */
mdm_rc mdm_buf_reserve(mdm_buf_t *buf, size_t n);
/* Removes the first n bytes (n <= len). */
void mdm_buf_consume(mdm_buf_t *buf, size_t n);
/* Content as a counted string, valid until the next change. */
mdm_str_t mdm_buf_str(const mdm_buf_t *buf);
mdm_rc mdm_buf_rc(const mdm_buf_t *buf);

#endif
