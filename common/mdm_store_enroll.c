/*
 * mdm_store_enroll.c - verbs on enrolments, their secrets, and the lease.
 */
#include "mdm_store.h"

#include <stdio.h>
#include <string.h>

#include "mdm_store_int.h"
#include "mdm_str.h"

#define WHERE_SIZE 64
/* Rows one list call looks at. */
#define SCAN_MAX 10000

static mdm_str_t fp_str(const unsigned char fp[MDM_SHA256_LEN])
{
    return (mdm_str_t){(const char *)fp, MDM_SHA256_LEN};
}

mdm_rc mdm_store_poll(mdm_tx_t *tx, mdm_str_t id,
                      const unsigned char fingerprint[MDM_SHA256_LEN],
                      int64_t now_us, mdm_poll_t *poll_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(poll_r, 0, sizeof(*poll_r));
    mdm_query_begin(&q, tx, MDM_SQL_POLL, err, "tib", id, now_us,
                    fp_str(fingerprint));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        poll_r->known = true;
        poll_r->eid = mdm_query_int(&q, 0);
        poll_r->device_eid = mdm_query_int(&q, 1);
        poll_r->state = (mdm_enrollment_state_t)mdm_query_int(&q, 2);
        poll_r->device_state = (mdm_enrollment_state_t)mdm_query_int(&q, 3);
        poll_r->bound = !mdm_query_null(&q, 4) &&
                        mdm_query_int(&q, 4) == poll_r->device_eid;
        poll_r->bound_elsewhere = !mdm_query_null(&q, 4) && !poll_r->bound;
        poll_r->current = poll_r->bound && mdm_query_int(&q, 5) != 0;
        poll_r->push_due = mdm_query_int(&q, 6) != 0;
        poll_r->has_command = !mdm_query_null(&q, 7);
        poll_r->renewal =
            poll_r->current ? (mdm_renewal_t)mdm_query_int(&q, 9)
                            : MDM_RENEWAL_NONE;
        poll_r->blocked = mdm_query_int(&q, 10) != 0;
        poll_r->revoked = mdm_query_int(&q, 11) != 0;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_enrollment_add(mdm_tx_t *tx, const mdm_channel_t *channel,
                                int64_t device_eid, int64_t now_us,
                                int64_t *eid_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_ENROLLMENT_ADD, err, "tiiii", channel->id,
                    device_eid, (int64_t)channel->type,
                    (int64_t)MDM_ENROLLMENT_AUTHENTICATING, now_us);
    rc = mdm_query_row(&q, &row);
    *eid_r = rc == MDM_OK && row ? mdm_query_int(&q, 0) : 0;
    if (rc == MDM_OK) {
        rc = mdm_query_row(&q, &row); /* lets the insertion finish */
    }
    mdm_query_end(&q);
    if (rc == MDM_OK && device_eid == 0) {
        rc = mdm_sql_run(tx, MDM_SQL_ENROLLMENT_SET_DEVICE, NULL, err, "i",
                         *eid_r);
    }
    return rc;
}

/* Seals a value for a column of an enrolment. */
static mdm_rc seal(mdm_tx_t *tx, const char *column, int64_t eid,
                   mdm_str_t plain, mdm_arena_t *arena, mdm_str_t *sealed_r,
                   mdm_err_t *err)
{
    char where[WHERE_SIZE];

    (void)snprintf(where, sizeof(where), "enrollment.%s:%lld", column,
                   (long long)eid);
    return mdm_seal_close(mdm_store_seal(tx->store), where, plain, arena,
                          sealed_r, err);
}

mdm_rc mdm_enrollment_open(mdm_tx_t *tx, const char *column, int64_t eid,
                           mdm_str_t sealed, mdm_arena_t *arena,
                           mdm_str_t *plain_r, mdm_err_t *err)
{
    char where[WHERE_SIZE];

    (void)snprintf(where, sizeof(where), "enrollment.%s:%lld", column,
                   (long long)eid);
    return mdm_seal_open(mdm_store_seal(tx->store), where, sealed, arena,
                         plain_r, err);
}

mdm_rc mdm_store_authenticate(mdm_tx_t *tx, int64_t eid,
                              const mdm_checkin_t *msg, mdm_str_t raw,
                              bool new_life, int64_t now_us, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = seal(tx, "authenticate", eid, raw, arena, &sealed, err);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(
            tx,
            new_life ? MDM_SQL_AUTHENTICATE : MDM_SQL_AUTHENTICATE_RENEWED,
            NULL, err, "iittttttttttbi", eid,
            (int64_t)MDM_ENROLLMENT_AUTHENTICATING, msg->topic,
            msg->serial_number, msg->device_name, msg->model, msg->model_name,
            msg->product_name, msg->os_version, msg->build_version, msg->imei,
            msg->meid, sealed, now_us);
    }
    mdm_arena_free(&arena);
    return rc;
}

static mdm_rc token_update(mdm_tx_t *tx, int64_t eid,
                           const mdm_checkin_t *msg, const mdm_str_t sealed[4],
                           int64_t now_us, int64_t *tally_r, mdm_err_t *err)
{
    int64_t awaiting = msg->awaiting_configuration ? 1 : 0;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_TOKEN_UPDATE, err, "iitbbibottb", eid,
                    (int64_t)MDM_ENROLLMENT_ENROLLED, msg->topic, sealed[0],
                    sealed[1], now_us, sealed[2],
                    msg->has_awaiting_configuration ? &awaiting : NULL,
                    msg->user_short_name, msg->user_long_name, sealed[3]);
    rc = mdm_query_row(&q, &row);
    *tally_r = rc == MDM_OK && row ? mdm_query_int(&q, 0) : 0;
    if (rc == MDM_OK) {
        rc = mdm_query_row(&q, &row);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_token_update(mdm_tx_t *tx, int64_t eid,
                              const mdm_checkin_t *msg, mdm_str_t raw,
                              int64_t now_us, int64_t *tally_r, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed[4];
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = seal(tx, "token", eid, msg->token, arena, &sealed[0], err);
    if (rc == MDM_OK) {
        rc = seal(tx, "magic", eid, msg->push_magic, arena, &sealed[1], err);
    }
    if (rc == MDM_OK) {
        /* Absent or empty keeps the stored one. */
        rc = seal(tx, "unlock_token", eid,
                  msg->unlock_token.n > 0 ? msg->unlock_token : MDM_STR_NONE,
                  arena, &sealed[2], err);
    }
    if (rc == MDM_OK) {
        rc = seal(tx, "token_update", eid, raw, arena, &sealed[3], err);
    }
    if (rc == MDM_OK) {
        rc = token_update(tx, eid, msg, sealed, now_us, tally_r, err);
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_store_disable(mdm_tx_t *tx, int64_t device_eid, bool users_only,
                         int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(
        tx, users_only ? MDM_SQL_DISABLE_USERS : MDM_SQL_DISABLE_ALL, NULL,
        err, "iii", device_eid, (int64_t)MDM_ENROLLMENT_DISABLED, now_us);
}

mdm_rc mdm_store_seen(mdm_tx_t *tx, int64_t eid, int64_t at_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_SEEN, NULL, err, "ii", eid, at_us);
}

/* ---- escrowed secrets --------------------------------------------------- */

static const char *const secret_columns[] = {
    [MDM_SECRET_UNLOCK_TOKEN] = "unlock_token",
    [MDM_SECRET_BOOTSTRAP_TOKEN] = "bootstrap_token",
};

mdm_rc mdm_store_bootstrap_token_set(mdm_tx_t *tx, int64_t eid,
                                     mdm_str_t value, mdm_err_t *err)
{
    mdm_arena_t *arena = mdm_arena_new(false);
    mdm_str_t sealed;
    mdm_rc rc;

    if (arena == NULL) {
        return mdm_err_nomem(err);
    }
    rc = seal(tx, secret_columns[MDM_SECRET_BOOTSTRAP_TOKEN], eid, value,
              arena, &sealed, err);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_BOOTSTRAP_TOKEN_SET, NULL, err, "ib", eid,
                         sealed);
    }
    mdm_arena_free(&arena);
    return rc;
}

mdm_rc mdm_store_secret_get(mdm_tx_t *tx, int64_t eid, mdm_secret_t which,
                            mdm_arena_t *arena, mdm_str_t *value_r,
                            mdm_err_t *err)
{
    mdm_str_t sealed = MDM_STR_NONE;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *value_r = MDM_STR_NONE;
    mdm_query_begin(&q, tx, MDM_SQL_SECRET_GET, err, "i", eid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row && !mdm_query_null(&q, (int)which) &&
        !mdm_arena_str(arena, mdm_query_str(&q, (int)which), &sealed)) {
        rc = mdm_err_nomem(err);
    }
    mdm_query_end(&q);
    if (rc != MDM_OK) {
        return rc;
    }
    return mdm_enrollment_open(tx, secret_columns[which], eid, sealed, arena,
                               value_r, err);
}

/* ---- devices that may be silent ------------------------------------------ */

mdm_rc mdm_store_silent_get(mdm_tx_t *tx, int64_t from_us, int64_t to_us,
                            size_t limit, mdm_arena_t *arena,
                            mdm_silent_t *rows, size_t *n_r, mdm_err_t *err)
{
    mdm_silent_t *s;
    mdm_query_t q;
    bool row;
    mdm_rc rc = MDM_OK;

    *n_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_SILENT_GET, err, "iii", from_us, to_us,
                    (int64_t)limit);
    while (*n_r < limit && (rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        s = &rows[(*n_r)++];
        s->eid = mdm_query_int(&q, 0);
        s->last_seen = mdm_query_int(&q, 2);
        s->silent_at = mdm_query_int(&q, 3);
        if (!mdm_arena_str(arena, mdm_query_str(&q, 1), &s->topic)) {
            rc = mdm_err_nomem(err);
            break;
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_silent_set(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                            mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_SILENT_SET, NULL, err, "ii", eid, at_us);
}

/* ---- rows for people ---------------------------------------------------- */

const char *mdm_push_state_name(mdm_push_state_t state)
{
    static const char *const names[MDM_PUSH_STATES] = {
        [MDM_PUSH_STATE_NO_TOKEN] = "no_token",
        [MDM_PUSH_STATE_TOKEN_DEAD] = "token_dead",
        [MDM_PUSH_STATE_TOKEN_FOREIGN] = "token_foreign",
        [MDM_PUSH_STATE_IN_FLIGHT] = "in_flight",
        [MDM_PUSH_STATE_NO_CERTIFICATE] = "no_certificate",
        [MDM_PUSH_STATE_SUSPENDED] = "suspended",
        [MDM_PUSH_STATE_RETRYING] = "retrying",
        [MDM_PUSH_STATE_DUE] = "due",
        [MDM_PUSH_STATE_GIVEN_UP] = "given_up",
        [MDM_PUSH_STATE_PLANNED] = "planned",
        [MDM_PUSH_STATE_IDLE] = "idle"};

    return (size_t)state < MDM_PUSH_STATES ? names[state] : "unknown";
}

/* Judged on the columns, before anything is copied. */
static mdm_push_state_t push_state(const mdm_query_t *q)
{
    int64_t token = mdm_query_int(q, 6);
    int64_t due_at = mdm_query_int(q, 22); /* 0: NULL */
    bool due = due_at != 0 && due_at <= mdm_wall_us(NULL);

    switch (token) {
    case MDM_TOKEN_NONE:
        return MDM_PUSH_STATE_NO_TOKEN;
    case MDM_TOKEN_DEAD:
        return MDM_PUSH_STATE_TOKEN_DEAD;
    case MDM_TOKEN_FOREIGN:
        return MDM_PUSH_STATE_TOKEN_FOREIGN;
    default:
        break;
    }
    if (mdm_query_int(q, 33) != 0 && !due) {
        return MDM_PUSH_STATE_IN_FLIGHT;
    }
    if (mdm_query_int(q, 35) == 0) {
        return MDM_PUSH_STATE_NO_CERTIFICATE;
    }
    if (mdm_query_int(q, 36) != 0) {
        return MDM_PUSH_STATE_SUSPENDED;
    }
    if (due_at != 0 && mdm_query_int(q, 23) > 0) {
        return MDM_PUSH_STATE_RETRYING;
    }
    return due                         ? MDM_PUSH_STATE_DUE
           : mdm_query_int(q, 34) != 0 ? MDM_PUSH_STATE_GIVEN_UP
           : due_at != 0               ? MDM_PUSH_STATE_PLANNED
                                       : MDM_PUSH_STATE_IDLE;
}

/* Copies one text column into the arena; false: memory is out. */
static bool copy(const mdm_query_t *q, int column, mdm_arena_t *arena,
                 mdm_str_t *out_r)
{
    return mdm_arena_str(arena, mdm_query_str(q, column), out_r);
}

static bool read_row(const mdm_query_t *q, mdm_arena_t *arena,
                     mdm_enrollment_t *row)
{
    memset(row, 0, sizeof(*row));
    row->eid = mdm_query_int(q, 0);
    row->type = (mdm_channel_type_t)mdm_query_int(q, 3);
    row->state = (mdm_enrollment_state_t)mdm_query_int(q, 4);
    row->token_state = (mdm_token_state_t)mdm_query_int(q, 6);
    row->token_at = mdm_query_int(q, 7);
    row->tally = mdm_query_int(q, 8);
    row->awaiting_configuration = mdm_query_int(q, 9) != 0;
    row->created_at = mdm_query_int(q, 18);
    row->authenticate_at = mdm_query_int(q, 19);
    row->disabled_at = mdm_query_int(q, 20);
    row->last_seen = mdm_query_int(q, 21);
    row->push_due_at = mdm_query_int(q, 22);
    row->push_attempts = mdm_query_int(q, 23);
    row->push_last_at = mdm_query_int(q, 24);
    row->push_last_status = mdm_query_int(q, 25);
    row->blocked_at = mdm_query_int(q, 29);
    row->told_at = mdm_query_int(q, 30);
    row->has_unlock_token = mdm_query_int(q, 31) != 0;
    row->has_bootstrap_token = mdm_query_int(q, 32) != 0;
    row->push_given_up_at = mdm_query_int(q, 34);
    row->push_state = push_state(q);
    return copy(q, 1, arena, &row->id) && copy(q, 5, arena, &row->topic) &&
           copy(q, 10, arena, &row->serial_number) &&
           copy(q, 11, arena, &row->device_name) &&
           copy(q, 12, arena, &row->model) &&
           copy(q, 13, arena, &row->model_name) &&
           copy(q, 14, arena, &row->product_name) &&
           copy(q, 15, arena, &row->os_version) &&
           copy(q, 16, arena, &row->build_version) &&
           copy(q, 17, arena, &row->user_short_name) &&
           copy(q, 26, arena, &row->push_last_reason) &&
           copy(q, 27, arena, &row->push_apns_id) &&
           copy(q, 28, arena, &row->device_id);
}

static mdm_rc read_counts(mdm_tx_t *tx, mdm_enrollment_t *row, mdm_err_t *err)
{
    mdm_query_t q;
    bool more;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_QUEUE_COUNTS, err, "i", row->eid);
    while ((rc = mdm_query_row(&q, &more)) == MDM_OK && more) {
        row->commands[mdm_query_int(&q, 0) % 3] = mdm_query_int(&q, 1);
    }
    mdm_query_end(&q);
    return rc;
}

static mdm_rc read_identity(mdm_tx_t *tx, int64_t device_eid,
                            mdm_enrollment_t *row, mdm_err_t *err)
{
    mdm_query_t q;
    mdm_str_t fp;
    bool more;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_IDENTITY_CURRENT, err, "i", device_eid);
    rc = mdm_query_row(&q, &more);
    if (rc == MDM_OK && more) {
        fp = mdm_query_str(&q, 0);
        if (fp.n == MDM_SHA256_LEN) {
            mdm_hex_encode(fp.s, fp.n, row->identity_sha256);
        }
        row->identity_not_after = mdm_query_int(&q, 1);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_enrollment_get(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                                mdm_enrollment_t *row_r, mdm_err_t *err)
{
    int64_t device_eid = 0;
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_ENROLLMENT_GET, err, "t", id);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    }
    if (rc == MDM_OK) {
        device_eid = mdm_query_int(&q, 2);
        if (!read_row(&q, arena, row_r)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    if (rc == MDM_OK) {
        rc = read_counts(tx, row_r, err);
    }
    if (rc == MDM_OK) {
        rc = read_identity(tx, device_eid, row_r, err);
    }
    return rc;
}

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool holds(mdm_str_t text, mdm_str_t part)
{
    size_t i;
    size_t j;

    for (i = 0; i + part.n <= text.n; i++) {
        for (j = 0; j < part.n && fold(text.s[i + j]) == fold(part.s[j]);
             j++) {
        }
        if (j == part.n) {
            return true;
        }
    }
    return false;
}

/* Judged on the columns, before anything is copied. */
static bool matches(const mdm_query_t *q, const mdm_enrollment_filter_t *f)
{
    static const int columns[] = {1, 10, 11, 17};
    bool enabled = mdm_query_int(q, 4) == MDM_ENROLLMENT_ENROLLED;
    size_t i;

    if ((f->enabled >= 0 && enabled != (f->enabled > 0)) ||
        (f->type >= 0 && mdm_query_int(q, 3) != f->type) ||
        (f->push >= 0 && push_state(q) != (mdm_push_state_t)f->push)) {
        return false;
    }
    for (i = 0; f->text.s != NULL && i < MDM_ARRAY_LEN(columns); i++) {
        if (holds(mdm_query_str(q, columns[i]), f->text)) {
            return true;
        }
    }
    return f->text.s == NULL;
}

mdm_rc mdm_store_enrollment_list(mdm_tx_t *tx,
                                 const mdm_enrollment_filter_t *filter,
                                 mdm_arena_t *arena, mdm_enrollment_t *rows,
                                 size_t *n_r, int64_t *next_r, mdm_err_t *err)
{
    int64_t looked = 0;
    int64_t last = 0;
    mdm_query_t q;
    bool more;
    bool row;
    mdm_rc rc;

    *n_r = 0;
    if (filter->serial.s != NULL) {
        mdm_query_begin(&q, tx, MDM_SQL_ENROLLMENT_BY_SERIAL, err, "iit",
                        filter->after, (int64_t)SCAN_MAX, filter->serial);
    } else if (filter->push == MDM_PUSH_STATE_GIVEN_UP) {
        mdm_query_begin(&q, tx, MDM_SQL_ENROLLMENT_GIVEN_UP, err, "ii",
                        filter->after, (int64_t)SCAN_MAX);
    } else {
        mdm_query_begin(&q, tx, MDM_SQL_ENROLLMENT_LIST, err, "ii",
                        filter->after, (int64_t)SCAN_MAX);
    }
    while (*n_r < filter->limit &&
           (rc = mdm_query_row(&q, &row)) == MDM_OK && row) {
        last = mdm_query_int(&q, 0);
        looked++;
        if (matches(&q, filter) && !read_row(&q, arena, &rows[(*n_r)++])) {
            q.rc = mdm_err_nomem(err);
            break;
        }
    }
    /* One row further, so that the last page says that it is the last. */
    more = looked == SCAN_MAX;
    rc = q.rc;
    if (rc == MDM_OK && !more && *n_r == filter->limit) {
        rc = mdm_query_row(&q, &more);
    }
    *next_r = more ? last : 0;
    mdm_query_end(&q);
    return rc;
}

/* ---- lease -------------------------------------------------------------- */

mdm_rc mdm_store_lease_get(mdm_tx_t *tx, mdm_str_t name, mdm_arena_t *arena,
                           mdm_str_t *holder_r, int64_t *expires_r,
                           mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    *holder_r = MDM_STR_NONE;
    *expires_r = 0;
    mdm_query_begin(&q, tx, MDM_SQL_LEASE_GET, err, "t", name);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        *expires_r = mdm_query_int(&q, 1);
        if (!copy(&q, 0, arena, holder_r)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_lease_take(mdm_tx_t *tx, mdm_str_t name, mdm_str_t holder,
                            int64_t now_us, int64_t expires_us, bool *taken_r,
                            mdm_err_t *err)
{
    int64_t changes = 0;
    mdm_rc rc;

    rc = mdm_sql_run(tx, MDM_SQL_LEASE_TAKE, &changes, err, "ttii", name,
                     holder, now_us, expires_us);
    *taken_r = rc == MDM_OK && changes > 0;
    return rc;
}

mdm_rc mdm_store_lease_drop(mdm_tx_t *tx, mdm_str_t name, mdm_str_t holder,
                            mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_LEASE_DROP, NULL, err, "tt", name, holder);
}
