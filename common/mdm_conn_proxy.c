/*
 * mdm_conn_proxy.c - CONNECT: asks an HTTP proxy for a way to the host and
 * reads its answer, before TLS begins.
 *
 * Nobody vouches for a proxy's bytes: the answer is bounded, only its status
 * line is looked at, and nothing may follow its header, as a TLS server waits
 * for our first word.  The request holds a secret and is wiped as soon as it
 * is sent.  Owner and thread are the connection's.
 */
#include "mdm_conn_int.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mdm_buf.h"
#include "mdm_str.h"

/* All of the answer's headers, those of interim answers included. */
#define ANSWER_MAX (16 * 1024)
/* "[" host "]:65535" and NUL. */
#define AUTHORITY_SIZE (MDM_CONN_HOST_MAX + 9)
#define REASON_SIZE 80
/* Credentials are bounded where they are configured. */
#define REQUEST_MAX (8 * 1024)

struct mdm_conn_hop {
    mdm_buf_t out; /* what is left of the request */
    int out_errno; /* why that cannot be sent */
    size_t in_n;
    size_t in_from; /* where the answer begins that is looked at */
    char in[ANSWER_MAX];
};

void mdm_conn_hop_end(mdm_conn_t *conn)
{
    if (conn->hop != NULL) {
        mdm_buf_clear(&conn->hop->out);
        free(conn->hop);
        conn->hop = NULL;
    }
}

mdm_rc mdm_conn_hop_start(mdm_conn_t *conn, mdm_err_t *err)
{
    const char *secret = conn->proxy->authorization;
    bool bare = strchr(conn->host, ':') == NULL; /* no IPv6 address */
    char authority[AUTHORITY_SIZE];
    mdm_buf_t *out;

    conn->hop = calloc(1, sizeof(*conn->hop));
    if (conn->hop == NULL) {
        return mdm_err_nomem(err);
    }
    out = &conn->hop->out;
    mdm_buf_init_secret(out, REQUEST_MAX);
    (void)snprintf(authority, sizeof(authority), bare ? "%s:%u" : "[%s]:%u",
                   conn->host, (unsigned)conn->port);
    (void)mdm_buf_puts(out, "CONNECT ");
    (void)mdm_buf_puts(out, authority);
    (void)mdm_buf_puts(out, " HTTP/1.1\r\nHost: ");
    (void)mdm_buf_puts(out, authority);
    if (secret != NULL) {
        (void)mdm_buf_puts(out, "\r\nProxy-Authorization: ");
        (void)mdm_buf_puts(out, secret);
    }
    (void)mdm_buf_puts(out, "\r\n\r\n");
    conn->state = MDM_CONN_PROXY;
    conn->wait = POLLOUT;
    return mdm_buf_rc(out) == MDM_OK
               ? MDM_OK
               : mdm_err_set(err, mdm_buf_rc(out), 0,
                             "the request to the proxy cannot be made");
}

/* Sends what is left.  A proxy that hangs up on us may have said why: that
 * is found out by reading. */
static void send_request(mdm_conn_t *conn)
{
    mdm_buf_t *out = &conn->hop->out;
    ssize_t n;

    while (out->len > 0) {
        n = send(conn->fd, out->data, out->len, MSG_NOSIGNAL);
        if (n > 0) {
            mdm_buf_consume(out, (size_t)n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            conn->hop->out_errno = errno;
            break;
        }
    }
    mdm_buf_clear(out);
}

/* ---- the answer --------------------------------------------------------- */

static mdm_rc fault(const mdm_conn_t *conn, mdm_err_t *err, const char *what)
{
    return mdm_err_set(err, MDM_EUNAVAIL, 0, "the proxy %s %s",
                       conn->proxy->host, what);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The line at *pos without its end, CR LF or LF alone; moves *pos behind it.
 * Absent when its end has not come yet. */
static mdm_str_t take_line(const mdm_conn_hop_t *hop, size_t *pos)
{
    const char *from = hop->in + *pos;
    const char *end = memchr(from, '\n', hop->in_n - *pos);
    mdm_str_t line;

    if (end == NULL) {
        return MDM_STR_NONE;
    }
    line = (mdm_str_t){from, (size_t)(end - from)};
    *pos += line.n + 1;
    if (line.n > 0 && line.s[line.n - 1] == '\r') {
        line.n--;
    }
    return line;
}

/* Can what has come so far begin a status line?  Said before its end, so
 * that a server of something else, which waits for us, is not waited for. */
static bool begins_well(const mdm_conn_hop_t *hop)
{
    static const char pattern[] = "HTTP/1.d ddd";
    size_t n = hop->in_n - hop->in_from;
    char c;
    size_t i;

    for (i = 0; i < n && i < sizeof(pattern) - 1; i++) {
        c = hop->in[hop->in_from + i];
        if (pattern[i] == 'd' ? !is_digit(c) : c != pattern[i]) {
            return false;
        }
    }
    return true;
}

/* 100 to 599, or 0; *reason_r is what stands behind it. */
static int read_status(mdm_str_t line, mdm_str_t *reason_r)
{
    const size_t at = sizeof("HTTP/1.1 ") - 1;
    uint64_t status;

    *reason_r = MDM_STR_NONE;
    if (line.n < at + 3 || (line.n > at + 3 && line.s[at + 3] != ' ') ||
        !mdm_parse_u64((mdm_str_t){line.s + at, 3}, 599, &status)) {
        return 0;
    }
    if (line.n > at + 3) {
        *reason_r = mdm_str_trim((mdm_str_t){line.s + at + 3,
                                             line.n - at - 3});
    }
    return status >= 100 ? (int)status : 0;
}

static mdm_rc refused(const mdm_conn_t *conn, int status, mdm_str_t reason,
                      mdm_err_t *err)
{
    const char *host = conn->proxy->host;
    char text[REASON_SIZE];

    (void)mdm_str_printable(reason, text, sizeof(text));
    if (status == 407) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           conn->proxy->authorization != NULL
                               ? "the proxy %s refuses the user name and "
                                 "password (407 %s)"
                               : "the proxy %s wants a user name and password "
                                 "(407 %s)",
                           host, text);
    }
    return mdm_err_set(err, MDM_EUNAVAIL, 0,
                       "the proxy %s does not connect to %s:%u (status %d%s"
                       "%s)", host, conn->host, (unsigned)conn->port, status,
                       text[0] != '\0' ? " " : "", text);
}

/* Looks at what has come.  MDM_EAGAIN: not the whole answer. */
static mdm_rc judge(const mdm_conn_t *conn, mdm_err_t *err)
{
    mdm_conn_hop_t *hop = conn->hop;
    mdm_str_t reason;
    mdm_str_t first;
    mdm_str_t line;
    size_t pos;
    int status;

    for (;;) {
        pos = hop->in_from;
        if (!begins_well(hop)) {
            return fault(conn, err, "does not answer in HTTP/1.1");
        }
        first = take_line(hop, &pos);
        for (line = first; line.n > 0;) {
            line = take_line(hop, &pos);
        }
        if (first.s == NULL || line.s == NULL) {
            return MDM_EAGAIN;
        }
        status = read_status(first, &reason);
        if (status == 0) {
            return fault(conn, err, "does not answer in HTTP/1.1");
        }
        if (status / 100 != 1 || status == 101) {
            break;
        }
        hop->in_from = pos; /* the answer proper comes behind it */
    }
    if (status / 100 != 2) {
        return refused(conn, status, reason, err);
    }
    return pos == hop->in_n
               ? MDM_OK
               : fault(conn, err, "sends more than its answer to CONNECT");
}

/* MDM_OK: there is more to judge.  MDM_EAGAIN: nothing now. */
static mdm_rc receive(mdm_conn_t *conn, mdm_err_t *err)
{
    mdm_conn_hop_t *hop = conn->hop;
    ssize_t n;

    if (hop->in_n == sizeof(hop->in)) {
        return fault(conn, err, "sends an answer with too long a header");
    }
    do {
        n = recv(conn->fd, hop->in + hop->in_n, sizeof(hop->in) - hop->in_n,
                 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        hop->in_n += (size_t)n;
        return MDM_OK;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) &&
        hop->out_errno == 0) {
        return MDM_EAGAIN;
    }
    if (n < 0) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "the connection to the proxy %s broke: %s",
                           conn->proxy->host,
                           strerror(hop->out_errno != 0 ? hop->out_errno
                                                        : errno));
    }
    return fault(conn, err,
                 hop->in_n == 0
                     ? "closed the connection instead of an answer"
                     : "closed the connection in the middle of its answer");
}

mdm_rc mdm_conn_hop_step(mdm_conn_t *conn, mdm_err_t *err)
{
    mdm_rc rc;

    send_request(conn);
    conn->wait = conn->hop->out.len > 0 ? POLLIN | POLLOUT : POLLIN;
    while ((rc = receive(conn, err)) == MDM_OK) {
        rc = judge(conn, err);
        if (rc != MDM_EAGAIN) {
            return rc;
        }
    }
    return rc;
}
