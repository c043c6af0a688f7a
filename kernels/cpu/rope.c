#include "kernels/cpu/ops.h"

typedef struct rope_job {
    float *qkv;
    const float *angles; /* NULL: no rotation */
    int half;
    hw_heads heads;
    const hw_rows *rows;
    hw_kv_layer kv;
} rope_job;

/* (a, b) -> (a cos - b sin, b cos + a sin), j with j + half. */
static void rotate(float *head, const float *angles, int half)
{
    for (int j = 0; j < half; j += HW_LANES) {
        int n = half - j < HW_LANES ? half - j : HW_LANES;
        v16 a = v16_load_n(head + j, n), b = v16_load_n(head + half + j, n);
        v16 c = v16_load_n(angles + j, n), s = v16_load_n(angles + half + j, n);
        v16_store_n(head + j, v16_fma(v16_sub(v16_zero(), b), s, v16_mul(a, c)), n);
        v16_store_n(head + half + j, v16_fma(a, s, v16_mul(b, c)), n);
    }
}

/* One row's key (or value) of every KV head into the cache. */
static void append(const rope_job *job, const float *from, const int32_t *table, int pos, int is_value)
{
    int dim = job->heads.head_dim;
    size_t size = hw_dtype_size(job->kv.dtype);
    for (int g = 0; g < job->heads.n_kv_heads; g++, from += dim) {
        char *to = (char *)job->kv.data +
                   size * hw_kv_index(job->heads, job->kv.block_tokens, table, pos, is_value, g);
        for (int i = 0; i < dim; i += HW_LANES) {
            int n = dim - i < HW_LANES ? dim - i : HW_LANES;
            v16_store_as(job->kv.dtype, to + (size_t)i * size, v16_load_n(from + i, n), n);
        }
    }
}

static void rope_rows(void *arg, size_t begin, size_t end)
{
    const rope_job *job = arg;
    size_t dim = (size_t)job->heads.head_dim;
    size_t n_q = (size_t)job->heads.n_heads, n_kv = (size_t)job->heads.n_kv_heads;
    for (size_t r = begin; r < end; r++) {
        float *row = job->qkv + r * (n_q + 2 * n_kv) * dim;
        const int32_t *table =
            job->rows->block_tables + (size_t)job->rows->seqs[r] * (size_t)job->rows->max_blocks;
        if (job->angles)
            for (size_t h = 0; h < n_q + n_kv; h++)
                rotate(row + h * dim, job->angles + r * 2 * (size_t)job->half, job->half);
        append(job, row + n_q * dim, table, job->rows->positions[r], 0);
        append(job, row + (n_q + n_kv) * dim, table, job->rows->positions[r], 1);
    }
}

hw_status HW_CPU_FN(rope_append)(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                                 const hw_rows *rows, hw_kv_layer kv)
{
    rope_job job = {qkv, angles, half, heads, rows, kv};
    hw_pool_for(hw_cpu_pool(d), (size_t)rows->n_rows, 4, rope_rows, &job);
    return HW_OK;
}
