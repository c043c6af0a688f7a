/* headway study: runs the experiments of launch/study/ one after the other and writes FOLDER/report.md. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/commands/commands.h"
#include "launch/report/machine.h"
#include "launch/report/output.h"
#include "launch/session.h"
#include "launch/study/study.h"
#include "launch/version.h"

enum { DEFAULT_NEW = 256, LEAST_NEW = 8, MAX_REPEATS = 1000 };

typedef struct settings {
    hw_model_settings model;
    hw_engine_settings engine;
    const char *output;
    int max_tokens, repeats;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting own_rows[] = {
    {NULL, "output", 'o', "FOLDER", HW_TEXT, NULL, 0, AT(output),
     "Folder for report.md, its pictures (SVG) and its figures (CSV); created if missing"},
    {NULL, "max-tokens", 'n', "N", HW_WHOLE("tokens", LEAST_NEW, 1 << 20), "auto", HW_SAME, AT(max_tokens),
     "New tokens of the run with the cache on and off; without the cache its cost grows with the square of "
     "N. "
     "The other experiments are at most as long; auto: 256, or what the context allows"},
    {NULL, "repetitions", 'r', "N", HW_WHOLE("repetitions", 1, MAX_REPEATS), "10", HW_SAME, AT(repeats),
     "Repetitions of that run"},
};
#undef AT
static const char *settle_own(void *values)
{
    const settings *a = values;
    const hw_engine_options *o = &a->engine.options;
    if (!a->output) return "no output: give a folder with -o FOLDER";
    if (o->kv_policy == HW_KV_OFF)
        return "--kv-cache off: the study always runs off; give the policy to compare it with";
    if (o->max_seq_len || o->kv_bytes || o->max_batch_rows != hw_engine_defaults().max_batch_rows)
        return "--max-model-len, --kv-cache-memory and --max-num-batched-tokens: every experiment sets its "
               "own; use -n to set their length";
    return NULL;
}

static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 0, own_rows, settle_own);

static const char doc[] =
    "Explains the KV cache and the communication between ranks with measurements: runs "
    "experiments and writes a report.\v"
    "Takes about two minutes for models/tales on two ranks. With --load-format dummy it "
    "needs only a config.json.\n"
    "  mpirun -np 2 headway study -m models/tales -o study";

static const hw_experiment *const experiments[] = {
    &hw_experiment_on_off,   &hw_experiment_length, &hw_experiment_phases,   &hw_experiment_heads,
    &hw_experiment_policies, &hw_experiment_ranks,  &hw_experiment_questions};
enum { N_EXPERIMENTS = sizeof experiments / sizeof *experiments };

/* ---- before and after */

/* Rank 0. Runs first, so that mistakes are found before anything that takes time. */
static hw_status open_folder(hw_study *s, hw_error *err)
{
    char path[4096];
    if (mkdir(s->folder, 0777) && errno != EEXIST)
        return hw_fail(err, HW_ERR_FAILED, "%s: cannot create this folder: %s", s->folder, strerror(errno));
    if (snprintf(path, sizeof path, "%s/report.md", s->folder) >= (int)sizeof path)
        return hw_fail(err, HW_ERR_INVALID, "the path of the output folder is too long");
    s->report = fopen(path, "w");
    if (!s->report) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    s->can_draw = hw_plot_possible();
    if (!s->can_draw) fprintf(stderr, "gnuplot is not installed: the report has no pictures\n");
    return HW_OK;
}

static hw_status close_report(hw_study *s, hw_error *err)
{
    bool bad = ferror(s->report);
    bad |= fclose(s->report) != 0;
    s->report = NULL;
    return bad ? hw_fail(err, HW_ERR_FAILED, "%s/report.md: cannot write: %s", s->folder, strerror(errno))
               : HW_OK;
}

static hw_status prepare(hw_study *s, const settings *a, hw_error *err)
{
    const hw_source source = hw_source_of(s->model_folder, a->engine.options.weights, s->comm);
    hw_status st = hw_model_open_from(&s->model, &source, err);
    int most = s->model.max_seq_len - 1;
    s->n_new = a->max_tokens ? a->max_tokens : DEFAULT_NEW < most ? DEFAULT_NEW : most;
    if (!st && (s->n_new > most || most < LEAST_NEW))
        st = hw_fail(err, HW_ERR_INVALID,
                     "-n is %d, but after one prompt token the model's context of %d positions has room for "
                     "%d, and the study "
                     "needs at least %d",
                     s->n_new, s->model.max_seq_len, most, LEAST_NEW);
    if (!st && s->rank == 0) st = open_folder(s, err);
    return hw_comm_agree(s->comm, st, err);
}

static void write_head(hw_study *s)
{
    const hw_engine_info *i = &s->on_off.on.info;
    char params[16], weights[16];
    hw_study_text(s, "# What the KV cache saves, and what ranks send to each other\n\n");
    hw_study_text(
        s,
        "Written by `%s` (headway %s). %s, %s parameters, weights %s as %s over all ranks; %d layers, "
        "width %d, %d query heads, %d KV heads of %d; ",
        s->command, HW_VERSION, i->architecture, hw_format_count(params, (double)i->n_params),
        hw_format_bytes(weights, (double)s->on_off.on.weight_bytes), hw_dtype_name(i->weight_dtype),
        i->n_layers, i->dim, i->n_heads, i->n_kv_heads, i->head_dim);
    hw_study_text(s, "%d rank%s (%s), each on %s.\n\n", i->n_ranks, i->n_ranks > 1 ? "s" : "", i->comm,
                  s->device);
    hw_study_text(s,
                  "*Payload* is the size of the buffers passed to collectives: exact, and the same for any "
                  "algorithm and any number of ranks above one. *FLOPs* are counted, 2 per "
                  "multiply-add of products, scores and values; causal pairs only. Counts are exact and "
                  "reproducible; times depend on this machine and its load.\n\n");
}

/* ---- running */

static hw_status run_one(hw_study *s, const hw_experiment *x, hw_error *err)
{
    void *data = NULL;
    hw_study_progress(s, "%s", x->title);
    hw_status st = x->run ? x->run(s, &data, err) : HW_OK;
    if (st && (st == HW_ERR_DEVICE || st == HW_ERR_RANK)) {
        hw_session alone = {.comm = s->comm, .rank = s->rank};
        hw_session_end_if_alone(&alone, st, err);
    }
    if (!st && s->rank == 0) {
        if (!s->n_sections) write_head(s);
        hw_study_text(s, "## %d. %s\n\n", ++s->n_sections, x->title);
        st = x->write(s, data, err);
        fflush(s->report); /* lets users read the report so far; errors are found when it is closed */
    }
    st = hw_comm_agree(s->comm, st, err);
    if (x->free) x->free(data);
    return st;
}

static void release(hw_study *s)
{
    hw_on_off *r = &s->on_off;
    hw_trial_free(&r->on);
    hw_trial_free(&r->off);
    free(r->on_seconds);
    free(r->off_seconds);
    free(r->on_step);
    free(r->off_step);
    if (s->report) fclose(s->report);
}

/* The options as typed, separated by spaces. */
static char *join(int argc, char **argv)
{
    size_t n = 1;
    for (int i = 0; i < argc; i++) n += strlen(argv[i]) + 1;
    char *line = malloc(n), *end = line;
    for (int i = 0; line && i < argc; i++) end += sprintf(end, "%s%s", i ? " " : "", argv[i]);
    return line;
}

hw_status hw_cmd_study(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_options o = {.doc = doc, .groups = {HW_TAKES(a, model), HW_TAKES(a, engine), {&own_group, &a}}};
    hw_study s = {.n_sections = 0};
    char *typed = join(argc - 1, argv + 1), command[2048];
    hw_options_parse(&o, argc, argv);
    hw_session session = {0};
    hw_status st = hw_session_start(&session, &o, err);
    if (!st) {
        s.comm = session.comm;
        s.rank = hw_comm_rank(s.comm);
        s.n_ranks = hw_comm_n_ranks(s.comm);
        s.model_folder = a.model.folder;
        s.folder = a.output;
        s.engine = a.engine.options;
        s.repeats = a.repeats;
        s.verbose = a.engine.verbose;
        s.command = command;
        if (s.n_ranks > 1)
            snprintf(command, sizeof command, "mpirun -np %d headway study %s", s.n_ranks,
                     typed ? typed : "");
        else snprintf(command, sizeof command, "headway study %s", typed ? typed : "");
        st = prepare(&s, &a, err);
    }
    if (!st && s.rank == 0) hw_build_warn_if_changed();
    for (int i = 0; i < N_EXPERIMENTS && !st; i++) st = run_one(&s, experiments[i], err);
    if (!st) {
        if (s.rank == 0) st = close_report(&s, err);
        st = hw_comm_agree(s.comm, st, err);
    }
    if (!st && s.rank == 0) st = hw_print(err, "%s/report.md\n", s.folder);
    release(&s);
    hw_session_close(&session);
    free(typed);
    return st;
}
