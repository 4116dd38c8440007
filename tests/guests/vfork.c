// A vfork child runs on its parent's stack, calls deeply over frames that the parent has left, makes many calls, then
// exits or execs; the parent goes on with its own registers and return address.
//@ build: gcc -O2 -Wno-deprecated-declarations vfork.c -o $OUT
//@ build: gcc -O2 -static -Wno-deprecated-declarations vfork.c -o $OUT
//@ build: musl-gcc -O2 -static vfork.c -o $OUT
#include "guest.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

/* Overwrites a few kilobytes of stack below the caller, with system calls at every depth. */
__attribute__((noinline)) static long dive(int depth) {
    volatile char noise[200];
    for (size_t at = 0; at < sizeof noise; at++) noise[at] = (char)(depth * 7 + at);
    long sum = syscall(SYS_getppid) > 0 ? noise[depth] : 0;
    syscall(SYS_close, -1);
    return depth == 0 ? sum : sum + dive(depth - 1);
}

static volatile long seen;

/* The call with no library between: no stack, shared memory, the parent waits. r12-r15 must survive the child. */
__attribute__((noinline)) static long raw_vfork_and_exit(int status) {
    long result;
    uint64_t spoiled;
    __asm__ volatile("mov $0x1212, %%r12\n mov $0x1313, %%r13\n mov $58, %%eax\n syscall\n"
                     "test %%rax, %%rax\n jnz 1f\n"
                     "mov $0x6666, %%r12\n mov $0x7777, %%r13\n"
                     "sub $4096, %%rsp\n mov $64, %%ecx\n 2: push %%rcx\n dec %%ecx\n jnz 2b\n"
                     "mov $39, %%eax\n syscall\n mov $60, %%eax\n mov %[status], %%edi\n syscall\n ud2\n"
                     "1: lea -0x1212(%%r12), %[spoiled]\n sub $0x1313, %%r13\n or %%r13, %[spoiled]\n"
                     : "=&a"(result), [spoiled] "=&r"(spoiled) : [status] "r"(status)
                     : "rcx", "rdi", "r11", "r12", "r13", "memory", "cc");
    CHECK_EQUAL(spoiled, 0);
    return result;
}

static void wait_for(pid_t pid, int want) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, want << 8);
}

int main(void) {
    volatile uint64_t before = 0xb4b4b4b4;
    for (int round = 0; round < 100; round++) {
        pid_t pid = vfork();
        if (pid == 0) {
            seen += dive(20) != 0;
            _exit(round);
        }
        CHECK_EQUAL(before, 0xb4b4b4b4);
        wait_for(pid, round);
        wait_for(raw_vfork_and_exit(round), round);
    }
    CHECK(seen > 0);
    char *const failing[] = {"/bin/sh", "-c", "exit 9", 0}, *const missing[] = {"/nonexistent", 0};
    for (int round = 0; round < 20; round++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(missing[0], missing, environ); // fails, and the child goes on
            execve(failing[0], failing, environ);
            _exit(1);
        }
        wait_for(pid, 9);
        CHECK(posix_spawn(&pid, failing[0], 0, 0, failing, environ) == 0);
        wait_for(pid, 9);
        CHECK_EQUAL(posix_spawn(&pid, missing[0], 0, 0, missing, environ), ENOENT);
    }
    return pass();
}
