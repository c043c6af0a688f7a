/* The settings shared by several subcommands. Each row describes one setting completely (settings.h); the order is that of
 * configs/reference.yaml. */
#include <limits.h>
#include <string.h>

#include "launch/cluster/cluster.h"
#include "launch/settings/settings.h"
#include "parallel/comm.h"

/* An upper bound for numbers that have no other. */
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
static const hw_named_value load_formats[] = {
    {"auto", HW_LOAD_AUTO}, {"safetensors", HW_LOAD_SAFETENSORS}, {"dummy", HW_LOAD_DUMMY}, {NULL, 0}};
static const hw_named_value policies[] = {{"paged", HW_KV_PAGED},
                                          {"dynamic", HW_KV_DYNAMIC},
                                          {"growing", HW_KV_DYNAMIC}, /* the former name */
                                          {"contiguous", HW_KV_CONTIGUOUS},
                                          {"off", HW_KV_OFF},
                                          {NULL, 0}};
/* Names that some build of the program supports; whether this one does is checked when they are used. */
static const hw_named_value backends[] = {{"auto", 0}, {"self", 0}, {"mpi", 0},
                                          {"shm", 0},  {"nccl", 0}, {NULL, 0}};
static const hw_named_value devices[] = {{"auto", 0}, {"cpu", 0}, {"cuda", 0}, {"reference", 0}, {NULL, 0}};
static const hw_named_value launchers[] = {{"mpirun", HW_MPIRUN}, {"srun", HW_SRUN}, {NULL, 0}};
static const hw_named_value bindings[] = {
    {"auto", HW_BIND_AUTO}, {"core", HW_BIND_CORE}, {"none", HW_BIND_NONE}, {NULL, 0}};
static const hw_named_value maybe[] = {{"auto", HW_AUTO}, {"true", HW_YES}, {"false", HW_NO}, {NULL, 0}};

/* Columns: path in YAML, flag, letter, name of the value; type, unit and range; default, traits, field, help. */

/* ---- model */

#define AT(field) offsetof(hw_model_settings, field)
static const hw_setting model_rows[] = {
    {"model.path", "model", 'm', "FOLDER", HW_FOLDER, "auto", 0, AT(folder),
     "Hugging Face folder: config.json, model.safetensors, tokenizer.json"},
    {NULL, "config", 'c', "FILE.yaml", HW_TEXT, "auto", 0, AT(config),
     "Settings from a file; options override them (docs/deployment.md)"},
};
#undef AT

static const char *settle_model(void *values)
{
    const hw_model_settings *m = values;
    return m->folder ? NULL : "no model: give its folder with -m FOLDER, or set model.path in the file of -c";
}

const hw_setting_group hw_model_group = HW_GROUP(NULL, 0, model_rows, settle_model);

/* ---- prompt */

#define AT(field) offsetof(hw_prompt_settings, field)
static const hw_setting prompt_rows[] = {
    {NULL, "prompt", 'p', "TEXT", HW_TEXT_OR_NONE, NULL, 0, AT(text), "The prompt as text"},
    {NULL, "file", 'f', "FILE", HW_TEXT_OR_NONE, NULL, 0, AT(file), "Read the prompt from a file"},
    {NULL, "tokens", 0, "1,2,3", HW_TEXT_OR_NONE, NULL, 0, AT(tokens), "Token ids; needs no tokenizer"},
    {NULL, "no-special", 0, NULL, HW_FLAG, "false", 0, AT(no_special),
     "Do not add the tokenizer's special tokens (BOS)"},
};
#undef AT

static const char *settle_prompt(void *values)
{
    const hw_prompt_settings *p = values;
    const int n = (p->text != NULL) + (p->file != NULL) + (p->tokens != NULL) + p->from_stdin;
    return n < 2 ? NULL : "more than one prompt: give one of -p, -f, --tokens and -";
}

const hw_setting_group hw_prompt_group =
    HW_GROUP("Prompt (one of; - as an argument reads standard input):", 1, prompt_rows, settle_prompt);

/* ---- engine */

#define AT(field)  offsetof(hw_engine_settings, field)
#define OPT(field) AT(options.field)
static const hw_setting engine_rows[] = {
    {"model.weights", "weights", 0, "FROM", HW_CHOICE(weights_from), "path", HW_SAME, OPT(weights),
     "path: every rank reads its shard, and every host needs the model folder; scatter: only rank 0's host "
     "needs it, and rank 0 sends each rank its shard"},
    {"model.load_format", "load-format", 0, "F", HW_CHOICE(load_formats), "auto", HW_SAME, AT(load_format),
     "auto, safetensors, or dummy: random weights from config.json alone"},
    {"model.dummy_seed", "dummy-seed", 0, "N", HW_SEED(0), "0", HW_SAME, OPT(dummy_seed),
     "Seed of random weights"},
    {"model.dtype", "dtype", 0, "TYPE", HW_CHOICE(dtypes), "auto", HW_SAME, OPT(dtype),
     "Type of weights and cache, and on a GPU of activations: float32, float16, bfloat16; auto: as weights "
     "are stored. A CPU computes in float32"},
    {"model.weight_dtype", "weight-dtype", 0, "TYPE", HW_CHOICE(dtypes), "auto", HW_SAME, OPT(weight_dtype),
     "Type of weights in memory; auto: as --dtype"},
    {"model.activation_dtype", "activation-dtype", 0, "TYPE", HW_CHOICE(dtypes), "auto", HW_SAME,
     OPT(act_dtype),
     "Type of activations; auto: on a GPU as --dtype, on a CPU float32. Other types are not supported yet"},
    {"model.matmul", "matmul", 0, "HOW", HW_CHOICE(products), "auto", HW_SAME, OPT(matmul),
     "Products with bfloat16 weights: float32; bf16x3, inputs as three bfloat16 terms, as accurate and much "
     "faster on matrix units; bf16, inputs rounded to bfloat16; auto: bf16x3 where rank 0 has AMX, else "
     "float32"},

    {"parallelism.threads", "threads", 't', "N", HW_WHOLE("threads", 1, 1024), "auto", 0, OPT(n_threads),
     "Threads of each rank; auto: its share of the host's cores"},
    {"parallelism.pin", "pin", 0, "on|off", HW_FLAG, "true", 0, OPT(pin),
     "Pin threads to their rank's share of the cores"},

    {"cache.policy", "kv-cache", 0, "POLICY", HW_CHOICE(policies), "paged", HW_SAME, OPT(kv_policy),
     "paged: blocks from a pool; contiguous: space for the longest sequence up front; dynamic: one run of "
     "blocks, doubled and copied when full; off: run the whole prefix at every step"},
    {"cache.memory", "kv-cache-memory", 0, "BYTES", HW_BYTES, "auto", HW_SAME, OPT(kv_bytes),
     "Size of each rank's cache: bytes, also as 512M or 2G; auto: enough for the longest sequences"},
    {"cache.dtype", "kv-cache-dtype", 0, "TYPE", HW_CHOICE(dtypes), "auto", HW_SAME, OPT(kv_dtype),
     "Type of cached keys and values: float32, float16, bfloat16; auto: as --dtype"},
    {"cache.block_tokens", "block-size", 0, "N", HW_WHOLE("tokens", 1, 1024), "16", HW_SAME,
     OPT(block_tokens), "Tokens per cache block, for paged and dynamic"},
    {"cache.prefix_sharing", "no-prefix-sharing", 0, NULL, HW_FLAG, "true", HW_SAME, OPT(prefix_sharing),
     "Paged: compute every prompt in full, even if the cache holds an equal prefix"},

    {"limits.max_seq_len", "max-model-len", 0, "N", HW_WHOLE("tokens", 1, INT_MAX), "auto", HW_SAME,
     OPT(max_seq_len), "Longest sequence, prompt and output; auto: what the model allows, at most 4096"},
    {"limits.max_seqs", "max-num-seqs", 0, "N", HW_WHOLE("sequences", 1, 65536), "1", HW_SAME | HW_IF_BATCHED,
     OPT(max_seqs), "Sequences at once"},
    {NULL, "batch", 0, "N", HW_WHOLE("sequences", 1, 65536), "1", HW_IF_BATCHED | HW_ALIAS, OPT(max_seqs),
     NULL},
    {"limits.max_batch_rows", "max-num-batched-tokens", 0, "N", HW_WHOLE("tokens", 1, MANY), "512", HW_SAME,
     OPT(max_batch_rows), "Rows of one step: longer prompts are run in chunks"},
    {"limits.prefill_chunk", "prefill-chunk", 0, "N", HW_WHOLE("tokens", 1, MANY), "auto",
     HW_SAME | HW_IF_CHUNKED, AT(prefill_chunk),
     "Run the prompt N tokens at a time; auto: as many as fit in a step"},
    {"limits.stuck_after", "stuck-after", 0, "SECONDS", HW_FLOAT("seconds", 1, 86400), "3.5", 0,
     AT(stuck_after),
     "A rank without progress for this long is stuck: launch ends the run; nccl gives up after ten times as "
     "long"},

    {"collectives.backend", "comm", 0, "C", HW_WORD(backends), "auto", HW_SAME, AT(comm),
     "Collectives: self (one rank), shm (shared memory between the ranks of a host), mpi, or nccl (NCCL "
     "between GPUs, which auto takes where possible)"},
    {"collectives.dtype", "comm-dtype", 0, "TYPE", HW_CHOICE(dtypes), "auto", HW_SAME, OPT(comm_dtype),
     "Type of activations in all-reduces; auto: the type in which they are computed, the only one supported"},

    {"device.kind", "device", 0, "D", HW_WORD(devices), "auto", HW_SAME, OPT(device),
     "cpu, cuda, or reference: plain loops to compare with; auto: cuda if every rank has a GPU to itself, "
     "else cpu"},
    {"device.cuda_graphs", "cuda-graphs", 0, "on|off", HW_FLAG, "true", HW_SAME, OPT(graphs),
     "off: launch the kernels of a decode step one by one and pass each token through the host, to find a "
     "faulty kernel"},

    {NULL, "verbose", 'v', NULL, HW_FLAG, "false", 0, AT(verbose),
     "Print on standard error what runs: model, ranks, the code path of each processor and why a faster one "
     "is not used"},
    {NULL, "quiet", 'q', NULL, HW_FLAG, "false", 0, AT(quiet),
     "No progress bar while loading (there is none if standard error is not a terminal)"},
};
#undef AT
#undef OPT

static const char *settle_engine(void *values)
{
    hw_engine_settings *e = values;
    e->options.dummy = e->load_format == HW_LOAD_DUMMY;
    const bool seeded =
        hw_setting_is_given(&hw_engine_group, e, offsetof(hw_engine_settings, options.dummy_seed));
    return seeded && !e->options.dummy ? "--dummy-seed is for --load-format dummy" : NULL;
}

const hw_setting_group hw_engine_group = HW_GROUP("Engine:", 3, engine_rows, settle_engine);

/* ---- request */

#define AT(field) offsetof(hw_request_settings, field)
static const hw_setting request_rows[] = {
    {"sampling.max_tokens", "max-tokens", 'n', "N", HW_WHOLE("tokens", 1, INT_MAX), "auto", HW_SAME,
     AT(max_tokens), "Maximum number of new tokens; auto: until the context is full"},
    {"sampling.temperature", "temperature", 0, "T", HW_FLOAT(NULL, 0, 1e6), "auto", HW_SAME,
     AT(sampling.temperature), "0 is greedy"},
    {"sampling.top_k", "top-k", 0, "K", HW_WHOLE("tokens", 0, INT_MAX), "auto", HW_SAME, AT(sampling.top_k),
     "Only the K best tokens; 0: off"},
    {"sampling.top_p", "top-p", 0, "P", HW_FLOAT(NULL, 1e-6, 1), "auto", HW_SAME, AT(sampling.top_p),
     "Only the best tokens with total probability P"},
    {"sampling.min_p", "min-p", 0, "P", HW_FLOAT(NULL, 0, 1), "auto", HW_SAME, AT(sampling.min_p),
     "Only tokens with at least P times the probability of the best one"},
    {"sampling.repetition_penalty", "repetition-penalty", 0, "R", HW_FLOAT(NULL, 1e-3, 1e3), "auto", HW_SAME,
     AT(sampling.repetition_penalty), "Divide the logits of tokens that have occurred; 1: off"},
    {"sampling.seed", "seed", 0, "S", HW_SEED(INT64_MIN), "0", HW_SAME, AT(sampling.seed),
     "The same seed gives the same text on any number of ranks"},
    {"sampling.stop", "stop", 0, "TEXT", HW_TEXTS(HW_MAX_STOPS), "[]", HW_SAME, AT(stops),
     "Stop before this text; may be repeated"},
    {"sampling.ignore_eos", "ignore-eos", 0, NULL, HW_FLAG, "false", HW_SAME, AT(ignore_eos),
     "Continue after the end-of-sequence token"},
};
#undef AT
_Static_assert(offsetof(hw_request_settings, n_stops) ==
                   offsetof(hw_request_settings, stops) + HW_MAX_STOPS * sizeof(char *),
               "how many follows the list");

const hw_setting_group hw_request_group =
    HW_GROUP("Sampling (auto: from the model's generation_config.json, else greedy):", 2, request_rows, NULL);

/* ---- report */

static const hw_setting report_rows[] = {
    {NULL, "json", 0, NULL, HW_FLAG, "false", 0, offsetof(hw_report_settings, json),
     "One JSON document on standard output instead of text"},
};

const hw_setting_group hw_report_group = HW_GROUP("Reports:", 4, report_rows, NULL);

/* ---- cluster: what `headway launch` reads, in a file only */

#define AT(field) offsetof(hw_cluster, field)
static const hw_setting cluster_rows[] = {
    {"parallelism.ranks", NULL, 0, NULL, HW_WHOLE("ranks", 1, 65536), "auto", 0, AT(ranks), NULL},
    {"limits.report_folder", NULL, 0, NULL, HW_TEXT, "auto", 0, AT(report_folder), NULL},
    {"cluster.launcher", NULL, 0, NULL, HW_CHOICE(launchers), "mpirun", 0, AT(launcher), NULL},
    {"cluster.hosts", NULL, 0, NULL, HW_HOSTS(HW_MAX_HOSTS), NULL, 0, AT(hosts), NULL},
    {"cluster.nodes", NULL, 0, NULL, HW_WHOLE("hosts", 1, HW_MAX_HOSTS), "auto", 0, AT(nodes), NULL},
    {"cluster.devices_per_slot", NULL, 0, NULL, HW_WHOLE("GPUs", 0, 16), "0", 0, AT(devices_per_slot), NULL},
    {"cluster.interface", NULL, 0, NULL, HW_TEXT, "auto", 0, AT(interface), NULL},
    {"cluster.binding", NULL, 0, NULL, HW_CHOICE(bindings), "auto", 0, AT(binding), NULL},
    {"cluster.oversubscribe", NULL, 0, NULL, HW_CHOICE(maybe), "auto", 0, AT(oversubscribe), NULL},
    {"cluster.environment", NULL, 0, NULL, HW_VARIABLES(HW_MAX_ENVIRONMENT), "[]", 0, AT(environment), NULL},
    {"cluster.remote_shell", NULL, 0, NULL, HW_TEXT, "auto", 0, AT(remote_shell), NULL},
    {"cluster.work_folder", NULL, 0, NULL, HW_TEXT, "auto", 0, AT(work_folder), NULL},
    {"cluster.program", NULL, 0, NULL, HW_TEXT, "auto", 0, AT(program), NULL},
};
#undef AT
_Static_assert(offsetof(hw_cluster, n_hosts) ==
                       offsetof(hw_cluster, hosts) + HW_MAX_HOSTS * sizeof(hw_host) &&
                   offsetof(hw_cluster, n_environment) ==
                       offsetof(hw_cluster, environment) + HW_MAX_ENVIRONMENT * sizeof(char *),
               "how many follows the list");

const hw_setting_group hw_cluster_group = HW_OWN_GROUP(NULL, 0, cluster_rows, NULL);

#define AT(field) offsetof(hw_host, field)
static const hw_setting host_rows[] = {
    {"cluster.hosts[].name", NULL, 0, NULL, HW_TEXT, "localhost", 0, AT(name), NULL},
    {"cluster.hosts[].slots", NULL, 0, NULL, HW_WHOLE("ranks", 1, 4096), "1", 0, AT(slots), NULL},
};
#undef AT

const hw_setting_group hw_host_group = HW_OWN_GROUP(NULL, 0, host_rows, NULL);
