#include "tests/net/hosts.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 64 };

/* Nothing of the environment gets to the other hosts by itself, so what sanitizers need is in the file. */
static void write_config(const char *path, const hosts *h)
{
    FILE *f = fopen(path, "we");
    cr_assert_not_null(f, "%s", path);
    if (h->model)
        fprintf(f, "model: {path: \"%s\", load_format: %s, weights: %s}\n", h->model,
                h->load_format ? h->load_format : "auto", h->weights ? h->weights : "path");
    if (h->other) fputs(h->other, f);
    fprintf(f,
            "cluster:\n  interface: eth0\n  remote_shell: AGENT\n  oversubscribe: true\n  work_folder: /\n%s",
            h->cluster ? h->cluster : "");
    fprintf(f, "  environment: [\"HWLOC_COMPONENTS=-gl\", \"ASAN_OPTIONS=fast_unwind_on_malloc=0\", "
               "\"LSAN_OPTIONS=print_suppressions=0:suppressions=" HW_SOURCE_DIR
               "/tests/support/lsan.supp\"]\n");
    fprintf(f, "  hosts:\n");
    for (int i = 1; i <= h->n_hosts; i++) fprintf(f, "    - {name: node%d, slots: %d}\n", i, h->slots);
    cr_assert_eq(fclose(f), 0);
}

static void read_counts(const char *path, hosts_result *r)
{
    FILE *f = fopen(path, "re");
    if (!f) return; /* it did not come to that, and the exit code says so */
    uint64_t *const counts[] = {&r->sent_bytes, &r->sent_packets, &r->received_bytes, &r->received_packets,
                                &r->sent_again};
    for (int i = 0; i < 5; i++) cr_assert_eq(fscanf(f, "%" SCNu64, counts[i]), 1);
    fclose(f);
}

hosts_result run_on_hosts(hosts where, const char *const args[])
{
    hosts_result r = {.sent_bytes = 0};
    char config[] = "/tmp/headway-net-XXXXXX", counted[sizeof config + 8], n_hosts[12];
    const int fd = mkstemp(config);
    cr_assert_geq(fd, 0);
    close(fd);
    write_config(config, &where);
    snprintf(counted, sizeof counted, "%s.counted", config);
    snprintf(n_hosts, sizeof n_hosts, "%d", where.n_hosts);
    const char *words[MAX_ARGS] = {HW_SOURCE_DIR "/tests/net/with_hosts", n_hosts,
                                   HW_SOURCE_DIR "/tests/net/launch_there", HEADWAY, config};
    for (int i = 0; args[i]; i++) {
        cr_assert_lt(i + 6, MAX_ARGS);
        words[i + 5] = args[i];
    }
    setenv("HW_NET_BEFORE", where.before ? where.before : "", 1);
    r.run = hw_run(words, NULL, HOSTS_TIMEOUT_S);
    read_counts(counted, &r);
    unlink(config);
    unlink(counted);
    if (r.run.exit_code == 77) cr_skip_test("%s", r.run.err);
    cr_assert_not(r.run.timed_out, "did not end: %s", r.run.err);
    cr_assert_neq(r.run.exit_code, 70, "%s", r.run.err);
    return r;
}
