/* headway selftest: compares every op of this machine's devices with the plain loops. To be run first on new hardware. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/plugin.h"
#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/report/selftest.h"
#include "launch/settings/args.h"
#include "parallel/comm.h"
#include "runtime/base/clock.h"
#include "runtime/device/cores.h"
#include "runtime/model.h"

typedef struct settings {
    hw_report_settings report;
    const char *model, *config, *device;
    int n_threads;
    uint64_t seed;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting rows[] = {
    {NULL, "model", 'm', "FOLDER", HW_FOLDER, NULL, 0, AT(model),
     "Use the shapes of this model; its config.json is enough (the demo model's)"},
    {NULL, "config", 'c', "FILE", HW_TEXT, NULL, 0, AT(config), NULL}, /* what launch would add */
    {NULL, "device", 0, "D", HW_TEXT, NULL, 0, AT(device),
     "auto: cpu, and cuda if there is a GPU; cpu: each path that this processor supports, or the one that "
     "HW_CPU names; cuda; or the path of a plug-in (auto)"},
    {NULL, "threads", 't', "N", HW_WHOLE("threads", 1, 1024), "auto", 0, AT(n_threads),
     "Threads of the CPU; auto: its cores"},
    {NULL, "seed", 0, "N", HW_SEED(0), "0", 0, AT(seed), "Seed of the random numbers"},
};
#undef AT
static const char *settle_own(void *values)
{
    if (!((settings *)values)->config) return NULL;
    return "selftest takes no configuration and checks one process: run it without launch, and give a "
           "model's folder with -m";
}

static const hw_setting_group group = HW_OWN_GROUP("What to check:", 1, rows, settle_own);

static const char doc[] =
    "Compares every op of this machine's devices with plain loops, on random inputs, and times it. For new "
    "hardware, and for bug reports. Exit status 1 if something is wrong.\v"
    "Each op runs with 1 to 64 rows. On the CPU, products and the ops of sampling have the bits of the plain "
    "loops, and all paths have the same bits; other results may differ by rounding, up to the column "
    "\"allowed\". Times are the best of several runs. For a product, \"of reads\" is the speed at which one "
    "row streams a large matrix, as a share of a plain read loop; \"of arithmetic\" is the speed of 64 rows, "
    "as a share of the peak of multiply-adds or matrix units.\n\n"
    "  headway selftest\n"
    "  headway selftest -m models/shapes/llama-1b --json > selftest.json";

/* The sizes of models/tales, which is not installed with the program. */
static const hw_selftest_shapes demo = {.dim = 256,
                                        .ffn_dim = 688,
                                        .vocab_size = 1279,
                                        .n_heads = 8,
                                        .n_kv_heads = 4,
                                        .head_dim = 32,
                                        .rotary_half = 16,
                                        .gated = true,
                                        .norm_eps = 1e-5f,
                                        .attn_scale = 0.17677669f};

static hw_status read_shapes(hw_selftest_shapes *s, const char *folder, hw_error *err)
{
    hw_model m;
    struct stat info;
    *s = demo;
    if (!folder) return HW_OK;
    const bool file = !stat(folder, &info) && S_ISREG(info.st_mode);
    hw_status st = file ? hw_model_open_config(&m, folder, err) : hw_model_open(&m, folder, err);
    if (st) return st;
    *s = (hw_selftest_shapes){.dim = m.dim,
                              .ffn_dim = m.ffn_dim,
                              .vocab_size = m.vocab_size,
                              .n_heads = m.n_heads,
                              .n_kv_heads = m.n_kv_heads,
                              .head_dim = m.head_dim,
                              .rotary_half = m.rope.kind == HW_ROPE_NONE ? 0 : m.rope.rotary_dim / 2,
                              .gated = m.gated_mlp,
                              .norm_eps = m.norm_eps,
                              .attn_scale = m.kinds[0].attn.scale};
    return HW_OK;
}

/* ---- devices */

static void add_path(hw_selftest_found *f, hw_device *d, const char *type)
{
    snprintf(f->names[f->n_paths], sizeof f->names[0], "%s%s%s", hw_device_description(d), *type ? ", " : "",
             type);
    f->paths[f->n_paths] = (hw_selftest_path){.name = f->names[f->n_paths], .device = d};
    f->n_paths++;
}

static void leave_out(hw_selftest_found *f, const char *what, const char *why)
{
    snprintf(f->left_out[f->n_left_out++], sizeof f->left_out[0], "%s (%s)", what, why);
}

/* The simplest first: all others are compared with it. */
static hw_status add_cpu(hw_selftest_found *f, int n_threads, hw_error *err)
{
    static const char *const ways[] = {"generic", "avx2", "avx512", "avx512-bf16", "amx"};
    const char *only = getenv("HW_CPU");
    const bool all = !only || !*only || !strcmp(only, "auto");
    hw_status st = HW_OK;
    for (size_t i = 0; i < (all ? sizeof ways / sizeof *ways : 1) && !st; i++) {
        hw_device *d;
        st = hw_cpu_device_create(&d, n_threads, all ? ways[i] : NULL, err);
        if (!st) add_path(f, d, "");
        else if (all && (st == HW_ERR_UNSUPPORTED || st == HW_ERR_DEVICE)) {
            leave_out(f, ways[i], err->message);
            if (st == HW_ERR_DEVICE && !f->refused) f->refused = f->left_out[f->n_left_out - 1];
            st = HW_OK;
        }
    }
    return st;
}

/* One device for each type that the plug-in supports. */
static hw_status add_plugin(hw_selftest_found *f, const char *name, hw_error *err)
{
    static const hw_dtype types[] = {HW_BF16, HW_F16, HW_F32};
    const int before = f->n_paths;
    hw_status st = HW_OK;
    for (int i = 0; i < 3; i++) {
        hw_device *d;
        st = hw_plugin_device_create(&d, name, (hw_device_place){0, 1}, types[i], err);
        if (!st) add_path(f, d, hw_dtype_name(types[i]));
    }
    return f->n_paths > before ? HW_OK : st;
}

static hw_status add_paths(hw_selftest_found *f, const settings *a, hw_error *err)
{
    const char *name = a->device ? a->device : "auto";
    const int n_threads = a->n_threads ? a->n_threads : hw_cores_count();
    const bool any = !strcmp(name, "auto");
    hw_device *d;
    if (any || !strcmp(name, "cpu")) {
        hw_status st = add_cpu(f, n_threads, err);
        hw_error none;
        if (!st && any && hw_plugin_may_find_gpu() && add_plugin(f, "cuda", &none))
            leave_out(f, "cuda", none.message);
        return st;
    }
    if (!strcmp(name, "cuda") || strchr(name, '/')) return add_plugin(f, name, err);
    if (strcmp(name, "reference"))
        return hw_fail(err, HW_ERR_UNSUPPORTED,
                       "device \"%s\" is not known; use auto, cpu, cuda, reference, or a plug-in's path",
                       name);
    hw_status st = hw_reference_device_create(&d, err);
    if (!st) add_path(f, d, "");
    return st;
}

/* ---- running */

/* For the signal handler: an unsupported instruction kills the process inside an op. */
static char under_way[256];

static void say_where(int signal_number)
{
    static const char before[] = "headway: selftest: killed by a signal in ",
                      after[] = "; report it as a bug\n";
    if (write(2, before, sizeof before - 1) < 0 || write(2, under_way, strlen(under_way)) < 0 ||
        write(2, after, sizeof after - 1) < 0)
        _exit(1);
    raise(signal_number); /* kills the process: the handler was reset when it was called */
}

static void watch_signals(void)
{
    const struct sigaction action = {.sa_handler = say_where, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
}

/* Paths with the same activation type run together. */
typedef struct progress {
    hw_selftest_found *found;
    int first; /* index of the first path of this run */
    bool terminal;
} progress;

static void on_begin(void *user, const char *op, const char *variant, const char *path)
{
    const progress *p = user;
    snprintf(under_way, sizeof under_way, "%s%s%s on %s", op, *variant ? ", " : "", variant, path);
    if (p->terminal) fprintf(stderr, "\r\033[K%.79s", under_way);
}

static void on_line(void *user, const hw_selftest_line *line)
{
    const progress *p = user;
    hw_selftest_found *f = p->found;
    if (f->n_lines == HW_SELFTEST_MAX_LINES) return;
    f->lines[f->n_lines] = *line;
    f->lines[f->n_lines++].path += p->first;
    f->n_wrong += line->wrong;
}

static hw_status run(hw_selftest_found *f, hw_error *err)
{
    progress p = {.found = f, .terminal = isatty(2)};
    const hw_selftest_options options = {
        .seed = f->seed, .timed = true, .begin = on_begin, .report = on_line, .user = &p};
    const uint64_t start = hw_clock_ns();
    hw_status st = HW_OK;
    for (int n; p.first < f->n_paths && !st; p.first += n) {
        const hw_device *d = f->paths[p.first].device;
        for (n = 1; d->host_memory && p.first + n < f->n_paths &&
                    f->paths[p.first + n].device->k->name == d->k->name;)
            n++;
        st = hw_selftest_run(f->paths + p.first, n, &f->shapes, &options, f->limits + p.first, err);
    }
    if (p.terminal) fprintf(stderr, "\r\033[K");
    f->seconds = hw_seconds_since(start);
    return st;
}

/* Names the first failure; the output has all of them. A path that fails its test when the device is created counts as a
 * failure too. If a device is unusable after a failed op, the run ends and names that op. */
static hw_status judge(const hw_selftest_found *f, hw_error *err)
{
    for (int i = 0; i < f->n_lines; i++) {
        const hw_selftest_line *l = &f->lines[i];
        if (l->wrong)
            return hw_fail(
                err, HW_ERR_FAILED,
                "selftest: %d of %d checks are wrong, first %s%s%s on %s: %s; report it as a bug, with "
                "everything that this command printed, and the command",
                f->n_wrong, f->n_lines, l->op, l->variant[0] ? ", " : "", l->variant, f->names[l->path],
                l->what);
    }
    if (f->refused)
        return hw_fail(err, HW_ERR_FAILED,
                       "selftest: %s; report it as a bug, with everything that this command printed",
                       f->refused);
    return HW_OK;
}

static hw_status conclude(const hw_selftest_found *f, bool json, hw_error *err)
{
    hw_status st = json ? hw_selftest_print_json(f, err) : hw_selftest_print(f, err);
    return st ? st : judge(f, err);
}

static hw_status alone(hw_error *err)
{
    if (hw_comm_launched_ranks() == 1) return HW_OK;
    return hw_fail(
        err, HW_ERR_INVALID,
        "selftest checks the devices of one process; run it without mpirun, on each host (a GPU by "
        "CUDA_VISIBLE_DEVICES)");
}

hw_status hw_cmd_selftest(int argc, char **argv, hw_error *err)
{
    settings a;
    hw_options o = {.doc = doc, .groups = {HW_TAKES(a, report), {&group, &a}}};
    hw_options_parse(&o, argc, argv);
    hw_status st = alone(err);
    hw_selftest_found *f = st ? NULL : calloc(1, sizeof *f);
    if (!f) return st ? st : hw_fail(err, HW_ERR_NO_MEMORY, "selftest: no memory for its results");
    f->model = a.model, f->seed = a.seed, f->host = hw_processor_describe();
    st = read_shapes(&f->shapes, a.model, err);
    if (!st) st = add_paths(f, &a, err);
    if (!st) watch_signals();
    if (!st) st = run(f, err);
    if (!st || f->n_wrong) st = conclude(f, a.report.json, err);
    for (int p = 0; p < f->n_paths; p++) hw_device_destroy(f->paths[p].device);
    free(f);
    return st;
}
