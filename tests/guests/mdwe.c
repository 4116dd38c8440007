// Runs another program where memory may not become executable, nor be writable and executable.
//@ build: gcc -O2 -static mdwe.c -o $OUT
//@ run: $OUT $OUT -
#include "guest.h"
#include <sys/prctl.h>

int main(int argc, char **argv) {
    if (argc == 2 && argv[1][0] == '-') return pass();
    CHECK(argc > 1);
    if (prctl(65 /* PR_SET_MDWE */, 1 /* PR_MDWE_REFUSE_EXEC_GAIN */, 0, 0, 0) != 0) return 125;
    execvp(argv[1], argv + 1);
    return 127;
}
