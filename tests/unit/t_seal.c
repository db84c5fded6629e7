/*
 * t_seal.c - sealed secrets and the file their key comes from, also when
 * several threads make it at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pthread.h>

#include "mdm_seal.h"
#include "mdm_str.h"

static void test_seal(void **state)
{
    static const unsigned char key_a[MDM_SEAL_KEY_LEN] = {1};
    static const unsigned char key_b[MDM_SEAL_KEY_LEN] = {2};
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_seal_t *a = NULL;
    mdm_seal_t *b = NULL;
    mdm_str_t sealed;
    mdm_str_t again;
    mdm_str_t plain;
    mdm_err_t err;
    char *bytes;
    size_t i;

    (void)state;
    assert_int_equal(mdm_seal_new(key_a, &a, &err), MDM_OK);
    assert_int_equal(mdm_seal_new(key_b, &b, &err), MDM_OK);
    assert_string_not_equal(mdm_seal_id(a), mdm_seal_id(b));
    assert_int_equal(mdm_seal_close(a, "t:1", MDM_STR("secret word"), arena,
                                    &sealed, &err), MDM_OK);
    assert_int_equal(sealed.n, 11 + MDM_SEAL_OVERHEAD);
    assert_null(memmem(sealed.s, sealed.n, "secret", 6));
    assert_int_equal(mdm_seal_close(a, "t:1", MDM_STR("secret word"), arena,
                                    &again, &err), MDM_OK);
    assert_memory_not_equal(sealed.s, again.s, sealed.n);
    assert_int_equal(mdm_seal_open(a, "t:1", sealed, arena, &plain, &err),
                     MDM_OK);
    assert_true(mdm_str_is(plain, "secret word"));
    assert_int_equal(mdm_seal_open(a, "t:2", sealed, arena, &plain, &err),
                     MDM_EINTERNAL);
    assert_null(plain.s);
    assert_int_equal(mdm_seal_open(b, "t:1", sealed, arena, &plain, &err),
                     MDM_EINTERNAL);
    for (i = 0; i < sealed.n; i++) { /* any byte altered, any length cut */
        bytes = mdm_arena_dup(arena, sealed.s, sealed.n);
        assert_non_null(bytes);
        bytes[i] ^= 0x10;
        assert_int_equal(mdm_seal_open(a, "t:1", (mdm_str_t){bytes, sealed.n},
                                       arena, &plain, &err), MDM_EINTERNAL);
        assert_int_equal(mdm_seal_open(a, "t:1", (mdm_str_t){sealed.s, i},
                                       arena, &plain, &err), MDM_EINTERNAL);
    }
    assert_int_equal(mdm_seal_close(a, "e", MDM_STR(""), arena, &sealed,
                                    &err), MDM_OK);
    assert_int_equal(mdm_seal_open(a, "e", sealed, arena, &plain, &err),
                     MDM_OK);
    assert_non_null(plain.s);
    assert_int_equal(plain.n, 0);
    assert_int_equal(mdm_seal_close(a, "e", MDM_STR_NONE, arena, &sealed,
                                    &err), MDM_OK);
    assert_null(sealed.s);
    assert_int_equal(mdm_seal_open(a, "e", sealed, arena, &plain, &err),
                     MDM_OK);
    assert_null(plain.s);
    mdm_seal_free(&a);
    mdm_seal_free(&b);
    assert_null(a);
    mdm_seal_free(&a);
    mdm_arena_free(&arena);
}

/* Two keys: either opens, one closes, and a value tells which. */
static void test_two_keys(void **state)
{
    static const unsigned char key_a[MDM_SEAL_KEY_LEN] = {1};
    static const unsigned char key_b[MDM_SEAL_KEY_LEN] = {2};
    mdm_arena_t *arena = mdm_arena_new(true);
    mdm_str_t id;
    mdm_seal_t *a = NULL;
    mdm_seal_t *both = NULL;
    mdm_str_t under_a;
    mdm_str_t under_b;
    mdm_str_t plain;
    mdm_err_t err;

    (void)state;
    assert_int_equal(mdm_seal_new(key_a, &a, &err), MDM_OK);
    assert_int_equal(mdm_seal_new(key_b, &both, &err), MDM_OK);
    assert_null(mdm_seal_nth_id(both, 1));
    assert_int_equal(mdm_seal_add(both, key_b, &err), MDM_ECONFIG);
    assert_null(mdm_seal_nth_id(both, 1));
    assert_int_equal(mdm_seal_add(both, key_a, &err), MDM_OK);
    id = mdm_str_from(mdm_seal_id(a));
    assert_string_equal(mdm_seal_nth_id(both, 1), id.s);
    assert_string_equal(mdm_seal_id(both), mdm_seal_nth_id(both, 0));
    assert_int_equal(mdm_seal_close(a, "t:1", MDM_STR("word"), arena,
                                    &under_a, &err), MDM_OK);
    assert_int_equal(mdm_seal_close(both, "t:1", MDM_STR("word"), arena,
                                    &under_b, &err), MDM_OK);
    assert_true(mdm_str_starts(under_a, "\002\357\170\032\347"));
    assert_memory_equal(under_a.s, mdm_seal_mark(a).s, MDM_SEAL_MARK_LEN);
    assert_memory_equal(under_b.s, mdm_seal_mark(both).s, MDM_SEAL_MARK_LEN);
    assert_memory_not_equal(under_a.s, under_b.s, MDM_SEAL_MARK_LEN);
    assert_int_equal(mdm_seal_open(both, "t:1", under_a, arena, &plain, &err),
                     MDM_OK);
    assert_true(mdm_str_is(plain, "word"));
    assert_int_equal(mdm_seal_open(a, "t:1", under_b, arena, &plain, &err),
                     MDM_EINTERNAL);
    assert_non_null(strstr(err.text, "not known here"));
    assert_false(mdm_seal_use(both, MDM_STR("")));
    assert_false(mdm_seal_use(both, MDM_STR("ef781ae7")));
    assert_true(mdm_seal_use(both, id));
    assert_string_equal(mdm_seal_id(both), id.s);
    assert_int_equal(mdm_seal_close(both, "t:1", MDM_STR("word"), arena,
                                    &under_a, &err), MDM_OK);
    assert_int_equal(mdm_seal_open(a, "t:1", under_a, arena, &plain, &err),
                     MDM_OK);
    assert_int_equal(mdm_seal_open(both, "t:1", under_b, arena, &plain, &err),
                     MDM_OK);
    mdm_seal_free(&a);
    mdm_seal_free(&both);
    mdm_arena_free(&arena);
}

/* Made by the first version of this module, under keys {1} and {2}. */
static void test_version_1(void **state)
{
    static const char *const values[] = {
        "01758fc9cef656e71c55149e3d0372cdce0c6c67864d2468830474d7df229265cdc6"
        "d78822380a8b",
        "0164a9d7342a9a048f43203b244017591d405aeddc697ac7135d78f96cff6e48ace6"
        "6f86487a70e9"};
    static const unsigned char keys[][MDM_SEAL_KEY_LEN] = {{1}, {2}, {3}};
    mdm_arena_t *arena = mdm_arena_new(true);
    unsigned char bytes[40];
    mdm_str_t sealed = {(const char *)bytes, sizeof(bytes)};
    mdm_seal_t *seal = NULL;
    mdm_str_t plain;
    mdm_err_t err;
    size_t i;
    int k;

    (void)state;
    for (i = 0; i < MDM_ARRAY_LEN(values); i++) {
        assert_true(mdm_hex_decode(mdm_str_from(values[i]), bytes,
                                   sizeof(bytes)));
        for (k = 0; k < 3; k++) {
            assert_int_equal(mdm_seal_new(keys[k], &seal, &err), MDM_OK);
            assert_int_equal(mdm_seal_open(seal, "t:1", sealed, arena, &plain,
                                           &err),
                             (int)i == k ? MDM_OK : MDM_EINTERNAL);
            /* As the second key, too. */
            if (k != (int)i) {
                assert_int_equal(mdm_seal_add(seal, keys[i], &err), MDM_OK);
                assert_int_equal(mdm_seal_open(seal, "t:1", sealed, arena,
                                               &plain, &err), MDM_OK);
            }
            assert_true(mdm_str_is(plain, "secret word"));
            assert_int_equal(mdm_seal_open(seal, "t:2", sealed, arena, &plain,
                                           &err), MDM_EINTERNAL);
            mdm_seal_free(&seal);
        }
    }
    mdm_arena_free(&arena);
}

static void put_file(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

#define HEX64 "00112233445566778899aabbccddeeff"                              \
              "00112233445566778899AABBCCDDEEFF"

static void test_key_file(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        bool good;
    } cases[] = {
        {HEX64 "\n", 0600, true},  {HEX64, 0400, true},
        {HEX64 "\n", 0640, true},  {HEX64 "\n", 0644, false},
        {HEX64 "\n", 0660, false}, {HEX64 "\n", 0604, false},
        {HEX64 "\n", 0602, false}, {HEX64 "0\n", 0600, false},
        {HEX64 "\n\n", 0600, false}, {"", 0600, false},
        {"\n", 0600, false},       {HEX64 "\r\n", 0600, false},
        {"x" HEX64, 0600, false},
    };
    char dir[] = "/tmp/t_base.XXXXXX";
    unsigned char key[MDM_SEAL_KEY_LEN];
    char path[64];
    mdm_err_t err;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/key", dir);
    assert_int_equal(mdm_seal_read_key(path, key, &err), MDM_ECONFIG);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(mdm_seal_read_key(dir, key, &err), MDM_ECONFIG);
    for (i = 0; i < MDM_ARRAY_LEN(cases); i++) {
        put_file(path, cases[i].text, cases[i].mode);
        assert_int_equal(mdm_seal_read_key(path, key, &err),
                         cases[i].good ? MDM_OK : MDM_ECONFIG);
        if (cases[i].good) {
            assert_int_equal(key[31], 0xff);
        } else {
            assert_null(strstr(err.text, "00112233"));
        }
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

typedef struct obtain {
    const char *dir;
    pthread_barrier_t *barrier;
    unsigned char key[MDM_SEAL_KEY_LEN];
    bool made;
    mdm_rc rc;
} obtain_t;

static void *obtain_run(void *arg)
{
    obtain_t *o = arg;
    mdm_err_t err;

    (void)pthread_barrier_wait(o->barrier);
    o->rc = mdm_seal_obtain_key(o->dir, o->key, &o->made, &err);
    return NULL;
}

static void test_obtain_key(void **state)
{
    char dir[] = "/tmp/t_base.XXXXXX";
    pthread_barrier_t barrier;
    pthread_t threads[8];
    obtain_t o[8];
    struct stat st;
    char path[64];
    unsigned made = 0;
    mdm_err_t err;
    size_t i;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)pthread_barrier_init(&barrier, NULL, 8);
    for (i = 0; i < 8; i++) {
        o[i] = (obtain_t){.dir = dir, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, obtain_run, &o[i]),
                         0);
    }
    for (i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (i = 0; i < 8; i++) {
        assert_int_equal(o[i].rc, MDM_OK);
        assert_memory_equal(o[i].key, o[0].key, MDM_SEAL_KEY_LEN);
        made += o[i].made ? 1U : 0U;
    }
    assert_int_equal(made, 1);
    (void)pthread_barrier_destroy(&barrier);
    (void)snprintf(path, sizeof(path), "%s/secret.key", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* fails if a temporary file is left */
    assert_int_equal(mdm_seal_obtain_key(dir, o[0].key, &o[0].made, &err),
                     MDM_EUNAVAIL);
    assert_false(o[0].made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seal),
        cmocka_unit_test(test_two_keys),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_key_file),
        cmocka_unit_test(test_obtain_key),
    };

    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
