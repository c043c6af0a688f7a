#include "runtime/device/decode_graph.h"

#include "kernels/kernels.h"

const char *hw_graph_unavailable_reason(const hw_engine *e)
{
    const hw_device *d = e->device;
    if (!d->k->graph) return "the device keeps none";
    if (!e->options.graphs) return "--cuda-graphs off";
    if (!hw_device_can_capture(d)) return "the device waits after every kernel";
    if (e->options.kv_policy == HW_KV_OFF) return "--kv-cache off, every step runs the whole prefix";
    if (e->shard.n_ranks > 1 && !hw_comm_on_device(e->tensor))
        return "sums go through host memory (--comm nccl leaves them on the device)";
    return NULL;
}

bool hw_graph_suits(const hw_step *s)
{
    const hw_batch *b = s->b;
    return !hw_graph_unavailable_reason(s->e) && !b->n_prefill_rows && b->n_decode_rows == b->n_rows &&
           b->n_logits == b->n_rows && b->n_seqs == b->n_rows;
}

static int positions_of(const hw_step *s)
{
    int n = HW_GRAPH_POSITIONS;
    while (n <= s->b->max_position && n < INT32_MAX / 2) n *= 2;
    return n < s->e->options.max_seq_len ? n : s->e->options.max_seq_len;
}

/* Finds the entry of this kind of step, or clears the least recently used one, after steps in flight, which may still run
 * its graph, have ended. */
static hw_status find_place(int *place, const hw_step *s, hw_step_ops *ops, int n_positions, bool *is_new)
{
    hw_decode_graphs *g = s->e->graphs;
    const int n_rows = s->rows.n_rows;
    hw_status st = HW_OK;
    int oldest = 0;
    *is_new = false;
    for (int i = 0; i < HW_MAX_GRAPHS; i++) {
        *place = i;
        if (g->kinds[i].ops == ops && g->kinds[i].n_rows == n_rows && g->kinds[i].n_positions == n_positions)
            return HW_OK;
        if (g->kinds[i].last < g->kinds[oldest].last) oldest = i;
    }
    *is_new = true;
    *place = oldest;
    if (g->kinds[oldest].graph && (st = hw_engine_wait(s->e, HW_OK, s->err))) return st;
    s->k->graph->destroy(s->d, g->kinds[oldest].graph);
    g->kinds[oldest].graph = NULL;
    g->kinds[oldest].ops = ops;
    g->kinds[oldest].n_rows = n_rows;
    g->kinds[oldest].n_positions = n_positions;
    return HW_OK;
}

/* The ops count their work during capture. */
static hw_status capture(hw_step *s, hw_graph **out, hw_step_ops *ops)
{
    hw_error unused;
    hw_status st = s->k->graph->capture_begin(s->d, s->err);
    if (st) return st;
    st = ops(s);
    hw_status ended = s->k->graph->capture_end(s->d, out, st ? &unused : s->err);
    if (!st && !ended) return HW_OK;
    s->k->graph->destroy(s->d, *out);
    *out = NULL;
    return hw_context(s->err, st ? st : ended, "a decode step as a graph (--cuda-graphs off does without)");
}

hw_status hw_graph_run(hw_step *s, hw_step_ops *ops)
{
    hw_decode_graphs *g = s->e->graphs;
    const int n_positions = positions_of(s);
    bool is_new;
    int at;
    hw_status st = find_place(&at, s, ops, n_positions, &is_new);
    if (st) return st;
    g->kinds[at].last = ++g->n_steps;
    s->rows.max_position = n_positions - 1;
    if (is_new) return ops(s);
    const bool kept = g->kinds[at].graph != NULL;
    st = kept ? HW_OK : capture(s, &g->kinds[at].graph, ops);
    if (!st) st = s->k->graph->launch(s->d, g->kinds[at].graph);
    if (st) return st;
    g->n_launched++;
    s->only_counts = kept;
    return kept ? ops(s) : HW_OK;
}

void hw_decode_graphs_free(hw_decode_graphs *g, hw_device *d)
{
    for (int i = 0; i < HW_MAX_GRAPHS; i++)
        if (g->kinds[i].graph) d->k->graph->destroy(d, g->kinds[i].graph);
}
