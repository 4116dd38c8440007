// Job control: a process whose threads make calls and map code is stopped and continued wherever it is, and a process in the
// same memory is stopped, continued and killed; nobody waits for ever.
//@ build: gcc -O2 -pthread stopped_and_continued.c -o $OUT
//@ seconds: 120
#include "footprint.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int stop;
static int library;

static inline long raw(long nr, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}

static void map_code(void) {
    long at = raw(SYS_mmap, 0, 4096 * 16, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
    if (at < 0 || raw(SYS_munmap, at, 4096 * 16, 0, 0, 0, 0) != 0) raw(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}

static void *work(void *argument) {
    while (!stop) {
        if (argument) map_code();
        for (int at = 0; at < 20; at++) raw(SYS_close, -1, 0, 0, 0, 0, 0);
    }
    return 0;
}

/* Another process in this memory: without libc, whose memory is the parent's. */
static int relative(void *unused) {
    for (;;) work(unused);
}

static void pester(pid_t pid, int rounds) {
    for (int round = 0; round < rounds; round++) {
        int status;
        usleep((unsigned)(rand() % 500));
        CHECK(kill(pid, SIGSTOP) == 0);
        CHECK_EQUAL(waitpid(pid, &status, __WALL | WUNTRACED), pid);
        CHECK(WIFSTOPPED(status));
        CHECK(kill(pid, SIGCONT) == 0);
    }
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (long at = 0; at < 4; at++) {
            pthread_t thread;
            CHECK(pthread_create(&thread, 0, work, (void *)(at % 2)) == 0);
        }
        for (;;) work(0);
    }
    int status;
    pester(pid, 60 * times);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    // Killed while it maps code, as often as not with the patcher's lock: who comes next gets it.
    for (int round = 0; round < 60 * times; round++) {
        pid = clone(relative, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, &library);
        CHECK(pid > 0);
        if (round % 20 == 0) pester(pid, 3);
        for (int at = 0; at < 3; at++) map_code();
        CHECK(kill(pid, SIGKILL) == 0);
        if (round % 2) map_code(); // before it is waited for
        CHECK_EQUAL(waitpid(pid, &status, __WALL), pid);
        CHECK_EQUAL(status, SIGKILL);
        map_code();
    }
    return pass();
}
