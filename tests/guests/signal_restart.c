// Calls that block, each interrupted in each way that a program can arrange for: whether they are made again, and what they
// return, is printed. A second thread sends the signal once the call is seen asleep, and then lets the call come to an end.
//@ build: gcc -O2 -pthread signal_restart.c -o $OUT
//@ build: gcc -O2 -static -pthread signal_restart.c -o $OUT
//@ build: musl-gcc -O2 -static signal_restart.c -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { FUTEX_WAIT, FUTEX_WAKE }; /* linux/futex.h, which musl-gcc does not find */
enum way { RESTARTING, PLAIN, IGNORED, DEFAULT_IGNORED, STOPPED, WAYS };
static const char *const way_names[] = {"restarting handler", "plain handler", "ignored", "ignored by default", "stopped"};

static int ends[2], epoll_file, listener, word;
static sem_t semaphore;
static pid_t caller, waited_for;
static atomic_int handled, phase, is_over;
static enum way way;

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)info;
    (void)number;
    CHECK(in_own_code(register_of(context, REG_RIP)));
    atomic_fetch_add(&handled, 1);
}

static long call_read(void) {
    char byte;
    return read(ends[0], &byte, 1);
}
static long call_poll(void) {
    struct pollfd wait = {ends[0], POLLIN, 0};
    return poll(&wait, 1, -1);
}
static long call_poll_timed(void) {
    struct pollfd wait = {ends[0], POLLIN, 0};
    return poll(&wait, 1, 100000);
}
static long call_ppoll(void) {
    struct pollfd wait = {ends[0], POLLIN, 0};
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&wait, 1, 0, &none);
}
static long call_pselect(void) {
    fd_set files;
    FD_ZERO(&files);
    FD_SET(ends[0], &files);
    sigset_t none;
    sigemptyset(&none);
    return pselect(ends[0] + 1, &files, 0, 0, 0, &none);
}
static long call_epoll(void) {
    struct epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return epoll_pwait(epoll_file, &event, 1, -1, &none);
}
static long call_nanosleep(void) {
    struct timespec time = {0, 120000000};
    return nanosleep(&time, 0);
}
static long call_clock_nanosleep(void) {
    struct timespec time;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    time.tv_nsec += 120000000;
    if (time.tv_nsec >= 1000000000) time.tv_nsec -= 1000000000, time.tv_sec++;
    return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, 0);
}
static long call_futex(void) {
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0);
}
static long call_futex_timed(void) {
    struct timespec time = {100, 0};
    return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, 0, 0);
}
static long call_sem(void) {
    return sem_wait(&semaphore);
}
static long call_accept(void) {
    int file = accept(listener, 0, 0);
    if (file < 0) return -1;
    close(file);
    return 1;
}
static long call_wait4(void) {
    return waitpid(waited_for, 0, 0) == waited_for ? 1 : -1;
}
static long call_pause(void) {
    return pause();
}
static long call_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static long call_sigtimedwait(void) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    return sigwaitinfo(&set, &info) == SIGRTMIN + 1 ? 1 : -1;
}

static void release_pipe(void) {
    CHECK(write(ends[1], "x", 1) == 1);
}
static void release_nothing(void) {}
static void release_futex(void) {
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0);
}
static void release_sem(void) {
    CHECK(sem_post(&semaphore) == 0);
}
static void release_accept(void) {
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    int file = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(file >= 0 && getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    CHECK(connect(file, (struct sockaddr *)&name, len) == 0 && close(file) == 0);
}
static void release_wait4(void) {
    CHECK(kill(waited_for, SIGKILL) == 0);
}
static void release_handler(void) {
    CHECK(syscall(SYS_tgkill, getpid(), caller, SIGUSR2) == 0);
}
static void release_awaited(void) {
    CHECK(syscall(SYS_tgkill, getpid(), caller, SIGRTMIN + 1) == 0);
}

static const struct kind { const char *name; long (*call)(void); void (*release)(void); } kinds[] = {
    {"read", call_read, release_pipe},
    {"poll", call_poll, release_pipe},
    {"poll with a timeout", call_poll_timed, release_pipe},
    {"ppoll", call_ppoll, release_pipe},
    {"pselect6", call_pselect, release_pipe},
    {"epoll_pwait", call_epoll, release_pipe},
    {"nanosleep", call_nanosleep, release_nothing},
    {"clock_nanosleep", call_clock_nanosleep, release_nothing},
    {"futex", call_futex, release_futex},
    {"futex with a timeout", call_futex_timed, release_futex},
    {"sem_wait", call_sem, release_sem},
    {"accept", call_accept, release_accept},
    {"wait4", call_wait4, release_wait4},
    {"pause", call_pause, release_handler},
    {"rt_sigsuspend", call_sigsuspend, release_handler},
    {"rt_sigtimedwait", call_sigtimedwait, release_awaited},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* From another process, since this one stops. */
static void stop_and_continue(void) {
    char path[64], text[512];
    pid_t target = getpid(), pid = fork();
    int status;
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(kill(target, SIGSTOP) == 0);
        snprintf(path, sizeof path, "/proc/%d/stat", target);
        for (const char *state = 0; !state || state[2] != 'T';) {
            int file = open(path, O_RDONLY);
            ssize_t len = read(file, text, sizeof text - 1);
            CHECK(len > 0 && close(file) == 0);
            text[len] = 0;
            state = strrchr(text, ')');
        }
        CHECK(kill(target, SIGCONT) == 0);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Once the call is asleep or over. */
static int is_asleep(void) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", caller);
    int file = open(path, O_RDONLY);
    ssize_t len = read(file, text, sizeof text - 1);
    CHECK(len > 0 && close(file) == 0);
    text[len] = 0;
    return strrchr(text, ')')[2] == 'S';
}

static void *interrupt(void *unused) {
    sigset_t all;
    CHECK(sigfillset(&all) == 0 && pthread_sigmask(SIG_BLOCK, &all, 0) == 0);
    for (int at = 1; at <= KINDS * WAYS; at++) {
        while (atomic_load(&phase) != at) sched_yield();
        while (!is_asleep()) sched_yield();
        int before = atomic_load(&handled);
        if (way == STOPPED) stop_and_continue();
        else CHECK(syscall(SYS_tgkill, getpid(), caller, way == DEFAULT_IGNORED ? SIGWINCH : SIGUSR1) == 0);
        if (way == RESTARTING || way == PLAIN)
            while (atomic_load(&handled) == before) sched_yield();
        while (!atomic_load(&is_over) && !is_asleep()) sched_yield();
        if (!atomic_load(&is_over)) kinds[(at - 1) / WAYS].release();
        while (!atomic_load(&is_over)) sched_yield();
        atomic_store(&is_over, 0);
    }
    return unused;
}

static void run(const struct kind *kind, int at) {
    char drained[16];
    way = at % WAYS;
    struct sigaction action = {.sa_handler = SIG_IGN};
    handle(SIGUSR1, on_signal, way == RESTARTING ? SA_RESTART : 0);
    if (way == IGNORED) CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    if (kind->call == call_wait4) {
        waited_for = fork();
        CHECK(waited_for >= 0);
        while (waited_for == 0) pause();
    }
    atomic_store(&handled, 0);
    atomic_store(&phase, at + 1);
    errno = 0;
    long result = kind->call();
    int error = errno;
    int count = atomic_load(&handled);
    atomic_store(&is_over, 1);
    while (atomic_load(&is_over)) sched_yield();
    printf("%s, %s: %ld, errno %d, %d handled\n", kind->name, way_names[way], result, result ? error : 0, count);
    if (kind->call == call_wait4 && result != 1) CHECK(kill(waited_for, SIGKILL) == 0 && waitpid(waited_for, 0, 0) > 0);
    for (struct pollfd left = {ends[0], POLLIN, 0}; poll(&left, 1, 0) == 1;) CHECK(read(ends[0], drained, sizeof drained) > 0);
    while (sem_trywait(&semaphore) == 0) {}
}

int main(void) {
    pthread_t thread;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    sigset_t awaited;
    CHECK(pipe(ends) == 0 && sem_init(&semaphore, 0, 0) == 0);
    listener = socket(AF_UNIX, SOCK_STREAM, 0), epoll_file = epoll_create1(0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&name, sizeof name.sun_family) == 0 && listen(listener, 4) == 0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epoll_file, EPOLL_CTL_ADD, ends[0], &event) == 0);
    read_own_code();
    handle(SIGUSR2, on_signal, 0);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGRTMIN + 1);
    CHECK(pthread_sigmask(SIG_BLOCK, &awaited, 0) == 0);
    caller = (pid_t)syscall(SYS_gettid);
    CHECK(pthread_create(&thread, 0, interrupt, 0) == 0);
    for (int at = 0; at < KINDS * WAYS; at++) run(&kinds[at / WAYS], at);
    CHECK(pthread_join(thread, 0) == 0);
    return pass();
}
