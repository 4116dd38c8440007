/* What guests with Syscall User Dispatch share: places to make calls from, a selector, a handler that keeps what it sees. */
#pragma once
#include "signals.h"
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#ifndef si_syscall
#define si_call_addr _sifields._sigsys._call_addr
#define si_syscall _sifields._sigsys._syscall
#define si_arch _sifields._sigsys._arch
#endif
#define ALLOW 0
#define BLOCK 1

/* Both take a number and three arguments. Next to the first lies a restorer: what may be called is one range. */
__asm__(".pushsection .text, \"ax\", @progbits\n"
        ".globl range_start, own_restorer, trusted_call, trusted_end, other_call, other_end\n"
        "range_start:\n"
        ".type own_restorer, @function\n own_restorer: mov $15, %rax\n syscall\n .size own_restorer, . - own_restorer\n"
        ".type trusted_call, @function\n trusted_call: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n xor %r10d, %r10d\n xor %r8d, %r8d\n syscall\n trusted_end: ret\n"
        ".size trusted_call, . - trusted_call\n"
        ".type other_call, @function\n other_call: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n"
        "mov %rcx, %rdx\n mov $77, %r10d\n syscall\n other_end: ret\n"
        ".size other_call, . - other_call\n"
        ".popsection\n");
extern char range_start[], own_restorer[], trusted_end[], other_end[];
long trusted_call(long nr, long a, long b, long c);
long other_call(long nr, long a, long b, long c);

static volatile char selector = ALLOW;
static volatile long result;
static struct {
    volatile int count;
    siginfo_t info;
    gregset_t regs;
    uintptr_t stack;
} seen;

/* Keeps the call, gives it `result`, and opens the selector: its own end is a call as well. */
__attribute__((unused)) static void on_sigsys(int number, siginfo_t *info, void *frame) {
    greg_t *regs = ((ucontext_t *)frame)->uc_mcontext.gregs;
    char here;
    CHECK_EQUAL(number, SIGSYS);
    selector = ALLOW;
    seen.count++;
    seen.info = *info;
    memcpy(&seen.regs, regs, sizeof seen.regs);
    seen.stack = (uintptr_t)&here;
    regs[REG_RAX] = result;
}

/* With the restorer of the range, in place of the C library's. */
__attribute__((unused)) static void install_for(int number, void *handler, unsigned long flags) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {handler, flags | 0x04000000 /* SA_RESTORER */, own_restorer, 0};
    CHECK_EQUAL(syscall(SYS_rt_sigaction, number, &action, 0, 8), 0);
}

__attribute__((unused)) static void install(void (*handler)(int, siginfo_t *, void *), unsigned long flags) {
    install_for(SIGSYS, handler, flags);
}

__attribute__((unused)) static long dispatch_off(void) {
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0);
}

__attribute__((unused)) static void arm(uint64_t start, uint64_t len, const volatile char *at) {
    selector = ALLOW;
    install(on_sigsys, SA_SIGINFO);
    CHECK_EQUAL(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, start, len, at), 0);
}
