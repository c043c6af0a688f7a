/* What a new device has to show before it is used: a product of few rows (gemv.cu), one of many (cuBLASLt) and an
 * attention, each compared with plain loops on the host. A GPU, a driver or a library that computes wrongly is found
 * out here, with a name, rather than by the text that comes out. */
#include <dlfcn.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "runtime/base/clock.h"

namespace
{

const double DEADLINE_S = 10; /* the first kernel of a process is loaded first, which takes under a second */

/* A product: inputs that are no whole tile, so that edges are met. At most 8 rows go through gemv.cu. */
enum { FEW_ROWS = 3, MANY_ROWS = 12, N_IN = 136, N_OUT = 40 };

/* The last two tokens of a sequence of two blocks, four heads in two groups. */
enum { N_HEADS = 4, N_KV_HEADS = 2, HEAD_DIM = 16 };
enum { BLOCK_TOKENS = 16, N_BLOCKS = 2, N_QUERIES = 2, LAST = 18 };
enum { QKV_WIDTH = (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM, OUT_WIDTH = N_HEADS * HEAD_DIM };
enum { KV_SIZE = N_BLOCKS * 2 * N_KV_HEADS * BLOCK_TOKENS * HEAD_DIM };

enum { MOST_RESULTS = MANY_ROWS * N_OUT, MEMORY_BYTES = 64 << 10, PART_BYTES = 256, WIDEST = 4 };
static_assert(N_QUERIES * OUT_WIDTH <= MOST_RESULTS, "results of both fit");

/* A device under proof, and one piece of its memory that is given out from front to back. */
struct proof {
    hw_cuda_device *c;
    hw_error *err;
    char *memory; /* [MEMORY_BYTES] D */
    size_t used;
    char what[64]; /* the op, for messages */
};

/* What an op should give, and how far off it may be before it is rounded. */
struct expected {
    double value[MOST_RESULTS], slack[MOST_RESULTS];
};

const char ADVICE[] = "take --device cpu; HW_PROVE=off leaves this check out";

/* Sixteenths from -1 to 1, which every type has: what differs in the end is what the op rounds. */
float number(uint32_t series, uint32_t i)
{
    const uint32_t mixed = (series * 7919u + i + 1) * 2654435761u;
    return (float)((int)(mixed >> 16) % 33 - 16) / 16;
}

/* Space for n numbers of a type; NULL: they are results, which begin as NaN. */
void *put(proof *p, hw_dtype type, const void *numbers, size_t n)
{
    char there[MEMORY_BYTES];
    const size_t n_bytes = n * hw_dtype_size(type);
    char *at = p->memory + p->used;
    p->used += (n_bytes + PART_BYTES - 1) / PART_BYTES * PART_BYTES;
    memset(there, 0xff, n_bytes);
    if (numbers && type == HW_I32) memcpy(there, numbers, n_bytes);
    else if (numbers) hw_convert(there, type, numbers, HW_F32, n);
    (void)hw_cuda_copy_in(&p->c->base.device, at, there, n_bytes); /* `waited` tells */
    return at;
}

/* Until the stream is empty, but not for ever: what hangs on a GPU hangs whoever waits for it. */
hw_status waited(proof *p)
{
    const uint64_t start = hw_clock_ns();
    cudaError_t code;
    while ((code = cudaStreamQuery(p->c->stream)) == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* that is no error */
        if (hw_seconds_since(start) > DEADLINE_S) {
            p->c->hangs = true;
            return hw_fail(p->err, HW_ERR_DEVICE, "device cuda: %s: %s did not end within %g s; %s",
                           p->c->base.description, p->what, DEADLINE_S, ADVICE);
        }
        sched_yield();
    }
    const hw_status st = hw_cuda_waited(p->c, code, p->err);
    return hw_context(p->err, st, "%s", p->what);
}

/* Half a unit in the last place of 1, and what is left of a number that is too small for the exponents of its type. */
double half_ulp(hw_dtype t) { return t == HW_F32 ? 0x1p-24 : t == HW_F16 ? 0x1p-11 : 0x1p-8; }
double least(hw_dtype t) { return t == HW_F16 ? 0x1p-24 : 1e-30; }

/* `st`: how the op was started. The tolerance is that of tests/kernels/types.h. */
hw_status compare(proof *p, hw_status st, const void *results, const expected *e, size_t n_rows, size_t width)
{
    const hw_dtype type = p->c->base.device.act;
    const size_t n = n_rows * width;
    char back[MOST_RESULTS * WIDEST];
    float got[MOST_RESULTS];
    const hw_status ended = waited(p);
    if (ended) return ended;
    if (st)
        return hw_fail(p->err, st, "device cuda: %s: %s cannot be started", p->c->base.description, p->what);
    (void)hw_cuda_copy_out(&p->c->base.device, back, results, n * hw_dtype_size(type));
    if ((st = waited(p))) return st;
    hw_convert(got, HW_F32, back, type, n);
    for (size_t i = 0; i < n; i++) {
        const double most =
            1.001 * half_ulp(type) * (fabs(e->value[i]) + e->slack[i]) + e->slack[i] + least(type);
        if (fabs((double)got[i] - e->value[i]) <= most) continue;
        return hw_fail(
            p->err, HW_ERR_DEVICE,
            "device cuda: %s: %s of %s gives %g at [%zu][%zu], wanted %g within %.2g: the GPU, its driver "
            "or its libraries compute wrongly; %s",
            p->c->base.description, p->what, hw_dtype_name(type), (double)got[i], i / width, i % width,
            e->value[i], most, ADVICE);
    }
    return HW_OK;
}

/* Sums of float32 are off by less than n / 8 units of 2^-24 of the sum of the sizes, for n of some hundreds. */
const double SUM = 4e-6;

hw_status prove_product(proof *p, const hw_weight *w, size_t n_rows)
{
    static float x[MANY_ROWS * N_IN];
    expected e = {};
    p->used = 0;
    snprintf(p->what, sizeof p->what, "a product of %zu rows", n_rows);
    for (uint32_t i = 0; i < n_rows * N_IN; i++) x[i] = number(1, i);
    for (uint32_t r = 0; r < n_rows; r++)
        for (uint32_t o = 0; o < N_OUT; o++)
            for (uint32_t i = 0; i < N_IN; i++) {
                const double product = (double)x[r * N_IN + i] * (double)number(0, o * N_IN + i);
                e.value[r * N_OUT + o] += product, e.slack[r * N_OUT + o] += SUM * fabs(product);
            }
    hw_device *d = &p->c->base.device;
    void *from = put(p, d->act, x, n_rows * N_IN), *to = put(p, d->act, nullptr, n_rows * N_OUT);
    return compare(p, hw_cuda_matmul(d, to, from, w, nullptr, (int)n_rows), to, &e, n_rows, N_OUT);
}

hw_weight *given_up; /* of a device that hangs */

hw_status prove_products(proof *p)
{
    static float values[N_OUT * N_IN];
    hw_device *d = &p->c->base.device;
    hw_weight *w = nullptr;
    hw_weight_dims dims = {};
    hw_weight_piece piece = {};
    dims.n_out = piece.n_out = N_OUT, dims.n_in = piece.n_in = piece.stride_out = N_IN,
    dims.format.type = d->act;
    for (int i = 1; i <= HW_N_CUTS; i++) dims.cuts[i] = N_IN;
    piece.src = values, piece.dtype = HW_F32, piece.stride_in = 1;
    for (uint32_t i = 0; i < N_OUT * N_IN; i++) values[i] = number(0, i);
    hw_status st = hw_cuda_weight_create(d, &w, &dims, p->err);
    if (!st) st = hw_cuda_weight_put(d, w, &piece, p->err);
    if (!st) st = prove_product(p, w, FEW_ROWS);
    if (!st) st = prove_product(p, w, MANY_ROWS);
    if (p->c->hangs) given_up = w; /* to take it apart would wait for the stream */
    else hw_cuda_weight_destroy(d, w);
    return st;
}

/* ---- attention */

struct scene {
    float q[N_QUERIES * QKV_WIDTH], kv[KV_SIZE];
    int32_t positions[N_QUERIES], seqs[N_QUERIES], table[N_BLOCKS];
    hw_heads heads;
};

const float *cached(const scene *s, int pos, int is_value, int kv_head)
{
    return s->kv + hw_kv_index(s->heads, BLOCK_TOKENS, s->table, pos, is_value, kv_head);
}

/* softmax(q k^T) v of one row and head. A score is a sum of 16 products of sizes up to 1, so that a weight is off by less
 * than 1e-5 of itself; in 16 bits it may be rounded. */
void attend(double *out, double *slack, const scene *s, int row, int head, hw_dtype type)
{
    const float *q = s->q + row * QKV_WIDTH + head * HEAD_DIM;
    const int kv_head = head / s->heads.n_rep;
    double weight[LAST + 1], sum = 0, largest = 0;
    for (int k = 0; k <= s->positions[row]; k++) {
        const float *key = cached(s, k, 0, kv_head);
        double score = 0;
        for (int i = 0; i < HEAD_DIM; i++) score += (double)q[i] * (double)key[i];
        sum += weight[k] = exp(score / 4);
    }
    for (int i = 0; i < HEAD_DIM; i++) {
        for (int k = 0; k <= s->positions[row]; k++) {
            const double value = (double)cached(s, k, 1, kv_head)[i];
            out[i] += weight[k] * value / sum;
            largest = fmax(largest, fabs(value));
        }
    }
    for (int i = 0; i < HEAD_DIM; i++) slack[i] = (1e-4 + (type == HW_F32 ? 0 : half_ulp(type))) * largest;
}

hw_status prove_attention(proof *p)
{
    static scene s;
    expected e = {};
    hw_device *d = &p->c->base.device;
    hw_attn attn = {};
    hw_rows rows = {};
    hw_kv_layer kv = {};
    attn.scale = 0.25f;
    p->used = 0;
    snprintf(p->what, sizeof p->what, "attention over %d keys", LAST + 1);
    s.heads.n_heads = N_HEADS, s.heads.n_kv_heads = N_KV_HEADS, s.heads.head_dim = HEAD_DIM;
    s.heads.n_rep = N_HEADS / N_KV_HEADS;
    for (uint32_t i = 0; i < N_QUERIES * QKV_WIDTH; i++) s.q[i] = number(2, i);
    for (uint32_t i = 0; i < KV_SIZE; i++) s.kv[i] = number(3, i);
    for (int b = 0; b < N_BLOCKS; b++) s.table[b] = N_BLOCKS - 1 - b; /* not in the order of memory */
    for (int r = 0; r < N_QUERIES; r++) {
        s.positions[r] = LAST - N_QUERIES + 1 + r;
        for (int h = 0; h < N_HEADS; h++)
            attend(e.value + r * OUT_WIDTH + h * HEAD_DIM, e.slack + r * OUT_WIDTH + h * HEAD_DIM, &s, r, h,
                   d->act);
    }
    const void *qkv = put(p, d->act, s.q, N_QUERIES * QKV_WIDTH);
    kv.data = put(p, d->act, s.kv, KV_SIZE), kv.dtype = d->act, kv.block_tokens = BLOCK_TOKENS;
    rows.n_rows = N_QUERIES, rows.n_seqs = 1, rows.max_blocks = N_BLOCKS, rows.max_position = LAST;
    rows.positions = (const int32_t *)put(p, HW_I32, s.positions, N_QUERIES);
    rows.seqs = (const int32_t *)put(p, HW_I32, s.seqs, N_QUERIES);
    rows.block_tables = (const int32_t *)put(p, HW_I32, s.table, N_BLOCKS);
    void *out = put(p, d->act, nullptr, N_QUERIES * OUT_WIDTH);
    void *scratch = p->memory + p->used;
    if (p->used + hw_cuda_attention_scratch(d, s.heads, N_QUERIES, LAST + 1) > MEMORY_BYTES)
        return hw_fail(p->err, HW_ERR_DEVICE,
                       "device cuda: the proof of attention wants more memory than it has");
    return compare(p, hw_cuda_attention(d, out, qkv, s.heads, &attn, &rows, kv, scratch), out, &e, N_QUERIES,
                   OUT_WIDTH);
}

/* A kernel that hangs keeps the plug-in in use: nothing of it may be unmapped before the process ends. */
void stay_mapped()
{
    Dl_info info;
    static const char here = 0;
    if (dladdr(&here, &info) && info.dli_fname) (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NODELETE);
}

} // namespace

hw_status hw_cuda_prove(hw_cuda_device *c, hw_error *err)
{
    proof p = {};
    const bool waits = c->waits;
    if (hw_proofs_are_off()) return HW_OK;
    p.c = c, p.err = err;
    hw_status st = hw_cuda_take((void **)&p.memory, MEMORY_BYTES, err);
    c->waits = false; /* without a deadline */
    if (!st) st = prove_products(&p);
    if (!st) st = prove_attention(&p);
    c->waits = waits;
    if (c->hangs) stay_mapped();
    else hw_cuda_free(&c->base.device, p.memory);
    /* Callers count what they ask for. */
    c->n_launches = c->n_starts = c->n_allocations = 0;
    c->last = nullptr;
    return st;
}
