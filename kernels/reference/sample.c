#include <math.h>

#include "kernels/reference/reference.h"

hw_status hw_ref_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
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

/* Insertion into a descending list. */
hw_status hw_ref_row_best(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                          int n_valid, int k)
{
    (void)d;
    for (int i = 0; i < k; i++) keys[i] = 0;
    for (int t = 0; t < n_vocab && first_id + t < n_valid; t++) {
        uint64_t key = hw_key(row[t], first_id + t);
        int at = k;
        for (; at > 0 && keys[at - 1] < key; at--)
            if (at < k) keys[at] = keys[at - 1];
        if (at < k) keys[at] = key;
    }
    return HW_OK;
}

hw_status hw_ref_row_mass(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                          int n_valid, float max, float temperature)
{
    (void)d;
    *mass = 0;
    for (int t = 0; t < n_vocab && first_id + t < n_valid; t++) {
        double e = exp(((double)row[t] - (double)max) / (double)temperature);
        if (e > 0)
            *mass += (uint64_t)(fmin(e, 1) * HW_MASS_ONE + 0.5); /* NaN adds nothing: row_best reports it */
    }
    return HW_OK;
}

hw_status hw_ref_row_draw(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                          int n_valid, float floor, float temperature, uint64_t seed, uint64_t step)
{
    (void)d;
    *key = 0;
    for (int t = 0; t < n_vocab && first_id + t < n_valid; t++) {
        if (row[t] < floor) continue;
        uint64_t candidate = /* HW_KEY_NAN, which stays the largest, when the logit is not a number */
            hw_key(row[t] / temperature + hw_gumbel(seed, step, (uint32_t)(first_id + t)), first_id + t);
        if (candidate > *key) *key = candidate;
    }
    return HW_OK;
}
