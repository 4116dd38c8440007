// A server's title: argv and the environment overwritten by what others are to see, shorter and longer than argv was.
//@ build: gcc -O2 title.c -o $OUT
//@ build: gcc -O2 -static title.c -o $OUT
//@ run: $OUT one two three
#include "guest.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

static void show(void) {
    char text[4096], command[96];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = read(file, text, sizeof text);
    CHECK(length > 0 && close(file) == 0);
    for (ssize_t at = 0; at < length; at++) putchar(text[at] ? text[at] : '|');
    putchar('\n');
    fflush(stdout);
    snprintf(command, sizeof command, "ps -ww -o args= -o comm= -p %d", getpid());
    CHECK_EQUAL(system(command), 0);
}

int main(int argc, char **argv) {
    char *start = argv[0], *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1, *last = end;
    for (char **word = environ; *word; word++) last = *word + strlen(*word) + 1;
    CHECK(last > end + 40 && end > start + 20);
    CHECK(setenv("PATH", "/usr/bin:/bin", 1) == 0);
    environ = 0;
    memset(start, 0, end - start);
    strcpy(start, "server: ready");
    show();
    memset(start, 'x', end - start + 20);
    memcpy(start, "server: longer ", 15);
    start[end - start + 20] = 0;
    show();
    CHECK(prctl(PR_SET_NAME, "worker/1") == 0);
    show();
    return pass();
}
