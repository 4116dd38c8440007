// musl's detached threads unmap their own stack, then exit with no stack at all between the two calls.
//@ build: musl-gcc -O2 -static musl_detached.c -o $OUT
//@ build: musl-gcc -O2 -static-pie -fpie musl_detached.c -o $OUT
//@ seconds: 120
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int ended;

static void *body(void *argument) {
    CHECK_EQUAL(argument, 0x1234);
    syscall(SYS_getpid);
    atomic_fetch_add(&ended, 1);
    return 0;
}

int main(void) {
    pthread_attr_t detached;
    CHECK(pthread_attr_init(&detached) == 0);
    CHECK(pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0);
    for (int number = 0; number < 2000; number++) {
        pthread_t thread;
        while (pthread_create(&thread, &detached, body, (void *)0x1234) != 0) usleep(100);
    }
    while (atomic_load(&ended) != 2000) usleep(1000);
    return pass();
}
