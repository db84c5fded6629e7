/*
 * t_catalog_lists.c - the tables that were made at build time are the lists
 * of common/catalog, line by line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "t_catalog_world.h"

/* ---- the tables are the lists -------------------------------------------- */

static void put_mask(unsigned mask, char *dst, size_t cap)
{
    size_t n = strlen(dst);
    unsigned i;
    bool any = false;

    for (i = 0; i < MDM_SYSTEMS; i++) {
        if ((mask & 1U << i) != 0) {
            n += (size_t)snprintf(dst + n, cap - n, "%s%s", any ? " " : "",
                                  mdm_system_name((mdm_system_t)i));
            any = true;
        }
    }
    (void)snprintf(dst + n, cap - n, "%s\t", any ? "" : "-");
}

static const char *version(int32_t v, char text[32])
{
    (void)snprintf(text, 32, v % 100 > 0 ? "%d.%d.%d" : "%d.%d", v / 10000,
                   v / 100 % 100, v % 100);
    return text;
}

static void put_systems(uint16_t row, char *dst, size_t cap)
{
    const mdm_catalog_systems_t *s = mdm_catalog_systems(row);
    size_t n = strlen(dst);
    bool any = false;
    char a[32];
    char b[32];
    unsigned i;

    for (i = 0; i < MDM_SYSTEMS && row != 0; i++) {
        if (s->since[i] != 0) {
            n += (size_t)snprintf(
                dst + n, cap - n, "%s%s=%s%s%s", any ? " " : "",
                mdm_system_name((mdm_system_t)i), version(s->since[i], a),
                s->until[i] != 0 ? "-" : "",
                s->until[i] != 0 ? version(s->until[i], b) : "");
            any = true;
        }
    }
    (void)snprintf(dst + n, cap - n, "%s\t", row == 0 ? "=" : "");
}

static FILE *open_list(const char *name)
{
    char path[1024];
    char line[2048];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", MDM_CATALOG_DIR, name);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f)); /* headings */
    return f;
}

static void expect_line(FILE *f, const char *have)
{
    char line[2048];

    assert_non_null(fgets(line, sizeof(line), f));
    line[strcspn(line, "\n")] = '\0';
    assert_string_equal(line, have);
}

static void test_commands_list(void **state)
{
    world_t w = the_world();
    FILE *f = open_list("commands.tsv");
    const mdm_catalog_command_t *c;
    char have[2048];
    char word[8];
    unsigned bit;
    size_t n;
    size_t i;

    (void)state;
    assert_int_equal(w.ncommands, 68);
    for (i = 0; i < w.ncommands; i++) {
        c = &w.commands[i];
        assert_ptr_equal(mdm_catalog_find(mdm_str_from(c->name)), c);
        (void)snprintf(have, sizeof(have), "%s\t", c->name);
        put_systems(c->systems, have, sizeof(have));
        n = strlen(have);
        /* The order of the list: the Shared iPad stands behind iOS. */
        for (bit = 0; bit <= MDM_SYSTEMS; bit++) {
            unsigned at = bit == 0 ? 0 : bit == 1 ? MDM_SYSTEMS : bit - 1;
            unsigned mask = 1U << at;

            (void)snprintf(word, sizeof(word), "%s%s",
                           (c->device & mask) != 0 ? "D" : "",
                           (c->user & mask) != 0 ? "U" : "");
            if (word[0] != '\0') {
                n += (size_t)snprintf(
                    have + n, sizeof(have) - n, "%s%s=%s",
                    have[n - 1] == '\t' ? "" : " ",
                    at == MDM_SYSTEMS ? "SharediPad"
                                      : mdm_system_name((mdm_system_t)at),
                    word);
            }
        }
        (void)snprintf(have + n, sizeof(have) - n, "\t");
        put_mask(c->supervised, have, sizeof(have));
        put_mask(c->automated, have, sizeof(have));
        put_mask(c->not_user_enrollment, have, sizeof(have));
        n = strlen(have);
        if (c->access_right <= 0) {
            (void)snprintf(have + n, sizeof(have) - n, "%s",
                           c->access_right == 0 ? "-" : "query");
        } else {
            (void)snprintf(have + n, sizeof(have) - n, "%d", c->access_right);
        }
        if (c->access_right_on != 63) {
            char on[128] = "";
            char *p;

            put_mask(c->access_right_on, on, sizeof(on));
            on[strcspn(on, "\t")] = '\0';
            for (p = on; *p != '\0'; p++) {
                *p = *p == ' ' ? '+' : *p;
            }
            n = strlen(have);
            (void)snprintf(have + n, sizeof(have) - n, "=%s", on);
        }
        n = strlen(have);
        (void)snprintf(have + n, sizeof(have) - n, "\t%s",
                       c->confirm ? "yes" : "-");
        expect_line(f, have);
    }
    assert_int_equal(fgetc(f), EOF);
    (void)fclose(f);
    assert_null(mdm_catalog_find(MDM_STR("eraseDevice")));
    assert_null(mdm_catalog_find(MDM_STR("")));
}

static const char *const kinds[] = {"string", "data", "int", "bool", "array",
                                    "dict", "any", "choice", "value"};

/* One key's line and those of what is below it. */
static void expect_keys(const world_t *w, FILE *f, const char *command,
                        uint16_t row, const char *above)
{
    const mdm_catalog_key_t *k = &w->keys[row];
    bool in_array =
        row > 0 && above[0] != '\0' && strrchr(above, '\x01') != NULL;
    char parent[256];
    char path[512];
    char have[2048];
    size_t n;
    uint16_t i;

    (void)snprintf(parent, sizeof(parent), "%s", above);
    parent[strcspn(parent, "\x01")] = '\0';
    if (in_array) {
        (void)snprintf(path, sizeof(path), "%s[%.100s]", parent, k->name);
    } else {
        (void)snprintf(path, sizeof(path), "%s%s%.100s", parent,
                       parent[0] != '\0' ? "." : "", k->name);
    }
    (void)snprintf(have, sizeof(have), "%s\t%s\t%s\t%s\t", command, path,
                   kinds[k->kind],
                   k->required ? "required"
                   : in_array || k->kind == MDM_CATALOG_VALUE ||
                           strcmp(k->name, "*") == 0
                       ? "-"
                       : "optional");
    put_systems(k->systems, have, sizeof(have));
    n = strlen(have);
    n += (size_t)snprintf(have + n, sizeof(have) - n, "%s\t",
                          k->values != NULL ? k->values : "-");
    if (k->max > 0) {
        (void)snprintf(have + n, sizeof(have) - n, "%u-%u\t",
                       (unsigned)k->min, (unsigned)k->max);
    } else {
        (void)snprintf(have + n, sizeof(have) - n, "-\t");
    }
    put_mask(k->supervised, have, sizeof(have));
    put_mask(k->not_user_enrollment, have, sizeof(have));
    n = strlen(have);
    (void)snprintf(have + n, sizeof(have) - n, "%s", k->secret ? "yes" : "-");
    expect_line(f, have);
    if (k->kind == MDM_CATALOG_ARRAY) {
        n = strlen(path);
        (void)snprintf(path + n, sizeof(path) - n, "\x01");
    }
    for (i = (uint16_t)(row + 1); i < k->end; i = w->keys[i].end) {
        expect_keys(w, f, command, i, path);
    }
}

static void test_keys_list(void **state)
{
    world_t w = the_world();
    FILE *f = open_list("keys.tsv");
    uint16_t first;
    uint16_t end;
    uint16_t i;
    size_t c;

    (void)state;
    mdm_catalog_common(&first, &end);
    for (i = first; i < end; i = w.keys[i].end) {
        expect_keys(&w, f, "*", i, "");
    }
    for (c = 0; c < w.ncommands; c++) {
        for (i = w.commands[c].first; i < w.commands[c].end;
             i = w.keys[i].end) {
            expect_keys(&w, f, w.commands[c].name, i, "");
        }
    }
    assert_int_equal(fgetc(f), EOF);
    (void)fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_list),
        cmocka_unit_test(test_keys_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
