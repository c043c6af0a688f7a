#include "kernels/cpu/prove.h"

#include <fenv.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/guard.h"

/* The plain loops take most of the time, so rows of X and of W repeat, with periods that no tile, vector or group has, so
 * that reading from the wrong place gives a different number. */
enum { N_X = 5, N_W = 5, N_IN = 45, N_OUT = 37, MAX_ROWS = 33, N_ROW_COUNTS = 5 };

/* Cuts of a block of 32 plus part of one, nothing, a block, one input, a few; the tree over cuts has missing branches. */
static const size_t cuts[HW_N_CUTS + 1] = {0, 37, 37, 38, 38, 38, 38, 38, N_IN};

static const struct product {
    hw_dtype dtype;
    hw_matmul matmul;
    int n_rows[N_ROW_COUNTS]; /* 0: none */
} products[] = {
    {HW_BF16, HW_MATMUL_BF16X3, {1, 3, 6, 17, MAX_ROWS}},
    {HW_BF16, HW_MATMUL_BF16, {1, 3, 6, 17, MAX_ROWS}},
    {HW_BF16, HW_MATMUL_FLOAT32, {1, 3, 17, MAX_ROWS}},
    {HW_F16, HW_MATMUL_FLOAT32, {1, 3}},
    {HW_F32, HW_MATMUL_FLOAT32, {1, 17}},
};
enum { N_PRODUCTS = sizeof products / sizeof *products };

typedef struct numbers {
    float x[N_X][N_IN], w[N_W][N_IN], bias[N_W];
    float want[HW_MATMUL_BF16 + 1][N_X][N_W]; /* in each arithmetic */
} numbers;

typedef struct proof_run {
    const numbers *n;
    hw_device *d;
    hw_weight *w;
    const struct product *product;
    int max_rows;
    volatile int n_rows; /* of the product that runs now; 0: W is being put */
    _Alignas(64) float x[MAX_ROWS][N_IN];
    _Alignas(64) float out[MAX_ROWS][N_OUT];
    float bias[N_OUT];
    hw_proof *proof;
} proof_run;

/* ---- numbers */

static uint32_t next(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

static float with_bits(float x, uint32_t kept, uint32_t set)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u & kept) | set;
    memcpy(&x, &u, sizeof u);
    return x;
}

/* Weights that every type represents exactly, and inputs of 24 random bits: sums round at every step, so that another
 * order of additions gives different bits. */
static void make_numbers(numbers *n)
{
    uint32_t state = 1;
    for (int o = 0; o < N_W; o++) {
        for (int k = 0; k < N_IN; k++) n->w[o][k] = (float)((int)(next(&state) >> 24) - 128) * 0x1p-6f;
        n->bias[o] = (float)(int32_t)next(&state) * 0x1p-31f;
    }
    for (int r = 0; r < N_X; r++)
        for (int k = 0; k < N_IN; k++) n->x[r][k] = (float)(int32_t)next(&state) * 0x1p-29f;
    for (int k = 0; k < N_IN; k++) {
        /* halfway between two bfloat16: ties */
        n->x[3][k] = with_bits(n->x[3][k], 0xffff0000u, 0x8000u);
#if defined(__x86_64__) || defined(__aarch64__)
        /* so small that terms are flushed; denormals.h knows no way on other processors */
        n->x[4][k] *= 0x1p-122f;
#endif
    }
}

/* ---- the plain loops */

static hw_status put(hw_device *d, hw_weight *w, const numbers *n, size_t first_out, hw_error *err)
{
    const size_t left = d->k->weight_dims(w)->n_out - first_out;
    const hw_weight_piece piece = {.src = n->w,
                                   .dtype = HW_F32,
                                   .stride_out = N_IN,
                                   .stride_in = 1,
                                   .first_out = first_out,
                                   .n_out = left < N_W ? left : N_W,
                                   .n_in = N_IN};
    return d->k->weight_put(d, w, &piece, err);
}

static hw_weight_dims dims_of(size_t n_out, hw_dtype dtype)
{
    hw_weight_dims dims = {.n_out = n_out, .n_in = N_IN, .format = hw_format_plain(dtype)};
    memcpy(dims.cuts, cuts, sizeof cuts);
    return dims;
}

static hw_status work_out(numbers *n, hw_error *err)
{
    hw_device *plain = NULL;
    hw_weight *w = NULL;
    const hw_weight_dims dims = dims_of(N_W, HW_BF16);
    hw_status st = hw_reference_device_create(&plain, err);
    if (!st) st = plain->k->weight_create(plain, &w, &dims, err);
    if (!st) st = put(plain, w, n, 0, err);
    for (int m = HW_MATMUL_FLOAT32; m <= HW_MATMUL_BF16 && !st; m++) {
        st = hw_device_choose_matmul(plain, (hw_matmul)m, err);
        if (!st) st = plain->k->matmul(plain, n->want[m], n->x, w, n->bias, N_X);
    }
    if (plain) plain->k->weight_destroy(plain, w);
    hw_device_destroy(plain);
    return st;
}

/* ---- the device */

static void fail(proof_run *run, const char *reason, const char *what)
{
    const struct product *p = run->product;
    snprintf(run->proof->reason, sizeof run->proof->reason, "%s", reason);
    if (run->n_rows)
        snprintf(run->proof->details, sizeof run->proof->details, "%s weights in %s, %d row%s%s",
                 hw_dtype_name(p->dtype), hw_matmul_name(p->matmul), run->n_rows, run->n_rows > 1 ? "s" : "",
                 what);
    else
        snprintf(run->proof->details, sizeof run->proof->details, "putting %s weights in place%s",
                 hw_dtype_name(p->dtype), what);
}

static bool same_bits(proof_run *run)
{
    for (int r = 0; r < run->n_rows; r++)
        for (int o = 0; o < N_OUT; o++) {
            uint32_t got, want;
            memcpy(&got, &run->out[r][o], sizeof got);
            memcpy(&want, &run->n->want[run->product->matmul][r % N_X][o % N_W], sizeof want);
            if (got == want) continue;
            char what[64];
            snprintf(what, sizeof what, ": [%d, %d] is %08x, wanted %08x", r, o, got, want);
            fail(run, "wrong bits", what);
            return false;
        }
    return true;
}

/* The part that may not return. Ops do not allocate or lock here. */
static void multiply(void *arg)
{
    proof_run *run = arg;
    hw_device *d = run->d;
    hw_status st = HW_OK;
    for (size_t o = 0; o < N_OUT && !st; o += N_W) st = put(d, run->w, run->n, o, NULL);
    for (int i = 0; i < N_ROW_COUNTS && !st; i++) {
        const int n = run->product->n_rows[i];
        if (!n || n > run->max_rows) continue;
        run->n_rows = n;
        memset(run->out, 0xff, sizeof run->out);
        st = d->k->matmul(d, run->out, run->x, run->w, run->bias, n);
        if (!st && !same_bits(run)) return;
    }
    if (st) fail(run, "an error", "");
    run->proof->passed = !st;
}

static hw_status prove_product(proof_run *run, const struct product *p, hw_error *err)
{
    const hw_weight_dims dims = dims_of(N_OUT, p->dtype);
    run->product = p, run->n_rows = 0, run->proof->passed = false;
    hw_status st = hw_device_choose_matmul(run->d, p->matmul, err); /* before there are weights */
    if (!st) st = run->d->k->weight_create(run->d, &run->w, &dims, err);
    if (st) return st;
    const int signal = hw_guarded(multiply, run);
    if (signal) {
        run->proof->passed = false;
        fail(run, hw_guarded_signal_name(signal), "");
    }
    run->d->k->weight_destroy(run->d, run->w);
    return HW_OK;
}

hw_status hw_cpu_prove(hw_proof *out, hw_device *d, int max_rows, hw_error *err)
{
    numbers n;
    proof_run run = {.n = &n, .d = d, .max_rows = max_rows ? max_rows : MAX_ROWS, .proof = out};
    fenv_t before; /* the caller may have set another rounding mode: matrix units always round to nearest */
    *out = (hw_proof){.passed = true};
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    make_numbers(&n);
    hw_status st = work_out(&n, err);
    for (int r = 0; r < MAX_ROWS; r++) memcpy(run.x[r], n.x[r % N_X], sizeof run.x[r]);
    for (int o = 0; o < N_OUT; o++) run.bias[o] = n.bias[o % N_W];
    for (int i = 0; i < N_PRODUCTS && out->passed && !st; i++) st = prove_product(&run, &products[i], err);
    fesetenv(&before);
    return st;
}
