// Restricts itself, then loads another C library: its calls are seen all the same.
//@ build: gcc -O2 late_code.c -o $OUT
#include "guest.h"
#include <dlfcn.h>
#include <sys/prctl.h>

int main(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "mdwe") == 0) {
            if (prctl(65 /* PR_SET_MDWE */, 1 /* REFUSE_EXEC_GAIN */, 0, 0, 0) != 0) return 125;
        } else {
            CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0); /* /proc/self belongs to root then */
        }
    }
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
    CHECK(library != 0);
    int (*call)(void) = (int (*)(void))dlsym(library, "getppid");
    CHECK(call != 0);
    for (int at = 0; at < 100; at++) CHECK_EQUAL(call(), getppid());
    return pass();
}
