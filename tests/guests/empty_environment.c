// Programs that are exec'd with no environment at all: by path, by descriptor, through a script, as threads and vfork do.
//@ build: gcc -O2 empty_environment.c -o $OUT
//@ build: gcc -O2 -static empty_environment.c -o $OUT
//@ build: musl-gcc -O2 -static empty_environment.c -o $OUT
#include "marker.h"
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;
static char *NOTHING[] = {NULL};
static char self[PATH_MAX];

static void await(pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
}

/* A copy of this program in memory. */
static int copy(void) {
    static char bytes[1 << 16];
    int from = open(self, O_RDONLY), to = memfd_create("copy", MFD_CLOEXEC);
    CHECK(from >= 0 && to >= 0);
    ssize_t len;
    while ((len = read(from, bytes, sizeof bytes)) > 0) CHECK(write(to, bytes, (size_t)len) == len);
    close(from);
    return to;
}

static void write_script(void) {
    int script = open("script", O_WRONLY | O_CREAT | O_TRUNC, 0700);
    CHECK(script >= 0 && dprintf(script, "#!%s child\n", self) > 0);
    CHECK(close(script) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        CHECK(environ[0] == NULL);
        return syscall(SYS_getpriority, 106, 1) != -1;
    }
    CHECK(argc == 1 && realpath(argv[0], self));
    char *words[] = {self, "child", NULL};
    write_script();
    int memory = copy();
    for (int way = 0; way < 4; way++) {
        pid_t child = fork();
        if (child == 0) {
            if (way == 0) execve(self, words, NOTHING);
            if (way == 1) syscall(SYS_execveat, memory, "", words, NOTHING, AT_EMPTY_PATH);
            if (way == 2) execve("script", words, NOTHING);
            if (way == 3) execve(self, words, NULL);
            _exit(99);
        }
        await(child);
    }
    pid_t child;
    CHECK(posix_spawn(&child, self, NULL, NULL, words, NOTHING) == 0);
    await(child);
    return pass_after(5);
}
