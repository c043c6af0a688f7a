#include "runtime/device/host_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* The number behind `key` in a file of "key: number [kB]" lines; 0 when it is not there. */
static uint64_t read_field(const char *path, const char *key)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %" SCNu64, &value) == 1) break;
    fclose(f);
    return value;
}

/* A file that holds one number; UINT64_MAX when it holds "max" or is not there. */
static uint64_t read_number(const char *path)
{
    uint64_t value = UINT64_MAX;
    FILE *f = fopen(path, "re");
    if (!f) return UINT64_MAX;
    if (fscanf(f, "%" SCNu64, &value) != 1) value = UINT64_MAX;
    fclose(f);
    return value;
}

static uint64_t left(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

uint64_t hw_memory_available(void)
{
    uint64_t available = read_field("/proc/meminfo", "MemAvailable") * 1024;
    if (!available) available = UINT64_MAX;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max"),
             used = read_number("/sys/fs/cgroup/memory.current");
    if (limit != UINT64_MAX && used != UINT64_MAX && left(limit, used) < available)
        available = left(limit, used);
    struct rlimit as;
    if (!getrlimit(RLIMIT_AS, &as) && as.rlim_cur != RLIM_INFINITY) {
        uint64_t mapped = read_field("/proc/self/status", "VmSize") * 1024;
        if (left(as.rlim_cur, mapped) < available) available = left(as.rlim_cur, mapped);
    }
    return available;
}

uint64_t hw_memory_peak(void) { return read_field("/proc/self/status", "VmHWM") * 1024; }
