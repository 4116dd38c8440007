// The aux vector is the same wherever it is read, and says of the program what is true of the program: where its
// headers, its entry and its interpreter are, and by which path it was executed.
//@ build: gcc -O2 -pie -fpie auxv.c -o $OUT
//@ build: gcc -O2 -no-pie -fno-pie auxv.c -o $OUT
//@ build: gcc -O2 -static auxv.c -o $OUT
//@ build: gcc -O2 -static-pie -fpie auxv.c -o $OUT
//@ build: musl-gcc -O2 auxv.c -o $OUT
//@ build: musl-gcc -O2 -static auxv.c -o $OUT
//@ build: gcc -O2 -pie -fpie -Wl,-z,max-page-size=0x200000 auxv.c -o $OUT
#include "guest.h"
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

extern char **environ;
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
void _start(void);

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

static int is_pointer(uint64_t kind) {
    return kind == AT_PHDR || kind == AT_BASE || kind == AT_ENTRY || kind == AT_RANDOM || kind == AT_EXECFN ||
           kind == AT_PLATFORM || kind == AT_SYSINFO_EHDR;
}

/* Once for the program and its libraries: the first is the program itself. */
static int check_first(struct dl_phdr_info *info, size_t size, void *seen) {
    (void)size;
    if (!*(int *)seen) CHECK_EQUAL(info->dlpi_phdr, getauxval(AT_PHDR));
    *(int *)seen = 1;
    return 1;
}

int main(int argc, char **argv) {
    char **word = environ;
    while (*word) word++;
    const Elf64_auxv_t *stack = (const Elf64_auxv_t *)(word + 1);
    size_t count = 0;
    while (stack[count].a_type != AT_NULL) count++;
    size_t bytes = (count + 1) * sizeof *stack;
    for (size_t at = 0; at < count; at++) {
        uint64_t kind = stack[at].a_type, value = stack[at].a_un.a_val;
        if (kind == AT_PHDR || kind == AT_BASE || kind == AT_ENTRY || kind == AT_RANDOM) CHECK_EQUAL(getauxval(kind), value);
        if (is_pointer(kind)) printf("%lu\n", kind);
        else printf("%lu %#lx\n", kind, value);
    }
    // What the kernel keeps must be what the stack shows.
    char kept[1024] = "", from_file[1024] = "";
    long length = prctl(PR_GET_AUXV, kept, sizeof kept, 0, 0);
    CHECK(length < 0 || (length >= (long)bytes && memcmp(kept, stack, bytes) == 0));
    int file = open("/proc/self/auxv", O_RDONLY);
    CHECK_EQUAL(read(file, from_file, sizeof from_file), bytes);
    CHECK(memcmp(from_file, stack, bytes) == 0);
    CHECK(close(file) == 0);

    const Elf64_Ehdr *header = (const Elf64_Ehdr *)__ehdr_start;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(__ehdr_start + header->e_phoff);
    CHECK_EQUAL(getauxval(AT_PHDR), segments);
    CHECK_EQUAL(getauxval(AT_PHNUM), header->e_phnum);
    CHECK_EQUAL(getauxval(AT_PHENT), sizeof *segments);
    CHECK_EQUAL(getauxval(AT_ENTRY), _start);
    uint64_t bias = header->e_type == ET_DYN ? (uint64_t)header : 0, has_interpreter = 0, align = 0;
    CHECK_EQUAL(getauxval(AT_ENTRY), bias + header->e_entry);
    for (int at = 0; at < header->e_phnum; at++) {
        has_interpreter |= segments[at].p_type == PT_INTERP;
        if (segments[at].p_type == PT_LOAD && segments[at].p_align > align) align = segments[at].p_align;
    }
    CHECK_EQUAL(bias % align, 0);
    const Elf64_Ehdr *interpreter = (const Elf64_Ehdr *)getauxval(AT_BASE);
    CHECK_EQUAL(interpreter != 0, has_interpreter);
    if (interpreter) CHECK(memcmp(interpreter->e_ident, ELFMAG, SELFMAG) == 0 && interpreter->e_type == ET_DYN);
    const Elf64_Ehdr *vdso = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    if (vdso) CHECK(memcmp(vdso->e_ident, ELFMAG, SELFMAG) == 0);
    int seen = 0;
    dl_iterate_phdr(check_first, &seen);
    CHECK(seen);

    CHECK(strcmp((const char *)getauxval(AT_EXECFN), argv[0]) == 0);
    CHECK(strcmp((const char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    CHECK_EQUAL(getauxval(AT_SECURE), 0);
    CHECK_EQUAL(getauxval(AT_UID), getuid());
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int bits = 0;
    for (int at = 0; at < 16; at++) bits |= random[at];
    CHECK(bits != 0);
    CHECK_EQUAL(argc, 1);
    return pass();
}
