// Prints what a process has registered with the kernel or has inherited: descriptors, lists, stacks, keys, timers.
//@ build: gcc -O2 kernel_state.c -o $OUT
//@ build: gcc -O2 -static kernel_state.c -o $OUT
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

static void show_file(const char *path) {
    FILE *file = fopen(path, "r");
    char line[512];
    printf("%s\n", path);
    if (!file) {
        printf("  %s\n", strerror(errno));
        return;
    }
    while (fgets(line, sizeof line, file)) printf("  %s", line);
    fclose(file);
}

static void show_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], target[300] = "";
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory)) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        CHECK(readlink(path, target, sizeof target - 1) > 0);
        int fd = atoi(entry->d_name);
        /* Standard streams are files of each run. */
        printf("fd %d %s %x %x\n", fd, fd < 3 ? "" : target, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL));
    }
    printf("directory at %d\n", dirfd(directory));
    closedir(directory);
}

static void show_prctl(const char *name, int option) {
    unsigned long value = 0;
    long answer = syscall(SYS_prctl, option, &value, 0, 0, 0);
    printf("%s %ld %lx\n", name, answer, answer == 0 ? value : 0);
}

int main(void) {
    show_file("/proc/self/personality");
    show_file("/proc/self/oom_score_adj");
    show_file("/proc/self/timerslack_ns");
    show_file("/proc/self/coredump_filter");
    show_file("/proc/self/timers");
    show_descriptors();
    printf("membarrier %ld\n", syscall(SYS_membarrier, 1 << 9 /* GET_REGISTRATIONS */, 0, 0));
    void *head;
    size_t len;
    CHECK(syscall(SYS_get_robust_list, 0, &head, &len) == 0);
    printf("robust list %d %zu\n", head != 0, len);
    stack_t stack;
    CHECK(sigaltstack(0, &stack) == 0);
    printf("altstack %p %x %zu\n", stack.ss_sp, stack.ss_flags, stack.ss_size);
    int key = (int)syscall(SYS_pkey_alloc, 0, 0);
    printf("pkey %d %d\n", key, key < 0 ? errno : 0);
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        if (sigaction(number, 0, &action) == 0 && (action.sa_handler || action.sa_flags))
            printf("signal %d %p %x\n", number, (void *)action.sa_handler, action.sa_flags);
    }
    show_prctl("pdeathsig", PR_GET_PDEATHSIG);
    show_prctl("subreaper", PR_GET_CHILD_SUBREAPER);
    show_prctl("tsc", PR_GET_TSC);
    printf("dumpable %d keepcaps %d timerslack %d thp %d seccomp %d mdwe %d\n", prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_KEEPCAPS), prctl(PR_GET_TIMERSLACK), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), prctl(PR_GET_SECCOMP),
           prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0));
    struct itimerval timer;
    for (int which = 0; which < 3; which++) CHECK(getitimer(which, &timer) == 0 && timer.it_value.tv_sec == 0);
    mode_t mask = umask(022);
    printf("umask %o nice %d scheduler %d ioprio %ld\n", mask, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0),
           syscall(SYS_ioprio_get, 1, 0));
    CHECK(syscall(SYS_wait4, -1, 0, 0x40000001 /* WNOHANG | __WALL */, 0) == -1 && errno == ECHILD);
    char directory[4096];
    CHECK(getcwd(directory, sizeof directory) != 0);
    return pass();
}
