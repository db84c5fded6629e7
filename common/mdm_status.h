/*
 * mdm_status.h - the role `status`, and the numbers behind it.
 *
 * The numbers are read once, here; the page, its JSON, the Prometheus text
 * and the API's call on the server write them in their own ways.  Nothing in
 * it counts rows of large tables.
 */
#ifndef MDM_STATUS_H
#define MDM_STATUS_H

#include <jansson.h>

#include "mdm_buf.h"
#include "mdm_edge.h"
#include "mdm_expiry.h"

#define MDM_STATUS_PAGE_MAX (2 * 1024 * 1024)
/* Enrolments of a topic are counted up to here. */
#define MDM_STATUS_USERS_MAX 1000

typedef struct mdm_status {
    int64_t now_us;
    int64_t warn_us; /* what ends within this is "soon" */
    bool store_up;   /* false: what the store knows is missing below */
    mdm_store_status_t store;
    int64_t given_up; /* enrolments whose last push was given up */
    mdm_ends_t ends;
    int64_t users[MDM_ENDS_MAX]; /* of those that are push certificates */
} mdm_status_t;

/* Fills all that the configuration knows, then what the store knows.  Store
 * errors; what the configuration knows is there all the same.  The texts live
 * in the arena or as long as the server. */
mdm_rc mdm_status_read(mdm_server_t *server, mdm_arena_t *arena,
                       mdm_status_t **status_r, mdm_err_t *err)
    MDM_USE_RESULT;

/* "good", "soon", "expired" or "suspended". */
const char *mdm_status_cert_state(const mdm_status_t *status,
                                  const mdm_end_t *cert);
/* Whole days until the end, below 0 behind it. */
int64_t mdm_status_days_left(const mdm_status_t *status,
                             const mdm_end_t *cert);
/* "12", "1000 or more", "" where the store does not say. */
const char *mdm_status_users(const mdm_status_t *status, size_t i, char *dst,
                             size_t cap);

/* A new reference; NULL: memory is out.  Also what the API's call says. */
json_t *mdm_status_to_json(const mdm_status_t *status);
/* mdm_status_text.c and mdm_status_html.c: the three forms. */
void mdm_status_json(const mdm_status_t *status, mdm_buf_t *out);
void mdm_status_prometheus(const mdm_status_t *status, mdm_buf_t *out);
void mdm_status_html(const mdm_status_t *status, mdm_buf_t *out);

/* A request of the role; answers in every case.  Any thread; blocks on the
 * store. */
void mdm_status_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response);

#endif
