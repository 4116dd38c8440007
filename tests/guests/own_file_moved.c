// Copies of the program, by names shorter and longer than the loader's, that remove themselves and ask for their own file.
//@ build: gcc -O2 own_file_moved.c -o $OUT
//@ build: gcc -O2 -static own_file_moved.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void copy_to(const char *name) {
    struct stat own;
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_WRONLY | O_CREAT | O_EXCL, 0700);
    CHECK(from >= 0 && to >= 0 && fstat(from, &own) == 0);
    CHECK_EQUAL(sendfile(to, from, 0, own.st_size), own.st_size);
    CHECK(close(from) == 0 && close(to) == 0);
}

static void say_target(void) {
    static char target[2 * PATH_MAX], directory[PATH_MAX];
    memset(target, 0, sizeof target);
    ssize_t length = readlink("/proc/self/exe", target, PATH_MAX);
    CHECK(length > 0);
    CHECK_EQUAL(strlen(target), length);
    for (size_t at = length; at < sizeof target; at++) CHECK_EQUAL(target[at], 0);
    // The directory is another in each run.
    CHECK(getcwd(directory, sizeof directory) != 0 && strncmp(target, directory, strlen(directory)) == 0);
    puts(target + strlen(directory));
    fflush(stdout);
}

static void run_copy(const char *name) {
    copy_to(name);
    pid_t child = fork();
    if (child == 0) {
        execl(name, name, "copy", (char *)0);
        _exit(9);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

int main(int argc, char **argv) {
    if (argc == 2) {
        say_target();
        CHECK(unlink(argv[0]) == 0);
        say_target();
        // A successor by the same name is another file.
        CHECK(close(open(argv[0], O_WRONLY | O_CREAT | O_EXCL, 0600)) == 0);
        say_target();
        CHECK(unlink(argv[0]) == 0);
        return 0;
    }
    char longer[201];
    memset(longer, 'n', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    run_copy("./p");
    run_copy(longer);
    return pass();
}
