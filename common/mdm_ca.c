/*
 * mdm_ca.c - which authorities there are, as one process knows it.  See
 * mdm_ca.h.
 *
 * What is known is a set that never changes; a look at the store that finds
 * anything else makes a new one, and the old one goes with its last user.
 * With a set goes the memory of certificates that it found good.  One mutex
 * guards which set is in use; nothing is verified, made or read under it.
 */
#include "mdm_ca.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mdm_str.h"
#include "mdm_thread.h"

/* A look at the store is due after a minute, and when somebody is not
 * trusted, but then once a second at most. */
#define LOOK_US (60 * MDM_SEC)
#define STRANGER_US MDM_SEC
/* Another thread is making the authority: longest wait for it. */
#define MAKING_US (10 * MDM_SEC)

typedef struct set {
    unsigned users; /* guarded by the mutex */
    mdm_authority_t *all[MDM_CA_MAX];
    mdm_authority_state_t states[MDM_CA_MAX];
    size_t n; /* all[0] is the current one, if has_current */
    bool has_current;
    mdm_trust_t *trust; /* NULL: none */
} set_t;

struct mdm_ca {
    mdm_store_t *store;
    const mdm_authority_t *file;
    const mdm_log_t *log;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t made;
    bool making;
    set_t *set;         /* NULL: the store was not looked at yet */
    int64_t looked_us;  /* when it was, monotonic */
    int64_t tried_us;   /* when somebody wanted to */
};

/* ---- sets ---------------------------------------------------------------- */

static void set_free(set_t *set)
{
    size_t i;

    if (set != NULL) {
        for (i = 0; i < set->n; i++) {
            mdm_authority_release(&set->all[i]);
        }
        mdm_trust_free(&set->trust);
        free(set);
    }
}

static set_t *set_get(mdm_ca_t *ca)
{
    set_t *set;

    (void)pthread_mutex_lock(&ca->mutex);
    set = ca->set;
    if (set != NULL) {
        set->users++;
    }
    (void)pthread_mutex_unlock(&ca->mutex);
    return set;
}

static void set_put(mdm_ca_t *ca, set_t *set)
{
    bool last;

    if (set != NULL) {
        (void)pthread_mutex_lock(&ca->mutex);
        last = --set->users == 0;
        (void)pthread_mutex_unlock(&ca->mutex);
        if (last) {
            set_free(set);
        }
    }
}

/* Does the set say what was just read?  Authorities never change, so that
 * names and states are all. */
static bool set_is(const set_t *set, const mdm_authority_t *file,
                   const mdm_authority_row_t *rows, size_t n)
{
    size_t skip = file != NULL ? 1 : 0;
    size_t i;

    if (set == NULL || set->n != n + skip) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (set->states[i + skip] != rows[i].state ||
            !mdm_str_eq(mdm_authority_fingerprint(set->all[i + skip]),
                        rows[i].fingerprint)) {
            return false;
        }
    }
    return true;
}

static mdm_rc set_trust(set_t *set, mdm_err_t *err)
{
    mdm_str_t certs[MDM_CA_MAX];
    size_t i;

    for (i = 0; i < set->n; i++) {
        certs[i] = mdm_authority_cert(set->all[i]);
    }
    return set->n > 0 ? mdm_trust_new_der(certs, set->n, &set->trust, err)
                      : MDM_OK;
}

static mdm_rc set_new(const mdm_authority_t *file,
                      const mdm_authority_row_t *rows, size_t n,
                      set_t **set_r, mdm_err_t *err)
{
    set_t *set = calloc(1, sizeof(*set));
    mdm_rc rc = MDM_OK;
    size_t i;

    *set_r = set;
    if (set == NULL) {
        return mdm_err_nomem(err);
    }
    set->users = 1;
    if (file != NULL) {
        /* Counting its owners is all that changes in it. */
        set->all[0] = mdm_authority_keep((mdm_authority_t *)(uintptr_t)file);
        set->states[0] = MDM_AUTHORITY_CURRENT;
        set->n = 1;
    }
    for (i = 0; rc == MDM_OK && i < n && set->n < MDM_CA_MAX; i++) {
        set->states[set->n] = rows[i].state;
        rc = mdm_authority_load(rows[i].certificate, rows[i].key,
                                &set->all[set->n], err);
        set->n += rc == MDM_OK ? 1U : 0U;
    }
    set->has_current = set->n > 0 && set->states[0] == MDM_AUTHORITY_CURRENT;
    if (rc == MDM_OK) {
        rc = set_trust(set, err);
    }
    if (rc != MDM_OK) {
        set_free(set);
        *set_r = NULL;
    }
    return rc;
}

/* ---- the object ---------------------------------------------------------- */

mdm_rc mdm_ca_new(mdm_store_t *store, const mdm_authority_t *file,
                  const mdm_log_t *log, mdm_ca_t **ca_r, mdm_err_t *err)
{
    mdm_ca_t *ca = calloc(1, sizeof(*ca));

    *ca_r = ca;
    if (ca == NULL) {
        return mdm_err_nomem(err);
    }
    ca->store = store;
    ca->file = file;
    ca->log = log;
    (void)pthread_mutex_init(&ca->mutex, NULL);
    if (mdm_cond_init(&ca->made, err) != MDM_OK) {
        (void)pthread_mutex_destroy(&ca->mutex);
        free(ca);
        *ca_r = NULL;
        return MDM_EINTERNAL;
    }
    return MDM_OK;
}

void mdm_ca_free(mdm_ca_t **ca)
{
    if (*ca != NULL) {
        set_free((*ca)->set);
        (void)pthread_cond_destroy(&(*ca)->made);
        (void)pthread_mutex_destroy(&(*ca)->mutex);
        free(*ca);
        *ca = NULL;
    }
}

/* ---- the store ----------------------------------------------------------- */

typedef struct look {
    mdm_arena_t *arena;
    mdm_authority_row_t rows[MDM_CA_MAX];
    size_t n;
    size_t max;
} look_t;

static mdm_rc list(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *look = arg;

    return mdm_store_authority_list(tx, true, mdm_wall_us(NULL), look->arena,
                                    look->rows, look->max, &look->n, err);
}

static void use_set(mdm_ca_t *ca, set_t *fresh)
{
    set_t *old;

    (void)pthread_mutex_lock(&ca->mutex);
    old = ca->set;
    ca->set = fresh;
    (void)pthread_mutex_unlock(&ca->mutex);
    set_put(ca, old);
}

mdm_rc mdm_ca_refresh(mdm_ca_t *ca, mdm_err_t *err)
{
    look_t look = {.arena = mdm_arena_new(true)};
    set_t *set = set_get(ca);
    set_t *fresh = NULL;
    mdm_rc rc;

    /* A file's one is current, what the store says of its own one beside. */
    look.max = ca->file != NULL ? MDM_CA_MAX - 1 : MDM_CA_MAX;
    rc = look.arena != NULL ? mdm_store_read(ca->store, list, &look, err)
                            : mdm_err_nomem(err);
    if (rc == MDM_OK && !set_is(set, ca->file, look.rows, look.n)) {
        rc = set_new(ca->file, look.rows, look.n, &fresh, err);
    }
    set_put(ca, set);
    mdm_arena_free(&look.arena);
    if (fresh != NULL) {
        use_set(ca, fresh);
    }
    (void)pthread_mutex_lock(&ca->mutex);
    if (rc == MDM_OK) {
        ca->looked_us = mdm_mono_us(NULL);
    } else {
        ca->tried_us = 0; /* the next one tries again */
    }
    (void)pthread_mutex_unlock(&ca->mutex);
    return rc;
}

/* Is it time to look again?  One thread is told so for each time. */
static bool is_due(mdm_ca_t *ca, int64_t pause_us)
{
    int64_t now = mdm_mono_us(NULL);
    bool due;

    (void)pthread_mutex_lock(&ca->mutex);
    due = ca->set == NULL || (now - ca->looked_us >= pause_us &&
                              now - ca->tried_us >= STRANGER_US);
    if (due) {
        ca->tried_us = now;
    }
    (void)pthread_mutex_unlock(&ca->mutex);
    return due;
}

/* ---- making -------------------------------------------------------------- */

typedef struct addition {
    const mdm_authority_t *authority;
    mdm_authority_state_t state;
    mdm_arena_t *arena;
    mdm_str_t key;
    bool added;
} addition_t;

static mdm_rc add(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    addition_t *a = arg;
    mdm_authority_row_t row = {
        .state = a->state,
        .fingerprint = mdm_authority_fingerprint(a->authority),
        .certificate = mdm_authority_cert(a->authority),
        .key = a->key,
        .not_after_us = mdm_authority_not_after(a->authority)};

    return mdm_store_authority_add(tx, &row, mdm_wall_us(NULL), &a->added,
                                   err);
}

/* The key is made outside the transaction: it takes a second in which nobody
 * else could write.  Of several processes one stores its own. */
static mdm_rc make(mdm_ca_t *ca, mdm_authority_state_t state, bool *added_r,
                   mdm_err_t *err)
{
    addition_t a = {.state = state, .arena = mdm_arena_new(true)};
    mdm_authority_t *fresh = NULL;
    mdm_rc rc;

    *added_r = false;
    rc = a.arena != NULL ? mdm_authority_make(mdm_wall_us(NULL), &fresh, err)
                         : mdm_err_nomem(err);
    if (rc == MDM_OK) {
        a.authority = fresh;
        rc = mdm_authority_write_key(fresh, a.arena, &a.key, err);
    }
    if (rc == MDM_OK) {
        rc = mdm_store_write(ca->store, add, &a, err);
    }
    *added_r = rc == MDM_OK && a.added;
    if (*added_r) {
        mdm_log_msg(ca->log, MDM_LOG_NOTICE, MDM_MSG_AUTHORITY_MADE,
                    "made a certificate authority for devices, %.16s, %s",
                    mdm_authority_fingerprint(fresh).s,
                    state == MDM_AUTHORITY_NEXT ? "to be the next one"
                                                : "which issues from now on");
    }
    mdm_authority_release(&fresh);
    mdm_arena_free(&a.arena);
    return rc;
}

static bool has_current(mdm_ca_t *ca)
{
    set_t *set = set_get(ca);
    bool has = set != NULL && set->has_current;

    set_put(ca, set);
    return has;
}

/* Only one thread of a process makes one; false: another one is at it. */
static bool begin_making(mdm_ca_t *ca)
{
    int64_t until = mdm_mono_us(NULL) + MAKING_US;
    bool mine;

    (void)pthread_mutex_lock(&ca->mutex);
    while (ca->making && mdm_mono_us(NULL) < until) {
        (void)mdm_cond_wait_until(&ca->made, &ca->mutex, until);
    }
    mine = !ca->making;
    ca->making = true;
    (void)pthread_mutex_unlock(&ca->mutex);
    return mine;
}

static void end_making(mdm_ca_t *ca)
{
    (void)pthread_mutex_lock(&ca->mutex);
    ca->making = false;
    (void)pthread_cond_broadcast(&ca->made);
    (void)pthread_mutex_unlock(&ca->mutex);
}

static mdm_rc have_current(mdm_ca_t *ca, mdm_err_t *err)
{
    bool added;
    mdm_rc rc;

    if (!begin_making(ca)) {
        return mdm_err_set(err, MDM_EBUSY, 0,
                           "the certificate authority is being made");
    }
    rc = mdm_ca_refresh(ca, err);
    if (rc == MDM_OK && !has_current(ca)) {
        rc = make(ca, MDM_AUTHORITY_CURRENT, &added, err);
        if (rc == MDM_OK) {
            rc = mdm_ca_refresh(ca, err);
        }
    }
    end_making(ca);
    if (rc == MDM_OK && !has_current(ca)) {
        rc = mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                         "there is no certificate authority");
    }
    return rc;
}

mdm_rc mdm_ca_hold(mdm_ca_t *ca, mdm_ca_hold_t *hold_r, mdm_err_t *err)
{
    mdm_rc rc = MDM_OK;
    set_t *set;
    size_t i;

    memset(hold_r, 0, sizeof(*hold_r));
    /* Another process may have promoted the next one a moment ago. */
    if (is_due(ca, ca->file != NULL ? LOOK_US : STRANGER_US)) {
        rc = mdm_ca_refresh(ca, err);
    }
    if (rc == MDM_OK && !has_current(ca)) {
        rc = have_current(ca, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    set = set_get(ca);
    for (i = 0; i < set->n; i++) {
        hold_r->all[i] = mdm_authority_keep(set->all[i]);
    }
    hold_r->n = set->n;
    set_put(ca, set);
    return MDM_OK;
}

void mdm_ca_let_go(mdm_ca_hold_t *hold)
{
    size_t i;

    for (i = 0; i < hold->n; i++) {
        mdm_authority_release(&hold->all[i]);
    }
    hold->n = 0;
}

mdm_rc mdm_ca_certificates(mdm_ca_t *ca, mdm_arena_t *arena, mdm_str_t *certs,
                           size_t *n_r, mdm_err_t *err)
{
    mdm_ca_hold_t hold;
    mdm_rc rc = mdm_ca_hold(ca, &hold, err);
    set_t *set;
    size_t i;

    *n_r = 0;
    if (rc != MDM_OK) {
        return rc;
    }
    mdm_ca_let_go(&hold);
    set = set_get(ca);
    for (i = 0; rc == MDM_OK && i < set->n; i++) {
        if (set->states[i] != MDM_AUTHORITY_FORMER &&
            !mdm_arena_str(arena, mdm_authority_cert(set->all[i]),
                           &certs[(*n_r)++])) {
            rc = mdm_err_nomem(err);
        }
    }
    set_put(ca, set);
    return rc;
}

/* ---- trust --------------------------------------------------------------- */

static mdm_rc verify_once(mdm_ca_t *ca, const mdm_trust_t *trust,
                          const mdm_shown_t *shown, int64_t now_us,
                          mdm_identity_t *identity_r, mdm_err_t *err)
{
    set_t *set = set_get(ca);
    const mdm_trust_t *trusts[2] = {trust, set != NULL ? set->trust : NULL};
    mdm_rc rc;

    rc = mdm_trust_verify_any(trusts, 2, shown, now_us, identity_r, err);
    set_put(ca, set);
    return rc;
}

mdm_rc mdm_ca_verify(mdm_ca_t *ca, const mdm_trust_t *trust,
                     const mdm_shown_t *shown, int64_t now_us,
                     mdm_identity_t *identity_r, mdm_err_t *err)
{
    mdm_err_t unread;
    mdm_rc rc = MDM_OK;

    mdm_err_clear(&unread);
    if (has_current(ca) && is_due(ca, LOOK_US)) {
        rc = mdm_ca_refresh(ca, &unread); /* else the old set has to do */
    }
    rc = verify_once(ca, trust, shown, now_us, identity_r, err);
    if (rc != MDM_EDENIED || !is_due(ca, STRANGER_US)) {
        return rc;
    }
    /* It may be of an authority that was made since, elsewhere; as long as
     * that is unknown nobody may be told that he is not trusted. */
    if (mdm_ca_refresh(ca, &unread) != MDM_OK) {
        if (err != NULL) {
            *err = unread;
        }
        return unread.rc;
    }
    return verify_once(ca, trust, shown, now_us, identity_r, err);
}

mdm_rc mdm_ca_verify_own(mdm_ca_t *ca, const mdm_shown_t *shown,
                         int64_t now_us, mdm_identity_t *identity_r,
                         mdm_err_t *err)
{
    return mdm_ca_verify(ca, NULL, shown, now_us, identity_r, err);
}

/* ---- what an operator does ----------------------------------------------- */

static mdm_rc check_own(const mdm_ca_t *ca, mdm_err_t *err)
{
    return ca->file == NULL
               ? MDM_OK
               : mdm_err_set(err, MDM_ECONFLICT, 0,
                             "the certificate authority is the one that "
                             "MDMSCEPCertificateFile (mdm_scep_certificate) "
                             "names; replace that file, and name the "
                             "authority before in "
                             "MDMDeviceCACertificateFile "
                             "(mdm_device_ca_certificate)");
}

mdm_rc mdm_ca_prepare(mdm_ca_t *ca, mdm_arena_t *arena, mdm_str_t *cert_r,
                      mdm_err_t *err)
{
    mdm_ca_hold_t hold = {.n = 0};
    bool added = false;
    mdm_rc rc = check_own(ca, err);
    set_t *set;
    size_t i;

    *cert_r = MDM_STR_NONE;
    if (rc == MDM_OK) {
        rc = mdm_ca_hold(ca, &hold, err);
        mdm_ca_let_go(&hold);
    }
    if (rc == MDM_OK) {
        rc = make(ca, MDM_AUTHORITY_NEXT, &added, err);
    }
    if (rc == MDM_OK && !added) {
        rc = mdm_err_set(err, MDM_ECONFLICT, 0,
                         "a next certificate authority is prepared already");
    }
    if (rc == MDM_OK) {
        rc = mdm_ca_refresh(ca, err);
    }
    set = rc == MDM_OK ? set_get(ca) : NULL;
    for (i = 0; set != NULL && i < set->n; i++) {
        if (set->states[i] == MDM_AUTHORITY_NEXT &&
            !mdm_arena_str(arena, mdm_authority_cert(set->all[i]), cert_r)) {
            rc = mdm_err_nomem(err);
        }
    }
    set_put(ca, set);
    return rc;
}

static mdm_rc list_all(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    look_t *look = arg;

    return mdm_store_authority_list(tx, false, mdm_wall_us(NULL), look->arena,
                                    look->rows, look->max, &look->n, err);
}

mdm_rc mdm_ca_list(mdm_ca_t *ca, mdm_arena_t *arena,
                   mdm_authority_row_t *rows, size_t *n_r, mdm_err_t *err)
{
    look_t look = {.arena = arena, .max = MDM_CA_MAX - 1};
    size_t skip = ca->file != NULL ? 1 : 0;
    mdm_rc rc = mdm_store_read(ca->store, list_all, &look, err);

    memset(rows, 0, sizeof(*rows));
    if (ca->file != NULL) {
        rows[0].state = MDM_AUTHORITY_CURRENT;
        rows[0].fingerprint = mdm_authority_fingerprint(ca->file);
        rows[0].certificate = mdm_authority_cert(ca->file);
        rows[0].not_after_us = mdm_authority_not_after(ca->file);
        rows[0].in_use = true;
    }
    memcpy(rows + skip, look.rows, look.n * sizeof(*rows));
    *n_r = look.n + skip;
    return rc;
}

static mdm_rc promote(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_authority_promote(tx, arg, err);
}

mdm_rc mdm_ca_promote(mdm_ca_t *ca, mdm_err_t *err)
{
    bool done = false;
    mdm_rc rc = check_own(ca, err);

    if (rc == MDM_OK) {
        rc = mdm_store_write(ca->store, promote, &done, err);
    }
    if (rc == MDM_OK && !done) {
        rc = mdm_err_set(err, MDM_ECONFLICT, 0,
                         "no next certificate authority is prepared");
    }
    return rc == MDM_OK ? mdm_ca_refresh(ca, err) : rc;
}
