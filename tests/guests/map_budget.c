// No mapping is left to be had: code is mapped and made executable as far as natively, and again when there are some.
//@ build: gcc -O2 map_budget.c -o $OUT -ldl
//@ run: $OUT $SRC
//@ seconds: 300
#ifdef LIBRARY
#include <sys/syscall.h>
long answer(long nr) {
    long result;
    __asm__ volatile("mov $140, %%eax\n syscall" : "=a"(result) : "D"(106) : "rcx", "r11", "memory");
    return result + nr;
}
#else
#include "guest.h"
#include <dlfcn.h>
#include <sys/mman.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC };

/* mov $140, %eax; mov $106, %edi; syscall; ret */
static const unsigned char CODE[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0x0f, 0x05, 0xc3};

static void *map(long pages, int protection) {
    return mmap(0, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void run(void *at) { CHECK_EQUAL(((long (*)(void))at)(), -EINVAL); }

/* Every second page gets rights of its own until there is no room for one more mapping. */
static char *use_up(long *used) {
    enum { MOST = 200000 };
    char *all = map(2 * MOST, PROT_NONE);
    CHECK(all != MAP_FAILED);
    while (*used < MOST && mprotect(all + 2 * *used * PAGE, PAGE, PROT_READ) == 0) ++*used;
    return all;
}

/* Returns whether the library could be loaded; it works then. */
static int load(void) {
    void *library = dlopen("./library.so", RTLD_NOW);
    if (!library) return 0;
    CHECK_EQUAL(((long (*)(long))dlsym(library, "answer"))(1), 1 - EINVAL);
    CHECK(dlclose(library) == 0);
    return 1;
}

int main(int argc, char **argv) {
    enum { STEPS = 12, MAPPINGS_A_STEP = 5 };
    CHECK(argc == 2);
    char command[4096];
    snprintf(command, sizeof command, "gcc -O2 -shared -fPIC -DLIBRARY %s -o library.so", argv[1]);
    CHECK(system(command) == 0);
    char *fenced = map(3, PROT_NONE), *whole = map(4, RW);
    CHECK(fenced != MAP_FAILED && whole != MAP_FAILED && mprotect(fenced + PAGE, PAGE, RW) == 0);
    memcpy(fenced + PAGE, CODE, sizeof CODE);
    memcpy(whole + 2 * PAGE, CODE, sizeof CODE);
    long used = 0;
    char *all = use_up(&used);
    CHECK(errno == ENOMEM && used > 100);
    CHECK(mprotect(whole + 2 * PAGE, PAGE, RX) == -1 && errno == ENOMEM);
    CHECK(memcmp(whole + 2 * PAGE, CODE, sizeof CODE) == 0);
    whole[PAGE] = whole[2 * PAGE] = 'w';
    CHECK(!load());
    for (int round = 0; round < 3; round++) {
        CHECK(mprotect(fenced + PAGE, PAGE, RX) == 0);
        run(fenced + PAGE);
        CHECK(mprotect(fenced + PAGE, PAGE, RW) == 0);
        CHECK(memcmp(fenced + PAGE, CODE, sizeof CODE) == 0);
    }
    int is_loaded = 0;
    for (int step = 0; step < STEPS; step++) {
        for (int at = 0; at < MAPPINGS_A_STEP; at++)
            CHECK(mprotect(all + 2 * --used * PAGE, PAGE, PROT_NONE) == 0);
        char *fresh = map(1, RW);
        if (fresh != MAP_FAILED) {
            memcpy(fresh, CODE, sizeof CODE);
            if (mprotect(fresh, PAGE, RX) == 0) run(fresh);
            CHECK(munmap(fresh, PAGE) == 0);
        }
        is_loaded = load();
    }
    CHECK(is_loaded);
    return pass();
}
#endif
