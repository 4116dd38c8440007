/* How much the process takes: mappings and resident memory, to be compared at the start and the end of churn. */
#pragma once
#include "guest.h"
#include <fcntl.h>

/* How many times as long as usual to go on: the first argument. */
static int times = 1;
static inline void read_times(int argc, char **argv) {
    if (argc > 1) times = atoi(argv[1]);
}

struct footprint { long mappings, resident_kib; };

static inline struct footprint footprint(void) {
    static char text[1 << 20];
    struct footprint now = {0, 0};
    int fd = open("/proc/self/maps", O_RDONLY);
    CHECK(fd >= 0);
    for (ssize_t len; (len = read(fd, text, sizeof text)) > 0;)
        for (ssize_t at = 0; at < len; at++) now.mappings += text[at] == '\n';
    CHECK(close(fd) == 0);
    fd = open("/proc/self/status", O_RDONLY);
    CHECK(fd >= 0);
    ssize_t len = read(fd, text, sizeof text - 1);
    CHECK(len > 0);
    text[len] = 0;
    const char *line = strstr(text, "VmRSS:");
    CHECK(line != 0);
    now.resident_kib = strtol(line + 6, 0, 10);
    CHECK(close(fd) == 0);
    return now;
}

static inline void check_flat(struct footprint before, long mappings, long kib) {
    struct footprint after = footprint();
    int is_flat = after.mappings <= before.mappings + mappings && after.resident_kib <= before.resident_kib + kib;
    if (!is_flat || times > 1)
        fprintf(stderr, "mappings %ld -> %ld, resident KiB %ld -> %ld\n", before.mappings, after.mappings,
                before.resident_kib, after.resident_kib);
    if (!is_flat) _exit(1);
}
