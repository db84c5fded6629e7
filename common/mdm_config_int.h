/*
 * mdm_config_int.h - between the files that read directives' arguments:
 * mdm_config_set.c (which directive goes where), mdm_config_arg.c (kinds of
 * arguments), mdm_config_push.c, mdm_config_pushcert.c, mdm_config_device.c,
 * mdm_config_enrollment.c, mdm_config_scep.c and mdm_config_services.c
 * (groups).
 */
#ifndef MDM_CONFIG_INT_H
#define MDM_CONFIG_INT_H

#include "mdm_config.h"

/* A group's directives; `id` is one of the group. */
mdm_rc mdm_config_apply_push(mdm_config_t *config, mdm_directive_id_t id,
                             int argc, const char *const *argv,
                             mdm_err_t *err) MDM_USE_RESULT;
mdm_rc mdm_config_apply_device(mdm_config_t *config, mdm_directive_id_t id,
                               int argc, const char *const *argv,
                               mdm_err_t *err) MDM_USE_RESULT;
mdm_rc mdm_config_apply_services(mdm_config_t *config, mdm_directive_id_t id,
                                 int argc, const char *const *argv,
                                 mdm_err_t *err) MDM_USE_RESULT;
mdm_rc mdm_config_apply_enrollment(mdm_config_t *config,
                                   mdm_directive_id_t id, int argc,
                                   const char *const *argv, mdm_err_t *err)
    MDM_USE_RESULT;

/* What fits together at an endpoint of the enroll role.  MDM_ECONFIG. */
mdm_rc mdm_config_check_enrollment(const mdm_config_t *server,
                                   const mdm_config_t *location,
                                   const mdm_log_t *log, mdm_err_t *err)
    MDM_USE_RESULT;

mdm_rc mdm_config_apply_profile(mdm_config_t *config, mdm_directive_id_t id,
                                int argc, const char *const *argv,
                                mdm_err_t *err) MDM_USE_RESULT;
/* Across directives, of a virtual host with an enroll endpoint.
 * MDM_ECONFIG. */
mdm_rc mdm_config_check_profile(const mdm_config_t *server,
                                const mdm_log_t *log, mdm_err_t *err)
    MDM_USE_RESULT;

/* Warns of certificates of the main node that end soon; mdm_config_ends.c. */
void mdm_config_warn_ends(const mdm_config_t *main, const mdm_log_t *log);
/* Remembers device CAs in use, for whoever watches their ends, and warns of
 * those that are new and end soon.  Many sites may read one file. */
void mdm_config_note_trust(const mdm_config_t *main,
                           const mdm_trust_t *trust, const mdm_log_t *log);

mdm_rc mdm_config_apply_scep(mdm_config_t *config, mdm_directive_id_t id,
                             const char *const *argv, mdm_err_t *err)
    MDM_USE_RESULT;
/* Across directives, and who trusts devices.  MDM_ECONFIG. */
mdm_rc mdm_config_check_scep(const mdm_config_t *config, const mdm_log_t *log,
                             mdm_err_t *err) MDM_USE_RESULT;

/* A push certificate, and the pass phrase of those with encrypted keys, in
 * any order. */
mdm_rc mdm_config_push_cert(mdm_config_t *config, int argc,
                            const char *const *argv, mdm_err_t *err)
    MDM_USE_RESULT;
mdm_rc mdm_config_push_phrase(mdm_config_t *config, const char *arg,
                              mdm_err_t *err) MDM_USE_RESULT;
/* Is there one for each that needs it?  MDM_ECONFIG. */
mdm_rc mdm_config_check_locked(const mdm_config_t *config, mdm_err_t *err)
    MDM_USE_RESULT;

/* The error for a wrong word: `expected` completes "give ...". */
mdm_rc mdm_config_bad(mdm_err_t *err, const char *arg, const char *expected);
/* An absolute file name; relative ones start at the node's root. */
mdm_rc mdm_config_path(mdm_config_t *config, const char *arg,
                       const char **path_r, mdm_err_t *err) MDM_USE_RESULT;
/* Whole content of a plain file of at most 1 MB, in the node's arena, which
 * wipes. */
mdm_rc mdm_config_read(mdm_config_t *config, const char *arg,
                       mdm_str_t *text_r, mdm_err_t *err) MDM_USE_RESULT;
/* A file of certificate authorities: read once to see that it is one, and
 * named for who loads it. */
mdm_rc mdm_config_bundle(mdm_config_t *config, const char *arg,
                         const char **path_r, mdm_err_t *err) MDM_USE_RESULT;
/* The first line of a text, without its end (LF or CRLF). */
mdm_str_t mdm_config_first_line(mdm_str_t text);
/* A file that holds one secret: its first line without the newline (LF or
 * CRLF), in the node's arena; may be empty. */
mdm_rc mdm_config_secret(mdm_config_t *config, const char *arg,
                         mdm_str_t *secret_r, mdm_err_t *err) MDM_USE_RESULT;
/* "on" or "off". */
mdm_rc mdm_config_flag(const char *arg, bool *value_r, mdm_err_t *err)
    MDM_USE_RESULT;
/* A duration within bounds, in microseconds. */
mdm_rc mdm_config_time(const char *arg, int64_t min_us, int64_t max_us,
                       int64_t *value_r, mdm_err_t *err) MDM_USE_RESULT;
/* The same, or "off", which is 0. */
mdm_rc mdm_config_time_or_off(const char *arg, int64_t min_us, int64_t max_us,
                              int64_t *value_r, mdm_err_t *err)
    MDM_USE_RESULT;
mdm_rc mdm_config_number(const char *arg, uint64_t min, uint64_t max,
                         uint64_t *value_r, mdm_err_t *err) MDM_USE_RESULT;

#endif
