/* Rotation, the cache, and attention over it. */
#include <math.h>
#include <stdio.h>

#include "kernels/selftest/subject.h"

/* Numbers of a row that is attended with: as many heads as fit, in whole groups. */
enum { ROWS = HW_SUBJECT_ROWS, MOST_WIDTH = 1024, BLOCK_TOKENS = 16, MOST_POSITIONS = 4096 };

/* The rows: one that decodes after a long sequence, one that is the first of a block of keys, and a chunk of a prompt
 * that reaches over one. */
enum {
    LONG = 700,
    N_SEQS = 3,
    WINDOW = 75,
    MAX_BLOCKS = LONG / BLOCK_TOKENS + 1,
    N_BLOCKS = N_SEQS * MAX_BLOCKS
};

typedef struct scene {
    hw_heads heads;
    int half;
    float angle_scale;
    hw_attn attn;
    hw_dtype type;                      /* of the cache */
    int32_t *positions, *seqs, *tables; /* [ROWS] [ROWS] [N_SEQS, MAX_BLOCKS] */
    size_t width, n_cache;              /* numbers of a row of qkv, of the cache */
} scene;

static const scene *scene_of(const hw_bound *b) { return b->s->own; }

static hw_heads choose_heads(const hw_selftest_shapes *s)
{
    const int n_rep = s->n_heads / s->n_kv_heads;
    int n_kv = MOST_WIDTH / (n_rep * s->head_dim);
    if (n_kv > s->n_kv_heads) n_kv = s->n_kv_heads;
    if (n_kv < 1) n_kv = 1;
    return (hw_heads){.n_heads = n_kv * n_rep, .n_kv_heads = n_kv, .n_rep = n_rep, .head_dim = s->head_dim};
}

static scene make_scene(hw_selftest *t, hw_dtype type)
{
    scene s = {.heads = choose_heads(&t->shapes), .half = t->shapes.rotary_half, .type = type};
    const size_t dim = (size_t)s.heads.head_dim;
    s.attn.scale = t->shapes.attn_scale;
    s.width = (size_t)(s.heads.n_heads + 2 * s.heads.n_kv_heads) * dim;
    s.n_cache = (size_t)N_BLOCKS * 2 * (size_t)s.heads.n_kv_heads * BLOCK_TOKENS * dim;
    s.positions = hw_selftest_take(t, ROWS * sizeof *s.positions);
    s.seqs = hw_selftest_take(t, ROWS * sizeof *s.seqs);
    s.tables = hw_selftest_take(t, N_BLOCKS * sizeof *s.tables);
    if (t->st) return s;
    for (int r = 0; r < ROWS; r++) {
        s.seqs[r] = r < 2 ? r : 2;
        s.positions[r] = r == 0 ? LONG : r == 1 ? HW_ATTN_BLOCK : HW_ATTN_BLOCK - 3 + r;
    }
    for (int i = 0; i < N_BLOCKS; i++) /* scattered */
        s.tables[i] = i % N_SEQS * MAX_BLOCKS + MAX_BLOCKS - 1 - i / N_SEQS;
    return s;
}

static hw_rows rows_of(const hw_bound *b, int first_array, int n)
{
    const scene *s = scene_of(b);
    hw_rows rows = {.n_rows = n,
                    .n_seqs = N_SEQS,
                    .positions = b->at[first_array],
                    .seqs = b->at[first_array + 1],
                    .block_tables = b->at[first_array + 2],
                    .max_blocks = MAX_BLOCKS};
    for (int r = 0; r < n; r++)
        if (s->positions[r] > rows.max_position) rows.max_position = s->positions[r];
    return rows;
}

/* ---- rope_angles: out, positions, inv_freq */

static hw_status rope_angles(const hw_bound *b, int n)
{
    const scene *s = scene_of(b);
    return b->d->k->rope_angles(b->d, b->at[0], b->at[1], n, b->at[2], s->half, s->angle_scale);
}

static float *inverse_frequencies(hw_selftest *t, int half)
{
    float *x = hw_selftest_take(t, (size_t)half * sizeof *x);
    for (int j = 0; j < half && x; j++) x[j] = powf(10000.0f, -(float)j / (float)half);
    return x;
}

/* The angle is the same float32 product everywhere; cosine and sine are below 1.25 in size and rounded twice. */
static void check_angles(hw_selftest *t)
{
    scene own = {.half = t->shapes.rotary_half ? t->shapes.rotary_half : t->shapes.head_dim / 2,
                 .angle_scale = 1.25f};
    const size_t row = 2 * (size_t)own.half;
    int32_t *positions = hw_selftest_take(t, ROWS * sizeof *positions);
    const float *inv_freq = inverse_frequencies(t, own.half);
    char shape[32];
    snprintf(shape, sizeof shape, "[%d, %zu]", ROWS, row);
    for (int r = 0; r < ROWS && positions; r++) positions[r] = (int32_t)hw_selftest_below(t, MOST_POSITIONS);
    const hw_subject s = {
        .run = rope_angles,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_FLOATS, .n = ROWS * row, .out = true, .row = row, .slack = 2e-7},
                   {.kind = HW_ARRAY_IDS, .start = positions, .n = ROWS},
                   {.kind = HW_ARRAY_FLOATS, .start = inv_freq, .n = (size_t)own.half}},
        .n_arrays = 3,
        .own = &own,
        .timed = true};
    if (row) hw_selftest_check(t, &s);
}

/* ---- qk_norm: qkv, q_w, k_w */

static hw_status qk_norm(const hw_bound *b, int n)
{
    const scene *s = scene_of(b);
    return b->d->k->qk_norm(b->d, b->at[0], s->heads, b->at[1], b->at[2], n, 1e-6f);
}

/* As of rmsnorm (rows.c): results are below 12 in size. */
static void check_qk_norm(hw_selftest *t)
{
    const scene own = {.heads = choose_heads(&t->shapes)};
    const size_t dim = (size_t)own.heads.head_dim,
                 width = (size_t)(own.heads.n_heads + 2 * own.heads.n_kv_heads) * dim;
    const float *qkv = hw_selftest_numbers(t, t->act, ROWS * width, 3),
                *q_w = hw_selftest_numbers(t, HW_F32, dim, 1), *k_w = hw_selftest_numbers(t, HW_F32, dim, 1);
    char shape[32];
    snprintf(shape, sizeof shape, "%d/%d heads of %d", own.heads.n_heads, own.heads.n_kv_heads,
             own.heads.head_dim);
    const hw_subject s = {.run = qk_norm,
                          .shape = shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_ACTIVE,
                                      .start = qkv,
                                      .n = ROWS * width,
                                      .out = true,
                                      .row = width,
                                      .slack = t->act != HW_F32 ? 2e-5 : 5e-6},
                                     {.kind = HW_ARRAY_FLOATS, .start = q_w, .n = dim},
                                     {.kind = HW_ARRAY_FLOATS, .start = k_w, .n = dim}},
                          .n_arrays = 3,
                          .own = &own,
                          .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- rope_append: qkv, angles, positions, seqs, tables, cache */

static hw_status rope_append(const hw_bound *b, int n)
{
    const scene *s = scene_of(b);
    const hw_rows rows = rows_of(b, 2, n);
    const hw_kv_layer kv = {.data = b->at[5], .dtype = s->type, .block_tokens = BLOCK_TOKENS};
    return b->d->k->rope_append(b->d, b->at[0], s->half ? b->at[1] : NULL, s->half, s->heads, &rows, kv);
}

static float *angles_of(hw_selftest *t, const scene *s)
{
    const size_t half = (size_t)s->half;
    float *angles = hw_selftest_take(t, ROWS * 2 * half * sizeof *angles);
    const float *inv_freq = inverse_frequencies(t, s->half);
    if (angles && inv_freq)
        t->st = t->reference->k->rope_angles(t->reference, angles, s->positions, ROWS, inv_freq, s->half, 1);
    return angles;
}

/* Numbers below 2 become rotated ones below 2.9: two products and their sum, 2e-6 with room to spare. What goes to the
 * cache has been rounded to the activation's type before. */
static void check_append(hw_selftest *t, hw_dtype type, bool rotated)
{
    scene own = make_scene(t, type);
    if (!rotated) own.half = 0;
    const float *qkv = hw_selftest_numbers(t, t->act, ROWS * own.width, 2), *angles = angles_of(t, &own);
    char shape[32];
    snprintf(shape, sizeof shape, "%d/%d heads of %d", own.heads.n_heads, own.heads.n_kv_heads,
             own.heads.head_dim);
    const hw_subject s = {
        .run = rope_append,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_ACTIVE,
                    .start = qkv,
                    .n = ROWS * own.width,
                    .out = true,
                    .row = own.width,
                    .slack = 2e-6},
                   {.kind = HW_ARRAY_FLOATS, .start = angles, .n = ROWS * 2 * (size_t)own.half},
                   {.kind = HW_ARRAY_IDS, .start = own.positions, .n = ROWS},
                   {.kind = HW_ARRAY_IDS, .start = own.seqs, .n = ROWS},
                   {.kind = HW_ARRAY_IDS, .start = own.tables, .n = N_BLOCKS},
                   {.kind = HW_ARRAY_CACHE,
                    .type = type,
                    .n = own.n_cache,
                    .out = true,
                    .slack = 2e-6 + (t->act == HW_F32 ? 0 : 2.9 * hw_half_ulp(t->act))}},
        .n_arrays = 6,
        .own = &own,
        .timed = rotated};
    hw_selftest_check(t, &s);
}

/* ---- attention: out, qkv, positions, seqs, tables, cache */

static hw_status attention(const hw_bound *b, int n)
{
    const scene *s = scene_of(b);
    const hw_rows rows = rows_of(b, 2, n);
    const hw_kv_layer kv = {.data = b->at[5], .dtype = s->type, .block_tokens = BLOCK_TOKENS};
    return b->d->k->attention(b->d, b->at[0], b->at[1], s->heads, &s->attn, &rows, kv, b->scratch);
}

static size_t attention_scratch(const hw_device *d, const hw_subject *s)
{
    const scene *own = s->own;
    return d->k->attention_scratch(d, own->heads, ROWS, LONG + 1);
}

/* Keys that all rows see together. */
static double n_pairs(const scene *s)
{
    double n = 0;
    for (int r = 0; r < ROWS; r++) n += s->positions[r] + 1 - hw_attn_first(s->attn.window, s->positions[r]);
    return n;
}

/* Scores are sums of head_dim products, each below 4 in size before the scale makes a third or less of them: off by
 * less than 1e-4, and so is a weight, relative to itself, and with it a mean of values below 2. In 16 bits weights are
 * rounded, too. The cache holds the same numbers on all devices. */
static void check_attention(hw_selftest *t, hw_dtype type, int window)
{
    scene own = make_scene(t, type);
    own.attn.window = window;
    const size_t row = (size_t)own.heads.n_heads * (size_t)own.heads.head_dim;
    const float *qkv = hw_selftest_numbers(t, t->act, ROWS * own.width, 2);
    float *cache = hw_selftest_numbers(t, type, own.n_cache, 2);
    char shape[32];
    snprintf(shape, sizeof shape, "%d/%d heads of %d", own.heads.n_heads, own.heads.n_kv_heads,
             own.heads.head_dim);
    if (t->st) return;
    hw_noise_round(cache, own.n_cache, t->act); /* devices take a key in the activation's type */
    hw_noise_round(cache, own.n_cache, type);
    const double pairs = n_pairs(&own);
    const hw_subject s = {
        .run = attention,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_ACTIVE,
                    .n = ROWS * row,
                    .out = true,
                    .row = row,
                    .slack = 2 * (1e-4 + (t->act == HW_F32 ? 0 : hw_half_ulp(t->act)))},
                   {.kind = HW_ARRAY_ACTIVE, .start = qkv, .n = ROWS * own.width},
                   {.kind = HW_ARRAY_IDS, .start = own.positions, .n = ROWS},
                   {.kind = HW_ARRAY_IDS, .start = own.seqs, .n = ROWS},
                   {.kind = HW_ARRAY_IDS, .start = own.tables, .n = N_BLOCKS},
                   {.kind = HW_ARRAY_CACHE, .type = type, .start = cache, .n = own.n_cache}},
        .n_arrays = 6,
        .scratch = attention_scratch,
        .own = &own,
        .timed = !window,
        .flop_row = 4 * (double)row * pairs / ROWS};
    hw_selftest_check(t, &s);
}

void hw_selftest_attention(hw_selftest *t)
{
    static const hw_dtype types[] = {HW_F32, HW_F16, HW_BF16};
    hw_selftest_begin(t, "rope_angles", "");
    check_angles(t);
    hw_selftest_end(t);
    hw_selftest_begin(t, "qk_norm", "");
    check_qk_norm(t);
    hw_selftest_end(t);
    for (int i = 0; i < 3; i++) {
        char variant[48];
        snprintf(variant, sizeof variant, "%s cache", hw_dtype_name(types[i]));
        hw_selftest_begin(t, "rope_append", variant);
        if (t->shapes.rotary_half) check_append(t, types[i], true);
        check_append(t, types[i], false);
        hw_selftest_end(t);
    }
    for (int i = 0; i < 3; i++) {
        char variant[48];
        snprintf(variant, sizeof variant, "%s cache", hw_dtype_name(types[i]));
        hw_selftest_begin(t, "attention", variant);
        check_attention(t, types[i], 0);
        if (t->paths[0].device->k->attends.window) check_attention(t, types[i], WINDOW);
        hw_selftest_end(t);
    }
}
