/*
 * mdm_exec.c - see mdm_exec.h.
 *
 * nginx's master reaps every child of its own in a signal handler, also one
 * that it did not start, and then nobody learns how that ended: SIGCHLD is
 * blocked while a program runs.  It is never waited for by that signal, which
 * may tell of a worker as well, but by asking again and again.
 */
#include "mdm_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mdm_time.h"

#define STEP_MS 10 /* how often it is asked whether the program has ended */

typedef struct run {
    pid_t pid;
    int fd;       /* what it prints; -1: it closed that */
    bool exited;  /* then `status` is valid */
    int status;   /* of waitpid() */
    size_t n;
    char output[MDM_EXEC_OUTPUT_MAX + 1]; /* one more tells too much */
} run_t;

/* Attributes: a session of its own, so that it has no terminal to ask and can
 * be killed with what it starts; signals as at the start of a program. */
static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none;
    sigset_t all;
    int rc;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0) {
        rc = posix_spawnattr_setsigdefault(attr, &all);
    }
    if (rc == 0) {
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID |
                                                POSIX_SPAWN_SETSIGMASK |
                                                POSIX_SPAWN_SETSIGDEF);
    }
    return rc;
}

/* Descriptors: a host's listening sockets are not for others. */
static int set_files(posix_spawn_file_actions_t *files, int out)
{
    int rc = posix_spawn_file_actions_adddup2(files, out, STDOUT_FILENO);

    if (rc == 0) {
        rc = posix_spawn_file_actions_addopen(files, STDIN_FILENO,
                                              "/dev/null", O_RDONLY, 0);
    }
    if (rc == 0) {
        rc = posix_spawn_file_actions_addclosefrom_np(files,
                                                      STDERR_FILENO + 1);
    }
    return rc;
}

/* An error number. */
static int start(const char *program, int out, pid_t *pid_r)
{
    char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                  "/sbin:/bin";
    char *const environment[] = {path, NULL};
    char *const argv[] = {(char *)(uintptr_t)program, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc;

    rc = posix_spawn_file_actions_init(&files);
    if (rc != 0) {
        return rc;
    }
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = set_attributes(&attr);
        if (rc == 0) {
            rc = set_files(&files, out);
        }
        if (rc == 0) {
            rc = posix_spawn(pid_r, program, &files, &attr, argv,
                             environment);
        }
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Takes what has been printed so far, waiting wait_ms for something. */
static void take_output(run_t *run, int wait_ms)
{
    struct pollfd pfd = {.fd = run->fd, .events = POLLIN};
    ssize_t n = 1;

    /* With a descriptor of -1 this is the pause. */
    while (poll(&pfd, 1, wait_ms) > 0 && n > 0 &&
           run->n < sizeof(run->output)) {
        n = read(run->fd, run->output + run->n,
                 sizeof(run->output) - run->n);
        if (n > 0) {
            run->n += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            (void)close(run->fd);
            run->fd = -1;
        }
        wait_ms = 0;
    }
}

/* Until the program has ended or must be ended.  Something that it left
 * running in the background may hold the descriptor: not waited for. */
static mdm_rc follow(run_t *run, int64_t timeout_us, mdm_err_t *err)
{
    int64_t deadline = mdm_mono_us(NULL) + timeout_us;
    pid_t pid;

    for (;;) {
        take_output(run, run->exited ? 0 : STEP_MS);
        if (run->n > MDM_EXEC_OUTPUT_MAX) {
            return mdm_err_set(err, MDM_ETOOBIG, 0,
                               "it prints more than %d bytes",
                               MDM_EXEC_OUTPUT_MAX);
        }
        if (run->exited) {
            return MDM_OK;
        }
        pid = waitpid(run->pid, &run->status, WNOHANG);
        if (pid < 0 && errno != EINTR) {
            run->exited = true;
            return mdm_err_set(err, MDM_EUNAVAIL, 0,
                               "nobody can tell how it ended: %s",
                               strerror(errno));
        }
        run->exited = pid > 0; /* once more round for its last words */
        if (!run->exited && mdm_mono_us(NULL) >= deadline) {
            return mdm_err_set(err, MDM_ETIMEDOUT, 0,
                               "it did not end within %lld seconds",
                               (long long)(timeout_us / MDM_SEC));
        }
    }
}

static mdm_rc judge(const run_t *run, mdm_err_t *err)
{
    if (WIFEXITED(run->status) && WEXITSTATUS(run->status) == 0) {
        return MDM_OK;
    }
    if (WIFEXITED(run->status)) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0, "it ended with status %d",
                           WEXITSTATUS(run->status));
    }
    return mdm_err_set(err, MDM_EUNAVAIL, 0, "it was ended by signal %d",
                       WTERMSIG(run->status));
}

static void end(run_t *run)
{
    if (!run->exited) {
        (void)kill(-run->pid, SIGKILL); /* with what it started */
        (void)kill(run->pid, SIGKILL);
        while (waitpid(run->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (run->fd >= 0) {
        (void)close(run->fd);
    }
}

static mdm_rc run_program(const char *program, int64_t timeout_us,
                          run_t *run, mdm_err_t *err)
{
    int ends[2];
    mdm_rc rc;
    int fault;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return mdm_err_set(err, MDM_EUNAVAIL, 0, "no pipe: %s",
                           strerror(errno));
    }
    fault = start(program, ends[1], &run->pid);
    (void)close(ends[1]);
    run->fd = ends[0];
    if (fault != 0) {
        (void)close(ends[0]);
        return mdm_err_set(err, MDM_EUNAVAIL, 0, "it cannot be run: %s",
                           strerror(fault));
    }
    rc = follow(run, timeout_us, err);
    end(run);
    return rc == MDM_OK ? judge(run, err) : rc;
}

mdm_rc mdm_exec_read(const char *program, int64_t timeout_us,
                     mdm_arena_t *arena, mdm_str_t *output_r, mdm_err_t *err)
{
    run_t run = {.fd = -1};
    sigset_t child;
    sigset_t before;
    mdm_rc rc;

    *output_r = MDM_STR_NONE;
    if (program[0] != '/') {
        return mdm_err_set(err, MDM_EINVAL, 0,
                           "a program is named by its absolute path");
    }
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)pthread_sigmask(SIG_BLOCK, &child, &before);
    rc = run_program(program, timeout_us, &run, err);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == MDM_OK) {
        *output_r = (mdm_str_t){mdm_arena_dup(arena, run.output, run.n),
                                run.n};
        rc = output_r->s != NULL ? MDM_OK : mdm_err_nomem(err);
    }
    mdm_wipe(run.output, sizeof(run.output));
    return rc;
}
