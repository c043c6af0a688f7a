#include "launch/report/selftest.h"

#include <string.h>

#include "launch/report/output.h"
#include "launch/report/table.h"
#include "launch/version.h"

/* ---- for people */

static void put_time(hw_table *t, double seconds)
{
    if (seconds > 0) hw_table_text(t, "%.*f", seconds < 1e-4 ? 1 : 0, 1e6 * seconds);
    else hw_table_text(t, "%s", "");
}

static void put_share(hw_table *t, double share)
{
    if (share > 0) hw_table_text(t, "%.0f %%", 100 * share);
    else hw_table_text(t, "%s", "");
}

/* The first, and how many there are besides. */
static void put_shapes(hw_table *t, const hw_selftest_line *l)
{
    const char *end = strchr(l->shapes, ';');
    if (end) hw_table_text(t, "%.*s and %d more", (int)(end - l->shapes), l->shapes, l->n_shapes - 1);
    else hw_table_text(t, "%s", l->shapes);
}

static void fill_row(hw_table *t, const hw_selftest_line *l)
{
    hw_table_text(t, "%s%s%s", l->op, l->variant[0] ? ", " : "", l->variant);
    put_shapes(t, l);
    hw_table_text(t, "1-%d", l->most_rows);
    if (l->same_bits) hw_table_text(t, "same bits");
    else hw_table_text(t, "%.2g", l->error);
    if (l->wants_bits) hw_table_text(t, "none");
    else hw_table_text(t, "%.2g", l->allowed);
    hw_table_text(t, "%s", l->wrong ? "WRONG" : "ok");
    put_time(t, l->seconds_one);
    put_share(t, l->share_one);
    put_time(t, l->seconds_many);
    put_share(t, l->share_many);
}

static hw_status print_path(const hw_selftest_found *f, int path, hw_error *err)
{
    static const hw_column columns[] = {
        {"", "op"}, {"", "on"},        {"", "rows"},     {"", "largest error"}, {"", "allowed"},
        {"", ""},   {"", "us, 1 row"}, {"", "of reads"}, {"", "us, most rows"}, {"", "of arithmetic"}};
    const hw_selftest_limits *l = &f->limits[path];
    hw_status st = hw_print(err, "\n%s", f->names[path]);
    if (!st && l->read > 0) st = hw_print(err, ": reads %.3g GB/s", 1e-9 * l->read);
    if (!st && l->fma > 0) st = hw_print(err, ", multiply-adds %.3g GFLOP/s", 1e-9 * l->fma);
    if (!st && l->matrix > 0) st = hw_print(err, ", bfloat16 %.4g GFLOP/s", 1e-9 * l->matrix);
    if (!st) st = hw_print(err, "\n");
    if (st) return st;
    hw_table t = hw_table_begin(columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < f->n_lines; i++)
        if (f->lines[i].path == path) fill_row(&t, &f->lines[i]);
    if (t.failed) st = hw_fail(err, HW_ERR_NO_MEMORY, "selftest: no memory for its table");
    else hw_table_write_text(&t, stdout);
    hw_table_free(&t);
    return st;
}

static hw_status print_wrong(const hw_selftest_found *f, hw_error *err)
{
    hw_status st = f->n_wrong ? hw_print(err, "\nWrong:\n") : HW_OK;
    for (int i = 0; i < f->n_lines && !st; i++) {
        const hw_selftest_line *l = &f->lines[i];
        if (l->wrong)
            st = hw_print(err, "  %s%s%s on %s: %s\n", l->op, l->variant[0] ? ", " : "", l->variant,
                          f->names[l->path], l->what);
    }
    return st;
}

hw_status hw_selftest_print(const hw_selftest_found *f, hw_error *err)
{
    const hw_selftest_shapes *s = &f->shapes;
    hw_status st = hw_print(
        err,
        "headway %s (%s)\n%s, %d of %d cores, %s\nshapes of %s: width %d, MLP %d, %d/%d heads of %d, "
        "vocabulary %d; seed %llu\n",
        HW_VERSION, hw_build_commit(), f->host.cpu, f->host.n_usable, f->host.n_cores, f->host.instructions,
        f->model ? f->model : "the demo model", s->dim, s->ffn_dim, s->n_heads, s->n_kv_heads, s->head_dim,
        s->vocab_size, (unsigned long long)f->seed);
    for (int i = 0; i < f->n_left_out && !st; i++) st = hw_print(err, "not here: %s\n", f->left_out[i]);
    for (int p = 0; p < f->n_paths && !st; p++) st = print_path(f, p, err);
    if (!st) st = print_wrong(f, err);
    return st ? st
              : hw_print(err, "\n%d checks in %.1f s: %s\n", f->n_lines, f->seconds,
                         f->n_wrong ? "something is WRONG" : "all agree with the plain loops");
}

/* ---- for programs */

/* Zero is "not measured"; what is not finite has no number in JSON. */
static void put_positive(json_t *to, const char *key, double x)
{
    if (x > 0 && x < 1e300) json_object_set_new(to, key, json_real(x));
}

static json_t *line_json(const hw_selftest_found *f, const hw_selftest_line *l)
{
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:b, s:b}", "op", l->op, "variant", l->variant,
                            "path", f->names[l->path], "shapes", l->shapes, "most_rows", l->most_rows, "ok",
                            !l->wrong, "same_bits", l->same_bits, "bits_promised", l->wants_bits);
    put_positive(out, "largest_error", l->error);
    put_positive(out, "allowed", l->allowed);
    if (l->wrong) json_object_set_new(out, "what", json_string(l->what));
    put_positive(out, "seconds_one_row", l->seconds_one);
    put_positive(out, "seconds_most_rows", l->seconds_many);
    put_positive(out, "share_of_reads", l->share_one);
    put_positive(out, "share_of_arithmetic", l->share_many);
    return out;
}

static json_t *path_json(const hw_selftest_found *f, int p)
{
    json_t *out = json_pack("{s:s}", "name", f->names[p]);
    put_positive(out, "read_bytes_per_second", f->limits[p].read);
    put_positive(out, "fma_flop_per_second", f->limits[p].fma);
    put_positive(out, "bfloat16_flop_per_second", f->limits[p].matrix);
    return out;
}

hw_status hw_selftest_print_json(const hw_selftest_found *f, hw_error *err)
{
    const hw_selftest_shapes *s = &f->shapes;
    const hw_processor *h = &f->host;
    json_t *paths = json_array(), *left_out = json_array(), *checks = json_array();
    for (int p = 0; p < f->n_paths; p++) json_array_append_new(paths, path_json(f, p));
    for (int i = 0; i < f->n_left_out; i++) json_array_append_new(left_out, json_string(f->left_out[i]));
    for (int i = 0; i < f->n_lines; i++) json_array_append_new(checks, line_json(f, &f->lines[i]));
    return hw_print_json(
        json_pack("{s:s, s:s, s:{s:s, s:s, s:i, s:i, s:I, s:I}, s:s?, s:{s:i, s:i, s:i, s:i, s:i, s:i, s:i, "
                  "s:b}, s:I, "
                  "s:b, s:i, s:f, s:o, s:o, s:o}",
                  "version", HW_VERSION, "commit", hw_build_commit(), "machine", "cpu", h->cpu,
                  "instructions", h->instructions, "cores", h->n_cores, "usable_cores", h->n_usable,
                  "memory_bytes", (json_int_t)h->memory_bytes, "last_cache_bytes",
                  (json_int_t)h->last_cache_bytes, "model", f->model, "sizes", "dim", s->dim, "ffn_dim",
                  s->ffn_dim, "vocab_size", s->vocab_size, "n_heads", s->n_heads, "n_kv_heads", s->n_kv_heads,
                  "head_dim", s->head_dim, "rotary_half", s->rotary_half, "gated_mlp", s->gated, "seed",
                  (json_int_t)f->seed, "ok", f->n_wrong == 0, "n_wrong", f->n_wrong, "seconds", f->seconds,
                  "paths", paths, "left_out", left_out, "checks", checks),
        err);
}
