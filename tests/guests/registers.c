// Every register holds a distinct value across thousands of system calls of several kinds: rax is the result, rcx the
// address after the instruction, r11 the flags, all else is unchanged: flags, vectors, masks, x87, mxcsr too.
//@ build: gcc -O2 registers.c registers.S -o $OUT
//@ build: gcc -O2 -static registers.c registers.S -o $OUT
#include "guest.h"
#include "registers.h"
#include <cpuid.h>
#include <fcntl.h>

struct registers before, after;
uint64_t vector_bytes = 16;
const void *site;

#define SITES(each)                                                                                       \
    each(site_bare) each(site_mov_imm) each(site_mov_imm_wide) each(site_mov_short) each(site_mov_three)  \
        each(site_lea_four) each(site_load) each(site_flags) each(site_padded)
#define DECLARE(name) extern const char name[], name##_end[];
SITES(DECLARE)
#define LIST(name) {name, name##_end, #name},
static const struct { const char *start, *end, *name; } sites[] = {SITES(LIST)};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R11 = 11 };
enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, DF = 0x400, OF = 0x800, AC = 0x40000, ID = 0x200000 };
static const uint64_t flag_sets[] = {
    0x202, 0x202 | CF | PF | AF | ZF | SF | OF, 0x202 | DF, 0x202 | AC, 0x202 | DF | AC | ID | CF | OF, 0x202 | ZF,
};

static uint64_t next_random(void) {
    static uint64_t word = 0x9e3779b97f4a7c15;
    word ^= word << 13, word ^= word >> 7, word ^= word << 17;
    return word;
}

/* SDM vol. 1, 13.2 and 15.2: what the processor has, and the kernel lets programs use. */
static uint64_t widest_vector(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 16;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 16;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX512F) || !(b & bit_AVX512BW)) return 32;
    return (low & 0xe6) == 0xe6 ? 64 : 32;
}

static int fd_null;
static char bytes[8];

struct kind { const char *name; uint64_t nr, args[3]; int arg_count; uint64_t result; };

static void fill(const struct kind *kind, uint64_t flags) {
    uint8_t *byte = (uint8_t *)&before;
    for (size_t at = 0; at < sizeof before; at++) byte[at] = next_random();
    before.gpr[RAX] = kind->nr;
    before.gpr[RBX] = kind->nr;
    if (kind->arg_count > 0) before.gpr[RDI] = kind->args[0];
    if (kind->arg_count > 1) before.gpr[RSI] = kind->args[1];
    if (kind->arg_count > 2) before.gpr[RDX] = kind->args[2];
    before.flags = flags;
    /* Rounding up, flush to zero, denormals are zero, all masked, one sticky flag. */
    before.mxcsr = 0xdfe1;
    /* fxsave64: control word with rounding down and double precision, all eight registers valid, top of stack 3. */
    memset(before.x87, 0, 32);
    before.x87[0] = 0x7f, before.x87[1] = 0x06, before.x87[3] = 3 << 3, before.x87[4] = 0xff;
    memcpy(before.x87 + 24, &before.mxcsr, 4);
    for (int at = 0; at < 8; at++) {
        uint8_t *number = before.x87 + 32 + 16 * at;
        number[7] |= 0x80, number[9] = 0x40; /* a normal number: an integer bit, an exponent in range */
        memset(number + 10, 0, 6);
    }
}

static int differ(const char *what, int number, uint64_t want, uint64_t got) {
    fprintf(stderr, "%s%d: wanted %#lx, got %#lx\n", what, number, want, got);
    return 1;
}

static int compare(const struct kind *kind, int at) {
    int bad = 0;
    uint64_t want[16];
    memcpy(want, before.gpr, sizeof want);
    uint64_t flags = before.flags;
    if (sites[at].start == site_flags) {
        /* or: CF and OF cleared, the rest by the result; AF is left undefined, and stays on what we run on. */
        flags &= ~(uint64_t)(CF | OF | PF | ZF | SF | AF);
        uint32_t value = (uint32_t)kind->nr;
        if (value == 0) flags |= ZF;
        if (value >> 31) flags |= SF;
        if (!(__builtin_popcount(value & 255) & 1)) flags |= PF;
        flags |= after.flags & AF;
    }
    want[RAX] = kind->result, want[RCX] = (uint64_t)sites[at].end, want[R11] = flags;
    for (int number = 0; number < 16; number++)
        if (want[number] != after.gpr[number]) bad |= differ("register ", number, want[number], after.gpr[number]);
    if (flags != after.flags) bad |= differ("flags ", 0, flags, after.flags);
    if (before.mxcsr != after.mxcsr) bad |= differ("mxcsr ", 0, before.mxcsr, after.mxcsr);
    if (memcmp(before.x87, after.x87, 5)) bad |= differ("x87 words ", 0, *(uint64_t *)before.x87, *(uint64_t *)after.x87);
    for (int number = 0; number < 8; number++)
        if (memcmp(before.x87 + 32 + 16 * number, after.x87 + 32 + 16 * number, 10)) bad |= differ("st", number, 0, 0);
    int vectors = vector_bytes == 64 ? 32 : 16;
    for (int number = 0; number < vectors; number++)
        if (memcmp(before.vectors[number], after.vectors[number], vector_bytes)) bad |= differ("vector ", number, 0, 0);
    for (int number = 0; number < 8 && vector_bytes == 64; number++)
        if (before.masks[number] != after.masks[number])
            bad |= differ("k", number, before.masks[number], after.masks[number]);
    return bad;
}

int main(void) {
    fd_null = open("/dev/null", O_WRONLY);
    CHECK(fd_null >= 0);
    vector_bytes = widest_vector();
    const struct kind kinds[] = {
        {"getpid", SYS_getpid, {0}, 0, getpid()},
        {"getpid, upper half set", 0xdeadbeef00000000 | SYS_getpid, {0}, 0, getpid()},
        {"getppid", SYS_getppid, {0}, 0, getppid()},
        {"no such number", 9999, {0}, 0, -ENOSYS},
        {"number -1", -1UL, {0}, 0, -ENOSYS},
        {"close(-1)", SYS_close, {-1UL}, 1, -EBADF},
        {"write of nothing", SYS_write, {fd_null, 0, 0}, 3, 0},
        {"write", SYS_write, {fd_null, (uint64_t)bytes, 8}, 3, 8},
        {"sched_yield", SYS_sched_yield, {0}, 0, 0},
    };
    int calls = 0;
    for (int round = 0; round < 12; round++)
        for (size_t at = 0; at < sizeof sites / sizeof *sites; at++)
            for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
                for (size_t set = 0; set < sizeof flag_sets / sizeof *flag_sets; set++) {
                    /* These two load the number themselves. */
                    int fixed = sites[at].start == site_mov_imm || sites[at].start == site_mov_imm_wide;
                    if (fixed && kinds[kind].nr != SYS_getpid) continue;
                    fill(&kinds[kind], flag_sets[set]);
                    site = sites[at].start;
                    load_and_call();
                    calls++;
                    if (compare(&kinds[kind], at)) {
                        fprintf(stderr, "after %s at %s, flags %#lx, call %d\n", kinds[kind].name, sites[at].name,
                                flag_sets[set], calls);
                        return 1;
                    }
                }
    printf("%d calls\n", calls);
    return pass();
}
