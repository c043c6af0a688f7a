#include "parallel/shard.h"

#include <criterion/criterion.h>
#include <stdbool.h>

/* The properties below are tried on every one of these: KV heads divide heads, odd sizes included. */
enum { MAX_HEADS = 24 };
#define FOR_EACH_HEADS(HEADS, KV)                                                                            \
    for (int HEADS = 1; HEADS <= MAX_HEADS; HEADS++)                                                         \
        for (int KV = 1; KV <= HEADS; KV++)                                                                  \
            if (HEADS % KV == 0)

static void assert_cuts(const size_t *want, size_t n, int n_ranks)
{
    for (int r = 0; r < n_ranks; r++) {
        hw_range got = hw_shard_granules(n, r, n_ranks);
        cr_assert(got.begin == want[r] && got.end == want[r + 1], "rank %d: %zu to %zu", r, got.begin,
                  got.end);
    }
}

Test(shard, an_ffn_of_688_is_cut_in_granules_of_16)
{
    const size_t eight[] = {0, 80, 160, 256, 336, 416, 512, 592, 688}, two[] = {0, 336, 688};
    assert_cuts(eight, 688, 8);
    assert_cuts(two, 688, 2);
}

/* 79 granules and 15 rows: the 15 are the last rank's, 175 in all. */
Test(shard, a_vocabulary_of_1279_leaves_its_remainder_to_the_last_rank)
{
    const size_t want[] = {0, 144, 304, 464, 624, 784, 944, 1104, 1279};
    assert_cuts(want, 1279, 8);
}

/* 127 is less than 8 granules of 16: one by one. */
Test(shard, small_things_are_cut_one_by_one)
{
    const size_t want[] = {0, 15, 31, 47, 63, 79, 95, 111, 127}, few[] = {0, 0, 1, 1, 2};
    assert_cuts(want, 127, 8);
    assert_cuts(few, 2, 4);
}

Test(shard, heads_worked_by_hand)
{
    static const struct {
        int n_heads, n_kv_heads, n_ranks;
        size_t q[9], kv[8][2];
    } cases[] = {
        /* 4 groups over 3 ranks: 1, 1 and 2 whole groups of 2 heads */
        {8, 4, 3, {0, 2, 4, 8}, {{0, 1}, {1, 2}, {2, 4}}},
        /* more ranks than groups: heads 0 | 1 2 | 3 | 4 5 | 6 7, head h reads h / 2 */
        {8, 4, 5, {0, 1, 3, 4, 6, 8}, {{0, 1}, {0, 2}, {1, 2}, {2, 3}, {3, 4}}},
        {12,
         1,
         8,
         {0, 1, 3, 4, 6, 7, 9, 10, 12},
         {{0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int r = 0; r < cases[c].n_ranks; r++) {
            hw_range q = hw_shard_heads(cases[c].n_heads, cases[c].n_kv_heads, r, cases[c].n_ranks);
            hw_range kv = hw_shard_kv_heads(cases[c].n_heads, cases[c].n_kv_heads, r, cases[c].n_ranks);
            cr_assert(q.begin == cases[c].q[r] && q.end == cases[c].q[r + 1], "case %zu, rank %d", c, r);
            cr_assert(kv.begin == cases[c].kv[r][0] && kv.end == cases[c].kv[r][1], "case %zu, rank %d", c,
                      r);
        }
}

static void assert_covers(size_t n, int n_ranks)
{
    size_t end = 0;
    for (int r = 0; r < n_ranks; r++) {
        hw_range got = hw_shard_granules(n, r, n_ranks);
        cr_assert(got.begin == end && got.end >= got.begin, "%zu things, rank %d of %d", n, r, n_ranks);
        end = got.end;
    }
    cr_assert_eq(end, n);
}

Test(shard, every_thing_belongs_to_exactly_one_rank)
{
    const size_t large[] = {1279, 32000, 50257, 128256, 151936, 1u << 31, (size_t)1 << 40};
    for (int n_ranks = 1; n_ranks <= 70; n_ranks++) {
        for (size_t n = 0; n <= 400; n++) assert_covers(n, n_ranks);
        for (size_t i = 0; i < sizeof large / sizeof *large; i++) assert_covers(large[i], n_ranks);
    }
}

Test(shard, every_head_belongs_to_exactly_one_rank_and_no_rank_is_without)
{
    FOR_EACH_HEADS(n_heads, n_kv)
    for (int n_ranks = 1; n_ranks <= n_heads; n_ranks++) {
        size_t end = 0;
        for (int r = 0; r < n_ranks; r++) {
            hw_range q = hw_shard_heads(n_heads, n_kv, r, n_ranks);
            cr_assert(q.begin == end && q.end > q.begin, "%d/%d heads, rank %d of %d", n_heads, n_kv, r,
                      n_ranks);
            end = q.end;
        }
        cr_assert_eq(end, (size_t)n_heads);
    }
}

/* Marked head by head from the definition: query head h reads KV head h / (n_heads / n_kv). */
Test(shard, a_rank_has_exactly_the_kv_heads_that_its_query_heads_read)
{
    FOR_EACH_HEADS(n_heads, n_kv)
    for (int n_ranks = 1; n_ranks <= n_heads; n_ranks++)
        for (int r = 0; r < n_ranks; r++) {
            hw_range q = hw_shard_heads(n_heads, n_kv, r, n_ranks),
                     kv = hw_shard_kv_heads(n_heads, n_kv, r, n_ranks);
            bool needed[MAX_HEADS] = {false};
            for (size_t h = q.begin; h < q.end; h++) needed[(int)h / (n_heads / n_kv)] = true;
            for (size_t k = 0; k < (size_t)n_kv; k++) cr_assert_eq(needed[k], k >= kv.begin && k < kv.end);
        }
}

Test(shard, kv_heads_are_not_replicated_while_there_are_enough)
{
    FOR_EACH_HEADS(n_heads, n_kv)
    for (int n_ranks = 1; n_ranks <= n_kv; n_ranks++)
        for (int r = 1; r < n_ranks; r++)
            cr_assert_eq(hw_shard_kv_heads(n_heads, n_kv, r - 1, n_ranks).end,
                         hw_shard_kv_heads(n_heads, n_kv, r, n_ranks).begin);
}

static void assert_nests(size_t n, int n_ranks)
{
    for (int r = 0; r < n_ranks; r++) {
        hw_range whole = hw_shard_granules(n, r, n_ranks);
        hw_range first = hw_shard_granules(n, 2 * r, 2 * n_ranks),
                 second = hw_shard_granules(n, 2 * r + 1, 2 * n_ranks);
        cr_assert(first.begin == whole.begin && second.end == whole.end, "%zu things, %d ranks", n, n_ranks);
    }
}

Test(shard, the_parts_of_2_4_and_8_ranks_are_halves_of_the_parts_before)
{
    for (int n_ranks = 1; n_ranks <= 4; n_ranks *= 2)
        for (size_t n = 0; n < 3000; n++) assert_nests(n, n_ranks);
}

/* Where the rule changes from whole groups to single heads between n and 2n ranks, heads nest if n divides
 * the groups. */
Test(shard, heads_nest_wherever_equal_bits_are_promised)
{
    FOR_EACH_HEADS(n_heads, n_kv)
    for (int n = 1; 2 * n <= 8 && 2 * n <= n_heads; n *= 2)
        for (int r = 0; r < n && (2 * n <= n_kv || n > n_kv || n_kv % n == 0); r++) {
            hw_range whole = hw_shard_heads(n_heads, n_kv, r, n);
            cr_assert_eq(hw_shard_heads(n_heads, n_kv, 2 * r, 2 * n).begin, whole.begin);
            cr_assert_eq(hw_shard_heads(n_heads, n_kv, 2 * r + 1, 2 * n).end, whole.end);
        }
}

/* Each local element of a split input must fall in the cut that it falls in on one rank, where the cuts of
 * all ranks are those of hw_shard_granules over HW_SHARD_CUTS. */
Test(shard, granule_cuts_of_a_rank_are_those_of_the_whole)
{
    const size_t sizes[] = {1, 7, 100, 128, 688, 1279, 11008};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int n_ranks = 1; n_ranks <= 11; n_ranks++)
            for (int r = 0; r < n_ranks; r++) {
                size_t cuts[HW_SHARD_CUTS + 1];
                hw_range mine = hw_shard_granules(sizes[s], r, n_ranks);
                hw_shard_granule_cuts(cuts, sizes[s], r, n_ranks);
                cr_assert(cuts[0] == 0 && cuts[HW_SHARD_CUTS] == hw_range_size(mine));
                for (int c = 0; c < HW_SHARD_CUTS; c++) {
                    hw_range cut = hw_shard_granules(sizes[s], c, HW_SHARD_CUTS);
                    cr_assert_leq(cuts[c], cuts[c + 1]);
                    for (size_t i = cuts[c]; i < cuts[c + 1]; i++)
                        cr_assert(mine.begin + i >= cut.begin && mine.begin + i < cut.end);
                }
            }
}

Test(shard, head_cuts_of_a_rank_are_whole_heads_and_those_of_the_whole)
{
    enum { HEAD_DIM = 5 };
    FOR_EACH_HEADS(n_heads, n_kv)
    for (int n_ranks = 1; n_ranks <= n_heads; n_ranks++)
        for (int r = 0; r < n_ranks; r++) {
            size_t cuts[HW_SHARD_CUTS + 1];
            hw_range mine = hw_shard_heads(n_heads, n_kv, r, n_ranks);
            hw_shard_head_cuts(cuts, n_heads, n_kv, HEAD_DIM, r, n_ranks);
            cr_assert(cuts[0] == 0 && cuts[HW_SHARD_CUTS] == hw_range_size(mine) * HEAD_DIM);
            for (int c = 0; c < HW_SHARD_CUTS; c++) {
                hw_range cut = hw_shard_heads(n_heads, n_kv, c, HW_SHARD_CUTS);
                cr_assert(cuts[c] <= cuts[c + 1] && cuts[c] % HEAD_DIM == 0);
                for (size_t i = cuts[c]; i < cuts[c + 1]; i++) {
                    size_t head = mine.begin + i / HEAD_DIM;
                    cr_assert(head >= cut.begin && head < cut.end);
                }
            }
        }
}

/* The point of nesting: with 2, 4 or 8 ranks, rank r has whole cuts, namely r * 8 / n_ranks and those that
 * follow. */
Test(shard, ranks_that_nest_own_whole_cuts)
{
    for (int n_ranks = 1; n_ranks <= 8; n_ranks *= 2)
        for (int r = 0; r < n_ranks; r++) {
            size_t ffn[HW_SHARD_CUTS + 1], heads[HW_SHARD_CUTS + 1];
            hw_shard_granule_cuts(ffn, 688, r, n_ranks);
            hw_shard_head_cuts(heads, 8, 4, 32, r, n_ranks);
            for (int c = 0; c < HW_SHARD_CUTS; c++) {
                bool own = c / (HW_SHARD_CUTS / n_ranks) == r;
                size_t whole = hw_range_size(hw_shard_granules(688, c, HW_SHARD_CUTS));
                cr_assert_eq(ffn[c + 1] - ffn[c], own ? whole : 0);
                cr_assert_eq(heads[c + 1] - heads[c], own ? 32u : 0u);
            }
        }
}

/* By hand: 331 is 20 granules of 16 and 11 more; three ranks get 6, 7 and 7 granules, the last one also the
 * rest. */
Test(shard_granules, the_widest_share_is_known)
{
    cr_assert_eq(hw_shard_widest(331, 1), 331);
    cr_assert_eq(hw_shard_widest(331, 3), 7 * 16 + 11);
    cr_assert_eq(hw_shard_widest(3, 8), 1);
    cr_assert_eq(hw_shard_widest(0, 4), 0);
}
