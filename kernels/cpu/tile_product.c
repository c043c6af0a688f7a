#include "kernels/cpu/tile_product.h"

#include <assert.h>

enum {
    SUM_TILE_BYTES = 1024,               /* of a tile of rows and a group */
    PANEL_BLOCKS = 32,                   /* with three terms, 0.75 MB; twice as many with one, 1 MB */
    ITEM_TILES = HW_TILE_ITEM_TILES / 2, /* with three terms; twice as many with one */
    SUB_BLOCKS = 16,
    ITEM_GROUPS = 128,
    ITEMS_PER_THREAD = 4, /* so that a thread which is held up leaves its work to others */
    STREAM_BYTES = 1 << 20,
    FEW_GRAIN = 2,
};

_Static_assert(ITEM_TILES *PANEL_BLOCKS * 3 * 1024 <= HW_TILE_TERM_BYTES, "terms of a panel have no room");
_Static_assert(4 * ITEM_TILES * PANEL_BLOCKS * 1024 <= HW_TILE_TERM_BYTES, "of one term as well");

static size_t up(size_t n, size_t of) { return (n + of - 1) / of * of; }

/* Whether the first block of a panel is among blocks [begin, end), the very first one aside. */
static bool panel_begins(const hw_tile_product *p, size_t begin, size_t end)
{
    const size_t first = up(begin ? begin : 1, p->panel_blocks);
    return first < end;
}

/* From the leaf `cut` up to where a right branch is still to come. A sum that nothing is added to grows in its level's place
 * from its first block on; others are there once the right branch begins. */
static void plan_merge(hw_tile_product *p, int cut)
{
    const size_t *first = p->w->first_block;
    hw_tile_merge *m = &p->merges[cut];
    *m = (hw_tile_merge){.to = HW_TILE_LEVELS};
    bool alone = true;
    for (int level = 0; level < HW_TILE_LEVELS; level++) {
        const int width = 1 << level,
                  node = cut >> level << level; /* the node's cuts: node .. node + width - 1 */
        if (node & width) {
            m->adds[level] = first[node - width] < first[node];
            alone = alone && !m->adds[level];
        } else if (first[node + width] < first[node + 2 * width]) {
            const size_t begin = alone ? first[cut] + 1 : first[node + width];
            m->to = level;
            p->far[level] = p->far[level] || panel_begins(p, begin, first[node + 2 * width]);
            return;
        }
    }
}

static void plan_cuts(hw_tile_product *p)
{
    const size_t *first = p->w->first_block;
    for (int i = 0; i <= HW_TILE_LEVELS; i++) p->far[i] = false;
    for (int c = 0; c < HW_N_CUTS; c++) {
        if (first[c] == first[c + 1]) continue;
        plan_merge(p, c);
        if (panel_begins(p, first[c] + 1, first[c + 1])) p->far[HW_TILE_LEVELS] = true;
    }
}

/* Pairs of groups; a thread takes several that lie one behind the other. */
static void plan_few(hw_tile_product *p, size_t n_threads)
{
    p->panel_blocks = p->w->n_blocks;
    p->n_row_items = 1;
    p->item_groups = 2;
    p->n_group_items = (p->w->n_groups + 1) / 2;
    const size_t share = p->n_group_items / (n_threads * ITEMS_PER_THREAD);
    p->grain = share < 1 ? 1 : share > FEW_GRAIN ? FEW_GRAIN : share;
}

static bool any_far(const hw_tile_product *p)
{
    for (int i = 0; i <= HW_TILE_LEVELS; i++)
        if (p->far[i]) return true;
    return false;
}

/* Rows first: with the terms of fewer rows in a panel, weights would have to come from memory more often. */
static void plan_rows(hw_tile_product *p)
{
    const size_t wide = p->n_terms == 3 ? 1 : 2, most = ITEM_TILES * wide;
    p->n_tiles = up(p->n_tiles, wide);
    p->panel_blocks = PANEL_BLOCKS * wide < p->w->n_blocks ? PANEL_BLOCKS * wide : p->w->n_blocks;
    p->n_row_items = (p->n_tiles + most - 1) / most;
    p->item_tiles = up((p->n_tiles + p->n_row_items - 1) / p->n_row_items, wide);
    p->n_row_items = (p->n_tiles + p->item_tiles - 1) / p->item_tiles;
}

/* Sums are loaded and stored for every so many blocks. Where cuts are long that costs more than weights which come from the
 * second-level cache instead of the first. */
static void plan_blocks(hw_tile_product *p)
{
    const size_t *first = p->w->first_block;
    p->sub_blocks = SUB_BLOCKS;
    for (int c = 0; c < HW_N_CUTS; c++)
        if (first[c + 1] - first[c] >= 4 * SUB_BLOCKS) p->sub_blocks = 2 * SUB_BLOCKS;
}

/* Then groups: the more of them, the less the splitting of rows counts. */
static void plan_groups(hw_tile_product *p, size_t n_threads)
{
    const size_t n_groups = p->w->n_groups, room = HW_TILE_SUM_BYTES / SUM_TILE_BYTES / p->item_tiles;
    const size_t most = (any_far(p) && room < ITEM_GROUPS ? room : ITEM_GROUPS) / 4 * 4;
    size_t share = n_groups * p->n_row_items / (n_threads * ITEMS_PER_THREAD);
    share = share < 4 ? 4 : share > most ? most : share;
    p->n_group_items = (n_groups + share - 1) / share;
    p->item_groups = up((n_groups + p->n_group_items - 1) / p->n_group_items, 4);
    p->n_group_items = (n_groups + p->item_groups - 1) / p->item_groups;
    assert(!any_far(p) || p->item_groups * p->item_tiles * SUM_TILE_BYTES <= HW_TILE_SUM_BYTES);
}

void hw_tile_plan(hw_tile_product *p, int n_threads)
{
    p->n_tiles = (p->n_rows + HW_UNIT_ROWS - 1) / HW_UNIT_ROWS;
    p->few = p->n_rows <= HW_TILE_FEW_ROWS;
    p->stream = false;
    if (p->few) plan_few(p, (size_t)n_threads);
    else plan_rows(p);
    plan_cuts(p);
    if (p->few) return;
    plan_blocks(p);
    plan_groups(p, (size_t)n_threads);
    p->grain = 1;
    p->stream =
        p->w->dims.n_out % HW_GROUP == 0 && p->n_rows * p->w->dims.n_out * sizeof(float) >= STREAM_BYTES;
}
