/*
 * plist_cases.h - what the property-list tests share: files of tests/cases,
 * the CPU clock, a thread with a small stack.  For one test program each,
 * hence all static.
 */
#ifndef PLIST_CASES_H
#define PLIST_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mdm_base.h"

#ifndef MDM_TEST_CASES_DIR
#define MDM_TEST_CASES_DIR "tests/cases"
#endif

/* As small as a host may give its threads. */
#define SMALL_STACK ((size_t)256 * 1024)

static inline const char *cases_dir(void)
{
    const char *dir = getenv("MDM_TEST_CASES");

    return dir != NULL ? dir : MDM_TEST_CASES_DIR;
}

/* A block of exactly the file's size; to be freed with free_case(). */
static inline mdm_str_t read_case(const char *name)
{
    char path[1024];
    char *data;
    long n;
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", cases_dir(), name);
    f = fopen(path, "rb");
    if (f == NULL) {
        fail_msg("%s cannot be read", path);
    }
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    assert_true(n >= 0);
    rewind(f);
    data = malloc(n > 0 ? (size_t)n : 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)n, f), n);
    (void)fclose(f);
    return (mdm_str_t){data, (size_t)n};
}

static inline void free_case(mdm_str_t raw)
{
    free((void *)(uintptr_t)raw.s);
}

/* CPU time of this thread: another busy process does not count. */
static inline double cpu_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct small_stack {
    int (*run)(void);
    int result;
} small_stack_t;

static inline void *small_stack_main(void *arg)
{
    small_stack_t *s = arg;

    s->result = s->run();
    return NULL;
}

/* Runs the tests of a program on a thread with a small stack. */
static inline int on_small_stack(int (*run)(void))
{
    small_stack_t s = {run, 1};
    pthread_attr_t attr;
    pthread_t thread;

    if (pthread_attr_init(&attr) != 0 ||
        pthread_attr_setstacksize(&attr, SMALL_STACK) != 0 ||
        pthread_create(&thread, &attr, small_stack_main, &s) != 0) {
        (void)fprintf(stderr, "no thread with a small stack\n");
        return 1;
    }
    (void)pthread_attr_destroy(&attr);
    (void)pthread_join(thread, NULL);
    return s.result;
}

#endif
