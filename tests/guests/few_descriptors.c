// Every way to close what one has not opened, and no descriptor to be had at all: code that is mapped then still works,
// and what is open is what the program itself has opened.
//@ build: gcc -O2 few_descriptors.c -o $OUT
//@ build: gcc -O2 -static few_descriptors.c -o $OUT
#include "guest.h"
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Prints the numbers that are open, without opening one that would show. */
static void show(const char *when) {
    printf("%s:", when);
    for (int fd = 0; fd < 1100; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf(" %d", fd);
    printf("\n");
    fflush(stdout);
}

static void map_code(int library) {
    void *code = mmap(0, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0x26000);
    CHECK(code != MAP_FAILED);
    CHECK(munmap(code, 65536) == 0);
    code = mmap(0, 65536, PROT_READ, MAP_PRIVATE, library, 0x26000);
    CHECK(code != MAP_FAILED);
    CHECK(mprotect(code, 65536, PROT_READ | PROT_EXEC) == 0 && munmap(code, 65536) == 0);
}

/* What is exec'd needs no descriptor to start, unless a dynamic loader has to open libraries. */
static void exec_again(char *path) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, "again", (char *)0);
        _exit(9);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        show("again");
        return 0;
    }
    show("at first");
    int library = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    CHECK(library >= 0);
    for (int fd = library + 1; fd < 1000; fd++) CHECK_EQUAL(dup2(library, fd), fd);
    map_code(library);
    CHECK(syscall(436 /* close_range */, library + 1, ~0U, 0) == 0);
    show("after close_range");
    map_code(library);
    for (int fd = library + 1; fd < 1100; fd++) close(fd);
    CHECK(dup2(library, 200) == 200 && close(library) == 0);
    show("elsewhere");
    map_code(200);
    static const rlim_t limits[] = {4, 3, 1, 0};
    for (int at = 0; at < 4; at++) {
        struct rlimit limit = {limits[at], 1024};
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        map_code(200);
        if (limits[at] <= 3) CHECK(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE);
        show("with few");
        if (getauxval(AT_BASE) == 0) exec_again(argv[0]);
    }
    struct rlimit limit = {1024, 1024};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(close(200) == 0 && close(0) == 0);
    show("at last");
    return pass();
}
