// Threads whose stack goes away under them: they unmap it themselves and exit without one, or whoever waits for them
// unmaps it the moment the kernel says that they are gone.
//@ build: gcc -O2 -pthread stack_freed.c -o $OUT
//@ seconds: 120
#include "footprint.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

enum { LEN = 32768 };
static volatile int word;

/* Calls of a thread without libc, in registers only. */
static inline long raw(long nr, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}

static int exits(void *unused) {
    (void)unused;
    raw(SYS_close, -1, 0);
    return 0;
}

static int unmaps(void *stack) {
    raw(SYS_close, -1, 0);
    __asm__ volatile("syscall\n xor %%edi, %%edi\n mov $60, %%eax\n syscall\n hlt" : : "a"(SYS_munmap), "D"(stack), "S"((long)LEN) : "rcx", "r11", "memory");
    __builtin_unreachable();
}

static void start(int (*body)(void *), void *tls) {
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    char *stack = mmap(0, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    word = 1;
    CHECK(clone(body, stack + LEN, flags, stack, 0, tls ? tls : stack + 64, &word) > 0);
    for (int seen; (seen = word) != 0;) syscall(SYS_futex, &word, FUTEX_WAIT, seen, 0, 0, 0);
    if (body == exits) CHECK(munmap(stack, LEN) == 0);
}

static void *detached(void *unused) {
    CHECK(syscall(SYS_close, -1) == -1);
    return unused;
}

int main(int argc, char **argv) {
    static char tls[64];
    read_times(argc, argv);
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    struct footprint before = {0};
    for (int round = 0; round < 1000 * times; round++) {
        if (round == 100) usleep(20000), before = footprint();
        start(exits, 0), start(exits, tls), start(unmaps, 0), start(unmaps, tls);
        pthread_t thread;
        while (pthread_create(&thread, &attributes, detached, 0) != 0) usleep(100);
    }
    usleep(20000);
    check_flat(before, 32, 1024);
    return pass();
}
