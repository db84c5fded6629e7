/*
 * certs_http.c - mdmcerts: one HTTPS request with libcurl, certificates
 * always checked, and the reason in words where there is no answer.
 */
#include <string.h>

#include <curl/curl.h>

#include "certs_io.h"
#include "mdm_str.h"

#define CONNECT_SECONDS 20L
#define TOTAL_SECONDS 60L
#define REDIRECTS_MAX 3L

static size_t take(char *data, size_t size, size_t n, void *arg)
{
    return mdm_buf_append(arg, data, size * n) == MDM_OK ? size * n : 0;
}

static const char *in_words(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return "this is no https:// URL";
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "its name cannot be resolved; is there a connection, or is a "
               "proxy needed (https_proxy)?";
    case CURLE_COULDNT_CONNECT:
        return "no connection; is the way out through a proxy (https_proxy)?";
    case CURLE_OPERATION_TIMEDOUT:
        return "no answer in time; try again later";
    case CURLE_PEER_FAILED_VERIFICATION:
        return "its certificate is not trusted; a proxy that opens TLS needs "
               "--ca FILE with its authority";
    case CURLE_SSL_CACERT_BADFILE:
        return "the file of --ca cannot be read";
    case CURLE_WRITE_ERROR:
        return "the answer is longer than such a file can be";
    case CURLE_SSL_CONNECT_ERROR:
        return "no TLS connection came about";
    case CURLE_OUT_OF_MEMORY:
        return "memory is out";
    default:
        return "the connection broke; try again";
    }
}

static bool set_up(CURL *curl, const certs_http_t *request,
                   struct curl_slist *headers, mdm_buf_t *body)
{
    bool ok = true;

    ok &= curl_easy_setopt(curl, CURLOPT_URL, request->url) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS) ==
          CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_TIMEOUT, TOTAL_SECONDS) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_USERAGENT,
                           "mdmcerts/" MDM_VERSION) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take) == CURLE_OK;
    ok &= curl_easy_setopt(curl, CURLOPT_WRITEDATA, body) == CURLE_OK;
    if (request->ca != NULL) {
        ok &= curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca) == CURLE_OK;
    }
    if (request->json != NULL) {
        ok &= curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->json) ==
              CURLE_OK;
    } else {
        ok &= curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK;
        ok &= curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX) ==
              CURLE_OK;
        ok &= curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https") ==
              CURLE_OK;
    }
    return ok;
}

/* With what Apple's servers once asked for. */
static struct curl_slist *make_headers(const certs_http_t *request)
{
    struct curl_slist *list = curl_slist_append(NULL, "Accept: */*");
    struct curl_slist *longer = list;

    if (list != NULL && request->json != NULL) {
        longer = curl_slist_append(list, "Content-Type: application/json");
    }
    if (longer == NULL) {
        curl_slist_free_all(list);
    }
    return longer;
}

mdm_rc certs_http_run(const certs_http_t *request, mdm_buf_t *body,
                      long *status_r, mdm_err_t *err)
{
    struct curl_slist *headers = make_headers(request);
    CURL *curl = NULL;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    mdm_rc rc = MDM_OK;

    *status_r = 0;
    if (headers != NULL && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        curl = curl_easy_init();
    }
    if (curl != NULL && set_up(curl, request, headers, body)) {
        code = curl_easy_perform(curl);
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status_r);
    }
    if (code != CURLE_OK) {
        rc = mdm_err_set(err, MDM_EUNAVAIL, 0, "%s: %s", request->url,
                         in_words(code));
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return rc;
}
