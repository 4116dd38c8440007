// A child of clone has the very stack pointer that was asked for, whatever that is, and every other register as its parent
// had it, flags and vectors included.
//@ build: gcc -O2 clone_registers.c -o $OUT
//@ build: gcc -O2 -static clone_registers.c -o $OUT
#include "guest.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* rbx rbp rdx rsi rdi r8 r9 r10 r12 r13 r14 r15, then rax rcx r11 rsp, then xmm0 and xmm15, as the child found them. */
uint64_t found[20] __attribute__((aligned(16)));
static const uint64_t marks[2] __attribute__((aligned(16))) = {0x0123456789abcdef, 0xfedcba9876543210};

/* clone(flags, stack, 0, 0, 0) with marks in all registers, DF set and CF clear; the child touches no stack. */
long clone_marked(uint64_t flags, uint64_t stack, const uint64_t *marks);
extern char clone_marked_back[];
__asm__(".text\n .type clone_marked, @function\n clone_marked: .cfi_startproc\n"
        " push %rbx\n .cfi_adjust_cfa_offset 8\n push %rbp\n .cfi_adjust_cfa_offset 8\n push %r12\n .cfi_adjust_cfa_offset 8\n"
        " push %r13\n .cfi_adjust_cfa_offset 8\n push %r14\n .cfi_adjust_cfa_offset 8\n push %r15\n .cfi_adjust_cfa_offset 8\n"
        " movdqa (%rdx), %xmm0\n movdqa (%rdx), %xmm15\n pshufd $0x4e, %xmm15, %xmm15\n"
        " mov $11, %ebx\n mov $12, %ebp\n xor %edx, %edx\n xor %r10d, %r10d\n xor %r8d, %r8d\n mov $19, %r9d\n"
        " mov $22, %r12d\n mov $23, %r13d\n mov $24, %r14d\n mov $25, %r15d\n"
        " std\n mov $56, %eax\n clc\n syscall\n clone_marked_back:\n"
        " jc 3f\n cmp $0, %rax\n je 1f\n"
        " cld\n pop %r15\n .cfi_adjust_cfa_offset -8\n pop %r14\n .cfi_adjust_cfa_offset -8\n pop %r13\n .cfi_adjust_cfa_offset -8\n"
        " pop %r12\n .cfi_adjust_cfa_offset -8\n pop %rbp\n .cfi_adjust_cfa_offset -8\n pop %rbx\n .cfi_adjust_cfa_offset -8\n ret\n"
        " 1: mov %rbx, found(%rip)\n mov %rbp, found+8(%rip)\n mov %rdx, found+16(%rip)\n mov %rsi, found+24(%rip)\n"
        " mov %rdi, found+32(%rip)\n mov %r8, found+40(%rip)\n mov %r9, found+48(%rip)\n mov %r10, found+56(%rip)\n"
        " mov %r12, found+64(%rip)\n mov %r13, found+72(%rip)\n mov %r14, found+80(%rip)\n mov %r15, found+88(%rip)\n"
        " mov %rax, found+96(%rip)\n mov %rcx, found+104(%rip)\n mov %r11, found+112(%rip)\n mov %rsp, found+120(%rip)\n"
        " movdqa %xmm0, found+128(%rip)\n movdqa %xmm15, found+144(%rip)\n"
        " mov $42, %edi\n 2: mov $60, %eax\n syscall\n hlt\n"
        " 3: mov $43, %edi\n jmp 2b\n .cfi_endproc\n .size clone_marked, . - clone_marked\n");

static void check(uint64_t flags, uint64_t stack) {
    memset(found, 0xff, sizeof found);
    long pid = clone_marked(flags, stack, marks);
    CHECK(pid > 0);
    int status;
    CHECK_EQUAL(waitpid((pid_t)pid, &status, __WALL), pid);
    CHECK_EQUAL(status, 42 << 8);
    const uint64_t want[] = {11, 12, 0, stack, flags, 0, 19, 0, 22, 23, 24, 25, 0, (uint64_t)clone_marked_back};
    for (size_t at = 0; at < sizeof want / sizeof *want; at++) CHECK_EQUAL(found[at], want[at]);
    CHECK_EQUAL(found[14] & 0xcd5, 0x400 | (found[14] & 0xd4)); // r11: DF set, CF and OF clear
    if (stack != 0) CHECK_EQUAL(found[15], stack);
    CHECK(found[16] == marks[0] && found[17] == marks[1] && found[18] == marks[1] && found[19] == marks[0]);
}

int main(void) {
    char *pages = mmap(0, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    const uint64_t page = (uint64_t)pages + 4096;
    const uint64_t stacks[] = {page + 4096, page, page + 1, page + 4095, page + 8, page + 4096 - 8, page - 1, 8, 1, page + 129};
    const uint64_t forms[] = {CLONE_VM | SIGCHLD, CLONE_VM | CLONE_VFORK | SIGCHLD, CLONE_VM | CLONE_FILES | CLONE_SIGHAND | SIGCHLD};
    for (int round = 0; round < 20; round++)
        for (size_t form = 0; form < sizeof forms / sizeof *forms; form++)
            for (size_t at = 0; at < sizeof stacks / sizeof *stacks; at++) check(forms[form], stacks[at]);
    return pass();
}
