/* Compares logits and greedy continuations with golden ones from transformers, on any number of ranks.
 *
 *   mpirun -np N golden_worker [--device D] [--comm C] FOLDER...
 *
 * Every folder of tests/vectors/ is run in all the ways in which the same logits must come out: prompt in
 * one step, in chunks, token by token, with two threads, with the cache off, in one piece or in a growing
 * one, in a batch among other sequences, as one of 33 sequences of 1 to 33 rows in one step, on top of a prefix that an
 * earlier sequence computed, and beside a fork that goes another way. Rank 0 prints one line each:
 *
 *   case variant max-error hash-of-the-logits
 *
 * where the error is relative to the largest logit. Exit code 0 when all are within TOLERANCE, all but the
 * plain loops give the same bits, and greedy tokens are equal wherever the reference's two best logits are
 * further apart than the tolerance.
 *
 * With --device the model runs on that device (a name or a plug-in's path, as in hw_engine_options), which
 * promises no bits, in one way for each kind of step and of cache.
 *
 * With --dtype bfloat16 or float16 after that, activations and cache are of that type too. What is printed
 * and compared then is the root of the mean square of the error over that of the reference's logits: over
 * all folders it may be 1.1 times what transformers has in that type (halves.json). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/engine.h"
#include "tests/support/npy.h"
#include "tests/support/rank.h"

/* float32 on both sides, sums of a few hundred terms in another order: the reference's own distance from
 * float64 is up to 4e-6 (reference_error in golden.json). */
static const double TOLERANCE = 2e-5;

enum { OTHERS = 2 /* sequences that share the batch */, CROWD = 33, CROWD_ROWS = CROWD * (CROWD + 1) / 2 };

typedef struct golden {
    const char *folder, *name;
    json_t *json;
    int n_prompt, n_greedy;
    int32_t *prompt, *greedy;
    double *margins;
    hw_npy logits;
} golden;

typedef struct variant {
    const char *name;
    int n_threads, chunk; /* 0: all at once */
    hw_kv_policy policy;
    bool batch, greedy, reference;
    bool shared; /* every row is the last one of a sequence of its own, which finds the others in the cache */
    bool crowd; /* the prompt's first tokens run in one step with sequences of every smaller number of them */
    bool forked;     /* before every row the sequence is forked, and the fork takes another token */
    bool any_device; /* also run with --device */
} variant;

static const variant variants[] = {
    {.name = "whole", .n_threads = 1, .greedy = true, .any_device = true},
    {.name = "again", .n_threads = 1},
    {.name = "threads", .n_threads = 2, .greedy = true},
    {.name = "chunks-7", .n_threads = 1, .chunk = 7},
    {.name = "one-by-one", .n_threads = 2, .chunk = 1},
    {.name = "off", .n_threads = 1, .policy = HW_KV_OFF, .greedy = true},
    {.name = "off-chunks", .n_threads = 1, .chunk = 33, .policy = HW_KV_OFF},
    {.name = "batch", .n_threads = 2, .chunk = 5, .batch = true},
    {.name = "crowd", .n_threads = 2, .crowd = true, .greedy = true},
    {.name = "contiguous", .n_threads = 1, .chunk = 9, .policy = HW_KV_CONTIGUOUS, .greedy = true},
    {.name = "dynamic",
     .n_threads = 1,
     .chunk = 3,
     .policy = HW_KV_DYNAMIC,
     .batch = true,
     .greedy = true,
     .any_device = true},
    {.name = "shared", .n_threads = 1, .shared = true},
    {.name = "forked", .n_threads = 1, .forked = true},
    {.name = "forked-off", .n_threads = 1, .policy = HW_KV_OFF, .forked = true},
    {.name = "forked-piece", .n_threads = 1, .policy = HW_KV_CONTIGUOUS, .forked = true},
    {.name = "forked-grow", .n_threads = 1, .policy = HW_KV_DYNAMIC, .forked = true},
    {.name = "reference", .n_threads = 1, .reference = true},
};

static const char *device = "cpu", *backend = "auto";
static hw_dtype dtype; /* of activations on a device in a plug-in */

static int32_t *int_list(const json_t *list, int *n)
{
    *n = (int)json_array_size(list);
    int32_t *out = calloc((size_t)*n + 1, sizeof *out);
    for (int i = 0; i < *n; i++) out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return out;
}

static golden open_golden(const char *folder)
{
    golden g = {.folder = folder, .name = strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder};
    hw_error err;
    char path[4096];
    int n;
    snprintf(path, sizeof path, "%s/golden.json", folder);
    must(hw_json_load(&g.json, path, 1 << 20, HW_ERR_FAILED, &err), &err);
    g.prompt = int_list(json_object_get(g.json, "tokens"), &g.n_prompt);
    g.greedy = int_list(json_object_get(g.json, "greedy"), &g.n_greedy);
    const json_t *margins = json_object_get(g.json, "margins");
    n = (int)json_array_size(margins);
    g.margins = calloc((size_t)n + 1, sizeof *g.margins);
    for (int i = 0; i < n; i++) g.margins[i] = json_number_value(json_array_get(margins, (size_t)i));
    snprintf(path, sizeof path, "%s/logits.npy", folder);
    must(hw_npy_read(&g.logits, path, &err), &err);
    return g;
}

static void close_golden(golden *g)
{
    json_decref(g->json);
    free(g->prompt);
    free(g->greedy);
    free(g->margins);
    hw_npy_free(&g->logits);
}

static hw_engine *open_engine(const golden *g, const variant *v)
{
    hw_engine_options o = hw_engine_defaults();
    hw_engine *e;
    hw_error err;
    o.device = v->reference ? "reference" : device;
    o.n_threads = v->n_threads;
    o.kv_policy = v->policy;
    o.kv_dtype = HW_F32; /* what the reference computes with */
    if (dtype) o.dtype = o.kv_dtype = dtype;
    o.block_tokens = v->batch || v->shared || v->forked ? 5 : 16;
    o.max_seqs = v->crowd ? CROWD : 1 + OTHERS;
    o.max_seq_len = g->n_prompt + g->n_greedy;
    o.max_logit_rows = v->crowd ? CROWD_ROWS : g->n_prompt;
    o.max_batch_rows = v->crowd ? CROWD_ROWS : (1 + OTHERS) * o.max_seq_len;
    must(hw_engine_create(&e, comm, g->folder, &o, &err), &err);
    return e;
}

/* The prompt's logits [n_prompt, vocab], run as the variant says. The other sequences of a batch are
 * older, longer and different. */
static hw_sequence *run_prompt(hw_engine *e, const golden *g, const variant *v, float *logits)
{
    hw_sequence *seq, *others[OTHERS] = {0};
    hw_batch *batch;
    hw_error err;
    size_t vocab = g->logits.n_cols;
    int chunk = v->chunk ? v->chunk : g->n_prompt;
    must(hw_batch_create(&batch, e, &err), &err);
    must(hw_sequence_create(&seq, e, 0, &err), &err);
    for (int i = 0; i < OTHERS && v->batch; i++) must(hw_sequence_create(&others[i], e, 0, &err), &err);
    for (int i = 0; i < g->n_prompt; i += chunk) {
        int n = g->n_prompt - i < chunk ? g->n_prompt - i : chunk;
        hw_batch_clear(batch);
        for (int j = 0; j < OTHERS && v->batch; j++) {
            int32_t tokens[3];
            for (int k = 0; k <= j + 1; k++) tokens[k] = g->prompt[(i * 7 + j * 13 + k * 5) % g->n_prompt];
            if (j == 0) must(hw_batch_add(batch, others[j], tokens, j + 2, HW_LOGITS_NONE, &err), &err);
            if (j == 0) must(hw_batch_add(batch, seq, g->prompt + i, n, HW_LOGITS_ALL, &err), &err);
            if (j > 0) must(hw_batch_add(batch, others[j], tokens, j + 2, HW_LOGITS_NONE, &err), &err);
        }
        if (!v->batch) must(hw_batch_add(batch, seq, g->prompt + i, n, HW_LOGITS_ALL, &err), &err);
        must(hw_engine_step(e, batch, &err), &err);
        must(hw_engine_logits(e, batch, logits + (size_t)i * vocab, &err), &err);
    }
    hw_batch_destroy(batch);
    for (int i = 0; i < OTHERS; i++) hw_sequence_destroy(others[i]);
    return seq;
}

static void step(hw_engine *e, hw_batch *batch, hw_sequence *seq, const int32_t *tokens, int n, float *logits)
{
    hw_error err;
    hw_batch_clear(batch);
    must(hw_batch_add(batch, seq, tokens, n, logits ? HW_LOGITS_LAST : HW_LOGITS_NONE, &err), &err);
    must(hw_engine_step(e, batch, &err), &err);
    if (logits) must(hw_engine_logits(e, batch, logits, &err), &err);
}

static void must_hold(bool true_thing, const char *what, int row)
{
    if (true_thing) return;
    fprintf(stderr, "rank %d of %d: row %d: %s\n", rank, n_ranks, row, what);
    hw_comm_abort(comm, 3);
    exit(3);
}

/* Sequences of 1 to CROWD rows in an order in which their rows share tiles in ever other ways. The longest, with which the
 * others are compared, goes on with the prompt. */
static hw_sequence *run_crowd(hw_engine *e, const golden *g, float *logits)
{
    const size_t vocab = g->logits.n_cols;
    float *all = malloc(CROWD_ROWS * vocab * sizeof *all), *longest = NULL, *at = all;
    hw_sequence *seqs[CROWD];
    hw_batch *batch;
    hw_error err;
    must_hold(all && g->n_prompt > CROWD, "a prompt longer than the crowd", 0);
    must(hw_batch_create(&batch, e, &err), &err);
    for (int i = 0; i < CROWD; i++) must(hw_sequence_create(&seqs[i], e, 0, &err), &err);
    for (int i = 0; i < CROWD; i++)
        must(hw_batch_add(batch, seqs[i], g->prompt, i * 14 % CROWD + 1, HW_LOGITS_ALL, &err), &err);
    must(hw_engine_step(e, batch, &err), &err);
    must(hw_engine_logits(e, batch, all, &err), &err);
    hw_sequence *seq = NULL;
    for (int i = 0, n; i < CROWD; i++, at += (size_t)n * vocab)
        if ((n = i * 14 % CROWD + 1) == CROWD) longest = at, seq = seqs[i];
    at = all;
    for (int i = 0, n; i < CROWD; i++, at += (size_t)n * vocab) {
        n = i * 14 % CROWD + 1;
        must_hold(!memcmp(at, longest, (size_t)n * vocab * sizeof *at), "same bits in a crowd", n);
        if (seqs[i] != seq) hw_sequence_destroy(seqs[i]);
    }
    memcpy(logits, longest, CROWD * vocab * sizeof *logits);
    hw_batch_clear(batch);
    must(hw_batch_add(batch, seq, g->prompt + CROWD, g->n_prompt - CROWD, HW_LOGITS_ALL, &err), &err);
    must(hw_engine_step(e, batch, &err), &err);
    must(hw_engine_logits(e, batch, logits + CROWD * vocab, &err), &err);
    hw_batch_destroy(batch);
    free(all);
    return seq;
}

/* Row i's logits from the prompt's first i + 1 tokens. Full blocks are found; where the last token ends a
 * block, it is asked a second time, so that even that block is found, and copied because its last token
 * has to run. */
static hw_sequence *run_shared(hw_engine *e, const golden *g, float *logits)
{
    const int block = hw_engine_info_get(e).block_tokens;
    hw_sequence *seq = NULL;
    hw_batch *batch;
    hw_error err;
    must(hw_batch_create(&batch, e, &err), &err);
    for (int i = 0; i < g->n_prompt; i++)
        for (int again = 0; again <= ((i + 1) % block == 0); again++) {
            hw_sequence_destroy(seq);
            must(hw_sequence_create(&seq, e, 0, &err), &err);
            step(e, batch, seq, g->prompt, i + 1, logits + (size_t)i * g->logits.n_cols);
            must_hold(hw_sequence_n_cached(seq) == (again ? i : i / block * block), "tokens found", i);
            must_hold(hw_batch_n_rows(batch) == i + 1 - hw_sequence_n_cached(seq), "rows run", i);
        }
    hw_batch_destroy(batch);
    return seq;
}

/* The fork and the sequence it came from write different tokens at the same position, the one or the other
 * first. */
static hw_sequence *run_forked(hw_engine *e, const golden *g, float *logits)
{
    hw_sequence *seq, *fork;
    hw_batch *batch;
    hw_error err;
    must(hw_batch_create(&batch, e, &err), &err);
    must(hw_sequence_create(&seq, e, 0, &err), &err);
    for (int i = 0; i < g->n_prompt; i++) {
        const int32_t *other = &g->prompt[(i + 3) % g->n_prompt];
        float *row = logits + (size_t)i * g->logits.n_cols;
        must(hw_sequence_fork(&fork, seq, &err), &err);
        must_hold(hw_sequence_n_tokens(fork) == i, "tokens of the fork", i);
        if (i % 2) step(e, batch, fork, other, 1, NULL);
        step(e, batch, seq, g->prompt + i, 1, row);
        if (i % 2 == 0) step(e, batch, fork, other, 1, NULL);
        hw_sequence_destroy(fork);
    }
    hw_batch_destroy(batch);
    return seq;
}

static double largest_error(const golden *g, const float *logits)
{
    double error = 0, largest = 0;
    for (size_t i = 0; i < g->logits.n_rows * g->logits.n_cols; i++) {
        double d = fabs((double)logits[i] - (double)g->logits.data[i]);
        if (!(d <= error)) error = d; /* a NaN sticks */
        if (fabs((double)g->logits.data[i]) > largest) largest = fabs((double)g->logits.data[i]);
    }
    return error / largest;
}

static double rms_error(const golden *g, const float *logits)
{
    double squares = 0, sizes = 0;
    for (size_t i = 0; i < g->logits.n_rows * g->logits.n_cols; i++) {
        const double want = (double)g->logits.data[i], d = (double)logits[i] - want;
        squares += d * d, sizes += want * want;
    }
    return sqrt(squares / sizes);
}

/* Greedy tokens after the prompt: equal to the reference's up to the first step whose margin is within the
 * tolerance. */
static bool greedy_matches(hw_engine *e, const golden *g, hw_sequence *seq)
{
    const hw_sampling greedy = {0};
    hw_batch *batch;
    hw_error err;
    int32_t token = g->prompt[g->n_prompt - 1];
    bool equal = true;
    must(hw_batch_create(&batch, e, &err), &err);
    /* The prompt's last step asked for logits of several rows; run one more token from the golden list to
     * get into step. */
    token = g->greedy[0];
    for (int i = 1; i < g->n_greedy; i++) {
        hw_batch_clear(batch);
        must(hw_batch_add(batch, seq, &token, 1, HW_LOGITS_LAST, &err), &err);
        must(hw_engine_step(e, batch, &err), &err);
        must(hw_engine_sample(e, batch, &greedy, 0, &token, &err), &err);
        if (token == g->greedy[i]) continue;
        equal = g->margins[i] <= TOLERANCE;
        if (!equal && rank == 0)
            fprintf(stderr, "%s: greedy token %d is %d, wanted %d (margin %.2g)\n", g->name, i, token,
                    g->greedy[i], g->margins[i]);
        break;
    }
    hw_batch_destroy(batch);
    return equal;
}

/* FNV-1a, so that bits can be compared between runs. */
static uint64_t hash(const float *x, size_t n)
{
    uint64_t h = 14695981039346656037u;
    const unsigned char *p = (const unsigned char *)x;
    for (size_t i = 0; i < n * sizeof *x; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

/* 16-bit activations: adds to the errors of all folders, and to what transformers has on the same. */
static double halves_mine, halves_theirs;

static void compare_halves(const golden *g, const variant *v, const float *logits)
{
    hw_error err;
    json_t *all;
    char path[4096];
    snprintf(path, sizeof path, "%s/../halves.json", g->folder);
    must(hw_json_load(&all, path, 1 << 20, HW_ERR_FAILED, &err), &err);
    const json_t *cases = json_object_get(json_object_get(all, hw_dtype_name(dtype)), "cases");
    const double mine = rms_error(g, logits), theirs = json_number_value(json_object_get(cases, g->name));
    json_decref(all);
    halves_mine += mine * mine, halves_theirs += theirs * theirs;
    if (rank == 0) printf("%-24s %-12s rms %.3e, transformers %.3e\n", g->name, v->name, mine, theirs);
}

static bool halves_are_good(void)
{
    const double ratio = sqrt(halves_mine / halves_theirs);
    if (rank == 0) printf("over all: %.3f of the error of transformers\n", ratio);
    return ratio <= 1.1; /* false for NaN */
}

static bool run_variant(const golden *g, const variant *v, uint64_t *bits)
{
    size_t n = g->logits.n_rows * g->logits.n_cols;
    float *logits = calloc(n, sizeof *logits);
    hw_engine *e = open_engine(g, v);
    hw_sequence *seq = v->shared   ? run_shared(e, g, logits)
                       : v->crowd  ? run_crowd(e, g, logits)
                       : v->forked ? run_forked(e, g, logits)
                                   : run_prompt(e, g, v, logits);
    double error = largest_error(g, logits);
    bool halves = dtype == HW_F16 || dtype == HW_BF16, good = halves || error <= TOLERANCE;
    if (halves) compare_halves(g, v, logits);
    if (v->greedy && !halves && !greedy_matches(e, g, seq)) good = false;
    *bits = hash(logits, n);
    if (rank == 0 && !halves)
        printf("%-24s %-12s %.2e %016llx%s\n", g->name, v->name, error, (unsigned long long)*bits,
               good ? "" : "  WRONG");
    hw_sequence_destroy(seq);
    hw_engine_destroy(e);
    free(logits);
    return good;
}

int main(int argc, char **argv)
{
    int first = 1, known;
    if (argc > 2 && !strcmp(argv[1], "--device")) device = argv[2], first = 3, dtype = HW_F32;
    if (argc > 4 && !strcmp(argv[3], "--dtype")) dtype = hw_dtype_parse(argv[4], &known), first = 5;
    const bool exact = first == 1;
    if (argc > first + 1 && !strcmp(argv[first], "--comm")) backend = argv[first + 1], first += 2;
    if (argc <= first) return fprintf(stderr, "golden_worker: which folders?\n"), 2;
    start(backend);
    hw_comm_set_stuck_after(comm, 30); /* there are fewer cores than ranks */
    for (int i = first; i < argc; i++) {
        golden g = open_golden(argv[i]);
        uint64_t bits[sizeof variants / sizeof *variants];
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
            if ((exact || variants[v].any_device) && !run_variant(&g, &variants[v], &bits[v])) n_wrong++;
        for (size_t v = 1; exact && v < sizeof variants / sizeof *variants; v++)
            if (bits[v] != bits[0] && !variants[v].reference) {
                fprintf(stderr, "%s: %s has other bits than %s\n", g.name, variants[v].name,
                        variants[0].name);
                n_wrong++;
            }
        close_golden(&g);
    }
    if (halves_theirs > 0 && !halves_are_good()) n_wrong++;
    return finish();
}
