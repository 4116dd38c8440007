// A filter that ends the process at any call that this program does not make natively: threads, forks, handlers and code
// mapped later still work.
//@ build: gcc -O2 -pthread seccomp_filter.c -o $OUT
//@ build: gcc -O2 -pthread -static seccomp_filter.c -o $OUT
//@ build: musl-gcc -O2 -static -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu seccomp_filter.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const int allowed[] = {
    SYS_write, SYS_close, SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_mmap,
    SYS_mprotect, SYS_munmap, SYS_madvise, SYS_futex, SYS_clone, 435 /* clone3 */, SYS_set_robust_list, 334 /* rseq */,
    SYS_fork, SYS_wait4, SYS_set_tid_address, SYS_tgkill, 318 /* getrandom */, SYS_brk,
};
enum { ALLOWED = sizeof allowed / sizeof *allowed };

static void restrict_calls(int by_prctl) {
    static struct sock_filter code[2 * ALLOWED + 5];
    int at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int call = 0; call < ALLOWED; call++) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[call], 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {(unsigned short)at, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    // A refused one restricts nothing.
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1 << 30, &program) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_getppid) >= 0);
    if (by_prctl) CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    else CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}

static volatile int handled;
static void on_signal(int number) { handled += number; }

static void *body(void *argument) {
    for (int at = 0; at < 100; at++) CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    return argument;
}

static void check_child(pid_t pid, int want) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, want);
}

int main(void) {
    int library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0);
    pthread_t thread;
    pid_t pid = fork(), self = getpid();
    restrict_calls(pid == 0);
    if (pid != 0) check_child(pid, 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    for (int round = 0; round < 20; round++) {
        CHECK(pthread_create(&thread, 0, body, 0) == 0 && pthread_join(thread, 0) == 0);
        pid_t child = (pid_t)syscall(SYS_fork);
        if (child == 0) _exit(round);
        check_child(child, round << 8);
        CHECK(syscall(SYS_tgkill, self, self, SIGUSR1) == 0);
        CHECK_EQUAL(handled, SIGUSR1 * (round + 1));
        void *code = mmap(0, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
        CHECK(code != MAP_FAILED);
        CHECK(mprotect(code, 65536, PROT_READ) == 0 && mprotect(code, 65536, PROT_READ | PROT_EXEC) == 0);
        CHECK(munmap(code, 65536) == 0);
    }
    // The filter is in force: one call too many, and that is the end.
    pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0) syscall(SYS_getppid);
    check_child(child, SIGSYS);
    if (pid != 0) CHECK_EQUAL(write(1, "ok\n", 3), 3);
    _exit(0);
}
