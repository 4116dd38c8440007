// The program finds open only what was open before: the lowest free number is the native one, and there is no other.
//@ build: gcc -O2 descriptors.c -o $OUT
//@ build: gcc -O2 -static descriptors.c -o $OUT
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>

int main(void) {
    for (int fd = 0; fd < 65536; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf("%d\n", fd);
    printf("next %d\n", open("/dev/null", O_RDONLY));
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir != 0);
    int count = 0;
    while (readdir(dir)) count++;
    printf("%d entries\n", count);
    // Closing everything must not take anything from under anybody's feet.
    CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0);
    CHECK_EQUAL(open("/dev/null", O_RDONLY), 3);
    CHECK(system("exit 4") == 4 << 8);
    return pass();
}
