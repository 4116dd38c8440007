// System calls behind prefixes that the processor ignores, entered before and after the prefix.
//@ build: gcc -O2 site_prefixed.c -o $OUT
//@ build: gcc -O2 -static site_prefixed.c -o $OUT
#include "guest.h"

#define TYPED(name) ".type " #name ", @function\n"
__asm__(".text\n" TYPED(rex) TYPED(rep) TYPED(repne) TYPED(size) TYPED(segment) TYPED(many) TYPED(moved)
        "rex: .byte 0x48, 0x0f, 0x05\n ret\n"
        "rep: .byte 0xf3, 0x0f, 0x05\n ret\n"
        "repne: .byte 0xf2, 0x0f, 0x05\n ret\n"
        "size: .byte 0x66, 0x0f, 0x05\n ret\n"
        "segment: .byte 0x2e, 0x0f, 0x05\n ret\n"
        "many: .byte 0x66, 0x66, 0x2e, 0x48, 0x0f, 0x05\n ret\n"
        "moved: mov $39, %eax\n .byte 0x48, 0x0f, 0x05\n ret\n");
extern const char rex[], rep[], repne[], size[], segment[], many[], moved[];

/* rcx must be the byte after the instruction, prefix or not. */
static long enter(const char *where, long rax, const char *end) {
    long result, rcx;
    __asm__ volatile("call *%[where]" : "=a"(result), "=c"(rcx) : "a"(rax), [where] "r"(where) : "r11", "cc", "memory");
    CHECK_EQUAL(rcx, end);
    return result;
}

int main(void) {
    const char *three[] = {rex, rep, repne, size, segment};
    long pid = getpid(), parent = getppid();
    for (int round = 0; round < 1000; round++) {
        for (int at = 0; at < 5; at++) {
            CHECK_EQUAL(enter(three[at], SYS_getpid, three[at] + 3), pid);
            CHECK_EQUAL(enter(three[at] + 1, SYS_getppid, three[at] + 3), parent);
        }
        for (int at = 0; at < 5; at++) CHECK_EQUAL(enter(many + at, SYS_getppid, many + 6), parent);
        CHECK_EQUAL(enter(moved, 0, moved + 8), pid);
        CHECK_EQUAL(enter(moved + 5, SYS_getppid, moved + 8), parent);
        CHECK_EQUAL(enter(moved + 6, SYS_getppid, moved + 8), parent);
    }
    return pass();
}
