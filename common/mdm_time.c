/*
 * mdm_time.c - clocks and their text forms.  Calendar arithmetic is our own:
 * no locale, no time zone, no static buffer.
 */
#include "mdm_time.h"

#include <stdio.h>
#include <time.h>

#define DAY_S INT64_C(86400)

static int64_t kernel_us(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * MDM_SEC + ts.tv_nsec / 1000;
}

int64_t mdm_wall_us(const mdm_clock_t *clock)
{
    if (clock != NULL && clock->wall_us != NULL) {
        return clock->wall_us(clock->ctx);
    }
    return kernel_us(CLOCK_REALTIME);
}

int64_t mdm_mono_us(const mdm_clock_t *clock)
{
    if (clock != NULL && clock->mono_us != NULL) {
        return clock->mono_us(clock->ctx);
    }
    return kernel_us(CLOCK_MONOTONIC);
}

/* Years begin in March here, so that the leap day is the last of the year;
 * eras have 400 years (146097 days). */
int64_t mdm_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + doe - 719468;
}

static void civil_from_days(int64_t days, int64_t *year, unsigned *month,
                            unsigned *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;

    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2 ? 1 : 0);
}

void mdm_time_format(int64_t wall_us, char dst[MDM_RFC3339_SIZE])
{
    int64_t s = wall_us / MDM_SEC - (wall_us % MDM_SEC < 0 ? 1 : 0);
    int64_t days = s / DAY_S - (s % DAY_S < 0 ? 1 : 0);
    unsigned rest = (unsigned)(s - days * DAY_S);
    unsigned month;
    unsigned day;
    int64_t year;
    char text[64];
    size_t i;

    civil_from_days(days, &year, &month, &day);
    if (year < 1 || year > 9999) {
        year = year < 1 ? 1 : 9999;
    }
    (void)snprintf(text, sizeof(text), "%04d-%02u-%02uT%02u:%02u:%02uZ",
                   (int)year, month, day, rest / 3600, rest / 60 % 60,
                   rest % 60);
    for (i = 0; i < MDM_RFC3339_SIZE - 1; i++) {
        dst[i] = text[i];
    }
    dst[MDM_RFC3339_SIZE - 1] = '\0';
}

/* Reads exactly `digits` digits at *pos. */
static bool number(mdm_str_t t, size_t *pos, unsigned digits, unsigned *value)
{
    unsigned i;

    *value = 0;
    for (i = 0; i < digits; i++, (*pos)++) {
        if (*pos >= t.n || t.s[*pos] < '0' || t.s[*pos] > '9') {
            return false;
        }
        *value = *value * 10 + (unsigned)(t.s[*pos] - '0');
    }
    return true;
}

static bool literal(mdm_str_t t, size_t *pos, char c)
{
    if (*pos >= t.n || t.s[*pos] != c) {
        return false;
    }
    (*pos)++;
    return true;
}

static unsigned month_days(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30,
                                         31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1U : 0U);
}

/* ".123456789" after the seconds, cut to microseconds. */
static bool fraction(mdm_str_t t, size_t *pos, int64_t *us)
{
    int64_t scale = MDM_SEC / 10;
    size_t start;

    *us = 0;
    if (*pos >= t.n || t.s[*pos] != '.') {
        return true;
    }
    start = ++*pos;
    for (; *pos < t.n && t.s[*pos] >= '0' && t.s[*pos] <= '9'; (*pos)++) {
        *us += (t.s[*pos] - '0') * scale;
        scale /= 10;
    }
    return *pos > start;
}

/* "Z" or "+hh:mm", in seconds east of UTC. */
static bool offset(mdm_str_t t, size_t *pos, int64_t *seconds)
{
    unsigned h;
    unsigned m;
    bool west;

    *seconds = 0;
    if (*pos < t.n && (t.s[*pos] == 'Z' || t.s[*pos] == 'z')) {
        (*pos)++;
        return true;
    }
    west = *pos < t.n && t.s[*pos] == '-';
    if (!west && !(*pos < t.n && t.s[*pos] == '+')) {
        return false;
    }
    (*pos)++;
    if (!number(t, pos, 2, &h) || !literal(t, pos, ':') ||
        !number(t, pos, 2, &m) || h > 23 || m > 59) {
        return false;
    }
    *seconds = (int64_t)(h * 3600 + m * 60) * (west ? -1 : 1);
    return true;
}

bool mdm_time_parse(mdm_str_t t, int64_t *wall_us_r)
{
    unsigned v[6];
    int64_t us;
    int64_t east;
    int64_t s;
    size_t pos = 0;

    if (!number(t, &pos, 4, &v[0]) || !literal(t, &pos, '-') ||
        !number(t, &pos, 2, &v[1]) || !literal(t, &pos, '-') ||
        !number(t, &pos, 2, &v[2]) || pos >= t.n ||
        (t.s[pos] != 'T' && t.s[pos] != 't' && t.s[pos] != ' ')) {
        return false;
    }
    pos++;
    if (!number(t, &pos, 2, &v[3]) || !literal(t, &pos, ':') ||
        !number(t, &pos, 2, &v[4]) || !literal(t, &pos, ':') ||
        !number(t, &pos, 2, &v[5]) || !fraction(t, &pos, &us) ||
        !offset(t, &pos, &east) || pos != t.n) {
        return false;
    }
    if (v[0] < 1 || v[1] < 1 || v[1] > 12 || v[2] < 1 ||
        v[2] > month_days(v[0], v[1]) || v[3] > 23 || v[4] > 59 ||
        v[5] > 59) {
        return false;
    }
    s = mdm_days_from_civil(v[0], v[1], v[2]) * DAY_S + v[3] * 3600 +
        v[4] * 60 + v[5] - east;
    *wall_us_r = s * MDM_SEC + us;
    return true;
}
