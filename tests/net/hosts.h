/* Runs the program through `headway launch` on several hosts, which tests/net/with_hosts makes inside this machine, and counts what
 * crosses the first one's network. */
#ifndef HW_TESTS_NET_HOSTS_H
#define HW_TESTS_NET_HOSTS_H

#include <stdint.h>

#include "tests/support/process.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"

enum { HOSTS_TIMEOUT_S = 120 };

/* A run on hosts node1, node2, ... Plain. In the texts AGENT is the way to a host, and HERE a folder of node1 that is empty on the
 * others. */
typedef struct hosts {
    int n_hosts, slots;      /* of each host */
    const char *model;       /* model.path; NULL: none is written */
    const char *load_format; /* NULL: auto */
    const char *weights;     /* NULL: path */
    const char *cluster; /* more lines of the section cluster, each with two spaces in front; may be NULL */
    const char *other;   /* other sections; may be NULL */
    const char *before;  /* a shell command that node1 runs first, in HERE; may be NULL */
} hosts;

typedef struct hosts_result {
    hw_run_result run;
    uint64_t sent_bytes, sent_packets, received_bytes, received_packets; /* node1's, launching included */
    uint64_t sent_again; /* packets that TCP took for lost, of all hosts */
} hosts_result;

/* headway launch CONFIG ARGS...; the YAML file is on node1 alone. The test is skipped, with the reason, where there can be no hosts, and
 * fails when something is left running. The caller frees result.run. */
#define ON_HOSTS(where, ...) run_on_hosts(where, (const char *const[]){__VA_ARGS__, NULL})
hosts_result run_on_hosts(hosts where, const char *const args[]);

#endif
