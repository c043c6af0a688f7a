/* Several hosts, real TCP: the same results as on one, and the bytes that cross are those that were counted. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/net/hosts.h"

static const hosts one = {.n_hosts = 1, .slots = 4, .model = TALES};
static const hosts two = {.n_hosts = 2, .slots = 2, .model = TALES};

/* ---- the same */

static char *text_of(hosts where, const char *const args[])
{
    hosts_result r = run_on_hosts(where, args);
    cr_assert_eq(r.run.exit_code, 0, "%s", r.run.err);
    char *text = strdup(r.run.out);
    hw_run_free(&r.run);
    return text;
}

Test(hosts, four_ranks_say_the_same_on_one_host_and_on_two)
{
    const char *const args[] = {"generate",      "-p",  "Once upon a time", "-n", "40",
                                "--temperature", "0.8", "--seed",           "3",  NULL};
    char *on_one = text_of(one, args), *on_two = text_of(two, args);
    cr_expect_gt(strlen(on_one), 40);
    cr_expect_str_eq(on_one, on_two);
    free(on_one), free(on_two);
}

/* The bytes of a file that rank 0 wrote into /tmp, which hosts share. */
static char *logits_of(hosts where, size_t *n)
{
    char path[] = "/tmp/headway-logits-XXXXXX";
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    hosts_result r = ON_HOSTS(where, "logits", "--tokens", "5,300,17,1200,4,9,88,31,500,2,64,77", "-o", path);
    cr_assert_eq(r.run.exit_code, 0, "%s", r.run.err);
    hw_run_free(&r.run);
    char *bytes = malloc(1 << 20);
    const ssize_t got = read(fd, bytes, 1 << 20);
    cr_assert_eq(got, 128 + 12 * 1279 * 4, "%zd bytes",
                 got); /* numpy's header, and a row of the vocabulary for each token */
    *n = (size_t)got;
    close(fd);
    unlink(path);
    return bytes;
}

Test(hosts, all_logits_have_the_same_bits_on_one_host_and_on_two)
{
    size_t n, m;
    char *on_one = logits_of(one, &n), *on_two = logits_of(two, &m);
    cr_expect_eq(n, m);
    cr_expect(!memcmp(on_one, on_two, n));
    free(on_one), free(on_two);
}

/* ---- what one host has wrong ends all of them, with one message */

static void ends_all(const char *on_node2, int exit_code, const char *word)
{
    char before[1024];
    hosts where = two;
    where.model = "HERE/model";
    snprintf(before, sizeof before,
             "cp -r " TALES " model; $HW_NET_AGENT node2 \"cd $HW_NET/here; cp -r " TALES
             " model; cd model; %s\"",
             on_node2);
    where.before = before;
    hosts_result r = ON_HOSTS(where, "generate", "-p", "Once upon a time", "-n", "4");
    cr_expect_eq(r.run.exit_code, exit_code, "exit code %d: %s", r.run.exit_code, r.run.err);
    const char *said = strstr(r.run.err, "headway: ");
    cr_assert(said && strstr(said, word), "'%s' is not in: %s", word, r.run.err);
    cr_expect_null(strstr(said + 1, "headway: "), "more than one message: %s", r.run.err);
    cr_expect_str_eq(r.run.out, "");
    hw_run_free(&r.run);
}

Test(hosts, what_one_of_them_has_wrong_ends_all)
{
    ends_all("sed -i s/10000.0/20000.0/ config.json", 2,
             "rank 2 on node2 has another config.json than rank 0 on node1");
    ends_all("rm model.safetensors", 3, "no weights among its 3 files");
}

/* ---- the bytes: with sanitizers everything takes ten times as long, and counts the same */
#ifndef HW_SANITIZE

/* What `headway traffic --verify --json` says of a run with two ranks on each of two hosts. */
typedef struct crossed {
    hosts_result net;
    double within, between; /* B that the report says; its two directions together, without loading */
    double to_node2, messages_to_node2; /* all that node1's ranks sent to node2's, by the meter */
    double to_node1, messages_to_node1;
} crossed;

/* Where a machine is busy TCP may take a packet for lost that is only late, and a packet that is sent again says nothing about the
 * meter. So hosts here wait long before they do; nothing gets lost between them. */
#define PATIENT                                                                                              \
    "for k in \"$HW_NET\"/node[1-9]*; do nsenter --target \"$(cat \"$k\")\" --net sh -c '"                   \
    "ip route change 10.77.0.0/24 dev eth0 rto_min 20s; echo 0 >/proc/sys/net/ipv4/tcp_early_retrans'; done"

/* With `verify` the two directions come from Open MPI's own count, else they are equal. */
static crossed measure(hosts where, const char *backend, bool verify, const char *tokens, const char *n)
{
    where.before = PATIENT;
    crossed c = {.net = ON_HOSTS(where, "traffic", "--tokens", tokens, "-n", n, "--comm", backend, "--json",
                                 verify ? "--verify" : NULL)};
    cr_assert_eq(c.net.run.exit_code, 0, "%s", c.net.run.err);
    cr_expect_eq(c.net.sent_again, 0, "%d packets were sent again", (int)c.net.sent_again);
    json_t *report = json_loads(c.net.run.out, 0, NULL), *run, *pair;
    cr_assert_not_null(report, "%s", c.net.run.out);
    size_t i;
    run = json_array_get(json_object_get(report, "runs"), 0);
    cr_expect_eq(json_integer_value(json_object_get(run, "hosts")), 2);
    c.within = (double)json_integer_value(json_object_get(json_object_get(run, "within_hosts"), "bytes"));
    c.between = (double)json_integer_value(json_object_get(json_object_get(run, "between_hosts"), "bytes"));
    json_array_foreach(json_object_get(json_object_get(report, "verify"), "pairs"), i, pair)
    {
        const bool from = json_integer_value(json_object_get(pair, "from")) >= 2,
                   to = json_integer_value(json_object_get(pair, "to")) >= 2;
        if (from == to) continue;
        *(to ? &c.to_node2 : &c.to_node1) +=
            (double)json_integer_value(json_object_get(pair, "counted_bytes"));
        *(to ? &c.messages_to_node2 : &c.messages_to_node1) +=
            (double)json_integer_value(json_object_get(pair, "counted_messages"));
    }
    if (!verify) {
        c.to_node1 = c.to_node2 = c.between / 2;
        c.messages_to_node1 = c.messages_to_node2 =
            (double)json_integer_value(json_object_get(json_object_get(run, "between_hosts"), "messages")) /
            2;
    }
    json_decref(report);
    hw_run_free(&c.net.run);
    return c;
}

/* Off by less than `share`. */
static void agree(double network, double meter, double share, const char *what)
{
    cr_log_info("%s: %.0f B on the network, %.0f B by the meter: %.4f %%", what, network, meter,
                100 * (network - meter) / meter);
    cr_expect_lt(fabs(network - meter), share * meter,
                 "%s: %.0f B on the network, %.0f B by the meter: %.3f %%", what, network, meter,
                 100 * (network - meter) / meter);
}

static void list_tokens(char *text, size_t size, int n)
{
    size_t at = 0;
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%d", i ? "," : "", i * 7 % 500);
}

/* 1024 rows in two steps of 512, each with 5 all-reduces of 512 * 1024 float32 = 2 MiB. On four ranks each sends a half, a quarter, and
 * both again on the way back; the quarters cross. 1 %: what TCP and the launching may add to that. */
Test(hosts, long_messages_are_the_bytes_on_the_network)
{
    static char tokens[8192];
    char folder[] = "/tmp/headway-wide-XXXXXX", config[sizeof folder + 16];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(config, sizeof config, "%s/config.json", folder);
    FILE *f = fopen(config, "we");
    cr_assert_not_null(f);
    fputs("{\"model_type\": \"llama\", \"vocab_size\": 512, \"hidden_size\": 1024, \"intermediate_size\": "
          "256, \"num_hidden_layers\": 2, "
          "\"num_attention_heads\": 8, \"num_key_value_heads\": 8, \"max_position_embeddings\": 2048, "
          "\"hidden_act\": \"silu\", "
          "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": false}",
          f);
    fclose(f);
    list_tokens(tokens, sizeof tokens, 1024);
    const hosts where = {.n_hosts = 2,
                         .slots = 2,
                         .model = folder,
                         .load_format = "dummy",
                         .other = "limits: {max_seq_len: 1025}\n"};
    const crossed c = measure(where, "mpi", true, tokens, "1");
    const double wanted = 2 * 5 * 4 * 2 * (512 << 10); /* steps, all-reduces, ranks, there and back */
    /* The token, and twice that all went well: 8 bytes from each rank to its neighbour, and to the other host. */
    const double small = 3 * 4 * 8;
    cr_expect_eq(c.between, wanted + small, "%.0f B between hosts, by hand %.0f", c.between, wanted + small);
    cr_expect_eq(c.within, 2 * wanted + small, "%.0f B within hosts, by hand %.0f", c.within,
                 2 * wanted + small);
    agree((double)c.net.sent_bytes, c.to_node2, 0.01, "to node2");
    agree((double)c.net.received_bytes, c.to_node1, 0.01, "to node1");
    unlink(config);
    rmdir(folder);
}

/* What TCP/IP puts around a packet (Ethernet 14, IPv4 20, TCP with time stamps 32) and Open MPI around a message. Starting and ending
 * cost some ten thousand bytes, the same in both runs, so two runs are compared. */
enum { PACKET_BYTES = 66, MESSAGE_BYTES = 22 };

static void short_messages(const char *backend, bool verify, double between, double within)
{
    const char *const prompt = "5,300,17";
    const crossed few = measure(two, backend, verify, prompt, "20"),
                  many = measure(two, backend, verify, prompt, "100");
    const double sent = (double)(many.net.sent_bytes - few.net.sent_bytes),
                 packets = (double)(many.net.sent_packets - few.net.sent_packets),
                 messages = many.messages_to_node2 - few.messages_to_node2;
    agree(sent - PACKET_BYTES * packets - MESSAGE_BYTES * messages, many.to_node2 - few.to_node2, 0.005,
          backend);
    cr_expect_eq(many.between - few.between, 80 * between, "%.0f B between hosts, by hand %.0f",
                 many.between - few.between, 80 * between);
    cr_expect_eq(many.within - few.within, 80 * within, "%.0f B within hosts, by hand %.0f",
                 many.within - few.within, 80 * within);
}

/* A row of 256 float32 in 9 all-reduces for each token, and 8 bytes for the token, S bytes together. By messages each of four ranks
 * sends S to its neighbour and S to the other host. */
Test(hosts, short_messages_are_the_bytes_on_the_network_without_their_headers)
{
    const double s = 9 * 1024 + 8;
    short_messages("mpi", true, 4 * s, 4 * s);
}

/* Neighbours read each other's S in memory; of their sum, S crosses each way, whatever ranks carry it. */
Test(hosts, neighbours_that_share_memory_send_half_as_much_to_the_other_host)
{
    const double s = 9 * 1024 + 8;
    short_messages("shm", false, 2 * s, 4 * s);
}
#endif
