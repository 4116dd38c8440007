// The smallest program of each kind, for tests that compare what calls are made or spoil the file.
//@ build: gcc -O2 hello.c -o $OUT
//@ build: gcc -O2 -static hello.c -o $OUT
//@ build: gcc -O2 -static-pie -fpie hello.c -o $OUT
//@ build: musl-gcc -O2 -static hello.c -o $OUT
//@ build: musl-gcc -O2 hello.c -o $OUT
//@ build: gcc -O2 -no-pie -fno-pie hello.c -o $OUT
#include <stdio.h>

int main(void) {
    puts("ok");
    return 0;
}
