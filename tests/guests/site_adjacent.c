// Two system call instructions side by side, entered at the first and at the second.
//@ build: gcc -O2 site_adjacent.c -o $OUT
//@ build: gcc -O2 -static site_adjacent.c -o $OUT
#include "guest.h"

// dup2 gives the number of the descriptor, 39, which is the number of getpid.
long both(long nr, long old, long new), second(long nr), three(long nr, long old, long new);
__asm__(".text\n"
        "both: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n syscall\n syscall\n ret\n"
        "second: mov %rdi, %rax\n jmp 1f\n syscall\n 1: syscall\n ret\n"
        // The same two after a mov, a third a little further on.
        "three: mov $33, %eax\n mov %rsi, %rdi\n mov %rdx, %rsi\n syscall\n syscall\n"
        "  mov %rax, %r8\n mov $-1, %eax\n syscall\n mov %r8, %rax\n ret\n");

int main(void) {
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(both(SYS_dup2, 1, 39), getpid());
        CHECK_EQUAL(both(SYS_close, -1, 0), -ENOSYS);
        CHECK_EQUAL(second(SYS_getpid), getpid());
        CHECK_EQUAL(three(0, 1, 39), getpid());
    }
    return pass();
}
