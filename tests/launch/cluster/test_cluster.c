/* The command that starts the ranks, from cluster and machine: compared with commands written by hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "launch/cluster/cluster.h"

static const hw_here user = {"head", "/opt/headway", "/home/me/c.yaml", 8, false};
static const hw_here root_on_two_cores = {"head", "/opt/headway", "/home/me/c.yaml", 2, true};

#define AUTO    .oversubscribe = HW_AUTO
#define AT_ONCE "--mca odls_base_sigkill_timeout 0 "
#define TAIL    "/opt/headway generate -c /home/me/c.yaml -p x y"

static char *const args[] = {"generate", "-p", "x y"};

static void composes(hw_cluster c, hw_here here, int threads, const char *wanted)
{
    hw_command_line line;
    hw_error err;
    char text[2048] = "";
    cr_assert_eq(hw_cluster_command(&line, &c, &here, threads, args, 3, &err), HW_OK, "%s", err.message);
    for (int i = 0; i < line.n; i++) {
        if (i) strcat(text, " ");
        strcat(text, line.words[i]);
    }
    cr_expect_null(line.words[line.n]);
    cr_expect_str_eq(line.words[line.n - 1], "x y");
    cr_expect_str_eq(text, wanted);
    hw_command_line_free(&line);
}

static void refuses(hw_cluster c, hw_here here, int threads, const char *word)
{
    hw_command_line line;
    hw_error err;
    cr_expect_eq(hw_cluster_command(&line, &c, &here, threads, args, 3, &err), HW_ERR_INVALID);
    cr_expect(strstr(err.message, word), "'%s' is not in: %s", word, err.message);
}

Test(cluster, without_hosts_it_is_this_machine)
{
    composes((hw_cluster){AUTO, .ranks = 2}, user, 4,
             "mpirun " AT_ONCE
             "-np 2 --host localhost:2 --map-by slot:PE=4 --bind-to core --mca btl self,vader "
             "--mca oob_tcp_if_include lo " TAIL);
}

Test(cluster, ranks_divide_cores_themselves_where_threads_are_not_counted)
{
    composes((hw_cluster){AUTO, .ranks = 2}, user, 0,
             "mpirun " AT_ONCE "-np 2 --host localhost:2 --map-by slot --bind-to none --mca btl self,vader "
             "--mca oob_tcp_if_include lo " TAIL);
    composes((hw_cluster){AUTO, .launcher = HW_SRUN, .ranks = 4}, user, 0,
             "srun --mpi=pmix --kill-on-bad-exit=1 --quit-on-interrupt --input=0 --ntasks=4 "
             "--cpu-bind=none " TAIL);
    refuses((hw_cluster){.oversubscribe = HW_NO, .ranks = 4}, root_on_two_cores, 0,
            "want 4 cores and there are 2");
}

Test(cluster, too_few_cores_are_shared)
{
    composes((hw_cluster){AUTO, .hosts = {{"localhost", 4}}, .n_hosts = 1}, root_on_two_cores, 1,
             "mpirun --allow-run-as-root " AT_ONCE
             "-np 4 --host localhost:4 --map-by slot --bind-to none --oversubscribe "
             "--mca mpi_yield_when_idle 1 --mca btl self,vader --mca oob_tcp_if_include lo " TAIL);
    refuses((hw_cluster){.oversubscribe = HW_NO, .ranks = 4}, root_on_two_cores, 1,
            "want 4 cores and there are 2");
}

Test(cluster, between_hosts_a_dead_link_is_noticed)
{
    composes(
        (hw_cluster){AUTO, .hosts = {{"head", 2}, {"n2", 1}}, .n_hosts = 2, .interface = "ib0,eth1",
                     .environment = {"A", "B=c d"}, .n_environment = 2, .work_folder = "/w w"},
        user, 2,
        "mpirun " AT_ONCE
        "-np 3 --host head:2,n2:1 --map-by slot:PE=2 --bind-to core --mca btl_tcp_if_include ib0,eth1 "
        "--mca oob_tcp_if_include ib0,eth1 --mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 "
        "--mca oob_tcp_keepalive_probes 2 -x A -x B=c d -wdir /w w " TAIL);
    composes((hw_cluster){AUTO, .hosts = {{"n2", 1}}, .n_hosts = 1, .remote_shell = "ssh -p 22"}, user, 1,
             "mpirun " AT_ONCE
             "-np 1 --host n2:1 --map-by slot:PE=1 --bind-to core --mca plm_rsh_agent ssh -p 22 --mca "
             "oob_tcp_keepalive_time 2 "
             "--mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 2 " TAIL);
    composes(
        (hw_cluster){AUTO, .hosts = {{"n2", 1}}, .n_hosts = 1, .binding = HW_BIND_NONE, .program = "/bin/hw"},
        user, 64,
        "mpirun " AT_ONCE "-np 1 --host n2:1 --map-by slot --bind-to none --mca oob_tcp_keepalive_time 2 "
        "--mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 2 "
        "/bin/hw generate -c /home/me/c.yaml -p x y");
}

Test(cluster, ranks_and_slots)
{
    composes((hw_cluster){AUTO, .ranks = 1, .hosts = {{"localhost", 4}}, .n_hosts = 1}, user, 1,
             "mpirun " AT_ONCE
             "-np 1 --host localhost:4 --map-by slot:PE=1 --bind-to core --mca btl self,vader "
             "--mca oob_tcp_if_include lo " TAIL);
    refuses((hw_cluster){AUTO, .ranks = 5, .hosts = {{"n1", 4}}, .n_hosts = 1}, user, 1, "has 4 slots");
    composes((hw_cluster){.oversubscribe = HW_YES, .ranks = 5, .hosts = {{"n1", 4}}, .n_hosts = 1}, user, 1,
             "mpirun " AT_ONCE
             "-np 5 --host n1:4 --map-by slot --bind-to none --oversubscribe --mca mpi_yield_when_idle 1 "
             "--mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes "
             "2 " TAIL);
}

Test(cluster, slurm_is_asked_for_what_mpirun_is_told)
{
    composes((hw_cluster){AUTO, .launcher = HW_SRUN, .ranks = 16, .nodes = 2, .devices_per_slot = 1}, user, 4,
             "srun --mpi=pmix --kill-on-bad-exit=1 --quit-on-interrupt --input=0 --ntasks=16 --nodes=2 "
             "--ntasks-per-node=8 --cpus-per-task=4 --cpu-bind=cores --gpus-per-task=1 " TAIL);
    composes(
        (hw_cluster){AUTO, .launcher = HW_SRUN, .hosts = {{"a", 2}, {"b", 2}}, .n_hosts = 2,
                     .interface = "ib0", .environment = {"A", "B=c"}, .n_environment = 2,
                     .work_folder = "/w"},
        user, 1,
        "env OMPI_MCA_btl_tcp_if_include=ib0 B=c srun --mpi=pmix --kill-on-bad-exit=1 --quit-on-interrupt "
        "--input=0 --ntasks=4 --nodes=2 --ntasks-per-node=2 --nodelist a,b --cpus-per-task=1 "
        "--cpu-bind=cores "
        "--chdir=/w " TAIL);
    refuses((hw_cluster){AUTO, .launcher = HW_SRUN, .hosts = {{"a", 2}, {"b", 3}}, .n_hosts = 2}, user, 1,
            "same number");
    refuses((hw_cluster){AUTO, .launcher = HW_SRUN, .ranks = 5, .nodes = 2}, user, 1, "evenly");
}
