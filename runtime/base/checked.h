/* Size arithmetic with overflow checks. All sizes that come from a file or a user go through these: the known heap
 * overflows of model loaders each come from one unchecked product. */
#ifndef HW_RUNTIME_BASE_CHECKED_H
#define HW_RUNTIME_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local. False when a * b (or a + b) does not fit in 64 bits; then *out must not be used. */
static inline bool hw_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool hw_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Local. The product of `n` factors, or SIZE_MAX when it does not fit: a size that no allocator can satisfy. */
static inline size_t hw_size_product(const size_t *factors, size_t n)
{
    size_t product = 1;
    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(product, factors[i], &product)) return SIZE_MAX;
    return product;
}
#define HW_SIZE(...)                                                                                         \
    hw_size_product((const size_t[]){__VA_ARGS__}, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t))

static inline size_t hw_round_up(size_t n, size_t granule) { return (n + granule - 1) / granule * granule; }

#endif
