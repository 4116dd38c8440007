// Five thousand threads, all blocked in a call at once: the main thread's calls, a fork and a vfork still work; then all
// go on.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations threads_blocked.c -o $OUT
//@ seconds: 240
#include "footprint.h"
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { THREADS = 5000 };
static int wake[2];

static void *body(void *unused) {
    char byte;
    CHECK_EQUAL(read(wake[0], &byte, 1), 1);
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    return unused;
}

static void check_child(pid_t pid) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 6 << 8);
}

int main(void) {
    static pthread_t threads[THREADS];
    pthread_attr_t small;
    CHECK(pipe(wake) == 0);
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 32768) == 0);
    for (int at = 0; at < THREADS; at++) {
        CHECK(pthread_create(&threads[at], &small, body, 0) == 0);
        if (at % 500 == 0) CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    }
    usleep(300000);
    for (int round = 0; round < 200; round++) {
        CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
        CHECK_EQUAL(syscall(SYS_getpid), getpid());
    }
    for (int round = 0; round < 5; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t one;
            char byte = 'x';
            int own[2];
            CHECK(pipe(own) == 0);
            wake[0] = own[0];
            CHECK(pthread_create(&one, &small, body, 0) == 0 && write(own[1], &byte, 1) == 1);
            CHECK(pthread_join(one, 0) == 0);
            _exit(6);
        }
        check_child(pid);
        pid = vfork();
        if (pid == 0) _exit(6);
        check_child(pid);
    }
    char byte = 'x';
    for (int at = 0; at < THREADS; at++) CHECK_EQUAL(write(wake[1], &byte, 1), 1);
    for (int at = 0; at < THREADS; at++) CHECK(pthread_join(threads[at], 0) == 0);
    return pass();
}
