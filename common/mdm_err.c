/*
 * mdm_err.c - result codes and the error object.  No state, any thread.
 */
#include "mdm_err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

void mdm_err_printable(char *text)
{
    unsigned char *p;

    for (p = (unsigned char *)text; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
}

static void set_text(mdm_err_t *err, const char *fmt, va_list ap)
    MDM_PRINTF(2, 0);

static void set_text(mdm_err_t *err, const char *fmt, va_list ap)
{
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    mdm_err_printable(err->text);
}

mdm_rc mdm_err_set(mdm_err_t *err, mdm_rc rc, int id, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL) {
        return rc;
    }
    err->rc = rc;
    err->id = id;
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    return rc;
}

mdm_rc mdm_err_prefix(mdm_err_t *err, const char *fmt, ...)
{
    char old[MDM_ERR_TEXT_MAX];
    size_t len;
    va_list ap;

    if (err == NULL) {
        return MDM_EINTERNAL;
    }
    memcpy(old, err->text, sizeof(old));
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    len = strlen(err->text);
    (void)snprintf(err->text + len, sizeof(err->text) - len, ": %s", old);
    return err->rc;
}

mdm_rc mdm_err_nomem(mdm_err_t *err)
{
    return mdm_err_set(err, MDM_ENOMEM, 0, "out of memory");
}

bool mdm_err_take_nomem(void)
{
    bool found = false;
    unsigned long code;

    while ((code = ERR_get_error()) != 0) {
        found = found || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
    }
    return found;
}

mdm_rc mdm_err_openssl(mdm_err_t *err, mdm_rc rc, int id, const char *fmt,
                       ...)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    size_t len;
    va_list ap;

    ERR_clear_error();
    if (err == NULL) {
        return rc;
    }
    err->rc = rc;
    err->id = id;
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    if (reason != NULL) {
        len = strlen(err->text);
        (void)snprintf(err->text + len, sizeof(err->text) - len, ": %s",
                       reason);
        mdm_err_printable(err->text);
    }
    return rc;
}

void mdm_err_clear(mdm_err_t *err)
{
    if (err != NULL) {
        err->rc = MDM_OK;
        err->id = 0;
        err->text[0] = '\0';
    }
}

const char *mdm_rc_name(mdm_rc rc)
{
    switch (rc) {
    case MDM_OK:
        return "ok";
    case MDM_EINVAL:
        return "malformed";
    case MDM_EIDENTITY:
        return "no usable identity";
    case MDM_EDENIED:
        return "denied";
    case MDM_EBLOCKED:
        return "blocked";
    case MDM_ENOTFOUND:
        return "not found";
    case MDM_EMETHOD:
        return "method not allowed";
    case MDM_ECONFLICT:
        return "conflict";
    case MDM_EGONE:
        return "not managed";
    case MDM_ETOOBIG:
        return "too large";
    case MDM_EMEDIATYPE:
        return "unsupported media type";
    case MDM_EUNAUTHORIZED:
        return "not authorized";
    case MDM_EBUSY:
        return "busy";
    case MDM_ETIMEDOUT:
        return "timed out";
    case MDM_EUNAVAIL:
        return "unavailable";
    case MDM_EUNCERTAIN:
        return "outcome uncertain";
    case MDM_ENOMEM:
        return "out of memory";
    case MDM_EINTERNAL:
        return "internal error";
    case MDM_EAGAIN:
        return "would block";
    case MDM_ECLOSED:
        return "closed";
    case MDM_ECONFIG:
        return "configuration";
    case MDM_EEXPECT:
        return "unknown expectation";
    }
    return "unknown";
}
