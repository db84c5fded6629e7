/*
 * t_exec.c - running a program: what it gets, what is taken of it, every way
 * it ends, and that nothing of it is left behind.  The programs are shell
 * scripts in a directory of the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mdm_exec.h"
#include "mdm_str.h"
#include "mdm_time.h"

#define LONG_US (20 * MDM_SEC)
#define SHORT_US (MDM_SEC / 5)

typedef struct world {
    char dir[32];
    char program[64];
    mdm_arena_t *arena;
    mdm_str_t output;
    mdm_err_t err;
} world_t;

static int setup(void **state)
{
    world_t *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/t_exec.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(w->program, sizeof(w->program), "%s/program", w->dir);
    w->arena = mdm_arena_new(true);
    assert_non_null(w->arena);
    *state = w;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    world_t *w = *state;

    (void)nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    mdm_arena_free(&w->arena);
    free(w);
    return 0;
}

/* Writes the script and runs it. */
static mdm_rc run(world_t *w, const char *script, int64_t timeout_us)
{
    FILE *f = fopen(w->program, "w");

    assert_non_null(f);
    assert_true(fprintf(f, "#!/bin/sh\n%s\n", script) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(w->program, 0700), 0);
    mdm_err_clear(&w->err);
    return mdm_exec_read(w->program, timeout_us, w->arena, &w->output,
                         &w->err);
}

static void expect_output(world_t *w, const char *script, const char *output)
{
    if (run(w, script, LONG_US) != MDM_OK) {
        fail_msg("%s: %s", script, w->err.text);
    }
    if (!mdm_str_is(w->output, output)) {
        fail_msg("%s: \"%.*s\"", script, MDM_STR_ARG(w->output));
    }
    /* Nobody is left to be waited for. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void expect_fault(world_t *w, const char *script, int64_t timeout_us,
                         mdm_rc rc, const char *part)
{
    assert_int_equal(run(w, script, timeout_us), rc);
    if (strstr(w->err.text, part) == NULL) {
        fail_msg("%s: %s", script, w->err.text);
    }
    assert_null(w->output.s);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_output(void **state)
{
    world_t *w = *state;
    char wanted[MDM_EXEC_OUTPUT_MAX + 1];

    expect_output(w, "echo word", "word\n");
    expect_output(w, "printf word", "word");
    expect_output(w, ":", "");
    expect_output(w, "echo a; sleep 0.05; echo b", "a\nb\n");
    expect_output(w, "printf a; exec 1>&-; sleep 0.05", "a");
    expect_output(w, "echo word; echo noise >&2", "word\n");
    memset(wanted, '0', sizeof(wanted));
    wanted[MDM_EXEC_OUTPUT_MAX] = '\0';
    expect_output(w, "printf %04096d 0", wanted);
}

/* Nothing of the host's: not its environment, descriptors, arguments, input,
 * terminal, blocked or ignored signals. */
static void test_surroundings(void **state)
{
    world_t *w = *state;
    char script[200];
    sigset_t usr1;
    int fd = open("/dev/null", O_RDONLY);

    assert_true(fd > 2);
    assert_int_equal(setenv("MDM_TEST_SECRET", "x", 1), 0);
    expect_output(w, "echo $#$MDM_TEST_SECRET:$PATH",
                  "0:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
                  "/bin\n");
    (void)unsetenv("MDM_TEST_SECRET");
    expect_output(w, "cat; echo end", "end\n");
    (void)snprintf(script, sizeof(script),
                   "test -e /proc/$$/fd/%d || echo closed", fd);
    expect_output(w, script, "closed\n");
    (void)close(fd);
    (void)sigemptyset(&usr1);
    (void)sigaddset(&usr1, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &usr1, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    /* Signals 1 to 28; from 32 on they are the C library's own. */
    expect_output(w, "sed -n 's/^Sig\\(Blk\\|Ign\\):.*\\(.......\\)$/\\2/p' "
                     "/proc/self/status",
                  "0000000\n0000000\n");
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &usr1, NULL);
}

/* In a process with a terminal: it can open that, the program cannot. */
static int on_terminal(world_t *w)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    if (setsid() < 0 || master < 0 || grantpt(master) != 0 ||
        unlockpt(master) != 0 || open(ptsname(master), O_RDWR) < 0 ||
        open("/dev/tty", O_RDWR | O_CLOEXEC) < 0) {
        return 2;
    }
    return run(w, "(: < /dev/tty) 2>/dev/null || echo alone", LONG_US) ==
                       MDM_OK &&
                   mdm_str_is(w->output, "alone\n")
               ? 0
               : 1;
}

static void test_no_terminal(void **state)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(on_terminal(*state));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_faults(void **state)
{
    world_t *w = *state;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;

    expect_fault(w, "echo word; exit 3", LONG_US, MDM_EUNAVAIL,
                 "it ended with status 3");
    expect_fault(w, "echo word; kill -TERM $$", LONG_US, MDM_EUNAVAIL,
                 "it was ended by signal 15");
    expect_fault(w, "printf %04097d 0", LONG_US, MDM_ETOOBIG,
                 "it prints more than 4096 bytes");
    expect_fault(w, "while :; do echo word; done", LONG_US, MDM_ETOOBIG,
                 "it prints more than 4096 bytes");
    mdm_err_clear(&w->err);
    assert_int_equal(mdm_exec_read("bin/true", LONG_US, w->arena, &w->output,
                                   &w->err),
                     MDM_EINVAL);
    assert_non_null(strstr(w->err.text, "absolute path"));
    assert_int_equal(mdm_exec_read(w->dir, LONG_US, w->arena, &w->output,
                                   &w->err),
                     MDM_EUNAVAIL);
    assert_non_null(strstr(w->err.text, "cannot be run: Permission denied"));
    /* A host that ignores SIGCHLD learns of no child how it ended. */
    (void)sigaction(SIGCHLD, &ignore, &before);
    expect_fault(w, "echo word", LONG_US, MDM_EUNAVAIL,
                 "nobody can tell how it ended");
    (void)sigaction(SIGCHLD, &before, NULL);
}

/* Killed in time, with what it started; a stopped one, too. */
static void test_time_limit(void **state)
{
    world_t *w = *state;
    char script[200];
    char path[64];
    struct stat st;
    int64_t begin = mdm_mono_us(NULL);

    (void)snprintf(path, sizeof(path), "%s/late", w->dir);
    (void)snprintf(script, sizeof(script),
                   "(sleep 1; echo > %s) & echo word; sleep 30", path);
    expect_fault(w, script, SHORT_US, MDM_ETIMEDOUT,
                 "it did not end within 0 seconds");
    expect_fault(w, "trap '' TERM HUP; echo word; while :; do sleep 30; done",
                 SHORT_US, MDM_ETIMEDOUT, "it did not end");
    expect_fault(w, "kill -STOP $$", SHORT_US, MDM_ETIMEDOUT,
                 "it did not end");
    expect_fault(w, "exec 1>&-; sleep 30", SHORT_US, MDM_ETIMEDOUT,
                 "it did not end");
    assert_true(mdm_mono_us(NULL) - begin < 10 * MDM_SEC);
    (void)poll(NULL, 0, 1200); /* nothing to wait for: that it is not made */
    assert_int_equal(stat(path, &st), -1);
}

/* One that leaves something in the background, with our descriptor. */
static void test_background(void **state)
{
    world_t *w = *state;
    int64_t begin = mdm_mono_us(NULL);

    expect_output(w, "sleep 3 & echo word", "word\n");
    assert_true(mdm_mono_us(NULL) - begin < 2 * MDM_SEC);
}

static volatile sig_atomic_t reaped;

static void reap(int number)
{
    int saved = errno;

    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
        reaped++;
    }
    errno = saved;
}

/* A host whose handler takes every child that ends, as nginx's master: ours
 * is left to us, and the handler comes back into force. */
static void test_reaping_host(void **state)
{
    world_t *w = *state;
    struct sigaction action = {.sa_handler = reap};
    struct sigaction before;
    pid_t pid;
    int i;

    (void)sigaction(SIGCHLD, &action, &before);
    for (i = 0; i < 20; i++) {
        expect_output(w, "echo word", "word\n");
    }
    assert_int_equal(reaped, 0);
    pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    for (i = 0; i < 1000 && reaped == 0; i++) {
        (void)poll(NULL, 0, 10); /* ended by the signal */
    }
    assert_int_equal(reaped, 1);
    (void)sigaction(SIGCHLD, &before, NULL);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_output),     EACH(test_surroundings),
        EACH(test_no_terminal), EACH(test_faults),
        EACH(test_time_limit), EACH(test_background),
        EACH(test_reaping_host),
    };

    return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
