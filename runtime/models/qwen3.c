/* Qwen3, the dense models (Yang et al. 2025): Llama with a norm of every head of q and k, and with windows in the later
 * layers where they are switched on. Keys and defaults: transformers, configuration_qwen3.py. */
#include "runtime/models/llama.h"

/* Kinds of layers: those that see everything, and those with a window. */
enum { FULL, SLIDING };

static hw_status read_layers(hw_model *m, hw_json_at at)
{
    bool sliding = false;
    int first = 28;
    hw_status st;
    m->kinds[SLIDING] = m->kinds[FULL];
    if ((st = hw_json_bool(at, "use_sliding_window", &sliding)) ||
        (st = hw_json_size(at, "max_window_layers", 0, HW_MAX_POSITIONS, &first)) ||
        (st = hw_read_window(at, "sliding_window", 4096, &m->kinds[SLIDING].attn.window)))
        return st;
    if (!sliding) m->kinds[SLIDING].attn.window = 0;
    for (int i = first; i < m->n_layers && m->kinds[SLIDING].attn.window; i++) m->kind[i] = SLIDING;
    return hw_read_layer_types(m, at, FULL, SLIDING);
}

static hw_status read(hw_model *m, hw_json_at at)
{
    hw_status st = hw_read_llama(m, at, (hw_llama_defaults){32, 128, 32768, 1e-6});
    m->kinds[FULL].qk_norm = true;
    return st ? st : read_layers(m, at);
}

const hw_architecture hw_qwen3 = {"qwen3", read};
