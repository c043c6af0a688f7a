#include "parallel/volume.h"

static void add_message(hw_volume *v, uint64_t n_bytes)
{
    v->bytes += n_bytes;
    v->messages += n_bytes / HW_PIECE_BYTES + (n_bytes % HW_PIECE_BYTES != 0);
}

/* Among p = 2^k nodes by halves. A node keeps the upper, larger half of an odd vector where its bit of that
 * step is set, so after i steps it has floor((count + node mod 2^i) / 2^i) elements. On the way there it
 * gives away the other halves, on the way back what it has. */
static void add_halves(hw_volume *v, size_t count, size_t element_bytes, unsigned node, unsigned p)
{
    size_t before = count;
    for (unsigned n = 2; n <= p; n *= 2) {
        size_t kept = (count + node % n) / n;
        add_message(v, (before - kept) * element_bytes);
        add_message(v, kept * element_bytes);
        before = kept;
    }
}

hw_volume hw_volume_all_reduce(size_t count, size_t element_bytes, int rank, int n_ranks)
{
    hw_volume v = {0};
    unsigned p = 1, r = (unsigned)rank;
    size_t n_bytes = count * element_bytes;
    if (n_ranks < 2 || !count) return v;
    while (2 * p <= (unsigned)n_ranks) p *= 2;
    unsigned extra = (unsigned)n_ranks - p, paired = r < 2 * extra, node = paired ? r / 2 : r - extra;
    if (paired) add_message(&v, n_bytes); /* the odd rank its vector, the even one the sum */
    if (paired && r % 2) return v;
    if (n_bytes >= HW_LONG_BYTES) add_halves(&v, count, element_bytes, node, p);
    else
        for (unsigned n = 2; n <= p; n *= 2) add_message(&v, n_bytes);
    return v;
}

hw_volume hw_volume_all_gather(size_t n_bytes, int n_ranks)
{
    uint64_t others = (uint64_t)n_ranks - 1;
    return (hw_volume){.bytes = n_bytes * others, .messages = n_bytes ? others : 0};
}

double hw_ideal_all_reduce(double payload_bytes, int n_ranks)
{
    return 2.0 * (n_ranks - 1) / n_ranks * payload_bytes;
}

double hw_ideal_all_gather(double payload_bytes, int n_ranks)
{
    return 1.0 * (n_ranks - 1) / n_ranks * payload_bytes;
}
