/*
 * ctl_print.c - mdmctl: tables for people, JSON for programs.
 *
 * Much of what is printed was sent by devices.  Every character that is no
 * printable one becomes "?", so that a device's name cannot steer the
 * terminal of whoever looks at it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

#include "ctl.h"
#include "mdm_mem.h"

#define NARROWEST 4 /* columns that a cell is never cut below */
#define GAP 2
#define DEPTH_MAX 8

struct ctl_table {
    size_t columns;
    size_t rows;
    size_t room;     /* rows that `cells` has place for */
    wchar_t **cells; /* rows x columns, the first row holds the headings */
    size_t widths[CTL_COLUMNS_MAX];
};

/* Printable, and yet text that is shown in another order than it has. */
static bool turns_around(wchar_t c)
{
    return (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0x061c;
}

/* One character as it may be shown; *used bytes of the text are it. */
static wchar_t next_char(const char *text, size_t left, size_t *used)
{
    wchar_t c = L'?';
    mbstate_t state;

    memset(&state, 0, sizeof(state));
    size_t n = mbrtowc(&c, text, left, &state);
    if (n == (size_t)-1 || n == (size_t)-2 || n == 0) {
        *used = 1;
        return L'?';
    }
    *used = n;
    return iswprint((wint_t)c) && wcwidth(c) >= 0 && !turns_around(c) ? c
                                                                      : L'?';
}

static wchar_t *shown(const char *text)
{
    size_t n = strlen(text);
    wchar_t *out = calloc(CTL_CELL_MAX + 1, sizeof(*out));
    size_t len = 0;

    for (size_t i = 0; out != NULL && i < n && len < CTL_CELL_MAX;) {
        size_t used = 1;
        out[len++] = next_char(text + i, n - i, &used);
        i += used;
    }
    return out;
}

static size_t width_of(const wchar_t *text)
{
    int width = wcswidth(text, CTL_CELL_MAX);

    return width < 0 ? 0 : (size_t)width;
}

static bool add_row(ctl_table_t *table, const char *const *cells)
{
    if (table->rows == table->room) {
        size_t room = table->room ? 2 * table->room : 64;
        wchar_t **more = realloc(table->cells, room * table->columns *
                                                   sizeof(*more));
        if (more == NULL) {
            return false;
        }
        table->cells = more;
        table->room = room;
    }
    for (size_t i = 0; i < table->columns; i++) {
        wchar_t *cell = shown(cells[i] ? cells[i] : "-");
        if (cell == NULL) {
            while (i > 0) {
                free(table->cells[table->rows * table->columns + --i]);
            }
            return false;
        }
        table->cells[table->rows * table->columns + i] = cell;
        size_t width = width_of(cell);
        table->widths[i] = width > table->widths[i] ? width
                                                    : table->widths[i];
    }
    table->rows++;
    return true;
}

ctl_table_t *ctl_table_new(const char *const *headings)
{
    ctl_table_t *table = calloc(1, sizeof(*table));

    if (table == NULL) {
        return NULL;
    }
    while (table->columns < CTL_COLUMNS_MAX &&
           headings[table->columns] != NULL) {
        table->columns++;
    }
    if (!add_row(table, headings)) {
        free(table->cells);
        free(table);
        return NULL;
    }
    return table;
}

bool ctl_table_row(ctl_table_t *table, const char *const *cells)
{
    return table != NULL && add_row(table, cells);
}

/* Columns of the terminal; 0: no terminal, nothing is cut. */
static size_t terminal_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    uint64_t n = 0;

    if (!isatty(STDOUT_FILENO)) {
        return 0;
    }
    if (columns != NULL && mdm_parse_u64(mdm_str_from(columns), 10000, &n) &&
        n > 0) {
        return (size_t)n;
    }
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 80;
}

/* Takes columns from the widest cells until a row fits. */
static void fit(ctl_table_t *table, size_t width)
{
    for (;;) {
        size_t all = GAP * (table->columns - 1);
        size_t widest = 0;
        for (size_t i = 0; i < table->columns; i++) {
            all += table->widths[i];
            widest = table->widths[i] > table->widths[widest] ? i : widest;
        }
        if (width == 0 || all <= width ||
            table->widths[widest] <= NARROWEST) {
            return;
        }
        table->widths[widest]--;
    }
}

static void print_cell(const wchar_t *text, size_t width, bool last)
{
    size_t used = 0;
    bool cut = width_of(text) > width;

    for (const wchar_t *p = text; *p != L'\0'; p++) {
        size_t w = (size_t)(wcwidth(*p) > 0 ? wcwidth(*p) : 0);
        if (used + w > width - (cut ? 1 : 0)) {
            break;
        }
        (void)printf("%lc", (wint_t)*p);
        used += w;
    }
    if (cut) {
        (void)printf("%lc", (wint_t)L'\u2026');
        used++;
    }
    while (!last && used++ < width + GAP) {
        (void)putchar(' ');
    }
}

void ctl_table_end(ctl_table_t **table_r)
{
    ctl_table_t *table = *table_r;

    if (table == NULL) {
        return;
    }
    fit(table, terminal_width());
    for (size_t r = 0; r < table->rows; r++) {
        for (size_t i = 0; i < table->columns; i++) {
            print_cell(table->cells[r * table->columns + i],
                       table->widths[i], i + 1 == table->columns);
        }
        (void)putchar('\n');
    }
    ctl_table_free(table_r);
}

void ctl_table_free(ctl_table_t **table_r)
{
    ctl_table_t *table = *table_r;

    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->rows * table->columns; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table);
    *table_r = NULL;
}

void ctl_print_text(FILE *to, const char *text)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n;) {
        size_t used = 1;
        wchar_t c = next_char(text + i, n - i, &used);
        (void)fprintf(to, "%lc", (wint_t)c);
        i += used;
    }
}

void ctl_print_json(const json_t *json)
{
    (void)json_dumpf(json, stdout, JSON_INDENT(1) | JSON_ENCODE_ANY);
    (void)putchar('\n');
}

const char *ctl_text_of(const json_t *object, const char *name, char *dst,
                        size_t cap)
{
    const json_t *value = json_object_get(object, name);

    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_STRING:
        (void)snprintf(dst, cap, "%s", json_string_value(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(dst, cap, "%lld",
                       (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        (void)snprintf(dst, cap, "%g", json_real_value(value));
        break;
    case JSON_TRUE:
        (void)snprintf(dst, cap, "yes");
        break;
    case JSON_FALSE:
        (void)snprintf(dst, cap, "no");
        break;
    case JSON_ARRAY:
        (void)snprintf(dst, cap, "%zu items", json_array_size(value));
        break;
    case JSON_OBJECT:
    case JSON_NULL:
    default:
        (void)snprintf(dst, cap, "-");
    }
    return dst;
}

static void print_members(const json_t *object, const char *prefix, int depth)
{
    const char *name = NULL;
    json_t *value = NULL;
    char line[CTL_CELL_MAX];
    char text[MDM_ERR_TEXT_MAX];

    /* The library takes no constant object here, and changes nothing. */
    json_object_foreach ((json_t *)object, name, value) {
        (void)snprintf(line, sizeof(line), "%s%s%s", prefix,
                       prefix[0] ? "." : "", name);
        if (json_is_object(value) && depth < DEPTH_MAX) {
            print_members(value, line, depth + 1);
            continue;
        }
        (void)ctl_text_of(object, name, text, sizeof(text));
        ctl_print_text(stdout, line);
        (void)printf("%*s  ", (int)(strlen(line) < 28 ? 28 - strlen(line)
                                                      : 0), "");
        ctl_print_text(stdout, text);
        (void)putchar('\n');
    }
}

void ctl_print_object(const json_t *object)
{
    print_members(object, "", 0);
}

void ctl_progress(size_t done, size_t of)
{
    char bar[31];
    size_t full = of > 0 ? done * (sizeof(bar) - 1) / of : 0;

    if (!isatty(STDERR_FILENO)) {
        return;
    }
    memset(bar, '.', sizeof(bar) - 1);
    memset(bar, '#', full < sizeof(bar) ? full : sizeof(bar) - 1);
    bar[sizeof(bar) - 1] = '\0';
    (void)fprintf(stderr, "\r[%s] %zu of %zu", bar, done, of);
    (void)fflush(stderr);
}

void ctl_progress_end(void)
{
    if (isatty(STDERR_FILENO)) {
        (void)fputs("\r\033[K", stderr);
    }
}
