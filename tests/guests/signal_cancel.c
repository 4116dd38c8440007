// Threads that are cancelled: blocked in calls, about to block, asynchronously in the middle of anything. What is cleaned up
// is cleaned up once, and a call that has succeeded loses nothing.
//@ build: gcc -O2 -pthread signal_cancel.c -o $OUT
//@ build: gcc -O2 -static -pthread signal_cancel.c -o $OUT
//@ build: musl-gcc -O2 -static signal_cancel.c -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <time.h>

static int ends[2], listener;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static atomic_int tid, cleaned;
static char byte;

static void block_read(void) { read(ends[0], &byte, 1); }
static void block_poll(void) {
    struct pollfd wait = {ends[0], POLLIN, 0};
    poll(&wait, 1, -1);
}
static void block_nanosleep(void) {
    struct timespec hour = {3600, 0};
    nanosleep(&hour, 0);
}
static void block_accept(void) { accept(listener, 0, 0); }
static void block_sem(void) { sem_wait(&semaphore); }
static void unlock(void *unused) {
    (void)unused;
    CHECK(pthread_mutex_unlock(&mutex) == 0);
}
static void block_condition(void) {
    CHECK(pthread_mutex_lock(&mutex) == 0);
    pthread_cleanup_push(unlock, 0);
    for (;;) pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
}
static void block_pause(void) { pause(); }
static void block_sigwait(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigwaitinfo(&set, &info);
}

static const struct kind { const char *name; void (*block)(void); } kinds[] = {
    {"read", block_read}, {"poll", block_poll}, {"nanosleep", block_nanosleep}, {"accept", block_accept},
    {"sem_wait", block_sem}, {"pthread_cond_wait", block_condition}, {"pause", block_pause}, {"sigwaitinfo", block_sigwait},
};

static void clean(void *unused) {
    (void)unused;
    atomic_fetch_add(&cleaned, 1);
}

static void *run(void *argument) {
    const struct kind *kind = argument;
    pthread_cleanup_push(clean, 0);
    atomic_store(&tid, (int)syscall(SYS_gettid));
    for (;;) kind->block();
    pthread_cleanup_pop(0);
    return 0;
}

static void *spin(void *unused) {
    int old;
    pthread_cleanup_push(clean, 0);
    CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old) == 0);
    atomic_store(&tid, (int)syscall(SYS_gettid));
    for (;;) {
        syscall(SYS_getppid);
        syscall(SYS_close, -1);
    }
    pthread_cleanup_pop(0);
    return unused;
}

static void cancel(void *(*body)(void *), const void *argument, int is_blocking) {
    pthread_t thread;
    void *result;
    atomic_store(&tid, 0);
    int before = atomic_load(&cleaned);
    CHECK(pthread_create(&thread, 0, body, (void *)argument) == 0);
    while (atomic_load(&tid) == 0) sched_yield();
    if (is_blocking) wait_until_asleep(atomic_load(&tid));
    CHECK(pthread_cancel(thread) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQUAL(atomic_load(&cleaned), before + 1);
}

#ifndef __GLIBC__
/* Opens and closes, or is cancelled: never with a file left open. */
static void *open_and_close(void *unused) {
    for (;;) {
        int file = open("/dev/null", O_RDONLY);
        int old;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
        atomic_store(&tid, 1);
        CHECK(close(file) == 0);
        pthread_setcancelstate(old, &old);
    }
    return unused;
}

static void cancel_openers(int count) {
    int first = open("/dev/null", O_RDONLY);
    CHECK(close(first) == 0);
    for (int at = 0; at < count; at++) {
        pthread_t thread;
        atomic_store(&tid, 0);
        CHECK(pthread_create(&thread, 0, open_and_close, 0) == 0);
        while (atomic_load(&tid) == 0) sched_yield();
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, 0) == 0);
    }
    int last = open("/dev/null", O_RDONLY);
    printf("files left open: %s\n", last == first ? "none" : "some");
}

#endif

int main(void) {
    sa_family_t family = AF_UNIX;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (void *)&family, sizeof family) == 0 && listen(listener, 4) == 0);
    CHECK(pipe(ends) == 0 && sem_init(&semaphore, 0, 0) == 0);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        for (int round = 0; round < 20; round++) cancel(run, &kinds[kind], 1);
        for (int round = 0; round < 20; round++) cancel(run, &kinds[kind], 0);
    }
    for (int round = 0; round < 100; round++) cancel(spin, 0, 0);
#ifndef __GLIBC__ /* which may lose what a cancelled call has opened (glibc bug 12683) */
    cancel_openers(100);
#endif
    return pass();
}
