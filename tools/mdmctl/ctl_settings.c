/*
 * ctl_settings.c - mdmctl: where the server is and who asks.
 *
 * An option wins over the environment, and that over the settings file
 * (~/.config/mdmctl, lines of "key = value"; "#" begins a comment).  A file
 * with a token that others can read is refused: it would be no secret.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "mdm_mem.h"

#define SETTINGS_MAX (64 * 1024)
#define TOKEN_MAX 1024

static mdm_rc keep(char **setting, mdm_str_t value, mdm_err_t *err)
{
    if (*setting != NULL) {
        return MDM_OK;
    }
    *setting = strndup(value.s, value.n);
    return *setting == NULL ? mdm_err_nomem(err) : MDM_OK;
}

static mdm_rc read_all(int fd, const char *path, size_t max, mdm_buf_t *data,
                       mdm_err_t *err)
{
    for (;;) {
        if (mdm_buf_reserve(data, 64 * 1024) != MDM_OK) {
            return mdm_err_set(err, mdm_buf_rc(data), 0,
                               "%s is larger than %zu bytes", path, max);
        }
        ssize_t n = read(fd, data->data + data->len, 64 * 1024);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return mdm_err_set(err, MDM_EINVAL, 0, "cannot read %s: %s", path,
                               strerror(errno));
        }
        if (n == 0) {
            return MDM_OK;
        }
        data->len += (size_t)n;
    }
}

mdm_rc ctl_read_file(const char *path, size_t max, mdm_buf_t *data,
                     mdm_err_t *err)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);

    /* What is read is looked for in pieces, so there is room for one more. */
    mdm_buf_init_secret(data, max + 64 * 1024);
    if (fd < 0) {
        return mdm_err_set(err, MDM_EINVAL, 0, "cannot open %s: %s", path,
                           strerror(errno));
    }
    mdm_rc rc = read_all(fd, standard ? "standard input" : path, max, data,
                         err);
    if (rc == MDM_OK && data->len > max) {
        rc = mdm_err_set(err, MDM_ETOOBIG, 0, "%s is larger than %zu bytes",
                         standard ? "standard input" : path, max);
    }
    if (!standard) {
        (void)close(fd);
    }
    return rc;
}

/* A token that others can read is none. */
static mdm_rc check_private(const char *path, mdm_err_t *err)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "%s holds a token and others may open it; "
                           "chmod 600 %s", path, path);
    }
    return MDM_OK;
}

/* A line of the server's own file, name:token, does as well. */
mdm_rc ctl_settings_token_file(ctl_settings_t *settings, const char *path,
                               mdm_err_t *err)
{
    mdm_buf_t data;
    mdm_rc rc = check_private(path, err);

    if (rc != MDM_OK) {
        return rc;
    }
    rc = ctl_read_file(path, SETTINGS_MAX, &data, err);
    if (rc == MDM_OK) {
        mdm_str_t rest = mdm_buf_str(&data);
        mdm_str_t line = mdm_str_trim(mdm_str_split(&rest, '\n'));
        if (line.n > 0 && line.s[line.n - 1] == '\r') {
            line.n--;
        }
        mdm_str_t token = line;
        mdm_str_t name = mdm_str_split(&token, ':');
        if (token.s == NULL) {
            token = name;
        }
        if (token.n == 0 || token.n > TOKEN_MAX ||
            memchr(token.s, ':', token.n) != NULL) {
            rc = mdm_err_set(err, MDM_EINVAL, 0,
                             "the first line of %s is no token; it has to be "
                             "a token, or name:token", path);
        } else {
            rc = keep(&settings->token, token, err);
        }
    }
    mdm_buf_clear(&data);
    return rc;
}

static mdm_rc take_line(ctl_settings_t *settings, mdm_str_t key,
                        mdm_str_t value, const char *where, mdm_err_t *err)
{
    if (mdm_str_is(key, "url")) {
        return keep(&settings->url, value, err);
    }
    if (mdm_str_is(key, "token")) {
        mdm_rc rc = check_private(where, err);
        return rc == MDM_OK ? keep(&settings->token, value, err) : rc;
    }
    if (mdm_str_is(key, "token_file")) {
        char path[PATH_MAX];
        if (settings->token != NULL) {
            return MDM_OK;
        }
        if (value.n >= sizeof(path)) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "%s: the path of token_file is too long",
                               where);
        }
        memcpy(path, value.s, value.n);
        path[value.n] = '\0';
        return ctl_settings_token_file(settings, path, err);
    }
    if (mdm_str_is(key, "ca")) {
        return keep(&settings->ca, value, err);
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "%s: \"%.*s\" is not a setting; url, token, "
                       "token_file and ca are", where, MDM_STR_ARG(key));
}

static mdm_rc take_file(ctl_settings_t *settings, mdm_str_t text,
                        const char *where, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;

    while (text.s != NULL && rc == MDM_OK) {
        mdm_str_t line = mdm_str_trim(mdm_str_split(&text, '\n'));
        if (line.n == 0 || line.s[0] == '#') {
            continue;
        }
        mdm_str_t value = line;
        mdm_str_t key = mdm_str_trim(mdm_str_split(&value, '='));
        if (value.s == NULL) {
            return mdm_err_set(err, MDM_EINVAL, 0,
                               "%s: a line is not of the form key = value",
                               where);
        }
        rc = take_line(settings, key, mdm_str_trim(value), where, err);
    }
    return rc;
}

static mdm_rc load_file(ctl_settings_t *settings, mdm_err_t *err)
{
    char path[PATH_MAX];
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n = -1;

    if (config != NULL && config[0] == '/') {
        n = snprintf(path, sizeof(path), "%s/mdmctl", config);
    } else if (home != NULL) {
        n = snprintf(path, sizeof(path), "%s/.config/mdmctl", home);
    }
    if (n < 0 || (size_t)n >= sizeof(path) || access(path, F_OK) != 0) {
        return MDM_OK;
    }
    mdm_buf_t data;
    mdm_rc rc = ctl_read_file(path, SETTINGS_MAX, &data, err);
    if (rc == MDM_OK) {
        rc = take_file(settings, mdm_buf_str(&data), path, err);
    }
    mdm_buf_clear(&data);
    return rc;
}

static mdm_rc load_environment(ctl_settings_t *settings, mdm_err_t *err)
{
    static const char *const names[] = {"MDMCTL_URL", "MDMCTL_TOKEN",
                                        "MDMCTL_CA"};
    char **const fields[] = {&settings->url, &settings->token, &settings->ca};
    mdm_rc rc = MDM_OK;

    for (size_t i = 0; i < MDM_ARRAY_LEN(names) && rc == MDM_OK; i++) {
        const char *value = getenv(names[i]);
        if (value != NULL && value[0] != '\0') {
            rc = keep(fields[i], mdm_str_from(value), err);
        }
    }
    return rc;
}

/* A token in clear over a network would be anybody's. */
static mdm_rc check_url(ctl_settings_t *settings, mdm_err_t *err)
{
    static const char *const plain[] = {"http://127.0.0.1", "http://[::1]",
                                        "http://localhost"};
    size_t n = strlen(settings->url);

    while (n > 0 && settings->url[n - 1] == '/') {
        settings->url[--n] = '\0';
    }
    if (strncmp(settings->url, "https://", 8) == 0) {
        return MDM_OK;
    }
    for (size_t i = 0; i < MDM_ARRAY_LEN(plain); i++) {
        size_t len = strlen(plain[i]);
        if (strncmp(settings->url, plain[i], len) == 0 &&
            strchr(":/", settings->url[len]) != NULL) {
            return MDM_OK; /* strchr finds the end, too */
        }
    }
    return mdm_err_set(err, MDM_EINVAL, 0,
                       "%s: the URL of the API has to begin with https:// "
                       "(http:// only for this machine itself)",
                       settings->url);
}

mdm_rc ctl_settings_load(ctl_settings_t *settings, mdm_err_t *err)
{
    mdm_rc rc = load_environment(settings, err);

    if (rc == MDM_OK) {
        rc = load_file(settings, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (settings->url == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "where is the server? Give the URL of its API "
                           "location by --url, MDMCTL_URL, or a line url = "
                           "in ~/.config/mdmctl");
    }
    if (settings->token == NULL) {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "no token was given: --token-file, MDMCTL_TOKEN, "
                           "or a line token_file = in ~/.config/mdmctl");
    }
    return check_url(settings, err);
}

void ctl_settings_clear(ctl_settings_t *settings)
{
    if (settings->token != NULL) {
        mdm_wipe(settings->token, strlen(settings->token));
    }
    free(settings->url);
    free(settings->token);
    free(settings->ca);
    memset(settings, 0, sizeof(*settings));
}
