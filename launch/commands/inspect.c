/* headway inspect: shows what is in a model folder, and how Headway interprets it. Reads headers, no weights. */
#include <unistd.h>

#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/session.h"
#include "runtime/model.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/tensor_names.h"
#include "runtime/weights/tied_head.h"
#include "runtime/weights/weights.h"

typedef struct settings {
    hw_model_settings model;
    hw_report_settings report;
    int ranks;
} settings;

static const hw_setting own_rows[] = {
    {NULL, "ranks", 'r', "N", HW_WHOLE("ranks", 1, 1 << 20), "1", 0, offsetof(settings, ranks),
     "Show how the model is split over N ranks"},
};
static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 0, own_rows, NULL);

static const char doc[] =
    "Shows what is in a model folder, and how Headway interprets it. Fails in the same cases as loading.";

typedef struct folder {
    hw_model model;
    hw_checkpoint *checkpoint; /* NULL: config.json alone */
    hw_tokenizer *tokenizer;   /* NULL: none */
    hw_generation_config generation;
} folder;

static bool has(const char *model, const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", model, file);
    return !access(path, F_OK);
}

static hw_status open_folder(folder *f, const char *path, hw_error *err)
{
    hw_status st = hw_model_open(&f->model, path, err);
    if (!st) st = hw_generation_config_open(&f->generation, path, err);
    if (!st && (has(path, "model.safetensors") || has(path, "model.safetensors.index.json"))) {
        st = hw_checkpoint_open(&f->checkpoint, path, err);
        if (!st) st = hw_model_settle_head(&f->model, f->checkpoint, err);
        if (!st) st = hw_tensor_check_all(&f->model, f->checkpoint, err);
    }
    if (!st && has(path, "tokenizer.json")) st = hw_tokenizer_open(&f->tokenizer, path, err);
    return st;
}

static hw_status print_text(const folder *f, hw_error *err)
{
    const hw_model *m = &f->model;
    char text[2][16];
    hw_status st;
    if ((st = hw_print(err, "architecture      %s, %s parameters%s\n", m->architecture,
                       hw_format_count(text[0], (double)hw_model_n_params(m)),
                       m->tied_embeddings ? ", tied embeddings" : "")) ||
        (st = hw_print(err, "sizes             %d layers, width %d, MLP %d, vocabulary %d, context %d\n",
                       m->n_layers, m->dim, m->ffn_dim, m->vocab_size, m->max_seq_len)) ||
        (st = hw_print(err, "attention         %d heads, %d KV heads, head dimension %d, RoPE %s\n",
                       m->n_heads, m->n_kv_heads, m->head_dim, hw_rope_name(m->rope.kind))))
        return st;
    if (!f->checkpoint)
        st = hw_print(err, "weights           none in this folder (--load-format dummy uses random ones)\n");
    else
        st = hw_print(err, "weights           %zu tensors, %s in %zu file%s, loaded as %s\n",
                      hw_checkpoint_n_tensors(f->checkpoint),
                      hw_format_bytes(text[0], (double)hw_checkpoint_total_bytes(f->checkpoint)),
                      hw_checkpoint_n_files(f->checkpoint),
                      hw_checkpoint_n_files(f->checkpoint) > 1 ? "s" : "",
                      hw_dtype_name(hw_weights_dtype(m, f->checkpoint, HW_DTYPE_NONE)));
    if (!st)
        st = f->tokenizer
                 ? hw_print(err, "tokenizer         %zu ids\n", hw_tokenizer_n_ids(f->tokenizer))
                 : hw_print(err, "tokenizer         none in this folder (--tokens works without one)\n");
    if (!st) st = hw_print(err, "end of sequence  ");
    for (int i = 0; i < f->generation.n_eos && !st; i++) st = hw_print(err, " %d", f->generation.eos[i]);
    return st ? st : hw_print(err, "%s\n", f->generation.n_eos ? "" : " none");
}

static hw_status print_ranks(const folder *f, int n_ranks, hw_error *err)
{
    hw_status st = hw_print(err, "\n%5s %12s %12s %14s %16s %12s\n", "rank", "heads", "KV heads",
                            "MLP columns", "vocabulary", "weights");
    hw_dtype dtype = hw_weights_dtype(&f->model, f->checkpoint, HW_DTYPE_NONE);
    for (int r = 0; r < n_ranks && !st; r++) {
        hw_shard shard;
        char cells[4][32], bytes[16];
        if ((st = hw_shard_create(&shard, &f->model, r, n_ranks, err))) return st;
        snprintf(cells[0], 32, "%d-%d", shard.heads.first_head,
                 shard.heads.first_head + shard.heads.n_heads - 1);
        snprintf(cells[1], 32, "%d-%d", shard.heads.first_kv_head,
                 shard.heads.first_kv_head + shard.heads.n_kv_heads - 1);
        snprintf(cells[2], 32, "%zu", hw_range_size(shard.ffn));
        snprintf(cells[3], 32, "%zu", hw_range_size(shard.vocab));
        st = hw_print(
            err, "%5d %12s %12s %14s %16s %12s\n", r, cells[0], cells[1], cells[2], cells[3],
            hw_format_bytes(bytes, (double)hw_weights_estimate(&f->model, &shard, hw_format_plain(dtype))));
    }
    return st;
}

static hw_status print_json_report(const folder *f, hw_error *err)
{
    const hw_model *m = &f->model;
    json_t *eos = json_array();
    for (int i = 0; i < f->generation.n_eos; i++)
        json_array_append_new(eos, json_integer(f->generation.eos[i]));
    return hw_print_json(
        json_pack("{s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:s, s:I, s:I, s:I, s:o}",
                  "architecture", m->architecture, "parameters", (json_int_t)hw_model_n_params(m), "n_layers",
                  m->n_layers, "dim", m->dim, "ffn_dim", m->ffn_dim, "n_heads", m->n_heads, "n_kv_heads",
                  m->n_kv_heads, "head_dim", m->head_dim, "vocab_size", m->vocab_size, "max_seq_len",
                  m->max_seq_len, "rope", hw_rope_name(m->rope.kind), "tied_embeddings", m->tied_embeddings,
                  "dtype", hw_dtype_name(hw_weights_dtype(m, f->checkpoint, HW_DTYPE_NONE)), "tensors",
                  (json_int_t)(f->checkpoint ? hw_checkpoint_n_tensors(f->checkpoint) : 0),
                  "checkpoint_bytes",
                  (json_int_t)(f->checkpoint ? hw_checkpoint_total_bytes(f->checkpoint) : 0), "tokenizer_ids",
                  (json_int_t)(f->tokenizer ? hw_tokenizer_n_ids(f->tokenizer) : 0), "eos_token_ids", eos),
        err);
}

hw_status hw_cmd_inspect(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_options o = {.doc = doc, .groups = {HW_TAKES(a, model), HW_TAKES(a, report), {&own_group, &a}}};
    folder f = {0};
    hw_session s = {0};
    hw_options_parse(&o, argc, argv);
    if (hw_comm_launched_rank() > 0) return HW_OK;
    hw_shard shard;
    hw_status st = hw_session_start_alone(&s, &o, err);
    if (!st) st = open_folder(&f, a.model.folder, err);
    if (!st) st = hw_shard_create(&shard, &f.model, 0, a.ranks, err); /* before any output */
    if (!st) st = a.report.json ? print_json_report(&f, err) : print_text(&f, err);
    if (!st && !a.report.json && a.ranks > 1) st = print_ranks(&f, a.ranks, err);
    hw_checkpoint_close(f.checkpoint);
    hw_tokenizer_destroy(f.tokenizer);
    hw_session_close(&s);
    return st;
}
