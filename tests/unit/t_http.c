/*
 * t_http.c - the server object without any web server: statuses, headers and
 * bodies of the device roles and of the API, credentials, path tricks, a
 * store that is away, and stopping while requests wait.
 */
#include "testcms.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

#include <sqlite3.h>

#include "mdm_edge.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define TOPIC "com.apple.mgmt.External.1"
#define CHECKIN "application/x-apple-aspen-mdm-checkin"
#define COMMAND "application/x-apple-aspen-mdm"
#define TOKEN "0123456789abcdef0123"

typedef struct world {
    char dir[32];
    mdm_config_t *main;
    mdm_config_t *server_node;
    mdm_config_t *location;
    mdm_host_t host;
    mdm_server_t *server;
    testcert_t ca;
    testcert_t device;
    testcert_t stranger;
    mdm_str_t cert; /* of the device */
    mdm_str_t strange;
    mdm_response_t res;
    unsigned lines; /* about headers of strangers */
    mdm_err_t err;
} world_t;

static bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    (void)level;
    return true;
}

static void log_write(void *ctx, mdm_level_t level, const char *file,
                      int line, const char *msg)
{
    world_t *w = ctx;

    (void)level;
    if (strncmp(msg, "MDM0210: 192.0.2.7 sent the header Client-Cert", 46) ==
        0) {
        w->lines++; /* only ever by the test's own requests */
    }
    assert_non_null(file);
    assert_true(line > 0 && msg[0] != '\0' && strchr(msg, '\n') == NULL);
}

static void set(world_t *w, mdm_config_t *c, mdm_directive_id_t id,
                const char *arg)
{
    const char *argv[] = {arg};

    if (mdm_config_set(c, id, 1, argv, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
}

/* The URL that the next requests go to. */
static void role(world_t *w, const char *name, const char *path)
{
    mdm_config_free(&w->location);
    w->location = mdm_config_new(MDM_SCOPE_LOCATION, path, w->dir);
    assert_non_null(w->location);
    set(w, w->location, MDM_DIRECTIVE_ENDPOINT, name);
    set(w, w->location, MDM_DIRECTIVE_PLIST_LIMITS, "size=8k");
    set(w, w->location, MDM_DIRECTIVE_API_TOKEN_FILE, "tokens");
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_http.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->ca = testcert_ca("device ca");
    w->device = testcert_device("device", &w->ca);
    w->stranger = testcert_device("stranger", NULL);
    w->cert.s = (char *)testcert_der(&w->device, &w->cert.n);
    w->strange.s = (char *)testcert_der(&w->stranger, &w->strange.n);
    testcert_write(w->dir, "ca.pem", testcert_pem(&w->ca), NULL);
    testcert_write(w->dir, "tokens", NULL, "ann:" TOKEN "\n");
    w->main = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    w->server_node = mdm_config_new(MDM_SCOPE_SERVER, NULL, w->dir);
    set(w, w->main, MDM_DIRECTIVE_STATE_DIR, "state");
    set(w, w->main, MDM_DIRECTIVE_PUSH, "off");
    set(w, w->main, MDM_DIRECTIVE_STORE_TIMEOUT, "10s");
    set(w, w->server_node, MDM_DIRECTIVE_DEVICE_CA_CERTIFICATE, "ca.pem");
    role(w, "mdm", "/mdm");
    assert_int_equal(mkdir(w->main->state_dir, 0700), 0);
    w->host = (mdm_host_t){.log = {w, log_on, log_write}, .name = "test/1"};
    assert_int_equal(mdm_server_new(w->main, &w->host, &w->server, &w->err),
                     MDM_OK);
    *state = w;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    world_t *w = *state;

    mdm_response_clear(&w->res);
    mdm_server_free(&w->server);
    mdm_config_free(&w->main);
    mdm_config_free(&w->server_node);
    mdm_config_free(&w->location);
    testcert_free(&w->ca);
    testcert_free(&w->device);
    testcert_free(&w->stranger);
    OPENSSL_free((void *)(uintptr_t)w->cert.s);
    OPENSSL_free((void *)(uintptr_t)w->strange.s);
    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static void start(world_t *w)
{
    assert_int_equal(mdm_server_start(w->server, &w->err), MDM_OK);
}

/* ---- requests ------------------------------------------------------------ */

static mdm_request_t request(world_t *w, const char *method,
                             const char *target, const char *type,
                             const char *body)
{
    mdm_request_t r = {.log = &w->host.log,
                       .server = w->server_node,
                       .location = w->location,
                       .body_fd = -1};

    r.method = mdm_str_from(method);
    r.target = mdm_str_from(target);
    r.host = MDM_STR("mdm.example.com");
    r.content_type = mdm_str_from(type);
    r.body = mdm_str_from(body);
    r.client_cert = w->cert;
    return r;
}

static const char *header(const world_t *w, const char *name)
{
    size_t i;

    for (i = 0; i < w->res.nheaders; i++) {
        if (strcmp(w->res.headers[i].name, name) == 0) {
            return w->res.headers[i].value;
        }
    }
    return "";
}

static int handle(world_t *w, const mdm_request_t *r)
{
    mdm_response_clear(&w->res);
    mdm_server_handle(w->server, r, &w->res);
    /* What holds for every answer. */
    assert_int_equal(w->res.status == 503, header(w, "Retry-After")[0] != 0);
    assert_int_equal(w->res.status == 405, header(w, "Allow")[0] != 0);
    assert_true(w->res.body.n == 0 || w->res.content_type != NULL);
    if (w->location->role != MDM_ROLE_API) {
        assert_int_not_equal(w->res.status, 401); /* it would unenrol */
    }
    return w->res.status;
}

static int device(world_t *w, const char *type, const char *body)
{
    mdm_request_t r = request(w, "PUT", "/mdm", type, body);

    return handle(w, &r);
}

static int api(world_t *w, const char *method, const char *target,
               const char *body)
{
    mdm_request_t r = request(w, method, target, NULL, body);

    r.authorization = MDM_STR("Bearer " TOKEN);
    r.client_cert = MDM_STR_NONE;
    return handle(w, &r);
}

static bool body_has(const world_t *w, const char *text)
{
    return w->res.body.n > 0 &&
           memmem(w->res.body.s, w->res.body.n, text, strlen(text)) != NULL;
}

#define PLIST(inner)                                                          \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>" \
    inner "</dict></plist>"
#define S(key, value) "<key>" key "</key><string>" value "</string>"
#define AUTHENTICATE                                                          \
    PLIST(S("MessageType", "Authenticate") S("UDID", "D") S("Topic", TOPIC))
#define TOKEN_UPDATE                                                          \
    PLIST(S("MessageType", "TokenUpdate") S("UDID", "D") S("Topic", TOPIC)    \
          S("PushMagic", "magic") "<key>Token</key><data>dG9rZW4=</data>")
#define CHECK_OUT                                                             \
    PLIST(S("MessageType", "CheckOut") S("UDID", "D") S("Topic", TOPIC))
#define IDLE PLIST(S("UDID", "D") S("Status", "Idle"))
#define ACKNOWLEDGED                                                          \
    PLIST(S("UDID", "D") S("Status", "Acknowledged") S("CommandUUID", "c-1"))
#define INFO                                                                  \
    PLIST(S("CommandUUID", "c-1")                                             \
          "<key>Command</key><dict>" S("RequestType", "DeviceInformation")    \
          "</dict>")

static void enroll(world_t *w)
{
    role(w, "mdm", "/mdm");
    assert_int_equal(device(w, CHECKIN, AUTHENTICATE), 200);
    assert_int_equal(w->res.body.n, 0);
    assert_int_equal(device(w, CHECKIN, TOKEN_UPDATE), 200);
}

/* ---- devices ------------------------------------------------------------- */

static void test_device(void **state)
{
    world_t *w = *state;

    assert_int_equal(device(w, COMMAND, IDLE), 503); /* not started */
    start(w);
    assert_int_equal(device(w, COMMAND, IDLE), 403);
    enroll(w);
    assert_int_equal(device(w, COMMAND, IDLE), 200);
    assert_int_equal(w->res.body.n, 0);
    assert_int_equal(device(w, CHECKIN "; charset=UTF-8", TOKEN_UPDATE), 200);
    assert_int_equal(device(w, CHECKIN,
                            PLIST(S("MessageType", "UserAuthenticate")
                                  S("UDID", "D") S("UserID", "U"))), 410);
    assert_int_equal(device(w, CHECKIN,
                            PLIST(S("MessageType", "GetBootstrapToken")
                                  S("UDID", "D"))), 200);
    assert_int_equal(w->res.body.n, 0);
    assert_int_equal(device(w, CHECKIN, "no plist"), 400);
    assert_int_equal(device(w, CHECKIN, ""), 400);
    assert_int_equal(device(w, CHECKIN, IDLE), 400);
    assert_int_equal(device(w, COMMAND, AUTHENTICATE), 400);
    assert_int_equal(device(w, NULL, IDLE), 400);
    assert_int_equal(device(w, "text/xml", IDLE), 415);
    assert_int_equal(device(w, CHECKIN, CHECK_OUT), 200);
    assert_int_equal(device(w, COMMAND, IDLE), 403);
    assert_int_equal(device(w, CHECKIN, TOKEN_UPDATE), 403);
    enroll(w);
}

static void test_device_roles(void **state)
{
    static const char *const methods[] = {"GET", "POST", "DELETE", "put", "",
                                          "OPTIONS", "HEAD"};
    world_t *w = *state;
    mdm_request_t r;
    size_t i;

    start(w);
    enroll(w);
    role(w, "checkin", "/c");
    assert_int_equal(device(w, CHECKIN, TOKEN_UPDATE), 200);
    assert_int_equal(device(w, COMMAND, IDLE), 415);
    role(w, "server", "/s");
    assert_int_equal(device(w, CHECKIN, TOKEN_UPDATE), 415);
    assert_int_equal(device(w, COMMAND, IDLE), 200);
    for (i = 0; i < MDM_ARRAY_LEN(methods); i++) {
        r = request(w, methods[i], "/s", COMMAND, IDLE);
        assert_int_equal(handle(w, &r), 405);
        assert_string_equal(header(w, "Allow"), "PUT");
    }
    r = request(w, "PUT", "/s", COMMAND, IDLE);
    r.content_encoding = MDM_STR("gzip");
    assert_int_equal(handle(w, &r), 415);
    r.content_encoding = MDM_STR("identity");
    assert_int_equal(handle(w, &r), 200);
}

static void test_device_identity(void **state)
{
    world_t *w = *state;
    mdm_request_t r;
    testcert_t old = testcert_make((testcert_want_t){
        .name = "old", .issuer = &w->ca, .from_day = -10, .to_day = -1});
    mdm_str_t der;

    start(w);
    enroll(w);
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    r.client_cert = MDM_STR_NONE;
    assert_int_equal(handle(w, &r), 400);
    r.client_cert = MDM_STR("garbage");
    assert_int_equal(handle(w, &r), 400);
    r.client_cert = w->strange;
    assert_int_equal(handle(w, &r), 403);
    der.s = (char *)testcert_der(&old, &der.n);
    r.client_cert = der;
    assert_int_equal(handle(w, &r), 403);
    OPENSSL_free((void *)(uintptr_t)der.s);
    testcert_free(&old);
    r.client_cert = w->cert;
    assert_int_equal(handle(w, &r), 200);
    /* Trailing bytes make another certificate of it, or none. */
    der = (mdm_str_t){calloc(1, w->cert.n + 1), w->cert.n + 1};
    memcpy((void *)(uintptr_t)der.s, w->cert.s, w->cert.n);
    r.client_cert = der;
    assert_int_not_equal(handle(w, &r), 200);
    free((void *)(uintptr_t)der.s);
}

static void test_host_and_expect(void **state)
{
    static const struct {
        const char *expect;
        int status;
    } words[] = {
        {"", 200},        {"  ", 200},       {"100-continue", 200},
        {" 100-CONTINUE ", 200},             {"weird", 417},
        {"100-continue, x", 417},            {"\"100-continue\"", 417},
    };
    world_t *w = *state;
    mdm_request_t r;
    size_t i;

    start(w);
    enroll(w);
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    r.host = MDM_STR_NONE; /* HTTP/1.0 */
    assert_int_equal(handle(w, &r), 400);
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    for (i = 0; i < MDM_ARRAY_LEN(words); i++) {
        r.expect = mdm_str_from(words[i].expect);
        assert_int_equal(handle(w, &r), words[i].status);
    }
    role(w, "api", "/api");
    r = request(w, "GET", "/api/version", NULL, NULL);
    r.host = MDM_STR_NONE;
    assert_int_equal(handle(w, &r), 200); /* a balancer asks like this */
    r.expect = MDM_STR("weird");
    assert_int_equal(handle(w, &r), 417);
}

static void test_bodies(void **state)
{
    world_t *w = *state;
    mdm_request_t r;
    char *big = malloc(8194);
    char path[64];
    int fd;

    start(w);
    enroll(w);
    memset(big, ' ', 8194);
    memcpy(big, IDLE, strlen(IDLE));
    r = request(w, "PUT", "/mdm", COMMAND, NULL);
    r.body = (mdm_str_t){big, 8192};
    assert_int_equal(handle(w, &r), 200);
    r.body.n = 8193;
    assert_int_equal(handle(w, &r), 413);
    /* The same from a file. */
    (void)snprintf(path, sizeof(path), "%s/body", w->dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, big, 8192), 8192);
    r.body = MDM_STR_NONE;
    r.body_fd = fd;
    r.body_size = 8192;
    assert_int_equal(handle(w, &r), 200); /* whatever the file's offset */
    r.body_size = strlen(IDLE);
    assert_int_equal(handle(w, &r), 200);
    r.body_size = strlen(IDLE) - 1;
    assert_int_equal(handle(w, &r), 400);
    r.body_size = 8193;
    assert_int_equal(handle(w, &r), 413);
    assert_int_equal(ftruncate(fd, 100), 0);
    r.body_size = 8192;
    assert_int_equal(handle(w, &r), 503); /* cut short: our own trouble */
    (void)close(fd);
    free(big);
}

/* A signature over the body, wherever that lies; then a proxy's header. */
static void test_proofs(void **state)
{
    world_t *w = *state;
    mdm_str_t value = testcms_header(testcms_sign(
        &w->device, mdm_str_from(IDLE), "SHA256"));
    mdm_request_t r;
    const char *argv[] = {"header=Client-Cert"};
    const char *proxy = "127.0.0.1";
    char path[64];
    char *text;
    int fd;

    start(w);
    enroll(w);
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    r.client_cert = MDM_STR_NONE;
    r.signature = value;
    assert_int_equal(handle(w, &r), 200);
    r.body = mdm_str_from(ACKNOWLEDGED);
    assert_int_equal(handle(w, &r), 400);
    assert_true(body_has(w, "does not fit the body"));
    (void)snprintf(path, sizeof(path), "%s/signed", w->dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, IDLE " ", strlen(IDLE) + 1), strlen(IDLE) + 1);
    r.body_fd = fd;
    r.body_size = strlen(IDLE);
    assert_int_equal(handle(w, &r), 200);
    r.body_size++;
    assert_int_equal(handle(w, &r), 400);
    (void)close(fd);
    testcms_free(value);
    value = testcms_header(
        testcms_sign(&w->stranger, mdm_str_from(IDLE), "SHA256"));
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    r.client_cert = MDM_STR_NONE;
    r.signature = value;
    assert_int_equal(handle(w, &r), 403);
    testcms_free(value);
    text = malloc(MDM_BASE64_SIZE(w->cert.n) + 2);
    assert_non_null(text);
    text[0] = ':';
    mdm_base64_encode(w->cert.s, w->cert.n, text + 1);
    (void)strcat(text, ":");
    assert_int_equal(mdm_config_set(w->location, MDM_DIRECTIVE_DEVICE_IDENTITY,
                                    1, argv, &w->err), MDM_OK);
    assert_int_equal(mdm_config_set(w->location, MDM_DIRECTIVE_TRUSTED_PROXY,
                                    1, &proxy, &w->err), MDM_OK);
    r = request(w, "PUT", "/mdm", COMMAND, IDLE);
    r.client_cert = MDM_STR_NONE;
    r.identity_header = mdm_str_from(text);
    r.neighbor = MDM_STR("127.0.0.1");
    assert_int_equal(handle(w, &r), 200);
    r.neighbor = MDM_STR("192.0.2.7");
    w->lines = 0;
    assert_int_equal(handle(w, &r), 400);
    assert_int_equal(handle(w, &r), 400);
    assert_int_equal(w->lines, 1); /* once a minute */
    free(text);
}

/* ---- the API ------------------------------------------------------------- */

static void test_api_credentials(void **state)
{
    /* base64 of "x:" and the token, of ":" and the token, of "x:wrong" */
    static const struct {
        const char *header;
        int status;
    } cases[] = {
        {"Bearer " TOKEN, 200},
        {"bearer   " TOKEN " ", 200},
        {"Basic eDowMTIzNDU2Nzg5YWJjZGVmMDEyMw==", 200},
        {"basic OjAxMjM0NTY3ODlhYmNkZWYwMTIz", 200},
        {"Basic eDp3cm9uZw==", 401},
        {"Basic !!!!", 401},
        {"Basic", 401},
        {"Bearer", 401},
        {"Bearer ", 401},
        {"Bearer " TOKEN "x", 401},
        {"Bearer 0123456789ABCDEF0123", 401},
        {"Digest " TOKEN, 401},
        {TOKEN, 401},
        {"", 401},
        {NULL, 401},
    };
    world_t *w = *state;
    mdm_request_t r;
    size_t i;

    start(w);
    role(w, "api", "/api");
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        r = request(w, "GET", "/api/v1/enrollments", NULL, NULL);
        r.authorization = mdm_str_from(cases[i].header);
        if (handle(w, &r) != cases[i].status) {
            fail_msg("\"%s\": %d", cases[i].header, w->res.status);
        }
        if (cases[i].status == 401) {
            assert_string_equal(header(w, "WWW-Authenticate"),
                                "Basic realm=\"mdm\"");
            assert_true(body_has(w, "\"error\""));
        }
    }
    /* A stranger does not learn which calls there are. */
    r.target = MDM_STR("/api/v1/nothing");
    assert_int_equal(handle(w, &r), 401);
    r.target = MDM_STR("/api/version");
    assert_int_equal(handle(w, &r), 200);
    assert_true(body_has(w, mdm_version()));
    r.method = MDM_STR("PUT");
    assert_int_equal(handle(w, &r), 405);
    /* No token file: nobody gets in. */
    mdm_config_free(&w->location);
    w->location = mdm_config_new(MDM_SCOPE_LOCATION, "/api", w->dir);
    set(w, w->location, MDM_DIRECTIVE_ENDPOINT, "api");
    assert_int_equal(api(w, "GET", "/api/v1/enrollments", NULL), 403);
}

static void test_api_paths(void **state)
{
    static const struct {
        const char *method;
        const char *target;
        int status;
    } cases[] = {
        {"GET", "/api/v1/enrollments", 200},
        {"GET", "/api/v1/enrollments?limit=1", 200},
        {"GET", "/api/v1/enrollments?limit=0", 400},
        {"GET", "/api/v1/enrollments?limit=1001", 400},
        {"GET", "/api/v1/enrollments?cursor=x", 400},
        {"GET", "/api/v1/enrollments?enabled=maybe", 400},
        {"GET", "/api/v1/enrollments?type=x", 400},
        {"GET", "/api/v1/enrollments?q=%4", 400},
        {"GET", "/api/v1/enrollments?q=%00", 400},
        {"POST", "/api/v1/enrollments", 405},
        {"DELETE", "/api/v1/enrollments/D", 405},
        {"GET", "/api/v1/enqueue/D", 405},
        {"GET", "/api/v1/enrollments/", 404},
        {"GET", "/api/v1/enrollments/none", 404},
        {"GET", "/api/v1/enrollments/%", 400},
        {"GET", "/api/v1/enrollments/%2e%2e", 404},
        {"GET", "/api//v1/enrollments", 404},
        {"GET", "/api/v1/enrollments/../enrollments", 404},
        {"GET", "/api/V1/enrollments", 404},
        {"GET", "/api/v1%2fenrollments", 404},
        {"GET", "/apixv1/enrollments", 404},
        {"GET", "/ap", 404},
        {"GET", "/api", 404},
        {"GET", "/api/", 404},
        {"GET", "", 404},
        {"GET", "/api/a/b/c/d/e/f/g/h", 404},
        {"GET", "/api/version/x", 404},
        {"GET", "/api/v1/commands/none", 404},
        {"GET", "/api/v1/commands/none/results/D", 404},
        {"GET", "/api/v1/pushcert", 400},
        {"GET", "/api/v1/pushcert?topic=none", 404},
    };
    world_t *w = *state;
    size_t i;

    start(w);
    role(w, "api", "/api");
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        if (api(w, cases[i].method, cases[i].target, NULL) !=
            cases[i].status) {
            fail_msg("%s %s: %d", cases[i].method, cases[i].target,
                     w->res.status);
        }
    }
    role(w, "api", "/api/"); /* the same with a slash in the configuration */
    assert_int_equal(api(w, "GET", "/api/v1/enrollments", NULL), 200);
    role(w, "api", "/");
    assert_int_equal(api(w, "GET", "/v1/enrollments", NULL), 200);
}

static void test_api_commands(void **state)
{
    world_t *w = *state;
    mdm_request_t r;

    start(w);
    enroll(w);
    role(w, "api", "/api");
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/D", "no plist"), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/,", INFO), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/none", INFO), 404);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/D?priority=10", INFO),
                     400);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/D?expires=soon", INFO),
                     400);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/D?nopush=x", INFO), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/enqueue/D,none,D,%44", INFO),
                     207);
    assert_true(body_has(w, "\"command_error\": \"no such enrolment\""));
    assert_true(body_has(w, "\"push_result\""));
    assert_true(body_has(w, "\"command_uuid\": \"c-1\""));
    assert_int_equal(api(w, "POST", "/api/v1/enqueue/D", INFO), 409);
    assert_int_equal(api(w, "GET", "/api/v1/commands/c-1", NULL), 200);
    assert_true(body_has(w, "\"DeviceInformation\""));
    assert_true(body_has(w, "\"sent_count\": 0"));
    assert_int_equal(api(w, "GET", "/api/v1/commands/c-1/results/D", NULL),
                     404);
    assert_int_equal(api(w, "GET", "/api/v1/push/D", NULL), 200);
    assert_true(body_has(w, "\"push_result\""));
    assert_int_equal(api(w, "PUT", "/api/v1/push/none", NULL), 404);
    assert_int_equal(api(w, "PUT", "/api/v1/push/D,none", NULL), 207);

    role(w, "mdm", "/mdm");
    assert_int_equal(device(w, COMMAND, IDLE), 200);
    assert_int_equal(w->res.body.n, strlen(INFO)); /* byte for byte */
    assert_memory_equal(w->res.body.s, INFO, strlen(INFO));
    assert_int_equal(device(w, COMMAND, ACKNOWLEDGED), 200);
    assert_int_equal(w->res.body.n, 0);

    role(w, "api", "/api");
    assert_int_equal(api(w, "GET", "/api/v1/commands/c-1/results/D", NULL),
                     200);
    assert_int_equal(w->res.body.n, strlen(ACKNOWLEDGED));
    r = request(w, "GET", "/api/v1/commands/c-1/results/%44", NULL, NULL);
    r.authorization = MDM_STR("Bearer " TOKEN);
    r.accept = MDM_STR("application/json");
    assert_int_equal(handle(w, &r), 200);
    assert_string_equal(w->res.content_type, "application/json");
    assert_true(body_has(w, "Acknowledged"));
    assert_int_equal(api(w, "GET", "/api/v1/enrollments/D", NULL), 200);
    assert_true(body_has(w, "\"enabled\": true"));
    assert_false(body_has(w, "magic")); /* no secrets */
    assert_false(body_has(w, "dG9rZW4"));
}

static void test_api_pushcert(void **state)
{
    world_t *w = *state;
    testcert_t push = testcert_push(TOPIC);
    testcert_t other = testcert_push("com.apple.mgmt.External.2");
    char *both = testcert_both(&push);
    char *wrong = testcert_both(&other);
    char *cert = testcert_pem(&push);
    char *sealed = testcert_key(&push, "word");
    char *text = calloc(1, strlen(cert) + strlen(sealed) + 1);
    mdm_request_t r;

    assert_non_null(text);
    (void)snprintf(text, strlen(cert) + strlen(sealed) + 1, "%s%s", cert,
                   sealed);
    start(w);
    enroll(w);
    role(w, "api", "/api");
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert", "nonsense"), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert", cert), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert", text), 400);
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert", wrong), 409);
    assert_true(body_has(w, TOPIC));
    r = request(w, "PUT", "/api/v1/pushcert", NULL, text);
    r.authorization = MDM_STR("Bearer " TOKEN);
    r.key_passphrase = MDM_STR("word");
    assert_int_equal(handle(w, &r), 200);
    assert_true(body_has(w, "\"topic\": \"" TOPIC "\""));
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert", both), 200);
    assert_int_equal(api(w, "GET", "/api/v1/pushcert?topic=" TOPIC, NULL),
                     200);
    assert_false(body_has(w, "PRIVATE"));
    assert_int_equal(api(w, "PUT", "/api/v1/pushcert?force=1", wrong), 200);
    free(both);
    free(wrong);
    free(cert);
    free(sealed);
    free(text);
    testcert_free(&push);
    testcert_free(&other);
}

/* ---- trouble of our own -------------------------------------------------- */

static void test_store_away(void **state)
{
    world_t *w = *state;
    int64_t until;

    assert_int_equal(rmdir(w->main->state_dir), 0);
    start(w); /* no error: requests are answered 503 */
    assert_int_equal(device(w, COMMAND, IDLE), 503);
    assert_int_equal(device(w, CHECKIN, AUTHENTICATE), 503);
    assert_false(body_has(w, w->dir)); /* the cause is for the log */
    role(w, "api", "/api");
    assert_int_equal(api(w, "GET", "/api/v1/enrollments", NULL), 503);
    assert_int_equal(api(w, "GET", "/api/version", NULL), 200);
    assert_int_equal(mkdir(w->main->state_dir, 0700), 0);
    until = mdm_mono_us(NULL) + 20 * MDM_SEC;
    while (api(w, "GET", "/api/v1/enrollments", NULL) != 200 &&
           mdm_mono_us(NULL) < until) {
        (void)usleep(20000);
    }
    assert_int_equal(w->res.status, 200);
    enroll(w);
}

static void test_refuse(void **state)
{
    static const int statuses[] = {400, 413, 503};
    world_t *w = *state;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(statuses); i++) {
        mdm_response_refuse(&w->res, statuses[i]);
        assert_int_equal(w->res.status, statuses[i]);
        assert_int_equal(header(w, "Retry-After")[0] != 0,
                         statuses[i] == 503);
        mdm_response_clear(&w->res);
    }
}

typedef struct waiting {
    world_t *w;
    int status;
} waiting_t;

static void *send_one(void *arg)
{
    waiting_t *waiting = arg;
    mdm_request_t r =
        request(waiting->w, "PUT", "/mdm", CHECKIN, AUTHENTICATE);
    mdm_response_t res;

    mdm_server_handle(waiting->w->server, &r, &res);
    waiting->status = res.status;
    mdm_response_clear(&res);
    return NULL;
}

static unsigned running(world_t *w)
{
    unsigned n;

    (void)pthread_mutex_lock(&w->server->mutex);
    n = w->server->running;
    (void)pthread_mutex_unlock(&w->server->mutex);
    return n;
}

static void test_stop(void **state)
{
    world_t *w = *state;
    waiting_t waiting = {w, 0};
    pthread_t thread;
    sqlite3 *db;
    char path[128];
    int64_t begun;

    start(w);
    enroll(w);
    (void)snprintf(path, sizeof(path), "%s/mdm.db", w->main->state_dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(pthread_create(&thread, NULL, send_one, &waiting), 0);
    while (running(w) == 0) {
        (void)usleep(1000);
    }
    /* Too little time: the request is left alone, and so is the store. */
    begun = mdm_mono_us(NULL);
    mdm_server_stop(w->server, MDM_SEC / 10);
    assert_true(mdm_mono_us(NULL) - begun < MDM_SEC);
    assert_int_equal(running(w), 1);
    assert_int_equal(device(w, COMMAND, IDLE), 503); /* no new ones */
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL),
                     SQLITE_OK);
    (void)sqlite3_close(db);
    mdm_server_stop(w->server, 10 * MDM_SEC); /* waits for the request */
    assert_int_equal(running(w), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(waiting.status, 200);
    assert_int_equal(device(w, COMMAND, IDLE), 503);
    mdm_server_stop(w->server, MDM_SEC); /* again: nothing happens */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_device),          TEST(test_device_roles),
        TEST(test_device_identity), TEST(test_bodies),
        TEST(test_proofs),
        TEST(test_api_credentials), TEST(test_api_paths),
        TEST(test_api_commands),    TEST(test_api_pushcert),
        TEST(test_store_away),      TEST(test_refuse),
        TEST(test_stop),            TEST(test_host_and_expect),
    };

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
