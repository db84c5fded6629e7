/*
 * t_store_world.h - a store on an SQLite file in a directory of its own, and
 * short forms of what devices and operators do to it.  For t_store.c,
 * t_enroll.c, t_queue.c, t_outbox.c, t_wake.c and others; one thread but where
 * a test says so.
 * The file is looked at through SQLite itself, beside the code under test.
 */
#ifndef T_STORE_WORLD_H
#define T_STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "mdm_enroll.h"
#include "mdm_queue.h"
#include "mdm_store.h"
#include "mdm_str.h"

#define TOPIC "com.apple.mgmt.External.1"
#define OTHER_TOPIC "com.apple.mgmt.External.2"

typedef struct world {
    char dir[32];
    char file[48];
    mdm_store_t *store;
    mdm_arena_t *arena;
    mdm_err_t err;
    mdm_enroll_result_t enrolled; /* of the last check-in */
    mdm_queue_result_t taken;     /* of the last report */
    int64_t push_repeat_us;       /* of stores that are made */
} world_t;

static inline mdm_store_t *world_store(world_t *w, int64_t timeout_us,
                                       const unsigned char *key)
{
    mdm_store_config_t config = {.url = "sqlite:mdm.db",
                                 .state_dir = w->dir,
                                 .secret_key = key,
                                 .connections = 4,
                                 .timeout_us = timeout_us,
                                 .push_repeat_us = w->push_repeat_us};
    mdm_store_t *store;

    assert_int_equal(mdm_store_new(&config, &store, &w->err), MDM_OK);
    return store;
}

static inline int world_setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_store.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->file, sizeof(w->file), "%s/mdm.db", w->dir);
    w->arena = mdm_arena_new(true);
    assert_non_null(w->arena);
    w->store = world_store(w, 20 * MDM_SEC, NULL);
    *state = w;
    return 0;
}

static inline int remove_one(const char *path, const struct stat *st,
                             int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline int world_teardown(void **state)
{
    world_t *w = *state;

    mdm_store_free(&w->store);
    mdm_arena_free(&w->arena);
    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

/* ---- a look from outside ------------------------------------------------- */

static inline sqlite3 *db_open(const world_t *w)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open_v2(w->file, &db, SQLITE_OPEN_READWRITE,
                                     NULL),
                     SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 5000);
    return db;
}

/* First column of the first row; -1: NULL, -2: no row. */
static inline int64_t db_int(const world_t *w, const char *sql)
{
    sqlite3 *db = db_open(w);
    sqlite3_stmt *st;
    int64_t value = -2;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    if (sqlite3_step(st) == SQLITE_ROW) {
        value = sqlite3_column_type(st, 0) == SQLITE_NULL
                    ? -1
                    : sqlite3_column_int64(st, 0);
    }
    (void)sqlite3_finalize(st);
    (void)sqlite3_close(db);
    return value;
}

static inline void db_run(const world_t *w, const char *sql)
{
    sqlite3 *db = db_open(w);

    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
}

/* ---- devices ------------------------------------------------------------- */

/* The certificate that one letter stands for. */
static inline mdm_speaker_t speaker(char cert)
{
    mdm_speaker_t s;

    memset(&s, 0, sizeof(s));
    memset(s.identity.fingerprint, cert, sizeof(s.identity.fingerprint));
    s.identity.not_after_us = INT64_C(4000000000) * MDM_SEC;
    s.cert = MDM_STR("DER of a certificate");
    return s;
}

/* "D" is a device, "D:U" a user of it. */
static inline mdm_channel_t channel(const char *id)
{
    const char *colon = strchr(id, ':');
    mdm_channel_t c = {MDM_CHANNEL_DEVICE, mdm_str_from(id), mdm_str_from(id)};

    if (colon != NULL) {
        c.type = MDM_CHANNEL_USER;
        c.device.n = (size_t)(colon - id);
    }
    return c;
}

static inline mdm_rc checkin(world_t *w, mdm_checkin_type_t type,
                             const char *id, char cert)
{
    mdm_checkin_t msg = {.type = type, .topic = MDM_STR(TOPIC)};
    mdm_speaker_t s = speaker(cert);

    msg.channel = channel(id);
    if (type == MDM_CHECKIN_TOKEN_UPDATE) {
        msg.token = MDM_STR("token-of-the-device");
        msg.push_magic = MDM_STR("magic-of-the-device");
        msg.unlock_token = MDM_STR("unlock-token-of-the-device");
    } else if (type == MDM_CHECKIN_AUTHENTICATE) {
        msg.serial_number = MDM_STR("SERIAL1");
        msg.device_name = MDM_STR("Ann's Mac");
    }
    return mdm_enroll_apply(w->store, &msg, MDM_STR("raw check-in message"),
                            &s, &w->enrolled, &w->err);
}

static inline void enroll(world_t *w, const char *id, char cert)
{
    assert_int_equal(checkin(w, MDM_CHECKIN_AUTHENTICATE, id, cert), MDM_OK);
    assert_int_equal(checkin(w, MDM_CHECKIN_TOKEN_UPDATE, id, cert), MDM_OK);
}

/* uuid NULL: Idle. */
static inline mdm_rc report_as(world_t *w, const char *id, char cert,
                               mdm_report_status_t status, const char *uuid)
{
    mdm_report_t r = {.status = status, .command_uuid = mdm_str_from(uuid)};
    mdm_speaker_t s = speaker(cert);

    r.channel = channel(id);
    return mdm_queue_report(w->store, &r, MDM_STR("raw report of the device"),
                            &s, w->arena, &w->taken, &w->err);
}

/* Which command the device "D" with certificate 'A' is given; "" for none. */
static inline const char *report(world_t *w, mdm_report_status_t status,
                                 const char *uuid)
{
    mdm_rc rc = report_as(w, "D", 'A', status, uuid);

    if (rc != MDM_OK) {
        fail_msg("report: %s", w->err.text);
    }
    return w->taken.has_command
               ? mdm_arena_dup(w->arena, w->taken.body.s, w->taken.body.n)
               : "";
}

static inline const char *idle(world_t *w)
{
    return report(w, MDM_REPORT_IDLE, NULL);
}

/* ---- operators ----------------------------------------------------------- */

/* Queues a command whose body is its UUID for one enrolment. */
static inline mdm_target_result_t enqueue(world_t *w, const char *uuid,
                                          const char *id, int priority)
{
    mdm_enqueue_t e = {.uuid = mdm_str_from(uuid),
                       .request_type = MDM_STR("DeviceInformation"),
                       .body = mdm_str_from(uuid),
                       .push = true,
                       .priority = priority};
    mdm_target_result_t t = {.id = mdm_str_from(id)};
    size_t queued = 0;
    mdm_rc rc;

    rc = mdm_queue_enqueue(w->store, &e, &t, 1, &queued, &w->err);
    if (rc != MDM_OK) {
        fail_msg("enqueue %s: %s", uuid, w->err.text);
    }
    return t;
}

#define world_test(f)                                                         \
    cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

#endif
