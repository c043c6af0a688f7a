/* headway launch --check: what is wrong on a host is named with its way out, before anything is started there. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/net/hosts.h"

static const hosts two = {.n_hosts = 2, .slots = 2, .model = TALES};

/* Output and errors, with all of the words in it. */
static void finds(hosts where, int exit_code, const char *const words[])
{
    hosts_result r = ON_HOSTS(where, "--check");
    cr_expect_eq(r.run.exit_code, exit_code, "exit code %d: %s%s", r.run.exit_code, r.run.out, r.run.err);
    for (int i = 0; words[i]; i++)
        cr_expect(strstr(r.run.out, words[i]), "'%s' is not in: %s%s", words[i], r.run.out, r.run.err);
    hw_run_free(&r.run);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(check, hosts_that_are_alike_have_no_problems)
{
    finds(two, 0,
          WORDS("\nnode1 ", "\nnode2 ", "4 files, 6.5 MB", "first message", " us ", "4 ranks start in",
                "\nno problems\n"));
}

Test(check, a_host_that_does_not_answer_is_given_up)
{
    hosts where = two;
    where.before = "sed -i s/node2/node0/ config.yaml";
    finds(where, 2,
          WORDS("\nnode0                no\n", "node0: no answer in 10 s", "end without a question?",
                "no ranks were started"));
    where.before = "sed -i s/node2/node9/ config.yaml";
    finds(where, 2, WORDS("node9: the check failed there (exit status 255): agent: there is no host node9"));
}

Test(check, another_program_and_other_model_files_are_named)
{
    hosts where = two;
    where.model = "HERE/model";
    where.cluster = "  program: HERE/headway\n";
    where.before =
        "cp " HEADWAY " headway; cp -r " TALES " model; $HW_NET_AGENT node2 \"cd $HW_NET/here; cp " HEADWAY
        " headway; echo >>headway; mkdir model; cp " TALES
        "/[cm]* model; echo >>model/config.json; echo >model/more.safetensors\"";
    finds(where, 3,
          WORDS("another  ", "node2: another build of headway", "copy the same to every host",
                "config.json has 513 bytes, and on node1 512", "copy it again",
                "tokenizer.json is not there; node1 has it: copy it", "more.safetensors is not on node1",
                "5 problems:"));
    where.before = "cp " HEADWAY " headway; cp -r " TALES " model";
    finds(where, 2, WORDS("node2: the program does not start there", "cluster.program"));
    where.cluster = NULL;
    finds(where, 3, WORDS("node2: there is no folder", "set model.weights: scatter"));
    where.weights = "scatter";
    finds(where, 0, WORDS("no problems"));
}

Test(check, too_few_cores_and_too_little_memory_are_named)
{
    hosts where = two;
    where.other = "parallelism: {threads: 1000}\ncache: {memory: 2000T}\nlimits: {max_seqs: 60000}\n";
    where.before = "sed -i s/oversubscribe:.*/oversubscribe:\\ false/ config.yaml";
    finds(where, 4,
          WORDS("node1: 2 ranks of 1000 threads want 2000 cores", "node2: each of 2 ranks has",
                " TiB; use more hosts, or lower limits"));
}

Test(check, GPUs_that_are_not_there_are_missed)
{
    hosts where = two;
    where.other = "device: {kind: cuda}\n";
    if (!system("nvidia-smi >/dev/null 2>&1")) cr_skip_test("there are GPUs");
    finds(where, 2, WORDS("node2: nvidia-smi is missing or lists no GPU", "device.kind: cpu"));
}

/* A driver's tool that says what the real one says: GPUs by name, total and free MiB. */
#define GPUS(lines)                                                                                          \
    "printf '#!/bin/sh\\necho \"" lines "\"\\n' >nvidia-smi; chmod +x nvidia-smi; "                          \
    "$HW_NET_AGENT node2 \"cat >$HW_NET/here/nvidia-smi; chmod +x $HW_NET/here/nvidia-smi\" <nvidia-smi; "   \
    "sed -i \"s|environment: .|&\\\"PATH=$HW_NET/here:$PATH\\\", |\" config.yaml"

Test(check, too_few_GPUs_and_too_little_memory_of_theirs_are_named)
{
    hosts where = two;
    where.other = "device: {kind: cuda}\n";
    where.before = GPUS("NVIDIA H200, 143771, 143000");
    finds(where, 2,
          WORDS("1 x NVIDIA H200", "node1: 2 ranks, and 1 GPUs; lower its slots",
                "node2: 2 ranks, and 1 GPUs"));
    where.slots = 1;
    where.before = GPUS("NVIDIA H200, 143771, 5");
    finds(where, 4, WORDS("node2: each of 1 ranks has 5.0 MiB of memory and needs up to"));
}

/* Each host has a loopback interface, and no two have one in common. */
Test(check, hosts_whose_messages_do_not_arrive_are_told_so)
{
    hosts where = two;
    where.before = "sed -i s/eth0/lo/ config.yaml";
    finds(where, 6, WORDS("\nnode2 ", "1 problem:"));
}
