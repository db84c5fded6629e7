/*
 * mdm_challenge.h - one-time challenges: the right to one certificate of the
 * built-in authority.
 *
 * A challenge is 32 letters and digits (160 random bits) that every kind of
 * string in a request can hold.  The store keeps its SHA-256 only, so looking
 * one up tells nothing by its time.  It is good once, until its time is over,
 * and for what it was made for: what the requester calls itself does not
 * count, the certificate gets the name that the challenge says, and who shows
 * it as another device is refused (mdm_enroll.h).
 *
 * Any thread; blocks on the store.
 */
#ifndef MDM_CHALLENGE_H
#define MDM_CHALLENGE_H

#include "mdm_store_issue.h"

#define MDM_CHALLENGE_LEN 32
#define MDM_CHALLENGE_SIZE (MDM_CHALLENGE_LEN + 1)
/* Longer ones are no challenges of ours, static ones included. */
#define MDM_CHALLENGE_MAX 256

typedef enum mdm_challenge_purpose {
    MDM_CHALLENGE_ENROL = 1, /* a first identity */
    MDM_CHALLENGE_RENEW = 2  /* another one for an enrolment that has one: it
                              * is bound to it as it is issued */
} mdm_challenge_purpose_t;

/* What a challenge is for.  Absent strings: not known, anything goes. */
typedef struct mdm_challenge {
    mdm_challenge_purpose_t purpose;
    /* Device part of the enrolment id: UDID, or EnrollmentID of a user
     * enrolment.  To renew it must be there. */
    mdm_str_t device_id;
    mdm_str_t serial_number; /* of the device */
    /* Common name of the subject; absent: device_id, else serial_number, else
     * what the request says. */
    mdm_str_t common_name;
} mdm_challenge_t;

/* Makes one that is good for life_us, inside a writing transaction.
 * MDM_EINVAL: what it is for is too long or no printable ASCII, or a renewal
 * for nobody.  MDM_ENOTFOUND: a renewal for an unknown enrolment.
 * MDM_EINTERNAL, store errors. */
mdm_rc mdm_challenge_make(mdm_tx_t *tx, const mdm_challenge_t *what,
                          int64_t life_us, char text_r[MDM_CHALLENGE_SIZE],
                          mdm_err_t *err) MDM_USE_RESULT;
/* The same in a transaction of its own. */
mdm_rc mdm_challenge_give(mdm_store_t *store, const mdm_challenge_t *what,
                          int64_t life_us, char text_r[MDM_CHALLENGE_SIZE],
                          mdm_err_t *err) MDM_USE_RESULT;

/* What a challenge is for, which stays as it is.  As below. */
mdm_rc mdm_challenge_look(mdm_tx_t *tx, mdm_str_t text, int64_t now_us,
                          mdm_arena_t *arena, mdm_challenge_t *what_r,
                          mdm_err_t *err) MDM_USE_RESULT;
/* Checks and uses up a challenge, inside the transaction that issues what it
 * is good for: when that is rolled back, the challenge is there again.
 * *what_r: what it is for, strings in the arena.
 * MDM_EDENIED: unknown, used, or too late.  Store errors. */
mdm_rc mdm_challenge_use(mdm_tx_t *tx, mdm_str_t text, int64_t now_us,
                         mdm_arena_t *arena, mdm_challenge_t *what_r,
                         mdm_err_t *err) MDM_USE_RESULT;

#endif
