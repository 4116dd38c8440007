// The link to the program's own file, in every spelling and with every verb: what comes of it is printed, with names
// for the files that can come out, and is the same natively and loaded.
//@ build: gcc -O2 -pthread own_file.c -o $OUT
//@ build: gcc -O2 -static -pthread own_file.c -o $OUT
//@ build: musl-gcc -O2 -static own_file.c -o $OUT
//@ modes: plain summary trace
#include "guest.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define STATX_BASIC 0x7ff
struct resolution {
    uint64_t flags, mode, resolve;
};

static struct stat program;
static const char *program_path;
static pid_t other_thread;

/* A call by its number: what libc makes of a name differs between libcs. */
static long call(long nr, long a, long b, long c, long d, long e) {
    long result = syscall(nr, a, b, c, d, e);
    return result < 0 ? -errno : result;
}

static void say(const char *verb, long result) {
    if (result < 0) printf("  %s: %s\n", verb, strerror(-result));
    else printf("  %s: %ld\n", verb, result);
}

static const char *file_named(const struct stat *found) {
    if (found->st_dev == program.st_dev && found->st_ino == program.st_ino) return "the program";
    return S_ISLNK(found->st_mode) ? "a link" : S_ISDIR(found->st_mode) ? "a directory" : "another file";
}

static void say_file(const char *verb, long result, const struct stat *found) {
    if (result < 0) return say(verb, result);
    printf("  %s: %ld, %s, size %ld\n", verb, result, file_named(found), S_ISREG(found->st_mode) ? (long)found->st_size : 0);
}

/* A descriptor shows its number, its file, and what it can be asked. */
static void say_opened(const char *verb, long fd) {
    struct stat found;
    char target[PATH_MAX] = "";
    if (fd < 0) return say(verb, fd);
    CHECK(fstat(fd, &found) == 0);
    say_file(verb, fd, &found);
    printf("    %s descriptor, mode %#x\n", fcntl(fd, F_GETFD) ? "passing" : "lasting", fcntl(fd, F_GETFL) & ~O_LARGEFILE);
    long length = call(SYS_readlinkat, fd, (long)"", (long)target, sizeof target, 0);
    if (length < 0) say("  its target", length);
    else printf("    its target: %ld bytes, %s\n", length, strcmp(target, program_path) == 0 ? "the program" : "another");
    close(fd);
}

static void say_target(long directory, const char *path, long room, int is_legacy) {
    static char target[2 * PATH_MAX];
    memset(target, 0, sizeof target);
    long length = is_legacy ? call(SYS_readlink, (long)path, (long)target, room, 0, 0)
                            : call(SYS_readlinkat, directory, (long)path, (long)target, room, 0);
    if (length < 0) return say("readlink", length);
    long used = sizeof target;
    while (used > 0 && target[used - 1] == 0) used--;
    CHECK_EQUAL(used, length);
    printf("  readlink of %ld: %ld, %s\n", room, length,
           strncmp(target, program_path, length) == 0 ? "the program" : "another");
}

/* The last ways could change what they open, or make it: they are for the program's own file alone, which is busy. */
#define HARMLESS_WAYS 6

static void open_all(long directory, const char *path, int is_own) {
    static const struct {
        const char *name;
        int flags;
    } ways[] = {
        {"open", O_RDONLY},
        {"open to pass", O_RDONLY | O_CLOEXEC},
        {"open directory", O_RDONLY | O_DIRECTORY},
        {"open no link", O_RDONLY | O_NOFOLLOW},
        {"open path", O_PATH},
        {"open link", O_PATH | O_NOFOLLOW},
        {"open or make", O_RDONLY | O_CREAT},
        {"open to write", O_WRONLY},
        {"open to change", O_RDWR | O_APPEND},
    };
    for (size_t at = 0; at < (is_own ? sizeof ways / sizeof *ways : HARMLESS_WAYS); at++) {
        say_opened(ways[at].name, call(SYS_openat, directory, (long)path, ways[at].flags, 0600, 0));
        struct resolution how = {ways[at].flags, ways[at].flags & O_CREAT ? 0600 : 0, 0};
        say_opened("openat2", call(SYS_openat2, directory, (long)path, (long)&how, sizeof how, 0));
    }
    struct resolution no_magic = {O_RDONLY, 0, 2};
    say_opened("open without magic links", call(SYS_openat2, directory, (long)path, (long)&no_magic, sizeof no_magic, 0));
    if ((int)directory == AT_FDCWD) say_opened("open by its old call", call(SYS_open, (long)path, O_RDONLY, 0, 0, 0));
}

/* Whether the kernel finds a link called exe there that leads to this very program. */
static int is_own(long directory, const char *path) {
    struct stat link, file;
    return call(SYS_newfstatat, directory, (long)path, (long)&link, AT_SYMLINK_NOFOLLOW, 0) == 0 &&
           call(SYS_newfstatat, directory, (long)path, (long)&file, 0, 0) == 0 && S_ISLNK(link.st_mode) &&
           file.st_dev == program.st_dev && file.st_ino == program.st_ino;
}

static void ask_all(long directory, const char *path) {
    struct stat found;
    static char wide[256] __attribute__((aligned(8)));
    for (int flags = 0; flags <= AT_SYMLINK_NOFOLLOW; flags += AT_SYMLINK_NOFOLLOW) {
        say_file("newfstatat", call(SYS_newfstatat, directory, (long)path, (long)&found, flags, 0), &found);
        long result = call(SYS_statx, directory, (long)path, flags, STATX_BASIC, (long)wide);
        memcpy(&found.st_ino, wide + 32, 8);
        if (result == 0 && flags == 0) printf("  statx: %s\n", found.st_ino == program.st_ino ? "the program" : "another");
        else say("statx", result);
        say("faccessat2", call(SYS_faccessat2, directory, (long)path, R_OK | X_OK, flags, 0));
    }
    say("faccessat", call(SYS_faccessat, directory, (long)path, X_OK, 0, 0));
    say("faccessat of nothing", call(SYS_faccessat, directory, (long)path, 8, 0, 0));
    if ((int)directory != AT_FDCWD) return;
    say_file("stat", call(SYS_stat, (long)path, (long)&found, 0, 0, 0), &found);
    say_file("lstat", call(SYS_lstat, (long)path, (long)&found, 0, 0, 0), &found);
    say("access", call(SYS_access, (long)path, R_OK, 0, 0, 0));
}

static void try_all(const char *name, long directory, const char *path) {
    static const long rooms[] = {PATH_MAX, 4, 1, 0, -1, 1L << 32 | 7};
    printf("%s\n", name);
    for (size_t at = 0; at < sizeof rooms / sizeof *rooms; at++) say_target(directory, path, rooms[at], 0);
    if ((int)directory == AT_FDCWD) say_target(directory, path, PATH_MAX, 1);
    say("readlink to nowhere", call(SYS_readlinkat, directory, (long)path, 0, PATH_MAX, 0));
    open_all(directory, path, is_own(directory, path));
    ask_all(directory, path);
}

static void try_spelled(const char *format, long number) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, format, (int)number);
    try_all(format, AT_FDCWD, path);
}

static void *wait_for_end(void *barrier) {
    other_thread = syscall(SYS_gettid);
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return 0;
}

static void try_absolute(void) {
    static const char *const paths[] = {
        "/proc/self/exe",          "/proc/thread-self/exe",      "//proc///self//exe",
        "/proc/./self/./exe",      "/proc/self/../self/exe",     "/proc/self/root/proc/self/exe",
        "/tmp/../proc/self/exe",   "/proc/thread-self/../../exe", "/proc/self/exe/",
        "/proc/self/exe/.",        "/proc/self/exex",            "/proc/self/ex",
        "/proc/self/",             "/proc/self/root",            "/proc/1/comm",
        "/nowhere/exe",            "",                           "plain",
    };
    for (size_t at = 0; at < sizeof paths / sizeof *paths; at++) try_all(paths[at], AT_FDCWD, paths[at]);
    try_spelled("/proc/%d/exe", getpid());
    try_spelled("/proc/0%d/exe", getpid());
    try_spelled("/proc/%d/exe", other_thread);
    try_spelled("/proc/self/task/%d/exe", other_thread);
    try_spelled("/proc/self/task/%d/exe", getpid());
    try_spelled("/proc/self/task/%d/exe", getppid());
    try_spelled("/proc/%d/exe", getppid());
}

static void try_relative(void) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), self = open("/proc/self", O_PATH | O_DIRECTORY);
    try_all("self/exe from /proc", proc, "self/exe");
    try_all("exe from /proc/self", self, "exe");
    try_all("./exe from /proc/self", self, ".//exe");
    // The kernel reads an int.
    try_all("exe from /proc/self, by a wide number", self | 0x5555L << 32, "exe");
    try_all("nothing from /proc/self", self, "");
    try_all("exe from no descriptor", 77, "exe");
    int link = openat(self, "exe", O_PATH | O_NOFOLLOW), file = openat(self, "exe", O_RDONLY);
    try_all("nothing from the link", link, "");
    try_all("nothing from the file", file, "");
    struct stat found;
    say_file("newfstatat of the link", call(SYS_newfstatat, link, (long)"", (long)&found, AT_EMPTY_PATH, 0), &found);
    say_file("newfstatat of the file", call(SYS_newfstatat, file, (long)"", (long)&found, AT_EMPTY_PATH, 0), &found);
    CHECK(chdir("/proc/self") == 0);
    try_all("exe, in /proc/self", AT_FDCWD, "exe");
    CHECK(fchdir(proc) == 0);
    try_all("thread-self/exe, in /proc", AT_FDCWD, "thread-self/exe");
}

/* Pages at whose end memory ends, and addresses that no page has. */
static void try_edges(void) {
    static const char path[] = "/proc/self/exe";
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && mprotect(page + 4096, 4096, PROT_NONE) == 0);
    char *at_end = page + 4096 - sizeof path;
    memcpy(at_end, path, sizeof path);
    try_all("ends with its page", AT_FDCWD, at_end);
    memcpy(at_end + 1, path, sizeof path - 1);
    try_all("does not end in its page", AT_FDCWD, at_end + 1);
    try_all("at no address", AT_FDCWD, 0);
    try_all("in the kernel", AT_FDCWD, (const char *)0xffff800000000000);
    try_all("not canonical", AT_FDCWD, (const char *)0x800000000000);
    say("readlink into what ends", call(SYS_readlink, (long)path, (long)(page + 4095), PATH_MAX, 0, 0));
    say("readlink of one into what ends", call(SYS_readlink, (long)path, (long)(page + 4095), 1, 0, 0));
    say("stat into nothing", call(SYS_newfstatat, AT_FDCWD, (long)path, 0, 0, 0));
    say("stat into what ends", call(SYS_newfstatat, AT_FDCWD, (long)path, (long)(page + 4095), 0, 0));
    char *odd = page + 1;
    say("stat to an odd address", call(SYS_newfstatat, AT_FDCWD, (long)path, (long)odd, 0, 0));
    CHECK(memcmp(odd + 8, &program.st_ino, 8) == 0);
    static char longest[PATH_MAX + 8];
    memset(longest, '/', sizeof longest - 1);
    memcpy(longest + PATH_MAX - sizeof path, path, sizeof path);
    try_all("as long as can be", AT_FDCWD, longest);
    memset(longest, '/', sizeof longest - 1);
    memcpy(longest + PATH_MAX - sizeof path + 1, path, sizeof path);
    try_all("longer than can be", AT_FDCWD, longest);
}

int main(int argc, char **argv) {
    (void)argc;
    program_path = argv[0];
    CHECK(stat(program_path, &program) == 0);
    CHECK(close(open("plain", O_WRONLY | O_CREAT | O_EXCL, 0600)) == 0);
    pthread_barrier_t barrier;
    pthread_t thread;
    pthread_barrier_init(&barrier, 0, 2);
    CHECK(pthread_create(&thread, 0, wait_for_end, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    try_absolute();
    try_relative();
    try_edges();
    // Its bytes are the program's.
    char head[4] = "";
    int file = open("/proc/self/exe", O_RDONLY);
    CHECK(pread(file, head, 4, 0) == 4 && memcmp(head, "\177ELF", 4) == 0 && close(file) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, 0) == 0);
    return pass();
}
