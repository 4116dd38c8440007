// Handlers that never return: out of calls that block, by siglongjmp, setcontext and pthread_exit, and out of calls that a
// timer interrupts wherever it may. Afterwards all works, and memory and mappings are as few as at first.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations signal_jumps.c -o $OUT
//@ build: gcc -O2 -static -pthread -Wno-deprecated-declarations signal_jumps.c -o $OUT
//@ modes: plain summary trace
//@ seconds: 300
#include "signal_calls.h"
#include "footprint.h"
#include <setjmp.h>
#include <sys/time.h>

static sigjmp_buf way_out;
static ucontext_t context_out;
static volatile int jumps, may_jump;
static int ends[2];
enum { MANY = 5000 };

static void jump(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    check_whereabouts(context);
    if (!may_jump) return;
    may_jump = 0;
    jumps++;
    siglongjmp(way_out, 1);
}

static void jump_by_context(int number) {
    (void)number;
    if (!may_jump) return;
    may_jump = 0;
    jumps++;
    setcontext(&context_out);
}

/* The timer strikes anywhere in these calls, or in the loader on their behalf. */
static void jump_out_of_anything(long count) {
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    jumps = 0;
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (jumps < count) {
        if (sigsetjmp(way_out, 1) == 0) {
            may_jump = 1;
            for (;;) {
                char bytes[64], path[256];
                CHECK_EQUAL(syscall(SYS_getppid), getppid());
                CHECK_EQUAL(read(zero_file, bytes, sizeof bytes), sizeof bytes);
                CHECK(readlink("/proc/self/exe", path, sizeof path) > 0);
                CHECK(access("/nonexistent", F_OK) == -1 && errno == ENOENT);
            }
        }
    }
    CHECK(setitimer(ITIMER_REAL, &never, 0) == 0);
}

/* And here it finds a read that has nothing to read. */
static void jump_out_of_reads(long count) {
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    char byte;
    jumps = 0;
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (jumps < count)
        if (sigsetjmp(way_out, 1) == 0) {
            may_jump = 1;
            read(ends[0], &byte, 1);
            CHECK(!"a jump has come first");
        }
    CHECK(setitimer(ITIMER_REAL, &never, 0) == 0);
}

static void jump_by_contexts(long count) {
    jumps = 0;
    struct sigaction action = {.sa_handler = jump_by_context, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGUSR2, &action, 0) == 0);
    volatile long rounds = 0;
    CHECK(getcontext(&context_out) == 0);
    if (rounds++ < count) {
        may_jump = 1;
        raise(SIGUSR2);
        CHECK(!"the signal has come");
    }
    CHECK_EQUAL(jumps, count);
}

static atomic_int sleeper;

static void leave_thread(int number) {
    (void)number;
    pthread_exit((void *)0x77);
}

static void *sleep_for_good(void *unused) {
    char byte;
    atomic_store(&sleeper, (int)syscall(SYS_gettid));
    read(ends[0], &byte, 1);
    return unused;
}

static void leave_threads(int count) {
    struct sigaction action = {.sa_handler = leave_thread};
    CHECK(sigaction(SIGUSR2, &action, 0) == 0);
    for (int at = 0; at < count; at++) {
        pthread_t thread;
        void *result;
        atomic_store(&sleeper, 0);
        CHECK(pthread_create(&thread, 0, sleep_for_good, 0) == 0);
        while (atomic_load(&sleeper) == 0) sched_yield();
        wait_until_asleep(atomic_load(&sleeper));
        CHECK(pthread_kill(thread, SIGUSR2) == 0);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK_EQUAL(result, 0x77);
    }
}

static void work(void) {
    for (int round = 0; round < 50; round++) {
        call_simple();
        call_memory();
    }
    call_processes();
}

int main(int count, char **words) {
    read_times(count, words);
    read_own_code();
    prepare_calls();
    CHECK(pipe(ends) == 0);
    handle(SIGALRM, jump, SA_RESTART);
    jump_out_of_anything(MANY / 20);
    jump_out_of_reads(MANY / 20);
    leave_threads(20);
    work();
    footprint(); /* its own buffer */
    struct footprint first = footprint();
    jump_out_of_anything((long)MANY * times);
    jump_out_of_reads((long)MANY * times);
    jump_by_contexts((long)MANY * times);
    leave_threads(100);
    work();
    check_flat(first, 8, 1024);
    return pass();
}
