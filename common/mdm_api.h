/*
 * mdm_api.h - between the router of the administration API and its handlers.
 */
#ifndef MDM_API_H
#define MDM_API_H

#include <jansson.h>

#include "mdm_edge.h"
#include "mdm_queue.h"
#include "mdm_wait.h"

#define MDM_API_SEGMENTS_MAX 6
/* Targets of one call; a URL longer than this many ids does not reach us. */
#define MDM_API_TARGETS_MAX 20000

/* One call.  `segments`: the raw path below the location, split at "/". */
typedef struct mdm_api_call {
    mdm_server_t *server;
    const mdm_request_t *request;
    mdm_response_t *response;
    mdm_arena_t *arena;
    mdm_str_t segments[MDM_API_SEGMENTS_MAX];
    size_t nsegments;
    const mdm_api_token_t *token; /* who calls */
} mdm_api_call_t;

/* A call of the administration API; answers in every case.  Any thread;
 * blocks on the store. */
void mdm_api_handle(mdm_server_t *server, const mdm_request_t *request,
                    mdm_response_t *response);

typedef mdm_rc mdm_api_fn(mdm_api_call_t *call, mdm_err_t *err);

/* The server itself (mdm_api_status.c). */
mdm_api_fn mdm_api_status_get;
/* What happened (mdm_api_events.c). */
mdm_api_fn mdm_api_event_list;
/* Commands and pushes (mdm_api_commands.c). */
mdm_api_fn mdm_api_enqueue;
mdm_api_fn mdm_api_push;
mdm_api_fn mdm_api_command_get;
mdm_api_fn mdm_api_result_get;
/* Apple's escrow key unlock (mdm_api_escrow.c). */
mdm_api_fn mdm_api_escrow_key_unlock;
/* Commands from the catalogue (mdm_api_catalog.c). */
mdm_api_fn mdm_api_command_post;
/* Enrolments and push certificates (mdm_api_enrollments.c). */
mdm_api_fn mdm_api_enrollment_list;
mdm_api_fn mdm_api_enrollment_get;
mdm_api_fn mdm_api_pushcert_put;
mdm_api_fn mdm_api_pushcert_get;
mdm_api_fn mdm_api_pushcert_resume;

/* The queue of one enrolment (mdm_api_queue.c). */
mdm_api_fn mdm_api_queue_list;
mdm_api_fn mdm_api_queue_clear;
mdm_api_fn mdm_api_queue_cancel;

/* The built-in certificate authority (mdm_api_scep.c). */
mdm_api_fn mdm_api_challenge_make;
mdm_api_fn mdm_api_authority_list;
mdm_api_fn mdm_api_authority_prepare;
mdm_api_fn mdm_api_authority_promote;
mdm_api_fn mdm_api_issued_list;
mdm_api_fn mdm_api_issued_get;
mdm_api_fn mdm_api_issued_revoke;

/* One device (mdm_api_device.c). */
mdm_api_fn mdm_api_block;
mdm_api_fn mdm_api_unblock;
mdm_api_fn mdm_api_secret_get;
mdm_api_fn mdm_api_migration;

/* Before an enrolment (mdm_api_accounts.c). */
mdm_api_fn mdm_api_token_list;
mdm_api_fn mdm_api_token_revoke;
mdm_api_fn mdm_api_token_revoke_account;
mdm_api_fn mdm_api_introduction_list;
/* Many targets in one call (mdm_api_commands.c). */
typedef struct mdm_api_targets {
    mdm_target_result_t *t;
    size_t n;
    mdm_wait_answer_t *answers; /* one a target; NULL: nobody waited */
} mdm_api_targets_t;

/* Adds an id unless `seen` holds it; there is room for it.  The id ends in a
 * NUL and holds none. */
mdm_rc mdm_api_target_add(mdm_api_targets_t *all, json_t *seen, mdm_str_t id,
                          mdm_err_t *err);
/* A time or a duration from now on; absent: 0.  `name` is for the message. */
mdm_rc mdm_api_when(const char *name, mdm_str_t value, int64_t *us_r,
                    mdm_err_t *err);
/* How long a command lives; absent: as configured. */
mdm_rc mdm_api_expiry(mdm_api_call_t *call, mdm_str_t value,
                      mdm_enqueue_t *enqueue, mdm_err_t *err);
/* Queues the command for all of them and answers. */
mdm_rc mdm_api_enqueue_run(mdm_api_call_t *call, mdm_enqueue_t *enqueue,
                           mdm_api_targets_t *all, mdm_err_t *err);

/* The body as JSON (mdm_api_json.c), an object; bounded as property lists
 * are.  MDM_EINVAL, MDM_ETOOBIG. */
mdm_rc mdm_api_json_body(mdm_api_call_t *call, json_t **json_r,
                         mdm_err_t *err);
/* Overwrites its texts and frees it; nobody else may hold a part. */
void mdm_api_json_free(json_t **json);

/* ?wait= (mdm_api_wait.c): how long, 0: not.  MDM_EINVAL. */
mdm_rc mdm_api_wait_time(mdm_api_call_t *call, int64_t *time_r,
                         mdm_err_t *err);
/* Waits for the answers to pushes that are stored: one a target, in the
 * arena; NULL where time_us is 0.  Whatever goes wrong, the pushes are on
 * their way: the answers are pending, or NULL. */
mdm_wait_answer_t *mdm_api_wait(mdm_api_call_t *call,
                                const mdm_target_result_t *targets, size_t n,
                                int64_t time_us);
/* Adds what APNs said to a target's part of the answer; true: it is an
 * error. */
bool mdm_api_wait_json(json_t *json, const mdm_target_result_t *target,
                       const mdm_wait_answer_t *answer);

/* Answers with JSON; takes over the reference. */
mdm_rc mdm_api_reply(mdm_api_call_t *call, int status, json_t *json,
                     mdm_err_t *err);
/* A JSON string of counted UTF-8; null when absent or not UTF-8. */
json_t *mdm_api_string(mdm_str_t text);
/* RFC 3339, or null for 0. */
json_t *mdm_api_time(int64_t wall_us);
/* A decoded path segment. */
mdm_rc mdm_api_segment(mdm_api_call_t *call, size_t index, mdm_str_t *text_r,
                       mdm_err_t *err);
/* A decoded query parameter; absent when not given. */
mdm_rc mdm_api_query(mdm_api_call_t *call, const char *name,
                     mdm_str_t *value_r, mdm_err_t *err);
/* RFC 3339, or a duration from now, as wall time.  MDM_EINVAL. */
mdm_rc mdm_api_moment(mdm_str_t value, const char *name, int64_t *us_r,
                      mdm_err_t *err);
/* "1", "true", "on" or an empty value. */
mdm_rc mdm_api_flag(mdm_api_call_t *call, const char *name, bool *value_r,
                    mdm_err_t *err);
/* cursor and limit of a list. */
mdm_rc mdm_api_page(mdm_api_call_t *call, int64_t *after_r, size_t *limit_r,
                    mdm_err_t *err);
/* Adds to a list where the next page begins. */
void mdm_api_next(json_t *json, int64_t cursor);
/* Notes who changed what. */
void mdm_api_note(mdm_api_call_t *call, const char *what, mdm_str_t of);

#endif
