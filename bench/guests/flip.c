// Times the change from writable to executable and back, a round for each line on standard input, which says how many KiB
// and what they hold: `data`, that is random bytes without system calls, or `code`, with a call for every 4 KiB, that is
// written anew each time, as generated code is. A round answers with its nanoseconds per pair of mprotect calls.
//@ build: gcc -O2 flip.c -o $OUT
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAIRS = 20, KIB_MAX = 512 };

static const unsigned char CODE[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3}; // mov eax, SYS_getpid; syscall; ret

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fill(unsigned char *memory, size_t len) {
    unsigned state = 1;
    for (size_t at = 0; at < len; at++) {
        state = state * 1664525 + 1013904223;
        unsigned char byte = state >> 24;
        memory[at] = byte == 0x0f || byte == 0xcd ? 0 : byte;
    }
}

// Instructions of the usual length that do nothing.
static void fill_with_code(unsigned char *memory, size_t len) {
    static const unsigned char NOP[] = {0x0f, 0x1f, 0x40, 0x00};
    for (size_t at = 0; at < len; at += sizeof NOP) memcpy(memory + at, NOP, sizeof NOP);
}

static void write_code(unsigned char *memory, size_t len) {
    for (size_t at = 0; at < len; at += PAGE) memcpy(memory + at, CODE, sizeof CODE);
}

int main(void) {
    unsigned char *memory = mmap(0, KIB_MAX << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t kib;
    char kind[8];
    while (scanf("%zu %7s", &kib, kind) == 2 && kib <= KIB_MAX) {
        size_t len = kib << 10;
        int is_code = !strcmp(kind, "code");
        if (is_code) fill_with_code(memory, len); else fill(memory, len);
        double taken = 0;
        for (int pair = 0; pair < PAIRS; pair++) {
            if (is_code) write_code(memory, len);
            double start = now_ns();
            if (mprotect(memory, len, PROT_READ | PROT_EXEC) || mprotect(memory, len, PROT_READ | PROT_WRITE)) return 1;
            taken += now_ns() - start;
        }
        printf("%.2f\n", taken / PAIRS);
        fflush(stdout);
    }
    return 0;
}
