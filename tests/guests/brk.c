// The program break begins just past the program's own data, grows by gigabytes without a gap, and shrinks. Static
// position-independent programs are the exception: the kernel takes them for dynamic loaders and moves the break away.
//@ build: gcc -O2 -pie -fpie brk.c -o $OUT
//@ build: gcc -O2 -no-pie -fno-pie brk.c -o $OUT
//@ build: gcc -O2 -static brk.c -o $OUT
//@ build: gcc -O2 -static-pie -fpie -DAWAY_FROM_DATA brk.c -o $OUT
//@ build: musl-gcc -O2 -static brk.c -o $OUT
#include "guest.h"

extern char _end[];

static char *raw_brk(char *to) { return (char *)syscall(SYS_brk, to); }

int main(void) {
    char *start = raw_brk(0);
#ifndef AWAY_FROM_DATA
    CHECK(start >= _end);
    /* arch_randomize_brk: within 1 GB. */
    CHECK(start - _end <= (1L << 30) + (1L << 20));
#endif
    // The library may have moved the break already: from here on it is ours.
    for (long megabytes = 1; megabytes <= 2048; megabytes *= 2) {
        char *want = start + (megabytes << 20);
        CHECK_EQUAL(raw_brk(want), want);
        want[-1] = 1;
        CHECK_EQUAL(raw_brk(0), want);
    }
    start[5000] = 1;
    CHECK_EQUAL(raw_brk(start + 4096), start + 4096);
    CHECK_EQUAL(raw_brk(start + 65536), start + 65536);
    CHECK_EQUAL(start[8192 - ((uint64_t)start & 4095)], 0);
    CHECK_EQUAL(raw_brk(start), start);
    // Below its beginning it can't be moved: the answer is where it stands.
    CHECK_EQUAL(raw_brk((char *)4096), start);
    return pass();
}
