/* headway plan: what a model takes and sends on any number of ranks, from its config.json, before anything is
 * loaded. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/args.h"
#include "launch/commands.h"
#include "launch/cores.h"
#include "launch/output.h"
#include "launch/plan_report.h"
#include "launch/session.h"
#include "parallel/volume.h"
#include "runtime/devices.h"
#include "runtime/memory.h"

enum { OPT_RANKS = 'r', OPT_SEQS = 512, OPT_MEMORY, OPT_BANDWIDTH, OPT_LATENCY, MAX_COUNTS = 64 };

static double to_number(const char *name, const char *text, double max, struct argp_state *state)
{
    char *end;
    double n = strtod(text, &end);
    if (end == text || *end || !(n >= 0 && n <= max))
        argp_error(state, "%s is '%s', wanted a number of 0 to %g", name, text, max);
    return n;
}

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    switch (key) {
    case OPT_RANKS: a->rank_list = arg; break;
    case OPT_SEQS: a->engine.max_seqs = (int)hw_args_int("--max-num-seqs", arg, 1, 65536, state); break;
    case OPT_MEMORY: a->limits.memory = hw_args_memory("--memory", arg, state); break;
    case OPT_BANDWIDTH: a->limits.bandwidth = 1e9 * to_number("--bandwidth", arg, 1e6, state); break;
    case OPT_LATENCY: a->limits.latency = 1e-6 * to_number("--latency", arg, 1e9, state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option own_options[] = {
    {0, 0, 0, 0, "Plan:", 1},
    {"ranks", OPT_RANKS, "1,2,4", 0,
     "Numbers of ranks, a row of the tables for each (1,2,4,8 as far as there are heads)", 0},
    {"max-num-seqs", OPT_SEQS, "N", 0, "Sequences at once (1)", 0},
    {"batch", OPT_SEQS, 0, OPTION_ALIAS, 0, 0},
    {"memory", OPT_MEMORY, "BYTES", 0,
     "What each rank has: bytes, also as 512M or 80G, or auto: what this host or its GPUs have free, divided "
     "by the "
     "ranks (auto)",
     0},
    {"bandwidth", OPT_BANDWIDTH, "GB/S", 0, "10^9 bytes per second at which a rank reads weights (20)", 0},
    {"latency", OPT_LATENCY, "US", 0, "Microseconds of one all-reduce of a decode step (5)", 0},
    {0}};
static const struct argp own = {
    .options = own_options,
    .parser = parse_own,
    .doc =
        "Says what a model takes and sends on any number of ranks, without reading weights; -m may also be a "
        "config.json alone. Exit status 4 when it fits on none of them.\v"
        "  headway plan -m models/shapes/llama-405b --ranks 8,16,32 --memory 130G\n"
        "  headway plan -m config.json --batch 32 --max-model-len 2048 --kv-cache-dtype float32"};

static hw_status parse_ranks(const hw_args *a, const hw_model *m, int counts[MAX_COUNTS], int *n,
                             hw_error *err)
{
    *n = 0;
    if (!a->rank_list) {
        int launched = hw_comm_launched_ranks();
        if (launched > 1) counts[(*n)++] = launched;
        for (int i = 1; launched == 1 && i <= 8 && i <= m->n_heads; i *= 2) counts[(*n)++] = i;
        return HW_OK;
    }
    for (const char *p = a->rank_list;; p++) {
        char *end;
        errno = 0;
        long k = strtol(p, &end, 10);
        if (end == p || errno || (*end && *end != ',') || k < 1 || k > m->n_heads)
            return hw_fail(
                err, HW_ERR_INVALID,
                "--ranks: '%.20s' is not a number of ranks; the model has %d heads to give out, wanted "
                "1 to %d, with commas between",
                p, m->n_heads, m->n_heads);
        if (*n == MAX_COUNTS)
            return hw_fail(err, HW_ERR_INVALID, "--ranks: more than %d numbers of ranks", MAX_COUNTS);
        counts[(*n)++] = (int)k;
        if (!*end) return HW_OK;
        p = end;
    }
}

/* A folder as all subcommands take it, or a config.json of any name. Headers of weights that are there say
 * what is stored. */
static hw_status open_model(const hw_args *a, hw_model *m, hw_dtype *stored, hw_error *err)
{
    struct stat info;
    char path[4096];
    hw_checkpoint *c = NULL;
    if (!stat(a->model, &info) && S_ISREG(info.st_mode)) {
        *stored = a->engine.dtype;
        hw_status st = hw_model_open_config(m, a->model, err);
        if (!st) *stored = hw_weights_dtype(m, NULL, a->engine.dtype);
        return st;
    }
    hw_status st = hw_model_open(m, a->model, err);
    bool weights = false;
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    for (int i = 0; i < 2 && !st; i++) {
        snprintf(path, sizeof path, "%s/%s", a->model, names[i]);
        weights = weights || !access(path, F_OK);
    }
    if (!st && weights && !a->engine.dummy) st = hw_checkpoint_open(&c, a->model, err);
    if (!st) *stored = hw_weights_dtype(m, c, a->engine.dtype);
    hw_checkpoint_close(c);
    return st;
}

/* Buffers grow a little with threads: where they are not given, as many as one rank alone would have here. */
static int count_threads(const hw_engine_options *o)
{
    return o->n_threads ? o->n_threads : hw_count_cores();
}

/* What each of `n_ranks` on this host has: of its GPU, or of the host. */
static uint64_t memory_of_rank(const hw_device *d, int n_ranks)
{
    if (d->host_memory) return hw_memory_available() / (uint64_t)n_ranks;
    return d->k->available(d) / (uint64_t)((n_ranks + d->n_alike - 1) / d->n_alike);
}

/* The device that this process alone would have; on a machine without the one that the ranks get, there is
 * nothing to say of it. */
static hw_status make_device(hw_device **out, const hw_engine_options *o, hw_error *err)
{
    hw_comm *alone;
    hw_error unused; /* the run says why it does not take a GPU */
    hw_status st = hw_comm_create_alone(&alone, err);
    if (st) return st;
    st = hw_device_choose(out, alone, o->device, count_threads(o), o->dtype, &unused, err);
    hw_comm_destroy(alone);
    return st;
}

static hw_status refuse(const hw_plan_report *r, hw_error *err)
{
    const hw_plan *best = &r->plans[0];
    char text[6][16];
    for (int i = 0; i < r->n; i++) {
        if (r->plans[i].fits) return HW_OK;
        if (r->plans[i].most.total < best->most.total) best = &r->plans[i];
    }
    return hw_fail(err, HW_ERR_NO_MEMORY,
                   "not enough memory: with %d rank%s the largest needs %s (weights %s, KV cache %s, buffers "
                   "%s%s%s) and has %s; "
                   "use more ranks on more hosts, lower --max-model-len or --max-num-seqs, or say with "
                   "--memory what each rank "
                   "has",
                   best->n_ranks, best->n_ranks > 1 ? "s" : "",
                   hw_format_memory(text[0], (double)best->most.total),
                   hw_format_memory(text[1], (double)best->most.weights),
                   hw_format_memory(text[2], (double)best->most.kv),
                   hw_format_memory(text[3], (double)best->most.buffers),
                   best->most.reserve ? ", set aside for graphs and collectives " : "",
                   best->most.reserve ? hw_format_memory(text[5], (double)best->most.reserve) : "",
                   hw_format_memory(text[4], (double)best->memory));
}

/* How many of n_ranks share memory: those of a host, which has them all unless the configuration lists hosts.
 */
static int count_sharing(const hw_args *a, const hw_config *c, int n_ranks)
{
    const hw_cluster *cluster = c ? &c->cluster : NULL;
    if (strcmp(a->comm, "auto") && strcmp(a->comm, "shm")) return 1;
    if (!cluster || !cluster->n_hosts) return n_ranks;
    for (int i = 1; i < cluster->n_hosts; i++)
        if (cluster->hosts[i].slots != cluster->hosts[0].slots) return 1;
    return hw_volume_sharing(n_ranks, cluster->hosts[0].slots);
}

static hw_status run(const hw_args *a, const hw_config *config, hw_device **device, hw_error *err)
{
    hw_model m;
    hw_engine_options o = a->engine;
    hw_plan plans[MAX_COUNTS];
    int counts[MAX_COUNTS], n;
    hw_status st = open_model(a, &m, &o.dtype, err);
    if (!st) st = hw_options_settle(&o, &m, err);
    if (!st) st = parse_ranks(a, &m, counts, &n, err);
    if (!st) st = make_device(device, &o, err);
    if (st) return st;
    if (o.kv_dtype == HW_DTYPE_NONE) o.kv_dtype = o.dtype;
    for (int i = 0; i < n && !st; i++) {
        hw_plan_limits limits = a->limits;
        limits.n_sharing = count_sharing(a, config, counts[i]);
        if (!limits.memory) limits.memory = memory_of_rank(*device, counts[i]);
        st = hw_plan_create(&plans[i], &m, &o, *device, counts[i], limits, err);
    }
    if (st) return st;
    hw_plan_report report = {
        .model = &m, .options = &o, .device = *device, .limits = a->limits, .plans = plans, .n = n};
    st = a->json ? hw_print_json(hw_plan_json(&report), err) : hw_plan_print(&report, err);
    return st ? st : refuse(&report, err);
}

hw_status hw_cmd_plan(int argc, char **argv, hw_error *err)
{
    static const struct argp *const groups[] = {&hw_args_model, &hw_args_engine, &hw_args_report, NULL};
    hw_args a = hw_args_defaults();
    hw_device *device = NULL;
    a.limits = (hw_plan_limits){.bandwidth = 20e9, .latency = 5e-6};
    hw_args_parse(&a, &own, groups, argc, argv);
    if (hw_comm_launched_rank() > 0) return HW_OK;
    hw_session s = {0};
    hw_status st = hw_session_start_alone(&s, &a, err);
    if (!st) st = run(&a, s.config, &device, err);
    hw_device_destroy(device);
    hw_session_close(&s);
    return st;
}
