#include "launch/study/study.h"

#include <stdarg.h>

hw_status hw_study_engine(hw_engine **out, const hw_study *s, hw_comm *comm, const char *model,
                          hw_engine_options options, int max_seq_len, int max_seqs, int rows, hw_error *err)
{
    options.max_seq_len = max_seq_len;
    options.max_seqs = max_seqs;
    options.max_batch_rows = rows > max_seqs ? rows : max_seqs;
    options.max_logit_rows = max_seqs;
    if (options.kv_policy == HW_KV_OFF && options.max_batch_rows < max_seq_len)
        options.max_batch_rows = max_seq_len;
    return hw_engine_create(out, comm ? comm : s->comm, model ? model : s->model_folder, &options, err);
}

void hw_study_tokens(const hw_study *s, int32_t *out, int n, int first)
{
    for (int i = 0; i < n; i++)
        out[i] = (int32_t)((unsigned)(first + i) * 2654435761u % (unsigned)s->model.vocab_size);
}

const char *hw_study_payload_source(const hw_study *s)
{
    return s->n_ranks > 1 ? "counted" : "the plan's for 2 ranks, since one rank sends nothing";
}

void hw_study_progress(const hw_study *s, const char *format, ...)
{
    va_list args;
    if (s->rank) return;
    fprintf(stderr, "study: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

double hw_study_kv_row(const hw_study *s)
{
    hw_dtype type = s->on_off.on.info.kv_dtype;
    return 2.0 * s->model.n_layers * s->model.n_kv_heads * s->model.head_dim * (double)hw_dtype_size(type);
}
