// Calls of null pointers and of what lies just behind: each faults where it was called, as root and as nobody.
//@ build: gcc -O2 null_calls.c -o $OUT
//@ build: gcc -O2 -static null_calls.c -o $OUT
#include "guest.h"
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

static sigjmp_buf again;
static uint64_t faulted, at_fault;

static void on_fault(int number, siginfo_t *info, void *context) {
    faulted = (uint64_t)info->si_addr;
    at_fault = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    siglongjmp(again, number * 1000 + info->si_code);
}

static void call_each(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, 0) == 0);
    for (volatile uint64_t address = 0; address < 512; address++) {
        int how = sigsetjmp(again, 1);
        if (how == 0) {
            ((void (*)(void))address)();
            CHECK(!"such a call comes back");
        }
        CHECK_EQUAL(how, SIGSEGV * 1000 + SEGV_MAPERR);
        CHECK_EQUAL(faulted, address);
        CHECK_EQUAL(at_fault, address);
    }
    int how = sigsetjmp(again, 1);
    if (how == 0) CHECK(*(volatile char *)0 && !"address 0 is read");
    CHECK_EQUAL(how, SIGSEGV * 1000 + SEGV_MAPERR);
    CHECK_EQUAL(faulted, 0);
}

static void await(pid_t child, int wanted) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status & ~0x80, wanted);
}

int main(void) {
    call_each();
    if (getuid() == 0) {
        pid_t child = fork();
        if (child == 0) {
            CHECK(setgroups(0, 0) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
            call_each();
            _exit(0);
        }
        await(child, 0);
    }
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        ((void (*volatile)(void))0)();
        _exit(0);
    }
    await(child, SIGSEGV);
    return pass();
}
