// Switches system call dispatch off, which it has never switched on, and then calls from memory of its own.
//@ build: gcc -O2 dispatch_off.c -o $OUT -pthread
#include "marker.h"
#include <pthread.h>
#include <sys/prctl.h>

enum { SET_DISPATCH = 59, OFF = 0, ON = 1 };

static void *call_from_own_memory(void *unused) {
    for (int round = 0; round < 10; round++) {
        CHECK_EQUAL(prctl(SET_DISPATCH, OFF, 0, 0, 0), 0);
        char *at = map_anonymous(PAGE, RW);
        memcpy(at, MARKER, sizeof MARKER);
        CHECK(mprotect(at, PAGE, RX) == 0);
        run_marker(at);
        CHECK(munmap(at, PAGE) == 0);
    }
    return unused;
}

int main(void) {
    CHECK(prctl(SET_DISPATCH, OFF, 1, 0, 0) == -1 && errno == EINVAL);
    CHECK(prctl(SET_DISPATCH, ON, 1, 0, 0) == -1 && errno == EINVAL);
    call_from_own_memory(0);
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, call_from_own_memory, 0) == 0 && pthread_join(thread, 0) == 0);
    call_from_own_memory(0);
    return pass_after(30);
}
