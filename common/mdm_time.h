/*
 * mdm_time.h - clocks and their text forms.  Times are int64_t microseconds:
 * wall time since 1970 UTC, monotonic time since some start.  The host's
 * cached clocks are stale in threads, so the core asks the kernel; tests
 * replace both functions.
 */
#ifndef MDM_TIME_H
#define MDM_TIME_H

#include "mdm_base.h"

typedef struct mdm_clock {
    void *ctx;
    int64_t (*wall_us)(void *ctx); /* NULL: CLOCK_REALTIME */
    int64_t (*mono_us)(void *ctx); /* NULL: CLOCK_MONOTONIC */
} mdm_clock_t;

/* `clock` may be NULL. */
int64_t mdm_wall_us(const mdm_clock_t *clock);
int64_t mdm_mono_us(const mdm_clock_t *clock);

/* "2026-11-25T04:54:00Z" and NUL; years 1 to 9999. */
#define MDM_RFC3339_SIZE 21
void mdm_time_format(int64_t wall_us, char dst[MDM_RFC3339_SIZE]);
/* RFC 3339 with Z or an offset, optional fraction; false when malformed. */
bool mdm_time_parse(mdm_str_t text, int64_t *wall_us_r);
/* Days since 1970-01-01 of a proleptic Gregorian date. */
int64_t mdm_days_from_civil(int64_t year, unsigned month, unsigned day);

#endif
