/* The first process of a machine that has nothing else: it reaps what is orphaned, signals without a handler pass it by,
 * and there is no /proc, no environment and, at the end, no writable file system. It turns the machine off. */
//@ build: gcc -O2 -static -pthread init.c -o $OUT
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(claim) \
    do { \
        if (!(claim)) { \
            printf("init.c:%d: not so: %s (errno %d)\n", __LINE__, #claim, errno); \
            fflush(stdout); \
            reboot(RB_POWER_OFF); \
        } \
    } while (0)

static const char *self;
static volatile sig_atomic_t from;

static void on_usr1(int signo, siginfo_t *info, void *context)
{
    (void)context;
    from = signo == SIGUSR1 ? info->si_pid : -1;
}

static void *add_one(void *number)
{
    ++*(int *)number;
    return number;
}

/* Forks; in the child sends `signo` to the first process, which must be alive to see the child end. */
static pid_t sender(int signo)
{
    pid_t child = fork();
    if (child == 0) {
        _exit(kill(1, signo) == 0 ? 9 : errno);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 9);
    return child;
}

static void signals(void)
{
    const int deadly[] = {SIGTERM, SIGINT, SIGKILL, SIGSEGV, SIGILL, SIGSYS, SIGTRAP};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        sender(deadly[i]);
        printf("alive after %s\n", strsignal(deadly[i]));
    }
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t child = sender(SIGUSR1);
    CHECK(from == child);
}

/* The child ends before the grandchild, who is then ours. */
static void orphans(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            pid_t grandchild = fork();
            if (grandchild == 0) {
                while (getppid() != 1) {
                    usleep(1000);
                }
                _exit(42);
            }
            _exit(grandchild > 0 ? 7 : 1);
        }
        int sum = 0, status;
        for (int reaped = 0; reaped < 2; reaped++) {
            CHECK(wait(&status) > 0 && WIFEXITED(status));
            sum += WEXITSTATUS(status);
        }
        CHECK(sum == 49 && wait(&status) == -1 && errno == ECHILD);
    }
}

/* Execs itself with an empty environment, by `fork` or by `vfork`. */
static void exec_itself(pid_t (*split)(void), const char *how)
{
    char *const args[] = {"again", (char *)how, NULL}, *const nothing[] = {NULL};
    fflush(stdout);
    pid_t child = split();
    if (child == 0) {
        execve(self, args, nothing);
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
}

int main(int argc, char **argv, char **envp)
{
    if (strcmp(argv[0], "again") == 0) {
        printf("%s: %d arguments, %s environment\n", argv[1], argc, *envp ? "an" : "no");
        return 5;
    }
    self = argv[0];
    CHECK(getpid() == 1 && getppid() == 0);
    CHECK(access("/proc", F_OK) == -1 && access("/sys", F_OK) == -1);
    signals();
    orphans();
    exec_itself(fork, "forked");
    exec_itself(vfork, "vforked");
    int number = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, add_one, &number) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(number == 2);
    CHECK(mount("", "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(fopen("/new", "w") == NULL && errno == EROFS);
    exec_itself(fork, "read-only");
    puts("ok");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 1;
}
