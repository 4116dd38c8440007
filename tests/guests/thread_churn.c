// Threads without end, a few at a time, some cancelled in a blocking call: nothing grows.
//@ build: gcc -O2 -pthread thread_churn.c -o $OUT
//@ build: musl-gcc -O2 -static thread_churn.c -o $OUT
//@ seconds: 240
#include "footprint.h"
#include <pthread.h>

static void *body(void *argument) {
    if (argument) for (;;) pause();
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    return 0;
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    struct footprint before = {0};
    for (int round = 0; round < 1000 * times; round++) {
        if (round == 200) before = footprint();
        pthread_t threads[4];
        for (int at = 0; at < 4; at++) {
            void *blocks = at == 3 && round % 4 == 0 ? &before : 0;
            CHECK(pthread_create(&threads[at], 0, body, blocks) == 0);
            if (blocks) CHECK(pthread_cancel(threads[at]) == 0);
        }
        for (int at = 0; at < 4; at++) CHECK(pthread_join(threads[at], 0) == 0);
    }
    check_flat(before, 8, 1024);
    return pass();
}
