/*
 * mdm_store_key.c - which secret key a store is sealed under, and who may
 * work with it while the key is being replaced.
 *
 * The store itself names the key (mdm_store_int.h); a process seals with what
 * the store names, if it knows that key.  The order of the keys in the
 * configuration says what the operator wants: one that is opened with a new
 * first key and the store's as the second begins a rotation.  A key that was
 * replaced once never comes back, so that a process with an old configuration
 * cannot turn a rotation round.
 */
#include "mdm_store_int.h"

#include <stdio.h>
#include <string.h>

#include "mdm_str.h"
#include "mdm_time.h"

#define CURRENT MDM_STR("secret_key")
#define FORMER MDM_STR("secret_key_former")
#define RESEAL MDM_STR("reseal")

/* "" when there is no such row. */
static mdm_rc get_id(mdm_tx_t *tx, mdm_str_t name, char id_r[MDM_SEAL_ID_SIZE],
                     mdm_err_t *err)
{
    mdm_query_t q;
    mdm_str_t value;
    bool row;
    mdm_rc rc;

    id_r[0] = '\0';
    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t", name);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        value = mdm_query_str(&q, 0);
        (void)snprintf(id_r, MDM_SEAL_ID_SIZE, "%.*s", MDM_STR_ARG(value));
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_keys(mdm_tx_t *tx, mdm_keys_t *keys_r, mdm_err_t *err)
{
    mdm_rc rc = get_id(tx, CURRENT, keys_r->current, err);

    return rc == MDM_OK ? get_id(tx, FORMER, keys_r->former, err) : rc;
}

static void retired_name(const char *id, char name_r[64])
{
    (void)snprintf(name_r, 64, "secret_key_retired %s", id);
}

static mdm_rc is_retired(mdm_tx_t *tx, const char *id, bool *retired_r,
                         mdm_err_t *err)
{
    char name[64];
    mdm_query_t q;
    mdm_rc rc;

    retired_name(id, name);
    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t", mdm_str_from(name));
    rc = mdm_query_row(&q, retired_r);
    mdm_query_end(&q);
    return rc;
}

/* The store names a key that this process does not have; `strange` is the
 * code for one that was never the store's. */
static mdm_rc refuse(mdm_tx_t *tx, const mdm_seal_t *seal, const char *current,
                     mdm_rc strange, mdm_err_t *err)
{
    const char *mine = mdm_seal_nth_id(seal, 0);
    bool retired = false;
    mdm_rc rc = is_retired(tx, mine, &retired, err);

    if (rc != MDM_OK) {
        return rc;
    }
    if (retired) {
        return mdm_err_set(err, MDM_EUNAVAIL, MDM_MSG_SECRET_KEY_WRONG,
                           "the secret key %.8s was replaced by %.8s, which "
                           "this process does not know",
                           mine, current);
    }
    return mdm_err_set(err, strange, MDM_MSG_SECRET_KEY_WRONG,
                       "the store was made with another secret key: it is "
                       "sealed under %.8s, this one is %.8s",
                       current, mine);
}

mdm_rc mdm_store_check_key(mdm_tx_t *tx, mdm_seal_t *seal, mdm_err_t *err)
{
    char current[MDM_SEAL_ID_SIZE];
    mdm_rc rc = get_id(tx, CURRENT, current, err);

    if (rc == MDM_OK && !mdm_seal_use(seal, mdm_str_from(current))) {
        /* It was ours when the store was opened. */
        rc = refuse(tx, seal, current, MDM_EUNAVAIL, err);
    }
    return rc;
}

/* The second key is the store's, the first one is new: from this transaction
 * on everybody seals under it. */
static mdm_rc begin_rotation(mdm_tx_t *tx, const mdm_seal_t *seal,
                             mdm_err_t *err)
{
    mdm_str_t fresh = mdm_str_from(mdm_seal_nth_id(seal, 0));
    mdm_str_t former = mdm_str_from(mdm_seal_nth_id(seal, 1));
    char now[MDM_RFC3339_SIZE];
    char name[64];
    mdm_rc rc;

    mdm_time_format(mdm_wall_us(NULL), now);
    retired_name(former.s, name);
    rc = mdm_sql_run(tx, MDM_SQL_META_SET, NULL, err, "tt", CURRENT, fresh);
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_META_SET, NULL, err, "tt", FORMER,
                         former);
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_META_SET, NULL, err, "tt",
                         mdm_str_from(name), mdm_str_from(now));
    }
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_META_DELETE, NULL, err, "t", RESEAL);
    }
    return rc;
}

/* Which of our keys closes. */
static mdm_rc choose(mdm_tx_t *tx, mdm_seal_t *seal, const mdm_keys_t *keys,
                     bool *began_r, mdm_err_t *err)
{
    const char *first = mdm_seal_nth_id(seal, 0);
    const char *use = keys->current;
    bool retired = false;
    mdm_rc rc = MDM_OK;

    if (strcmp(keys->current, first) != 0) {
        rc = is_retired(tx, first, &retired, err);
        if (rc == MDM_OK && !retired) {
            rc = begin_rotation(tx, seal, err);
            *began_r = rc == MDM_OK;
            use = first;
        }
    }
    if (rc == MDM_OK && !mdm_seal_use(seal, mdm_str_from(use))) {
        rc = mdm_err_set(err, MDM_EINTERNAL, MDM_MSG_INTERNAL,
                         "a key is known and is not");
    }
    return rc;
}

mdm_rc mdm_store_adopt_keys(mdm_tx_t *tx, mdm_seal_t *seal, bool *began_r,
                            mdm_err_t *err)
{
    mdm_keys_t keys;
    mdm_rc rc;

    *began_r = false;
    rc = mdm_sql_run(tx, MDM_SQL_META_ADD, NULL, err, "tt", CURRENT,
                     mdm_str_from(mdm_seal_nth_id(seal, 0)));
    if (rc == MDM_OK) {
        rc = mdm_store_keys(tx, &keys, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    if (!mdm_seal_knows(seal, mdm_str_from(keys.current))) {
        return refuse(tx, seal, keys.current, MDM_ECONFIG, err);
    }
    if (keys.former[0] != '\0' &&
        !mdm_seal_knows(seal, mdm_str_from(keys.former))) {
        return mdm_err_set(err, MDM_ECONFIG, MDM_MSG_SECRET_KEY_WRONG,
                           "secrets are left under the former secret key "
                           "%.8s; name its file as the second argument until "
                           "the status says that it may go",
                           keys.former);
    }
    return choose(tx, seal, &keys, began_r, err);
}

mdm_rc mdm_store_status(mdm_tx_t *tx, mdm_store_status_t *status_r,
                        mdm_err_t *err)
{
    const mdm_sealed_t *columns;
    uint64_t schema = 0;
    mdm_reseal_t at;
    mdm_query_t q;
    bool row;
    size_t n;
    mdm_rc rc;

    memset(status_r, 0, sizeof(*status_r));
    mdm_query_begin(&q, tx, MDM_SQL_META_GET, err, "t",
                    MDM_STR("schema_version"));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row &&
        mdm_parse_u64(mdm_query_str(&q, 0), INT32_MAX, &schema)) {
        status_r->schema = (int64_t)schema;
    }
    mdm_query_end(&q);
    if (rc == MDM_OK) {
        rc = mdm_store_keys(tx, &at.keys, err);
    }
    if (rc != MDM_OK) {
        return rc;
    }
    (void)snprintf(status_r->key, sizeof(status_r->key), "%.8s",
                   at.keys.current);
    (void)snprintf(status_r->former_key, sizeof(status_r->former_key), "%.8s",
                   at.keys.former);
    if (at.keys.former[0] == '\0') {
        return MDM_OK;
    }
    rc = mdm_reseal_load(tx, &at.keys, &at, err);
    if (rc == MDM_OK) {
        columns = mdm_sealed_columns(&n);
        status_r->table = columns[at.column].table;
        status_r->resealed = at.done;
        rc = mdm_reseal_left(tx, &at, &status_r->left, err);
    }
    return rc;
}
