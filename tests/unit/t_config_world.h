/*
 * t_config_world.h - what the programs about directives share: a directory
 * for the files that directives name, a log that counts, and setting one
 * directive from a line of text.  For t_config*.c.
 */
#ifndef T_CONFIG_WORLD_H
#define T_CONFIG_WORLD_H

#include "testcert.h"

#include <ftw.h>
#include <unistd.h>

#include "mdm_config.h"
#include "mdm_str.h"

typedef struct world {
    char dir[32];
    mdm_err_t err;
    unsigned warnings;
    char warning[1100];
} world_t;

static inline int remove_one(const char *path, const struct stat *st, int flag,
                             struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_config.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    world_t *w = *state;

    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static inline bool log_on(void *ctx, mdm_level_t level)
{
    (void)ctx;
    return level <= MDM_LOG_WARNING;
}

static inline void log_write(void *ctx, mdm_level_t level, const char *file,
                             int line, const char *msg)
{
    world_t *w = ctx;

    (void)level;
    (void)file;
    (void)line;
    w->warnings++;
    (void)snprintf(w->warning, sizeof(w->warning), "%s", msg);
}

/* Arguments separated by blanks. */
static inline mdm_rc set(world_t *w, mdm_config_t *c, mdm_directive_id_t id,
                         const char *args)
{
    const char *argv[80];
    char text[8192];
    char *save = text;
    char *word;
    int argc = 0;

    (void)snprintf(text, sizeof(text), "%s", args);
    while (args[0] != '\0' && argc < 80 &&
           (word = strsep(&save, " ")) != NULL) {
        argv[argc++] = word;
    }
    mdm_err_clear(&w->err);
    return mdm_config_set(c, id, argc, argv, &w->err);
}

/* One directive alone in a new node of its scope. */
static inline mdm_rc try_one(world_t *w, mdm_directive_id_t id,
                             const char *args)
{
    size_t n;
    mdm_config_t *c = mdm_config_new(mdm_directives(&n)[id].scope, "/mdm",
                                     w->dir);
    mdm_rc rc;

    assert_non_null(c);
    rc = set(w, c, id, args);
    mdm_config_free(&c);
    assert_null(c);
    assert_int_equal(rc == MDM_OK, w->err.text[0] == '\0');
    return rc;
}

/* Good values and bad ones, separated by "|"; "" is no argument. */
typedef struct values {
    mdm_directive_id_t id;
    const char *good;
    const char *bad;
} values_t;

static inline void try_values(world_t *w, const values_t *cases, size_t n)
{
    size_t i;
    int good;

    for (i = 0; i < n; i++) {
        for (good = 0; good < 2; good++) {
            mdm_str_t rest =
                mdm_str_from(good ? cases[i].good : cases[i].bad);

            while (rest.s != NULL) {
                mdm_str_t one = mdm_str_split(&rest, '|');
                char args[200];

                (void)snprintf(args, sizeof(args), "%.*s", MDM_STR_ARG(one));
                if (try_one(w, cases[i].id, args) !=
                    (good ? MDM_OK : MDM_ECONFIG)) {
                    fail_msg("case %zu: \"%s\": %s", i, args, w->err.text);
                }
            }
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
