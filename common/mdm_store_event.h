/*
 * mdm_store_event.h - the store's verbs on what happened, and on what an
 * operator was told of.  As those of mdm_store.h: inside a transaction or a
 * plain read.
 *
 * Events are one feed in the order of their commits: an event has a number
 * that grows and is never used again, and an id of its own.  They are written
 * in the transaction of what they tell of, so that there is none without the
 * other.
 */
#ifndef MDM_STORE_EVENT_H
#define MDM_STORE_EVENT_H

#include "mdm_store.h"

/* No event is larger; a message of a device that it carries is smaller. */
#define MDM_EVENT_BODY_MAX ((size_t)64 * 1024 * 1024)
#define MDM_EVENT_TOPIC_MAX 63

/* What happened. */
typedef struct mdm_event {
    mdm_str_t topic; /* its kind, such as "mdm.CheckOut" */
    mdm_str_t enrollment_id; /* whose; absent: the server's own */
    mdm_str_t body; /* a JSON object: the members beside these */
} mdm_event_t;

typedef struct mdm_event_row {
    int64_t seq;
    mdm_str_t uuid;
    int64_t created_at;
    mdm_event_t event;
} mdm_event_row_t;

/* Adds one; its topic has at most MDM_EVENT_TOPIC_MAX bytes.  The body is
 * sealed.  Only in mdm_store_write(). */
mdm_rc mdm_store_event_add(mdm_tx_t *tx, const mdm_event_t *event,
                           int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;
/* Up to `max` events behind number `after`, oldest first, bodies opened into
 * `arena`, which should wipe.  One that does not open has an absent body. */
mdm_rc mdm_store_event_list(mdm_tx_t *tx, int64_t after, mdm_arena_t *arena,
                            mdm_event_row_t *rows, size_t max, size_t *n_r,
                            mdm_err_t *err) MDM_USE_RESULT;
/* Is there one from before this time?  Deletes up to `limit` of them;
 * *n_r: how many. */
mdm_rc mdm_store_event_is_old(mdm_tx_t *tx, int64_t before_us, bool *is_r,
                              mdm_err_t *err) MDM_USE_RESULT;
mdm_rc mdm_store_event_prune(mdm_tx_t *tx, int64_t before_us, size_t limit,
                             int64_t *n_r, mdm_err_t *err) MDM_USE_RESULT;

/* What an operator was last told about a subject, and when; *told_r is 0
 * where he was told nothing. */
mdm_rc mdm_store_notice_get(mdm_tx_t *tx, mdm_str_t subject, int64_t *step_r,
                            int64_t *told_r, mdm_err_t *err) MDM_USE_RESULT;
mdm_rc mdm_store_notice_set(mdm_tx_t *tx, mdm_str_t subject, int64_t step,
                            int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;

#endif
