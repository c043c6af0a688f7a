#include "kernels/selftest/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

/* The longest number of rows first: it gives what the shorter ones are compared with. On both sides of the tiles of
 * 16 and 32 rows that matrix units have, and few rows, which take other ways. */
static const int row_counts[] = {HW_SUBJECT_ROWS, 33, 17, 16, 5, 2, 1};
enum { N_ROW_COUNTS = sizeof row_counts / sizeof *row_counts };

/* ---- memory of an op */

void *hw_selftest_take(hw_selftest *t, size_t n_bytes)
{
    void *p = NULL;
    if (t->st) return NULL;
    if (t->n_taken < HW_SUBJECT_MAX_TAKEN) p = calloc(n_bytes + 1, 1);
    if (!p) {
        t->st = hw_fail(t->err, HW_ERR_NO_MEMORY, "selftest: no memory for %zu bytes", n_bytes);
        return NULL;
    }
    return t->taken[t->n_taken++] = p;
}

float *hw_selftest_numbers(hw_selftest *t, hw_dtype type, size_t n, float scale)
{
    float *x = hw_selftest_take(t, n * sizeof *x);
    if (x) hw_noise_fill(&t->noise, x, n, type, scale);
    return x;
}

size_t hw_selftest_below(hw_selftest *t, size_t n) { return (size_t)(hw_noise_bits(&t->noise) >> 20) % n; }

/* ---- a subject on a device */

static hw_dtype type_of(const hw_array *a, const hw_device *d)
{
    switch (a->kind) {
    case HW_ARRAY_ACTIVE: return d->act;
    case HW_ARRAY_FLOATS: return HW_F32;
    case HW_ARRAY_CACHE: return a->type;
    case HW_ARRAY_IDS: return HW_I32;
    case HW_ARRAY_KEYS:
    case HW_ARRAY_RESULTS: break;
    }
    return HW_U64;
}

static hw_status make_array(hw_bound *b, int i, hw_error *err)
{
    const hw_array *a = &b->s->arrays[i];
    const hw_dtype type = type_of(a, b->d);
    const bool sampled = b->plain && a->sample;
    const void *start = sampled ? a->plain_start : a->start;
    b->n[i] = sampled && a->row ? a->n / a->row * a->n_sample : sampled ? a->n_sample : a->n;
    b->n_bytes[i] = b->n[i] * hw_dtype_size(type);
    b->image[i] = malloc(b->n_bytes[i] + 1);
    if (a->out) b->got[i] = malloc(b->n_bytes[i] + 1);
    if (!b->image[i] || (a->out && !b->got[i]))
        return hw_fail(err, HW_ERR_NO_MEMORY, "selftest: no memory for %zu bytes", b->n_bytes[i]);
    if (!start) memset(b->image[i], 0xff, b->n_bytes[i]);
    else if (type == HW_I32 || type == HW_U64) memcpy(b->image[i], start, b->n_bytes[i]);
    else hw_convert(b->image[i], type, start, HW_F32, b->n[i]);
    if (a->kind == HW_ARRAY_RESULTS) return b->d->k->host_alloc(b->d, &b->at[i], b->n_bytes[i] + 1, err);
    hw_status st = b->d->k->alloc(b->d, &b->at[i], b->n_bytes[i] + 1, err);
    return st ? st : b->d->k->copy_in(b->d, b->at[i], b->image[i], b->n_bytes[i]);
}

static hw_status make_weight(hw_bound *b, hw_error *err)
{
    const hw_matrix *m = b->plain && b->s->plain_matrix ? b->s->plain_matrix : b->s->matrix;
    if (!m) return HW_OK;
    const hw_weight_piece piece = {.src = m->values,
                                   .dtype = HW_F32,
                                   .stride_out = m->dims.n_in,
                                   .stride_in = 1,
                                   .n_out = m->dims.n_out,
                                   .n_in = m->dims.n_in};
    hw_status st = b->d->k->weight_create(b->d, &b->w, &m->dims, err);
    return st ? st : b->d->k->weight_put(b->d, b->w, &piece, err);
}

hw_status hw_bound_create(hw_bound *b, hw_device *d, const hw_subject *s, bool plain, hw_error *err)
{
    *b = (hw_bound){.d = d, .s = s, .plain = plain};
    hw_status st = s->matmul ? hw_device_choose_matmul(d, s->matmul, err) : HW_OK;
    if (!st) st = make_weight(b, err);
    for (int i = 0; i < s->n_arrays && !st; i++) st = make_array(b, i, err);
    if (!st && s->scratch) st = d->k->alloc(d, &b->scratch, s->scratch(d, s) + 1, err);
    if (st) hw_bound_destroy(b);
    return st;
}

void hw_bound_destroy(hw_bound *b)
{
    for (int i = 0; i < b->s->n_arrays; i++) {
        if (b->s->arrays[i].kind == HW_ARRAY_RESULTS) b->d->k->host_free(b->d, b->at[i]);
        else b->d->k->free(b->d, b->at[i]);
        free(b->image[i]), free(b->got[i]);
    }
    b->d->k->free(b->d, b->scratch);
    b->d->k->weight_destroy(b->d, b->w);
}

static hw_status run(const hw_bound *b, int n)
{
    return b->plain && b->s->plain ? b->s->plain(b, n) : b->s->run(b, n);
}

/* An op that fails says why in `synchronize`, on devices that work behind; elsewhere its status has a name. */
static hw_status wait(hw_bound *b, hw_status st, hw_error *err)
{
    hw_error told = {.rank = -1};
    const hw_status waited = b->d->k->synchronize(b->d, &told);
    if (waited) return hw_fail(err, waited, "%s", told.message);
    return st ? hw_fail(err, st, "the op returned status %d", (int)st) : HW_OK;
}

hw_status hw_bound_run(hw_bound *b, int n, hw_error *err)
{
    const hw_kernels *k = b->d->k;
    hw_status st = HW_OK;
    for (int i = 0; i < b->s->n_arrays && !st; i++) {
        if (!b->s->arrays[i].out) continue;
        if (b->s->arrays[i].kind == HW_ARRAY_RESULTS) memcpy(b->at[i], b->image[i], b->n_bytes[i]);
        else st = k->copy_in(b->d, b->at[i], b->image[i], b->n_bytes[i]);
    }
    if (!st) st = run(b, n);
    if ((st = wait(b, st, err))) return st;
    for (int i = 0; i < b->s->n_arrays && !st; i++) {
        if (!b->s->arrays[i].out) continue;
        if (b->s->arrays[i].kind == HW_ARRAY_RESULTS) memcpy(b->got[i], b->at[i], b->n_bytes[i]);
        else st = k->copy_out(b->d, b->got[i], b->at[i], b->n_bytes[i]);
    }
    return wait(b, st, err);
}

/* The best of a few runs after one to warm up: others use the machine too. Bounded in number, since an op in place
 * works on what the last one left. */
hw_status hw_bound_time(double *seconds, hw_bound *b, int n, hw_error *err)
{
    enum { MOST_RUNS = 40 };
    const double long_enough = 4e-3;
    const uint64_t start = hw_clock_ns();
    *seconds = 0;
    for (int i = 0; i < 3 || (i < MOST_RUNS && hw_seconds_since(start) < long_enough); i++) {
        const uint64_t began = hw_clock_ns();
        hw_status st = wait(b, b->s->run(b, n), err);
        const double took = hw_seconds_since(began);
        if (st) return st;
        if (i == 0 && took > 0.02) return *seconds = took, HW_OK; /* slow enough to be seen in one */
        if (i && (*seconds == 0 || took < *seconds)) *seconds = took;
    }
    return HW_OK;
}

/* ---- an op and its lines */

void hw_selftest_begin(hw_selftest *t, const char *op, const char *variant)
{
    for (int p = 0; p < t->n_paths; p++) {
        t->lines[p] = (hw_selftest_line){.op = op, .path = p, .same_bits = true};
        snprintf(t->lines[p].variant, sizeof t->lines[p].variant, "%s", variant);
    }
}

static void release(hw_selftest *t)
{
    while (t->n_taken) free(t->taken[--t->n_taken]);
}

/* After an error what was wrong before it is still told: it may be why. */
void hw_selftest_end(hw_selftest *t)
{
    for (int p = 0; p < t->n_paths; p++)
        if (t->options.report && (!t->st || t->lines[p].wrong))
            t->options.report(t->options.user, &t->lines[p]);
    release(t);
}

static void add_shape(hw_selftest_line *line, const char *shape)
{
    const size_t n = strlen(line->shapes);
    if (!shape || strstr(line->shapes, shape)) return;
    snprintf(line->shapes + n, sizeof line->shapes - n, "%s%s", n ? "; " : "", shape);
    line->n_shapes++;
}

static void say_failed(hw_selftest_line *line, const hw_subject *s, int n, const hw_error *err)
{
    if (line->wrong) return;
    line->wrong = true, line->same_bits = false;
    snprintf(line->what, sizeof line->what, "%s, %d row%s: %s", s->shape, n, n == 1 ? "" : "s", err->message);
}

static void measure(hw_selftest *t, hw_selftest_line *line, hw_bound *b)
{
    const hw_subject *s = b->s;
    const hw_selftest_limits *limits = &t->limits[line->path];
    double one = 0, many = 0;
    hw_error err = {.rank = -1};
    if (s->time_one ? s->time_one(&one, s, b->d, &err) : hw_bound_time(&one, b, 1, &err)) {
        say_failed(line, s, 1, &err);
        return;
    }
    if (hw_bound_time(&many, b, s->most_rows, &err)) {
        say_failed(line, s, s->most_rows, &err);
        return;
    }
    line->seconds_one = one, line->seconds_many = many;
    const double peak = s->on_matrix_units && limits->matrix > 0 ? limits->matrix : limits->fma;
    if (limits->read > 0 && one > 0) line->share_one = s->bytes_one / one / limits->read;
    if (peak > 0 && many > 0) line->share_many = s->flop_row * s->most_rows / many / peak;
}

/* Outputs of the longest run of the first path, which all others have the bits of. */
typedef struct base {
    char *outputs[HW_SUBJECT_ARRAYS];
    bool wanted, there;
} base;

static void keep(base *kept, const hw_bound *b)
{
    for (int a = 0; a < b->s->n_arrays; a++)
        if (b->s->arrays[a].out) memcpy(kept->outputs[a], b->got[a], b->n_bytes[a]);
    kept->there = true;
}

/* One path, for every number of rows. */
static void check_path(hw_selftest *t, hw_selftest_line *line, const hw_subject *s, const hw_bound *plain,
                       base *kept)
{
    const hw_selftest_path *path = &t->paths[line->path];
    hw_bound b;
    if (t->options.begin) t->options.begin(t->options.user, line->op, line->variant, path->name);
    if ((t->st = hw_bound_create(&b, path->device, s, false, t->err))) return;
    line->wants_bits = s->same_bits || (s->exact && t->promises);
    if (s->most_rows > line->most_rows) line->most_rows = s->most_rows;
    add_shape(line, s->shape);
    for (int i = -1; i < N_ROW_COUNTS; i++) {
        hw_error err = {.rank = -1};
        const int n = i < 0 ? s->most_rows : row_counts[i];
        if (i >= 0 && n >= s->most_rows) continue;
        if (hw_bound_run(&b, n, &err)) {
            say_failed(line, s, n, &err);
            break;
        }
        hw_selftest_compare(line, t, &b, plain, kept->there ? kept->outputs : NULL, n);
        if (kept->wanted && !kept->there) keep(kept, &b);
    }
    if (s->timed && t->options.timed && !line->wrong) measure(t, line, &b);
    hw_bound_destroy(&b);
}

void hw_selftest_check(hw_selftest *t, const hw_subject *s)
{
    base kept = {.wanted = t->promises};
    hw_bound plain;
    if (t->st || (t->st = hw_bound_create(&plain, t->reference, s, true, t->err))) return;
    t->st = hw_bound_run(&plain, s->most_rows, t->err);
    for (int a = 0; a < s->n_arrays && kept.wanted && !t->st; a++)
        if (s->arrays[a].out) kept.outputs[a] = hw_selftest_take(t, s->arrays[a].n * sizeof(uint64_t));
    for (int p = 0; p < t->n_paths && !t->st; p++) {
        check_path(t, &t->lines[p], s, &plain, &kept);
        hw_context(t->err, t->st, "%s on %s", t->lines[p].op, t->paths[p].name);
    }
    hw_bound_destroy(&plain);
}
