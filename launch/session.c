#include "launch/session.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/report/output.h"
#include "launch/settings/agreement.h"
#include "parallel/watch.h"
#include "runtime/base/host.h"
#include "runtime/tokenizer/companions.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/source.h"

enum { MAX_PROMPT_BYTES = 1 << 30 };

hw_status hw_parse_token_list(hw_tokens *out, const char *text, hw_error *err)
{
    const char *p = text;
    while (*p) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno || id < 0 || id > INT32_MAX || (*end && *end != ','))
            return hw_fail(err, HW_ERR_INVALID,
                           "--tokens: '%.20s' is not a token id; wanted ids with commas, as in 1,2,3", p);
        hw_status st = hw_tokens_push(out, (int32_t)id, err);
        if (st) return st;
        p = *end ? end + 1 : end;
        if (*end && !*p) return hw_fail(err, HW_ERR_INVALID, "--tokens: the list ends with a comma");
    }
    return HW_OK;
}

/* Reads a file, a pipe or a terminal to its end. */
static hw_status read_stream(char **text, size_t *n_bytes, FILE *f, const char *name, hw_error *err)
{
    size_t capacity = 1 << 16, n = 0;
    char *buffer = malloc(capacity + 1);
    while (buffer) {
        size_t got = fread(buffer + n, 1, capacity - n, f);
        n += got;
        if (n > MAX_PROMPT_BYTES || ferror(f)) {
            int code = errno;
            free(buffer);
            return hw_fail(err, HW_ERR_INVALID, "%s: cannot read: %s", name,
                           ferror(f) ? strerror(code) : "larger than 1 GiB");
        }
        if (!got) break;
        if (n < capacity) continue;
        char *more = realloc(buffer, (capacity *= 2) + 1);
        if (!more) free(buffer);
        buffer = more;
    }
    if (!buffer) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for %zu bytes", name, capacity);
    buffer[n] = '\0';
    *text = buffer;
    *n_bytes = n;
    return HW_OK;
}

hw_status hw_read_prompt_text(const hw_prompt_settings *p, char **text, size_t *n_bytes, hw_error *err)
{
    *text = NULL;
    *n_bytes = 0;
    if (p->from_stdin || (p->file && !strcmp(p->file, "-")))
        return read_stream(text, n_bytes, stdin, "standard input", err);
    if (p->file) {
        FILE *f = fopen(p->file, "re");
        if (!f) return hw_fail(err, HW_ERR_INVALID, "%s: cannot open: %s", p->file, strerror(errno));
        hw_status st = read_stream(text, n_bytes, f, p->file, err);
        fclose(f);
        return st;
    }
    if (!p->text)
        return hw_fail(err, HW_ERR_INVALID,
                       "no prompt: give one with -p TEXT, -f FILE, --tokens 1,2,3, or - for standard input");
    *n_bytes = strlen(p->text);
    *text = strdup(p->text);
    return *text ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "prompt: no memory");
}

/* Only on rank 0: the other hosts need not have the file, and there is only one standard input. */
static hw_status read_prompt(hw_session *s, hw_error *err)
{
    const hw_prompt_settings *p = s->prompt_settings;
    char *text = NULL;
    size_t n;
    if (p->tokens) return hw_parse_token_list(&s->prompt, p->tokens, err);
    hw_status st = hw_read_prompt_text(p, &text, &n, err);
    if (!st) st = hw_tokenizer_encode(s->tokenizer, text, n, !p->no_special, &s->prompt, err);
    free(text);
    return st ? hw_context(err, st, "prompt") : HW_OK;
}

static hw_status share_prompt(hw_session *s, hw_error *err)
{
    hw_tag tag = {.site = HW_SITE_LOAD};
    uint64_t n = s->prompt.n;
    hw_status st = hw_comm_broadcast(s->comm, tag, &n, sizeof n, 0, err);
    while (!st && s->rank && s->prompt.n < n) st = hw_tokens_push(&s->prompt, 0, err);
    st = hw_comm_agree(s->comm, st, err);
    return st ? st
              : hw_comm_broadcast(s->comm, tag, s->prompt.ids, (size_t)n * sizeof *s->prompt.ids, 0, err);
}

hw_status hw_open_tokenizer(hw_tokenizer **out, const char *folder, hw_error *err)
{
    hw_status st = hw_checkpoint_check_folder(folder, err);
    return st ? st : hw_tokenizer_open(out, folder, err);
}

static hw_status no_tokenizer(const hw_source *source, hw_error *err)
{
    char *config;
    size_t n;
    hw_status st = hw_source_read(source, "config.json", HW_TOKENIZER_MAX_BYTES, true, &config, &n, err);
    if (st) return st;
    const bool is_model = config != NULL;
    free(config);
    if (!is_model)
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: has neither config.json nor tokenizer.json; wanted the path of a downloaded "
                       "Hugging Face model folder",
                       source->folder);
    return hw_fail(err, HW_ERR_MODEL,
                   "%s/tokenizer.json: No such file or directory; without it give the prompt as token ids, "
                   "--tokens 1,2,3",
                   source->folder);
}

/* Ids need no tokenizer, but if there is one, the output is text. */
static hw_status open_tokenizer(hw_session *s, const hw_source *source, hw_error *err)
{
    char *text, path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s/tokenizer.json", source->folder);
    hw_status st = hw_source_read(source, "tokenizer.json", HW_TOKENIZER_MAX_BYTES, true, &text, &n, err);
    if (!st && text) st = hw_tokenizer_create(&s->tokenizer, text, n, path, err);
    if (!st && text && s->rank == 0) st = hw_tokenizer_check_companions(s->tokenizer, source->folder, err);
    if (!st && !text && !s->prompt_settings->tokens) st = no_tokenizer(source, err);
    free(text);
    return st;
}

/* ---- the configuration */

static hw_status apply_text(hw_session *s, hw_options *o, const char *text, size_t n_bytes, hw_error *err)
{
    s->config = malloc(sizeof *s->config);
    if (!s->config) return hw_fail(err, HW_ERR_NO_MEMORY, "configuration: no memory");
    *s->config = hw_config_defaults();
    hw_status st = hw_config_parse(s->config, text, n_bytes, s->model->config, err);
    return st ? st : hw_options_inherit(o, s->config, err);
}

hw_status hw_session_start_alone(hw_session *s, hw_options *o, hw_error *err)
{
    char *text = NULL;
    size_t n = 0;
    s->options = o;
    s->model = hw_options_values(o, &hw_model_group);
    if (!s->model->config) return HW_OK;
    hw_status st = hw_config_read(&text, &n, s->model->config, err);
    if (!st) st = apply_text(s, o, text, n, err);
    free(text);
    return st;
}

/* Open MPI counts only messages. */
static hw_status settle_backend(const hw_session *s, hw_engine_settings *e, hw_error *err)
{
    if (!s->counts_messages) return HW_OK;
    if (!strcmp(e->comm, "auto")) e->comm = "mpi";
    /* Traffic of NCCL cannot be counted, but the remaining messages can. */
    if (!strcmp(e->comm, "mpi") || !strcmp(e->comm, "nccl")) return HW_OK;
    return hw_fail(
        err, HW_ERR_INVALID,
        "--verify compares with Open MPI's count, which does not see collectives \"%s\"; use --comm mpi",
        e->comm);
}

/* Sending the file needs a communicator, and the file may select another backend: MPI can be started only once, so the
 * first communicator stays open. */
static hw_status start_with_file(hw_session *s, hw_options *o, hw_engine_settings *e, hw_error *err)
{
    char *text = NULL;
    size_t n = 0;
    hw_status st = hw_comm_create(&s->comm, s->counts_messages ? "mpi" : "auto", err);
    if (st) return st;
    s->rank = hw_comm_rank(s->comm);
    if (s->rank == 0) st = hw_config_read(&text, &n, s->model->config, err);
    st = hw_comm_agree(s->comm, st, err);
    if (!st) st = hw_comm_share(s->comm, (hw_tag){.site = HW_SITE_LOAD}, &text, &n, err);
    if (!st) st = apply_text(s, o, text, n, err);
    free(text);
    if (!st) st = settle_backend(s, e, err);
    st = hw_comm_agree(s->comm, st, err);
    if (st || hw_comm_become(s->comm, e->comm)) return st;
    s->started = s->comm;
    return hw_comm_agree(s->started, hw_comm_create(&s->comm, e->comm, err), err);
}

static hw_status start_without_file(hw_session *s, hw_engine_settings *e, hw_error *err)
{
    hw_status st = settle_backend(s, e, err);
    return st ? st : hw_comm_create(&s->comm, s->counts_messages ? "mpi" : e->comm, err);
}

/* Only before MPI has started or after it has ended. In between, an exit is MPI's reaction to the loss of another rank or
 * of mpirun, and must not be announced as intended. */
static void say_farewell(int exit_code, void *watch)
{
    const hw_watch_phase before = hw_watch_enter(watch, HW_WATCH_ENDING);
    if (before == HW_WATCH_STARTING || before == HW_WATCH_ENDING) hw_watch_stop(watch, exit_code);
}

/* A rank that cannot reach the launcher can still run. */
static void start_watch(hw_session *s)
{
    hw_error why;
    char host[HOST_NAME_MAX + 1];
    hw_host_name(host, sizeof host);
    if (hw_watch_start(&s->watch, &why))
        fprintf(stderr, "headway: rank %d on %s is not watched: %s\n", hw_comm_launched_rank(), host,
                why.message);
    if (s->watch) on_exit(say_farewell, s->watch);
}

hw_status hw_session_start(hw_session *s, hw_options *o, hw_error *err)
{
    hw_engine_settings *e = hw_options_values(o, &hw_engine_group);
    s->options = o;
    s->model = hw_options_values(o, &hw_model_group);
    s->prompt_settings = hw_options_values(o, &hw_prompt_group);
    start_watch(s);
    hw_status st = s->model->config ? start_with_file(s, o, e, err) : start_without_file(s, e, err);
    if (st) return st;
    s->rank = hw_comm_rank(s->comm);
    hw_comm_set_watch(s->comm, s->watch);
    hw_watch_enter(s->watch, HW_WATCH_IDLE);
    hw_comm_set_stuck_after(s->comm, s->watch ? hw_watch_stuck_after(s->watch) : e->stuck_after);
    if (s->counts_messages) (void)hw_comm_become(s->comm, e->comm);
    return HW_OK;
}

/* ---- prompt and engine */

hw_status hw_session_open_tokenizer(hw_session *s, hw_error *err)
{
    const hw_engine_settings *e = hw_options_values(s->options, &hw_engine_group);
    const hw_source source = hw_source_of(s->model->folder, e->options.weights, s->comm);
    hw_status st = hw_comm_agree(s->comm, open_tokenizer(s, &source, err), err);
    return st ? st : hw_generation_config_open_from(&s->generation, &source, err);
}

hw_status hw_session_agree_idle(hw_session *s, hw_status mine, hw_error *err)
{
    hw_error lost;
    const hw_status st = hw_comm_wait_idle(s->comm, mine ? &lost : err);
    return hw_comm_agree(s->comm, mine ? mine : st, err);
}

hw_status hw_session_open_prompt(hw_session *s, hw_error *err)
{
    hw_status st = hw_session_open_tokenizer(s, err);
    if (st) return st;
    if (s->rank == 0) st = read_prompt(s, err);
    st = hw_session_agree_idle(s, st, err);
    return st ? st : share_prompt(s, err);
}

/* Rank 0 prints its own numbers; the oversubscribed rank may be another. */
static void warn_of_threads(const hw_engine_info *i)
{
    const int share = i->n_cores > 0 ? i->n_cores : 1;
    fprintf(
        stderr,
        "headway: %d threads for each rank are more than its share of the cores (%d rank%s on %d core%s): "
        "they take turns, which is slow; use --threads %d%s\n",
        i->n_threads, i->n_ranks_on_them, i->n_ranks_on_them > 1 ? "s" : "", i->n_cores_of,
        i->n_cores_of > 1 ? "s" : "", share < i->n_threads ? share : i->n_threads - 1,
        i->n_ranks > 1
            ? ", fewer ranks, or give them more cores (mpirun --map-by slot:PE=N or --bind-to none)"
            : "");
}

hw_status hw_session_open_engine(hw_session *s, const hw_engine_settings *e, hw_error *err)
{
    hw_load_progress progress = hw_load_progress_start(s->rank, e->quiet);
    hw_engine_options o = e->options;
    o.progress = hw_load_progress_show;
    o.progress_user = &progress;
    hw_status st = hw_agreement_check(s->comm, s->options, err);
    if (!st) st = hw_engine_create(&s->engine, s->comm, s->model->folder, &o, err);
    hw_load_progress_end(&progress);
    if (!st) st = hw_devices_tell(&s->paths, s->engine, o.matmul, s->told, e->verbose, err);
    s->told = true;
    if (st || s->rank) return st;
    const hw_engine_info i = hw_engine_info_get(s->engine);
    if (i.few_cores && !s->warned) warn_of_threads(&i);
    if (*i.gpu_note && !s->warned) fprintf(stderr, "headway: ranks compute on the CPU: %s\n", i.gpu_note);
    s->warned = true;
    if (!e->verbose) return HW_OK;
    char params[16], weights[16], kv[16];
    fprintf(
        stderr,
        "%s, %s parameters as %s; %d rank%s (%s), %s; per rank: weights %s, KV cache %s (%s, %d positions)\n",
        i.architecture, hw_format_count(params, (double)i.n_params), hw_dtype_name(i.weight_dtype), i.n_ranks,
        i.n_ranks > 1 ? "s" : "", i.comm, i.device, hw_format_bytes(weights, (double)i.weight_bytes),
        hw_format_bytes(kv, (double)i.kv_bytes), hw_kv_policy_name(i.kv_policy), i.max_seq_len);
    return HW_OK;
}

void hw_session_leave_ranks(hw_session *s)
{
    hw_engine_destroy(s->engine);
    hw_tokenizer_destroy(s->tokenizer);
    hw_tokens_free(&s->prompt);
    hw_comm_destroy(s->comm);
    hw_comm_destroy(s->started);
    s->engine = NULL;
    s->tokenizer = NULL;
    s->comm = s->started = NULL;
}

void hw_session_close(hw_session *s)
{
    hw_session_leave_ranks(s);
    if (s->config) hw_config_free(s->config);
    free(s->config);
}

int hw_session_length(const hw_session *s, const hw_generate_options *o)
{
    return o->max_new_tokens < INT_MAX - (int)s->prompt.n ? (int)s->prompt.n + o->max_new_tokens : INT_MAX;
}

/* Whether the user set something that greedy decoding ignores. */
static bool gives_candidates(const hw_request_settings *r)
{
    static const size_t fields[] = {offsetof(hw_request_settings, sampling.top_k),
                                    offsetof(hw_request_settings, sampling.top_p),
                                    offsetof(hw_request_settings, sampling.min_p)};
    bool any = false;
    for (int i = 0; i < 3; i++) any = any || hw_setting_is_given(&hw_request_group, r, fields[i]);
    return any;
}

static void warn_of_ignored(hw_session *s)
{
    if (s->rank == 0 && !s->warned_of_ignored && *s->generation.ignored)
        fprintf(stderr,
                "headway: %s: its generation settings %s are not supported and left out, so transformers may "
                "write another text\n",
                s->model->folder, s->generation.ignored);
    s->warned_of_ignored = true;
}

hw_status hw_session_sampling(hw_session *s, const hw_request_settings *r, hw_sampling *out, hw_error *err)
{
    warn_of_ignored(s);
    const hw_request_settings recommended = {.given.value = ~UINT64_C(0), .sampling = s->generation.sampling};
    hw_request_settings all = *r;
    hw_settings_inherit(&hw_request_group, &all, &recommended);
    *out = all.sampling;
    if (out->temperature == 0 && gives_candidates(r))
        return hw_fail(
            err, HW_ERR_INVALID,
            "--top-k, --top-p and --min-p have no effect on greedy decoding; set --temperature above "
            "0, or omit them");
    return hw_sampling_check(out, err);
}

hw_generate_options hw_session_generate_options(const hw_session *s, const hw_request_settings *r,
                                                int prefill_chunk, hw_text_function *on_text, void *user)
{
    return (hw_generate_options){.max_new_tokens =
                                     r->max_tokens ? r->max_tokens : s->generation.max_new_tokens,
                                 .eos = s->generation.eos,
                                 .n_eos = s->generation.n_eos,
                                 .ignore_eos = r->ignore_eos,
                                 .stops = r->stops,
                                 .n_stops = r->n_stops,
                                 .prefill_chunk = prefill_chunk,
                                 .on_text = on_text,
                                 .user = user};
}

void hw_session_end_if_alone(hw_session *s, hw_status st, const hw_error *err)
{
    if (st != HW_ERR_DEVICE && st != HW_ERR_RANK && st != HW_ERR_NO_MEMORY) return;
    if (hw_comm_n_ranks(s->comm) == 1) return;
    if (err->rank >= 0 && err->rank != s->rank) return; /* that rank ends the job */
    hw_error mine = *err;
    if (mine.rank < 0) hw_rank_context(&mine, st, s->rank);
    fprintf(stderr, "headway: %s\n", mine.message);
    hw_watch_leave(s->watch, hw_exit_code(st));
    hw_comm_abort(s->comm, hw_exit_code(st));
}
