#include "runtime/devices.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/plugin.h"

/* On this rank alone. */
static hw_status make(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                      hw_error *err)
{
    const hw_device_place place = {hw_comm_local_rank(comm), hw_comm_n_local_ranks(comm)};
    if (!strcmp(name, "reference")) return hw_reference_device_create(out, err);
    if (!strcmp(name, "cpu")) return hw_cpu_device_create(out, n_threads, NULL, err);
    if (!strcmp(name, "cuda") || strchr(name, '/'))
        return hw_plugin_device_create(out, name, place, dtype, err);
    return hw_fail(err, HW_ERR_UNSUPPORTED,
                   "device \"%s\" is not known; use auto, cpu, cuda, reference, or a plug-in's path", name);
}

/* Collective. Whether every rank has a device, and none is another rank's too. */
static hw_status each_has_its_own(bool *yes, const hw_device *mine, hw_comm *comm, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const int n = hw_comm_n_ranks(comm);
    const uint64_t hardware = mine ? mine->hardware : 0;
    uint64_t *all = calloc((size_t)n, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "devices: no memory for %d ranks", n);
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, tag, &hardware, sizeof hardware, all, err);
    *yes = !st;
    for (int r = 0; r < n && *yes; r++) {
        *yes = all[r] != 0;
        for (int other = 0; other < r; other++) *yes = *yes && all[other] != all[r];
    }
    free(all);
    return st;
}

static hw_status choose_any(hw_device **out, hw_comm *comm, int n_threads, hw_dtype dtype, hw_error *err)
{
    bool taken = false;
    hw_device *gpu = NULL;
    if (hw_plugin_may_find_gpu()) (void)make(&gpu, comm, "cuda", n_threads, dtype, NULL);
    hw_status st = each_has_its_own(&taken, gpu, comm, err);
    if (!st && taken) {
        *out = gpu;
        return HW_OK;
    }
    hw_device_destroy(gpu);
    return st ? st : make(out, comm, "cpu", n_threads, dtype, err);
}

hw_status hw_device_choose(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                           hw_error *err)
{
    const bool any = !strcmp(name, "auto");
    *out = NULL;
    hw_status st =
        any ? choose_any(out, comm, n_threads, dtype, err) : make(out, comm, name, n_threads, dtype, err);
    st = hw_comm_agree(comm, st, err);
    if (!st) return HW_OK;
    hw_device_destroy(*out);
    *out = NULL;
    return st;
}

hw_status hw_device_attach(hw_device *d, hw_comm *comm, hw_error *err)
{
    const hw_comm_attachment a = {.ops = hw_device_symbol(d, HW_COMM_DEVICE_SYMBOL),
                                  .stream = d->k->own_stream ? d->k->own_stream(d) : NULL,
                                  .hardware = d->hardware,
                                  .name = hw_device_description(d)};
    return hw_comm_attach(comm, &a, err);
}
