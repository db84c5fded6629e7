/*
 * mdm_api_status.c - the call that tells how the server itself is.
 */
#include "mdm_api.h"

static mdm_rc read_status(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    return mdm_store_status(tx, arg, err);
}

static json_t *key_json(const mdm_store_status_t *s)
{
    bool rotating = s->former_key[0] != '\0';
    json_t *rotation = json_null();

    if (rotating) {
        rotation = json_pack("{s:s, s:I, s:I, s:s}", "from", s->former_key,
                             "done", (json_int_t)s->resealed, "left",
                             (json_int_t)s->left, "table", s->table);
    }
    return json_pack("{s:s, s:o, s:b}", "id", s->key, "rotation", rotation,
                     "old_key_needed", rotating ? 1 : 0);
}

mdm_rc mdm_api_status_get(mdm_api_call_t *call, mdm_err_t *err)
{
    mdm_store_status_t status;
    mdm_rc rc;

    rc = mdm_store_read(call->server->store, read_status, &status, err);
    if (rc != MDM_OK) {
        return rc;
    }
    return mdm_api_reply(call, 200,
                         json_pack("{s:s, s:I, s:o}", "version", mdm_version(),
                                   "schema", (json_int_t)status.schema,
                                   "secret_key", key_json(&status)),
                         err);
}
