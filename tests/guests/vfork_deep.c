// Children in their parent's memory, on its stack or their own, that call deep functions and make many calls before they
// exec or end: the parent goes on as if nothing had been, and nothing grows.
//@ build: gcc -O1 -Wno-deprecated-declarations vfork_deep.c -o $OUT
//@ build: musl-gcc -O1 -static -Wno-deprecated-declarations vfork_deep.c -o $OUT
//@ seconds: 180
#include "footprint.h"
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static char stack[65536] __attribute__((aligned(16)));
static char *const arguments[] = {"/bin/true", 0}, *const none[] = {0};

static __attribute__((noinline)) long deep(int level) {
    volatile char room[64];
    room[0] = (char)level;
    long calls = syscall(SYS_close, -1) == -1;
    return level == 0 ? calls : calls + deep(level - 1) + room[0] - (char)level;
}

static int child(void *form) {
    for (int round = 0; round < 5; round++)
        if (deep(100) != 101) _exit(1);
    if ((long)form & 1) execve(arguments[0], arguments, none);
    _exit((long)form & 1 ? 2 : 0);
}

static void check_child(pid_t pid) {
    int status;
    CHECK(pid > 0);
    CHECK_EQUAL(waitpid(pid, &status, __WALL), pid);
    CHECK_EQUAL(status, 0);
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    struct footprint before = {0};
    for (long round = 0; round < 100 * times; round++) {
        if (round == 30) before = footprint();
        volatile long kept = round;
        pid_t pid = vfork();
        if (pid == 0) child((void *)(round % 2));
        check_child(pid);
        CHECK_EQUAL(kept, round);
        check_child(clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)((round + 1) % 2)));
        CHECK_EQUAL(deep(50), 51);
    }
    check_flat(before, 2, 256);
    return pass();
}
