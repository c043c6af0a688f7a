/* VDPBF16PS adds two products of a pair of bfloat16 numbers to a float32, the upper one first, each as a multiply-add
 * that rounds to nearest and flushes denormals, whatever the thread's rounding is (Intel's manual, volume 2; AMD's does
 * the same). A tile's sums want two chains, over even and over odd inputs, so pairs are of inputs that lie two apart:
 * weights are crossed on the way from memory, inputs when they become terms (hw_matrix_unit.crossed). */
#include <immintrin.h>

#include "kernels/cpu/matrix_unit.h"

/* Two chains of so many rows and two groups are 24 registers; weights and inputs need the rest. */
enum { DOT_ROWS = 6, STREAM_ROWS = 8, LINE = 64, BLOCK_BYTES = 1024, TERM_NUMBERS = HW_UNIT_ROWS * 32 };

#define INLINE static inline __attribute__((always_inline))

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
}

/* Four inputs of 16 outputs, in two lines of pairs, as a line of the even two and a line of the odd two; the earlier
 * input in the upper half. */
INLINE void cross(__m512bh crossed[2], const char *lines)
{
    const __m512i even = _mm512_set_epi16(30, 62, 28, 60, 26, 58, 24, 56, 22, 54, 20, 52, 18, 50, 16, 48, 14,
                                          46, 12, 44, 10, 42, 8, 40, 6, 38, 4, 36, 2, 34, 0, 32),
                  one = _mm512_set1_epi16(1);
    const __m512i low = _mm512_load_si512(lines), high = _mm512_load_si512(lines + LINE);
    crossed[0] = (__m512bh)_mm512_permutex2var_epi16(low, even, high);
    crossed[1] = (__m512bh)_mm512_permutex2var_epi16(low, _mm512_add_epi16(even, one), high);
}

INLINE __m512bh pair_of(const uint16_t *x)
{
    int pair;
    __builtin_memcpy(&pair, x, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* One term of a block. `rows` and `groups` are constants at each call, so that the chains live in registers. */
INLINE void add_block(float *sums, size_t stride, const uint16_t *const x[DOT_ROWS], const char *const w[2],
                      const char *const ahead[2], int rows, int groups, bool stream)
{
    __m512 chain[2][DOT_ROWS][2];
    for (int c = 0; c < 2; c++)
        for (int r = 0; r < rows; r++)
            for (int g = 0; g < groups; g++) chain[c][r][g] = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int k = 0; k < 32; k += 4) {
        __m512bh weights[2][2];
        for (int g = 0; g < groups; g++) {
            cross(weights[g], w[g] + k / 2 * LINE);
            if (stream) __builtin_prefetch(ahead[g] + k / 2 * LINE, 0, 3);
            if (stream) __builtin_prefetch(ahead[g] + k / 2 * LINE + LINE, 0, 3);
        }
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < 2; c++) {
                const __m512bh pair = pair_of(x[r] + k + 2 * c);
                for (int g = 0; g < groups; g++)
                    chain[c][r][g] = _mm512_dpbf16_ps(chain[c][r][g], pair, weights[g][c]);
            }
    }
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++) {
            float *sum = sums + (size_t)r * stride + g * 16;
            const __m512 both = _mm512_add_ps(chain[0][r][g], chain[1][r][g]);
            _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), both));
        }
}

/* Rows `first` .. `first` + `rows` - 1 of the task. */
INLINE void run_rows(const hw_unit_task *t, int first, int rows, int groups, bool stream)
{
    const uint16_t *x[DOT_ROWS];
    const char *w[2] = {t->w, t->w + t->group_bytes};
    for (int r = 0; r < rows; r++) {
        const int row = first + r;
        x[r] = t->x + (row >= HW_UNIT_ROWS ? t->x_tile : 0) + row % HW_UNIT_ROWS * 32;
    }
    float *sums = t->sums + (size_t)first * t->sums_stride;
    for (size_t b = 0; b < t->n_blocks; b++) {
        const char *ahead[2];
        for (int g = 0; g < groups; g++) ahead[g] = w[g] + HW_PREFETCH_BYTES;
        if (groups == 2 && b + HW_PREFETCH_BYTES / BLOCK_BYTES >= t->n_left) ahead[0] += 2 * t->group_bytes;
        for (int term = 0; term < t->terms; term++) {
            add_block(sums, t->sums_stride, x, w, ahead, rows, groups, stream);
            for (int r = 0; r < rows; r++) x[r] += TERM_NUMBERS;
        }
        for (int g = 0; g < groups; g++) w[g] += BLOCK_BYTES;
    }
}

#define CASE(rows)                                                                                           \
    case rows:                                                                                               \
        if (t->groups == 2 && stream) run_rows(t, first, rows, 2, true);                                     \
        else if (t->groups == 2) run_rows(t, first, rows, 2, false);                                         \
        else if (stream) run_rows(t, first, rows, 1, true);                                                  \
        else run_rows(t, first, rows, 1, false);                                                             \
        break

static void run(const hw_unit_task *t)
{
    const int n_parts = (t->n_rows + DOT_ROWS - 1) / DOT_ROWS;
    for (int part = 0; part < n_parts; part++) {
        const int first = t->n_rows * part / n_parts;
        /* Many rows find their weights in a cache, and so does whoever comes second. */
        const bool stream = t->n_rows <= STREAM_ROWS && !part;
        switch (t->n_rows * (part + 1) / n_parts - first) {
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
        }
    }
}

/* As many chains as the products use. */
static uint64_t peak(uint64_t n_rounds)
{
    enum { CHAINS = 24 };
    __m512 chain[CHAINS];
    const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3580);
#pragma GCC unroll 24
    for (int c = 0; c < CHAINS; c++) chain[c] = _mm512_set1_ps((float)c);
    for (uint64_t i = 0; i < n_rounds; i++)
#pragma GCC unroll 24
        for (int c = 0; c < CHAINS; c++) chain[c] = _mm512_dpbf16_ps(chain[c], a, b);
#pragma GCC unroll 24
    for (int c = 0; c < CHAINS; c++) __asm__ volatile("" : : "v"(chain[c])); /* none can be left out */
    return n_rounds * CHAINS * 2 * 32;
}

const hw_matrix_unit hw_matrix_unit_dot = {
    .usable = usable, .run = run, .peak = peak, .min_rows = {6, 2}, .panel_blocks = 16, .crossed = true};
