// argv and the environment stand on the stack as the kernel lays them: pointers, then one run of strings that ends at
// the path of the program; and /proc shows them, the name and the executable as the program's own.
//@ build: gcc -O2 arguments.c -o $OUT
//@ build: gcc -O2 -static arguments.c -o $OUT
//@ build: gcc -O2 -static-pie -fpie arguments.c -o $OUT
//@ run: $OUT --help -c  -- --trace a=b é
#include "guest.h"
#include <fcntl.h>
#include <limits.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

extern char **environ;

static size_t read_whole(const char *path, char *to, size_t size) {
    int file = open(path, O_RDONLY);
    CHECK(file >= 0);
    size_t length = 0;
    ssize_t got;
    while ((got = read(file, to + length, size - length)) > 0) length += got;
    CHECK(got == 0 && close(file) == 0);
    return length;
}

static void check_strings(int argc, char **argv) {
    CHECK_EQUAL(argv + argc + 1, environ);
    char *next = argv[0];
    for (int at = 0; at < argc; at++) {
        CHECK_EQUAL(argv[at], next);
        next += strlen(next) + 1;
        puts(argv[at] + (at == 0 ? strlen(argv[at]) : 0));
    }
    static char file[65536];
    CHECK_EQUAL(read_whole("/proc/self/cmdline", file, sizeof file), next - argv[0]);
    CHECK(memcmp(file, argv[0], next - argv[0]) == 0);
    char *first = next;
    for (char **word = environ; *word; word++) {
        CHECK_EQUAL(*word, next);
        next += strlen(next) + 1;
        puts(*word);
    }
    CHECK_EQUAL(read_whole("/proc/self/environ", file, sizeof file), next - first);
    CHECK(memcmp(file, first, next - first) == 0);
    CHECK_EQUAL(getauxval(AT_EXECFN), next);
    // Overwriting an argument shows in /proc, as servers use it to tell what they do.
    argv[0][0] = '#';
    CHECK(read_whole("/proc/self/cmdline", file, sizeof file) > 0 && file[0] == '#');
    argv[0][0] = '/';
}

static void check_identity(const char *program) {
    char link[PATH_MAX] = "", by_pid[64], name[64] = "", kept[16] = "";
    snprintf(by_pid, sizeof by_pid, "/proc/%d/exe", getpid());
    const char *spellings[] = {"/proc/self/exe", by_pid, "/proc/thread-self/exe"};
    for (int at = 0; at < 3; at++) {
        memset(link, 0, sizeof link);
        CHECK(readlink(spellings[at], link, sizeof link - 1) > 0);
        CHECK(strcmp(link, program) == 0);
    }
    const char *base = strrchr(program, '/') + 1;
    size_t length = read_whole("/proc/self/comm", name, sizeof name - 1);
    CHECK(length > 0 && name[length - 1] == '\n');
    name[length - 1] = 0;
    CHECK(strncmp(name, base, 15) == 0 && strlen(name) == (strlen(base) < 15 ? strlen(base) : 15));
    CHECK(prctl(PR_GET_NAME, kept) == 0 && strcmp(kept, name) == 0);
    puts(name);
}

int main(int argc, char **argv) {
    check_strings(argc, argv);
    check_identity(argv[0]);
    return pass();
}
