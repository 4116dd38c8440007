// Calls of the i386 table, made by code of 64 bits: results, errors and every register but rax, with signals in between.
//@ build: gcc -O2 -pthread int80.c -o $OUT
//@ build: gcc -O2 -pthread -static int80.c -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { I386_EXIT = 1, I386_READ = 3, I386_WRITE = 4, I386_GETPID = 20, I386_GETPPID = 64, I386_EXIT_GROUP = 252 };

__asm__(".pushsection .text\n"
        ".globl other_table, other_table_end\n .type other_table, @function\n"
        "other_table: push %rbx\n push %rbp\n mov %edi, %eax\n mov %rsi, %rbx\n mov %rdx, %r12\n"
        "mov %rcx, %rdx\n mov %r12, %rcx\n int $0x80\n other_table_end: pop %rbp\n pop %rbx\n ret\n"
        ".size other_table, . - other_table\n"
        /* Every register from an array and back into it: rax rbx rcx rdx rsi rdi rbp r8 to r15, flags. */
        ".globl whole_call\n .type whole_call, @function\n"
        "whole_call: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rdi\n"
        "mov 0(%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n mov 32(%rdi), %rsi\n"
        "mov 48(%rdi), %rbp\n mov 56(%rdi), %r8\n mov 64(%rdi), %r9\n mov 72(%rdi), %r10\n mov 80(%rdi), %r11\n"
        "mov 88(%rdi), %r12\n mov 96(%rdi), %r13\n mov 104(%rdi), %r14\n mov 112(%rdi), %r15\n"
        "push 120(%rdi)\n popfq\n mov 40(%rdi), %rdi\n"
        "int $0x80\n"
        "xchg %rdi, 0(%rsp)\n"
        "mov %rax, 0(%rdi)\n pushfq\n popq 120(%rdi)\n mov %rbx, 8(%rdi)\n mov %rcx, 16(%rdi)\n mov %rdx, 24(%rdi)\n"
        "mov %rsi, 32(%rdi)\n mov %rbp, 48(%rdi)\n mov %r8, 56(%rdi)\n mov %r9, 64(%rdi)\n mov %r10, 72(%rdi)\n"
        "mov %r11, 80(%rdi)\n mov %r12, 88(%rdi)\n mov %r13, 96(%rdi)\n mov %r14, 104(%rdi)\n mov %r15, 112(%rdi)\n"
        "pop 40(%rdi)\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        ".size whole_call, . - whole_call\n"
        ".popsection\n");
extern char other_table_end[];
long raw_other_table(int nr, long a, long b, long c) __asm__("other_table");
void whole_call(uint64_t registers[16]);

/* The function above gives no heed to r12. */
static long other_table(int nr, long a, long b, long c) {
    long result;
    __asm__ volatile("call other_table"
                     : "=a"(result), "+D"(nr), "+S"(a), "+d"(b), "+c"(c)
                     :
                     : "r8", "r9", "r10", "r11", "r12", "memory", "cc");
    return (int)result;
}

static void registers(void) {
    uint64_t registers[16];
    for (int index = 0; index < 15; index++) registers[index] = 0x1111111111111111ul * (unsigned)(index + 1);
    registers[0] = 0xabcd00000000ul | I386_GETPID; // the upper half is nobody's
    registers[15] = 0x8d7;                         // all arithmetic flags
    whole_call(registers);
    CHECK_EQUAL(registers[0], getpid());
    registers[0] = 0;
    for (int index = 0; index < 16; index++) printf("%d: %#lx\n", index, registers[index]);
}

static void results(void) {
    int ends[2];
    char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0), read_back[8];
    CHECK(low != MAP_FAILED && pipe(ends) == 0);
    strcpy(low, "pipes");
    CHECK_EQUAL(other_table(I386_WRITE, ends[1], (long)low, 5), 5);
    CHECK(read(ends[0], read_back, sizeof read_back) == 5 && !memcmp(read_back, "pipes", 5));
    CHECK_EQUAL(other_table(I386_WRITE, -1, (long)low, 5), -EBADF);
    CHECK_EQUAL(other_table(I386_WRITE, ends[1], 0, 5), -EFAULT);
    CHECK_EQUAL(other_table(100000, 0, 0, 0), -ENOSYS);
    CHECK_EQUAL(other_table(-1, 0, 0, 0), -ENOSYS);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

/* Code that is written, executed, written again and unmapped. */
static void written(void) {
    static const unsigned char code[] = {0x53, 0xb8, I386_GETPPID, 0, 0, 0, 0xcd, 0x80, 0x5b, 0xc3};
    pid_t parent = getppid();
    for (int round = 0; round < 50; round++) {
        char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED);
        for (int time = 0; time < 2; time++) {
            CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
            CHECK(time == 0 || !memcmp(page, code, sizeof code)); // its own bytes again
            memcpy(page, code, sizeof code);
            CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
            CHECK_EQUAL(((int (*)(void))page)(), parent);
        }
        CHECK(munmap(page, 4096) == 0);
    }
}

static volatile int alarms;

static void on_alarm(int number, siginfo_t *info, void *context) {
    (void)info;
    CHECK_EQUAL(number, SIGALRM);
    check_whereabouts(context);
    CHECK_EQUAL(other_table(I386_GETPID, 0, 0, 0), getpid());
    alarms++;
}

static void interrupted(void) {
    struct itimerval often = {{0, 300}, {0, 300}}, once = {{0, 0}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    pid_t pid = getpid();
    handle(SIGALRM, on_alarm, 0);
    CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
    while (alarms < 300)
        for (int round = 0; round < 1000; round++) CHECK_EQUAL(other_table(I386_GETPID, 0, 0, 0), pid);
    CHECK(setitimer(ITIMER_REAL, &never, 0) == 0);

    int ends[2], before = alarms;
    char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(low != MAP_FAILED && pipe(ends) == 0);
    CHECK(setitimer(ITIMER_REAL, &once, 0) == 0);
    CHECK_EQUAL(other_table(I386_READ, ends[0], (long)low, 5), -EINTR);
    CHECK_EQUAL(alarms, before + 1);
    // Made again: the other end is closed by then.
    handle(SIGALRM, on_alarm, SA_RESTART);
    pid_t child = fork();
    if (child == 0) {
        usleep(100000);
        _exit(0);
    }
    CHECK(close(ends[1]) == 0 && setitimer(ITIMER_REAL, &once, 0) == 0);
    CHECK_EQUAL(other_table(I386_READ, ends[0], (long)low, 5), 0);
    CHECK_EQUAL(alarms, before + 2);
    CHECK_EQUAL(waitpid(child, 0, 0), child);
}

static void *thread(void *unused) {
    (void)unused;
    for (int round = 0; round < 5000; round++) CHECK_EQUAL(other_table(I386_GETPID, 0, 0, 0), getpid());
    return 0;
}

int main(void) {
    pthread_t threads[3];
    int status;
    read_own_code();
    registers();
    results();
    written();
    interrupted();
    for (int index = 0; index < 3; index++) CHECK(pthread_create(&threads[index], 0, thread, 0) == 0);
    for (int index = 0; index < 3; index++) CHECK(pthread_join(threads[index], 0) == 0);
    pid_t child = fork();
    if (child == 0) other_table(I386_EXIT, 17, 0, 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 17);
    pass();
    fflush(stdout);
    other_table(I386_EXIT_GROUP, 0, 0, 0);
}
