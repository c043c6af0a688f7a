/* What each rank loads of a checkpoint, put together again, is the checkpoint: for transposed and fused
 * tensors, uneven splits, and every number of ranks. The elements are read back through `matmul` of the
 * reference device with unit vectors, so nothing here knows a device's layout. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/weights/weights.h"

typedef struct loaded {
    hw_model model;
    hw_device *device;
    hw_checkpoint *checkpoint;
    int n_ranks;
    hw_shard shards[16];
    hw_weights *weights[16];
} loaded;

/* Layers from first_layer on. */
static loaded load_from(const char *name, int n_ranks, int first_layer)
{
    loaded l = {.n_ranks = n_ranks};
    hw_error err;
    char folder[512];
    const hw_load_options options = {.format = hw_format_plain(HW_F32)};
    snprintf(folder, sizeof folder, "%s/tests/vectors/%s", HW_SOURCE_DIR, name);
    cr_assert_eq(hw_model_open(&l.model, folder, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_reference_device_create(&l.device, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_checkpoint_open(&l.checkpoint, folder, &err), HW_OK, "%s", err.message);
    for (int r = 0; r < n_ranks; r++) {
        cr_assert_eq(hw_shard_create(&l.shards[r], &l.model, r, n_ranks, &err), HW_OK, "%s", err.message);
        l.shards[r].first_layer = first_layer;
        cr_assert_eq(
            hw_weights_load(&l.weights[r], l.device, &l.model, &l.shards[r], l.checkpoint, &options, &err),
            HW_OK, "%s", err.message);
    }
    return l;
}

static loaded load(const char *name, int n_ranks) { return load_from(name, n_ranks, 0); }

static void unload(loaded *l)
{
    for (int r = 0; r < l->n_ranks; r++) hw_weights_destroy(l->weights[r]);
    hw_checkpoint_close(l->checkpoint);
    hw_device_destroy(l->device);
}

/* All elements of a weight: [n_in, n_out], row i being W applied to the unit vector i. The caller frees
 * it. */
static float *columns_of(hw_device *d, const hw_weight *w, size_t n_out, size_t n_in)
{
    float *x = calloc(n_in * n_in + 1, sizeof *x), *y = calloc(n_in * n_out + 1, sizeof *y);
    for (size_t i = 0; i < n_in; i++) x[i * n_in + i] = 1;
    if (n_in && n_out) cr_assert_eq(d->k->matmul(d, y, x, w, NULL, (int)n_in), HW_OK);
    free(x);
    return y;
}

/* Compares outputs [out0, out0 + n_out) x inputs [in0, in0 + n_in) of two weights given as columns. */
static void expect_part(const float *part, size_t part_out, size_t part_first, const float *whole,
                        size_t whole_out, size_t out0, size_t in0, size_t n_out, size_t n_in,
                        const char *what, int rank)
{
    for (size_t i = 0; i < n_in; i++)
        for (size_t o = 0; o < n_out; o++)
            if (part[i * part_out + part_first + o] != whole[(in0 + i) * whole_out + out0 + o]) {
                cr_expect_fail("%s of rank %d differs at output %zu, input %zu", what, rank, o, i);
                return;
            }
}

static void compare_layer(const loaded *one, const loaded *many, int layer, int r)
{
    const hw_model *m = &one->model;
    const hw_shard *shard = &many->shards[r];
    const hw_layer *a = hw_weights_layer(one->weights[0], layer),
                   *b = hw_weights_layer(many->weights[r], layer);
    size_t d = (size_t)m->head_dim, dim = (size_t)m->dim, q = (size_t)m->n_heads * d,
           kv = (size_t)m->n_kv_heads * d;
    size_t my_q = (size_t)shard->heads.n_heads * d, my_kv = (size_t)shard->heads.n_kv_heads * d,
           q0 = (size_t)shard->heads.first_head * d;
    size_t kv0 = (size_t)shard->heads.first_kv_head * d, ffn = (size_t)m->ffn_dim,
           my_ffn = hw_range_size(shard->ffn), up = m->gated_mlp ? 2 : 1;
    float *whole = columns_of(one->device, a->wqkv, q + 2 * kv, dim),
          *part = columns_of(many->device, b->wqkv, my_q + 2 * my_kv, dim);
    expect_part(part, my_q + 2 * my_kv, 0, whole, q + 2 * kv, q0, 0, my_q, dim, "wq", r);
    expect_part(part, my_q + 2 * my_kv, my_q, whole, q + 2 * kv, q + kv0, 0, my_kv, dim, "wk", r);
    expect_part(part, my_q + 2 * my_kv, my_q + my_kv, whole, q + 2 * kv, q + kv + kv0, 0, my_kv, dim, "wv",
                r);
    free(whole), free(part);
    whole = columns_of(one->device, a->wo, dim, q), part = columns_of(many->device, b->wo, dim, my_q);
    expect_part(part, dim, 0, whole, dim, 0, q0, dim, my_q, "wo", r);
    free(whole), free(part);
    whole = columns_of(one->device, a->w_up, up * ffn, dim),
    part = columns_of(many->device, b->w_up, up * my_ffn, dim);
    for (size_t half = 0; half < up; half++)
        expect_part(part, up * my_ffn, half * my_ffn, whole, up * ffn, half * ffn + shard->ffn.begin, 0,
                    my_ffn, dim, "w_up", r);
    free(whole), free(part);
    whole = columns_of(one->device, a->w_down, dim, ffn),
    part = columns_of(many->device, b->w_down, dim, my_ffn);
    expect_part(part, dim, 0, whole, dim, 0, shard->ffn.begin, dim, my_ffn, "w_down", r);
    free(whole), free(part);
    /* Vectors of the reference device are host memory. */
    if (a->bqkv) {
        cr_expect_eq(memcmp(b->bqkv, a->bqkv + q0, my_q * sizeof(float)), 0);
        cr_expect_eq(memcmp(b->bqkv + my_q, a->bqkv + q + kv0, my_kv * sizeof(float)), 0);
        cr_expect_eq(memcmp(b->bqkv + my_q + my_kv, a->bqkv + q + kv + kv0, my_kv * sizeof(float)), 0);
    }
    if (a->bo) cr_expect_eq(memcmp(b->bo, a->bo, dim * sizeof(float)), 0);
    if (a->b_down) cr_expect_eq(memcmp(b->b_down, a->b_down, dim * sizeof(float)), 0);
}

static void compare(const char *name, int n_ranks)
{
    loaded one = load(name, 1), many = load(name, n_ranks);
    size_t dim = (size_t)one.model.dim, vocab = (size_t)one.model.vocab_size;
    float *whole = columns_of(one.device, one.weights[0]->head, vocab, dim);
    uint64_t read = 0;
    for (int r = 0; r < n_ranks; r++) {
        size_t n = hw_range_size(many.shards[r].vocab);
        float *part = columns_of(many.device, many.weights[r]->head, n, dim);
        expect_part(part, n, 0, whole, vocab, many.shards[r].vocab.begin, 0, n, dim, "head", r);
        free(part);
        for (int layer = 0; layer < one.model.n_layers; layer++) compare_layer(&one, &many, layer, r);
        read += many.weights[r]->n_bytes_read;
        /* What is foreseen is what is taken, but for the device's padding: 16 outputs, 32 inputs of each of 8
         * cuts. */
        cr_expect_leq(hw_weights_estimate(&many.model, &many.shards[r], hw_format_plain(HW_F32)),
                      many.weights[r]->n_bytes);
    }
    cr_expect_geq(read, one.weights[0]->n_bytes_read, "%s: %d ranks read less than one", name, n_ranks);
    free(whole);
    unload(&one);
    unload(&many);
}

Test(weights, parts_of_a_fused_transposed_checkpoint_make_the_whole)
{
    static const int n_ranks[] = {2, 5, 8, 12};
    for (size_t i = 0; i < sizeof n_ranks / sizeof *n_ranks; i++) compare("gpt2-odd", n_ranks[i]);
}

Test(weights, parts_of_an_uneven_grouped_query_checkpoint_make_the_whole)
{
    static const int n_ranks[] = {3, 4, 7, 8};
    for (size_t i = 0; i < sizeof n_ranks / sizeof *n_ranks; i++) compare("llama-gqa-uneven", n_ranks[i]);
}

Test(weights, parts_of_a_checkpoint_with_biases_and_several_files_make_the_whole)
{
    compare("llama-bias", 3);
    compare("llama-sharded", 5);
    compare("gpt2-untied", 7);
}

Test(weights, a_range_of_layers_is_loaded_and_no_more)
{
    loaded one = load("llama-gqa-uneven", 1), many = load_from("llama-gqa-uneven", 3, 1);
    const int n_layers = one.model.n_layers;
    for (int r = 0; r < many.n_ranks; r++) {
        const hw_shard *shard = &many.shards[r];
        hw_shard all = *shard, first = *shard;
        all.first_layer = first.first_layer = 0;
        first.end_layer = 1;
        for (int layer = 1; layer < n_layers; layer++) compare_layer(&one, &many, layer, r);
        /* What belongs to no layer is in both ranges. */
        const hw_format f = hw_format_plain(HW_F32);
        hw_shard none = *shard;
        none.first_layer = none.end_layer = 0;
        cr_expect_eq(hw_weights_estimate(&one.model, &first, f) + hw_weights_estimate(&one.model, shard, f),
                     hw_weights_estimate(&one.model, &all, f) + hw_weights_estimate(&one.model, &none, f));
    }
    unload(&one);
    unload(&many);
}

/* The value of gpt2's fused tensor at one place, by hand from the file: c_attn.weight is [dim, 3 dim] as
 * stored, so the weight of output o of the keys and input i is element i * 3 dim + dim + o. */
Test(weights, keys_come_from_the_middle_third_of_c_attn)
{
    loaded l = load("gpt2-odd", 1);
    size_t dim = (size_t)l.model.dim, i = 3, o = 11;
    hw_tensor t = hw_checkpoint_find(l.checkpoint, "h.1.attn.c_attn.weight");
    hw_error err;
    if (!t.info) t = hw_checkpoint_find(l.checkpoint, "transformer.h.1.attn.c_attn.weight");
    cr_assert_not_null(t.info);
    char stored[4];
    float wanted;
    size_t size = hw_dtype_size(t.info->dtype);
    cr_assert_eq(hw_checkpoint_read(l.checkpoint, t, (i * 3 * dim + dim + o) * size, size, stored, &err),
                 HW_OK, "%s", err.message);
    hw_convert(&wanted, HW_F32, stored, t.info->dtype, 1);
    float *columns = columns_of(l.device, l.weights[0]->layers[1].wqkv, 3 * dim, dim);
    cr_expect_eq(columns[i * 3 * dim + dim + o], wanted);
    free(columns);
    unload(&l);
}

/* q, k, v and wo take 2^63 bytes each. */
Test(weights, more_bytes_than_64_bits_count_are_not_foreseen_as_few)
{
    const hw_model m = {.n_layers = 4096,
                        .dim = 1 << 20,
                        .ffn_dim = 1,
                        .n_heads = 1 << 20,
                        .n_kv_heads = 1 << 20,
                        .head_dim = 1024,
                        .vocab_size = 1,
                        .max_seq_len = 1,
                        .tied_embeddings = true};
    hw_shard shard;
    cr_assert_eq(hw_shard_create(&shard, &m, 0, 1, NULL), HW_OK);
    cr_expect_eq(hw_weights_estimate(&m, &shard, hw_format_plain(HW_BF16)), UINT64_MAX);
}
