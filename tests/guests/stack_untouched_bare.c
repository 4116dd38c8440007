// The same calls on the same impossible stacks, from a site that has no dead byte within reach of a short jump.
//@ build: gcc -O2 -DBARE stack_untouched_bare.c -o $OUT
#include "stack_untouched.c"
