/* What guests with signal handlers ask: whose code and whose stack a signal has interrupted, and whether a thread sleeps. */
#pragma once
#include "guest.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

/* The program's code: its own file's, its libraries', the vDSO's. Anonymous code is nobody's here. */
static struct { uintptr_t start, end; } own_code[64];
static int own_codes;

static int is_own_code(const char *path, const char *program) {
    const char *name = strrchr(path, '/');
    if (!strcmp(path, program) || !strcmp(path, "[vdso]") || !strcmp(path, "[vsyscall]")) return 1;
    return name && (!strncmp(name, "/lib", 4) || !strncmp(name, "/ld-", 4));
}

__attribute__((unused)) static void read_own_code(void) {
    char program[512], line[1024], path[512];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(len > 0);
    program[len] = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    own_codes = 0;
    while (fgets(line, sizeof line, maps)) {
        uintptr_t start, end;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %511s", &start, &end, rights, path) != 4) continue;
        if (rights[2] != 'x' || !is_own_code(path, program)) continue;
        CHECK(own_codes < 64);
        own_code[own_codes].start = start, own_code[own_codes].end = end;
        own_codes++;
    }
    CHECK(fclose(maps) == 0 && own_codes > 0);
}

static inline int in_own_code(uintptr_t at) {
    for (int index = 0; index < own_codes; index++)
        if (at >= own_code[index].start && at < own_code[index].end) return 1;
    return 0;
}

/* For messages: the line of /proc/self/maps that `at` lies in. */
static inline void say_where(uintptr_t at) {
    char line[1024];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        uintptr_t start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && at >= start && at < end)
            fprintf(stderr, "%#lx in %s", at, line);
    }
}

static inline uintptr_t register_of(const void *context, int number) {
    return ((const ucontext_t *)context)->uc_mcontext.gregs[number];
}

/* In a handler: the interrupted thread was in the program's code, on the stack that the handler runs on too. */
static inline void check_whereabouts(const void *context) {
    char here;
    uintptr_t pc = register_of(context, REG_RIP), sp = register_of(context, REG_RSP);
    if (!in_own_code(pc)) say_where(pc);
    CHECK(in_own_code(pc));
    intptr_t distance = (intptr_t)(sp - (uintptr_t)&here);
    if (distance <= 0 || distance > 1 << 20) fprintf(stderr, "sp %#lx, handler's %p, pc %#lx\n", sp, &here, pc);
    CHECK(distance > 0 && distance <= 1 << 20);
}

static inline void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    CHECK(sigaction(number, &action, 0) == 0);
}

/* Returns once the thread of this process sleeps in the kernel; a thread that is never seen asleep hangs the guest. */
__attribute__((unused)) static void wait_until_asleep(pid_t tid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    for (;;) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(file >= 0);
        ssize_t len = read(file, text, sizeof text - 1);
        CHECK(len > 0 && close(file) == 0);
        text[len] = 0;
        const char *state = strrchr(text, ')');
        CHECK(state);
        if (state[2] == 'S') return;
        sched_yield();
    }
}
