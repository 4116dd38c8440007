// What the calls that map code answer, right and wrong, and the rights that they leave behind.
//@ build: gcc -O2 mapping_errors.c -o $OUT
#include "guest.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>

enum { PAGE = 4096, PAGES = 8, R = PROT_READ, W = PROT_WRITE, X = PROT_EXEC };

static char *const HOME = (char *)0x300000000000;

/* mov $140, %eax; mov $106, %edi; syscall; ret */
static const unsigned char CODE[] = {0xb8, 140, 0, 0, 0, 0xbf, 106, 0, 0, 0, 0x0f, 0x05, 0xc3};

/* The rights of each page at HOME, and what its first bytes say where they can be read. */
static void show(const char *what, long result) {
    int error = errno;
    char rights[PAGES][5];
    for (int page = 0; page < PAGES; page++) strcpy(rights[page], "none");
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char found[5];
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, found) == 3);
        for (int page = 0; page < PAGES; page++) {
            unsigned long at = (unsigned long)HOME + (unsigned long)page * PAGE;
            if (start <= at && at < end) strcpy(rights[page], found);
        }
    }
    fclose(maps);
    if (result == -1) printf("%s: error %d\n", what, error);
    else printf("%s: %s\n", what, result == (long)HOME ? "home" : result == 0 ? "0" : "other");
    for (int page = 0; page < PAGES; page++) {
        printf(" %s", rights[page]);
        char *at = HOME + page * PAGE;
        if (strncmp(rights[page], "rw-", 3) == 0) printf(memcmp(at, CODE, sizeof CODE) == 0 ? "+" : "-");
    }
    puts("");
    fflush(stdout);
}

#define SHOW(call) (errno = 0, show(#call, (long)(call)))

static void fill(int protection) {
    CHECK(mmap(HOME, PAGES * PAGE, R | W, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == HOME);
    for (int page = 0; page < PAGES; page++) memcpy(HOME + page * PAGE, CODE, sizeof CODE);
    CHECK(mprotect(HOME, PAGES * PAGE, protection) == 0);
}

static void of_mprotect(void) {
    fill(R | W);
    SHOW(mprotect(HOME + 1, PAGE, R | X));
    SHOW(mprotect(HOME, -1L, R | X));
    SHOW(mprotect(HOME, 0, R | X));
    SHOW(mprotect(HOME, PAGE, R | X | 0x40));
    SHOW(mprotect(HOME, PAGE, R | X | PROT_GROWSDOWN));
    SHOW(syscall(SYS_pkey_mprotect, HOME, PAGE, R | X, 12345));
    SHOW(mprotect(HOME + PAGE, 2 * PAGE - 1, R | X));
    SHOW(munmap(HOME + 5 * PAGE, PAGE));
    /* What lies before the hole changes. */
    SHOW(mprotect(HOME + 4 * PAGE, 3 * PAGE, R | X));
    SHOW(mprotect(HOME, PAGE, PROT_NONE));
    SHOW(mprotect(HOME, PAGE, X));
    SHOW(mprotect(HOME, PAGE, W));
    SHOW(mprotect(HOME, PAGE, W | X));
    SHOW(mprotect(HOME, 5 * PAGE, R | W));
    SHOW(mprotect(HOME, PAGE, R | W | X));
    SHOW(mprotect(HOME + PAGE, 3 * PAGE, R));
    SHOW(mprotect(HOME + PAGE, 3 * PAGE, R | X));
    SHOW(mprotect(HOME + 2 * PAGE, PAGE, R | W));
}

static void of_mmap(int fd, int closed) {
    fill(R | X);
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, closed, 0));
    SHOW(mmap(HOME, 0, R | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, fd, 1));
    SHOW(mmap(HOME + 1, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME, PAGE, R | X, MAP_FIXED, fd, 0));
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0));
    SHOW(mmap(HOME, 1L << 62, R | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    int writing = open("code", O_WRONLY);
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, writing, 0));
    close(writing);
    int directory = open(".", O_RDONLY);
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, directory, 0));
    close(directory);
    SHOW(mmap(HOME, PAGE, R | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME + PAGE, PAGE, R | W | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME + 2 * PAGE, PAGE, X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME + 3 * PAGE, PAGE, R | X, MAP_SHARED | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME + 4 * PAGE, PAGE, W | X, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SHOW(mmap(HOME + 5 * PAGE, 2 * PAGE, R | X, MAP_PRIVATE | MAP_FIXED, fd, PAGE));
    SHOW(mprotect(HOME + 3 * PAGE, PAGE, R | W));
    SHOW(mprotect(HOME, PAGE, R | W));
    SHOW(mprotect(HOME, 2 * PAGE, R));
}

static void of_the_others(void) {
    fill(R | X);
    SHOW(munmap(HOME + 1, PAGE));
    SHOW(munmap(HOME, 0));
    SHOW(mremap(HOME + 1, PAGE, PAGE, 0));
    SHOW(mremap(HOME, PAGE, 0, 0));
    SHOW(mremap(HOME, PAGE, 2 * PAGE, 0));
    SHOW(mremap(HOME, 2 * PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE));
    SHOW(mremap(HOME, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, HOME));
    SHOW(mremap(HOME, PAGE, PAGE, MREMAP_FIXED, HOME + PAGE));
    SHOW(mremap(HOME, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, HOME + PAGE));
    SHOW(mremap(HOME + 2 * PAGE, 2 * PAGE, PAGE, 0));
    SHOW(mprotect(HOME + PAGE, 2 * PAGE, R | W));
    SHOW(madvise(HOME + 1, PAGE, MADV_DONTNEED));
    SHOW(madvise(HOME, 2 * PAGE, MADV_DONTNEED));
    SHOW(madvise(HOME + 4 * PAGE, 4 * PAGE, MADV_DONTNEED));
    SHOW(madvise(HOME + 4 * PAGE, PAGE, 4711));
    SHOW(munmap(HOME + 6 * PAGE, 20 * PAGE));
    SHOW(shmat(-1, 0, SHM_EXEC));
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    SHOW(shmat(id, HOME, SHM_EXEC));
    SHOW(shmat(id, HOME + 4 * PAGE, SHM_EXEC));
    SHOW(shmat(id, HOME + 4 * PAGE, SHM_EXEC | SHM_REMAP));
    CHECK(shmctl(id, IPC_RMID, 0) == 0);
}

int main(void) {
    int fd = open("code", O_RDWR | O_CREAT | O_TRUNC, 0700);
    CHECK(fd >= 0 && pwrite(fd, CODE, sizeof CODE, 0) == sizeof CODE);
    CHECK(pwrite(fd, CODE, sizeof CODE, PAGE) == sizeof CODE);
    int closed = dup(fd);
    close(closed);
    of_mprotect();
    of_mmap(fd, closed);
    of_the_others();
    return pass();
}
