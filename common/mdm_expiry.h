/*
 * mdm_expiry.h - which certificates end soon, and who is told of it.
 *
 * The times that count, and how loud it is said, are one table here.  The
 * process that does the chores tells the log, once for each step of the
 * table, and adds an event in the same transaction that notes that it was
 * told; so neither a restart nor another leader says it again.  Dispatcher
 * thread, but for mdm_expiry_step() and the list: any thread.
 *
 * The list of such certificates is made in one place, mdm_expiry_list.c, for
 * this and for the status page: what it leaves out nobody is told of.
 */
#ifndef MDM_EXPIRY_H
#define MDM_EXPIRY_H

#include "mdm_log.h"
#include "mdm_store.h"
#include "mdm_x509.h"
#include "mdm_x509_ca.h"

/* How near its end a certificate is: 0 more than 60 days, then a step at 60,
 * 30, 14, 7, 3, 1 and 0 days, the last of which is MDM_EXPIRY_OVER. */
#define MDM_EXPIRY_OVER 7
int mdm_expiry_step(int64_t not_after_us, int64_t now_us);

/* Whose certificates are looked at beside those of the store.  Borrowed. */
typedef struct mdm_expiry_config {
    mdm_store_t *store;
    const mdm_log_t *log;
    int64_t warn_us; /* of MDMPushCertificateWarn */
    /* Push certificates from files, of which the parent has warned. */
    const mdm_keypair_t *const *file_certs;
    size_t nfile_certs;
    const mdm_authority_t *issuer; /* of the SCEP server; NULL: the store's */
    const mdm_trust_t *const *trusts; /* device CAs */
    size_t ntrusts;
    int64_t loaded_us; /* when the parent read it: the stamp of one start */
} mdm_expiry_config_t;

/* Looks at all of them.  At the first look of all processes that share a
 * configuration's stamp, those of the store that end within warn_us are warned
 * of, although that was said before.  Store errors. */
mdm_rc mdm_expiry_look(const mdm_expiry_config_t *config, int64_t now_us,
                       mdm_err_t *err) MDM_USE_RESULT;

/* ---- the list ------------------------------------------------------------ */

typedef enum mdm_end_kind { MDM_END_PUSH, MDM_END_DEVICE_CA } mdm_end_kind_t;

/* A certificate that ends some day.  Texts are borrowed from configuration or
 * arena, and end in NUL. */
typedef struct mdm_end {
    mdm_end_kind_t kind;
    mdm_str_t name; /* topic of a push certificate, subject of a device CA */
    mdm_str_t fingerprint;
    int64_t not_after_us;
    bool from_file; /* the configuration names this very one */
    /* Of a push certificate in the store. */
    mdm_str_t suspended; /* why its pushes wait; absent: they do not */
    int64_t suspended_at;
    int64_t accepted_at; /* when APNs first took a push under it; 0: never */
} mdm_end_t;

#define MDM_ENDS_MAX 256

typedef struct mdm_ends {
    mdm_end_t list[MDM_ENDS_MAX];
    size_t n;
} mdm_ends_t;

/* Adds one, unless it is there: two sites may name one file.  Of more than
 * MDM_ENDS_MAX those are kept that end first. */
void mdm_ends_add(mdm_ends_t *ends, const mdm_end_t *end);
/* All that there are, in a transaction or a plain read.  Push certificates are
 * those in use, which the store knows: a file may have been refused.  With
 * `tx` NULL, what the configuration knows.  MDM_ENOMEM, store errors. */
mdm_rc mdm_ends_read(mdm_tx_t *tx, const mdm_expiry_config_t *config,
                     mdm_arena_t *arena, mdm_ends_t *ends_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
