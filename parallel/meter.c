#include "parallel/meter.h"

#include <stdlib.h>
#include <string.h>

typedef hw_traffic layer_traffic[HW_N_SITES][HW_N_PHASES];

struct hw_meter {
    int n_layers;
    layer_traffic *layers;
};

hw_status hw_meter_create(hw_meter **out, hw_error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return hw_fail(err, HW_ERR_NO_MEMORY, "meter: no memory");
    hw_status st = hw_meter_set_layers(*out, 1, err);
    if (st) {
        free(*out);
        *out = NULL;
    }
    return st;
}

void hw_meter_destroy(hw_meter *m)
{
    if (!m) return;
    free(m->layers);
    free(m);
}

hw_status hw_meter_set_layers(hw_meter *m, int n_layers, hw_error *err)
{
    if (n_layers <= m->n_layers) return HW_OK;
    layer_traffic *layers = realloc(m->layers, (size_t)n_layers * sizeof *layers);
    if (!layers) return hw_fail(err, HW_ERR_NO_MEMORY, "meter: no memory for %d layers", n_layers);
    memset(layers + m->n_layers, 0, (size_t)(n_layers - m->n_layers) * sizeof *layers);
    m->layers = layers;
    m->n_layers = n_layers;
    return HW_OK;
}

static void add(hw_traffic *t, uint64_t calls, uint64_t payload, uint64_t sent)
{
    t->calls += calls;
    t->payload_bytes += payload;
    t->sent_bytes += sent;
}

void hw_meter_record(hw_meter *m, hw_tag tag, uint64_t payload_bytes, uint64_t sent_bytes)
{
    int layer = tag.layer < m->n_layers ? tag.layer : m->n_layers - 1;
    hw_traffic *t = m->layers[layer][tag.site];
    uint64_t rows = (uint64_t)tag.prefill_rows + (uint64_t)tag.decode_rows;
    uint64_t decode_payload = rows ? payload_bytes * (uint64_t)tag.decode_rows / rows : 0;
    uint64_t decode_sent = rows ? sent_bytes * (uint64_t)tag.decode_rows / rows : 0;
    hw_phase phase = rows && !tag.prefill_rows ? HW_DECODE : HW_PREFILL;
    add(&t[HW_PREFILL], phase == HW_PREFILL, payload_bytes - decode_payload, sent_bytes - decode_sent);
    add(&t[HW_DECODE], phase == HW_DECODE, decode_payload, decode_sent);
}

void hw_meter_reset(hw_meter *m) { memset(m->layers, 0, (size_t)m->n_layers * sizeof *m->layers); }

hw_traffic hw_meter_layer(const hw_meter *m, hw_site site, int layer, hw_phase phase)
{
    return layer >= 0 && layer < m->n_layers ? m->layers[layer][site][phase] : (hw_traffic){0};
}

hw_traffic hw_meter_site(const hw_meter *m, hw_site site, hw_phase phase)
{
    hw_traffic sum = {0};
    for (int i = 0; i < m->n_layers; i++) {
        hw_traffic t = m->layers[i][site][phase];
        add(&sum, t.calls, t.payload_bytes, t.sent_bytes);
    }
    return sum;
}

const char *hw_site_name(hw_site site)
{
    static const char *const names[HW_N_SITES] = {"embed", "attn", "mlp", "sample", "control", "load"};
    return names[site];
}

const char *hw_phase_name(hw_phase phase) { return phase == HW_PREFILL ? "prefill" : "decode"; }
