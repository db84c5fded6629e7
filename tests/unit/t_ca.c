/*
 * t_ca.c - the built-in authority on a store: made once by many processes and
 * threads, replaced, trusted; challenges; who may have a certificate.  The
 * requests are made up, since mdm_pkimsg.h has read them by then.
 */
#include "t_store_world.h"

#include <pthread.h>
#include <sys/wait.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "mdm_ca_issue.h"
#include "mdm_edge.h"
#include "mdm_thread.h"
#include "mdm_time.h"

#define DAY_US (86400 * MDM_SEC)

static mdm_ca_t *new_ca(world_t *w, mdm_store_t *store)
{
    mdm_ca_t *ca;

    assert_int_equal(mdm_ca_new(store, NULL, NULL, &ca, &w->err), MDM_OK);
    return ca;
}

/* The current one's name. */
static mdm_str_t current(world_t *w, mdm_ca_t *ca)
{
    mdm_ca_hold_t hold;
    mdm_str_t name;

    if (mdm_ca_hold(ca, &hold, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    assert_true(mdm_arena_str(w->arena,
                              mdm_authority_fingerprint(hold.all[0]), &name));
    mdm_ca_let_go(&hold);
    return name;
}

/* ---- made once ----------------------------------------------------------- */

/* Each process opens the store by itself, as workers do. */
static int child(const world_t *parent)
{
    world_t w = *parent;
    mdm_ca_hold_t hold;
    mdm_ca_t *ca = NULL;
    int status = 1;

    w.arena = mdm_arena_new(true);
    w.store = world_store(&w, 20 * MDM_SEC, NULL);
    if (mdm_ca_new(w.store, NULL, NULL, &ca, &w.err) == MDM_OK &&
        mdm_ca_hold(ca, &hold, &w.err) == MDM_OK) {
        mdm_ca_let_go(&hold);
        status = 0;
    }
    mdm_ca_free(&ca);
    mdm_store_free(&w.store);
    mdm_arena_free(&w.arena);
    return status;
}

static void test_processes_race(void **state)
{
    world_t *w = *state;
    pid_t pids[4];
    mdm_ca_t *ca;
    int status;
    size_t i;

    mdm_store_free(&w->store); /* no handle crosses a fork */
    for (i = 0; i < MDM_ARRAY_LEN(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            _exit(child(w));
        }
    }
    for (i = 0; i < MDM_ARRAY_LEN(pids); i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM authority"), 1);
    w->store = world_store(w, 20 * MDM_SEC, NULL);
    ca = new_ca(w, w->store);
    assert_int_equal(current(w, ca).n, 2 * MDM_SHA256_LEN);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM authority"), 1);
    mdm_ca_free(&ca);
}

static void *thread(void *arg)
{
    mdm_ca_t *ca = arg;
    mdm_ca_hold_t hold;
    mdm_err_t err;
    mdm_rc rc = mdm_ca_hold(ca, &hold, &err);

    mdm_ca_let_go(&hold);
    return rc == MDM_OK ? NULL : arg;
}

static void test_threads_race(void **state)
{
    world_t *w = *state;
    mdm_ca_t *ca = new_ca(w, w->store);
    pthread_t threads[8];
    void *failed;
    size_t i;

    for (i = 0; i < MDM_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, thread, ca), 0);
    }
    for (i = 0; i < MDM_ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM authority"), 1);
    mdm_ca_free(&ca);
}

/* ---- requests ------------------------------------------------------------ */

typedef struct key {
    mdm_str_t spki;
} client_key_t;

static client_key_t new_key(world_t *w)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key, &der);
    client_key_t made = {{mdm_arena_dup(w->arena, der, (size_t)n),
                          (size_t)n}};

    OPENSSL_free(der);
    EVP_PKEY_free(key);
    return made;
}

static mdm_pki_request_t request(world_t *w, const char *transaction,
                                 const char *challenge)
{
    static const char empty[] = "\x30\x00";
    client_key_t key = new_key(w);

    return (mdm_pki_request_t){
        .type = MDM_PKI_PKCS_REQ,
        .transaction_id = mdm_str_from(transaction),
        .signer = MDM_STR("a temporary certificate"),
        .signer_key = key.spki,
        .signer_subject = {empty, 2},
        .key = key.spki,
        .subject = {empty, 2},
        .subject_empty = true,
        .challenge = mdm_str_from(challenge),
        .is_signer_key = true};
}

static mdm_rc give(world_t *w, mdm_ca_t *ca, const mdm_pki_request_t *r,
                   mdm_ca_given_t *given, mdm_pki_fail_t *fail)
{
    mdm_ca_ask_t ask = {.request = r, .life_us = 30 * DAY_US};
    mdm_ca_hold_t hold;
    mdm_rc rc;

    assert_int_equal(mdm_ca_hold(ca, &hold, &w->err), MDM_OK);
    ask.authority = hold.all[0];
    rc = mdm_ca_give(w->store, &ask, w->arena, given, fail, &w->err);
    mdm_ca_let_go(&hold);
    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

static char *challenge(world_t *w, const mdm_challenge_t *what, int64_t life)
{
    char *text = mdm_arena_alloc(w->arena, MDM_CHALLENGE_SIZE);

    if (mdm_challenge_give(w->store, what, life, text, &w->err) != MDM_OK) {
        fail_msg("%s", w->err.text);
    }
    assert_int_equal(strlen(text), MDM_CHALLENGE_LEN);
    assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
                     MDM_CHALLENGE_LEN);
    return text;
}

static void test_challenges(void **state)
{
    world_t *w = *state;
    mdm_challenge_t anybody = {.purpose = MDM_CHALLENGE_ENROL};
    mdm_challenge_t nobody = {.purpose = MDM_CHALLENGE_RENEW};
    mdm_ca_t *ca = new_ca(w, w->store);
    mdm_pki_request_t r = request(w, "t", challenge(w, &anybody, 60 * MDM_SEC));
    mdm_pki_request_t late = request(w, "late", challenge(w, &anybody, -1));
    char text[MDM_CHALLENGE_SIZE];
    mdm_ca_given_t given;
    mdm_ca_given_t again;
    mdm_pki_fail_t fail;

    assert_int_equal(give(w, ca, &late, &given, &fail), MDM_EDENIED);
    assert_int_equal(fail, MDM_PKI_BAD_REQUEST);
    assert_int_equal(give(w, ca, &r, &given, &fail), MDM_OK);
    assert_false(given.again);
    assert_int_equal(give(w, ca, &r, &again, &fail), MDM_OK);
    assert_true(again.again);
    assert_true(mdm_str_eq(given.cert, again.cert));
    assert_string_equal(given.serial, again.serial);
    /* After a quarter of an hour it is a new request. */
    db_run(w, "UPDATE issued SET issued_at = issued_at - 901000000");
    assert_int_equal(give(w, ca, &r, &again, &fail), MDM_EDENIED);
    r.challenge = MDM_STR("");
    assert_int_equal(give(w, ca, &r, &again, &fail), MDM_EDENIED);
    r.challenge = MDM_STR_NONE;
    assert_int_equal(give(w, ca, &r, &again, &fail), MDM_EDENIED);
    assert_int_equal(mdm_challenge_give(w->store, &nobody, 1, text, &w->err),
                     MDM_EINVAL);
    nobody.device_id = MDM_STR("nobody");
    assert_int_equal(mdm_challenge_give(w->store, &nobody, 1, text, &w->err),
                     MDM_ENOTFOUND);
    anybody.common_name = MDM_STR("\x01");
    assert_int_equal(mdm_challenge_give(w->store, &anybody, 1, text, &w->err),
                     MDM_EINVAL);
    mdm_ca_free(&ca);
}

/* What is over goes with the next ones. */
static void test_pruning(void **state)
{
    world_t *w = *state;
    mdm_challenge_t what = {.purpose = MDM_CHALLENGE_ENROL};
    mdm_ca_t *ca = new_ca(w, w->store);
    mdm_ca_given_t given;
    mdm_pki_request_t r;
    mdm_pki_fail_t fail;
    int i;

    for (i = 0; i < 5; i++) {
        (void)challenge(w, &what, -1);
    }
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM challenge"), 0);
    r = request(w, "1", challenge(w, &what, MDM_SEC * 60));
    assert_int_equal(give(w, ca, &r, &given, &fail), MDM_OK);
    db_run(w, "UPDATE issued SET not_after = 1");
    r = request(w, "2", challenge(w, &what, MDM_SEC * 60));
    assert_int_equal(give(w, ca, &r, &given, &fail), MDM_OK);
    assert_int_equal(db_int(w, "SELECT COUNT(*) FROM issued"), 1);
    mdm_ca_free(&ca);
}

/* ---- trust --------------------------------------------------------------- */

static mdm_rc verify(world_t *w, mdm_ca_t *ca, mdm_str_t cert)
{
    mdm_shown_t shown = {.cert = cert};
    mdm_identity_t identity;

    return mdm_ca_verify(ca, NULL, &shown, mdm_wall_us(NULL), &identity,
                         &w->err);
}

/* Two processes: what one of them issues the other one trusts at once, and a
 * new authority, too. */
static void test_trust(void **state)
{
    world_t *w = *state;
    mdm_challenge_t what = {.purpose = MDM_CHALLENGE_ENROL};
    mdm_ca_t *ca = new_ca(w, w->store);
    mdm_ca_t *other = new_ca(w, w->store);
    mdm_str_t next = MDM_STR_NONE;
    mdm_ca_given_t before;
    mdm_ca_given_t after;
    mdm_pki_request_t r;
    mdm_pki_fail_t fail;
    mdm_str_t first;
    size_t n = 0;
    mdm_str_t certs[MDM_CA_MAX];

    r = request(w, "1", challenge(w, &what, MDM_SEC * 60));
    assert_int_equal(give(w, ca, &r, &before, &fail), MDM_OK);
    assert_int_equal(verify(w, other, before.cert), MDM_OK);
    first = current(w, ca);
    assert_int_equal(mdm_ca_promote(ca, &w->err), MDM_ECONFLICT);
    assert_int_equal(mdm_ca_prepare(ca, w->arena, &next, &w->err), MDM_OK);
    assert_true(next.n > 0);
    assert_int_equal(mdm_ca_prepare(ca, w->arena, &next, &w->err),
                     MDM_ECONFLICT);
    assert_int_equal(mdm_ca_certificates(ca, w->arena, certs, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 2);
    assert_true(mdm_str_eq(current(w, ca), first));
    assert_int_equal(mdm_ca_promote(ca, &w->err), MDM_OK);
    assert_false(mdm_str_eq(current(w, ca), first));
    assert_int_equal(mdm_ca_certificates(ca, w->arena, certs, &n, &w->err),
                     MDM_OK);
    assert_int_equal(n, 1);
    r = request(w, "2", challenge(w, &what, MDM_SEC * 60));
    assert_int_equal(give(w, ca, &r, &after, &fail), MDM_OK);
    assert_int_equal(mdm_ca_refresh(other, &w->err), MDM_OK);
    assert_int_equal(verify(w, other, after.cert), MDM_OK);
    assert_int_equal(verify(w, other, before.cert), MDM_OK);
    /* The last identity of the former one is over: nobody trusts it. */
    db_run(w, "UPDATE issued SET not_after = 1 WHERE number = 1");
    assert_int_equal(mdm_ca_refresh(other, &w->err), MDM_OK);
    assert_int_equal(verify(w, other, before.cert), MDM_EDENIED);
    assert_int_equal(verify(w, other, after.cert), MDM_OK);
    mdm_ca_free(&ca);
    mdm_ca_free(&other);
}

/* While nobody knows which authorities there are, a stranger is not told that
 * he is one. */
static void test_store_away(void **state)
{
    static const unsigned char wrong[MDM_SEAL_KEY_LEN] = {1};
    world_t *w = *state;
    mdm_challenge_t what = {.purpose = MDM_CHALLENGE_ENROL};
    mdm_ca_t *ca = new_ca(w, w->store);
    mdm_ca_given_t given;
    mdm_pki_fail_t fail;
    mdm_pki_request_t r = request(w, "1", challenge(w, &what, MDM_SEC * 60));

    assert_int_equal(give(w, ca, &r, &given, &fail), MDM_OK);
    mdm_ca_free(&ca);
    mdm_store_free(&w->store);
    w->store = world_store(w, MDM_SEC, wrong);
    ca = new_ca(w, w->store);
    assert_int_equal(verify(w, ca, given.cert), MDM_ECONFIG);
    mdm_ca_free(&ca);
}

/* ---- identities ---------------------------------------------------------- */

static void speak(mdm_speaker_t *speaker, const mdm_ca_given_t *given)
{
    memset(speaker, 0, sizeof(*speaker));
    speaker->cert = given->cert;
    assert_int_equal(mdm_sha256(given->cert, speaker->identity.fingerprint,
                                NULL), MDM_OK);
}

typedef struct check {
    mdm_identity_t identity;
    const char *id;
    const char *serial;
} check_t;

static mdm_rc check_tx(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    const check_t *c = arg;

    return mdm_enroll_check_issued(tx, &c->identity, mdm_str_from(c->id),
                                   mdm_str_from(c->serial), err);
}

static void test_bound(void **state)
{
    static const struct {
        const char *id;
        const char *serial;
        mdm_rc rc;
    } all[] = {{"D", "S", MDM_OK},
               {"E", "S", MDM_EDENIED},
               {"D", "T", MDM_EDENIED},
               {"D", NULL, MDM_EDENIED}};
    world_t *w = *state;
    mdm_challenge_t what = {.purpose = MDM_CHALLENGE_ENROL,
                            .device_id = MDM_STR("D"),
                            .serial_number = MDM_STR("S")};
    mdm_ca_t *ca = new_ca(w, w->store);
    mdm_ca_given_t given;
    mdm_speaker_t speaker;
    mdm_pki_fail_t fail;
    mdm_pki_request_t r = request(w, "1", challenge(w, &what, MDM_SEC * 60));
    check_t c;
    size_t i;

    assert_int_equal(give(w, ca, &r, &given, &fail), MDM_OK);
    assert_true(mdm_str_is(given.subject, "serialNumber=S,CN=D"));
    speak(&speaker, &given);
    c.identity = speaker.identity;
    for (i = 0; i < MDM_ARRAY_LEN(all); i++) {
        c.id = all[i].id;
        c.serial = all[i].serial;
        assert_int_equal(mdm_store_read(w->store, check_tx, &c, &w->err),
                         all[i].rc);
    }
    db_run(w, "UPDATE issued SET revoked_at = 1");
    c.id = "D";
    c.serial = "S";
    assert_int_equal(mdm_store_read(w->store, check_tx, &c, &w->err),
                     MDM_EDENIED);
    mdm_ca_free(&ca);
}

/* ---- places for those who compute ---------------------------------------- */

static void *wait_for_place(void *arg)
{
    return mdm_edge_may_issue(arg) ? arg : NULL;
}

static void test_places(void **state)
{
    mdm_server_t *server = calloc(1, sizeof(*server));
    pthread_t thread_id;
    unsigned queued = 0;
    void *got = NULL;
    int i;
    (void)state;

    assert_non_null(server);
    (void)pthread_mutex_init(&server->mutex, NULL);
    assert_int_equal(mdm_cond_init(&server->issued, NULL), MDM_OK);
    for (i = 0; i < MDM_ISSUING_MAX; i++) {
        assert_true(mdm_edge_may_issue(server));
    }
    assert_int_equal(pthread_create(&thread_id, NULL, wait_for_place, server),
                     0);
    while (queued == 0) { /* until it waits */
        (void)pthread_mutex_lock(&server->mutex);
        queued = server->queued;
        (void)pthread_mutex_unlock(&server->mutex);
        (void)usleep(1000);
    }
    mdm_edge_issued(server);
    assert_int_equal(pthread_join(thread_id, &got), 0);
    assert_ptr_equal(got, server);
    /* All places are taken and all chairs, too: no at once. */
    server->queued = MDM_QUEUED_MAX;
    assert_false(mdm_edge_may_issue(server));
    /* A chair is free: no after a while. */
    server->queued = 0;
    assert_false(mdm_edge_may_issue(server));
    server->ending = true;
    mdm_edge_issued(server);
    assert_false(mdm_edge_may_issue(server));
    (void)pthread_cond_destroy(&server->issued);
    (void)pthread_mutex_destroy(&server->mutex);
    free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_processes_race, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(test_threads_race, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(test_challenges, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(test_pruning, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(test_trust, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(test_store_away, world_setup,
                                        world_teardown),
        cmocka_unit_test(test_places),
        cmocka_unit_test_setup_teardown(test_bound, world_setup,
                                        world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
