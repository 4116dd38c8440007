// Whoever jumps to any instruction around a system call, the call itself included, gets what the bytes say: as setjmp
// buffers, jump tables and signal frames do. The wrappers have the shapes that libraries have.
//@ build: gcc -O2 site_boundaries.c -o $OUT
//@ build: gcc -O2 -static site_boundaries.c -o $OUT
#include "guest.h"

/* Jumps to `where` with these registers; gives rax, and rbx in *second. */
static long enter(const void *where, long rax, long rbx, long *second) {
    long result;
    __asm__ volatile("call *%[where]" : "=a"(result), "+b"(rbx) : "a"(rax), [where] "r"(where)
                     : "rcx", "r11", "rdx", "cc", "memory");
    *second = rbx;
    return result;
}

// Labels stand at every boundary; each wrapper returns with what was executed told by rax and rbx.
// Symbols of functions stand at the start of each, as compilers write them.
__asm__(".text\n.type a0, @function\n.type b0, @function\n.type c0, @function\n.type d0, @function\n"
        "a0: add $1, %rbx\n a1: mov $39, %eax\n a2: syscall\n a3: add $16, %rbx\n a4: cmp $-4095, %rax\n"
        "a5: jae 1f\n a6: ret\n 1: mov $-1, %rax\n ret\n"
        "b0: xchg %rbx, %rdx\n b1: xchg %rbx, %rdx\n b2: mov %rax, %rax\n b3: syscall\n b4: ret\n int3\n int3\n"
        "c0: push %rbx\n c1: pop %rbx\n c2: syscall\n c3: inc %rbx\n c4: ret\n"
        ".balign 16\n d0: endbr64\n d1: mov $110, %eax\n d2: syscall\n d3: ret\n nop\n nop\n");
extern const char a0[], a1[], a2[], a3[], a4[], a6[], b0[], b2[], b3[], b4[], c0[], c2[], c3[], c4[];
extern const char d0[], d1[], d2[], d3[];

/* At this boundary, with this rax and rbx: what rax and rbx must be then. */
#define EXPECT(boundary, rax, rbx, rax_then, rbx_then)             \
    do {                                                           \
        CHECK_EQUAL(enter(boundary, rax, rbx, &second), rax_then); \
        CHECK_EQUAL(second, rbx_then);                             \
    } while (0)

int main(void) {
    long pid = getpid(), parent = getppid(), second;
    for (int round = 0; round < 1000; round++) {
        EXPECT(a0, 0, 0, pid, 17);
        EXPECT(a1, 0, 0, pid, 16);
        EXPECT(a2, SYS_getppid, 0, parent, 16);
        EXPECT(a2, 9999, 0, -1, 16);
        EXPECT(a3, 1234, 0, 1234, 16);
        EXPECT(a4, -5, 0, -1, 0);
        EXPECT(a6, 77, 5, 77, 5);
        EXPECT(b0, SYS_getppid, 3, parent, 3);
        EXPECT(b2, SYS_getpid, 3, pid, 3);
        EXPECT(b3, SYS_getppid, 3, parent, 3);
        EXPECT(b4, 8, 3, 8, 3);
        EXPECT(c0, SYS_getpid, 3, pid, 4);
        EXPECT(c2, SYS_getpid, 3, pid, 4);
        EXPECT(c3, 9, 3, 9, 4);
        EXPECT(c4, 9, 3, 9, 3);
        EXPECT(d0, 0, 0, parent, 0);
        EXPECT(d1, 0, 0, parent, 0);
        EXPECT(d2, SYS_getpid, 0, pid, 0);
        EXPECT(d3, 55, 0, 55, 0);
    }
    return pass();
}
