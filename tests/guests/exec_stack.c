// A program that asks for an executable stack gets one, also where the stack has yet to grow: nested functions of GCC.
//@ build: gcc -O0 -z execstack exec_stack.c -o $OUT
//@ build: gcc -O0 -z execstack -static exec_stack.c -o $OUT
//@ build: gcc -O0 -z execstack -no-pie -fno-pie exec_stack.c -o $OUT
#include "guest.h"

static long apply(long (*function)(long), long value) { return function(value); }

static long at_depth(int depth) {
    volatile char room[1000];
    long base = depth;
    long add(long value) { return base + value; }
    room[depth % 1000] = 1;
    long here = apply(add, 1);
    return depth == 0 ? here : here + at_depth(depth - 1);
}

int main(void) {
    CHECK_EQUAL(at_depth(1000), 1000L * 1001 / 2 + 1001);
    // getpid on the stack itself: mov $39, %eax; syscall; ret
    unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    for (int round = 0; round < 100; round++) CHECK_EQUAL(((long (*)(void))code)(), getpid());
    return pass();
}
