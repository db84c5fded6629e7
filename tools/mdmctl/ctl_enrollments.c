/*
 * ctl_enrollments.c - mdmctl: enrolments, push certificates, and the server
 * itself.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mdm_mem.h"

#define PAGE 500
#define PATH_SIZE 8192

/* One call without a body: prints the answer as JSON or as names and
 * values. */
static mdm_rc show(ctl_call_t *call, const ctl_request_t *request,
                   mdm_err_t *err)
{
    ctl_reply_t reply = {0};
    mdm_rc rc = ctl_ask(call->client, request, &reply, err);

    if (rc == MDM_OK && reply.json == NULL) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "the answer is not JSON; is %s "
                         "the URL of the API location?", call->settings->url);
    } else if (rc == MDM_OK && call->settings->json) {
        ctl_print_json(reply.json);
    } else if (rc == MDM_OK) {
        ctl_print_object(reply.json);
    }
    ctl_reply_clear(&reply);
    return rc;
}

static mdm_rc show_path(ctl_call_t *call, const char *method,
                        mdm_buf_t *path, mdm_err_t *err)
{
    ctl_request_t request = {.method = method, .path = path->data};
    mdm_rc rc = mdm_buf_rc(path) == MDM_OK
                    ? show(call, &request, err)
                    : mdm_err_set(err, MDM_ETOOBIG, 0, "a word is too long");

    mdm_buf_clear(path);
    return rc;
}

mdm_rc ctl_version(ctl_call_t *call, mdm_err_t *err)
{
    return show(call, &(ctl_request_t){.method = "GET", .path = "/version"},
                err);
}

mdm_rc ctl_status(ctl_call_t *call, mdm_err_t *err)
{
    return show(call, &(ctl_request_t){.method = "GET", .path = "/v1/status"},
                err);
}

/* ---- lists --------------------------------------------------------------- */

static const char *const list_headings[] = {
    "ID", "SERIAL", "NAME", "MODEL", "OS", "STATE", "LAST SEEN", "PUSH",
    NULL};

static bool add_enrollment(ctl_table_t *table, const json_t *row)
{
    static const char *const members[] = {
        "id", "serial_number", "device_name", "product_name", "os_version",
        "state", "last_seen"};
    char text[MDM_ARRAY_LEN(members) + 1][CTL_CELL_MAX];
    const char *cells[MDM_ARRAY_LEN(members) + 1];
    size_t i = 0;

    for (; i < MDM_ARRAY_LEN(members); i++) {
        cells[i] = ctl_text_of(row, members[i], text[i], sizeof(text[i]));
    }
    if (json_is_true(json_object_get(row, "blocked"))) {
        cells[5] = "blocked";
    }
    cells[i] = ctl_text_of(json_object_get(row, "push"), "state", text[i],
                           sizeof(text[i]));
    return ctl_table_row(table, cells);
}

/* The path of one page. */
static mdm_rc list_path(const ctl_call_t *call, const char *cursor,
                        uint64_t limit, mdm_buf_t *path)
{
    static const struct {
        ctl_option_t option;
        const char *name;
    } filters[] = {{CTL_SERIAL, "serial"}, {CTL_TYPE, "type"},
                   {CTL_QUERY, "q"},       {CTL_PUSH, "push"},
                   {CTL_ENABLED, "enabled"}};

    (void)mdm_buf_printf(path, "/v1/enrollments?limit=%llu",
                         (unsigned long long)limit);
    for (size_t i = 0; i < MDM_ARRAY_LEN(filters); i++) {
        (void)ctl_path_query(path, filters[i].name,
                             call->options[filters[i].option]);
    }
    return ctl_path_query(path, "cursor", cursor);
}

/* Takes over the rows of one page; *cursor gets the next one, or "". */
static mdm_rc list_page(ctl_call_t *call, uint64_t limit, char *cursor,
                        size_t cap, json_t *rows, mdm_err_t *err)
{
    mdm_buf_t path;
    ctl_reply_t reply = {0};

    mdm_buf_init(&path, PATH_SIZE);
    mdm_rc rc = list_path(call, cursor[0] ? cursor : NULL, limit, &path);
    if (rc != MDM_OK) {
        mdm_buf_clear(&path);
        return mdm_err_set(err, rc, 0, "an option is too long");
    }
    ctl_request_t request = {.method = "GET", .path = path.data};
    rc = ctl_ask(call->client, &request, &reply, err);
    if (rc == MDM_OK) {
        const json_t *next = json_object_get(reply.json, "next_cursor");
        cursor[0] = '\0';
        if (next != NULL && !json_is_null(next)) {
            (void)ctl_text_of(reply.json, "next_cursor", cursor, cap);
        }
        if (json_array_extend(rows, json_object_get(reply.json,
                                                    "enrollments")) != 0) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "the answer holds no enrolments");
        }
    }
    ctl_reply_clear(&reply);
    mdm_buf_clear(&path);
    return rc;
}

static mdm_rc list(ctl_call_t *call, mdm_err_t *err)
{
    json_t *rows = json_array();
    uint64_t limit = UINT64_MAX;
    char cursor[CTL_CELL_MAX] = "";
    mdm_rc rc = rows == NULL ? mdm_err_nomem(err) : MDM_OK;

    if (rc == MDM_OK && call->options[CTL_LIMIT] != NULL &&
        (!mdm_parse_u64(mdm_str_from(call->options[CTL_LIMIT]), INT64_MAX,
                        &limit) || limit == 0)) {
        rc = mdm_err_set(err, MDM_EINVAL, 0, "--limit takes a number from 1");
    }
    while (rc == MDM_OK) {
        uint64_t left = limit - json_array_size(rows);
        rc = list_page(call, left < PAGE ? left : PAGE, cursor,
                       sizeof(cursor), rows, err);
        if (cursor[0] == '\0' || json_array_size(rows) >= limit) {
            break;
        }
    }
    if (rc == MDM_OK && call->settings->json) {
        ctl_print_json(rows);
    } else if (rc == MDM_OK) {
        ctl_table_t *table = ctl_table_new(list_headings);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            (void)add_enrollment(table, json_array_get(rows, i));
        }
        ctl_table_end(&table);
    }
    json_decref(rows);
    return rc;
}

/* ---- one enrolment ------------------------------------------------------- */

static void enrollment_path(mdm_buf_t *path, const char *id, const char *tail)
{
    mdm_buf_init(path, PATH_SIZE);
    (void)mdm_buf_puts(path, "/v1/enrollments/");
    (void)ctl_path_add(path, id);
    (void)mdm_buf_puts(path, tail);
}

mdm_rc ctl_enrollments(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t path;

    if (call->argc == 0) {
        return list(call, err);
    }
    enrollment_path(&path, call->argv[0], "");
    return show_path(call, "GET", &path, err);
}

/* The same call for each of the words; a fault of one does not keep the
 * others from it. */
static mdm_rc each(ctl_call_t *call, const char *method, const char *tail,
                   mdm_err_t *err)
{
    mdm_rc last = MDM_OK;

    for (int i = 0; i < call->argc; i++) {
        mdm_buf_t path;
        mdm_err_t one = {0};
        enrollment_path(&path, call->argv[i], tail);
        mdm_rc rc = show_path(call, method, &path, &one);
        if (rc == MDM_OK) {
            continue;
        }
        if (last != MDM_OK) {
            (void)fputs("mdmctl: ", stderr);
            ctl_print_text(stderr, err->text);
            (void)fputc('\n', stderr);
        }
        last = mdm_err_set(err, rc, 0, "%s: %s", call->argv[i], one.text);
    }
    return last;
}

mdm_rc ctl_block(ctl_call_t *call, mdm_err_t *err)
{
    return each(call, "POST", "/block", err);
}

mdm_rc ctl_unblock(ctl_call_t *call, mdm_err_t *err)
{
    return each(call, "POST", "/unblock", err);
}

mdm_rc ctl_secret(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t path;

    enrollment_path(&path, call->argv[0], "/secrets/");
    (void)ctl_path_add(&path, call->argv[1]);
    return show_path(call, "GET", &path, err);
}

/* ---- push certificates --------------------------------------------------- */

static mdm_rc topic_call(ctl_call_t *call, const char *method,
                         const char *path, const char *topic, mdm_err_t *err)
{
    mdm_buf_t full;

    mdm_buf_init(&full, PATH_SIZE);
    (void)mdm_buf_puts(&full, path);
    (void)ctl_path_query(&full, "topic", topic);
    return show_path(call, method, &full, err);
}

/* All files in one body, with a line end between them. */
static mdm_rc join_files(ctl_call_t *call, mdm_buf_t *body, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    mdm_buf_init_secret(body, CTL_FILE_MAX);
    for (int i = 1; i < call->argc && rc == MDM_OK; i++) {
        mdm_buf_t file;
        rc = ctl_read_file(call->argv[i], CTL_FILE_MAX / 4, &file, err);
        if (rc == MDM_OK) {
            (void)mdm_buf_append(body, file.data, file.len);
            if (call->argc > 2) {
                (void)mdm_buf_puts(body, "\n");
            }
            rc = mdm_buf_rc(body) == MDM_OK ? MDM_OK : mdm_err_nomem(err);
        }
        mdm_buf_clear(&file);
    }
    return rc;
}

static mdm_rc read_phrase(const char *path, mdm_buf_t *phrase,
                          mdm_err_t *err)
{
    mdm_rc rc = ctl_read_file(path, 4096, phrase, err);

    if (rc == MDM_OK) {
        mdm_str_t rest = mdm_buf_str(phrase);
        mdm_str_t line = mdm_str_split(&rest, '\n');
        phrase->len = line.n;
        if (phrase->data != NULL) {
            phrase->data[line.n] = '\0';
        }
    }
    return rc;
}

static mdm_rc import(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t body;
    mdm_buf_t phrase;
    const char *from = call->options[CTL_PASSPHRASE_FILE];

    mdm_buf_init_secret(&phrase, 4096);
    mdm_rc rc = join_files(call, &body, err);
    if (rc == MDM_OK && from != NULL) {
        rc = read_phrase(from, &phrase, err);
    }
    if (rc == MDM_OK) {
        ctl_request_t request = {
            .method = "PUT",
            .path = call->options[CTL_FORCE] ? "/v1/pushcert?force=1"
                                             : "/v1/pushcert",
            .body = mdm_buf_str(&body),
            .passphrase = from ? phrase.data : NULL};
        rc = show(call, &request, err);
    }
    mdm_buf_clear(&body);
    mdm_buf_clear(&phrase);
    return rc;
}

mdm_rc ctl_pushcert(ctl_call_t *call, mdm_err_t *err)
{
    const char *verb = call->argv[0];

    if (strcmp(verb, "show") == 0 && call->argc == 2) {
        return topic_call(call, "GET", "/v1/pushcert", call->argv[1], err);
    }
    if (strcmp(verb, "resume") == 0 && call->argc == 2) {
        return topic_call(call, "POST", "/v1/pushcert/resume", call->argv[1],
                          err);
    }
    if (strcmp(verb, "import") == 0 && call->argc >= 2) {
        return import(call, err);
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "say pushcert show TOPIC, pushcert import FILE..., or "
                       "pushcert resume TOPIC");
}

/* ---- any call ------------------------------------------------------------ */

mdm_rc ctl_raw(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t body = {0};
    ctl_reply_t reply = {0};
    ctl_request_t request = {.method = call->argv[0], .path = call->argv[1],
                             .accept = "*/*"};
    mdm_rc rc = MDM_OK;

    if (request.path[0] != '/') {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "the path has to begin with /, as in /v1/status");
    }
    if (call->argc == 3) {
        rc = ctl_read_file(call->argv[2], CTL_FILE_MAX, &body, err);
        request.body = mdm_buf_str(&body);
    }
    if (rc == MDM_OK) {
        rc = ctl_ask(call->client, &request, &reply, err);
    }
    if (rc == MDM_OK) {
        (void)fwrite(reply.body.data ? reply.body.data : "", 1,
                     reply.body.len, stdout);
        call->status = reply.status < 400 && reply.status != 207
                           ? CTL_DONE : CTL_FAILED;
    }
    ctl_reply_clear(&reply);
    mdm_buf_clear(&body);
    return rc;
}
