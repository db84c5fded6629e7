/*
 * mdm_store_int.h - between the files of the store: which secret keys its
 * rows are sealed under, and how far sealing them anew has come.
 *
 * Rows of meta about keys:
 *   secret_key              fingerprint of the key that closes
 *   secret_key_former       of the one before; while it is there, values
 *                           under it may be left: a rotation is under way
 *   secret_key_retired ID   it was replaced, when; never becomes current again
 *   reseal                  where the walk over the sealed columns stands
 */
#ifndef MDM_STORE_INT_H
#define MDM_STORE_INT_H

#include "mdm_sql.h"

/* A key of the walk: a number as text, or a topic. */
#define MDM_RESEAL_KEY_SIZE (MDM_TOPIC_MAX + 1)

/* Fingerprints; "" when there is none. */
typedef struct mdm_keys {
    char current[MDM_SEAL_ID_SIZE];
    char former[MDM_SEAL_ID_SIZE];
} mdm_keys_t;

/* Where the walk stands.  Kept by the store, used by one thread (the one that
 * calls mdm_store_reseal). */
typedef struct mdm_reseal {
    mdm_keys_t keys;  /* the rotation it belongs to */
    size_t column;    /* of mdm_sealed_columns() */
    char key[MDM_RESEAL_KEY_SIZE]; /* done up to this one; "": none yet */
    int64_t done;     /* values sealed anew in this rotation */
    int64_t found;    /* stale values that this pass met */
    int64_t damaged;  /* values of this pass that do not open */
    bool told_spare;
    mdm_log_limit_t limit;
} mdm_reseal_t;

/* mdm_store_key.c, all inside a transaction or a plain read. */
mdm_rc mdm_store_keys(mdm_tx_t *tx, mdm_keys_t *keys_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* When the store is opened: is it ours to work with, under which of our keys,
 * and is this the beginning of a rotation (*began_r)?  Sets the key that
 * closes.  MDM_ECONFIG or MDM_EUNAVAIL with MDM0106. */
mdm_rc mdm_store_adopt_keys(mdm_tx_t *tx, mdm_seal_t *seal, bool *began_r,
                            mdm_err_t *err) MDM_USE_RESULT;
/* At the begin of every writing transaction: the key that closes is the one
 * the store names now.  MDM_EUNAVAIL with MDM0106: it is none of ours. */
mdm_rc mdm_store_check_key(mdm_tx_t *tx, mdm_seal_t *seal, mdm_err_t *err)
    MDM_USE_RESULT;

/* mdm_store_reseal.c: the saved walk, in this rotation's keys. */
mdm_rc mdm_reseal_load(mdm_tx_t *tx, const mdm_keys_t *keys,
                       mdm_reseal_t *at_r, mdm_err_t *err) MDM_USE_RESULT;
/* How many rows it has to look at still, at most. */
mdm_rc mdm_reseal_left(mdm_tx_t *tx, const mdm_reseal_t *at, int64_t *left_r,
                       mdm_err_t *err) MDM_USE_RESULT;

/* mdm_store_enroll.c: opens the value of a column of an enrolment; as
 * mdm_seal_open(). */
mdm_rc mdm_enrollment_open(mdm_tx_t *tx, const char *column, int64_t eid,
                           mdm_str_t sealed, mdm_arena_t *arena,
                           mdm_str_t *plain_r, mdm_err_t *err) MDM_USE_RESULT;

/* mdm_store.c */
mdm_reseal_t *mdm_store_reseal_at(mdm_store_t *store);
const mdm_log_t *mdm_store_log(const mdm_store_t *store);

#endif
