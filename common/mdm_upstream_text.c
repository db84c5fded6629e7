/*
 * mdm_upstream_text.c - what is said to the outside server, as text: its base
 * URL, the path of an endpoint, values of headers.  Nothing that a device
 * sends may lead out of the configured path or begin another header.  Any
 * thread; no state.
 */
#include "mdm_upstream.h"

#include <string.h>

#include "mdm_str.h"

#define HOST_MAX 255

static bool is_alnum(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9');
}

/* RFC 3986: what means the same escaped or not. */
static bool is_unreserved(unsigned char c)
{
    return is_alnum(c) || (c != '\0' && strchr("-._~", c) != NULL);
}

/* ---- the base URL ------------------------------------------------------- */

static mdm_rc bad_url(mdm_err_t *err, const char *why)
{
    return mdm_err_set(err, MDM_ECONFIG, 0,
                       "%s; give http://host[:port][/path] or "
                       "https://host[:port][/path]",
                       why);
}

static bool is_host(mdm_str_t host)
{
    size_t i;

    for (i = 0; i < host.n; i++) {
        if (!is_alnum((unsigned char)host.s[i]) && host.s[i] != '-' &&
            host.s[i] != '.' && host.s[i] != '_') {
            return false;
        }
    }
    return host.n > 0 && host.n <= HOST_MAX;
}

/* "::1", without the brackets. */
static bool is_ipv6(mdm_str_t host)
{
    unsigned char byte;
    size_t i;

    for (i = 0; i < host.n; i++) {
        if (host.s[i] != ':' && host.s[i] != '.' &&
            !mdm_hex_decode((mdm_str_t){(char[2]){'0', host.s[i]}, 2}, &byte,
                            1)) {
            return false;
        }
    }
    return host.n > 1 && host.n <= 45 && memchr(host.s, ':', host.n) != NULL;
}

static bool is_authority(mdm_str_t rest)
{
    mdm_str_t host;
    uint64_t port;
    bool ok;

    if (rest.n > 0 && rest.s[0] == '[') {
        rest = (mdm_str_t){rest.s + 1, rest.n - 1};
        host = mdm_str_split(&rest, ']');
        ok = rest.s != NULL && is_ipv6(host);
        if (ok && rest.n > 0) {
            ok = rest.s[0] == ':';
            rest = (mdm_str_t){rest.s + 1, rest.n - 1};
        } else {
            rest = MDM_STR_NONE;
        }
    } else {
        host = mdm_str_split(&rest, ':');
        ok = is_host(host);
    }
    return ok && (rest.s == NULL ||
                  (mdm_parse_u64(rest, 65535, &port) && port > 0));
}

/* Is one of the parts between `separators` "." or ".."? */
static bool has_dots(mdm_str_t text, const char *separators)
{
    size_t from = 0;
    size_t i;

    for (i = 0; i <= text.n; i++) {
        if (i < text.n && (text.s[i] == '\0' ||
                           strchr(separators, text.s[i]) == NULL)) {
            continue;
        }
        if ((i - from == 1 || i - from == 2) && text.s[from] == '.' &&
            text.s[i - 1] == '.') {
            return true;
        }
        from = i + 1;
    }
    return false;
}

/* Behind the slash that ends the authority. */
static bool is_path(mdm_str_t path)
{
    unsigned char byte;
    size_t i;

    for (i = 0; i < path.n; i++) {
        byte = (unsigned char)path.s[i];
        if (byte == '%') {
            if (path.n - i < 3 ||
                !mdm_hex_decode((mdm_str_t){path.s + i + 1, 2}, &byte, 1)) {
                return false;
            }
            i += 2;
        } else if (!is_unreserved(byte) &&
                   (byte == '\0' || strchr("!$&'()*+,;=:@/", byte) == NULL)) {
            return false;
        }
    }
    return !has_dots(path, "/");
}

mdm_rc mdm_upstream_check_url(mdm_str_t url, mdm_err_t *err)
{
    mdm_str_t rest = url;
    mdm_str_t scheme = mdm_str_split(&rest, ':');
    mdm_str_t authority;

    if (url.n > MDM_UPSTREAM_URL_MAX) {
        return bad_url(err, "the URL is too long");
    }
    if ((!mdm_str_ieq(scheme, "http") && !mdm_str_ieq(scheme, "https")) ||
        rest.s == NULL || !mdm_str_starts(rest, "//")) {
        return bad_url(err, "not a URL of http or https");
    }
    rest = (mdm_str_t){rest.s + 2, rest.n - 2};
    authority = mdm_str_split(&rest, '/');
    if (authority.n > 0 && memchr(authority.s, '@', authority.n) != NULL) {
        return bad_url(err, "a user name or password in the URL is not used "
                            "(hmac=file proves who calls)");
    }
    if (!is_authority(authority)) {
        return bad_url(err, "the host or port is wrong");
    }
    if (rest.s != NULL && !is_path(rest)) {
        return bad_url(err, "the path has a query, a fragment, \"..\" or a "
                            "character that must be escaped");
    }
    return MDM_OK;
}

/* ---- endpoints ---------------------------------------------------------- */

static bool is_plain(unsigned char c, bool header)
{
    return header ? c > ' ' && c < 0x7f && c != '%' : is_unreserved(c);
}

/* `header`: for the value of a header, where most characters may stand and a
 * blank between others as well; else for one part of a path. */
static char *encode(mdm_str_t text, bool header, mdm_arena_t *arena)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = mdm_arena_alloc(arena, 3 * text.n + 1);
    unsigned char c;
    size_t n = 0;
    size_t i;

    for (i = 0; out != NULL && i < text.n; i++) {
        c = (unsigned char)text.s[i];
        if (is_plain(c, header) ||
            (header && c == ' ' && i > 0 && i + 1 < text.n)) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[c >> 4];
        out[n++] = digits[c & 15];
    }
    return out;
}

const char *mdm_upstream_encode(mdm_str_t value, mdm_arena_t *arena)
{
    return encode(value, false, arena);
}

const char *mdm_upstream_header(mdm_str_t value, mdm_arena_t *arena)
{
    return encode(value, true, arena);
}

static bool is_kind(mdm_str_t kind)
{
    static const char *const kinds[] = {"activation", "asset",
                                        "configuration", "management"};
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(kinds); i++) {
        if (mdm_str_is(kind, kinds[i])) {
            return true;
        }
    }
    return false;
}

mdm_rc mdm_upstream_path(mdm_str_t endpoint, mdm_arena_t *arena,
                         const char **path_r, mdm_err_t *err)
{
    static const char *const plain[] = {"tokens", "declaration-items",
                                        "status"};
    mdm_str_t id = endpoint;
    mdm_str_t head = mdm_str_split(&id, '/');
    mdm_str_t kind = mdm_str_split(&id, '/'); /* the rest is the identifier */
    char *encoded;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(plain); i++) {
        if (mdm_str_is(endpoint, plain[i])) {
            *path_r = plain[i];
            return MDM_OK;
        }
    }
    /* A server that decodes before it tidies up a path would leave ours. */
    if (!mdm_str_is(head, "declaration") || !is_kind(kind) || id.n == 0 ||
        has_dots(id, "/\\")) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "no endpoint of declarative management");
    }
    encoded = encode(id, false, arena);
    *path_r = encoded != NULL
                  ? mdm_arena_printf(arena, "declaration/%.*s/%s",
                                     MDM_STR_ARG(kind), encoded)
                  : NULL;
    return *path_r != NULL ? MDM_OK : mdm_err_nomem(err);
}
