/* The sampler, behind hw_engine_sample: what the scheduler, the device loop and the plan use of it. */
#ifndef HW_RUNTIME_SAMPLER_H
#define HW_RUNTIME_SAMPLER_H

#include "runtime/engine.h"

typedef struct hw_sampler hw_sampler;

/* Local. Buffers of the sampler: keys and candidates of up to max_logit_rows rows. */
hw_status hw_sampler_create(hw_sampler **out, int max_rows, int n_ranks, int vocab_size, hw_error *err);
void hw_sampler_destroy(hw_sampler *s);

/* Number of best candidates that top-p first gathers from each rank; four times as many if they do not hold enough
 * probability mass. */
enum { HW_FIRST_CANDIDATES = 64 };

/* The key of a cancelled rank: larger than that of every logit, smaller than HW_KEY_NAN. */
#define HW_KEY_CANCEL (UINT64_MAX - 1)

/* Local. Whether these settings need only one exchange of keys, and do not modify the logits. */
bool hw_sampling_is_plain(const hw_sampling *s);

/* Local. HW_OK if the reduced key is that of a token. Errors: HW_ERR_FAILED and HW_ERR_CANCELLED, as in
 * hw_engine_sample. */
hw_status hw_sampler_check_key(uint64_t key, hw_error *err);

/* Collective. Chooses a token for `n` rows of a batch's logits: row rows[i] is sampled with settings[i]. keys [n] are
 * equal on all ranks; pass each to hw_sampler_check_key. A row for which no token can be chosen does not affect the
 * others. */
hw_status hw_sampler_choose(hw_engine *e, const hw_batch *b, const int *rows, const hw_sampling *settings,
                            int n, int n_valid, uint64_t *keys, hw_error *err);

#endif
