/* One shape with as many KV heads as query heads (MHA), with fewer (GQA) and with one (MQA): the bytes cached and sent,
 * and the FLOPs, of each. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/report/statistics.h"
#include "launch/study/study.h"

enum { N_SHAPES = 3, MOST_PROMPT = 64, MOST_NEW = 64 };

static const char *const names[N_SHAPES] = {"MHA", "GQA", "MQA"};

typedef struct shapes {
    int n_prompt, n_new;
    int n_kv_heads[N_SHAPES];
    hw_trial trial[N_SHAPES];
} shapes;

/* KV heads for GQA: the model's own number if it is between 1 and n_heads, else the divisor closest to a quarter. */
static int grouped(const hw_model *m)
{
    if (m->n_kv_heads > 1 && m->n_kv_heads < m->n_heads) return m->n_kv_heads;
    int n = m->n_heads / 4 > 1 ? m->n_heads / 4 : 1;
    while (m->n_heads % n) n++;
    return n;
}

/* Llama layers of the model's sizes for any architecture, because gpt2 has no key for KV heads. */
static hw_status write_config(const hw_study *s, const char *folder, int n_kv_heads, hw_error *err)
{
    const hw_model *m = &s->model;
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:f, s:b, s:s}", "model_type",
                  "llama", "vocab_size", m->vocab_size, "hidden_size", m->dim, "intermediate_size",
                  m->ffn_dim, "num_hidden_layers", m->n_layers, "num_attention_heads", m->n_heads,
                  "num_key_value_heads", n_kv_heads, "head_dim", m->head_dim, "max_position_embeddings",
                  m->max_seq_len, "hidden_act", "silu", "rms_norm_eps", 1e-5, "rope_theta", 10000.0,
                  "tie_word_embeddings", (int)m->tied_embeddings, "torch_dtype", hw_dtype_name(s->dtype));
    int failed = !config || json_dump_file(config, path, JSON_INDENT(2));
    json_decref(config);
    return failed ? hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno)) : HW_OK;
}

/* Only on rank 0; the folder must be on a file system that all ranks see. */
static hw_status write_shapes(const hw_study *s, const shapes *h, char folders[N_SHAPES][4096], hw_error *err)
{
    char base[4000];
    snprintf(base, sizeof base, "%s/shapes", s->folder);
    hw_status st = HW_OK;
    if (s->rank == 0 && mkdir(base, 0777) && errno != EEXIST)
        st = hw_fail(err, HW_ERR_FAILED, "%s: cannot create this folder: %s", base, strerror(errno));
    for (int i = 0; i < N_SHAPES && !st; i++) {
        snprintf(folders[i], 4096, "%s/%s", base, names[i]);
        if (s->rank) continue;
        if (mkdir(folders[i], 0777) && errno != EEXIST)
            st =
                hw_fail(err, HW_ERR_FAILED, "%s: cannot create this folder: %s", folders[i], strerror(errno));
        if (!st) st = write_config(s, folders[i], h->n_kv_heads[i], err);
    }
    return st;
}

static hw_status run(hw_study *s, void **data, hw_error *err)
{
    char folders[N_SHAPES][4096];
    shapes *h = calloc(1, sizeof *h);
    hw_status st = h ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory");
    *data = h;
    if (h) {
        *h = (shapes){.n_prompt = s->n_new < MOST_PROMPT ? s->n_new : MOST_PROMPT,
                      .n_new = s->n_new < MOST_NEW ? s->n_new : MOST_NEW,
                      .n_kv_heads = {s->model.n_heads, grouped(&s->model), 1}};
        if (2 * h->n_prompt > s->model.max_seq_len) h->n_prompt = h->n_new = s->model.max_seq_len / 2;
        st = write_shapes(s, h, folders, err);
    }
    st = hw_comm_agree(s->comm, st, err);
    for (int i = 0; i < N_SHAPES && !st; i++) {
        hw_engine *e = NULL;
        hw_engine_options options = s->engine;
        int32_t prompt[MOST_PROMPT];
        hw_study_tokens(s, prompt, h->n_prompt, 1);
        const hw_trial_sequence seq = {.prompt = prompt, .n_prompt = h->n_prompt, .n_new = h->n_new};
        options.dummy = true;
        options.prefix_sharing = false;
        st = hw_study_engine(&e, s, NULL, folders[i], options, h->n_prompt + h->n_new, 1, h->n_prompt, err);
        if (!st) st = hw_trial_run(&h->trial[i], e, &seq, 1, err); /* warms up */
        if (!st) hw_trial_free(&h->trial[i]);
        if (!st) st = hw_trial_run(&h->trial[i], e, &seq, 1, err);
        hw_engine_destroy(e);
    }
    return st;
}

static void release(void *data)
{
    shapes *h = data;
    for (int i = 0; h && i < N_SHAPES; i++) hw_trial_free(&h->trial[i]);
    free(h);
}

/* ---- writing */

/* The last step: one row at the maximum length. */
static const hw_trial_step *last(const hw_trial *t) { return &t->steps[t->n_steps - 1]; }

static double kv_row(const hw_trial *t)
{
    const hw_engine_info *i = &t->info;
    return 2.0 * i->n_layers * i->n_kv_heads * i->head_dim * (double)hw_dtype_size(i->kv_dtype);
}

static double decode_ms(const hw_trial *t)
{
    double ms[MOST_NEW];
    int n = 0;
    for (int i = 1; i < t->n_steps; i++) ms[n++] = t->steps[i].seconds * 1e3;
    return n ? hw_summarise(ms, n).median : t->steps[0].seconds * 1e3;
}

static hw_status write_table(hw_study *s, const shapes *h, hw_error *err)
{
    static const hw_column columns[] = {{"shape", "shape"},
                                        {"query_heads", "query heads"},
                                        {"kv_heads", "KV heads"},
                                        {"kv_bytes_per_token", "new K + V per token (B)"},
                                        {"kv_bytes_all_ranks", "cache of all ranks (B)"},
                                        {"payload_bytes", "payload of a decode step (B)"},
                                        {"flops", "FLOPs of the last step"},
                                        {"kv_read_bytes", "cache read and written in decode (B)"},
                                        {"weight_bytes", "weights (B)"},
                                        {"ms", "ms per token"}};
    hw_table t = hw_table_begin(columns, 10);
    for (int i = 0; i < N_SHAPES; i++) {
        const hw_trial *trial = &h->trial[i];
        uint64_t kv = 0;
        for (int site = 0; site < HW_N_WORK_SITES; site++) kv += trial->work[site][HW_DECODE].kv_bytes;
        hw_table_text(&t, "%s", names[i]);
        hw_table_count(&t, (uint64_t)trial->info.n_heads);
        hw_table_count(&t, (uint64_t)h->n_kv_heads[i]);
        hw_table_count(&t, (uint64_t)kv_row(trial));
        hw_table_count(&t, trial->kv_bytes);
        hw_table_count(&t, last(trial)->payload_bytes);
        hw_table_count(&t, hw_trial_step_flops(last(trial)));
        hw_table_count(&t, kv);
        hw_table_count(&t, trial->weight_bytes);
        hw_table_real(&t, decode_ms(trial));
    }
    return hw_study_table(s, &t, "heads", true, err);
}

static hw_status draw(hw_study *s, const shapes *h, hw_error *err)
{
    double kv[N_SHAPES], payload[N_SHAPES];
    hw_study_plot p;
    for (int i = 0; i < N_SHAPES; i++) {
        kv[i] = kv_row(&h->trial[i]);
        payload[i] = (double)last(&h->trial[i])->payload_bytes;
    }
    hw_status st = hw_study_plot_begin(s, &p, "heads", "One token: bytes cached and bytes sent", "",
                                       "bytes per token", err);
    if (!st) st = hw_plot_bars(&p.plot, "new K + V (stays on its rank)", kv, N_SHAPES, err);
    if (!st) st = hw_plot_bars(&p.plot, "payload between ranks", payload, N_SHAPES, err);
    return st ? st : hw_study_plot_bars(s, &p, names, N_SHAPES, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const shapes *h = data;
    hw_study_text(
        s,
        "Llama layers of this model's sizes with different numbers of KV heads, random weights (which "
        "do not change the counts), %d prompt and %d new tokens. "
        "Fewer KV heads shrink the cache, the reads of it, and the projections of K and V. Ranks "
        "exchange only the sum after attention and "
        "the sum after the MLP, so the payload is the same for all three: it does not contain K "
        "and V. With MHA the two can be equal in "
        "bytes by coincidence; with GQA and MQA they differ. Payload is %s.%s\n\n",
        h->n_prompt, h->n_new, hw_study_payload_source(s),
        s->n_ranks > 1 ? " Ranks beyond the number of KV heads keep copies of the heads that they "
                         "read: the cache of all ranks counts "
                         "them."
                       : "");
    hw_status st = write_table(s, h, err);
    return st ? st : draw(s, h, err);
}

const hw_experiment hw_experiment_heads = {"MHA, GQA and MQA of one shape", run, write, release};
