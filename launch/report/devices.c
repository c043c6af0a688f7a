#include "launch/report/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/version.h"
#include "runtime/base/host.h"

/* What one rank has. Sent as it is. */
typedef struct told {
    char host[64], path[24], note[256], warning[640];
} told;

static void copy(char *to, size_t size, const char *text) { snprintf(to, size, "%s", text ? text : ""); }

static told of_this_rank(const hw_engine_info *i)
{
    told t;
    memset(&t, 0, sizeof t); /* padding is sent too */
    hw_host_name(t.host, sizeof t.host);
    copy(t.path, sizeof t.path, i->path);
    copy(t.note, sizeof t.note, i->device_note);
    copy(t.warning, sizeof t.warning, i->device_warning);
    return t;
}

static bool same_warning(const told *a, const told *b) { return !strcmp(a->warning, b->warning); }
static bool same_path(const told *a, const told *b) { return !strcmp(a->path, b->path); }
static bool alike(const told *a, const told *b)
{
    return !strcmp(a->host, b->host) && same_path(a, b) && !strcmp(a->note, b->note);
}

/* Whether no rank before `r` has the same; how many have it. */
static bool is_first(const told *all, int r, bool (*same)(const told *a, const told *b))
{
    for (int before = 0; before < r; before++)
        if (same(&all[before], &all[r])) return false;
    return true;
}

static int count(const told *all, int n, int r, bool (*same)(const told *a, const told *b))
{
    int n_same = 0;
    for (int other = 0; other < n; other++) n_same += same(&all[other], &all[r]);
    return n_same;
}

static void warn(const told *all, int n)
{
    for (int r = 0; r < n; r++) {
        if (!*all[r].warning || !is_first(all, r, same_warning)) continue;
        const int n_more = count(all, n, r, same_warning) - 1;
        char who[128] = "";
        if (n_more) snprintf(who, sizeof who, "rank %d on %s and %d more: ", r, all[r].host, n_more);
        else if (n > 1) snprintf(who, sizeof who, "rank %d on %s: ", r, all[r].host);
        fprintf(
            stderr,
            "headway: %s%s; results are correct, but slower than they could be; please report this line and "
            "the name of the processor (lscpu) to %s\n",
            who, all[r].warning, HW_REPORT_TO);
    }
}

static void tell_all(const told *all, int n, hw_matmul matmul, hw_matmul asked)
{
    for (int r = 0; r < n; r++) {
        if (!is_first(all, r, alike)) continue;
        const int n_alike = count(all, n, r, alike);
        fprintf(stderr, "%d rank%s on %s: path %s%s%s\n", n_alike, n_alike > 1 ? "s" : "", all[r].host,
                all[r].path, *all[r].note ? "; " : "", all[r].note);
    }
    if (matmul == HW_MATMUL_AUTO) return;
    fprintf(stderr, "products with bfloat16 weights: %s (%s)\n", hw_matmul_name(matmul),
            asked   ? "as requested"
            : n > 1 ? "auto: the choice of rank 0, for all ranks"
                    : "auto: the choice of the device");
}

static void list_paths(hw_paths_text *out, const told *all, int n)
{
    size_t end = 0;
    *out->text = '\0';
    for (int r = 0; r < n && end < sizeof out->text; r++)
        if (is_first(all, r, same_path))
            end += (size_t)snprintf(out->text + end, sizeof out->text - end, "%s%s", end ? ", " : "",
                                    all[r].path);
}

hw_status hw_devices_tell(hw_paths_text *out, hw_engine *e, hw_matmul asked, bool silent, bool verbose,
                          hw_error *err)
{
    hw_comm *comm = hw_engine_comm(e);
    const hw_engine_info i = hw_engine_info_get(e);
    const told mine = of_this_rank(&i);
    told *all = calloc((size_t)i.n_ranks, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "devices: no memory for %d ranks", i.n_ranks);
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, (hw_tag){.site = HW_SITE_LOAD}, &mine, sizeof mine, all, err);
    if (!st) list_paths(out, all, i.n_ranks);
    if (!st && !i.rank && !silent) warn(all, i.n_ranks);
    if (!st && !i.rank && !silent && verbose) tell_all(all, i.n_ranks, i.matmul, asked);
    free(all);
    return st;
}
