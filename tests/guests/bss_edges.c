// Memory past a segment's file bytes is zero, whether they end at, before or after the edge of a page.
//@ build: gcc -O2 -static -DDATA=4096 -DBSS=1 bss_edges.c -o $OUT
//@ build: gcc -O2 -static -DDATA=4095 -DBSS=1 bss_edges.c -o $OUT
//@ build: gcc -O2 -static -DDATA=4097 -DBSS=8191 bss_edges.c -o $OUT
//@ build: gcc -O2 -DDATA=1 -DBSS=1 bss_edges.c -o $OUT
//@ build: gcc -O2 -DDATA=4000 -DBSS=10000000 bss_edges.c -o $OUT
//@ build: gcc -O2 -no-pie -fno-pie -DDATA=8192 -DBSS=65536 bss_edges.c -o $OUT
//@ build: gcc -O2 -pie -fpie -Wl,-z,max-page-size=0x200000 -DDATA=5000 -DBSS=3000000 bss_edges.c -o $OUT
//@ build: gcc -O2 -static -Wl,-z,noseparate-code -DDATA=12288 -DBSS=4096 bss_edges.c -o $OUT
//@ build: gcc -O2 -static -Wl,-Ttext-segment=0x10000000 -DDATA=4096 -DBSS=4096 bss_edges.c -o $OUT
#include "guest.h"

extern char _end[];
static unsigned char data[DATA] = {[0] = 1, [DATA - 1] = 1};
static unsigned char bss[BSS];

int main(void) {
    CHECK(data[0] == 1 && data[DATA - 1] == 1);
    for (size_t at = 0; at < BSS; at++) CHECK_EQUAL(bss[at], 0);
    for (size_t at = 0; at < BSS; at++) bss[at] = at;
    for (size_t at = 0; at < BSS; at++) CHECK_EQUAL(bss[at], (unsigned char)at);
    /* The rest of the last page too is the program's, and zero. */
    for (const char *at = _end; (uint64_t)at % 4096 != 0; at++) CHECK_EQUAL(*(volatile const char *)at, 0);
    return pass();
}
