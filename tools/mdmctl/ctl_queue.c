/*
 * ctl_queue.c - mdmctl: commands as property lists, queues, results, pushes.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mdm_mem.h"

#define PATH_SIZE 8192

/* The options of a call that queues, as a query. */
static mdm_rc queue_query(const ctl_call_t *call, mdm_buf_t *query,
                          mdm_err_t *err)
{
    static const struct {
        ctl_option_t option;
        const char *name;
    } names[] = {{CTL_NO_PUSH, "nopush"},
                 {CTL_WAIT, "wait"},
                 {CTL_PRIORITY, "priority"},
                 {CTL_NOT_BEFORE, "not_before"},
                 {CTL_EXPIRES, "expires"}};

    (void)mdm_buf_puts(query, "");
    for (size_t i = 0; i < MDM_ARRAY_LEN(names); i++) {
        (void)ctl_path_query(query, names[i].name,
                             call->options[names[i].option]);
    }
    return mdm_buf_rc(query) == MDM_OK
               ? MDM_OK
               : mdm_err_set(err, MDM_ETOOBIG, 0, "an option is too long");
}

static mdm_rc many(ctl_call_t *call, ctl_many_t *what, char **ids, size_t n,
                   mdm_err_t *err)
{
    ctl_targets_t targets;
    json_t *all = NULL;
    mdm_buf_t query;

    mdm_buf_init(&query, 4096);
    mdm_rc rc = queue_query(call, &query, err);
    if (rc == MDM_OK) {
        rc = ctl_targets_read(ids, n, &targets, err);
        if (rc == MDM_OK) {
            what->query = query.data ? query.data : "";
            rc = ctl_many_send(call, what, &targets, &all, err);
        }
        ctl_targets_clear(&targets);
    }
    if (rc == MDM_OK) {
        ctl_many_print(call, all);
    }
    json_decref(all);
    mdm_buf_clear(&query);
    return rc;
}

mdm_rc ctl_push(ctl_call_t *call, mdm_err_t *err)
{
    ctl_many_t what = {.method = "PUT", .path = "/v1/push/"};

    return many(call, &what, call->argv, (size_t)call->argc, err);
}

mdm_rc ctl_enqueue(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t body;
    const char *file = call->argv[call->argc - 1];
    mdm_rc rc = ctl_read_file(file, CTL_FILE_MAX, &body, err);

    if (rc == MDM_OK) {
        ctl_many_t what = {.method = "PUT",
                           .path = "/v1/enqueue/",
                           .body = mdm_buf_str(&body),
                           .type = "application/xml",
                           .once = true};
        rc = many(call, &what, call->argv, (size_t)call->argc - 1, err);
    }
    mdm_buf_clear(&body);
    return rc;
}

/* ---- queues -------------------------------------------------------------- */

static const char *const queue_headings[] = {
    "UUID", "TYPE", "STATE", "QUEUED", "SENT", "FINISHED", NULL};

static void print_rows(const json_t *rows)
{
    static const char *const members[] = {"command_uuid", "request_type",
                                          "state", "queued_at", "sent_at",
                                          "finished_at"};
    ctl_table_t *table = ctl_table_new(queue_headings);
    char text[MDM_ARRAY_LEN(members)][CTL_CELL_MAX];
    const char *cells[MDM_ARRAY_LEN(members)];

    for (size_t r = 0; r < json_array_size(rows); r++) {
        for (size_t i = 0; i < MDM_ARRAY_LEN(members); i++) {
            cells[i] = ctl_text_of(json_array_get(rows, r), members[i],
                                   text[i], sizeof(text[i]));
        }
        (void)ctl_table_row(table, cells);
    }
    ctl_table_end(&table);
}

/* Runs one call and lets `print` show the answer. */
static mdm_rc ask(ctl_call_t *call, const char *method, mdm_buf_t *path,
                  void (*print)(const json_t *), mdm_err_t *err)
{
    ctl_reply_t reply = {0};
    ctl_request_t request = {.method = method, .path = path->data};
    mdm_rc rc = mdm_buf_rc(path) == MDM_OK
                    ? ctl_ask(call->client, &request, &reply, err)
                    : mdm_err_set(err, MDM_ETOOBIG, 0, "a word is too long");

    if (rc == MDM_OK && call->settings->json) {
        ctl_print_json(reply.json);
    } else if (rc == MDM_OK) {
        print(reply.json);
    }
    ctl_reply_clear(&reply);
    mdm_buf_clear(path);
    return rc;
}

static void print_queue(const json_t *answer)
{
    print_rows(json_object_get(answer, "commands"));
    if (json_object_get(answer, "next_cursor") != NULL) {
        (void)fputs("mdmctl: there are more; --limit shows up to 1000\n",
                    stderr);
    }
}

mdm_rc ctl_queue(ctl_call_t *call, mdm_err_t *err)
{
    const char *verb = call->argc > 1 ? call->argv[1] : "list";
    mdm_buf_t path;

    mdm_buf_init(&path, PATH_SIZE);
    (void)mdm_buf_puts(&path, "/v1/enrollments/");
    (void)ctl_path_add(&path, call->argv[0]);
    (void)mdm_buf_puts(&path, "/commands");
    if (strcmp(verb, "list") == 0) {
        (void)ctl_path_query(&path, "state", call->options[CTL_STATE]);
        (void)ctl_path_query(&path, "limit", call->options[CTL_LIMIT]);
        return ask(call, "GET", &path, print_queue, err);
    }
    if (strcmp(verb, "clear") == 0 && call->argc == 2) {
        return ask(call, "DELETE", &path, ctl_print_object, err);
    }
    if (strcmp(verb, "cancel") == 0 && call->argc == 3) {
        (void)mdm_buf_puts(&path, "/");
        (void)ctl_path_add(&path, call->argv[2]);
        return ask(call, "DELETE", &path, ctl_print_object, err);
    }
    mdm_buf_clear(&path);
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "say queue ID, queue ID clear, or queue ID cancel "
                       "UUID");
}

/* ---- results ------------------------------------------------------------- */

static void print_command(const json_t *answer)
{
    static const char *const headings[] = {"ID", "STATE", "SENT", "FINISHED",
                                           NULL};
    const char *id = NULL;
    json_t *row = NULL;
    char text[4][CTL_CELL_MAX];
    ctl_table_t *table = ctl_table_new(headings);

    json_object_foreach (json_object_get(answer, "status"), id, row) {
        const char *cells[] = {
            id, ctl_text_of(row, "state", text[1], sizeof(text[1])),
            ctl_text_of(row, "sent_at", text[2], sizeof(text[2])),
            ctl_text_of(row, "finished_at", text[3], sizeof(text[3]))};
        (void)ctl_table_row(table, cells);
    }
    ctl_table_end(&table);
    if (json_object_get(answer, "next_cursor") != NULL) {
        (void)fputs("mdmctl: there are more; --limit shows up to 1000\n",
                    stderr);
    }
}

static mdm_rc one_result(ctl_call_t *call, mdm_buf_t *path, mdm_err_t *err)
{
    bool xml = call->options[CTL_XML] != NULL;
    ctl_reply_t reply = {0};
    ctl_request_t request = {
        .method = "GET", .path = path->data,
        .accept = xml ? "application/xml" : "application/json"};
    mdm_rc rc = ctl_ask(call->client, &request, &reply, err);

    if (rc == MDM_OK && reply.json != NULL && !xml) {
        if (call->settings->json) {
            ctl_print_json(reply.json);
        } else {
            ctl_print_object(reply.json);
        }
    } else if (rc == MDM_OK) {
        (void)fwrite(reply.body.data ? reply.body.data : "", 1,
                     reply.body.len, stdout);
    }
    ctl_reply_clear(&reply);
    return rc;
}

mdm_rc ctl_results(ctl_call_t *call, mdm_err_t *err)
{
    mdm_buf_t path;

    mdm_buf_init(&path, PATH_SIZE);
    (void)mdm_buf_puts(&path, "/v1/commands/");
    (void)ctl_path_add(&path, call->argv[0]);
    if (call->argc == 1) {
        (void)ctl_path_query(&path, "limit", call->options[CTL_LIMIT]);
        return ask(call, "GET", &path, print_command, err);
    }
    (void)mdm_buf_puts(&path, "/results/");
    mdm_rc rc = ctl_path_add(&path, call->argv[1]) == MDM_OK
                    ? one_result(call, &path, err)
                    : mdm_err_set(err, MDM_ETOOBIG, 0, "a word is too long");
    mdm_buf_clear(&path);
    return rc;
}
