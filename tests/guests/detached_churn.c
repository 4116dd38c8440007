// musl's detached threads unmap the stack that they run on, thread pointer and all, and a new thread may get the very same
// addresses before the old one has exited.
//@ build: musl-gcc -O2 -static detached_churn.c -o $OUT
//@ seconds: 240
#include "footprint.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int ended;

static void *body(void *argument) {
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    atomic_fetch_add(&ended, 1);
    return argument;
}

static void *make(void *count) {
    pthread_attr_t detached;
    CHECK(pthread_attr_init(&detached) == 0);
    CHECK(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0);
    for (long number = 0; number < (long)count; number++) {
        pthread_t thread;
        while (pthread_create(&thread, &detached, body, 0) != 0) usleep(100);
    }
    return 0;
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    make((void *)500L);
    while (atomic_load(&ended) != 500) usleep(1000);
    struct footprint before = footprint();
    pthread_t makers[4];
    for (int at = 0; at < 4; at++) CHECK(pthread_create(&makers[at], 0, make, (void *)(1000L * times)) == 0);
    for (int at = 0; at < 4; at++) CHECK(pthread_join(makers[at], 0) == 0);
    while (atomic_load(&ended) != 500 + 4000 * times) usleep(1000);
    usleep(20000);
    check_flat(before, 64, 2048);
    return pass();
}
