#include <math.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/vmath.h"

/* Tokens of the slice that take part. */
static int valid_tokens(int n_vocab, int first_id, int n_valid)
{
    int n = n_valid > first_id ? n_valid - first_id : 0;
    return n < n_vocab ? n : n_vocab;
}

/* ---- row_best: a heap with the worst of the best at its root */

static void sink(uint64_t *heap, int k, int at)
{
    for (;;) {
        int least = at, left = 2 * at + 1, right = left + 1;
        if (left < k && heap[left] < heap[least]) least = left;
        if (right < k && heap[right] < heap[least]) least = right;
        if (least == at) return;
        uint64_t swapped = heap[at];
        heap[at] = heap[least], heap[least] = swapped;
        at = least;
    }
}

hw_status HW_CPU_FN(row_best)(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                              int n_valid, int k)
{
    (void)d;
    if (k <= 0) return HW_OK;
    int n = valid_tokens(n_vocab, first_id, n_valid);
    memset(keys, 0, (size_t)k * sizeof *keys);
    for (int i = 0; i < n; i += HW_LANES) {
        int lanes = n - i < HW_LANES ? n - i : HW_LANES;
        /* Sixteen logits below the worst of the best are passed over at once. An empty place, or a NaN at the
         * root, decodes to a NaN, below which is nothing. */
        float limit = hw_key_logit(keys[0]);
        unsigned candidates = v16_any_not_less(v16_load_n(row + i, lanes), v16_set1(limit));
        candidates &= (1u << lanes) - 1;
        for (; candidates; candidates &= candidates - 1) {
            int t = i + __builtin_ctz(candidates);
            uint64_t key = hw_key(row[t], first_id + t);
            if (key <= keys[0]) continue;
            keys[0] = key;
            sink(keys, k, 0);
        }
    }
    for (int end = k - 1; end > 0; end--) { /* the smallest goes last: descending */
        uint64_t least = keys[0];
        keys[0] = keys[end], keys[end] = least;
        sink(keys, end, 0);
    }
    return HW_OK;
}

/* ---- row_mass */

hw_status HW_CPU_FN(row_mass)(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                              int n_valid, float max, float temperature)
{
    (void)d;
    const v16 top = v16_set1(max), heat = v16_set1(temperature);
    int n = valid_tokens(n_vocab, first_id, n_valid);
    uint64_t sum = 0;
    for (int i = 0; i < n; i += HW_LANES) {
        int lanes = n - i < HW_LANES ? n - i : HW_LANES;
        v16 e = v16_exp(v16_div(v16_sub(v16_load_n(row + i, lanes), top), heat));
        float lane[HW_LANES];
        /* NaN counts as nothing here: row_best has told of it. max(e, 0) turns it into 0, since the second
         * operand wins. */
        v16_store(lane, v16_min(v16_max(e, v16_zero()), v16_set1(1.0f)));
        for (int j = 0; j < lanes; j++) sum += (uint64_t)(int64_t)((double)lane[j] * HW_MASS_ONE + 0.5);
    }
    *mass = sum;
    return HW_OK;
}

/* ---- row_draw */

/* hw_philox4x32 of sixteen tokens, the first of its four words. The compiler makes lanes of the inner
 * loops. */
static void philox_of_tokens(uint32_t first_word[HW_LANES], uint64_t seed, uint64_t step, uint32_t token)
{
    uint32_t c0[HW_LANES], c1[HW_LANES], c2[HW_LANES], c3[HW_LANES];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < HW_LANES; i++)
        c0[i] = token + (uint32_t)i, c1[i] = 0, c2[i] = (uint32_t)step, c3[i] = (uint32_t)(step >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int i = 0; i < HW_LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0, c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1, c3[i] = (uint32_t)p0;
        }
    memcpy(first_word, c0, sizeof c0);
}

/* No less than the token's Gumbel noise, from the first of its random words. With z leading ones, u is at
 * most 1 - 2^-(z + 1) but for what the words below add when all 32 are ones; -log(u) >= 1 - u, so the noise
 * is at most (z + 1) log 2. The margin is far above every rounding on the way. */
static float noise_bound(uint32_t first_word)
{
    int ones = ~first_word ? __builtin_clz(~first_word) : 60;
    return (float)(ones + 1) * 0.6932f + 0.001f;
}

/* The logarithms are taken only for tokens that could still win, which is exact: the largest key does not
 * depend on the losers. */
hw_status HW_CPU_FN(row_draw)(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                              int n_valid, float floor, float temperature, uint64_t seed, uint64_t step)
{
    (void)d;
    int n = valid_tokens(n_vocab, first_id, n_valid);
    uint64_t best = 0;
    float best_value = -INFINITY;
    for (int i = 0; i < n; i += HW_LANES) {
        int lanes = n - i < HW_LANES ? n - i : HW_LANES;
        unsigned candidates = v16_any_not_less(v16_load_n(row + i, lanes), v16_set1(floor));
        candidates &= (1u << lanes) - 1;
        if (!candidates) continue;
        uint32_t random[HW_LANES];
        philox_of_tokens(random, seed, step, (uint32_t)(first_id + i));
        for (; candidates; candidates &= candidates - 1) {
            int j = __builtin_ctz(candidates), t = first_id + i + j;
            float logit = row[i + j];
            if (logit != logit) {
                *key = HW_KEY_NAN;
                return HW_OK;
            }
            float heated = logit / temperature;
            float reach = heated + noise_bound(random[j]);
            /* `reach` is rounded: a large logit swallows the margin, hence the relative one. */
            if (reach + fabsf(reach) * 1e-6f < best_value) continue;
            uint64_t candidate = hw_key(heated + hw_gumbel(seed, step, (uint32_t)t), t);
            if (candidate <= best) continue;
            best = candidate;
            best_value = hw_key_logit(best);
        }
    }
    *key = best;
    return HW_OK;
}
