/* Checks the collectives from the inside, on as many ranks as it is started on. test_comm.c starts it under
 * mpirun.
 *
 *   comm_worker [BACKEND [N]]      N: as if every N neighbours were on a host of their own
 *
 * Every rank knows what every other rank gives, since inputs are a function of (rank, index), and works the
 * result out by itself with plain loops. Exit code 0 when everything holds on every rank; otherwise standard
 * error says what does not. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parallel/traffic_model.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"
#include "tests/support/over_hosts.h"

enum { MAX_RANKS = 64, MAX_COUNT = 100003, LARGEST = 1 << 20 };

/* Small ones, an odd width, a model's width, and both sides of the size from which vectors are halved or
 * sliced instead of sent whole (32 KiB: 8192 float32, 4096 uint64); the largest is more than one piece of
 * shared memory. */
static const size_t counts[] = {0, 1, 2, 3, 767, 768, 4095, 4096, 4097, 8191, 8192, 8193, MAX_COUNT};
enum { N_COUNTS = sizeof counts / sizeof *counts };

/* splitmix64 of (rank, index): the same on every rank. */
static uint64_t bits_of(int of_rank, size_t i)
{
    uint64_t z = (uint64_t)of_rank * 1000003u + i * 0x9e3779b97f4a7c15u + 12345;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Magnitudes from 2^-15 to 2^16 and both signs, so that another order of additions gives other bits almost
 * everywhere. */
static float number_of(int of_rank, size_t i)
{
    uint64_t z = bits_of(of_rank, i);
    float x = (float)(z & 0xffffff) / 16777216.0f + 0.5f;
    for (uint64_t e = z >> 24 & 15; e; e--) x *= z >> 40 & 1 ? 2 : 0.5f;
    return z >> 63 ? -x : x;
}

/* ---- the documented sum: pairs first, then a balanced tree */

/* x as a number of the type, and as a float32 again. */
static float rounded(float x, hw_dtype type)
{
    uint32_t kept;
    hw_convert(&kept, type, &x, HW_F32, 1);
    hw_convert(&x, HW_F32, &kept, type, 1);
    return x;
}

static float tree(const float *x, int n, hw_dtype type)
{
    return n == 1 ? *x : rounded(tree(x, n / 2, type) + tree(x + n / 2, n / 2, type), type);
}

static float documented_sum(size_t i, hw_dtype type)
{
    float given[MAX_RANKS], nodes[MAX_RANKS];
    int p = 1, n = 0, r = 0;
    for (int k = 0; k < n_ranks; k++) given[k] = rounded(number_of(k, i), type);
    while (2 * p <= n_ranks) p *= 2;
    for (int extra = n_ranks - p; n < extra; r += 2) nodes[n++] = rounded(given[r] + given[r + 1], type);
    while (r < n_ranks) nodes[n++] = given[r++];
    return tree(nodes, p, type);
}

/* ---- what the meter must have counted */

static hw_traffic counted(hw_site site) { return hw_meter_site(hw_comm_meter(comm), site, HW_PREFILL); }

/* The sum over ranks, which does not depend on how halves of odd vectors fall. */
static uint64_t over_ranks(uint64_t mine)
{
    hw_error err;
    must(hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, &mine, 1, HW_U64, HW_SUM, &err), &err);
    return mine;
}

/* All of n ranks together, by messages: a whole vector in each of log2 p rounds, or 2 (p - 1) vectors in
 * halves; and two for each rank beyond p. */
static uint64_t sent_by_message(uint64_t n, uint64_t n_bytes)
{
    uint64_t p = 1, rounds = 0;
    while (2 * p <= n) p *= 2, rounds++;
    return n_bytes * (2 * (n - p) + (n_bytes < 32768 ? p * rounds : 2 * (p - 1)));
}

/* All ranks together. In shared memory n (n - 1) vectors are read while they are short; in slices every
 * number is read by the one that adds it and the sum by the others: 2 (n - 1) vectors. Between two hosts the
 * slices of a vector are two vectors, long or short. */
static uint64_t all_reduce_sent(uint64_t n_bytes)
{
    const uint64_t n = (uint64_t)n_ranks, m = (uint64_t)hw_comm_n_sharing(comm), hosts = n / m;
    if (m == 1) return sent_by_message(n, n_bytes);
    if (hosts == 1) return n_bytes * (n_bytes < 32768 ? n * (n - 1) : 2 * (n - 1));
    return n_bytes * (hosts * 2 * (m - 1) + 2);
}

/* Between more hosts it depends on the slices' own lengths: traffic_model.c's closed form. */
static bool by_hand(void) { return n_ranks <= 2 * hw_comm_n_sharing(comm) || hw_comm_n_sharing(comm) == 1; }

static void check_sent(uint64_t n, size_t size)
{
    const hw_place at = {rank, n_ranks, hw_comm_n_sharing(comm)};
    hw_traffic_model v = hw_traffic_model_all_reduce(at, n, size);
    hw_traffic t = counted(HW_SITE_MLP);
    expect(t.sent_bytes == v.bytes && t.messages == v.messages, "an all-reduce sends the closed form", n);
    hw_meter *m = hw_comm_meter(comm);
    uint64_t elsewhere = 0;
    for (int to = 0; to < n_ranks; to++)
        if (hw_comm_host_of(comm, to) != hw_comm_host_of(comm, rank))
            elsewhere += hw_meter_recent_bytes(m, to);
    /* Over hosts together: what the hosts' sums take between as many ranks as there are hosts. */
    elsewhere = over_ranks(elsewhere);
    const uint64_t hosts = (uint64_t)(n_ranks / hw_comm_n_sharing(comm));
    if (hw_comm_n_sharing(comm) > 1 && by_hand())
        expect(elsewhere == (hosts - 1) * 2 * n * size, "between hosts one sum is sent each way", n);
}

static void check_meter(uint64_t payload, uint64_t sent_by_all, size_t size)
{
    hw_traffic t = counted(HW_SITE_MLP);
    expect(t.calls == (n_ranks > 1), "calls are counted once", size);
    expect(t.payload_bytes == (n_ranks > 1 ? payload : 0), "payload is the buffer", size);
    expect(over_ranks(t.sent_bytes) == (n_ranks > 1 ? sent_by_all : 0), "sent is the closed form", size);
}

/* ---- collectives */

static const hw_tag tag = {.site = HW_SITE_MLP, .prefill_rows = 1};

static void check_sum_f32(float *x, size_t n, bool exact)
{
    hw_error err;
    /* Small integers: 64 ranks of at most 1000 are exact in any order. */
    for (size_t i = 0; i < n; i++) x[i] = exact ? (float)(bits_of(rank, i) % 1000) : number_of(rank, i);
    x[n] = 77;
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_all_reduce(comm, tag, x, n, HW_F32, HW_SUM, &err), &err);
    bool good = x[n] == 77;
    for (size_t i = 0; i < n && good; i++) {
        float want = 0;
        for (int r = 0; r < n_ranks && exact; r++) want += (float)(bits_of(r, i) % 1000);
        if (!exact) want = documented_sum(i, HW_F32);
        good = !memcmp(&x[i], &want, sizeof want);
    }
    expect(good, exact ? "float32 sum of integers" : "float32 sum has the bits of the documented tree", n);
    check_sent(n, sizeof *x);
    if (by_hand()) check_meter(n * sizeof *x, all_reduce_sent(n * sizeof *x), n);
}

static void check_sum_halves(uint16_t *x, size_t n, hw_dtype type)
{
    hw_error err;
    for (size_t i = 0; i < n; i++) {
        const float mine = number_of(rank, i);
        hw_convert(&x[i], type, &mine, HW_F32, 1);
    }
    x[n] = 77;
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_all_reduce(comm, tag, x, n, type, HW_SUM, &err), &err);
    bool good = x[n] == 77;
    for (size_t i = 0; i < n && good; i++) {
        float got;
        hw_convert(&got, HW_F32, &x[i], type, 1);
        good = got == documented_sum(i, type);
    }
    expect(good, type == HW_BF16 ? "bfloat16 sum" : "float16 sum", n);
    check_sent(n, sizeof *x);
    if (by_hand()) check_meter(n * sizeof *x, all_reduce_sent(n * sizeof *x), n);
}

static void check_u64(uint64_t *x, size_t n, hw_reduce op)
{
    hw_error err;
    bool good = true;
    for (size_t i = 0; i < n; i++) x[i] = bits_of(rank, i);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_all_reduce(comm, tag, x, n, HW_U64, op, &err), &err);
    for (size_t i = 0; i < n && good; i++) {
        uint64_t want = 0;
        for (int r = 0; r < n_ranks; r++) {
            uint64_t b = bits_of(r, i);
            want = op == HW_SUM ? want + b : b > want ? b : want;
        }
        good = x[i] == want;
    }
    expect(good, op == HW_SUM ? "uint64 sum" : "uint64 max", n);
    check_sent(n, sizeof *x);
    if (by_hand()) check_meter(n * sizeof *x, all_reduce_sent(n * sizeof *x), n);
}

static void check_all_gather(char *send, char *recv, size_t n)
{
    hw_error err;
    bool good = true;
    for (size_t i = 0; i < n; i++) send[i] = (char)bits_of(rank, i);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_all_gather(comm, tag, send, n, recv, &err), &err);
    for (int r = 0; r < n_ranks; r++)
        for (size_t i = 0; i < n && good; i++) good = recv[(size_t)r * n + i] == (char)bits_of(r, i);
    expect(good, "all-gather", n);
    uint64_t all = (uint64_t)n_ranks * n;
    expect(counted(HW_SITE_MLP).sent_bytes == all - n, "a rank sends its part to each other", n);
    check_meter(all, all * (uint64_t)(n_ranks - 1), n);
}

static void check_broadcast(char *buffer, size_t n, int root)
{
    hw_error err;
    bool good = true;
    for (size_t i = 0; i < n; i++) buffer[i] = (char)bits_of(rank, i);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_broadcast(comm, tag, buffer, n, root, &err), &err);
    for (size_t i = 0; i < n && good; i++) good = buffer[i] == (char)bits_of(root, i);
    expect(good, "broadcast", n);
    check_meter(n, (uint64_t)n * (uint64_t)(n_ranks - 1), n);
}

/* From every rank to the next one, also nothing at all. */
static void check_messages(char *out, char *in, size_t n)
{
    hw_error err;
    size_t got = 1;
    const int next = (rank + 1) % n_ranks, last = (rank + n_ranks - 1) % n_ranks;
    bool good = true;
    if (n_ranks == 1) return;
    for (size_t i = 0; i < n; i++) out[i] = (char)bits_of(rank, i);
    hw_meter_reset(hw_comm_meter(comm));
    if (rank % 2) must(hw_comm_send(comm, tag, out, n, next, &err), &err);
    must(hw_comm_receive(comm, tag, in, LARGEST, &got, last, &err), &err);
    if (rank % 2 == 0) must(hw_comm_send(comm, tag, out, n, next, &err), &err);
    for (size_t i = 0; i < n && good; i++) good = in[i] == (char)bits_of(last, i);
    expect(good, "a message arrives", n);
    expect(got == n, "a message has its length", n);
    expect(counted(HW_SITE_MLP).calls == 2 && counted(HW_SITE_MLP).messages == 1,
           "one call sends, one receives", n);
    expect(counted(HW_SITE_MLP).payload_bytes == n && counted(HW_SITE_MLP).sent_bytes == n,
           "its sender counts it", n);
}

/* Only rank 0 knows how much there is. */
static void check_share(size_t n)
{
    hw_error err;
    char *bytes = rank ? NULL : calloc(n + 1, 1);
    size_t got = rank ? 12345 : n;
    bool good = true;
    for (size_t i = 0; i < n && rank == 0; i++) bytes[i] = (char)bits_of(0, i);
    if (n_ranks == 1) return free(bytes);
    must(hw_comm_share(comm, tag, &bytes, &got, &err), &err);
    expect(got == n && bytes, "rank 0's bytes are shared", n);
    for (size_t i = 0; i < n && good; i++) good = bytes[i] == (char)bits_of(0, i);
    expect(good && !bytes[n], "they are the same, with a zero behind", n);
    free(bytes);
}

/* Whoever fails, all hear of it: the worst status, in the words of the lowest rank that has it, which is named. */
static void check_agree(void)
{
    char host[HOST_NAME_MAX + 1];
    hw_host_name(host, sizeof host);
    for (int failing = 0; failing <= n_ranks; failing++) {
        hw_error err = {.message = "nothing was said", .rank = -1};
        hw_status mine = HW_OK;
        /* Ranks from `failing` on: the first of them mildly, the others alike and worse. */
        if (rank == failing) mine = hw_fail(&err, HW_ERR_INVALID, "mildly");
        if (rank > failing) mine = hw_fail(&err, HW_ERR_NO_MEMORY, "badly");
        /* Every third one says itself whose it is. What only looks like it decides nothing. */
        if (rank > failing && rank % 3 == 0) err.rank = rank;
        if (rank > failing && rank % 3 == 1) hw_context(&err, mine, "rank 77");
        hw_status st = hw_comm_agree(comm, mine, &err);
        char want[64 + HOST_NAME_MAX] = "nothing was said";
        hw_status want_st = HW_OK;
        const int who = failing < n_ranks - 1 ? failing + 1 : failing;
        if (failing == n_ranks - 1) {
            want_st = HW_ERR_INVALID;
            if (who) snprintf(want, sizeof want, "rank %d on %s: mildly", who, host);
            else snprintf(want, sizeof want, "mildly");
        } else if (failing < n_ranks - 1) {
            want_st = HW_ERR_NO_MEMORY;
            const char *said = who % 3 == 1 ? "rank 77: badly" : "badly";
            if (who % 3) snprintf(want, sizeof want, "rank %d on %s: %s", who, host, said);
            else snprintf(want, sizeof want, "%s", said);
        }
        expect(st == want_st, "agree gives the worst status", (size_t)failing);
        expect(!strcmp(err.message, want), "agree gives its message", (size_t)failing);
        expect(n_ranks == 1 || err.rank == (want_st ? who : -1), "and says whose it is", (size_t)failing);
    }
    expect(hw_comm_agree(comm, rank == 0 ? HW_ERR_RANK : HW_OK, NULL) == HW_ERR_RANK, "agree without words",
           0);
}

/* A few times in a row, and behind a rank 0 that comes late: nobody is back before it has called. */
static void check_wait_idle(void)
{
    hw_meter_reset(hw_comm_meter(comm));
    for (size_t i = 0; i < 4; i++) {
        hw_error err;
        const struct timespec late = {.tv_nsec = 50000000};
        if (rank == 0 && i == 2) nanosleep(&late, NULL);
        uint64_t called_ns = hw_clock_ns();
        must(hw_comm_wait_idle(comm, &err), &err);
        const uint64_t back_ns = hw_clock_ns();
        must(hw_comm_broadcast(comm, tag, &called_ns, sizeof called_ns, 0, &err), &err);
        expect(called_ns <= back_ns, "who waits for work is not back before there is some", i);
    }
    const hw_traffic t = counted(HW_SITE_CONTROL);
    const uint64_t n_woken = (uint64_t)(n_ranks - 1);
    expect(t.calls == (n_ranks > 1 ? 4 : 0), "waiting for work is counted", t.calls);
    expect(t.messages == (rank ? 0 : 4 * n_woken) && !t.sent_bytes, "each is woken by an empty message",
           t.messages);
}

/* Tree of one step: three rows of prefill and one of decode share a call. */
static void check_phases(void)
{
    hw_error err;
    float x[8] = {0};
    hw_meter *m = hw_comm_meter(comm);
    hw_meter_reset(m);
    must(hw_comm_all_reduce(comm, (hw_tag){HW_SITE_ATTN, 0, 3, 1}, x, 8, HW_F32, HW_SUM, &err), &err);
    hw_traffic prefill = hw_meter_site(m, HW_SITE_ATTN, HW_PREFILL),
               decode = hw_meter_site(m, HW_SITE_ATTN, HW_DECODE);
    bool several = n_ranks > 1;
    expect(prefill.payload_bytes == (several ? 24 : 0), "three quarters are prefill", 0);
    expect(decode.payload_bytes == (several ? 8 : 0), "one quarter is decode", 0);
    const uint64_t sent = over_ranks(prefill.sent_bytes + decode.sent_bytes);
    if (by_hand())
        expect(sent == (several ? all_reduce_sent(32) : 0), "the phases together are what was sent", 0);
}

/* Sizes and types as they come, the same on all ranks. */
static void check_random_sizes(uint64_t *numbers)
{
    for (size_t i = 0; i < 30; i++) {
        const uint64_t z = bits_of(0, i + 777);
        const size_t n = (size_t)(z >> 20) % ((size_t)1 << (1 + z % 17));
        if (z >> 60 & 2) check_sum_f32((float *)numbers, n, false);
        else check_u64(numbers, n, z >> 60 & 1 ? HW_SUM : HW_MAX);
    }
}

/* Broadcasts do not make their root wait for the others, so it may be two of them ahead, and no further. */
static void check_stream_of_broadcasts(void)
{
    bool good = true;
    for (int i = 0; i < 500; i++) {
        hw_error err;
        uint64_t word = bits_of(rank, (size_t)i);
        must(hw_comm_broadcast(comm, tag, &word, sizeof word, i / 100 % n_ranks, &err), &err);
        good = good && word == bits_of(i / 100 % n_ranks, (size_t)i);
    }
    expect(good, "500 broadcasts in a row", 0);
}

static void check_all(void)
{
    static const size_t broadcasts[] = {0, 1, 5, LARGEST};
    uint64_t *numbers = malloc((MAX_COUNT + 1) * sizeof *numbers);
    char *send = malloc(LARGEST), *in = malloc(LARGEST), *recv = malloc((size_t)n_ranks * MAX_COUNT);
    if (!numbers || !send || !in || !recv) hw_comm_abort(comm, 3);
    for (size_t i = 0; i < N_COUNTS; i++) {
        check_sum_f32((float *)numbers, counts[i], true);
        check_sum_f32((float *)numbers, counts[i], false);
        check_sum_halves((uint16_t *)numbers, counts[i], HW_BF16);
        check_sum_halves((uint16_t *)numbers, counts[i], HW_F16);
        check_u64(numbers, counts[i], HW_SUM);
        check_u64(numbers, counts[i], HW_MAX);
        check_all_gather(send, recv, counts[i]);
    }
    for (int root = 0; root < n_ranks; root++)
        for (size_t i = 0; i < sizeof broadcasts / sizeof *broadcasts; i++)
            check_broadcast(send, broadcasts[i], root);
    check_random_sizes(numbers);
    check_stream_of_broadcasts();
    for (size_t i = 0; i < sizeof broadcasts / sizeof *broadcasts; i++) {
        check_messages(send, in, broadcasts[i]);
        check_share(broadcasts[i]);
    }
    check_agree();
    check_wait_idle();
    check_phases();
    free(numbers);
    free(send);
    free(in);
    free(recv);
}

int main(int argc, char **argv)
{
    const int per_host = start_as_told(argc, argv);
    expect(n_ranks == hw_comm_launched_ranks(), "the launcher says how many ranks there are", 0);
    expect(rank == hw_comm_launched_rank(), "and which this is", 0);
    expect(hw_comm_n_local_ranks(comm) == (per_host ? per_host : n_ranks), "all ranks are on this host", 0);
    check_all();
    if (rank == 0) printf("%d ranks, %s\n", n_ranks, hw_comm_backend(comm));
    return finish();
}
