// What the kernel tells about a process that no guest of its own asks for: /proc/self/status and stat, limits, scheduling,
// masks. Addresses are random, so they are printed by what they belong to.
//
// Signals may be caught in a loaded program that catches nothing: SIGILL, which a site raises that nothing better fits,
// and for a summary those that end the process. The kernel's own view shows that, the program's (rt_sigaction) does not.
//@ build: gcc -O2 -pie -fpie process_state.c -o $OUT
//@ build: gcc -O2 -no-pie -fno-pie process_state.c -o $OUT
//@ build: gcc -O2 -static process_state.c -o $OUT
//@ build: gcc -O2 -static-pie -fpie process_state.c -o $OUT
//@ run: $OUT one two
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FIELDS 52

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern char etext[], edata[], end[];
extern char **environ;

static char text[65536];

static const char *whole(const char *path) {
    int file = open(path, O_RDONLY);
    CHECK(file >= 0);
    size_t length = 0;
    ssize_t got;
    while ((got = read(file, text + length, sizeof text - 1 - length)) > 0) length += got;
    text[length] = 0;
    CHECK(close(file) == 0);
    return text;
}

/* Sizes, counts of switches and ids differ from run to run. */
static int is_settled(const char *line) {
    static const char *const names[] = {
        "Name", "Umask", "State", "TracerPid", "Uid", "Gid", "FDSize", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk",
        "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
        "Speculation_Store_Bypass", "SpeculationIndirectBranch", "CoreDumping", "THP_enabled", "untag_mask",
        "Cpus_allowed", "Mems_allowed", "x86_Thread_features", "x86_Thread_features_locked",
    };
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (strncmp(line, names[at], strlen(names[at])) == 0 && line[strlen(names[at])] == ':') return 1;
    return 0;
}

static void status(void) {
    char *rest = (char *)whole("/proc/self/status"), *line;
    while ((line = strsep(&rest, "\n"))) {
        if (is_settled(line)) puts(line);
    }
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        if (sigaction(number, 0, &action) == 0 && action.sa_handler != SIG_DFL) printf("signal %d is not default\n", number);
    }
}

/* The fields from 3 on; the name in the second may hold anything. */
static void read_fields(unsigned long field[FIELDS + 1]) {
    const char *line = whole("/proc/self/stat"), *name_end = strrchr(line, ')');
    CHECK_EQUAL(atoi(line), getpid());
    printf("name %.*s\n", (int)(name_end + 1 - strchr(line, '(')), strchr(line, '('));
    const char *at = name_end + 4;
    for (int number = 4; number <= FIELDS; number++) {
        char *next;
        field[number] = strtoull(at, &next, 10);
        CHECK(next != at);
        at = next;
    }
}

static void stat_fields(char **argv) {
    unsigned long field[FIELDS + 1];
    read_fields(field);
    CHECK_EQUAL(field[4], getppid());
    CHECK_EQUAL(field[5], getpgrp());
    static const int settled[] = {7, 8, 18, 19, 20, 21, 31, 32, 38, 39, 40, 41, 42, 52};
    for (size_t at = 0; at < sizeof settled / sizeof *settled; at++)
        if (settled[at] != 39) printf("field %d: %ld\n", settled[at], field[settled[at]]);
    // The image: where code and data start and end within it.
    unsigned long image = (unsigned long)__ehdr_start;
    printf("code %#lx to %#lx, data %#lx to %#lx\n", field[26] - image, field[27] - image, field[45] - image, field[46] - image);
    CHECK(field[26] <= (unsigned long)&stat_fields && (unsigned long)&stat_fields < field[27]);
    CHECK(field[45] <= (unsigned long)edata && (unsigned long)edata <= field[46] + 8);
    // The heap starts behind the image, up to a gigabyte by chance, but for a lone image that can lie anywhere.
    CHECK(field[47] <= (unsigned long)sbrk(0));
    printf("heap behind the image: %d\n", field[47] - (unsigned long)end < 1UL << 30);
    // The stack as it was entered with: argc stands there.
    CHECK_EQUAL(field[28], argv - 1);
    CHECK_EQUAL(field[48], argv[0]);
    CHECK_EQUAL(field[49], environ[0]);
    CHECK_EQUAL(field[50], environ[0]);
    CHECK_EQUAL(field[51], getauxval(AT_EXECFN));
}

static void limits(void) {
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit;
        CHECK(getrlimit(which, &limit) == 0);
        printf("limit %d: %lx of %lx\n", which, (long)limit.rlim_cur, (long)limit.rlim_max);
    }
}

static void settings(void) {
    char directory[4096], name[17] = "";
    struct sched_param parameter;
    cpu_set_t processors;
    printf("personality %x\n", personality(0xffffffff));
    mode_t mask = umask(0);
    printf("umask %o\n", umask(mask));
    CHECK(getcwd(directory, sizeof directory) != 0 && chdir(directory) == 0);
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    printf("policy %d\n", sched_getscheduler(0));
    CHECK(sched_getparam(0, &parameter) == 0 && sched_getaffinity(0, sizeof processors, &processors) == 0);
    printf("priority %d, %d processors\n", parameter.sched_priority, CPU_COUNT(&processors));
    printf("input and output class %ld\n", syscall(SYS_ioprio_get, 1, 0));
    printf("dumpable %d, subreaper %d\n", prctl(PR_GET_DUMPABLE), prctl(PR_GET_CHILD_SUBREAPER, directory));
    printf("secure bits %d, keeps capabilities %d\n", prctl(PR_GET_SECUREBITS), prctl(PR_GET_KEEPCAPS));
    printf("timer slack %d, tsc %d\n", prctl(PR_GET_TIMERSLACK), prctl(PR_GET_TSC, directory));
    CHECK(prctl(PR_GET_NAME, name) == 0);
    printf("name %s\n", name);
    printf("core dump filter %s", whole("/proc/self/coredump_filter"));
    printf("oom adjustment %s", whole("/proc/self/oom_score_adj"));
    printf("wchan of no wait %s\n", whole("/proc/self/wchan"));
    printf("personality in /proc %s", whole("/proc/self/personality"));
}

static void descriptors(void) {
    DIR *directory = opendir("/proc/self/fdinfo");
    CHECK(directory != 0);
    struct dirent *entry;
    char path[300];
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%s", entry->d_name);
        const char *flags = strstr(whole(path), "flags:");
        printf("descriptor %s %.*s\n", entry->d_name, (int)strcspn(flags, "\n"), flags);
    }
    closedir(directory);
}

int main(int argc, char **argv) {
    CHECK_EQUAL(argc, 3);
    status();
    stat_fields(argv);
    limits();
    settings();
    descriptors();
    return pass();
}
