// vfork children that are killed by another thread, blocked in a call or on their way through one, more of them than the
// loader has room for calls or stacks; and children that map code when they are killed. The parent goes on.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations vfork_killed.c -o $OUT
//@ build: gcc -O2 -pthread -static -Wno-deprecated-declarations vfork_killed.c -o $OUT
//@ seconds: 180
#include "footprint.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

static atomic_int victim, stop;

static void *kill_it(void *unused) {
    while (!stop) {
        int pid = atomic_exchange(&victim, 0);
        if (pid == 0) {
            sched_yield();
            continue;
        }
        for (volatile int wait = 0; wait < pid % 4000; wait++) {}
        kill(pid, SIGKILL);
    }
    return unused;
}

static int library;

static void live(int kind) {
    atomic_store(&victim, (int)syscall(SYS_getpid));
    if (kind == 0) for (;;) syscall(SYS_pause);
    if (kind == 1) for (;;) syscall(SYS_close, -1);
    for (;;) {
        void *at = mmap(0, 4096 * 16, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
        if (at == MAP_FAILED) _exit(1);
        munmap(at, 4096 * 16);
    }
}

static void kill_children(int count, int map) {
    for (int round = 0; round < count; round++) {
        pid_t pid = vfork();
        CHECK(pid >= 0);
        if (pid == 0) live(map ? 2 : round % 2);
        int status;
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, SIGKILL);
        CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    }
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0);
    pthread_t killer;
    CHECK(pthread_create(&killer, 0, kill_it, 0) == 0);
    kill_children(300, 0);
    struct footprint before = footprint();
    kill_children(1200 * times, 0);
    check_flat(before, 4, 512);
    // What a killed child had mapped stays, natively as well.
    kill_children(100, 1);
    stop = 1;
    CHECK(pthread_join(killer, 0) == 0);
    void *at = mmap(0, 4096 * 16, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
    CHECK(at != MAP_FAILED);
    return pass();
}
