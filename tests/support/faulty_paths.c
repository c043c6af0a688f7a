#include "tests/support/faulty_paths.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_PATHS = 8 };

const hw_cpu_path *__wrap_hw_cpu_paths(void);

hw_faulty_seen hw_faulty;
static hw_kernels tables[MAX_PATHS]; /* of paths with a fault */
static hw_cpu_path paths[MAX_PATHS];

void hw_fault_sigill(void) { __builtin_trap(); }

void hw_fault_sigsegv(void)
{
    volatile char *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *p = 1;
}

/* Past the end of a file. */
void hw_fault_sigbus(void)
{
    const int f = memfd_create("empty", 0);
    volatile char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    close(f);
    *p = 1;
}

void hw_fault_sigfpe(void)
{
#if defined(__x86_64__)
    __asm__ volatile("xorl %%ecx, %%ecx\n\tmovl $1, %%eax\n\tcltd\n\tidivl %%ecx" : : : "eax", "ecx", "edx");
#endif
}

int hw_count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n - 2;
}

static hw_status real_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                             int n)
{
    const hw_weight_dims *dims = d->k->weight_dims(w);
    const int n_threads = hw_count_threads();
    if (n_threads > hw_faulty.most_threads) hw_faulty.most_threads = n_threads;
    hw_faulty.n_products++;
    hw_faulty.n_multiply_adds += (long)(dims->n_out * dims->n_in) * n;
    return __real_hw_cpu_paths()[d->k - tables].table->matmul(d, out, x, w, bias, n);
}

static hw_status wrong_bits(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                            int n)
{
    const size_t n_out = d->k->weight_dims(w)->n_out;
    hw_status st = real_matmul(d, out, x, w, bias, n);
    if (n >= 3) ((unsigned char *)out)[((size_t)n * n_out - 1) * sizeof(float)] ^= 1;
    return st;
}

#define ENDED_BY(fault)                                                                                      \
    static hw_status by_##fault(hw_device *d, void *out, const void *x, const hw_weight *w,                  \
                                const float *bias, int n)                                                    \
    {                                                                                                        \
        hw_fault_##fault();                                                                                  \
        return real_matmul(d, out, x, w, bias, n);                                                           \
    }
ENDED_BY(sigill)
ENDED_BY(sigsegv)
ENDED_BY(sigbus)
ENDED_BY(sigfpe)

static const struct kind {
    const char *name;
    hw_status (*matmul)(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n);
} kinds[] = {{"bits", wrong_bits},  {"sigill", by_sigill}, {"sigsegv", by_sigsegv},
             {"sigbus", by_sigbus}, {"sigfpe", by_sigfpe}, {"count", real_matmul}};

static double half_the_rate(void) { return 0.5; }

/* "amx:bits" breaks the path amx. */
static void break_path(size_t i, const char *fault, size_t n)
{
    const size_t n_name = strlen(paths[i].name);
    if (!paths[i].table || n <= n_name || strncmp(fault, paths[i].name, n_name) || fault[n_name] != ':')
        return;
    if (!strncmp(fault + n_name + 1, "slow", n - n_name - 1)) paths[i].gain = half_the_rate;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strlen(kinds[k].name) != n - n_name - 1 ||
            strncmp(kinds[k].name, fault + n_name + 1, n - n_name - 1))
            continue;
        tables[i] = *paths[i].table;
        tables[i].matmul = kinds[k].matmul;
        paths[i].table = &tables[i];
    }
}

/* Made anew where the environment has changed, so that threads can ask at the same time for what one of them has asked
 * for before. */
const hw_cpu_path *__wrap_hw_cpu_paths(void)
{
    static char made_for[256];
    const hw_cpu_path *real = __real_hw_cpu_paths();
    const char *env = getenv("HW_TEST_FAULT"), *faults = env ? env : "";
    if (paths[0].name && !strcmp(faults, made_for)) return paths;
    snprintf(made_for, sizeof made_for, "%s", faults);
    memset(paths, 0, sizeof paths);
    for (size_t i = 0; real[i].name; i++) {
        paths[i] = real[i];
        paths[i].gain = NULL; /* tests do not depend on what this processor is slow at */
        for (const char *f = faults; *f; f += strcspn(f, ","), f += *f == ',')
            break_path(i, f, strcspn(f, ","));
    }
    return paths;
}
