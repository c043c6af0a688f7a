#include "launch/rows.h"

#include <stdlib.h>

hw_status hw_each_row(hw_session *s, const int32_t *tokens, int n, int chunk, hw_row_function *each,
                      void *user, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(s->engine);
    hw_sequence *seq = NULL;
    hw_batch *batch = NULL;
    if (!chunk || chunk > info.max_batch_rows) chunk = info.max_batch_rows;
    if (chunk > info.max_logit_rows) chunk = info.max_logit_rows;
    float *logits = malloc((size_t)chunk * (size_t)info.vocab_size * sizeof *logits);
    hw_status st = logits ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "no memory for %d rows of logits", chunk);
    if (!st) st = hw_sequence_create(&seq, s->engine, n, err);
    if (!st) st = hw_batch_create(&batch, s->engine, err);
    st = hw_comm_agree(s->comm, st, err);
    for (int i = 0; i < n && !st; i += chunk) {
        int rows = n - i < chunk ? n - i : chunk;
        hw_batch_clear(batch);
        st = hw_batch_add(batch, seq, tokens + i, rows, HW_LOGITS_ALL, err);
        if (!st) st = hw_engine_step(s->engine, batch, err);
        if (!st) st = hw_engine_logits(s->engine, logits, err);
        hw_session_end_if_alone(s, st, err);
        hw_status said = HW_OK;
        for (int j = 0; j < rows && !st && !said; j++)
            said = each(user, i + j, logits + (size_t)j * (size_t)info.vocab_size, info.vocab_size, err);
        if (!st) st = hw_comm_agree(s->comm, said, err);
    }
    hw_batch_destroy(batch);
    hw_sequence_destroy(seq);
    free(logits);
    return st;
}
