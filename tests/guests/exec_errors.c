// Execs that fail, each by execve, from a vfork child and by posix_spawn where that can say it: errors come back.
//@ build: gcc -O2 exec_errors.c -o $OUT
//@ build: musl-gcc -static -O2 exec_errors.c -o $OUT
//@ modes: plain summary trace
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *no_args[] = {"x", NULL};
static char *no_env[] = {NULL};
static int cases;

static const char *name_of(int error) {
    switch (error) {
    case ENOENT: return "ENOENT";
    case EACCES: return "EACCES";
    case ENOEXEC: return "ENOEXEC";
    case EFAULT: return "EFAULT";
    case E2BIG: return "E2BIG";
    case ELOOP: return "ELOOP";
    case ENOTDIR: return "ENOTDIR";
    case ENAMETOOLONG: return "ENAMETOOLONG";
    case ETXTBSY: return "ETXTBSY";
    case ELIBBAD: return "ELIBBAD";
    case EINVAL: return "EINVAL";
    case EBADF: return "EBADF";
    case EIO: return "EIO";
    case ENOMEM: return "ENOMEM";
    default: return "another";
    }
}

static int from_vfork(long nr, long a, long b, long c, long d, long e) {
    volatile int error = 0;
    pid_t child = vfork();
    if (child == 0) {
        syscall(nr, a, b, c, d, e);
        error = errno;
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return error;
}

static void with(const char *what, const char *path, char **argv, char **envp) {
    cases++;
    syscall(SYS_execve, path, argv, envp);
    int direct = errno;
    int forked = from_vfork(SYS_execve, (long)path, (long)argv, (long)envp, 0, 0);
    printf("%s: %s %s\n", what, name_of(direct), name_of(forked));
}

static void at(const char *what, int dir, const char *path, int flags) {
    cases++;
    syscall(SYS_execveat, dir, path, no_args, no_env, flags);
    int direct = errno;
    int forked = from_vfork(SYS_execveat, dir, (long)path, (long)no_args, (long)no_env, flags);
    printf("%s: %s %s\n", what, name_of(direct), name_of(forked));
}

static void path(const char *what, const char *path) {
    with(what, path, no_args, no_env);
    pid_t child;
    printf("  spawn: %s\n", name_of(posix_spawn(&child, path, NULL, NULL, no_args, no_env)));
}

static const char *file(const char *name, const void *bytes, size_t len, int mode) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len || fchmod(fd, mode) || close(fd)) exit(1);
    return name;
}

static const char *script(const char *name, const char *text) { return file(name, text, strlen(text), 0755); }

static char elf[1 << 16];
static size_t elf_len;

static Elf64_Ehdr *fresh_elf(void) {
    int fd = open("/bin/true", O_RDONLY);
    elf_len = read(fd, elf, sizeof elf);
    close(fd);
    return (Elf64_Ehdr *)elf;
}

static void with_interpreter(const char *what, const char *name, const char *interpreter) {
    Elf64_Ehdr *header = fresh_elf();
    Elf64_Phdr *entry = (Elf64_Phdr *)(elf + header->e_phoff);
    while (entry->p_type != PT_INTERP) entry++;
    memset(elf + entry->p_offset, 0, entry->p_filesz);
    strcpy(elf + entry->p_offset, interpreter);
    entry->p_filesz = strlen(interpreter) + 1;
    path(what, file(name, elf, elf_len, 0755));
}

static void files(void) {
    path("missing", "missing");
    path("empty", "");
    path("directory", "/");
    path("not executable", file("plain", "#!/bin/sh\n", 10, 0644));
    path("below a file", "plain/x");
    if (symlink("loop", "loop") || symlink("nowhere", "dangling") || mkfifo("fifo", 0755)) exit(1);
    path("link to itself", "loop");
    path("link to nowhere", "dangling");
    path("fifo", "fifo");
    path("device", "/dev/null");
    path("closed descriptor", "/proc/self/fd/99");
    char longer[5000];
    memset(longer, 'a', sizeof longer);
    longer[300] = 0;
    path("long name", longer);
    longer[300] = 'a';
    longer[4999] = 0;
    path("long path", longer);
    path("empty file", file("nothing", "", 0, 0755));
    path("text", script("text", "echo hello\n"));
    path("a byte", script("byte", "#"));
    int busy = open(script("busy", "#!/bin/sh\n"), O_WRONLY);
    path("open for writing", "busy");
    close(busy);
}

static void with_interpreter(const char *what, const char *name, const char *interpreter);

static void scripts(void) {
    path("no interpreter", script("s1", "#!"));
    path("blanks", script("s2", "#!   \n"));
    path("missing interpreter", script("s3", "#!/nonexistent\n"));
    path("carriage return", script("s4", "#!/bin/sh\r\n"));
    path("directory as interpreter", script("s5", "#!/etc\n"));
    path("plain file as interpreter", script("s6", "#!./plain\n"));
    path("text as interpreter", script("s7", "#!./text\n"));
    path("script of itself", script("s8", "#!./s8\n"));
    char line[400] = "#!/";
    memset(line + 3, 'b', 300);
    path("long interpreter", script("s9", line));
    script("n0", "#!/bin/sh\n");
    for (int depth = 1; depth < 7; depth++) {
        char name[8], text[16];
        sprintf(name, "n%d", depth);
        sprintf(text, "#!./n%d\n", depth - 1);
        script(name, text);
    }
    path("scripts too deep", "n6");
    int busy = open("busy", O_WRONLY);
    path("interpreter open for writing", script("s10", "#!./busy\n"));
    with_interpreter("dynamic loader open for writing", "e0", "./busy");
    close(busy);
}

static void images(void) {
    Elf64_Ehdr *header = fresh_elf();
    path("ten bytes", file("e1", elf, 10, 0755));
    path("header only", file("e2", elf, sizeof *header, 0755));
    header->e_type = ET_REL;
    path("relocatable", file("e3", elf, elf_len, 0755));
    header = fresh_elf();
    header->e_machine = EM_AARCH64;
    path("foreign machine", file("e4", elf, elf_len, 0755));
    header = fresh_elf();
    header->e_phentsize = 32;
    path("header length", file("e5", elf, elf_len, 0755));
    header = fresh_elf();
    header->e_phnum = 0;
    path("no headers", file("e6", elf, elf_len, 0755));
    header = fresh_elf();
    header->e_phoff = 1 << 30;
    path("headers past the end", file("e7", elf, elf_len, 0755));
    with_interpreter("missing dynamic loader", "e8", "/no/ld.so");
    with_interpreter("directory as dynamic loader", "e9", "/etc");
    with_interpreter("text as dynamic loader", "e10", "./text");
    with_interpreter("short dynamic loader", "e11", "./e1");
    with_interpreter("plain dynamic loader", "e12", "./plain");
}

static void memory(void) {
    char *bad = (char *)8;
    char *bad_string[] = {"x", bad, NULL};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    char **unterminated = (char **)(page + 4096 - 16);
    unterminated[0] = unterminated[1] = "x";
    memset(page, 'a', 4000);
    with("no path", NULL, no_args, no_env);
    with("bad path", bad, no_args, no_env);
    with("bad arguments", "/bin/true", (char **)bad, no_env);
    with("bad argument", "/bin/true", bad_string, no_env);
    with("bad environment", "/bin/true", no_args, (char **)bad);
    with("bad variable", "/bin/true", no_args, bad_string);
    with("arguments without an end", "/bin/true", unterminated, no_env);
    with("environment without an end", "/bin/true", no_args, unterminated);
    page[4095] = page[4094] = 'a';
    with("path without an end", page + 4094, no_args, no_env);
    char *large = malloc(200000);
    memset(large, 'a', 199999);
    large[199999] = 0;
    with("long argument", "/bin/true", (char *[]){"x", large, NULL}, no_env);
    with("long variable", "/bin/true", no_args, (char *[]){large, NULL});
    large[100000] = 0;
    char **many = calloc(100, sizeof *many);
    for (int i = 0; i < 99; i++) many[i] = large;
    with("many arguments", "/bin/true", many, no_env);
    char **short_ones = calloc(1 << 21, sizeof *short_ones);
    for (int i = 0; i < (1 << 21) - 1; i++) short_ones[i] = "";
    with("very many arguments", "/bin/true", short_ones, no_env);
}

static void descriptors(void) {
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    int closing_dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int plain = open("plain", O_RDONLY);
    int closing_script = open("n0", O_RDONLY | O_CLOEXEC);
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    at("bad descriptor", 99, "x", 0);
    at("bad descriptor itself", 99, "", AT_EMPTY_PATH);
    at("below a file descriptor", plain, "x", 0);
    at("unknown flags", AT_FDCWD, "/bin/true", 1);
    at("missing in a directory", dir, "missing", 0);
    at("link not followed", dir, "dangling", AT_SYMLINK_NOFOLLOW);
    at("empty path", dir, "", 0);
    at("directory itself", dir, "", AT_EMPTY_PATH);
    at("working directory itself", AT_FDCWD, "", AT_EMPTY_PATH);
    at("plain file itself", plain, "", AT_EMPTY_PATH);
    at("socket itself", sock, "", AT_EMPTY_PATH);
    at("script that closes", closing_script, "", AT_EMPTY_PATH);
    at("script in a directory that closes", closing_dir, "n0", 0);
    at("text in a directory", dir, "text", 0);
    at("bad path", dir, (char *)8, 0);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    files();
    scripts();
    images();
    memory();
    descriptors();
    printf("%d cases\n", cases);
    puts("ok");
    return 0;
}
