#include "parallel/meter.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

typedef hw_traffic layer_traffic[HW_N_SITES][HW_N_PHASES];

struct hw_meter {
    int n_layers, n_ranks;
    uint64_t first_ticks, first_ns;               /* both clocks, when the meter was created */
    layer_traffic *layers;                        /* [n_layers] */
    uint64_t *sent_bytes, *sent_messages;         /* [n_ranks + 1], the last is the total */
    uint64_t *bytes_at_reset, *messages_at_reset; /* [n_ranks + 1] the same, at the last reset */
    atomic_ullong
        n_calls; /* incremented after the entry is written, since a watch thread reads the ring concurrently */
    hw_ring_entry ring[HW_METER_RING];
};

hw_status hw_meter_create(hw_meter **out, int n_ranks, hw_error *err)
{
    *out = NULL;
    hw_meter *m = calloc(1, sizeof *m);
    bool made = m != NULL;
    if (m) {
        uint64_t **counters[] = {&m->sent_bytes, &m->sent_messages, &m->bytes_at_reset,
                                 &m->messages_at_reset};
        m->n_ranks = n_ranks;
        m->first_ticks = hw_clock_ticks();
        m->first_ns = hw_clock_ns();
        for (size_t i = 0; i < sizeof counters / sizeof *counters && made; i++)
            made = (*counters[i] = calloc((size_t)n_ranks + 1, sizeof **counters[i])) != NULL;
    }
    hw_status st = made ? hw_meter_set_layers(m, 1, err) : hw_fail(err, HW_ERR_NO_MEMORY, "meter: no memory");
    if (st) hw_meter_destroy(m);
    else *out = m;
    return st;
}

void hw_meter_destroy(hw_meter *m)
{
    if (!m) return;
    free(m->layers);
    free(m->sent_bytes);
    free(m->sent_messages);
    free(m->bytes_at_reset);
    free(m->messages_at_reset);
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

void hw_traffic_add(hw_traffic *sum, hw_traffic t)
{
    sum->calls += t.calls;
    sum->messages += t.messages;
    sum->payload_bytes += t.payload_bytes;
    sum->sent_bytes += t.sent_bytes;
    sum->ideal_bytes += t.ideal_bytes;
    sum->time_ns += t.time_ns;
}

/* The share of the decode rows in a collective. The call itself is counted with the prefill rows. */
static hw_traffic decode_share(hw_traffic t, uint64_t decode, uint64_t rows)
{
    return (hw_traffic){.messages = t.messages * decode / rows,
                        .payload_bytes = t.payload_bytes * decode / rows,
                        .sent_bytes = t.sent_bytes * decode / rows,
                        .ideal_bytes = t.ideal_bytes * (double)decode / (double)rows,
                        .time_ns = t.time_ns * decode / rows};
}

void hw_meter_record(hw_meter *m, hw_tag tag, hw_traffic what, uint64_t ticks)
{
    what.time_ns = ticks; /* converted when it is read */
    int layer = tag.layer < m->n_layers ? tag.layer : m->n_layers - 1;
    hw_traffic *t = m->layers[layer][tag.site];
    hw_phase phase = tag.decode_rows && !tag.prefill_rows ? HW_DECODE : HW_PREFILL;
    const uint64_t number = atomic_load_explicit(&m->n_calls, memory_order_relaxed);
    m->ring[number % HW_METER_RING] =
        (hw_ring_entry){number, what.payload_bytes, (uint16_t)tag.site, (uint16_t)phase, tag.layer};
    atomic_store_explicit(&m->n_calls, number + 1, memory_order_release);
    if (tag.prefill_rows && tag.decode_rows) {
        uint64_t decode_rows = (uint64_t)tag.decode_rows, rows = decode_rows + (uint64_t)tag.prefill_rows;
        hw_traffic decode = decode_share(what, decode_rows, rows);
        hw_traffic_add(&t[HW_DECODE], decode);
        what.messages -= decode.messages;
        what.payload_bytes -= decode.payload_bytes;
        what.sent_bytes -= decode.sent_bytes;
        what.ideal_bytes -= decode.ideal_bytes;
        what.time_ns -= decode.time_ns;
    }
    hw_traffic_add(&t[phase], what);
}

void hw_meter_send(hw_meter *m, int to, size_t n_bytes)
{
    if (!m) return;
    m->sent_bytes[to] += n_bytes;
    m->sent_messages[to]++;
    m->sent_bytes[m->n_ranks] += n_bytes;
    m->sent_messages[m->n_ranks]++;
}

void hw_meter_reset(hw_meter *m)
{
    memset(m->layers, 0, (size_t)m->n_layers * sizeof *m->layers);
    memcpy(m->bytes_at_reset, m->sent_bytes, ((size_t)m->n_ranks + 1) * sizeof *m->sent_bytes);
    memcpy(m->messages_at_reset, m->sent_messages, ((size_t)m->n_ranks + 1) * sizeof *m->sent_messages);
}

/* Ticks to nanoseconds, from both clocks since the meter was created. */
static hw_traffic in_ns(const hw_meter *m, hw_traffic t)
{
    double ticks = (double)(hw_clock_ticks() - m->first_ticks), ns = (double)(hw_clock_ns() - m->first_ns);
    if (ticks > 0) t.time_ns = (uint64_t)((double)t.time_ns * (ns / ticks));
    return t;
}

hw_traffic hw_meter_layer(const hw_meter *m, hw_site site, int layer, hw_phase phase)
{
    return layer >= 0 && layer < m->n_layers ? in_ns(m, m->layers[layer][site][phase]) : (hw_traffic){0};
}

hw_traffic hw_meter_site(const hw_meter *m, hw_site site, hw_phase phase)
{
    hw_traffic sum = {0};
    for (int i = 0; i < m->n_layers; i++) hw_traffic_add(&sum, m->layers[i][site][phase]);
    return in_ns(m, sum);
}

static int peer(const hw_meter *m, int to) { return to < 0 ? m->n_ranks : to; }

uint64_t hw_meter_sent_bytes(const hw_meter *m, int to) { return m->sent_bytes[peer(m, to)]; }
uint64_t hw_meter_sent_messages(const hw_meter *m, int to) { return m->sent_messages[peer(m, to)]; }

uint64_t hw_meter_recent_bytes(const hw_meter *m, int to)
{
    return m->sent_bytes[peer(m, to)] - m->bytes_at_reset[peer(m, to)];
}

uint64_t hw_meter_recent_messages(const hw_meter *m, int to)
{
    return m->sent_messages[peer(m, to)] - m->messages_at_reset[peer(m, to)];
}

uint64_t hw_meter_n_calls(const hw_meter *m)
{
    return atomic_load_explicit((atomic_ullong *)&m->n_calls, memory_order_acquire);
}

int hw_meter_last(const hw_meter *m, uint64_t back, hw_ring_entry *out)
{
    const uint64_t n = hw_meter_n_calls(m);
    if (back >= n || back >= HW_METER_RING) return 0;
    *out = m->ring[(n - 1 - back) % HW_METER_RING];
    return 1;
}

bool hw_site_is_predicted(hw_site site)
{
    switch (site) {
    case HW_SITE_EMBED:
    case HW_SITE_ATTN:
    case HW_SITE_MLP:
    case HW_SITE_SAMPLE: return true;
    default: return false;
    }
}

const char *hw_site_name(hw_site site)
{
    static const char *const names[HW_N_SITES] = {"embed", "attn", "mlp", "sample", "control", "load"};
    return names[site];
}

const char *hw_phase_name(hw_phase phase) { return phase == HW_PREFILL ? "prefill" : "decode"; }
