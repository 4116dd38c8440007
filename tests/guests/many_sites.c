// One function with very many system calls in a row: more than stubs for the larger variant. All are made and seen, and what
// there is no room for takes nothing from the libraries.
//@ build: gcc -O1 -DCALLS=20000 many_sites.c -o $OUT
//@ build: gcc -O1 -DCALLS=70000 many_sites.c -o $OUT
#include "guest.h"

#define TEXT_OF(number) TEXT(number)
#define TEXT(number) #number

ASM_FUNCTION(many_calls, ".rept " TEXT_OF(CALLS) "\n mov $140, %eax\n mov $106, %edi\n syscall\n .endr\n ret");

extern void many_calls(void);

int main(void) {
    many_calls();
    printf("%d marker calls\n", CALLS);
    return pass();
}
