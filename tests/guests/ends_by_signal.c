// With an argument, a process that this signal ends: sent to itself, or a fault. Without, one that sees the default
// action of every signal, and that it can change and restore each.
//@ build: gcc -O2 ends_by_signal.c -o $OUT
//@ build: gcc -O2 -static ends_by_signal.c -o $OUT
#include "guest.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void end(const char *how) {
    prctl(PR_SET_DUMPABLE, 0);
    if (strcmp(how, "null") == 0) *(volatile int *)0 = 0;
    if (strcmp(how, "ud2") == 0) __asm__ volatile("ud2");
    if (strcmp(how, "int3") == 0) __asm__ volatile("int3");
    if (strcmp(how, "hlt") == 0) __asm__ volatile("hlt");
    if (strcmp(how, "divide") == 0) __asm__ volatile("divb %%al" : : "a"(0));
    if (strcmp(how, "abort") == 0) abort();
    kill(getpid(), atoi(how));
}

static volatile sig_atomic_t caught;

static void note(int number) { caught = number; }

static void change_and_restore(int number) {
    struct sigaction found, action = {.sa_handler = note};
    CHECK(sigaction(number, 0, &found) == 0 && found.sa_handler == SIG_DFL);
    CHECK((found.sa_flags & ~0x04000000) == 0); // glibc sets SA_RESTORER whenever it sets an action
    CHECK(sigaction(number, &action, &found) == 0 && found.sa_handler == SIG_DFL);
    caught = 0;
    CHECK(raise(number) == 0);
    CHECK_EQUAL(caught, number);
    CHECK(signal(number, SIG_IGN) == note && raise(number) == 0);
    CHECK(signal(number, SIG_DFL) == SIG_IGN);
    CHECK(sigaction(number, 0, &found) == 0 && found.sa_handler == SIG_DFL);
    // A bad address is told, a bad number too.
    CHECK_EQUAL(syscall(SYS_rt_sigaction, number, 1L, 0L, 8L), -1);
    CHECK_EQUAL(syscall(SYS_rt_sigaction, number, 0L, 1L, 8L), -1);
    CHECK_EQUAL(syscall(SYS_rt_sigaction, number, 0L, 0L, 4L), -1);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        raise(number);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    printf("signal %d ends a child: %x\n", number, status);
}

int main(int argc, char **argv) {
    // nohup(1) leaves the first ignored, and a shell without job control the other two in what it starts with `&`.
    const int inherited[] = {SIGHUP, SIGINT, SIGQUIT};
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int i = 0; i < 3; i++) CHECK(sigaction(inherited[i], &usual, 0) == 0);
    if (argc > 1) end(argv[1]);
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGTSTP && number != SIGTTIN && number != SIGTTOU)
            change_and_restore(number);
    return pass();
}
