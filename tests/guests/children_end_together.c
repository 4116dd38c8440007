// A hundred children that make as many calls each and then end at the same moment: a third by exit_group, a third by
// SIGKILL, a third by a fault. All are waited for.
//@ build: gcc -O2 children_end_together.c -o $OUT
//@ build: gcc -O2 -static children_end_together.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define CHILDREN 100
#define CALLS 50

static void end(int number) {
    if (number % 3 == 0) _exit(0);
    if (number % 3 == 1) syscall(SYS_kill, getpid(), SIGKILL);
    *(volatile int *)0 = 0;
}

int main(void) {
    int start[2];
    char byte;
    CHECK(pipe(start) == 0);
    for (int number = 0; number < CHILDREN; number++) {
        if (fork() == 0) {
            close(start[1]);
            for (int call = 0; call < CALLS; call++) syscall(SYS_getppid);
            CHECK(read(start[0], &byte, 1) == 0);
            end(number);
        }
    }
    close(start[1]);
    for (int number = 0; number < CHILDREN; number++) CHECK(wait(0) > 0);
    return pass();
}
