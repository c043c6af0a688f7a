#include <math.h>

#include "kernels/reference/reference.h"

/* The angle is a float32 product, as in training; its cosine is computed in double. */
hw_status hw_ref_rope_angles(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale)
{
    (void)d;
    for (int r = 0; r < n; r++)
        for (int j = 0; j < half; j++) {
            float angle = (float)positions[r] * inv_freq[j];
            float *to = out + (size_t)r * 2 * (size_t)half;
            to[j] = scale * (float)cos((double)angle);
            to[half + j] = scale * (float)sin((double)angle);
        }
    return HW_OK;
}

static void rotate(float *head, const float *angles, int half)
{
    for (int j = 0; j < half; j++) {
        double a = head[j], b = head[half + j], c = angles[j], s = angles[half + j];
        head[j] = (float)(a * c - b * s);
        head[half + j] = (float)(b * c + a * s);
    }
}

hw_status hw_ref_rope_append(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                             const hw_rows *rows, hw_kv_layer kv)
{
    (void)d;
    size_t dim = (size_t)heads.head_dim, width = ((size_t)heads.n_heads + 2 * (size_t)heads.n_kv_heads) * dim;
    for (int r = 0; r < rows->n_rows; r++) {
        float *row = (float *)qkv + (size_t)r * width;
        if (angles)
            for (int h = 0; h < heads.n_heads + heads.n_kv_heads; h++)
                rotate(row + (size_t)h * dim, angles + (size_t)r * 2 * (size_t)half, half);
        const int32_t *table = rows->block_tables + (size_t)rows->seqs[r] * (size_t)rows->max_blocks;
        for (int is_value = 0; is_value < 2; is_value++)
            for (int g = 0; g < heads.n_kv_heads; g++) {
                size_t to = hw_kv_index(heads, kv.block_tokens, table, rows->positions[r], is_value, g);
                size_t from = (size_t)(heads.n_heads + is_value * heads.n_kv_heads + g) * dim;
                for (size_t i = 0; i < dim; i++) hw_ref_set(kv.data, kv.dtype, to + i, row[from + i]);
            }
    }
    return HW_OK;
}

/* The score of one cached key. */
static double score(const float *q, const hw_attn *attn, hw_heads heads, hw_kv_layer kv, const int32_t *table,
                    int pos, int g)
{
    size_t at = hw_kv_index(heads, kv.block_tokens, table, pos, 0, g);
    double dot = 0;
    for (int i = 0; i < heads.head_dim; i++)
        dot += (double)q[i] * (double)hw_ref_get(kv.data, kv.dtype, at + (size_t)i);
    return (double)attn->scale * dot;
}

/* Softmax in two passes over the keys, scores recomputed in the second; then one more per output element. */
static void attend(float *out, const float *q, const hw_attn *attn, hw_heads heads, hw_kv_layer kv,
                   const int32_t *table, int last_pos, int g)
{
    const int first_pos = hw_attn_first(attn->window, last_pos);
    double max = -INFINITY, sum = 0;
    for (int p = first_pos; p <= last_pos; p++) max = fmax(max, score(q, attn, heads, kv, table, p, g));
    for (int i = 0; i < heads.head_dim; i++) out[i] = 0;
    for (int p = first_pos; p <= last_pos; p++) sum += exp(score(q, attn, heads, kv, table, p, g) - max);
    for (int p = first_pos; p <= last_pos; p++) {
        double weight = exp(score(q, attn, heads, kv, table, p, g) - max) / sum;
        size_t at = hw_kv_index(heads, kv.block_tokens, table, p, 1, g);
        for (int i = 0; i < heads.head_dim; i++)
            out[i] = (float)(out[i] + weight * (double)hw_ref_get(kv.data, kv.dtype, at + (size_t)i));
    }
}

hw_status hw_ref_attention(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                           const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    (void)d, (void)scratch;
    size_t dim = (size_t)heads.head_dim, width = ((size_t)heads.n_heads + 2 * (size_t)heads.n_kv_heads) * dim;
    for (int r = 0; r < rows->n_rows; r++) {
        const int32_t *table = rows->block_tables + (size_t)rows->seqs[r] * (size_t)rows->max_blocks;
        for (int h = 0; h < heads.n_heads; h++) {
            int g = (heads.first_head + h) / heads.n_rep - heads.first_kv_head;
            attend((float *)out + ((size_t)r * (size_t)heads.n_heads + (size_t)h) * dim,
                   (const float *)qkv + (size_t)r * width + (size_t)h * dim, attn, heads, kv, table,
                   rows->positions[r], g);
        }
    }
    return HW_OK;
}

size_t hw_ref_attention_scratch(const hw_device *d, hw_heads heads, int max_rows, int max_positions)
{
    (void)d, (void)heads, (void)max_rows, (void)max_positions;
    return 0;
}
