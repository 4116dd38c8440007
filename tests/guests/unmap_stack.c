// A thread unmaps the stack it stands on and exits, in assembly, over and over.
//@ build: gcc -O2 -pthread unmap_stack.c -o $OUT
//@ build: gcc -O2 -pthread -static unmap_stack.c -o $OUT
#include "guest.h"
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>

volatile int tid_word;

// The child finds its stack's address and size in rdx and r8, and needs nothing else.
long start(uint64_t flags, char *stack_top, char *stack, volatile int *tid, uint64_t size);
ASM_FUNCTION(start, "mov %rcx, %r10\n mov $56, %eax\n syscall\n test %rax, %rax\n jz 1f\n ret\n"
                    "1: mov $39, %eax\n syscall\n mov %rdx, %rdi\n mov %r8, %rsi\n mov $11, %eax\n syscall\n"
                    "mov $60, %eax\n xor %edi, %edi\n syscall\n ud2");

int main(void) {
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                           CLONE_CHILD_CLEARTID;
    for (int round = 0; round < 2000; round++) {
        char *stack = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
        tid_word = 1;
        CHECK(start(flags, stack + 4096, stack, &tid_word, 4096) > 0);
        while (tid_word != 0) syscall(SYS_futex, &tid_word, FUTEX_WAIT, 1, 0, 0, 0);
        unsigned char resident;
        CHECK(mincore(stack, 4096, &resident) == -1 && errno == ENOMEM);
    }
    return pass();
}
