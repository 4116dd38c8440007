// Makes getppid three times; asked for it seven more times, gets a signal instead.
//@ build: gcc -O2 dispatching_counted.c -o $OUT
//@ modes: plain summary trace
#include "dispatching.h"

int main(void) {
    arm(0, 0, &selector);
    result = 1;
    for (int round = 0; round < 7; round++) {
        selector = BLOCK;
        CHECK_EQUAL(other_call(SYS_getppid, 0, 0, 0), 1);
        if (round < 3) CHECK(other_call(SYS_getppid, 0, 0, 0) > 1);
    }
    CHECK_EQUAL(dispatch_off(), 0);
    return pass();
}
