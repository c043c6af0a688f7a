#include "launch/report/machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch/commit.h"
#include "runtime/device/cores.h"

#if defined(__x86_64__)
#include <cpuid.h>

typedef struct registers {
    unsigned a, b, c, d;
} registers;

static registers ask(unsigned leaf, unsigned sub)
{
    registers r = {0};
    return __get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d) ? r : (registers){0};
}

/* Leaf 1: the base family and model, widened by the extended ones (Intel SDM, volume 2, CPUID). */
static void describe_cpu(hw_processor *h)
{
    char brand[49] = "";
    if (ask(0x80000000u, 0).a >= 0x80000004u)
        for (unsigned i = 0; i < 3; i++) {
            registers r = ask(0x80000002u + i, 0);
            memcpy(brand + 16 * i, &r, 16);
        }
    const unsigned version = ask(1, 0).a, base = version >> 8 & 15;
    const unsigned family = base + (base == 15 ? version >> 20 & 255 : 0);
    const unsigned model = (version >> 4 & 15) + ((base == 6 || base == 15) ? (version >> 16 & 15) << 4 : 0);
    const char *name = brand + strspn(brand, " ");
    snprintf(h->cpu, sizeof h->cpu, "%s (family %u, model %u)", *name ? name : "x86-64", family, model);
}

static void list_instructions(hw_processor *h)
{
    const registers one = ask(1, 0), seven = ask(7, 0), more = ask(7, 1);
    const struct {
        const char *name;
        unsigned bits, bit;
    } known[] = {
        {"avx2", seven.b, 5},       {"fma", one.c, 12},           {"f16c", one.c, 29},
        {"avx512f", seven.b, 16},   {"avx512bw", seven.b, 30},    {"avx512_vnni", seven.c, 11},
        {"avx512_bf16", more.a, 5}, {"avx512_fp16", seven.d, 23}, {"amx_tile", seven.d, 24},
        {"amx_bf16", seven.d, 22},  {"amx_int8", seven.d, 25},
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].bits >> known[i].bit & 1 && n + strlen(known[i].name) + 2 < sizeof h->instructions)
            n += (size_t)sprintf(h->instructions + n, "%s%s", n ? " " : "", known[i].name);
}
#else
static void describe_cpu(hw_processor *h) { snprintf(h->cpu, sizeof h->cpu, "not an x86-64"); }
static void list_instructions(hw_processor *h) { (void)h; }
#endif

static uint64_t known(long n) { return n > 0 ? (uint64_t)n : 0; }

/* As the kernel counts it, "32768K": some versions of sysconf() add up caches that one core does not see. */
static uint64_t last_cache(void)
{
    unsigned kib = 0;
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
    if (!f) return 0;
    const bool read = fscanf(f, "%uK", &kib) == 1;
    fclose(f);
    return read ? (uint64_t)kib << 10 : 0;
}

hw_processor hw_processor_describe(void)
{
    hw_processor h = {.n_cores = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    const cpu_set_t usable = hw_cores_allowed();
    h.n_usable = CPU_COUNT(&usable) ? CPU_COUNT(&usable) : h.n_cores;
    h.memory_bytes = known(sysconf(_SC_PHYS_PAGES)) * known(sysconf(_SC_PAGESIZE));
    h.last_cache_bytes = last_cache();
    describe_cpu(&h);
    list_instructions(&h);
    return h;
}

const char *hw_build_commit(void) { return HW_COMMIT; }

void hw_build_warn_if_changed(void)
{
    if (strstr(HW_COMMIT, "-dirty"))
        fprintf(
            stderr,
            "headway: built from changed sources (commit %s): before publishing figures, commit, build and "
            "measure again\n",
            HW_COMMIT);
}
