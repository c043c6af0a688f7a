/* headway probe: run by `headway launch --check` on every host. Prints one line with a JSON object that describes the host;
 * with --pairs, run as ranks, a line for each pair of hosts with the duration of messages between them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/settings/args.h"
#include "launch/version.h"
#include "parallel/comm.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"
#include "runtime/device/cores.h"
#include "runtime/device/host_memory.h"

enum { MAX_GPUS = 64, BULK_BYTES = 4 << 20, N_BULK = 4 };

typedef struct settings {
    const char *model, *config;
    bool pairs;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting rows[] = {
    {NULL, "model", 'm', "FOLDER", HW_FOLDER, NULL, 0, AT(model), "Also list the files of a model"},
    {NULL, "config", 'c', "FILE", HW_TEXT, NULL, 0, AT(config), NULL}, /* of the launch that it is for */
    {NULL, "pairs", 0, NULL, HW_FLAG, "false", 0, AT(pairs),
     "With several ranks: time messages between every two hosts"},
};
#undef AT
static const hw_setting_group group = HW_OWN_GROUP(NULL, 0, rows, NULL);

/* ---- this host */

/* FNV-1a of the program, to distinguish builds. */
static bool mark_program(char text[20])
{
    unsigned char bytes[65536];
    uint64_t mark = 14695981039346656037u;
    FILE *f = fopen("/proc/self/exe", "re");
    if (!f) return false;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, f)) > 0;)
        for (size_t i = 0; i < n; i++) mark = (mark ^ bytes[i]) * 1099511628211u;
    fclose(f);
    snprintf(text, 20, "%016llx", (unsigned long long)mark);
    return true;
}

static bool belongs_to_a_model(const char *name)
{
    const size_t n = strlen(name);
    return !strcmp(name, "config.json") || !strcmp(name, "generation_config.json") ||
           !strcmp(name, "tokenizer.json") || !strcmp(name, "model.safetensors.index.json") ||
           (n > 12 && !strcmp(name + n - 12, ".safetensors"));
}

/* Names and sizes; null if there is no such folder. */
static json_t *list_model(const char *folder)
{
    DIR *d = folder ? opendir(folder) : NULL;
    if (!d) return json_null();
    json_t *files = json_object();
    for (const struct dirent *e; (e = readdir(d));) {
        char path[4400];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (belongs_to_a_model(e->d_name) && !stat(path, &info))
            json_object_set_new(files, e->d_name, json_integer((json_int_t)info.st_size));
    }
    closedir(d);
    return files;
}

/* From nvidia-smi; null if it is missing or finds no GPU. */
static json_t *list_gpus(void)
{
    char line[256];
    FILE *f = popen(
        "nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits 2>/dev/null",
        "re");
    json_t *gpus = json_array();
    while (f && fgets(line, sizeof line, f) && json_array_size(gpus) < MAX_GPUS) {
        char *free_mib = strrchr(line, ',');
        if (free_mib) *free_mib++ = '\0';
        char *total_mib = strrchr(line, ',');
        if (!free_mib || !total_mib) continue;
        *total_mib++ = '\0';
        json_array_append_new(gpus, json_pack("{s:s, s:I, s:I}", "name", line, "total_bytes",
                                              (json_int_t)(atoll(total_mib) << 20), "free_bytes",
                                              (json_int_t)(atoll(free_mib) << 20)));
    }
    if (f) pclose(f);
    if (json_array_size(gpus)) return gpus;
    json_decref(gpus);
    return json_null();
}

static hw_status print_host(const settings *r, hw_error *err)
{
    char host[256], mark[20] = "";
    hw_host_name(host, sizeof host);
    if (!mark_program(mark)) return hw_fail(err, HW_ERR_FAILED, "probe: cannot read the program itself");
    const uint64_t memory = hw_memory_available();
    json_t *all =
        json_pack("{s:s, s:s, s:s, s:i, s:I, s:o, s:o}", "host", host, "version", HW_VERSION, "program", mark,
                  "cores", hw_cores_count(), "memory_bytes", (json_int_t)(memory == UINT64_MAX ? 0 : memory),
                  "model", list_model(r->model), "gpus", list_gpus());
    char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
    hw_status st = text ? hw_print(err, "%s\n", text) : hw_fail(err, HW_ERR_NO_MEMORY, "probe: no memory");
    free(text);
    json_decref(all);
    return st;
}

/* ---- pairs of hosts */

/* A round trip, in seconds. */
static hw_status exchange(hw_comm *comm, int peer, bool first, char *buffer, size_t n_bytes, double *seconds,
                          hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    const uint64_t start = hw_clock_ns();
    size_t got;
    hw_status st = HW_OK;
    if (first) st = hw_comm_send(comm, tag, buffer, n_bytes, peer, err);
    if (!st) st = hw_comm_receive(comm, tag, buffer, n_bytes, &got, peer, err);
    if (!st && !first) st = hw_comm_send(comm, tag, buffer, n_bytes, peer, err);
    *seconds = hw_seconds_since(start);
    return st;
}

/* Sends the figures to rank 0, whose standard output is that of the run. */
static hw_status measure(hw_comm *comm, int a, int b, char *buffer, double figures[3], hw_error *err)
{
    const int me = hw_comm_rank(comm), peer = me == a ? b : a;
    double bulk = 0, seconds;
    hw_status st = exchange(comm, peer, me == a, buffer, 8, &figures[0], err);
    if (!st) st = exchange(comm, peer, me == a, buffer, 8, &figures[1], err);
    for (int i = 0; i < N_BULK && !st; i++) {
        st = exchange(comm, peer, me == a, buffer, BULK_BYTES, &seconds, err);
        if (i) bulk += seconds; /* the first is a warm-up */
    }
    figures[2] = bulk > 0 ? 2.0 * (N_BULK - 1) * BULK_BYTES / bulk : 0;
    return st;
}

static hw_status print_pair(const char (*hosts)[64], int a, int b, const double *figures, hw_error *err)
{
    return hw_print(err, "pair %s %s %.1f %.1f %.1f\n", hosts[a], hosts[b], 1e6 * figures[0] / 2,
                    1e6 * figures[1] / 2, figures[2] / 1e6);
}

/* One pair at a time, since pairs share the network. */
static hw_status visit_pairs(hw_comm *comm, const char (*hosts)[64], char *buffer, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    const int n = hw_comm_n_ranks(comm), me = hw_comm_rank(comm);
    hw_status st = HW_OK;
    for (int a = 0; a < n && !st; a++)
        for (int b = a + 1; b < n && !st; b++) {
            double figures[3] = {0};
            size_t got;
            if (hw_comm_host_of(comm, a) != a || hw_comm_host_of(comm, b) != b) continue;
            if (!me) st = hw_print(err, "try %s %s\n", hosts[a], hosts[b]);
            if (!st && (me == a || me == b)) st = measure(comm, a, b, buffer, figures, err);
            if (!st && me == a && me) st = hw_comm_send(comm, tag, figures, sizeof figures, 0, err);
            if (!st && !me && a) st = hw_comm_receive(comm, tag, figures, sizeof figures, &got, a, err);
            if (!st && !me) st = print_pair(hosts, a, b, figures, err);
        }
    return st;
}

static hw_status print_pairs(hw_error *err)
{
    hw_comm *comm;
    hw_status st = hw_comm_create(&comm, "mpi", err);
    if (st) return st;
    char mine[64] = "", (*hosts)[64] = calloc((size_t)hw_comm_n_ranks(comm), sizeof *hosts),
         *buffer = calloc(BULK_BYTES, 1);
    hw_host_name(mine, sizeof mine);
    st = hw_comm_agree(comm, hosts && buffer ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "probe: no memory"),
                       err);
    if (!st) st = hw_comm_all_gather(comm, (hw_tag){.site = HW_SITE_CONTROL}, mine, sizeof mine, hosts, err);
    if (!st && !hw_comm_rank(comm)) st = hw_print(err, "ranks %d\n", hw_comm_n_ranks(comm));
    if (!st) st = visit_pairs(comm, (const char(*)[64])hosts, buffer, err);
    free(hosts);
    free(buffer);
    hw_comm_destroy(comm);
    return st;
}

hw_status hw_cmd_probe(int argc, char **argv, hw_error *err)
{
    settings r;
    hw_options o = {.doc = "Describes this host. 'headway launch CONFIG --check' runs it on every host.",
                    .groups = {{&group, &r}}};
    hw_options_parse(&o, argc, argv);
    return r.pairs ? print_pairs(err) : print_host(&r, err);
}
