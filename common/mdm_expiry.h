/*
 * mdm_expiry.h - which certificates end soon, and who is told of it.
 *
 * The times that count, and how loud it is said, are one table here.  The
 * process that does the chores tells the log, once for each step of the
 * table, and adds an event in the same transaction that notes that it was
 * told; so neither a restart nor another leader says it again.  Dispatcher
 * thread, but for mdm_expiry_step().
 */
#ifndef MDM_EXPIRY_H
#define MDM_EXPIRY_H

#include "mdm_log.h"
#include "mdm_store.h"
#include "mdm_x509.h"

/* How near its end a certificate is: 0 more than 60 days, then a step at 60,
 * 30, 14, 7, 3, 1 and 0 days, the last of which is MDM_EXPIRY_OVER. */
#define MDM_EXPIRY_OVER 7
int mdm_expiry_step(int64_t not_after_us, int64_t now_us);

/* Whose certificates are looked at beside those of the store. */
typedef struct mdm_expiry_config {
    mdm_store_t *store;
    const mdm_log_t *log;
    int64_t warn_us; /* of MDMPushCertificateWarn */
    /* Push certificates from files, of which the parent has warned. */
    const mdm_keypair_t *const *file_certs;
    size_t nfile_certs;
    const mdm_trust_t *const *trusts; /* device CAs */
    size_t ntrusts;
} mdm_expiry_config_t;

/* Looks at all of them.  `start`: warn of those of the store that end within
 * warn_us, although that was said before.  Store errors. */
mdm_rc mdm_expiry_look(const mdm_expiry_config_t *config, bool start,
                       int64_t now_us, mdm_err_t *err) MDM_USE_RESULT;

#endif
