/*
 * mdm_body.c - keeps a request's body that a host hands over in pieces: a
 * small one in memory, a large one in a file that has no name, so that many
 * uploads at once do not add up.  One thread a body.
 */
#include "mdm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mdm_mem.h"

#define HEAP_MAX ((size_t)1 << 20)
#define HEAP_START ((size_t)8 << 10)
#define NAME_SIZE 4096

void mdm_body_init(mdm_body_t *body, const char *dir)
{
    memset(body, 0, sizeof(*body));
    body->dir = dir;
    body->fd = -1;
}

static mdm_rc fail(const mdm_body_t *body, mdm_err_t *err)
{
    return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_STORE_FAULT,
                       "a request's body cannot be kept in %s: %s",
                       body->dir != NULL ? body->dir : "a temporary directory",
                       strerror(errno));
}

static mdm_rc write_all(const mdm_body_t *body, const char *data, size_t n,
                        mdm_err_t *err)
{
    ssize_t done;

    while (n > 0) {
        done = write(body->fd, data, n);
        if (done < 0 && errno != EINTR) {
            return fail(body, err);
        }
        if (done > 0) {
            data += done;
            n -= (size_t)done;
        }
    }
    return MDM_OK;
}

static void drop_heap(mdm_body_t *body)
{
    if (body->data != NULL) {
        mdm_wipe(body->data, body->cap);
        free(body->data);
        body->data = NULL;
        body->cap = 0;
    }
}

static mdm_rc to_file(mdm_body_t *body, mdm_err_t *err)
{
    char name[NAME_SIZE];
    mdm_rc rc;

    errno = ENOENT;
    if (body->dir != NULL &&
        snprintf(name, sizeof(name), "%s/mdm-XXXXXX", body->dir) <
            (int)sizeof(name)) {
        body->fd = mkostemp(name, O_CLOEXEC);
    }
    if (body->fd < 0) {
        return fail(body, err);
    }
    (void)unlink(name); /* reachable by descriptor alone */
    rc = write_all(body, body->data, (size_t)body->size, err);
    drop_heap(body);
    return rc;
}

static mdm_rc grow(mdm_body_t *body, size_t need, mdm_err_t *err)
{
    size_t cap = body->cap > 0 ? body->cap : HEAP_START;
    char *grown;

    while (cap < need) {
        cap *= 2;
    }
    if (cap > body->cap) {
        grown = malloc(cap);
        if (grown == NULL) {
            return mdm_err_nomem(err);
        }
        if (body->size > 0) {
            memcpy(grown, body->data, (size_t)body->size);
        }
        drop_heap(body);
        body->data = grown;
        body->cap = cap;
    }
    return MDM_OK;
}

mdm_rc mdm_body_add(mdm_body_t *body, const char *data, size_t n,
                    mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    if (n == 0) {
        return MDM_OK;
    }
    if (body->fd < 0 && body->size + n > HEAP_MAX) {
        rc = to_file(body, err);
    } else if (body->fd < 0) {
        rc = grow(body, (size_t)body->size + n, err);
    }
    if (rc == MDM_OK && body->fd >= 0) {
        rc = write_all(body, data, n, err);
    } else if (rc == MDM_OK) {
        memcpy(body->data + body->size, data, n);
    }
    body->size += rc == MDM_OK ? n : 0;
    return rc;
}

void mdm_body_lend(const mdm_body_t *body, mdm_request_t *request)
{
    request->body = body->data != NULL
                        ? (mdm_str_t){body->data, (size_t)body->size}
                        : MDM_STR("");
    request->body_fd = body->fd;
    request->body_size = body->size;
}

void mdm_body_clear(mdm_body_t *body)
{
    drop_heap(body);
    if (body->fd >= 0) {
        (void)close(body->fd);
        body->fd = -1;
    }
}
