/*
 * mdm_thread.c - threads, the monotonic condition and the wake descriptor.
 */
#include "mdm_thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* The host's signals must never be delivered to a thread it does not know,
 * and writes to a closed socket must not raise SIGPIPE there. */
mdm_rc mdm_thread_start(pthread_t *thread_r, void *(*run)(void *), void *arg,
                        mdm_err_t *err)
{
    sigset_t all;
    sigset_t old;
    int rc;

    sigfillset(&all);
    rc = pthread_sigmask(SIG_SETMASK, &all, &old);
    if (rc != 0) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "cannot block signals: %s",
                           strerror(rc));
    }
    rc = pthread_create(thread_r, NULL, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "cannot start a thread: %s",
                           strerror(rc));
    }
    return MDM_OK;
}

mdm_rc mdm_cond_init(pthread_cond_t *cond, mdm_err_t *err)
{
    pthread_condattr_t attr;
    int rc;

    rc = pthread_condattr_init(&attr);
    if (rc == 0) {
        rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        if (rc == 0) {
            rc = pthread_cond_init(cond, &attr);
        }
        (void)pthread_condattr_destroy(&attr);
    }
    if (rc != 0) {
        return mdm_err_set(err, MDM_EINTERNAL, 0,
                           "cannot make a condition variable: %s",
                           strerror(rc));
    }
    return MDM_OK;
}

bool mdm_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex,
                         int64_t until_us)
{
    struct timespec ts;

    ts.tv_sec = (time_t)(until_us / MDM_SEC);
    ts.tv_nsec = (long)(until_us % MDM_SEC) * 1000;
    return pthread_cond_timedwait(cond, mutex, &ts) != ETIMEDOUT;
}

mdm_rc mdm_wake_open(int *fd_r, mdm_err_t *err)
{
    *fd_r = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (*fd_r < 0) {
        return mdm_err_set(err, MDM_EINTERNAL, 0, "cannot make an eventfd: %s",
                           strerror(errno));
    }
    return MDM_OK;
}

void mdm_wake_set(int fd)
{
    uint64_t one = 1;

    /* A full counter (EAGAIN) is as good: the reader will wake. */
    if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        return;
    }
}

void mdm_wake_drain(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof(count)) > 0) {
    }
}
