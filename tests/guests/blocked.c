// Blocks in read() below a few functions that a backtrace should name. Run by tests/debugger.rs.
//@ build: gcc -g -O1 -fno-optimize-sibling-calls blocked.c -o $OUT
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) int innermost(int fd) {
    char byte;
    return (int)read(fd, &byte, 1) + 1;
}

__attribute__((noinline)) int middle(int fd) {
    return innermost(fd) + 1;
}

int main(void) {
    puts("blocking");
    fflush(stdout);
    return middle(0) == 0;
}
