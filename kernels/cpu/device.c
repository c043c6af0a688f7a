#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/paths.h"
#include "kernels/cpu/prove.h"

static bool is_there(const hw_cpu_path *p) { return p->announced() && (!p->allowed || p->allowed()); }

static const hw_kernels *table_of(const hw_cpu_path *path)
{
    for (const hw_cpu_path *p = hw_cpu_paths(); !path->table; p++)
        if (p->table && is_there(p)) path = p;
    return path->table;
}

static void destroy(hw_device_base *base)
{
    hw_cpu_device *cpu = (hw_cpu_device *)(void *)base;
    hw_pool_destroy(cpu->pool);
    hw_host_free(cpu->terms);
    hw_host_free(cpu->tile_room);
    free(cpu);
}

static hw_status create(hw_cpu_device **out, int n_threads, const hw_cpu_path *path, hw_error *err)
{
    *out = NULL;
    hw_cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %zu bytes", sizeof *cpu);
    cpu->units = path->units;
    cpu->base.device =
        (hw_device){.k = table_of(path),
                    .act = HW_F32,
                    .n_threads = n_threads,
                    .host_memory = true,
                    .matmul = cpu->units && cpu->units->beats_float32 ? HW_MATMUL_BF16X3 : HW_MATMUL_FLOAT32};
    cpu->base.destroy = destroy;
    cpu->base.path = path->name;
    hw_status st = hw_pool_create(&cpu->pool, n_threads, err);
    if (st) free(cpu);
    else *out = cpu;
    return st;
}

/* ---- choosing a path */

/* The request, and the findings on the way to the chosen path. */
typedef struct choice {
    const char *name, *asked_by; /* NULL: the best */
    bool proves;
    char failed[128];  /* "amx: wrong bits, avx512: SIGILL" */
    char warning[512]; /* the same with details */
    char note[256];    /* paths that the processor has, but that are not used */
} choice;

static void append(char *list, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *list, size_t size, const char *format, ...)
{
    va_list args;
    size_t n = strlen(list);
    if (n) n += (size_t)snprintf(list + n, size - n, ", ");
    if (n >= size) return;
    va_start(args, format);
    vsnprintf(list + n, size - n, format, args);
    va_end(args);
}

static hw_status read_environment(choice *c, const char *isa, hw_error *err)
{
    const char *prove = getenv("HW_PROVE");
    c->name = isa, c->asked_by = "the instruction set";
    if (!isa && (c->name = getenv("HW_CPU"))) c->asked_by = "HW_CPU";
    if (c->name && (!*c->name || !strcmp(c->name, "auto"))) c->name = NULL;
    c->proves = !hw_proofs_are_off();
    if (prove && *prove && c->proves && strcmp(prove, "on"))
        return hw_fail(err, HW_ERR_INVALID, "HW_PROVE is '%s'; use on or off", prove);
    return HW_OK;
}

static hw_status no_such_path(const choice *c, hw_error *err)
{
    static const char *const known[] = {"amx", "avx512-bf16", "avx512", "avx2", NULL};
    for (const char *const *k = known; c->name && *k; k++)
        if (!strcmp(c->name, *k))
            return hw_fail(err, HW_ERR_UNSUPPORTED, "%s is '%s', which this build does not have; use auto",
                           c->asked_by, c->name);
    if (c->name)
        return hw_fail(err, HW_ERR_INVALID, "%s is '%s'; use auto, amx, avx512-bf16, avx512, avx2 or generic",
                       c->asked_by, c->name);
    return hw_fail(err, HW_ERR_DEVICE,
                   "device: no way to compute passes its proof on this processor (%s); HW_PROVE=off goes on "
                   "without one, and results can be wrong",
                   c->warning);
}

/* HW_OK: it can be tried. HW_ERR_UNSUPPORTED: it cannot, and if it was requested `err` says why. */
static hw_status look_at(choice *c, const hw_cpu_path *p, hw_error *err)
{
    if (!p->announced())
        return hw_fail(c->name ? err : NULL, HW_ERR_UNSUPPORTED,
                       "%s is '%s', which this processor does not have; use auto", c->asked_by, p->name);
    if (!p->allowed || p->allowed()) return HW_OK;
    append(c->note, sizeof c->note, "%s: the processor has it, the kernel does not let this process use it",
           p->name);
    return hw_fail(
        c->name ? err : NULL, HW_ERR_UNSUPPORTED,
        "%s is '%s', which this processor has and the kernel does not let this process use; use auto",
        c->asked_by, p->name);
}

/* Tests a path on a separate device, whose only thread is this one. */
static hw_status prove(choice *c, const hw_cpu_path *p, bool *passed, hw_error *err)
{
    hw_cpu_device *cpu;
    hw_proof proof;
    *passed = true;
    if (!c->proves) {
        append(c->note, sizeof c->note, "%s: not proved, because of HW_PROVE=off", p->name);
        return HW_OK;
    }
    hw_status st = create(&cpu, 1, p, err);
    if (st) return st;
    st = hw_cpu_prove(&proof, &cpu->base.device, p->proof_rows, err);
    hw_device_destroy(&cpu->base.device);
    if (st) return st;
    *passed = proof.passed;
    if (proof.passed) return HW_OK;
    append(c->failed, sizeof c->failed, "%s: %s", p->name, proof.reason);
    append(c->warning, sizeof c->warning, "%s: %s (%s)", p->name, proof.reason, proof.details);
    if (!c->name) return HW_OK;
    return hw_fail(
        err, HW_ERR_DEVICE,
        "%s is '%s', which failed its proof on this processor: %s (%s); use auto, and please report "
        "it",
        c->asked_by, p->name, proof.reason, proof.details);
}

/* Whether a path that was not requested by name is fast enough; called after its test. */
static bool is_worth_it(choice *c, const hw_cpu_path *p)
{
    const double gain = c->name || !p->gain ? 1 : p->gain();
    if (gain >= 1) return true;
    append(c->note, sizeof c->note, "%s: left alone, multiply-adds do %.1f times as much here", p->name,
           1 / gain);
    return false;
}

static hw_status choose(choice *c, const hw_cpu_path **out, hw_error *err)
{
    for (const hw_cpu_path *p = hw_cpu_paths(); p->name; p++) {
        bool passed = false;
        if (c->name ? strcmp(c->name, p->name) != 0 : p->by_name_only) continue;
        hw_status st = look_at(c, p, err);
        if (st && c->name) return st;
        if (!st && (st = prove(c, p, &passed, err))) return st;
        *out = p;
        if (passed && is_worth_it(c, p)) return HW_OK;
    }
    return no_such_path(c, err);
}

/* ---- the device */

static void describe(hw_device_base *base, const choice *c)
{
    const int n = base->device.n_threads;
    const bool failed = c->failed[0];
    snprintf(base->description, sizeof base->description, "cpu %s%s%s%s, %d thread%s", base->path,
             failed ? " (" : "", c->failed, failed ? ")" : "", n, n == 1 ? "" : "s");
    if (failed)
        snprintf(base->warning, sizeof base->warning,
                 "%s is used, since a better way to compute failed its proof: %s", base->path, c->warning);
    snprintf(base->note, sizeof base->note, "%s", c->note);
}

hw_status hw_cpu_device_create(hw_device **out, int n_threads, const char *isa, hw_error *err)
{
    *out = NULL;
    choice c = {.name = NULL};
    const hw_cpu_path *path = NULL;
    hw_cpu_device *cpu = NULL;
    if (n_threads < 0 || n_threads > HW_POOL_MAX_THREADS)
        return hw_fail(err, HW_ERR_INVALID, "device: %d threads; use 1 to %d", n_threads,
                       HW_POOL_MAX_THREADS);
    hw_status st = read_environment(&c, isa, err);
    if (!st) st = choose(&c, &path, err);
    if (!st) st = create(&cpu, n_threads ? n_threads : 1, path, err);
    if (st) return st;
    describe(&cpu->base, &c);
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
