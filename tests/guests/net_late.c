// Code that nobody can prove appears while threads run: all of them are caught at it, and their children.
//@ build: gcc -O2 -pthread net_late.c -o $OUT
//@ build: gcc -O2 -pthread -static net_late.c -o $OUT
#include "guest.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { THREADS = 6, ROUNDS = 500 };

/* mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; syscall; ret: the number is anything. */
static const unsigned char CODE[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x0f, 0x05, 0xc3};

static long (*volatile late)(long nr, long which, long who);
static volatile int calls;

static void mark(void) {
    CHECK_EQUAL(late(SYS_getpriority, 106, 7), -EINVAL);
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}

static void *worker(void *argument) {
    sigset_t set, old;
    sigfillset(&set);
    if (argument) CHECK(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
    while (!late) getppid();
    getppid();
    for (int round = 0; round < ROUNDS; round++) mark();
    if (argument) {
        CHECK(pthread_sigmask(SIG_SETMASK, 0, &set) == 0);
        CHECK(sigismember(&set, SIGSYS) == 1 && sigismember(&set, SIGILL) == 1);
        CHECK(pthread_sigmask(SIG_SETMASK, &old, 0) == 0);
    }
    return 0;
}

int main(void) {
    pthread_t threads[THREADS];
    for (long index = 0; index < THREADS; index++)
        CHECK(pthread_create(&threads[index], 0, worker, (void *)(index % 2)) == 0);
    unsigned char *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memcpy(at, CODE, sizeof CODE);
    CHECK(mprotect(at, 4096, PROT_READ | PROT_EXEC) == 0);
    __atomic_store_n(&late, (long (*)(long, long, long))at, __ATOMIC_RELEASE);
    mark();
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(threads[index], 0) == 0);
    pid_t child = fork();
    if (child == 0) {
        mark();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    calls++;
    CHECK(memcmp(at, CODE, sizeof CODE) == 0);
    printf("%d\n", calls);
    return pass();
}
