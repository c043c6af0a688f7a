#include "launch/cluster/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a list of words */

/* The line owns its words; a NULL among them means that memory ran out. */
bool hw_command_line_add(hw_command_line *line, const char *word)
{
    if (line->n + 1 >= line->capacity) {
        const int capacity = 2 * line->capacity + 64;
        char **more = realloc(line->words, (size_t)capacity * sizeof *more);
        if (!more) return false;
        line->words = more;
        line->capacity = capacity;
    }
    if (!word || !(line->words[line->n] = strdup(word))) return false;
    line->words[++line->n] = NULL;
    return true;
}

static bool add_all(hw_command_line *line, const char *const *words)
{
    while (*words && hw_command_line_add(line, *words)) words++;
    return !*words;
}
#define ADD(line, ...) add_all(line, (const char *const[]){__VA_ARGS__, NULL})

static bool add_format(hw_command_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool add_format(hw_command_line *line, const char *format, ...)
{
    char *word = NULL;
    va_list args;
    va_start(args, format);
    bool ok = vasprintf(&word, format, args) >= 0;
    va_end(args);
    if (!ok) return false;
    ok = hw_command_line_add(line, word);
    free(word);
    return ok;
}

void hw_command_line_free(hw_command_line *line)
{
    for (int i = 0; i < line->n; i++) free(line->words[i]);
    free(line->words);
    *line = (hw_command_line){0};
}

/* ---- layout */

/* The cluster with all defaults resolved. */
typedef struct plan {
    const hw_cluster *c;
    const hw_here *here;
    hw_command_line *line;
    int ranks, threads;
    bool all_here; /* every rank is on this machine */
    bool crowded;  /* all_here, and more threads than cores */
    bool oversubscribe;
} plan;

bool hw_host_is_here(const char *host, const hw_here *here)
{
    return !strcmp(host, "localhost") || !strcmp(host, "127.0.0.1") || !strcmp(host, here->host_name);
}

static int at_least_one(int n) { return n > 0 ? n : 1; }

static hw_status make_plan(plan *p, hw_error *err)
{
    const hw_cluster *c = p->c;
    int slots = 0;
    for (int i = 0; i < c->n_hosts; i++) slots += c->hosts[i].slots;
    p->ranks = c->ranks ? c->ranks : slots ? slots : 1;
    p->all_here = c->launcher == HW_MPIRUN;
    for (int i = 0; i < c->n_hosts; i++)
        p->all_here = p->all_here && hw_host_is_here(c->hosts[i].name, p->here);
    p->crowded = p->all_here && (long)p->ranks * at_least_one(p->threads) > p->here->n_cores;
    p->oversubscribe = c->oversubscribe == HW_YES || (c->oversubscribe == HW_AUTO && p->crowded);
    if (slots && p->ranks > slots && !p->oversubscribe)
        return hw_fail(err, HW_ERR_INVALID,
                       "parallelism.ranks is %d, but cluster.hosts has %d slots; add slots, or set "
                       "cluster.oversubscribe: true",
                       p->ranks, slots);
    if (p->crowded && !p->oversubscribe)
        return hw_fail(err, HW_ERR_INVALID,
                       "%d ranks of %d threads want %ld cores and there are %d; lower parallelism.ranks or "
                       "parallelism.threads, or leave cluster.oversubscribe on auto",
                       p->ranks, at_least_one(p->threads), (long)p->ranks * at_least_one(p->threads),
                       p->here->n_cores);
    return HW_OK;
}

/* If there are enough cores, a rank is bound to as many as it has threads. Unbound ranks of a host divide the cores
 * themselves. */
static bool binds(const plan *p)
{
    return p->c->binding == HW_BIND_CORE ||
           (p->c->binding == HW_BIND_AUTO && !p->oversubscribe && p->threads);
}

static bool add_hosts(const plan *p, bool with_slots)
{
    char *list = NULL;
    size_t n;
    FILE *f = open_memstream(&list, &n);
    if (!f) return false;
    for (int i = 0; i < p->c->n_hosts; i++) {
        fprintf(f, "%s%s", i ? "," : "", p->c->hosts[i].name);
        if (with_slots) fprintf(f, ":%d", p->c->hosts[i].slots);
    }
    if (!p->c->n_hosts) fprintf(f, "localhost:%d", p->ranks);
    bool ok = !fclose(f) && hw_command_line_add(p->line, list);
    free(list);
    return ok;
}

/* ---- mpirun */

static bool add_mca(const plan *p, const char *name, const char *value)
{
    return ADD(p->line, "--mca", name, value);
}

/* Ranks of one machine communicate through shared memory, so nothing needs to listen on a network. Between machines
 * dead links must be detected: by default mpirun waits for minutes after the ranks are gone. */
static bool add_network(const plan *p)
{
    const char *interface = p->c->interface ? p->c->interface : p->all_here ? "lo" : NULL;
    bool ok = true;
    if (p->all_here && !p->c->interface) ok = add_mca(p, "btl", "self,vader");
    else if (interface) ok = add_mca(p, "btl_tcp_if_include", interface);
    if (interface) ok = ok && add_mca(p, "oob_tcp_if_include", interface);
    if (p->c->remote_shell) ok = ok && add_mca(p, "plm_rsh_agent", p->c->remote_shell);
    return p->all_here ? ok
                       : ok && add_mca(p, "oob_tcp_keepalive_time", "2") &&
                             add_mca(p, "oob_tcp_keepalive_intvl", "1") &&
                             add_mca(p, "oob_tcp_keepalive_probes", "2");
}

static bool add_mpirun(const plan *p)
{
    bool ok = hw_command_line_add(p->line, "mpirun") &&
              (!p->here->root || hw_command_line_add(p->line, "--allow-run-as-root"));
    /* Ranks need no time to clean up when they are told to end; by default each gets a second. */
    ok = ok && add_mca(p, "odls_base_sigkill_timeout", "0") && hw_command_line_add(p->line, "-np") &&
         add_format(p->line, "%d", p->ranks) && hw_command_line_add(p->line, "--host") &&
         add_hosts(p, true) && hw_command_line_add(p->line, "--map-by");
    if (binds(p))
        ok = ok && add_format(p->line, "slot:PE=%d", at_least_one(p->threads)) &&
             ADD(p->line, "--bind-to", "core");
    else ok = ok && ADD(p->line, "slot", "--bind-to", "none");
    if (p->oversubscribe) ok = ok && hw_command_line_add(p->line, "--oversubscribe");
    /* Open MPI counts slots, not cores; without this, waiting ranks would spin on the core that the others need. */
    if (p->oversubscribe) ok = ok && add_mca(p, "mpi_yield_when_idle", "1");
    ok = ok && add_network(p);
    for (int i = 0; i < p->c->n_environment; i++) ok = ok && ADD(p->line, "-x", p->c->environment[i]);
    return ok && (!p->c->work_folder || ADD(p->line, "-wdir", p->c->work_folder));
}

/* ---- srun */

static hw_status check_srun(const plan *p, hw_error *err)
{
    const hw_cluster *c = p->c;
    const int nodes = c->n_hosts ? c->n_hosts : c->nodes;
    for (int i = 1; i < c->n_hosts; i++)
        if (c->hosts[i].slots != c->hosts[0].slots)
            return hw_fail(
                err, HW_ERR_INVALID,
                "cluster.hosts: %.60s has %d slots and %.60s has %d; srun needs the same number on all",
                c->hosts[0].name, c->hosts[0].slots, c->hosts[i].name, c->hosts[i].slots);
    if (nodes && p->ranks % nodes)
        return hw_fail(err, HW_ERR_INVALID, "parallelism.ranks is %d, which %d nodes cannot share evenly",
                       p->ranks, nodes);
    return HW_OK;
}

/* Slurm passes the environment on unchanged, so variables are set before. */
static bool add_srun_environment(const plan *p)
{
    bool any = p->c->interface != NULL, ok = true;
    for (int i = 0; i < p->c->n_environment; i++) any = any || strchr(p->c->environment[i], '=');
    if (any) ok = hw_command_line_add(p->line, "env");
    if (p->c->interface) ok = ok && add_format(p->line, "OMPI_MCA_btl_tcp_if_include=%s", p->c->interface);
    for (int i = 0; i < p->c->n_environment; i++)
        if (strchr(p->c->environment[i], '=')) ok = ok && hw_command_line_add(p->line, p->c->environment[i]);
    return ok;
}

/* --input=0: only rank 0 gets standard input. --quit-on-interrupt: one ^C is enough. */
static bool add_srun(const plan *p)
{
    const hw_cluster *c = p->c;
    const int nodes = c->n_hosts ? c->n_hosts : c->nodes;
    bool ok =
        add_srun_environment(p) &&
        ADD(p->line, "srun", "--mpi=pmix", "--kill-on-bad-exit=1", "--quit-on-interrupt", "--input=0") &&
        add_format(p->line, "--ntasks=%d", p->ranks);
    if (nodes)
        ok = ok && add_format(p->line, "--nodes=%d", nodes) &&
             add_format(p->line, "--ntasks-per-node=%d", p->ranks / nodes);
    if (c->n_hosts) ok = ok && hw_command_line_add(p->line, "--nodelist") && add_hosts(p, false);
    if (p->threads) ok = ok && add_format(p->line, "--cpus-per-task=%d", p->threads);
    ok = ok && hw_command_line_add(p->line, binds(p) ? "--cpu-bind=cores" : "--cpu-bind=none");
    if (c->devices_per_slot) ok = ok && add_format(p->line, "--gpus-per-task=%d", c->devices_per_slot);
    if (p->oversubscribe) ok = ok && hw_command_line_add(p->line, "--overcommit");
    return ok && (!c->work_folder || add_format(p->line, "--chdir=%s", c->work_folder));
}

const char *hw_cluster_other_host(const hw_cluster *c, const hw_here *here)
{
    for (int i = 0; i < c->n_hosts; i++)
        if (!hw_host_is_here(c->hosts[i].name, here)) return c->hosts[i].name;
    return c->launcher == HW_SRUN && !c->n_hosts ? "" : NULL;
}

hw_status hw_cluster_command(hw_command_line *out, const hw_cluster *c, const hw_here *here, int threads,
                             char *const *args, int n_args, hw_error *err)
{
    plan p = {.c = c, .here = here, .line = out, .threads = threads};
    *out = (hw_command_line){0};
    hw_status st = make_plan(&p, err);
    if (!st && c->launcher == HW_SRUN) st = check_srun(&p, err);
    if (st) return st;
    bool ok = (c->launcher == HW_SRUN ? add_srun(&p) : add_mpirun(&p)) &&
              ADD(out, c->program ? c->program : here->program, args[0], "-c", here->config);
    for (int i = 1; i < n_args; i++) ok = ok && hw_command_line_add(out, args[i]);
    if (ok) return HW_OK;
    hw_command_line_free(out);
    return hw_fail(err, HW_ERR_NO_MEMORY, "launch: no memory for the command");
}
