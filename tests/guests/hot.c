// A program that takes its time in a function of its own and in one of the C library, for profilers to see.
//@ build: gcc -O1 -g hot.c -o $OUT
//@ build: gcc -O1 -g -static hot.c -o $OUT
#include <stdio.h>
#include <stdlib.h>

static int order(const void *left, const void *right) { return *(const int *)left - *(const int *)right; }

__attribute__((noinline)) unsigned spin_in_program(unsigned rounds) {
    unsigned value = 1;
    for (unsigned at = 0; at < rounds; at++) value = value * 1664525 + 1013904223;
    return value;
}

int main(void) {
    static int numbers[200000];
    unsigned all = 0;
    for (int round = 0; round < 10; round++) {
        all += spin_in_program(20000000);
        for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) numbers[at] = (int)(at * 2654435761u);
        qsort(numbers, sizeof numbers / sizeof *numbers, sizeof *numbers, order);
    }
    printf("%u %d\n", all, numbers[0]);
    return 0;
}
