// What a filter can answer besides yes and no: an error, a log entry, somebody else's decision; and filters that
// are put on all threads at once.
//@ build: gcc -O2 -pthread seccomp_actions.c -o $OUT
//@ build: gcc -O2 -pthread -static seccomp_actions.c -o $OUT
#include "seccomp.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static volatile int listener = -1, has_answered;

/* Lets the other thread decide about getppid and pipe2. */
static void *ask(void *argument) {
    struct sock_filter code[] = {
        LOAD(nr), IF_NOT(SYS_getppid, 1), ANSWER(SECCOMP_RET_USER_NOTIF), ANSWER(SECCOMP_RET_ALLOW),
    };
    listener = (int)install_filter(code, 4, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    for (int round = 0; round < 50; round++) CHECK_EQUAL(syscall(SYS_getppid), 4711);
    has_answered = 1;
    return argument;
}

static void decide(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, ask, 0) == 0);
    while (listener < 0) sched_yield();
    for (int round = 0; round < 50; round++) {
        struct seccomp_notif request = {0};
        CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) == 0);
        CHECK_EQUAL(request.data.nr, SYS_getppid);
        struct seccomp_notif_resp answer = {.id = request.id, .val = 4711};
        CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0);
    }
    CHECK(pthread_join(thread, 0) == 0 && has_answered && close(listener) == 0);
}

static volatile int is_installed;

static void *wait_and_try(void *argument) {
    while (!is_installed) sched_yield();
    CHECK(syscall(SYS_getuid) == -1 && errno == 33);
    return argument;
}

static void synchronise(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, wait_and_try, 0) == 0);
    struct sock_filter code[] = {
        LOAD(nr), IF_NOT(SYS_getuid, 1), ANSWER(SECCOMP_RET_ERRNO | 33),
        IF_NOT(SYS_getgid, 1), ANSWER(SECCOMP_RET_LOG), ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK_EQUAL(install_filter(code, 6, SECCOMP_FILTER_FLAG_TSYNC), 0);
    is_installed = 1;
    CHECK(pthread_join(thread, 0) == 0);
    CHECK(syscall(SYS_getuid) == -1 && errno == 33 && syscall(SYS_getgid) >= 0);
}

/* What it forbids is what the loader would use to patch code. */
static void map_without_help(int library) {
    struct sock_filter code[] = {
        LOAD(nr), IF_NOT(SYS_mprotect, 1), ANSWER(SECCOMP_RET_KILL_PROCESS), IF_NOT(SYS_rt_sigprocmask, 1),
        ANSWER(SECCOMP_RET_KILL_PROCESS), ANSWER(SECCOMP_RET_ALLOW),
    };
    install_filter(code, 6, 0);
    for (int round = 0; round < 20; round++) {
        void *at = mmap(0, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
        CHECK(at != MAP_FAILED && munmap(at, 65536) == 0);
    }
}

int main(void) {
    int library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    decide();
    synchronise();
    CHECK_EQUAL(prctl(PR_GET_SECCOMP), 2);
    map_without_help(library);
    return pass();
}
