/*
 * mdm_buf.c - a growing byte buffer with a maximum and a sticky error.
 */
#include "mdm_buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_mem.h"

#define FIRST_BYTES 256

void mdm_buf_init(mdm_buf_t *buf, size_t max)
{
    memset(buf, 0, sizeof(*buf));
    buf->max = max;
}

void mdm_buf_init_secret(mdm_buf_t *buf, size_t max)
{
    mdm_buf_init(buf, max);
    buf->wipe = true;
}

static void release(mdm_buf_t *buf)
{
    if (buf->wipe) {
        mdm_wipe(buf->data, buf->cap);
    }
    free(buf->data);
}

void mdm_buf_clear(mdm_buf_t *buf)
{
    release(buf);
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
    buf->rc = MDM_OK;
}

void mdm_buf_reset(mdm_buf_t *buf)
{
    buf->len = 0;
    buf->rc = MDM_OK;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

/* Not realloc: it may leave a copy of a secret behind. */
static mdm_rc grow(mdm_buf_t *buf, size_t need)
{
    size_t cap = buf->cap > 0 ? buf->cap : FIRST_BYTES;
    char *data;

    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    }
    if (cap > buf->max + 1) {
        cap = buf->max + 1;
    }
    if (buf->wipe) {
        data = malloc(cap);
        if (data != NULL && buf->len > 0) {
            memcpy(data, buf->data, buf->len);
        }
        if (data != NULL) {
            release(buf);
        }
    } else {
        data = realloc(buf->data, cap);
    }
    if (data == NULL) {
        return buf->rc = MDM_ENOMEM;
    }
    buf->data = data;
    buf->cap = cap;
    return MDM_OK;
}

mdm_rc mdm_buf_reserve(mdm_buf_t *buf, size_t n)
{
    if (buf->rc != MDM_OK) {
        return buf->rc;
    }
    if (n > buf->max - buf->len) {
        return buf->rc = MDM_ETOOBIG;
    }
    if (buf->data == NULL || buf->len + n + 1 > buf->cap) {
        return grow(buf, buf->len + n + 1);
    }
    return MDM_OK;
}

mdm_rc mdm_buf_append(mdm_buf_t *buf, const void *data, size_t n)
{
    if (mdm_buf_reserve(buf, n) != MDM_OK) {
        return buf->rc;
    }
    if (n > 0) {
        memcpy(buf->data + buf->len, data, n);
    }
    buf->len += n;
    buf->data[buf->len] = '\0';
    return MDM_OK;
}

mdm_rc mdm_buf_puts(mdm_buf_t *buf, const char *text)
{
    return mdm_buf_append(buf, text, strlen(text));
}

mdm_rc mdm_buf_printf(mdm_buf_t *buf, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return buf->rc = MDM_EINTERNAL;
    }
    if (mdm_buf_reserve(buf, (size_t)n) != MDM_OK) {
        return buf->rc;
    }
    va_start(ap, fmt);
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf->len += (size_t)n;
    return MDM_OK;
}

void mdm_buf_consume(mdm_buf_t *buf, size_t n)
{
    if (n >= buf->len) {
        buf->len = 0;
    } else {
        memmove(buf->data, buf->data + n, buf->len - n);
        buf->len -= n;
    }
    if (buf->data != NULL) {
        buf->data[buf->len] = '\0';
    }
}

mdm_str_t mdm_buf_str(const mdm_buf_t *buf)
{
    return (mdm_str_t){buf->data != NULL ? buf->data : "", buf->len};
}

mdm_rc mdm_buf_rc(const mdm_buf_t *buf)
{
    return buf->rc;
}
