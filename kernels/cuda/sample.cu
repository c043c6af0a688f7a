/* The sampler's steps on this rank's slice of the logits. Probabilities and noise are computed in double,
 * with the same formulas as on the host. */
#include <algorithm>
#include <functional>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"
#include "kernels/random.h"

namespace
{

enum {
    BLOCK = 256,
    MOST_BLOCKS = 256,
    MOST_ROWS = 65535, /* of a grid */
    SELECT_BLOCK = 1024,
    MOST_SELECT_BLOCKS = 64,
    DIGIT_BITS = 8,
    N_DIGITS = 1 << DIGIT_BITS
};

/* A row's tokens that take part: first_id .. first_id + n - 1. */
struct slice {
    const float *logits;
    int first_id, n;
};

HW_EVERYWHERE inline slice slice_of(const float *row, int n_vocab, int first_id, int n_valid)
{
    const int64_t most = (int64_t)n_valid - first_id, n = most < n_vocab ? most : n_vocab;
    return {row, first_id, (int)(n > 0 ? n : 0)};
}

__global__ void penalize(float *row, int n_vocab, int64_t first_id, const int32_t *tokens, int n,
                         float penalty)
{
    hw_begin();
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int64_t at = i < n ? (int64_t)tokens[i] - first_id : -1;
    if (at < 0 || at >= n_vocab) return;
    row[at] = row[at] > 0 ? row[at] / penalty : row[at] * penalty;
}

/* ---- one number from all tokens of a slice: the largest or the sum of what `of_token` says of each */

struct largest {
    __device__ static unsigned long long combine(unsigned long long a, unsigned long long b)
    {
        return a > b ? a : b;
    }
    __device__ static void add_to(unsigned long long *to, unsigned long long x) { atomicMax(to, x); }
};

struct sum {
    __device__ static unsigned long long combine(unsigned long long a, unsigned long long b) { return a + b; }
    __device__ static void add_to(unsigned long long *to, unsigned long long x) { atomicAdd(to, x); }
};

struct best_key {
    __device__ unsigned long long operator()(float logit, int token) const { return hw_key(logit, token); }
};

struct drawn_key {
    float floor, temperature;
    uint64_t seed, step;
    __device__ unsigned long long operator()(float logit, int token) const
    {
        if (logit < floor) return 0; /* a NaN is not, and becomes HW_KEY_NAN */
        return hw_key(logit / temperature + hw_gumbel_here(seed, step, (uint32_t)token), token);
    }
};

struct mass {
    float max, temperature;
    __device__ unsigned long long operator()(float logit, int) const
    {
        const double e = exp(((double)logit - (double)max) / (double)temperature);
        return e > 0 ? (unsigned long long)(fmin(e, 1.0) * HW_MASS_ONE + 0.5) : 0; /* NaN adds nothing */
    }
};

/* What this block finds in its share of the slice. Both ways of combining are exact, so the order in which
 * blocks arrive changes nothing. */
template <typename Combine, typename Of>
__device__ unsigned long long over_share(slice s, Of of_token, unsigned long long *shared)
{
    unsigned long long mine = 0;
    for (int t = (int)(blockIdx.x * blockDim.x + threadIdx.x); t < s.n; t += (int)(gridDim.x * blockDim.x))
        mine = Combine::combine(mine, of_token(s.logits[t], s.first_id + t));
    return hw_block_reduce(mine, 0ull, shared,
                           [](unsigned long long a, unsigned long long b) { return Combine::combine(a, b); });
}

template <typename Combine, typename Of>
__global__ void over_slice(unsigned long long *result, slice s, Of of_token)
{
    __shared__ unsigned long long shared[HW_WARP];
    hw_begin();
    const unsigned long long found = over_share<Combine>(s, of_token, shared);
    if (threadIdx.x == 0) Combine::add_to(result, found);
}

/* The largest key of every row, each drawn in its own way. */
__global__ void choose_keys(hw_fed_rows rows, const float *logits, int n_vocab, int first_id)
{
    __shared__ unsigned long long shared[HW_WARP];
    hw_begin();
    for (int r = (int)blockIdx.y; r < rows.n_rows; r += (int)gridDim.y) {
        const hw_draw how = rows.draws[r];
        const slice s = slice_of(logits + (size_t)r * (size_t)n_vocab, n_vocab, first_id, how.n_valid);
        const drawn_key drawn = {-INFINITY, how.temperature, how.seed, (uint64_t)rows.positions[r] + 1};
        const unsigned long long found = how.temperature == 0 ? over_share<largest>(s, best_key{}, shared)
                                                              : over_share<largest>(s, drawn, shared);
        if (threadIdx.x == 0) largest::add_to((unsigned long long *)rows.keys + r, found);
    }
}

template <typename Combine, typename Of>
hw_status reduce(hw_device *d, const char *name, uint64_t *result, slice s, Of of_token)
{
    hw_cuda_device *c = hw_cuda_of(d);
    *result = 0;
    if (!s.n) return HW_OK;
    const unsigned blocks = std::min(hw_cuda_blocks((size_t)s.n, BLOCK), (unsigned)MOST_BLOCKS);
    hw_status st = hw_cuda_note(&c->failure, cudaMemsetAsync(c->keys, 0, sizeof *c->keys, c->stream), name);
    if (!st)
        st = hw_cuda_launch(c, name, over_slice<Combine, Of>, dim3(blocks), BLOCK, 0,
                            (unsigned long long *)c->keys, s, of_token);
    if (!st) st = hw_cuda_copy_out(d, c->host_keys, c->keys, sizeof *c->keys);
    if (!st) st = hw_cuda_note(&c->failure, cudaStreamSynchronize(c->stream), name);
    if (!st) *result = *c->host_keys;
    return st;
}

/* ---- the k best: a radix select finds the k-th largest key, digit by digit, then those from it on are
 * collected in any order. Every block does so with a part of the row; one block does it again with what they
 * found. */

/* Where keys come from: logits of tokens first_id .., or keys that were found, 0 where there is none. */
struct candidates {
    const float *logits;
    const unsigned long long *keys;
    int first_id, n;
    __device__ uint64_t at(int i) const { return keys ? keys[i] : hw_key(logits[i], first_id + i); }
};

/* Keys from `below` on were found before. A block takes `share` candidates and leaves k keys, the rest 0;
 * `n_left` [1] gets how many they are, where there is one block. */
__global__ void __launch_bounds__(SELECT_BLOCK)
    select_best(unsigned long long *keys, unsigned long long *n_left, candidates c, int share, int k,
                uint64_t below)
{
    __shared__ unsigned counts[N_DIGITS];
    __shared__ uint64_t prefix; /* of the k-th largest key; 0 when there are no more than k */
    __shared__ unsigned wanted, n_found;
    __shared__ bool all;
    hw_begin();
    const int first = (int)blockIdx.x * share, end = c.n - first < share ? c.n : first + share;
    keys += (size_t)blockIdx.x * (size_t)k;
    if (threadIdx.x == 0) prefix = 0, wanted = (unsigned)k, n_found = 0, all = false;
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        __syncthreads();
        for (unsigned i = threadIdx.x; i < N_DIGITS; i += blockDim.x) counts[i] = 0;
        __syncthreads();
        for (int t = first + (int)threadIdx.x; t < end && !all; t += (int)blockDim.x) {
            const uint64_t key = c.at(t);
            const bool same = shift == 64 - DIGIT_BITS || (key ^ prefix) >> (shift + DIGIT_BITS) == 0;
            if (key && key <= below && same) atomicAdd(&counts[key >> shift & (N_DIGITS - 1)], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0 && !all) {
            int digit = N_DIGITS - 1;
            for (; digit >= 0 && counts[digit] < wanted; digit--) wanted -= counts[digit];
            if (digit < 0) all = true; /* only the first digit can run out */
            else prefix |= (uint64_t)digit << shift;
        }
    }
    __syncthreads();
    for (int t = first + (int)threadIdx.x; t < end; t += (int)blockDim.x) {
        const uint64_t key = c.at(t);
        if (!key || key > below || key < prefix) continue;
        const unsigned at = atomicAdd(&n_found, 1u);
        if (at < (unsigned)k) keys[at] = key; /* there can be more only where several are HW_KEY_NAN */
    }
    __syncthreads();
    const unsigned n = n_found < (unsigned)k ? n_found : (unsigned)k;
    for (unsigned i = n + threadIdx.x; i < (unsigned)k; i += blockDim.x) keys[i] = 0;
    if (threadIdx.x == 0 && n_left) *n_left = n;
}

/* Enough blocks that each has several keys per thread, as long as what they find can be kept. */
int blocks_for(int n, int k)
{
    return std::max(1, std::min({(int)hw_cuda_blocks((size_t)n, 4 * SELECT_BLOCK), (int)MOST_SELECT_BLOCKS,
                                 HW_CUDA_MAX_KEYS / k}));
}

hw_status find_best(hw_cuda_device *c, slice s, int k, uint64_t below)
{
    unsigned long long *keys = (unsigned long long *)c->keys, *found = (unsigned long long *)c->found;
    candidates from = {s.logits, nullptr, s.first_id, s.n};
    const int blocks = blocks_for(s.n, k), share = (s.n + blocks - 1) / blocks;
    if (blocks > 1) {
        hw_status st = hw_cuda_launch(c, "row_best", select_best, dim3((unsigned)blocks), SELECT_BLOCK, 0,
                                      found, (unsigned long long *)nullptr, from, share, k, below);
        if (st) return st;
        from = {nullptr, found, 0, blocks * k};
    }
    return hw_cuda_launch(c, "row_best", select_best, dim3(1), SELECT_BLOCK, 0, keys, keys + HW_CUDA_MAX_KEYS,
                          from, from.n, k, below);
}

/* Up to `k` keys of at most `below` in descending order; *n of them. */
hw_status best_below(hw_device *d, uint64_t *keys, int *n, slice s, int k, uint64_t below)
{
    hw_cuda_device *c = hw_cuda_of(d);
    hw_status st = find_best(c, s, k, below);
    if (!st) st = hw_cuda_copy_out(d, c->host_keys, c->keys, (size_t)k * sizeof *c->keys);
    if (!st)
        st =
            hw_cuda_copy_out(d, c->host_keys + HW_CUDA_MAX_KEYS, c->keys + HW_CUDA_MAX_KEYS, sizeof *c->keys);
    if (!st) st = hw_cuda_note(&c->failure, cudaStreamSynchronize(c->stream), "row_best");
    if (st) return st;
    *n = (int)c->host_keys[HW_CUDA_MAX_KEYS];
    std::copy(c->host_keys, c->host_keys + *n, keys);
    std::sort(keys, keys + *n, std::greater<uint64_t>());
    return HW_OK;
}

} // namespace

hw_status hw_cuda_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                           int n_tokens, float penalty)
{
    hw_cuda_device *c = hw_cuda_of(d);
    hw_status st = HW_OK;
    for (int done = 0; done < n_tokens && !st; done += HW_CUDA_MAX_KEYS) {
        const int n = std::min<int>(n_tokens - done, HW_CUDA_MAX_KEYS);
        st = hw_cuda_copy_in(d, c->ids, tokens + done, (size_t)n * sizeof *tokens);
        if (!st)
            st = hw_cuda_launch(c, "penalize", penalize, dim3(hw_cuda_blocks((size_t)n, BLOCK)), BLOCK, 0,
                                row, n_vocab, first_id, c->ids, n, penalty);
    }
    return st;
}

hw_status hw_cuda_row_best(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                           int n_valid, int k)
{
    const slice s = slice_of(row, n_vocab, first_id, n_valid);
    if (k == 1) return reduce<largest>(d, "row_best", keys, s, best_key{});
    std::fill(keys, keys + std::max(k, 0), 0);
    uint64_t below = UINT64_MAX;
    for (int done = 0; s.n && done < k;) {
        int n = 0;
        const int now = std::min<int>(k - done, HW_CUDA_MAX_KEYS);
        hw_status st = best_below(d, keys + done, &n, s, now, below);
        if (st) return st;
        if (n < now) break;
        done += n;
        below = keys[done - 1] - 1;
    }
    return HW_OK;
}

hw_status hw_cuda_row_mass(hw_device *d, uint64_t *mass_out, const float *row, int n_vocab, int first_id,
                           int n_valid, float max, float temperature)
{
    return reduce<sum>(d, "row_mass", mass_out, slice_of(row, n_vocab, first_id, n_valid),
                       mass{max, temperature});
}

hw_status hw_cuda_row_draw(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                           int n_valid, float floor, float temperature, uint64_t seed, uint64_t step)
{
    return reduce<largest>(d, "row_draw", key, slice_of(row, n_vocab, first_id, n_valid),
                           drawn_key{floor, temperature, seed, step});
}

hw_status hw_cuda_choose_keys(hw_device *d, const hw_fed_rows *rows, const float *logits, int n_vocab,
                              int first_id)
{
    if (!rows->n_rows || !n_vocab) return HW_OK;
    const unsigned n_y = (unsigned)std::min<int>(rows->n_rows, MOST_ROWS),
                   n_x = std::max(1u, (unsigned)MOST_BLOCKS / n_y);
    const dim3 grid(std::min(hw_cuda_blocks((size_t)n_vocab, BLOCK), n_x), n_y);
    return hw_cuda_launch(hw_cuda_of(d), "choose_keys", choose_keys, grid, BLOCK, 0, *rows, logits, n_vocab,
                          first_id);
}
