/* Marker calls: getpriority(106, number), which nobody else makes and which change nothing. */
#pragma once
#include "guest.h"
#include <sys/mman.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC, RWX = RW | PROT_EXEC };

/* mov $140, %eax; mov $106, %edi; syscall; ret */
static const unsigned char MARKER[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0x0f, 0x05, 0xc3};

/* Makes the call from where it was written to. */
static inline void run_marker(const void *at) { CHECK_EQUAL(((long (*)(void))at)(), -EINVAL); }

static inline void *map_anonymous(long len, int protection) {
    void *at = mmap(0, len, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

/* Prints what the summary must have counted, and the closing `ok`. */
static inline int pass_after(long markers) {
    printf("%ld marker calls\n", markers);
    return pass();
}
