// Code that is patched, replaced and thrown away while threads execute it, a number of times that may be named.
//@ build: gcc -O2 code_live.c -o $OUT -lpthread
//@ modes: plain summary trace
//@ seconds: 120
#include "guest.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

enum { PAGE = 4096, LINE = 64, RWX = PROT_READ | PROT_WRITE | PROT_EXEC, RX = PROT_READ | PROT_EXEC };
enum { THREADS = 2, CALLS = 3 };

static int rounds = 100;

/* mov $140, %eax; syscall; ret: getpriority with what the caller passes. */
static const unsigned char CODE[] = {0xb8, 140, 0, 0, 0, 0x0f, 0x05, 0xc3};

typedef long (*function)(long, long);

static function current;
static int round_now, phase, arrived;

static void await(int *what, int value) {
    while (__atomic_load_n(what, __ATOMIC_ACQUIRE) != value) sched_yield();
}

static void *hammer(void *unused) {
    for (int round = 1; round <= rounds; round++) {
        await(&round_now, round);
        function call = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
        CHECK_EQUAL(call(106, 0), -EINVAL);
        __atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&phase, __ATOMIC_ACQUIRE) != round) CHECK_EQUAL(call(106, 0), -EINVAL);
        for (int time = 0; time < CALLS; time++) CHECK_EQUAL(call(106, 1), -EINVAL);
        __atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
    }
    return unused;
}

/* At every distance from the end of a cache line, and of a page, in turn. */
static void hammered(void) {
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++) CHECK(pthread_create(&threads[at], 0, hammer, 0) == 0);
    for (int round = 1; round <= rounds; round++) {
        char *page = mmap(0, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED);
        enum { DISTANCES = sizeof CODE + 2 };
        char *code = page + (round / DISTANCES % 2 == 0 ? 2 * LINE : PAGE) - round % DISTANCES;
        memcpy(code, CODE, sizeof CODE);
        __atomic_store_n(&arrived, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&current, (function)code, __ATOMIC_RELEASE);
        __atomic_store_n(&round_now, round, __ATOMIC_RELEASE);
        await(&arrived, THREADS);
        CHECK(mprotect(page, 2 * PAGE, RX) == 0);
        __atomic_store_n(&phase, round, __ATOMIC_RELEASE);
        await(&arrived, 2 * THREADS);
        CHECK(munmap(page, 2 * PAGE) == 0);
    }
    for (int at = 0; at < THREADS; at++) CHECK(pthread_join(threads[at], 0) == 0);
}

static int ends[2], handled;

static void handle(int number) { __atomic_fetch_add(&handled, number == SIGUSR1, __ATOMIC_RELEASE); }

/* mov $0, %eax; syscall; ret: read. */
static const unsigned char READ_CODE[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};

static char *parked_page;
static int interrupted;

static pid_t parked_thread;

static void *park(void *unused) {
    char byte = 0;
    __atomic_store_n(&parked_thread, gettid(), __ATOMIC_RELEASE);
    long (*call)(int, char *, long) = (long (*)(int, char *, long))(parked_page + LINE - 6);
    long result = call(ends[0], &byte, 1);
    if (result == -EINTR) CHECK_EQUAL(interrupted++, 0);
    else CHECK(result == 1 && byte == 'x');
    return unused;
}

/* Waits until the thread is in the call: the kernel shows its number, which is 0, and no number of one that runs. */
static void await_parked(void) {
    char path[64], state[2] = "";
    pid_t thread;
    while ((thread = __atomic_load_n(&parked_thread, __ATOMIC_ACQUIRE)) == 0) sched_yield();
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    while (memcmp(state, "0 ", 2) != 0) {
        FILE *file = fopen(path, "r");
        CHECK(file && fread(state, 1, 2, file) == 2);
        fclose(file);
    }
}

/* A thread is in the call while its instruction is patched, and is interrupted before it comes back. */
static void parked(int interruptions, int flags) {
    parked_page = mmap(0, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(parked_page != MAP_FAILED && pipe(ends) == 0);
    memcpy(parked_page + LINE - 6, READ_CODE, sizeof READ_CODE);
    struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    handled = interrupted = parked_thread = 0;
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, park, 0) == 0);
    await_parked();
    CHECK(mprotect(parked_page, PAGE, RX) == 0);
    for (int time = 0; time < interruptions; time++) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        await(&handled, time + 1);
        usleep(10000);
    }
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(pthread_join(thread, 0) == 0);
    CHECK_EQUAL(interrupted, interruptions > 0 && !(flags & SA_RESTART));
}

enum { STEADY_CALLS = 10000 };

static int done;

static void *call_steadily(void *code) {
    for (int time = 0; time < STEADY_CALLS; time++) CHECK_EQUAL(((function)code)(106, 2), -EINVAL);
    __atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
    return 0;
}

/* Natively there is no moment at which the code is not there. */
static void replaced(void) {
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0 && pwrite(fd, CODE, sizeof CODE, 2 * LINE - 6) == sizeof CODE);
    char *page = mmap(0, PAGE, RX, MAP_PRIVATE, fd, 0);
    CHECK(page != MAP_FAILED);
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++)
        CHECK(pthread_create(&threads[at], 0, call_steadily, page + 2 * LINE - 6) == 0);
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != THREADS) {
        CHECK(mmap(page, PAGE, RX, MAP_PRIVATE | MAP_FIXED, fd, 0) == page);
        CHECK(madvise(page, PAGE, MADV_DONTNEED) == 0);
        CHECK(mprotect(page, PAGE, RX) == 0);
    }
    for (int at = 0; at < THREADS; at++) CHECK(pthread_join(threads[at], 0) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1) rounds = atoi(argv[1]);
    hammered();
    replaced();
    for (int interruptions = 0; interruptions < 3; interruptions++) parked(interruptions, SA_RESTART);
    for (int interruptions = 0; interruptions < 2; interruptions++) parked(interruptions, 0);
    printf("%d %d calls of patched code\n", THREADS * rounds * CALLS, THREADS * STEADY_CALLS);
    return pass();
}
