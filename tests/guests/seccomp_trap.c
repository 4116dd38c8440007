// A sandbox with a broker in the process: calls that are not allowed raise SIGSYS, whose handler reads the call from
// its frame and makes it from the one address that may make it, which the filter knows.
//@ build: gcc -O2 -pthread seccomp_trap.c -o $OUT
//@ build: gcc -O2 -pthread -static seccomp_trap.c -o $OUT
//@ build: gcc -O2 -pthread -static-pie seccomp_trap.c -o $OUT
#include "seccomp.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <ucontext.h>

/* Both take a number and three arguments, and make the call at a place with a name of its own. */
ASM_FUNCTION(trusted_call, "mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n xor %r10d, %r10d\n"
                           "syscall\n .globl trusted_end\n trusted_end: ret");
ASM_FUNCTION(other_call, "mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov $77, %r10d\n"
                         "syscall\n .globl other_end\n other_end: ret");
long trusted_call(long nr, long a, const void *b, long c);
long other_call(long nr, long a, const void *b, long c);
extern char trusted_end[], other_end[];

static volatile int traps;
static volatile greg_t last_ip;

static void on_bad_call(int number, siginfo_t *info, void *frame) {
    greg_t *regs = ((ucontext_t *)frame)->uc_mcontext.gregs;
    CHECK_EQUAL(number, SIGSYS);
    CHECK_EQUAL(info->si_code, 1 /* SYS_SECCOMP */);
    CHECK_EQUAL(info->si_call_addr, regs[REG_RIP]);
    CHECK_EQUAL(info->si_syscall, regs[REG_RAX]);
    CHECK_EQUAL(regs[REG_RCX], regs[REG_RIP]);
    last_ip = regs[REG_RIP];
    traps++;
    if (info->si_syscall == SYS_openat) {
        regs[REG_RAX] = trusted_call(SYS_openat, regs[REG_RDI], (void *)regs[REG_RSI], regs[REG_RDX]);
    } else {
        regs[REG_RAX] = 1000 * info->si_errno + regs[REG_RDI]; /* SECCOMP_RET_DATA, and an argument */
    }
}

static void install_broker_filter(void) {
    uint64_t trusted = (uintptr_t)trusted_end;
    struct sock_filter code[] = {
        LOAD(instruction_pointer),
        IF_NOT((uint32_t)trusted, 3),
        LOAD_UPPER(instruction_pointer),
        IF_NOT((uint32_t)(trusted >> 32), 1),
        ANSWER(SECCOMP_RET_ALLOW),
        LOAD(nr),
        IF_NOT(SYS_openat, 1),
        ANSWER(SECCOMP_RET_TRAP),
        IF_NOT(SYS_getppid, 1),
        ANSWER(SECCOMP_RET_TRAP | 7),
        IF_NOT(SYS_clone, 1), /* a call that the loader waits for */
        ANSWER(SECCOMP_RET_TRAP | 8),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code, 0);
}

static void check_handlers(void (*want)(int, siginfo_t *, void *)) {
    struct sigaction before;
    CHECK(sigaction(SIGSYS, 0, &before) == 0);
    CHECK_EQUAL(before.sa_sigaction, want);
    CHECK_EQUAL(before.sa_flags & ~0x4000000 /* SA_RESTORER */, SA_SIGINFO);
    struct sigaction ignore = {.sa_handler = SIG_IGN}, again = before;
    CHECK(sigaction(SIGSYS, &ignore, &before) == 0 && before.sa_sigaction == want);
    CHECK(sigaction(SIGSYS, &again, &before) == 0 && before.sa_handler == SIG_IGN);
}

static void *make_traps(void *argument) {
    for (int round = 0; round < 200; round++) {
        CHECK_EQUAL(other_call(SYS_getppid, round, 0, 0), 7000 + round);
    }
    return argument;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_bad_call, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_broker_filter();
    check_handlers(on_bad_call);
    CHECK_EQUAL(other_call(SYS_getppid, 5, 0, 0), 7005);
    CHECK_EQUAL(last_ip, (uintptr_t)other_end);
    CHECK_EQUAL(other_call(SYS_clone, 6, 0, 0), 8006);
    CHECK_EQUAL(last_ip, (uintptr_t)other_end);
    CHECK_EQUAL(traps, 2);
    for (int round = 0; round < 100; round++) {
        int fd = open("/dev/null", O_RDONLY);
        CHECK_EQUAL(fd, 3);
        char link[64] = "";
        CHECK_EQUAL(other_call(SYS_readlink, (long)"/proc/self/fd/3", link, 64), 9);
        CHECK(strcmp(link, "/dev/null") == 0 && close(fd) == 0);
        CHECK(other_call(SYS_openat, AT_FDCWD, "/nonexistent", O_RDONLY) == -ENOENT);
        CHECK_EQUAL(trusted_call(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY), 3);
        CHECK(close(3) == 0);
    }
    CHECK_EQUAL(traps, 202);
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, make_traps, 0) == 0 && pthread_join(thread, 0) == 0);
    CHECK_EQUAL(traps, 402);
    return pass();
}
