/* A plug-in whose device is the plain loops with one op that is broken: what `headway selftest` has to find. HW_BROKEN_OP says
 * which: "matmul" has one wrong bit, "rope_angles" ends the process as an instruction that is not there does; "window" is none that its attention knows; without it
 * all ops are right. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/plugin.h"
#include "kernels/reference/reference.h"

hw_plugin_create_fn hw_plugin_create;

static hw_status broken_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                               int n)
{
    hw_status st = hw_ref_matmul(d, out, x, w, bias, n);
    if (w->dims.format.type == HW_F16) *(float *)out = nextafterf(*(float *)out, INFINITY);
    return st;
}

static hw_status broken_angles(hw_device *d, float *out, const int32_t *positions, int n,
                               const float *inv_freq, int half, float scale)
{
    (void)d, (void)out, (void)positions, (void)n, (void)inv_freq, (void)half, (void)scale;
    raise(SIGILL);
    return HW_OK;
}

hw_status hw_plugin_create(hw_device **out, const hw_plugin_request *request, hw_error *err)
{
    static hw_kernels table;
    const char *broken = getenv("HW_BROKEN_OP");
    *out = NULL;
    if (request->version != HW_PLUGIN_VERSION || request->table_bytes != sizeof table ||
        request->act != HW_F32)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "device broken: of this version, and in float32 alone");
    hw_status st = hw_reference_device_create(out, err);
    if (st) return st;
    table = *(*out)->k;
    if (broken && !strcmp(broken, "matmul")) table.matmul = broken_matmul;
    if (broken && !strcmp(broken, "rope_angles")) table.rope_angles = broken_angles;
    if (broken && !strcmp(broken, "window")) table.attends.window = false;
    (*out)->k = &table;
    return HW_OK;
}
