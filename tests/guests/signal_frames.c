// What a handler finds in its frame, printed: every register of calls that a signal interrupts, fails or follows, at sites of
// every shape, with the vector and x87 state, the mask and the alternate stack.
//@ build: gcc -O2 -pthread signal_frames.c registers.S -o $OUT
//@ build: gcc -O2 -static -pthread signal_frames.c registers.S -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include "registers.h"
#include <cpuid.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

struct registers before, after;
uint64_t vector_bytes = 16;
const void *site;

#define SITES(each)                                                                                      \
    each(site_bare) each(site_mov_short) each(site_mov_three) each(site_lea_four) each(site_load)         \
        each(site_flags) each(site_padded)
#define DECLARE(name) extern const char name[], name##_end[];
SITES(DECLARE)
#define LIST(name) {name, name##_end, #name},
static const struct { const char *start, *end, *name; } sites[] = {SITES(LIST)};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11 };
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static int ends[2], pair[2], word, current;
static pid_t caller;
static atomic_int phase, handled;

static uint64_t hash(const void *bytes, size_t len) {
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t at = 0; at < len; at++) sum = (sum ^ ((const uint8_t *)bytes)[at]) * 0x100000001b3;
    return sum;
}

/* SDM vol. 1, 13.4.3: where the upper halves of the ymm registers stand in the state. */
static size_t offset_of_component(unsigned component) {
    unsigned size, offset, c, d;
    return __get_cpuid_count(0xd, component, &size, &offset, &c, &d) ? offset : 0;
}

extern const char __executable_start[], _end[];

/* Addresses and ids differ from run to run. */
static void print_register(const char *name, uint64_t value) {
    if (value >= (uint64_t)__executable_start && value < (uint64_t)_end)
        printf(" %s=start+%lx", name, value - (uint64_t)__executable_start);
    else if (value == (uint64_t)getpid())
        printf(" %s=id", name);
    else
        printf(" %s=%lx", name, value);
}

static void on_signal(int number, siginfo_t *info, void *argument) {
    ucontext_t *context = argument;
    const greg_t *seen = context->uc_mcontext.gregs;
    const uint8_t *state = (const uint8_t *)context->uc_mcontext.fpregs;
    uint64_t mask;
    memcpy(&mask, &context->uc_sigmask, 8);
    uintptr_t pc = seen[REG_RIP];
    /* A call to be made again may be shown at the instruction before it, if that leads to the same call. */
    int is_site = pc >= (uintptr_t)sites[current].start && pc < (uintptr_t)sites[current].end;
    printf("  signal %d, code %d at %s:", number, info->si_code,
           is_site ? "the call" : pc == (uintptr_t)sites[current].end ? "its end" : "another place");
    for (int at = 0; at < 16; at++) {
        static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
        if (at != RSP && !(is_site && (at == RCX || at == R11))) print_register(names[at], seen[order[at]]);
    }
    if (is_site) printf(" rcx and r11 %s", seen[REG_RCX] == (greg_t)sites[current].end && seen[REG_R11] == seen[REG_EFL] ? "of the call" : "not of the call");
    printf(" flags=%llx mask=%lx uc_flags=%lx link=%p\n   ", seen[REG_EFL], mask, context->uc_flags, (void *)context->uc_link);
    CHECK_EQUAL(seen[REG_RSP], before.gpr[RSP]);
    uint32_t mxcsr;
    memcpy(&mxcsr, state + 24, 4);
    printf(" x87=%lx mxcsr=%x st=%lx xmm=%lx", hash(state, 5), mxcsr, hash(state + 32, 128), hash(state + 160, 256));
    if (vector_bytes > 16) printf(" ymm=%lx", hash(state + offset_of_component(2), 256));
    if (vector_bytes > 32)
        printf(" zmm=%lx %lx k=%lx", hash(state + offset_of_component(6), 512), hash(state + offset_of_component(7), 1024),
               hash(state + offset_of_component(5), 64));
    printf(" stack %s of %zu\n", context->uc_stack.ss_flags & SS_DISABLE ? "none" : "there", context->uc_stack.ss_size);
    fflush(stdout);
    atomic_fetch_add(&handled, 1);
}

static uint64_t widest_vector(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX)) return 16;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 16;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX512F) || !(b & bit_AVX512BW)) return 32;
    return (low & 0xe6) == 0xe6 ? 64 : 32;
}

static void fill(uint64_t nr) {
    static uint64_t sum = 0x9e3779b97f4a7c15;
    uint8_t *byte = (uint8_t *)&before;
    uint64_t rsp = before.gpr[RSP];
    for (size_t at = 0; at < sizeof before; at++) sum ^= sum << 13, sum ^= sum >> 7, sum ^= sum << 17, byte[at] = (uint8_t)sum;
    before.gpr[RSP] = rsp;
    before.gpr[RAX] = before.gpr[RBX] = nr;
    before.flags = 0x202 | (sum & 0x8d5) | (sum & 0x400);
    before.mxcsr = 0xdfe1;
    memset(before.x87, 0, 32);
    before.x87[0] = 0x7f, before.x87[1] = 0x06, before.x87[3] = 3 << 3, before.x87[4] = 0xff;
    memcpy(before.x87 + 24, &before.mxcsr, 4);
    for (int at = 0; at < 8; at++) {
        uint8_t *number = before.x87 + 32 + 16 * at;
        number[7] |= 0x80, number[9] = 0x40;
        memset(number + 10, 0, 6);
    }
}

static void release(void) {
    CHECK(write(ends[1], "x", 1) == 1);
}

/* A call with its arguments; those that block get a signal once they are asleep, and `release` then ends them. */
static const struct kind { const char *name; int nr, number, is_blocking; void (*release)(void); } kinds[] = {
    {"read", SYS_read, SIGUSR1, 1, release},
    {"read, made again", SYS_read, SIGUSR2, 1, release},
    {"pause", SYS_pause, SIGUSR1, 1, 0},
    {"poll", SYS_poll, SIGUSR1, 1, 0},
    {"nanosleep", SYS_nanosleep, SIGUSR2, 1, 0},
    {"futex", SYS_futex, SIGUSR1, 1, 0},
    {"accept", SYS_accept, SIGUSR1, 1, 0},
    {"rt_sigsuspend", SYS_rt_sigsuspend, SIGUSR1, 1, 0},
    {"tgkill", SYS_tgkill, SIGUSR1, 0, 0},
    {"kill", SYS_kill, SIGUSR1, 0, 0},
    {"write to nobody", SYS_write, SIGPIPE, 0, 0},
    {"rt_sigprocmask", SYS_rt_sigprocmask, SIGUSR1, 0, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds, SITE_COUNT = sizeof sites / sizeof *sites };

static void set_arguments(const struct kind *kind, int listener, int broken) {
    static struct pollfd wait;
    static struct timespec hour = {3600, 0};
    static sigset_t none;
    static char byte;
    uint64_t *gpr = before.gpr;
    wait = (struct pollfd){ends[0], POLLIN, 0};
    switch (kind->nr) {
    case SYS_read: gpr[RDI] = ends[0], gpr[RSI] = (uint64_t)&byte, gpr[RDX] = 1; break;
    case SYS_poll: gpr[RDI] = (uint64_t)&wait, gpr[RSI] = 1, gpr[RDX] = -1UL; break;
    case SYS_nanosleep: gpr[RDI] = (uint64_t)&hour, gpr[RSI] = 0; break;
    case SYS_futex: gpr[RDI] = (uint64_t)&word, gpr[RSI] = 0, gpr[RDX] = 0, gpr[R10] = 0; break;
    case SYS_accept: gpr[RDI] = listener, gpr[RSI] = 0, gpr[RDX] = 0; break;
    case SYS_rt_sigsuspend: gpr[RDI] = (uint64_t)&none, gpr[RSI] = 8; break;
    case SYS_tgkill: gpr[RDI] = getpid(), gpr[RSI] = caller, gpr[RDX] = kind->number; break;
    case SYS_kill: gpr[RDI] = getpid(), gpr[RSI] = kind->number; break;
    case SYS_write: gpr[RDI] = broken, gpr[RSI] = (uint64_t)&byte, gpr[RDX] = 1; break;
    case SYS_rt_sigprocmask: gpr[RDI] = SIG_SETMASK, gpr[RSI] = (uint64_t)&none, gpr[RDX] = 0, gpr[R10] = 8; break;
    }
}

static void *interrupt(void *unused) {
    sigset_t all;
    CHECK(sigfillset(&all) == 0 && pthread_sigmask(SIG_BLOCK, &all, 0) == 0);
    for (int at = 1; at <= KINDS * SITE_COUNT; at++) {
        const struct kind *kind = &kinds[(at - 1) % KINDS];
        while (atomic_load(&phase) < at) sched_yield();
        if (!kind->is_blocking) continue;
        wait_until_asleep(caller);
        int seen = atomic_load(&handled);
        CHECK(syscall(SYS_tgkill, getpid(), caller, kind->number) == 0);
        while (atomic_load(&handled) == seen) sched_yield();
        if (kind->release) kind->release();
    }
    return unused;
}

int main(void) {
    pthread_t thread;
    int broken[2];
    char byte;
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    vector_bytes = widest_vector();
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    sa_family_t family = AF_UNIX;
    CHECK(listener >= 0 && bind(listener, (void *)&family, sizeof family) == 0 && listen(listener, 4) == 0);
    CHECK(pipe(ends) == 0 && pipe(broken) == 0 && close(broken[0]) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    handle(SIGUSR1, on_signal, 0);
    handle(SIGUSR2, on_signal, SA_RESTART);
    handle(SIGPIPE, on_signal, SA_ONSTACK);
    CHECK(sigaltstack(&alternate, 0) == 0);
    caller = (pid_t)syscall(SYS_gettid);
    CHECK(pthread_create(&thread, 0, interrupt, 0) == 0);
    fill(SYS_getpid);
    site = site_bare;
    load_and_call(); /* notes what rsp is in a call */
    for (int at = 0; at < KINDS * SITE_COUNT; at++) {
        const struct kind *kind = &kinds[at % KINDS];
        sigset_t set;
        current = at / KINDS;
        printf("%s, %s\n", sites[current].name, kind->name);
        fflush(stdout);
        fill(kind->nr);
        set_arguments(kind, listener, broken[1]);
        site = sites[current].start;
        if (kind->nr == SYS_rt_sigprocmask) {
            sigemptyset(&set);
            sigaddset(&set, kind->number);
            CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0 && raise(kind->number) == 0);
        }
        atomic_store(&phase, at + 1);
        load_and_call();
        printf("  then rax=%lx\n", after.gpr[RAX]);
        fflush(stdout);
        if (kind->nr == SYS_read && (long)after.gpr[RAX] < 0) CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    }
    CHECK(pthread_join(thread, 0) == 0);
    return pass();
}
