// The main thread ends before another one, which then ends the process with its status.
//@ build: gcc -O2 -pthread main_exits_first.c -o $OUT
//@ build: gcc -O2 -pthread -static main_exits_first.c -o $OUT
//@ build: musl-gcc -O2 -static main_exits_first.c -o $OUT
//@ status: 7
#include "guest.h"
#include <pthread.h>

static void *outlive(void *main_thread) {
    usleep(50000);
    for (int round = 0; round < 100; round++) CHECK(syscall(SYS_gettid) != getpid());
    pass();
    exit(7);
    return main_thread;
}

int main(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, outlive, 0) == 0);
    // Not pthread_exit: the thread alone, at once, by the bare call.
    syscall(SYS_exit, 3);
    return 1;
}
