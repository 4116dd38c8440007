// Many threads, joined and detached, calling all the while, with locks and thread-local storage.
//@ build: gcc -O2 -pthread threads.c -o $OUT
//@ build: gcc -O2 -pthread -static threads.c -o $OUT
//@ build: gcc -O2 -pthread -static-pie threads.c -o $OUT
//@ build: musl-gcc -O2 -static threads.c -o $OUT
//@ seconds: 120
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static atomic_int ended;
static __thread long own = 7;

static void *body(void *argument) {
    long number = (long)argument, tid = syscall(SYS_gettid);
    CHECK_EQUAL(own, 7);
    own = number;
    for (int round = 0; round < 50; round++) {
        CHECK_EQUAL(syscall(SYS_gettid), tid);
        CHECK(syscall(9999) == -1 && errno == ENOSYS);
        CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
        pthread_mutex_lock(&lock);
        total += 1;
        pthread_mutex_unlock(&lock);
    }
    CHECK_EQUAL(own, number);
    atomic_fetch_add(&ended, 1);
    return argument;
}

int main(void) {
    pthread_t threads[16];
    for (int round = 0; round < 25; round++) {
        for (long at = 0; at < 16; at++) CHECK(pthread_create(&threads[at], 0, body, (void *)at) == 0);
        for (long at = 0; at < 16; at++) {
            void *result;
            CHECK(pthread_join(threads[at], &result) == 0);
            CHECK_EQUAL(result, at);
        }
    }
    for (int number = 0; number < 400; number++) {
        pthread_t thread;
        while (pthread_create(&thread, 0, body, (void *)5) != 0) usleep(100);
        CHECK(pthread_detach(thread) == 0);
    }
    while (atomic_load(&ended) != 800) usleep(1000);
    CHECK_EQUAL(total, 800 * 50);
    return pass();
}
