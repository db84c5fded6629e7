/*
 * mdm_config_host.c - where our settings meet the host's: the state directory
 * that the parent makes for its workers.  Parent process only, while the
 * configuration is read or just before the fork.
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
