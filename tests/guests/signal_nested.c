// Handlers in handlers: eight deep, on the smallest alternate stacks, with signals that come while another's handler runs and
// makes calls; and what SA_NODEFER, SA_RESETHAND, SA_ONSTACK and masks promise.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations signal_nested.c -o $OUT
//@ build: gcc -O2 -static -pthread -Wno-deprecated-declarations signal_nested.c -o $OUT
//@ build: musl-gcc -O2 -static -Wno-deprecated-declarations signal_nested.c -o $OUT
//@ modes: plain summary trace
//@ seconds: 120
#include "signal_calls.h"
#include <sys/auxv.h>
#include <sys/time.h>

static volatile sig_atomic_t depth, deepest, ticks;
static char *small_stack;
static size_t small_len;

static void nest(int number, siginfo_t *info, void *context) {
    (void)info;
    check_whereabouts(context);
    depth++;
    if (depth > deepest) deepest = depth;
    call_simple();
    if (depth < 8) CHECK(raise(number) == 0);
    call_simple();
    depth--;
}

static void is_on_small_stack(int number, siginfo_t *info, void *context) {
    char here;
    int kept = errno;
    (void)number;
    (void)info;
    CHECK(&here > small_stack && &here < small_stack + small_len);
    CHECK((char *)context > small_stack && (char *)context < small_stack + small_len);
    ucontext_t *interrupted = context;
    CHECK(interrupted->uc_stack.ss_sp == small_stack && interrupted->uc_stack.ss_size == small_len);
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    CHECK(access("/nonexistent", F_OK) == -1 && errno == ENOENT);
    ticks++;
    errno = kept;
}

/* With a page that can't be touched below. */
static void use_small_stack(size_t len) {
    size_t room = (len + 4095) & ~4095UL;
    char *pages = mmap(0, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages, 4096, PROT_NONE) == 0);
    small_stack = pages + 4096 + room - len, small_len = len;
    stack_t stack = {.ss_sp = small_stack, .ss_size = small_len};
    CHECK(sigaltstack(&stack, 0) == 0);
    ticks = 0;
    handle(SIGUSR1, is_on_small_stack, SA_ONSTACK);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(ticks, 1);
    handle(SIGALRM, is_on_small_stack, SA_ONSTACK | SA_RESTART);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (ticks < 1000) call_simple();
    CHECK(setitimer(ITIMER_REAL, &never, 0) == 0);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, 0) == 0 && munmap(pages, room + 4096) == 0);
}

/* On the alternate stack, with a pattern that the next frame must not overwrite. */
static volatile sig_atomic_t other_ticks;
static void tick_again(int number, siginfo_t *info, void *context) {
    volatile char pattern[512];
    int kept = errno;
    (void)number;
    (void)info;
    (void)context;
    for (size_t at = 0; at < sizeof pattern; at++) pattern[at] = (char)at;
    CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
    for (size_t at = 0; at < sizeof pattern; at++) CHECK_EQUAL(pattern[at], (char)at);
    other_ticks++;
    errno = kept;
}

static void work_on_alternate_stack(int number, siginfo_t *info, void *context) {
    volatile char pattern[4096];
    (void)number;
    (void)info;
    CHECK(in_own_code(register_of(context, REG_RIP)));
    for (size_t at = 0; at < sizeof pattern; at++) pattern[at] = (char)(at * 7);
    while (other_ticks < 3000) {
        call_simple();
        call_memory();
        for (size_t at = 0; at < sizeof pattern; at++) CHECK_EQUAL(pattern[at], (char)(at * 7));
    }
    ticks++;
}

/* Signals with SA_ONSTACK come while a handler on that stack makes calls: their frames go below its own. */
static void interrupt_on_alternate_stack(void) {
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    CHECK(sigaltstack(&stack, 0) == 0);
    ticks = other_ticks = 0;
    handle(SIGUSR1, work_on_alternate_stack, 0);
    handle(SIGALRM, tick_again, SA_ONSTACK | SA_RESTART);
    struct sigaction action = {.sa_sigaction = work_on_alternate_stack, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(setitimer(ITIMER_REAL, &never, 0) == 0);
    CHECK_EQUAL(ticks, 1);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, 0) == 0);
}

static sigset_t seen_mask;
static void note_mask(int number) {
    (void)number;
    CHECK(sigprocmask(SIG_BLOCK, 0, &seen_mask) == 0);
    ticks++;
}

static uint64_t bits(const sigset_t *set) {
    uint64_t mask;
    memcpy(&mask, set, sizeof mask);
    return mask;
}

/* Of SIGILL the loader says itself that it does not read back in a handler. */
static void masks_and_flags(void) {
    const struct { int flags; uint64_t mask; } forms[] = {
        {0, 0}, {SA_NODEFER, 0}, {0, 1UL << (SIGUSR2 - 1)}, {SA_NODEFER, 1UL << (SIGTERM - 1)},
        {SA_RESETHAND, 0}, {SA_RESETHAND | SA_NODEFER, ~8UL}, {0, ~8UL},
    };
    for (size_t at = 0; at < sizeof forms / sizeof *forms; at++) {
        struct sigaction action = {.sa_handler = note_mask, .sa_flags = forms[at].flags}, now;
        memcpy(&action.sa_mask, &forms[at].mask, 8);
        CHECK(sigaction(SIGUSR1, &action, 0) == 0);
        ticks = 0;
        CHECK(raise(SIGUSR1) == 0 && ticks == 1);
        CHECK(sigaction(SIGUSR1, 0, &now) == 0);
        printf("flags %#x mask %lx: in the handler %lx, then %s with mask %lx flags %#x", forms[at].flags, forms[at].mask,
               bits(&seen_mask), now.sa_handler == note_mask ? "itself" : now.sa_handler == SIG_DFL ? "default" : "another",
               bits(&now.sa_mask), now.sa_flags & ~0x04000000);
        CHECK(sigprocmask(SIG_BLOCK, 0, &seen_mask) == 0);
        printf(", afterwards %lx\n", bits(&seen_mask));
    }
    fflush(stdout);
}

int main(void) {
    read_own_code();
    prepare_calls();
    handle(SIGUSR1, nest, SA_NODEFER);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(deepest, 8);
    CHECK_EQUAL(depth, 0);
    size_t least = getauxval(AT_MINSIGSTKSZ);
    use_small_stack(least + 2048);
    use_small_stack(least + 1024 > 2048 ? least + 1024 : 2048);
    interrupt_on_alternate_stack();
    masks_and_flags();
    return pass();
}
