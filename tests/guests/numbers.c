// The kernel looks at the low half of rax only; a number that it does not know gives ENOSYS, whatever its size.
//@ build: gcc -O2 numbers.c -o $OUT
//@ build: gcc -O2 -static numbers.c -o $OUT
#include "guest.h"

static long raw(uint64_t nr) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(0L), "S"(0L), "d"(0L) : "rcx", "r11", "memory");
    return result;
}

int main(void) {
    long pid = getpid();
    const uint64_t upper[] = {0x12345678, 1, 0xffffffff, 0x80000000, 0x7fff, 0xdeadbeef};
    for (size_t at = 0; at < sizeof upper / sizeof *upper; at++) CHECK_EQUAL(raw(upper[at] << 32 | SYS_getpid), pid);
    const uint64_t unknown[] = {9999, 0xffffffff, -1UL, 0x40000027, 0x40000200, 0x10027, 0x20000027, 0x80000027, 65535,
                                65536, 0x7fffffff, 0xffff0027, 600, 511, 512, 0x100000000 + 9999, 0x10000 + 231};
    for (size_t at = 0; at < sizeof unknown / sizeof *unknown; at++) CHECK_EQUAL(raw(unknown[at]), -ENOSYS);
    uint64_t word = 88172645463325252;
    for (int round = 0; round < 5000; round++) {
        word ^= word << 13, word ^= word >> 7, word ^= word << 17;
        CHECK_EQUAL(raw(word | 0x400), -ENOSYS);
        CHECK_EQUAL(raw(word << 32 | SYS_getpid), pid);
    }
    return pass();
}
