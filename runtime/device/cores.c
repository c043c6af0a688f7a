#include "runtime/device/cores.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

cpu_set_t hw_cores_allowed(void)
{
    cpu_set_t all, one;
    CPU_ZERO(&all);
    if (!sched_getaffinity(0, sizeof one, &one)) all = one;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
        const int thread = atoi(entry->d_name);
        if (thread > 0 && !sched_getaffinity(thread, sizeof one, &one)) CPU_OR(&all, &all, &one);
    }
    if (tasks) closedir(tasks);
    return all;
}

/* Reads a file like "0-3,8,10-11". Empty if it does not exist. */
static cpu_set_t read_list(const char *path)
{
    cpu_set_t set;
    int first, last;
    CPU_ZERO(&set);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%d", &first) == 1) {
        last = first;
        int c = getc(f);
        if (c == '-' && fscanf(f, "%d", &last) == 1) c = getc(f);
        for (int i = first; i >= 0 && i <= last && i < CPU_SETSIZE; i++) CPU_SET(i, &set);
        if (c != ',') break;
    }
    if (f) fclose(f);
    return set;
}

static int lowest(const cpu_set_t *set)
{
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, set)) return i;
    return -1;
}

/* Appends the cores of one node, in the order of their processors, and removes their processors from `left`. */
static int take_cores(int *cpus, int n, cpu_set_t *left, const cpu_set_t *node)
{
    char path[96];
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, left) || !CPU_ISSET(i, node)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", i);
        const cpu_set_t siblings = read_list(path);
        for (int s = 0; s < CPU_SETSIZE; s++)
            if (s == i || CPU_ISSET(s, &siblings)) CPU_CLR(s, left);
        cpus[n++] = i;
    }
    return n;
}

int hw_cores_list(int *cpus, const cpu_set_t *allowed)
{
    cpu_set_t left = *allowed, nodes = read_list("/sys/devices/system/node/online");
    char path[96];
    int n = 0;
    for (int node; (node = lowest(&nodes)) >= 0; CPU_CLR(node, &nodes)) {
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
        const cpu_set_t here = read_list(path);
        n = take_cores(cpus, n, &left, &here);
    }
    return take_cores(cpus, n, &left, allowed); /* those that belong to no node */
}

int hw_cores_count(void)
{
    int cpus[CPU_SETSIZE];
    const cpu_set_t allowed = hw_cores_allowed();
    const int n = hw_cores_list(cpus, &allowed);
    return n ? n : 1;
}

/* ---- control groups */

/* Reads two numbers from one or two files; false if one is missing or "max". */
static bool read_numbers(const char *first, const char *second, double *quota, double *period)
{
    FILE *f = fopen(first, "re");
    if (!f) return false;
    bool good = fscanf(f, "%lf", quota) == 1;
    if (second) {
        fclose(f);
        if (!(f = fopen(second, "re"))) return false;
    }
    good = good && fscanf(f, "%lf", period) == 1;
    fclose(f);
    return good && *quota > 0 && *period > 0;
}

int hw_cores_quota(void)
{
    double quota, period;
    if (!read_numbers("/sys/fs/cgroup/cpu.max", NULL, &quota, &period) &&
        !read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us", &quota,
                      &period))
        return INT_MAX;
    const double n = quota / period;
    return n >= CPU_SETSIZE ? INT_MAX : n <= 1 ? 1 : (int)n + (n > (int)n);
}
