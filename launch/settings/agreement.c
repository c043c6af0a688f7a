#include "launch/settings/agreement.h"

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
    uint64_t mark = HW_HASH_START;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;) mark = hw_hash(mark, bytes, n);
    fclose(f);
    return mark;
}

static identity identify(const hw_options *o)
{
    const char *folder = ((const hw_model_settings *)hw_options_values(o, &hw_model_group))->folder;
    const hw_engine_options *engine =
        &((const hw_engine_settings *)hw_options_values(o, &hw_engine_group))->options;
    identity me = {{0}, ""};
    me.mark[VERSION] = hw_hash(HW_HASH_START, HW_VERSION, sizeof HW_VERSION);
    me.mark[SETTINGS] = hw_options_hash(o);
    hw_host_name(me.host, sizeof me.host);
    if (engine->weights == HW_WEIGHTS_SCATTER) return me; /* rank 0 reads the files for all */
    me.mark[CONFIG] = mark_content(folder, "config.json");
    me.mark[GENERATION] = mark_content(folder, "generation_config.json");
    if (!engine->dummy) {
        me.mark[INDEX] = mark_content(folder, "model.safetensors.index.json");
        me.mark[WEIGHTS] = mark_size(folder, "model.safetensors");
    }
    me.mark[TOKENIZER] = mark_size(folder, "tokenizer.json");
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

hw_status hw_agreement_check(hw_comm *comm, const hw_options *o, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const int n_ranks = hw_comm_n_ranks(comm);
    if (n_ranks == 1) return HW_OK;
    const identity me = identify(o);
    identity *all = calloc((size_t)n_ranks, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "comparing the ranks: no memory");
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, tag, &me, sizeof me, all, err);
    if (!st) st = compare(all, n_ranks, err);
    free(all);
    return st;
}
