// What a handler sees of the stack below it: backtrace() and the unwinder go through the call that was interrupted, up to main.
//@ build: gcc -O1 -rdynamic -fno-optimize-sibling-calls -fno-ipa-icf -pthread signal_backtrace.c -o $OUT
//@ build: gcc -O1 -rdynamic -fno-optimize-sibling-calls -fomit-frame-pointer -fno-ipa-icf -pthread signal_backtrace.c -o $OUT -static
//@ modes: plain summary trace
#include "signals.h"
#include <execinfo.h>
#include <pthread.h>
#include <unwind.h>

static int ends[2];
static pid_t caller;
static atomic_int handled;
volatile int kept;

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *context, void *argument) {
    int is_before;
    (void)_Unwind_GetIPInfo(context, &is_before);
    ++*(int *)argument;
    return _URC_NO_REASON;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    void *frames[64];
    int unwound = 0, count = backtrace(frames, 64);
    (void)number;
    (void)info;
    (void)context;
    _Unwind_Backtrace(count_frame, &unwound);
    printf("%d frames, %d unwound\n", count, unwound);
    fflush(stdout);
    char **names = backtrace_symbols(frames, count);
    CHECK(names);
    for (int at = 0; at < count; at++) { /* path(name+offset) [address] */
        char *name = strchr(names[at], '('), *end = name ? strpbrk(name, "+)") : 0;
        if (end) *end = 0;
        if (name && name[1]) printf("  %s\n", name + 1);
    }
    fflush(stdout);
    atomic_fetch_add(&handled, 1);
}

__attribute__((noinline)) long innermost(int is_blocking) {
    char byte;
    long result = is_blocking ? read(ends[0], &byte, 1) : raise(SIGUSR1);
    kept++;
    return result;
}
__attribute__((noinline)) long middle(int is_blocking) {
    long result = innermost(is_blocking);
    kept++;
    return result;
}
__attribute__((noinline)) long outermost(int is_blocking) {
    long result = middle(is_blocking);
    kept++;
    return result;
}

static void *interrupt(void *unused) {
    wait_until_asleep(caller);
    CHECK(syscall(SYS_tgkill, getpid(), caller, SIGUSR1) == 0);
    while (atomic_load(&handled) == 0) sched_yield();
    wait_until_asleep(caller);
    CHECK(write(ends[1], "x", 1) == 1);
    return unused;
}

int main(void) {
    pthread_t thread;
    void *warm[1];
    CHECK(pipe(ends) == 0);
    backtrace(warm, 1);
    handle(SIGUSR1, on_signal, SA_RESTART);
    caller = getpid();
    CHECK(pthread_create(&thread, 0, interrupt, 0) == 0);
    CHECK_EQUAL(outermost(1), 1);
    CHECK(pthread_join(thread, 0) == 0);
    CHECK_EQUAL(outermost(0), 0);
    return pass();
}
