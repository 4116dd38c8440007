// The state at a program's first instruction: registers, flags, stack, vector, descriptors, signals, aux vector.
// What address randomisation varies is printed as a distance or a verdict, so that two runs compare as text.
//@ build: gcc -O2 -ffreestanding -fno-tree-loop-distribute-patterns -nostdlib -static -fno-pie -no-pie -fno-stack-protector -fno-jump-tables state.c -o $OUT
//@ build: gcc -O2 -ffreestanding -fno-tree-loop-distribute-patterns -nostdlib -static-pie -fpie -fno-stack-protector -fno-jump-tables state.c -o $OUT
#include <elf.h>
#include <stdint.h>
#include <sys/syscall.h>

struct entry_state {
    uint64_t gpr[14]; // rax rbx rcx rdx rsi rdi rbp r8-r13 r14
    uint64_t r15, flags, rsp;
    uint32_t mxcsr, unused;
    uint8_t fpu[32];
    uint8_t xmm[256];
};
__attribute__((visibility("hidden"))) struct entry_state state;
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
void _start(void) __attribute__((visibility("hidden")));

__asm__(".globl _start\n_start:\n"
        "mov %rax, state(%rip)\n mov %rbx, state+8(%rip)\n mov %rcx, state+16(%rip)\n mov %rdx, state+24(%rip)\n"
        "mov %rsi, state+32(%rip)\n mov %rdi, state+40(%rip)\n mov %rbp, state+48(%rip)\n mov %r8, state+56(%rip)\n"
        "mov %r9, state+64(%rip)\n mov %r10, state+72(%rip)\n mov %r11, state+80(%rip)\n mov %r12, state+88(%rip)\n"
        "mov %r13, state+96(%rip)\n mov %r14, state+104(%rip)\n mov %r15, state+112(%rip)\n"
        "mov %rsp, state+128(%rip)\n pushfq\n pop state+120(%rip)\n"
        "stmxcsr state+136(%rip)\n fnstenv state+144(%rip)\n"
        "movups %xmm0, state+176(%rip)\n movups %xmm1, state+192(%rip)\n movups %xmm2, state+208(%rip)\n"
        "movups %xmm3, state+224(%rip)\n movups %xmm4, state+240(%rip)\n movups %xmm5, state+256(%rip)\n"
        "movups %xmm6, state+272(%rip)\n movups %xmm7, state+288(%rip)\n movups %xmm8, state+304(%rip)\n"
        "movups %xmm9, state+320(%rip)\n movups %xmm10, state+336(%rip)\n movups %xmm11, state+352(%rip)\n"
        "movups %xmm12, state+368(%rip)\n movups %xmm13, state+384(%rip)\n movups %xmm14, state+400(%rip)\n"
        "movups %xmm15, state+416(%rip)\n"
        "mov %rsp, %rdi\n and $-16, %rsp\n call report\n ud2\n");

static long call(long nr, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

static void text(const char *string) {
    long length = 0;
    while (string[length]) length++;
    call(SYS_write, 1, (long)string, length, 0);
}

static void line(const char *name, uint64_t value) {
    char digits[19] = "0x0000000000000000";
    for (int at = 17; at >= 2; at--, value >>= 4) digits[at] = "0123456789abcdef"[value & 15];
    text(name);
    text(" ");
    call(SYS_write, 1, (long)digits, 18, 0);
    text("\n");
}

/* mincore, unlike a load, answers for any address. */
static uint64_t is_mapped(uint64_t address) {
    unsigned char resident;
    return call(SYS_mincore, address & -4096UL, 1, (long)&resident, 0) == 0;
}

static void report_aux(const Elf64_auxv_t *aux) {
    for (; aux->a_type != AT_NULL; aux++) {
        uint64_t kind = aux->a_type, value = aux->a_un.a_val;
        line("aux", kind);
        if (kind == AT_ENTRY)
            line(" past _start by", value - (uint64_t)&_start);
        else if (kind == AT_PHDR)
            line(" past the ELF header by", value - (uint64_t)__ehdr_start);
        else if (kind == AT_RANDOM || kind == AT_SYSINFO_EHDR)
            line(" points to memory", is_mapped(value));
        else if (kind == AT_EXECFN || kind == AT_PLATFORM)
            text((const char *)value), text("\n");
        else
            line(" is", value);
    }
}

static void report_signals(void) {
    struct { uint64_t handler, flags, restorer, mask; } action;
    for (int number = 1; number <= 64; number++)
        if (call(SYS_rt_sigaction, number, 0, (long)&action, 8) == 0 && action.handler != 0) {
            line("signal with a disposition", number);
            line(" is", action.handler);
        }
    uint64_t mask = ~0UL, pending = ~0UL, stack[3] = {1, 1, 1};
    call(SYS_rt_sigprocmask, 0, 0, (long)&mask, 8);
    call(SYS_rt_sigpending, (long)&pending, 8, 0, 0);
    call(SYS_sigaltstack, 0, (long)stack, 0, 0);
    line("blocked", mask);
    line("pending", pending);
    line("altstack at", stack[0]);
    line("altstack flags", (uint32_t)stack[1]);
    line("altstack size", stack[2]);
}

static void report_process(void) {
    for (int fd = 0; fd < 1024; fd++)
        if (call(SYS_fcntl, fd, 1 /* F_GETFD */, 0, 0) >= 0) line("open", fd);
    uint64_t fs = 1, gs = 1, robust = 1, length = 0, timer[4];
    call(SYS_arch_prctl, 0x1003, (long)&fs, 0, 0);
    call(SYS_arch_prctl, 0x1004, (long)&gs, 0, 0);
    call(SYS_get_robust_list, 0, (long)&robust, (long)&length, 0);
    line("fs", fs);
    line("gs", gs);
    line("robust list", robust);
    line("is the thread group's leader", call(SYS_getpid, 0, 0, 0, 0) == call(SYS_gettid, 0, 0, 0, 0));
    for (int which = 0; which < 3; which++) {
        call(SYS_getitimer, which, (long)timer, 0, 0);
        line("timer", timer[2] | timer[3]);
    }
    line("personality", call(SYS_personality, 0xffffffff, 0, 0, 0));
    line("child to wait for", call(SYS_wait4, -1, 0, 1, 0));
    line("dumpable", call(SYS_prctl, 3, 0, 0, 0));
    line("parent death signal", (call(SYS_prctl, 2, (long)timer, 0, 0), (uint32_t)timer[0]));
    line("no new privileges", call(SYS_prctl, 39, 0, 0, 0));
    line("seccomp", call(SYS_prctl, 21, 0, 0, 0));
    line("timer slack", call(SYS_prctl, 30, 0, 0, 0));
    char name[16] = "";
    call(SYS_prctl, 16, (long)name, 0, 0);
    text(name);
    text("\n");
}

__attribute__((used, visibility("hidden"))) void report(const uint64_t *stack) {
    static const char names[] = "rax\0rbx\0rcx\0rdx\0rsi\0rdi\0rbp\0r8 \0r9 \0r10\0r11\0r12\0r13\0r14";
    for (int at = 0; at < 14; at++) line(names + 4 * at, state.gpr[at]);
    line("r15", state.r15);
    line("flags", state.flags);
    line("rsp % 16", state.rsp % 16);
    line("mxcsr", state.mxcsr);
    for (int at = 0; at < 3; at++) line("x87", *(uint16_t *)(state.fpu + 4 * at));
    uint64_t vectors = 0;
    for (int at = 0; at < 256; at++) vectors |= state.xmm[at];
    line("vectors", vectors);
    uint64_t argc = stack[0];
    line("argc", argc);
    const uint64_t *word = stack + 1;
    for (uint64_t at = 0; at < argc; at++) text((const char *)*word++), text("\n");
    line("after argv", *word++);
    while (*word) text((const char *)*word++), text("\n");
    word++;
    report_aux((const Elf64_auxv_t *)word);
    report_signals();
    report_process();
    text("ok\n");
    call(SYS_exit_group, 0, 0, 0, 0);
}
