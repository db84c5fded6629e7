/*
 * mdm_store.h - the store as the domain sees it: transactions and verbs on
 * rows.  No SQL here.
 *
 * mdm_store_read() and mdm_store_write() run a function with a transaction
 * handle; the verbs below take that handle and may only be called inside.
 * Writes of one process are grouped: the function may run on another
 * request's thread while the caller waits, and is answered after the commit
 * that holds it.  It must therefore touch nothing but its argument and the
 * store.  Any thread may call; nothing is opened before the first call.
 */
#ifndef MDM_STORE_H
#define MDM_STORE_H

#include "mdm_base.h"
#include "mdm_checkin.h"
#include "mdm_err.h"
#include "mdm_log.h"
#include "mdm_mem.h"
#include "mdm_seal.h"
#include "mdm_time.h"

typedef struct mdm_store mdm_store_t;
typedef struct mdm_tx mdm_tx_t;

typedef struct mdm_store_config {
    const char *url;       /* "sqlite:mdm.db" */
    const char *state_dir; /* absolute */
    /* The secret key, or NULL: state_dir/secret.key, made when absent. */
    const unsigned char *secret_key;
    /* A second key that opens; NULL: none.  See mdm_store_reseal(). */
    const unsigned char *former_key;
    unsigned connections; /* readers kept open */
    int64_t timeout_us;   /* longest wait of one call */
    int64_t push_repeat_us; /* mdm_store_push_repeat() */
    const mdm_clock_t *clock;
    const mdm_log_t *log;
} mdm_store_config_t;

/* Is this a store URL we know?  MDM_ECONFIG with the known forms. */
mdm_rc mdm_store_check_url(const char *url, mdm_err_t *err) MDM_USE_RESULT;

/* Copies the texts, borrows the rest.  Opens nothing.  MDM_ENOMEM. */
mdm_rc mdm_store_new(const mdm_store_config_t *config, mdm_store_t **store_r,
                     mdm_err_t *err) MDM_USE_RESULT;
/* Closes every connection.  No call may be running. */
void mdm_store_free(mdm_store_t **store);

typedef mdm_rc mdm_tx_fn(mdm_tx_t *tx, void *arg, mdm_err_t *err);

/* Runs fn on a connection for reading, outside a transaction: each verb sees
 * a state of its own.  MDM_EBUSY, MDM_EUNAVAIL and what fn returns. */
mdm_rc mdm_store_read(mdm_store_t *store, mdm_tx_fn *fn, void *arg,
                      mdm_err_t *err) MDM_USE_RESULT;
/* Runs fn in a transaction; MDM_OK means committed and durable.  Anything
 * else means that nothing of it was stored, but for MDM_EUNCERTAIN. */
mdm_rc mdm_store_write(mdm_store_t *store, mdm_tx_fn *fn, void *arg,
                       mdm_err_t *err) MDM_USE_RESULT;
/* A number that changes when anybody committed.  Any thread. */
mdm_rc mdm_store_version(mdm_store_t *store, int64_t *version_r,
                         mdm_err_t *err) MDM_USE_RESULT;
/* Is this a fault of which the store itself has told the log, once, so that
 * nobody else need? */
bool mdm_store_has_told(const mdm_err_t *err);
/* Opens the store now, to make and migrate it before the first request. */
mdm_rc mdm_store_open(mdm_store_t *store, mdm_err_t *err) MDM_USE_RESULT;

/* ---- enrolments --------------------------------------------------------- */

typedef enum mdm_enrollment_state {
    MDM_ENROLLMENT_AUTHENTICATING = 0,
    MDM_ENROLLMENT_ENROLLED = 1,
    MDM_ENROLLMENT_DISABLED = 2
} mdm_enrollment_state_t;

typedef enum mdm_token_state {
    MDM_TOKEN_NONE = 0,
    MDM_TOKEN_GOOD = 1,
    MDM_TOKEN_DEAD = 2,   /* APNs said so; a TokenUpdate brings a new one */
    MDM_TOKEN_FOREIGN = 3 /* the same, of a token for another topic */
} mdm_token_state_t;

/* How a certificate came to its device. */
typedef enum mdm_renewal {
    MDM_RENEWAL_NONE = 0,   /* bound at Authenticate, or settled since */
    MDM_RENEWAL_ISSUED = 1, /* given as a renewal, not seen yet */
    MDM_RENEWAL_SEEN = 2,   /* in use, no TokenUpdate under it yet */
    MDM_RENEWAL_FOUND = 3   /* the first that an enrolment from elsewhere
                             * showed, no TokenUpdate under it yet */
} mdm_renewal_t;

/* What an idle poll needs, by one statement. */
typedef struct mdm_poll {
    bool known;
    int64_t eid;
    int64_t device_eid;
    mdm_enrollment_state_t state;
    mdm_enrollment_state_t device_state;
    bool bound;       /* the certificate is this device's ... */
    bool current;     /* ... and not a former one */
    bool bound_elsewhere;
    mdm_renewal_t renewal; /* of the certificate, when it is bound */
    bool blocked;          /* the device: an operator shut it out */
    bool revoked;          /* the certificate, which we have issued */
    bool push_due;
    bool has_command; /* something deliverable waits */
} mdm_poll_t;

mdm_rc mdm_store_poll(mdm_tx_t *tx, mdm_str_t id,
                      const unsigned char fingerprint[MDM_SHA256_LEN],
                      int64_t now_us, mdm_poll_t *poll_r, mdm_err_t *err);

/* New enrolment; device_eid 0: a device channel, its own device. */
mdm_rc mdm_store_enrollment_add(mdm_tx_t *tx, const mdm_channel_t *channel,
                                int64_t device_eid, int64_t now_us,
                                int64_t *eid_r, mdm_err_t *err);
/* Details from the message, no push data until the next TokenUpdate.
 * `new_life`: the escrowed tokens become those of a former life and the
 * tally starts again. */
mdm_rc mdm_store_authenticate(mdm_tx_t *tx, int64_t eid,
                              const mdm_checkin_t *msg, mdm_str_t raw,
                              bool new_life, int64_t now_us, mdm_err_t *err);
/* Stores push data and enables; *tally_r counts since Authenticate. */
mdm_rc mdm_store_token_update(mdm_tx_t *tx, int64_t eid,
                              const mdm_checkin_t *msg, mdm_str_t raw,
                              int64_t now_us, int64_t *tally_r,
                              mdm_err_t *err);
/* Disables user channels (Authenticate) or all channels (CheckOut). */
mdm_rc mdm_store_disable(mdm_tx_t *tx, int64_t device_eid, bool users_only,
                         int64_t now_us, mdm_err_t *err);
mdm_rc mdm_store_seen(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                      mdm_err_t *err);

/* A device that can be woken; its topic in the arena. */
typedef struct mdm_silent {
    int64_t eid;
    mdm_str_t topic;
    int64_t last_seen;
    int64_t silent_at; /* when to look at it; 0: nobody did yet */
} mdm_silent_t;

/* Those that are to be looked at between two times, both inclusive, the
 * earliest first; up to `limit` rows. */
mdm_rc mdm_store_silent_get(mdm_tx_t *tx, int64_t from_us, int64_t to_us,
                            size_t limit, mdm_arena_t *arena,
                            mdm_silent_t *rows, size_t *n_r, mdm_err_t *err);
mdm_rc mdm_store_silent_set(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                            mdm_err_t *err);

/* Shuts a device out (at_us > 0) or lets it in again (0). */
mdm_rc mdm_store_block(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                       mdm_err_t *err);
/* What is needed to turn a blocked device away; strings in the arena. */
typedef struct mdm_blocked {
    int64_t eid;
    bool blocked;    /* still */
    int64_t told_at; /* 0: it has not been told yet */
    mdm_str_t product_name;
    mdm_str_t os_version;
} mdm_blocked_t;

/* MDM_ENOTFOUND: no such enrolment. */
mdm_rc mdm_store_blocked_get(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                             mdm_blocked_t *blocked_r, mdm_err_t *err);
/* It was told. */
mdm_rc mdm_store_blocked_told(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                              mdm_err_t *err);

/* What a device has escrowed; sealed at rest. */
typedef enum mdm_secret {
    MDM_SECRET_UNLOCK_TOKEN,
    MDM_SECRET_BOOTSTRAP_TOKEN
} mdm_secret_t;

/* Stores or (absent value) forgets the bootstrap token. */
mdm_rc mdm_store_bootstrap_token_set(mdm_tx_t *tx, int64_t eid,
                                     mdm_str_t value, mdm_err_t *err);
/* In the arena, which should wipe; absent: none is stored. */
mdm_rc mdm_store_secret_get(mdm_tx_t *tx, int64_t eid, mdm_secret_t which,
                            mdm_arena_t *arena, mdm_str_t *value_r,
                            mdm_err_t *err);

/* How it stands with the pushes of an enrolment: the first that fits. */
typedef enum mdm_push_state {
    MDM_PUSH_STATE_NO_TOKEN,
    MDM_PUSH_STATE_TOKEN_DEAD,
    MDM_PUSH_STATE_TOKEN_FOREIGN,
    MDM_PUSH_STATE_IN_FLIGHT,
    MDM_PUSH_STATE_NO_CERTIFICATE, /* none of its topic */
    MDM_PUSH_STATE_SUSPENDED,      /* its topic is */
    MDM_PUSH_STATE_RETRYING,       /* failed, with another attempt to come */
    MDM_PUSH_STATE_DUE,
    MDM_PUSH_STATE_GIVEN_UP, /* the last one; one may be planned all the
                              * same */
    MDM_PUSH_STATE_PLANNED,  /* due later */
    MDM_PUSH_STATE_IDLE
} mdm_push_state_t;
#define MDM_PUSH_STATES (MDM_PUSH_STATE_IDLE + 1)

const char *mdm_push_state_name(mdm_push_state_t state);

/* One row for people; strings in the arena. */
typedef struct mdm_enrollment {
    int64_t eid;
    mdm_str_t id;
    mdm_str_t device_id; /* of the device channel */
    mdm_channel_type_t type;
    mdm_enrollment_state_t state;
    mdm_str_t topic;
    mdm_token_state_t token_state;
    int64_t token_at;
    int64_t tally;
    bool awaiting_configuration;
    mdm_str_t serial_number;
    mdm_str_t device_name;
    mdm_str_t model;
    mdm_str_t model_name;
    mdm_str_t product_name;
    mdm_str_t os_version;
    mdm_str_t build_version;
    mdm_str_t user_short_name;
    int64_t created_at;
    int64_t authenticate_at;
    int64_t disabled_at;
    int64_t blocked_at; /* 0: not blocked */
    int64_t told_at;    /* when a blocked device was turned away */
    bool has_unlock_token;
    bool has_bootstrap_token;
    int64_t last_seen;
    mdm_push_state_t push_state;
    int64_t push_due_at; /* 0: none is due */
    int64_t push_given_up_at;
    int64_t push_attempts;
    int64_t push_last_at;
    int64_t push_last_status;
    mdm_str_t push_last_reason;
    mdm_str_t push_apns_id;
    /* Filled by mdm_store_enrollment_get() only: */
    int64_t commands[3]; /* by active state */
    char identity_sha256[2 * MDM_SHA256_LEN + 1]; /* "" when none */
    int64_t identity_not_after;
} mdm_enrollment_t;

/* MDM_ENOTFOUND. */
mdm_rc mdm_store_enrollment_get(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                                mdm_enrollment_t *row_r, mdm_err_t *err);
/* Which rows a list is about; absent strings and -1 mean any. */
typedef struct mdm_enrollment_filter {
    int64_t after;  /* rows behind this eid, in its order */
    size_t limit;
    mdm_str_t serial;
    mdm_str_t text; /* part of id, serial, device or user name, any case */
    int enabled;    /* 1, 0 or -1 */
    int type;       /* mdm_channel_type_t or -1 */
    int push;       /* mdm_push_state_t or -1 */
} mdm_enrollment_filter_t;

/* Up to filter->limit rows.  Looks at a bounded number of rows, so a page may
 * hold fewer than there are: *next_r is where to go on, 0 at the end. */
mdm_rc mdm_store_enrollment_list(mdm_tx_t *tx,
                                 const mdm_enrollment_filter_t *filter,
                                 mdm_arena_t *arena, mdm_enrollment_t *rows,
                                 size_t *n_r, int64_t *next_r, mdm_err_t *err);

/* ---- identities --------------------------------------------------------- */

/* To whom a certificate is bound. */
typedef struct mdm_binding {
    int64_t device_eid; /* 0: to nobody */
    bool current;
    mdm_renewal_t renewal;
} mdm_binding_t;

mdm_rc mdm_store_identity_get(mdm_tx_t *tx,
                              const unsigned char fp[MDM_SHA256_LEN],
                              mdm_binding_t *binding_r, mdm_err_t *err);
/* Whose certificate it is. */
typedef struct mdm_owner {
    mdm_enrollment_state_t state;
    bool blocked;
} mdm_owner_t;

/* The device of a binding; all zero when there is none. */
mdm_rc mdm_store_owner_get(mdm_tx_t *tx, int64_t device_eid,
                           mdm_owner_t *owner_r, mdm_err_t *err);
/* Has this device ever had a certificate?  *own_r: one that did not come by
 * its first use. */
mdm_rc mdm_store_identity_any(mdm_tx_t *tx, int64_t device_eid, bool *any_r,
                              bool *own_r, mdm_err_t *err);

/* A certificate to be bound. */
typedef struct mdm_binding_add {
    int64_t device_eid;
    const unsigned char *fingerprint; /* MDM_SHA256_LEN bytes */
    int64_t not_after_us;
    mdm_str_t der;
    mdm_renewal_t renewal;
} mdm_binding_add_t;

/* Binds it to the device.  A former certificate stays valid beside it until
 * mdm_store_identity_settle(). */
mdm_rc mdm_store_identity_bind(mdm_tx_t *tx, const mdm_binding_add_t *add,
                               int64_t now_us, mdm_err_t *err);

/* The certificate is in use now: the others become history but for renewals
 * that were bound later, it gets the renewal state given. */
mdm_rc mdm_store_identity_settle(mdm_tx_t *tx, int64_t device_eid,
                                 const unsigned char fp[MDM_SHA256_LEN],
                                 mdm_renewal_t renewal, mdm_err_t *err);

/* ---- commands ----------------------------------------------------------- */

typedef enum mdm_queue_state {
    MDM_QUEUE_QUEUED = 0,
    MDM_QUEUE_SENT = 1,
    MDM_QUEUE_NOT_NOW = 2,
    MDM_QUEUE_ACKNOWLEDGED = 3, /* this and later ones are final */
    MDM_QUEUE_ERROR = 4,
    MDM_QUEUE_COMMAND_FORMAT_ERROR = 5,
    MDM_QUEUE_EXPIRED = 6,
    MDM_QUEUE_CANCELLED = 7
} mdm_queue_state_t;

const char *mdm_queue_state_name(mdm_queue_state_t state);

/* MDM_ECONFLICT: a command of this UUID exists. */
mdm_rc mdm_store_command_add(mdm_tx_t *tx, mdm_str_t uuid,
                             mdm_str_t request_type, mdm_str_t body,
                             int64_t now_us, int64_t *cid_r, mdm_err_t *err);

/* The body takes each device's own escrowed unlock token, in base64, before
 * this byte when it is delivered. */
mdm_rc mdm_store_command_unlocks(mdm_tx_t *tx, int64_t cid, size_t at,
                                 mdm_err_t *err);

typedef struct mdm_command_row {
    int64_t cid;
    mdm_str_t request_type;
    int64_t created_at;
} mdm_command_row_t;

/* MDM_ENOTFOUND. */
mdm_rc mdm_store_command_get(mdm_tx_t *tx, mdm_str_t uuid, mdm_arena_t *arena,
                             mdm_command_row_t *row_r, mdm_err_t *err);

/* How an enrolment may be reached; eid 0: unknown. */
typedef struct mdm_target {
    int64_t eid;
    mdm_enrollment_state_t state;
    mdm_token_state_t token_state;
    mdm_str_t topic; /* in the arena */
} mdm_target_t;

mdm_rc mdm_store_target(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                        mdm_target_t *target_r, mdm_err_t *err);

/* What the device of an enrolment is; texts in the arena. */
typedef struct mdm_target_device {
    mdm_channel_type_t channel; /* of the enrolment itself */
    mdm_str_t product_name;
    mdm_str_t model_name;
    mdm_str_t os_version;
    bool has_unlock_token;
} mdm_target_device_t;

mdm_rc mdm_store_target_device(mdm_tx_t *tx, int64_t eid, mdm_arena_t *arena,
                               mdm_target_device_t *device_r, mdm_err_t *err);

typedef struct mdm_queue_add {
    int64_t eid;
    int64_t cid;
    int priority;         /* 0 to 9, larger first */
    int64_t not_before_us; /* 0: at once */
    int64_t expires_us;    /* 0: never */
} mdm_queue_add_t;

mdm_rc mdm_store_queue_add(mdm_tx_t *tx, const mdm_queue_add_t *add,
                           int64_t now_us, mdm_err_t *err);
/* The queue row of (enrolment, command); qid 0: none. */
mdm_rc mdm_store_queue_find(mdm_tx_t *tx, int64_t eid, mdm_str_t uuid,
                            int64_t *qid_r, mdm_queue_state_t *state_r,
                            mdm_err_t *err);
/* The command to deliver next, its body in the arena; *found_r false: none.
 * `skip_not_now`: passes over those the device put off.  Notes the delivery.
 * One whose body is damaged, or that needs an unlock token which is no longer
 * there, is cancelled and told of.  `arena` should wipe. */
mdm_rc mdm_store_queue_take(mdm_tx_t *tx, int64_t eid, bool skip_not_now,
                            int64_t now_us, mdm_arena_t *arena,
                            mdm_str_t *body_r, bool *found_r, mdm_err_t *err);
mdm_rc mdm_store_queue_not_now(mdm_tx_t *tx, int64_t qid, mdm_err_t *err);
/* Final state with the raw report. */
mdm_rc mdm_store_queue_finish(mdm_tx_t *tx, int64_t qid,
                              mdm_queue_state_t state, mdm_str_t raw,
                              bool damaged, int64_t now_us, mdm_err_t *err);
/* Cancels what is active on every channel of the device. */
mdm_rc mdm_store_queue_retire(mdm_tx_t *tx, int64_t device_eid, int64_t now_us,
                              mdm_err_t *err);

/* Is there an active command whose time is over? */
mdm_rc mdm_store_queue_is_expired(mdm_tx_t *tx, int64_t now_us, bool *some_r,
                                  mdm_err_t *err);
/* Ends up to `limit` of them; `eids` gets whose they were. */
mdm_rc mdm_store_queue_expire(mdm_tx_t *tx, int64_t now_us, size_t limit,
                              int64_t *eids, size_t *n_r, mdm_err_t *err);
/* Cancels one that is active, or all of a channel; *n_r: how many. */
mdm_rc mdm_store_queue_cancel(mdm_tx_t *tx, int64_t qid, int64_t now_us,
                              mdm_err_t *err);
mdm_rc mdm_store_queue_cancel_all(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                                  int64_t *n_r, mdm_err_t *err);
/* Of the deliverable commands that a channel put off, how often it put off
 * the one it put off least; 0: there are none. */
mdm_rc mdm_store_queue_put_off(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                               int64_t *count_r, mdm_err_t *err);

/* A slice of what is too old to keep, found before it is deleted. */
typedef struct mdm_old_rows {
    int64_t before_us; /* finished or made up to then */
    size_t limit;      /* rows looked at */
    int64_t bytes_max; /* of their values, but for a single one */
    int64_t *rows;     /* room for `limit`: numbers of those to be deleted */
    size_t n;          /* how many were found */
    int64_t bytes;
    bool more;         /* there may be more */
} mdm_old_rows_t;

/* Commands that an enrolment finished, as qids, the oldest first. */
mdm_rc mdm_store_results_old(mdm_tx_t *tx, mdm_old_rows_t *old,
                             mdm_err_t *err);
/* Forgets such a one with its result, unless a report on it has come since it
 * was found. */
mdm_rc mdm_store_result_prune(mdm_tx_t *tx, int64_t qid, int64_t before_us,
                              mdm_err_t *err);
/* Commands that no enrolment has any more, as cids.  `mark`: where to go on,
 * two numbers, 0 at first. */
mdm_rc mdm_store_commands_unused(mdm_tx_t *tx, mdm_old_rows_t *old,
                                 int64_t mark[2], mdm_err_t *err);
/* Forgets a command that no enrolment has.  Its UUID may be used again. */
mdm_rc mdm_store_command_prune(mdm_tx_t *tx, int64_t cid, mdm_err_t *err);

/* State of a command on one enrolment; strings in the arena. */
typedef struct mdm_queue_row {
    mdm_str_t enrollment_id; /* mdm_store_command_states() only */
    int64_t eid;             /* the same */
    mdm_str_t command_uuid;  /* from here: mdm_store_queue_list() only */
    mdm_str_t request_type;
    int64_t qid; /* what a list goes by */
    int priority;
    int64_t not_before;
    int64_t expires; /* to here */
    mdm_queue_state_t state;
    int64_t queued_at;
    int64_t sent_at;
    int64_t sent_count;
    int64_t not_now_count;
    int64_t finished_at;
    bool damaged;
} mdm_queue_row_t;

/* Which commands of a channel: states from first_state to last_state, behind
 * the qid `after`. */
typedef struct mdm_queue_filter {
    int64_t eid;
    int64_t after;
    size_t limit;
    mdm_queue_state_t first_state;
    mdm_queue_state_t last_state;
} mdm_queue_filter_t;

/* In the order in which they were queued. */
mdm_rc mdm_store_queue_list(mdm_tx_t *tx, const mdm_queue_filter_t *filter,
                            mdm_arena_t *arena, mdm_queue_row_t *rows,
                            size_t *n_r, mdm_err_t *err);
mdm_rc mdm_store_command_states(mdm_tx_t *tx, int64_t cid, int64_t after,
                                size_t limit, mdm_arena_t *arena,
                                mdm_queue_row_t *rows, size_t *n_r,
                                mdm_err_t *err);
/* The raw report.  MDM_ENOTFOUND: no such command there, or no result yet. */
mdm_rc mdm_store_result_get(mdm_tx_t *tx, mdm_str_t uuid, mdm_str_t id,
                            mdm_arena_t *arena, mdm_str_t *raw_r,
                            mdm_err_t *err);

/* ---- push outbox -------------------------------------------------------- */

/* What tells a push that somebody asked for: the id under which it goes out,
 * and its number, which grows with every one of the same enrolment. */
typedef struct mdm_push_ticket {
    char apns_id[MDM_UUID_SIZE];
    int64_t generation;
} mdm_push_ticket_t;

/* Makes a push due at a time.  One that is due earlier, or that APNs put off,
 * keeps its time. */
mdm_rc mdm_store_push_mark(mdm_tx_t *tx, int64_t eid, mdm_str_t topic,
                           int64_t due_us, mdm_push_ticket_t *ticket_r,
                           mdm_err_t *err);

#define MDM_PUSH_REASON_MAX 96

/* Where the push of an enrolment stands, for one who waits for its answer. */
typedef struct mdm_push_answer {
    bool found;     /* there is a row of the outbox */
    int64_t due_at; /* 0: nothing is due */
    bool claimed;   /* it is on its way */
    int64_t sent_generation; /* -1: called off, or planned by ourselves */
    int64_t attempts;        /* failures; 0: none since it was asked for */
    int64_t last_generation; /* APNs answered the pushes up to this one ... */
    int last_status;         /* ... with this; 0: no answer, or not asked */
    int64_t last_timestamp;  /* of a 410, milliseconds; 0: none */
    char last_reason[MDM_PUSH_REASON_MAX];
    char last_id[MDM_UUID_SIZE]; /* under which it went out */
    bool has_cert; /* there is a push certificate of its topic ... */
    char suspended[MDM_PUSH_REASON_MAX]; /* ... which APNs refuses; "": no */
} mdm_push_answer_t;

mdm_rc mdm_store_push_state(mdm_tx_t *tx, int64_t eid,
                            mdm_push_answer_t *state_r, mdm_err_t *err);
/* Is anything deliverable queued? */
mdm_rc mdm_store_queue_waiting(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                               bool *waiting_r, mdm_err_t *err);
mdm_rc mdm_store_push_clear_device(mdm_tx_t *tx, int64_t device_eid,
                                   mdm_err_t *err);
/* Of what there is: *found_r, is there a row of the outbox; *due_r, when the
 * push is due, 0: none is. */
mdm_rc mdm_store_push_get(mdm_tx_t *tx, int64_t eid, bool *found_r,
                          int64_t *due_r, mdm_err_t *err);
/* The device is here and commands stay: a push becomes due at at_us (0:
 * never) for those that may be delivered, at their not_before for others.
 * `found`: there is a row of the outbox.  None becomes due where nothing
 * waits, or the device cannot be woken. */
mdm_rc mdm_store_push_plan(mdm_tx_t *tx, int64_t eid, bool found,
                           int64_t now_us, int64_t at_us, mdm_err_t *err);
/* The same without a time: nothing need be pushed before the next
 * not_before. */
mdm_rc mdm_store_push_clear(mdm_tx_t *tx, int64_t eid, int64_t now_us,
                            mdm_err_t *err);
/* No push need go out any more if nothing is left in the channel's queue. */
mdm_rc mdm_store_push_settle(mdm_tx_t *tx, int64_t eid, mdm_err_t *err);
/* How soon a push is repeated while commands wait; 0: never. */
int64_t mdm_store_push_repeat(const mdm_tx_t *tx);

/* One claimed push; strings in the arena. */
typedef struct mdm_claim {
    int64_t eid;
    int64_t device_eid;
    mdm_str_t id;
    mdm_str_t token;
    mdm_str_t magic;
    int64_t token_at;
    int64_t attempts;
    char apns_id[MDM_UUID_SIZE];
    bool pushable; /* token there, good and readable, topic as claimed */
} mdm_claim_t;

/* Earliest due time of a topic; INT64_MAX: nothing is due. */
mdm_rc mdm_store_push_next_due(mdm_tx_t *tx, mdm_str_t topic, int64_t *due_r,
                               mdm_err_t *err);
/* Claims up to `limit` due pushes for `holder` until the time given. */
mdm_rc mdm_store_push_claim(mdm_tx_t *tx, mdm_str_t topic, mdm_str_t holder,
                            int64_t now_us, int64_t until_us, size_t limit,
                            mdm_arena_t *arena, mdm_claim_t *claims,
                            size_t *n_r, mdm_err_t *err);

typedef enum mdm_push_verdict {
    MDM_PUSH_DONE,       /* accepted, or given up for good */
    MDM_PUSH_RETRY,      /* due again at retry_at_us */
    MDM_PUSH_TOKEN_DEAD, /* given up; the token is marked if still the same */
    MDM_PUSH_TOKEN_FOREIGN /* the same, with the other mark */
} mdm_push_verdict_t;

typedef struct mdm_push_finish {
    int64_t eid;
    mdm_push_verdict_t verdict;
    int status;
    mdm_str_t reason;
    mdm_str_t apns_id; /* under which it went out */
    int64_t timestamp_ms; /* of a 410, else 0 */
    int64_t retry_at_us;
    int64_t repeat_at_us; /* with MDM_PUSH_DONE: due again at this time if
                           * commands wait; 0: never */
    int64_t token_at; /* which token was pushed to */
    bool given_up;    /* with MDM_PUSH_DONE: it was not accepted */
} mdm_push_finish_t;

mdm_rc mdm_store_push_finish(mdm_tx_t *tx, const mdm_push_finish_t *finish,
                             mdm_str_t holder, int64_t now_us, mdm_err_t *err);
/* A token that was marked as foreign is good again, if it is still the same,
 * and the push is due. */
mdm_rc mdm_store_push_revive(mdm_tx_t *tx, int64_t eid, int64_t token_at,
                             mdm_str_t topic, int64_t now_us, mdm_err_t *err);
/* Are more than `n` pushes of a topic due? */
mdm_rc mdm_store_push_backlog(mdm_tx_t *tx, mdm_str_t topic, int64_t now_us,
                              int64_t n, bool *more_r, mdm_err_t *err);
/* Of how many enrolments the last push was given up. */
mdm_rc mdm_store_push_given_up(mdm_tx_t *tx, int64_t *n_r, mdm_err_t *err);
/* Gives back all claims of `holder`, due at once. */
mdm_rc mdm_store_push_release(mdm_tx_t *tx, mdm_str_t holder, int64_t now_us,
                              mdm_err_t *err);
/* Takes back the claims of every other holder: for a new leader. */
mdm_rc mdm_store_push_recover(mdm_tx_t *tx, mdm_str_t holder, int64_t now_us,
                              mdm_err_t *err);

/* ---- push certificates -------------------------------------------------- */

typedef struct mdm_pushcert_row {
    mdm_str_t topic;
    mdm_str_t cert_pem;
    mdm_str_t key_pem; /* opened */
    mdm_str_t fingerprint;
    int64_t not_before_us;
    int64_t not_after_us;
    int64_t version;
    mdm_str_t suspended; /* reason; absent: in use */
    int64_t suspended_at;
    int64_t accepted_at; /* when APNs first took a push under it; 0: never */
    bool trusted;        /* that, or an operator said that it will */
} mdm_pushcert_row_t;

/* `arena` should wipe.  MDM_ENOTFOUND.  MDM_EINTERNAL: its key is damaged. */
mdm_rc mdm_store_pushcert_get(mdm_tx_t *tx, mdm_str_t topic,
                              mdm_arena_t *arena, mdm_pushcert_row_t *row_r,
                              mdm_err_t *err);
/* Is there one of this topic? */
mdm_rc mdm_store_pushcert_known(mdm_tx_t *tx, mdm_str_t topic, bool *known_r,
                                mdm_err_t *err);
/* All, up to `max`, without certificate and key. */
mdm_rc mdm_store_pushcert_list(mdm_tx_t *tx, mdm_arena_t *arena,
                               mdm_pushcert_row_t *rows, size_t max,
                               size_t *n_r, mdm_err_t *err);
/* Version and suspension of one; *version_r is 0 where there is none. */
mdm_rc mdm_store_pushcert_version(mdm_tx_t *tx, mdm_str_t topic,
                                  int64_t *version_r, bool *suspended_r,
                                  mdm_err_t *err);
/* Adds or replaces; the version grows, a suspension ends. */
mdm_rc mdm_store_pushcert_set(mdm_tx_t *tx, const mdm_pushcert_row_t *row,
                              int64_t now_us, mdm_err_t *err);
/* Stops pushes of row->topic and row->version for the reason and at the time
 * in it; *changed_r: it was in use until now. */
mdm_rc mdm_store_pushcert_suspend(mdm_tx_t *tx,
                                  const mdm_pushcert_row_t *row,
                                  bool *changed_r, mdm_err_t *err);
/* An operator wants it to go on; *changed_r: it was suspended.  Trusted from
 * then on. */
mdm_rc mdm_store_pushcert_resume(mdm_tx_t *tx, mdm_str_t topic,
                                 bool *changed_r, mdm_err_t *err);
/* APNs took a push under this version.  Ends a suspension that only tokens
 * caused, whose reason is `tokens`. */
mdm_rc mdm_store_pushcert_accepted(mdm_tx_t *tx, mdm_str_t topic,
                                   int64_t version, mdm_str_t tokens,
                                   int64_t now_us, mdm_err_t *err);
/* Enrolled channels of this topic, counted up to `max`. */
mdm_rc mdm_store_topic_users(mdm_tx_t *tx, mdm_str_t topic, int64_t max,
                             int64_t *n_r, mdm_err_t *err);
/* Enrolled channels of all topics, of `topic`, and one topic in use. */
mdm_rc mdm_store_topic_usage(mdm_tx_t *tx, mdm_str_t topic,
                             mdm_arena_t *arena, int64_t *all_r,
                             int64_t *same_r, mdm_str_t *example_r,
                             mdm_err_t *err);

/* ---- lease -------------------------------------------------------------- */

/* Who holds it until when; holder absent: nobody ever. */
mdm_rc mdm_store_lease_get(mdm_tx_t *tx, mdm_str_t name, mdm_arena_t *arena,
                           mdm_str_t *holder_r, int64_t *expires_r,
                           mdm_err_t *err);
/* Takes or renews it if it is free, expired or ours. */
mdm_rc mdm_store_lease_take(mdm_tx_t *tx, mdm_str_t name, mdm_str_t holder,
                            int64_t now_us, int64_t expires_us, bool *taken_r,
                            mdm_err_t *err);
mdm_rc mdm_store_lease_drop(mdm_tx_t *tx, mdm_str_t name, mdm_str_t holder,
                            mdm_err_t *err);

/* ---- secret key --------------------------------------------------------- */

/* A store that is opened with a new secret key, and the one it was sealed
 * under as the former key, seals under the new one from then on.  What stands
 * under the former key is sealed anew in slices, each in a transaction of its
 * own that holds other writers up for some milliseconds; where the walk stands
 * is stored with it, so that any process which knows both keys goes on.
 * When a last pass over every value has found none, the former key may go,
 * and the log says so.
 * One slice; *more_r: the next one may be done at once.  One thread of a
 * process (dispatcher), one process at a time (a lease; two do each other's
 * work twice).  Store errors: nothing is lost, try again later. */
mdm_rc mdm_store_reseal(mdm_store_t *store, size_t limit, bool *more_r,
                        mdm_err_t *err) MDM_USE_RESULT;

typedef struct mdm_store_status {
    int64_t schema;
    char key[9];        /* first digits of the fingerprint that seals */
    char former_key[9]; /* "": no rotation is under way, and no more below */
    int64_t resealed;   /* values sealed anew so far */
    int64_t left;       /* rows that have to be looked at, at most */
    const char *table;  /* where the walk stands; static */
} mdm_store_status_t;

mdm_rc mdm_store_status(mdm_tx_t *tx, mdm_store_status_t *status_r,
                        mdm_err_t *err);

/* The seal of this store; for verbs. */
const mdm_seal_t *mdm_store_seal(const mdm_store_t *store);

#endif
