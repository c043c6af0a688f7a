/* Consecutive decode steps on the device: each step takes its tokens from where the previous one wrote them, and
 * the host reads them one step late, while the next step already runs. For decoding sequences, all in one batch,
 * with settings whose sampling needs only one exchange of keys.
 *
 *   create, begin, then next until done, end; begin again or destroy
 *
 * Tokens, logits, cache and counters equal those of hw_engine_step and hw_engine_sample, with one difference: a step
 * that is in flight when hw_device_loop_end is called is discarded. It is counted, in work, traffic and
 * n_device_loop_steps, because it ran; sequences and cache are as if it had not, except for peak_bytes and, if the
 * cache was full, evicted prefixes of ended sequences. All ranks discard the same steps.
 *
 * Nothing is allocated between create and destroy. The engine takes no other step between begin and end. */
#ifndef HW_RUNTIME_DEVICE_DEVICE_LOOP_H
#define HW_RUNTIME_DEVICE_DEVICE_LOOP_H

#include "runtime/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_device_loop hw_device_loop;

/* In place of a token: one whose logits are invalid, or one that the host does not know yet. */
enum { HW_TOKEN_UNKNOWN = -1 };

/* Local, and the same on all ranks. Whether the device supports it, all-reduces stay on the device, decode steps are
 * graphs (options.graphs), and the settings [n] have neither filters nor a penalty. */
bool hw_device_loop_possible(const hw_engine *e, const hw_sampling *settings, int n);

/* Local. On HW_OK the caller owns *out (hw_device_loop_destroy, before the engine). Errors: HW_ERR_NO_MEMORY. */
hw_status hw_device_loop_create(hw_device_loop **out, hw_engine *e, hw_error *err);
void hw_device_loop_destroy(hw_device_loop *f); /* NULL is fine */

/* Local. Appends `tokens` [n] to `seqs` [n], none of which may be empty or have tokens that wait for a step; settings
 * [n] and n_valid as for hw_engine_sample. Runs at most n_steps steps. Sequences are borrowed until
 * hw_device_loop_end. Errors: HW_ERR_INVALID, and those of hw_batch_add; then the loop has not begun. */
hw_status hw_device_loop_begin(hw_device_loop *f, hw_sequence *const *seqs, const int32_t *tokens,
                               const hw_sampling *settings, int n, int n_valid, int n_steps, hw_error *err);

/* Collective, at most n_steps times. Writes the tokens chosen by the next step into tokens [n]; the step after it is in
 * flight when this returns, unless it was the last one. Errors: those of hw_engine_step; those of hw_engine_sample, one
 * step after the logits were computed, with HW_TOKEN_UNKNOWN for rows whose logits are invalid and the tokens of the others.
 * HW_ERR_CACHE_FULL and HW_ERR_INVALID (longer than the context) mean that there was no room for this step; all tokens
 * chosen before have been returned. After an error call hw_device_loop_end. */
hw_status hw_device_loop_next(hw_device_loop *f, int32_t *tokens, hw_error *err);

/* Collective. Waits for the steps in flight and discards them. *n_discarded is their number. No-op if no loop has
 * begun. */
hw_status hw_device_loop_end(hw_device_loop *f, int *n_discarded, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
