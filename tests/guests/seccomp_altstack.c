// Handlers on an alternate stack make calls although a filter forbids to change the signal mask. Natively nothing does so.
//@ build: gcc -O2 seccomp_altstack.c -o $OUT
//@ build: gcc -O2 -static seccomp_altstack.c -o $OUT
//@ modes: plain summary trace exhaustive
#include "seccomp.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static char room[2][1 << 16];
static volatile int handled;

static void forbid(unsigned action) {
    struct sock_filter code[] = {LOAD(nr), IF_NOT(SYS_rt_sigprocmask, 1), ANSWER(action), ANSWER(SECCOMP_RET_ALLOW)};
    install_filter(code, 4, 0);
}

static void set_stack(int which) {
    stack_t stack = {.ss_sp = room[which], .ss_size = sizeof room[which]};
    CHECK(sigaltstack(&stack, 0) == 0);
}

static void handle(int number) {
    CHECK(syscall(SYS_getppid) > 0);
    handled += number != 0;
}

/* The filter is installed in a handler that is on the alternate stack itself. */
static void restrict_and_handle(int number) {
    forbid(SECCOMP_RET_KILL_PROCESS);
    handle(number);
}

static void send(void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_NODEFER};
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    int before = handled;
    for (int round = 0; round < 3; round++) CHECK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1) == 0);
    CHECK_EQUAL(handled, before + 3);
}

static void a_filter_then_a_handler(void) {
    set_stack(0);
    forbid(SECCOMP_RET_KILL_PROCESS);
    send(handle);
}

static void a_stack_after_the_filter(void) {
    forbid(SECCOMP_RET_KILL_PROCESS);
    set_stack(0);
    send(handle);
    set_stack(1);
    send(handle);
}

static void a_filter_in_a_handler(void) {
    set_stack(0);
    send(restrict_and_handle);
    send(handle);
}

static void an_errno(void) {
    set_stack(0);
    forbid(SECCOMP_RET_ERRNO | EPERM);
    send(handle);
}

/* What the first filter forbids the second one, which allows all, does not give back. */
static void two_filters(void) {
    struct sock_filter all[] = {ANSWER(SECCOMP_RET_ALLOW)};
    set_stack(0);
    forbid(SECCOMP_RET_KILL_PROCESS);
    install_filter(all, 1, 0);
    send(handle);
}

/* One that is refused changes nothing: the stack is guarded as before. */
static void a_filter_that_is_refused(void) {
    set_stack(0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0L) == -1 && errno == EFAULT);
    send(handle);
}

int main(void) {
    void (*const ways[])(void) = {a_filter_then_a_handler, a_stack_after_the_filter, a_filter_in_a_handler,
                                  an_errno,                two_filters,              a_filter_that_is_refused};
    for (unsigned at = 0; at < sizeof ways / sizeof *ways; at++) {
        pid_t child = fork();
        if (child == 0) {
            CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
            ways[at]();
            _exit(0);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        printf("%u ends with %#x\n", at, status);
    }
    return pass();
}
