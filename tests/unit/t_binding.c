/*
 * t_binding.c - certificates that come by other ways than Authenticate
 * (renewal, first use after a migration), devices that are shut out, and
 * escrowed tokens, on a store in a file.
 */
#include "t_store_world.h"

#define AUTHENTICATE MDM_CHECKIN_AUTHENTICATE
#define TOKEN_UPDATE MDM_CHECKIN_TOKEN_UPDATE
#define CHECK_OUT MDM_CHECKIN_CHECK_OUT

/* ---- renewal ------------------------------------------------------------- */

typedef struct renewal {
    char signer;
    char issued;
} renewal_t;

static mdm_rc renew_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const renewal_t *r = arg;
    mdm_speaker_t signer = speaker(r->signer);
    mdm_speaker_t issued = speaker(r->issued);

    return mdm_enroll_renew(tx, signer.identity.fingerprint, &issued,
                            mdm_wall_us(NULL), err);
}

static mdm_rc renew(world_t *w, char signer, char issued)
{
    renewal_t r = {signer, issued};

    return mdm_store_write(w->store, renew_tx, &r, &w->err);
}

static mdm_rc idle_as(world_t *w, const char *id, char cert)
{
    return report_as(w, id, cert, MDM_REPORT_IDLE, NULL);
}

static int64_t current(const world_t *w)
{
    return db_int(w, "SELECT COUNT(*) FROM identity WHERE is_current = 1");
}

static void test_renewal_by_use(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK);
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK); /* repeated: as before */
    assert_int_equal(current(w), 2);
    /* The old one stays good until the new one is seen. */
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    /* ... in an Idle that would be a plain read otherwise. */
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_OK);
    assert_int_equal(current(w), 1);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EDENIED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_OK);
    /* History is kept. */
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM identity"), 2);
}

static void test_renewal_refused(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    enroll(w, "E", 'X');
    assert_int_equal(renew(w, 'Q', 'B'), MDM_EDENIED); /* nobody's */
    assert_int_equal(renew(w, 'A', 'X'), MDM_EDENIED); /* another's */
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK);
    assert_int_equal(renew(w, 'X', 'B'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_OK);
    assert_int_equal(renew(w, 'A', 'C'), MDM_EDENIED); /* a former one */
    assert_int_equal(renew(w, 'B', 'A'), MDM_EDENIED); /* back to it */
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'B'), MDM_OK);
    assert_int_equal(renew(w, 'B', 'C'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "E", 'B'), MDM_EDENIED);
}

/* Another device's renewed certificate is no way into this one. */
static void test_renewal_of_another(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    enroll(w, "E", 'X');
    assert_int_equal(renew(w, 'X', 'Y'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'Y'), MDM_EDENIED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'Y'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "E", 'X'), MDM_OK); /* was not seen yet */
    assert_int_equal(checkin(w, TOKEN_UPDATE, "E:U", 'Y'), MDM_OK);
    assert_int_equal(idle_as(w, "E", 'X'), MDM_EDENIED);
}

static mdm_rc bootstrap(world_t *w, const char *id, char cert,
                        const char *token)
{
    mdm_checkin_t msg = {.type = MDM_CHECKIN_SET_BOOTSTRAP_TOKEN};
    mdm_speaker_t s = speaker(cert);

    msg.channel = channel(id);
    msg.bootstrap_token = mdm_str_from(token);
    return mdm_enroll_apply(w->store, &msg, MDM_STR("raw"), &s, &w->enrolled,
                            &w->err);
}

typedef struct secret_job {
    mdm_secret_t which;
    mdm_arena_t *arena;
    mdm_str_t value;
} secret_job_t;

static mdm_rc secret_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    secret_job_t *job = arg;

    return mdm_store_secret_get(tx, 1, job->which, job->arena, &job->value,
                                err);
}

/* Of the first enrolment; "" for none. */
static const char *secret(world_t *w, mdm_secret_t which)
{
    secret_job_t job = {.which = which, .arena = w->arena};

    assert_int_equal(mdm_store_read(w->store, secret_tx, &job, &w->err),
                     MDM_OK);
    return job.value.s != NULL
               ? mdm_arena_dup(w->arena, job.value.s, job.value.n)
               : "";
}

static void test_renewal_keeps_life(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U", 'A'), MDM_OK);
    assert_int_equal(bootstrap(w, "D", 'A', "boot"), MDM_OK);
    (void)enqueue(w, "c1", "D", 5);
    (void)enqueue(w, "c2", "D:U", 5);
    assert_string_equal(idle(w), "c1");
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    assert_true(w->enrolled.renewed);
    /* No push until the TokenUpdate, but nothing is lost. */
    assert_int_equal(db_int(w, "SELECT token_s FROM enrollment"
                               " WHERE id = 'D'"), -1);
    assert_int_equal(enqueue(w, "c3", "D", 5).push, MDM_TARGET_NO_TOKEN);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"
                               " WHERE state < 3"), 3);
    assert_string_equal(secret(w, MDM_SECRET_UNLOCK_TOKEN),
                        "unlock-token-of-the-device");
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "boot");
    /* The device may roll back. */
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    /* Its Authenticate got lost and comes again. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    assert_true(w->enrolled.renewed);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'B'), MDM_OK);
    assert_int_equal(w->enrolled.tally, 2);
    assert_true(w->enrolled.push_due);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EDENIED);
    /* The report on what it was given before is taken. */
    assert_int_equal(report_as(w, "D", 'B', MDM_REPORT_ACKNOWLEDGED, "c1"),
                     MDM_OK);
    assert_false(w->taken.unknown);
    assert_true(w->taken.has_command);
    assert_int_equal(idle_as(w, "D:U", 'B'), MDM_OK);
    assert_true(w->taken.has_command);

    /* From now on it is an ordinary certificate: a new life with it. */
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    assert_false(w->enrolled.renewed);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"
                               " WHERE state < 3"), 0);
    assert_string_equal(secret(w, MDM_SECRET_UNLOCK_TOKEN), "");
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "");
}

/* Of several renewals, one that was issued before the one in use is over; a
 * later one is on its way still. */
static void test_renewal_never_used(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK); /* its answer got lost */
    assert_int_equal(renew(w, 'A', 'C'), MDM_OK);
    assert_int_equal(renew(w, 'A', 'E'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'C'), MDM_OK);
    assert_int_equal(current(w), 2);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "D", 'C'), MDM_OK);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'C'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'E'), MDM_OK);
    assert_int_equal(current(w), 1);
    /* A new life under another certificate ends it as well. */
    assert_int_equal(renew(w, 'E', 'F'), MDM_OK);
    enroll(w, "D", 'G');
    assert_int_equal(current(w), 1);
    assert_int_equal(idle_as(w, "D", 'F'), MDM_EDENIED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'F'), MDM_EDENIED);
    assert_int_equal(idle_as(w, "D", 'G'), MDM_OK);
}

/* Seen in an Idle first, then Authenticate: still the same life. */
static void test_renewal_seen_first(void **state)
{
    world_t *w = *state;

    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(renew(w, 'A', 'B'), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_OK);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    assert_true(w->enrolled.renewed);
    assert_int_equal(idle_as(w, "D", 'B'), MDM_OK);
    assert_true(w->taken.has_command);
    /* A device that has left begins anew, whatever its certificate. */
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'B'), MDM_OK);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_OK);
    assert_false(w->enrolled.renewed);
    assert_string_equal(secret(w, MDM_SECRET_UNLOCK_TOKEN), "");
}

/* ---- escrowed tokens ----------------------------------------------------- */

static void test_bootstrap_token(void **state)
{
    world_t *w = *state;

    assert_int_equal(bootstrap(w, "D", 'A', "boot"), MDM_EDENIED);
    enroll(w, "D", 'A');
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "");
    assert_int_equal(bootstrap(w, "D", 'B', "boot"), MDM_EDENIED);
    assert_int_equal(bootstrap(w, "D", 'A', "boot"), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "boot");
    assert_int_equal(bootstrap(w, "D", 'A', "boot-2"), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "boot-2");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment WHERE"
                               " instr(bootstrap_token_s, 'boot') > 0"), 0);
    assert_int_equal(bootstrap(w, "D", 'A', ""), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "");
    assert_int_equal(bootstrap(w, "D", 'A', "boot-3"), MDM_OK);
    assert_int_equal(bootstrap(w, "D", 'A', NULL), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "");
}

/* ---- blocking ------------------------------------------------------------ */

static mdm_turn_away_t turn_away(world_t *w, const char *id)
{
    mdm_channel_t c = channel(id);
    mdm_turn_away_t how;

    assert_int_equal(mdm_enroll_turn_away(w->store, &c, &how, &w->err),
                     MDM_OK);
    return how;
}

static mdm_rc block(world_t *w, const char *id, bool on, bool changes)
{
    bool changed = false;
    mdm_rc rc = mdm_enroll_block(w->store, mdm_str_from(id), on, &changed,
                                 &w->err);

    assert_int_equal(changed, changes);
    return rc;
}

static void test_block(void **state)
{
    world_t *w = *state;

    assert_int_equal(block(w, "D", true, false), MDM_ENOTFOUND);
    enroll(w, "D", 'A');
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U", 'A'), MDM_OK);
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    assert_int_equal(block(w, "D:U", true, false), MDM_EINVAL);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 0);
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_int_equal(block(w, "D", true, false), MDM_OK);
    /* It is woken, so that it learns of it. */
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM push"
                               " WHERE due_at IS NOT NULL"), 1);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EBLOCKED);
    assert_int_equal(idle_as(w, "D:U", 'A'), MDM_EBLOCKED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_EBLOCKED);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:V", 'A'), MDM_EBLOCKED);
    assert_int_equal(bootstrap(w, "D", 'A', "b"), MDM_EBLOCKED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_EBLOCKED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'B'), MDM_EBLOCKED);
    assert_int_equal(renew(w, 'A', 'C'), MDM_EBLOCKED);
    /* A stranger does not learn of it, and another's certificate neither. */
    assert_int_equal(idle_as(w, "D", 'Z'), MDM_EDENIED);
    enroll(w, "E", 'X');
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'X'), MDM_EDENIED);

    assert_true(turn_away(w, "D").first);
    assert_false(turn_away(w, "D:U").first);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment"
                               " WHERE state = 2"), 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM queue"
                               " WHERE state < 3"), 0);
    assert_int_equal(enqueue(w, "c2", "D", 5).command, MDM_TARGET_DISABLED);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_EBLOCKED);
    /* Unblocked: it may enrol, but is not enrolled by that. */
    assert_int_equal(block(w, "D", false, true), MDM_OK);
    assert_int_equal(block(w, "D", false, false), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EDENIED);
    enroll(w, "D", 'A');
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    /* Blocked again: told again. */
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_true(turn_away(w, "D").first);
}

static void test_blocked_in_time(void **state)
{
    world_t *w = *state;

    /* Unblocked before it came: as if nothing had been. */
    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_int_equal(block(w, "D", false, true), MDM_OK);
    assert_string_equal(idle(w), "c1");
    /* A CheckOut of a blocked device is as good as telling it. */
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'B'), MDM_EDENIED);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(db_int(w, "SELECT state FROM enrollment"), 2);
    assert_int_equal(db_int(w, "SELECT told_at > 0 FROM enrollment"), 1);
    assert_false(turn_away(w, "D").first);
    assert_int_equal(checkin(w, AUTHENTICATE, "D", 'A'), MDM_EBLOCKED);
}

/* Unblocked between the look and the answer: nothing makes it leave. */
static void test_unblocked_while_here(void **state)
{
    world_t *w = *state;
    mdm_channel_t c = channel("D");
    mdm_turn_away_t how;

    enroll(w, "D", 'A');
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EBLOCKED);
    assert_int_equal(block(w, "D", false, true), MDM_OK);
    assert_int_equal(mdm_enroll_turn_away(w->store, &c, &how, &w->err),
                     MDM_EBUSY);
    assert_string_equal(idle(w), "c1");
    assert_int_equal(db_int(w, "SELECT told_at FROM enrollment"), 0);
}

static void test_how_to_tell(void **state)
{
    static const struct {
        const char *product;
        const char *version;
        bool document;
    } systems[] = {
        {"iPhone17,2", "17.0", true},     {"iPhone17,2", "18.1", true},
        {"iPhone10,4", "16.7.10", false}, {"iPad14,1", "17", true},
        {"iPod9,1", "15.8", false},       {"AppleTV14,1", "17.0", true},
        {"AppleTV6,2", "16.6", false},    {"Mac14,7", "14.0", true},
        {"Mac14,7", "13.6.9", false},     {"MacBookPro18,1", "15.1", true},
        {"iMac21,1", "12.7", false},      {"Macmini9,1", "26.0", true},
        {"VirtualMac2,1", "14.2", true},  {"Watch7,5", "10.0.1", true},
        {"Watch6,1", "9.6", false},       {"RealityDevice14,1", "1.1", true},
        {"RealityDevice14,1", "1.0.3", false},
        {"RealityDevice14,1", "2.0", true},
        {"Toaster1,1", "99", false},      {"iPhone17,2", "", false},
        {"iPhone17,2", "x.y", false},     {"iPhone17,2", "999999999", false},
        {"", "17.0", false},
    };
    world_t *w = *state;
    char sql[200];
    size_t i;

    enroll(w, "D", 'A');
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    for (i = 0; i < MDM_ARRAY_LEN(systems); i++) {
        (void)snprintf(sql, sizeof(sql),
                       "UPDATE enrollment SET product_name = '%s',"
                       " os_version = '%s'",
                       systems[i].product, systems[i].version);
        db_run(w, sql);
        if (turn_away(w, "D").by_document != systems[i].document) {
            fail_msg("%s %s", systems[i].product, systems[i].version);
        }
    }
    /* What is not known needs the old way. */
    db_run(w, "UPDATE enrollment SET product_name = NULL, os_version = NULL");
    assert_false(turn_away(w, "D").by_document);
}

/* ---- migration and retroactive binding ----------------------------------- */

static mdm_rc import(world_t *w, mdm_checkin_type_t type, const char *id)
{
    mdm_checkin_t msg = {.type = type, .topic = MDM_STR(TOPIC)};

    msg.channel = channel(id);
    msg.token = MDM_STR("token");
    msg.push_magic = MDM_STR("magic");
    msg.serial_number = MDM_STR("SERIAL9");
    msg.bootstrap_token = MDM_STR("boot");
    return mdm_enroll_import(w->store, &msg, MDM_STR("raw"), &w->enrolled,
                             &w->err);
}

static mdm_rc idle_retro(world_t *w, const char *id, char cert)
{
    mdm_report_t r = {.status = MDM_REPORT_IDLE};
    mdm_speaker_t s = speaker(cert);

    s.retroactive = true;
    r.channel = channel(id);
    return mdm_queue_report(w->store, &r, MDM_STR("raw"), &s, w->arena,
                            &w->taken, &w->err);
}

static void test_import(void **state)
{
    world_t *w = *state;

    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_ENOTFOUND);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:U"), MDM_ENOTFOUND);
    assert_int_equal(import(w, MDM_CHECKIN_GET_TOKEN, "D"), MDM_EINVAL);
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_int_equal(w->enrolled.tally, 1);
    assert_int_equal(import(w, MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:U"), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "boot");
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM identity"), 0);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment"
                               " WHERE state = 1"), 2);
    /* The list may be sent again. */
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:U"), MDM_OK);
    assert_int_equal(import(w, CHECK_OUT, "D"), MDM_OK);
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    /* It can be pushed and given commands, but nobody speaks for it. */
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_true(enqueue(w, "c1", "D", 5).pushed);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EDENIED);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM identity"), 0);
    /* A new Authenticate is a way in. */
    enroll(w, "D", 'A');
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:V"), MDM_ECONFLICT);
    assert_int_equal(import(w, CHECK_OUT, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, "D"),
                     MDM_ECONFLICT);
}

/* The device comes while its enrolment is brought: what is missing still may
 * be brought, nothing that it said itself is overwritten. */
static void test_import_meanwhile(void **state)
{
    world_t *w = *state;

    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(idle_retro(w, "D", 'A'), MDM_OK);
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, CHECK_OUT, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_ECONFLICT);
    assert_int_equal(import(w, MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, "D"), MDM_OK);
    assert_string_equal(secret(w, MDM_SECRET_BOOTSTRAP_TOKEN), "boot");
    assert_int_equal(import(w, MDM_CHECKIN_SET_BOOTSTRAP_TOKEN, "D"),
                     MDM_ECONFLICT);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:U"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:U"), MDM_ECONFLICT);
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:V", 'A'), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:V"), MDM_ECONFLICT);
    assert_true(enqueue(w, "c1", "D", 5).pushed);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    assert_true(w->taken.has_command);
    /* From its own TokenUpdate on it is like any other. */
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D", 'A'), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D:W"), MDM_ECONFLICT);
    /* An Authenticate under its first certificate begins a new life. */
    assert_int_equal(import(w, AUTHENTICATE, "E"), MDM_OK);
    assert_int_equal(idle_retro(w, "E", 'X'), MDM_OK);
    assert_int_equal(checkin(w, AUTHENTICATE, "E", 'X'), MDM_OK);
    assert_false(w->enrolled.renewed);
    assert_int_equal(import(w, TOKEN_UPDATE, "E"), MDM_ECONFLICT);
}

static void test_retroactive(void **state)
{
    world_t *w = *state;

    enroll(w, "E", 'X');
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    (void)enqueue(w, "c1", "D", 5);
    assert_int_equal(idle_retro(w, "D", 'X'), MDM_EDENIED); /* another's */
    assert_int_equal(idle_retro(w, "N", 'A'), MDM_EDENIED); /* unknown */
    assert_int_equal(idle_as(w, "D", 'A'), MDM_EDENIED);    /* switched off */
    assert_int_equal(idle_retro(w, "D", 'A'), MDM_OK);
    assert_true(w->taken.has_command);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    /* Never bound again that way. */
    assert_int_equal(idle_retro(w, "D", 'B'), MDM_EDENIED);
    db_run(w, "UPDATE identity SET is_current = 0");
    assert_int_equal(idle_retro(w, "D", 'B'), MDM_EDENIED);
    assert_int_equal(idle_retro(w, "D", 'A'), MDM_EDENIED);
    /* Nor does it change an enrolment that was made here. */
    assert_int_equal(idle_retro(w, "E", 'B'), MDM_EDENIED);
}

typedef struct look {
    mdm_look_up_t what;
    mdm_poll_t poll;
    bool again;
} look_t;

static mdm_rc look_up(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *l = arg;

    return mdm_enroll_look_up(tx, &l->what, &l->poll, &l->again, err);
}

/* Who cannot be bound is refused by a read: a stranger who polls all day
 * holds up no writer. */
static void test_retroactive_reads(void **state)
{
    world_t *w = *state;
    mdm_channel_t c = channel("D");
    mdm_speaker_t s = speaker('Z');
    look_t l = {.what = {.channel = &c, .speaker = &s}};

    s.retroactive = true;
    l.what.now_us = mdm_wall_us(NULL);
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(mdm_store_read(w->store, look_up, &l, &w->err), MDM_OK);
    assert_true(l.again);
    enroll(w, "D", 'A');
    assert_int_equal(mdm_store_read(w->store, look_up, &l, &w->err),
                     MDM_EDENIED);
    assert_false(l.again);
    s = speaker('A');
    s.retroactive = true;
    assert_int_equal(mdm_store_read(w->store, look_up, &l, &w->err), MDM_OK);
    assert_false(l.again);
}

static void test_retroactive_messages(void **state)
{
    world_t *w = *state;
    mdm_checkin_t msg = {.type = TOKEN_UPDATE, .topic = MDM_STR(TOPIC)};
    mdm_speaker_t s = speaker('A');
    mdm_admitted_t who;
    mdm_channel_t c = channel("F");

    s.retroactive = true;
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_int_equal(import(w, AUTHENTICATE, "F"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "F"), MDM_OK);
    msg.channel = channel("D:U"); /* by a user's message */
    msg.token = MDM_STR("t");
    msg.push_magic = MDM_STR("m");
    assert_int_equal(mdm_enroll_apply(w->store, &msg, MDM_STR("raw"), &s,
                                      &w->enrolled, &w->err), MDM_OK);
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    /* By a message that only reads. */
    s = speaker('B');
    assert_int_equal(mdm_enroll_admit(w->store, &c, &s, &who, &w->err),
                     MDM_EDENIED);
    s.retroactive = true;
    assert_int_equal(mdm_enroll_admit(w->store, &c, &s, &who, &w->err),
                     MDM_OK);
    assert_true(who.eid > 0);
    assert_int_equal(who.device_eid, who.eid);
    assert_int_equal(idle_as(w, "F", 'B'), MDM_OK);
}

/* A device may leave with the first message that it sends here. */
static void test_retroactive_check_out(void **state)
{
    world_t *w = *state;
    mdm_checkin_t msg = {.type = CHECK_OUT};
    mdm_speaker_t s = speaker('A');

    msg.channel = channel("D");
    assert_int_equal(import(w, AUTHENTICATE, "D"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "D"), MDM_OK);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_EDENIED);
    s.retroactive = true;
    assert_int_equal(mdm_enroll_apply(w->store, &msg, MDM_STR("raw"), &s,
                                      &w->enrolled, &w->err), MDM_OK);
    assert_int_equal(db_int(w, "SELECT state FROM enrollment"), 2);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM identity"), 1);
    /* And no other certificate may say so. */
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'B'), MDM_EDENIED);
    /* Under a renewal, too; a blocked device as well. */
    enroll(w, "E", 'X');
    assert_int_equal(renew(w, 'X', 'Y'), MDM_OK);
    assert_int_equal(block(w, "E", true, true), MDM_OK);
    assert_int_equal(checkin(w, CHECK_OUT, "E", 'Y'), MDM_OK);
    assert_int_equal(checkin(w, CHECK_OUT, "E", 'X'), MDM_EDENIED);
}

/* A certificate in the other form that its owner can give it: 'A' and 'a',
 * 'X' and 'x' are one. */
static mdm_speaker_t twin(char cert)
{
    mdm_speaker_t s = speaker(cert);

    memset(s.identity.twin, cert ^ 0x20, sizeof(s.identity.twin));
    return s;
}

static mdm_rc authenticate_as(world_t *w, const char *id, char cert)
{
    mdm_checkin_t msg = {.type = AUTHENTICATE, .topic = MDM_STR(TOPIC)};
    mdm_speaker_t s = twin(cert);

    msg.channel = channel(id);
    return mdm_enroll_apply(w->store, &msg, MDM_STR("raw"), &s, &w->enrolled,
                            &w->err);
}

static void test_altered_copy(void **state)
{
    world_t *w = *state;
    mdm_report_t r = {.status = MDM_REPORT_IDLE};
    mdm_speaker_t s = twin('x');

    enroll(w, "D", 'A');
    enroll(w, "E", 'X');
    assert_int_equal(authenticate_as(w, "D", 'x'), MDM_EDENIED);
    assert_int_equal(authenticate_as(w, "E", 'x'), MDM_EDENIED);
    assert_int_equal(authenticate_as(w, "N", 'x'), MDM_EDENIED);
    assert_non_null(strstr(w->err.text, "altered"));
    assert_int_equal(idle_as(w, "D", 'A'), MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM enrollment"), 2);
    /* Nor as the first one of an enrolment that was brought here. */
    assert_int_equal(import(w, AUTHENTICATE, "F"), MDM_OK);
    assert_int_equal(import(w, TOKEN_UPDATE, "F"), MDM_OK);
    s.retroactive = true;
    r.channel = channel("F");
    assert_int_equal(mdm_queue_report(w->store, &r, MDM_STR("raw"), &s,
                                      w->arena, &w->taken, &w->err),
                     MDM_EDENIED);
    assert_int_equal(current(w), 2);
    /* A former one does not come back by it. */
    assert_int_equal(renew(w, 'X', 'Y'), MDM_OK);
    assert_int_equal(idle_as(w, "E", 'Y'), MDM_OK);
    assert_int_equal(authenticate_as(w, "E", 'x'), MDM_EDENIED);
    /* One whose other form nobody has shown is like any other. */
    assert_int_equal(authenticate_as(w, "E", 'B'), MDM_OK);
    assert_int_equal(authenticate_as(w, "E", 'B'), MDM_OK);
    assert_int_equal(authenticate_as(w, "N", 'b'), MDM_EDENIED);
}

static void test_admit(void **state)
{
    world_t *w = *state;
    mdm_channel_t device = channel("D");
    mdm_channel_t user = channel("D:U");
    mdm_speaker_t s = speaker('A');
    mdm_admitted_t who;

    assert_int_equal(mdm_enroll_admit(w->store, &device, &s, &who, &w->err),
                     MDM_EDENIED);
    enroll(w, "D", 'A');
    assert_int_equal(mdm_enroll_admit(w->store, &device, &s, &who, &w->err),
                     MDM_OK);
    assert_true(mdm_str_is(who.id, "D"));
    assert_int_equal(who.eid, who.device_eid);
    /* A user who is not known yet. */
    assert_int_equal(mdm_enroll_admit(w->store, &user, &s, &who, &w->err),
                     MDM_OK);
    assert_int_equal(who.eid, 0);
    assert_true(mdm_str_is(who.id, "D:U"));
    assert_true(mdm_str_is(who.device_id, "D"));
    assert_int_equal(checkin(w, TOKEN_UPDATE, "D:U", 'A'), MDM_OK);
    assert_int_equal(mdm_enroll_admit(w->store, &user, &s, &who, &w->err),
                     MDM_OK);
    assert_true(who.eid != 0 && who.eid != who.device_eid);
    s = speaker('B');
    assert_int_equal(mdm_enroll_admit(w->store, &user, &s, &who, &w->err),
                     MDM_EDENIED);
    s = speaker('A');
    assert_int_equal(block(w, "D", true, true), MDM_OK);
    assert_int_equal(mdm_enroll_admit(w->store, &user, &s, &who, &w->err),
                     MDM_EBLOCKED);
    assert_int_equal(block(w, "D", false, true), MDM_OK);
    assert_int_equal(checkin(w, CHECK_OUT, "D", 'A'), MDM_OK);
    assert_int_equal(mdm_enroll_admit(w->store, &device, &s, &who, &w->err),
                     MDM_EDENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_renewal_by_use),
        world_test(test_renewal_refused),
        world_test(test_renewal_of_another),
        world_test(test_renewal_keeps_life),
        world_test(test_renewal_never_used),
        world_test(test_renewal_seen_first),
        world_test(test_bootstrap_token),
        world_test(test_block),
        world_test(test_blocked_in_time),
        world_test(test_unblocked_while_here),
        world_test(test_how_to_tell),
        world_test(test_import),
        world_test(test_import_meanwhile),
        world_test(test_retroactive),
        world_test(test_retroactive_reads),
        world_test(test_retroactive_messages),
        world_test(test_retroactive_check_out),
        world_test(test_altered_copy),
        world_test(test_admit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
