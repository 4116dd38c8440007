/* Registers before and after a stepped call. */
#pragma once
#define AT_FLAGS 128
#define AT_XMM 144
#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>
struct state {
    uint64_t gpr[16]; /* in the encoding's order: rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
    uint64_t flags, unused;
    uint64_t xmm[32];
};
_Static_assert(offsetof(struct state, flags) == AT_FLAGS && offsetof(struct state, xmm) == AT_XMM, "offsets");
#endif
