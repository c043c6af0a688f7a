/* Rotary positions, and keys and values on their way into the cache. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"

namespace
{

enum { BLOCK = 128 };

/* The angle itself is a float32 product, as the models were trained with; its cosine is taken in double,
 * once per step. */
__global__ void rope_angles(float *out, const int32_t *positions, const float *inv_freq, int half,
                            float scale)
{
    float *to = out + (size_t)blockIdx.x * 2 * (size_t)half;
    hw_begin();
    for (int j = (int)threadIdx.x; j < half; j += BLOCK) {
        const float angle = (float)positions[blockIdx.x] * inv_freq[j];
        to[j] = scale * (float)cos((double)angle);
        to[half + j] = scale * (float)sin((double)angle);
    }
}

/* One block per row and head: query heads, key heads, value heads. The thread that turns a pair also stores
 * it. */
template <typename A, typename T>
__global__ void rope_append(A *qkv, const float *angles, int half, hw_heads heads, hw_rows rows, T *cache,
                            int block_tokens)
{
    const int row = (int)blockIdx.x, head = (int)blockIdx.y, dim = heads.head_dim;
    const bool is_query = head < heads.n_heads, is_value = head >= heads.n_heads + heads.n_kv_heads;
    const int turned = angles && !is_value ? half : 0;
    A *x = qkv + ((size_t)row * gridDim.y + (size_t)head) * (size_t)dim;
    const float *cosines = turned ? angles + (size_t)row * 2 * (size_t)half : nullptr;
    T *to = nullptr;
    hw_begin();
    if (!is_query) {
        const int32_t *table = rows.block_tables + (size_t)rows.seqs[row] * (size_t)rows.max_blocks;
        to = cache + hw_kv_index(heads, block_tokens, table, rows.positions[row], is_value,
                                 head - heads.n_heads - (is_value ? heads.n_kv_heads : 0));
    }
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK) {
        if (i >= turned && i < 2 * turned) continue;
        if (i < turned) {
            const float a = hw_get(x[i]), b = hw_get(x[turned + i]), c = cosines[i], s = cosines[turned + i];
            hw_set(x + i, a * c - b * s);
            hw_set(x + turned + i, b * c + a * s);
            if (to) hw_set(to + turned + i, hw_get(x[turned + i]));
        }
        if (to) hw_set(to + i, hw_get(x[i]));
    }
}

} // namespace

hw_status hw_cuda_rope_angles(hw_device *d, float *out, const int32_t *positions, int n,
                              const float *inv_freq, int half, float scale)
{
    if (!n || !half) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "rope_angles", rope_angles, dim3((unsigned)n), BLOCK, 0, out,
                          positions, inv_freq, half, scale);
}

hw_status hw_cuda_rope_append(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                              const hw_rows *rows, hw_kv_layer kv)
{
    const unsigned n_heads = (unsigned)(heads.n_heads + 2 * heads.n_kv_heads);
    if (!rows->n_rows || !n_heads) return HW_OK;
    return hw_with_type(d->act, [&](auto active) {
        using A = decltype(active);
        return hw_with_type(kv.dtype, [&](auto kept) {
            using T = decltype(kept);
            return hw_cuda_launch(hw_cuda_of(d), "rope_append", rope_append<A, T>,
                                  dim3((unsigned)rows->n_rows, n_heads), BLOCK, 0, (A *)qkv, angles, half,
                                  heads, *rows, (T *)kv.data, kv.block_tokens);
        });
    });
}
