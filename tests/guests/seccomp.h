/* Seccomp filters, a line an instruction. */
#pragma once
#include "guest.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define LOAD_AT(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define LOAD(field) LOAD_AT(offsetof(struct seccomp_data, field))
#define LOAD_UPPER(field) LOAD_AT(offsetof(struct seccomp_data, field) + 4)
/* Skips `count` instructions unless the accumulator is `value`. */
#define IF_NOT(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)

static inline long install_filter(struct sock_filter *code, size_t len, unsigned flags) {
    struct sock_fprog program = {(unsigned short)len, code};
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    CHECK(result >= 0);
    return result;
}
