// Dispositions and masks over fork, vfork and exec: what is ignored stays ignored, handlers are reset by an exec, and what a
// vfork child sets is not its parent's.
//@ build: gcc -O2 -Wno-deprecated-declarations signal_inherited.c -o $OUT
//@ build: gcc -O2 -static -Wno-deprecated-declarations signal_inherited.c -o $OUT
//@ modes: plain summary trace
#include "signals.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static volatile sig_atomic_t count;
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    (void)context;
    count++;
}

/* The kernel's own account; handlers of a C library's for itself are left out. */
static void print_status(const char *who) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status);
    printf("%s:", who);
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "SigBlk", 6) || !strncmp(line, "SigIgn", 6)) printf(" %.6s %s", line, strrchr(line, '\t') + 9);
    fclose(status);
    for (int number = 1; number < 32; number++) {
        struct sigaction action;
        if (sigaction(number, 0, &action) == 0 && action.sa_handler != SIG_DFL)
            printf(" %d %s", number, action.sa_handler == SIG_IGN ? "ignored" : "handled");
    }
    puts("");
    fflush(stdout);
}

static void reap(pid_t pid) {
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        print_status(argv[1]);
        return 0;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2), sigaddset(&set, SIGTERM);
    CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    int handled[] = {SIGUSR1, SIGALRM, SIGSEGV, SIGTRAP}, ignored[] = {SIGHUP, SIGPIPE, SIGWINCH};
    for (int at = 0; at < 4; at++) handle(handled[at], on_signal, 0);
    for (int at = 0; at < 3; at++) signal(ignored[at], SIG_IGN);
    print_status("first");
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(raise(SIGUSR1) == 0 && count == 1);
        print_status("forked");
        char *words[] = {argv[0], "executed", 0};
        execv("/proc/self/exe", words);
        _exit(1);
    }
    reap(pid);
    for (int round = 0; round < 20; round++) {
        pid = vfork();
        if (pid == 0) {
            struct sigaction action = {.sa_handler = round % 2 ? SIG_DFL : SIG_IGN};
            for (int at = 0; at < 4; at++) sigaction(handled[at], &action, 0);
            _exit(0);
        }
        reap(pid);
        count = 0;
        CHECK(raise(SIGUSR1) == 0 && raise(SIGTRAP) == 0 && raise(SIGSEGV) == 0 && count == 3);
    }
    posix_spawnattr_t attributes;
    char *words[] = {argv[0], "spawned", 0};
    CHECK(posix_spawnattr_init(&attributes) == 0);
    sigemptyset(&set), sigaddset(&set, SIGHUP);
    CHECK(posix_spawnattr_setsigdefault(&attributes, &set) == 0);
    CHECK(posix_spawnattr_setsigmask(&attributes, &set) == 0);
    CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK) == 0);
    CHECK(posix_spawn(&pid, "/proc/self/exe", 0, &attributes, words, environ) == 0);
    reap(pid);
    print_status("last");
    return pass();
}
