// A raw clone with a stack of its own: the child starts at exactly the stack pointer asked for, however odd, with every
// other register as the parent's, rax 0, rcx the next instruction; it ends without ever having used a stack.
//@ build: gcc -O2 clone_raw.c -o $OUT
//@ build: gcc -O2 -static clone_raw.c -o $OUT
#include "guest.h"
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>

// What the child found in its registers: rax rcx rdx rbx rsp rbp rsi rdi r8-r15.
volatile uint64_t child_saw[16];
volatile int child_tid;
long clone_and_exit(uint64_t flags, uint64_t stack, volatile int *parent_tid, volatile int *child_tid);
extern const char cloned[];
ASM_FUNCTION(clone_and_exit, "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rcx, %r10\n mov $56, %eax\n"
        "mov $0xb0b0b0b0b0b, %rbx\n mov $0xb1b1b1b1b1b, %rbp\n mov $0x808080808, %r8\n mov $0x909090909, %r9\n"
        "mov $0xc0c0c0c0c, %r12\n mov $0xd0d0d0d0d, %r13\n mov $0xe0e0e0e0e, %r14\n mov $0xf0f0f0f0f, %r15\n"
        "syscall\n .globl cloned\n cloned: test %rax, %rax\n jz 1f\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        "1: mov %rax, child_saw(%rip)\n mov %rcx, child_saw+8(%rip)\n mov %rdx, child_saw+16(%rip)\n"
        "mov %rbx, child_saw+24(%rip)\n mov %rsp, child_saw+32(%rip)\n mov %rbp, child_saw+40(%rip)\n"
        "mov %rsi, child_saw+48(%rip)\n mov %rdi, child_saw+56(%rip)\n mov %r8, child_saw+64(%rip)\n"
        "mov %r9, child_saw+72(%rip)\n mov %r10, child_saw+80(%rip)\n mov %r11, child_saw+88(%rip)\n"
        "mov %r12, child_saw+96(%rip)\n mov %r13, child_saw+104(%rip)\n mov %r14, child_saw+112(%rip)\n"
        "mov %r15, child_saw+120(%rip)\n mov $60, %eax\n xor %edi, %edi\n syscall\n ud2");

static void check_child(uint64_t flags, uint64_t stack) {
    child_tid = 1;
    for (int at = 0; at < 16; at++) child_saw[at] = 1;
    int parent_tid = 0;
    long tid = clone_and_exit(flags, stack, &parent_tid, &child_tid);
    CHECK(tid > 0);
    /* CLONE_CHILD_CLEARTID: the kernel clears the word and wakes us when the child is gone. */
    while (child_tid != 0) syscall(SYS_futex, &child_tid, FUTEX_WAIT, 1, 0, 0, 0);
    CHECK_EQUAL(parent_tid, tid);
    const uint64_t want[16] = {0, (uint64_t)cloned, (uint64_t)&parent_tid, 0xb0b0b0b0b0b, stack, 0xb1b1b1b1b1b, stack,
                               flags, 0x808080808, 0x909090909, (uint64_t)&child_tid, child_saw[11], 0xc0c0c0c0c,
                               0xd0d0d0d0d, 0xe0e0e0e0e, 0xf0f0f0f0f};
    for (int at = 0; at < 16; at++) CHECK_EQUAL(child_saw[at], want[at]);
    CHECK(child_saw[11] & 0x200);
}

int main(void) {
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                           CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    char *stack = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    CHECK(mprotect(stack, 4096, PROT_NONE) == 0);
    const uint64_t tops[] = {4096, 4095, 4088, 4081, 2051, 16, 1, 0};
    for (int round = 0; round < 20; round++)
        for (int at = 0; at < 8; at++) check_child(flags, (uint64_t)stack + 4096 + tops[at]);
    for (int at = 0; at < 4096; at++) CHECK_EQUAL(stack[4096 + at], 0);
    // Sharing signal handlers without sharing memory is refused; nothing may be left behind by it.
    int ignored = 0;
    for (int round = 0; round < 1000; round++)
        CHECK_EQUAL(clone_and_exit(CLONE_SIGHAND, (uint64_t)stack + 8192, &ignored, &ignored), -EINVAL);
    check_child(flags, (uint64_t)stack + 8192);
    return pass();
}
