// Processes in this memory end by exit(2), and have threads of their own that do: they are no threads of this process,
// whose first thread ends next and whose last goes on making calls.
//@ build: gcc -O2 -pthread relatives_end.c -o $OUT
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static char stacks[2][65536] __attribute__((aligned(16)));
static volatile int thread_word;

static void exit_thread(void) {
    for (;;) __asm__ volatile("syscall" : : "a"(SYS_exit), "D"(0) : "rcx", "r11", "memory");
}
static int end(void *unused) {
    (void)unused;
    exit_thread();
    return 0;
}
static int end_after_thread(void *unused) {
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    thread_word = 1;
    if (clone(end, stacks[1] + sizeof stacks[1], flags, 0, 0, 0, &thread_word) < 0) _exit(1);
    while (thread_word) sched_yield();
    return end(unused);
}

static void *go_on(void *unused) {
    (void)unused;
    usleep(50000);
    for (int at = 0; at < 1000; at++) CHECK(syscall(SYS_getpgid, 0) > 0);
    pass();
    fflush(stdout);
    exit_thread();
    return 0;
}

int main(void) {
    for (int round = 0; round < 5; round++) {
        int status;
        int (*body)(void *) = round % 2 ? end : end_after_thread;
        pid_t pid = clone(body, stacks[0] + sizeof stacks[0], CLONE_VM | (round == 2 ? CLONE_SIGHAND : 0) | SIGCHLD, 0);
        CHECK(pid > 0);
        CHECK_EQUAL(waitpid(pid, &status, __WALL), pid);
        CHECK_EQUAL(status, 0);
    }
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, go_on, 0) == 0);
    exit_thread();
}
