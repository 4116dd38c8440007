// Runs a command and steps through what it does between two breakpoints of its own. Then, each time it is there again, it
// stops it before another of the instructions on the way and sends it SIGUSR1. When it has been everywhere, it stores 1
// where rcx points at the first breakpoint. On stacks that are not the program's it stops at some places only.
//@ build: gcc -O2 stepper.c -o $OUT
#include "guest.h"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { TRAP_FLAG = 0x100, BREAKPOINT = 0xcc, PLACES_MAX = 1 << 14, PLACES_INSIDE = 64, NEAR = 1 << 16 };
static pid_t target;
static uint64_t places[PLACES_MAX], inside[PLACES_MAX];
static int place_count, inside_count, next_place;

static struct user_regs_struct registers(void) {
    struct user_regs_struct regs;
    CHECK(ptrace(PTRACE_GETREGS, target, 0, &regs) == 0);
    return regs;
}

/* Goes on with this request and signal; returns the signal that stops it next, or ends as it does. */
static int go(int request, int number) {
    int status;
    CHECK(ptrace(request, target, 0, number) == 0);
    CHECK_EQUAL(waitpid(target, &status, 0), target);
    if (WIFEXITED(status)) exit(WEXITSTATUS(status));
    if (WIFSIGNALED(status)) exit(128 + WTERMSIG(status));
    return WSTOPSIG(status);
}

/* Goes on until it has executed a breakpoint. */
static void go_to_breakpoint(void) {
    siginfo_t info;
    int number = 0;
    do {
        number = go(PTRACE_CONT, number == SIGTRAP ? 0 : number);
        CHECK(ptrace(PTRACE_GETSIGINFO, target, 0, &info) == 0);
    } while (info.si_signo != SIGTRAP || info.si_code != SI_KERNEL);
}

/* Goes on until it comes to `place`, or to a breakpoint of its own. Returns whether it has come to the place. */
static int go_to(uint64_t place) {
    long word = ptrace(PTRACE_PEEKTEXT, target, place, 0);
    if ((word & 0xff) == BREAKPOINT) {
        go_to_breakpoint();
        return 0;
    }
    CHECK(ptrace(PTRACE_POKETEXT, target, place, (word & ~0xffL) | BREAKPOINT) == 0);
    go_to_breakpoint();
    CHECK(ptrace(PTRACE_POKETEXT, target, place, word) == 0);
    struct user_regs_struct regs = registers();
    if (regs.rip != place + 1) return 0;
    regs.rip = place;
    CHECK(ptrace(PTRACE_SETREGS, target, 0, &regs) == 0);
    return 1;
}

/* One instruction, and what shows in registers that somebody steps put right. A repeated string instruction is one. Returns
 * 0 for a breakpoint. */
static int step(const struct user_regs_struct *before) {
    uint32_t code = (uint32_t)ptrace(PTRACE_PEEKTEXT, target, before->rip, 0);
    int is_wide = (code & 0xf0ff) == 0x40f3, string = code >> (is_wide ? 16 : 8) & 0xff;
    if ((code & 0xff) == 0xf3 && (string == 0xa4 || string == 0xa5 || string == 0xaa || string == 0xab))
        return go_to(before->rip + (is_wide ? 3 : 2));
    int number = go(PTRACE_SINGLESTEP, 0);
    while (number != SIGTRAP) number = go(PTRACE_SINGLESTEP, number);
    if ((code & 0xff) == BREAKPOINT) return 0;
    struct user_regs_struct after = registers();
    if ((code & 0xff) == 0x9c) {
        long pushed = ptrace(PTRACE_PEEKDATA, target, after.rsp, 0);
        CHECK(ptrace(PTRACE_POKEDATA, target, after.rsp, pushed & ~TRAP_FLAG) == 0);
    } else if ((code & 0xffff) == 0x050f) {
        after.r11 &= ~(uint64_t)TRAP_FLAG;
        CHECK(ptrace(PTRACE_SETREGS, target, 0, &after) == 0);
    }
    return 1;
}

static void note(uint64_t *list, int *count, uint64_t place) {
    for (int at = 0; at < *count; at++)
        if (list[at] == place) return;
    CHECK(*count < PLACES_MAX);
    list[(*count)++] = place;
}

/* Steps to the second breakpoint and notes the places to stop at. */
static void survey(void) {
    struct user_regs_struct regs = registers();
    uint64_t rsp = regs.rsp;
    place_count = inside_count = next_place = 0;
    do {
        if (regs.rsp - rsp + NEAR < 2 * NEAR) note(places, &place_count, regs.rip);
        else note(inside, &inside_count, regs.rip);
        if (!step(&regs)) break;
        regs = registers();
    } while (1);
    for (int at = 0; at < PLACES_INSIDE && at < inside_count; at++)
        note(places, &place_count, inside[(long)at * inside_count / PLACES_INSIDE]);
}

int main(int count, char **words) {
    int status;
    CHECK(count > 1);
    target = fork();
    if (target == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        execv(words[1], words + 1);
        _exit(127);
    }
    CHECK(waitpid(target, &status, 0) == target && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_SETOPTIONS, target, 0, PTRACE_O_EXITKILL) == 0);
    for (;;) {
        go_to_breakpoint();
        uint64_t is_done = registers().rcx;
        int is_on_the_way = 0;
        if (place_count == 0) survey();
        else is_on_the_way = go_to(places[next_place++]);
        if (next_place == place_count) {
            CHECK(ptrace(PTRACE_POKEDATA, target, is_done, 1) == 0);
            place_count = 0;
        }
        /* Not with a request, which sends no signal where a handler is about to be entered. */
        CHECK(kill(target, SIGUSR1) == 0);
        if (is_on_the_way) go_to_breakpoint();
    }
}
