/* Every op of a device against the plain loops of kernels/reference, on random inputs of a model's shapes: what
 * `headway selftest` prints and the tests of kernels assert. All functions are Local. */
#ifndef HW_KERNELS_SELFTEST_SELFTEST_H
#define HW_KERNELS_SELFTEST_SELFTEST_H

#include "kernels/kernels.h"

/* Sizes of a model as plain numbers; all of it on one device. */
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
    hw_device *device; /* borrowed; nothing else uses it meanwhile, and its arithmetic is chosen anew */
} hw_selftest_path;

/* Rates that shares refer to, from the device's own peaks; 0: not measured. */
typedef struct hw_selftest_limits {
    double read, fma, matrix;
} hw_selftest_limits;

/* What was found about one op on one path. Plain. */
typedef struct hw_selftest_line {
    const char *op;   /* as in hw_kernels; static */
    char variant[48]; /* types and arithmetic: "bfloat16, bf16x3" */
    char shapes[96];  /* what it ran on: "[512, 256]; [256, 256]" */
    int n_shapes;
    int path;        /* index of the path */
    int most_rows;   /* 1 to this many rows */
    bool wants_bits; /* the plain loops' bits are promised */
    bool same_bits;  /* it has them */
    /* At the number that came nearest to its limit, or passed it furthest. */
    double error, allowed;
    bool wrong;
    char what[256]; /* what is wrong */
    /* Of a call, at best; 0: not measured. Of one row, and of most_rows. */
    double seconds_one, seconds_many;
    /* Bytes of one row as a share of reads, operations of many as a share of arithmetic; 0: not measured. */
    double share_one, share_many;
} hw_selftest_line;

typedef struct hw_selftest_options {
    uint64_t seed; /* other random numbers */
    bool timed;    /* measure as well; wants devices with peaks for shares */
    /* Called before an op runs on a path, and with what was found; either may be NULL. */
    void (*begin)(void *user, const char *op, const char *variant, const char *path);
    void (*report)(void *user, const hw_selftest_line *line);
    void *user;
} hw_selftest_options;

/* Checks every op that the devices of `paths` have, on each of them. The paths have activations of one type, and
 * tables with the same ops. A result that is wrong, or an op that fails, is a line with `wrong`, not an error.
 * Three things are compared:
 *   - each result with the plain loops': to the bit where that is promised (on the CPU: products, copies, additions
 *     and everything that sampling computes), else within what rounding allows, see the op's check;
 *   - on the CPU, all bits with those of the first path, for any number of rows;
 *   - what lies behind the rows that were asked for: it stays what it was.
 * `limits` [n_paths] is filled in where not NULL and `timed`. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_selftest_run(const hw_selftest_path *paths, int n_paths, const hw_selftest_shapes *shapes,
                          const hw_selftest_options *options, hw_selftest_limits *limits, hw_error *err);

#endif
