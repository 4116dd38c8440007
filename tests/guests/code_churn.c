// Code that comes and goes: what the loader keeps for it goes too, and each call is seen. `code_churn SRC LOADS` loads a
// library so often, and generates code ten times as often.
//@ build: gcc -O2 code_churn.c -o $OUT -ldl -lpthread
//@ run: $OUT $SRC
//@ modes: summary
//@ seconds: 300
#ifdef LIBRARY
#include <sys/syscall.h>
#include <unistd.h>
long first(void) { return syscall(SYS_getpgid, 0); }
long second(long nr, long pid) {
    long result;
    __asm__ volatile("mov $140, %%eax\n syscall" : "=a"(result) : "D"(106), "S"(pid) : "rcx", "r11", "memory");
    return result + nr;
}
#else
#include "marker.h"
#include <dlfcn.h>
#include <pthread.h>

static long markers;

struct size { long mappings, pages; };

static struct size size(void) {
    struct size size = {0, 0};
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) size.mappings++;
    fclose(maps);
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(fscanf(statm, "%*d %ld", &size.pages) == 1);
    fclose(statm);
    return size;
}

static void check_size(struct size before) {
    struct size now = size();
    if (now.mappings > before.mappings + 2 || now.pages > before.pages + 40)
        fprintf(stderr, "%ld mappings, then %ld; %ld pages, then %ld\n", before.mappings, now.mappings,
                before.pages, now.pages);
    CHECK(now.mappings <= before.mappings + 2 && now.pages <= before.pages + 40);
}

static void run(char *at) {
    run_marker(at);
    __atomic_fetch_add(&markers, 1, __ATOMIC_RELAXED);
}

static char *map_at(char *at, long len) {
    char *got = mmap(at, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(got != MAP_FAILED);
    return got;
}

/* The same addresses again and again. */
static void generate(int rounds) {
    for (int round = 0; round < rounds; round++) {
        char *at = map_at(0, PAGE);
        memcpy(at, MARKER, sizeof MARKER);
        CHECK(mprotect(at, PAGE, RX) == 0);
        run(at);
        CHECK(munmap(at, PAGE) == 0);
    }
}

/* Never the same address: more sites than the gate has stubs. */
static void wander(int rounds) {
    for (int round = 0; round < rounds; round++) {
        char *at = map_at((char *)0x200000000000 + (long)round * 4 * PAGE, PAGE);
        for (int offset = 0; offset < PAGE; offset += 32) memcpy(at + offset, MARKER, sizeof MARKER);
        CHECK(mprotect(at, PAGE, RX) == 0);
        for (int offset = 0; offset < PAGE; offset += 32) run(at + offset);
        CHECK(munmap(at, PAGE) == 0);
    }
}

static void load(const char *path, int rounds) {
    for (int round = 0; round < rounds; round++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECK(library != 0);
        CHECK_EQUAL(((long (*)(void))dlsym(library, "first"))(), getpgrp());
        CHECK_EQUAL(((long (*)(long, long))dlsym(library, "second"))(1, 0), 1 - EINVAL);
        markers++;
        CHECK(dlclose(library) == 0);
    }
}

static void *wait_for_end(void *pipe) {
    char byte;
    return read(*(int *)pipe, &byte, 1) == 0 ? pipe : 0;
}

static void all(const char *path, int loads) {
    generate(10);
    struct size before = size();
    generate(10 * loads);
    check_size(before);
    load(path, 10);
    before = size();
    load(path, loads);
    check_size(before);
}

static void *generate_too(void *rounds) {
    generate(*(int *)rounds);
    return rounds;
}

static void generate_at_once(int rounds) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++) CHECK(pthread_create(&threads[at], 0, generate_too, &rounds) == 0);
    for (int at = 0; at < THREADS; at++) CHECK(pthread_join(threads[at], 0) == 0);
}

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    int loads = argc > 2 ? atoi(argv[2]) : 2000;
    char command[4096];
    snprintf(command, sizeof command, "gcc -O2 -shared -fPIC -DLIBRARY %s -o library.so", argv[1]);
    CHECK(system(command) == 0);
    all("./library.so", loads);
    wander(10);
    struct size before = size();
    wander(700); /* 128 sites each */
    check_size(before);
    int ends[2];
    pthread_t thread;
    CHECK(pipe(ends) == 0 && pthread_create(&thread, 0, wait_for_end, ends) == 0);
    all("./library.so", loads);
    close(ends[1]);
    void *result;
    CHECK(pthread_join(thread, &result) == 0 && result == ends);
    generate_at_once(10);
    before = size();
    generate_at_once(loads);
    check_size(before);
    return pass_after(markers);
}
#endif
