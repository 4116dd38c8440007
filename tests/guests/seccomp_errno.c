// A filter that answers most calls with an error, and a second one that leaves only writing to standard output: the
// program sees its own errors only.
//@ build: gcc -O2 seccomp_errno.c -o $OUT
//@ build: gcc -O2 -static seccomp_errno.c -o $OUT
//@ modes: plain
#include "guest.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void install(struct sock_filter *code, size_t len) {
    struct sock_fprog program = {(unsigned short)len, code};
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(void) {
    struct sock_filter rest[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_vfork, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 78),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install(rest, sizeof rest / sizeof *rest);
    for (int round = 0; round < 100; round++) {
        CHECK(syscall(SYS_getpid) == -1 && errno == 77);
        CHECK(syscall(SYS_vfork) == -1 && errno == 78);
        CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    }
    pid_t pid = fork();
    if (pid == 0) _exit(5);
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 5 << 8);
    // From here on only `write` to 1 is left, and the end.
    struct sock_filter all[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    // At the jump for `write` with another descriptor the accumulator holds that, which is no exit_group.
    install(all, sizeof all / sizeof *all);
    CHECK_EQUAL(write(1, "ok\n", 3), 3);
    syscall(SYS_exit_group, 0);
}
