/* One round of calls of every kind that a loader may treat in its own way; all succeed, whatever interrupts them. */
#pragma once
#include "signals.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int zero_file, null_file;

static void prepare_calls(void) {
    zero_file = open("/dev/zero", O_RDONLY), null_file = open("/dev/null", O_WRONLY);
    CHECK(zero_file >= 0 && null_file >= 0);
}

static inline void call_simple(void) {
    char bytes[64] = "x", path[256];
    struct stat facts;
    CHECK_EQUAL(syscall(SYS_getppid), getppid());
    CHECK_EQUAL(read(zero_file, bytes, sizeof bytes), sizeof bytes);
    CHECK_EQUAL(write(null_file, bytes, sizeof bytes), sizeof bytes);
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    CHECK(syscall(9999) == -1 && errno == ENOSYS);
    int file = open("/dev/null", O_RDONLY);
    CHECK(file >= 0 && fstat(file, &facts) == 0 && close(file) == 0);
    CHECK(stat("/proc/self/exe", &facts) == 0 && S_ISREG(facts.st_mode));
    CHECK(readlink("/proc/self/exe", path, sizeof path) > 0);
    CHECK(readlink("/", path, sizeof path) == -1 && errno == EINVAL);
    CHECK(access("/nonexistent", F_OK) == -1 && errno == ENOENT);
    CHECK(access("/", F_OK) == 0);
}

static inline void call_memory(void) {
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    page[0] = (char)0xc3;
    CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
    CHECK(munmap(page, 8192) == 0);
}

static void *return_argument(void *argument) {
    return argument;
}

static inline void call_processes(void) {
    int status;
    pthread_t thread;
    void *result;
    pid_t pid = fork();
    if (pid == 0) _exit(6);
    CHECK(pid > 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 6 << 8);
    pid = vfork();
    if (pid == 0) _exit(7);
    CHECK(pid > 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 7 << 8);
    CHECK(pthread_create(&thread, 0, return_argument, &status) == 0);
    CHECK(pthread_join(thread, &result) == 0 && result == &status);
}
