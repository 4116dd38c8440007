// Blocks in a handler, below which a read is interrupted that blocks too; a debugger is to see main from there.
//@ build: gcc -O0 -g blocked_in_handler.c -o $OUT
//@ build: gcc -O0 -g -static blocked_in_handler.c -o $OUT
#include "signals.h"
#include <sys/time.h>

static int ends[2];

static void on_signal(int number) {
    char byte;
    (void)number;
    CHECK(write(1, "blocking\n", 9) == 9);
    CHECK(read(ends[0], &byte, 1) == 1);
}

static void innermost(void) {
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1);
}

static void middle(void) {
    innermost();
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval soon = {{0, 0}, {0, 200000}};
    CHECK(pipe(ends) == 0 && sigaction(SIGALRM, &action, 0) == 0 && setitimer(ITIMER_REAL, &soon, 0) == 0);
    middle();
    return pass();
}
