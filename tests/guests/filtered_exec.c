// Runs a program under a filter that kills at any call but those numbered: filtered_exec NUMBERS… -- PROGRAM ARGUMENTS…
//@ build: gcc -O2 -static filtered_exec.c -o $OUT
#include "seccomp.h"
#include <sys/prctl.h>

int main(int argc, char **argv) {
    static struct sock_filter code[1024];
    int at = 0, word = 1;
    code[at++] = (struct sock_filter)LOAD(nr);
    for (; word < argc && argv[word][0] != '-'; word++) {
        code[at++] = (struct sock_filter)IF_NOT((unsigned)atoi(argv[word]), 1);
        code[at++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    }
    code[at++] = (struct sock_filter)ANSWER(SECCOMP_RET_KILL_PROCESS);
    CHECK(word + 1 < argc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    install_filter(code, (size_t)at, 0);
    execv(argv[word + 1], argv + word + 1);
    return 127;
}
