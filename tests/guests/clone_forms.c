// Every form of clone that libraries do not use: shared memory with and without signal handlers, a thread pointer or a
// process of its own; ids written by the kernel; a pidfd; refusals, after which nothing may be left behind.
//@ build: gcc -O2 clone_forms.c -o $OUT
//@ build: musl-gcc -O2 -static -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu clone_forms.c -o $OUT
#include "footprint.h"
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

/* Runs `body` in the child on the top of `stack`, then exits with its result; call 60, as a raw thread does. */
long clone_call(uint64_t flags, void *stack, int *parent_tid, int *child_tid, void *tls, long (*body)(void));
__asm__(".text\n .type clone_call, @function\n clone_call: .cfi_startproc\n mov %rcx, %r10\n mov $56, %eax\n syscall\n"
        " test %rax, %rax\n jz 1f\n ret\n 1: xor %ebp, %ebp\n and $-16, %rsp\n call *%r9\n mov %eax, %edi\n"
        " mov $60, %eax\n syscall\n hlt\n .cfi_endproc\n .size clone_call, . - clone_call\n");

/* The same by clone3, whose argument lies in static memory. */
static struct { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, rest[8]; } args3;
long clone3_call(void *args, uint64_t size, long (*body)(void));
__asm__(".text\n .type clone3_call, @function\n clone3_call: .cfi_startproc\n mov %rdx, %r8\n mov $435, %eax\n syscall\n"
        " test %rax, %rax\n jz 1f\n ret\n 1: xor %ebp, %ebp\n and $-16, %rsp\n call *%r8\n mov %eax, %edi\n"
        " mov $60, %eax\n syscall\n hlt\n .cfi_endproc\n .size clone3_call, . - clone3_call\n");

static char stack[65536] __attribute__((aligned(16)));
#define TOP (stack + sizeof stack)

static inline long raw(long nr, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}

static volatile long child_ids[2], spins;

/* Calls, without libc: its errno would be the parent's. */
static long look(void) {
    for (int round = 0; round < 200; round++) {
        child_ids[0] = raw(SYS_getpid, 0, 0);
        child_ids[1] = raw(SYS_gettid, 0, 0);
        if (raw(SYS_close, -1, 0) != -EBADF) return 1;
    }
    return 42;
}

static int wait_for(long pid) {
    int status;
    CHECK_EQUAL(waitpid((pid_t)pid, &status, __WALL), pid);
    return status;
}

/* A process in this memory, at the same time as this one, and with this thread's fs base. */
static void processes(void) {
    static const uint64_t forms[] = {CLONE_VM, CLONE_VM | CLONE_FILES, CLONE_VM | CLONE_SIGHAND, CLONE_VM | CLONE_FS,
                                     CLONE_VM | CLONE_SIGHAND | CLONE_FILES | CLONE_FS, CLONE_VM | CLONE_VFORK, 0, CLONE_FILES};
    for (int round = 0; round < 8; round++)
        for (size_t at = 0; at < sizeof forms / sizeof *forms; at++) {
            long pid = clone_call(forms[at] | SIGCHLD, TOP, 0, 0, 0, look);
            CHECK(pid > 0);
            if (forms[at] & CLONE_VM)
                for (int more = 0; more < 200; more++) CHECK(raw(SYS_close, -1, 0) == -EBADF);
            CHECK_EQUAL(wait_for(pid), 42 << 8);
            if (forms[at] & CLONE_VM) CHECK_EQUAL(child_ids[0], pid);
        }
}

/* Processes in this memory that a signal ends, wherever they are or while they wait: more than the loader has room for. */
static long spin(void) {
    for (;;) spins += raw(SYS_close, -1, 0) == -EBADF;
}
static long block(void) {
    spins++;
    for (;;) raw(SYS_pause, 0, 0);
}
static void killed(void) {
    static uint64_t pointed[7];
    for (int round = 0; round < 300 * times; round++) {
        spins = 0;
        uint64_t own = round % 4 < 2 ? CLONE_SETTLS : 0;
        long pid = clone_call(CLONE_VM | own | SIGCHLD, TOP, 0, 0, pointed + round % 7, round % 2 ? spin : block);
        CHECK(pid > 0);
        while (spins == 0) raw(SYS_sched_yield, 0, 0);
        CHECK(kill((pid_t)pid, SIGKILL) == 0);
        CHECK_EQUAL(wait_for(pid), SIGKILL);
    }
}

/* Threads without a thread pointer of their own. */
static void threads(void) {
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                           CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    for (int round = 0; round < 150; round++) {
        volatile int child_tid = 1;
        int parent_tid = 0;
        long tid = clone_call(flags, TOP, &parent_tid, (int *)&child_tid, 0, look);
        CHECK(tid > 0);
        CHECK_EQUAL(parent_tid, tid);
        while (child_tid != 0) CHECK(raw(SYS_close, -1, 0) == -EBADF);
        CHECK_EQUAL(child_ids[0], getpid());
        CHECK_EQUAL(child_ids[1], tid);
    }
}

static void pidfds(void) {
    for (int round = 0; round < 50; round++) {
        int fd = -1;
        long pid = clone_call(CLONE_VM | CLONE_PIDFD | SIGCHLD, TOP, &fd, 0, 0, look);
        CHECK(pid > 0 && fd >= 0);
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        CHECK_EQUAL(poll(&poller, 1, -1), 1);
        CHECK_EQUAL(wait_for(pid), 42 << 8);
        CHECK(close(fd) == 0);
        memset(&args3, 0, sizeof args3);
        args3.flags = CLONE_PIDFD, args3.pidfd = (uint64_t)&fd, args3.exit_signal = SIGCHLD;
        pid = clone3_call(&args3, round % 2 ? 64 : 88, look);
        CHECK(pid > 0 && fd >= 0);
        CHECK_EQUAL(wait_for(pid), 42 << 8);
        CHECK(close(fd) == 0);
    }
}

static void refusals(void) {
    for (int round = 0; round < 150 * times; round++) {
        CHECK_EQUAL(clone_call(CLONE_THREAD, TOP, 0, 0, 0, look), -EINVAL);
        CHECK_EQUAL(clone_call(CLONE_SIGHAND | SIGCHLD, TOP, 0, 0, 0, look), -EINVAL);
        CHECK_EQUAL(clone_call(CLONE_VM | CLONE_THREAD, TOP, 0, 0, 0, look), -EINVAL);
        CHECK_EQUAL(clone_call(CLONE_VM | CLONE_PIDFD | SIGCHLD, TOP, (int *)8, 0, 0, look), -EFAULT);
        memset(&args3, 0, sizeof args3);
        args3.flags = CLONE_VM, args3.exit_signal = SIGCHLD, args3.stack = (uint64_t)stack, args3.stack_size = sizeof stack;
        args3.rest[5] = 1;
        CHECK_EQUAL(clone3_call(&args3, 63, look), -EINVAL);
        CHECK_EQUAL(clone3_call(&args3, 4097, look), -E2BIG);
        CHECK_EQUAL(clone3_call(&args3, sizeof args3, look), -E2BIG);
        CHECK_EQUAL(clone3_call(0, 88, look), -EFAULT);
        args3.rest[5] = 0;
        args3.exit_signal = 1000;
        CHECK_EQUAL(clone3_call(&args3, 88, look), -EINVAL);
    }
    args3.exit_signal = SIGCHLD;
    static const uint64_t sizes[] = {64, 80, 88, sizeof args3};
    for (int at = 0; at < 4; at++) {
        long pid = clone3_call(&args3, sizes[at], look);
        CHECK(pid > 0);
        CHECK_EQUAL(wait_for(pid), 42 << 8);
    }
}

/* EAGAIN: an unprivileged user who may have no more processes. In a child, since there is no way back. */
static void too_many(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(getuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0));
        struct rlimit one = {1, 1};
        CHECK(setrlimit(RLIMIT_NPROC, &one) == 0);
        for (int round = 0; round < 300; round++) {
            long result = clone_call(CLONE_VM | SIGCHLD, TOP, 0, 0, 0, look);
            CHECK(result == -EAGAIN || (result > 0 && wait_for(result) == 42 << 8));
            CHECK(fork() == -1 && errno == EAGAIN);
            CHECK(raw(SYS_vfork, 0, 0) == -EAGAIN);
        }
        _exit(7);
    }
    CHECK_EQUAL(wait_for(pid), 7 << 8);
}

/* ENOSYS: a filter of the program's own, as old sandboxes have. In a child, since there is no way back. */
static void forbidden(void) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the number
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {4, filter};
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
        memset(&args3, 0, sizeof args3);
        args3.flags = CLONE_VM, args3.exit_signal = SIGCHLD, args3.stack = (uint64_t)stack, args3.stack_size = sizeof stack;
        for (int round = 0; round < 300; round++) {
            CHECK_EQUAL(clone3_call(&args3, 88, look), -ENOSYS);
            if (round % 10 == 0) CHECK_EQUAL(wait_for(clone_call(CLONE_VM | SIGCHLD, TOP, 0, 0, 0, look)), 42 << 8);
        }
        _exit(8);
    }
    CHECK_EQUAL(wait_for(pid), 8 << 8);
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    processes(), threads();
    struct footprint before = footprint();
    processes(), killed(), threads(), pidfds(), refusals(), too_many(), forbidden();
    check_flat(before, 4, 512);
    return pass();
}
