// Common calls in a loop between two markers: what is seen of them from outside must be these calls and no others.
//@ build: gcc -O2 -pthread steady.c -o $OUT
//@ build: gcc -O2 -pthread -static steady.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void on_signal(int number) { (void)number; }
static void *body(void *argument) { return argument; }

static void round_of_calls(void) {
    int ends[2], status;
    struct stat facts;
    struct timespec now = {0, 1000};
    char buffer[16];
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;
    pthread_t thread;
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1 && read(ends[0], buffer, 16) == 1);
    CHECK(fstat(ends[0], &facts) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
    int fd = open("/dev/null", O_RDWR);
    CHECK(fd >= 0 && lseek(fd, 0, SEEK_CUR) == 0 && close(fd) == 0);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &now, 0) == 0);
    CHECK(sigaction(SIGUSR1, &action, 0) == 0 && raise(SIGUSR1) == 0);
    CHECK(sigemptyset(&set) == 0 && sigprocmask(SIG_BLOCK, &set, 0) == 0);
    void *at = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED && mprotect(at, 4096, PROT_READ) == 0 && munmap(at, 8192) == 0);
    CHECK(pthread_create(&thread, 0, body, 0) == 0 && pthread_join(thread, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(syscall(SYS_getcwd, buffer, 1) == -1 && getppid() >= 0 && getuid() == geteuid());
}

int main(void) {
    round_of_calls(); // what is set up once has been
    CHECK(chdir("/footprint-begin") == -1);
    for (int round = 0; round < 20; round++) round_of_calls();
    CHECK(chdir("/footprint-end") == -1);
    return pass();
}
