// SIGSYS as the program's own, beside calls that raise it: sent, blocked, ignored, handled, waited for, and from filters.
//@ build: gcc -O2 -pthread net_signals.c -o $OUT
//@ build: gcc -O2 -pthread -static net_signals.c -o $OUT
#include "seccomp.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Data that is code: nobody proves it. mov %rdi, %rax; syscall; ret */
ASM_FUNCTION(data, "ret\n .byte 0x06, 0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3, 0x06");
extern char data[];
static long odd(long nr) { return ((long (*)(long))(data + 2))(nr); }

static volatile int handled, code;

static void on_signal(int number, siginfo_t *info, void *frame) {
    (void)frame;
    CHECK_EQUAL(number, SIGSYS);
    code = info->si_code;
    handled++;
}

static void handle(int flags) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(SIGSYS, &action, 0) == 0);
}

static void check_calls(void) {
    for (int round = 0; round < 20; round++) CHECK_EQUAL(odd(SYS_getppid), getppid());
}

static void block(int how) {
    sigset_t set;
    sigfillset(&set);
    CHECK(sigprocmask(how, &set, 0) == 0);
}

static int is_in(int (*read)(sigset_t *)) {
    sigset_t set;
    CHECK(read(&set) == 0);
    return sigismember(&set, SIGSYS);
}

static int read_mask(sigset_t *set) { return sigprocmask(SIG_BLOCK, 0, set); }

static void sent(void) {
    handle(0);
    check_calls();
    CHECK(raise(SIGSYS) == 0 && handled == 1 && code == SI_TKILL);
    CHECK(kill(getpid(), SIGSYS) == 0 && handled == 2 && code == SI_USER);
    CHECK(sigqueue(getpid(), SIGSYS, (union sigval){7}) == 0 && handled == 3 && code == SI_QUEUE);
    check_calls();
    handle(SA_RESETHAND);
    CHECK(raise(SIGSYS) == 0 && handled == 4);
    struct sigaction action;
    CHECK(sigaction(SIGSYS, 0, &action) == 0 && action.sa_handler == SIG_DFL);
    check_calls();
}

static void blocked(void) {
    handle(0);
    block(SIG_BLOCK);
    CHECK(is_in(read_mask) == 1);
    check_calls();
    CHECK(raise(SIGSYS) == 0 && raise(SIGSYS) == 0 && handled == 4 && is_in(sigpending) == 1);
    check_calls();
    block(SIG_UNBLOCK);
    CHECK(handled == 5 && is_in(read_mask) == 0 && is_in(sigpending) == 0);
    block(SIG_BLOCK);
    CHECK(raise(SIGSYS) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGSYS && info.si_pid == getpid());
    check_calls();
    block(SIG_UNBLOCK);
    CHECK(handled == 5);
}

static void ignored(void) {
    CHECK(signal(SIGSYS, SIG_IGN) != SIG_ERR && raise(SIGSYS) == 0);
    check_calls();
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "net_signals", "inherits", (char *)0);
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static int ends_by(void (*life)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        life();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 1000 + WEXITSTATUS(status);
}

static void by_default(void) {
    signal(SIGSYS, SIG_DFL);
    check_calls();
    raise(SIGSYS);
}

static void turn_down_getpgrp(void) {
    struct sock_filter filter[] = {
        LOAD(nr), IF_NOT(SYS_getpgrp, 1), ANSWER(SECCOMP_RET_TRAP), ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_filter(filter, sizeof filter / sizeof *filter, 0);
}

static void turned_down(void) {
    handle(0);
    turn_down_getpgrp();
    check_calls();
    handled = 0;
    for (int round = 1; round <= 20; round++) {
        if (round % 2) odd(SYS_getpgrp);
        else syscall(SYS_getpgrp);
        CHECK(handled == round && code == 1 /* SYS_SECCOMP */);
        check_calls();
    }
}

static void turned_down_by_default(void) {
    signal(SIGSYS, SIG_DFL);
    turn_down_getpgrp();
    odd(SYS_getpgrp);
}

static void turned_down_ignored(void) {
    signal(SIGSYS, SIG_IGN);
    turn_down_getpgrp();
    odd(SYS_getpgrp);
}

static void turned_down_blocked(void) {
    handle(0);
    block(SIG_BLOCK);
    turn_down_getpgrp();
    odd(SYS_getpgrp);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return signal(SIGSYS, SIG_DFL) != SIG_IGN;
    sent();
    blocked();
    ignored();
    void (*lives[])(void) = {by_default, turned_down, turned_down_by_default, turned_down_ignored, turned_down_blocked};
    for (int index = 0; index < 5; index++) printf("%d\n", ends_by(lives[index]));
    return pass();
}
