// Strict mode: four calls are left, and a program that makes no others lives and ends as it likes.
//@ build: gcc -O2 seccomp_strict.c -o $OUT
//@ build: gcc -O2 -static seccomp_strict.c -o $OUT
//@ status: 7
#include "guest.h"
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>

static volatile int signals;
static void on_fault(int number) { signals += number; }

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGTRAP, &action, 0) == 0);
    if (argc == 1) CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    else CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0) == 0);
    (void)argv;
    char byte;
    for (int round = 0; round < 1000; round++) CHECK(read(0, &byte, 1) == 0);
    __asm__ volatile("int3"); // a handler, which returns by rt_sigreturn
    CHECK_EQUAL(signals, SIGTRAP);
    CHECK_EQUAL(write(1, "ok\n", 3), 3);
    syscall(SYS_exit, 7);
}
