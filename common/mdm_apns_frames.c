/*
 * mdm_apns_frames.c - the nghttp2 callbacks: answers, resets, SETTINGS,
 * GOAWAY.  Everything here comes from the peer and is bounded before it is
 * kept.  Runs inside mdm_apns_feed() and mdm_apns_take() on the owner's
 * thread; nothing here calls nghttp2's send or receive functions.
 */
#include "mdm_apns_int.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "mdm_str.h"

/* Longest wait a Retry-After may ask of us: a week. */
#define RETRY_AFTER_MAX (INT64_C(7) * 24 * 3600)
/* Debug data of a GOAWAY is read as JSON only up to here. */
#define GOAWAY_JSON_MAX 1024
/* Whole numbers up to here are exact in a double: year 287396. */
#define TIMESTAMP_MAX 9007199254740992.0

static mdm_apns_item_t *item_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* --- answers ------------------------------------------------------------ */

static bool is_uuid(mdm_str_t text)
{
    size_t i;
    char c;

    if (text.n != MDM_UUID_LEN) {
        return false;
    }
    for (i = 0; i < text.n; i++) {
        c = text.s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
              (c >= 'A' && c <= 'F') || c == '-')) {
            return false;
        }
    }
    return true;
}

static int64_t read_retry_after(mdm_str_t text)
{
    uint64_t seconds;

    /* The date form is not used by APNs and would need the wall clock. */
    if (!mdm_parse_u64(mdm_str_trim(text), UINT64_MAX, &seconds)) {
        return 0;
    }
    return seconds > (uint64_t)RETRY_AFTER_MAX ? RETRY_AFTER_MAX
                                               : (int64_t)seconds;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame,
                     const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx)
{
    mdm_apns_item_t *item = item_of(session, frame->hd.stream_id);
    mdm_str_t key = {(const char *)name, name_len};
    mdm_str_t text = {(const char *)value, value_len};
    uint64_t status;

    (void)flags;
    (void)ctx;
    /* After the final status only trailers can come: ignored. */
    if (item == NULL || item->done || item->final) {
        return 0;
    }
    if (mdm_str_is(key, ":status")) {
        item->status =
            mdm_parse_u64(text, 999, &status) ? (int)status : 0;
    } else if (mdm_str_is(key, "apns-id") && is_uuid(text)) {
        memcpy(item->answer_id, text.s, MDM_UUID_LEN);
        item->answer_id[MDM_UUID_LEN] = '\0';
    } else if (mdm_str_is(key, "retry-after")) {
        item->retry_after_s = read_retry_after(text);
    }
    return 0;
}

static void end_of_headers(mdm_apns_item_t *item)
{
    if (item->final) {
        return;
    }
    if (item->status >= 100 && item->status < 200) {
        /* Informational: what it carried does not belong to the answer. */
        item->status = 0;
        item->retry_after_s = 0;
        item->answer_id[0] = '\0';
    } else {
        item->final = true;
    }
}

static int64_t timestamp_of(const json_t *root)
{
    double value = json_number_value(json_object_get(root, "timestamp"));

    return value > 0 && value < TIMESTAMP_MAX ? (int64_t)value : 0;
}

/* Copies the reason word out of {"reason":"..."}; "" when there is none. */
static void reason_of(const json_t *root, char *dst, size_t cap)
{
    const json_t *reason = json_object_get(root, "reason");

    dst[0] = '\0';
    if (json_is_string(reason)) {
        (void)mdm_str_printable((mdm_str_t){json_string_value(reason),
                                            json_string_length(reason)},
                                dst, cap);
    }
}

/* The whole answer is here, or as much of it as we want. */
static void answered(mdm_apns_t *apns, mdm_apns_item_t *item)
{
    if (item->status < 200) {
        mdm_apns_finish(apns, item, MDM_APNS_UNKNOWN, "malformed answer");
    } else {
        mdm_apns_finish(apns, item, MDM_APNS_ANSWERED, NULL);
    }
}

/* Fills reason and time stamp of an answer from its body. */
void mdm_apns_read_answer(const mdm_apns_item_t *item,
                          mdm_apns_outcome_t *outcome)
{
    json_t *root;

    if (item->status == 200 || item->answer.len == 0) {
        return;
    }
    root = json_loadb(item->answer.data, item->answer.len, 0, NULL);
    if (root == NULL) {
        return;
    }
    reason_of(root, outcome->reason, sizeof(outcome->reason));
    if (item->status == 410) {
        outcome->timestamp_ms = timestamp_of(root);
    }
    json_decref(root);
}

static void end_of_answer(mdm_apns_t *apns, mdm_apns_item_t *item)
{
    if (item->done) {
        return;
    }
    answered(apns, item);
    /* An answer before our body was sent whole: the rest is not wanted. */
    if (nghttp2_session_get_stream_local_close(apns->session,
                                               item->stream_id) == 0) {
        (void)nghttp2_submit_rst_stream(apns->session, NGHTTP2_FLAG_NONE,
                                        item->stream_id, NGHTTP2_CANCEL);
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                   const uint8_t *data, size_t len, void *ctx)
{
    mdm_apns_item_t *item = item_of(session, stream_id);
    mdm_rc rc;

    (void)flags;
    if (item == NULL || item->done || !item->final) {
        return 0;
    }
    rc = mdm_buf_append(&item->answer, data, len);
    if (rc == MDM_ENOMEM) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (rc != MDM_OK) {
        /* No answer of APNs is that long.  The status counts, the body does
         * not, and the peer need not go on. */
        mdm_buf_clear(&item->answer);
        answered(ctx, item);
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id,
                                        NGHTTP2_CANCEL);
    }
    return 0;
}

/* --- the connection ----------------------------------------------------- */

static void read_goaway(mdm_apns_t *apns, const nghttp2_goaway *frame)
{
    mdm_str_t data = {(const char *)frame->opaque_data,
                      frame->opaque_data_len};
    char text[sizeof(apns->goaway)] = "";
    json_t *root = NULL;

    if (data.n > 0 && data.n <= GOAWAY_JSON_MAX) {
        root = json_loadb(data.s, data.n, 0, NULL);
    }
    if (json_is_object(root)) {
        reason_of(root, text, sizeof(text));
    }
    json_decref(root);
    if (text[0] == '\0' && data.n > 0) {
        (void)mdm_str_printable(data, text, sizeof(text));
    }
    if (text[0] == '\0' && frame->error_code != NGHTTP2_NO_ERROR) {
        (void)snprintf(text, sizeof(text), "%s",
                       nghttp2_http2_strerror(frame->error_code));
    }
    /* The second GOAWAY of a graceful end often says nothing. */
    if (text[0] != '\0') {
        memcpy(apns->goaway, text, sizeof(text));
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                    void *ctx)
{
    mdm_apns_t *apns = ctx;
    mdm_apns_item_t *item = item_of(session, frame->hd.stream_id);

    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            apns->ready = true;
        }
        break;
    case NGHTTP2_GOAWAY:
        apns->going_away = true;
        read_goaway(apns, &frame->goaway);
        mdm_apns_drop_unsent(apns, "connection is going away");
        break;
    case NGHTTP2_RST_STREAM:
        if (item != NULL) {
            item->reset = true;
        }
        break;
    case NGHTTP2_HEADERS:
        if (item != NULL && !item->done) {
            end_of_headers(item);
        }
        /* fall through */
    case NGHTTP2_DATA:
        if (item != NULL &&
            (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            end_of_answer(apns, item);
        }
        break;
    default:
        break;
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream_id,
                    uint32_t error_code, void *ctx)
{
    mdm_apns_t *apns = ctx;
    mdm_apns_item_t *item = item_of(session, stream_id);
    char reason[MDM_APNS_REASON_MAX];

    if (item == NULL) {
        return 0;
    }
    if (!item->sent ||
        (error_code == NGHTTP2_REFUSED_STREAM && !item->final)) {
        /* nghttp2 closes the streams above a GOAWAY's last id this way. */
        mdm_apns_finish(apns, item, MDM_APNS_UNSENT,
                        item->sent && item->reset
                            ? "refused by the push service"
                            : "connection is going away");
    } else if (!item->done) {
        (void)snprintf(reason, sizeof(reason), "%s (%s)",
                       item->reset ? "reset by the push service"
                                   : "malformed answer",
                       nghttp2_http2_strerror(error_code));
        mdm_apns_finish(apns, item, MDM_APNS_UNKNOWN, reason);
    }
    mdm_apns_closed(apns, item);
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame,
                   void *ctx)
{
    mdm_apns_t *apns = ctx;
    mdm_apns_item_t *item;

    if (frame->hd.type == NGHTTP2_HEADERS) {
        item = item_of(session, frame->hd.stream_id);
        if (item != NULL) {
            item->sent = true;
        }
    } else if (frame->hd.type == NGHTTP2_GOAWAY && apns->rc == MDM_OK &&
               frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        mdm_apns_breach(apns, &frame->goaway);
    }
    return 0;
}

mdm_rc mdm_apns_callbacks(nghttp2_session_callbacks **callbacks_r,
                          mdm_err_t *err)
{
    nghttp2_session_callbacks *callbacks;

    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return mdm_err_nomem(err);
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           on_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    *callbacks_r = callbacks;
    return MDM_OK;
}
