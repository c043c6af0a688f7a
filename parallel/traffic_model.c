#include "parallel/traffic_model.h"

static void add_message(hw_traffic_model *v, uint64_t n_bytes)
{
    v->bytes += n_bytes;
    v->messages += n_bytes / HW_PIECE_BYTES + (n_bytes % HW_PIECE_BYTES != 0);
}

/* Halving among p = 2^k nodes. A node keeps the upper, larger half of an odd vector if its bit of that step is set,
 * so after i steps it has floor((count + node mod 2^i) / 2^i) elements. It sends the other halves in the
 * reduce-scatter, and what it has in the all-gather. */
static void add_halves(hw_traffic_model *v, size_t count, size_t element_bytes, unsigned node, unsigned p)
{
    size_t before = count;
    for (unsigned n = 2; n <= p; n *= 2) {
        size_t kept = (count + node % n) / n;
        add_message(v, (before - kept) * element_bytes);
        add_message(v, kept * element_bytes);
        before = kept;
    }
}

/* Messages alone. */
static hw_traffic_model by_message(size_t count, size_t element_bytes, int rank, int n_ranks)
{
    hw_traffic_model v = {0};
    unsigned p = 1, r = (unsigned)rank;
    size_t n_bytes = count * element_bytes;
    if (n_ranks < 2 || !count) return v;
    while (2 * p <= (unsigned)n_ranks) p *= 2;
    unsigned extra = (unsigned)n_ranks - p, paired = r < 2 * extra, node = paired ? r / 2 : r - extra;
    if (paired) add_message(&v, n_bytes); /* the odd rank sends its vector, the even one the sum */
    if (paired && r % 2) return v;
    if (n_bytes >= HW_LONG_BYTES) add_halves(&v, count, element_bytes, node, p);
    else
        for (unsigned n = 2; n <= p; n *= 2) add_message(&v, n_bytes);
    return v;
}

/* ---- shared memory */

int hw_traffic_model_sharing(int n_ranks, int per_host)
{
    if (n_ranks <= per_host) return n_ranks;
    return n_ranks % per_host == 0 && (per_host & (per_host - 1)) == 0 ? per_host : 1;
}

hw_slice hw_traffic_model_slice(size_t n_bytes, int i, int n)
{
    enum { LINE = 64 };
    const size_t lines = (n_bytes + LINE - 1) / LINE;
    if (i >= n) return (hw_slice){n_bytes, n_bytes};
    size_t begin = lines * (size_t)i / (size_t)n * LINE, end = lines * ((size_t)i + 1) / (size_t)n * LINE;
    return (hw_slice){begin < n_bytes ? begin : n_bytes, end < n_bytes ? end : n_bytes};
}

static size_t slice_bytes(size_t n_bytes, int i, int n)
{
    hw_slice s = hw_traffic_model_slice(n_bytes, i, n);
    return s.end - s.begin;
}

static void add_reads(hw_traffic_model *v, uint64_t n_bytes, int readers)
{
    if (!n_bytes) return;
    v->bytes += n_bytes * (uint64_t)readers;
    v->messages += (uint64_t)readers;
}

/* One piece: other ranks read their slices of this rank's vector, then all read this rank's slice of the sum. */
static void add_slices(hw_traffic_model *v, hw_place at, size_t n_bytes, int n_slices, size_t element_bytes)
{
    const int me = at.rank % at.n_sharing;
    const size_t mine = slice_bytes(n_bytes, me, n_slices);
    for (int i = 0; i < n_slices; i++)
        if (i != me) add_reads(v, slice_bytes(n_bytes, i, n_slices), 1);
    add_reads(v, mine, at.n_sharing - 1);
    hw_traffic_model between =
        by_message(mine / element_bytes, element_bytes, at.rank / at.n_sharing, at.n_ranks / at.n_sharing);
    v->bytes += between.bytes;
    v->messages += between.messages;
}

hw_traffic_model hw_traffic_model_all_reduce(hw_place at, size_t count, size_t element_bytes)
{
    hw_traffic_model v = {0};
    size_t n_bytes = count * element_bytes;
    if (at.n_sharing == 1) return by_message(count, element_bytes, at.rank, at.n_ranks);
    if (n_bytes >= HW_SHM_LONG_BYTES)
        for (size_t piece; n_bytes; n_bytes -= piece) {
            piece = n_bytes < HW_SHM_PIECE_BYTES ? n_bytes : HW_SHM_PIECE_BYTES;
            add_slices(&v, at, piece, at.n_sharing, element_bytes);
        }
    else if (at.n_ranks > at.n_sharing) add_slices(&v, at, n_bytes, 1, element_bytes);
    else add_reads(&v, n_bytes, at.n_sharing - 1);
    return v;
}

hw_traffic_model hw_traffic_model_all_gather(hw_place at, size_t n_bytes)
{
    const uint64_t hosts = (uint64_t)(at.n_ranks / at.n_sharing), all = n_bytes * hosts;
    const uint64_t pieces = (all + HW_SHM_PIECE_BYTES - 1) / HW_SHM_PIECE_BYTES;
    return (hw_traffic_model){.bytes = n_bytes * ((uint64_t)at.n_ranks - 1),
                              .messages = n_bytes ? hosts - 1 + pieces * ((uint64_t)at.n_sharing - 1) : 0};
}

double hw_ideal_all_reduce(double payload_bytes, int n_ranks)
{
    return 2.0 * (n_ranks - 1) / n_ranks * payload_bytes;
}

double hw_ideal_all_gather(double payload_bytes, int n_ranks)
{
    return 1.0 * (n_ranks - 1) / n_ranks * payload_bytes;
}
