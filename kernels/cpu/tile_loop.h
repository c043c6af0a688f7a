/* The loops over tiles, included by amx.c and amx_emulated.c after they have said what a tile is:
 *   TILE_LOAD(n, from, stride)  TILE_STORE(n, to, stride)  TILE_ZERO(n)  TILE_DOT(c, a, b)
 *   tiles_begin(const hw_tile_config *)
 * where n, a, b and c are literal numbers of tiles and a stride is in bytes. */
#ifndef HW_KERNELS_CPU_TILE_LOOP_H
#define HW_KERNELS_CPU_TILE_LOOP_H

#include "kernels/cpu/bf16_split.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/tile_product.h"

enum {
    TILE_LINE = 64,
    TILE_BYTES = 1024,
    TILE_FLOATS = 256,
    SUM_FLOATS = 4 * TILE_FLOATS, /* of the four tiles of sums */
    WIDE = 4,                     /* groups that share the first-level cache */
};

/* One term after the other of a tile of rows, in tiles 4 to 6, by the weights of one group. */
#define TILE_GROUP(sum, w)                                                                                   \
    do {                                                                                                     \
        TILE_LOAD(7, w, TILE_LINE);                                                                          \
        TILE_DOT(sum, 4, 7);                                                                                 \
        if (terms == 3) {                                                                                    \
            TILE_DOT(sum, 5, 7);                                                                             \
            TILE_DOT(sum, 6, 7);                                                                             \
        }                                                                                                    \
    } while (0)

/* `lanes` is 16 almost always; the rest of a group that the matrix fills in part has no place in `out`. */
HW_INLINE void tile_put(float *out, v16 y, const float *bias, size_t lanes, bool stream)
{
    if (lanes == HW_LANES) {
        if (bias) y = v16_add(y, v16_load(bias));
        if (stream) v16_stream(out, y);
        else v16_store(out, y);
        return;
    }
    if (bias) y = v16_add(y, v16_load_n(bias, (int)lanes));
    v16_store_n(out, y, (int)lanes);
}

static inline size_t tile_least(size_t a, size_t b) { return a < b ? a : b; }

/* ---- few rows
 *
 * Two groups of weights stream past. With up to 16 rows tiles 0 and 1 hold the sums, 4 to 6 the terms, 7 weights. With more,
 * tiles 2 and 3 hold the sums of rows 16 on, 4 and 5 a term of each tile of rows, 6 and 7 weights. */

/* Sums of each cut: [group][cut][row][16]. */
typedef struct few_sums {
    _Alignas(64) float at[2][HW_N_CUTS][HW_TILE_FEW_ROWS][HW_GROUP];
} few_sums;

/* Some lines of the weights that are wanted a few blocks later. They are asked for a few at a time: all of a block at once
 * wait for each other. */
HW_INLINE void few_ask(const char *ahead, size_t group_bytes, int groups, size_t begin, size_t end)
{
    for (size_t i = begin * TILE_LINE; i < end * TILE_LINE; i += TILE_LINE) {
        __builtin_prefetch(ahead + i, 0, 3);
        if (groups == 2) __builtin_prefetch(ahead + group_bytes + i, 0, 3);
    }
}

/* Blocks [first, end) into tiles 0 to 3. `terms`, `groups` and `two_tiles` are constants at each call. */
HW_INLINE void few_blocks(const hw_tile_product *p, const char *w, size_t first, size_t end, int terms,
                          int groups, bool two_tiles)
{
    const size_t n_blocks = p->w->n_blocks, group_bytes = n_blocks * TILE_BYTES;
    const size_t term = tile_least(p->n_rows, HW_UNIT_ROWS) * TILE_LINE,
                 low_term = p->n_rows * TILE_LINE - term;
    const char *x = (const char *)p->terms + first * (size_t)terms * term;
    const char *low = (const char *)p->terms + (size_t)terms * (n_blocks * term + first * low_term);
    w += first * TILE_BYTES;
    for (size_t b = first; b < end; b++, w += TILE_BYTES) {
        /* What is ahead of the end of a group is the next group. The first of two has the second there, which is being
         * read: the one that is read beside the group after that is what to ask for. */
        const bool passes = groups == 2 && b + HW_PREFETCH_BYTES / TILE_BYTES >= n_blocks;
        const char *ahead = w + HW_PREFETCH_BYTES + (passes ? group_bytes : 0);
        if (two_tiles) {
            few_ask(ahead, group_bytes, groups, 0, HW_UNIT_ROWS);
            TILE_LOAD(6, w, TILE_LINE);
            if (groups == 2) TILE_LOAD(7, w + group_bytes, TILE_LINE);
            for (int i = 0; i < terms; i++, x += term, low += low_term) {
                TILE_LOAD(4, x, TILE_LINE);
                TILE_DOT(0, 4, 6);
                if (groups == 2) TILE_DOT(1, 4, 7);
                TILE_LOAD(5, low, TILE_LINE);
                TILE_DOT(2, 5, 6);
                if (groups == 2) TILE_DOT(3, 5, 7);
            }
            continue;
        }
        TILE_LOAD(4, x, TILE_LINE);
        if (terms == 3) TILE_LOAD(5, x + term, TILE_LINE);
        if (terms == 3) TILE_LOAD(6, x + 2 * term, TILE_LINE);
        x += (size_t)terms * term;
        few_ask(ahead, group_bytes, groups, 0, 5);
        TILE_LOAD(7, w, TILE_LINE);
        TILE_DOT(0, 4, 7);
        few_ask(ahead, group_bytes, groups, 5, 8);
        if (terms == 3) TILE_DOT(0, 5, 7);
        if (terms == 3) TILE_DOT(0, 6, 7);
        few_ask(ahead, group_bytes, groups, 8, 12);
        if (groups == 2) TILE_LOAD(7, w + group_bytes, TILE_LINE);
        if (groups == 2) TILE_DOT(1, 4, 7);
        few_ask(ahead, group_bytes, groups, 12, HW_UNIT_ROWS);
        if (groups == 2 && terms == 3) TILE_DOT(1, 5, 7);
        if (groups == 2 && terms == 3) TILE_DOT(1, 6, 7);
    }
}

/* The balanced tree over cuts, empty ones left out, and the bias. */
HW_INLINE void few_finish(const hw_tile_product *p, const few_sums *sums, size_t group, int groups)
{
    const size_t *first = p->w->first_block, n_out = p->w->dims.n_out;
    for (int g = 0; g < groups; g++) {
        const size_t out = (group + (size_t)g) * HW_GROUP, lanes = tile_least(n_out - out, HW_GROUP);
        for (size_t r = 0; r < p->n_rows; r++) {
            v16 level[HW_TILE_LEVELS + 1];
            for (int c = 0; c < HW_N_CUTS; c++) {
                if (first[c] == first[c + 1]) continue;
                const hw_tile_merge *m = &p->merges[c];
                v16 sum = v16_load(sums->at[g][c][r]);
                for (int i = 0; i < HW_TILE_LEVELS; i++)
                    if (m->adds[i]) sum = v16_add(level[i], sum);
                level[m->to] = sum;
            }
            tile_put(p->out + r * n_out + out, level[HW_TILE_LEVELS], p->bias ? p->bias + out : NULL, lanes,
                     false);
        }
    }
}

HW_INLINE void few_item(const hw_tile_product *p, size_t item, int terms, int groups, bool two_tiles)
{
    const size_t *first = p->w->first_block;
    const size_t group = item * 2;
    const char *w = hw_weight_block(p->w, group, 0);
    few_sums sums;
    for (int c = 0; c < HW_N_CUTS; c++) {
        if (first[c] == first[c + 1]) continue;
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        few_blocks(p, w, first[c], first[c + 1], terms, groups, two_tiles);
        TILE_STORE(0, sums.at[0][c][0], TILE_LINE);
        if (groups == 2) TILE_STORE(1, sums.at[1][c][0], TILE_LINE);
        if (two_tiles) TILE_STORE(2, sums.at[0][c][HW_UNIT_ROWS], TILE_LINE);
        if (two_tiles && groups == 2) TILE_STORE(3, sums.at[1][c][HW_UNIT_ROWS], TILE_LINE);
    }
    few_finish(p, &sums, group, groups);
}

HW_INLINE void few_items(const hw_tile_product *p, size_t begin, size_t end, int terms, bool two_tiles)
{
    for (size_t item = begin; item < end; item++)
        if (item * 2 + 1 < p->w->n_groups) few_item(p, item, terms, 2, two_tiles);
        else few_item(p, item, terms, 1, two_tiles);
}

/* Tiles have as many rows as there are: a product of four rows takes little more than half the time of one of sixteen. */
static hw_tile_config few_config(const hw_tile_product *p)
{
    const uint8_t rows = (uint8_t)tile_least(p->n_rows, HW_UNIT_ROWS), low = (uint8_t)(p->n_rows - rows);
    hw_tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = TILE_LINE, config.rows[i] = rows;
    if (low) config.rows[2] = config.rows[3] = config.rows[5] = low, config.rows[6] = HW_UNIT_ROWS;
    config.rows[7] = HW_UNIT_ROWS;
    return config;
}

static void multiply_few(const hw_tile_product *p, size_t begin, size_t end)
{
    const bool two_tiles = p->n_tiles == 2;
    if (p->n_terms == 3 && two_tiles) few_items(p, begin, end, 3, true);
    else if (p->n_terms == 3) few_items(p, begin, end, 3, false);
    else if (two_tiles) few_items(p, begin, end, 1, true);
    else few_items(p, begin, end, 1, false);
}

/* ---- many rows
 *
 * With three terms, a tile of rows by four groups: tiles 0 to 3 hold the sums of one group each, 4 to 6 the terms, 7 weights,
 * 7 loads for 12 products. With one term, two tiles of rows by two groups: 4 and 5 rows, 6 and 7 weights. Four tiles of sums
 * lie one behind the other in memory, in the order of their numbers, so that no two lines of them compete for a cache set. */

/* What happens to complete sums, once the tiles of the next sums are at work: nothing has to wait for a tile that is just
 * being stored. */
typedef struct later {
    const hw_tile_merge *merge; /* NULL: nothing */
    const float *sums;
    float *level[HW_TILE_LEVELS];
    float *out;        /* [rows, n_out] of the first tile */
    const float *bias; /* of the first group, or NULL */
    size_t n_out;
    size_t n_rows, n_outs; /* that there are, from the first tile and group on */
    bool stream;
} later;

/* One eighth of it: half a tile. */
HW_INLINE void add_later(const later *l, size_t eighth, bool two_rows)
{
    if (!l->merge) return;
    const size_t tile = eighth / 2, at = eighth * (TILE_FLOATS / 2);
    const size_t row = (two_rows ? tile / 2 * HW_UNIT_ROWS : 0) + eighth % 2 * 8;
    const size_t out = (two_rows ? tile % 2 : tile) * HW_GROUP;
    const bool last = l->merge->to == HW_TILE_LEVELS;
    if (last && out >= l->n_outs) return;
    const size_t lanes = tile_least(l->n_outs - out, HW_GROUP);
    for (size_t i = 0; i < 8; i++) {
        const size_t line = at + i * HW_LANES;
        v16 sum = v16_load(l->sums + line);
        for (int level = 0; level < HW_TILE_LEVELS; level++)
            if (l->merge->adds[level]) sum = v16_add(v16_load(l->level[level] + line), sum);
        if (!last) v16_store(l->level[l->merge->to] + line, sum);
        else if (row + i < l->n_rows)
            tile_put(l->out + (row + i) * l->n_out + out, sum, l->bias ? l->bias + out : NULL, lanes,
                     l->stream);
    }
}

/* Some blocks of one cut. */
typedef struct span {
    size_t first, n;
    int cut;
    bool begins, ends; /* the cut */
} span;

static span span_from(const hw_tile_product *p, size_t block)
{
    const size_t *first = p->w->first_block;
    span s = {.first = block};
    while (block >= first[s.cut + 1]) s.cut++;
    const size_t panel_end = (block / p->panel_blocks + 1) * p->panel_blocks;
    const size_t end = tile_least(panel_end, first[s.cut + 1]), left = end - block;
    s.n = left <= p->sub_blocks ? left : left < 2 * p->sub_blocks ? (left + 1) / 2 : p->sub_blocks;
    s.begins = block == first[s.cut];
    s.ends = block + s.n == first[s.cut + 1];
    return s;
}

/* Weights that are wanted next, a little with every block that is worked on. */
typedef struct ask {
    const char *at;
    size_t left, per_block; /* lines of each group */
} ask;

HW_INLINE void ask_some(ask *a, const size_t next_group[4], int groups)
{
    const size_t n = tile_least(a->left, a->per_block);
    for (size_t i = 0; i < n; i++, a->at += TILE_LINE)
        for (int g = 0; g < groups; g++) __builtin_prefetch(a->at + next_group[g], 0, 2);
    a->left -= n;
}

/* `n` blocks for four tiles of sums. `next_group`: from the first group's weights to each one's. `terms` and `two_rows` are
 * constants at each call. */
HW_INLINE void many_blocks(const char *x, size_t x_tile, const char *w, const size_t next_group[4],
                           const size_t all_groups[WIDE], size_t n, int terms, bool two_rows, float *sums,
                           bool go_on, ask *a, const later *l)
{
    if (go_on) {
        TILE_LOAD(0, sums, TILE_LINE);
        TILE_LOAD(1, sums + TILE_FLOATS, TILE_LINE);
        TILE_LOAD(2, sums + 2 * TILE_FLOATS, TILE_LINE);
        TILE_LOAD(3, sums + 3 * TILE_FLOATS, TILE_LINE);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (size_t b = 0; b < n; b++, w += TILE_BYTES) {
        ask_some(a, all_groups, WIDE);
        if (two_rows) {
            TILE_LOAD(6, w + next_group[0], TILE_LINE);
            TILE_LOAD(7, w + next_group[1], TILE_LINE);
            for (int i = 0; i < terms; i++, x += TILE_BYTES) {
                TILE_LOAD(4, x, TILE_LINE);
                TILE_DOT(0, 4, 6);
                TILE_DOT(1, 4, 7);
                TILE_LOAD(5, x + x_tile, TILE_LINE);
                TILE_DOT(2, 5, 6);
                TILE_DOT(3, 5, 7);
            }
        } else {
            TILE_LOAD(4, x, TILE_LINE);
            if (terms == 3) TILE_LOAD(5, x + TILE_BYTES, TILE_LINE);
            if (terms == 3) TILE_LOAD(6, x + 2 * TILE_BYTES, TILE_LINE);
            x += terms * TILE_BYTES;
            TILE_GROUP(0, w);
            TILE_GROUP(1, w + next_group[1]);
            TILE_GROUP(2, w + next_group[2]);
            TILE_GROUP(3, w + next_group[3]);
        }
        if (b < 8) add_later(l, b, two_rows);
    }
    for (size_t i = n; i < 8; i++) add_later(l, i, two_rows);
    TILE_STORE(0, sums, TILE_LINE);
    TILE_STORE(1, sums + TILE_FLOATS, TILE_LINE);
    TILE_STORE(2, sums + 2 * TILE_FLOATS, TILE_LINE);
    TILE_STORE(3, sums + 3 * TILE_FLOATS, TILE_LINE);
}

static const hw_tile_config whole_tiles = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* Tiles [first_tile, first_tile + n_tiles) of rows by groups [group, end). */
typedef struct many {
    const hw_tile_product *p;
    size_t first_tile, n_tiles, group, end;
    uint16_t *terms;                /* of a panel: [n_tiles, panel_blocks, n_terms, 16, HW_BLOCK] */
    float *far[HW_TILE_LEVELS + 1]; /* [quads, n_tiles, SUM_FLOATS] */
    /* [HW_TILE_ITEM_TILES, SUM_FLOATS] each: what no panel after this one wants */
    float *near[HW_TILE_LEVELS + 1];
    later later;
} many;

/* Where the sums of a level are, for call `at` of the `n_tiles` calls of many_blocks that some groups take. */
HW_INLINE float *sums_of(const many *m, int level, size_t quad, size_t at)
{
    return m->p->far[level] ? m->far[level] + (quad * m->n_tiles + at) * SUM_FLOATS
                            : m->near[level] + at * SUM_FLOATS;
}

/* One span of some groups, for all rows of the item. */
HW_INLINE void many_rows(many *m, size_t group, const span *s, const char *soon, size_t soon_blocks,
                         int terms, bool two_rows)
{
    const hw_tile_product *p = m->p;
    const size_t tall = two_rows ? 2 : 1, wide = 4 / tall, quad = (group - m->group) / WIDE;
    const size_t group_bytes = p->w->n_blocks * TILE_BYTES, n_r = m->n_tiles / tall;
    const size_t x_tile = p->panel_blocks * (size_t)terms * TILE_BYTES;
    const hw_tile_merge *merge = &p->merges[s->cut];
    const bool plain = !merge->adds[0] && !merge->adds[1] && !merge->adds[2] && merge->to < HW_TILE_LEVELS;
    size_t next_group[WIDE];
    for (size_t g = 0; g < WIDE; g++) next_group[g] = group + g < p->w->n_groups ? g * group_bytes : 0;
    ask a = {soon, soon_blocks * HW_UNIT_ROWS,
             (soon_blocks * HW_UNIT_ROWS + n_r * tall * s->n - 1) / (n_r * tall * s->n)};
    const char *w = hw_weight_block(p->w, group, s->first);
    const char *x = (const char *)m->terms + s->first % p->panel_blocks * (size_t)terms * TILE_BYTES;
    for (size_t r = 0; r < n_r; r++)
        for (size_t half = 0; half < tall; half++) {
            const size_t row = (m->first_tile + r * tall) * HW_UNIT_ROWS, at = r * tall + half;
            const size_t out = (group + half * wide) * HW_GROUP;
            float *sums = sums_of(m, plain ? merge->to : HW_TILE_LEVELS, quad, at);
            many_blocks(x + r * tall * x_tile, x_tile, w, next_group + half * wide, next_group, s->n, terms,
                        two_rows, sums, !s->begins, &a, &m->later);
            m->later.merge = s->ends && !plain ? merge : NULL;
            if (!m->later.merge) continue;
            m->later.sums = sums;
            for (int i = 0; i < HW_TILE_LEVELS; i++) m->later.level[i] = sums_of(m, i, quad, at);
            m->later.out = p->out + row * p->w->dims.n_out + out;
            m->later.bias = p->bias ? p->bias + out : NULL;
            m->later.n_rows = p->n_rows > row ? p->n_rows - row : 0;
            m->later.n_outs = p->w->dims.n_out > out ? p->w->dims.n_out - out : 0;
        }
}

/* Terms of a panel's inputs, by the thread that multiplies them: so they come into its second-level cache, and memory has
 * to give the inputs only. */
HW_INLINE void many_split(const many *m, size_t panel, size_t end, int terms)
{
    const hw_tile_product *p = m->p;
    const size_t tile_numbers = p->panel_blocks * (size_t)terms * HW_UNIT_ROWS * HW_BLOCK;
    for (size_t i = 0; i < m->n_tiles; i++) {
        const size_t top = (m->first_tile + i) * HW_UNIT_ROWS;
        const size_t there = top < p->n_rows ? tile_least(p->n_rows - top, HW_UNIT_ROWS) : 0;
        hw_bf16_split_put_tile(m->terms + i * tile_numbers, p->x + (there ? top : 0) * p->w->dims.n_in, p->w,
                               HW_UNIT_ROWS, there, panel, end, terms == 3, false);
    }
}

HW_INLINE void many_panels(many *m, int terms, bool two_rows)
{
    const hw_tile_product *p = m->p;
    const size_t n_blocks = p->w->n_blocks;
    for (size_t panel = 0; panel < n_blocks; panel += p->panel_blocks) {
        const size_t end = tile_least(panel + p->panel_blocks, n_blocks);
        many_split(m, panel, end, terms);
        for (size_t group = m->group; group < m->end; group += WIDE) {
            span s = span_from(p, panel);
            for (bool more = true; more;) {
                /* Next come the blocks behind these, or else the first of the next groups, or of the next panel. */
                size_t soon_group = group, soon = s.first + s.n;
                more = soon < end;
                if (!more) soon_group += WIDE, soon = panel;
                if (soon_group >= m->end) soon_group = m->group, soon = end < n_blocks ? end : panel;
                const span next = span_from(p, soon);
                many_rows(m, group, &s, hw_weight_block(p->w, soon_group, soon), next.n, terms, two_rows);
                s = next;
            }
        }
    }
    for (size_t i = 0; i < 8; i++) add_later(&m->later, i, two_rows);
    m->later.merge = NULL;
}

static void many_item(const hw_tile_product *p, size_t item)
{
    const size_t row_item = item % p->n_row_items, group_item = item / p->n_row_items;
    _Alignas(64) float near[HW_TILE_LEVELS + 1][HW_TILE_ITEM_TILES * SUM_FLOATS];
    many m = {.p = p, .first_tile = row_item * p->item_tiles, .group = group_item * p->item_groups};
    m.n_tiles = tile_least(p->item_tiles, p->n_tiles - m.first_tile);
    m.end = tile_least(m.group + p->item_groups, p->w->n_groups);
    m.later.n_out = p->w->dims.n_out;
    m.later.stream = p->stream && (uintptr_t)p->out % 64 == 0;
    char *room = p->room + (size_t)hw_pool_thread() * HW_TILE_ROOM;
    m.terms = (uint16_t *)(void *)room;
    for (size_t i = 0; i <= HW_TILE_LEVELS; i++) {
        m.far[i] = (float *)(void *)(room + HW_TILE_TERM_BYTES + i * HW_TILE_SUM_BYTES);
        m.near[i] = near[i];
    }
    if (p->n_terms == 3) many_panels(&m, 3, false);
    else many_panels(&m, 1, true);
    if (m.later.stream) v16_stream_end();
}

/* ---- */

static void begin_tiles(const hw_tile_product *p)
{
    const hw_tile_config few = few_config(p);
    tiles_begin(p->few ? &few : &whole_tiles);
}

static void multiply(const hw_tile_product *p, size_t begin, size_t end)
{
    if (p->few) multiply_few(p, begin, end);
    else
        for (size_t item = begin; item < end; item++) many_item(p, item);
}

#endif
