// Times one system call, a round for each letter on standard input:
// `l` through libc's getppid, which lies among the kernel's mappings, near the loader;
// `o` through an instruction of this program, which lies terabytes away from them.
// With the argument `armed` it has the kernel look at each call's address first (Syscall User Dispatch) and let all pass.
// A round answers with its nanoseconds per call. getppid is not cached by any libc, and cheap in the kernel.
//@ build: gcc -O2 -fpie -pie call.c -o $OUT
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 200, CALLS = 2000 };

static __attribute__((noinline)) long own_getppid(void) {
    long result;
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=a"(result) : "i"(SYS_getppid) : "rcx", "r11", "memory");
    return result;
}

static long libc_getppid(void) {
    return getppid();
}

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time); // in the vDSO: no system call
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static double round_ns(long (*call)(void)) {
    for (int i = 0; i < WARM_UP; i++) call();
    double start = now_ns();
    for (int i = 0; i < CALLS; i++) call();
    return (now_ns() - start) / CALLS;
}

int main(int argc, char **argv) {
    char letter;
    if (argc > 1 && !strcmp(argv[1], "armed")
        && prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0UL, ~0UL, 0UL)) {
        perror("Syscall User Dispatch");
    }
    while (read(STDIN_FILENO, &letter, 1) == 1) {
        dprintf(STDOUT_FILENO, "%.2f\n", round_ns(letter == 'l' ? libc_getppid : own_getppid));
    }
    return 0;
}
