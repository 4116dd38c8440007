// The bytes of a system call that are none: inside an immediate, a displacement, a table between functions. They are
// executed or summed, and must be what the file says, after a hundred real calls beside them.
//@ build: gcc -O2 data_in_text.c -o $OUT
//@ build: gcc -O2 -static data_in_text.c -o $OUT
#include "guest.h"

__asm__(".text\n"
        "immediate: mov $0x050f, %eax\n ret\n"
        "wide: movabs $0x050f050f050f050f, %rax\n ret\n"
        "compare: xor %eax, %eax\n cmp $0x050f, %edi\n sete %al\n ret\n"
        "displacement: mov 0x050f(%rdi), %eax\n ret\n"
        "real: mov $39, %eax\n syscall\n ret\n"
        ".balign 16\n table: .rept 64\n .byte 0x0f, 0x05, 0x0f, 0x34, 0xcd, 0x80, 0x06, 0xff\n .endr\n table_end:\n"
        "also_real: mov $39, %eax\n syscall\n ret\n");
long immediate(void), wide(void), compare(long), displacement(const void *), real(void), also_real(void);
extern const unsigned char table[], table_end[];

int main(void) {
    static const unsigned char bytes[] = {0x0f, 0x05, 0x0f, 0x34, 0xcd, 0x80, 0x06, 0xff};
    static unsigned char memory[0x50f + 4] = {[0x50f] = 42};
    for (int round = 0; round < 100; round++) {
        CHECK_EQUAL(real(), getpid());
        CHECK_EQUAL(also_real(), getpid());
        CHECK_EQUAL(immediate(), 0x050f);
        CHECK_EQUAL(wide(), 0x050f050f050f050f);
        CHECK_EQUAL(compare(0x050f), 1);
        CHECK_EQUAL(displacement(memory), 42);
        CHECK_EQUAL(table_end - table, 512);
        for (const unsigned char *at = table; at < table_end; at++) CHECK_EQUAL(*at, bytes[(at - table) % 8]);
    }
    return pass();
}
