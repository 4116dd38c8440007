// A program to be looked at with a debugger: a function of its own, and one of the C library that makes a call.
//@ build: gcc -g -O0 stepped.c -o $OUT
//@ build: gcc -g -O0 -no-pie stepped.c -o $OUT
//@ build: gcc -g -O0 -static stepped.c -o $OUT
#include <stdio.h>
#include <unistd.h>

static int sum(int left, int right) { return left + right; }

int main(void) {
    int all = sum(40, 2);
    printf("%d %d\n", all, getppid() > 0);
    puts("ok");
    return 0;
}
