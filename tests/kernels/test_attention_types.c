/* Attention with activations of every type, against a plain loop in double on fresh random inputs: whole prompts,
 * single tokens whose keys are split, several sequences, groups of heads that a rank has a part of. */
#include "tests/kernels/types.h"

enum { MOST_SEQS = 3 };

typedef struct scene {
    hw_heads heads;
    int block_tokens, n_seqs, lengths[MOST_SEQS];
    bool prompt; /* all rows of all sequences at once; else the last row of each */
    int shift;   /* how much larger the host thinks that positions may be */
    int window;
} scene;

static const scene scenes[] = {
    {{4, 4, 0, 0, 1, 16}, 16, 2, {5, 130}, true, 0, 0},
    {{8, 2, 0, 0, 4, 64}, 16, 1, {90}, true, 0, 0},
    {{7, 1, 0, 0, 7, 24}, 128, 1, {150}, true, 100, 0},
    {{5, 3, 3, 0, 4, 40}, 5, 3, {1, 64, 65}, true, 0, 0}, /* heads 3 .. 7 of groups of 4 */
    {{3, 2, 10, 2, 4, 33}, 5, 1, {70}, true, 0, 0},       /* odd heads */
    {{2, 1, 4, 1, 4, 128}, 16, 2, {80, 3}, true, 0, 0},
    {{8, 2, 0, 0, 4, 128}, 16, 3, {63, 64, 129}, false, 0, 0},
    {{20, 1, 0, 0, 20, 8}, 7, 2, {70, 300}, false, 0, 0}, /* more heads than rows of a tile */
    {{5, 3, 3, 0, 4, 80}, 16, 1, {700}, false, 3000, 0},
    {{2, 1, 0, 0, 2, 8}, 64, 1, {8500}, false, 0, 0}, /* more chunks than there may be: they are larger */
    {{4, 2, 0, 0, 2, 12}, 16, 2, {1, 400}, false, 50, 0},
    {{2, 2, 0, 0, 1, 136}, 16, 1, {40}, false, 0, 0}, /* a head longer than tensor cores take */
    {{8, 2, 0, 0, 4, 64}, 16, 2, {200, 33}, true, 0, 37},
    {{5, 3, 3, 0, 4, 24}, 5, 2, {150, 70}, true, 0, 1},
    {{4, 2, 0, 0, 2, 128}, 16, 2, {700, 300}, false, 500, 299}, /* more than a chunk, from amid a block */
    {{2, 1, 0, 0, 2, 136}, 16, 1, {600}, false, 0, 64},
};
enum { N_SCENES = sizeof scenes / sizeof *scenes };

/* Tokens of all sequences, and what of them is where on the device. */
typedef struct stage {
    const scene *s;
    int n_tokens, max_blocks;
    size_t width;
    int32_t *positions, *seqs, *tables;
    float *qkv;
    hw_kv_layer kv;
} stage;

static stage set_stage(hw_device *d, const scene *s, hw_dtype kv_type)
{
    const hw_heads h = s->heads;
    stage g = {.s = s, .width = (size_t)(h.n_heads + 2 * h.n_kv_heads) * (size_t)h.head_dim};
    int longest = 0, t = 0;
    for (int q = 0; q < s->n_seqs; q++) {
        g.n_tokens += s->lengths[q];
        if (s->lengths[q] > longest) longest = s->lengths[q];
    }
    g.max_blocks = (longest + s->block_tokens - 1) / s->block_tokens;
    const int n_blocks = g.max_blocks * s->n_seqs;
    g.positions = malloc((size_t)g.n_tokens * 4), g.seqs = malloc((size_t)g.n_tokens * 4);
    g.tables = malloc((size_t)n_blocks * 4);
    for (int i = 0; i < n_blocks; i++) /* scattered */
        g.tables[i] = i % s->n_seqs * g.max_blocks + g.max_blocks - 1 - i / s->n_seqs;
    for (int q = 0; q < s->n_seqs; q++)
        for (int p = 0; p < s->lengths[q]; p++, t++) g.positions[t] = p, g.seqs[t] = q;
    g.qkv = numbers(d->act, (size_t)g.n_tokens * g.width, 2);
    g.kv = (hw_kv_layer){.dtype = kv_type, .block_tokens = s->block_tokens};
    g.kv.data =
        there(d, kv_type, NULL,
              (size_t)n_blocks * 2 * (size_t)h.n_kv_heads * (size_t)s->block_tokens * (size_t)h.head_dim);
    return g;
}

static void strike(hw_device *d, stage *g)
{
    d->k->free(d, g->kv.data);
    free(g->positions), free(g->seqs), free(g->tables), free(g->qkv);
}

/* Rows chosen[0 .. n - 1] of the stage as the ops see them; the caller frees its three arrays. */
static hw_rows rows_there(hw_device *d, const stage *g, const int *chosen, int n)
{
    int32_t *positions = malloc((size_t)n * 4), *seqs = malloc((size_t)n * 4);
    hw_rows rows = {.n_rows = n, .n_seqs = g->s->n_seqs, .max_blocks = g->max_blocks};
    for (int i = 0; i < n; i++) {
        positions[i] = g->positions[chosen[i]], seqs[i] = g->seqs[chosen[i]];
        if (positions[i] > rows.max_position) rows.max_position = positions[i];
    }
    rows.max_position += g->s->shift;
    rows.positions = ids_there(d, positions, n), rows.seqs = ids_there(d, seqs, n);
    rows.block_tables = ids_there(d, g->tables, g->max_blocks * g->s->n_seqs);
    free(positions), free(seqs);
    return rows;
}

static void free_rows(hw_device *d, hw_rows rows)
{
    d->k->free(d, (void *)(uintptr_t)rows.positions), d->k->free(d, (void *)(uintptr_t)rows.seqs);
    d->k->free(d, (void *)(uintptr_t)rows.block_tables);
}

/* softmax(0.3 q k^T) v of head `head` of token `t`, in double. `largest`: of the values' sizes. */
static void attend(double *out, double *largest, const stage *g, int t, int head)
{
    const hw_heads h = g->s->heads;
    const size_t dim = (size_t)h.head_dim;
    const size_t kv_head = (size_t)((h.first_head + head) / h.n_rep - h.first_kv_head);
    const float *q = g->qkv + (size_t)t * g->width + (size_t)head * dim;
    const int window = g->s->window, all = t - g->positions[t];
    const int first = window && t - window + 1 > all ? t - window + 1 : all;
    double max = -INFINITY, sum = 0, *p = doubles((size_t)(t - first + 1));
    for (int k = first; k <= t; k++) {
        const float *key = g->qkv + (size_t)k * g->width + ((size_t)h.n_heads + kv_head) * dim;
        for (size_t e = 0; e < dim; e++) p[k - first] += 0.3 * (double)q[e] * (double)key[e];
        if (p[k - first] > max) max = p[k - first];
    }
    memset(out, 0, dim * sizeof *out);
    *largest = 0;
    for (int k = first; k <= t; k++) {
        const float *value =
            g->qkv + (size_t)k * g->width + ((size_t)h.n_heads + (size_t)h.n_kv_heads + kv_head) * dim;
        const double w = exp(p[k - first] - max);
        sum += w;
        for (size_t e = 0; e < dim; e++) {
            out[e] += w * (double)value[e];
            if (fabs((double)value[e]) > *largest) *largest = fabs((double)value[e]);
        }
    }
    for (size_t e = 0; e < dim; e++) out[e] /= sum;
    free(p);
}

/* Scores are sums of up to 136 products of sizes up to 1.2, off by less than 136 * 1.2 * 2^-24 * 4 = 4e-5, which a
 * weight is off by relative to itself, as the sum may be: 1e-4 of the largest value. In 16 bits a weight is rounded. */
static void compare(const stage *g, const int *chosen, int n, const float *got, hw_dtype act)
{
    const hw_heads h = g->s->heads;
    const size_t dim = (size_t)h.head_dim, row = (size_t)h.n_heads * dim, total = (size_t)n * row;
    double *want = doubles(total), *slack = doubles(total), largest;
    for (int i = 0; i < n; i++)
        for (int head = 0; head < h.n_heads; head++) {
            const size_t at = (size_t)i * row + (size_t)head * dim;
            attend(want + at, &largest, g, chosen[i], head);
            for (size_t e = 0; e < dim; e++)
                slack[at + e] = (1e-4 + (act == HW_F32 ? 0 : hw_half_ulp(act))) * largest;
        }
    char what[64];
    snprintf(what, sizeof what, "attention, scene %d", (int)(g->s - scenes));
    expect(got, want, slack, total, hw_half_ulp(act), hw_least_step(act), what, act);
    free(want), free(slack);
}

static void play(hw_device *d, const scene *s, hw_dtype kv_type)
{
    stage g = set_stage(d, s, kv_type);
    const size_t row = (size_t)(s->heads.n_heads * s->heads.head_dim);
    int *chosen = malloc((size_t)g.n_tokens * sizeof *chosen), n = 0;
    for (int t = 0; t < g.n_tokens; t++) chosen[t] = t;
    hw_rows rows = rows_there(d, &g, chosen, g.n_tokens);
    void *qkv = there(d, d->act, g.qkv, (size_t)g.n_tokens * g.width);
    cr_assert_eq(d->k->rope_append(d, qkv, NULL, 0, s->heads, &rows, g.kv), HW_OK);
    d->k->free(d, qkv), free_rows(d, rows);

    for (int t = 0; t < g.n_tokens; t++)
        if (s->prompt || t + 1 == g.n_tokens || g.seqs[t + 1] != g.seqs[t]) chosen[n++] = t;
    float *mine = malloc((size_t)n * g.width * sizeof *mine);
    for (int i = 0; i < n; i++)
        memcpy(mine + (size_t)i * g.width, g.qkv + (size_t)chosen[i] * g.width, g.width * sizeof *mine);
    rows = rows_there(d, &g, chosen, n);
    qkv = there(d, d->act, mine, (size_t)n * g.width);
    void *scratch, *out = there(d, d->act, NULL, (size_t)n * row);
    const size_t n_scratch = d->k->attention_scratch(d, s->heads, n, rows.max_position + 1);
    cr_assert_eq(d->k->alloc(d, &scratch, n_scratch, NULL), HW_OK);
    for (int again = s->prompt; again < 2;
         again++) /* what a kernel leaves behind does not disturb the next */
        cr_assert_eq(d->k->attention(d, out, qkv, s->heads, &(hw_attn){.scale = 0.3f, .window = s->window},
                                     &rows, g.kv, scratch),
                     HW_OK);
    float *got = back(d, d->act, out, (size_t)n * row);
    compare(&g, chosen, n, got, d->act);
    d->k->free(d, scratch), d->k->free(d, qkv), free_rows(d, rows), strike(d, &g);
    free(chosen), free(mine), free(got);
}

Test(attention, of_every_type_agrees_with_a_plain_loop)
{
    for (int t = 0; t < N_TYPES; t++) {
        hw_device *d = open_device(types[t]);
        for (int i = 0; i < N_SCENES; i++) play(d, &scenes[i], types[t]);
        hw_device_destroy(d);
    }
}

/* What tensor cores do, done without them; and a cache that is not of the activations' type. */
Test(attention, without_tensor_cores_agrees_with_a_plain_loop)
{
    setenv("HW_CUDA_PLAIN", "1", 1);
    hw_device *d = open_device(HW_BF16);
    unsetenv("HW_CUDA_PLAIN");
    for (int i = 1; i < N_SCENES; i += 3) play(d, &scenes[i], HW_BF16), play(d, &scenes[i], HW_F32);
    hw_device_destroy(d);
}
