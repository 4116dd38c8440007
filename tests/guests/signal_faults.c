// The program's own SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE and SIGSYS: raised, sent, or for what an instruction does, also
// one that stands right before a call. Their frames are printed, and a handler that mends the cause is returned from.
//@ build: gcc -O2 signal_faults.c -o $OUT
//@ build: gcc -O2 -static signal_faults.c -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include <sys/mman.h>
#include <sys/wait.h>

#define FAULTING(name, instruction, len)                                                                            \
    extern const char name##_at[];                                                                                  \
    ASM_FUNCTION(name, ".globl " #name "_at\n mov %rdi, %rax\n" #name "_at: " instruction "\n mov $7, %eax\n ret"); \
    long name(long)

FAULTING(undefined, "ud2", 2);
FAULTING(breakpoint, "int3", 0);
FAULTING(privileged, "hlt", 1);
FAULTING(wild_read, "mov (%rax), %rax", 3);
FAULTING(wild_write, "mov %rax, (%rax)", 3);
FAULTING(no_division, "xor %ecx, %ecx\n div %ecx", 2);
/* Loads that stand where a patch evicts them. */
ASM_FUNCTION(load_then_call, ".globl load_then_call_at\nload_then_call_at: mov 8(%rdi), %eax\n syscall\n ret");
ASM_FUNCTION(load_long_then_call, ".globl load_long_then_call_at\nload_long_then_call_at: mov 0x1008(%rdi), %eax\n syscall\n ret");
ASM_FUNCTION(load_wide_then_call, ".globl load_wide_then_call_at\nload_wide_then_call_at: mov (%rdi), %rax\n syscall\n ret");
long load_then_call(char *), load_long_then_call(char *), load_wide_then_call(char *);
extern const char load_then_call_at[], load_long_then_call_at[], load_wide_then_call_at[];

static const char *expected;
static int skip, count;
static char *page;

static void print_frame(int number, const siginfo_t *info, const ucontext_t *context) {
    const greg_t *seen = context->uc_mcontext.gregs;
    uintptr_t pc = (uintptr_t)seen[REG_RIP], address = (uintptr_t)info->si_addr;
    printf("signal %d, code %d", number, info->si_code);
    if (expected) printf(" at %+ld", (long)(pc - (uintptr_t)expected));
    if (info->si_code > 0) {
        if (address == pc) printf(", of its own address");
        else if (page && address - (uintptr_t)page < 8192) printf(", of the page at %#lx", address - (uintptr_t)page);
        else printf(", of %#lx", address);
        printf(", trap %lld, error %lld", seen[REG_TRAPNO], seen[REG_ERR]);
    }
    puts("");
}

static void on_fault(int number, siginfo_t *info, void *argument) {
    ucontext_t *context = argument;
    print_frame(number, info, context);
    count++;
    context->uc_mcontext.gregs[REG_RIP] += skip;
    if (skip == 0 && page) CHECK(mprotect(page, 8192, PROT_READ | PROT_WRITE) == 0);
}

static void meet(const char *name, long (*function)(long), const char *at, int len, long argument) {
    printf("%s: ", name);
    expected = at, skip = len, page = 0;
    CHECK_EQUAL(function(argument), 7);
}

static void mend(const char *name, long (*function)(char *), const char *at) {
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    for (int offset = 0; offset < 8192; offset += 8) *(uint64_t *)(page + offset) = (uint64_t)SYS_getppid << 32 | SYS_getppid;
    if (function == load_wide_then_call)
        for (int offset = 0; offset < 8192; offset += 8) *(uint64_t *)(page + offset) = SYS_getppid;
    expected = at, skip = 0;
    for (int round = 0; round < 3; round++) {
        CHECK(mprotect(page, 8192, PROT_NONE) == 0);
        printf("%s: ", name);
        CHECK_EQUAL(function(page), getppid());
    }
    CHECK(munmap(page, 8192) == 0);
    page = 0;
}

static int ends_by(void (*cause)(void)) {
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        cause();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status & 0x7f;
}

static void default_undefined(void) { signal(SIGILL, SIG_DFL), undefined(0); }
static void ignored_undefined(void) { signal(SIGILL, SIG_IGN), undefined(0); }
static void ignored_sent(void) { signal(SIGILL, SIG_IGN), raise(SIGILL); }
static void default_sent(void) { signal(SIGILL, SIG_DFL), raise(SIGILL); }
static void blocked_undefined(void) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGILL), sigprocmask(SIG_BLOCK, &set, 0);
    undefined(0);
}
static void default_segv(void) { signal(SIGSEGV, SIG_DFL), wild_read(0); }
static void blocked_segv(void) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGSEGV), sigprocmask(SIG_BLOCK, &set, 0);
    wild_read(0);
}

static void queries(void) {
    static const int numbers[] = {SIGILL, SIGTRAP, SIGSYS, SIGSEGV, SIGUSR1, SIGKILL, SIGSTOP, 64, 65, 0};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) {
        struct { void *handler; uint64_t flags; void *restorer; uint64_t mask; } set = {(void *)on_fault, SA_SIGINFO | SA_NODEFER | 0x04000000, (void *)0x1234567, 0x2205}, old = {0};
        long first = syscall(SYS_rt_sigaction, numbers[at], &set, 0, 8);
        int first_error = errno;
        long second = syscall(SYS_rt_sigaction, numbers[at], 0, &old, 8);
        int second_error = errno;
        printf("%d: %ld %d, %ld %d", numbers[at], first, first ? first_error : 0, second, second ? second_error : 0);
        if (first == 0) {
            printf(", handler %s flags %lx restorer %p mask %lx", old.handler == (void *)on_fault ? "same" : "other", old.flags, old.restorer, old.mask);
            set.handler = SIG_DFL, set.flags = 0;
            CHECK(syscall(SYS_rt_sigaction, numbers[at], &set, &old, 8) == 0 && old.handler == (void *)on_fault);
        }
        puts("");
    }
    struct { uint64_t words[4]; } action = {{0}};
    for (size_t size = 0; size < 17; size += 4)
        printf("size %zu: %ld %d\n", size, syscall(SYS_rt_sigaction, SIGUSR1, &action, 0, size), errno);
    errno = 0;
    printf("bad new: %ld", syscall(SYS_rt_sigaction, SIGUSR1, 8, 0, 8));
    printf(" %d\n", errno);
    printf("bad old: %ld", syscall(SYS_rt_sigaction, SIGUSR1, 0, 8, 8));
    printf(" %d\n", errno);
    printf("bad old of SIGILL: %ld", syscall(SYS_rt_sigaction, SIGILL, 0, 8, 8));
    printf(" %d\n", errno);
}

int main(void) {
    static const int numbers[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGSYS};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) handle(numbers[at], on_fault, 0);
    meet("ud2", undefined, undefined_at, 2, 0);
    meet("int3", breakpoint, breakpoint_at, 0, 0);
    meet("hlt", privileged, privileged_at, 1, 0);
    meet("read", wild_read, wild_read_at, 3, 16);
    meet("write", wild_write, wild_write_at, 3, 16);
    meet("not canonical", wild_read, wild_read_at, 3, 1L << 62);
    meet("division", no_division, no_division_at, 2, 0);
    mend("load", load_then_call, load_then_call_at);
    mend("load, five bytes", load_long_then_call, load_long_then_call_at);
    mend("load, wide", load_wide_then_call, load_wide_then_call_at);
    expected = 0;
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) {
        skip = 0;
        CHECK(raise(numbers[at]) == 0);
        CHECK(kill(getpid(), numbers[at]) == 0);
        CHECK(sigqueue(getpid(), numbers[at], (union sigval){.sival_int = 5}) == 0);
    }
    CHECK_EQUAL(count, 7 + 9 + 18);
    printf("ends: %d %d %d %d %d %d %d\n", ends_by(default_undefined), ends_by(ignored_undefined), ends_by(ignored_sent),
           ends_by(default_sent), ends_by(blocked_undefined), ends_by(default_segv), ends_by(blocked_segv));
    queries();
    return pass();
}
