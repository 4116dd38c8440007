// Nothing is written to the program's stack by a system call, neither below nor above the stack pointer, and none of
// it need be there: the pointer stands 16 bytes above a guard page, at addresses that are odd, unmapped, not canonical.
//@ build: gcc -O2 stack_untouched.c -o $OUT
//@ build: gcc -O2 -static stack_untouched.c -o $OUT
#include "guest.h"
#include <sys/mman.h>

long call_on(uint64_t stack, long nr);
#ifdef BARE
#define APART "jmp 2f\n .skip 160, 0x90\n 2: "
#define APART_TOO "\n .skip 160, 0x90"
#else
#define APART
#define APART_TOO
#endif
ASM_FUNCTION(call_on, APART
                      "push %r12\n push %r13\n push %r14\n mov %rdi, %r14\n mov %rsp, %r12\n"
                      "mov %rsi, %rax\n mov %r14, %rsp\n syscall\n mov %rsp, %r13\n mov %r12, %rsp\n"
                      "cmp %r14, %r13\n je 1f\n ud2\n 1: pop %r14\n pop %r13\n pop %r12\n ret" APART_TOO);

int main(void) {
    char *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages, 4096, PROT_NONE) == 0);
    CHECK(mprotect(pages + 2 * 4096, 4096, PROT_NONE) == 0);
    unsigned char *stack = (unsigned char *)pages + 4096;
    for (int at = 0; at < 4096; at++) stack[at] = at * 31 + (at >> 8);
    const int offsets[] = {0, 1, 8, 16, 17, 128, 2048, 2051, 4088, 4095, 4096};
    for (int round = 0; round < 100; round++)
        for (size_t at = 0; at < sizeof offsets / sizeof *offsets; at++) {
            CHECK_EQUAL(call_on((uint64_t)stack + offsets[at], SYS_getpid), getpid());
            CHECK_EQUAL(call_on((uint64_t)stack + offsets[at], 9999), -ENOSYS);
        }
    for (int at = 0; at < 4096; at++) CHECK_EQUAL(stack[at], (unsigned char)(at * 31 + (at >> 8)));
    const uint64_t wild[] = {0, 1, 8, 4095, (uint64_t)pages + 100, 0x7fffffffeff1, 0xdeadbeefcafe0123, -1UL, -8UL};
    for (int round = 0; round < 100; round++)
        for (size_t at = 0; at < sizeof wild / sizeof *wild; at++)
            CHECK_EQUAL(call_on(wild[at], SYS_getpid), getpid());
    return pass();
}
