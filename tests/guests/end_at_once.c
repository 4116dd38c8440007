// Threads that all end the process in the same moment: most by exit_group, some by a signal that ends it.
//@ build: gcc -O2 -pthread end_at_once.c -o $OUT
#include "guest.h"
#include <pthread.h>
#include <signal.h>

#define THREADS 16

static pthread_barrier_t barrier;

static void *end(void *how) {
    pthread_barrier_wait(&barrier);
    if (how) kill(getpid(), SIGTERM);
    syscall(SYS_exit_group, 0);
    return 0;
}

int main(int argc, char **argv) {
    (void)argv;
    pthread_t thread;
    pthread_barrier_init(&barrier, 0, THREADS + 1);
    puts("ok");
    fflush(stdout);
    for (long number = 0; number < THREADS; number++)
        CHECK(pthread_create(&thread, 0, end, argc > 1 && number % 4 == 0 ? &barrier : 0) == 0);
    pthread_barrier_wait(&barrier);
    syscall(SYS_exit_group, 0);
}
