#include "parallel/combine.h"

#include <stdint.h>

enum { BLOCK_BYTES = 1024 };

/* `out` may be an operand: iterations are independent even then. */
#ifdef __clang__
#define INDEPENDENT /* the compiler checks for overlap at run time */
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
#define FOR_EACH INDEPENDENT for (size_t i = 0; i < count; i++)

static void add_f32(float *out, const float *a, const float *b, size_t count)
{
    FOR_EACH out[i] = a[i] + b[i];
}

/* Each sum is rounded once. */
static void add_bf16(uint16_t *out, const uint16_t *a, const uint16_t *b, size_t count)
{
    FOR_EACH out[i] = hw_f32_to_bf16(hw_bf16_to_f32(a[i]) + hw_bf16_to_f32(b[i]));
}

static void add_f16(uint16_t *out, const uint16_t *a, const uint16_t *b, size_t count)
{
    FOR_EACH out[i] = hw_f32_to_f16(hw_f16_to_f32(a[i]) + hw_f16_to_f32(b[i]));
}

static void add_u64(uint64_t *out, const uint64_t *a, const uint64_t *b, size_t count)
{
    FOR_EACH out[i] = a[i] + b[i];
}

static void max_u64(uint64_t *out, const uint64_t *a, const uint64_t *b, size_t count)
{
    FOR_EACH out[i] = a[i] > b[i] ? a[i] : b[i];
}

void hw_combine(void *out, const void *a, const void *b, size_t count, hw_dtype type, hw_reduce op)
{
    if (type == HW_F32) add_f32(out, a, b, count);
    else if (type == HW_BF16) add_bf16(out, a, b, count);
    else if (type == HW_F16) add_f16(out, a, b, count);
    else if (op == HW_SUM) add_u64(out, a, b, count);
    else max_u64(out, a, b, count);
}

hw_tree hw_tree_of(int n_ranks)
{
    hw_tree t = {.n_nodes = 1};
    while (2 * t.n_nodes <= n_ranks) t.n_nodes *= 2;
    t.n_pairs = n_ranks - t.n_nodes;
    return t;
}

/* One block of every vector, summed along the tree. */
typedef struct walk {
    const void *const *x;
    hw_tree tree;
    size_t offset, count; /* of the block: bytes, elements */
    hw_dtype type;
    hw_reduce op;
} walk;

static const void *rank_block(const walk *w, int rank) { return (const char *)w->x[rank] + w->offset; }

/* Sums nodes first .. first + n - 1. Returns `into`, or the operand itself if there is only one. */
static const void *add_nodes(const walk *w, int first, int n, char *into)
{
    _Alignas(64) char right[BLOCK_BYTES];
    if (n == 1 && first >= w->tree.n_pairs) return rank_block(w, first + w->tree.n_pairs);
    const void *a, *b;
    if (n == 1) {
        a = rank_block(w, 2 * first);
        b = rank_block(w, 2 * first + 1);
    } else {
        a = add_nodes(w, first, n / 2, into);
        b = add_nodes(w, first + n / 2, n / 2, right);
    }
    hw_combine(into, a, b, w->count, w->type, w->op);
    return into;
}

void hw_combine_tree(void *out, const void *const *x, int n, size_t count, hw_dtype type, hw_reduce op)
{
    if (n == 2) {
        hw_combine(out, x[0], x[1], count, type, op);
        return;
    }
    const size_t size = hw_dtype_size(type), block = BLOCK_BYTES / size;
    walk w = {.x = x, .tree = hw_tree_of(n), .type = type, .op = op};
    for (size_t i = 0; i < count; i += block) {
        _Alignas(64) char left[BLOCK_BYTES];
        w.offset = i * size;
        w.count = count - i < block ? count - i : block;
        const void *sum = add_nodes(&w, 0, w.tree.n_nodes, left);
        __builtin_memcpy((char *)out + w.offset, sum, w.count * size);
    }
}
