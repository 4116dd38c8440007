/* One processor state, as registers.S loads it before a system call and stores it after; offsets are named for both. */
#pragma once
#define AT_FLAGS 128
#define AT_MXCSR 136
#define AT_MASKS 144
#define AT_X87 256
#define AT_VECTORS 768
#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>
struct registers {
    uint64_t gpr[16]; /* in the encoding's order: rax rcx rdx rbx rsp rbp rsi rdi r8-r15; rsp is not loaded */
    uint64_t flags;
    uint32_t mxcsr, unused;
    uint64_t masks[8];
    uint8_t gap[AT_X87 - AT_MASKS - 64];
    uint8_t x87[512];         /* fxsave64's layout */
    uint8_t vectors[32][64];  /* as wide as the processor has them */
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct registers, flags) == AT_FLAGS, "offset");
_Static_assert(offsetof(struct registers, mxcsr) == AT_MXCSR, "offset");
_Static_assert(offsetof(struct registers, masks) == AT_MASKS, "offset");
_Static_assert(offsetof(struct registers, x87) == AT_X87, "offset");
_Static_assert(offsetof(struct registers, vectors) == AT_VECTORS, "offset");

extern struct registers before, after;
extern uint64_t vector_bytes;  /* 16, 32 or 64 */
extern const void *site;       /* where load_and_call jumps: a system call, then a jump to `capture` */
void load_and_call(void);      /* loads `before`, runs the site, stores `after` */
#endif
