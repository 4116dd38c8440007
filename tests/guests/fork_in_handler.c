// A signal handler that forks and vforks, wherever the signal has interrupted the program: the interrupted call goes on in
// parent and child.
//@ build: gcc -O2 -Wno-deprecated-declarations fork_in_handler.c -o $OUT
//@ build: gcc -O2 -static -Wno-deprecated-declarations fork_in_handler.c -o $OUT
//@ seconds: 120
#include "footprint.h"
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

static volatile int forks, is_child;
static int ends[2];

/* The interrupted call goes on in the child: on a pipe of its own, or it would take its parent's byte. */
static void part(void) {
    int own[2];
    char byte = 'x';
    CHECK(pipe(own) == 0 && write(own[1], &byte, 1) == 1);
    CHECK(dup2(own[0], ends[0]) == ends[0] && dup2(own[1], ends[1]) == ends[1]);
}

static void check_child(pid_t pid) {
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 4 << 8);
}

static void on_alarm(int number) {
    int kept = errno;
    (void)number;
    if (is_child) return;
    forks++;
    pid_t pid = vfork();
    if (pid == 0) _exit(4);
    check_child(pid);
    pid = fork();
    if (pid == 0) {
        is_child = 1; // and back into what was interrupted
        part();
        errno = kept;
        return;
    }
    check_child(pid);
    errno = kept;
}

int main(int argc, char **argv) {
    read_times(argc, argv);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, 0) == 0);
    struct itimerval often = {{0, 700}, {0, 700}};
    CHECK(pipe(ends) == 0);
    char byte = 'x';
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    for (long round = 0; forks < 100 * times; round++) {
        CHECK_EQUAL(write(ends[1], &byte, 1), 1);
        CHECK_EQUAL(read(ends[0], &byte, 1), 1);
        CHECK(syscall(SYS_close, -1) == -1 && errno == EBADF);
        if (is_child) {
            for (int at = 0; at < 50; at++) CHECK_EQUAL(syscall(SYS_getpid), getpid());
            _exit(4);
        }
    }
    often = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    return pass();
}
