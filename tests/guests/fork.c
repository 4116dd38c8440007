// fork, raw and through the library, nested, and in a program with threads: registers, memory and statuses are right.
//@ build: gcc -O2 -pthread fork.c -o $OUT
//@ build: gcc -O2 -pthread -static fork.c -o $OUT
//@ build: musl-gcc -O2 -static fork.c -o $OUT
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static long raw_fork(void) {
    long result, kept;
    __asm__ volatile("mov $0x5eed5eed5eed, %%r12\n mov $57, %%eax\n syscall\n mov %%r12, %1\n"
                     : "=&a"(result), "=r"(kept) : : "rcx", "r11", "r12", "memory");
    CHECK_EQUAL(kept, 0x5eed5eed5eed);
    return result;
}

static int wait_for(pid_t pid) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return status;
}

static volatile int stop;
static void *spin(void *unused) {
    while (!stop) syscall(SYS_getpid);
    return unused;
}

int main(void) {
    for (int round = 0; round < 100; round++) {
        long pid = round % 2 ? raw_fork() : fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK_EQUAL(syscall(SYS_getpid), getpid());
            long inner = raw_fork();
            if (inner == 0) _exit(7);
            CHECK_EQUAL(wait_for(inner), 7 << 8);
            _exit(round);
        }
        CHECK_EQUAL(wait_for(pid), round << 8);
    }
    pid_t killed = fork();
    if (killed == 0) for (;;) pause();
    CHECK(kill(killed, SIGKILL) == 0);
    CHECK_EQUAL(wait_for(killed), SIGKILL);
    pthread_t threads[4];
    for (int at = 0; at < 4; at++) CHECK(pthread_create(&threads[at], 0, spin, 0) == 0);
    for (int round = 0; round < 50; round++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK_EQUAL(syscall(SYS_gettid), getpid());
            _exit(3);
        }
        CHECK_EQUAL(wait_for(pid), 3 << 8);
    }
    stop = 1;
    for (int at = 0; at < 4; at++) CHECK(pthread_join(threads[at], 0) == 0);
    return pass();
}
