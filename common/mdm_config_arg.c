/*
 * mdm_config_arg.c - the kinds of arguments that directives share.  Reads
 * files that are named, touches nothing else.  Parent process only.
 */
#include "mdm_config_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define FILE_MAX_BYTES (1024 * 1024)

mdm_rc mdm_config_bad(mdm_err_t *err, const char *arg, const char *expected)
{
    return mdm_err_set(err, MDM_ECONFIG, 0, "\"%s\" is wrong; give %s", arg,
                       expected);
}

mdm_rc mdm_config_path(mdm_config_t *c, const char *arg, const char **path_r,
                        mdm_err_t *err)
{
    char *path;

    if (arg[0] == '\0') {
        return mdm_config_bad(err, arg, "a file name");
    }
    path = arg[0] == '/'
               ? mdm_arena_strdup(c->arena, arg)
               : mdm_arena_printf(c->arena, "%s/%s", c->root, arg);
    if (path == NULL) {
        return mdm_err_nomem(err);
    }
    if (strlen(path) > PATH_MAX - 64) {
        return mdm_err_set(err, MDM_ECONFIG, 0, "the file name is too long");
    }
    *path_r = path;
    return MDM_OK;
}

mdm_rc mdm_config_read(mdm_config_t *c, const char *arg, mdm_str_t *text_r,
                        mdm_err_t *err)
{
    const char *path = NULL;
    struct stat st;
    ssize_t n = -1;
    char *data;
    mdm_rc rc;
    int fd;

    rc = mdm_config_path(c, arg, &path, err);
    if (rc != MDM_OK) {
        return rc;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        (void)mdm_err_set(err, MDM_ECONFIG, 0, "cannot read %s: %s", path,
                          strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return MDM_ECONFIG;
    }
    data = S_ISREG(st.st_mode) && st.st_size <= FILE_MAX_BYTES
               ? mdm_arena_alloc(c->arena, (size_t)st.st_size + 1)
               : NULL;
    if (data != NULL) {
        n = read(fd, data, (size_t)st.st_size);
    }
    close(fd);
    if (n < 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "cannot read %s: not a plain file of at most 1 MB",
                           path);
    }
    *text_r = (mdm_str_t){data, (size_t)n};
    return MDM_OK;
}

mdm_str_t mdm_config_first_line(mdm_str_t text)
{
    mdm_str_t rest = text;
    mdm_str_t line = mdm_str_split(&rest, '\n');

    if (line.n > 0 && rest.s != NULL && line.s[line.n - 1] == '\r') {
        line.n--;
    }
    return line;
}

mdm_rc mdm_config_secret(mdm_config_t *c, const char *arg,
                         mdm_str_t *secret_r, mdm_err_t *err)
{
    mdm_str_t text;
    mdm_rc rc;

    rc = mdm_config_read(c, arg, &text, err);
    if (rc == MDM_OK) {
        *secret_r = mdm_config_first_line(text);
    }
    return rc;
}

mdm_rc mdm_config_flag(const char *arg, bool *value, mdm_err_t *err)
{
    mdm_str_t s = mdm_str_from(arg);

    if (!mdm_str_ieq(s, "on") && !mdm_str_ieq(s, "off")) {
        return mdm_config_bad(err, arg, "on or off");
    }
    *value = mdm_str_ieq(s, "on");
    return MDM_OK;
}

mdm_rc mdm_config_time(const char *arg, int64_t min_us, int64_t max_us,
                       int64_t *value, mdm_err_t *err)
{
    int64_t us;

    if (!mdm_parse_duration(mdm_str_from(arg), &us)) {
        return mdm_config_bad(err, arg,
                              "a time such as 500ms, 10s, 15m, 4h or 7d");
    }
    if (us < min_us || us > max_us) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "\"%s\" is out of bounds; give a time from %llds "
                           "to %llds",
                           arg, (long long)(min_us / MDM_SEC),
                           (long long)(max_us / MDM_SEC));
    }
    *value = us;
    return MDM_OK;
}

mdm_rc mdm_config_bundle(mdm_config_t *c, const char *arg,
                         const char **path_r, mdm_err_t *err)
{
    mdm_str_t text = MDM_STR_NONE;
    mdm_rc rc = mdm_config_read(c, arg, &text, err);

    if (rc == MDM_OK && mdm_x509_check_bundle(text, err) != MDM_OK) {
        (void)mdm_err_prefix(err, "%s", arg);
        rc = MDM_ECONFIG;
    }
    return rc == MDM_OK ? mdm_config_path(c, arg, path_r, err) : rc;
}

mdm_rc mdm_config_time_or_off(const char *arg, int64_t min_us, int64_t max_us,
                              int64_t *value, mdm_err_t *err)
{
    int64_t us;

    if (mdm_str_ieq(mdm_str_from(arg), "off")) {
        *value = 0;
        return MDM_OK;
    }
    if (!mdm_parse_duration(mdm_str_from(arg), &us)) {
        return mdm_config_bad(err, arg,
                              "a time such as 30m, 4h or 7d, or off");
    }
    return mdm_config_time(arg, min_us, max_us, value, err);
}

mdm_rc mdm_config_number(const char *arg, uint64_t min, uint64_t max,
                         uint64_t *value, mdm_err_t *err)
{
    if (!mdm_parse_u64(mdm_str_from(arg), max, value) || *value < min) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "\"%s\" is wrong; give a number from %llu to %llu",
                           arg, (unsigned long long)min,
                           (unsigned long long)max);
    }
    return MDM_OK;
}
