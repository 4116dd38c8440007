// Children in pid namespaces of their own, where ids repeat: in this memory and in copies of it, of a process that is
// itself number one.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations pid_namespaces.c -o $OUT
#include "guest.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static char stack[65536] __attribute__((aligned(16)));

static int child(void *unused) {
    (void)unused;
    for (int round = 0; round < 300; round++)
        if (syscall(SYS_getpid) != 1 || syscall(SYS_getppid) != 0) _exit(1);
    syscall(SYS_exit, 9);
    return 0;
}

static void check_child(pid_t pid, int want) {
    int status;
    CHECK(pid > 0);
    CHECK_EQUAL(waitpid(pid, &status, __WALL), pid);
    CHECK_EQUAL(status, want << 8);
}

/* Each new namespace takes the children of one process, the first of which is its number one. */
static void check_level(void) {
    for (int form = 0; form < 4; form++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK(unshare(CLONE_NEWPID) == 0);
            if (form == 0) pid = clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, 0);
            if (form == 1) pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
            if (form == 2 && (pid = vfork()) == 0) child(0);
            if (form == 3 && (pid = fork()) == 0) child(0);
            check_child(pid, 9);
            _exit(3);
        }
        check_child(pid, 3);
    }
    check_child(clone(child, stack + sizeof stack, CLONE_VM | CLONE_NEWPID | SIGCHLD, 0), 9);
    check_child(clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_NEWPID | SIGCHLD, 0), 9);
}

enum { NOT_ALLOWED = 77 };

int main(int argc, char **argv) {
    (void)argv;
    // With an argument, as somebody without rights.
    if (argc > 1) CHECK(getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) return NOT_ALLOWED;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_EQUAL(getpid(), 1);
        check_level();
        _exit(6);
    }
    check_child(pid, 6);
    return pass();
}
