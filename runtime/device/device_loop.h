/* Decode steps that follow one another on the device: the token that a step chooses is where the next one finds
 * its own, and the host reads it behind, while the next step runs already. For sequences that go on by a token
 * each, all in one batch, and settings of which one exchange of keys is all it takes.
 *
 *   create, begin, then next until there is enough, end; begin again or destroy
 *
 * Tokens, logits, cache and counters are those of hw_engine_step and hw_engine_sample. What is different: a step
 * that is under way when hw_device_loop_end is called is discarded. It is counted, in work, traffic and
 * n_device_loop_steps, because it ran; the sequences are as if it had not, and the cache is but for peak_bytes and, where
 * it was full, prefixes of ended sequences that gave way. All ranks discard the same steps.
 *
 * Nothing is allocated between create and destroy. While it is under way the engine takes no other step. */
#ifndef HW_RUNTIME_DEVICE_DEVICE_LOOP_H
#define HW_RUNTIME_DEVICE_DEVICE_LOOP_H

#include "runtime/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_device_loop hw_device_loop;

/* Local, and the same on all ranks: whether the device can do it, sums stay on it, decode steps are graphs
 * (options.graphs), and the settings [n] have neither filters nor a penalty. */
bool hw_device_loop_possible(const hw_engine *e, const hw_sampling *settings, int n);

/* Local. On HW_OK the caller owns *out (hw_device_loop_destroy, before the engine). Errors: HW_ERR_NO_MEMORY. */
hw_status hw_device_loop_create(hw_device_loop **out, hw_engine *e, hw_error *err);
void hw_device_loop_destroy(hw_device_loop *f); /* NULL is fine */

/* Local. `tokens` [n] go next into `seqs` [n], each of which has some and none that waits for a step; settings
 * [n] and n_valid as for hw_engine_sample. At most n_steps steps are run. Sequences are borrowed until
 * hw_device_loop_end. Errors: HW_ERR_INVALID, and those of hw_batch_add; the loop has not begun then. */
hw_status hw_device_loop_begin(hw_device_loop *f, hw_sequence *const *seqs, const int32_t *tokens,
                               const hw_sampling *settings, int n, int n_valid, int n_steps, hw_error *err);

/* Collective, at most n_steps times. What the next step chose, into tokens [n]; the step after it is under way when
 * this returns, if there is to be one. Errors: those of hw_engine_sample, one step after the logits were made, with -1 in place of the
 * tokens of rows whose logits are bad, and the tokens of the others; those of hw_engine_step. HW_ERR_CACHE_FULL and HW_ERR_INVALID (longer than the context) say that there was no room for this
 * step: what was chosen before has been handed out. After an error: hw_device_loop_end. */
hw_status hw_device_loop_next(hw_device_loop *f, int32_t *tokens, hw_error *err);

/* Collective. Waits for what is under way and drops it. *n_discarded: how many steps that were. Without a loop that
 * has begun: nothing. */
hw_status hw_device_loop_end(hw_device_loop *f, int *n_discarded, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
