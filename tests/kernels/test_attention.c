#include "tests/kernels/support.h"

/* A few sequences on one rank: where they end, how the cache is cut, which heads. */
typedef struct scene {
    hw_heads heads;
    hw_dtype dtype;
    int block_tokens, half;
    int n_seqs, lengths[3]; /* tokens per sequence */
    int window;
} scene;

/* MHA, GQA, MQA; a rank that begins inside a group and spans three unevenly; odd head sizes; blocks that are smaller and larger than
 * HW_ATTN_BLOCK and do not divide it. Some are longer than 300 tokens, one is longer than a span of 32 blocks of 64. */
static const scene scenes[] = {
    {{4, 4, 0, 0, 1, 16}, HW_F32, 16, 8, 2, {5, 130}, 0},
    {{8, 2, 0, 0, 4, 32}, HW_BF16, 1, 16, 1, {321}, 0},
    {{7, 1, 0, 0, 7, 24}, HW_F16, 128, 6, 1, {310}, 0},
    {{5, 3, 3, 0, 4, 20},
     HW_F32,
     5,
     10,
     3,
     {1, 64, 65},
     0}, /* heads 3 .. 7 of groups of 4: 1 of group 0, 4 of group 1 */
    {{3, 2, 10, 2, 4, 33},
     HW_BF16,
     5,
     0,
     1,
     {70},
     0}, /* heads 10, 11 of group 2 and 12 of group 3; no rotation */
    {{2, 1, 4, 1, 4, 64}, HW_F16, 16, 32, 2, {300, 1}, 0},
    {{3, 1, 0, 0, 3, 100}, HW_BF16, 48, 50, 2, {90, 7}, 0}, /* a head longer than what is widened at once */
    {{100, 1, 0, 0, 100, 16}, HW_F32, 16, 8, 1, {67}, 0},   /* more heads than go over a block together */
    {{2, 1, 0, 0, 2, 16}, HW_F32, 16, 8, 1, {2200}, 0},
    {{4, 2, 0, 0, 2, 24}, HW_F32, 16, 12, 2, {330, 40}, 100}, /* windows: of more than a block, */
    {{5, 3, 3, 0, 4, 20}, HW_BF16, 5, 10, 2, {200, 64}, 64},  /* of one, */
    {{7, 1, 0, 0, 7, 16}, HW_F16, 16, 0, 2, {150, 7}, 5},     /* smaller ones, */
    {{2, 1, 0, 0, 2, 16}, HW_F32, 16, 8, 1, {2230}, 2100},    /* and one that outlasts a span */
    {{8, 1, 0, 0, 8, 128},
     HW_F32,
     16,
     64,
     1,
     {70},
     0}, /* more than a GPU's shared memory holds of one block of keys */
};
enum { N_SCENES = sizeof scenes / sizeof *scenes };

/* Memory of one run of a scene. The cache's blocks are dealt to the sequences in a scattered order. */
typedef struct stage {
    const scene *s;
    int n_tokens, max_blocks, n_blocks;
    size_t width; /* of a row of qkv */
    int32_t *positions, *seqs, *tables;
    float *qkv, *inv_freq;
    char *cache;
    size_t cache_bytes;
} stage;

static stage set_stage(const scene *s)
{
    stage g = {.s = s};
    int longest = 0;
    for (int i = 0; i < s->n_seqs; i++) {
        g.n_tokens += s->lengths[i];
        if (s->lengths[i] > longest) longest = s->lengths[i];
    }
    g.max_blocks = (longest + s->block_tokens - 1) / s->block_tokens + 1;
    g.n_blocks = g.max_blocks * s->n_seqs;
    g.width = (size_t)(s->heads.n_heads + 2 * s->heads.n_kv_heads) * (size_t)s->heads.head_dim;
    g.positions = malloc((size_t)g.n_tokens * 4), g.seqs = malloc((size_t)g.n_tokens * 4);
    g.tables = malloc((size_t)g.n_blocks * 4);
    for (int i = 0; i < g.n_blocks; i++)
        g.tables[i] = (i % s->n_seqs) * g.max_blocks + g.max_blocks - 1 - i / s->n_seqs;
    for (int q = 0, t = 0; q < s->n_seqs; q++)
        for (int p = 0; p < s->lengths[q]; p++, t++) g.positions[t] = p, g.seqs[t] = q;
    g.qkv = noise_array((size_t)g.n_tokens * g.width, 21);
    g.inv_freq = malloc((size_t)(s->half + 1) * sizeof(float));
    for (int j = 0; j < s->half; j++) g.inv_freq[j] = powf(10000.0f, -(float)j / (float)s->half);
    g.cache_bytes = (size_t)g.n_blocks * 2 * (size_t)s->heads.n_kv_heads * (size_t)s->block_tokens *
                    (size_t)s->heads.head_dim * hw_dtype_size(s->dtype);
    g.cache = malloc(g.cache_bytes);
    memset(g.cache, 0xff, g.cache_bytes); /* NaN wherever nothing was written */
    return g;
}

static void strike(stage *g)
{
    free(g->positions), free(g->seqs), free(g->tables), free(g->qkv), free(g->inv_freq), free(g->cache);
}

static hw_rows rows_of(const stage *g, int first, int n)
{
    hw_rows rows = {n, g->s->n_seqs, g->positions + first, g->seqs + first, g->tables, g->max_blocks, 0};
    for (int i = 0; i < n; i++)
        if (rows.positions[i] > rows.max_position) rows.max_position = rows.positions[i];
    return rows;
}

/* Tokens [first, first + n) of the stage into the cache; q, k and v are left rotated in qkv. */
static void append(hw_device *d, stage *g, int first, int n)
{
    const scene *s = g->s;
    const hw_rows rows = rows_of(g, first, n);
    float *angles = malloc((size_t)n * 2 * (size_t)s->half * sizeof(float) + 1);
    d->k->rope_angles(d, angles, rows.positions, n, g->inv_freq, s->half, 1.25f);
    d->k->rope_append(d, g->qkv + (size_t)first * g->width, s->half ? angles : NULL, s->half, s->heads, &rows,
                      (hw_kv_layer){g->cache, s->dtype, s->block_tokens});
    free(angles);
}

/* The same, and their attention: out [n, n_heads * head_dim]. */
static void play(hw_device *d, stage *g, int first, int n, float *out)
{
    const scene *s = g->s;
    const hw_rows rows = rows_of(g, first, n);
    void *scratch;
    append(d, g, first, n);
    cr_assert_eq(
        d->k->alloc(d, &scratch, d->k->attention_scratch(d, s->heads, n, rows.max_position + 1), NULL),
        HW_OK);
    d->k->attention(d, out, g->qkv + (size_t)first * g->width, s->heads,
                    &(hw_attn){.scale = 0.3f, .window = s->window}, &rows,
                    (hw_kv_layer){g->cache, s->dtype, s->block_tokens}, scratch);
    d->k->free(d, scratch);
}

/* The first row whose attention is computed. Of a long scene it is one of the last: all rows would take plain loops and
 * the SIMT layer minutes. */
static int first_compared(const stage *g) { return g->n_tokens > 1000 ? g->n_tokens - 70 : 0; }

static size_t out_floats(const stage *g)
{
    return (size_t)(g->n_tokens - first_compared(g)) * (size_t)(g->s->heads.n_heads * g->s->heads.head_dim);
}

/* The rows that are compared: out [n_tokens - first_compared, n_heads * head_dim]. */
static void play_compared(hw_device *d, stage *g, float *out)
{
    const int first = first_compared(g);
    if (first) append(d, g, 0, first);
    play(d, g, first, g->n_tokens - first, out);
}

/* Weighted means of values below 3.8 in size. Scores reach about 100, so that their rounding (and that of q and k) moves a weight by up to
 * 1e-5 of itself; a 16-bit cache can round an element of k the other way where cos and sin differ in the last bit, and that
 * changes one value by a half-ulp: 2^-9 of it in bfloat16, 2^-12 in float16. */
Test(attention, agrees_with_the_reference)
{
    hw_device *reference = open_reference(), *d = open_device();
    for (int i = 0; i < N_SCENES; i++) {
        stage a = set_stage(&scenes[i]), b = set_stage(&scenes[i]);
        float *want = malloc(out_floats(&a) * 4), *got = malloc(out_floats(&a) * 4);
        play_compared(reference, &a, want);
        play_compared(d, &b, got);
        assert_close(b.qkv, a.qkv, (size_t)a.n_tokens * a.width, 2e-6f, "rotated");
        float tolerance = scenes[i].dtype == HW_BF16 ? 2e-2f : scenes[i].dtype == HW_F16 ? 2e-3f : 5e-5f;
        assert_close(got, want, out_floats(&a), tolerance, "attention");
        free(want), free(got), strike(&a), strike(&b);
    }
    hw_device_destroy(d);
    hw_device_destroy(reference);
}

Test(attention, has_the_same_bits_on_every_instruction_set_and_number_of_threads)
{
    devices all = open_devices();
    for (int i = 0; i < N_SCENES; i++) {
        stage a = set_stage(&scenes[i]);
        float *want = malloc(out_floats(&a) * 4), *got = malloc(out_floats(&a) * 4);
        play_compared(all.at[0], &a, want);
        for (int k = 1; k < all.n; k++) {
            stage b = set_stage(&scenes[i]);
            play_compared(all.at[k], &b, got);
            assert_same_bits(b.qkv, a.qkv, (size_t)a.n_tokens * a.width * 4, "rotated");
            assert_same_bits(b.cache, a.cache, a.cache_bytes, "cache");
            assert_same_bits(got, want, out_floats(&a) * 4, hw_device_description(all.at[k]));
            strike(&b);
        }
        free(want), free(got), strike(&a);
    }
    close_devices(&all);
}

/* One row at a time is decode: with several threads its keys are split between them, in spans when there are many. */
Test(attention, of_a_row_alone_has_the_bits_of_the_row_in_a_batch)
{
    devices all = open_devices();
    for (int i = 0; i < N_SCENES; i++) {
        const scene *s = &scenes[i];
        stage whole = set_stage(s);
        size_t row = (size_t)(s->heads.n_heads * s->heads.head_dim);
        float *want = malloc(out_floats(&whole) * 4), *got = malloc(row * 4);
        const int first = first_compared(&whole);
        play_compared(all.at[all.n - 1], &whole, want);
        for (int k = 0; k < all.n; k++) {
            stage alone = set_stage(s);
            memcpy(alone.cache, whole.cache, whole.cache_bytes);
            for (int t = first; t < alone.n_tokens; t += 1 + (alone.n_tokens - first) / 7) {
                play(all.at[k], &alone, t, 1, got);
                assert_same_bits(got, want + (size_t)(t - first) * row, row * 4,
                                 hw_device_description(all.at[k]));
            }
            play(all.at[k], &alone, alone.n_tokens - 1, 1, got);
            strike(&alone);
        }
        free(want), free(got), strike(&whole);
    }
    close_devices(&all);
}

/* The size of the cache's blocks is where keys lie, not how they are added. */
Test(attention, does_not_depend_on_the_block_size)
{
    static const int sizes[] = {1, 5, 16, 128};
    hw_device *d = open_device();
    float *want = NULL;
    for (int i = 0; i < 4; i++) {
        scene s = {{4, 2, 0, 0, 2, 24}, HW_BF16, sizes[i], 12, 2, {305, 40}, 0};
        stage g = set_stage(&s);
        float *got = malloc(out_floats(&g) * 4);
        play(d, &g, 0, g.n_tokens, got);
        if (want) assert_same_bits(got, want, out_floats(&g) * 4, "block size");
        free(want);
        want = got;
        strike(&g);
    }
    free(want);
    hw_device_destroy(d);
}

/* By hand: two keys with scores 0 and ln 3 weigh 1/4 and 3/4. */
Test(attention, weighs_by_softmax)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        const float ln3 = 1.0986123f;
        float qkv[2][6] = {{5, 5, 0, 0, 8, -4}, {1, 0, ln3, 7, 4, 4}}, out[2][2], cache[2 * 4 * 2],
              scratch[64];
        const int32_t positions[2] = {0, 1}, seqs[2] = {0, 0}, table[1] = {0};
        hw_heads heads = {1, 1, 0, 0, 1, 2};
        hw_rows rows = {2, 1, positions, seqs, table, 1, 1};
        hw_kv_layer kv = {cache, HW_F32, 4};
        cr_assert_leq(d->k->attention_scratch(d, heads, 2, 2), sizeof scratch);
        d->k->rope_append(d, qkv, NULL, 0, heads, &rows, kv);
        d->k->attention(d, out, qkv, heads, &(hw_attn){.scale = 1.0f}, &rows, kv, scratch);
        const float want[4] = {8, -4, 5, 2};
        assert_close(out[0], want, 4, 2e-6f, hw_device_description(d));
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand: a row that sees nothing but itself has its own value, and one that sees two of three keys with scores 0, 0
 * and ln 3 weighs the last two by 1/4 and 3/4. */
Test(attention, of_a_window_leaves_out_what_lies_before_it)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        const float ln3 = 1.0986123f;
        float qkv[3][6] = {{1, 1, 0, 0, 9, 9}, {1, 1, 0, 0, 8, -4}, {1, 0, ln3, 7, 4, 4}}, out[3][2],
              cache[2 * 4 * 2], scratch[64];
        const int32_t positions[3] = {0, 1, 2}, seqs[3] = {0, 0, 0}, table[1] = {0};
        hw_heads heads = {1, 1, 0, 0, 1, 2};
        hw_rows rows = {3, 1, positions, seqs, table, 1, 2};
        hw_kv_layer kv = {cache, HW_F32, 4};
        cr_assert_leq(d->k->attention_scratch(d, heads, 3, 3), sizeof scratch);
        d->k->rope_append(d, qkv, NULL, 0, heads, &rows, kv);
        d->k->attention(d, out, qkv, heads, &(hw_attn){.scale = 1, .window = 1}, &rows, kv, scratch);
        assert_close(out[0], (const float[]){9, 9, 8, -4, 4, 4}, 6, 2e-6f, hw_device_description(d));
        d->k->attention(d, out, qkv, heads, &(hw_attn){.scale = 1, .window = 2}, &rows, kv, scratch);
        assert_close(out[2], (const float[]){5, 2}, 2, 2e-6f, hw_device_description(d));
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand: the mean squares of (3, 4), (1, 7) and (6, 8) are 12.5, 25 and 50; values stay. */
Test(qk_norm, scales_each_head_of_q_and_k_by_its_own)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    const hw_heads heads = {2, 1, 0, 0, 2, 2};
    const float q_w[2] = {1, 2}, k_w[2] = {3, 1};
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float qkv[2][8] = {{3, 4, 1, 7, 6, 8, 5, 9}, {4, 3, 7, 1, 8, 6, 9, 5}};
        cr_assert_eq(d->k->qk_norm(d, qkv, heads, q_w, k_w, 2, 0), HW_OK);
        const float want[2][8] = {{0.848528f, 2.262742f, 0.2f, 2.8f, 2.545584f, 1.131371f, 5, 9},
                                  {1.131371f, 1.697056f, 1.4f, 0.4f, 3.394113f, 0.848528f, 9, 5}};
        assert_close(qkv[0], want[0], 16, 1e-6f, hw_device_description(d)); /* `want` has six decimals */
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand: position 1 and frequency pi / 2 turn (x, y) into (-y, x). */
Test(rope, turns_pairs)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        const float inv_freq[1] = {1.57079633f};
        const int32_t positions[1] = {1}, seqs[1] = {0}, table[2] = {0, 0};
        float angles[2], qkv[9] = {3, 4, 9, 5, 6, 9, 7, 8, 9}, cache[2 * 4 * 3] = {0};
        hw_heads heads = {1, 1, 0, 0, 1, 3}; /* the third element of a head does not turn */
        hw_rows rows = {1, 1, positions, seqs, table, 2, 1};
        d->k->rope_angles(d, angles, positions, 1, inv_freq, 1, 2.0f);
        assert_close(angles, (const float[]){0, 2}, 2, 2e-7f, "angles");
        d->k->rope_angles(d, angles, positions, 1, inv_freq, 1, 1.0f);
        d->k->rope_append(d, qkv, angles, 1, heads, &rows, (hw_kv_layer){cache, HW_F32, 4});
        assert_close(qkv, (const float[]){-4, 3, 9, -6, 5, 9, 7, 8, 9}, 9, 1e-6f, "turned");
        assert_same_bits(cache + 3, qkv + 3, 12, "key in slot 1");
        assert_same_bits(cache + 12 + 3, qkv + 6, 12, "value in slot 1");
    }
    close_devices(&all);
    hw_device_destroy(reference);
}
