/* Decode steps that follow one another on the device: the token that a step chooses is where the next one finds
 * its own, and the host reads it behind, while the next step runs already. For sequences that go on by a token
 * each, all in one batch, and settings of which one exchange of keys is all it takes.
 *
 *   create, begin, then next until there is enough, end; begin again or destroy
 *
 * Tokens, logits, cache and counters are those of hw_engine_step and hw_engine_sample. What is different: a step
 * that is under way when hw_feed_end is called has run in vain. It is counted, in work, traffic and
 * n_fed_steps, because it ran; the sequences are as if it had not, and the cache is but for peak_bytes and, where
 * it was full, prefixes of ended sequences that gave way. All ranks run the same steps in vain.
 *
 * Nothing is allocated between create and destroy. While a feed is under way the engine takes no other step. */
#ifndef HW_RUNTIME_DEVICE_DEVICE_LOOP_H
#define HW_RUNTIME_DEVICE_DEVICE_LOOP_H

#include "runtime/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_feed hw_feed;

/* Local, and the same on all ranks: whether the device has feeds, sums stay on it, decode steps are graphs
 * (options.graphs), and the settings [n] have neither filters nor a penalty. */
bool hw_feed_possible(const hw_engine *e, const hw_sampling *settings, int n);

/* Local. On HW_OK the caller owns *out (hw_feed_destroy, before the engine). Errors: HW_ERR_NO_MEMORY. */
hw_status hw_feed_create(hw_feed **out, hw_engine *e, hw_error *err);
void hw_feed_destroy(hw_feed *f); /* NULL is fine */

/* Local. `tokens` [n] go next into `seqs` [n], each of which has some and none that waits for a step; settings
 * [n] and n_valid as for hw_engine_sample. At most n_steps steps are run. Sequences are borrowed until
 * hw_feed_end. Errors: HW_ERR_INVALID, and those of hw_batch_add; the feed has not begun then. */
hw_status hw_feed_begin(hw_feed *f, hw_sequence *const *seqs, const int32_t *tokens,
                        const hw_sampling *settings, int n, int n_valid, int n_steps, hw_error *err);

/* Collective, at most n_steps times. What the next step chose, into tokens [n]; the step after it is under way when
 * this returns, if there is to be one. Errors: those of hw_engine_sample, one step after the logits were made, with -1 in place of the
 * tokens of rows whose logits are bad, and the tokens of the others; those of hw_engine_step. HW_ERR_CACHE_FULL and HW_ERR_INVALID (longer than the context) say that there was no room for this
 * step: what was chosen before has been handed out. After an error: hw_feed_end. */
hw_status hw_feed_next(hw_feed *f, int32_t *tokens, hw_error *err);

/* Collective. Waits for what is under way and drops it. *n_vain: how many steps that were. Without a feed that
 * has begun: nothing. */
hw_status hw_feed_end(hw_feed *f, int *n_vain, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
