/*
 * mdm_expiry_list.c - every certificate whose end somebody is told of: push
 * certificates, and the authorities of device identities.  Whoever brings
 * authority adds it by mdm_ends_add(), where the configuration's or the store's
 * are added here, and log, events, page, JSON and Prometheus have it.  See
 * mdm_expiry.h.
 */
#include "mdm_expiry.h"

#include <string.h>

#include "mdm_ca.h"
#include "mdm_pushcert.h"
#include "mdm_store_issue.h"
#include "mdm_str.h"
#include "mdm_time.h"

/* There is one push certificate of a topic, but many authorities may have one
 * name. */
static bool is_same(const mdm_end_t *a, const mdm_end_t *b)
{
    return a->kind == b->kind &&
           (a->kind == MDM_END_PUSH
                ? mdm_str_eq(a->name, b->name)
                : mdm_str_eq(a->fingerprint, b->fingerprint));
}

void mdm_ends_add(mdm_ends_t *ends, const mdm_end_t *end)
{
    size_t last = 0; /* the one that ends last */
    size_t i;

    for (i = 0; i < ends->n; i++) {
        if (is_same(&ends->list[i], end)) {
            return;
        }
        if (ends->list[i].not_after_us > ends->list[last].not_after_us) {
            last = i;
        }
    }
    if (ends->n < MDM_ENDS_MAX) {
        ends->list[ends->n++] = *end;
    } else if (end->not_after_us < ends->list[last].not_after_us) {
        ends->list[last] = *end;
    }
}

static void add_files(const mdm_expiry_config_t *config, mdm_ends_t *ends)
{
    const mdm_keypair_t *pair;
    size_t i;

    for (i = 0; i < config->nfile_certs; i++) {
        pair = config->file_certs[i];
        mdm_ends_add(ends,
                     &(mdm_end_t){.kind = MDM_END_PUSH,
                                  .name = pair->topic,
                                  .fingerprint =
                                      mdm_str_from(pair->fingerprint),
                                  .not_after_us = pair->not_after_us,
                                  .from_file = true});
    }
}

static bool is_file(const mdm_expiry_config_t *config, mdm_str_t fingerprint)
{
    size_t i;

    for (i = 0; i < config->nfile_certs; i++) {
        if (mdm_str_is(fingerprint, config->file_certs[i]->fingerprint)) {
            return true;
        }
    }
    return false;
}

static mdm_rc add_stored(mdm_tx_t *tx, const mdm_expiry_config_t *config,
                         mdm_arena_t *arena, mdm_ends_t *ends, mdm_err_t *err)
{
    mdm_pushcert_row_t rows[MDM_PUSH_TOPICS_MAX];
    const mdm_pushcert_row_t *r;
    size_t n = 0;
    mdm_rc rc = mdm_store_pushcert_list(tx, arena, rows, MDM_PUSH_TOPICS_MAX,
                                        &n, err);

    for (r = rows; rc == MDM_OK && r < rows + n; r++) {
        mdm_ends_add(ends, &(mdm_end_t){.kind = MDM_END_PUSH,
                                        .name = r->topic,
                                        .fingerprint = r->fingerprint,
                                        .not_after_us = r->not_after_us,
                                        .from_file = is_file(config,
                                                             r->fingerprint),
                                        .suspended = r->suspended,
                                        .suspended_at = r->suspended_at,
                                        .accepted_at = r->accepted_at});
    }
    return rc;
}

static mdm_rc add_authority(mdm_ends_t *ends, mdm_end_t end, mdm_str_t der,
                            mdm_arena_t *arena, mdm_err_t *err)
{
    char *subject = mdm_arena_alloc(arena, MDM_TRUST_SUBJECT_SIZE);

    if (subject == NULL) {
        return mdm_err_nomem(err);
    }
    mdm_x509_subject(der, subject);
    end.kind = MDM_END_DEVICE_CA;
    end.name = mdm_str_from(subject);
    mdm_ends_add(ends, &end);
    return MDM_OK;
}

/* Those that the built-in SCEP server made itself. */
static mdm_rc add_made(mdm_tx_t *tx, mdm_arena_t *arena, mdm_ends_t *ends,
                       mdm_err_t *err)
{
    mdm_authority_row_t rows[MDM_CA_MAX];
    const mdm_authority_row_t *r;
    size_t n = 0;
    mdm_rc rc = mdm_store_authority_list(tx, false, mdm_wall_us(NULL), arena,
                                         rows, MDM_CA_MAX, &n, err);

    for (r = rows; rc == MDM_OK && r < rows + n; r++) {
        rc = add_authority(ends,
                           (mdm_end_t){.fingerprint = r->fingerprint,
                                       .not_after_us = r->not_after_us},
                           r->certificate, arena, err);
    }
    return rc;
}

static mdm_rc add_authorities(const mdm_expiry_config_t *config,
                              mdm_arena_t *arena, mdm_ends_t *ends,
                              mdm_err_t *err)
{
    const mdm_trust_ca_t *list;
    size_t n;
    size_t t;
    size_t i;

    for (t = 0; t < config->ntrusts; t++) {
        list = mdm_trust_cas(config->trusts[t], &n);
        for (i = 0; i < n; i++) {
            mdm_ends_add(ends,
                         &(mdm_end_t){.kind = MDM_END_DEVICE_CA,
                                      .name = mdm_str_from(list[i].subject),
                                      .fingerprint = mdm_str_from(
                                          list[i].fingerprint),
                                      .not_after_us = list[i].not_after_us,
                                      .from_file = true});
        }
    }
    return config->issuer != NULL
               ? add_authority(
                     ends,
                     (mdm_end_t){.fingerprint = mdm_authority_fingerprint(
                                     config->issuer),
                                 .not_after_us = mdm_authority_not_after(
                                     config->issuer),
                                 .from_file = true},
                     mdm_authority_cert(config->issuer), arena, err)
               : MDM_OK;
}

mdm_rc mdm_ends_read(mdm_tx_t *tx, const mdm_expiry_config_t *config,
                     mdm_arena_t *arena, mdm_ends_t *ends_r, mdm_err_t *err)
{
    mdm_rc rc;

    memset(ends_r, 0, sizeof(*ends_r));
    if (tx != NULL) {
        rc = add_stored(tx, config, arena, ends_r, err);
    } else {
        add_files(config, ends_r);
        rc = MDM_OK;
    }
    /* Before the store's: one may be in both. */
    if (rc == MDM_OK) {
        rc = add_authorities(config, arena, ends_r, err);
    }
    return rc == MDM_OK && tx != NULL ? add_made(tx, arena, ends_r, err) : rc;
}
