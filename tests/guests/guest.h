/* What every C guest says: CHECK stops it with the place and the reason, pass() prints the closing `ok`. */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHECK(condition)                                                                            \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1);                                                                               \
        }                                                                                           \
    } while (0)

#define CHECK_EQUAL(left, right)                                                                    \
    do {                                                                                            \
        uint64_t left_ = (uint64_t)(left), right_ = (uint64_t)(right);                              \
        if (left_ != right_) {                                                                      \
            fprintf(stderr, "%s:%d: %s is %#lx, %s is %#lx\n", __FILE__, __LINE__, #left, left_,     \
                    #right, right_);                                                                \
            _exit(1);                                                                               \
        }                                                                                           \
    } while (0)

static inline int pass(void) {
    puts("ok");
    fflush(stdout);
    return 0;
}

/* A function in assembly as a compiler lays one out: a symbol, unwind data, dead bytes before and after. */
#define ASM_FUNCTION(name, body)                                                                       \
    __asm__(".text\n .balign 16, 0xcc\n .skip 16, 0xcc\n .globl " #name "\n .type " #name ", @function\n" \
            #name ":\n .cfi_startproc\n" body "\n .cfi_endproc\n .size " #name ", . - " #name "\n .skip 16, 0xcc\n")
