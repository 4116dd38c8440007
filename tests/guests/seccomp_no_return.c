// A site that nothing but a trap fits, and a filter that does not let signal handlers return.
//@ build: gcc -O2 seccomp_no_return.c -o $OUT
#include "seccomp.h"
#include <sys/prctl.h>

/* A prefix that processors treat differently before a jump. */
ASM_FUNCTION(lonely_call, "mov $39, %eax\n .byte 0x66\n syscall\n ret");
long lonely_call(void);

int main(void) {
    struct sock_filter code[] = {LOAD(nr), IF_NOT(SYS_rt_sigreturn, 1), ANSWER(SECCOMP_RET_KILL_PROCESS),
                                 ANSWER(SECCOMP_RET_ALLOW)};
    pid_t self = getpid();
    CHECK_EQUAL(lonely_call(), self);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_filter(code, 4, 0);
    for (int round = 0; round < 10; round++) CHECK_EQUAL(lonely_call(), self);
    return pass();
}
