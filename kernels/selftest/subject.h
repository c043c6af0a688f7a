/* Internal to the self-test. A subject is an op with its inputs and outputs, described once and run by the plain loops
 * and on every path. The files of ops describe subjects; subject.c binds them to devices, runs and measures them. */
#ifndef HW_KERNELS_SELFTEST_SUBJECT_H
#define HW_KERNELS_SELFTEST_SUBJECT_H

#include "kernels/selftest/noise.h"
#include "kernels/selftest/selftest.h"

enum { HW_SUBJECT_ROWS = 64, HW_SUBJECT_ARRAYS = 10, HW_SUBJECT_MAX_TAKEN = 128 };

/* The memory and the element type of an array. */
typedef enum hw_array_kind {
    HW_ARRAY_ACTIVE,  /* D, numbers of the device's activation type */
    HW_ARRAY_FLOATS,  /* D, float32 */
    HW_ARRAY_CACHE,   /* D, of `type` */
    HW_ARRAY_IDS,     /* D, int32 */
    HW_ARRAY_KEYS,    /* D, uint64 */
    HW_ARRAY_RESULTS, /* from host_alloc, uint64 */
} hw_array_kind;

typedef struct hw_array {
    hw_array_kind kind;
    hw_dtype type; /* of a cache */
    const void
        *start; /* [n] float, int32 or uint64 on the host; NULL: all bits set, which is NaN in every type */
    size_t n;
    bool out;            /* written by the op: set to `start` before every run, and compared */
    size_t row;          /* numbers per row; 0: no rows, and compared only after the longest run */
    double slack;        /* allowed difference before a number is rounded */
    const float *slacks; /* [rows, plain row]: replaces `slack` per number; or NULL */
    double relative;     /* integers: allowed relative difference */
    /* If the plain loops compute only some numbers of a row: which, and their own `start`. */
    const int *sample; /* [n_sample], ascending; NULL: all */
    size_t n_sample;
    const void *plain_start;
} hw_array;

/* A matrix to put on devices, as one array of float32. */
typedef struct hw_matrix {
    hw_weight_dims dims;
    float *values; /* [n_out, n_in], numbers of its type */
} hw_matrix;

/* A subject on a device. */
typedef struct hw_subject hw_subject;
typedef struct hw_bound {
    hw_device *d;
    const hw_subject *s;
    bool plain;
    void *at[HW_SUBJECT_ARRAYS]; /* passed to the op */
    size_t n[HW_SUBJECT_ARRAYS], n_bytes[HW_SUBJECT_ARRAYS];
    char *image[HW_SUBJECT_ARRAYS]; /* contents before a run */
    char *got[HW_SUBJECT_ARRAYS];   /* contents after it, of outputs */
    hw_weight *w;
    void *scratch;
} hw_bound;

/* Runs n rows. */
typedef hw_status hw_subject_run(const hw_bound *b, int n);

struct hw_subject {
    hw_subject_run *run, *plain; /* plain NULL: `run` on the reference device */
    const char *shape;
    int most_rows;
    hw_array arrays[HW_SUBJECT_ARRAYS];
    int n_arrays;
    const hw_matrix *matrix, *plain_matrix;                     /* NULL: none */
    hw_matmul matmul;                                           /* AUTO: the device's default */
    size_t (*scratch)(const hw_device *d, const hw_subject *s); /* NULL: none */
    bool exact;      /* bits of the plain loops are promised on devices that promise bits */
    bool same_bits;  /* and on all others */
    const void *own; /* further data for `run` */
    bool timed;
    double bytes_one, flop_row; /* bytes of a run of one row, FLOP of each of many rows; 0: no share */
    bool on_matrix_units;       /* the operations run on matrix units */
    /* Times one row, if the subject is too small to measure memory bandwidth; or NULL. */
    hw_status (*time_one)(double *seconds, const hw_subject *s, hw_device *d, hw_error *err);
};

/* A running self-test. The first error is kept; later calls do nothing. */
typedef struct hw_selftest {
    const hw_selftest_path *paths;
    int n_paths;
    hw_selftest_shapes shapes;
    hw_selftest_options options;
    hw_device *reference;
    hw_dtype act;
    bool promises; /* the paths make the promises of kernels.h about bits */
    uint64_t noise;
    hw_selftest_limits *limits; /* [n_paths] */
    hw_selftest_line *lines;    /* [n_paths] of the current op */
    void *taken[HW_SUBJECT_MAX_TAKEN];
    int n_taken;
    hw_status st;
    hw_error *err;
} hw_selftest;

/* begin starts an op, check adds a subject to its lines, and end reports them and frees memory taken in between. */
void hw_selftest_begin(hw_selftest *t, const char *op, const char *variant);
void hw_selftest_check(hw_selftest *t, const hw_subject *s);
void hw_selftest_end(hw_selftest *t);

/* Host memory until the end of the op. NULL once something has failed: check before writing to it. */
void *hw_selftest_take(hw_selftest *t, size_t n_bytes);
/* Random numbers of the type in -scale .. scale. NULL as above. */
float *hw_selftest_numbers(hw_selftest *t, hw_dtype type, size_t n, float scale);
/* A random number of 0 to n - 1. */
size_t hw_selftest_below(hw_selftest *t, size_t n);

/* The best time of several runs of `n` rows of a bound subject. */
hw_status hw_bound_time(double *seconds, hw_bound *b, int n, hw_error *err);
hw_status hw_bound_create(hw_bound *b, hw_device *d, const hw_subject *s, bool plain, hw_error *err);
/* Resets the outputs, runs n rows, then reads the outputs. */
hw_status hw_bound_run(hw_bound *b, int n, hw_error *err);
void hw_bound_destroy(hw_bound *b);

/* compare.c: compares n rows of `got` with those of the plain loops and, if not NULL, with `base`, the outputs of the
 * first path, and adds the result to the line. */
void hw_selftest_compare(hw_selftest_line *line, const hw_selftest *t, const hw_bound *got,
                         const hw_bound *plain, char *const *base, int n);

/* The ops, one file each. */
void hw_selftest_rows(hw_selftest *t);
void hw_selftest_products(hw_selftest *t);
void hw_selftest_fused(hw_selftest *t);
void hw_selftest_attention(hw_selftest *t);
void hw_selftest_sampling(hw_selftest *t);

#endif
