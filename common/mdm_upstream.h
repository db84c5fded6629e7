/*
 * mdm_upstream.h - calls to outside servers.  Declarative management: each
 * message of a device becomes one HTTP request, its answer the device's.
 * Forms that are handed on under a client certificate.
 *
 * The calling thread waits.  At most MDM_UPSTREAM_CALLS calls run at once in
 * a process; further ones wait shortly or are refused, so that a slow outside
 * server cannot take every thread away from the other devices.  The only user
 * of libcurl.  Any thread, between mdm_upstream_new() and _free().
 */
#ifndef MDM_UPSTREAM_H
#define MDM_UPSTREAM_H

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_mem.h"

typedef struct mdm_upstream mdm_upstream_t;

#define MDM_UPSTREAM_CALLS 8
#define MDM_UPSTREAM_BODY_MAX (10 * 1024 * 1024)
#define MDM_UPSTREAM_URL_MAX 1024

typedef struct mdm_upstream_config {
    const char *url;    /* passed mdm_upstream_check_url(); borrowed */
    mdm_str_t hmac_key; /* absent: nothing is signed; borrowed */
    int64_t connect_us; /* longest wait for a connection */
    int64_t total_us;   /* longest time of a whole call */
    /* Certificate authorities (PEM); NULL: the system's. */
    const char *ca_file;
    /* Is this process to end?  A running call then has one more second.
     * NULL: never. */
    bool (*stopping)(void *ctx);
    void *stopping_ctx;
} mdm_upstream_config_t;

/* Is this the base URL of a server that we may call?  http:// or https://,
 * host, optional port and path; nothing else.  MDM_ECONFIG. */
mdm_rc mdm_upstream_check_url(mdm_str_t url, mdm_err_t *err) MDM_USE_RESULT;

/* In the worker, after the fork and before it has request threads: starts
 * libcurl, which stays in the process from then on.  Opens no connection.
 * MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_upstream_new(const mdm_upstream_config_t *config,
                        mdm_upstream_t **upstream_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* Calls that run or wait end within a tenth of a second.  NULL is allowed. */
void mdm_upstream_stop(mdm_upstream_t *upstream);
/* Closes its connections and frees; no call may be running.  Sets *upstream
 * to NULL. */
void mdm_upstream_free(mdm_upstream_t **upstream);

/* One message of a device; borrowed for the call. */
typedef struct mdm_upstream_message {
    mdm_str_t endpoint;  /* as the device named it */
    mdm_str_t data;      /* body; empty or absent: GET instead of PUT */
    mdm_str_t id;        /* of the enrolment */
    mdm_str_t parent_id; /* of the device, on a user channel; else absent */
    const char *type;    /* name of the kind of channel */
} mdm_upstream_message_t;

/* Asks; *body_r lives in the arena and may be empty.
 * MDM_EINVAL: no such endpoint.  MDM_ENOTFOUND: the outside server's 404.
 * MDM_EBUSY: too many calls, or this process is to end.  MDM_ETIMEDOUT.
 * MDM_EUNAVAIL: not reached, or answered in a way that cannot be passed on.
 * MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_upstream_call(mdm_upstream_t *upstream,
                         const mdm_upstream_message_t *message,
                         mdm_arena_t *arena, mdm_str_t *body_r,
                         mdm_err_t *err) MDM_USE_RESULT;

/* A form that is handed on; borrowed for the call. */
typedef struct mdm_upstream_form {
    mdm_str_t query; /* goes behind the URL */
    mdm_str_t body;  /* application/x-www-form-urlencoded, not empty */
    mdm_str_t cert_pem; /* who we are, with what it needs to be believed */
    mdm_str_t key_pem;
} mdm_upstream_form_t;

/* What came back: any status, in the arena. */
typedef struct mdm_upstream_answer {
    int status;
    const char *content_type; /* NULL: it named none that we pass on */
    mdm_str_t body;
} mdm_upstream_answer_t;

/* Posts it on a connection of its own.  MDM_EBUSY, MDM_ETIMEDOUT,
 * MDM_EUNAVAIL, MDM_ENOMEM, MDM_EINTERNAL as above. */
mdm_rc mdm_upstream_post(mdm_upstream_t *upstream,
                         const mdm_upstream_form_t *form, mdm_arena_t *arena,
                         mdm_upstream_answer_t *answer_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* Percent-encoded for a query or a form, in the arena.  NULL: memory is
 * out. */
const char *mdm_upstream_encode(mdm_str_t value, mdm_arena_t *arena)
    MDM_USE_RESULT;

/* The URL path for an endpoint, without the slash in front, in the arena:
 * each part percent-encoded, so that it cannot lead elsewhere.
 * MDM_EINVAL: an unknown endpoint, an empty part, or an identifier with a
 * part "." or "..".  MDM_ENOMEM. */
mdm_rc mdm_upstream_path(mdm_str_t endpoint, mdm_arena_t *arena,
                         const char **path_r, mdm_err_t *err) MDM_USE_RESULT;

/* A value that may stand in a header, in the arena: control characters,
 * non-ASCII bytes, "%" and blanks at the ends are percent-encoded.  NULL:
 * memory is out. */
const char *mdm_upstream_header(mdm_str_t value, mdm_arena_t *arena)
    MDM_USE_RESULT;

#endif
