/*
 * mdm_upstream.c - calls to the outside server: places for them, one HTTP
 * request each, what its answer is worth.
 *
 * A place is a libcurl handle with its own connections; whoever got it is its
 * only user until it is given back.  The mutex guards the places' states.  A
 * call drives its transfer in the caller's thread and looks ten times a
 * second whether it has to end early.
 */
#include "mdm_upstream.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "mdm_buf.h"
#include "mdm_str.h"
#include "mdm_thread.h"
#include "mdm_time.h"

#define CALLS MDM_UPSTREAM_CALLS
#define WAIT_US MDM_SEC       /* longest wait for a place */
#define FAREWELL_US MDM_SEC   /* left to a call once the process is to end */
#define TICK_MS 100
#define HEADERS_MAX (64 * 1024)
#define SIGNATURE_HEADER "X-Hmac-Signature"

typedef struct place {
    CURLM *multi; /* made at the first call; holds the connections */
    CURL *easy;
    bool busy;
    int64_t since_us;
} place_t;

struct mdm_upstream {
    mdm_upstream_config_t config;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t freed;
    place_t places[CALLS];
    unsigned waiting;
    int64_t usual_us; /* how long calls take lately */
    bool ending;
};

/* What came back, as far as it has come. */
typedef struct answer {
    mdm_buf_t body;
    long status;
    char type[128];       /* media type; empty: none, or too long */
    size_t header_bytes;
    bool in_body;
    bool encoded;         /* by a Content-Encoding that nobody asked for */
    unsigned nsignatures;
    char signature[128];
    mdm_str_t signed_as;  /* in `signature` */
} answer_t;

/* ---- life --------------------------------------------------------------- */

/* The host may unload this module at its end while libcurl still resolves a
 * name in a thread that nothing can stop: its code has to stay. */
static void pin_libcurl(void)
{
    Dl_info info;

    if (dladdr((void *)(uintptr_t)curl_easy_init, &info) != 0) {
        /* Never closed: that is the point. */
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    }
}

mdm_rc mdm_upstream_new(const mdm_upstream_config_t *config,
                        mdm_upstream_t **upstream_r, mdm_err_t *err)
{
    mdm_upstream_t *u = NULL;
    mdm_rc rc;

    /* Others in the process may use libcurl as well.  It counts, and locks
     * where it was built thread-safe (7.84 and later); it is never cleaned
     * up, as that is not ours to decide. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "cannot start libcurl");
    }
    pin_libcurl();
    u = calloc(1, sizeof(*u));
    if (u == NULL) {
        return mdm_err_nomem(err);
    }
    u->config = *config;
    rc = mdm_cond_init(&u->freed, err);
    if (rc != MDM_OK) {
        free(u);
        return rc;
    }
    (void)pthread_mutex_init(&u->mutex, NULL);
    *upstream_r = u;
    return MDM_OK;
}

void mdm_upstream_stop(mdm_upstream_t *u)
{
    if (u != NULL) {
        (void)pthread_mutex_lock(&u->mutex);
        u->ending = true;
        (void)pthread_cond_broadcast(&u->freed);
        (void)pthread_mutex_unlock(&u->mutex);
    }
}

void mdm_upstream_free(mdm_upstream_t **upstream)
{
    mdm_upstream_t *u = *upstream;
    size_t i;

    if (u == NULL) {
        return;
    }
    for (i = 0; i < CALLS; i++) {
        curl_easy_cleanup(u->places[i].easy);
        (void)curl_multi_cleanup(u->places[i].multi);
    }
    (void)pthread_cond_destroy(&u->freed);
    (void)pthread_mutex_destroy(&u->mutex);
    free(u);
    *upstream = NULL;
}

/* ---- places ------------------------------------------------------------- */

static place_t *find_place(mdm_upstream_t *u)
{
    size_t i;

    for (i = 0; i < CALLS; i++) {
        if (!u->places[i].busy) {
            return &u->places[i];
        }
    }
    return NULL;
}

/* May one more wait?  Not when those before it will take longer than it may
 * wait: its thread is better used by another device.  All places are busy. */
static bool is_worth_waiting(const mdm_upstream_t *u, int64_t now_us)
{
    int64_t lasting = 0;
    size_t i;

    for (i = 0; i < CALLS; i++) {
        lasting += (now_us - u->places[i].since_us) / CALLS;
    }
    if (lasting < u->usual_us) {
        lasting = u->usual_us;
    }
    return lasting * (u->waiting + 1) / CALLS <= WAIT_US;
}

static place_t *take_place(mdm_upstream_t *u)
{
    int64_t now = mdm_mono_us(NULL);
    int64_t until = now + WAIT_US;
    place_t *place;

    (void)pthread_mutex_lock(&u->mutex);
    place = find_place(u);
    if (place == NULL && is_worth_waiting(u, now)) {
        u->waiting++;
        while (!u->ending && (place = find_place(u)) == NULL &&
               mdm_mono_us(NULL) < until) {
            (void)mdm_cond_wait_until(&u->freed, &u->mutex, until);
        }
        u->waiting--;
    }
    if (u->ending) {
        place = NULL;
    }
    if (place != NULL) {
        place->busy = true;
        place->since_us = mdm_mono_us(NULL);
    }
    (void)pthread_mutex_unlock(&u->mutex);
    return place;
}

static void give_back(mdm_upstream_t *u, place_t *place)
{
    (void)pthread_mutex_lock(&u->mutex);
    u->usual_us =
        (3 * u->usual_us + mdm_mono_us(NULL) - place->since_us) / 4;
    place->busy = false;
    (void)pthread_cond_signal(&u->freed);
    (void)pthread_mutex_unlock(&u->mutex);
}

static bool is_ending(mdm_upstream_t *u)
{
    bool ending;

    (void)pthread_mutex_lock(&u->mutex);
    ending = u->ending;
    (void)pthread_mutex_unlock(&u->mutex);
    return ending;
}

/* ---- libcurl's callbacks ------------------------------------------------ */

/* As libcurl would, but no child of the host inherits it. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose,
                                 struct curl_sockaddr *to)
{
    (void)ctx;
    (void)purpose;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static void note_signature(answer_t *a, mdm_str_t value)
{
    a->nsignatures++;
    a->signed_as = MDM_STR_NONE;
    if (value.n > 0 && value.n < sizeof(a->signature)) {
        memcpy(a->signature, value.s, value.n);
        a->signed_as = (mdm_str_t){a->signature, value.n};
    }
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
    mdm_str_t value = {data, size * n};
    answer_t *a = arg;
    mdm_str_t name;

    a->header_bytes += value.n;
    if (a->header_bytes > HEADERS_MAX) {
        return 0;
    }
    if (a->in_body) {
        return value.n; /* trailers say nothing to us */
    }
    while (value.n > 0 && (data[value.n - 1] == '\n' ||
                           data[value.n - 1] == '\r')) {
        value.n--;
    }
    if (mdm_str_starts(value, "HTTP/")) { /* what went before was interim */
        a->nsignatures = 0;
        a->encoded = false;
    }
    name = mdm_str_trim(mdm_str_split(&value, ':'));
    value = mdm_str_trim(value);
    if (mdm_str_ieq(name, SIGNATURE_HEADER)) {
        note_signature(a, value);
    } else if (mdm_str_ieq(name, "Content-Encoding")) {
        a->encoded = a->encoded ||
                     (value.n > 0 && !mdm_str_ieq(value, "identity"));
    }
    return size * n;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    answer_t *a = arg;

    a->in_body = true;
    return mdm_buf_append(&a->body, data, size * n) == MDM_OK ? size * n : 0;
}

/* ---- the request -------------------------------------------------------- */

static mdm_rc sign(mdm_str_t key, mdm_str_t body,
                   unsigned char digest[MDM_SHA256_LEN], mdm_err_t *err)
{
    unsigned n = MDM_SHA256_LEN;

    if (HMAC(EVP_sha256(), key.s, (int)key.n,
             (const unsigned char *)(body.s != NULL ? body.s : ""), body.n,
             digest, &n) == NULL) {
        return mdm_err_openssl(err, MDM_EINTERNAL, 0,
                               "cannot make a signature");
    }
    return MDM_OK;
}

/* Appends "name: value"; *rc stays what it is once it is no longer MDM_OK. */
static void add_header(struct curl_slist **list, const char *name,
                       const char *value, mdm_arena_t *arena, mdm_rc *rc)
{
    char *line = value != NULL
                     ? mdm_arena_printf(arena, "%s: %s", name, value)
                     : NULL;
    struct curl_slist *more =
        line != NULL ? curl_slist_append(*list, line) : NULL;

    if (more == NULL) {
        *rc = MDM_ENOMEM;
    } else {
        *list = more;
    }
}

static mdm_rc make_headers(const mdm_upstream_t *u,
                           const mdm_upstream_message_t *m,
                           mdm_arena_t *arena, struct curl_slist **list,
                           mdm_err_t *err)
{
    unsigned char digest[MDM_SHA256_LEN];
    char text[MDM_BASE64_SIZE(MDM_SHA256_LEN)];
    mdm_rc rc = MDM_OK;

    add_header(list, "X-Enrollment-ID", mdm_upstream_header(m->id, arena),
               arena, &rc);
    add_header(list, "X-Enrollment-Type", m->type, arena, &rc);
    if (m->parent_id.s != NULL) {
        add_header(list, "X-Enrollment-ParentID",
                   mdm_upstream_header(m->parent_id, arena), arena, &rc);
    }
    if (u->config.hmac_key.s != NULL) {
        if (sign(u->config.hmac_key, m->data, digest, err) != MDM_OK) {
            return MDM_EINTERNAL;
        }
        mdm_base64_encode(digest, sizeof(digest), text);
        add_header(list, SIGNATURE_HEADER, text, arena, &rc);
    }
    if (m->data.n > 0) {
        add_header(list, "Content-Type", "application/json", arena, &rc);
        /* No waiting for "100 Continue". */
        add_header(list, "Expect", "", arena, &rc);
    }
    return rc == MDM_OK ? MDM_OK : mdm_err_nomem(err);
}

/* Everything that is the same for all calls. */
static CURLcode set_fixed(CURL *easy, const mdm_upstream_config_t *c)
{
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_NOSIGNAL, 1L},
        {CURLOPT_FOLLOWLOCATION, 0L},
        {CURLOPT_PATH_AS_IS, 1L},
        {CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1},
        {CURLOPT_HTTP_CONTENT_DECODING, 0L},
        {CURLOPT_SSL_VERIFYPEER, 1L},
        {CURLOPT_SSL_VERIFYHOST, 2L},
        {CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2},
        {CURLOPT_CONNECTTIMEOUT_MS, (long)(c->connect_us / 1000)},
        {CURLOPT_TIMEOUT_MS, (long)(c->total_us / 1000)},
        /* Does not wait for a name that is still being resolved. */
        {CURLOPT_QUICK_EXIT, 1L},
    };
    CURLcode rc;
    size_t i;

    rc = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    for (i = 0; rc == CURLE_OK && i < MDM_ARRAY_LEN(numbers); i++) {
        rc = curl_easy_setopt(easy, numbers[i].option, numbers[i].value);
    }
    if (rc == CURLE_OK) {
        rc = curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE,
                              (curl_off_t)MDM_UPSTREAM_BODY_MAX);
    }
    if (rc == CURLE_OK) { /* "": none, whatever the environment says */
        rc = curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    if (rc == CURLE_OK) {
        rc = curl_easy_setopt(easy, CURLOPT_USERAGENT, "mod_mdm/" MDM_VERSION);
    }
    if (rc == CURLE_OK && c->ca_file != NULL) {
        rc = curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
    }
    if (rc == CURLE_OK) {
        rc = curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    }
    return rc;
}

/* One request, ready to be sent. */
typedef struct request {
    const char *url;
    struct curl_slist *headers;
    mdm_str_t data;     /* empty: GET */
    const char *method; /* where there is data */
    const mdm_upstream_form_t *form; /* NULL: without a certificate */
} request_t;

/* A connection under this certificate serves this call alone. */
static CURLcode set_identity(CURL *easy, const mdm_upstream_form_t *form)
{
    struct curl_blob cert = {(void *)(uintptr_t)form->cert_pem.s,
                             form->cert_pem.n, CURL_BLOB_NOCOPY};
    struct curl_blob key = {(void *)(uintptr_t)form->key_pem.s,
                            form->key_pem.n, CURL_BLOB_NOCOPY};
    CURLcode rc;

    rc = curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &cert);
    if (rc == CURLE_OK) {
        rc = curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    }
    (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    return rc;
}

static CURLcode set_call(CURL *easy, const request_t *request,
                         answer_t *answer)
{
    CURLcode rc;

    rc = curl_easy_setopt(easy, CURLOPT_URL, request->url);
    if (rc == CURLE_OK) {
        rc = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
    }
    if (rc == CURLE_OK && request->data.n > 0) {
        rc = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                              (curl_off_t)request->data.n);
        if (rc == CURLE_OK) { /* borrowed */
            rc = curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->data.s);
        }
        if (rc == CURLE_OK) {
            rc = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST,
                                  request->method);
        }
    }
    if (rc == CURLE_OK && request->form != NULL) {
        rc = set_identity(easy, request->form);
    }
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    return rc;
}

/* ---- one call ----------------------------------------------------------- */

/* Has the transfer to end early?  *until_us: when, once that is known. */
static bool is_over(mdm_upstream_t *u, int64_t *until_us)
{
    const mdm_upstream_config_t *c = &u->config;

    if (*until_us == INT64_MAX && c->stopping != NULL &&
        c->stopping(c->stopping_ctx)) {
        *until_us = mdm_mono_us(NULL) + FAREWELL_US;
    }
    return is_ending(u) || mdm_mono_us(NULL) >= *until_us;
}

static CURLcode transfer(mdm_upstream_t *u, place_t *place)
{
    int64_t until = INT64_MAX;
    CURLcode result = CURLE_FAILED_INIT;
    CURLMsg *message;
    int running = 1;
    int left;

    if (curl_multi_add_handle(place->multi, place->easy) != CURLM_OK) {
        return CURLE_FAILED_INIT;
    }
    while (curl_multi_perform(place->multi, &running) == CURLM_OK &&
           running > 0) {
        if (is_over(u, &until)) {
            result = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
        if (curl_multi_poll(place->multi, NULL, 0, TICK_MS, NULL) !=
            CURLM_OK) {
            break;
        }
    }
    while ((message = curl_multi_info_read(place->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            result = message->data.result;
        }
    }
    (void)curl_multi_remove_handle(place->multi, place->easy);
    return result;
}

static mdm_rc transfer_fault(const mdm_upstream_t *u, CURLcode result,
                             const answer_t *answer, const char *detail,
                             mdm_err_t *err)
{
    const char *why = detail[0] != '\0' ? detail : curl_easy_strerror(result);

    if (result == CURLE_OUT_OF_MEMORY || answer->body.rc == MDM_ENOMEM) {
        return mdm_err_nomem(err);
    }
    if (result == CURLE_ABORTED_BY_CALLBACK) {
        return mdm_err_set(err, MDM_EBUSY, 0,
                           "given up, as this process is to end");
    }
    if (result == CURLE_OPERATION_TIMEDOUT) {
        return mdm_err_set(err, MDM_ETIMEDOUT, 0, "%s (%lld s are allowed)",
                           why, (long long)(u->config.total_us / MDM_SEC));
    }
    if (result == CURLE_FILESIZE_EXCEEDED ||
        answer->body.rc == MDM_ETOOBIG) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "its answer is longer than %d bytes",
                           MDM_UPSTREAM_BODY_MAX);
    }
    if (answer->header_bytes > HEADERS_MAX) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "its headers are longer than %d bytes",
                           HEADERS_MAX);
    }
    return mdm_err_set(err, MDM_EUNAVAIL, 0, "%s", why);
}

static bool is_signed(const mdm_upstream_t *u, const answer_t *answer)
{
    unsigned char theirs[sizeof(answer->signature)];
    unsigned char ours[MDM_SHA256_LEN];
    size_t n = 0;

    if (answer->nsignatures != 1 || answer->signed_as.n == 0 ||
        mdm_base64_decode(answer->signed_as, theirs, &n) != MDM_OK ||
        sign(u->config.hmac_key, mdm_buf_str(&answer->body), ours, NULL) !=
            MDM_OK) {
        return false;
    }
    return mdm_str_secret_eq((mdm_str_t){(const char *)theirs, n},
                             (mdm_str_t){(const char *)ours, sizeof(ours)});
}

/* A complete answer: is it one that may reach the device?  A 404 passes as it
 * is, as servers make it in places that know no key; but not with a signature
 * that is wrong. */
static mdm_rc judge(const mdm_upstream_t *u, const answer_t *answer,
                    mdm_err_t *err)
{
    long status = answer->status;

    if (status != 200 && status != 404) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0, "it answered %ld", status);
    }
    if (u->config.hmac_key.s != NULL &&
        (status == 200 || answer->nsignatures > 0) && !is_signed(u, answer)) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "its answer has %s " SIGNATURE_HEADER,
                           answer->nsignatures == 0 ? "no" : "a wrong");
    }
    if (status == 404) {
        return mdm_err_set(err, MDM_ENOTFOUND, 0,
                           "the outside server knows no such declaration");
    }
    if (answer->encoded) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "it encoded its answer, unasked");
    }
    return MDM_OK;
}

/* In a place that is ours; the URL and the headers are ready. */
static mdm_rc ask(mdm_upstream_t *u, place_t *place,
                  const request_t *request, answer_t *answer, mdm_err_t *err)
{
    char detail[CURL_ERROR_SIZE] = "";
    const char *type = NULL;
    CURLcode result;

    if (place->multi == NULL) {
        place->multi = curl_multi_init();
    }
    if (place->easy == NULL) {
        place->easy = curl_easy_init();
    }
    if (place->multi == NULL || place->easy == NULL) {
        return mdm_err_nomem(err);
    }
    result = set_fixed(place->easy, &u->config);
    if (result == CURLE_OK) {
        result = set_call(place->easy, request, answer);
    }
    if (result == CURLE_OK) {
        (void)curl_easy_setopt(place->easy, CURLOPT_ERRORBUFFER, detail);
        result = transfer(u, place);
        (void)curl_easy_getinfo(place->easy, CURLINFO_RESPONSE_CODE,
                                &answer->status);
        (void)curl_easy_getinfo(place->easy, CURLINFO_CONTENT_TYPE, &type);
        if (type != NULL && strlen(type) < sizeof(answer->type)) {
            memcpy(answer->type, type, strlen(type));
        }
    }
    /* Forgets all that points into this call, keeps connections. */
    curl_easy_reset(place->easy);
    return result == CURLE_OK ? MDM_OK
                              : transfer_fault(u, result, answer, detail, err);
}

/* In the next free place. */
static mdm_rc ask_somewhere(mdm_upstream_t *u, const request_t *request,
                            answer_t *answer, mdm_err_t *err)
{
    place_t *place = take_place(u);
    mdm_rc rc;

    if (place == NULL) {
        return mdm_err_set(err, MDM_EBUSY, 0,
                           "all %d calls to the outside server are taken",
                           CALLS);
    }
    rc = ask(u, place, request, answer, err);
    give_back(u, place);
    return rc;
}

static const char *join(mdm_upstream_t *u, const char *path,
                        mdm_arena_t *arena)
{
    mdm_str_t base = mdm_str_from(u->config.url);

    while (base.n > 0 && base.s[base.n - 1] == '/') {
        base.n--;
    }
    return mdm_arena_printf(arena, "%.*s/%s", MDM_STR_ARG(base), path);
}

mdm_rc mdm_upstream_call(mdm_upstream_t *u, const mdm_upstream_message_t *m,
                         mdm_arena_t *arena, mdm_str_t *body_r,
                         mdm_err_t *err)
{
    request_t request = {.data = m->data, .method = "PUT"};
    const char *path = NULL;
    answer_t answer;
    char shown[128];
    mdm_rc rc;

    *body_r = MDM_STR_NONE;
    rc = mdm_upstream_path(m->endpoint, arena, &path, err);
    if (rc != MDM_OK) {
        return rc;
    }
    memset(&answer, 0, sizeof(answer));
    mdm_buf_init_secret(&answer.body, MDM_UPSTREAM_BODY_MAX);
    request.url = join(u, path, arena);
    rc = request.url != NULL
             ? make_headers(u, m, arena, &request.headers, err)
             : mdm_err_nomem(err);
    if (rc != MDM_OK) {
        goto leave;
    }
    rc = ask_somewhere(u, &request, &answer, err);
    if (rc == MDM_OK) {
        rc = judge(u, &answer, err);
    }
    if (rc == MDM_OK && !mdm_arena_str(arena, mdm_buf_str(&answer.body),
                                       body_r)) {
        rc = mdm_err_nomem(err);
    }
    if (rc != MDM_OK && rc != MDM_ENOTFOUND) {
        (void)mdm_err_prefix(err, "%s %s", m->data.n > 0 ? "PUT" : "GET",
                             mdm_str_printable(m->endpoint, shown,
                                               sizeof(shown)));
    }
leave:
    curl_slist_free_all(request.headers);
    mdm_buf_clear(&answer.body);
    return rc;
}

/* ---- forms -------------------------------------------------------------- */

mdm_rc mdm_upstream_post(mdm_upstream_t *u, const mdm_upstream_form_t *form,
                         mdm_arena_t *arena, mdm_upstream_answer_t *answer_r,
                         mdm_err_t *err)
{
    request_t request = {.data = form->body, .method = "POST", .form = form};
    answer_t answer;
    mdm_rc rc = MDM_OK;

    memset(answer_r, 0, sizeof(*answer_r));
    memset(&answer, 0, sizeof(answer));
    mdm_buf_init_secret(&answer.body, MDM_UPSTREAM_BODY_MAX);
    request.url = mdm_arena_printf(arena, "%s?%.*s", u->config.url,
                                   MDM_STR_ARG(form->query));
    add_header(&request.headers, "Content-Type",
               "application/x-www-form-urlencoded", arena, &rc);
    add_header(&request.headers, "Expect", "", arena, &rc);
    if (rc != MDM_OK || request.url == NULL) {
        rc = mdm_err_nomem(err);
        goto leave;
    }
    rc = ask_somewhere(u, &request, &answer, err);
    if (rc == MDM_OK && (answer.status < 200 || answer.encoded)) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, 0,
                         "it answered in a way that cannot be passed on "
                         "(%ld)",
                         answer.status);
    }
    if (rc == MDM_OK) {
        answer_r->status = (int)answer.status;
        answer_r->content_type = mdm_arena_strdup(arena, answer.type);
        if (answer_r->content_type == NULL ||
            !mdm_arena_str(arena, mdm_buf_str(&answer.body),
                           &answer_r->body)) {
            rc = mdm_err_nomem(err);
        } else if (answer.type[0] == '\0') {
            answer_r->content_type = NULL;
        }
    }
leave:
    curl_slist_free_all(request.headers);
    mdm_buf_clear(&answer.body);
    return rc;
}
