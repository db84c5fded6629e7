/*
 * certs_files.c - mdmcerts: files that are there as a whole or not at all.
 *
 * All files of one step are written and synced under temporary names in their
 * own directory first, so that a full disk shows before anything has changed.
 * Then they get their names while signals wait, the key first: whoever finds
 * a request finds its key.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "certs_io.h"

static const char *folder_of(const char *path, char *dst)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL) {
        (void)snprintf(dst, PATH_MAX, ".");
    } else {
        (void)snprintf(dst, PATH_MAX, "%.*s",
                       slash == path ? 1 : (int)(slash - path), path);
    }
    return dst;
}

mdm_rc certs_path(char *dst, const char *dir, const char *prefix,
                  const char *name, mdm_err_t *err)
{
    int n = snprintf(dst, PATH_MAX, "%s/%s%s", dir, prefix, name);

    if (n < 0 || n >= PATH_MAX) {
        return mdm_err_set(err, MDM_EINVAL, 0, "the path of %s is too long",
                           name);
    }
    return MDM_OK;
}

bool certs_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

mdm_rc certs_read_file(const char *path, size_t max, mdm_buf_t *data,
                       mdm_err_t *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    mdm_rc rc = MDM_OK;
    ssize_t n = 1;

    if (fd < 0) {
        return mdm_err_set(err, errno == ENOENT ? MDM_ENOTFOUND : MDM_EINVAL,
                           0, "cannot read %s: %s", path, strerror(errno));
    }
    while (rc == MDM_OK && n > 0) {
        if (data->len > max) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "%s is longer than such a file can be", path);
        } else if (mdm_buf_reserve(data, 4096) != MDM_OK) {
            rc = mdm_err_set(err, mdm_buf_rc(data), 0,
                             "%s is longer than such a file can be", path);
        } else {
            n = read(fd, data->data + data->len, 4096);
            if (n > 0) {
                data->len += (size_t)n;
            } else if (n < 0 && errno == EINTR) {
                n = 1;
            } else if (n < 0) {
                rc = mdm_err_set(err, MDM_EINVAL, 0, "cannot read %s: %s",
                                 path, strerror(errno));
            }
        }
    }
    close(fd);
    return rc;
}

mdm_rc certs_make_dir(const char *dir, mdm_err_t *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "cannot make the directory %s: %s", dir,
                           strerror(errno));
    }
    return MDM_OK;
}

mdm_rc certs_files_judge(const certs_file_t *files, size_t n, mdm_err_t *err)
{
    struct stat st;
    size_t i;

    for (i = 0; i < n; i++) {
        if (files[i].where != CERTS_NEW && lstat(files[i].path, &st) == 0 &&
            !S_ISREG(st.st_mode)) {
            return mdm_err_set(err, MDM_ECONFLICT, 0,
                               "%s is not an ordinary file, and nothing was "
                               "changed; move it away",
                               files[i].path);
        }
        if (files[i].where == CERTS_NEW && certs_exists(files[i].path)) {
            return mdm_err_set(err, MDM_ECONFLICT, 0,
                               "%s exists already, and nothing was changed; "
                               "move it away, or see --help for what "
                               "replaces it",
                               files[i].path);
        }
    }
    return MDM_OK;
}

/* ---- staging ------------------------------------------------------------ */

static bool write_all(int fd, mdm_str_t data)
{
    size_t done = 0;
    ssize_t n;

    while (done < data.n) {
        n = write(fd, data.s + done, data.n - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

/* Makes the temporary file and has the guard know it, with no gap in which a
 * signal could leave it behind. */
static int open_temporary(certs_file_t *file)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(file->path, '/');
    int fd = -1;
    int n = snprintf(file->temporary, sizeof(file->temporary),
                     "%s/.%s.XXXXXX", folder_of(file->path, dir),
                     slash == NULL ? file->path : slash + 1);

    if (n < 0 || n >= PATH_MAX) {
        errno = ENAMETOOLONG;
    } else {
        certs_guard_hold();
        fd = mkostemp(file->temporary, O_CLOEXEC);
        if (fd >= 0 && !certs_guard_add(file->temporary)) {
            (void)unlink(file->temporary);
            close(fd);
            fd = -1;
            errno = EMFILE;
        }
        certs_guard_let_go();
    }
    if (fd < 0) {
        file->temporary[0] = '\0';
    }
    return fd;
}

static void drop_temporary(certs_file_t *file)
{
    if (file->temporary[0] != '\0') {
        (void)unlink(file->temporary);
        certs_guard_remove(file->temporary);
        file->temporary[0] = '\0';
    }
}

static mdm_rc stage(certs_file_t *file, mdm_err_t *err)
{
    int fd = open_temporary(file);
    bool ok = fd >= 0;
    int why;

    ok = ok && fchmod(fd, 0600) == 0 && write_all(fd, file->data) &&
         fsync(fd) == 0;
    why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (!ok) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "cannot write %s: %s; nothing was changed",
                           file->path, strerror(why));
    }
    return MDM_OK;
}

mdm_rc certs_files_stage(certs_file_t *files, size_t n, mdm_err_t *err)
{
    mdm_rc rc = certs_files_judge(files, n, err);
    size_t i;

    for (i = 0; rc == MDM_OK && i < n; i++) {
        rc = stage(&files[i], err);
    }
    if (rc != MDM_OK) {
        certs_files_drop(files, n);
    }
    return rc;
}

void certs_files_drop(certs_file_t *files, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        drop_temporary(&files[i]);
    }
}

/* ---- publishing --------------------------------------------------------- */

/* Gives the name if nothing has it. */
static bool take_name(certs_file_t *file)
{
    if (renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
                  RENAME_NOREPLACE) == 0) {
        return true;
    }
    /* Not every file system can. */
    return errno == EINVAL && link(file->temporary, file->path) == 0 &&
           unlink(file->temporary) == 0;
}

/* What is there keeps a name of its own: NAME.old-20261125T045400Z. */
static bool put_aside(certs_file_t *file)
{
    time_t now = time(NULL);
    struct tm tm;
    int n;

    if (!certs_exists(file->path) || gmtime_r(&now, &tm) == NULL) {
        return !certs_exists(file->path);
    }
    n = snprintf(file->aside, sizeof(file->aside),
                 "%s.old-%04d%02d%02dT%02d%02d%02dZ", file->path,
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
    if (n < 0 || n >= PATH_MAX) {
        errno = ENAMETOOLONG;
        file->aside[0] = '\0';
        return false;
    }
    if (renameat2(AT_FDCWD, file->path, AT_FDCWD, file->aside,
                  RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || link(file->path, file->aside) != 0 ||
         unlink(file->path) != 0)) {
        file->aside[0] = '\0';
        return false;
    }
    return true;
}

/* The former content keeps the temporary name until all is done. */
static bool swap(certs_file_t *file)
{
    file->swapped = renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
                              RENAME_EXCHANGE) == 0;
    /* Not every file system can. */
    return file->swapped ||
           (errno == EINVAL && rename(file->temporary, file->path) == 0);
}

static mdm_rc publish(certs_file_t *file, mdm_err_t *err)
{
    bool ok;

    if (file->where == CERTS_REPLACE && certs_exists(file->path)) {
        ok = swap(file);
    } else {
        ok = (file->where != CERTS_ASIDE || put_aside(file)) &&
             take_name(file);
    }
    if (!ok) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0,
                           "cannot write %s: %s; nothing was changed",
                           file->path, strerror(errno));
    }
    file->published = true;
    if (!file->swapped) {
        certs_guard_remove(file->temporary);
        file->temporary[0] = '\0';
    }
    return MDM_OK;
}

static void take_back(certs_file_t *file)
{
    if (file->swapped) {
        (void)renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
                        RENAME_EXCHANGE);
        file->swapped = false;
    } else if (file->published) {
        (void)unlink(file->path);
    }
    file->published = false;
    if (file->aside[0] != '\0') {
        (void)rename(file->aside, file->path);
        file->aside[0] = '\0';
    }
}

static mdm_rc sync_folder(const certs_file_t *file, mdm_err_t *err)
{
    char dir[PATH_MAX];
    int fd = open(folder_of(file->path, dir),
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    int why = errno;

    if (fd >= 0) {
        close(fd);
    }
    return ok ? MDM_OK
              : mdm_err_set(err, MDM_EUNAVAIL, 0, "cannot sync %s: %s", dir,
                            strerror(why));
}

mdm_rc certs_files_publish(certs_file_t *files, size_t n, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;
    size_t i;

    certs_guard_hold();
    for (i = 0; rc == MDM_OK && i < n; i++) {
        rc = publish(&files[i], err);
    }
    if (rc == MDM_OK && n > 0) {
        rc = sync_folder(&files[0], err);
    }
    for (i = n; rc != MDM_OK && i > 0; i--) {
        take_back(&files[i - 1]);
    }
    certs_files_drop(files, n);
    certs_guard_let_go();
    return rc;
}

mdm_rc certs_files_write(certs_file_t *files, size_t n, mdm_err_t *err)
{
    mdm_rc rc = certs_files_stage(files, n, err);

    return rc == MDM_OK ? certs_files_publish(files, n, err) : rc;
}

void certs_files_tell(const certs_file_t *files, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        (void)printf("wrote %s%s%s\n", files[i].path,
                     files[i].aside[0] != '\0' ? "; what it was before is "
                                               : "",
                     files[i].aside);
    }
}
