#include <criterion/criterion.h>

#include "parallel/volume.h"

static uint64_t sum_of_bytes(size_t count, size_t element, int n_ranks)
{
    uint64_t n = 0;
    for (int r = 0; r < n_ranks; r++) n += hw_volume_all_reduce(count, element, r, n_ranks).bytes;
    return n;
}

Test(volume, nothing_is_sent_by_one_rank_or_for_nothing)
{
    cr_expect_eq(sum_of_bytes(100000, 4, 1), 0);
    cr_expect_eq(sum_of_bytes(0, 4, 7), 0);
    cr_expect_eq(hw_volume_all_gather(0, 5).messages, 0);
}

/* By hand: 8 ranks double three times, 3 * 4 * 768 bytes each. */
Test(volume, short_vectors_are_sent_whole_log2_times)
{
    for (int r = 0; r < 8; r++) {
        hw_volume v = hw_volume_all_reduce(768, 4, r, 8);
        cr_expect_eq(v.bytes, 9216);
        cr_expect_eq(v.messages, 3);
    }
}

/* By hand, 5 ranks: 0 and 1 are a pair. 1 gives its vector; 0 exchanges twice among 4 nodes and gives the sum
 * back. */
Test(volume, ranks_beyond_a_power_of_two_work_in_pairs)
{
    static const uint64_t wanted[5] = {3, 1, 2, 2, 2};
    for (int r = 0; r < 5; r++) cr_expect_eq(hw_volume_all_reduce(10, 8, r, 5).bytes, wanted[r] * 80);
}

/* Reduce-scatter by halves and the way back move every element p - 1 times each, however odd the halves
 * are. */
Test(volume, long_vectors_reach_the_ideal_over_all_ranks)
{
    static const size_t counts[] = {8192, 8193, 10007, 99991};
    for (size_t i = 0; i < 4; i++)
        for (int p = 2; p <= 16; p *= 2) {
            uint64_t sent = sum_of_bytes(counts[i], 4, p);
            cr_expect_eq(sent, 2 * (uint64_t)(p - 1) * counts[i] * 4, "%zu over %d: %zu", counts[i], p,
                         (size_t)sent);
            cr_expect_float_eq((double)sent / p, hw_ideal_all_reduce((double)counts[i] * 4, p), 1e-6);
        }
}

/* 3 GiB over 2 ranks: a half is six pieces of 256 MiB, sent there and back. */
Test(volume, messages_longer_than_a_piece_are_several)
{
    hw_volume v = hw_volume_all_reduce((size_t)3 << 28, 4, 1, 2);
    cr_expect_eq(v.bytes, UINT64_C(3) << 30);
    cr_expect_eq(v.messages, 12);
}
