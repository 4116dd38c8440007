// The programs of other processes: parent and child, each of another file, look at each other's link, as they run, when
// the file has another name, and when it has none; and exec what they find there.
//@ build: gcc -O2 other_file.c -o $OUT
//@ build: gcc -O2 -static other_file.c -o $OUT
#include "guest.h"
#include <errno.h>
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

/* The directory is another in each run. */
static const char *shortened(const char *path) {
    char directory[PATH_MAX];
    CHECK(getcwd(directory, sizeof directory) != 0);
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 ? path + length : strrchr(path, '/');
}

static void look_at(const char *whose, pid_t process, const char *name) {
    char path[64], target[2 * PATH_MAX] = "";
    struct stat there = {0}, named = {0};
    snprintf(path, sizeof path, "/proc/%d/exe", process);
    ssize_t length = readlink(path, target, sizeof target - 1);
    CHECK(length > 0);
    printf("%s: %s\n", whose, shortened(target));
    if (name == 0) return;
    CHECK(stat(path, &there) == 0 && stat(name, &named) == 0);
    CHECK(there.st_ino == named.st_ino && there.st_dev == named.st_dev);
    int file = open(path, O_RDONLY);
    CHECK(file >= 0 && fstat(file, &there) == 0 && there.st_ino == named.st_ino && close(file) == 0);
    CHECK(access(path, X_OK) == 0);
    snprintf(path, sizeof path, "/proc/%d", process);
    int directory = open(path, O_PATH | O_DIRECTORY);
    CHECK(readlinkat(directory, "exe", target, sizeof target) == length);
    CHECK(close(directory) == 0);
}

static void exec_link_of(pid_t process) {
    char path[64];
    int status;
    snprintf(path, sizeof path, "/proc/%d/exe", process);
    pid_t child = fork();
    if (child == 0) {
        execl(path, "say", (char *)0);
        _exit(errno == ENOENT ? 2 : 9);
    }
    CHECK(waitpid(child, &status, 0) == child);
    printf("exec ended with %x\n", status);
    fflush(stdout);
}

static void say(void) {
    char name[64] = "", target[PATH_MAX] = "";
    int file = open("/proc/self/comm", O_RDONLY);
    CHECK(read(file, name, sizeof name - 1) > 0 && readlink("/proc/self/exe", target, sizeof target - 1) > 0);
    printf("program %s, called %s", shortened(target), name);
    fflush(stdout);
}

static void chain(int left) {
    char text[16];
    say();
    if (left == 0) return;
    snprintf(text, sizeof text, "%d", left - 1);
    execl("/proc/self/exe", "chain", text, (char *)0);
    CHECK(!"the exec fails");
}

int main(int argc, char **argv) {
    char byte;
    int status, ready[2], done[2];
    if (argc == 1 && strcmp(argv[0], "say") == 0) return say(), 0;
    if (argc == 2) return chain(atoi(argv[1])), 0;
    if (argc == 3) {
        look_at("parent seen by child", getppid(), 0);
        fflush(stdout);
        CHECK(write(atoi(argv[1]), "", 1) == 1);
        return read(atoi(argv[2]), &byte, 1);
    }
    copy_to("other");
    CHECK(pipe(ready) == 0 && pipe(done) == 0);
    pid_t child = fork();
    if (child == 0) {
        char out[16], in[16];
        snprintf(out, sizeof out, "%d", ready[1]);
        snprintf(in, sizeof in, "%d", done[0]);
        close(done[1]);
        execl("./other", "other", out, in, (char *)0);
        _exit(9);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    look_at("child seen by parent", child, "other");
    exec_link_of(child);
    exec_link_of(getpid());
    CHECK(rename("other", "renamed one") == 0);
    look_at("after a rename", child, "renamed one");
    exec_link_of(child);
    CHECK(unlink("renamed one") == 0);
    look_at("after its end", child, 0);
    CHECK(close(done[1]) == 0 && waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    child = fork();
    if (child == 0) chain(3), _exit(0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    return pass();
}
