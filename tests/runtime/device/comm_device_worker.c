/* Collectives on a device's memory, from the inside, on as many ranks as it is started on. test_device.c of
 * tests/e2e starts it.
 *
 *   comm_device_worker PLUGIN [measure]
 *
 * Every rank knows what every other rank gives and works the result out by itself with plain loops. Exit
 * code 0 when everything holds on every rank; otherwise standard error says what does not. With `measure` a rank never
 * comes to a collective of a measurement (HW_SIMT_NCCL_STOP): all give up, and leave the group as they would have. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/peaks.h"
#include "runtime/device/devices.h"
#include "tests/support/rank.h"

/* One thread, an odd number, a model's width, more than a message of MPI takes at once. */
static const size_t counts[] = {1, 3, 767, 5000};
enum { N_COUNTS = sizeof counts / sizeof *counts, MAX_COUNT = 5000, MAX_RANKS = 16 };

static hw_device *device;

static void read_back(void *to, const void *from, size_t n_bytes)
{
    hw_error err = {.rank = -1};
    must(device->k->copy_out(device, to, from, n_bytes), &err);
    must(hw_comm_device_wait(comm, NULL, &err), &err);
    must(device->k->synchronize(device, &err), &err);
}

/* splitmix64 of (rank, index): the same on every rank. */
static uint64_t bits_of(int of_rank, size_t i)
{
    uint64_t z = (uint64_t)of_rank * 1000003u + i * 0x9e3779b97f4a7c15u + 12345;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Up to 15: sums over 16 ranks are exact in every type (bfloat16 counts to 256). */
static float small(int of_rank, size_t i) { return (float)(bits_of(of_rank, i) % 16); }
static float any(int of_rank, size_t i) { return (float)(int64_t)bits_of(of_rank, i) * 0x1p-50f; }

static bool same_on_all_ranks(const void *bytes, size_t n)
{
    hw_error err = {.rank = -1};
    uint64_t mark = 14695981039346656037u, all[MAX_RANKS];
    for (size_t i = 0; i < n; i++) mark = (mark ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    must(hw_comm_all_gather(comm, (hw_tag){.site = HW_SITE_CONTROL}, &mark, sizeof mark, all, &err), &err);
    for (int r = 0; r < n_ranks; r++)
        if (all[r] != all[0]) return false;
    return true;
}

static void check_sum(void *at, hw_dtype type, size_t n, bool exact)
{
    static float numbers[MAX_COUNT], sums[MAX_COUNT];
    static char stored[MAX_COUNT * sizeof(float)];
    hw_error err = {.rank = -1};
    const size_t n_bytes = n * hw_dtype_size(type);
    const hw_meter *m = hw_comm_meter(comm);
    const hw_tag tag = {.site = HW_SITE_MLP, .decode_rows = 1};
    for (size_t i = 0; i < n; i++) numbers[i] = exact ? small(rank, i) : any(rank, i);
    hw_convert(stored, type, numbers, HW_F32, n);
    must(device->k->copy_in(device, at, stored, n_bytes), &err);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_device_all_reduce(comm, tag, at, n, type, HW_SUM, &err), &err);
    const hw_traffic t = hw_meter_site(m, HW_SITE_MLP, HW_DECODE);
    expect(t.calls == (n_ranks > 1) && t.payload_bytes == (n_ranks > 1 ? n_bytes : 0), "payload is counted",
           n);
    expect(t.sent_bytes == 2 * n_bytes * (size_t)(n_ranks - 1) / (size_t)n_ranks, "sent is a ring's", n);
    read_back(stored, at, n_bytes);
    expect(same_on_all_ranks(stored, n_bytes), "all ranks have the same bits", n);
    hw_convert(sums, HW_F32, stored, type, n);
    for (size_t i = 0; i < n && exact; i++) {
        float want = 0;
        for (int r = 0; r < n_ranks; r++) want += small(r, i);
        if (sums[i] != want) expect(false, hw_dtype_name(type), i);
    }
}

static void check_max(void *at, size_t n)
{
    static uint64_t keys[MAX_COUNT];
    hw_error err = {.rank = -1};
    for (size_t i = 0; i < n; i++) keys[i] = bits_of(rank, i);
    must(device->k->copy_in(device, at, keys, n * sizeof *keys), &err);
    must(hw_comm_device_all_reduce(comm, (hw_tag){.site = HW_SITE_SAMPLE}, at, n, HW_U64, HW_MAX, &err),
         &err);
    read_back(keys, at, n * sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        uint64_t want = 0;
        for (int r = 0; r < n_ranks; r++) want = bits_of(r, i) > want ? bits_of(r, i) : want;
        if (keys[i] != want) expect(false, "maximum", i);
    }
}

static void miss_in_a_measurement(void)
{
    hw_error err = {.rank = -1};
    void *at = NULL;
    double seconds;
    hw_comm_set_stuck_after(comm, 1);
    must(hw_device_attach(device, comm, &err), &err);
    must(device->k->alloc(device, &at, sizeof(float), &err), &err);
    const hw_status st = hw_peak_device_all_reduce(&seconds, comm, at, 1, HW_F32, 8, &err);
    expect(st == HW_ERR_RANK, err.message, 0);
    device->k->free(device, at);
    hw_comm_detach(comm);
}

int main(int argc, char **argv)
{
    static const hw_dtype types[] = {HW_F32, HW_F16, HW_BF16};
    hw_error err = {.rank = -1}, note;
    void *at = NULL;
    if (argc != 2 && argc != 3) return 2;
    start("nccl");
    hw_comm_set_stuck_after(comm, 30); /* there are fewer cores than ranks */
    must(hw_device_choose(&device, comm, argv[1], 1, HW_F32, &note, &err), &err);
    if (argc == 3) miss_in_a_measurement();
    /* A second time, after the first group was left. */
    for (int again = 0; again < 2 && argc == 2; again++) {
        must(hw_device_attach(device, comm, &err), &err);
        expect(!strcmp(hw_comm_backend(comm), "nccl"), "the backend's name", 0);
        must(device->k->alloc(device, &at, MAX_COUNT * sizeof(uint64_t), &err), &err);
        for (size_t i = 0; i < N_COUNTS; i++) {
            for (int t = 0; t < 3; t++) {
                check_sum(at, types[t], counts[i], true);
                check_sum(at, types[t], counts[i], false);
            }
            check_max(at, counts[i]);
        }
        device->k->free(device, at);
        hw_comm_detach(comm);
    }
    hw_device_destroy(device);
    return finish();
}
