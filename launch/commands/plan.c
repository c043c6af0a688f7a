/* headway plan: predicts memory and traffic of a model on any number of ranks, from its config.json. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/report/plan.h"
#include "launch/session.h"
#include "launch/settings/args.h"
#include "parallel/traffic_model.h"
#include "runtime/device/cores.h"
#include "runtime/device/devices.h"
#include "runtime/device/host_memory.h"
#include "runtime/weights/tied_head.h"

enum { MAX_COUNTS = 64 };

typedef struct settings {
    hw_model_settings model;
    hw_engine_settings engine;
    hw_report_settings report;
    const char *ranks; /* a list of numbers */
    uint64_t memory;   /* bytes; 0: that of this machine */
    double bandwidth, latency;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting own_rows[] = {
    {NULL, "ranks", 'r', "1,2,4", HW_TEXT, NULL, 0, AT(ranks),
     "Numbers of ranks, one row of the tables for each (1,2,4,8 up to the number of heads)"},
    {NULL, "memory", 0, "BYTES", HW_BYTES, "auto", 0, AT(memory),
     "Memory of each rank: bytes, also as 512M or 80G; auto: free memory of this host or its GPUs, divided "
     "by the ranks"},
    {NULL, "bandwidth", 0, "GB/S", HW_DOUBLE("10^9 bytes per second", 0, 1e6), "20", 0, AT(bandwidth),
     "Rate at which a rank reads weights, in 10^9 bytes per second"},
    {NULL, "latency", 0, "US", HW_DOUBLE("microseconds", 0, 1e9), "5", 0, AT(latency),
     "Duration of one all-reduce of a decode step, in microseconds"},
};
#undef AT
static const hw_setting_group own_group = HW_OWN_GROUP("Plan:", 1, own_rows, NULL);

static const char doc[] =
    "Predicts the memory and traffic of a model on any number of ranks, without reading weights; -m may also "
    "be just a config.json. Exit status 4 if it fits on none of them.\v"
    "  headway plan -m models/shapes/llama-405b --ranks 8,16,32 --memory 130G\n"
    "  headway plan -m config.json --batch 32 --max-model-len 2048 --kv-cache-dtype float32";

static hw_status parse_ranks(const char *list, const hw_model *m, int counts[MAX_COUNTS], int *n,
                             hw_error *err)
{
    *n = 0;
    if (!list) {
        int launched = hw_comm_launched_ranks();
        if (launched > 1) counts[(*n)++] = launched;
        for (int i = 1; launched == 1 && i <= 8 && i <= m->n_heads; i *= 2) counts[(*n)++] = i;
        return HW_OK;
    }
    for (const char *p = list;; p++) {
        char *end;
        errno = 0;
        long k = strtol(p, &end, 10);
        if (end == p || errno || (*end && *end != ',') || k < 1 || k > m->n_heads)
            return hw_fail(err, HW_ERR_INVALID,
                           "--ranks: '%.20s' is not a number of ranks for a model with %d heads; wanted "
                           "numbers of 1 to %d, separated by commas",
                           p, m->n_heads, m->n_heads);
        if (*n == MAX_COUNTS)
            return hw_fail(err, HW_ERR_INVALID, "--ranks: more than %d numbers of ranks", MAX_COUNTS);
        counts[(*n)++] = (int)k;
        if (!*end) return HW_OK;
        p = end;
    }
}

/* A model folder, or a config.json with any name. If there are weights, their headers have the stored type. */
static hw_status open_model(const settings *a, hw_model *m, hw_dtype *stored, hw_error *err)
{
    const char *folder = a->model.folder;
    const hw_dtype wanted = a->engine.options.dtype;
    struct stat info;
    char path[4096];
    hw_checkpoint *c = NULL;
    if (!stat(folder, &info) && S_ISREG(info.st_mode)) {
        *stored = wanted;
        hw_status st = hw_model_open_config(m, folder, err);
        if (!st) *stored = hw_weights_dtype(m, NULL, wanted);
        return st;
    }
    hw_status st = hw_model_open(m, folder, err);
    bool weights = false;
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    for (int i = 0; i < 2 && !st; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        weights = weights || !access(path, F_OK);
    }
    if (!st && weights && !a->engine.options.dummy) st = hw_checkpoint_open(&c, folder, err);
    if (!st && c) st = hw_model_settle_head(m, c, err);
    if (!st) *stored = hw_weights_dtype(m, c, wanted);
    hw_checkpoint_close(c);
    return st;
}

/* Buffers grow slightly with threads: by default, as many as a single rank would have here. */
static int count_threads(const hw_engine_options *o)
{
    return o->n_threads ? o->n_threads : hw_cores_count();
}

/* Memory of each of `n_ranks` on this host: of its GPU, or of the host. */
static uint64_t memory_of_rank(const hw_device *d, int n_ranks)
{
    if (d->host_memory) return hw_memory_available() / (uint64_t)n_ranks;
    return d->k->available(d) / (uint64_t)((n_ranks + d->n_alike - 1) / d->n_alike);
}

/* The device of a single rank; the machine must have a device like those of the planned ranks. */
static hw_status make_device(hw_device **out, const hw_engine_options *o, hw_error *err)
{
    hw_comm *alone;
    hw_error unused; /* a run would print why it does not use a GPU */
    hw_status st = hw_comm_create_alone(&alone, err);
    if (st) return st;
    st = hw_device_choose(out, alone, o->device, count_threads(o), hw_options_act_dtype(o), &unused, err);
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
    return hw_fail(
        err, HW_ERR_NO_MEMORY,
        "not enough memory: with %d rank%s the largest needs %s (weights %s, KV cache %s, buffers "
        "%s%s%s) and has %s; "
        "use more ranks on more hosts, lower --max-model-len or --max-num-seqs, or set --memory to "
        "the memory of each rank",
        best->n_ranks, best->n_ranks > 1 ? "s" : "", hw_format_memory(text[0], (double)best->most.total),
        hw_format_memory(text[1], (double)best->most.weights),
        hw_format_memory(text[2], (double)best->most.kv),
        hw_format_memory(text[3], (double)best->most.buffers),
        best->most.reserve ? ", set aside for graphs and collectives " : "",
        best->most.reserve ? hw_format_memory(text[5], (double)best->most.reserve) : "",
        hw_format_memory(text[4], (double)best->memory));
}

/* How many of n_ranks share memory: those of a host. Without hosts in the configuration all ranks are on one. */
static int count_sharing(const char *comm, const hw_config *c, int n_ranks)
{
    const hw_cluster *cluster = c ? &c->cluster : NULL;
    if (strcmp(comm, "auto") && strcmp(comm, "shm")) return 1;
    if (!cluster || !cluster->n_hosts) return n_ranks;
    for (int i = 1; i < cluster->n_hosts; i++)
        if (cluster->hosts[i].slots != cluster->hosts[0].slots) return 1;
    return hw_traffic_model_sharing(n_ranks, cluster->hosts[0].slots);
}

static hw_status run(const settings *a, const hw_config *config, hw_device **device, hw_error *err)
{
    const hw_plan_limits given = {
        .memory = a->memory, .bandwidth = 1e9 * a->bandwidth, .latency = 1e-6 * a->latency};
    hw_model m;
    hw_engine_options o = a->engine.options;
    hw_plan plans[MAX_COUNTS];
    int counts[MAX_COUNTS], n;
    hw_status st = open_model(a, &m, &o.dtype, err);
    if (!st) st = hw_options_settle(&o, &m, err);
    if (!st) st = parse_ranks(a->ranks, &m, counts, &n, err);
    hw_options_settle_types(&o);
    if (!st) st = make_device(device, &o, err);
    if (!st) st = hw_options_settle_device_types(&o, *device, err);
    if (st) return st;
    for (int i = 0; i < n && !st; i++) {
        hw_plan_limits limits = given;
        limits.n_sharing = count_sharing(a->engine.comm, config, counts[i]);
        if (!limits.memory) limits.memory = memory_of_rank(*device, counts[i]);
        st = hw_plan_create(&plans[i], &m, &o, *device, counts[i], limits, err);
    }
    if (st) return st;
    hw_plan_report report = {
        .model = &m, .options = &o, .device = *device, .limits = given, .plans = plans, .n = n};
    st = a->report.json ? hw_print_json(hw_plan_json(&report), err) : hw_plan_print(&report, err);
    return st ? st : refuse(&report, err);
}

hw_status hw_cmd_plan(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_options o = {
        .doc = doc,
        .takes = HW_IF_BATCHED,
        .groups = {HW_TAKES(a, model), HW_TAKES(a, engine), HW_TAKES(a, report), {&own_group, &a}}};
    hw_device *device = NULL;
    hw_options_parse(&o, argc, argv);
    if (hw_comm_launched_rank() > 0) return HW_OK;
    hw_session s = {0};
    hw_status st = hw_session_start_alone(&s, &o, err);
    if (!st) st = run(&a, s.config, &device, err);
    hw_device_destroy(device);
    hw_session_close(&s);
    return st;
}
