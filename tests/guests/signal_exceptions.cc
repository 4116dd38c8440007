// C++ exceptions out of handlers: for a fault, out of a call that blocks, out of calls in the middle of which a timer strikes;
// and exceptions that pass calls which a signal has interrupted.
//@ build: g++ -O2 -fnon-call-exceptions -fasynchronous-unwind-tables -pthread signal_exceptions.cc -o $OUT
//@ build: g++ -O2 -static -fnon-call-exceptions -fasynchronous-unwind-tables -pthread signal_exceptions.cc -o $OUT
//@ modes: plain summary trace
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <pthread.h>
#include <stdexcept>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

namespace {

volatile sig_atomic_t may_throw, destroyed;
int ends[2];

struct Counted {
    ~Counted() { destroyed = destroyed + 1; }
};

void check(bool holds, const char *what) {
    if (holds) return;
    std::fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
    _exit(1);
}

void on_fault(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    throw std::runtime_error("fault");
}

extern "C" char call_site[], after_call[];

/* A tick that finds the thread between two instructions that can't throw would end the program, as the exception tables say. */
void on_tick(int, siginfo_t *, void *context) {
    const auto *at = reinterpret_cast<const char *>(static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP]);
    if (may_throw && (at == call_site || at == after_call)) {
        may_throw = 0;
        throw 7;
    }
}

__attribute__((noinline)) long load(volatile long *at) {
    Counted counted;
    return *at;
}

/* System calls in the program's own code, which has landing pads everywhere. */
__attribute__((noinline, noclone)) long call(long number, long a, long b, long c) {
    Counted counted;
    long result;
    __asm__ volatile("call_site: syscall\nafter_call:" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

void throw_for_faults() {
    int caught = 0;
    destroyed = 0;
    for (int round = 0; round < 200; round++) try {
            load(nullptr);
        } catch (const std::runtime_error &) {
            caught++;
        }
    check(caught == 200 && destroyed == 200, "every fault is caught");
}

void throw_from_calls(long number, long a, long b, long c, int count) {
    itimerval often = {{0, 100}, {0, 100}}, never = {};
    int caught = 0;
    check(setitimer(ITIMER_REAL, &often, nullptr) == 0, "setitimer");
    while (caught < count) {
        destroyed = 0;
        int entered = 0;
        try {
            may_throw = 1;
            while (may_throw) {
                entered++;
                call(number, a, b, c);
            }
        } catch (int value) {
            check(value == 7, "the value thrown");
            caught++;
        }
        check(destroyed == entered || destroyed == entered - 1, "what is left is destroyed");
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
    }
    check(setitimer(ITIMER_REAL, &never, nullptr) == 0, "setitimer");
}

} // namespace

int main() {
    struct sigaction action = {};
    action.sa_handler = on_fault;
    check(sigaction(SIGSEGV, &action, nullptr) == 0 && pipe(ends) == 0, "sigaction");
    throw_for_faults();
    action.sa_sigaction = on_tick;
    action.sa_flags = SA_SIGINFO;
    check(sigaction(SIGALRM, &action, nullptr) == 0, "sigaction");
    char byte;
    throw_from_calls(SYS_read, ends[0], reinterpret_cast<long>(&byte), 1, 500);
    std::puts("ok");
}
