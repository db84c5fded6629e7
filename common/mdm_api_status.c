/*
 * mdm_api_status.c - the call that tells how the server itself is.
 */
#include "mdm_api.h"

typedef struct status_job {
    mdm_store_status_t store;
    int64_t given_up;
} status_job_t;

static mdm_rc read_status(mdm_tx_t *tx, void *arg, mdm_err_t *err)
{
    status_job_t *job = arg;
    mdm_rc rc = mdm_store_status(tx, &job->store, err);

    return rc == MDM_OK ? mdm_store_push_given_up(tx, &job->given_up, err)
                        : rc;
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
    status_job_t status;
    mdm_rc rc;

    rc = mdm_store_read(call->server->store, read_status, &status, err);
    if (rc != MDM_OK) {
        return rc;
    }
    return mdm_api_reply(call, 200,
                         json_pack("{s:s, s:I, s:o, s:{s:I}}", "version",
                                   mdm_version(), "schema",
                                   (json_int_t)status.store.schema,
                                   "secret_key", key_json(&status.store),
                                   "pushes", "given_up",
                                   (json_int_t)status.given_up),
                         err);
}
