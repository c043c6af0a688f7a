#include "launch/cluster/check.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/cluster/run_parallel.h"
#include "launch/report/output.h"
#include "launch/report/plan.h"
#include "runtime/sizes.h"

static const double HOST_PATIENCE_S = 10, PAIR_PATIENCE_S = 15; /* of silence */

/* ---- the commands */

static void quote(FILE *f, const char *word)
{
    fputc('\'', f);
    for (; *word; word++)
        if (*word == '\'') fputs("'\\''", f);
        else fputc(*word, f);
    fputc('\'', f);
}

/* The shell command for a host: starts the program as mpirun would start a rank. NULL: no memory. */
static char *probe_there(const hw_cluster *c, const hw_here *here, const char *model)
{
    char *text = NULL, folder[PATH_MAX] = "/";
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    if (!c->work_folder && !getcwd(folder, sizeof folder)) snprintf(folder, sizeof folder, "/");
    fprintf(f, "cd ");
    quote(f, c->work_folder ? c->work_folder : folder);
    fprintf(f, " && exec env");
    for (int i = 0; i < c->n_environment; i++) {
        const char *name = c->environment[i], *value = strchr(name, '=') ? "" : getenv(name);
        if (!value) continue;
        fputc(' ', f);
        char *pair = NULL;
        if (asprintf(&pair, "%s%s%s", name, strchr(name, '=') ? "" : "=", value) >= 0) quote(f, pair);
        free(pair);
    }
    fputc(' ', f);
    quote(f, c->program ? c->program : here->program);
    fprintf(f, " probe");
    if (model) {
        fprintf(f, " -m ");
        quote(f, model);
    }
    return fclose(f) ? (free(text), NULL) : text;
}

static bool add_words(hw_command_line *line, const char *text)
{
    char *copy = strdup(text), *rest = NULL;
    bool ok = copy != NULL;
    for (char *word = copy ? strtok_r(copy, " \t", &rest) : NULL; word && ok;
         word = strtok_r(NULL, " \t", &rest))
        ok = hw_command_line_add(line, word);
    free(copy);
    return ok;
}

static bool compose_host(hw_command_line *line, const hw_cluster *c, const hw_here *here, const char *host,
                         const char *what)
{
    if (hw_host_is_here(host, here)) return add_words(line, "sh -c") && hw_command_line_add(line, what);
    return add_words(line, c->remote_shell ? c->remote_shell : "ssh -o BatchMode=yes -o ConnectTimeout=5") &&
           hw_command_line_add(line, host) && hw_command_line_add(line, what);
}

/* A task on each node of the allocation. */
static bool compose_srun(hw_command_line *line, const hw_cluster *c, const char *what)
{
    char *options = NULL;
    size_t n;
    FILE *f = open_memstream(&options, &n);
    if (!f) return false;
    const int nodes = c->n_hosts ? c->n_hosts : c->nodes;
    fprintf(f, "srun --mpi=none --input=none --ntasks-per-node=1");
    if (nodes) fprintf(f, " --nodes=%d", nodes);
    for (int i = 0; i < c->n_hosts; i++) fprintf(f, "%s%s", i ? "," : " --nodelist=", c->hosts[i].name);
    const bool ok =
        !fclose(f) && add_words(line, options) && add_words(line, "sh -c") && hw_command_line_add(line, what);
    free(options);
    return ok;
}

static const hw_host *host_at(const hw_cluster *c, int i)
{
    static const hw_host alone = {"localhost", 0};
    return c->n_hosts ? &c->hosts[i] : &alone;
}

hw_status hw_cluster_check_compose(hw_cluster_check *out, const hw_config *config, const hw_here *here,
                                   int threads, hw_error *err)
{
    const hw_cluster *c = &config->cluster;
    char probe[] = "probe", pairs[] = "--pairs", *const args[] = {probe, pairs};
    const bool slurm = c->launcher == HW_SRUN;
    *out = (hw_cluster_check){.n_hosts = slurm || !c->n_hosts ? 1 : c->n_hosts};
    hw_status st = hw_cluster_command(&out->pairs, c, here, threads, args, 2, err);
    if (st) return st;
    char *what = probe_there(c, here, config->model.folder);
    out->hosts = calloc((size_t)out->n_hosts, sizeof *out->hosts);
    bool ok = what && out->hosts;
    for (int i = 0; i < out->n_hosts && ok; i++)
        ok = slurm ? compose_srun(&out->hosts[i], c, what)
                   : compose_host(&out->hosts[i], c, here, host_at(c, i)->name, what);
    free(what);
    if (ok) return HW_OK;
    hw_cluster_check_free(out);
    return hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory for the commands");
}

void hw_cluster_check_free(hw_cluster_check *check)
{
    for (int i = 0; i < check->n_hosts && check->hosts; i++) hw_command_line_free(&check->hosts[i]);
    free(check->hosts);
    hw_command_line_free(&check->pairs);
    *check = (hw_cluster_check){.n_hosts = 0};
}

/* ---- problems */

typedef struct findings {
    const hw_cluster *c;
    const char *model; /* its folder; NULL: not set */
    const hw_engine_options *options;
    int threads;
    hw_plan plan; /* n_ranks 0: unknown, `why_no_plan` says why */
    char why_no_plan[HW_ERROR_CAPACITY];
    FILE *list; /* a line for each problem */
    char *text;
    size_t n_text;
    int n;
    hw_status worst;
} findings;

static void wrong(findings *f, hw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void wrong(findings *f, hw_status status, const char *format, ...)
{
    va_list args;
    fprintf(f->list, "  ");
    va_start(args, format);
    vfprintf(f->list, format, args);
    va_end(args);
    fputc('\n', f->list);
    f->n++;
    if (status > f->worst) f->worst = status;
}

/* The last line that is not empty: programs usually print the cause last. */
static const char *last_line(char *text)
{
    if (!text) return "";
    size_t n = strlen(text);
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) text[--n] = '\0';
    const char *line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

/* ---- hosts */

/* A host, described by its probe. */
typedef struct seen {
    const char *name;
    int slots;
    double seconds;
    json_t *facts; /* NULL: no description */
} seen;

static const char *text_of(const json_t *facts, const char *key)
{
    const char *text = json_string_value(json_object_get(facts, key));
    return text ? text : "";
}

static void compare_model(findings *f, const seen *first, const seen *h)
{
    const json_t *want = json_object_get(first->facts, "model"), *have = json_object_get(h->facts, "model");
    const char *name;
    json_t *size;
    if (f->options->weights == HW_WEIGHTS_SCATTER && h != first) return;
    if (!json_is_object(have)) {
        wrong(f, HW_ERR_MODEL, "%s: there is no folder %s; copy it there, or set model.weights: scatter",
              h->name, f->model);
        return;
    }
    if (h == first || !json_is_object(want)) return;
    json_object_foreach((json_t *)want, name, size)
    {
        const json_t *other = json_object_get(have, name);
        if (!other)
            wrong(f, HW_ERR_MODEL, "%s: %s/%s is not there; %s has it: copy it", h->name, f->model, name,
                  first->name);
        else if (json_integer_value(other) != json_integer_value(size))
            wrong(f, HW_ERR_MODEL, "%s: %s/%s has %lld bytes, and on %s %lld; copy it again", h->name,
                  f->model, name, (long long)json_integer_value(other), first->name,
                  (long long)json_integer_value(size));
    }
    json_object_foreach((json_t *)have, name, size)
    {
        if (!json_object_get(want, name))
            wrong(f, HW_ERR_MODEL, "%s: %s/%s is not on %s; copy it there, or remove it", h->name, f->model,
                  name, first->name);
    }
}

/* Memory of each rank on a host: its share of the host, or of the GPU with the least. */
static void check_memory(findings *f, const seen *h)
{
    const json_t *gpus = json_object_get(h->facts, "gpus"), *gpu;
    json_int_t each = h->slots ? json_integer_value(json_object_get(h->facts, "memory_bytes")) / h->slots : 0;
    char need[16], has[16];
    size_t i;
    if (!strcmp(f->options->device, "cuda")) {
        each = LLONG_MAX;
        json_array_foreach((json_t *)gpus, i, gpu)
        {
            const json_int_t bytes = json_integer_value(json_object_get(gpu, "free_bytes"));
            if ((int)i < h->slots && bytes < each) each = bytes;
        }
    }
    if (!f->plan.n_ranks || !each || (uint64_t)each >= f->plan.most.total) return;
    wrong(f, HW_ERR_NO_MEMORY,
          "%s: each of %d ranks has %s of memory and needs up to %s; use more hosts, or lower limits or "
          "cache.memory",
          h->name, h->slots, hw_format_memory(has, (double)each),
          hw_format_memory(need, (double)f->plan.most.total));
}

static void check_host(findings *f, const seen *first, const seen *h)
{
    const int cores = (int)json_integer_value(json_object_get(h->facts, "cores")),
              n_gpus = (int)json_array_size(json_object_get(h->facts, "gpus"));
    if (strcmp(text_of(h->facts, "program"), text_of(first->facts, "program")))
        wrong(f, HW_ERR_INVALID,
              "%s: another build of headway (%s, %s) than on %s (%s, %s); copy the same to every host",
              h->name, text_of(h->facts, "version"), text_of(h->facts, "program"), first->name,
              text_of(first->facts, "version"), text_of(first->facts, "program"));
    if (f->model) compare_model(f, first, h);
    if ((long)h->slots * f->threads > cores && f->c->oversubscribe != HW_YES && f->c->n_hosts > 1)
        wrong(f, HW_ERR_INVALID,
              "%s: %d ranks of %d threads want %ld cores and there are %d; lower slots or "
              "parallelism.threads, or set "
              "cluster.oversubscribe: true",
              h->name, h->slots, f->threads, (long)h->slots * f->threads, cores);
    if (!strcmp(f->options->device, "cuda") && n_gpus < h->slots) {
        if (n_gpus)
            wrong(f, HW_ERR_INVALID, "%s: %d ranks, and %d GPUs; lower its slots", h->name, h->slots, n_gpus);
        else
            wrong(f, HW_ERR_INVALID,
                  "%s: nvidia-smi is missing or lists no GPU; install the driver, or set device.kind: cpu",
                  h->name);
    }
    check_memory(f, h);
}

static hw_status print_host(const findings *f, const seen *first, const seen *h, hw_error *err)
{
    char memory[16], need[16] = "?", model[32] = "-", gpus[64] = "-";
    const json_t *files = json_object_get(h->facts, "model"), *list = json_object_get(h->facts, "gpus");
    json_t *size;
    const char *name;
    double bytes = 0;
    char total[16];
    if (!h->facts) return hw_print(err, "%-20s no\n", h->name);
    json_object_foreach((json_t *)files, name, size) bytes += (double)json_integer_value(size);
    if (json_is_object(files))
        snprintf(model, sizeof model, "%zu files, %s", json_object_size(files),
                 hw_format_bytes(total, bytes));
    if (json_array_size(list))
        snprintf(gpus, sizeof gpus, "%zu x %s", json_array_size(list),
                 text_of(json_array_get(list, 0), "name"));
    if (f->plan.n_ranks) hw_format_memory(need, (double)f->plan.most.total * h->slots);
    return hw_print(
        err, "%-20s %6.2f s  %-8s %-20s %3d of %-4d %10s of %-10s %s\n", h->name, h->seconds,
        strcmp(text_of(h->facts, "program"), text_of(first->facts, "program")) ? "another" : "same", model,
        h->slots * f->threads, (int)json_integer_value(json_object_get(h->facts, "cores")), need,
        hw_format_memory(memory, (double)json_integer_value(json_object_get(h->facts, "memory_bytes"))),
        gpus);
}

static void say_why(findings *f, const hw_parallel_run *v, const char *host)
{
    if (v->timed_out)
        wrong(f, HW_ERR_INVALID,
              "%s: no answer in %.0f s; is it up, and does `%s %s true` end without a question?", host,
              HOST_PATIENCE_S, f->c->remote_shell ? f->c->remote_shell : "ssh", host);
    else if (v->exit_code == 127)
        wrong(f, HW_ERR_INVALID,
              "%s: the program does not start there: %.300s; install it at the same path, or set "
              "cluster.program",
              host, last_line(v->err));
    else
        wrong(f, HW_ERR_INVALID, "%s: the check failed there (exit status %d): %.300s", host, v->exit_code,
              last_line(v->err));
}

/* Under srun every node has a line. */
static int take_answers(findings *f, hw_parallel_run *runs, int n_runs, seen *hosts, int most)
{
    const bool slurm = f->c->launcher == HW_SRUN;
    int n = 0;
    for (int i = 0; i < n_runs; i++) {
        char *rest = NULL, *line = runs[i].out ? strtok_r(runs[i].out, "\n", &rest) : NULL;
        const int before = n;
        for (; line && n < most; line = strtok_r(NULL, "\n", &rest)) {
            json_t *facts = json_loads(line, 0, NULL);
            if (!facts) continue; /* login messages */
            hosts[n++] = (seen){slurm ? text_of(facts, "host") : host_at(f->c, i)->name,
                                host_at(f->c, i)->slots, runs[i].seconds, facts};
        }
        if (n > before) continue;
        say_why(f, &runs[i], slurm ? "srun" : host_at(f->c, i)->name);
        if (n < most)
            hosts[n++] =
                (seen){.name = slurm ? "srun" : host_at(f->c, i)->name, .slots = host_at(f->c, i)->slots};
    }
    return n;
}

static int ranks_of(const hw_cluster *c)
{
    int slots = 0;
    for (int i = 0; i < c->n_hosts; i++) slots += c->hosts[i].slots;
    return c->ranks ? c->ranks : slots ? slots : 1;
}

/* The slots in use: those of the first hosts, as many as there are ranks. */
static void give_out_ranks(const hw_cluster *c, seen *hosts, int n)
{
    int left = ranks_of(c);
    for (int i = 0; i < n; i++) {
        if (!c->n_hosts || c->launcher == HW_SRUN) hosts[i].slots = (ranks_of(c) + n - 1) / n;
        if (hosts[i].slots > left) hosts[i].slots = left;
        left -= hosts[i].slots;
    }
}

static hw_status look_at_hosts(findings *f, const hw_cluster_check *check, hw_error *err)
{
    const int most = f->c->launcher == HW_SRUN ? HW_MAX_HOSTS : check->n_hosts;
    hw_parallel_run *runs = calloc((size_t)check->n_hosts, sizeof *runs);
    seen *hosts = calloc((size_t)most, sizeof *hosts);
    hw_status st = runs && hosts ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory");
    for (int i = 0; i < check->n_hosts && !st; i++) runs[i].words = check->hosts[i].words;
    if (!st) st = hw_run_parallel(runs, check->n_hosts, HOST_PATIENCE_S, err);
    const int n = st ? 0 : take_answers(f, runs, check->n_hosts, hosts, most);
    const seen *first = NULL;
    give_out_ranks(f->c, hosts, n);
    for (int i = n; i--;)
        if (hosts[i].facts) first = &hosts[i];
    if (!st)
        st = hw_print(err, "%-20s %8s  %-8s %-20s %-11s %-24s %s\n", "host", "answers", "program", "model",
                      "cores", "memory", "GPUs");
    for (int i = 0; i < n && !st; i++) {
        if (hosts[i].facts) check_host(f, first, &hosts[i]);
        st = print_host(f, first, &hosts[i], err);
    }
    for (int i = 0; i < n; i++) json_decref(hosts[i].facts);
    hw_parallel_runs_free(runs, runs ? check->n_hosts : 0);
    free(runs);
    free(hosts);
    return st;
}

/* ---- pairs */

/* The pair of hosts that was being measured when messages stopped. */
static void last_try(const char *out, char text[160])
{
    char a[64], b[64];
    snprintf(text, 160, "while the ranks were connecting");
    for (const char *p = out; p && (p = strstr(p, "try ")); p++)
        if ((p == out || p[-1] == '\n') && sscanf(p, "try %63s %63s", a, b) == 2)
            snprintf(text, 160, "between %s and %s", a, b);
}

static hw_status print_pairs(const hw_parallel_run *v, hw_error *err)
{
    char a[64], b[64];
    double first, again, rate;
    bool any = false;
    hw_status st = HW_OK;
    for (const char *p = v->out; p && *p && !st; p = strchr(p, '\n'), p += p != NULL) {
        if (sscanf(p, "pair %63s %63s %lf %lf %lf", a, b, &first, &again, &rate) != 5) continue;
        if (!any)
            st = hw_print(err, "\n%-20s %-20s %14s %12s %12s\n", "from", "to", "first message", "the next",
                          "4 MiB");
        any = true;
        if (!st) st = hw_print(err, "%-20s %-20s %11.0f us %9.0f us %7.0f MB/s\n", a, b, first, again, rate);
    }
    return st;
}

static hw_status look_at_pairs(findings *f, const hw_cluster_check *check, hw_error *err)
{
    hw_parallel_run v = {.words = check->pairs.words};
    char where[160];
    hw_status st = hw_run_parallel(&v, 1, PAIR_PATIENCE_S, err);
    if (st) return st;
    st = print_pairs(&v, err);
    last_try(v.out, where);
    if (v.timed_out)
        wrong(f, HW_ERR_DEVICE,
              "no message in %.0f s %s; set cluster.interface to the network that the hosts share",
              PAIR_PATIENCE_S, where);
    else if (v.exit_code)
        wrong(f, HW_ERR_DEVICE,
              "the ranks do not start (exit status %d), see below; the command is\n    headway launch CONFIG "
              "--check "
              "--dry-run\n%.2000s",
              v.exit_code, v.err ? v.err : "");
    else if (!st) st = hw_print(err, "\n%d ranks start in %.2f s\n", ranks_of(f->c), v.seconds);
    hw_parallel_runs_free(&v, 1);
    return st;
}

/* ---- all */

/* The plan, from the config.json on this machine. */
static void make_plan(findings *f)
{
    hw_model m;
    hw_error err = {.rank = -1};
    hw_device *device = NULL;
    hw_engine_options o = *f->options;
    hw_plan_limits limits = {.memory = UINT64_MAX, .bandwidth = 1, .latency = 1, .n_sharing = 1};
    hw_status st =
        f->model ? hw_model_open(&m, f->model, &err) : hw_fail(&err, HW_ERR_INVALID, "no model is named");
    if (!st) o.dtype = hw_weights_dtype(&m, NULL, o.dtype);
    hw_options_settle_types(&o);
    if (!st) st = hw_options_settle(&o, &m, &err);
    if (!st) st = hw_cpu_device_create(&device, 1, NULL, &err);
    if (!st) st = hw_plan_create(&f->plan, &m, &o, device, ranks_of(f->c), limits, &err);
    hw_device_destroy(device);
    if (!st) return;
    f->plan.n_ranks = 0;
    snprintf(f->why_no_plan, sizeof f->why_no_plan, "%s", err.message);
}

hw_status hw_cluster_check_run(const hw_cluster_check *check, const hw_config *config, int threads,
                               hw_error *err)
{
    findings f = {.c = &config->cluster,
                  .model = config->model.folder,
                  .options = &config->engine.options,
                  .threads = threads > 1 ? threads : 1};
    f.list = open_memstream(&f.text, &f.n_text);
    if (!f.list) return hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory");
    make_plan(&f);
    hw_status st = look_at_hosts(&f, check, err);
    if (!st && !f.n) st = look_at_pairs(&f, check, err);
    else if (!st) st = hw_print(err, "\nno ranks were started: fix the problems below first\n");
    if (!st && !f.plan.n_ranks) st = hw_print(err, "memory was not compared: %s\n", f.why_no_plan);
    fclose(f.list);
    if (!st && f.n) st = hw_print(err, "\n%d problem%s:\n%s", f.n, f.n > 1 ? "s" : "", f.text);
    if (!st && f.n) st = hw_fail(err, f.worst, "check: %d problem%s, listed above", f.n, f.n > 1 ? "s" : "");
    else if (!st) st = hw_print(err, "no problems\n");
    free(f.text);
    return st;
}
