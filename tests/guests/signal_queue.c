// A queue of numbered signals from another thread: while the receiver makes calls of every kind, in its handlers too, each
// number arrives once and in order, of each signal that is queued.
//@ build: gcc -O2 -pthread -Wno-deprecated-declarations signal_queue.c -o $OUT
//@ build: gcc -O2 -static -pthread -Wno-deprecated-declarations signal_queue.c -o $OUT
//@ modes: plain summary trace
//@ seconds: 120
#include "signal_calls.h"

enum { FIRST = 40, SIGNALS = 3 };
static int total = 4000;
static pid_t receiver;
static volatile sig_atomic_t arrived[SIGNALS];

static void on_number(int number, siginfo_t *info, void *context) {
    int kept = errno;
    check_whereabouts(context);
    CHECK_EQUAL(number, info->si_signo);
    CHECK_EQUAL(info->si_code, SI_QUEUE);
    CHECK_EQUAL(info->si_pid, getpid());
    CHECK_EQUAL(info->si_value.sival_int, arrived[number - FIRST]);
    arrived[number - FIRST]++;
    if (info->si_value.sival_int % 8 == 0) CHECK(access("/nonexistent", F_OK) == -1 && errno == ENOENT);
    errno = kept;
}

static void *send_all(void *unused) {
    sigset_t all;
    CHECK(sigfillset(&all) == 0 && pthread_sigmask(SIG_BLOCK, &all, 0) == 0);
    for (int value = 0; value < total; value++)
        for (int number = FIRST; number < FIRST + SIGNALS; number++) {
            siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};
            info.si_pid = getpid(), info.si_uid = getuid(), info.si_value.sival_int = value;
            while (syscall(SYS_rt_tgsigqueueinfo, getpid(), receiver, number, &info) != 0) {
                CHECK_EQUAL(errno, EAGAIN);
                sched_yield();
            }
        }
    return unused;
}

static void receive_all(int flags) {
    pthread_t sender;
    memset((void *)arrived, 0, sizeof arrived);
    for (int number = FIRST; number < FIRST + SIGNALS; number++) handle(number, on_number, flags);
    CHECK(pthread_create(&sender, 0, send_all, 0) == 0);
    for (long round = 0; arrived[SIGNALS - 1] < total; round++) {
        call_simple();
        if (round % 8 == 0) call_memory();
    }
    CHECK(pthread_join(sender, 0) == 0);
    for (int at = 0; at < SIGNALS; at++) CHECK_EQUAL(arrived[at], total);
}

int main(int count, char **words) {
    if (count > 1) total = atoi(words[1]);
    read_own_code();
    prepare_calls();
    receiver = getpid();
    receive_all(SA_RESTART);
    return pass();
}
