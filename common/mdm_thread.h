/*
 * mdm_thread.h - thread start with signals blocked, a condition on the
 * monotonic clock, and a descriptor that wakes a poll loop.
 *
 * Nothing here may be used before the host has forked its worker.
 */
#ifndef MDM_THREAD_H
#define MDM_THREAD_H

#include <pthread.h>

#include "mdm_base.h"
#include "mdm_err.h"

/* Starts a joinable thread in which every signal is blocked. */
mdm_rc mdm_thread_start(pthread_t *thread_r, void *(*run)(void *), void *arg,
                        mdm_err_t *err);

/* A condition variable timed by CLOCK_MONOTONIC. */
mdm_rc mdm_cond_init(pthread_cond_t *cond, mdm_err_t *err);
/* Waits until signalled or until the monotonic time `until_us` of the
 * kernel's clock; false when the time passed.  Spurious wake-ups happen. */
bool mdm_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex,
                         int64_t until_us);

/* A close-on-exec eventfd: set from any thread, poll for POLLIN, drain. */
mdm_rc mdm_wake_open(int *fd_r, mdm_err_t *err);
void mdm_wake_set(int fd);
void mdm_wake_drain(int fd);

#endif
