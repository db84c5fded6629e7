/*
 * t_body.c - a request's body that comes in pieces: in memory, in a file
 * without a name, and nowhere to put it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mdm.h"

/* Pieces of odd sizes, so that every limit is met in the middle of one. */
static void fill(mdm_body_t *body, size_t total)
{
    char piece[7919];
    mdm_err_t err;
    size_t at = 0;
    size_t n;
    size_t i;

    while (at < total) {
        n = total - at < sizeof(piece) ? total - at : sizeof(piece);
        for (i = 0; i < n; i++) {
            piece[i] = (char)((at + i) * 31 % 251);
        }
        assert_int_equal(mdm_body_add(body, piece, n, &err), MDM_OK);
        at += n;
    }
    assert_int_equal(body->size, total);
}

static void check(const char *data, size_t total)
{
    size_t i;

    for (i = 0; i < total; i++) {
        if (data[i] != (char)(i * 31 % 251)) {
            fail_msg("byte %zu of %zu", i, total);
        }
    }
}

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n - 2;
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0,       1,       8191,    8192,
                                   8193,    1048575, 1048576, 1048577,
                                   1055999, 5000000};
    char dir[] = "/tmp/t_body.XXXXXX";
    mdm_request_t request;
    mdm_body_t body;
    char *back;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    for (i = 0; i < MDM_ARRAY_LEN(sizes); i++) {
        memset(&request, 0, sizeof(request));
        mdm_body_init(&body, dir);
        fill(&body, sizes[i]);
        assert_int_equal(body.fd >= 0, sizes[i] > 1048576);
        mdm_body_lend(&body, &request);
        assert_int_equal(request.body_size, sizes[i]);
        if (request.body_fd < 0) {
            assert_int_equal(request.body.n, sizes[i]);
            assert_non_null(request.body.s);
            check(request.body.s, sizes[i]);
        } else {
            back = malloc(sizes[i]);
            assert_int_equal(pread(request.body_fd, back, sizes[i], 0),
                             sizes[i]);
            check(back, sizes[i]);
            free(back);
        }
        assert_int_equal(entries(dir), 0); /* the file has no name */
        mdm_body_clear(&body);
        mdm_body_clear(&body);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void test_nowhere(void **state)
{
    static char big[2 << 20];
    mdm_body_t body;
    mdm_err_t err;

    (void)state;
    mdm_body_init(&body, NULL);
    fill(&body, 1000);
    assert_int_equal(mdm_body_add(&body, big, sizeof(big), &err),
                     MDM_EUNAVAIL);
    assert_int_equal(err.id, MDM_MSG_STORE_FAULT);
    assert_non_null(strstr(err.text, "cannot be kept"));
    assert_int_equal(body.size, 1000);
    mdm_body_clear(&body);
    mdm_body_init(&body, "/nonexistent/dir");
    assert_int_equal(mdm_body_add(&body, big, sizeof(big), &err),
                     MDM_EUNAVAIL);
    assert_non_null(strstr(err.text, "/nonexistent/dir"));
    mdm_body_clear(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_nowhere),
    };

    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
