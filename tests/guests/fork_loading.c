// fork while eight other threads load libraries, map code and make calls: the child, alone, does the same at once.
//@ build: gcc -O2 -pthread fork_loading.c -o $OUT
//@ seconds: 240
#include "footprint.h"
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static volatile int stop;
static int library;

static void map_code(void) {
    void *at = mmap(0, 4096 * 32, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
    CHECK(at != MAP_FAILED);
    void *plain = mmap(0, 4096 * 8, PROT_READ, MAP_PRIVATE, library, 0x26000);
    CHECK(plain != MAP_FAILED);
    CHECK(mprotect(plain, 4096 * 8, PROT_READ | PROT_EXEC) == 0);
    CHECK(munmap(plain, 4096 * 8) == 0);
    CHECK(munmap(at, 4096 * 32) == 0);
}

/* The library's own lock may be held by a thread that the child does not have: dlopen runs in one thread only, which
   leaves the others' calls to mmap. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static void load(void) {
    void *handle = dlopen("libz.so.1", RTLD_NOW);
    if (handle == 0) handle = dlopen("libutil.so.1", RTLD_NOW);
    CHECK(handle != 0);
    CHECK(dlclose(handle) == 0);
}

static void *work(void *argument) {
    long number = (long)argument;
    while (!stop) {
        if (number < 3) map_code();
        else if (number < 5) {
            pthread_mutex_lock(&loading);
            load();
            pthread_mutex_unlock(&loading);
        } else
            for (int at = 0; at < 50; at++) CHECK(syscall(SYS_close, -1) == -1);
        usleep(200);
    }
    return 0;
}

static volatile pid_t forked;
static void on_signal(int number) {
    (void)number;
    forked = fork();
}

/* In a handler or not: the child goes on either way. */
static pid_t make_child(int in_handler) {
    if (!in_handler) return fork();
    CHECK(raise(SIGUSR1) == 0);
    return forked;
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    const int rounds = 100 * times;
    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0);
    pthread_t threads[8];
    for (long at = 0; at < 8; at++) CHECK(pthread_create(&threads[at], 0, work, (void *)at) == 0);
    struct footprint before = {0};
    for (int round = 0; round < rounds; round++) {
        if (round == 30) before = footprint();
        int loads = round % 2;
        if (loads) pthread_mutex_lock(&loading);
        pid_t pid = make_child(round % 3 == 0);
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(60);
            map_code();
            if (loads) load();
            for (int at = 0; at < 100; at++) CHECK(syscall(SYS_close, -1) == -1);
            pthread_t thread;
            stop = 1;
            CHECK(pthread_create(&thread, 0, work, (void *)7) == 0 && pthread_join(thread, 0) == 0);
            _exit(5);
        }
        if (loads) pthread_mutex_unlock(&loading);
        int status;
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 5 << 8);
    }
    stop = 1;
    for (int at = 0; at < 8; at++) CHECK(pthread_join(threads[at], 0) == 0);
    // Stubs of code that is mapped again and again are not taken back: they fill their 2 MiB.
    check_flat(before, 64, 4096);
    return pass();
}
