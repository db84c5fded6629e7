/*
 * ctl_targets.c - mdmctl: calls on many enrolments.
 *
 * The API names its targets in the URL, and web servers bound the length of
 * one; so a long list becomes several calls, with a bar of progress.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

/* Bytes of ids in one URL.  Both servers take 8 kB of a request line by
 * default; the rest is for the path before it and the query behind it. */
#define IDS_MAX 6000
/* What cannot be cut into several calls may be as long as the sample
 * configurations let it be. */
#define IDS_ONCE_MAX 30000
#define LIST_MAX ((size_t)16 * 1024 * 1024)
#define SHOWN_MAX 20 /* more targets than this are summed up */

static mdm_rc split_lines(ctl_targets_t *targets, mdm_err_t *err)
{
    size_t room = 0;
    mdm_str_t rest = mdm_buf_str(&targets->own);

    for (size_t i = 0; i < rest.n; i++) {
        room += rest.s[i] == '\n';
    }
    targets->ids = calloc(room + 1, sizeof(*targets->ids));
    targets->listed = true;
    if (targets->ids == NULL) {
        return mdm_err_nomem(err);
    }
    while (rest.s != NULL && rest.n > 0) {
        mdm_str_t line = mdm_str_trim(mdm_str_split(&rest, '\n'));
        if (line.n > 0 && line.s[line.n - 1] == '\r') {
            line.n--;
        }
        if (line.n > 0) {
            /* Its end lies within the buffer, which has a NUL behind it. */
            ((char *)line.s)[line.n] = '\0';
            targets->ids[targets->n++] = (char *)line.s;
        }
    }
    return MDM_OK;
}

mdm_rc ctl_targets_read(char **words, size_t n, ctl_targets_t *targets_r,
                        mdm_err_t *err)
{
    memset(targets_r, 0, sizeof(*targets_r));
    if (n == 1 && strcmp(words[0], "-") == 0) {
        mdm_rc rc = ctl_read_file("-", LIST_MAX, &targets_r->own, err);
        if (rc == MDM_OK) {
            rc = split_lines(targets_r, err);
        }
        if (rc != MDM_OK) {
            return rc;
        }
    } else {
        targets_r->ids = words;
        targets_r->n = n;
    }
    if (targets_r->n == 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "no enrolment was named");
    }
    return MDM_OK;
}

void ctl_targets_clear(ctl_targets_t *targets)
{
    if (targets->listed) {
        free(targets->ids);
    }
    mdm_buf_clear(&targets->own);
    memset(targets, 0, sizeof(*targets));
}

/* As many ids as one URL takes; how many in *n_r. */
static mdm_rc fill_path(const ctl_many_t *many, const ctl_targets_t *targets,
                        size_t from, mdm_buf_t *path, size_t *n_r,
                        mdm_err_t *err)
{
    size_t n = 0;
    size_t most = many->once ? IDS_ONCE_MAX : IDS_MAX;

    (void)mdm_buf_puts(path, many->path);
    size_t start = path->len;
    while (from + n < targets->n) {
        size_t before = path->len;
        if (n > 0) {
            (void)mdm_buf_puts(path, ",");
        }
        if (ctl_path_add(path, targets->ids[from + n]) != MDM_OK) {
            return mdm_err_set(err, mdm_buf_rc(path), 0, "an id is too long");
        }
        if (n > 0 && path->len - start > most) {
            if (many->once) {
                return mdm_err_set(err, MDM_ETOOBIG, 0,
                                   "only the first %zu ids fit into one "
                                   "call, and the server takes a command "
                                   "once; give the others another "
                                   "CommandUUID", n);
            }
            path->len = before;
            path->data[before] = '\0';
            break;
        }
        n++;
    }
    *n_r = n;
    (void)mdm_buf_puts(path, many->query);
    return mdm_buf_rc(path) == MDM_OK ? MDM_OK : mdm_err_nomem(err);
}

/* Notes one answer; a fault of the whole call is noted for each target. */
static mdm_rc add_answer(const ctl_reply_t *reply, json_t *all,
                         const ctl_targets_t *targets, size_t from, size_t n,
                         mdm_err_t *err)
{
    json_t *status = json_object_get(all, "status");
    json_t *got = json_object_get(reply->json, "status");
    int bad = 0;

    if (json_is_object(got)) {
        const char *name = NULL;
        json_t *value = NULL;
        json_object_foreach (reply->json, name, value) {
            if (value != got && json_object_get(all, name) == NULL) {
                bad |= json_object_set(all, name, value);
            }
        }
        bad |= json_object_update(status, got);
    } else {
        const char *said =
            json_string_value(json_object_get(reply->json, "error"));
        for (size_t i = 0; i < n; i++) {
            bad |= json_object_set_new(
                status, targets->ids[from + i],
                json_pack("{s:s}", "error",
                          said ? said : "the server gave no reason"));
        }
    }
    return bad == 0 ? MDM_OK : mdm_err_nomem(err);
}

static mdm_rc send_some(ctl_call_t *call, const ctl_many_t *many,
                        const ctl_targets_t *targets, size_t from,
                        size_t *n_r, json_t *all, mdm_err_t *err)
{
    mdm_buf_t path;
    ctl_reply_t reply = {0};

    mdm_buf_init(&path, IDS_ONCE_MAX + 8192);
    mdm_rc rc = fill_path(many, targets, from, &path, n_r, err);
    if (rc == MDM_OK) {
        ctl_request_t request = {.method = many->method, .path = path.data,
                                 .body = many->body, .type = many->type};
        /* With one call there is nothing to sum up: its fault is ours. */
        rc = *n_r == targets->n
                 ? ctl_ask(call->client, &request, &reply, err)
                 : ctl_send(call->client, &request, &reply, err);
        if (rc == MDM_OK) {
            rc = add_answer(&reply, all, targets, from, *n_r, err);
        }
        ctl_reply_clear(&reply);
    }
    mdm_buf_clear(&path);
    return rc;
}

mdm_rc ctl_many_send(ctl_call_t *call, const ctl_many_t *many,
                     const ctl_targets_t *targets, json_t **all_r,
                     mdm_err_t *err)
{
    json_t *all = *all_r ? *all_r : json_pack("{s:{}}", "status");
    mdm_rc rc = all == NULL ? mdm_err_nomem(err) : MDM_OK;
    size_t n = 0;

    *all_r = all;
    for (size_t i = 0; i < targets->n && rc == MDM_OK; i += n) {
        rc = send_some(call, many, targets, i, &n, all, err);
        if (n < targets->n) {
            ctl_progress(i + n, targets->n);
        }
    }
    ctl_progress_end();
    return rc;
}

/* What became of one target; true: it went well. */
static bool outcome_of(const json_t *target, char *dst, size_t cap)
{
    static const char *const bad[] = {"error", "command_error", "push_error"};
    char text[CTL_CELL_MAX];

    for (size_t i = 0; i < MDM_ARRAY_LEN(bad); i++) {
        if (json_object_get(target, bad[i]) != NULL) {
            bool queued = strcmp(bad[i], "push_error") == 0;
            (void)snprintf(dst, cap, "%s%s",
                           queued ? "not pushed: " : "",
                           ctl_text_of(target, bad[i], text, sizeof(text)));
            return false;
        }
    }
    if (json_is_true(json_object_get(target, "push_pending"))) {
        (void)snprintf(dst, cap, "no answer from Apple yet");
    } else if (json_object_get(target, "push_note") != NULL) {
        (void)snprintf(dst, cap, "%s", ctl_text_of(target, "push_note", text,
                                                   sizeof(text)));
    } else if (json_object_get(target, "push_result") != NULL) {
        (void)snprintf(dst, cap, "push %s",
                       ctl_text_of(target, "push_result", text,
                                   sizeof(text)));
    } else {
        (void)snprintf(dst, cap, "done");
    }
    return true;
}

void ctl_many_print(ctl_call_t *call, const json_t *all)
{
    static const char *const headings[] = {"ID", "RESULT", NULL};
    const json_t *status = json_object_get(all, "status");
    size_t n = json_object_size(status);
    size_t failed = 0;
    char text[CTL_CELL_MAX + 32];
    const char *id = NULL;
    json_t *target = NULL;
    ctl_table_t *table = call->settings->json ? NULL
                                              : ctl_table_new(headings);

    json_object_foreach ((json_t *)status, id, target) {
        bool well = outcome_of(target, text, sizeof(text));
        failed += well ? 0 : 1;
        if (table != NULL && (!well || n <= SHOWN_MAX)) {
            const char *cells[] = {id, text};
            (void)ctl_table_row(table, cells);
        }
    }
    call->status = failed > 0 ? CTL_FAILED : CTL_DONE;
    if (call->settings->json) {
        ctl_print_json(all);
        return;
    }
    if (failed > 0 || n <= SHOWN_MAX) {
        ctl_table_end(&table);
    }
    ctl_table_free(&table);
    if (n > SHOWN_MAX) {
        (void)printf("%zu of %zu done, %zu failed\n", n - failed, n, failed);
    }
}
