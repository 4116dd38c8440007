// posix_spawn and vfork with exec, many times: nothing grows, and the parent keeps the handlers that the children reset.
//@ build: gcc -O2 -Wno-deprecated-declarations spawn_many.c -o $OUT
//@ build: musl-gcc -O2 -static -Wno-deprecated-declarations spawn_many.c -o $OUT
//@ seconds: 180
#include "footprint.h"
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static volatile int illegal;

static void count(int number, siginfo_t *info, void *context) {
    illegal += number == SIGILL;
    (void)info, (void)context;
}

static void wait_for(pid_t pid, int want) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, want << 8);
}

int main(int argc, char **argv) {
    if (argc == 3) return atoi(argv[2]);
    read_times(argc, argv);
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGILL, &action, 0) == 0);
    char *const again[] = {argv[0], "1", "9", 0}, *const missing[] = {"/nonexistent", 0};
    struct footprint before = {0};
    for (int round = 0; round < 100 * times; round++) {
        if (round == 30) before = footprint();
        pid_t pid;
        CHECK(posix_spawn(&pid, argv[0], 0, 0, again, environ) == 0);
        wait_for(pid, 9);
        CHECK_EQUAL(posix_spawn(&pid, missing[0], 0, 0, missing, environ), ENOENT);
        pid = vfork();
        if (pid == 0) {
            execve(missing[0], missing, environ);
            if (round % 4 == 0) execve(argv[0], again, environ);
            _exit(9);
        }
        wait_for(pid, 9);
        if (round % 20 == 0) {
            raise(SIGILL);
            CHECK_EQUAL(illegal, round / 20 + 1);
        }
    }
    check_flat(before, 2, 256);
    return pass();
}
