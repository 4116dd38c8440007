// Calls before main, in the order in which a program comes to life, and those that the vDSO makes itself.
//@ build: gcc -O2 early_calls.c -o $OUT
//@ build: gcc -O2 -static early_calls.c -o $OUT
//@ build: gcc -O2 -static-pie early_calls.c -o $OUT
//@ build: gcc -O2 -DBARE -nostdlib -static -fno-stack-protector early_calls.c -o $OUT
#ifdef BARE
/* The first instruction is a system call, of whatever number; what there is of a program follows. */
__asm__(".globl _start\n .type _start, @function\n _start: syscall\n"
        " mov $140, %eax\n mov $106, %edi\n syscall\n cmp $-22, %rax\n jne 1f\n"
        " mov $1, %eax\n mov $1, %edi\n lea text(%rip), %rsi\n mov $18, %edx\n syscall\n"
        " mov $231, %eax\n xor %edi, %edi\n syscall\n"
        " 1: ud2\n .size _start, . - _start\n"
        " .section .rodata\n text: .ascii \"1 marker calls\\nok\\n\"\n");
#else
#include "marker.h"
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>

static int early;

static inline void mark(void) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(140), "D"(106) : "rcx", "r11", "memory");
    early += result == -EINVAL;
}

static int seven(void) { return 7; }

static int (*resolve(void))(void) {
    long result; /* Nothing is relocated yet. */
    __asm__ volatile("syscall" : "=a"(result) : "a"(140), "D"(106) : "rcx", "r11", "memory");
    return result == -EINVAL ? seven : 0;
}
int chosen(void) __attribute__((ifunc("resolve")));

static void before_all(void) { mark(); }
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = before_all;
__attribute__((constructor(101))) static void second(void) { mark(); }
__attribute__((constructor)) static void third(void) { mark(); }
__attribute__((destructor)) static void last(void) { mark(); }

int main(void) {
    CHECK_EQUAL(early, 3);
    CHECK_EQUAL(chosen(), 7);
    struct timespec time;
    struct timeval day;
    unsigned cpu;
    for (int round = 0; round < 100; round++) {
        /* These the vDSO can't answer: it calls the kernel. */
        CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
        CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
        CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0 && gettimeofday(&day, 0) == 0);
        CHECK(getcpu(&cpu, 0) == 0);
        mark();
    }
    return pass_after(105);
}
#endif
