/* Compares every op of a device with the plain loops of kernels/reference, on random inputs with a model's shapes.
 * `headway selftest` prints the results, and the tests of kernels assert them. All functions are Local. */
#ifndef HW_KERNELS_SELFTEST_SELFTEST_H
#define HW_KERNELS_SELFTEST_SELFTEST_H

#include "kernels/kernels.h"

/* Sizes of a whole model, on one device. */
typedef struct hw_selftest_shapes {
    int dim, ffn_dim, vocab_size;
    int n_heads, n_kv_heads, head_dim;
    int rotary_half; /* pairs of a head that are rotated; 0: none */
    bool gated;      /* gate and up are one matrix */
    float norm_eps, attn_scale;
} hw_selftest_shapes;

/* A device under test. */
typedef struct hw_selftest_path {
    const char *name;  /* for messages: "cpu amx, 2 threads"; borrowed */
    hw_device *device; /* borrowed; used exclusively, and its arithmetic is changed */
} hw_selftest_path;

/* The device's peaks, to which shares refer; 0: not measured. */
typedef struct hw_selftest_limits {
    double read, fma, matrix;
} hw_selftest_limits;

/* The result for one op on one path. Plain. */
typedef struct hw_selftest_line {
    const char *op;   /* as in hw_kernels; static */
    char variant[48]; /* types and arithmetic: "bfloat16, bf16x3" */
    char shapes[96];  /* shapes that ran: "[512, 256]; [256, 256]" */
    int n_shapes;
    int path;        /* index of the path */
    int most_rows;   /* 1 to this many rows */
    bool wants_bits; /* the bits of the plain loops are promised */
    bool same_bits;  /* the bits are the same */
    /* Of the number with the largest error relative to its limit. */
    double error, allowed;
    bool wrong;
    char what[256]; /* what is wrong */
    /* Best time of a call with one row, and with most_rows; 0: not measured. */
    double seconds_one, seconds_many;
    /* Bytes of one row as a share of the read peak, operations of many as a share of the arithmetic peak; 0: not
     * measured. */
    double share_one, share_many;
} hw_selftest_line;

typedef struct hw_selftest_options {
    uint64_t seed; /* of the random numbers */
    bool timed;    /* also measure; shares need devices with peaks */
    /* Called before an op runs on a path, and with the result; either may be NULL. */
    void (*begin)(void *user, const char *op, const char *variant, const char *path);
    void (*report)(void *user, const hw_selftest_line *line);
    void *user;
} hw_selftest_options;

/* Checks every op of the devices of `paths`, on each of them. All paths must have the same activation type and the same
 * ops. A wrong result, or an op that fails, is a line with `wrong`, not an error. Three things are compared:
 *   - each result with that of the plain loops: bit by bit where that is promised (on the CPU: products, copies,
 *     additions and everything that sampling computes), else within the rounding tolerance of the op's check;
 *   - on the CPU, all bits with those of the first path, for any number of rows;
 *   - the memory behind the last row, which must be unchanged.
 * `limits` [n_paths] is filled in if not NULL and `timed`. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_selftest_run(const hw_selftest_path *paths, int n_paths, const hw_selftest_shapes *shapes,
                          const hw_selftest_options *options, hw_selftest_limits *limits, hw_error *err);

#endif
