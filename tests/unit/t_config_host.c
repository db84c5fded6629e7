/*
 * t_config_host.c - where our settings meet the host's: the state directory
 * and the warnings about host limits.
 */
#include "testcert.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdm_config.h"

typedef struct world {
    char dir[40];
    mdm_err_t err;
} world_t;

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_config_host.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_t *w = *state;

    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static mdm_rc make(world_t *w, const char *name)
{
    mdm_config_t *m = mdm_config_new(MDM_SCOPE_MAIN, NULL, w->dir);
    mdm_rc rc;

    assert_non_null(m);
    mdm_err_clear(&w->err);
    assert_int_equal(mdm_config_set(m, MDM_DIRECTIVE_STATE_DIR, 1, &name,
                                    &w->err), MDM_OK);
    rc = mdm_config_make_state_dir(m, getuid(), getgid(), &w->err);
    mdm_config_free(&m);
    return rc;
}

static void test_state_dir(void **state)
{
    world_t *w = *state;
    struct stat st;
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/state", w->dir);
    assert_int_equal(make(w, "state"), MDM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_uid, getuid());
    /* One that exists is left as it is. */
    assert_int_equal(chmod(path, 0750), 0);
    assert_int_equal(make(w, "state"), MDM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(make(w, "no/such/place"), MDM_ECONFIG);
    assert_non_null(strstr(w->err.text, "MDMStateDir (mdm_state_dir)"));
    assert_non_null(strstr(w->err.text, "/no/such/place"));
    assert_non_null(strstr(w->err.text, strerror(ENOENT)));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_state_dir),
    };

    return cmocka_run_group_tests_name("config_host", tests, NULL, NULL);
}
