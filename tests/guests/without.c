// Runs a program on a kernel that lacks what is named, as far as a seccomp filter can pretend it: `without LIST PROG …`.
//@ build: gcc -O2 -static without.c -o $OUT
#include <errno.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPTION(name, option) {name, SYS_prctl, option, EINVAL}
#define ANY 0xffffffff

static const struct {
    const char *name;
    unsigned number, argument, error;
} calls[] = {
    {"process_vm", SYS_process_vm_readv, ANY, ENOSYS},
    {"process_vm", SYS_process_vm_writev, ANY, ENOSYS},
    {"getrandom", SYS_getrandom, ANY, ENOSYS},
    {"execveat", SYS_execveat, ANY, ENOSYS},
    {"faccessat2", SYS_faccessat2, ANY, ENOSYS},
    {"shmget", SYS_shmget, ANY, ENOSYS},
    {"membarrier", SYS_membarrier, ANY, ENOSYS},
    {"may membarrier", SYS_membarrier, ANY, EPERM},
    OPTION("PR_SET_MM", PR_SET_MM),
    OPTION("PR_GET_TID_ADDRESS", PR_GET_TID_ADDRESS),
    OPTION("PR_SET_VMA", 0x53564d41),
};

int main(int argc, char **argv)
{
    struct sock_filter code[128];
    size_t len = 0;
    if (argc < 3) return 2;
    for (char *word = strtok(argv[1], ","); word; word = strtok(NULL, ",")) {
        int known = 0;
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
            if (strcmp(word, calls[i].name) != 0) continue;
            known = 1;
            code[len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
            code[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 3);
            code[len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]));
            code[len++] = (struct sock_filter)BPF_JUMP(
                BPF_JMP | (calls[i].argument == ANY ? BPF_JGE : BPF_JEQ) | BPF_K,
                calls[i].argument == ANY ? 0 : calls[i].argument, 0, 1);
            code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | calls[i].error);
        }
        if (!known) return 3;
    }
    code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {len, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 4;
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 5;
}
