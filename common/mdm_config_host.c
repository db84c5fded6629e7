/*
 * mdm_config_host.c - where our settings meet the host's: warnings of limits
 * that would stop devices, and the state directory that the parent makes for
 * its workers.  Parent process only, while the configuration is read or just
 * before the fork.
 */
#include "mdm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* By descriptor, so that nobody can put something else in its place between
 * making the directory and giving it away. */
static int make_dir(const char *path, uid_t user, gid_t group)
{
    int result = 0;
    int fd;

    if (mkdir(path, 0700) != 0) {
        return errno == EEXIST ? 0 : errno;
    }
    if (geteuid() != 0) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    if (fchown(fd, user, group) != 0) {
        result = errno;
    }
    (void)close(fd);
    return result;
}

mdm_rc mdm_config_make_state_dir(const mdm_config_t *main, uid_t user,
                                 gid_t group, mdm_err_t *err)
{
    int fault = make_dir(main->state_dir, user, group);

    if (fault != 0) {
        return mdm_err_set(err, MDM_ECONFIG, 0,
                           "MDMStateDir (mdm_state_dir) %s cannot be made: %s",
                           main->state_dir, strerror(fault));
    }
    return MDM_OK;
}

/* The default of both hosts: 8k less what httpd needs for the line's end.  A
 * signature with its certificates, or a certificate, comes close to it. */
#define HEADER_MIN 8190

/* `header` may be NULL: none is needed. */
static void check_header(const mdm_host_limits_t *limits, const char *header,
                         const char *purpose, const mdm_log_t *log)
{
    if (header != NULL && limits->header_max < HEADER_MIN) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "%s of %llu bytes may refuse the header %s, by which "
                    "%s here; set it to 8192 or more",
                    limits->header_name,
                    (unsigned long long)limits->header_max, header, purpose);
    }
}

static void check_sizes(const mdm_config_t *c, const mdm_host_limits_t *limits,
                        const mdm_log_t *log)
{
    bool sign = mdm_config_takes_signature(c);
    const char *header = sign ? "Mdm-Signature"
                              : mdm_config_identity_header(c);
    uint64_t body = mdm_config_body_max(c);

    if (limits->body_max > 0 && limits->body_max < body) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "%s of %llu bytes refuses larger reports of devices; set "
                    "it to %llu or more, or lower MDMPlistLimits "
                    "(mdm_plist_limits)", limits->body_name,
                    (unsigned long long)limits->body_max,
                    (unsigned long long)body);
    }
    check_header(limits, header, "devices prove themselves", log);
}

static void check_certificates(const mdm_config_t *c,
                               const mdm_host_limits_t *limits,
                               const mdm_log_t *log)
{
    if (limits->tls && limits->asks == MDM_HOST_ASKS_LATER) {
        /* Whatever we take as proof: the request itself fails. */
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "clients are asked for a certificate for this URL alone, "
                    "after the TLS handshake, which devices do not answer; "
                    "set \"%s\" for the whole site instead",
                    limits->asks_line);
    } else if (c->prove == MDM_PROVE_CERTIFICATE && !limits->tls) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "devices have to prove themselves by a TLS certificate "
                    "here, but this site has no TLS; set \"%s\" and \"%s\", "
                    "or name another proof in MDMDeviceIdentity "
                    "(mdm_device_identity)", limits->tls_line,
                    limits->asks_line);
    } else if (c->prove == MDM_PROVE_CERTIFICATE &&
               limits->asks == MDM_HOST_ASKS_NEVER) {
        mdm_log_msg(log, MDM_LOG_WARNING, MDM_MSG_CONFIG_WARNING,
                    "devices have to prove themselves by a TLS certificate "
                    "here, but this site asks nobody for one; set \"%s\" for "
                    "the whole site, or name another proof in "
                    "MDMDeviceIdentity (mdm_device_identity)",
                    limits->asks_line);
    }
}

void mdm_config_check_host(const mdm_config_t *location,
                           const mdm_host_limits_t *limits,
                           const mdm_log_t *log)
{
    if (location->role == MDM_ROLE_MDM || location->role == MDM_ROLE_SERVER ||
        location->role == MDM_ROLE_CHECKIN) {
        check_sizes(location, limits, log);
        check_certificates(location, limits, log);
    }
    if (location->role == MDM_ROLE_ENROLL &&
        (location->flows & MDM_FLOW_DEVICE) != 0) {
        check_header(limits, "x-apple-aspen-deviceinfo",
                     "devices introduce themselves", log);
    }
}
