/* campaign [--untimed] N [SEED [FAULT [PHASE]]]: injects N faults into runs under `headway launch`, one after the other, and
 * prints how long it takes until a message names the rank and until everything is gone. What happens to whom
 * and when is drawn with the seed. The exit status is 1 when one of them ended otherwise than it should. Untimed, a message
 * or an end that comes late is none of that: the machine may be busy with other things.
 *
 * Link down needs two hosts: tests/faults/run puts tests/net/with_hosts around it. Without them it is
 * left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/trial.h"

enum { MAX_TRIALS = 10000, MAX_REPEATS = 5 };

typedef struct row {
    double told[MAX_TRIALS], gone[MAX_TRIALS];
    int n, n_ok, n_unharmed;
} row;

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double draw_share(uint64_t *state) { return (double)(draw(state) >> 11) * 0x1p-53; }

/* Every fault comes equally often; the rest is chance. */
static trial draw_trial(int i, fault only, phase when, uint64_t *state)
{
    const int n_faults = getenv("HW_NET") ? N_FAULTS : FAULT_LINK;
    trial t = {.fault = only < N_FAULTS ? only : (fault)(i % n_faults)};
    t.phase = (phase)(draw(state) % (t.fault == FAULT_LINK ? N_PHASES : PHASE_ENDING));
    t.n_ranks = 2 + (int)(draw(state) % 3);
    t.victim = (int)(draw(state) % (uint64_t)t.n_ranks);
    t.delay = draw_share(state);
    t.messages = draw(state) % 2;
    if (t.fault == FAULT_LINK) t.victim = -1;
    /* Loading is given more time than the bound: there it is not stuck. */
    if (t.fault == FAULT_STUCK) t.phase = (phase)(PHASE_PREFILLING + draw(state) % 3);
    const bool limits = is_limit(t.fault);
    if (limits) t.phase = draw(state) % 2 ? PHASE_LOADING : PHASE_IDLE;
    if (when < N_PHASES) t.phase = when;
    /* Rank 0, which waits for the world, may do so for ever; the others are missed when it goes on, once they wait too. */
    if (t.fault == FAULT_STUCK && t.phase == PHASE_IDLE && t.victim == 0) t.victim = 1;
    if (!limits && t.phase == PHASE_LOADING) t.delay *= 0.6;
    t.slow_end = t.phase == PHASE_ENDING && draw(state) % 2 ? (int)(draw(state) % (uint64_t)t.n_ranks) : -1;
    return t;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n sorted numbers; -1 when there is none. */
static double quantile(const double *sorted, int n, double share)
{
    if (!n) return -1;
    int i = (int)(share * n);
    return sorted[i < n ? i : n - 1];
}

static void print_times(double *times, int n)
{
    qsort(times, (size_t)n, sizeof *times, compare);
    if (!n) printf(" - | - | - |");
    else printf(" %.2f | %.2f | %.2f |", quantile(times, n, 0.5), quantile(times, n, 0.99), times[n - 1]);
}

static void print_table(row *rows)
{
    printf("\n| fault | n | as it should | told: median, s | p99 | most | gone: median, s | p99 | most | "
           "bounds, s |\n");
    printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (int f = 0; f < N_FAULTS; f++) {
        row *r = &rows[f];
        if (!r->n) continue;
        printf("| %s | %d | %d |", fault_names[f], r->n, r->n_ok);
        print_times(r->told, f == FAULT_LAUNCH ? 0 : r->n - r->n_unharmed);
        print_times(r->gone, r->n - r->n_unharmed);
        if (fault_bounds[f].told > 0) printf(" %g, %g |\n", fault_bounds[f].told, fault_bounds[f].gone);
        else if (f == FAULT_LAUNCH) printf(" nobody is left to tell, %g |\n", fault_bounds[f].gone);
        else printf(" %g after the message; %d met no limit |\n", fault_bounds[f].gone, r->n_unharmed);
    }
}

static void record(row *r, trial t, const outcome *o)
{
    const bool limits = is_limit(t.fault);
    r->n++;
    r->n_ok += !*o->complaint;
    if (o->unharmed) {
        r->n_unharmed++;
        return;
    }
    const int i = r->n - r->n_unharmed - 1;
    r->told[i] = limits ? 0 : o->told;
    r->gone[i] = limits && o->told >= 0 ? o->gone - o->told : o->gone;
}

/* A trial during which this machine stood still is made again. */
static outcome run_undisturbed(trial t, const char *folder, int *n_disturbed)
{
    outcome o;
    for (int i = 0; i < MAX_REPEATS; i++) {
        o = run_trial(t, folder);
        if (!o.disturbed) break;
        ++*n_disturbed;
    }
    return o;
}

/* n when there is none of that name. */
static int find_name(const char *name, const char *const *names, int n)
{
    int i = 0;
    while (i < n && strcmp(name, names[i])) i++;
    return i;
}

int main(int argc, char **argv)
{
    const bool untimed = argc > 1 && !strcmp(argv[1], "--untimed");
    if (untimed) argc--, argv++;
    const int n = argc > 1 ? atoi(argv[1]) : 20;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const fault only = argc > 3 ? (fault)find_name(argv[3], fault_names, N_FAULTS) : N_FAULTS;
    const phase when = argc > 4 ? (phase)find_name(argv[4], phase_names, N_PHASES) : N_PHASES;
    char folder[] = "/tmp/headway-faults-XXXXXX", command[64];
    static row rows[N_FAULTS];
    int n_wrong = 0, n_disturbed = 0;
    uint64_t state = seed;
    if (n < 1 || n > MAX_TRIALS || (argc > 3 && only == N_FAULTS) || (argc > 4 && when == N_PHASES) ||
        !mkdtemp(folder)) {
        fprintf(stderr, "usage: campaign [--untimed] [N [SEED [FAULT [PHASE]]]]\n");
        return 2;
    }
    for (int i = 0; i < n; i++) {
        trial t = draw_trial(i, only, when, &state);
        t.untimed = untimed;
        const outcome o = run_undisturbed(t, folder, &n_disturbed);
        record(&rows[t.fault], t, &o);
        printf("%d: %s, %s, %d ranks%s, victim %d: told %.2f s, gone %.2f s, exit code %d%s%s\n    %s\n",
               i + 1, fault_names[t.fault], phase_names[t.phase], t.n_ranks,
               t.fault == FAULT_LINK ? ""
               : t.messages          ? ", mpi"
                                     : ", shm",
               t.victim, o.told, o.gone, o.exit_code, *o.complaint ? "; WRONG: " : "", o.complaint,
               o.message);
        fflush(stdout);
        n_wrong += *o.complaint != '\0';
    }
    print_table(rows);
    printf("\n%d faults with seed %llu, %d ended otherwise than they should; %d were made again: "
           "the machine stood still, or no ranks came within a minute\n",
           n, (unsigned long long)seed, n_wrong, n_disturbed);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (!n_wrong && system(command)) perror(folder);
    return n_wrong > 0;
}
