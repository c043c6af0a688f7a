/* The generation defaults of a model folder. All functions are Local unless marked. */
#ifndef HW_RUNTIME_MODELS_GENERATION_CONFIG_H
#define HW_RUNTIME_MODELS_GENERATION_CONFIG_H

#include <stdbool.h>

#include "runtime/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { HW_MAX_EOS = 64 };

typedef struct hw_generation_config {
    hw_sampling sampling;    /* what is recommended; greedy unless do_sample is true */
    int max_new_tokens;      /* 0: not given */
    int32_t eos[HW_MAX_EOS]; /* end-of-sequence ids */
    int n_eos;
    /* Keys that ask for what is not supported, and for another text in transformers: "num_beams, typical_p"; "" for none */
    char ignored[512];
} hw_generation_config;

/* All of it is in generation_config.json; only where there is none, in config.json (as in transformers). The first may be
 * missing, the second may not. Errors: HW_ERR_MODEL naming the file and the key. */
hw_status hw_generation_config_open(hw_generation_config *out, const char *model_folder, hw_error *err);

/* The same from a source. Collective if rank 0 reads for all; then the result is the same on all ranks, except for
 * HW_ERR_NO_MEMORY. */
struct hw_source;
hw_status hw_generation_config_open_from(hw_generation_config *out, const struct hw_source *source,
                                         hw_error *err);

bool hw_generation_config_is_eos(const hw_generation_config *g, int32_t token);

#ifdef __cplusplus
}
#endif
#endif
