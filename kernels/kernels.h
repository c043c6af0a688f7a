/* The maths of one rank on one device.
 *
 * A device is a table of ops plus memory; it is chosen once, when the engine is created, and code above this
 * header does not depend on which one it is. `kernels/` knows neither MPI nor models: it computes with this rank's
 * numbers. `kernels/reference/` has the plain loops that explain the ops and serve the tests; `cpu/` is the fast
 * version for the host.
 *
 * Activations have the device's activation type (`hw_device.act`): float32 on the CPU; float32, float16 or
 * bfloat16, the type of its matrices, on a device in a plug-in. Sums are float32 everywhere, and the result of an
 * op is rounded once (twice where a bias is added to a 16-bit product). Sizes are this rank's ("local") unless
 * stated otherwise. Pointers marked D are device memory, from `alloc`; on the CPU that is host memory. Only `alloc`,
 * `weight_create` and the creation of a device allocate memory.
 *
 * THE SAME BITS. On the CPU every op obeys one rule: a row's result does not depend on the other rows, on
 * the number of threads, or on the instruction set. `matmul` and `attention` specify below in which order they
 * add. */
#ifndef HW_KERNELS_KERNELS_H
#define HW_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/format.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Marks small functions that are also compiled for devices. */
#ifdef __CUDACC__
#define HW_EVERYWHERE __host__ __device__
#else
#define HW_EVERYWHERE
#endif

typedef struct hw_graph hw_graph;   /* ops that are launched together */
typedef struct hw_event hw_event;   /* a point in a device's stream */
typedef struct hw_weight hw_weight; /* a matrix in the device's own layout */
typedef struct hw_device hw_device;

enum { HW_N_EVENTS = 4 };

/* Sums over split inputs are kept as this many partial sums, see `matmul`. */
enum { HW_N_CUTS = 8 };

/* A weight matrix [n_out, n_in] of this rank. Its product y = W x sums over n_in. `cuts` divides the inputs of
 * this rank by the HW_N_CUTS cuts of the whole model's inputs: cut i covers the local inputs cuts[i] ..
 * cuts[i + 1] - 1 (empty when equal); cuts[0] = 0 and cuts[HW_N_CUTS] = n_in. A matrix whose inputs are not split
 * has all its inputs in cut 0. */
typedef struct hw_weight_dims {
    size_t n_out, n_in;
    hw_format format; /* on the device: HW_F32, HW_F16 or HW_BF16 */
    size_t cuts[HW_N_CUTS + 1];
} hw_weight_dims;

/* A rectangle of a matrix in host memory, to be copied into an hw_weight. Element (o, i) of the rectangle
 * is at src + (o * stride_out + i * stride_in) * hw_dtype_size(dtype). A transposed matrix (GPT-2's
 * Conv1D) has stride_out 1. No alignment required. */
typedef struct hw_weight_piece {
    const void *src;
    hw_dtype dtype; /* of src; converted to the type of the weight */
    size_t stride_out, stride_in;
    size_t first_out, n_out; /* rows of the weight that this piece fills */
    size_t first_in, n_in;   /* and columns */
} hw_weight_piece;

/* The heads of this rank. A rank may begin inside a group of query heads that share a KV head, so the group size is
 * the model's, and local query head h reads local KV head (first_head + h) / n_rep - first_kv_head. */
typedef struct hw_heads {
    int n_heads, n_kv_heads;       /* local counts */
    int first_head, first_kv_head; /* global index of the first local one */
    int n_rep;                     /* query heads per KV head in the whole model */
    int head_dim;
} hw_heads;

/* The kind of attention of a layer; host memory. All zero except the scale: plain causal attention. */
typedef struct hw_attn {
    float scale;   /* score = scale * q . k */
    int window;    /* a row sees the last `window` positions, including its own; 0: all up to its own */
    int n_sinks;   /* a row also sees the first n_sinks positions (Xiao et al. 2023) */
    float softcap; /* score = softcap * tanh(score / softcap) (Gemma 2); 0: off */
} hw_attn;

/* The first position that a row at `position` sees. */
static inline HW_EVERYWHERE int hw_attn_first(int window, int position)
{
    return window && window <= position ? position + 1 - window : 0;
}

/* The fields of hw_attn that a device supports. All devices support the scale. */
typedef struct hw_attn_abilities {
    bool window, n_sinks, softcap;
} hw_attn_abilities;

/* One layer's keys and values on this rank: `data` [n_blocks, 2 (K, V), n_kv_heads, block_tokens,
 * head_dim] of `dtype`. */
typedef struct hw_kv_layer {
    void *data; /* D */
    hw_dtype dtype;
    int block_tokens;
} hw_kv_layer;

/* The rows of a step. All arrays D. Row i is token number positions[i] of sequence seqs[i]. Its key and value are
 * in slot positions[i] % block_tokens of block block_tables[seqs[i]][positions[i] / block_tokens], where its
 * attention ends. */
typedef struct hw_rows {
    int n_rows, n_seqs;
    const int32_t *positions;    /* [n_rows] */
    const int32_t *seqs;         /* [n_rows], 0 .. n_seqs - 1 */
    const int32_t *block_tables; /* [n_seqs, max_blocks], unused entries any value */
    int max_blocks;
    int max_position; /* the largest of `positions`, to size work on the host */
} hw_rows;

typedef struct hw_norm {
    bool centred; /* LayerNorm, else RMSNorm */
    float eps;
    const float *w, *b; /* [dim] D; b may be NULL */
} hw_norm;

typedef enum hw_activation { HW_ACT_SILU, HW_ACT_GELU, HW_ACT_GELU_TANH, HW_ACT_RELU } hw_activation;

/* How `matmul` multiplies by a bfloat16 weight. Weights of other types are always multiplied in float32.
 *   FLOAT32  inputs and weights as they are, see `matmul`.
 *   BF16X3   an input x is split into three bfloat16 terms, x = low + middle + high, by truncation, which is
 *            exact; a non-finite input is entirely in `high`. A block adds for each term, in that order,
 *                sum = sum + (even + odd)
 *            with chains over that term alone. As accurate as float32.
 *   BF16     one term: the input rounded to nearest, zero if it is below 2^-126. As accurate as bfloat16.
 * BF16X3 and BF16 are what bfloat16 units (AMX, AVX512-BF16) compute, including that operands and results below
 * 2^-126, from the first product to the bias, are zeros of their sign. Bits differ between the three arithmetics, but
 * within each they do not depend on the number of rows or on the presence of matrix units.
 * AUTO: the device's best choice. On the CPU that is BF16X3 with matrix units, and FLOAT32 elsewhere: three terms
 * take 1.5 times as long with dot products of pairs, and 3 times as long with multiply-adds. */
typedef enum hw_matmul { HW_MATMUL_AUTO, HW_MATMUL_FLOAT32, HW_MATMUL_BF16X3, HW_MATMUL_BF16 } hw_matmul;

/* How a device chooses the next token of a row: as row_best (temperature 0), or as row_draw without a floor. Only
 * tokens below n_valid (global id) are candidates. */
typedef struct hw_draw {
    float temperature;
    int32_t n_valid;
    uint64_t seed;
} hw_draw;

/* Rows of consecutive steps on the device: each step takes the tokens that the previous one chose. All arrays D
 * except `ring`, which is from host_alloc and is read by the host one step later. */
typedef struct hw_fed_rows {
    int n_rows;
    int vocab_size;              /* of the whole model */
    uint64_t *keys;              /* [n_rows] at the start of a step 0, or a key that outranks the row's own */
    const hw_draw *draws;        /* [n_rows] */
    int32_t *tokens, *positions; /* [n_rows] of the step; then of the next one */
    uint64_t *ring; /* [n_slots, slot_rows]; the key chosen at position p is in slot p % n_slots */
    int n_slots, slot_rows;
} hw_fed_rows;

/* Fused ops, for devices on which launching a kernel takes longer than some ops run. The caller passes buffers for
 * intermediate results; an op need not use them, and may or may not round intermediates to the activation type. */
typedef struct hw_fused_ops {
    /* norm, then matmul.   normed [n, n_in] D: intermediate */
    hw_status (*norm_matmul)(hw_device *d, void *out, const void *x, const hw_norm *norm, const hw_weight *w,
                             const float *bias, int n, void *normed);

    /* norm, matmul, activate.   out [n, n_out, or half of it when gated] D   normed, up [n, n_out] D:
     * intermediate */
    hw_status (*norm_matmul_activate)(hw_device *d, void *out, const void *x, const hw_norm *norm,
                                      const hw_weight *w, const float *bias, int n, hw_activation act,
                                      bool gated, void *normed, void *up);

    /* x += W in + bias: matmul, then add_bias_residual, if no all-reduce is needed between them.
     *   x, y [n, n_out] D   in [n, n_in] D   y: intermediate */
    hw_status (*matmul_add)(hw_device *d, void *x, const void *in, const hw_weight *w, const float *bias,
                            int n, void *y);
} hw_fused_ops;

/* Graphs. Ops between capture_begin and capture_end do not run but are recorded, with their arguments; in between the
 * caller must not wait, allocate, or copy from or to the host. capture_end always ends the capture; on HW_OK the caller
 * destroys *out, before the device. A launch runs all recorded ops. can_capture: whether the device can capture at the
 * moment, see hw_device_can_capture. */
typedef struct hw_graph_ops {
    bool (*can_capture)(const hw_device *d);
    hw_status (*capture_begin)(hw_device *d, hw_error *err);
    hw_status (*capture_end)(hw_device *d, hw_graph **out, hw_error *err);
    hw_status (*launch)(hw_device *d, hw_graph *g);
    void (*destroy)(hw_device *d, hw_graph *g); /* NULL is fine */
} hw_graph_ops;

/* Consecutive steps on the device, each with the tokens chosen by the previous one. choose_keys and feed_keys can be
 * captured in a graph, the events cannot. */
typedef struct hw_device_loop_ops {
    /* keys[r] = max(keys[r], key of row r's next token). A row at position p is drawn with step p + 1, the length
     * of its sequence.   logits [n_rows, n_vocab] float32 D, as for row_best */
    hw_status (*choose_keys)(hw_device *d, const hw_fed_rows *rows, const float *logits, int n_vocab,
                             int first_id);

    /* Call with the keys reduced over all ranks: writes each key into the ring and its token into `tokens` (0 for a
     * key without a valid token, which the reader of the ring refuses), advances each position, and resets keys to 0. */
    hw_status (*feed_keys)(hw_device *d, const hw_fed_rows *rows);

    /* Records an event at the current end of the stream. Valid until HW_N_EVENTS further events are recorded. */
    hw_status (*event_record)(hw_device *d, hw_event **out);

    /* Returns when all work before the event has run; reports errors like `synchronize`. */
    hw_status (*event_wait)(hw_device *d, hw_event *m, hw_error *err);
} hw_device_loop_ops;

/* Counts since the device was created: kernels launched, including those in graphs; launch calls, of which a graph
 * takes one; and allocations of its memory. */
typedef struct hw_counter_ops {
    uint64_t (*n_launches)(const hw_device *d);
    uint64_t (*n_starts)(const hw_device *d);
    uint64_t (*n_allocations)(const hw_device *d);
} hw_counter_ops;

/* Attention processes keys in blocks of this many absolute positions, independent of the cache's block size. */
enum { HW_ATTN_BLOCK = 64 };

typedef struct hw_kernels {
    const char *name; /* "cpu", "reference", "cuda" */

    /* A device runs ops in order: on the CPU an op is complete when it returns; on a device with a stream it returns
     * when its work is enqueued. Errors known at that time are returned by the op, others by the next `synchronize`,
     * which has the message for both. */

    /* ---- memory. `alloc` returns zeroed memory, 64-byte aligned; free(NULL) is fine. Copies are complete on return
     * (CPU) or in stream order: `src` of copy_in can be reused at once unless it is from host_alloc; the output of
     * copy_out is valid after `synchronize`; source and destination of `copy` do not overlap. `synchronize` waits,
     * and reports errors since the last call. */
    hw_status (*alloc)(hw_device *d, void **out, size_t n_bytes, hw_error *err);
    void (*free)(hw_device *d, void *p);
    hw_status (*copy_in)(hw_device *d, void *dst /* D */, const void *src, size_t n_bytes);
    hw_status (*copy_out)(hw_device *d, void *dst, const void *src /* D */, size_t n_bytes);
    hw_status (*copy)(hw_device *d, void *dst /* D */, const void *src /* D */, size_t n_bytes);
    hw_status (*synchronize)(hw_device *d, hw_error *err);

    /* Host memory for fast copies to and from the device (pinned, if that applies); zeroed, 64-byte aligned.
     * free(NULL) is fine. */
    hw_status (*host_alloc)(hw_device *d, void **out, size_t n_bytes, hw_error *err);
    void (*host_free)(hw_device *d, void *p);

    /* Bytes that `alloc` can still give this rank, if the device has its own memory. NULL on devices in host
     * memory. */
    uint64_t (*available)(const hw_device *d);

    /* The stream of this device's ops, a foreign library's handle (cudaStream_t), for other work that must be ordered
     * with them. NULL on devices without streams. */
    void *(*stream)(hw_device *d);

    /* ---- weights. `weight_create` makes a matrix of zeros; `weight_put` fills a rectangle of it and may be called in
     * any order, from one thread. `weight_bytes`: size on the device, including padding. n_out or n_in may be 0. */
    hw_status (*weight_create)(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err);
    hw_status (*weight_put)(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err);
    void (*weight_destroy)(hw_device *d, hw_weight *w); /* NULL is fine */
    size_t (*weight_bytes)(const hw_weight *w);
    const hw_weight_dims *(*weight_dims)(const hw_weight *w); /* as it was created; borrowed */

    /* ---- ops */

    /* Rows of an embedding table: out[r] = table[ids[r] - first_id], or zeros if another rank has that row;
     * with `accumulate`, added to out[r]. Minus zero becomes plus zero, so that summing over ranks changes no
     * bit.
     *   out [n, n_in] D   table [n_out, n_in]   ids [n] D */
    hw_status (*gather)(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate);

    /* out[r] = x[rows[r]].   out [n, dim] D   x [*, dim] D   rows [n] D */
    hw_status (*select_rows)(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim);

    /* x / sqrt(mean(x^2) + eps) * w  (Zhang & Sennrich 2019).   out, x [n, dim] D   w [dim] float32 D */
    hw_status (*rmsnorm)(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps);

    /* (x - mean) / sqrt(var + eps) * w + b  (Ba et al. 2016).   b may be NULL */
    hw_status (*layernorm)(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                           int dim, float eps);

    /* y = W x (+ bias).   out [n, n_out] D   x [n, n_in] D   bias [n_out] float32 D or NULL
     * Each output is the sum of one partial sum per cut of W's inputs, added as a balanced tree over the cut
     * index: ((0+1)+(2+3))+((4+5)+(6+7)), where an empty cut is skipped rather than added as zero. A partial sum
     * runs over its cut's inputs in blocks of 32, the first starting at the cut's first input:
     *     even = odd = 0
     *     for each pair (k, k + 1):  even = fma(x[k], w[k], even);  odd = fma(x[k+1], w[k+1], odd)
     *     sum = sum + (even + odd)
     * in float32; inputs past the end of the cut count as zeros. This is the order in which TDPBF16PS adds, so
     * that matrix units can be used: see hw_matmul. The bias is added to the finished sum. */
    hw_status (*matmul)(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n);

    /* As matmul without a bias, but with a float32 result. NULL if activations are float32.
     *   out [n, n_out] float32 D */
    hw_status (*logits)(hw_device *d, float *out, const void *x, const hw_weight *w, int n);

    /* cos and sin of every row's position, computed once per step and used by all layers (Su et al. 2021).
     * angle = positions[r] * inv_freq[j]
     *   out[r][0][j] = scale * cos(angle), out[r][1][j] = scale * sin(angle)
     *   out [n, 2, half] float32 D   positions [n] D   inv_freq [half] float32 D */
    hw_status (*rope_angles)(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale);

    /* RMSNorm of every head of q and of k, in place, over its head_dim numbers: q by q_w, k by k_w; n rows.
     *   qkv as for rope_append   q_w, k_w [head_dim] float32 D */
    hw_status (*qk_norm)(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                         float eps);

    /* Rotates q and k in place (pairs (j, j + half) of each head's first 2 * half elements, as Hugging
     * Face stores them), then writes k and v of every row to the cache, rounded to the cache's type.
     * angles NULL (half 0): no rotation.
     *   qkv [n_rows, (n_heads + 2 * n_kv_heads) * head_dim] D: all query heads, all key heads, all value
     *   heads */
    hw_status (*rope_append)(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                             const hw_rows *rows, hw_kv_layer kv);

    /* Causal attention over the cache: softmax(scores) v over the keys of the row's sequence at positions 0 ..
     * positions[r] that `attn` lets the row see. Fields of `attn` that are not set in `attends` are ignored
     * (hw_device_check_attn). Keys are processed in blocks of HW_ATTN_BLOCK absolute positions; each block has its
     * own maximum, sum and weighted value, and the blocks are merged in ascending order.
     *   out [n_rows, n_heads * head_dim] D   qkv as rope_append left it
     *   scratch D, of attention_scratch() bytes */
    hw_status (*attention)(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                           const hw_rows *rows, hw_kv_layer kv, void *scratch);
    size_t (*attention_scratch)(const hw_device *d, hw_heads heads, int max_rows, int max_positions);
    hw_attn_abilities attends;

    /* Gated:     out[r][j] = act(x[r][j]) * x[r][n + j], x [n_rows, 2 * n]
     * Not gated: out[r][j] = act(x[r][j]), x [n_rows, n] */
    hw_status (*activate)(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                          bool gated);

    /* x += (y + bias), after an all-reduce, on every rank.   x, y [n, dim] D   bias [dim] float32 D or NULL */
    hw_status (*add_bias_residual)(hw_device *d, void *x, const void *y, const float *bias, int n, int dim);

    /* ---- sampling. logits [n_rows, n_vocab] float32 D: this rank's slice of the vocabulary, whose first
     * token id is `first_id`.
     * A *key* packs a logit and its token so that the larger key is the better candidate and ties go to the lower
     * id: see hw_key below. Results are in host memory, complete on return. */

    /* HF repetition penalty, in place: logits of the listed tokens are divided by `penalty` when positive,
     * else multiplied. `tokens` [n_tokens] host, distinct, may lie outside this rank's slice. */
    hw_status (*penalize)(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                          int n_tokens, float penalty);

    /* The `k` best keys of a row in descending order, padded with 0 if there are fewer tokens. A NaN among the
     * logits gives HW_KEY_NAN first. Only tokens below `n_valid` (global id) are candidates. */
    hw_status (*row_best)(hw_device *d, uint64_t *keys /* [k] */, const float *row, int n_vocab, int first_id,
                          int n_valid, int k);

    /* Sum over the slice of exp((logit - max) / temperature) in fixed point, HW_MASS_ONE for 1.0: an
     * integer, so that the sum over all ranks does not depend on how the vocabulary is split. */
    hw_status (*row_mass)(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                          int n_valid, float max, float temperature);

    /* One draw from softmax(logit / temperature) over the tokens whose logit is at least `floor`: the
     * largest key of logit / temperature + Gumbel noise, where the noise of token t is a function of
     * (seed, step, t) alone. 0 when none; HW_KEY_NAN when one of the logits is not a number. */
    hw_status (*row_draw)(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                          int n_valid, float floor, float temperature, uint64_t seed, uint64_t step);

    /* ---- optional: NULL, or a table with all its entries */
    const hw_fused_ops *fused;
    const hw_graph_ops *graph;
    const hw_device_loop_ops *device_loop;
    const hw_counter_ops *counters;
    const struct hw_peak_ops *peaks; /* the device's peak rates, for comparison: peaks.h */
} hw_kernels;

struct hw_device {
    const hw_kernels *k;
    hw_dtype act;      /* type of activations and of messages between ranks: HW_F32, HW_F16 or HW_BF16 */
    int n_threads;     /* CPU: threads of this rank */
    bool host_memory;  /* D is host memory: the communicator and callers can read it */
    hw_matmul matmul;  /* AUTO only on a device that does not support hw_device_choose_matmul */
    int n_alike;       /* visible devices of this kind on this host, including this one; 0: the host itself */
    uint64_t hardware; /* equal for devices on the same physical hardware; 0: the host itself */
};

static inline bool hw_device_can_capture(const hw_device *d)
{
    return d->k->graph && d->k->graph->can_capture(d);
}

/* ---- keys */

#define HW_KEY_NAN  UINT64_MAX
#define HW_MASS_ONE ((double)(UINT64_C(1) << 43)) /* up to 2^20 tokens of mass one fit in 64 bits */

/* Larger float, larger key; ties go to the lower token id; 0 is "none" (no float maps to it with a valid
 * id). */
static inline HW_EVERYWHERE uint64_t hw_key(float logit, int32_t token)
{
    uint32_t u;
    if (logit != logit) return HW_KEY_NAN;
    logit += 0.0f; /* minus zero and plus zero are the same logit */
    memcpy(&u, &logit, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)u << 32 | (uint32_t)~token;
}
static inline HW_EVERYWHERE int32_t hw_key_token(uint64_t key) { return (int32_t) ~(uint32_t)key; }
static inline HW_EVERYWHERE float hw_key_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    float f;
    u = u & 0x80000000u ? u & 0x7fffffffu : ~u;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Gumbel noise of one token: -log(-log(u)), u in (0, 1) from Philox4x32-10 (Salmon et al. 2011) with key
 * `seed` and counter (token, step). In double, then rounded: the same on every device, as long as its
 * double log is good to an ulp or two and no rounding falls on the edge between two floats (one token in
 * 10^8). */
float hw_gumbel(uint64_t seed, uint64_t step, uint32_t token);
void hw_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* ---- devices */

/* Local. The host's cores. n_threads 0: one. `isa`: "auto", "amx", "avx512-bf16", "avx512", "avx2", "generic", or
 * "amx-emulated", which runs the loops of "amx" on emulated tiles, for tests; NULL is auto, or the environment
 * variable HW_CPU. A path is tested on small matrices before it is used, and must give the bits of the plain loops:
 * auto takes the best path that does (hw_device_warning names those that do not), and a path that was requested is
 * refused if it does not. The environment variable HW_PROVE=off skips the test. During the test, for less than a
 * millisecond, the process has other handlers of SIGILL, SIGSEGV, SIGBUS and SIGFPE, which pass on signals of other
 * threads. Errors: HW_ERR_UNSUPPORTED when this CPU lacks the instruction set or the kernel denies it, HW_ERR_DEVICE
 * when it gives wrong results, HW_ERR_INVALID, HW_ERR_NO_MEMORY. On HW_OK the caller owns *out (hw_device_destroy).
 * One engine at a time computes on a device. */
hw_status hw_cpu_device_create(hw_device **out, int n_threads, const char *isa, hw_error *err);

/* Local. Whether the environment variable HW_PROVE disables the tests of devices and their collectives. */
bool hw_proofs_are_off(void);

/* Local, from the thread that will use the device. Pins the threads of a CPU device to this set of processors until the
 * device is destroyed; its description says so. False if the system refuses. */
bool hw_cpu_device_pin(hw_device *d, const int *cpus, int n_cpus);

/* Local. The plain loops, one thread. For tests and for reading. */
hw_status hw_reference_device_create(hw_device **out, hw_error *err);

void hw_device_destroy(hw_device *d); /* NULL is fine */

/* Local. Sets the arithmetic of products; call it before the device has weights. AUTO changes nothing. Errors:
 * HW_ERR_UNSUPPORTED on a device with its own arithmetic. */
hw_status hw_device_choose_matmul(hw_device *d, hw_matmul matmul, hw_error *err);
const char *hw_matmul_name(hw_matmul matmul); /* "auto", "float32", "bf16x3", "bf16" */

/* Local. HW_OK if the device's attention supports all fields that are set in `attn`. Called once per layer when an
 * engine is created. Errors: HW_ERR_UNSUPPORTED, naming the field and the device. */
hw_status hw_device_check_attn(const hw_device *d, const hw_attn *attn, hw_error *err);

/* Local. A description for users: "cpu avx512, 2 threads", "cpu avx512 (amx: wrong bits), 2 threads". Borrowed. */
const char *hw_device_description(const hw_device *d);

/* Local. The path that it uses: "amx", "avx512-bf16", "avx512", "avx2", "generic", "amx-emulated"; "reference"; "cuda".
 * Borrowed. */
const char *hw_device_path(const hw_device *d);

/* Local. A warning to show once to the user: a path that this processor should compute correctly but does not, so that
 * a slower one is used. NULL: none. Borrowed. */
const char *hw_device_warning(const hw_device *d);

/* Local. Other remarks on the path: "amx: the processor has it, the kernel does not let this process use it",
 * "amx: not proved, because of HW_PROVE=off". NULL: none. Borrowed. */
const char *hw_device_note(const hw_device *d);

#ifdef __cplusplus
}
#endif
#endif
