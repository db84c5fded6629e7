/*
 * mdm_http.h - answers: the one table from result codes to HTTP statuses, and
 * helpers on request targets.  Any thread; no state.
 */
#ifndef MDM_HTTP_H
#define MDM_HTTP_H

#include "mdm.h"
#include "mdm_mem.h"

/* Who is answered: the same fault reads differently to a device and to an
 * API client (401 unenrols a device). */
typedef enum mdm_audience {
    MDM_AUDIENCE_DEVICE,
    MDM_AUDIENCE_API
} mdm_audience_t;

int mdm_http_status(mdm_rc rc, mdm_audience_t audience);

/* Our own trouble (503), as opposed to the client's fault. */
bool mdm_http_is_ours(mdm_rc rc);

/* Fills the answer; body and type are borrowed from the response's arena or
 * static. */
void mdm_http_reply(mdm_response_t *response, int status,
                    const char *content_type, mdm_str_t body);
/* Static or arena-owned name and value; ignored when the table is full. */
void mdm_http_header(mdm_response_t *response, const char *name,
                     const char *value);
/* An error answer: plain text for devices, {"error": ...} for the API. */
void mdm_http_error(mdm_response_t *response, mdm_audience_t audience,
                    const mdm_err_t *err);

/* What a device is told that may not go on: it looks at the code, and may
 * show the message to its user. */
#define MDM_HTTP_DETAILS_MAX 4
typedef struct mdm_http_document {
    const char *code;
    const char *description; /* for logs of the device */
    const char *message;     /* NULL: none */
    struct {
        const char *name; /* NULL: no more */
        mdm_str_t value;  /* UTF-8 */
    } details[MDM_HTTP_DETAILS_MAX];
} mdm_http_document_t;

/* 403 with the document as JSON.  MDM_ENOMEM. */
mdm_rc mdm_http_document(mdm_response_t *response,
                         const mdm_http_document_t *document, mdm_err_t *err)
    MDM_USE_RESULT;

/* A URL that devices can use: as configured, or for a path of this site with
 * the host that the request named; in the arena or borrowed.  NULL: memory is
 * out. */
const char *mdm_http_url(const mdm_request_t *request, const char *url,
                         mdm_arena_t *arena);

/* Nothing but "100-continue" can be expected of us, which the host sees to.
 * nginx passes other words over; httpd refuses them before we see them.
 * MDM_EEXPECT. */
mdm_rc mdm_http_expect(const mdm_request_t *request,
                       mdm_err_t *err) MDM_USE_RESULT;

/* The whole body in memory, at most `max` bytes; borrowed or in `arena`.
 * MDM_ETOOBIG, MDM_ENOMEM, MDM_EUNAVAIL (the file cannot be read). */
mdm_rc mdm_http_body(const mdm_request_t *request, uint64_t max,
                     mdm_arena_t *arena, mdm_str_t *body_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Media type of a Content-Type value, without parameters and blanks. */
mdm_str_t mdm_http_media_type(mdm_str_t content_type);

/* Percent-decodes once; "+" stays "+".  MDM_EINVAL: a bad escape or NUL. */
mdm_rc mdm_http_decode(mdm_str_t raw, mdm_arena_t *arena, mdm_str_t *text_r,
                       mdm_err_t *err) MDM_USE_RESULT;

/* Value of a query parameter, decoded; absent when it is not there.  The
 * query is what follows the first "?" of a request target. */
mdm_rc mdm_http_query(mdm_str_t target, const char *name, mdm_arena_t *arena,
                      mdm_str_t *value_r, mdm_err_t *err) MDM_USE_RESULT;

#endif
