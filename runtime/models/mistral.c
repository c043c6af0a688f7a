/* Mistral 7B and what shares its config.json (Jiang et al. 2023): Llama with a window in every layer. Keys and defaults:
 * transformers, configuration_mistral.py. */
#include "runtime/models/llama.h"

static hw_status read(hw_model *m, hw_json_at at)
{
    hw_status st =
        hw_read_llama(m, at, (hw_llama_defaults){.n_kv_heads = 8, .max_seq_len = 131072, .norm_eps = 1e-6});
    return st ? st : hw_read_window(at, "sliding_window", 4096, &m->kinds[0].attn.window);
}

const hw_architecture hw_mistral = {"mistral", read};
