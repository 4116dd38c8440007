// Every way to make code executable, each with a call that tells which it is: getpriority(106, number).
//@ build: gcc -O2 executable_ways.c -o $OUT
//@ build: gcc -O2 -static -no-pie executable_ways.c -o $OUT
//@ modes: plain summary trace
#include "guest.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>

enum { PAGE = 4096, READ = PROT_READ, RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC };

// mov $140, %eax; mov $106, %edi; mov $number, %esi; syscall; ret
static const unsigned char TEMPLATE[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0xbe, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
enum { OPERAND = 11 };

static int ways;

/* Code that makes the next call that nobody has made yet. */
static void write_code(void *at) {
    unsigned char code[sizeof TEMPLATE];
    memcpy(code, TEMPLATE, sizeof code);
    code[OPERAND] = (unsigned char)++ways;
    memcpy(at, code, sizeof code);
}

static void run(void *at) { CHECK_EQUAL(((long (*)(void))at)(), -EINVAL); }

static void *map(int protection) {
    void *at = mmap(0, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void protect(void *at, int protection) { CHECK(mprotect(at, PAGE, protection) == 0); }

static void *map_code(void) {
    void *at = map(RW);
    write_code(at);
    protect(at, RX);
    return at;
}

/* A file of two pages with code in both. */
static int open_code(int in_memory) {
    int fd = in_memory ? memfd_create("code", 0) : open("code", O_RDWR | O_CREAT | O_TRUNC, 0700);
    CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    unsigned char code[sizeof TEMPLATE];
    for (int page = 0; page < 2; page++) {
        write_code(code);
        CHECK(pwrite(fd, code, sizeof code, page * PAGE) == sizeof code);
    }
    return fd;
}

static char *map_file(void *at, int fd, int protection, int flags) {
    char *got = mmap(at, 2 * PAGE, protection, MAP_PRIVATE | flags, fd, 0);
    CHECK(got != MAP_FAILED);
    close(fd);
    return got;
}

static void run_both(char *at) {
    run(at);
    run(at + PAGE);
}

static void anonymous(void) {
    run(map_code());
    void *at = map(PROT_NONE);
    protect(at, RW);
    write_code(at);
    protect(at, READ);
    protect(at, RX);
    run(at);
    at = map(RW);
    write_code(at);
    CHECK(syscall(SYS_pkey_mprotect, at, PAGE, RX, -1) == 0);
    run(at);
    at = map(RW);
    write_code(at);
    protect(at, PROT_NONE);
    protect(at, RX);
    run(at);
    at = map(RW);
    write_code(at);
    protect(at, PROT_EXEC);
    run(at);
    at = map(RX);
    protect(at, RW);
    write_code(at);
    protect(at, RX);
    run(at);
}

/* mov data(%rip), %rax; ret; and bytes that are none of those: they stay what they are. */
static void with_data(void) {
    static const unsigned char code[] = {0x48, 0x8b, 0x05, 9, 0, 0, 0, 0xc3, 0x06, 0xb8, 140, 0, 0, 0, 0x0f, 0x05, 1, 0x0f, 0x05, 2, 0, 0x0f, 0x05, 0x06};
    unsigned char *at = map(RW);
    uint64_t data;
    memcpy(at, code, sizeof code);
    memcpy(&data, code + 16, sizeof data);
    protect(at, RX);
    CHECK_EQUAL(((uint64_t (*)(void))at)(), data);
    CHECK(memcmp(at, code, sizeof code) == 0);
}

static void of_files(void) {
    for (int in_memory = 0; in_memory < 2; in_memory++) {
        run_both(map_file(0, open_code(in_memory), RX, 0));
        char *at = map_file(0, open_code(in_memory), READ, 0);
        CHECK(mprotect(at, 2 * PAGE, RX) == 0);
        run_both(at);
        at = map_file(0, open_code(in_memory), RW, 0);
        write_code(at); /* the file's own code is never run */
        protect(at, RX);
        run(at);
        protect(at + PAGE, RX);
        run(at + PAGE);
    }
    /* Deleted, so that nothing is found by its name. */
    int fd = open_code(0);
    CHECK(unlink("code") == 0);
    char *at = map_file(0, fd, READ, 0);
    CHECK(mprotect(at, 2 * PAGE, RX) == 0);
    run_both(at);
}

/* The number in the code is another from now on. */
static void renumber(char *at) { at[OPERAND] = (char)++ways; }

static void code_that_changes(void) {
    char *at = map_code();
    run(at);
    for (int round = 0; round < 3; round++) {
        protect(at, RW);
        CHECK(memcmp(at, TEMPLATE, OPERAND) == 0 && memcmp(at + 15, TEMPLATE + 15, 3) == 0);
        renumber(at);
        protect(at, RX);
        run(at);
    }
    /* More code beside it. */
    protect(at, RW);
    renumber(at);
    write_code(at + 1024);
    protect(at, RX);
    run(at);
    run(at + 1024);
}

static void code_that_moves(void) {
    char *from = map_code();
    run(from);
    char *at = mremap(from, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    CHECK(at != MAP_FAILED);
    protect(at, RW);
    renumber(at);
    protect(at, RX);
    run(at);
    protect(at, RW);
    renumber(at);
    protect(at, RX);
    char *to = mmap(0, PAGE, RX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    run(to);
    /* Only the first page of a file is mapped, then both are. */
    int fd = open_code(0);
    char *room = mmap(0, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    at = mmap(room, PAGE, RX, MAP_PRIVATE | MAP_FIXED, fd, 0);
    CHECK(at == room && munmap(room + PAGE, 3 * PAGE) == 0);
    run(at);
    CHECK(mremap(at, PAGE, 2 * PAGE, 0) == at);
    run(at + PAGE);
    close(fd);
}

static void code_that_is_replaced(void) {
    char *at = map_file(0, open_code(0), RX, 0);
    run_both(at);
    run_both(map_file(at, open_code(1), RX, MAP_FIXED));
    CHECK(munmap(at, 2 * PAGE) == 0);
    CHECK(mmap(at, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    write_code(at);
    protect(at, RX);
    run(at);
    CHECK(mmap(at, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    write_code(at + 1);
    protect(at, RX);
    run(at + 1);
    /* What is thrown away comes back from the file, or is gone. */
    at = map_file(0, open_code(0), RX, 0);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0);
    run(at);
    CHECK(madvise(at, 2 * PAGE, MADV_DONTNEED) == 0);
    run(at + PAGE);
    at = map_code();
    run(at);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0);
    CHECK(at[0] == 0 && at[15] == 0);
    protect(at, RW);
    write_code(at);
    protect(at, RX);
    run(at);
}

static void in_the_heap(void) {
    char *start = sbrk(0);
    CHECK(sbrk(3 * PAGE) == start);
    char *at = (char *)(((uintptr_t)start + PAGE - 1) & -PAGE);
    for (int round = 0; round < 2; round++) {
        write_code(at);
        protect(at, RX);
        run(at);
        CHECK(brk(start) == 0 && brk(start + 3 * PAGE) == 0);
    }
}

static void where_reading_implies_execution(void) {
    int former = personality(0xffffffff);
    CHECK(personality(former | READ_IMPLIES_EXEC) != -1);
    run_both(map_file(0, open_code(0), READ, 0));
    char *at = map(PROT_NONE);
    CHECK(personality(former) != -1);
    protect(at, RW);
    write_code(at);
    CHECK(personality(former | READ_IMPLIES_EXEC) != -1);
    protect(at, READ);
    run(at);
    CHECK(personality(former) != -1);
}

static void in_a_child(void) {
    pid_t child = fork();
    if (child == 0) {
        run(map_code());
        _exit(0);
    }
    ways++;
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    anonymous();
    with_data();
    of_files();
    code_that_changes();
    code_that_moves();
    code_that_is_replaced();
    in_the_heap();
    where_reading_implies_execution();
    in_a_child();
    CHECK(ways < 128);
    printf("%d\n", ways);
    return pass();
}
