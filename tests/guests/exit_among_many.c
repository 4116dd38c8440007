// exit_group while two hundred threads are in calls, half of them blocked.
//@ build: gcc -O2 -pthread exit_among_many.c -o $OUT
//@ status: 5
#include "guest.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int running;

static void *body(void *blocks) {
    atomic_fetch_add(&running, 1);
    if (blocks) for (;;) syscall(SYS_pause);
    for (;;) syscall(SYS_close, -1);
}

int main(void) {
    for (long at = 0; at < 200; at++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, 0, body, (void *)(at % 2)) == 0);
    }
    while (atomic_load(&running) < 200) usleep(1000);
    pass();
    fflush(stdout);
    syscall(SYS_exit_group, 5);
}
