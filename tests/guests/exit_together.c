// Sixteen threads that all end the process at the same moment.
//@ build: gcc -O2 -pthread exit_together.c -o $OUT
//@ build: gcc -O2 -pthread -static exit_together.c -o $OUT
//@ status: 3
#include "guest.h"
#include <pthread.h>

static pthread_barrier_t barrier;

static void *body(void *unused) {
    pthread_barrier_wait(&barrier);
    syscall(SYS_exit_group, 3);
    return unused;
}

int main(void) {
    pass();
    CHECK(pthread_barrier_init(&barrier, 0, 17) == 0);
    for (int at = 0; at < 16; at++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, 0, body, 0) == 0);
    }
    body(0);
}
