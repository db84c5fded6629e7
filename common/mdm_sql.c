/*
 * mdm_sql.c - the text of every statement, and the small layer that runs
 * statements on any driver.  Every query has an index behind it
 * (mdm_sql_schema.c).
 */
#include "mdm_sql.h"

#include <stdarg.h>
#include "mdm_str.h"

/* What a device may be given now. */
#define DELIVERABLE                                                           \
    "state < 3 AND not_before <= ?2 AND (expires = 0 OR expires > ?2)"

/* A push that the device's own coming makes needless: due, being repeated
 * after a fault, given up, or under way and not known to be needless.  Not
 * one that is to go out later: it must not turn an idle poll into a write. */
#define PUSH_PENDING                                                          \
    "((p.due_at IS NOT NULL AND (p.due_at <= ?2 OR p.attempts > 0)) OR"       \
    " (p.claimed_by IS NOT NULL AND p.sent_generation >= 0) OR"               \
    " p.given_up_at > 0)"
/* When to push again by ourselves: at `at` (NULL: never) for commands that
 * wait now, and when the next one may be delivered; NULL where nothing waits
 * or the device cannot be woken or was told to leave. */
#define NEXT_PUSH(now, at)                                                    \
    "(SELECT MIN(CASE WHEN q.not_before > " now " THEN q.not_before"          \
    " WHEN q.expires = 0 OR q.expires > " at " THEN " at " END)"              \
    " FROM queue q JOIN enrollment qe ON qe.eid = q.eid"                      \
    " JOIN enrollment qd ON qd.eid = qe.device_eid"                           \
    " WHERE q.eid = ?1 AND q.state < 3 AND"                                   \
    " (q.expires = 0 OR q.expires > " now ") AND qe.state = 1"                \
    " AND qe.token_state = 1 AND qd.told_at = 0)"

static const char *const statements[MDM_SQL_COUNT] = {
    [MDM_SQL_META_GET] = "SELECT value FROM meta WHERE name = ?1",
    [MDM_SQL_META_ADD] = "INSERT INTO meta (name, value) VALUES (?1, ?2)"
                         " ON CONFLICT (name) DO NOTHING",
    [MDM_SQL_META_SET] = "INSERT INTO meta (name, value) VALUES (?1, ?2)"
                         " ON CONFLICT (name) DO UPDATE SET"
                         " value = excluded.value",
    [MDM_SQL_META_DELETE] = "DELETE FROM meta WHERE name = ?1",
    /* All an idle poll needs: who it is, whether the certificate speaks for
     * it, what waits. */
    [MDM_SQL_POLL] =
        "SELECT e.eid, e.device_eid, e.state, d.state, i.device_eid,"
        " i.is_current, " PUSH_PENDING ","
        " (SELECT qid FROM queue WHERE eid = e.eid AND " DELIVERABLE
        "  ORDER BY priority DESC, qid LIMIT 1), e.topic, i.renewal,"
        " d.blocked_at, EXISTS (SELECT 1 FROM issued WHERE fingerprint = ?3"
        " AND revoked_at > 0) FROM enrollment e"
        " JOIN enrollment d ON d.eid = e.device_eid"
        " LEFT JOIN identity i ON i.fingerprint = ?3"
        " LEFT JOIN push p ON p.eid = e.eid WHERE e.id = ?1",
#define ENROLLMENT_COLUMNS                                                    \
    "e.eid, e.id, e.device_eid, e.type, e.state, e.topic, e.token_state,"     \
    " e.token_at, e.tally, e.awaiting_configuration, e.serial_number,"        \
    " e.device_name, e.model, e.model_name, e.product_name, e.os_version,"    \
    " e.build_version, e.user_short_name, e.created_at, e.authenticate_at,"   \
    " e.disabled_at, e.last_seen, p.due_at, p.attempts, p.last_at,"           \
    " p.last_status, p.last_reason, p.apns_id, d.id, d.blocked_at,"           \
    " d.told_at, e.unlock_token_s IS NOT NULL,"                               \
    " e.bootstrap_token_s IS NOT NULL, p.claimed_by IS NOT NULL,"             \
    " p.given_up_at, c.topic IS NOT NULL, c.suspended IS NOT NULL"
#define ENROLLMENT_MORE                                                       \
    " LEFT JOIN enrollment d ON d.eid = e.device_eid"                         \
    " LEFT JOIN pushcert c ON c.topic = e.topic"
#define ENROLLMENT_ROWS                                                       \
    "SELECT " ENROLLMENT_COLUMNS " FROM enrollment e"                         \
    " LEFT JOIN push p ON p.eid = e.eid" ENROLLMENT_MORE
    [MDM_SQL_ENROLLMENT_GET] = ENROLLMENT_ROWS " WHERE e.id = ?1",
    [MDM_SQL_ENROLLMENT_LIST] =
        ENROLLMENT_ROWS " WHERE e.eid > ?1 ORDER BY e.eid LIMIT ?2",
    [MDM_SQL_ENROLLMENT_BY_SERIAL] = ENROLLMENT_ROWS
        " WHERE e.serial_number = ?3 AND e.eid > ?1 ORDER BY e.eid LIMIT ?2",
    [MDM_SQL_ENROLLMENT_GIVEN_UP] =
        "SELECT " ENROLLMENT_COLUMNS " FROM push p"
        " JOIN enrollment e ON e.eid = p.eid" ENROLLMENT_MORE
        " WHERE p.given_up_at > 0 AND p.eid > ?1 ORDER BY p.eid LIMIT ?2",
    [MDM_SQL_ENROLLMENT_ADD] =
        "INSERT INTO enrollment (id, device_eid, type, state, life,"
        " token_state, token_at, awaiting_configuration, tally, created_at,"
        " authenticate_at, disabled_at, last_seen)"
        " VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, ?5, 0, 0, ?5) RETURNING eid",
    [MDM_SQL_ENROLLMENT_SET_DEVICE] =
        "UPDATE enrollment SET device_eid = eid WHERE eid = ?1",
#define AUTHENTICATE_SET                                                      \
    "UPDATE enrollment SET state = ?2, topic = ?3, token_s = NULL,"           \
    " magic_s = NULL, token_state = 0, token_at = 0, serial_number = ?4,"     \
    " device_name = ?5, model = ?6, model_name = ?7, product_name = ?8,"      \
    " os_version = ?9, build_version = ?10, imei = ?11, meid = ?12,"          \
    " authenticate_s = ?13, token_update_s = NULL, authenticate_at = ?14,"    \
    " disabled_at = 0, last_seen = ?14"
    [MDM_SQL_AUTHENTICATE] = AUTHENTICATE_SET
        ", life = life + 1, former_unlock_token_s ="
        " COALESCE(unlock_token_s, former_unlock_token_s),"
        " unlock_token_s = NULL, bootstrap_token_s = NULL,"
        " awaiting_configuration = 0, tally = 0 WHERE eid = ?1",
    [MDM_SQL_AUTHENTICATE_RENEWED] = AUTHENTICATE_SET " WHERE eid = ?1",
    [MDM_SQL_TOKEN_UPDATE] =
        "UPDATE enrollment SET state = ?2, topic = ?3, token_s = ?4,"
        " magic_s = ?5, token_state = 1, token_at = ?6,"
        " unlock_token_s = COALESCE(?7, unlock_token_s),"
        " awaiting_configuration = COALESCE(?8, awaiting_configuration),"
        " tally = tally + 1, user_short_name ="
        " COALESCE(?9, user_short_name), user_long_name ="
        " COALESCE(?10, user_long_name), token_update_s = ?11,"
        " disabled_at = 0, last_seen = ?6 WHERE eid = ?1 RETURNING tally",
    [MDM_SQL_DISABLE_USERS] =
        "UPDATE enrollment SET state = ?2, token_s = NULL, magic_s = NULL,"
        " token_state = 0, tally = 0, disabled_at = ?3"
        " WHERE device_eid = ?1 AND eid <> ?1",
    [MDM_SQL_DISABLE_ALL] =
        "UPDATE enrollment SET state = ?2, token_s = NULL, magic_s = NULL,"
        " token_state = 0, disabled_at = ?3 WHERE device_eid = ?1",
    [MDM_SQL_SEEN] = "UPDATE enrollment SET last_seen = ?2"
                     " WHERE eid = ?1 AND last_seen < ?2",
    /* Devices that can be woken, by when they are to be looked at. */
    [MDM_SQL_SILENT_GET] =
        "SELECT eid, topic, last_seen, silent_at FROM enrollment"
        " WHERE state = 1 AND token_state = 1 AND device_eid = eid"
        " AND silent_at >= ?1 AND silent_at <= ?2"
        " ORDER BY silent_at LIMIT ?3",
    [MDM_SQL_SILENT_SET] =
        "UPDATE enrollment SET silent_at = ?2 WHERE eid = ?1",
    [MDM_SQL_BLOCK] = "UPDATE enrollment SET blocked_at = ?2, told_at = 0"
                      " WHERE eid = ?1",
    [MDM_SQL_BLOCKED_GET] = "SELECT eid, told_at, product_name, os_version,"
                            " blocked_at FROM enrollment WHERE id = ?1",
    [MDM_SQL_BLOCKED_TOLD] =
        "UPDATE enrollment SET told_at = ?2 WHERE eid = ?1 AND told_at = 0",
    [MDM_SQL_BOOTSTRAP_TOKEN_SET] =
        "UPDATE enrollment SET bootstrap_token_s = ?2 WHERE eid = ?1",
    [MDM_SQL_SECRET_GET] = "SELECT unlock_token_s, bootstrap_token_s"
                           " FROM enrollment WHERE eid = ?1",
    [MDM_SQL_TOPIC_COUNT_OTHER] =
        "SELECT COUNT(*), MAX(topic), SUM(topic = ?1) FROM enrollment"
        " WHERE state = ?2 AND topic IS NOT NULL",
    [MDM_SQL_TOPIC_USERS] = "SELECT 1 FROM enrollment"
                            " WHERE state = ?2 AND topic = ?1 LIMIT ?3",
    [MDM_SQL_IDENTITY_GET] =
        "SELECT device_eid, is_current, renewal FROM identity"
        " WHERE fingerprint = ?1",
    [MDM_SQL_OWNER_GET] =
        "SELECT state, blocked_at FROM enrollment WHERE eid = ?1",
    [MDM_SQL_IDENTITY_ANY] =
        "SELECT MAX(renewal <> ?2) FROM identity WHERE device_eid = ?1",
    [MDM_SQL_IDENTITY_RENEWAL] =
        "UPDATE identity SET renewal = ?2"
        " WHERE fingerprint = ?1 AND renewal <> ?2",
    [MDM_SQL_IDENTITY_RETIRE] =
        "UPDATE identity SET is_current = 0"
        " WHERE device_eid = ?1 AND is_current = 1 AND fingerprint <> ?2"
        /* One that was issued later and waits to be seen stays. */
        " AND (renewal <> 1 OR bound_at < (SELECT bound_at FROM identity"
        " WHERE fingerprint = ?2))",
    [MDM_SQL_IDENTITY_BIND] =
        "INSERT INTO identity (fingerprint, device_eid, is_current, bound_at,"
        " not_after, certificate, renewal)"
        " VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6)"
        " ON CONFLICT (fingerprint) DO UPDATE SET is_current = 1,"
        " bound_at = excluded.bound_at, renewal = excluded.renewal",
    [MDM_SQL_IDENTITY_CURRENT] =
        "SELECT fingerprint, not_after, bound_at FROM identity"
        " WHERE device_eid = ?1 AND is_current = 1"
        " ORDER BY bound_at DESC LIMIT 1",
    [MDM_SQL_COMMAND_ADD] =
        "INSERT INTO command (uuid, request_type, body_s, created_at)"
        " VALUES (?1, ?2, ?3, ?4) RETURNING cid",
    [MDM_SQL_COMMAND_GET] = "SELECT cid, request_type, created_at"
                            " FROM command WHERE uuid = ?1",
    [MDM_SQL_COMMAND_UNLOCKS] =
        "UPDATE command SET unlock_token_at = ?2 WHERE cid = ?1",
    [MDM_SQL_TARGET] =
        "SELECT eid, state, token_state, topic FROM enrollment WHERE id = ?1",
    [MDM_SQL_TARGET_DEVICE] =
        "SELECT e.type, d.product_name, d.model_name, d.os_version,"
        " d.unlock_token_s IS NOT NULL FROM enrollment e"
        " JOIN enrollment d ON d.eid = e.device_eid WHERE e.eid = ?1",
    [MDM_SQL_QUEUE_ADD] =
        "INSERT INTO queue (eid, cid, state, priority, not_before, expires,"
        " queued_at, sent_at, sent_count, not_now_count, finished_at,"
        " damaged) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, 0, 0, 0, 0, 0)",
    [MDM_SQL_QUEUE_FIND] =
        "SELECT q.qid, q.state, q.cid FROM command c"
        " JOIN queue q ON q.cid = c.cid AND q.eid = ?1 WHERE c.uuid = ?2",
    [MDM_SQL_QUEUE_NEXT] =
        "SELECT q.qid, c.uuid, c.body_s, c.unlock_token_at FROM queue q"
        " JOIN command c ON c.cid = q.cid WHERE q.qid ="
        " (SELECT qid FROM queue WHERE eid = ?1 AND " DELIVERABLE
        "  ORDER BY priority DESC, qid LIMIT 1)",
    [MDM_SQL_QUEUE_NEXT_SKIP] =
        "SELECT q.qid, c.uuid, c.body_s, c.unlock_token_at FROM queue q"
        " JOIN command c ON c.cid = q.cid WHERE q.qid ="
        " (SELECT qid FROM queue WHERE eid = ?1 AND " DELIVERABLE
        "  AND state <> 2 ORDER BY priority DESC, qid LIMIT 1)",
    [MDM_SQL_QUEUE_SENT] =
        "UPDATE queue SET state = CASE state WHEN 2 THEN 2 ELSE 1 END,"
        " sent_at = ?2, sent_count = sent_count + 1 WHERE qid = ?1",
    [MDM_SQL_QUEUE_NOT_NOW] =
        "UPDATE queue SET state = 2, not_now_count = not_now_count + 1"
        " WHERE qid = ?1",
    [MDM_SQL_QUEUE_FINISH] =
        "UPDATE queue SET state = ?2, finished_at = ?3, result_s = ?4,"
        " damaged = ?5 WHERE qid = ?1",
    [MDM_SQL_QUEUE_RETIRE] =
        "UPDATE queue SET state = ?2, finished_at = ?3 WHERE state < 3"
        " AND eid IN (SELECT eid FROM enrollment WHERE device_eid = ?1)",
    [MDM_SQL_QUEUE_EXPIRED] =
        "SELECT 1 FROM queue WHERE state < 3 AND expires > 0"
        " AND expires <= ?1 LIMIT 1",
    [MDM_SQL_QUEUE_EXPIRE] =
        "UPDATE queue SET state = ?2, finished_at = ?1 WHERE qid IN"
        " (SELECT qid FROM queue WHERE state < 3 AND expires > 0"
        " AND expires <= ?1 ORDER BY expires LIMIT ?3) RETURNING eid",
    [MDM_SQL_RESULTS_OLD] =
        "SELECT qid, COALESCE(LENGTH(result_s), 0) FROM queue"
        " WHERE state >= 3 AND finished_at <= ?1"
        " ORDER BY finished_at LIMIT ?2",
    [MDM_SQL_RESULT_PRUNE] =
        "DELETE FROM queue WHERE qid = ?1 AND state >= 3"
        " AND finished_at <= ?2",
    /* Old commands behind a mark, and whether an enrolment has them still. */
    [MDM_SQL_COMMANDS_OLD] =
        "SELECT c.cid, COALESCE(LENGTH(c.body_s), 0), c.created_at,"
        " EXISTS (SELECT 1 FROM queue q WHERE q.cid = c.cid) FROM command c"
        " WHERE c.created_at <= ?1 AND c.created_at >= ?2"
        " AND (c.created_at > ?2 OR c.cid > ?3)"
        " ORDER BY c.created_at, c.cid LIMIT ?4",
    [MDM_SQL_COMMAND_PRUNE] =
        "DELETE FROM command WHERE cid = ?1"
        " AND NOT EXISTS (SELECT 1 FROM queue WHERE cid = ?1)",
    [MDM_SQL_QUEUE_PUT_OFF] =
        "SELECT MIN(not_now_count) FROM queue WHERE eid = ?1 AND " DELIVERABLE
        " AND state = 2",
#define QUEUE_LIST(which)                                                     \
    "SELECT q.qid, c.uuid, c.request_type, q.state, q.priority,"              \
    " q.queued_at, q.not_before, q.expires, q.sent_at, q.sent_count,"         \
    " q.not_now_count, q.finished_at, q.damaged FROM queue q"                 \
    " JOIN command c ON c.cid = q.cid WHERE q.eid = ?1 AND q.qid > ?2"        \
    " AND q.state " which " AND q.state BETWEEN ?3 AND ?4"                    \
    " ORDER BY q.qid LIMIT ?5"
    [MDM_SQL_QUEUE_LIST_ACTIVE] = QUEUE_LIST("< 3"),
    [MDM_SQL_QUEUE_LIST_OVER] = QUEUE_LIST(">= 3"),
    [MDM_SQL_QUEUE_CANCEL] = "UPDATE queue SET state = ?2, finished_at = ?3"
                             " WHERE qid = ?1 AND state < 3",
    [MDM_SQL_QUEUE_CANCEL_ALL] =
        "UPDATE queue SET state = ?2, finished_at = ?3"
        " WHERE eid = ?1 AND state < 3",
    [MDM_SQL_QUEUE_COUNTS] = "SELECT state, COUNT(*) FROM queue"
                             " WHERE eid = ?1 AND state < 3 GROUP BY state",
    [MDM_SQL_COMMAND_STATES] =
        "SELECT e.id, q.state, q.queued_at, q.sent_at, q.sent_count,"
        " q.not_now_count, q.finished_at, q.damaged, q.eid FROM queue q"
        " JOIN enrollment e ON e.eid = q.eid"
        " WHERE q.cid = ?1 AND q.eid > ?2 ORDER BY q.eid LIMIT ?3",
    [MDM_SQL_RESULT_GET] =
        "SELECT q.qid, q.result_s, q.state FROM command c"
        " JOIN enrollment e ON e.id = ?2"
        " JOIN queue q ON q.cid = c.cid AND q.eid = e.eid WHERE c.uuid = ?1",
    /* Ten commands make one push: a row that is due already keeps its id,
     * one in flight becomes due again when its answer comes, one that APNs
     * put off keeps its pause.  One that we planned ourselves becomes a push
     * of its own.  In flight the due time is at most one behind every
     * answer's time limit, so that a lost answer delays nothing for long.
     * sent_generation below 0 says that the device has come since the push
     * was sent: its answer then changes no due time. */
    [MDM_SQL_PUSH_MARK] =
        "INSERT INTO push (eid, topic, due_at, generation, sent_generation,"
        " attempts, apns_id, last_at, last_status)"
        " VALUES (?1, ?2, ?3, 1, 0, 0, ?4, 0, 0)"
        " ON CONFLICT (eid) DO UPDATE SET topic = excluded.topic,"
        " generation = push.generation + 1,"
        " sent_generation = CASE WHEN push.sent_generation < 0 THEN 0"
        " ELSE push.sent_generation END,"
        " attempts = CASE WHEN push.due_at IS NULL THEN 0"
        " ELSE push.attempts END,"
        " due_at = CASE WHEN push.claimed_by IS NOT NULL"
        " THEN CASE WHEN push.due_at < excluded.due_at + 900000000"
        " THEN push.due_at ELSE excluded.due_at + 900000000 END"
        " WHEN push.due_at IS NULL OR (push.attempts = 0 AND"
        " push.due_at > excluded.due_at) THEN excluded.due_at"
        " ELSE push.due_at END, given_up_at = 0,"
        " apns_id = CASE WHEN push.due_at IS NOT NULL AND"
        " push.claimed_by IS NULL AND (push.attempts > 0 OR"
        " (push.sent_generation >= 0 AND"
        " push.sent_generation <> push.generation)) THEN push.apns_id"
        " ELSE excluded.apns_id END RETURNING apns_id, generation",
    [MDM_SQL_QUEUE_WAITING] =
        "SELECT 1 FROM queue WHERE eid = ?1 AND " DELIVERABLE " LIMIT 1",
    [MDM_SQL_PUSH_GET] = "SELECT due_at FROM push WHERE eid = ?1",
    /* The id of a push that somebody asked for and that never left stays, and
     * that of the last one where no other follows. */
    [MDM_SQL_PUSH_PLAN] =
        "UPDATE push SET due_at = " NEXT_PUSH("?2", "?3") ", attempts = 0,"
        " given_up_at = 0, topic = (SELECT topic FROM enrollment WHERE eid ="
        " ?1), apns_id = CASE WHEN claimed_by IS NOT NULL OR"
        " (sent_generation >= 0 AND sent_generation <> generation)"
        " OR " NEXT_PUSH("?2", "?3") " IS NULL"
        " THEN apns_id ELSE ?4 END, sent_generation = -1 WHERE eid = ?1",
    [MDM_SQL_PUSH_PLAN_ADD] =
        "INSERT INTO push (eid, topic, due_at, generation, sent_generation,"
        " attempts, apns_id, last_at, last_status)"
        " SELECT n.eid, n.topic, n.due, 1, -1, 0, ?4, 0, 0 FROM"
        " (SELECT eid, topic, " NEXT_PUSH("?2", "?3") " AS due"
        " FROM enrollment WHERE eid = ?1) n WHERE n.due IS NOT NULL",
    [MDM_SQL_PUSH_SETTLE] =
        "UPDATE push SET due_at = NULL, attempts = 0, sent_generation = -1"
        " WHERE eid = ?1 AND due_at IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM queue WHERE eid = ?1 AND state < 3)",
    [MDM_SQL_PUSH_CLEAR_DEVICE] =
        "UPDATE push SET due_at = NULL, claimed_by = NULL, attempts = 0,"
        " given_up_at = 0 WHERE eid IN"
        " (SELECT eid FROM enrollment WHERE device_eid = ?1)",
    [MDM_SQL_PUSH_NEXT_DUE] =
        "SELECT MIN(due_at) FROM push"
        " WHERE topic = ?1 AND due_at IS NOT NULL",
    /* A claim moves the due time behind the answer's time limit: a claim
     * that nobody finishes becomes due again by itself. */
    [MDM_SQL_PUSH_CLAIM] =
        "UPDATE push SET claimed_by = ?2, due_at = ?4, given_up_at = 0,"
        " sent_generation = generation WHERE eid IN"
        " (SELECT eid FROM push WHERE topic = ?1 AND due_at IS NOT NULL"
        " AND due_at <= ?3 ORDER BY due_at LIMIT ?5)"
        " RETURNING eid, apns_id, attempts",
    [MDM_SQL_PUSH_PAYLOAD] =
        "SELECT id, token_s, magic_s, token_at, token_state, topic,"
        " device_eid FROM enrollment WHERE eid = ?1",
/* What APNs said of the push that went out; of one that nobody asked for, or
 * that was called off meanwhile, the generation does not count. */
#define ANSWERED                                                              \
    " claimed_by = NULL, last_at = ?3, last_status = ?4, last_reason = ?5,"   \
    " last_id = ?7, last_timestamp = ?8, last_generation ="                   \
    " CASE WHEN sent_generation > 0 THEN sent_generation"                     \
    " ELSE last_generation END WHERE eid = ?1 AND claimed_by = ?2"
    [MDM_SQL_PUSH_DONE] =
        "UPDATE push SET due_at = CASE WHEN sent_generation < 0 THEN due_at"
        " WHEN due_at IS NULL OR generation = sent_generation"
        " THEN " NEXT_PUSH("?3", "?6") " ELSE ?3 END,"
        " given_up_at = CASE WHEN sent_generation < 0 OR"
        " generation <> sent_generation THEN 0 ELSE ?9 END,"
        " attempts = 0," ANSWERED,
    [MDM_SQL_PUSH_RETRY] =
        "UPDATE push SET due_at = CASE WHEN due_at IS NULL OR"
        " sent_generation < 0 THEN due_at ELSE ?6 END,"
        " attempts = CASE WHEN sent_generation < 0 THEN 0"
        " ELSE attempts + 1 END," ANSWERED,
    [MDM_SQL_PUSH_STATE] =
        "SELECT p.due_at, p.claimed_by IS NOT NULL, p.sent_generation,"
        " p.attempts, p.last_generation, p.last_status, p.last_timestamp,"
        " p.last_reason, p.last_id, c.topic IS NOT NULL, c.suspended"
        " FROM push p LEFT JOIN pushcert c ON c.topic = p.topic"
        " WHERE p.eid = ?1",
    [MDM_SQL_PUSH_BACKLOG] =
        "SELECT 1 FROM push WHERE topic = ?1 AND due_at IS NOT NULL"
        " AND due_at <= ?2 ORDER BY due_at LIMIT 1 OFFSET ?3",
    [MDM_SQL_PUSH_GIVEN_UP] =
        "SELECT COUNT(*) FROM push WHERE given_up_at > 0 AND eid > 0",
    [MDM_SQL_PUSH_TOKEN_REFUSED] =
        "UPDATE enrollment SET token_state = ?3"
        " WHERE eid = ?1 AND token_at = ?2 AND token_state = 1",
    [MDM_SQL_PUSH_TOKEN_REVIVE] =
        "UPDATE enrollment SET token_state = 1"
        " WHERE eid = ?1 AND token_at = ?2 AND token_state = 3",
#define GIVE_BACK                                                             \
    "UPDATE push SET due_at = CASE WHEN due_at IS NULL OR"                    \
    " sent_generation < 0 THEN due_at ELSE ?2 END,"                           \
    " sent_generation = CASE WHEN sent_generation < 0 THEN sent_generation"   \
    " ELSE 0 END, claimed_by = NULL"
    [MDM_SQL_PUSH_RELEASE] =
        GIVE_BACK " WHERE claimed_by = ?1",
    [MDM_SQL_PUSH_RECOVER] =
        GIVE_BACK " WHERE claimed_by IS NOT NULL AND claimed_by <> ?1",
    [MDM_SQL_PUSHCERT_GET] =
        "SELECT topic, cert, key_s, fingerprint, not_before, not_after,"
        " version, suspended, suspended_at, accepted_at FROM pushcert"
        " WHERE topic = ?1",
    [MDM_SQL_PUSHCERT_KNOWN] = "SELECT 1 FROM pushcert WHERE topic = ?1",
    [MDM_SQL_PUSHCERT_VERSION] =
        "SELECT version, suspended IS NOT NULL FROM pushcert"
        " WHERE topic = ?1",
    [MDM_SQL_PUSHCERT_LIST] =
        "SELECT topic, not_after, version, suspended, accepted_at,"
        " fingerprint, suspended_at FROM pushcert ORDER BY topic",
    /* The very same certificate again is as good as it was. */
    [MDM_SQL_PUSHCERT_SET] =
        "INSERT INTO pushcert (topic, cert, key_s, fingerprint, not_before,"
        " not_after, version, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1,"
        " ?7) ON CONFLICT (topic) DO UPDATE SET cert = excluded.cert,"
        " key_s = excluded.key_s, fingerprint = excluded.fingerprint,"
        " not_before = excluded.not_before, not_after = excluded.not_after,"
        " version = pushcert.version + 1, stored_at = excluded.stored_at,"
        " suspended = NULL, suspended_at = 0, accepted_at = CASE WHEN"
        " pushcert.fingerprint = excluded.fingerprint"
        " THEN pushcert.accepted_at END",
    [MDM_SQL_PUSHCERT_SUSPEND] =
        "UPDATE pushcert SET suspended = ?2, suspended_at = ?4"
        " WHERE topic = ?1 AND version = ?3 AND suspended IS NULL",
    [MDM_SQL_PUSHCERT_RESUME] =
        "UPDATE pushcert SET suspended = NULL, suspended_at = 0,"
        " accepted_at = COALESCE(accepted_at, 0)"
        " WHERE topic = ?1 AND suspended IS NOT NULL",
    /* A push that was accepted is stronger than what tokens seemed to say. */
    [MDM_SQL_PUSHCERT_ACCEPTED] =
        "UPDATE pushcert SET accepted_at = CASE WHEN accepted_at > 0"
        " THEN accepted_at ELSE ?3 END,"
        " suspended_at = CASE WHEN suspended = ?4 THEN 0"
        " ELSE suspended_at END,"
        " suspended = CASE WHEN suspended = ?4 THEN NULL"
        " ELSE suspended END WHERE topic = ?1 AND version = ?2"
        " AND (accepted_at IS NULL OR accepted_at = 0 OR suspended = ?4)",
    [MDM_SQL_LEASE_GET] = "SELECT holder, expires FROM lease WHERE name = ?1",
    [MDM_SQL_LEASE_TAKE] =
        "INSERT INTO lease (name, holder, expires) VALUES (?1, ?2, ?4)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
        " expires = excluded.expires"
        " WHERE lease.holder = ?2 OR lease.expires <= ?3"
        " OR lease.expires > 2 * ?4 - ?3",
    [MDM_SQL_LEASE_DROP] =
        "UPDATE lease SET expires = 0 WHERE name = ?1 AND holder = ?2",
    [MDM_SQL_EVENT_ADD] =
        "INSERT INTO event (uuid, topic, created_at, enrollment_id, body_s)"
        " VALUES (?1, ?2, ?3, ?4, ?5)",
    [MDM_SQL_EVENT_LIST] =
        "SELECT seq, uuid, topic, created_at, enrollment_id, body_s FROM event"
        " WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    [MDM_SQL_EVENT_OLD] = "SELECT 1 FROM event WHERE created_at < ?1 LIMIT 1",
    [MDM_SQL_EVENT_PRUNE] =
        "DELETE FROM event WHERE seq IN (SELECT seq FROM event"
        " WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)",
    [MDM_SQL_NOTICE_GET] =
        "SELECT step, told_at FROM notice WHERE subject = ?1",
    [MDM_SQL_NOTICE_SET] =
        "INSERT INTO notice (subject, step, told_at) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (subject) DO UPDATE SET step = excluded.step,"
        " told_at = excluded.told_at",
    [MDM_SQL_CHALLENGE_ADD] =
        "INSERT INTO challenge (hash, purpose, device_id, serial_number,"
        " common_name, created_at, expires_at)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [MDM_SQL_CHALLENGE_GET] =
        "SELECT purpose, device_id, serial_number, common_name, expires_at"
        " FROM challenge WHERE hash = ?1",
    [MDM_SQL_CHALLENGE_DROP] = "DELETE FROM challenge WHERE hash = ?1",
    [MDM_SQL_CHALLENGE_PRUNE] =
        "DELETE FROM challenge WHERE hash IN (SELECT hash FROM challenge"
        " WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    [MDM_SQL_AUTHORITY_ADD] =
        "INSERT INTO authority (fingerprint, state, certificate, key_s,"
        " not_after, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT DO NOTHING",
    /* A former one counts as long as somebody has an identity of it. */
    [MDM_SQL_AUTHORITY_LIST] =
        "SELECT fingerprint, state, certificate, key_s, not_after,"
        " created_at, used FROM (SELECT a.*, EXISTS (SELECT 1 FROM issued i"
        " WHERE i.authority = a.fingerprint AND i.not_after > ?1) AS used"
        " FROM authority a) x WHERE state < 2 OR (used AND not_after > ?1)"
        " ORDER BY CASE state WHEN 1 THEN 0 WHEN 0 THEN 1 ELSE 2 END,"
        " created_at DESC LIMIT ?2",
    [MDM_SQL_AUTHORITY_IN_STATE] =
        "SELECT fingerprint FROM authority WHERE state = ?1",
    [MDM_SQL_AUTHORITY_MOVE] =
        "UPDATE authority SET state = ?2 WHERE state = ?1",
    [MDM_SQL_ISSUED_ADD] =
        "INSERT INTO issued (serial, fingerprint, request, proof, asked,"
        " authority, subject, device_id, serial_number, certificate,"
        " issued_at, not_after)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
#define ISSUED_ROWS                                                           \
    "SELECT i.number, i.serial, i.fingerprint, i.request, i.asked,"           \
    " i.authority, i.subject, i.device_id, i.serial_number, i.certificate,"   \
    " i.issued_at, i.not_after, i.revoked_at, e.id, b.is_current,"            \
    " e.blocked_at, i.proof FROM issued i"                                    \
    " LEFT JOIN identity b ON b.fingerprint = i.fingerprint"                  \
    " LEFT JOIN enrollment e ON e.eid = b.device_eid"
    [MDM_SQL_ISSUED_GET] = ISSUED_ROWS " WHERE i.fingerprint = ?1",
    [MDM_SQL_ISSUED_OF] =
        ISSUED_ROWS " WHERE i.request = ?1 ORDER BY i.number DESC LIMIT 1",
    [MDM_SQL_ISSUED_SERIAL] = ISSUED_ROWS " WHERE i.serial = ?1",
    [MDM_SQL_ISSUED_LIST] =
        ISSUED_ROWS " WHERE i.number > ?1 ORDER BY i.number LIMIT ?2",
    [MDM_SQL_ISSUED_REVOKE] =
        "UPDATE issued SET revoked_at = ?2"
        " WHERE number = ?1 AND revoked_at = 0",
    [MDM_SQL_ISSUED_PRUNE] =
        "DELETE FROM issued WHERE number IN (SELECT number FROM issued"
        " WHERE not_after < ?1 ORDER BY not_after LIMIT ?2)",
#define TOKEN_COLUMNS                                                         \
    "t.tid, t.kind, t.account, t.device_eid, t.created_at, t.expires_at,"     \
    " t.used_at, t.revoked_at, e.id FROM account_token t"                     \
    " LEFT JOIN enrollment e ON e.eid = t.device_eid"
    [MDM_SQL_ACCOUNT_TOKEN_ADD] =
        "INSERT INTO account_token (hash, kind, account, created_at,"
        " expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    [MDM_SQL_ACCOUNT_TOKEN_GET] =
        "SELECT " TOKEN_COLUMNS " WHERE t.hash = ?1",
    [MDM_SQL_ACCOUNT_TOKEN_OF_DEVICE] =
        "SELECT " TOKEN_COLUMNS " WHERE t.device_eid = ?1"
        " AND t.device_eid > 0 ORDER BY t.tid DESC LIMIT 1",
    [MDM_SQL_ACCOUNT_TOKEN_SUCCEED] =
        "DELETE FROM account_token WHERE device_eid ="
        " (SELECT device_eid FROM enrollment WHERE eid = ?1)"
        " AND device_eid > 0 AND tid <> ?2",
    [MDM_SQL_ACCOUNT_TOKEN_BIND] =
        "UPDATE account_token SET device_eid ="
        " (SELECT device_eid FROM enrollment WHERE eid = ?2),"
        " expires_at = ?3, used_at = ?4 WHERE tid = ?1 AND device_eid = 0",
    [MDM_SQL_ACCOUNT_TOKEN_DROP] = "DELETE FROM account_token WHERE tid = ?1",
    [MDM_SQL_ACCOUNT_TOKEN_REVOKE] =
        "UPDATE account_token SET revoked_at = ?2 WHERE tid = ?1"
        " AND kind = 1 AND revoked_at = 0",
    [MDM_SQL_ACCOUNT_TOKEN_REVOKE_ACCOUNT] =
        "UPDATE account_token SET revoked_at = ?2 WHERE account = ?1"
        " AND kind = 1 AND revoked_at = 0",
    [MDM_SQL_ACCOUNT_TOKEN_LIST] =
        "SELECT " TOKEN_COLUMNS " WHERE t.kind = 1 AND t.tid > ?1"
        " ORDER BY t.tid LIMIT ?2",
    [MDM_SQL_ACCOUNT_TOKEN_LIST_ONE] =
        "SELECT " TOKEN_COLUMNS " WHERE t.account = ?1 AND t.tid > ?2"
        " AND t.kind = 1 ORDER BY t.tid LIMIT ?3",
    [MDM_SQL_ACCOUNT_TOKEN_PRUNE] =
        "DELETE FROM account_token WHERE device_eid = 0"
        " AND expires_at < ?1",
    [MDM_SQL_INTRODUCTION_PUT] =
        "INSERT INTO introduction (name, verified, flow, answer, account,"
        " serial, udid, product, os_version, build, language, peer,"
        " first_at, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
        " ?10, ?11, ?12, ?13, ?14) ON CONFLICT (name) DO UPDATE SET"
        " verified = excluded.verified, flow = excluded.flow,"
        " answer = excluded.answer, account = excluded.account,"
        " serial = excluded.serial, udid = excluded.udid,"
        " product = excluded.product, os_version = excluded.os_version,"
        " build = excluded.build, language = excluded.language,"
        " peer = excluded.peer, last_at = excluded.last_at,"
        " count = introduction.count + 1",
    [MDM_SQL_INTRODUCTION_PRUNE] =
        "DELETE FROM introduction WHERE last_at < ?1",
    /* Of what nobody vouched for only the latest: anybody can say that. */
    [MDM_SQL_INTRODUCTION_CROWD] =
        "DELETE FROM introduction WHERE verified = 0 AND last_at <"
        " (SELECT last_at FROM introduction WHERE verified = 0"
        " AND last_at > 0 ORDER BY last_at DESC LIMIT 1 OFFSET ?1)",
    [MDM_SQL_INTRODUCTION_LIST] =
        "SELECT number, verified, first_at, last_at, count, name, flow,"
        " answer, account, serial, udid, product, os_version, build,"
        " language, peer FROM introduction WHERE number > ?1"
        " ORDER BY number LIMIT ?2",
/* Absent values are looked at, too: a step must not run through a large table
 * in search of the next one.  RENEW compares the head of the old value, which
 * is unlike every other's (mdm_seal.h): what changed meanwhile stays.  Rows
 * are never counted where there may be many, that reads a table from end to
 * end; tables with keys of text are small. */
#define MDM_KEY_TEXT_INT(key) "CAST(" #key " AS TEXT)"
#define MDM_KEY_TEXT_TEXT(key) #key
#define MDM_ROWS_INT(key) "MAX(" #key ")"
#define MDM_ROWS_TEXT(key) "COUNT(" #key ")"
#define MDM_SEALED(id, table, key, kind, column, where, row)                  \
    [MDM_SQL_##id##_STALE] =                                                  \
        "SELECT " MDM_KEY_TEXT_##kind(key) ", CASE WHEN"                      \
        " substr(" #column ", 1, 5) <> ?2 THEN 1 ELSE 0 END,"                 \
        " COALESCE(length(" #column "), 0)"                                   \
        " FROM " #table " WHERE " #key " > ?1 ORDER BY " #key " LIMIT ?3",    \
    [MDM_SQL_##id##_GET] = "SELECT " #row ", " #column " FROM " #table        \
                           " WHERE " #key " = ?1",                            \
    [MDM_SQL_##id##_RENEW] =                                                  \
        "UPDATE " #table " SET " #column " = ?3 WHERE " #key " = ?1"          \
        " AND substr(" #column ", 1, 17) = ?2",                               \
    [MDM_SQL_##id##_ROWS] = "SELECT " MDM_ROWS_##kind(key) " FROM " #table,
#include "mdm_sealed.def"
#undef MDM_SEALED
};

#define MDM_IS_TEXT_INT false
#define MDM_IS_TEXT_TEXT true
static const mdm_sealed_t sealed_columns[] = {
#define MDM_SEALED(id, table, key, kind, column, where, row)                  \
    {#table,               #column,              where,                       \
     MDM_IS_TEXT_##kind,   MDM_SQL_##id##_STALE, MDM_SQL_##id##_GET,          \
     MDM_SQL_##id##_RENEW, MDM_SQL_##id##_ROWS},
#include "mdm_sealed.def"
#undef MDM_SEALED
};

const mdm_sealed_t *mdm_sealed_columns(size_t *n_r)
{
    *n_r = MDM_ARRAY_LEN(sealed_columns);
    return sealed_columns;
}

const char *mdm_sql_text(mdm_stmt_t stmt)
{
    return statements[stmt];
}

static void bind_all(mdm_query_t *q, const char *types, va_list ap)
{
    const mdm_driver_t *driver = q->tx->driver;
    int i;

    for (i = 1; *types != '\0'; types++, i++) {
        switch (*types) {
        case 'i':
            driver->bind_int(q->st, i, va_arg(ap, int64_t));
            break;
        case 'o': {
            const int64_t *value = va_arg(ap, const int64_t *);

            if (value != NULL) {
                driver->bind_int(q->st, i, *value);
            } else {
                driver->bind_blob(q->st, i, MDM_STR_NONE);
            }
            break;
        }
        case 't':
            driver->bind_text(q->st, i, va_arg(ap, mdm_str_t));
            break;
        default:
            driver->bind_blob(q->st, i, va_arg(ap, mdm_str_t));
            break;
        }
    }
}

static void begin_va(mdm_query_t *q, mdm_tx_t *tx, mdm_stmt_t stmt,
                     mdm_err_t *err, const char *types, va_list ap)
{
    q->tx = tx;
    q->st = NULL;
    q->err = err;
    q->rc = tx->driver->prepare(tx->conn, stmt, &q->st, err);
    if (q->rc == MDM_OK) {
        bind_all(q, types, ap);
    }
}

void mdm_query_begin(mdm_query_t *query, mdm_tx_t *tx, mdm_stmt_t stmt,
                     mdm_err_t *err, const char *types, ...)
{
    va_list ap;

    va_start(ap, types);
    begin_va(query, tx, stmt, err, types, ap);
    va_end(ap);
}

mdm_rc mdm_query_row(mdm_query_t *q, bool *row_r)
{
    *row_r = false;
    if (q->rc == MDM_OK) {
        q->rc = q->tx->driver->step(q->tx->conn, q->st, row_r, q->err);
    }
    return q->rc;
}

int64_t mdm_query_int(const mdm_query_t *q, int column)
{
    return q->tx->driver->column_int(q->st, column);
}

bool mdm_query_null(const mdm_query_t *q, int column)
{
    return q->tx->driver->column_null(q->st, column);
}

mdm_str_t mdm_query_str(const mdm_query_t *q, int column)
{
    return q->tx->driver->column_bytes(q->st, column);
}

void mdm_query_end(mdm_query_t *q)
{
    if (q->st != NULL) {
        q->tx->driver->reset(q->st);
        q->st = NULL;
    }
}

mdm_rc mdm_sql_run(mdm_tx_t *tx, mdm_stmt_t stmt, int64_t *changes_r,
                   mdm_err_t *err, const char *types, ...)
{
    mdm_query_t q;
    va_list ap;
    bool row;
    mdm_rc rc;

    va_start(ap, types);
    begin_va(&q, tx, stmt, err, types, ap);
    va_end(ap);
    rc = mdm_query_row(&q, &row);
    if (changes_r != NULL) {
        *changes_r = rc == MDM_OK ? tx->driver->changes(tx->conn) : 0;
    }
    mdm_query_end(&q);
    return rc;
}
