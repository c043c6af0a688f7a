#include "launch/args.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parallel/comm.h"

enum { MAX_GROUPS = 8 };

/* Options without a letter. */
enum {
    OPT_DEVICE = 256,
    OPT_GRAPHS,
    OPT_PIN,
    OPT_COMM,
    OPT_STUCK_AFTER,
    OPT_DTYPE,
    OPT_KV_CACHE,
    OPT_KV_DTYPE,
    OPT_MATMUL,
    OPT_KV_MEMORY,
    OPT_NO_SHARING,
    OPT_BLOCK,
    OPT_CONTEXT,
    OPT_ROWS,
    OPT_LOAD_FORMAT,
    OPT_DUMMY_SEED,
    OPT_WEIGHTS,
    OPT_TOKENS,
    OPT_NO_SPECIAL,
    OPT_CHUNK,
    OPT_TEMPERATURE,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_PENALTY,
    OPT_SEED,
    OPT_STOP,
    OPT_IGNORE_EOS,
    OPT_JSON,
};

hw_args hw_args_defaults(void)
{
    hw_args a = {.comm = "auto",
                 .load_format = "auto",
                 .engine = hw_engine_defaults(),
                 .stuck_after = HW_STUCK_AFTER_S,
                 .repeats = 5,
                 .ranks = 1};
    a.engine.n_threads = 0; /* the host's cores are ours to divide */
    a.engine.pin = true;
    return a;
}

long hw_args_int(const char *name, const char *text, long min, long max, struct argp_state *state)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max)
        argp_error(state, "%s is '%s', wanted a whole number of %ld to %ld", name, text, min, max);
    return n;
}

float hw_args_number(const char *name, const char *text, double min, double max, struct argp_state *state)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= min && x <= max))
        argp_error(state, "%s is '%s', wanted a number of %g to %g", name, text, min, max);
    if (x != 0 && (float)x == 0) argp_error(state, "%s is '%s', too small a number; 0 is 0", name, text);
    return (float)x;
}

static hw_dtype to_dtype(const char *name, const char *text, struct argp_state *state)
{
    int known;
    hw_dtype type = hw_dtype_parse(text, &known);
    if (!known) argp_error(state, "%s is '%s', wanted auto, float32, float16 or bfloat16", name, text);
    return type;
}

static hw_matmul to_matmul(const char *text, struct argp_state *state)
{
    for (int i = HW_MATMUL_AUTO; i <= HW_MATMUL_BF16; i++)
        if (!strcmp(text, hw_matmul_name((hw_matmul)i))) return (hw_matmul)i;
    argp_error(state, "--matmul is '%s', wanted auto, float32, bf16x3 or bf16", text);
    return HW_MATMUL_AUTO;
}

static void one_prompt(const hw_args *a, struct argp_state *state)
{
    if (a->prompt || a->file || a->token_list || a->read_stdin)
        argp_error(state, "more than one prompt: give one of -p, -f, --tokens and -");
}

static hw_kv_policy to_policy(const char *text, struct argp_state *state)
{
    static const hw_kv_policy all[] = {HW_KV_PAGED, HW_KV_GROWING, HW_KV_CONTIGUOUS, HW_KV_OFF};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(text, hw_kv_policy_name(all[i]))) return all[i];
    argp_error(state, "--kv-cache is '%s', wanted paged, growing, contiguous or off", text);
    return HW_KV_PAGED;
}

uint64_t hw_args_memory(const char *name, const char *text, struct argp_state *state)
{
    static const char units[] = "KMGT";
    char *end;
    if (!strcmp(text, "auto")) return 0;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (errno || *text < '0' || *text > '9' || (*end && (!unit || end[1])) || !n || n > UINT64_MAX >> shift)
        argp_error(state, "%s is '%s', wanted auto, or bytes as in 1073741824, 1024M or 1G", name, text);
    return (uint64_t)n << shift;
}

static error_t parse_model(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    if (key == ARGP_KEY_END && !a->config && !a->model)
        argp_error(state, "which model? Give its folder with -m FOLDER");
    if (key == 'c' && !*(a->config = arg)) argp_error(state, "the configuration's name is empty");
    if (key != 'm') return key == 'c' ? 0 : ARGP_ERR_UNKNOWN;
    size_t n = strlen(arg);
    if (!n) argp_error(state, "the model folder's name is empty");
    while (n > 1 && arg[n - 1] == '/') arg[--n] = '\0'; /* as completion leaves it */
    a->model = arg;
    return 0;
}

static error_t parse_engine(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    hw_engine_options *o = &a->engine;
    switch (key) {
    case 't': o->n_threads = (int)hw_args_int("--threads", arg, 1, 1024, state); break;
    case OPT_PIN:
        if (strcmp(arg, "on") && strcmp(arg, "off"))
            argp_error(state, "--pin is '%s', wanted on or off", arg);
        o->pin = !strcmp(arg, "on");
        break;
    case 'v': a->verbose = true; break;
    case 'q': a->quiet = true; break;
    case OPT_DEVICE: o->device = arg; break;
    case OPT_GRAPHS:
        if (strcmp(arg, "on") && strcmp(arg, "off"))
            argp_error(state, "--cuda-graphs is '%s', wanted on or off", arg);
        o->graphs = !strcmp(arg, "on");
        break;
    case OPT_COMM: a->comm = arg; break;
    case OPT_STUCK_AFTER: a->stuck_after = hw_args_number("--stuck-after", arg, 1, 86400, state); break;
    case OPT_DTYPE: o->dtype = to_dtype("--dtype", arg, state); break;
    case OPT_MATMUL: o->matmul = to_matmul(arg, state); break;
    case OPT_KV_CACHE: o->kv_policy = to_policy(arg, state); break;
    case OPT_KV_MEMORY: o->kv_bytes = hw_args_memory("--kv-cache-memory", arg, state); break;
    case OPT_NO_SHARING: o->prefix_sharing = false; break;
    case OPT_KV_DTYPE: o->kv_dtype = to_dtype("--kv-cache-dtype", arg, state); break;
    case OPT_BLOCK: o->block_tokens = (int)hw_args_int("--block-size", arg, 1, 1024, state); break;
    case OPT_CONTEXT: o->max_seq_len = (int)hw_args_int("--max-model-len", arg, 1, INT_MAX, state); break;
    case OPT_ROWS:
        o->max_batch_rows = (int)hw_args_int("--max-num-batched-tokens", arg, 1, 1 << 20, state);
        break;
    case OPT_DUMMY_SEED:
        o->dummy_seed = (uint64_t)hw_args_int("--dummy-seed", arg, 0, LONG_MAX, state);
        a->has_dummy_seed = true;
        break;
    case OPT_WEIGHTS:
        if (strcmp(arg, "path") && strcmp(arg, "scatter"))
            argp_error(state, "--weights is '%s', wanted path or scatter", arg);
        o->weights = strcmp(arg, "path") ? HW_WEIGHTS_SCATTER : HW_WEIGHTS_PATH;
        break;
    case OPT_LOAD_FORMAT:
        if (strcmp(arg, "auto") && strcmp(arg, "safetensors") && strcmp(arg, "dummy"))
            argp_error(state, "--load-format is '%s', wanted auto, safetensors or dummy", arg);
        a->load_format = arg;
        o->dummy = !strcmp(arg, "dummy");
        break;
    case ARGP_KEY_END:
        if (!a->config && a->has_dummy_seed && !o->dummy)
            argp_error(state, "--dummy-seed is for --load-format dummy");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_prompt(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    switch (key) {
    case 'p': one_prompt(a, state), a->prompt = arg; break;
    case 'f': one_prompt(a, state), a->file = arg; break;
    case OPT_TOKENS: one_prompt(a, state), a->token_list = arg; break;
    case OPT_NO_SPECIAL: a->no_special = true; break;
    case ARGP_KEY_ARG:
        if (strcmp(arg, "-")) return ARGP_ERR_UNKNOWN;
        one_prompt(a, state), a->read_stdin = true;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_prefill(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    if (key != OPT_CHUNK) return ARGP_ERR_UNKNOWN;
    a->prefill_chunk = (int)hw_args_int("--prefill-chunk", arg, 1, 1 << 20, state);
    return 0;
}

static error_t parse_sampling(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    hw_sampling *s = &a->sampling;
    switch (key) {
    case 'n': a->max_tokens = (int)hw_args_int("--max-tokens", arg, 1, INT_MAX, state); break;
    case OPT_TEMPERATURE:
        s->temperature = hw_args_number("--temperature", arg, 0, 1e6, state), a->has_temperature = true;
        break;
    case OPT_TOP_K:
        s->top_k = (int)hw_args_int("--top-k", arg, 0, INT_MAX, state), a->has_top_k = true;
        break;
    case OPT_TOP_P: s->top_p = hw_args_number("--top-p", arg, 1e-6, 1, state), a->has_top_p = true; break;
    case OPT_MIN_P: s->min_p = hw_args_number("--min-p", arg, 0, 1, state), a->has_min_p = true; break;
    case OPT_PENALTY:
        s->repetition_penalty = hw_args_number("--repetition-penalty", arg, 1e-3, 1e3, state),
        a->has_penalty = true;
        break;
    case OPT_SEED: s->seed = (uint64_t)hw_args_int("--seed", arg, LONG_MIN, LONG_MAX, state); break;
    case OPT_STOP:
        if (a->n_stops == HW_MAX_STOPS) argp_error(state, "more than %d stop strings", HW_MAX_STOPS);
        if (!*arg) argp_error(state, "a stop string is empty");
        a->stops[a->n_stops++] = arg;
        break;
    case OPT_IGNORE_EOS: a->ignore_eos = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_report(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    (void)arg;
    if (key != OPT_JSON) return ARGP_ERR_UNKNOWN;
    a->json = true;
    return 0;
}

static const struct argp_option model_options[] = {
    {"model", 'm', "FOLDER", 0, "Hugging Face folder: config.json, model.safetensors, tokenizer.json", 0},
    {"config", 'c', "FILE.yaml", 0, "Settings, which options override (docs/deployment.md)", 0},
    {0}};

static const struct argp_option engine_options[] = {
    {0, 0, 0, 0, "Engine:", 3},
    {"threads", 't', "N", 0, "Threads of each rank (its share of the host's cores)", 0},
    {"pin", OPT_PIN, "on|off", 0, "Keep threads on the cores of their rank's share (on)", 0},
    {"dtype", OPT_DTYPE, "TYPE", 0,
     "Keep weights as auto (as stored), float32, float16 or bfloat16; a GPU computes in the same type, a CPU "
     "in float32",
     0},
    {"matmul", OPT_MATMUL, "HOW", 0,
     "Products with bfloat16 weights: float32; bf16x3, inputs as three bfloat16 terms, as accurate and much "
     "faster on matrix units; bf16, inputs rounded to bfloat16 (auto: bf16x3 where rank 0 has AMX, else "
     "float32)",
     0},
    {"kv-cache", OPT_KV_CACHE, "POLICY", 0,
     "paged; contiguous: room for the longest sequence up front; growing: one piece, doubled and copied when "
     "full; off: run the whole prefix at every step (paged)",
     0},
    {"kv-cache-memory", OPT_KV_MEMORY, "BYTES", 0,
     "Size of each rank's cache: bytes, also as 512M or 2G, or auto: what the longest sequence needs (auto)",
     0},
    {"no-prefix-sharing", OPT_NO_SHARING, 0, 0,
     "Paged: compute every prompt, also where the cache holds an equal beginning", 0},
    {"kv-cache-dtype", OPT_KV_DTYPE, "TYPE", 0,
     "Type of cached keys and values: auto (as the weights), float32, ...", 0},
    {"block-size", OPT_BLOCK, "N", 0, "Tokens of a cache block, paged and growing (16)", 0},
    {"max-model-len", OPT_CONTEXT, "N", 0,
     "Longest sequence, prompt and output (what the model allows, at most 4096)", 0},
    {"max-num-batched-tokens", OPT_ROWS, "N", 0, "Rows of one step: longer prompts are run in chunks (512)",
     0},
    {"device", OPT_DEVICE, "D", 0,
     "auto: cuda where every rank has a GPU of its own, else cpu; cpu, cuda, or reference: plain loops to "
     "compare with (auto)",
     0},
    {"cuda-graphs", OPT_GRAPHS, "on|off", 0,
     "off: start the kernels of a decode step one by one, each token by way of the host, for finding out "
     "which one is wrong (on)",
     0},
    {"comm", OPT_COMM, "C", 0,
     "Collectives: auto, self (one rank), shm (memory shared by the ranks of a host), mpi, or nccl: by NCCL "
     "between GPUs, which auto takes where it can (auto)",
     0},
    {"stuck-after", OPT_STUCK_AFTER, "SECONDS", 0,
     "A rank without progress for so long is stuck: launch ends the run, and nccl gives up after ten times "
     "as long "
     "(3.5)",
     0},
    {"load-format", OPT_LOAD_FORMAT, "F", 0,
     "auto, safetensors, or dummy: random weights from config.json alone", 0},
    {"dummy-seed", OPT_DUMMY_SEED, "N", 0, "Which random weights (0)", 0},
    {"weights", OPT_WEIGHTS, "FROM", 0,
     "path: every rank reads its part, and every host has the model folder; scatter: rank 0's host alone has "
     "it, and "
     "each rank is sent its part (path)",
     0},
    {"verbose", 'v', 0, 0,
     "Say what runs, on standard error: model, ranks, what each processor computes with and why it is "
     "nothing "
     "better",
     0},
    {"quiet", 'q', 0, 0, "No progress bar while loading (there is none where standard error is no terminal)",
     0},
    {0}};

static const struct argp_option prompt_options[] = {
    {0, 0, 0, 0, "Prompt (one of; - as an argument reads standard input):", 1},
    {"prompt", 'p', "TEXT", 0, "The text itself", 0},
    {"file", 'f', "FILE", 0, "The text in a file", 0},
    {"tokens", OPT_TOKENS, "1,2,3", 0, "Token ids; needs no tokenizer", 0},
    {"no-special", OPT_NO_SPECIAL, 0, 0, "Do not add the tokenizer's special tokens (BOS)", 0},
    {0}};

static const struct argp_option prefill_options[] = {
    {"prefill-chunk", OPT_CHUNK, "N", 0, "Run the prompt N tokens at a time", 1}, {0}};

static const struct argp_option sampling_options[] = {
    {0, 0, 0, 0, "Sampling (defaults: the model's generation_config.json, else greedy):", 2},
    {"max-tokens", 'n', "N", 0, "New tokens at most (until the context is full)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "0 is greedy", 0},
    {"top-k", OPT_TOP_K, "K", 0, "Only the K best tokens; 0: off", 0},
    {"top-p", OPT_TOP_P, "P", 0, "Only the best tokens that together have probability P", 0},
    {"min-p", OPT_MIN_P, "P", 0, "Only tokens of at least P times the best one's probability", 0},
    {"repetition-penalty", OPT_PENALTY, "R", 0, "Divide the logits of tokens already there; 1: off", 0},
    {"seed", OPT_SEED, "S", 0, "Same seed, same text, on any number of ranks (0)", 0},
    {"stop", OPT_STOP, "TEXT", 0, "End before this text; may be repeated", 0},
    {"ignore-eos", OPT_IGNORE_EOS, 0, 0, "Go on after the end-of-sequence token", 0},
    {0}};

static const struct argp_option report_options[] = {
    {0, 0, 0, 0, "Reports:", 4},
    {"json", OPT_JSON, 0, 0, "One JSON document on standard output instead of text", 0},
    {0}};

const struct argp hw_args_model = {.options = model_options, .parser = parse_model};
const struct argp hw_args_engine = {.options = engine_options, .parser = parse_engine};
const struct argp hw_args_prompt = {.options = prompt_options, .parser = parse_prompt};
const struct argp hw_args_prefill = {.options = prefill_options, .parser = parse_prefill};
const struct argp hw_args_sampling = {.options = sampling_options, .parser = parse_sampling};
const struct argp hw_args_report = {.options = report_options, .parser = parse_report};

/* What a subcommand's own parser and the groups are given. */
typedef struct parse_input {
    hw_args *args;
    const struct argp *own;
    int n_groups;
} parse_input;

static error_t parse_top(int key, char *arg, struct argp_state *state)
{
    parse_input *in = state->input;
    if (key == ARGP_KEY_INIT)
        for (int i = 0; i < in->n_groups; i++) state->child_inputs[i] = in->args;
    error_t e = ARGP_ERR_UNKNOWN;
    state->input = in->args;
    if (in->own->parser) e = in->own->parser(key, arg, state);
    state->input = in;
    if (e == ARGP_ERR_UNKNOWN && key == ARGP_KEY_ARG && strcmp(arg, "-")) /* which is the prompt's */
        argp_error(state, "'%s' belongs to no option; a text of several words goes in quotes", arg);
    return e;
}

void hw_args_parse(hw_args *out, const struct argp *own, const struct argp *const *groups, int argc,
                   char **argv)
{
    struct argp_child children[MAX_GROUPS + 1] = {{0}};
    parse_input in = {.args = out, .own = own};
    out->line = (hw_args_line){own, groups, argc, argv};
    for (; groups[in.n_groups]; in.n_groups++) children[in.n_groups].argp = groups[in.n_groups];
    struct argp top = {.options = own->options,
                       .parser = parse_top,
                       .args_doc = own->args_doc,
                       .doc = own->doc,
                       .children = children};
    char name[64], *const subcommand = argv[0];
    snprintf(name, sizeof name, "headway %s", subcommand);
    argv[0] = name;
    /* All ranks read the same arguments and come to the same end; one of them says so, and has the exit code
     * (main.c). */
    int silenced = hw_comm_launched_rank() > 0, kept[2] = {-1, -1};
    argp_err_exit_status = silenced ? 0 : 2;
    if (silenced) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        for (int fd = 1; fd <= 2; fd++) kept[fd - 1] = dup(fd), dup2(null, fd);
        close(null);
    }
    argp_parse(&top, argc, argv, 0, NULL, &in);
    if (silenced)
        for (int fd = 1; fd <= 2; fd++) dup2(kept[fd - 1], fd), close(kept[fd - 1]);
    argv[0] = subcommand;
}

/* What a flag and the file could both say: which of the file's settings a flag makes pointless. */
static void drop_overridden(hw_args *a, const hw_args *given)
{
    if (given->n_stops) a->n_stops = 0;
    if (!given->has_temperature || given->sampling.temperature != 0) return;
    a->has_top_k = a->has_top_p = a->has_min_p = false; /* greedy leaves them nothing to do */
}

hw_status hw_args_override(hw_args *a, const hw_args *given, hw_error *err)
{
    const hw_args_line line = given->line;
    drop_overridden(a, given);
    a->prompt = a->file = a->token_list = NULL;
    a->read_stdin = false;
    hw_args_parse(a, line.own, line.groups, line.argc, line.argv);
    if (!a->model)
        return hw_fail(err, HW_ERR_INVALID,
                       "which model? %s has no model.path; write it there, or give its folder with -m FOLDER",
                       a->config);
    if (a->has_dummy_seed && !a->engine.dummy)
        return hw_fail(err, HW_ERR_INVALID, "--dummy-seed is for --load-format dummy");
    return HW_OK;
}
