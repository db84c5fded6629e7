/*
 * mdm_store_identity.c - verbs on device certificates and on who is shut out.
 */
#include "mdm_store.h"

#include <string.h>

#include "mdm_sql.h"

static mdm_str_t fp_str(const unsigned char fp[MDM_SHA256_LEN])
{
    return (mdm_str_t){(const char *)fp, MDM_SHA256_LEN};
}

mdm_rc mdm_store_identity_get(mdm_tx_t *tx,
                              const unsigned char fp[MDM_SHA256_LEN],
                              mdm_binding_t *binding_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(binding_r, 0, sizeof(*binding_r));
    mdm_query_begin(&q, tx, MDM_SQL_IDENTITY_GET, err, "b", fp_str(fp));
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        binding_r->device_eid = mdm_query_int(&q, 0);
        binding_r->current = mdm_query_int(&q, 1) != 0;
        binding_r->renewal = (mdm_renewal_t)mdm_query_int(&q, 2);
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_owner_get(mdm_tx_t *tx, int64_t device_eid,
                           mdm_owner_t *owner_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(owner_r, 0, sizeof(*owner_r));
    mdm_query_begin(&q, tx, MDM_SQL_OWNER_GET, err, "i", device_eid);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && row) {
        owner_r->state = (mdm_enrollment_state_t)mdm_query_int(&q, 0);
        owner_r->blocked = mdm_query_int(&q, 1) != 0;
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_identity_any(mdm_tx_t *tx, int64_t device_eid, bool *any_r,
                              bool *own_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    mdm_query_begin(&q, tx, MDM_SQL_IDENTITY_ANY, err, "ii", device_eid,
                    (int64_t)MDM_RENEWAL_FOUND);
    rc = mdm_query_row(&q, &row);
    *any_r = rc == MDM_OK && row && !mdm_query_null(&q, 0);
    *own_r = *any_r && mdm_query_int(&q, 0) != 0;
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_identity_bind(mdm_tx_t *tx, const mdm_binding_add_t *add,
                               int64_t now_us, mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_IDENTITY_BIND, NULL, err, "biiibi",
                       fp_str(add->fingerprint), add->device_eid, now_us,
                       add->not_after_us, add->der, (int64_t)add->renewal);
}

mdm_rc mdm_store_identity_settle(mdm_tx_t *tx, int64_t device_eid,
                                 const unsigned char fp[MDM_SHA256_LEN],
                                 mdm_renewal_t renewal, mdm_err_t *err)
{
    mdm_rc rc;

    rc = mdm_sql_run(tx, MDM_SQL_IDENTITY_RETIRE, NULL, err, "ib", device_eid,
                     fp_str(fp));
    if (rc == MDM_OK) {
        rc = mdm_sql_run(tx, MDM_SQL_IDENTITY_RENEWAL, NULL, err, "bi",
                         fp_str(fp), (int64_t)renewal);
    }
    return rc;
}

/* ---- blocked devices ---------------------------------------------------- */

mdm_rc mdm_store_block(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                       mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_BLOCK, NULL, err, "ii", eid, at_us);
}

mdm_rc mdm_store_blocked_get(mdm_tx_t *tx, mdm_str_t id, mdm_arena_t *arena,
                             mdm_blocked_t *blocked_r, mdm_err_t *err)
{
    mdm_query_t q;
    bool row;
    mdm_rc rc;

    memset(blocked_r, 0, sizeof(*blocked_r));
    mdm_query_begin(&q, tx, MDM_SQL_BLOCKED_GET, err, "t", id);
    rc = mdm_query_row(&q, &row);
    if (rc == MDM_OK && !row) {
        rc = mdm_err_set(err, MDM_ENOTFOUND, 0, "no such enrolment");
    } else if (rc == MDM_OK) {
        blocked_r->eid = mdm_query_int(&q, 0);
        blocked_r->told_at = mdm_query_int(&q, 1);
        blocked_r->blocked = mdm_query_int(&q, 4) != 0;
        if (!mdm_arena_str(arena, mdm_query_str(&q, 2),
                           &blocked_r->product_name) ||
            !mdm_arena_str(arena, mdm_query_str(&q, 3),
                           &blocked_r->os_version)) {
            rc = mdm_err_nomem(err);
        }
    }
    mdm_query_end(&q);
    return rc;
}

mdm_rc mdm_store_blocked_told(mdm_tx_t *tx, int64_t eid, int64_t at_us,
                              mdm_err_t *err)
{
    return mdm_sql_run(tx, MDM_SQL_BLOCKED_TOLD, NULL, err, "ii", eid, at_us);
}
