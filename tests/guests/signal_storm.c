// Interval timers that interrupt calls of every kind thousands of times a second: each handler finds the program in its
// own code and on its own stack, and no call notices.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations signal_storm.c -o $OUT
//@ build: gcc -O2 -static -pthread -Wno-deprecated-declarations signal_storm.c -o $OUT
//@ build: musl-gcc -O2 -static -Wno-deprecated-declarations signal_storm.c -o $OUT
//@ modes: plain summary trace
//@ seconds: 120
#include "signal_calls.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void on_tick(int number, siginfo_t *info, void *context) {
    int kept = errno;
    CHECK(number == SIGALRM || number == SIGPROF);
    CHECK_EQUAL(info->si_signo, number);
    CHECK_EQUAL(info->si_code, SI_KERNEL);
    check_whereabouts(context);
    if (++ticks % 16 == 0) CHECK(access("/nonexistent", F_OK) == -1 && errno == ENOENT);
    errno = kept;
}

/* Calls until the timer has struck so many times. */
static void storm(int timer, int microseconds, int strikes) {
    struct itimerval often = {{0, microseconds}, {0, microseconds}}, never = {{0, 0}, {0, 0}};
    ticks = 0;
    CHECK(setitimer(timer, &often, 0) == 0);
    for (long round = 0; ticks < strikes; round++) {
        call_simple();
        if (round % 8 == 0) call_memory();
        if (round % 64 == 0 && microseconds >= 100) call_processes();
    }
    CHECK(setitimer(timer, &never, 0) == 0);
}

int main(int count, char **words) {
    int factor = count > 1 ? atoi(words[1]) : 1;
    read_own_code();
    prepare_calls();
    handle(SIGALRM, on_tick, SA_RESTART);
    handle(SIGPROF, on_tick, SA_RESTART);
    storm(ITIMER_REAL, 100, 3000 * factor);
    storm(ITIMER_REAL, 20, 3000 * factor);
    storm(ITIMER_PROF, 100, 20 * factor);
    return pass();
}
