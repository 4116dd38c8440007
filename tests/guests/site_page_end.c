// A system call at the very end of a page, across two pages, and as the last two bytes of a mapping; both in code
// made at run time and in the program's own text.
//@ build: gcc -O2 site_page_end.c -o $OUT
//@ build: gcc -O2 -static site_page_end.c -o $OUT
#include "guest.h"
#include <sys/mman.h>
#include <sys/wait.h>

long at_page_end(long nr), across_pages(long nr);
__asm__(".section .text.pages,\"ax\",@progbits\n .balign 4096\n"
        ".skip 4091, 0x90\n at_page_end: mov %rdi, %rax\n syscall\n"
        "ret\n .skip 4091, 0x90\n across_pages: mov %rdi, %rax\n syscall\n ret\n .text\n");

static const unsigned char mov_syscall[] = {0x48, 0x89, 0xf8, 0x0f, 0x05}; // mov %rdi, %rax; syscall

/* Code whose call starts `before_end` bytes before the end of the first of two pages; then the pages become code. */
static unsigned char *make(int before_end, int has_second) {
    unsigned char *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    unsigned char *start = pages + 4096 - before_end - 3;
    memcpy(start, mov_syscall, 5);
    if (has_second) start[5] = 0xc3;
    else CHECK(munmap(pages + 4096, 8192) == 0);
    CHECK(mprotect(pages, has_second ? 8192 : 4096, PROT_READ | PROT_EXEC) == 0);
    return start;
}

typedef long function(long);

int main(void) {
    /* Through volatile: compilers take it for granted that functions are aligned. */
    volatile uint64_t end = (uint64_t)at_page_end, across = (uint64_t)across_pages;
    CHECK_EQUAL((end + 5) % 4096, 0);
    CHECK_EQUAL((across + 4) % 4096, 0);
    long pid = getpid();
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(at_page_end(SYS_getpid), pid);
        CHECK_EQUAL(across_pages(SYS_getpid), pid);
    }
    function *whole = (function *)make(2, 1), *split = (function *)make(1, 1);
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(whole(SYS_getpid), pid);
        CHECK_EQUAL(split(SYS_getpid), pid);
    }
    function *last = (function *)make(2, 0);
    pid = fork();
    if (pid == 0) {
        register long status __asm__("rdi") = SYS_exit_group;
        __asm__ volatile("jmp *%0" : : "r"(last), "r"(status)); // exit_group(231): there is nothing to return to
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), SYS_exit_group);
    return pass();
}
