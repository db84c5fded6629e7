/*
 * certs_guard.c - mdmcerts: what a signal must not leave behind: a terminal
 * that does not show what is typed, and unfinished files.
 *
 * The handler does it itself and then lets the signal do its work, so no
 * other code has to look whether one came.  It calls only what is safe in a
 * handler; the variables below are changed while signals wait.
 */
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>

#include "certs_io.h"

#define FILES_MAX 16

static const int deadly[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

static struct {
    char files[FILES_MAX][PATH_MAX]; /* "": free */
    bool hidden;
    int fd;
    const char *prompt;
    struct termios shown;
    struct termios quiet;
    sigset_t before;
    int held;
} guard;

static void show_typing(void)
{
    if (guard.hidden) {
        (void)tcsetattr(guard.fd, TCSADRAIN, &guard.shown);
    }
}

static void on_end(int number)
{
    size_t i;

    show_typing();
    for (i = 0; i < FILES_MAX; i++) {
        if (guard.files[i][0] != '\0') {
            (void)unlink(guard.files[i]);
        }
    }
    /* The default is in force again (SA_RESETHAND). */
    (void)raise(number);
}

/* Stops, and when it goes on, asks again. */
static void on_stop(int number)
{
    ssize_t done;

    (void)number;
    show_typing();
    (void)raise(SIGSTOP);
    if (guard.hidden) {
        (void)tcsetattr(guard.fd, TCSADRAIN, &guard.quiet);
        done = write(guard.fd, guard.prompt, strlen(guard.prompt));
        (void)done;
    }
}

void certs_guard_start(void)
{
    struct sigaction action;
    struct sigaction old;
    size_t i;

    memset(&action, 0, sizeof(action));
    (void)sigfillset(&action.sa_mask);
    action.sa_handler = on_end;
    action.sa_flags = SA_RESETHAND | SA_NODEFER;
    for (i = 0; i < MDM_ARRAY_LEN(deadly); i++) {
        /* What the caller wants ignored (nohup) stays so. */
        if (sigaction(deadly[i], NULL, &old) == 0 &&
            old.sa_handler != SIG_IGN) {
            (void)sigaction(deadly[i], &action, NULL);
        }
    }
    action.sa_handler = on_stop;
    action.sa_flags = SA_RESTART;
    (void)sigaction(SIGTSTP, &action, NULL);
}

void certs_guard_hold(void)
{
    sigset_t all;

    if (guard.held++ == 0) {
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_BLOCK, &all, &guard.before);
    }
}

void certs_guard_let_go(void)
{
    if (--guard.held == 0) {
        (void)sigprocmask(SIG_SETMASK, &guard.before, NULL);
    }
}

bool certs_guard_add(const char *path)
{
    size_t i = 0;
    bool found;

    certs_guard_hold();
    while (i < FILES_MAX && guard.files[i][0] != '\0') {
        i++;
    }
    found = i < FILES_MAX && strlen(path) < PATH_MAX;
    if (found) {
        memcpy(guard.files[i], path, strlen(path) + 1);
    }
    certs_guard_let_go();
    return found;
}

void certs_guard_remove(const char *path)
{
    size_t i;

    certs_guard_hold();
    for (i = 0; i < FILES_MAX; i++) {
        if (strcmp(guard.files[i], path) == 0) {
            guard.files[i][0] = '\0';
        }
    }
    certs_guard_let_go();
}

bool certs_guard_hide(int fd, const char *prompt)
{
    bool ok;

    certs_guard_hold();
    ok = tcgetattr(fd, &guard.shown) == 0;
    if (ok) {
        guard.quiet = guard.shown;
        guard.quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
        guard.quiet.c_lflag |= ICANON | ISIG;
        guard.quiet.c_iflag |= ICRNL;
        guard.fd = fd;
        guard.prompt = prompt;
        /* Before the prompt: an answer may come at once. */
        ok = tcsetattr(fd, TCSADRAIN, &guard.quiet) == 0;
        guard.hidden = ok;
    }
    certs_guard_let_go();
    if (ok && write(fd, prompt, strlen(prompt)) < 0) {
        certs_guard_show();
        ok = false;
    }
    return ok;
}

void certs_guard_show(void)
{
    certs_guard_hold();
    if (guard.hidden) {
        show_typing();
        guard.hidden = false;
        if (write(guard.fd, "\n", 1) < 0) {
            guard.fd = -1; /* it is gone: so be it */
        }
    }
    certs_guard_let_go();
}
