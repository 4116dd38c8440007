// A sandbox of the kind that servers put around the part that reads from strangers: no more files, no more processes, no
// writing to files, and a filter that kills at all but a few calls.
//@ build: gcc -O2 seccomp_limits.c -o $OUT
//@ build: gcc -O2 -static seccomp_limits.c -o $OUT
//@ modes: plain
#include "seccomp.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static void restrict_all(void) {
    static const int allowed[] = {SYS_read, SYS_write, SYS_close, SYS_brk, SYS_mmap, SYS_munmap, SYS_clock_gettime,
                                  SYS_getpid, SYS_exit_group, SYS_madvise, SYS_poll, SYS_shutdown, SYS_getrandom};
    enum { ALLOWED = sizeof allowed / sizeof *allowed };
    struct sock_filter code[2 * ALLOWED + 7] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0), ANSWER(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
    };
    int at = 4;
    code[at++] = (struct sock_filter)IF_NOT(SYS_openat, 1);
    code[at++] = (struct sock_filter)ANSWER(SECCOMP_RET_ERRNO | EACCES);
    for (int call = 0; call < ALLOWED; call++) {
        code[at++] = (struct sock_filter)IF_NOT((unsigned)allowed[call], 1);
        code[at++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    }
    struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0 && setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    code[at++] = (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {(unsigned short)at, code};
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void serve(int peer) {
    restrict_all();
    char byte;
    struct timespec now;
    while (read(peer, &byte, 1) == 1) {
        void *memory = malloc(1 << 20);
        CHECK(memory != 0 && clock_gettime(CLOCK_MONOTONIC, &now) == 0);
        memset(memory, byte, 1 << 20);
        byte = ((char *)memory)[12345];
        free(memory);
        CHECK(syscall(SYS_openat, 0, "/etc/passwd", 0) == -1 && errno == EACCES);
        CHECK(write(peer, &byte, 1) == 1);
    }
    syscall(SYS_exit_group, 3);
}

int main(void) {
    int ends[2], status;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        serve(ends[1]);
    }
    close(ends[1]);
    for (int round = 0; round < 50; round++) {
        char byte = (char)round;
        CHECK(write(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1);
        CHECK_EQUAL(byte, round);
    }
    CHECK(close(ends[0]) == 0 && waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 3 << 8);
    return pass();
}
