#include <criterion/criterion.h>

#include "parallel/traffic_model.h"

static hw_traffic_model reduce(size_t count, size_t element, int rank, int n_ranks, int n_sharing)
{
    return hw_traffic_model_all_reduce((hw_place){rank, n_ranks, n_sharing}, count, element);
}

static uint64_t sum_of_bytes(size_t count, size_t element, int n_ranks)
{
    uint64_t n = 0;
    for (int r = 0; r < n_ranks; r++) n += reduce(count, element, r, n_ranks, 1).bytes;
    return n;
}

Test(volume, nothing_is_sent_by_one_rank_or_for_nothing)
{
    cr_expect_eq(sum_of_bytes(100000, 4, 1), 0);
    cr_expect_eq(sum_of_bytes(0, 4, 7), 0);
    cr_expect_eq(hw_traffic_model_all_gather((hw_place){0, 5, 1}, 0).messages, 0);
}

/* By hand: 8 ranks double three times, 3 * 4 * 768 bytes each. */
Test(volume, short_vectors_are_sent_whole_log2_times)
{
    for (int r = 0; r < 8; r++) {
        hw_traffic_model v = reduce(768, 4, r, 8, 1);
        cr_expect_eq(v.bytes, 9216);
        cr_expect_eq(v.messages, 3);
    }
}

/* By hand, 5 ranks: 0 and 1 are a pair. 1 gives its vector; 0 exchanges twice among 4 nodes and gives the sum
 * back. */
Test(volume, ranks_beyond_a_power_of_two_work_in_pairs)
{
    static const uint64_t wanted[5] = {3, 1, 2, 2, 2};
    for (int r = 0; r < 5; r++) cr_expect_eq(reduce(10, 8, r, 5, 1).bytes, wanted[r] * 80);
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
    hw_traffic_model v = reduce((size_t)3 << 28, 4, 1, 2, 1);
    cr_expect_eq(v.bytes, UINT64_C(3) << 30);
    cr_expect_eq(v.messages, 12);
}

static void expect_traffic(hw_traffic_model v, uint64_t bytes, uint64_t messages)
{
    cr_expect_eq(v.bytes, bytes, "%zu bytes, wanted %zu", (size_t)v.bytes, (size_t)bytes);
    cr_expect_eq(v.messages, messages, "%zu messages, wanted %zu", (size_t)v.messages, (size_t)messages);
}

/* By hand, 4 ranks of a host: three others read a short vector of 3072 bytes. Of 32 KiB each of them reads
 * its slice of 8 KiB, and then all three this rank's slice of the sum. */
Test(volume, in_shared_memory_every_reader_counts)
{
    for (int r = 0; r < 4; r++) {
        expect_traffic(reduce(768, 4, r, 4, 4), 3 * 3072, 3);
        expect_traffic(reduce(8192, 4, r, 4, 4), 3 * 8192 + 3 * 8192, 6);
    }
    expect_traffic(hw_traffic_model_all_gather((hw_place){2, 4, 4}, 40), 3 * 40, 3);
}

/* By hand, two hosts of 2: the first rank of a host adds a short vector, gives its sum to the other host and
 * the total to its neighbour, which gave it a vector. A long one of 64 KiB is two slices: each rank gives a
 * slice of its vector to its neighbour, a slice of the sum to the other host (in halves, since 32 KiB is long
 * there), and a slice of the total to its neighbour. */
Test(volume, between_hosts_one_sum_goes_by_message)
{
    expect_traffic(reduce(768, 4, 0, 4, 2), 3072 + 3072, 2);
    expect_traffic(reduce(768, 4, 1, 4, 2), 3072, 1);
    for (int r = 0; r < 4; r++) expect_traffic(reduce(16384, 4, r, 4, 2), 3 * 32768, 1 + 2 + 1);
    expect_traffic(hw_traffic_model_all_gather((hw_place){3, 4, 2}, 40), 3 * 40, 2);
}

/* 600 KiB are pieces of 256, 256 and 88 KiB; two ranks exchange half of each, and the sums of the halves. */
Test(volume, long_vectors_go_through_shared_memory_in_pieces)
{
    expect_traffic(reduce(150 << 10, 4, 1, 2, 2), 600 << 10, 3 * 2);
    expect_traffic(hw_traffic_model_all_gather((hw_place){1, 2, 2}, 600 << 10), 600 << 10, 3);
}

Test(volume, slices_cover_a_vector_in_whole_lines)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 3072, 32768, 100004};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int n = 1; n <= 9; n++) {
            size_t end = 0;
            for (int i = 0; i < n; i++) {
                hw_slice s = hw_traffic_model_slice(sizes[k], i, n);
                cr_expect_eq(s.begin, end);
                cr_expect(s.begin % 64 == 0 || s.begin == sizes[k]);
                end = s.end;
            }
            cr_expect_eq(end, sizes[k]);
            cr_expect_eq(hw_traffic_model_slice(sizes[k], n, n).begin,
                         hw_traffic_model_slice(sizes[k], n, n).end);
        }
}

/* A host's sum is a node of the tree over all ranks only where hosts have equal powers of two. */
Test(volume, memory_is_shared_where_hosts_are_subtrees)
{
    cr_expect_eq(hw_traffic_model_sharing(5, 8), 5);
    cr_expect_eq(hw_traffic_model_sharing(3, 3), 3);
    cr_expect_eq(hw_traffic_model_sharing(8, 4), 4);
    cr_expect_eq(hw_traffic_model_sharing(6, 2), 2);
    cr_expect_eq(hw_traffic_model_sharing(6, 3), 1);
    cr_expect_eq(hw_traffic_model_sharing(6, 4), 1);
    cr_expect_eq(hw_traffic_model_sharing(4, 1), 1);
}
