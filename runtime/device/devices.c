#include "runtime/device/devices.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/plugin.h"

static hw_device_place place_of(hw_comm *comm)
{
    return (hw_device_place){hw_comm_local_rank(comm), hw_comm_n_local_ranks(comm)};
}

/* Creates the device on this rank alone. */
static hw_status make(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                      hw_error *err)
{
    if (!strcmp(name, "reference")) return hw_reference_device_create(out, err);
    if (!strcmp(name, "cpu")) return hw_cpu_device_create(out, n_threads, NULL, err);
    if (!strcmp(name, "cuda") || strchr(name, '/'))
        return hw_plugin_device_create(out, name, place_of(comm), dtype, err);
    return hw_fail(err, HW_ERR_UNSUPPORTED,
                   "device \"%s\" is not known; use auto, cpu, cuda, reference, or a plug-in's path", name);
}

/* Why ranks that have devices, or some of which have, do not use them; nothing where none has one. `all` [n]: the
 * hardware of each rank, 0 without. */
static hw_status judge_hardware(const uint64_t *all, int n, hw_error *why)
{
    int n_with = 0, without = 0;
    for (int r = 0; r < n; r++) {
        n_with += all[r] != 0;
        if (!all[r]) without = r;
        for (int other = 0; other < r && all[r]; other++)
            if (all[other] == all[r])
                return hw_fail(why, HW_ERR_DEVICE,
                               "ranks %d and %d would share a GPU; --device cuda lets them", other, r);
    }
    if (!n_with || n_with == n) return HW_OK;
    return hw_fail(why, HW_ERR_DEVICE, "rank %d has no GPU, and others have", without);
}

/* Collective. Whether every rank has a device, and none is another rank's too; else `why`. */
static hw_status each_has_its_own(bool *yes, const hw_device *mine, hw_comm *comm, hw_error *why,
                                  hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const int n = hw_comm_n_ranks(comm);
    const uint64_t hardware = mine ? mine->hardware : 0;
    uint64_t *all = calloc((size_t)n, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "devices: no memory for %d ranks", n);
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, tag, &hardware, sizeof hardware, all, err);
    *yes = !st && !judge_hardware(all, n, why) && all[0];
    free(all);
    return st;
}

/* Where there is a driver, doing without it is worth a word. */
static hw_status choose_any(hw_device **out, hw_comm *comm, int n_threads, hw_dtype dtype, hw_error *note,
                            hw_error *err)
{
    bool taken = false, found = false;
    hw_device *gpu = NULL;
    hw_error tried = {.rank = -1}, apart = {.rank = -1};
    hw_status failed = HW_OK;
    if (hw_plugin_may_find_gpu())
        failed = hw_plugin_device_try(&gpu, "cuda", place_of(comm), dtype, &found, &tried);
    hw_status st = each_has_its_own(&taken, gpu, comm, &apart, err);
    if (!st && taken) {
        *out = gpu;
        return HW_OK;
    }
    hw_device_destroy(gpu);
    if (st) return st;
    *note = hw_comm_agree(comm, found ? failed : HW_OK, &tried) ? tried : apart;
    return make(out, comm, "cpu", n_threads, dtype, err);
}

hw_status hw_device_choose(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                           hw_error *note, hw_error *err)
{
    const bool any = !strcmp(name, "auto");
    *out = NULL;
    note->message[0] = '\0';
    hw_status st = any ? choose_any(out, comm, n_threads, dtype, note, err)
                       : make(out, comm, name, n_threads, dtype, err);
    st = hw_comm_agree(comm, st, err);
    if (!st) return HW_OK;
    hw_device_destroy(*out);
    *out = NULL;
    return st;
}

/* ---- collectives on the device */

enum { PROOF_COUNT = 259 }; /* not a multiple of the warp size */

/* Up to 7 from each rank: sums over 32 ranks are exact in bfloat16, which counts to 256. */
static float summand(int rank, int i) { return (float)((i * 5 + rank * 3) % 8); }

static hw_status compare_sums(const float *got, hw_comm *comm, hw_error *err)
{
    const int n_ranks = hw_comm_n_ranks(comm);
    for (int i = 0; i < PROOF_COUNT; i++) {
        float want = 0;
        for (int r = 0; r < n_ranks; r++) want += summand(r, i);
        /* With more ranks each addition may round, by half a unit in the last of bfloat16's 8 bits. */
        const float most = n_ranks > 32 ? want * (float)n_ranks * 0x1p-8f : 0;
        if (got[i] - want <= most && want - got[i] <= most) continue;
        return hw_fail(
            err, HW_ERR_DEVICE,
            "collectives \"%s\": an all-reduce over %d ranks gives %g at [%d], wanted %g: the library or the "
            "links between GPUs work wrongly; use --comm mpi; HW_PROVE=off leaves this check out",
            hw_comm_backend(comm), n_ranks, (double)got[i], i, (double)want);
    }
    return HW_OK;
}

/* Collective, in the type of messages.   sums [PROOF_COUNT] written   at [PROOF_COUNT] D */
static hw_status sum_once(float *sums, void *at, hw_device *d, hw_comm *comm, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    char stored[PROOF_COUNT * sizeof(float)];
    const size_t n_bytes = PROOF_COUNT * hw_dtype_size(d->act);
    for (int i = 0; i < PROOF_COUNT; i++) sums[i] = summand(hw_comm_rank(comm), i);
    hw_convert(stored, d->act, sums, HW_F32, PROOF_COUNT);
    hw_status st = d->k->copy_in(d, at, stored, n_bytes);
    if (!st) st = hw_comm_device_first_all_reduce(comm, tag, at, PROOF_COUNT, d->act, HW_SUM, err);
    if (st) return st;
    st = d->k->copy_out(d, stored, at, n_bytes);
    const hw_status told = d->k->synchronize(d, err);
    hw_convert(sums, HW_F32, stored, d->act, PROOF_COUNT);
    return told ? told : st;
}

/* Collective. The first wait for the stream must have a deadline, which hw_comm_device_wait has. */
static hw_status prove_sum(hw_device *d, hw_comm *comm, hw_error *err)
{
    float sums[PROOF_COUNT];
    void *at = NULL;
    if (!hw_comm_on_device(comm) || hw_proofs_are_off()) return HW_OK;
    hw_status st = hw_comm_agree(comm, d->k->alloc(d, &at, sizeof sums, err), err);
    if (!st) {
        st = sum_once(sums, at, d, comm, err);
        if (!st) st = compare_sums(sums, comm, err);
        st = hw_comm_agree(comm, st, err);
    }
    d->k->free(d, at);
    return st;
}

hw_status hw_device_attach(hw_device *d, hw_comm *comm, hw_error *err)
{
    const hw_comm_attachment a = {.ops = hw_device_symbol(d, HW_COMM_DEVICE_SYMBOL),
                                  .stream = d->k->stream ? d->k->stream(d) : NULL,
                                  .hardware = d->hardware,
                                  .name = hw_device_description(d)};
    const hw_status st = hw_comm_attach(comm, &a, err);
    return st ? st : prove_sum(d, comm, err);
}
