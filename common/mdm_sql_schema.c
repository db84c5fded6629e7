/*
 * mdm_sql_schema.c - the schema, one step a version, and how a database is
 * brought to the newest.  A step that was released never changes.
 */
#include "mdm_sql.h"

#include <stdio.h>

#include "mdm_log.h"
#include "mdm_str.h"

/* Times are microseconds since 1970; sealed columns end in _s
 * (mdm_seal.h).  A user channel's device_eid names its device channel, a
 * device channel's names itself. */
static const char *const migrations[MDM_SCHEMA_VERSION] = {
    /* Version 1. */
    "CREATE TABLE enrollment ("
    " eid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " device_eid BIGINT NOT NULL, type INTEGER NOT NULL,"
    " state INTEGER NOT NULL, life BIGINT NOT NULL,"
    " topic TEXT, token_s BLOB, magic_s BLOB, token_state INTEGER NOT NULL,"
    " token_at BIGINT NOT NULL, unlock_token_s BLOB,"
    " former_unlock_token_s BLOB, bootstrap_token_s BLOB,"
    " awaiting_configuration INTEGER NOT NULL, tally BIGINT NOT NULL,"
    " serial_number TEXT, device_name TEXT, model TEXT, model_name TEXT,"
    " product_name TEXT, os_version TEXT, build_version TEXT, imei TEXT,"
    " meid TEXT, user_short_name TEXT, user_long_name TEXT,"
    " authenticate_s BLOB, token_update_s BLOB,"
    " created_at BIGINT NOT NULL, authenticate_at BIGINT NOT NULL,"
    " disabled_at BIGINT NOT NULL, last_seen BIGINT NOT NULL);"
    "CREATE INDEX enrollment_device ON enrollment(device_eid);"
    "CREATE INDEX enrollment_serial ON enrollment(serial_number);"
    "CREATE INDEX enrollment_topic ON enrollment(state, topic);"
    "CREATE TABLE identity ("
    " fingerprint BLOB PRIMARY KEY, device_eid BIGINT NOT NULL,"
    " is_current INTEGER NOT NULL, bound_at BIGINT NOT NULL,"
    " not_after BIGINT NOT NULL, certificate BLOB NOT NULL);"
    "CREATE INDEX identity_device ON identity(device_eid);"
    "CREATE TABLE command ("
    " cid INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,"
    " request_type TEXT NOT NULL, body_s BLOB NOT NULL,"
    " created_at BIGINT NOT NULL);"
    /* state: mdm_queue_state_t in mdm_store.h; below 3 is active. */
    "CREATE TABLE queue ("
    " qid INTEGER PRIMARY KEY AUTOINCREMENT, eid BIGINT NOT NULL,"
    " cid BIGINT NOT NULL, state INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, not_before BIGINT NOT NULL,"
    " expires BIGINT NOT NULL, queued_at BIGINT NOT NULL,"
    " sent_at BIGINT NOT NULL, sent_count BIGINT NOT NULL,"
    " not_now_count BIGINT NOT NULL, finished_at BIGINT NOT NULL,"
    " damaged INTEGER NOT NULL, result_s BLOB, UNIQUE (cid, eid));"
    "CREATE INDEX queue_active ON queue(eid, priority DESC, qid)"
    " WHERE state < 3;"
    "CREATE INDEX queue_expires ON queue(expires)"
    " WHERE state < 3 AND expires > 0;"
    "CREATE TABLE push ("
    " eid BIGINT PRIMARY KEY, topic TEXT, due_at BIGINT,"
    " generation BIGINT NOT NULL, sent_generation BIGINT NOT NULL,"
    " claimed_by TEXT, attempts INTEGER NOT NULL, apns_id TEXT NOT NULL,"
    " last_at BIGINT NOT NULL, last_status INTEGER NOT NULL,"
    " last_reason TEXT);"
    "CREATE INDEX push_due ON push(topic, due_at) WHERE due_at IS NOT NULL;"
    "CREATE INDEX push_claimed ON push(claimed_by)"
    " WHERE claimed_by IS NOT NULL;"
    "CREATE TABLE pushcert ("
    " topic TEXT PRIMARY KEY, cert TEXT NOT NULL, key_s BLOB NOT NULL,"
    " fingerprint TEXT NOT NULL, not_before BIGINT NOT NULL,"
    " not_after BIGINT NOT NULL, version BIGINT NOT NULL,"
    " stored_at BIGINT NOT NULL, suspended TEXT);"
    "CREATE TABLE lease ("
    " name TEXT PRIMARY KEY, holder TEXT NOT NULL, expires BIGINT NOT NULL);",
    /* Version 2.  blocked_at: an operator shut the device out; told_at: it was
     * told so.  renewal: 1 issued as one for this device, 2 seen in use, 3
     * found at first use, 0 an ordinary identity (mdm_enroll.h).
     * queue_finished, command_created: what is too old to keep.
     * queue_history: what an enrolment was given; it leaves out active rows,
     * or SQLite would take it for queue_active.
     * silent_at: when to look again whether the device is silent, 0 never
     * looked.  given_up_at: its last push was given up.  accepted_at: APNs
     * first took a push under this certificate, 0 an operator said that it
     * will, NULL neither. */
    "ALTER TABLE enrollment ADD COLUMN blocked_at BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE enrollment ADD COLUMN told_at BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE identity ADD COLUMN renewal INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX queue_finished ON queue(finished_at) WHERE state >= 3;"
    "CREATE INDEX queue_history ON queue(eid, qid) WHERE state >= 3;"
    "CREATE INDEX command_created ON command(created_at, cid);",
    /* Version 3.  Which push of the row APNs answered last: its generation,
     * the id it went out under, and the time in a 410. */
    "ALTER TABLE push ADD COLUMN last_generation BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE push ADD COLUMN last_id TEXT;"
    "ALTER TABLE push ADD COLUMN last_timestamp BIGINT NOT NULL DEFAULT 0;"
    "ALTER TABLE enrollment ADD COLUMN silent_at BIGINT NOT NULL DEFAULT 0;"
    "CREATE INDEX enrollment_silent"
    " ON enrollment(state, token_state, silent_at) WHERE device_eid = eid;"
    "ALTER TABLE push ADD COLUMN given_up_at BIGINT NOT NULL DEFAULT 0;"
    "CREATE INDEX push_given_up ON push(eid) WHERE given_up_at > 0;"
    "ALTER TABLE pushcert ADD COLUMN accepted_at BIGINT;"
    "ALTER TABLE pushcert ADD COLUMN suspended_at BIGINT NOT NULL DEFAULT 0;",
    /* Version 4.  event: what happened, in order (mdm_store_event.c).
     * notice: what an operator was told of a certificate, so that he is told
     * once. */
    "CREATE TABLE event ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL,"
    " topic TEXT NOT NULL, created_at BIGINT NOT NULL, enrollment_id TEXT,"
    " body_s BLOB NOT NULL);"
    "CREATE INDEX event_created ON event(created_at);"
    "CREATE TABLE notice ("
    " subject TEXT PRIMARY KEY, step BIGINT NOT NULL,"
    " told_at BIGINT NOT NULL);"
    /* challenge: the right to one certificate, by the SHA-256 of its text.
     * authority: 0 next, 1 current, 2 former.  issued: what authorities,
     * these or one from files, have signed; request: SHA-256 of who asked
     * and in which transaction; proof: of that and the challenge. */
    "CREATE TABLE challenge ("
    " hash BLOB PRIMARY KEY, purpose INTEGER NOT NULL, device_id TEXT,"
    " serial_number TEXT, common_name TEXT, created_at BIGINT NOT NULL,"
    " expires_at BIGINT NOT NULL);"
    "CREATE INDEX challenge_expires ON challenge(expires_at);"
    "CREATE TABLE authority ("
    " fingerprint TEXT PRIMARY KEY, state INTEGER NOT NULL,"
    " certificate BLOB NOT NULL, key_s BLOB NOT NULL,"
    " not_after BIGINT NOT NULL, created_at BIGINT NOT NULL);"
    "CREATE UNIQUE INDEX authority_one ON authority(state) WHERE state < 2;"
    "CREATE INDEX authority_state ON authority(state);"
    "CREATE TABLE issued ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT, serial BLOB NOT NULL UNIQUE,"
    " fingerprint BLOB NOT NULL UNIQUE, request BLOB NOT NULL,"
    " proof BLOB NOT NULL, asked BLOB NOT NULL, authority TEXT NOT NULL,"
    " subject TEXT NOT NULL,"
    " device_id TEXT, serial_number TEXT, certificate BLOB NOT NULL,"
    " issued_at BIGINT NOT NULL, not_after BIGINT NOT NULL,"
    " revoked_at BIGINT NOT NULL DEFAULT 0);"
    "CREATE INDEX issued_request ON issued(request, number);"
    "CREATE INDEX issued_authority ON issued(authority, not_after);"
    "CREATE INDEX issued_end ON issued(not_after);"
    /* What comes before an enrolment.  account_token: a log-in (kind 1) or
     * the right to go on over the air (2), by its SHA-256; device_eid: which
     * device was enrolled with it.  introduction: what a device said of
     * itself, verified or not. */
    "CREATE TABLE account_token ("
    " tid INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE,"
    " kind INTEGER NOT NULL, account TEXT NOT NULL,"
    " device_eid BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL,"
    " expires_at BIGINT NOT NULL, used_at BIGINT NOT NULL DEFAULT 0,"
    " revoked_at BIGINT NOT NULL DEFAULT 0);"
    "CREATE INDEX account_token_kind ON account_token(kind, tid);"
    "CREATE INDEX account_token_account ON account_token(account, tid);"
    "CREATE INDEX account_token_device ON account_token(device_eid, tid)"
    " WHERE device_eid > 0;"
    "CREATE INDEX account_token_unused ON account_token(expires_at)"
    " WHERE device_eid = 0;"
    "CREATE TABLE introduction ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " verified INTEGER NOT NULL, flow TEXT NOT NULL, answer TEXT NOT NULL,"
    " account TEXT, serial TEXT, udid TEXT, product TEXT, os_version TEXT,"
    " build TEXT, language TEXT, peer TEXT, first_at BIGINT NOT NULL,"
    " last_at BIGINT NOT NULL, count BIGINT NOT NULL DEFAULT 1);"
    "CREATE INDEX introduction_last ON introduction(last_at);"
    "CREATE INDEX introduction_claims ON introduction(last_at)"
    " WHERE verified = 0;"
    /* unlock_token_at: the byte of the opened body before which each
     * device's own unlock token goes, 0 nowhere. */
    "ALTER TABLE command"
    " ADD COLUMN unlock_token_at BIGINT NOT NULL DEFAULT 0;",
};

static mdm_rc found_version(mdm_tx_t *tx, int *version_r, mdm_err_t *err)
{
    mdm_query_t q;
    uint64_t version = 0;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t",
                    MDM_STR("schema_version"));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row &&
        !mdm_parse_u64(mdm_query_str(&q, 0), INT32_MAX, &version)) {
        rc = mdm_err_set(err, MDM_ECONFIG, MDM_MSG_STORE_UNAVAILABLE,
                         "the database belongs to another program");
    }
    mdm_query_end(&q);
    *version_r = (int)version;
    return rc;
}

static mdm_rc migrate_from(mdm_tx_t *tx, int from, mdm_err_t *err)
{
    char text[16];
    mdm_rc rc = MDM_OK;
    int v;

    if (from > MDM_SCHEMA_VERSION) {
        return mdm_err_set(err, MDM_ECONFIG, MDM_MSG_STORE_NEWER,
                           "the database has schema version %d, this module "
                           "knows %d",
                           from, MDM_SCHEMA_VERSION);
    }
    for (v = from; rc == MDM_OK && v < MDM_SCHEMA_VERSION; v++) {
        rc = tx->driver->exec(tx->conn, migrations[v], err);
    }
    if (rc == MDM_OK && from < MDM_SCHEMA_VERSION) {
        (void)snprintf(text, sizeof(text), "%d", MDM_SCHEMA_VERSION);
        rc = mdm_sql_run(tx, MDM_SQL_META_SET, NULL, err, "tt",
                         MDM_STR("schema_version"), mdm_str_from(text));
    }
    return rc;
}

mdm_rc mdm_sql_migrate(mdm_tx_t *tx, int64_t until_us, int *from_r,
                       mdm_err_t *err)
{
    mdm_rc rc;

    rc = tx->driver->begin(tx->conn, until_us, err);
    if (rc != MDM_OK) {
        return rc;
    }
    rc = tx->driver->exec(tx->conn,
                          "CREATE TABLE IF NOT EXISTS meta ("
                          " name TEXT PRIMARY KEY, value TEXT NOT NULL);",
                          err);
    if (rc == MDM_OK) {
        rc = found_version(tx, from_r, err);
    }
    if (rc == MDM_OK) {
        rc = migrate_from(tx, *from_r, err);
    }
    if (rc == MDM_OK) {
        rc = tx->driver->commit(tx->conn, err);
    }
    if (rc != MDM_OK) {
        tx->driver->rollback(tx->conn);
    }
    return rc;
}
