// Code under all rights, from each to each: it has those that it was given, no more and no less, and runs where it may.
//@ build: gcc -O2 rights.c -o $OUT
//@ build: gcc -O2 -static rights.c -o $OUT
#include "marker.h"
#include <fcntl.h>

static long markers, where_writable;

/* The rights of the page, as 0 to 7. */
static int rights_of(const char *at) {
    char line[4096];
    int found = -1;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char rights[5];
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3);
        if (start <= (unsigned long)at && (unsigned long)at < end)
            found = (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0) | (rights[2] == 'x' ? PROT_EXEC : 0);
    }
    fclose(maps);
    return found;
}

static void check(const char *at, int rights) {
    CHECK_EQUAL(rights_of(at), rights);
    if (rights & PROT_EXEC) {
        run_marker(at);
        markers++;
        where_writable += (rights & PROT_WRITE) != 0;
    }
    if (rights & PROT_WRITE) {
        CHECK(memcmp(at, MARKER, sizeof MARKER) == 0);
    }
}

/* The middle one of three pages changes, the others stay. */
static void from_each_to_each(void) {
    for (int from = 0; from < 8; from++)
        for (int to = 0; to < 8; to++) {
            char *pages = map_anonymous(3 * PAGE, RW);
            for (int page = 0; page < 3; page++) memcpy(pages + page * PAGE, MARKER, sizeof MARKER);
            CHECK(mprotect(pages, 3 * PAGE, from) == 0);
            check(pages + PAGE, from);
            CHECK(mprotect(pages + PAGE, PAGE, to) == 0);
            check(pages, from);
            check(pages + PAGE, to);
            check(pages + 2 * PAGE, from);
            CHECK(mprotect(pages, 3 * PAGE, RW) == 0);
            for (int page = 0; page < 3; page++) check(pages + page * PAGE, RW);
            CHECK(munmap(pages, 3 * PAGE) == 0);
        }
}

/* Calls that fail leave rights and bytes as they were, but for what they have done before they failed. */
static void that_fail(void) {
    char *pages = map_anonymous(4 * PAGE, RW);
    for (int page = 0; page < 4; page++) memcpy(pages + page * PAGE, MARKER, sizeof MARKER);
    CHECK(mprotect(pages + 1, PAGE, RX) == -1 && errno == EINVAL);
    CHECK(mprotect(pages, PAGE, RX | PROT_GROWSDOWN) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_pkey_mprotect, pages, PAGE, RX, 15) == -1 && errno == EINVAL);
    for (int page = 0; page < 4; page++) check(pages + page * PAGE, RW);
    int fd = open("shared", O_RDWR | O_CREAT | O_TRUNC, 0700);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0 && close(fd) == 0 && (fd = open("shared", O_RDONLY)) >= 0);
    CHECK(mmap(pages + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == pages + 2 * PAGE);
    CHECK(mprotect(pages + PAGE, 3 * PAGE, RWX) == -1 && errno == EACCES);
    check(pages, RW);
    check(pages + PAGE, RWX);
    CHECK_EQUAL(rights_of(pages + 2 * PAGE), PROT_READ);
    check(pages + 3 * PAGE, RW);
    CHECK(munmap(pages + 2 * PAGE, PAGE) == 0);
    CHECK(mprotect(pages, 4 * PAGE, RX) == -1 && errno == ENOMEM);
    check(pages, RX);
    check(pages + PAGE, RX);
    check(pages + 3 * PAGE, RW);
    CHECK(munmap(pages, 4 * PAGE) == 0);
}

int main(void) {
    from_each_to_each();
    that_fail();
    printf("%ld of %ld from what can be written\n", where_writable, markers);
    return pass();
}
