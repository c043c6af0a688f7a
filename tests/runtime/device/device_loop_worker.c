/* Texts whose tokens are fed back on the device, on as many ranks as it is started on: compared with the same device
 * step by step and with the CPU. test_nccl.c of tests/e2e starts it.
 *
 *   device_loop_worker PLUGIN MODEL TOKENIZER     folders of a model and of a tokenizer; the model's ids are among its
 *
 * Exit code 0 when everything holds on every rank; otherwise standard error says what does not. */
#include <string.h>

#include "runtime/device/device_loop.h"
#include "runtime/generate.h"
#include "tests/support/rank.h"

enum { N_NEW = 9, EOS_AT = 4, STOP_AT = 3, FAILS_AT = 3, MAX_RANKS = 16 };
enum { GREEDY, DRAWN, EOS, STOP, CANCELLED, N_TEXTS };

static hw_tokenizer *tokenizer;

/* How a text came out. */
typedef struct outcome {
    hw_status status;
    hw_finish finish;
    int n_tokens, n_steps, n_discarded_steps;
    int32_t tokens[N_NEW];
    uint64_t payload[HW_N_SITES]; /* of decode, by site */
    uint64_t used_bytes, reserved_bytes;
} outcome;

/* Who cannot write any more, and from which piece of text on. */
typedef struct writer {
    bool fails;
    int n_pieces;
} writer;

static hw_status write_text(void *user, const char *text, size_t n_bytes, hw_error *err)
{
    writer *w = user;
    (void)text, (void)n_bytes;
    return ++w->n_pieces >= FAILS_AT && w->fails ? hw_fail(err, HW_ERR_NO_MEMORY, "no memory for text")
                                                 : HW_OK;
}

static outcome generate(hw_engine *e, const hw_generate_options *o)
{
    static const int32_t prompt[] = {7, 77, 177, 3, 9};
    hw_generate_result r;
    hw_error err = {.rank = -1};
    outcome out = {0};
    hw_meter_reset(hw_comm_meter(comm));
    out.status = hw_generate(e, tokenizer, prompt, 5, o, &r, &err);
    out.finish = r.finish;
    out.n_tokens = (int)r.tokens.n;
    out.n_steps = r.n_steps;
    out.n_discarded_steps = r.n_discarded_steps;
    memcpy(out.tokens, r.tokens.ids, r.tokens.n * sizeof *out.tokens);
    for (int site = 0; site < HW_N_SITES; site++)
        out.payload[site] = hw_meter_site(hw_comm_meter(comm), (hw_site)site, HW_DECODE).payload_bytes;
    out.used_bytes = r.kv.used_bytes;
    out.reserved_bytes = r.kv.reserved_bytes;
    hw_tokens_free(&r.tokens);
    if (o->on_text) {
        const bool failed_here = ((const writer *)o->user)->fails;
        expect(out.status == (failed_here ? HW_ERR_NO_MEMORY : HW_ERR_CANCELLED), err.message,
               (size_t)out.status);
    } else must(out.status, &err);
    return out;
}

/* All texts on one engine. What ends them in the middle is taken from the first two. */
static void run(outcome out[N_TEXTS], const char *model, const char *device, bool graphs)
{
    hw_engine *e;
    hw_error err = {.rank = -1};
    hw_engine_options eo = hw_engine_defaults();
    writer w = {.fails = rank == n_ranks - 1};
    char *word = NULL;
    size_t n_bytes;
    eo.device = device;
    eo.graphs = graphs;
    eo.dtype = HW_F32;
    eo.block_tokens = 4;
    must(hw_engine_create(&e, comm, model, &eo, &err), &err);
    hw_generate_options o = {.max_new_tokens = N_NEW};
    out[GREEDY] = generate(e, &o);
    o.n_eos = 1;
    o.eos = &out[GREEDY].tokens[EOS_AT];
    out[EOS] = generate(e, &o);
    o.n_eos = 0;
    o.sampling = (hw_sampling){.temperature = 1.5f, .seed = UINT64_C(3) << 33};
    out[DRAWN] = generate(e, &o);
    must(hw_tokenizer_decode(tokenizer, &out[DRAWN].tokens[STOP_AT], 1, true, &word, &n_bytes, &err), &err);
    expect(n_bytes > 0, "a token without text cannot end it", n_bytes);
    o.stops = (const char *const *)&word;
    o.n_stops = 1;
    out[STOP] = generate(e, &o);
    free(word);
    o.n_stops = 0;
    o.on_text = write_text;
    o.user = &w;
    out[CANCELLED] = generate(e, &o);
    const hw_engine_info info = hw_engine_info_get(e);
    const bool loops = strcmp(device, "cpu") && graphs;
    expect(loops == (info.n_device_loop_steps > 0), "tokens are fed back where they can be",
           (size_t)info.n_device_loop_steps);
    expect(!loops || n_ranks == 1 || !strcmp(info.comm, "nccl"), info.comm, 0);
    hw_engine_destroy(e);
}

static void expect_same_text(const outcome *a, const outcome *b, const char *what, int text)
{
    expect(a->n_tokens == b->n_tokens && a->finish == b->finish && a->n_steps == b->n_steps &&
               !memcmp(a->tokens, b->tokens, sizeof a->tokens),
           what, (size_t)text);
}

/* Steps that were discarded carried as much as any other. */
static void compare_text(const outcome *fed, const outcome *single, int text)
{
    const uint64_t n_looped = (uint64_t)(fed->n_steps + fed->n_discarded_steps),
                   n_single = (uint64_t)single->n_steps;
    expect(fed->used_bytes == single->used_bytes && fed->reserved_bytes == single->reserved_bytes,
           "the cache is that of single steps", (size_t)text);
    expect(single->n_discarded_steps == 0, "single steps are never discarded", (size_t)text);
    expect(fed->n_discarded_steps == (single->n_steps < N_NEW - 1),
           "a text that ends early has a discarded step", (size_t)text);
    for (int site = 0; site < HW_N_SITES; site++) {
        if (!hw_site_is_predicted((hw_site)site)) continue;
        expect(fed->payload[site] * n_single == single->payload[site] * n_looped &&
                   (fed->payload[site] > 0) == (n_ranks > 1),
               "payload of a step", (size_t)site);
    }
}

/* What every rank has to agree about. */
static void expect_same_on_all_ranks(const outcome *o, int text)
{
    static outcome all[MAX_RANKS];
    hw_error err = {.rank = -1};
    outcome mine = *o;
    mine.status = HW_OK; /* the rank that ended it knows why, and the others that it was cancelled */
    if (mine.finish == HW_FINISH_FAILED) mine.finish = HW_FINISH_CANCELLED;
    mine.used_bytes = mine.reserved_bytes = 0;
    must(hw_comm_all_gather(comm, (hw_tag){.site = HW_SITE_CONTROL}, &mine, sizeof mine, all, &err), &err);
    for (int r = 0; r < n_ranks; r++)
        expect(!memcmp(&all[r], &all[0], sizeof mine), "all ranks say the same", (size_t)text);
}

int main(int argc, char **argv)
{
    static outcome cpu[N_TEXTS], single[N_TEXTS], fed[N_TEXTS];
    hw_error err = {.rank = -1};
    if (argc != 4) return 2;
    start("auto");
    must(hw_tokenizer_open(&tokenizer, argv[3], &err), &err);
    run(cpu, argv[2], "cpu", true);
    run(single, argv[2], argv[1], false);
    run(fed, argv[2], argv[1], true);
    for (int text = 0; text < CANCELLED; text++) {
        expect_same_text(&single[text], &cpu[text], "step by step as on the CPU", text);
        expect_same_text(&fed[text], &single[text], "fed back as step by step", text);
        compare_text(&fed[text], &single[text], text);
    }
    for (int text = 0; text < N_TEXTS; text++) expect_same_on_all_ranks(&fed[text], text);
    expect(fed[GREEDY].n_tokens == N_NEW && fed[GREEDY].finish == HW_FINISH_LENGTH, "the longest text", 0);
    expect(fed[EOS].n_tokens <= EOS_AT && fed[EOS].finish == HW_FINISH_EOS, "a text that the model ends", 0);
    expect(fed[STOP].n_steps <= STOP_AT && fed[STOP].finish == HW_FINISH_STOP, "a text with a stop string",
           0);
    expect(fed[CANCELLED].n_steps < N_NEW - 1, "a text that cannot be written ends early",
           (size_t)fed[CANCELLED].n_steps);
    hw_tokenizer_destroy(tokenizer);
    return finish();
}
