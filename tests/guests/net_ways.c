// Calls that only the kernel can catch, in threads and processes of every kind. Prints how many there were.
//@ build: gcc -O2 -pthread net_ways.c -o $OUT
//@ build: gcc -O2 -pthread -static net_ways.c -o $OUT
//@ build: musl-gcc -O2 -static net_ways.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC, RWX = RW | PROT_EXEC };

/* mov $140, %eax; mov $106, %edi; syscall; ret: getpriority(106, ...) */
static const unsigned char CODE[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0x0f, 0x05, 0xc3};

/* Not reached but by a jump into its constant: mov $0xc3050f, %eax. */
ASM_FUNCTION(hidden, "mov $0x00c3050f, %eax\n ret");
extern char hidden[];
/* Data between code; the last is a call with a prefix. */
ASM_FUNCTION(data, "ret\n .byte 0x06, 0x06, 0x0f, 0x05, 0xc3, 0x06, 0x06, 0x48, 0x0f, 0x05, 0xc3, 0x06");
extern char data[];

static volatile int marks;

static long enter(const void *at) {
    register long result __asm__("rax") = SYS_getpriority;
    __asm__ volatile("call *%1" : "+a"(result) : "r"(at), "D"(106L), "S"(0L) : "rcx", "r11", "memory");
    return result;
}

static void mark(const void *at) {
    CHECK_EQUAL(enter(at), -EINVAL);
    marks++;
}

static void *map(int protection, int flags, int fd) {
    void *at = mmap(0, PAGE, protection, flags, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void writable(void) {
    unsigned char *at = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (int round = 0; round < 10; round++) {
        memcpy(at + round * sizeof CODE, CODE, sizeof CODE);
        mark(at + round * sizeof CODE);
    }
    CHECK(munmap(at, PAGE) == 0);
}

static void twice_mapped(void) {
    int fd = memfd_create("code", 0);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    void *writable = map(RW, MAP_SHARED, fd), *executable = map(RX, MAP_SHARED, fd);
    void *private = map(RX, MAP_PRIVATE, fd);
    memcpy(writable, CODE, sizeof CODE);
    mark(executable);
    mark(private);
    close(fd);
}

static void written_from_outside(void) {
    unsigned char *at = map(RX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int memory = open("/proc/self/mem", O_RDWR);
    CHECK(memory >= 0 && pwrite(memory, CODE, sizeof CODE, (off_t)(uintptr_t)at) == sizeof CODE);
    close(memory);
    mark(at);
    at = map(RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct iovec from = {(void *)CODE, sizeof CODE}, to = {at, sizeof CODE};
    CHECK(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof CODE);
    mark(at);
}

static void in_text(void) {
    unsigned char before[32];
    memcpy(before, data, sizeof before);
    for (int round = 0; round < 10000; round++) mark(data + 3);
    mark(data + 8);
    mark(data + 9);
    mark(hidden + 1);
    CHECK(memcmp(before, data, sizeof before) == 0 && ((int (*)(void))hidden)() == 0xc3050f);
}

static void *in_thread(void *argument) {
    for (int round = 0; round < 100; round++) mark(data + 3);
    return argument;
}

static int in_child(void *argument) {
    (void)argument;
    _exit(enter(data + 3) == -EINVAL ? 0 : 1);
}

static void expect_good(pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, __WALL) == child);
    CHECK_EQUAL(status, 0);
    marks++;
}

static void children(char **argv) {
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, in_thread, 0) == 0 && pthread_join(thread, 0) == 0);
    pid_t child = fork();
    if (child == 0) in_child(0);
    expect_good(child);
    child = vfork();
    if (child == 0) _exit(enter(data + 3) == -EINVAL ? 0 : 1);
    expect_good(child);
    static char stack[65536] __attribute__((aligned(16)));
    expect_good(clone(in_child, stack + sizeof stack, CLONE_VM | SIGCHLD, 0));
    expect_good(clone(in_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0));
    expect_good(clone(in_child, stack + sizeof stack, SIGCHLD, 0));
    child = vfork();
    if (child == 0) {
        execve("/proc/self/exe", (char *[]){argv[0], (char *)"child", 0}, (char *[]){0});
        _exit(1);
    }
    expect_good(child);
}

int main(int argc, char **argv) {
    if (argc > 1) return enter(data + 3) == -EINVAL ? 0 : 1;
    writable();
    twice_mapped();
    written_from_outside();
    in_text();
    children(argv);
    printf("%d\n", marks);
    return pass();
}
