// clone3 with every size of its argument, valid and not: the child starts at the top of the stack that was named; a
// refusal has the kernel's own errno, and the argument is never written to.
//@ build: gcc -O2 clone3.c -o $OUT
//@ build: gcc -O2 -static clone3.c -o $OUT
#include "guest.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

volatile uint64_t child_rsp, child_r8, child_rdx;
long clone3_and_exit(const void *args, uint64_t size, uint64_t rdx, uint64_t unused, uint64_t r8);
__asm__(".text\n clone3_and_exit: mov $435, %eax\n syscall\n test %rax, %rax\n jz 1f\n ret\n"
        "1: mov %rsp, child_rsp(%rip)\n mov %r8, child_r8(%rip)\n mov %rdx, child_rdx(%rip)\n"
        "mov $60, %eax\n mov $5, %edi\n syscall\n ud2\n");

static uint64_t page[512] __attribute__((aligned(4096)));

static long attempt(struct clone_args args, uint64_t size) {
    memset(page, 0, sizeof page);
    memcpy(page, &args, sizeof args);
    long result = clone3_and_exit(page, size, 0x1234567890, 0, 0x888888888);
    CHECK(memcmp(page, &args, sizeof args) == 0);
    return result;
}

int main(void) {
    char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    volatile int tid_word = 1;
    struct clone_args thread = {
        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID,
        .child_tid = (uint64_t)&tid_word, .stack = (uint64_t)stack, .stack_size = 65536 - 24,
    };
    // 64 is the first version of the structure, 80 the second, 88 the third; zeros beyond are let through.
    const uint64_t sizes[] = {64, 80, 88, 96, 4096};
    for (int round = 0; round < 20; round++)
        for (int at = 0; at < 5; at++) {
            tid_word = 1, child_rsp = child_r8 = child_rdx = 0;
            long tid = attempt(thread, sizes[at]);
            CHECK(tid > 0);
            while (tid_word != 0) syscall(SYS_futex, &tid_word, FUTEX_WAIT, 1, 0, 0, 0);
            CHECK_EQUAL(child_rsp, stack + 65536 - 24);
            CHECK_EQUAL(child_r8, 0x888888888);
            CHECK_EQUAL(child_rdx, 0x1234567890);
        }
    // Like fork: no stack named, so the child goes on with a copy of ours.
    struct clone_args process = {.exit_signal = 17};
    for (int round = 0; round < 20; round++) {
        long pid = attempt(process, 88);
        int status;
        CHECK(pid > 0);
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(status, 5 << 8);
    }
    struct clone_args no_size = thread, no_stack = thread;
    no_size.stack_size = 0, no_stack.stack = 0;
    for (int round = 0; round < 100; round++) {
        CHECK_EQUAL(attempt(no_size, 88), -EINVAL);
        CHECK_EQUAL(attempt(no_stack, 88), -EINVAL);
        CHECK_EQUAL(attempt(thread, 0), -EINVAL);
        CHECK_EQUAL(attempt(thread, 63), -EINVAL);
        CHECK_EQUAL(attempt(thread, 4097), -E2BIG);
        CHECK_EQUAL(clone3_and_exit(0, 88, 0, 0, 0), -EFAULT);
        CHECK_EQUAL(clone3_and_exit((void *)1, 88, 0, 0, 0), -EFAULT);
        CHECK_EQUAL(clone3_and_exit((void *)0x7fffffffeff8, 88, 0, 0, 0), -EFAULT);
    }
    memset(page, 0, sizeof page);
    memcpy(page, &thread, sizeof thread);
    page[12] = 1;
    CHECK_EQUAL(clone3_and_exit(page, 104, 0, 0, 0), -E2BIG);
    return pass();
}
