// Runs a command for which the kernel has no Syscall User Dispatch.
//@ build: gcc -O2 net_denied.c -o $OUT
#include "seccomp.h"
#include <sys/prctl.h>

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        LOAD(nr),      IF_NOT(SYS_prctl, 3), LOAD(args[0]), IF_NOT(59, 1),
        ANSWER(SECCOMP_RET_ERRNO | EINVAL), ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK(argc > 1 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_filter(filter, sizeof filter / sizeof *filter, 0);
    execv(argv[1], argv + 1);
    return 1;
}
