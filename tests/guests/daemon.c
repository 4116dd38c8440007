// A daemon as servers become one: forks twice, leaves its session, its directory and its descriptors, and serves a
// socket until it is told to end. Whoever started it is its client, and has ended before the daemon does.
//@ build: gcc -O2 daemon.c -o $OUT
//@ build: gcc -O2 -static daemon.c -o $OUT
//@ build: musl-gcc -O2 -static daemon.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static volatile sig_atomic_t ended;

static void on_end(int number) { ended = number; }

static void answer(int client) {
    char text[256], directory[64];
    int open_ones = 0;
    for (int fd = 0; fd < 100; fd++) open_ones += fcntl(fd, F_GETFD) != -1;
    CHECK(getcwd(directory, sizeof directory) != 0);
    // The listener, the client and three that lead nowhere.
    int length = snprintf(text, sizeof text, "in %s, own session %d, umask %o, %d descriptors\n", directory,
                          getsid(0) != getpid() && getpgrp() == getsid(0), umask(027), open_ones);
    CHECK(write(client, text, length) == length);
}

static void serve(int listener) {
    struct sigaction action = {.sa_handler = on_end};
    CHECK(sigaction(SIGTERM, &action, 0) == 0);
    while (!ended) {
        int client = accept(listener, 0, 0);
        if (client < 0) continue;
        answer(client);
        char text[16];
        int length = snprintf(text, sizeof text, "%d", getpid());
        CHECK(write(client, text, length) == length && close(client) == 0);
    }
    _exit(0);
}

static void become_daemon(int listener) {
    if (fork() != 0) _exit(0);
    CHECK(setsid() == getpid());
    if (fork() != 0) _exit(0);
    umask(027);
    CHECK(chdir("/") == 0);
    for (int fd = 0; fd < 100; fd++)
        if (fd != listener) close(fd);
    int nowhere = open("/dev/null", O_RDWR);
    CHECK(nowhere == 0 && dup(0) == 1 && dup(0) == 2);
    serve(listener);
}

int main(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int status, listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&name, sizeof name) == 0 && listen(listener, 1) == 0);
    pid_t starter = fork();
    if (starter == 0) become_daemon(listener);
    CHECK(close(listener) == 0);
    CHECK(waitpid(starter, &status, 0) == starter && status == 0);
    for (int round = 0; round < 3; round++) {
        char text[300] = "";
        int client = socket(AF_UNIX, SOCK_STREAM, 0);
        size_t length = 0;
        ssize_t got;
        CHECK(connect(client, (void *)&name, sizeof name) == 0);
        while ((got = read(client, text + length, sizeof text - 1 - length)) > 0) length += got;
        CHECK(close(client) == 0);
        char *process = strchr(text, '\n') + 1;
        printf("%.*s", (int)(process - text), text);
        if (round == 2) CHECK(kill(atoi(process), SIGTERM) == 0);
    }
    return pass();
}
