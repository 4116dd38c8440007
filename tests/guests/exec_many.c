// A thousand spawns, two thousand vforks with exec, failed execs between, from several threads too: nothing adds up.
//@ build: gcc -O2 -static -Wno-deprecated-declarations exec_many.c -o $OUT -pthread
//@ build: musl-gcc -O2 -static -Wno-deprecated-declarations exec_many.c -o $OUT -pthread
//@ seconds: 300
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

static char *self;
static char **arguments;
static char *no_env[] = {NULL};

static int lines_of(const char *path) {
    FILE *file = fopen(path, "r");
    int lines = 0;
    for (int byte; (byte = getc(file)) != EOF;) lines += byte == '\n';
    fclose(file);
    return lines;
}

static long resident(void) {
    long pages, total;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(fscanf(file, "%ld %ld", &total, &pages) == 2);
    fclose(file);
    return pages * 4;
}

static void expect_exit(pid_t child, int status) {
    int got;
    CHECK(waitpid(child, &got, 0) == child);
    CHECK_EQUAL(got, status << 8);
}

static void spawn_one(char **argv) {
    pid_t child;
    CHECK(posix_spawn(&child, self, NULL, NULL, argv, no_env) == 0);
    expect_exit(child, 3);
    CHECK(posix_spawn(&child, "/nonexistent", NULL, NULL, argv, no_env) == ENOENT);
}

static void vfork_one(const char *path, int status) {
    pid_t child = vfork();
    if (child == 0) {
        execve("/etc", arguments, no_env);
        execve(path, arguments, no_env);
        _exit(7);
    }
    expect_exit(child, status);
}

static void *in_thread(void *unused) {
    for (int round = 0; round < 25; round++) {
        spawn_one(arguments);
        vfork_one("/nonexistent", 7);
        vfork_one(self, 3);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc > 1) return 3;
    self = argv[0];
    arguments = (char *[]){"child", "x", NULL};
    static char *many[5000];
    for (int at = 0; at < 4999; at++) many[at] = "x";
    for (int round = 0; round < 20; round++) {
        spawn_one(arguments);
        vfork_one(self, 3);
        spawn_one(many);
    }
    int maps = lines_of("/proc/self/maps");
    long kilobytes = resident();
    for (int round = 0; round < 1000; round++) spawn_one(arguments);
    for (int round = 0; round < 2000; round++) vfork_one(round % 4 ? "/nonexistent" : self, round % 4 ? 7 : 3);
    for (int round = 0; round < 20; round++) spawn_one(many);
    CHECK(lines_of("/proc/self/maps") <= maps + 2);
    CHECK(resident() <= kilobytes + 200);
    pthread_t threads[8];
    for (int at = 0; at < 8; at++) pthread_create(&threads[at], NULL, in_thread, NULL);
    for (int at = 0; at < 8; at++) pthread_join(threads[at], NULL);
    puts("ok");
    return 0;
}
