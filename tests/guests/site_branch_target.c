// A system call instruction that is itself the target of branches: conditional, backward, indirect.
//@ build: gcc -O2 site_branch_target.c -o $OUT
//@ build: gcc -O2 -static site_branch_target.c -o $OUT
#include "guest.h"

long by_branch(long nr, long skip_mov), by_loop(long count), by_pointer(long nr);
__asm__(".text\n"
        // Entered at the mov or, when rsi is not 0, right at the call.
        "by_branch: mov %rdi, %rax\n test %rsi, %rsi\n jnz 1f\n mov $39, %eax\n 1: syscall\n ret\n"
        // The call is the head of the loop; r12 counts.
        "by_loop: push %r12\n mov %rdi, %r12\n xor %r8d, %r8d\n mov $39, %eax\n"
        "2: syscall\n add %rax, %r8\n mov $39, %eax\n dec %r12\n jnz 2b\n mov %r8, %rax\n pop %r12\n ret\n"
        // Three instructions, the shortest loop on a call: sched_yield gives 0, which is or'ed back to its number.
        ".globl tight\n tight: mov %rdi, %rdx\n mov $24, %eax\n 3: syscall\n or $24, %al\n dec %rdx\n jnz 3b\n ret\n"
        "by_pointer: mov %rdi, %rax\n lea 4f(%rip), %rcx\n jmp *%rcx\n mov $12345, %eax\n 4: syscall\n ret\n");
long tight(long count);

int main(void) {
    long pid = getpid();
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(by_branch(SYS_getppid, 0), pid);
        CHECK_EQUAL(by_branch(SYS_getppid, 1), getppid());
        CHECK_EQUAL(by_branch(SYS_getpid, 1), pid);
        CHECK_EQUAL(by_pointer(SYS_getppid), getppid());
    }
    CHECK_EQUAL(by_loop(1000), 1000 * pid);
    CHECK_EQUAL(tight(1000), 24);
    return pass();
}
