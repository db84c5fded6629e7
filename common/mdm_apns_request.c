/*
 * mdm_apns_request.c - one push as a request: checks, texts, headers, body.
 *
 * Device-supplied text (token, PushMagic) becomes hex or an escaped JSON
 * string here and nothing else; what cannot is refused.  Same thread and
 * ownership as mdm_apns.c.
 */
#include "mdm_apns_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mdm_str.h"

/* Apple's bound of a push's body. */
#define PAYLOAD_MAX 4096
#define PATH_PREFIX "/3/device/"
#define BODY_HEAD "{\"mdm\":"

bool mdm_apns_is_text(mdm_str_t text, size_t max)
{
    size_t i;

    if (text.n == 0 || text.n > max) {
        return false;
    }
    for (i = 0; i < text.n; i++) {
        if (text.s[i] <= 0x20 || text.s[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

static mdm_rc check_push(const mdm_apns_push_t *push, mdm_err_t *err)
{
    mdm_str_t id = {push->id, strnlen(push->id, sizeof(push->id))};

    if (push->token.n == 0 || push->token.n > MDM_TOKEN_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the push token has %zu bytes, 1 to %d are right",
                           push->token.n, MDM_TOKEN_MAX);
    }
    if (push->magic.n == 0 || push->magic.n > MDM_MAGIC_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the PushMagic has %zu bytes, 1 to %d are right",
                           push->magic.n, MDM_MAGIC_MAX);
    }
    if (!mdm_apns_is_text(push->topic, MDM_TOPIC_MAX)) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the push topic is empty or malformed");
    }
    if (push->priority != 10 && push->priority != 5 && push->priority != 1) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "a push priority is 10, 5 or 1, not %d",
                           push->priority);
    }
    if (push->expiration_s < 0 ||
        (id.n != 0 && (id.n != MDM_UUID_LEN ||
                       !mdm_apns_is_text(id, MDM_UUID_LEN)))) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "expiration or apns-id of the push is malformed");
    }
    return MDM_OK;
}

/* Writes {"mdm":"<magic>"} to dst, which holds PAYLOAD_MAX bytes. */
static mdm_rc format_body(mdm_str_t magic, char *dst, size_t *len_r,
                          mdm_err_t *err)
{
    size_t head = sizeof(BODY_HEAD) - 1;
    json_t *text = json_stringn(magic.s, magic.n);
    size_t n;

    if (text == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the PushMagic is not UTF-8");
    }
    memcpy(dst, BODY_HEAD, head);
    n = json_dumpb(text, dst + head, PAYLOAD_MAX - head - 1,
                   JSON_ENCODE_ANY);
    json_decref(text);
    if (n == 0 || n > PAYLOAD_MAX - head - 1) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the PushMagic is too long when escaped");
    }
    dst[head + n] = '}';
    *len_r = head + n + 1;
    return MDM_OK;
}

mdm_rc mdm_apns_item_new(const mdm_apns_push_t *push,
                         mdm_apns_item_t **item_r, mdm_err_t *err)
{
    char body[PAYLOAD_MAX];
    size_t body_len = 0;
    size_t path_len = sizeof(PATH_PREFIX) - 1 + 2 * push->token.n;
    mdm_apns_item_t *item;
    char *p;
    mdm_rc rc;

    rc = check_push(push, err);
    if (rc != MDM_OK) {
        return rc;
    }
    rc = format_body(push->magic, body, &body_len, err);
    if (rc != MDM_OK) {
        return rc;
    }
    item = calloc(1, sizeof(*item) + path_len + 1 + push->topic.n + body_len);
    if (item == NULL) {
        return mdm_err_nomem(err);
    }
    p = item->text;
    memcpy(p, PATH_PREFIX, sizeof(PATH_PREFIX) - 1);
    mdm_hex_encode(push->token.s, push->token.n, p + sizeof(PATH_PREFIX) - 1);
    item->path = (mdm_str_t){p, path_len};
    p += path_len + 1;
    memcpy(p, push->topic.s, push->topic.n);
    item->topic = (mdm_str_t){p, push->topic.n};
    p += push->topic.n;
    memcpy(p, body, body_len);
    item->body = (mdm_str_t){p, body_len};
    (void)snprintf(item->priority, sizeof(item->priority), "%d",
                   push->priority);
    (void)snprintf(item->expiration, sizeof(item->expiration), "%" PRId64,
                   push->expiration_s);
    (void)snprintf(item->length, sizeof(item->length), "%zu", body_len);
    (void)snprintf(item->id, sizeof(item->id), "%.*s", MDM_UUID_LEN,
                   push->id);
    item->tag = push->tag;
    mdm_buf_init(&item->answer, MDM_APNS_BODY_MAX);
    *item_r = item;
    return MDM_OK;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id,
                         uint8_t *dst, size_t cap, uint32_t *flags,
                         nghttp2_data_source *source, void *ctx)
{
    mdm_apns_item_t *item = source->ptr;
    size_t n = item->body.n - item->body_sent;

    (void)session;
    (void)stream_id;
    (void)ctx;
    if (n > cap) {
        n = cap;
    } else {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    memcpy(dst, item->body.s + item->body_sent, n);
    item->body_sent += n;
    return (ssize_t)n;
}

/* nghttp2 reads names and values in place and changes neither. */
static void put(nghttp2_nv *nv, const char *name, mdm_str_t value,
                uint8_t flags)
{
    nv->name = (uint8_t *)(uintptr_t)name;
    nv->namelen = strlen(name);
    nv->value = (uint8_t *)(uintptr_t)value.s;
    nv->valuelen = value.n;
    nv->flags = (uint8_t)(NGHTTP2_NV_FLAG_NO_COPY_NAME |
                          NGHTTP2_NV_FLAG_NO_COPY_VALUE | flags);
}

/* What differs from push to push stays out of the peer's small HPACK table,
 * or it would push out what does not. */
mdm_rc mdm_apns_open_stream(mdm_apns_t *apns, mdm_apns_item_t *item)
{
    nghttp2_data_provider body = {{.ptr = item}, read_body};
    nghttp2_nv nv[11];
    size_t n = 0;
    int32_t id;

    put(&nv[n++], ":method", MDM_STR("POST"), 0);
    put(&nv[n++], ":scheme", MDM_STR("https"), 0);
    put(&nv[n++], ":path", item->path, NGHTTP2_NV_FLAG_NO_INDEX);
    put(&nv[n++], ":authority", mdm_str_from(apns->authority), 0);
    put(&nv[n++], "apns-topic", item->topic, 0);
    put(&nv[n++], "apns-push-type", MDM_STR("mdm"), 0);
    put(&nv[n++], "apns-priority", mdm_str_from(item->priority), 0);
    put(&nv[n++], "apns-expiration", mdm_str_from(item->expiration),
        NGHTTP2_NV_FLAG_NO_INDEX);
    if (item->id[0] != '\0') {
        put(&nv[n++], "apns-id", mdm_str_from(item->id),
            NGHTTP2_NV_FLAG_NO_INDEX);
    }
    put(&nv[n++], "content-type", MDM_STR("application/json"), 0);
    put(&nv[n++], "content-length", mdm_str_from(item->length), 0);
    id = nghttp2_submit_request(apns->session, NULL, nv, n, &body, item);
    if (id < 0) {
        return id == NGHTTP2_ERR_NOMEM ? MDM_ENOMEM : MDM_EINTERNAL;
    }
    item->stream_id = id;
    apns->n_streams++;
    apns->n_waiting--;
    apns->waiting = item->next;
    return MDM_OK;
}
