/*
 * mdm_config_push.c - how the arguments of the MDMPush... directives are
 * read, but for those of certificates (mdm_config_pushcert.c).  Parent process
 * only.
 */
#include "mdm_config_int.h"

#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define HOST_MAX 255
#define CREDENTIALS_MAX 1024 /* bytes of "user:password" as written */

/* RFC 3986: what needs no escaping in a name and in a user's part. */
static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~", c) != NULL);
}

static bool is_host(mdm_str_t host)
{
    size_t i;

    for (i = 0; i < host.n; i++) {
        if (!is_unreserved(host.s[i])) {
            return false;
        }
    }
    return host.n > 0 && host.n <= HOST_MAX;
}

static bool is_ipv6(mdm_str_t host)
{
    mdm_net_t net;

    return host.n > 0 && memchr(host.s, ':', host.n) != NULL &&
           memchr(host.s, '/', host.n) == NULL &&
           mdm_net_parse(host, &net, NULL) == MDM_OK;
}

/* "host", "host:port", "[::1]:port"; *port_r is left alone without a port.
 * False: it is neither. */
static bool split_host_port(mdm_str_t text, mdm_str_t *host_r,
                            uint16_t *port_r)
{
    mdm_str_t rest = text;
    uint64_t port = *port_r;
    bool ok;

    if (rest.n > 0 && rest.s[0] == '[') {
        rest = (mdm_str_t){rest.s + 1, rest.n - 1};
        *host_r = mdm_str_split(&rest, ']');
        ok = rest.s != NULL && is_ipv6(*host_r) &&
             (rest.n == 0 || rest.s[0] == ':');
        rest = ok && rest.n > 0 ? (mdm_str_t){rest.s + 1, rest.n - 1}
                                : MDM_STR_NONE;
    } else {
        *host_r = mdm_str_split(&rest, ':');
        ok = is_host(*host_r);
    }
    if (!ok || (rest.s != NULL &&
                (!mdm_parse_u64(rest, 65535, &port) || port == 0))) {
        return false;
    }
    *port_r = (uint16_t)port;
    return true;
}

static mdm_rc set_push_server(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t host;

    c->push_port = 443;
    if (!split_host_port(mdm_str_from(arg), &host, &c->push_port)) {
        return mdm_config_bad(err, arg,
                   "host or host:port, such as api.push.apple.com:2197");
    }
    c->push_host = mdm_arena_dup(c->arena, host.s, host.n);
    return c->push_host != NULL ? MDM_OK : mdm_err_nomem(err);
}

/* ---- the proxy ---------------------------------------------------------- */

/* Without the argument: it may hold a password. */
static mdm_rc bad_proxy(mdm_err_t *err, const char *why)
{
    return mdm_err_set(err, MDM_ECONFIG, 0,
                       "%s; give http://[user:password@]host[:port] or off",
                       why);
}

/* Turns "user:password" with %XX into what it means, in place.  False:
 * something is not escaped that must be, or means a control character. */
static bool unescape(char *text, size_t *n_r)
{
    unsigned char byte;
    size_t n = 0;
    size_t i;

    for (i = 0; i < *n_r; i++) {
        byte = (unsigned char)text[i];
        if (byte == '%') {
            if (*n_r - i < 3 ||
                !mdm_hex_decode((mdm_str_t){text + i + 1, 2}, &byte, 1)) {
                return false;
            }
            i += 2;
        } else if (!is_unreserved(text[i]) &&
                   (byte == '\0' || strchr("!$&'()*+,;=:", byte) == NULL)) {
            return false;
        }
        if (byte < ' ' || byte == 0x7f) {
            return false;
        }
        text[n++] = (char)byte;
    }
    *n_r = n;
    return true;
}

/* "Basic ..." of RFC 7617, in the arena, which wipes. */
static mdm_rc set_credentials(mdm_config_t *c, mdm_conn_proxy_t *proxy,
                              mdm_str_t userinfo, mdm_err_t *err)
{
    static const char scheme[] = "Basic ";
    const char *colon = memchr(userinfo.s, ':', userinfo.n);
    size_t user = colon != NULL ? (size_t)(colon - userinfo.s) : userinfo.n;
    size_t n = userinfo.n;
    char *text;
    char *value;

    if (user == 0 || n > CREDENTIALS_MAX) {
        return bad_proxy(err, user == 0 ? "the user name is missing"
                                        : "the password is too long");
    }
    /* One byte more: RFC 7617 wants the colon without a password, too. */
    text = mdm_arena_alloc(c->arena, n + 2);
    value = mdm_arena_alloc(c->arena,
                            sizeof(scheme) + MDM_BASE64_SIZE(n + 1));
    if (text == NULL || value == NULL) {
        return mdm_err_nomem(err);
    }
    memcpy(text, userinfo.s, n);
    if (!unescape(text, &user) || memchr(text, ':', user) != NULL) {
        return bad_proxy(err, "the user name has a character that must be "
                              "escaped as %XX, a colon or a control "
                              "character");
    }
    memcpy(text, userinfo.s, n);
    if (!unescape(text, &n)) {
        return bad_proxy(err, "the password has a character that must be "
                              "escaped as %XX, or a control character");
    }
    if (colon == NULL) {
        text[n++] = ':';
    }
    memcpy(value, scheme, sizeof(scheme) - 1);
    mdm_base64_encode(text, n, value + sizeof(scheme) - 1);
    proxy->authorization = value;
    return MDM_OK;
}

/* What stands behind "http://". */
static mdm_rc set_authority(mdm_config_t *c, mdm_conn_proxy_t *proxy,
                            mdm_str_t text, mdm_err_t *err)
{
    mdm_str_t rest = text;
    mdm_str_t userinfo = mdm_str_split(&rest, '@');
    mdm_str_t authority;
    mdm_str_t host;
    mdm_rc rc;

    if (rest.s == NULL) {
        rest = text;
        userinfo = MDM_STR_NONE;
    } else if (memchr(rest.s, '@', rest.n) != NULL) {
        return bad_proxy(err, "it has more than one @; one in the user name "
                              "or password is written %40");
    }
    authority = mdm_str_split(&rest, '/');
    proxy->port = 80;
    if (!split_host_port(authority, &host, &proxy->port)) {
        return bad_proxy(err, "the host or port is wrong");
    }
    if (rest.n > 0) {
        return bad_proxy(err, "a proxy's URL has no path");
    }
    rc = userinfo.s != NULL ? set_credentials(c, proxy, userinfo, err)
                            : MDM_OK;
    proxy->host = mdm_arena_dup(c->arena, host.s, host.n);
    return rc == MDM_OK && proxy->host == NULL ? mdm_err_nomem(err) : rc;
}

static mdm_rc set_proxy(mdm_config_t *c, const char *arg, mdm_err_t *err)
{
    mdm_str_t rest = mdm_str_from(arg);
    mdm_str_t scheme;
    mdm_conn_proxy_t *proxy;
    mdm_rc rc;

    if (mdm_str_ieq(rest, "off")) {
        c->push_proxy = NULL;
        return MDM_OK;
    }
    scheme = mdm_str_split(&rest, ':');
    if (mdm_str_ieq(scheme, "https")) {
        return bad_proxy(err, "a proxy that is spoken to over TLS (https://) "
                              "is not supported; what goes through the proxy "
                              "is TLS up to the push service anyway");
    }
    if (!mdm_str_ieq(scheme, "http") || !mdm_str_starts(rest, "//")) {
        return bad_proxy(err, "not the URL of an HTTP proxy");
    }
    proxy = mdm_arena_alloc(c->arena, sizeof(*proxy));
    if (proxy == NULL) {
        return mdm_err_nomem(err);
    }
    rc = set_authority(c, proxy, (mdm_str_t){rest.s + 2, rest.n - 2}, err);
    c->push_proxy = rc == MDM_OK ? proxy : NULL;
    return rc;
}

static mdm_rc set_retry(mdm_config_t *c, const char *const *argv,
                        mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    mdm_rc rc;

    rc = mdm_config_time(argv[0], MDM_SEC / 10, day,
                         &c->push_policy.retry_min_us, err);
    if (rc == MDM_OK) {
        rc = mdm_config_time(argv[1], MDM_SEC / 10, 7 * day,
                      &c->push_policy.retry_max_us, err);
    }
    if (rc == MDM_OK &&
        c->push_policy.retry_min_us > c->push_policy.retry_max_us) {
        rc = mdm_err_set(err, MDM_ECONFIG, 0,
                         "the shortest pause, %s, is longer than the longest, "
                         "%s; give them the other way round",
                         argv[0], argv[1]);
    }
    return rc;
}

mdm_rc mdm_config_apply_push(mdm_config_t *c, mdm_directive_id_t id, int argc,
                             const char *const *argv, mdm_err_t *err)
{
    const int64_t day = 86400 * MDM_SEC;
    uint64_t n = 0;
    mdm_rc rc = MDM_OK;

    switch (id) {
    case MDM_DIRECTIVE_PUSH:
        return mdm_config_flag(argv[0], &c->push, err);
    case MDM_DIRECTIVE_PUSH_SERVER:
        return set_push_server(c, argv[0], err);
    case MDM_DIRECTIVE_PUSH_PROXY:
        return set_proxy(c, argv[0], err);
    case MDM_DIRECTIVE_PUSH_CERTIFICATE:
        return mdm_config_push_cert(c, argc, argv, err);
    case MDM_DIRECTIVE_PUSH_CERTIFICATE_PASS_PHRASE:
        return mdm_config_push_phrase(c, argv[0], err);
    case MDM_DIRECTIVE_PUSH_TRUSTED_CERTIFICATE:
        return mdm_config_bundle(c, argv[0], &c->push_ca_file, err);
    case MDM_DIRECTIVE_PUSH_EXPIRATION:
        return mdm_config_time(argv[0], 60 * MDM_SEC, 30 * day,
                        &c->push_expiration_us, err);
    case MDM_DIRECTIVE_PUSH_TIMEOUT:
        return mdm_config_time(argv[0], MDM_SEC, 600 * MDM_SEC,
                               &c->push_timeout_us, err);
    case MDM_DIRECTIVE_PUSH_PING:
        return mdm_config_time(argv[0], 5 * MDM_SEC, 3600 * MDM_SEC,
                               &c->push_ping_us, err);
    case MDM_DIRECTIVE_PUSH_CONCURRENCY:
        rc = mdm_config_number(argv[0], 1, 100000, &n, err);
        c->push_concurrency = (uint32_t)n;
        return rc;
    case MDM_DIRECTIVE_PUSH_RETRY:
        return set_retry(c, argv, err);
    case MDM_DIRECTIVE_PUSH_REPEAT:
        return mdm_config_time_or_off(argv[0], 60 * MDM_SEC, 30 * day,
                                      &c->push_policy.repeat_us, err);
    case MDM_DIRECTIVE_PUSH_SILENT:
        return mdm_config_time_or_off(argv[0], 3600 * MDM_SEC, 365 * day,
                                      &c->push_silent_us, err);
    case MDM_DIRECTIVE_PUSH_CERTIFICATE_WARN:
        return mdm_config_time(argv[0], 3600 * MDM_SEC, 3650 * day,
                               &c->push_cert_warn_us, err);
    case MDM_DIRECTIVE_PUSH_RATE:
        if (!mdm_str_ieq(mdm_str_from(argv[0]), "off")) {
            rc = mdm_config_number(argv[0], 1, 100000, &n, err);
        }
        c->push_rate = (uint32_t)n;
        return rc;
    default:
        return mdm_config_flag(argv[0], &c->push_topic_change, err);
    }
}
