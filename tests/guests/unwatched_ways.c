// Ways to come by code that no mapping call shows: memory that is writable and executable at once, by one mapping or by
// two, and what others write. Each makes a call that tells which it is: getpriority(106, number).
//@ build: gcc -O2 -mno-red-zone unwatched_ways.c -o $OUT
//@ build: gcc -O2 -mno-red-zone -static -no-pie unwatched_ways.c -o $OUT
//@ modes: plain summary trace
#include "marker.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include <sys/wait.h>

static int ways;

/* mov $140, %eax; mov $106, %edi; mov $number, %esi; syscall; ret */
static const unsigned char TEMPLATE[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0xbe, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
enum { OPERAND = 11, LEN = sizeof TEMPLATE };

/* The code of a way that has not been gone yet. */
static unsigned char *code(void) {
    static unsigned char code[LEN];
    memcpy(code, TEMPLATE, LEN);
    code[OPERAND] = (unsigned char)++ways;
    return code;
}

static void *map_shared(int fd, int protection) {
    void *at = mmap(0, PAGE, protection, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static int open_memory(void) {
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    return fd;
}

static void in_writable_code(void) {
    char *at = map_anonymous(PAGE, RWX);
    run_marker(memcpy(at, code(), LEN));
    at[OPERAND] = (char)++ways;
    run_marker(at);
    run_marker(memcpy(at + 1024, code(), LEN));
    char *page = map_anonymous(PAGE, RW);
    CHECK(mprotect(page, PAGE, RWX) == 0);
    run_marker(memcpy(page, code(), LEN));
    /* Operands change in front of a call, and the code is copied. */
    page = map_anonymous(PAGE, RW);
    memcpy(page, code(), LEN);
    CHECK(mprotect(page, PAGE, RWX) == 0);
    run_marker(page);
    page[1] = SYS_getpid;
    CHECK_EQUAL(((long (*)(void))page)(), getpid());
    page[1] = SYS_getpriority;
    page[OPERAND] = (char)++ways;
    run_marker(page);
    memcpy(page + 1024, page, LEN);
    page[1024 + OPERAND] = (char)++ways;
    run_marker(page + 1024);
    char stack[2 * PAGE] __attribute__((aligned(4096)));
    CHECK(mprotect(stack, PAGE, RWX) == 0);
    run_marker(memcpy(stack, code(), LEN));
    CHECK(mprotect(stack, PAGE, RW) == 0);
    run_marker(memcpy(map_shared(open_memory(), RWX), code(), LEN));
}

static void by_two_mappings(void) {
    int fd = open_memory();
    char *writable = map_shared(fd, RW), *executable = map_shared(fd, RX);
    memcpy(writable, code(), LEN);
    run_marker(executable);
    writable[OPERAND] = (char)++ways;
    run_marker(executable);
    CHECK(munmap(executable, PAGE) == 0);
    /* Made executable when all is written, as .NET does. */
    memcpy(writable, code(), LEN);
    executable = map_shared(fd, PROT_READ);
    CHECK(mprotect(executable, PAGE, RX) == 0);
    run_marker(executable);
    int id = shmget(IPC_PRIVATE, PAGE, 0700);
    writable = shmat(id, 0, 0);
    executable = shmat(id, 0, SHM_EXEC | SHM_RDONLY);
    CHECK(writable != (void *)-1 && executable != (void *)-1 && shmctl(id, IPC_RMID, 0) == 0);
    memcpy(writable, code(), LEN);
    run_marker(executable);
}

static void by_the_file(void) {
    int fd = open_memory();
    char *shared = map_shared(fd, RX), *private = mmap(0, PAGE, RX, MAP_PRIVATE, fd, 0);
    CHECK(private != MAP_FAILED);
    CHECK(pwrite(fd, code(), LEN, 0) == LEN);
    run_marker(shared);
    CHECK(pwrite(fd, code(), LEN, 0) == LEN);
    run_marker(private);
    CHECK(pwrite(fd, code(), LEN, PAGE) == LEN);
    CHECK(remap_file_pages(shared, PAGE, 0, 1, 0) == 0);
    run_marker(shared);
}

static void by_the_kernel(void) {
    char *at = map_anonymous(PAGE, RWX);
    struct iovec from = {code(), LEN}, to = {at, LEN};
    CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == LEN);
    run_marker(at);
    int memory = open("/proc/self/mem", O_RDWR);
    at = map_anonymous(PAGE, RX);
    CHECK(pwrite(memory, code(), LEN, (off_t)(uintptr_t)at) == LEN);
    run_marker(at);
    int ends[2];
    at = map_anonymous(PAGE, RWX);
    CHECK(pipe(ends) == 0 && write(ends[1], code(), LEN) == LEN && read(ends[0], at, LEN) == LEN);
    run_marker(at);
}

static void by_user_faults(void) {
    int fd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    if (fd < 0) return;
    char *at = map_anonymous(PAGE, RX), *from = map_anonymous(PAGE, RW);
    memcpy(from, code(), LEN);
    struct uffdio_register all = {.range = {(uintptr_t)at, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    struct uffdio_copy copy = {.dst = (uintptr_t)at, .src = (uintptr_t)from, .len = PAGE};
    CHECK(ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &all) == 0);
    CHECK(ioctl(fd, UFFDIO_COPY, &copy) == 0);
    run_marker(at);
}

static void by_another_process(void) {
    int fd = open_memory();
    char *executable = map_shared(fd, RX);
    unsigned char *fresh = code();
    pid_t child = fork();
    if (child == 0) _exit(memcpy(map_shared(fd, RW), fresh, LEN) == 0);
    CHECK(waitpid(child, 0, 0) == child);
    run_marker(executable);
    /* A tracer writes to what its tracee executes. */
    char *at = map_anonymous(PAGE, RX);
    fresh = code();
    child = fork();
    if (child == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        run_marker(at);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    for (size_t word = 0; word < LEN; word += sizeof(long)) {
        long bytes = 0;
        memcpy(&bytes, fresh + word, LEN - word < sizeof bytes ? LEN - word : sizeof bytes);
        CHECK(ptrace(PTRACE_POKETEXT, child, at + word, bytes) == 0);
    }
    CHECK(ptrace(PTRACE_DETACH, child, 0, 0) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Into the middle of `mov $0x90c3050f, %eax; ret`. */
static void into_an_instruction(void) {
    static const unsigned char hidden[] = {0xb8, 0x0f, 0x05, 0xc3, 0x90, 0xc3};
    char *at = map_anonymous(PAGE, RW);
    memcpy(at, hidden, sizeof hidden);
    CHECK(mprotect(at, PAGE, RX) == 0);
    for (int round = 0; round < 2; round++) {
        CHECK_EQUAL((uint32_t)((long (*)(void))at)(), 0x90c3050f);
        long result;
        __asm__ volatile("call *%1" : "=a"(result) : "r"(at + 1), "0"(140), "D"(106), "S"(++ways) : "rcx", "r11", "memory");
        CHECK_EQUAL(result, -EINVAL);
        CHECK(memcmp(at, hidden, sizeof hidden) == 0);
    }
}

int main(void) {
    in_writable_code();
    by_two_mappings();
    by_the_file();
    by_the_kernel();
    by_user_faults();
    by_another_process();
    into_an_instruction();
    CHECK(ways < 128);
    printf("%d\n", ways);
    return pass();
}
