#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_amx(void) { return has_avx512() && hw_units_amx.usable(); }
static bool has_dot(void) { return has_avx512() && hw_units_dot.usable(); }

/* Every processor with AVX2 and FMA converts float16 as well (F16C). */
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

static bool has_generic(void) { return true; }

/* Best first. */
static const struct isa {
    const char *name;
    bool (*supported)(void);
    const hw_kernels *table; /* NULL: of the best that is supported */
    const hw_units *units;   /* NULL: none */
} isas[] = {
#if defined(__x86_64__)
    {"amx", has_amx, &hw_cpu_avx512_table, &hw_units_amx},
    {"avx512-bf16", has_dot, &hw_cpu_avx512_table, &hw_units_dot},
    {"avx512", has_avx512, &hw_cpu_avx512_table, NULL},
    {"avx2", has_avx2, &hw_cpu_avx2_table, NULL},
#endif
    {"generic", has_generic, &hw_cpu_generic_table, NULL},
    {"amx-emulated", has_generic, NULL,
     &hw_units_emulated}, /* never chosen unasked: generic stands before it */
};

static hw_status choose_isa(const struct isa **out, const char *name, hw_error *err)
{
    const char *asked_by = "the instruction set";
    if (!name && (name = getenv("HW_CPU"))) asked_by = "HW_CPU";
    bool automatic = !name || !*name || !strcmp(name, "auto");
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (!automatic && strcmp(name, isas[i].name)) continue;
        if (isas[i].supported()) {
            *out = &isas[i];
            return HW_OK;
        }
        if (!automatic)
            return hw_fail(err, HW_ERR_UNSUPPORTED,
                           "%s is '%s', which this processor does not have; use auto", asked_by, name);
    }
    for (const char *const *known = (const char *const[]){"amx", "avx512-bf16", "avx512", "avx2", NULL};
         *known; known++)
        if (!strcmp(name, *known))
            return hw_fail(err, HW_ERR_UNSUPPORTED, "%s is '%s', which this build does not have; use auto",
                           asked_by, name);
    return hw_fail(err, HW_ERR_INVALID, "%s is '%s'; use auto, amx, avx512-bf16, avx512, avx2 or generic",
                   asked_by, name);
}

static const hw_kernels *table_of(const struct isa *isa)
{
    for (size_t i = 0; !isa->table; i++)
        if (isas[i].table && isas[i].supported()) isa = &isas[i];
    return isa->table;
}

static void destroy(hw_device_base *base)
{
    hw_cpu_device *cpu = (hw_cpu_device *)(void *)base;
    hw_pool_destroy(cpu->pool);
    hw_host_free(cpu->terms);
    hw_host_free(cpu->tile_room);
    free(cpu);
}

hw_status hw_cpu_device_create(hw_device **out, int n_threads, const char *isa, hw_error *err)
{
    *out = NULL;
    const struct isa *chosen = NULL;
    hw_status st = choose_isa(&chosen, isa, err);
    if (st) return st;
    if (n_threads < 0 || n_threads > HW_POOL_MAX_THREADS)
        return hw_fail(err, HW_ERR_INVALID, "device: %d threads; use 1 to %d", n_threads,
                       HW_POOL_MAX_THREADS);
    if (n_threads == 0) n_threads = 1;
    hw_cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %zu bytes", sizeof *cpu);
    cpu->units = chosen->units;
    cpu->base.device =
        (hw_device){.k = table_of(chosen),
                    .act = HW_F32,
                    .n_threads = n_threads,
                    .host_memory = true,
                    .matmul = cpu->units && cpu->units->beats_float32 ? HW_MATMUL_BF16X3 : HW_MATMUL_FLOAT32};
    cpu->base.destroy = destroy;
    snprintf(cpu->base.description, sizeof cpu->base.description, "cpu %s, %d thread%s", chosen->name,
             n_threads, n_threads == 1 ? "" : "s");
    if ((st = hw_pool_create(&cpu->pool, n_threads, err))) {
        free(cpu);
        return st;
    }
    *out = &cpu->base.device;
    return HW_OK;
}

bool hw_cpu_device_pin(hw_device *d, const int *cpus, int n_cpus)
{
    hw_cpu_device *cpu = (hw_cpu_device *)(void *)d;
    if (!hw_pool_pin(cpu->pool, cpus, n_cpus)) return false;
    const size_t n = strlen(cpu->base.description);
    snprintf(cpu->base.description + n, sizeof cpu->base.description - n, ", pinned");
    return true;
}
