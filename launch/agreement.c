#include "launch/agreement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/version.h"
#include "runtime/base/host.h"

enum { VERSION, CONFIG, GENERATION, INDEX, WEIGHTS, TOKENIZER, SETTINGS, N_THINGS };

static const char *const things[N_THINGS] = {"another version of headway",
                                             "another config.json",
                                             "another generation_config.json",
                                             "another index of its weights",
                                             "a model.safetensors of another size",
                                             "a tokenizer.json of another size",
                                             "other options"};
static const char *const way_out[2] = {"install and copy the same on every host",
                                       "start all ranks with the same options"};

/* What one rank has. Sent as it is: all ranks run on one kind of machine, as MPI's own start-up wants it. */
typedef struct identity {
    uint64_t mark[N_THINGS]; /* 0: does not have it */
    char host[64];
} identity;

/* ---- marks */

/* FNV-1a: against mistakes, not against malice. */
static uint64_t mix(uint64_t mark, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) mark = (mark ^ p[i]) * 1099511628211u;
    return mark;
}
#define START        14695981039346656037u
#define MIX(mark, x) (mark = mix(mark, &(x), sizeof(x)))

static uint64_t mix_text(uint64_t mark, const char *text) { return mix(mark, text, strlen(text) + 1); }

static uint64_t mark_size(const char *folder, const char *name)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &info) ? 0 : (uint64_t)info.st_size + 1;
}

static uint64_t mark_content(const char *folder, const char *name)
{
    char path[4096], bytes[4096];
    uint64_t mark = START;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;) mark = mix(mark, bytes, n);
    fclose(f);
    return mark;
}

/* What changes the steps that ranks take together, or their results; the number of threads is a rank's own
 * business. */
static uint64_t mark_settings(const hw_args *a)
{
    const hw_engine_options *o = &a->engine;
    const hw_sampling *s = &a->sampling;
    uint64_t mark = mix_text(mix_text(START, a->comm), o->device);
    MIX(mark, o->dtype), MIX(mark, o->matmul), MIX(mark, o->kv_dtype), MIX(mark, o->kv_policy),
        MIX(mark, o->block_tokens);
    MIX(mark, o->kv_bytes), MIX(mark, o->graphs), MIX(mark, o->prefix_sharing), MIX(mark, o->max_seq_len),
        MIX(mark, o->max_seqs);
    MIX(mark, o->max_batch_rows), MIX(mark, o->max_logit_rows), MIX(mark, o->dummy);
    MIX(mark, o->dummy_seed), MIX(mark, o->weights);
    MIX(mark, a->prefill_chunk), MIX(mark, a->max_tokens), MIX(mark, a->ignore_eos), MIX(mark, a->repeats);
    MIX(mark, a->has_temperature), MIX(mark, a->has_top_k), MIX(mark, a->has_top_p), MIX(mark, a->has_min_p);
    MIX(mark, a->has_penalty), MIX(mark, s->temperature), MIX(mark, s->top_k), MIX(mark, s->top_p);
    MIX(mark, s->min_p), MIX(mark, s->repetition_penalty), MIX(mark, s->seed);
    for (int i = 0; i < a->n_stops; i++) mark = mix_text(mark, a->stops[i]);
    return mark;
}

static identity identify(const hw_args *a)
{
    identity me = {{0}, ""};
    me.mark[VERSION] = mix_text(START, HW_VERSION);
    me.mark[SETTINGS] = mark_settings(a);
    hw_host_name(me.host, sizeof me.host);
    if (a->engine.weights == HW_WEIGHTS_SCATTER) return me; /* the files of rank 0 are everybody's */
    me.mark[CONFIG] = mark_content(a->model, "config.json");
    me.mark[GENERATION] = mark_content(a->model, "generation_config.json");
    if (!a->engine.dummy) {
        me.mark[INDEX] = mark_content(a->model, "model.safetensors.index.json");
        me.mark[WEIGHTS] = mark_size(a->model, "model.safetensors");
    }
    me.mark[TOKENIZER] = mark_size(a->model, "tokenizer.json");
    return me;
}

/* ---- comparing */

/* Whether a difference is one that nobody else tells of: most files have to be there or not be there on both;
 * without weights or config.json loading fails, and says so better. */
static bool differs(uint64_t first, uint64_t mine, int thing)
{
    const bool optional = thing == GENERATION || thing == TOKENIZER;
    return first != mine && (optional || (first && mine));
}

static hw_status compare(const identity *all, int n_ranks, hw_error *err)
{
    for (int r = 1; r < n_ranks; r++)
        for (int i = 0; i < N_THINGS; i++)
            if (differs(all[0].mark[i], all[r].mark[i], i))
                return hw_fail(err, HW_ERR_INVALID, "rank %d on %s has %s than rank 0 on %s; %s", r,
                               all[r].host, things[i], all[0].host, way_out[i == SETTINGS]);
    return HW_OK;
}

hw_status hw_agreement_check(hw_comm *comm, const hw_args *a, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const int n_ranks = hw_comm_n_ranks(comm);
    if (n_ranks == 1) return HW_OK;
    const identity me = identify(a);
    identity *all = calloc((size_t)n_ranks, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "comparing the ranks: no memory");
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, tag, &me, sizeof me, all, err);
    if (!st) st = compare(all, n_ranks, err);
    free(all);
    return st;
}
