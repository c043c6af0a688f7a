/* Ops that are memory-bound, or too small to need an instruction set. */
#include <math.h>

#include "kernels/cpu/cpu.h"

hw_status hw_cpu_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim)
{
    (void)d;
    size_t row_bytes = (size_t)dim * sizeof(float);
    for (int r = 0; r < n && row_bytes; r++)
        memcpy((char *)out + (size_t)r * row_bytes, (const char *)x + (size_t)rows[r] * row_bytes, row_bytes);
    return HW_OK;
}

typedef struct angles_job {
    float *out;
    const int32_t *positions;
    const float *inv_freq;
    int half;
    float scale;
} angles_job;

/* The angle is a float32 product, as in training. Its cosine is computed in double and rounded, so that C libraries give
 * the same result in practice. */
static void angles_of_rows(void *arg, size_t begin, size_t end)
{
    const angles_job *job = arg;
    size_t half = (size_t)job->half;
    for (size_t r = begin; r < end; r++)
        for (size_t j = 0; j < half; j++) {
            double angle = (double)((float)job->positions[r] * job->inv_freq[j]);
            job->out[(2 * r) * half + j] = job->scale * (float)cos(angle);
            job->out[(2 * r + 1) * half + j] = job->scale * (float)sin(angle);
        }
}

hw_status hw_cpu_rope_angles(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale)
{
    angles_job job = {out, positions, inv_freq, half, scale};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, 8, angles_of_rows, &job);
    return HW_OK;
}

hw_status hw_cpu_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                          int n_tokens, float penalty)
{
    (void)d;
    for (int i = 0; i < n_tokens; i++) {
        int64_t at = (int64_t)tokens[i] - first_id;
        if (at < 0 || at >= n_vocab) continue;
        row[at] = row[at] > 0 ? row[at] / penalty : row[at] * penalty;
    }
    return HW_OK;
}
