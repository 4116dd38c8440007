// A call that comes to be in quiet memory unseen, right behind the load of its number, and the same bytes as a constant.
// Prints how many calls there were and which of the two are no longer what was written.
//@ build: gcc -O2 -pthread net_patched.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

enum { THREADS = 4, ROUNDS = 5000 };

/* mov $106, %edi; xor %esi, %esi; mov $140, %eax; syscall; ret; two bytes that are no instructions. */
static const unsigned char CODE[] = {0xbf, 106, 0, 0, 0, 0x31, 0xf6, 0xb8, 140, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x06, 0x06};
/* movabs $..., %rdx; ret: the constant is mov $140, %eax; syscall; ret. */
static const unsigned char CONSTANT[] = {0x48, 0xba, 0xb8, 140, 0, 0, 0, 0x0f, 0x05, 0xc3, 0xc3, 0x06, 0x06};

static unsigned char *code, *constant;

static void *run(void *argument) {
    for (int round = 0; round < ROUNDS; round++) {
        long result = ((long (*)(void))code)();
        CHECK_EQUAL(result, -EINVAL);
        __asm__ volatile("call *%1" : "=a"(result) : "r"(constant + 2), "D"(106L), "S"(0L) : "rcx", "r11", "rdx", "memory");
        CHECK_EQUAL(result, -EINVAL);
    }
    return argument;
}

static unsigned char *put(const void *bytes, size_t len) {
    unsigned char *at = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int memory = open("/proc/self/mem", O_RDWR);
    CHECK(at != MAP_FAILED && pwrite(memory, bytes, len, (off_t)(uintptr_t)(at + 64)) == (ssize_t)len);
    close(memory);
    return at + 64;
}

int main(void) {
    code = put(CODE, sizeof CODE);
    constant = put(CONSTANT, sizeof CONSTANT);
    pthread_t threads[THREADS];
    for (int index = 0; index < THREADS; index++) CHECK(pthread_create(&threads[index], 0, run, 0) == 0);
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(threads[index], 0) == 0);
    printf("%d\n%s %s\n", 2 * THREADS * ROUNDS, memcmp(code, CODE, sizeof CODE) ? "patched" : "same",
           memcmp(constant, CONSTANT, sizeof CONSTANT) ? "patched" : "same");
    return pass();
}
