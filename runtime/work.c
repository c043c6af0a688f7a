#include "runtime/work.h"

const char *hw_work_site_name(hw_work_site site)
{
    static const char *const names[HW_N_WORK_SITES] = {"embed", "qkv", "scores", "values",
                                                       "wo",    "mlp", "head",   "other"};
    return names[site];
}

void hw_work_add(hw_work *sum, hw_work w)
{
    sum->flops += w.flops;
    sum->replicated_flops += w.replicated_flops;
    sum->weight_bytes += w.weight_bytes;
    sum->kv_bytes += w.kv_bytes;
    sum->activation_bytes += w.activation_bytes;
}

hw_work hw_work_phase(const hw_work_table *t, hw_phase phase)
{
    hw_work sum = {0};
    for (int site = 0; site < HW_N_WORK_SITES; site++) hw_work_add(&sum, t->site[site][phase]);
    return sum;
}

uint64_t hw_work_bytes(hw_work w) { return w.weight_bytes + w.kv_bytes + w.activation_bytes; }

double hw_work_intensity(hw_work w)
{
    return hw_work_bytes(w) ? (double)w.flops / (double)hw_work_bytes(w) : 0;
}

/* floor(n * part / whole) without overflow: part < whole, and whole is a number of rows. */
static uint64_t share(uint64_t n, uint64_t part, uint64_t whole)
{
    return n / whole * part + n % whole * part / whole;
}

void hw_work_record(hw_work_table *t, hw_work_site site, int prefill_rows, int decode_rows, hw_work w)
{
    hw_work *to = t->site[site];
    if (!prefill_rows || !decode_rows) {
        hw_work_add(&to[prefill_rows ? HW_PREFILL : HW_DECODE], w);
        return;
    }
    uint64_t part = (uint64_t)decode_rows, rows = part + (uint64_t)prefill_rows;
    hw_work decode = {.flops = share(w.flops, part, rows),
                      .replicated_flops = share(w.replicated_flops, part, rows),
                      .weight_bytes = share(w.weight_bytes, part, rows),
                      .kv_bytes = share(w.kv_bytes, part, rows),
                      .activation_bytes = share(w.activation_bytes, part, rows)};
    hw_work_add(&to[HW_DECODE], decode);
    w.flops -= decode.flops;
    w.replicated_flops -= decode.replicated_flops;
    w.weight_bytes -= decode.weight_bytes;
    w.kv_bytes -= decode.kv_bytes;
    w.activation_bytes -= decode.activation_bytes;
    hw_work_add(&to[HW_PREFILL], w);
}
