// The 128 bytes below the stack pointer belong to the program, across any system call.
//@ build: gcc -O2 red_zone.c -o $OUT
//@ build: gcc -O2 -static red_zone.c -o $OUT
#include "guest.h"

/* Fills the red zone with its own addresses, calls, counts the words that differ. */
static long spoiled(long nr, long argument) {
    long bad, result = nr;
    __asm__ volatile("mov $-128, %%rcx\n"
                     "1: lea (%%rsp,%%rcx), %%r8\n"
                     "mov %%r8, (%%rsp,%%rcx)\n"
                     "add $8, %%rcx\n"
                     "jnz 1b\n"
                     "syscall\n"
                     "xor %%edx, %%edx\n"
                     "mov $-128, %%rcx\n"
                     "2: lea (%%rsp,%%rcx), %%r8\n"
                     "cmp %%r8, (%%rsp,%%rcx)\n"
                     "je 3f\n"
                     "inc %%rdx\n"
                     "3: add $8, %%rcx\n"
                     "jnz 2b\n"
                     : "+a"(result), "=&d"(bad)
                     : "D"(argument)
                     : "rcx", "r8", "r11", "cc", "memory");
    return bad;
}

int main(void) {
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(spoiled(SYS_getpid, 0), 0);
        CHECK_EQUAL(spoiled(9999, 0), 0);
        CHECK_EQUAL(spoiled(SYS_close, -1), 0);
    }
    return pass();
}
