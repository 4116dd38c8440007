// A signal before each instruction of a call's way through the loader: the handler sees the program's own registers before
// the call or after it, the call is made once, and what it leaves is right. `stepper` sends the signals.
//@ build: gcc -O2 signal_stepped.c signal_stepped.S -o $OUT
//@ build: gcc -O2 -static signal_stepped.c signal_stepped.S -o $OUT
#include "signals.h"
#include "signal_stepped.h"

struct state loaded, stored;

#define SITES(each) each(stepped_mov) each(stepped_imm) each(stepped_copy) each(stepped_short) each(stepped_padded)
#define DECLARE(name) void name(void); extern const char name##_site[], name##_end[];
SITES(DECLARE)
#define LIST(name) {name, name##_site, name##_end, #name},
void mark_first(void), mark_second(void);
static const struct site { void (*run)(void); const char *call, *end, *name; } sites[] = {SITES(LIST)};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11 };
/* What of the flags is the program's: not RF and IF, and not TF, which is the stepper's. */
#define FLAGS 0x240cd5

static const struct site *running;
static uint64_t wanted, counted_before, counted_after;
static volatile sig_atomic_t signals_seen;
static volatile long stepped_all; /* set by the stepper once it has been everywhere in a call */

static void differ(const char *what, uint64_t want, uint64_t got, uint64_t pc) {
    fprintf(stderr, "%s, call %lu: %s is %#lx, not %#lx at %#lx, site %p\n", running->name, loaded.gpr[RAX], what, got, want,
            pc, (void *)running->call);
    _exit(1);
}

#define SAME(what, want, got)                                                       \
    do {                                                                            \
        if ((uint64_t)(want) != (uint64_t)(got)) differ(what, (uint64_t)(want), (uint64_t)(got), pc); \
    } while (0)

static void on_signal(int number, siginfo_t *info, void *context) {
    const greg_t *seen = ((ucontext_t *)context)->uc_mcontext.gregs;
    const struct _libc_fpstate *vectors = ((ucontext_t *)context)->uc_mcontext.fpregs;
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    uintptr_t pc = seen[REG_RIP], end = (uintptr_t)running->end;
    int is_in_first = pc - (uintptr_t)mark_first < 2, is_in_second = pc - (uintptr_t)mark_second < 2;
    CHECK_EQUAL(number, SIGUSR1);
    CHECK_EQUAL(info->si_signo, SIGUSR1);
    int is_in_site = pc >= (uintptr_t)running->run && pc <= end;
    if (!is_in_first && !is_in_second && !is_in_site) say_where(pc);
    CHECK(is_in_first || is_in_second || is_in_site);
    signals_seen++;
    int is_after = is_in_second || pc == end, is_at_call = pc == (uintptr_t)running->call;
    for (int at = 0; at < 16; at++)
        if (at != RAX && at != RCX && at != RSP && at != R11) SAME("register", loaded.gpr[at], seen[order[at]]);
    SAME("flags", loaded.flags & FLAGS, seen[REG_EFL] & FLAGS);
    for (int at = 0; at < 32; at++)
        SAME("xmm", loaded.xmm[at], ((const uint64_t *)vectors->_xmm)[at]);
    if (is_after) {
        SAME("result", wanted, seen[REG_RAX]);
        SAME("rcx", end, seen[REG_RCX]);
        SAME("r11", seen[REG_EFL] & FLAGS, seen[REG_R11] & FLAGS);
        counted_after++;
    } else {
        if (is_at_call) SAME("number", loaded.gpr[RBX], seen[REG_RAX]);
        counted_before++;
    }
}

/* One call with a signal somewhere. */
static void step(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uintptr_t pc = 0;
    for (int at = 0; at < 16; at++) loaded.gpr[at] = 0x1111111111111111u * (uint64_t)at;
    for (int at = 0; at < 32; at++) loaded.xmm[at] = 0x0123456789abcdefu * (uint64_t)(at + 1);
    loaded.gpr[RAX] = loaded.gpr[RBX] = nr;
    loaded.gpr[RCX] = (uint64_t)&stepped_all;
    loaded.gpr[RDI] = a, loaded.gpr[RSI] = b, loaded.gpr[RDX] = c, loaded.gpr[R10] = d;
    loaded.flags = 0x202 | (signals_seen % 2 ? 0x8d5 : 0);
    sig_atomic_t seen = signals_seen;
    running->run();
    CHECK_EQUAL(signals_seen, seen + 1);
    for (int at = 0; at < 16; at++)
        if (at != RAX && at != RCX && at != RSP && at != R11) SAME("register then", loaded.gpr[at], stored.gpr[at]);
    SAME("result then", wanted, stored.gpr[RAX]);
    SAME("rcx then", running->end, stored.gpr[RCX]);
    SAME("flags then", loaded.flags & FLAGS, stored.flags & FLAGS);
    for (int at = 0; at < 32; at++) SAME("xmm then", loaded.xmm[at], stored.xmm[at]);
}

int main(void) {
    static char buffer[4096];
    char name[] = "/proc/self/exe", root[] = "/";
    sigset_t none = {0};
    int null_file = open("/dev/null", O_WRONLY);
    ssize_t own_len = readlink(name, buffer, sizeof buffer);
    CHECK(null_file >= 0 && own_len > 0);
    struct sigaction action = {0};
    const struct { uint64_t nr, a, b, c, d, result; } kinds[] = {
        {SYS_getppid, 0, 0, 0, 0, getppid()},
        {SYS_write, null_file, (uint64_t)buffer, 100, 0, 100},
        {9999, 0, 0, 0, 0, -ENOSYS},
        {SYS_readlink, (uint64_t)name, (uint64_t)buffer, sizeof buffer, 0, own_len},
        {SYS_readlink, (uint64_t)root, (uint64_t)buffer, sizeof buffer, 0, -EINVAL},
        {SYS_rt_sigprocmask, SIG_SETMASK, (uint64_t)&none, 0, 8, 0},
        {SYS_rt_sigaction, SIGUSR2, (uint64_t)&action, 0, 8, 0},
    };
    handle(SIGUSR1, on_signal, 0);
    for (size_t at = 0; at < sizeof sites / sizeof *sites; at++)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
            running = &sites[at];
            if (at > 0 && kinds[kind].nr != SYS_getppid) continue;
            wanted = kinds[kind].result, counted_before = counted_after = 0;
            do step(kinds[kind].nr, kinds[kind].a, kinds[kind].b, kinds[kind].c, kinds[kind].d);
            while (!stepped_all);
            stepped_all = 0;
            CHECK(counted_before > 0 && counted_after > 0);
        }
    return pass();
}
