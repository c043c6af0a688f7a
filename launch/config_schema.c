#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "launch/config.h"

/* The largest sensible number where nothing in the program says one. */
enum { MANY = 1 << 20 };

static const hw_named_value dtypes[] = {
    {"auto", HW_DTYPE_NONE}, {"float32", HW_F32}, {"float16", HW_F16}, {"bfloat16", HW_BF16}, {NULL, 0}};
static const hw_named_value weights_from[] = {
    {"path", HW_WEIGHTS_PATH}, {"scatter", HW_WEIGHTS_SCATTER}, {NULL, 0}};
static const hw_named_value products[] = {{"auto", HW_MATMUL_AUTO},
                                          {"float32", HW_MATMUL_FLOAT32},
                                          {"bf16x3", HW_MATMUL_BF16X3},
                                          {"bf16", HW_MATMUL_BF16},
                                          {NULL, 0}};
static const hw_named_value load_formats[] = {{"auto", 0}, {"safetensors", 0}, {"dummy", 0}, {NULL, 0}};
static const hw_named_value policies[] = {{"paged", HW_KV_PAGED},
                                          {"growing", HW_KV_GROWING},
                                          {"contiguous", HW_KV_CONTIGUOUS},
                                          {"off", HW_KV_OFF},
                                          {NULL, 0}};
/* Words that some build of the program may know; the program itself says whether this one does. */
static const hw_named_value backends[] = {{"auto", 0}, {"self", 0}, {"mpi", 0},
                                          {"shm", 0},  {"nccl", 0}, {NULL, 0}};
static const hw_named_value devices[] = {{"auto", 0}, {"cpu", 0}, {"cuda", 0}, {"reference", 0}, {NULL, 0}};
static const hw_named_value launchers[] = {{"mpirun", HW_MPIRUN}, {"srun", HW_SRUN}, {NULL, 0}};
static const hw_named_value bindings[] = {
    {"auto", HW_BIND_AUTO}, {"core", HW_BIND_CORE}, {"none", HW_BIND_NONE}, {NULL, 0}};
static const hw_named_value maybe[] = {{"auto", HW_AUTO}, {"true", HW_YES}, {"false", HW_NO}, {NULL, 0}};

#define AT(field)      offsetof(hw_config, field)
#define ARG(field)     AT(args.field)
#define CLUSTER(field) AT(cluster.field)
#define HOST(field)    offsetof(hw_host, field)

/* path, type, unit, default, auto, from, to, choices, where, whether or how many */
const hw_setting hw_settings[] = {
    {"model.path", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, ARG(model), 0},
    {"model.weights", HW_SETTING_CHOICE, NULL, "path", false, 0, 0, weights_from, ARG(engine.weights), 0},
    {"model.load_format", HW_SETTING_WORD, NULL, "auto", false, 0, 0, load_formats, ARG(load_format), 0},
    {"model.dummy_seed", HW_SETTING_SEED, NULL, "0", false, 0, 0, NULL, ARG(engine.dummy_seed), 0},
    {"model.dtype", HW_SETTING_CHOICE, NULL, "auto", false, 0, 0, dtypes, ARG(engine.dtype), 0},
    {"model.matmul", HW_SETTING_CHOICE, NULL, "auto", false, 0, 0, products, ARG(engine.matmul), 0},

    {"parallelism.ranks", HW_SETTING_WHOLE, "ranks", "auto", true, 1, 65536, NULL, CLUSTER(ranks), 0},
    {"parallelism.threads", HW_SETTING_WHOLE, "threads", "auto", true, 1, 1024, NULL, ARG(engine.n_threads),
     0},
    {"parallelism.pin", HW_SETTING_FLAG, NULL, "true", false, 0, 0, NULL, ARG(engine.pin), 0},

    {"cache.policy", HW_SETTING_CHOICE, NULL, "paged", false, 0, 0, policies, ARG(engine.kv_policy), 0},
    {"cache.memory", HW_SETTING_BYTES, "bytes", "auto", true, 1, 0, NULL, ARG(engine.kv_bytes), 0},
    {"cache.dtype", HW_SETTING_CHOICE, NULL, "auto", false, 0, 0, dtypes, ARG(engine.kv_dtype), 0},
    {"cache.block_tokens", HW_SETTING_WHOLE, "tokens", "16", false, 1, 1024, NULL, ARG(engine.block_tokens),
     0},
    {"cache.prefix_sharing", HW_SETTING_FLAG, NULL, "true", false, 0, 0, NULL, ARG(engine.prefix_sharing), 0},

    {"sampling.max_tokens", HW_SETTING_WHOLE, "tokens", "auto", true, 1, INT_MAX, NULL, ARG(max_tokens), 0},
    {"sampling.temperature", HW_SETTING_NUMBER, NULL, "auto", true, 0, 1e6, NULL, ARG(sampling.temperature),
     ARG(has_temperature)},
    {"sampling.top_k", HW_SETTING_WHOLE, "tokens", "auto", true, 0, INT_MAX, NULL, ARG(sampling.top_k),
     ARG(has_top_k)},
    {"sampling.top_p", HW_SETTING_NUMBER, NULL, "auto", true, 1e-6, 1, NULL, ARG(sampling.top_p),
     ARG(has_top_p)},
    {"sampling.min_p", HW_SETTING_NUMBER, NULL, "auto", true, 0, 1, NULL, ARG(sampling.min_p),
     ARG(has_min_p)},
    {"sampling.repetition_penalty", HW_SETTING_NUMBER, NULL, "auto", true, 1e-3, 1e3, NULL,
     ARG(sampling.repetition_penalty), ARG(has_penalty)},
    {"sampling.seed", HW_SETTING_SEED, NULL, "0", false, 0, 0, NULL, ARG(sampling.seed), 0},
    {"sampling.stop", HW_SETTING_TEXTS, NULL, "[]", false, 0, HW_MAX_STOPS, NULL, ARG(stops), ARG(n_stops)},
    {"sampling.ignore_eos", HW_SETTING_FLAG, NULL, "false", false, 0, 0, NULL, ARG(ignore_eos), 0},

    {"limits.max_seq_len", HW_SETTING_WHOLE, "tokens", "auto", true, 1, INT_MAX, NULL,
     ARG(engine.max_seq_len), 0},
    {"limits.max_seqs", HW_SETTING_WHOLE, "sequences", "1", false, 1, 65536, NULL, ARG(engine.max_seqs), 0},
    {"limits.max_batch_rows", HW_SETTING_WHOLE, "tokens", "512", false, 1, MANY, NULL,
     ARG(engine.max_batch_rows), 0},
    {"limits.prefill_chunk", HW_SETTING_WHOLE, "tokens", "auto", true, 1, MANY, NULL, ARG(prefill_chunk), 0},

    {"limits.stuck_after", HW_SETTING_NUMBER, "seconds", "3.5", false, 1, 86400, NULL, ARG(stuck_after), 0},
    {"limits.report_folder", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, CLUSTER(report_folder), 0},

    {"collectives.backend", HW_SETTING_WORD, NULL, "auto", false, 0, 0, backends, ARG(comm), 0},

    {"device.kind", HW_SETTING_WORD, NULL, "auto", false, 0, 0, devices, ARG(engine.device), 0},
    {"device.cuda_graphs", HW_SETTING_FLAG, NULL, "true", false, 0, 0, NULL, ARG(engine.graphs), 0},

    {"cluster.launcher", HW_SETTING_CHOICE, NULL, "mpirun", false, 0, 0, launchers, CLUSTER(launcher), 0},
    {"cluster.hosts", HW_SETTING_HOSTS, "hosts", NULL, false, 1, HW_MAX_HOSTS, NULL, CLUSTER(hosts),
     CLUSTER(n_hosts)},
    {"cluster.hosts[].name", HW_SETTING_TEXT, NULL, "localhost", false, 0, 0, NULL, HOST(name), 0},
    {"cluster.hosts[].slots", HW_SETTING_WHOLE, "ranks", "1", false, 1, 4096, NULL, HOST(slots), 0},
    {"cluster.nodes", HW_SETTING_WHOLE, "hosts", "auto", true, 1, HW_MAX_HOSTS, NULL, CLUSTER(nodes), 0},
    {"cluster.devices_per_slot", HW_SETTING_WHOLE, "GPUs", "0", false, 0, 16, NULL, CLUSTER(devices_per_slot),
     0},
    {"cluster.interface", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, CLUSTER(interface), 0},
    {"cluster.binding", HW_SETTING_CHOICE, NULL, "auto", false, 0, 0, bindings, CLUSTER(binding), 0},
    {"cluster.oversubscribe", HW_SETTING_CHOICE, NULL, "auto", false, 0, 0, maybe, CLUSTER(oversubscribe), 0},
    {"cluster.environment", HW_SETTING_VARIABLES, NULL, "[]", false, 0, HW_MAX_ENVIRONMENT, NULL,
     CLUSTER(environment), CLUSTER(n_environment)},
    {"cluster.remote_shell", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, CLUSTER(remote_shell), 0},
    {"cluster.work_folder", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, CLUSTER(work_folder), 0},
    {"cluster.program", HW_SETTING_TEXT, NULL, "auto", true, 0, 0, NULL, CLUSTER(program), 0},
};
const int hw_n_settings = sizeof hw_settings / sizeof *hw_settings;

hw_config hw_config_defaults(void)
{
    return (hw_config){.args = hw_args_defaults(), .cluster = {.oversubscribe = HW_AUTO}};
}

/* "auto, a, b or c" */
static size_t list_choices(const hw_setting *s, char *text, size_t size)
{
    size_t n = 0;
    for (const hw_named_value *c = s->choices; c->name && n < size; c++)
        n += (size_t)snprintf(text + n, size - n, "%s%s",
                              c == s->choices ? ""
                              : c[1].name     ? ", "
                                              : " or ",
                              c->name);
    return n;
}

char *hw_setting_wanted(const hw_setting *s, char *text, size_t size)
{
    const char *either = s->has_auto ? "auto, or " : "", *unit = s->unit ? s->unit : "a number";
    const char *comma = s->unit ? ", " : " of ";
    switch (s->type) {
    case HW_SETTING_TEXT: snprintf(text, size, "%sa text", either); break;
    case HW_SETTING_WORD:
    case HW_SETTING_CHOICE: list_choices(s, text, size); break;
    case HW_SETTING_FLAG: snprintf(text, size, "true or false"); break;
    case HW_SETTING_WHOLE:
        snprintf(text, size, "%s%s%s%.0f to %.0f", either, unit, comma, s->min, s->max);
        break;
    case HW_SETTING_SEED: snprintf(text, size, "a whole number from 0 on"); break;
    case HW_SETTING_BYTES: snprintf(text, size, "%sbytes, as 1073741824, 1024M or 1G", either); break;
    case HW_SETTING_NUMBER:
        snprintf(text, size, "%s%s%s%g to %g", either, unit, comma, s->min, s->max);
        break;
    case HW_SETTING_TEXTS: snprintf(text, size, "a list of at most %.0f texts", s->max); break;
    case HW_SETTING_VARIABLES:
        snprintf(text, size, "a list of at most %.0f of NAME and NAME=VALUE", s->max);
        break;
    case HW_SETTING_HOSTS: snprintf(text, size, "a list of 1 to %.0f hosts", s->max); break;
    }
    return text;
}
