// Processes that restrict their calls, and then end by a signal: whatever the filter forbids, the signal is deadly.
//@ build: gcc -O2 -Wno-deprecated-declarations seccomp_ends.c -o $OUT
//@ build: gcc -O2 -static -Wno-deprecated-declarations seccomp_ends.c -o $OUT
//@ seconds: 20
#include "seccomp.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void fault(void) { *(volatile int *)0 = 0; }
static void terminate(void) { syscall(SYS_kill, getpid(), SIGTERM); }
static void illegal(void) { __asm__ volatile("ud2"); }

static void forbid(int nr, unsigned action) {
    struct sock_filter code[] = {LOAD(nr), IF_NOT(nr, 1), ANSWER(action), ANSWER(SECCOMP_RET_ALLOW)};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_filter(code, 4, 0);
}

static void no_action(void) { forbid(SYS_rt_sigaction, SECCOMP_RET_ERRNO | 1); }
static void no_queue(void) { forbid(SYS_rt_tgsigqueueinfo, SECCOMP_RET_KILL_PROCESS); }
static void no_return(void) { forbid(SYS_rt_sigreturn, SECCOMP_RET_KILL_PROCESS); }
static void strict(void) { CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0); }
static void no_filter_after_all(void) { CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0L) == -1); }

/* A filter of somebody else in this memory. */
static void a_lodgers(void) {
    pid_t child = vfork();
    if (child == 0) {
        no_action();
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, 0, 0) == child);
}

static void check(void (*restrict_calls)(void), void (*end)(void), int number) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        restrict_calls();
        end();
        syscall(SYS_exit, 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), number);
}

int main(void) {
    check(strict, fault, SIGSEGV);
    void (*const filters[])(void) = {no_action, no_queue, no_return, no_filter_after_all, a_lodgers};
    for (unsigned at = 0; at < sizeof filters / sizeof *filters; at++) {
        check(filters[at], fault, SIGSEGV);
        check(filters[at], terminate, SIGTERM);
        if (filters[at] != no_return) check(filters[at], illegal, SIGILL);
    }
    return pass();
}
