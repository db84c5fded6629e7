/*
 * mdm_apns.c - the session: room, bytes in and out, deadlines, outcomes.
 * Requests are made in mdm_apns_request.c, what the peer sends is read in
 * mdm_apns_frames.c.
 *
 * A push waits in our own list until the peer's limit lets it become a
 * stream, and becomes one inside mdm_apns_take() only.  So whatever nghttp2
 * does not know was certainly never sent, and lowering the limit takes effect
 * at once.  One thread, no sockets, no locks, no clock.
 */
#include "mdm_apns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_apns_int.h"
#include "mdm_str.h"

/* Before the peer's SETTINGS its limit is unknown; APNs has been seen to
 * close connections that break it.  One stream spares the common lone push a
 * round trip and stays inside every limit but 0. */
#define EARLY_STREAMS 1
/* Stream ids end at 2^31; change the connection long before. */
#define LAST_STREAM_ID (INT32_C(1) << 30)
/* A longer feed is cut, to look at the queue of replies in between. */
#define FEED_SLICE 16384
/* Replies (ACKs, resets, window updates) a peer may make us queue, beyond
 * one for each stream. */
#define MAX_QUEUED 256
/* Answers are tiny: less than HTTP/2's default is enough. */
#define STREAM_WINDOW 16384
#define HEADER_LIST_MAX 16384
#define MAX_AUTHORITY 300

/* --- lists and outcomes ------------------------------------------------- */

static void list_add(mdm_apns_list_t *list, mdm_apns_item_t *item)
{
    item->prev = list->tail;
    item->next = NULL;
    if (list->tail != NULL) {
        list->tail->next = item;
    } else {
        list->head = item;
    }
    list->tail = item;
}

static void list_remove(mdm_apns_list_t *list, mdm_apns_item_t *item)
{
    if (item->prev != NULL) {
        item->prev->next = item->next;
    } else {
        list->head = item->next;
    }
    if (item->next != NULL) {
        item->next->prev = item->prev;
    } else {
        list->tail = item->prev;
    }
}

static void item_free(mdm_apns_item_t *item)
{
    mdm_buf_clear(&item->answer);
    free(item);
}

void mdm_apns_finish(mdm_apns_t *apns, mdm_apns_item_t *item,
                     mdm_apns_kind_t kind, const char *reason)
{
    mdm_apns_outcome_t outcome = {.tag = item->tag, .kind = kind};

    if (item->done) {
        return;
    }
    item->done = true;
    if (kind == MDM_APNS_ANSWERED) {
        outcome.status = item->status;
        outcome.retry_after_s = item->retry_after_s;
        memcpy(outcome.id, item->answer_id, sizeof(outcome.id));
        mdm_apns_read_answer(item, &outcome);
    } else if (reason != NULL) {
        (void)mdm_str_printable(mdm_str_from(reason), outcome.reason,
                                sizeof(outcome.reason));
    }
    if (item == apns->waiting) {
        apns->waiting = item->next;
    }
    list_remove(&apns->open, item);
    apns->n_open--;
    if (item->stream_id == 0) {
        apns->n_waiting--;
        item_free(item);
    } else {
        mdm_buf_clear(&item->answer);
        list_add(&apns->done, item);
    }
    apns->outcome(apns->ctx, &outcome);
}

void mdm_apns_closed(mdm_apns_t *apns, mdm_apns_item_t *item)
{
    apns->n_streams--;
    list_remove(&apns->done, item);
    item_free(item);
}

void mdm_apns_drop_unsent(mdm_apns_t *apns, const char *reason)
{
    mdm_apns_item_t *item = apns->open.head;
    mdm_apns_item_t *next;

    for (; item != NULL; item = next) {
        next = item->next;
        if (!item->sent) {
            mdm_apns_finish(apns, item, MDM_APNS_UNSENT, reason);
        }
    }
}

/* --- making and ending a session ---------------------------------------- */

static mdm_rc new_session(mdm_apns_t *apns, mdm_err_t *err)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    mdm_rc rc;

    rc = mdm_apns_callbacks(&callbacks, err);
    if (rc != MDM_OK) {
        return rc;
    }
    if (nghttp2_option_new(&option) != 0) {
        rc = mdm_err_nomem(err);
        goto leave;
    }
    nghttp2_option_set_peer_max_concurrent_streams(option, EARLY_STREAMS);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_outbound_ack(option, MAX_QUEUED);
    nghttp2_option_set_max_reserved_remote_streams(option, 0);
    if (nghttp2_session_client_new2(&apns->session, callbacks, apns,
                                    option) != 0) {
        apns->session = NULL;
        rc = mdm_err_nomem(err);
    }

leave:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return rc;
}

static mdm_rc check_config(const mdm_apns_config_t *config, mdm_err_t *err)
{
    if (!mdm_apns_is_text(mdm_str_from(config->authority), MAX_AUTHORITY)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the push service's name is empty or malformed");
    }
    if (config->outcome == NULL || config->max_streams == 0 ||
        config->answer_timeout_us <= 0 || config->ping_idle_us < 0 ||
        config->ping_timeout_us < 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "limits of the push session are missing");
    }
    return MDM_OK;
}

mdm_rc mdm_apns_new(const mdm_apns_config_t *config, int64_t now_us,
                    mdm_apns_t **apns_r, mdm_err_t *err)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
    };
    mdm_apns_t *apns = NULL;
    mdm_rc rc;

    *apns_r = NULL;
    rc = check_config(config, err);
    if (rc != MDM_OK) {
        return rc;
    }
    apns = calloc(1, sizeof(*apns));
    if (apns == NULL) {
        return mdm_err_nomem(err);
    }
    apns->max_streams = config->max_streams;
    apns->answer_timeout_us = config->answer_timeout_us;
    apns->ping_idle_us = config->ping_idle_us;
    apns->ping_timeout_us = config->ping_timeout_us;
    apns->outcome = config->outcome;
    apns->ctx = config->ctx;
    apns->start_us = now_us;
    apns->heard_us = now_us;
    apns->ping_us = -1;
    apns->authority = strdup(config->authority);
    if (apns->authority == NULL) {
        rc = mdm_err_nomem(err);
        goto leave;
    }
    rc = new_session(apns, err);
    if (rc != MDM_OK) {
        goto leave;
    }
    if (nghttp2_submit_settings(apns->session, NGHTTP2_FLAG_NONE, settings,
                                MDM_ARRAY_LEN(settings)) != 0) {
        rc = mdm_err_nomem(err);
        goto leave;
    }
    *apns_r = apns;
    apns = NULL;

leave:
    mdm_apns_free(&apns, NULL);
    return rc;
}

void mdm_apns_free(mdm_apns_t **apns, const char *why)
{
    mdm_apns_t *a = *apns;
    mdm_apns_item_t *item;

    *apns = NULL;
    if (a == NULL) {
        return;
    }
    while ((item = a->open.head) != NULL) {
        mdm_apns_finish(a, item,
                        item->sent ? MDM_APNS_UNKNOWN : MDM_APNS_UNSENT, why);
    }
    /* Calls no callbacks; the pushes it points to go after it. */
    nghttp2_session_del(a->session);
    while ((item = a->done.head) != NULL) {
        list_remove(&a->done, item);
        item_free(item);
    }
    free(a->authority);
    free(a);
}

void mdm_apns_shutdown(mdm_apns_t *apns)
{
    if (apns->ending || apns->fatal) {
        return;
    }
    apns->ending = true;
    mdm_apns_drop_unsent(apns, "connection is being closed");
    /* Not terminate: answers still on their way are wanted. */
    (void)nghttp2_submit_goaway(apns->session, NGHTTP2_FLAG_NONE, 0,
                                NGHTTP2_NO_ERROR, NULL, 0);
}

/* --- state -------------------------------------------------------------- */

static bool ids_used_up(const mdm_apns_t *apns)
{
    return nghttp2_session_get_next_stream_id(apns->session) >=
           LAST_STREAM_ID;
}

/* EARLY_STREAMS until SETTINGS come. */
static uint32_t peer_limit(const mdm_apns_t *apns)
{
    return nghttp2_session_get_remote_settings(
        apns->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

/* How many streams may be open now. */
static uint32_t stream_limit(const mdm_apns_t *apns)
{
    uint32_t limit = peer_limit(apns);

    return limit < apns->max_streams ? limit : apns->max_streams;
}

static bool is_over(const mdm_apns_t *apns)
{
    return apns->rc != MDM_OK || apns->ending ||
           mdm_apns_going_away(apns);
}

uint32_t mdm_apns_room(const mdm_apns_t *apns)
{
    uint32_t used = apns->n_streams + apns->n_waiting;
    uint32_t limit;

    if (is_over(apns) || apns->doubted) {
        return 0;
    }
    limit = stream_limit(apns);
    return used < limit ? limit - used : 0;
}

bool mdm_apns_is_full(const mdm_apns_t *apns)
{
    return !is_over(apns) && !apns->doubted &&
           apns->n_streams + apns->n_waiting >= peer_limit(apns);
}

uint32_t mdm_apns_in_flight(const mdm_apns_t *apns)
{
    return apns->n_open;
}

bool mdm_apns_ready(const mdm_apns_t *apns)
{
    return apns->ready;
}

bool mdm_apns_going_away(const mdm_apns_t *apns)
{
    return apns->going_away || ids_used_up(apns);
}

const char *mdm_apns_goaway_reason(const mdm_apns_t *apns)
{
    return apns->goaway;
}

/* Says why the session is over. */
static mdm_rc over(const mdm_apns_t *apns, mdm_err_t *err)
{
    if (apns->rc == MDM_ENOMEM) {
        return mdm_err_nomem(err);
    }
    return mdm_err_set(err, apns->rc, 0, "%s", apns->detail);
}

/* --- requests ----------------------------------------------------------- */

mdm_rc mdm_apns_submit(mdm_apns_t *apns, const mdm_apns_push_t *push,
                       int64_t now_us, mdm_err_t *err)
{
    mdm_apns_item_t *item = NULL;
    mdm_rc rc;

    if (is_over(apns)) {
        return mdm_err_set(err, MDM_ECLOSED, 0,
                           "the connection takes no more pushes");
    }
    if (mdm_apns_room(apns) == 0) {
        return mdm_err_set(err, MDM_EBUSY, 0,
                           "no stream is free on the connection");
    }
    rc = mdm_apns_item_new(push, &item, err);
    if (rc != MDM_OK) {
        return rc;
    }
    item->deadline_us = now_us + apns->answer_timeout_us;
    list_add(&apns->open, item);
    if (apns->waiting == NULL) {
        apns->waiting = item;
    }
    apns->n_open++;
    apns->n_waiting++;
    return MDM_OK;
}

/* --- bytes -------------------------------------------------------------- */

/* Ends the session for good: nghttp2 must not be called any more. */
static mdm_rc fail(mdm_apns_t *apns, int error, mdm_err_t *err)
{
    apns->fatal = true;
    apns->chunk_len = 0;
    if (error == NGHTTP2_ERR_NOMEM || error == NGHTTP2_ERR_CALLBACK_FAILURE) {
        apns->rc = MDM_ENOMEM;
    } else {
        apns->rc = MDM_EINVAL;
        (void)snprintf(apns->detail, sizeof(apns->detail),
                       "the push service broke the HTTP/2 protocol: %s",
                       error == NGHTTP2_ERR_FLOODED
                           ? "flood of frames that want a reply"
                           : nghttp2_strerror(error));
    }
    return over(apns, err);
}

void mdm_apns_breach(mdm_apns_t *apns, const nghttp2_goaway *goaway)
{
    char cause[64] = "";

    if (goaway != NULL) {
        (void)mdm_str_printable((mdm_str_t){(char *)goaway->opaque_data,
                                            goaway->opaque_data_len},
                                cause, sizeof(cause));
    }
    if (!apns->ready && apns->head_len >= 5 &&
        memcmp(apns->head, "HTTP/", 5) == 0) {
        (void)snprintf(apns->detail, sizeof(apns->detail),
                       "the peer answered in HTTP/1, not HTTP/2");
    } else if (goaway != NULL) {
        (void)snprintf(apns->detail, sizeof(apns->detail),
                       "the push service broke the HTTP/2 protocol: %s%s%s",
                       nghttp2_http2_strerror(goaway->error_code),
                       cause[0] != '\0' ? ", " : "", cause);
    } else {
        (void)snprintf(apns->detail, sizeof(apns->detail),
                       "the push service broke the HTTP/2 protocol");
    }
    apns->rc = MDM_EINVAL;
}

/* nghttp2 has no call that says "connection error"; but when it means to end
 * the session it allows no more requests, and nothing else forbids them. */
static bool is_breach(const mdm_apns_t *apns)
{
    return !apns->going_away && !ids_used_up(apns) &&
           nghttp2_session_check_request_allowed(apns->session) == 0;
}

/* Goes ahead to nghttp2's GOAWAY, which says what was wrong, and leaves it to
 * be taken; ACKs before it are dropped, nobody waits for them any more. */
static mdm_rc end_session(mdm_apns_t *apns, mdm_err_t *err)
{
    ssize_t n = 1;

    while (apns->chunk_len == 0 && apns->rc == MDM_OK && n > 0) {
        n = nghttp2_session_mem_send(apns->session, &apns->chunk);
        if (n > 0 && apns->rc != MDM_OK) {
            apns->chunk_len = (size_t)n;
        }
    }
    if (apns->rc == MDM_OK) {
        mdm_apns_breach(apns, NULL);
    }
    return over(apns, err);
}

static void keep_head(mdm_apns_t *apns, const uint8_t *p, size_t n)
{
    size_t room = sizeof(apns->head) - apns->head_len;

    n = n < room ? n : room;
    memcpy(apns->head + apns->head_len, p, n);
    apns->head_len += n;
}

mdm_rc mdm_apns_feed(mdm_apns_t *apns, const void *data, size_t n,
                     int64_t now_us, mdm_err_t *err)
{
    const uint8_t *p = data;
    size_t part;
    ssize_t used;

    if (apns->rc != MDM_OK) {
        return over(apns, err);
    }
    if (n == 0) {
        return MDM_OK;
    }
    apns->heard_us = now_us;
    apns->ping_us = -1;
    apns->doubted = false;
    keep_head(apns, p, n);
    while (n > 0) {
        part = n < FEED_SLICE ? n : FEED_SLICE;
        used = nghttp2_session_mem_recv(apns->session, p, part);
        if (used < 0) {
            return fail(apns, (int)used, err);
        }
        if (is_breach(apns)) {
            return end_session(apns, err);
        }
        /* The streams themselves: a request and a reset each at most. */
        if (nghttp2_session_get_outbound_queue_size(apns->session) >
            MAX_QUEUED + 2 * (size_t)apns->n_streams) {
            return fail(apns, NGHTTP2_ERR_FLOODED, err);
        }
        p += part;
        n -= part;
    }
    return MDM_OK;
}

/* Turns waiting pushes into streams as far as the peer allows. */
static mdm_rc fill_streams(mdm_apns_t *apns)
{
    mdm_rc rc = MDM_OK;

    if (apns->waiting == NULL || is_over(apns) || apns->doubted) {
        return MDM_OK;
    }
    while (rc == MDM_OK && apns->waiting != NULL &&
           apns->n_streams < stream_limit(apns)) {
        rc = mdm_apns_open_stream(apns, apns->waiting);
    }
    return rc;
}

mdm_rc mdm_apns_take(mdm_apns_t *apns, void *dst, size_t cap, size_t *n_r,
                     mdm_err_t *err)
{
    uint8_t *out = dst;
    size_t n = 0;
    size_t part;
    ssize_t got;

    *n_r = 0;
    if (apns->fatal) {
        return over(apns, err);
    }
    if (fill_streams(apns) != MDM_OK) {
        return mdm_err_nomem(err);
    }
    while (n < cap) {
        if (apns->chunk_len == 0) {
            got = nghttp2_session_mem_send(apns->session, &apns->chunk);
            if (got < 0) {
                return fail(apns, (int)got, err);
            }
            if (got == 0) {
                break;
            }
            apns->chunk_len = (size_t)got;
        }
        part = apns->chunk_len < cap - n ? apns->chunk_len : cap - n;
        memcpy(out + n, apns->chunk, part);
        apns->chunk += part;
        apns->chunk_len -= part;
        n += part;
    }
    *n_r = n;
    return MDM_OK;
}

bool mdm_apns_wants_write(const mdm_apns_t *apns)
{
    if (apns->fatal) {
        return false;
    }
    return apns->chunk_len > 0 ||
           nghttp2_session_want_write(apns->session) != 0 ||
           (apns->waiting != NULL && !is_over(apns) && !apns->doubted &&
            apns->n_streams < stream_limit(apns));
}

/* --- time --------------------------------------------------------------- */

static void no_answer(mdm_apns_t *apns, mdm_apns_item_t *item)
{
    if (item->stream_id != 0) {
        (void)nghttp2_submit_rst_stream(apns->session, NGHTTP2_FLAG_NONE,
                                        item->stream_id, NGHTTP2_CANCEL);
    }
    if (item->sent) {
        mdm_apns_finish(apns, item, MDM_APNS_UNKNOWN, "no answer");
    } else {
        mdm_apns_finish(apns, item, MDM_APNS_UNSENT,
                        "could not be sent in time");
    }
}

static mdm_rc tick_ping(mdm_apns_t *apns, int64_t now_us, mdm_err_t *err)
{
    if (apns->ping_idle_us == 0) {
        return MDM_OK;
    }
    if (apns->ping_us >= 0) {
        if (now_us - apns->ping_us < apns->ping_timeout_us) {
            return MDM_OK;
        }
        return mdm_err_set(err, MDM_ETIMEDOUT, 0,
                           "the push service does not answer a ping");
    }
    if (apns->doubted || now_us - apns->heard_us >= apns->ping_idle_us) {
        if (nghttp2_submit_ping(apns->session, NGHTTP2_FLAG_NONE, NULL) !=
            0) {
            return mdm_err_nomem(err);
        }
        apns->ping_us = now_us;
    }
    return MDM_OK;
}

mdm_rc mdm_apns_tick(mdm_apns_t *apns, int64_t now_us, mdm_err_t *err)
{
    mdm_apns_item_t *item;

    if (apns->rc != MDM_OK) {
        return over(apns, err);
    }
    while ((item = apns->open.head) != NULL && item->deadline_us <= now_us) {
        /* Not even anything else came since: a dead peer, most likely, whom
         * more pushes would not reach either. */
        apns->doubted = apns->doubted ||
                        (item->sent && apns->ping_idle_us > 0 &&
                         now_us - apns->heard_us >= apns->answer_timeout_us);
        no_answer(apns, item);
    }
    if (!apns->ready && now_us - apns->start_us >= apns->answer_timeout_us) {
        return mdm_err_set(err, MDM_ETIMEDOUT, 0,
                           "the push service sent no HTTP/2 SETTINGS");
    }
    return tick_ping(apns, now_us, err);
}

int64_t mdm_apns_deadline(const mdm_apns_t *apns)
{
    int64_t at = INT64_MAX;
    int64_t ping = apns->ping_us >= 0 ? apns->ping_us + apns->ping_timeout_us
                                      : apns->heard_us + apns->ping_idle_us;

    if (apns->open.head != NULL) {
        at = apns->open.head->deadline_us;
    }
    if (!apns->ready && apns->start_us + apns->answer_timeout_us < at) {
        at = apns->start_us + apns->answer_timeout_us;
    }
    if (apns->ping_idle_us > 0 && ping < at) {
        at = ping;
    }
    return at;
}
