// A program that jumps into data in its text, ten thousand times: that is a call, and stays data.
//@ build: gcc -O2 -mno-red-zone data_executed.c -o $OUT
//@ build: gcc -O2 -mno-red-zone -static data_executed.c -o $OUT
#include "marker.h"

__asm__(".text\n .balign 16\n"
        "table: .rept 32\n .byte 0x06, 0x0f, 0x05, 0xc3, 0xff, 0x17, 0x0f, 0x05\n .endr\n table_end: .byte 0xc3\n"
        "inside: mov $0x90c3050f, %eax\n ret\n");
extern const unsigned char table[], table_end[];
long inside(void);

enum { TIMES = 10000 };

static uint64_t sum(void) {
    uint64_t sum = 0;
    for (const unsigned char *at = table; at < table_end; at++) sum = sum * 31 + *at;
    return sum;
}

static long call(const unsigned char *at) {
    long result;
    __asm__ volatile("call *%1" : "=a"(result) : "r"(at), "0"(140), "D"(106) : "rcx", "r11", "memory");
    return result;
}

int main(void) {
    uint64_t before = sum();
    for (int round = 0; round < TIMES; round++) {
        CHECK_EQUAL(call(table + 1 + round % 32 * 8), -EINVAL);
        CHECK_EQUAL(call((const unsigned char *)inside + 1), -EINVAL);
        CHECK_EQUAL((uint32_t)inside(), 0x90c3050f);
        CHECK(round % 100 != 0 || sum() == before);
    }
    CHECK_EQUAL(sum(), before);
    printf("%d calls from data, sum %#lx\n", 2 * TIMES, before);
    return pass();
}
