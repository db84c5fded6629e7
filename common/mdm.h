/*
 * mdm.h - the whole interface between the core and a web server's front end.
 * The only header of common/ that mod_mdm/ and ngx_mdm/ may include.
 *
 * Life: the parent process parses configuration into mdm_config_t nodes and
 * makes an mdm_server_t; a worker process starts it after the fork, hands it
 * requests from threads that may block, and stops it.  The parent opens no
 * database, starts no thread and makes nothing but the state directory.
 */
#ifndef MDM_H
#define MDM_H

#include <sys/types.h>

#include "mdm_base.h"
#include "mdm_err.h"
#include "mdm_log.h"

/* ---- the host ---------------------------------------------------------- */

/* What the core needs from the web server's process.  Plain callbacks that
 * may be called from any thread.  Must outlive the server object. */
typedef struct mdm_host {
    mdm_log_t log; /* lines that belong to no request */
    void *ctx;
    /* True once this process should take on no new background work: asked by
     * the dispatcher thread about once a second.  NULL: never. */
    bool (*stopping)(void *ctx);
    /* "Apache/2.4.71" or "nginx/1.22.1", for logs and the lease's name. */
    const char *name;
} mdm_host_t;

/* ---- configuration ----------------------------------------------------- */

typedef struct mdm_config mdm_config_t;

/* Where a directive may stand.  Each node takes the directives of its own
 * scope; the front end puts a directive into the node of that scope. */
typedef enum mdm_scope {
    MDM_SCOPE_MAIN = 1,    /* Apache: server config; nginx: http */
    MDM_SCOPE_SERVER = 2,  /* + virtual host; + server */
    MDM_SCOPE_LOCATION = 4 /* + directory; + location */
} mdm_scope_t;

typedef enum mdm_directive_id {
#define MDM_DIRECTIVE(id, apache, nginx, scope, only, min, max, syntax,       \
                      preset, help)                                           \
    MDM_DIRECTIVE_##id,
#include "mdm_directives.def"
#undef MDM_DIRECTIVE
    MDM_DIRECTIVE_COUNT
} mdm_directive_id_t;

/* One row of mdm_directives.def. */
typedef struct mdm_directive {
    mdm_directive_id_t id;
    const char *apache; /* "MDMEndpoint" */
    const char *nginx;  /* "mdm_endpoint" */
    mdm_scope_t scope;
    bool only; /* stands in its own scope alone, is not inherited */
    int min_args;
    int max_args; /* -1: any number */
    const char *syntax;
    const char *preset; /* default as text, NULL: none */
    const char *help;   /* one sentence without full stop */
} mdm_directive_t;

/* All rows in the order of their ids; *n_r is MDM_DIRECTIVE_COUNT. */
const mdm_directive_t *mdm_directives(size_t *n_r);

/* A new node with every default set; NULL when memory is out.  `path` is the
 * location's URL prefix as configured; NULL for MAIN and SERVER nodes and
 * where a location has no fixed prefix (regular expressions).  `root` is the
 * directory that relative file names start from.  Both are copied. */
mdm_config_t *mdm_config_new(mdm_scope_t scope, const char *path,
                             const char *root) MDM_USE_RESULT;
/* Frees; secrets are wiped.  Sets *config to NULL.  Not for merged nodes. */
void mdm_config_free(mdm_config_t **config);

/* Gives a location its path where the host knows it later than the node's
 * directives.  Copies; false when memory is out. */
bool mdm_config_set_path(mdm_config_t *config,
                         const char *path) MDM_USE_RESULT;

/* Takes one directive's arguments (without its name).  Reads the files it
 * names and touches nothing else.  MDM_ECONFIG: text says what is wrong and
 * what to do, without the directive's name and place, which the host adds.
 * A directive given twice in one node is an error unless it is repeatable. */
mdm_rc mdm_config_set(mdm_config_t *config, mdm_directive_id_t id, int argc,
                      const char *const *argv, mdm_err_t *err) MDM_USE_RESULT;

/* Writes into `merged` (mdm_config_size() bytes, aligned for any type, owned
 * by the caller) the node `child` completed by what only `parent` sets.  The
 * merged node borrows from both and needs no clean-up.  No allocation, so it
 * may run per request.  `merged` may be `child` itself. */
size_t mdm_config_size(void);
void mdm_config_merge(mdm_config_t *merged, const mdm_config_t *parent,
                      const mdm_config_t *child);

/* Does this (merged) location answer MDM requests at all? */
bool mdm_config_is_endpoint(const mdm_config_t *location);

/* Checks across directives; call in Apache's check_config hook and nginx's
 * init_main_conf / after the merges.  Warnings go to `log`.
 * MDM_ECONFIG: text names the directive and the remedy. */
mdm_rc mdm_config_check(const mdm_config_t *main, const mdm_log_t *log,
                        mdm_err_t *err) MDM_USE_RESULT;
/* The same for one endpoint with its merged server and location nodes. */
mdm_rc mdm_config_check_endpoint(const mdm_config_t *main,
                                 const mdm_config_t *server,
                                 const mdm_config_t *location,
                                 const mdm_log_t *log, mdm_err_t *err)
    MDM_USE_RESULT;

/* When does the host ask a client for its certificate? */
typedef enum mdm_host_asks {
    MDM_HOST_ASKS_NEVER,
    MDM_HOST_ASKS_FIRST, /* in the TLS handshake, the same for every URL */
    MDM_HOST_ASKS_LATER  /* again when the URL is known */
} mdm_host_asks_t;

/* What the host lets through to one location, and its own words for it. */
typedef struct mdm_host_limits {
    uint64_t body_max;   /* bytes of a body; 0: any number */
    uint64_t header_max; /* bytes of one header line */
    bool tls;
    mdm_host_asks_t asks;
    const char *body_name;   /* directive: "client_max_body_size" */
    const char *header_name; /* directive: "large_client_header_buffers" */
    const char *tls_line;    /* turns TLS on: "listen 443 ssl" */
    const char *asks_line;   /* "ssl_verify_client optional_no_ca" */
} mdm_host_limits_t;

/* Warns (MDM0003) of what the host would not let devices do at this (merged)
 * location; says nothing of locations that are not for devices. */
void mdm_config_check_host(const mdm_config_t *location,
                           const mdm_host_limits_t *limits,
                           const mdm_log_t *log);

/* Makes the state directory of the main node, mode 0700; one that exists is
 * left as it is.  For the parent before it forks: when it is root the
 * directory becomes that of the workers' user.  MDM_ECONFIG. */
mdm_rc mdm_config_make_state_dir(const mdm_config_t *main, uid_t user,
                                 gid_t group, mdm_err_t *err) MDM_USE_RESULT;
/* Does any endpoint exist?  Set by mdm_config_check_endpoint(); a server
 * without one is not started. */
bool mdm_config_in_use(const mdm_config_t *main);

/* May devices prove themselves by Mdm-Signature, by a TLS certificate here? */
bool mdm_config_takes_signature(const mdm_config_t *location);
bool mdm_config_takes_certificate(const mdm_config_t *location);

/* Where the host keeps the name of a logged-in user at this (merged)
 * location: a variable (Apache: of the request's environment; nginx: one of
 * nginx), or NULL: as its own authentication says.  Borrowed. */
const char *mdm_config_user_variable(const mdm_config_t *location);

/* Largest body the endpoint accepts, in bytes. */
uint64_t mdm_config_body_max(const mdm_config_t *location);

/* Text of one setting's effective value, for tests and `-S`-like dumps; in
 * dst.  False when the setting has no value. */
bool mdm_config_show(const mdm_config_t *config, mdm_directive_id_t id,
                     char *dst, size_t cap);

/* ---- server ------------------------------------------------------------ */

typedef struct mdm_server mdm_server_t;

/* Makes the server object; opens nothing, so the parent may call it.  Borrows
 * `main` and `host` until mdm_server_free().  MDM_ENOMEM. */
mdm_rc mdm_server_new(const mdm_config_t *main, const mdm_host_t *host,
                      mdm_server_t **server_r, mdm_err_t *err) MDM_USE_RESULT;
/* In the worker, after the fork: starts the background thread, which opens
 * the store and later may hold the push lease.  A store that cannot be opened
 * is not an error here: requests are answered 503 until it can.
 * MDM_ENOMEM, MDM_EINTERNAL. */
mdm_rc mdm_server_start(mdm_server_t *server, mdm_err_t *err) MDM_USE_RESULT;
/* Tells the background thread to take on nothing new and to give up the
 * lease soon; returns at once.  Requests go on.  Any thread. */
void mdm_server_stopping(mdm_server_t *server);
/* Takes no more requests, waits at most grace_us for those running and for
 * pushes in flight, ends the background thread and closes the store.  If
 * requests outlast that, everything is left as it is to the end of the
 * process.  Only in the process that started it. */
void mdm_server_stop(mdm_server_t *server, int64_t grace_us);
/* Frees; stops first if started in this process.  Sets *server to NULL. */
void mdm_server_free(mdm_server_t **server);

/* ---- requests ---------------------------------------------------------- */

/* One request, all borrowed for the duration of mdm_server_handle(). */
typedef struct mdm_request {
    const mdm_log_t *log;         /* this request's log */
    const mdm_config_t *server;   /* merged */
    const mdm_config_t *location; /* merged */
    mdm_str_t method;
    mdm_str_t target; /* raw request target: path and query, undecoded */
    mdm_str_t host;   /* whom the client means; absent: it named nobody */
    /* Headers, see mdm_request_header(); of one that was sent several times
     * all values, joined by ", ". */
    mdm_str_t authority; /* Host: with the port, where one was named */
    mdm_str_t expect;
    mdm_str_t content_type;
    mdm_str_t content_encoding;
    mdm_str_t accept;
    mdm_str_t authorization;
    mdm_str_t key_passphrase; /* X-Key-Passphrase */
    mdm_str_t client_cert;    /* DER of the TLS client certificate */
    mdm_str_t signature;
    mdm_str_t device_info;
    mdm_str_t identity_header; /* by which a proxy tells the certificate */
    mdm_str_t remote_user;    /* whom the host has authenticated for this
                               * request (mdm_config_user_variable()); absent
                               * or empty: nobody */
    mdm_str_t peer;           /* the client's address as text, for logs */
    mdm_str_t neighbor;       /* who is at the other end of the connection:
                               * differs from peer behind a proxy */
    /* The body: in memory, or (body_fd >= 0) body_size bytes of a file from
     * offset 0, read with pread. */
    mdm_str_t body;
    int body_fd;
    uint64_t body_size;
} mdm_request_t;

/* Which headers the core wants: the place in the request of the one with
 * this number, from 0, and its name, which depends on request->location;
 * NULL: there are no more. */
mdm_str_t *mdm_request_header(mdm_request_t *request, size_t number,
                              const char **name_r);

/* Path and query of a request line's target, also where it is a whole URL;
 * borrowed.  "/" when there is none, such as for "*" or NULL. */
mdm_str_t mdm_request_target(const char *uri);
/* The first certificate in PEM text as DER, decoded in place; absent when
 * there is none.  For a host that gives client certificates as PEM. */
mdm_str_t mdm_request_pem(char *text);

/* A body that comes in pieces, for a host that does not keep it itself: up to
 * 1 MB in memory, a larger one in a file without a name.  One thread. */
typedef struct mdm_body {
    const char *dir; /* of the file */
    char *data;      /* NULL once the bytes are in the file */
    size_t cap;
    int fd; /* -1: no file */
    uint64_t size;
} mdm_body_t;

/* Borrows `dir` (NULL: none, larger bodies fail). */
void mdm_body_init(mdm_body_t *body, const char *dir);
/* MDM_ENOMEM, MDM_EUNAVAIL: our own trouble, answer 503. */
mdm_rc mdm_body_add(mdm_body_t *body, const char *data, size_t n,
                    mdm_err_t *err) MDM_USE_RESULT;
/* Lets the request borrow what was kept. */
void mdm_body_lend(const mdm_body_t *body, mdm_request_t *request);
/* Wipes and frees. */
void mdm_body_clear(mdm_body_t *body);

#define MDM_RESPONSE_HEADERS 6

/* The answer.  Zero-initialise before, mdm_response_clear() after. */
typedef struct mdm_response {
    int status;
    const char *content_type; /* NULL with an empty body */
    mdm_str_t body;
    struct {
        const char *name;
        const char *value;
    } headers[MDM_RESPONSE_HEADERS];
    size_t nheaders;
    void *arena; /* owns all of the above */
} mdm_response_t;

/* Answers one request; blocks on the store.  Any number of threads at once,
 * only between start and stop.  Always leaves a complete answer: our own
 * trouble is 503 with Retry-After. */
void mdm_server_handle(mdm_server_t *server, const mdm_request_t *request,
                       mdm_response_t *response);
/* A complete answer without the server: for the front end's own limits
 * (413 body too large, 503 queue full or server not started, 400).  The same
 * texts and headers as from mdm_server_handle(). */
void mdm_response_refuse(mdm_response_t *response, int status);
void mdm_response_clear(mdm_response_t *response);

const char *mdm_version(void);

#endif
