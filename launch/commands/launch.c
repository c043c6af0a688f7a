/* headway launch: starts a subcommand on the machines that a YAML file describes. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/cluster/check.h"
#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/settings/args.h"
#include "launch/supervise/supervisor.h"
#include "parallel/comm.h"
#include "runtime/base/host.h"
#include "runtime/device/cores.h"

typedef struct request {
    const char *config;
    bool dry_run, check;
    float stuck_after; /* 0: not given */
    int first;         /* where in argv the subcommand is; 0: not given */
} request;

#define AT(field) offsetof(request, field)
static const hw_setting rows[] = {
    {NULL, "dry-run", 0, NULL, HW_FLAG, "false", 0, AT(dry_run), "Print the command instead of running it"},
    {NULL, "check", 0, NULL, HW_FLAG, "false", 0, AT(check),
     "Check every host, but do not run the subcommand: whether it answers and has the same program, the "
     "model, enough memory, cores and GPUs, and how long messages between every two hosts take"},
    {NULL, "stuck-after", 0, "SECONDS", HW_FLOAT("seconds", 1, 86400), NULL, 0, AT(stuck_after),
     "A rank without a heartbeat or progress for this long ends the run (limits.stuck_after, 3.5)"},
};
#undef AT
/* CONFIG, then the subcommand, after which all arguments belong to it. */
static void take_argument(void *values, char *word, struct argp_state *state)
{
    request *r = values;
    if (!r->config) r->config = word;
    else r->first = state->next - 1, state->next = state->argc;
}

static const char *settle_request(void *values)
{
    const request *r = values;
    if (!r->config) return "no configuration: name a YAML file";
    if (r->first || r->check) return NULL;
    return "no subcommand: name one after --, as in -- generate -p TEXT";
}

static const hw_setting_group group = HW_OWN_GROUP(NULL, 0, rows, settle_request);

static const char doc[] =
    "Runs a subcommand on the machines that a YAML file describes, with mpirun or srun. Options of the "
    "subcommand override the file. The exit status is that of the subcommand.\v"
    "  headway launch configs/demo.yaml -- generate -p \"Once upon a time\" -n 60\n"
    "  headway launch configs/two-nodes.yaml --check\n"
    "  headway launch configs/two-nodes.yaml --dry-run -- generate -p \"Once upon a time\"";

/* ---- the command */

/* The value of an option of the subcommand, NULL when it is not given: -t 4, -t4, --threads 4 or --threads=4.
 * letter: "-t", or NULL when it has none. */
static const char *find_option(const char *letter, const char *name, char *const *args, int n_args)
{
    const char *value = NULL;
    const size_t n = strlen(name);
    for (int i = 1; i < n_args; i++) {
        if ((letter && !strcmp(args[i], letter)) || !strcmp(args[i], name))
            value = i + 1 < n_args ? args[i + 1] : NULL;
        else if (!strncmp(args[i], name, n) && args[i][n] == '=') value = args[i] + n + 1;
        else if (letter && !strncmp(args[i], letter, 2)) value = args[i] + 2;
    }
    return value;
}

/* A flag overrides the file. Invalid numbers are refused by the subcommand. */
static int count_threads(int from_file, char *const *args, int n_args)
{
    const char *value = find_option("-t", "--threads", args, n_args);
    return value && atoi(value) > 0 ? atoi(value) : from_file;
}

static double stuck_after(const request *r, float from_file, char *const *args, int n_args)
{
    const char *value = find_option(NULL, "--stuck-after", args, n_args);
    if (r->stuck_after > 0) return r->stuck_after;
    return value && atof(value) >= 1 ? atof(value) : from_file;
}

/* Prints a word with shell quoting. */
static hw_status print_word(const char *word, const char *before, hw_error *err)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    if (*word && !word[strspn(word, safe)]) return hw_print(err, "%s%s", before, word);
    hw_status st = hw_print(err, "%s'", before);
    for (; *word && !st; word++)
        st = *word == '\'' ? hw_print(err, "'\\''") : hw_write(stdout, "standard output", word, 1, err);
    return st ? st : hw_print(err, "'");
}

static hw_status print_command(const hw_command_line *line, hw_error *err)
{
    hw_status st = HW_OK;
    for (int i = 0; i < line->n && !st; i++) st = print_word(line->words[i], i ? " " : "", err);
    return st ? st : hw_print(err, "\n");
}

/* Reads the file, and what the command depends on of this machine. */
typedef struct surroundings {
    hw_config config;
    char host[256], program[PATH_MAX], path[PATH_MAX];
    hw_here here;
} surroundings;

static hw_status look_around(surroundings *s, const char *config, hw_error *err)
{
    char *text = NULL;
    size_t n = 0;
    *s = (surroundings){.config = hw_config_defaults()};
    hw_status st = hw_config_read(&text, &n, config, err);
    if (!st) st = hw_config_parse(&s->config, text, n, config, err);
    if (!st && !realpath(config, s->path))
        st = hw_fail(err, HW_ERR_INVALID, "configuration %s: %s", config, strerror(errno));
    if (!st && readlink("/proc/self/exe", s->program, sizeof s->program - 1) < 0)
        st = hw_fail(err, HW_ERR_FAILED, "cannot find the path of this program: %s; set cluster.program",
                     strerror(errno));
    hw_host_name(s->host, sizeof s->host);
    s->here = (hw_here){s->host, s->program, s->path, hw_cores_count(), geteuid() == 0};
    free(text);
    return st;
}

static hw_status run(const surroundings *s, const request *r, char *const *args, int n_args, int *code,
                     hw_error *err)
{
    hw_command_line line;
    hw_status st = hw_cluster_command(&line, &s->config.cluster, &s->here,
                                      count_threads(s->config.engine.options.n_threads, args, n_args), args,
                                      n_args, err);
    if (st) return st;
    const hw_cluster *c = &s->config.cluster;
    const hw_supervision how = {.stuck_after = stuck_after(r, s->config.engine.stuck_after, args, n_args),
                                .report_folder = c->report_folder,
                                .interface = c->interface,
                                .other_host = hw_cluster_other_host(c, &s->here)};
    st = r->dry_run ? print_command(&line, err) : hw_supervise(line.words, &how, code, err);
    hw_command_line_free(&line);
    return st;
}

static hw_status check(const surroundings *s, const request *r, char *const *args, int n_args, hw_error *err)
{
    hw_cluster_check c;
    const int threads = count_threads(s->config.engine.options.n_threads, args, n_args);
    hw_status st = hw_cluster_check_compose(&c, &s->config, &s->here, threads, err);
    if (st) return st;
    for (int i = 0; i < c.n_hosts && r->dry_run && !st; i++) st = print_command(&c.hosts[i], err);
    if (r->dry_run) st = st ? st : print_command(&c.pairs, err);
    else st = hw_cluster_check_run(&c, &s->config, threads, err);
    hw_cluster_check_free(&c);
    return st;
}

hw_status hw_cmd_launch(int argc, char **argv, hw_error *err)
{
    request r = {0};
    hw_options o = {.arguments = "CONFIG -- SUBCOMMAND [OPTION...]\nCONFIG --check",
                    .doc = doc,
                    .groups = {{&group, &r}},
                    .argument = take_argument};
    surroundings s;
    int code = 0;
    if (hw_comm_launched_ranks() > 1)
        return hw_fail(err, HW_ERR_INVALID, "launch starts the ranks itself; run it without mpirun");
    hw_options_parse(&o, argc, argv);
    if (r.first && (!hw_is_command(argv[r.first]) || !strcmp(argv[r.first], "launch")))
        return hw_context(err, hw_no_such_command(argv[r.first], err), "launch");
    hw_status st = look_around(&s, r.config, err);
    char *const *args = argv + r.first;
    const int n_args = r.first ? argc - r.first : 0;
    if (!st) st = r.check ? check(&s, &r, args, n_args, err) : run(&s, &r, args, n_args, &code, err);
    hw_config_free(&s.config);
    if (!st && code) exit(code); /* the failing rank has printed the message */
    return st;
}
