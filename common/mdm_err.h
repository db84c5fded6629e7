/*
 * mdm_err.h - result codes and the error object.
 *
 * A function that can fail returns mdm_rc and takes an mdm_err_t * last.  It
 * fills the object where the fault is found and passes the code up; the fault
 * is logged by whoever handles it, once.
 */
#ifndef MDM_ERR_H
#define MDM_ERR_H

#include "mdm_base.h"

/* What went wrong, in the terms that decide what happens next (the HTTP
 * status on a device URL stands behind it, see mdm_http.c). */
typedef enum mdm_rc {
    MDM_OK = 0,
    MDM_EINVAL = -1,     /* malformed input (400) */
    MDM_EIDENTITY = -2,  /* no usable identity at all (400) */
    MDM_EDENIED = -3,    /* wrong identity or right for this (403) */
    MDM_EBLOCKED = -4,   /* an operator blocked this enrolment (401) */
    MDM_ENOTFOUND = -5,  /* no such thing (404) */
    MDM_EMETHOD = -6,    /* method not allowed (405) */
    MDM_ECONFLICT = -7,  /* contradicts what is stored (409) */
    MDM_EGONE = -8,      /* protocol's "not managed" (410) */
    MDM_ETOOBIG = -9,    /* over a size limit (413) */
    MDM_EMEDIATYPE = -10, /* unsupported media type or encoding (415) */
    MDM_EUNAUTHORIZED = -11, /* API credentials missing or wrong (401) */
    MDM_EBUSY = -12,     /* no free place now, try later (503) */
    MDM_ETIMEDOUT = -13, /* our own time limit passed (503) */
    MDM_EUNAVAIL = -14,  /* store or peer cannot be reached (503) */
    MDM_EUNCERTAIN = -15, /* commit sent, answer lost (503) */
    MDM_ENOMEM = -16,    /* out of memory (503) */
    MDM_EINTERNAL = -17, /* our own fault (503) */
    MDM_EAGAIN = -18,    /* non-blocking operation would block */
    MDM_ECLOSED = -19,   /* the peer ended the connection */
    MDM_ECONFIG = -20,   /* wrong configuration */
    MDM_EEXPECT = -21    /* an Expect header that nobody can meet (417) */
} mdm_rc;

#define MDM_ERR_TEXT_MAX 512

/* One fault.  Plain data, needs no clean-up; `text` is one line without a
 * final full stop, safe to log (control characters are replaced). */
typedef struct mdm_err {
    mdm_rc rc;
    int id; /* message id (mdm_messages.def) or 0 */
    char text[MDM_ERR_TEXT_MAX];
} mdm_err_t;

/* Records a fault and returns `rc`, so that callers write
 * `return mdm_err_set(err, MDM_EINVAL, 0, "...")`.  `err` may be NULL. */
mdm_rc mdm_err_set(mdm_err_t *err, mdm_rc rc, int id, const char *fmt, ...)
    MDM_PRINTF(4, 5);

/* Puts text and ": " before what is recorded already; returns its code. */
mdm_rc mdm_err_prefix(mdm_err_t *err, const char *fmt, ...) MDM_PRINTF(2, 3);

/* Out of memory: the same three words everywhere. */
mdm_rc mdm_err_nomem(mdm_err_t *err);

/* Is one of the entries in this thread's OpenSSL error queue that memory is
 * out?  OpenSSL says so of input that may be good.  Empties the queue. */
bool mdm_err_take_nomem(void);

/* As mdm_err_set, with the reason of the newest entry of this thread's
 * OpenSSL error queue behind the text; empties that queue, which is shared
 * with the host's own TLS code. */
mdm_rc mdm_err_openssl(mdm_err_t *err, mdm_rc rc, int id, const char *fmt,
                       ...) MDM_PRINTF(4, 5);

/* Replaces control characters in place: a text may quote what a peer sent,
 * and one line of the log must stay one line. */
void mdm_err_printable(char *text);

void mdm_err_clear(mdm_err_t *err);

/* Short name of a code for logs, such as "malformed"; static text. */
const char *mdm_rc_name(mdm_rc rc);

#endif
