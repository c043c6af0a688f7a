#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/selftest/subject.h"

/* One array of a comparison. `n` numbers, a row of which has `row` on the device and `plain_row` in the plain loops. */
typedef struct pair {
    const hw_array *a;
    int index; /* among the subject's arrays */
    int n_rows;
    size_t n, row, plain_row;
    hw_dtype type; /* of the device's */
    const char *got, *want;
    hw_dtype want_type;
} pair;

static void say(hw_selftest_line *line, const hw_subject *s, int n_rows, const char *text)
{
    if (!line->wrong)
        snprintf(line->what, sizeof line->what, "%s, %d row%s: %s", s->shape, n_rows, n_rows == 1 ? "" : "s",
                 text);
    line->wrong = true;
}

static bool is_worse(const hw_selftest_line *line, double error, double allowed)
{
    if (isnan(error)) return true;
    if (isnan(line->error)) return false;
    if (allowed > 0 && line->allowed > 0) return error / allowed > line->error / line->allowed;
    return error > line->error || (error == line->error && allowed > 0 && line->allowed == 0);
}

/* Number i of the device's, which is number k of the plain loops'. False when it is wrong. */
static bool judge(hw_selftest_line *line, const pair *p, float got, float want, size_t k)
{
    const bool both_nan = isnan(got) && isnan(want), same = both_nan || !memcmp(&got, &want, sizeof got);
    const double error = both_nan || got == want ? 0 : fabs((double)got - (double)want);
    const double slack = p->a->slacks ? (double)p->a->slacks[k] : p->a->slack;
    /* In a cache the plain loops' number is rounded as well. */
    const double rounded = p->a->kind == HW_ARRAY_CACHE ? hw_half_ulp(p->type) * fabs((double)want) : 0;
    const double allowed = line->wants_bits ? 0 : hw_allowed(p->type, fabs((double)want), slack) + rounded;
    line->same_bits = line->same_bits && same;
    if (!both_nan && is_worse(line, error, allowed)) line->error = error, line->allowed = allowed;
    return line->wants_bits ? same : both_nan || error <= allowed;
}

static void compare_floats(hw_selftest_line *line, const hw_subject *s, const pair *p)
{
    const size_t n_plain = p->row ? p->n / p->row * p->plain_row : p->n;
    float *got = malloc((p->n + 1) * sizeof *got), *want = malloc((n_plain + 1) * sizeof *want);
    if (!got || !want) say(line, s, p->n_rows, "no memory to compare with");
    else {
        hw_convert(got, HW_F32, p->got, p->type, p->n);
        hw_convert(want, HW_F32, p->want, p->want_type, n_plain);
    }
    for (size_t k = 0; k < n_plain && got && want; k++) {
        const size_t row = p->row ? k / p->plain_row : 0, j = p->row ? k % p->plain_row : k;
        const size_t at = p->a->sample ? (size_t)p->a->sample[j] : j;
        const float x = got[row * p->row + at];
        char text[200], limit[64] = "the bits are promised";
        if (judge(line, p, x, want[k], k) || line->wrong) continue;
        if (!line->wants_bits) snprintf(limit, sizeof limit, "%.3g more or less is allowed", line->allowed);
        snprintf(text, sizeof text, "[%zu, %zu] is %.9g, the plain loops give %.9g, and %s", row, at,
                 (double)x, (double)want[k], limit);
        say(line, s, p->n_rows, text);
    }
    free(got), free(want);
}

static uint64_t integer(const char *data, hw_dtype type, size_t i)
{
    uint64_t wide;
    uint32_t narrow;
    if (type == HW_U64) return memcpy(&wide, data + i * sizeof wide, sizeof wide), wide;
    return memcpy(&narrow, data + i * sizeof narrow, sizeof narrow), narrow;
}

static void compare_integers(hw_selftest_line *line, const hw_subject *s, const pair *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const uint64_t got = integer(p->got, p->type, i), want = integer(p->want, p->want_type, i);
        const double error = got == want ? 0 : got > want ? (double)(got - want) : (double)(want - got);
        const double relative = error / (want ? (double)want : 1);
        char text[160];
        line->same_bits = line->same_bits && got == want;
        if (is_worse(line, relative, p->a->relative)) line->error = relative, line->allowed = p->a->relative;
        if (relative <= p->a->relative) continue;
        snprintf(text, sizeof text, "[%zu] is %llu, the plain loops give %llu", i, (unsigned long long)got,
                 (unsigned long long)want);
        say(line, s, p->n_rows, text);
    }
}

static void compare_base(hw_selftest_line *line, const hw_selftest *t, const hw_subject *s, const pair *p,
                         const char *base)
{
    const size_t size = hw_dtype_size(p->type);
    char text[200];
    if (!memcmp(p->got, base, p->n * size)) return;
    size_t i = 0;
    while (!memcmp(p->got + i * size, base + i * size, size)) i++;
    snprintf(text, sizeof text, "the bits of [%zu, %zu] are not those of %s with %d rows",
             p->row ? i / p->row : 0, p->row ? i % p->row : i, t->paths[0].name, s->most_rows);
    say(line, s, p->n_rows, text);
}

/* Rows behind the n that were asked for. */
static void compare_rest(hw_selftest_line *line, const hw_bound *b, const pair *p)
{
    const size_t begin = p->n * hw_dtype_size(p->type), total = b->n_bytes[p->index];
    if (memcmp(b->got[p->index] + begin, b->image[p->index] + begin, total - begin))
        say(line, b->s, p->n_rows, "rows behind these were written to");
}

void hw_selftest_compare(hw_selftest_line *line, const hw_selftest *t, const hw_bound *got,
                         const hw_bound *plain, char *const *base, int n)
{
    static const hw_dtype integers[] = {
        [HW_ARRAY_IDS] = HW_I32, [HW_ARRAY_KEYS] = HW_U64, [HW_ARRAY_RESULTS] = HW_U64};
    for (int i = 0; i < got->s->n_arrays; i++) {
        const hw_array *a = &got->s->arrays[i];
        if (!a->out || (!a->row && n < got->s->most_rows)) continue;
        pair p = {.a = a,
                  .index = i,
                  .n_rows = n,
                  .n = a->row ? (size_t)n * a->row : a->n,
                  .row = a->row,
                  .plain_row = a->sample ? a->n_sample : a->row,
                  .got = got->got[i],
                  .want = plain->got[i]};
        if (a->kind >= HW_ARRAY_IDS) {
            p.type = p.want_type = integers[a->kind];
            compare_integers(line, got->s, &p);
        } else {
            const bool active = a->kind == HW_ARRAY_ACTIVE, cache = a->kind == HW_ARRAY_CACHE;
            p.type = active ? got->d->act : cache ? a->type : HW_F32;
            p.want_type = active ? plain->d->act : cache ? a->type : HW_F32;
            compare_floats(line, got->s, &p);
        }
        if (base) compare_base(line, t, got->s, &p, base[i]);
        compare_rest(line, got, &p);
    }
}
