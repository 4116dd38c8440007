// What an exec'd program finds: arguments, environment, names, signals, descriptors, limits; by every way to name it.
//@ build: gcc -O2 exec_image.c -o $OUT -pthread
//@ build: gcc -O2 -static exec_image.c -o $OUT -pthread
//@ build: musl-gcc -O2 -static exec_image.c -o $OUT -pthread
//@ modes: plain summary trace
#include "guest.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;
static char *self;

static void print_words(const char *what, char **words) {
    printf("%s:", what);
    for (int at = 0; words[at] && at < 8; at++) printf(" [%.60s]", words[at]);
    int count = 0;
    while (words[count]) count++;
    printf(" %d\n", count);
}

static void print_file(const char *what, const char *path) {
    char bytes[400];
    int file = open(path, O_RDONLY);
    ssize_t got = read(file, bytes, sizeof bytes);
    close(file);
    for (ssize_t at = 0; at < got; at++)
        if (bytes[at] < 32) bytes[at] = '|';
    printf("%s: %.*s\n", what, (int)got, bytes);
}

/* The loader catches SIGILL; all else must be as the program set it. */
static void print_signals(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[200];
    unsigned long long mask;
    while (fgets(line, sizeof line, status)) {
        if (sscanf(line, "SigCgt: %llx", &mask) == 1 || sscanf(line, "SigIgn: %llx", &mask) == 1)
            printf("%.7s %llx\n", line, mask & ~(1ull << (SIGILL - 1)));
        else if (!strncmp(line, "SigBlk", 6) || !strncmp(line, "SigPnd", 6) || !strncmp(line, "ShdPnd", 6)) printf("%s", line);
    }
    fclose(status);
    struct sigaction action;
    sigaction(SIGILL, NULL, &action);
    printf("SIGILL %s\n", action.sa_handler == SIG_IGN ? "ignored" : action.sa_handler == SIG_DFL ? "default" : "caught");
}

static void dump(char **argv) {
    char link[PATH_MAX] = "";
    print_words("argv", argv);
    print_words("env", environ);
    const char *path = (const char *)getauxval(AT_EXECFN);
    printf("AT_EXECFN %s AT_SECURE %lu\n", isdigit(path[6]) ? "by number" : path, getauxval(AT_SECURE));
    print_file("comm", "/proc/self/comm");
    print_file("cmdline", "/proc/self/cmdline");
    print_file("environ", "/proc/self/environ");
    CHECK(readlink("/proc/self/exe", link, sizeof link - 1) > 0);
    printf("exe %s\n", link);
    print_signals();
    printf("descriptors");
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(fds));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(fds)) printf(" %s", entry->d_name);
    closedir(fds);
    struct rlimit files, stack;
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_STACK, &stack);
    mode_t mask = umask(0);
    printf("\nlimits %ld %ld umask %o personality %x\n\n", (long)files.rlim_cur, (long)stack.rlim_cur, mask,
           personality(0xffffffff));
    fflush(stdout);
}

static char *plain_args[] = {"name", "dump", "a b", "", NULL};
static char *plain_env[] = {"A=1", "B=", NULL};

static void run(const char *what, int (*how)(char **, char **), char **argv, char **envp) {
    printf("== %s\n", what);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        how(argv, envp);
        printf("failed: %s\n", strerror(errno));
        fflush(stdout);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    printf("status %x\n", status);
}

static int by_path(char **argv, char **envp) { return execve(self, argv, envp); }

static int by_relative_path(char **argv, char **envp) {
    char copy[PATH_MAX];
    strcpy(copy, self);
    CHECK(chdir(dirname(copy)) == 0);
    strcpy(copy, self);
    return execve(basename(copy), argv, envp);
}

static int execveat_raw(int dir, const char *path, char **argv, char **envp, int flags) {
    return syscall(SYS_execveat, dir, path, argv, envp, flags);
}

static int in_directory(char **argv, char **envp) {
    char copy[PATH_MAX];
    strcpy(copy, self);
    int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    strcpy(copy, self);
    return execveat_raw(dir, basename(copy), argv, envp, AT_SYMLINK_NOFOLLOW);
}

static int by_descriptor(char **argv, char **envp) {
    return execveat_raw(open(self, O_RDONLY), "", argv, envp, AT_EMPTY_PATH);
}

static int by_closing_descriptor(char **argv, char **envp) {
    return execveat_raw(open(self, O_PATH | O_CLOEXEC), "", argv, envp, AT_EMPTY_PATH);
}

static int by_link_to_descriptor(char **argv, char **envp) {
    char link[40];
    sprintf(link, "/proc/self/fd/%d", open(self, O_RDONLY | O_CLOEXEC));
    return execve(link, argv, envp);
}

static int by_memory(char **argv, char **envp) {
    int from = open(self, O_RDONLY | O_CLOEXEC), to = syscall(SYS_memfd_create, "image", 1);
    char bytes[4096];
    for (ssize_t got; (got = read(from, bytes, sizeof bytes)) > 0;) CHECK(write(to, bytes, got) == got);
    return execveat_raw(to, "", argv, envp, AT_EMPTY_PATH);
}

static int by_script_descriptor(char **argv, char **envp) {
    return execveat_raw(open("script", O_RDONLY), "", argv, envp, AT_EMPTY_PATH);
}

static int by_script(char **argv, char **envp) { return execve("./script", argv, envp); }
static int by_script_of_script(char **argv, char **envp) { return execve("./script2", argv, envp); }
static int by_own_link(char **argv, char **envp) { return execve("/proc/self/exe", argv, envp); }

static int by_number(char **argv, char **envp) {
    char link[40];
    sprintf(link, "/proc/%d/exe", getpid());
    return execve(link, argv, envp);
}

static int by_parents_link(char **argv, char **envp) {
    char link[40];
    sprintf(link, "/proc/%d/exe", getpid());
    pid_t child = fork();
    if (child == 0) _exit(execve(link, argv, envp));
    int status;
    waitpid(child, &status, 0);
    _exit(status >> 8);
}

static int by_open_own_link(char **argv, char **envp) {
    return execveat_raw(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "", argv, envp, AT_EMPTY_PATH);
}

static volatile sig_atomic_t caught;

static void catch(int signal) { caught = signal; }

/* A spawned child resets its handlers in memory that it shares with its parent. */
static void keep_handler_across_spawn(void) {
    pid_t child;
    int status;
    signal(SIGILL, catch);
    CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, plain_args, plain_env) == 0);
    waitpid(child, &status, 0);
    raise(SIGILL);
    CHECK_EQUAL(caught, SIGILL);
    signal(SIGILL, SIG_DFL);
}

static int with_state(char **argv, char **envp) {
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGILL);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGILL, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGTERM, (void (*)(int))exit);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){37, 100});
    setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 4 << 20});
    umask(0123);
    dup2(1, 20);
    dup2(1, 21);
    fcntl(21, F_SETFD, FD_CLOEXEC);
    personality(personality(0xffffffff) | ADDR_NO_RANDOMIZE);
    return by_path(argv, envp);
}

static int with_caught_sigill(char **argv, char **envp) {
    signal(SIGILL, (void (*)(int))exit);
    return by_path(argv, envp);
}

static void *exec_in_thread(void *words) {
    char ***both = words;
    by_path(both[0], both[1]);
    return NULL;
}

static int from_thread(char **argv, char **envp) {
    pthread_t thread;
    char **both[] = {argv, envp};
    pthread_create(&thread, NULL, exec_in_thread, both);
    pthread_join(thread, NULL);
    return -1;
}

static int from_vfork(char **argv, char **envp) {
    pid_t child = vfork();
    if (child == 0) {
        by_path(argv, envp);
        _exit(9);
    }
    int status;
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
}

static int by_spawn(char **argv, char **envp) {
    pid_t child;
    int status;
    CHECK(posix_spawn(&child, self, NULL, NULL, argv, envp) == 0);
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
}

static int after_a_failure(char **argv, char **envp) {
    signal(SIGILL, SIG_IGN);
    CHECK(execve("/nonexistent", argv, envp) == -1);
    struct sigaction action;
    sigaction(SIGILL, NULL, &action);
    CHECK(action.sa_handler == SIG_IGN);
    return by_path(argv, envp);
}

static void many_arguments(void) {
    static char *many[6000];
    static char large[120000];
    memset(large, 'x', sizeof large - 1);
    many[0] = "name";
    many[1] = "dump";
    for (int at = 2; at < 5999; at++) many[at] = at % 1000 ? "word" : large;
    run("many arguments", by_path, many, plain_env);
    run("many variables", by_path, plain_args, many);
    many[2045] = NULL;
    for (int at = 2030; at < 2045; at++) {
        char *kept = many[at];
        many[at] = NULL;
        run("arguments at the edge", by_path, many, plain_env);
        many[at] = kept;
    }
}

static void write_script(const char *name, const char *first, const char *second) {
    FILE *script = fopen(name, "w");
    fprintf(script, "#!%s %s\n", first, second);
    fclose(script);
    chmod(name, 0755);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "dump")) return dump(argv), 0;
    if (argc == 1 && argv[0][0] == 0) return dump(argv), 0;
    if (argc > 2 && !strcmp(argv[1], "link")) {
        char *next[] = {"again", argv[2][0] == '3' ? "dump" : "link", (char[]){argv[2][0] + 1, 0}, NULL};
        return execve("/proc/self/exe", next, environ);
    }
    self = argv[0];
    write_script("script", self, "dump");
    write_script("script2", "./script", "one argument ");
    char *no_words[] = {NULL};
    char *links[] = {"name", "link", "1", NULL};
    run("path", by_path, plain_args, plain_env);
    run("relative path", by_relative_path, plain_args, plain_env);
    run("no environment", by_path, plain_args, NULL);
    run("empty environment", by_path, plain_args, no_words);
    run("no arguments", by_path, NULL, plain_env);
    run("empty arguments", by_path, no_words, plain_env);
    run("directory", in_directory, plain_args, plain_env);
    run("descriptor", by_descriptor, plain_args, plain_env);
    run("closing descriptor", by_closing_descriptor, plain_args, plain_env);
    run("link to descriptor", by_link_to_descriptor, plain_args, plain_env);
    run("memory", by_memory, plain_args, plain_env);
    run("script", by_script, plain_args, plain_env);
    run("script of script", by_script_of_script, plain_args, plain_env);
    run("script by descriptor", by_script_descriptor, plain_args, plain_env);
    run("own link", by_own_link, plain_args, plain_env);
    run("own link three times", by_own_link, links, plain_env);
    run("own link by number", by_number, plain_args, plain_env);
    run("parent's link", by_parents_link, plain_args, plain_env);
    run("own link, opened", by_open_own_link, plain_args, plain_env);
    keep_handler_across_spawn();
    run("state", with_state, plain_args, plain_env);
    run("caught SIGILL", with_caught_sigill, plain_args, plain_env);
    run("thread", from_thread, plain_args, plain_env);
    run("vfork", from_vfork, plain_args, plain_env);
    run("spawn", by_spawn, plain_args, plain_env);
    run("failure before", after_a_failure, plain_args, plain_env);
    many_arguments();
    puts("ok");
    return 0;
}
